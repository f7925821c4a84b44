//! Messages on their way: who sent what is received, possibly long after, in another process.
//!
//! A message is known by a key that both ends compute (a topic's partition and offset; an exchange, a routing
//! key, properties and a hash of the body). Where several that can't be told apart are on their way, none is
//! the one: withheld. What was sent is remembered up to a cap, and what is forgotten is counted.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Engine;
use super::join::STAMP_NS;
use super::state::{Parent, Trace};
use crate::call::{CallId, MessageKey, Origin, ProcessId, Receipt, Withheld};

/// Messages of one key that are told apart by who received them. Of more, none can be found.
const MAX_ALIKE: usize = 64;

/// Receivers that are remembered of one message.
const MAX_RECEIVERS: usize = 16;

/// Messages that one call receives at most: further ones are not linked.
const MAX_RECEIVED: usize = 512;

/// Who sent it.
#[derive(Clone, Debug)]
enum Sender {
    /// Its span is still to come.
    Call(CallId),
    /// Its span, and what follows it down the trace.
    Span(CallId, Origin, Trace),
}

#[derive(Clone, Debug)]
struct Message {
    sender: Sender,
    /// When it was sent.
    at: u64,
    /// Where it was received already.
    receivers: Vec<u64>,
}

/// All that are remembered.
#[derive(Debug, Default)]
pub(super) struct Messages {
    known: FxHashMap<MessageKey, Vec<Message>>,
    /// Keys in the order in which they were sent.
    order: VecDeque<MessageKey>,
}

/// What is known of who sent a message.
#[derive(Debug)]
enum Found {
    Nobody,
    One(Message),
    Several,
}

impl Found {
    fn sender(self) -> Option<Sender> {
        match self {
            Self::One(message) => Some(message.sender),
            Self::Nobody | Self::Several => None,
        }
    }
}

impl Messages {
    /// Returns how many were forgotten for it.
    fn insert(&mut self, key: MessageKey, call: CallId, at: u64, cap: usize) -> u64 {
        let alike = self.known.entry(key).or_default();
        alike.push(Message { sender: Sender::Call(call), at, receivers: Vec::new() });
        self.order.push_back(key);
        let mut forgotten = 0;
        if alike.len() > MAX_ALIKE {
            alike.remove(0);
            forgotten += 1;
        }
        while self.order.len() > cap {
            let Some(oldest) = self.order.pop_front() else { break };
            let Some(alike) = self.known.get_mut(&oldest) else { continue };
            if !alike.is_empty() {
                let gone = alike.remove(0);
                // What was received is of no more use, but for one that comes again.
                forgotten += u64::from(gone.receivers.is_empty());
            }
            if alike.is_empty() {
                self.known.remove(&oldest);
            }
        }
        forgotten
    }

    /// The one that is received, and takes note of it.
    fn take(&mut self, receipt: &Receipt) -> Found {
        let Some(alike) = self.known.get_mut(&receipt.message) else { return Found::Nobody };
        let here = |message: &Message| message.receivers.contains(&receipt.receiver);
        let again = receipt.again && alike.iter().any(here);
        // A send is stamped when it returns: its message may have been received by then.
        let sent = |message: &Message, slack_ns: u64| {
            here(message) == again && message.at <= receipt.at_ns.saturating_add(slack_ns)
        };
        let slack_ns = if alike.iter().any(|message| sent(message, 0)) { 0 } else { STAMP_NS };
        let mut found = alike.iter().enumerate().filter(|(_, message)| sent(message, slack_ns));
        let Some((index, _)) = found.next() else { return Found::Nobody };
        if found.next().is_some() {
            return Found::Several;
        }
        let Some(message) = alike.get_mut(index) else { return Found::Nobody };
        if !again && message.receivers.len() < MAX_RECEIVERS {
            message.receivers.push(receipt.receiver);
        }
        Found::One(message.clone())
    }

    /// The sender has its span, or will have none.
    fn settle(&mut self, key: MessageKey, call: CallId, span: Option<(Origin, Trace)>) {
        let Some(alike) = self.known.get_mut(&key) else { return };
        let is_its = |message: &Message| matches!(message.sender, Sender::Call(id) if id == call);
        match span {
            Some((origin, trace)) => {
                for message in alike.iter_mut().filter(|message| is_its(message)) {
                    message.sender = Sender::Span(call, origin, trace.clone());
                }
            }
            None => alike.retain(|message| !is_its(message)),
        }
    }
}

