//! What an HTTP/1.x connection reports: one type at the parser's far boundary, and its counters.

use super::head::{RequestHead, ResponseHead};
use crate::exchange::{Abandon, Direction, EndError, Skip};

/// What happened on a connection. `M` is the caller's mark of a piece, as it was handed in.
///
/// Of one exchange, in this order: `Request`, then `RequestEnd` (or not, where its end was not seen) and
/// `Response` (or not) in either order, then exactly one of `End` and `Abandoned`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "told at once, never stored: a box would be an allocation a message"
)]
pub enum Event<'e, M> {
    /// A request's head is complete, or is known to be cut.
    Request {
        /// Ordinal of the exchange on this connection, from 0 in the order of the requests.
        exchange: u64,
        /// Stream offset of the request's first byte.
        offset: u64,
        /// Mark of the piece with that byte.
        first: M,
        /// What the head says.
        head: RequestHead<'e>,
    },
    /// The request's last byte passed.
    RequestEnd {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the last byte (where framing was lost: the last one seen).
        last: M,
        /// Bytes of content, without chunk framing; a lower bound where framing was lost.
        body_bytes: u64,
        /// Framing was not lost.
        exact: bool,
        /// All of its content, where that was asked for ([`Asked::objects`](super::Asked::objects)).
        content: Option<Vec<u8>>,
    },
    /// The head of the final response, of a 101, or of a 2xx to CONNECT. Other 1xx are counted only
    /// ([`Counters::informational`](crate::exchange::Counters::informational)).
    Response {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the response's first byte.
        first: M,
        /// What the head says.
        head: ResponseHead<'e>,
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

impl<M> Event<'_, M> {
    /// The same, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> Event<'static, M> {
        match self {
            Event::Request { exchange, offset, first, head } => {
                Event::Request { exchange, offset, first, head: head.into_owned() }
            }
            Event::Response { exchange, first, head } => {
                Event::Response { exchange, first, head: head.into_owned() }
            }
            Event::RequestEnd { exchange, last, body_bytes, exact, content } => {
                Event::RequestEnd { exchange, last, body_bytes, exact, content }
            }
            Event::End { exchange, last, end } => Event::End { exchange, last, end },
            Event::Abandoned { exchange, reason } => Event::Abandoned { exchange, reason },
            Event::Skipped { direction, bytes, reason } => {
                Event::Skipped { direction, bytes, reason }
            }
        }
    }
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
