//! Lists of Redis as queues: pushed at one end, popped at the other.
//!
//! <https://redis.io/docs/latest/develop/data-types/lists/>. An element is known by its list and a hash of it. Whether a
//! list is a queue at all shows who pops from it: a push to one that nobody was seen to pop from stays a command of a
//! database. An element that was moved to another list is settled by `LREM`.

use wirespan_protocols::redis::{Bytes, Value};

use super::{
    Asks, Expects, Fate, Identity, Memory, Part, Scope, System, Until, Work, bytes, celery, rq,
    text,
};

/// Elements of one command that are joined.
const MAX_ELEMENTS: usize = 64;

pub(super) fn asks(call: &Asks<'_>, _: &mut Memory) -> Option<Part> {
    let list = call.text(0);
    let claim = |list: Option<&str>, operation| {
        let takes_from = match list {
            Some(list) => vec![self::list(list)],
            // All of them, and the longest wait.
            None => call.values.iter().rev().skip(1).filter_map(text).map(self::list).collect(),
        };
        Some(Part::claim(Expects::Elements { list: list.map(Box::from), operation }, takes_from))
    };
    match call.name {
        "LPUSH" => push(list?, call, "lpush"),
        "RPUSH" => push(list?, call, "rpush"),
        "LPOP" => claim(Some(list?), "lpop"),
        "RPOP" => claim(Some(list?), "rpop"),
        "LMOVE" => claim(Some(list?), "lmove"),
        "BLMOVE" => claim(Some(list?), "blmove"),
        "RPOPLPUSH" => claim(Some(list?), "rpoplpush"),
        "BRPOPLPUSH" => claim(Some(list?), "brpoplpush"),
        "BLPOP" => claim(None, "blpop"),
        "BRPOP" => claim(None, "brpop"),
        "LMPOP" => claim(None, "lmpop"),
        "BLMPOP" => claim(None, "blmpop"),
        "LREM" => {
            let settled = handle(call.bytes(2)?.hash?);
            // Any list may be tidied up so.
            Some(Part { settles: vec![(settled, Fate::Done)], ..Part::default() })
        }
        _ => None,
    }
}

fn push(list: &str, call: &Asks<'_>, operation: &'static str) -> Option<Part> {
    let elements: Vec<Bytes<'_>> = call.values.get(1..)?.iter().filter_map(bytes).collect();
    let mut work = work(list, &elements, operation);
    work.only_if_taken = Some(self::list(list));
    Some(Part::submit(work))
}

/// The list itself: what who pops from it is known by.
pub(super) fn list(name: &str) -> Identity {
    Identity::new(("list", name), Scope::Database)
}

/// Wherever it was moved to.
fn handle(element: u64) -> Identity {
    Identity::new(("element", element), Scope::Database)
}

fn work(list: &str, elements: &[Bytes<'_>], operation: &'static str) -> Work {
    let mut work = Work::new(System::Redis, list, operation);
    work.count = 0;
    for element in elements {
        work.count += 1;
        if let Some(hash) = element.hash.filter(|_| work.count <= MAX_ELEMENTS) {
            work.messages.push(Identity::new(("list", list, hash), Scope::Database));
            work.handles.push(handle(hash));
        }
        if work.count == 1 {
            work.context = element.whole().and_then(super::context_in);
        }
    }
    if work.count > 1 {
        work.context = None;
    }
    work
}

/// The work in a reply: an element, elements, or a list's name with either.
pub(super) fn taken(
    reply: &[Value<'_>],
    list: Option<&str>,
    operation: &'static str,
) -> Option<Work> {
    let (list, elements) = match (list, reply) {
        (Some(list), [Value::Array(_), elements @ ..]) => (list, elements),
        (Some(list), element) => (list, element),
        (None, [Value::Array(2), list, Value::Array(_), elements @ ..])
        | (None, [Value::Array(2), list, elements @ ..]) => (text(list)?, elements),
        _ => return None,
    };
    let first = bytes(elements.first()?)?;
    if elements.len() == 1 {
        if let Some(id) = elements.first().and_then(text)
            && let Some(work) = rq::taken(list, id, operation)
        {
            return Some(work);
        }
        // To kombu a worker talks to others so.
        if list.contains(".pidbox") {
            return None;
        }
        if let Some(work) = celery::taken(list, &first, "process") {
            return Some(work);
        }
    }
    let mut work = work(list, &elements.iter().filter_map(bytes).collect::<Vec<_>>(), operation);
    work.until = Until::Next;
    Some(work)
}
