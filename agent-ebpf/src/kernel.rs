//! Reading the kernel: typed loads at offsets from BTF, and the few helpers, each with its contract.
//!
//! A load through a pointer that the verifier knows by its BTF type is one instruction that can't fault
//! (the kernel's fix-up gives zero); `bpf_probe_read_kernel` is for what it can't follow.

use core::ffi::c_void;
use core::ptr::{self, NonNull};

use aya_ebpf::helpers::generated as helper;
use wirespan_ebpf::{NO_SLOT, ProcessSlot, SocketState, TaskState};

use crate::maps::{PROCESSES, SOCKETS, TASKS};

/// The constant that the loader writes into the instruction at placeholder `$placeholder`.
macro_rules! constant {
    ($placeholder:expr) => {{
        let constant: u64;
        // SAFETY: one move of a constant into a register.
        unsafe {
            core::arch::asm!(
                "{constant} = {placeholder}",
                constant = out(reg) constant,
                placeholder = const $placeholder,
                options(pure, nomem, nostack),
            );
        }
        // The instruction extends the sign.
        constant as u32
    }};
}

/// The offset of a field of [`wirespan_ebpf::KernelFields`], or [`wirespan_ebpf::KernelFields::ABSENT`].
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::constant!(wirespan_ebpf::placeholder::offset(core::mem::offset_of!(
            wirespan_ebpf::KernelFields,
            $field
        )))
    };
}

/// A setting of [`wirespan_ebpf::Settings`].
macro_rules! setting {
    ($field:ident) => {
        $crate::kernel::constant!(wirespan_ebpf::placeholder::setting(core::mem::offset_of!(
            wirespan_ebpf::Settings,
            $field
        )))
    };
}

/// `base->field`, through a pointer that the verifier can follow: one load, whose offset the loader writes
/// into the instruction. A null or stale pointer reads as zero.
macro_rules! field {
    ($base:expr, $field:ident) => {{
        const PLACEHOLDER: i16 = wirespan_ebpf::placeholder::load(core::mem::offset_of!(
            wirespan_ebpf::KernelFields,
            $field
        ));
        let base: $crate::kernel::Object = $base;
        // SAFETY: the verifier checks the access against the kernel's BTF.
        unsafe { $crate::kernel::Load::load::<PLACEHOLDER>(base) }
    }};
}

pub(crate) use {constant, field, offset, setting};

/// A `task_struct`, `sock`, ... that the verifier knows by type.
pub(crate) type Object = *const c_void;

/// What one instruction loads.
pub(crate) trait Load: Sized {
    /// Loads from `base` at the offset that the loader puts in `PLACEHOLDER`'s place.
    ///
    /// # Safety
    /// `base` must be a pointer to a BTF type for the verifier, the field a scalar member of that type.
    unsafe fn load<const PLACEHOLDER: i16>(base: Object) -> Self;
}

macro_rules! load {
    ($($type:ty: $size:literal;)+) => {
        $(impl Load for $type {
            #[inline(always)]
            unsafe fn load<const PLACEHOLDER: i16>(base: Object) -> Self {
                let value: Self;
                // SAFETY: by the trait's contract.
                unsafe {
                    core::arch::asm!(
                        concat!("{value} = *(", $size, " *)({base} + {placeholder})"),
                        value = out(reg) value,
                        base = in(reg) base,
                        placeholder = const PLACEHOLDER,
                        options(readonly, nostack),
                    );
                }
                value
            }
        })+
    };
}

load! {
    u8: "u8";
    u16: "u16";
    u32: "u32";
    i32: "u32";
    u64: "u64";
    Object: "u64";
}

/// A value at any kernel address; `None` when it can't be read.
#[inline(always)]
pub(crate) fn probe_kernel<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(address as *const T) }.ok()
}

/// CLOCK_MONOTONIC.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: no preconditions.
    unsafe { helper::bpf_ktime_get_ns() }
}

/// The same value, of which the compiler knows nothing any more: a bound that is checked behind it is checked
/// there, in the register that the verifier will look at.
#[inline(always)]
pub(crate) fn opaque(mut value: u64) -> u64 {
    // SAFETY: a move of a register to itself.
    unsafe { core::arch::asm!("{value} = {value}", value = inout(reg) value, options(nostack)) };
    value
}

