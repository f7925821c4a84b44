//! Kafka's calls as spans: OpenTelemetry's messaging conventions
//! (<https://opentelemetry.io/docs/specs/semconv/messaging/kafka/>).
//!
//! A span for each partition of a request or an answer. Never a value of a record; a key only where the
//! operator asks for keys.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;
use wirespan_protocols::kafka::{Delivered, End, ErrorCode, Operation, Records};

use crate::call::{LinkReason, Origin, Placement, Role};
use crate::connection::{KafkaCall, Outcome};
use crate::exchange::Exchange;
use crate::semconv;
use crate::span::common::{self, Failure};
use crate::span::{Attribute, Span, SpanKind};

/// The span of a finished, placed call.
pub(super) fn span(exchange: &Exchange, call: &KafkaCall, placement: Placement) -> Span {
    let end = match exchange.end.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Kafka(end)) => Some(end),
        _ => None,
    };
    let delivered = match end {
        Some(End::Fetched(delivered)) => Some(&**delivered),
        _ => None,
    };
    let mut attributes = Vec::with_capacity(20);
    attributes.push(Attribute::new(key::MESSAGING_SYSTEM, "kafka"));
    let (operation, kind) = match &call.request.operation {
        _ if call.handled.is_some() => (Cow::Borrowed("process"), "process"),
        Operation::Produce(_) => (Cow::Borrowed("send"), "send"),
        Operation::Fetch => (Cow::Borrowed("poll"), "receive"),
        Operation::Commit(_) => (Cow::Borrowed("commit"), "settle"),
        Operation::Other(api) => {
            (api.name().map_or_else(|| api.to_string().into(), Cow::Borrowed), "")
        }
    };
    attributes.push(Attribute::new(key::MESSAGING_OPERATION_NAME, operation.clone()));
    if !kind.is_empty() {
        attributes.push(Attribute::new(key::MESSAGING_OPERATION_TYPE, kind));
    }
    named(call, &mut attributes);
    match &call.request.operation {
        Operation::Produce(produced) => {
            partition(produced.partition, &mut attributes);
            if let Some(End::Produced { base_offset: Some(offset), .. }) = end {
                attributes.push(Attribute::new(key::MESSAGING_KAFKA_OFFSET, *offset));
            }
            if let Some(read) = &produced.records {
                records(read, &mut attributes);
            }
        }
        Operation::Fetch => {
            if let Some(handled) = call.handled {
                partition(handled.partition, &mut attributes);
                attributes.push(Attribute::new(key::MESSAGING_KAFKA_OFFSET, handled.first));
            }
            if let Some(delivered) = delivered {
                brought(delivered, &mut attributes);
            }
        }
        Operation::Commit(commit) => {
            if let (Some((_, index, offset)), Some(1)) = (&commit.first, commit.partitions) {
                partition(*index, &mut attributes);
                attributes.push(Attribute::new(key::MESSAGING_KAFKA_OFFSET, *offset));
            }
        }
        Operation::Other(_) => {}
    }
    let failure = end.and_then(error).map_or_else(
        || common::broken(exchange),
        |code| Some(Failure { kind: Cow::Owned(code.to_string()), text: Cow::Borrowed("") }),
    );
    common::server(exchange, &mut attributes);
    common::peer(exchange, &mut attributes);
    let name = match &call.topic {
        Some(topic) => Cow::Owned(format!("{operation} {topic}")),
        None => operation,
    };
    let mut span = common::span(exchange, name, attributes, failure, placement);
    if exchange.role == Role::Client && matches!(call.request.operation, Operation::Produce(_)) {
        span.kind = SpanKind::Producer;
    } else if call.handled.is_some() {
        span.kind = SpanKind::Consumer;
    }
    // Who sent them says so in the messages.
    let contexts = delivered.map(|delivered| delivered.records.contexts.as_slice());
    for context in contexts.unwrap_or_default() {
        let origin = Origin { trace_id: context.trace_id, span_id: context.span_id };
        let link = common::link((origin, LinkReason::Message));
        if !span.links.contains(&link) {
            span.links.push(link);
        }
    }
    span
}

/// The names in it.
fn named(call: &KafkaCall, attributes: &mut Vec<Attribute>) {
    let names = [
        (key::MESSAGING_DESTINATION_NAME, &call.topic),
        (key::MESSAGING_CONSUMER_GROUP_NAME, &call.group),
        (key::MESSAGING_CLIENT_ID, &call.request.client_id),
        (semconv::KAFKA_CLUSTER_ID, &call.cluster),
    ];
    for (key, name) in names {
        if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
            attributes.push(Attribute::new(key, name.to_string()));
        }
    }
}

fn partition(index: i32, attributes: &mut Vec<Attribute>) {
    attributes.push(Attribute::new(key::MESSAGING_DESTINATION_PARTITION_ID, index.to_string()));
}

fn records(read: &Records, attributes: &mut Vec<Attribute>) {
    if let Some(count) = read.count {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        attributes.push(Attribute::new(key::MESSAGING_BATCH_MESSAGE_COUNT, count));
    }
    if let Some(text) = &read.key {
        attributes.push(Attribute::new(key::MESSAGING_KAFKA_MESSAGE_KEY, text.to_string()));
    }
}

fn brought(delivered: &Delivered, attributes: &mut Vec<Attribute>) {
    partition(delivered.partition, attributes);
    if let Some(offset) = delivered.first_offset {
        attributes.push(Attribute::new(key::MESSAGING_KAFKA_OFFSET, offset));
    }
    if delivered.error.is_none() {
        records(&delivered.records, attributes);
    }
    if delivered.cut {
        attributes.push(Attribute::new(semconv::KAFKA_CUT, true));
    }
}

/// What the broker says was wrong.
fn error(end: &End) -> Option<ErrorCode> {
    match end {
        End::Produced { error, .. } | End::Committed { error } => *error,
        End::Fetched(delivered) => delivered.error,
        End::Sent | End::Idle | End::Answered | End::Closed { .. } => None,
    }
}
