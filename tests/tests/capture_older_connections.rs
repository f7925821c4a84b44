//! Connections that are older than the agent, and those of listeners and namespaces of every kind, are known
//! like all others.

use std::collections::HashMap;

use crate::common::capture as common;
use crate::common::namespaces;

use common::{
    Bench, Exchange, PLAIN, both_ends, connect, exchange, outer_pid, python, span_of, spans_of,
    unique,
};
use namespaces::Linked;
use rstest::rstest;
use wirespan::semconv;
use wirespan_tests::script::Script;
use wirespan_tests::spans::{CLIENT, SERVER, Span};

/// Both ends of connections that hardly rest: every request is as long as every other.
const WITHOUT_REST: &str = r"
stop = threading.Event()
def ask(series, sock):
    reader = Reader(sock)
    number = 0
    while not stop.is_set():
        send_all(sock, request('/%s/%08d' % (series, number), 5))
        reader.message()
        number += 1
        time.sleep(0.001)
    sock.close()
def answer(sock):
    reader = Reader(sock)
    try:
        while True:
            reader.message()
            send_all(sock, response(200, 5))
    except EOFError:
        sock.close()
def begin(work, *arguments):
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    threads.append(thread)
threads = []
None";

/// On TCP a request's place is known at both ends whenever the agent comes. On unix sockets it is counted, from
/// different moments where the agent comes in the middle: then an end must not be taken for another's.
#[rstest]
fn an_agent_that_comes_under_load_puts_no_request_under_another(
    #[values("inet", "unix")] family: &str,
) {
    const OLD: usize = 4;
    let tag = unique("load");
    let mut client = Script::start(&format!("{tag}-client")).unwrap();
    let mut server = Script::start(&format!("{tag}-server")).unwrap();
    client.run(WITHOUT_REST).unwrap();
    server.run(WITHOUT_REST).unwrap();
    let place = server.run(&format!("listener, place = listen({family:?}); place")).unwrap();
    client.run(&format!("place = {}", python(&place))).unwrap();
    let open = |client: &mut Script, server: &mut Script, series: &str| {
        client.run(&format!("begin(ask, {series:?}, connect(place)); None")).unwrap();
        server.run("begin(answer, accept(listener)); None").unwrap();
    };
    for number in 0..OLD {
        open(&mut client, &mut server, &format!("old{number}"));
    }
    let bench = Bench::start(&tag, &[]);
    bench.until("old connections have spans", |status| status.spans > 2_000);
    open(&mut client, &mut server, "new");
    let so_far = bench.until("some are made", |status| status.spans > 0).spans;
    bench.until("the new connection has some", |status| status.spans > so_far + 2_000);
    client.run("stop.set(); [thread.join() for thread in threads]; None").unwrap();
    server.run("[thread.join() for thread in threads]; None").unwrap();
    bench.settled(0);
    let spans = bench.spans();
    let by_id: HashMap<&str, &Span> =
        spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let servers = spans.iter().filter(|span| span.kind == SERVER);
    let (new, old): (Vec<_>, Vec<_>) = servers.partition(|span| span.path().starts_with("/new/"));
    assert!(new.len() > 50 && old.len() > 50, "{} {}", new.len(), old.len());
    for span in new.iter().chain(&old) {
        let parent = by_id.get(span.parent_span_id.as_str());
        assert_eq!(parent.is_some(), !span.parent_span_id.is_empty(), "{span:#?}");
        assert!(parent.is_none_or(|parent| parent.path() == span.path()), "{span:#?} {parent:#?}");
    }
    let joined = |spans: &[&Span]| spans.iter().filter(|s| !s.parent_span_id.is_empty()).count();
    // From its beginning: all of it. On a unix socket an end that was stamped late, as where the processor was taken
    // away at that moment, is not taken for any.
    let least = if family == "unix" { new.len() * 98 / 100 } else { new.len() };
    assert!(joined(&new) >= least, "{} of {}", joined(&new), new.len());
    // A request that was on its way when the agent came has one end only.
    let expected = if family == "unix" { 0 } else { old.len() - OLD };
    assert!(joined(&old) >= expected, "{} of {}", joined(&old), old.len());
}

