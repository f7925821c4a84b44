//! AMQP 0-9-1 as a passive observer sees it: two captured byte streams in, messages that were published and
//! delivered out.
//!
//! By <https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf> with RabbitMQ's extensions (confirms, nack,
//! cancel by the server, blocked, and its types of fields). Most of it needs no pairing: a publish, a
//! delivery, an acknowledgement say all of themselves, and delivery tags name what they settle. What is
//! certain after a loss is said in `connection`.
//!
//! Left out: AMQP 1.0; what `connection.start-ok` and `secure-ok` carry, of which nothing is kept; bodies, of
//! which a hash is; headers other than those named in `properties`; what follows TLS.

mod channel;
mod connection;
mod content;
mod detect;
mod endings;
mod event;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod method;
mod properties;
mod requests;
mod responses;
mod resync;
mod window;

pub use crate::exchange::{Abandon, Counters, Detected, Direction, EndError, Skip};
pub use connection::Connection;
pub use detect::detect;
pub use event::{Call, Delivery, End, Event, Fact, Message, Publish, Refusal, Settlement, Tally};
pub use method::reply_name;
pub use properties::Properties;

#[cfg(test)]
mod tests;
