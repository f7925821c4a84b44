//! Fuzz entry point of the AMQP parser: arbitrary bytes as a script of what a connection can be told.
//!
//! An ordinary test runs it over the captures and all their prefixes; `fuzz/` runs it under libFuzzer.
//! It holds what every caller relies on, and panics where that fails; it is not for use in the agent.

use std::collections::BTreeMap;

use super::{Call, Connection, Direction, EndError, Event, detect};
use crate::limits;

/// Runs `data` as a script and checks the promises of [`Event`] and [`super::Counters`].
///
/// # Panics
/// When a promise is broken.
pub fn fuzz_amqp(data: &[u8]) {
    std::hint::black_box(detect(data));
    let Some((&flags, mut script)) = data.split_first() else { return };
    let mut connection = Connection::new(flags & 1 == 0);
    let mut books = Books::default();
    let mut offsets = [0u64; 2];
    let mut mark = 0u32;
    while let Some((&op, rest)) = script.split_first() {
        mark += 1;
        let (direction, offset) = match (op & 1, &mut offsets) {
            (0, [requests, _]) => (Direction::Requests, requests),
            (_, [_, responses]) => (Direction::Responses, responses),
        };
        let mut out = |event| books.take(event);
        script = match op >> 1 {
            // Most ops are bytes: some frames, up to an octet that may end one, or half of them.
            0..112 => {
                let frames = 1 + usize::from(op >> 6) * 2;
                let mut ends = rest.iter().enumerate().filter(|&(_, &byte)| byte == 0xce);
                let take = ends.nth(frames - 1).map_or(rest.len(), |(at, _)| at + 1);
                let take = if op & 0b10 == 0 { take } else { take.div_ceil(2) };
                let (bytes, after) = rest.split_at_checked(take).unwrap_or((rest, &[]));
                let missing = if op & 0b1_1100 == 0 { u64::from(op) } else { 0 };
                connection.on_bytes(direction, *offset, bytes, missing, &mark, &mut out);
                *offset += bytes.len() as u64 + missing;
                after
            }
            112..116 => {
                // A hole.
                let (size, after) =
                    rest.split_first().map_or((0, rest), |(&size, rest)| (size, rest));
                *offset += u64::from(size);
                after
            }
            116..118 => {
                // Bytes that come again.
                let (size, after) =
                    rest.split_first().map_or((0, rest), |(&size, rest)| (size, rest));
                *offset = offset.saturating_sub(u64::from(size));
                after
            }
            118..120 => {
                connection.on_gap(direction, &mut out);
                rest
            }
            120..124 => {
                connection.on_idle(&mut out);
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
        connection.on_end(direction, None, &mark, &mut |event| books.take(event));
    }
    books.check(&connection);
    books.check_over(&connection);
}

/// What the events said so far, held against the promises.
#[derive(Debug, Default)]
pub struct Books {
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
    /// Takes an event.
    ///
    /// # Panics
    /// When it can't follow those before it.
    pub fn take<M>(&mut self, event: Event<M>) {
        match event {
            Event::Request { exchange, call, .. } => {
                assert_eq!(exchange, self.next, "ordinals count what is told");
                self.next += 1;
                self.open.insert(exchange, Seen::default());
                if let Call::Delivery(delivery) = call {
                    assert!(delivery.exchange.len() <= 3 * 255, "no name is longer");
                }
            }
            Event::RequestEnd { exchange, .. } => {
                let seen = self.open.get_mut(&exchange).expect("of an open exchange");
                assert!(!std::mem::replace(&mut seen.request_ended, true), "one end");
            }
            Event::Response { exchange, .. } => {
                let seen = self.open.get_mut(&exchange).expect("of an open exchange");
                assert!(seen.request_ended, "nothing answers half a message");
                assert!(!std::mem::replace(&mut seen.answered, true), "one answer");
            }
            Event::End { exchange, .. } | Event::Abandoned { exchange, .. } => {
                assert!(self.open.remove(&exchange).is_some(), "ended once, after its beginning");
            }
            Event::Session(_) => {}
            Event::Skipped { direction, bytes, .. } => {
                assert!(bytes > 0, "nothing is not skipped");
                let [requests, responses] = &mut self.skipped;
                *match direction {
                    Direction::Requests => requests,
                    Direction::Responses => responses,
                } += bytes;
            }
        }
    }

    /// Holds the counters against each other and against the events.
    ///
    /// # Panics
    /// When they don't agree.
    pub fn check<M: Clone>(&self, connection: &Connection<M>) {
        assert_eq!(self.open.len(), connection.open_exchanges());
        assert!(self.open.len() <= limits::AMQP_OPEN_EXCHANGES);
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
    ///
    /// # Panics
    /// When something is.
    pub fn check_over<M: Clone>(&self, connection: &Connection<M>) {
        assert!(self.open.is_empty(), "every exchange is over: {:?}", self.open);
        for direction in [Direction::Requests, Direction::Responses] {
            assert_eq!(connection.counters(direction).pending_bytes, 0, "{direction:?}");
        }
    }
}
