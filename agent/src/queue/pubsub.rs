//! Published messages: `PUBLISH`, and what subscribers are sent.
//!
//! <https://redis.io/docs/latest/develop/pubsub/>. A message is known by its channel and a hash of it, in any database
//! of the server; each subscriber is given it. Nothing tells how long it is handled.

use wirespan_protocols::redis::{Bytes, Value};

use super::{Asks, Identity, Memory, Part, Scope, System, Until, Work, bytes, text};

pub(super) fn asks(call: &Asks<'_>, _: &mut Memory) -> Option<Part> {
    let operation = match call.name {
        "PUBLISH" => "publish",
        "SPUBLISH" => "spublish",
        _ => return None,
    };
    Some(Part::submit(work(call.text(0)?, &call.bytes(1)?, operation)))
}

fn work(channel: &str, message: &Bytes<'_>, operation: &'static str) -> Work {
    let mut work = Work::new(System::Redis, channel, operation);
    work.messages = message
        .hash
        .map(|hash| Identity::new(("channel", channel, hash), Scope::Server))
        .into_iter()
        .collect();
    work.context = message.whole().and_then(super::context_in);
    work
}

/// A message that was pushed.
pub(super) fn taken(pushed: &[Value<'_>]) -> Option<Work> {
    let [Value::Array(_), kind, rest @ ..] = pushed else { return None };
    let (channel, message) = match (text(kind)?, rest) {
        ("message" | "smessage", [channel, message]) | ("pmessage", [_, channel, message]) => {
            (text(channel)?, bytes(message)?)
        }
        _ => return None,
    };
    if is_internal(channel, &message) {
        return None;
    }
    let mut work = work(channel, &message, "receive");
    (work.until, work.broadcast) = (Until::Now, true);
    Some(work)
}

/// What Redis itself tells, and what libraries of queues tell themselves.
fn is_internal(channel: &str, message: &Bytes<'_>) -> bool {
    let is_number = || message.kept.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    channel.starts_with("__")
        || channel.starts_with("rq:")
        || channel.starts_with("celery-task-meta-")
        || (channel.starts_with('/') && channel.contains('.'))
        || (channel.ends_with(":delayed") && is_number())
}
