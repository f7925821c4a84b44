//! The queue on disk that an OTLP exporter may have: where requests wait that its receiver does not take now.
//!
//! Part of the export stage. `disk/log.rs` has the files; here is its thread, because a disk may block, and nothing
//! of the runtime may. Not the runtime's blocking pool, because a disk that never answers must not keep the agent
//! from ending. When something goes to disk is `spool`'s.

mod directory;
mod frame;
mod log;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

pub(super) use self::log::{AppendError, Frame, Levels, Log};

/// A queue on disk, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// A directory of its own.
    pub directory: PathBuf,
    /// The most that its files may take.
    pub max_bytes: u64,
}

impl DiskOptions {
    /// The bound unless another is set: an hour of some 600 spans a second.
    pub const DEFAULT_BYTES: u64 = 1 << 30;
}

/// Room for a disk queue, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes that its file system has to give to it.
    pub room_bytes: u64,
    /// Bytes that it may still take.
    pub wanted_bytes: u64,
}

/// Whether a disk queue could be opened, and its room. Makes and locks nothing.
///
/// # Errors
/// Why it can't be, and what helps.
pub fn probe_disk(options: &DiskOptions) -> Result<DiskRoom, String> {
    let space = directory::probe(&options.directory).map_err(|error| error.to_string())?;
    let used = directory::used_bytes(&options.directory, log::is_segment);
    Ok(DiskRoom {
        room_bytes: space.free_bytes.saturating_sub(space.left_bytes),
        wanted_bytes: options.max_bytes.saturating_sub(used),
    })
}

type Job = Box<dyn FnOnce(&mut Log) + Send>;

/// The async side of a disk queue's thread, which ends when this is dropped.
pub(super) struct Disk {
    jobs: mpsc::Sender<Job>,
    ended: oneshot::Receiver<()>,
}

/// A disk queue that is being opened.
pub(super) struct Opening {
    disk: Disk,
    opened: oneshot::Receiver<Result<Levels, String>>,
}

impl Disk {
    /// Starts the thread, which opens the queue.
    pub(super) fn start(options: DiskOptions) -> io::Result<Opening> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell_opened, opened) = oneshot::channel();
        let (tell_ended, ended) = oneshot::channel();
        let work = move || {
            match Log::open(&options.directory, options.max_bytes) {
                Ok(mut log) => {
                    // Nobody listens any more where the exporter was stopped meanwhile: then there are no jobs.
                    drop(tell_opened.send(Ok(log.levels())));
                    while let Ok(job) = inbox.recv() {
                        job(&mut log);
                    }
                }
                Err(error) => drop(tell_opened.send(Err(error.to_string()))),
            }
            // Nobody waits for it where the exporter was stopped.
            tell_ended.send(()).ok();
        };
        thread::Builder::new().name("wirespan-disk".to_owned()).spawn(work)?;
        Ok(Opening { disk: Self { jobs, ended }, opened })
    }

    /// Has the thread do this; `None`: it has ended.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Log) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let job = Box::new(move |log: &mut Log| drop(tell.send(work(log))));
        self.jobs.send(job).ok()?;
        told.await.ok()
    }

    /// Ends the thread; the directory is free for another once this returns.
    pub(super) async fn close(self) {
        drop(self.jobs);
        // An error is an end as well.
        drop(self.ended.await);
    }
}

impl Opening {
    /// Waits until what was left there has been looked through.
    ///
    /// # Errors
    /// Why there is no disk queue.
    pub(super) async fn done(self) -> Result<(Disk, Levels), String> {
        let levels = self.opened.await;
        let levels = levels.unwrap_or_else(|_| Err("its thread has ended".to_owned()))?;
        Ok((self.disk, levels))
    }
}
