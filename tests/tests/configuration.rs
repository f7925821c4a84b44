//! The configuration file: what it says is done, and a new one takes effect without a gap.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wirespan::books::ConfigStatus;
use wirespan_tests::agent::Agent;
use wirespan_tests::workloads::{Loop, Service, Worker};
use wirespan_tests::{sys, wait};

use crate::common::lab::{Lab, PATIENCE, Stop, Tracing, gets, load};
use crate::common::spans::{Kind, Value};
use crate::node_assist::{application, becomes, says};
use crate::node_parents::exact;

const RELOADS: usize = 100;

/// Requests made one after the other before the agent is waited for.
const BURST: usize = 100;

/// A configuration file and the agent that follows it.
pub(crate) struct Configured {
    file: PathBuf,
    pub(crate) tracing: Tracing,
}

impl Configured {
    pub(crate) fn start(lab: &Lab, text: &str) -> Self {
        let spans = lab.path().join("agent/spans.jsonl");
        Self::begin(lab, text, &spans, &[format!("--export=file:{}", spans.display())])
    }

    fn begin(lab: &Lab, text: &str, spans: &Path, more: &[String]) -> Self {
        let directory = lab.path().join("agent");
        let file = lab.path().join("wirespan.yaml");
        put(&file, text);
        let mut arguments = vec![format!("--config={}", file.display())];
        arguments.extend_from_slice(more);
        let agent = Agent::start(&directory, &arguments).unwrap();
        Self { file, tracing: Tracing { agent, file: spans.to_owned() } }
    }

    /// Puts another file in its place, says so, and waits until the agent has answered it.
    pub(crate) fn reload(&self, text: &str) -> ConfigStatus {
        let count = |status: &ConfigStatus| status.reloads + status.refused;
        let before = count(&self.tracing.status().config);
        put(&self.file, text);
        sys::kill(self.tracing.agent.pid(), libc::SIGHUP).unwrap();
        wait::until("the agent read the file", PATIENCE, || {
            let status = self.tracing.status().config;
            Ok((count(&status) > before).then_some(status))
        })
        .unwrap()
    }
}

/// Exporters come and go, one after the other and several at once: each span is where those that were configured at
/// its time put it.
#[test]
fn exporters_are_replaced_under_load_and_no_span_is_lost() {
    const ROUNDS: usize = 12;
    let lab = Lab::new();
    let node = application(&lab, "node").start(lab.path()).unwrap();
    let files = ["a", "b"].map(|name| lab.path().join(format!("{name}.jsonl")));
    let to = |which: &[usize]| {
        let exporters: Vec<String> = which
            .iter()
            .map(|index| format!("- file: {{path: {}}}\n", files[*index].display()))
            .collect();
        format!("{}exporters:\n{}", rules(&[(&node, "")]), exporters.concat())
    };
    let configured = Configured::begin(&lab, &to(&[0]), &files[0], &[]);
    becomes(&configured.tracing, "exact");
    let mut sent = 0;
    let ask = |first: &mut usize| {
        load(&node, 4, &gets("/prices", *first, BURST));
        *first += BURST;
    };
    ask(&mut sent);
    for round in 0..ROUNDS {
        let status = match round % 4 {
            0 => configured.reload(&to(&[0, 1])),
            1 => configured.reload(&to(&[1])),
            2 => configured.reload("exporters: [{file: {path: /nowhere/else}}]\nall: true"),
            _ => configured.reload(&to(&[0])),
        };
        let error = status.last_error.unwrap_or_default();
        assert_eq!(error.contains("/nowhere/else"), round % 4 == 2, "{error}");
        assert!(status.needs_restart.is_empty());
        ask(&mut sent);
    }
    let status = configured.tracing.quiet();
    assert_eq!((status.spans, status.exporters.len()), (sent as u64, 2));
    let numbers = |file: &Path| {
        let spans = crate::common::spans::read(file);
        spans.iter().map(|span| span.number().unwrap()).collect::<Vec<_>>()
    };
    let [first, second] = files.each_ref().map(|file| numbers(file));
    let all: BTreeSet<u64> = first.iter().chain(&second).copied().collect();
    assert_eq!(all.len(), sent, "a span is nowhere");
    for (written, exporter) in [&first, &second].into_iter().zip(&status.exporters) {
        assert_eq!(written.len() as u64, exporter.exported, "{exporter:?}");
        assert_eq!(exporter.offered + exporter.missed, sent as u64, "{exporter:?}");
        assert!(exporter.missed > 0, "{exporter:?}");
    }
}

