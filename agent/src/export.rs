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
mod outlets;
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

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub use self::books::{DiskBooks, ExporterBooks, Refusal, Refused};
pub use self::disk::{DiskOptions, DiskRoom, probe_disk};
pub use self::options::{
    Compression, Endpoint, OptionsError, OtlpOptions, Protocol, RetryPolicy, is_header,
};
use self::outlets::Outlets;
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

/// How long an exporter that was taken out of the configuration may take to send what it has.
const ENDING: Duration = Duration::from_secs(30);

/// The running exporters. Dropping this stops them at once; [`Exporters::shutdown`] lets them finish.
#[derive(Debug)]
pub struct Exporters {
    handle: ExportHandle,
    runtime: Handle,
    limits: Limits,
    running: Vec<Running>,
    /// Those that were replaced and still send what they have.
    ending: JoinSet<()>,
}

/// One of them.
#[derive(Debug)]
struct Running {
    target: Target,
    queue: Arc<Queue>,
    tasks: JoinSet<()>,
}

/// A way to the running exporters that can be shared among threads; it outlives them, and counts what
/// it is offered after their end as [`Refusal::Shutdown`].
#[derive(Clone, Debug)]
pub struct ExportHandle {
    outlets: Arc<Outlets>,
    taps: Taps,
}

impl Exporters {
    /// Starts an exporter for each target on `runtime`. Nothing is connected yet: a receiver may
    /// appear later.
    ///
    /// # Errors
    /// A file that cannot be opened, a certificate that cannot be read, a thread that cannot start.
    pub fn start(targets: Vec<Target>, runtime: &Handle, limits: Limits) -> anyhow::Result<Self> {
        let handle = ExportHandle { outlets: Arc::default(), taps: Taps::default() };
        let (running, ending) = (Vec::new(), JoinSet::new());
        let mut exporters = Self { handle, runtime: runtime.clone(), limits, running, ending };
        exporters.replace(targets, limits)?;
        Ok(exporters)
    }

    /// Runs these exporters instead. One that is the same as before runs on; another ends when it has sent what it
    /// has, or after [`ENDING`]. Each span is offered to those before or to those after, and none in between to
    /// nobody.
    ///
    /// # Errors
    /// As [`Exporters::start`]; then all is as it was.
    pub fn replace(&mut self, targets: Vec<Target>, limits: Limits) -> anyhow::Result<()> {
        while self.ending.try_join_next().is_some() {}
        let mut stays = vec![false; self.running.len()];
        let mut sinks = Vec::new();
        for target in targets {
            let mut before = self.running.iter().zip(&mut stays);
            let same = before.find(|(running, stays)| {
                limits == self.limits && !**stays && running.target == target
            });
            match same {
                Some((_, stays)) => *stays = true,
                None => sinks.push((Sink::open(&target, &self.runtime, limits)?, target)),
            }
        }
        self.limits = limits;
        let mut stays = stays.into_iter();
        let (running, ending): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|_| stays.next().unwrap_or_default());
        self.running = running;
        let queues: Vec<Arc<Queue>> =
            sinks.iter().map(|(_, target)| Queue::new(target.name(), limits.queue_spans)).collect();
        let ended: Vec<Arc<Queue>> = ending.iter().map(|one| Arc::clone(&one.queue)).collect();
        self.handle.outlets.replace(&ended, &queues);
        let mut held = HashMap::new();
        for one in ending {
            tracing::info!(exporter = one.target.name(), "exporter ends");
            let (release, released) = oneshot::channel();
            held.extend(one.target.held().map(|place| (place.to_owned(), released)));
            let outlets = Arc::clone(&self.handle.outlets);
            let end = async move {
                let queue = Arc::clone(&one.queue);
                // What can be put on disk need not wait for a receiver: whoever comes next sends it.
                if let Target::Otlp(OtlpOptions { disk_queue: Some(_), .. }) = &one.target {
                    queue.close(Refusal::Shutdown);
                    queue.hurry();
                }
                end(one, ENDING).await;
                outlets.over(&queue);
                // Nobody may wait for it.
                drop(release);
            };
            self.ending.spawn_on(end, &self.runtime);
        }
        for ((sink, target), queue) in sinks.into_iter().zip(queues) {
            let mut tasks = JoinSet::new();
            let released = target.held().and_then(|place| held.remove(place));
            sink.run(&queue, &mut tasks, &self.runtime, released);
            tracing::info!(exporter = target.name(), "exporter started");
            self.running.push(Running { target, queue, tasks });
        }
        Ok(())
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
        for one in &self.running {
            one.queue.close(Refusal::Shutdown);
        }
        let mut ends = JoinSet::new();
        for one in self.running {
            ends.spawn(end(one, deadline));
        }
        let earlier = async { while self.ending.join_next().await.is_some() {} };
        let late = tokio::time::timeout(deadline, earlier).await.is_err();
        while ends.join_next().await.is_some() {}
        if late {
            // Stopped tasks drop their claims, which counts what they were still sending.
            self.ending.shutdown().await;
            self.handle.outlets.refuse_waiting(Refusal::Shutdown);
        }
        self.handle.books()
    }
}

