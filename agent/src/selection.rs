//! Which processes are traced now: rules applied to what runs, followed by kernel events.
//!
//! Owns the set of traced processes and their slots. A traced process's fork is known from its beginning, and so is an
//! interpreter that is marked at once when it was executed. Any other was running before: it may have connected to
//! others by then.

mod containers;
mod decide;
mod looks;
mod own_spans;
mod recovery;
mod reload;
mod replay;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use wirespan_ebpf::ProcessSlot;

use crate::call::ProcessId;
use crate::capture::{Capture, Exit, ProcessEvent, ProcessEventKind, Slot};
use crate::clock;
use crate::process::{
    AgentInfo, Allowed, ProcFs, Process, Program, Rules, resource, resource_of_child,
};
use crate::settings::Settings;
use crate::span::Resource;

use containers::Descriptions;
use looks::{Look, Looks};

/// The kernel tells that a socket listens before `/proc` shows it: who is not traced by then is looked at again.
const LISTENING_NS: u64 = 50_000_000;

/// Node.js and CPython have connected to nobody so soon after they were executed: they take longer to begin.
const PROMPT_NS: u64 = 10_000_000;

/// How long a slot stays its process's after the exit: records in other rings, calls under way.
const SLOT_LINGER_NS: u64 = 3_000_000_000;

/// A traced process.
#[derive(Debug)]
pub struct Traced {
    /// The agent's number for it.
    pub id: ProcessId,
    /// Its slot.
    pub slot: Slot,
    /// What it is.
    pub process: Process,
    /// The resource of its spans.
    pub resource: Arc<Resource>,
    /// What allowed it, or the process that it is a part of.
    pub by: Allowed,
    /// The process that was allowed, as it was then: itself, or the one that it is a part of.
    pub origin: Arc<Process>,
    /// What is done with its spans.
    pub settings: Arc<Settings>,
    /// The program that it, or the process that forked it, executed.
    pub program: Arc<Program>,
    /// Sockets that are told from this moment on are new: those it had were listed before.
    pub known_from_ns: u64,
    /// When it exited.
    pub gone_ns: Option<u64>,
}

/// That a process is allowed.
#[derive(Clone, Debug)]
struct Grant {
    by: Allowed,
    /// The process that it is a part of; none: it was allowed itself.
    origin: Option<Arc<Process>>,
}

/// What is known of a process that is to be traced.
struct Newcomer {
    process: Process,
    resource: Resource,
    program: Arc<Program>,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A process is traced from now on; `found_running`: it did things before.
    Traced {
        /// Which.
        id: ProcessId,
        /// It was not seen from its beginning.
        found_running: bool,
    },
    /// What is known of it is another than before.
    Known {
        /// Which.
        id: ProcessId,
    },
    /// It executed something and goes on being traced. Told again when it was looked at, if that is later.
    Executed {
        /// Which.
        id: ProcessId,
    },
    /// It runs a program of its own, which was executed then.
    Program {
        /// Which.
        id: ProcessId,
        /// CLOCK_MONOTONIC; of one that ran before as `/proc` has it, to 10 ms.
        at_ns: u64,
    },
    /// It began to listen on a TCP port.
    Listens {
        /// Which.
        id: ProcessId,
        /// The port.
        port: u16,
        /// CLOCK_MONOTONIC.
        at_ns: u64,
    },
    /// It exited, or is no longer allowed.
    Gone {
        /// Which.
        id: ProcessId,
        /// CLOCK_MONOTONIC.
        at_ns: u64,
        /// How.
        departure: Departure,
    },
    /// New rules allow it still, with other settings.
    Reset {
        /// Which.
        id: ProcessId,
    },
    /// New rules don't allow it: it is to be let go by [`Selection::dismiss`], once nothing of the agent's is
    /// in it any more.
    Dismissed {
        /// Which.
        id: ProcessId,
    },
}

