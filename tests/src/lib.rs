//! The applications, the load and the agent's process that the end-to-end tests and `cargo xtask demo`
//! share.
//!
//! Everything started here is a guard: it ends with its owner. The tests themselves are in `tests/`.

pub mod accuracy;
pub mod agent;
pub mod broker;
pub mod collector;
pub mod engines;
pub mod http;
pub mod load;
pub mod pace;
pub mod process;
pub mod script;
pub mod servers;
pub mod spans;
pub mod sys;
pub mod wait;
pub mod workloads;
