//! Whether the configuration file changed.
//!
//! Looked at from time to time, by name: that finds what an editor puts in its place, what a link is turned to (as
//! a Kubernetes ConfigMap's is) and a file system that tells of no changes. A file that is being written changes
//! from one look to the next, and counts as changed when it has come to rest.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another: device, inode, length, time of change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// A file that is looked at.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    known: Stamp,
    last: Stamp,
}

impl Watch {
    /// A file that was read just now.
    pub fn new(path: &Path) -> Self {
        let known = stamp(path);
        Self { path: path.to_owned(), known, last: known }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks. Whether it is another than was known, and the same as at the last look.
    pub fn has_changed(&mut self) -> bool {
        let now = stamp(&self.path);
        let rests = std::mem::replace(&mut self.last, now) == now;
        let changed = rests && now != self.known;
        if changed {
            self.known = now;
        }
        changed
    }

    /// It is read now, whether it changed or not.
    pub fn reads(&mut self) {
        self.known = stamp(&self.path);
        self.last = self.known;
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_when_it_rests() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wirespan.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(&path);
        assert!(!watch.has_changed());
        std::fs::write(&path, "ab").unwrap();
        assert!(!watch.has_changed(), "it may be written still");
        std::fs::write(&path, "abc").unwrap();
        assert!(!watch.has_changed(), "it was");
        assert!(watch.has_changed());
        assert!(!watch.has_changed(), "once");
    }

    #[test]
    fn what_is_put_in_its_place_is_a_change_and_so_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wirespan.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(&path);
        let mut changed = || (0..2).any(|_| watch.has_changed());
        let other = directory.path().join("other");
        std::fs::write(&other, "a").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(changed());
        std::fs::remove_file(&path).unwrap();
        assert!(changed());
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(!changed());
    }
}
