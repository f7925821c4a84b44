//! Jobs on queues: what connections tell of them becomes calls that begin where work was taken and end where it is
//! settled, perhaps on another connection.

use super::handling::NOWHERE;
use super::{Stages, post};
use crate::call::{MessageKey, ProcessId, Receipt, Role};
use crate::capture::{JobBegun, Slot};
use crate::connection::{Content, Mail, Mark, Outcome};
use crate::correlation;
use crate::exchange::Exchange;
use crate::queue::{
    self, Fate, Identity, Notice, Open, Over, Place, System, Until, Work, celerys_begun,
    celerys_task,
};

/// How long the record of a job may come before that of its taking.
const JOB_WAIT_NS: u64 = 200_000_000;

/// Jobs that wait so, at most.
const MAX_WAITING: usize = 4096;

/// A pool's child begins with a job whose taking was not told yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begins {
    process: ProcessId,
    job: Identity,
    context: u64,
    at_ns: u64,
}

/// Set in the ordinals of jobs: no connection's exchanges get there.
const JOB: u64 = 1 << 63;

impl Stages {
    /// A connection told something of queues, of this exchange.
    pub(super) fn queue_told(
        &mut self,
        cookie: u64,
        exchange: u64,
        mark: Mark,
        database: Option<u32>,
        notice: Notice,
    ) {
        let Some(connection) = self.connections.get(cookie) else { return };
        // What servers are told is their clients' doing.
        if connection.role != Some(Role::Client) {
            return;
        }
        let place = Place::of(cookie, connection.socket.as_ref(), database);
        match notice {
            Notice::Internal => {
                if let Some(Content::Redis(call)) = self.content((cookie, exchange)) {
                    call.internal = true;
                }
            }
            Notice::Submitted { id, messages } => {
                if let Some(Content::Redis(call)) = self.content((cookie, exchange))
                    && let Some(work) = &mut call.submits
                {
                    work.id = id.or(work.id.take());
                }
                self.submitted(cookie, exchange, &place, &messages);
            }
            Notice::Taken(work) => {
                self.taken(cookie, mark, &place, Box::new(Work { database, ..*work }));
            }
            Notice::Named { job, name } => {
                let found = place.handle(job).and_then(|key| self.jobs.named(key));
                if let Some((connection, number)) = found
                    && let Some(Content::Job(work)) = self.content((connection, JOB | number))
                {
                    work.name.get_or_insert(name);
                }
            }
            Notice::Settled(job, fate) => {
                let process = connection.process;
                let Some(key) = place.handle(job) else { return };
                let named = self.jobs.of(key);
                let over = self.jobs.settled(key, fate.clone(), mark.at_ns);
                if let Some(named) = named {
                    self.worker_told(process, mark, named, &fate, over.is_some());
                }
                over.into_iter().for_each(|over| self.job_over(over, Some(mark)));
            }
            Notice::Asked(queues) => {
                self.takes_jobs(connection.process);
                for key in queues.into_iter().filter_map(|queue| place.key(queue)) {
                    self.jobs.is_queue(key);
                }
                let mut over = Vec::new();
                self.jobs.asked(cookie, mark.at_ns, &mut |job| over.push(job));
                over.into_iter().for_each(|over| self.job_over(over, Some(mark)));
            }
        }
    }

    /// It takes jobs, on which those that it forked may work.
    pub(super) fn takes_jobs(&mut self, process: ProcessId) {
        if !self.takers.insert(process) {
            return;
        }
        let children: Vec<ProcessId> = self
            .selection
            .iter()
            .map(|traced| traced.id)
            .filter(|id| self.selection.parent_of(*id) == Some(process))
            .collect();
        children.into_iter().for_each(|child| self.runtimes.python.works_on_jobs(child));
    }

    /// A pool's child begins with a job.
    pub(super) fn job_begun(&mut self, begun: JobBegun<'_>) {
        if let Some(id) = celerys_begun(begun.content) {
            self.task_begun(begun.slot, id, begun.context, begun.at_ns);
        }
    }

    /// A pool's child begins with the task of this id.
    pub(super) fn task_begun(&mut self, slot: Slot, id: &str, context: u64, at_ns: u64) {
        let Some(traced) = self.selection.by_slot(slot) else { return };
        let begins = Begins { process: traced.id, job: celerys_task(id), context, at_ns };
        if !self.begins(begins) && self.beginning.len() < MAX_WAITING {
            self.beginning.push_back(begins);
        }
    }

    /// Whether it is known which job that is.
    fn begins(&mut self, Begins { process, job, context, at_ns }: Begins) -> bool {
        let Some(parent) = self.selection.parent_of(process) else { return true };
        let open = Place::anywhere().key(job).and_then(|key| self.jobs.of(key));
        let taken = open.filter(|open| open.process == parent);
        let taken = taken.and_then(|open| self.exchanges.id((open.connection, JOB | open.number)));
        let Some(id) = taken.or_else(|| self.deliveries.job_begun(parent, job)) else {
            return false;
        };
        self.engine.worked_in(id, process, context, at_ns);
        true
    }

