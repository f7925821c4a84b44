//! Which call belongs to which request, from what Node's assist noted: the notes meet the kernel's records.
//!
//! Between capture and correlation. Sans-IO: told of sockets, of what was sent, of calls and of notes, it says
//! which number each call has. It guesses nothing: a call that no note covers exactly gets none.
//!
//! *Outbound.* The script counts a connection's bytes from its first, the kernel by TCP's sequence; the two differ
//! by a constant. It follows from a note that was written right before the kernel was given its bytes, with
//! nothing before them still to be sent: the first send after that moment (one clock for both) begins where the
//! note begins. That send must follow the one before it without a hole, and move what the note says. A
//! later note that says otherwise breaks the connection for good. A range must begin exactly where a call
//! begins before any call takes its number, unless the note says that it is one message with several calls in it.
//!
//! *Inbound.* The script notes the moment when the application is given a request. The call is the last that began
//! on that connection before. It is not if it began while another was open (a client that pipelines), before the
//! notes did, or before some were lost.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::area::Entry;
use crate::call::{CallId, ProcessId, Role};

/// The number of what is known to be no request's: it never is one's.
pub const NOBODY: u64 = u64::MAX;

/// How long a note waits for its record, and a record for its note.
const WAIT_NS: u64 = 2_000_000_000;

/// Sends, notes and calls of one connection that wait at most.
const MOST: usize = 4096;

/// Sends that are kept to line up with.
const SENDS: usize = 64;

/// Sockets of one process of which the script told.
const MOST_SOCKETS: usize = 65_536;

/// A send of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) at_ns: u64,
    /// TCP's sequence, unwrapped.
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Records of sends were lost before it.
    pub(super) lost: bool,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    end: u64,
    owner: u64,
    /// A call began exactly where it does, or need not.
    headed: bool,
    told_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Served {
    call: CallId,
    at_ns: u64,
    /// Whether it can be told from the others on its connection, and has no number yet.
    open: bool,
}

#[derive(Debug, Default)]
struct Connection {
    process: Option<ProcessId>,
    /// Every send after this moment was told.
    since_ns: u64,
    /// Sends were forgotten.
    trimmed: bool,
    /// Sends with whether nothing is missing before each.
    sent: VecDeque<(Sent, bool)>,
    sent_end: Option<u64>,
    /// What is to be added to the script's offsets.
    delta: Option<u64>,
    broken: bool,
    /// (time, start, length of all that was written) of notes to line up by.
    syncs: VecDeque<(u64, u64, u64)>,
    ranges: VecDeque<Range>,
    calls: VecDeque<(CallId, u64, u64)>,
    served: VecDeque<Served>,
    /// The last request that is not over.
    serving: Option<CallId>,
    inbound: VecDeque<(u64, u64)>,
}

/// One end, and the other as soon as that is told.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
}

#[derive(Debug, Default)]
struct Process {
    sockets: FxHashMap<u64, Ends>,
    cookies: FxHashMap<(SocketAddr, SocketAddr), u64>,
    /// Requests that began before have no note.
    since_ns: u64,
}

/// What the notes and the records of all assisted processes say.
#[derive(Debug, Default)]
pub(super) struct Owners {
    processes: FxHashMap<ProcessId, Process>,
    connections: FxHashMap<u64, Connection>,
    /// Those of which something is to be looked at.
    active: FxHashSet<u64>,
    /// Connections on which script and kernel contradicted each other.
    pub(super) contradictions: u64,
}

impl Owners {
    /// Notes of this process come from now on.
    pub(super) fn begin(&mut self, process: ProcessId, now_ns: u64) {
        self.processes.entry(process).or_default().since_ns = now_ns;
    }

    /// Some notes were lost until now: of a request that began before, perhaps its own.
    pub(super) fn lost(&mut self, process: ProcessId, now_ns: u64) {
        if let Some(process) = self.processes.get_mut(&process) {
            process.since_ns = now_ns;
        }
    }

    /// No more notes come of this process.
    pub(super) fn end(&mut self, process: ProcessId) {
        self.processes.remove(&process);
        self.connections.retain(|_, connection| connection.process != Some(process));
    }

    /// Whether notes of this process are taken.
    pub(super) fn knows(&self, process: ProcessId) -> bool {
        self.processes.contains_key(&process)
    }

