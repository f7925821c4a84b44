//! The gRPC exporter against a receiver in this process, over pipes and in simulated time.
//!
//! Each test says what the receiver answers and holds the exporter to the books it must then show.

use std::collections::VecDeque;
use std::future;
use std::io;
use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server;
use tonic::{Code, Response};
use tonic_types::{ErrorDetails, StatusExt as _};

use tokio::time::Instant;

use super::*;
use crate::export::books::Refusal;
use crate::export::options::{Endpoint, RetryPolicy};
use crate::export::queue::Queue;
use crate::export::sender::{self, Sender};
use crate::export::testing::{PATIENCE, batch};
use crate::export::{ExporterBooks, Limits, Refused};

enum Answer {
    Partial(i64, &'static str),
    Fail(Status),
    Hang,
}

/// Answers as its script says, and with success once that has ended.
#[derive(Default)]
struct Receiver {
    script: StdMutex<VecDeque<Answer>>,
    requests: StdMutex<Vec<(Instant, usize)>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.get_ref().resource_spans.iter().flat_map(|group| &group.scope_spans);
        let spans = spans.map(|scope| scope.spans.len()).sum();
        self.requests.lock().unwrap().push((Instant::now(), spans));
        let answer = self.script.lock().unwrap().pop_front();
        match answer {
            None => Ok(Response::new(ExportTraceServiceResponse::default())),
            Some(Answer::Partial(rejected_spans, message)) => {
                let error_message = message.to_owned();
                let partial = ExportTracePartialSuccess { rejected_spans, error_message };
                Ok(Response::new(ExportTraceServiceResponse { partial_success: Some(partial) }))
            }
            Some(Answer::Fail(status)) => Err(status),
            Some(Answer::Hang) => future::pending().await,
        }
    }
}

struct Bench {
    receiver: Arc<Receiver>,
    queue: Arc<Queue>,
    tasks: JoinSet<()>,
}

impl Bench {
    /// An exporter and its receiver; the first `refusals` connections are refused.
    fn new(script: Vec<Answer>, refusals: usize, options: &OtlpOptions, limits: Limits) -> Self {
        let receiver = Arc::new(Receiver::default());
        receiver.script.lock().unwrap().extend(script);
        let (accepted, incoming) = mpsc::unbounded_channel::<io::Result<DuplexStream>>();
        let service = TraceServiceServer::from_arc(Arc::clone(&receiver));
        let mut tasks = JoinSet::new();
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(UnboundedReceiverStream::new(incoming)),
        );

        let left = Arc::new(AtomicUsize::new(refusals));
        let connector = tower::service_fn(move |_| {
            let refused = left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok();
            let (client, server) = tokio::io::duplex(64 * 1024);
            if !refused {
                accepted.send(Ok(server)).unwrap();
            }
            future::ready(match refused {
                true => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                false => Ok(TokioIo::new(client)),
            })
        });
        let channel = endpoint(options).unwrap().connect_with_connector_lazy(connector);
        let client = sender::Client::Grpc(Client::new(channel, options).unwrap());
        let sender = Sender::new(client, options, limits);
        let queue = Queue::new("otlp".to_owned(), limits.queue_spans);
        for _ in 0..limits.concurrent_requests {
            tasks.spawn(sender.clone().run(Arc::clone(&queue)));
        }
        Self { receiver, queue, tasks }
    }

    fn with(script: Vec<Answer>) -> Self {
        Self::new(script, 0, &OtlpOptions::default(), Limits::default())
    }

    /// Closes the queue and waits for the exporter's own end.
    async fn finish(mut self) -> (ExporterBooks, Vec<(Instant, usize)>) {
        self.queue.close(Refusal::Shutdown);
        let end = async { while self.tasks.join_next().await.is_some() {} };
        // In simulated time: an exporter that would try for an hour is stuck.
        tokio::time::timeout(Duration::from_secs(3_600), end).await.unwrap();
        let books = self.queue.books();
        assert!(books.balanced(), "{books:?}");
        assert_eq!(books.queued, 0, "{books:?}");
        let requests = self.receiver.requests.lock().unwrap().clone();
        (books, requests)
    }

    /// Exports one batch of `spans` and waits for the exporter's end.
    async fn export(self, spans: usize) -> (ExporterBooks, Vec<(Instant, usize)>) {
        self.queue.offer(&batch(spans));
        self.finish().await
    }
}

fn fail(code: Code) -> Answer {
    Answer::Fail(Status::new(code, "says the receiver"))
}

