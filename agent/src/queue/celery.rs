//! Celery over Redis, by kombu: a message is JSON in a list, with the task in its headers.
//!
//! <https://docs.celeryq.dev/en/stable/internals/protocol.html>,
//! <https://github.com/celery/kombu/blob/main/kombu/transport/redis.py>. A task is taken where its message leaves the
//! list, and over where its result is written (`celery-task-meta-ID`). Who keeps no results is known by the
//! acknowledgement alone, which by default precedes the work.

use std::borrow::Cow;

use serde::Deserialize;
use wirespan_protocols::redis::Bytes;
use wirespan_protocols::w3c::TraceParent;

use super::{Asks, Fate, Identity, Memory, Part, Scope, System, Until, Work};

const RESULT: &str = "celery-task-meta-";

/// Parts the name of a queue from a priority.
const PRIORITY: &str = "\u{6}\u{16}";

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    headers: Headers<'a>,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
struct Headers<'a> {
    #[serde(borrow)]
    task: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    retries: Option<u32>,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    delivery_tag: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
}

#[derive(Deserialize)]
struct StoredException<'a> {
    #[serde(borrow)]
    result: Exception<'a>,
}

#[derive(Deserialize)]
struct Exception<'a> {
    #[serde(borrow)]
    exc_type: Cow<'a, str>,
}

pub(super) fn asks(call: &Asks<'_>, _: &mut Memory) -> Option<Part> {
    let first = call.text(0)?;
    if let Some(id) = first.strip_prefix(RESULT) {
        let stored = match call.name {
            "SETEX" => call.bytes(2),
            "SET" => call.bytes(1),
            _ => None,
        };
        let fate = stored.and_then(|stored| fate(stored.whole()?));
        return Some(match fate {
            Some(fate) => Part::settle(task(id), fate),
            None => Part::internal(),
        });
    }
    match call.name {
        "HDEL" if first == "unacked" => {
            let tag = call.text(1)?;
            Some(Part::settle(delivery(tag), Fate::Acknowledged))
        }
        "LPUSH" | "RPUSH" if first.contains(".pidbox") => Some(Part::internal()),
        "LPUSH" | "RPUSH" => taken(first, &call.bytes(1)?, "send").map(Part::submit),
        "PUBLISH" if first.starts_with('/') && first.contains(['.']) => Some(Part::internal()),
        "EVAL" | "EVALSHA" => {
            let key = call.text(2)?;
            let own = key == "unacked_mutex" || key.starts_with("_kombu.");
            own.then(Part::internal)
        }
        // It asks how long a queue is, or removes it, with all its priorities in a transaction; the first has no mark.
        "LLEN" | "DEL" if first.contains(PRIORITY) => {
            let with = first.split(PRIORITY).next().map(|queue| label(call.name, queue));
            Some(Part { with, ..Part::internal() })
        }
        "LLEN" | "DEL" if first != "unacked_mutex" => {
            Some(Part { label: Some(label(call.name, first)), ..Part::default() })
        }
        "PSUBSCRIBE" | "PUNSUBSCRIBE" => first.contains('.').then(Part::internal),
        "GET" | "SET" | "DEL" | "HGET" | "HSET" | "SADD" | "SREM" | "SMEMBERS" | "ZADD"
        | "ZREM" | "ZRANGE" | "ZREVRANGEBYSCORE" => {
            let own = first == "unacked"
                || first == "unacked_index"
                || first == "unacked_mutex"
                || first.starts_with("_kombu.");
            own.then(Part::internal)
        }
        _ => None,
    }
}

fn label(command: &str, queue: &str) -> Identity {
    Identity::new(("kombu", command, queue), Scope::Database)
}

/// The task that a list's element is the message of, if it is one.
pub(super) fn taken(list: &str, element: &Bytes<'_>, operation: &'static str) -> Option<Work> {
    let json = element.whole()?;
    if json.first() != Some(&b'{') {
        return None;
    }
    let Envelope { headers, properties } = serde_json::from_slice(json).ok()?;
    let list = list.split(PRIORITY).next().unwrap_or(list);
    let mut work = Work::new(System::Celery, list, operation);
    work.attempt = Some(headers.retries.unwrap_or(0).saturating_add(1));
    work.id = Some((*headers.id).into());
    work.name = Some((*headers.task).into());
    let context = headers.traceparent.as_deref();
    work.context = context.and_then(|text| TraceParent::parse(text.as_bytes()));
    // Of each try there is a message of its own.
    let tag = delivery(&properties.delivery_tag);
    work.messages = vec![tag];
    work.handles = vec![task(&headers.id), tag];
    work.until = Until::Settled;
    Some(work)
}

