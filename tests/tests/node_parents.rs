//! Node.js: every call is under the request that caused it, however many are in flight.

use crate::common;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use common::forest::Forest;
use common::lab::{Lab, PATIENCE, Tracing, gets, load, rule};
use common::spans::{Kind, Span};
use wirespan_tests::load::Request;
use wirespan_tests::servers::Servers;
use wirespan_tests::wait;
use wirespan_tests::workloads::Service;

const IN_FLIGHT: usize = 20;

/// Waits until every process that the agent traces is told apart by its runtime's tasks.
pub(crate) fn exact(tracing: &Tracing, processes: usize) {
    let mut last = Vec::new();
    let exact = wait::until("the processes are assisted", PATIENCE, || {
        last = tracing.status().processes.into_iter().map(|process| process.context).collect();
        let exact = last.iter().filter(|context| context.as_deref() == Some("exact")).count();
        Ok((exact >= processes).then_some(()))
    });
    exact.unwrap_or_else(|error| panic!("{error}: {last:?}"));
}

/// The request that a span carries the number of: in the path, a Redis key, or an alias in SQL.
fn carried(span: &Span) -> Option<u64> {
    let query = span.text("db.query.text").unwrap_or_default();
    for mark in ["rid:", "rid_"] {
        if let Some((_, rest)) = query.split_once(mark) {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            return rest[..end].parse().ok();
        }
    }
    span.number()
}

/// Of client calls, by what they are: how many, how many under their request, how many under none.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    all: u64,
    right: u64,
    wrong: u64,
}

/// What a service's client spans say of their parents. Calls that carry no number (BEGIN, MULTI) count as right
/// when they have a parent at all.
fn score(spans: &[Span], service: &str) -> BTreeMap<String, Score> {
    let by_id: HashMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    for span in spans.iter().filter(|span| span.service == service && span.kind == Kind::Client) {
        let system = span.text("db.system.name").unwrap_or("http");
        let name = span.name.split(' ').next().unwrap_or_default();
        // What ioredis and postgres ask when they connect.
        if name == "INFO" || span.name.contains("pg_catalog") {
            continue;
        }
        let score = scores.entry(format!("{system} {name}")).or_default();
        score.all += 1;
        let parent = span.parent.as_deref().map(|parent| by_id[parent]);
        match parent.map(|parent| (carried(span), parent.number())) {
            None => {}
            Some((None, _)) => score.right += 1,
            Some((here, above)) if here == above => score.right += 1,
            Some(_) => score.wrong += 1,
        }
    }
    scores
}

/// None wrong, and at least `per_mille` right of each kind.
fn judge(scores: &BTreeMap<String, Score>, per_mille: u64) {
    eprintln!("{scores:#?}");
    assert!(!scores.is_empty(), "no calls");
    for (kind, score) in scores {
        assert_eq!(score.wrong, 0, "{kind}");
        assert!(score.right * 1000 >= score.all * per_mille, "{kind}: {score:?}");
    }
}

fn requests(method: &str, path: &str, first: usize, count: usize) -> Vec<Request> {
    let request = |id: usize| {
        let mut request = Request::get(id.to_string(), format!("{path}/{id}"));
        request.method = method.to_owned();
        request
    };
    (first..first + count).map(request).collect()
}

fn prices(lab: &Lab) -> Service {
    lab.installed.plain("prices").unwrap().start(lab.path()).unwrap()
}

fn logs(lab: &Lab) -> &Path {
    lab.path()
}

