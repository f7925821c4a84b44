//! Ports for servers that the tests and the demo start.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// The variable that says where the range begins, for a run beside another one: two network namespaces have
/// the same ports, but agents in both see all processes, and a rule for a port allows whoever listens on a
/// port of that number, wherever.
pub const VARIABLE: &str = "WIRESPAN_TEST_PORTS";

/// Where the range begins for the second of two runs.
pub const OTHER: u16 = FIRST + SIZE;

/// Where it begins otherwise.
const FIRST: u16 = 20_000;

/// How many ports are in a range. Two of them end below Linux's ephemeral range (32768 on), so that no
/// client's own port can take one between the moment it is found free and the moment its server listens.
const SIZE: u16 = 6_000;

/// How far apart two processes that search at the same time begin.
const STRIDE: u32 = 97;

/// A loopback port on which nobody listens and which no other call in this process was given.
///
/// # Errors
/// When there is none, or when [`VARIABLE`] has no number that a range can begin with.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{VARIABLE}={text}"))?,
        Err(_) => FIRST,
    };
    let end = begin.checked_add(SIZE).with_context(|| format!("{VARIABLE}={begin}: too high"))?;
    let first = std::process::id().wrapping_mul(STRIDE) % u32::from(SIZE);
    let first = u16::try_from(first).unwrap_or(0);
    (0..SIZE)
        .map(|_| (first + NEXT.fetch_add(1, Ordering::Relaxed) % SIZE) % SIZE + begin)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .with_context(|| format!("no free port in {begin}..{end}"))
}
