//! One connection's commands and replies, and what they tell of queues: pairs what a command means with its reply,
//! which within `MULTI` is a part of that of `EXEC`.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;
use wirespan_protocols::redis::{Command, End, Reply, Value, Values};

use super::{
    Asks, Expects, FAMILIES, Fate, Identity, Memory, Notice, Part, Rule, Work, data, list, pubsub,
    rq, script, sorted, stream, text,
};
use crate::connection::Mark;
use crate::settings::Pointer;

/// Commands of one transaction that are followed.
const MAX_QUEUED: usize = 4096;

/// Commands of a transaction whose room is kept for the next one.
const MAX_SPARE: usize = 64;

/// Values of a command or a reply, which take no memory of their own where they are few.
type Few<'a> = SmallVec<[Value<'a>; 8]>;

/// Commands that wait for replies of interest.
const MAX_OPEN: usize = 8192;

/// A command that waits for its reply.
#[derive(Debug)]
struct Pending {
    exchange: u64,
    first: Mark,
    settles: Vec<(Identity, Fate)>,
    expects: Option<Expects>,
}

/// A command within a transaction.
#[derive(Debug)]
struct Queued {
    pending: Pending,
    submits: bool,
    label: Option<Identity>,
    /// A job's span tells of it, or nothing is to be told.
    known: bool,
    /// Its own end, which waits for that of `EXEC`.
    held: Option<(Mark, End<'static>)>,
}

/// From `MULTI` on.
#[derive(Debug, Default)]
struct Transaction {
    /// The exchange that began it.
    multi: Option<u64>,
    /// That which ran it.
    exec: Option<u64>,
    commands: Vec<Queued>,
}

impl Transaction {
    /// All that it runs is queues' own.
    fn is_known(&self) -> bool {
        !self.commands.is_empty() && self.commands.iter().all(|command| command.known)
    }
}

/// What is told, in the order of telling.
pub enum Told {
    /// Something of queues, of this exchange and at this moment.
    Notice(u64, Mark, Notice),
    /// The end of an exchange, which waited for another's.
    Over(u64, Mark, End<'static>),
    /// That exchange will have no end.
    Abandoned(u64),
}

/// Where it goes.
type Out<'a> = dyn FnMut(Told) + 'a;

/// What is followed of one connection.
#[derive(Debug, Default)]
pub struct Recognizer {
    memory: Memory,
    /// Fields of jobs that are asked for.
    pointers: Arc<[Pointer]>,
    open: VecDeque<Pending>,
    gathering: Transaction,
    executing: VecDeque<Transaction>,
    /// Empty: the room of the transaction that was over last.
    spare: Vec<Queued>,
}

impl Recognizer {
    /// Of a new connection, with the operator's own kinds of queues, and the fields of jobs that are asked for.
    pub fn new(rules: Arc<[Arc<Rule>]>, pointers: Arc<[Pointer]>) -> Self {
        Self { memory: Memory { rules, ..Memory::default() }, pointers, ..Self::default() }
    }

    /// Other fields are asked for from now on.
    pub fn ask(&mut self, pointers: Arc<[Pointer]>) {
        self.pointers = pointers;
    }

    /// A command. What it means; what is told of it at once goes to `out`.
    pub fn asked(
        &mut self,
        exchange: u64,
        first: &Mark,
        command: &Command<'_>,
        values: &Values<'_>,
        out: &mut Out<'_>,
    ) -> Part {
        match &*command.name {
            "MULTI" => {
                let commands = std::mem::take(&mut self.spare);
                self.gathering = Transaction { multi: Some(exchange), exec: None, commands };
            }
            "EXEC" => {
                let mut transaction = std::mem::take(&mut self.gathering);
                transaction.exec = Some(exchange);
                self.executing.push_back(transaction);
            }
            "DISCARD" | "RESET" => self.gathering = Transaction::default(),
            _ => {}
        }
        let mut part = self.meaning(command, values);
        if part.asks {
            out(Told::Notice(
                exchange,
                *first,
                Notice::Asked(std::mem::take(&mut part.takes_from)),
            ));
        }
        let (settles, expects) = (std::mem::take(&mut part.settles), part.expects.take());
        let pending = Pending { exchange, first: *first, settles, expects };
        if command.queued {
            let submits = part.submits.is_some();
            let known = submits || part.internal || part.asks;
            if let Some(with) = part.with {
                let gathered = self.gathering.commands.iter_mut();
                for command in gathered.filter(|command| command.label == Some(with)) {
                    command.known = true;
                    out(Told::Notice(command.pending.exchange, *first, Notice::Internal));
                }
            }
            if self.gathering.commands.len() < MAX_QUEUED {
                let label = part.label;
                let queued = Queued { pending, submits, label, known, held: None };
                self.gathering.commands.push(queued);
            }
        } else if (!pending.settles.is_empty() || pending.expects.is_some())
            && self.open.len() < MAX_OPEN
        {
            self.open.push_back(pending);
        }
        part
    }

