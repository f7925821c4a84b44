//! Loading the kernel programs, and the handle on them.

use std::collections::HashSet;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use aya::maps::{Map, MapData, MapError, Queue, RingBuf};
use aya::programs::{BtfTracePoint, Iter, ProgramError};
use aya::sys::{Stats, enable_stats};
use aya::util::nr_cpus;
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use log::Log;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use wirespan_ebpf::{
    LANE_BYTES, ProcessSlot, RINGS, Settings, SignalHandlerRecord, TaskState, process_flag,
};

use crate::capture::cost::{self, HookCost};
use crate::capture::fields::{self, FieldError};
use crate::capture::lanes::Ways;
use crate::capture::object::{OBJECT, RelocateError, relocate};
use crate::capture::python::{self, Pythons};
use crate::capture::record::{self, ProcessEvent, ProcessEventKind, Record, RecordError};
use crate::capture::slots::{Slot, Slots};
use crate::sys::{self, SharedLanes, SharedTable};

/// Payload bytes copied of one burst: enough for the heads of almost all HTTP messages (a median head has
/// a few hundred bytes, one with large cookies some thousand).
pub const DEFAULT_BURST_BUDGET: u32 = 4096;

/// How many times as much is copied where structure is spread over all of a stream: of a pipeline of some
/// thousand commands, all.
pub(crate) const WIDE: u32 = 64;

const PAGE: u32 = 4096;

/// Slots that the kernel's queue is kept filled with: forks between two rounds of the reader.
const FORK_SLOTS: usize = 64;

/// Records that are looked at before their turn.
const RECORDS_AHEAD: usize = 4096;

/// The tracepoint programs, by the tracepoint's name, which is also the program's.
pub(super) const TRACEPOINTS: [&str; 8] = [
    "sock_send_length",
    "sock_recv_length",
    "sk_data_ready",
    "inet_sock_set_state",
    "tcp_retransmit_skb",
    "sched_process_exec",
    "sched_process_fork",
    "sched_process_exit",
];

const RING_NAMES: [&str; RINGS] = ["RING_0", "RING_1", "RING_2", "RING_3"];

/// The iterators, with what they go over.
pub(super) const ITERATORS: [(&str, &str); 2] = [("inventory", "task_file"), ("handlers", "task")];

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct CaptureSettings {
    /// Payload bytes copied of one burst, at most [`wirespan_ebpf::MAX_PAYLOAD`] of one operation. Of what looks
    /// like Redis, PostgreSQL or Kafka [`WIDE`] times as many: their structure is spread over all of a stream.
    pub burst_budget: u32,
    /// Bytes of each ring buffer, rounded up to a power of two of whole pages, and the most that waits in all lanes
    /// together.
    pub ring_bytes: u32,
    /// Ring buffers in use: rounded down to a power of two, at most [`RINGS`].
    pub rings: usize,
    /// Have the kernel measure the hooks, and attach the one that does nothing beside them: see
    /// [`HookCost`]. Costs every hook some tens of nanoseconds.
    pub measure: bool,
    /// Let the programs tell what they do, to the agent's own log. For developers.
    pub log: bool,
}

