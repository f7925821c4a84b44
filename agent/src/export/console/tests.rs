//! The console: when a trace is shown, and how it looks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_semantic_conventions::attribute::{
    HTTP_RESPONSE_STATUS_CODE, SERVER_ADDRESS, SERVER_PORT,
};
use proptest::prelude::*;

use super::*;
use crate::export::testing::{batch, eventually, resource, span};
use crate::export::text::columns;
use crate::semconv;
use crate::span::{Attribute, Span, SpanId, SpanKind, Status};

const MS: u64 = 1_000_000;
const START_NS: u64 = 1_754_913_667_123_456_789;

/// A span with a service, a kind, a name, a start in ms and a duration in µs.
fn call(id: u8, parent: u8, service: &'static str, kind: SpanKind, at_ms: u64, us: u64) -> Span {
    let start_unix_ns = START_NS + at_ms * MS;
    Span {
        kind,
        name: "GET".into(),
        start_unix_ns,
        end_unix_ns: start_unix_ns + us * 1_000,
        resource: resource(service),
        ..span(1, id, (parent > 0).then_some(parent))
    }
}

fn with(mut span: Span, attributes: &[(&'static str, i64)]) -> Span {
    span.attributes.extend(attributes.iter().map(|(key, value)| Attribute::new(*key, *value)));
    span
}

fn shown(spans: &[Span], look: Look) -> String {
    let mut text = String::new();
    let spans: Vec<&Span> = spans.iter().collect();
    layout::trace(&mut text, &tree::rows(&spans, look.depth_limit()), &look);
    text
}

fn plain() -> Look {
    Look::new(80, false, false)
}

fn shop() -> Vec<Span> {
    let status = |span, code| with(span, &[(HTTP_RESPONSE_STATUS_CODE, code)]);
    let queue = |span, us: i64| with(span, &[(semconv::QUEUE_TIME_NS, us * 1_000)]);
    let named = |span, name: &'static str| Span { name: name.into(), ..span };
    let stock = named(call(5, 4, "stock", SpanKind::Server, 9, 1_840), "GET /stock/{id}");
    let stock = Span { status: Status::Error("no such table".into()), ..stock };
    let gateway = named(call(1, 0, "gateway", SpanKind::Server, 0, 12_410), "GET /orders/{id}");
    let orders = named(call(3, 2, "orders", SpanKind::Server, 1, 7_210), "GET /api/orders/{id}");
    // Children before parents, as they come.
    vec![
        queue(status(orders, 200), 310),
        status(call(2, 1, "gateway", SpanKind::Client, 1, 7_900), 200),
        queue(status(stock, 500), 110),
        status(call(4, 1, "gateway", SpanKind::Client, 9, 2_020), 500),
        queue(status(gateway, 200), 80),
    ]
}

#[test]
fn a_trace_through_three_services() {
    let expected = "\
gateway  GET /orders/{id}                     200   12.41 ms  queue 80 µs
├─ gateway → GET                              200    7.90 ms
│  └─ orders  GET /api/orders/{id}            200    7.21 ms  queue 310 µs
└─ gateway → GET                              500    2.02 ms
   └─ stock  GET /stock/{id}              ✗   500    1.84 ms  queue 110 µs
         no such table
  trace 00000000000000000000000000000001   12:01:07.123Z

";
    assert_eq!(shown(&shop(), plain()), expected);
}

#[test]
fn the_order_of_arrival_changes_nothing() {
    let mut spans = shop();
    let expected = shown(&spans, plain());
    spans.reverse();
    assert_eq!(shown(&spans, plain()), expected);
}

#[test]
fn peers_notes_and_long_names() {
    let mut withheld = call(2, 0, "web", SpanKind::Client, 3, 999);
    withheld.attributes = vec![
        Attribute::new(SERVER_ADDRESS, "10.0.0.7"),
        Attribute::new(SERVER_PORT, 6379),
        Attribute::new(semconv::PARENT_STATUS, semconv::PARENT_STATUS_WITHHELD),
        Attribute::new(semconv::PARENT_REASON, "concurrent"),
    ];
    let mut long = call(3, 1, "a-service-with-quite-a-long-name", SpanKind::Client, 1, 61_000_000);
    long.name = "SELECT something FROM somewhere".into();
    long.attributes =
        vec![Attribute::new(SERVER_ADDRESS, "::1"), Attribute::new(SERVER_PORT, 5432)];
    let late = Span { name: "東京 GET".into(), ..call(4, 9, "web", SpanKind::Internal, 4, 0) };
    let expected = "\
web  GET                                             2.00 ms
└─ a-service-with-… → SELECT … [::1]:5432            61.00 s
web → GET 10.0.0.7:6379                               999 µs
   parent withheld: concurrent
   00-00000000000000000000000000000001-0000000000000002-01
web  東京 GET                                           0 µs
   parent 0000000000000009 not shown here
";
    let root = call(1, 0, "web", SpanKind::Server, 0, 2_000);
    let text = shown(&[root, withheld, long, late], Look::new(80, false, true));
    let text: String = text
        .lines()
        .filter(|line| !line.contains("-01") || line.contains("0002-01"))
        .filter(|line| !line.starts_with("  trace") && !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(text, expected);
}

#[test]
fn colour_marks_errors_and_services_and_is_all_that_it_adds() {
    let text = shown(&shop(), Look::new(80, true, false));
    assert!(text.contains("\x1b[31m ✗\x1b[0m"), "{text}");
    assert!(text.contains("\x1b[31mno such table\x1b[0m"), "{text}");
    let mut stripped = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, shown(&shop(), plain()));
}

#[test]
fn text_from_the_wire_commands_no_terminal() {
    let hostile = "\x1b]0;owned\x07\r\n\u{9b}2J\u{202e}";
    let mut evil = call(1, 0, "x", SpanKind::Client, 0, 1);
    evil.name = hostile.into();
    evil.status = Status::Error(hostile.into());
    evil.resource = Arc::new(crate::span::Resource {
        attributes: vec![Attribute::new("service.name", hostile.to_owned())],
    });
    evil.attributes = vec![
        Attribute::new(SERVER_ADDRESS, hostile.to_owned()),
        Attribute::new(semconv::PARENT_STATUS, semconv::PARENT_STATUS_WITHHELD),
        Attribute::new(semconv::PARENT_REASON, hostile.to_owned()),
    ];
    let text = shown(&[evil], plain());
    assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{text:?}");
    assert!(!text.contains('\u{202e}'));
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn a_long_chain_stays_within_the_width() {
    let mut spans: Vec<Span> =
        (1..=200).map(|id| call(id, id - 1, "s", SpanKind::Server, id.into(), 5_000)).collect();
    spans.reverse();
    let text = shown(&spans, plain());
    assert_eq!(text.lines().filter(|line| line.contains("GET")).count(), 200);
    assert!(text.lines().all(|line| columns(line) <= 80), "{text}");
}

proptest! {
    #[test]
    fn whatever_the_ids_each_span_is_shown_once(
        ids in proptest::collection::vec((0u8..12, 0u8..12, 0u8..3), 1..40),
        width in 20usize..200,
    ) {
        let spans: Vec<Span> = ids
            .iter()
            .map(|(id, parent, kind)| {
                let kind = [SpanKind::Server, SpanKind::Client, SpanKind::Internal][usize::from(*kind)];
                call(*id, *parent, "s", kind, u64::from(*id), 1)
            })
            .collect();
        let look = Look::new(width, false, false);
        let text = shown(&spans, look);
        prop_assert_eq!(text.lines().filter(|line| line.contains("1 µs")).count(), spans.len());
        let widest = width.clamp(60, 140);
        prop_assert!(text.lines().all(|line| columns(line) <= widest), "{}", text);
    }
}

/// What a [`Hold`] gives out, as the last bytes of the trace and span ids.
fn ids(ready: &[HeldTrace]) -> Vec<(u8, Vec<u8>)> {
    let last = |id: SpanId| id.0[7];
    ready
        .iter()
        .map(|trace| {
            let spans = trace.spans();
            (spans[0].trace_id.0[15], spans.iter().map(|span| last(span.span_id)).collect())
        })
        .collect()
}

fn insert(hold: &mut Hold, spans: &[Span], now_ns: u64) {
    let queue = Queue::new("test".to_owned(), spans.len());
    queue.offer(&Arc::from(spans));
    queue.close(Refusal::Shutdown);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let taken = runtime.block_on(queue.take(spans.len(), Duration::ZERO)).unwrap();
    taken.slices.iter().for_each(|slice| hold.insert(slice, now_ns));
}

#[test]
fn a_whole_trace_is_shown_when_it_is_quiet() {
    let mut hold = Hold::new(10, 100);
    insert(&mut hold, &[span(1, 2, Some(1))], 0);
    assert!(hold.tick(1_500 * MS).is_empty(), "the root is still to come");
    insert(&mut hold, &[span(1, 1, None)], 1_500 * MS);
    assert!(hold.tick(2_699 * MS).is_empty());
    assert_eq!(ids(&hold.tick(2_700 * MS)), [(1, vec![2, 1])]);
    assert!(hold.is_empty());
}

#[test]
fn news_prolongs_the_wait_but_not_for_ever() {
    let mut hold = Hold::new(10, 100);
    for step in 0..30 {
        insert(&mut hold, &[span(1, step + 1, None)], u64::from(step) * 1_000 * MS);
        assert!(hold.tick(u64::from(step) * 1_000 * MS).is_empty());
    }
    assert!(hold.tick(29_999 * MS).is_empty());
    assert_eq!(hold.tick(30_000 * MS).len(), 1);
}

#[test]
fn a_missing_parent_on_this_node_is_waited_for_until_patience_ends() {
    let mut hold = Hold::new(10, 100);
    insert(&mut hold, &[span(1, 2, Some(1))], 0);
    assert!(hold.tick(29_999 * MS).is_empty());
    assert_eq!(hold.tick(30_000 * MS).len(), 1);
}

#[test]
fn a_caller_that_may_be_a_stranger_is_not_waited_for_longer() {
    let mut hold = Hold::new(10, 100);
    let remote = Span { parent_is_remote: true, ..span(1, 2, Some(1)) };
    insert(&mut hold, std::slice::from_ref(&remote), 0);
    assert!(hold.tick(1_199 * MS).is_empty());
    assert_eq!(hold.tick(1_200 * MS).len(), 1);
    // Here the caller does arrive, and the trace is one.
    insert(&mut hold, &[remote], 0);
    insert(&mut hold, &[span(1, 1, None)], 900 * MS);
    assert!(hold.tick(2_099 * MS).is_empty());
    assert_eq!(ids(&hold.tick(2_100 * MS)), [(1, vec![2, 1])]);
}

#[test]
fn what_is_too_much_is_shown_early_oldest_first() {
    let mut hold = Hold::new(2, 5);
    insert(&mut hold, &[span(3, 1, None), span(1, 1, None), span(2, 1, None)], 0);
    assert_eq!(ids(&hold.tick(0)), [(3, vec![1])]);
    let more: Vec<Span> = (2..6).map(|id| span(2, id, None)).collect();
    insert(&mut hold, &more, 0);
    assert_eq!(ids(&hold.tick(0)), [(1, vec![1])]);
    insert(&mut hold, &[span(2, 9, None)], 0);
    assert_eq!(hold.tick(0).len(), 1);
    assert!(hold.is_empty());
}

/// A terminal that can be read, and hung up.
#[derive(Clone, Default)]
struct Terminal {
    text: Arc<Mutex<Vec<u8>>>,
    hung_up: Arc<AtomicBool>,
}

impl Sink for Terminal {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.hung_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.text.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }
}

#[tokio::test]
async fn traces_reach_the_terminal_and_the_books() {
    let terminal = Terminal::default();
    let console = Console::new(terminal.clone(), plain(), Limits::default()).unwrap();
    let queue = Queue::new("console".to_owned(), 1_000);
    let task = tokio::spawn(console.run(Arc::clone(&queue)));
    queue.offer(&Arc::from(shop()));
    eventually("the trace is shown", || queue.books().exported == 5).await;
    // A second trace is held when the agent stops, and shown then.
    queue.offer(&Arc::from([span(2, 1, Some(7))]));
    queue.close(Refusal::Shutdown);
    task.await.unwrap();
    let books = queue.books();
    assert!(books.balanced(), "{books:?}");
    assert_eq!((books.exported, books.queued), (6, 0));
    let text = String::from_utf8(terminal.text.lock().unwrap().clone()).unwrap();
    assert!(text.starts_with(&shown(&shop(), plain())), "{text}");
    assert_eq!(text.matches("  trace ").count(), 2);
}

#[tokio::test]
async fn a_broken_pipe_ends_the_exporter_and_is_counted() {
    let terminal = Terminal::default();
    terminal.hung_up.store(true, Ordering::Relaxed);
    let console = Console::new(terminal, plain(), Limits::default()).unwrap();
    let queue = Queue::new("console".to_owned(), 1_000);
    queue.offer(&batch(3));
    // Not closed: it ends by itself.
    tokio::time::timeout(crate::export::testing::PATIENCE, console.run(Arc::clone(&queue)))
        .await
        .unwrap();
    queue.offer(&batch(2));
    let books = queue.books();
    assert!(books.balanced(), "{books:?}");
    assert_eq!((books.exported, books.refused.io, books.queued), (0, 5, 0));
    assert!(books.last_error.unwrap().contains("nobody reads"));
}
