//! Probes of user space as the kernel's `uprobe_multi` links, which aya has no type for.
//!
//! aya attaches such a program through a perf event. Closing one of those waits for all CPUs several times over,
//! some 100 ms, under a lock that is the whole machine's, so that neither threads nor anything else helps: an agent
//! that follows fifty processes would need half a minute to end. Closing a `uprobe_multi` link waits once, and many
//! wait together; and its program is reached with fewer steps.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Ebpf;
use aya::maps::Map;
use aya_obj::{Object, ProgramSection};

use crate::sys;

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    descriptor: OwnedFd,
    /// It runs when functions return, not when they are called.
    returns: bool,
}

/// Loads the programs of these names out of the object whose maps `ebpf` has made.
pub(super) fn load(
    object: &[u8],
    ebpf: &Ebpf,
    names: impl Iterator<Item = &'static str>,
) -> Result<Vec<Program>, String> {
    let mut object = Object::parse(object).map_err(|error| error.to_string())?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let maps = std::mem::take(&mut object.maps);
    // Each: the object would take another's place where one is missing.
    let mut made = Vec::new();
    for (name, map) in &maps {
        let descriptor = ebpf.map(name).and_then(descriptor).ok_or_else(|| format!("no {name}"))?;
        made.push((name.as_str(), descriptor, map));
    }
    object.relocate_maps(made.into_iter(), &sections).map_err(|error| error.to_string())?;
    object.relocate_calls(&sections).map_err(|error| error.to_string())?;
    names.map(|name| load_one(&object, name).map_err(|error| format!("{name}: {error}"))).collect()
}

fn load_one(object: &Object, name: &str) -> Result<Program, String> {
    let program = object.programs.get(name).ok_or("not in the object")?;
    let returns = match program.section {
        ProgramSection::UProbe { .. } => false,
        ProgramSection::URetProbe { .. } => true,
        _ => return Err("no probe of user space".to_owned()),
    };
    let function = object.functions.get(&program.function_key()).ok_or("not in the object")?;
    let descriptor =
        sys::load_probe(name, &function.instructions, &program.license).map_err(|refusal| {
            format!("the kernel refused it: {} {}", refusal.error, refusal.last_words())
        })?;
    Ok(Program { descriptor, returns })
}

fn descriptor(map: &Map) -> Option<RawFd> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::ProgramArray(data)
    | Map::Queue(data)
    | Map::RingBuf(data)
    | Map::SkStorage(data)
    | Map::Unsupported(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd().as_raw_fd())
}

impl Program {
    /// For what the kernel counts of it.
    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Attaches it in one process, at an offset in a file that this maps. Until what is returned is closed.
    pub(super) fn attach(
        &self,
        pid: i32,
        file: &Path,
        offset: u64,
        cookie: u64,
    ) -> io::Result<OwnedFd> {
        let file = CString::new(file.as_os_str().as_bytes())?;
        sys::attach_probe(self.descriptor.as_fd(), self.returns, pid, &file, offset, cookie)
    }
}
