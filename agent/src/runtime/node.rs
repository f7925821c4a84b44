//! Node.js: which request a call belongs to, by an assist that runs in the process.
//!
//! An event loop can't be told apart from outside. A small script (`assist/`) is evaluated in each process that may
//! have it; it numbers requests and notes, in memory of its own, which bytes of which connection are whose. The
//! pipeline tells [`Assist`] of processes, sockets, sends and calls, and gets calls with their numbers back.
//! Injection waits, so a thread of its own does it, one process at a time: the inspector's port is shared by all
//! in a network namespace.

mod area;
mod candidate;
mod find;
mod handlers;
pub mod inject;
mod inspector;
mod owners;
mod replay;
mod script;
mod worker;

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::call::{CallId, ProcessId, Role};
use crate::capture::{Capture, Operation, Slot, Socket};
use crate::clock;
use crate::process::{Process, Version};
use crate::runtime::{Method, Reason, Work};
use area::{Area, Entry};
use find::ProcessMemory;
use handlers::Handlers;
use inject::Action;
pub use inspector::INSPECTOR_PORT;
use owners::{Owners, Sent};
use worker::{Job, Report, Target, Verdict};

pub use owners::NOBODY;
pub use replay::{Heard, Phase};

/// A process is left alone for so long after it became known: in its first milliseconds SIGUSR1 ends it.
const SETTLES_NS: u64 = 1_000_000_000;

/// How long after an attempt that may succeed later the next is made.
const AGAIN_NS: u64 = 5_000_000_000;

/// Attempts at one process.
const ATTEMPTS: u32 = 24;

/// The oldest version whose JavaScript the assist is written for.
const OLDEST: u32 = 18;

/// The newest that it was tried on.
const NEWEST: u32 = 26;

/// How often areas are read in which nothing is known to have happened.
const QUIET_NS: u64 = 100_000_000;

/// How long the agent waits at its end for the assist to be undone everywhere.
const UNDO: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum State {
    /// Not asked yet, or to be asked again then.
    Waiting {
        due_ns: u64,
        attempts: u32,
    },
    /// The worker has it.
    Asked {
        attempts: u32,
    },
    Assisted,
    Unassisted,
    /// The worker is to undo it; `again`: and to assist it once more then.
    Undoing {
        again: bool,
    },
}

/// Why one isn't that is to be.
const NOT_YET: &str = "it was not assisted yet";

/// Why a process is not assisted that a rule says should not be.
const SWITCHED_OFF: &str = "the assist is switched off";

#[derive(Debug)]
struct Followed {
    target: Target,
    state: State,
    /// What was last written into a recording of it.
    told: Phase,
    reason: &'static str,
    detail: Option<String>,
    areas: Vec<Area>,
    active: u32,
    /// Something was sent or received since its areas were read.
    stirred: bool,
    read_ns: u64,
}

/// What became of the notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Notes read.
    pub notes: u64,
    /// Notes overwritten before they were read.
    pub notes_lost: u64,
    /// Notes that made no sense.
    pub notes_malformed: u64,
    /// Calls that were given a number.
    pub calls: u64,
    /// Handlers of consumed messages that began.
    pub handlers: u64,
    /// Connections on which notes and records contradicted each other.
    pub contradictions: u64,
}

/// What the assist tells of the calls of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A call was made, or is served, in the context with this number: a request's or a handler's; [`NOBODY`] where
    /// it is known to be in none.
    Context {
        /// The call.
        call: CallId,
        /// The number.
        number: u64,
    },
    /// Of a handler of consumed messages. Its beginning comes before the calls that it makes.
    Work(Work),
}

/// The assist of all Node.js processes.
#[derive(Default)]
pub struct Assist {
    followed: FxHashMap<ProcessId, Followed>,
    owners: Owners,
    handlers: Handlers,
    malformed: u64,
    counts: Counts,
    jobs: Option<Sender<Job>>,
    reports: Option<Receiver<Report>>,
    /// Processes that became assisted: their connections are to be told.
    fresh: Vec<ProcessId>,
    /// Read, and not followed yet.
    notes: Vec<(ProcessId, Entry)>,
    /// What was heard in this round, where it is recorded.
    heard: Option<Heard>,
}

