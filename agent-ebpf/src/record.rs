//! The records that go through lanes and ring buffers. Each begins with its kind; sizes are asserted below.

/// What a record is: the first field of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct RecordKind(pub u16);

impl RecordKind {
    /// [`OperationRecord`], followed by `captured` payload bytes.
    pub const OPERATION: Self = Self(1);
    /// [`SocketRecord`]: a socket of a traced process, before its first operation.
    pub const SOCKET: Self = Self(2);
    /// [`EndedRecord`]: a TCP socket reached CLOSE.
    pub const ENDED: Self = Self(3);
    /// [`ProcessRecord`]: a program was executed, traced or not.
    pub const EXEC: Self = Self(4);
    /// [`ProcessRecord`]: a traced process forked.
    pub const FORK: Self = Self(5);
    /// [`ProcessRecord`]: the last thread of a traced process exited.
    pub const EXIT: Self = Self(6);
    /// [`ProcessRecord`]: a process, traced or not, began to listen on a TCP port.
    pub const LISTEN: Self = Self(7);
    /// [`JobRecord`]: a child of a pool begins to work on a job.
    pub const JOB: Self = Self(8);
}

/// Which way bytes went, seen from the traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Direction(pub u8);

impl Direction {
    /// The process received.
    pub const RECEIVE: Self = Self(0);
    /// The process sent.
    pub const SEND: Self = Self(1);
}

/// Bits of [`OperationRecord::flags`].
pub mod flag {
    /// The peer closed its direction: a receive of zero bytes.
    pub const END_OF_STREAM: u8 = 1 << 0;
    /// The operation failed for good (`error` has the errno): the connection is broken.
    pub const FAILED: u8 = 1 << 1;
    /// A receive that could have blocked: the descriptor is in blocking mode.
    pub const BLOCKING: u8 = 1 << 2;
    /// `queue_ns` is valid.
    pub const QUEUE_TIME: u8 = 1 << 3;
    /// Records of receives on this socket were lost since the last one that was written.
    pub const LOST_RECEIVED: u8 = 1 << 4;
    /// The same of sends. Both are told by a record of either direction: TCP's sequence shows what a
    /// direction misses only with its own next piece, and that may be an exchange too late.
    pub const LOST_SENT: u8 = 1 << 5;
    /// A send by code of CPython that runs in its thread alone: in no context that was entered, in no greenlet.
    /// No event loop's task runs so.
    pub const THREADS_OWN: u8 = 1 << 6;
}

/// Why bytes of an operation were not captured: [`OperationRecord::uncaptured`], and the index of the
/// process's counters.
pub mod uncaptured {
    /// Nothing is missing.
    pub const NONE: u8 = 0;
    /// The burst's budget was used up.
    pub const BUDGET: u8 = 1;
    /// The system call is not one whose registers give the buffer (sendfile, splice, `sendmmsg` of
    /// several messages, io_uring), or the socket belongs to the kernel.
    pub const SYSCALL: u8 = 2;
    /// The buffer could not be read: not mapped, or not what the registers said.
    pub const FAULT: u8 = 3;
    /// Urgent or truncated data (MSG_OOB, MSG_TRUNC): `ret` is not what the buffer holds.
    pub const SPECIAL: u8 = 4;
    /// More reasons than these there are not.
    pub const REASONS: usize = 5;
}

/// One send or receive of a traced process. `captured` bytes follow, then, where `tail_length` isn't 0, as the
/// record's end [`crate::TAIL`] bytes of which that many are the operation's last.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct OperationRecord {
    /// [`RecordKind::OPERATION`].
    pub kind: u16,
    /// [`Direction`].
    pub direction: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Payload bytes that follow this header; the operation's first bytes.
    pub captured: u32,
    /// CLOCK_MONOTONIC after the operation; of what TCP sent at once, when it did, within the operation.
    pub timestamp_ns: u64,
    /// The socket's cookie.
    pub cookie: u64,
    /// Offset of the operation's first byte in its direction's stream. Of TCP the low 32 bits are the
    /// sequence number; of other sockets bytes are counted from when the socket was first seen.
    pub offset: u64,
    /// Bytes that passed.
    pub length: u32,
    /// Slot of the process.
    pub slot: u32,
    /// Thread group, in the initial pid namespace.
    pub tgid: u32,
    /// Thread, in the initial pid namespace.
    pub tid: u32,
    /// Why bytes are missing ([`uncaptured`]).
    pub uncaptured: u8,
    /// How many of the operation's last bytes are there, none of them among the captured ones.
    pub tail_length: u8,
    /// errno of a failed operation.
    pub error: u16,
    /// Smoothed round-trip time in microseconds; 0 where unknown.
    pub srtt_us: u32,
    /// Segments that this connection has retransmitted so far, modulo 65,536: differences count.
    pub retransmits: u16,
    /// Reserved.
    pub reserved: u16,
    /// Which of the logical task's strands (an asyncio task in a request, ...) this was; 0: not known, or the
    /// task has only one.
    pub strand: u32,
    /// The runtime's logical task; 0: the thread.
    pub context: u64,
    /// With [`flag::QUEUE_TIME`]: how long the data had been readable.
    pub queue_ns: u64,
    /// The thread's time on a run queue so far.
    pub run_delay_ns: u64,
    /// The thread's time on a CPU so far, plus a constant of the machine's: only differences mean anything.
    pub exec_ns: u64,
}
const _: () = assert!(size_of::<OperationRecord>() == 96);

