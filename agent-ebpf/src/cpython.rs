//! What the programs know of a CPython process and of its code: the entry that user space writes for a
//! process, and the state that the programs keep of its threads and contexts (`agent-ebpf`'s `python`).
//!
//! Addresses are of the traced process, and user memory at them is untrusted: what is read there is only ever
//! compared, used as a key, or followed to a further read that may fail.

use crate::Pod;

/// [`crate::ProcessSlot::runtime`]: nothing is known of the process's logical tasks.
pub const RUNTIME_UNKNOWN: u32 = 0;

/// [`crate::ProcessSlot::runtime`]: its [`PythonProcess`] is valid.
pub const RUNTIME_PYTHON: u32 = 1;

/// Contexts from which a context descends that are remembered with it: in asyncio a connection's reader
/// is two copies below the task that accepted it, one that was paused and resumed in a request's task four. As many
/// as fill what is kept of a context up to two lines of the processor's cache.
pub const ANCESTORS: usize = 5;

/// Bits of [`PythonProcess::flags`].
pub mod python_flag {
    /// uvloop runs here: it reads outside any context, and the end of each round of its reads is probed.
    pub const UVLOOP: u32 = 1 << 0;
    /// It is one that puts writes off to the end of the loop's turn: its `write` is probed.
    pub const DEFERRED_WRITES: u32 = 1 << 1;
}

/// Per traced CPython process, by slot. User space writes it before it sets [`RUNTIME_PYTHON`]; the programs
/// count in it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PythonProcess {
    /// Address of `_PyRuntime.interpreters.head`; the main interpreter's pointer follows it.
    pub interpreters: u64,
    /// CLOCK_MONOTONIC from when on every new context was seen.
    pub since_ns: u64,
    /// Names the process for ever: what was kept of an earlier one under the same number is not believed. At
    /// most 24 bits.
    pub generation: u32,
    /// Bits of [`python_flag`].
    pub flags: u32,
    /// Offset in `PyInterpreterState`: the first thread state.
    pub threads: u32,
    /// Offset in `PyThreadState`: the next one.
    pub next: u32,
    /// Offset in `PyThreadState`: `thread_id`, what `pthread_self` gives.
    pub thread_id: u32,
    /// Offset in `PyThreadState`: the current context.
    pub context: u32,
    /// Offset in `PyContext`: whether it was entered.
    pub entered: u32,
    /// Offset in `PyThreadState`: the newest piece of the stack of frames. 0: no greenlets run here.
    pub frames: u32,
    /// The number that was given last to a context or a request; begins with the generation above 40 bits.
    pub numbered: u64,
}
const _: () = assert!(size_of::<PythonProcess>() == 56);

/// Words of a `PyThreadState` that are read at once. From `thread_id` on `context` is among them in all versions.
pub const STATE_WORDS: usize = 10;

/// Per thread, in its task storage.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PythonThread {
    /// Address of its `PyThreadState`; 0: not found.
    pub state: u64,
    /// CLOCK_MONOTONIC before which it isn't looked for again.
    pub retry_ns: u64,
    /// What its code works for outside any entered context: the request that it read from a blocking socket,
    /// or whose work it took from a queue.
    pub number: u64,
    /// A request that was read outside any context; 0: none.
    pub pending: u64,
    /// The context that was the first to be seen since: the request's. 0: none was.
    pub bound: u64,
    /// [`PythonProcess::generation`] for which this holds.
    pub generation: u32,
    /// Turns of uvloop's loop that it has made.
    pub turn: u32,
    /// CLOCK_MONOTONIC of its last operation on a socket.
    pub seen_ns: u64,
    /// The process's slot.
    pub slot: u32,
    /// Thread group, in the initial pid namespace.
    pub tgid: u32,
    /// What was last read of its `PyThreadState`, from the thread's identity on. Here, because a program's stack is
    /// small.
    pub words: [u64; STATE_WORDS],
    /// Not 0: it works on jobs that it is given, and `number` is that of the one that it works on. (Behind the words
    /// there must be something: to the verifier an index below ten of them may be one of their last byte.)
    pub jobs: u64,
}
const _: () = assert!(size_of::<PythonThread>() == 72 + STATE_WORDS * 8);

/// Bits of [`PythonContext::flags`].
pub mod python_context_flag {
    /// It has read a request: a number is kept under its own.
    pub const READS: u32 = 1 << 0;
    /// It is the loop's writer: it sends what others left. Nothing is told of it.
    pub const WRITES_FOR_OTHERS: u32 = 1 << 1;
}

/// Names a user address in a process.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PythonKey {
    /// The address.
    pub address: u64,
    /// Thread group, or, of what only one thread uses, the thread; in the initial pid namespace.
    pub task: u32,
    /// Reserved.
    pub reserved: u32,
}
const _: () = assert!(size_of::<PythonKey>() == 16);

/// A context from which another descends. It need not exist any more.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PythonAncestor {
    /// Its number; 0: none is known.
    pub id: u64,
    /// [`PythonContext::made_ns`], and [`PythonAncestor::FOR_A_REQUEST`].
    pub made_ns: u64,
}
const _: () = assert!(size_of::<PythonAncestor>() == 16);

impl PythonAncestor {
    /// None is known.
    pub const NOBODY: Self = Self { id: 0, made_ns: 0 };
    /// Bit of `made_ns`: it was made for a request, and no connection's first.
    pub const FOR_A_REQUEST: u64 = 1 << 63;
}

/// What is known of a context, by its address.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PythonContext {
    /// Its address; 0: the place is free; 1: it is being written.
    pub address: u64,
    /// Its number: addresses are used again. Begins with the generation of its process above 40 bits.
    pub id: u64,
    /// When it was made; of one that was made for a request, when that request was read or later.
    /// [`AGE_UNKNOWN`]: its making wasn't seen, or is not known any more.
    pub made_ns: u64,
    /// The request for which it was made; 0: for none that is known.
    pub inherited: u64,
    /// When it was last asked for, in jiffies: the place that was so longest ago is given away first.
    pub used: u64,
    /// Bits of [`python_context_flag`].
    pub flags: u32,
    /// Reserved.
    pub reserved: u32,
    /// The nearest, the context that it was copied from first.
    pub ancestors: [PythonAncestor; ANCESTORS],
}
const _: () = assert!(size_of::<PythonContext>() == 128, "two lines of the processor's cache");

/// [`PythonContext::made_ns`] of one of which no more is known.
pub const AGE_UNKNOWN: u64 = (1 << 63) - 1;

/// Contexts whose addresses fall together.
pub const CONTEXT_WAYS: usize = 4;

/// Places for contexts.
pub const CONTEXT_PLACES: usize = 64 * 1024;

/// A number that is handed on by way of a user address: work in a queue, bytes to be written.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PythonHandover {
    /// The request; 0: none that is known.
    pub number: u64,
    /// The context, by its number, in which it was handed on; 0: in none.
    pub context: u64,
    /// That context's address.
    pub address: u64,
    /// [`PythonProcess::generation`].
    pub generation: u32,
    /// Of bytes to be written: the loop's turn ([`PythonThread::turn`]).
    pub turn: u32,
}
const _: () = assert!(size_of::<PythonHandover>() == 32);

// SAFETY: integers throughout; the size assertion equals the sum of the members.
unsafe impl Pod for PythonProcess {}
