//! The thread that assists processes, one after the other.
//!
//! For each it looks whether the process may be asked, starts the helper ([`super::inject`]) that watches its
//! inspector, has the pipeline's thread send the signal, and reports. That last look at the handler and the signal
//! are one step on the thread that owns the kernel programs: nothing lies between them but a few microseconds.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::area::Area;
use super::candidate::{self, Images, Obstacle};
use super::find::{Effort, Found, ProcessMemory, Wanted, find};
use super::inject::{Action, Outcome};
use crate::call::ProcessId;
use crate::capture::{Capture, Slot};

/// How long the pipeline may take for one round.
const ROUND: Duration = Duration::from_secs(10);

/// Learned of images by whichever thread asks.
static IMAGES: Mutex<Option<Images>> = Mutex::new(None);

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) id: ProcessId,
    pub(super) slot: Slot,
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) namespace_pid: u32,
}

/// Something to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) target: Target,
    pub(super) action: Action,
}

/// What the thread tells.
#[derive(Debug)]
pub(super) enum Report {
    /// The helper watches: [`signal`] is to be called. It answers with what stands against it.
    Ready { target: Target, answer: Sender<Result<(), Obstacle>> },
    /// A job is over.
    Over { target: Target, action: Action, verdict: Verdict },
}

/// How a job ended.
#[derive(Debug)]
pub(super) enum Verdict {
    Done(Vec<Area>),
    Never(String),
    NotYet(String),
}

impl From<Obstacle> for Verdict {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Never(reason) => Self::Never(reason.to_owned()),
            Obstacle::NotYet(reason) => Self::NotYet(reason.to_owned()),
        }
    }
}

/// Starts the thread. It ends when nobody can give it work any more.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(jobs: Receiver<Job>, reports: Sender<Report>) -> std::io::Result<()> {
    let work = move || {
        for job in jobs {
            let verdict = verdict(job, &reports);
            let over = Report::Over { target: job.target, action: job.action, verdict };
            if reports.send(over).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("wirespan-assist".to_owned()).spawn(work).map(drop)
}

/// Sends SIGUSR1, if what would run is Node's own handler at this very moment.
pub(super) fn signal(target: Target, answer: &Sender<Result<(), Obstacle>>, capture: &mut Capture) {
    let answered = answer.send(signalled(target, capture));
    if answered.is_err() {
        // The helper watches all the same.
        tracing::debug!(pid = target.pid, "nobody waited for the signal any more");
    }
}

fn signalled(target: Target, capture: &mut Capture) -> Result<(), Obstacle> {
    let gone = Obstacle::Never("it is gone");
    let pid = Pid::from_raw(target.pid).ok_or(gone)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_gone| gone)?;
    let handler = |capture: &mut Capture| {
        let found = capture.signal_handler(target.slot);
        found.map_err(|_refused| Obstacle::Never("the kernel doesn't show its signal handlers"))
    };
    let record = handler(capture)?.ok_or(gone)?;
    let mut images = IMAGES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    images.get_or_insert_default().is_nodes_own(target.pid, &record)?;
    // Looking at the image took its time: it must be the same still.
    let again = handler(capture)?.ok_or(gone)?;
    if (again.handler, again.flags) != (record.handler, record.flags) {
        return Err(Obstacle::NotYet("its handler for SIGUSR1 just changed"));
    }
    pidfd_send_signal(pidfd, Signal::USR1).map_err(|error| match error {
        Errno::PERM => Obstacle::Never("it may not be sent a signal (CAP_KILL)"),
        _ => gone,
    })
}

fn verdict(job: Job, reports: &Sender<Report>) -> Verdict {
    let Target { pid, namespace_pid, .. } = job.target;
    if job.action == Action::Install {
        if let Err(obstacle) = candidate::shares_clock(pid) {
            return obstacle.into();
        }
        // What an earlier agent left, or what --require loaded, goes on without any signal.
        let wanted = Wanted { namespace_pid, nonce: None };
        let found = find(pid, wanted, Effort::Beginnings).unwrap_or_default();
        if !found.is_empty() {
            return Verdict::Done(
                found.iter().map(|found| Area::new(found.address, &found.header)).collect(),
            );
        }
    }
    match candidate::look(pid) {
        Ok(()) => {}
        Err(obstacle) => return obstacle.into(),
    }
    match helped(job, reports) {
        Ok(verdict) => verdict,
        Err(error) => Verdict::NotYet(format!("the helper failed: {error:#}")),
    }
}

/// Runs the helper, and has the signal sent when it watches.
fn helped(job: Job, reports: &Sender<Report>) -> Result<Verdict> {
    let nonce: [u32; 2] = rand::random();
    let mut child = helper(job, nonce)?;
    let mut input = child.stdin.take().context("no pipe to the helper")?;
    let mut output = BufReader::new(child.stdout.take().context("no pipe from the helper")?);
    let mut line = String::new();
    output.read_line(&mut line).context("read from the helper")?;
    let mut refused = None;
    if line.trim() == "watching" {
        let (answer, inbox) = channel();
        reports.send(Report::Ready { target: job.target, answer }).context("the agent ends")?;
        // Not answered in time, it may be sent still: the helper goes on watching.
        match inbox.recv_timeout(ROUND) {
            Ok(Ok(())) => writeln!(input, "sent")?,
            Ok(Err(obstacle)) => {
                refused = Some(obstacle);
                writeln!(input, "no")?;
            }
            Err(_) => {}
        }
        drop(input);
        line.clear();
        output.read_line(&mut line).context("read from the helper")?;
    }
    // It has said what there is to say, and ends; or it watches on for what opens late, which nobody waits for.
    let reap = thread::Builder::new().name("wirespan-reap".to_owned());
    reap.spawn(move || child.wait()).context("wait for the helper")?;
    if let Some(obstacle) = refused {
        return Ok(obstacle.into());
    }
    let outcome: Outcome = serde_json::from_str(&line).context("the helper says nothing")?;
    Ok(match outcome {
        Outcome::Done { areas } => Verdict::Done(opened(job.target, &areas)),
        Outcome::Untouched { reason } => Verdict::NotYet(reason),
        Outcome::Failed { reason, closed: true } => Verdict::NotYet(reason),
        Outcome::Failed { reason, closed: false } => {
            tracing::error!(
                pid = job.target.pid,
                reason,
                "the inspector of a Node.js process is still open; it is tried on to close it"
            );
            Verdict::Never(reason)
        }
    })
}

fn helper(job: Job, nonce: [u32; 2]) -> Result<Child> {
    let Target { pid, start_time, namespace_pid, .. } = job.target;
    let action = match job.action {
        Action::Install => "install",
        Action::Undo => "undo",
    };
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("wirespan")
        .arg("node-assist")
        .args(["--pid", &pid.to_string(), "--start-time", &start_time.to_string()])
        .args(["--namespace-pid", &namespace_pid.to_string(), "--action", action])
        .args(["--nonce", &nonce[0].to_string(), &nonce[1].to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Not with the agent: what is sent to its group is not sent to this.
        .process_group(0);
    command.spawn().context("start the helper")
}

/// The areas that the helper found, as they are now.
fn opened(target: Target, addresses: &[u64]) -> Vec<Area> {
    let memory = ProcessMemory(target.pid);
    let found = addresses.iter().filter_map(|address| Found::at(*address, &memory));
    found.map(|found| Area::new(found.address, &found.header)).collect()
}
