//! One request is one trace, whole: every service's part, under the right parent, named and timed right.

use crate::common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::forest::{Forest, STAMP_NS};
use common::lab::{Lab, PATIENCE, Stop, Tracing, distinct, gets, load, rule};
use common::receiver::Receiver;
use common::spans::{Kind, Span, Value};
use wirespan_tests::load::{Outcome, Request};
use wirespan_tests::workloads::{Brokers, Loop, Service, System, Worker};
use wirespan_tests::{sys, wait};

const REQUESTS: usize = 1_000;

/// Clock reads on both sides of a boundary, and the sampling of the distance to wall time.
const CLOCKS_NS: u64 = 2_000_000;

/// A machine that is shared may take the processor away between a call and its stamp (docs/limitations.md): from
/// few, and not for as long as this.
const STOLEN_NS: u64 = 100_000_000;

/// Spans arrive within this after their end; a few may come later, by what the agent itself was held up.
const IN_TIME_NS: u64 = 2_000_000_000;

const TREE: &str = "\
gateway server GET /orders/{id} 200
  gateway client GET /api/orders/{id} 200
    orders server GET /api/orders/{id} 200
      orders client GET /prices/{id} 200
        prices server GET /prices/{id} 200
  gateway client GET /stock/{id} 200
    stock server GET /stock/{id} 200
      stock client GET /prices/{id} 200
        prices server GET /prices/{id} 200
";

const CHECKOUT: &str = "\
gateway server POST /checkout/{id} 202
  gateway producer send receipts -
    receipts consumer process receipts -
      receipts client GET /prices/{id} 200
        prices server GET /prices/{id} 200
  gateway producer add shipping -
    shipping consumer process shipping -
      shipping client GET /prices/{id} 200
        prices server GET /prices/{id} 200
";

#[test]
fn a_thousand_requests_are_a_thousand_whole_traces() {
    let lab = Lab::new();
    let named = |spec: wirespan_tests::workloads::Spec, name: &str| {
        spec.env("OTEL_SERVICE_NAME", name).start(lab.path()).unwrap()
    };
    let installed = &lab.installed;
    let prices = named(installed.plain("prices").unwrap(), "prices");
    let orders = installed.flask("orders", Worker::Sync, 1).unwrap().upstream(&prices);
    let orders = named(orders, "orders");
    let stock = installed.fastapi("stock", Loop::Asyncio).unwrap().upstream(&prices);
    let stock = named(stock, "stock");
    let gateway = named(installed.gateway(&orders, &stock).unwrap(), "gateway");

    let receiver = Receiver::start();
    let services = [&gateway, &orders, &stock, &prices];
    let tracing = lab.agent("agent", &services.map(rule), &[&receiver.export()]);
    let stop = AtomicBool::new(false);
    let (outcomes, forest, busy_ns) = thread::scope(|scope| {
        let stopping = Stop(&stop);
        let watching = scope.spawn(|| longest_answer_ns(&tracing, &stop));
        let outcomes = load(&gateway, 1, &gets("/orders", 1, REQUESTS));
        let forest = tracing.forest_of(REQUESTS * TREE.lines().count());
        wait::until("the receiver has all", PATIENCE, || {
            Ok((receiver.spans().len() >= forest.spans.len()).then_some(()))
        })
        .unwrap();
        drop(stopping);
        (outcomes, forest, watching.join().unwrap())
    });

    let whole = |root: &&Span| forest.outline(root) == TREE;
    let others: Vec<String> = (forest.roots().filter(|root| !whole(root)))
        .map(|root| format!("{}{root:#?}", forest.outline(root)))
        .collect();
    assert!(others.is_empty(), "{} are not whole:\n{}", others.len(), others.join("\n"));
    assert_eq!(forest.traces().len(), REQUESTS);
    let roots: HashMap<u64, &Span> =
        forest.roots().map(|root| (root.number().unwrap(), root)).collect();
    assert_eq!(roots.len(), REQUESTS);
    let mut late = 0;
    for outcome in &outcomes {
        let root = roots[&outcome.id.parse().unwrap()];
        assert_eq!(forest.outline(root), TREE, "{}", outcome.path);
        let outside_ns = outside_ns(root, outcome);
        let seen = (outcome.start_ns, outcome.end_ns);
        assert!(outside_ns < STOLEN_NS, "{root:#?} {outside_ns} ns outside {seen:?}");
        late += usize::from(outside_ns > CLOCKS_NS);
        root_attributes(root, &gateway, outcome);
    }
    assert!(late * 100 <= REQUESTS, "{late} of {REQUESTS} are outside what was seen");
    for span in &forest.spans {
        nested(&forest, span);
        attributes(span, &services);
    }

    // The same through the other exporter: nothing more, nothing less, nothing else.
    let delays = receiver.delays_ns();
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100] / 1_000_000;
    eprintln!(
        "arrival after the end: median {} ms, 99 % {} ms, all {} ms; an answer took up to {} ms",
        at(50),
        at(99),
        at(100),
        busy_ns / 1_000_000
    );
    let in_time = delays.iter().filter(|delay| **delay <= IN_TIME_NS).count();
    assert!(in_time * 100 >= delays.len() * 99, "{in_time} of {} within 2 s", delays.len());
    let longest = delays.last().unwrap();
    assert!(*longest <= IN_TIME_NS + busy_ns, "{longest} ns, where an answer took {busy_ns} ns");

    let by_id = |mut spans: Vec<Span>| {
        spans.sort_by(|a, b| a.id.cmp(&b.id));
        spans
    };
    assert!(by_id(receiver.spans()) == by_id(forest.spans), "file and gRPC differ");
}

