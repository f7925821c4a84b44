//! Wirespan's user side: what the kernel programs saw becomes spans, and spans are exported.
//!
//! The modules are the stages of the data path, in the order data flows; `pipeline` alone names two of
//! them.

pub mod capture;
pub mod containers;
pub mod process;
pub mod selection;

pub mod connection;

pub mod call;
pub mod exchange;

pub mod brokers;
pub mod queue;

pub mod runtime;

pub mod correlation;

pub mod route;
pub mod semconv;
pub mod span;

pub mod export;

pub mod books;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod explain;
pub mod pipeline;
pub mod recording;
pub mod settings;
pub mod sys;
pub mod tls;
