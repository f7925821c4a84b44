//! One process: which of its server calls a client call of its own belongs to.
//!
//! Holds what the rules need (who was in flight when, on which thread, in which context; evidence
//! against certainty) and answers at a call's own moment, not at the moment of asking. The argument for
//! each rule is in the documentation of [`super`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use super::finished::{Finished, Request};
use super::handler::Handler;
use super::timeline::Timeline;
use super::worker::Worker;
use crate::call::{CallId, ProcessId, ProgramId, SocketId, Task, Withheld};

/// Strands that are remembered as nobody's: a client library has one or two for each connection.
const MAX_WRITERS: usize = 256;

/// Threads whose messages are followed: more handle none that is certain.
const MAX_HANDLERS: usize = 256;

/// Threads that work on jobs: of more, none of their calls is certain.
const MAX_WORKERS: usize = 1024;

/// What identifies a logical task: one request at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    /// A thread that reads its requests from blocking sockets.
    Thread(u32),
    /// The runtime's own identity.
    Context(u64),
}

fn lanes_of(task: Task) -> impl Iterator<Item = Lane> {
    let thread = task.blocking.then_some(Lane::Thread(task.tid));
    let context = (task.context != 0).then_some(Lane::Context(task.context));
    thread.into_iter().chain(context)
}

/// A client call, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) task: Task,
    pub(super) at: u64,
    /// The server call at the other end of the call's own connection, if that is in this process and was
    /// in flight at `at`: it can't be the call's parent.
    pub(super) callee: Option<CallId>,
    /// It was made by code that its thread alone runs.
    pub(super) threads_own: bool,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Parent(CallId),
    Root,
    /// It goes on with the work of a request that is over for too long to be its parent.
    After(Request),
    Withheld(Withheld),
}

/// The single-in-flight rule's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    /// The call was made with nothing in flight, and nothing else explains it.
    pub(super) ambient: bool,
}

/// A request that may be in flight, whose call was abandoned or evicted.
#[derive(Clone, Copy, Debug)]
struct Ghost {
    task: Task,
    start: u64,
    /// Its task went on to another request.
    left_its_lanes: bool,
}

#[derive(Debug, Default)]
pub(super) struct Process {
    in_flight: Timeline,
    lanes: FxHashMap<Lane, Timeline>,
    /// Server calls in flight, by start.
    servers: BTreeSet<(u64, CallId)>,
    /// Client calls open or recently ended, by start, with their end or `u64::MAX`.
    clients: BTreeMap<(u64, CallId), u64>,
    /// Requests that may be in flight but have no call any more.
    ghosts: BTreeMap<CallId, Ghost>,
    opaque: FxHashSet<SocketId>,
    opaque_until: Option<u64>,
    /// Nothing up to this moment is certain: requests may have passed unseen.
    blind_until: Option<u64>,
    /// Records were lost up to this moment: an older request may have ended since.
    lost_until: Option<u64>,
    /// After a request that left work behind: (its end, when the doubt ends), disjoint, by time.
    late_work: VecDeque<(u64, u64)>,
    /// Strands that outlived their request: nobody's. In order, to forget the oldest.
    writers: VecDeque<u32>,
    /// It was seen to make calls of its own.
    ambient: bool,
    /// Calls that look ambient, not judged yet.
    pub(super) suspects: u32,
    serves: bool,
    /// Whose contexts may still be at work.
    finished: Finished,
    /// When the first request began that has a context.
    contexts_since: Option<u64>,
    /// Messages that it was given and did not settle, by start.
    messages: BTreeSet<(u64, CallId)>,
    /// Its threads that read messages.
    handlers: FxHashMap<u32, Handler>,
    /// The process that forked it.
    pub(super) parent: Option<ProcessId>,
    /// What it runs, or the process that it was forked in.
    pub(super) program: Option<ProgramId>,
    /// It takes jobs, which it or its children work on.
    pub(super) takes_jobs: bool,
    /// It gives the messages that it handles to its children.
    pub(super) hands_over: bool,
    /// Its threads that take or work on jobs.
    workers: FxHashMap<u32, Worker>,
    /// It was forked for this job; `None` within: for several.
    forked_for: Option<Option<CallId>>,
}

/// A message that the process was given, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) id: CallId,
    pub(super) socket: SocketId,
    pub(super) tid: u32,
    pub(super) at: u64,
    /// Nobody says when it is handled.
    pub(super) automatic: bool,
}

