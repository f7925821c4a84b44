//! What a PostgreSQL connection reports: one type at the parser's far boundary.

use std::{borrow::Cow, sync::Arc};

use crate::exchange::{Abandon, Direction, EndError, Skip};

/// What happened on a connection. `M` is the caller's mark of a piece, as it was handed in.
///
/// Of one exchange, in this order: `Request`, `RequestEnd`, `Response` (or not), then exactly one of
/// `End` and `Abandoned`. Of several open exchanges, `End` comes in the order of the requests, but
/// for those that the server did not execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'e, M> {
    /// A request is complete: the whole of a `Query`, an `Execute` or a `FunctionCall` passed. Of one that
    /// was cut behind its `Parse`, and of a `Parse` that failed, it is told when the answer says so.
    Request {
        /// Ordinal of the exchange on this connection, from 0.
        exchange: u64,
        /// Stream offset of its first byte: of the first message that belongs to the `Execute`.
        offset: u64,
        /// Mark of the piece with that byte.
        first: M,
        /// What is asked.
        query: Query<'e>,
    },
    /// The request's last byte passed.
    RequestEnd {
        /// The exchange.
        exchange: u64,
        /// Mark of the piece with it.
        last: M,
    },
    /// The server began to answer.
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
        /// Mark of the piece with the answer's last byte: of `ReadyForQuery` where it follows at once.
        last: M,
        /// How it ended.
        end: End<'e>,
    },
    /// The exchange will never be known in full: no span from it.
    Abandoned {
        /// The exchange.
        exchange: u64,
        /// Why.
        reason: Abandon,
    },
    /// Something about the connection as a whole.
    Session {
        /// Mark of the piece that told it.
        mark: M,
        /// What.
        fact: Fact,
    },
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
            Self::Request { exchange, offset, first, query } => {
                Event::Request { exchange, offset, first, query: query.into_owned() }
            }
            Self::RequestEnd { exchange, last } => Event::RequestEnd { exchange, last },
            Self::Response { exchange, first } => Event::Response { exchange, first },
            Self::End { exchange, last, end } => {
                Event::End { exchange, last, end: end.into_owned() }
            }
            Self::Abandoned { exchange, reason } => Event::Abandoned { exchange, reason },
            Self::Session { mark, fact } => Event::Session { mark, fact },
            Self::Skipped { direction, bytes, reason } => {
                Event::Skipped { direction, bytes, reason }
            }
        }
    }
}

impl Query<'_> {
    /// The same, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> Query<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Query {
            text: self.text.map(owned),
            cut: self.cut,
            kind: self.kind,
            statement: self.statement.map(owned),
            portal: self.portal.map(owned),
            parameters: self.parameters,
            fresh: self.fresh,
            poll: self.poll,
        }
    }
}

impl End<'_> {
    /// The same, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> End<'static> {
        match self {
            Self::Complete(done) => End::Complete(Cow::Owned(done.into_owned())),
            Self::Inferred(done) => End::Inferred(Cow::Owned(done.into_owned())),
            Self::NotExecuted => End::NotExecuted,
            Self::Closed { answered, error } => End::Closed { answered, error },
        }
    }
}

impl PgError {
    /// As new, with the memory that it has.
    pub(super) fn clear(&mut self) {
        let Self { severity, sqlstate, message, table, constraint, position } = self;
        *position = None;
        [severity, sqlstate, message, table, constraint].into_iter().for_each(String::clear);
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'e> {
    /// SQL as it was sent, literals and comments included: not for export as it is ([`crate::sql`]).
    /// `None`: prepared before this connection was seen, or a function call.
    pub text: Option<Cow<'e, str>>,
    /// Whether `text` is only the beginning.
    pub cut: bool,
    /// How it was asked.
    pub kind: QueryKind,
    /// The prepared statement's name, if it has one.
    pub statement: Option<Cow<'e, str>>,
    /// The portal's name, if it has one.
    pub portal: Option<Cow<'e, str>>,
    /// The parameters, in their order, as far as they were captured: users' data, and only where the caller
    /// asked for them ([`super::Connection::keep_parameters`]).
    pub parameters: Option<Arc<[Parameter]>>,
    /// The text was sent for this execution: with it, or in a `Parse` of which this is the first execution and that
    /// came before it, behind the last `Sync` or as the last one with no execution in between. What its comments say
    /// of a caller is of nobody else.
    pub fresh: bool,
    /// It asks nothing ([`crate::sql::is_poll`]): a pool or driver looks whether the connection lives.
    pub poll: bool,
}

/// A parameter of a statement, at most [`crate::limits::POSTGRES_PARAMETER_BYTES`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// NULL.
    Null,
    /// Text, in UTF-8 or what looks like it.
    Text(Box<str>),
    /// In its type's binary format, which this protocol does not name.
    Binary(Box<[u8]>),
}

