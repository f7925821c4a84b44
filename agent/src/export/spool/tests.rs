//! An exporter with a disk queue, against a receiver in this process that is away, slow or choosy.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::*;
use crate::export::options::Endpoint;
use crate::export::testing::{Mounted, PATIENCE, eventually, listen, span};
use crate::export::{ExporterBooks, Exporters, Target};
use crate::span::{Span, TraceId};

const MIB: u64 = 1 << 20;

/// What a receiver says to a request with these spans.
type Says = fn(&[u64]) -> Result<i64, Status>;

struct Receiver {
    says: Mutex<Says>,
    /// Spans of requests that were taken, by number, in order.
    taken: Mutex<Vec<u64>>,
    requests: Mutex<usize>,
    /// Requests hang until told.
    hangs: Option<Notify>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let groups = request.into_inner().resource_spans.into_iter();
        let spans = groups.flat_map(|group| group.scope_spans).flat_map(|scope| scope.spans);
        let number = |id: Vec<u8>| u64::from_be_bytes(id[..8].try_into().unwrap());
        let numbers: Vec<u64> = spans.map(|span| number(span.trace_id)).collect();
        *self.requests.lock().unwrap() += 1;
        if let Some(hangs) = &self.hangs {
            hangs.notified().await;
        }
        let says = *self.says.lock().unwrap();
        let rejected_spans = says(&numbers)?;
        self.taken.lock().unwrap().extend(numbers);
        let error_message = String::new();
        let partial = ExportTracePartialSuccess { rejected_spans, error_message };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: Some(partial) }))
    }
}

impl Receiver {
    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn taken(&self) -> Vec<u64> {
        self.taken.lock().unwrap().clone()
    }
}

fn takes(_: &[u64]) -> Result<i64, Status> {
    Ok(0)
}

fn is_away(_: &[u64]) -> Result<i64, Status> {
    Err(Status::unavailable("away"))
}

fn serve(listener: TcpListener, says: Says, hangs: bool) -> Arc<Receiver> {
    let receiver = Arc::new(Receiver {
        says: Mutex::new(says),
        taken: Mutex::default(),
        requests: Mutex::default(),
        hangs: hangs.then(Notify::new),
    });
    let service =
        TraceServiceServer::from_arc(Arc::clone(&receiver)).max_decoding_message_size(usize::MAX);
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)),
    );
    receiver
}

/// A receiver, an exporter's options, and a directory that goes with them.
struct Bench {
    address: SocketAddr,
    directory: PathBuf,
    max_bytes: u64,
    give_up_after: Duration,
    limits: Limits,
    _parent: Option<tempfile::TempDir>,
}

impl Bench {
    fn new(address: SocketAddr) -> Self {
        let parent = tempfile::tempdir().unwrap();
        Self {
            address,
            directory: parent.path().join("queue"),
            max_bytes: 64 * MIB,
            give_up_after: Duration::from_secs(60),
            limits: Limits {
                batch_spans: 10,
                linger: Duration::from_millis(1),
                concurrent_requests: 1,
                ..Limits::default()
            },
            _parent: Some(parent),
        }
    }

    fn target(&self) -> Target {
        let endpoint = Endpoint::parse(&format!("http://{}", self.address), false).unwrap();
        Target::Otlp(OtlpOptions {
            endpoint: Some(endpoint),
            headers: vec![("authorization".to_owned(), "Bearer s3cret-t0ken".to_owned())],
            retry: RetryPolicy {
                initial_backoff: Duration::from_millis(5),
                max_backoff: Duration::from_millis(20),
                give_up_after: self.give_up_after,
            },
            disk_queue: Some(DiskOptions {
                directory: self.directory.clone(),
                max_bytes: self.max_bytes,
            }),
            ..OtlpOptions::default()
        })
    }

    fn start(&self) -> Exporters {
        Exporters::start(vec![self.target()], &Handle::current(), self.limits).unwrap()
    }
}