impl Process {
    pub(super) fn serves(&self) -> bool {
        self.serves
    }

    /// A server call starts. `fold_before`: what is older need not be known any more.
    pub(super) fn server_started(&mut self, id: CallId, task: Task, at: u64, fold_before: u64) {
        self.serves = true;
        if task.context != 0 {
            self.has_contexts(at);
        }
        self.servers.insert((at, id));
        self.in_flight.fold(fold_before);
        self.in_flight.start(id, at);
        for lane in lanes_of(task) {
            let timeline = self.lanes.entry(lane).or_default();
            timeline.fold(fold_before);
            // A task that reads its next request is done with one whose end was never seen.
            let before = at.saturating_sub(1);
            if let Some(id) = timeline.at(before).and_then(|load| load.only())
                && let Some(ghost) = self.ghosts.get_mut(&id)
                && !ghost.left_its_lanes
            {
                ghost.left_its_lanes = true;
                let task = ghost.task;
                self.end_lanes(id, task, before);
            }
            self.lanes.entry(lane).or_default().start(id, at);
        }
    }

    /// It is given a message. Until that is settled it counts as a request that is in flight; one that nobody
    /// settles may be handled at any time. `fold_before` as of `server_started`, `heard` of the thread's events.
    pub(super) fn message_came(
        &mut self,
        message: Received,
        fold_before: u64,
        heard: u64,
        late_work_ns: u64,
    ) {
        let Received { id, socket, tid, at, automatic } = message;
        self.serves = true;
        if automatic {
            self.leaves_work(at, late_work_ns);
        } else {
            self.messages.insert((at, id));
            self.in_flight.fold(fold_before);
            self.in_flight.start(id, at);
        }
        if self.handlers.contains_key(&tid) || self.handlers.len() < MAX_HANDLERS {
            let lost_until = self.lost_until;
            let handler = self.handlers.entry(tid).or_insert_with(|| {
                let mut handler = Handler::default();
                lost_until.into_iter().for_each(|lost| handler.lose(lost));
                handler
            });
            handler.follow(heard, late_work_ns);
            handler.read(id, socket, automatic, at);
        }
    }

    /// A message is settled, or nobody settles it.
    pub(super) fn message_ended(&mut self, id: CallId, tid: u32, start: u64, end: u64) {
        if self.messages.remove(&(start, id)) {
            self.in_flight.end(id, end);
            if let Some(handler) = self.handlers.get_mut(&tid) {
                handler.settled(id, end);
            }
        }
    }

    /// Nobody will say when a message was settled: it may go on being handled.
    pub(super) fn message_gone(&mut self, id: CallId, start: u64, at: u64, late_work_ns: u64) {
        if self.messages.remove(&(start, id)) {
            let at = at.max(start);
            self.in_flight.end(id, at);
            self.leaves_work(at, late_work_ns);
            self.loses_messages(at);
        }
    }

    /// A message that nobody handled went back to where it came from.
    pub(super) fn message_given_back(&mut self, id: CallId, tid: u32, start: u64, at: u64) {
        if self.messages.remove(&(start, id)) {
            self.in_flight.end(id, at.max(start));
            if let Some(handler) = self.handlers.get_mut(&tid) {
                handler.given_back(id, at.max(start));
            }
        }
    }

    /// It was given messages to handle.
    pub(super) fn handles_messages(&self) -> bool {
        !self.handlers.is_empty() || !self.workers.is_empty()
    }

    /// What was done for this call in a logical task is over.
    pub(super) fn context_ended(&mut self, id: CallId, context: u64, end: u64) {
        if let Some(timeline) = self.lanes.get_mut(&Lane::Context(context)) {
            timeline.end(id, end);
        }
    }

    /// Messages may have been read or settled unseen.
    pub(super) fn loses_messages(&mut self, at: u64) {
        self.handlers.values_mut().for_each(|handler| handler.lose(at));
        self.workers.values_mut().for_each(|worker| worker.lose(at));
    }

    /// What one of its threads does with jobs.
    pub(super) fn worker(&mut self, tid: u32, tell: impl FnOnce(&mut Worker)) {
        if self.workers.len() >= MAX_WORKERS && !self.workers.contains_key(&tid) {
            // Threads that ended are among them.
            self.workers.retain(|_, worker| !worker.is_idle());
        }
        if self.workers.len() < MAX_WORKERS || self.workers.contains_key(&tid) {
            let (lost_until, is_older) = (self.lost_until, self.blind_until.is_some());
            tell(self.workers.entry(tid).or_insert_with(|| {
                let mut worker = Worker::default();
                lost_until.into_iter().for_each(|lost| worker.lose(lost));
                if is_older {
                    worker.doubt();
                }
                worker
            }));
        }
    }

