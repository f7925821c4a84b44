//! What is installed: a package comes and goes without a trace, the agent works as its unit runs it, and the rights
//! that the unit lists are all that it needs.

use crate::common;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::lab::{Lab, PATIENCE, Tracing, gets, load, rule};
use common::machine::{Machine, SHARED};
use wirespan_tests::agent::{Agent, binary};
use wirespan_tests::workloads::{Loop, Service, Spec, Worker, root};
use wirespan_tests::{sys, wait};

const NOBODY: u32 = 65_534;

const UNIT: &str = "deploy/systemd/wirespan.service";

/// What the unit says under a key.
fn unit(key: &str) -> String {
    let text = std::fs::read_to_string(root().join(UNIT)).unwrap();
    let prefix = format!("{key}=");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
}

/// The capabilities that the unit leaves, as `setpriv` and manifests write them.
fn capabilities() -> Vec<String> {
    let listed = unit("CapabilityBoundingSet");
    listed.split_whitespace().map(|name| name.strip_prefix("CAP_").unwrap().to_owned()).collect()
}

/// Words that start a program with these rights at most.
fn bounded(capabilities: &[String]) -> Vec<String> {
    let kept: Vec<String> =
        capabilities.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
    let set = format!("--bounding-set=-all,{}", kept.join(","));
    ["setpriv", &set, "--inh-caps=-all", "--no-new-privs", "--"].map(str::to_owned).into()
}

