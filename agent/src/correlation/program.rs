//! Programs: what a process does while it serves nothing is its program's own, and one trace.
//!
//! A process that never served has nobody to make calls for but itself. So a call that would be a root is its
//! program's, from when the program was executed until it ends: by the process's exit, by its turning out to serve,
//! or after so long that it is a daemon's. A child that executed nothing else is a part of its parent's program; one
//! that did runs a program of its own, beneath the parent's.
//!
//! A program's ids are chosen when it begins, and its span is told once, after its end: always where its process
//! exited, else only if something names it. What would name it afterwards is a root, so that no call names a span that
//! is never told, but for the agent's own sudden death.

use wirespan_protocols::w3c::{SpanId, TraceParent};

use super::Engine;
use super::schedule::Due;
use super::state::{Parent, Trace};
use super::trace::continued;
use crate::call::{
    CallId, ProcessId, ProgramEnd, ProgramId, ProgramPlacement, ProgramStarted, RemoteParent,
};

/// How often programs are looked at for whether their time is over.
const SWEEP_NS: u64 = 1_000_000_000;

/// One program, from its beginning until nothing can name it any more.
#[derive(Debug)]
pub(super) struct Program {
    process: ProcessId,
    span: SpanId,
    trace: Trace,
    remote: Option<TraceParent>,
    /// The program that executed it.
    parent: Option<ProgramId>,
    /// What its process ran before: calls of then may still wait to be placed.
    before: Option<ProgramId>,
    start: u64,
    /// When it counts as a daemon's.
    until: u64,
    end: Option<(u64, ProgramEnd)>,
    /// Calls, and programs, that name it as their parent.
    named: u64,
    /// Whether its span was told, if that is decided.
    told: Option<bool>,
    /// Processes that run it, and programs that refer to it.
    members: u32,
}

impl Program {
    /// Whether what happened at `at` is a part of it.
    fn holds(&self, at: u64) -> bool {
        let end = self.end.map_or(self.until, |(end, _)| end.min(self.until));
        self.told != Some(false) && self.start <= at && at <= end
    }
}

impl Engine {
    /// A process has executed a program, or is found to run one, and serves nothing as far as is known.
    pub fn program_started(&mut self, program: ProgramStarted) {
        let ProgramStarted { id, process, by, remote, at_ns, until_ns } = program;
        let before = self.process_mut(process).program;
        let above = match before.and_then(|id| self.programs.get_mut(&id)) {
            // One that executes another goes on beneath the same parent.
            Some(own) if own.process == process => {
                let (parent, older) = (own.parent, own.before.take());
                older.into_iter().for_each(|older| self.release_program(older));
                parent
            }
            Some(_) => before,
            None => by.and_then(|by| self.processes.get(&by)).and_then(|by| by.program),
        };
        // That it was the process's counts for the reference from here on.
        self.program_ended(process, at_ns, ProgramEnd::Replaced);
        let above = above.filter(|above| {
            self.programs.get(above).is_some_and(|above| {
                // A child inherits what its parent was told, too.
                let own = remote.as_ref().map(|remote| &remote.parent);
                above.holds(at_ns) && (own.is_none() || own == above.remote.as_ref())
            })
        });
        let trace = match (above.and_then(|above| self.programs.get(&above)), &remote) {
            (Some(above), _) => above.trace.clone(),
            (None, Some(remote)) => continued(remote),
            (None, None) => self.fresh_trace(),
        };
        let program = Program {
            process,
            span: self.ids.span_id(),
            trace,
            remote: remote.map(|RemoteParent { parent, .. }| parent),
            parent: above,
            before,
            start: at_ns,
            until: until_ns,
            end: None,
            named: 0,
            told: None,
            members: 1,
        };
        if let Some(above) = above.and_then(|above| self.programs.get_mut(&above)) {
            above.members += 1;
        }
        self.programs.insert(id, program);
        self.process_mut(process).program = Some(id);
    }

    /// Ends programs whose time is over. There are no more than processes: they are looked at every second, because what
    /// waits for each one's hour would be as many as were executed in that.
    pub(super) fn end_daemons(&mut self) {
        if self.now < self.programs_seen.saturating_add(SWEEP_NS) {
            return;
        }
        self.programs_seen = self.now;
        let now = self.now;
        let due = self.programs.iter().filter(|(_, it)| it.end.is_none() && it.until <= now);
        let due: Vec<(ProgramId, u64)> = due.map(|(id, it)| (*id, it.until)).collect();
        for (id, until) in due {
            self.end_program(id, until, ProgramEnd::Goes);
        }
    }

    /// A process serves: it listens, or waits for work that others give it. What it does from then on is not its
    /// program's.
    pub fn serves(&mut self, process: ProcessId, at_ns: u64) {
        if let Some(id) = self.processes.get(&process).and_then(|process| process.program) {
            self.end_program(id, at_ns, ProgramEnd::Serves);
        }
    }

    /// What a process ran is over: it exited, or is let go. Told before [`Engine::process_gone`].
    pub fn program_ended(&mut self, process: ProcessId, at_ns: u64, end: ProgramEnd) {
        if let Some(id) = self.owned_program(process) {
            self.end_program(id, at_ns, end);
        }
    }

    /// Programs that ended since the last time, each once: with a span, or with none because nothing names it.
    pub fn take_programs(&mut self) -> Vec<ProgramPlacement> {
        std::mem::take(&mut self.programs_told)
    }

