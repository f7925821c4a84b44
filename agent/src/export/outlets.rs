//! Where finished spans are offered: an outlet for each exporter that is configured, or was.
//!
//! Part of the export stage. Exporters are replaced at one moment for all who look: each span is offered to those
//! before it or to those behind it, and the books of an outlet hold all that ever ran behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::books::{ExporterBooks, Refusal};
use super::queue::Queue;
use crate::span::Span;

/// All outlets.
#[derive(Debug, Default)]
pub(super) struct Outlets(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Spans that were offered to whoever was there.
    spans: u64,
    outlets: Vec<Outlet>,
}

/// One exporter's name, with all that ever had it.
#[derive(Debug)]
struct Outlet {
    /// What takes spans now.
    open: Option<Arc<Queue>>,
    /// Those that take no more and have some left.
    ending: Vec<Arc<Queue>>,
    /// The sum of those that are over, but for `left`.
    ended: ExporterBooks,
    /// Spans that they left on disk. Whoever comes next restores them.
    left: u64,
    /// Spans that were offered while nothing was open.
    missed: u64,
}

impl Outlets {
    /// Offers a batch to all. Never waits for an exporter.
    pub(super) fn offer(&self, batch: &Arc<[Span]>) {
        let mut state = self.lock();
        let spans = batch.len() as u64;
        state.spans += spans;
        for outlet in &mut state.outlets {
            match &outlet.open {
                Some(queue) => queue.offer(batch),
                None => outlet.missed += spans,
            }
        }
    }

    /// From now on `opening` are offered spans and `ending` are not.
    pub(super) fn replace(&self, ending: &[Arc<Queue>], opening: &[Arc<Queue>]) {
        let mut state = self.lock();
        let spans = state.spans;
        for outlet in &mut state.outlets {
            let ends =
                |queue: &mut Arc<Queue>| ending.iter().any(|other| Arc::ptr_eq(other, queue));
            outlet.ending.extend(outlet.open.take_if(ends));
        }
        for queue in opening {
            let free = state
                .outlets
                .iter_mut()
                .find(|outlet| outlet.open.is_none() && outlet.ended.name == queue.name());
            match free {
                Some(outlet) => outlet.open = Some(Arc::clone(queue)),
                None => state.outlets.push(Outlet::new(queue, spans)),
            }
        }
    }

    /// A queue is closed and empty: what it counted is kept.
    pub(super) fn over(&self, queue: &Arc<Queue>) {
        for outlet in &mut self.lock().outlets {
            if let Some(index) = outlet.ending.iter().position(|other| Arc::ptr_eq(other, queue)) {
                let mut books = outlet.ending.swap_remove(index).books();
                outlet.left += std::mem::take(&mut books.on_disk);
                outlet.ended.add(&books);
            }
        }
    }

    /// Whatever still waits somewhere is refused.
    pub(super) fn refuse_waiting(&self, reason: Refusal) {
        for outlet in &self.lock().outlets {
            for queue in outlet.ending.iter().chain(&outlet.open) {
                queue.refuse_waiting(reason);
            }
        }
    }

    /// Every outlet's books, each queue's as of one instant.
    pub(super) fn books(&self) -> Vec<ExporterBooks> {
        self.lock().outlets.iter().map(Outlet::books).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters stay usable whatever a panicking thread was doing with them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    fn new(queue: &Arc<Queue>, missed: u64) -> Self {
        let ended = ExporterBooks { name: queue.name().to_owned(), ..ExporterBooks::default() };
        Self { open: Some(Arc::clone(queue)), ending: Vec::new(), ended, left: 0, missed }
    }

    fn books(&self) -> ExporterBooks {
        let mut books = self.ended.clone();
        for queue in self.ending.iter().chain(&self.open) {
            books.add(&queue.books());
        }
        books.missed = self.missed;
        books.removed = self.open.is_none();
        // What an earlier one left and a later one restored was never anywhere but on disk.
        let restored = self.left.min(books.restored);
        books.restored -= restored;
        books.on_disk += self.left - restored;
        books
    }
}
