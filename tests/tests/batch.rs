//! Processes that serve nothing: one trace each, with how they ended, their calls beneath, and the trace of their
//! variables above.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use wirespan_tests::servers::{PASSWORD, Server};
use wirespan_tests::workloads::{Service, root};
use wirespan_tests::{sys, wait};

use crate::common::forest::Forest;
use crate::common::lab::{Lab, PATIENCE, Tracing, distinct, gets, load, rule};
use crate::common::spans::{Kind, Span, Value};
use crate::node_parents::exact;

const SCRIPT: &str = "batch.py";

/// The servers that programs ask, which nobody traces, and what starts those.
struct Batch {
    lab: Lab,
    prices: Service,
    redis: Server,
}

impl Batch {
    fn new() -> Self {
        let lab = Lab::new();
        let prices = lab.installed.plain("prices").unwrap().start(lab.path()).unwrap();
        let redis = Server::redis(lab.path()).unwrap();
        Self { lab, prices, redis }
    }

    fn agent(&self, more: &[&str]) -> Tracing {
        self.lab.agent("agent", &["cmd=*/batch.*".to_owned()], more)
    }

    /// A program in Python that does these things.
    fn python(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.lab.installed.venv_program("python"));
        command.arg(root().join("tests/workloads/python").join(SCRIPT));
        self.with_servers(command, words, "batch")
    }

    fn node(&self, words: &[&str]) -> Command {
        let mut command = Command::new("node");
        command.arg(root().join("tests/workloads/node/batch.js"));
        command.env("NODE_PATH", root().join("target/workloads/node/node_modules"));
        self.with_servers(command, words, "batch")
    }

    fn with_servers(&self, mut command: Command, words: &[&str], service: &str) -> Command {
        let url = format!("{}/prices", self.prices.url());
        command.arg(url).arg(self.redis.port().to_string()).args(words);
        command.env("OTEL_SERVICE_NAME", service).env("PASSWORD", PASSWORD);
        command
    }
}

/// The spans of processes, and that many: they come half a second after their end.
fn processes(tracing: &Tracing, count: usize) -> Vec<Span> {
    let mut last = Vec::new();
    let all = wait::until("the processes' spans are delivered", PATIENCE, || {
        last = tracing.spans();
        last.retain(|span| span.kind == Kind::Internal);
        Ok((last.len() >= count).then(|| last.clone()))
    });
    let all = all.unwrap_or_else(|error| panic!("{error}: {last:#?} of {:#?}", tracing.spans()));
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

/// Each with its children, in order of their starts.
fn trees<'a>(forest: &'a Forest, processes: &'a [Span]) -> Vec<(&'a Span, Vec<&'a Span>)> {
    processes.iter().map(|process| (process, forest.children(process))).collect()
}

fn names(spans: &[&Span]) -> BTreeSet<String> {
    spans.iter().map(|span| span.name.clone()).collect()
}

#[test]
fn a_program_is_one_trace_with_its_calls_and_its_exit_code() {
    let batch = Batch::new();
    let tracing = batch.agent(&[]);
    let python = ["burn:30", "set:1", "get:1", "threads:3", "get:2", "exit:3"];
    assert_eq!(batch.python(&python).status().unwrap().code(), Some(3));
    assert_eq!(batch.node(&["0", "1,2"]).status().unwrap().code(), Some(0));
    let found = processes(&tracing, 2);
    let forest = tracing.forest();
    assert_eq!(forest.traces().len(), 2, "{:#?}", forest.spans);
    let expected = [("batch.py", 3, 6), ("batch.js", 0, 4)];
    for ((process, children), (name, code, calls)) in
        trees(&forest, &found).into_iter().zip(expected)
    {
        assert_eq!((process.name.as_str(), process.parent.as_deref()), (name, None));
        assert_eq!(process.int("process.exit.code"), Some(code), "{process:?}");
        assert_eq!(process.error.is_some(), code != 0, "{process:?}");
        let calls_of_redis = children.iter().filter(|call| call.name.starts_with("SET")).count();
        let calls_of_http = children.iter().filter(|call| call.number().is_some()).count();
        assert_eq!(calls_of_redis + calls_of_http, calls, "{children:#?}");
        for call in children {
            assert!(call.end_ns <= process.end_ns && call.start_ns >= process.start_ns, "{call:?}");
        }
        // What it is started with may be secret.
        assert!(!format!("{process:?}").contains("burn"), "{process:?}");
        assert!(process.int("wirespan.process.max_rss_bytes").unwrap() > 1 << 20, "{process:?}");
    }
    let on_cpu = found[0].int("wirespan.kernel.on_cpu_time_ns").expect("all threads are known");
    assert!(on_cpu >= 25_000_000 && on_cpu.unsigned_abs() <= found[0].duration_ns(), "{on_cpu}");
    assert_eq!(tracing.status().process_spans, 2);
}

