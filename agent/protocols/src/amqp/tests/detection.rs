//! What is AMQP, and what is not: every prefix, the middle of connections, and the other protocols' captures.

use super::*;
use crate::testing::records;

#[test]
fn the_first_words_of_both_sides_are_known_at_every_length() {
    let header = b"AMQP\x00\x00\x09\x01";
    for len in 0..header.len() {
        assert_eq!(detect(&header[..len]), Detected::NeedMore, "{len}");
    }
    assert_eq!(detect(header), Detected::Requests);
    let start = method(0, 10, 10, &[&[0, 9, 0, 0, 1, 0][..], &[0; 256], &[0; 8]].concat());
    for len in 0..start.len() {
        let expected = if len < 13 { Detected::NeedMore } else { Detected::Responses };
        assert_eq!(detect(&start[..len]), expected, "{len}");
    }
    // Other versions, and what a broker of another one answers.
    for other in [b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00", b"AMQP\x01\x01\x00\x09"] {
        assert_eq!(detect(other), Detected::No);
    }
}

#[test]
fn in_the_middle_a_side_is_known_by_what_only_it_sends() {
    let beat = frame(8, 0, &[]);
    for (bytes, expected) in [
        (publish(1, "x", "k", "m"), Detected::Requests),
        (deliver(1, "c", 7, "m"), Detected::Responses),
        ([beat.clone(), publish(1, "x", "k", "m")].concat(), Detected::Requests),
        ([ack(1, 7, false), deliver(1, "c", 8, "m")].concat(), Detected::Responses),
        ([content(1, "m", b"body", 9).concat(), ack(1, 1, true)].concat(), Detected::NeedMore),
        (beat, Detected::NeedMore),
        (ack(1, 7, false), Detected::NeedMore),
        (frame(3, 1, b"body"), Detected::No),
        (frame(1, 1, &[0, 60, 0, 99]), Detected::No),
        (frame(1, 1, &[0, 60, 0, 40, 0, 0, 200, 1]), Detected::No),
    ] {
        assert_eq!(detect(&bytes), expected, "{bytes:?}");
        for len in 0..bytes.len() {
            let part = detect(&bytes[..len]);
            assert!(part == expected || part == Detected::NeedMore, "{bytes:?} {len}: {part:?}");
        }
    }
}

#[test]
fn no_other_protocol_is_taken_for_it_and_it_for_none() {
    let others: &[&[u8]] = &[
        include_bytes!("../../../testdata/http1/node-keep-alive.http"),
        include_bytes!("../../../testdata/http1/pipelined.http"),
        include_bytes!("../../../testdata/redis/ioredis.resp"),
        include_bytes!("../../../testdata/redis/redis-py-resp3.resp"),
        include_bytes!("../../../testdata/postgres/asyncpg.pg"),
        include_bytes!("../../../testdata/postgres/psycopg2.pg"),
    ];
    for bytes in others.iter().flat_map(|capture| records(capture)).filter_map(|it| it.1) {
        for at in 0..bytes.len() {
            let found = detect(&bytes[at..]);
            let may_begin = matches!(bytes[at], b'A' | 1..=3 | 8);
            assert!(found == Detected::No || may_begin && found == Detected::NeedMore, "{found:?}");
        }
    }
    let own: &[&[u8]] = &[
        include_bytes!("../../../testdata/amqp/amqplib.amqp"),
        include_bytes!("../../../testdata/amqp/pika.amqp"),
        include_bytes!("../../../testdata/amqp/aio-pika.amqp"),
    ];
    let mut known = 0;
    for (direction, bytes) in own.iter().flat_map(|capture| records(capture)) {
        let Some(bytes) = bytes else { continue };
        let found = detect(bytes);
        let wrong = match direction {
            Requests => Detected::Responses,
            Responses => Detected::Requests,
        };
        assert_ne!(found, wrong);
        known += usize::from(matches!(found, Detected::Requests | Detected::Responses));
        for (other, detect) in [
            ("HTTP", crate::http1::detect as fn(&[u8]) -> Detected),
            ("Redis", crate::redis::detect),
            ("PostgreSQL", crate::postgres::detect),
        ] {
            for len in 1..=bytes.len() {
                let found = detect(&bytes[..len]);
                assert!(matches!(found, Detected::No | Detected::NeedMore), "{other}");
                // What isn't decided is decided with the whole of AMQP's first word.
                assert!(len < 8 || found == Detected::No, "{other}: {:?}", &bytes[..len]);
            }
        }
    }
    assert!(known > 80, "{known}");
}
