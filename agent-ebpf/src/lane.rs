//! Lanes: memory that user space maps, in which records lie that are not long.
//!
//! Each CPU has one, a ring of entries of one size, which it alone writes and the agent alone reads.

use crate::{OperationRecord, Pod};

/// Payload bytes that an entry has room for, with a tail.
pub const LANE_PAYLOAD: usize = 1048;

/// A record in a lane, whole cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct LaneEntry {
    /// How many entries of this lane had been claimed with this one, written when the record is whole: what
    /// the reader waits for.
    pub turn: u64,
    /// The record.
    pub record: OperationRecord,
    /// Its payload, then, at the end, its tail.
    pub payload: [u8; LANE_PAYLOAD],
}
const _: () = assert!(size_of::<LaneEntry>() == 1152);

/// Where a lane begins and ends. Each in a cache line of its own: different CPUs write them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct LaneEnds {
    /// Entries that were claimed so far. The kernel programs write it.
    pub claimed: u64,
    /// Padding.
    pub unused: [u64; 7],
    /// Entries that were read so far: their places are free. User space writes it.
    pub read: u64,
    /// Padding.
    pub padding: [u64; 7],
}
const _: () = assert!(size_of::<LaneEnds>() == 128);

// SAFETY: integers throughout; the size assertion equals the sum of the members.
unsafe impl Pod for LaneEnds {}
// SAFETY: as above.
unsafe impl Pod for LaneEntry {}
