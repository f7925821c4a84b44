//! HTTP/1.1 in every shape that real servers and clients give it is one span an exchange, with the status
//! that it had; and what is not an exchange is none.

use crate::common;

use std::net::Ipv6Addr;

use common::forest::Forest;
use common::lab::{Lab, Tracing, distinct, gets, load, rule};
use common::sockets::{self, Talk};
use common::spans::{Kind, Span};
use wirespan_tests::workloads::{Service, Worker};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn shapes(lab: &Lab, name: &str) -> Service {
    let spec = lab.installed.shapes(name).unwrap().env("OTEL_SERVICE_NAME", name);
    spec.start(lab.path()).unwrap()
}

/// The one span of a service on that side whose path is this.
fn one<'a>(forest: &'a Forest, service: &'a str, kind: Kind, path: &str) -> &'a Span {
    let found: Vec<&Span> = forest.of(service, kind).filter(|span| span.path() == path).collect();
    assert_eq!(found.len(), 1, "{service} {kind:?} {path}: {found:?} in {:#?}", forest.spans);
    found[0]
}

fn request(method: &str, target: &str, fields: &str, body: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: shapes\r\n{fields}\r\n{body}")
}

/// Sends one request on a connection of its own, to the end.
fn talk(service: &Service, request: &str) -> String {
    let mut stream = sockets::tcp(service.address());
    stream.say(request);
    stream.rest()
}

const CLOSE: &str = "Connection: close\r\n";

#[test]
fn every_shape_of_an_answer_is_told_by_its_span() {
    let lab = Lab::new();
    let service = shapes(&lab, "shapes");
    let tracing = lab.trace(&[&service]);
    let decoy = "HTTP/1.1 200 OK\r\n\r\nPOST /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", decoy.len());
    let chunks = format!("{:x}\r\n{decoy}\r\n5\r\nhello\r\n0\r\n\r\n", decoy.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    // Method, path, further fields, body; status and size of the answer's content, and of the request's.
    #[rustfmt::skip]
    let exchanges: &[(&str, &str, &str, &str, i64, i64, i64)] = &[
        ("GET", "/plain/1", "", "", 200, 5, 0),
        ("HEAD", "/large/2", "", "", 200, 0, 0),
        ("GET", "/no-content/3", "", "", 204, 0, 0),
        ("GET", "/not-modified/4", "", "", 304, 0, 0),
        ("GET", "/error/5", "", "", 500, 5, 0),
        ("GET", "/decoy/6", "", "", 200, 70, 0),
        ("GET", "/hints/7", "", "", 200, 6, 0),
        ("GET", "/chunked/8", "", "", 200, 78, 0),
        ("POST", "/echo/9", &length, decoy, 200, decoy.len() as i64, decoy.len() as i64),
        ("POST", "/echo/10", chunked, &chunks, 200, decoy.len() as i64 + 5, decoy.len() as i64 + 5),
        ("GET", "/large/11", "", "", 200, 1_000_000, 0),
        ("GET", "/none-such/12", "", "", 404, 9, 0),
        ("PURGE", "/plain/13", "", "", 200, 5, 0),
        ("GET", "/until-close/14", "", "", 200, 13, 0),
    ];
    // All on one connection; the last ends it.
    let mut stream = sockets::tcp(service.address());
    for (method, path, fields, body, status, size, _) in exchanges {
        stream.say(&request(method, path, fields, body));
        let mut head = stream.until("\r\n\r\n");
        while head.starts_with("HTTP/1.1 1") {
            head = stream.until("\r\n\r\n");
        }
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        if head.contains("Transfer-Encoding: chunked") {
            stream.until("\r\n0\r\n\r\n");
        } else if head.contains("Connection: close") {
            assert_eq!(stream.rest().len() as i64, *size);
        } else {
            let mut content = vec![0; usize::try_from(*size).unwrap()];
            std::io::Read::read_exact(&mut stream, &mut content).unwrap();
        }
    }
    drop(stream);
    // The body only after the interim answer.
    let mut stream = sockets::tcp(service.address());
    stream.say(&request("POST", "/echo/15", "Content-Length: 4\r\nExpect: 100-continue\r\n", ""));
    assert!(stream.until("\r\n\r\n").starts_with("HTTP/1.1 100 "));
    stream.say("body");
    assert!(stream.until("\r\n\r\nbody").starts_with("HTTP/1.1 200 "));
    // An older client, and a target with everything in it.
    talk(&service, "GET /plain/16 HTTP/1.0\r\n\r\n");
    talk(&service, &request("GET", "http://user:secret@shapes:80/plain/17?q=secret", CLOSE, ""));

    let forest = tracing.forest_of(exchanges.len() + 3);
    for (method, path, _, _, status, size, sent) in exchanges {
        let span = one(&forest, "shapes", Kind::Server, path);
        assert_eq!(span.status(), Some(*status), "{span:?}");
        assert_eq!(span.int("http.response.body.size"), Some(*size), "{span:?}");
        assert_eq!(span.int("http.request.body.size").unwrap_or(0), *sent, "{span:?}");
        assert_eq!(span.error.is_some(), *status >= 500, "{span:?}");
        let known = if *method == "PURGE" { "_OTHER" } else { method };
        assert_eq!(span.text("http.request.method"), Some(known), "{span:?}");
    }
    let purge = one(&forest, "shapes", Kind::Server, "/plain/13");
    assert_eq!(purge.text("http.request.method_original"), Some("PURGE"));
    assert!(purge.name.starts_with("HTTP"), "{purge:?}");
    assert_eq!(one(&forest, "shapes", Kind::Server, "/error/5").text("error.type"), Some("500"));
    let continued = one(&forest, "shapes", Kind::Server, "/echo/15");
    assert_eq!((continued.status(), continued.int("http.request.body.size")), (Some(200), Some(4)));
    let old = one(&forest, "shapes", Kind::Server, "/plain/16");
    assert_eq!(old.text("network.protocol.version"), Some("1.0"));
    one(&forest, "shapes", Kind::Server, "/plain/17");
    assert!(!format!("{:?}", forest.spans).contains("secret"), "credentials or a query's value");
}

