//! Bounded reads of foreign files: `/proc` entries and files inside a process's own root.
//!
//! Nothing here trusts a file's size or kind, and a path inside a container is resolved in that
//! container: a link in there cannot lead out of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// At most the first `limit_bytes` of a file.
pub(super) fn bounded(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    bounded_file(&open(path)?, limit_bytes)
}

/// At most the next `limit_bytes` of an open file.
pub(super) fn bounded_file(file: &File, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file that is opened without waiting for anybody: a FIFO with no writer must not hang the agent.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Opens the regular file at `inner` as a process sees it, `root` being its `/proc/PID/root`.
///
/// # Errors
/// Whatever `openat2` says (Linux 5.6), and `InvalidInput` for anything but a regular file.
pub(super) fn open_in_root(root: &Path, inner: &Path) -> io::Result<File> {
    let directory =
        File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    let descriptor = rustix::fs::openat2(
        &directory,
        inner,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    regular(File::from(descriptor))
}

/// Refuses what is no regular file: a device may block or never end.
pub(super) fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_inside_a_root_stays_inside() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("rootfs");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(directory.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("secret"), "inside").unwrap();
        std::os::unix::fs::symlink("/secret", root.join("etc/absolute")).unwrap();
        std::os::unix::fs::symlink("../../../secret", root.join("etc/relative")).unwrap();
        for name in ["/etc/absolute", "/etc/relative"] {
            let file = open_in_root(&root, Path::new(name)).unwrap();
            assert_eq!(bounded_file(&file, 100).unwrap(), b"inside");
        }
        assert!(open_in_root(&root, Path::new("/etc")).is_err(), "a directory is refused");
    }

    #[test]
    fn a_read_ends_at_its_limit() {
        assert_eq!(bounded(Path::new("/dev/zero"), 10).unwrap().len(), 10);
    }
}