    /// The program that a process runs, until when it serves nothing as far as is known.
    #[must_use]
    pub fn program_of(&self, process: ProcessId) -> Option<(ProgramId, Option<ProgramEnd>)> {
        let id = self.processes.get(&process)?.program?;
        Some((id, self.programs.get(&id)?.end.map(|(_, end)| end)))
    }

    /// A child that executed nothing else.
    pub(super) fn joins_program(&mut self, child: ProcessId, parent: ProcessId) {
        let Some(id) = self.processes.get(&parent).and_then(|parent| parent.program) else {
            return;
        };
        let Some(child) = self.processes.get_mut(&child).filter(|child| child.program.is_none())
        else {
            return;
        };
        if let Some(program) = self.programs.get_mut(&id) {
            program.members += 1;
            child.program = Some(id);
        }
    }

    /// The process is forgotten.
    pub(super) fn leave_program(&mut self, process: ProcessId, at_ns: u64) {
        self.program_ended(process, at_ns, ProgramEnd::LetGo);
        if let Some(id) = self.processes.get_mut(&process).and_then(|it| it.program.take()) {
            self.release_program(id);
        }
    }

    /// The program that a process runs, and not one that it was forked in.
    fn owned_program(&self, process: ProcessId) -> Option<ProgramId> {
        let id = self.processes.get(&process)?.program?;
        self.programs.get(&id).filter(|program| program.process == process).map(|_| id)
    }

    fn end_program(&mut self, id: ProgramId, at_ns: u64, end: ProgramEnd) {
        let wait = self.config.join_wait_ns.saturating_mul(2);
        let Some(program) = self.programs.get_mut(&id).filter(|it| it.end.is_none()) else {
            return;
        };
        program.end = Some((at_ns.clamp(program.start, program.until), end));
        // What was done before is placed by then.
        self.schedule.push(at_ns.max(self.now).saturating_add(wait), Due::Program(id));
    }

    /// The agent ends, and no program with it.
    pub(super) fn flush_programs(&mut self) {
        let now = self.now;
        let mut open: Vec<ProgramId> = self.programs.keys().copied().collect();
        // Those above after those below, which may name them.
        open.sort_unstable_by(|a, b| b.cmp(a));
        for id in open {
            if let Some(program) = self.programs.get_mut(&id) {
                let end = now.clamp(program.start, program.until);
                program.end.get_or_insert((end, ProgramEnd::Goes));
            }
            self.tell_program(id);
        }
    }

    /// All that was done before its end is placed.
    pub(super) fn tell_program(&mut self, id: ProgramId) {
        let Some(program) = self.programs.get(&id).filter(|it| it.told.is_none()) else { return };
        let Some((end_ns, end)) = program.end else { return };
        let wanted = end == ProgramEnd::Exited || program.named > 0;
        let above = program.parent.filter(|_| wanted).and_then(|above| self.name_program(above));
        let Some(program) = self.programs.get_mut(&id) else { return };
        program.told = Some(wanted);
        let local = above.is_some();
        let remote = program.remote.as_ref().filter(|remote| {
            // Beneath a program that will not be told, in whose trace its calls are.
            !local && remote.trace_id == program.trace.id
        });
        let parent_span_id = above.or_else(|| remote.map(|remote| remote.span_id));
        self.programs_told.push(ProgramPlacement {
            id,
            wanted,
            trace_id: program.trace.id,
            span_id: program.span,
            parent_span_id,
            parent_is_remote: !local && parent_span_id.is_some(),
            trace_flags: program.trace.flags,
            continued: program.trace.continued,
            trace_state: program.trace.state.as_deref().map(Box::from),
            end_ns,
            end,
        });
        self.forget_program(id);
    }

    /// Its span, now that something names it; `None`: it will have none.
    fn name_program(&mut self, id: ProgramId) -> Option<SpanId> {
        let program = self.programs.get_mut(&id).filter(|program| program.told != Some(false))?;
        program.named += 1;
        Some(program.span)
    }

    fn release_program(&mut self, id: ProgramId) {
        if let Some(program) = self.programs.get_mut(&id) {
            program.members = program.members.saturating_sub(1);
        }
        self.forget_program(id);
    }

    /// Forgets what nothing can name any more.
    fn forget_program(&mut self, id: ProgramId) {
        let mut due = vec![id];
        while let Some(id) = due.pop() {
            if self.programs.get(&id).is_none_or(|it| it.told.is_none() || it.members > 0) {
                continue;
            }
            let Some(program) = self.programs.remove(&id) else { continue };
            for other in program.parent.into_iter().chain(program.before) {
                if let Some(known) = self.programs.get_mut(&other) {
                    known.members = known.members.saturating_sub(1);
                    due.push(other);
                }
            }
        }
    }

    /// The program that a root's call is a part of, named by it from now on.
    pub(super) fn own_program(&mut self, call: CallId) -> Option<(Parent, Trace)> {
        let call = self.calls.get(&call)?;
        let (start, process) = (call.start, call.process);
        let now = self.processes.get(&process)?.program?;
        let before = self.programs.get(&now)?.before;
        let holds = |id: &ProgramId| self.programs.get(id).is_some_and(|it| it.holds(start));
        let id = [Some(now), before].into_iter().flatten().find(holds)?;
        let program = self.programs.get(&id)?;
        // What a call says of itself outranks that, unless it says the same.
        let other = |remote: &RemoteParent| remote.parent.trace_id != program.trace.id;
        if call.remote.as_ref().is_some_and(other) {
            return None;
        }
        let trace = program.trace.clone();
        Some((Parent::Program(self.name_program(id)?), trace))
    }
}
