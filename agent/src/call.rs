//! The call: one request with its response, as correlation sees it.
//!
//! Correlation needs to know who made a call, on which connection and when; it never sees a protocol.
//! What a call carried (method, status, statement) stays with the pipeline under the same [`CallId`].

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use wirespan_protocols::w3c::{SpanId, TraceId, TraceParent};

/// Names one call for as long as the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A socket, by its cookie: unique for as long as the kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// A traced process, by a number of the agent's own: tgids are reused, this is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId(pub u64);

/// A program that a process executed, by a number of the agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub u64);

/// Which side of the call the process is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It received the request.
    Server,
    /// It sent the request.
    Client,
}

/// Who was running when the first bytes of a request passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// The thread.
    pub tid: u32,
    /// The runtime's own identity of the logical task (a PyContext, an async context); 0 where none is
    /// known and the thread is all there is.
    pub context: u64,
    /// The socket was in blocking mode. A thread that reads a request from a blocking socket can serve no
    /// other meanwhile; a non-blocking one may be an event loop's.
    pub blocking: bool,
}

/// The first bytes of a request passed, and its head is known.
#[derive(Clone, Debug, PartialEq)]
pub struct CallStarted {
    /// The call.
    pub id: CallId,
    /// The process whose end of the connection this is.
    pub process: ProcessId,
    /// Its socket.
    pub socket: SocketId,
    /// Its side.
    pub role: Role,
    /// Who read (server) or wrote (client) the first bytes.
    pub task: Task,
    /// CLOCK_MONOTONIC: for a server when the first bytes were read, for a client when the send returned.
    pub at_ns: u64,
    /// Where the request begins in its direction's stream. Both ends of a TCP connection give the same
    /// number in the low 32 bits: it is TCP's own sequence number.
    pub offset: u64,
    /// What the request's own headers say.
    pub remote: Option<RemoteParent>,
    /// A client library's own doing (setting up a session, asking whether a connection is alive, waiting for
    /// work): whoever is in flight need not have asked for it, and made in no request it proves nothing of
    /// other calls.
    pub incidental: bool,
    /// The process is given messages that others sent: what they are decides the parent, and neither who was
    /// running nor where in the stream it began.
    pub receives: bool,
}

/// What a message is known by at both of its ends: equal keys are the same message, or can't be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey(pub u64);

impl MessageKey {
    /// Of what both ends know of it. Differs from run to run: nobody can make two messages look alike.
    pub fn of(parts: impl Hash) -> Self {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEYS.hash_one(parts))
    }
}

/// A message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which.
    pub message: MessageKey,
    /// Where: a queue or a consumers' group. Each is given one sender's message once.
    pub receiver: u64,
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// It may have been received there before (redelivered).
    pub again: bool,
}

/// A parent that came over the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteParent {
    /// The `traceparent`.
    pub parent: TraceParent,
    /// The `tracestate`, as received.
    pub state: Option<Box<str>>,
}

/// The call is over: its response is complete, or it was reset, timed out, abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEnded {
    /// The call.
    pub id: CallId,
    /// CLOCK_MONOTONIC of the last byte, or of the moment of failure.
    pub at_ns: u64,
}

/// What correlation decided about one call. Given once, and never changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The call.
    pub id: CallId,
    /// Its trace.
    pub trace_id: TraceId,
    /// Its span.
    pub span_id: SpanId,
    /// The parent's span; none for a root.
    pub parent_span_id: Option<SpanId>,
    /// The parent came over the wire and need not be a span of this agent.
    pub parent_is_remote: bool,
    /// The call on this node that is the parent, where there is one.
    pub parent_call: Option<CallId>,
    /// The matching call at the other end of the same connection, where this agent saw it: the client's
    /// for a server call.
    pub peer_call: Option<CallId>,
    /// W3C trace flags.
    pub trace_flags: u8,
    /// Its trace, or one above it, came over the wire.
    pub continued: bool,
    /// W3C `tracestate`.
    pub trace_state: Option<Box<str>>,
    /// How sure the parent is.
    pub status: ParentStatus,
    /// Spans that are no parent.
    pub links: Vec<(Origin, LinkReason)>,
    /// When the one message was sent that the call received, CLOCK_MONOTONIC.
    pub sent_at_ns: Option<u64>,
    /// No span is wanted: of this call, or of one above it.
    pub unwanted: bool,
}

/// A process runs a program, and serves nothing as far as is known.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramStarted {
    /// The program.
    pub id: ProgramId,
    /// The process.
    pub process: ProcessId,
    /// The process that started that one.
    pub by: Option<ProcessId>,
    /// What the process's own variables say.
    pub remote: Option<RemoteParent>,
    /// When it was executed, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// When it counts as a daemon's at the latest.
    pub until_ns: u64,
}

/// Why a program's span ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramEnd {
    /// Its process exited.
    Exited,
    /// Its process executed another one.
    Replaced,
    /// Its process turned out to serve: what was before is its start.
    Serves,
    /// Its process is not traced any more.
    LetGo,
    /// It goes on: its time is over, or the agent's.
    Goes,
}

/// What correlation decided about one program, when it was over. Given once.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramPlacement {
    /// The program.
    pub id: ProgramId,
    /// Whether it has a span: nothing names one that has none.
    pub wanted: bool,
    /// Its trace.
    pub trace_id: TraceId,
    /// Its span.
    pub span_id: SpanId,
    /// The parent's span; none for a root.
    pub parent_span_id: Option<SpanId>,
    /// The parent was given by a variable and need not be a span of this agent.
    pub parent_is_remote: bool,
    /// W3C trace flags.
    pub trace_flags: u8,
    /// Its trace was given by a variable.
    pub continued: bool,
    /// W3C `tracestate`.
    pub trace_state: Option<Box<str>>,
    /// When it was over, CLOCK_MONOTONIC.
    pub end_ns: u64,
    /// Why.
    pub end: ProgramEnd,
}

/// Why another span is linked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkReason {
    /// The call is work of that request, which was answered too long before to be the parent.
    LateWork,
    /// The call received several messages, and that span sent one of them.
    Message,
}

/// A span that another has to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
}

/// Whether a call's parent is known, and if it was withheld, why. A wrong parent is worse than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParentStatus {
    /// The parent is certain.
    Certain,
    /// The process serves nothing, or the request came from outside what this agent sees: a root by
    /// nature.
    Root,
    /// There may be a parent, but which one can't be told.
    Withheld(Withheld),
}

/// Why a parent was withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Withheld {
    /// Several requests were in flight in the process, and nothing tells them apart.
    Concurrent,
    /// The process makes calls of its own, in no request (timers, consumers, pools).
    Ambient,
    /// A request ended shortly before with calls still open: the call may be its late work.
    LateWork,
    /// The process serves connections that can't be read (TLS, HTTP/2, an upgrade).
    Opaque,
    /// What would tell was not seen: records were lost, an end was missed, or the parent's own call was
    /// abandoned or evicted, so that no span of it will ever exist.
    Lost,
}
