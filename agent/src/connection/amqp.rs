//! AMQP 0-9-1 on a connection: messages that the process publishes are its calls, and so are those that it is
//! given, from when they were read until it settles them.

use std::sync::Arc;

use wirespan_protocols::amqp::{self, Call, Connection, Delivery, End, Event, Fact};

use super::Mark;
use super::message::{Content, Mail, Message, Outcome, Step};
use super::parser::{self, Adapter, Out};
use crate::call::{MessageKey, Receipt};

/// What is known of an AMQP connection beside its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmqpSession {
    /// The virtual host.
    pub virtual_host: Option<Box<str>>,
    /// The cluster's name, by the broker's word: with the virtual host it says which queues are the same.
    pub cluster: Option<Box<str>>,
}

#[derive(Default)]
pub(super) struct Amqp {
    session: Arc<AmqpSession>,
}

impl Adapter for Amqp {
    type Connection = Connection<Mark>;
    const NAME: &'static str = "AMQP";
    /// Longer than a broker needs to confirm or to answer, as a rule: see `wirespan_protocols::amqp` on what is
    /// certain again after it.
    const QUIET_NS: u64 = 1_000_000_000;
    const LEAST_PAUSE_NS: Option<u64> = None;

    fn tell(&mut self, event: Event<Mark>, out: &mut Out<'_>) {
        let (exchange, step) = match event {
            Event::Request { exchange, offset, first, call } => {
                let content = Content::Amqp { call, session: Arc::clone(&self.session) };
                (exchange, Step::Begun { offset, first, content })
            }
            Event::RequestEnd { exchange, last, .. } => {
                (exchange, Step::RequestEnd { last, content_bytes: None, fields: Vec::new() })
            }
            Event::Response { exchange, first } => (exchange, Step::Response { first, head: None }),
            Event::End { exchange, last, end } => {
                (exchange, Step::Over { last, outcome: Outcome::Amqp(end) })
            }
            Event::Abandoned { exchange, .. } => (exchange, Step::Abandoned),
            Event::Session(fact) => {
                let session = Arc::make_mut(&mut self.session);
                match fact {
                    Fact::VirtualHost(name) => session.virtual_host = Some(name),
                    Fact::Cluster(name) => session.cluster = Some(name),
                }
                return;
            }
            Event::Skipped { direction, reason, .. } => {
                return parser::skipped(direction, reason, out);
            }
        };
        out(Message::Call { exchange, step });
    }
}

/// What is no work of the application's own making: setting up, asking for messages, being given them.
pub(super) fn is_incidental(call: &Call) -> bool {
    match call {
        Call::Publish(_) => false,
        Call::Delivery(_) | Call::Get { .. } => true,
        Call::Method { name, .. } => !is_work(name),
    }
}

/// A consumer begins, or is given a message.
pub(super) fn waits_for_work(call: &Call) -> bool {
    match call {
        Call::Delivery(_) => true,
        Call::Method { name, .. } => *name == "basic.consume",
        Call::Publish(_) | Call::Get { .. } => false,
    }
}

/// Setting up that went well, a queue that was empty, and messages that were given back unhandled: counted, and
/// no span.
pub(super) fn is_silent(call: &Call, end: &End) -> bool {
    match (call, end) {
        (Call::Method { name, .. }, End::NoReply | End::Replied | End::Released) => !is_work(name),
        (Call::Get { .. }, End::Empty | End::Released) | (Call::Delivery(_), End::Released) => true,
        _ => false,
    }
}

/// A method by which messages take effect.
fn is_work(name: &str) -> bool {
    matches!(name, "tx.commit" | "tx.rollback")
}

/// What a message is known by at both ends; `None`: not enough of it was captured.
///
/// The virtual host and the broker are no part of it: a connection that is older than the agent doesn't tell.
fn key(exchange: &str, routing_key: &str, message: &amqp::Message) -> Option<MessageKey> {
    let properties = message.properties.hash?;
    let body = message.body_hash.or(message.prefix_hash)?;
    Some(MessageKey::of(("amqp", exchange, routing_key, properties, message.body_bytes, body)))
}

fn receipt(delivery: &Delivery, connection: u64, at_ns: u64) -> Option<Receipt> {
    let message = key(&delivery.exchange, &delivery.routing_key, &delivery.message)?;
    let receiver = match &delivery.queue {
        Some(queue) => MessageKey::of(queue),
        None => MessageKey::of((connection, delivery.channel, &delivery.consumer_tag)),
    };
    Some(Receipt { message, receiver: receiver.0, at_ns, again: delivery.redelivered })
}

/// The message that a call asked for, and was given when it ended. `connection` as of [`mail`].
pub(super) fn fetched(end: &End, connection: u64, at_ns: u64) -> Option<Receipt> {
    match end {
        End::Got(delivery) => receipt(delivery, connection, at_ns),
        _ => None,
    }
}

/// The message that a call sends or is given. `connection`: its socket's cookie.
pub(super) fn mail(call: &Call, connection: u64, at_ns: u64) -> Option<Mail> {
    match call {
        Call::Publish(publish) => {
            key(&publish.exchange, &publish.routing_key, &publish.message).map(Mail::Sends)
        }
        Call::Delivery(delivery) => receipt(delivery, connection, at_ns).map(Mail::Receives),
        Call::Get { .. } | Call::Method { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirespan_protocols::amqp::Refusal;

    fn method(name: &'static str) -> Call {
        Call::Method { name, target: None }
    }

    #[test]
    fn only_what_tells_nothing_is_silent() {
        let closed = || End::Closed(Refusal { code: 404 });
        let get = Call::Get { queue: None };
        for (call, end, silent) in [
            (method("queue.declare"), End::Replied, true),
            (method("queue.declare"), closed(), false),
            (method("basic.cancel"), End::Released, true),
            (method("basic.consume"), End::Broken { error: None }, false),
            (method("tx.commit"), End::Replied, false),
            (get.clone(), End::Empty, true),
            (get, closed(), false),
        ] {
            assert_eq!(is_silent(&call, &end), silent, "{call:?} {end:?}");
        }
    }

    #[test]
    fn what_libraries_do_by_themselves_proves_nothing() {
        assert!(is_incidental(&method("basic.qos")) && is_incidental(&Call::Get { queue: None }));
        assert!(!is_incidental(&method("tx.commit")));
    }
}
