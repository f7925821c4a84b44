//! The floor of the kernel's run-time statistics: a program that does nothing.
//!
//! Attaches to `sock:sock_send_length`, and only while hook costs are measured: what the statistics show
//! for it is what they cost themselves. Emits nothing.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

#[btf_tracepoint(function = "sock_send_length")]
fn floor(_: BtfTracePointContext) -> i32 {
    0
}
