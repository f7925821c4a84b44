//! `cargo xtask`: everything about the project that is more than one cargo command, as Rust and not shell.
//!
//! A module per command; this file only reads the command line.

mod build;
mod command;
mod demo;
mod linker;
mod lint;
mod setup;
mod test;
mod toolchain;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, build, demo and tests of Wirespan")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install what the eBPF build needs
    Setup,
    /// Build the eBPF object and the agent
    Build(build::Options),
    /// Check formatting and lints
    Lint,
    /// Build, then run the unit, property and privileged end-to-end tests
    Test(test::Options),
    /// Trace a small system of real services and print its traces (needs root)
    Demo(demo::Options),
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Setup => setup::run_command(),
        Task::Build(options) => build::run(&options).map(drop),
        Task::Lint => lint::run(),
        Task::Test(options) => test::run(&options),
        Task::Demo(options) => demo::run(&options),
    }
}
