//! The books of a disk queue: what moves between memory, disk and receiver, in one step each.
//!
//! Part of the export stage. What is on disk is told by who holds it ([`Levels`]); here it is counted.

use super::{Claim, Queue, State};
use crate::export::books::{DiskBooks, Refusal};
use crate::export::disk::Levels;

impl Queue {
    /// There is a disk queue, perhaps one that can't be used.
    pub(in crate::export) fn has_disk(&self, max_bytes: u64) {
        self.lock().disk = Some(DiskBooks { max_bytes, ..DiskBooks::default() });
    }

    /// The disk queue was opened, and this is what was found in it.
    pub(in crate::export) fn restored(&self, levels: &Levels) {
        let mut state = self.lock();
        state.restored = levels.spans + levels.damaged_spans;
        let damaged = state.levels(levels);
        drop(state);
        self.tell_damage(damaged);
        let (exporter, bytes) = (self.name.as_str(), levels.damaged_bytes);
        if levels.spans > 0 {
            tracing::info!(exporter, spans = levels.spans, "spans were left on disk");
        }
        if bytes > 0 {
            tracing::error!(exporter, bytes, "the disk queue is damaged, and spans may be lost");
        }
    }

    /// What the disk queue holds has changed by itself: damage was found.
    pub(in crate::export) fn disk(&self, levels: &Levels) {
        let mut state = self.lock();
        let damaged = state.levels(levels);
        drop(state);
        self.tell_damage(damaged);
    }

    /// A frame of the disk queue is dealt with: so many of its spans left, the others did not.
    pub(in crate::export) fn settled_on_disk(
        &self,
        exported: usize,
        refused: usize,
        reason: Refusal,
        levels: &Levels,
    ) {
        let mut state = self.lock();
        state.exported += exported as u64;
        state.refused.add(reason, refused as u64);
        let damaged = state.levels(levels);
        let began = refused > 0 && !state.losing;
        state.losing |= refused > 0;
        drop(state);
        self.tell_damage(damaged);
        if began {
            let (exporter, reason, spans) = (self.name.as_str(), reason.as_str(), refused);
            tracing::error!(exporter, reason, spans, "spans are lost");
        }
    }

    fn tell_damage(&self, spans: u64) {
        if spans > 0 {
            let (exporter, reason) = (self.name.as_str(), Refusal::Damaged.as_str());
            tracing::error!(exporter, reason, spans, "spans are lost");
        }
    }

    /// The disk queue could not be used.
    pub(in crate::export) fn disk_failed(&self, error: String) {
        let mut state = self.lock();
        let Some(disk) = &mut state.disk else { return };
        disk.failures += 1;
        let began = disk.error.replace(error.clone()).is_none();
        drop(state);
        if began {
            let exporter = self.name.as_str();
            tracing::error!(exporter, error, "the disk queue fails: spans wait in memory only");
        }
    }

    /// The disk queue was used.
    pub(in crate::export) fn disk_works(&self) {
        let mut state = self.lock();
        let ended = state.disk.as_mut().is_some_and(|disk| disk.error.take().is_some());
        drop(state);
        if ended {
            tracing::info!(exporter = self.name, "the disk queue works again");
        }
    }
}

impl Claim {
    /// All of these are on disk now, which holds this.
    pub(in crate::export) fn spilled(&mut self, levels: &Levels) {
        let mut damaged = 0;
        self.settle(self.spans, |state, _| damaged = state.levels(levels));
        self.queue.tell_damage(damaged);
    }
}

impl State {
    /// Takes over what the disk queue holds; gives the spans that were found damaged since.
    fn levels(&mut self, levels: &Levels) -> u64 {
        let damaged = levels.damaged_spans.saturating_sub(self.refused.damaged);
        self.refused.damaged = levels.damaged_spans;
        self.on_disk = levels.spans;
        if let Some(disk) = &mut self.disk {
            disk.bytes = levels.bytes;
            disk.damaged_bytes = levels.damaged_bytes;
        }
        damaged
    }
}
