//! Systems of services with known causes, and what an agent is told of them.
//!
//! The disturbances are those that were measured: a receive stamped before its send (20 %), a stamp
//! milliseconds late, records up to 50 ms late, pairings late or never told, records lost.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use wirespan_protocols::w3c::{SpanId, TraceId, TraceParent};

use super::delivered;
use crate::call::{
    CallEnded, CallId, CallStarted, ProcessId, ProgramId, ProgramStarted, RemoteParent, Role,
    SocketId, Task,
};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const OPENING: u64 = 2_000 * MS;

/// How a service serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A thread for each connection, blocking.
    Threads,
    /// One event loop.
    Loop,
}

/// What to make. Each service calls the next, and things outside this node.
#[derive(Clone, Debug)]
pub(super) struct System {
    pub(super) services: Vec<Kind>,
    /// Clients of the first service, each sending one request after the other.
    pub(super) clients: u32,
    /// Requests of each client.
    pub(super) requests: u32,
    /// Handlers make two calls at a time, now and then.
    pub(super) fan_out: bool,
    /// The first service makes calls in no request.
    pub(super) timers: bool,
    /// Handlers leave work behind: a call is open at the response, and others follow it.
    pub(super) left_open: bool,
    /// Handlers start work after their response.
    pub(super) deferred: bool,
    /// The first service serves requests on connections that can't be read, too.
    pub(super) opaque: bool,
    /// Records are lost.
    pub(super) lossy: bool,
    /// The agent stops right after the last event.
    pub(super) cut_off: bool,
}

impl Default for System {
    fn default() -> Self {
        Self {
            services: vec![Kind::Loop],
            clients: 1,
            requests: 8,
            fan_out: true,
            timers: false,
            left_open: false,
            deferred: false,
            opaque: false,
            lossy: false,
            cut_off: false,
        }
    }
}

/// What the engine is told.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Started(CallStarted),
    Ended(CallEnded),
    Abandoned(CallId, u64),
    Paired(SocketId, SocketId),
    Unpaired(SocketId),
    Opaque(ProcessId, SocketId, bool, u64),
    InboundLost(ProcessId, u64),
    Program(ProgramStarted),
    Serves(ProcessId, u64),
}

/// What is so.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) role: Role,
    pub(super) parent: Option<CallId>,
    /// The `traceparent` on the request.
    pub(super) header: Option<(TraceId, SpanId)>,
    /// Its start was told, so it is expected to be placed unless it is abandoned.
    pub(super) told: bool,
    pub(super) abandoned: bool,
}

/// A connection: its two ends, how far its requests are, and the server call on it whose end was lost,
/// with the time at which its start was told.
#[derive(Clone, Copy, Debug)]
struct Connection {
    client: SocketId,
    server: SocketId,
    offset: u64,
    unfinished: Option<(CallId, u64)>,
}

/// Everything that happened.
pub(super) struct World {
    pub(super) truth: BTreeMap<CallId, Truth>,
    events: Vec<(u64, Event)>,
    /// By the client's place: (its connection or client number, service, ordinal of the call).
    connections: BTreeMap<(u64, usize, u32), Connection>,
    next: u64,
}

impl World {
    /// What is told, in order of telling.
    pub(super) fn told(&mut self) -> Vec<(u64, Event)> {
        let mut events = std::mem::take(&mut self.events);
        events.sort_by_key(|(delivered, _)| *delivered);
        events
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Makes a system run.
pub(super) fn run(system: &System, rng: &mut SmallRng) -> World {
    let world =
        World { truth: BTreeMap::new(), events: Vec::new(), connections: BTreeMap::new(), next: 0 };
    let mut run = Run { system, rng, world };
    let mut end = 0;
    for client in 0..system.clients {
        end = end.max(run.client(u64::from(client)));
    }
    if system.timers {
        run.timers(end);
    }
    if system.opaque {
        run.opaque(end);
    }
    run.close(end);
    run.programs();
    run.world
}

struct Run<'a> {
    system: &'a System,
    rng: &'a mut SmallRng,
    world: World,
}

impl Run<'_> {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..high)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    /// When what happened at `at` is told.
    fn delivered(&mut self, at: u64) -> u64 {
        delivered(self.rng, at)
    }

    fn tell(&mut self, delivered: u64, event: Event) {
        self.world.events.push((delivered, event));
    }

    /// One client of the first service, from outside this node. Gives the time of its last response.
    fn client(&mut self, client: u64) -> u64 {
        let mut at = OPENING + self.between(0, 20 * MS);
        for _ in 0..self.system.requests {
            let header = self.chance(30).then(|| {
                let (trace, span) = (self.rng.random::<u128>() | 1, self.rng.random::<u64>() | 1);
                (TraceId(trace.to_be_bytes()), SpanId(span.to_be_bytes()))
            });
            let end = self.request(0, (client, usize::MAX, 0), at, None, header);
            // Back to back, or after a pause.
            let pause = if self.chance(80) { 50 * US } else { 200 * MS };
            at = end + self.between(20 * US, pause);
        }
        at
    }

