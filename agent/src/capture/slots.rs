//! Slots of the table that the kernel programs and the agent share: one per traced process.
//!
//! A fork takes its slot in the kernel, from a queue that is kept filled here. A slot goes back only after
//! its process's books were read. Where each slot is, is known even if the record of a fork was lost: what
//! was put into the kernel's queue and is no longer there was taken.

use std::collections::{HashSet, VecDeque};

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

/// Where a slot is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Here.
    #[default]
    Free,
    /// In the kernel's queue, or taken by a fork that was not heard of yet.
    Queued,
    /// A process's.
    Taken,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    place: Place,
    /// Records lost in the slot's name, as of the last look.
    lost: u64,
}

/// All slots, and where they are.
#[derive(Debug)]
pub(super) struct Slots {
    free: VecDeque<u32>,
    entries: Vec<Entry>,
    queued: usize,
}

impl Slots {
    pub(super) fn new() -> Self {
        let slots = u32::try_from(PROCESS_SLOTS).unwrap_or(u32::MAX);
        Self {
            free: (1..slots).collect(),
            entries: vec![Entry::default(); PROCESS_SLOTS],
            queued: 0,
        }
    }

    /// The slot that has been free for the longest: records of its last owner are then long read.
    pub(super) fn take(&mut self) -> Option<Slot> {
        let slot = Slot(self.free.pop_front()?);
        self.place(slot, Place::Taken);
        Some(slot)
    }

    /// A slot that was taken goes into the kernel's queue.
    pub(super) fn queue(&mut self, slot: Slot) {
        if self.is(slot, Place::Taken) {
            self.place(slot, Place::Queued);
            self.queued += 1;
        }
    }

    /// A fork took the slot out of the kernel's queue.
    pub(super) fn forked(&mut self, slot: Slot) {
        if self.is(slot, Place::Queued) {
            self.place(slot, Place::Taken);
            self.queued -= 1;
        }
    }

    /// These are in the kernel's queue now: the others that were put there were taken. Returns them.
    pub(super) fn recount(&mut self, in_queue: &HashSet<u32>) -> Vec<Slot> {
        let taken: Vec<Slot> =
            self.all(Place::Queued).filter(|slot| !in_queue.contains(&slot.0)).collect();
        for slot in &taken {
            self.forked(*slot);
        }
        taken
    }

    /// Slots that are in the kernel's queue, as far as is known.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Slots that processes have or had.
    pub(super) fn taken(&self) -> impl Iterator<Item = Slot> {
        self.all(Place::Taken)
    }

    /// The slots in whose name the kernel programs write, with the one that stands for nobody.
    pub(super) fn in_use(&self) -> impl Iterator<Item = Slot> {
        let used = self.all(Place::Queued).chain(self.all(Place::Taken));
        std::iter::once(Slot(NO_SLOT)).chain(used)
    }

    /// How many records were lost in a slot's name by now. Returns whether that are more than before.
    pub(super) fn lost(&mut self, slot: Slot, lost: u64) -> bool {
        let Some(entry) = self.entry(slot) else { return false };
        std::mem::replace(&mut entry.lost, lost) < lost
    }

    /// Gives a slot back that was taken; another is left where it is.
    pub(super) fn put(&mut self, slot: Slot) {
        if self.is(slot, Place::Taken) {
            self.place(slot, Place::Free);
            self.free.push_back(slot.0);
        }
    }

    fn all(&self, place: Place) -> impl Iterator<Item = Slot> {
        let numbered = (0_u32..).zip(&self.entries);
        numbered
            .filter(move |(_, entry)| entry.place == place)
            .map(|(number, _)| Slot(number))
            .filter(|slot| slot.0 != NO_SLOT)
    }

    fn is(&self, slot: Slot, place: Place) -> bool {
        let index = usize::try_from(slot.0).unwrap_or(usize::MAX);
        slot.0 != NO_SLOT && self.entries.get(index).is_some_and(|entry| entry.place == place)
    }

    fn place(&mut self, slot: Slot, place: Place) {
        if let Some(entry) = self.entry(slot) {
            // Its books begin anew with its next owner.
            let lost = if place == Place::Free { 0 } else { entry.lost };
            *entry = Entry { place, lost };
        }
    }

    fn entry(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(slot.0).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> (Slots, Vec<Slot>) {
        let mut slots = Slots::new();
        let queued: Vec<Slot> = (0..count).map(|_| slots.take().unwrap()).collect();
        for slot in &queued {
            slots.queue(*slot);
        }
        (slots, queued)
    }

    #[test]
    fn a_fork_that_nobody_heard_of_is_found_by_what_is_left_in_the_queue() {
        let (mut slots, queued) = filled(8);
        slots.forked(queued[0]);
        assert_eq!(slots.queued(), 7);
        // Two more were taken, and their records were lost.
        let left: HashSet<u32> = queued[3..].iter().map(|slot| slot.0).collect();
        assert_eq!(slots.recount(&left), queued[1..3]);
        assert_eq!(slots.queued(), 5);
        // The record comes after all, and changes nothing.
        slots.forked(queued[1]);
        assert_eq!(slots.queued(), 5);
        assert_eq!(slots.taken().collect::<Vec<_>>(), queued[..3]);
        assert_eq!(slots.recount(&left), []);
    }

    #[test]
    fn a_slot_is_given_back_once_and_never_out_of_the_queue() {
        let (mut slots, queued) = filled(2);
        let before = slots.free.len();
        slots.put(queued[0]);
        assert_eq!(slots.free.len(), before, "the kernel may still hand it out");
        slots.forked(queued[0]);
        slots.put(queued[0]);
        slots.put(queued[0]);
        assert_eq!(slots.free.len(), before + 1);
        slots.put(Slot(NO_SLOT));
        slots.put(Slot(u32::MAX));
        assert_eq!(slots.free.len(), before + 1);
    }

    #[test]
    fn losses_are_heard_of_once_and_begin_anew_with_the_next_owner() {
        let (mut slots, queued) = filled(1);
        assert!(!slots.lost(queued[0], 0) && slots.lost(queued[0], 3) && !slots.lost(queued[0], 3));
        assert!(slots.lost(Slot(NO_SLOT), 1) && !slots.lost(Slot(NO_SLOT), 1));
        assert!(slots.in_use().any(|slot| slot == queued[0]));
        slots.forked(queued[0]);
        slots.put(queued[0]);
        while slots.take().is_some_and(|slot| slot != queued[0]) {}
        assert!(slots.lost(queued[0], 1), "one in the new owner's name");
    }
}
