//! `cargo xtask lint`: formatting and clippy over the whole workspace.
//!
//! Of the kernel side it checks the ABI; the programs themselves need the BPF target.

use anyhow::{Context, Result};

use crate::command::{cargo, run as run_program};

/// The command.
///
/// # Errors
/// At the first finding; cargo prints it.
pub(crate) fn run() -> Result<()> {
    run_program(cargo().args(["fmt", "--all", "--check"])).context("formatting")?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    run_program(cargo().args(clippy)).context("lints")
}