    fn meaning(&mut self, command: &Command<'_>, values: &Values<'_>) -> Part {
        if values.is_empty() || command.cut && values.is_cut() {
            return Part::default();
        }
        let values: Few<'_> = values.iter().collect();
        let call = Asks { name: &command.name, values: &values };
        let memory = &mut self.memory;
        let mut part = FAMILIES.iter().find_map(|family| family(&call, memory)).unwrap_or_default();
        if let Some(work) = &mut part.submits {
            work.fields = data::of(work, &values, &self.pointers);
        }
        part
    }

    /// An exchange is over. Whether its end is held, to be told with that of `EXEC`.
    pub fn answered(
        &mut self,
        exchange: u64,
        last: &Mark,
        end: &End<'_>,
        values: &Values<'_>,
        out: &mut Out<'_>,
    ) -> bool {
        let reply = match end {
            End::Complete { reply, .. } => Some(reply),
            _ => None,
        };
        if matches!(reply, Some(Reply::Queued)) {
            return self.queued(exchange, last, end);
        }
        if self.executing.front().is_some_and(|front| front.exec == Some(exchange)) {
            if let Some(mut transaction) = self.executing.pop_front() {
                executed(&mut transaction, last, end, values, &self.pointers, out);
                if transaction.commands.capacity() <= MAX_SPARE {
                    self.spare = transaction.commands;
                }
            }
            return false;
        }
        if self.executing.iter().any(|it| it.multi == Some(exchange) && it.is_known()) {
            out(Told::Notice(exchange, *last, Notice::Internal));
        }
        while self.open.front().is_some_and(|front| front.exchange < exchange) {
            self.open.pop_front();
        }
        if self.open.front().is_none_or(|front| front.exchange != exchange) {
            return false;
        }
        let Some(pending) = self.open.pop_front() else { return false };
        if reply.is_some_and(|reply| !matches!(reply, Reply::Error { .. })) {
            let values: Vec<Value<'_>> = values.iter().collect();
            read(pending, &values, last, &self.pointers, out);
        }
        false
    }

    /// A command is queued: what it does is done by `EXEC`, and where that was sent already its end comes.
    fn queued(&mut self, exchange: u64, last: &Mark, end: &End<'_>) -> bool {
        let mut commands = self.executing.iter_mut().flat_map(|it| &mut it.commands);
        let found = commands.find(|command| command.pending.exchange == exchange);
        match found.filter(|command| command.submits) {
            Some(command) => {
                command.held = Some((*last, end.clone().into_owned()));
                true
            }
            None => false,
        }
    }

    /// An exchange will never be known in full: whatever waits for a reply may have had it.
    pub fn abandoned(&mut self, exchange: u64, out: &mut Out<'_>) {
        self.open.retain(|pending| pending.exchange != exchange);
        self.gathering = Transaction::default();
        for command in self.executing.drain(..).flat_map(|it| it.commands) {
            if command.held.is_some() {
                out(Told::Abandoned(command.pending.exchange));
            }
        }
    }

