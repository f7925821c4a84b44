//! Made-up `/proc` trees, and this machine's own.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A Node.js process that lives in no tree.
pub(crate) fn node(command: &[&str], listening: &[u16]) -> Process {
    let version = Version { major: 20, minor: 11, patch: Some(1) };
    process("/usr/bin/node", Runtime::Node(Some(version)), command, listening)
}

/// A CPython process that lives in no tree.
pub(crate) fn python(command: &[&str], listening: &[u16]) -> Process {
    let version = Version { major: 3, minor: 11, patch: None };
    process("/usr/bin/python3.11", Runtime::Python(Some(version)), command, listening)
}

fn process(exe: &str, runtime: Runtime, command: &[&str], listening: &[u16]) -> Process {
    Process {
        pid: 4711,
        start_time: 99,
        ppid: 1,
        namespace_pid: 4711,
        exe: exe.into(),
        exe_deleted: false,
        command: command.iter().map(|&word| word.to_owned()).collect(),
        environment: Environment::default(),
        cwd: "/srv/orders".into(),
        uid: 1000,
        user: Some("app".to_owned()),
        cgroup: "/".to_owned(),
        container_id: None,
        container: None,
        pod_uid: None,
        systemd_unit: None,
        pid_namespace: Some(4_026_531_836),
        net_namespace: Some(4_026_531_840),
        user_namespace: Some(4_026_531_837),
        runtime,
        listening: listening.to_vec(),
        parent: None,
    }
}

/// A `/proc` in a directory of its own.
pub(super) struct Tree {
    pub(super) directory: tempfile::TempDir,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn procfs(&self) -> ProcFs {
        ProcFs::new(self.directory.path().join("proc"))
    }

    /// Adds a process whose executable is a file called `exe` holding `image`.
    pub(super) fn add(&self, pid: i32, ppid: i32, exe: &str, image: &[u8], command: &[&str]) {
        let proc = self.entry(pid);
        let rootfs = self.rootfs();
        for directory in [&proc.join("fd"), &proc.join("net"), &proc.join("ns"), &rootfs] {
            fs::create_dir_all(directory).unwrap();
        }
        let image_path = self.directory.path().join(exe);
        fs::write(&image_path, image).unwrap();
        symlink(&image_path, proc.join("exe")).unwrap();
        symlink(&rootfs, proc.join("root")).unwrap();
        symlink("/srv/orders", proc.join("cwd")).unwrap();
        for (kind, inode) in [("pid", 11), ("net", 12), ("user", 13)] {
            symlink(format!("{kind}:[{inode}]"), proc.join("ns").join(kind)).unwrap();
        }
        let stat = format!(
            "{pid} (a) b) S {ppid} 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 11 0 123456 1 2 3\n"
        );
        self.write(pid, "stat", stat.as_bytes());
        self.write(
            pid,
            "status",
            format!("Name:\ta\nUid:\t1\t1000\t1\t1\nNSpid:\t{pid}\t7\n").as_bytes(),
        );
        self.write(pid, "cmdline", format!("{}\0", command.join("\0")).as_bytes());
        self.write(pid, "maps", b"");
        self.write(pid, "uid_map", b"0 0 4294967295\n");
        self.file("/etc/passwd", "app:x:1000:1000::/:/bin/sh\n");
    }

    pub(super) fn write(&self, pid: i32, name: &str, content: &[u8]) {
        fs::write(self.entry(pid).join(name), content).unwrap();
    }

