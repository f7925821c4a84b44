//! Redis as a passive observer sees it: two captured byte streams in, commands with their replies out.
//!
//! By the specification of RESP2 and RESP3
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>): arrays of bulk strings and inline
//! commands one way, every reply type the other. Replies pair with commands by order alone, and clients
//! pipeline as a matter of course: where the order could be wrong, nothing is paired (`connection` has
//! the rule). Values leave this module only where
//! the caller asks for them (`values`), keys always do.
//!
//! Left out: what `MONITOR`, `SYNC` and `PSYNC` send; the elements of replies; RESP over a cluster's bus;
//! an inline command longer than is kept is known by its beginning.

mod command;
mod connection;
mod detect;
mod error;
mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod inline;
mod push;
mod reply;
mod request;
mod requests;
mod resp;
mod responses;
mod session;
mod shown;
mod table;
mod tail;
mod values;

pub use crate::exchange::{Abandon, Counters, Detected, Direction, EndError, Skip};
pub use command::Command;
pub use connection::Connection;
pub use detect::detect;
pub use error::overwrite_error;
pub use event::{End, Event, Fact, PushKind};
pub use reply::Reply;
pub use shown::Shown;
pub use values::{Asked, Bytes, Pattern, UnknownCommand, Value, Values, hash};

#[cfg(test)]
mod tests;
