//! Queues that people make themselves, as the configuration describes them: by which command work is handed over, by
//! which it is taken, where the job's id lies in either.
//!
//! A submit's command is one span and a job another, as of libraries. A job lasts until the command that is said to end
//! it, or until its connection takes the next.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wirespan_protocols::redis::{Pattern, Value};
use wirespan_protocols::w3c::TraceParent;

use super::{Asks, Expects, Fate, Identity, Memory, Part, Scope, System, Until, Work, bytes, text};

/// A kind of queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What spans call the queue.
    pub name: Box<str>,
    /// The command that hands over work.
    pub submit: Step,
    /// The command whose reply brings it.
    pub claim: Step,
    /// The command that says that it is done.
    pub done: Option<Step>,
    /// The field that has a `traceparent`.
    pub context: Option<Box<str>>,
}

/// A command of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, in upper case.
    pub command: Box<str>,
    /// Its first key, with `*` for any bytes.
    pub key: Box<str>,
    /// Where the job's id is.
    pub id: Where,
}

/// Where a job's id is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Where {
    /// In the key: what the last `*` stands for.
    Key,
    /// The element or member: a command's last argument, or the first that a reply brings.
    Value,
    /// The value of the field of this name.
    Field(Box<str>),
}

impl Step {
    fn is(&self, call: &Asks<'_>) -> bool {
        *self.command == *call.name
            && call.bytes(0).is_some_and(|key| Pattern::new(&self.key).fits(key.kept))
    }

    /// The id in a command's arguments.
    fn asked_id<'a>(&self, call: &Asks<'a>) -> Option<&'a str> {
        match &self.id {
            Where::Key => self.id_in_key(call),
            Where::Value => text(call.values.get(1..)?.last()?),
            Where::Field(name) => field(call.values.get(1..)?, name).and_then(text),
        }
    }

    fn id_in_key<'a>(&self, call: &Asks<'a>) -> Option<&'a str> {
        str::from_utf8(Pattern::new(&self.key).last_star(call.bytes(0)?.kept)?).ok()
    }
}

pub(super) fn asks(call: &Asks<'_>, memory: &mut Memory) -> Option<Part> {
    memory.rules.iter().find_map(|rule| rule.asks(call))
}

impl Rule {
    fn asks(self: &Arc<Self>, call: &Asks<'_>) -> Option<Part> {
        if self.submit.is(call) {
            let mut work = self.work(self.submit.asked_id(call)?, "send");
            work.context = self.context(call.values.get(1..)?);
            return Some(Part::submit(work));
        }
        if self.claim.is(call) {
            let id = match self.claim.id {
                Where::Key => Some(self.claim.id_in_key(call)?.into()),
                Where::Value | Where::Field(_) => None,
            };
            let named = call.name.starts_with('B');
            return Some(Part::claim(
                Expects::Rule { rule: Arc::clone(self), id, named },
                Vec::new(),
            ));
        }
        let done = self.done.as_ref().filter(|done| done.is(call))?;
        Some(Part::settle(self.job(done.asked_id(call)?), Fate::Done))
    }

    /// The work in a reply. `id`: where the command had it; `named`: a reply that isn't empty begins with the key.
    pub(super) fn taken(&self, reply: &[Value<'_>], id: Option<&str>, named: bool) -> Option<Work> {
        let mut values = reply.iter().filter(|it| !matches!(it, Value::Array(_) | Value::Map(_)));
        let first = values.nth(usize::from(named)).and_then(bytes)?;
        let fields = match reply {
            [Value::Array(_) | Value::Map(_), fields @ ..] => fields,
            _ => &[],
        };
        let id = match (&self.claim.id, id) {
            (_, Some(id)) => id,
            (Where::Field(name), None) => text(field(fields, name)?)?,
            (Where::Key | Where::Value, None) => str::from_utf8(first.whole()?).ok()?,
        };
        let mut work = self.work(id, "process");
        work.context = self.context(fields);
        work.until = if self.done.is_some() { Until::Either } else { Until::Next };
        Some(work)
    }

    fn work(&self, id: &str, operation: &'static str) -> Work {
        let mut work = Work::new(System::Redis, &self.name, operation);
        work.id = Some(id.into());
        work.messages = vec![self.job(id)];
        work.handles = vec![self.job(id)];
        work
    }

    fn job(&self, id: &str) -> Identity {
        Identity::new(("rule", &self.name, id), Scope::Database)
    }

    fn context(&self, fields: &[Value<'_>]) -> Option<TraceParent> {
        let value = field(fields, self.context.as_deref()?)?;
        TraceParent::parse(bytes(value)?.whole()?)
    }
}

fn field<'v, 'a>(fields: &'v [Value<'a>], name: &str) -> Option<&'v Value<'a>> {
    let pair = fields.chunks_exact(2).find(|pair| pair.first().and_then(text) == Some(name))?;
    pair.get(1)
}
