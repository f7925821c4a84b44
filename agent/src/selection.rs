//! Which processes are traced now: rules applied to what runs, followed by kernel events.
//!
//! Owns the set of traced processes and their slots. A process found by a scan was running before; one
//! that came by exec, fork or listen is known from its beginning.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use wirespan_ebpf::ProcessSlot;

use crate::call::ProcessId;
use crate::capture::{Capture, ProcessEvent, ProcessEventKind, Slot, TraceError};
use crate::process::{
    AgentInfo, Decision, InspectError, ProcFs, Process, Reason, Rules, resource, resource_of_child,
};
use crate::span::Resource;

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
    /// Sockets that are told from this moment on are new: those it had were listed before.
    pub known_from_ns: u64,
    /// When it exited.
    pub gone_ns: Option<u64>,
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
    /// It exited, or is no longer allowed.
    Gone {
        /// Which.
        id: ProcessId,
        /// CLOCK_MONOTONIC.
        at_ns: u64,
    },
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
    next: u64,
    /// Kernel books of processes that are gone, summed up.
    departed: ProcessSlot,
    /// Kernel books of slots whose process was gone, or something else, before it could be looked at.
    unattributed: ProcessSlot,
    /// Processes that could not be traced although a rule allows them.
    pub failed: u64,
}

impl Selection {
    /// Nothing traced yet.
    pub fn new(procfs: ProcFs, rules: Rules, agent: AgentInfo) -> Self {
        Self {
            procfs,
            rules,
            agent,
            by_id: HashMap::new(),
            by_slot: HashMap::new(),
            by_pid: HashMap::new(),
            leaving: VecDeque::new(),
            leaving_slots: HashSet::new(),
            next: 0,
            departed: Capture::NO_BOOKS,
            unattributed: Capture::NO_BOOKS,
            failed: 0,
        }
    }

    /// The process in a slot.
    pub fn by_slot(&self, slot: Slot) -> Option<&Traced> {
        self.by_slot.get(&slot).and_then(|id| self.by_id.get(id))
    }

