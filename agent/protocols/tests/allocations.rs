//! In the steady state a parser allocates nothing: recorded sessions, over and over on one connection. That of
//! Kafka, whose messages are few and carry many, allocates what it tells of their partitions.
//!
//! What a session begins with (a login) is fed once, and what ends it is left out. Parameters of statements are
//! not kept here, as they aren't by default: where they are, they are memory of their own. AMQP's messages are told
//! with their names and ids, which the spans of deliveries keep until they are settled.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use allocation_counter::measure;
use rstest::rstest;
use wirespan_protocols::exchange::Direction::{self, Requests, Responses};
use wirespan_protocols::exchange::Parser;
use wirespan_protocols::{amqp, http1, kafka, postgres, redis};

/// Times that a session is repeated before it is measured: buffers have grown to what is needed.
const WARM_UP: usize = 3;

/// Times that are measured.
const ROUNDS: usize = 10;

/// What one side sent, in one piece.
type Record = (Direction, Vec<u8>);

/// The records of a capture under `testdata`, up to the first FIN.
fn records(name: &str) -> Vec<Record> {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    let capture = std::fs::read(path).unwrap();
    let mut rest = &capture[..];
    let mut records = Vec::new();
    while let Some(line) = rest.iter().position(|byte| *byte == b'\n') {
        let head = str::from_utf8(&rest[..line]).unwrap();
        let (sign, length) = head.split_once(' ').unwrap();
        let Ok(length) = length.parse::<usize>() else { break };
        rest = &rest[line + 1..];
        records.push((if sign == ">" { Requests } else { Responses }, rest[..length].to_vec()));
        rest = &rest[length + 1..];
    }
    records
}

/// A connection that is fed, with its offsets.
struct Feed<P, F> {
    connection: P,
    offsets: [u64; 2],
    /// Whether an event is the end of an exchange that came whole.
    is_end: F,
    ended: usize,
}

impl<P: Parser<u64>, F: Fn(P::Event<'_>) -> bool> Feed<P, F> {
    fn records(&mut self, records: &[Record], piece_bytes: usize) {
        for (direction, bytes) in records {
            for piece in bytes.chunks(piece_bytes) {
                let offset = &mut self.offsets[*direction as usize];
                let Self { connection, is_end, ended, .. } = self;
                connection.on_bytes(*direction, *offset, piece, 0, &7, &mut |event| {
                    *ended += usize::from(is_end(event));
                });
                *offset += piece.len() as u64;
            }
        }
    }
}

/// Holds that the records from `login` on make no allocation once they were seen, and are understood each time.
fn allocates_nothing<P: Parser<u64>>(
    name: &str,
    connect: impl Fn() -> P,
    is_end: impl Fn(P::Event<'_>) -> bool,
    login: usize,
    records: &[Record],
) {
    for piece_bytes in [usize::MAX, 7] {
        let mut feed = Feed { connection: connect(), offsets: [0; 2], is_end: &is_end, ended: 0 };
        feed.records(&records[..login], piece_bytes);
        let before = feed.ended;
        (0..WARM_UP).for_each(|_| feed.records(&records[login..], piece_bytes));
        let in_one_round = (feed.ended - before) / WARM_UP;
        assert!(in_one_round > 0, "{name}: nothing was told");
        let before = feed.ended;
        let allocations = measure(|| {
            (0..ROUNDS).for_each(|_| feed.records(&records[login..], piece_bytes));
        });
        assert_eq!(feed.ended - before, in_one_round * ROUNDS, "{name} by {piece_bytes}");
        assert_eq!(allocations.count_total, 0, "{name} by {piece_bytes}");
    }
}

#[rstest]
fn of_http(
    #[values(
        "node-keep-alive",
        "python-keep-alive",
        "curl-absolute",
        "curl-expect",
        "refused",
        "pipelined"
    )]
    name: &str,
) {
    let is_end = |event: http1::Event<'_, u64>| matches!(event, http1::Event::End { .. });
    let records = records(&format!("http1/{name}.http"));
    allocates_nothing(name, || http1::Connection::new(true), is_end, 0, &records);
}

#[rstest]
fn of_redis(
    #[values(
        "ioredis",
        "redis-py-resp2",
        "redis-py-resp3",
        "pubsub-resp2",
        "pubsub-resp3",
        "raw",
        "words"
    )]
    name: &str,
) {
    let is_end = |event: redis::Event<'_, u64>| matches!(event, redis::Event::End { .. });
    let mut records = records(&format!("redis/{name}.resp"));
    // What follows it is no longer commands and replies.
    let last = |(_, bytes): &Record| {
        bytes.windows(8).any(|at| at.starts_with(b"MONITOR") || at == b"SHUTDOWN")
    };
    let end = records.iter().position(last).unwrap_or(records.len());
    records.truncate(end);
    allocates_nothing(name, || redis::Connection::new(true), is_end, 0, &records);
    let asked = "BLPOP BRPOP EVAL GET HGETALL HSET LRANGE RPUSH SET XADD XREADGROUP";
    let every = |asked: redis::Asked, command| asked.command(command, "*").unwrap();
    let asked = asked.split(' ').fold(redis::Asked::new().messages(), every);
    let asked = Arc::new(asked);
    let connect = || redis::Connection::new(true).asking(Arc::clone(&asked));
    allocates_nothing(name, connect, is_end, 0, &records);
}

