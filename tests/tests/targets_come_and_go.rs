//! Processes start, fork, execute something else and die while the agent runs: who is allowed is traced
//! from its first request, and what those who left did stays in the books.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;

use common::capture::{Bench, unique};
use common::forest::Forest;
use common::lab::{Lab, PATIENCE, Stop, Tracing, distinct, gets, load, rule};
use common::spans::Kind;
use wirespan::books::ProcessStatus;
use wirespan_tests::load::{self as loading, Plan};
use wirespan_tests::workloads::{Service, Spec, Worker};
use wirespan_tests::{sys, wait};

use crate::diagnosis::asked;

const SCRIPT: &str = "comes_and_goes.py";

/// Waits until exactly these processes are traced.
fn traces(tracing: &Tracing, pids: &[u32]) {
    let wanted: BTreeSet<u32> = distinct(pids.iter().copied());
    let mut seen = BTreeSet::new();
    let found = wait::until("exactly those processes are traced", PATIENCE, || {
        let status = tracing.status();
        seen = distinct(status.processes.iter().map(|process| process.pid.cast_unsigned()));
        Ok((seen == wanted).then_some(()))
    });
    found.unwrap_or_else(|error| panic!("{error}: {seen:?}, not {wanted:?}"));
}

fn node(lab: &Lab, name: &str) -> Spec {
    lab.installed.plain(name).unwrap().env("OTEL_SERVICE_NAME", name)
}

#[test]
fn a_killed_service_is_traced_again_when_it_is_back() {
    let lab = Lab::new();
    let spec = node(&lab, "node");
    let mut service = spec.clone().start(lab.path()).unwrap();
    let tracing = lab.trace(&[&service]);
    for round in 0..3 {
        traces(&tracing, &service.pids().unwrap());
        load(&service, 2, &gets("/prices", 1 + 50 * round, 50));
        drop(service);
        traces(&tracing, &[]);
        service = spec.clone().start(lab.path()).unwrap();
    }
    // Health checks of the ones that were started under the agent's eyes are requests like others.
    let status = tracing.quiet();
    let forest = Forest::new(tracing.spans());
    let asked: Vec<u64> = forest.spans.iter().filter_map(|span| span.number()).collect();
    assert_eq!((asked.len(), distinct(asked)), (150, (1..=150).collect()));
    assert_eq!(forest.spans.len() as u64, status.spans);
    assert_eq!(status.departed.agent.calls_spans + status_now(&tracing), status.spans);
    assert!(status.departed.kernel.operations_seen >= 300, "{:?}", status.departed);
}

/// Spans of the processes that are there.
fn status_now(tracing: &Tracing) -> u64 {
    tracing.status().processes.iter().map(|process| process.agent.calls_spans).sum()
}

/// Workers that a running gunicorn has now, other than `than`.
fn workers(service: &Service, count: usize, than: Option<u32>) -> Vec<u32> {
    wait::until("that many workers run", PATIENCE, || {
        let workers = service.workers()?;
        Ok((workers.len() == count && !workers.contains(&than.unwrap_or(0))).then_some(workers))
    })
    .unwrap()
}

#[test]
fn workers_that_are_forked_and_killed_under_load_are_traced_all_along() {
    let lab = Lab::new();
    let prices = node(&lab, "prices").start(lab.path()).unwrap();
    let flask = lab.installed.flask("flask", Worker::Sync, 2).unwrap().upstream(&prices);
    let flask = flask.env("OTEL_SERVICE_NAME", "flask").start(lab.path()).unwrap();
    let tracing = lab.trace(&[&flask, &prices]);
    let stop = AtomicBool::new(false);
    let requests = gets("/api/orders", 1, 100_000);
    let report = thread::scope(|scope| {
        let stopping = Stop(&stop);
        let load = scope.spawn(|| loading::run(&Plan::new(flask.address(), 4), &requests, &stop));
        // Two more, then one dies and is replaced.
        for count in 3..=4 {
            sys::kill(flask.pid(), libc::SIGTTIN).unwrap();
            workers(&flask, count, None);
        }
        let killed = flask.workers().unwrap()[0];
        sys::kill(killed, libc::SIGKILL).unwrap();
        // A worker that was forked just now has yet to load its application.
        let all = workers(&flask, 4, Some(killed));
        wait::until("each of them has served", PATIENCE, || {
            let served: BTreeSet<u32> = tracing
                .status()
                .processes
                .iter()
                .filter(|process| process.agent.calls_spans > 0)
                .map(|process| process.pid.cast_unsigned())
                .collect();
            Ok(all.iter().all(|pid| served.contains(pid)).then_some(()))
        })
        .unwrap();
        drop(stopping);
        load.join().unwrap()
    });
    assert!(report.failures.len() <= 4, "{:?}", report.failures);
    let mut pids = flask.pids().unwrap();
    pids.extend(prices.pids().unwrap());
    traces(&tracing, &pids);

    let forest = tracing.forest();
    let mut served: BTreeMap<u64, usize> = BTreeMap::new();
    for span in forest.of("flask", Kind::Server).filter(|span| span.status() == Some(200)) {
        *served.entry(span.number().unwrap()).or_default() += 1;
    }
    for outcome in &report.outcomes {
        let number = outcome.id.parse().unwrap();
        assert_eq!(served.get(&number), Some(&1), "{} (of {served:?})", outcome.path);
    }
    // One request at a time in each process: every call has its parent.
    for span in forest.of("flask", Kind::Client) {
        assert!(span.parent.is_some(), "{span:?}");
    }
    let processes = distinct(
        forest.of("flask", Kind::Server).map(|span| format!("{:?}", span.resource["process.pid"])),
    );
    assert!(processes.len() >= 4, "{processes:?}");
    eprintln!(
        "{} answered, {} failed with the killed worker, {} processes served",
        report.outcomes.len(),
        report.failures.len(),
        processes.len()
    );
}