fn numbered(numbers: std::ops::Range<u64>) -> Arc<[Span]> {
    let spans = numbers.map(|number| {
        let mut trace_id = [0xff; 16];
        trace_id[..8].copy_from_slice(&number.to_be_bytes());
        Span { trace_id: TraceId(trace_id), ..span(1, 1, None) }
    });
    spans.collect()
}

/// In batches of ten, each of which is seen to before the next is there.
async fn offer(exporters: &Exporters, numbers: std::ops::Range<u64>) {
    for start in numbers.clone().step_by(10) {
        exporters.offer(&numbered(start..numbers.end.min(start + 10)));
        tokio::task::yield_now().await;
    }
}

fn books(exporters: &Exporters) -> ExporterBooks {
    let books = exporters.books().remove(0);
    assert!(books.balanced(), "{books:?}");
    books
}

async fn shut(exporters: Exporters) -> ExporterBooks {
    let books = exporters.shutdown(PATIENCE).await.remove(0);
    assert!(books.balanced() && books.queued == 0, "{books:?}");
    books
}

fn error(books: &ExporterBooks) -> String {
    books.disk.clone().unwrap().error.unwrap_or_default()
}

/// Bytes of the files in a directory, but for the lock's.
fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[tokio::test]
async fn while_the_receiver_takes_them_nothing_is_written() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, takes, false);
    let bench = Bench::new(address);
    let exporters = bench.start();
    offer(&exporters, 0..200).await;
    eventually("all arrive", || books(&exporters).exported == 200).await;
    assert_eq!(bytes_in(&bench.directory), 0);
    assert_eq!(receiver.taken(), Vec::from_iter(0..200));
    let books = shut(exporters).await;
    assert_eq!((books.refused.total(), books.disk.unwrap().failures), (0, 0));
}

#[tokio::test]
async fn a_receiver_that_is_not_there_gets_all_in_order_once_it_is() {
    for concurrent_requests in [1, 4] {
        let (listener, address) = listen().await;
        drop(listener);
        let mut bench = Bench::new(address);
        bench.limits.concurrent_requests = concurrent_requests;
        // Far less than waits.
        bench.limits.queue_spans = 100;
        let exporters = bench.start();
        for start in (0..1_000).step_by(50) {
            offer(&exporters, start..start + 50).await;
            eventually("it is on disk", || books(&exporters).on_disk == start + 50).await;
        }
        let before = books(&exporters);
        assert_eq!((before.queued, before.refused.total()), (0, 0), "{before:?}");
        assert_eq!(before.disk.unwrap().bytes, bytes_in(&bench.directory));

        let receiver = serve(TcpListener::bind(address).await.unwrap(), takes, false);
        offer(&exporters, 1_000..1_050).await;
        eventually("all arrive", || books(&exporters).exported == 1_050).await;
        let mut taken = receiver.taken();
        if concurrent_requests > 1 {
            taken.sort_unstable();
        }
        assert_eq!(taken, Vec::from_iter(0..1_050));
        assert_eq!(bytes_in(&bench.directory), 0);
        let books = shut(exporters).await;
        assert_eq!((books.restored, books.refused.total()), (0, 0));
    }
}

#[tokio::test]
async fn the_next_agent_sends_what_the_last_one_left() {
    let (listener, address) = listen().await;
    drop(listener);
    let bench = Bench::new(address);
    let exporters = bench.start();
    offer(&exporters, 0..95).await;
    let left = shut(exporters).await;
    assert_eq!((left.on_disk, left.refused.total()), (95, 0));

    // One that is stopped at once, without a chance to put anything away.
    let exporters = bench.start();
    eventually("it finds them", || books(&exporters).restored == 95).await;
    offer(&exporters, 95..100).await;
    eventually("all are on disk", || books(&exporters).on_disk == 100).await;
    drop(exporters);

    let receiver = serve(TcpListener::bind(address).await.unwrap(), takes, false);
    let exporters = bench.start();
    eventually("all arrive", || books(&exporters).exported == 100).await;
    assert_eq!(receiver.taken(), Vec::from_iter(0..100));
    let books = shut(exporters).await;
    assert_eq!((books.offered, books.restored, books.on_disk), (0, 100, 0));
}

