//! A RabbitMQ of a test's own, with an Erlang port mapper of its own: what runs on this machine besides is left
//! alone, and nothing is left behind.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{PASSWORD, READY, on_path};
use crate::process::Group;
use crate::workloads::{ports, service::tail};
use crate::{sys, wait};

/// Where Debian keeps the programs that run as whoever calls them.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// The account and the virtual host that the server makes at its first start.
const USER: &str = "shop";

/// A running RabbitMQ; it ends when this is dropped.
#[derive(Debug)]
pub struct RabbitMq {
    // Dropped in this order.
    server: Group,
    _mapper: Group,
    port: u16,
    log: PathBuf,
}

pub(super) fn is_installed() -> bool {
    Path::new(PROGRAMS).join("rabbitmq-server").exists() && on_path("epmd").is_some()
}

impl RabbitMq {
    /// Starts it in a new directory under `directory` and waits until it serves.
    ///
    /// # Errors
    /// When a program is missing, or the server ends or doesn't serve in time, with the end of its log.
    pub fn start(directory: &Path) -> Result<Self> {
        let this = Self::spawn(directory)?;
        this.wait_ready()?;
        Ok(this)
    }

    /// As [`Self::start`], without waiting.
    ///
    /// # Errors
    /// When a program is missing.
    pub fn spawn(directory: &Path) -> Result<Self> {
        let home = directory.join("rabbitmq");
        fs::create_dir_all(&home)?;
        let [port, mapper_port, cluster_port] = [ports::free()?, ports::free()?, ports::free()?];
        let config = home.join("rabbitmq.conf");
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = {USER}\ndefault_pass = {PASSWORD}\n\
             default_vhost = {USER}\nloopback_users = none\n"
        );
        fs::write(&config, settings)?;
        let mut mapper = Command::new("epmd");
        mapper.args(["-address", "127.0.0.1", "-port", &mapper_port.to_string()]);
        let mapper = Group::spawn(mapper.stdout(Stdio::null()).stderr(Stdio::null()))
            .context("start Erlang's port mapper")?;

        let log = home.join("log");
        let output = File::create(&log)?;
        let mut command = Command::new(Path::new(PROGRAMS).join("rabbitmq-server"));
        command.env("HOME", &home).env("ERL_EPMD_PORT", mapper_port.to_string());
        command.env("RABBITMQ_NODENAME", "shop@localhost");
        command.env("RABBITMQ_DIST_PORT", cluster_port.to_string());
        command.env("RABBITMQ_MNESIA_BASE", home.join("data")).env("RABBITMQ_LOG_BASE", &home);
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("plugins"));
        command.env("RABBITMQ_CONFIG_FILE", &config).env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        command.current_dir(&home).stdout(output.try_clone()?).stderr(output);
        let server = Group::spawn(&mut command).context("start RabbitMQ")?;
        Ok(Self { server, _mapper: mapper, port, log })
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it ends or doesn't serve in time, with the end of its log.
    pub fn wait_ready(&self) -> Result<()> {
        wait::until("RabbitMQ serves", READY, || {
            ensure!(!sys::is_stopped(), "interrupted");
            ensure!(!self.server.has_exited()?, "it ended");
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok().map(drop))
        })
        .with_context(|| tail(&fs::read_to_string(&self.log).unwrap_or_default()))
    }

    /// Whether its programs are there.
    #[must_use]
    pub fn is_installed() -> bool {
        is_installed()
    }

    /// The port on which it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The variable by which the programs under test find it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let url = format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{}/{USER}", self.port);
        vec![("RABBITMQ_URL", url)]
    }
}
