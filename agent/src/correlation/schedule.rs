//! What falls due when: decisions ordered by time, then by kind, then by arrival.
//!
//! A call leaves several here, one of them for half a minute. Only those of the present moment are kept in
//! order, in a heap that fits a cache; later ones wait in the bucket of their moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::call::{CallId, ProcessId, ProgramId, SocketId};

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
    /// A program that ended is told of.
    Program(ProgramId),
    /// A call need not be found any more.
    Forget(CallId),
    /// A server call of this process was abandoned: its request is over by now.
    Ghost(ProcessId, CallId),
    /// A closed socket's calls need not be found any more.
    Socket(SocketId),
    /// A process that is gone.
    Process(ProcessId),
}

/// Length of a bucket: 67 ms.
const BUCKET_BITS: u32 = 26;

type Entry = (u64, Due, u64);

#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// What is due in the buckets up to `reached`.
    heap: BinaryHeap<Reverse<Entry>>,
    /// What is due after it, by bucket, in no order.
    later: BTreeMap<u64, Vec<Entry>>,
    reached: u64,
    arrivals: u64,
}

impl Schedule {
    pub(super) fn push(&mut self, at: u64, due: Due) {
        self.arrivals += 1;
        let entry = (at, due, self.arrivals);
        match at >> BUCKET_BITS {
            bucket if bucket <= self.reached => self.heap.push(Reverse(entry)),
            bucket => self.later.entry(bucket).or_default().push(entry),
        }
    }

    /// The next one due at `now` or before, with its time.
    pub(super) fn pop(&mut self, now: u64) -> Option<(u64, Due)> {
        // One bucket at a time: nothing in a later one can come before what this one holds.
        while self.heap.is_empty() {
            let bucket = *self.later.first_key_value()?.0;
            if bucket > now >> BUCKET_BITS {
                return None;
            }
            self.reached = bucket;
            self.heap.extend(self.later.remove(&bucket)?.into_iter().map(Reverse));
        }
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, due, _))| (at, due))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len() + self.later.values().map(Vec::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The order is that of one sorted list, however pushes and pops mix.
        #[test]
        fn gives_everything_in_order(
            steps in proptest::collection::vec((0_u64..1 << 29, any::<bool>(), 0_u64..1 << 27), 0..200),
        ) {
            let mut schedule = Schedule::default();
            let mut list: Vec<Entry> = Vec::new();
            let mut now = 0;
            for (arrival, (at, is_late, step)) in (1..).zip(steps) {
                let at = if is_late { at } else { now + at / 8 };
                schedule.push(at, Due::Forget(CallId(at % 7)));
                list.push((at, Due::Forget(CallId(at % 7)), arrival));
                list.sort_unstable();
                now += step;
                // Not all at once: a pop may be followed by pushes that come before the rest.
                for _ in 0..2 {
                    let expected = list.first().filter(|entry| entry.0 <= now).copied();
                    if expected.is_some() {
                        list.remove(0);
                    }
                    prop_assert_eq!(schedule.pop(now), expected.map(|(at, due, _)| (at, due)));
                }
            }
            prop_assert_eq!(schedule.len(), list.len());
        }
    }
}
