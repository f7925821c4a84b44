//! What the frames mean together: publishes and confirms, deliveries and acknowledgements, answers, closings,
//! on several channels, in the order in which records may come.

use super::*;

#[test]
fn publishes_without_confirms_are_over_with_their_last_byte() {
    let mut run = opened(&[1]);
    let frames = [publish_method(1, "x", "k", false), content(1, "m", b"secret", 3).concat()];
    run.requests(&frames[0]);
    assert!(run.told().is_empty());
    run.requests(&frames[1]);
    assert_eq!(run.told(), ["publish m to x:k > NoReply"]);
    let [it] = &exchanges(&run.events)[..] else { panic!("one") };
    assert_eq!((it.last - it.first, it.bytes), (1, Some(frames.concat().len() as u64)));
}

#[test]
fn contents_of_several_channels_interleave() {
    let mut run = opened(&[1, 2, 3]);
    let mut wire = Vec::new();
    let parts: Vec<_> = [1, 2, 3]
        .map(|channel| {
            let mut frames = vec![publish_method(channel, "x", "k", false)];
            frames.extend(content(channel, &format!("m{channel}"), &[b'a'; 100], 30));
            frames
        })
        .into();
    for at in 0..parts[0].len() {
        parts.iter().for_each(|frames| wire.extend_from_slice(&frames[at]));
    }
    run.requests(&wire);
    let ids = ["m1", "m2", "m3"].map(|id| format!("publish {id} to x:k > NoReply"));
    assert_eq!(run.told(), ids);
    let hashes: Vec<_> = exchanges(&run.events)
        .into_iter()
        .map(|it| match it.call {
            Call::Publish(publish) => publish.message.body_hash.unwrap(),
            call => panic!("{call:?}"),
        })
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "the same body: {hashes:?}");
}

#[test]
fn confirms_name_publishes_one_by_one_or_up_to_one() {
    let mut run = confirming();
    for id in ["a", "b", "c", "d", "e"] {
        run.requests(publish(1, "x", "k", id));
    }
    run.responses(ack(1, 2, false)).responses(nack(1, 1, 0)).responses(ack(1, 4, true));
    let told = ["a", "b", "c", "d", "e"].map(|id| format!("publish {id} to x:k mandatory > "));
    let ends = ["Refused", "Confirmed", "Confirmed", "Confirmed", "open"];
    let expected: Vec<_> =
        told.iter().zip(ends).map(|(told, end)| format!("{told}{end}")).collect();
    assert_eq!(run.told(), expected);
}

#[test]
fn a_message_that_comes_back_is_told_from_those_that_do_not() {
    let mut run = confirming();
    for (key, id) in [("k", "a"), ("none", "b"), ("none", "c"), ("none", "b")] {
        run.requests(publish(1, "x", key, id));
    }
    run.responses([returned(1, 312, "x", "none", "b"), ack(1, 2, true)].concat());
    run.responses([returned(1, 312, "x", "none", "b"), ack(1, 4, true)].concat());
    let told = run.told();
    assert!(told[0].ends_with("Confirmed") && told[2].ends_with("Confirmed"), "{told:?}");
    assert!(told[1].ends_with("Returned 312") && told[3].ends_with("Returned 312"), "{told:?}");
    assert_eq!(run.connection.tally().returned, 0);
    // Without confirms nobody can tell which it was: its span has ended.
    let mut run = opened(&[1]);
    run.requests(publish(1, "x", "none", "b")).responses(returned(1, 312, "x", "none", "b"));
    assert_eq!(run.told(), ["publish b to x:none mandatory > NoReply"]);
    assert_eq!(run.connection.tally().returned, 1);
}

