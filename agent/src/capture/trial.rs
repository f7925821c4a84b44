//! Each hook tried for real, one after the other: loaded, attached, detached. For `wirespan doctor`.
//!
//! Nothing is traced meanwhile, and nothing stays. An agent that runs beside it is not disturbed: its programs and
//! maps are its own.

use std::error::Error;
use std::path::Path;

use aya::programs::{BtfTracePoint, Iter};
use aya::{Btf, Ebpf};

use super::fields;
use super::loader::{self, CaptureSettings, ITERATORS, LoadError, Loaded, TRACEPOINTS};

/// A hook, and what the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookTrial {
    /// The hook.
    pub name: String,
    /// Why it can't be used.
    pub result: Result<(), String>,
}

/// Whether the kernel tells of all fields that the programs read.
///
/// # Errors
/// The one that it doesn't, or that it has no BTF.
pub fn try_fields() -> Result<(), LoadError> {
    fields::find(Path::new("/sys/kernel/btf/vmlinux")).map(drop).map_err(LoadError::from)
}

/// Tries all hooks.
///
/// # Errors
/// The maps can't be made: no hook was tried.
pub fn try_hooks() -> Result<Vec<HookTrial>, LoadError> {
    let settings = CaptureSettings {
        burst_budget: loader::DEFAULT_BURST_BUDGET,
        ring_bytes: 4096,
        rings: 1,
        measure: false,
        log: false,
    };
    let Loaded { mut ebpf, btf, pythons } = loader::load_object(&settings)?;
    let mut trials = Vec::new();
    for (name, over) in ITERATORS {
        let result = iterator(&mut ebpf, &btf, name, over).map_err(|error| words(&*error));
        trials.push(HookTrial { name: format!("iterator {name} over {over}"), result });
    }
    for name in TRACEPOINTS {
        let result = tracepoint(&mut ebpf, &btf, name).map_err(|error| words(&*error));
        trials.push(HookTrial { name: format!("tracepoint {name}"), result });
    }
    let result = pythons.map(drop);
    trials.push(HookTrial { name: "probes of CPython".to_owned(), result });
    Ok(trials)
}

type Tried = Result<(), Box<dyn Error>>;

fn iterator(ebpf: &mut Ebpf, btf: &Btf, name: &'static str, over: &str) -> Tried {
    let program: &mut Iter = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?.try_into()?;
    program.load(over, btf)?;
    let link = program.attach()?;
    Ok(program.detach(link)?)
}

fn tracepoint(ebpf: &mut Ebpf, btf: &Btf, name: &'static str) -> Tried {
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    let program: &mut BtfTracePoint = program.try_into()?;
    program.load(name, btf)?;
    let link = program.attach()?;
    Ok(program.detach(link)?)
}

/// The causes, without the verifier's log: its last words say the rest.
fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.as_slice() {
        [] | [_] => text,
        [first, .., last] => format!("{first} ... {last}"),
    }
}
