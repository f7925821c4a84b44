//! An agent that traces scripts, and what must hold between their own counts, its spans and its books.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use wirespan::books::{ProcessStatus, Status};
use wirespan_tests::agent::Agent;
pub(crate) use wirespan_tests::script::Script;
use wirespan_tests::spans::{self, CLIENT, SERVER, Span};
use wirespan_tests::wait;

/// How long a test waits for what must happen: a bound on a hang, not on speed.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// A name that no other test uses, in this process or another.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A running agent with a directory of its own.
pub(crate) struct Bench {
    pub(crate) agent: Agent,
    directory: TempDir,
    tag: String,
}

impl Bench {
    /// Starts an agent that traces the scripts whose name begins with `tag`.
    pub(crate) fn start(tag: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = format!("file:{}", directory.path().join("spans.jsonl").display());
        let rule = format!("cmd=*sockets.py {tag}*");
        let mut all = vec!["--allow", &rule, "--export", &file];
        all.extend(arguments);
        let agent = Agent::start(directory.path(), &all).unwrap();
        Self { agent, directory, tag: tag.to_owned() }
    }

    /// Starts a script and waits until it is traced.
    pub(crate) fn script(&self, name: &str) -> Script {
        self.script_in(name, &[])
    }

    /// As [`Self::script`], behind a program that starts another.
    pub(crate) fn script_in(&self, name: &str, before: &[&str]) -> Script {
        let mut script = Script::start_in(&format!("{}-{name}", self.tag), before).unwrap();
        let pid = outer_pid(&mut script);
        self.until("the script is traced", |status| {
            status.processes.iter().any(|process| process.pid == pid)
        });
        script
    }

    /// Waits until the agent's status satisfies the condition.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        let mut last = Status::default();
        let found = wait::until(what, LIMIT, || {
            last = serde_json::from_value(self.agent.status()?)?;
            Ok(condition(&last).then(|| last.clone()))
        });
        found.unwrap_or_else(|error| {
            panic!("{error}; {last:#?}\n{}", self.agent.stderr().unwrap_or_default())
        })
    }

    /// The books once nothing moves any more: all balances, every call that is over is placed and every
    /// span is exported, and a second look shows the same. `open`: calls that stay open.
    pub(crate) fn settled(&self, open: u64) -> Status {
        let quiet = |status: &Status| {
            status.check().is_empty()
                && status.calls.open == open
                && status.calls.waiting == 0
                && status.exporters.iter().all(|exporter| exporter.queued == 0)
        };
        loop {
            let first = self.until("the agent is quiet", quiet);
            let second = self.until("the agent is quiet", quiet);
            if same(&first, &second) {
                return second;
            }
        }
    }

    /// The spans of these scripts so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        spans::read(&self.directory.path().join("spans.jsonl")).unwrap()
    }

    /// Waits until the books are those of what the script itself counted, exactly.
    pub(crate) fn agrees(&self, script: &mut Script, open: u64) -> ProcessStatus {
        let counts = script.run("COUNTS").unwrap();
        let number = |way: &str, what: &str| counts[way][what].as_u64().unwrap();
        let operations = number("receive", "operations") + number("send", "operations");
        let bytes = number("receive", "bytes") + number("send", "bytes");
        let pid = outer_pid(script);
        self.until("the agent has read what the script did", |status| {
            line(status, pid).agent.operations >= operations
        });
        let status = self.settled(open);
        let line = line(&status, pid);
        let name = script.name();
        assert_eq!(line.kernel.operations_seen, operations, "{name}: operations; {counts}");
        assert_eq!(line.kernel.bytes_seen, bytes, "{name}: bytes; {counts}");
        assert_eq!(line.kernel.operations_dropped, 0, "{name}");
        assert_eq!(line.agent.operations, operations, "{name}: operations read");
        assert_eq!(line.agent.bytes, bytes, "{name}: bytes read");
        assert_eq!(line.kernel.peeks, counts["peeks"].as_u64().unwrap(), "{name}: peeks");
        line
    }
}

fn same(first: &Status, second: &Status) -> bool {
    (&first.processes, &first.departed, first.spans)
        == (&second.processes, &second.departed, second.spans)
}

/// The line of a process.
pub(crate) fn line(status: &Status, pid: i32) -> ProcessStatus {
    let found = status.processes.iter().find(|process| process.pid == pid);
    found.unwrap_or_else(|| panic!("no process {pid} in {status:#?}")).clone()
}

/// The number that the agent knows the script by: that of Python itself where others started it.
pub(crate) fn outer_pid(script: &mut Script) -> i32 {
    let pids = script.pids().unwrap();
    let python = pids.iter().find(|pid| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        program.to_string_lossy().contains("python")
    });
    i32::try_from(*python.expect("the script runs")).unwrap()
}

/// One request with its response, as the scripts make it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
}

