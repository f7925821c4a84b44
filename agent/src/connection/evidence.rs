//! May pairing begin anew on a connection that is never silent? Judged by times.
//!
//! A parser that lost track counts requests against answers, on the assumption that nothing was owed when it
//! began. If something was, then at every moment when all that was counted is answered the server still owes
//! an answer. Were that so, a client that pauses would be answered within its pause, and the parser would see
//! an answer too many. So pauses are counted at such moments, and only those that are many times longer than
//! the server takes on average for what is counted. A client in lockstep with a slow server could still make
//! such pauses; all of the same length, though. Therefore they must differ much as well. And an answer that was
//! there before it was asked for, unread because the client was busy, is another's.
//!
//! Of a client that is likely to take turns fewer pauses are enough: to be mistaken for one it would have to keep the
//! same number of requests under way all the time, never one more and never none, and to pause nevertheless.

use std::collections::VecDeque;

use super::Mark;

/// So many pauses are taken for proof.
const ENOUGH: usize = 16;

/// So many are of a client that is likely to take turns.
const ENOUGH_IF_LIKELY: usize = 4;

/// Pauses that are kept.
const MAX_PAUSES: usize = 64;

/// How much longer than an answer takes on average a pause has to be.
const TIMES_MEAN: u64 = 8;

/// How much longer the longest pause has to be than the shortest.
const TIMES_SHORTEST: u64 = 3;

/// A send's record is stamped when the call returns: the answer may have been there this much before.
const LATE_NS: u64 = 500_000;

/// After so many answers without a proof everything is forgotten.
const WINDOW: u64 = 1024;

/// Requests whose times are kept.
const MAX_DUE: usize = 8 * 1024;

/// What the times of one connection show.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// No shorter pause counts.
    least_pause_ns: u64,
    /// When what is due was sent.
    due: VecDeque<u64>,
    /// When the last answer was read, with none due since.
    answered_ns: Option<u64>,
    /// The pause before what is due, if it may count.
    pause_ns: Option<u64>,
    /// What the answers took, all together, and how many they were.
    taken_ns: u64,
    answers: u64,
    /// The last pauses that may count.
    pauses: VecDeque<u64>,
}

impl Evidence {
    /// `least_pause_ns`: longer than most answers take.
    pub(super) fn new(least_pause_ns: u64) -> Self {
        Self { least_pause_ns, ..Self::default() }
    }

    /// Requests were handed to the parser; `due` of them are unanswered by its count (`None`: it does not
    /// count).
    pub(super) fn asked(&mut self, due: Option<usize>, mark: &Mark) {
        let Some(due) = self.counted(due) else { return };
        if self.due.is_empty() && due > 0 {
            let least_ns = self.least_pause_ns.max(2_000 * u64::from(mark.srtt_us));
            let pause = self.answered_ns.map(|answered| mark.at_ns.saturating_sub(answered));
            self.pause_ns = pause.filter(|pause| *pause >= least_ns);
        }
        self.answered_ns = None;
        self.due.resize(due.max(self.due.len()), mark.at_ns);
    }

    /// Answers were. Whether nothing can have been owed when counting began; `likely`: by all else the client takes
    /// turns.
    pub(super) fn answered(&mut self, due: Option<usize>, likely: bool, mark: &Mark) -> bool {
        let Some(due) = self.counted(due) else { return false };
        let answered = self.due.len().saturating_sub(due);
        if answered > 0 {
            let first = self.due.drain(..answered).next();
            self.judge(first.unwrap_or_default(), mark);
        }
        self.answered_ns = (due == 0).then_some(mark.at_ns);
        due == 0 && self.is_proof(likely)
    }

    fn is_proof(&self, likely: bool) -> bool {
        let mean_ns = self.taken_ns.checked_div(self.answers).unwrap_or(0);
        let least_ns = mean_ns.saturating_mul(TIMES_MEAN);
        let (mut count, mut shortest_ns, mut longest_ns) = (0, u64::MAX, 0);
        for pause in self.pauses.iter().copied().filter(|pause| *pause >= least_ns) {
            (count, shortest_ns, longest_ns) =
                (count + 1, pause.min(shortest_ns), pause.max(longest_ns));
        }
        let varied = longest_ns >= shortest_ns.saturating_mul(TIMES_SHORTEST);
        varied && count >= if likely { ENOUGH_IF_LIKELY } else { ENOUGH }
    }

