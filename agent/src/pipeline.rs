//! The pipeline: the one place that knows two stages, and the thread that all of them run on.
//!
//! Records in, spans out: capture, selection, connection, exchange, correlation, span, export. Exporters
//! run elsewhere; handing them a batch never blocks.

mod begun;
mod doubt;
mod explain;
mod handling;
mod inventory;
mod program;
mod queue;
mod recording;
mod reload;
mod replay;
mod request;
mod status;
mod telemetry;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;
use rustc_hash::{FxHashMap, FxHashSet};
use wirespan_protocols::sql;

use crate::books::{AgentBooks, ConfigStatus};
use crate::brokers::Brokers;
use crate::call::{
    CallEnded, CallId, CallStarted, ParentStatus, Placement, ProcessId, RemoteParent, Role,
    SocketId, Task,
};
use crate::capture::{Capture, Gone, Operation, Record, Socket};
use crate::clock::{self, WallClock};
use crate::connection::{
    Announced, Connection, Connections, Content, Fate, Handled, Mail, Mark, Message, Options,
    Outcome, Silence, Step,
};
use crate::containers::Lookup;
use crate::correlation::Engine;
use crate::exchange::{Exchange, Exchanges};
use crate::export::ExportHandle;
use crate::queue::{Jobs, Place, celerys_task};
use crate::recording::Recorder;
use crate::route::Services;
use crate::runtime::Runtimes;
use crate::runtime::node::Told;
use crate::selection::{Change, Selection};
use crate::settings::Settings;
use crate::span::{self, Span};
use begun::Begun;
use doubt::{Doubt, Doubts};
use handling::Deliveries;
use inventory::Inventory;
use program::Programs;
pub use replay::{Replay, ReplayBooks, ReplayError};
pub use request::Request;

/// How often the reader comes round while there is traffic. Operations wake nobody.
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// How often while there is none. A process event wakes it at once.
const IDLE_WAIT: Duration = Duration::from_millis(20);
/// Records read of a ring before other work gets its turn.
const DRAIN_LIMIT: usize = 8192;
/// How often the distance to wall time is sampled.
const WALL_SAMPLE_NS: u64 = 1_000_000_000;
/// How often connections are looked at for silence.
const HOUSEKEEPING_NS: u64 = 100_000_000;
/// Spans wait so long at most until they are given to the exporters, or until there are so many.
const HAND_OVER_NS: u64 = 50_000_000;
/// See [`HAND_OVER_NS`].
const HAND_OVER_SPANS: usize = 512;
/// What a connection tells at once is seldom more: the memory of more is given back.
const MESSAGES_KEPT: usize = 64;
/// Connections held. Beyond, a new one is not followed, and its operations count as not understood.
const MAX_CONNECTIONS: usize = 65_536;

/// How long after its end a connection is kept for records of its last operations. A send that is answered
/// by a reset ends the connection before the send's own record is written, on loopback always.
const LATE_NS: u64 = 20_000_000;

/// How long after its process a connection is kept for records that are still to be read.
const AFTERLIFE_NS: u64 = 1_000_000_000;

/// The stages and what connects them.
pub struct Pipeline {
    capture: Capture,
    stages: Stages,
    inventory: Inventory,
    recorder: Option<Recorder>,
    /// Who says what containers are.
    engines: Option<Lookup>,
}

/// All behind capture: apart from it, because records borrow from the rings while these work on them.
struct Stages {
    selection: Selection,
    runtimes: Runtimes,
    connections: Connections,
    /// Ends of connections that are still to be followed, as they came.
    ending: VecDeque<Gone>,
    engine: Engine,
    exchanges: Exchanges,
    /// Processes that the rules don't allow any more, and since when they wait for the assist to be undone.
    dismissed: FxHashMap<ProcessId, u64>,
    brokers: Brokers,
    deliveries: Deliveries,
    jobs: Jobs,
    programs: Programs,
    /// Processes that take jobs.
    takers: FxHashSet<ProcessId>,
    /// Jobs that pools' children began with, and whose taking is still to be told.
    beginning: VecDeque<queue::Begins>,
    /// The last request on each connection that carries telemetry in and is not over.
    telemetry: FxHashMap<u64, u64>,
    routes: Services,
    export: ExportHandle,
    batch: Vec<Span>,
    /// What a connection tells, while it is followed: kept for its memory's sake.
    messages: Vec<Message>,
    /// When the batch was given away last.
    handed_over_ns: u64,
    wall: WallClock,
    wall_sampled_ns: u64,
    housekeeping_ns: u64,
    ready_ns: u64,
    books: FxHashMap<ProcessId, AgentBooks>,
    departed: AgentBooks,
    /// Records that the kernel lost, by process, as of the last look.
    losses: FxHashMap<ProcessId, u64>,
    operations_unknown: u64,
    doubts: Doubts,
    begun: Begun,
    /// Made so far, of calls and of processes.
    spans: u64,
    /// Of processes.
    process_spans: u64,
    config: ConfigStatus,
}

