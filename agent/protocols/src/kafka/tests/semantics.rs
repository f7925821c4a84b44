//! What single messages say, and what becomes of what is cut, lost or doubled.

use rstest::rstest;

use super::write::*;
use super::*;

const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn parent(id: u8) -> Vec<u8> {
    format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902{id:02x}-01").into_bytes()
}

#[test]
fn a_request_of_many_partitions_is_many_exchanges_each_with_its_own_end() {
    let mut run = Run::new(true);
    run.requests(produce(
        7,
        -1,
        "orders",
        &[(0, records(0, 3)), (1, records(0, 1)), (2, records(0, 2))],
    ));
    run.responses(produced(7, "orders", &[(2, 0, 40), (0, 0, 10), (1, 19, -1)]));
    assert_eq!(
        run.told(),
        [
            "Produce orders/0 x3 > @10",
            "Produce orders/1 x1 > None Some(NOT_ENOUGH_REPLICAS)",
            "Produce orders/2 x2 > @40",
        ]
    );
    let offsets: Vec<u64> = exchanges(&run.events).iter().map(|it| it.offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "each at its own byte: {offsets:?}");
    assert_eq!(run.close().skipped(), 0);
}

#[test]
fn nothing_answers_a_produce_that_wants_no_answer() {
    let mut run = Run::new(true);
    run.requests(produce(7, 0, "orders", &[(0, records(0, 3))]));
    assert_eq!(run.told(), ["Produce orders/0 x3 > Sent"]);
    let (asked, answered) = heartbeat(8);
    run.requests(asked).responses(answered);
    assert_eq!((run.connection.open_exchanges(), run.close().skipped()), (0, 0));
}

#[test]
fn partitions_that_were_not_captured_are_told_by_the_answer() {
    let request = produce(7, 1, "orders", &[(0, records(0, 3)), (1, records(0, 5))]);
    let second = request.len() - records(0, 5).len() - 4;
    for cut in [20, 60, second, request.len() - 1] {
        let mut run = Run::new(true);
        run.piece(Requests, &request[..cut], (request.len() - cut) as u64);
        run.responses(produced(7, "orders", &[(0, 0, 10), (1, 0, 20)]));
        let told = run.told();
        let partitions = ["Produce orders/0 x3 > @10", "Produce orders/1 x5 > @20"];
        let unseen = ["Produce orders/0 ? > @10", "Produce orders/1 ? > @20"];
        let headers = ["Produce orders/0 x? > @10", "Produce orders/1 x? > @20"];
        for (index, told) in told.iter().enumerate() {
            assert!(
                [partitions[index], unseen[index], headers[index]].contains(&&**told),
                "{told}"
            );
        }
        assert_eq!(told.len(), 2, "{cut}: {told:?}");
        if cut == second {
            assert_eq!(told[0], partitions[0], "what was captured is read");
        }
        // The message's end is known from its length.
        let (asked, answered) = heartbeat(8);
        run.requests(asked).responses(answered);
        assert_eq!((run.connection.open_exchanges(), run.close().skipped()), (0, 0));
    }
}

#[test]
fn a_batch_of_ten_megabytes_is_told_by_its_header() {
    let value = vec![0; 10 << 20];
    let request = produce(7, 1, "orders", &[(0, batch(0, 0, 99, 100, &value))]);
    let mut run = Run::new(true);
    run.piece(Requests, &request[..4096], 60_000);
    for _ in 0..(request.len() - 4096 - 60_000) / 64_000 {
        run.piece(Requests, &[], 64_000);
    }
    let rest = (request.len() - 4096 - 60_000) % 64_000;
    run.piece(Requests, &[], rest as u64).responses(produced(7, "orders", &[(0, 0, 5)]));
    assert_eq!(run.told(), ["Produce orders/0 x100 > @5"]);
    assert_eq!(run.close().skipped(), 0);
    // All of it captured costs no more than what is kept.
    let mut run = Run::new(true);
    for piece in request.chunks(10_000) {
        run.requests(piece);
    }
    run.responses(produced(7, "orders", &[(0, 0, 5)]));
    assert_eq!(run.told(), ["Produce orders/0 x100 > @5"]);
}