impl Assist {
    /// A Node.js process is traced from now on, or executed Node.js anew. `allowed`: it may be assisted.
    pub fn process_began(
        &mut self,
        id: ProcessId,
        slot: Slot,
        process: &Process,
        version: Option<Version>,
        allowed: bool,
    ) {
        let now_ns = clock::monotonic_ns();
        let namespace_pid = u32::try_from(process.namespace_pid).unwrap_or_default();
        let (pid, start_time) = (process.pid, process.start_time);
        let target = Target { id, slot, pid, start_time, namespace_pid };
        let reason = match version {
            _ if !allowed => SWITCHED_OFF,
            Some(version) if version.major < OLDEST => "this version of Node.js is too old",
            Some(version) if version.major > NEWEST => "this version of Node.js is not known yet",
            Some(_) => NOT_YET,
            None => "its version is not known",
        };
        let state = if reason == NOT_YET {
            State::Waiting { due_ns: now_ns.saturating_add(SETTLES_NS), attempts: 0 }
        } else {
            State::Unassisted
        };
        let followed = Followed {
            target,
            state,
            told: Phase::Idle,
            reason,
            detail: None,
            areas: Vec::new(),
            active: 0,
            stirred: false,
            read_ns: 0,
        };
        self.followed.insert(id, followed);
    }

    /// Whether a process may be assisted from now on. One that is assisted and may not be is to have it undone,
    /// which takes its time: [`Self::is_undoing`].
    pub fn allow(&mut self, id: ProcessId, allowed: bool, now_ns: u64) {
        let Some(followed) = self.followed.get_mut(&id) else { return };
        match (&mut followed.state, allowed) {
            (State::Undoing { again }, _) => *again = allowed,
            (State::Unassisted, true) if followed.reason == SWITCHED_OFF => {
                followed.reason = NOT_YET;
                followed.state = State::Waiting { due_ns: now_ns, attempts: 0 };
            }
            (State::Waiting { .. }, false) => {
                followed.reason = SWITCHED_OFF;
                followed.state = State::Unassisted;
            }
            (State::Asked { .. } | State::Assisted, false) => {
                // Behind the one that it was asked for, where that is under way.
                let job = Job { target: followed.target, action: Action::Undo };
                followed.areas.clear();
                followed.reason = SWITCHED_OFF;
                followed.detail = None;
                followed.state = match &self.jobs {
                    Some(jobs) if jobs.send(job).is_ok() => State::Undoing { again: false },
                    _ => State::Unassisted,
                };
                self.owners.end(id);
            }
            (
                State::Unassisted | State::Waiting { .. } | State::Asked { .. } | State::Assisted,
                _,
            ) => {}
        }
    }

    /// Whether the assist of a process is being undone.
    pub fn is_undoing(&self, id: ProcessId) -> bool {
        let undoing = |followed: &Followed| matches!(followed.state, State::Undoing { .. });
        self.followed.get(&id).is_some_and(undoing)
    }

    /// A process ended, or is not traced any more.
    pub fn process_ended(&mut self, id: ProcessId) {
        self.followed.remove(&id);
        self.owners.end(id);
        self.handlers.end(id);
    }

    /// A socket of a process. Every send on it after `at_ns` will be told.
    pub fn socket(&mut self, process: ProcessId, socket: &Socket, at_ns: u64) {
        if self.owners.knows(process)
            && let Some(addresses) = socket.addresses
        {
            self.owners.socket(process, socket.cookie, addresses, at_ns);
        }
    }

    /// Whether a socket of a process is its inspector's, which the agent had opened: an application that is
    /// on that port itself is not assisted. `asked`: the request's `Host`, where it has one.
    pub fn is_inspector(
        &self,
        process: ProcessId,
        socket: Option<&Socket>,
        asked: Option<&str>,
    ) -> bool {
        let Some(Followed { state, .. }) = self.followed.get(&process) else { return false };
        match socket {
            Some(socket) => {
                socket.addresses.is_some_and(|(local, _)| local.port() == INSPECTOR_PORT)
                    && !matches!(state, State::Waiting { .. } | State::Unassisted)
            }
            // What was told of it is lost: while the agent itself asks there, it may be that.
            None => {
                matches!(state, State::Asked { .. } | State::Undoing { .. })
                    && asked.is_some_and(names_the_inspector)
            }
        }
    }

    /// A connection is over.
    pub fn gone(&mut self, cookie: u64) {
        self.owners.gone(cookie);
    }

    /// Bytes passed.
    pub fn operation(&mut self, process: ProcessId, operation: &Operation<'_>) {
        let Some(followed) = self.followed.get_mut(&process) else { return };
        followed.stirred = true;
        if operation.sent && operation.length > 0 {
            self.owners.sent(
                operation.cookie,
                Sent {
                    at_ns: operation.at_ns,
                    offset: operation.offset,
                    length: u64::from(operation.length),
                    lost: operation.lost_sent,
                },
            );
        }
    }

    /// A call began.
    pub fn began(&mut self, cookie: u64, call: CallId, role: Role, offset: u64, at_ns: u64) {
        self.owners.began(cookie, call, role, offset, at_ns);
    }

    /// A call is over.
    pub fn over(&mut self, cookie: u64, call: CallId) {
        self.owners.over(cookie, call);
    }

