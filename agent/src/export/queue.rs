//! The bounded queue before each exporter, and the claims that keep its books honest.
//!
//! Part of the export stage. The bound is in spans and covers everything the exporter still holds:
//! waiting, in flight and held back. Spans leave the queue with a [`Claim`], which must say what
//! became of each; one that is dropped (its task was stopped) counts the rest as refused. Knows
//! nothing of what an exporter does with a span.

mod disk;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::books::{DiskBooks, ExporterBooks, Refusal, Refused};
use crate::span::Span;

/// As good as for ever, and can be added to any moment.
const LONGEST_LINGER: Duration = Duration::from_secs(365 * 86_400);

/// A bounded queue of spans: any thread puts in, one task at a time takes out.
pub(super) struct Queue {
    name: String,
    capacity_spans: usize,
    /// What it refuses is told to its reader, and is no matter for the log.
    quiet: bool,
    state: Mutex<State>,
    arrived: Notify,
    /// What can't be sent at once is to be put away.
    hurry: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Slice>,
    waiting_spans: usize,
    /// When what waits is taken though it is little: told when it is first asked for.
    flush_at: Option<Instant>,
    claimed_spans: usize,
    offered: u64,
    exported: u64,
    refused: Refused,
    restored: u64,
    on_disk: u64,
    disk: Option<DiskBooks>,
    last_error: Option<String>,
    /// Set once nothing more is accepted: what refuses late offers.
    closed: Option<Refusal>,
    /// The last thing that happened was a failure; each change is logged once.
    failing: bool,
    /// Spans were lost since exporting last worked; logged once.
    losing: bool,
    overflowing: bool,
}

/// Part of a batch, shared with the other exporters.
#[derive(Clone)]
pub(super) struct Slice {
    batch: Arc<[Span]>,
    range: Range<usize>,
}

/// Spans taken from a queue, with the duty to account for them.
pub(super) struct Taken {
    pub(super) slices: Vec<Slice>,
    pub(super) claim: Claim,
}

/// The duty to say what became of a number of spans. Dropping it counts what is left as
/// [`Refusal::Shutdown`].
pub(super) struct Claim {
    queue: Arc<Queue>,
    spans: usize,
}

impl Queue {
    pub(super) fn new(name: String, capacity_spans: usize) -> Arc<Self> {
        Arc::new(Self::with(name, capacity_spans, false))
    }

    /// One whose refusals are not logged.
    pub(super) fn quiet(name: String, capacity_spans: usize) -> Arc<Self> {
        Arc::new(Self::with(name, capacity_spans, true))
    }

    fn with(name: String, capacity_spans: usize, quiet: bool) -> Self {
        let state = Mutex::new(State::default());
        let (arrived, hurry) = (Notify::new(), Notify::new());
        Self { name, capacity_spans, quiet, state, arrived, hurry }
    }

    /// Names its books.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Accepts as many of the batch's first spans as there is room for and refuses the rest. Never
    /// waits for the exporter: the lock is only held for counting.
    pub(super) fn offer(&self, batch: &Arc<[Span]>) {
        let mut state = self.lock();
        state.offered += batch.len() as u64;
        if let Some(reason) = state.closed {
            state.refused.add(reason, batch.len() as u64);
            return;
        }
        let held = state.waiting_spans + state.claimed_spans;
        let accepted = batch.len().min(self.capacity_spans.saturating_sub(held));
        let turned_away = batch.len() - accepted;
        state.refused.add(Refusal::QueueFull, turned_away as u64);
        let began = turned_away > 0 && !state.overflowing;
        state.overflowing = turned_away > 0;
        if accepted > 0 {
            state.waiting_spans += accepted;
            state.waiting.push_back(Slice { batch: Arc::clone(batch), range: 0..accepted });
        }
        drop(state);
        self.arrived.notify_one();
        if began && !self.quiet {
            tracing::error!(
                exporter = self.name,
                "spans are refused: the exporter's queue is full"
            );
        }
    }

