//! The directory of a disk queue: nobody else's, and one agent's at a time.
//!
//! Part of the disk queue. Spans may hold users' data: the directory is the agent's alone (0700), files are 0600, and
//! no symbolic link is followed, the directory itself included. All names are looked up in the directory that was
//! opened, whatever becomes of its path.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

/// Whoever holds the lock of this file uses the directory.
const LOCK: &str = "lock";

/// How often the lock is tried, and the pause between: a child of a former agent that was killed, or of this one,
/// holds it until it has become its program.
const LOCK_TRIES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Of a file system that much is left to others: the share, and the most that this is.
const LEFT_SHARE: u64 = 20;
const LEFT_LIMIT_BYTES: u64 = 1 << 30;

/// Why a directory can't be used. Each says what helps.
#[derive(Debug, Error)]
pub(super) enum DirectoryError {
    #[error("{} is a symbolic link, or no directory: name the directory itself", .0.display())]
    NoDirectory(PathBuf),
    #[error(
        "{} may be used by others (owner {owner}, mode {mode:04o}): name one that is not there, or make it the agent's with mode 0700",
        .path.display()
    )]
    Shared { path: PathBuf, owner: u32, mode: u32 },
    #[error("{} is used by another agent or another exporter", .0.display())]
    Taken(PathBuf),
    #[error("cannot use {}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// What a file system has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes that are free for the agent.
    pub(super) free_bytes: u64,
    /// Bytes of these that are left to others.
    pub(super) left_bytes: u64,
}

/// An open directory, locked.
#[derive(Debug)]
pub(super) struct Directory {
    directory: OwnedFd,
    /// Held until the value is gone, or the process.
    _lock: OwnedFd,
}

impl Directory {
    /// Opens it for this agent alone; makes it, and what is missing above it, if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let io = |error: io::Error| DirectoryError::Io { path: path.to_owned(), error };
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
            _ => {}
        }
        let directory = opened(path)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&directory, LOCK, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| io(error.into()))?;
        for _ in 0..LOCK_TRIES {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { directory, _lock: lock }),
                Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(io(error.into())),
            }
        }
        Err(DirectoryError::Taken(path.to_owned()))
    }

    /// Names of what is in it, as far as they are text.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// A new file.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(file.into())
    }

    /// A file that is there, and is a regular one.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        // Not blocking: what was put there may be a pipe.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?.into();
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn space(&self) -> io::Result<Space> {
        Ok(Space::of(&rustix::fs::fstatvfs(&self.directory)?))
    }
}

impl Space {
    fn of(system: &rustix::fs::StatVfs) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        Self {
            free_bytes: bytes(system.f_bavail),
            left_bytes: (bytes(system.f_blocks) / LEFT_SHARE).min(LEFT_LIMIT_BYTES),
        }
    }
}

/// Whether it could be opened, and what room there is, without making or locking anything.
pub(super) fn probe(path: &Path) -> Result<Space, DirectoryError> {
    let io = |error: io::Error| DirectoryError::Io { path: path.to_owned(), error };
    let there = if path.symlink_metadata().is_ok() {
        opened(path)?;
        path
    } else {
        path.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"))
    };
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(there, access).map_err(|error| io(error.into()))?;
    let system = rustix::fs::statvfs(there).map_err(|error| io(error.into()))?;
    Ok(Space::of(&system))
}

/// The bytes that a queue there takes already.
pub(super) fn used_bytes(path: &Path, is_ours: impl Fn(&OsStr) -> bool) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| is_ours(&entry.file_name()));
    ours.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// The directory, if it is the agent's alone.
fn opened(path: &Path) -> Result<OwnedFd, DirectoryError> {
    let io = |error: io::Error| DirectoryError::Io { path: path.to_owned(), error };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::LOOP | Errno::NOTDIR) => {
            return Err(DirectoryError::NoDirectory(path.to_owned()));
        }
        Err(error) => return Err(io(error.into())),
    };
    let directory = File::from(directory);
    let metadata = directory.metadata().map_err(io)?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != rustix::process::geteuid().as_raw() || mode & 0o077 != 0 {
        return Err(DirectoryError::Shared { path: path.to_owned(), owner, mode });
    }
    Ok(directory.into())
}
