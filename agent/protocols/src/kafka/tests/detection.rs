//! What the first bytes of a stream are taken for, and by whom.

use rstest::rstest;

use super::captures::{CAPTURES, records};
use super::*;
use crate::{amqp, http1, postgres, redis};

#[test]
fn both_sides_of_every_capture_are_recognised_and_no_prefix_is_refused() {
    for (name, capture) in CAPTURES {
        let mut asked = None;
        for (direction, expected) in
            [(Requests, Detected::Requests), (Responses, Detected::Responses)]
        {
            let sides = records(capture).into_iter().filter(|(it, _)| *it == direction);
            let first = sides.filter_map(|(_, bytes)| bytes).next().unwrap();
            // kafkajs asks for the versions once for all of its connections.
            if direction == Responses && asked != Some(ApiKey::API_VERSIONS) {
                assert_eq!(detect(first), Detected::No);
                continue;
            }
            asked = Some(ApiKey(i16::from_be_bytes(first[4..6].try_into().unwrap())));
            assert_eq!(detect(first), expected, "{name}");
            let decided =
                (0..=first.len()).find(|&len| detect(&first[..len]) != Detected::NeedMore);
            let decided = decided.unwrap();
            assert!((decided..=first.len()).all(|len| detect(&first[..len]) == expected), "{name}");
        }
    }
}

#[test]
fn no_other_protocol_takes_a_message_of_kafkas() {
    for (name, capture) in CAPTURES {
        for (_, bytes) in records(capture) {
            let Some(bytes) = bytes else { continue };
            assert_eq!(http1::detect(bytes), Detected::No, "{name}");
            assert_eq!(redis::detect(bytes), Detected::No, "{name}");
            assert_eq!(amqp::detect(bytes), Detected::No, "{name}");
            // A length that was read alone may be anybody's.
            let least = if bytes.len() > 8 { Detected::No } else { Detected::NeedMore };
            let taken = postgres::detect(bytes);
            assert!([Detected::No, least].contains(&taken), "{name}: {taken:?}");
        }
    }
    // Its key and version are the number of PostgreSQL's protocol.
    for id in [0, 1, 100_000] {
        let metadata = write::request(3, 0, id, &[&[0; 4]]);
        assert_eq!(postgres::detect(&metadata), Detected::No);
        assert_eq!(detect(&metadata), Detected::Requests);
    }
}

/// What a capture of another protocol begins with, on both sides, and every record in it.
#[test]
fn nothing_in_other_protocols_captures_is_taken_for_kafka() {
    let mut looked_at = 0;
    for folder in ["http1", "redis", "postgres", "amqp"] {
        let path = format!("{}/testdata/{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if !path
                .extension()
                .is_some_and(|it| ["http", "resp", "pg", "amqp"].iter().any(|known| it == *known))
            {
                continue;
            }
            let capture = std::fs::read(&path).unwrap();
            for (_, bytes) in records(&capture) {
                let Some(bytes) = bytes else { continue };
                looked_at += 1;
                assert_eq!(detect(bytes), Detected::No, "{} {bytes:?}", path.display());
            }
        }
    }
    assert!(looked_at > 300, "{looked_at}");
}

#[rstest]
#[case::tls(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")]
#[case::http2(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]
#[case::http2_settings(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x60\0\0")]
#[case::http2_headers(b"\0\0\x25\x01\x05\0\0\0\x01\x82\x84\x86\x41\x8a")]
#[case::http2_data(b"\0\0\x05\0\0\0\0\0\x01hello")]
#[case::http2_window(b"\0\0\x04\x08\0\0\0\0\0\0\x0f\0\x01\0\0\0\x04\x01\0\0\0\0")]
#[case::amqp_protocol(b"AMQP\0\0\x09\x01")]
#[case::amqp_start(b"\x01\0\0\0\0\x01\xff\0\x0a\0\x0a\0\x09\0\0\x01")]
#[case::amqp_publish(b"\x01\0\x01\0\0\0\x15\0\x3c\0\x28\0\0\0\x06orders\x04mail\0\xce")]
#[case::amqp_content(b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\x02\x10\0")]
#[case::amqp_body(b"\x03\0\x01\0\0\0\x0bhello world\xce")]
#[case::amqp_heartbeat(b"\x08\0\0\0\0\0\0\xce")]
#[case::mysql(b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0")]
#[case::mongodb(b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0")]
#[case::cassandra(b"\x04\0\0\0\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION")]
#[case::zookeeper_connect(b"\0\0\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x75\x30\0\0\0\0\0\0\0\0")]
#[case::zookeeper_get(b"\0\0\0\x13\0\0\0\x04\0\0\0\x04\0\0\0\x06/nodes\0")]
#[case::thrift(b"\0\0\0\x1c\x80\x01\0\x01\0\0\0\x04ping\0\0\0\x01\0")]
#[case::postgres_ssl(b"\0\0\0\x08\x04\xd2\x16\x2f")]
#[case::postgres_startup(b"\0\0\0\x22\0\x03\0\0user\0app\0database\0shop\0\0")]
#[case::postgres_short(b"\0\0\0\x11\0\x03\0\0user\0me\0\0")]
#[case::zeros(&[0; 64])]
#[case::ones(&[0xff; 64])]
#[case::too_long(b"\x06\x40\0\x01\0\x12\0\x03\0\0\0\0\0\x04shop")]
#[case::version_of_the_future(b"\0\0\0\x0e\0\x12\0\x20\0\0\0\0\0\x04shop")]
#[case::name_longer_than_message(b"\0\0\0\x0e\0\x12\0\x03\0\0\0\0\0\x05shop")]
#[case::name_is_no_text(b"\0\0\0\x0e\0\x12\0\x03\0\0\0\0\0\x04\x01\x02\x03\x04")]
fn what_is_not_kafka_is_refused_for_good(#[case] bytes: &[u8]) {
    assert_eq!(detect(bytes), Detected::No);
    let mut refused = false;
    for len in 0..bytes.len() {
        match detect(&bytes[..len]) {
            Detected::No => refused = true,
            Detected::NeedMore => assert!(!refused, "{len}"),
            decided => panic!("{decided:?} at {len}"),
        }
    }
}
