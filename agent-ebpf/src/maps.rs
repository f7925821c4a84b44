//! The maps.
//!
//! Socket and task storage live and die with the kernel object that they belong to: no table to size, no
//! entry to leak, nothing to clean up after a SIGKILL of the agent.

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type},
    btf_maps::{Array, PerCpuArray, Queue, RingBuf},
    macros::btf_map,
};
use wirespan_ebpf::{
    MAX_PAYLOAD, OperationRecord, PROCESS_SLOTS, ProcessSlot, SocketState, TaskState,
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

/// A record while it is gathered. Twice the payload: the verifier bounds where a piece begins and how
/// long it is, each by `MAX_PAYLOAD`, not their sum.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) record: OperationRecord,
    pub(crate) payload: [u8; 2 * MAX_PAYLOAD],
    /// Bytes of it that were gathered out of iovecs.
    pub(crate) copied: u64,
}

/// One scratch record per direction and CPU: sends and receives never share one, so that a program which
/// is interrupted by the other's hook loses nothing.
#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<Scratch, 2> = PerCpuArray::new();

/// The ways to user space. Sizes are set before loading; those not in use shrink to a page.
#[btf_map]
pub(crate) static RING_0: RingBuf<[u8; 0], 4096> = RingBuf::new();
#[btf_map]
pub(crate) static RING_1: RingBuf<[u8; 0], 4096> = RingBuf::new();
#[btf_map]
pub(crate) static RING_2: RingBuf<[u8; 0], 4096> = RingBuf::new();
#[btf_map]
pub(crate) static RING_3: RingBuf<[u8; 0], 4096> = RingBuf::new();
