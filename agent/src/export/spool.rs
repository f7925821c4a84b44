//! An OTLP exporter with a disk queue: what the receiver does not take now waits on disk, oldest first.
//!
//! Part of the export stage, in the place of `sender`. One task decides, requests are sent beside it:
//!
//! - While the receiver takes them, batches go from memory to it, several at once, and nothing touches the disk.
//! - A batch that fails and may be sent again goes to disk; so does what comes later, until the disk is empty again.
//!   So does what waits while all requests are under way, once it takes half of the queue in memory.
//! - While requests fail, one is tried at a time, the oldest, with growing pauses. Nothing is given up by time; but
//!   if the oldest has failed for `give_up_after`, another is tried in turn with it: where others are taken and the
//!   oldest is not, for as long again, the receiver will never take it, and it must not hold up all others.
//! - What the disk can't take (its bound, a full disk) is treated as without one: it stays in memory, is given up by
//!   time once it was tried, and the queue in memory fills and refuses.
//!
//! At least once: a request that is under way when the agent is killed is sent again by the next. What is done with
//! the disk is in `spool/shelf.rs`.

mod shelf;

use std::collections::{HashMap, VecDeque};
use std::future;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::books::Refusal;
use super::disk::{Disk, DiskOptions, Frame};
use super::options::{OtlpOptions, RetryPolicy};
use super::queue::{self, Queue, Taken};
use super::retry::{Backoff, Verdict};
use super::sender::{Client, Failure, presentable, rejected, secrets};
use super::{Limits, otlp};

/// The longest pause that a receiver may ask for.
const WISH_LIMIT: Duration = Duration::from_secs(3_600);

/// The exporter, before it runs.
pub(super) struct Spool {
    client: Client,
    disk: DiskOptions,
    retry: RetryPolicy,
    secrets: Arc<[String]>,
    limits: Limits,
}

impl Spool {
    pub(super) fn new(
        client: Client,
        options: &OtlpOptions,
        disk: DiskOptions,
        limits: Limits,
    ) -> Self {
        let (retry, secrets) = (options.retry, secrets(&options.headers));
        Self { client, disk, retry, secrets, limits }
    }

    /// Sends what `queue` gives and what is on disk, until the queue is closed and what it gave is out or on disk.
    pub(super) async fn run(self, queue: Arc<Queue>) {
        queue.has_disk(self.disk.max_bytes);
        let opened = match Disk::start(self.disk.clone()) {
            Ok(opening) => opening.done().await,
            Err(error) => Err(format!("cannot start its thread: {error}")),
        };
        let mut unread_spans = 0;
        let disk = match opened {
            Ok((disk, levels)) => {
                queue.restored(&levels);
                unread_spans = levels.unread_spans;
                Some(disk)
            }
            Err(error) => {
                queue.disk_failed(error);
                None
            }
        };
        let mut running = Running {
            backoff: backoff(self.retry),
            spool: self,
            queue,
            disk,
            unread_spans,
            under_way: HashMap::new(),
            answers: JoinSet::new(),
            held: VecDeque::new(),
            stalled: VecDeque::new(),
            paused_until: None,
            writes_from: None,
            reads_from: None,
            at_bound: false,
            other_was_tried: false,
            answered: 0,
            taken: 0,
            closing: false,
        };
        running.run().await;
        if let Some(disk) = running.disk.take() {
            disk.close().await;
        }
    }
}

/// Without an end: what is on disk is not given up by time.
fn backoff(retry: RetryPolicy) -> Backoff {
    Backoff::new(RetryPolicy { give_up_after: Duration::MAX, ..retry })
}

type Answer = Result<ExportTraceServiceResponse, Failure>;

struct Running {
    spool: Spool,
    queue: Arc<Queue>,
    disk: Option<Disk>,
    /// Spans on disk that were not handed out yet.
    unread_spans: u64,
    under_way: HashMap<Id, Parcel>,
    answers: JoinSet<Answer>,
    /// From disk, failed, to be sent again; the oldest first.
    held: VecDeque<Parcel>,
    /// From memory, and the disk had no room for it; newer than all that is on disk, the oldest first.
    stalled: VecDeque<Parcel>,
    /// Requests fail; the next is sent no sooner.
    paused_until: Option<Instant>,
    backoff: Backoff,
    /// The disk could not be written, or not be read: it is tried again no sooner.
    writes_from: Option<Instant>,
    reads_from: Option<Instant>,
    /// The disk was full by its own bound, and is still more than half full.
    at_bound: bool,
    /// The last request was not the oldest, though that has been failing for long.
    other_was_tried: bool,
    /// Requests that were taken or refused for good.
    answered: u64,
    /// Batches taken from the queue.
    taken: u64,
    /// The queue is closed and empty.
    closing: bool,
}

/// What one request is made of.
struct Parcel {
    load: Load,
    /// In order of age.
    number: u64,
    first_sent: Option<Instant>,
    /// What [`Running::answered`] was when it was first sent, or failed last.
    answered: u64,
    /// When it first failed though others had been taken since.
    passed_over: Option<Instant>,
}

