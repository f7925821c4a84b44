//! CPython: its contexts are read from outside with every operation, and copies of them are seen by probes.
//!
//! Here is what has to be found in a process for that, and the probes' lives: attached when it is found, and
//! detached when it is gone, executes something else, or the agent ends. The following itself is
//! `agent-ebpf/src/python.rs`. Nothing is written into a process.

mod image;
mod layout;
mod memory;
mod methods;
mod probes;
pub mod selftest;
mod sight;

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, Builder, JoinHandle};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wirespan_ebpf::{PythonProcess, python_flag};

use self::image::Image;
use self::layout::{ENTERED, Found};
use self::memory::Memory;
use crate::call::ProcessId;
use crate::capture::{Capture, PythonLink, PythonProbePoint, Slot};
use crate::clock;
use crate::process::Version;
use crate::runtime::{Method, Reason};

/// An interpreter that has just begun has not loaded what will be looked for, and many a program is over by
/// then: looked at after so long, and after twice as long each time, up to the longest.
const FIRST_LOOK_NS: u64 = 200_000_000;
const LONGEST_LOOK_NS: u64 = 5_000_000_000;

/// Modules are loaded at any time: then the process is looked at more rarely.
const RARE_LOOK_NS: u64 = 30_000_000_000;

/// Threads that let probes go at once.
const DETACHERS: usize = 16;

/// How long processes may be looked at between two ticks: each takes some milliseconds, and meanwhile no record
/// is read. Who is not looked at in time waits, unfollowed.
const LOOKS_NS: u64 = 20_000_000;

const NOT_FOUND: &str = "CPython's symbols, or its main thread, are not found in what is mapped";

/// Why a process isn't followed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// Its interpreter may not have begun yet, or the process is gone.
    Early,
    /// For good.
    Never(Reason),
}

/// A read of a process that may be only beginning, or gone.
fn early(_: io::Error) -> Refusal {
    Refusal::Early
}

/// CPython processes that are traced.
#[derive(Debug, Default)]
pub struct Pythons {
    processes: HashMap<ProcessId, Followed>,
    /// Whether return probes are safe here; `None`: not tried yet, and nobody is followed.
    safe: Option<Result<(), String>>,
    /// What is left of [`LOOKS_NS`].
    left_ns: u64,
    detacher: Option<Detacher>,
}

/// Lets probes go on a thread of its own: the kernel waits for all CPUs with each.
///
/// Dropping it waits until all are gone. A thread that is cut off by the process' end, while the kernel takes a
/// breakpoint out of an application's code, leaves it there.
#[derive(Debug)]
struct Detacher {
    probes: Option<Sender<Vec<PythonLink>>>,
    thread: Option<JoinHandle<()>>,
}

impl Detacher {
    fn start() -> Self {
        let (probes, received) = channel::<Vec<PythonLink>>();
        let work = move || {
            while let Ok(mut links) = received.recv() {
                links.extend(received.try_iter().flatten());
                detach_together(links);
            }
        };
        let thread = match Builder::new().name("wirespan-probes".to_owned()).spawn(work) {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::warn!(%error, "can't start the thread that detaches probes");
                None
            }
        };
        Self { probes: Some(probes), thread }
    }

    fn detach(&self, links: Vec<PythonLink>) {
        if let Some(probes) = &self.probes {
            // Without the thread they come back and go here.
            drop(probes.send(links));
        }
    }
}

impl Drop for Detacher {
    fn drop(&mut self) {
        // The thread ends with the last of what it was sent.
        self.probes = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Probes that are let go by several threads wait for the same moments.
fn detach_together(mut links: Vec<PythonLink>) {
    thread::scope(|scope| {
        let each = links.len().div_ceil(DETACHERS);
        while links.len() > each {
            let some = links.split_off(links.len() - each);
            // Without the thread they go here.
            drop(Builder::new().spawn_scoped(scope, move || drop(some)));
        }
        drop(links);
    });
}

/// Whether the jobs are followed that a process is given by the one that forked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jobs {
    None,
    /// They are to be, from the next look on.
    Wanted,
    /// They are, where their functions were found.
    Followed,
}

#[derive(Debug)]
struct Followed {
    pid: i32,
    slot: Slot,
    version: Version,
    method: Method,
    /// When to look again.
    look_ns: u64,
    wait_ns: u64,
    image: Option<Image>,
    /// Where its structures have what is read: looked at until it was found, and never again.
    found: Option<Found>,
    /// What was mapped when its probes were attached.
    modules: u64,
    flags: u32,
    /// gevent runs here.
    greenlets: bool,
    /// It may be a pool's child, which works on jobs.
    jobs: Jobs,
    probed: Vec<PythonProbePoint>,
    links: Vec<PythonLink>,
}

impl Drop for Pythons {
    fn drop(&mut self) {
        let links = self.processes.drain().flat_map(|(_, followed)| followed.links).collect();
        self.detach(links);
    }
}

impl Pythons {
    /// Finds out whether return probes are safe on this machine. Takes some tens of milliseconds: once, before
    /// anybody has to wait for it.
    pub fn prepare(&mut self, capture: &mut Capture) {
        allow_descriptors();
        let supported = capture.python_support().map_err(str::to_owned);
        let safe = supported.and_then(|()| selftest::run(capture));
        if let Err(reason) = &safe {
            tracing::warn!(%reason, "CPython's contexts can't be followed on this machine");
        }
        self.safe = Some(safe);
    }

