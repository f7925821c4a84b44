//! Fuzz entry point of the HTTP/1.x parser: arbitrary bytes as a script of what a connection can be told.
//!
//! An ordinary test runs it over the captures and all their prefixes; `fuzz/` runs it under libFuzzer.
//! It holds what every caller relies on, and panics where that fails; it is not for use in the agent.

use std::sync::Arc;

use super::{Asked, Connection, Direction, Event, detect};
use crate::script::{self, Books, Protocol};

/// Runs `data` as a script and checks the promises of [`Event`] and [`super::Counters`].
///
/// # Panics
/// When a promise is broken.
pub fn fuzz_http1(data: &[u8]) {
    std::hint::black_box(detect(data));
    let Some((&flags, script)) = data.split_first() else { return };
    let asked = Asked::new().field(Direction::Requests, "host");
    let asked = asked.field(Direction::Responses, "content-type");
    let mut connection = Connection::new(flags & 1 == 0);
    connection.ask(&Arc::new(asked.objects()));
    script::run(connection, script, &Protocol { cut, book });
}

/// The next line, with its end, or half of it.
fn cut(op: u8, rest: &[u8]) -> usize {
    let line = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
    if op & 0b10 == 0 { line } else { line.div_ceil(2) }
}

/// Holds an event against those before it.
///
/// # Panics
/// When it can't follow them.
pub(super) fn book<M>(books: &mut Books, event: Event<'_, M>) {
    match event {
        Event::Request { exchange, .. } => books.request(exchange),
        Event::RequestEnd { exchange, .. } => books.request_end(exchange),
        Event::Response { exchange, head, .. } => {
            assert!(head.status == 101 || head.status >= 200, "{}", head.status);
            books.response_in_order(exchange);
        }
        Event::End { exchange, .. } | Event::Abandoned { exchange, .. } => books.over(exchange),
        Event::Skipped { direction, bytes, .. } => books.skip(direction, bytes),
    }
}
