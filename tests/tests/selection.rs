//! Only what is allowed is traced: exactly that, said in rules that the agent itself proposes; and
//! telemetry never traces itself.

use crate::common;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use common::capture::{self, Bench, Script, python, unique};
use common::lab::{Lab, PATIENCE, Tracing, distinct, gets, load, rule};
use common::receiver::Receiver;
use common::spans::Kind;
use rstest::rstest;
use wirespan_tests::agent::binary;
use wirespan_tests::script::Script as Application;
use wirespan_tests::spans::{CLIENT, SERVER};
use wirespan_tests::wait;
use wirespan_tests::workloads::{Loop, Service, Worker};

use crate::diagnosis::asked;

struct Three {
    node: Service,
    flask: Service,
    fastapi: Service,
}

impl Three {
    fn start(lab: &Lab) -> Self {
        let installed = &lab.installed;
        Self {
            node: installed.plain("node").unwrap().start(lab.path()).unwrap(),
            flask: installed.flask("flask", Worker::Sync, 2).unwrap().start(lab.path()).unwrap(),
            fastapi: installed.fastapi("fastapi", Loop::Uvloop).unwrap().start(lab.path()).unwrap(),
        }
    }

    fn all(&self) -> [&Service; 3] {
        [&self.node, &self.flask, &self.fastapi]
    }

    /// One request to each.
    fn ask(&self) {
        load(&self.node, 1, &gets("/prices", 1, 1));
        load(&self.flask, 1, &gets("/api/orders", 1, 1));
        load(&self.fastapi, 1, &gets("/stock", 1, 1));
    }
}

fn traced(tracing: &Tracing) -> BTreeSet<u32> {
    distinct(tracing.status().processes.iter().map(|process| process.pid.cast_unsigned()))
}

fn pids(service: &Service) -> BTreeSet<u32> {
    distinct(service.pids().unwrap())
}

/// The listing of a run with nothing allowed: the rule proposed for each pid.
fn listing() -> (Option<i32>, String, Vec<(u32, String)>) {
    let output = Command::new(binary()).arg("run").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let rules = printed.lines().skip(1).filter_map(|line| {
        let pid = line.split_whitespace().next()?.parse().ok()?;
        let rule = line.split_once("--allow ")?.1.trim();
        // As a shell reads it.
        let rule = match rule.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            Some(quoted) => quoted.replace(r"'\''", "'"),
            None => rule.to_owned(),
        };
        Some((pid, rule))
    });
    let rules = rules.collect();
    (output.status.code(), String::from_utf8(output.stderr).unwrap(), rules)
}

#[test]
fn with_nothing_allowed_it_lists_a_rule_for_each_that_allows_exactly_it() {
    let lab = Lab::new();
    let three = Three::start(&lab);
    let (code, said, rules) = listing();
    assert_eq!(code, Some(2));
    assert!(said.contains("Nothing is allowed, so nothing is traced"), "{said}");
    let mine: BTreeSet<u32> = three.all().into_iter().flat_map(pids).collect();
    for service in three.all() {
        let of_service = pids(service);
        let proposed = distinct(rules.iter().filter(|(pid, _)| of_service.contains(pid)));
        assert_eq!(proposed.len(), of_service.len(), "{} of {of_service:?}", service.name());
        // The processes of one service share a port: one rule for all of them.
        let texts = distinct(proposed.iter().map(|(_, text)| text.clone()));
        assert_eq!(texts, distinct([rule(service)]), "{}", service.name());
        let texts: Vec<String> = texts.into_iter().collect();
        let tracing = lab.agent(&format!("agent-{}", service.name()), &texts, &[]);
        assert_eq!(traced(&tracing), of_service, "{texts:?}");
        three.ask();
        let forest = tracing.forest_of(1);
        assert_eq!(forest.spans[0].int("server.port"), Some(i64::from(service.port())));
    }
    assert!(mine.iter().all(|pid| rules.iter().any(|(listed, _)| listed == pid)));
}

