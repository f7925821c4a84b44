//! New rules for what is traced already, and questions about them.
//!
//! A process that stays allowed keeps its slot, its connections and its place: nothing of it is lost. One that
//! does not is named, and let go when the pipeline says so. All others wait to be looked at, as at the start.

use std::sync::Arc;

use super::{Change, Look, Selection};
use crate::call::ProcessId;
use crate::capture::Capture;
use crate::process::{Allowed, Decision, ProcFs, Process, Reason, Rules, resource};

impl Selection {
    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How processes are read.
    pub fn procfs(&self) -> &ProcFs {
        &self.procfs
    }

    /// The traced process of this number.
    pub fn by_pid(&self, pid: i32) -> Option<&super::Traced> {
        self.by_pid.get(&pid).and_then(|id| self.by_id.get(id))
    }

    /// Takes new rules. Who the agent itself is does not change.
    pub fn reload(&mut self, rules: Rules, changed: &mut impl FnMut(Change)) {
        self.rules = Rules { own: std::mem::take(&mut self.rules.own), ..rules };
        // Else what is known of a process is what would be read: the rings fill meanwhile.
        let reread = self.procfs.want(self.rules.wants());
        let alive = self.by_id.values().filter(|traced| traced.gone_ns.is_none());
        let mut known: Vec<ProcessId> = alive.map(|traced| traced.id).collect();
        known.sort_unstable();
        for id in known {
            self.apply(id, reread, changed);
        }
        match self.procfs.pids() {
            Ok(pids) => {
                for pid in pids.into_iter().filter(|pid| !self.by_pid.contains_key(pid)) {
                    self.looks.add(pid, Look { running: true, ..Look::default() });
                }
            }
            Err(error) => tracing::error!(%error, "can't list processes"),
        }
    }

    /// What the new rules say of a traced process.
    fn apply(&mut self, id: ProcessId, reread: bool, changed: &mut impl FnMut(Change)) {
        let Some(traced) = self.by_id.get(&id) else { return };
        // Rules may ask for what was not read before. One that can't be read now is about to end.
        let fresh = |known: &Process| match self.procfs.inspect_traceable(known.pid) {
            Ok(Some(process)) if process.id() == known.id() => process,
            _ => known.clone(),
        };
        let process = if reread { fresh(&traced.process) } else { traced.process.clone() };
        let itself = traced.origin.id() == traced.process.id();
        let origin = match (itself, reread) {
            (true, _) => Arc::new(process.clone()),
            (false, true) => Arc::new(fresh(&traced.origin)),
            (false, false) => Arc::clone(&traced.origin),
        };
        let by = match (self.decide(&process), self.decide(&origin)) {
            (Decision::Traced { by }, _) => Some((by, true)),
            (Decision::NotTraced { reason: Reason::NoRule }, Decision::Traced { by }) => {
                Some((by, false))
            }
            _ => None,
        };
        let Some((by, own)) = by else { return changed(Change::Dismissed { id }) };
        let settings = Arc::clone(self.rules.settings(by));
        let same = traced.settings == settings;
        let resource = if same {
            Arc::clone(&traced.resource)
        } else {
            Arc::new(resource(&self.procfs, &process, &self.agent, &settings))
        };
        if let Some(traced) = self.by_id.get_mut(&id) {
            traced.origin = if own { Arc::new(process.clone()) } else { origin };
            traced.process = process;
            traced.by = by;
            traced.settings = settings;
            // Equal resources stay one: an exporter groups by the pointer.
            if *traced.resource != *resource {
                traced.resource = resource;
            }
        }
        if !same {
            changed(Change::Reset { id });
        }
    }

    /// Lets a process go that new rules don't allow, unless newer ones do.
    pub fn dismiss(
        &mut self,
        id: ProcessId,
        at_ns: u64,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let Some(traced) = self.by_id.get(&id).filter(|traced| traced.gone_ns.is_none()) else {
            return;
        };
        let (pid, slot) = (traced.process.pid, traced.slot);
        tracing::info!(pid, "process is not traced any more");
        capture.untrace(pid, slot);
        self.let_go(pid, at_ns, changed);
    }

    /// What the rules in force say of a traced process, whether by itself or by the one it is a part of.
    pub fn stays_allowed(&self, id: ProcessId) -> Option<Allowed> {
        let traced = self.by_id.get(&id)?;
        [&traced.process, &*traced.origin].into_iter().find_map(|process| {
            match self.decide(process) {
                Decision::Traced { by } => Some(by),
                Decision::NotTraced { .. } => None,
            }
        })
    }
}
