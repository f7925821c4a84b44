//! What the benchmark's applications run in: their servers, a collector that takes spans and drops them, and the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use wirespan_tests::accuracy::{Bench, Cell, looked_at};
use wirespan_tests::agent::Agent;
use wirespan_tests::collector::Collector;
use wirespan_tests::workloads::sdk::Variables;
use wirespan_tests::workloads::{self, Service};
use wirespan_tests::{sys, wait};

/// How long something may take that is not measured.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Ready for applications.
pub(super) struct Field {
    bench: Bench,
    collector: Collector,
    sdk: Variables,
    pub(super) agent: PathBuf,
    pub(super) directory: PathBuf,
}

/// What an application runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing.
    Bare,
    /// The agent.
    Wirespan {
        /// Its spans are compressed.
        gzip: bool,
    },
    /// OpenTelemetry's instrumentation.
    Sdk,
}

impl Mode {
    /// For the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Wirespan { gzip: false } => "Wirespan",
            Self::Wirespan { gzip: true } => "Wirespan, gzip",
            Self::Sdk => "OpenTelemetry SDK",
        }
    }
}

impl Field {
    /// Starts the servers. `node`: a major version that the accuracy measurement brings, or a program.
    ///
    /// # Errors
    /// What can't be installed or doesn't come up.
    pub(super) fn start(
        agent: PathBuf,
        node: &str,
        python: &str,
        directory: &Path,
    ) -> Result<Self> {
        let installed = workloads::install()?.with_sdk(python)?.for_accuracy_of_node()?;
        let bench = Bench::start(installed.clone(), &agent, directory)?;
        let bench = bench.with_node(installed.node_program(node), &[], directory)?;
        let quiet = ["--otlp-receiver-logs-disabled", "--otlp-receiver-metrics-disabled"];
        let arguments = [&["--exporter", "blackhole"][..], &quiet[..]].concat();
        let collector = Collector::start(&installed, directory, &arguments)?;
        let sdk = installed.sdk(collector.grpc)?;
        Ok(Self { bench, collector, sdk, agent, directory: directory.to_owned() })
    }

    /// Starts an application; `profile`: where V8 writes what it spent its time on, when it ends.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub(super) fn application(&self, cell: &Cell, mode: Mode) -> Result<Service> {
        let mut spec = self.bench.spec(cell)?;
        if mode == Mode::Sdk {
            for (name, value) in &self.sdk {
                spec = spec.env(name, value.clone());
            }
        }
        spec.start(&self.directory)
    }

    /// A Node.js application that writes V8's profile into a directory when it ends.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub(super) fn profiled(&self, cell: &Cell, directory: &Path) -> Result<Service> {
        let ends = workloads::root().join("tests/workloads/node/ends.js");
        let directory = format!("--cpu-prof-dir={}", directory.display());
        let ends = ends.display().to_string();
        let options = ["--cpu-prof", "--cpu-prof-interval=200", &directory, "--require", &ends];
        self.bench.spec(cell)?.options(&options).start(&self.directory)
    }

    /// Has the agent trace a service, and waits until it has looked at all its processes.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub(super) fn trace(&self, service: &Service, gzip: bool, more: &[&str]) -> Result<Agent> {
        let agent = self.run(Some(service), gzip, more)?;
        looked_at(&agent)?;
        Ok(agent)
    }

    /// Starts the agent, whose spans go to the collector. It traces this service or nothing.
    ///
    /// # Errors
    /// When it isn't ready.
    pub(super) fn run(&self, traced: Option<&Service>, gzip: bool, more: &[&str]) -> Result<Agent> {
        self.configure(traced, gzip)?;
        let config = format!("--config={}", self.config().display());
        let arguments = [&[config.as_str()], more].concat();
        let agent = Agent::spawn(&self.agent, &self.directory.join("agent"), &arguments)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Has a running agent trace a service or nothing, and waits until it does.
    ///
    /// # Errors
    /// When it doesn't come to it.
    pub(super) fn switch(&self, agent: &Agent, traced: Option<&Service>) -> Result<()> {
        self.configure(traced, false)?;
        sys::kill(agent.pid(), libc::SIGHUP)?;
        wait::until("the agent has changed what it traces", PATIENCE, || {
            let status = agent.status()?;
            let processes = status.get("processes").and_then(Value::as_array).map_or(0, Vec::len);
            Ok(((processes > 0) == traced.is_some()).then_some(()))
        })?;
        traced.map_or(Ok(()), |_| looked_at(agent).map(|_| ()))
    }

    fn config(&self) -> PathBuf {
        self.directory.join("wirespan.yaml")
    }

    /// The agent's configuration, put into its place whole.
    fn configure(&self, traced: Option<&Service>, gzip: bool) -> Result<()> {
        // No process has this executable.
        let nobody = serde_json::json!({ "exe": "/nonexistent" });
        let matching =
            traced.map_or(nobody, |service| serde_json::json!({ "port": service.port() }));
        let config = serde_json::json!({
            "rules": [{ "match": matching }],
            "exporters": [{ "otlp": {
                "endpoint": format!("http://127.0.0.1:{}", self.collector.grpc),
                "compression": if gzip { "gzip" } else { "none" },
            } }],
        });
        let new = self.config().with_extension("new");
        // JSON is YAML.
        fs::write(&new, config.to_string())?;
        fs::rename(new, self.config()).context("put the configuration into its place")
    }

    /// Waits until what it has seen is exported, and ends the agent.
    ///
    /// # Errors
    /// When it doesn't end.
    pub(super) fn end(&self, mut agent: Agent) -> Result<()> {
        agent.terminate(PATIENCE)?;
        Ok(())
    }
}

/// CPU time of all threads of a service's processes so far (schedstat: nanoseconds on a CPU). Threads that have ended
/// are not in it; those that serve don't end.
///
/// # Errors
/// When the kernel does not say.
pub(super) fn cpu_ns(service: &Service) -> Result<u64> {
    let mut sum = 0;
    for path in threads(service)? {
        // A thread may end between the listing and the reading.
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// Lets a service's threads go before all others.
///
/// # Errors
/// When the kernel does not let them.
pub(super) fn put_first(service: &Service) -> Result<()> {
    for path in threads(service)? {
        let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        sys::set_nice(id.context("a thread without a number")?, -20)?;
    }
    Ok(())
}

fn threads(service: &Service) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for pid in service.pids()? {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            paths.push(entry?.path());
        }
    }
    Ok(paths)
}

/// Kilobytes of the kernel's maps of a process (fdinfo's `memlock`), each map once.
///
/// # Errors
/// When the kernel does not say.
pub(super) fn maps_kib(agent: &Agent) -> Result<u64> {
    let mut maps = std::collections::BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", agent.pid()))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        if let (Some(id), Some(bytes)) = (value("map_id:"), value("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum::<u64>() >> 10)
}

/// A number of a status.
pub(super) fn number(status: &Value, pointer: &str) -> u64 {
    status.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}
