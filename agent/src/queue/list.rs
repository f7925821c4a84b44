//! Lists of Redis as queues: pushed at one end, popped at the other.
//!
//! <https://redis.io/docs/latest/develop/data-types/lists/>, as `popped` says. An element that was moved to another list
//! is settled by `LREM`.

use wirespan_protocols::redis::{Bytes, Value};

use super::popped::{MAX_ELEMENTS, Popped};
use super::{Asks, Expects, Fate, Identity, Memory, Part, Scope, Work, bytes, celery, rq, text};

const LIST: Popped = Popped("list");

pub(super) fn asks(call: &Asks<'_>, _: &mut Memory) -> Option<Part> {
    let list = call.text(0);
    let claim = |list: Option<&str>, operation| {
        Some(LIST.claim(call, list, |list| Expects::Elements { list, operation }))
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
    let mut part = LIST.put(list, &elements, operation);
    if let Some(work) = &mut part.submits {
        work.handles = handles(&elements);
    }
    Some(part)
}

/// Wherever it was moved to.
fn handle(element: u64) -> Identity {
    Identity::new(("element", element), Scope::Database)
}

fn handles(elements: &[Bytes<'_>]) -> Vec<Identity> {
    elements.iter().take(MAX_ELEMENTS).filter_map(|element| element.hash).map(handle).collect()
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
    let elements: Vec<Bytes<'_>> = elements.iter().filter_map(bytes).collect();
    Some(Work { handles: handles(&elements), ..LIST.taken(list, &elements, operation) })
}
