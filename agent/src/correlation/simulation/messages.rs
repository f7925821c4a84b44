//! Consumers with known causes: what is done for which message, however messages are read, settled and handled.
//!
//! The disturbances are those of `world`; besides, messages are read in the middle of other messages' handling, and
//! a thread has more of them than it handles at a time.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::*;
use super::{Score, advance, delivered};
use crate::call::{ParentStatus, Task};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const CONSUMER: ProcessId = ProcessId(1);

/// When a handler settles its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settles {
    Last,
    First,
    /// Between two calls.
    Within,
    /// Together with nine others.
    Tenth,
    Never,
}

/// Who handles messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// Threads, each on a connection of its own, one message after the other.
    Threads(u32),
    /// Tasks of one loop, all at once, which nothing tells apart.
    Tasks,
    /// The same, and each says which message it handles.
    Told,
}

#[derive(Clone, Debug)]
struct System {
    runs: Runs,
    settles: Settles,
    prefetch: usize,
    messages: u32,
    /// Messages come faster than they are handled.
    backlog: bool,
    /// Handlers publish and wait for the confirm: what comes meanwhile is read.
    publishes: bool,
    /// Handlers that make no call.
    idle_percent: u32,
    /// The process makes calls of its own on a thread of their own.
    timers: bool,
    /// It serves requests, too, on threads of their own.
    serves: bool,
    /// Deliveries are lost, and it is told that something is.
    lossy: bool,
}

