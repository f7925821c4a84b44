//! `tests/workloads/python/sockets.py`: a process that makes the system calls that a test tells it to.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::Group;
use crate::workloads::root;

/// How long one piece of code may run.
const LIMIT: Duration = Duration::from_secs(120);

/// A running `sockets.py`; it and what it forked end when this is dropped.
#[derive(Debug)]
pub struct Script {
    name: String,
    group: Group,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Script {
    /// Starts it under a name, which is its argument (for a rule) and its service's.
    ///
    /// # Errors
    /// When there is no Python.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_in(name, &[])
    }

    /// As [`Self::start`], behind a program with arguments that starts another (`ip netns exec NAME`).
    ///
    /// # Errors
    /// When the program or Python cannot be started.
    pub fn start_in(name: &str, before: &[&str]) -> Result<Self> {
        let directory = root().join("tests/workloads/python");
        let mut words = before.iter().map(Path::new).collect::<Vec<_>>();
        let script = directory.join("sockets.py");
        words.extend([Path::new("python3"), &script, Path::new(name)]);
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&directory);
        command.env("OTEL_SERVICE_NAME", name).env("PYTHONDONTWRITEBYTECODE", "1");
        let (group, input, output) = Group::spawn_talking(&mut command)?;
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut script = Self { name: name.to_owned(), group, input, answers };
        script.run("None").context("start sockets.py")?;
        Ok(script)
    }

    /// The name that it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process group's leader: the script itself, unless another program forked it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// All its living processes.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn pids(&self) -> Result<Vec<u32>> {
        self.group.pids()
    }

    /// Sends its first process a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.group.signal(signal)
    }

    /// Runs code in it and returns the value of the last expression.
    ///
    /// # Errors
    /// The exception, or that it takes too long.
    pub fn run(&mut self, code: &str) -> Result<Value> {
        self.begin(code)?;
        self.finish()
    }

    /// Has it begin with code; [`Self::finish`] waits for the end.
    ///
    /// # Errors
    /// When it has ended.
    pub fn begin(&mut self, code: &str) -> Result<()> {
        writeln!(self.input, "{}", json!({ "code": code })).context("sockets.py has ended")?;
        self.input.flush().context("sockets.py has ended")
    }

    /// The value of what was begun.
    ///
    /// # Errors
    /// The exception, or that it takes too long.
    pub fn finish(&mut self) -> Result<Value> {
        let line = self.answers.recv_timeout(LIMIT);
        let line = line.with_context(|| format!("{}: no answer", self.name))?;
        let mut answer: Value = serde_json::from_str(&line).context("an answer that is no JSON")?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("{}: {error}", self.name);
        }
        Ok(answer.get_mut("value").map(Value::take).unwrap_or_default())
    }
}
