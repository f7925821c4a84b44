//! Streams of Redis: `XADD`, `XREAD`, `XREADGROUP`, `XACK`.
//!
//! <https://redis.io/docs/latest/develop/data-types/streams/>. An entry is known by its stream and id. Left out:
//! entries that are claimed from other consumers (`XCLAIM`, `XAUTOCLAIM`).

use wirespan_protocols::redis::Value;
use wirespan_protocols::w3c::TraceParent;

use super::{Asks, Expects, Fate, Identity, Memory, Part, Scope, System, Until, Work, bytes, text};

/// Entries of one reply that are joined and followed.
const MAX_ENTRIES: usize = 256;

pub(super) fn asks(call: &Asks<'_>, _: &mut Memory) -> Option<Part> {
    match call.name {
        "XADD" => {
            let stream = call.text(0)?;
            let expects = Some(Expects::Entry { stream: stream.into() });
            Some(Part { expects, ..Part::submit(Work::new(System::Redis, stream, "xadd")) })
        }
        "XREAD" => Some(Part::claim(
            Expects::Entries { group: None, settled: false, again: false, operation: "xread" },
            Vec::new(),
        )),
        "XREADGROUP" => {
            let word = |at: usize| call.text(at).map(str::to_ascii_uppercase);
            let streams =
                (0..call.values.len()).find(|at| word(*at).as_deref() == Some("STREAMS"))?;
            // Behind `GROUP group consumer`; before the streams, which may be named anything.
            let group = call.text(1)?;
            let settled = !(3..streams).any(|at| word(at).as_deref() == Some("NOACK"));
            let again = call.text(call.values.len().checked_sub(1)?) != Some(">");
            let group = Some(group.into());
            let operation = "xreadgroup";
            Some(Part::claim(Expects::Entries { group, settled, again, operation }, Vec::new()))
        }
        "XACK" => {
            let (stream, group) = (call.text(0)?, call.text(1)?);
            let ids = call.values.get(2..)?.iter().take(MAX_ENTRIES).filter_map(text);
            let settles = ids.map(|id| (handle(stream, group, id), Fate::Done)).collect();
            Some(Part { settles, ..Part::internal() })
        }
        _ => None,
    }
}

/// An entry's identity.
pub(super) fn entry(stream: &str, id: &str) -> Identity {
    Identity::new(("stream", stream, id), Scope::Database)
}

fn handle(stream: &str, group: &str, id: &str) -> Identity {
    Identity::new(("stream", stream, group, id), Scope::Database)
}

/// The work in a reply, for each stream.
pub(super) fn taken(
    reply: &[Value<'_>],
    group: Option<&str>,
    settled: bool,
    again: bool,
    operation: &'static str,
) -> Vec<Work> {
    let (streams, mut rest, nested) = match reply {
        [Value::Array(streams), rest @ ..] => (*streams, rest, true),
        [Value::Map(streams), rest @ ..] => (*streams, rest, false),
        _ => return Vec::new(),
    };
    let mut works = Vec::new();
    for _ in 0..streams {
        if nested {
            let [Value::Array(2), within @ ..] = rest else { break };
            rest = within;
        }
        let [stream, Value::Array(entries), within @ ..] = rest else { break };
        let Some(stream) = text(stream) else { break };
        let mut work = Work::new(System::Redis, stream, operation);
        work.count = usize::try_from(*entries).unwrap_or(usize::MAX);
        work.group = group.map(Box::from);
        (work.again, work.broadcast) = (again, true);
        work.until = if settled { Until::Settled } else { Until::Next };
        rest = entries_of(within, *entries, &mut work);
        // What libraries tell of their jobs is no work.
        if work.count > 0 && !is_events(stream, within) {
            works.push(work);
        }
    }
    works
}

/// Reads a stream's entries; what follows them.
fn entries_of<'v, 'a>(mut rest: &'v [Value<'a>], entries: u64, work: &mut Work) -> &'v [Value<'a>] {
    let (stream, group) = (work.queue.clone(), work.group.clone());
    for _ in 0..entries {
        let [Value::Array(2), id, within @ ..] = rest else { return &[] };
        let (fields, after) = super::recognizer::split(within);
        rest = after;
        let Some(id) = text(id) else { continue };
        if work.messages.len() >= MAX_ENTRIES {
            continue;
        }
        work.messages.push(entry(&stream, id));
        if let Some(group) = group.as_deref().filter(|_| work.until == Until::Settled) {
            work.handles.push(handle(&stream, group, id));
        }
        if entries == 1 {
            work.id = Some(id.into());
            work.context = context(fields);
        }
    }
    rest
}

fn context(fields: &[Value<'_>]) -> Option<TraceParent> {
    let mut pairs = fields.get(1..)?.chunks_exact(2);
    let pair = pairs.find(|pair| pair.first().and_then(text) == Some("traceparent"))?;
    TraceParent::parse(bytes(pair.get(1)?)?.whole()?)
}

/// The stream of events that BullMQ keeps for each queue.
fn is_events(stream: &str, entries: &[Value<'_>]) -> bool {
    stream.ends_with(":events") && entries.get(3).and_then(text) == Some("event")
}