impl Default for System {
    fn default() -> Self {
        Self {
            runs: Runs::Threads(1),
            settles: Settles::Last,
            prefetch: 1,
            messages: 80,
            backlog: false,
            publishes: false,
            idle_percent: 10,
            timers: false,
            serves: false,
            lossy: false,
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Started(CallStarted),
    Message(CallStarted, bool),
    Own(CallStarted),
    Ended(CallEnded),
    Told(CallId, u64, u64),
    Lost(u64),
}

struct Run<'a> {
    system: &'a System,
    rng: &'a mut SmallRng,
    events: Vec<(u64, Event)>,
    /// Whose each call is.
    truth: BTreeMap<CallId, Option<CallId>>,
    next: u64,
}

/// A consumer's side of a connection.
struct Channel {
    socket: SocketId,
    tid: u32,
    /// When messages arrive that were not read yet.
    arriving: VecDeque<u64>,
    /// Read and not handled yet.
    read: VecDeque<CallId>,
    unsettled: Vec<CallId>,
    /// When the last message of it was told: those of one connection are told in order.
    told: u64,
}

impl Run<'_> {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..high)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    fn tell(&mut self, at: u64, event: Event) -> u64 {
        let delivered = delivered(self.rng, at);
        self.events.push((delivered, event));
        delivered
    }

    fn over(&mut self, id: CallId, at: u64, told: u64) {
        let delivered = (at + self.between(0, MS)).max(told + 1);
        self.events.push((delivered, Event::Ended(CallEnded { id, at_ns: at })));
    }

    fn call(&mut self, socket: Option<SocketId>, role: Role, task: Task, at: u64) -> CallStarted {
        self.next += 1;
        CallStarted {
            id: CallId(self.next),
            process: CONSUMER,
            socket: socket.unwrap_or(SocketId(100_000 + self.next)),
            role,
            task,
            at_ns: at,
            offset: self.next << 8,
            remote: None,
            incidental: false,
            receives: false,
        }
    }

    fn channel(&mut self, number: u32, share: u32) -> Channel {
        let mut arriving = VecDeque::new();
        let mut at = 2_000 * MS;
        for _ in 0..share {
            arriving.push_back(at);
            let burst = self.system.backlog || self.chance(70);
            at += if burst { self.between(1, 200 * US) } else { self.between(MS, 400 * MS) };
        }
        let socket = SocketId(10 + u64::from(number));
        let (read, unsettled) = (VecDeque::new(), Vec::new());
        Channel { socket, tid: 10 + number, arriving, read, unsettled, told: 0 }
    }

    /// Reads what is there at `at`. The broker gives no more than the prefetch.
    fn read(&mut self, channel: &mut Channel, at: u64) {
        while channel.arriving.front().is_some_and(|arrival| *arrival <= at)
            && channel.unsettled.len() < self.system.prefetch
        {
            channel.arriving.pop_front();
            let task = Task { tid: channel.tid, context: 0, blocking: false };
            let mut call = self.call(Some(channel.socket), Role::Client, task, at);
            call.incidental = true;
            call.receives = true;
            let id = call.id;
            channel.read.push_back(id);
            let automatic = self.system.settles == Settles::Never;
            if !automatic {
                channel.unsettled.push(id);
            }
            if self.system.lossy && self.chance(3) {
                self.tell(at, Event::Lost(at));
                self.truth.insert(id, None);
                continue;
            }
            self.tell(at, Event::Message(call, automatic));
            if let Some((delivered, _)) = self.events.last_mut() {
                channel.told = channel.told.max(*delivered) + 1;
                *delivered = channel.told;
            }
            if automatic {
                self.over(id, at, channel.told);
            }
        }
    }

    fn settle(&mut self, channel: &mut Channel, id: CallId, at: u64) {
        let handled = channel.unsettled.len().saturating_sub(channel.read.len());
        let (settled, rest): (Vec<CallId>, Vec<CallId>) = match self.system.settles {
            Settles::Never => return,
            Settles::Tenth if handled < 10.min(self.system.prefetch) => return,
            Settles::Tenth => {
                let read = &channel.read;
                channel.unsettled.iter().partition(|unsettled| !read.contains(unsettled))
            }
            _ => channel.unsettled.iter().partition(|unsettled| **unsettled == id),
        };
        channel.unsettled = rest;
        for id in settled {
            if !self.truth.contains_key(&id) {
                self.over(id, at, channel.told.max(at));
            }
        }
    }

    /// A call made for a message; when it is over.
    fn work(&mut self, channel: &mut Channel, whose: CallId, at: u64) -> u64 {
        let publishes = self.system.publishes && self.chance(40);
        let socket = publishes.then_some(channel.socket);
        let task = Task { tid: channel.tid, context: 0, blocking: false };
        let call = self.call(socket, Role::Client, task, at);
        let id = call.id;
        self.truth.insert(id, Some(whose));
        let end = at + self.between(100 * US, 4 * MS);
        let own = matches!(self.system.runs, Runs::Threads(_));
        let told = self.tell(at, if own { Event::Own(call) } else { Event::Started(call) });
        self.over(id, end, told);
        if publishes {
            let read = self.between(at, end);
            self.read(channel, read);
        }
        end
    }

    /// One message after the other.
    fn thread(&mut self, channel: &mut Channel) -> u64 {
        let mut at = 2_000 * MS;
        loop {
            let Some(message) = channel.read.pop_front() else {
                let Some(arrival) = channel.arriving.front() else { return at };
                at = at.max(*arrival) + self.between(10 * US, 100 * US);
                self.read(channel, at);
                continue;
            };
            at = self.handle(channel, message, at) + self.between(5 * US, 50 * US);
        }
    }

    fn handle(&mut self, channel: &mut Channel, message: CallId, start: u64) -> u64 {
        let mut at = start + self.between(5 * US, 300 * US);
        let calls = if self.chance(self.system.idle_percent) { 0 } else { self.between(1, 4) };
        let settles = self.system.settles;
        let settle_after = match settles {
            Settles::First => 0,
            Settles::Within => calls / 2,
            _ => calls,
        };
        for number in 0..=calls {
            if number == settle_after {
                if settles != Settles::Never && self.chance(20) {
                    // The library reads while it writes.
                    self.read(channel, at);
                    at += self.between(1, 20 * US);
                }
                self.settle(channel, message, at);
                at += self.between(5 * US, 30 * US);
            }
            if number < calls {
                at = self.work(channel, message, at) + self.between(5 * US, 100 * US);
            }
        }
        at
    }

    /// All at once, on one loop.
    fn tasks(&mut self, channel: &mut Channel) -> u64 {
        let mut last = 0;
        while let Some(arrival) = channel.arriving.front().copied() {
            let at = arrival.max(last) + self.between(10 * US, 100 * US);
            self.read(channel, at);
            last = last.max(at);
            // What the prefetch holds is handled at once, and the next is read when one of it is settled.
            let read: Vec<CallId> = channel.read.drain(..).collect();
            let told = self.system.runs == Runs::Told;
            let mut ends = Vec::new();
            for message in read {
                let context = told.then_some(message.0 + 1_000_000);
                if let Some(context) = context {
                    let delivered = at + 51 * MS;
                    self.events.push((delivered, Event::Told(message, context, at)));
                }
                let mut now = at + self.between(5 * US, 2 * MS);
                if self.system.settles == Settles::First {
                    ends.push((now, message));
                }
                for _ in 0..self.between(0, 4) {
                    let task = Task { tid: 1, context: context.unwrap_or(0), blocking: false };
                    let call = self.call(None, Role::Client, task, now);
                    self.truth.insert(call.id, Some(message));
                    let (id, end) = (call.id, now + self.between(100 * US, 4 * MS));
                    let delivered = self.tell(now, Event::Started(call));
                    self.over(id, end, delivered);
                    now = end + self.between(5 * US, 100 * US);
                }
                if !matches!(self.system.settles, Settles::First | Settles::Never) {
                    ends.push((now, message));
                }
            }
            for (at, message) in ends {
                self.settle(channel, message, at);
                last = last.max(if self.system.settles == Settles::First { 0 } else { at });
            }
        }
        last
    }

    /// Calls and requests of the same process that have nothing to do with messages.
    fn others(&mut self, end: u64) {
        let mut at = self.between(0, 1_900 * MS);
        while self.system.timers && at < end {
            {
                let task = Task { tid: 5, context: 0, blocking: false };
                let call = self.call(None, Role::Client, task, at);
                let id = call.id;
                self.truth.insert(id, None);
                let told = self.tell(at, Event::Own(call));
                self.over(id, at + MS, told);
            }
            at += self.between(10 * MS, 300 * MS);
        }
        at = self.between(0, 1_900 * MS);
        while self.system.serves && at < end {
            {
                let task = Task { tid: 6, context: 0, blocking: true };
                let request = self.call(None, Role::Server, task, at);
                let whose = request.id;
                self.truth.insert(whose, None);
                let told = self.tell(at, Event::Started(request));
                let call = self.call(None, Role::Client, Task { blocking: false, ..task }, at + MS);
                let id = call.id;
                self.truth.insert(id, Some(whose));
                let call_told = self.tell(at + MS, Event::Own(call));
                self.over(id, at + 2 * MS, call_told);
                self.over(whose, at + 3 * MS, told);
            }
            at += self.between(10 * MS, 300 * MS);
        }
    }
}

