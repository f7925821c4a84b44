//! Workers of made-up job queues, whose every call's job is known: pools of threads or children whose jobs another
//! thread takes, and threads that take their own.

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Config, Engine, MS, Placement, RandomIds, Score, advance, delivered};
use crate::call::{CallEnded, CallId, CallStarted, ParentStatus, ProcessId, Role, SocketId, Task};
use crate::correlation::Begins;

const MASTER: ProcessId = ProcessId(1);

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    /// The thread that takes the jobs.
    Own,
    /// So many children, each with a thread.
    Children(u32),
    /// So many tasks that one thread runs in turns, and takes jobs for.
    Greenlets(u32),
}

/// What shows that work on a job begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    /// It is acknowledged, by the one that took it (of greenlets, by each), so many ms later at most.
    Acknowledges(u64),
    /// Who works says so.
    Begins,
}

#[derive(Clone, Debug)]
struct System {
    pool: Pool,
    says: Says,
    jobs: u32,
    /// Jobs come faster than they are worked on.
    backlog: bool,
    /// Of a hundred jobs, so many have calls after their settlement.
    tails: u32,
    lossy: bool,
    /// Of a hundred jobs, so many aren't seen, or aren't seen to end.
    silent: u32,
}

#[derive(Clone, Debug)]
enum Event {
    Taken(CallStarted),
    Works(ProcessId, u32, CallId, Begins, u64),
    Settled(ProcessId, u32, CallId, u64),
    Own(CallStarted, u64),
    Lost(ProcessId, u64),
}

struct Run<'a> {
    system: &'a System,
    rng: &'a mut SmallRng,
    events: Vec<(u64, Event)>,
    truth: BTreeMap<CallId, CallId>,
    /// Jobs of which nothing is told, or everything but the end.
    silent: BTreeMap<CallId, bool>,
    next: u64,
}

