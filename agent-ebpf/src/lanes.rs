//! Into this CPU's lane.
//!
//! No lock and no helper: an entry is claimed with one exchange, which costs little because no other CPU
//! writes there, and handed over with one store, which waits for nothing. A ring buffer's lock and exchange
//! wait until all that was written before has reached its cache lines; that was half of what an operation
//! cost.

use wirespan_ebpf::{LaneEnds, LaneEntry};

use crate::kernel::{self, setting};
use crate::maps::{LANE_ENDS, LANES};

/// An entry that was claimed. It must be handed over: the reader waits for it.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) entry: *mut LaneEntry,
    turn: u64,
}

/// The next entry of this CPU's lane. `None`: the reader is behind by a whole lane, or another task was just
/// here on this CPU.
#[inline(always)]
pub(crate) fn claim() -> Option<Claim> {
    let cpu = kernel::cpu();
    let last = setting!(lane_mask);
    let ends: *mut LaneEnds = LANE_ENDS.get_ptr_mut(cpu)?;
    // SAFETY: a map value.
    let (claimed, read) = unsafe {
        ((&raw const (*ends).claimed).read_volatile(), (&raw const (*ends).read).read_volatile())
    };
    if claimed.wrapping_sub(read) > u64::from(last) {
        return None;
    }
    // Looked up before it is claimed: a claim can't be given back.
    let place = (claimed as u32) & last;
    let entry = LANES.get_ptr_mut(cpu * (last + 1) + place)?;
    let turn = claimed + 1;
    // SAFETY: an aligned member of a map value.
    let before = unsafe { compare_exchange(&raw mut (*ends).claimed, claimed, turn) };
    (before == claimed).then_some(Claim { entry, turn })
}

/// Hands a whole record to the reader.
#[inline(always)]
pub(crate) fn hand_over(claim: Claim) {
    let Claim { entry, turn } = claim;
    // Behind all stores that made the record: for the compiler because this may write anything, for the
    // processor because x86 keeps the order of stores; elsewhere an exchange does.
    // SAFETY: an aligned member of a map value.
    unsafe {
        #[cfg(bpf_target_arch = "x86_64")]
        core::arch::asm!(
            "*(u64 *)({entry} + 0) = {turn}",
            entry = in(reg) entry,
            turn = in(reg) turn,
            options(nostack),
        );
        #[cfg(not(bpf_target_arch = "x86_64"))]
        core::arch::asm!(
            "{turn} = xchg_64({entry} + 0, {turn})",
            entry = in(reg) entry,
            turn = inout(reg) turn => _,
            options(nostack),
        );
    }
}

/// Writes `new` where there is `expected`. Returns what was there.
///
/// # Safety
/// `place` is an aligned word of a map value.
#[inline(always)]
unsafe fn compare_exchange(place: *mut u64, expected: u64, new: u64) -> u64 {
    let before: u64;
    // SAFETY: by the contract.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {new})",
            place = in(reg) place,
            new = in(reg) new,
            inout("r0") expected => before,
            options(nostack),
        );
    }
    before
}
