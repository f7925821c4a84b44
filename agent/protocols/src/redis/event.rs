//! What a Redis connection reports: one type at the parser's far boundary.

use std::borrow::Cow;

use super::{command::Command, reply::Reply, values::Values};
use crate::exchange::{Abandon, Direction, EndError, Skip};

/// What happened on a connection. `M` is the caller's mark of a piece, as it was handed in.
///
/// Of one exchange, in this order: `Request`, then `RequestEnd` (or not, where its end was not seen),
/// then `Response` (or not), then exactly one of `End` and `Abandoned`. `Response` is told together with
/// what ends the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'e, M> {
    /// A command is complete, or is known to be cut.
    Request {
        /// Ordinal of the exchange on this connection, from 0 in the order of the commands.
        exchange: u64,
        /// Stream offset of the command's first byte.
        offset: u64,
        /// Mark of the piece with that byte.
        first: M,
        /// What the command says.
        request: Command<'e>,
        /// Its arguments behind the name, where they are asked for ([`super::Asked`]).
        values: Values<'e>,
    },
    /// The command's last byte passed.
    RequestEnd {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the last byte.
        last: M,
        /// Bytes of the command, as sent.
        bytes: u64,
    },
    /// The reply began. Where there is one confirmation per channel, the first of them.
    Response {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the reply's first byte.
        first: M,
    },
    /// The exchange is over.
    End {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the reply's last byte, or of the event that ended the exchange.
        last: M,
        /// How it ended.
        end: End<'e>,
        /// The reply's values, where they are asked for and were seen to their end. Of `EXEC` if they are asked
        /// for of a command that it ran.
        values: Values<'e>,
    },
    /// The exchange will never be known in full: no span from it.
    Abandoned {
        /// The exchange.
        exchange: u64,
        /// Why.
        reason: Abandon,
    },
    /// What the server sent without being asked by the command at hand: a published message, a
    /// confirmation that no command waits for, an invalidation.
    Push {
        /// Mark of the piece with the first byte.
        first: M,
        /// Mark of the piece with the last byte.
        last: M,
        /// What it is.
        kind: PushKind,
        /// A message's channel, as far as it is kept ([`crate::limits::REDIS_KEY_BYTES`]).
        channel: Option<Cow<'e, str>>,
        /// Bytes of it, framing among them.
        bytes: u64,
        /// Of a message, where messages are asked for: what it is, the channel, what was published.
        values: Values<'e>,
    },
    /// Something about the connection has become known, or unknown again. Facts come in the order of the
    /// replies: an exchange ran under the facts told before its `End`; the fact that a command causes
    /// comes right after its own.
    Session(Fact),
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
            Self::Request { exchange, offset, first, request, values } => {
                let (request, values) = (request.into_owned(), values.into_owned());
                Event::Request { exchange, offset, first, request, values }
            }
            Self::RequestEnd { exchange, last, bytes } => {
                Event::RequestEnd { exchange, last, bytes }
            }
            Self::Response { exchange, first } => Event::Response { exchange, first },
            Self::End { exchange, last, end, values } => {
                let (end, values) = (end.into_owned(), values.into_owned());
                Event::End { exchange, last, end, values }
            }
            Self::Abandoned { exchange, reason } => Event::Abandoned { exchange, reason },
            Self::Push { first, last, kind, channel, bytes, values } => {
                let channel = channel.map(|channel| Cow::Owned(channel.into_owned()));
                Event::Push { first, last, kind, channel, bytes, values: values.into_owned() }
            }
            Self::Session(fact) => Event::Session(fact),
            Self::Skipped { direction, bytes, reason } => {
                Event::Skipped { direction, bytes, reason }
            }
        }
    }
}

impl End<'_> {
    /// The same, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> End<'static> {
        match self {
            Self::Complete { reply, bytes } => End::Complete { reply: reply.into_owned(), bytes },
            Self::Inferred { reply, bytes } => {
                End::Inferred { reply: reply.map(Reply::into_owned), bytes }
            }
            Self::NoReply => End::NoReply,
            Self::Reset { bytes, error } => End::Reset { bytes, error },
            Self::Truncated { bytes } => End::Truncated { bytes },
            Self::NoResponse { error } => End::NoResponse { error },
        }
    }
}

/// A fact about a connection. A connection seen from its start begins with database 0 and RESP2, one met
/// in the middle with neither known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The selected database; `None`: no longer known.
    Database(Option<u32>),
    /// The version of RESP; `None`: no longer known.
    Protocol(Option<u8>),
}

/// What was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// A published message (`message`, `pmessage`, `smessage`).
    Message,
    /// A subscription begins or ends, and no command waits for the word.
    Confirmation,
    /// Anything else that RESP3 pushes, such as `invalidate`.
    Other,
}

/// How an exchange ended. `bytes` is the reply as sent, framing among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End<'e> {
    /// The reply ended.
    Complete {
        /// What it was.
        reply: Reply<'e>,
        /// Bytes of it.
        bytes: u64,
    },
    /// Capture cut the reply where its length could not be known; the next command, silence or the
    /// stream's end told that it was over.
    Inferred {
        /// What it was; `None`: that much was not captured. Sizes are lower bounds.
        reply: Option<Reply<'e>>,
        /// Bytes known to be its.
        bytes: u64,
    },
    /// None is to come: the client asked for none (`CLIENT REPLY`), or the server ended, as it was told to
    /// (`SHUTDOWN`).
    NoReply,
    /// A reset or a timeout cut the reply.
    Reset {
        /// Bytes up to then.
        bytes: u64,
        /// Which.
        error: EndError,
    },
    /// The server's FIN came in the middle of the reply.
    Truncated {
        /// Bytes up to then.
        bytes: u64,
    },
    /// The connection ended before any reply.
    NoResponse {
        /// `None`: by an orderly FIN.
        error: Option<EndError>,
    },
}
