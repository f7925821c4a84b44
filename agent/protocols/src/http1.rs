//! HTTP/1.0 and HTTP/1.1 as a passive observer sees them: two captured byte streams in, exchanges out.
//!
//! By RFC 9112 (<https://www.rfc-editor.org/rfc/rfc9112>, messages, framing, connections) and RFC 9110
//! (<https://www.rfc-editor.org/rfc/rfc9110>, semantics). Input is cut anywhere and incomplete: known
//! numbers of missing bytes, holes, streams met in the middle. Where the pairing of a response with its
//! request could be wrong, nothing is paired.
//!
//! Left out: HTTP/0.9; HTTP/2, over TLS or by upgrade; the content of bodies and trailers, and content
//! codings; folded values; `Connection` and `Keep-Alive` (the stream's end is seen, not foretold);
//! RFC 9112's rule that transfer codings of HTTP/1.0 are faulty (senders frame by them all the same).

mod asked;
mod body;
mod connection;
mod detect;
mod event;
mod fields;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod head;
mod requests;
mod responses;
mod stream;

pub use crate::exchange::{Abandon, Counters, Detected, Direction, EndError, Skip};
pub use asked::{Asked, Field};
pub use connection::Connection;
pub use detect::detect;
pub use event::{End, Event};
pub use head::{Method, RequestHead, ResponseHead, Version};

#[cfg(test)]
mod tests;
