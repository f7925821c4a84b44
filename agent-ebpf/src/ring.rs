//! Into the ring buffers.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ringbuf_output;

use crate::kernel::setting;
use crate::maps::{RING_0, RING_1, RING_2, RING_3};

/// The ring that `cookie` chooses: order within a socket is kept.
#[inline(always)]
fn of(cookie: u64) -> *const u8 {
    match cookie as u32 & setting!(ring_mask) {
        0 => (&raw const RING_0).cast(),
        1 => (&raw const RING_1).cast(),
        2 => (&raw const RING_2).cast(),
        _ => (&raw const RING_3).cast(),
    }
}

/// Writes `size` bytes at `record` to the ring that `cookie` chooses. Returns whether there was room.
///
/// Nobody is woken: a wake-up per record doubles the cost of the hook, so the reader comes by itself
/// every few milliseconds.
#[inline(always)]
pub(crate) fn output<T>(cookie: u64, record: *const T, size: usize) -> bool {
    write(of(cookie), record, size, u64::from(BPF_RB_NO_WAKEUP))
}

/// Writes a record that the reader should see at once (a process came or went).
#[inline(always)]
pub(crate) fn output_now<T>(record: &T) -> bool {
    write((&raw const RING_0).cast(), record, size_of::<T>(), u64::from(BPF_RB_FORCE_WAKEUP))
}

#[inline(always)]
fn write<T>(ring: *const u8, record: *const T, size: usize, flags: u64) -> bool {
    // SAFETY: `ring` is a ring buffer map, and the verifier checks that `size` bytes lie behind `record`.
    unsafe {
        bpf_ringbuf_output(ring.cast_mut().cast(), record.cast_mut().cast(), size as u64, flags)
            == 0
    }
}