impl Run<'_> {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..high)
    }

    fn tell(&mut self, at: u64, event: Event) {
        let delivered = delivered(self.rng, at);
        self.events.push((delivered, event));
    }

    fn call(&mut self, process: ProcessId, tid: u32, at_ns: u64) -> CallStarted {
        self.next += 1;
        CallStarted {
            id: CallId(self.next),
            process,
            socket: SocketId(100_000 + self.next),
            role: Role::Client,
            task: Task { tid, context: 0, blocking: false },
            at_ns,
            offset: self.next << 8,
            remote: None,
            incidental: false,
            receives: false,
        }
    }

    fn take(&mut self, at: u64) -> CallId {
        let taken = self.call(MASTER, 1, at);
        let id = taken.id;
        let told = CallStarted { incidental: true, receives: true, ..taken };
        // Whoever says something of it says it later.
        self.events.push((at, Event::Taken(told)));
        if self.between(0, 100) < u64::from(self.system.silent) {
            let whole = self.between(0, 2) == 0;
            self.silent.insert(id, whole);
            if whole {
                self.events.pop();
            }
        }
        id
    }

    /// Works on one from `at` on. Returns when it is free again.
    fn work(&mut self, job: CallId, process: ProcessId, tid: u32, at: u64) -> u64 {
        let mut at = at;
        let silent = self.silent.get(&job).copied();
        match self.system.says {
            _ if silent == Some(true) => {}
            Says::Nothing => {}
            Says::Begins => self.tell(at, Event::Works(process, tid, job, Begins::Sure, at)),
            Says::Acknowledges(late) => {
                let own = matches!(self.system.pool, Pool::Own | Pool::Greenlets(_));
                let acknowledged = if own { at } else { at + self.between(0, late * MS) };
                let event = Event::Works(MASTER, 1, job, Begins::Acknowledged, acknowledged);
                self.tell(acknowledged, event);
            }
        }
        at += self.between(1, MS);
        let (calls, longest) =
            (self.between(0, 4), if self.between(0, 50) == 0 { 3000 } else { 9 });
        for _ in 0..calls {
            at = self.calls(job, process, tid, at, longest);
        }
        if silent.is_none() {
            self.tell(at, Event::Settled(process, tid, job, at));
        }
        at += self.between(1, MS);
        if self.between(0, 100) < u64::from(self.system.tails) {
            at = self.calls(job, process, tid, at, 5);
        }
        at
    }

    fn calls(&mut self, job: CallId, process: ProcessId, tid: u32, at: u64, longest: u64) -> u64 {
        let call = self.call(process, tid, at);
        self.truth.insert(call.id, job);
        let end = at + self.between(1, longest * MS);
        self.tell(at, Event::Own(call, end));
        end + self.between(1, MS)
    }

    /// When jobs come.
    fn arrivals(&mut self) -> VecDeque<u64> {
        let apart = if self.system.backlog { MS } else { 60 * MS };
        let mut at = 2_000 * MS;
        let mut next = || {
            at += self.rng.random_range(1..2 * apart);
            at
        };
        (0..self.system.jobs).map(|_| next()).collect()
    }

    fn run(&mut self) {
        let arrivals = self.arrivals();
        if self.system.pool == Pool::Own {
            let mut free = 0;
            for at in arrivals {
                let taken = at.max(free);
                let job = self.take(taken);
                let began = taken + self.between(1, MS);
                free = self.work(job, MASTER, 1, began) + self.between(1, MS);
            }
            return;
        }
        let (count, is_forked) = match self.system.pool {
            Pool::Children(count) => (count, true),
            Pool::Own | Pool::Greenlets(1..) => (5, false),
            Pool::Greenlets(0) => return,
        };
        let mut free: Vec<u64> = vec![0; count as usize];
        for at in arrivals {
            // It is taken at once, and begun when a worker is free.
            let job = self.take(at);
            let (worker, since) = free.iter().copied().enumerate().min_by_key(|it| it.1).unwrap();
            let began = at.max(since) + self.between(1, MS);
            let number = worker as u32;
            let (process, tid) = if is_forked {
                (ProcessId(10 + u64::from(number)), 10 + number)
            } else {
                (MASTER, 1)
            };
            free[worker] = self.work(job, process, tid, began);
        }
        if self.system.lossy {
            let end = free.iter().copied().max().unwrap_or(0);
            for _ in 0..3 {
                let at = self.between(2_000 * MS, end.max(3_000 * MS));
                let process = ProcessId(10 + self.between(0, u64::from(count)));
                // Of all that it said shortly before, nothing came.
                self.events.retain(|(_, event)| match event {
                    Event::Settled(who, .., when) | Event::Works(who, .., when) => {
                        *who != process || !(at - 40 * MS..at).contains(when)
                    }
                    _ => true,
                });
                self.events.push((at, Event::Lost(process, at)));
            }
        }
    }
}

fn judge(system: &System, seed: u64) -> Score {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let ids = RandomIds(SmallRng::seed_from_u64(seed));
    let (events, truth, silent) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut run = Run { system, rng, events, truth, silent, next: 0 };
    run.run();
    let Run { mut events, truth, .. } = run;
    events.sort_by_key(|(delivered, _)| *delivered);
    let mut engine = Engine::new(Config::default(), Box::new(ids));
    engine.process_started(MASTER);
    (0..8).for_each(|child| engine.forked(ProcessId(10 + child), MASTER));
    let mut placed: BTreeMap<CallId, Placement> = BTreeMap::new();
    let mut tick = 0;
    for (delivered, event) in events {
        while tick < delivered {
            advance(&mut engine, tick, &mut placed);
            tick += 40 * MS;
        }
        match event {
            Event::Taken(call) => {
                let id = call.id;
                engine.started(call);
                engine.takes(id, system.pool != Pool::Own || system.silent > 0);
            }
            Event::Works(process, tid, id, begins, at) => {
                engine.works(process, tid, id, begins, at);
            }
            Event::Settled(process, tid, id, at_ns) => {
                engine.worked(process, tid, id, at_ns);
                engine.ended(CallEnded { id, at_ns });
            }
            Event::Own(call, at_ns) => {
                let id = call.id;
                engine.started(call);
                engine.by_thread(id);
                engine.ended(CallEnded { id, at_ns });
            }
            Event::Lost(process, at) => engine.messages_lost(process, at),
        }
    }
    advance(&mut engine, tick + 100_000 * MS, &mut placed);
    let books = engine.books();
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    let mut score = Score::default();
    for (call, job) in truth {
        let placement = &placed[&call];
        let withheld = matches!(placement.status, ParentStatus::Withheld(_));
        assert!(placement.parent_call.is_some() || withheld, "{placement:?}");
        score.found(placement.parent_call, Some(job));
    }
    score
}

