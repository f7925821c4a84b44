//! What takes the time: the calls of the last seconds by service and name, while a person looks.
//!
//! Part of the export stage: another reader of a [`Tap`], which bounds what waits for it. Keeps nothing from one
//! frame to the next.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, MissedTickBehavior};

use super::console::layout;
use super::queue;
use super::tap::{BATCH_SPANS, Tap};
use super::text::{columns, duration, printable, shortened};
use crate::semconv;
use crate::span::{Span, Status};

/// Begins a frame: whoever shows it clears what it showed before.
pub const FRAME: char = '\u{c}';

/// Names that are told apart in a frame.
const MAX_NAMES: usize = 4_096;
/// Durations kept for a frame's percentiles; those of more calls are not in them.
const MAX_DURATIONS: usize = 262_144;
/// The shortest and the longest that a frame covers.
const INTERVALS_MS: (u64, u64) = (100, 60_000);
/// Columns right of the names.
const FIGURES_COLUMNS: usize = 57;
/// The narrowest and the widest that lines are laid out for.
const WIDTHS: (usize, usize) = (80, 160);

/// By what rows are sorted, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// The time that all calls took together.
    #[default]
    Time,
    /// Calls a second.
    Calls,
    /// Errors.
    Errors,
    /// The 95th percentile.
    P95,
}

/// What is to be shown, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopRequest {
    /// Only this `service.name`.
    pub service: Option<String>,
    /// What a frame covers, in milliseconds; 100 to 60,000.
    pub interval_ms: u64,
    /// Rows of a frame, at most.
    pub rows: usize,
    /// Columns of the reader's terminal.
    pub columns: usize,
    /// By what they are sorted.
    pub sort: Sort,
    /// One frame, no more.
    pub once: bool,
}

/// Calls of one name.
#[derive(Debug, Default)]
struct Calls {
    count: u64,
    errors: u64,
    total_ns: u64,
    longest_ns: u64,
    durations: Vec<u64>,
    /// Calls with a queue time, and those times.
    queued: u64,
    queue_ns: u64,
}

impl Calls {
    fn add(&mut self, span: &Span, keep: bool) {
        let took_ns = span.end_unix_ns.saturating_sub(span.start_unix_ns);
        self.count += 1;
        self.errors += u64::from(matches!(span.status, Status::Error(_)));
        self.total_ns = self.total_ns.saturating_add(took_ns);
        self.longest_ns = self.longest_ns.max(took_ns);
        if keep {
            self.durations.push(took_ns);
        }
        if let Some(queue_ns) = span.int(semconv::QUEUE_TIME_NS) {
            self.queued += 1;
            self.queue_ns = self.queue_ns.saturating_add(u64::try_from(queue_ns).unwrap_or(0));
        }
    }

    /// The duration that so many of a hundred calls don't exceed, if any was kept. `durations` are in order.
    fn percentile(&self, percent: usize) -> Option<u64> {
        let rank = (self.durations.len() * percent).div_ceil(100).max(1);
        self.durations.get(rank - 1).copied()
    }

    fn rank(&self, sort: Sort) -> u64 {
        match sort {
            Sort::Time => self.total_ns,
            Sort::Calls => self.count,
            Sort::Errors => self.errors,
            Sort::P95 => self.percentile(95).unwrap_or(0),
        }
    }
}

/// A service, whether it asks or is asked, and the span's name.
type Name = (String, bool, String);

/// What one frame shows.
#[derive(Debug, Default)]
struct Frame {
    names: HashMap<Name, Calls>,
    durations: usize,
    /// Calls beyond [`MAX_NAMES`].
    others: u64,
}