/// What one call has to do with messages.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// It is one that receives: what it was given decides its parent.
    receives: bool,
    received: Vec<Receipt>,
    sent: Vec<MessageKey>,
    /// When what it received was sent, if it is one message.
    sent_at: Option<u64>,
    /// Who sent what it received, if that is linked to: it is several, or always is.
    senders: Vec<Sender>,
    /// Who sent it is linked to, and never its parent.
    linked: bool,
    /// The logical tasks that handle it, but for the first, and their processes.
    contexts: Vec<(ProcessId, u64)>,
    /// By when whoever works on the job that it received had begun.
    accepted: Option<u64>,
    /// Who works on that.
    worker: Option<(ProcessId, u32)>,
    /// Who acknowledged it.
    teller: Option<(ProcessId, u32)>,
}

impl Mail {
    /// Of a call that receives.
    pub(super) fn received() -> Self {
        Self { receives: true, ..Self::default() }
    }

    /// See [`Engine::links_only`].
    pub(super) fn is_linked(&self) -> bool {
        self.linked
    }

    /// See [`crate::call::CallStarted::receives`].
    pub(super) fn receives(&self) -> bool {
        self.receives
    }

    /// One more logical task, of this process, handles a part of it.
    pub(super) fn handled_in(&mut self, process: ProcessId, context: u64) {
        let one = (process, context);
        if self.contexts.len() < MAX_RECEIVED && !self.contexts.contains(&one) {
            self.contexts.push(one);
        }
    }

    /// A child works on the job that it received, as this logical task. Whether it is the first.
    pub(super) fn begins_in(&mut self, process: ProcessId, context: u64) -> bool {
        let first = self.contexts.is_empty();
        if first {
            self.contexts.push((process, context));
        }
        first
    }

    /// The logical tasks that handle it, but for the first, and their processes.
    pub(super) fn contexts(&self) -> &[(ProcessId, u64)] {
        &self.contexts
    }

    /// Whoever works on the job that it received had begun by then.
    pub(super) fn accepted(&mut self, at: u64) {
        self.accepted.get_or_insert(at);
    }

    /// By when whoever works on it had begun.
    pub(super) fn accepted_at(&self) -> Option<u64> {
        self.accepted
    }

    /// This thread says that it works on the job that it received. Whether it alone does.
    pub(super) fn is_worked_on_by(&mut self, process: ProcessId, tid: u32) -> bool {
        *self.worker.get_or_insert((process, tid)) == (process, tid)
    }

    /// This thread says something of the job that it received.
    pub(super) fn told_by(&mut self, process: ProcessId, tid: u32) {
        self.teller.get_or_insert((process, tid));
    }

    /// The threads that said something of it.
    pub(super) fn tellers(&self) -> Vec<(ProcessId, u32)> {
        self.worker.into_iter().chain(self.teller).collect()
    }

    /// The thread that works on the job that it received.
    pub(super) fn worked_by(&self) -> Option<(ProcessId, u32)> {
        self.worker
    }

    /// When what it received was sent, if it is one message.
    pub(super) fn sent_at(&self) -> Option<u64> {
        self.sent_at
    }
}