#[test]
fn pipelined_answers_belong_to_their_requests_in_order() {
    let lab = Lab::new();
    let service = shapes(&lab, "shapes");
    let tracing = lab.trace(&[&service]);
    let paths =
        ["/slow/1?ms=50", "/error/2", "/no-content/3", "/decoy/4", "/chunked/5", "/plain/6"];
    let statuses = [200, 500, 204, 200, 200, 200];
    let mut batch: String = paths[..5].iter().map(|path| request("GET", path, "", "")).collect();
    batch += &request("GET", paths[5], CLOSE, "");
    talk(&service, &batch);
    let forest = tracing.forest_of(paths.len());
    for (path, status) in paths.iter().zip(statuses) {
        let span = one(&forest, "shapes", Kind::Server, path.split('?').next().unwrap());
        assert_eq!(span.status(), Some(status), "{span:?}");
    }
}

/// Asks `front` to ask for `path` of `service`.
fn ask(front: &Service, number: u32, service: &Service, path: &str, more: &str) -> String {
    let target = format!("/ask/{number}?to={}{path}{more}", service.url());
    talk(front, &request("GET", &target, CLOSE, ""))
}

/// Two ends that are traced, and the spans of one exchange between them.
fn between<'a>(forest: &'a Forest, service: &'a str, path: &str) -> (&'a Span, &'a Span) {
    let client = one(forest, "front", Kind::Client, path);
    let server = one(forest, service, Kind::Server, path);
    assert_eq!(server.parent.as_ref(), Some(&client.id), "{server:?} under {client:?}");
    (client, server)
}