impl Frame {
    fn add(&mut self, request: &TopRequest, span: &Span) {
        let service = layout::service(span);
        if request.service.as_ref().is_some_and(|wanted| wanted != service) {
            return;
        }
        let name = (service.to_owned(), layout::is_outbound(span), span.name.to_string());
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&name) {
            self.others += 1;
            return;
        }
        let keep = self.durations < MAX_DURATIONS;
        self.durations += usize::from(keep);
        self.names.entry(name).or_default().add(span, keep);
    }

    /// `missed`: spans that this reader was too slow for.
    fn text(self, request: &TopRequest, covers: Duration, missed: u64) -> String {
        let seconds = covers.as_secs_f64().max(0.001);
        let mut rows: Vec<(Name, Calls)> = self.names.into_iter().collect();
        for (_, calls) in &mut rows {
            calls.durations.sort_unstable();
        }
        rows.sort_by(|(name, calls), (other_name, other)| {
            let most = other.rank(request.sort).cmp(&calls.rank(request.sort));
            most.then_with(|| name.cmp(other_name))
        });
        let calls = rows.iter().map(|(_, calls)| calls.count).sum::<u64>() + self.others;
        let errors: u64 = rows.iter().map(|(_, calls)| calls.errors).sum();
        let width = request.columns.clamp(WIDTHS.0, WIDTHS.1) - FIGURES_COLUMNS;
        let mut text = String::from(FRAME);
        // Writing to a String cannot fail.
        _ = write!(
            text,
            "{:.1} calls/s, {:.1} errors/s, {} names, over {:.1} s",
            rate(calls, seconds),
            rate(errors, seconds),
            rows.len(),
            seconds
        );
        if self.others > 0 {
            _ = write!(text, "; {} calls of more names", self.others);
        }
        if missed > 0 {
            _ = write!(text, "; {missed} spans are missing: this reader is too slow");
        }
        _ = writeln!(
            text,
            "\n{:<width$}{:>9}{:>8}{:>10}{:>10}{:>10}{:>10}",
            "SERVICE AND CALL", "CALLS/S", "ERRORS", "P50", "P95", "MAX", "QUEUE"
        );
        for ((service, outbound, name), calls) in rows.iter().take(request.rows) {
            let arrow = layout::arrow(*outbound);
            let label = format!("{}{arrow}{}", printable(service), printable(name));
            let label = shortened(&label, width);
            text.push_str(&label);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(columns(&label))));
            let known = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), duration);
            _ = writeln!(
                text,
                "{:>9.1}{:>6.1} %{:>10}{:>10}{:>10}{:>10}",
                rate(calls.count, seconds),
                100.0 * rate(calls.errors, 1.0) / rate(calls.count, 1.0),
                known(calls.percentile(50)),
                known(calls.percentile(95)),
                duration(calls.longest_ns),
                known(calls.queue_ns.checked_div(calls.queued)),
            );
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

