//! An Apache Kafka of a test's own: a temporary broker on free loopback ports, in a directory that the test
//! owns, made of what Maven copied once ([`Installed::kafka`]).

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Group;
use crate::workloads::{Installed, ports, service::tail};
use crate::{sys, wait};

/// How long it may take to serve: a JVM on a busy machine.
const READY: Duration = Duration::from_secs(120);

/// The cluster's id.
pub const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// Partitions of a topic that a client makes by sending to it.
pub const PARTITIONS: i32 = 3;

/// A running broker, which is its own controller; it ends when this is dropped.
#[derive(Debug)]
pub struct Broker {
    group: Group,
    port: u16,
}

impl Broker {
    /// Starts one in a new directory under `directory` and waits until it serves.
    ///
    /// # Errors
    /// When there is no Java, or it ends or doesn't serve in time, with the end of its log.
    pub fn start(installed: &Installed, directory: &Path) -> Result<Self> {
        let directory = directory.join("kafka");
        fs::create_dir_all(&directory)?;
        let jars = installed.kafka()?.join("*");
        let (port, controller) = (ports::free()?, ports::free()?);
        let properties = directory.join("server.properties");
        fs::write(&properties, settings(port, controller, &directory.join("data")))?;
        let java = |heap: &str, class: &str| {
            let mut command = Command::new("java");
            // Short-lived: what it compiles well it has no time to use.
            command.args([heap, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
            command.arg(&jars).arg(class);
            command
        };
        let mut format = java("-Xmx128m", "kafka.tools.StorageTool");
        format.args(["format", "-t", CLUSTER, "-c"]).arg(&properties).stdin(Stdio::null());
        let done = format.output().context("run java")?;
        ensure!(done.status.success(), "format: {}", String::from_utf8_lossy(&done.stderr));
        let log = directory.join("log");
        let output = File::create(&log)?;
        let mut command = java("-Xmx384m", "kafka.Kafka");
        command.arg(&properties).stdout(output.try_clone()?).stderr(output);
        let broker = Self { group: Group::spawn(&mut command)?, port };
        wait::until("the broker serves", READY, || {
            ensure!(!sys::is_stopped(), "interrupted");
            ensure!(!broker.group.has_exited()?, "it ended");
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(()))
        })
        .with_context(|| tail(&fs::read_to_string(&log).unwrap_or_default()))?;
        Ok(broker)
    }

    /// The port on which it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn settings(port: u16, controller: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         num.partitions={PARTITIONS}\n\
         message.max.bytes=100000\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        data.display()
    )
}
