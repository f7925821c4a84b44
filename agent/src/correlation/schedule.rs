//! What falls due when: a heap of decisions ordered by time, then by kind, then by arrival.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::call::{CallId, ProcessId, SocketId};

/// Something to do. The order of the variants is the order at one moment: evidence is weighed before
/// what rests on it, decisions come before what waits for them, forgetting comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Did this request leave work behind?
    LateWork(CallId),
    /// Place a client call by its own task, if that can be done.
    Early(CallId),
    /// Place a client call by what was in flight.
    Late(CallId),
    /// Give a call's placement out.
    Emit(CallId),
    /// A call need not be found any more.
    Forget(CallId),
    /// A server call of this process was abandoned: its request is over by now.
    Ghost(ProcessId, CallId),
    /// A closed socket's calls need not be found any more.
    Socket(SocketId),
    /// A process that is gone.
    Process(ProcessId),
}

#[derive(Debug, Default)]
pub(super) struct Schedule {
    heap: BinaryHeap<Reverse<(u64, Due, u64)>>,
    arrivals: u64,
}

impl Schedule {
    pub(super) fn push(&mut self, at: u64, due: Due) {
        self.arrivals += 1;
        self.heap.push(Reverse((at, due, self.arrivals)));
    }

    /// The next one due at `now` or before, with its time.
    pub(super) fn pop(&mut self, now: u64) -> Option<(u64, Due)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, due, _))| (at, due))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}
