//! The maps.
//!
//! Socket and task storage live and die with the kernel object that they belong to: no table to size, no
//! entry to leak, nothing to clean up after a SIGKILL of the agent.

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type},
    btf_maps::{Array, LruHashMap, ProgramArray, Queue, RingBuf},
    macros::btf_map,
};
use wirespan_ebpf::{
    CONTEXT_PLACES, Lane, LaneEnds, ListenerKey, MAX_PAYLOAD, OperationRecord, PROCESS_SLOTS,
    ProcessSlot, PythonContext, PythonHandover, PythonKey, PythonProcess, PythonThread,
    SocketState, TAIL, TaskState,
};

/// Definition of a storage map in BTF. aya-ebpf's `SkStorage` takes only cgroup contexts and has no task
/// storage, so the two are declared here; the loader reads no more than these members.
#[repr(C)]
pub(crate) struct Storage<T, const TYPE: usize, const FLAGS: usize> {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: the pointers are a description for the loader and are never followed.
unsafe impl<T, const TYPE: usize, const FLAGS: usize> Sync for Storage<T, TYPE, FLAGS> {}

impl<T, const TYPE: usize, const FLAGS: usize> Storage<T, TYPE, FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    /// The map, as the helpers take it.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut core::ffi::c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

/// State per socket. BPF_F_CLONE: what a listener accepts inherits its state, before its first data.
#[btf_map]
pub(crate) static SOCKETS: Storage<
    SocketState,
    { bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize },
    { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize },
> = Storage::new();

/// State per traced process, on its group leader.
#[btf_map]
pub(crate) static TASKS: Storage<
    TaskState,
    { bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE as usize },
    { BPF_F_NO_PREALLOC as usize },
> = Storage::new();

/// Processes by slot, mapped by user space.
#[btf_map]
pub(crate) static PROCESSES: Array<ProcessSlot, PROCESS_SLOTS, { BPF_F_MMAPABLE as usize }> =
    Array::new();

/// Slots that user space has free: a fork takes one.
#[btf_map]
pub(crate) static FREE_SLOTS: Queue<u32, 256> = Queue::new();

/// Where traced processes listen, to tell what they accepted before the programs were there from what they
/// connected.
#[btf_map]
pub(crate) static LISTENERS: LruHashMap<ListenerKey, u32, 4096> = LruHashMap::new();

/// CPython processes by slot, told by user space.
#[btf_map]
pub(crate) static PYTHONS: Array<PythonProcess, PROCESS_SLOTS> = Array::new();

/// State per thread of a CPython process.
#[btf_map]
pub(crate) static THREADS: Storage<
    PythonThread,
    { bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE as usize },
    { BPF_F_NO_PREALLOC as usize },
> = Storage::new();

/// Contexts by address (`python::contexts`). What is pushed out of one of these maps is not known any more:
/// withheld, not wrong. Nobody maps it: a mappable array begins on a page, and so its values on a cache line.
#[btf_map]
pub(crate) static PYTHON_CONTEXTS: Array<
    PythonContext,
    CONTEXT_PLACES,
    { BPF_F_MMAPABLE as usize },
> = Array::new();

/// By a context's number: the request that it read, or that the reader of its connection did.
#[btf_map]
pub(crate) static PYTHON_NUMBERS: LruHashMap<u64, u64, 16384> = LruHashMap::new();

/// Always empty: see `python::probes`.
#[btf_map]
pub(crate) static NO_PROGRAM: ProgramArray<1> = ProgramArray::new();

/// Work that lies in a queue, by its object's address.
#[btf_map]
pub(crate) static PYTHON_ITEMS: LruHashMap<PythonKey, PythonHandover, 16384> = LruHashMap::new();

/// Bytes that are still to be written, by thread and address.
#[btf_map]
pub(crate) static PYTHON_WRITES: LruHashMap<PythonKey, PythonHandover, 8192> = LruHashMap::new();

/// Most that is gathered out of one iovec.
pub(crate) const MAX_VECTOR: usize = 16 * 1024;

/// A record while it is gathered. Longer than it can get: the verifier bounds where a piece begins and how
/// long it is each for itself, not their sum.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) record: OperationRecord,
    pub(crate) payload: [u8; MAX_PAYLOAD + TAIL + MAX_VECTOR],
    /// What is gathered out of iovecs now.
    pub(crate) gathering: Gathering,
}

/// Which bytes of an operation are gathered out of iovecs, and how far that has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Gathering {
    /// Addresses of the next iovec and of their array's end.
    pub(crate) next: u64,
    pub(crate) end: u64,
    /// Where in the operation they begin, and how many they are.
    pub(crate) from: u64,
    pub(crate) size: u64,
    /// Where in the payload they go.
    pub(crate) at: u64,
    /// How many are there.
    pub(crate) copied: u64,
    /// Where in the operation the next iovec begins.
    pub(crate) passed: u64,
}

/// One scratch record per direction and CPU, a pair for each CPU (the loader sets how many): sends and
/// receives never share one, so that a program which is interrupted by the other's hook loses nothing. Not
/// a per-CPU map, of which a value has 32 KiB at most; the hooks stay on their CPU as they do there.
#[btf_map]
pub(crate) static SCRATCH: Array<Scratch, 2> = Array::new();

/// A lane for each CPU, mapped by user space. The loader sets how many there are.
#[btf_map]
pub(crate) static LANES: Array<Lane, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Where each CPU's lane begins and ends.
#[btf_map]
pub(crate) static LANE_ENDS: Array<LaneEnds, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The ways to user space. Sizes are set before loading; those not in use shrink to a page.
#[btf_map]
pub(crate) static RING_0: RingBuf<[u8; 0], 4096> = RingBuf::new();
#[btf_map]
pub(crate) static RING_1: RingBuf<[u8; 0], 4096> = RingBuf::new();
#[btf_map]
pub(crate) static RING_2: RingBuf<[u8; 0], 4096> = RingBuf::new();
#[btf_map]
pub(crate) static RING_3: RingBuf<[u8; 0], 4096> = RingBuf::new();
