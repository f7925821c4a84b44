//! Work on consumed messages, where a runtime tells which task handles which delivery.
//!
//! Beside capture, before correlation: the task has a context's number of its own, which calls made in it carry
//! ([`crate::correlation::Engine::context`]). What the delivery was is named as its protocol names it; nothing here
//! looks for the call that received it.

use crate::call::{ProcessId, SocketId};

/// What a handler works on, as the protocol names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Of an AMQP 0-9-1 connection.
    Amqp {
        /// The channel that it came on.
        channel: u16,
        /// Its delivery tag there.
        tag: u64,
    },
    /// Records of one partition, handed over together.
    Kafka {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset of the first.
        first: i64,
        /// The offset of the last: where only one is handled, the same.
        last: i64,
    },
    /// A job of Bull or BullMQ.
    Job {
        /// What the queue's keys in Redis begin with, without the colon at its end: `bull:mail`.
        queue: String,
        /// The job's id there.
        id: String,
    },
}

/// A handler began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handling {
    /// Whose.
    pub process: ProcessId,
    /// The number of the context that it works in: of no request and no other handler, never given twice in a
    /// process.
    pub context: u64,
    /// The connection that the delivery came on, where that is known.
    pub connection: Option<SocketId>,
    /// What it handles.
    pub delivery: Delivery,
    /// When it was called (CLOCK_MONOTONIC): after the delivery was read.
    pub at_ns: u64,
}

/// What is told of handlers. In order within a process; calls that were made in a context are told after its
/// beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// One began.
    Began(Handling),
    /// What it returned has settled: nothing that was awaited goes on. Not every library lets that be seen.
    Ended {
        /// Whose.
        process: ProcessId,
        /// [`Handling::context`].
        context: u64,
        /// When (CLOCK_MONOTONIC).
        at_ns: u64,
    },
}
