//! `cargo xtask bench`: what the hooks cost a real application, and what the agent costs itself.
//!
//! The measure is the kernel's own run-time statistics of each program, less those of a program that does
//! nothing in the same run. The load is an Express gateway that makes two HTTP calls a request; a second
//! run traces nothing, which is what every other process on the node pays.

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
const HOOKS: [(&str, u64, u64); 3] =
    [("sock_send_length", 450, 100), ("sock_recv_length", 450, 100), ("sk_data_ready", 200, 100)];

/// The command.
///
/// # Errors
/// Not root, a service or the agent that does not come up, a load that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sys::is_root(), "loading eBPF programs needs root: run it with sudo");
    let built = build::build(true)?;
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
    let measure = |what: &str, rule: String| -> Result<Value> {
        say(&format!("{what}: {} requests, {} at once", options.requests, options.concurrency));
        let mut agent = start(&built.agent, &directory, &rule)?;
        load::run(&plan, &requests, stop).all_ok().context("the load")?;
        let status = agent.status()?;
        agent.terminate(std::time::Duration::from_secs(10))?;
        Ok(status)
    };
    let traced = measure("the gateway traced", format!("port={}", system.gateway.port()))?;
    // No process has this name.
    let bystander = measure("nothing traced", "exe=/nonexistent".to_owned())?;

    say(&format!(
        "{:<20} {:>12} {:>12} {:>12}",
        "ns a run, less floor", "runs", "traced", "untraced"
    ));
    for (hook, bar, untraced_bar) in HOOKS {
        let (runs, cost) = mean(&traced, hook)?;
        let (_, untraced) = mean(&bystander, hook)?;
        say(&format!(
            "{hook:<20} {runs:>12} {cost:>6} ({bar:>3}) {untraced:>6} ({untraced_bar:>3})"
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

fn start(binary: &Path, directory: &Path, rule: &str) -> Result<Agent> {
    // OTLP is built and written, but not sent: what a receiver costs is not the agent's.
    let arguments = ["--allow", rule, "--measure-hooks", "--export", "file:/dev/null"];
    let agent = Agent::spawn(binary, directory, &arguments)?;
    agent.wait_ready()?;
    Ok(agent)
}

/// Runs of a hook, and nanoseconds each, less what the empty program took.
fn mean(status: &Value, hook: &str) -> Result<(u64, u64)> {
    let figures = |name: &str| {
        let hooks = status.get("hooks")?.as_array()?;
        let hook =
            hooks.iter().find(|hook| hook.get("program").and_then(Value::as_str) == Some(name))?;
        Some((hook.get("runs")?.as_u64()?, hook.get("run_time_ns")?.as_u64()?))
    };
    let (runs, time) = figures(hook).with_context(|| format!("no figures of {hook}"))?;
    let (empty_runs, empty_time) = figures("floor").context("no figures of the empty program")?;
    let floor = empty_time / empty_runs.max(1);
    Ok((runs, (time / runs.max(1)).saturating_sub(floor)))
}