#[test]
fn the_listed_capabilities_are_enough_and_the_same_everywhere() {
    let names = capabilities();
    for manifest in
        ["deploy/kubernetes/daemonset-capabilities.yaml", "deploy/compose/compose.wirespan.yaml"]
    {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        assert!(text.contains(&format!(": [{}]\n", names.join(", "))), "{manifest}: {names:?}");
    }

    let lab = Lab::new();
    let installed = &lab.installed;
    // Where that user may write.
    let open = lab.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let start = |spec: Spec| spec.user(NOBODY).start(&open).unwrap();
    let prices = start(installed.plain("prices").unwrap());
    let orders = installed.flask("orders", Worker::Gthread(4), 1).unwrap();
    let orders = start(orders.upstream(&prices));
    let stock = start(installed.fastapi("stock", Loop::Uvloop).unwrap().upstream(&prices));
    let gateway = start(installed.gateway(&orders, &stock).unwrap());

    // The agent runs as root, with the unit's rights and no others.
    let wrapper = lab.path().join("wirespan");
    let words = bounded(&names).join(" ");
    let script = format!("#!/bin/sh\nexec {words} {} \"$@\"\n", binary().display());
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
    let directory = lab.path().join("agent");
    let file = directory.join("spans.jsonl");
    let services = [&gateway, &orders, &stock, &prices];
    let mut arguments = vec![format!("--export=file:{}", file.display())];
    arguments.extend(services.map(|service| format!("--allow={}", rule(service))));
    let agent = Agent::spawn(&wrapper, &directory, &arguments).unwrap();
    agent.wait_ready().unwrap();
    let tracing = Tracing { agent, file };
    wait::until("every process is followed exactly", PATIENCE, || {
        let processes = tracing.status().processes;
        let exact = processes.iter().filter(|line| line.context.as_deref() == Some("exact"));
        // Gunicorn's arbiter is one more.
        Ok((exact.count() == services.len() + 1).then_some(()))
    })
    .unwrap_or_else(|error| {
        let processes = tracing.status().processes;
        let contexts: Vec<_> = processes.iter().map(|line| &line.context).collect();
        panic!("{error}: {contexts:?}")
    });
    let effective = std::fs::read_to_string(format!("/proc/{}/status", tracing.agent.pid()));
    let effective = effective.unwrap();
    let mask = effective.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    let held = u64::from_str_radix(mask.trim(), 16).unwrap().count_ones();
    assert_eq!(held as usize, names.len(), "{mask}");

    load(&gateway, 4, &gets("/orders", 1, 100));
    let forest = tracing.forest_of(900);
    assert_eq!((forest.traces().len(), forest.roots().count()), (100, 100));
    for root in forest.roots() {
        assert_eq!(forest.outline(root).lines().count(), 9, "{}", forest.outline(root));
    }
    let log = tracing.agent.stderr().unwrap();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// Packages of the agent under test, revisions 1 and 2.
fn packages(directory: &Path) -> [String; 2] {
    // A debug build's symbols are most of it, and packed for nothing.
    let stripped = directory.join("wirespan");
    let mut strip = Command::new("strip");
    assert!(strip.arg("-o").arg(&stripped).arg(binary()).status().unwrap().success());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    ["1", "2"].map(|revision| {
        let mut command = Command::new(&cargo);
        command.args(["run", "--quiet", "--offline", "--package", "xtask", "--", "package"]);
        command.args(["--only=deb", "--revision", revision, "--binary"]).arg(&stripped);
        command.arg("--out").arg(directory).current_dir(root());
        assert!(command.status().unwrap().success());
        format!("{SHARED}/wirespan_{}-{revision}_amd64.deb", env!("CARGO_PKG_VERSION"))
    })
}

/// What systemd says of the agent's unit.
fn shown(machine: &Machine, property: &str) -> String {
    let said = machine.run(&["systemctl", "show", "--value", "--property", property, "wirespan"]);
    said.trim().to_owned()
}

/// What the agent and systemd say in the unit's log.
fn log(machine: &Machine) -> String {
    machine.run(&["journalctl", "--unit=wirespan", "--output=cat", "--no-pager"])
}

/// Asks the application until the unit's log has a tree of it that it did not have before.
fn shows_a_tree(machine: &Machine, gateway: &Service) {
    let trees = || log(machine).matches("GET /orders/{id}").count();
    let before = trees();
    let mut asked = 0;
    wait::until("a tree is shown", PATIENCE, || {
        load(gateway, 1, &gets("/orders", asked, 1));
        asked += 1;
        Ok((trees() > before).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", log(machine)));
}

/// Waits until the unit runs with another process than the one before, which it returns.
fn runs_anew(machine: &Machine, before: &str) -> String {
    wait::until("the unit runs", PATIENCE, || {
        let pid = shown(machine, "MainPID");
        let runs = shown(machine, "ActiveState") == "active";
        Ok((runs && pid != before && pid != "0").then_some(pid))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", log(machine)))
}

/// From the package, under systemd with all that the unit says: what an operator does, in that order.
#[test]
#[ignore = "long: boots systemd and packs the agent twice"]
fn a_package_is_installed_runs_as_its_unit_says_and_leaves_nothing() {
    const CONFIGURATION: &str = "rules: [{match: {cgroup: '*/shop.service'}}]\n";
    const FILE: &str = "/etc/wirespan/wirespan.yaml";
    const UNIT: &str = "/usr/lib/systemd/system/wirespan.service";
    let lab = Lab::new();
    let machine = Machine::boot(lab.path());
    let [first, second] = packages(&machine.shared());
    let prices = lab.installed.plain("prices").unwrap().start(lab.path()).unwrap();
    let orders = lab.installed.flask("orders", Worker::Gthread(4), 1).unwrap();
    let orders = orders.upstream(&prices).start(lab.path()).unwrap();
    let unit = ["systemd-run", "--quiet", "--unit=shop", "--pipe", "--wait", "--collect"];
    let start = machine.words().into_iter().chain(unit.map(str::to_owned)).collect();
    let stock = lab.installed.fastapi("stock", Loop::Asyncio).unwrap();
    let stock = stock.upstream(&prices).start(lab.path()).unwrap();
    let gateway = lab.installed.gateway(&orders, &stock).unwrap();
    let gateway = gateway.started_by(start).start(lab.path()).unwrap();
    let dpkg = |words: &[&str]| machine.run(&[&["dpkg", "--force-unsafe-io"], words].concat());
    let before = machine.changes();

    dpkg(&["--install", &first]);
    let verified = machine.run(&["systemd-analyze", "verify", UNIT]);
    assert!(!verified.contains("wirespan"), "{verified}");
    assert_eq!(shown(&machine, "ActiveState"), "inactive", "nobody asked for it yet");
    // It allows nothing: said so, and not tried again.
    let refused = machine.command(&["systemctl", "start", "wirespan"]).output().unwrap();
    assert!(!refused.status.success());
    assert_eq!(
        (shown(&machine, "ExecMainStatus"), shown(&machine, "NRestarts")),
        ("2".into(), "0".into())
    );
    assert_eq!(shown(&machine, "ActiveState"), "failed");

    machine.write(FILE, CONFIGURATION);
    machine.run(&["systemctl", "enable", "--quiet", "wirespan"]);
    let began = sys::monotonic();
    machine.run(&["systemctl", "start", "wirespan"]);
    shows_a_tree(&machine, &gateway);
    eprintln!("the first tree came {:?} after the start", sys::monotonic() - began);

    // It is killed.
    let killed = runs_anew(&machine, "");
    machine.run(&["kill", "-KILL", &killed]);
    let pid = runs_anew(&machine, &killed);
    shows_a_tree(&machine, &gateway);
    // It hangs: the watchdog's time is the unit's own, but for this.
    machine.run(&["mkdir", "/run/systemd/system/wirespan.service.d"]);
    machine.write(
        "/run/systemd/system/wirespan.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=3s\n",
    );
    machine.run(&["systemctl", "daemon-reload"]);
    machine.run(&["systemctl", "restart", "wirespan"]);
    let hangs = runs_anew(&machine, &pid);
    machine.run(&["kill", "-STOP", &hangs]);
    let pid = runs_anew(&machine, &hangs);
    shows_a_tree(&machine, &gateway);

    dpkg(&["--install", &second]);
    runs_anew(&machine, &pid);
    shows_a_tree(&machine, &gateway);
    let version = machine.run(&["dpkg-query", "--show", "--showformat=${Version}", "wirespan"]);
    assert!(version.ends_with("-2"), "{version}");
    assert_eq!(machine.run(&["cat", FILE]), CONFIGURATION, "the operator's file");

    dpkg(&["--remove", "wirespan"]);
    assert_eq!(shown(&machine, "ActiveState"), "inactive");
    let left: BTreeSet<String> = machine.changes().difference(&before).cloned().collect();
    assert!(left.contains(&format!(".{FILE}")), "{left:?}");
    dpkg(&["--purge", "wirespan"]);
    assert_eq!(machine.changes(), before);
}
