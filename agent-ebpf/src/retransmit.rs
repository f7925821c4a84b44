//! TCP sends a segment again.
//!
//! Attaches to the tracepoint `tcp:tcp_retransmit_skb`. Emits nothing: it keeps the socket's own count where
//! every operation finds it at hand. Read at each operation, that count is a cache line which nothing else
//! there needs. Runs in whatever task or interrupt, so it asks the socket.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::kernel::{self, Object, field};
use crate::socket;

#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    let sk: Object = ctx.arg(0);
    let storage: u64 = field!(sk, sock_storage);
    if storage == 0 {
        return 0;
    }
    let Some(state) = kernel::socket_state(sk) else { return 0 };
    if socket::is_own(state, sk) {
        // SAFETY: `state` is a map value of this socket.
        unsafe { (*state).retransmits = socket::retransmits(sk) };
    }
    0
}