#[test]
fn a_file_that_the_configuration_names_is_read_again_when_it_changes() {
    let lab = Lab::new();
    let node = application(&lab, "node").start(lab.path()).unwrap();
    let name = lab.path().join("name");
    put(&name, "first\n");
    let text = rules(&[(&node, &format!("  service: ${{file:{}}}", name.display()))]);
    let configured = Configured::start(&lab, &text);
    let serves_as = |service: &str, number| {
        load(&node, 1, &gets("/prices", number, 1));
        configured.tracing.quiet();
        let spans = configured.tracing.spans();
        assert_eq!(spans.last().map(|span| &*span.service), Some(service));
    };
    serves_as("first", 1);
    put(&name, "second\n");
    wait::until("the agent read it", PATIENCE, || {
        Ok((configured.tracing.status().config.reloads == 1).then_some(()))
    })
    .unwrap();
    serves_as("second", 2);
}

/// As editors do: what reads it finds the old one or the new one.
fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

fn rules(rules: &[(&Service, &str)]) -> String {
    let rule = |(service, more): &(&Service, &str)| {
        format!("- match: {{port: {}}}\n{more}\n", service.port())
    };
    format!("rules:\n{}", rules.iter().map(rule).collect::<String>())
}

#[test]
fn reloads_under_load_lose_no_span_of_what_stays_allowed() {
    let lab = Lab::new();
    let node = application(&lab, "node").start(lab.path()).unwrap();
    let flask = lab.installed.flask("flask", Worker::Sync, 1).unwrap().start(lab.path()).unwrap();
    let configured = Configured::start(&lab, &rules(&[(&node, "")]));
    becomes(&configured.tracing, "exact");
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stopping = Stop(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let first = sent.load(Ordering::Relaxed);
                load(&node, 4, &gets("/prices", first, BURST));
                let now = sent.fetch_add(BURST, Ordering::Relaxed) + BURST;
                // As fast as the agent reads: this is not about overload.
                wait::until("the agent keeps up", PATIENCE, || {
                    Ok((configured.tracing.status().spans >= (now - BURST) as u64).then_some(()))
                })
                .unwrap();
            }
        });
        for number in 0..RELOADS {
            let status = match number % 4 {
                0 => configured.reload(&rules(&[(&flask, ""), (&node, "")])),
                1 => configured.reload(&rules(&[(&node, "  attributes: {round: a}")])),
                2 => configured.reload("rules: [{match: {prot: 1}}]"),
                _ => configured.reload(&rules(&[(&node, "  service: renamed"), (&flask, "")])),
            };
            let refused = number % 4 == 2;
            assert_eq!(status.last_error.is_some(), refused, "{status:?}");
            let error = status.last_error.unwrap_or_default();
            assert!(!refused || error.contains("rules[0].match.prot"), "{error}");
        }
    });
    let sent = sent.into_inner();
    let status = configured.tracing.quiet();
    assert_eq!(status.config.reloads + status.config.refused, RELOADS as u64);
    let spans = configured.tracing.spans();
    let served = spans.iter().filter(|span| span.kind == Kind::Server).count();
    let total = &status.total;
    assert_eq!(served, sent, "spans of the service that stayed allowed, and requests: {total:#?}");
    assert!(spans.iter().any(|span| span.service == "renamed"));

    // Who is allowed no longer is let go, with all that was put into it, and the agent goes on.
    configured.reload(&rules(&[(&flask, "")]));
    let node_pids = node.pids().unwrap();
    let flask_pids = flask.pids().unwrap();
    wait::until("one is let go and the other traced", PATIENCE, || {
        let status = configured.tracing.status();
        let traced = |pids: &[u32]| {
            let among = |pid: &u32| {
                status.processes.iter().any(|process| process.pid.cast_unsigned() == *pid)
            };
            pids.iter().filter(|pid| among(pid)).count()
        };
        let done = traced(&node_pids) == 0 && traced(&flask_pids) == flask_pids.len();
        Ok(done.then_some(()))
    })
    .unwrap();
    let said = says(&node);
    assert_eq!(said["own"], false, "{said}");
    load(&node, 2, &gets("/prices", 0, 20));
    load(&flask, 1, &gets("/api/orders", 1, 1));
    let before = spans.iter().filter(|span| span.service == "renamed").count();
    configured.tracing.quiet();
    let spans = configured.tracing.spans();
    assert_eq!(spans.iter().filter(|span| span.service == "renamed").count(), before);
    assert!(
        spans.iter().any(|span| span.service.contains("flask")),
        "what is allowed now is traced"
    );
    let log = configured.tracing.agent.stderr().unwrap();
    assert!(!log.contains("was not undone"), "{log}");
}

