//! Each of the kernel's figures, against a delay that was put there and what the scripts saw around it: the median of
//! fifty at 100 ms within a tenth.
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what was measured is said; helpers panic as tests do"
)]

use crate::common::capture as common;
use crate::common::namespaces;

use common::{Bench, connect, unique};
use namespaces::Linked;
use wirespan::semconv;
use wirespan_tests::spans::{CLIENT, SERVER, Span};

const TIMES: usize = 50;
const DELAY_NS: i64 = 100_000_000;

/// The figures of the calls of a series.
fn figures(spans: &[Span], kind: i64, series: &str, key: &str) -> Vec<i64> {
    let path = format!("/{series}/");
    let mine = spans.iter().filter(|span| span.kind == kind && span.path().starts_with(&path));
    mine.filter_map(|span| span.int(key)).collect()
}

fn median(mut figures: Vec<i64>) -> i64 {
    assert_eq!(figures.len(), TIMES, "a figure for each call");
    figures.sort_unstable();
    figures[TIMES / 2]
}

/// The median is `expected` within a tenth.
fn assert_median(spans: &[Span], kind: i64, series: &str, key: &str, expected: i64) {
    assert_between(spans, kind, series, key, [expected; 2]);
}

/// The median lies between the two within a tenth: the delay that was put there, and the median of what was seen
/// around it.
fn assert_between(spans: &[Span], kind: i64, series: &str, key: &str, [inner, outer]: [i64; 2]) {
    let found = median(figures(spans, kind, series, key));
    println!("{key} ({series}): median {found}, put there {inner}, seen around it {outer}");
    assert!(
        found * 10 >= inner * 9 && found * 10 <= outer * 11,
        "{key} of {series}: {found}, not {inner} to {outer}"
    );
}

/// What a script noted, a number for each call.
fn noted(script: &mut common::Script, list: &str) -> Vec<i64> {
    let noted = script.run(list).unwrap();
    noted.as_array().unwrap().iter().map(|one| one.as_i64().unwrap()).collect()
}

/// The delay that was put into a call, and the median time between what two scripts noted of it, by the one monotonic
/// clock: what sleeps may wake late.
fn delay_between(first: &mut common::Script, then: &mut common::Script) -> [i64; 2] {
    [DELAY_NS, apart([first, then], ["noted"; 2])]
}

/// The median time from what one script noted of a call to what the other did.
fn apart([first, then]: [&mut common::Script; 2], lists: [&str; 2]) -> i64 {
    let pairs = noted(first, lists[0]).into_iter().zip(noted(then, lists[1]));
    median(pairs.map(|(first, then)| then - first).collect())
}

/// The code of a server and of a client, each run once a call; `i` is the call's number.
fn calls(
    bench: &Bench,
    scripts: [&mut common::Script; 2],
    series: &str,
    server: &str,
    client: &str,
) -> Vec<Span> {
    let [ours, theirs] = scripts;
    for script in [&mut *ours, &mut *theirs] {
        script.run("noted = []\ndef note(): noted.append(time.monotonic_ns())").unwrap();
    }
    theirs.begin(&format!("for i in range({TIMES}):\n  {server}")).unwrap();
    let client = client.replace("ASK", &format!("request('/{series}/%d' % i)"));
    ours.run(&format!("for i in range({TIMES}):\n  {client}")).unwrap();
    theirs.finish().unwrap();
    bench.agrees(ours, 0);
    bench.agrees(theirs, 0);
    bench.spans()
}

