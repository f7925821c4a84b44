//! What the tests of traces share: a directory with applications and an agent, the spans that it
//! delivered, and what its books must show.
//!
//! Asserts nothing about any promise; those are in the files beside it.

pub(crate) mod capture;
pub(crate) mod cri;
pub(crate) mod forest;
pub(crate) mod kernel;
pub(crate) mod lab;
pub(crate) mod machine;
pub(crate) mod namespaces;
pub(crate) mod receiver;
pub(crate) mod recorder;
pub(crate) mod sockets;
pub(crate) mod spans;
