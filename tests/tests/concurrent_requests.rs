//! Requests side by side: every one is traced, and no call is ever put under another's request. Where the
//! right one can't be told it is withheld, said so on the span, and counted.

use crate::common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::thread;

use common::forest::Forest;
use common::lab::{Lab, PATIENCE, distinct, gets, load, rule};
use common::spans::{Kind, Span};
use rstest::rstest;
use wirespan_tests::load::{self as loading, Plan};
use wirespan_tests::process::Group;
use wirespan_tests::script::Script;
use wirespan_tests::wait;
use wirespan_tests::workloads::{Loop, Service, Worker, ports};

use crate::node_parents::exact;

const IN_FLIGHT: usize = 20;
const REQUESTS: usize = 600;

/// Client calls of a service: all, and those with a parent.
fn calls(forest: &Forest, service: &str) -> (usize, usize) {
    let all = forest.of(service, Kind::Client).count();
    let placed = forest.of(service, Kind::Client).filter(|span| span.parent.is_some()).count();
    (all, placed)
}

/// What holds however many requests are in flight: each client call has its server span below it, and a
/// client call without a parent says why.
fn joined_and_marked(forest: &Forest) {
    for span in forest.spans.iter().filter(|span| span.kind == Kind::Client) {
        let below = forest.children(span);
        assert_eq!(below.len(), 1, "{span:?} above {below:?}");
        assert_eq!(span.parent.is_none(), span.withheld().is_some(), "{span:?}");
    }
    for span in forest.spans.iter().filter(|span| span.kind == Kind::Server) {
        assert_eq!(span.withheld(), None, "a server call's parent is on the wire: {span:?}");
    }
}

/// Every request is in one server span of the front and in as many client spans as it made calls.
fn complete(forest: &Forest, front: &str, calls_each: usize, count: usize) {
    let served = distinct(forest.of(front, Kind::Server).map(|span| span.number()));
    assert_eq!(served.len(), count);
    assert_eq!(forest.of(front, Kind::Server).count(), count);
    assert_eq!(forest.of(front, Kind::Client).count(), count * calls_each);
}

#[derive(Clone, Copy, Debug)]
enum Front {
    NodeHttp,
    Sync,
    Gthread,
    Asyncio,
    Uvloop,
}

fn start(front: Front, lab: &Lab, prices: &Service) -> Service {
    let installed = &lab.installed;
    let spec = match front {
        Front::NodeHttp => installed.plain("front"),
        Front::Sync => installed.flask("front", Worker::Sync, 4),
        Front::Gthread => installed.flask("front", Worker::Gthread(IN_FLIGHT as u32), 1),
        Front::Asyncio => installed.fastapi("front", Loop::Asyncio),
        Front::Uvloop => installed.fastapi("front", Loop::Uvloop),
    };
    let spec = spec.unwrap().upstream(prices).env("OTEL_SERVICE_NAME", "front");
    spec.start(lab.path()).unwrap()
}

/// `at_least`: how many of a thousand calls must have their parent, by what the runtime allows.
#[rstest]
#[case::node_http(Front::NodeHttp, "/relay", 0)]
#[case::flask_sync_with_requests(Front::Sync, "/api/orders", 999)]
#[case::flask_gthread_with_requests(Front::Gthread, "/api/orders", 999)]
#[case::fastapi_asyncio_with_httpx(Front::Asyncio, "/stock", 0)]
#[case::fastapi_uvloop_with_httpx(Front::Uvloop, "/stock", 0)]
#[case::fastapi_thread_pool_with_httpx(Front::Asyncio, "/stock-sync", 0)]
fn no_call_is_ever_put_under_another_request(
    #[case] front: Front,
    #[case] path: &str,
    #[case] at_least: usize,
) {
    let lab = Lab::new();
    let prices = lab.installed.plain("prices").unwrap().env("OTEL_SERVICE_NAME", "prices");
    let prices = prices.start(lab.path()).unwrap();
    let service = start(front, &lab, &prices);
    let tracing = lab.trace(&[&service, &prices]);
    load(&service, IN_FLIGHT, &gets(path, 1, REQUESTS));
    let forest = tracing.forest_of(3 * REQUESTS);
    complete(&forest, "front", 1, REQUESTS);
    joined_and_marked(&forest);
    let (all, placed) = calls(&forest, "front");
    eprintln!("{front:?} {path}: {placed} of {all} parents certain, the rest withheld");
    assert!(placed * 1_000 >= all * at_least, "{placed} of {all}");
}

