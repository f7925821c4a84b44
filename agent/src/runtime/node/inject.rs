//! The helper process that evaluates a script in a Node.js process, and sees to it that its inspector closes.
//!
//! While the inspector is open, whoever can reach its port in the target's network namespace can run code there.
//! So that nobody's end leaves it open, this runs as a process of its own (`wirespan node-assist`, started by the
//! agent): when the agent is killed it goes on, closes, and ends. It does not signal: the agent does, right after
//! it has seen whose handler would run, when this process says that it is watching. Neither does it decide who is
//! assisted: [`super::candidate`] does.
//!
//! Spoken on its standard streams, a line each: `watching` out; `sent` (or `no`, or nothing: the agent is gone) in;
//! an [`Outcome`] as JSON out.

use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::find::{Effort, Wanted, find};
use super::inspector::{self, INSPECTOR_PORT, Session};
use super::script;
use crate::clock::monotonic_ns;
use crate::sys;

/// How long an asked process may take to open its inspector: a thread of its own does it.
const OPENS_NS: u64 = 5_000_000_000;

/// How long whoever is to say that the signal was sent may be silent. The agent does nothing else meanwhile.
const STEP: Duration = Duration::from_millis(2);

/// How long it is tried to evaluate, and to close.
const TRIES_NS: u64 = 15_000_000_000;

/// How long a process that opened nothing in time, or would not close, is watched behind that: one that is stopped, or
/// gets no CPU, opens its inspector when it goes on, and nobody else would close it.
const LINGERS_NS: u64 = 600_000_000_000;

/// How often that is looked for.
const LINGERING_STEP: Duration = Duration::from_millis(50);

/// How long the workers of a cluster's primary are watched. Node.js itself signals them when their primary's inspector
/// opens (`NotifyClusterWorkersDebugEnabled` in src/inspector_agent.cc): mostly they find the port in use, but one that
/// comes late opens its own.
const WORKERS_NS: u64 = 60_000_000_000;

/// A worker's inspector that is open for so long is nobody's: one that was asked for is closed before.
const NOBODYS_NS: u64 = 3_000_000_000;

/// How often that is looked for.
const WORKERS_STEP: Duration = Duration::from_millis(250);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Evaluate the assist.
    Install,
    /// Undo it.
    Undo,
}

/// Arguments of `wirespan node-assist`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The process, as `/proc` shows it to the agent.
    #[arg(long)]
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    #[arg(long)]
    pub start_time: u64,
    /// What it calls itself.
    #[arg(long)]
    pub namespace_pid: u32,
    /// What is to be done.
    #[arg(long)]
    pub action: Action,
    /// The announcement's two numbers.
    #[arg(long, num_args = 2)]
    pub nonce: Vec<u32>,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The script was evaluated, the port is closed.
    Done {
        /// Where the areas are that were announced: none of an undo.
        areas: Vec<u64>,
    },
    /// Nothing was done to the process.
    Untouched {
        /// Why.
        reason: String,
    },
    /// Something went wrong on the way.
    Failed {
        /// What.
        reason: String,
        /// The port was seen to refuse.
        closed: bool,
    },
}

/// A listening socket of the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    inode: u64,
    address: SocketAddr,
}

/// Does what is asked for, tells how it went.
///
/// # Errors
/// When there is nobody to tell.
pub fn run(arguments: &Arguments) -> Result<()> {
    // Whoever ends the agent's whole group asks this one too: it is over in a moment, when the port is closed.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE] {
        sys::ignore_signal(signal)?;
    }
    let mut watched = None;
    let outcome = work(arguments, &mut watched)
        .unwrap_or_else(|error| Outcome::Untouched { reason: format!("{error:#}") });
    let mut out = std::io::stdout();
    // Whether anybody hears it or not, what was asked for must not stay open.
    let told = writeln!(out, "{}", serde_json::to_string(&outcome)?).and_then(|()| out.flush());
    if let Some(watched) = watched {
        linger(&watched);
    }
    if !matches!(outcome, Outcome::Untouched { .. })
        && let Ok(process) = Process::new(arguments.pid)
        && process.stat().is_ok_and(|stat| stat.starttime == arguments.start_time)
    {
        watch_workers(&process);
    }
    told.context("tell the agent")
}

