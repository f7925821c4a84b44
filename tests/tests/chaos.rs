//! Whatever is done to the agent or to what it needs: the applications don't notice, no span is wrong, the books balance
//! and the memory is back.
//!
//! Express serves requests at a steady rate meanwhile, with four calls each that carry the request's number, which the
//! agent doesn't know. `cargo xtask chaos` runs the long forms too.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rstest::rstest;
use wirespan::books::Status;
use wirespan_tests::accuracy::{self, costed, judge, looked_at};
use wirespan_tests::agent::{self, Agent};
use wirespan_tests::pace::{Load, Pace};
use wirespan_tests::script::Script;
use wirespan_tests::workloads::{Service, ports, root};
use wirespan_tests::{spans, wait};

use crate::common::kernel::{existing, held, pinned};
use crate::common::lab::{Lab, PATIENCE, Tracing};

/// Requests a second: far from what keeps the machine busy, so that what is lost has another reason.
const RATE: f64 = 60.0;

/// An application under load.
struct Ground {
    lab: Lab,
    front: Service,
    // After what asks them.
    _servers: accuracy::Bench,
}

impl Ground {
    fn new() -> Self {
        let lab = Lab::new();
        let servers = accuracy::Bench::start(
            lab.installed.clone(),
            &agent::binary(),
            &lab.path().join("servers"),
        )
        .unwrap();
        let [express, ..] = costed().unwrap();
        let front = servers.spec(express).unwrap().start(lab.path()).unwrap();
        Self { lab, front, _servers: servers }
    }

    fn rule(&self) -> String {
        format!("port={}", self.front.port())
    }

    /// Traces it; `more`: further arguments.
    fn trace(&self, more: &[&str]) -> Tracing {
        let tracing = self.lab.agent("agent", &[self.rule()], more);
        looked_at(&tracing.agent).unwrap();
        tracing
    }

    fn load(&self) -> Load {
        let path = "/each".to_owned();
        Load::start(Pace {
            address: self.front.address(),
            path,
            connections: 8,
            per_second: Some(RATE),
        })
    }
}

/// Waits until this many more requests were answered; fails when one was not.
fn answered(load: &Load, count: usize) {
    let mut all = 0;
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
    let due = Duration::from_secs_f64(count as f64 / RATE);
    wait::until("requests are answered", PATIENCE + due, || {
        all += load.take()?.len();
        Ok((all >= count).then_some(()))
    })
    .unwrap();
}

/// Requests that a time of this length takes.
fn seconds(count: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small and positive"
    )]
    let rate = RATE as usize;
    count * rate
}

/// The numbers of a load's requests, all of them and more.
const ALL: Range<usize> = 0..usize::MAX;

/// No call stands under another request than its own. Returns how many stand under theirs.
fn none_wrong(file: &Path) -> usize {
    let (tally, example) = judge(&spans::read(file).unwrap(), ALL);
    assert_eq!(tally.wrong, 0, "{tally:?}: {example:?}");
    tally.right
}

/// Resident bytes and open descriptors.
fn held_by(agent: &Agent) -> (u64, usize) {
    let resident = agent.status().unwrap()["agent_resident_bytes"].as_u64().unwrap();
    (resident, fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count())
}

/// Once the load is over: the books balance, no span is wrong, memory and descriptors are what they were.
fn sound(tracing: &Tracing, before: (u64, usize)) -> Status {
    let status = tracing.settled();
    let right = none_wrong(&tracing.file);
    let after = held_by(&tracing.agent);
    eprintln!(
        "{right} calls right, none wrong; {} operations dropped; {} -> {} KiB, {} -> {} descriptors",
        status.total.kernel.operations_dropped,
        before.0 >> 10,
        after.0 >> 10,
        before.1,
        after.1
    );
    assert!(right > 0, "nothing was traced: {status:#?}");
    assert!(after.0 < before.0 + before.0 / 2 + (24 << 20), "{before:?} -> {after:?}");
    assert!(after.1 <= before.1 + 2, "{before:?} -> {after:?}");
    status
}