#[test]
fn queue_time_is_how_long_a_request_lay_unread() {
    let bench = Bench::start(&unique("queue"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    for family in ["inet", "unix"] {
        connect(&mut client, &mut server, family);
        // An accepted unix socket is known from its first operation on: its first request has no figure.
        common::exchange(
            &mut client,
            &mut server,
            [common::PLAIN; 2],
            &common::Exchange::new("known", 0),
        );
        let spans = calls(
            &bench,
            [&mut client, &mut server],
            family,
            "wait_for(s, 1); time.sleep(0.1); sr.message(); note(); send_all(s, response())",
            "note(); send_all(c, ASK); cr.message()",
        );
        let around = delay_between(&mut client, &mut server);
        assert_between(&spans, SERVER, family, semconv::QUEUE_TIME_NS, around);
    }
}

/// A reader that asks again and again takes a unix socket's data before the kernel has told that there is any.
#[test]
fn queue_time_does_not_begin_before_the_request_was_sent() {
    /// What a sample of the distance to wall time may be off.
    const CLOCKS_NS: u64 = 3_000_000;
    let bench = Bench::start(&unique("spinning"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let spin = "def spinning(sock):\n  data = b''\n  while not data.endswith(b'\\r\\n\\r\\n'):\n    \
                try: data += recv_once(sock, 65536, flags=socket.MSG_DONTWAIT)\n    \
                except BlockingIOError: pass\nNone";
    server.run(spin).unwrap();
    connect(&mut client, &mut server, "unix");
    client.run("sent = []").unwrap();
    let spans = calls(
        &bench,
        [&mut client, &mut server],
        "spinning",
        "for _ in range(40): spinning(s); send_all(s, response())",
        "for _ in range(40): time.sleep(0.007); sent.append(time.time_ns()); send_all(c, ASK); \
         cr.message()",
    );
    let sent = client.run("sent").unwrap();
    let sent: Vec<u64> = sent.as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
    let mut servers: Vec<_> = spans.iter().filter(|span| span.kind == SERVER).collect();
    servers.sort_by_key(|span| span.end_ns);
    assert_eq!(servers.len(), sent.len());
    for (span, sent) in servers.iter().zip(sent) {
        assert!(span.start_ns + CLOCKS_NS > sent, "sent at {sent}: {span:#?}");
    }
}

#[test]
fn queue_time_of_a_stopped_server_is_how_long_it_was_stopped() {
    let bench = Bench::start(&unique("stopped"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    connect(&mut client, &mut server, "inet");
    let pid = server.pid();
    let spans = calls(
        &bench,
        [&mut client, &mut server],
        "stopped",
        "sr.message(); note(); send_all(s, response())",
        &format!(
            "import signal; os.kill({pid}, signal.SIGSTOP); note(); send_all(c, ASK); time.sleep(0.1); \
             os.kill({pid}, signal.SIGCONT); cr.message()"
        ),
    );
    let around = delay_between(&mut client, &mut server);
    assert_between(&spans, SERVER, "stopped", semconv::QUEUE_TIME_NS, around);
}

#[test]
fn queue_time_holds_the_wait_in_the_accept_queue() {
    let bench = Bench::start(&unique("accept"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    for family in ["inet", "inet6"] {
        let place = server.run(&format!("listener, place = listen({family:?}); place")).unwrap();
        client.run(&format!("place = {}; sent = []", common::python(&place))).unwrap();
        server.run("woke = []").unwrap();
        let spans = calls(
            &bench,
            [&mut client, &mut server],
            family,
            "wait_for(listener, 1); time.sleep(0.1); woke.append(time.monotonic_ns()); s = accept(listener); \
             Reader(s).message(); note(); send_all(s, response()); s.close()",
            "c = connect(place); note(); send_all(c, ASK); sent.append(time.monotonic_ns()); \
             Reader(c).message(); c.close()",
        );
        // The delay begins with the connection, and the request comes after that.
        let inner = apart([&mut client, &mut server], ["sent", "woke"]);
        let outer = apart([&mut client, &mut server], ["noted"; 2]);
        assert!(inner > DELAY_NS / 2, "the request came {inner} ns before it was accepted");
        assert_between(&spans, SERVER, family, semconv::QUEUE_TIME_NS, [inner, outer]);
    }
}

#[test]
fn unread_time_is_how_long_an_answer_lay_unread() {
    let bench = Bench::start(&unique("unread"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    for family in ["inet", "unix"] {
        connect(&mut client, &mut server, family);
        let spans = calls(
            &bench,
            [&mut client, &mut server],
            family,
            "sr.message(); note(); send_all(s, response())",
            "send_all(c, ASK); wait_for(c, 1); time.sleep(0.1); cr.message(); note()",
        );
        let around = delay_between(&mut server, &mut client);
        assert_between(&spans, CLIENT, family, semconv::UNREAD_TIME_NS, around);
        let [first, unread] = [semconv::FIRST_BYTE_TIME_NS, semconv::UNREAD_TIME_NS]
            .map(|key| median(figures(&spans, CLIENT, family, key)));
        assert!(first < unread, "the answer was there after {first} ns, and unread for {unread}");
    }
}

#[test]
fn time_to_first_byte_is_how_long_the_server_took() {
    let bench = Bench::start(&unique("first"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    connect(&mut client, &mut server, "inet");
    let spans = calls(
        &bench,
        [&mut client, &mut server],
        "first",
        "sr.message(); time.sleep(0.1); send_all(s, response())",
        "began = time.monotonic_ns(); send_all(c, ASK); cr.message(); \
         noted.append(time.monotonic_ns() - began)",
    );
    let around = [DELAY_NS, median(noted(&mut client, "noted"))];
    for kind in [CLIENT, SERVER] {
        assert_between(&spans, kind, "first", semconv::FIRST_BYTE_TIME_NS, around);
    }
}

#[test]
fn connect_time_and_round_trip_time_are_those_of_the_link() {
    let tag = unique("link");
    let bench = Bench::start(&tag, &[]);
    let mut linked = Linked::new(&tag);
    let mut client = bench.script_in("client", &linked.within(0));
    let mut server = bench.script_in("server", &linked.within(1));
    linked.link.run("link.delay = 0.05").unwrap();
    let place = server.run("listener, place = listen(host='10.77.0.2'); place").unwrap();
    client.run(&format!("place = {}; connects, asks = [], []", common::python(&place))).unwrap();
    let spans = calls(
        &bench,
        [&mut client, &mut server],
        "link",
        "s = accept(listener); Reader(s).message(); send_all(s, response()); s.close()",
        "began = time.monotonic_ns(); c = connect(place); there = time.monotonic_ns(); \
         send_all(c, ASK); Reader(c).message(); done = time.monotonic_ns(); c.close(); \
         connects.append(there - began); asks.append(done - there)",
    );
    // The link is a program: a packet that comes while it waits for a CPU is longer under way than it was told.
    let [connecting, asking] = ["connects", "asks"].map(|list| median(noted(&mut client, list)));
    let around = [DELAY_NS, connecting];
    assert_between(&spans, CLIENT, "link", semconv::CONNECT_TIME_NS, around);
    let around = [DELAY_NS, connecting.max(asking)].map(|time_ns| time_ns / 1000);
    assert_between(&spans, CLIENT, "link", semconv::SMOOTHED_RTT_US, around);
    let around = [DELAY_NS, asking];
    assert_between(&spans, CLIENT, "link", semconv::FIRST_BYTE_TIME_NS, around);
    assert!(figures(&spans, CLIENT, "link", semconv::RETRANSMITS).iter().all(|count| *count == 0));
    // The two ends are in two network namespaces, and are one connection.
    for client in spans.iter().filter(|span| span.kind == CLIENT) {
        let server = common::spans_of(&spans, SERVER, client.path())[0];
        assert_eq!(server.parent_span_id, client.span_id);
    }
}

#[test]
fn retransmissions_are_those_of_the_call() {
    let tag = unique("loss");
    let bench = Bench::start(&tag, &[]);
    let mut linked = Linked::new(&tag);
    let mut client = bench.script_in("client", &linked.within(0));
    let mut server = bench.script_in("server", &linked.within(1));
    let place = server.run("listener, place = listen(host='10.77.0.2'); place").unwrap();
    client.run(&format!("c = connect({}); cr = Reader(c)", common::python(&place))).unwrap();
    server.run("s = accept(listener); sr = Reader(s)").unwrap();
    // `tcpi_total_retrans`: the socket's own word.
    client.run("def again(): return struct.unpack_from('I', c.getsockopt(socket.IPPROTO_TCP, 11, 104), 100)[0]").unwrap();
    let mut expected = Vec::new();
    for (number, drop) in [0, 1, 0, 2, 1, 0].into_iter().enumerate() {
        linked.link.run(&format!("link.drop = {drop}; link.repeated = 0")).unwrap();
        server.begin("sr.message(); send_all(s, response())").unwrap();
        let code = format!(
            "before = again(); send_all(c, request('/loss/{number}')); cr.message(); again() - before"
        );
        let again = client.run(&code).unwrap().as_i64().unwrap();
        server.finish().unwrap();
        let seen = linked.link.run("[link.dropped, link.repeated]").unwrap();
        assert!(again >= drop, "{drop} were dropped, {again} sent again; on the link {seen}");
        expected.push(again);
    }
    bench.agrees(&mut client, 0);
    bench.agrees(&mut server, 0);
    let spans = bench.spans();
    let counts: Vec<i64> = (0..expected.len())
        .map(|number| {
            let found = common::spans_of(&spans, CLIENT, &format!("/loss/{number}"));
            found[0].int(semconv::RETRANSMITS).unwrap()
        })
        .collect();
    println!("retransmissions: told {counts:?}, the socket's own count {expected:?}");
    assert_eq!(counts, expected);
}

/// A server's thread that burns 100 ms on a CPU for each request. Notes how long it waited for one, and what the
/// hypervisor took away meanwhile, which may count as on-CPU time (docs/semantic-conventions.md).
const BURN: &str = "before_stolen = stolen_ns(); sr.message(); before = schedstat(); spin(0.1); after = schedstat(); \
                    send_all(s, response()); delays.append(after[1] - before[1]); \
                    steals.append(stolen_ns() - before_stolen)";

const SCHEDSTAT: &str = "delays, steals = [], []\ndef schedstat(): \
                         return [int(word) for word in open('/proc/thread-self/schedstat').read().split()]\n\
                         def stolen_ns(): \
                         return int(open('/proc/stat').readline().split()[8]) * 10**9 // os.sysconf('SC_CLK_TCK')";

#[test]
fn on_cpu_time_is_what_the_request_burned() {
    let bench = Bench::start(&unique("burn"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    connect(&mut client, &mut server, "inet");
    server.run(SCHEDSTAT).unwrap();
    let pair = [&mut client, &mut server];
    let spans = calls(&bench, pair, "burn", BURN, "send_all(c, ASK); cr.message()");
    let burned = [DELAY_NS, DELAY_NS + median(noted(&mut server, "steals"))];
    assert_between(&spans, SERVER, "burn", semconv::ON_CPU_TIME_NS, burned);
    assert!(figures(&spans, CLIENT, "burn", semconv::ON_CPU_TIME_NS).is_empty());
}

#[test]
fn run_delay_is_what_a_request_waited_for_a_cpu() {
    let bench = Bench::start(&unique("crowd"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    connect(&mut client, &mut server, "inet");
    server
        .run(&format!("{SCHEDSTAT}\nos.sched_setaffinity(0, [max(os.sched_getaffinity(0))])"))
        .unwrap();
    let mut crowd = common::Script::start(&unique("crowd-hog")).unwrap();
    crowd.run("os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])").unwrap();
    crowd.begin("busy = True\nwhile not os.path.exists('/proc/%d/fd/0' % 0): pass").unwrap();
    let pair = [&mut client, &mut server];
    let spans = calls(&bench, pair, "crowd", BURN, "send_all(c, ASK); cr.message()");
    drop(crowd);
    // The kernel's own count of the thread's waiting, which two processes on one CPU make about 100 ms.
    let truth = median(noted(&mut server, "delays"));
    assert!(truth > DELAY_NS / 2, "the hog does not crowd: {truth}");
    assert_median(&spans, SERVER, "crowd", semconv::RUN_DELAY_NS, truth);
    let burned = [DELAY_NS, DELAY_NS + median(noted(&mut server, "steals"))];
    assert_between(&spans, SERVER, "crowd", semconv::ON_CPU_TIME_NS, burned);
}

#[test]
fn an_event_loop_has_neither() {
    let bench = Bench::start(&unique("loop"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    connect(&mut client, &mut server, "inet");
    server.run("s.setblocking(False)").unwrap();
    let work = "sr.message(); send_all(s, response())";
    let pair = [&mut client, &mut server];
    let spans = calls(&bench, pair, "loop", work, "send_all(c, ASK); cr.message()");
    assert_eq!(figures(&spans, SERVER, "loop", semconv::FIRST_BYTE_TIME_NS).len(), TIMES);
    for key in [semconv::ON_CPU_TIME_NS, semconv::RUN_DELAY_NS] {
        assert!(figures(&spans, SERVER, "loop", key).is_empty(), "{key}");
    }
}