/// Has an exporter accept no more, send what it has, and stop.
async fn end(mut one: Running, deadline: Duration) {
    let Running { queue, tasks, .. } = &mut one;
    queue.close(Refusal::Shutdown);
    let finish = async {
        let sending = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline / 5 * 4, sending).await.is_ok() {
            return;
        }
        queue.hurry();
        while tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(deadline, finish).await.is_err() {
        let exporter = queue.name();
        tracing::warn!(exporter, "it did not finish in time; what is left is refused");
    }
    // Stopped tasks drop their claims, which counts what they were still sending.
    tasks.shutdown().await;
    queue.refuse_waiting(Refusal::Shutdown);
}

/// What an exporter writes into, opened but not used yet.
enum Sink {
    Console(console::Console),
    File(file::JsonLines),
    Disk(spool::Spool),
    Otlp(sender::Sender, usize),
}

impl Sink {
    fn open(target: &Target, runtime: &Handle, limits: Limits) -> anyhow::Result<Self> {
        let cannot = || format!("cannot start exporter {}", target.name());
        Ok(match target {
            Target::Console(options) => {
                Self::Console(console::Console::to_stdout(options, limits).with_context(cannot)?)
            }
            Target::File(path) => {
                Self::File(file::JsonLines::open(path, limits).with_context(cannot)?)
            }
            Target::Otlp(options) => {
                // A channel's own task starts with it.
                let _context = runtime.enter();
                let client = sender::Client::new(options).with_context(cannot)?;
                match &options.disk_queue {
                    Some(disk) => {
                        Self::Disk(spool::Spool::new(client, options, disk.clone(), limits))
                    }
                    None => Self::Otlp(
                        sender::Sender::new(client, options, limits),
                        limits.concurrent_requests.max(1),
                    ),
                }
            }
        })
    }

    /// Takes from the queue, as soon as what it needs is `released` by whoever had it before.
    fn run(
        self,
        queue: &Arc<Queue>,
        tasks: &mut JoinSet<()>,
        runtime: &Handle,
        released: Option<oneshot::Receiver<Infallible>>,
    ) {
        let released = async move {
            if let Some(released) = released {
                // Nothing is ever sent: the other end goes.
                drop(released.await);
            }
        };
        let queue = Arc::clone(queue);
        match self {
            Self::Console(console) => tasks.spawn_on(
                async move {
                    released.await;
                    console.run(queue).await;
                },
                runtime,
            ),
            Self::File(file) => tasks.spawn_on(
                async move {
                    released.await;
                    file.run(queue).await;
                },
                runtime,
            ),
            Self::Disk(spool) => tasks.spawn_on(
                async move {
                    released.await;
                    spool.run(queue).await;
                },
                runtime,
            ),
            Self::Otlp(sender, tasks_at_once) => {
                for _ in 1..tasks_at_once {
                    tasks.spawn_on(sender.clone().run(Arc::clone(&queue)), runtime);
                }
                tasks.spawn_on(sender.run(queue), runtime)
            }
        };
    }
}

impl ExportHandle {
    /// Offers a batch to every exporter. Never waits; an exporter whose queue is full refuses what it
    /// has no room for, and counts it.
    pub fn offer(&self, batch: &Arc<[Span]>) {
        self.outlets.offer(batch);
        self.taps.offer(batch);
    }

    /// A way to see what is offered from now on; `None`: too many look already.
    pub fn tap(&self) -> Option<Tap> {
        self.taps.open()
    }

    /// The books of every exporter that there is or was, each as of one instant.
    pub fn books(&self) -> Vec<ExporterBooks> {
        self.outlets.books()
    }
}

#[cfg(test)]
mod tests;
