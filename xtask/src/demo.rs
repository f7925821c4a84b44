//! `cargo xtask demo`: real services that know nothing of tracing, traced. The agent starts after them and
//! its trace trees go to standard output.
//!
//! Whatever way it ends, nothing that it started is left running: every process is a guard's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;
use wirespan_tests::agent::Agent;
use wirespan_tests::load::{self, Failure, Plan, Request};
use wirespan_tests::sys;
use wirespan_tests::workloads::{self, System};

use crate::build;
use crate::command::{root, say};

/// How often the agent's output is passed on.
const INTERVAL: Duration = Duration::from_millis(50);
/// After the load, the agent's output is over when nothing came for so long. What comes later is not lost:
/// the agent prints all that it holds when it is told to end.
const QUIET: Duration = Duration::from_secs(1);
/// ... and the longest that output is waited for.
const SETTLE: Duration = Duration::from_secs(10);
/// How long the agent may take to end.
const STOP: Duration = Duration::from_secs(15);
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
    // From here on a signal ends the demo in order; until here it ends whatever is at work.
    let stop = sys::stop_on_signals()?;
    let directory = root().join("target/demo");

    say("starting the services");
    let system = System::start(&installed, &directory)?;
    for service in system.services() {
        say(&format!("  {:8} {} (process {})", service.name(), service.url(), service.pid()));
    }
    say("starting the agent");
    let mut demo = Demo::start(&agent, &directory, &system, stop)?;
    demo.drive(&requests(0, options.requests), options.concurrency)?;
    if options.keep {
        say("going on with a light load; Ctrl-C ends it");
        demo.keep(options.requests)?;
    } else {
        demo.settle()?;
    }
    demo.finish()?;
    ensure!(options.keep || !sys::is_stopped(), "stopped before the end");
    Ok(())
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
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let mut arguments = Vec::new();
        for service in system.services() {
            arguments.extend(["--allow".to_owned(), format!("port={}", service.port())]);
        }
        arguments.extend(["--export".to_owned(), "console".to_owned()]);
        let agent = Agent::spawn(binary, directory, &arguments)?;
        agent.wait_ready()?;
        let output = File::open(agent.stdout_path()).context("open the agent's output")?;
        let (answered, refused, failures) = (0, 0, Vec::new());
        Ok(Self { agent, output, system, stop, answered, refused, failures })
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
        for service in self.system.services() {
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
