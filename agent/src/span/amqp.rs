//! Messages over AMQP 0-9-1 as spans: OpenTelemetry's messaging conventions
//! (<https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/>).
//!
//! Names, ids and sizes; never a body, nor a header other than `traceparent`.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;
use wirespan_protocols::amqp::{Call, Delivery, End, Message, Refusal, Settlement, reply_name};

use crate::call::{Placement, RemoteParent};
use crate::connection::{AmqpSession, Outcome};
use crate::exchange::Exchange;
use crate::semconv;
use crate::span::common::{self, Failure};
use crate::span::{Attribute, Link, Span, SpanKind};

/// What the conventions call the default exchange with an empty routing key.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// How names begin that the broker makes, of queues and of direct replies.
const GENERATED: [&str; 2] = ["amq.gen-", "amq.rabbitmq.reply-to"];

/// The `traceparent` that the message brings.
pub fn remote(call: &Call) -> Option<RemoteParent> {
    let message = match call {
        Call::Publish(publish) => &publish.message,
        Call::Delivery(delivery) => &delivery.message,
        Call::Get { .. } | Call::Method { .. } => return None,
    };
    let state = message.properties.tracestate.clone();
    message.properties.traceparent.map(|parent| RemoteParent { parent, state })
}

/// The span of a finished, placed call.
pub(super) fn span(
    exchange: &Exchange,
    call: &Call,
    session: &AmqpSession,
    placement: Placement,
) -> Span {
    let end = match exchange.end.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Amqp(end)) => Some(end),
        _ => None,
    };
    let mut attributes = Vec::with_capacity(20);
    attributes.push(Attribute::new(key::MESSAGING_SYSTEM, "rabbitmq"));
    if let Some(name) = &session.virtual_host {
        attributes.push(Attribute::new(semconv::RABBITMQ_VIRTUAL_HOST, name.to_string()));
    }
    let got = match end {
        Some(End::Got(delivery)) => Some(&**delivery),
        _ => None,
    };
    let (operation, kind, target) = match (call, got) {
        (Call::Publish(publish), _) => {
            about(&publish.message, &publish.routing_key, &mut attributes);
            let target = Target::new([&*publish.exchange, &publish.routing_key, ""]);
            (Operation { name: "send", kind: Some("send") }, SpanKind::Producer, Some(target))
        }
        (Call::Delivery(delivery), _) => {
            let target = received(delivery, &mut attributes);
            if let Some(queue_ns) = exchange.first.queue_ns {
                let queue_ns = i64::try_from(queue_ns).unwrap_or(i64::MAX);
                attributes.push(Attribute::new(semconv::QUEUE_TIME_NS, queue_ns));
            }
            (Operation { name: "process", kind: Some("process") }, SpanKind::Consumer, Some(target))
        }
        (Call::Get { .. }, Some(delivery)) => {
            let target = received(delivery, &mut attributes);
            (Operation { name: "receive", kind: Some("receive") }, SpanKind::Client, Some(target))
        }
        (Call::Get { queue }, None) => {
            let target = queue.as_deref().map(|queue| Target::new(["", "", queue]));
            (Operation { name: "receive", kind: Some("receive") }, SpanKind::Client, target)
        }
        (Call::Method { name, target }, _) => {
            let target = target.as_deref().map(|target| Target::new([target, "", ""]));
            (Operation { name, kind: operation_type(name) }, SpanKind::Client, target)
        }
    };
    let mut add = |attribute| attributes.push(attribute);
    add(Attribute::new(key::MESSAGING_OPERATION_NAME, operation.name));
    if let Some(kind) = operation.kind {
        add(Attribute::new(key::MESSAGING_OPERATION_TYPE, kind));
    }
    if let Some(target) = &target {
        add(Attribute::new(key::MESSAGING_DESTINATION_NAME, target.full.clone()));
        if target.is_anonymous() {
            add(Attribute::new(key::MESSAGING_DESTINATION_ANONYMOUS, true));
        }
    }
    if let Some(end) = end {
        ended(call, end, &mut attributes);
    }
    common::server(exchange, &mut attributes);
    common::peer(exchange, &mut attributes);
    let failure = end.and_then(|end| failure(call, end)).or_else(|| common::broken(exchange));
    let name = match target {
        Some(target) => Cow::Owned(format!("{} {}", operation.name, target.low)),
        None => Cow::Borrowed(operation.name),
    };
    let mut span = common::span(exchange, name, attributes, failure, placement);
    span.kind = kind;
    // What was got was caused by who sent it, and the getting by who asked.
    if let Some(parent) = got.and_then(|delivery| delivery.message.properties.traceparent) {
        let why = Attribute::new(semconv::LINK_REASON, "message");
        let (trace_id, span_id) = (parent.trace_id, parent.span_id);
        span.links.push(Link { trace_id, span_id, attributes: vec![why] });
    }
    span
}

