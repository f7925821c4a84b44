//! Job queues on Redis: which commands hand over work, take it, and say what became of it.
//!
//! Beside the connection stage, which asks for each command and each reply; a file for each kind of queue, in
//! `FAMILIES` in the order in which they are asked. A further one goes there, with the commands that it looks at in
//! `ASKED`. Nothing here knows a call, a process or a clock: what is found is told as a [`Notice`], and `jobs` finds the
//! job that another connection, or another process, says something of.

mod bull;
mod bullmq;
mod celery;
mod data;
mod jobs;
mod list;
mod popped;
mod pubsub;
mod recognizer;
mod rq;
mod rule;
mod script;
mod sorted;
mod stream;

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use wirespan_protocols::redis::{self, Bytes, Value};
use wirespan_protocols::w3c::TraceParent;

use crate::call::MessageKey;
use crate::settings::JsonField;

pub use celery::{begun as celerys_begun, task as celerys_task};
pub use jobs::{Jobs, Open, Over, Place};
pub use recognizer::{Recognizer, Told};
pub use rule::{Rule, Step, Where};

/// Whose queue it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum System {
    /// Bull, of Node.js.
    Bull,
    /// BullMQ, of Node.js.
    BullMq,
    /// Celery, with its messages of protocol 2.
    Celery,
    /// RQ.
    Rq,
    /// Redis itself: a list, a stream, a sorted set, a channel.
    Redis,
}

/// Where a name is the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everywhere: it is random.
    Anywhere,
    /// In one server.
    Server,
    /// In one database of a server.
    Database,
}

/// What a message or a job is known by at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    key: MessageKey,
    scope: Scope,
}

impl Identity {
    fn new(parts: impl std::hash::Hash, scope: Scope) -> Self {
        Self { key: MessageKey::of(parts), scope }
    }
}

/// Work that is handed over, or was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Whose queue.
    pub system: System,
    /// The queue's name; a list's, stream's or set's key; a channel.
    pub queue: Box<str>,
    /// The database, of work that was taken, where it is known.
    pub database: Option<u32>,
    /// What the system calls it: a command's name in lower case, or the library's own word.
    pub operation: &'static str,
    /// The job's id, or the entry's.
    pub id: Option<Box<str>>,
    /// The job's name.
    pub name: Option<Box<str>>,
    /// Which attempt this is, from 1.
    pub attempt: Option<u32>,
    /// The consumers' group.
    pub group: Option<Box<str>>,
    /// How many messages these are.
    pub count: usize,
    /// The `traceparent` that it carries.
    pub context: Option<TraceParent>,
    /// What its messages are known by.
    pub messages: Vec<Identity>,
    /// What settlements name it by.
    pub handles: Vec<Identity>,
    /// When it ends.
    pub until: Until,
    /// It may have been taken before.
    pub again: bool,
    /// Several may be given each message: whoever this one is.
    pub broadcast: bool,
    /// Whether it is a queue's work at all shows who takes it: by this.
    pub only_if_taken: Option<Identity>,
    /// Fields of what it is given that the settings ask for.
    pub fields: Vec<JsonField>,
}

impl Work {
    pub(crate) fn new(system: System, queue: &str, operation: &'static str) -> Self {
        Self {
            system,
            queue: queue.into(),
            database: None,
            operation,
            id: None,
            name: None,
            attempt: None,
            group: None,
            count: 1,
            context: None,
            messages: Vec::new(),
            handles: Vec::new(),
            until: Until::Settled,
            again: false,
            broadcast: false,
            only_if_taken: None,
            fields: Vec::new(),
        }
    }
}

/// When a job is over, unless the connection it came on tells nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A command says so.
    Settled,
    /// Work is asked for again, on the same connection; or a command says so.
    Next,
    /// As `Next`, of who is known to say so by a command.
    Either,
    /// At once: nothing tells.
    Now,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// None yet: who says so begins to work on it, and will say when it is over.
    Begun,
    /// It is done.
    Done,
    /// It failed, perhaps to be tried again; by the name of the exception where that is told.
    Failed {
        /// Its class.
        kind: Option<Box<str>>,
        /// It will be tried again.
        retried: bool,
    },
    /// Its message was acknowledged, which may be before the work.
    Acknowledged,
    /// Nobody said: work was asked for again, or the connection or the process ended.
    Untold,
}

/// What a command means to queues.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// It hands over work.
    pub submits: Option<Box<Work>>,
    /// It says what became of jobs.
    settles: Vec<(Identity, Fate)>,
    /// What its reply may say.
    expects: Option<Expects>,
    /// It asks for work.
    asks: bool,
    /// What it is known by to commands behind it in its transaction.
    label: Option<Identity>,
    /// The command in its transaction that belongs to it, and means no more than it.
    with: Option<Identity>,
    /// The lists or sets that it takes from: they are queues.
    takes_from: Vec<Identity>,
    /// A library's own bookkeeping, or a job's beginning or end, which the job's span tells: no span of its own.
    internal: bool,
}

