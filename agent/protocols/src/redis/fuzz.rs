//! Fuzz entry point of the Redis parser: arbitrary bytes as a script of what a connection can be told.
//!
//! An ordinary test runs it over the captures and all their prefixes; `fuzz/` runs it under libFuzzer.
//! It holds what every caller relies on, and panics where that fails; it is not for use in the agent.

use std::sync::{Arc, LazyLock};

use super::{Asked, Connection, Event, Fact, Value, Values, detect, hash};
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
    if flags & 4 != 0 {
        connection = connection.asking(asked());
    }
    script::run(connection, script, &Protocol { cut, book });
}

/// Values of many commands, of all shapes.
///
/// # Panics
/// When the parser doesn't know one of them.
pub(super) fn asked() -> Arc<Asked> {
    static ASKED: LazyLock<Arc<Asked>> = LazyLock::new(|| Arc::new(ask()));
    Arc::clone(&ASKED)
}

fn ask() -> Asked {
    let commands = "BLMOVE BLPOP BRPOP BRPOPLPUSH BZPOPMIN EVAL EVALSHA GET HGETALL HMSET HSET LMOVE LPOP LPUSH \
        PUBLISH RPOP RPUSH SET SETEX XACK XADD XREAD XREADGROUP ZADD ZPOPMAX ZPOPMIN";
    let one = |asked: Asked, name| {
        let pattern = if matches!(name, "GET" | "SET" | "HSET" | "HGETALL") { "h:*" } else { "*" };
        asked.command(name, pattern).expect("a command of the table")
    };
    commands.split_ascii_whitespace().fold(Asked::new().messages(), one)
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
        Event::Request { exchange, request, values, .. } => {
            books.request(exchange);
            bounded(&values);
            assert!(request.text.len() <= limits::REDIS_TEXT_BYTES);
            assert!(request.text.starts_with('?') || !request.name.starts_with('?'));
        }
        Event::RequestEnd { exchange, .. } => books.request_end(exchange),
        Event::Response { exchange, .. } => books.response_in_order(exchange),
        Event::End { exchange, values, .. } => {
            books.over(exchange);
            bounded(&values);
        }
        Event::Abandoned { exchange, .. } => books.over(exchange),
        Event::Push { bytes, values, .. } => {
            assert!(bytes > 0);
            bounded(&values);
        }
        Event::Session(Fact::Database(_) | Fact::Protocol(_)) => {}
        Event::Skipped { direction, bytes, .. } => books.skip(direction, bytes),
    }
}

/// Holds that values keep to their caps, and that a hash is that of what it is of.
fn bounded(values: &Values<'_>) {
    let (mut count, mut kept) = (0, 0);
    for value in values.iter() {
        count += 1;
        if let Value::Bytes(bytes) = value {
            kept += bytes.kept.len();
            assert!(bytes.kept.len() <= limits::REDIS_VALUE_BYTES);
            assert!(bytes.kept.len() as u64 <= bytes.len);
            if let Some(whole) = bytes.whole() {
                assert_eq!(bytes.hash, Some(hash(whole)));
            }
        }
    }
    assert!(count <= limits::REDIS_VALUES && kept <= limits::REDIS_VALUES_BYTES);
}
