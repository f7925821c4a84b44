//! New rules take effect: settings change on the spot, and processes that are not allowed any more are let go
//! once nothing of the agent's is in them.

use super::{Pipeline, Stages, options};
use crate::call::ProcessId;
use crate::clock;
use crate::process::Rules;

/// How long a process that is not allowed any more is kept for its assist to be undone.
const UNDO_NS: u64 = 30_000_000_000;

impl Pipeline {
    /// Puts new rules in force.
    pub(super) fn reload(&mut self, rules: Rules) {
        let mut changes = Vec::new();
        self.stages.selection.reload(rules, &mut |change| changes.push(change));
        self.follow(&changes);
        self.stages.readmit();
    }

    /// Lets processes go that were dismissed and are free of the agent.
    pub(super) fn dismiss(&mut self, now_ns: u64) {
        let Self { capture, stages, .. } = self;
        let assist = &stages.runtimes.node;
        let due: Vec<ProcessId> = stages
            .dismissed
            .iter()
            .filter(|(id, since)| {
                !assist.is_undoing(**id) || now_ns.saturating_sub(**since) > UNDO_NS
            })
            .map(|(id, _)| *id)
            .collect();
        let mut changes = Vec::new();
        for id in due {
            stages.dismissed.remove(&id);
            stages.selection.dismiss(id, now_ns, capture, &mut |change| changes.push(change));
        }
        self.follow(&changes);
    }
}

impl Stages {
    /// A process has other settings from now on.
    pub(super) fn process_reset(&mut self, id: ProcessId) {
        let Some(traced) = self.selection.get(id) else { return };
        let options = options(&traced.settings);
        for connection in self.connections.values_mut().filter(|known| known.process == id) {
            connection.ask(options.clone());
        }
        self.runtimes.node.allow(id, traced.settings.node_assist, clock::monotonic_ns());
    }

    /// A process is not allowed any more.
    pub(super) fn process_dismissed(&mut self, id: ProcessId) {
        let now_ns = clock::monotonic_ns();
        self.dismissed.entry(id).or_insert(now_ns);
        self.runtimes.node.allow(id, false, now_ns);
    }

    /// Of those that wait to be let go, some may be allowed again.
    fn readmit(&mut self) {
        let waiting: Vec<ProcessId> = self.dismissed.keys().copied().collect();
        for id in waiting {
            if self.selection.stays_allowed(id).is_some() {
                self.dismissed.remove(&id);
                // Requests may have come meanwhile that nobody followed.
                self.engine.inbound_lost(id, clock::monotonic_ns());
                self.process_reset(id);
            }
        }
    }
}