fn survey(system: &System) -> Score {
    (0..12).map(|seed| judge(system, seed)).fold(Score::default(), |sum, score| sum.with(&score))
}

fn system(pool: Pool, says: Says) -> System {
    System { pool, says, jobs: 120, backlog: false, tails: 0, lossy: false, silent: 0 }
}

#[test]
fn a_thread_that_takes_its_own_jobs_is_certain() {
    for says in [Says::Nothing, Says::Acknowledges(5), Says::Begins] {
        for backlog in [false, true] {
            let score = survey(&System { backlog, ..system(Pool::Own, says) });
            assert_eq!((score.wrong, score.none), (0, 0), "{says:?} {score:?}");
        }
    }
}

#[test]
fn children_that_say_what_they_begin_are_certain() {
    let score = survey(&System { backlog: true, ..system(Pool::Children(4), Says::Begins) });
    assert_eq!((score.wrong, score.none), (0, 0), "{score:?}");
}

#[test]
fn children_are_never_wrong_and_certain_once_their_job_was_acknowledged() {
    for says in [Says::Nothing, Says::Acknowledges(5)] {
        for tails in [0, 50, 100] {
            for backlog in [false, true] {
                let system = System { backlog, tails, ..system(Pool::Children(4), says) };
                let score = survey(&system);
                assert_eq!(score.wrong, 0, "{system:?} {score:?}");
                assert_eq!(score.right > 0, says != Says::Nothing, "{system:?} {score:?}");
            }
        }
    }
}

#[test]
fn tails_of_a_thread_that_takes_its_own_jobs_are_never_wrong() {
    for says in [Says::Nothing, Says::Acknowledges(5), Says::Begins] {
        let score = survey(&System { tails: 50, backlog: true, ..system(Pool::Own, says) });
        assert_eq!(score.wrong, 0, "{says:?} {score:?}");
    }
}

#[test]
fn greenlets_and_losses_make_no_wrong_parent() {
    let greenlets = system(Pool::Greenlets(5), Says::Acknowledges(5));
    for backlog in [false, true] {
        let score = survey(&System { backlog, ..greenlets.clone() });
        assert_eq!(score.wrong, 0, "{score:?}");
    }
    for says in [Says::Nothing, Says::Acknowledges(5), Says::Begins] {
        for tails in [0, 100] {
            let system = System { lossy: true, tails, ..system(Pool::Children(4), says) };
            let score = survey(&system);
            assert_eq!(score.wrong, 0, "{system:?} {score:?}");
        }
    }
}

#[test]
fn jobs_of_which_little_is_seen_make_no_wrong_parent() {
    for pool in [Pool::Own, Pool::Children(4)] {
        for says in [Says::Nothing, Says::Acknowledges(5), Says::Begins] {
            for backlog in [false, true] {
                let system = System { silent: 30, backlog, ..system(pool, says) };
                let score = survey(&system);
                assert_eq!(score.wrong, 0, "{system:?} {score:?}");
                assert_eq!(score.right > 0, says != Says::Nothing, "{system:?} {score:?}");
            }
        }
    }
}