impl Engine {
    /// A client call sends this message. Told when it is known, at the latest before the call's end.
    pub fn sent(&mut self, id: CallId, message: MessageKey) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.mail.get_or_insert_default().sent.push(message);
        let at = call.start;
        let cap = self.config.max_messages;
        self.books.messages_forgotten += self.messages.insert(message, id, at, cap);
    }

    /// A call that receives ([`crate::call::CallStarted::receives`]) was given this message. Told as soon as it
    /// is known, at the latest before the call's end; once for each message.
    pub fn received(&mut self, id: CallId, receipt: Receipt) {
        if let Some(mail) = self.calls.get_mut(&id).and_then(|call| call.mail.as_mut())
            && mail.received.len() < MAX_RECEIVED
        {
            mail.received.push(receipt);
        }
    }

    /// A call that asked for a message was given this one: its sender is linked to, and the parent is whoever asked.
    /// Told before the call's end.
    pub fn fetched(&mut self, id: CallId, receipt: Receipt) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.receives()) else { return };
        let mail = call.mail.get_or_insert_default();
        if mail.received.is_empty() {
            mail.received.push(receipt);
        }
    }

    /// Finds who sent what a call asked for.
    pub(super) fn find_sender(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.receives()) else { return };
        let Some(mail) = call.mail.as_mut() else { return };
        for receipt in std::mem::take(&mut mail.received) {
            mail.senders.extend(self.messages.take(&receipt).sender());
        }
        self.hold_senders(id);
    }

    /// A call's own message can be found by its span from now on; without one that is delivered (`has_span`) not at
    /// all.
    pub(super) fn settle_message(&mut self, id: CallId, has_span: bool) {
        let Some(call) = self.calls.get(&id) else { return };
        let Some(mail) = call.mail.as_ref().filter(|mail| !mail.sent.is_empty()) else { return };
        let trace = call.trace.clone().filter(|_| has_span);
        let span = trace.map(|trace| (Origin { trace_id: trace.id, span_id: call.span }, trace));
        for key in &mail.sent {
            self.messages.settle(*key, id, span.clone());
        }
    }

    /// Who sent what a call receives is linked to, and never its parent: it is a trace of its own. Told at once after
    /// its start.
    pub fn links_only(&mut self, id: CallId) {
        if let Some(mail) = self.calls.get_mut(&id).and_then(|call| call.mail.as_mut()) {
            mail.linked = true;
        }
    }

    /// Decides a call that receives: the sender of one message is its parent, those of several are linked to.
    pub(super) fn decide_receiver(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(mail) = call.mail.as_mut() else { return };
        let linked = mail.linked;
        let otherwise = if call.remote.is_some() && !linked {
            |_| Parent::Remote
        } else {
            |parent: Parent| parent
        };
        let received = std::mem::take(&mut mail.received);
        let mut found: Vec<Found> =
            received.iter().map(|receipt| self.messages.take(receipt)).collect();
        if found.len() > 1 {
            mail.senders = found.into_iter().filter_map(Found::sender).collect();
            self.hold_senders(id);
            // Whose work it is can't be said in one word.
            return self.set_parent(id, otherwise(Parent::Root));
        }
        let message = match found.pop() {
            Some(Found::One(message)) => message,
            Some(Found::Several) => {
                return self.set_parent(id, otherwise(Parent::Withheld(Withheld::Concurrent)));
            }
            Some(Found::Nobody) | None => return self.set_parent(id, otherwise(Parent::Root)),
        };
        mail.sent_at = Some(message.at);
        if linked {
            mail.senders = vec![message.sender];
            self.hold_senders(id);
            return self.set_parent(id, Parent::Root);
        }
        match message.sender {
            Sender::Call(sender) => {
                let usable = self.calls.get(&sender).is_some_and(|sender| !sender.abandoned);
                if usable && !self.leads_to(sender, id) {
                    self.adopt(id, sender);
                } else {
                    self.set_parent(id, otherwise(Parent::Withheld(Withheld::Lost)));
                }
            }
            Sender::Span(sender, origin, trace) => {
                call.trace = Some(trace);
                self.set_parent(id, Parent::Sender(sender, origin));
            }
        }
    }

    /// Keeps the senders' calls until the links to them are made.
    fn hold_senders(&mut self, id: CallId) {
        for sender in self.sender_calls(id) {
            if let Some(sender) = self.calls.get_mut(&sender) {
                sender.dependents += 1;
            }
        }
    }

    /// The links are made, or won't be.
    pub(super) fn release_senders(&mut self, id: CallId) {
        let senders = self.sender_calls(id);
        if let Some(mail) = self.calls.get_mut(&id).and_then(|call| call.mail.as_mut()) {
            mail.senders.clear();
        }
        for sender in senders {
            self.release_parent(sender);
        }
    }

    fn sender_calls(&self, id: CallId) -> Vec<CallId> {
        let mail = self.calls.get(&id).and_then(|call| call.mail.as_ref());
        let senders = mail.map(|mail| mail.senders.as_slice()).unwrap_or_default();
        let call = |sender: &Sender| match sender {
            Sender::Call(call) => Some(*call),
            Sender::Span(..) => None,
        };
        senders.iter().filter_map(call).collect()
    }

    /// The senders of several messages, each once. `force`: also where some have no trace yet; they are left
    /// out.
    ///
    /// # Errors
    /// The time at which to ask again, where some have none.
    pub(super) fn links(&mut self, id: CallId, at: u64, force: bool) -> Result<Vec<Origin>, u64> {
        for sender in self.sender_calls(id) {
            let settled = self.settle(sender, at, false);
            if !force {
                settled?;
            }
        }
        let mail = self.calls.get(&id).and_then(|call| call.mail.as_ref());
        let senders = mail.map(|mail| mail.senders.as_slice()).unwrap_or_default();
        let mut links: Vec<Origin> = Vec::new();
        for sender in senders {
            let origin = match sender {
                Sender::Span(_, origin, _) => Some(*origin),
                Sender::Call(sender) => {
                    self.calls.get(sender).filter(|sender| !sender.abandoned).and_then(|sender| {
                        let trace_id = sender.trace.as_ref()?.id;
                        Some(Origin { trace_id, span_id: sender.span })
                    })
                }
            };
            links.extend(origin.filter(|origin| !links.contains(origin)));
        }
        Ok(links)
    }
}
