//! Sans-IO parsers for what Wirespan captures: bytes in, messages out.
//!
//! No socket, no clock, no configuration, no log, no `unsafe`. A captured prefix with a known number
//! of missing bytes behind it is an ordinary input here; hostile bytes are the normal case.
#![forbid(unsafe_code)]

pub mod amqp;
pub mod exchange;
mod follow;
pub mod http1;
pub mod kafka;
pub mod limits;
pub mod postgres;
pub mod propagation;
pub mod redis;
#[cfg(any(test, fuzzing))]
mod script;
pub mod sql;
mod stream;
#[cfg(test)]
mod testing;
pub mod w3c;