/// The id of the task that a child of a pool begins with, by what it was given: pickled, of protocol 4 or 5, of which these are
/// the first bytes. (`TASK, (number, None, celery.app.trace.trace_task_ret, (name, id, ...), ...)`, with billiard's
/// `TASK`.)
pub fn begun(pickled: &[u8]) -> Option<&str> {
    /// Opcodes (`Lib/pickletools.py`).
    const SHORT_BINUNICODE: u8 = 0x8c;
    const MEMOIZE: u8 = 0x94;
    const STACK_GLOBAL: u8 = 0x93;
    const MARK: u8 = b'(';
    const MODULE: &[u8] = b"\x8c\x10celery.app.trace";

    fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
        let (length, rest) = bytes.strip_prefix(&[SHORT_BINUNICODE])?.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(*length))?;
        Some((std::str::from_utf8(text).ok()?, rest.strip_prefix(&[MEMOIZE])?))
    }

    let at = memchr::memmem::find(pickled, MODULE)?;
    let (_, rest) = text(pickled.get(at..)?)?;
    let (_, rest) = text(rest)?;
    let rest = rest.strip_prefix(&[STACK_GLOBAL, MEMOIZE, MARK])?;
    let (_, rest) = text(rest)?;
    let (id, _) = text(rest)?;
    Some(id)
}

/// A task, by its id.
pub fn task(id: &str) -> Identity {
    Identity::new(("celery", id), Scope::Anywhere)
}

fn delivery(tag: &str) -> Identity {
    Identity::new(("celery delivery", tag), Scope::Anywhere)
}

/// What a stored result says; `None`: the task goes on.
fn fate(stored: &[u8]) -> Option<Fate> {
    let Stored { status } = serde_json::from_slice(stored).ok()?;
    let retried = match &*status {
        // By who asks for it (`task_track_started`).
        "STARTED" => return Some(Fate::Begun),
        "SUCCESS" | "IGNORED" | "REJECTED" => return Some(Fate::Done),
        "FAILURE" | "REVOKED" => false,
        "RETRY" => true,
        _ => return None,
    };
    let exception = serde_json::from_slice::<StoredException<'_>>(stored).ok();
    let kind = exception.map(|it| Box::from(&*it.result.exc_type));
    Some(Fate::Failed { kind, retried })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What billiard 4.2.4 gives a child of Celery 5.5's.
    const GIVEN: &[u8] = b"\x80\x05\x95\x7f\0\0\0\0\0\0\0K\x02(K\x0cN\x8c\x10celery.app.trace\x94\x8c\x0etrace_task_ret\
        \x94\x93\x94(\x8c\x03job\x94\x8c\x11celery-prefork-17\x94}\x94\x8c\x04lang\x94\x8c\x02py\x94sC\x02[]\x94\x8c\x10\
        application/json\x94\x8c\x05utf-8\x94t\x94}\x94t\x94\x86\x94.";

    #[test]
    fn what_a_child_is_given_names_its_task() {
        assert_eq!(begun(GIVEN), Some("celery-prefork-17"));
        let whole = GIVEN.windows(2).position(|pair| pair == b"\x94}").unwrap() + 1;
        for length in 0..GIVEN.len() {
            assert_eq!(begun(&GIVEN[..length]).is_some(), length >= whole, "{length}");
        }
        assert_eq!(begun(&GIVEN[1..]), begun(GIVEN));
        assert_eq!(begun(b"\x80\x05\x8c\x10celery.app.other\x94"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..64), at in 0..GIVEN.len()) {
            let _: Option<&str> = begun(&bytes);
            let mut given = GIVEN.to_vec();
            given.splice(at.., bytes);
            let _: Option<&str> = begun(&given);
        }
    }
}