    /// A file in the processes' root.
    pub(super) fn file(&self, inner: &str, content: &str) {
        let path = self.rootfs().join(inner.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn entry(&self, pid: i32) -> PathBuf {
        self.directory.path().join("proc").join(pid.to_string())
    }

    fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }
}

#[test]
fn a_process_is_described() {
    let tree = Tree::new();
    tree.add(42, 7, "node", b"...node.js/v20.11.1\0...", &["node", "server.js"]);
    let id = "ab".repeat(32);
    tree.write(42, "cgroup", format!("0::/system.slice/docker-{id}.scope\n").as_bytes());
    tree.write(42, "environ", b"OTEL_SERVICE_NAME=a\0OTEL_SERVICE_NAME=b\0SECRET=x\0npm_config_token=y\0OTEL_EXPORTER_OTLP_HEADERS=z\0PYTHONPATH=/p\0OTEL_EXPORTER_OTLP_ENDPOINT=http://u:p@h\0FLASK_APP=/f\0");
    let line = |n: u16, inode: u64| {
        format!(
            "   {n}: 00000000:{n:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0\n"
        )
    };
    tree.write(42, "net/tcp", format!("header\n{}{}", line(3000, 91), line(80, 92)).as_bytes());
    tree.write(42, "net/tcp6", format!("header\n{}", line(3001, 93)).as_bytes());
    for (number, target) in [("0", "/dev/null"), ("3", "socket:[93]"), ("4", "socket:[91]")] {
        symlink(target, tree.entry(42).join("fd").join(number)).unwrap();
    }
    let process = tree.procfs().inspect(42).unwrap();
    let version = Version { major: 20, minor: 11, patch: Some(1) };
    assert_eq!(process.runtime, Runtime::Node(Some(version)));
    assert_eq!((process.ppid, process.start_time, process.namespace_pid), (7, 123_456, 7));
    assert_eq!(process.command, ["node", "server.js"]);
    assert_eq!(process.listening, [3000, 3001]);
    assert_eq!(process.user.as_deref(), Some("app"));
    assert_eq!(process.container_id.as_deref(), Some(id.as_str()));
    assert_eq!((process.pid_namespace, process.net_namespace), (Some(11), Some(12)));
    assert_eq!(process.environment.get("OTEL_SERVICE_NAME"), Some("a"));
    assert_eq!(process.environment.get("FLASK_APP"), Some("/f"));
    for other in [
        "SECRET",
        "npm_config_token",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "PYTHONPATH",
    ] {
        assert_eq!(process.environment.get(other), None, "{other}");
    }
    let shown = format!("{:?}", process.environment);
    assert!(shown.contains("FLASK_APP") && !shown.contains("/f"), "{shown}");
}

/// Most of what a node executes: its command line and its environment are nobody's business.
#[test]
fn of_what_cannot_be_traced_nothing_is_read_but_that() {
    let tree = Tree::new();
    tree.add(42, 1, "cc1", b"", &["cc1", "-o", "a.o"]);
    tree.add(43, 1, "node", b"", &["node", "a.js"]);
    for pid in [42, 43] {
        for name in ["status", "cmdline"] {
            fs::remove_file(tree.entry(pid).join(name)).unwrap();
        }
    }
    let procfs = tree.procfs();
    assert_eq!(procfs.inspect_traceable(42).unwrap(), None);
    assert!(procfs.inspect(42).is_err() && procfs.inspect_traceable(43).is_err());
    assert!(matches!(procfs.inspect_traceable(44), Err(InspectError::Gone { pid: 44 })));
    tree.add(45, 1, "nodejs", b"", &["node", "b.js"]);
    let whole = procfs.inspect_traceable(45).unwrap();
    assert_eq!(whole, Some(procfs.inspect(45).unwrap()));
}

#[test]
fn a_replaced_executable_is_said() {
    let tree = Tree::new();
    tree.add(42, 1, "node (deleted)", b"", &["node"]);
    let process = tree.procfs().inspect(42).unwrap();
    assert!(process.exe_deleted && process.exe.ends_with("node"), "{:?}", process.exe);
    assert_eq!(process.runtime, Runtime::Node(None));
}

#[test]
fn what_is_not_there_is_gone_and_what_runs_nothing_is_said() {
    let tree = Tree::new();
    tree.add(42, 1, "node", b"", &["node"]);
    let procfs = tree.procfs();
    assert!(matches!(procfs.inspect(43), Err(InspectError::Gone { pid: 43 })));
    fs::remove_file(tree.entry(42).join("exe")).unwrap();
    assert!(matches!(procfs.inspect(42), Err(InspectError::NoProgram { pid: 42 })));
    tree.write(42, "stat", b"42 (a) Z 1 1 1");
    assert!(matches!(procfs.inspect(42), Err(InspectError::Malformed { .. })));
}

/// Each file of an entry removed, emptied, or filled with noise: an answer or an error, no panic.
#[test]
fn a_broken_entry_is_an_answer() {
    for name in ["stat", "status", "cmdline", "maps", "uid_map", "exe", "root", "cwd"] {
        for content in [None, Some(&b""[..]), Some(&[0xff, 0, b'/', b':', b'[', b'\n', 0xc3][..])] {
            let tree = Tree::new();
            tree.add(42, 1, "node", b"", &["node"]);
            fs::remove_file(tree.entry(42).join(name)).unwrap();
            if let Some(content) = content {
                tree.write(42, name, content);
            }
            let answer = tree.procfs().inspect(42);
            let required = ["stat", "status", "exe"].contains(&name);
            assert_eq!(
                answer.is_err(),
                required
                    || (name != "root" && name != "cwd" && name != "uid_map" && content.is_none()),
                "{name} {content:?}"
            );
        }
    }
}

#[test]
fn ancestry_ends_at_the_namespaces_edge_and_at_a_loop() {
    let tree = Tree::new();
    tree.add(1, 0, "init", b"", &["init"]);
    tree.add(2, 1, "sh", b"", &["sh"]);
    tree.add(3, 2, "wirespan", b"", &["wirespan"]);
    tree.add(9, 9, "loop", b"", &["loop"]);
    let procfs = tree.procfs();
    let pids: Vec<i32> = procfs.ancestry(3).iter().map(|id| id.pid).collect();
    assert_eq!(pids, [3, 2, 1]);
    assert_eq!(procfs.ancestry(9).len(), limits::ANCESTORS);
    assert_eq!(procfs.pids().unwrap(), [1, 2, 3, 9]);
    assert!(procfs.traceable().unwrap().is_empty());
}

#[test]
fn this_very_process_is_read_from_the_real_proc() {
    let procfs = ProcFs::new("/proc");
    let pid = i32::try_from(std::process::id()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let process = procfs.inspect(pid).unwrap();
    assert_eq!(process.exe, std::env::current_exe().unwrap());
    assert_eq!(process.id(), procfs.identify(pid).unwrap());
    assert_eq!(process.cwd, std::env::current_dir().unwrap());
    assert_eq!(process.runtime, Runtime::Other);
    assert!(process.net_namespace.is_some());
    assert!(procfs.listening(pid).contains(&listener.local_addr().unwrap().port()));
    assert_eq!(procfs.ancestry(pid).first(), Some(&process.id()));
}

/// A real interpreter, alive while it waits for its standard input to end.
fn real(program: &str, arguments: &[&str], expected: fn(Runtime) -> bool) {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();
    let found = ProcFs::new("/proc").inspect(i32::try_from(child.id()).unwrap());
    drop(child.stdin.take());
    child.wait().unwrap();
    let found = found.unwrap();
    assert!(expected(found.runtime), "{:?}", found.runtime);
    assert!(found.runtime.version().unwrap().patch.is_some(), "{:?}", found.runtime);
    assert_eq!(found.listening, [port]);
}

#[test]
fn a_real_node_is_recognised() {
    let script = "const s = require('net').createServer().listen(0, () => {
        console.log(s.address().port); process.stdin.resume().on('end', () => process.exit()); })";
    real("node", &["-e", script], |runtime| matches!(runtime, Runtime::Node(_)));
}

#[test]
fn a_real_python_is_recognised() {
    let script = "import socket, sys
s = socket.create_server(('127.0.0.1', 0))
print(s.getsockname()[1], flush=True)
sys.stdin.read()";
    real("python3", &["-c", script], |runtime| matches!(runtime, Runtime::Python(_)));
}
