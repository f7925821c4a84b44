//! `cargo xtask test`: everything that decides whether a change is good, in one command without questions.
//!
//! Unit and property tests of the default members first, then the privileged end-to-end tests against the
//! release build of the agent.

use std::process::Command;

use anyhow::{Result, bail, ensure};
use wirespan_tests::{sys, workloads};

use crate::build;
use crate::command::{run as run_program, say};
use crate::setup;

/// How much to test.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also the tests that take minutes (those marked `#[ignore]`), and more cases of each property
    #[arg(long)]
    full: bool,
}

/// How many cases proptest tries of each property under `--full`; its default is 256.
const FULL_CASES: &str = "4096";

/// The command. Runs the second part also when the first fails, so that one run tells all.
///
/// # Errors
/// When a build or any test fails, or without root, which the end-to-end tests need.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !sys::is_root() {
        say("not root: only the tests that need no privileges will run, and that is not a success");
    }
    let built = build::build(true)?;
    let cargo = |arguments: &[&str]| -> Command {
        let mut command = build::host_cargo(&built.object);
        command.arg("test").args(arguments).env("WIRESPAN_BIN", &built.agent);
        if options.full {
            command.env("PROPTEST_CASES", FULL_CASES);
        }
        command
    };
    let long = options.full.then_some("--include-ignored");

    say("unit and property tests");
    let unit = run_program(cargo(&["--no-fail-fast", "--"]).args(long));
    if !sys::is_root() {
        unit?;
        bail!("the end-to-end tests need root and did not run: they load eBPF programs");
    }
    workloads::install()?;
    setup::servers()?;
    say("end-to-end tests");
    // One at a time: they share the machine's kernel, and some count what it saw.
    let arguments = ["--package", "wirespan-tests", "--no-fail-fast", "--", "--test-threads=1"];
    let privileged = run_program(cargo(&arguments).args(long));
    let failures: Vec<String> = [unit, privileged]
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}
