//! Export: finished spans leave the agent, over OTLP (gRPC or HTTP), into a JSON-lines file, onto a console.
//!
//! The last stage. Each exporter has its own bounded queue and its own tasks, so that none can stall
//! another or the pipeline; what cannot leave is counted with a reason, never lost silently. Nothing
//! here samples or changes a span.

mod books;
mod console;
mod disk;
mod file;
mod grpc;
mod http;
mod options;
mod otlp;
mod proxy;
mod queue;
mod retry;
mod sender;
mod spool;
mod tap;
mod target;
#[cfg(test)]
pub(crate) mod testing;
mod text;
mod top;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

pub use self::books::{DiskBooks, ExporterBooks, Refusal, Refused};
pub use self::disk::{DiskOptions, DiskRoom, probe_disk};
pub use self::options::{
    Compression, Endpoint, OptionsError, OtlpOptions, Protocol, RetryPolicy, is_header,
};
use self::queue::Queue;
use self::tap::Taps;
pub use self::tap::{Tap, TapRequest};
pub use self::target::{Color, ConsoleOptions, Target, TargetError};
pub use self::top::{FRAME, Sort, TopRequest};
use crate::span::Span;

/// What receivers are told of who sends.
const USER_AGENT: &str = concat!("wirespan/", env!("CARGO_PKG_VERSION"));

/// The bounds of each exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Spans that one exporter may hold: waiting, in flight and held back. More are refused.
    pub queue_spans: usize,
    /// Spans in one OTLP request or one line of a file, at most.
    pub batch_spans: usize,
    /// How long a request that is not full waits for more spans.
    pub linger: Duration,
    /// OTLP requests in flight at once: what keeps spans flowing to a receiver that is far away.
    pub concurrent_requests: usize,
    /// Traces that the console holds until they are whole, at most.
    pub held_traces: usize,
}

impl Default for Limits {
    /// 16,384 spans an exporter: at 8,000 spans a second, the 2 s that a slow receiver may take.
    fn default() -> Self {
        Self {
            queue_spans: 16_384,
            batch_spans: 512,
            linger: Duration::from_millis(200),
            concurrent_requests: 4,
            held_traces: 1_024,
        }
    }
}

/// Whether spans can go to a target now: an OTLP receiver is sent an empty request, a file is opened.
///
/// # Errors
/// Why they can't, without credentials.
pub async fn probe(target: &Target) -> Result<(), String> {
    match target {
        Target::Console(_) => Ok(()),
        Target::File(path) => file::probe(path).map_err(|error| error.to_string()),
        Target::Otlp(options) => sender::probe(options).await,
    }
}

/// The running exporters. Dropping this stops them at once; [`Exporters::shutdown`] lets them finish.
#[derive(Debug)]
pub struct Exporters {
    handle: ExportHandle,
    tasks: JoinSet<()>,
}

/// A way to the running exporters that can be shared among threads; it outlives them, and counts what
/// it is offered after their end as [`Refusal::Shutdown`].
#[derive(Clone, Debug)]
pub struct ExportHandle {
    queues: Arc<[Arc<Queue>]>,
    taps: Taps,
}

impl Exporters {
    /// Starts an exporter for each target on `runtime`. Nothing is connected yet: a receiver may
    /// appear later.
    ///
    /// # Errors
    /// A file that cannot be opened, a certificate that cannot be read, a thread that cannot start.
    pub fn start(targets: Vec<Target>, runtime: &Handle, limits: Limits) -> anyhow::Result<Self> {
        let mut queues = Vec::new();
        let mut tasks = JoinSet::new();
        for target in targets {
            let name = target.name();
            let queue = Queue::new(name.clone(), limits.queue_spans);
            queues.push(Arc::clone(&queue));
            match target {
                Target::Console(options) => {
                    let console = console::Console::to_stdout(&options, limits)
                        .with_context(|| format!("cannot start exporter {name}"))?;
                    tasks.spawn_on(console.run(queue), runtime);
                }
                Target::File(path) => {
                    let file = file::JsonLines::open(&path, limits)
                        .with_context(|| format!("cannot start exporter {name}"))?;
                    tasks.spawn_on(file.run(queue), runtime);
                }
                Target::Otlp(options) => {
                    let client = {
                        // A channel's own task starts with it.
                        let _context = runtime.enter();
                        sender::Client::new(&options)
                            .with_context(|| format!("cannot start exporter {name}"))?
                    };
                    if let Some(disk) = &options.disk_queue {
                        let spool = spool::Spool::new(client, &options, disk.clone(), limits);
                        tasks.spawn_on(spool.run(queue), runtime);
                        tracing::info!(exporter = name, "exporter started");
                        continue;
                    }
                    let sender = sender::Sender::new(client, &options, limits);
                    for _ in 0..limits.concurrent_requests.max(1) {
                        tasks.spawn_on(sender.clone().run(Arc::clone(&queue)), runtime);
                    }
                }
            }
            tracing::info!(exporter = name, "exporter started");
        }
        Ok(Self { handle: ExportHandle { queues: queues.into(), taps: Taps::default() }, tasks })
    }

    /// See [`ExportHandle::offer`].
    pub fn offer(&self, batch: &Arc<[Span]>) {
        self.handle.offer(batch);
    }

    /// See [`ExportHandle::books`].
    pub fn books(&self) -> Vec<ExporterBooks> {
        self.handle.books()
    }

    /// A handle for another thread.
    pub fn handle(&self) -> ExportHandle {
        self.handle.clone()
    }

    /// Accepts no more, sends what is queued without waiting for fuller batches, and stops. What is
    /// not out within `deadline` is on disk then where there is a disk queue, for which the last fifth of the time
    /// is kept, else counted as [`Refusal::Shutdown`]. The books are final.
    pub async fn shutdown(mut self, deadline: Duration) -> Vec<ExporterBooks> {
        for queue in self.handle.queues.iter() {
            queue.close(Refusal::Shutdown);
        }
        let finish = async {
            let sending = async { while self.tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(deadline / 5 * 4, sending).await.is_ok() {
                return;
            }
            for queue in self.handle.queues.iter() {
                queue.hurry();
            }
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(deadline, finish).await.is_err() {
            tracing::warn!("exporters did not finish in time; what is left is refused");
        }
        // Stopped tasks drop their claims, which counts what they were still sending.
        self.tasks.shutdown().await;
        for queue in self.handle.queues.iter() {
            queue.refuse_waiting(Refusal::Shutdown);
        }
        self.handle.books()
    }
}

impl ExportHandle {
    /// Offers a batch to every exporter. Never waits; an exporter whose queue is full refuses what it
    /// has no room for, and counts it.
    pub fn offer(&self, batch: &Arc<[Span]>) {
        for queue in self.queues.iter() {
            queue.offer(batch);
        }
        self.taps.offer(batch);
    }

    /// A way to see what is offered from now on; `None`: too many look already.
    pub fn tap(&self) -> Option<Tap> {
        self.taps.open()
    }

    /// Every exporter's books, each as of one instant.
    pub fn books(&self) -> Vec<ExporterBooks> {
        self.queues.iter().map(|queue| queue.books()).collect()
    }
}

#[cfg(test)]
mod tests;