#[test]
fn exchanges_that_break_off_say_how_on_both_sides() {
    let lab = Lab::new();
    let (front, service) = (shapes(&lab, "front"), shapes(&lab, "shapes"));
    let flask = lab.installed.flask("flask", Worker::Sync, 1).unwrap();
    let flask = flask.env("OTEL_SERVICE_NAME", "flask").start(lab.path()).unwrap();
    let tracing = lab.trace(&[&front, &service, &flask]);
    assert!(ask(&front, 1, &service, "/reset/1", "").contains("ECONNRESET"));
    ask(&front, 2, &service, "/hang-up/2", "");
    // Its client gives up after a tenth of the time that the server takes, which answers nevertheless.
    ask(&front, 3, &flask, "/slow%3fms=1000", "&timeout=100");
    assert!(ask(&front, 4, &service, "/plain/4", "").ends_with("plain"));

    let forest = tracing.forest_of(12);
    let (client, server) = between(&forest, "shapes", "/reset/1");
    assert_eq!(client.text("error.type"), Some("connection_reset"), "{client:?}");
    assert!(client.error.is_some() && server.error.is_some(), "{server:?}");
    assert_eq!((client.status(), server.status()), (Some(200), Some(200)));

    let (client, server) = between(&forest, "shapes", "/hang-up/2");
    assert_eq!(client.text("error.type"), Some("connection_closed"), "{client:?}");
    assert!(server.error.is_some(), "{server:?}");
    assert_eq!((client.status(), server.status()), (None, None));

    let (client, server) = between(&forest, "flask", "/slow");
    assert_eq!((client.status(), server.status()), (None, Some(200)), "{client:?} {server:?}");
    assert_eq!(client.text("error.type"), Some("connection_closed"), "{client:?}");
    assert_eq!(server.text("error.type"), Some("connection_reset"), "{server:?}");
    assert!(server.duration_ns() > client.duration_ns(), "{client:?} {server:?}");

    let (client, server) = between(&forest, "shapes", "/plain/4");
    assert_eq!((client.status(), server.status()), (Some(200), Some(200)));
    assert_eq!((&client.error, &server.error), (&None, &None));
}

fn traceparent(trace: &str, parent: &str) -> String {
    format!("00-{trace}-{parent}-01")
}

#[test]
fn a_trace_that_comes_over_the_wire_is_continued() {
    let lab = Lab::new();
    let (front, service) = (shapes(&lab, "front"), shapes(&lab, "shapes"));
    let file = lab.path().join("wirespan.yaml");
    std::fs::write(&file, "settings: {propagators: [b3, xray]}").unwrap();
    let config = format!("--config={}", file.display());
    let tracing = lab.agent("agent", &[rule(&front), rule(&service)], &[&config]);
    let context = format!("traceparent: {}\r\ntracestate: a=1,b=2\r\n", traceparent(TRACE, PARENT));
    let go = |number: u32, fields: &str, more: &str| {
        let target = format!("/ask/{number}?to={}/plain/{number}{more}", service.url());
        talk(&front, &request("GET", &target, &format!("{CLOSE}{fields}"), ""));
    };
    // The caller's trace, then no trace, then headers that are none.
    go(1, &context, "");
    go(2, "", "");
    go(3, &format!("traceparent: 00-{}-{PARENT}-01\r\n", "0".repeat(32)), "");
    // The application passes a context on by itself: another trace's, then its own trace's.
    let other = "0af7651916cd43dd8448eb211c80319c";
    go(4, "", &format!("&traceparent={}", traceparent(other, PARENT)));
    go(5, &context, &format!("&traceparent={}", traceparent(TRACE, "b7ad6b7169203331")));

    // Other formats, of which the last is not asked for.
    let (time, unique) = TRACE.split_at(8);
    go(6, &format!("b3: {TRACE}-{PARENT}-1\r\n"), "");
    go(7, &format!("X-Amzn-Trace-Id: Root=1-{time}-{unique};Parent={PARENT};Sampled=1\r\n"), "");
    go(8, &format!("sentry-trace: {TRACE}-{PARENT}-1\r\n"), "");

    let forest = tracing.forest_of(24);
    let chain = |number: u32| {
        let (client, server) = between(&forest, "shapes", &format!("/plain/{number}"));
        (one(&forest, "front", Kind::Server, &format!("/ask/{number}")), client, server)
    };
    for number in [1, 5, 6, 7] {
        let (front, client, server) = chain(number);
        let state = if number < 6 { "a=1,b=2" } else { "" };
        assert_eq!((&*front.trace, front.parent.as_deref()), (TRACE, Some(PARENT)), "{front:?}");
        assert!(front.parent_is_remote && !client.parent_is_remote && !server.parent_is_remote);
        assert_eq!(client.parent.as_ref(), Some(&front.id), "{client:?}");
        for span in [front, client, server] {
            assert_eq!((&*span.trace, &*span.trace_state), (TRACE, state), "{span:?}");
        }
    }
    for number in [2, 3, 8] {
        let (front, client, _) = chain(number);
        assert_eq!(front.parent, None, "{front:?}");
        assert_eq!(client.parent.as_ref(), Some(&front.id), "{client:?}");
        assert!(front.trace != TRACE && front.trace.bytes().any(|digit| digit != b'0'));
    }
    let (front, client, server) = chain(4);
    assert_eq!(front.parent, None, "{front:?}");
    assert_eq!((&*client.trace, client.parent.as_deref()), (other, Some(PARENT)), "{client:?}");
    assert!(client.parent_is_remote, "{client:?}");
    assert_eq!(server.trace, other, "{server:?}");
}