#[test]
fn death_by_a_signal_is_an_error_of_that_name() {
    let batch = Batch::new();
    let tracing = batch.agent(&[]);
    assert!(!batch.python(&["get:1", "kill:9"]).status().unwrap().success());
    let [process] = &processes(&tracing, 1)[..] else { unreachable!() };
    assert_eq!(process.text("error.type"), Some("SIGKILL"));
    assert_eq!(process.int("process.exit.code"), None);
    assert_eq!(tracing.forest().children(process).len(), 1);
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[test]
fn the_trace_of_its_variables_goes_on() {
    let batch = Batch::new();
    let tracing = batch.agent(&[]);
    let mut command = batch.python(&["get:1", "run:get:2"]);
    command.env("TRACEPARENT", format!("00-{TRACE}-{PARENT}-01")).env("TRACESTATE", "vendor=1");
    assert!(command.status().unwrap().success());
    let found = processes(&tracing, 2);
    let forest = tracing.forest();
    assert_eq!(forest.traces().keys().collect::<Vec<_>>(), [&TRACE]);
    let outer = found.iter().find(|span| span.parent.as_deref() == Some(PARENT)).unwrap();
    assert!(outer.parent_is_remote && outer.trace_state == "vendor=1", "{outer:?}");
    // It inherited the variables, and is beneath who started it all the same.
    let inner = found.iter().find(|span| span.id != outer.id).unwrap();
    assert_eq!(inner.parent.as_ref(), Some(&outer.id));
    for (process, number) in [(outer, 1), (inner, 2)] {
        let asked: Vec<_> = forest.children(process).iter().filter_map(|it| it.number()).collect();
        assert_eq!(asked, [number]);
    }
}

#[test]
fn what_it_forks_is_a_part_of_it_and_what_it_executes_goes_on() {
    let batch = Batch::new();
    let tracing = batch.agent(&[]);
    assert!(batch.python(&["get:1", "fork:2", "again:get:3"]).status().unwrap().success());
    let found = processes(&tracing, 2);
    let forest = tracing.forest();
    let ended = |span: &&Span| span.text("wirespan.process.end").is_none();
    let last = found.iter().find(ended).unwrap();
    let first = found.iter().find(|span| !ended(span)).unwrap();
    assert_eq!(first.text("wirespan.process.end"), Some("replaced"));
    let asked = |process| -> Vec<u64> {
        forest.children(process).iter().filter_map(|span| span.number()).collect()
    };
    assert_eq!((asked(first), asked(last)), (vec![1, 2], vec![3]), "{:#?}", forest.spans);
    let pids: BTreeSet<_> = forest
        .children(first)
        .iter()
        .map(|span| format!("{:?}", span.resource["process.pid"]))
        .collect();
    // What the kernel counted is of both.
    assert_eq!(last.int("wirespan.kernel.on_cpu_time_ns"), None);
    assert_eq!(pids.len(), 2, "the child's call is the child's: {pids:?}");
}

/// Starts a program that says when it waits, and waits until it does.
fn waiting(mut command: Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "waits\n");
    child
}

#[test]
fn what_the_agent_asks_of_node_s_inspector_is_no_service_of_it() {
    let batch = Batch::new();
    let tracing = batch.agent(&[]);
    let child = waiting(batch.node(&["0", "1", "wait", "2,3"]));
    exact(&tracing, 1);
    go_on(child);
    let [process] = &processes(&tracing, 1)[..] else { unreachable!() };
    assert_eq!(process.int("process.exit.code"), Some(0), "{process:?}");
    let forest = tracing.forest();
    let children = forest.children(process);
    let asked = distinct(children.iter().filter_map(|span| span.number()));
    assert_eq!((forest.traces().len(), asked), (1, [1, 2, 3].into()), "{:#?}", forest.spans);
}

/// Waits until the agent traces that process.
fn is_traced(tracing: &Tracing, child: &Child) {
    wait::until("it is traced", PATIENCE, || {
        let pid = child.id().cast_signed();
        Ok(tracing.status().processes.iter().any(|it| it.pid == pid).then_some(()))
    })
    .unwrap();
}

