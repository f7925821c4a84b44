//! Into this CPU's lane.
//!
//! No lock and no helper: a place is claimed with one exchange, which costs little because no other CPU
//! writes there, and handed over with one store, which waits for nothing. A ring buffer's lock and exchange
//! wait until all that was written before has reached its cache lines; that was half of what an operation
//! cost.

use wirespan_ebpf::{
    LANE_ALIGNMENT, LANE_BYTES, LANE_RECORDS, Lane, LaneEnds, LaneMark, OperationRecord,
};

use crate::kernel::{self, compare_exchange, setting};
use crate::maps::{LANE_ENDS, LANES};

const ALIGNMENT: u64 = LANE_ALIGNMENT as u64;

/// A place that was claimed. It must be handed over: the reader waits for it.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) record: *mut OperationRecord,
    /// Bytes from the record's beginning to its end, whole cache lines.
    pub(crate) size: u64,
    whole: *mut LaneMark,
    mark: u64,
}

/// The next `size` bytes of this CPU's lane. `None`: the reader is behind by a whole lane, or another task was
/// just here on this CPU.
#[inline(always)]
pub(crate) fn claim(size: u64) -> Option<Claim> {
    let size = (size + ALIGNMENT - 1) & !(ALIGNMENT - 1);
    let cpu = kernel::cpu();
    let ends: *mut LaneEnds = LANE_ENDS.get_ptr_mut(cpu)?;
    // Looked up before it is claimed: a claim can't be given back.
    let lane: *mut Lane = LANES.get_ptr_mut(cpu)?;
    // SAFETY: a map value.
    let (claimed, read) = unsafe {
        ((&raw const (*ends).claimed).read_volatile(), (&raw const (*ends).read).read_volatile())
    };
    let bytes = claimed.bytes().wrapping_sub(read.bytes());
    let records = claimed.records().wrapping_sub(read.records());
    if u64::from(bytes) + size > u64::from(setting!(lane_room)) || records >= LANE_RECORDS as u32 {
        return None;
    }
    let mark = claimed.behind(size as u32).0;
    // SAFETY: an aligned word of a map value.
    let before = unsafe { compare_exchange((&raw mut (*ends).claimed).cast(), claimed.0, mark) };
    if before != claimed.0 {
        return None;
    }
    let number = kernel::opaque(u64::from(claimed.records())) & (LANE_RECORDS as u64 - 1);
    // SAFETY: map values; a record that begins in a lane has room behind it.
    unsafe {
        let record = place(lane, claimed).cast_mut().cast();
        let whole = (&raw mut (*ends).whole).cast::<LaneMark>().add(number as usize);
        Some(Claim { record, size, whole, mark })
    }
}

/// Asks for the memory in which the next record will lie, and doesn't wait for it.
#[inline(always)]
pub(crate) fn approach() {
    let cpu = kernel::cpu();
    let (Some(ends), Some(lane)) = (LANE_ENDS.get_ptr(cpu), LANES.get_ptr(cpu)) else { return };
    // SAFETY: map values; nothing is done with what is read.
    unsafe {
        let claimed = (&raw const (*ends).claimed).read_volatile();
        place(lane, claimed).read_volatile();
    }
}

/// Where the record begins before which so much was claimed.
///
/// # Safety
/// `lane` is a map value.
#[inline(always)]
unsafe fn place(lane: *const Lane, claimed: LaneMark) -> *const u8 {
    let place = kernel::opaque(u64::from(claimed.bytes())) & (LANE_BYTES as u64 - ALIGNMENT);
    // SAFETY: by the contract; the place is below the lane's length.
    unsafe { (&raw const (*lane).bytes).cast::<u8>().add(place as usize) }
}

/// Hands a whole record to the reader.
#[inline(always)]
pub(crate) fn hand_over(claim: Claim) {
    let Claim { whole, mark, .. } = claim;
    // Behind all stores that made the record: for the compiler because this may write anything, for the
    // processor because x86 keeps the order of stores; elsewhere an exchange does.
    // SAFETY: an aligned word of a map value.
    unsafe {
        #[cfg(bpf_target_arch = "x86_64")]
        core::arch::asm!(
            "*(u64 *)({whole} + 0) = {mark}",
            whole = in(reg) whole,
            mark = in(reg) mark,
            options(nostack),
        );
        #[cfg(not(bpf_target_arch = "x86_64"))]
        core::arch::asm!(
            "{mark} = xchg_64({whole} + 0, {mark})",
            whole = in(reg) whole,
            mark = inout(reg) mark => _,
            options(nostack),
        );
    }
}