#[test]
fn a_scanner_makes_no_names() {
    let lab = Lab::new();
    let service = shapes(&lab, "shapes");
    let tracing = lab.trace(&[&service]);
    // Words, numbers, depths and extensions as scanners try them; deterministic, all different.
    let path = |seed: u32| {
        let word = |salt: u32| {
            let mixed = (seed ^ (salt << 16)).wrapping_mul(0x9e37_79b1) ^ seed;
            let letters = (0..5).map(|at| char::from(b'a' + ((mixed >> (5 * at)) % 26) as u8));
            letters.collect::<String>()
        };
        match seed % 4 {
            0 => format!("/{}.php", word(1)),
            1 => format!("/{}/{}", word(1), word(2)),
            2 => format!("/{}/{}/admin.{}", word(1), word(2), word(3)),
            _ => format!("/.{}", word(1)),
        }
    };
    let mut stream = sockets::tcp(service.address());
    for seed in 0..200 {
        stream.say(&request("GET", &path(seed), "", ""));
        assert!(stream.until("none such").starts_with("HTTP/1.1 404 "));
    }
    // What is there keeps its name.
    load(&service, 1, &gets("/plain", 1, 20));
    let forest = tracing.forest_of(220);
    let names = |status: i64| {
        let with = forest.spans.iter().filter(move |span| span.status() == Some(status));
        distinct(with.map(|span| span.name.as_str()))
    };
    assert!(names(404).len() <= 2, "{:?}", names(404));
    assert_eq!(names(200).into_iter().collect::<Vec<_>>(), ["GET /plain/{id}"]);
}

