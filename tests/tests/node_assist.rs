//! Node.js: the assist harms nobody. Whom it may not have it leaves alone, what it opened it closes, what it left
//! the next agent takes over.

use crate::common;

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use common::lab::{Lab, PATIENCE, Tracing, gets, load, rule};
use rstest::rstest;
use wirespan_tests::wait;
use wirespan_tests::workloads::{Service, Spec};

use crate::node_parents::exact;

/// Where Node.js opens its inspector.
pub(crate) const INSPECTOR: u16 = 9229;

/// Answers with what it knows of the assist, and counts the signals that an application's own handler got.
const APPLICATION: &str = r"
const assist = Symbol.for('wirespan.assist');
let signals = 0;
if (process.env.HANDLER) process.on('SIGUSR1', () => signals++);
if (process.env.INSPECTOR) require('node:inspector').open(Number(process.env.INSPECTOR), '127.0.0.1');
const serve = () => require('node:http').createServer((req, res) => {
  res.end(JSON.stringify({ signals, assisted: process[assist] !== undefined, own: Object.hasOwn(require('node:net').Socket.prototype, 'write') }));
}).listen(Number(process.env.PORT), '127.0.0.1');
const cluster = require('node:cluster');
if (process.env.CLUSTER && cluster.isPrimary) for (let i = 0; i < Number(process.env.CLUSTER); i++) cluster.fork();
else serve();
";

pub(crate) fn application(lab: &Lab, name: &str) -> Spec {
    lab.installed.text(name, APPLICATION).unwrap()
}

/// What the application says of itself.
pub(crate) fn says(service: &Service) -> serde_json::Value {
    let outcome = load(service, 1, &gets("/says", 1, 1)).remove(0);
    serde_json::from_slice(&outcome.body).unwrap()
}

/// The port refuses, and what Node.js prints when it opens it was printed that often.
fn inspector_was_open(service: &Service, times: usize) {
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, INSPECTOR)).is_err(), "it is open");
    let output = service.output().unwrap();
    assert_eq!(output.matches("Debugger listening on").count(), times, "{output}");
}

fn context(tracing: &Tracing) -> String {
    let processes = tracing.status().processes;
    processes.into_iter().find_map(|process| process.context).unwrap_or_default()
}

/// Waits until the process's requests are told apart in that way.
pub(crate) fn becomes(tracing: &Tracing, wanted: &str) {
    let mut last = String::new();
    wait::until("its context method is known", PATIENCE, || {
        last = context(tracing);
        Ok(last.contains(wanted).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {last}"));
}

#[rstest]
#[case::own_handler(&[("HANDLER", "1")], &[], "another handler")]
#[case::inspector_on_another_port(&[], &["--inspect=127.0.0.1:0"], "options for its inspector")]
#[case::inspector_port_is_set(&[], &["--inspect-port=9555"], "options for its inspector")]
#[case::options_in_the_environment(&[("NODE_OPTIONS", "--inspect-port=9555")], &[], "options for its inspector")]
fn a_process_that_may_not_be_asked_is_left_alone(
    #[case] variables: &[(&str, &str)],
    #[case] options: &[&str],
    #[case] reason: &str,
) {
    let lab = Lab::new();
    let spec = application(&lab, "alone").options(options);
    let spec = variables.iter().fold(spec, |spec, (name, value)| spec.env(name, *value));
    let service = spec.start(lab.path()).unwrap();
    let printed = service.output().unwrap();
    let tracing = lab.agent("agent", &[rule(&service)], &[]);
    becomes(&tracing, reason);
    let said = says(&service);
    assert_eq!((&said["signals"], &said["assisted"]), (&0.into(), &false.into()), "{said}");
    assert_eq!(service.output().unwrap(), printed, "it printed something");
}

#[test]
fn somebody_elses_inspector_is_not_touched() {
    let lab = Lab::new();
    let owner = application(&lab, "owner").env("INSPECTOR", INSPECTOR.to_string());
    let owner = owner.start(lab.path()).unwrap();
    let service = application(&lab, "beside").start(lab.path()).unwrap();
    let tracing = lab.agent("agent", &[rule(&service)], &[]);
    becomes(&tracing, "an inspector is in use");
    TcpStream::connect((Ipv4Addr::LOCALHOST, INSPECTOR)).expect("it was closed");
    assert_eq!(says(&service)["assisted"], false);
    // When its owner is gone there is a next attempt.
    drop(owner);
    exact(&tracing, 1);
    inspector_was_open(&service, 1);
}

#[test]
fn every_process_of_a_cluster_is_assisted() {
    let lab = Lab::new();
    let service = application(&lab, "cluster").env("CLUSTER", "4").start(lab.path()).unwrap();
    let tracing = lab.agent("agent", &[rule(&service), "cmd=*cluster*".to_owned()], &[]);
    // The primary too.
    exact(&tracing, 5);
    assert_eq!(says(&service)["assisted"], true);
    // When the primary is asked, Node.js itself signals its workers. One that is so late that it doesn't find the port in
    // use opens it once more, and it is closed after a while (docs/limitations.md).
    wait::until("the port refuses", PATIENCE, || {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, INSPECTOR)).is_err().then_some(()))
    })
    .unwrap();
    let output = service.output().unwrap();
    let times = output.matches("Debugger listening on").count();
    assert!((5..=9).contains(&times), "{output}");
}

