//! How long things are held: giving up, forgetting, and the caps.
//!
//! What is dropped before its time is counted, and what depended on it is withheld, never wrong.

use super::Engine;
use super::process::Process;
use super::schedule::Due;
use super::state::{Call, Parent};
use crate::call::{CallId, ProcessId, Role, Task};

impl Engine {
    pub(super) fn process_mut(&mut self, id: ProcessId) -> &mut Process {
        if !self.processes.contains_key(&id) {
            self.process_order.push_back(id);
            while self.processes.len() >= self.config.max_processes {
                let Some(oldest) = self.process_order.pop_front() else { break };
                self.drop_process(oldest, self.now);
            }
            if self.process_order.len() > 2 * self.config.max_processes {
                let processes = &self.processes;
                self.process_order.retain(|old| *old == id || processes.contains_key(old));
            }
        }
        self.processes.entry(id).or_default()
    }

    /// Forgets a process; its open calls will not end any more.
    pub(super) fn drop_process(&mut self, id: ProcessId, at: u64) {
        let Some(process) = self.processes.get(&id) else { return };
        for call in process.open_calls() {
            if self.calls.get(&call).is_some_and(Call::is_live) {
                self.give_up(call, at);
                self.books.abandoned += 1;
                self.dropped.push(call);
            }
        }
        self.leave_program(id, at);
        self.processes.remove(&id);
    }

    /// No span will come of this call.
    pub(super) fn give_up(&mut self, id: CallId, at: u64) {
        self.settle_message(id, false);
        self.release_senders(id);
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.abandoned = true;
        let ended = call.end.is_some();
        self.books.dropped_after_end += u64::from(ended);
        self.books.dangling += call.named;
        let &mut Call { process, socket, role, task, start, parent, handled, threads_own, .. } =
            call;
        if handled && !ended {
            self.contexts_ended(id, at.max(start));
        }
        if (handled || threads_own)
            && !ended
            && let Some(process) = self.processes.get_mut(&process)
        {
            if handled {
                process.message_gone(id, start, at, self.config.late_work_ns);
            }
            if threads_own {
                process.thread_returned(id, task.tid, at.max(start));
            }
        }
        if handled && !ended {
            self.job_over(id, at.max(start));
        }
        if matches!(parent, Parent::Local(_)) {
            self.set_parent(id, Parent::Undecided);
        }
        if role == Role::Server && !ended {
            let cap = self.config.max_calls_per_process;
            let late_work_ns = self.config.late_work_ns;
            let entry = self.process_mut(process);
            entry.haunt(id, task, start);
            if let Some(oldest) = entry.excess_ghost(cap) {
                entry.exorcise(oldest, at, late_work_ns);
                entry.blind(at.saturating_add(late_work_ns));
            }
            self.haunt(process, socket, id, at);
        }
        let keep = match role {
            Role::Server => self.config.window_ns(),
            // It may be open still: evidence of late work.
            Role::Client => self.config.ghost_ns,
        };
        let until = at.max(self.now).saturating_add(keep);
        self.schedule.push(until, Due::Forget(id));
    }

    /// What was done for this call in logical tasks is over.
    pub(super) fn contexts_ended(&mut self, id: CallId, end: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        for (process, context) in call.contexts() {
            if let Some(process) = self.processes.get_mut(&process) {
                process.context_ended(id, context, end);
            }
        }
    }

    /// Nobody new needs the call.
    pub(super) fn age(&mut self, id: CallId, at: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.aged = true;
        let is_work = call.is_work();
        let &mut Call { process, role, task, start, .. } = call;
        if is_work {
            let fold_before = at.saturating_sub(self.config.window_ns());
            if let Some(process) = self.processes.get_mut(&process) {
                process.tidy(task, fold_before);
            }
            let others = call.mail.as_ref().map_or(&[][..], |mail| mail.contexts());
            for &(process, context) in others {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.tidy(Task { context, ..task }, fold_before);
                }
            }
        }
        if role == Role::Client
            && let Some(process) = self.processes.get_mut(&process)
        {
            process.client_forgotten(id, start);
        }
        self.release_socket(id);
        self.try_remove(id);
    }

    pub(super) fn try_remove(&mut self, id: CallId) {
        let done = self
            .calls
            .get(&id)
            .is_some_and(|call| !call.is_live() && call.aged && !call.held && call.dependents == 0);
        if done {
            self.calls.remove(&id);
        }
    }

    /// Keeps the number of calls under the cap before one more is taken in.
    pub(super) fn make_room(&mut self, id: CallId) {
        while self.calls.len() >= self.config.max_calls {
            let Some(oldest) = self.call_order.pop_front() else { break };
            self.evict(oldest);
        }
        self.call_order.push_back(id);
        if self.call_order.len() > 2 * self.config.max_calls {
            let calls = &self.calls;
            self.call_order.retain(|old| *old == id || calls.contains_key(old));
        }
    }

    /// Keeps one process's calls under the cap.
    pub(super) fn bound_process(&mut self, id: ProcessId) {
        let cap = self.config.max_calls_per_process;
        let Some(process) = self.processes.get_mut(&id) else { return };
        let server = process.excess_server(cap);
        let client = process.excess_client(cap);
        let message = process.excess_message(cap);
        if let Some((start, id)) = client {
            process.client_forgotten(id, start);
            process.blind(self.now.saturating_add(self.config.late_work_ns));
        }
        for id in server.into_iter().chain(message).chain(client.map(|(_, id)| id)) {
            self.evict(id);
        }
    }

    fn evict(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let &Call { process, role, start, .. } = call;
        if call.is_live() {
            self.give_up(id, self.now);
            self.books.evicted += 1;
            self.dropped.push(id);
            if let Some(process) = self.processes.get_mut(&process) {
                process.blind(self.now.saturating_add(self.config.late_work_ns));
            }
        }
        self.clear_suspicion(id);
        self.release_socket(id);
        if role == Role::Client
            && let Some(process) = self.processes.get_mut(&process)
        {
            process.client_forgotten(id, start);
        }
        self.calls.remove(&id);
    }
}
