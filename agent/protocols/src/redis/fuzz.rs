//! Fuzz entry point of the Redis parser: arbitrary bytes as a script of what a connection can be told.
//!
//! An ordinary test runs it over the captures and all their prefixes; `fuzz/` runs it under libFuzzer.
//! It holds what every caller relies on, and panics where that fails; it is not for use in the agent.

use super::{Connection, Event, Fact, detect};
use crate::limits;
use crate::script::{self, Books, Protocol};

/// Runs `data` as a script and checks the promises of [`Event`] and [`super::Counters`].
///
/// # Panics
/// When a promise is broken.
pub fn fuzz_redis(data: &[u8]) {
    std::hint::black_box(detect(data));
    let Some((&flags, script)) = data.split_first() else { return };
    let mut connection = Connection::new(flags & 1 == 0);
    if flags & 2 != 0 {
        connection.takes_turns();
    }
    script::run(connection, script, &Protocol { cut, book });
}

/// Some lines, with their end, or half of them.
fn cut(op: u8, rest: &[u8]) -> usize {
    let lines = 1 + usize::from(op >> 6) * 2;
    let mut ends = rest.iter().enumerate().filter(|&(_, &byte)| byte == b'\n');
    let take = ends.nth(lines - 1).map_or(rest.len(), |(at, _)| at + 1);
    if op & 0b10 == 0 { take } else { take.div_ceil(2) }
}

/// Holds an event against those before it.
///
/// # Panics
/// When it can't follow them.
pub(super) fn book<M>(books: &mut Books, event: Event<'_, M>) {
    match event {
        Event::Request { exchange, request, .. } => {
            books.request(exchange);
            // " ..." may follow the cap.
            assert!(request.text.len() <= limits::REDIS_TEXT_BYTES + 4);
            assert!(request.text.starts_with('?') || !request.name.starts_with('?'));
        }
        Event::RequestEnd { exchange, .. } => books.request_end(exchange),
        Event::Response { exchange, .. } => books.response_in_order(exchange),
        Event::End { exchange, .. } | Event::Abandoned { exchange, .. } => books.over(exchange),
        Event::Push { bytes, .. } => assert!(bytes > 0),
        Event::Session(Fact::Database(_) | Fact::Protocol(_)) => {}
        Event::Skipped { direction, bytes, .. } => books.skip(direction, bytes),
    }
}
