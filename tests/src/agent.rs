//! The agent as an operator runs it: the real binary, its output, its control socket, its signals.
//!
//! Knows the command line only; what is asserted about it is the tests' business.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::Group;
use crate::workloads::{root, service::tail};
use crate::{sys, wait};

/// How long loading and attaching may take on a busy machine.
const READY: Duration = Duration::from_secs(180);

/// The binary under test: `WIRESPAN_BIN`, else the release build.
#[must_use]
pub fn binary() -> PathBuf {
    let named = std::env::var_os("WIRESPAN_BIN").filter(|path| !path.is_empty());
    named.map_or_else(|| root().join("target/release/wirespan"), PathBuf::from)
}

/// A running agent; killed when dropped, unless it was ended before.
#[derive(Debug)]
pub struct Agent {
    binary: PathBuf,
    group: Group,
    socket: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Agent {
    /// Starts `wirespan run` with these further arguments and waits until it says that it is ready. Its
    /// output and its control socket are in `directory`, which is created.
    ///
    /// # Errors
    /// When it ends or is not ready in time, with the end of what it printed.
    pub fn start<S: AsRef<OsStr>>(directory: &Path, arguments: &[S]) -> Result<Self> {
        let agent = Self::spawn(&binary(), directory, arguments)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts `wirespan record` in the same way: an agent that writes `recording`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn record<S: AsRef<OsStr>>(
        directory: &Path,
        recording: &Path,
        arguments: &[S],
    ) -> Result<Self> {
        let mut all = vec![OsStr::new("--output"), recording.as_os_str()];
        all.extend(arguments.iter().map(AsRef::as_ref));
        let agent = Self::spawn_as("record", &binary(), directory, &all)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts `wirespan run` of this binary and does not wait, as for a run that is expected to end.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(
        binary: &Path,
        directory: &Path,
        arguments: &[S],
    ) -> Result<Self> {
        Self::spawn_as("run", binary, directory, arguments)
    }

    fn spawn_as<S: AsRef<OsStr>>(
        subcommand: &str,
        binary: &Path,
        directory: &Path,
        arguments: &[S],
    ) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let file = |name: &str| directory.join(name);
        let (socket, stdout, stderr) = (file("agent.sock"), file("agent.out"), file("agent.err"));
        let mut command = Command::new(binary);
        command.arg(subcommand).arg("--control-socket").arg(&socket).args(arguments);
        command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let group = Group::spawn(&mut command)?;
        Ok(Self { binary: binary.to_owned(), group, socket, stdout, stderr })
    }

    /// Waits until `wirespan status` says that it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time, with the end of what it logged.
    pub fn wait_ready(&self) -> Result<()> {
        wait::until("the agent is ready", READY, || {
            ensure!(!sys::is_stopped(), "interrupted");
            ensure!(!self.group.has_exited()?, "the agent ended");
            Ok(self.is_ready()?.then_some(()))
        })
        .with_context(|| tail(&self.stderr().unwrap_or_default()))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Its control socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The file that its standard output goes to.
    #[must_use]
    pub fn stdout_path(&self) -> &Path {
        &self.stdout
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        fs::read_to_string(&self.stdout).context("read the agent's standard output")
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        fs::read_to_string(&self.stderr).context("read the agent's standard error")
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_running(&self) -> Result<bool> {
        Ok(!self.group.has_exited()?)
    }

    /// What `wirespan status --json` prints.
    ///
    /// # Errors
    /// When that command fails (the agent is not ready) or prints no JSON.
    pub fn status(&self) -> Result<Value> {
        serde_json::from_str(&self.status_text(true)?).context("a status that is no JSON")
    }

    /// What `wirespan status` prints, for people or as JSON.
    ///
    /// # Errors
    /// When that command fails: the agent is not ready.
    pub fn status_text(&self, json: bool) -> Result<String> {
        let mut command = self.status_command(json);
        let output = command.output().context("run wirespan status")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("wirespan status: {}: {printed}{why}", output.status);
        }
        Ok(printed)
    }

    /// Whether `wirespan status` says (by its exit code) that the agent is ready.
    fn is_ready(&self) -> Result<bool> {
        let output = self.status_command(true).output().context("run wirespan status")?;
        Ok(output.status.success())
    }

    fn status_command(&self, json: bool) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("status").args(json.then_some("--json"));
        command.arg("--control-socket").arg(&self.socket).stdin(Stdio::null());
        command
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it has not ended within `limit`; it is killed then.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.group.terminate(limit).context("end the agent")
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it has not ended within `limit`; it is killed then.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.group.wait(limit).context("wait for the agent")
    }

    /// Kills it as the out-of-memory killer would (SIGKILL).
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.group.kill().context("kill the agent")
    }
}
