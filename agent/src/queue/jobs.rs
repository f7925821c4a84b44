//! Jobs that were taken and are not over: found by whatever names them, on any connection of any process.
//!
//! Knows when a job's end is told, and which lists are queues; the span is made elsewhere.

use std::collections::VecDeque;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Fate, Identity, Scope, System, Until, Work};
use crate::call::{MessageKey, ProcessId};
use crate::capture::Socket;

/// Jobs followed at most. Of more the oldest end untold.
const MAX_JOBS: usize = 65_536;

/// Lists that are known to be queues, queues that keep results, and jobs that were acknowledged.
const MAX_KNOWN: usize = 16_384;

/// How long after its acknowledgement a job's result may come, where none was seen of its queue yet.
const RESULT_WAIT_NS: u64 = 2_000_000_000;

/// How long a job is followed of which nothing more is told.
const MAX_LIFE_NS: u64 = 3_600_000_000_000;

/// The server and the database that a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    server: Option<(IpAddr, u16, u32)>,
    database: Option<u32>,
    /// The connection, where not all of that is known: its names mean the same on it, whatever they mean elsewhere.
    connection: Option<u64>,
}

impl Place {
    /// No place in particular.
    pub const fn anywhere() -> Self {
        Self { server: None, database: None, connection: None }
    }

    /// One that nothing else has: a call's number.
    pub const fn alone(number: u64) -> Self {
        Self { server: None, database: None, connection: Some(number) }
    }

    /// At the other end of a connection.
    pub fn of(connection: u64, socket: Option<&Socket>, database: Option<u32>) -> Self {
        let server = socket.and_then(|socket| {
            let (_, server) = socket.addresses?;
            let ip = server.ip().to_canonical();
            // Every namespace has its own.
            Some((ip, server.port(), if ip.is_loopback() { socket.net_namespace } else { 0 }))
        });
        let is_known = server.is_some() && database.is_some();
        Self { server, database, connection: (!is_known).then_some(connection) }
    }

    /// The key of what is known so there; `None`: it may be something else's, too.
    pub fn key(&self, identity: Identity) -> Option<MessageKey> {
        let Identity { key, scope } = identity;
        Some(match scope {
            Scope::Anywhere => key,
            Scope::Server => MessageKey::of((key, self.server?)),
            Scope::Database => MessageKey::of((key, self.server?, self.database?)),
        })
    }

    /// The key of a job that is under way: of one whose place isn't known whole, on its connection alone.
    pub fn handle(&self, identity: Identity) -> Option<MessageKey> {
        let on_connection = || Some(MessageKey::of((identity.key, "connection", self.connection?)));
        self.key(identity).or_else(on_connection)
    }
}

#[derive(Debug)]
struct Job {
    process: ProcessId,
    connection: u64,
    since_ns: u64,
    system: System,
    /// What is not settled of it.
    left: Vec<MessageKey>,
    /// All that it is named by is one job.
    single: bool,
    until: Until,
    /// What its queue is known by, of a system whose acknowledgement may precede the work.
    acknowledges: Option<MessageKey>,
    acknowledged_ns: Option<u64>,
}

/// A job that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Who took it.
    pub process: ProcessId,
    /// The connection that it was taken from.
    pub connection: u64,
    /// Its number.
    pub number: u64,
    /// Whose queue it was on.
    pub system: System,
}

/// A job's end.
#[derive(Debug, PartialEq, Eq)]
pub struct Over {
    /// The connection that it was taken from.
    pub connection: u64,
    /// Its number.
    pub job: u64,
    /// What became of it.
    pub fate: Fate,
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
}

/// All that are followed.
#[derive(Debug, Default)]
pub struct Jobs {
    open: FxHashMap<u64, Job>,
    order: VecDeque<u64>,
    /// Where several have one name, as tries at one task have, they end in the order in which they were taken.
    by_name: FxHashMap<MessageKey, Vec<u64>>,
    /// Jobs that end when their connection asks again.
    asking: FxHashMap<u64, Vec<u64>>,
    /// Jobs that were acknowledged and not over.
    acknowledged: VecDeque<u64>,
    queues: FxHashSet<MessageKey>,
    /// Queues of which results are written.
    results: FxHashSet<MessageKey>,
    /// Jobs whose acknowledgement was taken for their end, with their queues.
    past: FxHashMap<MessageKey, MessageKey>,
    next: u64,
}

impl Jobs {
    /// The number that the next job will have.
    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A job was taken. Returns the one that is given up for it, if any.
    pub fn taken(
        &mut self,
        number: u64,
        process: ProcessId,
        connection: u64,
        place: &Place,
        work: &Work,
        at_ns: u64,
    ) -> Option<Over> {
        let left: Vec<MessageKey> =
            work.handles.iter().filter_map(|handle| place.handle(*handle)).collect();
        for name in &left {
            self.by_name.entry(*name).or_default().push(number);
        }
        if matches!(work.until, Until::Next | Until::Either) {
            self.asking.entry(connection).or_default().push(number);
        }
        let acknowledges = (work.system == System::Celery).then(|| MessageKey::of(&work.queue));
        let single = work.id.is_some();
        let (until, acknowledged_ns) = (work.until, None);
        let since_ns = at_ns;
        let job = Job {
            process,
            connection,
            since_ns,
            system: work.system,
            left,
            single,
            until,
            acknowledges,
            acknowledged_ns,
        };
        self.open.insert(number, job);
        self.order.push_back(number);
        let oldest = if self.order.len() > MAX_JOBS { self.order.pop_front() } else { None };
        oldest.and_then(|oldest| self.end(oldest, Fate::Untold, at_ns))
    }

