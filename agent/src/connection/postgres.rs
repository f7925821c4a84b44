//! PostgreSQL on a connection.

use std::sync::Arc;

use wirespan_protocols::postgres::{Connection, End, Event, Fact, Query, QueryKind};

use super::message::{Content, Message, Outcome, PostgresSession, Step};
use super::parser::{self, Adapter, Out};
use super::{Mark, Options};

#[derive(Default)]
pub(super) struct Postgres {
    session: Arc<PostgresSession>,
}

/// The parser, which keeps what the operator asks for.
pub(super) fn connection(from_start: bool, options: &Options) -> Connection<Mark> {
    let mut connection = Connection::new(from_start);
    if options.query_parameters {
        connection.keep_parameters();
    }
    connection
}

impl Adapter for Postgres {
    type Connection = Connection<Mark>;
    const NAME: &'static str = "PostgreSQL";
    /// Longer than a server needs to begin an answer, as a rule: see `wirespan_protocols::postgres` on how
    /// pairing begins anew.
    const QUIET_NS: u64 = 1_000_000_000;
    /// Longer than most statements take that are asked many times a second.
    const LEAST_PAUSE_NS: Option<u64> = Some(20_000_000);

    fn tell(&mut self, event: Event<'_, Mark>, out: &mut Out<'_>) {
        let (exchange, step) = match event {
            Event::Request { exchange, offset, first, query } => {
                let session = Arc::clone(&self.session);
                // Names of prepared statements and portals are the driver's, and nothing is told of them.
                let query = Query { statement: None, portal: None, ..query }.into_owned();
                let content = Content::Postgres { query: Box::new(query), session };
                (exchange, Step::Begun { offset, first, content })
            }
            Event::RequestEnd { exchange, last, .. } => {
                (exchange, Step::RequestEnd { last, content_bytes: None, fields: Vec::new() })
            }
            Event::Response { exchange, first } => (exchange, Step::Response { first, head: None }),
            Event::End { exchange, last, end } => {
                (exchange, Step::Over { last, outcome: Outcome::Postgres(end.into_owned()) })
            }
            Event::Abandoned { exchange, .. } => (exchange, Step::Abandoned),
            Event::Session { fact: Fact::Startup { user, database, .. }, .. } => {
                let database = database.or_else(|| user.clone());
                self.session = Arc::new(PostgresSession { user, database });
                return;
            }
            Event::Session { fact: Fact::Opaque(_), .. } => return out(Message::Opaque),
            Event::Skipped { direction, reason, .. } => {
                return parser::skipped(direction, reason, out);
            }
            Event::Session { .. } => return,
        };
        out(Message::Call { exchange, step });
    }
}

/// What drivers and pools send by themselves: settings, prepared statements' housekeeping, a question
/// whether the connection is alive.
pub(super) fn is_incidental(query: &Query<'_>) -> bool {
    if query.poll || query.kind == QueryKind::Prepare {
        return true;
    }
    let text = query.text.as_deref().unwrap_or_default();
    let verb =
        text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let housekeeping = ["SET", "SHOW", "RESET", "DISCARD", "DEALLOCATE", "LISTEN", "UNLISTEN"];
    housekeeping.iter().any(|word| verb.eq_ignore_ascii_case(word))
        || ["SELECT version()", "SELECT pg_catalog.version()"]
            .iter()
            .any(|call| text.trim_end_matches(';').eq_ignore_ascii_case(call))
}

/// A pool found its connection alive.
pub(super) fn is_ping(query: &Query<'_>, end: &End<'_>) -> bool {
    let (End::Complete(done) | End::Inferred(done)) = end else { return false };
    query.poll && done.error.is_none()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::connection::Silence;
    use wirespan_protocols::postgres::Completion;
    use wirespan_protocols::sql;

    fn asked(text: &str) -> Query<'static> {
        Query {
            text: Some(text.to_owned().into()),
            cut: false,
            kind: QueryKind::Simple,
            statement: None,
            portal: None,
            parameters: None,
            fresh: true,
            poll: sql::is_poll(text),
        }
    }

    #[test]
    fn what_drivers_send_by_themselves_is_told_from_what_an_application_asks() {
        for own in [
            "",
            " ; ",
            "SELECT 1",
            "select 1;",
            "SELECT pg_catalog.version()",
            "SET TIME ZONE 'UTC'",
            "show transaction isolation level",
            "DEALLOCATE ALL",
        ] {
            assert!(is_incidental(&asked(own)), "{own}");
        }
        for application in [
            "SELECT 1 FROM users WHERE id = $1",
            "SELECT one",
            "SELECT app.version()",
            "UPDATE settings SET a = 1",
            "BEGIN",
            "settle",
        ] {
            assert!(!is_incidental(&asked(application)), "{application}");
        }
        let unknown = Query { text: None, poll: false, ..asked("") };
        assert!(!is_incidental(&unknown));
        assert!(is_incidental(&Query { kind: QueryKind::Prepare, ..unknown }));
    }

    #[test]
    fn a_ping_that_went_well_is_silent_where_that_is_asked_for() {
        let ended = |error: bool| {
            let error = error.then(Box::default);
            Outcome::Postgres(End::Complete(Cow::Owned(Completion {
                error,
                ..Completion::default()
            })))
        };
        let session = || Arc::new(PostgresSession::default());
        for (text, failed, silent) in
            [("SELECT 1", false, true), ("SELECT 1", true, false), ("SELECT now()", false, false)]
        {
            let content = Content::Postgres { query: Box::new(asked(text)), session: session() };
            let silence = if silent { Silence::Always } else { Silence::Never };
            assert_eq!(ended(failed).silence(&content, true), silence, "{text}");
            let told = ended(failed).silence(&content, false);
            assert_eq!(told, Silence::Never, "{text}");
        }
    }
}