enum Load {
    /// From memory.
    Fresh(Taken),
    /// From disk, where it still is.
    Frame(Arc<Frame>),
}

impl Parcel {
    fn new(load: Load, number: u64) -> Self {
        Self { load, number, first_sent: None, answered: 0, passed_over: None }
    }

    fn is_fresh(&self) -> bool {
        matches!(self.load, Load::Fresh(_))
    }

    /// It has been failing for longer than a request may, where none waits on disk.
    fn is_overdue(&self, retry: RetryPolicy) -> bool {
        self.first_sent.is_some_and(|first| first.elapsed() > retry.give_up_after)
    }
}

/// Puts it where its age is.
fn insert(parcels: &mut VecDeque<Parcel>, parcel: Parcel) {
    let place = parcels.partition_point(|other| other.number < parcel.number);
    parcels.insert(place, parcel);
}

impl Running {
    async fn run(&mut self) {
        loop {
            // One for all of a round: what is not yet due for one step is waited for by another.
            let now = Instant::now();
            self.writes_from = self.writes_from.filter(|from| *from > now);
            self.reads_from = self.reads_from.filter(|from| *from > now);
            self.make_room().await;
            self.launch(now).await;
            if self.closing && self.under_way.is_empty() && self.stalled.is_empty() {
                return;
            }
            let takes = self.takes();
            let waits = !takes && !self.closing && self.stalled.is_empty();
            let wakes_at = self.wakes_at(now);
            let woken = async {
                match wakes_at {
                    Some(at) => sleep_until(at).await,
                    None => future::pending().await,
                }
            };
            let limits = self.spool.limits;
            tokio::select! {
                Some(answer) = self.answers.join_next_with_id(), if !self.answers.is_empty() => {
                    let failed = |error: &tokio::task::JoinError| Failure {
                        words: format!("the request was not sent: {error}"),
                        verdict: Verdict::Rejected,
                    };
                    match answer {
                        Ok((id, answer)) => self.settle(id, answer).await,
                        Err(error) => self.settle(error.id(), Err(failed(&error))).await,
                    }
                }
                taken = self.queue.take(limits.batch_spans, limits.linger), if takes => {
                    match taken {
                        Some(taken) => self.place(taken).await,
                        None => self.closing = true,
                    }
                }
                () = self.queue.pressing(), if waits => {}
                () = woken => {}
                () = self.queue.hurried() => return self.put_away().await,
            }
        }
    }

    /// Something on disk is to be sent before what is in memory.
    fn has_backlog(&self) -> bool {
        self.unread_spans > 0 || !self.held.is_empty()
    }

    /// Whether the next batch is taken from memory now.
    fn takes(&self) -> bool {
        if self.closing || !self.stalled.is_empty() {
            return false;
        }
        let in_turn = if self.has_backlog() || self.paused_until.is_some() {
            // What is under way may have to go to disk, and is older.
            !self.under_way.values().any(Parcel::is_fresh)
        } else {
            self.under_way.len() < self.spool.limits.concurrent_requests.max(1)
        };
        in_turn || self.queue.is_pressing()
    }

