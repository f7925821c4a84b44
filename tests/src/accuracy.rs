//! How often a call is put under the request that made it: real frameworks and clients, and the truth in what
//! they send, which the agent doesn't know.
//!
//! A cell is one application with one kind of call at several concurrencies. Its requests have numbers; each
//! call carries its request's in the URL, in a Redis key (`rid:N`) or in a column's alias (`rid_N`).

mod cells;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub use cells::{Asks, CELLS, Cell, NODE_CELLS, costed};

use crate::agent::Agent;
use crate::broker::Broker;
use crate::load::{self, Plan, Request};
use crate::servers::{RabbitMq, Servers};
use crate::spans::{self, CLIENT, PRODUCER, SERVER, Span};
use crate::wait;
use crate::workloads::{Installed, Service, Spec};

/// How long the agent may take to decide what it has seen.
const PATIENCE: Duration = Duration::from_secs(120);

/// What became of the calls that carry a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Under the request whose number they carry.
    pub right: usize,
    /// Under another.
    pub wrong: usize,
    /// Under none.
    pub withheld: usize,
    /// In no span that can be recognised: on a connection that was met in its middle and not understood.
    pub unseen: usize,
}

impl Tally {
    /// All of them.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.right + self.wrong + self.withheld + self.unseen
    }

    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.withheld += other.withheld;
        self.unseen += other.unseen;
    }
}

/// What one cell showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By how many requests were in flight.
    pub tallies: Vec<(usize, Tally)>,
    /// How the agent says that it tells the service's tasks apart, of each of its processes.
    pub methods: Vec<String>,
    /// The runtime and its version, by the agent.
    pub runtime: String,
    /// A call that was put under another request, with what it was put under.
    pub example: Option<String>,
}

impl Outcome {
    /// Over all concurrencies.
    #[must_use]
    pub fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        self.tallies.iter().for_each(|(_, tally)| sum.add(*tally));
        sum
    }
}

/// The servers that all cells ask.
#[derive(Debug)]
pub struct Bench {
    installed: Installed,
    servers: Servers,
    prices: Service,
    agent: PathBuf,
    /// Requests share connections; `false`: each has its own.
    pub keep_alive: bool,
    /// Variables that the applications have besides.
    pub environment: Vec<(&'static str, String)>,
    node: PathBuf,
    rabbitmq: Option<RabbitMq>,
    kafka: Option<Broker>,
}

impl Bench {
    /// Starts them. `installed`: what the applications run with; `agent`: the binary under test.
    ///
    /// # Errors
    /// When one doesn't come up.
    pub fn start(installed: Installed, agent: &Path, directory: &Path) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        let servers = Servers::start(directory)?;
        let prices = installed.plain("prices")?.env("OTEL_SERVICE_NAME", "prices");
        Ok(Self {
            prices: prices.start(directory)?,
            servers,
            rabbitmq: None,
            kafka: None,
            installed,
            agent: agent.into(),
            node: "node".into(),
            keep_alive: true,
            environment: Vec::new(),
        })
    }

    /// Has this program run the applications of Node.js, and starts what some of them ask besides.
    ///
    /// # Errors
    /// When a server doesn't come up.
    pub fn with_node(self, node: PathBuf, asked: &[Asks], directory: &Path) -> Result<Self> {
        let rabbitmq = asked.contains(&Asks::RabbitMq).then(|| RabbitMq::start(directory));
        let kafka = asked.contains(&Asks::Kafka).then(|| Broker::start(&self.installed, directory));
        Ok(Self { node, rabbitmq: rabbitmq.transpose()?, kafka: kafka.transpose()?, ..self })
    }

    /// A cell's application, not started, that finds the servers.
    ///
    /// # Errors
    /// When no port is free.
    pub fn spec(&self, cell: &Cell) -> Result<Spec> {
        let mut spec = cell.spec(&self.installed, &self.node)?.upstream(&self.prices);
        let rabbitmq = self.rabbitmq.iter().flat_map(RabbitMq::environment);
        let kafka = self.kafka.iter().map(|broker| ("KAFKA_PORT", broker.port().to_string()));
        let servers = self.servers.environment().into_iter().chain(rabbitmq).chain(kafka);
        for (name, value) in servers.chain(self.environment.iter().cloned()) {
            spec = spec.env(name, value);
        }
        Ok(spec.env("OTEL_SERVICE_NAME", "front"))
    }