fn go_on(mut child: Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_begins_to_serve_has_its_start_for_a_span_and_no_more() {
    let batch = Batch::new();
    let tracing = batch.agent(&[]);
    for serves in ["listen", "pop"] {
        assert!(batch.python(&["get:1", "set:2", serves, "get:3"]).status().unwrap().success());
    }
    // One that asks nobody before it listens has none at all.
    assert!(batch.python(&["listen", "get:4"]).status().unwrap().success());
    let found = processes(&tracing, 2);
    let forest = tracing.forest();
    for (process, children) in trees(&forest, &found) {
        assert_eq!(process.text("wirespan.process.end"), Some("serves"));
        assert_eq!(process.int("process.exit.code"), None, "{process:?}");
        assert_eq!(names(&children).len(), 2, "{children:#?}");
    }
    let alone = forest.roots().filter_map(|span| span.number());
    assert_eq!(distinct(alone), [3, 4].into());
}

#[test]
fn one_that_runs_already_is_traced_from_then_on_and_an_agent_that_ends_tells_of_it() {
    let batch = Batch::new();
    let (early, late) = (["wait", "get:1"], ["get:2", "wait"]);
    let early = waiting(batch.python(&early));
    let mut tracing = batch.agent(&[]);
    is_traced(&tracing, &early);
    let pid = early.id();
    go_on(early);
    let [process] = &processes(&tracing, 1)[..] else { unreachable!() };
    assert_eq!(process.attributes["wirespan.process.found_running"], Value::Bool(true));
    assert_eq!(process.int("process.pid"), Some(pid.into()));
    assert_eq!(process.int("process.exit.code"), Some(0));
    assert_eq!(tracing.forest().children(process).len(), 1);
    let late = waiting(batch.python(&late));
    wait::until("its call is over", PATIENCE, || {
        Ok(tracing.spans().iter().any(|span| span.number() == Some(2)).then_some(()))
    })
    .unwrap();
    assert!(tracing.agent.terminate(PATIENCE).unwrap().success());
    let spans = tracing.spans();
    let told = spans.iter().find(|span| span.int("process.pid") == Some(late.id().into()));
    let told = told.unwrap_or_else(|| panic!("{spans:#?}"));
    assert_eq!(told.text("wirespan.process.end"), Some("goes_on"));
    let forest = Forest::new(spans.clone());
    assert_eq!(forest.orphans(), Vec::<&Span>::new());
    go_on(late);
}

#[test]
fn settings_turn_it_off_and_show_arguments() {
    let batch = Batch::new();
    let words = ["get:1", "exit:0"];
    let file = batch.lab.path().join("wirespan.yaml");
    let write = |settings: &str| {
        let rules = "rules: [{match: {cmd: '*/batch.*'}}]\n";
        std::fs::write(&file, format!("{rules}settings: {{{settings}}}\n")).unwrap();
    };
    let config = format!("--config={}", file.display());
    write("process_arguments: true");
    let tracing = batch.lab.agent("agent", &[], &[&config]);
    assert!(batch.python(&words).status().unwrap().success());
    let [process] = &processes(&tracing, 1)[..] else { unreachable!() };
    let Some(Value::List(arguments)) = process.attributes.get("process.command_args") else {
        panic!("{process:?}")
    };
    assert_eq!(arguments.last(), Some(&Value::Text("exit:0".to_owned())));
    let reloads = tracing.status().config.reloads;
    write("process_spans: false");
    sys::kill(tracing.agent.pid(), libc::SIGHUP).unwrap();
    wait::until("the file is read again", PATIENCE, || {
        Ok((tracing.status().config.reloads > reloads).then_some(()))
    })
    .unwrap();
    assert!(batch.python(&words).status().unwrap().success());
    wait::until("its call is a root", PATIENCE, || {
        Ok(tracing
            .spans()
            .iter()
            .any(|span| span.kind == Kind::Client && span.parent.is_none())
            .then_some(()))
    })
    .unwrap();
    processes(&tracing, 1);
}

/// The shortest there are: started one after the other while something else is under load.
#[test]
fn short_ones_are_whole() {
    const COUNT: usize = 60;
    let batch = Batch::new();
    let busy = batch.lab.installed.plain("busy").unwrap().start(batch.lab.path()).unwrap();
    let rules = [rule(&busy), "cmd=*/batch.*".to_owned()];
    let tracing = batch.lab.agent("agent", &rules, &[]);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&busy, 2, &gets("/prices", 1_000, 20_000)));
        for number in 0..COUNT {
            let word = format!("get:{number}");
            assert!(batch.python(&[&word]).status().unwrap().success());
        }
        load.join().unwrap();
    });
    let status = tracing.quiet();
    let forest = Forest::new(tracing.spans());
    let found: Vec<&Span> = forest.of("batch", Kind::Internal).collect();
    let whole = found
        .iter()
        .filter(|span| span.int("process.exit.code") == Some(0) && forest.children(span).len() == 1)
        .count();
    eprintln!("{whole} of {COUNT} short programs are whole, {} have a span", found.len());
    // On a machine that has too few CPUs for all this, the agent can come too late now and then.
    assert!(whole * 2 >= COUNT, "{whole} of {COUNT}: {found:#?}\n{status:#?}");
}