/// How a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryKind {
    /// `Query`: one or several statements.
    Simple,
    /// `Execute` of a portal, wholly or up to a number of rows.
    Execute,
    /// `Parse`, `Bind` or `Describe` that failed with no `Execute` behind it. Those that succeed are
    /// only counted ([`Tally::session_work`]).
    Prepare,
    /// `FunctionCall`.
    FunctionCall,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End<'e> {
    /// The server completed it, or reported an error.
    Complete(Cow<'e, Completion>),
    /// Framing was lost in the answer, whose end the next request, silence or the stream's end told.
    /// What the completion says is a lower bound.
    Inferred(Cow<'e, Completion>),
    /// The server passed over it, for an earlier one in the same pipeline had failed: no span from it.
    NotExecuted,
    /// The connection ended before the answer did.
    Closed {
        /// Whether it had begun.
        answered: bool,
        /// `None`: by an orderly FIN.
        error: Option<EndError>,
    },
}

/// What a server's answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// One of each statement that completed and whose tag was captured, the first
    /// [`crate::limits::POSTGRES_TAGS`] of them.
    pub tags: Vec<CommandTag>,
    /// How many statements completed, empty ones included: more than one only of a `Query` (OpenTelemetry's
    /// `db.operation.batch.size`).
    pub statements: u32,
    /// Rows that came (`DataRow`), whatever the tags say: those of `SELECT` are the same, `INSERT ... RETURNING` has
    /// some, `CREATE TABLE AS`, of which the tag is `SELECT` too, has none. `None`: nothing that returns rows ended,
    /// or how many came is not known.
    pub returned: Option<u64>,
    /// Rows inserted, changed, deleted or copied, by the tags. `None`: nothing that does so ended, or a tag is not
    /// known.
    pub affected: Option<u64>,
    /// Bytes of messages in the answer.
    pub response_bytes: u64,
    /// The row limit of the `Execute` ended it, the portal has more.
    pub suspended: bool,
    /// The error that ended it.
    pub error: Option<Box<PgError>>,
    /// The session's state behind it, where `ReadyForQuery` followed at once. `None` outside a
    /// transaction block: what was done is not known to be committed.
    pub transaction: Option<Transaction>,
}

/// A command tag, as `CommandComplete` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTag {
    /// Key words: `SELECT`, `CREATE TABLE`.
    pub command: Cow<'static, str>,
    /// The rows that it counts.
    pub rows: Option<u64>,
}

impl CommandTag {
    /// Whether the rows of such a tag are ones that it changed, and not ones that it returned or passed over.
    pub(super) fn counts_affected(command: &str) -> bool {
        matches!(command, "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY")
    }
}

/// An error of the server, without what may be a user's data. What was not captured, or not sent, is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PgError {
    /// `ERROR`, `FATAL` or `PANIC`.
    pub severity: String,
    /// The five characters of the SQLSTATE code.
    pub sqlstate: String,
    /// The message; everything from the first quotation mark to the last, and every number, is `?`.
    /// Empty also where a user's function wrote it.
    pub message: String,
    /// The table, with its schema.
    pub table: String,
    /// The constraint.
    pub constraint: String,
    /// Where in the text of the query it was noticed: characters, from 1.
    pub position: Option<u32>,
}

/// `ReadyForQuery`'s transaction status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transaction {
    /// In none.
    Idle,
    /// In a transaction block.
    InTransaction,
    /// In one that failed.
    Failed,
}

/// What is known of a connection as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The client opens a session. Nothing of authentication is kept.
    Startup {
        /// The role.
        user: Option<Box<str>>,
        /// The database, if it is not named like the user.
        database: Option<Box<str>>,
        /// As the application calls itself.
        application_name: Option<Box<str>>,
    },
    /// The server agreed to encrypt: the rest is opaque.
    Opaque(Encryption),
    /// The server refused to encrypt: the session goes on readable.
    Plain(Encryption),
    /// The connection is a request to cancel what another one runs.
    Cancel,
    /// `server_version`.
    ServerVersion(Box<str>),
    /// `BackendKeyData`: the server process. The secret key is not kept.
    Backend {
        /// Its process id on the server's host.
        process_id: u32,
    },
    /// The session is open.
    Ready,
    /// An error that belongs to no request: the session was refused, or the server ends it.
    Failure(Box<PgError>),
    /// The client says that it closes.
    Terminate,
}

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// `SSLRequest`.
    Tls,
    /// `GSSENCRequest`.
    Gss,
}

/// Messages that belong to no exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// `NoticeResponse`.
    pub notices: u64,
    /// `NotificationResponse`.
    pub notifications: u64,
    /// `Parse`, `Describe` and `Close` that the server carried out.
    pub session_work: u64,
}
