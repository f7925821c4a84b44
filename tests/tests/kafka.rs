//! What real clients send to a real Kafka and receive from it is told as it was: each message is in exactly one
//! producer's span and, for each group, in exactly one consumer's; polls in vain are told by nobody.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};

use common::lab::{Lab, PATIENCE, Tracing};
use common::spans::{Kind, Span, Value};
use serde::Deserialize;
use wirespan_tests::broker::{Broker, CLUSTER, PARTITIONS};
use wirespan_tests::servers::SECRET;
use wirespan_tests::wait;
use wirespan_tests::workloads::{Program, Runtime};

/// Where a message is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Place {
    topic: String,
    partition: i32,
    offset: i64,
}

/// What a program says that it sent.
#[derive(Debug, Deserialize)]
struct Sent {
    sent: i64,
    /// Wanting no answer.
    unanswered: i64,
    /// Not taken by the broker.
    refused: i64,
}

fn partition(span: &Span) -> Option<i32> {
    span.text("messaging.destination.partition.id")?.parse().ok()
}

fn topic(span: &Span) -> &str {
    span.text("messaging.destination.name").unwrap_or_default()
}

/// The messages that a span tells of, where it has their offsets.
fn places(span: &Span) -> Vec<Place> {
    let (Some(first), Some(count)) =
        (span.int("messaging.kafka.offset"), span.int("messaging.batch.message_count"))
    else {
        return Vec::new();
    };
    let place = |offset| Place {
        topic: topic(span).to_owned(),
        partition: partition(span).unwrap(),
        offset,
    };
    (first..first + count).map(place).collect()
}

/// The message that a handler's span tells of.
fn handled(span: &Span) -> Place {
    let offset = span.int("messaging.kafka.offset").unwrap();
    Place { topic: topic(span).to_owned(), partition: partition(span).unwrap(), offset }
}

/// How often each is there, if not once.
fn not_once<'a>(places: impl IntoIterator<Item = &'a Place>) -> BTreeMap<&'a Place, usize> {
    let mut counts = BTreeMap::new();
    for place in places {
        *counts.entry(place).or_default() += 1;
    }
    counts.retain(|_, count| *count != 1);
    counts
}

fn silent(tracing: &Tracing) -> u64 {
    tracing.status().total.agent.calls_silent
}

fn said<T: serde::de::DeserializeOwned>(program: &mut Program, line: &str) -> Vec<T> {
    let told = program.run(line).unwrap();
    told.into_iter().map(|line| serde_json::from_value(line).unwrap()).collect()
}

