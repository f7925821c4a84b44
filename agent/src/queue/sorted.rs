//! Sorted sets of Redis as queues: `ZADD`, and what pops the first or the last.
//!
//! <https://redis.io/docs/latest/develop/data-types/sorted-sets/>, as `popped` says.

use wirespan_protocols::redis::{Bytes, Value};

use super::popped::Popped;
use super::{Asks, Expects, Memory, Part, Work, bytes, text};

const SET: Popped = Popped("set");

pub(super) fn asks(call: &Asks<'_>, _: &mut Memory) -> Option<Part> {
    let claim = |set: Option<&str>, operation| {
        Some(SET.claim(call, set, |set| Expects::Members { set, operation }))
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
            Some(SET.put(set, &members, "zadd"))
        }
        "ZPOPMIN" => claim(Some(call.text(0)?), "zpopmin"),
        "ZPOPMAX" => claim(Some(call.text(0)?), "zpopmax"),
        "BZPOPMIN" => claim(None, "bzpopmin"),
        "BZPOPMAX" => claim(None, "bzpopmax"),
        "BZMPOP" => claim(None, "bzmpop"),
        _ => None,
    }
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
    Some(SET.taken(set, &members, operation))
}