    /// Processes that became assisted since this was asked last: every socket that they have is to be told by
    /// [`Self::socket`], as of now.
    pub fn take_fresh(&mut self) -> Vec<ProcessId> {
        std::mem::take(&mut self.fresh)
    }

    /// What is due. Every record that the kernel wrote before `now_ns` was told, and what follows goes to `out`.
    pub fn round(&mut self, now_ns: u64, capture: &mut Capture, mut out: impl FnMut(Told)) {
        self.hear(now_ns, capture);
        self.ask(now_ns);
        self.follow(now_ns, &mut out);
        self.read(now_ns);
        self.settle(now_ns, &mut out);
    }

    /// What the notes say that were read before.
    fn follow(&mut self, now_ns: u64, out: &mut impl FnMut(Told)) {
        // Read in the round before: what the kernel recorded until then was told by now.
        for (id, note) in std::mem::take(&mut self.notes) {
            match note {
                Entry::Text { number, offset, piece } => {
                    self.handlers.piece(id, number, offset, &piece);
                }
                Entry::Handles { socket, at_ns, number, delivered, name_bytes } => {
                    let connection = self.owners.connection(id, socket);
                    let what = (delivered, name_bytes);
                    if let Some(work) = self.handlers.began(id, number, at_ns, connection, what) {
                        out(Told::Work(work));
                    }
                }
                Entry::Handled { at_ns, number } => {
                    out(Told::Work(Work::Ended { process: id, context: number, at_ns }));
                }
                Entry::Range { .. } | Entry::Inbound { .. } | Entry::End { .. } => {
                    self.owners.note(id, note, now_ns);
                }
            }
        }
    }

    /// Reads notes.
    fn read(&mut self, now_ns: u64) {
        let notes = &mut self.notes;
        for (id, followed) in &mut self.followed {
            let quiet = !followed.stirred && now_ns.saturating_sub(followed.read_ns) < QUIET_NS;
            if followed.areas.is_empty() || quiet {
                continue;
            }
            followed.stirred = false;
            followed.read_ns = now_ns;
            let memory = ProcessMemory(followed.target.pid);
            let mut lost = 0;
            followed.areas.retain_mut(|area| {
                let read = area.read(&memory, &mut |entry| notes.push((*id, entry)));
                let Ok(read) = read else { return false };
                followed.active |= read.active;
                self.counts.notes += read.entries;
                self.counts.notes_lost += read.lost;
                self.malformed += read.malformed;
                lost += read.lost;
                true
            });
            if followed.areas.is_empty() {
                // Undone by another agent, or it executed something else.
                followed.state =
                    State::Waiting { due_ns: now_ns.saturating_add(AGAIN_NS), attempts: 0 };
                self.owners.end(*id);
                if let Some(heard) = &mut self.heard {
                    heard.over.push(*id);
                }
            } else if lost > 0 {
                self.owners.lost(*id, now_ns);
                if let Some(heard) = &mut self.heard {
                    heard.lost.push(*id);
                }
            }
        }
        if let Some(heard) = &mut self.heard {
            heard.notes.extend_from_slice(&self.notes);
        }
    }

    /// Calls whose notes are there have their numbers.
    fn settle(&mut self, now_ns: u64, out: &mut impl FnMut(Told)) {
        let calls = &mut self.counts.calls;
        self.owners.settle(now_ns, &mut |call, number| {
            *calls += 1;
            out(Told::Context { call, number });
        });
        self.counts.contradictions = self.owners.contradictions;
        self.counts.handlers = self.handlers.began;
        self.counts.notes_malformed = self.malformed + self.handlers.malformed;
    }

    /// How the requests of a process are told apart, with the bindings that are active; `None` for one of
    /// another runtime.
    pub fn method(&self, id: ProcessId) -> Option<(Method, Vec<&'static str>)> {
        let followed = self.followed.get(&id)?;
        if matches!(followed.state, State::Assisted) {
            return Some((Method::Exact, script::names(followed.active)));
        }
        let reason = match &followed.detail {
            Some(detail) => detail.clone().into(),
            None => followed.reason.into(),
        };
        Some((Method::Unassisted(Reason(reason)), Vec::new()))
    }