/// What does not answer as a collector should, each in its own way.
#[derive(Clone, Copy, Debug)]
enum Collector {
    /// Takes connections and what comes over them, and says nothing.
    Silent,
    /// Ends each connection at once.
    Refusing,
    /// Ends it in the middle of what it is sent.
    Closing,
    /// Answers what isn't HTTP.
    Babbling,
}

const COLLECTORS: [Collector; 4] =
    [Collector::Silent, Collector::Refusing, Collector::Closing, Collector::Babbling];

struct Bad {
    port: u16,
    met: Arc<AtomicUsize>,
}

impl Bad {
    /// Serves until the test's process ends.
    fn start(way: Collector) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let met = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&met);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || Self::serve(stream, way));
            }
        });
        Self { port, met }
    }

    /// What a peer that breaks off makes of it is what is tested; errors are its way to end.
    fn serve(mut stream: TcpStream, way: Collector) {
        let mut buffer = [0; 512];
        match way {
            Collector::Silent => while stream.read(&mut buffer).is_ok_and(|count| count > 0) {},
            Collector::Refusing => {}
            Collector::Closing => drop(stream.read(&mut buffer)),
            Collector::Babbling => drop(stream.write_all(b"\x00\xff not HTTP at all\r\n\r\n")),
        }
    }
}

#[rstest]
#[case::shortly(8)]
#[ignore = "long: minutes of it"]
#[case::for_minutes(240)]
fn a_collector_that_is_absent_silent_or_breaks_off_stalls_nothing(#[case] each: usize) {
    let ground = Ground::new();
    let bad = COLLECTORS.map(Bad::start);
    let nobody = ports::free().unwrap();
    let exporters: Vec<String> = bad
        .iter()
        .map(|collector| collector.port)
        .chain([nobody])
        .flat_map(|port| {
            ["otlp", "otlphttp"].map(|kind| format!("--export={kind}=http://127.0.0.1:{port}"))
        })
        .collect();
    let tracing = ground.trace(&exporters.iter().map(String::as_str).collect::<Vec<_>>());
    let load = ground.load();
    answered(&load, seconds(1));
    let before = held_by(&tracing.agent);
    answered(&load, seconds(each));
    drop(load);
    // What waits for a collector that never comes stays in its queue: the file's alone is to be empty.
    let status = wait::until("the books balance", PATIENCE, || {
        let status = tracing.status();
        let file = status.exporters.iter().find(|exporter| exporter.name.starts_with("file:"));
        let done = file.is_some_and(|file| file.queued == 0 && file.refused == 0);
        let over = status.calls.open == 0 && status.calls.waiting == 0;
        Ok((done && over && status.check().is_empty()).then_some(status))
    });
    let status = status.unwrap_or_else(|error| panic!("{error}: {:#?}", tracing.status()));
    for (way, collector) in COLLECTORS.iter().zip(&bad) {
        let met = collector.met.load(Ordering::Relaxed);
        eprintln!("{way:?}: {met} connections");
        assert!(met >= 2, "{way:?} was not asked by both");
    }
    let right = none_wrong(&tracing.file);
    assert!(right as u64 * 5 >= status.spans * 3, "{right} of {} spans", status.spans);
    let after = held_by(&tracing.agent);
    // Their queues are bounded by what they hold.
    assert!(after.0 < before.0 + (96 << 20), "{before:?} -> {after:?}");
}

/// A small file system of its own.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    pub(crate) fn mount(place: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&place).unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "wirespan-test"]).arg(&place);
        assert!(mount.status().unwrap().success(), "mount");
        Self(place)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be busy still; without its users it is gone all the same.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_file_system_is_counted_and_the_rest_goes_on() {
    let ground = Ground::new();
    let disk = Disk::mount(ground.lab.path().join("disk"), "256k");
    let full = disk.0.join("spans.jsonl");
    let tracing = ground.trace(&[&format!("--export=file:{}", full.display())]);
    let load = ground.load();
    answered(&load, seconds(1));
    let before = held_by(&tracing.agent);
    let refused = |status: &Status| -> u64 {
        let mut small = status.exporters.iter().filter(|exporter| exporter.name.contains("/disk/"));
        small.next().unwrap().refused
    };
    wait::until("the file system is full", PATIENCE, || {
        Ok((refused(&tracing.status()) > 0).then_some(()))
    })
    .unwrap();
    answered(&load, seconds(1));
    drop(load);
    let status = sound(&tracing, before);
    // What is on the full one is whole, line by line, and as many as it says.
    let small = status.exporters.iter().find(|exporter| exporter.name.contains("/disk/")).unwrap();
    let written = spans::read(&full).unwrap().len() as u64;
    assert_eq!(written, small.exported, "{small:?}");
    assert!(small.last_error.as_ref().is_some_and(|error| error.contains("No space")), "{small:?}");
}

