//! The stages behind the seam, fed from a recording: no kernel, no `/proc`, no clock but the recording's.
//!
//! A recording is another machine's word: what contradicts itself is counted and passed over, and every bound that
//! the stages have holds here as well.

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::Stages;
use super::doubt::Doubts;
use crate::books::{AgentBooks, ConfigStatus};
use crate::call::ProcessId;
use crate::capture::Slot;
use crate::clock::WallClock;
use crate::correlation::{Config, Engine, RandomIds};
use crate::export::ExportHandle;
use crate::recording::frame::{
    Change, ChangeKind, End, Exit, Frame, Header, Housekeeping, Kind, RoundEnd,
};
use crate::recording::{Facts, VERSION};
use crate::runtime::node::Heard;
use crate::selection::{Departure, Selection};

/// No clock that counts from a machine's start gets there in a century; beyond, sums of times would.
const LATEST_NS: u64 = 1 << 62;

/// Why a recording can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The first frame is none that a recording begins with.
    #[error("the recording does not begin with what says how it was made")]
    Header,
    /// It is of another version of the format.
    #[error("the recording is of version {0}; this agent reads version {VERSION}")]
    Version(u32),
}

/// What became of a recording.
#[derive(Clone, Debug, Default)]
pub struct ReplayBooks {
    /// What the agent made of it.
    pub agent: AgentBooks,
    /// Spans made.
    pub spans: u64,
    /// Operations of processes that the recording does not know.
    pub operations_unknown: u64,
    /// Frames that made no sense.
    pub malformed: u64,
    /// What the recorder counted; `None`: the recording was cut off.
    pub end: Option<End>,
}

/// A replay.
pub struct Replay {
    stages: Stages,
    now_ns: u64,
    malformed: u64,
    end: Option<End>,
}

