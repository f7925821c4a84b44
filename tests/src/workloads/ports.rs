//! Ports for servers that the tests and the demo start.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// Below Linux's ephemeral range (32768 on), so that no client's own port can take one between the moment
/// it is found free and the moment its server listens.
const RANGE: Range<u16> = 20_000..32_000;

/// How far apart two processes that search at the same time begin.
const STRIDE: u32 = 97;

/// A loopback port on which nobody listens and which no other call in this process was given.
///
/// # Errors
/// When there is none.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let size = RANGE.end - RANGE.start;
    let first = std::process::id().wrapping_mul(STRIDE) % u32::from(size);
    let first = u16::try_from(first).unwrap_or(0);
    (0..size)
        .map(|_| (first + NEXT.fetch_add(1, Ordering::Relaxed) % size) % size + RANGE.start)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port")
}
