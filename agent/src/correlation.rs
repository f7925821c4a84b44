//! Which request caused which call.
