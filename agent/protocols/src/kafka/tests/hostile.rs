//! Input made to hurt: lengths and counts that overflow, messages without end, floods; and arbitrary scripts,
//! whose events must keep their promises.

use proptest::prelude::*;
use rstest::rstest;

use super::write::*;
use super::*;

/// Bytes that all compact types take for the largest number.
const MOST: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

#[rstest]
#[case::too_short(vec![0, 0, 0, 3, 0, 0, 0])]
#[case::negative(vec![0x80, 0, 0, 0, 0, 0, 0, 0])]
#[case::no_header(message(&[b"hello"]))]
#[case::unknown(request(999, 0, 1, &[]))]
#[case::negative_version(request(18, -1, 1, &[]))]
#[case::name_is_none(message(&[&[0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xfe]]))]
#[case::http(b"GET / HTTP/1.1\r\n\r\n".to_vec())]
fn what_is_no_request_loses_framing_until_one_begins(
    #[case] bytes: Vec<u8>,
    #[values(1, 1000)] step: usize,
) {
    let mut run = Run::new(true);
    run.requests(heartbeat(1).0).responses(heartbeat(1).1);
    for piece in bytes.chunks(step) {
        run.requests(piece);
    }
    // Framed by a length that is one, it passes as a message; else what comes next is looked at.
    run.requests(produce(2, 1, "orders", &[(0, records(0, 1))]));
    run.requests(produce(3, 1, "orders", &[(0, records(0, 1))]));
    run.responses(produced(3, "orders", &[(0, 0, 7)]));
    assert!(run.told().iter().all(|it| it.contains("orders/0 x1")), "{:?}", run.told());
    assert!(run.skipped() > 0);
    run.close();
}

#[rstest]
#[case::topics(0, 3, [&[0xff, 0xff, 0, 1, 0, 0, 0, 0][..], &i32::MAX.to_be_bytes()].concat())]
#[case::partitions(0, 3, [&[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'a'][..], &i32::MAX.to_be_bytes()].concat())]
#[case::records(0, 3, [&[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 0][..], &i32::MAX.to_be_bytes()].concat())]
#[case::negative(0, 3, [&[0xff, 0xff, 0, 1, 0, 0, 0, 0][..], &i32::MIN.to_be_bytes()].concat())]
#[case::compact(0, 9, [&[0, 0, 0, 1, 0, 0, 0, 0][..], &MOST].concat())]
#[case::compact_endless(0, 9, [&[0, 0, 0, 1, 0, 0, 0, 0][..], &[0xff; 40]].concat())]
#[case::acks(0, 3, vec![0xff, 0xff, 0x70, 0, 0, 0, 0, 0])]
#[case::tags(1, 12, MOST.to_vec())]
#[case::many_tags(1, 12, [vec![0x80, 0x80, 4], vec![0, 0]].concat())]
#[case::fetch(1, 4, [&[0; 17][..], &i32::MAX.to_be_bytes()].concat())]
#[case::forever(1, 12, [&[0; 26][..], &MOST].concat())]
#[case::commit(8, 2, [&[0, 1, b'g'][..], &[0; 14], &i32::MAX.to_be_bytes()].concat())]
#[case::groups(9, 8, MOST.to_vec())]
#[case::group(9, 1, vec![0x7f, 0xff, b'g'])]
fn requests_with_impossible_counts_cost_nothing(
    #[case] api: i16,
    #[case] version: i16,
    #[case] body: Vec<u8>,
) {
    let mut run = Run::new(true);
    run.requests(request(api, version, 1, &[&body])).responses(response(1, &[&[0; 40]]));
    assert!(exchanges(&run.events).len() <= 1);
    run.requests(heartbeat(2).0).responses(heartbeat(2).1);
    assert_eq!(run.connection.open_exchanges(), 0);
    run.close();
}

#[rstest]
#[case::produce(produce(1, 1, "orders", &[(0, records(0, 1))]))]
#[case::fetch(fetch(1, "orders", &[(0, 0)]))]
#[case::metadata(request(3, 1, 1, &[&[0; 4]]))]
#[case::metadata_compact(request(3, 12, 1, &[&[0; 8]]))]
#[case::commit(request(8, 2, 1, &[&string("g"), &[0; 14], &[0; 4]]))]
fn answers_that_are_none_tell_nothing(
    #[case] request: Vec<u8>,
    #[values(&[0xff; 60], &[0x7f; 60], &[0; 60], &[1; 60], b"\0\0\0\0\x7f\xff\xff\xff", b"")]
    body: &[u8],
) {
    let mut run = Run::new(true);
    run.requests(request).responses(response(1, &[body]));
    for exchange in exchanges(&run.events) {
        let end = exchange.end.unwrap().unwrap();
        assert!(
            matches!(end, End::Answered | End::Idle | End::Committed { error: None }),
            "{end:?}"
        );
    }
    assert!(run.facts().len() <= 1, "{:?}", run.facts());
    run.close();
}