#[test]
fn every_partition_of_an_answer_with_records_is_an_exchange() {
    let mut run = Run::new(true);
    run.requests(fetch(7, "orders", &[(0, 5), (1, 0), (2, 9), (3, 1)]));
    let two = [records(0, 3), records(3, 4)].concat();
    run.responses(fetched(
        7,
        "orders",
        &[(0, 0, two), (1, 0, Vec::new()), (2, 1, Vec::new()), (3, 0, records(0, 4))],
    ));
    assert_eq!(
        run.told(),
        [
            // Of the first batch nothing was asked, of the second what is behind 5.
            "Fetch > orders/0 @5..7 x2",
            "Fetch > orders/2 x0 OFFSET_OUT_OF_RANGE",
            "Fetch > orders/3 @1..4 x3",
        ]
    );
    run.requests(fetch(8, "orders", &[(0, 7)]));
    run.responses(fetched(8, "orders", &[(0, 0, Vec::new())]));
    assert!(matches!(exchanges(&run.events).last().unwrap().end, Some(Ok(End::Idle))));
    assert_eq!(run.close().skipped(), 0);
}

#[test]
fn marks_of_transactions_and_batches_cut_by_the_broker_are_no_messages() {
    let control = batch(4, 1 << 5, 0, 1, &record(0, Some(b"\0\0\0\x01"), b"", &[]));
    let cut = records(9, 4);
    let all =
        [records(0, 4), control.clone(), records(5, 4), cut[..cut.len() - 1].to_vec()].concat();
    let mut run = Run::new(true);
    run.requests(fetch(7, "orders", &[(0, 0)])).responses(fetched(7, "orders", &[(0, 0, all)]));
    run.requests(fetch(8, "orders", &[(0, 4)])).responses(fetched(8, "orders", &[(0, 0, control)]));
    assert_eq!(run.told(), ["Fetch > orders/0 @0..9 x8"]);
}

#[test]
fn a_compacted_batch_has_as_many_messages_as_it_says() {
    let kept = batch(
        10,
        0,
        99,
        3,
        &[record(0, None, b"", &[]), record(7, None, b"", &[]), record(99, None, b"", &[])]
            .concat(),
    );
    let mut run = Run::new(true);
    run.requests(fetch(7, "orders", &[(0, 10)])).responses(fetched(7, "orders", &[(0, 0, kept)]));
    assert_eq!(run.told(), ["Fetch > orders/0 @10..110 x3"]);
}

#[test]
fn an_answers_batches_are_those_that_producers_appended() {
    let mut run = Run::new(true);
    run.requests(produce(6, 1, "orders", &[(0, records(0, 3))]));
    run.responses(produced(6, "orders", &[(0, 0, 4)]));
    run.requests(fetch(7, "orders", &[(0, 5)]));
    let all = [records(0, 4), records(4, 3), records(7, 1)].concat();
    run.responses(fetched(7, "orders", &[(0, 0, all)]));
    let told = exchanges(&run.events);
    let Some(Ok(End::Fetched(it))) = &told[1].end else { panic!() };
    // The first of which something was asked is that of the producer, whole.
    assert_eq!((it.first_offset, it.next_offset, it.records.count), (Some(5), Some(8), Some(3)));
    let batches = [(4, 3), (7, 1)].map(|(base_offset, count)| Batch { base_offset, count });
    assert_eq!(it.records.batches, batches);
    let Operation::Produce(it) = &told[0].request.operation else { panic!() };
    assert_eq!(it.records.as_ref().unwrap().batches, []);
}

#[test]
fn what_was_not_captured_of_an_answer_is_not_counted() {
    let answer = fetched(7, "orders", &[(0, 0, records(0, 50)), (1, 0, records(0, 2))]);
    let mut run = Run::new(true);
    run.requests(fetch(7, "orders", &[(0, 0), (1, 0)]));
    run.piece(Responses, &answer[..200], (answer.len() - 200) as u64);
    assert_eq!(run.told(), ["Fetch > orders/0 @0..50 x50 cut"], "the header tells the count");
    assert_eq!(run.close().skipped(), 0);
    let mut run = Run::new(true);
    run.requests(fetch(7, "orders", &[(0, 0), (1, 0)]));
    run.piece(Responses, &answer[..90], (answer.len() - 90) as u64);
    assert_eq!(run.told(), ["Fetch > orders/0 @.. x? cut"].map(|it| it.replace(" @..", "")));
}

#[rstest]
#[case::one(vec![vec![("traceparent", PARENT.to_vec())]], " (all 1)")]
#[case::other_case(vec![vec![("TraceParent", PARENT.to_vec())]], " (all 1)")]
#[case::among_others(vec![vec![("a", b"b".to_vec()), ("traceparent", PARENT.to_vec()), ("c", b"d".to_vec())]], " (all 1)")]
#[case::the_same(vec![vec![("traceparent", PARENT.to_vec())]; 3], " (all 1)")]
#[case::some(vec![vec![("traceparent", PARENT.to_vec())], vec![]], " (1)")]
#[case::two(vec![vec![("traceparent", parent(1))], vec![("traceparent", parent(2))]], " (all 2)")]
#[case::twice_in_one(vec![vec![("traceparent", parent(1)), ("traceparent", parent(2))]], "")]
#[case::not_one(vec![vec![("traceparent", b"secret".to_vec())]], "")]
#[case::too_many((0..40).map(|id| vec![("traceparent", parent(id))]).collect(), " (32)")]
fn contexts_are_read(#[case] headers: Vec<Vec<(&str, Vec<u8>)>>, #[case] told: &str) {
    let count = headers.len() as i32;
    let mut all = Vec::new();
    for (delta, headers) in headers.iter().enumerate() {
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, &**value)).collect();
        all.extend(record(delta as i64, Some(b"k"), b"secret", &headers));
    }
    let mut run = Run::new(true);
    run.requests(produce(7, 1, "orders", &[(0, batch(0, 0, count - 1, count, &all))]));
    assert_eq!(run.told(), [format!("Produce orders/0 x{count}{told} > open")]);
}