    /// A process is traced from now on, or executed something else.
    pub fn began(
        &mut self,
        id: ProcessId,
        pid: i32,
        slot: Slot,
        version: Option<Version>,
        capture: &mut Capture,
    ) {
        self.ended(id);
        capture.leave_python(slot);
        let method = match version {
            Some(_) => Method::Unassisted(Reason::new("not looked at yet")),
            None => Method::Unassisted(Reason::new("its version is not known")),
        };
        let followed = Followed {
            pid,
            slot,
            version: version.unwrap_or(Version { major: 0, minor: 0, patch: None }),
            method,
            // Not now: whoever executes something next would have to wait, and may not live as long.
            look_ns: if version.is_some() {
                clock::monotonic_ns() + FIRST_LOOK_NS
            } else {
                u64::MAX
            },
            wait_ns: FIRST_LOOK_NS,
            image: None,
            found: None,
            modules: 0,
            flags: 0,
            greenlets: false,
            jobs: Jobs::None,
            probed: Vec::new(),
            links: Vec::new(),
        };
        self.processes.insert(id, followed);
    }

    /// It is gone, or not traced any more. Its probes go.
    pub fn ended(&mut self, id: ProcessId) {
        if let Some(followed) = self.processes.remove(&id) {
            self.detach(followed.links);
        }
    }

    /// Lets probes go, on a thread of their own. They are harmless meanwhile: nothing follows the process.
    fn detach(&mut self, links: Vec<PythonLink>) {
        if links.is_empty() {
            return;
        }
        self.detacher.get_or_insert_with(Detacher::start).detach(links);
    }

    /// Whoever forked it takes jobs, which it may work on.
    pub fn works_on_jobs(&mut self, id: ProcessId) {
        if let Some(followed) = self.processes.get_mut(&id)
            && followed.jobs == Jobs::None
        {
            followed.jobs = Jobs::Wanted;
            // One whose interpreter may have only begun has its time.
            if followed.method == Method::Exact {
                followed.look_ns = 0;
            }
        }
    }

    /// How its logical tasks are told apart.
    pub fn method(&self, id: ProcessId) -> Option<&Method> {
        self.processes.get(&id).map(|followed| &followed.method)
    }

    /// Looks at those whose time has come.
    pub fn tick(&mut self, now_ns: u64, capture: &mut Capture) {
        self.left_ns = LOOKS_NS;
        let due = self.processes.iter().filter(|(_, followed)| followed.look_ns <= now_ns);
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.look(id, capture);
        }
    }

    fn look(&mut self, id: ProcessId, capture: &mut Capture) {
        let Some(followed) = self.processes.get_mut(&id) else { return };
        let now = clock::monotonic_ns();
        if followed.look_ns > now || self.left_ns == 0 || self.safe.is_none() {
            return;
        }
        if let Some(Err(reason)) = &self.safe {
            let links = followed.refuse(Reason::new(reason.clone()), capture);
            return self.detach(links);
        }
        let mut links = Vec::new();
        match followed.attach(capture) {
            Ok(()) => {}
            Err(Refusal::Early) if followed.wait_ns < LONGEST_LOOK_NS => {
                followed.method = Method::Unassisted(Reason::new("its interpreter has not begun"));
                followed.look_ns = now.saturating_add(followed.wait_ns);
                followed.wait_ns *= 2;
            }
            Err(Refusal::Early) => links = followed.refuse(Reason::new(NOT_FOUND), capture),
            Err(Refusal::Never(reason)) => links = followed.refuse(reason, capture),
        }
        let Followed { pid, version, method, flags, .. } = followed;
        let probes = followed.links.len();
        tracing::debug!(pid, %version, %method, flags, probes, "CPython looked at");
        self.left_ns = self.left_ns.saturating_sub(clock::monotonic_ns().saturating_sub(now));
        self.detach(links);
    }
}

