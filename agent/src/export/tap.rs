//! A tap: the traces that a person asked to see, while somebody reads them.
//!
//! Part of the export stage, beside the exporters. Its queue is bounded and refuses what does not fit: a reader
//! that is slow, or stopped, stalls nothing, and is told how many spans it missed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_semantic_conventions::attribute as key;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use super::books::Refusal;
use super::console::hold::{HeldTrace, Hold};
use super::console::layout::{self, Look};
use super::console::tree;
use super::queue::Queue;
use crate::span::{Span, Status};

/// Spans that wait for one reader, or are held until their trace is whole.
const CAPACITY_SPANS: usize = 8_192;
/// Traces that are held until they are whole.
const HELD_TRACES: usize = 256;
/// How often held traces are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Spans taken at once.
pub(super) const BATCH_SPANS: usize = 512;

/// Readers at a time.
const TAPS: usize = 8;

/// The taps that are open.
#[derive(Clone, Debug, Default)]
pub(super) struct Taps(Arc<Mutex<Vec<Arc<Queue>>>>);

impl Taps {
    /// Offers a batch to every reader.
    pub(super) fn offer(&self, batch: &Arc<[Span]>) {
        for queue in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            queue.offer(batch);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Opens one more; `None`: there are as many as there may be.
    pub(super) fn open(&self) -> Option<Tap> {
        let mut taps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taps.len() >= TAPS {
            return None;
        }
        let queue = Queue::quiet("tap".to_owned(), CAPACITY_SPANS);
        taps.push(Arc::clone(&queue));
        Some(Tap { queue, taps: self.clone() })
    }
}

/// What is to be shown, and how. All conditions must hold for one of a trace's spans; the whole trace is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapRequest {
    /// `service.name`.
    pub service: Option<String>,
    /// `http.route` or `url.template`.
    pub route: Option<String>,
    /// Its status is an error.
    pub errors: bool,
    /// It took at least that long.
    pub slower_than_ms: Option<f64>,
    /// Columns of the reader's terminal.
    pub columns: usize,
    /// It shows colour.
    pub color: bool,
    /// Print the traceparent of each span.
    pub traceparent: bool,
}

impl TapRequest {
    fn wants(&self, span: &Span) -> bool {
        let is = |wanted: &Option<String>, found: &[Option<&str>]| {
            wanted.as_ref().is_none_or(|wanted| found.contains(&Some(wanted.as_str())))
        };
        let took_ns = span.end_unix_ns.saturating_sub(span.start_unix_ns);
        is(&self.service, &[span.resource.text(key::SERVICE_NAME)])
            && is(&self.route, &[span.text(key::HTTP_ROUTE), span.text(key::URL_TEMPLATE)])
            && (!self.errors || matches!(span.status, Status::Error(_)))
            && self.slower_than_ms.is_none_or(|least| took_ns as f64 / 1e6 >= least)
    }
}

/// One reader's queue. Closed when dropped.
#[derive(Debug)]
pub struct Tap {
    queue: Arc<Queue>,
    taps: Taps,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.queue.close(Refusal::Shutdown);
        let mut taps = self.taps.0.lock().unwrap_or_else(PoisonError::into_inner);
        taps.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
    }
}

