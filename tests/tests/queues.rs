//! What real client libraries hand over by queues in Redis, and take from them, is told as it was: each job is in one
//! producer's span and, each time that it is worked on, in one consumer's, beneath it; and each says what the program
//! says. Workers that have nothing to do are not told of.

use crate::common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::forest::STAMP_NS;
use common::lab::{Lab, PATIENCE, Tracing};
use common::spans::{Kind, Span};
use serde::Deserialize;
use wirespan_tests::servers::{SECRET, Server};
use wirespan_tests::workloads::{Program, Runtime};
use wirespan_tests::{sys, wait};

/// What a program says that it did with one job.
#[derive(Clone, Debug, Deserialize)]
struct Done {
    did: String,
    queue: String,
    id: String,
    name: String,
    #[serde(default)]
    attempt: i64,
    #[serde(default)]
    failed: bool,
    before: u64,
    after: u64,
}

/// Queues whose jobs, or entries, have a field that is asked for.
const OBJECTS: [&str; 4] = ["bull-q", "bullmq-q", "celery-q", "stream-jp"];

/// A queue, its kind, who sends and who works.
type Route = (&'static str, &'static str, &'static str, &'static str);

const ROUTES: [Route; 12] = [
    ("job", "bull-q", "bull", "bull"),
    ("job", "bullmq-q", "bullmq", "bullmq"),
    ("job", "celery-q", "celery", "celery"),
    ("job", "rq-q", "rq", "rq"),
    ("list", "list-jp", "ioredis", "redis-py"),
    ("list", "list-pj", "redis-py", "ioredis"),
    ("stream", "stream-jp", "ioredis", "redis-py"),
    ("stream", "stream-pj", "redis-py", "ioredis"),
    ("channel", "channel-jp", "ioredis", "redis-py"),
    ("channel", "channel-pj", "redis-py", "ioredis"),
    ("set", "set-jp", "ioredis", "redis-py"),
    ("set", "set-pj", "redis-py", "ioredis"),
];

const CLIENTS: [(Runtime, &str); 6] = [
    (Runtime::Node, "bull"),
    (Runtime::Node, "bullmq"),
    (Runtime::Python, "celery"),
    (Runtime::Python, "rq"),
    (Runtime::Node, "ioredis"),
    (Runtime::Python, "redis-py"),
];

/// Jobs of each queue; the last but one fails, where jobs can.
const COUNT: usize = 8;

/// Commands that only queues are used by here: no span of a database is theirs.
const QUEUES_OWN: [&str; 24] = [
    "BLMOVE",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZPOPMIN",
    "EVAL",
    "EVALSHA",
    "EXEC",
    "HDEL",
    "HGETALL",
    "HSET",
    "LLEN",
    "LMOVE",
    "LPUSH",
    "MULTI",
    "PUBLISH",
    "RPUSH",
    "SETEX",
    "XACK",
    "XADD",
    "XREADGROUP",
    "ZADD",
    "ZREM",
    "ZREVRANGEBYSCORE",
];

fn agent(lab: &Lab, settings: &str) -> Tracing {
    let rule = format!("cmd=*queues.*{}*", lab.path().display());
    let config = lab.path().join("queues.yaml");
    std::fs::write(&config, format!("settings: {{{settings}}}\n")).unwrap();
    lab.agent("agent", &[rule], &[&format!("--config={}", config.display())])
}

/// A program, once it is traced.
fn program(
    lab: &Lab,
    server: &Server,
    tracing: &Tracing,
    (runtime, name): (Runtime, &str),
) -> Program {
    let program = lab.installed.queues(runtime, name, server, lab.path()).unwrap();
    wait::until("the program is traced", PATIENCE, || {
        let pid = i32::try_from(program.pid())?;
        Ok(tracing.status().processes.iter().any(|it| it.pid == pid).then_some(()))
    })
    .unwrap();
    program
}

fn start(lab: &Lab, server: &Server) -> (Tracing, BTreeMap<&'static str, Program>) {
    let tracing = agent(lab, "span_attributes: [{name: workflow.id, json: /workflow/id}]");
    let programs = CLIENTS.map(|client| (client.1, program(lab, server, &tracing, client)));
    (tracing, programs.into())
}

fn told(program: &mut Program, words: &str) -> Vec<Done> {
    let lines = program.run(words).unwrap();
    lines.into_iter().map(|line| serde_json::from_value(line).unwrap()).collect()
}

/// Everything is sent and worked on.
fn run(programs: &mut BTreeMap<&'static str, Program>) -> Vec<Done> {
    let mut done = Vec::new();
    for (kind, queue, _, worker) in ROUTES {
        told(programs.get_mut(worker).unwrap(), &format!("work {kind} {queue}"));
    }
    for (kind, queue, sender, worker) in ROUTES {
        let sends = format!("send {kind} {queue} {COUNT}");
        done.extend(told(programs.get_mut(sender).unwrap(), &sends));
        // The one that fails is tried again, but for those of RQ; Celery's worker sends it anew.
        let again = match sender {
            "bull" | "bullmq" => 1,
            "celery" => 2,
            _ => 0,
        };
        let awaits = format!("await {}", COUNT + again);
        done.extend(told(programs.get_mut(worker).unwrap(), &awaits));
    }
    done
}

