//! `datastores`, `messaging`, `messages` and `queues`, each for Python and for Node.js: programs that use Redis or
//! PostgreSQL, RabbitMQ, Kafka, or job queues on Redis, as they are told to, and say what they did.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Installed, service::tail};
use crate::broker::Broker;
use crate::process::Group;
use crate::servers::{PASSWORD, RabbitMq, Server};

/// How long one operation may take: a bound on a hang, not on speed.
const LIMIT: Duration = Duration::from_secs(180);

/// What runs a client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Node.js.
    Node,
    /// CPython.
    Python,
}

/// A running program; it ends when this is dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    log: PathBuf,
    group: Group,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Installed {
    /// Starts the program of this runtime with this client library, which is its service's name too, and
    /// waits until it can be told what to do. Its servers are in `environment`. Its errors go to a file under `logs`.
    ///
    /// # Errors
    /// When it cannot be started or ends at once.
    pub fn datastores(
        &self,
        runtime: Runtime,
        client: &str,
        environment: Vec<(&'static str, String)>,
        logs: &Path,
    ) -> Result<Program> {
        self.program(runtime, "datastores", client, environment, logs)
    }

    /// As [`Self::datastores`], of messages.
    ///
    /// # Errors
    /// As there.
    pub fn messaging(
        &self,
        runtime: Runtime,
        client: &str,
        server: &RabbitMq,
        logs: &Path,
    ) -> Result<Program> {
        self.program(runtime, "messaging", client, server.environment(), logs)
    }

    /// As [`Self::datastores`], of messages that Kafka has.
    ///
    /// # Errors
    /// As there.
    pub fn messages(
        &self,
        runtime: Runtime,
        client: &str,
        broker: &Broker,
        logs: &Path,
    ) -> Result<Program> {
        let environment = vec![("KAFKA_PORT", broker.port().to_string())];
        self.program(runtime, "messages", client, environment, logs)
    }

    /// As [`Self::datastores`], of messages that are handled, from the broker that the environment names.
    ///
    /// # Errors
    /// As there.
    pub fn workers(
        &self,
        runtime: Runtime,
        client: &str,
        environment: Vec<(&'static str, String)>,
        logs: &Path,
    ) -> Result<Program> {
        self.program(runtime, "workers", client, environment, logs)
    }

    /// As [`Self::datastores`], of jobs on queues in Redis.
    ///
    /// # Errors
    /// As there.
    pub fn queues(
        &self,
        runtime: Runtime,
        client: &str,
        server: &Server,
        logs: &Path,
    ) -> Result<Program> {
        let environment = vec![
            ("REDIS_PORT", server.port().to_string()),
            ("REDIS_PASSWORD", PASSWORD.to_owned()),
        ];
        self.program(runtime, "queues", client, environment, logs)
    }

    fn program(
        &self,
        runtime: Runtime,
        name: &str,
        client: &str,
        environment: Vec<(&'static str, String)>,
        logs: &Path,
    ) -> Result<Program> {
        let (mut command, script, directory) = match runtime {
            Runtime::Node => {
                let script = format!("{name}.js");
                let package = self.package(name, &script)?;
                (Command::new("node"), script, package)
            }
            Runtime::Python => {
                let python = Command::new(self.venv_program("python"));
                (python, format!("{name}.py"), self.sources())
            }
        };
        // The last argument, which nothing reads, tells it from another test run's on this machine.
        command.args([&*script, client]).arg(logs).current_dir(directory).envs(environment);
        command.env("OTEL_SERVICE_NAME", client).env("PYTHONDONTWRITEBYTECODE", "1");
        let log = logs.join(format!("{client}.log"));
        command.stderr(File::create(&log)?);
        let (group, input, output) = Group::spawn_talking(&mut command)?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let program = Program { name: client.to_owned(), log, group, input, lines };
        ensure!(program.line()?.get("ready").is_some(), "{client} is not ready");
        Ok(program)
    }
}

impl Program {
    /// Its client library, and its service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Has it do these scenarios, separated by spaces, and returns every operation that it made.
    ///
    /// # Errors
    /// When it ends, or doesn't go on, with the end of what it logged.
    pub fn run(&mut self, scenarios: &str) -> Result<Vec<Value>> {
        writeln!(self.input, "{scenarios}").with_context(|| self.failed())?;
        self.input.flush()?;
        let mut operations = Vec::new();
        loop {
            let line = self.line().with_context(|| format!("in {scenarios}"))?;
            if line.get("done").is_some() {
                return Ok(operations);
            }
            operations.push(line);
        }
    }

    fn line(&self) -> Result<Value> {
        let line = self.lines.recv_timeout(LIMIT).with_context(|| self.failed())?;
        serde_json::from_str(&line).with_context(|| format!("{}: not JSON: {line}", self.name))
    }

    fn failed(&self) -> String {
        format!("{}: {}", self.name, tail(&fs::read_to_string(&self.log).unwrap_or_default()))
    }
}