impl Pipeline {
    /// Puts the stages together. Nothing is traced before [`Pipeline::run`].
    pub fn new(
        capture: Capture,
        selection: Selection,
        engine: Engine,
        export: ExportHandle,
        config: ConfigStatus,
    ) -> Self {
        let stages = Stages::new(selection, engine, export, config);
        Self { capture, stages, inventory: Inventory::default(), recorder: None, engines: None }
    }

    /// The same, with container engines that are asked.
    #[must_use]
    pub fn asking(mut self, engines: Lookup) -> Self {
        self.stages.selection.describe_containers();
        Self { engines: Some(engines), ..self }
    }

    /// Traces what the rules allow until `stop`, then hands what is known to the exporters. `ready` is
    /// called once, when everything that runs already is traced. Gives back the recorder, if there is one.
    ///
    /// # Errors
    /// The kernel refused to let the sockets be listed, or to wait.
    pub fn run(
        mut self,
        stop: &AtomicBool,
        requests: &Receiver<Request>,
        ready: impl FnOnce(),
    ) -> anyhow::Result<Option<Recorder>> {
        let mut changes = Vec::new();
        self.stages.selection.scan(&mut self.capture, &mut |change| changes.push(change));
        self.follow(&changes);
        self.list_sockets();
        self.stages.runtimes.python.prepare(&mut self.capture);
        self.stages.ready_ns = clock::monotonic_ns();
        ready();
        let mut wait = IDLE_WAIT;
        while !stop.load(Ordering::Relaxed)
            && !self.recorder.as_ref().is_some_and(Recorder::is_over)
        {
            self.capture.wait(wait)?;
            wait = if self.round()? > 0 { BUSY_WAIT } else { IDLE_WAIT };
            while let Ok(request) = requests.try_recv() {
                // What is counted as a span is counted as offered in the same answer.
                self.stages.hand_over();
                self.answer(request);
            }
        }
        self.round()?;
        let Self { mut capture, stages, recorder, .. } = self;
        let stages = stages.finish();
        stages.runtimes.node.leave(&mut capture);
        Ok(recorder)
    }

    /// One round: all that the kernel has told, and what follows from time passing. Returns the records.
    fn round(&mut self) -> anyhow::Result<usize> {
        let now = clock::monotonic_ns();
        let stages = &mut self.stages;
        if now.saturating_sub(stages.wall_sampled_ns) >= WALL_SAMPLE_NS {
            stages.wall = WallClock::sample();
            stages.wall_sampled_ns = now;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.round(now, stages.wall);
        }
        self.describe_containers(now);
        self.look_ahead();
        let (count, drained) = self.read(now)?;
        if now.saturating_sub(self.stages.housekeeping_ns) >= HOUSEKEEPING_NS {
            self.stages.housekeeping_ns = now;
            self.housekeep(now);
        }
        self.select(now, drained);
        self.list_sockets();
        self.dismiss(now);
        // What was committed before the round began has been read: time may go on.
        if drained {
            self.assist(now);
            self.stages.time_goes_on(now);
        } else if let Some(recorder) = &mut self.recorder {
            self.stages.record_doubts(recorder);
            recorder.round_end(None);
        }
        self.stages.drop_calls();
        self.stages.hand_over_in_time(now);
        Ok(count + self.stages.selection.waiting())
    }

    /// Asks what is not known of containers, and hears what engines say.
    fn describe_containers(&mut self, now: u64) {
        let Some(engines) = &mut self.engines else { return };
        let selection = &mut self.stages.selection;
        for id in selection.take_undescribed() {
            if !engines.ask(&id, now) {
                selection.give_up_on(&id);
            }
        }
        while let Some((id, container)) = engines.answer() {
            selection.described(&id, container);
        }
    }

    /// Looks at processes that wait for it.
    fn select(&mut self, now: u64, drained: bool) {
        let mut changes = Vec::new();
        let Self { capture, stages, .. } = self;
        stages.selection.round(now, drained, capture, &mut |change| changes.push(change));
        self.follow(&changes);
    }

    /// Looks at processes that were executed, before all that was recorded earlier is read.
    fn look_ahead(&mut self) {
        let mut changes = Vec::new();
        let Self { capture, stages, .. } = self;
        for event in capture.executed_ahead() {
            stages.selection.executed_ahead(&event, capture, &mut |change| changes.push(change));
        }
        self.follow(&changes);
    }

    /// Reads the records that were made before `now`. Returns how many, and whether those were all.
    fn read(&mut self, now: u64) -> anyhow::Result<(usize, bool)> {
        let mut total = 0;
        loop {
            let Self { capture, stages, recorder, .. } = self;
            let (count, event) = capture.drain(DRAIN_LIMIT, now, |record| match record {
                // A process event changes what later records mean: it is followed before they are read.
                Record::Process(event) => ControlFlow::Break(event),
                Record::Operation(operation) => {
                    stages.operation(&operation);
                    if let Some(recorder) = recorder {
                        stages.record(recorder, &operation);
                    }
                    ControlFlow::Continue(())
                }
                Record::Socket(socket) => {
                    if let Some(recorder) = recorder {
                        recorder.socket(&socket);
                    }
                    stages.socket(socket);
                    ControlFlow::Continue(())
                }
                Record::Job(begun) => {
                    if let Some(recorder) = recorder {
                        recorder.job(&begun);
                    }
                    stages.job_begun(begun);
                    ControlFlow::Continue(())
                }
                Record::Gone(gone) => {
                    if let Some(recorder) = recorder {
                        recorder.gone(&gone);
                    }
                    stages.ending.push_back(gone);
                    ControlFlow::Continue(())
                }
            });
            total += count;
            let Some(event) = event else {
                return Ok((total, self.capture.is_drained()));
            };
            let mut changes = Vec::new();
            self.stages
                .selection
                .event(&event, &mut self.capture, &mut |change| changes.push(change));
            self.follow(&changes);
            if total >= DRAIN_LIMIT {
                return Ok((total, false));
            }
        }
    }

