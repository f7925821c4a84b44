//! Functions that have no symbol, found by name through the tables that CPython itself finds them by.
//!
//! `PyMethodDef` (`Include/methodobject.h`): name, function, flags, documentation; 32 bytes. The tables are read
//! where the loader has relocated them, in the process's memory, so that no relocation need be understood.

use std::collections::HashSet;

use memchr::memmem;

use super::memory::{Mapping, Memory};

/// One image's constants or tables are not larger; the largest of a standalone CPython are about 8 MiB.
const LIMIT_BYTES: usize = 64 << 20;

const WORD: usize = 8;

/// `METH_O`: the argument is the second parameter.
pub(super) const ONE: u64 = 0x8;
/// `METH_FASTCALL`: the second parameter is an array of the arguments.
pub(super) const FAST: u64 = 0x80;

/// `METH_KEYWORDS`.
pub(super) const KEYWORDS: u64 = 0x2;

/// An entry of a method table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method {
    pub(super) function: u64,
    /// `METH_...` bits.
    pub(super) flags: u64,
}

/// The functions that an image has under a name, in all of its types.
pub(super) fn find(memory: &Memory, image: &[Mapping], name: &str) -> Vec<Method> {
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    let finder = memmem::Finder::new(&text);
    let mut names = HashSet::new();
    for mapping in image.iter().filter(|mapping| !mapping.writable && !mapping.executable) {
        let Ok(content) = memory.content(mapping, LIMIT_BYTES) else { continue };
        let places = finder.find_iter(&content);
        names.extend(places.map(|place| mapping.addresses.start + place as u64));
    }
    let mut found: Vec<Method> = Vec::new();
    // Tables that are relocated and then protected are mapped readable only.
    for mapping in image.iter().filter(|mapping| !mapping.executable) {
        let Ok(content) = memory.content(mapping, LIMIT_BYTES) else { continue };
        let words: Vec<u64> = content
            .chunks_exact(WORD)
            .filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
            .collect();
        for window in words.windows(3) {
            let &[name, function, flags] = window else { continue };
            let method = Method { function, flags: flags & 0xffff_ffff };
            if names.contains(&name)
                && image.iter().any(|code| code.executable && code.addresses.contains(&function))
                && !found.contains(&method)
            {
                found.push(method);
            }
        }
    }
    found
}