#[rstest]
fn a_connection_older_than_the_agent_has_its_ends_and_its_queue_time(
    #[values("inet", "inet6", "unix")] family: &str,
) {
    let tag = unique("older");
    let mut client = Script::start(&format!("{tag}-client")).unwrap();
    let mut server = Script::start(&format!("{tag}-server")).unwrap();
    connect(&mut client, &mut server, family);
    exchange(&mut client, &mut server, [PLAIN; 2], &Exchange::new("before", 0));
    let forget =
        "COUNTS.update(receive=dict(operations=0, bytes=0), send=dict(operations=0, bytes=0))";
    client.run(forget).unwrap();
    server.run(forget).unwrap();
    let bench = Bench::start(&tag, &[]);
    let exchanges: Vec<Exchange> = (0..5).map(|number| Exchange::new(family, number)).collect();
    for one in &exchanges {
        let Exchange { path, status, request_bytes, response_bytes } = one;
        let answer = format!("send_all(s, response({status}, {response_bytes}))");
        server.begin(&format!("wait_for(s, 1); time.sleep(0.05); sr.message(); {answer}")).unwrap();
        client
            .run(&format!("send_all(c, request({path:?}, {request_bytes})); cr.message(); None"))
            .unwrap();
        server.finish().unwrap();
    }
    bench.agrees(&mut client, 0);
    bench.agrees(&mut server, 0);
    let spans = bench.spans();
    assert!(spans_of(&spans, SERVER, "/before/0").is_empty());
    let port = |script: &mut Script, end: &str| {
        let code = format!("{end}.getpeername()[1] if {end}.family != socket.AF_UNIX else None");
        script.run(&code).unwrap().as_i64()
    };
    let ports = [port(&mut client, "c"), port(&mut server, "s")];
    for one in &exchanges {
        // On a unix socket nothing tells where in the stream the agent came.
        let (client, server) = if family == "unix" {
            (span_of(&spans, CLIENT, one), span_of(&spans, SERVER, one))
        } else {
            both_ends(&spans, one)
        };
        assert_eq!(family == "unix", server.parent_span_id.is_empty(), "{server:#?}");
        assert_eq!([client, server].map(|span| span.int("network.peer.port")), ports);
        let queue =
            server.int(semconv::QUEUE_TIME_NS).expect("the first receive has a queue time too");
        assert!(queue >= 50_000_000, "{server:#?}");
    }
}