/// Bits of [`SocketRecord::flags`].
pub mod socket_flag {
    /// The traced process opened the connection: the connect was seen.
    pub const ACTIVE: u8 = 1 << 0;
    /// The socket was accepted from a listener that was known.
    pub const PASSIVE: u8 = 1 << 1;
    /// The inventory found it: it may have been used before.
    pub const FOUND: u8 = 1 << 2;
    /// A unix socket with an address: what a listener accepts has the listener's, what connects has none.
    pub const ADDRESSED: u8 = 1 << 3;
    /// The connect is over, and `connect_ns` is how long it took.
    pub const CONNECTED: u8 = 1 << 4;
}

/// A socket, told before its first operation by each process that uses it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SocketRecord {
    /// [`RecordKind::SOCKET`].
    pub kind: u16,
    /// Address family: AF_INET, AF_INET6, AF_UNIX.
    pub family: u16,
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// CLOCK_MONOTONIC.
    pub timestamp_ns: u64,
    /// The socket's cookie.
    pub cookie: u64,
    /// Slot of the process.
    pub slot: u32,
    /// Inode of the network namespace.
    pub net_namespace: u32,
    /// Local address; IPv4 in the first four bytes.
    pub local_address: [u8; 16],
    /// Remote address; IPv4 in the first four bytes.
    pub remote_address: [u8; 16],
    /// Of a unix socket: its cookie, and its peer's; 0 for a peer that nobody asked for its cookie yet.
    pub unix_ends: [u64; 2],
    /// How long the connect took; 0 where it was not seen.
    pub connect_ns: u64,
    /// Bits of [`socket_flag`].
    pub flags: u8,
    /// The TCP state (`TCP_ESTABLISHED` = 1, ...).
    pub state: u8,
    /// Reserved.
    pub reserved: [u8; 6],
}
const _: () = assert!(size_of::<SocketRecord>() == 96);

/// A TCP connection is over.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EndedRecord {
    /// [`RecordKind::ENDED`].
    pub kind: u16,
    /// errno on the socket (ECONNRESET, ETIMEDOUT, ...); 0 for an orderly end.
    pub error: u16,
    /// Slot of the process that used it last.
    pub slot: u32,
    /// CLOCK_MONOTONIC.
    pub timestamp_ns: u64,
    /// The socket's cookie.
    pub cookie: u64,
}
const _: () = assert!(size_of::<EndedRecord>() == 24);

/// A process executed, forked, exited or began to listen.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ProcessRecord {
    /// [`RecordKind::EXEC`], [`RecordKind::FORK`], [`RecordKind::EXIT`] or [`RecordKind::LISTEN`].
    pub kind: u16,
    /// Where it listens.
    pub port: u16,
    /// Slot of the process; of a fork the child's, which the kernel program took from the free ones.
    pub slot: u32,
    /// CLOCK_MONOTONIC.
    pub timestamp_ns: u64,
    /// Thread group, in the initial pid namespace.
    pub tgid: u32,
    /// The same in the agent's own pid namespace; 0: not visible there.
    pub namespace_tgid: u32,
    /// Of a fork: the parent's slot.
    pub parent_slot: u32,
    /// Of an exit: the wait status (`task_struct.exit_code`).
    pub exit_code: u32,
    /// Of an exit.
    pub exit: ExitFigures,
}
const _: () = assert!(size_of::<ProcessRecord>() == 80);

/// What the kernel counted of a process until it exited.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ExitFigures {
    /// How long all its threads ran on a CPU, as of the scheduler's last tick, nanoseconds.
    pub on_cpu_ns: u64,
    /// How long its main thread was ready to run and did not, nanoseconds.
    pub run_delay_ns: u64,
    /// The most memory that was resident, pages.
    pub max_rss_pages: u64,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
    /// How often its threads waited for something.
    pub voluntary_switches: u64,
    /// How often they were interrupted for others. `u64::MAX`: of some threads it is not known, nor are the figures
    /// before, but for the main thread's delay and the memory.
    pub involuntary_switches: u64,
}

/// Bytes of a job that are told: Celery's names a function, the task and its id before all else.
pub const JOB_BYTES: usize = 256;

/// A child of a pool begins to work on a job.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct JobRecord {
    /// [`RecordKind::JOB`].
    pub kind: u16,
    /// Reserved.
    pub reserved: u16,
    /// Slot of the process.
    pub slot: u32,
    /// CLOCK_MONOTONIC.
    pub timestamp_ns: u64,
    /// The number under which it works: [`OperationRecord::context`] of what it does for the job.
    pub number: u64,
    /// The job, pickled: its first bytes. Zeros follow where it is shorter.
    pub content: [u8; JOB_BYTES],
}
const _: () = assert!(size_of::<JobRecord>() == 24 + JOB_BYTES);

/// What SIGUSR1 would do in a process. Not for the ring buffers: user space reads it from an iterator.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SignalHandlerRecord {
    /// Slot of the process.
    pub slot: u32,
    /// Thread group, in the initial pid namespace.
    pub tgid: u32,
    /// Address of the handler; `SIG_DFL` is 0, `SIG_IGN` 1.
    pub handler: u64,
    /// `SA_...` flags.
    pub flags: u64,
}
const _: () = assert!(size_of::<SignalHandlerRecord>() == 24);
