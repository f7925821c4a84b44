//! What a program does while it handles a message is under that message's span, and nothing is under another's: with
//! real consumers, whose handlers' calls name the message that they are made for.

use crate::common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use common::forest::STAMP_NS;
use common::lab::{Lab, PATIENCE, Tracing};
use common::spans::{Kind, Span};
use rstest::rstest;
use serde::Deserialize;
use wirespan_tests::broker::Broker;
use wirespan_tests::servers::{PASSWORD, RabbitMq, Server};
use wirespan_tests::wait;
use wirespan_tests::workloads::{Program, Runtime};

/// How long after the settlement a call of the handler is still under its message's span (docs/limitations.md).
const LATE_NS: u64 = 5_000_000_000;

/// A message, as its handler says.
#[derive(Debug, Deserialize)]
struct Handled {
    calls: usize,
}

/// A web server that answers everything, for as long as the test runs.
fn web() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let Ok(mut answers) = stream.try_clone() else { return };
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if line.is_empty() && answers.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Until the calls of this program are told apart as well as they can be.
fn followed(tracing: &Tracing, program: &Program) {
    wait::until("the program is followed", PATIENCE, || {
        let pid = i32::try_from(program.pid())?;
        let status = tracing.status();
        let found = status.processes.iter().find(|process| process.pid == pid);
        Ok(found.filter(|it| it.context.as_deref() == Some("exact")).map(drop))
    })
    .unwrap();
}

/// Until that is so of all programs.
fn all_followed(tracing: &Tracing) {
    wait::until("the workers are followed", PATIENCE, || {
        let status = tracing.status();
        let exact = |context: Option<&str>| context == Some("exact");
        Ok(status.processes.iter().all(|it| exact(it.context.as_deref())).then_some(()))
    })
    .unwrap();
}

/// How a consumer's calls were placed.
#[derive(Debug, Default)]
struct Score {
    right: usize,
    withheld: BTreeMap<String, usize>,
}

/// The calls of a queue's handlers, each held against the message that it names. `named`: what a span's message is.
fn judge(spans: &[Span], queue: &str, named: impl Fn(&Span) -> Vec<String>) -> Score {
    let consumers: BTreeMap<(&str, &str), (&Span, Vec<String>)> = spans
        .iter()
        .filter(|span| span.text("messaging.operation.type") == Some("process"))
        .map(|span| ((&*span.trace, &*span.id), (span, named(span))))
        .collect();
    let mut score = Score::default();
    for call in spans.iter().filter(|span| span.kind == Kind::Client) {
        let Some(path) = call.text("url.full").and_then(|url| url.split_once("/work/")) else {
            continue;
        };
        let message = path.1.split('/').next().unwrap();
        if !message.starts_with(&format!("{queue}-")) {
            continue;
        }
        match (&call.parent, call.withheld()) {
            (Some(parent), _) => {
                let (_, consumer) = &consumers[&(&*call.trace, &**parent)];
                assert!(consumer.iter().any(|it| it == message), "{call:?} under {consumer:?}");
                score.right += 1;
            }
            (None, Some(reason)) => *score.withheld.entry(reason.to_owned()).or_default() += 1,
            // Work that goes on for so long after the settlement is linked to its message.
            (None, None) => {
                let linked =
                    call.links.iter().filter_map(|(trace, id)| consumers.get(&(&**trace, &**id)));
                let mut linked = linked.filter(|(span, consumer)| {
                    let is_late = call.start_ns + STAMP_NS >= span.end_ns + LATE_NS;
                    is_late && consumer.iter().any(|it| it == message)
                });
                let what = "neither a parent nor a reason";
                assert!(linked.next().is_some(), "{what}: {call:?} {:?}", call.links);
                score.right += 1;
            }
        }
    }
    score
}

/// What workers' children ask for when they end is for no job.
fn is_over(spans: &[Span]) {
    let path = |span: &&Span| span.text("url.full").is_some_and(|url| url.ends_with("/over"));
    let over: Vec<_> = spans.iter().filter(|span| span.kind == Kind::Client).filter(path).collect();
    assert!(!over.is_empty());
    for call in over {
        assert_eq!(call.parent, None, "{call:?}");
    }
}

fn handle(program: &mut Program, scenario: &str) -> usize {
    let told = program.run(scenario).unwrap();
    told.into_iter().map(|line| serde_json::from_value::<Handled>(line).unwrap().calls).sum()
}