#[test]
fn express_with_http_and_fetch_at_once() {
    let lab = Lab::new();
    let installed = &lab.installed;
    let orders = installed.flask("orders", Worker::Sync, 2).unwrap();
    let orders = orders.env("OTEL_SERVICE_NAME", "orders").start(lab.path()).unwrap();
    let stock = installed.fastapi("stock", Loop::Uvloop).unwrap();
    let stock = stock.env("OTEL_SERVICE_NAME", "stock").start(lab.path()).unwrap();
    let gateway = installed.gateway(&orders, &stock).unwrap();
    let gateway = gateway.env("OTEL_SERVICE_NAME", "gateway").start(lab.path()).unwrap();
    let tracing = lab.trace(&[&gateway, &orders, &stock]);
    load(&gateway, IN_FLIGHT, &gets("/fanout", 1, REQUESTS));
    let forest = tracing.forest_of(5 * REQUESTS);
    complete(&forest, "gateway", 2, REQUESTS);
    joined_and_marked(&forest);
    let (all, placed) = calls(&forest, "gateway");
    eprintln!("Express: {placed} of {all} parents certain, the rest withheld");
}

#[test]
fn work_that_no_request_waits_for_is_withheld() {
    let lab = Lab::new();
    let prices = lab.installed.plain("prices").unwrap().env("OTEL_SERVICE_NAME", "prices");
    let prices = prices.start(lab.path()).unwrap();
    let front = lab.installed.plain("front").unwrap().upstream(&prices);
    let front = front.env("OTEL_SERVICE_NAME", "front").start(lab.path()).unwrap();
    // Where the assist is, it knows whose work it is.
    let tracing = lab.agent("agent", &[rule(&front), rule(&prices)], &["--no-node-assist"]);
    // One alone first: what it leaves running is seen at an idle moment.
    load(&front, 1, &gets("/later", 2, 1));
    tracing.forest_of(3);
    load(&front, 1, &gets("/later", 3, 300));
    load(&front, IN_FLIGHT, &gets("/later", 303, 300));
    let forest = tracing.forest_of(3 * 601);
    complete(&forest, "front", 1, 601);
    joined_and_marked(&forest);
    assert_eq!(calls(&forest, "front"), (601, 0));
}

/// A key and a certificate for 127.0.0.1.
fn certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    std::fs::write(&certificate, signed.cert.pem()).unwrap();
    (key, certificate)
}

/// Asks `/relay/N` behind TLS one after the other, on one connection.
const TLS_CLIENT: &str = "
import http.client, ssl, sys
port, first, count = map(int, sys.argv[1:])
connection = http.client.HTTPSConnection('127.0.0.1', port, context=ssl._create_unverified_context())
for number in range(first, first + count):
    connection.request('GET', f'/relay/{number}?rid={number}')
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    answer.read()
";

/// Where the assist is, a call of a request that can't be read is in no known one's context; else what counts is that
/// there is a connection that can't be read.
#[rstest]
#[case::with_the_assist(true)]
#[case::without(false)]
fn requests_behind_tls_are_never_mistaken_for_those_that_can_be_read(#[case] assisted: bool) {
    let lab = Lab::new();
    let prices = lab.installed.plain("prices").unwrap().env("OTEL_SERVICE_NAME", "prices");
    let prices = prices.start(lab.path()).unwrap();
    let (key, certificate) = certificate(lab.path());
    let tls_port = ports::free().unwrap();
    let front = lab.installed.plain("front").unwrap().upstream(&prices);
    let front = front
        .env("OTEL_SERVICE_NAME", "front")
        .env("TLS_PORT", tls_port.to_string())
        .env("TLS_KEY", key.to_str().unwrap())
        .env("TLS_CERT", certificate.to_str().unwrap());
    let front = front.start(lab.path()).unwrap();
    let arguments: &[&str] = if assisted { &[] } else { &["--no-node-assist"] };
    let tracing = lab.agent("agent", &[rule(&front), rule(&prices)], arguments);
    if assisted {
        exact(&tracing, 2);
    }

    let mut client = Command::new(lab.installed.venv_program("python"));
    client.args(["-c", TLS_CLIENT, &tls_port.to_string(), "100000", "400"]);
    let mut client = Group::spawn(&mut client).unwrap();
    // Readable requests, one at a time, for as long as the others last.
    let (mut answered, stop) = (0, AtomicBool::new(false));
    thread::scope(|scope| {
        let readable = scope.spawn(|| {
            loading::run(&Plan::new(front.address(), 1), &gets("/relay", 1, 50_000), &stop)
        });
        let ended = client.wait(PATIENCE);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(ended.unwrap().success());
        answered = readable.join().unwrap().all_ok().unwrap().len();
    });
    wait::until("all calls are made", PATIENCE, || {
        let counts = prices.counts()?;
        let asked = counts["requests"]["GET /prices/:id"]["requests"].as_u64();
        Ok((asked == Some(answered as u64 + 400)).then_some(()))
    })
    .unwrap();

    // The readable requests, all calls, all that was asked of the prices; and its counts' own.
    let forest = tracing.forest();
    assert_eq!(forest.of("front", Kind::Server).count(), answered);
    assert_eq!(forest.of("front", Kind::Client).count(), answered + 400);
    let behind_tls = |number: Option<u64>| number.unwrap() >= 100_000;
    for span in forest.of("front", Kind::Client) {
        if behind_tls(span.number()) {
            assert_eq!(span.parent, None, "{span:?}");
        }
        assert_eq!(span.parent.is_none(), span.withheld().is_some(), "{span:?}");
    }
    let (all, placed) = calls(&forest, "front");
    eprintln!("TLS beside: {placed} of {all} parents certain");
    let opaque = tracing.status().calls.withheld_opaque;
    assert!(assisted || opaque > 0, "nobody noticed the unreadable connection");
}

