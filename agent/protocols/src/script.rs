//! What the fuzz entry points of the protocols share: arbitrary bytes as a script of what a connection can be
//! told, and books that hold its events against what every caller relies on.
//!
//! It panics where a promise fails; it is not for use in the agent.

use std::collections::BTreeMap;

use crate::exchange::{Direction, EndError, Parser};

/// How a protocol's fuzz entry point cuts a script, and what its events are held against.
pub(crate) struct Protocol<P: Parser<u32>> {
    /// How many of these bytes an op takes that hands in bytes: as a rule a message, or half of one.
    pub(crate) cut: fn(u8, &[u8]) -> usize,
    /// Books an event.
    pub(crate) book: fn(&mut Books, P::Event<'_>),
}

/// Runs a script and ends the connection.
///
/// # Panics
/// When a promise is broken.
pub(crate) fn run<P: Parser<u32>>(mut connection: P, mut script: &[u8], protocol: &Protocol<P>) {
    let mut books = Books::default();
    let mut offsets = [0u64; 2];
    let mut mark = 0u32;
    while let Some((&op, rest)) = script.split_first() {
        mark += 1;
        let (direction, offset) = match (op & 1, &mut offsets) {
            (0, [requests, _]) => (Direction::Requests, requests),
            (_, [_, responses]) => (Direction::Responses, responses),
        };
        let mut out = |event: P::Event<'_>| (protocol.book)(&mut books, event);
        let size = || rest.split_first().map_or((0, rest), |(size, rest)| (u64::from(*size), rest));
        script = match op >> 1 {
            // Most ops are bytes.
            0..112 => {
                let take = (protocol.cut)(op, rest);
                let (bytes, after) = rest.split_at_checked(take).unwrap_or((rest, &[]));
                let missing = if op & 0b1_1100 == 0 { u64::from(op) } else { 0 };
                connection.on_bytes(direction, *offset, bytes, missing, &mark, &mut out);
                *offset += bytes.len() as u64 + missing;
                after
            }
            112..116 => {
                // A hole.
                let (size, after) = size();
                *offset += size;
                after
            }
            116..118 => {
                // Bytes that come again.
                let (size, after) = size();
                *offset = offset.saturating_sub(size);
                after
            }
            118..120 => {
                connection.on_gap(direction, &mut out);
                rest
            }
            120..124 => {
                connection.on_idle(&mut out);
                if op & 1 != 0 {
                    connection.nothing_owed(&mut out);
                }
                rest
            }
            124..126 => {
                connection.on_end(direction, None, &mark, &mut out);
                rest
            }
            _ => {
                connection.on_end(direction, Some(EndError::Reset), &mark, &mut out);
                rest
            }
        };
        books.check(&connection);
    }
    for direction in [Direction::Requests, Direction::Responses] {
        let mut out = |event: P::Event<'_>| (protocol.book)(&mut books, event);
        connection.on_end(direction, None, &mark, &mut out);
    }
    books.check(&connection);
    books.check_over(&connection);
}

/// What the events said so far, held against the promises.
#[derive(Debug, Default)]
pub(crate) struct Books {
    open: BTreeMap<u64, Seen>,
    next: u64,
    skipped: [u64; 2],
}

#[derive(Debug, Default)]
struct Seen {
    request_ended: bool,
    answered: bool,
}

impl Books {
    /// A request begins.
    ///
    /// # Panics
    /// As every method here, when it can't follow what came before.
    pub(crate) fn request(&mut self, exchange: u64) {
        assert_eq!(exchange, self.next, "ordinals count the requests");
        self.next += 1;
        self.open.insert(exchange, Seen::default());
    }

    /// It ends.
    pub(crate) fn request_end(&mut self, exchange: u64) {
        let seen = self.open.get_mut(&exchange).expect("of an open exchange");
        assert!(!std::mem::replace(&mut seen.request_ended, true), "one end of a request");
    }

    /// A response begins, where responses come in the order of requests.
    pub(crate) fn response_in_order(&mut self, exchange: u64) {
        let first = self.open.keys().next();
        assert_eq!(first, Some(&exchange), "a response answers the first open request");
        self.response(exchange);
    }

    /// A response begins, where none does before its request ended.
    pub(crate) fn response_to_whole(&mut self, exchange: u64) {
        let seen = self.open.get(&exchange).expect("of an open exchange");
        assert!(seen.request_ended, "after the request");
        self.response(exchange);
    }

    fn response(&mut self, exchange: u64) {
        let seen = self.open.get_mut(&exchange).expect("of an open exchange");
        assert!(!std::mem::replace(&mut seen.answered, true), "one response");
    }

    /// An exchange ends or is abandoned.
    pub(crate) fn over(&mut self, exchange: u64) {
        assert!(self.open.remove(&exchange).is_some(), "ended once, after its request");
    }

    /// Bytes are skipped.
    pub(crate) fn skip(&mut self, direction: Direction, bytes: u64) {
        assert!(bytes > 0, "nothing is not skipped");
        let [requests, responses] = &mut self.skipped;
        *match direction {
            Direction::Requests => requests,
            Direction::Responses => responses,
        } += bytes;
    }

    /// Holds the counters against each other and against the events.
    pub(crate) fn check<P: Parser<u32>>(&self, connection: &P) {
        assert_eq!(self.open.len(), connection.open_exchanges());
        let [requests, responses] = self.skipped;
        for (direction, skipped) in
            [(Direction::Requests, requests), (Direction::Responses, responses)]
        {
            let counters = connection.counters(direction);
            assert_eq!(
                counters.fed_bytes,
                counters.message_bytes + counters.skipped_bytes + counters.pending_bytes,
                "{direction:?} {counters:?}"
            );
            assert_eq!(counters.skipped_bytes, skipped, "{direction:?}");
        }
    }

    /// Holds that nothing is open or pending once both directions have ended.
    pub(crate) fn check_over<P: Parser<u32>>(&self, connection: &P) {
        assert!(self.open.is_empty(), "every exchange is over: {:?}", self.open);
        for direction in [Direction::Requests, Direction::Responses] {
            assert_eq!(connection.counters(direction).pending_bytes, 0, "{direction:?}");
        }
    }
}
