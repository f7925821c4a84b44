//! What a process is: the stage that chooses and describes what is traced.
//!
//! Reads `/proc/PID` and files in the process's own root, as foreign bytes: every read is bounded, a
//! process that vanishes is an error and never a panic. It decides nothing about a process's traffic.

mod candidates;
mod databases;
mod environment;
mod parse;
mod program;
mod read;
mod rule;
mod runtime;
mod service;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use candidates::table;
pub use databases::Databases;
pub use environment::Environment;
pub use program::Program;
pub use rule::{Allow, Allowed, Decision, Reason, Rule, RuleError, Rules, Term};
pub use runtime::{Runtime, Version};
pub use service::{AgentInfo, NameSource, name_source, resource, resource_of_child};

use crate::containers::{Container, ContainerId};
use runtime::{Image, Search, Versions};

/// Caps on what is read of one process.
mod limits {
    /// The kernel allows far more, but no service is told by it.
    pub(super) const COMMAND_BYTES: u64 = 64 << 10;
    pub(super) const ARGUMENTS: usize = 1_024;
    pub(super) const ENVIRONMENT_BYTES: u64 = 1 << 20;
    pub(super) const MAPS_BYTES: u64 = 16 << 20;
    pub(super) const MAPPED_FILES: usize = 4_096;
    pub(super) const SMALL_BYTES: u64 = 64 << 10;
    pub(super) const MOUNTS_BYTES: u64 = 1 << 20;
    pub(super) const PASSWD_BYTES: u64 = 1 << 20;
    /// About 6,500 listening sockets in one network namespace.
    pub(super) const SOCKETS_BYTES: u64 = 1 << 20;
    pub(super) const DESCRIPTORS: usize = 65_536;
    pub(super) const ANCESTORS: usize = 64;
    /// Ten times as many as a kubelet lets a node have.
    pub(super) const CONTAINERS: usize = 4_096;
}

/// A process and no later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// The process's number (tgid) in the agent's pid namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

/// A process, as `/proc` shows it to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The number in the agent's pid namespace.
    pub pid: i32,
    /// Clock ticks since boot: with `pid`, the identity.
    pub start_time: u64,
    /// The parent's number in the agent's pid namespace; 0 for one outside it.
    pub ppid: i32,
    /// The number in the process's own, innermost, pid namespace.
    pub namespace_pid: i32,
    /// The executable, as the process's own root names it.
    pub exe: PathBuf,
    /// The executable was removed or replaced since.
    pub exe_deleted: bool,
    /// The arguments, `argv[0]` first; or the one title that the process gave itself.
    pub command: Vec<String>,
    /// The few variables that name a service, as they were when the process started.
    pub environment: Environment,
    /// The working directory, as the process's own root names it.
    pub cwd: PathBuf,
    /// Effective user id, as the agent's user namespace counts.
    pub uid: u32,
    /// Its name by the passwd(5) file in the process's own root.
    pub user: Option<String>,
    /// The cgroup's path, as the agent's cgroup namespace shows it.
    pub cgroup: String,
    /// The container's full id.
    pub container_id: Option<String>,
    /// What its engine says of the container, once that was asked.
    pub container: Option<Arc<Container>>,
    /// The Kubernetes pod's uid.
    pub pod_uid: Option<String>,
    /// The innermost systemd service, without `.service`; not for a process in a container.
    pub systemd_unit: Option<String>,
    /// The pid namespace's inode.
    pub pid_namespace: Option<u64>,
    /// The network namespace's inode.
    pub net_namespace: Option<u64>,
    /// The user namespace's inode.
    pub user_namespace: Option<u64>,
    /// What executes its code.
    pub runtime: Runtime,
    /// TCP ports it listens on, ascending; looked up for traceable runtimes only.
    pub listening: Vec<u16>,
    /// Its parent, where a rule asks for it ([`Wanted::parent`]) and it can be read.
    pub parent: Option<Parent>,
}

/// What rules can ask of a process's parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its executable, as its own root names it.
    pub exe: PathBuf,
    /// Its arguments, joined with spaces.
    pub command_line: String,
}

/// What is read of processes beyond what always is, because rules ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Variables of their environments, by name.
    pub variables: BTreeSet<String>,
    /// Their parents.
    pub parent: bool,
    /// What engines say of their containers, of those that are not traced as well.
    pub containers: bool,
}

/// A `/proc`, with what was learned about the runtimes' images.
#[derive(Debug)]
pub struct ProcFs {
    root: PathBuf,
    versions: Versions,
    wanted: Wanted,
    containers: HashMap<ContainerId, Arc<Container>>,
}

/// What tells whether more of a process is to be read.
#[derive(Debug)]
struct Glance {
    stat: parse::Stat,
    exe: (PathBuf, bool),
    image: Image,
}