    /// A socket and its ends. Everything that is sent on it after `at_ns` will be told.
    pub(super) fn socket(
        &mut self,
        process: ProcessId,
        cookie: u64,
        (local, remote): (SocketAddr, SocketAddr),
        at_ns: u64,
    ) {
        let Some(known) = self.processes.get_mut(&process) else { return };
        let plain =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        known.cookies.insert((plain(local), plain(remote)), cookie);
        let connection = self.connections.entry(cookie).or_default();
        if connection.process.replace(process).is_none() {
            connection.since_ns = at_ns;
        }
    }

    /// A connection is over.
    pub(super) fn gone(&mut self, cookie: u64) {
        let Some(connection) = self.connections.remove(&cookie) else { return };
        let process = connection.process.and_then(|process| self.processes.get_mut(&process));
        if let Some(process) = process {
            process.cookies.retain(|_, known| *known != cookie);
        }
    }

    /// The process sent something.
    pub(super) fn sent(&mut self, cookie: u64, sent: Sent) {
        let Some(connection) = self.connections.get_mut(&cookie) else { return };
        let whole = !sent.lost && connection.sent_end.is_none_or(|end| end == sent.offset);
        connection.sent_end = Some(sent.offset.wrapping_add(sent.length));
        if connection.sent.len() >= SENDS {
            connection.sent.pop_front();
            connection.trimmed = true;
        }
        connection.sent.push_back((sent, whole));
    }

    /// A call began.
    pub(super) fn began(&mut self, cookie: u64, call: CallId, role: Role, offset: u64, at_ns: u64) {
        let Some(connection) = self.connections.get_mut(&cookie) else { return };
        self.active.insert(cookie);
        match role {
            Role::Client => push(&mut connection.calls, (call, offset, at_ns)),
            Role::Server => {
                let since_ns = connection
                    .process
                    .and_then(|process| self.processes.get(&process))
                    .map_or(u64::MAX, |process| process.since_ns);
                let open = connection.serving.is_none() && at_ns >= since_ns;
                connection.serving = Some(call);
                push(&mut connection.served, Served { call, at_ns, open });
            }
        }
    }

    /// A call is over.
    pub(super) fn over(&mut self, cookie: u64, call: CallId) {
        if let Some(connection) = self.connections.get_mut(&cookie)
            && connection.serving == Some(call)
        {
            connection.serving = None;
        }
    }

    /// The connection of a socket that the script told of.
    pub(super) fn connection(&self, process: ProcessId, socket: u64) -> Option<u64> {
        let known = self.processes.get(&process)?;
        let ends = known.sockets.get(&socket)?;
        known.cookies.get(&ends.local.zip(ends.remote)?).copied()
    }

    /// A note of the script's on a connection.
    pub(super) fn note(&mut self, process: ProcessId, entry: Entry, now_ns: u64) {
        let Some(known) = self.processes.get_mut(&process) else { return };
        let (Entry::Range { socket, .. }
        | Entry::Inbound { socket, .. }
        | Entry::End { socket, .. }) = entry
        else {
            return;
        };
        if let Entry::End { local, address, .. } = entry {
            if known.sockets.len() >= MOST_SOCKETS {
                known.sockets.clear();
            }
            let ends = known.sockets.entry(socket).or_default();
            *(if local { &mut ends.local } else { &mut ends.remote }) = Some(address);
            return;
        }
        let ends = known.sockets.get(&socket).and_then(|ends| ends.local.zip(ends.remote));
        let cookie = ends.and_then(|ends| known.cookies.get(&ends));
        let Some((cookie, connection)) = cookie
            .and_then(|cookie| self.connections.get_mut(cookie).map(|found| (*cookie, found)))
        else {
            return;
        };
        self.active.insert(cookie);
        match entry {
            Entry::Range { start, length, owner, message, sync, .. } => {
                if let Some((at_ns, total)) = sync {
                    push(&mut connection.syncs, (at_ns, start, total));
                }
                let owner = if owner == 0 { NOBODY } else { owner };
                let end = start.saturating_add(length);
                push(
                    &mut connection.ranges,
                    Range { start, end, owner, headed: message, told_ns: now_ns },
                );
            }
            Entry::Inbound { at_ns, owner, .. } => {
                push(&mut connection.inbound, (at_ns, owner));
            }
            // Not of a connection.
            Entry::End { .. }
            | Entry::Text { .. }
            | Entry::Handles { .. }
            | Entry::Handled { .. } => {}
        }
    }

