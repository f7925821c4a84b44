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
    let (completion, whole) = match exchange.end.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Postgres(End::Complete(completion))) => (Some(&**completion), true),
        Some(Outcome::Postgres(End::Inferred(completion))) => (Some(&**completion), false),
        _ => (None, false),
    };
    let mut attributes = Vec::with_capacity(16);
    let mut add = |attribute| attributes.push(attribute);
    add(Attribute::new(key::DB_SYSTEM_NAME, "postgresql"));
    if let Some(database) = session.database.as_deref().or(exchange.database.as_deref()) {
        add(Attribute::new(key::DB_NAMESPACE, database.to_owned()));
    }
    if let Some(user) = session.user.as_deref() {
        add(Attribute::new(semconv::DB_USER, user.to_owned()));
    }
    let text = query.text.as_deref();
    let summary = text.map(|text| sql::summary(text, query.cut).text);
    let summary = summary.filter(|summary| !summary.is_empty());
    if let Some(summary) = &summary {
        add(Attribute::new(key::DB_QUERY_SUMMARY, summary.clone()));
    }
    if let Some(text) = text.map(sql::sanitize).filter(|text| !text.is_empty()) {
        add(common::query_text(text, query.cut));
    }
    for (index, parameter) in query.parameters.iter().flat_map(|it| it.iter()).enumerate() {
        let name = format!("{}.{index}", key::DB_QUERY_PARAMETER);
        add(Attribute::new(name, shown(parameter)));
    }
    let batch = Batch::of(query, completion, whole);
    let operation = operation(query, completion, summary.as_deref(), &batch);
    if let Some(operation) = &operation {
        add(Attribute::new(key::DB_OPERATION_NAME, operation.clone()));
    }
    batch.tell(&mut attributes);
    let failure = completion.and_then(|completion| answer(completion, &batch, &mut attributes));
    common::server(exchange, &mut attributes);
    common::peer(exchange, &mut attributes);
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

/// The statements of a query, as far as there are several.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    /// There are several, or may be.
    several: bool,
    /// How many, where that is known.
    size: Option<usize>,
    /// Which one failed, from 0, and its summary.
    failed: Option<(usize, String)>,
}

impl Batch {
    /// `whole`: all of the answer was seen.
    fn of(query: &Query<'_>, completion: Option<&Completion>, whole: bool) -> Self {
        let text = query.text.as_deref().unwrap_or_default();
        if query.kind != QueryKind::Simple {
            return Self::default();
        }
        let completed = completion.map_or(0, |done| done.statements as usize);
        let error = completion.and_then(|done| done.error.as_deref());
        // One that failed had begun.
        let begun = completed + usize::from(error.is_some());
        let in_text = sql::statements(text).count();
        // A server that is shut down says so behind the last one.
        let several = in_text > 1 || (query.cut && begun > 1);
        if !several {
            return Self::default();
        }
        let size = match error {
            None if whole => Some(completed),
            // What was not captured may have more.
            _ if query.cut => None,
            _ => Some(in_text),
        };
        let failed = error.and_then(|error| failed_statement(text, completed, error));
        let failed = failed.filter(|number| query.cut || *number < in_text);
        let failed = failed.map(|number| {
            let range = sql::statements(text).nth(number);
            let is_last = number + 1 == in_text;
            let text = range.and_then(|range| text.get(range)).unwrap_or_default();
            (number, sql::summary(text, query.cut && is_last).text)
        });
        Self { several, size, failed }
    }

    fn tell(&self, attributes: &mut Vec<Attribute>) {
        let integer = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        if let Some(size) = self.size {
            attributes.push(Attribute::new(key::DB_OPERATION_BATCH_SIZE, integer(size)));
        }
        if let Some((number, summary)) = &self.failed {
            attributes.push(Attribute::new(semconv::FAILED_STATEMENT, integer(number + 1)));
            if !summary.is_empty() {
                attributes.push(Attribute::new(semconv::FAILED_SUMMARY, summary.clone()));
            }
        }
    }
}

/// Which statement of several failed: the one behind those that completed. But the server reads all of them before it
/// runs the first, and what it can't read is where it says, if it does.
fn failed_statement(text: &str, completed: usize, error: &PgError) -> Option<usize> {
    if completed > 0 {
        return Some(completed);
    }
    let Some(position) = error.position else {
        // Of a syntax, or of characters, that are anywhere.
        let unread = ["42601", "22021", "22025", "42622", "54001"].contains(&&*error.sqlstate);
        return if unread { None } else { Some(0) };
    };
    let at = usize::try_from(position).ok()?.checked_sub(1)?;
    let (at, _) = text.char_indices().nth(at)?;
    sql::statements(text).position(|statement| at < statement.end)
}

/// What was done, where it is one thing.
fn operation(
    query: &Query<'_>,
    completion: Option<&Completion>,
    summary: Option<&str>,
    batch: &Batch,
) -> Option<Cow<'static, str>> {
    if query.kind == QueryKind::FunctionCall {
        return Some(Cow::Borrowed("CALL"));
    }
    let completion = completion.filter(|_| !batch.several)?;
    let tag = completion.tags.first().filter(|_| completion.statements <= 1)?;
    // What makes a table of rows has the tag of what returns them.
    let makes = ["CREATE MATERIALIZED VIEW", "CREATE TABLE"]
        .into_iter()
        .find(|makes| summary.is_some_and(|summary| summary.starts_with(makes)));
    match makes {
        Some(makes) if tag.command == "SELECT" => Some(Cow::Borrowed(makes)),
        _ => Some(tag.command.clone()),
    }
}