fn id(span: &Span) -> Vec<String> {
    span.text("messaging.message.id").into_iter().map(str::to_owned).collect()
}

/// Celery's messages over AMQP have no id, but their task's.
fn id_or_task(span: &Span) -> Vec<String> {
    let task = span.text("messaging.message.conversation_id").map(str::to_owned);
    id(span).into_iter().chain(task).collect()
}

#[test]
fn what_a_handler_of_rabbitmqs_messages_does_is_under_its_message() {
    let lab = Lab::new();
    let server = RabbitMq::start(lab.path()).unwrap();
    let rule = format!("cmd=*workers.*{}*", lab.path().display());
    let tracing = lab.agent("agent", &[rule], &[]);
    let mut environment = server.environment();
    environment.push(("WEB_PORT", web().to_string()));
    let mut cells = Vec::new();
    // What publishes without having been asked makes calls of its own.
    let fill = || lab.installed.workers(Runtime::Python, "pika", environment.clone(), lab.path());
    let mut sender = fill().unwrap();
    for (runtime, client, scenarios) in [
        (
            Runtime::Python,
            "pika",
            &["last:200:1:1", "last:200:20:4", "first:100:20:1", "auto:100:1:1"][..],
        ),
        (Runtime::Python, "aio-pika", &["last:100:1:1", "last:200:20:1", "first:100:20:1"]),
        (Runtime::Node, "amqplib", &["last:400:20:1", "first:200:20:1", "auto:200:20:1"]),
    ] {
        let mut program =
            lab.installed.workers(runtime, client, environment.clone(), lab.path()).unwrap();
        followed(&tracing, &program);
        for (number, scenario) in scenarios.iter().enumerate() {
            let (style, numbers) = scenario.split_once(':').unwrap();
            let queue = format!("{client}-{number}");
            let count = numbers.split(':').next().unwrap();
            handle(&mut sender, &format!("fill={queue}:{count}"));
            let calls = handle(&mut program, &format!("{style}={queue}:{numbers}"));
            cells.push((queue, *scenario, calls));
        }
        // The program stays until its notes were read.
        tracing.quiet();
    }
    // In children of a worker's, several messages at once.
    let mut program = lab
        .installed
        .workers(Runtime::Python, "celery-amqp", environment.clone(), lab.path())
        .unwrap();
    handle(&mut program, "work=celery-jobs:prefork:2");
    all_followed(&tracing);
    let calls =
        handle(&mut program, "each=celery-jobs:40 fill=celery-jobs:100 took=celery-jobs:100");
    cells.push(("celery-jobs".to_owned(), "prefork", calls));
    tracing.quiet();
    let spans = tracing.spans();

    is_over(&spans);
    for (queue, scenario, calls) in cells {
        let score = judge(&spans, &queue, id_or_task);
        let withheld: usize = score.withheld.values().sum();
        eprintln!("{queue} {scenario}: {calls} calls, {score:?}");
        assert_eq!(score.right + withheld, calls, "{queue} {scenario}: calls without a span");
        // One that is read when the one before is settled, or a handler that says what it handles.
        if queue.starts_with("amqplib") || scenario == "last:200:1:1" {
            assert_eq!(withheld, 0, "{queue} {scenario}: {score:?}");
        }
        // But for jobs that were begun with before the probe was there.
        if scenario == "prefork" {
            assert!(score.right >= calls / 2, "{queue} {scenario}: {score:?}");
        }
    }
}

