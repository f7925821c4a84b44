//! The traced processes of a recording: what selection decided elsewhere, with no kernel and no `/proc` to ask.

use std::path::Path;

use wirespan_ebpf::PROCESS_SLOTS;

use super::{Selection, Traced};
use crate::call::ProcessId;
use crate::process::{AgentInfo, ProcFs, Rules};

impl Selection {
    /// One that finds nothing by itself.
    pub fn told() -> Self {
        let nowhere = Path::new("/nonexistent");
        let agent = AgentInfo::read(nowhere, env!("CARGO_PKG_VERSION"));
        Self::new(ProcFs::new(nowhere), Rules::default(), agent)
    }

    /// A process is known, or what is known of it is another. Whether there was room for it: no agent follows more
    /// than it has slots, and as many that are gone.
    pub fn tell(&mut self, traced: Traced) -> bool {
        let room = self.by_id.len() < 2 * PROCESS_SLOTS;
        match self.by_id.get_mut(&traced.id) {
            Some(known) => {
                if *known.resource != *traced.resource {
                    known.resource = traced.resource;
                }
                known.process = traced.process;
                known.settings = traced.settings;
                known.program = traced.program;
            }
            None if room => {
                self.by_slot.insert(traced.slot, traced.id);
                self.by_id.insert(traced.id, traced);
            }
            None => return false,
        }
        true
    }

    /// It is traced from now on; `found_running`: it was not seen from its beginning.
    pub fn told_traced(&mut self, id: ProcessId, found_running: bool) {
        if let Some(traced) = self.by_id.get_mut(&id) {
            traced.known_from_ns = if found_running { u64::MAX } else { 0 };
            self.by_pid.insert(traced.process.pid, id);
        }
    }

    /// It executed something: what it was seen to do before says nothing of it now.
    pub fn told_executed(&mut self, id: ProcessId) {
        let Some(pid) = self.by_id.get(&id).map(|traced| traced.process.pid) else { return };
        self.own_spans.retain(|known| known.pid != pid);
    }

    /// It is gone, or no longer allowed.
    pub fn told_gone(&mut self, id: ProcessId, at_ns: u64) {
        if let Some(traced) = self.by_id.get_mut(&id) {
            traced.gone_ns = Some(at_ns);
            if self.by_pid.get(&traced.process.pid) == Some(&id) {
                self.by_pid.remove(&traced.process.pid);
            }
        }
    }

    /// Its slot was given back.
    pub fn told_forgotten(&mut self, id: ProcessId) {
        if let Some(traced) = self.by_id.remove(&id) {
            if self.by_slot.get(&traced.slot) == Some(&id) {
                self.by_slot.remove(&traced.slot);
            }
            // It may never have been told to be gone.
            if self.by_pid.get(&traced.process.pid) == Some(&id) {
                self.by_pid.remove(&traced.process.pid);
            }
        }
    }
}