/// Why a process could not be described.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It ended, or its number went to another, while it was looked at.
    #[error("process {pid} is gone")]
    Gone {
        /// The process's number.
        pid: i32,
    },
    /// A kernel thread or a zombie.
    #[error("process {pid} runs no program (a kernel thread or a zombie)")]
    NoProgram {
        /// The process's number.
        pid: i32,
    },
    /// The agent may not read it (no root, no CAP_SYS_PTRACE, or `hidepid`).
    #[error("may not read {}", path.display())]
    Denied {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Reading failed in another way.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file is not as proc(5) describes it.
    #[error("cannot understand {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Process {
    /// The identity: stable over the process's life, never given again.
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_time: self.start_time }
    }

    /// What its child is until it executes something else. `at_ns`: when it was forked, which stands in for
    /// the start time.
    pub fn child(&self, pid: i32, at_ns: u64) -> Self {
        // A clock tick is 10 ms wherever user space sees one (USER_HZ).
        let start_time = at_ns / 10_000_000;
        let namespace_pid = if self.namespace_pid == self.pid { pid } else { 0 };
        Self { pid, start_time, ppid: self.pid, namespace_pid, ..self.clone() }
    }

    /// The command line for a person's terminal: no control characters, and not too long.
    pub fn shown_command(&self) -> String {
        candidates::shortened(&self.command_line())
    }

    /// The command line joined with spaces: what `cmd=` rules match.
    pub fn command_line(&self) -> String {
        self.command.join(" ")
    }
}