/// What a child of the server does: answers `number` connections, each until its client closes it.
const SERVE: &str = r"
def serve(listener, number):
    for _ in range(number):
        sock = accept(listener)
        reader = Reader(sock)
        try:
            while True:
                reader.message()
                send_all(sock, b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n%7d' % os.getpid())
        except EOFError:
            sock.close()
";

/// Two requests on each of twelve connections, and who answered them.
const ASK: &str = r"
answers = {}
for number in range(12):
    c = connect(place); reader = Reader(c)
    for turn in range(2):
        path = '/shared/%d/%d' % (number, turn)
        send_all(c, request(path, 5))
        answers[path] = int(reader.message()[1])
    c.close()
answers";

#[rstest]
#[case::forked_after_listening(false, true)]
#[case::forked_after_listening_before_the_agent(false, false)]
#[case::each_with_its_own_socket_on_one_port(true, true)]
#[case::each_with_its_own_socket_before_the_agent(true, false)]
fn what_processes_accept_on_one_port_is_known_from_its_beginning(
    #[case] reuse: bool,
    #[case] first: bool,
) {
    let tag = unique("shared");
    let early = first.then(|| Bench::start(&tag, &[]));
    let start = |name: &str| match &early {
        Some(bench) => bench.script(name),
        None => Script::start(&format!("{tag}-{name}")).unwrap(),
    };
    let (mut client, mut server) = (start("client"), start("server"));
    server.run(SERVE).unwrap();
    let place = if reuse {
        // Each child binds the port for itself; all do before the first connection comes.
        let code = "listener, place = listen(reuse=True); listeners = [listener] + \
                    [listen(reuse=True, port=place[1])[0] for _ in range(2)]; place";
        server.run(code).unwrap()
    } else {
        server.run("listener, place = listen(); listeners = [listener] * 3; place").unwrap()
    };
    let fork = "children = []\nfor listener in listeners:\n  child = os.fork()\n  \
                if child == 0:\n    \
                  for other in set(listeners) - {listener}: other.close()\n    \
                  serve(listener, 100); os._exit(0)\n  children.append(child)\n\
                for listener in set(listeners): listener.close()\nchildren";
    let children = server.run(fork).unwrap();
    let bench = early.unwrap_or_else(|| Bench::start(&tag, &[]));
    let children: Vec<i32> =
        children.as_array().unwrap().iter().map(|pid| pid.as_i64().unwrap() as i32).collect();
    bench.until("the children are traced", |status| {
        children.iter().all(|child| status.processes.iter().any(|process| process.pid == *child))
    });
    client.run(&format!("place = {}", python(&place))).unwrap();
    let answers = client.run(ASK).unwrap();
    bench.agrees(&mut client, 0);
    let spans = bench.spans();
    for (path, pid) in answers.as_object().unwrap() {
        let [client] = spans_of(&spans, CLIENT, path)[..] else { panic!("{path}: {spans:#?}") };
        let [server] = spans_of(&spans, SERVER, path)[..] else { panic!("{path}: {spans:#?}") };
        assert_eq!(Some(server.pid), pid.as_i64(), "{server:#?}");
        assert_eq!(server.parent_span_id, client.span_id, "{path}");
        assert!(server.int(semconv::QUEUE_TIME_NS).is_some(), "{path}: {server:#?}");
    }
    assert_eq!(spans.len(), 48);
}

#[rstest]
#[case::of_users(&["unshare", "--user", "--map-root-user"])]
#[case::of_processes(&["unshare", "--pid", "--fork", "--mount-proc"])]
#[case::of_users_and_processes(&["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"])]
fn a_process_in_a_namespace_of_its_own_is_traced_with_the_right_number(#[case] before: &[&str]) {
    let bench = Bench::start(&unique("namespace"), &[]);
    let mut client = bench.script("client");
    let mut server = bench.script_in("server", before);
    let inner = server.run("os.getpid()").unwrap().as_i64().unwrap();
    let outer = outer_pid(&mut server);
    assert_eq!(inner == 1, before.contains(&"--pid"), "{inner} {outer}");
    let mut exchanges = Vec::new();
    for family in ["inet", "unix"] {
        connect(&mut client, &mut server, family);
        for number in 0..3 {
            let one = Exchange::new(family, number);
            exchange(&mut client, &mut server, [PLAIN; 2], &one);
            exchanges.push(one);
        }
    }
    bench.agrees(&mut client, 0);
    bench.agrees(&mut server, 0);
    let spans = bench.spans();
    for one in &exchanges {
        assert_eq!(both_ends(&spans, one).1.pid, i64::from(outer));
    }
}

#[test]
fn loopbacks_of_two_network_namespaces_are_not_mixed_up_and_a_link_between_them_is_followed() {
    let tag = unique("net");
    let bench = Bench::start(&tag, &[]);
    let mut linked = Linked::new(&tag);
    linked.link.run("link.delay = 0.0").unwrap();
    let mut pairs: Vec<[Script; 2]> = (0..2)
        .map(|end| {
            let within = linked.within(end);
            ["client", "server"].map(|name| bench.script_in(&format!("{name}{end}"), &within))
        })
        .collect();
    // The same ports at both ends in both namespaces, at the same time.
    for [client, server] in &mut pairs {
        server.run("listener, place = listen(port=8080)").unwrap();
        client
            .run(
                "c = socket.socket(); c.bind(('127.0.0.1', 9090)); c.connect(('127.0.0.1', 8080)); \
                 cr = Reader(c); None",
            )
            .unwrap();
        server.run("s = accept(listener); sr = Reader(s)").unwrap();
    }
    let mut exchanges = Vec::new();
    for number in 0..5 {
        for (end, [client, server]) in pairs.iter_mut().enumerate() {
            let one = Exchange::new(["first", "second"][end], 10 * end + number);
            exchange(client, server, [PLAIN; 2], &one);
            exchanges.push(one);
        }
    }
    // And from one to the other.
    let [[client, _], [_, server]] = &mut pairs[..] else { unreachable!() };
    server.run("listener, place = listen(host='10.77.0.2')").unwrap();
    let place = server.run("place").unwrap();
    client.run(&format!("c = connect({}); cr = Reader(c)", python(&place))).unwrap();
    server.run("s = accept(listener); sr = Reader(s)").unwrap();
    for number in 0..3 {
        let one = Exchange::new("across", number);
        exchange(client, server, [PLAIN; 2], &one);
        exchanges.push(one);
    }
    for script in pairs.iter_mut().flatten() {
        bench.agrees(script, 0);
    }
    let spans = bench.spans();
    for one in &exchanges {
        let (client, server) = both_ends(&spans, one);
        let end = |span: &Span| span.service.ends_with('1');
        assert_eq!(
            end(client) != end(server),
            one.path.starts_with("/across"),
            "{client:#?} {server:#?}"
        );
    }
}
