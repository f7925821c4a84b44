//! Where the probes of one process go.

use std::fs::File;

use object::read::elf::ElfFile64;
use object::read::{Object, ObjectSymbol, ReadCache};

use super::image::Image;
use super::layout::Found;
use super::memory::{Mapping, Memory};
use super::methods::{self, FAST, KEYWORDS, ONE};
use super::sight;
use crate::capture::{PythonProbe, PythonProbePoint};

/// The extension modules that are probed as well, by the names of their files. `_queue` may be a part of
/// CPython's image.
const QUEUE: &str = "_queue.";
const UVLOOP: &str = "loop.cpython-";
const PICKLE: &str = "_pickle.";

/// Follows the end of a round of uvloop's reads.
const UVLOOP_TURN: &str = "uv__run_check";

/// What contexts need: nothing can be followed without it.
pub(super) fn of_contexts(memory: &Memory, image: &Image, found: &Found) -> Vec<PythonProbePoint> {
    let mut points: Vec<PythonProbePoint> = Vec::new();
    let seen = sight::of(image.copy_current, |address, limit| memory.code_at(address, limit));
    for sight in seen.into_iter().flatten() {
        let register = u64::from(sight.register);
        add(&mut points, point(memory, PythonProbe::ContextSeen, sight.address, register));
    }
    if points.is_empty() {
        points.extend(point(memory, PythonProbe::ContextCopied, image.copy_current, 0));
    }
    for address in image.makers.iter().chain(&found.makers) {
        add(&mut points, point(memory, PythonProbe::ContextMade, *address, 0));
    }
    points
}

/// Work that is handed to threads: `SimpleQueue`, which `ThreadPoolExecutor` uses.
pub(super) fn of_queues(memory: &Memory, image: &Image) -> Vec<PythonProbePoint> {
    let module = of_file(memory, |mapping| mapping.name().starts_with(QUEUE));
    let image = if module.is_empty() { &image.mappings } else { &module };
    let mut points = Vec::new();
    let gets = methods::find(memory, image, "get_nowait");
    // Only a type that has all three.
    let [get_nowait] = gets.as_slice() else { return points };
    let near = |name: &str| {
        let mut found = methods::find(memory, image, name);
        found.sort_by_key(|method| method.function.abs_diff(get_nowait.function));
        found.first().map(|method| method.function)
    };
    let (Some(put), Some(get)) = (near("put"), near("get")) else { return points };
    add(&mut points, point(memory, PythonProbe::ItemPut, put, 0));
    add(&mut points, point(memory, PythonProbe::ItemGot, get, 0));
    add(&mut points, point(memory, PythonProbe::ItemGot, get_nowait.function, 0));
    points
}

/// Jobs that a child of a pool is given: `_pickle.load`, and whatever else takes a file and keywords under this name;
/// and `Pickler.dump`, by which it says what became of them. Only both.
pub(super) fn of_jobs(memory: &Memory, image: &Image) -> Vec<PythonProbePoint> {
    let module = of_file(memory, |mapping| mapping.name().starts_with(PICKLE));
    let image = if module.is_empty() { &image.mappings } else { &module };
    let mut points = Vec::new();
    for (name, flags, probe) in
        [("dump", ONE, PythonProbe::JobDone), ("load", FAST | KEYWORDS, PythonProbe::JobLoaded)]
    {
        let before = points.len();
        for method in methods::find(memory, image, name) {
            if method.flags == flags {
                add(&mut points, point(memory, probe, method.function, 0));
            }
        }
        if points.len() == before {
            return Vec::new();
        }
    }
    points
}

/// What uvloop's probes are, if it is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uvloop {
    pub(super) turn: Vec<PythonProbePoint>,
    /// Empty where it writes at once.
    pub(super) writes: Vec<PythonProbePoint>,
}

/// Of uvloop; `None`: it is not loaded.
pub(super) fn of_uvloop(memory: &Memory) -> Option<Uvloop> {
    let module = of_file(memory, |mapping| {
        let parent = mapping.path.parent().and_then(|parent| parent.file_name());
        mapping.name().starts_with(UVLOOP) && parent.is_some_and(|parent| parent == "uvloop")
    });
    let code = module.iter().find(|mapping| mapping.executable)?;
    let mut uvloop = Uvloop::default();
    if let Some(offset) = symbol(code, UVLOOP_TURN) {
        let probe = PythonProbe::UvloopTurn;
        uvloop.turn.push(PythonProbePoint { probe, file: code.link.clone(), offset, cookie: 0 });
    }
    for name in ["write", "writelines"] {
        for method in methods::find(memory, &module, name) {
            let cookie = match method.flags {
                flags if flags & FAST != 0 => 1,
                flags if flags & ONE != 0 => 0,
                _ => continue,
            };
            let found = point(memory, PythonProbe::UvloopWrite, method.function, cookie);
            add(&mut uvloop.writes, found);
        }
    }
    Some(uvloop)
}

/// Whether gevent is loaded: then what no context tells the greenlet's stack does.
pub(super) fn has_greenlets(memory: &Memory) -> bool {
    memory.mappings.iter().any(|mapping| {
        let parent = mapping.path.parent().and_then(|parent| parent.file_name());
        mapping.executable && parent.is_some_and(|parent| parent == "gevent")
    })
}

fn of_file(memory: &Memory, wanted: impl Fn(&Mapping) -> bool) -> Vec<Mapping> {
    let first = memory.mappings.iter().find(|mapping| wanted(mapping));
    let path = first.map(|mapping| &mapping.path);
    memory.mappings.iter().filter(|mapping| Some(&mapping.path) == path).cloned().collect()
}

/// Where in its file a symbol's code begins. From 0.23 uvloop's are its own, and in the full table alone.
fn symbol(code: &Mapping, name: &str) -> Option<u64> {
    let cache = ReadCache::new(File::open(&code.link).ok()?);
    let elf = ElfFile64::<object::Endianness, _>::parse(&cache).ok()?;
    let mut symbols = elf.dynamic_symbols().chain(elf.symbols());
    let symbol = symbols.find(|symbol| symbol.is_definition() && symbol.name() == Ok(name))?;
    let endian = elf.endian();
    elf.elf_program_headers().iter().find_map(|header| {
        let inside = symbol.address().checked_sub(header.p_vaddr.get(endian))?;
        (header.p_type.get(endian) == object::elf::PT_LOAD && inside < header.p_filesz.get(endian))
            .then(|| header.p_offset.get(endian).saturating_add(inside))
    })
}

fn point(
    memory: &Memory,
    probe: PythonProbe,
    address: u64,
    cookie: u64,
) -> Option<PythonProbePoint> {
    let code = memory.code(address)?;
    Some(PythonProbePoint {
        probe,
        file: code.link.clone(),
        offset: code.file_offset(address)?,
        cookie,
    })
}

fn add(points: &mut Vec<PythonProbePoint>, point: Option<PythonProbePoint>) {
    points.extend(point.filter(|point| !points.contains(point)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_that_is_not_exported_is_found() {
        let link = std::path::PathBuf::from("/proc/self/exe");
        let code = Mapping {
            addresses: 0..0,
            offset: 0,
            writable: false,
            executable: true,
            path: link.clone(),
            link,
        };
        // Where every program begins; its dynamic table has no use for it.
        assert!(symbol(&code, "_start").is_some());
        // It is only asked for.
        assert_eq!(symbol(&code, "malloc"), None);
        assert_eq!(symbol(&code, "no_such_function"), None);
    }
}
