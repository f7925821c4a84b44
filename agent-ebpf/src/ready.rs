//! When data becomes readable: the beginning of the queue time.
//!
//! Attaches to the tracepoint `sock:sk_data_ready`. Emits nothing. It runs in whatever task delivered the
//! data, so it asks the socket, never the task. A listener is skipped: what it accepts would inherit the
//! mark.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use wirespan_ebpf::KernelFields;

use crate::kernel::{self, Object, field, offset};
use crate::socket::AF_UNIX;

const TCP_LISTEN: u8 = 10;

#[btf_tracepoint(function = "sk_data_ready")]
fn sk_data_ready(ctx: BtfTracePointContext) -> i32 {
    let sk: Object = ctx.arg(0);
    let storage: u64 = field!(sk, sock_storage);
    if storage == 0 {
        return 0;
    }
    let tcp_state: u8 = field!(sk, sock_state);
    if tcp_state == TCP_LISTEN {
        return 0;
    }
    let Some(state) = kernel::socket_state(sk) else { return 0 };
    // SAFETY: `state` is a map value of this socket.
    unsafe {
        if (*state).ready_ns == 0 {
            (*state).ready_ns = came_at(sk);
        }
    }
    // A unix socket is told without its lock (`unix_stream_sendmsg` in net/unix/af_unix.c): a reader on
    // another CPU may have taken the data already and been recorded, and the mark would lie there until
    // the next data. Asked after the mark is set: a reader that comes later takes it off itself.
    let family: u16 = field!(sk, sock_family);
    if family == AF_UNIX {
        let waiting: u32 = field!(sk, sock_receive_buffers);
        if waiting == 0 {
            // SAFETY: as above.
            unsafe { (*state).ready_ns = 0 };
        }
    }
    0
}

/// Now. TCP has just looked at the clock: it does for each segment (`tcp_rcv_established` and
/// `tcp_rcv_state_process` in net/ipv4/tcp_input.c). Where the application alone made ready what had come before
/// (SO_RCVLOWAT), it is when that came.
#[inline(always)]
fn came_at(sk: Object) -> u64 {
    let tcp = kernel::tcp_sock(sk);
    if tcp.is_null() || offset!(tcp_clock_cache) == KernelFields::ABSENT {
        return kernel::now_ns();
    }
    field!(tcp, tcp_clock_cache)
}