#[test]
fn each_message_is_in_one_producers_span_and_in_one_of_each_groups() {
    let lab = Lab::new();
    let broker = Broker::start(&lab.installed, lab.path()).unwrap();
    let rule = format!("cmd=*messages.*{}*", lab.path().display());
    let tracing = lab.agent("agent", &[rule], &[&lab.calls_alone()]);
    let clients = [(Runtime::Node, "kafkajs", "js"), (Runtime::Python, "aiokafka", "py")];
    let mut programs: Vec<Program> = clients
        .iter()
        .map(|(runtime, client, _)| {
            let program = lab.installed.messages(*runtime, client, &broker, lab.path()).unwrap();
            wait::until("the program is traced", PATIENCE, || {
                let pid = i32::try_from(program.pid())?;
                let status = tracing.status();
                Ok(status.processes.iter().any(|process| process.pid == pid).then_some(()))
            })
            .unwrap();
            program
        })
        .collect();

    let sent: Vec<Sent> = programs
        .iter_mut()
        .zip(&clients)
        .flat_map(|(program, (.., name))| said(program, &format!("send {name}")))
        .collect();
    let all: i64 = sent.iter().map(|sent| sent.sent + sent.unanswered).sum();
    let received: Vec<Vec<Place>> =
        programs.iter_mut().map(|program| said(program, &format!("receive {all} js py"))).collect();

    // Both go on polling, and nothing comes. What came before is told by and by.
    let polled_in_vain = |polls: u64| {
        let before = silent(&tracing);
        let enough = || Ok((silent(&tracing) >= before + polls).then_some(()));
        wait::until("both polled in vain", PATIENCE, enough).unwrap();
        tracing.status().spans
    };
    let told = polled_in_vain(60);
    assert_eq!(polled_in_vain(60), told, "polls in vain make no span");
    drop(programs);
    tracing.quiet();
    let spans = tracing.spans();

    let mut everything = BTreeSet::new();
    for places in &received {
        assert_eq!(not_once(places), BTreeMap::new(), "received twice");
        assert_eq!(i64::try_from(places.len()).unwrap(), all);
        everything.extend(places.iter().cloned());
    }
    assert_eq!(i64::try_from(everything.len()).unwrap(), all, "both received the same");

    joined(&spans);
    for ((_, client, own), (sent, received)) in clients.iter().zip(sent.iter().zip(&received)) {
        let of = |operation: &str| -> Vec<&Span> {
            let name = "messaging.operation.name";
            let is = |span: &&Span| span.service == *client && span.text(name) == Some(operation);
            spans.iter().filter(is).collect()
        };
        let (sends, polls, commits) = (of("send"), of("poll"), of("commit"));
        // An assisted program says which messages its handlers work on.
        let handlers = of("process");
        eprintln!(
            "{client}: {} sends, {} polls, {} commits",
            sends.len(),
            polls.len(),
            commits.len()
        );
        let count = sends.len() + polls.len() + commits.len() + handlers.len();
        let all = spans.iter().filter(|span| span.service == *client).count();
        assert_eq!(count, all, "{client}: nothing else is told");

        let group = format!("billing-{own}");
        for span in sends.iter().chain(&polls).chain(&commits) {
            let text = |key: &str| span.text(key);
            assert_eq!(text("messaging.system"), Some("kafka"), "{span:?}");
            assert_eq!(text("messaging.client.id"), Some(&*format!("shop-{own}")), "{span:?}");
            // aiokafka asks for metadata in a version without it, but for its administrator.
            if *client == "kafkajs" || text("wirespan.kafka.cluster_id").is_some() {
                assert_eq!(text("wirespan.kafka.cluster_id"), Some(CLUSTER), "{span:?}");
            }
            assert_eq!(span.int("server.port"), Some(i64::from(broker.port())), "{span:?}");
            let operation = text("messaging.operation.name").unwrap();
            let (kind, of, member) = match operation {
                "send" => (Kind::Producer, "send", None),
                "poll" => (Kind::Client, "receive", Some(&*group)),
                _ => (Kind::Client, "settle", Some(&*group)),
            };
            assert_eq!((span.kind, text("messaging.operation.type")), (kind, Some(of)), "{span:?}");
            assert_eq!(text("messaging.consumer.group.name"), member, "{span:?}");
            if !topic(span).is_empty() {
                assert_eq!(span.name, format!("{operation} {}", topic(span)));
            }
            if operation != "commit" {
                assert!((0..PARTITIONS).contains(&partition(span).unwrap()), "{span:?}");
            }
        }

        let handled: Vec<Place> = handlers.iter().map(|span| handled(span)).collect();
        assert_eq!(not_once(&handled), BTreeMap::new(), "{client}: a message handled twice");
        assert!(handled.iter().all(|place| everything.contains(place)));
        if *client == "kafkajs" && !handled.is_empty() {
            let missing = received.iter().filter(|place| !handled.contains(place)).count();
            eprintln!("{client}: {} handlers, {missing} before it was assisted", handlers.len());
        }
        let polled: Vec<Place> = polls.iter().flat_map(|span| places(span)).collect();
        assert_eq!(not_once(&polled), BTreeMap::new(), "{client}: a message in two polls");
        let polled: BTreeSet<&Place> = polled.iter().collect();
        let missing: Vec<&Place> = received.iter().filter(|it| !polled.contains(it)).collect();
        assert_eq!(missing, Vec::<&Place>::new(), "{client}: received, and in no poll");
        assert_eq!(polled.len(), received.len(), "{client}: polled, and not received");

        // What came before the new topic had its leader the library sends again.
        let again = |span: &&&Span| span.text("error.type") == Some("NOT_LEADER_OR_FOLLOWER");
        let (refused, taken): (Vec<&Span>, Vec<&Span>) = sends
            .iter()
            .filter(|span| !again(span))
            .partition(|span| span.text("error.type").is_some());
        assert_eq!(i64::try_from(refused.len()).unwrap(), sent.refused, "{refused:?}");
        for span in &refused {
            assert_eq!(span.text("error.type"), Some("MESSAGE_TOO_LARGE"), "{span:?}");
            assert!(span.error.is_some(), "{span:?}");
        }
        let answered: Vec<Place> = taken.iter().flat_map(|span| places(span)).collect();
        assert_eq!(not_once(&answered), BTreeMap::new(), "{client}: a message in two sends");
        assert!(answered.iter().all(|place| place.topic == *own && everything.contains(place)));
        assert_eq!(i64::try_from(answered.len()).unwrap(), sent.sent, "{client}");
        let counts = taken.iter().filter_map(|span| span.int("messaging.batch.message_count"));
        assert_eq!(counts.sum::<i64>(), sent.sent + sent.unanswered, "{client}");
        assert!(!commits.is_empty());
    }
    assert!(
        spans
            .iter()
            .all(|span| span.attributes.get("wirespan.kafka.cut") != Some(&Value::Bool(true)))
    );
    let exported = std::fs::read_to_string(&tracing.file).unwrap();
    assert!(!exported.contains(SECRET), "a key or a value was exported");
}

/// A poll of one message is its sender's child; one of several is linked to all of theirs.
fn joined(spans: &[Span]) {
    let of = |operation: &str| -> Vec<&Span> {
        let is = |span: &&Span| span.text("messaging.operation.name") == Some(operation);
        spans.iter().filter(is).collect()
    };
    let senders: BTreeMap<Place, &Span> =
        of("send").iter().flat_map(|span| places(span).into_iter().map(|it| (it, *span))).collect();
    let (mut children, mut linked) = (0, 0);
    for poll in of("poll") {
        let messages = places(poll);
        // What was sent without an answer has no offset.
        let known: Vec<&Span> =
            messages.iter().filter_map(|place| senders.get(place).copied()).collect();
        if let ([_], [sender]) = (&messages[..], &known[..]) {
            assert_eq!((&poll.trace, &poll.parent), (&sender.trace, &Some(sender.id.clone())));
            assert!(poll.int("wirespan.message.wait_time_ns").is_some());
            children += 1;
        } else if messages.len() > 1 {
            let wanted: BTreeSet<_> = known.iter().map(|span| (&span.trace, &span.id)).collect();
            let links: BTreeSet<_> = poll.links.iter().map(|(trace, id)| (trace, id)).collect();
            assert_eq!(links, wanted, "{poll:?}");
            linked += wanted.len();
        }
    }
    assert!(children + linked > 0, "{children} children, {linked} links");
    eprintln!("{children} polls under their senders, {linked} senders linked to");
}
