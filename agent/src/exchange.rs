//! The exchange: what is known of one call, from its first byte to its span.
//!
//! Correlation decides where a call belongs; this is what it was. One table holds all that are under way,
//! by [`CallId`], bounded.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::call::{CallId, ProcessId, Role};
use crate::capture::Socket;
use crate::clock::WallClock;
use crate::connection::{Content, Mark, Outcome};
use crate::settings::{JsonField, Settings};
use crate::span::Resource;

/// Calls held at most. Beyond, a new one makes no span, and is counted.
const MAX_EXCHANGES: usize = 200_000;

/// One request with its response.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The process.
    pub process: ProcessId,
    /// Its side.
    pub role: Role,
    /// Its service.
    pub resource: Arc<Resource>,
    /// What is done with its span.
    pub settings: Arc<Settings>,
    /// The process's variables that its span is to have.
    pub environment: Vec<(String, String)>,
    /// The ends of the connection.
    pub socket: Option<Socket>,
    /// What was asked, and what an HTTP response's head says.
    pub content: Content,
    /// When the request's first bytes passed.
    pub first: Mark,
    /// When its last bytes passed.
    pub request_last: Option<Mark>,
    /// Bytes of its content, where its framing was seen to the end.
    pub request_bytes: Option<u64>,
    /// Fields of its content that the settings ask for.
    pub request_fields: Vec<JsonField>,
    /// When the response's first bytes passed.
    pub response_first: Option<Mark>,
    /// When and how it ended.
    pub end: Option<(Mark, Outcome)>,
    /// The database that the process's own settings name, should the connection not tell.
    pub database: Option<Arc<str>>,
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
    if client.end.as_ref().is_some_and(|(_, outcome)| outcome.is_whole()) {
        server.over_by_ns = Some(client.end_ns());
    }
}

/// Where an exchange is: its connection's cookie, and its ordinal there.
pub type Place = (u64, u64);

/// The exchanges under way.
#[derive(Debug, Default)]
pub struct Exchanges {
    /// In boxes: an exchange has a kilobyte, and a map moves what it holds when it grows.
    by_call: FxHashMap<CallId, (Place, Box<Exchange>)>,
    /// Those whose connection has not told their end.
    by_place: FxHashMap<Place, CallId>,
    next: u64,
    /// Calls that found the table full.
    pub refused: u64,
}

impl Exchanges {
    /// Enters a call; `None` when there is no room.
    pub fn enter(&mut self, place: Place, exchange: Exchange) -> Option<CallId> {
        if self.by_call.len() >= MAX_EXCHANGES {
            self.refused += 1;
            return None;
        }
        self.next += 1;
        let id = CallId(self.next);
        self.by_call.insert(id, (place, Box::new(exchange)));
        self.by_place.insert(place, id);
        Some(id)
    }

    /// The call of which its connection tells more.
    pub fn at(&mut self, place: Place) -> Option<&mut Exchange> {
        let id = *self.by_place.get(&place)?;
        self.by_call.get_mut(&id).map(|(_, exchange)| &mut **exchange)
    }

    /// The call at a place.
    pub fn id(&self, place: Place) -> Option<CallId> {
        self.by_place.get(&place).copied()
    }

    /// The call of which its connection tells the end: nothing more comes from there.
    pub fn ends(&mut self, place: Place) -> Option<(CallId, &mut Exchange)> {
        let id = self.by_place.remove(&place)?;
        self.by_call.get_mut(&id).map(|(_, exchange)| (id, &mut **exchange))
    }

    /// Takes the call out.
    pub fn remove(&mut self, id: CallId) -> Option<Box<Exchange>> {
        let (place, exchange) = self.by_call.remove(&id)?;
        if self.by_place.get(&place) == Some(&id) {
            self.by_place.remove(&place);
        }
        Some(exchange)
    }

