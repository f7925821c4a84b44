//! PostgreSQL statements as spans: OpenTelemetry's database conventions
//! (<https://opentelemetry.io/docs/specs/semconv/db/postgresql/>).
//!
//! Statements without their literals; parameters only where the connection stage was told to keep them.

use std::borrow::Cow;
use std::fmt::Write as _;

use opentelemetry_semantic_conventions::attribute as key;
use wirespan_protocols::postgres::{Completion, End, Parameter, PgError, Query, QueryKind};
use wirespan_protocols::sql;

use crate::call::Placement;
use crate::connection::{Outcome, PostgresSession};
use crate::exchange::Exchange;
use crate::semconv;
use crate::span::common::{self, Failure};
use crate::span::{Attribute, Span};

/// The span of a finished, placed statement.
pub(super) fn span(
    exchange: &Exchange,
    query: &Query<'_>,
    session: &PostgresSession,
    placement: Placement,
) -> Span {
    let completion = match exchange.end.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Postgres(End::Complete(completion) | End::Inferred(completion))) => {
            Some(&**completion)
        }
        _ => None,
    };
    let mut attributes = Vec::with_capacity(16);
    let mut add = |attribute| attributes.push(attribute);
    add(Attribute::new(key::DB_SYSTEM_NAME, "postgresql"));
    if let Some(database) = session.database.as_deref().or(exchange.database.as_deref()) {
        add(Attribute::new(key::DB_NAMESPACE, database.to_owned()));
    }
    let summary = query.text.as_deref().map(|text| sql::summary(text, query.cut).text);
    let summary = summary.filter(|summary| !summary.is_empty());
    if let Some(summary) = &summary {
        add(Attribute::new(key::DB_QUERY_SUMMARY, summary.clone()));
    }
    if let Some(text) = query.text.as_deref().map(sql::sanitize).filter(|text| !text.is_empty()) {
        add(Attribute::new(key::DB_QUERY_TEXT, text));
    }
    for (index, parameter) in query.parameters.iter().flat_map(|it| it.iter()).enumerate() {
        let name = format!("{}.{index}", key::DB_QUERY_PARAMETER);
        add(Attribute::new(name, shown(parameter)));
    }
    let operation = operation(query, completion);
    if let Some(operation) = &operation {
        add(Attribute::new(key::DB_OPERATION_NAME, operation.clone()));
    }
    if let Some(completion) = completion {
        answer(completion, &mut attributes);
    }
    common::server(exchange, &mut attributes);
    common::peer(exchange, &mut attributes);
    let failure = completion.and_then(|completion| completion.error.as_deref()).map(failure);
    let failure = failure.or_else(|| common::broken(exchange));
    let name = summary.map(Cow::Owned).or(operation).unwrap_or(Cow::Borrowed("postgresql"));
    common::span(exchange, name, attributes, failure, placement)
}

/// A parameter as text: a binary one as PostgreSQL writes bytes.
fn shown(parameter: &Parameter) -> String {
    match parameter {
        Parameter::Null => "NULL".to_owned(),
        Parameter::Text(text) => text.to_string(),
        Parameter::Binary(bytes) => {
            let mut text = "\\x".to_owned();
            for byte in bytes {
                // Writing to a string cannot fail.
                write!(text, "{byte:02x}").unwrap_or_default();
            }
            text
        }
    }
}

/// What was done, where it is one thing.
fn operation(query: &Query<'_>, completion: Option<&Completion>) -> Option<Cow<'static, str>> {
    if query.kind == QueryKind::FunctionCall {
        return Some(Cow::Borrowed("CALL"));
    }
    let completion = completion.filter(|completion| completion.statements <= 1)?;
    completion.tags.first().map(|tag| tag.command.clone())
}

fn answer(completion: &Completion, attributes: &mut Vec<Attribute>) {
    if completion.statements > 1 {
        attributes
            .push(Attribute::new(key::DB_OPERATION_BATCH_SIZE, i64::from(completion.statements)));
    }
    // Of several statements' rows a sum says nothing.
    // What failed has changed nothing.
    let told = completion.statements <= 1 && completion.error.is_none();
    if let Some(rows) = completion.rows.filter(|_| told) {
        let returned = completion
            .tags
            .first()
            .is_none_or(|tag| matches!(&*tag.command, "SELECT" | "FETCH" | "SHOW"));
        let key = if returned { key::DB_RESPONSE_RETURNED_ROWS } else { semconv::AFFECTED_ROWS };
        attributes.push(Attribute::new(key, i64::try_from(rows).unwrap_or(i64::MAX)));
    }
    if let Some(error) = completion.error.as_ref().filter(|error| !error.sqlstate.is_empty()) {
        attributes.push(Attribute::new(key::DB_RESPONSE_STATUS_CODE, error.sqlstate.clone()));
    }
}

fn failure(error: &PgError) -> Failure {
    let kind = match &*error.sqlstate {
        "" => Cow::Borrowed(common::OTHER),
        code => Cow::Owned(code.to_owned()),
    };
    Failure { kind, text: Cow::Owned(error.message.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_shown_as_they_were_sent() {
        for (parameter, text) in [
            (Parameter::Null, "NULL"),
            (Parameter::Text("a b".into()), "a b"),
            (Parameter::Binary([0, 5, 255].into()), "\\x0005ff"),
        ] {
            assert_eq!(shown(&parameter), text);
        }
    }
}