#[rstest]
#[case::negative_length(batch(0, 0, 0, 1, &[]), 8, &[0xff; 4])]
#[case::short_length(batch(0, 0, 0, 1, &[]), 8, &[0, 0, 0, 1])]
#[case::long_length(batch(0, 0, 0, 1, &[]), 8, &[0x7f, 0xff, 0xff, 0xff])]
#[case::old_format(batch(0, 0, 0, 1, &[]), 16, &[1])]
#[case::negative_base(batch(0, 0, 0, 1, &[]), 0, &[0xff; 8])]
#[case::negative_delta(batch(0, 0, 0, 1, &[]), 23, &[0xff; 4])]
#[case::negative_count(batch(0, 0, 0, 1, &[]), 57, &[0xff; 4])]
fn batches_that_are_none_have_no_count(
    #[case] mut bytes: Vec<u8>,
    #[case] at: usize,
    #[case] put: &[u8],
) {
    bytes[at..at + put.len()].copy_from_slice(put);
    let mut run = Run::new(true);
    run.requests(produce(1, 1, "orders", &[(0, bytes)]));
    let told = &run.told()[0];
    assert!(
        ["Produce orders/0 x? > open", "Produce orders/0 x0 > open"].contains(&&**told),
        "{told}"
    );
}

#[rstest]
#[case::count(batch(0, 0, i32::MAX, i32::MAX, &record(0, None, b"", &[])))]
#[case::record_length(batch(0, 0, 0, 1, &[0xff; 20]))]
#[case::negative_record(batch(0, 0, 0, 1, &[3]))]
#[case::headers(batch(0, 0, 0, 1, &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]))]
fn records_that_are_none_take_nothing_from_their_batch(#[case] bytes: Vec<u8>) {
    let mut run = Run::new(true);
    run.requests(produce(1, 1, "orders", &[(0, bytes)]));
    let told = &run.told()[0];
    assert!(
        told == "Produce orders/0 x1 > open" || told == "Produce orders/0 x2147483647 > open",
        "{told}"
    );
}

#[test]
fn floods_are_bounded() {
    let mut run = Run::new(true);
    for id in 0..4000 {
        let parts: Vec<_> = (0..20).map(|partition| (partition, records(0, 1))).collect();
        let bytes = produce(id, 1, &format!("topic-{id}"), &parts);
        // The books are held against each other at every hundredth step: it is their cost that counts here.
        let offset = run.offsets[0];
        run.offsets[0] += bytes.len() as u64;
        let (books, connection) = (&mut run.books, &mut run.connection);
        connection.on_bytes(Requests, offset, &bytes, 0, &0, &mut |event| fuzz::book(books, event));
        assert!(run.connection.open_exchanges() <= limits::KAFKA_OPEN_EXCHANGES);
    }
    let mut run = Run::new(true);
    run.requests(heartbeat(0).0).responses(heartbeat(0).1);
    for id in 1..2000 {
        run.responses(heartbeat(id).1);
        let pending = run.connection.counters(Responses).pending_bytes;
        assert!(pending <= (limits::KAFKA_EARLY * heartbeat(id).1.len()) as u64);
    }
    let mut run = Run::new(true);
    run.requests(fetch(0, "orders", &(0..5000).map(|it| (it, 0)).collect::<Vec<_>>()));
    let parts: Vec<_> = (0..5000).map(|it| (it, 0, records(0, 1))).collect();
    run.responses(fetched(0, "orders", &parts));
    assert!(
        run.told().len() <= limits::KAFKA_PARTITIONS
            && run.told().last().unwrap().ends_with(" cut")
    );
    run.close();
}

#[test]
fn a_megabyte_of_one_byte_pieces_is_linear() {
    // Quadratic, it would take hours.
    let value = vec![7; 1 << 20];
    let request = produce(7, 1, "orders", &[(0, batch(0, 0, 0, 1, &value))]);
    let mut connection = Connection::new(true);
    let mut told = 0;
    for (offset, byte) in request.iter().enumerate() {
        let piece = std::slice::from_ref(byte);
        connection.on_bytes(Requests, offset as u64, piece, 0, &(), &mut |_| told += 1);
    }
    assert_eq!((told, connection.open_exchanges()), (2, 1));
}

proptest! {
    #[test]
    fn scripts_keep_their_promises(script in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz_kafka(&script);
    }

    #[test]
    fn scripts_of_messages_keep_their_promises(
        flags in any::<u8>(),
        steps in prop::collection::vec((any::<u8>(), 0_usize..8, 0_i32..6, any::<u16>(), any::<u8>()), 0..40),
    ) {
        let mut script = vec![flags];
        for (op, kind, id, at, byte) in steps {
            let mut bytes = match kind {
                0 => produce(id, 1, "orders", &[(0, records(0, 2)), (1, records(0, 1))]),
                1 => produced(id, "orders", &[(0, 0, 7), (1, 3, -1)]),
                2 => fetch(id, "orders", &[(0, 5)]),
                3 => fetched(id, "orders", &[(0, 0, records(5, 2)), (1, 0, records(0, 1))]),
                4 => heartbeat(id).0,
                5 => heartbeat(id).1,
                6 => request(3, 12, id, &[&[0; 8]]),
                _ => response(id, &[&[0; 30]]),
            };
            // Damaged half of the time.
            if byte & 1 == 0 {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= byte;
            }
            script.push(op);
            script.extend(bytes);
        }
        fuzz_kafka(&script);
    }
}