#[test]
fn deliveries_end_with_their_settlement() {
    let mut run = consuming();
    for tag in 1..=6 {
        run.responses(deliver(1, "c", tag, &format!("m{tag}")));
    }
    run.requests(ack(1, 2, false));
    run.requests(method(1, 60, 90, &[0, 0, 0, 0, 0, 0, 0, 1, 1]));
    run.requests(nack(1, 4, 1)).requests(nack(1, 5, 2)).requests(ack(1, 0, true));
    let ends = [
        "Reject, again",
        "Ack",
        "Nack, all before",
        "Nack, all before",
        "Nack, again",
        "Ack, all before",
    ];
    let expected: Vec<_> =
        (1..=6).zip(ends).map(|(tag, end)| format!("deliver m{tag} from q > {end}")).collect();
    assert_eq!(run.told(), expected);
}

#[test]
fn a_consumer_that_acknowledges_nothing_has_its_deliveries_over_at_once() {
    let mut run = opened(&[1]);
    run.requests(consume(1, "q", "", true)).responses(consume_ok(1, "amq.ctag-1"));
    run.responses(deliver(1, "amq.ctag-1", 1, "m"));
    assert_eq!(run.messages(), ["deliver m from q automatically > NoReply"]);
}

#[test]
fn a_consumer_is_forgotten_when_the_broker_says_that_it_ended() {
    let mut run = opened(&[1]);
    for round in 0..2 * crate::limits::AMQP_CONSUMERS {
        let tag = round.to_string();
        run.requests(consume(1, "q", &tag, true)).responses(consume_ok(1, &tag));
        let ended = if round % 2 == 0 { 31 } else { 30 };
        if ended == 31 {
            run.requests(method(1, 60, 30, &[&short(&tag)[..], &[0]].concat()));
        }
        run.responses(method(1, 60, ended, &[&short(&tag)[..], &[1]].concat()));
        run.events.clear();
    }
    run.requests(consume(1, "q", "c", true)).responses(consume_ok(1, "c"));
    run.responses(deliver(1, "c", 1, "m"));
    assert_eq!(run.messages(), ["deliver m from q automatically > NoReply"]);
}

#[test]
fn a_queue_without_a_name_is_the_one_declared_last() {
    let mut run = opened(&[1]);
    run.requests(method(1, 50, 10, &[0, 0, 0, 0, 0, 0, 0, 0]));
    run.responses(method(1, 50, 11, &[&short("amq.gen-x")[..], &[0; 8]].concat()));
    run.requests(consume(1, "", "c", false)).responses(consume_ok(1, "c"));
    run.responses(deliver(1, "c", 1, "m"));
    run.requests(method(1, 60, 70, &[0, 0, 0, 1])).responses(method(1, 60, 72, &[0]));
    let expected = [
        "queue.declare > Replied",
        "basic.consume amq.gen > Replied",
        "deliver m from amq.gen > open",
        "get ? > Empty",
    ];
    let told = run.told();
    assert_eq!(told[..3], expected[..3]);
    assert!(told[3].ends_with("> Empty"), "{told:?}");
}

#[test]
fn getting_takes_a_message_or_finds_nothing() {
    let mut run = opened(&[1]);
    let get = method(1, 60, 70, &[&[0, 0][..], &short("q"), &[1]].concat());
    let arguments = [&1_u64.to_be_bytes()[..], &[0], &short(""), &short("q"), &[0; 4]].concat();
    run.requests(&get).responses(method(1, 60, 71, &arguments));
    assert_eq!(run.told(), ["get q > open"]);
    run.responses(content(1, "m", b"body", 2).concat());
    run.requests(&get).responses(method(1, 60, 72, &[0]));
    assert_eq!(run.told(), ["get q > deliver m from q automatically", "get q > Empty"]);
}

