//! A thread that writes for an exporter: blocking I/O stays off the runtime's threads.
//!
//! Part of the export stage. Its own thread and not the runtime's blocking pool, because a write that
//! never returns (a terminal that is stopped, a file server that is gone) must not keep the agent from
//! ending. One job at a time; queues nothing.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

/// What bytes are written to.
pub(super) trait Sink: Send + 'static {
    /// Writes all of `bytes`, which end a line, and hands them to the system.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The async side of a writing thread; the thread ends when this is dropped.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    bytes: Vec<u8>,
    done: oneshot::Sender<io::Result<()>>,
}

impl Writer {
    /// Starts a thread named `name`, which owns `sink`.
    pub(super) fn start(name: &str, mut sink: impl Sink) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let work = move || {
            while let Ok(job) = inbox.recv() {
                let result = sink.put(&job.bytes);
                if job.done.send(result).is_err() {
                    // The exporter was stopped: it has counted these bytes as refused.
                    tracing::debug!("a write ended after its exporter");
                }
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// Writes all of `bytes`.
    pub(super) async fn put(&self, bytes: Vec<u8>) -> io::Result<()> {
        let gone = || io::Error::other("the writing thread has ended");
        let (done, result) = oneshot::channel();
        if self.jobs.send(Job { bytes, done }).is_err() {
            return Err(gone());
        }
        result.await.unwrap_or_else(|_| Err(gone()))
    }
}
