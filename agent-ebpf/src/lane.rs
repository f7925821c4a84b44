//! Lanes: memory that user space maps, in which records lie that are not long.
//!
//! Each CPU has one, a ring of bytes, which it alone writes and the agent alone reads. Records lie one behind the
//! other, so that as little memory as possible is in use: what is written to was read by another CPU before, and
//! to get its cache lines and translations back is most of what a record costs.

use crate::Pod;

/// Payload bytes that a record in a lane has at most, with a tail.
pub const LANE_PAYLOAD: usize = 2048;

/// Bytes of a lane that are in use in turn; a power of two.
pub const LANE_BYTES: usize = 64 * 1024;

/// Records that a lane holds at most; a power of two.
pub const LANE_RECORDS: usize = 512;

/// Where records begin: at cache lines, so that the agent reads none that is being written to.
pub const LANE_ALIGNMENT: usize = 64;

/// A lane's records. One that begins before `LANE_BYTES` may end behind: no record is in two pieces.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
pub struct Lane {
    /// The records, each an [`crate::OperationRecord`] with what follows it.
    pub bytes: [u8; LANE_BYTES + 4096],
}
const _: () = assert!(size_of::<crate::OperationRecord>() + LANE_PAYLOAD < 4096);

/// How far a lane was used, when this many records had been claimed: their number in the upper half, in the lower
/// the bytes that they took, each modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct LaneMark(pub u64);

impl LaneMark {
    /// Records so far.
    #[inline(always)]
    #[must_use]
    pub const fn records(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Bytes so far.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0 as u32
    }

    /// The mark behind a further record of `size` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn behind(self, size: u32) -> Self {
        let records = self.records().wrapping_add(1);
        Self((records as u64) << 32 | self.bytes().wrapping_add(size) as u64)
    }
}

/// Where a lane begins and ends, and which of its records are whole.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct LaneEnds {
    /// What was claimed so far. The kernel programs write it.
    pub claimed: LaneMark,
    /// Keeps apart what different CPUs write.
    pub unused: [u64; 7],
    /// What was read so far: its place is free. User space writes it.
    pub read: LaneMark,
    /// As `unused`.
    pub padding: [u64; 7],
    /// Of each record, by its number modulo their count, the mark behind it, written when it is whole.
    pub whole: [LaneMark; LANE_RECORDS],
}
const _: () = assert!(size_of::<LaneEnds>() == 128 + 8 * LANE_RECORDS);

// SAFETY: integers throughout; the size assertion equals the sum of the members.
unsafe impl Pod for LaneEnds {}
// SAFETY: bytes.
unsafe impl Pod for Lane {}