    /// What the thread does with jobs, if it does anything.
    pub(super) fn worker_of(&self, tid: u32) -> Option<&Worker> {
        self.workers.get(&tid)
    }

    /// The job is over for this thread.
    pub(super) fn job_over(&mut self, tid: u32, id: CallId, at: u64) {
        if let Some(worker) = self.workers.get_mut(&tid) {
            worker.over(id, at);
        }
    }

    /// It was forked for this job.
    pub(super) fn is_forked_for(&mut self, id: CallId) {
        let same = self.forked_for.is_none_or(|job| job == Some(id));
        self.forked_for = Some(same.then_some(id));
    }

    /// The job that it was forked for; `None` within: there are several.
    pub(super) fn forked_for(&self) -> Option<Option<CallId>> {
        self.forked_for
    }

    /// The oldest message that was not settled, if there are more than `cap`.
    pub(super) fn excess_message(&self, cap: usize) -> Option<CallId> {
        (self.messages.len() > cap).then(|| self.messages.first().map(|&(_, id)| id)).flatten()
    }

    /// The thread made a call by its own code.
    pub(super) fn thread_called(
        &mut self,
        id: CallId,
        tid: u32,
        socket: SocketId,
        incidental: bool,
        at: u64,
    ) {
        if let Some(handler) = self.handlers.get_mut(&tid) {
            handler.called(id, socket, incidental, at);
        }
    }

    /// A call of the thread's is over.
    pub(super) fn thread_returned(&mut self, id: CallId, tid: u32, at: u64) {
        if let Some(handler) = self.handlers.get_mut(&tid) {
            handler.returned(id, at);
        }
    }

    /// By the messages that the call's own thread handles. All of before `heard` was told.
    pub(super) fn own_message(
        &mut self,
        id: CallId,
        question: Question,
        heard: u64,
        late_work_ns: u64,
    ) -> Option<Verdict> {
        if !question.threads_own {
            return None;
        }
        let handler = self.handlers.get_mut(&question.task.tid)?;
        handler.follow(heard, late_work_ns);
        handler.verdict(id, question.at)
    }

    fn has_contexts(&mut self, at: u64) {
        self.contexts_since = Some(self.contexts_since.map_or(at, |since| since.min(at)));
    }

    /// A request with a context has its span.
    pub(super) fn has_span(&mut self, context: u64, request: Request) {
        self.finished.insert(context, request);
    }

    /// The logical task of a server call is known now. `end`: when it was over, if it is.
    pub(super) fn learns_context(
        &mut self,
        id: CallId,
        context: u64,
        start: u64,
        end: Option<u64>,
    ) {
        self.has_contexts(start);
        let timeline = self.lanes.entry(Lane::Context(context)).or_default();
        timeline.start(id, start);
        if let Some(end) = end {
            timeline.end(id, end);
        }
        if let Some(ghost) = self.ghosts.get_mut(&id) {
            ghost.task.context = context;
        }
    }

    pub(super) fn server_ended(&mut self, id: CallId, task: Task, start: u64, end: u64) {
        // An end without its start would make the count of what is in flight wrong.
        if self.servers.remove(&(start, id)) {
            self.in_flight.end(id, end);
            self.end_lanes(id, task, end);
        }
    }

    fn end_lanes(&mut self, id: CallId, task: Task, end: u64) {
        for lane in lanes_of(task) {
            if let Some(timeline) = self.lanes.get_mut(&lane) {
                timeline.end(id, end);
            }
        }
    }

    /// The call will never end in so many words, but its request may still be in flight.
    pub(super) fn haunt(&mut self, id: CallId, task: Task, start: u64) {
        // Where the process is not known any more, nor is the call's start.
        if self.servers.remove(&(start, id)) {
            self.ghosts.insert(id, Ghost { task, start, left_its_lanes: false });
        }
    }

    /// A haunting request is over at the latest now; what it left behind is unknown.
    pub(super) fn exorcise(&mut self, id: CallId, at: u64, late_work_ns: u64) {
        let Some(ghost) = self.ghosts.remove(&id) else { return };
        let end = at.max(ghost.start);
        self.in_flight.end(id, end);
        if !ghost.left_its_lanes {
            self.end_lanes(id, ghost.task, end);
        }
        self.leaves_work(end, late_work_ns);
    }