/// A process whose inspector may be open, or may open still.
struct Watched {
    process: Process,
    before: Vec<Listener>,
}

/// Closes it whenever it opens.
fn linger(Watched { process, before }: &Watched) {
    let until = monotonic_ns().saturating_add(LINGERS_NS);
    while process.is_alive() && monotonic_ns() < until {
        let now = listeners(process).unwrap_or_default();
        let mut new = now.into_iter().filter(|listener| !before.contains(listener));
        let inspector = new.find(|listener| {
            listener.address.port() == INSPECTOR_PORT && holds(process, listener.inode)
        });
        if let Some(listener) = inspector
            && session(process, listener, "").is_ok()
        {
            return;
        }
        std::thread::sleep(LINGERING_STEP);
    }
}

/// Closes what a cluster's workers open because their primary did.
fn watch_workers(process: &Process) {
    let until = monotonic_ns().saturating_add(WORKERS_NS);
    let mut seen: Option<(Listener, u64)> = None;
    while process.is_alive() && monotonic_ns() < until {
        let workers = children(process);
        if workers.is_empty() {
            return;
        }
        let open = listeners(process).unwrap_or_default().into_iter().find_map(|listener| {
            let is_inspector = listener.address.port() == INSPECTOR_PORT;
            let mut holders = workers.iter().filter(|_| is_inspector);
            Some((holders.find(|worker| holds(worker, listener.inode))?, listener))
        });
        let now_ns = monotonic_ns();
        seen = match (open, seen) {
            (Some((worker, listener)), Some((known, since_ns))) if known == listener => {
                if now_ns.saturating_sub(since_ns) > NOBODYS_NS {
                    // If it can't be closed now, it is tried again.
                    session(worker, listener, "").unwrap_or_default();
                }
                Some((known, since_ns))
            }
            (Some((_, listener)), _) => Some((listener, now_ns)),
            (None, _) => None,
        };
        std::thread::sleep(WORKERS_STEP);
    }
}

/// The processes that a process's threads forked.
fn children(process: &Process) -> Vec<Process> {
    let tasks = process.tasks().into_iter().flatten().flatten();
    let pids = tasks.filter_map(|task| task.children().ok()).flatten();
    pids.filter_map(|pid| Process::new(pid.cast_signed()).ok()).collect()
}

/// `watched` is what has to be watched when this is over.
fn work(arguments: &Arguments, watched: &mut Option<Watched>) -> Result<Outcome> {
    let process = Process::new(arguments.pid).context("the process is gone")?;
    let started = process.stat().context("the process is gone")?.starttime;
    ensure!(started == arguments.start_time, "the process is gone");
    enter_network(arguments.pid)?;
    let before = listeners(&process)?;
    // A reader that is gone says nothing either: what was sent before is watched for all the same.
    let mut line = String::new();
    let mut out = std::io::stdout();
    let told = writeln!(out, "watching").and_then(|()| out.flush());
    if told.is_ok() {
        std::io::stdin().lock().read_line(&mut line).unwrap_or_default();
    }
    let is_wanted = match line.trim() {
        "no" => bail!("not wanted"),
        "sent" => true,
        _ => false,
    };
    let Some(listener) = opened(&process, &before) else {
        *watched = Some(Watched { process, before });
        return Ok(Outcome::Untouched { reason: "it opened no inspector".to_owned() });
    };
    let nonce = [
        arguments.nonce.first().copied().unwrap_or_default(),
        arguments.nonce.get(1).copied().unwrap_or_default(),
    ];
    let expression = match arguments.action {
        _ if !is_wanted => String::new(),
        Action::Install => script::install(nonce),
        Action::Undo => script::UNDO.to_owned(),
    };
    let evaluated = session(&process, listener, &expression);
    let closed = is_closed(&process, listener);
    if !closed {
        *watched = Some(Watched { process, before });
    }
    if let Err(error) = evaluated {
        return Ok(Outcome::Failed { reason: format!("{error:#}"), closed });
    }
    if !closed {
        return Ok(Outcome::Failed { reason: "its inspector did not close".to_owned(), closed });
    }
    if arguments.action == Action::Undo || !is_wanted {
        return Ok(Outcome::Done { areas: Vec::new() });
    }
    let wanted = Wanted { namespace_pid: arguments.namespace_pid, nonce: Some(nonce) };
    let areas = find(arguments.pid, wanted, Effort::Everywhere).context("search its memory")?;
    if areas.is_empty() {
        return Ok(Outcome::Failed { reason: "its notes are not found".to_owned(), closed });
    }
    Ok(Outcome::Done { areas: areas.into_iter().map(|found| found.address).collect() })
}

