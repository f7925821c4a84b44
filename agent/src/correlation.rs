//! Which request caused which call: every call's parent, trace and span ids.
//!
//! Stage: after the call, before the span. Sans-IO: no clock, no randomness of its own, one thread. It
//! knows no protocol, and it never guesses: a parent is certain under the assumptions below, or withheld.
//!
//! # Time
//! Events are told in any order; each carries its own `at_ns`. [`Engine::tick`] says up to which moment
//! everything was delivered, and every waiting time counts from there. Each question ("who was in flight
//! when this call began?") is asked of the call's own moment with all that is known when it is decided.
//!
//! # The rules, and why they are certain
//! 1. **Join.** A request begins at the same TCP sequence number at both ends of a connection. The client
//!    call is the server call's parent. Assumes nothing rewrites the stream between the two ends.
//! 2. **Headers.** A server call without a join continues the `traceparent` it received. A client call
//!    whose own headers carry one keeps its local parent if that is in the same trace, else the header's
//!    span is its parent: the application propagates by itself and knows better.
//! 3. **Thread.** A thread that read a request from a blocking socket serves that request until it
//!    responds, so what it sends meanwhile is that request's. On one thread times are strictly ordered.
//!    Assumes the reading thread also handles the request; where requests overlap on the thread, that (or
//!    the completeness of records) is refuted, and its calls are withheld. Where a response and the next
//!    request on a connection are both lost, the gap must be told (the older request abandoned) before a
//!    call of the newer one is placed, `join_wait_ns` after its start at the earliest. Where records were
//!    lost, only requests that began after that are anybody's parent by this rule or the next.
//! 4. **Context.** Where the runtime's logical task is known on both sides and equal, it decides: the request
//!    is the parent until `late_work_ns` after the response, and later linked to. An unknown context in a
//!    process whose requests have contexts is withheld. Before the first request that has one it says nothing,
//!    and the next rules are asked. A logical task may have several strands. One that did not answer, and still
//!    makes calls `strand_ns` after the response, may be a client library's writer, which was begun in this
//!    request and sends what all later ones ask: none of its calls has a parent or a link. So the calls of such
//!    strands are decided with the look-ahead.
//! 5. **Single in flight.** If exactly one request was in flight in the whole process when the call began,
//!    and the process makes calls only for requests, the call is that request's. For work that its
//!    request waits for, this needs no tolerance around starts and ends: a read is stamped in the
//!    process's own context before the application sees the bytes, and the response after the last
//!    awaited call, all on one clock, so the call's moment lies inside its own request's interval. A
//!    stamp that is late only widens the interval of the request before, which withholds. What else could
//!    have made the call, and how it is excluded:
//!    - a timer, consumer or pool: any call ever made with nothing in flight, at start-up too, makes the
//!      process `Ambient` for life; those within the look-ahead after the call count as well (but for its
//!      last `join_wait_ns`, in which a request's start may not have been told yet);
//!    - an earlier request's unawaited work: a request that ends with calls open which were made during
//!      it casts doubt (`LateWork`) for `late_work_ns`;
//!    - a request that can't be seen: while the process serves an opaque connection, and as long again as
//!      late work lasts, nothing is certain (`Opaque`); nor after records were lost (`Lost`).
//!
//!    **Not covered**: fire-and-forget work that begins after its request's response, never has a call
//!    open when a response ends, and only ever runs while exactly one other request is in flight; a timer
//!    whose first call ever falls inside a lone request. The first such call at an idle moment ends it.
//! 6. **Program.** A process that never served makes calls for nobody but itself: they are its program's
//!    ([`Engine::program_started`]), or roots where it has none. A call with nothing in flight in one that serves is
//!    in no request: `Withheld(Ambient)`.
//!
//! 7. **Messages.** A call that receives messages (a delivery, a fetch) is not placed by the rules above: the
//!    sender of one message is its parent, however long ago, and the senders of several are linked to. Who sent
//!    it is found by a key that both ends compute. Where several messages of one key, told apart by nothing, are
//!    on their way to one receiver, none is the one. Assumes that what has the key is what was sent with it: a
//!    message older than the agent that has the very content of a newer one is taken for that.
//! 8. **Handled messages.** A message that the process handles ([`Engine::handles`]) counts as a request from when it
//!    was read until it is settled, to rules 4 and 5 as well: a handler's context decides where it is told
//!    ([`Engine::handled_in`]). Where a call is made by code that its thread alone runs, and that thread read messages, they
//!    decide (`handler`), before rule 5. Such a thread handles them one after the other, in their order, and each
//!    is settled while it is handled. So
//!    - a call with one unsettled message there, and none settled since there was none, is that message's;
//!    - of several, it is the first one's if that is then settled alone;
//!    - after a settlement, with more there, it is the next one's, if the thread has been seen to do nothing
//!      after the last settlement each time that it came to an end, eight times at least, and to call before the
//!      first. A handler that goes on only now and then after it has settled is **not covered** until it shows itself;
//!    - with none there it goes on with the last one's work, or is a timer's: withheld (`LateWork`), and from
//!      then on so is everything that could be such work.
//!
//!    What settles out of order, several at once, or has two calls open at a time, handles several
//!    (`Concurrent`), and so is what is done for messages that nobody settles: a client may read the next
//!    one before it hands over what it has read.
//!
//! 9. **Jobs.** A job may be taken by one thread or process and worked on by another ([`Engine::takes`]). Which one
//!    that is shows by what it says (`worker`), on threads that run no event loop's tasks and work on one job after
//!    the other. A call is a job's
//!    - if its thread said before that it begins with that job ([`Engine::works`]), and says later that it is done
//!      ([`Engine::worked`]); with several such jobs (greenlets) it is withheld;
//!    - else the one's that the thread says next that it is done with, if that was acknowledged before the call,
//!      because whoever works on it had begun by then; or if the thread itself took it, after it was done with the
//!      one before, and every job of that kind is seen to be taken and to end. Not all of Celery's are: a long
//!      message or result isn't read, and a task may have none. Of what was taken after the call only (`LateWork`)
//!      nothing is certain.
//!
//!    - before all that, if its process is known to work on the job under the call's number ([`Engine::worked_in`]),
//!      as of a request's context: one taking is worked on once, and not before it.
//!
//!    Such calls are held until it shows, for `hold_ns`; then they are withheld. What a process does that was forked
//!    for one job ([`Begins::Alone`]) is that job's, on all its threads.
//!
//! # What a caller must tell
//! - A process found running, and any loss of an inbound connection's records: [`Engine::inbound_lost`].
//! - Inbound connections that can't be read: [`Engine::opaque_inbound`].
//! - A server call that broke off while its handler may go on: [`Engine::broken_off`].
//! - A context that is known only after the call began: [`Engine::context`].
//! - Which process forked which, before either's calls: [`Engine::forked`]; that one hands what it is sent over to
//!   those that it forks: [`Engine::hands_over`].
//! - That a process executed a program, listens, or waits for work: [`Engine::program_started`], [`Engine::serves`];
//!   that it exited: [`Engine::program_ended`].
//! - The messages that calls send and receive: [`Engine::sent`], [`Engine::received`]; that some passed unseen:
//!   [`Engine::messages_lost`].
//!
//! # Ids
//! A span's id is chosen when its call starts, a trace's when it is first needed, by a root. Once given
//! out it is frozen: a child may be placed minutes before its parent ends. A root's flags are `0x03`:
//! sampled, and random (W3C level 2), which [`IdSource`] promises. Below a parent its flags and
//! `tracestate` are passed on.