/// Sets the agent's own limit on open descriptors (prlimit(1)) and returns what it was.
fn limit_descriptors(pid: u32, count: usize) -> usize {
    let prlimit = |arguments: &[&str]| {
        let mut command = Command::new("prlimit");
        let output = command.args(["--pid", &pid.to_string()]).args(arguments).output().unwrap();
        assert!(output.status.success(), "prlimit: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let before = prlimit(&["--nofile", "--output=SOFT", "--noheadings"]);
    // The one that only root may raise stays.
    prlimit(&[&format!("--nofile={count}:")]);
    before.trim().parse().unwrap()
}

#[test]
fn an_agent_without_descriptors_loses_nobody_for_good() {
    const PROCESSES: usize = 8;
    let ground = Ground::new();
    let tracing = ground.trace(&["--allow=cmd=*sockets.py chaos*"]);
    let load = ground.load();
    answered(&load, seconds(1));
    let before = held_by(&tracing.agent);
    let usual = limit_descriptors(tracing.agent.pid(), before.1);
    let names: Vec<String> = (0..PROCESSES).map(|number| format!("chaos{number}")).collect();
    let mut scripts: Vec<Script> = names.iter().map(|name| Script::start(name).unwrap()).collect();
    answered(&load, seconds(2));
    assert!(tracing.agent.is_running().unwrap(), "{}", tracing.agent.stderr().unwrap());
    limit_descriptors(tracing.agent.pid(), usual);
    wait::until("all of them are traced", PATIENCE, || {
        let status = tracing.status();
        let traced =
            names.iter().filter(|name| status.processes.iter().any(|it| it.service == **name));
        Ok((traced.count() == PROCESSES).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", tracing.status().processes));
    for script in &mut scripts {
        script.run("None").unwrap();
    }
    drop(scripts);
    drop(load);
    sound(&tracing, before);
}

#[rstest]
#[case::shortly(2)]
#[ignore = "long: more than a million connections"]
#[case::for_long(500)]
fn hostile_bytes_harm_nobody(#[case] rounds: usize) {
    let ground = Ground::new();
    let tracing = ground.trace(&["--allow=cmd=*sockets.py hostile*"]);
    let mut script = Script::start("hostile").unwrap();
    let load = ground.load();
    answered(&load, seconds(1));
    let before = held_by(&tracing.agent);
    let testdata = root().join("agent/protocols/testdata");
    for seed in 0..rounds {
        let code = format!(
            "import hostile\nhostile.run({:?}, 50, {seed})",
            testdata.display().to_string()
        );
        eprintln!("seed {seed}: {} connections and bytes", script.run(&code).unwrap());
        answered(&load, 1);
    }
    drop(load);
    let status = sound(&tracing, before);
    let hostile = status.processes.iter().find(|process| process.service == "hostile").unwrap();
    assert!(hostile.kernel.operations_seen > 0, "{hostile:?}");
    drop(script);
}

#[rstest]
#[ignore = "long: it is killed a hundred times"]
#[case::a_hundred_times(100)]
fn killed_again_and_again_it_leaves_nothing(#[case] times: usize) {
    let ground = Ground::new();
    let files = pinned();
    let load = ground.load();
    answered(&load, seconds(1));
    for time in 0..times {
        let mut tracing = ground.lab.agent(&format!("agent-{time}"), &[ground.rule()], &[]);
        // At moments of all kinds: while it looks at processes, while Node's assist is put in, while it traces.
        answered(&load, 1 + (time * 37) % seconds(2));
        let objects = held(tracing.agent.pid());
        tracing.agent.kill().unwrap();
        wait::until("its kernel objects are gone", PATIENCE, || {
            Ok(existing(&objects).is_empty().then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}", existing(&objects)));
        if tracing.file.exists() {
            none_wrong(&tracing.file);
        }
    }
    assert_eq!(pinned(), files);
    let tracing = ground.trace(&[]);
    answered(&load, seconds(1));
    let before = held_by(&tracing.agent);
    answered(&load, seconds(2));
    drop(load);
    sound(&tracing, before);
}

/// A control group (version 1 or 2) that is removed at the end.
struct Group(PathBuf);

impl Group {
    /// `controller` is `memory` or `cpu`.
    fn new(controller: &str) -> Self {
        let name = format!("wirespan-chaos-{}", std::process::id());
        let (one, two) =
            (Path::new("/sys/fs/cgroup").join(controller), Path::new("/sys/fs/cgroup"));
        let place = if one.is_dir() { one.join(name) } else { two.join(name) };
        fs::create_dir_all(&place).unwrap();
        Self(place)
    }

    fn is_v2(&self) -> bool {
        self.0.join("cgroup.type").exists() || self.0.join("cgroup.events").exists()
    }

    fn set(&self, v1: &str, v2: &str, v1_value: &str, v2_value: &str) {
        let (file, value) = if self.is_v2() { (v2, v2_value) } else { (v1, v1_value) };
        fs::write(self.0.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// A program that starts the agent within it.
    fn wrapped(&self, directory: &Path) -> PathBuf {
        let script = directory.join("within");
        let procs = self.0.join("cgroup.procs");
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = run ] && echo $$ > {}\nexec {} \"$@\"\n",
            procs.display(),
            agent::binary().display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may be a moment from its end; an empty one that stays harms nobody.
        let gone = || Ok(fs::remove_dir(&self.0).is_ok().then_some(()));
        drop(wait::until("the control group is empty", Duration::from_secs(10), gone));
    }
}

#[test]
#[ignore = "long: it has a twentieth of a CPU"]
fn a_twentieth_of_a_cpu_costs_spans_not_truth() {
    let ground = Ground::new();
    let group = Group::new("cpu");
    let tracing = ground.trace(&[]);
    let load = ground.load();
    answered(&load, seconds(2));
    let before = held_by(&tracing.agent);
    group.set("cpu.cfs_quota_us", "cpu.max", "5000", "5000 100000");
    group.add(tracing.agent.pid());
    answered(&load, seconds(20));
    group.set("cpu.cfs_quota_us", "cpu.max", "-1", "max 100000");
    answered(&load, seconds(5));
    drop(load);
    sound(&tracing, before);
    drop(tracing);
    drop(group);
}

#[test]
#[ignore = "long: many connections and calls in 96 MB"]
fn ninety_six_megabytes_are_enough() {
    let ground = Ground::new();
    let group = Group::new("memory");
    group.set("memory.limit_in_bytes", "memory.max", "96M", "96M");
    let binary = group.wrapped(ground.lab.path());
    let directory = ground.lab.path().join("agent");
    let file = directory.join("spans.jsonl");
    let arguments =
        [format!("--export=file:{}", file.display()), format!("--allow={}", ground.rule())];
    let agent = Agent::spawn(&binary, &directory, &arguments).unwrap();
    agent.wait_ready().unwrap();
    looked_at(&agent).unwrap();
    let tracing = Tracing { agent, file };
    let load = ground.load();
    answered(&load, seconds(2));
    let before = held_by(&tracing.agent);
    // As fast as the application can.
    let busy = Pace {
        address: ground.front.address(),
        path: "/each".to_owned(),
        connections: 200,
        per_second: None,
    };
    let busy = Load::start(busy);
    answered(&load, seconds(20));
    busy.take().unwrap();
    drop(busy);
    drop(load);
    let status = tracing.settled();
    assert!(status.spans > 0);
    let (resident, _) = held_by(&tracing.agent);
    eprintln!("{} -> {} KiB resident; {} spans", before.0 >> 10, resident >> 10, status.spans);
    drop(tracing);
    drop(group);
}
