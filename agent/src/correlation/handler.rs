//! A thread that handles the messages it reads, one after the other: which of them its calls are made for.
//!
//! What happened on the thread is followed in order of time, a while after it happened, so that all of it is
//! known. Nothing here knows how a thread was found to be one; the argument is in the documentation of [`super`].

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use super::process::Verdict;
use crate::call::{CallId, SocketId, Withheld};

/// Runs of messages that were seen to be settled last of all that is done for them, before that is relied on.
const RUNS: u32 = 8;

/// Messages that wait for their settlement, and events that wait to be followed. Beyond, nothing is certain.
const MAX: usize = 4096;

/// Connections that messages come on, at a time.
const MAX_CONNECTIONS: usize = 8;

/// After a loss, how long messages that were not seen may still be handled.
pub(super) const BLIND_NS: u64 = 60_000_000_000;

/// What happened on the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It read a message. `automatic`: nobody says when that is handled.
    Read { id: CallId, socket: SocketId, automatic: bool },
    /// The message was settled.
    Settled { id: CallId },
    /// It went back unhandled.
    GivenBack { id: CallId },
    /// It made a call.
    Called { id: CallId, socket: SocketId, incidental: bool },
    /// That call is over.
    Returned { id: CallId },
}

/// For what a call may have been made, as far as its own moment tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// No message was there.
    Nothing,
    /// All messages were settled: it goes on with the last one's work, or is the thread's own.
    After,
    /// For the first of those that were not settled, none having been settled since none was there. `alone`:
    /// there was no other.
    First { message: CallId, alone: bool },
    /// For the first that was not settled, or going on with the one that was settled last.
    Next(CallId),
    /// Several may be meant.
    Several,
}

/// From the reading of a message with none there to the settlement of all.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// A message of it was settled, the last one at this time.
    settled_at: Option<u64>,
    /// A call was made before any was settled.
    called_before: bool,
    /// A call was made after all were.
    called_after: bool,
}

/// One thread.
#[derive(Debug, Default)]
pub(super) struct Handler {
    /// What is not followed yet, by time and then as it was told.
    waiting: BTreeMap<(u64, u64), Event>,
    told: u64,
    /// All before this moment is followed.
    followed: u64,
    unsettled: VecDeque<(CallId, SocketId)>,
    run: Run,
    /// When a message that nobody settles was read last, and the connections that messages came on.
    read_at: Option<u64>,
    connections: Vec<SocketId>,
    /// When the thread last did anything that is known.
    active_at: u64,
    /// Calls that are open.
    open: Vec<(CallId, SocketId)>,
    /// Runs at whose end no call followed the last settlement, and at whose beginning one came before the first.
    well: u32,
    /// Work was seen to go on after the settlement.
    late: bool,
    /// Messages are not handled one after the other, or not settled so.
    several: bool,
    /// Nothing up to this moment is certain.
    blind_until: Option<u64>,
    candidates: FxHashMap<CallId, Candidate>,
    /// Messages that were settled alone and in order, of the latest.
    settled: VecDeque<CallId>,
}

impl Handler {
    /// It read a message at `at`.
    pub(super) fn read(&mut self, id: CallId, socket: SocketId, automatic: bool, at: u64) {
        self.tell(at, Event::Read { id, socket, automatic });
    }

    /// A message was settled.
    pub(super) fn settled(&mut self, id: CallId, at: u64) {
        self.tell(at, Event::Settled { id });
    }

    /// A message went back unhandled.
    pub(super) fn given_back(&mut self, id: CallId, at: u64) {
        self.tell(at, Event::GivenBack { id });
    }

    /// It made a call.
    pub(super) fn called(&mut self, id: CallId, socket: SocketId, incidental: bool, at: u64) {
        self.tell(at, Event::Called { id, socket, incidental });
    }

    /// A call of its is over.
    pub(super) fn returned(&mut self, id: CallId, at: u64) {
        self.tell(at, Event::Returned { id });
    }

    fn tell(&mut self, at: u64, event: Event) {
        if at < self.followed || self.waiting.len() >= MAX {
            if !matches!(event, Event::Returned { .. }) {
                self.lose(at.max(self.followed));
            }
            return;
        }
        self.told += 1;
        self.waiting.insert((at, self.told), event);
    }

    /// Messages may have been read or settled unseen up to `at`.
    pub(super) fn lose(&mut self, at: u64) {
        self.blind_until = self.blind_until.max(Some(at.saturating_add(BLIND_NS)));
        self.waiting = self.waiting.split_off(&(at.saturating_add(1), 0));
        self.unsettled.clear();
        self.run = Run::default();
        self.read_at = None;
    }

    /// Follows what happened before `until`: all of it was told. `idle_ns`: a message's handler does not stay
    /// silent for so long, as far as messages go that nobody settles.
    pub(super) fn follow(&mut self, until: u64, idle_ns: u64) {
        while let Some(entry) = self.waiting.first_entry() {
            let (at, _) = *entry.key();
            if at >= until {
                break;
            }
            let event = entry.remove();
            self.happened(at, event, idle_ns);
        }
        self.followed = self.followed.max(until);
    }

