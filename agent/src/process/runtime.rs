//! Which runtime a process executes, and which version of it.
//!
//! Decided by what is mapped (the executable, libnode, libpython), never by the command line: `npm`,
//! `pm2`, `gunicorn` and `celery` are scripts. PyPy and other Pythons than CPython are `Other`, and so
//! is a Node.js that was bundled into an executable of another name.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use memchr::memmem;
use object::read::{Object, ObjectSymbol, ReadCache, ReadRef};
use serde::{Deserialize, Serialize};

use super::read;

/// A runtime's version, as exactly as it could be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// `20` of `20.11.1`.
    pub major: u32,
    /// `11` of `20.11.1`.
    pub minor: u32,
    /// `1` of `20.11.1`; absent when only the minor version is known.
    pub patch: Option<u32>,
}

/// What executes a process's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// Node.js.
    Node(Option<Version>),
    /// CPython.
    Python(Option<Version>),
    /// Anything else: never traced.
    Other,
}

/// Where a runtime's code is, before its version is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// `None`: in the executable itself.
    Node(Option<PathBuf>),
    /// The library, and the minor version if a name tells it.
    Python(Option<PathBuf>, Option<Version>),
    Other,
}

/// How far a version is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// What is known of the image already.
    Known,
    /// In the image, which may take a tenth of a second.
    Images,
}

/// Versions of the images seen, by device, inode, size and modification time.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<HashMap<ImageKey, Option<Version>>>);

type ImageKey = (u64, u64, u64, i64);

/// Images are few: the distinct Node.js and Python builds on a host.
const VERSIONS_LIMIT: usize = 1_024;
/// No build of either runtime is larger: a debug build of Node.js is about 1 GiB.
const IMAGE_LIMIT_BYTES: u64 = 2 << 30;
const CHUNK_BYTES: usize = 1 << 20;
/// Longer than any marker that is searched for.
const OVERLAP_BYTES: usize = 64;
/// libpython's dynamic symbols and their names take about 200 KiB.
const ELF_READ_LIMIT_BYTES: u64 = 8 << 20;
const ELF_READS_LIMIT: u32 = 4_096;

impl Runtime {
    /// Whether it is one that can be traced.
    pub fn is_traceable(self) -> bool {
        self != Self::Other
    }

    /// `node`, `python` or `other`: the word in rules.
    pub fn word(self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Python(_) => "python",
            Self::Other => "other",
        }
    }

    /// The version, if it is known.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Node(version) | Self::Python(version) => version,
            Self::Other => None,
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self.version() {
            Some(version) => write!(f, " {version}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.patch {
            Some(patch) => write!(f, ".{patch}"),
            None => Ok(()),
        }
    }
}

/// Tells the runtime from the executable's path and the mapped files.
pub(super) fn detect(exe: &Path, mapped: &BTreeSet<PathBuf>) -> Image {
    let exe_name = file_name(exe);
    if is_node(exe_name) {
        let library = mapped.iter().find(|path| file_name(path).starts_with("libnode.so"));
        return Image::Node(library.cloned());
    }
    let library = mapped.iter().find(|path| libpython_version(file_name(path)).is_some());
    if let Some(library) = library {
        return Image::Python(Some(library.clone()), libpython_version(file_name(library)));
    }
    match exe_name.strip_prefix("python").map(|rest| rest.trim_end_matches(['d', 'm', 't'])) {
        Some("") | Some("3") => Image::Python(None, mapped.iter().find_map(|p| library_version(p))),
        Some(rest) => match minor_version(rest) {
            Some(version) => Image::Python(None, Some(version)),
            None => Image::Other,
        },
        None => Image::Other,
    }
}

/// `node`, `nodejs`, and versioned names of them (`node20`, `node-18.1`); not `node_exporter`.
fn is_node(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("node") else { return false };
    let rest = rest.strip_prefix("js").unwrap_or(rest);
    rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-')
}

/// `3.11` of `libpython3.11.so.1.0`, `libpython3.7m.so`, `libpython3.13t.so.1.0`.
fn libpython_version(name: &str) -> Option<Version> {
    let (version, _) = name.strip_prefix("libpython")?.split_once(".so")?;
    minor_version(version.trim_end_matches(['d', 'm', 't']))
}

/// `3.11` of `/usr/lib/python3.11/lib-dynload/...`: the standard library's extension modules.
fn library_version(path: &Path) -> Option<Version> {
    path.components().find_map(|component| {
        minor_version(component.as_os_str().to_str()?.strip_prefix("python")?)
    })
}

