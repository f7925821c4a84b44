//! The ways from the kernel programs, read as one: records by the time that they were made.
//!
//! Short records lie in a lane for each CPU, all others in ring buffers, so two operations on one socket may
//! come by different ways. What was made after `until_ns` stays for the next time: of what was made before
//! it, nothing can still be missing that came before another record of the same thread. A program that was
//! interrupted between claiming an entry and handing it over holds up all, as it would in a ring.

use aya::maps::{MapData, RingBuf};

use crate::sys::SharedLanes;

/// Nothing is there.
const NONE: u64 = u64::MAX;

/// How often an entry that is claimed is looked at before it is left for the next time: some microseconds, more
/// than a program takes that nobody interrupts.
const LOOKS: u32 = 500;

/// Entries after which a lane's places are given back, at the latest.
const RELEASE: u64 = 64;

/// A ring buffer, with the record that is next.
struct Ring {
    ring: RingBuf<MapData>,
    next: Vec<u8>,
}

impl Ring {
    /// When the next record was made.
    fn at(&mut self) -> u64 {
        if self.next.is_empty() {
            let Some(item) = self.ring.next() else { return NONE };
            self.next.extend_from_slice(&item);
        }
        timestamp(&self.next)
    }
}

/// A lane, as far as it was read.
#[derive(Clone, Copy, Debug)]
struct Lane {
    read: u64,
    released: u64,
    /// Entries that were claimed when reading began.
    claimed: u64,
    /// When the next record was made.
    at: u64,
}

/// Which way a record comes.
#[derive(Clone, Copy)]
enum Way {
    Ring(usize),
    Lane(usize),
}

/// All ways from the kernel.
pub(super) struct Ways {
    rings: Vec<Ring>,
    shared: SharedLanes,
    lanes: Vec<Lane>,
    /// Which way the last record came: it is still there.
    last: Option<Way>,
    /// An entry is claimed and not whole: what is behind it may be later than what it will hold.
    held_up: bool,
}

impl Ways {
    pub(super) fn new(rings: Vec<RingBuf<MapData>>, shared: SharedLanes, lanes: usize) -> Self {
        let rings = rings.into_iter().map(|ring| Ring { ring, next: Vec::new() }).collect();
        let lane = Lane { read: 0, released: 0, claimed: 0, at: NONE };
        Self { rings, shared, lanes: vec![lane; lanes], last: None, held_up: false }
    }

    /// The ring that process events come by.
    pub(super) fn first_ring(&self) -> Option<&RingBuf<MapData>> {
        self.rings.first().map(|ring| &ring.ring)
    }

    /// Begins to read what there is by now.
    pub(super) fn begin(&mut self) {
        self.held_up = false;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.claimed = self.shared.claimed(index);
        }
    }

    /// Whether reading ended before something that is not whole.
    pub(super) fn is_held_up(&self) -> bool {
        self.held_up
    }

    /// The earliest record that was made before `until_ns`, with what follows it.
    pub(super) fn next(&mut self, until_ns: u64) -> Option<&[u8]> {
        self.forget_last();
        let (mut at, mut way) = (until_ns, None);
        // The rings first: a socket is told there before its first operation.
        for (index, ring) in self.rings.iter_mut().enumerate() {
            let made = ring.at();
            if made < at {
                (at, way) = (made, Some(Way::Ring(index)));
            }
        }
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if lane.at == NONE {
                self.held_up |= !lane.look(index, &self.shared);
            }
            if lane.at < at {
                (at, way) = (lane.at, Some(Way::Lane(index)));
            }
        }
        if self.held_up {
            return None;
        }
        self.last = way;
        match way? {
            Way::Ring(index) => self.rings.get(index).map(|ring| ring.next.as_slice()),
            Way::Lane(index) => {
                let lane = self.lanes.get(index)?;
                self.shared.record(index, lane.read)
            }
        }
    }

    /// Gives back the places of all that was read.
    pub(super) fn release(&mut self) {
        self.forget_last();
        for index in 0..self.lanes.len() {
            self.release_lane(index, 1);
        }
    }

    fn forget_last(&mut self) {
        match self.last.take() {
            Some(Way::Ring(index)) => {
                if let Some(ring) = self.rings.get_mut(index) {
                    ring.next.clear();
                }
            }
            Some(Way::Lane(index)) => {
                if let Some(lane) = self.lanes.get_mut(index) {
                    lane.read = lane.read.wrapping_add(1);
                    lane.at = NONE;
                }
                self.release_lane(index, RELEASE);
            }
            None => {}
        }
    }

    /// Gives a lane's places back if they are at least so many.
    fn release_lane(&mut self, index: usize, least: u64) {
        if let Some(lane) = self.lanes.get_mut(index)
            && lane.read.wrapping_sub(lane.released) >= least
        {
            lane.released = lane.read;
            self.shared.release(index, lane.read);
        }
    }
}