impl Tap {
    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Writes traces to `output` until it takes no more or `input` ends.
    pub async fn run(
        self,
        request: TapRequest,
        mut input: impl AsyncRead + Unpin,
        mut output: impl AsyncWrite + Unpin,
    ) {
        let look = Look::new(request.columns, request.color, request.traceparent);
        let mut hold = Hold::new(HELD_TRACES, CAPACITY_SPANS / 2);
        let mut claim = self.queue.empty_claim();
        let began = Instant::now();
        let mut missed = 0;
        let mut word = [0; 16];
        loop {
            let taken = tokio::select! {
                taken = self.queue.take(BATCH_SPANS, Duration::ZERO) => Some(taken),
                () = tokio::time::sleep(TICK), if !hold.is_empty() => None,
                read = input.read(&mut word) => match read {
                    Ok(1..) => continue,
                    Ok(0) | Err(_) => return,
                },
            };
            let now_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            match taken {
                Some(Some(taken)) => {
                    claim.absorb(taken.claim);
                    taken.slices.iter().for_each(|slice| hold.insert(slice, now_ns));
                }
                Some(None) => return,
                None => {}
            }
            let ready = hold.tick(now_ns);
            let mut text = String::new();
            let refused = self.queue.books().refused.queue_full;
            if refused > missed {
                let more = refused - missed;
                text.push_str(&format!("({more} spans are missing: this reader is too slow)\n"));
                missed = refused;
            }
            for trace in &ready {
                let spans = trace.spans();
                if spans.iter().any(|span| request.wants(span)) {
                    layout::trace(&mut text, &tree::rows(&spans, look.depth_limit()), &look);
                }
            }
            let spans = ready.iter().map(HeldTrace::len).sum();
            if !text.is_empty() && output.write_all(text.as_bytes()).await.is_err() {
                return;
            }
            claim.exported(spans);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;
    use crate::export::testing::span;
    use crate::span::TraceId;

    fn traces(first: u64, count: u64) -> Arc<[Span]> {
        let root =
            |id: u64| Span { trace_id: TraceId(u128::from(id).to_be_bytes()), ..span(1, 1, None) };
        (first..first + count).map(root).collect()
    }

    async fn reads(reader: &mut (impl AsyncRead + Unpin), part: &str) -> String {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while !text.contains(part) {
            let count = reader.read(&mut bytes).await.unwrap();
            assert!(count > 0, "it ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_sees_traces_and_leaves_nothing_behind() {
        let taps = Taps::default();
        let (near, mut far) = duplex(1 << 16);
        let (input, output) = tokio::io::split(near);
        let request = TapRequest { columns: 80, traceparent: true, ..TapRequest::default() };
        let running = tokio::spawn(taps.open().unwrap().run(request, input, output));
        taps.offer(&traces(1, 2));
        let wanted = TraceId(2_u128.to_be_bytes()).to_string();
        reads(&mut far, &wanted).await;
        drop(far);
        running.await.unwrap();
        assert!(taps.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_stalls_nothing_and_is_told_what_is_missing() {
        let taps = Taps::default();
        let (near, mut far) = duplex(64);
        let (input, output) = tokio::io::split(near);
        let request = TapRequest { columns: 80, ..TapRequest::default() };
        let running = tokio::spawn(taps.open().unwrap().run(request, input, output));
        // Nobody reads: each offer returns at once all the same, and the queue's bound holds.
        for round in 0..200 {
            taps.offer(&traces(1 + round * 100, 100));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let books = taps.0.lock().unwrap()[0].books();
        assert_eq!(books.offered, 20_000);
        assert!(books.queued <= CAPACITY_SPANS as u64 && books.refused.queue_full > 0, "{books:?}");
        reads(&mut far, "spans are missing: this reader is too slow").await;
        drop(far);
        running.await.unwrap();
    }

    #[test]
    fn conditions_must_all_hold_for_one_span() {
        let mut slow = span(1, 1, None);
        slow.end_unix_ns = slow.start_unix_ns + 5_000_000;
        slow.status = Status::Error("".into());
        let with = |change: fn(&mut TapRequest)| {
            let mut request = TapRequest::default();
            change(&mut request);
            request.wants(&slow)
        };
        assert!(with(|_| {}));
        assert!(with(|it| it.errors = true));
        assert!(with(|it| it.slower_than_ms = Some(5.0)));
        assert!(!with(|it| it.slower_than_ms = Some(5.1)));
        assert!(!with(|it| it.service = Some("nobody".to_owned())));
        assert!(!with(|it| it.route = Some("/nowhere".to_owned())));
    }

    #[test]
    fn there_is_a_bound_on_readers() {
        let taps = Taps::default();
        let open: Vec<Tap> = std::iter::from_fn(|| taps.open()).collect();
        assert_eq!(open.len(), TAPS);
        drop(open);
        assert!(taps.open().is_some());
    }
}
