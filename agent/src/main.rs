//! The `wirespan` command.

use std::process::ExitCode;

use clap::Parser;
use wirespan::runtime::python::selftest;

fn main() -> ExitCode {
    // Not a command: what the agent starts itself as, to try a probe on.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == selftest::ARGUMENT) {
        return selftest::child();
    }
    wirespan::cli::Cli::parse().execute()
}