fn minor_version(text: &str) -> Option<Version> {
    let (major, minor) = text.split_once('.')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    (major == 3).then_some(Version { major, minor, patch: None })
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

impl Versions {
    /// The exact version of an image: from the cache, else by `find`. An image that cannot be read
    /// is not remembered: permissions change.
    pub(super) fn of(
        &self,
        file: File,
        search: Search,
        find: impl FnOnce(File) -> io::Result<Option<Version>>,
    ) -> Option<Version> {
        let file = read::regular(file).ok()?;
        let data = file.metadata().ok()?;
        let key = (data.dev(), data.ino(), data.size(), data.mtime());
        if let Some(version) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *version;
        }
        if search == Search::Known {
            return None;
        }
        let version = find(file).ok()?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= VERSIONS_LIMIT {
            known.clear();
        }
        known.insert(key, version);
        version
    }
}

/// The version of a `node` executable or libnode: the marker that `process.release` and the
/// inspector's `/json/version` use. Headers beside it could be another build's.
pub(super) fn node_version(file: File) -> io::Result<Option<Version>> {
    const MARKER: &[u8] = b"node.js/v";
    let finder = memmem::Finder::new(MARKER);
    scan(file, |window| {
        finder.find_iter(window).find_map(|at| {
            let version = window.get(at + MARKER.len()..)?;
            let (version, _) = full_version(version)?;
            Some(version)
        })
    })
}

/// The exact version of CPython `minor`: the exported `Py_Version` (3.11 and later), else the
/// `PY_VERSION` string among the image's constants.
pub(super) fn python_version(file: File, minor: Version) -> io::Result<Option<Version>> {
    let fits = |version: &Version| version.major == minor.major && version.minor == minor.minor;
    if let Some(version) = python_symbol(file.try_clone()?).filter(fits) {
        return Ok(Some(version));
    }
    let prefix = format!("{}.{}.", minor.major, minor.minor);
    let finder = memmem::Finder::new(&prefix);
    // The linker may have merged PY_VERSION into the tail of the installation's prefix
    // ("/opt/python/3.9.18"), so what precedes it says nothing; the NUL after it does.
    let mut file = file;
    io::Seek::rewind(&mut file)?;
    let found = scan(file, |window| {
        finder.find_iter(window).find_map(|at| {
            let before = at.checked_sub(1).and_then(|before| window.get(before))?;
            let (version, rest) = full_version(window.get(at..)?)?;
            let rest = rest.strip_prefix(b"+").unwrap_or(rest);
            let whole = matches!(before, 0 | b'/' | b'-') && rest.first() == Some(&0);
            whole.then_some(version)
        })
    })?;
    Ok(Some(found.filter(fits).unwrap_or(minor)))
}

/// `const unsigned long Py_Version = PY_VERSION_HEX` (Include/pylifecycle.h, Python/getversion.c).
fn python_symbol(file: File) -> Option<Version> {
    let cache = ReadCache::new(file);
    let budget = std::cell::Cell::new(ELF_READS_LIMIT);
    let bounded = Bounded { cache: &cache, reads_left: &budget };
    let elf = object::read::elf::ElfFile64::<object::Endianness, _>::parse(bounded).ok()?;
    let address = elf
        .dynamic_symbols()
        .find(|symbol| symbol.name_bytes().is_ok_and(|name| name == b"Py_Version"))?
        .address();
    let segment = elf.elf_program_headers().iter().find_map(|header| {
        let endian = elf.endian();
        let start = header.p_vaddr.get(endian);
        let inside = header.p_type.get(endian) == object::elf::PT_LOAD
            && address >= start
            && address - start < header.p_filesz.get(endian);
        inside.then(|| header.p_offset.get(endian).checked_add(address - start))
    });
    let bytes: [u8; 4] = bounded.read_bytes_at(segment??, 4).ok()?.try_into().ok()?;
    let number = match elf.endian() {
        object::Endianness::Little => u32::from_le_bytes(bytes),
        object::Endianness::Big => return None,
    };
    let [major, minor, patch, _] = number.to_be_bytes();
    Some(Version { major: major.into(), minor: minor.into(), patch: Some(patch.into()) })
}

/// An ELF file that cannot make its reader allocate what a header claims.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    cache: &'a ReadCache<File>,
    reads_left: &'a std::cell::Cell<u32>,
}

