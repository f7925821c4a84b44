//! Jobs, which one thread may take and another works on: what is told of both, and whose their calls are.
//!
//! The argument is in the documentation of [`super`]; what one thread did is in `worker`.

use super::Engine;
use super::process::{Process, Question, Verdict};
use crate::call::{CallId, ProcessId, Withheld};

/// Forks between a worker and who takes its jobs, at most.
const MAX_FORKS: usize = 4;

/// What shows that a thread works on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// It says so, and will say when it is done.
    Sure,
    /// It says so, and its process was forked for this job and does nothing else.
    Alone,
    /// It acknowledges it: whoever works on it has begun. That may be another thread.
    Acknowledged,
}

/// What is known of whom a call was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Working {
    /// Nothing: it has nothing to do with jobs.
    Elsewhere,
    /// It may show yet.
    Open,
    Known(Verdict),
}

impl Engine {
    /// A process forked this one.
    pub fn forked(&mut self, child: ProcessId, parent: ProcessId) {
        self.process_mut(child).parent = Some(parent);
        self.joins_program(child, parent);
    }

    /// What a call received is a job, which the thread that read it, or another, says when it is done with. `workers`:
    /// all that this process and its children do may be for such jobs, and not all of them are seen to be taken and to
    /// end. Told at once after the call's start.
    pub fn takes(&mut self, id: CallId, workers: bool) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.receives()) else { return };
        call.handled = true;
        let (process, tid, at) = (call.process, call.task.tid, call.start);
        let forget = self.now.saturating_sub(self.config.hold_ns);
        let process = self.process_mut(process);
        process.takes_jobs |= workers;
        process.worker(tid, |worker| {
            worker.forget(forget);
            worker.read(id, at, !workers);
        });
    }

    /// The children that this process forks, or forked, may work on the messages that it handles.
    pub fn hands_over(&mut self, process: ProcessId) {
        self.process_mut(process).hands_over = true;
    }

    /// A thread begins to work on a job.
    pub fn works(&mut self, process: ProcessId, tid: u32, id: CallId, begins: Begins, at_ns: u64) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.handled) else { return };
        let taken = call.start;
        if let Some(mail) = call.mail.as_mut() {
            if begins == Begins::Acknowledged {
                mail.accepted(at_ns);
                mail.told_by(process, tid);
            } else if !mail.is_worked_on_by(process, tid) {
                // One that was given out twice: whose is what another does for it?
                return;
            }
        }
        let process = self.process_mut(process);
        if begins == Begins::Alone {
            process.is_forked_for(id);
        }
        process.worker(tid, |worker| worker.begins(id, taken, at_ns));
    }

    /// A process works on the job that a call received, as this logical task of its own from then on, which it told of
    /// itself. Numbers as in [`Task::context`](crate::call::Task::context).
    pub fn worked_in(&mut self, id: CallId, process: ProcessId, context: u64, at_ns: u64) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| {
            // A job that was begun before it was taken is another try.
            call.handled && !call.aged && !call.abandoned && call.start <= at_ns
        }) else {
            return;
        };
        let end = call.end.map(|end| end.max(at_ns));
        // It was taken once, and is worked on once.
        if call.mail.as_mut().is_none_or(|mail| !mail.begins_in(process, context)) {
            return;
        }
        self.process_mut(process).learns_context(id, context, at_ns, end);
    }

    /// A thread is done with the job that it worked on. Told before the call's end.
    pub fn worked(&mut self, process: ProcessId, tid: u32, id: CallId, at_ns: u64) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.handled) else { return };
        let taken = call.start;
        let Some(mail) = call.mail.as_mut() else { return };
        if !mail.is_worked_on_by(process, tid) {
            return;
        }
        let accepted = mail.accepted_at();
        let forget = self.now.saturating_sub(self.config.hold_ns);
        self.process_mut(process).worker(tid, |worker| {
            worker.settles(id, taken, accepted, at_ns);
            worker.forget(forget);
        });
    }

    /// The job is over: whoever had to do with it has nothing more to.
    pub(super) fn job_over(&mut self, id: CallId, at: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        let by = call.mail.as_ref().map(|mail| mail.tellers()).unwrap_or_default();
        for (process, tid) in by.into_iter().chain([(call.process, call.task.tid)]) {
            if let Some(process) = self.processes.get_mut(&process) {
                process.job_over(tid, id, at);
            }
        }
    }

    /// Whose a call is by what its thread, or its process, works on. `at`: the moment of asking.
    pub(super) fn working(&self, question: Question, process: ProcessId, at: u64) -> Working {
        let Some(known) = self.processes.get(&process) else { return Working::Elsewhere };
        if let Some(job) = known.forked_for() {
            return Working::Known(
                job.map_or(Verdict::Withheld(Withheld::Concurrent), Verdict::Parent),
            );
        }
        let worker = known.worker_of(question.task.tid).filter(|_| question.threads_own);
        match worker {
            Some(worker) => {
                let heard = at.saturating_sub(self.config.join_wait_ns);
                worker.verdict(question.at, heard).map_or(Working::Open, Working::Known)
            }
            None if !self.may_work(known) => Working::Elsewhere,
            // Before it says what it did.
            None if question.threads_own => Working::Open,
            None => Working::Known(Verdict::Withheld(Withheld::Concurrent)),
        }
    }

    /// Whether a process, or one that it was forked from, takes jobs.
    fn may_work(&self, process: &Process) -> bool {
        let mut at = process;
        for _ in 0..=MAX_FORKS {
            if at.takes_jobs {
                return true;
            }
            match at.parent.and_then(|parent| self.processes.get(&parent)) {
                Some(parent) if parent.hands_over => return true,
                Some(parent) => at = parent,
                None => return false,
            }
        }
        false
    }
}
