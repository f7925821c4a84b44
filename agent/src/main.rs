//! The `wirespan` command.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use wirespan::runtime::python::selftest;

/// Spans are made in one thread and freed in another, which glibc's allocator is slow at: with it a quarter of the
/// agent's time went into allocating.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Not a command: what the agent starts itself as, to try a probe on.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == selftest::ARGUMENT) {
        return selftest::child();
    }
    // The allocator asks for huge pages, of which the agent uses little: with them it has half as much memory again.
    // Without leave to do so that is all that is lost.
    _ = rustix::thread::disable_transparent_huge_pages(true);
    wirespan::cli::Cli::parse().execute()
}
