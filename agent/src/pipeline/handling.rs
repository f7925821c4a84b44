//! Which call brought the message that a handler works on, as a runtime names it: AMQP's by channel and tag, Kafka's
//! by topic, partition and offset, a job of Bull's or BullMQ's by its queue's keys and its id, one of Celery's that
//! came over AMQP by its id.
//!
//! An answer of Kafka's brings many messages, which are handled one by one: each handler is a call of its own
//! here, from its beginning to its end, that receives its messages again. What is remembered is bounded, and what
//! isn't found has handlers whose calls are withheld.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use wirespan_protocols::kafka::{Delivered, End};

use super::{Stages, post};
use crate::call::{CallEnded, CallId, CallStarted, ProcessId, Role, SocketId, Task};
use crate::connection::{Content, Mark, Outcome};
use crate::exchange::Exchange;
use crate::queue::{self, Identity};
use crate::runtime::{Delivery, Handling, Work};

/// Messages of AMQP that are remembered.
const MAX_DELIVERIES: usize = 65_536;

/// Jobs that are remembered.
const MAX_JOBS: usize = 65_536;

/// Answers of Kafka's that are remembered, in all and of one partition.
const MAX_ANSWERS: usize = 4096;
const MAX_ANSWERS_OF_PARTITION: usize = 64;

/// Handlers whose end is waited for.
const MAX_HANDLERS: usize = 4096;

/// How long: a handler that takes longer has a span until then.
const MAX_HANDLING_NS: u64 = 600_000_000_000;

/// No connection has this cookie: handlers' calls are numbered on it.
pub(super) const NOWHERE: u64 = 0;

/// Where a message of AMQP was told: process, channel, tag. Connections have the same ones.
type Place = (ProcessId, u16, u64);

/// A partition that a process reads.
type Partition = (ProcessId, Arc<str>, i32);

/// An answer's part.
struct Answer {
    first: i64,
    next: i64,
    exchange: Exchange,
}

/// A handler that works.
struct Handler {
    ordinal: u64,
    partition: Partition,
    began_ns: u64,
}

/// What handlers may be given.
#[derive(Default)]
pub(super) struct Deliveries {
    amqp: FxHashMap<Place, Vec<(SocketId, CallId)>>,
    order: VecDeque<(Place, CallId)>,
    /// Where equal keys of several servers are used, several.
    jobs: FxHashMap<(ProcessId, Identity), Vec<(queue::Place, CallId)>>,
    /// Of how many jobs, by age.
    taken: VecDeque<(ProcessId, Identity, CallId)>,
    answers: FxHashMap<Partition, VecDeque<Answer>>,
    /// Of how many answers, by age.
    answered: VecDeque<Partition>,
    /// By process and context.
    handlers: FxHashMap<(ProcessId, u64), Handler>,
    next: u64,
}

impl Deliveries {
    /// A message was delivered.
    pub(super) fn came(&mut self, place: Place, connection: SocketId, call: CallId) {
        let known = self.amqp.entry(place).or_default();
        // A channel's number, and with it its tags, may be given anew.
        known.retain(|(other, _)| *other != connection);
        known.push((connection, call));
        self.order.push_back((place, call));
        if self.order.len() > MAX_DELIVERIES
            && let Some((place, call)) = self.order.pop_front()
            && let Some(known) = self.amqp.get_mut(&place)
        {
            known.retain(|(_, other)| *other != call);
            if known.is_empty() {
                self.amqp.remove(&place);
            }
        }
    }

    /// The call by which a message came; `None`: it isn't known, or could be another connection's.
    fn delivered(&self, place: Place, connection: Option<SocketId>) -> Option<CallId> {
        let known = self.amqp.get(&place)?;
        match (connection, known.as_slice()) {
            (Some(connection), _) => {
                known.iter().find(|(other, _)| *other == connection).map(|(_, call)| *call)
            }
            (None, [(_, call)]) => Some(*call),
            (None, _) => None,
        }
    }

    /// A job was taken from a queue of this place's.
    pub(super) fn job_came(
        &mut self,
        process: ProcessId,
        place: queue::Place,
        job: Identity,
        call: CallId,
    ) {
        let known = self.jobs.entry((process, job)).or_default();
        // It is tried again.
        known.retain(|(other, _)| *other != place);
        known.push((place, call));
        self.taken.push_back((process, job, call));
        if self.taken.len() > MAX_JOBS
            && let Some((process, job, call)) = self.taken.pop_front()
            && let Some(known) = self.jobs.get_mut(&(process, job))
        {
            known.retain(|(_, other)| *other != call);
            if known.is_empty() {
                self.jobs.remove(&(process, job));
            }
        }
    }

    /// The call by which a job was taken; `None`: it isn't known, or could be another server's.
    fn job(&self, process: ProcessId, job: Identity) -> Option<CallId> {
        match self.jobs.get(&(process, job))?.as_slice() {
            [(_, call)] => Some(*call),
            _ => None,
        }
    }

    /// As [`Deliveries::job`], of one that is worked on once.
    pub(super) fn job_begun(&mut self, process: ProcessId, job: Identity) -> Option<CallId> {
        let found = self.job(process, job)?;
        self.jobs.remove(&(process, job));
        Some(found)
    }