    /// Looks once more for jobs that were not known.
    pub(super) fn look_for_jobs(&mut self, now_ns: u64) {
        for _ in 0..self.beginning.len() {
            let Some(begins) = self.beginning.pop_front() else { return };
            if !self.begins(begins) && now_ns.saturating_sub(begins.at_ns) < JOB_WAIT_NS {
                self.beginning.push_back(begins);
            }
        }
    }

    fn content(&mut self, place: crate::exchange::Place) -> Option<&mut Content> {
        self.exchanges.at(place).map(|exchange| &mut exchange.content)
    }

    /// A call hands over these messages.
    pub(super) fn submitted(
        &mut self,
        cookie: u64,
        exchange: u64,
        place: &Place,
        messages: &[Identity],
    ) {
        let Some(id) = self.exchanges.id((cookie, exchange)) else { return };
        for key in messages.iter().filter_map(|message| place.key(*message)) {
            self.engine.sent(id, key);
        }
    }

    /// A push is one to a queue only if somebody takes from there.
    pub(super) fn confirm(&self, exchange: &mut Exchange) {
        let Content::Redis(call) = &mut exchange.content else { return };
        let Some(queue) = call.submits.as_ref().and_then(|work| work.only_if_taken) else { return };
        let database = match &exchange.end {
            Some((_, Outcome::Redis { database, .. })) => *database,
            _ => None,
        };
        let key = Place::of(NOWHERE, exchange.socket.as_ref(), database).key(queue);
        if !key.is_some_and(|key| self.jobs.has_queue(key)) {
            call.submits = None;
        }
    }

    fn taken(&mut self, cookie: u64, mark: Mark, place: &Place, work: Box<Work>) {
        let Some(connection) = self.connections.get(cookie) else { return };
        let process = connection.process;
        let number = self.jobs.next_number();
        let ordinal = JOB | number;
        let receiver = match (work.broadcast, &work.group) {
            (false, _) => 0,
            (true, Some(group)) => MessageKey::of(group).0,
            (true, None) => cookie,
        };
        let receipts: Vec<Receipt> = work
            .messages
            .iter()
            .filter_map(|message| place.key(*message))
            .map(|message| Receipt { message, receiver, at_ns: mark.at_ns, again: work.again })
            .collect();
        let content = Content::Job(work.clone());
        self.begun(cookie, ordinal, 0, mark, content);
        let Some(id) = self.exchanges.id((cookie, ordinal)) else { return };
        for receipt in receipts {
            post(&mut self.engine, id, Mail::Receives(receipt));
        }
        if work.until == Until::Now {
            return self.ended(cookie, ordinal, mark, Outcome::Job(Fate::Untold));
        }
        if matches!(work.until, Until::Settled | Until::Either) {
            match (work.system, work.handles.first()) {
                // The runtime says which handler works on which.
                (System::Bull | System::BullMq, Some(job)) => {
                    self.engine.handles(id, false);
                    self.deliveries.job_came(process, *place, *job, id);
                }
                (System::Celery | System::Rq, _) => self.engine.takes(id, true),
                (System::Bull | System::BullMq | System::Redis, _) => self.engine.takes(id, false),
            }
        }
        let given_up = self.jobs.taken(number, process, cookie, place, &work, mark.at_ns);
        given_up.into_iter().for_each(|over| self.job_over(over, None));
    }

    /// A thread said something of a job that somebody works on.
    fn worker_told(
        &mut self,
        process: ProcessId,
        Mark { tid, at_ns, .. }: Mark,
        job: Open,
        fate: &Fate,
        is_over: bool,
    ) {
        let Some(id) = self.exchanges.id((job.connection, JOB | job.number)) else { return };
        let is_taker = process == job.process;
        let is_child = self.selection.parent_of(process) == Some(job.process);
        match fate {
            // Others write it too: RQ's status whoever saves the job.
            Fate::Begun if is_taker || is_child => {
                // RQ's worker forks a child for each job.
                let is_own = job.system == System::Rq && is_child;
                let begins =
                    if is_own { correlation::Begins::Alone } else { correlation::Begins::Sure };
                self.engine.works(process, tid, id, begins, at_ns);
            }
            // Others do so for jobs that nobody has begun, to give them out again.
            Fate::Acknowledged if is_taker && !is_over => {
                self.engine.works(process, tid, id, correlation::Begins::Acknowledged, at_ns);
            }
            Fate::Done | Fate::Failed { .. } if is_over => {
                self.engine.worked(process, tid, id, at_ns);
            }
            Fate::Begun | Fate::Done | Fate::Failed { .. } | Fate::Acknowledged | Fate::Untold => {}
        }
    }

    fn job_over(&mut self, Over { connection, job, fate, at_ns }: Over, mark: Option<Mark>) {
        let mark = Mark { at_ns, ..mark.unwrap_or_default() };
        self.ended(connection, JOB | job, mark, Outcome::Job(fate));
    }

    /// A connection, or a process, is over: so is what only they would have ended.
    pub(super) fn jobs_left(&mut self, left: impl FnOnce(&mut queue::Jobs, &mut dyn FnMut(Over))) {
        let mut over = Vec::new();
        left(&mut self.jobs, &mut |job| over.push(job));
        over.into_iter().for_each(|over| self.job_over(over, None));
    }
}