#[test]
fn keys_are_kept_only_where_that_is_asked_for_and_of_a_record_that_is_alone() {
    let one = |key: &[u8]| batch(0, 0, 0, 1, &record(0, Some(key), b"secret", &[]));
    let two = batch(
        0,
        0,
        1,
        2,
        &[record(0, Some(b"a"), b"", &[]), record(1, Some(b"b"), b"", &[])].concat(),
    );
    let long = [b'a'; limits::KAFKA_KEY_BYTES + 1];
    for (records, told) in
        [(one(b"user-1"), " key user-1"), (one(b"\xff\xfe"), ""), (one(&long), ""), (two, "")]
    {
        for kept in [true, false] {
            let mut run = Run::new(true);
            if kept {
                run.connection.keep_keys();
            }
            run.requests(produce(7, 1, "orders", &[(0, records.clone())]));
            let key = if kept { told } else { "" };
            assert!(run.told()[0].ends_with(&format!("{key} > open")), "{:?}", run.told());
            assert_eq!(run.told()[0].contains("key"), kept && !told.is_empty());
        }
    }
}

#[test]
fn nothing_of_a_record_but_what_is_asked_for_is_told() {
    let records = batch(
        0,
        0,
        0,
        1,
        &record(0, Some(b"secret"), b"secret", &[("secret", b"secret"), ("traceparent", PARENT)]),
    );
    let mut run = Run::new(true);
    run.requests(produce(7, 1, "orders", &[(0, records.clone())]));
    run.requests(fetch(8, "orders", &[(0, 0)])).responses(produced(7, "orders", &[(0, 0, 0)]));
    run.responses(fetched(8, "orders", &[(0, 0, records)]));
    assert_eq!(run.told().len(), 2);
    assert!(!format!("{:?}", run.events).contains("secret"));
}

#[test]
fn tokens_of_sasl_are_passed_over() {
    let mut run = Run::new(true);
    run.requests(request(17, 0, 1, &[&string("PLAIN")])).responses(response(1, &[&[0; 6]]));
    run.requests(message(&[b"\0user\0secret"])).responses(message(&[b""]).as_slice());
    let (asked, answered) = heartbeat(2);
    run.requests(asked).responses(answered);
    assert_eq!(exchanges(&run.events).len(), 2);
    assert!(!format!("{:?}", run.events).contains("secret"));
}

#[test]
fn requests_that_are_not_known_are_answered_all_the_same() {
    let mut run = Run::new(true);
    for (id, (api, version)) in [(0, 14), (1, 60), (120, 3), (5, 0)].into_iter().enumerate() {
        let id = i32::try_from(id).unwrap();
        run.requests(request(api, version, id, &[b"\0whatever"]))
            .responses(response(id, &[b"it is"]));
    }
    let told = exchanges(&run.events);
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|it| it.is_other() && it.end == Some(Ok(End::Answered))));
    assert_eq!(run.close().skipped(), 0);
}

#[test]
fn an_answer_settles_those_before_it() {
    let mut run = Run::new(true);
    for id in 1..=3 {
        run.requests(produce(id, 1, "orders", &[(0, records(0, 1))]));
    }
    run.responses(produced(2, "orders", &[(0, 0, 7)]));
    assert_eq!(
        run.told(),
        [
            "Produce orders/0 x1 > abandoned: Gap",
            "Produce orders/0 x1 > @7",
            "Produce orders/0 x1 > open",
        ]
    );
    // An answer that comes again is to nobody.
    run.responses(produced(2, "orders", &[(0, 0, 7)])).responses(produced(
        3,
        "orders",
        &[(0, 0, 8)],
    ));
    assert_eq!(run.told()[2], "Produce orders/0 x1 > @8");
    assert_eq!(run.skipped(), produced(2, "orders", &[(0, 0, 7)]).len() as u64);
}

