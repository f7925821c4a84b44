//! What is traced after records were lost: found out again from `/proc` and the kernel's own marks.
//!
//! A process record can be lost as any other, and is told once. Whenever some were, the slots are counted
//! again, processes that are gone are let go, and all others wait to be looked at anew.

use super::{Change, Look, Selection};
use crate::capture::{Capture, Slot};
use crate::process::InspectError;

/// From one look at all processes to the next: a ring may overflow for long.
const RECOVERY_NS: u64 = 1_000_000_000;

impl Selection {
    /// One round: looks at processes that wait for it and, where records were lost, at all that there are.
    /// `drained`: no record waits to be read, so that what is found is not older than what is known.
    pub fn round(
        &mut self,
        now_ns: u64,
        drained: bool,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        self.left = Self::LOOKS;
        while let Some(&(due_ns, pid)) = self.listeners.front()
            && due_ns <= now_ns
        {
            self.listeners.pop_front();
            self.looks.add(pid, Look { running: true, ..Look::default() });
        }
        self.look_on(now_ns, capture, changed);
        self.is_incomplete |= capture.has_lost_records();
        let due = now_ns.saturating_sub(self.recovered_ns) >= RECOVERY_NS;
        if self.is_incomplete && due && drained && self.looks.len() == 0 {
            self.recovered_ns = now_ns;
            self.recoveries += 1;
            self.is_incomplete = false;
            self.recover(now_ns, capture, changed);
        }
    }

    /// Looks at as many as this round may.
    pub(super) fn look_on(
        &mut self,
        now_ns: u64,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        while self.left > 0
            && let Some((pid, look)) = self.looks.next()
        {
            self.left -= 1;
            self.look(pid, look, now_ns, capture, changed);
        }
    }

    fn recover(&mut self, now_ns: u64, capture: &mut Capture, changed: &mut impl FnMut(Change)) {
        let slots = capture.recount();
        self.is_incomplete |= slots.again;
        for slot in slots.ended {
            self.exited(slot, now_ns, None, changed);
        }
        let known: Vec<Slot> =
            self.iter().filter(|known| known.gone_ns.is_none()).map(|known| known.slot).collect();
        for slot in known {
            let gone = self.by_slot(slot).is_none_or(|known| {
                match self.procfs.identify(known.process.pid) {
                    Ok(id) => id != known.process.id(),
                    Err(error) => matches!(error, InspectError::Gone { .. }),
                }
            });
            if gone {
                self.exited(slot, now_ns, None, changed);
            }
        }
        match self.procfs.pids() {
            Ok(pids) => {
                for pid in pids {
                    self.looks.add(pid, Look { running: true, anew: true, ..Look::default() });
                }
            }
            Err(error) => tracing::error!(%error, "can't list processes"),
        }
    }
}
