//! What the pipeline writes into a recording: all that the stages behind the seam are told, in the order in which they
//! are told it.

use super::doubt::Doubts;
use super::{Pipeline, Stages};
use crate::call::ProcessId;
use crate::capture::Operation;
use crate::recording::Recorder;
use crate::recording::frame::{Change as Told, ChangeKind};
use crate::selection::{Change, Departure};

impl Pipeline {
    /// The same, recorded. It ends by itself when the recording is over. Rules are not read again meanwhile: of them
    /// nothing is recorded but what they said at the beginning.
    #[must_use]
    pub fn recorded(mut self, recorder: Recorder) -> Self {
        self.stages.runtimes.node.record();
        self.stages.doubts = Doubts::Kept(Vec::new());
        self.recorder = Some(recorder);
        self
    }

    /// What became of processes, and what is known of them now.
    pub(super) fn record_changes(&mut self, changes: &[Change]) {
        let Self { recorder: Some(recorder), stages, .. } = self else { return };
        let tell = |recorder: &mut Recorder, kind: ChangeKind, id: ProcessId, told: Told| {
            recorder.change(Told { kind: kind.into(), process: id.0, ..told });
        };
        for change in changes {
            let none = Told::default();
            if let Change::Traced { id, .. }
            | Change::Executed { id }
            | Change::Known { id }
            | Change::Reset { id } = *change
                && let Some(traced) = stages.selection.get(id)
            {
                recorder.process(traced);
            }
            match *change {
                Change::Traced { id, found_running } => {
                    tell(recorder, ChangeKind::Traced, id, Told { found_running, ..none });
                }
                Change::Executed { id } => tell(recorder, ChangeKind::Executed, id, none),
                Change::Program { id, at_ns } => {
                    tell(recorder, ChangeKind::Program, id, Told { at_ns, ..none });
                }
                Change::Listens { id, port, at_ns } => {
                    let port = port.into();
                    tell(recorder, ChangeKind::Listens, id, Told { at_ns, port, ..none });
                }
                Change::Gone { id, at_ns, departure } => {
                    let (exited, exit) = match departure {
                        Departure::LetGo => (false, None),
                        Departure::Exited(exit) => (true, exit.map(Into::into)),
                    };
                    tell(recorder, ChangeKind::Gone, id, Told { at_ns, exited, exit, ..none });
                }
                Change::Dismissed { id } => tell(recorder, ChangeKind::Dismissed, id, none),
                Change::Known { .. } | Change::Reset { .. } => {}
            }
        }
        for change in changes {
            if let Change::Traced { id, .. } = *change
                && let Some(ProcessId(parent)) = stages.selection.parent_of(id)
            {
                tell(recorder, ChangeKind::Forked, id, Told { parent, ..Told::default() });
            }
        }
    }
}

impl Stages {
    /// An operation, after it was followed: what is spoken on its connection is known by then.
    pub(super) fn record(&mut self, recorder: &mut Recorder, operation: &Operation<'_>) {
        self.record_doubts(recorder);
        recorder.operation(operation, self.connections.get(operation.cookie));
        // Which process sends spans of its own may not be seen in what is left of a payload.
        recorder.dismissed(self.dismissed.keys().copied());
    }
}
