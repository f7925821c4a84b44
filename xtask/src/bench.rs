//! `cargo xtask bench`: what tracing costs an application, beside what it costs it to be instrumented.
//!
//! Three applications that make four calls a request (PostgreSQL, Redis twice, HTTP), each in three ways: the kernel's
//! own statistics of the hooks with what they don't see; the agent switched on and off for one running process; and
//! alone, under the agent and under OpenTelemetry's SDK, in turn. docs/performance.md has the figures.

mod field;
mod figures;
mod hooks;
mod modes;
mod profile;
mod slices;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use wirespan_tests::accuracy::costed;
use wirespan_tests::sys;
use wirespan_tests::workloads::root;

use crate::build;
use crate::command::say;

/// What `bench` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only applications whose framework has this in its name: Express, Flask, FastAPI
    filter: Option<String>,
    /// What to measure; all of it where this is not given
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// How often each way of running an application has its turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each load
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How often the agent is switched on and off again, for two slices each
    #[arg(long, default_value_t = 50)]
    cycles: usize,
    /// Milliseconds of a slice
    #[arg(long, default_value_t = 1_500)]
    slice: u64,
    /// Version of Node.js: 18, 20, 22, 24, or a program
    #[arg(long, default_value = "24")]
    node: String,
    /// The interpreter
    #[arg(long, default_value = "python3")]
    python: String,
}

/// A way to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The kernel's statistics, the traps, the assist's time
    Hooks,
    /// The agent switched on and off
    Slices,
    /// Alone, under the agent, under the SDK
    Modes,
}

/// The command.
///
/// # Errors
/// Not root, a program that is missing or doesn't come up, a request that fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sys::is_root(), "loading eBPF programs needs root: run it with sudo");
    // A binary that is named is taken as it is.
    let agent = match std::env::var_os("WIRESPAN_BIN") {
        Some(_) => wirespan_tests::agent::binary(),
        None => build::build(true)?,
    };
    let directory = root().join("target/bench");
    let field = field::Field::start(agent, &options.node, &options.python, &directory)?;
    say(&machine());
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let (each, slice) =
        (Duration::from_secs(options.seconds), Duration::from_millis(options.slice));
    for cell in costed()? {
        if options.filter.as_ref().is_some_and(|filter| !cell.name.contains(filter.as_str())) {
            continue;
        }
        if wanted(Part::Hooks) {
            hooks::run(&field, cell, each)?;
        }
        let rate = if wanted(Part::Modes) {
            Some(modes::run(&field, cell, options.rounds, each)?)
        } else {
            None
        };
        if wanted(Part::Slices) {
            let rate = rate.map_or_else(|| modes::rate(&field, cell, each), Ok)?;
            slices::run(&field, cell, rate, options.cycles, slice)?;
        }
    }
    Ok(())
}

/// What the figures depend on.
fn machine() -> String {
    let first = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
    let told = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "kernel {}, {cpus} CPUs, load {}, {}",
        first("/proc/sys/kernel/osrelease").trim(),
        first("/proc/loadavg").trim(),
        told("date", "-u").unwrap_or_default(),
    )
}
