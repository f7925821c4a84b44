//! What tells the requests of one process apart: a runtime's logical tasks.
//!
//! Beside capture, before correlation: each runtime says which logical task a call belongs to. What a process's
//! runtime *is* (and its version) is found in `process`; here it is followed.

pub mod node;
pub mod python;

use std::borrow::Cow;
use std::fmt;

/// How the requests of a process are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the runtime's logical task: certain under any concurrency.
    Exact,
    /// By threads, and where one request is in flight.
    Unassisted(Reason),
}

/// Why, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(pub Cow<'static, str>);

impl Reason {
    /// Says why.
    pub fn new(words: impl Into<Cow<'static, str>>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Unassisted(Reason(reason)) => write!(f, "thread only: {reason}"),
        }
    }
}