    /// A message was pushed.
    pub fn pushed(&mut self, last: &Mark, values: &Values<'_>, out: &mut Out<'_>) {
        let values: Vec<Value<'_>> = values.iter().collect();
        if let Some(mut work) = pubsub::taken(&values) {
            work.fields = data::of(&work, &values, &self.pointers);
            out(Told::Notice(0, *last, Notice::Taken(Box::new(work))));
        }
    }
}

/// A transaction was run, or was not: nothing is left in it.
fn executed(
    transaction: &mut Transaction,
    last: &Mark,
    end: &End<'_>,
    values: &Values<'_>,
    pointers: &[Pointer],
    out: &mut Out<'_>,
) {
    let (known, exec) = (transaction.is_known(), transaction.exec);
    let values: Few<'_> = values.iter().collect();
    let count = transaction.commands.len() as u64;
    // A reply for each, or it can't be told which is whose.
    let mut rest = match values.as_slice() {
        [Value::Array(replies), rest @ ..] if *replies == count => rest,
        _ => &[],
    };
    let failed = match end {
        End::Complete { reply: Reply::Executed { .. }, .. } => None,
        end => Some(end.clone().into_owned()),
    };
    for command in transaction.commands.drain(..) {
        let (reply, after) = split(rest);
        rest = after;
        let exchange = command.pending.exchange;
        if failed.is_none() && !matches!(reply, [] | [Value::Other]) {
            read(command.pending, reply, last, pointers, out);
        }
        if let Some((_, own)) = command.held {
            out(Told::Over(exchange, *last, failed.clone().unwrap_or(own)));
        }
    }
    if known
        && failed.is_none()
        && let Some(exec) = exec
    {
        out(Told::Notice(exec, *last, Notice::Internal));
    }
}

/// What a reply says.
fn read(
    pending: Pending,
    reply: &[Value<'_>],
    last: &Mark,
    pointers: &[Pointer],
    out: &mut Out<'_>,
) {
    let Pending { exchange, first, settles, expects } = pending;
    for (job, fate) in settles {
        out(Told::Notice(exchange, first, Notice::Settled(job, fate)));
    }
    let mut taken_with = |mut work: Work, pointers: &[Pointer]| {
        work.fields = data::of(&work, reply, pointers);
        out(Told::Notice(exchange, *last, Notice::Taken(Box::new(work))));
        out(Told::Notice(exchange, *last, Notice::Internal));
    };
    let taken = |work: Work| taken_with(work, pointers);
    let id = || reply.first().and_then(text);
    let submitted = match expects {
        None => None,
        Some(Expects::BullId { base, .. }) => id().map(|id| (id, script::job(&base, id))),
        Some(Expects::Entry { stream }) => id().map(|id| (id, stream::entry(&stream, id))),
        Some(Expects::BullJob { system, base }) => {
            return script::taken(system, &base, reply).into_iter().for_each(taken);
        }
        Some(Expects::Entries { group, settled, again, operation }) => {
            let works = stream::taken(reply, group.as_deref(), settled, again, operation);
            // Of several streams' entries it can't be told whose a field is.
            let pointers = if works.len() == 1 { pointers } else { &[] };
            return works.into_iter().for_each(|work| taken_with(work, pointers));
        }
        Some(Expects::Elements { list, operation }) => {
            let work = list::taken(reply, list.as_deref(), operation);
            return work.into_iter().for_each(taken);
        }
        Some(Expects::Members { set, operation }) => {
            let work = sorted::taken(reply, set.as_deref(), operation);
            return work.into_iter().for_each(taken);
        }
        Some(Expects::Rule { rule, id, named }) => {
            return rule.taken(reply, id.as_deref(), named).into_iter().for_each(taken);
        }
        Some(Expects::RqFields { id }) => {
            if let Some(notice) = rq::fields(&id, reply) {
                out(Told::Notice(exchange, *last, notice));
            }
            return;
        }
    };
    if let Some((id, message)) = submitted {
        let notice = Notice::Submitted { id: Some(id.into()), messages: vec![message] };
        out(Told::Notice(exchange, *last, notice));
    }
}

/// The first of some values, with all that is its own, and those behind it.
pub(super) fn split<'v, 'a>(values: &'v [Value<'a>]) -> (&'v [Value<'a>], &'v [Value<'a>]) {
    let (mut wanted, mut at) = (1_u64, 0);
    while wanted > 0
        && let Some(value) = values.get(at)
    {
        let own = match value {
            Value::Array(items) => *items,
            Value::Map(entries) => entries.saturating_mul(2),
            _ => 0,
        };
        (wanted, at) = (wanted - 1 + own.min(u64::from(u32::MAX)), at + 1);
    }
    values.split_at(at)
}
