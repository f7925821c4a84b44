//! One application: how it is started, when it is ready, what it says that it did.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Installed, ports, write_if_changed};
use crate::http::Connection;
use crate::load::{self, Plan, Request};
use crate::process::Group;
use crate::servers::Servers;
use crate::{sys, wait};

/// How long an application may take to its first answer. Importing FastAPI alone takes seconds on a busy
/// machine.
const READY: Duration = Duration::from_secs(180);

/// gunicorn's way to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// One request at a time in each worker process; no keep-alive.
    Sync,
    /// A pool of that many threads in each worker process.
    Gthread(u32),
}

/// uvicorn's event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// CPython's own.
    Asyncio,
    /// libuv's.
    Uvloop,
}

/// An application that could be started.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    port: u16,
    program: PathBuf,
    arguments: Vec<OsString>,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    /// What starts it, where the program itself is not what is executed.
    starter: Vec<String>,
    /// How many processes there are once it is ready.
    processes: usize,
}

impl Spec {
    fn new(name: &str, program: PathBuf, directory: PathBuf) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            port: ports::free()?,
            program,
            arguments: Vec::new(),
            directory,
            environment: Vec::new(),
            starter: Vec::new(),
            processes: 1,
        })
    }

    pub(crate) fn arguments<S: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment; see the application's source for those that it knows.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Sets several.
    #[must_use]
    pub fn envs(self, variables: &[(&str, String)]) -> Self {
        variables.iter().fold(self, |spec, (name, value)| spec.env(name, value))
    }

    /// The port on which it will listen.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Puts words before its own arguments: options of the runtime.
    #[must_use]
    pub fn options(mut self, options: &[&str]) -> Self {
        self.arguments.splice(0..0, options.iter().map(OsString::from));
        self
    }

    /// Has another program run it: another version of its runtime.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// Runs it as another user than root. It may still read what it is made of, wherever that lies.
    #[must_use]
    pub fn user(mut self, uid: u32) -> Self {
        let mut words: Vec<OsString> = [
            format!("--reuid={uid}"),
            format!("--regid={uid}"),
            "--clear-groups".to_owned(),
            "--inh-caps=+dac_read_search".to_owned(),
            "--ambient-caps=+dac_read_search".to_owned(),
            "--".to_owned(),
        ]
        .map(OsString::from)
        .into();
        words.push(std::mem::replace(&mut self.program, "setpriv".into()).into());
        self.arguments.splice(0..0, words);
        self
    }

    /// Has these words start it, which may keep neither a directory nor an environment.
    #[must_use]
    pub fn started_by(mut self, words: Vec<String>) -> Self {
        self.starter = words;
        self
    }

    /// Tells it where these servers are.
    #[must_use]
    pub fn servers(mut self, servers: &Servers) -> Self {
        let variables = servers.environment().into_iter();
        self.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
        self
    }

    /// Lets it ask the service for prices.
    #[must_use]
    pub fn upstream(self, service: &Service) -> Self {
        self.env("UPSTREAM", service.url())
    }

    /// Starts it, with its output in `NAME.log` under `logs`, and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time, with the end of its output.
    pub fn start(self, logs: &Path) -> Result<Service> {
        fs::create_dir_all(logs).with_context(|| format!("create {}", logs.display()))?;
        let log = logs.join(format!("{}-{}.log", self.name, self.port));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let counts = logs.join(format!("{}-{}.counts", self.name, self.port));
        if counts.exists() {
            fs::remove_file(&counts).context("remove the counts of an earlier run")?;
        }
        let mut environment = self.environment;
        environment.push(("PORT".to_owned(), self.port.to_string()));
        environment.push(("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()));
        if self.processes > 1 {
            environment.push(("COUNTS_FILE".to_owned(), counts.display().to_string()));
        }
        let mut command = match self.starter.split_first() {
            None => {
                let mut command = Command::new(&self.program);
                command.current_dir(&self.directory).envs(environment);
                command
            }
            Some((first, more)) => {
                let mut command = Command::new(first);
                command.args(more).arg("env").arg("-C").arg(&self.directory);
                command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
                command.arg(&self.program);
                command
            }
        };
        command.args(&self.arguments);
        command.stdout(output.try_clone()?).stderr(output);
        let group = Group::spawn(&mut command).with_context(|| self.name.clone())?;
        let service = Service { name: self.name, port: self.port, log, group };
        service.wait_ready(self.processes)?;
        Ok(service)
    }
}

impl Installed {
    /// Express: `node/gateway.js` before the two services that it asks.
    ///
    /// # Errors
    /// When no port is free or its package cannot be written.
    pub fn gateway(&self, orders: &Service, stock: &Service) -> Result<Spec> {
        let spec = self.script("gateway", "gateway.js")?;
        Ok(spec.env("ORDERS_URL", orders.url()).env("STOCK_URL", stock.url()))
    }

    /// `node:http` alone: `node/plain.js`.
    ///
    /// # Errors
    /// When no port is free or its package cannot be written.
    pub fn plain(&self, name: &str) -> Result<Spec> {
        self.script(name, "plain.js")
    }

    /// Express with every kind of call: `node/parents.js`.
    ///
    /// # Errors
    /// When no port is free or its package cannot be written.
    pub fn parents(&self, name: &str) -> Result<Spec> {
        self.script(name, "parents.js")
    }

    /// Any framework with kinds of calls: `node/parents_any.js`, found by its port in its arguments.
    ///
    /// # Errors
    /// When no port is free or its package cannot be written.
    pub fn parents_any(&self, name: &str, program: &Path, framework: &str) -> Result<Spec> {
        let spec = self.script(name, "parents_any.js")?.program(program);
        Ok(spec.env("FRAMEWORK", framework))
    }

    /// A script of the test's own, given as text, with the applications' modules at hand.
    ///
    /// # Errors
    /// When no port is free or its package cannot be written.
    pub fn text(&self, name: &str, script: &str) -> Result<Spec> {
        let package = self.package(name, "plain.js")?;
        write_if_changed(&package.join("main.js"), script)?;
        Ok(Spec::new(name, "node".into(), package)?.arguments(["main.js"]))
    }

    /// Exchanges of every shape: `node/shapes.js`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn shapes(&self, name: &str) -> Result<Spec> {
        self.script(name, "shapes.js")
    }

    /// A program of the Python virtual environment, as it would be started by hand; `PORT` is set.
    ///
    /// # Errors
    /// When no port is free.
    pub fn python(&self, name: &str, arguments: &[&str]) -> Result<Spec> {
        let spec = Spec::new(name, self.venv_program("python"), self.sources())?;
        Ok(spec.arguments(arguments.iter().copied()))
    }

    pub(super) fn script(&self, name: &str, script: &str) -> Result<Spec> {
        let package = self.package(name, script)?;
        Ok(Spec::new(name, "node".into(), package)?.arguments([script]))
    }

    /// Flask under gunicorn: `python/flask_app.py`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn flask(&self, name: &str, worker: Worker, workers: usize) -> Result<Spec> {
        let spec = Spec::new(name, self.venv_program("gunicorn"), self.sources())?;
        let bind = format!("127.0.0.1:{}", spec.port);
        let (class, threads) = match worker {
            Worker::Sync => ("sync", 1),
            Worker::Gthread(threads) => ("gthread", threads),
        };
        let (threads, count) = (threads.to_string(), workers.to_string());
        let mut spec = spec
            .arguments(["--bind", &bind, "--worker-class", class, "--threads", &threads])
            .arguments(["--workers", &count, "--keep-alive", "75", "flask_app:app"]);
        // The arbiter, which serves nothing itself, and its workers.
        spec.processes = workers + 1;
        Ok(spec)
    }

    /// FastAPI under uvicorn, one process: `python/fastapi_app.py`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn fastapi(&self, name: &str, event_loop: Loop) -> Result<Spec> {
        let spec = Spec::new(name, self.venv_program("uvicorn"), self.sources())?;
        let port = spec.port.to_string();
        let event_loop = match event_loop {
            Loop::Asyncio => "asyncio",
            Loop::Uvloop => "uvloop",
        };
        Ok(spec
            .arguments(["--host", "127.0.0.1", "--port", &port, "--loop", event_loop])
            .arguments(["--no-access-log", "--timeout-keep-alive", "75", "fastapi_app:app"]))
    }
}

