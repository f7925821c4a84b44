//! What the engine is told at the start: how long it waits, how much it may hold, where ids come from.

use rand::RngCore;
use wirespan_protocols::w3c::{SpanId, TraceId};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Waiting times and caps. Times are nanoseconds of delivered time (see [`super::Engine::tick`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long the other end of a connection, or another record of the same thread, may be told later
    /// than it happened. The measured worst is about 50 ms.
    pub join_wait_ns: u64,
    /// How long a client call that only the single-in-flight rule can place is held after its start, so
    /// that evidence against it is heard first.
    pub look_ahead_ns: u64,
    /// How long a call of a thread that works on jobs is held until it shows on which.
    pub hold_ns: u64,
    /// How long a request that ended with calls still open casts doubt on later calls.
    pub late_work_ns: u64,
    /// How long after the response a strand that did not answer may make calls of its request's.
    pub strand_ns: u64,
    /// How long after its end a call waits for its chain of parents; then its trace id is frozen.
    pub deadline_ns: u64,
    /// How long after its end a client call stays findable for a server that reads it late.
    pub keep_client_ns: u64,
    /// How long a closed socket's calls stay findable.
    pub linger_ns: u64,
    /// How long a server call whose end was never seen counts as possibly in flight, unless its socket
    /// closes or carries another request before.
    pub ghost_ns: u64,
    /// Calls held in all.
    pub max_calls: usize,
    /// Server calls, and client calls, held as open or recent in one process.
    pub max_calls_per_process: usize,
    /// Calls kept findable on one socket.
    pub max_calls_per_socket: usize,
    /// Sockets held.
    pub max_sockets: usize,
    /// Processes held.
    pub max_processes: usize,
    /// Messages remembered until they are received.
    pub max_messages: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            join_wait_ns: 250 * MS,
            look_ahead_ns: SECOND,
            hold_ns: 10 * SECOND,
            late_work_ns: 5 * SECOND,
            strand_ns: 500 * MS,
            deadline_ns: 1_500 * MS,
            keep_client_ns: 30 * SECOND,
            linger_ns: 2 * SECOND,
            ghost_ns: 60 * SECOND,
            max_calls: 200_000,
            max_calls_per_process: 20_000,
            max_calls_per_socket: 64,
            max_sockets: 65_536,
            max_processes: 8_192,
            max_messages: 65_536,
        }
    }
}

impl Config {
    /// How far back a process's requests stay known: twice the look-ahead, because a call can be told
    /// late and is then still judged by the state at its own start.
    pub(super) fn window_ns(&self) -> u64 {
        self.look_ahead_ns.saturating_mul(2).saturating_add(self.join_wait_ns)
    }
}

/// Where trace and span ids come from. They must be uniformly random: roots carry W3C's random flag.
pub trait IdSource: Send {
    /// A new trace id, never zero.
    fn trace_id(&mut self) -> TraceId;
    /// A new span id, never zero.
    fn span_id(&mut self) -> SpanId;
}

/// Ids from a generator of random numbers.
#[derive(Debug)]
pub struct RandomIds<R>(pub R);

impl<R: RngCore + Send> IdSource for RandomIds<R> {
    fn trace_id(&mut self) -> TraceId {
        loop {
            let mut bytes = [0; 16];
            self.0.fill_bytes(&mut bytes);
            if bytes != [0; 16] {
                return TraceId(bytes);
            }
        }
    }

    fn span_id(&mut self) -> SpanId {
        loop {
            let mut bytes = [0; 8];
            self.0.fill_bytes(&mut bytes);
            if bytes != [0; 8] {
                return SpanId(bytes);
            }
        }
    }
}
