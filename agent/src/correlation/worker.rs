//! A thread that works on jobs, one after the other: which of them its calls are made for.
//!
//! A job may be taken by another thread, or another process, than works on it. What shows who does are the commands
//! by which the worker says that it begins, acknowledges, or is done. The argument is in the documentation of
//! [`super`].

use std::collections::VecDeque;

use super::process::Verdict;
use crate::call::{CallId, Withheld};

/// Jobs that it has to say that it is done with before it is believed to take one at a time.
const RUNS: u32 = 8;

/// Jobs of the thread that are remembered.
const MAX_STINTS: usize = 1024;

/// One job, as far as this thread has to do with it.
#[derive(Clone, Copy, Debug)]
struct Stint {
    id: CallId,
    /// When it was taken from its queue, by whomever.
    taken: u64,
    /// This thread took it.
    read: bool,
    /// Of its kind every job is seen to be taken and to end.
    seen: bool,
    /// When this thread is known to have begun with it.
    began: Option<u64>,
    /// By when whoever works on it had begun.
    accepted: Option<u64>,
    over: Option<Over>,
}

#[derive(Clone, Copy, Debug)]
struct Over {
    at: u64,
    /// This thread said so.
    here: bool,
}

impl Stint {
    fn is_begun_at(&self, at: u64) -> bool {
        self.began.is_some_and(|began| began <= at) && self.over.is_none_or(|over| at <= over.at)
    }

    fn is_read_at(&self, at: u64) -> bool {
        self.read && self.taken <= at && self.over.is_none_or(|over| at <= over.at)
    }

    fn settled_here(&self) -> Option<u64> {
        self.over.filter(|over| over.here).map(|over| over.at)
    }
}

/// One thread.
#[derive(Debug, Default)]
pub(super) struct Worker {
    stints: VecDeque<Stint>,
    /// Of so many jobs that it took it has to say that it is done, before it is believed to work on one at a time.
    doubted: u32,
    /// Nothing up to this moment is certain.
    blind_until: Option<u64>,
}

impl Worker {
    /// Says something of one, and returns what is known of it then.
    fn stint(&mut self, id: CallId, taken: u64, tell: impl FnOnce(&mut Stint)) -> Stint {
        if let Some(stint) = self.stints.iter_mut().find(|stint| stint.id == id) {
            tell(stint);
            return *stint;
        }
        if self.stints.len() >= MAX_STINTS
            && self.stints.pop_front().is_some_and(|stint| stint.over.is_none())
        {
            self.lose(taken);
        }
        let (read, seen, began, accepted, over) = (false, false, None, None, None);
        let mut stint = Stint { id, taken, read, seen, began, accepted, over };
        tell(&mut stint);
        self.stints.push_back(stint);
        stint
    }

    /// It took the job from its queue. `seen`: of this kind every job is seen to be taken and to end.
    pub(super) fn read(&mut self, id: CallId, at: u64, seen: bool) {
        self.stint(id, at, |stint| (stint.read, stint.seen) = (true, seen));
    }

    /// It begins with the job.
    pub(super) fn begins(&mut self, id: CallId, taken: u64, at: u64) {
        self.stint(id, taken, |stint| stint.began = stint.began.max(Some(at)));
    }

    /// It says that it is done with the job. `accepted`: by when whoever works on it had begun.
    pub(super) fn settles(&mut self, id: CallId, taken: u64, accepted: Option<u64>, at: u64) {
        let Stint { read, .. } = self.stint(id, taken, |stint| {
            stint.accepted = accepted;
            stint.over = Some(Over { at, here: true });
        });
        self.doubted = self.doubted.saturating_sub(u32::from(read));
    }

    /// The job is over, and another said so, or nobody.
    pub(super) fn over(&mut self, id: CallId, at: u64) {
        let stint = self.stints.iter_mut().find(|stint| stint.id == id && stint.over.is_none());
        if let Some(stint) = stint {
            stint.over = Some(Over { at, here: false });
            if stint.read {
                self.doubt();
            }
        }
    }

    /// It may have taken jobs that nobody saw, or that it works on later.
    pub(super) fn doubt(&mut self) {
        self.doubted = RUNS;
    }

    /// What it said may have passed unseen up to `at`.
    pub(super) fn lose(&mut self, at: u64) {
        self.stints.clear();
        self.doubt();
        self.blind_until = self.blind_until.max(Some(at));
    }

    /// What is older is asked for no more.
    pub(super) fn forget(&mut self, before: u64) {
        let old = |stint: &Stint| stint.over.is_some_and(|over| over.at < before);
        while self.stints.front().is_some_and(old) {
            self.stints.pop_front();
        }
    }

    /// Whose a call of this thread's is that was made at `at`; `None`: it may show yet. All of before `heard` was
    /// told.
    pub(super) fn verdict(&self, at: u64, heard: u64) -> Option<Verdict> {
        let concurrent = Some(Verdict::Withheld(Withheld::Concurrent));
        if self.blind_until >= Some(at) {
            return Some(Verdict::Withheld(Withheld::Lost));
        }
        let mut begun = self.stints.iter().filter(|stint| stint.is_begun_at(at));
        match (begun.next(), begun.next()) {
            (Some(_), Some(_)) => return concurrent,
            // Only what it says itself shows that it worked on nothing else meanwhile.
            (Some(Stint { id, over, .. }), None) => {
                return match over {
                    Some(Over { here: true, .. }) => Some(Verdict::Parent(*id)),
                    Some(Over { here: false, .. }) => concurrent,
                    None => None,
                };
            }
            (None, _) => {}
        }
        let settled = self.stints.iter().filter_map(|stint| Some((stint.settled_here()?, stint)));
        let after = settled.clone().filter(|(end, _)| at <= *end);
        let (end, next) = after.min_by_key(|(end, _)| *end)?;
        // One before it may be told later.
        if end > heard {
            return None;
        }
        if next.taken > at {
            return Some(Verdict::Withheld(Withheld::LateWork));
        }
        let before = settled.map(|(end, _)| end).filter(|end| *end < at).max();
        let is_alone = next.read
            && next.seen
            && self.doubted == 0
            && before.is_none_or(|before| before <= next.taken)
            && self.stints.iter().filter(|stint| stint.is_read_at(at)).count() == 1;
        let is_accepted = next.accepted.is_some_and(|accepted| accepted < at);
        if is_accepted || is_alone { Some(Verdict::Parent(next.id)) } else { concurrent }
    }

    /// Whether it works on nothing, as far as is known.
    pub(super) fn is_idle(&self) -> bool {
        self.stints.iter().all(|stint| stint.over.is_some())
    }
}
