//! What is told after bytes were lost, and from when on: confirms, deliveries, answers, framing.

use super::*;

#[test]
fn bytes_that_are_missing_within_a_body_cost_its_hash_alone() {
    let mut run = confirming();
    let frames = content(1, "m", &[b'a'; 1000], 2000);
    let wire = [publish_method(1, "x", "k", false), frames.concat()].concat();
    run.piece(Requests, &wire[..wire.len() - 500], 500).requests(publish(1, "x", "k", "n"));
    run.responses(ack(1, 2, true));
    assert_eq!(
        run.told(),
        ["publish m to x:k > Confirmed", "publish n to x:k mandatory > Confirmed"]
    );
    let Call::Publish(publish) = &exchanges(&run.events)[0].call else { panic!("a publish") };
    assert_eq!((publish.message.body_hash, publish.message.body_bytes), (None, 1000));
    assert!(publish.message.prefix_hash.is_some());
}

#[test]
fn after_lost_publishes_numbers_are_certain_again_after_two_silences() {
    let mut run = confirming();
    run.requests(publish(1, "x", "k", "a")).gap(Requests);
    // What was published before keeps its number.
    run.responses(ack(1, 1, false));
    run.requests(publish(1, "x", "k", "b")).responses(ack(1, 3, true));
    run.idle().requests(publish(1, "x", "k", "c")).responses(ack(1, 4, false)).idle();
    run.requests(publish(1, "x", "k", "d")).responses(ack(1, 5, false));
    let ends = ["Confirmed", "NoReply", "NoReply", "Confirmed"];
    let expected: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .zip(ends)
        .map(|(id, end)| format!("publish {id} to x:k mandatory > {end}"))
        .collect();
    assert_eq!(run.told(), expected);
}

#[test]
fn a_confirm_that_was_owed_at_a_silence_is_found_out() {
    let mut run = confirming();
    run.gap(Requests).requests(publish(1, "x", "k", "a")).responses(ack(1, 7, false)).idle();
    // Another one was owed: 8 is not this publish's.
    run.requests(publish(1, "x", "k", "b")).responses(ack(1, 8, false)).responses(ack(1, 9, false));
    run.idle();
    run.requests(publish(1, "x", "k", "c")).responses(ack(1, 10, false));
    assert!(run.told().iter().all(|told| told.ends_with("NoReply")), "{:?}", run.told());
}

#[test]
fn lost_bytes_of_the_broker_leave_no_confirm_awaited() {
    let mut run = confirming();
    run.requests(publish(1, "x", "k", "a")).gap(Responses);
    run.responses(ack(1, 1, false)).requests(publish(1, "x", "k", "b")).responses(ack(1, 2, false));
    assert_eq!(
        run.told(),
        ["publish a to x:k mandatory > abandoned: Gap", "publish b to x:k mandatory > Confirmed"]
    );
}

#[test]
fn lost_bytes_of_the_client_leave_no_delivery_awaited() {
    let mut run = consuming();
    run.responses(deliver(1, "c", 1, "a")).gap(Requests).requests(ack(1, 1, false));
    run.responses(deliver(1, "c", 2, "b")).requests(ack(1, 2, true));
    assert_eq!(
        run.told(),
        ["deliver a from q > abandoned: Gap", "deliver b from q > Ack, all before"]
    );
}

#[test]
fn lost_deliveries_cost_themselves_alone() {
    let mut run = consuming();
    run.responses(deliver(1, "c", 1, "a")).gap(Responses);
    run.responses(deliver(1, "c", 5, "b")).requests(ack(1, 3, false)).requests(ack(1, 5, true));
    assert_eq!(
        run.told(),
        ["deliver a from q > Ack, all before", "deliver b from q > Ack, all before"]
    );
}

#[test]
fn a_consumer_that_is_older_is_told_once_it_settles() {
    let mut run = Run::new(false);
    run.responses(deliver(1, "c", 41, "a")).responses(deliver(1, "c", 42, "b"));
    assert!(run.told().is_empty());
    run.requests([ack(1, 41, false), publish(1, "x", "k", "p")].concat());
    run.responses(deliver(1, "c", 43, "c"));
    assert_eq!(
        run.told(),
        [
            "deliver a from ? > Ack",
            "publish p to x:k mandatory > NoReply",
            "deliver c from ? > open"
        ]
    );
    let it = &exchanges(&run.events)[0];
    assert_eq!((it.first, it.last), (1, 3), "with its own times");
    run.close();
    assert_eq!(run.connection.tally().untold, 1);
}