    fn counted(&mut self, due: Option<usize>) -> Option<usize> {
        let due = due.filter(|due| *due <= MAX_DUE);
        if due.is_none() {
            *self = Self::new(self.least_pause_ns);
        }
        due
    }

    /// An answer to what was sent at `sent_ns` came.
    fn judge(&mut self, sent_ns: u64, mark: &Mark) {
        let pause = self.pause_ns.take();
        // Only when it came is the server's doing, not when it was read.
        let Some(queue_ns) = mark.queue_ns else { return };
        let came_ns = mark.at_ns.saturating_sub(queue_ns);
        let early = pause.is_some() && came_ns.saturating_add(LATE_NS) < sent_ns;
        if early || self.answers >= WINDOW {
            (self.answers, self.taken_ns) = (0, 0);
            self.pauses.clear();
        }
        if early {
            return;
        }
        self.answers += 1;
        self.taken_ns = self.taken_ns.saturating_add(came_ns.saturating_sub(sent_ns));
        if let Some(pause) = pause {
            if self.pauses.len() >= MAX_PAUSES {
                self.pauses.pop_front();
            }
            self.pauses.push_back(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(at_ns: u64, queue_ns: u64) -> Mark {
        Mark { at_ns, queue_ns: Some(queue_ns), ..Mark::default() }
    }

    /// Requests that are answered after `answer_ns`, with pauses of these lengths between them in turn:
    /// after how many nothing can have been owed.
    fn rounds(answer_ns: u64, pauses_ns: &[u64], likely: bool) -> Option<usize> {
        let (mut evidence, mut now) = (Evidence::new(MS), 0);
        (0..1000).find(|round| {
            now += pauses_ns[round % pauses_ns.len()];
            evidence.asked(Some(1), &at(now, 0));
            now += answer_ns;
            evidence.answered(Some(0), likely, &at(now, 0))
        })
    }

    #[test]
    fn many_pauses_of_many_lengths_prove_it() {
        let proof = rounds(MS / 5, &[2 * MS, 3 * MS, 20 * MS], false);
        // The first request has no pause before it that could be measured.
        assert_eq!(proof, Some(ENOUGH));
    }

    #[test]
    fn pauses_that_are_short_or_alike_prove_nothing() {
        assert_eq!(rounds(MS / 5, &[MS / 2, MS / 10], false), None);
        assert_eq!(rounds(MS, &[2 * MS, 7 * MS], false), None, "no longer than an answer may take");
        assert_eq!(rounds(MS / 5, &[10 * MS, 11 * MS], false), None, "in lockstep");
    }

    #[test]
    fn of_a_client_that_likely_takes_turns_a_few_pauses_do() {
        assert_eq!(rounds(MS / 5, &[10 * MS, 30 * MS], true), Some(ENOUGH_IF_LIKELY));
        assert_eq!(rounds(MS / 5, &[10 * MS, 11 * MS], true), None, "in lockstep");
        assert_eq!(rounds(MS, &[2 * MS, 7 * MS], true), None, "no longer than an answer may take");
        assert_eq!(rounds(MS, &[MS / 5], true), None, "one that pipelines without a pause");
    }

    #[test]
    fn an_answer_that_was_there_before_it_was_asked_for_is_anothers() {
        let (mut evidence, mut now) = (Evidence::new(MS), 0);
        for round in 0..1000_u64 {
            // The event loop is busy, sends, and then reads what came meanwhile.
            let busy = MS * (3 + 10 * (round % 2));
            now += busy;
            evidence.asked(Some(1), &at(now, 0));
            now += MS / 10;
            assert!(!evidence.answered(Some(0), true, &at(now, busy / 2 + LATE_NS + MS / 5)));
        }
    }

    #[test]
    fn one_too_many_begins_it_anew() {
        let (mut evidence, mut now) = (Evidence::new(MS), 0);
        for round in 0..10 * ENOUGH as u64 {
            now += MS * (2 + 10 * (round % 2));
            evidence.asked(Some(1), &at(now, 0));
            now += MS / 10;
            let again = round % 12 == 11;
            assert!(!evidence.answered(if again { None } else { Some(0) }, false, &at(now, 0)));
        }
    }
}