fn judge(system: &System, seed: u64) -> Score {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let ids = RandomIds(SmallRng::seed_from_u64(seed));
    let mut run = Run { system, rng, events: Vec::new(), truth: BTreeMap::new(), next: 0 };
    let mut end = 0;
    match system.runs {
        Runs::Threads(count) => {
            for number in 0..count {
                let mut channel = run.channel(number, system.messages / count);
                end = end.max(run.thread(&mut channel));
            }
        }
        Runs::Tasks | Runs::Told => {
            let mut channel = run.channel(0, system.messages);
            end = run.tasks(&mut channel);
        }
    }
    run.others(end);
    let Run { mut events, truth, .. } = run;
    events.sort_by_key(|(delivered, _)| *delivered);
    let mut engine = Engine::new(Config::default(), Box::new(ids));
    let mut placed: BTreeMap<CallId, Placement> = BTreeMap::new();
    let mut tick = 0;
    for (delivered, event) in events {
        while tick < delivered {
            advance(&mut engine, tick, &mut placed);
            tick += 40 * MS;
        }
        match event {
            Event::Started(call) => engine.started(call),
            Event::Message(call, automatic) => {
                let id = call.id;
                engine.started(call);
                engine.handles(id, automatic);
            }
            Event::Own(call) => {
                let id = call.id;
                engine.started(call);
                engine.by_thread(id);
            }
            Event::Ended(ended) => engine.ended(ended),
            Event::Told(id, context, at) => engine.handled_in(id, context, at),
            Event::Lost(at) => engine.messages_lost(CONSUMER, at),
        }
    }
    advance(&mut engine, tick + 100_000 * MS, &mut placed);
    let books = engine.books();
    assert!(books.balanced() && books.waiting == 0, "{books:?}");
    let mut score = Score::default();
    for (call, truth) in truth {
        let Some(placement) = placed.get(&call) else { continue };
        if placement.parent_call.is_none() && truth.is_none() {
            continue;
        }
        let certain = placement.status == ParentStatus::Certain;
        assert!(placement.parent_call.is_some() || !certain, "{placement:?}");
        score.found(placement.parent_call, truth);
    }
    score
}

