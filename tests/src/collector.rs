//! An OpenTelemetry collector that others wrote, rotel, as a process of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Group;
use crate::wait;
use crate::workloads::{Installed, ports, service::tail};

/// How long it may take to listen.
const READY: Duration = Duration::from_secs(180);

/// A running one; it ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    /// Where it takes OTLP over gRPC.
    pub grpc: u16,
    /// Where it takes OTLP over HTTP.
    pub http: u16,
    _group: Group,
    log: PathBuf,
}

impl Collector {
    /// Starts it with these further arguments, which say where spans go, and its log in `directory`.
    ///
    /// # Errors
    /// When it can't be installed, ends or doesn't listen in time, with the end of its log.
    pub fn start(installed: &Installed, directory: &Path, arguments: &[&str]) -> Result<Self> {
        let (grpc, http) = (ports::free()?, ports::free()?);
        let log = directory.join("rotel.log");
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new(installed.rotel()?);
        command
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(arguments)
            .stdout(output.try_clone()?)
            .stderr(output);
        let group = Group::spawn(&mut command)?;
        wait::until("rotel listens", READY, || {
            ensure!(!group.has_exited()?, "rotel ended");
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, grpc)).is_ok().then_some(()))
        })
        .with_context(|| tail(&fs::read_to_string(&log).unwrap_or_default()))?;
        Ok(Self { grpc, http, _group: group, log })
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// When its log can't be read.
    pub fn output(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }
}