/// Nothing can be written anywhere that the process sees.
#[test]
fn one_on_a_read_only_file_system_is_assisted() {
    let lab = Lab::new();
    // Its own mounts, all of them read-only, and then the runtime in the same process.
    let mounts = "mount --make-rprivate / && for at in / /tmp /dev/shm /var /run; do mount --bind $at $at 2>/dev/null && \
                  mount -o remount,ro,bind $at; done; exec node \"$@\"";
    let spec = application(&lab, "read-only").program("unshare".as_ref());
    let service = spec.options(&["--mount", "sh", "-c", mounts, "sh"]).start(lab.path()).unwrap();
    let written = format!("/proc/{}/root/tmp/it-is-not", service.pid());
    let error = std::fs::write(&written, "read-only").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let tracing = lab.agent("agent", &[rule(&service)], &[]);
    exact(&tracing, 1);
    assert_eq!(says(&service)["assisted"], true);
    inspector_was_open(&service, 1);
}

/// A copy of the runtime without its table of sections, and so without symbols.
fn stripped(lab: &Lab) -> PathBuf {
    let asked = Command::new("node").args(["-p", "process.execPath"]).output().unwrap();
    let original = String::from_utf8(asked.stdout).unwrap();
    let mut image = std::fs::read(original.trim()).unwrap();
    // e_shoff, e_shnum and e_shstrndx of elf(5).
    image[0x28..0x30].fill(0);
    image[0x3c..0x40].fill(0);
    let directory = lab.path().join("stripped");
    std::fs::create_dir_all(&directory).unwrap();
    let copy = directory.join("node");
    std::fs::write(&copy, image).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

#[test]
fn a_stripped_build_is_known_by_its_code() {
    let lab = Lab::new();
    let runtime = stripped(&lab);
    let plain = application(&lab, "plain").program(&runtime).start(lab.path()).unwrap();
    let own = application(&lab, "own").program(&runtime).env("HANDLER", "1");
    let own = own.start(lab.path()).unwrap();
    let tracing = lab.agent("agent", &[rule(&plain), rule(&own)], &[]);
    exact(&tracing, 1);
    let refused = wait::until("the other is left alone", PATIENCE, || {
        let mut processes = tracing.status().processes.into_iter();
        Ok(processes
            .find(|process| process.context.as_deref() != Some("exact"))
            .filter(|process| process.context.iter().any(|why| why.contains("another handler"))))
    });
    assert_eq!(refused.unwrap().pid, own.pid().cast_signed());
    assert_eq!(says(&own)["signals"], 0);
    assert_eq!(says(&plain)["assisted"], true);
}

#[test]
fn short_lives_are_not_disturbed() {
    let lab = Lab::new();
    let tracing = lab.agent("agent", &["cmd=*short.js*".to_owned()], &[]);
    let script = lab.path().join("short.js");
    std::fs::write(&script, "setTimeout(() => process.exit(7), Number(process.argv[2]))").unwrap();
    // Some end before they are asked, some about then, some while their inspector is open.
    let lives: Vec<std::process::Child> = (0..40)
        .map(|i| {
            let mut command = Command::new("node");
            command.arg(&script).arg((i * 50).to_string());
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut life in lives {
        assert_eq!(life.wait().unwrap().code(), Some(7));
    }
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, INSPECTOR)).is_err(), "it is open");
    drop(tracing);
}