#[tokio::test]
async fn a_changed_exporter_takes_the_directory_over() {
    let (listener, address) = listen().await;
    drop(listener);
    let mut bench = Bench::new(address);
    let mut exporters = bench.start();
    offer(&exporters, 0..95).await;
    eventually("they are on disk", || books(&exporters).on_disk == 95).await;
    offer(&exporters, 95..99).await;
    bench.give_up_after = Duration::from_secs(61);
    exporters.replace(vec![bench.target()], bench.limits).unwrap();
    offer(&exporters, 99..110).await;
    eventually("all are on disk", || books(&exporters).on_disk == 110).await;
    assert_eq!((books(&exporters).restored, books(&exporters).offered), (0, 110));

    let receiver = serve(TcpListener::bind(address).await.unwrap(), takes, false);
    eventually("all arrive", || books(&exporters).exported == 110).await;
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter(0..110));
    let books = shut(exporters).await;
    assert_eq!((books.restored, books.on_disk, books.refused.total()), (0, 0, 0));
    assert_eq!(error(&books), "");
}

#[tokio::test]
async fn what_was_damaged_meanwhile_is_counted() {
    let (listener, address) = listen().await;
    drop(listener);
    let bench = Bench::new(address);
    let exporters = bench.start();
    offer(&exporters, 0..30).await;
    assert_eq!(shut(exporters).await.on_disk, 30);
    let mut segments: Vec<PathBuf> =
        fs::read_dir(&bench.directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.metadata().unwrap().len() > 0);
    let mut content = fs::read(&segments[0]).unwrap();
    // In the second request.
    let frame = content.len() / 3;
    content[frame + frame / 2] ^= 1;
    fs::write(&segments[0], content).unwrap();

    let receiver = serve(TcpListener::bind(address).await.unwrap(), takes, false);
    let exporters = bench.start();
    eventually("the others arrive", || books(&exporters).exported == 20).await;
    eventually("and these don't", || books(&exporters).refused.damaged == 10).await;
    assert_eq!(receiver.taken(), Vec::from_iter((0..10).chain(20..30)));
    let books = shut(exporters).await;
    assert_eq!((books.restored, books.on_disk), (30, 0));
}

#[tokio::test]
async fn what_the_receiver_refuses_for_good_is_gone_and_counted() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, is_away, false);
    let bench = Bench::new(address);
    let exporters = bench.start();
    offer(&exporters, 0..30).await;
    eventually("all are on disk", || books(&exporters).on_disk == 30).await;
    receiver.says(|numbers| match numbers[0] {
        0 => Ok(3),
        10 => Err(Status::invalid_argument("never")),
        _ => Ok(0),
    });
    eventually("it is over", || books(&exporters).on_disk == 0).await;
    let books = shut(exporters).await;
    assert_eq!((books.exported, books.refused.rejected), (17, 13));
    assert_eq!(bytes_in(&bench.directory), 0);
}

#[tokio::test]
async fn one_request_that_the_receiver_never_takes_does_not_hold_up_the_others() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, is_away, false);
    let mut bench = Bench::new(address);
    bench.give_up_after = Duration::from_millis(300);
    let exporters = bench.start();
    offer(&exporters, 0..50).await;
    eventually("all are on disk", || books(&exporters).on_disk == 50).await;
    // However long all fail, nothing is given up.
    let requests = *receiver.requests.lock().unwrap();
    eventually("many attempts", || *receiver.requests.lock().unwrap() > requests + 40).await;
    assert_eq!(books(&exporters).refused.total(), 0);
    receiver.says(|numbers| if numbers[0] == 10 { is_away(numbers) } else { Ok(0) });
    // That others were taken says something against it only when it goes on for as long.
    let mut offered = 50;
    loop {
        eventually("the others are taken", || books(&exporters).exported == offered - 10).await;
        if books(&exporters).on_disk == 0 {
            break;
        }
        offer(&exporters, offered..offered + 10).await;
        offered += 10;
    }
    assert!(offered > 50);
    let books = shut(exporters).await;
    assert_eq!((books.exported, books.refused.retries_exhausted), (offered - 10, 10));
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter((0..10).chain(20..offered)));
}

