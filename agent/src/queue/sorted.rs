//! Sorted sets of Redis as queues: `ZADD`, and what pops the first or the last.
//!
//! <https://redis.io/docs/latest/develop/data-types/sorted-sets/>. A member is known by its set and a hash of it. As with
//! lists, who pops shows whether a set is a queue.

use wirespan_protocols::redis::{Bytes, Value};

use super::{Asks, Expects, Identity, Memory, Part, Scope, System, Until, Work, bytes, text};

/// Members of one command that are joined.
const MAX_MEMBERS: usize = 64;

pub(super) fn asks(call: &Asks<'_>, _: &mut Memory) -> Option<Part> {
    let claim = |set: Option<&str>, operation| {
        let takes_from = match set {
            Some(set) => vec![self::set(set)],
            // All of them, and the longest wait.
            None => call.values.iter().rev().skip(1).filter_map(text).map(self::set).collect(),
        };
        Some(Part::claim(Expects::Members { set: set.map(Box::from), operation }, takes_from))
    };
    match call.name {
        "ZADD" => {
            let set = call.text(0)?;
            let is_option = |at: &usize| {
                let options = ["NX", "XX", "GT", "LT", "CH", "INCR"];
                call.text(*at)
                    .is_some_and(|it| options.iter().any(|one| it.eq_ignore_ascii_case(one)))
            };
            let first = (1..call.values.len()).find(|at| !is_option(at))?;
            let pairs = call.values.get(first..)?.chunks_exact(2);
            let members: Vec<Bytes<'_>> = pairs.filter_map(|pair| bytes(pair.get(1)?)).collect();
            let mut work = work(set, &members, "zadd");
            work.only_if_taken = Some(self::set(set));
            Some(Part::submit(work))
        }
        "ZPOPMIN" => claim(Some(call.text(0)?), "zpopmin"),
        "ZPOPMAX" => claim(Some(call.text(0)?), "zpopmax"),
        "BZPOPMIN" => claim(None, "bzpopmin"),
        "BZPOPMAX" => claim(None, "bzpopmax"),
        "BZMPOP" => claim(None, "bzmpop"),
        _ => None,
    }
}

/// The set itself.
pub(super) fn set(name: &str) -> Identity {
    Identity::new(("set", name), Scope::Database)
}

fn work(set: &str, members: &[Bytes<'_>], operation: &'static str) -> Work {
    let mut work = Work::new(System::Redis, set, operation);
    work.count = 0;
    for member in members {
        work.count += 1;
        if let Some(hash) = member.hash.filter(|_| work.count <= MAX_MEMBERS) {
            work.messages.push(Identity::new(("set", set, hash), Scope::Database));
        }
        let context = member.whole().and_then(super::context_in);
        work.context = context.filter(|_| work.count == 1);
    }
    work
}

/// The work in a reply: members with their scores, in RESP3 each with its own; or a set, and those.
pub(super) fn taken(
    reply: &[Value<'_>],
    set: Option<&str>,
    operation: &'static str,
) -> Option<Work> {
    let (set, rest) = match (set, reply) {
        (Some(set), [Value::Array(1..), rest @ ..]) => (set, rest),
        (None, [Value::Array(3), set, rest @ ..]) => (text(set)?, rest),
        (None, [Value::Array(2), set, Value::Array(_), rest @ ..]) => (text(set)?, rest),
        _ => return None,
    };
    let mut values = rest.iter().filter(|value| !matches!(value, Value::Array(_)));
    let mut members = Vec::new();
    while let (Some(member), Some(_score)) = (values.next(), values.next()) {
        members.push(bytes(member)?);
    }
    if members.is_empty() {
        return None;
    }
    let mut work = work(set, &members, operation);
    work.until = Until::Next;
    Some(work)
}
