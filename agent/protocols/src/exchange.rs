//! What the parsers of request and response protocols share: the two directions, what a stream's beginning
//! shows, how streams end, why an exchange or bytes come to nothing, and the counters of one direction.
//!
//! Each protocol has its own events and messages; a caller's books are the same for all.

/// One of the two byte streams of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Responses,
}

/// What the first bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// They begin as a client does.
    Requests,
    /// They begin as a server does.
    Responses,
    /// They are a proper prefix of something possible.
    NeedMore,
    /// No stream of the protocol begins so, or it can't be told.
    No,
}

/// How a direction ended other than by an orderly FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndError {
    /// RST.
    Reset,
    /// The kernel gave the connection up.
    Timeout,
}

/// Why an exchange was abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abandon {
    /// Bytes were lost that may have held a message's beginning.
    Gap,
    /// A stream is not, or no longer, one that can be framed.
    Broken,
    /// Requests were pipelined where the pairing had already been uncertain.
    Pipelined,
    /// The connection changed protocols before this request's turn.
    Upgraded,
    /// More requests wait than are kept.
    TooMany,
    /// Framing had been lost, and what followed the request was not a response's beginning.
    Unpaired,
}

/// Why bytes made no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Framing was lost, no beginning of a message found yet; or the direction had already ended.
    Resync,
    /// A response, or part of one, without a request that it could be paired with.
    UnpairedResponse,
    /// Not of the protocol, a broken message, or one that ended before its head did.
    Broken,
    /// They followed an upgrade or CONNECT.
    AfterUpgrade,
    /// Held for the other direction's records, which did not come.
    HeldTooLong,
    /// At offsets that had already passed.
    Overlap,
}

impl Skip {
    /// Whether, where a client's bytes were skipped so, a request may have been among them.
    #[must_use]
    pub fn may_hide_a_request(self) -> bool {
        matches!(self, Self::Resync | Self::Broken | Self::HeldTooLong)
    }
}

/// What one direction's bytes became. `fed_bytes` = `message_bytes` + `skipped_bytes` +
/// `pending_bytes`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes handed in, captured or missing, and holes between offsets.
    pub fed_bytes: u64,
    /// Bytes of messages, empty lines between them and 1xx among them.
    pub message_bytes: u64,
    /// Bytes reported as skipped.
    pub skipped_bytes: u64,
    /// Bytes of an incomplete head, or held.
    pub pending_bytes: u64,
    /// Responses with 1xx other than 101.
    pub informational: u64,
}