    pub(super) fn client_started(&mut self, id: CallId, at: u64) {
        self.clients.insert((at, id), u64::MAX);
    }

    pub(super) fn client_ended(&mut self, id: CallId, start: u64, end: u64) {
        if let Some(slot) = self.clients.get_mut(&(start, id)) {
            *slot = end;
        }
    }

    pub(super) fn client_forgotten(&mut self, id: CallId, start: u64) {
        self.clients.remove(&(start, id));
    }

    /// The oldest abandoned request, if there are more than `cap`.
    pub(super) fn excess_ghost(&self, cap: usize) -> Option<CallId> {
        (self.ghosts.len() > cap).then(|| self.ghosts.keys().next().copied()).flatten()
    }

    /// The oldest server call, if there are more than `cap`.
    pub(super) fn excess_server(&self, cap: usize) -> Option<CallId> {
        (self.servers.len() > cap).then(|| self.servers.first().map(|&(_, id)| id)).flatten()
    }

    /// It has many calls that aren't decided or remembered yet.
    pub(super) fn is_crowded(&self, cap: usize) -> bool {
        self.clients.len() > cap / 4
    }

    /// The oldest client call, if there are more than `cap`.
    pub(super) fn excess_client(&self, cap: usize) -> Option<(u64, CallId)> {
        (self.clients.len() > cap)
            .then(|| self.clients.first_key_value().map(|(&key, _)| key))
            .flatten()
    }

    /// Calls that may still be open.
    pub(super) fn open_calls(&self) -> Vec<CallId> {
        let clients =
            self.clients.iter().filter(|(_, end)| **end == u64::MAX).map(|(key, _)| key.1);
        let servers = self.servers.iter().chain(&self.messages).map(|&(_, id)| id);
        servers.chain(clients).collect()
    }