    fn happened(&mut self, at: u64, event: Event, idle_ns: u64) {
        match event {
            Event::Read { id, socket, automatic } => {
                if !self.connections.contains(&socket) {
                    if self.connections.len() >= MAX_CONNECTIONS {
                        self.connections.remove(0);
                    }
                    self.connections.push(socket);
                }
                if automatic {
                    self.reads_automatic(at);
                } else {
                    self.reads(id, socket);
                }
                self.active_at = at;
            }
            Event::Settled { id } => self.settles(id, at),
            Event::GivenBack { id } => self.unsettled.retain(|(unsettled, _)| *unsettled != id),
            Event::Called { id, socket, incidental } => {
                if !incidental {
                    self.calls(socket, at, idle_ns);
                    self.open.push((id, socket));
                }
                self.several |= self.open.len() > MAX;
                let candidate = self.candidate();
                if self.candidates.len() < MAX {
                    self.candidates.insert(id, candidate);
                }
                self.active_at = at;
            }
            Event::Returned { id } => {
                self.open.retain(|(open, _)| *open != id);
                self.active_at = at;
            }
        }
    }

    fn reads(&mut self, id: CallId, socket: SocketId) {
        // Two connections' messages may be handled in any order.
        self.several |= self.unsettled.iter().any(|(_, other)| *other != socket);
        // Of both kinds on one thread: it can't be said which is handled.
        self.several |= self.read_at.is_some();
        if self.unsettled.is_empty() {
            let Run { settled_at, called_before, called_after } = std::mem::take(&mut self.run);
            self.well += u32::from(settled_at.is_some() && called_before && !called_after);
        }
        self.unsettled.push_back((id, socket));
        if self.unsettled.len() > MAX {
            self.lose(self.active_at);
        }
    }

    /// Whose its calls are from then on nothing tells: a client may read again before it hands over what it read.
    fn reads_automatic(&mut self, at: u64) {
        self.several |= !self.unsettled.is_empty() || self.run.settled_at.is_some();
        self.read_at = Some(at);
    }

    fn settles(&mut self, id: CallId, at: u64) {
        let Some(position) = self.unsettled.iter().position(|(unsettled, _)| *unsettled == id)
        else {
            return;
        };
        self.unsettled.remove(position);
        // What settles several at once handled them before; what settles the later one first handles several.
        self.several |= position != 0 || self.run.settled_at == Some(at);
        self.run.settled_at = Some(at);
        self.settled.push_back(id);
        if self.settled.len() > MAX {
            self.settled.pop_front();
        }
        self.active_at = at;
    }

    fn calls(&mut self, socket: SocketId, at: u64, idle_ns: u64) {
        let is_consumers = self.connections.contains(&socket);
        // A thread that waits for each answer has one call open, but for what it sends together.
        let others = self.open.iter().any(|(_, other)| {
            *other != socket && !is_consumers && !self.connections.contains(other)
        });
        self.several |= others;
        if self.unsettled.is_empty() {
            self.run.called_after |= self.run.settled_at.is_some();
            self.late |= self.run.settled_at.is_some();
        } else if self.run.settled_at.is_none() {
            self.run.called_before = true;
        }
        // Whoever works when nothing came for long works for nothing that came.
        self.several |= self.read_at.is_some() && at.saturating_sub(self.active_at) > idle_ns;
    }

    fn candidate(&self) -> Candidate {
        let Some(&(message, _)) = self.unsettled.front() else {
            return match (self.read_at, self.run.settled_at) {
                (Some(_), _) => Candidate::Several,
                (None, Some(_)) => Candidate::After,
                (None, None) => Candidate::Nothing,
            };
        };
        if self.run.settled_at.is_some() {
            Candidate::Next(message)
        } else {
            Candidate::First { message, alone: self.unsettled.len() == 1 }
        }
    }

    /// Whose a call of this thread's is that was made at `at`; `None`: nothing follows from the thread.
    pub(super) fn verdict(&mut self, id: CallId, at: u64) -> Option<Verdict> {
        let candidate = self.candidates.remove(&id);
        if self.blind_until >= Some(at) {
            return Some(Verdict::Withheld(Withheld::Lost));
        }
        let candidate = candidate?;
        let certain = match candidate {
            Candidate::Nothing => return None,
            Candidate::After => return Some(Verdict::Withheld(Withheld::LateWork)),
            _ if self.several => None,
            Candidate::First { .. } | Candidate::Next(_) if self.late => {
                return Some(Verdict::Withheld(Withheld::LateWork));
            }
            Candidate::First { message, alone } => {
                let one_by_one = alone || self.well >= RUNS || self.settled.contains(&message);
                one_by_one.then_some(message)
            }
            Candidate::Next(message) => (self.well >= RUNS).then_some(message),
            Candidate::Several => None,
        };
        Some(certain.map_or(Verdict::Withheld(Withheld::Concurrent), Verdict::Parent))
    }
}