#[test]
fn the_next_agent_takes_over_what_a_killed_one_left() {
    let lab = Lab::new();
    let service = application(&lab, "stays").start(lab.path()).unwrap();
    let mut tracing = lab.agent("first", &[rule(&service)], &[]);
    exact(&tracing, 1);
    tracing.agent.kill().unwrap();
    assert_eq!(says(&service)["assisted"], true);
    let mut tracing = lab.agent("second", &[rule(&service)], &[]);
    exact(&tracing, 1);
    // It was found where it was: nothing was opened for it.
    inspector_was_open(&service, 1);
    tracing.agent.terminate(PATIENCE).unwrap();
    let said = says(&service);
    assert_eq!((&said["assisted"], &said["own"]), (&false.into(), &false.into()), "{said}");
    inspector_was_open(&service, 2);
}

#[test]
fn an_agent_that_is_killed_in_the_middle_leaves_no_port_open() {
    let lab = Lab::new();
    let service = application(&lab, "survivor").start(lab.path()).unwrap();
    for round in 0..4 {
        let mut tracing = lab.agent(&format!("agent-{round}"), &[rule(&service)], &[]);
        let listening = || {
            let output = service.output().unwrap();
            output.matches("Debugger listening on").count() > round
        };
        // The moment when the inspector opens, or a little after it.
        let opened = wait::until("the inspector opens", PATIENCE, || Ok(listening().then_some(())));
        let found = opened.is_ok();
        tracing.agent.kill().unwrap();
        assert!(found, "{}", service.output().unwrap());
        wait::until("the port refuses", PATIENCE, || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, INSPECTOR)).is_err().then_some(()))
        })
        .unwrap();
        assert_eq!(says(&service)["signals"], 0);
        // So that the next one has to ask again.
        if says(&service)["assisted"] == true {
            let mut tracing = lab.agent(&format!("undo-{round}"), &[rule(&service)], &[]);
            exact(&tracing, 1);
            tracing.agent.terminate(PATIENCE).unwrap();
            assert_eq!(says(&service)["assisted"], false);
        }
    }
}

/// Asked while it is stopped, it opens its inspector when it goes on: long after whoever asked has given up and gone.
#[test]
#[ignore = "long: the agent waits five seconds for a process that does not react"]
fn an_inspector_that_opens_late_is_closed() {
    let lab = Lab::new();
    let service = application(&lab, "stopped").start(lab.path()).unwrap();
    let signal = |name: &str| {
        let pid = service.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    let mut tracing = lab.agent("agent", &[rule(&service)], &[]);
    becomes(&tracing, "opened no inspector");
    tracing.agent.kill().unwrap();
    signal("-CONT");
    wait::until("the inspector opens", PATIENCE, || {
        Ok(service.output().unwrap().contains("Debugger listening on").then_some(()))
    })
    .unwrap();
    wait::until("the port refuses", PATIENCE, || {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, INSPECTOR)).is_err().then_some(()))
    })
    .unwrap();
    assert_eq!(says(&service)["assisted"], false);
    inspector_was_open(&service, 1);
}

#[test]
fn one_that_loads_the_assist_itself_is_not_asked() {
    let lab = Lab::new();
    let script = Command::new(wirespan_tests::agent::binary()).arg("node-script").output().unwrap();
    let file = lab.path().join("assist.cjs");
    std::fs::write(&file, script.stdout).unwrap();
    let required = format!("--require={}", file.display());
    let service = application(&lab, "required").env("NODE_OPTIONS", required);
    let service = service.start(lab.path()).unwrap();
    assert_eq!(says(&service)["assisted"], true);
    let tracing = lab.agent("agent", &[rule(&service)], &[]);
    exact(&tracing, 1);
    inspector_was_open(&service, 0);
}

#[test]
fn nobody_is_asked_where_the_assist_is_switched_off() {
    let lab = Lab::new();
    let service = application(&lab, "plain").start(lab.path()).unwrap();
    let tracing = lab.agent("agent", &[rule(&service)], &["--no-node-assist"]);
    becomes(&tracing, "switched off");
    assert_eq!(says(&service)["assisted"], false);
    inspector_was_open(&service, 0);
}