    /// Looks at silences, losses and slots that are free again.
    fn housekeep(&mut self, now: u64) {
        let Self { capture, stages, recorder, .. } = self;
        let lost = stages.find_losses(capture);
        stages.look_around(now, &lost);
        stages.runtimes.python.tick(now, capture);
        let mut forgotten = Vec::new();
        stages.selection.tick(now, capture, |id| forgotten.push(id));
        forgotten.iter().for_each(|id| stages.process_forgotten(*id));
        stages.prune_routes();
        if let Some(recorder) = recorder {
            stages.record_doubts(recorder);
            recorder.housekeeping(now, &lost, &forgotten);
        }
    }

    /// Hears what the runtimes tell. All records of before `now` were read.
    fn assist(&mut self, now: u64) {
        let Self { capture, stages, recorder, .. } = self;
        let mut told = Vec::new();
        stages.runtimes.node.round(now, capture, |it| told.push(it));
        let at_ns = clock::monotonic_ns();
        if let Some(recorder) = recorder {
            stages.record_doubts(recorder);
            recorder.round_end(Some((at_ns, stages.runtimes.node.take_heard())));
        }
        stages.assisted(told, at_ns);
    }

    fn follow(&mut self, changes: &[Change]) {
        self.record_changes(changes);
        for change in changes {
            match *change {
                // One seen from its beginning has no sockets but its parent's, which are known.
                Change::Traced { id, found_running: running } => {
                    if running {
                        self.inventory.ask();
                    }
                    self.stages.engine.process_started(id);
                    self.stages.process_began(id, &mut self.capture);
                }
                Change::Executed { id } => self.stages.process_began(id, &mut self.capture),
                Change::Program { id, at_ns } => self.stages.program_began(id, at_ns),
                Change::Listens { id, port, at_ns } => self.stages.listens(id, port, at_ns),
                Change::Gone { id, at_ns, departure } => {
                    self.stages.program_over(id, at_ns, departure);
                    self.stages.process_gone(id, at_ns);
                }
                Change::Reset { id } => self.stages.process_reset(id),
                Change::Dismissed { id } => self.stages.process_dismissed(id),
                // It is looked up where it is asked for.
                Change::Known { .. } => {}
            }
        }
        for change in changes {
            if let Change::Traced { id, .. } = *change
                && let Some(parent) = self.stages.selection.parent_of(id)
            {
                self.stages.engine.forked(id, parent);
            }
        }
    }

    /// Lists the sockets of processes that were running before.
    fn list_sockets(&mut self) {
        let began_ns = clock::monotonic_ns();
        if !self.inventory.is_due_at(began_ns) {
            return;
        }
        let taken = self.capture.take_inventory();
        let ended_ns = clock::monotonic_ns();
        match taken {
            Ok(()) => {
                self.stages.selection.listed(ended_ns);
                if let Some(recorder) = &mut self.recorder {
                    recorder.listed(ended_ns);
                }
            }
            // Until then they count as older than the agent.
            Err(error) => tracing::warn!(%error, "can't list the sockets that processes have"),
        }
        self.inventory.took(began_ns, ended_ns);
    }
}

impl Stages {
    fn new(
        selection: Selection,
        engine: Engine,
        export: ExportHandle,
        config: ConfigStatus,
    ) -> Self {
        Self {
            selection,
            runtimes: Runtimes::default(),
            connections: Connections::new(MAX_CONNECTIONS),
            ending: VecDeque::new(),
            engine,
            exchanges: Exchanges::default(),
            dismissed: FxHashMap::default(),
            brokers: Brokers::default(),
            deliveries: Deliveries::default(),
            programs: Programs::default(),
            takers: FxHashSet::default(),
            beginning: VecDeque::new(),
            jobs: Jobs::default(),
            telemetry: FxHashMap::default(),
            routes: Services::default(),
            export,
            batch: Vec::new(),
            messages: Vec::new(),
            handed_over_ns: 0,
            wall: WallClock::sample(),
            wall_sampled_ns: clock::monotonic_ns(),
            housekeeping_ns: 0,
            ready_ns: 0,
            books: FxHashMap::default(),
            departed: AgentBooks::default(),
            losses: FxHashMap::default(),
            operations_unknown: 0,
            doubts: Doubts::default(),
            begun: Begun::default(),
            spans: 0,
            process_spans: 0,
            config,
        }
    }

