//! The two ends of a connection: which client call is the parent of which server call.
//!
//! A request begins at the same TCP sequence number at both ends, so equal offsets on paired sockets are
//! the same request. Either end, and the pairing, may be told first. Also here: what a socket keeps
//! findable, and the requests on it whose end nobody saw.

use super::Engine;
use super::schedule::Due;
use super::state::{Far, Parent, Socket};
use crate::call::{CallId, ProcessId, Role, SocketId};

/// Abandoned server calls remembered on one socket.
const MAX_GHOSTS: usize = 8;

/// How late the stamp of a send can be: it is taken when the call returns (5 ms with stolen CPU time).
pub(super) const STAMP_NS: u64 = 5_000_000;

impl Engine {
    pub(super) fn socket_mut(&mut self, id: SocketId) -> &mut Socket {
        if !self.sockets.contains_key(&id) {
            self.socket_order.push_back(id);
            while self.sockets.len() >= self.config.max_sockets {
                let Some(oldest) = self.socket_order.pop_front() else { break };
                self.drop_socket(oldest);
            }
            if self.socket_order.len() > 2 * self.config.max_sockets {
                let sockets = &self.sockets;
                self.socket_order.retain(|socket| *socket == id || sockets.contains_key(socket));
            }
        }
        self.sockets.entry(id).or_default()
    }

    /// Makes a call findable from the other end, and looks there for its match.
    pub(super) fn find_match(&mut self, id: CallId, socket: SocketId, role: Role, offset: u32) {
        let cap = self.config.max_calls_per_socket;
        let entry = self.socket_mut(socket);
        let far = match entry.far {
            Far::Untraced => return,
            Far::Paired(far) => Some(far),
            Far::Unknown => None,
        };
        if let Some(other) = far.and_then(|far| self.matching(far, id, role, offset)) {
            self.join(id, other);
            return;
        }
        let entry = self.socket_mut(socket);
        entry.calls.push_back((offset, id));
        let oldest = (entry.calls.len() > cap).then(|| entry.calls.pop_front()).flatten();
        if let Some(call) = self.calls.get_mut(&id) {
            call.held = true;
        }
        if let Some((_, oldest)) = oldest {
            self.let_go(oldest);
        }
    }

    /// The call of the other role that begins at `offset`.
    fn matching(&self, socket: SocketId, id: CallId, role: Role, offset: u32) -> Option<CallId> {
        let Socket { calls, counted, .. } = self.sockets.get(&socket)?;
        let same = |other: &CallId| {
            self.calls.get(other).is_some_and(|call| call.role != role)
                && (!counted || self.can_be_one(id, *other))
        };
        calls.iter().rev().filter(|(at, _)| *at == offset).map(|&(_, id)| id).find(same)
    }

    /// Whether the times of two ends allow that they are one request's: no client had its answer before the
    /// server read the request, and none sent it after the server was done.
    fn can_be_one(&self, a: CallId, b: CallId) -> bool {
        let (Some(a), Some(b)) = (self.calls.get(&a), self.calls.get(&b)) else { return false };
        let (client, server) = if a.role == Role::Client { (a, b) } else { (b, a) };
        let answered_before = client.end.is_some_and(|end| end < server.start);
        let asked_after = server.end.is_some_and(|end| end.saturating_add(STAMP_NS) < client.start);
        !answered_before && !asked_after
    }

    pub(super) fn pair(&mut self, a: SocketId, b: SocketId, counted: bool) {
        for (end, other) in [(a, b), (b, a)] {
            let socket = self.socket_mut(end);
            socket.far = Far::Paired(other);
            socket.counted = counted;
        }
        let waiting: Vec<_> = self.socket_mut(a).calls.iter().copied().collect();
        for (offset, id) in waiting {
            let Some(role) = self.calls.get(&id).map(|call| call.role) else { continue };
            if let Some(other) = self.matching(b, id, role, offset) {
                self.join(id, other);
            }
        }
    }

    pub(super) fn untraced(&mut self, id: SocketId) {
        let now = self.now;
        let socket = self.socket_mut(id);
        socket.far = Far::Untraced;
        for (_, id) in std::mem::take(&mut socket.calls) {
            if let Some(call) = self.calls.get_mut(&id)
                && call.role == Role::Server
                && call.parent == Parent::Undecided
            {
                call.due = call.due.min(call.start);
                if let Some(end) = call.end {
                    self.schedule.push(end.max(now), Due::Emit(id));
                }
            }
            self.let_go(id);
        }
    }

    fn join(&mut self, a: CallId, b: CallId) {
        let (client, server) = match self.calls.get(&a).map(|call| call.role) {
            Some(Role::Client) => (a, b),
            Some(Role::Server) => (b, a),
            None => return,
        };
        for (id, peer) in [(client, server), (server, client)] {
            if let Some(call) = self.calls.get_mut(&id) {
                call.peer = Some(peer);
            }
            self.release_socket(id);
        }
        let Some(call) = self.calls.get(&server) else { return };
        if call.trace.is_some() || call.parent != Parent::Undecided {
            // Its trace id is out already; another now would tear its children off.
            self.books.late_joins += 1;
        } else if !self.leads_to(client, server) {
            self.adopt(server, client);
        }
        self.try_remove(client);
        self.try_remove(server);
    }

    /// The call is found from the other end no longer; it may go when nothing else needs it.
    pub(super) fn let_go(&mut self, id: CallId) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.held = false;
        }
        self.try_remove(id);
    }

    /// Takes a call off its socket.
    pub(super) fn release_socket(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if !std::mem::take(&mut call.held) {
            return;
        }
        if let Some(socket) = self.sockets.get_mut(&call.socket)
            && let Some(position) = socket.calls.iter().rposition(|&(_, other)| other == id)
        {
            socket.calls.remove(position);
        }
    }

    /// A server call whose end will not be told: its request counts as in flight until its socket
    /// closes or carries the next one, or for a bounded time.
    pub(super) fn haunt(&mut self, process: ProcessId, socket: SocketId, id: CallId, at: u64) {
        let until = at.max(self.now).saturating_add(self.config.ghost_ns);
        let late_work_ns = self.config.late_work_ns;
        let entry = self.socket_mut(socket);
        let closed = entry.closed;
        let ghosts = &mut entry.ghosts;
        ghosts.push((process, id));
        let oldest = (ghosts.len() > MAX_GHOSTS).then(|| ghosts.remove(0));
        if let Some((process, id)) = oldest
            && let Some(process) = self.processes.get_mut(&process)
        {
            process.exorcise(id, at, late_work_ns);
        }
        if closed {
            self.exorcise(socket, at);
        } else {
            self.schedule.push(until, Due::Ghost(process, id));
        }
    }

    /// The requests on this socket whose end was not seen are over.
    pub(super) fn exorcise(&mut self, socket: SocketId, at: u64) {
        let Some(socket) = self.sockets.get_mut(&socket) else { return };
        for (process, id) in std::mem::take(&mut socket.ghosts) {
            if let Some(process) = self.processes.get_mut(&process) {
                process.exorcise(id, at, self.config.late_work_ns);
            }
        }
    }

    /// Lets go of a socket's calls. A process that it made opaque stays so: only a close ends that.
    pub(super) fn drop_socket(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.remove(&id) else { return };
        for (_, id) in socket.calls {
            self.let_go(id);
        }
    }
}
