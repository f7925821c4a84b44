//! Work on queues in Redis as spans: OpenTelemetry's messaging conventions
//! (<https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>).
//!
//! One span where work is handed over, which is the command's own, and one from when it was taken until it is over.
//! Names and ids; never what a job is about. The conventions have no values of `messaging.system` for what is built on
//! Redis, nor for Redis: those here are the systems' own names.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;
use wirespan_protocols::redis::{End, Reply};

use crate::call::Placement;
use crate::connection::{Outcome, RedisCall};
use crate::exchange::Exchange;
use crate::queue::{Fate, System, Work};
use crate::semconv;
use crate::span::common::{self, Failure};
use crate::span::{Attribute, Span, SpanKind};

/// The span of a command that hands over work.
pub(super) fn submitted(
    exchange: &Exchange,
    call: &RedisCall,
    work: &Work,
    placement: Placement,
) -> Span {
    let error = match exchange.end.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Redis {
            end: End::Complete { reply: Reply::Error { code, message }, .. },
            ..
        }) => Some((code, message)),
        _ => None,
    };
    let mut attributes = about(work, "send");
    let database = match exchange.end.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Redis { database, .. }) => *database,
        _ => None,
    };
    namespace(database, &mut attributes);
    let failure = error.map(|(code, message)| common::refused(code, message, &mut attributes));
    // It is a command all the same.
    attributes.push(Attribute::new(key::DB_OPERATION_NAME, call.command.name.clone()));
    let failure = failure.or_else(|| common::broken(exchange));
    finish(exchange, work, attributes, failure, SpanKind::Producer, placement)
}

/// The span of a job.
pub(super) fn job(exchange: &Exchange, work: &Work, placement: Placement) -> Span {
    let fate = match exchange.end.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Job(fate)) => Some(fate),
        _ => None,
    };
    let kind = if work.operation == "receive" { "receive" } else { "process" };
    let mut attributes = about(work, kind);
    namespace(work.database, &mut attributes);
    if let Some(attempt) = work.attempt {
        attributes.push(Attribute::new(semconv::JOB_ATTEMPT, i64::from(attempt)));
    }
    if let Some(group) = &work.group {
        attributes.push(Attribute::new(key::MESSAGING_CONSUMER_GROUP_NAME, group.to_string()));
    }
    let failure = match fate {
        Some(Fate::Failed { kind, retried }) => {
            attributes.push(Attribute::new(semconv::JOB_RETRIED, *retried));
            // The conventions' word for an error that has no name.
            let kind =
                kind.as_ref().map_or(Cow::Borrowed(common::OTHER), |it| Cow::Owned(it.to_string()));
            Some(Failure { kind, text: Cow::Borrowed("job failed") })
        }
        Some(Fate::Begun | Fate::Done | Fate::Acknowledged | Fate::Untold) | None => None,
    };
    finish(exchange, work, attributes, failure, SpanKind::Consumer, placement)
}

fn namespace(database: Option<u32>, attributes: &mut Vec<Attribute>) {
    if let Some(database) = database {
        attributes.push(Attribute::new(key::DB_NAMESPACE, database.to_string()));
    }
}

fn about(work: &Work, kind: &'static str) -> Vec<Attribute> {
    let system = match work.system {
        System::Bull => "bull",
        System::BullMq => "bullmq",
        System::Celery => "celery",
        System::Rq => "rq",
        System::Redis => "redis",
    };
    let mut attributes = Vec::with_capacity(20);
    let mut add = |attribute| attributes.push(attribute);
    add(Attribute::new(key::MESSAGING_SYSTEM, system));
    add(Attribute::new(key::MESSAGING_OPERATION_NAME, work.operation));
    add(Attribute::new(key::MESSAGING_OPERATION_TYPE, kind));
    add(Attribute::new(key::MESSAGING_DESTINATION_NAME, work.queue.to_string()));
    if let Some(id) = &work.id {
        add(Attribute::new(key::MESSAGING_MESSAGE_ID, id.to_string()));
    }
    if let Some(name) = &work.name {
        add(Attribute::new(semconv::JOB_NAME, name.to_string()));
    }
    if work.count != 1 {
        let count = i64::try_from(work.count).unwrap_or(i64::MAX);
        add(Attribute::new(key::MESSAGING_BATCH_MESSAGE_COUNT, count));
    }
    attributes
}

fn finish(
    exchange: &Exchange,
    work: &Work,
    mut attributes: Vec<Attribute>,
    failure: Option<Failure>,
    kind: SpanKind,
    placement: Placement,
) -> Span {
    common::server(exchange, &mut attributes);
    common::peer(exchange, &mut attributes);
    let name = Cow::Owned(format!("{} {}", work.operation, work.queue));
    let mut span = common::span(exchange, name, attributes, failure, placement);
    span.kind = kind;
    span
}