    /// What follows from all that was told: calls with their numbers. To be called when the records up to
    /// the notes' own time were told.
    pub(super) fn settle(&mut self, now_ns: u64, out: &mut impl FnMut(CallId, u64)) {
        for cookie in std::mem::take(&mut self.active) {
            let Some(connection) = self.connections.get_mut(&cookie) else { continue };
            let was_broken = connection.broken;
            connection.line_up();
            connection.place_outbound(out);
            connection.place_inbound(out);
            connection.expire(now_ns);
            self.contradictions += u64::from(connection.broken && !was_broken);
            if connection.waits() {
                self.active.insert(cookie);
            }
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, value: T) {
    if queue.len() >= MOST {
        queue.pop_front();
    }
    queue.push_back(value);
}

impl Connection {
    /// Something waits for what may still be told.
    fn waits(&self) -> bool {
        !(self.syncs.is_empty()
            && self.ranges.is_empty()
            && self.calls.is_empty()
            && self.inbound.is_empty())
    }

    /// Finds what the script's offsets differ by, or that it isn't what it was.
    fn line_up(&mut self) {
        while let Some(&(at_ns, start, total)) = self.syncs.front() {
            let next = self.sent.iter().position(|(sent, _)| sent.at_ns > at_ns);
            let Some((index, &(sent, whole))) =
                next.and_then(|index| Some((index, self.sent.get(index)?)))
            else {
                // Its send was not told yet.
                return;
            };
            self.syncs.pop_front();
            // Another may have come between that is not known (any more).
            let is_next = at_ns >= self.since_ns && (index > 0 || !self.trimmed) && whole;
            if !is_next || sent.length > total {
                continue;
            }
            let delta = sent.offset.wrapping_sub(start);
            match self.delta {
                None if sent.length == total => self.delta = Some(delta),
                Some(known) if known != delta => self.broken = true,
                None | Some(_) => {}
            }
        }
    }

    fn place_outbound(&mut self, out: &mut impl FnMut(CallId, u64)) {
        if self.broken {
            self.calls.clear();
            self.ranges.clear();
            return;
        }
        let Some(delta) = self.delta else { return };
        // In the order of their offsets, as they were written.
        let ranges = &mut self.ranges;
        self.calls.retain(|&(call, offset, _)| {
            let at = offset.wrapping_sub(delta);
            let after = ranges.partition_point(|range| range.start <= at);
            let range = after.checked_sub(1).and_then(|index| ranges.get_mut(index));
            let Some(range) = range.filter(|range| at < range.end) else { return true };
            range.headed |= range.start == at;
            if range.headed {
                out(call, range.owner);
            }
            false
        });
    }

    fn place_inbound(&mut self, out: &mut impl FnMut(CallId, u64)) {
        let served = &mut self.served;
        self.inbound.retain(|&(at_ns, owner)| {
            let last = served.iter_mut().rev().find(|served| served.at_ns < at_ns);
            let Some(last) = last.filter(|last| last.open) else { return true };
            last.open = false;
            out(last.call, owner);
            false
        });
    }

    fn expire(&mut self, now_ns: u64) {
        let is_old = |at_ns: u64| now_ns.saturating_sub(at_ns) > WAIT_NS;
        while self.syncs.front().is_some_and(|(at_ns, ..)| is_old(*at_ns)) {
            self.syncs.pop_front();
        }
        while self.ranges.front().is_some_and(|range| is_old(range.told_ns)) {
            self.ranges.pop_front();
        }
        while self.calls.front().is_some_and(|(.., at_ns)| is_old(*at_ns)) {
            self.calls.pop_front();
        }
        while self.inbound.front().is_some_and(|(at_ns, _)| is_old(*at_ns)) {
            self.inbound.pop_front();
        }
        // The newest stays: it tells which request a note is not of.
        while self.served.len() > 1
            && self.served.front().is_some_and(|served| is_old(served.at_ns) || !served.open)
        {
            self.served.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