mod books;
mod config;
mod decide;
mod finished;
mod handler;
mod jobs;
mod join;
mod lifetime;
mod messages;
mod process;
mod program;
mod schedule;
mod state;
mod timeline;
mod trace;
mod worker;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;

use rustc_hash::FxHashMap;

pub use self::books::{Books, WithheldBooks};
pub use self::config::{Config, IdSource, RandomIds};
pub use self::jobs::Begins;
use self::messages::{Mail, Messages};
use self::process::{Process, Question, Received};
use self::program::Program;
use self::schedule::{Due, Schedule};
use self::state::{Call, Far, Parent, Socket};
use crate::call::{
    CallEnded, CallId, CallStarted, Placement, ProcessId, ProgramId, ProgramPlacement, Role,
    SocketId,
};

/// The engine. See the module's documentation.
pub struct Engine {
    config: Config,
    ids: Box<dyn IdSource>,
    /// The newest moment known to be fully delivered.
    now: u64,
    calls: FxHashMap<CallId, Call>,
    /// Calls in order of arrival, for eviction; some are gone already.
    call_order: VecDeque<CallId>,
    sockets: FxHashMap<SocketId, Socket>,
    socket_order: VecDeque<SocketId>,
    processes: FxHashMap<ProcessId, Process>,
    process_order: VecDeque<ProcessId>,
    schedule: Schedule,
    books: Books,
    /// Messages on their way.
    messages: Messages,
    /// Calls that this engine gave up by itself and did not tell of yet.
    dropped: Vec<CallId>,
    /// Calls that turned out to be silent, and were not told of yet.
    silenced: Vec<CallId>,
    programs: FxHashMap<ProgramId, Program>,
    /// Programs that are over, and were not told of yet.
    programs_told: Vec<ProgramPlacement>,
    /// When all programs were looked at last.
    programs_seen: u64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("now", &self.now)
            .field("calls", &self.calls.len())
            .field("sockets", &self.sockets.len())
            .field("processes", &self.processes.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that knows nothing.
    #[must_use]
    pub fn new(config: Config, ids: Box<dyn IdSource>) -> Self {
        Self {
            config,
            ids,
            now: 0,
            calls: FxHashMap::default(),
            call_order: VecDeque::new(),
            sockets: FxHashMap::default(),
            socket_order: VecDeque::new(),
            processes: FxHashMap::default(),
            process_order: VecDeque::new(),
            schedule: Schedule::default(),
            books: Books::default(),
            messages: Messages::default(),
            dropped: Vec::new(),
            silenced: Vec::new(),
            programs: FxHashMap::default(),
            programs_told: Vec::new(),
            programs_seen: 0,
        }
    }

    /// A process is traced from its beginning. One found running is followed by
    /// [`inbound_lost`](Self::inbound_lost): requests may be in flight that were never seen to start.
    pub fn process_started(&mut self, id: ProcessId) {
        self.process_mut(id);
    }

    /// A process exited. Its calls that are still open some seconds later are abandoned.
    pub fn process_gone(&mut self, id: ProcessId, at_ns: u64) {
        if self.processes.contains_key(&id) {
            let at = at_ns.max(self.now).saturating_add(self.config.window_ns());
            self.schedule.push(at, Due::Process(id));
        }
    }

    /// The two ends of one connection are both traced on this node. Told once, from either end.
    pub fn paired(&mut self, a: SocketId, b: SocketId) {
        self.pair(a, b, false);
    }

    /// Like [`paired`](Self::paired), where offsets are no protocol's but what this agent counted at each
    /// end (unix sockets): bytes that one end's count missed make equal offsets of different requests, so
    /// what can't be the same by its times isn't.
    pub fn paired_by_count(&mut self, a: SocketId, b: SocketId) {
        self.pair(a, b, true);
    }

    /// This socket's peer is known not to be traced here, so nothing waits for it.
    pub fn unpaired(&mut self, id: SocketId) {
        self.untraced(id);
    }

    /// An inbound connection that can't be read (TLS, HTTP/2, upgraded) opened or closed in a process.
    pub fn opaque_inbound(&mut self, process: ProcessId, socket: SocketId, open: bool, at_ns: u64) {
        let late_work_ns = self.config.late_work_ns;
        if open {
            self.serves(process, at_ns);
        }
        self.socket_mut(socket).opaque_in = open.then_some(process);
        self.process_mut(process).opaque(socket, open, at_ns, late_work_ns);
    }

    /// Requests of this process may have passed unseen up to `at_ns`: it was found running, or records
    /// of its inbound connections were lost. Its calls are withheld, and are no evidence against it,
    /// until `late_work_ns` later. To be told within the look-ahead to take effect in time.
    pub fn inbound_lost(&mut self, process: ProcessId, at_ns: u64) {
        let until = at_ns.saturating_add(self.config.late_work_ns);
        self.process_mut(process).blind(until);
    }

    /// Records of this process were lost, the last of them at `at_ns` at the latest: as
    /// [`inbound_lost`](Self::inbound_lost), and of a request that began before, the end may be among them.
    /// Its thread may have gone on to one of which nothing is known, on any connection.
    pub fn records_lost(&mut self, process: ProcessId, at_ns: u64) {
        self.inbound_lost(process, at_ns);
        self.process_mut(process).loses_records(at_ns);
    }

    /// A socket was closed. Its calls stay findable for a while.
    pub fn socket_closed(&mut self, id: SocketId, at_ns: u64) {
        self.exorcise(id, at_ns);
        let late_work_ns = self.config.late_work_ns;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.closed = true;
        if let Some(process) = socket.opaque_in.take().and_then(|id| self.processes.get_mut(&id)) {
            process.opaque(id, false, at_ns, late_work_ns);
        }
        let at = at_ns.max(self.now).saturating_add(self.config.linger_ns);
        self.schedule.push(at, Due::Socket(id));
    }

    /// A call began. Calls may be told in any order, and late.
    pub fn started(&mut self, call: CallStarted) {
        let CallStarted { id, process, socket, role, task, at_ns: at, offset, remote, .. } = call;
        let CallStarted { incidental, receives, .. } = call;
        if self.calls.contains_key(&id) {
            self.books.unmatched += 1;
            return;
        }
        self.books.started += 1;
        self.make_room(id);
        let due = at.max(self.now).saturating_add(self.config.join_wait_ns);
        // TCP's numbers have 32 bits; beyond them each end unwraps for itself.
        let offset = offset as u32;
        let state = Call {
            process,
            socket,
            role,
            task,
            start: at,
            end: None,
            remote,
            span: self.ids.span_id(),
            parent: Parent::Undecided,
            peer: None,
            trace: None,
            due,
            abandoned: false,
            broken_off: false,
            placed: false,
            aged: false,
            held: false,
            suspect: false,
            incidental,
            strand: 0,
            threads_own: false,
            handled: false,
            unwanted: false,
            found_nothing: false,
            dependents: 0,
            named: 0,
            mail: receives.then(|| Box::new(Mail::received())),
        };
        self.calls.insert(id, state);
        if role == Role::Server || receives {
            self.serves(process, at);
        }
        match role {
            Role::Server => self.server_started(id, due),
            Role::Client => {
                let process = self.process_mut(process);
                // What waits for work, or keeps a connection alive, is nobody's late work.
                if !incidental {
                    process.client_started(id, at);
                }
                if !receives {
                    self.schedule.push(due, Due::Early(id));
                }
            }
        }
        if !receives {
            self.find_match(id, socket, role, offset);
        }
        self.bound_process(process);
    }

    fn server_started(&mut self, id: CallId, due: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        let receives = call.receives();
        let &Call { process, socket, task, start, .. } = call;
        if !receives {
            // Before the next request on a connection the one before it is over. Of messages several are handled
            // at once.
            self.exorcise(socket, start);
        }
        let untraced = !receives && self.socket_mut(socket).far == Far::Untraced;
        if let Some(call) = self.calls.get_mut(&id) {
            call.due = if untraced { start } else { due };
        }
        let fold_before = self.now.saturating_sub(self.config.window_ns());
        self.process_mut(process).server_started(id, task, start, fold_before);
    }

    /// The runtime's logical task of a call that began without one, told late: within `join_wait_ns` after its
    /// start to take effect. Numbers as in [`Task::context`](crate::call::Task::context).
    pub fn context(&mut self, id: CallId, context: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.task.context != 0 || context == 0 || call.aged {
            return;
        }
        call.task.context = context;
        let &mut Call { process, role, start, end, .. } = call;
        if role == Role::Server
            && let Some(process) = self.processes.get_mut(&process)
        {
            process.learns_context(id, context, start, end);
        }
    }

    /// A client call was made by this strand of its logical task. Told at once after its start.
    pub fn made_by(&mut self, id: CallId, strand: u32) {
        if let Some(call) = self.calls.get_mut(&id).filter(|call| call.role == Role::Client) {
            call.strand = strand;
        }
    }

    /// The response to a server call was begun by this strand of its logical task.
    pub fn answered(&mut self, id: CallId, strand: u32) {
        if let Some(call) = self.calls.get_mut(&id).filter(|call| call.role == Role::Server) {
            call.strand = strand;
        }
    }

    /// A client call was made by code that its thread alone runs, which no event loop's task is. Told at once after
    /// its start.
    pub fn by_thread(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.role == Role::Client) else {
            return;
        };
        call.threads_own = true;
        let &mut Call { process, socket, task, incidental, start, .. } = call;
        if let Some(process) = self.processes.get_mut(&process) {
            process.thread_called(id, task.tid, socket, incidental, start);
        }
    }