impl Replay {
    /// Begins with a recording's first frame. The same recording gives the same spans, ids and all.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn new(first: Frame, export: ExportHandle) -> Result<(Self, Header), ReplayError> {
        let Some(Kind::Header(header)) = first.kind else { return Err(ReplayError::Header) };
        if header.version != VERSION {
            return Err(ReplayError::Version(header.version));
        }
        let ids = RandomIds(SmallRng::seed_from_u64(header.seed));
        let engine = Engine::new(Config::default(), Box::new(ids));
        let mut stages = Stages::new(Selection::told(), engine, export, ConfigStatus::default());
        stages.doubts = Doubts::Told;
        Ok((Self { stages, now_ns: 0, malformed: 0, end: None }, header))
    }

    /// Follows one frame. What makes no sense is counted.
    pub fn follow(&mut self, frame: Frame) {
        // A kind of a later version.
        let Some(kind) = frame.kind else { return };
        if self.tell(kind).is_none() {
            self.malformed += 1;
        }
    }

    /// Nothing more comes: what is known is decided and exported.
    pub fn finish(self) -> ReplayBooks {
        let Self { stages, malformed, end, .. } = self;
        let stages = stages.finish();
        let mut agent = stages.departed.clone();
        for books in stages.books.values() {
            agent.add(books);
        }
        for connection in stages.connections.values() {
            agent.add_bytes(&connection.bytes());
        }
        agent.calls_open = stages.exchanges.processes().count() as u64;
        let (spans, operations_unknown) = (stages.spans, stages.operations_unknown);
        ReplayBooks { agent, spans, operations_unknown, malformed, end }
    }

    /// `None`: it makes no sense.
    fn tell(&mut self, kind: Kind) -> Option<()> {
        let stages = &mut self.stages;
        match kind {
            Kind::Header(_) => return None,
            Kind::Process(process) => {
                let mut traced = Facts::read(&process.json).ok()?;
                if let Some(known) = stages.selection.get(traced.id) {
                    traced.known_from_ns = known.known_from_ns;
                }
                return stages.selection.tell(traced).then_some(());
            }
            Kind::Change(change) => return self.change(change),
            Kind::Operation(operation) => {
                time(operation.at_ns)?;
                stages.operation(&operation.record()?);
            }
            Kind::Socket(socket) => {
                time(socket.at_ns)?;
                stages.socket(socket.record());
            }
            Kind::Doubt(doubt) => {
                time(doubt.at_ns)?;
                return stages.doubt_told(&doubt);
            }
            Kind::Gone(gone) => {
                time(gone.at_ns)?;
                stages.ending.push_back(gone.record());
            }
            Kind::Job(job) => {
                let at_ns = time(job.at_ns)?;
                stages.task_begun(Slot(job.slot), &job.id, job.context, at_ns);
            }
            Kind::Round(round) => {
                self.now_ns = time(round.now_ns)?.max(self.now_ns);
                stages.wall = WallClock::at_distance(round.wall_ns);
            }
            Kind::Housekeeping(Housekeeping { now_ns, lost, forgotten }) => {
                time(now_ns)?;
                let lost: Vec<ProcessId> = lost.into_iter().map(ProcessId).collect();
                stages.look_around(now_ns, &lost);
                for id in forgotten.into_iter().map(ProcessId) {
                    stages.selection.told_forgotten(id);
                    stages.process_forgotten(id);
                }
                stages.prune_routes();
            }
            Kind::Listed(listed) => stages.selection.listed(time(listed.at_ns)?),
            Kind::RoundEnd(end) => return self.round_end(&end),
            Kind::End(end) => self.end = Some(end),
        }
        Some(())
    }

    fn change(&mut self, change: Change) -> Option<()> {
        let stages = &mut self.stages;
        let id = ProcessId(change.process);
        stages.selection.get(id)?;
        match change.kind() {
            ChangeKind::Unknown => {}
            ChangeKind::Traced => {
                stages.selection.told_traced(id, change.found_running);
                stages.engine.process_started(id);
                stages.process_told(id);
            }
            ChangeKind::Forked => stages.engine.forked(id, ProcessId(change.parent)),
            ChangeKind::Executed => {
                stages.selection.told_executed(id);
                stages.process_told(id);
            }
            ChangeKind::Program => stages.program_began(id, time(change.at_ns)?),
            ChangeKind::Listens => {
                let port = u16::try_from(change.port).ok()?;
                stages.listens(id, port, time(change.at_ns)?);
            }
            ChangeKind::Gone => {
                let at_ns = time(change.at_ns)?;
                let exit = change.exit.map(Exit::record);
                let departure =
                    if change.exited { Departure::Exited(exit) } else { Departure::LetGo };
                stages.selection.told_gone(id, at_ns);
                stages.program_over(id, at_ns, departure);
                stages.process_gone(id, at_ns);
            }
            ChangeKind::Dismissed => stages.process_dismissed(id),
        }
        Some(())
    }

    fn round_end(&mut self, end: &RoundEnd) -> Option<()> {
        let stages = &mut self.stages;
        let mut heard = Some(Heard::default());
        if end.drained {
            if !end.heard_json.is_empty() {
                heard = serde_json::from_slice(&end.heard_json).ok();
            }
            let mut told = Vec::new();
            let node = &mut stages.runtimes.node;
            node.replay(self.now_ns, heard.clone().unwrap_or_default(), |it| told.push(it));
            stages.assisted(told, end.assisted_ns);
            stages.time_goes_on(self.now_ns);
        }
        stages.drop_calls();
        stages.hand_over();
        heard.map(drop)
    }
}

impl Stages {
    /// A process's runtime has just begun, or is another one, and nothing of it is looked at here.
    fn process_told(&mut self, id: ProcessId) {
        if let Some(traced) = self.selection.get(id) {
            self.runtimes.told(id, traced.slot, &traced.process);
        }
    }
}

/// A time that can be one.
fn time(at_ns: u64) -> Option<u64> {
    (at_ns < LATEST_NS).then_some(at_ns)
}