impl Lane {
    /// Looks when the next entry was made. Returns whether that can be told.
    fn look(&mut self, index: usize, shared: &SharedLanes) -> bool {
        if self.claimed == self.read {
            return true;
        }
        for _ in 0..LOOKS {
            if let Some(record) = shared.record(index, self.read) {
                self.at = timestamp(record);
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

/// When a record was made: in all kinds at the same place. One that is too short comes at once, and is refused.
fn timestamp(record: &[u8]) -> u64 {
    let at = std::mem::offset_of!(wirespan_ebpf::OperationRecord, timestamp_ns);
    let bytes = record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::mem::offset_of;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{MemfdFlags, memfd_create};
    use wirespan_ebpf::{LaneEnds, LaneEntry, OperationRecord};

    use super::*;

    const LENGTH: usize = 4;

    /// What the kernel's side writes.
    struct Kernel {
        entries: File,
        ends: File,
        claimed: [u64; 2],
    }

    impl Kernel {
        fn new() -> (Self, Ways) {
            let file = |size: usize| {
                let file = File::from(memfd_create("lanes", MemfdFlags::CLOEXEC).unwrap());
                file.set_len(size as u64).unwrap();
                file
            };
            let entries = file(2 * LENGTH * size_of::<LaneEntry>());
            let ends = file(2 * size_of::<LaneEnds>());
            let shared = SharedLanes::map(entries.as_fd(), ends.as_fd(), 2, LENGTH).unwrap();
            let ways = Ways::new(Vec::new(), shared, 2);
            (Self { entries, ends, claimed: [0; 2] }, ways)
        }

        /// Claims an entry. Returns where it lies and its turn.
        fn claim(&mut self, lane: usize) -> (u64, u64) {
            let place = lane * LENGTH + usize::try_from(self.claimed[lane]).unwrap() % LENGTH;
            self.claimed[lane] += 1;
            let at = (lane * size_of::<LaneEnds>() + offset_of!(LaneEnds, claimed)) as u64;
            self.ends.write_all_at(&self.claimed[lane].to_le_bytes(), at).unwrap();
            ((place * size_of::<LaneEntry>()) as u64, self.claimed[lane])
        }

        fn hand_over(&self, (place, turn): (u64, u64), made: u64) {
            let time = offset_of!(LaneEntry, record) + offset_of!(OperationRecord, timestamp_ns);
            self.entries.write_all_at(&made.to_le_bytes(), place + time as u64).unwrap();
            self.entries.write_all_at(&turn.to_le_bytes(), place).unwrap();
        }

        fn write(&mut self, lane: usize, made: u64) {
            let claim = self.claim(lane);
            self.hand_over(claim, made);
        }

        /// Places of a lane that the reader has given back in all.
        fn released(&self, lane: usize) -> u64 {
            let at = (lane * size_of::<LaneEnds>() + offset_of!(LaneEnds, read)) as u64;
            let mut read = [0; 8];
            self.ends.read_exact_at(&mut read, at).unwrap();
            u64::from_le_bytes(read)
        }
    }

    fn read(ways: &mut Ways, until_ns: u64) -> Vec<u64> {
        let mut all = Vec::new();
        ways.begin();
        while let Some(record) = ways.next(until_ns) {
            all.push(timestamp(record));
        }
        ways.release();
        all
    }

    #[test]
    fn records_of_all_cpus_come_in_the_order_of_their_making() {
        let (mut kernel, mut ways) = Kernel::new();
        for (lane, made) in [(0, 10), (1, 20), (1, 30), (0, 40), (0, 50), (1, 60)] {
            kernel.write(lane, made);
        }
        assert_eq!(read(&mut ways, 100), [10, 20, 30, 40, 50, 60]);
        assert!(read(&mut ways, 100).is_empty());
    }

    #[test]
    fn what_was_made_later_is_left_for_the_next_time() {
        let (mut kernel, mut ways) = Kernel::new();
        kernel.write(0, 10);
        kernel.write(1, 20);
        kernel.write(1, 30);
        assert_eq!(read(&mut ways, 20), [10]);
        assert_eq!(read(&mut ways, 21), [20]);
        kernel.write(0, 25);
        assert_eq!(read(&mut ways, 100), [25, 30]);
    }

    #[test]
    fn an_entry_that_is_not_whole_holds_up_what_may_be_later() {
        let (mut kernel, mut ways) = Kernel::new();
        let open = kernel.claim(0);
        kernel.write(0, 20);
        kernel.write(1, 30);
        assert!(read(&mut ways, 100).is_empty() && ways.is_held_up());
        kernel.hand_over(open, 10);
        assert_eq!(read(&mut ways, 100), [10, 20, 30]);
        assert!(!ways.is_held_up());
    }

    #[test]
    fn what_comes_while_reading_is_left_for_the_next_time() {
        let (mut kernel, mut ways) = Kernel::new();
        kernel.write(0, 10);
        ways.begin();
        kernel.write(0, 20);
        kernel.claim(1);
        assert_eq!(ways.next(100).map(timestamp), Some(10));
        assert!(ways.next(100).is_none() && !ways.is_held_up());
    }

    #[test]
    fn places_are_given_back_when_they_were_read_and_used_again() {
        let (mut kernel, mut ways) = Kernel::new();
        for lap in 0..3 {
            let first = lap * LENGTH as u64;
            for made in first..first + LENGTH as u64 {
                kernel.write(0, made + 1);
            }
            assert_eq!(kernel.released(0), first, "nothing is given back before it was read");
            let expected: Vec<u64> = (first + 1..=first + LENGTH as u64).collect();
            assert_eq!(read(&mut ways, u64::MAX), expected);
            assert_eq!(kernel.released(0), first + LENGTH as u64);
        }
    }

    #[test]
    fn the_last_lap_is_no_record() {
        let (mut kernel, mut ways) = Kernel::new();
        for made in 1..=LENGTH as u64 {
            kernel.write(0, made);
        }
        assert_eq!(read(&mut ways, 100).len(), LENGTH);
        // Claimed again, and still holding what was there before.
        let open = kernel.claim(0);
        assert!(read(&mut ways, 100).is_empty());
        kernel.hand_over(open, 9);
        assert_eq!(read(&mut ways, 100), [9]);
    }
}
