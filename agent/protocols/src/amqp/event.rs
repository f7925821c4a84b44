//! What an AMQP connection reports: one type at the parser's far boundary.

use std::sync::Arc;

use super::properties::Properties;
use crate::exchange::{Abandon, Direction, EndError, Skip};

/// What happened on a connection. `M` is the caller's mark of a piece, as it was handed in.
///
/// Of one exchange, in this order: `Request`, `RequestEnd`, then `Response` (or not), then exactly one of
/// `End` and `Abandoned`. A message is told when all of it has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<M> {
    /// A message was published or delivered, or something was asked of the broker.
    Request {
        /// Ordinal of the exchange on this connection, from 0 in the order in which they are told.
        exchange: u64,
        /// Stream offset of its first byte: of a delivery in what the broker sends.
        offset: u64,
        /// Mark of the piece with that byte.
        first: M,
        /// What it is.
        call: Call,
    },
    /// Its last byte passed.
    RequestEnd {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the last byte.
        last: M,
        /// Bytes of its frames; of a message, the body's frames among them.
        bytes: u64,
    },
    /// The broker answered. A delivery's settlement is its end alone.
    Response {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the answer's first byte.
        first: M,
    },
    /// The exchange is over.
    End {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with the answer's last byte, or of the event that ended the exchange.
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
    /// Something about the connection has become known.
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

/// What an exchange is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `basic.publish`: from the process to the broker.
    Publish(Box<Publish>),
    /// `basic.deliver`: from the broker to the process, which settles it.
    Delivery(Box<Delivery>),
    /// `basic.get`.
    Get {
        /// The queue; `None`: the one declared last, whose name was not seen.
        queue: Option<Arc<str>>,
    },
    /// Any other method that the broker answers, or that asks for no answer.
    Method {
        /// Its name by the specification, such as `queue.declare`.
        name: &'static str,
        /// The queue or exchange that it is about, where it is about one that has a name.
        target: Option<Arc<str>>,
    },
}

/// A message on its way to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The exchange; empty for the default one.
    pub exchange: Box<str>,
    /// The routing key.
    pub routing_key: Box<str>,
    /// It comes back if no queue takes it.
    pub mandatory: bool,
    /// The number by which the broker confirms it; `None` where it does not, or the number isn't certain.
    pub confirm_tag: Option<u64>,
    /// The channel.
    pub channel: u16,
    /// The message.
    pub message: Message,
}

/// A message on its way from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The exchange to which it was published; empty for the default one.
    pub exchange: Box<str>,
    /// Its routing key.
    pub routing_key: Box<str>,
    /// The queue; `None`: the consumer is older than what was seen.
    pub queue: Option<Arc<str>>,
    /// The consumer; empty for the answer to `basic.get`.
    pub consumer_tag: Box<str>,
    /// The number by which it is settled, of this channel.
    pub delivery_tag: u64,
    /// It was delivered before, or may have been.
    pub redelivered: bool,
    /// The broker waits for no acknowledgement.
    pub automatic: bool,
    /// The channel.
    pub channel: u16,
    /// The message.
    pub message: Message,
}

/// A message: what identifies it, never its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its properties.
    pub properties: Properties,
    /// Bytes of the body, as the header says.
    pub body_bytes: u64,
    /// FNV-1a of the whole body; `None`: not all of it was captured, or it is longer than
    /// [`crate::limits::AMQP_HASHED_BYTES`].
    pub body_hash: Option<u64>,
    /// FNV-1a of the body's first [`crate::limits::AMQP_PREFIX_BYTES`], or of all of it if it is shorter;
    /// `None`: not all of them were captured.
    pub prefix_hash: Option<u64>,
}

/// A fact about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The virtual host.
    VirtualHost(Box<str>),
    /// The cluster's name, by the broker's own word.
    Cluster(Box<str>),
}

/// What the process said of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// `basic.ack`.
    Ack,
    /// `basic.nack`.
    Nack,
    /// `basic.reject`.
    Reject,
}

/// The broker's reply code, why it gave something back or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code; [`super::reply_name`] is what the specification calls it.
    pub code: u16,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing answers it: a publish without confirms, a delivery that needs no acknowledgement, a method
    /// that asked for no answer. Over with its last byte.
    NoReply,
    /// The broker confirmed the publish.
    Confirmed {
        /// It came back before that: no queue took it.
        returned: Option<Refusal>,
    },
    /// The broker did not take responsibility for the publish (`basic.nack`).
    Refused,
    /// The process settled the delivery.
    Settled {
        /// How.
        settlement: Settlement,
        /// The broker shall put it back into the queue.
        requeue: bool,
        /// Together with those before it.
        multiple: bool,
    },
    /// The broker answered.
    Replied,
    /// `basic.get` took this message.
    Got(Box<Delivery>),
    /// `basic.get` found nothing.
    Empty,
    /// The process gave the channel or the connection back, orderly, before there was an answer. What was
    /// not settled goes back into its queue.
    Released,
    /// The broker closed the channel or the connection.
    Closed(Refusal),
    /// The connection ended before there was an answer.
    Broken {
        /// `None`: by an orderly FIN.
        error: Option<EndError>,
    },
}

/// What belongs to no exchange, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Heartbeats, of both directions.
    pub heartbeats: u64,
    /// Messages that came back and could not be told which, because publishes are not confirmed.
    pub returned: u64,
    /// Deliveries to consumers that are older than what was seen, and that were never settled in sight.
    pub untold: u64,
    /// `connection.blocked`: the broker took no more messages for a while.
    pub blocked: u64,
}
