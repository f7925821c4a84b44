//! What is known of contexts, by their addresses: a table in an array.
//!
//! A busy event loop copies a context every 100 µs, when the interpreter has had all caches for itself. There a
//! hash map's look-up waits for memory four times (bucket, element, value, the list of what was used), and a place
//! in an array once. So: an address belongs to a set of places, any of which may be its; where all are taken the
//! one that was asked for longest ago is given away, and whose it was is not known any more. Neighbours in memory
//! are neighbours here.
//!
//! Places are shared by all processes and have no lock. Who writes one takes it first, by exchanging its address
//! for [`BUSY`], and gives up where somebody else did; the address is written last. Who reads asks for number and
//! address before and after ([`Known::holds`]); a number is written to a place once. On x86 stores are seen in
//! their order.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::helpers::generated::bpf_jiffies64;
use wirespan_ebpf::{CONTEXT_PLACES, CONTEXT_WAYS, PythonContext};

use crate::kernel::{self, Object, compare_exchange, field};
use crate::maps::PYTHON_CONTEXTS;

/// In the place of an address: it is being written.
const BUSY: u64 = 1;

/// A place in which a context was found.
#[derive(Clone, Copy)]
pub(super) struct Known {
    place: NonNull<PythonContext>,
    address: u64,
    /// Its number.
    pub(super) id: u64,
}

impl Known {
    /// Its place. What was read there is its own if [`Known::holds`] afterwards.
    #[inline(always)]
    pub(super) fn place(&self) -> *mut PythonContext {
        self.place.as_ptr()
    }

    /// Nobody else was given its place.
    #[inline(always)]
    pub(super) fn holds(&self) -> bool {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: a map value.
        unsafe {
            (&raw const (*self.place()).id).read_volatile() == self.id
                && (&raw const (*self.place()).address).read_volatile() == self.address
        }
    }
}

/// The generation of the process whose number this is; 0: nobody's.
#[inline(always)]
pub(super) const fn generation_of(id: u64) -> u32 {
    (id >> 40) as u32
}

/// Lets the processor fetch the first place of an address's set while the program does something else: nothing
/// waits for a store.
#[inline(always)]
pub(super) fn expect(task: Object, address: u64) {
    if let Some(place) = PYTHON_CONTEXTS.get_ptr_mut(first_of(task, address)) {
        // SAFETY: a map value; nobody reads the member.
        unsafe { (&raw mut (*place).reserved).write_volatile(0) };
    }
}

/// The first place of an address's set, in the running process.
#[inline(always)]
fn first_of(task: Object, address: u64) -> u32 {
    const SETS: usize = CONTEXT_PLACES / CONTEXT_WAYS;
    const SHIFT: u32 = u64::BITS - SETS.trailing_zeros();
    let process: u32 = field!(task, task_tgid);
    // A forked worker has its siblings' addresses, and a number next to theirs: above the page's bits.
    let page = (address >> 12) ^ (u64::from(process) << 40);
    // 2^64 by the golden ratio: all of these bits count in the upper ones.
    let set = (page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> SHIFT) ^ (address >> 6 & 63);
    set as u32 * CONTEXT_WAYS as u32
}

/// Says that the place is the address's.
const ITS: u64 = 1 << 32;

/// The place of this address, and [`ITS`]; or the one to be given to it.
///
/// A function of its own for the verifier, which looks at it once and not at each call.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn python_context_place(address: u64, generation: u32) -> u64 {
    let first = first_of(kernel::current(), address);
    let (mut oldest, mut least) = (first, u64::MAX);
    let mut index = first;
    while index < first + CONTEXT_WAYS as u32 {
        let Some(place) = PYTHON_CONTEXTS.get_ptr_mut(index) else { break };
        // SAFETY: a map value.
        let (at, id, used) =
            unsafe { ((&raw const (*place).address).read_volatile(), (*place).id, (*place).used) };
        if at == address && generation_of(id) == generation {
            return ITS | u64::from(index);
        }
        let used = match at {
            BUSY => u64::MAX,
            _ if at == 0 || id == 0 => 0,
            _ => used,
        };
        if used < least {
            (oldest, least) = (index, used);
        }
        index += 1;
    }
    u64::from(oldest)
}

/// What is known of a context of the running process, which has this generation.
#[inline(always)]
pub(super) fn find(address: u64, generation: u32) -> Option<Known> {
    let found = python_context_place(address, generation);
    if found & ITS == 0 {
        return None;
    }
    let place = PYTHON_CONTEXTS.get_ptr_mut(found as u32)?;
    // SAFETY: a map value.
    let id = unsafe {
        (*place).used = bpf_jiffies64();
        (&raw const (*place).id).read_volatile()
    };
    let known = Known { place: NonNull::new(place)?, address, id };
    (generation_of(id) == generation && known.holds()).then_some(known)
}

/// Takes the place for a new context with this number, in a process with this generation: to be written, and given
/// back by [`give`]. `None`: somebody else writes it.
#[inline(always)]
pub(super) fn take(address: u64, id: u64, generation: u32) -> Option<*mut PythonContext> {
    // The process may have been given another generation meanwhile.
    if generation_of(id) != generation {
        return None;
    }
    let place = PYTHON_CONTEXTS.get_ptr_mut(python_context_place(address, generation) as u32)?;
    // SAFETY: an aligned member of a map value; the rest is this program's then.
    unsafe {
        let before = (&raw const (*place).address).read_volatile();
        if before == BUSY || compare_exchange(&raw mut (*place).address, before, BUSY) != before {
            return None;
        }
        (*place).id = id;
        (*place).used = bpf_jiffies64();
    }
    Some(place)
}

/// Says whose a place is that was taken; 0: nobody's.
///
/// # Safety
/// `place` is one from [`take`].
#[inline(always)]
pub(super) unsafe fn give(place: *mut PythonContext, address: u64) {
    compiler_fence(Ordering::SeqCst);
    // SAFETY: a map value.
    unsafe { (&raw mut (*place).address).write_volatile(address) };
}

/// What is at this address isn't known any more.
#[inline(always)]
pub(super) fn forget(address: u64, generation: u32) {
    if let Some(known) = find(address, generation) {
        // SAFETY: an aligned member of a map value. Whoever was given the place since has another number.
        _ = unsafe { compare_exchange(&raw mut (*known.place()).id, known.id, 0) };
    }
}
