//! `cargo xtask demo`: real services that know nothing of tracing, traced. The agent starts after them and
//! its trace trees go to standard output. Workers behind RabbitMQ and Redis come when RabbitMQ is up.
//!
//! Whatever way it ends, nothing that it started is left running: every process is a guard's.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;
use wirespan_tests::agent::Agent;
use wirespan_tests::load::{self, Failure, Plan, Request};
use wirespan_tests::workloads::{self, Brokers, Service, System, Workers};
use wirespan_tests::{sys, wait};

use crate::command::{root, say};
use crate::{build, setup};

/// How often the agent's output is passed on.
const INTERVAL: Duration = Duration::from_millis(50);
/// After the load, the agent's output is over when nothing came for so long. What comes later is not lost:
/// the agent prints all that it holds when it is told to end.
const QUIET: Duration = Duration::from_secs(1);
/// ... and the longest that output is waited for.
const SETTLE: Duration = Duration::from_secs(10);
/// How long the agent may take to end.
const STOP: Duration = Duration::from_secs(15);
/// How long the agent may take to know how to follow the workers.
const FOLLOWED: Duration = Duration::from_secs(5);
/// Checkouts, whose messages the workers handle.
const CHECKOUTS: usize = 2;
/// The pace of `--keep`.
const LIGHT: Duration = Duration::from_millis(500);

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// After the requests, go on with a light load until stopped (Ctrl-C)
    #[arg(long)]
    keep: bool,
    /// How many requests to send
    #[arg(long, default_value_t = 20)]
    requests: usize,
    /// How many of them at once. With several in flight an event loop's calls can't be told apart yet, and
    /// their parents are withheld
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
}

/// The command.
///
/// # Errors
/// Without root, when anything does not build or start, when a request fails, when it was interrupted.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sys::is_root(), "the demo needs root: the agent loads eBPF programs");
    let agent = build::build(true)?;
    say("installing the demo's services, if need be");
    let installed = workloads::install()?;
    setup::brokers();
    // From here on a signal ends the demo in order; until here it ends whatever is at work.
    let stop = sys::stop_on_signals()?;
    let directory = root().join("target/demo");

    say("starting the services");
    fs::create_dir_all(&directory)?;
    let brokers = Brokers::begin(&installed, &directory)?;
    for missing in brokers.missing() {
        say(&format!("  {missing} is not installed: the demo goes without its worker"));
    }
    let system = System::start_with(&installed, &directory, &brokers.environment())?;
    system.services().into_iter().for_each(name);
    say("starting the agent");
    let mut demo = Demo::start(&agent, &directory, &system, &brokers.rules(), stop)?;
    demo.drive(&requests(0, options.requests), options.concurrency)?;
    demo.workers = Some(brokers.work(&system.prices, &directory)?);
    demo.follow_workers()?;
    demo.drive(&checkouts(options.requests), 1)?;
    if options.keep {
        say("going on with a light load; Ctrl-C ends it");
        demo.keep(options.requests + CHECKOUTS)?;
    } else {
        demo.settle()?;
    }
    demo.finish()?;
    ensure!(options.keep || !sys::is_stopped(), "stopped before the end");
    Ok(())
}

fn name(service: &Service) {
    say(&format!("  {:8} {} (process {})", service.name(), service.url(), service.pid()));
}

/// What is handed over to workers.
fn checkouts(first: usize) -> Vec<Request> {
    let request = |number: usize| {
        let rid = format!("demo-{number}");
        Request::post(&rid, format!("/checkout/{}?rid={rid}", number + 1), &json!({}))
    };
    (first..first + CHECKOUTS).map(request).collect()
}

/// Mostly orders, which ask every service; some that fan out, post, or fail.
fn requests(first: usize, count: usize) -> Vec<Request> {
    let request = |number: usize| {
        let rid = format!("demo-{number}");
        let id = number + 1;
        match number % 10 {
            3 => Request::get(&rid, format!("/fanout/{id}?rid={rid}")),
            6 => Request::post(&rid, format!("/orders?rid={rid}"), &json!({ "item": id })),
            9 => Request::get(&rid, format!("/error?rid={rid}")),
            _ => Request::get(&rid, format!("/orders/{id}?rid={rid}")),
        }
    };
    (first..first + count).map(request).collect()
}

/// The agent at work on the system, and what was sent so far.
struct Demo<'a> {
    agent: Agent,
    output: File,
    system: &'a System,
    workers: Option<Workers>,
    stop: &'a AtomicBool,
    answered: usize,
    refused: usize,
    failures: Vec<Failure>,
}