/// Capture can't start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Built without the BPF toolchain.
    #[error("this build holds no kernel programs: build it with `cargo xtask build`")]
    NoObject,
    /// The kernel's structures.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The object can't be given the offsets of the kernel's structures.
    #[error(transparent)]
    Relocate(#[from] RelocateError),
    /// The kernel's type information can't be used.
    #[error("can't use the kernel's type information: {0}")]
    Btf(#[from] aya::BtfError),
    /// The object or a map was refused.
    #[error(
        "can't load the kernel programs' maps (root, or CAP_BPF and CAP_PERFMON, are needed): {0}"
    )]
    Object(#[from] Box<aya::EbpfError>),
    /// A program was refused.
    #[error("the kernel refused the program {program}: {cause}")]
    Program {
        /// The program.
        program: &'static str,
        /// Why, with the verifier's log.
        cause: Box<ProgramError>,
    },
    /// The object lacks what the agent expects: they don't belong together.
    #[error("the kernel programs' object has no {0}")]
    Missing(&'static str),
    /// A map can't be used.
    #[error("map {map}: {cause}")]
    Map {
        /// The map.
        map: &'static str,
        /// Why.
        cause: Box<MapError>,
    },
    /// A system call.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// One process can't be traced. The agent goes on.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The table is full.
    #[error("{0} processes are traced already, the most that there is room for")]
    Full(usize),
    /// It is gone, or a system call failed.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// What [`Capture::recount`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recount {
    /// Slots whose processes are gone, whether or not that was told.
    pub ended: Vec<Slot>,
    /// Some were taken just now and have to be asked for again.
    pub again: bool,
}

/// The loaded programs. Dropping it detaches and unloads everything.
pub struct Capture {
    pub(super) ebpf: Ebpf,
    ways: Ways,
    tasks: MapData,
    fork_slots: Queue<MapData, u32>,
    slots: Slots,
    pub(super) table: SharedTable,
    /// CPython's part, or why there is none.
    pub(super) pythons: Result<Pythons, String>,
    malformed: u64,
    drained: bool,
    logger: Option<EbpfLogger<&'static dyn Log>>,
    /// Keeps the kernel measuring.
    _statistics: Option<OwnedFd>,
}

impl Capture {
    /// Loads and attaches all programs. Nothing is traced yet.
    ///
    /// # Errors
    /// [`LoadError`], naming what the kernel lacks.
    pub fn load(settings: &CaptureSettings) -> Result<Self, LoadError> {
        let Loaded { mut ebpf, btf, pythons } = load_object(settings)?;
        let rings = rings(settings);
        let statistics = if settings.measure {
            let statistics = enable_stats(Stats::RunTime).map_err(|cause| {
                LoadError::System("can't have the hooks measured", cause.io_error)
            })?;
            attach_one(&mut ebpf, "floor", "sock_send_length", &btf)?;
            Some(statistics)
        } else {
            None
        };
        attach(&mut ebpf, &btf)?;
        let logger = if settings.log {
            let logger = EbpfLogger::init(&mut ebpf);
            Some(logger.map_err(|cause| LoadError::System("kernel log", io::Error::other(cause)))?)
        } else {
            None
        };
        let rings = RING_NAMES.iter().take(rings).map(|name| {
            let map = ebpf.take_map(name).ok_or(LoadError::Missing(name))?;
            RingBuf::try_from_map(map, name)
        });
        let rings = rings.collect::<Result<Vec<_>, _>>()?;
        let ways = ways(&mut ebpf, rings)?;
        let tasks = data(ebpf.take_map("TASKS"), "TASKS")?;
        let processes = data(ebpf.take_map("PROCESSES"), "PROCESSES")?;
        let table = SharedTable::map(processes.fd().as_fd())
            .map_err(|cause| LoadError::System("can't map the process table", cause))?;
        let fork_slots = ebpf.take_map("FREE_SLOTS").ok_or(LoadError::Missing("FREE_SLOTS"))?;
        let fork_slots = Queue::try_from(fork_slots)
            .map_err(|cause| LoadError::Map { map: "FREE_SLOTS", cause: Box::new(cause) })?;
        let mut capture = Self {
            ebpf,
            ways,
            tasks,
            fork_slots,
            slots: Slots::new(),
            table,
            pythons,
            malformed: 0,
            drained: false,
            logger,
            _statistics: statistics,
        };
        capture.fill_fork_slots();
        Ok(capture)
    }

    /// Traces the process `pid` of the agent's pid namespace, with its threads and from now on its forks.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn trace(&mut self, pid: i32) -> Result<Slot, TraceError> {
        let pidfd = open(pid)?;
        let slot = self.slots.take().ok_or(TraceError::Full(wirespan_ebpf::PROCESS_SLOTS - 1))?;
        let mut entry = EMPTY;
        entry.flags = process_flag::CAPTURE | process_flag::UNCLAIMED;
        self.table.set(slot.0, &entry);
        let state = TaskState { slot: slot.0, reserved: 0 };
        if let Err(cause) = sys::set_task_storage(self.tasks.fd().as_fd(), pidfd.as_fd(), &state) {
            self.table.disown(slot.0);
            self.slots.put(slot);
            return Err(TraceError::System("can't mark the process", cause));
        }
        Ok(slot)
    }

    /// The slot that the kernel has the process `pid` under: its own, or the one that its fork took. `None`:
    /// it has none, or is gone.
    pub fn marked(&self, pid: i32) -> Option<Slot> {
        let pidfd = open(pid).ok()?;
        let state: TaskState = sys::task_storage(self.tasks.fd().as_fd(), pidfd.as_fd()).ok()?;
        Slot::known(state.slot)
    }

    /// Stops tracing a process that lives on. Its slot stays taken until [`Capture::release`].
    pub fn untrace(&mut self, pid: i32, slot: Slot) {
        self.disown(slot);
        // It may be traced under another slot by now.
        if self.marked(pid) == Some(slot)
            && let Ok(pidfd) = open(pid)
        {
            // An error means that the process is gone, and its storage with it.
            drop(sys::remove_task_storage(self.tasks.fd().as_fd(), pidfd.as_fd()));
        }
    }

    /// Has nothing more counted for a slot, which stays taken until [`Capture::release`].
    pub fn disown(&mut self, slot: Slot) {
        self.table.disown(slot.0);
    }

    /// Whether the slot's process exited, by the kernel's own word, or was untraced.
    pub fn ended(&self, slot: Slot) -> bool {
        let entry = self.books(slot);
        entry.tgid == 0 && entry.flags & process_flag::UNCLAIMED == 0
    }

    /// Gives back the slot of a process that is gone, after its books were read.
    pub fn release(&mut self, slot: Slot) {
        self.table.disown(slot.0);
        self.slots.put(slot);
    }

    /// A fork took `slot` out of the kernel's queue.
    pub fn slot_taken(&mut self, slot: Slot) {
        self.slots.forked(slot);
        self.fill_fork_slots();
    }

    /// Finds out which slots forks took although nobody told, and fills the kernel's queue again. Returns the
    /// slots of processes that ended, or were never there: not those that were taken just now, since a fork
    /// writes its process's number a moment later; `again` says that there is such a one.
    pub fn recount(&mut self) -> Recount {
        let mut in_queue = HashSet::new();
        // Each is put back at once: a fork that comes meanwhile finds one. What comes round again has all
        // others behind it.
        while let Ok(slot) = self.fork_slots.pop(0) {
            if self.fork_slots.push(slot, 0).is_err() || !in_queue.insert(slot) {
                break;
            }
        }
        let before: Vec<Slot> = self.slots.taken().filter(|slot| self.ended(*slot)).collect();
        let taken = self.slots.recount(&in_queue);
        self.fill_fork_slots();
        Recount { ended: before, again: taken.iter().any(|slot| self.ended(*slot)) }
    }

    /// Whether the kernel lost records that tell of processes or sockets since this was asked last.
    pub fn has_lost_records(&mut self) -> bool {
        let in_use: Vec<Slot> = self.slots.in_use().collect();
        let mut more = false;
        for slot in in_use {
            let lost = self.books(slot).dropped_records;
            more |= self.slots.lost(slot, lost);
        }
        more
    }

    /// The kernel's books of a process; all zero for a slot that doesn't exist.
    pub fn books(&self, slot: Slot) -> ProcessSlot {
        self.table.get(slot.0).unwrap_or(EMPTY)
    }

    /// Other records that found the ring buffer full and belong to no traced process.
    pub fn dropped_records(&self) -> u64 {
        self.table.get(0).unwrap_or(EMPTY).dropped_records
    }

    /// Records that made no sense.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Gives state to the sockets that traced processes have open. Reads the open files of all tasks twice, some
    /// ten milliseconds each on a large node: which connections were accepted is known when all listeners are.
    ///
    /// # Errors
    /// What the iterator answered.
    pub fn take_inventory(&mut self) -> Result<(), LoadError> {
        self.iterate("inventory")?;
        self.iterate("inventory").map(drop)
    }

    /// What SIGUSR1 would do in the process of `slot` at this moment: the handler's address and its flags.
    /// `None`: the process is gone or not traced. Looks at all tasks once.
    ///
    /// # Errors
    /// What the iterator answered.
    pub fn signal_handler(&mut self, slot: Slot) -> Result<Option<SignalHandlerRecord>, LoadError> {
        let bytes = self.iterate("handlers")?;
        let mut records = bytes
            .chunks_exact(size_of::<SignalHandlerRecord>())
            .filter_map(sys::read_pod::<SignalHandlerRecord>);
        Ok(records.find(|record| record.slot == slot.0))
    }

    /// Runs an iterator over everything that it goes over. Returns what it wrote.
    fn iterate(&mut self, name: &'static str) -> Result<Vec<u8>, LoadError> {
        let program: &mut Iter = match self.ebpf.program_mut(name) {
            Some(program) => program.try_into().map_err(|cause| refused(name, cause))?,
            None => return Err(LoadError::Missing(name)),
        };
        let link = program.attach().map_err(|cause| refused(name, cause))?;
        let link = program.take_link(link).map_err(|cause| refused(name, cause))?;
        let failed = |cause| LoadError::System("can't run an iterator", cause);
        let mut file = link.into_file().map_err(|cause| failed(io::Error::other(cause)))?;
        let mut written = Vec::new();
        // One read goes over so many files at most (BPF's `MAX_ITER_OBJECTS`): if none of them was written of, it
        // says EAGAIN, and the next goes on behind them.
        loop {
            match file.read_to_end(&mut written) {
                Ok(_) => return Ok(written),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                Err(cause) => return Err(failed(cause)),
            }
        }
    }

    /// What was executed lately by processes that are not traced, before its turn comes in [`Capture::drain`]: where
    /// there is much to read, one that is looked at then may be over.
    pub fn executed_ahead(&mut self) -> Vec<ProcessEvent> {
        let mut events = Vec::new();
        self.ways.look_ahead(RECORDS_AHEAD, |bytes| {
            if let Ok(Record::Process(event)) = record::parse(bytes)
                && event.kind == ProcessEventKind::Exec
                && event.slot.is_none()
            {
                events.push(event);
            }
        });
        events
    }

    /// Reads up to `limit` records that were made before `until_ns`, in the order of their making, until `each`
    /// breaks off. Returns how many there were, and what it broke off with. Whether those were all:
    /// [`Capture::is_drained`].
    pub fn drain<B>(
        &mut self,
        limit: usize,
        until_ns: u64,
        mut each: impl FnMut(Record<'_>) -> ControlFlow<B>,
    ) -> (usize, Option<B>) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        let mut total = 0;
        let mut broke_off = None;
        self.ways.begin();
        while total < limit {
            let Some(bytes) = self.ways.next(until_ns) else { break };
            total += 1;
            match record::parse(bytes) {
                Ok(record) => {
                    if let ControlFlow::Break(value) = each(record) {
                        broke_off = Some(value);
                        break;
                    }
                }
                Err(RecordError::Short | RecordError::Kind(_) | RecordError::Length) => {
                    self.malformed += 1;
                }
            }
        }
        self.drained = total < limit && broke_off.is_none() && !self.ways.is_held_up();
        self.ways.release();
        (total, broke_off)
    }

    /// Whether the last [`Capture::drain`] read all that was made before its time.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Waits until a process event comes or `timeout` is over. Operations wake nobody: their reader comes
    /// round by itself.
    ///
    /// # Errors
    /// The error of poll(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let Some(ring) = self.ways.first_ring() else { return Ok(()) };
        let mut descriptors = [PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// What the hooks cost so far.
    pub fn cost(&self) -> Vec<HookCost> {
        cost::read(&self.ebpf, self.pythons.as_ref().ok())
    }

    fn fill_fork_slots(&mut self) {
        while self.slots.queued() < FORK_SLOTS {
            let Some(slot) = self.slots.take() else { return };
            self.table.set(slot.0, &EMPTY);
            if self.fork_slots.push(slot.0, 0).is_err() {
                self.slots.put(slot);
                return;
            }
            self.slots.queue(slot);
        }
    }
}

impl Capture {
    /// Books in which nothing has happened.
    pub const NO_BOOKS: ProcessSlot = EMPTY;
}

const EMPTY: ProcessSlot = ProcessSlot {
    tgid: 0,
    flags: 0,
    seen_operations: [0; 2],
    seen_bytes: [0; 2],
    dropped_operations: [0; 2],
    dropped_bytes: [0; 2],
    captured_bytes: [0; 2],
    uncaptured_bytes: [0; wirespan_ebpf::uncaptured::REASONS],
    peeks: 0,
    dropped_records: 0,
    runtime: wirespan_ebpf::RUNTIME_UNKNOWN,
    reserved: 0,
    padding: [0; 5],
};

/// The object's maps, what follows CPython, and the other programs, which are not loaded yet.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) btf: Btf,
    pub(super) pythons: Result<Pythons, String>,
}

