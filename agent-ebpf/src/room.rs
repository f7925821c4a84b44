//! Where an operation's record is gathered, and how it gets into a ring.
//!
//! What is short goes straight into a ring: reserved in one of two fixed sizes, because the verifier wants
//! a constant. All else is gathered in a per-CPU value and copied. Emits: [`OperationRecord`].

use wirespan_ebpf::{Direction, MAX_PAYLOAD, OperationRecord, TAIL};

use crate::maps::{SCRATCH, Scratch};
use crate::payload::{self, Source};
use crate::{kernel, ring};

/// A record, whose payload ends with room for a tail. With the ring's own eight bytes it is whole cache lines.
#[repr(C)]
pub(crate) struct Reserved<const PAYLOAD: usize> {
    record: OperationRecord,
    payload: [u8; PAYLOAD],
}

const SHORT: usize = 408;
const MEDIUM: usize = 1048;
/// Of iovecs the verifier bounds where a piece begins and how long it is, not their sum.
const VECTORS: usize = payload::FEW_BYTES;
const _: () = assert!(2 * VECTORS <= MEDIUM);

pub(crate) type Short = Reserved<SHORT>;
pub(crate) type Medium = Reserved<MEDIUM>;
const _: () = assert!((size_of::<Short>() + 8) % 64 == 0 && (size_of::<Medium>() + 8) % 64 == 0);

/// Room for one record.
#[derive(Clone, Copy)]
pub(crate) enum Room {
    /// In a ring, for one short buffer.
    Short(*mut Short),
    /// In a ring, for a longer one, or a few short ones.
    Medium(*mut Medium),
    /// Outside, for all else.
    Scratch(*mut Scratch),
    /// There is none.
    None,
}

impl Room {
    #[inline(always)]
    pub(crate) fn reserve(
        cookie: u64,
        source: &Source,
        want: u64,
        tail: u64,
        direction: Direction,
    ) -> Self {
        let one = !source.is_vector();
        let all = want + if tail == 0 { 0 } else { TAIL as u64 };
        if one && all <= SHORT as u64 {
            let room = ring::reserve::<Short>(cookie);
            if room.is_null() {
                return Self::None;
            }
            touch(room.cast(), want);
            return Self::Short(room);
        }
        if (one && all <= MEDIUM as u64) || (source.is_few() && tail == 0 && want <= VECTORS as u64)
        {
            let room = ring::reserve::<Medium>(cookie);
            if room.is_null() {
                return Self::None;
            }
            touch(room.cast(), want);
            return Self::Medium(room);
        }
        // Sends and receives never share one.
        let index = 2 * kernel::cpu() + u32::from(direction.0 & 1);
        SCRATCH.get_ptr_mut(index).map_or(Self::None, Self::Scratch)
    }

    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// Copies the first `want` bytes of an operation. Returns how many there are; fewer than wanted means
    /// that the rest could not be read.
    #[inline(always)]
    pub(crate) fn copy(self, source: &Source, want: u64) -> u64 {
        // SAFETY: reserved, or a map value.
        unsafe {
            match self {
                Self::Short(room) => {
                    let payload = (&raw mut (*room).payload).cast::<u8>();
                    payload::copy_buffer(payload, source, 0, want, SHORT)
                }
                Self::Medium(room) => {
                    let payload = (&raw mut (*room).payload).cast::<u8>();
                    if source.is_vector() {
                        payload::copy_few(payload, source, want)
                    } else {
                        payload::copy_buffer(payload, source, 0, want, MEDIUM)
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
        // SAFETY: reserved, or a map value.
        unsafe {
            match self {
                Self::Short(room) => {
                    let target = (&raw mut (*room).payload).cast::<u8>().add(SHORT - TAIL);
                    payload::copy_buffer(target, source, from, size, TAIL)
                }
                Self::Medium(room) => {
                    let target = (&raw mut (*room).payload).cast::<u8>().add(MEDIUM - TAIL);
                    payload::copy_buffer(target, source, from, size, TAIL)
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
        // SAFETY: reserved, or a map value.
        unsafe {
            match self {
                Self::Short(room) => {
                    (&raw mut (*room).record).write(record);
                    ring::submit(room);
                    true
                }
                Self::Medium(room) => {
                    (&raw mut (*room).record).write(record);
                    ring::submit(room);
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

/// Asks for the cache lines that the record will take. They were read by another CPU last or lie in no
/// cache at all, and the submission waits until all that was written before it has reached them.
#[inline(always)]
fn touch(room: *mut u64, want: u64) {
    // SAFETY: the smallest room has eight lines, the first of which the ring has written to.
    unsafe {
        room.byte_add(56).write_volatile(0);
        if want > 16 {
            room.byte_add(120).write_volatile(0);
        }
        if want > 80 {
            room.byte_add(184).write_volatile(0);
        }
        if want > 144 {
            room.byte_add(248).write_volatile(0);
        }
        if want > 208 {
            room.byte_add(312).write_volatile(0);
        }
        if want > 272 {
            room.byte_add(376).write_volatile(0);
        }
    }
}
