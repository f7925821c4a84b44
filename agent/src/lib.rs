//! Wirespan's user side: what the kernel programs saw becomes spans, and spans are exported.
//!
//! The modules are the stages of the data path, in the order data flows; `pipeline` alone names two of
//! them.

pub mod call;
pub mod capture;
pub mod correlation;
pub mod export;
pub mod process;
pub mod semconv;
pub mod route;
pub mod span;
pub mod sys;