/// The object with its maps, no program of it loaded yet.
pub(super) fn load_object(settings: &CaptureSettings) -> Result<Loaded, LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::NoObject);
    }
    let found = fields::find(Path::new("/sys/kernel/btf/vmlinux"))?;
    sys::return_memory();
    let btf = Btf::from_sys_fs()?;
    let rings = rings(settings);
    let mut constants = found.offsets.clone();
    constants.extend(program_settings(settings, &found, rings)?.words());
    let object = relocate(OBJECT, &constants)?;
    let log_level = if settings.log { aya_log::Level::Debug as u8 } else { 0 };
    let ring_bytes = ring_bytes(settings);
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&btf)).allow_unsupported_maps().override_global(
        "AYA_LOG_LEVEL",
        &log_level,
        true,
    );
    let cpus = cpus()?;
    // A pair for each CPU.
    loader.map_max_entries("SCRATCH", u32::try_from(2 * cpus).unwrap_or(u32::MAX));
    for name in ["LANES", "LANE_ENDS"] {
        loader.map_max_entries(name, u32::try_from(cpus).unwrap_or(u32::MAX));
    }
    for (index, name) in RING_NAMES.iter().enumerate() {
        loader.map_max_entries(name, if index < rings { ring_bytes } else { PAGE });
    }
    let mut ebpf = loader.load(&object).map_err(Box::new)?;
    let pythons = python::load(&object, &mut ebpf);
    drop(object);
    // The kernel needs as much again while it checks the programs.
    sys::return_memory();
    Ok(Loaded { ebpf, btf, pythons })
}