impl Part {
    fn internal() -> Self {
        Self { internal: true, ..Self::default() }
    }

    fn submit(work: Work) -> Self {
        Self { submits: Some(Box::new(work)), ..Self::default() }
    }

    /// Work is asked for, and the reply may bring it.
    fn claim(expects: Expects, takes_from: Vec<Identity>) -> Self {
        Self { expects: Some(expects), asks: true, takes_from, ..Self::default() }
    }

    fn settle(job: Identity, fate: Fate) -> Self {
        Self { settles: vec![(job, fate)], internal: true, ..Self::default() }
    }

    /// Nothing of it is to be told if it went well.
    pub fn is_internal(&self) -> bool {
        self.internal
    }
}

/// What a reply may say.
#[derive(Clone, Debug, PartialEq)]
enum Expects {
    /// The id of the job that was added.
    BullId { system: System, base: Box<str> },
    /// A job with its fields.
    BullJob { system: System, base: Box<str> },
    /// The fields of a job that was taken.
    RqFields { id: Box<str> },
    /// An entry's id.
    Entry { stream: Box<str> },
    /// Entries.
    Entries { group: Option<Box<str>>, settled: bool, again: bool, operation: &'static str },
    /// An element, elements, or a list and its elements.
    Elements { list: Option<Box<str>>, operation: &'static str },
    /// What a rule says. `id`: where the command has it; `named`: the reply begins with the key.
    Rule { rule: Arc<Rule>, id: Option<Box<str>>, named: bool },
    /// Members with scores, of a set or a named one.
    Members { set: Option<Box<str>>, operation: &'static str },
}

/// Something that a connection tells of queues.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The call that handed over work is told the job's id.
    Submitted {
        /// It.
        id: Option<Box<str>>,
        /// What it is known by.
        messages: Vec<Identity>,
    },
    /// Work was taken.
    Taken(Box<Work>),
    /// More is known of a job that was taken.
    Named {
        /// Which.
        job: Identity,
        /// Its name.
        name: Box<str>,
    },
    /// What became of a job.
    Settled(Identity, Fate),
    /// Work is asked for (again), of these lists or sets.
    Asked(Vec<Identity>),
    /// The call is a library's bookkeeping.
    Internal,
}

/// One command, as families look at it.
struct Asks<'a> {
    /// Its name, in upper case.
    name: &'a str,
    /// Its arguments.
    values: &'a [Value<'a>],
}

impl<'a> Asks<'a> {
    fn bytes(&self, at: usize) -> Option<Bytes<'a>> {
        bytes(self.values.get(at)?)
    }

    fn text(&self, at: usize) -> Option<&'a str> {
        text(self.values.get(at)?)
    }
}

fn bytes<'a>(value: &Value<'a>) -> Option<Bytes<'a>> {
    match value {
        Value::Bytes(bytes) => Some(*bytes),
        _ => None,
    }
}

/// A value that is text, is all there, and no longer than a name is.
fn text<'a>(value: &Value<'a>) -> Option<&'a str> {
    let whole = bytes(value)?.whole()?;
    str::from_utf8(whole).ok().filter(|text| text.len() <= MAX_NAME)
}

/// Longest name or id that is told.
const MAX_NAME: usize = 512;

/// What a connection remembers from one command to the next.
#[derive(Debug, Default)]
struct Memory {
    /// The operator's own.
    rules: Arc<[Arc<Rule>]>,
    /// Beginnings of the keys of Bull's queues whose scripts were run here, with whose they are.
    bases: Vec<(Box<str>, System)>,
    /// The name of the job of RQ that was written last, with its id.
    rq_job: Option<(Box<str>, Box<str>)>,
}

