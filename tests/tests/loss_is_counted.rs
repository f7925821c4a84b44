//! When records are lost, every one of them is counted, what is left is never put together wrongly, and
//! once the flood is over everything is traced again.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::common::capture::{Bench, line, outer_pid, python, unique};
use crate::common::forest::Forest;
use crate::common::lab::{Lab, gets, load, rule, settled};
use crate::common::spans::{Kind, Span};
use wirespan::books::{ProcessStatus, Status};
use wirespan_tests::http::Connection;
use wirespan_tests::load::{self as loading, Plan, Request};
use wirespan_tests::script::Script;
use wirespan_tests::sys;
use wirespan_tests::workloads::{Service, Worker};

const REQUESTS: usize = 2_000;

/// Status and content's size of what `/KIND/NUMBER` is answered with: neighbours differ, so that an
/// answer which was put under another request shows.
const KINDS: [(&str, i64, i64); 4] =
    [("plain", 200, 5), ("error", 500, 5), ("no-content", 204, 0), ("decoy", 200, 70)];

fn path(number: usize) -> String {
    format!("/{}/{number}", KINDS[number % KINDS.len()].0)
}

fn mixed(first: usize, count: usize) -> Vec<Request> {
    (first..first + count).map(|number| Request::get(number.to_string(), path(number))).collect()
}

fn answers(service: &Service, connections: usize, requests: &[Request]) {
    let plan = Plan::new(service.address(), connections);
    let report = loading::run(&plan, requests, &AtomicBool::new(false));
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.outcomes.len(), requests.len());
}

struct Services {
    shapes: Service,
    front: Service,
    prices: Service,
}

impl Services {
    fn start(lab: &Lab) -> Self {
        let installed = &lab.installed;
        let named = |spec: wirespan_tests::workloads::Spec, name: &str| {
            spec.env("OTEL_SERVICE_NAME", name).start(lab.path()).unwrap()
        };
        let prices = named(installed.plain("prices").unwrap(), "prices");
        let front = installed.flask("front", Worker::Gthread(8), 1).unwrap().upstream(&prices);
        Self {
            shapes: named(installed.shapes("shapes").unwrap(), "shapes"),
            front: named(front, "front"),
            prices,
        }
    }

    fn rules(&self) -> [String; 3] {
        [&self.shapes, &self.front, &self.prices].map(rule)
    }

    /// Exchanges that differ from their neighbours, and calls that have parents.
    fn flood(&self, first: usize) {
        answers(&self.shapes, 8, &mixed(first, REQUESTS));
        load(&self.front, 8, &gets("/api/orders", first, REQUESTS / 4));
    }
}