/// CPUs that the kernel may ever have.
fn cpus() -> Result<usize, LoadError> {
    nr_cpus().map_err(|(path, cause)| LoadError::System(path, cause))
}

/// Bytes that may wait in each CPU's lane: what one CPU makes in several rounds of the reader, as far as all together
/// take no more than a ring. Where a lane is full the ring buffers take the rest.
fn lane_room(settings: &CaptureSettings, cpus: usize) -> u32 {
    let each = usize::try_from(ring_bytes(settings)).unwrap_or(usize::MAX) / cpus.max(1);
    u32::try_from(each.min(LANE_BYTES)).unwrap_or(u32::MAX)
}

/// Bytes of each ring.
fn ring_bytes(settings: &CaptureSettings) -> u32 {
    settings.ring_bytes.max(PAGE).next_power_of_two()
}

/// The lanes and the rings, mapped.
fn ways(ebpf: &mut Ebpf, rings: Vec<RingBuf<MapData>>) -> Result<Ways, LoadError> {
    let lanes = data(ebpf.take_map("LANES"), "LANES")?;
    let ends = data(ebpf.take_map("LANE_ENDS"), "LANE_ENDS")?;
    let cpus = cpus()?;
    let shared = SharedLanes::map(lanes.fd().as_fd(), ends.fd().as_fd(), cpus)
        .map_err(|cause| LoadError::System("can't map the lanes", cause))?;
    Ok(Ways::new(rings, shared, cpus))
}