#[test]
fn what_a_handler_of_kafkas_messages_does_is_under_its_message() {
    let lab = Lab::new();
    let broker = Broker::start(&lab.installed, lab.path()).unwrap();
    let rule = format!("cmd=*workers.*{}*", lab.path().display());
    let tracing = lab.agent("agent", &[rule], &[]);
    let environment =
        vec![("KAFKA_PORT", broker.port().to_string()), ("WEB_PORT", web().to_string())];
    let mut program =
        lab.installed.workers(Runtime::Node, "kafkajs", environment, lab.path()).unwrap();
    followed(&tracing, &program);
    handle(&mut program, "fill=orders:200");
    let calls = handle(&mut program, "last=orders:200");
    tracing.quiet();
    let spans = tracing.spans();
    // One message after the other was sent to one partition after the other.
    let named = |span: &Span| {
        let partition: i64 =
            span.text("messaging.destination.partition.id").unwrap().parse().unwrap();
        let offset = span.int("messaging.kafka.offset").unwrap();
        vec![format!("orders-{}", 2 * offset + partition)]
    };
    let score = judge(&spans, "orders", named);
    eprintln!("kafkajs: {calls} calls, {score:?}");
    assert_eq!((score.right, score.withheld), (calls, BTreeMap::new()));

    let of = |kind: &str| -> Vec<&Span> {
        spans.iter().filter(|span| span.text("messaging.operation.type") == Some(kind)).collect()
    };
    let senders: BTreeMap<Vec<String>, &Span> =
        of("send").into_iter().map(|span| (named(span), span)).collect();
    let handlers = of("process");
    assert_eq!(handlers.len(), 200);
    for handler in handlers {
        let sender = senders[&named(handler)];
        assert_eq!(handler.kind, Kind::Consumer);
        assert_eq!((&handler.trace, &handler.parent), (&sender.trace, &Some(sender.id.clone())));
        assert!(handler.int("wirespan.message.wait_time_ns").is_some());
    }
}

#[test]
fn what_a_worker_does_for_a_job_is_under_that_job() {
    let lab = Lab::new();
    let server = Server::redis(&lab.path().join("redis")).unwrap();
    let rule = format!("cmd=*workers.*{}*", lab.path().display());
    let tracing = lab.agent("agent", &[rule], &[]);
    let environment = vec![
        ("REDIS_PORT", server.port().to_string()),
        ("REDIS_PASSWORD", PASSWORD.to_owned()),
        ("WEB_PORT", web().to_string()),
    ];
    let start = |runtime, client| {
        lab.installed.workers(runtime, client, environment.clone(), lab.path()).unwrap()
    };
    let mut cells = Vec::new();
    for client in ["bullmq", "bull"] {
        let (mut sender, mut program) =
            (start(Runtime::Node, client), start(Runtime::Node, client));
        followed(&tracing, &program);
        let queue = format!("{client}-q");
        handle(&mut sender, &format!("fill={queue}:400"));
        let calls = handle(&mut program, &format!("last={queue}:400:10"));
        cells.push((queue, calls, calls));
        tracing.quiet();
    }
    // Some jobs one by one, more at once; and how many of a hundred calls have their parent at least. Of Celery's tasks
    // in the worker's own process those of before the acknowledgement have none, which the pool `solo` sends last.
    for (client, pool, size, each, count, right) in [
        ("celery", "solo", 1, 0, 100, 0),
        ("celery", "threads", 2, 40, 100, 0),
        ("celery", "prefork", 2, 40, 100, 50),
        ("celery", "late", 2, 40, 100, 50),
        ("rq", "fork", 1, 0, 24, 100),
        ("rq", "simple", 1, 0, 60, 100),
    ] {
        let mut program = start(Runtime::Python, client);
        let queue = format!("{client}-{pool}");
        handle(&mut program, &format!("work={queue}:{pool}:{size}"));
        all_followed(&tracing);
        let words = format!("each={queue}:{each} fill={queue}:{count} took={queue}:{count}");
        let calls = handle(&mut program, &words);
        cells.push((queue, calls, calls * right / 100));
    }
    tracing.quiet();
    let spans = tracing.spans();
    is_over(&spans);
    for (queue, calls, right) in cells {
        let score = judge(&spans, &queue, id);
        let withheld: usize = score.withheld.values().sum();
        eprintln!("{queue}: {calls} calls, {score:?}");
        assert_eq!(score.right + withheld, calls, "{queue}: calls without a span");
        assert!(score.right >= right, "{queue}: {score:?}");
    }
}

