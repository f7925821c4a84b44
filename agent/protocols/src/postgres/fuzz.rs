//! Fuzz entry point of the PostgreSQL parser: arbitrary bytes as a script of what a connection can be
//! told.
//!
//! An ordinary test runs it over the captures and their prefixes; `fuzz/` runs it under libFuzzer. It
//! holds what every caller relies on, and panics where that fails; it is not for use in the agent.

use super::{Connection, Event, detect};
use crate::script::{self, Books, Protocol};
use crate::sql;

/// Runs `data` as a script and checks the promises of [`Event`] and [`super::Counters`]; reads it as SQL
/// too.
///
/// # Panics
/// When a promise is broken.
pub fn fuzz_postgres(data: &[u8]) {
    std::hint::black_box(detect(data));
    let Some((&flags, script)) = data.split_first() else { return };
    let mut connection = Connection::new(flags & 1 == 0);
    if flags & 4 != 0 {
        connection.takes_turns();
    }
    script::run(connection, script, &Protocol { cut, book });

    let text = String::from_utf8_lossy(data);
    assert!(sql::summary(&text, flags & 2 == 0).text.len() <= crate::limits::SQL_SUMMARY_BYTES);
    let sanitized = sql::sanitize(&text);
    assert_eq!(sql::sanitize(&sanitized), sanitized, "once is enough");
    std::hint::black_box(sql::traceparent_in_comment(&text));
    assert!(sql::statements(&text).all(|statement| text.get(statement).is_some()), "of the text");
}

/// A message by its own length, or what is there of it, or half.
fn cut(op: u8, rest: &[u8]) -> usize {
    let length = rest.get(1..5).map_or(rest.len(), |length| {
        length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)) + 1
    });
    let length = length.min(rest.len());
    if op & 0b10 == 0 { length } else { length.div_ceil(2) }
}

/// Holds an event against those before it.
///
/// # Panics
/// When it can't follow them.
pub(super) fn book<M>(books: &mut Books, event: Event<'_, M>) {
    match event {
        Event::Request { exchange, .. } => books.request(exchange),
        Event::RequestEnd { exchange, .. } => books.request_end(exchange),
        Event::Response { exchange, .. } => books.response_to_whole(exchange),
        Event::End { exchange, .. } | Event::Abandoned { exchange, .. } => books.over(exchange),
        Event::Session { .. } => {}
        Event::Skipped { direction, bytes, .. } => books.skip(direction, bytes),
    }
}
