//! CPython's image: the executable or libpython, and where in it things are.
//!
//! Only dynamic symbols are used: stripped builds have them too.

use std::fs::File;

use object::read::elf::ElfFile64;
use object::read::{Object, ObjectSymbol, ReadCache};

use super::Refusal;
use super::memory::{Mapping, Memory};
use crate::runtime::Reason;

/// What is needed of CPython's image, at its addresses in one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// `_PyRuntime`.
    pub(super) runtime: u64,
    /// `PyContext_Type`.
    pub(super) context_type: u64,
    /// `PyContext_CopyCurrent`.
    pub(super) copy_current: u64,
    /// `PyContext_New`, `PyContext_Copy`.
    pub(super) makers: Vec<u64>,
    /// Where the image is mapped.
    pub(super) mappings: Vec<Mapping>,
}

const RUNTIME: &str = "_PyRuntime";
const CONTEXT_TYPE: &str = "PyContext_Type";
const COPY_CURRENT: &str = "PyContext_CopyCurrent";
const MAKERS: [&str; 2] = ["PyContext_New", "PyContext_Copy"];

/// What only a debug build exports (`Include/object.h`, `Py_REF_DEBUG`).
const DEBUG_ONLY: [&str; 2] = ["_Py_NegativeRefcount", "_PyObject_DebugMalloc"];

/// Finds the image among what a process has mapped.
///
/// # Errors
/// Why it can't be used, or can't yet: the loader may still be mapping it.
pub(super) fn find(memory: &Memory) -> Result<Image, Refusal> {
    let mut candidates: Vec<&Mapping> = Vec::new();
    for mapping in memory.mappings.iter().filter(|mapping| mapping.executable) {
        let name = mapping.name();
        if (name.starts_with("libpython")
            || name.starts_with("python")
            || name.starts_with("uwsgi"))
            && !candidates.iter().any(|known| known.path == mapping.path)
        {
            candidates.push(mapping);
        }
    }
    // A library is what an executable of the same name only loads.
    candidates.sort_by_key(|mapping| !mapping.name().starts_with("libpython"));
    for candidate in candidates {
        if let Some(image) = read(memory, candidate)? {
            return Ok(image);
        }
    }
    Err(Refusal::Early)
}

fn read(memory: &Memory, code: &Mapping) -> Result<Option<Image>, Refusal> {
    let unreadable = |error: &dyn std::fmt::Display| {
        let words = format!("{} can't be read: {error}", code.path.display());
        Refusal::Never(Reason::new(words))
    };
    let file = File::open(&code.link).map_err(|error| unreadable(&error))?;
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<object::Endianness, _>::parse(&cache).map_err(|e| unreadable(&e))?;
    let symbol = |name: &str| {
        let found = elf.dynamic_symbols().find(|symbol| symbol.name() == Ok(name));
        found.filter(|symbol| symbol.is_definition()).map(|symbol| symbol.address())
    };
    let (Some(runtime), Some(context_type), Some(copy_current)) =
        (symbol(RUNTIME), symbol(CONTEXT_TYPE), symbol(COPY_CURRENT))
    else {
        return Ok(None);
    };
    if DEBUG_ONLY.iter().all(|name| symbol(name).is_some()) {
        return Err(Refusal::Never(Reason::new("a debug build of CPython")));
    }
    // What the loader added to the file's addresses: the segment of the mapping tells.
    let endian = elf.endian();
    let segment = elf.elf_program_headers().iter().find(|header| {
        let start = header.p_offset.get(endian) & !0xfff;
        header.p_type.get(endian) == object::elf::PT_LOAD
            && header.p_flags.get(endian) & object::elf::PF_X != 0
            && (start..header.p_offset.get(endian).saturating_add(header.p_filesz.get(endian)))
                .contains(&code.offset)
    });
    let Some(segment) = segment else {
        let words = format!("{} is mapped in no usual way", code.path.display());
        return Err(Refusal::Never(Reason::new(words)));
    };
    let delta = segment.p_vaddr.get(endian).wrapping_sub(segment.p_offset.get(endian));
    let bias = code.addresses.start.wrapping_sub(code.offset.wrapping_add(delta));
    let at = |address: u64| address.wrapping_add(bias);
    Ok(Some(Image {
        runtime: at(runtime),
        context_type: at(context_type),
        copy_current: at(copy_current),
        makers: MAKERS.into_iter().filter_map(symbol).map(at).collect(),
        mappings: memory.mappings.iter().filter(|other| other.path == code.path).cloned().collect(),
    }))
}