/// How a process left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It lives on, untraced.
    LetGo,
    /// It exited; how, where that was told.
    Exited(Option<Exit>),
}

/// The traced processes and what decides about them.
pub struct Selection {
    procfs: ProcFs,
    rules: Rules,
    agent: AgentInfo,
    by_id: HashMap<ProcessId, Traced>,
    by_slot: HashMap<Slot, ProcessId>,
    by_pid: HashMap<i32, ProcessId>,
    /// Slots that are given back when their time comes, each once: an exit may be told after its process
    /// was let go.
    leaving: VecDeque<(u64, Slot, Option<ProcessId>)>,
    leaving_slots: HashSet<Slot>,
    /// Processes that began to listen and are not traced, with when to look once more.
    listeners: VecDeque<(u64, i32)>,
    /// Processes that wait to be looked at.
    looks: Looks,
    descriptions: Descriptions,
    /// Executions that were looked at before their turn, by process: when the last was.
    ahead: HashMap<i32, u64>,
    /// How many more may be looked at in this round.
    left: usize,
    /// Records were lost: processes may have come, changed and gone untold.
    is_incomplete: bool,
    recovered_ns: u64,
    next: u64,
    /// Kernel books of processes that are gone, summed up.
    departed: ProcessSlot,
    /// Kernel books of slots whose process was gone, or something else, before it could be looked at.
    unattributed: ProcessSlot,
    /// Processes that were seen to send spans of their own.
    own_spans: HashSet<crate::process::ProcessId>,
    /// Processes that could not be traced although a rule allows them.
    pub failed: u64,
    /// Forks that found no slot: traced from when they are looked at, not from their first instruction.
    pub forks_late: u64,
    /// How often all processes were looked at because records of some were lost.
    pub recoveries: u64,
}

impl Selection {
    /// Processes looked at in a round. Each takes a fraction of a millisecond: the rings go on being drained.
    const LOOKS: usize = 64;

    /// Nothing traced yet.
    pub fn new(mut procfs: ProcFs, rules: Rules, agent: AgentInfo) -> Self {
        procfs.want(rules.wants());
        Self {
            procfs,
            rules,
            agent,
            by_id: HashMap::new(),
            by_slot: HashMap::new(),
            by_pid: HashMap::new(),
            leaving: VecDeque::new(),
            leaving_slots: HashSet::new(),
            looks: Looks::default(),
            descriptions: Descriptions::default(),
            ahead: HashMap::new(),
            listeners: VecDeque::new(),
            left: Self::LOOKS,
            is_incomplete: false,
            recovered_ns: 0,
            next: 0,
            departed: Capture::NO_BOOKS,
            unattributed: Capture::NO_BOOKS,
            own_spans: HashSet::new(),
            failed: 0,
            forks_late: 0,
            recoveries: 0,
        }
    }

    /// Processes that wait to be looked at.
    pub fn waiting(&self) -> usize {
        self.looks.len() + self.listeners.len()
    }

    /// The process in a slot.
    pub fn by_slot(&self, slot: Slot) -> Option<&Traced> {
        self.by_slot.get(&slot).and_then(|id| self.by_id.get(id))
    }

    /// A process.
    pub fn get(&self, id: ProcessId) -> Option<&Traced> {
        self.by_id.get(&id)
    }

