//! State that the programs keep in maps, and the settings that user space gives them before loading.

use crate::uncaptured;

/// Written into the programs' instructions before loading: see [`crate::placeholder`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Settings {
    /// Payload bytes copied of one burst (consecutive operations in one direction of a connection).
    pub burst_budget: u32,
    /// The same where the stream's structure is spread over all of it, as Redis', PostgreSQL's and AMQP's is; not
    /// less than `burst_budget`.
    pub wide_budget: u32,
    /// Number of ring buffers in use, less one; a power of two less one.
    pub ring_mask: u32,
    /// Inode of the agent's pid namespace.
    pub pid_namespace: u32,
    /// Bytes of a lane that may wait to be read, at most [`crate::LANE_BYTES`].
    pub lane_room: u32,
    /// Selects the bit `sk_kern_sock` in the byte at [`crate::KernelFields::sock_kern_sock`].
    pub kern_sock_mask: u32,
}
const _: () = assert!(size_of::<Settings>() == 24);

impl Settings {
    /// The members, in their order.
    #[must_use]
    pub const fn words(&self) -> [u32; 6] {
        [
            self.burst_budget,
            self.wide_budget,
            self.ring_mask,
            self.pid_namespace,
            self.lane_room,
            self.kern_sock_mask,
        ]
    }
}

/// Per socket, in socket storage: freed with the socket.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SocketState {
    /// Address of the socket that this belongs to. A socket that was accepted inherits its listener's
    /// storage: a different address shows it.
    pub owner: u64,
    /// The cookie; 0 until the first operation.
    pub cookie: u64,
    /// When data became readable and nothing has been read since; 0: nothing waits.
    pub ready_ns: u64,
    /// Next stream offset, by [`crate::Direction`].
    pub next_offset: [u64; 2],
    /// Slot of the process that used it last, for which it has been announced.
    pub slot: u32,
    /// Payload bytes left of the current burst's budget.
    pub burst_left: u32,
    /// Direction of the current burst.
    pub burst_direction: u8,
    /// Bits of [`crate::socket_flag`].
    pub flags: u8,
    /// The last receive could have blocked: the thread serves one request at a time.
    pub blocking: u8,
    /// [`crate::flag::LOST_RECEIVED`] and [`crate::flag::LOST_SENT`], for the next record.
    pub lost: u8,
    /// The wide budget holds: an operation that would have been cut, or the first, looked like Redis, PostgreSQL,
    /// AMQP or Kafka, or one was AMQP's beginning.
    pub wide: u8,
    /// When the burst's budget was given: CLOCK_MONOTONIC in units of 2^30 ns.
    pub burst_since: u8,
    /// Segments retransmitted so far, modulo 65,536.
    pub retransmits: u16,
    /// When the connect began, then, once established, how long it took. Of an accepted one: when it was
    /// established; 0 where that was not seen.
    pub connect_ns: u64,
    /// Of an inbound one: the number of the request that came last (a burst of receives is one).
    pub number: u64,
    /// Of a clogged one: whose the bytes are that are still to be sent.
    pub rest_number: u64,
    /// The context, by its number, in which they were given to be sent.
    pub rest_context: u64,
    /// How many they are; 0 where that is not known.
    pub rest_bytes: u64,
    /// The context, by its number, in which the last send was made; 0: in none that is known.
    pub context: u64,
    /// Of an inbound one: when its first request was read.
    pub first_ns: u64,
    /// Of an inbound one: the first context, by its number, that was made for it; where it is read in no context of
    /// its own, the one that serves it and nothing else. 0: none is known.
    pub own_context: u64,
    /// The process serves it: it was accepted, and is known to have been.
    pub inbound: u8,
    /// The last send moved less than it was asked to: who sends next may be the loop's writer.
    pub clogged: u8,
    /// Reserved.
    pub unused: [u8; 6],
}
// The kernel keeps one pointer before the value in its cache line: all that an operation needs fits behind.
const _: () = assert!(core::mem::offset_of!(SocketState, connect_ns) == 56);
const _: () = assert!(size_of::<SocketState>() == 128);

/// Where a process listens.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ListenerKey {
    /// Inode of the network namespace.
    pub net_namespace: u32,
    /// Port, host byte order.
    pub port: u32,
}
const _: () = assert!(size_of::<ListenerKey>() == 8);

/// Per traced process, in the task storage of its group leader: freed with the task.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TaskState {
    /// The process's slot in the shared table.
    pub slot: u32,
    /// Reserved.
    pub reserved: u32,
}
const _: () = assert!(size_of::<TaskState>() == 8);

/// Bits of [`ProcessSlot::flags`].
pub mod process_flag {
    /// Operations are captured. Without it the process costs its look-up and nothing more.
    pub const CAPTURE: u32 = 1 << 0;
    /// User space assigned the slot without knowing the thread group's number in the initial pid
    /// namespace: the first operation of the process writes it.
    pub const UNCLAIMED: u32 = 1 << 1;
}

/// Per traced process, in a table that user space maps: who owns the slot, and the kernel's books.
///
/// Counters only grow. Of the seen operations and bytes those are told that were dropped; all others went into a
/// ring buffer, their bytes `captured` or, by reason, `uncaptured`, and the reader's own books have them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ProcessSlot {
    /// Thread group (initial pid namespace) that owns the slot; 0: free or leaving.
    pub tgid: u32,
    /// Bits of [`process_flag`].
    pub flags: u32,
    /// Operations that moved bytes, by [`crate::Direction`].
    pub seen_operations: [u64; 2],
    /// Bytes they moved.
    pub seen_bytes: [u64; 2],
    /// Payload bytes that went into a ring buffer.
    pub captured_bytes: [u64; 2],
    /// Which runtime's logical tasks are followed: [`crate::RUNTIME_UNKNOWN`], [`crate::RUNTIME_PYTHON`].
    /// User space writes it, and a fork does not inherit it.
    pub runtime: u32,
    /// Keeps what most operations need in one cache line.
    pub reserved: u32,
    /// Operations whose record found the ring buffer full.
    pub dropped_operations: [u64; 2],
    /// Bytes of those.
    pub dropped_bytes: [u64; 2],
    /// Bytes of recorded operations that were not captured, by reason ([`uncaptured`]).
    pub uncaptured_bytes: [u64; uncaptured::REASONS],
    /// Receives that only peeked: the bytes come again.
    pub peeks: u64,
    /// Other records (sockets, ends, process events) that found the ring buffer full.
    pub dropped_records: u64,
    /// Reserved.
    pub padding: [u64; 5],
}
const _: () = assert!(core::mem::offset_of!(ProcessSlot, dropped_operations) == 64);
const _: () = assert!(size_of::<ProcessSlot>() == 192);

/// Plain data: any bytes are a valid value, and there is no padding.
///
/// # Safety
/// Only for `#[repr(C)]` types of integers and arrays of them whose size assertion shows no padding.
pub unsafe trait Pod: Copy + 'static {}

// SAFETY: integers throughout; each size assertion equals the sum of the members.
unsafe impl Pod for TaskState {}
// SAFETY: as above.
unsafe impl Pod for ProcessSlot {}
// SAFETY: as above.
unsafe impl Pod for crate::OperationRecord {}
// SAFETY: as above.
unsafe impl Pod for crate::SocketRecord {}
// SAFETY: as above.
unsafe impl Pod for crate::EndedRecord {}
// SAFETY: as above.
unsafe impl Pod for crate::ProcessRecord {}
// SAFETY: as above.
unsafe impl Pod for crate::JobRecord {}
// SAFETY: as above.
unsafe impl Pod for crate::SignalHandlerRecord {}