#[tokio::test]
async fn one_failure_after_an_outage_gives_nothing_up() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, is_away, false);
    let mut bench = Bench::new(address);
    bench.give_up_after = Duration::from_millis(100);
    let exporters = bench.start();
    offer(&exporters, 0..50).await;
    let requests = *receiver.requests.lock().unwrap();
    eventually("many attempts", || *receiver.requests.lock().unwrap() > requests + 40).await;
    // It is back, and refuses the oldest once more after it has taken another.
    receiver.says(|numbers| {
        static TOOK_ANOTHER: AtomicBool = AtomicBool::new(false);
        static REFUSED: AtomicBool = AtomicBool::new(false);
        if numbers[0] != 0 {
            TOOK_ANOTHER.store(true, Ordering::Relaxed);
            return Ok(0);
        }
        let took_another = TOOK_ANOTHER.load(Ordering::Relaxed);
        if took_another && REFUSED.swap(true, Ordering::Relaxed) { Ok(0) } else { is_away(numbers) }
    });
    eventually("all are taken", || books(&exporters).exported == 50).await;
    assert_eq!(shut(exporters).await.refused.total(), 0);
}

#[tokio::test]
async fn the_bound_is_kept_and_what_does_not_fit_is_refused() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, is_away, false);
    let mut bench = Bench::new(address);
    bench.max_bytes = 40_000;
    bench.limits.queue_spans = 50;
    let exporters = bench.start();
    let mut offered = 0;
    while books(&exporters).refused.queue_full == 0 {
        offer(&exporters, offered..offered + 10).await;
        offered += 10;
        let books = books(&exporters);
        let disk = books.disk.unwrap();
        assert!(disk.bytes <= 40_000 && bytes_in(&bench.directory) <= 40_000, "{disk:?}");
        let seen_to = || {
            let now = self::books(&exporters);
            now.on_disk + now.refused.total() >= offered || error(&now).contains("bound")
        };
        eventually("it is on disk, or that is full", seen_to).await;
    }
    let full = books(&exporters);
    assert!(full.on_disk > 100 && full.queued == 50, "{full:?}");
    receiver.says(takes);
    eventually("the rest arrives", || books(&exporters).exported == full.on_disk + 50).await;
    assert_eq!(error(&books(&exporters)), "");
    let refused = books(&exporters).refused.queue_full;
    // The oldest were kept, and they came in order.
    assert_eq!(receiver.taken(), Vec::from_iter(0..offered - refused));
    shut(exporters).await;
}

#[tokio::test]
async fn on_a_full_disk_spans_wait_in_memory_until_there_is_room() {
    let Some(mounted) = Mounted::new("1m") else { return };
    let (listener, address) = listen().await;
    let receiver = serve(listener, is_away, false);
    let mut bench = Bench::new(address);
    bench.directory = mounted.path().join("queue");
    bench.limits.queue_spans = 50;
    let exporters = bench.start();
    fs::write(mounted.path().join("filler"), vec![1; 1_030_000]).unwrap();
    offer(&exporters, 0..80).await;
    eventually("it is said", || error(&books(&exporters)).contains("no storage space")).await;
    let full = books(&exporters);
    assert_eq!((full.refused.queue_full, full.queued, full.on_disk), (30, 50, 0), "{full:?}");
    assert!(full.disk.unwrap().failures > 0);
    fs::remove_file(mounted.path().join("filler")).unwrap();
    eventually("all goes there", || books(&exporters).on_disk == 50).await;
    assert_eq!(error(&books(&exporters)), "");
    receiver.says(takes);
    eventually("all arrive", || books(&exporters).exported == 50).await;
    assert_eq!(receiver.taken(), Vec::from_iter(0..50));
    shut(exporters).await;
}

