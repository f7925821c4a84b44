//! Kafka's protocol as a passive observer sees it: two captured byte streams in, exchanges out.
//!
//! By <https://kafka.apache.org/protocol> and the message definitions of Apache Kafka 4.1. An exchange is
//! one partition's batches in a `Produce`, one partition's records in a `Fetch`, or one request of another
//! kind. Requests and responses pair by correlation id; both are framed by their length, so that what was
//! not captured of a message is passed over exactly.
//!
//! Left out: values of records, credentials, requests of share groups and of brokers among themselves.
//! Of a message no more than its beginning is read, see `frames`.

mod api;
mod batch;
mod compressed;
mod connection;
mod detect;
mod error;
mod event;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod names;
mod pending;
mod reader;
mod requests;
mod responses;

pub use crate::exchange::{Abandon, Counters, Detected, Direction, EndError, Skip};
pub use api::ApiKey;
pub use connection::Connection;
pub use detect::detect;
pub use error::ErrorCode;
pub use event::{
    Batch, Commit, Delivered, End, Event, Fact, Operation, Produced, Records, Request, Topic,
    TopicId,
};

#[cfg(test)]
mod tests;