/// No span says anything that did not happen, and none exists twice. A parent may be missing where its own
/// call lost its end after the child was placed.
fn never_wrong(status: &Status, forest: &Forest) {
    let (orphans, lost) = (forest.orphans(), status.calls.abandoned + status.calls.open);
    assert!(orphans.len() as u64 <= lost, "{} of at most {lost}: {orphans:?}", orphans.len());
    let broken = forest.broken();
    assert!(broken.is_empty(), "{} spans are wrong: {}", broken.len(), broken[0]);
    let mut seen: BTreeMap<(String, Kind, String), usize> = BTreeMap::new();
    for span in &forest.spans {
        let key = (span.service.clone(), span.kind, span.path().to_owned());
        *seen.entry(key).or_default() += 1;
        if span.service == "shapes" {
            assert!(is_right(span), "{span:?}");
        } else if let Some(status) = span.status() {
            assert_eq!(status, 200, "{span:?}");
        }
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// Says nothing, or what the application answered.
fn is_right(span: &Span) -> bool {
    let number = span.number().unwrap_or_else(|| panic!("{span:?}")) as usize;
    let (_, status, size) = KINDS[number % KINDS.len()];
    let size_is_right = span.int("http.response.body.size").is_none_or(|found| found == size);
    span.path() == path(number)
        && span.status().is_none_or(|found| found == status)
        && size_is_right
}

fn told(status: &Status, forest: &Forest) {
    let (kernel, agent) = (&status.total.kernel, &status.total.agent);
    eprintln!(
        "{} operations seen, {} dropped; {} other records dropped; {} calls begun, {} spans, {} \
         abandoned, {} open; {} spans without their parent's",
        kernel.operations_seen,
        kernel.operations_dropped,
        kernel.records_dropped,
        agent.calls,
        forest.spans.len(),
        agent.calls_abandoned,
        status.calls.open,
        forest.orphans().len(),
    );
}

#[test]
fn a_ring_that_is_far_too_small_loses_only_what_is_counted() {
    let lab = Lab::new();
    let services = Services::start(&lab);
    let tracing = lab.agent("agent", &services.rules(), &["--ring-bytes=4096"]);
    services.flood(1);
    let status = tracing.settled();
    let forest = Forest::new(tracing.spans());
    told(&status, &forest);
    assert!(status.total.kernel.operations_dropped > 0, "{:?}", status.total);
    assert!(!forest.spans.is_empty(), "nothing came through: {:?}", status.total);
    assert_eq!(forest.spans.len() as u64, status.spans);
    never_wrong(&status, &forest);
}

#[test]
fn an_agent_that_was_stopped_for_a_while_goes_on_where_it_can() {
    let lab = Lab::new();
    let services = Services::start(&lab);
    let tracing = lab.agent("agent", &services.rules(), &["--ring-bytes=262144"]);
    // A connection from before the flood to after it.
    let mut long = Connection::open(services.shapes.address(), Duration::from_secs(30)).unwrap();
    let mut ask = |number: usize| {
        let request = format!("GET {} HTTP/1.1\r\nHost: shapes\r\n\r\n", path(number));
        long.send(request.as_bytes()).unwrap();
        let (answer, _) = long.receive("GET").unwrap();
        assert_eq!(i64::from(answer.status), KINDS[number % KINDS.len()].1);
    };
    (1..=20).for_each(&mut ask);
    tracing.forest_of(20);

    sys::kill(tracing.agent.pid(), libc::SIGSTOP).unwrap();
    services.flood(1_000);
    (21..=40).for_each(&mut ask);
    services.flood(20_000);
    sys::kill(tracing.agent.pid(), libc::SIGCONT).unwrap();

    let status = tracing.settled();
    let forest = Forest::new(tracing.spans());
    told(&status, &forest);
    assert!(status.total.kernel.operations_dropped > 1_000, "{:?}", status.total);
    never_wrong(&status, &forest);

    // From here on nothing is lost: all is traced, on new connections and on the old one.
    (41..=60).for_each(&mut ask);
    answers(&services.shapes, 2, &mixed(40_000, 200));
    load(&services.front, 1, &gets("/api/orders", 40_000, 50));
    let after = tracing.settled();
    assert_eq!(after.total.kernel.operations_dropped, status.total.kernel.operations_dropped);
    let forest = Forest::new(tracing.spans());
    told(&after, &forest);
    never_wrong(&after, &forest);
    let of = |service: &str, kind: Kind, from: u64, to: u64| {
        let numbers = forest.of(service, kind).filter_map(|span| span.number());
        numbers.filter(|number| (from..to).contains(number)).count()
    };
    assert_eq!(of("shapes", Kind::Server, 40_000, 40_200), 200, "on new connections");
    assert_eq!(of("front", Kind::Server, 40_000, 40_050), 50);
    // Its eight threads keep their connections to the prices: at each end of each, as below, the first may be
    // missing.
    for (service, kind) in [("front", Kind::Client), ("prices", Kind::Server)] {
        let found = of(service, kind, 40_000, 40_050);
        assert!(found >= 42, "{found} of 50 of {service} on pooled connections");
    }
    // The first may be the one that shows where messages begin again.
    let on_the_old = of("shapes", Kind::Server, 41, 61);
    assert!(on_the_old >= 19, "{on_the_old} of 20 on the old connection");
}

/// `ask(place, series, number)` makes that many exchanges on a connection of its own; `serve(number)` answers
/// that many connections to their ends.
const EXCHANGES: &str = r"
def ask(place, series, number):
    sock = connect(place)
    reader = Reader(sock)
    for one in range(number):
        send_all(sock, request('/%s/%d' % (series, one), one % 50))
        reader.message()
    sock.close()
def answer(sock):
    reader = Reader(sock)
    try:
        while True:
            reader.message()
            send_all(sock, response(200, 20))
    except EOFError:
        sock.close()
def all_of(work, arguments):
    threads = [threading.Thread(target=work, args=each) for each in arguments]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
def serve(number):
    all_of(answer, [(accept(listener),) for _ in range(number)])
None";

/// What the process itself counted is what the kernel saw, whatever was lost on the way.
fn as_the_process_says(status: &Status, script: &mut Script) -> ProcessStatus {
    let counts = script.run("COUNTS").unwrap();
    let sum = |what: &str| ["send", "receive"].map(|way| counts[way][what].as_u64().unwrap());
    let line = line(status, outer_pid(script));
    assert_eq!(line.kernel.operations_seen, sum("operations").iter().sum::<u64>(), "{counts}");
    assert_eq!(line.kernel.bytes_seen, sum("bytes").iter().sum::<u64>(), "{counts}");
    line
}

#[test]
fn totals_are_those_of_the_processes_under_loss_and_without() {
    const CONNECTIONS: u64 = 8;
    const EACH: u64 = 400;
    let bench = Bench::start(&unique("loss"), &["--ring-bytes=4096"]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    for script in [&mut client, &mut server] {
        script.run(EXCHANGES).unwrap();
    }
    let place = server.run("listener, place = listen(); place").unwrap();
    client.run(&format!("place = {}", python(&place))).unwrap();

    server.begin(&format!("serve({CONNECTIONS})")).unwrap();
    let flood =
        format!("all_of(ask, [(place, 'flood%d' % one, {EACH}) for one in range({CONNECTIONS})])");
    client.run(&flood).unwrap();
    server.finish().unwrap();
    let under_loss = settled(&bench.agent);
    assert!(under_loss.total.kernel.operations_dropped > 0, "{:?}", under_loss.total);
    let asked = CONNECTIONS * EACH;
    let before = [&mut client, &mut server].map(|script| {
        let line = as_the_process_says(&under_loss, script);
        let spans = line.agent.calls_spans;
        assert!(0 < spans && line.agent.calls <= asked, "{spans} of {asked}: {line:?}");
        line
    });

    // One at a time, read before the next: nothing is lost, and every call is a span.
    for number in 0..20 {
        server.begin("answer(accept(listener))").unwrap();
        client.run(&format!("ask(place, 'slow{number}', 1)")).unwrap();
        server.finish().unwrap();
        bench.until("all is read", |status| status.check().is_empty());
    }
    let after = settled(&bench.agent);
    for (script, before) in [&mut client, &mut server].into_iter().zip(before) {
        let line = as_the_process_says(&after, script);
        assert_eq!(line.kernel.operations_dropped, before.kernel.operations_dropped);
        assert_eq!(line.agent.calls, before.agent.calls + 20);
        assert_eq!(line.agent.calls_spans, before.agent.calls_spans + 20);
    }
}
