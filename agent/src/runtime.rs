//! What tells the requests of one process apart: a runtime's logical tasks.
//!
//! Beside capture, before correlation: each runtime says which logical task a call belongs to. What a process's
//! runtime *is* (and its version) is found in `process`; here it is followed.

mod handling;
pub mod node;
pub mod python;

use std::borrow::Cow;
use std::fmt;

use crate::call::ProcessId;
use crate::capture::{Capture, Slot};
use crate::process::{Process, Runtime};
use node::Assist;
use python::Pythons;

pub use handling::{Delivery, Handling, Work};

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

/// Whether a process of this runtime that listens on a port serves others there: on its inspector's it is asked about
/// itself.
pub fn serves_on(runtime: Runtime, port: u16) -> bool {
    !(matches!(runtime, Runtime::Node(_)) && port == node::INSPECTOR_PORT)
}

/// All runtimes that are followed: each process by the one that it runs.
#[derive(Default)]
pub struct Runtimes {
    /// Node.js, which is also told of bytes and calls.
    pub node: Assist,
    /// CPython.
    pub python: Pythons,
}

impl Runtimes {
    /// A process is traced from now on, or executed something else: the same process to the rules, and another
    /// to who follows its runtime. `assist`: a Node.js process may be assisted.
    pub fn began(
        &mut self,
        id: ProcessId,
        slot: Slot,
        process: &Process,
        assist: bool,
        capture: &mut Capture,
    ) {
        self.ended(id);
        match process.runtime {
            Runtime::Node(version) => self.node.process_began(id, slot, process, version, assist),
            Runtime::Python(version) => {
                self.python.began(id, process.pid, slot, version, capture);
            }
            Runtime::Other => {}
        }
    }

    /// As [`Self::began`], where nothing is asked of a process: what is heard of it is told.
    pub fn told(&mut self, id: ProcessId, slot: Slot, process: &Process) {
        self.ended(id);
        if let Runtime::Node(version) = process.runtime {
            self.node.process_began(id, slot, process, version, false);
        }
    }

    /// It is gone, or not traced any more.
    pub fn ended(&mut self, id: ProcessId) {
        self.node.process_ended(id);
        self.python.ended(id);
    }

    /// How its requests are told apart, with the client libraries that say whose their commands are; `None` where
    /// no runtime tells.
    pub fn method(&self, id: ProcessId) -> Option<(Method, Vec<&'static str>)> {
        let python = || self.python.method(id).map(|method| (method.clone(), Vec::new()));
        self.node.method(id).or_else(python)
    }
}
