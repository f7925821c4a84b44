//! `cargo xtask python-cost`: what following CPython's contexts costs a FastAPI application.
//!
//! Two figures make it up: how long the programs run in the application, by the kernel's own statistics less an
//! empty program, and how long it takes to get to them and back (the trap): what a loop of `copy_context()` takes
//! longer under the probe, less the program's time in it. Their sum is held against the CPU time that a request
//! with four calls takes without the agent, in the same run: what else the machine does makes both dearer.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;
use wirespan_tests::accuracy::{Bench, CELLS};
use wirespan_tests::agent::Agent;
use wirespan_tests::load::{self, Plan, Request};
use wirespan_tests::script::Script;
use wirespan_tests::workloads::{self, Service, root};
use wirespan_tests::{sys, wait};

use crate::build;
use crate::command::say;

/// What `python-cost` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many requests to send in each run
    #[arg(long, default_value_t = 3_000)]
    requests: usize,
    /// How many of them at once
    #[arg(long, default_value_t = 10)]
    concurrency: usize,
}

/// The most of a request's CPU time that may go into the probes, in percent.
const BAR: f64 = 1.2;

/// Copies of a context in the loop that is timed.
const COPIES: &str = "
import contextvars, time
best = 1e9
for _ in range(25):
    begin = time.thread_time_ns()
    for _ in range(20000): contextvars.copy_context()
    best = min(best, (time.thread_time_ns() - begin) / 20000)
best";

/// How long the agent may take to end, or to attach.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command.
///
/// # Errors
/// Not root, something that doesn't come up, or a cost above the bar.
#[expect(clippy::cast_precision_loss, reason = "means")]
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sys::is_root(), "loading eBPF programs needs root: run it with sudo");
    // The kernel programs are optimised in either build, and nothing of the agent itself is measured. A binary
    // that is named is taken as it is.
    let binary = match std::env::var_os("WIRESPAN_BIN") {
        Some(_) => wirespan_tests::agent::binary(),
        None => build::build(false)?,
    };
    let directory = root().join("target/python-cost");
    let installed = workloads::install()?.for_accuracy("python3")?;
    let bench = Bench::start(installed, &binary, &directory)?;
    let copies = copies(&binary, &directory)?;
    let trap = copies.trap();
    say(&format!(
        "copy_context(): {:.0} ns, under the probe {:.0} ns, of that the program {:.0} ns",
        copies.bare, copies.probed, copies.program
    ));
    let cell = CELLS.iter().find(|cell| cell.path == "/four").context("no cell with four calls")?;
    let service = bench.spec(cell)?.start(&directory)?;
    // The kernel's statistics are of elapsed time: others that take the CPU in the middle of a program would be in
    // them.
    for pid in service.pids()? {
        sys::set_nice(pid, -20)?;
    }
    let load = || -> Result<f64> {
        let asked: Vec<Request> = (1..=options.requests)
            .map(|rid| Request::get(rid.to_string(), format!("{}/{rid}", cell.path)))
            .collect();
        let before = cpu_ns(&service)?;
        let plan = Plan::new(service.address(), options.concurrency);
        load::run(&plan, &asked, &AtomicBool::new(false)).all_ok()?;
        Ok((cpu_ns(&service)? - before) as f64 / options.requests as f64)
    };
    load()?;
    let request_ns = load()?;
    let rule = format!("--allow=port={}", service.port());
    let mut agent = start(&binary, &directory.join("agent"), &rule)?;
    load()?;
    let hooks = Hooks::of(&agent)?;
    agent.terminate(PATIENCE)?;
    let mut sum = 0.0;
    for (name, runs, each) in &hooks.0 {
        let runs = runs / options.requests as f64;
        say(&format!("{name}: {runs:.1} runs a request, {each:.0} ns each"));
        sum += runs * (each + trap);
    }
    let share = sum * 100.0 / request_ns;
    say(&format!(
        "a request: {:.0} us of CPU; what follows contexts, with {trap:.0} ns for each trap: {:.1} us, {share:.2} %",
        request_ns / 1_000.0,
        sum / 1_000.0
    ));
    ensure!(share <= BAR, "above {BAR} %");
    Ok(())
}