impl<'a> Demo<'a> {
    fn start(
        binary: &Path,
        directory: &Path,
        system: &'a System,
        workers: &[String],
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let mut arguments = Vec::new();
        for service in system.services() {
            arguments.extend(["--allow".to_owned(), format!("port={}", service.port())]);
        }
        arguments.extend(workers.iter().map(|rule| format!("--allow={rule}")));
        arguments.extend(["--export".to_owned(), "console".to_owned()]);
        let agent = Agent::spawn(binary, directory, &arguments)?;
        agent.wait_ready()?;
        let output = File::open(agent.stdout_path()).context("open the agent's output")?;
        let (answered, refused, failures) = (0, 0, Vec::new());
        Ok(Self { agent, output, system, workers: None, stop, answered, refused, failures })
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        let workers = self.workers.iter().flat_map(Workers::services);
        self.system.services().into_iter().chain(workers)
    }

    /// Waits until the agent can tell which message a worker's calls are made for, for a while.
    fn follow_workers(&mut self) -> Result<()> {
        let workers = self.workers.as_ref().map(Workers::services).unwrap_or_default();
        workers.iter().for_each(name);
        let pids: Vec<u64> = workers.iter().map(|worker| u64::from(worker.pid())).collect();
        let followed = wait::until("the workers are followed", FOLLOWED, || {
            let status = self.agent.status()?;
            let processes = status.get("processes").and_then(|it| it.as_array());
            let exact = processes.into_iter().flatten().filter(|process| {
                let pid = process.get("pid").and_then(|pid| pid.as_u64());
                let context = process.get("context").and_then(|context| context.as_str());
                pid.is_some_and(|pid| pids.contains(&pid)) && context == Some("exact")
            });
            Ok((exact.count() >= pids.len()).then_some(()))
        });
        if followed.is_err() {
            say("the workers can't be followed: parents of what they do will be withheld");
        }
        self.pass_on().map(drop)
    }

    /// Sends requests while passing on what the agent prints.
    fn drive(&mut self, requests: &[Request], connections: usize) -> Result<()> {
        let plan = Plan::new(self.system.gateway.address(), connections);
        let stop = self.stop;
        let report = thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&plan, requests, stop));
            while !load.is_finished() {
                self.pass_on()?;
                thread::sleep(INTERVAL);
            }
            load.join().map_err(|_panic| anyhow!("the load generator failed"))
        })?;
        self.answered += report.outcomes.len();
        self.refused += report.outcomes.iter().filter(|outcome| outcome.status >= 400).count();
        self.failures.extend(report.failures);
        Ok(())
    }

    /// One request after the other, at a light pace, until stopped.
    fn keep(&mut self, first: usize) -> Result<()> {
        for number in first.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            ensure!(self.agent.is_running()?, "the agent ended: {}", self.agent.stderr()?);
            self.drive(&requests(number, 1), 1)?;
            thread::sleep(LIGHT);
        }
        Ok(())
    }

    /// Passes on what the agent prints until it pauses.
    fn settle(&mut self) -> Result<()> {
        let deadline = sys::monotonic() + SETTLE;
        let mut last = sys::monotonic();
        while !self.stop.load(Ordering::Relaxed) {
            let now = sys::monotonic();
            if self.pass_on()? > 0 {
                last = now;
            }
            if now >= deadline || now >= last + QUIET {
                break;
            }
            thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// Ends the agent and sums up.
    fn finish(mut self) -> Result<()> {
        let status = self.agent.status_text(false);
        let ended = self.agent.terminate(STOP);
        self.pass_on()?;
        say(&format!(
            "{} requests answered, {} of them with an error",
            self.answered, self.refused
        ));
        // Asked only now, so that the asking is not traced.
        for service in self.services() {
            let counts = service.counts()?;
            let routes = counts.get("requests").and_then(|table| table.as_object());
            let requests =
                routes.into_iter().flatten().filter(|(route, _)| !route.ends_with("/health"));
            let total: u64 =
                requests.filter_map(|(_, entry)| entry.get("requests")?.as_u64()).sum();
            say(&format!("  {:8} answered {total}", service.name()));
        }
        say(&format!("wirespan status:\n{}", status?.trim_end()));
        let ended = ended?;
        ensure!(ended.success(), "the agent: {ended}: {}", self.agent.stderr()?);
        if let Some(failure) = self.failures.first() {
            let count = self.failures.len();
            bail!(
                "{count} requests without an answer, first {}: {:#}",
                failure.path,
                failure.error
            );
        }
        Ok(())
    }

    /// Copies what the agent printed since the last time to standard output, and says how much that was.
    fn pass_on(&mut self) -> Result<usize> {
        let mut bytes = Vec::new();
        let count = self.output.read_to_end(&mut bytes).context("read the agent's output")?;
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes).and_then(|()| stdout.flush()).context("pass on the traces")?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_touches_every_kind_of_request_and_no_id_twice() {
        let all = requests(0, 20);
        let ids: std::collections::BTreeSet<_> = all.iter().map(|request| &request.id).collect();
        assert_eq!(ids.len(), 20);
        for kind in ["/orders/", "/fanout/", "/orders?", "/error?"] {
            assert!(all.iter().any(|request| request.path.starts_with(kind)), "{kind}");
        }
        assert_eq!(requests(20, 1)[0].id, "demo-20");
    }
}
