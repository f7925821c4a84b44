//! A thread that works on jobs, one after the other: which of them its calls are made for.
//!
//! A job may be taken by another thread, or another process, than works on it. What shows who does are the commands
//! by which the worker says that it begins, acknowledges, or is done. The argument is in the documentation of
//! [`super`].

use std::collections::VecDeque;

use super::process::Verdict;
use crate::call::{CallId, Withheld};

/// Pauses after a job in which nothing was called, and jobs that were acknowledged and settled by the thread, before
/// that is relied on.
const RUNS: u32 = 8;

/// The shortest pause that shows anything: what goes on after a job's settlement follows at once.
const PAUSE_NS: u64 = 20_000_000;

/// Jobs of the thread that are remembered, and its calls since it last settled one.
const MAX_STINTS: usize = 1024;
const MAX_CALLS: usize = 4096;

/// One job, as far as this thread has to do with it.
#[derive(Clone, Copy, Debug)]
struct Stint {
    id: CallId,
    /// When it was taken from its queue, by whomever.
    taken: u64,
    /// This thread took it.
    read: bool,
    /// When this thread is known to have begun with it.
    began: Option<Began>,
    /// By when whoever works on it had begun.
    accepted: Option<u64>,
    over: Option<Over>,
}

#[derive(Clone, Copy, Debug)]
struct Began {
    at: u64,
    /// Its end will be told.
    sure: bool,
}

#[derive(Clone, Copy, Debug)]
struct Over {
    at: u64,
    /// This thread said so.
    here: bool,
}

impl Stint {
    fn is_begun_at(&self, at: u64) -> bool {
        self.began.is_some_and(|began| began.at <= at) && self.over.is_none_or(|over| at <= over.at)
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
    /// When it made calls, since the first of the pauses.
    calls: VecDeque<u64>,
    settled_at: Option<u64>,
    /// From a settlement to when what it settled next was taken: not looked at yet, because more may be told.
    pauses: VecDeque<(u64, u64)>,
    /// Pauses after a settlement in which it called nothing.
    well: u32,
    /// It was seen to call something after a settlement, with nothing to do.
    late: bool,
    /// Jobs that it acknowledged and then settled, one after the other.
    kept: u32,
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
        let (read, began, accepted, over) = (false, None, None, None);
        let mut stint = Stint { id, taken, read, began, accepted, over };
        tell(&mut stint);
        self.stints.push_back(stint);
        stint
    }

    /// It took the job from its queue.
    pub(super) fn read(&mut self, id: CallId, at: u64) {
        self.stint(id, at, |stint| stint.read = true);
    }

    /// It begins with the job. `sure`: it will say when it is done.
    pub(super) fn begins(&mut self, id: CallId, taken: u64, at: u64, sure: bool) {
        self.stint(id, taken, |stint| {
            let is_known = stint.began.is_some_and(|began| began.sure && !sure);
            if !is_known {
                stint.began = Some(Began { at, sure });
            }
        });
    }

    /// It made a call.
    pub(super) fn called(&mut self, at: u64) {
        self.calls.push_back(at);
        if self.calls.len() > MAX_CALLS {
            self.calls.pop_front();
            self.pauses.clear();
            self.well = 0;
        }
    }

    /// It says that it is done with the job. `accepted`: by when whoever works on it had begun.
    pub(super) fn settles(&mut self, id: CallId, taken: u64, accepted: Option<u64>, at: u64) {
        let Stint { read, began, .. } = self.stint(id, taken, |stint| {
            stint.accepted = accepted;
            stint.over = Some(Over { at, here: true });
        });
        self.kept += u32::from(began.is_some());
        self.doubted = self.doubted.saturating_sub(u32::from(read));
        if let Some(before) = self.settled_at.filter(|before| *before < taken) {
            self.pauses.push_back((before, taken));
        }
        if self.pauses.len() > MAX_STINTS {
            self.pauses.pop_front();
        }
        self.settled_at = self.settled_at.max(Some(at));
    }

    /// All of before `heard` was told: did it call anything in its pauses?
    fn follow(&mut self, heard: u64) {
        while let Some(&(before, taken)) = self.pauses.front().filter(|(_, end)| *end <= heard) {
            self.pauses.pop_front();
            let called = self.calls.iter().any(|call| before < *call && *call < taken);
            self.late |= called;
            self.well += u32::from(!called && taken - before >= PAUSE_NS);
        }
        let since = self.pauses.front().map(|(before, _)| *before).or(self.settled_at);
        self.calls.retain(|call| Some(*call) >= since);
    }

    /// The job is over, and another said so, or nobody.
    pub(super) fn over(&mut self, id: CallId, at: u64) {
        let stint = self.stints.iter_mut().find(|stint| stint.id == id && stint.over.is_none());
        if let Some(stint) = stint {
            stint.over = Some(Over { at, here: false });
            let (read, began) = (stint.read, stint.began.is_some());
            self.kept = if began { 0 } else { self.kept };
            if read {
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
        self.calls.clear();
        self.pauses.clear();
        self.settled_at = None;
        self.well = 0;
        self.kept = 0;
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
    pub(super) fn verdict(&mut self, at: u64, heard: u64) -> Option<Verdict> {
        self.follow(heard);
        let concurrent = Some(Verdict::Withheld(Withheld::Concurrent));
        if self.blind_until >= Some(at) {
            return Some(Verdict::Withheld(Withheld::Lost));
        }
        let mut begun = self.stints.iter().filter(|stint| stint.is_begun_at(at));
        match (begun.next(), begun.next()) {
            (Some(_), Some(_)) => return concurrent,
            (Some(Stint { id, began, over, .. }), None) => {
                let told = began.is_some_and(|began| began.sure) || self.kept >= RUNS;
                return match over {
                    Some(Over { here: true, .. }) => Some(Verdict::Parent(*id)),
                    None if told => Some(Verdict::Parent(*id)),
                    Some(Over { here: false, .. }) if told => Some(Verdict::Parent(*id)),
                    Some(_) => concurrent,
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
            && self.doubted == 0
            && before.is_none_or(|before| before <= next.taken)
            && self.stints.iter().filter(|stint| stint.is_read_at(at)).count() == 1;
        let is_accepted = next.accepted.is_some_and(|accepted| accepted < at);
        if is_accepted || is_alone || (self.well >= RUNS && !self.late) {
            return Some(Verdict::Parent(next.id));
        }
        concurrent
    }
}