impl Exchange {
    /// The `number`th of a series: no two are alike in anything that a span shows. (204 has no content.)
    pub(crate) fn new(series: &str, number: usize) -> Self {
        Self {
            path: format!("/{series}/{number}"),
            status: u16::try_from(210 + number % 80).unwrap(),
            request_bytes: 11 + 7 * number,
            response_bytes: 301 + 13 * number,
        }
    }
}

/// Exactly one span of this kind for the exchange, and it tells what the exchange was.
pub(crate) fn span_of<'a>(spans: &'a [Span], kind: i64, exchange: &Exchange) -> &'a Span {
    let found = spans_of(spans, kind, &exchange.path);
    assert_eq!(found.len(), 1, "spans of kind {kind} for {exchange:?}: {found:#?}");
    let span = found[0];
    assert_right(span, exchange);
    let whole = |key: &str, bytes: usize| {
        let expected =
            (bytes > 0 || key.contains("response")).then(|| i64::try_from(bytes).unwrap());
        assert_eq!(span.int(key), expected, "{key} of {span:#?}");
    };
    whole("http.request.body.size", exchange.request_bytes);
    whole("http.response.body.size", exchange.response_bytes);
    assert_eq!(span.int("http.response.status_code"), Some(exchange.status.into()), "{span:#?}");
    span
}

/// Nothing that the span tells contradicts the exchange.
pub(crate) fn assert_right(span: &Span, exchange: &Exchange) {
    let says = |key: &str, truth: i64| {
        let told = span.int(key).unwrap_or(truth);
        assert_eq!(told, truth, "{key} of {span:#?} against {exchange:?}");
    };
    assert_eq!(span.text("http.request.method"), Some("POST"), "{span:#?}");
    says("http.response.status_code", exchange.status.into());
    says("http.response.body.size", i64::try_from(exchange.response_bytes).unwrap());
    says("http.request.body.size", i64::try_from(exchange.request_bytes).unwrap());
    assert!(span.end_ns >= span.start_ns, "{span:#?}");
}

/// The spans of a kind for a path.
pub(crate) fn spans_of<'a>(spans: &'a [Span], kind: i64, path: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.kind == kind && span.path() == path).collect()
}

/// Both ends' spans, the server's under the client's and within it.
pub(crate) fn both_ends<'a>(spans: &'a [Span], exchange: &Exchange) -> (&'a Span, &'a Span) {
    let (client, server) = joined(spans, exchange);
    assert!(client.start_ns <= server.start_ns, "{client:#?} {server:#?}");
    assert!(client.end_ns >= server.end_ns, "{client:#?} {server:#?}");
    (client, server)
}

/// Both ends' spans, the server's under the client's. Where lost bytes delayed one of them, the other has
/// left before the two could correct each other's times.
pub(crate) fn joined<'a>(spans: &'a [Span], exchange: &Exchange) -> (&'a Span, &'a Span) {
    let client = span_of(spans, CLIENT, exchange);
    let server = span_of(spans, SERVER, exchange);
    assert_eq!(server.trace_id, client.trace_id, "{exchange:?}: {client:#?} {server:#?}");
    assert_eq!(server.parent_span_id, client.span_id, "{exchange:?}");
    (client, server)
}

/// Connects two scripts over `family`; the sockets are `c` with its reader `cr` in the client and `s` with
/// `sr` in the server, the listener `listener`.
pub(crate) fn connect(client: &mut Script, server: &mut Script, family: &str) {
    let place = server.run(&format!("listener, place = listen({family:?}); place")).unwrap();
    client.run(&format!("c = connect({}); cr = Reader(c)", python(&place))).unwrap();
    server.run("s = accept(listener); sr = Reader(s)").unwrap();
}

/// A JSON value as Python writes it.
pub(crate) fn python(value: &Value) -> String {
    format!("json.loads({:?})", value.to_string())
}

/// How one end sends and receives: arguments of `send_all` and of `Reader.message` after the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    pub(crate) send: &'static str,
    pub(crate) receive: &'static str,
}

/// One send, and receives of whatever is there.
pub(crate) const PLAIN: Calls = Calls { send: "'sendto'", receive: "65536, 'recvfrom'" };

/// One exchange over the connection of [`connect`].
pub(crate) fn exchange(
    client: &mut Script,
    server: &mut Script,
    calls: [Calls; 2],
    exchange: &Exchange,
) {
    let [ours, theirs] = calls;
    let Exchange { path, status, request_bytes, response_bytes } = exchange;
    server
        .begin(&format!(
            "sr.message({}); send_all(s, response({status}, {response_bytes}), {})",
            theirs.receive, theirs.send
        ))
        .unwrap();
    client
        .run(&format!(
            "send_all(c, request({path:?}, {request_bytes}), {}); cr.message({}); None",
            ours.send, ours.receive
        ))
        .unwrap();
    server.finish().unwrap();
}