    /// Takes the call out, with what the other end proves of its times.
    pub fn finish(&mut self, id: CallId, peer: Option<CallId>) -> Option<Box<Exchange>> {
        let mut exchange = self.remove(id)?;
        if let Some((_, other)) = peer.and_then(|peer| self.by_call.get_mut(&peer)) {
            // One distance to wall time for both: two samples differ by what the clock was slewed between.
            other.wall = exchange.wall;
            match exchange.role {
                Role::Client => reconcile(&mut exchange, other),
                Role::Server => reconcile(other, &mut exchange),
            }
        }
        Some(exchange)
    }

    /// The processes of those that are there, in no order.
    pub fn processes(&self) -> impl Iterator<Item = ProcessId> {
        self.by_call.values().map(|(_, exchange)| exchange.process)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use wirespan_protocols::exchange::Parser as _;
    use wirespan_protocols::http1::{Connection, Direction, End, Event};

    /// One whose request is `GET /a`.
    pub(crate) fn exchange(role: Role) -> Exchange {
        let (mut connection, mut heads) = (Connection::new(true), Vec::new());
        let bytes = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        connection.on_bytes(Direction::Requests, 0, bytes, 0, &(), &mut |event| {
            if let Event::Request { head, .. } = event {
                heads.push(head.into_owned());
            }
        });
        Exchange {
            process: ProcessId(1),
            role,
            resource: Arc::new(Resource { attributes: Vec::new() }),
            settings: Arc::default(),
            environment: Vec::new(),
            socket: None,
            content: Content::Http { request: heads.remove(0), response: None },
            first: Mark::default(),
            request_last: None,
            request_bytes: None,
            request_fields: Vec::new(),
            response_first: None,
            end: None,
            database: None,
            connect_ns: None,
            wall: WallClock::at_distance(0),
            begun_by_ns: None,
            over_by_ns: None,
        }
    }

    #[test]
    fn a_call_that_is_taken_out_is_found_nowhere() {
        let mut exchanges = Exchanges::default();
        let id = exchanges.enter((7, 0), exchange(Role::Server)).unwrap();
        assert!(exchanges.at((7, 0)).is_some());
        assert_eq!(exchanges.processes().count(), 1);
        assert!(exchanges.remove(id).is_some());
        assert!(exchanges.at((7, 0)).is_none() && exchanges.ends((7, 0)).is_none());
        assert_eq!((exchanges.processes().count(), exchanges.by_place.len()), (0, 0));
    }

    #[test]
    fn a_call_whose_end_was_told_waits_for_its_place_in_a_trace_only() {
        let mut exchanges = Exchanges::default();
        let id = exchanges.enter((7, 0), exchange(Role::Server)).unwrap();
        assert_eq!(exchanges.ends((7, 0)).map(|(id, _)| id), Some(id));
        assert!(exchanges.at((7, 0)).is_none() && exchanges.by_place.is_empty());
        assert!(exchanges.finish(id, None).is_some());
        assert_eq!(exchanges.processes().count(), 0);
    }

    #[test]
    fn two_ends_correct_each_other() {
        for first in [Role::Client, Role::Server] {
            let mut exchanges = Exchanges::default();
            let mut enter = |role, at_ns, end_ns| {
                let mark = |at_ns| Mark { at_ns, ..Mark::default() };
                let end = Some((mark(end_ns), Outcome::Http(End::Complete { body_bytes: 0 })));
                let wall = WallClock::at_distance(at_ns);
                let exchange = Exchange { first: mark(at_ns), end, wall, ..exchange(role) };
                exchanges.enter((at_ns, 0), exchange).unwrap()
            };
            // Each was stamped late.
            let (client, server) = (enter(Role::Client, 120, 200), enter(Role::Server, 100, 210));
            let mut finish = |role| match role {
                Role::Client => exchanges.finish(client, Some(server)).unwrap(),
                Role::Server => exchanges.finish(server, Some(client)).unwrap(),
            };
            let other = if first == Role::Client { Role::Server } else { Role::Client };
            let (first, second) = (finish(first), finish(other));
            for exchange in [&first, &second] {
                assert_eq!((exchange.start_ns(), exchange.end_ns()), (100, 200));
            }
            assert_eq!(first.wall.unix_ns(0), second.wall.unix_ns(0), "on one clock");
        }
    }
}
