//! The exchange: what is known of one call, from its first byte to its span.
//!
//! Correlation decides where a call belongs; this is what it was. One table holds all that are under way,
//! by [`CallId`], bounded.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use wirespan_protocols::http1::{End, RequestHead, ResponseHead};

use crate::call::{CallId, ProcessId, Role};
use crate::capture::Socket;
use crate::clock::WallClock;
use crate::connection::Mark;
use crate::span::Resource;

/// Calls held at most. Beyond, a new one makes no span, and is counted.
const MAX_EXCHANGES: usize = 200_000;

/// One HTTP exchange.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The process.
    pub process: ProcessId,
    /// Its side.
    pub role: Role,
    /// Its service.
    pub resource: Arc<Resource>,
    /// The ends of the connection.
    pub socket: Option<Socket>,
    /// The request's head.
    pub request: RequestHead,
    /// When the request's first bytes passed.
    pub first: Mark,
    /// When its last bytes passed.
    pub request_last: Option<Mark>,
    /// Bytes of its content, where its framing was seen to the end.
    pub request_bytes: Option<u64>,
    /// When the response's first bytes passed.
    pub response_first: Option<Mark>,
    /// The response's head.
    pub response: Option<ResponseHead>,
    /// How and when it ended.
    pub end: Option<(Mark, End)>,
    /// How long the connection took to be made, on the first call over it.
    pub connect_ns: Option<u64>,
    /// The distance to wall time when it began.
    pub wall: WallClock,
    /// Bounds that the other end's exchange proved: not later than, not earlier than.
    pub begun_by_ns: Option<u64>,
    /// See [`Exchange::begun_by_ns`].
    pub over_by_ns: Option<u64>,
}

impl Exchange {
    /// When it began: for a server when the first bytes reached the socket, for a client when the send
    /// returned or, if the other end proves that the bytes were there earlier, then.
    pub fn start_ns(&self) -> u64 {
        let start = match self.role {
            Role::Server => self.first.at_ns.saturating_sub(self.first.queue_ns.unwrap_or(0)),
            Role::Client => self.first.at_ns,
        };
        self.begun_by_ns.map_or(start, |bound| start.min(bound))
    }

    /// When it was over: the last byte handed to the kernel or read from it.
    pub fn end_ns(&self) -> u64 {
        let end = self.end.as_ref().map_or(self.first.at_ns, |(last, _)| last.at_ns);
        self.over_by_ns.map_or(end, |bound| end.min(bound)).max(self.start_ns())
    }
}

/// A send's record is stamped when the call returns, which can be after the peer acted on the bytes. Two
/// exchanges that are the two ends of one correct each other: the client began before the server had the
/// bytes, and the server was done before the client had read the last of them.
pub fn reconcile(client: &mut Exchange, server: &mut Exchange) {
    client.begun_by_ns = Some(server.start_ns());
    // One distance to wall time for both: two samples differ by what the clock was slewed between them.
    server.wall = client.wall;
    if matches!(client.end, Some((_, End::Complete { .. } | End::Closed { .. } | End::Upgraded))) {
        server.over_by_ns = Some(client.end_ns());
    }
}

/// The exchanges under way.
#[derive(Debug, Default)]
pub struct Exchanges {
    by_call: FxHashMap<CallId, Exchange>,
    next: u64,
    /// Calls that found the table full.
    pub refused: u64,
}

impl Exchanges {
    /// Enters a call; `None` when there is no room.
    pub fn enter(&mut self, exchange: Exchange) -> Option<CallId> {
        if self.by_call.len() >= MAX_EXCHANGES {
            self.refused += 1;
            return None;
        }
        self.next += 1;
        let id = CallId(self.next);
        self.by_call.insert(id, exchange);
        Some(id)
    }

    /// The call.
    pub fn get_mut(&mut self, id: CallId) -> Option<&mut Exchange> {
        self.by_call.get_mut(&id)
    }

    /// Takes the call out.
    pub fn remove(&mut self, id: CallId) -> Option<Exchange> {
        self.by_call.remove(&id)
    }

    /// Takes the call out, with what the other end proves of its times.
    pub fn finish(&mut self, id: CallId, peer: Option<CallId>) -> Option<Exchange> {
        let mut exchange = self.by_call.remove(&id)?;
        if let Some(other) = peer.and_then(|peer| self.by_call.get_mut(&peer)) {
            // The two ends of one exchange, on one scale: a sample taken between them moves neither
            // against the other.
            other.wall = exchange.wall;
            match exchange.role {
                Role::Client => reconcile(&mut exchange, other),
                Role::Server => reconcile(other, &mut exchange),
            }
        }
        Some(exchange)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_call.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_call.is_empty()
    }
}