    /// A process.
    pub fn get(&self, id: ProcessId) -> Option<&Traced> {
        self.by_id.get(&id)
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
                self.consider(pid, true, capture, changed);
            }
        }
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
                if let Some(slot) = event.slot.filter(|slot| !self.by_slot.contains_key(slot)) {
                    // A child that could not be looked at when it was forked: it begins anew here.
                    capture.untrace(pid, slot);
                    self.leave(event.at_ns, slot, None);
                } else if event.slot.is_none() {
                    // A thread other than the leader executed: it became the leader, and the kernel's mark
                    // went with the old one.
                    self.let_go(pid, event.at_ns, changed);
                }
                if self.by_pid.contains_key(&pid) {
                    self.reconsider(pid, event.at_ns, capture, changed);
                } else {
                    self.consider(pid, event.kind == ProcessEventKind::Listen, capture, changed);
                }
            }
            ProcessEventKind::Fork => {
                if event.slot.is_some() {
                    capture.slot_taken();
                }
                let Some(slot) = event.slot else {
                    self.failed += 1;
                    return;
                };
                // One that isn't visible here gives its slot back when it exits.
                let Some(pid) = event.pid else { return };
                let Ok(process) = self.procfs.inspect(pid) else {
                    return self.enter_gone(pid, slot, event, changed);
                };
                let parent = event.parent_slot.and_then(|slot| self.by_slot(slot));
                // It may have executed something else by now.
                if parent.is_some_and(|parent| parent.process.exe == process.exe)
                    || self.allows(&process, parent.is_some())
                {
                    self.enter(process, slot, false, changed);
                } else {
                    capture.untrace(pid, slot);
                    self.leave(event.at_ns, slot, None);
                }
            }
            ProcessEventKind::Exit(_) => {
                let Some(slot) = event.slot else { return };
                let id = self.by_slot.get(&slot).copied();
                self.leave(event.at_ns, slot, id);
                let traced = id.and_then(|id| self.by_id.get_mut(&id));
                // One that was let go before has nothing more to end.
                if let Some(traced) = traced.filter(|traced| traced.gone_ns.is_none()) {
                    traced.gone_ns = Some(event.at_ns);
                    self.by_pid.remove(&traced.process.pid);
                    tracing::info!(pid = traced.process.pid, "traced process exited");
                    changed(Change::Gone { id: traced.id, at_ns: event.at_ns });
                }
            }
        }
    }

    /// Gives back the slots of processes that are gone for long enough, their books added to the rest.
    pub fn tick(
        &mut self,
        now_ns: u64,
        capture: &mut Capture,
        mut forgotten: impl FnMut(ProcessId),
    ) {
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

    fn consider(
        &mut self,
        pid: i32,
        running: bool,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let process = match self.procfs.inspect(pid) {
            Ok(process) => process,
            Err(InspectError::Gone { .. } | InspectError::NoProgram { .. }) => return,
            Err(error) => {
                tracing::debug!(pid, %error, "can't inspect process");
                return;
            }
        };
        if !self.allows(&process, false) {
            return;
        }
        match capture.trace(pid) {
            Ok(slot) => self.enter(process, slot, running, changed),
            Err(error) => {
                self.failed += 1;
                match error {
                    TraceError::Full(_) => tracing::error!(pid, %error, "can't trace process"),
                    TraceError::System(..) => tracing::warn!(pid, %error, "can't trace process"),
                }
            }
        }
    }

    /// Whether the rules allow a process, or it is a worker of one that they allow: a rule that names a port
    /// or a command line means the service, of which the worker is a part.
    fn allows(&self, process: &Process, of_a_traced_one: bool) -> bool {
        match self.rules.decide(process) {
            Decision::Traced { .. } => true,
            Decision::NotTraced { reason: Reason::NoRule } => of_a_traced_one && is_worker(process),
            Decision::NotTraced { .. } => false,
        }
    }

    /// A traced process executed another program, or listens on another port.
    fn reconsider(
        &mut self,
        pid: i32,
        at_ns: u64,
        capture: &mut Capture,
        changed: &mut impl FnMut(Change),
    ) {
        let Ok(process) = self.procfs.inspect(pid) else { return };
        let allowed = self.allows(&process, true);
        let Some(id) = self.by_pid.get(&pid).copied() else { return };
        let Some(traced) = self.by_id.get_mut(&id) else { return };
        let same_program =
            traced.process.exe == process.exe && traced.process.command == process.command;
        if allowed {
            if !same_program {
                traced.resource = Arc::new(resource(&self.procfs, &process, &self.agent));
            }
            traced.process = process;
            return;
        }
        // What it was allowed for is over: it executed something else.
        if !same_program {
            capture.untrace(pid, traced.slot);
            self.let_go(pid, at_ns, changed);
        }
    }

    /// A process that lives on is not traced any more.
    fn let_go(&mut self, pid: i32, at_ns: u64, changed: &mut impl FnMut(Change)) {
        let Some(id) = self.by_pid.remove(&pid) else { return };
        let Some(traced) = self.by_id.get_mut(&id) else { return };
        traced.gone_ns = Some(at_ns);
        let slot = traced.slot;
        self.leave(at_ns, slot, Some(id));
        changed(Change::Gone { id, at_ns });
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
        slot: Slot,
        found_running: bool,
        changed: &mut impl FnMut(Change),
    ) {
        let resource = resource(&self.procfs, &process, &self.agent);
        self.enter_as(process, resource, slot, changed, found_running);
    }

    /// A child that lived for less time than it takes to look: it was what its parent is.
    fn enter_gone(
        &mut self,
        pid: i32,
        slot: Slot,
        event: &ProcessEvent,
        changed: &mut impl FnMut(Change),
    ) {
        let Some(parent) = event.parent_slot.and_then(|slot| self.by_slot(slot)) else { return };
        let child = parent.process.child(pid, event.at_ns);
        let resource = resource_of_child(&parent.resource, &parent.process, &child, &self.agent);
        self.enter_as(child, resource, slot, changed, false);
    }

    fn enter_as(
        &mut self,
        process: Process,
        resource: Resource,
        slot: Slot,
        changed: &mut impl FnMut(Change),
        found_running: bool,
    ) {
        self.next += 1;
        let id = ProcessId(self.next);
        let resource = Arc::new(resource);
        tracing::info!(
            pid = process.pid,
            service = resource.text(opentelemetry_semantic_conventions::attribute::SERVICE_NAME),
            runtime = process.runtime.word(),
            "tracing process"
        );
        self.by_slot.insert(slot, id);
        self.by_pid.insert(process.pid, id);
        let known_from_ns = if found_running { u64::MAX } else { 0 };
        let traced = Traced { id, slot, process, resource, known_from_ns, gone_ns: None };
        self.by_id.insert(id, traced);
        changed(Change::Traced { id, found_running });
    }
}

/// A process that its parent started as a part of itself: a Node.js cluster worker or fork, a Python
/// multiprocessing child by spawn or forkserver.
fn is_worker(process: &Process) -> bool {
    process.environment.get("NODE_CHANNEL_FD").is_some()
        || process.environment.get("NODE_UNIQUE_ID").is_some()
        || process.command.iter().any(|argument| {
            argument == "--multiprocessing-fork" || argument.starts_with("from multiprocessing.")
        })
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
    pairs(&mut sum.recorded_operations, &books.recorded_operations);
    pairs(&mut sum.dropped_operations, &books.dropped_operations);
    pairs(&mut sum.dropped_bytes, &books.dropped_bytes);
    pairs(&mut sum.captured_bytes, &books.captured_bytes);
    pairs(&mut sum.uncaptured_bytes, &books.uncaptured_bytes);
    sum.peeks += books.peeks;
    sum.dropped_records += books.dropped_records;
}