#[test]
fn an_express_application_with_every_kind_of_call() {
    let lab = Lab::new();
    let servers = Servers::start(lab.path()).unwrap();
    let prices = prices(&lab);
    // A connection to Redis is understood from its beginning on: the agent is first.
    let tracing = lab.agent("agent", &["cmd=*parents.js*".to_owned()], &[]);
    let calls = "http fetch post later pg pg-callback pg-transaction knex postgres postgres-tagged \
                 postgres-begin ioredis ioredis-pipeline ioredis-auto redis redis-multi";
    let front = lab.installed.parents("front").unwrap().servers(&servers).upstream(&prices);
    let front = front.env("OTEL_SERVICE_NAME", "front").env("CALLS", calls);
    let front = front.start(logs(&lab)).unwrap();
    exact(&tracing, 1);
    for (method, path, first, count) in [
        ("GET", "/each", 1, 300),
        ("GET", "/together", 1_001, 200),
        ("GET", "/stream", 2_001, 100),
        ("POST", "/body", 3_001, 100),
    ] {
        load(&front, IN_FLIGHT, &requests(method, path, first, count));
    }
    let status = tracing.quiet();
    let scores = score(&tracing.spans(), "front");
    judge(&scores, 1000);
    let calls: u64 = scores.values().map(|score| score.all).sum();
    // http, fetch, post, later, pg, pg-callback with its own http, a transaction, knex; postgres alone, three at
    // once and in a transaction; GET, GET and SET, GET, GET, GET and SET between MULTI and EXEC.
    assert!(calls >= 700 * (4 + 1 + 3 + 3 + 1 + (1 + 3 + 4) + 9), "{calls}: {scores:#?}");
    assert_eq!((status.node.notes_lost, status.node.contradictions), (0, 0));
    let process = status.processes.iter().find(|process| process.service == "front").unwrap();
    for name in ["http", "undici", "pg", "pg-pool", "ioredis", "redis", "postgres"] {
        assert!(process.bindings.iter().any(|binding| binding == name), "{:?}", process.bindings);
    }
}

#[test]
fn what_is_under_way_when_the_assist_comes_is_withheld() {
    let lab = Lab::new();
    let prices = prices(&lab);
    let front = lab.installed.parents("front").unwrap().upstream(&prices);
    let front = front.env("OTEL_SERVICE_NAME", "front").start(logs(&lab)).unwrap();
    let tracing = lab.agent("agent", &[rule(&front)], &[]);
    // Under load from before until well after.
    let mut first = 1;
    let assisted =
        || tracing.status().processes.iter().all(|p| p.context.as_deref() == Some("exact"));
    while !assisted() {
        load(&front, IN_FLIGHT, &requests("GET", "/each", first, 50));
        first += 50;
    }
    load(&front, IN_FLIGHT, &requests("GET", "/each", 100_001, 400));
    tracing.quiet();
    let spans = tracing.spans();
    let all = score(&spans, "front");
    judge(&all, 0);
    // Those that began when it was there.
    let later: Vec<Span> = spans
        .into_iter()
        .filter(|span| span.number().is_some_and(|number| number > 100_000))
        .collect();
    judge(&score(&later, "front"), 1000);
}

/// Answers, and asks for the price when the response is long over.
const LATE: &str = r"
const http = require('node:http');
const { PORT, UPSTREAM } = process.env;
http.createServer((req, res) => {
  const number = req.url.split('?')[0].split('/').pop();
  setTimeout(() => http.get(`${UPSTREAM}/prices/${number}`, (answer) => answer.resume()), 6_000);
  res.end('later');
}).listen(Number(PORT), '127.0.0.1');
";

#[test]
fn what_comes_long_after_the_response_is_a_trace_of_its_own_linked_to_the_request() {
    let lab = Lab::new();
    let prices = prices(&lab);
    let front = lab.installed.text("late", LATE).unwrap().upstream(&prices);
    let front = front.env("OTEL_SERVICE_NAME", "late").start(logs(&lab)).unwrap();
    let tracing = lab.agent("agent", &[rule(&front)], &[]);
    exact(&tracing, 1);
    load(&front, IN_FLIGHT, &gets("/late", 1, 2 * IN_FLIGHT));
    // Looking whether it listens made a request, and so a late call, too.
    let own = |span: &&Span| span.number().is_some();
    let forest = wait::until("all late calls are over", PATIENCE, || {
        let spans = tracing.spans();
        let late = spans.iter().filter(|span| span.kind == Kind::Client).filter(own).count();
        Ok((late == 2 * IN_FLIGHT).then(|| Forest::new(spans)))
    })
    .unwrap();
    for call in forest.of("late", Kind::Client).filter(own) {
        let mut requests = forest.of("late", Kind::Server).filter(|r| r.number() == call.number());
        let request = requests.next().unwrap();
        assert_eq!(call.links, [(request.trace.clone(), request.id.clone())], "{call:?}");
        assert_eq!((&call.parent, call.withheld()), (&None, None), "{call:?}");
        assert_ne!(call.trace, request.trace);
    }
}
