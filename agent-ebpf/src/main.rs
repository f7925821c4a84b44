//! Wirespan's kernel programs. One file per hook family; each says what it attaches to and which records
//! it emits. The ABI with user space is the library of this package.
//!
//! Every program's first test is whether the task (or, where the running task is a stranger, the socket)
//! is traced: all else on the node pays for that test alone. `debug!` is for developers: the loader sets
//! its level to off unless asked, and the verifier then removes it.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod floor;
mod handlers;
mod inventory;
mod kernel;
mod lanes;
mod maps;
mod operation;
mod payload;
mod process;
mod python;
mod ready;
mod retransmit;
mod ring;
mod room;
mod socket;
mod tcp_state;

/// The helpers `bpf_probe_read_*` and `bpf_ktime_get_ns` are for GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The programs have no panicking path that survives optimisation; the verifier rejects an endless loop.
    loop {}
}