impl Tap {
    /// Writes frames to `output` until it takes no more or `input` ends.
    pub async fn top(
        self,
        request: TopRequest,
        mut input: impl AsyncRead + Unpin,
        mut output: impl AsyncWrite + Unpin,
    ) {
        let interval_ms = request.interval_ms.clamp(INTERVALS_MS.0, INTERVALS_MS.1);
        let interval = Duration::from_millis(interval_ms);
        let mut began = Instant::now();
        let mut ticks = tokio::time::interval_at(began + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut frame = Frame::default();
        let mut missed = 0;
        let mut word = [0; 16];
        loop {
            tokio::select! {
                taken = self.queue().take(BATCH_SPANS, Duration::ZERO) => {
                    let Some(mut taken) = taken else { return };
                    let mut count = 0;
                    for span in queue::spans(&taken.slices) {
                        frame.add(&request, span);
                        count += 1;
                    }
                    taken.claim.exported(count);
                }
                _ = ticks.tick() => {
                    let refused = self.queue().books().refused.queue_full;
                    let covers = began.elapsed();
                    began = Instant::now();
                    let text = std::mem::take(&mut frame).text(&request, covers, refused - missed);
                    missed = refused;
                    if output.write_all(text.as_bytes()).await.is_err() || request.once {
                        return;
                    }
                }
                read = input.read(&mut word) => match read {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::duplex;

    use super::*;
    use crate::export::tap::Taps;
    use crate::export::testing::{resource, span};
    use crate::span::{Attribute, SpanKind};

    const REQUEST: TopRequest = TopRequest {
        service: None,
        interval_ms: 1_000,
        rows: 10,
        columns: 100,
        sort: Sort::Time,
        once: false,
    };

    fn call(name: &'static str, took_ms: u64, failed: bool) -> Span {
        let mut span = span(1, 1, None);
        span.name = name.into();
        span.end_unix_ns = span.start_unix_ns + took_ms * 1_000_000;
        if failed {
            span.status = Status::Error("".into());
        }
        span
    }

    fn frame(request: &TopRequest, spans: impl IntoIterator<Item = Span>) -> Vec<String> {
        let mut frame = Frame::default();
        spans.into_iter().for_each(|span| frame.add(request, &span));
        let text = frame.text(request, Duration::from_secs(2), 0);
        text.strip_prefix(FRAME).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_row_has_its_rate_errors_and_percentiles() {
        let mut spans: Vec<Span> = (1..=100).map(|ms| call("GET /a", ms, ms > 99)).collect();
        for (span, queue_ns) in spans.iter_mut().zip([10_000, 30_000]) {
            span.attributes.push(Attribute::new(semconv::QUEUE_TIME_NS, queue_ns));
        }
        let mut asks = call("GET /b", 9_000, false);
        asks.kind = SpanKind::Client;
        asks.resource = resource("other");
        let lines = frame(&REQUEST, spans.into_iter().chain([asks]));
        assert_eq!(lines[0], "50.5 calls/s, 0.5 errors/s, 2 names, over 2.0 s");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&lines[2]), "other → GET /b 0.5 0.0 % 9.00 s 9.00 s 9.00 s -");
        let expected = "service GET /a 50.0 1.0 % 50.00 ms 95.00 ms 100.00 ms 20 µs";
        assert_eq!(words(&lines[3]), expected);
        assert!(lines[1..].iter().all(|line| columns(line) <= 100), "{lines:#?}");
        let narrow = TopRequest { columns: 80, ..REQUEST };
        let lines = frame(&narrow, [call("GET /a/long/path/that/nobody/has/room/for", 1, true)]);
        assert!(lines.iter().all(|line| columns(line) <= 80), "{lines:#?}");
    }

    #[test]
    fn rows_are_sorted_bounded_and_of_the_service_that_is_asked_for() {
        let spans = || {
            let often = (0..30).map(|_| call("often", 1, false));
            often.chain([call("slow", 100, false), call("fails", 2, true)])
        };
        let first = |sort| {
            let lines = frame(&TopRequest { sort, rows: 1, ..REQUEST }, spans());
            assert_eq!(lines.len(), 3);
            lines[2].split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!([Sort::Time, Sort::Calls].map(first), ["slow", "often"]);
        assert_eq!([Sort::Errors, Sort::P95].map(first), ["fails", "slow"]);
        let nobody = TopRequest { service: Some("nobody".to_owned()), ..REQUEST };
        assert_eq!(frame(&nobody, spans()).len(), 2);
    }

    #[test]
    fn names_without_end_are_counted_and_not_kept() {
        let mut frame = Frame::default();
        for number in 0..MAX_NAMES + 10 {
            let mut span = call("", 1, false);
            span.name = number.to_string().into();
            frame.add(&REQUEST, &span);
        }
        assert_eq!((frame.names.len(), frame.others), (MAX_NAMES, 10));
        let text = frame.text(&REQUEST, Duration::from_secs(1), 7);
        assert!(text.contains("10 calls of more names; 7 spans are missing"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn frames_come_at_their_time_and_begin_anew() {
        let taps = Taps::default();
        let (near, mut far) = duplex(1 << 16);
        let (input, output) = tokio::io::split(near);
        let running = tokio::spawn(taps.open().unwrap().top(REQUEST, input, output));
        let offered: Arc<[Span]> = [call("GET /a", 1, false)].into();
        taps.offer(&offered);
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while text.matches(FRAME).count() < 2 {
            let count = far.read(&mut bytes).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        assert_eq!(text.matches("GET /a").count(), 1, "in the first only: {text}");
        drop(far);
        running.await.unwrap();
        assert!(taps.is_empty());
    }
}
