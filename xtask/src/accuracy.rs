//! `cargo xtask accuracy`: how often each framework's calls are put under the request that made them.
//!
//! Prints the table of docs/accuracy.md. The cells and the judging are `tests/src/accuracy.rs`.

use anyhow::{Result, ensure};
use clap::Args;
use wirespan_tests::accuracy::{Bench, CELLS, Tally};
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
    #[arg(long, value_delimiter = ',', default_values_t = ["python3".to_owned()])]
    python: Vec<String>,
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
        None => build::build(false)?.agent,
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
    for python in &options.python {
        let mut bench = Bench::start(installed.for_accuracy(python)?, &agent, &directory)?;
        bench.keep_alive = !options.new_connections;
        for cell in CELLS.iter().filter(|cell| wanted(cell.name) || wanted(cell.kind)) {
            let outcome =
                match bench.run(cell, &options.in_flight, options.calls / cell.calls, &directory) {
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
    for cell in CELLS.iter().filter(|cell| wanted(cell.name) || wanted(cell.kind)) {
        if let Some(why) = cell.may_withhold {
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

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn line(name: &str, kind: &str, runtime: &str, in_flight: usize, tally: Tally) -> String {
    let Tally { right, wrong, withheld, unseen } = tally;
    let share = right as f64 * 100.0 / tally.calls().max(1) as f64;
    format!(
        "| {name} | {kind} | {runtime} | {in_flight} | {right} | {wrong} | {withheld} | {unseen} | {share:.2} |"
    )
}
