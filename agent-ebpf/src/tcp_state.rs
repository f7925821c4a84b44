//! TCP connections begin and end.
//!
//! Attaches to the tracepoint `sock:inet_sock_set_state`. Emits: [`EndedRecord`] for sockets that were
//! announced, and a `ProcessRecord` when any process begins to listen. A connect and a listen run in the task that asked for them; the later changes run in
//! whatever task or interrupt, and ask the socket.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use wirespan_ebpf::{EndedRecord, NO_SLOT, RecordKind, SocketState, socket_flag};

use crate::kernel::{self, Object, add, field};
use crate::{process, ring, socket};

const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECEIVED: i32 = 3;
const TCP_CLOSE: i32 = 7;
const TCP_LISTEN: i32 = 10;

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: Object = ctx.arg(0);
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    if new == TCP_SYN_SENT || new == TCP_LISTEN {
        let task = kernel::current();
        let slot = kernel::task_slot(task);
        if slot.is_some() && socket::is_stream(sk) {
            begin(sk, new);
        }
        if new == TCP_LISTEN {
            // Of any process: a rule may name the port.
            process::listens(task, slot.unwrap_or(NO_SLOT), field!(sk, sock_num));
        }
        return 0;
    }
    let storage: u64 = field!(sk, sock_storage);
    if storage == 0 {
        return 0;
    }
    let Some(state) = kernel::socket_state(sk) else { return 0 };
    if !socket::is_own(state, sk) {
        if old == TCP_SYN_RECEIVED && new == TCP_ESTABLISHED {
            // SAFETY: `state` is a map value, inherited from the listener.
            unsafe { (*state).connect_ns = kernel::now_ns() };
        }
        return 0;
    }
    if old == TCP_SYN_SENT && new == TCP_ESTABLISHED {
        // SAFETY: `state` is a map value of this socket.
        unsafe {
            (*state).connect_ns = kernel::now_ns().saturating_sub((*state).connect_ns);
            (*state).flags |= socket_flag::CONNECTED;
        }
    } else if new == TCP_CLOSE {
        end(sk, state);
    }
    0
}

#[inline(always)]
fn begin(sk: Object, new: i32) {
    let Some(state) = socket::own(sk) else { return };
    if new == TCP_LISTEN {
        socket::listens(sk);
    } else {
        // SAFETY: `state` is a map value of this socket.
        unsafe {
            (*state).flags = socket_flag::ACTIVE;
            (*state).connect_ns = kernel::now_ns();
        }
    }
}

#[inline(always)]
fn end(sk: Object, state: *mut SocketState) {
    // SAFETY: `state` is a map value of this socket.
    let (slot, cookie) = unsafe { ((*state).slot, (*state).cookie) };
    if slot == NO_SLOT {
        return;
    }
    let error: i32 = field!(sk, sock_err);
    debug!((), "socket {} closed with error {}", cookie, error);
    let record = EndedRecord {
        kind: RecordKind::ENDED.0,
        error: error as u16,
        slot,
        timestamp_ns: kernel::now_ns(),
        cookie,
    };
    if !ring::output(cookie, &raw const record, size_of::<EndedRecord>()) {
        if let Some(process) = kernel::process(slot) {
            // SAFETY: a map value's counter.
            add(unsafe { &raw mut (*process).dropped_records }, 1);
        }
    }
}
