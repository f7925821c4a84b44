//! The kernel/user ABI: the records that the kernel programs write, the state that both sides share, the
//! kernel structure fields that the programs need, and the settings that user space gives them before
//! loading.
//!
//! Plain data only, fixed width, padding spelt out. A reader must treat every field as hostile: one
//! function of the agent (`capture::record`) turns ring-buffer bytes into a typed record.
#![no_std]

mod cpython;
mod fields;
mod lane;
pub mod placeholder;
mod record;
mod state;

pub use cpython::{
    AGE_UNKNOWN, ANCESTORS, CONTEXT_PLACES, CONTEXT_WAYS, PythonAncestor, PythonContext,
    PythonHandover, PythonKey, PythonProcess, PythonThread, RUNTIME_PYTHON, RUNTIME_UNKNOWN,
    STATE_WORDS, python_context_flag, python_flag,
};
pub use fields::{FIELDS, Field, KernelFields};
pub use lane::{LANE_ALIGNMENT, LANE_BYTES, LANE_PAYLOAD, LANE_RECORDS, Lane, LaneEnds, LaneMark};
pub use record::{
    Direction, EndedRecord, ExitFigures, JOB_BYTES, JobRecord, OperationRecord, ProcessRecord,
    RecordKind, SignalHandlerRecord, SocketRecord, flag, socket_flag, uncaptured,
};
pub use state::{ListenerKey, Pod, ProcessSlot, Settings, SocketState, TaskState, process_flag};

/// The most payload bytes that one record carries. An operation's first bytes are copied up to this, and
/// the rest is counted as missing. As much as Node.js and most Python clients read at once.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The last bytes of an operation that was cut are copied as well, so many at most: enough for what ends a
/// large PostgreSQL message or answer (`Execute` and `Sync`; `CommandComplete` and `ReadyForQuery`).
pub const TAIL: usize = 64;

/// Ring buffers that exist in the object. How many are in use is [`Settings::ring_mask`]; a socket's
/// cookie chooses one, so that order within a socket is kept.
pub const RINGS: usize = 4;

/// Processes that can be traced at once: slots of the shared table. Slot 0 stays unused, so that zeroed
/// state never names a process.
pub const PROCESS_SLOTS: usize = 4096;

/// A slot number that names no process.
pub const NO_SLOT: u32 = 0;
