//! Redis commands as spans: OpenTelemetry's database conventions
//! (<https://opentelemetry.io/docs/specs/semconv/db/redis/>).
//!
//! Commands with their keys, never a value: the parser has replaced those.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;
use wirespan_protocols::redis::{Command, End, Reply};

use crate::call::Placement;
use crate::connection::Outcome;
use crate::exchange::Exchange;
use crate::semconv;
use crate::span::common;
use crate::span::{Attribute, Span};

/// The span of a finished, placed command.
pub(super) fn span(exchange: &Exchange, command: &Command<'static>, placement: Placement) -> Span {
    let (reply, database) = match exchange.end.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Redis { end, database }) => (reply(end), *database),
        _ => (None, None),
    };
    let mut attributes = Vec::with_capacity(16);
    let mut add = |attribute| attributes.push(attribute);
    add(Attribute::new(key::DB_SYSTEM_NAME, "redis"));
    if let Some(database) = database {
        add(Attribute::new(key::DB_NAMESPACE, database.to_string()));
    }
    let named = command.name != "?";
    if named {
        add(Attribute::new(key::DB_OPERATION_NAME, command.name.clone()));
        add(common::query_text(command.text.to_string(), command.cut));
    }
    if let Some(procedure) = &command.procedure {
        add(Attribute::new(key::DB_STORED_PROCEDURE_NAME, procedure.to_string()));
    }
    // The reply tells of a transaction that began unseen, or was refused; but a script may answer what it wants to.
    let scripted = ["EVAL", "FCALL"].iter().any(|script| command.name.starts_with(script));
    let queued = reply
        .map_or(command.queued, |reply| *reply == Reply::Queued && (command.queued || !scripted));
    if queued {
        add(Attribute::new(semconv::REDIS_QUEUED, true));
    }
    let mut failure = common::broken(exchange);
    let whole = exchange.end.as_ref().is_some_and(|(_, outcome)| outcome.is_whole());
    match reply {
        Some(Reply::Error { code, message }) => {
            failure = Some(common::refused(code, message, &mut attributes));
        }
        Some(Reply::Nil) => add(Attribute::new(semconv::REDIS_NIL, true)),
        Some(Reply::Executed { nils, failed, code, message, .. }) => {
            // Of a reply that was cut there may have been more.
            let counts = [(semconv::REDIS_NILS, *nils), (semconv::REDIS_FAILED, *failed)];
            for (name, count) in counts.into_iter().filter(|(_, count)| whole && *count > 0) {
                add(Attribute::new(name, i64::try_from(count).unwrap_or(i64::MAX)));
            }
            if *failed > 0 {
                failure = Some(common::refused(code, message, &mut attributes));
            }
        }
        _ => {}
    }
    common::server(exchange, &mut attributes);
    common::peer(exchange, &mut attributes);
    let name = if named { command.name.clone() } else { Cow::Borrowed("redis") };
    common::span(exchange, name, attributes, failure, placement)
}

fn reply<'a>(end: &'a End<'static>) -> Option<&'a Reply<'static>> {
    match end {
        End::Complete { reply, .. } => Some(reply),
        End::Inferred { reply, .. } => reply.as_ref(),
        End::NoReply | End::Reset { .. } | End::Truncated { .. } | End::NoResponse { .. } => None,
    }
}
