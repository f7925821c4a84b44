//! Where an operation's record is gathered, and how it gets to user space.
//!
//! What is not long goes straight into this CPU's lane. All else, and what finds the lane full, is gathered
//! in a value of this CPU's and copied into a ring buffer. Emits: [`OperationRecord`].

use wirespan_ebpf::{Direction, LANE_ALIGNMENT, LANE_PAYLOAD, MAX_PAYLOAD, OperationRecord, TAIL};

use crate::lanes::{self, Claim};
use crate::maps::{SCRATCH, Scratch};
use crate::payload::{self, Source};
use crate::{kernel, ring};

/// Of iovecs the verifier bounds where a piece begins and how long it is, not their sum.
const VECTORS: usize = payload::FEW_BYTES;
const _: () = assert!(2 * VECTORS <= LANE_PAYLOAD);

/// Bytes before a record's payload.
const HEAD: usize = size_of::<OperationRecord>();

/// Room for one record.
#[derive(Clone, Copy)]
pub(crate) enum Room {
    /// In a lane, for one buffer, or a few short ones.
    Lane(Claim),
    /// Outside, for all else.
    Scratch(*mut Scratch),
    /// There is none.
    None,
}

impl Room {
    #[inline(always)]
    pub(crate) fn reserve(source: &Source, want: u64, tail: u64, direction: Direction) -> Self {
        let one = !source.is_vector();
        let all = want + if tail == 0 { 0 } else { TAIL as u64 };
        if ((one && all <= LANE_PAYLOAD as u64)
            || (source.is_few() && tail == 0 && want <= VECTORS as u64))
            && let Some(claim) = lanes::claim(HEAD as u64 + all)
        {
            return Self::Lane(claim);
        }
        // Sends and receives never share one.
        let index = 2 * kernel::cpu() + u32::from(direction.0 & 1);
        SCRATCH.get_ptr_mut(index).map_or(Self::None, Self::Scratch)
    }

    /// Whether it is in a lane, and will be handed over.
    #[inline(always)]
    pub(crate) fn is_lane(self) -> bool {
        matches!(self, Self::Lane(_))
    }

    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// Copies the first `want` bytes of an operation. Returns how many there are; fewer than wanted means
    /// that the rest could not be read.
    #[inline(always)]
    pub(crate) fn copy(self, source: &Source, want: u64) -> u64 {
        // SAFETY: map values.
        unsafe {
            match self {
                Self::Lane(claim) => {
                    let payload = claim.record.add(1).cast::<u8>();
                    if source.is_vector() {
                        payload::copy_few(payload, source, want)
                    } else {
                        payload::copy_buffer(payload, source, 0, want, LANE_PAYLOAD)
                    }
                }
                Self::Scratch(scratch) => payload::copy::<MAX_PAYLOAD>(scratch, 0, source, 0, want),
                Self::None => 0,
            }
        }
    }

    /// Copies the `size` bytes that lie `from` bytes into the operation to the record's end, which in a
    /// scratch record is behind the `captured` ones. Returns how many there are.
    #[inline(always)]
    pub(crate) fn copy_tail(self, source: &Source, captured: u64, from: u64, size: u64) -> u64 {
        // SAFETY: map values.
        unsafe {
            match self {
                Self::Lane(claim) => {
                    // The verifier has forgotten that there is room for a tail, and for no more.
                    let end = kernel::opaque(claim.size);
                    if end < TAIL as u64 || end > (HEAD + LANE_PAYLOAD + LANE_ALIGNMENT) as u64 {
                        return 0;
                    }
                    let tail = claim.record.cast::<u8>().add(end as usize - TAIL);
                    payload::copy_buffer(tail, source, from, size, TAIL)
                }
                Self::Scratch(scratch) => {
                    payload::copy::<TAIL>(scratch, captured, source, from, size)
                }
                Self::None => 0,
            }
        }
    }

    /// Hands the record to the reader. Returns whether there was room.
    #[inline(always)]
    pub(crate) fn write(self, cookie: u64, record: OperationRecord) -> bool {
        // SAFETY: map values.
        unsafe {
            match self {
                Self::Lane(claim) => {
                    claim.record.write(record);
                    lanes::hand_over(claim);
                    true
                }
                Self::Scratch(scratch) => {
                    let tail = if record.tail_length == 0 { 0 } else { TAIL };
                    let size = size_of::<OperationRecord>() + record.captured as usize + tail;
                    (&raw mut (*scratch).record).write(record);
                    ring::output(cookie, scratch, size)
                }
                Self::None => false,
            }
        }
    }
}
