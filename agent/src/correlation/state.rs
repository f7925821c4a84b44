//! One call as the engine holds it, and its socket: what the stages of a decision have found out so far.

use std::collections::VecDeque;
use std::sync::Arc;

use wirespan_protocols::w3c::{SpanId, TraceId};

use super::messages::Mail;
use crate::call::{CallId, Origin, ProcessId, RemoteParent, Role, SocketId, Task, Withheld};

/// What follows the parent down a chain.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) id: TraceId,
    pub(super) flags: u8,
    pub(super) state: Option<Arc<str>>,
    /// It came over the wire.
    pub(super) continued: bool,
}

/// Where a call's parent is, as far as it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    Undecided,
    Root,
    /// What its process runs. Its trace is given with it.
    Program(SpanId),
    Withheld(Withheld),
    /// None, but this request asked for it.
    After(Origin),
    /// The sender of what it received. Its span is out.
    Sender(CallId, Origin),
    /// The call's own headers say.
    Remote,
    Local(CallId),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) process: ProcessId,
    pub(super) socket: SocketId,
    pub(super) role: Role,
    pub(super) task: Task,
    pub(super) start: u64,
    pub(super) end: Option<u64>,
    pub(super) remote: Option<RemoteParent>,
    pub(super) span: SpanId,
    pub(super) parent: Parent,
    pub(super) peer: Option<CallId>,
    /// Frozen once it is set: it may have been given out.
    pub(super) trace: Option<Trace>,
    /// When the parent is decided at the latest.
    pub(super) due: u64,
    pub(super) abandoned: bool,
    /// Its end is that of its connection: its own may have been earlier, unseen.
    pub(super) broken_off: bool,
    pub(super) placed: bool,
    /// No new call can want it as its parent.
    pub(super) aged: bool,
    /// Its socket keeps it findable.
    pub(super) held: bool,
    /// It seemed to be made with nothing in flight.
    pub(super) suspect: bool,
    /// See [`crate::call::CallStarted::incidental`].
    pub(super) incidental: bool,
    /// The strand of its task that made it, or answered it; 0: not known.
    pub(super) strand: u32,
    /// It was made by code that its thread alone runs.
    pub(super) threads_own: bool,
    /// It is a message that the process handles.
    pub(super) handled: bool,
    /// No span is wanted of it, nor of what is below it.
    pub(super) unwanted: bool,
    /// See [`Engine::found_nothing`](super::Engine::found_nothing).
    pub(super) found_nothing: bool,
    /// Calls with this parent that are not placed yet.
    pub(super) dependents: u32,
    /// Calls with this parent that are placed.
    pub(super) named: u64,
    /// The messages that it sends or receives.
    pub(super) mail: Option<Box<Mail>>,
}

impl Call {
    /// Not placed yet, and it will be.
    pub(super) fn is_live(&self) -> bool {
        !self.placed && !self.abandoned
    }

    /// See [`crate::call::CallStarted::receives`].
    pub(super) fn receives(&self) -> bool {
        self.mail.as_ref().is_some_and(|mail| mail.receives())
    }

    /// The logical tasks that work on it, and their processes.
    pub(super) fn contexts(&self) -> impl Iterator<Item = (ProcessId, u64)> {
        let own = (self.task.context != 0).then_some((self.process, self.task.context));
        let others = self.mail.as_ref().map_or(&[][..], |mail| mail.contexts());
        own.into_iter().chain(others.iter().copied())
    }

    /// The process works for it: a request, or a message that it handles.
    pub(super) fn is_work(&self) -> bool {
        self.role == Role::Server || self.handled
    }

    /// The process works for it: it received what that process, or one that it forked, handles.
    pub(super) fn is_work_of(&self, process: ProcessId) -> bool {
        let worker = self.mail.as_ref().and_then(|mail| mail.worked_by());
        let told = worker.into_iter().map(|(worker, _)| worker);
        let mut workers = told.chain(self.contexts().map(|(worker, _)| worker));
        self.is_work() && (self.process == process || workers.any(|worker| worker == process))
    }

    pub(super) fn in_flight_at(&self, at: u64) -> bool {
        self.start <= at && self.end.is_none_or(|end| at <= end)
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Far {
    /// Not told (yet).
    #[default]
    Unknown,
    /// It is traced on this node.
    Paired(SocketId),
    /// It is known not to be traced here.
    Untraced,
}

#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) far: Far,
    /// Offsets are the agent's own count: equal ones prove the same request only if times agree.
    pub(super) counted: bool,
    /// The calls that the other end's may still be matched with, oldest first.
    pub(super) calls: VecDeque<(u32, CallId)>,
    /// Server calls that may be in flight unseen.
    pub(super) ghosts: Vec<(ProcessId, CallId)>,
    pub(super) closed: bool,
    pub(super) opaque_in: Option<ProcessId>,
}