/// Answers every request at once but that for 50000, which waits to be released.
const HOLDING: &str = r"
holding, release = threading.Event(), threading.Event()
def serve(sock):
    reader = Reader(sock)
    try:
        while True:
            if b'/prices/50000' in reader.message()[0]:
                holding.set()
                release.wait()
            send_all(sock, response(200, 5))
    except EOFError:
        sock.close()
def serve_all():
    while True:
        threading.Thread(target=serve, args=(accept(listener),), daemon=True).start()
listener, place = listen()
threading.Thread(target=serve_all, daemon=True).start()
place[1]";

#[test]
fn a_connection_behind_tls_that_is_older_than_the_agent_hides_its_requests() {
    let lab = Lab::new();
    let mut upstream = Script::start("upstream").unwrap();
    let upstream_port = upstream.run(HOLDING).unwrap();
    let (key, certificate) = certificate(lab.path());
    let tls_port = ports::free().unwrap();
    let front = lab.installed.plain("front").unwrap();
    let front = front
        .env("OTEL_SERVICE_NAME", "front")
        .env("UPSTREAM", format!("http://127.0.0.1:{upstream_port}"))
        .env("TLS_PORT", tls_port.to_string())
        .env("TLS_KEY", key.to_str().unwrap())
        .env("TLS_CERT", certificate.to_str().unwrap());
    let front = front.start(lab.path()).unwrap();
    let mut hidden = Script::start("hidden").unwrap();
    let connect = format!(
        "import http.client, ssl\nunchecked = ssl._create_unverified_context()\n\
         c = http.client.HTTPSConnection('127.0.0.1', {tls_port}, context=unchecked)\nNone"
    );
    hidden.run(&connect).unwrap();
    let mut ask_hidden = |number: usize| {
        let ask = format!("c.request('GET', '/relay/{number}'); c.getresponse().read(); None");
        hidden.run(&ask).unwrap();
    };
    ask_hidden(100_000);

    let tracing = lab.agent("agent", &[rule(&front)], &[]);
    let mut readable = 0;
    wait::until("what the agent can't know because it just came is over", PATIENCE, || {
        readable += 1;
        load(&front, 1, &gets("/relay", readable, 1));
        Ok((calls(&Forest::new(tracing.spans()), "front").1 > 0).then_some(()))
    })
    .unwrap();
    thread::scope(|scope| {
        let one = scope.spawn(|| load(&front, 1, &gets("/relay", 50_000, 1)));
        upstream.run("holding.wait(); None").unwrap();
        // All that can be read says: one request in flight.
        (100_001..100_006).for_each(&mut ask_hidden);
        upstream.run("release.set(); None").unwrap();
        one.join().unwrap();
    });
    let forest = tracing.forest();
    let behind_tls = |span: &&Span| span.number().is_some_and(|number| number > 100_000);
    let hidden: Vec<_> = forest.of("front", Kind::Client).filter(behind_tls).collect();
    assert_eq!(hidden.len(), 5);
    for span in hidden {
        assert!(span.parent.is_none() && span.withheld().is_some(), "{span:?}");
    }
}