/// The same value, of which the verifier knows nothing any more. Where ways through a program meet again it
/// goes on once for all that it can't tell apart, else once for each. `unknown`: any value from a map.
#[inline(always)]
pub(crate) fn forget(mut value: u64, unknown: u64) -> u64 {
    // SAFETY: two instructions on registers; the second undoes the first.
    unsafe {
        core::arch::asm!(
            "{value} ^= {unknown}",
            "{value} ^= {unknown}",
            value = inout(reg) value,
            unknown = in(reg) unknown,
            options(pure, nomem, nostack),
        );
    }
    value
}

/// The CPU that this runs on.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: no preconditions.
    unsafe { helper::bpf_get_smp_processor_id() }
}

/// The running task.
#[inline(always)]
pub(crate) fn current() -> Object {
    // SAFETY: no preconditions.
    unsafe { helper::bpf_get_current_task_btf() }.cast_const().cast()
}

/// The slot of the task's process, if it is traced.
#[inline(always)]
pub(crate) fn task_slot(task: Object) -> Option<u32> {
    let leader: Object = field!(task, task_group_leader);
    let storage: u64 = field!(leader, task_storage);
    if storage == 0 {
        return None;
    }
    // SAFETY: the leader is a task by the verifier's types; no value is created.
    let state = unsafe {
        helper::bpf_task_storage_get(TASKS.as_ptr(), leader.cast_mut().cast(), ptr::null_mut(), 0)
    };
    let state = NonNull::new(state.cast::<TaskState>())?;
    // SAFETY: the helper gave a valid value.
    let slot = unsafe { (*state.as_ptr()).slot };
    (slot != NO_SLOT).then_some(slot)
}

/// The table entry of a slot.
#[inline(always)]
pub(crate) fn process(slot: u32) -> Option<*mut ProcessSlot> {
    PROCESSES.get_ptr_mut(slot)
}

/// The socket's state, if it has any.
#[inline(always)]
pub(crate) fn socket_state(sk: Object) -> Option<*mut SocketState> {
    // SAFETY: `sk` is a socket by the verifier's types; no value is created.
    let state =
        unsafe { helper::bpf_sk_storage_get(SOCKETS.as_ptr(), sk.cast_mut(), ptr::null_mut(), 0) };
    NonNull::new(state.cast::<SocketState>()).map(NonNull::as_ptr)
}

/// The socket's state, created where there is none. `None` when the kernel has no memory for it.
#[inline(always)]
pub(crate) fn create_socket_state(sk: Object) -> Option<*mut SocketState> {
    // SAFETY: `sk` is a socket by the verifier's types; a null value creates a zeroed one.
    let state = unsafe {
        helper::bpf_sk_storage_get(
            SOCKETS.as_ptr(),
            sk.cast_mut(),
            ptr::null_mut(),
            u64::from(aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    NonNull::new(state.cast::<SocketState>()).map(NonNull::as_ptr)
}

/// The socket as a `tcp_sock`; null when it isn't one (the helper checks family, protocol and state).
#[inline(always)]
pub(crate) fn tcp_sock(sk: Object) -> Object {
    // SAFETY: `sk` is a socket by the verifier's types.
    unsafe { helper::bpf_skc_to_tcp_sock(sk.cast_mut()) }.cast_const().cast()
}

/// Adds to a counter that user space maps: one `lock` instruction, as several threads of a process share
/// the counter. (For this target core offers no `fetch_add`.)
#[inline(always)]
pub(crate) fn add(counter: *mut u64, amount: u64) {
    // SAFETY: counters are aligned members of map values, which the verifier checks.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {amount}",
            counter = in(reg) counter,
            amount = in(reg) amount,
            options(nostack),
        );
    }
}

/// Writes `new` where there is `expected`. Returns what was there.
///
/// # Safety
/// `place` is an aligned word of a map value.
#[inline(always)]
pub(crate) unsafe fn compare_exchange(place: *mut u64, expected: u64, new: u64) -> u64 {
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