    fn connection(&mut self, key: (u64, usize, u32)) -> Connection {
        if let Some(connection) = self.world.connections.get(&key) {
            return *connection;
        }
        let (client, server) = (SocketId(self.world.number()), SocketId(self.world.number()));
        let connection = Connection { client, server, offset: 0, unfinished: None };
        self.world.connections.insert(key, connection);
        connection
    }

    fn introduce(&mut self, connection: Connection, at: u64) {
        let late = if self.chance(80) { 0 } else { 100 * MS };
        let at = self.delivered(at.saturating_sub(MS)) + late;
        if !(self.system.lossy && self.chance(5)) {
            self.tell(at, Event::Paired(connection.client, connection.server));
        }
    }

    /// A request to a service on the connection `key`, arriving at `at`: gives the end of the response.
    fn request(
        &mut self,
        service: usize,
        key: (u64, usize, u32),
        at: u64,
        parent: Option<CallId>,
        header: Option<(TraceId, SpanId)>,
    ) -> u64 {
        let connection = self.connection(key);
        if key.1 == usize::MAX && connection.offset == 0 && self.chance(50) {
            self.tell(at, Event::Unpaired(connection.server));
        }
        let blocking = self.system.services[service] == Kind::Threads;
        let tid = if blocking { connection.server.0 as u32 } else { 1 };
        let start = at + self.between(5 * US, 100 * US);
        let id = CallId(self.world.number());
        let call = CallStarted {
            id,
            process: ProcessId(service as u64),
            socket: connection.server,
            role: Role::Server,
            task: Task { tid, context: 0, blocking },
            at_ns: start,
            offset: connection.offset,
            remote: header.map(|(trace_id, span_id)| RemoteParent {
                parent: TraceParent { trace_id, span_id, flags: 1 },
                state: None,
            }),
            incidental: false,
            receives: false,
        };
        let mut at = start + self.between(20 * US, 300 * US);
        let calls = self.between(2, 5) as u32;
        let mut ordinal = 0;
        while ordinal < calls {
            let width = if self.system.fan_out && self.chance(20) { 2 } else { 1 };
            let begun = at;
            for _ in 0..width {
                let sent = begun + self.between(1_000, 30 * US);
                at =
                    at.max(self.call(service, tid, (connection.server.0, ordinal), sent, Some(id)));
                ordinal += 1;
            }
            at += self.between(10 * US, 300 * US);
        }
        if self.system.left_open && self.chance(20) {
            let begun = at - self.between(0, 9 * US);
            let open = self.call_outside(service, tid, begun, begun + 20 * MS, Some(id));
            let next = open + self.between(1, 20 * MS);
            self.call_outside(service, tid, next, next + 5 * MS, Some(id));
        }
        let end = at + self.between(10 * US, 200 * US);
        if self.system.deferred && self.chance(30) {
            let begun = end + self.between(10 * US, 5 * MS);
            self.call_outside(service, tid, begun, begun + 5 * MS, Some(id));
        }
        self.tell_request(call, key, end, parent, header);
        end
    }

    fn tell_request(
        &mut self,
        call: CallStarted,
        key: (u64, usize, u32),
        end: u64,
        parent: Option<CallId>,
        header: Option<(TraceId, SpanId)>,
    ) {
        let (id, start, process) = (call.id, call.at_ns, call.process);
        let lossy = self.system.lossy;
        let told = !(lossy && self.chance(3));
        let (from, to) = (self.delivered(start), self.delivered(end));
        let to = to.max(from + 1);
        let ends = told && !(lossy && self.chance(5));
        if told {
            self.tell(from, Event::Started(call));
        } else {
            // The response shows that a request was missed.
            self.tell(to, Event::InboundLost(process, end));
        }
        // An end that was lost is noticed when the connection goes on.
        let connection = self.world.connections.get_mut(&key).expect("a connection that was made");
        connection.offset += 1_000;
        let unfinished = connection.unfinished.take();
        if told && !ends {
            connection.unfinished = Some((id, from));
        }
        if let Some((unfinished, told)) = unfinished {
            self.tell(to.max(told + 1), Event::Abandoned(unfinished, start));
        }
        if ends {
            self.tell(to, Event::Ended(CallEnded { id, at_ns: end }));
        }
        let truth = Truth { role: Role::Server, parent, header, told, abandoned: told && !ends };
        self.world.truth.insert(id, truth);
    }