/// How a span and what was done for it are called alike.
type Key = (String, String, String, String, i64, bool);

fn key_of_span(span: &Span) -> Key {
    let text = |key: &str| span.text(key).unwrap_or_default().to_owned();
    let sends = span.kind == Kind::Producer;
    let id = text("messaging.message.id");
    let attempt = span.int("wirespan.job.attempt").unwrap_or(0);
    let did = if sends { "send" } else { "work" }.to_owned();
    let queue = text("messaging.destination.name");
    (did, queue, id, text("wirespan.job.name"), attempt, span.error.is_some())
}

fn key_of_done(done: &Done) -> Key {
    let Done { did, queue, id, name, attempt, failed, .. } = done.clone();
    (did, queue, id, name, attempt, failed)
}

#[test]
fn each_job_is_in_one_span_of_its_sender_and_of_its_worker_and_idle_workers_in_none() {
    idle_for(Duration::from_secs(5));
}

#[test]
#[ignore = "long: a minute of idleness"]
fn workers_that_are_idle_for_a_minute_are_not_told_of() {
    idle_for(Duration::from_secs(60));
}

fn idle_for(idle: Duration) {
    let lab = Lab::new();
    let server = Server::redis(&lab.path().join("redis")).unwrap();
    let (tracing, mut programs) = start(&lab, &server);
    let done = run(&mut programs);
    // What a worker sends while it works is held until it is known for which job.
    let all = wait::until("all is told", PATIENCE, || {
        let is_told = |span: &&Span| matches!(span.kind, Kind::Producer | Kind::Consumer);
        let told = tracing.spans().iter().filter(is_told).count();
        Ok((told >= done.len()).then_some(()))
    });
    if let Err(error) = all {
        let differences = differences(&tracing.spans(), &done);
        let status = tracing.status();
        let missed: Vec<_> = status.hooks.iter().filter(|hook| hook.missed > 0).collect();
        panic!("{error}: {differences:#?}, {:#?}, {:#?}, {missed:?}", status.calls, status.total);
    }
    let began = sys::realtime_ns();
    let until = began + u64::try_from(idle.as_nanos()).unwrap();
    wait::until("the workers were idle", PATIENCE + idle, || {
        Ok((sys::realtime_ns() >= until).then_some(()))
    })
    .unwrap();
    let spans = tracing.spans();
    let idle: Vec<&Span> = spans.iter().filter(|span| span.start_ns > began).collect();
    assert!(idle.is_empty(), "of workers that had nothing to do: {idle:#?}");

    let queues: Vec<&Span> =
        spans.iter().filter(|span| matches!(span.kind, Kind::Producer | Kind::Consumer)).collect();
    let counts = differences(&spans, &done);
    assert!(counts.is_empty(), "more (+) or fewer (-) spans than jobs: {counts:#?}");
    let others = spans.iter().filter(|span| QUEUES_OWN.contains(&&*span.name));
    let others: Vec<&Span> = others.collect();
    assert!(others.is_empty(), "told as commands: {others:#?}");

    for (kind, queue, sender, _) in ROUTES {
        let of_queue = |kind: Kind| {
            let its =
                queues.iter().filter(|span| span.text("messaging.destination.name") == Some(queue));
            let mut its: Vec<&Span> = its.filter(|span| span.kind == kind).copied().collect();
            its.sort_by_key(|span| span.start_ns);
            its
        };
        let (sent, worked) = (of_queue(Kind::Producer), of_queue(Kind::Consumer));
        let system = if kind == "job" { sender } else { "redis" };
        for span in sent.iter().chain(&worked) {
            assert_eq!(span.text("messaging.system"), Some(system), "{span:?}");
        }
        joined(&sent, &worked);
        for span in sent.iter().chain(&worked) {
            let lifted = span.text("workflow.id").is_some_and(|id| id.starts_with("w-"));
            assert_eq!(lifted, OBJECTS.contains(&queue), "{span:?}");
        }
        let of_done = |did: &str| {
            let its = done.iter().filter(|done| done.queue == queue && done.did == did);
            let mut its: Vec<&Done> = its.collect();
            its.sort_by_key(|done| done.before);
            its
        };
        in_time(&sent, &of_done("send"), false);
        in_time(&worked, &of_done("work"), kind == "channel");
    }
    let text = std::fs::read_to_string(&tracing.file).unwrap();
    assert!(!text.contains(SECRET), "a value or a password was exported");
}

