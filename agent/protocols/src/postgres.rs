//! PostgreSQL's protocol 3 as a passive observer sees it: two captured byte streams in, exchanges out.
//!
//! By <https://www.postgresql.org/docs/current/protocol.html> (flow, message formats). An exchange is a
//! simple query, one `Execute` or a function call with what the server answers; `Parse`, `Bind` and
//! `Describe` belong to the `Execute` behind them. What is certain of the pairing is said in
//! `connection`, what is given up after a loss in `lost`, how it begins anew in `resync`.
//!
//! Left out: parameters, rows and COPY data; authentication, of which nothing is kept; protocol 2; what
//! follows once TLS or GSSAPI encrypts; the content of replication streams.

mod connection;
mod detect;
mod event;
mod failures;
mod fields;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod lost;
mod message;
mod pending;
mod requests;
mod responses;
mod resync;
mod statements;
mod stream;
mod texts;

pub use crate::exchange::{Abandon, Counters, Detected, Direction, EndError, Skip};
pub use connection::Connection;
pub use detect::detect;
pub use event::{
    CommandTag, Completion, Encryption, End, Event, Fact, Parameter, PgError, Query, QueryKind,
    Tally, Transaction,
};

#[cfg(test)]
mod tests;