    /// The traced process that started a process, if that runs still.
    pub fn parent_of(&self, id: ProcessId) -> Option<ProcessId> {
        self.by_pid.get(&self.get(id)?.process.ppid).copied()
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Traced> {
        self.by_id.values()
    }

    /// Books of all that are gone.
    pub fn departed(&self) -> &ProcessSlot {
        &self.departed
    }

    /// Books of what was never a known process's: the operations that are counted as unknown.
    pub fn unattributed(&self) -> &ProcessSlot {
        &self.unattributed
    }

    /// The sockets that running processes had were listed.
    pub fn listed(&mut self, now_ns: u64) {
        for traced in self.by_id.values_mut().filter(|traced| traced.known_from_ns == u64::MAX) {
            traced.known_from_ns = now_ns;
        }
    }

    /// Looks at every process that runs, twice: one that forked between being listed and being marked
    /// left children that only the second look finds.
    pub fn scan(&mut self, capture: &mut Capture, changed: &mut impl FnMut(Change)) {
        for _ in 0..2 {
            let pids = match self.procfs.pids() {
                Ok(pids) => pids,
                Err(error) => {
                    tracing::error!(%error, "can't list processes");
                    return;
                }
            };
            for pid in
                pids.into_iter().filter(|pid| !self.by_pid.contains_key(pid)).collect::<Vec<_>>()
            {
                let look = Look { running: true, ..Look::default() };
                self.consider(pid, look, 0, capture, changed);
            }
        }
    }

    /// Looks at a process that was executed, before that event's turn: a short one may be over by then.
    pub fn executed_ahead(
        &mut self,
        event: &ProcessEvent,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let Some(pid) = event.pid else { return };
        // One that is known by that number, and not from here, is gone, but its end is still to be followed.
        let is_older = self.by_pid.contains_key(&pid) && !self.ahead.contains_key(&pid);
        if self.left == 0 || is_older {
            return;
        }
        self.left -= 1;
        self.ahead.insert(pid, event.at_ns);
        let look = Look { running: true, executed_ns: Some(event.at_ns), ..Look::default() };
        self.look(pid, look, event.at_ns, capture, changed);
    }

    /// Follows a process event.
    pub fn event(
        &mut self,
        event: &ProcessEvent,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        match event.kind {
            ProcessEventKind::Exec | ProcessEventKind::Listen => {
                let Some(pid) = event.pid else { return };
                if event.kind == ProcessEventKind::Exec {
                    self.own_spans.retain(|id| id.pid != pid);
                    if let Some(&until_ns) = self.ahead.get(&pid) {
                        if event.at_ns >= until_ns {
                            self.ahead.remove(&pid);
                        }
                        if event.at_ns <= until_ns {
                            return;
                        }
                    }
                }
                if let Some(slot) = event.slot.filter(|slot| !self.by_slot.contains_key(slot)) {
                    // A child that could not be looked at when it was forked: it begins anew here.
                    capture.untrace(pid, slot);
                    self.leave(event.at_ns, slot, None);
                } else if event.slot.is_none() {
                    // A thread other than the leader executed: it became the leader, and the kernel's mark
                    // went with the old one.
                    self.let_go(pid, event.at_ns, changed);
                }
                let listen = event.kind == ProcessEventKind::Listen;
                let executed_ns = (!listen).then_some(event.at_ns);
                let look = Look { running: true, executed_ns, ..Look::default() };
                if self.left > 0 && self.looks.len() == 0 {
                    self.left -= 1;
                    self.look(pid, look, event.at_ns, capture, changed);
                } else {
                    self.looks.add(pid, look);
                    if !listen && let Some(&id) = self.by_pid.get(&pid) {
                        changed(Change::Executed { id });
                    }
                }
                match self.by_pid.get(&pid) {
                    Some(&id) if listen => {
                        changed(Change::Listens { id, port: event.port, at_ns: event.at_ns });
                    }
                    None if listen => {
                        let due_ns = event.at_ns.saturating_add(LISTENING_NS);
                        self.listeners.push_back((due_ns, pid));
                    }
                    _ => {}
                }
            }
            ProcessEventKind::Fork => self.forked(event, capture, changed),
            ProcessEventKind::Exit(exit) => {
                let Some(slot) = event.slot else { return };
                let other = |known: &Traced| event.pid.is_some_and(|pid| pid != known.process.pid);
                // A record as late as that tells of the slot's last owner.
                if !self.by_slot(slot).is_some_and(other) {
                    self.exited(slot, event.at_ns, Some(exit), changed);
                }
            }
        }
    }

    fn forked(
        &mut self,
        event: &ProcessEvent,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let parent = event.parent_slot.and_then(|slot| self.by_slot.get(&slot)).copied();
        let Some(slot) = event.slot else {
            // The kernel's queue was empty. Nothing is told of its own children.
            self.is_incomplete = true;
            self.forks_late += 1;
            match event.pid {
                Some(pid) => self.looks.add(pid, Look { running: true, parent, ..Look::default() }),
                None => self.failed += 1,
            }
            return;
        };
        capture.slot_taken(slot);
        // One that isn't visible here gives its slot back when it exits.
        let Some(pid) = event.pid else { return };
        if self.leaving_slots.contains(&slot) {
            // A look at all processes came before this record: it has another slot by now, or none.
            return;
        }
        // The number was another's, whose exit was lost.
        self.let_go(pid, event.at_ns, changed);
        if self.left == 0 {
            // For now it is what its parent is.
            self.looks.add(pid, Look::default());
            return self.enter_child(pid, slot, event, capture, changed);
        }
        self.left -= 1;
        let process = match self.procfs.inspect_traceable(pid) {
            Ok(Some(process)) => Some(process),
            Ok(None) => None,
            Err(_) => return self.enter_child(pid, slot, event, capture, changed),
        };
        // It may have executed something else by now.
        let granted = process.and_then(|process| {
            let grant = self.is_wanted(&process, parent)?;
            Some((process, grant))
        });
        match granted {
            Some((process, grant)) => _ = self.enter(process, grant, slot, false, changed),
            None => {
                capture.untrace(pid, slot);
                self.leave(event.at_ns, slot, None);
            }
        }
    }

    /// The process in a slot is gone.
    fn exited(
        &mut self,
        slot: Slot,
        at_ns: u64,
        exit: Option<Exit>,
        changed: &mut impl FnMut(Change),
    ) {
        let id = self.by_slot.get(&slot).copied();
        self.leave(at_ns, slot, id);
        let traced = id.and_then(|id| self.by_id.get_mut(&id));
        // One that was let go before has nothing more to end.
        if let Some(traced) = traced.filter(|traced| traced.gone_ns.is_none()) {
            traced.gone_ns = Some(at_ns);
            self.by_pid.remove(&traced.process.pid);
            tracing::debug!(pid = traced.process.pid, "traced process exited");
            let departure = Departure::Exited(exit);
            changed(Change::Gone { id: traced.id, at_ns, departure });
        }
    }

    /// Gives back the slots of processes that are gone for long enough, their books added to the rest.
    pub fn tick(
        &mut self,
        now_ns: u64,
        capture: &mut Capture,
        mut forgotten: impl FnMut(ProcessId),
    ) {
        self.forget_awaited(now_ns);
        while let Some((due, slot, id)) = self.leaving.front().copied() {
            if due > now_ns {
                return;
            }
            self.leaving.pop_front();
            self.leaving_slots.remove(&slot);
            let sum = if id.is_some() { &mut self.departed } else { &mut self.unattributed };
            add(sum, &capture.books(slot));
            capture.release(slot);
            if let Some(id) = id {
                self.by_slot.remove(&slot);
                self.by_id.remove(&id);
                forgotten(id);
            }
        }
    }

    /// A process that lives on is not traced any more.
    fn let_go(&mut self, pid: i32, at_ns: u64, changed: &mut impl FnMut(Change)) {
        let Some(id) = self.by_pid.remove(&pid) else { return };
        let Some(traced) = self.by_id.get_mut(&id) else { return };
        traced.gone_ns = Some(at_ns);
        let slot = traced.slot;
        self.leave(at_ns, slot, Some(id));
        changed(Change::Gone { id, at_ns, departure: Departure::LetGo });
    }

    /// The slot is given back later.
    fn leave(&mut self, at_ns: u64, slot: Slot, id: Option<ProcessId>) {
        if self.leaving_slots.insert(slot) {
            self.leaving.push_back((at_ns.saturating_add(SLOT_LINGER_NS), slot, id));
        }
    }

    fn enter(
        &mut self,
        process: Process,
        grant: Grant,
        slot: Slot,
        found_running: bool,
        changed: &mut impl FnMut(Change),
    ) -> ProcessId {
        let settings = self.rules.settings(grant.by);
        let resource = resource(&self.procfs, &process, &self.agent, settings);
        let program = Arc::new(Program::of(&process, settings));
        let newcomer = Newcomer { process, resource, program };
        self.enter_as(newcomer, grant, slot, changed, found_running)
    }

    /// A child that lived for less time than it takes to look, or than there is now: it is what its parent is.
    fn enter_child(
        &mut self,
        pid: i32,
        slot: Slot,
        event: &ProcessEvent,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let Some(parent) = event.parent_slot.and_then(|slot| self.by_slot(slot)) else { return };
        let mut child = parent.process.child(pid, event.at_ns);
        if let Ok(id) = self.procfs.identify(pid) {
            child.start_time = id.start_time;
        }
        let resource = resource_of_child(&parent.resource, &parent.process, &child, &self.agent);
        let Some(grant) = self.grant_of(parent) else {
            capture.untrace(pid, slot);
            return self.leave(event.at_ns, slot, None);
        };
        let program = Arc::clone(&parent.program);
        let newcomer = Newcomer { process: child, resource, program };
        self.enter_as(newcomer, grant, slot, changed, false);
    }

    fn enter_as(
        &mut self,
        newcomer: Newcomer,
        grant: Grant,
        slot: Slot,
        changed: &mut impl FnMut(Change),
        found_running: bool,
    ) -> ProcessId {
        let Newcomer { process, resource, program } = newcomer;
        self.next += 1;
        let id = ProcessId(self.next);
        let resource = Arc::new(resource);
        self.await_description(&process, &resource, clock::monotonic_ns());
        tracing::debug!(
            pid = process.pid,
            service = resource.text(opentelemetry_semantic_conventions::attribute::SERVICE_NAME),
            runtime = process.runtime.word(),
            "tracing process"
        );
        self.by_slot.insert(slot, id);
        self.by_pid.insert(process.pid, id);
        let known_from_ns = if found_running { u64::MAX } else { 0 };
        let traced = Traced {
            id,
            slot,
            origin: grant.origin.unwrap_or_else(|| Arc::new(process.clone())),
            process,
            resource,
            by: grant.by,
            settings: Arc::clone(self.rules.settings(grant.by)),
            program,
            known_from_ns,
            gone_ns: None,
        };
        self.by_id.insert(id, traced);
        changed(Change::Traced { id, found_running });
        id
    }
}

/// When a process was started, as `/proc` has it: clock ticks since boot, of 10 ms wherever user space sees one.
fn started_ns(process: &Process) -> u64 {
    clock::monotonic_of_boottime(process.start_time.saturating_mul(10_000_000))
}

/// Adds the books of one process to a sum.
pub fn add(sum: &mut ProcessSlot, books: &ProcessSlot) {
    let pairs = |sum: &mut [u64], books: &[u64]| {
        for (sum, books) in sum.iter_mut().zip(books) {
            *sum += books;
        }
    };
    pairs(&mut sum.seen_operations, &books.seen_operations);
    pairs(&mut sum.seen_bytes, &books.seen_bytes);
    pairs(&mut sum.dropped_operations, &books.dropped_operations);
    pairs(&mut sum.dropped_bytes, &books.dropped_bytes);
    pairs(&mut sum.captured_bytes, &books.captured_bytes);
    pairs(&mut sum.uncaptured_bytes, &books.uncaptured_bytes);
    sum.peeks += books.peeks;
    sum.dropped_records += books.dropped_records;
}