/// A kind of queue: what a command means to it, if anything.
type Family = fn(&Asks<'_>, &mut Memory) -> Option<Part>;

/// The first that knows a command has it.
const FAMILIES: [Family; 9] = [
    rule::asks,
    bullmq::asks,
    bull::asks,
    rq::asks,
    celery::asks,
    stream::asks,
    list::asks,
    sorted::asks,
    pubsub::asks,
];

/// Commands whose values are looked at, with the pattern of their first key.
const ASKED: &[(&str, &str)] = &[
    ("BLMOVE", "*"),
    ("BLMPOP", "*"),
    ("BLPOP", "*"),
    ("BRPOP", "*"),
    ("BRPOPLPUSH", "*"),
    ("BZMPOP", "*"),
    ("BZPOPMAX", "*"),
    ("BZPOPMIN", "*"),
    ("DEL", "*"),
    ("EVAL", "*"),
    ("EVALSHA", "*"),
    ("EXISTS", "rq:*"),
    ("EXPIRE", "rq:*"),
    ("GET", "celery-task-meta-*"),
    ("GET", "unacked_mutex"),
    ("HDEL", "rq:*"),
    ("HDEL", "unacked"),
    ("HGET", "rq:*"),
    ("HGET", "unacked"),
    ("HGETALL", "rq:*"),
    ("HINCRBY", "rq:*"),
    ("HINCRBYFLOAT", "rq:*"),
    ("HMGET", "rq:*"),
    ("HMSET", "rq:*"),
    ("HSET", "*:*:meta"),
    ("HSET", "rq:*"),
    ("HSET", "unacked"),
    ("LLEN", "*"),
    ("LMOVE", "*"),
    ("LMPOP", "*"),
    ("LPOP", "*"),
    ("LPUSH", "*"),
    ("LRANGE", "rq:*"),
    ("LREM", "*"),
    ("PERSIST", "rq:*"),
    ("PSUBSCRIBE", "/*"),
    ("PUBLISH", "*"),
    ("PUNSUBSCRIBE", "/*"),
    ("RPOP", "*"),
    ("RPOPLPUSH", "*"),
    ("RPUSH", "*"),
    ("SADD", "_kombu.*"),
    ("SADD", "rq:*"),
    ("SET", "celery-task-meta-*"),
    ("SET", "rq:*"),
    ("SET", "unacked_mutex"),
    ("SETEX", "celery-task-meta-*"),
    ("SMEMBERS", "_kombu.*"),
    ("SMEMBERS", "rq:*"),
    ("SPUBLISH", "*"),
    ("SREM", "_kombu.*"),
    ("SREM", "rq:*"),
    ("SUBSCRIBE", "*:*:delayed"),
    ("SUBSCRIBE", "celery-task-meta-*"),
    ("SUBSCRIBE", "rq:*"),
    ("UNSUBSCRIBE", "celery-task-meta-*"),
    ("UNSUBSCRIBE", "rq:*"),
    ("WATCH", "rq:*"),
    ("XACK", "*"),
    ("XADD", "*"),
    ("XREAD", "*"),
    ("XREADGROUP", "*"),
    ("ZADD", "*"),
    ("ZPOPMAX", "*"),
    ("ZPOPMIN", "*"),
    ("ZRANGE", "rq:*"),
    ("ZRANGE", "unacked_index"),
    ("ZRANGEBYSCORE", "rq:*"),
    ("ZREM", "rq:*"),
    ("ZREM", "unacked_index"),
    ("ZREMRANGEBYSCORE", "rq:*"),
    ("ZREVRANGEBYSCORE", "unacked_index"),
];

/// What a Redis parser is asked to tell.
pub fn asked(rules: &[Arc<Rule>]) -> Arc<redis::Asked> {
    static ASKING: LazyLock<Arc<redis::Asked>> = LazyLock::new(|| Arc::new(asking(&[])));
    if rules.is_empty() { Arc::clone(&ASKING) } else { Arc::new(asking(rules)) }
}

fn asking(rules: &[Arc<Rule>]) -> redis::Asked {
    let steps =
        rules.iter().flat_map(|rule| [&rule.submit, &rule.claim].into_iter().chain(&rule.done));
    let own = steps.map(|step| (&*step.command, &*step.key));
    let every = ASKED.iter().copied().chain(own);
    // A test asks for each of them, and rules are tried when they are read: none is unknown.
    every
        .into_iter()
        .try_fold(redis::Asked::new().messages(), |asked, (name, key)| asked.command(name, key))
        .unwrap_or_default()
}

/// The `traceparent` in a JSON object: its own, or that of its `headers`.
fn context_in(json: &[u8]) -> Option<TraceParent> {
    #[derive(Deserialize)]
    struct Carrier<'a> {
        #[serde(borrow)]
        traceparent: Option<&'a str>,
        #[serde(borrow)]
        headers: Option<Headers<'a>>,
    }
    #[derive(Deserialize)]
    struct Headers<'a> {
        #[serde(borrow)]
        traceparent: Option<&'a str>,
    }
    memchr::memmem::find(json, b"\"traceparent\"")?;
    let carrier: Carrier<'_> = serde_json::from_slice(json).ok()?;
    let within = carrier.headers.and_then(|headers| headers.traceparent);
    let text = carrier.traceparent.or(within)?;
    TraceParent::parse(text.as_bytes())
}

/// What a job of Bull's or BullMQ's is known by. `queue`: what its queue's keys begin with, without the last colon.
pub fn bull_job(queue: &str, id: &str) -> Identity {
    script::job(&format!("{queue}:"), id)
}

/// Whether an id is one that is drawn at random: nobody else has it.
fn is_uuid(id: &str) -> bool {
    id.len() == 36 && uuid::Uuid::try_parse(id).is_ok()
}

#[cfg(test)]
mod tests;
