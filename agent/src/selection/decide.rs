//! Whether a process is traced: what the rules say of what `/proc` shows.
//!
//! The one place in the selection that reads `/proc` of a process that was only named.

use std::sync::Arc;

use super::{Change, Grant, Look, PROMPT_NS, Selection, Traced, started_ns};
use crate::call::ProcessId;
use crate::capture::{Capture, TraceError};
use crate::clock;
use crate::process::{Decision, InspectError, Process, Program, Reason, Runtime, resource};

impl Selection {
    /// Looks at a process that was named.
    pub(super) fn look(
        &mut self,
        pid: i32,
        look: Look,
        now_ns: u64,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let known = self.by_pid.get(&pid).and_then(|id| self.by_id.get(id));
        match known.map(|known| known.slot) {
            // Not the process that was marked, or a thread of it executed, untold.
            Some(slot) if look.anew && capture.marked(pid) != Some(slot) => {
                self.let_go(pid, now_ns, changed);
            }
            Some(_) => return self.reconsider(pid, look, now_ns, capture, changed),
            None => {}
        }
        self.consider(pid, look, now_ns, capture, changed);
    }

    pub(super) fn consider(
        &mut self,
        pid: i32,
        look: Look,
        now_ns: u64,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let process = match self.procfs.inspect_at_once(pid) {
            Ok(process) => process,
            Err(InspectError::Gone { .. } | InspectError::NoProgram { .. }) => return,
            Err(error) => {
                tracing::debug!(pid, %error, "can't inspect process");
                return;
            }
        };
        let mut parent = look.parent;
        if look.anew
            && let Some(slot) = capture.marked(pid)
        {
            // A traced process's fork that nobody was told of. What it did was counted as nobody's: under
            // a slot of its own its books are whole.
            capture.untrace(pid, slot);
            self.leave(now_ns, slot, None);
            let ppid = process.as_ref().map(|process| process.ppid);
            parent = ppid.and_then(|ppid| self.by_pid.get(&ppid)).copied();
        }
        let Some(mut process) = process else { return };
        let Some(grant) = self.is_wanted(&process, parent) else {
            return self.may_be_labelled(&process);
        };
        match capture.trace(pid) {
            Ok(slot) => {
                // What it does meanwhile is recorded already.
                let marked_ns = clock::monotonic_ns();
                self.procfs.complete(&mut process);
                let prompt = |executed_ns| marked_ns.saturating_sub(executed_ns) < PROMPT_NS;
                let is_whole =
                    look.executed_ns.is_some_and(prompt) && process.runtime != Runtime::Other;
                let at_ns = look.executed_ns.unwrap_or_else(|| started_ns(&process));
                let found_running = look.running && !is_whole;
                let id = self.enter(process, grant, slot, found_running, changed);
                // A fork that was told of late is a part of its parent.
                if parent.is_none() || look.executed_ns.is_some() {
                    changed(Change::Program { id, at_ns });
                }
            }
            Err(error) => {
                self.failed += 1;
                match error {
                    TraceError::Full(_) => tracing::error!(pid, %error, "can't trace process"),
                    TraceError::System(..) => tracing::warn!(pid, %error, "can't trace process"),
                }
            }
        }
    }

    /// Whether a process is to be traced. `parent`: the traced process that forked it; a child that has not
    /// executed anything else is a part of it.
    pub(super) fn is_wanted(&self, process: &Process, parent: Option<ProcessId>) -> Option<Grant> {
        let parent = parent
            .and_then(|id| self.by_id.get(&id))
            .and_then(|parent| Some((self.grant_of(parent)?, parent.process.exe == process.exe)));
        let own = self.allows(process, parent.as_ref().map(|(grant, _)| grant));
        own.or_else(|| parent.filter(|(_, same_program)| *same_program).map(|(grant, _)| grant))
    }

    /// What a part of a traced process is allowed by. None where new rules don't allow that any more, as of one that
    /// is gone by now.
    pub(super) fn grant_of(&self, traced: &Traced) -> Option<Grant> {
        match self.decide(&traced.origin) {
            Decision::Traced { by } => Some(Grant { by, origin: Some(Arc::clone(&traced.origin)) }),
            Decision::NotTraced { .. } => None,
        }
    }

    /// Whether the rules allow a process, or it is a worker of one that they allow: a rule that names a port
    /// or a command line means the service, of which the worker is a part.
    fn allows(&self, process: &Process, parent: Option<&Grant>) -> Option<Grant> {
        match self.decide(process) {
            Decision::Traced { by } => Some(Grant { by, origin: None }),
            Decision::NotTraced { reason: Reason::NoRule } => {
                parent.filter(|_| is_worker(process)).cloned()
            }
            Decision::NotTraced { .. } => None,
        }
    }

    /// A traced process executed another program, or listens on another port.
    fn reconsider(
        &mut self,
        pid: i32,
        look: Look,
        at_ns: u64,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let Ok(process) = self.procfs.inspect_traceable(pid) else { return };
        let Some(id) = self.by_pid.get(&pid).copied() else { return };
        let Some(traced) = self.by_id.get(&id) else { return };
        let known = &traced.process;
        // A process may write over its environment: only an exec can have changed it.
        let same_program = process.as_ref().is_some_and(|process| {
            known.exe == process.exe
                && known.command == process.command
                && (look.executed_ns.is_none() || known.environment == process.environment)
        });
        let before = self.grant_of(traced);
        let granted = process.and_then(|process| {
            let grant = self.allows(&process, before.as_ref())?;
            Some((process, grant))
        });
        let Some((process, grant)) = granted else {
            // What it was allowed for is over: it executed something else.
            if !same_program {
                capture.untrace(pid, traced.slot);
                self.let_go(pid, at_ns, changed);
            }
            return;
        };
        let settings = Arc::clone(self.rules.settings(grant.by));
        let same = same_program
            && known.namespace_pid == process.namespace_pid
            && known.container == process.container
            && traced.settings == settings;
        let resource =
            (!same).then(|| Arc::new(resource(&self.procfs, &process, &self.agent, &settings)));
        let known = self.by_id.get(&id).is_some_and(|traced| traced.process == process);
        if let Some(traced) = self.by_id.get_mut(&id) {
            if let Some(resource) = resource {
                if traced.process.container.is_none() && process.container.is_some() {
                    self.descriptions.replaced(&traced.resource, &resource);
                }
                traced.resource = resource;
            }
            traced.by = grant.by;
            if look.executed_ns.is_some() {
                traced.program = Arc::new(Program::of(&process, &settings));
            }
            traced.settings = settings;
            traced.origin = grant.origin.unwrap_or_else(|| Arc::new(process.clone()));
            traced.process = process;
        }
        if !(same && known) {
            changed(Change::Known { id });
        }
        if let Some(at_ns) = look.executed_ns {
            changed(Change::Executed { id });
            changed(Change::Program { id, at_ns });
        }
    }
}

/// A process that its parent started as a part of itself: a Node.js cluster worker or fork, a Python
/// multiprocessing child by spawn or forkserver.
fn is_worker(process: &Process) -> bool {
    process.environment.get("NODE_CHANNEL_FD").is_some()
        || process.environment.get("NODE_UNIQUE_ID").is_some()
        || process.command.iter().any(|argument| {
            argument == "--multiprocessing-fork" || argument.starts_with("from multiprocessing.")
        })
}