/// All seeds of a system together.
fn survey(system: &System, seeds: u64) -> Score {
    (0..seeds).map(|seed| judge(system, seed)).fold(Score::default(), |sum, score| sum.with(&score))
}

#[test]
fn a_threads_messages_one_at_a_time_are_certain() {
    for threads in [1, 4] {
        for publishes in [false, true] {
            let system = System { runs: Runs::Threads(threads), publishes, ..System::default() };
            let score = survey(&system, 8);
            assert_eq!(score.wrong, 0, "{system:?} {score:?}");
            // What is told before its thread is known to read messages.
            assert!(score.none * 50 < score.right, "{system:?} {score:?}");
        }
    }
}

#[test]
fn a_threads_messages_are_certain_once_it_has_shown_that_it_settles_last() {
    for publishes in [false, true] {
        let messages = 1_000;
        let system = System { prefetch: 20, messages, publishes, ..System::default() };
        let score = survey(&system, 3);
        assert_eq!(score.wrong, 0, "{system:?} {score:?}");
        assert!(score.right > 20 * score.none, "{system:?} {score:?}");
    }
}

#[test]
fn whatever_is_settled_when_nothing_is_wrong() {
    for settles in [Settles::Last, Settles::First, Settles::Within, Settles::Tenth] {
        for prefetch in [1, 2, 20] {
            for (backlog, publishes) in [(false, false), (true, false), (false, true), (true, true)]
            {
                for threads in [1, 4] {
                    let runs = Runs::Threads(threads);
                    let system = System {
                        runs,
                        settles,
                        prefetch,
                        backlog,
                        publishes,
                        idle_percent: 30,
                        ..System::default()
                    };
                    let score = survey(&system, 3);
                    assert_eq!(score.wrong, 0, "{system:?} {score:?}");
                }
            }
        }
    }
}

#[test]
fn work_on_messages_that_nobody_settles_is_withheld() {
    for (backlog, publishes) in [(false, false), (true, false), (false, true), (true, true)] {
        let settles = Settles::Never;
        let system = System { settles, prefetch: 20, backlog, publishes, ..System::default() };
        let score = survey(&system, 8);
        assert_eq!(score.wrong, 0, "{system:?} {score:?}");
        assert_eq!(score.right, 0, "{score:?}");
    }
}

#[test]
fn a_process_that_serves_and_has_timers_besides_is_never_wrong() {
    for settles in [Settles::Last, Settles::First, Settles::Within, Settles::Never] {
        for prefetch in [1, 20] {
            for runs in [Runs::Threads(2), Runs::Tasks] {
                let system = System {
                    runs,
                    settles,
                    prefetch,
                    timers: true,
                    serves: true,
                    ..System::default()
                };
                let score = survey(&system, 8);
                assert_eq!(score.wrong, 0, "{system:?} {score:?}");
            }
        }
    }
}

#[test]
fn tasks_that_nothing_tells_apart_are_withheld_unless_one_is_alone() {
    for (settles, prefetch) in
        [(Settles::Last, 1), (Settles::Last, 20), (Settles::First, 1), (Settles::First, 20)]
    {
        let system = System { runs: Runs::Tasks, settles, prefetch, ..System::default() };
        let score = survey(&system, 8);
        assert_eq!(score.wrong, 0, "{system:?} {score:?}");
        if (settles, prefetch) == (Settles::Last, 1) {
            assert_eq!(score.none, 0, "{score:?}");
        }
    }
}

#[test]
fn handlers_that_say_what_they_handle_are_certain_at_any_concurrency() {
    for settles in [Settles::Last, Settles::First, Settles::Never] {
        let system = System {
            runs: Runs::Told,
            settles,
            prefetch: 20,
            timers: true,
            serves: true,
            ..System::default()
        };
        let score = survey(&system, 8);
        assert_eq!((score.wrong, score.none), (0, 0), "{system:?} {score:?}");
    }
}

#[test]
fn lost_messages_make_no_wrong_parent() {
    for settles in [Settles::Last, Settles::Never] {
        for prefetch in [1, 20] {
            let system = System { settles, prefetch, lossy: true, ..System::default() };
            let score = survey(&system, 8);
            assert_eq!(score.wrong, 0, "{system:?} {score:?}");
        }
    }
}