/// Every trace that is kept, whole: what a rule takes out, and what lies beneath it, is gone and counted.
#[test]
fn settings_do_what_they_say() {
    const REQUESTS: usize = 200;
    const TREE: &str = "\
front server GET /orders/{order} 200
  front client GET /api/orders/{id} 200
  front client GET /stock/{id} 200
";
    let lab = Lab::new();
    let installed = &lab.installed;
    let prices = installed.plain("prices").unwrap().start(lab.path()).unwrap();
    let orders = installed.flask("orders", Worker::Sync, 1).unwrap().upstream(&prices);
    let orders = orders.start(lab.path()).unwrap();
    let stock = installed.fastapi("stock", Loop::Asyncio).unwrap().upstream(&prices);
    let stock = stock.start(lab.path()).unwrap();
    let gateway = installed.gateway(&orders, &stock).unwrap().env("TEAM", "web");
    let gateway = gateway.start(lab.path()).unwrap();
    let front = "  service: front
  attributes: {team: {env: TEAM}, none: {env: NONE}, tier: 1}
  settings: {routes: ['/orders/{order}'], attribute_value_length: 9}";
    let ignored = "  settings: {ignore: {routes: ['/api/orders*']}}";
    let off = "  settings: {protocols: {http: false}}";
    let rules = rules(&[(&gateway, front), (&orders, ignored), (&stock, off), (&prices, "")]);
    let text = format!("settings: {{sampling: {{ratio: 0.5}}}}\n{rules}");
    let configured = Configured::start(&lab, &text);
    // The four services, and gunicorn's arbiter.
    exact(&configured.tracing, 5);
    load(&gateway, 1, &gets("/orders", 1, REQUESTS));
    wait::until("all calls are placed", PATIENCE, || {
        let status = configured.tracing.status();
        let placed = status.total.agent.parents_certain + status.total.agent.parents_none;
        Ok((placed >= 9 * REQUESTS as u64).then_some(()))
    })
    .unwrap();
    let forest = configured.tracing.forest();
    let kept = forest.traces().len();
    assert!((60..140).contains(&kept), "{kept} of {REQUESTS}");
    for root in forest.roots() {
        assert_eq!(forest.outline(root), TREE, "{root:#?}");
        assert_eq!(root.text("http.route"), Some("/orders/{"));
        let resource = |key: &str| root.resource.get(key).cloned();
        assert_eq!(resource("team"), Some(Value::Text("web".to_owned())));
        assert_eq!((resource("tier"), resource("none")), (Some(Value::Int(1)), None));
    }
    let agent = configured.tracing.status().total.agent;
    assert_eq!(agent.calls_ignored, 6 * REQUESTS as u64, "{agent:?}");
    assert_eq!(agent.calls_unsampled, 3 * (REQUESTS - kept) as u64, "{agent:?}");
}
