//! RQ: a hash for each job at `rq:job:ID`, its id in the list `rq:queue:NAME`.
//!
//! <https://github.com/rq/rq>: `queue.py`, `job.py`, `worker`. A job is taken where its id leaves the list, and over
//! where its hash is given the status that says so. All else at keys that begin with `rq:` is bookkeeping.

use wirespan_protocols::redis::Value;

use super::{
    Asks, Expects, Fate, Identity, Memory, Notice, Part, Scope, System, Until, Work, is_uuid, text,
};

const QUEUE: &str = "rq:queue:";
const JOB: &str = "rq:job:";

pub(super) fn asks(call: &Asks<'_>, memory: &mut Memory) -> Option<Part> {
    let key = call.text(0)?;
    // Scripts say first what they are.
    let key = if matches!(call.name, "EVAL" | "EVALSHA") { call.text(2)? } else { key };
    if !key.starts_with("rq:") {
        return None;
    }
    let job_id = key.strip_prefix(JOB).filter(|id| !id.contains(':'));
    Some(match (call.name, key.strip_prefix(QUEUE), job_id) {
        ("LPUSH" | "RPUSH", Some(queue), _) if !queue.ends_with(":intermediate") => {
            let id = call.text(1)?;
            let mut work = work(queue, id, "enqueue");
            let written = memory.rq_job.take_if(|(written, _)| **written == *id);
            work.name = written.map(|(_, name)| name);
            Part::submit(work)
        }
        (
            "LMOVE" | "BLMOVE" | "RPOPLPUSH" | "BRPOPLPUSH" | "LPOP" | "RPOP" | "BLPOP" | "BRPOP",
            Some(_),
            _,
        ) => {
            let list = (!matches!(call.name, "BLPOP" | "BRPOP")).then(|| key.into());
            let expects = Expects::Elements { list, operation: "perform" };
            Part { internal: true, ..Part::claim(expects, Vec::new()) }
        }
        ("HSET" | "HMSET", _, Some(id)) => written(id, call, memory),
        ("HGETALL", _, Some(id)) => {
            Part { expects: Some(Expects::RqFields { id: id.into() }), ..Part::internal() }
        }
        _ => Part::internal(),
    })
}

/// Fields of a job are written.
fn written(id: &str, call: &Asks<'_>, memory: &mut Memory) -> Part {
    let fields = call.values.get(1..).unwrap_or_default();
    if let Some(name) = name(fields) {
        memory.rq_job = Some((id.into(), name.into()));
    }
    let fate = match field(fields, "status") {
        Some("started") => Fate::Begun,
        Some("finished") => Fate::Done,
        Some("failed" | "stopped") => Fate::Failed { kind: None, retried: false },
        Some("scheduled") => Fate::Failed { kind: None, retried: true },
        _ => return Part::internal(),
    };
    Part::settle(job(id), fate)
}

/// The id of a job was taken from a queue.
pub(super) fn taken(list: &str, id: &str, operation: &'static str) -> Option<Work> {
    Some(work(list.strip_prefix(QUEUE)?, id, operation))
}

/// The fields of a job were read.
pub(super) fn fields(id: &str, reply: &[Value<'_>]) -> Option<Notice> {
    let name = name(reply.get(1..)?)?;
    Some(Notice::Named { job: job(id), name: name.into() })
}

fn work(queue: &str, id: &str, operation: &'static str) -> Work {
    let mut work = Work::new(System::Rq, queue, operation);
    work.id = Some(id.into());
    work.messages = vec![job(id)];
    work.handles = vec![job(id)];
    work.until = Until::Settled;
    work
}

fn job(id: &str) -> Identity {
    Identity::new(("rq", id), if is_uuid(id) { Scope::Anywhere } else { Scope::Database })
}

/// The function's name: its description without the arguments.
fn name<'a>(fields: &[Value<'a>]) -> Option<&'a str> {
    let pairs = fields.chunks_exact(2).filter_map(|pair| <&[Value<'a>; 2]>::try_from(pair).ok());
    let mut descriptions = pairs.filter(|[field, _]| text(field) == Some("description"));
    let [_, Value::Bytes(description)] = descriptions.next()? else { return None };
    let end = memchr::memchr(b'(', description.kept)?;
    str::from_utf8(description.kept.get(..end)?).ok().filter(|name| name.len() <= super::MAX_NAME)
}

fn field<'a>(fields: &[Value<'a>], name: &str) -> Option<&'a str> {
    let mut pairs =
        fields.chunks_exact(2).filter_map(|pair| <&[Value<'a>; 2]>::try_from(pair).ok());
    let [_, value] = pairs.find(|[field, _]| text(field) == Some(name))?;
    text(value)
}
