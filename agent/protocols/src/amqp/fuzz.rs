//! Fuzz entry point of the AMQP parser: arbitrary bytes as a script of what a connection can be told.
//!
//! An ordinary test runs it over the captures and all their prefixes; `fuzz/` runs it under libFuzzer.
//! It holds what every caller relies on, and panics where that fails; it is not for use in the agent.

use super::{Call, Connection, Event, detect};
use crate::limits;
use crate::script::{self, Books, Protocol};

/// Runs `data` as a script and checks the promises of [`Event`] and [`super::Counters`].
///
/// # Panics
/// When a promise is broken.
pub fn fuzz_amqp(data: &[u8]) {
    std::hint::black_box(detect(data));
    let Some((&flags, script)) = data.split_first() else { return };
    script::run(Connection::new(flags & 1 == 0), script, &Protocol { cut, book });
}

/// Some frames, up to an octet that may end one, or half of them.
fn cut(op: u8, rest: &[u8]) -> usize {
    let frames = 1 + usize::from(op >> 6) * 2;
    let mut ends = rest.iter().enumerate().filter(|&(_, &byte)| byte == 0xce);
    let take = ends.nth(frames - 1).map_or(rest.len(), |(at, _)| at + 1);
    if op & 0b10 == 0 { take } else { take.div_ceil(2) }
}

/// Holds an event against those before it.
///
/// # Panics
/// When it can't follow them.
pub(super) fn book<M>(books: &mut Books, event: Event<M>) {
    match event {
        Event::Request { exchange, call, .. } => {
            books.request(exchange);
            let message = match &call {
                Call::Publish(publish) => &publish.message,
                Call::Delivery(delivery) => &delivery.message,
                Call::Get { .. } | Call::Method { .. } => return,
            };
            let task = message.properties.task.as_deref().unwrap_or_default();
            // A byte that is no character becomes one of three.
            assert!(task.len() <= 3 * limits::AMQP_HEADER_VALUE_BYTES);
        }
        Event::RequestEnd { exchange, .. } => books.request_end(exchange),
        Event::Response { exchange, .. } => books.response_to_whole(exchange),
        Event::End { exchange, .. } | Event::Abandoned { exchange, .. } => books.over(exchange),
        Event::Session(_) => {}
        Event::Skipped { direction, bytes, .. } => books.skip(direction, bytes),
    }
}
