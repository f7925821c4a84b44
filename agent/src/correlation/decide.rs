//! The two moments at which a client call is decided: by its own task, and by what was in flight.

use super::Engine;
use super::process::Verdict;
use super::schedule::Due;
use crate::call::{CallId, Withheld};

impl Engine {
    /// The other records of the same moment are here: what needs no look-ahead is decided.
    pub(super) fn early(&mut self, id: CallId, at: u64) {
        let Some((question, process)) = self.question(id) else { return };
        let Some(process) = self.processes.get_mut(&process) else {
            self.decide(id, Verdict::Withheld(Withheld::Lost), at);
            return;
        };
        if let Some(verdict) = process.own_task(question, self.config.late_work_ns) {
            let verdict = match verdict {
                Verdict::Parent(parent)
                    if self.calls.get(&parent).is_none_or(|parent| {
                        (parent.end.is_none() || parent.broken_off)
                            && process.may_have_ended(parent.start)
                    }) =>
                {
                    Verdict::Withheld(Withheld::Lost)
                }
                verdict => verdict,
            };
            self.decide(id, verdict, at);
            return;
        }
        let incidental = self.calls.get(&id).is_some_and(|call| call.incidental);
        let suspect = !incidental && process.looks_ambient(question);
        let only_client = suspect && !process.serves();
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

    /// The look-ahead is over. `heard`: in time, not by a flush.
    pub(super) fn late(&mut self, id: CallId, at: u64, heard: bool) {
        let Some((question, process)) = self.question(id) else { return };
        self.clear_suspicion(id);
        let Some(process) = self.processes.get_mut(&process) else {
            self.decide(id, Verdict::Withheld(Withheld::Lost), at);
            return;
        };
        let judgement = process.single_in_flight(question);
        let incidental = self.calls.get(&id).is_some_and(|call| call.incidental);
        if judgement.ambient && !incidental {
            process.is_ambient();
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
}