impl Bounded<'_> {
    fn spend(&self, size: u64) -> Result<(), ()> {
        let left = self.reads_left.get().checked_sub(1).ok_or(())?;
        self.reads_left.set(left);
        if size > ELF_READ_LIMIT_BYTES { Err(()) } else { Ok(()) }
    }
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.spend(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.spend(0)?;
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

/// Streams a file past `find` in overlapping windows until it finds something.
fn scan<T>(file: File, find: impl Fn(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
    let mut file = file.take(IMAGE_LIMIT_BYTES);
    let mut window: Vec<u8> = Vec::with_capacity(CHUNK_BYTES + OVERLAP_BYTES);
    loop {
        let keep_from = window.len().saturating_sub(OVERLAP_BYTES);
        window.drain(..keep_from);
        let read = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut window)?;
        if read == 0 {
            return Ok(None);
        }
        if let Some(found) = find(&window) {
            return Ok(Some(found));
        }
    }
}

/// `X.Y.Z` at the start of `bytes`, with what follows it. The byte after the last digit must be
/// there: at a window's edge a version could be longer than it looks.
fn full_version(bytes: &[u8]) -> Option<(Version, &[u8])> {
    let (major, rest) = number(bytes)?;
    let (minor, rest) = number(rest.strip_prefix(b".")?)?;
    let (patch, rest) = number(rest.strip_prefix(b".")?)?;
    Some((Version { major, minor, patch: Some(patch) }, rest))
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let digits = std::str::from_utf8(bytes.get(..end)?).ok()?;
    Some((digits.parse().ok()?, bytes.get(end..)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn image(exe: &str, mapped: &[&str]) -> Image {
        detect(Path::new(exe), &mapped.iter().map(PathBuf::from).collect())
    }

    fn minor(minor: u32) -> Option<Version> {
        Some(Version { major: 3, minor, patch: None })
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    #[test]
    fn executables_and_libraries_tell_the_runtime() {
        assert_eq!(image("/usr/bin/node", &[]), Image::Node(None));
        assert_eq!(image("/opt/node-20.1/bin/nodejs", &[]), Image::Node(None));
        assert_eq!(
            image("/usr/bin/node", &["/lib/libnode.so.108"]),
            Image::Node(Some("/lib/libnode.so.108".into()))
        );
        assert_eq!(image("/usr/bin/node_exporter", &[]), Image::Other);
        assert_eq!(image("/usr/bin/python3.11", &[]), Image::Python(None, minor(11)));
        assert_eq!(
            image("/x/python", &["/usr/lib/python3.9/lib-dynload/_ssl.so"]),
            Image::Python(None, minor(9))
        );
        let library = "/usr/lib/libpython3.7m.so.1.0";
        assert_eq!(
            image("/usr/bin/uwsgi", &[library]),
            Image::Python(Some(library.into()), minor(7))
        );
        assert_eq!(image("/usr/bin/pypy3", &[]), Image::Other);
        assert_eq!(image("/usr/bin/python2.7", &[]), Image::Other);
        assert_eq!(image("/usr/bin/pythonic", &[]), Image::Other);
    }

    #[test]
    fn a_marker_across_two_reads_is_found() {
        for shift in 0..24 {
            let mut content = vec![b'x'; CHUNK_BYTES - shift];
            content.extend_from_slice(b"node.js/v20.11.1\0");
            let version = Version { major: 20, minor: 11, patch: Some(1) };
            assert_eq!(node_version(file(&content)).unwrap(), Some(version), "{shift}");
        }
        assert_eq!(node_version(file(b"node.js/vX node.js/v20.1")).unwrap(), None);
    }

    #[test]
    fn a_python_without_the_symbol_tells_by_its_constants() {
        let wanted = Version { major: 3, minor: 9, patch: None };
        let exact = Version { patch: Some(18), ..wanted };
        let found = |content: &[u8]| python_version(file(content), wanted).unwrap();
        assert_eq!(found(b"/usr/src/Python-3.9.1/x\0/opt/3.9.18\0"), Some(exact));
        assert_eq!(found(b"a\x003.9.18+\0"), Some(exact));
        assert_eq!(found(b"a\x003.9.18\n13.9.1\0"), Some(wanted), "nothing that ends as it should");
    }

    #[test]
    fn an_elf_file_that_lies_is_no_reason_to_allocate() {
        // A 64-bit header that claims a section table and symbols far beyond the file.
        let mut content = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".to_vec();
        content.resize(64, 0xff);
        assert_eq!(python_symbol(file(&content)), None);
    }

    /// The version that the interpreter on this machine reports about itself, if there is one.
    fn ask(program: &str, arguments: &[&str]) -> Option<(PathBuf, String)> {
        let output = std::process::Command::new(program).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (path, version) = text.trim().split_once(' ')?;
        Some((PathBuf::from(path), version.to_owned()))
    }

    #[test]
    fn the_real_node_agrees() {
        let script = "process.stdout.write(process.execPath + ' ' + process.versions.node)";
        let Some((path, version)) = ask("node", &["-e", script]) else { return };
        let found = node_version(File::open(path).unwrap()).unwrap().unwrap();
        assert_eq!(found.to_string(), version);
    }

    #[test]
    fn the_real_python_agrees() {
        let script = "import os, sys, platform\n\
            maps = [line.split()[-1] for line in open('/proc/self/maps') if 'libpython' in line]\n\
            print(maps[0] if maps else os.path.realpath('/proc/self/exe'), platform.python_version())";
        let Some((path, version)) = ask("python3", &["-c", script]) else { return };
        let parts: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
        let [major, minor, _] = parts[..] else { return };
        let wanted = Version { major, minor, patch: None };
        let found = python_version(File::open(path).unwrap(), wanted).unwrap().unwrap();
        assert_eq!(found.to_string(), version);
    }
}