    /// An answer brought messages. To be told when its topic is named.
    pub(super) fn answered(&mut self, exchange: &Exchange) {
        let (Content::Kafka(call), Some((_, Outcome::Kafka(End::Fetched(delivered))))) =
            (&exchange.content, &exchange.end)
        else {
            return;
        };
        let &Delivered { partition, first_offset, next_offset, .. } = &**delivered;
        let (Some(topic), Some(first), Some(next)) = (&call.topic, first_offset, next_offset)
        else {
            return;
        };
        let partition = (exchange.process, Arc::clone(topic), partition);
        let answers = self.answers.entry(partition.clone()).or_default();
        answers.push_back(Answer { first, next, exchange: exchange.clone() });
        if answers.len() > MAX_ANSWERS_OF_PARTITION {
            answers.pop_front();
        }
        self.answered.push_back(partition);
        if self.answered.len() > MAX_ANSWERS
            && let Some(partition) = self.answered.pop_front()
            && let Some(answers) = self.answers.get_mut(&partition)
        {
            // As many are left as are counted, or fewer.
            answers.pop_front();
            if answers.is_empty() {
                self.answers.remove(&partition);
            }
        }
    }

    /// The answer that brought these, the latest if they came again.
    fn answer(&self, partition: &Partition, first: i64, last: i64) -> Option<&Exchange> {
        let answers = self.answers.get(partition)?;
        let found = answers.iter().rev().find(|it| it.first <= first && last < it.next)?;
        Some(&found.exchange)
    }

    /// The process is gone.
    pub(super) fn forget(&mut self, process: ProcessId) {
        self.amqp.retain(|(other, ..), _| *other != process);
        self.answers.retain(|(other, ..), _| *other != process);
        self.jobs.retain(|(other, _), _| *other != process);
        self.handlers.retain(|(other, _), _| *other != process);
    }
}

impl Stages {
    /// A handler began or ended.
    pub(super) fn handler(&mut self, work: Work) {
        match work {
            Work::Began(Handling { process, context, connection, delivery, at_ns }) => {
                match delivery {
                    Delivery::Amqp { channel, tag } => {
                        let place = (process, channel, tag);
                        if let Some(call) = self.deliveries.delivered(place, connection) {
                            self.engine.handled_in(call, context, at_ns);
                        }
                    }
                    Delivery::Kafka { topic, partition, first, last } => {
                        let partition = (process, Arc::from(topic), partition);
                        self.handler_began(partition, context, first, last, at_ns);
                    }
                    Delivery::Job { queue, id } => {
                        let job = queue::bull_job(&queue, &id);
                        if let Some(call) = self.deliveries.job(process, job) {
                            self.engine.handled_in(call, context, at_ns);
                        }
                    }
                }
            }
            Work::Ended { process, context, at_ns } => {
                self.handler_ended((process, context), at_ns);
            }
        }
    }

    fn handler_began(
        &mut self,
        partition: Partition,
        context: u64,
        first: i64,
        last: i64,
        at_ns: u64,
    ) {
        let process = partition.0;
        // Of one partition they come one after the other. Not every library tells the end.
        let before = self.deliveries.handlers.iter().find(|(_, it)| it.partition == partition);
        if let Some((&key, _)) = before {
            self.handler_ended(key, at_ns);
        }
        let Some(exchange) = self.deliveries.answer(&partition, first, last) else { return };
        let (Content::Kafka(call), Some(socket)) = (&exchange.content, &exchange.socket) else {
            return;
        };
        if self.deliveries.handlers.len() >= MAX_HANDLERS {
            return;
        }
        let (cookie, wanted) = (socket.cookie, exchange.settings.protocols.kafka);
        let linked = exchange.settings.message_links;
        let alone = call.clone().handles(partition.2, first, last);
        let mut receipts = Vec::new();
        alone.receipts(socket, partition.2, first..last.saturating_add(1), at_ns, &mut |mail| {
            receipts.push(mail);
        });
        let exchange = Exchange {
            content: Content::Kafka(Box::new(alone)),
            first: Mark { at_ns, ..Mark::default() },
            request_last: None,
            request_bytes: None,
            response_first: None,
            end: None,
            connect_ns: None,
            wall: self.wall,
            begun_by_ns: None,
            over_by_ns: None,
            ..exchange.clone()
        };
        self.deliveries.next += 1;
        let ordinal = self.deliveries.next;
        let Some(id) = self.exchanges.enter((NOWHERE, ordinal), exchange) else { return };
        self.books.entry(process).or_default().calls += 1;
        self.engine.started(CallStarted {
            id,
            process,
            socket: SocketId(cookie),
            role: Role::Client,
            task: Task { tid: 0, context: 0, blocking: false },
            at_ns,
            offset: 0,
            remote: None,
            incidental: true,
            receives: true,
        });
        if linked {
            self.engine.links_only(id);
        }
        self.engine.handled_in(id, context, at_ns);
        for mail in receipts {
            post(&mut self.engine, id, mail);
        }
        if !wanted {
            self.engine.unwanted(id);
        }
        let handler = Handler { ordinal, partition, began_ns: at_ns };
        self.deliveries.handlers.insert((process, context), handler);
    }

    fn handler_ended(&mut self, key: (ProcessId, u64), at_ns: u64) {
        let Some(handler) = self.deliveries.handlers.remove(&key) else { return };
        let Some((id, exchange)) = self.exchanges.ends((NOWHERE, handler.ordinal)) else { return };
        let at_ns = at_ns.max(handler.began_ns);
        let last = Mark { at_ns, ..Mark::default() };
        exchange.end = Some((last, Outcome::Kafka(End::Answered)));
        self.engine.ended(CallEnded { id, at_ns });
    }

    /// Handlers whose end isn't told have their spans all the same.
    pub(super) fn end_handlers(&mut self, now_ns: u64) {
        let since = now_ns.saturating_sub(MAX_HANDLING_NS);
        let late = self.deliveries.handlers.iter().filter(|(_, it)| it.began_ns < since);
        let late: Vec<_> = late.map(|(key, _)| *key).collect();
        late.into_iter().for_each(|key| self.handler_ended(key, now_ns));
    }
}