/// Each probe is a descriptor, about ten a process: the usual limit of 1,024 would be reached soon.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "can't raise the number of open files");
    }
}

impl Followed {
    /// Returns its probes, which are to go.
    fn refuse(&mut self, reason: Reason, capture: &mut Capture) -> Vec<PythonLink> {
        // Before the probes go: without them contexts are mistaken for others at the same addresses.
        capture.leave_python(self.slot);
        self.method = Method::Unassisted(reason);
        self.look_ns = u64::MAX;
        std::mem::take(&mut self.links)
    }

    /// Finds what there is by now and attaches what is not attached yet.
    fn attach(&mut self, capture: &mut Capture) -> Result<(), Refusal> {
        let memory = Memory::open(self.pid).map_err(early)?;
        let image = match self.image.take() {
            Some(image) => image,
            None => image::find(&memory)?,
        };
        let modules = memory.modules();
        if self.method == Method::Exact && modules == self.modules && self.jobs != Jobs::Wanted {
            if let Some(found) = &self.found {
                layout::interpreter(&memory, &image, &found.layout)?;
            }
            self.image = Some(image);
            self.look_later();
            return Ok(());
        }
        let found = match &self.found {
            Some(found) => {
                layout::interpreter(&memory, &image, &found.layout)?;
                found.clone()
            }
            None => layout::find(&memory, &image, self.version)?,
        };
        self.modules = modules;
        let contexts = probes::of_contexts(&memory, &image, &found);
        let attached = self.attach_all(&contexts, capture);
        attached.map_err(|error| Refusal::Never(Reason::new(error)))?;
        let queues = probes::of_queues(&memory, &image);
        let mut flags = 0;
        if self.attach_all(&queues, capture).is_ok()
            && let Some(uvloop) = probes::of_uvloop(&memory)
            && !uvloop.turn.is_empty()
            && self.attach_all(&uvloop.turn, capture).is_ok()
        {
            flags |= python_flag::UVLOOP;
            if !uvloop.writes.is_empty() && self.attach_all(&uvloop.writes, capture).is_ok() {
                flags |= python_flag::DEFERRED_WRITES;
            }
        }
        if self.jobs != Jobs::None {
            let jobs = probes::of_jobs(&memory, &image);
            // Without it what its calls are made for is not known, as of any worker. It is looked for again when
            // something else is mapped.
            let attached = self.attach_all(&jobs, capture);
            if let Err(error) = attached {
                tracing::debug!(pid = self.pid, %error, "a worker's jobs aren't followed");
            }
            self.jobs = Jobs::Followed;
        }
        self.image = Some(image);
        let greenlets = probes::has_greenlets(&memory);
        let now = clock::monotonic_ns();
        if self.method != Method::Exact || flags != self.flags || greenlets != self.greenlets {
            let layout = found.layout;
            let process = PythonProcess {
                interpreters: self.image.as_ref().map_or(0, |image| image.runtime)
                    + layout.interpreters,
                since_ns: now,
                generation: 0,
                flags,
                threads: layout.threads,
                next: layout.next,
                thread_id: layout.thread_id,
                context: layout.context,
                entered: ENTERED,
                frames: if greenlets { layout.frames } else { 0 },
                numbered: 0,
            };
            capture
                .follow_python(self.slot, process)
                .map_err(|error| Refusal::Never(Reason::new(error)))?;
            self.flags = flags;
            self.greenlets = greenlets;
            self.method = Method::Exact;
            self.found = Some(found);
            self.wait_ns = FIRST_LOOK_NS;
        }
        self.look_later();
        Ok(())
    }

    fn look_later(&mut self) {
        self.look_ns = clock::monotonic_ns().saturating_add(self.wait_ns);
        self.wait_ns = self.wait_ns.saturating_mul(2).min(RARE_LOOK_NS);
    }

    fn attach_all(
        &mut self,
        points: &[PythonProbePoint],
        capture: &mut Capture,
    ) -> Result<(), String> {
        for point in points {
            // The link to the file has the mapping's address in it: the same each time.
            if self.probed.contains(point) {
                continue;
            }
            let link = capture
                .attach_python(self.pid, point)
                .map_err(|error| format!("{:?} can't be attached: {error}", point.probe))?;
            self.links.push(link);
            self.probed.push(point.clone());
        }
        Ok(())
    }
}