#[test]
fn what_comes_before_its_cause_is_held_for_it() {
    let mut run = confirming();
    run.responses(ack(1, 1, false));
    assert!(run.told().is_empty());
    run.requests(publish(1, "x", "k", "m"));
    assert_eq!(run.told(), ["publish m to x:k mandatory > Confirmed"]);
    let mut run = consuming();
    run.requests(ack(1, 1, false)).requests(publish(1, "x", "k", "p"));
    assert!(run.told().is_empty());
    run.responses(deliver(1, "c", 1, "m"));
    assert_eq!(run.told(), ["deliver m from q > Ack", "publish p to x:k mandatory > NoReply"]);
    let mut run = opened(&[1]);
    run.responses(method(1, 85, 11, &[])).responses(ack(1, 1, false));
    run.requests(method(1, 85, 10, &[0])).requests(publish(1, "x", "k", "m"));
    assert_eq!(run.told(), ["confirm.select > Replied", "publish m to x:k mandatory > Confirmed"]);
}

#[test]
fn what_never_comes_is_not_waited_for_beyond_a_silence() {
    let mut run = confirming();
    run.responses(ack(1, 1, false)).responses(deliver(1, "unknown", 1, "m")).idle();
    run.requests(publish(1, "x", "k", "m"));
    assert_eq!(run.told(), ["publish m to x:k mandatory > NoReply"]);
    run.close();
}

#[test]
fn closing_by_the_broker_fails_what_waits() {
    for (channel, code) in [(1, 404), (0, 320)] {
        let mut run = opened(&[1, 2]);
        for number in [1, 2] {
            run.requests(method(number, 85, 10, &[0])).responses(method(number, 85, 11, &[]));
            run.requests(consume(number, "q", "c", false)).responses(consume_ok(number, "c"));
        }
        run.events.clear();
        for number in [1, 2] {
            run.requests(publish(number, "x", "k", "m")).responses(deliver(number, "c", 1, "d"));
            run.requests(method(number, 50, 30, &[&[0, 0], &short("q")[..], &[0]].concat()));
        }
        run.responses(close(channel, code));
        let told = run.told();
        let failed = |told: &&String| told.ends_with(&format!("Closed {code}"));
        assert_eq!(
            told.iter().filter(failed).count(),
            if channel == 0 { 6 } else { 3 },
            "{told:?}"
        );
        // What is still sent is dropped there.
        if channel == 1 {
            run.requests(publish(1, "x", "k", "late"));
            assert_eq!(run.told()[6], "publish late to x:k mandatory > Closed 404");
            run.requests(method(1, 20, 41, &[])).requests(method(1, 20, 10, &[0]));
            run.requests(publish(1, "x", "k", "again"));
            assert_eq!(run.told()[7], "publish again to x:k mandatory > NoReply");
        }
        assert!(!format!("{:?}", run.events).contains("secret"), "no text of the broker's is kept");
        run.close();
    }
}

#[test]
fn what_is_not_settled_when_the_process_leaves_is_given_back() {
    for number in [1, 0] {
        let mut run = consuming();
        run.responses(deliver(1, "c", 1, "a")).responses(deliver(1, "c", 2, "b"));
        run.requests(ack(1, 1, false)).requests(close(number, 200));
        assert_eq!(run.told(), ["deliver a from q > Ack", "deliver b from q > Released"]);
        run.close();
    }
    // A connection that ends without a word fails it.
    let mut run = consuming();
    run.responses(deliver(1, "c", 1, "a")).close();
    assert_eq!(run.told(), ["deliver a from q > Broken { error: None }"]);
}

#[test]
fn a_number_that_is_given_anew_is_another_channel() {
    let mut run = confirming();
    run.requests(publish(1, "x", "k", "a")).responses(ack(1, 1, false));
    run.requests(close(1, 200)).requests(method(1, 20, 10, &[0]));
    run.requests(publish(1, "x", "k", "b"));
    run.responses(method(1, 20, 41, &[])).responses(method(1, 20, 11, &[0; 4]));
    assert_eq!(
        run.told(),
        ["publish a to x:k mandatory > Confirmed", "publish b to x:k mandatory > NoReply"]
    );
}