    /// Forgets a lane that nothing is known of any more.
    pub(super) fn tidy(&mut self, task: Task, fold_before: u64) {
        for lane in lanes_of(task) {
            if let Some(timeline) = self.lanes.get_mut(&lane) {
                timeline.fold(fold_before);
                if timeline.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
        }
    }

    pub(super) fn opaque(&mut self, socket: SocketId, open: bool, at: u64, late_work_ns: u64) {
        if open {
            self.serves = true;
            self.opaque.insert(socket);
        } else if self.opaque.remove(&socket) {
            self.opaque_until = self.opaque_until.max(Some(at.saturating_add(late_work_ns)));
        }
    }

    pub(super) fn blind(&mut self, until: u64) {
        self.blind_until = self.blind_until.max(Some(until));
    }

    pub(super) fn loses_records(&mut self, at: u64) {
        self.lost_until = self.lost_until.max(Some(at));
        self.loses_messages(at);
    }

    /// Whether the end of a request that began at `start`, and was not told, may have been lost.
    pub(super) fn may_have_ended(&self, start: u64) -> bool {
        self.lost_until >= Some(start)
    }

    /// A request is over: did it leave client calls open behind it?
    pub(super) fn check_late_work(&mut self, start: u64, end: u64, late_work_ns: u64) {
        // Nothing would come of it: this process's calls are withheld anyway.
        if self.ambient {
            return;
        }
        let made_during = self.clients.range((start, CallId(0))..=(end, CallId(u64::MAX)));
        if made_during.rev().any(|(_, &client_end)| client_end > end) {
            self.leaves_work(end, late_work_ns);
        }
    }

    pub(super) fn leaves_work(&mut self, end: u64, late_work_ns: u64) {
        let (mut from, mut until) = (end, end.saturating_add(late_work_ns));
        let mut position = self.late_work.len();
        // Later ones, and those it touches, become one with it.
        while let Some(&(other_from, other_until)) =
            position.checked_sub(1).and_then(|i| self.late_work.get(i))
        {
            if other_until < from {
                break;
            }
            if other_from <= until {
                from = from.min(other_from);
                until = until.max(other_until);
                self.late_work.remove(position - 1);
            }
            position -= 1;
        }
        self.late_work.insert(position, (from, until));
        // One doubt lasts `late_work_ns`, so this many separate ones are long past.
        if self.late_work.len() > 16 {
            self.late_work.pop_front();
        }
    }

    fn is_late_work(&self, at: u64) -> bool {
        self.late_work.iter().rev().any(|&(from, until)| from < at && at <= until)
    }

    /// The thread and context rules: the request of the very task that made the call. None where the
    /// task has none.
    pub(super) fn own_task(&self, question: Question, late_work_ns: u64) -> Option<Verdict> {
        self.own_context(question, late_work_ns).or_else(|| self.own_thread(question))
    }

    /// The strand made a call after its request was over for too long.
    pub(super) fn is_writer(&mut self, strand: u32) {
        if !self.writers.contains(&strand) {
            self.writers.push_back(strand);
        }
        if self.writers.len() > MAX_WRITERS {
            self.writers.pop_front();
        }
    }

    pub(super) fn was_writer(&self, strand: u32) -> bool {
        self.writers.contains(&strand)
    }

    fn own_context(
        &self,
        Question { task, at, .. }: Question,
        late_work_ns: u64,
    ) -> Option<Verdict> {
        if task.context == 0 {
            return None;
        }
        // Requests that were in flight when contexts began to be told have none, and what they ask has none of
        // theirs: nothing follows from it.
        let told = self.contexts_since.is_some_and(|since| since <= at);
        let after = || self.finished.get(task.context).map(Verdict::After);
        let unknown = || after().or(told.then_some(Verdict::Withheld(Withheld::Ambient)));
        let Some(lane) = self.lanes.get(&Lane::Context(task.context)) else { return unknown() };
        let Some(load) = lane.at(at) else { return Some(Verdict::Withheld(Withheld::Lost)) };
        if let Some(id) = load.only() {
            return Some(Verdict::Parent(id));
        }
        if load.open != 0 {
            return Some(Verdict::Withheld(Withheld::Concurrent));
        }
        match lane.ended_before(at) {
            Some((id, end)) if at - end <= late_work_ns => Some(Verdict::Parent(id)),
            Some(_) => after().or(Some(Verdict::Withheld(Withheld::LateWork))),
            None => unknown(),
        }
    }

    fn own_thread(&self, Question { task, at, .. }: Question) -> Option<Verdict> {
        let lane = self.lanes.get(&Lane::Thread(task.tid))?;
        let Some(load) = lane.at(at) else { return Some(Verdict::Withheld(Withheld::Lost)) };
        match load.only() {
            Some(id) => Some(Verdict::Parent(id)),
            None if load.open == 0 => None,
            // A thread does not read a request in the middle of another: an end was missed.
            None => Some(Verdict::Withheld(Withheld::Lost)),
        }
    }

    /// Whether nothing seems to be in flight, as far as is known now.
    pub(super) fn looks_ambient(&self, question: Question) -> bool {
        let open = self.load(question).map(|load| load.open);
        self.blind_until < Some(question.at) && open == Some(0) && !self.is_opaque(question.at)
    }

    /// Whether requests may be in flight that nobody can see: a call with none in flight proves nothing then.
    fn is_opaque(&self, at: u64) -> bool {
        !self.opaque.is_empty() || Some(at) <= self.opaque_until
    }

    fn load(&self, Question { at, callee, .. }: Question) -> Option<super::timeline::Load> {
        let load = self.in_flight.at(at)?;
        Some(callee.map_or(load, |callee| load.without(callee)))
    }

    /// The single-in-flight rule, with everything that was heard until the look-ahead's end.
    pub(super) fn single_in_flight(&self, question: Question) -> Judgement {
        let withheld = |reason| Judgement { verdict: Verdict::Withheld(reason), ambient: false };
        if self.blind_until >= Some(question.at) {
            return withheld(Withheld::Lost);
        }
        let Some(load) = self.load(question) else { return withheld(Withheld::Lost) };
        let opaque = self.is_opaque(question.at);
        let ambient = load.open == 0 && !opaque;
        let verdict = if !self.serves {
            Verdict::Root
        } else if opaque {
            Verdict::Withheld(Withheld::Opaque)
        } else if load.open > 1 {
            Verdict::Withheld(Withheld::Concurrent)
        } else if self.is_late_work(question.at) {
            Verdict::Withheld(Withheld::LateWork)
        } else if self.ambient || self.suspects > 0 {
            Verdict::Withheld(Withheld::Ambient)
        } else {
            load.only().map_or(Verdict::Withheld(Withheld::Ambient), Verdict::Parent)
        };
        Judgement { verdict, ambient }
    }

    /// It makes calls of its own: from now on nothing rests on what is in flight.
    pub(super) fn is_ambient(&mut self) {
        self.ambient = true;
    }
}
