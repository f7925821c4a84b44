//! tar and gzip with nothing in them that differs from one build to the next.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

/// A file of a package.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where it goes, from the root, without a leading slash. With one at its end it is a directory.
    pub(super) path: String,
    /// Its permissions.
    pub(super) mode: u32,
    /// What is in it.
    pub(super) content: Vec<u8>,
}

impl Entry {
    /// A file that everybody may read.
    pub(super) fn new(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, content: content.into() }
    }

    /// The same with other permissions.
    pub(super) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// The directories that lead to these files, each once, parents first.
pub(super) fn directories(entries: &[Entry]) -> BTreeSet<String> {
    let mut directories = BTreeSet::new();
    for entry in entries {
        let own = usize::from(!entry.path.ends_with('/'));
        let above = Path::new(&entry.path).ancestors().skip(own);
        directories.extend(above.map(|path| path.display().to_string()));
    }
    directories.remove("");
    directories
}

/// A tar archive of files and their directories, all root's, each name behind `prefix`.
pub(super) fn tar(prefix: &str, time: u64, entries: &[Entry]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(time);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, format!("{prefix}{name}"), content)
    };
    for directory in directories(entries) {
        add(&format!("{directory}/"), tar::EntryType::Directory, 0o755, &[])
            .with_context(|| format!("archive {directory}"))?;
    }
    for entry in entries.iter().filter(|entry| !entry.path.ends_with('/')) {
        add(&entry.path, tar::EntryType::Regular, entry.mode, &entry.content)
            .with_context(|| format!("archive {}", entry.path))?;
    }
    builder.into_inner().context("archive")
}

/// The same bytes, compressed, without a name or a time.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes).context("compress")?;
    encoder.finish().context("compress")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_once_and_before_what_is_in_them() {
        let entries = [Entry::new("usr/bin/a", "a"), Entry::new("usr/bin/b", "b").mode(0o755)];
        let bytes = tar("top/", 7, &entries).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let shown: Vec<(String, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                (path, header.mode().unwrap(), header.mtime().unwrap())
            })
            .collect();
        let names: Vec<&str> = shown.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(names, ["top/usr/", "top/usr/bin/", "top/usr/bin/a", "top/usr/bin/b"]);
        assert_eq!(
            shown.iter().map(|(_, mode, _)| *mode).collect::<Vec<_>>(),
            [0o755, 0o755, 0o644, 0o755]
        );
        assert!(shown.iter().all(|(.., time)| *time == 7));
        assert_eq!(gzip(&bytes).unwrap(), gzip(&tar("top/", 7, &entries).unwrap()).unwrap());
    }
}
