//! Reading the kernel: typed loads at offsets from BTF, and the few helpers, each with its contract.
//!
//! A load through a pointer that the verifier knows by its BTF type is one instruction that can't fault
//! (the kernel's fix-up gives zero); `bpf_probe_read_kernel` is for what it can't follow.

use core::ffi::c_void;
use core::ptr::{self, NonNull};

use aya_ebpf::helpers::generated as helper;
use wirespan_ebpf::{NO_SLOT, ProcessSlot, SocketState, TaskState};

use crate::maps::{PROCESSES, SOCKETS, TASKS};

/// The offset of a field of [`wirespan_ebpf::KernelFields`], as the loader set it.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a static; volatile because the loader, not the compiler, decides its value.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::KERNEL_FIELDS.$field) }
    };
}

/// A setting of [`wirespan_ebpf::Settings`], as the loader set it.
macro_rules! setting {
    ($field:ident) => {
        // SAFETY: a static; volatile because the loader, not the compiler, decides its value.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::SETTINGS.$field) }
    };
}

/// `base->field`, through a pointer that the verifier can follow.
macro_rules! field {
    ($base:expr, $field:ident) => {{
        let (base, offset): ($crate::kernel::Object, u32) =
            ($base, $crate::kernel::offset!($field));
        // SAFETY: the verifier checks the access against the kernel's BTF; a fault reads as zero.
        unsafe { $crate::kernel::load(base, offset) }
    }};
}

pub(crate) use {field, offset, setting};

/// A `task_struct`, `sock`, ... that the verifier knows by type.
pub(crate) type Object = *const c_void;

/// One load.
///
/// # Safety
/// `base` must be a pointer to a BTF type for the verifier, `offset` a scalar member of that type.
#[inline(always)]
pub(crate) unsafe fn load<T: Copy>(base: Object, offset: u32) -> T {
    // SAFETY: by the contract above.
    unsafe { ptr::read_volatile(base.cast::<u8>().add(offset as usize).cast::<T>()) }
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
/// the counter. (The BPF target has no compare-and-swap before v3, so core offers no `fetch_add`.)
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