/// The longest that the agent needed to answer, until told to stop: spans wait for the processor as an answer does.
fn longest_answer_ns(tracing: &Tracing, stop: &AtomicBool) -> u64 {
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let asked = sys::monotonic();
        tracing.status();
        longest = longest.max(sys::monotonic() - asked);
        // These are samples: without a pause the asking itself would be what holds it up.
        thread::sleep(Duration::from_millis(50));
    }
    u64::try_from(longest.as_nanos()).unwrap()
}

/// The front's span lies inside what the client saw: how far it does not.
fn outside_ns(root: &Span, outcome: &Outcome) -> u64 {
    let early = outcome.start_ns.saturating_sub(root.start_ns);
    early.max(root.end_ns.saturating_sub(outcome.end_ns))
}

/// A client encloses its server; a server encloses what it awaits.
fn nested(forest: &Forest, span: &Span) {
    let Some(parent) = forest.parent(span) else { return };
    let slack = if span.kind == Kind::Server { 0 } else { STAMP_NS };
    let inside = parent.start_ns <= span.start_ns + slack && span.end_ns <= parent.end_ns + slack;
    assert!(inside, "{span:#?} outside {parent:#?}");
}

fn root_attributes(root: &Span, gateway: &Service, outcome: &Outcome) {
    let path = outcome.path.split('?').next();
    assert_eq!(root.text("url.path"), path, "without the query");
    assert_eq!(root.int("network.peer.port"), Some(i64::from(outcome.local_port)));
    assert_eq!(root.int("server.port"), Some(i64::from(gateway.port())));
    assert_eq!(root.int("http.response.body.size"), Some(outcome.body.len() as i64));
    assert_eq!(root.text("network.protocol.version"), Some("1.1"));
}

fn attributes(span: &Span, services: &[&Service; 4]) {
    let common = [
        "http.request.method",
        "http.response.status_code",
        "network.peer.address",
        "network.peer.port",
        "network.protocol.version",
        "server.address",
        "server.port",
        "http.response.body.size",
    ];
    let further: &[&str] = match span.kind {
        Kind::Server => &["url.scheme", "url.path", "http.route", "client.address"],
        _ => &["url.full", "url.template"],
    };
    for key in common.iter().chain(further) {
        assert!(span.attributes.contains_key(*key), "no {key}: {span:#?}");
    }
    for key in ["url.query", "error.type", "wirespan.parent.status", "wirespan.end_inferred"] {
        assert!(!span.attributes.contains_key(key), "{key}: {span:#?}");
    }
    assert_eq!(span.error, None);
    assert_eq!(span.text("network.peer.address"), Some("127.0.0.1"));
    let text = span.text("url.full").unwrap_or_default();
    assert!(!text.contains("rid"), "a query's value: {span:#?}");
    if span.kind == Kind::Server {
        let service = services.iter().find(|service| service.name() == span.service).unwrap();
        assert_eq!(span.int("server.port"), Some(i64::from(service.port())));
        assert!(span.int("wirespan.kernel.queue_time_ns").is_some(), "{span:#?}");
        let pid = match span.resource["process.pid"] {
            Value::Int(pid) => pid,
            ref other => panic!("process.pid is {other:?}"),
        };
        let workers = distinct(service.workers().unwrap().into_iter().map(i64::from));
        assert!(workers.contains(&pid), "{pid} is none of {workers:?}");
    }
}

#[test]
fn one_tree_leads_from_a_request_through_its_messages_to_what_the_workers_ask() {
    let lab = Lab::new();
    let brokers = Brokers::begin(&lab.installed, lab.path()).unwrap();
    assert!(brokers.missing().is_empty(), "{:?}", brokers.missing());
    let (environment, rules) = (brokers.environment(), brokers.rules());
    let system = System::start_with(&lab.installed, lab.path(), &environment).unwrap();
    let mut allowed: Vec<String> = system.services().into_iter().map(rule).collect();
    allowed.extend(rules);
    let tracing = lab.agent("agent", &allowed, &[]);
    let followed = |count: usize| {
        wait::until("all are followed", PATIENCE, || {
            let processes = tracing.status().processes;
            let exact = processes.iter().filter(|it| it.context.as_deref() == Some("exact"));
            let exact = exact.count();
            Ok((exact >= count && exact == processes.len()).then_some(()))
        })
        .unwrap();
    };
    // The four services and gunicorn's arbiter. Then the two workers: what they do when they connect tells which queues
    // they take from, so they connect when they are followed.
    followed(5);
    let go = lab.path().join("go");
    let workers = brokers.held_until(&go).work(&system.prices, lab.path()).unwrap();
    followed(7);
    std::fs::write(&go, "").unwrap();
    for worker in workers.services() {
        wait::until("the worker is at work", PATIENCE, || {
            Ok(worker.output()?.contains("at work").then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {}", worker.output().unwrap()));
    }
    let checkout = |id: usize| {
        let path = format!("/checkout/{id}?rid={id}");
        Request::post(id.to_string(), path, &serde_json::json!({}))
    };
    // The first one opens connections.
    load(&system.gateway, 1, &[checkout(0)]);
    let checkouts: Vec<Request> = (1..=20).map(checkout).collect();
    load(&system.gateway, 10, &checkouts);
    // With whatever is in no tree of a request's.
    let mut trees = Vec::new();
    let whole = wait::until("all trees are whole", PATIENCE, || {
        let forest = Forest::new(tracing.spans());
        let roots = forest.roots().filter(|root| root.path() != "/checkout/0");
        trees = roots.map(|root| forest.outline(root)).collect();
        let count = trees.iter().filter(|tree| **tree == CHECKOUT).count();
        Ok((count == checkouts.len()).then_some(()))
    });
    whole.unwrap_or_else(|error| panic!("{error}: {trees:#?}\n{:#?}", tracing.status()));
    drop(workers);
}