/// What is done with messages: by RabbitMQ's word, and by the conventions' where they have one.
struct Operation {
    name: &'static str,
    kind: Option<&'static str>,
}

/// The conventions' type of a method that moves no message; `None`: they have none for it.
fn operation_type(name: &str) -> Option<&'static str> {
    match name {
        "tx.commit" | "tx.rollback" => Some("settle"),
        _ => None,
    }
}

/// Where messages go or come from.
struct Target {
    /// As the conventions put it together.
    full: String,
    /// The same, without names that the broker made.
    low: String,
}

impl Target {
    /// From exchange, routing key and queue, each empty where it isn't there: those that are, and the queue not
    /// twice.
    fn new([exchange, routing_key, queue]: [&str; 3]) -> Self {
        let queue = if queue == routing_key { "" } else { queue };
        let parts = [exchange, routing_key, queue].into_iter().filter(|part| !part.is_empty());
        let join = |parts: Vec<&str>| match parts.as_slice() {
            [] => DEFAULT_EXCHANGE.to_owned(),
            parts => parts.join(":"),
        };
        let low = parts.clone().map(|part| {
            let generated = GENERATED.iter().any(|beginning| part.starts_with(beginning));
            if generated { "(anonymous)" } else { part }
        });
        Self { low: join(low.collect()), full: join(parts.collect()) }
    }

    fn is_anonymous(&self) -> bool {
        self.low != self.full
    }
}

/// What is said of every message.
fn about(message: &Message, routing_key: &str, attributes: &mut Vec<Attribute>) {
    let mut add = |key: &'static str, value: &str| {
        attributes.push(Attribute::new(key, value.to_owned()));
    };
    if !routing_key.is_empty() {
        add(key::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY, routing_key);
    }
    if let Some(id) = &message.properties.message_id {
        add(key::MESSAGING_MESSAGE_ID, id);
    }
    if let Some(id) = &message.properties.correlation_id {
        add(key::MESSAGING_MESSAGE_CONVERSATION_ID, id);
    }
    let bytes = i64::try_from(message.body_bytes).unwrap_or(i64::MAX);
    attributes.push(Attribute::new(key::MESSAGING_MESSAGE_BODY_SIZE, bytes));
}

/// What is said of one that the process was given.
fn received(delivery: &Delivery, attributes: &mut Vec<Attribute>) -> Target {
    about(&delivery.message, &delivery.routing_key, attributes);
    let mut add = |attribute| attributes.push(attribute);
    let tag = i64::try_from(delivery.delivery_tag).unwrap_or(i64::MAX);
    add(Attribute::new(key::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG, tag));
    if let Some(queue) = &delivery.queue {
        add(Attribute::new(semconv::RABBITMQ_QUEUE, queue.to_string()));
    }
    if !delivery.consumer_tag.is_empty() {
        add(Attribute::new(semconv::RABBITMQ_CONSUMER_TAG, delivery.consumer_tag.to_string()));
    }
    if delivery.redelivered {
        add(Attribute::new(semconv::RABBITMQ_REDELIVERED, true));
    }
    if delivery.automatic {
        add(Attribute::new(semconv::RABBITMQ_SETTLEMENT, "auto"));
    }
    let queue = delivery.queue.as_deref().unwrap_or_default();
    Target::new([&delivery.exchange, &delivery.routing_key, queue])
}

