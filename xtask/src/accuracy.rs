//! `cargo xtask accuracy`: how often each framework's calls are put under the request that made them.
//!
//! Prints the table of docs/accuracy.md. The cells and the judging are `tests/src/accuracy.rs`.

use std::path::Path;

use anyhow::{Result, ensure};
use clap::Args;
use wirespan_tests::accuracy::{Asks, Bench, CELLS, Cell, NODE_CELLS, Tally};
use wirespan_tests::sys;
use wirespan_tests::workloads::{self, root};

use crate::build;
use crate::command::say;

/// What `accuracy` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only cells whose framework or kind of call has this in it
    filter: Option<String>,
    /// Calls a cell, over all concurrencies
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// How many of them at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3, 20, 200])]
    in_flight: Vec<usize>,
    /// Send each request on a connection of its own
    #[arg(long)]
    new_connections: bool,
    /// The interpreters, as programs: python3.9, python3.12, ...
    #[arg(long, value_delimiter = ',')]
    python: Vec<String>,
    /// The version of uvloop, if not the one that is installed for the tests
    #[arg(long)]
    uvloop: Option<String>,
    /// Versions of Node.js: 18, 20, 22, 24, or programs. Python's cells run where neither is given
    #[arg(long, value_delimiter = ',')]
    node: Vec<String>,
}

/// The command.
///
/// # Errors
/// Not root, a program that is missing or doesn't come up, or a cell that is not what it should be.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sys::is_root(), "loading eBPF programs needs root: run it with sudo");
    // A binary that is named is taken as it is.
    let agent = match std::env::var_os("WIRESPAN_BIN") {
        Some(_) => wirespan_tests::agent::binary(),
        None => build::build(false)?,
    };
    let installed = workloads::install()?;
    let directory = root().join(format!("target/accuracy/{}", std::process::id()));
    let wanted =
        |text: &str| options.filter.as_ref().is_none_or(|filter| text.contains(filter.as_str()));
    let mut failed = Vec::new();
    say(
        "| framework | calls | runtime | in flight | right | wrong | withheld | not seen | right, % |",
    );
    say("|---|---|---|---|---|---|---|---|---|");
    let python3 = ["python3".to_owned()];
    let pythons = match options.python.as_slice() {
        [] if options.node.is_empty() => &python3[..],
        named => named,
    };
    let of = |cells: &'static [Cell]| -> Vec<&'static Cell> {
        cells.iter().filter(|cell| wanted(cell.name) || wanted(cell.kind)).collect()
    };
    let mut all = Vec::new();
    for python in pythons {
        let installed = installed.for_accuracy(python)?;
        let uvloop =
            options.uvloop.as_ref().map(|version| installed.uvloop(version)).transpose()?;
        let mut bench = Bench::start(installed, &agent, &directory)?;
        bench.environment.extend(uvloop.map(|path| ("PYTHONPATH", path.display().to_string())));
        bench.keep_alive = !options.new_connections;
        all = of(CELLS);
        measure(&bench, &all, options, &directory, &mut failed);
    }
    for version in &options.node {
        let installed = installed.for_accuracy_of_node()?;
        let is_old = |cell: &&Cell| version.parse().is_ok_and(|version: u32| version < cell.oldest);
        let mut cells = of(NODE_CELLS);
        all.extend(&cells);
        cells.retain(|cell| !is_old(cell));
        let asked: Vec<Asks> = cells.iter().map(|cell| cell.asks).collect();
        let program = installed.node_program(version);
        let bench = Bench::start(installed, &agent, &directory)?;
        let mut bench = bench.with_node(program, &asked, &directory)?;
        bench.keep_alive = !options.new_connections;
        measure(&bench, &cells, options, &directory, &mut failed);
    }
    let mut told = Vec::new();
    for cell in all {
        if let Some(why) = cell.may_withhold
            && !told.contains(&(cell.name, cell.kind))
        {
            told.push((cell.name, cell.kind));
            say(&format!("may be withheld: {}, {}: {why}", cell.name, cell.kind));
        }
    }
    failed.iter().for_each(|cell| say(cell));
    if failed.is_empty() {
        std::fs::remove_dir_all(&directory)?;
    }
    ensure!(failed.is_empty(), "{} cells are not what they should be", failed.len());
    Ok(())
}

/// Runs these cells, prints their lines, and notes what is not as it should be.
fn measure(
    bench: &Bench,
    cells: &[&Cell],
    options: &Options,
    directory: &Path,
    failed: &mut Vec<String>,
) {
    for cell in cells {
        let outcome =
            match bench.run(cell, &options.in_flight, options.calls / cell.calls, directory) {
                Ok(outcome) => outcome,
                Err(error) => {
                    failed.push(format!("{}, {}: {error:#}", cell.name, cell.kind));
                    continue;
                }
            };
        for (in_flight, tally) in &outcome.tallies {
            say(&line(cell.name, cell.kind, &outcome.runtime, *in_flight, *tally));
        }
        let sum = outcome.sum();
        let short = sum.right * 1_000 < sum.calls() * 999 && cell.may_withhold.is_none();
        if sum.wrong > 0 || short {
            let methods = outcome.methods.join("; ");
            let example = outcome.example.unwrap_or_default();
            failed.push(format!("{}, {}: {sum:?} ({methods}) {example}", cell.name, cell.kind));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn line(name: &str, kind: &str, runtime: &str, in_flight: usize, tally: Tally) -> String {
    let Tally { right, wrong, withheld, unseen } = tally;
    let share = right as f64 * 100.0 / tally.calls().max(1) as f64;
    format!(
        "| {name} | {kind} | {runtime} | {in_flight} | {right} | {wrong} | {withheld} | {unseen} | {share:.2} |"
    )
}