    /// When there is something to do though nothing happens.
    fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let sends = self.has_backlog() || !self.stalled.is_empty();
        // What is under way ends of itself, and what is due was tried.
        let pause =
            self.paused_until.filter(|until| sends && self.under_way.is_empty() && *until > now);
        let writes = self.writes_from.filter(|_| !self.stalled.is_empty());
        let reads = self.reads_from.filter(|_| self.unread_spans > 0);
        pause.into_iter().chain(writes).chain(reads).min()
    }

    /// Sees to a batch from memory.
    async fn place(&mut self, taken: Taken) {
        self.taken += 1;
        let parcel = Parcel::new(Load::Fresh(taken), self.taken);
        let room = self.under_way.len() < self.spool.limits.concurrent_requests.max(1);
        if room && !self.has_backlog() && self.paused_until.is_none() {
            self.start(parcel);
        } else {
            self.put(parcel).await;
        }
    }

    /// Puts a batch from memory on disk, or keeps it.
    async fn put(&mut self, mut parcel: Parcel) {
        if let Load::Fresh(taken) = &mut parcel.load
            && !self.append(taken).await
        {
            insert(&mut self.stalled, parcel);
        }
    }

    /// Sees whether the disk has room again for what it had none for.
    async fn make_room(&mut self) {
        let retry = self.spool.retry;
        for parcel in &mut self.stalled {
            if parcel.is_overdue(retry)
                && let Load::Fresh(taken) = &mut parcel.load
            {
                taken.claim.refuse_all(Refusal::RetriesExhausted);
            }
        }
        self.stalled.retain(|parcel| !parcel.is_overdue(retry));
        // Without a backlog, and while requests are taken, it is sent from memory.
        while (self.has_backlog() || self.paused_until.is_some())
            && self.writes_from.is_none()
            && let Some(mut parcel) = self.stalled.pop_front()
        {
            if let Load::Fresh(taken) = &mut parcel.load
                && !self.append(taken).await
            {
                self.stalled.push_front(parcel);
                return;
            }
        }
    }

    /// Sends what there is, the oldest first, as far as requests may be under way.
    async fn launch(&mut self, now: Instant) {
        loop {
            let paused = self.paused_until.is_some();
            let room = if paused { 1 } else { self.spool.limits.concurrent_requests.max(1) };
            if self.under_way.len() >= room || self.paused_until.is_some_and(|until| now < until) {
                return;
            }
            let Some(parcel) = self.pick().await else { return };
            self.start(parcel);
        }
    }

    async fn pick(&mut self) -> Option<Parcel> {
        if self.closing && self.stalled.is_empty() {
            // What is on disk is the next agent's.
            return None;
        }
        let is_stuck = self.paused_until.is_some()
            && self.held.front().is_some_and(|oldest| oldest.is_overdue(self.spool.retry));
        self.other_was_tried = is_stuck && !self.other_was_tried;
        if self.other_was_tried {
            let other = match self.held.remove(1) {
                Some(other) => Some(other),
                None => self.next_frame().await,
            };
            if let Some(other) = other.or_else(|| self.stalled.pop_front()) {
                return Some(other);
            }
        }
        match self.held.pop_front() {
            Some(oldest) => Some(oldest),
            None => match self.next_frame().await {
                Some(next) => Some(next),
                None if self.has_backlog() => None,
                None => self.stalled.pop_front(),
            },
        }
    }

    fn start(&mut self, mut parcel: Parcel) {
        if parcel.first_sent.is_none() {
            parcel.first_sent = Some(Instant::now());
            parcel.answered = self.answered;
        }
        let mut client = self.spool.client.clone();
        let sent = match &parcel.load {
            Load::Fresh(taken) => {
                let slices = taken.slices.clone();
                self.answers
                    .spawn(async move { client.send(otlp::request(queue::spans(&slices))).await })
            }
            Load::Frame(frame) => {
                let frame = Arc::clone(frame);
                self.answers.spawn(async move {
                    // Its checksum holds: another version of the agent may have written it.
                    let request = ExportTraceServiceRequest::decode(frame.request.as_slice());
                    let request = request.map_err(|error| Failure {
                        words: format!("what was on disk is no request: {error}"),
                        verdict: Verdict::Rejected,
                    })?;
                    client.send(request).await
                })
            }
        };
        self.under_way.insert(sent.id(), parcel);
    }

    async fn settle(&mut self, id: Id, answer: Answer) {
        let Some(mut parcel) = self.under_way.remove(&id) else { return };
        let failure = match answer {
            Ok(response) => {
                self.receiver_answers();
                return self.acknowledged(parcel, response).await;
            }
            Err(failure) => failure,
        };
        self.queue.failed(presentable(&self.spool.secrets, &failure.words));
        let Verdict::Retry(wish) = failure.verdict else {
            self.receiver_answers();
            return self.refuse(parcel, Refusal::Rejected).await;
        };
        if self.answered > parcel.answered {
            // Others were taken meanwhile. While none is, time says nothing against this one.
            let since = *parcel.passed_over.get_or_insert_with(Instant::now);
            if !parcel.is_fresh() && since.elapsed() > self.spool.retry.give_up_after {
                return self.refuse(parcel, Refusal::RetriesExhausted).await;
            }
        }
        parcel.answered = self.answered;
        let wish = wish.map(|wish| wish.min(WISH_LIMIT));
        let pause = self.backoff.pause(wish, Duration::ZERO, &mut rand::rng());
        self.paused_until = Some(Instant::now() + pause.unwrap_or(WISH_LIMIT));
        if parcel.is_fresh() {
            self.put(parcel).await;
        } else {
            insert(&mut self.held, parcel);
        }
    }

    fn receiver_answers(&mut self) {
        self.answered += 1;
        self.paused_until = None;
        self.backoff = backoff(self.spool.retry);
    }

    async fn acknowledged(&mut self, parcel: Parcel, response: ExportTraceServiceResponse) {
        match parcel.load {
            Load::Fresh(mut taken) => {
                let sent = taken.claim.spans();
                let rejected = rejected(&self.queue, sent, response, &self.spool.secrets);
                taken.claim.refused(rejected, Refusal::Rejected);
                taken.claim.exported(sent - rejected);
            }
            Load::Frame(frame) => {
                let sent = frame.spans;
                let rejected = rejected(&self.queue, sent, response, &self.spool.secrets);
                self.done(frame, sent - rejected, Refusal::Rejected).await;
            }
        }
    }

    async fn refuse(&mut self, parcel: Parcel, reason: Refusal) {
        match parcel.load {
            Load::Fresh(mut taken) => taken.claim.refuse_all(reason),
            Load::Frame(frame) => self.done(frame, 0, reason).await,
        }
    }
}

#[cfg(test)]
mod tests;
