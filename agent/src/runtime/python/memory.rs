//! What a process has mapped, and reading its memory.
//!
//! Never written to. A read that fails is an error and no value: the process may be gone, or may be something
//! else by now.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustc_hash::FxHasher;

/// Lines of `/proc/PID/maps` that are looked at: large services have some thousand.
const MAX_MAPPINGS: usize = 65_536;

/// One mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) addresses: Range<u64>,
    /// Where in the file it begins.
    pub(super) offset: u64,
    pub(super) writable: bool,
    pub(super) executable: bool,
    /// As the process sees it; ` (deleted)` cut off.
    pub(super) path: PathBuf,
    /// The kernel's own link to the very file, whatever became of its path.
    pub(super) link: PathBuf,
}

impl Mapping {
    /// Where an address lies in the file.
    pub(super) fn file_offset(&self, address: u64) -> Option<u64> {
        self.addresses
            .contains(&address)
            .then(|| address - self.addresses.start)
            .and_then(|inside| self.offset.checked_add(inside))
    }

    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// A process's memory.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    pub(super) mappings: Vec<Mapping>,
}

impl Memory {
    /// Of the process `pid`, with the files that it has mapped now.
    ///
    /// # Errors
    /// Those of opening and reading `/proc/PID`.
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let maps = std::fs::read(directory.join("maps"))?;
        let file = File::open(directory.join("mem"))?;
        Ok(Self { file, mappings: mappings(&String::from_utf8_lossy(&maps), &directory) })
    }

    /// Stands for what is mapped executable: the same while no module is loaded.
    pub(super) fn modules(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for mapping in self.mappings.iter().filter(|mapping| mapping.executable) {
            mapping.path.hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(super) fn bytes<const N: usize>(&self, address: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    pub(super) fn word(&self, address: u64) -> io::Result<u64> {
        self.bytes(address).map(u64::from_le_bytes)
    }

    /// Whether the text at an address is this one.
    pub(super) fn is_text<const N: usize>(&self, address: u64, text: &[u8; N]) -> bool {
        self.bytes::<N>(address).is_ok_and(|bytes| bytes == *text)
    }

    /// All of a mapping's content.
    pub(super) fn content(&self, mapping: &Mapping, limit_bytes: usize) -> io::Result<Vec<u8>> {
        let length = mapping.addresses.end - mapping.addresses.start;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(limit_bytes);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, mapping.addresses.start)?;
        Ok(bytes)
    }

    /// Up to `limit_bytes` of code from an address on, as the file has it: in memory there may be breakpoints.
    pub(super) fn code_at(&self, address: u64, limit_bytes: usize) -> Option<Vec<u8>> {
        let mapping = self.code(address)?;
        let left = usize::try_from(mapping.addresses.end - address).unwrap_or(usize::MAX);
        let mut bytes = vec![0; limit_bytes.min(left)];
        let read =
            File::open(&mapping.link).ok()?.read_at(&mut bytes, mapping.file_offset(address)?);
        bytes.truncate(read.ok()?);
        Some(bytes)
    }

    /// The executable mapping that an address lies in.
    pub(super) fn code(&self, address: u64) -> Option<&Mapping> {
        self.mappings
            .iter()
            .find(|mapping| mapping.executable && mapping.addresses.contains(&address))
    }
}

/// `address-address perms offset device inode path`: those of files.
fn mappings(maps: &str, directory: &Path) -> Vec<Mapping> {
    maps.lines().take(MAX_MAPPINGS).filter_map(|line| mapping(line, directory)).collect()
}

fn mapping(line: &str, directory: &Path) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let range = fields.next()?;
    let (start, end) = range.split_once('-')?;
    let permissions = fields.next()?.as_bytes();
    let offset = fields.next()?;
    let (_device, _inode) = (fields.next()?, fields.next()?);
    let path = fields.next()?.trim_start();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let number = |text| u64::from_str_radix(text, 16).ok();
    path.starts_with('/').then_some(())?;
    let addresses = number(start)?..number(end)?;
    // The links' names have no leading zeros, the lines of `maps` do (fs/proc/base.c, `dname_to_vma_addr`).
    let link = format!("{:x}-{:x}", addresses.start, addresses.end);
    Some(Mapping {
        addresses,
        offset: number(offset)?,
        writable: permissions.get(1) == Some(&b'w'),
        executable: permissions.get(2) == Some(&b'x'),
        path: PathBuf::from(path),
        link: directory.join("map_files").join(link),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_files_are_told_with_the_link_to_the_file() {
        let maps = "0081a000-0081b000 r-xp 00002000 08:01 99 /usr/lib/a b.so (deleted)\n\
                    7f00-7f10 rw-p 00000000 00:00 0 [heap]\n\
                    7f20-7f30 rw-p 00000000 00:00 0 \n\
                    nonsense\n";
        let found = mappings(maps, Path::new("/proc/7"));
        let [only] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(only.path, Path::new("/usr/lib/a b.so"));
        assert_eq!(only.link, Path::new("/proc/7/map_files/81a000-81b000"));
        assert_eq!(only.file_offset(0x81_a010), Some(0x2010));
        assert_eq!(only.file_offset(0x81_b000), None);
        assert!(only.executable && !only.writable);
    }

    #[test]
    fn memory_is_read_at_addresses() {
        let text = Box::new(*b"a text that is nowhere else");
        let memory = Memory::open(i32::try_from(std::process::id()).unwrap()).unwrap();
        let address = std::ptr::from_ref(&*text) as u64;
        assert!(memory.is_text(address, b"a text that"));
        assert!(memory.word(8).is_err());
    }
}