#[test]
fn an_upgraded_connection_is_left_alone() {
    let lab = Lab::new();
    let service = shapes(&lab, "shapes");
    let tracing = lab.trace(&[&service]);
    let mut stream = sockets::tcp(service.address());
    stream.say(&request("GET", "/echo/1", "Connection: Upgrade\r\nUpgrade: echo\r\n", ""));
    assert!(stream.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    for _ in 0..20 {
        stream.say(&request("GET", "/smuggled/2", "", ""));
        stream.until("\r\n\r\n");
        stream.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        stream.until("\r\n\r\n");
    }
    // Another connection is not affected.
    talk(&service, &request("GET", "/plain/3", CLOSE, ""));
    let forest = tracing.forest_of(2);
    let upgraded = one(&forest, "shapes", Kind::Server, "/echo/1");
    assert_eq!((upgraded.status(), &upgraded.error), (Some(101), &None));
    one(&forest, "shapes", Kind::Server, "/plain/3");
    drop(stream);
}

#[test]
fn a_tunnel_is_one_exchange_and_its_content_is_the_ends() {
    let lab = Lab::new();
    let (proxy, service) = (shapes(&lab, "proxy"), shapes(&lab, "shapes"));
    let tracing = lab.trace(&[&proxy, &service]);
    let mut stream = sockets::tcp(proxy.address());
    let to = service.address().to_string();
    stream.say(&format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"));
    assert!(stream.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
    for number in 1..=5 {
        stream.say(&request("GET", &format!("/plain/{number}"), "", ""));
        assert!(stream.until("plain").starts_with("HTTP/1.1 200 "));
    }
    drop(stream);
    let forest = tracing.forest_of(11);
    let tunnels: Vec<&Span> = forest.of("proxy", Kind::Server).collect();
    assert_eq!(tunnels.len(), 1, "{tunnels:?}");
    assert_eq!(tunnels[0].text("http.request.method"), Some("CONNECT"), "{tunnels:?}");
    assert_eq!((tunnels[0].status(), &tunnels[0].error), (Some(200), &None));
    for number in 1..=5 {
        one(&forest, "shapes", Kind::Server, &format!("/plain/{number}"));
    }
}

fn relayed(tracing: &Tracing, count: u64) -> Forest {
    let forest = tracing.forest_of(3 * count as usize);
    for server in forest.of("shapes", Kind::Server) {
        let client = forest.parent(server).unwrap_or_else(|| panic!("no parent: {server:?}"));
        assert_eq!(client.service, "front", "{client:?}");
        assert!(client.parent.is_some(), "{client:?}");
    }
    forest
}

#[test]
fn both_ends_are_joined_over_ipv6_and_between_the_two_versions() {
    let lab = Lab::new();
    let front = shapes(&lab, "front");
    let service = lab.installed.shapes("shapes").unwrap().env("OTEL_SERVICE_NAME", "shapes");
    let service = service.env("HOST", "::").start(lab.path()).unwrap();
    let tracing = lab.trace(&[&front, &service]);
    for (number, host) in [(1, "[::1]"), (2, "127.0.0.1")] {
        let target = format!("/ask/{number}?to=http://{host}:{}/plain/{number}", service.port());
        let answer = talk(&front, &request("GET", &target, CLOSE, ""));
        assert!(answer.ends_with("plain"), "{answer}");
    }
    let forest = relayed(&tracing, 2);
    let six = Ipv6Addr::LOCALHOST.to_string();
    for (path, address) in [("/plain/1", six.as_str()), ("/plain/2", "127.0.0.1")] {
        let (client, server) = between(&forest, "shapes", path);
        for span in [client, server] {
            assert_eq!(span.text("network.peer.address"), Some(address), "{span:?}");
            assert_eq!(span.text("server.address"), Some(address), "{span:?}");
        }
    }
}

#[test]
fn both_ends_are_joined_over_a_unix_socket() {
    let lab = Lab::new();
    let front = shapes(&lab, "front");
    let path = lab.path().join("shapes.sock");
    let service = lab.installed.shapes("shapes").unwrap().env("OTEL_SERVICE_NAME", "shapes");
    let service = service.env("SOCKET", path.to_str().unwrap()).start(lab.path()).unwrap();
    let tracing = lab.trace(&[&front, &service]);
    for number in 1..=20 {
        let socket = path.display();
        let target = format!("/ask/{number}?to=http://shapes/plain/{number}&socket={socket}");
        let answer = talk(&front, &request("GET", &target, CLOSE, ""));
        assert!(answer.ends_with("plain"), "{answer}");
    }
    let forest = relayed(&tracing, 20);
    for span in forest.of("shapes", Kind::Server).chain(forest.of("front", Kind::Client)) {
        assert_eq!(span.text("network.transport"), Some("unix"), "{span:?}");
        assert!(!span.attributes.contains_key("network.peer.port"), "{span:?}");
    }
    // From outside: the same server, whose client nobody traces.
    let mut stream = sockets::unix(&path);
    stream.say(&request("GET", "/plain/100", CLOSE, ""));
    assert!(stream.rest().ends_with("plain"));
    let forest = tracing.forest_of(61);
    assert_eq!(one(&forest, "shapes", Kind::Server, "/plain/100").parent, None);
}