fn rings(settings: &CaptureSettings) -> usize {
    1 << settings.rings.clamp(1, RINGS).ilog2()
}

trait TryFromMap: Sized {
    fn try_from_map(map: Map, name: &'static str) -> Result<Self, LoadError>;
}

impl TryFromMap for RingBuf<MapData> {
    fn try_from_map(map: Map, name: &'static str) -> Result<Self, LoadError> {
        Self::try_from(map).map_err(|cause| LoadError::Map { map: name, cause: Box::new(cause) })
    }
}

fn refused(program: &'static str, cause: ProgramError) -> LoadError {
    LoadError::Program { program, cause: Box::new(cause) }
}

/// The map itself, for those that aya has no type for.
fn data(map: Option<Map>, name: &'static str) -> Result<MapData, LoadError> {
    match map {
        Some(Map::Array(data) | Map::SkStorage(data) | Map::Unsupported(data)) => Ok(data),
        _ => Err(LoadError::Missing(name)),
    }
}

fn attach(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), LoadError> {
    // The iterators first: one gives state to sockets, which the tracepoints then use.
    for (name, over) in ITERATORS {
        let program: &mut Iter = match ebpf.program_mut(name) {
            Some(program) => program.try_into().map_err(|cause| refused(name, cause))?,
            None => return Err(LoadError::Missing(name)),
        };
        program.load(over, btf).map_err(|cause| refused(name, cause))?;
    }
    for name in TRACEPOINTS {
        let program: &mut BtfTracePoint = match ebpf.program_mut(name) {
            Some(program) => program.try_into().map_err(|cause| refused(name, cause))?,
            None => return Err(LoadError::Missing(name)),
        };
        program.load(name, btf).map_err(|cause| refused(name, cause))?;
    }
    // Attached only when all are loaded: an agent that can't work never runs a hook.
    for name in TRACEPOINTS {
        if let Some(program) = ebpf.program_mut(name) {
            let program: &mut BtfTracePoint =
                program.try_into().map_err(|cause| refused(name, cause))?;
            program.attach().map_err(|cause| refused(name, cause))?;
        }
    }
    Ok(())
}

fn attach_one(
    ebpf: &mut Ebpf,
    name: &'static str,
    tracepoint: &str,
    btf: &Btf,
) -> Result<(), LoadError> {
    let program: &mut BtfTracePoint = match ebpf.program_mut(name) {
        Some(program) => program.try_into().map_err(|cause| refused(name, cause))?,
        None => return Err(LoadError::Missing(name)),
    };
    program.load(tracepoint, btf).map_err(|cause| refused(name, cause))?;
    program.attach().map_err(|cause| refused(name, cause))?;
    Ok(())
}

fn program_settings(
    settings: &CaptureSettings,
    found: &fields::Found,
    rings: usize,
) -> Result<Settings, LoadError> {
    let namespace = rustix::fs::stat("/proc/self/ns/pid")
        .map_err(|cause| LoadError::System("/proc/self/ns/pid", cause.into()))?;
    Ok(Settings {
        burst_budget: settings.burst_budget.max(1),
        wide_budget: settings.burst_budget.max(1).saturating_mul(WIDE),
        ring_mask: u32::try_from(rings - 1).unwrap_or(0),
        pid_namespace: u32::try_from(namespace.st_ino).unwrap_or(0),
        lane_room: lane_room(settings, cpus()?),
        kern_sock_mask: found.kern_sock_mask,
    })
}

fn open(pid: i32) -> Result<OwnedFd, TraceError> {
    let error = |cause: io::Error| TraceError::System("can't open the process", cause);
    let pid = Pid::from_raw(pid).ok_or_else(|| error(io::ErrorKind::InvalidInput.into()))?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(|cause| error(cause.into()))
}