    /// The job that a command names which says what became of it; `None` where it could be one of several.
    pub fn of(&self, name: MessageKey) -> Option<Open> {
        let &[number] = self.by_name.get(&name)?.as_slice() else { return None };
        let &Job { process, connection, system, .. } = self.open.get(&number)?;
        Some(Open { process, connection, number, system })
    }

    /// A command says what became of a job.
    pub fn settled(&mut self, name: MessageKey, fate: Fate, at_ns: u64) -> Option<Over> {
        if fate == Fate::Begun {
            return None;
        }
        let Some(&number) = self.by_name.get(&name).and_then(|jobs| jobs.first()) else {
            if fate != Fate::Acknowledged
                && let Some(queue) = self.past.remove(&name)
            {
                insert(&mut self.results, queue);
            }
            return None;
        };
        let job = self.open.get_mut(&number)?;
        if at_ns < job.since_ns {
            return None;
        }
        if let Some(queue) = job.acknowledges {
            if fate == Fate::Acknowledged {
                job.acknowledged_ns = Some(at_ns);
                self.acknowledged.push_back(number);
                return None;
            }
            insert(&mut self.results, queue);
        }
        if !job.single {
            job.left.retain(|left| *left != name);
            unname(&mut self.by_name, name, number);
            if !job.left.is_empty() {
                return None;
            }
        }
        self.end(number, fate, at_ns)
    }

    /// The number of the job of this name.
    pub fn named(&self, name: MessageKey) -> Option<(u64, u64)> {
        let number = *self.by_name.get(&name)?.last()?;
        Some((self.open.get(&number)?.connection, number))
    }

    /// A connection asks for work (again), from these queues; or it is over.
    pub fn asked(&mut self, connection: u64, at_ns: u64, over: &mut impl FnMut(Over)) {
        for number in self.asking.remove(&connection).unwrap_or_default() {
            over_all(self.end(number, Fate::Untold, at_ns), over);
        }
    }

    /// Somebody takes work from there.
    pub fn is_queue(&mut self, queue: MessageKey) {
        insert(&mut self.queues, queue);
    }

    /// Whether somebody does.
    pub fn has_queue(&self, queue: MessageKey) -> bool {
        self.queues.contains(&queue)
    }

    /// A process is gone, and what it had taken is not worked on.
    pub fn gone(&mut self, process: ProcessId, at_ns: u64, over: &mut impl FnMut(Over)) {
        let is_its = |(number, job): (&u64, &Job)| (job.process == process).then_some(*number);
        let its: Vec<u64> = self.open.iter().filter_map(is_its).collect();
        for number in its {
            over_all(self.end(number, Fate::Untold, at_ns), over);
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now_ns: u64, over: &mut impl FnMut(Over)) {
        while let Some(&number) = self.order.front() {
            let young = |job: &Job| now_ns.saturating_sub(job.since_ns) < MAX_LIFE_NS;
            if self.open.get(&number).is_some_and(young) {
                break;
            }
            self.order.pop_front();
            over_all(self.end(number, Fate::Untold, now_ns), over);
        }
        while let Some(&number) = self.acknowledged.front() {
            let job = self.open.get(&number);
            let (Some(job), Some(at_ns)) = (job, job.and_then(|job| job.acknowledged_ns)) else {
                self.acknowledged.pop_front();
                continue;
            };
            if now_ns.saturating_sub(at_ns) < RESULT_WAIT_NS {
                break;
            }
            self.acknowledged.pop_front();
            let Some(queue) = job.acknowledges.filter(|queue| !self.results.contains(queue)) else {
                continue;
            };
            if self.past.len() >= MAX_KNOWN {
                self.past.clear();
            }
            self.past.extend(job.left.iter().map(|name| (*name, queue)));
            over_all(self.end(number, Fate::Acknowledged, at_ns), over);
        }
    }

    fn end(&mut self, number: u64, fate: Fate, at_ns: u64) -> Option<Over> {
        let Job { connection, left, until, .. } = self.open.remove(&number)?;
        for name in left {
            unname(&mut self.by_name, name, number);
        }
        if matches!(until, Until::Next | Until::Either)
            && let Some(asking) = self.asking.get_mut(&connection)
        {
            asking.retain(|other| *other != number);
        }
        Some(Over { connection, job: number, fate, at_ns })
    }
}

fn over_all(ended: Option<Over>, over: &mut impl FnMut(Over)) {
    if let Some(ended) = ended {
        over(ended);
    }
}

fn unname(by_name: &mut FxHashMap<MessageKey, Vec<u64>>, name: MessageKey, number: u64) {
    let Some(jobs) = by_name.get_mut(&name) else { return };
    jobs.retain(|job| *job != number);
    if jobs.is_empty() {
        by_name.remove(&name);
    }
}

/// Beyond its bound all is forgotten: it is soon known again.
fn insert(known: &mut FxHashSet<MessageKey>, key: MessageKey) {
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(key);
}