    /// The process's runtime has just begun, or is another one.
    fn process_began(&mut self, id: ProcessId, capture: &mut Capture) {
        if let Some(traced) = self.selection.get(id) {
            let assist = traced.settings.node_assist;
            self.runtimes.began(id, traced.slot, &traced.process, assist, capture);
            if self.selection.parent_of(id).is_some_and(|parent| self.takers.contains(&parent)) {
                self.runtimes.python.works_on_jobs(id);
            }
        }
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        let Some(traced) = self.selection.by_slot(operation.slot) else {
            self.operations_unknown += 1;
            self.begun.insert(operation.cookie);
            return;
        };
        let process = traced.id;
        let books = self.books.entry(process).or_default();
        if operation.length > 0 {
            books.operations += 1;
            books.bytes += u64::from(operation.length);
            books.bytes_captured += operation.payload.len() as u64;
        }
        if !self.connections.contains(operation.cookie) {
            // An end without a beginning tells nothing; a full table takes no more.
            if operation.length == 0 {
                return;
            }
            if !operation.sent {
                // It may be inbound, and a request what came.
                self.engine.inbound_lost(process, operation.at_ns);
            }
            if !self.connections.meet(operation.cookie, process, options(&traced.settings)) {
                books.bytes_not_understood += u64::from(operation.length);
                return;
            }
        }
        self.runtimes.node.operation(process, operation);
        self.with_connection(operation.cookie, |connection, out| {
            connection.process = process;
            connection.operation(operation, out);
        });
    }

    fn socket(&mut self, socket: Socket) {
        let Some(traced) = self.selection.by_slot(socket.slot) else { return };
        if socket.listening {
            return;
        }
        let process = traced.id;
        let is_new = socket.active
            || socket.passive
            || (!socket.found && socket.at_ns >= traced.known_from_ns);
        let from_start = is_new && !self.begun.contains(socket.cookie);
        let inbound = is_inbound(&socket, &traced.process.listening);
        self.runtimes.node.socket(process, &socket, if from_start { 0 } else { socket.at_ns });
        let (cookie, at_ns) = (socket.cookie, socket.at_ns);
        let counted = socket.unix_ends.is_some();
        let Announced { other_end, turned_away } =
            self.connections.announce(process, socket, from_start, options(&traced.settings));
        if inbound && (turned_away || !from_start) {
            // A request may be in flight on it that nobody saw begin.
            self.engine.inbound_lost(process, at_ns);
        }
        match other_end.map(|other| (SocketId(cookie), SocketId(other))) {
            Some((here, there)) if counted => self.engine.paired_by_count(here, there),
            Some((here, there)) => self.engine.paired(here, there),
            None => {}
        }
    }

    /// Follows the ends that came until `until_ns`.
    fn end_connections(&mut self, until_ns: u64) {
        while self.ending.front().is_some_and(|gone| gone.at_ns <= until_ns) {
            if let Some(gone) = self.ending.pop_front() {
                self.gone(&gone);
            }
        }
    }

    fn gone(&mut self, gone: &Gone) {
        self.with_connection(gone.cookie, |connection, out| connection.gone(gone, out));
        self.forget(gone.cookie, gone.at_ns);
    }

    /// Ends a connection that nothing more will come of.
    fn forget(&mut self, cookie: u64, at_ns: u64) {
        self.with_connection(cookie, |connection, out| connection.close(at_ns, out));
        self.jobs_left(|jobs, mut over| jobs.asked(cookie, at_ns, &mut over));
        self.engine.socket_closed(SocketId(cookie), at_ns);
        self.runtimes.node.gone(cookie);
        self.telemetry.remove(&cookie);
        let Some(connection) = self.connections.remove(cookie) else { return };
        self.books.entry(connection.process).or_default().add_bytes(&connection.bytes());
    }

    /// Calls learn from the runtimes whose they are. `at_ns`: now, where a process became assisted.
    fn assisted(&mut self, told: Vec<Told>, at_ns: u64) {
        for told in told {
            match told {
                Told::Context { call, number } => self.engine.context(call, number),
                Told::Work(work) => self.handler(work),
            }
        }
        let Self { runtimes: Runtimes { node: assist, .. }, connections, .. } = self;
        let fresh = assist.take_fresh();
        if fresh.is_empty() {
            return;
        }
        // What was sent before now was not kept.
        for connection in connections.values().filter(|known| fresh.contains(&known.process)) {
            if let Some(socket) = &connection.socket {
                assist.socket(connection.process, socket, at_ns);
            }
        }
    }

    fn process_gone(&mut self, id: ProcessId, at_ns: u64) {
        self.runtimes.ended(id);
        self.dismissed.remove(&id);
        self.takers.remove(&id);
        self.jobs_left(|jobs, mut over| jobs.gone(id, at_ns, &mut over));
        // Its TCP sockets tell their own end; those of other kinds end here, after their last records.
        self.engine.process_gone(id, at_ns);
    }

