//! The two moments at which a client call is decided: by its own task, and by what was in flight.

use super::Engine;
use super::jobs::Working;
use super::process::Verdict;
use super::schedule::Due;
use crate::call::{CallId, ProcessId, Withheld};

impl Engine {
    /// The other records of the same moment are here: what needs no look-ahead is decided.
    pub(super) fn early(&mut self, id: CallId, at: u64) {
        let Some((question, process_id)) = self.question(id) else { return };
        let Some(process) = self.processes.get_mut(&process_id) else {
            self.decide(id, Verdict::Withheld(Withheld::Lost), at);
            return;
        };
        if let Some(verdict) = process.own_task(question, self.config.late_work_ns) {
            if self.may_be_writers(id, verdict, question.at) {
                let due = question.at.saturating_add(self.config.look_ahead_ns).max(at);
                self.schedule.push(due, Due::Late(id));
                return;
            }
            self.decide_own(id, verdict, at);
            return;
        }
        let working = self.working(question, process_id, at);
        if let Working::Known(verdict @ Verdict::Parent(_)) = working {
            self.decide_own(id, verdict, at);
            return;
        }
        let Some(process) = self.processes.get_mut(&process_id) else { return };
        let incidental = self.calls.get(&id).is_some_and(|call| call.incidental);
        let suspect = !incidental && process.looks_ambient(question);
        let only_client = suspect && !process.serves() && working == Working::Elsewhere;
        process.suspects += u32::from(suspect);
        let due = question.at.saturating_add(self.config.look_ahead_ns).max(at);
        if let Some(call) = self.calls.get_mut(&id) {
            call.suspect = suspect;
            call.due = due;
        }
        self.schedule.push(due, Due::Late(id));
        if only_client {
            self.decide(id, Verdict::Root, at);
        }
    }

    /// Whether the call's strand, which is not the one that answers, may turn out to be nobody's. Takes note of
    /// it where this very call shows that it is.
    fn may_be_writers(&mut self, id: CallId, verdict: Verdict, at: u64) -> bool {
        let Some(call) = self.calls.get(&id) else { return false };
        let (process, strand) = (call.process, call.strand);
        let Verdict::Parent(parent) = verdict else { return false };
        let Some(parent) = self.calls.get(&parent) else { return false };
        if strand == 0 || parent.strand == strand {
            return false;
        }
        let late = parent.end.is_some_and(|end| at > end.saturating_add(self.config.strand_ns));
        if late && let Some(process) = self.processes.get_mut(&process) {
            process.is_writer(strand);
        }
        true
    }

    /// Decides by what the call's own task says.
    fn decide_own(&mut self, id: CallId, verdict: Verdict, at: u64) {
        let process = self.calls.get(&id).and_then(|call| self.processes.get(&call.process));
        let strand = self.calls.get(&id).map_or(0, |call| call.strand);
        let verdict = match verdict {
            // Of another strand, it may be what all later ones ask.
            Verdict::After(request) if strand != request.strand => {
                Verdict::Withheld(Withheld::LateWork)
            }
            Verdict::Parent(parent)
                if self.calls.get(&parent).is_none_or(|parent| {
                    (parent.end.is_none() || parent.broken_off)
                        && process.is_none_or(|process| process.may_have_ended(parent.start))
                }) =>
            {
                Verdict::Withheld(Withheld::Lost)
            }
            verdict => verdict,
        };
        self.decide(id, verdict, at);
    }

    /// The look-ahead is over. `heard`: in time, not by a flush.
    pub(super) fn late(&mut self, id: CallId, at: u64, heard: bool) {
        let Some((question, process_id)) = self.question(id) else { return };
        self.clear_suspicion(id);
        let Some(process) = self.processes.get_mut(&process_id) else {
            self.decide(id, Verdict::Withheld(Withheld::Lost), at);
            return;
        };
        if let Some(verdict) = process.own_task(question, self.config.late_work_ns) {
            let strand = self.calls.get(&id).map_or(0, |call| call.strand);
            let verdict = match verdict {
                Verdict::Parent(_) if process.was_writer(strand) => {
                    Verdict::Withheld(Withheld::LateWork)
                }
                verdict => verdict,
            };
            self.decide_own(id, verdict, at);
            return;
        }
        match self.working(question, process_id, at) {
            Working::Elsewhere => {}
            Working::Known(Verdict::Parent(_)) if !heard => {
                return self.decide(id, Verdict::Withheld(Withheld::Lost), at);
            }
            Working::Known(verdict) => return self.decide_own(id, verdict, at),
            Working::Open
                if heard
                    && at < question.at.saturating_add(self.config.hold_ns)
                    && !self.is_crowded(process_id) =>
            {
                let due = at.saturating_add(self.config.look_ahead_ns);
                if let Some(call) = self.calls.get_mut(&id) {
                    call.due = due;
                }
                return self.schedule.push(due, Due::Late(id));
            }
            Working::Open => {
                let reason = if heard { Withheld::Concurrent } else { Withheld::Lost };
                return self.decide(id, Verdict::Withheld(reason), at);
            }
        }
        let Some(process) = self.processes.get_mut(&process_id) else { return };
        let judgement = process.single_in_flight(question);
        let incidental = self.calls.get(&id).is_some_and(|call| call.incidental);
        if judgement.ambient && !incidental {
            process.is_ambient();
        }
        let told_until = at.saturating_sub(self.config.join_wait_ns);
        let own = process.own_message(id, question, told_until, self.config.late_work_ns);
        if let Some(verdict) = own {
            let verdict = match verdict {
                Verdict::Parent(_) if !heard => Verdict::Withheld(Withheld::Lost),
                verdict => verdict,
            };
            self.decide(id, verdict, at);
            return;
        }
        let verdict = match judgement.verdict {
            Verdict::Parent(_) if incidental => Verdict::Withheld(Withheld::Ambient),
            Verdict::Parent(_) if !heard => Verdict::Withheld(Withheld::Lost),
            verdict => verdict,
        };
        self.decide(id, verdict, at);
    }

    pub(super) fn clear_suspicion(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if std::mem::take(&mut call.suspect)
            && let Some(process) = self.processes.get_mut(&call.process)
        {
            process.suspects = process.suspects.saturating_sub(1);
        }
    }

    /// So many calls are held that to hold more would cost spans.
    fn is_crowded(&self, process: ProcessId) -> bool {
        let cap = self.config.max_calls_per_process;
        self.calls.len() > self.config.max_calls / 2
            || self.processes.get(&process).is_some_and(|process| process.is_crowded(cap))
    }
}
