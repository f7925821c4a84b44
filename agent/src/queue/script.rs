//! What Bull and BullMQ have in common: scripts in Redis, known by the keys that they are given.
//!
//! Scripts differ from version to version, their keys hardly: what adds a job is given the counter of ids (`:id`),
//! what ends one the list of active jobs and the job's own key, and where a job was taken the reply has its fields.
//! <https://github.com/OptimalBits/bull/tree/develop/lib/commands>,
//! <https://github.com/taskforcesh/bullmq/tree/master/src/commands>

use serde::Deserialize;
use wirespan_protocols::redis::Value;
use wirespan_protocols::w3c::TraceParent;

use super::{Asks, Expects, Fate, Identity, Memory, Part, Scope, System, Until, Work, bytes, text};

/// What both give names beneath a queue's own beginning. Anything else there is a job's key.
const KNOWN: [&str; 22] = [
    "",
    "active",
    "completed",
    "delay",
    "delayed",
    "drained",
    "events",
    "failed",
    "id",
    "limiter",
    "marker",
    "meta",
    "meta-paused",
    "paused",
    "pc",
    "prioritized",
    "priority",
    "repeat",
    "stalled",
    "stalled-check",
    "wait",
    "waiting-children",
];

/// Beginnings of keys that one connection remembers.
const MAX_BASES: usize = 64;

/// A script with what it is given.
pub(super) struct Script<'a> {
    /// How the queue's keys begin, with the last colon.
    pub(super) base: &'a str,
    /// Its keys behind that.
    keys: Vec<&'a str>,
    pub(super) arguments: &'a [Value<'a>],
}

impl<'a> Script<'a> {
    /// A script that is given keys of one queue, and nothing else.
    pub(super) fn of(call: &Asks<'a>) -> Option<Self> {
        if !matches!(call.name, "EVAL" | "EVALSHA") {
            return None;
        }
        let count: usize = call.text(1)?.parse().ok()?;
        let first = call.text(2)?;
        let base = first.get(..=first.rfind(':')?)?;
        // `prefix:queue:`
        if count == 0 || base.bytes().filter(|byte| *byte == b':').count() < 2 {
            return None;
        }
        let keys = call.values.get(2..count.checked_add(2)?)?;
        let keys = keys.iter().map(|key| text(key)?.strip_prefix(base)).collect::<Option<_>>()?;
        Some(Self { base, keys, arguments: call.values.get(count + 2..)? })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// The job whose own key it is given.
    fn job(&self) -> Option<&'a str> {
        let is_job = |key: &&&str| !KNOWN.contains(*key) && !key.contains([':', '@']);
        self.keys.iter().find(is_job).copied()
    }

    pub(super) fn argument(&self, at: usize) -> Option<&'a str> {
        text(self.arguments.get(at)?)
    }
}

/// The system that this connection's scripts on such keys are of.
pub(super) fn known(memory: &Memory, base: &str) -> Option<System> {
    memory.bases.iter().find(|(known, _)| **known == *base).map(|(_, system)| *system)
}

/// What a script means, of which it is known whose it is.
pub(super) fn part(
    system: System,
    script: &Script<'_>,
    name: Option<&str>,
    memory: &mut Memory,
) -> Part {
    let base = script.base;
    if known(memory, base).is_none() && memory.bases.len() < MAX_BASES {
        memory.bases.push((base.into(), system));
    }
    if script.has("id") {
        let mut work = Work::new(system, queue(base), "add");
        work.name = name.map(Box::from);
        let expects = Some(Expects::BullId { system, base: base.into() });
        return Part { expects, ..Part::submit(work) };
    }
    if !script.has("active") {
        return Part::internal();
    }
    let expects = Some(Expects::BullJob { system, base: base.into() });
    let Some(id) = script.job() else {
        // A job may be given, or stalled ones were looked for, or delayed ones were moved.
        return Part { expects, ..Part::internal() };
    };
    let fate = match (script.has("completed"), script.has("failed")) {
        (true, false) => Fate::Done,
        (false, true) => Fate::Failed { kind: None, retried: false },
        // Moved back, by whatever script.
        _ => Fate::Failed { kind: None, retried: true },
    };
    Part { expects, ..Part::settle(job(base, id), fate) }
}

/// A queue's name, without the prefix.
fn queue(base: &str) -> &str {
    let base = base.strip_suffix(':').unwrap_or(base);
    base.rsplit_once(':').map_or(base, |(_, queue)| queue)
}

/// A job's identity. Both libraries count ids up.
pub(super) fn job(base: &str, id: &str) -> Identity {
    Identity::new(("bull", base, id), Scope::Database)
}

/// The job in a script's reply: its fields, its id.
pub(super) fn taken(system: System, base: &str, reply: &[Value<'_>]) -> Option<Work> {
    let [Value::Array(2..), Value::Array(fields), rest @ ..] = reply else { return None };
    let fields = usize::try_from(*fields).ok().filter(|fields| fields % 2 == 0)?;
    let id = text(rest.get(fields)?)?;
    let mut work = Work::new(system, queue(base), "process");
    let (mut started, mut made) = (None, 0);
    for pair in rest.get(..fields)?.chunks_exact(2) {
        let [field, value] = pair else { continue };
        let number = || text(value)?.parse::<u32>().ok();
        match text(field) {
            Some("name") => work.name = text(value).map(Box::from),
            Some("opts") => work.context = bytes(value).and_then(|it| context(it.whole()?)),
            Some("ats") => started = number(),
            Some("atm" | "attemptsMade") => made = number().unwrap_or(0),
            _ => {}
        }
    }
    work.attempt = Some(started.unwrap_or(made.saturating_add(1)));
    work.again = work.attempt > Some(1);
    work.id = Some(id.into());
    work.messages = vec![job(base, id)];
    work.handles = vec![job(base, id)];
    work.until = Until::Settled;
    Some(work)
}

/// The context in a job's options, where BullMQ's telemetry puts it: as JSON in JSON.
fn context(options: &[u8]) -> Option<TraceParent> {
    #[derive(Deserialize)]
    struct Options {
        tm: Option<String>,
        telemetry: Option<Telemetry>,
    }
    #[derive(Deserialize)]
    struct Telemetry {
        metadata: Option<String>,
    }
    memchr::memmem::find(options, b"traceparent")?;
    let options: Options = serde_json::from_slice(options).ok()?;
    let carrier = options.tm.or_else(|| options.telemetry?.metadata)?;
    super::context_in(carrier.as_bytes())
}