/// A rule with the port of one in it, so that other processes of the machine stay out.
#[rstest]
#[case::executable("exe=*/node", &["node"])]
#[case::command("cmd=*flask_app*", &["flask"])]
#[case::runtime("runtime=python", &["flask", "fastapi"])]
#[case::user("user=root", &["node", "flask", "fastapi"])]
#[case::number_of_a_user("user=0", &["node", "flask", "fastapi"])]
#[case::another_user("user=nobody", &[])]
#[case::negated("!runtime=node", &["flask", "fastapi"])]
fn each_kind_of_term_selects_what_it_says(#[case] term: &str, #[case] expected: &[&str]) {
    let lab = Lab::new();
    let three = Three::start(&lab);
    let rules: Vec<String> =
        three.all().iter().map(|service| format!("{term},{}", rule(service))).collect();
    let tracing = lab.agent("agent", &rules, &[]);
    let named = three.all().into_iter().filter(|service| expected.contains(&service.name()));
    let named: Vec<&Service> = named.collect();
    assert_eq!(traced(&tracing), named.iter().flat_map(|service| pids(service)).collect());
    three.ask();
    let forest = tracing.forest_of(named.len());
    let ports = distinct(forest.spans.iter().map(|span| span.int("server.port").unwrap()));
    assert_eq!(ports, named.iter().map(|service| i64::from(service.port())).collect());
}

#[test]
fn a_range_of_ports_and_everything() {
    let lab = Lab::new();
    let node = lab.installed.plain("node").unwrap().start(lab.path()).unwrap();
    let port = node.port();
    let range = lab.agent("range", &[format!("port={}-{port}", port - 1)], &[]);
    assert!(traced(&range).is_superset(&pids(&node)));
    drop(range);
    // Whatever runs here: others' processes are not to be changed for this.
    let all = lab.agent("all", &[], &["--all", "--no-node-assist"]);
    assert!(traced(&all).is_superset(&pids(&node)));
}

