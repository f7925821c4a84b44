//! The export stage as the pipeline uses it, over real sockets and files.

use std::net::SocketAddr;
use std::sync::Mutex;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::testing::{PATIENCE, batch, eventually, listen};
use super::*;

#[derive(Default)]
struct Receiver {
    requests: Mutex<Vec<(MetadataMap, ExportTraceServiceRequest)>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.requests.lock().unwrap().push((metadata, request));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn serve(listener: TcpListener) -> Arc<Receiver> {
    let receiver = Arc::new(Receiver::default());
    let service = TraceServiceServer::from_arc(Arc::clone(&receiver))
        .accept_compressed(CompressionEncoding::Gzip);
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    receiver
}

fn otlp(address: SocketAddr, options: OtlpOptions) -> Target {
    let endpoint = Endpoint::parse(&format!("http://{address}"), false).unwrap();
    Target::Otlp(OtlpOptions { endpoint: Some(endpoint), ..options })
}

fn start(targets: Vec<Target>, limits: Limits) -> Exporters {
    Exporters::start(targets, &Handle::current(), limits).unwrap()
}

#[tokio::test]
async fn gzip_headers_and_spans_arrive() {
    let (listener, address) = listen().await;
    let receiver = serve(listener);
    let options = OtlpOptions {
        headers: vec![("x-tenant".to_owned(), "7".to_owned())],
        compression: Compression::Gzip,
        ..OtlpOptions::default()
    };
    let exporters = start(vec![otlp(address, options)], Limits::default());
    // From a thread that knows no runtime, as the pipeline's.
    let handle = exporters.handle();
    std::thread::spawn(move || handle.offer(&batch(300))).join().unwrap();
    let books = exporters.shutdown(PATIENCE).await;
    assert_eq!((books[0].exported, books[0].queued), (300, 0));
    assert!(books[0].balanced());

    let requests = receiver.requests.lock().unwrap();
    let (metadata, request) = &requests[0];
    assert_eq!(metadata.get("x-tenant").unwrap(), "7");
    assert_eq!(metadata.get("grpc-encoding").unwrap(), "gzip");
    let agent = metadata.get("user-agent").unwrap().to_str().unwrap();
    assert!(agent.starts_with("wirespan/"), "{agent}");
    assert_eq!(request.resource_spans.iter().flat_map(|group| &group.scope_spans).count(), 1);
}

#[tokio::test]
async fn a_receiver_may_appear_later() {
    let (listener, address) = listen().await;
    drop(listener);
    let options = OtlpOptions {
        retry: RetryPolicy { initial_backoff: Duration::from_millis(5), ..RetryPolicy::default() },
        ..OtlpOptions::default()
    };
    let exporters = start(vec![otlp(address, options)], Limits::default());
    exporters.offer(&batch(10));
    eventually("the first attempt fails", || exporters.books()[0].last_error.is_some()).await;
    let receiver = serve(TcpListener::bind(address).await.unwrap());
    eventually("the spans arrive", || exporters.books()[0].exported == 10).await;
    assert_eq!(receiver.requests.lock().unwrap().len(), 1);
    let books = exporters.shutdown(PATIENCE).await;
    assert!(books[0].balanced());
}

#[tokio::test]
async fn an_exporter_that_is_stuck_stalls_no_other_and_shutdown_keeps_its_deadline() {
    // Accepts connections by the kernel's backlog alone and never answers.
    let (_listener, address) = listen().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    let limits = Limits { queue_spans: 100, ..Limits::default() };
    let exporters = start(vec![otlp(address, OtlpOptions::default()), Target::File(path)], limits);
    let mut offered = 0;
    while exporters.books()[0].refused.queue_full == 0 {
        exporters.offer(&batch(30));
        offered += 30;
        eventually("the file takes all", || exporters.books()[1].exported == offered).await;
    }
    let handle = exporters.handle();
    let books = exporters.shutdown(Duration::from_millis(50)).await;
    assert!(books.iter().all(ExporterBooks::balanced), "{books:?}");
    assert_eq!((books[0].exported, books[0].queued), (0, 0));
    assert_eq!((books[0].refused.shutdown, books[0].refused.queue_full), (100, offered - 100));
    assert_eq!(books[1].exported, offered);

    handle.offer(&batch(1));
    let late = handle.books();
    assert!(late.iter().all(ExporterBooks::balanced), "{late:?}");
    assert_eq!(late[1].refused.shutdown, 1);
}

/// A receiver behind TLS whose certificate only `ca.pem` in the directory vouches for.
async fn serve_tls(directory: &std::path::Path) -> (Arc<Receiver>, SocketAddr) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("ca.pem"), signed.cert.pem()).unwrap();
    let identity = Identity::from_pem(signed.cert.pem(), signed.signing_key.serialize_pem());
    let (listener, address) = listen().await;
    let receiver = Arc::new(Receiver::default());
    let mut server =
        Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    let service = TraceServiceServer::from_arc(Arc::clone(&receiver));
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
    (receiver, address)
}

