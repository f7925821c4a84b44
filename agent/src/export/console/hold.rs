//! Holding a trace's spans back until the trace looks whole.
//!
//! Part of the console exporter. Spans arrive when they end, so children come before their parents,
//! and one trace's spans come from several processes in any order. No clock: time is a parameter.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::export::queue::Slice;
use crate::span::{Span, SpanId, TraceId};

/// A trace without a gap is shown once nothing new came for this long: correlation gives a root soon after
/// its end, and a call whose parent takes looking around for a second up to that much later.
const QUIET_NS: u64 = 1_200_000_000;

/// No trace is held longer than this after its first span, although a parent is missing that this node has
/// seen: it may be a request that takes that long.
const PATIENCE_NS: u64 = 30_000_000_000;

/// The traces held back.
pub(in crate::export) struct Hold {
    max_traces: usize,
    max_spans: usize,
    /// By order of their first spans.
    traces: BTreeMap<u64, HeldTrace>,
    numbers: HashMap<TraceId, u64>,
    next_number: u64,
    spans: usize,
}

/// One trace's spans, in order of arrival.
pub(in crate::export) struct HeldTrace {
    trace_id: TraceId,
    spans: Vec<SpanRef>,
    first_ns: u64,
    latest_ns: u64,
}

/// A span in a batch that the other exporters share.
struct SpanRef {
    batch: Arc<[Span]>,
    index: usize,
}

impl Hold {
    pub(in crate::export) fn new(max_traces: usize, max_spans: usize) -> Self {
        Self {
            max_traces,
            max_spans,
            traces: BTreeMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            spans: 0,
        }
    }

    pub(in crate::export) fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Takes in a slice's spans, which arrived at `now_ns`. The bounds are kept by [`Self::tick`].
    pub(in crate::export) fn insert(&mut self, slice: &Slice, now_ns: u64) {
        let (batch, range) = slice.parts();
        for (index, span) in batch.iter().enumerate().take(range.end).skip(range.start) {
            let number = *self.numbers.entry(span.trace_id).or_insert_with(|| {
                self.next_number += 1;
                self.next_number
            });
            let trace = self.traces.entry(number).or_insert_with(|| HeldTrace {
                trace_id: span.trace_id,
                spans: Vec::new(),
                first_ns: now_ns,
                latest_ns: now_ns,
            });
            trace.latest_ns = now_ns;
            trace.spans.push(SpanRef { batch: Arc::clone(batch), index });
            self.spans += 1;
        }
    }

    /// The traces that are due at `now_ns`, and the oldest of those that are too many, oldest first.
    pub(in crate::export) fn tick(&mut self, now_ns: u64) -> Vec<HeldTrace> {
        let due = self.traces.iter().filter(|(_, trace)| trace.is_due(now_ns));
        let due: Vec<u64> = due.map(|(number, _)| *number).collect();
        let mut ready: Vec<HeldTrace> =
            due.into_iter().filter_map(|number| self.release(number)).collect();
        while self.traces.len() > self.max_traces || self.spans > self.max_spans {
            let Some(oldest) = self.traces.keys().next().copied() else { break };
            ready.extend(self.release(oldest));
        }
        ready
    }

    /// All that is held, oldest first.
    pub(in crate::export) fn drain(&mut self) -> Vec<HeldTrace> {
        let numbers: Vec<u64> = self.traces.keys().copied().collect();
        numbers.into_iter().filter_map(|number| self.release(number)).collect()
    }

    fn release(&mut self, number: u64) -> Option<HeldTrace> {
        let trace = self.traces.remove(&number)?;
        self.numbers.remove(&trace.trace_id);
        self.spans -= trace.spans.len();
        Some(trace)
    }
}

impl HeldTrace {
    pub(in crate::export) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(in crate::export) fn spans(&self) -> Vec<&Span> {
        self.spans.iter().filter_map(SpanRef::get).collect()
    }

    fn is_due(&self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.first_ns) >= PATIENCE_NS {
            return true;
        }
        // The cheap question first: most held traces are not quiet.
        now_ns.saturating_sub(self.latest_ns) >= QUIET_NS && !self.misses_a_parent()
    }

    /// Whether a parent is missing that this node has seen. One that came over the wire may never arrive.
    fn misses_a_parent(&self) -> bool {
        let here: HashSet<SpanId> =
            self.spans.iter().filter_map(SpanRef::get).map(|span| span.span_id).collect();
        self.spans.iter().filter_map(SpanRef::get).any(|span| {
            !span.parent_is_remote
                && span.parent_span_id.is_some_and(|parent| !here.contains(&parent))
        })
    }
}

impl SpanRef {
    fn get(&self) -> Option<&Span> {
        self.batch.get(self.index)
    }
}
