//! What real client libraries publish to a real RabbitMQ and consume from it is told as it was: each message is
//! in one producer's span and one consumer's, no other span is made, and each says what the program says.

use crate::common;

use std::collections::BTreeMap;
use std::fmt;

use common::forest::STAMP_NS;
use common::lab::{Lab, PATIENCE};
use common::spans::{Kind, Span, Value};
use serde::Deserialize;
use wirespan_tests::servers::{RabbitMq, SECRET};
use wirespan_tests::wait;
use wirespan_tests::workloads::{Program, Runtime};

/// What was done with one message: as the program says, or as its span says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Operation {
    operation: String,
    id: String,
    destination: String,
    bytes: i64,
    error: Option<String>,
    /// How a delivery was settled; of a publish that was confirmed so.
    settlement: String,
    redelivered: bool,
}

impl Operation {
    fn of(span: &Span) -> Self {
        let text = |key: &str| span.text(key).unwrap_or_default().to_owned();
        let flag = |key: &str| span.attributes.get(key) == Some(&Value::Bool(true));
        let confirmed = flag("wirespan.rabbitmq.confirmed").then(|| "confirmed".to_owned());
        Self {
            operation: text("messaging.operation.type"),
            id: text("messaging.message.id"),
            destination: text("messaging.destination.name"),
            bytes: span.int("messaging.message.body.size").unwrap_or(-1),
            error: span.text("error.type").map(str::to_owned),
            settlement: confirmed.unwrap_or_else(|| text("wirespan.rabbitmq.settlement")),
            redelivered: flag("wirespan.rabbitmq.redelivered"),
        }
    }
}

/// On one line: what a failed test shows.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, id, destination, bytes, error, settlement, redelivered } = self;
        write!(f, "{operation} {id} {destination:?} {bytes} {error:?} {settlement} {redelivered}")
    }
}

const CLIENTS: [(Runtime, &str); 3] =
    [(Runtime::Node, "amqplib"), (Runtime::Python, "pika"), (Runtime::Python, "aio-pika")];

#[test]
fn each_message_is_in_one_span_of_its_producer_and_of_its_consumer() {
    let lab = Lab::new();
    let server = RabbitMq::start(lab.path()).unwrap();
    let rule = format!("cmd=*messaging.*{}*", lab.path().display());
    let tracing = lab.agent("agent", &[rule], &[&lab.calls_alone()]);
    let mut programs: Vec<Program> = CLIENTS
        .iter()
        .map(|(runtime, name)| {
            let program = lab.installed.messaging(*runtime, name, &server, lab.path()).unwrap();
            wait::until("the program is traced", PATIENCE, || {
                let pid = i32::try_from(program.pid())?;
                Ok(tracing.status().processes.iter().any(|it| it.pid == pid).then_some(()))
            })
            .unwrap();
            program
        })
        .collect();

    // Each sends to the next one.
    let mut done: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    let count = programs.len();
    for from in 0..count {
        for (takes, to) in [("take", from + 1), ("auto", from + 2), ("get", from + 1)] {
            let queue = format!("q{from}-{takes}");
            for (at, words) in [
                (from, format!("send={queue} fire={queue}")),
                (to % count, format!("{takes}={queue}")),
            ] {
                let told = programs[at].run(&words).unwrap();
                let told = told.into_iter().map(|line| serde_json::from_value(line).unwrap());
                done.entry(programs[at].name().to_owned()).or_default().extend(told);
            }
        }
    }
    let status = tracing.quiet();
    let spans = tracing.spans();
    assert_eq!(spans.len() as u64, status.spans);

    let mut wrong = BTreeMap::new();
    for (name, done) in &done {
        let spans: Vec<&Span> = spans.iter().filter(|span| span.service == *name).collect();
        eprintln!("{name}: {} operations, {} spans", done.len(), spans.len());
        let mut counts: BTreeMap<Operation, i64> = BTreeMap::new();
        spans.iter().for_each(|span| *counts.entry(Operation::of(span)).or_default() += 1);
        done.iter().for_each(|operation| *counts.entry(operation.clone()).or_default() -= 1);
        counts.retain(|_, count| *count != 0);
        if !counts.is_empty() {
            wrong.insert(name, counts);
        }
    }
    assert!(wrong.is_empty(), "more (+) or fewer (-) spans than operations: {wrong:#?}");

    for span in &spans {
        let operation = Operation::of(span);
        let (kind, name) = match &*operation.operation {
            "send" => (Kind::Producer, "send"),
            "process" => (Kind::Consumer, "process"),
            _ => (Kind::Client, "receive"),
        };
        assert_eq!(span.kind, kind, "{span:?}");
        assert_eq!(span.name, format!("{name} {}", operation.destination));
        assert_eq!(span.text("messaging.system"), Some("rabbitmq"));
        assert_eq!(span.text("wirespan.rabbitmq.virtual_host"), Some("shop"));
        assert_eq!(span.int("server.port"), Some(i64::from(server.port())));
        let conversation = format!("c-{}", operation.id);
        assert_eq!(span.text("messaging.message.conversation_id"), Some(&*conversation));
        let tag = span.int("messaging.rabbitmq.message.delivery_tag");
        assert_eq!(tag.is_some(), kind != Kind::Producer);
    }
    joined(&spans);
    let text = std::fs::read_to_string(&tracing.file).unwrap();
    assert!(!text.contains(SECRET), "a body or a password was exported");
}

/// Every delivery is its sender's child, in the sender's trace, each time that it comes.
fn joined(spans: &[Span]) {
    let id = |span: &Span| span.text("messaging.message.id").unwrap().to_owned();
    let sent: BTreeMap<String, &Span> =
        spans.iter().filter(|span| span.kind == Kind::Producer).map(|s| (id(s), s)).collect();
    let mut deliveries = 0;
    for delivery in spans.iter().filter(|span| span.kind == Kind::Consumer) {
        let sender = sent[&id(delivery)];
        assert_eq!(delivery.parent.as_deref(), Some(&*sender.id), "{delivery:?} of {sender:?}");
        assert_eq!((&delivery.trace, delivery.parent_is_remote), (&sender.trace, false));
        let waited = delivery.int("wirespan.message.wait_time_ns").unwrap();
        let apart = delivery.start_ns.saturating_sub(sender.start_ns).cast_signed();
        assert!((waited - apart).abs() <= STAMP_NS.cast_signed(), "{waited} and {apart} ns");
        deliveries += 1;
    }
    assert!(deliveries > 0);
    for taken in spans.iter().filter(|span| span.name.starts_with("receive ")) {
        let sender = sent[&id(taken)];
        assert_eq!(taken.links, [(sender.trace.clone(), sender.id.clone())], "{taken:?}");
    }
}