/// Adds what the server answered. Returns the error, if it was one.
fn answer(
    completion: &Completion,
    batch: &Batch,
    attributes: &mut Vec<Attribute>,
) -> Option<Failure> {
    // Of several statements' rows a sum says nothing, and what failed has changed nothing.
    if completion.statements <= 1 && !batch.several && completion.error.is_none() {
        let rows = [
            (key::DB_RESPONSE_RETURNED_ROWS, completion.returned),
            (semconv::AFFECTED_ROWS, completion.affected),
        ];
        for (key, rows) in rows {
            if let Some(rows) = rows {
                attributes.push(Attribute::new(key, i64::try_from(rows).unwrap_or(i64::MAX)));
            }
        }
    }
    let error = completion.error.as_ref()?;
    Some(common::refused(&error.sqlstate, &error.message, attributes))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use wirespan_protocols::postgres::CommandTag;

    fn simple(text: &str, cut: bool) -> Query<'_> {
        Query {
            text: Some(Cow::Borrowed(text)),
            cut,
            kind: QueryKind::Simple,
            statement: None,
            portal: None,
            parameters: None,
            fresh: true,
            poll: false,
        }
    }

    fn failed(statements: u32, sqlstate: &str, position: Option<u32>) -> Completion {
        let error = PgError { sqlstate: sqlstate.to_owned(), position, ..PgError::default() };
        Completion { statements, error: Some(Box::new(error)), ..Completion::default() }
    }

    const SEVERAL: &str = "BEGIN; ; UPDATE a SET b = 'é;'; INSERT INTO c VALUES (1);";

    #[rstest]
    #[case(SEVERAL, 0, "25P02", None, Some((1, "BEGIN")))]
    #[case(SEVERAL, 1, "22012", None, Some((2, "UPDATE a")))]
    #[case(SEVERAL, 2, "23505", None, Some((3, "INSERT c")))]
    #[case(SEVERAL, 2, "42P01", Some(46), Some((3, "INSERT c")))]
    // None of them ran: it could not be read.
    #[case(SEVERAL, 0, "42601", Some(25), Some((2, "UPDATE a")))]
    #[case(SEVERAL, 0, "42601", Some(32), Some((3, "INSERT c")))]
    #[case(SEVERAL, 0, "42601", Some(999), None)]
    #[case(SEVERAL, 0, "42601", None, None)]
    #[case("SELECT 1/0", 0, "22012", None, None)]
    fn the_statement_that_failed_is_told(
        #[case] text: &str,
        #[case] completed: u32,
        #[case] sqlstate: &str,
        #[case] position: Option<u32>,
        #[case] expected: Option<(i64, &str)>,
        #[values(false, true)] cut: bool,
    ) {
        let batch =
            Batch::of(&simple(text, cut), Some(&failed(completed, sqlstate, position)), true);
        let told = batch.failed.as_ref().map(|(number, summary)| (*number as i64 + 1, &**summary));
        assert_eq!(told, expected);
        assert_eq!(batch.several, expected.is_some() || text == SEVERAL);
        assert_eq!(batch.size.is_some(), batch.several && !cut);
    }

    #[test]
    fn behind_the_last_statement_none_failed_but_one_that_was_not_captured() {
        let text = "SELECT 1; SELECT secr";
        let batch = Batch::of(&simple(text, true), Some(&failed(2, "22012", None)), true);
        assert_eq!(batch.failed, Some((2, String::new())));
        // The server was shut down.
        for (text, completed) in [(text, 2), ("SELECT 1", 1)] {
            let query = simple(text, false);
            let batch = Batch::of(&query, Some(&failed(completed, "57P01", None)), true);
            assert_eq!((batch.failed, batch.several), (None, completed > 1));
        }
    }

    #[test]
    fn one_that_failed_is_not_called_by_one_that_completed() {
        let mut done = failed(1, "22012", None);
        let begin = CommandTag { command: Cow::Borrowed("BEGIN"), rows: None };
        done.tags.push(begin);
        for text in ["BEGIN; SELECT 1/0", "BEG"] {
            let query = simple(text, text.len() == 3);
            let batch = Batch::of(&query, Some(&done), true);
            assert_eq!(operation(&query, Some(&done), None, &batch), None, "{text}");
        }
        done.error = None;
        let query = simple("BEGIN", false);
        let batch = Batch::of(&query, Some(&done), true);
        assert_eq!(operation(&query, Some(&done), None, &batch).as_deref(), Some("BEGIN"));
    }

    #[test]
    fn what_makes_a_table_is_called_so_and_has_changed_rows() {
        let tags = vec![CommandTag { command: Cow::Borrowed("SELECT"), rows: Some(7) }];
        let done = Completion { tags, statements: 1, affected: Some(7), ..Completion::default() };
        let query = simple("CREATE TABLE a AS SELECT b FROM c", false);
        let batch = Batch::of(&query, Some(&done), true);
        let summary = Some("CREATE TABLE a SELECT c");
        let named = operation(&query, Some(&done), summary, &batch);
        assert_eq!(named.as_deref(), Some("CREATE TABLE"));
        let mut attributes = Vec::new();
        assert!(answer(&done, &batch, &mut attributes).is_none());
        assert_eq!(attributes, [Attribute::new(semconv::AFFECTED_ROWS, 7i64)]);
    }

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
