//! `cargo xtask chaos`: what the agent survives, long.
//!
//! The cases are end-to-end tests (`tests/tests/chaos.rs`), whose short forms `cargo xtask test` runs; here are all of
//! them, against the release build, with the figures that they print.

use anyhow::{Result, ensure};
use wirespan_tests::{sys, workloads};

use crate::command::run as run_program;
use crate::{build, setup};

/// What `chaos` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only the cases whose name has this in it
    filter: Option<String>,
}

/// The command.
///
/// # Errors
/// Not root, something that can't be installed or built, or a case that fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sys::is_root(), "loading eBPF programs needs root: run it with sudo");
    let object = build::build_object(&setup::toolchain()?)?;
    let (mut building, agent) = build::agent(&object, true);
    run_program(&mut building)?;
    workloads::install()?;
    setup::servers()?;
    let filter = format!("chaos::{}", options.filter.as_deref().unwrap_or_default());
    let mut tests = build::host_cargo(&object);
    tests.args(["test", "--package", "wirespan-tests", "--test", "e2e", "--no-fail-fast", "--"]);
    tests.args(["--test-threads=1", "--include-ignored", "--nocapture", &filter]);
    run_program(tests.env("WIRESPAN_BIN", &agent))
}