/// This thread's network becomes the target's.
fn enter_network(pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/net");
    let theirs = std::fs::read_link(&path).context("the process is gone")?;
    if std::fs::read_link("/proc/self/ns/net").is_ok_and(|ours| ours == theirs) {
        return Ok(());
    }
    let namespace = std::fs::File::open(path).context("the process is gone")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("may not enter its network namespace (CAP_SYS_ADMIN)")
}

/// The listening TCP sockets of the target's network namespace.
fn listeners(process: &Process) -> Result<Vec<Listener>> {
    let entries = process.tcp().context("read its sockets")?;
    let entries = entries.into_iter().chain(process.tcp6().unwrap_or_default());
    let listening = entries.filter(|entry| entry.state == TcpState::Listen);
    Ok(listening
        .map(|entry| Listener { inode: entry.inode, address: entry.local_address })
        .collect())
}

/// Waits for the target's inspector. It listens on Node's own port, unless the application changed that
/// (`process.debugPort`): only when nothing is there in time is it looked for elsewhere, because the application
/// may begin to listen itself, and has to be asked to tell the two apart.
fn opened(process: &Process, before: &[Listener]) -> Option<Listener> {
    let until = monotonic_ns().saturating_add(OPENS_NS);
    loop {
        let now = listeners(process).ok()?;
        let mut new = now.into_iter().filter(|listener| !before.contains(listener));
        let is_late = monotonic_ns() >= until;
        let found = new.find(|listener| match listener.address.port() {
            INSPECTOR_PORT => holds(process, listener.inode),
            _ if !is_late || !listener.address.ip().is_loopback() => false,
            _ => holds(process, listener.inode) && inspector::answers(listener.address),
        });
        if found.is_some() || is_late || !process.is_alive() {
            return found;
        }
        std::thread::sleep(STEP);
    }
}

fn holds(process: &Process, inode: u64) -> bool {
    let Ok(descriptors) = process.fd() else { return false };
    descriptors
        .flatten()
        .any(|descriptor| matches!(descriptor.target, FDTarget::Socket(socket) if socket == inode))
}

/// Evaluates and closes, again and again until the port is closed. What is evaluated bears being evaluated twice.
fn session(process: &Process, listener: Listener, expression: &str) -> Result<()> {
    let address = reachable(listener.address);
    let until = monotonic_ns().saturating_add(TRIES_NS);
    let mut evaluated = Ok(());
    let mut done = false;
    loop {
        match Session::open(address) {
            Ok(mut session) => {
                if !done && !expression.is_empty() {
                    evaluated = session.evaluate(expression).map(drop);
                    done = true;
                }
                if session.close().is_ok() && is_closed(process, listener) {
                    return evaluated;
                }
            }
            Err(error) if monotonic_ns() >= until => return Err(error),
            Err(_) if is_closed(process, listener) => {
                return if done { evaluated } else { Err(anyhow::anyhow!("it closed by itself")) };
            }
            Err(_) => std::thread::sleep(STEP),
        }
        ensure!(monotonic_ns() < until, "its inspector can't be closed");
    }
}

/// An address for all is reached at the loopback's.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

/// Waits a moment for the port to refuse.
fn is_closed(process: &Process, listener: Listener) -> bool {
    let until = monotonic_ns().saturating_add(2_000_000_000);
    loop {
        let gone = match listeners(process) {
            Ok(now) => !now.contains(&listener),
            Err(_) => !process.is_alive(),
        };
        if gone || (!process.is_alive() && TcpStream::connect(reachable(listener.address)).is_err())
        {
            return true;
        }
        if monotonic_ns() >= until {
            return false;
        }
        std::thread::sleep(STEP);
    }
}
