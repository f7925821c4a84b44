//! Sockets that traced processes already have.
//!
//! An iterator over the open files of all tasks (`iter/task_file`), run by user space when processes
//! become traced. Emits a `SocketRecord` for each stream socket and gives it its state, so that
//! connections older than the agent are known and have a queue time at their first receive, and listeners
//! pass theirs on. No descriptor is held: a duplicate would keep the application's connections from
//! closing.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_sock_from_file;

use wirespan_ebpf::{NO_SLOT, socket_flag};

use crate::kernel::{self, Object, field};
use crate::socket;

/// `struct bpf_iter__task_file`.
#[repr(C)]
struct Context {
    meta: *const c_void,
    task: Object,
    fd: u32,
    file: Object,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn inventory(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes this context; the verifier checks each member's use.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let Some(slot) = kernel::task_slot(task) else { return 0 };
    // SAFETY: `file` is an open file by the verifier's types.
    let handle: Object = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast_const().cast();
    if handle.is_null() {
        return 0;
    }
    let sk: Object = field!(handle, socket_sk);
    if sk.is_null() || !socket::is_stream(sk) {
        return 0;
    }
    let tcp_state: u8 = field!(sk, sock_state);
    if tcp_state == socket::TCP_CLOSE {
        // It is connected to nobody yet, or no more. What connects it will announce it.
        return 0;
    }
    if tcp_state == socket::TCP_LISTEN {
        socket::listens(sk);
    }
    // A failure is no memory for one socket's state: its first operation will try again.
    if let Some(state) = socket::own(sk) {
        // SAFETY: `state` is a map value. A socket that was announced before is left to its user.
        if unsafe { (*state).slot } == NO_SLOT {
            socket::announce(sk, state, slot, socket_flag::FOUND);
        } else {
            // The second time round all listeners are known.
            socket::serve(sk, state);
        }
    }
    0
}