#[tokio::test]
async fn without_its_directory_an_exporter_has_its_memory() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, is_away, false);
    let mut bench = Bench::new(address);
    fs::write(&bench.directory, "no directory").unwrap();
    let exporters = bench.start();
    offer(&exporters, 0..30).await;
    eventually("it is said", || error(&books(&exporters)).contains("no directory")).await;
    receiver.says(takes);
    eventually("all arrive", || books(&exporters).exported == 30).await;
    assert_eq!(shut(exporters).await.disk.unwrap().failures, 1);

    // And gives up as one without.
    receiver.says(is_away);
    bench.give_up_after = Duration::from_millis(50);
    let exporters = bench.start();
    offer(&exporters, 0..30).await;
    eventually("all are given up", || books(&exporters).refused.retries_exhausted == 30).await;
    shut(exporters).await;
}

#[tokio::test]
async fn the_second_of_two_agents_goes_on_without() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, is_away, false);
    let bench = Bench::new(address);
    let first = bench.start();
    offer(&first, 0..10).await;
    eventually("the first has it", || books(&first).on_disk == 10).await;
    let second = bench.start();
    offer(&second, 10..20).await;
    eventually("the second says it", || error(&books(&second)).contains("another agent")).await;
    assert_eq!((books(&second).restored, books(&second).on_disk), (0, 0));
    receiver.says(takes);
    eventually("both send", || books(&first).exported + books(&second).exported == 20).await;
    shut(first).await;
    shut(second).await;
}

#[tokio::test]
async fn what_cannot_be_sent_in_time_at_the_end_is_put_away() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, takes, true);
    let mut bench = Bench::new(address);
    bench.limits.concurrent_requests = 2;
    let exporters = bench.start();
    offer(&exporters, 0..100).await;
    eventually("requests hang", || *receiver.requests.lock().unwrap() == 2).await;
    let books = exporters.shutdown(Duration::from_secs(2)).await.remove(0);
    assert!(books.balanced(), "{books:?}");
    assert_eq!((books.on_disk, books.refused.total(), books.queued), (100, 0, 0), "{books:?}");

    let (listener, address) = listen().await;
    bench.address = address;
    let receiver = serve(listener, takes, false);
    let exporters = bench.start();
    eventually("all arrive", || self::books(&exporters).exported == 100).await;
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter(0..100));
    shut(exporters).await;
}

#[tokio::test]
async fn a_slow_receiver_has_the_disk_behind_half_of_the_memory() {
    let (listener, address) = listen().await;
    let receiver = serve(listener, takes, true);
    let mut bench = Bench::new(address);
    bench.limits.queue_spans = 50;
    let exporters = bench.start();
    for start in (0..200).step_by(10) {
        offer(&exporters, start..start + 10).await;
        let below_half = || books(&exporters).queued < 35;
        eventually("there is room", below_half).await;
    }
    let waits = books(&exporters);
    assert!(waits.on_disk >= 150 && waits.refused.total() == 0, "{waits:?}");
    let all = async {
        while books(&exporters).exported < 200 {
            receiver.hangs.as_ref().unwrap().notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_eq!(receiver.taken(), Vec::from_iter(0..200));
    receiver.hangs.as_ref().unwrap().notify_one();
    shut(exporters).await;
}

#[tokio::test]
async fn no_credential_is_on_disk() {
    let (listener, address) = listen().await;
    drop(listener);
    let bench = Bench::new(address);
    let exporters = bench.start();
    offer(&exporters, 0..10).await;
    eventually("all are on disk", || books(&exporters).on_disk == 10).await;
    let mut bytes = 0;
    for entry in fs::read_dir(&bench.directory).unwrap() {
        let path = entry.unwrap().path();
        let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let all = format!("{}{content}", path.display());
        assert!(!all.contains("s3cret") && !all.contains("authorization"), "{all}");
        bytes += content.len();
    }
    assert!(bytes > 100, "{bytes}");
    shut(exporters).await;
}