    /// A call from a service, to the next or to something outside: gives the end of its response.
    fn call(
        &mut self,
        service: usize,
        tid: u32,
        (from, ordinal): (u64, u32),
        sent: u64,
        parent: Option<CallId>,
    ) -> u64 {
        if service + 1 >= self.system.services.len() || self.chance(30) {
            let end = sent + self.between(100 * US, 3 * MS);
            return self.call_outside(service, tid, sent, end, parent);
        }
        let key = (from, service, ordinal);
        let connection = self.connection(key);
        if connection.offset == 0 {
            self.introduce(connection, sent);
        }
        let id = CallId(self.world.number());
        let answered = self.request(service + 1, key, sent, Some(id), None);
        // The stamp of the send, now and then behind what the other end did with it.
        let stamp = match self.between(0, 1_000) {
            0 => answered,
            1..200 => sent + 150 * US,
            _ => sent + self.between(500, 4 * US),
        };
        let stamp = stamp.min(answered);
        let task = Task { tid, context: 0, blocking: false };
        let end = answered + self.between(1, 40 * US);
        let call = CallStarted {
            id,
            process: ProcessId(service as u64),
            socket: connection.client,
            role: Role::Client,
            task,
            at_ns: stamp,
            offset: connection.offset,
            remote: None,
            incidental: false,
            receives: false,
        };
        self.tell_call(call, end, parent);
        end
    }

    /// A call to something outside this node, on a connection of its own.
    fn call_outside(
        &mut self,
        service: usize,
        tid: u32,
        sent: u64,
        end: u64,
        parent: Option<CallId>,
    ) -> u64 {
        let socket = SocketId(self.world.number());
        let id = CallId(self.world.number());
        let call = CallStarted {
            id,
            process: ProcessId(service as u64),
            socket,
            role: Role::Client,
            task: Task { tid, context: 0, blocking: false },
            at_ns: sent,
            offset: 0,
            remote: None,
            incidental: false,
            receives: false,
        };
        self.tell_call(call, end, parent);
        end
    }

    fn tell_call(&mut self, call: CallStarted, end: u64, parent: Option<CallId>) {
        let (id, start) = (call.id, call.at_ns);
        let lossy = self.system.lossy;
        let told = !(lossy && self.chance(3));
        let abandoned = told && lossy && self.chance(3);
        let (from, to) = (self.delivered(start), self.delivered(end));
        let to = to.max(from + 1);
        if told {
            self.tell(from, Event::Started(call));
            if abandoned {
                let noticed = to + self.between(0, 200 * MS);
                self.tell(noticed, Event::Abandoned(id, end));
            } else {
                self.tell(to, Event::Ended(CallEnded { id, at_ns: end }));
            }
        }
        let truth = Truth { role: Role::Client, parent, header: None, told, abandoned };
        self.world.truth.insert(id, truth);
    }

    /// Calls of the first service in no request, the first before anybody asks anything of it.
    fn timers(&mut self, end: u64) {
        let mut at = self.between(0, OPENING - 100 * MS);
        while at < end {
            let latency = self.between(100 * US, 3 * MS);
            self.call_outside(0, 1, at, at + latency, None);
            at += self.between(20 * MS, 300 * MS);
        }
    }

    /// Requests that nobody can read, on a connection that is known to be such, for part of the time.
    fn opaque(&mut self, end: u64) {
        let process = ProcessId(0);
        let socket = SocketId(self.world.number());
        let opened = self.between(0, OPENING + (end - OPENING) / 2);
        let told = self.delivered(opened);
        self.tell(told, Event::Opaque(process, socket, true, opened));
        let mut at = opened + MS;
        let closed = opened + self.between(MS, end - opened);
        while at < closed {
            // Their true parent is a call that nobody is told of.
            let hidden = CallId(self.world.number());
            let done = at + self.between(100 * US, 3 * MS);
            self.call_outside(0, 1, at, done, Some(hidden));
            at = done + self.between(MS, 50 * MS);
        }
        let closed = at;
        let told = self.delivered(closed).max(told + 1);
        self.tell(told, Event::Opaque(process, socket, false, closed));
    }

    /// Every process is seen to be executed, and listens before anybody asks anything of it.
    fn programs(&mut self) {
        for number in 0..self.system.services.len() as u64 {
            let (process, until_ns) = (ProcessId(number), u64::MAX);
            let id = ProgramId(number);
            let program =
                ProgramStarted { id, process, by: None, remote: None, at_ns: 0, until_ns };
            self.tell(0, Event::Program(program));
            let listens = self.between(0, OPENING);
            let told = self.delivered(listens);
            self.tell(told, Event::Serves(process, listens));
        }
    }

    /// At the end of all, what never ended is given up.
    fn close(&mut self, end: u64) {
        let late = end + 30_000 * MS;
        let connections: Vec<_> = self.world.connections.values().copied().collect();
        for (unfinished, _) in
            connections.into_iter().filter_map(|connection| connection.unfinished)
        {
            self.tell(late, Event::Abandoned(unfinished, end));
        }
    }
}
