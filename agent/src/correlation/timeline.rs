//! How many calls were in flight at a past moment, and which one if it was one.
//!
//! A sorted list of starts and ends, each with the running count and the running exclusive-or of the
//! calls' numbers: where the count is one, the exclusive-or is that call. A query is a binary search, an
//! insertion costs as much as it is late. What is older than the window is folded into a base.

use std::collections::VecDeque;

use crate::call::CallId;

/// Beyond this the oldest edges are folded away early, and moments before them can't be asked about.
const MAX_EDGES: usize = 65_536;

/// Calls in flight at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) open: i64,
    mix: u64,
}

impl Load {
    /// The call, where it is the only one.
    pub(super) fn only(self) -> Option<CallId> {
        (self.open == 1).then_some(CallId(self.mix))
    }

    /// The same without a call that is known to be among them.
    pub(super) fn without(mut self, id: CallId) -> Self {
        self.apply(id, true);
        self
    }

    fn apply(&mut self, id: CallId, ends: bool) {
        self.open += if ends { -1 } else { 1 };
        self.mix ^= id.0;
    }
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    at: u64,
    ends: bool,
    id: CallId,
    after: Load,
}

/// Starts and ends of calls, in order of time.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    base: Load,
    /// Nothing can be said of moments before this.
    floor: u64,
    edges: VecDeque<Edge>,
}

impl Timeline {
    pub(super) fn start(&mut self, id: CallId, at: u64) {
        self.insert(id, at, false);
    }

    /// Ends a call. It is in flight at `at` itself, no longer after it.
    pub(super) fn end(&mut self, id: CallId, at: u64) {
        self.insert(id, at, true);
    }

    fn insert(&mut self, id: CallId, at: u64, ends: bool) {
        if at < self.floor {
            self.base.apply(id, ends);
            self.edges.iter_mut().for_each(|edge| edge.after.apply(id, ends));
            return;
        }
        let mut position = self.edges.len();
        while let Some(before) = position.checked_sub(1).and_then(|i| self.edges.get(i)) {
            if (before.at, before.ends) <= (at, ends) {
                break;
            }
            position -= 1;
        }
        let mut after = match position.checked_sub(1).and_then(|i| self.edges.get(i)) {
            Some(before) => before.after,
            None => self.base,
        };
        after.apply(id, ends);
        self.edges.range_mut(position..).for_each(|edge| edge.after.apply(id, ends));
        self.edges.insert(position, Edge { at, ends, id, after });
    }

    /// The calls in flight at `at`; none when that is too long ago.
    pub(super) fn at(&self, at: u64) -> Option<Load> {
        if at < self.floor {
            return None;
        }
        Some(match self.before(at) {
            Some(edge) => edge.after,
            None => self.base,
        })
    }

    /// The last call that ended before `at`, and when, if nothing started since.
    pub(super) fn ended_before(&self, at: u64) -> Option<(CallId, u64)> {
        self.before(at).filter(|edge| edge.ends).map(|edge| (edge.id, edge.at))
    }

    fn before(&self, at: u64) -> Option<&Edge> {
        let end = self.edges.partition_point(|edge| edge.at < at || (edge.at == at && !edge.ends));
        end.checked_sub(1).and_then(|last| self.edges.get(last))
    }

    /// Folds away what happened before `before`, and what exceeds the cap.
    pub(super) fn fold(&mut self, before: u64) {
        while let Some(first) = self.edges.front() {
            if first.at >= before && self.edges.len() <= MAX_EDGES {
                break;
            }
            self.base = first.after;
            self.floor = self.floor.max(first.at.saturating_add(1));
            self.edges.pop_front();
        }
    }

    /// Nothing is in flight and nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.edges.is_empty() && self.base.open == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the order of insertion, it says what a plain scan of the intervals says.
        #[test]
        fn equals_a_scan(
            spans in prop::collection::vec((0_u64..60, 0_u64..20, any::<bool>()), 1..20),
            keys in prop::collection::vec(any::<u32>(), 40),
            fold in 0_u64..40,
        ) {
            let mut edges = Vec::new();
            for (i, (start, length, ends)) in spans.iter().enumerate() {
                let id = CallId(i as u64 + 1);
                edges.push((keys[2 * i], id, *start, false));
                if *ends {
                    edges.push((keys[2 * i + 1], id, start + length, true));
                }
            }
            edges.sort();
            let mut timeline = Timeline::default();
            let half = edges.len() / 2;
            for (i, (_, id, at, ends)) in edges.into_iter().enumerate() {
                if i == half {
                    timeline.fold(fold);
                }
                timeline.insert(id, at, ends);
            }
            for at in 0..90 {
                let open: Vec<u64> = spans.iter().enumerate()
                    .filter(|(_, (start, length, ends))| *start <= at && (!ends || start + length >= at))
                    .map(|(i, _)| i as u64 + 1)
                    .collect();
                let Some(load) = timeline.at(at) else {
                    prop_assert!(at < fold, "only what was folded is unknown");
                    continue;
                };
                prop_assert_eq!(load.open, open.len() as i64);
                prop_assert_eq!(load.only(), (open.len() == 1).then(|| CallId(open[0])));
            }
        }
    }
}
