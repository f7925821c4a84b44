//! Processes that were seen to send spans of their own: an SDK or another agent is in them, and they are left to that.
//!
//! By what passed, never by variables or files: those prove nothing. It holds until the process ends
//! or executes another program.

use super::Selection;
use crate::call::ProcessId;
use crate::process::{Decision, Process, Reason};

/// More are not remembered at once without a look at which of them still live.
const REMEMBERED: usize = 1024;

impl Selection {
    /// A traced process was seen to send spans. Whether it is to be let go for that.
    pub fn sends_spans(&mut self, id: ProcessId) -> bool {
        let Some(traced) = self.by_id.get(&id).filter(|traced| traced.gone_ns.is_none()) else {
            return false;
        };
        let (process, yields) = (traced.process.id(), traced.settings.yield_to_sdk);
        if self.own_spans.len() >= REMEMBERED {
            let procfs = &self.procfs;
            self.own_spans.retain(|known| procfs.identify(known.pid).is_ok_and(|id| id == *known));
        }
        // Settings may change: who does is remembered in any case.
        let is_new = self.own_spans.len() < REMEMBERED && self.own_spans.insert(process);
        if is_new && yields {
            let pid = process.pid;
            tracing::info!(pid, "process sends spans of its own: it is left to its SDK");
        }
        yields && self.own_spans.contains(&process)
    }

    /// What the rules say of a process, and what it does itself.
    pub fn decide(&self, process: &Process) -> Decision {
        let decision = self.rules.decide(process);
        if let Decision::Traced { by } = decision
            && self.rules.settings(by).yield_to_sdk
            && self.own_spans.contains(&process.id())
        {
            return Decision::NotTraced { reason: Reason::OwnSpans };
        }
        decision
    }

    /// Processes that are not traced for it, in order.
    pub fn yielded(&self) -> Vec<i32> {
        let lives = |pid: &i32| {
            let known = self.procfs.identify(*pid);
            known.is_ok_and(|id| self.own_spans.contains(&id)) && !self.by_pid.contains_key(pid)
        };
        let mut pids: Vec<i32> = self.own_spans.iter().map(|id| id.pid).filter(lives).collect();
        pids.sort_unstable();
        pids
    }
}
