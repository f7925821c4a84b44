//! `cargo xtask`: everything about the project that is more than one cargo command, as Rust and not shell.
//!
//! A module per command; this file only reads the command line.

mod accuracy;
mod bench;
mod build;
mod chaos;
mod command;
mod demo;
mod docs;
mod linker;
mod lint;
mod package;
mod python_cost;
mod setup;
mod test;
mod toolchain;

use std::process::ExitCode;

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
    /// Write what of the documentation is made from the code
    Docs,
    /// Make what is installed: tarball, .deb, .rpm, container image, bill of materials
    Package(package::Options),
    /// Build, then run the unit, property and privileged end-to-end tests
    Test(test::Options),
    /// Measure what tracing costs applications, and what an SDK does (needs root)
    Bench(bench::Options),
    /// Take from the agent what it needs, in many ways, and look whether anybody is harmed (needs root)
    Chaos(chaos::Options),
    /// Measure how often calls are put under the request that made them (needs root)
    Accuracy(accuracy::Options),
    /// Measure what following CPython's contexts costs a FastAPI application (needs root)
    PythonCost(python_cost::Options),
    /// Trace a small system of real services and print its traces (needs root)
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Build(options) => build::run(&options),
        Task::Lint => lint::run(),
        Task::Docs => docs::run(),
        Task::Package(options) => package::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Chaos(options) => chaos::run(&options),
        Task::Accuracy(options) => accuracy::run(&options),
        Task::PythonCost(options) => python_cost::run(&options),
        Task::Demo(options) => demo::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