impl ProcFs {
    /// A `/proc` mounted at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            versions: Versions::default(),
            wanted: Wanted::default(),
            containers: HashMap::new(),
        }
    }

    /// From now on this is known of a container's processes.
    pub fn know(&mut self, id: ContainerId, container: Arc<Container>) {
        if self.containers.len() >= limits::CONTAINERS {
            // What is needed still is asked for again.
            self.containers.clear();
        }
        self.containers.insert(id, container);
    }

    /// What is read beyond what always is.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// From now on reads this, too. Whether that is other than before.
    pub fn want(&mut self, wanted: Wanted) -> bool {
        let differs = self.wanted != wanted;
        self.wanted = wanted;
        differs
    }

    /// The processes that there are, ascending.
    ///
    /// # Errors
    /// When the directory itself cannot be read.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// Every process with a traceable runtime that can be read now. One that cannot be is left out.
    ///
    /// # Errors
    /// When the directory itself cannot be read.
    pub fn traceable(&self) -> io::Result<Vec<Process>> {
        let inspected = self.pids()?.into_iter().filter_map(|pid| self.inspect_traceable(pid).ok());
        Ok(inspected.flatten().collect())
    }

    /// Which process has this number now.
    ///
    /// # Errors
    /// As [`ProcFs::inspect`].
    pub fn identify(&self, pid: i32) -> Result<ProcessId, InspectError> {
        Ok(ProcessId { pid, start_time: self.stat(pid)?.start_time })
    }

    /// A process and its ancestors, itself first: for the agent, what it must never trace.
    pub fn ancestry(&self, pid: i32) -> Vec<ProcessId> {
        let mut lineage = Vec::new();
        let mut next = pid;
        while next > 0 && lineage.len() < limits::ANCESTORS {
            let Ok(stat) = self.stat(next) else { break };
            lineage.push(ProcessId { pid: next, start_time: stat.start_time });
            next = stat.ppid;
        }
        lineage
    }

    /// Describes a process. What it may hide (its environment, its descriptors) is left empty when
    /// the agent may not read it; what tells its identity and runtime is required.
    ///
    /// # Errors
    /// [`InspectError::Gone`] when it ended meanwhile; see there for the others.
    pub fn inspect(&self, pid: i32) -> Result<Process, InspectError> {
        let glance = self.glance(pid)?;
        self.describe(pid, glance, Search::Images)
    }

    /// The same for a process that could be traced. Of any other (`None`) nothing is read but what tells its
    /// runtime: most of what a node executes is that.
    ///
    /// # Errors
    /// As [`ProcFs::inspect`].
    pub fn inspect_traceable(&self, pid: i32) -> Result<Option<Process>, InspectError> {
        self.traceable_by(pid, Search::Images)
    }

    /// The same at once: the version of a runtime whose image was not seen before is left open, because that is
    /// searched for in a hundred megabytes. [`ProcFs::complete`] finds it.
    ///
    /// # Errors
    /// As [`ProcFs::inspect`].
    pub fn inspect_at_once(&self, pid: i32) -> Result<Option<Process>, InspectError> {
        self.traceable_by(pid, Search::Known)
    }

    /// Finds out what [`ProcFs::inspect_at_once`] left open. Of a process that is gone, or executes something else
    /// by now, it stays open.
    pub fn complete(&self, process: &mut Process) {
        let Ok(Glance { stat, exe: (exe, _), image }) = self.glance(process.pid) else { return };
        if stat.start_time == process.start_time && exe == process.exe {
            process.runtime = self.runtime(process.pid, image, Search::Images);
        }
    }

    fn traceable_by(&self, pid: i32, search: Search) -> Result<Option<Process>, InspectError> {
        let glance = self.glance(pid)?;
        match glance.image {
            Image::Other => Ok(None),
            Image::Node(_) | Image::Python(..) => self.describe(pid, glance, search).map(Some),
        }
    }

    /// What is read first, and of every process.
    fn glance(&self, pid: i32) -> Result<Glance, InspectError> {
        let stat = self.stat(pid)?;
        if matches!(stat.state, b'Z' | b'X') {
            return Err(InspectError::NoProgram { pid });
        }
        let exe = self.exe(pid)?;
        let maps = self.required(pid, "maps", limits::MAPS_BYTES)?;
        let image = runtime::detect(&exe.0, &parse::mapped_files(&maps, limits::MAPPED_FILES));
        Ok(Glance { stat, exe, image })
    }

    fn describe(&self, pid: i32, glance: Glance, search: Search) -> Result<Process, InspectError> {
        let Glance { stat, exe: (exe, exe_deleted), image } = glance;
        let status_path = self.path(pid, "status");
        let status = parse::status(&self.required(pid, "status", limits::SMALL_BYTES)?)
            .ok_or(InspectError::Malformed { path: status_path })?;
        let runtime = self.runtime(pid, image, search);

        let cgroup = parse::cgroup(&self.optional(pid, "cgroup", limits::SMALL_BYTES));
        let container_id = parse::container_id(&cgroup).or_else(|| {
            let mounts = self.optional(pid, "mountinfo", limits::MOUNTS_BYTES);
            parse::container_id_from_mounts(&mounts)
        });
        let container = container_id.as_deref().and_then(|id| self.containers.get(id)).cloned();
        let pod_uid = parse::pod_uid(&cgroup);
        let systemd_unit = match container_id {
            Some(_) => None,
            None => parse::systemd_unit(&cgroup),
        };
        let command = parse::command(
            &self.required(pid, "cmdline", limits::COMMAND_BYTES)?,
            limits::ARGUMENTS,
        );
        let mut environment = Environment::parse(
            &self.optional(pid, "environ", limits::ENVIRONMENT_BYTES),
            &self.wanted.variables,
        );
        if runtime.is_traceable() {
            environment.resolve(|| self.hosts(pid));
        }
        let listening = if runtime.is_traceable() { self.listening(pid) } else { Vec::new() };
        let process = Process {
            pid,
            start_time: stat.start_time,
            ppid: stat.ppid,
            namespace_pid: status.namespace_pid.unwrap_or(pid),
            exe,
            exe_deleted,
            command,
            environment,
            cwd: self.link(pid, "cwd").unwrap_or_default(),
            uid: status.uid,
            user: self.user(pid, status.uid),
            cgroup,
            container_id,
            container,
            pod_uid,
            systemd_unit,
            pid_namespace: self.namespace(pid, "pid"),
            net_namespace: self.namespace(pid, "net"),
            user_namespace: self.namespace(pid, "user"),
            runtime,
            listening,
            parent: self.wanted.parent.then(|| self.parent(stat.ppid)).flatten(),
        };
        // Pieces of two processes must not become one: the number may have been given again, and an
        // exec may have replaced the program.
        let same_image = self.exe(pid)? == (process.exe.clone(), process.exe_deleted);
        if self.stat(pid)?.start_time == stat.start_time && same_image {
            Ok(process)
        } else {
            Err(InspectError::Gone { pid })
        }
    }

    /// Reads at most `limit_bytes` of a regular file inside a process's root.
    ///
    /// # Errors
    /// As the kernel says; a file that is larger is cut.
    pub(crate) fn read_inside(
        &self,
        pid: i32,
        inner: &Path,
        limit_bytes: u64,
    ) -> io::Result<Vec<u8>> {
        let file = read::open_in_root(&self.path(pid, "root"), inner)?;
        read::bounded_file(&file, limit_bytes)
    }

    fn runtime(&self, pid: i32, image: Image, search: Search) -> Runtime {
        let open = |library: Option<&Path>| -> io::Result<File> {
            match library {
                Some(path) => read::open_in_root(&self.path(pid, "root"), path),
                None => read::open(&self.path(pid, "exe")),
            }
        };
        match image {
            Image::Node(library) => {
                let file = open(library.as_deref()).ok();
                Runtime::Node(
                    file.and_then(|file| self.versions.of(file, search, runtime::node_version)),
                )
            }
            Image::Python(library, minor) => {
                let exact = minor.and_then(|minor| {
                    let file = open(library.as_deref()).ok()?;
                    self.versions.of(file, search, |file| runtime::python_version(file, minor))
                });
                Runtime::Python(exact.or(minor))
            }
            Image::Other => Runtime::Other,
        }
    }

    fn exe(&self, pid: i32) -> Result<(PathBuf, bool), InspectError> {
        let link = self.link(pid, "exe").map_err(|source| match source.kind() {
            // The entry is there, its program is not; a process that ended has no entry either.
            io::ErrorKind::NotFound if self.path(pid, "").exists() => {
                InspectError::NoProgram { pid }
            }
            _ => self.error(pid, "exe", source),
        })?;
        match link.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
            Some(path) => Ok((PathBuf::from(OsStr::from_bytes(path)), true)),
            None => Ok((link, false)),
        }
    }

    fn parent(&self, ppid: i32) -> Option<Parent> {
        let (exe, _deleted) = self.exe(ppid).ok()?;
        let command = self.optional(ppid, "cmdline", limits::COMMAND_BYTES);
        let command_line = parse::command(&command, limits::ARGUMENTS).join(" ");
        Some(Parent { exe, command_line })
    }

    fn user(&self, pid: i32, uid: u32) -> Option<String> {
        let map = self.optional(pid, "uid_map", limits::SMALL_BYTES);
        let inside = parse::uid_inside(&map, uid)?;
        let passwd = self.read_inside(pid, Path::new("/etc/passwd"), limits::PASSWD_BYTES).ok()?;
        parse::user_name(&passwd, inside)
    }

    fn listening(&self, pid: i32) -> Vec<u16> {
        let mut sockets = parse::listeners(&self.optional(pid, "net/tcp", limits::SOCKETS_BYTES));
        sockets.extend(parse::listeners(&self.optional(pid, "net/tcp6", limits::SOCKETS_BYTES)));
        if sockets.is_empty() {
            return Vec::new();
        }
        let ports: BTreeMap<u64, u16> = sockets.into_iter().collect();
        let Ok(descriptors) = std::fs::read_dir(self.path(pid, "fd")) else { return Vec::new() };
        let mut listening: Vec<u16> = descriptors
            .take(limits::DESCRIPTORS)
            .filter_map(|entry| {
                let link = std::fs::read_link(entry.ok()?.path()).ok()?;
                ports.get(&parse::bracketed(link.as_os_str().as_bytes(), "socket")?).copied()
            })
            .collect();
        listening.sort_unstable();
        listening.dedup();
        listening
    }

    fn namespace(&self, pid: i32, kind: &str) -> Option<u64> {
        let link = self.link(pid, &format!("ns/{kind}")).ok()?;
        parse::bracketed(link.as_os_str().as_bytes(), kind)
    }

    fn stat(&self, pid: i32) -> Result<parse::Stat, InspectError> {
        parse::stat(&self.required(pid, "stat", limits::SMALL_BYTES)?)
            .ok_or_else(|| InspectError::Malformed { path: self.path(pid, "stat") })
    }

    fn required(&self, pid: i32, name: &str, limit_bytes: u64) -> Result<Vec<u8>, InspectError> {
        let path = self.path(pid, name);
        read::bounded(&path, limit_bytes).map_err(|source| self.error(pid, name, source))
    }

    /// The process's own `/etc/hosts`, unless it is longer than any that a person or an orchestrator writes.
    fn hosts(&self, pid: i32) -> Option<Vec<u8>> {
        let bytes = self.read_inside(pid, Path::new("/etc/hosts"), limits::SMALL_BYTES).ok()?;
        ((bytes.len() as u64) < limits::SMALL_BYTES).then_some(bytes)
    }

    fn optional(&self, pid: i32, name: &str, limit_bytes: u64) -> Vec<u8> {
        read::bounded(&self.path(pid, name), limit_bytes).unwrap_or_default()
    }

    fn error(&self, pid: i32, name: &str, source: io::Error) -> InspectError {
        let path = self.path(pid, name);
        match source.kind() {
            io::ErrorKind::NotFound => InspectError::Gone { pid },
            _ if source.raw_os_error() == Some(libc::ESRCH) => InspectError::Gone { pid },
            io::ErrorKind::PermissionDenied => InspectError::Denied { path, source },
            _ => InspectError::Io { path, source },
        }
    }

    fn link(&self, pid: i32, name: &str) -> io::Result<PathBuf> {
        std::fs::read_link(self.path(pid, name))
    }

    fn path(&self, pid: i32, name: &str) -> PathBuf {
        let mut path = self.root.join(pid.to_string());
        if !name.is_empty() {
            path.push(name);
        }
        path
    }
}

#[cfg(test)]
mod tests;

/// Processes that live in no tree, for other modules' tests.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::tests::{node, python};
}
