//! Whether the configuration file changed, or one that it names for what is to stand in it.
//!
//! Looked at from time to time, by name: that finds what an editor puts in its place, what a link is turned to (as
//! a Kubernetes ConfigMap's is) and a file system that tells of no changes. A file that is being written changes
//! from one look to the next, and counts as changed when it has come to rest.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another: device, inode, length, time of change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// A file that is looked at, and those that it names.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    named: Vec<PathBuf>,
    known: Vec<Stamp>,
    last: Vec<Stamp>,
}

impl Watch {
    /// A file that was read just now, with those that it named.
    pub fn new(path: &Path, named: Vec<PathBuf>) -> Self {
        let (known, last) = (Vec::new(), Vec::new());
        let mut watch = Self { path: path.to_owned(), named, known, last };
        watch.reads();
        watch
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks. Whether it is another than was known, and the same as at the last look.
    pub fn has_changed(&mut self) -> bool {
        let now = self.stamps();
        let rests = now == self.last;
        let changed = rests && now != self.known;
        if changed {
            self.known.clone_from(&now);
        }
        self.last = now;
        changed
    }

    /// It is read now, whether it changed or not.
    pub fn reads(&mut self) {
        self.known = self.stamps();
        self.last.clone_from(&self.known);
    }

    /// It was read just now, and named these files.
    pub fn names(&mut self, files: Vec<PathBuf>) {
        if files != self.named {
            self.named = files;
            // Of those that it named before too, a change meanwhile is passed over with the others'.
            self.reads();
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        std::iter::once(&self.path).chain(&self.named).map(|path| stamp(path)).collect()
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
        let mut watch = Watch::new(&path, Vec::new());
        assert!(!watch.has_changed());
        std::fs::write(&path, "ab").unwrap();
        assert!(!watch.has_changed(), "it may be written still");
        std::fs::write(&path, "abc").unwrap();
        assert!(!watch.has_changed(), "it was");
        assert!(watch.has_changed());
        assert!(!watch.has_changed(), "once");
    }

    #[test]
    fn a_file_that_it_names_is_looked_at_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let [path, first, second] = ["wirespan.yaml", "a", "b"].map(|name| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            path
        });
        let mut watch = Watch::new(&path, vec![first.clone()]);
        let changed = |watch: &mut Watch| (0..2).any(|_| watch.has_changed());
        std::fs::write(&first, "another").unwrap();
        assert!(changed(&mut watch));
        watch.names(vec![second.clone()]);
        std::fs::write(&first, "a third").unwrap();
        assert!(!changed(&mut watch), "it isn't named any more");
        std::fs::remove_file(&second).unwrap();
        assert!(changed(&mut watch));
    }

    #[test]
    fn what_is_put_in_its_place_is_a_change_and_so_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wirespan.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(&path, Vec::new());
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
