//! What a process holds in the kernel, and whether that is still there.

use std::collections::BTreeSet;
use std::fs;

use wirespan_tests::sys::{self, BpfObject};

/// Programs, maps and links that a process holds descriptors of, by kind and number.
pub(crate) fn held(pid: u32) -> BTreeSet<(BpfObject, u32)> {
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        // One may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
        let fields: Vec<(&str, &str)> =
            text.lines().filter_map(|line| line.split_once(':')).collect();
        let number = |key: &str| {
            let value = fields.iter().find(|(name, _)| *name == key)?.1;
            value.trim().parse::<u32>().ok()
        };
        // A link names its program too, which is the program's own line elsewhere.
        let kinds = [
            ("link_id", BpfObject::Link),
            ("prog_id", BpfObject::Program),
            ("map_id", BpfObject::Map),
        ];
        for (key, kind) in kinds {
            held.extend(number(key).map(|id| (kind, id)));
        }
    }
    held
}

/// Those of them that exist now.
pub(crate) fn existing(objects: &BTreeSet<(BpfObject, u32)>) -> BTreeSet<(BpfObject, u32)> {
    let kinds = [BpfObject::Program, BpfObject::Map, BpfObject::Link];
    let all: BTreeSet<(BpfObject, u32)> = kinds
        .into_iter()
        .flat_map(|kind| sys::bpf_ids(kind).unwrap().into_iter().map(move |id| (kind, id)))
        .collect();
    objects.intersection(&all).copied().collect()
}

/// The files in the BPF file system, where one is mounted.
pub(crate) fn pinned() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/fs/bpf").into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
