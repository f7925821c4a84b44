//! Capture: the first stage. Loads the kernel programs, chooses what they trace, and reads their records.
//!
//! Nothing here knows a protocol or keeps a payload: a [`Record`] borrows from the ring buffer and is
//! gone when the next one is read.

mod cost;
mod fields;
mod lanes;
mod loader;
mod object;
mod probes;
mod python;
mod record;
mod slots;
mod trial;

pub use cost::HookCost;
pub use fields::FieldError;
pub use loader::{Capture, CaptureSettings, DEFAULT_BURST_BUDGET, LoadError, Recount, TraceError};
pub use object::RelocateError;
pub use python::{PythonLink, PythonProbe, PythonProbePoint};
pub use record::{
    Exit, Gone, JobBegun, Operation, ProcessEvent, ProcessEventKind, Record, RecordError, Socket,
    ThreadFigures, parse,
};
pub use slots::Slot;
pub use trial::{HookTrial, try_fields, try_hooks};