#[tokio::test]
async fn tls_trusts_the_given_authority_and_no_stranger() {
    let directory = tempfile::tempdir().unwrap();
    let (receiver, address) = serve_tls(directory.path()).await;
    for (certificate, trusted) in [(Some(directory.path().join("ca.pem")), true), (None, false)] {
        let endpoint = format!("https://localhost:{}", address.port());
        let options = OtlpOptions {
            endpoint: Some(Endpoint::parse(&endpoint, false).unwrap()),
            certificate,
            ..OtlpOptions::default()
        };
        let exporters = start(vec![Target::Otlp(options)], Limits::default());
        exporters.offer(&batch(3));
        let end = || {
            let books = &exporters.books()[0];
            books.exported > 0 || books.last_error.is_some()
        };
        eventually("the receiver is met", end).await;
        let books = exporters.shutdown(Duration::ZERO).await.remove(0);
        assert!(books.balanced(), "{books:?}");
        assert_eq!(books.exported, if trusted { 3 } else { 0 }, "{books:?}");
        let error = books.last_error.unwrap_or_default();
        assert_eq!(error.contains("certificate"), !trusted, "{error}");
    }
    assert_eq!(receiver.requests.lock().unwrap().len(), 1);
}

#[test]
fn a_missing_certificate_is_an_error_that_names_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = OtlpOptions {
        endpoint: Some(Endpoint::parse("https://localhost:4317", false).unwrap()),
        certificate: Some("/nowhere/ca.pem".into()),
        ..OtlpOptions::default()
    };
    let targets = vec![Target::Otlp(options)];
    let error = Exporters::start(targets, runtime.handle(), Limits::default()).unwrap_err();
    assert!(format!("{error:#}").contains("/nowhere/ca.pem"), "{error:#}");
}

/// Spans made, as each exporter's books have them.
fn made(books: &[ExporterBooks]) -> Vec<u64> {
    assert!(books.iter().all(ExporterBooks::balanced), "{books:?}");
    books.iter().map(|books| books.offered + books.missed).collect()
}

#[tokio::test]
async fn exporters_are_replaced_and_each_span_is_in_the_books_of_all() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "b"].map(|name| Target::File(directory.path().join(name)));
    let mut exporters = start(vec![first.clone()], Limits::default());
    exporters.offer(&batch(10));
    exporters.replace(vec![second.clone(), first.clone()], Limits::default()).unwrap();
    exporters.offer(&batch(10));
    let failing = Target::File(directory.path().join("nowhere/c"));
    let error = exporters.replace(vec![failing, second.clone()], Limits::default()).unwrap_err();
    assert!(format!("{error:#}").contains("nowhere/c"), "{error:#}");
    exporters.offer(&batch(10));
    exporters.replace(vec![second.clone()], Limits::default()).unwrap();
    exporters.offer(&batch(10));
    eventually("the first is over", || exporters.books()[0].queued == 0).await;
    let books = exporters.books();
    assert_eq!(made(&books), [40, 40]);
    assert_eq!((books[0].offered, books[0].exported, books[0].removed), (30, 30, true));
    assert_eq!((books[1].offered, books[1].missed, books[1].removed), (30, 10, false));

    // Back again, and with other bounds, for which the second begins anew.
    let limits = Limits { batch_spans: 7, ..Limits::default() };
    exporters.replace(vec![first, second], limits).unwrap();
    exporters.offer(&batch(10));
    let books = exporters.shutdown(PATIENCE).await;
    assert_eq!(made(&books), [50, 50]);
    assert!(books.iter().all(|books| books.exported == 40 && !books.removed), "{books:?}");
    for name in ["a", "b"] {
        let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(text.matches("\"spanId\"").count(), 40);
    }
}

#[tokio::test]
async fn what_a_removed_exporter_can_not_send_is_counted() {
    let (_listener, address) = listen().await;
    let mut exporters = start(vec![otlp(address, OtlpOptions::default())], Limits::default());
    exporters.offer(&batch(10));
    exporters.replace(Vec::new(), Limits::default()).unwrap();
    exporters.offer(&batch(10));
    let books = exporters.books();
    assert_eq!((made(&books), books[0].queued), (vec![20], 10));
    // The agent ends before it does.
    let books = exporters.shutdown(Duration::from_millis(50)).await;
    assert_eq!((made(&books), books[0].refused.shutdown), (vec![20], 10));
}

#[tokio::test]
async fn a_changed_header_is_sent_and_the_books_go_on() {
    let (listener, address) = listen().await;
    let receiver = serve(listener);
    let with = |token: &str| {
        let headers = vec![("x-token".to_owned(), token.to_owned())];
        vec![otlp(address, OtlpOptions { headers, ..OtlpOptions::default() })]
    };
    let mut exporters = start(with("old"), Limits::default());
    exporters.offer(&batch(10));
    eventually("they arrive", || exporters.books()[0].exported == 10).await;
    exporters.replace(with("new"), Limits::default()).unwrap();
    exporters.offer(&batch(10));
    let books = exporters.shutdown(PATIENCE).await;
    assert_eq!((made(&books), books[0].exported, books[0].missed), (vec![20], 20, 0));
    let requests = receiver.requests.lock().unwrap();
    let tokens: Vec<_> =
        requests.iter().map(|(metadata, _)| metadata.get("x-token").unwrap().clone()).collect();
    assert_eq!(tokens, ["old", "new"]);
}
