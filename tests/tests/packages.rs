//! What is installed: a package comes and goes without a trace, the agent works as its unit runs it, and the rights
//! that the unit lists are all that it needs.

use crate::common;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;

use common::lab::{Lab, PATIENCE, Tracing, gets, load, rule};
use wirespan_tests::agent::{Agent, binary};
use wirespan_tests::process::Group;
use wirespan_tests::workloads::{Loop, Service, Spec, Worker, root};
use wirespan_tests::{sys, wait};

use crate::node_assist::application;

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

/// A root file system of its own on top of this machine's: what changes in it is seen, and gone with it.
struct Root {
    holder: Group,
    directory: PathBuf,
}

impl Root {
    fn new(directory: &Path) -> Self {
        const SCRIPT: &str = r#"set -e
cd "$1"
mkdir space root shared
mount -t tmpfs tmpfs space
mkdir space/upper space/work
mount -t overlay overlay -o lowerdir=/,upperdir=space/upper,workdir=space/work root
for tree in proc sys dev; do mount --rbind /$tree root/$tree; done
mount -t tmpfs tmpfs root/run
mount --bind shared root/mnt
touch ready
exec sleep infinity"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c", SCRIPT, "sh"]).arg(directory);
        let holder = Group::spawn(&mut command).unwrap();
        wait::until("the root is mounted", PATIENCE, || {
            anyhow::ensure!(!holder.has_exited()?, "it can't be mounted");
            Ok(directory.join("ready").exists().then_some(()))
        })
        .unwrap();
        Self { holder, directory: directory.to_owned() }
    }

    /// A command in its mounts, and in it.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.pid().to_string(), "--", "chroot"]);
        command.arg(self.directory.join("root")).args(words);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("SYSTEMD_OFFLINE", "1");
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        let output = self.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {} {said}", output.status);
        output
    }

    /// Whatever is not as below, but for what the package manager keeps for itself.
    fn changes(&self) -> BTreeSet<String> {
        const ITS_OWN: [&str; 4] =
            ["./var/lib/dpkg/", "./var/log/", "./var/cache/man/", "./var/cache/ldconfig/"];
        let upper = self.directory.join("space/upper");
        let script = format!("cd {} && find . ! -type d", upper.display());
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.pid().to_string(), "--", "sh", "-c"]);
        let output = command.arg(script).output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        let foreign = |path: &&str| !ITS_OWN.iter().any(|own| path.starts_with(own));
        listed.lines().filter(foreign).map(str::to_owned).collect()
    }
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
        format!("/mnt/wirespan_{}-{revision}_amd64.deb", env!("CARGO_PKG_VERSION"))
    })
}

#[test]
#[ignore = "long: packs the agent twice"]
fn a_package_is_installed_upgraded_and_purged_without_a_trace() {
    let lab = Lab::new();
    let node = application(&lab, "node").start(lab.path()).unwrap();
    let clean = Root::new(lab.path());
    let shared = lab.path().join("shared");
    let [first, second] = packages(&shared);
    let dpkg = |words: &[&str]| clean.run(&[&["dpkg", "--force-unsafe-io"], words].concat());
    assert_eq!(clean.changes(), BTreeSet::new());

    dpkg(&["--install", &first]);
    let unit = "/usr/lib/systemd/system/wirespan.service";
    let verified = clean.run(&["systemd-analyze", "verify", unit]);
    let said = String::from_utf8(verified.stderr).unwrap();
    assert!(!said.contains("wirespan"), "{said}");
    let status = clean.command(&["/usr/bin/wirespan", "run"]).output().unwrap().status;
    assert_eq!(status.code(), Some(2), "what is installed allows nothing");

    // As the unit runs it, with a rule of the operator's.
    let configuration = format!("rules: [{{match: {{port: {}}}}}]\n", node.port());
    let write = "cat > /etc/wirespan/wirespan.yaml <<'E'\n".to_owned() + &configuration + "E\n";
    clean.run(&["sh", "-c", &write]);
    clean.run(&["systemctl", "enable", "--quiet", "wirespan"]);
    serves_as_its_unit_says(&clean, &shared, &node);

    dpkg(&["--install", &second]);
    let version = clean.run(&["dpkg-query", "--show", "--showformat=${Version}", "wirespan"]);
    assert!(String::from_utf8(version.stdout).unwrap().ends_with("-2"));
    let kept = clean.run(&["cat", "/etc/wirespan/wirespan.yaml"]);
    assert_eq!(String::from_utf8(kept.stdout).unwrap(), configuration, "the operator's file");

    dpkg(&["--remove", "wirespan"]);
    let left: BTreeSet<String> = ["./etc/wirespan/wirespan.yaml".to_owned()].into();
    assert_eq!(clean.changes(), left);
    dpkg(&["--purge", "wirespan"]);
    assert_eq!(clean.changes(), BTreeSet::new());
}

/// It tells the service manager that it is ready, that it works and that it ends, and shows traces meanwhile.
fn serves_as_its_unit_says(clean: &Root, shared: &Path, node: &Service) {
    let manager = UnixDatagram::bind(shared.join("notify")).unwrap();
    // Read at all times, as a service manager does: who tells it something waits until there is room.
    let (messages, received) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(length) = manager.recv(&mut bytes) {
            let message = String::from_utf8_lossy(&bytes[..length]).trim().to_owned();
            if messages.send(message).is_err() {
                return;
            }
        }
    });
    let told = || received.recv_timeout(PATIENCE).expect("the agent tells the service manager");
    let start = unit("ExecStart");
    let mut words: Vec<String> = bounded(&capabilities());
    words.extend(start.split_whitespace().map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = clean.command(&words);
    let output = shared.join("output");
    command.stdout(std::fs::File::create(&output).unwrap());
    command.stderr(std::fs::File::create(shared.join("errors")).unwrap());
    command.env("NOTIFY_SOCKET", "/mnt/notify").env("WATCHDOG_USEC", "200000");
    let began = sys::monotonic();
    let mut agent = Group::spawn(&mut command).unwrap();
    assert_eq!(told(), "READY=1");
    let mut sent = 0;
    wait::until("a tree is shown", PATIENCE, || {
        load(node, 1, &gets("/prices", sent, 1));
        sent += 1;
        Ok(std::fs::read_to_string(&output)?.contains("GET /prices/{id}").then_some(()))
    })
    .unwrap_or_else(|error| {
        panic!("{error}: {}", std::fs::read_to_string(shared.join("errors")).unwrap())
    });
    eprintln!("the first tree came {:?} after the start", sys::monotonic() - began);
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1");
    }
    let ended = agent.terminate(PATIENCE).unwrap();
    assert!(ended.success(), "{ended}");
    let mut last = told();
    while last == "WATCHDOG=1" {
        last = told();
    }
    assert_eq!(last, "STOPPING=1");
}
