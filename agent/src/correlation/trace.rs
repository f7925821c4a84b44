//! Ids: a call's trace is its parent's, up the chain, and frozen once it is given out.
//!
//! Also here: how a decided parent is taken on, and the placement that leaves the engine.

use std::sync::Arc;

use super::Engine;
use super::finished::Request;
use super::process::Verdict;
use super::schedule::Due;
use super::state::{Call, Far, Parent, Trace};
use crate::call::{
    CallId, LinkReason, Origin, ParentStatus, Placement, RemoteParent, Role, Withheld,
};

/// A root's flags: sampled (W3C Trace Context level 1) and random (level 2, the ids are random).
pub(super) const ROOT_FLAGS: u8 = 0x03;
/// The flags that are passed on; the others are reserved and must be zero in a version 00 header.
const KNOWN_FLAGS: u8 = 0x03;
/// Longer chains of calls on one node are not followed.
const MAX_DEPTH: usize = 256;
/// The least a decision is put off, so that time passes.
const TICK_NS: u64 = 1_000_000;

pub(super) fn continued(remote: &RemoteParent) -> Trace {
    Trace {
        id: remote.parent.trace_id,
        flags: remote.parent.flags & KNOWN_FLAGS,
        state: remote.state.as_deref().map(Arc::from),
        continued: true,
    }
}

impl Engine {
    pub(super) fn fresh_trace(&mut self) -> Trace {
        Trace { id: self.ids.trace_id(), flags: ROOT_FLAGS, state: None, continued: false }
    }

    /// Whether `from` is `to` or below it.
    pub(super) fn leads_to(&self, from: CallId, to: CallId) -> bool {
        let mut at = from;
        for _ in 0..MAX_DEPTH {
            if at == to {
                return true;
            }
            match self.calls.get(&at).map(|call| call.parent) {
                Some(Parent::Local(parent)) => at = parent,
                _ => return false,
            }
        }
        // Too long to tell: better no parent than a circle.
        true
    }

    /// Makes `parent` the parent of `child`.
    pub(super) fn adopt(&mut self, child: CallId, parent: CallId) {
        self.set_parent(child, Parent::Local(parent));
        if let Some(parent) = self.calls.get_mut(&parent) {
            parent.dependents += 1;
        }
    }

    /// Changes the parent, and releases the one before.
    pub(super) fn set_parent(&mut self, child: CallId, parent: Parent) {
        let Some(call) = self.calls.get_mut(&child) else { return };
        if let Parent::Local(old) = std::mem::replace(&mut call.parent, parent) {
            self.release_parent(old);
        }
    }

    pub(super) fn release_parent(&mut self, parent: CallId) {
        if let Some(parent) = self.calls.get_mut(&parent) {
            parent.dependents = parent.dependents.saturating_sub(1);
        }
        self.try_remove(parent);
    }

    /// Takes a rule's verdict on a client call.
    pub(super) fn decide(&mut self, id: CallId, verdict: Verdict, at: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        if call.parent != Parent::Undecided || call.abandoned {
            return;
        }
        let process = call.process;
        let own = (verdict == Verdict::Root).then(|| self.own_program(id)).flatten();
        if let Some((parent, trace)) = own {
            self.set_parent(id, parent);
            if let Some(call) = self.calls.get_mut(&id) {
                call.trace = Some(trace);
            }
            return;
        }
        let Some(call) = self.calls.get(&id) else { return };
        let otherwise = |parent| if call.remote.is_some() { Parent::Remote } else { parent };
        let parent = match verdict {
            Verdict::Root => otherwise(Parent::Root),
            Verdict::Withheld(reason) => otherwise(Parent::Withheld(reason)),
            Verdict::After(request) => otherwise(Parent::After(request.origin)),
            Verdict::Parent(parent) => {
                let usable = self
                    .calls
                    .get(&parent)
                    .is_some_and(|parent| !parent.abandoned && parent.is_work_of(process));
                if usable && !self.leads_to(parent, id) {
                    self.adopt(id, parent);
                    // Not for its own sake: while the parent is surely there.
                    let _not_yet = self.settle(id, at, false);
                    return;
                }
                otherwise(Parent::Withheld(Withheld::Lost))
            }
        };
        self.set_parent(id, parent);
    }

    /// Decides a server call that no client call was found for.
    fn fall_back(&mut self, id: CallId) {
        let remote = self.calls.get(&id).is_some_and(|call| call.remote.is_some());
        self.set_parent(id, if remote { Parent::Remote } else { Parent::Root });
    }

