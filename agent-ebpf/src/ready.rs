//! When data becomes readable: the beginning of the queue time.
//!
//! Attaches to the tracepoint `sock:sk_data_ready`. Emits nothing. It runs in whatever task delivered the
//! data, so it asks the socket, never the task. A listener is skipped: what it accepts would inherit the
//! mark.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::kernel::{self, Object, field};
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
            (*state).ready_ns = kernel::now_ns();
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