/// How it ended, where that is no failure yet.
fn ended(call: &Call, end: &End, attributes: &mut Vec<Attribute>) {
    match end {
        End::Confirmed { .. } => {
            attributes.push(Attribute::new(semconv::RABBITMQ_CONFIRMED, true));
        }
        End::Refused if matches!(call, Call::Publish(_)) => {
            attributes.push(Attribute::new(semconv::RABBITMQ_CONFIRMED, false));
        }
        End::Settled { settlement, requeue, .. } => {
            let word = match settlement {
                Settlement::Ack => "ack",
                Settlement::Nack => "nack",
                Settlement::Reject => "reject",
            };
            attributes.push(Attribute::new(semconv::RABBITMQ_SETTLEMENT, word));
            if *settlement != Settlement::Ack {
                attributes.push(Attribute::new(semconv::RABBITMQ_REQUEUE, *requeue));
            }
        }
        _ => {}
    }
}

/// Whether it failed: the broker gave it back, refused it, or closed; or the process rejected the message for
/// good. One that it puts back into the queue will be tried again.
fn failure(call: &Call, end: &End) -> Option<Failure> {
    let failure = |kind: &'static str, text: &'static str| {
        Some(Failure { kind: Cow::Borrowed(kind), text: Cow::Borrowed(text) })
    };
    match end {
        End::Confirmed { returned: Some(refusal) } | End::Closed(refusal) => {
            Some(refused(*refusal))
        }
        End::Refused => failure("nack", "refused by the broker"),
        End::Settled { settlement: Settlement::Nack, requeue: false, .. } => {
            failure("nack", "not acknowledged by the consumer")
        }
        End::Settled { settlement: Settlement::Reject, requeue: false, .. } => {
            failure("reject", "rejected by the consumer")
        }
        End::Released if matches!(call, Call::Publish(_)) => {
            failure("unconfirmed", "channel closed before the broker confirmed")
        }
        _ => None,
    }
}

fn refused(Refusal { code }: Refusal) -> Failure {
    let kind = reply_name(code).map_or_else(|| Cow::Owned(code.to_string()), Cow::Borrowed);
    Failure { text: Cow::Owned(format!("{code} {kind}")), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_put_together_as_the_conventions_say() {
        for (parts, full, low) in [
            (["x", "k", ""], "x:k", "x:k"),
            (["", "q", ""], "q", "q"),
            (["x", "", ""], "x", "x"),
            (["", "", ""], "amq.default", "amq.default"),
            (["x", "k", "q"], "x:k:q", "x:k:q"),
            (["", "q", "q"], "q", "q"),
            (["x", "q", "q"], "x:q", "x:q"),
            (["x", "k", "amq.gen-JzTY20"], "x:k:amq.gen-JzTY20", "x:k:(anonymous)"),
            (["", "amq.rabbitmq.reply-to.g1h2", ""], "amq.rabbitmq.reply-to.g1h2", "(anonymous)"),
        ] {
            let target = Target::new(parts);
            assert_eq!((&*target.full, &*target.low), (full, low));
            assert_eq!(target.is_anonymous(), low != full);
        }
    }

    #[test]
    fn what_failed_is_told_from_what_is_tried_again() {
        let get = Call::Get { queue: None };
        let settled = |settlement, requeue| End::Settled { settlement, requeue, multiple: false };
        let refusal = |code| Refusal { code };
        for (end, kind) in [
            (settled(Settlement::Ack, false), None),
            (settled(Settlement::Nack, true), None),
            (settled(Settlement::Nack, false), Some("nack")),
            (settled(Settlement::Reject, false), Some("reject")),
            (End::Confirmed { returned: None }, None),
            (End::Confirmed { returned: Some(refusal(312)) }, Some("no-route")),
            (End::Closed(refusal(404)), Some("not-found")),
            (End::Closed(refusal(999)), Some("999")),
            (End::Refused, Some("nack")),
            (End::Released, None),
        ] {
            assert_eq!(failure(&get, &end).map(|it| it.kind), kind.map(Cow::Borrowed), "{end:?}");
        }
    }
}
