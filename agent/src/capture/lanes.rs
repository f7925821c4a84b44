//! The ways from the kernel programs, read as one: records by the time that they were made.
//!
//! Short records lie in a lane for each CPU, all others in ring buffers, so two operations on one socket may
//! come by different ways. What was made after `until_ns` stays for the next time: of what was made before
//! it, nothing can still be missing that came before another record of the same thread. A program that was
//! interrupted between claiming a place and handing it over holds up all, as it would in a ring.

use std::collections::VecDeque;

use aya::maps::{MapData, RingBuf};

use wirespan_ebpf::LaneMark;

use crate::sys::SharedLanes;

/// Nothing is there.
const NONE: u64 = u64::MAX;

/// How often a place that is claimed is looked at before it is left for the next time: some microseconds, more
/// than a program takes that nobody interrupts.
const LOOKS: u32 = 500;

/// Bytes after which a lane's places are given back, at the latest.
const RELEASE: u32 = 8 * 1024;

/// A ring buffer, with the record that is next.
struct Ring {
    ring: RingBuf<MapData>,
    next: Vec<u8>,
    /// What comes behind it, as far as it was looked at already.
    ahead: VecDeque<Vec<u8>>,
}

impl Ring {
    /// When the next record was made.
    fn at(&mut self) -> u64 {
        if self.next.is_empty()
            && let Some(next) = self.ahead.pop_front()
        {
            self.next = next;
        }
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
    read: LaneMark,
    released: LaneMark,
    /// What was claimed when reading began.
    claimed: LaneMark,
    /// When the next record was made.
    at: u64,
    /// The mark behind it.
    behind: LaneMark,
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
    /// A place is claimed and not whole: what is behind it may be later than what it will hold.
    held_up: bool,
}

impl Ways {
    pub(super) fn new(rings: Vec<RingBuf<MapData>>, shared: SharedLanes, lanes: usize) -> Self {
        let rings = rings
            .into_iter()
            .map(|ring| Ring { ring, next: Vec::new(), ahead: VecDeque::new() })
            .collect();
        let none = LaneMark::default();
        let lane = Lane { read: none, released: none, claimed: none, at: NONE, behind: none };
        Self { rings, shared, lanes: vec![lane; lanes], last: None, held_up: false }
    }

    /// The ring that process events come by.
    pub(super) fn first_ring(&self) -> Option<&RingBuf<MapData>> {
        self.rings.first().map(|ring| &ring.ring)
    }

    /// Shows what waits in the ring that process events come by, each record once, before its turn. Looks at `most`
    /// records that wait at most.
    pub(super) fn look_ahead(&mut self, most: usize, mut each: impl FnMut(&[u8])) {
        let Some(Ring { ring, ahead, .. }) = self.rings.first_mut() else { return };
        while ahead.len() < most
            && let Some(item) = ring.next()
        {
            each(&item);
            ahead.push_back(item.to_vec());
        }
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
                self.shared.record(index, lane.read).map(|(record, _)| record)
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
                    lane.read = lane.behind;
                    lane.at = NONE;
                }
                self.release_lane(index, RELEASE);
            }
            None => {}
        }
    }

    /// Gives a lane's places back if they are at least so many bytes.
    fn release_lane(&mut self, index: usize, least: u32) {
        if let Some(lane) = self.lanes.get_mut(index)
            && lane.read.bytes().wrapping_sub(lane.released.bytes()) >= least
        {
            lane.released = lane.read;
            self.shared.release(index, lane.read);
        }
    }
}

