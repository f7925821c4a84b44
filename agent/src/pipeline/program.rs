//! Processes that serve nothing: what is known of each until its span is made.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Stages;
use crate::call::{ProcessId, ProgramEnd, ProgramId, ProgramStarted};
use crate::runtime::serves_on;
use crate::selection::Departure;
use crate::settings::Settings;
use crate::span::process::{Run, span};

/// Twice as many as the engine holds processes: one that ended waits half a second for its last calls.
const MAX_PROGRAMS: usize = 16_384;

/// Those that run, or ended and wait for their last calls.
#[derive(Debug, Default)]
pub(super) struct Programs {
    by_id: FxHashMap<ProgramId, (Run, Arc<Settings>)>,
    of: FxHashMap<ProcessId, ProgramId>,
    next: u64,
}

impl Stages {
    /// A process executed a program then, or is found to run one.
    pub(super) fn program_began(&mut self, process: ProcessId, at_ns: u64) {
        let Some(traced) = self.selection.get(process) else { return };
        let (settings, program) = (&traced.settings, &traced.program);
        let runtime = traced.process.runtime;
        let limit_ns = u64::try_from(settings.process_span_limit.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = at_ns.saturating_add(limit_ns);
        if !settings.process_spans
            || program.is_scheduler
            || traced.process.listening.iter().any(|port| serves_on(runtime, *port))
            || self.programs.by_id.len() >= MAX_PROGRAMS
        {
            // What it ran before ends all the same.
            self.engine.program_ended(process, at_ns, ProgramEnd::Replaced);
            return;
        }
        self.programs.next += 1;
        let id = ProgramId(self.programs.next);
        let run = Run {
            program: Arc::clone(program),
            pid: traced.process.pid,
            resource: Arc::clone(&traced.resource),
            start_ns: at_ns,
            found_running: traced.known_from_ns == u64::MAX,
            first: !self.programs.of.contains_key(&process),
            exit: None,
            wall: self.wall,
        };
        let started = ProgramStarted {
            id,
            process,
            by: self.selection.parent_of(process),
            remote: program.remote(),
            at_ns,
            until_ns,
        };
        self.programs.by_id.insert(id, (run, Arc::clone(settings)));
        self.programs.of.insert(process, id);
        self.engine.program_started(started);
    }

    /// A process listens from then on.
    pub(super) fn listens(&mut self, process: ProcessId, port: u16, at_ns: u64) {
        let traced = self.selection.get(process);
        if traced.is_some_and(|traced| serves_on(traced.process.runtime, port)) {
            self.engine.serves(process, at_ns);
        }
    }

    /// The process exited, or is not traced any more.
    pub(super) fn program_over(&mut self, process: ProcessId, at_ns: u64, departure: Departure) {
        let id = self.programs.of.remove(&process);
        let end = match departure {
            Departure::LetGo => ProgramEnd::LetGo,
            Departure::Exited(exit) => {
                if let Some((run, _)) = id.and_then(|id| self.programs.by_id.get_mut(&id)) {
                    run.exit = exit;
                }
                ProgramEnd::Exited
            }
        };
        self.engine.program_ended(process, at_ns, end);
    }

    /// Makes the spans of those that ended.
    pub(super) fn programs_over(&mut self) {
        for placement in self.engine.take_programs() {
            let Some((run, settings)) = self.programs.by_id.remove(&placement.id) else { continue };
            let flags = placement.continued.then_some(placement.trace_flags);
            if !placement.wanted || !settings.sampling.keeps(&placement.trace_id, flags) {
                continue;
            }
            let mut span = span(&run, placement);
            settings.redaction.apply(&mut span);
            settings.limit(&mut span);
            self.spans += 1;
            self.process_spans += 1;
            self.batch.push(span);
        }
    }
}