#[test]
fn answers_come_in_order_and_another_one_pairs_with_nothing() {
    let mut run = opened(&[1]);
    let purge = method(1, 50, 30, &[&[0, 0], &short("q")[..], &[0]].concat());
    let qos = method(1, 60, 10, &[0, 0, 0, 0, 0, 9, 0]);
    run.requests(&purge).requests(&qos);
    run.responses(method(1, 50, 31, &[0; 4])).responses(method(1, 60, 11, &[]));
    assert_eq!(run.told(), ["queue.purge q > Replied", "basic.qos > Replied"]);
    run.requests(&purge).responses(method(1, 60, 11, &[]));
    run.requests(&purge).responses(method(1, 50, 31, &[0; 4]));
    assert_eq!(run.told()[2..], ["queue.purge q > abandoned: Unpaired"]);
    run.idle().requests(&purge).responses(method(1, 50, 31, &[0; 4]));
    assert_eq!(run.told()[3..], ["queue.purge q > Replied"]);
}

#[test]
fn the_virtual_host_is_told_and_the_login_is_not() {
    let mut run = Run::new(true);
    run.requests(b"AMQP\x00\x00\x09\x01");
    let table = [&short("cluster_name")[..], b"S\0\0\0\x08rabbit@a"].concat();
    let start =
        [&[0, 9][..], &u32::try_from(table.len()).unwrap().to_be_bytes(), &table, &[0; 8]].concat();
    run.responses(method(0, 10, 10, &start));
    let login =
        [&[0; 4], &short("PLAIN")[..], b"\0\0\0\x0d\0me\0secret-login", &short("en")].concat();
    run.requests(method(0, 10, 11, &login)).requests(method(0, 10, 40, b"\x04shop\0\0"));
    let facts = run.events.iter().map(|event| match event {
        Event::Session(fact) => fact.clone(),
        event => panic!("{event:?}"),
    });
    let expected = [Fact::Cluster("rabbit@a".into()), Fact::VirtualHost("shop".into())];
    assert_eq!(facts.collect::<Vec<_>>(), expected);
    assert!(!format!("{:?}", run.connection).contains("secret"));
}

#[test]
fn properties_are_read_as_far_as_they_were_captured() {
    let table = [
        &short("n")[..],
        b"A\0\0\0\x05I\0\0\0\x01",
        &short("traceparent"),
        b"S\0\0\0\x37",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        &short("task"),
        b"S\0\0\0\x03pay",
        &short("id"),
        b"S\0\0\0\x01j",
        &short("retries"),
        b"I\0\0\0\x02",
    ]
    .concat();
    let flags = [0b1011_1110, 0b1010_1000];
    let length = u32::try_from(table.len()).unwrap().to_be_bytes();
    let bytes = [
        &flags[..],
        &short("text/plain"),
        &length,
        &table,
        &[2, 3],
        &short("corr"),
        &short("reply"),
        &short("id-1"),
        &short("kind"),
        &short("app"),
    ]
    .concat();
    let whole = Properties::read(&bytes, true);
    let texts =
        [&whole.correlation_id, &whole.reply_to, &whole.message_id, &whole.kind, &whole.app_id];
    assert_eq!(
        texts.map(|text| text.as_deref().unwrap()),
        ["corr", "reply", "id-1", "kind", "app"]
    );
    assert_eq!((whole.task.as_deref(), whole.task_id.as_deref()), (Some("pay"), Some("j")));
    assert_eq!(whole.task_retries, Some(2));
    assert!(whole.traceparent.is_some() && whole.hash.is_some());
    for len in 0..bytes.len() {
        let part = Properties::read(&bytes[..len], false);
        assert!(part.hash.is_none());
        assert!(part.message_id.is_none() || part.message_id == whole.message_id, "{len}");
        assert!(part.traceparent.is_none() || part.traceparent == whole.traceparent, "{len}");
    }
}
