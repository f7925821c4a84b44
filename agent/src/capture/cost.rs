//! What the hooks cost, by the kernel's own count.
//!
//! The kernel counts runs and time of each program while somebody has asked it to
//! (`BPF_ENABLE_STATS`, or the sysctl `kernel.bpf_stats_enabled`), and runs that it skipped always. The
//! counting costs time itself: the program `floor`, which does nothing, shows how much.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use aya::Ebpf;
use aya::programs::Program;
use serde::{Deserialize, Serialize};

use super::python::Pythons;

/// One program's figures since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCost {
    /// The program.
    pub program: String,
    /// Runs counted.
    pub runs: u64,
    /// Nanoseconds they took, the counting included.
    pub run_time_ns: u64,
    /// Runs that the kernel skipped because the program was running on that CPU already.
    pub missed: u64,
}

/// The figures of all loaded programs.
pub(super) fn read(ebpf: &Ebpf, pythons: Option<&Pythons>) -> Vec<HookCost> {
    let hooks = ebpf.programs().filter_map(|(name, program)| Some((name, descriptor(program)?)));
    let probes = pythons.into_iter().flat_map(Pythons::programs);
    let probes = probes.map(|(name, program)| (name, program.descriptor()));
    hooks.chain(probes).filter_map(|(name, descriptor)| figures(name, descriptor)).collect()
}

/// None: it isn't loaded, and costs nothing.
fn descriptor(program: &Program) -> Option<RawFd> {
    let descriptor = match program {
        Program::BtfTracePoint(program) => program.fd(),
        Program::Iter(program) => program.fd(),
        _ => return None,
    };
    Some(descriptor.ok()?.as_fd().as_raw_fd())
}

fn figures(name: &str, descriptor: RawFd) -> Option<HookCost> {
    // The kernel shows them beside the descriptor (kernel/bpf/syscall.c, bpf_prog_show_fdinfo).
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
            .unwrap_or(0)
    };
    Some(HookCost {
        program: name.to_owned(),
        runs: value("run_cnt"),
        run_time_ns: value("run_time_ns"),
        missed: value("recursion_misses"),
    })
}
