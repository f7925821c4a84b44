//! What SIGUSR1 would do in each traced process.
//!
//! An iterator over all tasks (`iter/task`), run by user space right before it sends a Node.js process that
//! signal, which asks the runtime for its inspector: an application's own handler would run instead, and a
//! process without one would die. Writes a `SignalHandlerRecord` for each traced process to whoever reads the
//! iterator. Attached to nothing otherwise.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::helpers::generated::bpf_seq_write;

use wirespan_ebpf::SignalHandlerRecord;

use crate::kernel::{self, Object, field};

/// Where SIGUSR1 (10) is among the actions.
const USR1: usize = 9;

/// Size of `struct k_sigaction`, and where in it the flags are: handler, flags, restorer, 64 bits of mask, as in
/// include/linux/signal_types.h for x86-64 and aarch64.
const ACTION_BYTES: usize = 32;
const FLAGS: usize = 8;

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

/// `struct bpf_iter__task`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: Object,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn handlers(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes this context; the verifier checks each member's use.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task.is_null() {
        return 0;
    }
    let (tgid, tid): (u32, u32) = (field!(task, task_tgid), field!(task, task_pid));
    // Handlers are the process's: one record, by its leader.
    if tgid != tid {
        return 0;
    }
    let Some(slot) = kernel::task_slot(task) else { return 0 };
    let sighand: Object = field!(task, task_sighand);
    // Constants, so that the verifier follows.
    let action: Object = sighand.wrapping_byte_add(USR1 * ACTION_BYTES);
    let flags: Object = sighand.wrapping_byte_add(USR1 * ACTION_BYTES + FLAGS);
    let record = SignalHandlerRecord {
        slot,
        tgid,
        handler: field!(action, sighand_action),
        flags: field!(flags, sighand_action),
    };
    // SAFETY: the record is on the stack and as long as said. What doesn't fit makes the kernel try again with
    // a larger buffer.
    unsafe {
        bpf_seq_write(
            (*meta).seq.cast(),
            ptr::from_ref(&record).cast(),
            size_of::<SignalHandlerRecord>() as u32,
        );
    }
    0
}
