//! Slots of the table that the kernel programs and the agent share: one per traced process.
//!
//! A fork takes its slot in the kernel, from a queue that is kept filled here. A slot goes back only after
//! its process's books were read.

use std::collections::VecDeque;

use wirespan_ebpf::{NO_SLOT, PROCESS_SLOTS};

/// The slot of a traced process. Reused after the process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// A slot, unless the number says that there is none.
    pub(super) fn known(number: u32) -> Option<Self> {
        (number != NO_SLOT).then_some(Self(number))
    }
}

/// Slots that are neither in use nor in the kernel's queue.
#[derive(Debug)]
pub(super) struct FreeSlots {
    free: VecDeque<u32>,
}

impl FreeSlots {
    pub(super) fn new() -> Self {
        let slots = u32::try_from(PROCESS_SLOTS).unwrap_or(u32::MAX);
        Self { free: (1..slots).collect() }
    }

    /// The slot that has been free for the longest: records of its last owner are then long read.
    pub(super) fn take(&mut self) -> Option<Slot> {
        self.free.pop_front().map(Slot)
    }

    pub(super) fn put(&mut self, slot: Slot) {
        self.free.push_back(slot.0);
    }
}