impl Lane {
    /// Looks when the next record was made. Returns whether that can be told.
    fn look(&mut self, index: usize, shared: &SharedLanes) -> bool {
        if self.claimed == self.read {
            return true;
        }
        for _ in 0..LOOKS {
            if let Some((record, behind)) = shared.record(index, self.read) {
                (self.at, self.behind) = (timestamp(record), behind);
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
    use wirespan_ebpf::{LANE_BYTES, LANE_RECORDS, LaneEnds, OperationRecord};

    use super::*;

    /// Of each record here, but where a test says otherwise.
    const SIZE: u32 = 640;

    /// Records of that size that a lane has room for.
    const ROOM: u64 = LANE_BYTES as u64 / SIZE as u64;

    /// What the kernel's side writes.
    struct Kernel {
        lanes: File,
        ends: File,
        claimed: [LaneMark; 2],
    }

    /// A place that was claimed.
    struct Claim {
        lane: usize,
        before: LaneMark,
        mark: LaneMark,
    }

    impl Kernel {
        fn new() -> (Self, Ways) {
            let file = |size: usize| {
                let file = File::from(memfd_create("lanes", MemfdFlags::CLOEXEC).unwrap());
                file.set_len(size as u64).unwrap();
                file
            };
            let lanes = file(2 * size_of::<wirespan_ebpf::Lane>());
            let ends = file(2 * size_of::<LaneEnds>());
            let shared = SharedLanes::map(lanes.as_fd(), ends.as_fd(), 2).unwrap();
            let ways = Ways::new(Vec::new(), shared, 2);
            (Self { lanes, ends, claimed: [LaneMark::default(); 2] }, ways)
        }

        fn mark_at(&self, lane: usize, within: usize, mark: LaneMark) {
            let at = (lane * size_of::<LaneEnds>() + within) as u64;
            self.ends.write_all_at(&mark.0.to_le_bytes(), at).unwrap();
        }

        fn claim(&mut self, lane: usize, size: u32) -> Claim {
            let before = self.claimed[lane];
            let mark = before.behind(size);
            self.claimed[lane] = mark;
            self.mark_at(lane, offset_of!(LaneEnds, claimed), mark);
            Claim { lane, before, mark }
        }

        fn hand_over(&self, Claim { lane, before, mark }: Claim, made: u64) {
            let place =
                before.bytes() as usize % LANE_BYTES + lane * size_of::<wirespan_ebpf::Lane>();
            let time = place + offset_of!(OperationRecord, timestamp_ns);
            self.lanes.write_all_at(&made.to_le_bytes(), time as u64).unwrap();
            let number = before.records() as usize % LANE_RECORDS;
            self.mark_at(lane, offset_of!(LaneEnds, whole) + 8 * number, mark);
        }

        fn write(&mut self, lane: usize, made: u64) {
            self.write_sized(lane, made, SIZE);
        }

        fn write_sized(&mut self, lane: usize, made: u64, size: u32) {
            let claim = self.claim(lane, size);
            self.hand_over(claim, made);
        }

        /// What the reader has given back of a lane in all.
        fn released(&self, lane: usize) -> LaneMark {
            let at = (lane * size_of::<LaneEnds>() + offset_of!(LaneEnds, read)) as u64;
            let mut read = [0; 8];
            self.ends.read_exact_at(&mut read, at).unwrap();
            LaneMark(u64::from_le_bytes(read))
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
        let open = kernel.claim(0, SIZE);
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
        kernel.claim(1, SIZE);
        assert_eq!(ways.next(100).map(timestamp), Some(10));
        assert!(ways.next(100).is_none() && !ways.is_held_up());
    }

    #[test]
    fn places_are_given_back_when_they_were_read_and_used_again() {
        let (mut kernel, mut ways) = Kernel::new();
        for lap in 0..3 {
            let first = lap * ROOM;
            let before = kernel.claimed[0];
            for made in first..first + ROOM {
                kernel.write(0, made + 1);
            }
            assert_eq!(kernel.released(0), before, "nothing is given back before it was read");
            let expected: Vec<u64> = (first + 1..=first + ROOM).collect();
            assert_eq!(read(&mut ways, u64::MAX), expected);
            assert_eq!(kernel.released(0), kernel.claimed[0]);
        }
    }

    #[test]
    fn records_of_any_size_are_read_over_the_end_and_the_wrap_of_the_count() {
        let (mut kernel, mut ways) = Kernel::new();
        // As after hours: the next records bring both counts around.
        let old = LaneMark(u64::MAX << 38 | u64::from((u32::MAX - 6000) & !63));
        kernel.claimed[0] = old;
        ways.lanes[0].read = old;
        let sizes = [2176, 128, 64 * 33, 192, 1024, 640];
        for made in 1..=400 {
            kernel.write_sized(0, made, sizes[made as usize % sizes.len()]);
            if made % 7 == 0 {
                assert_eq!(read(&mut ways, u64::MAX), (made - 6..=made).collect::<Vec<u64>>());
            }
        }
        assert_eq!(read(&mut ways, u64::MAX), [400]);
        assert!(kernel.claimed[0].records() < 1000 && kernel.claimed[0].bytes() < 1 << 20);
    }

    #[test]
    fn the_last_lap_is_no_record() {
        let (mut kernel, mut ways) = Kernel::new();
        for made in 1..=LANE_RECORDS as u64 {
            kernel.write_sized(0, made, 128);
        }
        assert_eq!(read(&mut ways, u64::MAX).len(), LANE_RECORDS);
        // Claimed again, and still holding what was there before.
        let open = kernel.claim(0, 128);
        assert!(read(&mut ways, u64::MAX).is_empty());
        kernel.hand_over(open, 999);
        assert_eq!(read(&mut ways, u64::MAX), [999]);
    }
}
