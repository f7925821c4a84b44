//! Privileged end-to-end tests: the real agent, real applications, a real kernel.
//!
//! A module per promise; each could run beside others, but they share two cores: run them with
//! `--test-threads=1`. `WIRESPAN_BIN` names the agent.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests: one panics rather than returning an error, and prints the figures it found"
)]

mod common;

mod agent_killed;
mod attributes;
mod batch;
mod capture_budget;
mod capture_canary;
mod capture_older_connections;
mod capture_registers_lie;
mod capture_system_calls;
mod chaos;
mod concurrent_requests;
mod configuration;
mod containers;
mod datastores;
mod diagnosis;
mod disk_queue;
mod faults;
mod handlers;
mod http_shapes;
mod kafka;
mod kernel_latency;
mod loss_is_counted;
mod messages;
mod node_assist;
mod node_injections;
mod node_parents;
mod otlp_receivers;
mod packages;
mod processes_and_losses;
mod python_parents;
mod queues;
mod recordings;
mod selection;
mod targets_come_and_go;
mod whole_traces;
