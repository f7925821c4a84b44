//! Diagnosis: the running agent says of any process why it is traced or not; a person sees traces without a backend;
//! and what stands in an agent's way is named with what helps.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;
use wirespan_tests::agent::{Agent, binary};
use wirespan_tests::wait;
use wirespan_tests::workloads::Worker;

use crate::common::lab::{Lab, PATIENCE, Tracing, gets, load, rule};
use crate::node_assist::{application, becomes};

/// Runs a command beside the agent. Exit code, standard output as JSON.
pub(crate) fn asked(tracing: &Tracing, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--json").arg("--control-socket").arg(tracing.agent.socket());
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&printed);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), json.unwrap_or_else(|_| panic!("{printed}\n{error}")))
}

/// How the checks of that name went.
pub(crate) fn outcomes<'a>(checks: &'a Value, name: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let checks = checks.as_array().unwrap().iter();
    let named = checks.filter(|check| check["name"].as_str().unwrap().starts_with(name));
    named
        .map(|check| {
            let remedy = check["remedy"].as_str().unwrap_or_default();
            (check["outcome"].as_str().unwrap(), check["found"].as_str().unwrap(), remedy)
        })
        .collect()
}

#[test]
fn what_is_traced_and_what_is_not_is_explained_and_shown() {
    let lab = Lab::new();
    let node = application(&lab, "node").start(lab.path()).unwrap();
    let flask = lab.installed.flask("flask", Worker::Sync, 1).unwrap().start(lab.path()).unwrap();
    let tracing = lab.agent("agent", &[rule(&node)], &[]);
    becomes(&tracing, "exact");

    // Two readers that read, and one that never does.
    let look = |arguments: &[&str]| {
        let (word, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(binary());
        command.arg(word).arg("--control-socket").arg(tracing.agent.socket()).args(rest);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut reader, mut stalled) = (look(&["tap", "--service", "node"]), look(&["tap"]));
    let mut table = look(&["top", "--interval", "200ms"]);
    let readings = [&mut reader, &mut table].map(|child| {
        let mut shown = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let (mut text, mut bytes) = (String::new(), [0; 1024]);
            while !text.contains("GET /prices/{id}") {
                let read = shown.read(&mut bytes).unwrap();
                assert!(read > 0, "it ended: {text}");
                text.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        })
    });
    // Until they are open nobody is shown anything.
    let mut sent = 0;
    wait::until("a trace is shown", PATIENCE, || {
        load(&node, 2, &gets("/prices", sent, 20));
        sent += 20;
        Ok(readings.iter().all(JoinHandle::is_finished).then_some(()))
    })
    .unwrap();
    readings.into_iter().for_each(|reading| reading.join().unwrap());
    let once = look(&["top", "--once", "--interval", "100ms"]).wait_with_output().unwrap();
    let frame = String::from_utf8(once.stdout).unwrap();
    assert!(once.status.success() && frame.contains(" calls/s, 0.0 errors/s"), "{frame}");
    load(&node, 2, &gets("/prices", sent, 2_000));
    assert_eq!(tracing.forest().spans.len(), sent + 2_000, "a stalled reader costs no span");
    for child in [&mut reader, &mut table, &mut stalled] {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let pid = node.pids().unwrap()[0].to_string();
    let (code, answer) = asked(&tracing, &["explain", &pid]);
    assert_eq!((code, &answer["traced"]), (Some(0), &true.into()), "{answer}");
    let because = answer["because"].as_str().unwrap();
    assert!(because.contains(&format!("port={}", node.port())), "{because}");
    let facts = answer["facts"].to_string();
    assert!(facts.contains("exact") && facts.contains("runtime"), "{facts}");
    assert_eq!(answer["books"]["agent"]["calls_spans"], sent as u64 + 2_000);

    let pid = flask.pids().unwrap()[0].to_string();
    let (code, answer) = asked(&tracing, &["explain", &pid]);
    assert_eq!((code, &answer["traced"]), (Some(1), &false.into()), "{answer}");
    let unmet = answer["rules"][0]["unmet"][0].as_str().unwrap();
    assert!(unmet.contains(&format!("it listens on {}", flask.port())), "{unmet}");
    let remedy = answer["remedies"].to_string();
    assert!(remedy.contains(&format!("port={}", flask.port())), "{remedy}");
    let (code, answer) = asked(&tracing, &["explain", "999999999"]);
    assert_eq!(code, Some(1));
    assert!(answer["because"].as_str().unwrap().contains("is gone"), "{answer}");

    // With the agent beside it: every hook works, and the process is followed exactly.
    let file = lab.path().join("wirespan.yaml");
    let text = format!(
        "rules: [{{match: {{port: {}}}}}]\nexporters:\n- file: {{path: /nowhere/at/all}}\n\
         - otlp: {{endpoint: 'http://127.0.0.1:1'}}\n",
        node.port()
    );
    std::fs::write(&file, text).unwrap();
    let (code, checks) = asked(&tracing, &["doctor", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "two exporters can't work: {checks}");
    for kind in ["tracepoint", "iterator", "probes", "kernel", "type information"] {
        let outcomes = outcomes(&checks, kind);
        assert!(!outcomes.is_empty(), "{kind}: {checks}");
        assert!(outcomes.iter().all(|(outcome, ..)| *outcome == "ok"), "{outcomes:?}");
    }
    let process = outcomes(&checks, "process");
    assert!(
        process.iter().any(|(outcome, found, _)| *outcome == "ok" && found.contains("exact")),
        "{process:?}"
    );
    let exporters = outcomes(&checks, "exporter");
    assert_eq!(exporters.len(), 2);
    assert!(exporters[0].2.contains("make the directory"), "{exporters:?}");
    assert!(exporters[1].2.contains("nothing listens there"), "{exporters:?}");
    std::fs::write(&file, "rules: [{match: {port: x}}]").unwrap();
    let (code, checks) = asked(&tracing, &["doctor", "--config", file.to_str().unwrap()]);
    let outcomes = outcomes(&checks, "configuration");
    assert!(code == Some(1) && outcomes[0].1.contains("rules[0].match.port"), "{outcomes:?}");
}

/// Without its rights it says which are missing; and what is not running is said, too.
#[test]
fn missing_rights_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-bpf,-perfmon,-sys_admin,-sys_ptrace", "--inh-caps=-all", "--"]);
    command.arg(binary()).args(["doctor", "--json", "--control-socket"]).arg(&socket);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rights = outcomes(&checks, "capabilities");
    for right in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"] {
        let named =
            |(outcome, found, _): &(&str, &str, &str)| *outcome == "fail" && found.contains(right);
        assert!(rights.iter().any(named), "{right}: {rights:?}");
    }
    let programs = outcomes(&checks, "kernel programs");
    assert!(programs.iter().all(|(outcome, ..)| *outcome == "fail"), "{programs:?}");
    let mut command = Command::new(binary());
    let status = command.args(["tap", "--control-socket"]).arg(&socket).output().unwrap().status;
    assert_eq!(status.code(), Some(3));
}

/// A file that can't be understood stops the start, and says where it is wrong.
#[test]
fn a_wrong_file_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wirespan.yaml");
    std::fs::write(&file, "rules:\n- match:\n    exe: '[a'\n").unwrap();
    let option = format!("--config={}", file.display());
    let mut agent = Agent::spawn(&binary(), directory.path(), &[option]).unwrap();
    assert!(!agent.wait(PATIENCE).unwrap().success());
    let said = agent.stderr().unwrap();
    let place = format!("{}:3:10: rules[0].match.exe: ", file.display());
    assert!(said.contains(&place), "{said}");
    let mut check = Command::new(binary());
    let output = check.arg("check-config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with(&place));
}