#[test]
fn the_books_of_the_departed_are_kept() {
    let lab = Lab::new();
    let service = node(&lab, "node").start(lab.path()).unwrap();
    // What the assist says to the process is in the kernel's books, whenever it comes.
    let tracing = lab.agent("agent", &[rule(&service)], &["--no-node-assist"]);
    load(&service, 4, &gets("/prices", 1, 200));
    tracing.forest_of(200);
    let before = tracing.quiet();
    drop(service);
    traces(&tracing, &[]);
    let after = tracing.quiet();
    assert_eq!(after.processes, []);
    assert_eq!(after.total.kernel, before.total.kernel);
    assert_eq!(after.departed.kernel, before.total.kernel);
    assert_eq!(after.departed.agent, before.total.agent);
}

fn python(lab: &Lab, arguments: &[&str]) -> Spec {
    let mut all = vec![SCRIPT];
    all.extend(arguments);
    lab.installed.python("python", &all).unwrap().env("OTEL_SERVICE_NAME", "python")
}

#[test]
fn one_that_executes_another_program_is_looked_at_anew() {
    let lab = Lab::new();
    let service = python(&lab, &["serve"]).start(lab.path()).unwrap();
    let tracing = lab.trace(&[&service]);
    load_each(&service, "/first", 1, 10);
    // Itself again: the port is listened on anew.
    load_each(&service, "/exec/again", 100, 1);
    wait::until("it listens again", PATIENCE, || {
        Ok(service.output()?.contains("listening again").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", service.output().unwrap()));
    // Either the agent saw that it listened on nothing for a moment, let it go and found it again, or it came when all
    // was as before, and never let it go. The books don't tell: those of the one that was let go stay for a while.
    let pid = service.pid().to_string();
    let mut last = None;
    wait::until("it is traced again", PATIENCE, || {
        let (code, answer) = asked(&tracing, &["explain", &pid]);
        last = Some(answer);
        Ok((code == Some(0)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {last:#?}"));
    load_each(&service, "/second", 11, 10);
    load_each(&service, "/exec/sleep", 200, 1);
    traces(&tracing, &[]);
    assert!(service.is_running().unwrap(), "it sleeps");
    let forest = tracing.forest();
    let numbers = distinct(forest.spans.iter().filter_map(|span| span.number()));
    let expected: BTreeSet<u64> = (1..=20).chain([100, 200]).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn one_that_executes_another_runtime_is_followed_by_that() {
    let lab = Lab::new();
    let next = sources().with_file_name("node").join("plain.js");
    let spec = python(&lab, &["serve"]).env("NEXT", next.display().to_string());
    let service = spec.start(lab.path()).unwrap();
    let tracing = lab.trace(&[&service]);
    load_each(&service, "/first", 1, 1);
    load_each(&service, "/exec/node", 2, 1);
    let mut last = None;
    wait::until("Node.js's assist follows it", PATIENCE, || {
        last = tracing.status().processes.pop();
        let exact = |known: &ProcessStatus| known.context.as_deref() == Some("exact");
        Ok(last.as_ref().is_some_and(|p| p.runtime.starts_with("node ") && exact(p)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {last:#?}"));
    load(&service, 1, &gets("/prices", 3, 1));
    let numbers = distinct(tracing.forest().spans.iter().filter_map(|span| span.number()));
    assert_eq!(numbers, (1..=3).collect());
}

/// One connection for each: this server keeps none.
fn load_each(service: &Service, path: &str, first: usize, count: usize) {
    let plan = Plan { keep_alive: false, ..Plan::new(service.address(), 1) };
    let report = loading::run(&plan, &gets(path, first, count), &AtomicBool::new(false));
    let answered = report.all_ok();
    let answered = answered.unwrap_or_else(|e| panic!("{e:#}: {}", service.output().unwrap()));
    assert_eq!(answered.len(), count);
}

/// The script as a program of its own.
fn command(lab: &Lab, sources: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(lab.installed.venv_program("python"));
    command.arg(sources.join(SCRIPT)).args(arguments).env("OTEL_SERVICE_NAME", "python");
    command
}

/// Runs it to its end.
fn run(lab: &Lab, sources: &Path, arguments: &[&str]) {
    let status = command(lab, sources, arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

fn sources() -> std::path::PathBuf {
    wirespan_tests::workloads::root().join("tests/workloads/python")
}

/// Waits until that many requests were served.
fn served(tracing: &Tracing, count: usize) {
    wait::until("every request was served", PATIENCE, || {
        let spans = tracing.spans();
        let served = spans.iter().filter(|s| s.kind == Kind::Server && s.number().is_some());
        Ok((served.count() >= count).then_some(()))
    })
    .unwrap();
}

#[test]
fn programs_that_ask_once_and_exit_are_traced() {
    let lab = Lab::new();
    let service = node(&lab, "node").start(lab.path()).unwrap();
    let url = format!("{}/prices", service.url());
    let rules = [rule(&service), format!("cmd=*{SCRIPT} ask {url}*")];
    let tracing = lab.agent("agent", &rules, &[&lab.calls_alone()]);
    for number in 1..=30 {
        run(&lab, &sources(), &["ask", &url, &number.to_string()]);
    }
    traces(&tracing, &service.pids().unwrap());
    served(&tracing, 30);
    let forest = tracing.forest();
    // The agent hears of an exec and then looks: on a busy machine a program can be faster now and then. One that only
    // looked every so often would find hardly any.
    let asked = forest.of("python", Kind::Client).filter(|span| span.number().is_some()).count();
    assert!((15..=30).contains(&asked), "{asked} of 30");
    each_is_served_below(&forest);
}

/// Every call has its server's span below it, and only that.
fn each_is_served_below(forest: &Forest) {
    for call in forest.of("python", Kind::Client) {
        let served = forest.children(call);
        assert!(matches!(served[..], [served] if served.number() == call.number()), "{call:?}");
    }
}

#[test]
fn children_that_live_for_one_request_are_traced() {
    let lab = Lab::new();
    let service = node(&lab, "node").start(lab.path()).unwrap();
    let url = format!("{}/prices", service.url());
    let rules = [rule(&service), format!("cmd=*{SCRIPT} fork {url}*")];
    let tracing = lab.agent("agent", &rules, &[]);
    // It begins when it is told to: once it is traced itself, its children are from their first instruction.
    let mut parent = command(&lab, &sources(), &["fork", &url, "1", "300"]);
    let mut parent = parent.stdin(Stdio::piped()).spawn().unwrap();
    let mut pids = service.pids().unwrap();
    pids.push(parent.id());
    traces(&tracing, &pids);
    parent.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(parent.wait().unwrap().success());
    served(&tracing, 300);
    // What they are a part of is told after its end.
    wait::until("their parent's span is delivered", PATIENCE, || {
        Ok(tracing.spans().iter().any(|span| span.kind == Kind::Internal).then_some(()))
    })
    .unwrap();
    let forest = tracing.forest();
    let numbers_of = |service, kind| {
        let numbers: Vec<u64> =
            forest.of(service, kind).map(|span| span.number().unwrap()).collect();
        let distinct = distinct(numbers.iter().copied());
        assert_eq!(distinct.len(), numbers.len(), "{service}: {numbers:?}");
        distinct
    };
    assert_eq!(numbers_of("node", Kind::Server), (1..=300).collect());
    // All but those that the kernel could give no place, which it says.
    let (asked, late) = (numbers_of("python", Kind::Client).len(), tracing.status().forks_late);
    assert!(asked <= 300 && asked as u64 + late >= 300, "{asked} of 300, {late} late");
    each_is_served_below(&forest);
    traces(&tracing, &service.pids().unwrap());
    tracing.quiet();
}

#[test]
fn one_that_executes_itself_in_another_environment_is_what_that_says() {
    let bench = Bench::start(&unique("again"), &[]);
    let mut script = bench.script("itself");
    let pid = script.pid().cast_signed();
    let mut again = |variable: &str, value: &str| {
        let code = format!(
            "with open('/proc/self/cmdline') as file: words = file.read().split('\\0')[:-1]\n\
             os.execve(sys.executable, words, dict(os.environ, {variable}={value:?}))"
        );
        script.begin(&code).unwrap();
        // What is sent before the next program has begun may be read ahead by this one, and lost with it.
        let entry = format!("{variable}={value}");
        wait::until("it has executed itself", PATIENCE, || {
            let environment = std::fs::read(format!("/proc/{pid}/environ"))?;
            let mut entries = environment.split(|byte| *byte == 0);
            Ok(entries.any(|other| other == entry.as_bytes()).then_some(()))
        })
        .unwrap();
        // Answered by the next program, which reads the same input.
        script.run("None").unwrap();
    };
    again("OTEL_SERVICE_NAME", "another");
    bench.until("it has its new name", |status| {
        status.processes.iter().any(|line| line.pid == pid && line.service == "another")
    });
    again("OTEL_SDK_DISABLED", "true");
    bench.until("it is left alone", |status| status.processes.is_empty());
}
