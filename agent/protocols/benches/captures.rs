//! How fast the parsers are, on recorded sessions of real clients: captured bytes and messages a second.
//!
//! `cargo bench -p wirespan-protocols`. Each round feeds a whole session to a new connection, record by
//! record, as the agent does; a message is a request or its answer. All bytes are captured: none is skipped.

#![expect(clippy::indexing_slicing, reason = "a capture that isn't one ends the bench")]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use wirespan_protocols::exchange::Direction;
use wirespan_protocols::exchange::Parser as _;
use wirespan_protocols::{amqp, http1, kafka, postgres, redis};

fn main() {
    divan::main();
}

/// Bytes that one side sent, in one piece.
type Record = (Direction, Vec<u8>);

/// The records of a capture under `testdata`.
fn records(name: &str) -> Vec<Record> {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    let capture = std::fs::read(path).expect("a capture of that name");
    let mut rest = &capture[..];
    let mut records = Vec::new();
    while let Some(line) = rest.iter().position(|byte| *byte == b'\n') {
        let head = String::from_utf8_lossy(&rest[..line]).into_owned();
        let (sign, length) = head.split_once(' ').expect("a record's head");
        rest = &rest[line + 1..];
        if let Ok(length) = length.parse::<usize>() {
            let direction = if sign == ">" { Direction::Requests } else { Direction::Responses };
            records.push((direction, rest[..length].to_vec()));
            rest = &rest[length + 1..];
        }
    }
    records
}

/// Measures a parser on a capture; `$over`: the event that ends an exchange.
macro_rules! parse {
    ($bencher:expr, $protocol:ident, $name:expr) => {{
        let records = records(&format!("{}/{}", stringify!($protocol), $name));
        let run = || {
            let mut connection = $protocol::Connection::new(true);
            let (mut offsets, mut exchanges) = ([0; 2], 0_usize);
            for (direction, bytes) in &records {
                let offset = &mut offsets[*direction as usize];
                connection.on_bytes(*direction, *offset, bytes, 0, &0_u64, &mut |event| {
                    exchanges += usize::from(matches!(event, $protocol::Event::End { .. }));
                    black_box(event);
                });
                *offset += bytes.len() as u64;
            }
            exchanges
        };
        let bytes: usize = records.iter().map(|(_, bytes)| bytes.len()).sum();
        let exchanges = run();
        assert!(exchanges > 0, "nothing was told of {}", $name);
        $bencher
            .counter(BytesCount::new(bytes))
            .counter(ItemsCount::new(2 * exchanges))
            .bench_local(run);
    }};
}

#[divan::bench(args = ["ioredis.resp", "redis-py-resp2.resp", "redis-py-resp3.resp", "raw.resp"])]
fn redis(bencher: Bencher<'_, '_>, name: &str) {
    parse!(bencher, redis, name);
}

#[divan::bench(args = ["node-pg.pg", "postgres-js.pg", "psycopg2.pg", "psycopg.pg", "asyncpg.pg"])]
fn postgres(bencher: Bencher<'_, '_>, name: &str) {
    parse!(bencher, postgres, name);
}

#[divan::bench(args = ["kafkajs-2.kafka", "kafkajs-5.kafka", "aiokafka-14.kafka", "confluent-15.kafka"])]
fn kafka(bencher: Bencher<'_, '_>, name: &str) {
    parse!(bencher, kafka, name);
}

#[divan::bench(args = ["node-keep-alive.http", "python-keep-alive.http", "pipelined.http"])]
fn http1(bencher: Bencher<'_, '_>, name: &str) {
    parse!(bencher, http1, name);
}

#[divan::bench(args = ["amqplib.amqp", "pika.amqp", "aio-pika.amqp"])]
fn amqp(bencher: Bencher<'_, '_>, name: &str) {
    parse!(bencher, amqp, name);
}