    /// What became of the notes so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The agent leaves: the assist is undone in every process that has it.
    pub fn leave(mut self, capture: &mut Capture) {
        let assisted: Vec<Target> = self
            .followed
            .values()
            .filter(|followed| matches!(followed.state, State::Assisted | State::Asked { .. }))
            .map(|followed| followed.target)
            .collect();
        let undoing = |known: &&Followed| matches!(known.state, State::Undoing { .. });
        let mut waiting = self.followed.values().filter(undoing).count();
        let (Some(jobs), Some(reports)) = (self.jobs.take(), self.reports.take()) else { return };
        for target in assisted {
            waiting += usize::from(jobs.send(Job { target, action: Action::Undo }).is_ok());
        }
        // It ends when it has done all.
        drop(jobs);
        let until = clock::monotonic_ns().saturating_add(UNDO.as_nanos() as u64);
        while waiting > 0 {
            let left = until.saturating_sub(clock::monotonic_ns());
            match reports.recv_timeout(Duration::from_nanos(left)) {
                Ok(Report::Ready { target, answer }) => worker::signal(target, &answer, capture),
                Ok(Report::Over { action: Action::Undo, verdict, target }) => {
                    waiting -= 1;
                    if !matches!(verdict, Verdict::Done(_)) {
                        tracing::warn!(pid = target.pid, ?verdict, "the assist was not undone");
                    }
                }
                Ok(Report::Over { .. }) => {}
                Err(_) => {
                    tracing::warn!(waiting, "the assist was not undone everywhere in time");
                    return;
                }
            }
        }
    }

    /// What the worker reports.
    fn hear(&mut self, now_ns: u64, capture: &mut Capture) {
        loop {
            let report = match self.reports.as_ref().map(Receiver::try_recv) {
                Some(Ok(report)) => report,
                Some(Err(TryRecvError::Empty | TryRecvError::Disconnected)) | None => return,
            };
            match report {
                Report::Ready { target, answer } => worker::signal(target, &answer, capture),
                Report::Over { target, action: Action::Install, verdict } => {
                    self.settled(target, verdict, now_ns);
                }
                Report::Over { target, action: Action::Undo, verdict } => {
                    self.undone(target, &verdict, now_ns);
                }
            }
        }
    }

    fn undone(&mut self, target: Target, verdict: &Verdict, now_ns: u64) {
        if !matches!(verdict, Verdict::Done(_)) {
            tracing::warn!(pid = target.pid, ?verdict, "the assist was not undone");
        }
        let Some(followed) = self.followed.get_mut(&target.id) else { return };
        if let State::Undoing { again } = followed.state {
            followed.state = State::Unassisted;
            self.allow(target.id, again, now_ns);
        }
    }

    fn settled(&mut self, target: Target, verdict: Verdict, now_ns: u64) {
        let Some(followed) = self.followed.get_mut(&target.id) else { return };
        let State::Asked { attempts } = followed.state else { return };
        followed.detail = None;
        match verdict {
            Verdict::Done(areas) => {
                tracing::info!(pid = target.pid, "Node.js process assisted");
                followed.areas = areas;
                followed.state = State::Assisted;
                self.owners.begin(target.id, now_ns);
                self.fresh.push(target.id);
                if let Some(heard) = &mut self.heard {
                    heard.began.push(target.id);
                }
            }
            Verdict::Never(reason) => {
                tracing::info!(pid = target.pid, reason, "Node.js process left alone");
                followed.detail = Some(reason);
                followed.state = State::Unassisted;
            }
            Verdict::NotYet(reason) => {
                tracing::debug!(pid = target.pid, reason, "Node.js process not assisted yet");
                followed.detail = Some(reason);
                let attempts = attempts + 1;
                followed.state = if attempts < ATTEMPTS {
                    State::Waiting { due_ns: now_ns.saturating_add(AGAIN_NS), attempts }
                } else {
                    State::Unassisted
                };
            }
        }
    }

    /// Hands over to the worker what is due.
    fn ask(&mut self, now_ns: u64) {
        for followed in self.followed.values_mut() {
            let State::Waiting { due_ns, attempts } = followed.state else { continue };
            if due_ns > now_ns {
                continue;
            }
            if self.jobs.is_none() {
                let (jobs, inbox) = channel();
                let (outbox, reports) = channel();
                match worker::start(inbox, outbox) {
                    Ok(()) => (self.jobs, self.reports) = (Some(jobs), Some(reports)),
                    Err(error) => {
                        tracing::error!(%error, "can't start the thread that assists");
                        followed.state = State::Unassisted;
                        followed.reason = "the thread that assists can't be started";
                        continue;
                    }
                }
            }
            let job = Job { target: followed.target, action: Action::Install };
            if self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok()) {
                followed.state = State::Asked { attempts };
            }
        }
    }
}

/// The assist as a file for `--require`, for those who start the process themselves.
pub fn file() -> String {
    script::file()
}

/// Whether this `Host` is what the agent writes when it asks an inspector: an address with its port.
fn names_the_inspector(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(INSPECTOR_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspector_is_asked_at_its_port() {
        for host in ["127.0.0.1:9229", "[::1]:9229"] {
            assert!(names_the_inspector(host), "{host}");
        }
        for host in ["127.0.0.1:3000", "[::1]", "localhost", "inspector:9229x", ""] {
            assert!(!names_the_inspector(host), "{host}");
        }
    }
}
