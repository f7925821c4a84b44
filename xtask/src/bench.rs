//! `cargo xtask bench`: what the hooks cost a real application, and what the agent costs itself.
//!
//! The measure is the kernel's own run-time statistics of each program, less those of a program that does
//! nothing in the same run. The load is the system of four services, two of them Express. One run traces
//! nothing, which is what every other process on the node pays; a second one traces the services, but not
//! the load generator: its share, at the first run's cost, is taken out of the second's mean.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;
use wirespan_tests::agent::Agent;
use wirespan_tests::load::{self, Plan, Request};
use wirespan_tests::sys;
use wirespan_tests::workloads::{self, root, system::System};

use crate::build;
use crate::command::say;

/// What `bench` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many requests to send in each run
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// How many of them at once
    #[arg(long, default_value_t = 10)]
    concurrency: usize,
}

/// The programs whose runs an application pays, with the bar in nanoseconds for a traced and for any
/// other process.
const HOOKS: [(&str, f64, f64); 3] = [
    ("sock_send_length", 450.0, 100.0),
    ("sock_recv_length", 450.0, 100.0),
    ("sk_data_ready", 200.0, 100.0),
];

/// The command.
///
/// # Errors
/// Not root, a service or the agent that does not come up, a load that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sys::is_root(), "loading eBPF programs needs root: run it with sudo");
    let agent = build::build(true)?;
    let installed = workloads::install()?;
    let stop = sys::stop_on_signals()?;
    let directory = root().join("target/bench");
    let system = System::start(&installed, &directory)?;
    let requests: Vec<Request> = (0..options.requests)
        .map(|number| {
            Request::get(format!("bench-{number}"), format!("/orders/{number}?rid=bench-{number}"))
        })
        .collect();
    let plan = Plan::new(system.gateway.address(), options.concurrency);
    let measure = |what: &str, rules: &[String]| -> Result<Value> {
        say(&format!("{what}: {} requests, {} at once", options.requests, options.concurrency));
        let mut agent = start(&agent, &directory, rules)?;
        load::run(&plan, &requests, stop).all_ok().context("the load")?;
        let status = agent.status()?;
        agent.terminate(std::time::Duration::from_secs(10))?;
        Ok(status)
    };
    // No process has this name.
    let bystander = measure("nothing traced", &["exe=/nonexistent".to_owned()])?;
    let ports = system.services().map(|service| format!("port={}", service.port()));
    let traced = measure("the services traced", &ports)?;

    let share = traced_share(&traced)?;
    say(&format!(
        "{:<20} {:>12} {:>12} {:>12}   {:.0} % of the runs were of traced processes",
        "ns a run, less floor",
        "runs",
        "traced",
        "untraced",
        share * 100.0
    ));
    for (hook, bar, untraced_bar) in HOOKS {
        let (runs, mean) = mean(&traced, hook)?;
        let (_, untraced) = self::mean(&bystander, hook)?;
        let cost = (mean - untraced * (1.0 - share)) / share;
        say(&format!(
            "{hook:<20} {runs:>12} {cost:>6.0} ({bar:>3}) {untraced:>6.0} ({untraced_bar:>3}){}",
            if cost > bar || untraced > untraced_bar { "   over" } else { "" }
        ));
    }
    let number = |key: &str| traced.get(key).and_then(Value::as_u64).unwrap_or(0);
    let calls = traced.pointer("/calls/started").and_then(Value::as_u64).unwrap_or(0).max(1);
    say(&format!(
        "agent: {calls} calls, {} ns of CPU each, {} MiB resident",
        number("agent_cpu_ns") / calls,
        number("agent_resident_bytes") >> 20,
    ));
    Ok(())
}

fn start(binary: &Path, directory: &Path, rules: &[String]) -> Result<Agent> {
    // OTLP is built and written, but not sent: what a receiver costs is not the agent's.
    let mut arguments = vec!["--measure-hooks", "--export", "file:/dev/null"];
    for rule in rules {
        arguments.extend(["--allow", rule]);
    }
    let agent = Agent::spawn(binary, directory, &arguments)?;
    agent.wait_ready()?;
    Ok(agent)
}

/// Runs of a hook, and nanoseconds each, less what the empty program took.
#[expect(clippy::cast_precision_loss, reason = "a mean")]
fn mean(status: &Value, hook: &str) -> Result<(u64, f64)> {
    let (runs, time) = figures(status, hook)?;
    let (empty_runs, empty_time) = figures(status, "floor")?;
    let floor = empty_time as f64 / empty_runs.max(1) as f64;
    Ok((runs, time as f64 / runs.max(1) as f64 - floor))
}

/// The part of the sends' and receives' runs that were of traced processes, by the kernel's books. Data
/// becomes ready about as often as it is received.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn traced_share(status: &Value) -> Result<f64> {
    let pointer = "/total/kernel/operations_seen";
    let seen = status.pointer(pointer).and_then(Value::as_u64).context("no operations")?;
    let runs = figures(status, "sock_send_length")?.0 + figures(status, "sock_recv_length")?.0;
    ensure!(seen > 0 && seen <= runs, "{seen} operations in {runs} runs");
    Ok(seen as f64 / runs as f64)
}

/// Runs of a program, and the nanoseconds that they took together.
fn figures(status: &Value, program: &str) -> Result<(u64, u64)> {
    let figures = || {
        let hooks = status.get("hooks")?.as_array()?;
        let named = |hook: &&Value| hook.get("program").and_then(Value::as_str) == Some(program);
        let hook = hooks.iter().find(named)?;
        Some((hook.get("runs")?.as_u64()?, hook.get("run_time_ns")?.as_u64()?))
    };
    figures().with_context(|| format!("no figures of {program}"))
}