#[test]
fn two_requests_of_one_number_are_not_told_apart() {
    let mut run = Run::new(true);
    run.requests(produce(7, 1, "orders", &[(0, records(0, 1))]));
    run.requests(produce(7, 1, "mails", &[(0, records(0, 1))]));
    run.responses(produced(7, "mails", &[(0, 0, 1)]));
    assert_eq!(
        run.told(),
        ["Produce orders/0 x1 > abandoned: Unpaired", "Produce mails/0 x1 > @1"]
    );
}

#[test]
fn an_answer_that_came_early_is_dropped_when_its_request_did_not_come() {
    let mut run = Run::new(true);
    let (asked, answered) = heartbeat(1);
    run.requests(&asked).responses(&answered);
    run.responses(heartbeat(2).1).responses(heartbeat(3).1);
    assert_eq!(run.skipped(), 0);
    // It was the later one that was late.
    run.requests(heartbeat(3).0);
    assert_eq!(run.skipped(), heartbeat(2).1.len() as u64);
    assert_eq!(run.connection.open_exchanges(), 0);
    run.responses(heartbeat(4).1).idle();
    assert_eq!(run.skipped(), 2 * heartbeat(2).1.len() as u64);
}

#[test]
fn a_connection_s_end_ends_what_is_open() {
    for (error, cut) in [(None, false), (Some(EndError::Reset), false), (None, true)] {
        let mut run = Run::new(true);
        run.requests(produce(7, 1, "orders", &[(0, records(0, 1))]));
        if cut {
            run.responses(&produced(7, "orders", &[(0, 0, 7)])[..20]);
        }
        run.end(Responses, error);
        assert_eq!(
            run.told(),
            [format!("Produce orders/0 x1 > Closed {{ answered: {cut}, error: {error:?} }}")]
        );
    }
}

#[test]
fn framing_is_found_again_where_a_request_begins_and_its_answer() {
    let mut run = Run::new(true);
    run.requests(heartbeat(1).0).responses(heartbeat(1).1);
    // A request's beginning is lost, and the answer to it too.
    run.hole(Requests, 10).requests(&heartbeat(2).0[10..]).hole(Responses, 3);
    run.responses(&heartbeat(2).1[3..]);
    run.requests(produce(3, 1, "orders", &[(0, records(0, 1))]));
    run.responses(produced(3, "orders", &[(0, 0, 7)]));
    assert_eq!(run.told(), ["Produce orders/0 x1 > @7"]);
    // Of another client's name it is none.
    let mut other = produce(4, 1, "orders", &[(0, records(0, 1))]);
    other[14..18].copy_from_slice(b"bank");
    run.hole(Requests, 10).requests(other).requests(heartbeat(5).0).responses(heartbeat(5).1);
    assert_eq!(run.told().len(), 1);
    assert_eq!(run.connection.open_exchanges(), 0);
}

#[test]
fn a_gap_abandons_what_is_open() {
    let mut run = Run::new(true);
    run.requests(produce(7, 1, "orders", &[(0, records(0, 1))])).gap(Responses);
    assert_eq!(run.told(), ["Produce orders/0 x1 > abandoned: Gap"]);
    run.requests(produce(8, 1, "orders", &[(0, records(0, 1))]));
    run.responses(produced(8, "orders", &[(0, 0, 7)]));
    assert_eq!(run.told()[1], "Produce orders/0 x1 > @7");
}

#[test]
fn commits_tell_their_group_and_what_was_wrong() {
    let body = [
        &string("billing")[..],
        &1_i32.to_be_bytes(),
        &string("me"),
        &[0xff; 8],
        &1_i32.to_be_bytes(),
        &string("orders"),
        &2_i32.to_be_bytes(),
    ]
    .concat();
    let part = |partition: i32, offset: i64| {
        [&partition.to_be_bytes()[..], &offset.to_be_bytes(), &[0xff; 2]].concat()
    };
    let answer = |error: i16| {
        [
            &1_i32.to_be_bytes()[..],
            &string("orders"),
            &2_i32.to_be_bytes(),
            &0_i32.to_be_bytes(),
            &[0; 2],
            &1_i32.to_be_bytes(),
            &error.to_be_bytes(),
        ]
        .concat()
    };
    let mut run = Run::new(true);
    for (id, error) in [(1, 0), (2, 27)] {
        run.requests(request(8, 2, id, &[&body, &part(0, 4), &part(1, 5)]));
        run.responses(response(id, &[&answer(error)]));
    }
    assert_eq!(
        run.told(),
        [
            "Commit billing orders/0=4 of 2 > noted",
            "Commit billing orders/0=4 of 2 > REBALANCE_IN_PROGRESS",
        ]
    );
    assert!(matches!(run.facts()[..], [Fact::Group { .. }, Fact::Group { .. }]));
}