    /// Lets a connection work, and follows what it told.
    fn with_connection(
        &mut self,
        cookie: u64,
        work: impl FnOnce(&mut Connection, &mut dyn FnMut(Message)),
    ) {
        let Some(connection) = self.connections.get_mut(cookie) else { return };
        let mut messages = std::mem::take(&mut self.messages);
        work(connection, &mut |message| messages.push(message));
        let (at_ns, role) = (connection.last_ns, connection.role);
        let lost = std::mem::take(&mut connection.lost).then_some(connection.process);
        let hid = role.and_then(|_| connection.hides_requests_of.take());
        if let Some(process) = lost {
            // Before what follows from the hole is told: requests may have passed in it, and messages.
            let doubt = match role {
                Some(Role::Client) => Doubt::Messages,
                Some(Role::Server) | None => Doubt::Requests,
            };
            self.doubt(doubt, process, cookie, at_ns);
        }
        if let Some(process) = hid {
            // It can be read from here on.
            self.doubt(Doubt::Closed, process, cookie, at_ns);
        }
        for message in messages.drain(..) {
            match message {
                Message::Call { exchange, step } => self.call(cookie, exchange, step),
                Message::Queue { exchange, mark, database, notice } => {
                    self.queue_told(cookie, exchange, mark, database, notice);
                }
                Message::Opaque => self.opaque(cookie),
                Message::Broker(fact) => {
                    if let Some(connection) = self.connections.get(cookie) {
                        self.brokers.learn(connection.process, fact);
                    }
                }
                Message::Unread { at_ns } => self.unread(cookie, at_ns),
                Message::OwnSpans => {
                    if let Some(connection) = self.connections.get(cookie)
                        && !self.is_inbound(connection)
                    {
                        let process = connection.process;
                        self.sends_spans(process);
                    }
                }
            }
        }
        messages.shrink_to(MESSAGES_KEPT);
        self.messages = messages;
    }

    fn opaque(&mut self, cookie: u64) {
        let Some(connection) = self.connections.get(cookie) else { return };
        let process = connection.process;
        self.books.entry(process).or_default().connections_not_understood += 1;
        if self.is_inbound(connection) {
            let at_ns = connection.last_ns;
            self.doubt(Doubt::Opened, process, cookie, at_ns);
        }
    }

    /// A request may have come that nobody could read: it would be in flight unseen.
    fn unread(&mut self, cookie: u64, at_ns: Option<u64>) {
        let Some(connection) = self.connections.get(cookie) else { return };
        let at_ns = at_ns.unwrap_or(connection.last_ns);
        let process = connection.process;
        if connection.role != Some(Role::Server) && !self.is_inbound(connection) {
            return;
        }
        self.doubt(Doubt::Requests, process, cookie, at_ns);
        // How long such a request takes, nothing tells: until the connection shows what it is, there is one.
        if let Some(connection) = self.connections.get_mut(cookie)
            && connection.role.is_none()
            && connection.hides_requests_of.replace(process) != Some(process)
        {
            self.doubt(Doubt::Opened, process, cookie, at_ns);
        }
    }

    fn is_inbound(&self, connection: &Connection) -> bool {
        let traced = self.selection.get(connection.process);
        let listening =
            traced.map(|traced| traced.process.listening.as_slice()).unwrap_or_default();
        // One without a record may be anything.
        connection.socket.as_ref().is_none_or(|socket| is_inbound(socket, listening))
    }

    fn call(&mut self, cookie: u64, exchange: u64, step: Step) {
        let place = (cookie, exchange);
        match step {
            Step::Begun { offset, first, content } => {
                self.begun(cookie, exchange, offset, first, content);
            }
            Step::RequestEnd { last, content_bytes, fields } => {
                if let Some(exchange) = self.exchanges.at(place) {
                    exchange.request_last = Some(last);
                    exchange.request_bytes = content_bytes;
                    exchange.request_fields = fields;
                }
            }
            Step::Response { first, head } => {
                if let Some(id) = self.exchanges.id(place) {
                    self.engine.answered(id, first.strand);
                }
                if let Some(exchange) = self.exchanges.at(place) {
                    exchange.response_first = Some(first);
                    if let Content::Http { response, .. } = &mut exchange.content {
                        *response = head;
                    }
                }
            }
            Step::Over { last, outcome } => self.ended(cookie, exchange, last, outcome),
            Step::Abandoned => {
                let Some((id, exchange)) = self.exchanges.ends(place) else {
                    let at_ns = self.connections.get(cookie).map_or(0, |known| known.last_ns);
                    return self.telemetry_over(cookie, exchange, at_ns);
                };
                self.engine.abandoned(id, exchange.first.at_ns);
                self.runtimes.node.over(cookie, id);
                self.given_up(id);
            }
        }
    }