    /// Starts a cell's application, traces it and sends `requests` requests in all.
    ///
    /// # Errors
    /// An application or agent that doesn't come up, a request that fails.
    pub fn run(
        &self,
        cell: &Cell,
        in_flight: &[usize],
        requests: usize,
        directory: &Path,
    ) -> Result<Outcome> {
        let spec = self.spec(cell)?;
        let port = spec.port();
        let place = directory.join(format!("agent-{port}"));
        let file = place.join("spans.jsonl");
        // What opens connections before it listens is not known by its port then.
        let rule = if cell.agent_first {
            format!("cmd=*parents_*--port {port}*")
        } else {
            format!("port={port}")
        };
        let mut arguments = vec![
            format!("--export=file:{}", file.display()),
            format!("--allow={rule}"),
            "--message-keys".to_owned(),
        ];
        arguments.extend(cell.agent.iter().map(|&argument| argument.to_owned()));
        let start_agent = || -> Result<Agent> {
            let agent = Agent::spawn(&self.agent, &place, &arguments)?;
            agent.wait_ready()?;
            Ok(agent)
        };
        let (mut agent, service);
        if cell.agent_first {
            agent = start_agent()?;
            service = spec.start(directory)?;
        } else {
            service = spec.start(directory)?;
            agent = start_agent()?;
        }
        let methods = looked_at(&agent)?;
        let mut outcome = Outcome {
            tallies: Vec::new(),
            runtime: methods.first().map(|(runtime, _)| runtime.clone()).unwrap_or_default(),
            methods: methods.into_iter().map(|(_, method)| method).collect(),
            example: None,
        };
        let mut next = 1;
        for &connections in in_flight {
            let count = (requests / in_flight.len()).max(connections);
            let asked: Vec<Request> = (next..next + count)
                .map(|rid| Request::get(rid.to_string(), format!("{}/{rid}", cell.path)))
                .collect();
            next += count;
            let keep_alive = self.keep_alive && !cell.closes;
            let plan = Plan { keep_alive, ..Plan::new(service.address(), connections) };
            load::run(&plan, &asked, &AtomicBool::new(false)).all_ok()?;
        }
        wait::until("the agent has decided all calls", PATIENCE, || {
            let status = agent.status()?;
            let number = |path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
            let open = number("/calls/open") + number("/calls/waiting");
            let queued = status.pointer("/exporters/0/queued").and_then(Value::as_u64);
            let enough = number("/spans") >= next as u64 - 1;
            Ok((open == 0 && queued == Some(0) && enough).then_some(()))
        })?;
        agent.terminate(PATIENCE)?;
        let found = spans::read(&file)?;
        let mut first = 1;
        for &connections in in_flight {
            let count = (requests / in_flight.len()).max(connections);
            let (mut tally, example) = judge(&found, first..first + count);
            let made = count * cell.calls;
            ensure!(tally.calls() <= made, "{}: {tally:?} of {made} calls", cell.name);
            tally.unseen = made - tally.calls();
            first += count;
            outcome.tallies.push((connections, tally));
            outcome.example = outcome.example.or(example);
        }
        Ok(outcome)
    }
}

/// Waits until the agent knows how it tells the tasks of each traced process apart, and returns its runtime and that.
///
/// # Errors
/// When it doesn't come to it.
pub fn looked_at(agent: &Agent) -> Result<Vec<(String, String)>> {
    wait::until("each process is looked at", PATIENCE, || {
        let methods = methods(agent)?;
        let done = |(_, method): &(String, String)| {
            !method.is_empty()
                && !method.contains("not begun")
                && !method.contains("not looked")
                && !method.contains("not assisted yet")
        };
        Ok((!methods.is_empty() && methods.iter().all(done)).then_some(methods))
    })
}

/// Runtime and method of each traced process that has one.
fn methods(agent: &Agent) -> Result<Vec<(String, String)>> {
    let status = agent.status()?;
    let processes = status.get("processes").and_then(Value::as_array).context("no processes")?;
    let text = |process: &Value, key: &str| {
        process.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Ok(processes
        .iter()
        .map(|process| (text(process, "runtime"), text(process, "context")))
        .collect())
}

/// What became of the calls with these numbers, and an example of one that is wrong.
#[must_use]
pub fn judge(found: &[Span], numbers: std::ops::Range<usize>) -> (Tally, Option<String>) {
    let by_id: HashMap<&str, &Span> =
        found.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut tally = Tally::default();
    let mut example = None;
    let is_call = |span: &&Span| [CLIENT, PRODUCER].contains(&span.kind) && span.service == "front";
    for span in found.iter().filter(is_call) {
        let Some(number) = number_of(span).filter(|number| numbers.contains(number)) else {
            continue;
        };
        match by_id.get(span.parent_span_id.as_str()) {
            None if span.parent_span_id.is_empty() => tally.withheld += 1,
            Some(parent) if parent.kind == SERVER && number_of(parent) == Some(number) => {
                tally.right += 1;
            }
            parent => {
                tally.wrong += 1;
                example.get_or_insert_with(|| format!("{span:?}\nunder {parent:?}"));
            }
        }
    }
    (tally, example)
}

/// The number that a span's request or call carries.
fn number_of(span: &Span) -> Option<usize> {
    if let Some(text) = span.text("db.query.text") {
        let (_, after) = text.split_once("rid:").or_else(|| text.split_once("rid_"))?;
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        return after.get(..digits)?.parse().ok();
    }
    if span.kind == PRODUCER {
        let id = span.text("messaging.message.id");
        return id.or_else(|| span.text("messaging.kafka.message.key"))?.parse().ok();
    }
    span.path().rsplit('/').next()?.parse().ok()
}