    /// Its parent's span will not exist, or is of another trace.
    fn orphan(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let header = call.remote.as_ref().map(|remote| remote.parent.trace_id);
        let frozen = call.trace.as_ref().map(|trace| trace.id);
        let fits = header.is_some() && (frozen.is_none() || frozen == header);
        self.set_parent(id, if fits { Parent::Remote } else { Parent::Withheld(Withheld::Lost) });
    }

    /// Freezes the call's trace, and that of the calls above it that have none yet. `force`: also where
    /// something is undecided.
    ///
    /// # Errors
    /// The time at which to ask again, where the chain is undecided.
    pub(super) fn settle(&mut self, id: CallId, at: u64, force: bool) -> Result<(), u64> {
        let mut below = Vec::new();
        let mut top = id;
        let mut trace = loop {
            let Some(call) = self.calls.get(&top) else { return Ok(()) };
            if let Some(trace) = &call.trace {
                break trace.clone();
            }
            let trace = match call.parent {
                Parent::Undecided if call.receives() => {
                    if force || at >= call.due {
                        self.decide_receiver(top);
                        continue;
                    }
                    return Err(call.due.max(at.saturating_add(TICK_NS)));
                }
                Parent::Undecided if call.role == Role::Server => {
                    let far = self.sockets.get(&call.socket).map(|socket| socket.far);
                    if force || at >= call.due || far == Some(Far::Untraced) {
                        self.fall_back(top);
                        continue;
                    }
                    return Err(call.due.max(at.saturating_add(TICK_NS)));
                }
                Parent::Undecided if !force => {
                    return Err(call.due.max(at.saturating_add(TICK_NS)));
                }
                Parent::Local(parent) => {
                    if self.calls.get(&parent).is_some_and(|parent| !parent.abandoned)
                        && below.len() < MAX_DEPTH
                    {
                        below.push(top);
                        top = parent;
                    } else {
                        self.orphan(top);
                    }
                    continue;
                }
                Parent::Remote => call.remote.as_ref().map(continued),
                Parent::Undecided
                | Parent::Root
                | Parent::Program(_)
                | Parent::Withheld(_)
                | Parent::After(_)
                | Parent::Sender(..) => None,
            };
            let trace = match trace {
                Some(trace) => trace,
                None => self.fresh_trace(),
            };
            if let Some(call) = self.calls.get_mut(&top) {
                call.trace = Some(trace.clone());
            }
            break trace;
        };
        for id in below.into_iter().rev() {
            let Some(call) = self.calls.get(&id) else { break };
            // The application's own header outranks what was found here, unless both say the same trace.
            if call.role == Role::Client
                && let Some(remote) = &call.remote
                && remote.parent.trace_id != trace.id
            {
                trace = continued(remote);
                self.set_parent(id, Parent::Remote);
            }
            if let Some(call) = self.calls.get_mut(&id) {
                call.trace = Some(trace.clone());
            }
        }
        Ok(())
    }

    /// Gives the placement out if the call ended and its chain is settled; else asks again later.
    pub(super) fn emit(&mut self, id: CallId, at: u64) -> Option<Placement> {
        let call = self.calls.get(&id).filter(|call| call.is_live())?;
        let end = call.end?;
        let deadline = end.saturating_add(self.config.deadline_ns);
        // A client call's own decision has its own time; only what is above it can be late.
        let force = at >= deadline;
        if call.role == Role::Client && call.parent == Parent::Undecided && !call.receives() {
            self.schedule.push(call.due.max(at.saturating_add(TICK_NS)), Due::Emit(id));
            return None;
        }
        if call.found_nothing && !self.is_asked_for(call) {
            self.give_up(id, at);
            self.books.silent += 1;
            self.silenced.push(id);
            return None;
        }
        if let Err(again) = self.settle(id, at, force) {
            let again = again.min(deadline).max(at.saturating_add(1));
            self.schedule.push(again, Due::Emit(id));
            return None;
        }
        self.find_sender(id);
        let links = match self.links(id, at, force) {
            Ok(links) => links,
            Err(again) => {
                let again = again.min(deadline).max(at.saturating_add(1));
                self.schedule.push(again, Due::Emit(id));
                return None;
            }
        };
        self.check_parent(id);
        let unwanted = self.is_unwanted(id);
        if let Some(call) = self.calls.get_mut(&id) {
            call.unwanted = unwanted;
        }
        let mut placement = self.placement(id)?;
        for link in links {
            if !placement.links.iter().any(|(known, _)| *known == link) {
                placement.links.push((link, LinkReason::Message));
            }
        }
        self.books.place(placement.status);
        self.remember(&placement);
        self.settle_message(id, !placement.unwanted);
        self.release_senders(id);
        self.placed(id, at);
        Some(placement)
    }