    fn begun(&mut self, cookie: u64, exchange: u64, offset: u64, first: Mark, content: Content) {
        let Some(connection) = self.connections.get_mut(cookie) else { return };
        let (process, Some(role)) = (connection.process, connection.role) else { return };
        let Some(traced) = self.selection.get(process) else { return };
        // It is let go as soon as nothing of the agent's is in it.
        if self.dismissed.contains_key(&process) {
            return;
        }
        // What an inspector is asked is nobody's request, and makes no calls.
        if role == Role::Server
            && let Content::Http { request, .. } = &content
        {
            let (node, socket) = (&self.runtimes.node, connection.socket.as_ref());
            if node.is_inspector(process, socket, request.host.as_deref()) {
                return;
            }
        }
        let books = self.books.entry(process).or_default();
        let remote = match &content {
            Content::Http { request, .. } => {
                if span::http::is_telemetry(request) {
                    books.telemetry_exchanges += 1;
                    if role == Role::Server {
                        self.telemetry_began(process, cookie, exchange, first.at_ns);
                    } else if span::http::is_spans(request) {
                        self.sends_spans(process);
                    }
                    return;
                }
                let state = request.tracestate.as_deref().map(Box::from);
                request.traceparent.map(|parent| RemoteParent { parent, state })
            }
            Content::Redis(_) => None,
            Content::Job(work) => work.context.map(|parent| RemoteParent { parent, state: None }),
            Content::Postgres { query, .. } => {
                // Of a prepared statement it tells who prepared it.
                let text = query.text.as_deref().filter(|_| query.fresh).unwrap_or_default();
                let parent = sql::traceparent_in_comment(text);
                parent.map(|parent| RemoteParent { parent, state: None })
            }
            Content::Amqp { call, .. } => span::amqp::remote(call),
            Content::Kafka(call) => {
                let parent = call.own_context();
                parent.map(|parent| RemoteParent { parent, state: None })
            }
        };
        // Whose task wrote it says nothing of who asked for it.
        let is_writers = role == Role::Client && content.is_writers();
        let incidental = content.is_incidental();
        let receives = content.receives();
        let linked = receives && traced.settings.message_links;
        let handled = content.is_handled();
        let waits = role == Role::Client && content.waits_for_work();
        let task = content.celerys_task().map(celerys_task);
        let older_messages = handled.is_some() && std::mem::take(&mut connection.older_messages);
        let mail = content.mail(cookie, first.at_ns);
        let database = match (&content, &connection.socket) {
            (Content::Postgres { session, .. }, Some(socket))
                if session.database.is_none() && role == Role::Client =>
            {
                traced.process.environment.databases().at(socket).map(Arc::from)
            }
            _ => None,
        };
        let wanted = is_wanted(&traced.settings, role, &content);
        let call = Exchange {
            process,
            role,
            resource: Arc::clone(&traced.resource),
            settings: Arc::clone(&traced.settings),
            environment: traced.settings.traffic.environment(&traced.process),
            socket: connection.socket.clone(),
            content,
            first,
            request_last: None,
            request_bytes: None,
            request_fields: Vec::new(),
            response_first: None,
            end: None,
            database,
            connect_ns: connection.connect_ns.take(),
            wall: self.wall,
            begun_by_ns: None,
            over_by_ns: None,
        };
        let Some(id) = self.exchanges.enter((cookie, exchange), call) else { return };
        books.calls += 1;
        let context = if is_writers { 0 } else { first.context };
        if !receives {
            self.runtimes.node.began(cookie, id, role, offset, first.at_ns);
        }
        self.engine.started(CallStarted {
            id,
            process,
            socket: SocketId(cookie),
            role,
            task: Task { tid: first.tid, context, blocking: first.blocking },
            at_ns: first.at_ns,
            offset,
            remote,
            incidental,
            receives,
        });
        if linked {
            self.engine.links_only(id);
        }
        if waits {
            self.engine.serves(process, first.at_ns);
        }
        if role == Role::Client && !is_writers && !receives {
            self.engine.made_by(id, first.strand);
            if first.threads_own {
                self.engine.by_thread(id);
            }
        }
        if let Some(Handled { automatic, channel, delivery_tag }) = handled {
            self.engine.handles(id, automatic);
            self.deliveries.came((process, channel, delivery_tag), SocketId(cookie), id);
            if let Some(task) = task {
                self.takes_jobs(process);
                self.engine.hands_over(process);
                // Where it comes again before a child begins with it, it could be either.
                self.deliveries.job_came(process, Place::alone(id.0), task, id);
            }
            if older_messages {
                self.engine.messages_lost(process, first.at_ns);
            }
        }
        if let Some(mail) = mail {
            post(&mut self.engine, id, mail);
        }
        if !wanted {
            self.engine.unwanted(id);
        }
    }