fn fail_with_retry_info(code: Code, delay: Option<Duration>) -> Answer {
    let details = ErrorDetails::with_retry_info(delay);
    Answer::Fail(Status::with_error_details(code, "patience", details))
}

#[tokio::test(start_paused = true)]
async fn success() {
    let (books, requests) = Bench::with(vec![]).export(7).await;
    assert_eq!((books.offered, books.exported, books.last_error), (7, 7, None));
    assert_eq!(requests.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_retryable_code_is_tried_again() {
    let codes = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ];
    let (books, requests) = Bench::with(codes.map(fail).into()).export(3).await;
    assert_eq!((books.exported, books.refused.total()), (3, 0));
    assert_eq!(requests.iter().map(|(_, spans)| *spans).collect::<Vec<_>>(), [3; 7]);
    assert_eq!(books.last_error.as_deref(), Some("DataLoss: says the receiver"));
}

#[tokio::test(start_paused = true)]
async fn other_codes_are_not() {
    for code in [Code::InvalidArgument, Code::Unauthenticated, Code::Internal, Code::Unknown] {
        let (books, requests) = Bench::with(vec![fail(code)]).export(3).await;
        assert_eq!(books.refused, Refused { rejected: 3, ..Refused::default() }, "{code:?}");
        assert_eq!(requests.len(), 1, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn exhausted_resources_are_tried_again_only_if_the_receiver_says_so() {
    let (books, requests) = Bench::with(vec![fail(Code::ResourceExhausted)]).export(3).await;
    assert_eq!((books.refused.rejected, requests.len()), (3, 1));

    let wish = Duration::from_secs(17);
    let answer = fail_with_retry_info(Code::ResourceExhausted, Some(wish));
    let (books, requests) = Bench::with(vec![answer]).export(3).await;
    assert_eq!((books.exported, requests.len()), (3, 2));
    assert!(requests[1].0 - requests[0].0 >= wish);

    let answer = fail_with_retry_info(Code::ResourceExhausted, None);
    let (books, requests) = Bench::with(vec![answer]).export(3).await;
    assert_eq!((books.exported, requests.len()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_wish_beyond_the_limit_is_given_up_at_once() {
    let answer = fail_with_retry_info(Code::Unavailable, Some(Duration::from_secs(600)));
    let (books, requests) = Bench::with(vec![answer]).export(3).await;
    assert_eq!((books.refused.retries_exhausted, requests.len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn retries_end() {
    let script = (0..1_000).map(|_| fail(Code::Unavailable)).collect();
    let (books, requests) = Bench::with(script).export(3).await;
    assert_eq!(books.refused, Refused { retries_exhausted: 3, ..Refused::default() });
    assert!(requests.len() > 5);
    let spent = requests.last().unwrap().0 - requests[0].0;
    assert!(spent <= RetryPolicy::default().give_up_after, "{spent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partial_success_is_not_retried() {
    let script = vec![Answer::Partial(2, "two are too old")];
    let (books, requests) = Bench::with(script).export(5).await;
    assert_eq!((books.exported, books.refused.rejected), (3, 2));
    assert_eq!(requests.len(), 1);
    let expected = "the receiver refused 2 of 5 spans: two are too old";
    assert_eq!(books.last_error.as_deref(), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_s_arithmetic_cannot_upset_the_books() {
    for (rejected, exported) in [(i64::MAX, 0), (-1, 5), (0, 5)] {
        let (books, _) = Bench::with(vec![Answer::Partial(rejected, "hm")]).export(5).await;
        assert_eq!((books.exported, books.refused.rejected), (exported, 5 - exported));
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_is_left_after_the_timeout_and_tried_again() {
    let options = OtlpOptions { timeout: Duration::from_secs(3), ..OtlpOptions::default() };
    let bench = Bench::new(vec![Answer::Hang], 0, &options, Limits::default());
    let (books, requests) = bench.export(4).await;
    assert_eq!((books.exported, requests.len()), (4, 2));
    assert!(requests[1].0 - requests[0].0 >= options.timeout);
    let error = books.last_error.unwrap();
    assert!(error.contains("3000 ms") || error.contains("Timeout expired"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_absent_receiver_that_appears_gets_everything() {
    let bench = Bench::new(vec![], 3, &OtlpOptions::default(), Limits::default());
    let (books, requests) = bench.export(4).await;
    assert_eq!((books.exported, requests.len()), (4, 1));
    let error = books.last_error.unwrap();
    assert!(error.starts_with("Unavailable") && error.contains("connection refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn while_backing_off_the_queue_fills_and_then_refuses() {
    let limits = Limits { queue_spans: 10, concurrent_requests: 1, ..Limits::default() };
    let script = (0..1_000).map(|_| fail(Code::Unavailable)).collect();
    let bench = Bench::new(script, 0, &OtlpOptions::default(), limits);
    bench.queue.offer(&batch(8));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // In flight counts: there is room for two, whatever the queue itself holds.
    bench.queue.offer(&batch(5));
    bench.queue.offer(&batch(1));
    let books = bench.queue.books();
    assert_eq!((books.queued, books.refused.queue_full), (10, 4), "{books:?}");
    assert!(books.balanced());
    let (books, _) = bench.finish().await;
    assert_eq!((books.refused.retries_exhausted, books.refused.queue_full), (10, 4));
}

#[tokio::test(start_paused = true)]
async fn batches_are_merged_and_cut_to_size() {
    let limits = Limits { concurrent_requests: 1, ..Limits::default() };
    let bench = Bench::new(vec![], 0, &OtlpOptions::default(), limits);
    for spans in [100, 500, 600, 1] {
        bench.queue.offer(&batch(spans));
    }
    let (books, requests) = bench.finish().await;
    assert_eq!(books.exported, 1_201);
    assert_eq!(requests.iter().map(|(_, spans)| *spans).collect::<Vec<_>>(), [512, 512, 177]);
}

#[tokio::test(start_paused = true)]
async fn a_span_is_out_within_two_seconds_at_any_load() {
    for (batches, size, pause_ms) in [(1, 1, 0), (50, 1, 30), (200, 500, 10), (400, 1, 1)] {
        let bench = Bench::with(vec![]);
        for _ in 0..batches {
            bench.queue.offer(&batch(size));
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        let all_offered = Instant::now();
        // Not closed: what is left must go out by itself.
        let queue = Arc::clone(&bench.queue);
        let out = async {
            while queue.books().queued > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, out).await.unwrap();
        assert!(all_offered.elapsed() < Duration::from_secs(2));
        let (books, requests) = bench.finish().await;
        assert_eq!(books.exported, batches * size as u64);
        assert!(requests.len() < 30 + books.exported as usize / 256, "{}", requests.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_task_counts_what_it_was_sending() {
    let mut bench = Bench::with((0..9).map(|_| Answer::Hang).collect());
    bench.queue.offer(&batch(6));
    while bench.receiver.requests.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.queue.books().queued, 6);
    bench.tasks.shutdown().await;
    bench.queue.offer(&batch(2));
    bench.queue.refuse_waiting(Refusal::Shutdown);
    bench.queue.offer(&batch(1));
    let (books, _) = bench.finish().await;
    assert_eq!(books.refused, Refused { shutdown: 9, ..Refused::default() });
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_repeats_credentials_does_not_get_them_into_the_books() {
    let status = Status::unauthenticated("token hunter22 is not known\x1b[2J");
    let options = OtlpOptions {
        headers: vec![("authorization".to_owned(), "Bearer hunter22".to_owned())],
        ..OtlpOptions::default()
    };
    let bench = Bench::new(vec![Answer::Fail(status)], 0, &options, Limits::default());
    let (books, _) = bench.export(1).await;
    let error = books.last_error.unwrap();
    assert_eq!(error, "Unauthenticated: token *** is not known\\u{1b}[2J");
}

/// A proxy that is asked for a tunnel leads to the receiver.
#[tokio::test]
async fn a_proxy_s_tunnel_is_used() {
    let (tunnels, mut asked) = mpsc::unbounded_channel();
    let (accepted, incoming) = mpsc::unbounded_channel::<io::Result<tokio::net::TcpStream>>();
    let receiver = Arc::new(Receiver::default());
    let service = TraceServiceServer::from_arc(Arc::clone(&receiver));
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(UnboundedReceiverStream::new(incoming)),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        tunnels.send(String::from_utf8(head).unwrap()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        accepted.send(Ok(stream)).unwrap();
        future::pending::<()>().await;
    });
    let endpoint = Endpoint::parse("http://collector.invalid:4317", false).unwrap();
    let options = OtlpOptions { endpoint: Some(endpoint), ..OtlpOptions::default() };
    let matcher = Matcher::builder().all(format!("http://user:pass@{address}")).build();
    let channel = connect_through(&options, matcher.intercept(options.receiver().uri())).unwrap();
    let mut client = Client::new(channel, &options).unwrap();
    client.send(ExportTraceServiceRequest::default()).await.unwrap();
    let head = asked.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("connect collector.invalid:4317 http/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"), "{head}");
    assert_eq!(receiver.requests.lock().unwrap().len(), 1);
}