/// As many as `cargo xtask accuracy` has in a cell.
#[rstest]
#[ignore = "long: 15,000 jobs, with up to three calls each"]
#[case::redis("celery", "prefork")]
#[ignore = "long: as the one before"]
#[case::acknowledged_late("celery", "late")]
#[ignore = "long: as the one before"]
#[case::amqp("celery-amqp", "prefork")]
fn of_thousands_of_celerys_jobs_no_call_is_under_another_job(
    #[case] client: &str,
    #[case] pool: &str,
) {
    const JOBS: usize = 15_000;
    let lab = Lab::new();
    let mut environment = vec![("WEB_PORT", web().to_string())];
    let (redis, rabbitmq);
    if client == "celery" {
        redis = Server::redis(&lab.path().join("redis")).unwrap();
        environment.push(("REDIS_PORT", redis.port().to_string()));
        environment.push(("REDIS_PASSWORD", PASSWORD.to_owned()));
    } else {
        rabbitmq = RabbitMq::start(lab.path()).unwrap();
        environment.extend(rabbitmq.environment());
    }
    let rule = format!("cmd=*workers.*{}*", lab.path().display());
    let tracing = lab.agent("agent", &[rule], &[]);
    let mut program =
        lab.installed.workers(Runtime::Python, client, environment, lab.path()).unwrap();
    handle(&mut program, &format!("work=jobs:{pool}:4"));
    all_followed(&tracing);
    let calls = handle(&mut program, &format!("each=jobs:40 fill=jobs:{JOBS} took=jobs:{JOBS}"));
    let status = tracing.quiet();
    assert_eq!(status.total.kernel.operations_dropped, 0, "an agent that keeps up is needed");
    let spans = tracing.spans();
    is_over(&spans);
    let score = judge(&spans, "jobs", id_or_task);
    let withheld: usize = score.withheld.values().sum();
    eprintln!("{client} {pool}: {calls} calls, {score:?}");
    assert!(calls >= 20_000, "{calls}");
    assert_eq!(score.right + withheld, calls, "calls without a span");
    // Those that were begun with before the probe was there are withheld.
    assert!(withheld * 1_000 <= calls, "{score:?}");
}

/// A queue of the application's own making.
const THUMBNAILS: &str = "
settings:
  queues:
    - name: thumbnails
      submit: {command: HSET, key: 'thumb:*', id: key}
      claim: {command: HGETALL, key: 'thumb:*', id: key}
      done: {command: DEL, key: 'thumb:*', id: key}
      context: traceparent
";

#[test]
fn a_job_goes_on_with_the_trace_that_its_untraced_sender_put_into_it() {
    const COUNT: usize = 20;
    let lab = Lab::new();
    let server = Server::redis(&lab.path().join("redis")).unwrap();
    let (traced, untraced) = (lab.path().join("traced"), lab.path().join("untraced"));
    let config = lab.path().join("wirespan.yaml");
    std::fs::write(&config, THUMBNAILS).unwrap();
    [&traced, &untraced].into_iter().for_each(|it| std::fs::create_dir(it).unwrap());
    let rule = format!("cmd=*workers.*{}*", traced.display());
    let tracing = lab.agent("agent", &[rule], &[&format!("--config={}", config.display())]);
    let environment = vec![
        ("REDIS_PORT", server.port().to_string()),
        ("REDIS_PASSWORD", PASSWORD.to_owned()),
        ("WEB_PORT", web().to_string()),
        ("TELEMETRY", "1".to_owned()),
    ];
    let mut cells = Vec::new();
    for (runtime, client) in [(Runtime::Node, "bullmq"), (Runtime::Python, "own")] {
        let start = |directory| {
            lab.installed.workers(runtime, client, environment.clone(), directory).unwrap()
        };
        let (mut sender, mut program) = (start(&untraced), start(&traced));
        followed(&tracing, &program);
        let queue = format!("{client}-q");
        handle(&mut sender, &format!("fill={queue}:{COUNT}"));
        let calls = handle(&mut program, &format!("last={queue}:{COUNT}:4:1"));
        cells.push((queue, calls));
        tracing.quiet();
    }
    let spans = tracing.spans();
    for (queue, calls) in cells {
        let score = judge(&spans, &queue, id);
        assert_eq!((score.right, score.withheld), (calls, BTreeMap::new()), "{queue}");
        let mut jobs = 0;
        for job in spans.iter().filter(|span| span.kind == Kind::Consumer) {
            let Some(number) = id(job)[0].strip_prefix(&format!("{queue}-")).map(str::to_owned)
            else {
                continue;
            };
            let sent = number.parse::<u64>().unwrap() + 1;
            let context = (format!("{sent:032x}"), Some(format!("{sent:016x}")), true);
            assert_eq!((job.trace.clone(), job.parent.clone(), job.parent_is_remote), context);
            jobs += 1;
        }
        assert_eq!(jobs, COUNT, "{queue}");
    }
}
