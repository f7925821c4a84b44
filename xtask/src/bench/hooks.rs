//! What the hooks take of a request, by the kernel's own run-time statistics, with the traps of uprobes and the
//! assist's own time.
//!
//! The statistics are means over all processes of the machine. One run traces nothing, which is what every other
//! process pays; its mean is taken out of the traced run for the runs that weren't of traced processes. What counting
//! itself costs, the empty program shows, in the same run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wirespan_tests::accuracy::Cell;
use wirespan_tests::agent::Agent;
use wirespan_tests::pace::Load;
use wirespan_tests::workloads::Service;

use super::field::{Field, Mode, number, put_first};
use super::modes::{during, pace};
use super::profile;
use crate::command::say;
use crate::python_cost;

/// The hooks of socket operations, with the aim in nanoseconds for a traced and for any other process.
const SOCKETS: [(&str, f64, f64); 3] = [
    ("sock_send_length", 450.0, 100.0),
    ("sock_recv_length", 450.0, 100.0),
    ("sk_data_ready", 200.0, 100.0),
];

/// Programs that the agent runs, not the application.
const AGENTS: [&str; 3] = ["floor", "inventory", "handlers"];

/// Requests at once.
const AT_ONCE: usize = 10;

/// Measures and prints.
///
/// # Errors
/// What doesn't come up, a request that fails.
pub(super) fn run(field: &Field, cell: &'static Cell, each: Duration) -> Result<()> {
    say(&format!("{}: the kernel's statistics", cell.name));
    let service = field.application(cell, Mode::Bare)?;
    put_first(&service)?;
    let untraced = {
        let agent = field.run(None, false, &["--measure-hooks"])?;
        observe(field, agent, &service, cell, each)?
    };
    let bare = {
        let load = Load::start(pace(&service, cell, AT_ONCE, None));
        during(&load, &service, each)?.request_us()
    };
    let agent = field.trace(&service, false, &["--measure-hooks"])?;
    // Threads that a pool has started since.
    put_first(&service)?;
    let traced = observe(field, agent, &service, cell, each)?;
    drop(service);
    let trap =
        if cell.is_node() { 0.0 } else { python_cost::trap(&field.agent, &field.directory)? };
    let assist = if cell.is_node() { profile::assist(field, cell, each)? } else { 0.0 };
    tell(cell, &traced, &untraced, bare, trap, assist)
}

/// The figures of the hooks while requests were answered.
struct Observed {
    before: Value,
    after: Value,
    requests: f64,
}

#[expect(clippy::cast_precision_loss, reason = "means")]
fn observe(
    field: &Field,
    agent: Agent,
    service: &Service,
    cell: &Cell,
    each: Duration,
) -> Result<Observed> {
    let load = Load::start(pace(service, cell, AT_ONCE, None));
    during(&load, service, each / 4)?;
    load.take()?;
    let before = agent.status()?;
    let seen = during(&load, service, each)?.latencies.len();
    let after = agent.status()?;
    // Those answered while the status was asked for are in neither; they are few in `each`.
    drop(load);
    field.end(agent)?;
    Ok(Observed { before, after, requests: seen as f64 })
}

#[expect(clippy::cast_precision_loss, reason = "means")]
impl Observed {
    /// Runs of a program, and the nanoseconds that they took together.
    fn figures(&self, program: &str) -> Result<(f64, f64)> {
        let of = |status: &Value| {
            let hooks = status.get("hooks")?.as_array()?;
            let named =
                |hook: &&Value| hook.get("program").and_then(Value::as_str) == Some(program);
            let hook = hooks.iter().find(named)?;
            Some((hook.get("runs")?.as_u64()?, hook.get("run_time_ns")?.as_u64()?))
        };
        let both = of(&self.before).zip(of(&self.after));
        let ((runs, time), (more_runs, more_time)) =
            both.with_context(|| format!("no figures of {program}"))?;
        let grown = |after: u64, before| after.saturating_sub(before) as f64;
        Ok((grown(more_runs, runs), grown(more_time, time)))
    }

    /// Runs, and the mean less the empty program's.
    fn mean(&self, program: &str) -> Result<(f64, f64)> {
        let (empty_runs, empty_time) = self.figures("floor")?;
        let (runs, time) = self.figures(program)?;
        Ok((runs, time / runs.max(1.0) - empty_time / empty_runs.max(1.0)))
    }

    /// The programs that there are.
    fn programs(&self) -> Vec<String> {
        let hooks = self.after.get("hooks").and_then(Value::as_array);
        let name = |hook: &Value| hook.get("program")?.as_str().map(str::to_owned);
        hooks.into_iter().flatten().filter_map(name).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn tell(
    cell: &Cell,
    traced: &Observed,
    untraced: &Observed,
    bare_us: f64,
    trap: f64,
    assist: f64,
) -> Result<()> {
    let seen = |status| number(status, "/total/kernel/operations_seen");
    let seen = seen(&traced.after).saturating_sub(seen(&traced.before)) as f64;
    let runs = traced.figures("sock_send_length")?.0 + traced.figures("sock_recv_length")?.0;
    ensure!(seen > 0.0 && runs > 0.0, "{seen} operations in {runs} runs");
    // The books are a moment older or younger than the statistics.
    let share = (seen / runs).min(1.0);
    say(&format!(
        "| {}, of a request | runs | ns each, less the empty program | not traced | µs |",
        cell.name
    ));
    say("|---|---|---|---|---|");
    let mut sum = 0.0;
    for (program, bar, untraced_bar) in SOCKETS {
        let (runs, mean) = traced.mean(program)?;
        let (_, other) = untraced.mean(program)?;
        let cost = (mean - other * (1.0 - share)) / share;
        let runs = runs * share / traced.requests;
        sum += runs * cost;
        say(&format!(
            "| {program} | {runs:.1} | {cost:.0} (aim {bar:.0}) | {other:.0} (aim {untraced_bar:.0}) | {:.2} |",
            runs * cost / 1_000.0
        ));
    }
    for program in traced.programs() {
        let is_socket = SOCKETS.iter().any(|(name, ..)| *name == program);
        if is_socket || AGENTS.contains(&program.as_str()) {
            continue;
        }
        let (runs, mean) = traced.mean(&program)?;
        let runs = runs / traced.requests;
        let trap = if program.starts_with("python_") { trap } else { 0.0 };
        let cost = mean.max(0.0) + trap;
        sum += runs * cost;
        if runs * cost >= 10.0 {
            let with =
                if trap > 0.0 { format!(", {trap:.0} of it the trap") } else { String::new() };
            say(&format!(
                "| {program} | {runs:.1} | {cost:.0}{with} | | {:.2} |",
                runs * cost / 1_000.0
            ));
        }
    }
    let hooks = sum / 1_000.0;
    if assist > 0.0 {
        say(&format!("| the assist, by V8's profiler | | | | {:.2} |", assist * bare_us));
    }
    say(&format!(
        "{}: {bare_us:.0} µs of CPU a request alone, {:.1} µs of ours: {:.2} %",
        cell.name,
        hooks + assist * bare_us,
        hooks * 100.0 / bare_us + assist * 100.0
    ));
    Ok(())
}
