//! What an HTTP/1.x connection reports: one type at the parser's far boundary, and its counters.

use super::head::{RequestHead, ResponseHead};

/// One of the two byte streams of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Responses,
}

/// How a direction ended other than by an orderly FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndError {
    /// RST.
    Reset,
    /// The kernel gave the connection up.
    Timeout,
}

/// What happened on a connection. `M` is the caller's mark of a piece, as it was handed in.
///
/// Of one exchange, in this order: `Request`, then `RequestEnd` (or not, where its end was not seen) and
/// `Response` (or not) in either order, then exactly one of `End` and `Abandoned`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<M> {
    /// A request's head is complete, or is known to be cut.
    Request {
        /// Ordinal of the exchange on this connection, from 0 in the order of the requests.
        exchange: u64,
        /// Stream offset of the request's first byte.
        offset: u64,
        /// Mark of the piece with that byte.
        first: M,
        /// What the head says.
        head: RequestHead,
    },
    /// The request's last byte passed.
    RequestEnd {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the last byte (where framing was lost: the last one seen).
        last: M,
        /// Bytes of content, without chunk framing; a lower bound where framing was lost.
        body_bytes: u64,
    },
    /// The head of the final response, of a 101, or of a 2xx to CONNECT. Other 1xx are counted only
    /// ([`Counters::informational`]).
    Response {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the response's first byte.
        first: M,
        /// What the head says.
        head: ResponseHead,
    },
    /// The exchange is over.
    End {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the response's last byte, or of the event that ended the exchange.
        last: M,
        /// How it ended.
        end: End,
    },
    /// The exchange will never be known in full: no span from it.
    Abandoned {
        /// The exchange.
        exchange: u64,
        /// Why.
        reason: Abandon,
    },
    /// Bytes that made no message, for the books.
    Skipped {
        /// Where they were.
        direction: Direction,
        /// How many, uncaptured ones among them.
        bytes: u64,
        /// Why.
        reason: Skip,
    },
}

/// How an exchange ended. `body_bytes` is the response's content, without chunk framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Framing told the response's end.
    Complete {
        /// Bytes of content.
        body_bytes: u64,
    },
    /// Framing was lost; the next request, silence or the stream's end told.
    Inferred {
        /// Bytes of content known: a lower bound.
        body_bytes: u64,
    },
    /// 101, or a 2xx to CONNECT: what follows on both streams is not HTTP.
    Upgraded,
    /// The server's FIN ended a body that is delimited so.
    Closed {
        /// Bytes of content.
        body_bytes: u64,
    },
    /// A reset or a timeout cut the response.
    Reset {
        /// Bytes of content up to then.
        body_bytes: u64,
        /// Which.
        error: EndError,
    },
    /// The server's FIN came in the middle of the response.
    Truncated {
        /// Bytes of content up to then.
        body_bytes: u64,
    },
    /// The connection ended before any response.
    NoResponse {
        /// `None`: by an orderly FIN.
        error: Option<EndError>,
    },
}

/// Why an exchange was abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abandon {
    /// Bytes were lost that may have held a message's beginning.
    Gap,
    /// A stream is not, or no longer, HTTP/1.x that can be framed.
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
    /// Not HTTP/1.x, a broken message, or one that ended before its head did.
    NotHttp,
    /// They followed an upgrade or CONNECT.
    AfterUpgrade,
    /// Held for the other direction's records, which did not come.
    HeldTooLong,
    /// At offsets that had already passed.
    Overlap,
}

/// What one direction's bytes became. `fed_bytes` = `message_bytes` + `skipped_bytes` +
/// `pending_bytes`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes handed in, captured or missing, and holes between offsets.
    pub fed_bytes: u64,
    /// Bytes of messages, empty lines between them and 1xx among them.
    pub message_bytes: u64,
    /// Bytes reported as [`Event::Skipped`].
    pub skipped_bytes: u64,
    /// Bytes of an incomplete head, or held.
    pub pending_bytes: u64,
    /// Responses with 1xx other than 101.
    pub informational: u64,
}
