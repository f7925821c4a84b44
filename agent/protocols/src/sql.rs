//! SQL text that may be cut anywhere: its summary, the text without its literals, a trace context in a
//! comment, whether it asks anything.
//!
//! A lexer in PostgreSQL's dialect (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>) and
//! no parser: it reads what is not SQL too, in linear time and without recursion. By the rules for
//! `db.query.summary` and `db.query.text` of OpenTelemetry
//! (<https://opentelemetry.io/docs/specs/semconv/db/database-spans/>). Left out: other dialects.

mod comment;
mod lexer;
mod poll;
mod sanitize;
mod settings;
mod statements;
mod summary;
#[cfg(test)]
mod tests;

pub use comment::traceparent_in_comment;
pub use poll::is_poll;
pub use sanitize::sanitize;
pub use statements::statements;
pub use summary::{Summary, summary};
