//! The `wirespan` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    wirespan::cli::Cli::parse().execute()
}
