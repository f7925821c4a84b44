//! The agent can go at any moment: nothing of it stays in the kernel, no application notices, and the next
//! one goes on. Told to go, it first delivers what it knows.

use crate::common;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::thread;

use common::kernel::{existing, held, pinned};
use common::lab::{Lab, PATIENCE, Stop, Tracing, distinct, gets, load, rule};
use common::spans::{self, Kind};
use wirespan_tests::load::{self as loading, Plan, Report};
use wirespan_tests::sys::BpfObject;
use wirespan_tests::wait;
use wirespan_tests::workloads::{Service, Worker};

/// A front and what it asks, both traced, on two runtimes.
fn services(lab: &Lab) -> (Service, Service) {
    let prices = lab.installed.plain("prices").unwrap().env("OTEL_SERVICE_NAME", "prices");
    let prices = prices.start(lab.path()).unwrap();
    let front = lab.installed.flask("front", Worker::Gthread(4), 1).unwrap().upstream(&prices);
    (front.env("OTEL_SERVICE_NAME", "front").start(lab.path()).unwrap(), prices)
}

/// A load on `front` while `work` is done; then what became of it. At least `least` requests.
fn under_load(front: &Service, least: usize, work: impl FnOnce()) -> Report {
    let requests = gets("/api/orders", 1, 200_000);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = Stop(&stop);
        let load = scope.spawn(|| loading::run(&Plan::new(front.address(), 4), &requests, &stop));
        work();
        let asked = |service: &Service| {
            let counts = service.counts().unwrap();
            counts["requests"]["GET /api/orders/<int:order>"]["requests"].as_u64().unwrap_or(0)
        };
        let enough = wait::until("enough requests were answered", PATIENCE, || {
            Ok((asked(front) >= least as u64).then_some(()))
        });
        drop(stopping);
        enough.unwrap();
        load.join().unwrap()
    })
}

fn spans_come(tracing: &Tracing) {
    wait::until(
        "spans are delivered",
        PATIENCE,
        || Ok((!tracing.spans().is_empty()).then_some(())),
    )
    .unwrap();
}

fn all_answered(report: &Report) -> usize {
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.outcomes.iter().all(|outcome| outcome.status == 200));
    report.outcomes.len()
}

#[test]
fn killed_under_load_it_leaves_nothing_and_nobody_notices() {
    let lab = Lab::new();
    let (front, prices) = services(&lab);
    let rules = [rule(&front), rule(&prices)];
    let (files, mut first) = (pinned(), lab.agent("agent", &rules, &[]));
    let objects = held(first.agent.pid());
    let kinds: BTreeSet<BpfObject> = objects.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 3, "programs, maps and links: {objects:?}");
    assert_eq!(existing(&objects), objects);

    let mut second = None;
    let report = under_load(&front, 1_000, || {
        spans_come(&first);
        first.agent.kill().unwrap();
        // The kernel frees them once nothing runs in them any more.
        wait::until("its kernel objects are gone", PATIENCE, || {
            Ok(existing(&objects).is_empty().then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}", existing(&objects)));
        assert!(first.agent.socket().exists(), "it had no chance to remove its socket");
        // The next one, in the place of the first.
        let next = lab.agent("agent", &rules, &[]);
        let delivered = next.spans().len();
        wait::until("the next one delivers", PATIENCE, || {
            Ok((next.spans().len() > delivered + 100).then_some(()))
        })
        .unwrap();
        second = Some(next);
    });
    let answered = all_answered(&report);
    eprintln!("{answered} requests answered, none failed; {} kernel objects gone", objects.len());
    let second = second.unwrap();
    second.quiet();

    // Killed without load too, and nothing is left by either.
    let mut second = second;
    let objects = held(second.agent.pid());
    second.agent.kill().unwrap();
    wait::until("its kernel objects are gone", PATIENCE, || {
        Ok(existing(&objects).is_empty().then_some(()))
    })
    .unwrap();
    assert_eq!(pinned(), files);
}

#[test]
fn what_was_asked_after_a_restart_is_traced_whole() {
    let lab = Lab::new();
    let (front, prices) = services(&lab);
    let mut first = lab.trace(&[&front, &prices]);
    load(&front, 1, &gets("/api/orders", 1, 20));
    first.forest_of(60);
    first.agent.kill().unwrap();
    let second = lab.agent("second", &[rule(&front), rule(&prices)], &[]);
    load(&front, 1, &gets("/api/orders", 21, 20));
    let forest = second.forest_of(60);
    // The connection between the two is older than the second agent.
    assert_eq!(forest.traces().len(), 20);
    let numbers = distinct(forest.of("prices", Kind::Server).map(|span| span.number().unwrap()));
    assert_eq!(numbers, (21..41).collect());
}

#[test]
fn a_second_one_beside_it_is_refused() {
    let lab = Lab::new();
    let (front, prices) = services(&lab);
    let first = lab.trace(&[&front, &prices]);
    let socket = first.agent.socket().to_str().unwrap();
    let output = std::process::Command::new(wirespan_tests::agent::binary())
        .args(["run", "--allow", &rule(&front), "--control-socket", socket, "--export=console"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("another agent runs") && said.contains(socket), "{said}");
    // The first is not disturbed.
    load(&front, 1, &gets("/api/orders", 1, 10));
    first.forest_of(30);
}

#[test]
fn told_to_end_it_first_delivers_all_that_was_asked_before() {
    let lab = Lab::new();
    let (front, prices) = services(&lab);
    let mut tracing = lab.trace(&[&front, &prices]);
    let objects = held(tracing.agent.pid());
    let report = loading::run(
        &Plan::new(front.address(), 4),
        &gets("/api/orders", 1, 400),
        &AtomicBool::new(false),
    );
    assert_eq!(all_answered(&report), 400);
    // At once: nothing of the last second is decided yet.
    let socket = tracing.agent.socket().to_owned();
    assert!(tracing.agent.terminate(PATIENCE).unwrap().success());
    let delivered = spans::read(&tracing.file);
    assert_eq!(delivered.len(), 3 * 400);
    let numbers = distinct(delivered.iter().map(|span| span.number().unwrap()));
    assert_eq!(numbers, (1..=400).collect());
    assert!(!socket.exists());
    wait::until("its kernel objects are gone", PATIENCE, || {
        Ok(existing(&objects).is_empty().then_some(()))
    })
    .unwrap();
}