    /// A request that was in flight made the call, or another has been told that this is its parent. The work that
    /// a job or a message is doesn't count: who handles it asks for the next one before it is done.
    fn is_asked_for(&self, call: &Call) -> bool {
        let by_request = match call.parent {
            Parent::Local(parent) => self.calls.get(&parent).is_some_and(|parent| {
                let is_request = parent.role == Role::Server && !parent.handled;
                is_request && !parent.abandoned && parent.in_flight_at(call.start)
            }),
            Parent::Remote => true,
            _ => false,
        };
        by_request || call.dependents > 0 || call.named > 0
    }

    /// Of a request with a context: what goes on with its work long after is linked to it.
    fn remember(&mut self, placement: &Placement) {
        let Some(call) = self.calls.get(&placement.id) else { return };
        if !call.is_work() {
            return;
        }
        let &Placement { trace_id, span_id, .. } = placement;
        let request = Request { origin: Origin { trace_id, span_id }, strand: call.strand };
        for (process, context) in call.contexts() {
            if let Some(process) = self.processes.get_mut(&process) {
                process.has_span(context, request);
            }
        }
    }

    /// What was the parent when it was decided may not be one any more.
    fn check_parent(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let Parent::Local(parent) = call.parent else { return };
        let trace = call.trace.as_ref().map(|trace| trace.id);
        let stands = self.calls.get(&parent).is_some_and(|parent| {
            !parent.abandoned && parent.trace.as_ref().map(|trace| trace.id) == trace
        });
        if !stands {
            self.orphan(id);
        }
    }

    /// Whether a call or one above it is unwanted. Of those above it that were placed, their own mark says so.
    fn is_unwanted(&self, id: CallId) -> bool {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let Some(call) = self.calls.get(&at) else { return false };
            match call.parent {
                _ if call.unwanted => return true,
                Parent::Local(parent) if !call.placed => at = parent,
                _ => return false,
            }
        }
        false
    }

    fn placement(&self, id: CallId) -> Option<Placement> {
        let call: &Call = self.calls.get(&id)?;
        let trace = call.trace.as_ref()?;
        let remote = call.remote.as_ref().map(|remote| remote.parent.span_id);
        let (parent_span_id, parent_call, status) = match call.parent {
            Parent::Local(parent) => {
                let span = self.calls.get(&parent).map(|parent| parent.span);
                (span, Some(parent), ParentStatus::Certain)
            }
            Parent::Remote => (remote, None, ParentStatus::Certain),
            Parent::Program(program) => (Some(program), None, ParentStatus::Certain),
            Parent::Sender(sender, origin) => {
                (Some(origin.span_id), Some(sender), ParentStatus::Certain)
            }
            Parent::Withheld(reason) => (None, None, ParentStatus::Withheld(reason)),
            Parent::Root | Parent::Undecided | Parent::After(_) => (None, None, ParentStatus::Root),
        };
        let linked = call.mail.as_ref().is_some_and(|mail| mail.is_linked());
        let links = match (call.parent, &call.remote) {
            (Parent::After(origin), _) => vec![(origin, LinkReason::LateWork)],
            // What it carries would be its parent.
            (_, Some(RemoteParent { parent, .. })) if linked => {
                let origin = Origin { trace_id: parent.trace_id, span_id: parent.span_id };
                vec![(origin, LinkReason::Message)]
            }
            _ => Vec::new(),
        };
        Some(Placement {
            id,
            trace_id: trace.id,
            span_id: call.span,
            parent_span_id,
            parent_is_remote: call.parent == Parent::Remote,
            parent_call,
            peer_call: call.peer,
            trace_flags: trace.flags,
            continued: trace.continued,
            trace_state: trace.state.as_deref().map(Box::from),
            status,
            links,
            sent_at_ns: call.mail.as_ref().and_then(|mail| mail.sent_at()),
            unwanted: call.unwanted,
        })
    }

    fn placed(&mut self, id: CallId, at: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.placed = true;
        let parent = call.parent;
        let keep = match call.role {
            Role::Client if call.held => self.config.keep_client_ns,
            // A context's work can go on for a while after its request, and for a message after it was read.
            _ if call.handled || (call.role == Role::Server && call.task.context != 0) => {
                self.config.late_work_ns.saturating_add(self.config.window_ns())
            }
            Role::Client | Role::Server => self.config.window_ns(),
        };
        self.schedule.push(at.saturating_add(keep), Due::Forget(id));
        if let Parent::Local(parent) = parent {
            if let Some(parent) = self.calls.get_mut(&parent) {
                parent.named += 1;
            }
            // It keeps its parent's name, but needs it no longer.
            self.release_parent(parent);
        }
    }
}