#[rstest]
fn of_postgres(
    #[values("psql", "node-pg", "postgres-js", "psycopg2", "psycopg", "asyncpg", "raw")] name: &str,
) {
    let is_end = |event: postgres::Event<'_, u64>| matches!(event, postgres::Event::End { .. });
    let mut records = records(&format!("postgres/{name}.pg"));
    let ready = |(_, bytes): &Record| bytes.ends_with(b"Z\0\0\0\x05I");
    let login = 1 + records.iter().position(ready).unwrap();
    let terminate = |(_, bytes): &Record| **bytes == *b"X\0\0\0\x04";
    let end = records.iter().position(terminate).unwrap_or(records.len());
    records.truncate(end);
    allocates_nothing(name, || postgres::Connection::new(true), is_end, login, &records);
}

/// A frame of AMQP's.
fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, channel], &size[..], payload, &[0xce]].concat()
}

/// A message's header, with its id, and its body in two frames.
fn content(body: &[u8]) -> Vec<u8> {
    let size = (body.len() as u64).to_be_bytes();
    let header = [&[0, 60, 0, 0], &size[..], &[0x00, 0x80], b"\x04id-1"].concat();
    let (first, second) = body.split_at(body.len() / 2);
    [frame(2, 1, &header), frame(3, 1, first), frame(3, 1, second)].concat()
}

#[test]
fn an_amqp_message_costs_its_names_and_its_id() {
    let publish = frame(1, 1, b"\0\x3c\0\x28\0\0\x06events\x03key\0");
    let publish = [publish, content(&[b'a'; 300])].concat();
    let ack = |confirmed: u64| {
        let mut ack = *b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\0\0\xce";
        ack[11..19].copy_from_slice(&confirmed.to_be_bytes());
        ack.to_vec()
    };
    let begins = [
        (Requests, b"AMQP\0\0\x09\x01".to_vec()),
        (Requests, frame(1, 1, &[0, 20, 0, 10, 0])),
        (Requests, frame(1, 1, &[0, 85, 0, 10, 0])),
        (Responses, frame(1, 1, &[0, 85, 0, 11])),
    ];
    for piece_bytes in [usize::MAX, 7] {
        let is_end = |event: amqp::Event<u64>| matches!(event, amqp::Event::End { .. });
        let connection = amqp::Connection::<u64>::new(true);
        let mut feed = Feed { connection, offsets: [0; 2], is_end, ended: 0 };
        feed.records(&begins, piece_bytes);
        let mut rounds = (0..2).map(|half| {
            let first = half * ROUNDS as u64;
            let confirms = (1..=ROUNDS as u64).map(|nth| first + nth);
            confirms
                .flat_map(|nth| [(Requests, publish.clone()), (Responses, ack(nth))])
                .collect::<Vec<Record>>()
        });
        feed.records(&rounds.next().unwrap(), piece_bytes);
        let (before, round) = (feed.ended, rounds.next().unwrap());
        let allocations = measure(|| feed.records(&round, piece_bytes)).count_total;
        assert_eq!(feed.ended - before, ROUNDS);
        // Exchange, routing key, id, and what holds them.
        assert_eq!(allocations, 4 * ROUNDS as u64, "by {piece_bytes}");
    }
}

/// A message of Kafka's: a request's or a response's head, and the rest.
fn kafka_message(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

#[test]
fn a_kafka_batch_costs_what_is_told_of_it() {
    let batch = |base: u8| {
        let mut batch = vec![0; 61 + 100];
        batch[7] = base;
        batch[8..12].copy_from_slice(&149_u32.to_be_bytes());
        batch[16] = 2;
        // Two records, compressed by a codec that there isn't: what the others cost is theirs.
        (batch[22], batch[26], batch[60]) = (7, 1, 2);
        batch
    };
    let sized =
        |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let topic = b"\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\x03";
    let head =
        |api: u8, version: u8| [0, api, 0, version, 0, 0, 0, 7, 0, 4, b's', b'h', b'o', b'p'];
    let produce =
        kafka_message(&[&head(0, 3), b"\xff\xff\0\x01\0\0\0\0", topic, &sized(&batch(0))]);
    let produced = kafka_message(&[b"\0\0\0\x07", topic, &[0; 2 + 8 + 8 + 4]]);
    let fetch = kafka_message(&[&head(1, 4), &[0; 17], topic, &[0; 8 + 4]]);
    let fetched =
        kafka_message(&[b"\0\0\0\x07", &[0; 4], topic, &[0; 2 + 16 + 4], &sized(&batch(9))]);
    let idle = kafka_message(&[b"\0\0\0\x07", &[0; 4], topic, &[0; 2 + 16 + 4], &[0; 4]]);
    let heartbeat = kafka_message(&[&head(12, 0), b"\0\x01g\0\0\0\0\0\x01m"]);
    let beaten = kafka_message(&[b"\0\0\0\x07\0\0"]);
    for (what, request, answer, allocations) in [
        // What is told of the partition, and the lists of partitions that are asked, wait, and are answered.
        ("produce", &produce, &produced, 5),
        // What is told of the partition with its batches, and the list of those with records.
        ("fetch", &fetch, &fetched, 3),
        ("idle fetch", &fetch, &idle, 0),
        ("heartbeat", &heartbeat, &beaten, 0),
    ] {
        let records = [(Requests, request.clone()), (Responses, answer.clone())];
        let is_end = |event: kafka::Event<u64>| matches!(event, kafka::Event::End { .. });
        let connection = kafka::Connection::new(true);
        let mut feed = Feed { connection, offsets: [0; 2], is_end, ended: 0 };
        (0..WARM_UP).for_each(|_| feed.records(&records, usize::MAX));
        let counted = measure(|| (0..ROUNDS).for_each(|_| feed.records(&records, usize::MAX)));
        assert_eq!(feed.ended, WARM_UP + ROUNDS, "{what}");
        assert_eq!(counted.count_total, allocations * ROUNDS as u64, "{what}");
    }
}