    fn ended(&mut self, cookie: u64, exchange: u64, last: Mark, outcome: Outcome) {
        let Some((id, exchange)) = self.exchanges.ends((cookie, exchange)) else {
            return self.telemetry_over(cookie, exchange, last.at_ns);
        };
        let (process, role) = (exchange.process, exchange.role);
        self.runtimes.node.over(cookie, id);
        let broken = outcome.broken().is_some();
        let upgrade = outcome.is_upgrade();
        let silence = match role {
            Role::Client => outcome.silence(&exchange.content, exchange.settings.silent_pool_pings),
            Role::Server => Silence::Never,
        };
        if silence == Silence::Always {
            let received = exchange.content.receives();
            let at_ns = if received { last.at_ns } else { exchange.first.at_ns };
            self.engine.silent(id, at_ns);
            self.exchanges.remove(id);
            self.books.entry(process).or_default().calls_silent += 1;
            return;
        }
        if let Content::Kafka(call) = &mut exchange.content {
            self.brokers.name(process, call, &outcome);
            if let Some(socket) = &exchange.socket {
                let engine = &mut self.engine;
                call.mail(&outcome, socket, last.at_ns, &mut |mail| post(engine, id, mail));
            }
        }
        if let Some(receipt) = outcome.fetched(cookie, last.at_ns) {
            self.engine.fetched(id, receipt);
        }
        if broken && exchange.content.is_handled().is_some() {
            // Its handler goes on, and nobody will be told how far.
            self.engine.messages_lost(process, last.at_ns);
        }
        exchange.end = Some((last, outcome));
        self.deliveries.answered(exchange);
        let over = CallEnded { id, at_ns: last.at_ns };
        if silence == Silence::UnlessAskedFor {
            self.engine.found_nothing(over);
        } else if role == Role::Server && broken {
            self.engine.broken_off(over);
        } else {
            self.engine.ended(over);
        }
        if role == Role::Server && upgrade {
            self.engine.opaque_inbound(process, SocketId(cookie), true, last.at_ns);
        }
    }

    /// Looks at silences. `lost`: processes of which the kernel has lost records.
    fn look_around(&mut self, now: u64, lost: &[ProcessId]) {
        for cookie in self.connections.cookies() {
            self.with_connection(cookie, |connection, out| connection.tick(now, out));
            let Some(connection) = self.connections.get(cookie) else { continue };
            let fate = connection.fate(now, self.connections.are_crowded());
            let gone = self.selection.get(connection.process).is_none_or(|traced| {
                traced.gone_ns.is_some_and(|at| now.saturating_sub(at) > AFTERLIFE_NS)
            });
            if fate != Fate::Keep && !gone {
                self.with_connection(cookie, |connection, out| connection.give_up(out));
            }
            if fate == Fate::Forget || gone {
                self.forget(cookie, now);
            }
        }
        self.end_handlers(now);
        self.look_for_jobs(now);
        self.jobs_left(|jobs, mut over| jobs.tick(now, &mut over));
        self.hear_of_losses(now, lost);
        self.hear_of_strangers(now);
    }

    /// What was kept of a process whose slot was given back.
    fn process_forgotten(&mut self, id: ProcessId) {
        self.losses.remove(&id);
        self.brokers.forget(id);
        self.deliveries.forget(id);
        if let Some(books) = self.books.remove(&id) {
            self.departed.add(&books);
        }
    }

    fn prune_routes(&mut self) {
        let services = self.selection.iter().map(|traced| traced.resource.text(SERVICE_NAME));
        self.routes.prune(&services.map(Option::unwrap_or_default).collect());
    }

    /// Processes of which the kernel has lost records since the last look.
    fn find_losses(&mut self, capture: &Capture) -> Vec<ProcessId> {
        let mut found = Vec::new();
        for traced in self.selection.iter() {
            let books = capture.books(traced.slot);
            let lost = books.dropped_records + books.dropped_operations.iter().sum::<u64>();
            let known = self.losses.entry(traced.id).or_default();
            if lost > *known {
                *known = lost;
                found.push(traced.id);
            }
        }
        found
    }

    /// A full ring loses records of any connection: until later, nothing of the process is certain.
    fn hear_of_losses(&mut self, now: u64, lost: &[ProcessId]) {
        let in_doubt: FxHashSet<ProcessId> = lost.iter().copied().collect();
        for id in lost {
            self.engine.records_lost(*id, now);
        }
        if !in_doubt.is_empty() {
            for connection in self.connections.values_mut() {
                connection.end_in_doubt |= in_doubt.contains(&connection.process);
            }
        }
    }

    /// Connections to what isn't traced here (databases, other nodes): nothing is kept for their other ends.
    fn hear_of_strangers(&mut self, now: u64) {
        let listening: FxHashSet<u16> =
            self.selection.iter().flat_map(|traced| &traced.process.listening).copied().collect();
        for cookie in self.connections.unpaired(now, |port| listening.contains(&port)) {
            self.engine.unpaired(SocketId(cookie));
        }
    }

    /// All records of before `now` were read.
    fn time_goes_on(&mut self, now: u64) {
        self.end_connections(now.saturating_sub(LATE_NS));
        self.decide(now);
    }

    fn decide(&mut self, now: u64) {
        let mut placed = Vec::new();
        self.engine.tick(now, &mut |placement| placed.push(placement));
        for placement in placed {
            self.place(placement);
        }
    }

    /// What the engine gave up by itself is no span either; programs that ended are.
    fn drop_calls(&mut self) {
        for id in self.engine.take_dropped() {
            self.given_up(id);
        }
        for id in self.engine.take_silenced() {
            if let Some(exchange) = self.exchanges.remove(id) {
                self.books.entry(exchange.process).or_default().calls_silent += 1;
            }
        }
        self.programs_over();
    }