    /// The process handles the message that a call receives: what it does for it is the call's. `automatic`: it
    /// will not say that it has handled it. Told at once after the call's start.
    pub fn handles(&mut self, id: CallId, automatic: bool) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.receives()) else { return };
        call.handled = true;
        let &mut Call { process, socket, task, start: at, .. } = call;
        let message = Received { id, socket, tid: task.tid, at, automatic };
        let fold_before = self.now.saturating_sub(self.config.window_ns());
        let heard = self.now.saturating_sub(self.config.join_wait_ns);
        let late_work_ns = self.config.late_work_ns;
        self.process_mut(process).message_came(message, fold_before, heard, late_work_ns);
        self.bound_process(process);
    }

    /// A message's handler is known by this number, from then on: as [`Engine::context`] of a request. Several may
    /// handle parts of what was received at once.
    pub fn handled_in(&mut self, id: CallId, context: u64, at_ns: u64) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.receives()) else { return };
        if context == 0 || call.aged {
            return;
        }
        call.handled = true;
        if call.task.context == 0 {
            call.task.context = context;
        }
        let &mut Call { process, start, end, .. } = call;
        let start = at_ns.max(start);
        if let Some(mail) = call.mail.as_mut().filter(|_| call.task.context != context) {
            mail.handled_in(process, context);
        }
        self.process_mut(process).learns_context(id, context, start, end.map(|end| end.max(start)));
    }

    /// Messages may have been received, or settled, unseen in this process up to `at_ns`.
    pub fn messages_lost(&mut self, process: ProcessId, at_ns: u64) {
        let late_work_ns = self.config.late_work_ns;
        if let Some(process) = self.processes.get_mut(&process).filter(|it| it.handles_messages()) {
            process.loses_messages(at_ns);
            process.blind(at_ns.saturating_add(late_work_ns));
        }
    }

    /// No span is wanted of a call, nor of what is below it: their placements say so. Told at once after its start.
    pub fn unwanted(&mut self, id: CallId) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.unwanted = true;
        }
    }

    /// A call is over, its span will come.
    pub fn ended(&mut self, CallEnded { id, at_ns }: CallEnded) {
        let Some(call) =
            self.calls.get_mut(&id).filter(|call| call.is_live() && call.end.is_none())
        else {
            self.books.unmatched += 1;
            return;
        };
        let end = at_ns.max(call.start);
        call.end = Some(end);
        if call.role == Role::Client && call.receives() {
            // What it received may be known from now on only, and who sent it a little later.
            call.due = end.saturating_add(self.config.join_wait_ns);
        }
        self.books.ended += 1;
        let &mut Call { role, task, start, process, due, parent, handled, threads_own, .. } = call;
        let ready = if parent == Parent::Undecided { due.max(end) } else { end };
        self.schedule.push(ready, Due::Emit(id));
        if role == Role::Server || handled {
            let at = end.saturating_add(self.config.look_ahead_ns);
            self.schedule.push(at, Due::LateWork(id));
        }
        if handled {
            self.job_over(id, end);
        }
        if role == Role::Client && handled {
            self.contexts_ended(id, end);
        }
        let Some(process) = self.processes.get_mut(&process) else { return };
        match role {
            Role::Server => process.server_ended(id, task, start, end),
            Role::Client if handled => process.message_ended(id, task.tid, start, end),
            Role::Client => process.client_ended(id, start, end),
        }
        if threads_own {
            process.thread_returned(id, task.tid, end);
        }
    }

    /// Like [`ended`](Self::ended), for a server call whose connection was lost before the response was
    /// complete: the span will come, but the handler may work on unseen. Later calls are doubted as
    /// after a request that left calls open.
    pub fn broken_off(&mut self, ended: CallEnded) {
        let live = self.calls.get(&ended.id).filter(|call| call.is_live() && call.end.is_none());
        let server = live.filter(|call| call.role == Role::Server).map(|call| call.process);
        if let Some(call) = self.calls.get_mut(&ended.id) {
            call.broken_off = true;
        }
        self.ended(ended);
        if let Some(process) = server.and_then(|id| self.processes.get_mut(&id)) {
            process.leaves_work(ended.at_ns, self.config.late_work_ns);
        }
    }

    /// No span will come of this call. A server call's request counts as in flight, with nobody's name,
    /// until its socket closes or carries the next request, or for `ghost_ns`; its calls are withheld.
    pub fn abandoned(&mut self, id: CallId, at_ns: u64) {
        if !self.calls.get(&id).is_some_and(Call::is_live) {
            self.books.unmatched += 1;
            return;
        }
        self.give_up(id, at_ns);
        self.books.abandoned += 1;
    }

    /// A client's call is over, and by its nature no span comes of it.
    pub fn silent(&mut self, id: CallId, at_ns: u64) {
        if !self.calls.get(&id).is_some_and(Call::is_live) {
            self.books.unmatched += 1;
            return;
        }
        if let Some(&Call { handled: true, process, task, start, .. }) = self.calls.get(&id)
            && let Some(process) = self.processes.get_mut(&process)
        {
            process.message_given_back(id, task.tid, start, at_ns);
        }
        self.give_up(id, at_ns);
        self.books.silent += 1;
    }

    /// A client's call is over that asked for work and found none: a span comes of it only if a request asked for
    /// it, or its other end has one. An idle worker's is [`silent`](Self::silent).
    pub fn found_nothing(&mut self, ended: CallEnded) {
        if let Some(call) = self.calls.get_mut(&ended.id).filter(|call| call.role == Role::Client) {
            call.found_nothing = true;
        }
        self.ended(ended);
    }

    /// Does what is due. `now_ns`: the newest moment of which everything was delivered, but sends whose thread was
    /// kept off its CPU before it could tell; it never goes back. Decided calls go to `out`.
    pub fn tick(&mut self, now_ns: u64, out: &mut impl FnMut(Placement)) {
        self.now = self.now.max(now_ns);
        self.end_daemons();
        while let Some((at, due)) = self.schedule.pop(self.now) {
            self.run(at, due, true, out);
        }
    }

    /// Decides every ended call with what is known. What needed the look-ahead is withheld.
    pub fn flush(&mut self, out: &mut impl FnMut(Placement)) {
        let now = self.now;
        while let Some((at, due)) = self.schedule.pop(u64::MAX) {
            self.run(at, due, at <= now, out);
        }
        self.flush_programs();
    }

    /// Calls that were given up since the last time because a cap was reached or their process is gone: no
    /// placement will come.
    pub fn take_dropped(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.dropped)
    }

    /// Calls that [found nothing](Self::found_nothing) and turned out since the last time to be no request's: no
    /// placement will come.
    pub fn take_silenced(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.silenced)
    }

    /// The accounts so far.
    #[must_use]
    pub fn books(&self) -> Books {
        let mut books = self.books;
        for call in self.calls.values().filter(|call| call.is_live()) {
            match call.end {
                None => books.open += 1,
                Some(_) => books.waiting += 1,
            }
        }
        books
    }

    /// `heard`: the moment really came, so that evidence up to it was heard.
    fn run(&mut self, at: u64, due: Due, heard: bool, out: &mut impl FnMut(Placement)) {
        match due {
            Due::LateWork(id) => {
                let Some(&Call { process, start, end: Some(end), .. }) = self.calls.get(&id) else {
                    return;
                };
                if let Some(process) = self.processes.get_mut(&process) {
                    process.check_late_work(start, end, self.config.late_work_ns);
                }
            }
            Due::Early(id) => self.early(id, at),
            Due::Late(id) => self.late(id, at, heard),
            Due::Emit(id) => {
                if let Some(placement) = self.emit(id, at) {
                    out(placement);
                }
            }
            Due::Program(id) if heard => self.tell_program(id),
            // See `flush_programs`.
            Due::Program(_) => {}
            Due::Forget(id) => self.age(id, at),
            Due::Ghost(process, id) => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.exorcise(id, at, self.config.late_work_ns);
                }
            }
            Due::Socket(id) => self.drop_socket(id),
            Due::Process(id) => self.drop_process(id, at),
        }
    }

    fn question(&self, id: CallId) -> Option<(Question, ProcessId)> {
        let call = self.calls.get(&id)?;
        let callee = call.peer.filter(|peer| {
            self.calls
                .get(peer)
                .is_some_and(|peer| peer.process == call.process && peer.in_flight_at(call.start))
        });
        let (task, at, threads_own) = (call.task, call.start, call.threads_own);
        Some((Question { task, at, callee, threads_own }, call.process))
    }
}
