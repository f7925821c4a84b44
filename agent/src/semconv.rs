//! The attribute keys that are Wirespan's own, beside OpenTelemetry's conventions.
//!
//! OpenTelemetry's keys are the constants of `opentelemetry-semantic-conventions`; what is here has no
//! name there. Units are in the names.

/// How long an inbound call's first bytes lay in the socket before the application read them:
/// an integer, nanoseconds.
pub const QUEUE_TIME_NS: &str = "wirespan.kernel.queue_time_ns";

/// What is known of the span's parent: [`PARENT_STATUS_WITHHELD`], or absent where nothing is to be said.
pub const PARENT_STATUS: &str = "wirespan.parent.status";

/// A value of [`PARENT_STATUS`]: a parent exists but was not certain, so none was given.
pub const PARENT_STATUS_WITHHELD: &str = "withheld";

/// Why [`PARENT_STATUS`] is what it is: a short text such as `concurrent`.
pub const PARENT_REASON: &str = "wirespan.parent.reason";