#[test]
fn a_rule_that_is_none_is_refused_with_what_was_expected() {
    let output = Command::new(binary()).args(["run", "--allow", "name=node"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains(
            "expected exe, cmd, runtime, port, user, cgroup, container, label, pod, namespace, env, \
             parent or parent_cmd"
        ),
        "{said}"
    );
}

#[test]
fn a_process_that_asks_to_be_left_alone_is() {
    let lab = Lab::new();
    let spec = lab.installed.plain("disabled").unwrap().env("OTEL_SDK_DISABLED", "true");
    let disabled = spec.start(lab.path()).unwrap();
    let node = lab.installed.plain("node").unwrap().start(lab.path()).unwrap();
    let tracing = lab.trace(&[&disabled, &node]);
    assert_eq!(traced(&tracing), pids(&node));
    load(&disabled, 1, &gets("/prices", 1, 10));
    load(&node, 1, &gets("/prices", 11, 10));
    let forest = tracing.forest_of(10);
    assert!(forest.spans.iter().all(|span| span.number().unwrap() > 10));
}

/// Once it has read a line: exports as an SDK does, between two ordinary requests.
const EXPORTER: &str = "
import http.client, sys, time
host, port = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()
connection = http.client.HTTPConnection(host, port)
def ask(method, path, **more):
    connection.request(method, path, **more)
    connection.getresponse().read()
ask('GET', '/prices/1')
for signal, content in [('traces', 'x-protobuf'), ('metrics', 'x-protobuf'), ('logs', 'json')]:
    ask('POST', '/v1/' + signal, body=b'{}', headers={'Content-Type': 'application/' + content})
ask('POST', '/api/v1/metrics/2', body=b'{}', headers={'Content-Type': 'application/json'})
ask('POST', '/api/v1/metrics', body=b'{}', headers={'Content-Type': 'application/json'})
";

#[test]
fn exporters_are_never_traced_neither_an_applications_nor_its_own() {
    let lab = Lab::new();
    let node = lab.installed.plain("node").unwrap().env("OTEL_SERVICE_NAME", "node");
    let node = node.start(lab.path()).unwrap();
    let receiver = Receiver::start();
    let script = lab.path().join("exporting_application.py");
    std::fs::write(&script, EXPORTER).unwrap();
    let rules = [rule(&node), format!("cmd=*{}*", script.display())];
    // Else the application would be left to the SDK that it seems to have.
    let file = lab.path().join("wirespan.yaml");
    std::fs::write(&file, "settings: {yield_to_sdk: false, process_spans: false}").unwrap();
    let config = format!("--config={}", file.display());
    let tracing = lab.agent("agent", &rules, &[&receiver.export(), &config]);
    let mut application = Command::new(lab.installed.venv_program("python"))
        .arg(&script)
        .args(["127.0.0.1", &node.port().to_string()])
        .env("OTEL_SERVICE_NAME", "application")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    wait::until("it is traced before it asks", PATIENCE, || {
        Ok(traced(&tracing).contains(&application.id()).then_some(()))
    })
    .unwrap();
    application.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(application.wait().unwrap().success());
    let forest = tracing.forest_of(6);
    for kind in [Kind::Client, Kind::Server] {
        let service = if kind == Kind::Client { "application" } else { "node" };
        let paths = distinct(forest.of(service, kind).map(|span| span.path().to_owned()));
        let own = ["/prices/1", "/api/v1/metrics/2", "/api/v1/metrics"].map(str::to_owned);
        assert_eq!(paths, own.into(), "an application's own interface is no exporter's");
    }
    // Both sides saw the three exports, and made no calls of them.
    let status = tracing.quiet();
    assert_eq!(status.total.agent.telemetry_exchanges, 6);
    assert_eq!(status.total.agent.calls, 6);
    assert!(!traced(&tracing).contains(&tracing.agent.pid()));
}

/// It makes requests, and exports as an SDK does.
const APPLICATION: &str = "
import http.client
def ask(port, method, path, **more):
    connection = http.client.HTTPConnection('127.0.0.1', port)
    connection.request(method, path, **more)
    connection.getresponse().read()
    connection.close()
def export(port):
    ask(port, 'POST', '/v1/traces', body=b'', headers={'Content-Type': 'application/x-protobuf'})
None
";

#[test]
fn a_process_that_sends_spans_of_its_own_is_left_to_its_sdk_unless_a_rule_says_otherwise() {
    let lab = Lab::new();
    let node = lab.installed.plain("node").unwrap().start(lab.path()).unwrap();
    let port = node.port();
    let mut script = Application::start("sdk").unwrap();
    script.run(APPLICATION).unwrap();
    let file = lab.path().join("wirespan.yaml");
    let name = script.name().to_owned();
    let write = |settings: &str| {
        let rule = format!("cmd: '*sockets.py {name}*'");
        std::fs::write(
            &file,
            format!("rules: [{{match: {{{rule}}}, settings: {{{settings}}}}}]\n"),
        )
        .unwrap();
    };
    write("process_spans: false");
    let config = format!("--config={}", file.display());
    let tracing = lab.agent("agent", &[], &[&config]);
    let pid = script.pid();
    let becomes = |what: &str, is_traced: bool| {
        wait::until(what, PATIENCE, || {
            let yielded = tracing.status().processes_yielded.contains(&pid.cast_signed());
            let is_so = traced(&tracing).contains(&pid) == is_traced && yielded != is_traced;
            Ok(is_so.then_some(()))
        })
        .unwrap();
    };
    becomes("it is traced", true);
    script.run(&format!("ask({port}, 'GET', '/prices/1')")).unwrap();
    tracing.forest_of(1);
    script.run(&format!("export({port})")).unwrap();
    becomes("it is left to its SDK", false);
    script.run(&format!("ask({port}, 'GET', '/prices/2')")).unwrap();
    let (code, answer) = asked(&tracing, &["explain", &pid.to_string()]);
    let because = answer["because"].as_str().unwrap();
    assert!(code == Some(1) && because.contains("spans of its own"), "{answer}");
    assert!(answer["remedies"].to_string().contains("yield_to_sdk: false"), "{answer}");
    let (_, checks) = asked(&tracing, &["doctor", "--config", file.to_str().unwrap()]);
    assert!(checks.to_string().contains("spans of its own"), "{checks}");

    write("yield_to_sdk: false, process_spans: false");
    becomes("it is traced all the same", true);
    script.run(&format!("export({port})")).unwrap();
    script.run(&format!("ask({port}, 'GET', '/prices/3')")).unwrap();
    let forest = tracing.forest_of(2);
    let paths = distinct(forest.spans.iter().map(|span| span.path().to_owned()));
    assert_eq!(paths, ["/prices/1", "/prices/3"].map(str::to_owned).into());
}

/// As an event loop does it: the sockets don't block, so that no thread is a request's.
const EVENT_LOOP: &str = r"
def take(count):
    global taken
    taken = [accept(listener) for _ in range(count)]
    for sock in taken:
        sock.setblocking(False)
        Reader(sock).message()

def ask(place, path):
    sock = connect(place)
    send_all(sock, request(path))
    Reader(sock).message()
    sock.close()

def give(*numbers):
    for number in numbers:
        send_all(taken[number], response())

def telemetry():
    head = b'POST /v1/metrics HTTP/1.1\r\nHost: s\r\nContent-Type: application/x-protobuf\r\n'
    return head + b'Content-Length: 3\r\n\r\nabc'
None
";

#[test]
fn what_is_called_while_telemetry_comes_in_has_no_other_requests_parent() {
    let bench = Bench::start(&unique("telemetry"), &[]);
    let mut client = bench.script("client");
    let mut server = bench.script("server");
    let mut backend = bench.script("backend");
    for script in [&mut client, &mut server, &mut backend] {
        script.run(EVENT_LOOP).unwrap();
    }
    let [place, behind] = [&mut server, &mut backend]
        .map(|script| python(&script.run("listener, place = listen(); place").unwrap()));
    let mut ask = |server: &mut Script, path: &str| {
        backend.begin("take(1); give(0)").unwrap();
        server.run(&format!("ask({behind}, {path:?})")).unwrap();
        backend.finish().unwrap();
    };

    // Alone, and beside a request of which it is none.
    client.run(&format!("a = connect({place}); send_all(a, telemetry())")).unwrap();
    server.run("take(1)").unwrap();
    ask(&mut server, "/alone");
    server.run("give(0)").unwrap();
    client.run("Reader(a).message(); a.close()").unwrap();
    client.run(&format!("a, b = connect({place}), connect({place})")).unwrap();
    client.run("send_all(a, request('/mine')); send_all(b, telemetry())").unwrap();
    server.run("take(2)").unwrap();
    ask(&mut server, "/beside");
    server.run("give(1, 0)").unwrap();
    client.run("Reader(b).message(); Reader(a).message(); None").unwrap();

    let status = bench.settled(0);
    // Both ends saw two of them.
    assert_eq!(status.total.agent.telemetry_exchanges, 4);
    let spans = bench.spans();
    let of = |kind, path| capture::spans_of(&spans, kind, path);
    assert_eq!((of(SERVER, "/mine").len(), of(CLIENT, "/mine").len()), (1, 1));
    for path in ["/alone", "/beside"] {
        let [call] = of(CLIENT, path)[..] else { panic!("{path}: {spans:#?}") };
        assert_eq!(call.parent_span_id, "", "{call:#?}");
        assert_eq!(call.text("wirespan.parent.reason"), Some("opaque"), "{call:#?}");
    }
    assert!(spans.iter().all(|span| span.path() != "/v1/traces"), "{spans:#?}");
}