/// How many more spans there are of each than jobs.
fn differences(spans: &[Span], done: &[Done]) -> BTreeMap<Key, i64> {
    let mut counts: BTreeMap<Key, i64> = BTreeMap::new();
    let queues = spans.iter().filter(|span| matches!(span.kind, Kind::Producer | Kind::Consumer));
    queues.for_each(|span| *counts.entry(key_of_span(span)).or_default() += 1);
    done.iter().for_each(|done| *counts.entry(key_of_done(done)).or_default() -= 1);
    counts.retain(|_, count| *count != 0);
    counts
}

/// Each time a job is worked on, that is beneath the span that sent it: known by its id, or (where there are none) in
/// order.
fn joined(sent: &[&Span], worked: &[&Span]) {
    for (at, span) in worked.iter().enumerate() {
        let id = span.text("messaging.message.id");
        let attempt = span.int("wirespan.job.attempt").unwrap_or(1).max(1) - 1;
        let same = sent.iter().filter(|sender| sender.text("messaging.message.id") == id);
        let same: Vec<&&Span> = same.collect();
        let sender: &Span = match id {
            None => sent[at],
            // Celery sends anew what it tries again.
            Some(_) => same.get(usize::try_from(attempt).unwrap()).unwrap_or(&same[0]),
        };
        assert_eq!(span.parent.as_deref(), Some(&*sender.id), "{span:?}\nof {sender:?}");
        assert_eq!(span.text("workflow.id"), sender.text("workflow.id"), "{span:?}\nof {sender:?}");
        assert_eq!((&span.trace, span.parent_is_remote), (&sender.trace, false), "{span:?}");
        let waited = span.int("wirespan.message.wait_time_ns").unwrap();
        let apart = span.start_ns.saturating_sub(sender.start_ns).cast_signed();
        assert!((waited - apart).abs() <= STAMP_NS.cast_signed(), "{waited} and {apart} ns");
    }
}

/// A span of a sender lies within what the program says of its call; one of a worker has begun by when the program
/// works on it, and lasts until that is over, but where nothing tells (`instant`).
fn in_time(spans: &[&Span], done: &[&Done], instant: bool) {
    const MILLISECOND: u64 = 1_000_000;
    let mut rest: Vec<&Done> = done.to_vec();
    for span in spans {
        let key = key_of_span(span);
        let found = rest.iter().position(|done| key_of_done(done) == key).unwrap();
        let done = rest.remove(found);
        let context = format!("{span:?}\n{done:?}");
        if span.kind == Kind::Producer {
            assert!(span.start_ns + MILLISECOND >= done.before, "{context}");
            assert!(span.start_ns <= done.after + MILLISECOND, "{context}");
        } else {
            assert!(span.start_ns <= done.before + MILLISECOND, "{context}");
            assert!(instant || span.end_ns + MILLISECOND >= done.after - MILLISECOND, "{context}");
        }
    }
}

#[test]
fn where_links_are_asked_for_work_begins_a_trace_that_is_linked_to_its_sender() {
    let lab = Lab::new();
    let server = Server::redis(&lab.path().join("redis")).unwrap();
    let tracing = agent(&lab, "message_links: true");
    let mut done = 0;
    // One whose handlers the runtime tells apart, one that works in children, one whose worker asks a thread of its own.
    for (client, kind) in [
        ((Runtime::Node, "bullmq"), "job"),
        ((Runtime::Python, "rq"), "job"),
        ((Runtime::Python, "redis-py"), "stream"),
    ] {
        let mut program = program(&lab, &server, &tracing, client);
        let queue = format!("{}-links", client.1);
        told(&mut program, &format!("work {kind} {queue}"));
        done += told(&mut program, &format!("send {kind} {queue} {COUNT}")).len();
        let again = usize::from(client.1 == "bullmq");
        done += told(&mut program, &format!("await {}", COUNT + again)).len();
    }
    let mut queues = Vec::new();
    wait::until("all is told", PATIENCE, || {
        queues = tracing.spans();
        queues.retain(|span| matches!(span.kind, Kind::Producer | Kind::Consumer));
        Ok((queues.len() >= done).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {} of {done}, {queues:#?}", queues.len()));
    let consumers = queues.iter().filter(|span| span.kind == Kind::Consumer);
    for worked in consumers {
        let id = worked.text("messaging.message.id").expect("an id");
        let sender = queues
            .iter()
            .find(|it| it.kind == Kind::Producer && it.text("messaging.message.id") == Some(id));
        let sender = sender.unwrap_or_else(|| panic!("who sent {worked:?}?"));
        assert_eq!(worked.parent, None, "{worked:?}");
        assert_ne!(worked.trace, sender.trace, "{worked:?}");
        assert_eq!(worked.links, [(sender.trace.clone(), sender.id.clone())], "{worked:?}");
        assert!(worked.int("wirespan.message.wait_time_ns").is_some(), "{worked:?}");
    }
}