    fn given_up(&mut self, id: CallId) {
        if let Some(exchange) = self.exchanges.remove(id) {
            self.books.entry(exchange.process).or_default().calls_abandoned += 1;
        }
    }

    fn place(&mut self, placement: Placement) {
        let Some(mut exchange) = self.exchanges.finish(placement.id, placement.peer_call) else {
            return;
        };
        self.confirm(&mut exchange);
        let books = self.books.entry(exchange.process).or_default();
        match placement.status {
            ParentStatus::Certain => books.parents_certain += 1,
            ParentStatus::Root => books.parents_none += 1,
            ParentStatus::Withheld(_) => books.parents_withheld += 1,
        }
        let settings = &exchange.settings;
        if placement.unwanted {
            books.calls_ignored += 1;
            return;
        }
        let flags = placement.continued.then_some(placement.trace_flags);
        let sampled = settings.sampling.keeps(&placement.trace_id, flags);
        // Names are learned of what is not sampled, too: which is does not depend on the path.
        let route = self.route(&exchange);
        let books = self.books.entry(exchange.process).or_default();
        if !sampled {
            books.calls_unsampled += 1;
            return;
        }
        let mut span = span::of(&exchange, &route, placement);
        if settings.ignores_statement_of(&span) {
            books.calls_ignored += 1;
            return;
        }
        settings.redaction.apply(&mut span);
        settings.limit(&mut span);
        books.calls_spans += 1;
        self.spans += 1;
        self.batch.push(span);
    }

    /// The low-cardinality form of the path; empty where there is none.
    fn route(&mut self, exchange: &Exchange) -> Arc<str> {
        let Content::Http { request, response } = &exchange.content else { return Arc::from("") };
        let path = &request.target;
        if !path.starts_with('/') {
            return Arc::from("");
        }
        let service = exchange.resource.text(SERVICE_NAME).unwrap_or_default();
        let Some(routes) = self.routes.of(service, &exchange.settings.routes) else {
            return Arc::from("");
        };
        match response.as_ref().map(|response| response.status) {
            // What scanners ask for is no route of the service's.
            Some(404 | 405) => routes.known(path),
            _ => routes.route(path),
        }
    }

    /// Each time that exporters are given spans wakes their threads, which cost more than one span does.
    fn hand_over_in_time(&mut self, now: u64) {
        if self.batch.is_empty() {
            return;
        }
        let due = now.saturating_sub(self.handed_over_ns) >= HAND_OVER_NS;
        if due || self.batch.len() >= HAND_OVER_SPANS {
            self.handed_over_ns = now;
            let selection = &self.selection;
            let undescribed = if selection.all_are_described() {
                Vec::new()
            } else {
                let is_late = |span: &mut Span| !selection.may_be_told(&span.resource);
                self.batch.extract_if(.., is_late).collect()
            };
            self.hand_over();
            self.batch = undescribed;
        }
    }

    fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        if !self.selection.all_are_described() {
            for span in &mut batch {
                if let Some(resource) = self.selection.renamed(&span.resource) {
                    span.resource = Arc::clone(resource);
                }
            }
        }
        self.export.offer(&batch.into());
    }

    /// The agent leaves: what is known now is decided, exported, and the rest is left open.
    fn finish(mut self) -> Self {
        self.end_connections(u64::MAX);
        let mut placed = Vec::new();
        self.engine.flush(&mut |placement| placed.push(placement));
        for placement in placed {
            self.place(placement);
        }
        self.drop_calls();
        self.hand_over();
        self
    }
}

/// Whether a span of a call is wanted, as far as its beginning tells.
fn is_wanted(settings: &Settings, role: Role, content: &Content) -> bool {
    match content {
        Content::Http { request, .. } => {
            let ignored = role == Role::Server && settings.ignored_routes.is_match(&request.target);
            settings.protocols.http && !ignored
        }
        Content::Redis(_) | Content::Job(_) => settings.protocols.redis,
        Content::Postgres { .. } => settings.protocols.postgresql,
        // What a broker or a relay receives and sends is its clients' doing.
        Content::Amqp { .. } => settings.protocols.amqp && role == Role::Client,
        Content::Kafka(_) => settings.protocols.kafka,
    }
}

/// What the connection stage has to know of a process's settings.
fn options(settings: &Settings) -> Options {
    Options {
        query_parameters: settings.query_parameters,
        message_keys: settings.message_keys,
        queues: Arc::clone(&settings.queues),
        propagators: settings.propagators,
        fields: Arc::clone(settings.traffic.asked()),
        redis_keys: settings.traffic.wants_redis_keys(),
        pointers: Arc::clone(settings.traffic.pointers()),
    }
}

fn post(engine: &mut Engine, id: CallId, mail: Mail) {
    match mail {
        Mail::Sends(message) => engine.sent(id, message),
        Mail::Receives(receipt) => engine.received(id, receipt),
    }
}

/// Whether the process accepted this connection: known from its listener, or by its local port or path.
fn is_inbound(socket: &Socket, listening: &[u16]) -> bool {
    socket.passive
        || socket.addressed
        || (!socket.active
            && socket.addresses.is_some_and(|(local, _)| listening.contains(&local.port())))
}
