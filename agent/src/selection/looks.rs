//! Processes that are to be looked at, each once, in the order in which they were named.
//!
//! `/proc` takes its time, and the thread that reads it is the one that drains the rings: a round looks at
//! a few, the others wait their turn here. None is lost; what is named again meanwhile waits once.

use std::collections::{HashMap, VecDeque};

use crate::call::ProcessId;

/// What is known of a process before it is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// It did things before that were not seen.
    pub(super) running: bool,
    /// The traced process that forked it.
    pub(super) parent: Option<ProcessId>,
    /// When it became another program, if it did: CLOCK_MONOTONIC.
    pub(super) executed_ns: Option<u64>,
    /// Records may have been lost: what is known of it has to be found true again.
    pub(super) anew: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Looks {
    order: VecDeque<i32>,
    by_pid: HashMap<i32, Look>,
}

impl Looks {
    /// Names a process.
    pub(super) fn add(&mut self, pid: i32, look: Look) {
        let mut is_new = false;
        let known = self.by_pid.entry(pid).or_insert_with(|| {
            is_new = true;
            Look::default()
        });
        known.running |= look.running;
        known.executed_ns = known.executed_ns.max(look.executed_ns);
        known.anew |= look.anew;
        known.parent = look.parent.or(known.parent);
        if is_new {
            self.order.push_back(pid);
        }
    }

    /// The one that has waited for the longest.
    pub(super) fn next(&mut self) -> Option<(i32, Look)> {
        let pid = self.order.pop_front()?;
        Some((pid, self.by_pid.remove(&pid).unwrap_or_default()))
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_looked_at_once_with_all_that_is_known_of_it() {
        let mut looks = Looks::default();
        let parent = Some(ProcessId(7));
        for pid in 1..=1_000 {
            looks.add(pid, Look { running: pid % 2 == 0, ..Look::default() });
        }
        looks.add(3, Look { running: true, parent, ..Look::default() });
        looks.add(3, Look { executed_ns: Some(9), ..Look::default() });
        looks.add(3, Look { anew: true, ..Look::default() });
        assert_eq!(looks.len(), 1_000);
        let seen: Vec<(i32, Look)> = std::iter::from_fn(|| looks.next()).collect();
        assert!(seen.iter().map(|(pid, _)| *pid).eq(1..=1_000));
        assert_eq!(seen[0].1, Look::default());
        assert_eq!(seen[2].1, Look { running: true, parent, executed_ns: Some(9), anew: true });
        assert_eq!(looks.len(), 0);
        // Looked at is not known for ever.
        looks.add(3, Look::default());
        assert_eq!(looks.next(), Some((3, Look::default())));
    }
}