    /// Up to `max_spans`, as soon as that many wait, or `linger` after the first is seen, or once the
    /// queue is closed; `None` when it is closed and empty.
    ///
    /// Only one task may take at a time: wakeups are not shared out.
    pub(super) async fn take(
        self: &Arc<Self>,
        max_spans: usize,
        linger: Duration,
    ) -> Option<Taken> {
        loop {
            {
                let state = self.lock();
                if state.waiting_spans > 0 {
                    break;
                }
                if state.closed.is_some() {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
        // Whoever gives up waiting and comes again waits no longer for that.
        let linger = linger.min(LONGEST_LINGER);
        let flush_at = *self.lock().flush_at.get_or_insert_with(|| Instant::now() + linger);
        let flush = tokio::time::sleep_until(flush_at);
        tokio::pin!(flush);
        loop {
            {
                let state = self.lock();
                if state.waiting_spans >= max_spans || state.closed.is_some() {
                    break;
                }
            }
            tokio::select! {
                () = self.arrived.notified() => {}
                () = &mut flush => break,
            }
        }
        Some(self.pop(max_spans))
    }

    fn pop(self: &Arc<Self>, max_spans: usize) -> Taken {
        let mut state = self.lock();
        state.flush_at = None;
        let mut slices = Vec::new();
        let mut spans = 0;
        while spans < max_spans {
            let Some(mut slice) = state.waiting.pop_front() else { break };
            let room = max_spans - spans;
            if slice.range.len() > room {
                let cut = slice.range.start + room;
                let rest = Slice { batch: Arc::clone(&slice.batch), range: cut..slice.range.end };
                slice.range.end = cut;
                state.waiting.push_front(rest);
            }
            spans += slice.range.len();
            slices.push(slice);
        }
        state.waiting_spans = state.waiting_spans.saturating_sub(spans);
        state.claimed_spans += spans;
        drop(state);
        Taken { slices, claim: Claim { queue: Arc::clone(self), spans } }
    }

    /// A claim on nothing, to be grown with [`Claim::absorb`].
    pub(super) fn empty_claim(self: &Arc<Self>) -> Claim {
        Claim { queue: Arc::clone(self), spans: 0 }
    }

    /// Refuses what is offered from now on, with `reason`; what waits can still be taken.
    pub(super) fn close(&self, reason: Refusal) {
        self.lock().closed.get_or_insert(reason);
        self.arrived.notify_one();
    }

    /// Refuses all that still waits, and what is offered from now on.
    pub(super) fn refuse_waiting(&self, reason: Refusal) {
        let mut state = self.lock();
        state.closed.get_or_insert(reason);
        let waiting = mem::take(&mut state.waiting);
        for slice in waiting {
            state.refused.add(reason, slice.range.len() as u64);
        }
        state.waiting_spans = 0;
        drop(state);
        self.arrived.notify_one();
    }

    /// Returns once [`Queue::is_pressing`]. In the place of [`Queue::take`]: only one may wait at a time.
    pub(super) async fn pressing(&self) {
        while !self.is_pressing() {
            self.arrived.notified().await;
        }
    }

    /// Half of the room for what waits is taken, and more may come.
    pub(super) fn is_pressing(&self) -> bool {
        let state = self.lock();
        let room = self.capacity_spans.saturating_sub(state.claimed_spans);
        state.waiting_spans.saturating_mul(2) >= room && state.closed.is_none()
    }

    /// Tells the exporter that it is about to be stopped.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Returns once [`Queue::hurry`] was called; for one task, once.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Notes a failure. `error` must not carry credentials.
    pub(super) fn failed(&self, error: String) {
        let mut state = self.lock();
        let began = !mem::replace(&mut state.failing, true);
        state.last_error = Some(error.clone());
        drop(state);
        if began {
            tracing::warn!(exporter = self.name, error, "export fails");
        } else {
            tracing::debug!(exporter = self.name, error, "export still fails");
        }
    }

    /// Notes that exporting works.
    pub(super) fn works(&self) {
        let mut state = self.lock();
        state.losing = false;
        let ended = mem::replace(&mut state.failing, false);
        drop(state);
        if ended {
            tracing::info!(exporter = self.name, "export works again");
        }
    }

    pub(super) fn books(&self) -> ExporterBooks {
        let state = self.lock();
        ExporterBooks {
            name: self.name.clone(),
            removed: false,
            missed: 0,
            offered: state.offered,
            exported: state.exported,
            refused: state.refused,
            restored: state.restored,
            queued: (state.waiting_spans + state.claimed_spans) as u64,
            on_disk: state.on_disk,
            disk: state.disk.clone(),
            last_error: state.last_error.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters stay usable whatever a panicking thread was doing with them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&self.name).finish()
    }
}

impl Claim {
    /// Spans not yet accounted for.
    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    /// `spans` of these left the agent.
    pub(super) fn exported(&mut self, spans: usize) {
        self.settle(spans, |state, spans| state.exported += spans);
    }

    /// `spans` of these will not leave the agent.
    pub(super) fn refused(&mut self, spans: usize, reason: Refusal) {
        let mut began = false;
        self.settle(spans, |state, spans| {
            state.refused.add(reason, spans);
            // What the agent's own end costs is not news.
            let lost = spans > 0 && reason != Refusal::Shutdown;
            began = lost && !state.losing;
            state.losing |= lost;
        });
        if began {
            let (exporter, reason) = (self.queue.name.as_str(), reason.as_str());
            tracing::error!(exporter, reason, spans, "spans are lost");
        }
    }

    /// All that is left will not leave the agent.
    pub(super) fn refuse_all(&mut self, reason: Refusal) {
        self.refused(self.spans, reason);
    }

    /// Takes over another claim's duty on the same queue.
    pub(super) fn absorb(&mut self, mut other: Self) {
        self.spans += mem::take(&mut other.spans);
    }

    fn settle(&mut self, spans: usize, column: impl FnOnce(&mut State, u64)) {
        debug_assert!(spans <= self.spans, "more spans accounted for than were claimed");
        let spans = spans.min(self.spans);
        self.spans -= spans;
        // One lock for both columns: a reader never sees a span in neither or in both.
        let mut state = self.queue.lock();
        state.claimed_spans = state.claimed_spans.saturating_sub(spans);
        column(&mut state, spans as u64);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.spans > 0 {
            self.refuse_all(Refusal::Shutdown);
        }
    }
}

impl Slice {
    pub(super) fn spans(&self) -> &[Span] {
        self.batch.get(self.range.clone()).unwrap_or_default()
    }

    /// The batch, with the positions of this slice's spans in it.
    pub(super) fn parts(&self) -> (&Arc<[Span]>, Range<usize>) {
        (&self.batch, self.range.clone())
    }
}

/// All spans of some slices.
pub(super) fn spans(slices: &[Slice]) -> impl Iterator<Item = &Span> + Clone {
    slices.iter().flat_map(Slice::spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing::batch;

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_and_comes_again_waits_no_longer_for_that() {
        let queue = Queue::new("test".to_owned(), 8);
        let linger = Duration::from_millis(200);
        for round in 0..2 {
            queue.offer(&batch(1));
            let began = Instant::now();
            let mut taken = None;
            while taken.is_none() {
                let patience = Duration::from_millis(90);
                taken = tokio::time::timeout(patience, queue.take(8, linger)).await.ok();
            }
            assert_eq!(taken.flatten().map(|taken| taken.claim.spans()), Some(1), "round {round}");
            assert_eq!(began.elapsed(), linger, "round {round}");
        }
    }
}