/// Nanoseconds to get to a probe's program and back.
///
/// # Errors
/// As [`run`].
pub(crate) fn trap(binary: &Path, directory: &Path) -> Result<f64> {
    copies(binary, directory).map(|copies| copies.trap())
}

/// Nanoseconds of one `copy_context()` in a loop.
struct Copies {
    bare: f64,
    probed: f64,
    /// Of the program in it, by the kernel's statistics less the empty program.
    program: f64,
}

impl Copies {
    /// What is neither the function nor the program: getting there and back.
    fn trap(&self) -> f64 {
        (self.probed - self.bare - self.program).max(0.0)
    }
}

fn copies(binary: &Path, directory: &Path) -> Result<Copies> {
    let mut script = Script::start("copies")?;
    sys::set_nice(script.pid(), -20)?;
    let bare = script.run(COPIES)?.as_f64().context("no time")?;
    let mut under = |measured: bool| -> Result<(f64, f64)> {
        let mut arguments = vec!["--export=file:/dev/null", "--allow=cmd=*sockets.py copies*"];
        arguments.extend(measured.then_some("--measure-hooks"));
        let mut agent = Agent::spawn(binary, &directory.join("copies"), &arguments)?;
        agent.wait_ready()?;
        wait::until("the probe is attached", PATIENCE, || {
            let status = agent.status()?;
            let method = status.pointer("/processes/0/context").and_then(Value::as_str);
            Ok((method == Some("exact")).then_some(()))
        })?;
        let time = script.run(COPIES)?.as_f64().context("no time")?;
        let hooks = if measured { Hooks::of(&agent)? } else { Hooks::default() };
        agent.terminate(PATIENCE)?;
        Ok((time, hooks.of_copy().map_or(0.0, |(_, each)| each)))
    };
    let (probed, _) = under(false)?;
    let (_, program) = under(true)?;
    Ok(Copies { bare, probed, program })
}

/// CPython's programs by name: runs, and nanoseconds of one less the empty program.
#[derive(Debug, Default)]
struct Hooks(Vec<(String, f64, f64)>);

impl Hooks {
    #[expect(clippy::cast_precision_loss, reason = "means")]
    fn of(agent: &Agent) -> Result<Self> {
        let status = agent.status()?;
        let hooks = status.get("hooks").and_then(Value::as_array).context("no hooks")?;
        let figure = |hook: &Value, key| hook.get(key).and_then(Value::as_u64).unwrap_or(0) as f64;
        let name = |hook: &Value| {
            hook.get("program").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let each = |hook: &Value| figure(hook, "run_time_ns") / figure(hook, "runs").max(1.0);
        let floor = hooks.iter().find(|hook| name(hook) == "floor").context("no empty program")?;
        let floor = each(floor);
        let ours = hooks.iter().filter(|hook| name(hook).starts_with("python_"));
        let ran = ours.filter(|hook| figure(hook, "runs") > 0.0);
        Ok(Self(ran.map(|hook| (name(hook), figure(hook, "runs"), each(hook) - floor)).collect()))
    }

    /// Of the program that sees copies: runs and nanoseconds.
    fn of_copy(&self) -> Option<(f64, f64)> {
        let programs = ["python_context_seen", "python_context_copied"];
        let found = self.0.iter().find(|(name, ..)| programs.contains(&name.as_str()));
        found.map(|(_, runs, each)| (*runs, *each))
    }
}

fn start(binary: &Path, directory: &Path, rule: &str) -> Result<Agent> {
    let agent =
        Agent::spawn(binary, directory, &["--measure-hooks", "--export=file:/dev/null", rule])?;
    agent.wait_ready()?;
    Ok(agent)
}

/// CPU time of all of a service's processes.
fn cpu_ns(service: &Service) -> Result<u64> {
    let mut sum = 0;
    for pid in service.pids()? {
        // The first field of schedstat: time on a CPU; of the main thread, which is the loop's.
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
        sum += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