#[test]
fn of_several_consumers_that_are_older_one_may_acknowledge_nothing() {
    let mut run = Run::new(false);
    let deliveries = [deliver(1, "a", 41, "m"), deliver(1, "b", 42, "n"), deliver(1, "b", 43, "o")];
    run.responses(deliveries.concat());
    run.requests([ack(1, 43, true), frame(8, 0, &[])].concat());
    let told = ["deliver n from ? > Ack, all before", "deliver o from ? > Ack, all before"];
    assert_eq!(run.told(), told);
    assert_eq!(run.connection.tally().untold, 1);
}

#[test]
fn names_of_consumers_outlive_one_direction_and_not_both() {
    for (gaps, queue) in
        [(&[Requests][..], "q"), (&[Responses], "q"), (&[Requests, Responses], "?")]
    {
        let mut run = consuming();
        gaps.iter().for_each(|direction| {
            run.gap(*direction);
        });
        run.responses(deliver(1, "c", 2, "a"))
            .requests([ack(1, 2, false), ack(1, 2, false)].concat());
        assert_eq!(run.told(), [format!("deliver a from {queue} > Ack")]);
    }
}

#[test]
fn a_name_that_is_consumed_again_unseen_means_no_queue() {
    let mut run = consuming();
    run.gap(Requests).responses(consume_ok(1, "c"));
    run.responses(deliver(1, "c", 1, "a")).requests([ack(1, 1, false), ack(1, 1, false)].concat());
    assert_eq!(run.told(), ["deliver a from ? > Ack"]);
}

#[test]
fn frames_are_found_in_the_middle_of_a_piece() {
    let tail = [b"of a body\xce".to_vec(), publish(1, "x", "k", "a")].concat();
    let mut run = opened(&[1]);
    run.hole(Requests, 77).requests(&tail).requests(publish(1, "x", "k", "b"));
    assert_eq!(
        run.told(),
        ["publish a to x:k mandatory > NoReply", "publish b to x:k mandatory > NoReply"]
    );
    assert_eq!(run.skipped(Skip::Resync), 77 + 10);
}

#[test]
fn frames_are_found_by_clients_that_read_them_in_parts() {
    let mut run = Run::new(false);
    for delivery in [deliver(1, "c", 1, "a"), deliver(1, "c", 2, "b")] {
        let mut rest = &delivery[..];
        while !rest.is_empty() {
            let size = usize::from(rest[6]);
            for part in [&rest[..7], &rest[7..7 + size], &rest[7 + size..8 + size]] {
                run.responses(part);
            }
            rest = &rest[8 + size..];
        }
    }
    run.requests([ack(1, 2, false), frame(8, 0, &[])].concat());
    assert_eq!(run.told(), ["deliver b from ? > Ack"]);
}

#[test]
fn frames_within_a_body_are_not_taken_for_frames() {
    let inner = [publish(1, "x", "k", "inner"), publish(1, "x", "k", "inner")].concat();
    let outer =
        [publish_method(1, "x", "k", false), content(1, "m", &inner, 4096).concat()].concat();
    let at = outer.len() - inner.len() - 1;
    for from in [at - 3, at, at + 1] {
        let mut run = opened(&[1]);
        run.hole(Requests, from as u64).requests(&outer[from..]);
        assert!(run.told().is_empty(), "{:?}", run.told());
        run.requests(publish(1, "x", "k", "b"));
        assert_eq!(run.told(), ["publish b to x:k mandatory > NoReply"]);
    }
}

#[test]
fn a_lone_heartbeat_shows_where_frames_are() {
    let mut run = opened(&[1]);
    run.events.clear();
    run.gap(Responses).responses(frame(8, 0, &[])).responses(deliver(1, "c", 1, "a"));
    assert_eq!(run.skipped(Skip::Resync), 0);
}