/// A running application; it and all its processes end when this is dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    port: u16,
    log: PathBuf,
    group: Group,
}

impl Service {
    /// The name that it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port on which it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The process that was started: the server itself, or gunicorn's arbiter.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// All its living processes, [`Self::pid`] first.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn pids(&self) -> Result<Vec<u32>> {
        self.group.pids()
    }

    /// The processes that serve requests: gunicorn's workers, else the one process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn workers(&self) -> Result<Vec<u32>> {
        let mut pids = self.pids()?;
        if pids.len() > 1 {
            pids.retain(|pid| *pid != self.pid());
        }
        Ok(pids)
    }

    /// Everything that it has printed.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn output(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// What it says that it did, over all its processes: `{"requests": {ROUTE: {"requests", "bytes"}},
    /// "upstream": {...}}`, routes as "METHOD TEMPLATE" in the framework's own spelling, bytes of bodies.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counts(&self) -> Result<Value> {
        let plan = Plan { keep_alive: false, ..Plan::new(self.address(), 1) };
        let ask = [Request::get("counts", "/__counts")];
        let outcomes = load::run(&plan, &ask, &AtomicBool::new(false)).all_ok()?;
        let body = outcomes.first().context("no counts")?;
        serde_json::from_slice(&body.body).context("counts that are no JSON")
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_running(&self) -> Result<bool> {
        Ok(!self.group.has_exited()?)
    }

    /// Ends it the way that an operator would (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it has to be killed.
    pub fn terminate(mut self, limit: Duration) -> Result<()> {
        self.group.terminate(limit).map(|_| ()).with_context(|| self.name.clone())
    }

    fn wait_ready(&self, processes: usize) -> Result<()> {
        wait::until("the application answers", READY, || {
            ensure!(!sys::is_stopped(), "interrupted");
            ensure!(!self.group.has_exited()?, "it ended");
            Ok((self.pids()?.len() >= processes && self.answers()).then_some(()))
        })
        .with_context(|| format!("{}: {}", self.name, tail(&self.output().unwrap_or_default())))
    }

    /// Whether it answers a request now; any failure means that it does not, yet.
    fn answers(&self) -> bool {
        let ask = || {
            let mut connection = Connection::open(self.address(), Duration::from_secs(5))?;
            connection
                .send(b"GET /health HTTP/1.1\r\nHost: workload\r\nConnection: close\r\n\r\n")?;
            let (response, _) = connection.receive("GET")?;
            ensure!(response.status == 200, "status {}", response.status);
            Ok(())
        };
        ask().is_ok()
    }
}

/// The last lines of a program's output, for an error.
pub(crate) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}
