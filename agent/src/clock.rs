//! Where time enters the agent. Everything else takes it as a parameter.
//!
//! The kernel stamps records with CLOCK_MONOTONIC; spans want wall time. The distance between the two
//! moves (NTP, leap smearing, suspend), so it is sampled every second, and a span's start is placed with
//! the distance of its own moment; its end follows from the monotonic duration.

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: the clock of the kernel's records.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// The same of a moment of CLOCK_BOOTTIME, which goes on while the machine is suspended.
pub fn monotonic_of_boottime(boottime_ns: u64) -> u64 {
    let suspended_ns = nanoseconds(ClockId::Boottime).saturating_sub(monotonic_ns());
    boottime_ns.saturating_sub(suspended_ns)
}

/// Unix time in nanoseconds.
pub fn unix_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// CPU time that the agent has used, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// From monotonic to wall time.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    distance_ns: u64,
}

impl WallClock {
    /// Samples the distance now.
    pub fn sample() -> Self {
        // The wall clock is read between two readings of the other: their middle is when it was read, to
        // within half of what the three calls took.
        let before = monotonic_ns();
        let wall = unix_ns();
        let after = monotonic_ns();
        let middle = before.midpoint(after);
        Self { distance_ns: wall.wrapping_sub(middle) }
    }

    /// A clock at a given distance.
    pub fn at_distance(distance_ns: u64) -> Self {
        Self { distance_ns }
    }

    /// Unix nanoseconds of a monotonic moment near the sample.
    pub fn unix_ns(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.wrapping_add(self.distance_ns)
    }
}
