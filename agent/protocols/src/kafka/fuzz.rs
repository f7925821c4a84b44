//! Fuzz entry point of the Kafka parser: arbitrary bytes as a script of what a connection can be told.
//!
//! An ordinary test runs it over the captures and their prefixes; `fuzz/` runs it under libFuzzer. It
//! holds what every caller relies on, and panics where that fails; it is not for use in the agent.

use super::{Connection, Event, detect};
use crate::script::{self, Books, Protocol};

/// Runs `data` as a script and checks the promises of [`Event`] and [`super::Counters`].
///
/// # Panics
/// When a promise is broken.
pub fn fuzz_kafka(data: &[u8]) {
    std::hint::black_box(detect(data));
    let Some((&flags, script)) = data.split_first() else { return };
    let mut connection = Connection::new(flags & 1 == 0);
    if flags & 4 != 0 {
        connection.keep_keys();
    }
    script::run(connection, script, &Protocol { cut, book });
}

/// A message by its own length, or what is there of it, or half.
fn cut(op: u8, rest: &[u8]) -> usize {
    let length = rest.first_chunk().map_or(rest.len(), |&length| {
        usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX).saturating_add(4)
    });
    let length = length.min(rest.len());
    if op & 0b10 == 0 { length } else { length.div_ceil(2) }
}

/// Holds an event against those before it.
///
/// # Panics
/// When it can't follow them.
pub(super) fn book<M>(books: &mut Books, event: Event<M>) {
    match event {
        Event::Request { exchange, .. } => books.request(exchange),
        Event::RequestEnd { exchange, .. } => books.request_end(exchange),
        Event::Response { exchange, .. } => books.response_to_whole(exchange),
        Event::End { exchange, .. } | Event::Abandoned { exchange, .. } => books.over(exchange),
        Event::Fact(_) => {}
        Event::Skipped { direction, bytes, .. } => books.skip(direction, bytes),
    }
}
