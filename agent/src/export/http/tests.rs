//! The HTTP exporter against a receiver on loopback that does as its script says, and holds the exporter to the books
//! it must then show.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper_util::client::proxy::matcher::Matcher;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::export::options::{Endpoint, Protocol, RetryPolicy};
use crate::export::testing::{PATIENCE, batch, eventually};
use crate::export::{DiskOptions, ExporterBooks, Exporters, Limits, Refused, Target};

enum Answer {
    /// A status line's end, further header lines, a body.
    Status(&'static str, String, Vec<u8>),
    /// The connection is closed when the head has come.
    CloseInRequest,
    /// The connection is closed in the middle of the response's head.
    CloseInResponse,
    /// Success, of whose body nothing comes.
    StallInBody,
    Hang,
}

/// What came in.
#[derive(Clone, Debug)]
struct Received {
    at: Instant,
    head: String,
    spans: usize,
}

#[derive(Default)]
struct Receiver {
    script: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
}

impl Receiver {
    /// Answers on one connection until it is closed, with success once the script has ended.
    async fn serve(self: Arc<Self>, mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
        let mut input = Vec::new();
        loop {
            let Some(head) = head(&mut stream, &mut input).await else { return };
            let answer = self.script.lock().unwrap().pop_front();
            if matches!(answer, Some(Answer::CloseInRequest)) {
                return;
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().parse().unwrap();
            while input.len() < length {
                if stream.read_buf(&mut input).await.unwrap() == 0 {
                    return;
                }
            }
            let body: Vec<u8> = input.drain(..length).collect();
            let spans = spans(&head, &body);
            self.received.lock().unwrap().push(Received { at: Instant::now(), head, spans });
            let (status, headers, body) = match answer {
                None => ("200 OK", String::new(), Vec::new()),
                Some(Answer::Status(status, headers, body)) => (status, headers, body),
                Some(Answer::Hang) => std::future::pending().await,
                Some(Answer::StallInBody) => {
                    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n";
                    stream.write_all(head).await.unwrap();
                    stream.write_all(b"content-length: 5\r\n\r\n").await.unwrap();
                    std::future::pending().await
                }
                Some(_) => {
                    stream.write_all(b"HTTP/1.1 20").await.unwrap();
                    return;
                }
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
            if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
                return;
            }
        }
    }
}

/// Up to the empty line; `None` at the end.
async fn head(stream: &mut (impl AsyncReadExt + Unpin), input: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = input.drain(..end + 4).collect();
            return Some(String::from_utf8(head).unwrap());
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}

fn spans(head: &str, body: &[u8]) -> usize {
    let mut bytes = Vec::new();
    if head.contains("content-encoding: gzip") {
        flate2::read::GzDecoder::new(body).read_to_end(&mut bytes).unwrap();
    } else {
        bytes.extend_from_slice(body);
    }
    let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    let scopes = request.resource_spans.iter().flat_map(|group| &group.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A receiver with a script.
async fn receiver(script: Vec<Answer>) -> (Arc<Receiver>, SocketAddr) {
    let (listener, address) = listen().await;
    let receiver = Arc::new(Receiver { script: Mutex::new(script.into()), ..Receiver::default() });
    tokio::spawn(accept(listener, Arc::clone(&receiver)));
    (receiver, address)
}

async fn accept(listener: TcpListener, receiver: Arc<Receiver>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(Arc::clone(&receiver).serve(stream));
    }
}

fn options(endpoint: &str) -> OtlpOptions {
    OtlpOptions {
        protocol: Protocol::HttpProtobuf,
        endpoint: Some(Endpoint::parse(endpoint, false).unwrap()),
        retry: RetryPolicy { initial_backoff: Duration::from_millis(5), ..RetryPolicy::default() },
        ..OtlpOptions::default()
    }
}

/// Exports a batch with these options and waits until none of it is queued.
async fn exported(options: OtlpOptions, spans: usize) -> ExporterBooks {
    let handle = tokio::runtime::Handle::current();
    let targets = vec![Target::Otlp(options)];
    let exporters = Exporters::start(targets, &handle, Limits::default()).unwrap();
    exporters.offer(&batch(spans));
    eventually("every span has an end", || exporters.books()[0].queued == 0).await;
    let books = exporters.shutdown(PATIENCE).await.remove(0);
    assert!(books.balanced(), "{books:?}");
    books
}

/// The same to a receiver with this script.
async fn scripted(script: Vec<Answer>, spans: usize) -> (ExporterBooks, Vec<Received>) {
    let (receiver, address) = receiver(script).await;
    let books = exported(options(&format!("http://{address}")), spans).await;
    let received = receiver.received.lock().unwrap().clone();
    (books, received)
}

fn status(status: &'static str) -> Answer {
    Answer::Status(status, String::new(), Vec::new())
}

fn protobuf(line: &'static str, message: &impl prost::Message) -> Answer {
    let header = "content-type: application/x-protobuf\r\n".to_owned();
    Answer::Status(line, header, message.encode_to_vec())
}

#[tokio::test]
async fn spans_arrive_with_headers_compressed_or_not() {
    for compression in [Compression::None, Compression::Gzip] {
        let (receiver, address) = receiver(vec![]).await;
        let options = OtlpOptions {
            headers: [("x-tenant", "7"), ("content-encoding", "br"), ("content-length", "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            compression,
            ..options(&format!("http://{address}/base"))
        };
        let books = exported(options, 300).await;
        assert_eq!((books.exported, books.last_error), (300, None));
        assert_eq!(books.name, format!("otlphttp=http://{address}"));
        let received = receiver.received.lock().unwrap();
        assert_eq!(received.iter().map(|received| received.spans).collect::<Vec<_>>(), [300]);
        let head = &received[0].head;
        assert!(head.starts_with("POST /base/v1/traces HTTP/1.1\r\n"), "{head}");
        for line in ["x-tenant: 7\r\n", "content-type: application/x-protobuf\r\n"] {
            assert!(head.contains(line), "{head}");
        }
        assert!(head.contains("user-agent: wirespan/"), "{head}");
        assert!(!head.contains("content-encoding: br"), "{head}");
        let gzip = head.contains("content-encoding: gzip\r\n");
        assert_eq!(gzip, compression == Compression::Gzip, "{head}");
    }
}

#[tokio::test]
async fn what_may_be_sent_again_is() {
    let script = vec![
        status("429 Too Many Requests"),
        status("502 Bad Gateway"),
        status("503 Service Unavailable"),
        status("504 Gateway Timeout"),
        Answer::CloseInResponse,
        Answer::CloseInRequest,
    ];
    let (books, received) = scripted(script, 3).await;
    assert_eq!((books.exported, books.refused.total()), (3, 0), "{books:?}");
    // The one that was closed on in its head was not received.
    assert_eq!(received.iter().map(|received| received.spans).collect::<Vec<_>>(), [3; 6]);
}

#[tokio::test]
async fn what_must_not_be_is_refused_and_says_why() {
    for line in ["400 Bad Request", "401 Unauthorized", "404 Not Found", "413 Content Too Large"] {
        let text = Answer::Status(line, String::new(), b" too\x1b[2J bad \n".to_vec());
        let (books, received) = scripted(vec![text], 3).await;
        assert_eq!(books.refused, Refused { rejected: 3, ..Refused::default() }, "{line}");
        assert_eq!(received.len(), 1, "{line}");
        let error = books.last_error.unwrap();
        let code = line.split(' ').next().unwrap();
        assert!(error.starts_with(&format!("HTTP status {code} ")), "{error}");
        assert!(error.ends_with(": too\\u{1b}[2J bad"), "{error}");
    }
    let message = "no such field".to_owned();
    let problem = tonic_types::pb::Status { code: 3, message, details: vec![] };
    let (books, _) = scripted(vec![protobuf("400 Bad Request", &problem)], 3).await;
    assert!(books.last_error.unwrap().ends_with(": no such field"));
}

#[tokio::test]
async fn a_redirect_takes_no_credentials_elsewhere() {
    let (elsewhere, address) = receiver(vec![]).await;
    let location = format!("location: http://{address}/v1/traces\r\n");
    let moved = Answer::Status("307 Temporary Redirect", location, Vec::new());
    let (books, _) = scripted(vec![moved], 3).await;
    assert_eq!(books.refused.rejected, 3);
    assert!(elsewhere.received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_receiver_s_wish_is_waited_for() {
    let wish = |value: String| {
        Answer::Status("503 Service Unavailable", format!("retry-after: {value}\r\n"), Vec::new())
    };
    let (books, received) = scripted(vec![wish("1".to_owned())], 3).await;
    assert_eq!(books.exported, 3);
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));
    // A date has whole seconds: of three, two are sure to be left.
    let date = httpdate::fmt_http_date(now() + Duration::from_secs(3));
    let (books, received) = scripted(vec![wish(date)], 3).await;
    assert_eq!(books.exported, 3);
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));
    // Beyond the limit there is no use in waiting.
    let (books, received) = scripted(vec![wish("3600".to_owned())], 3).await;
    assert_eq!((books.refused.retries_exhausted, received.len()), (3, 1));
}

/// Exports five spans by way of a disk queue to a receiver with this script, until none is left there.
async fn by_way_of_disk(script: Vec<Answer>) -> (ExporterBooks, Vec<Received>) {
    let (receiver, address) = receiver(script).await;
    let parent = tempfile::tempdir().unwrap();
    let disk = DiskOptions { directory: parent.path().join("queue"), max_bytes: 1 << 20 };
    let mut options = options(&format!("http://{address}"));
    // Nothing on disk is given up by time.
    options.retry.give_up_after = Duration::from_millis(1);
    options.disk_queue = Some(disk);
    options.timeout = Duration::from_millis(200);
    let handle = tokio::runtime::Handle::current();
    let exporters =
        Exporters::start(vec![Target::Otlp(options)], &handle, Limits::default()).unwrap();
    exporters.offer(&batch(5));
    let books = || exporters.books().remove(0);
    eventually("every span has an end", || books().queued + books().on_disk == 0).await;
    let books = exporters.shutdown(PATIENCE).await.remove(0);
    assert!(books.balanced() && books.disk.as_ref().unwrap().bytes == 0, "{books:?}");
    let received = receiver.received.lock().unwrap().clone();
    (books, received)
}

#[tokio::test]
async fn with_a_disk_queue_all_that_may_be_sent_again_is_until_it_is_taken() {
    let wish = Answer::Status(
        "503 Service Unavailable",
        "retry-after: 1\r\n".to_owned(),
        b"later".to_vec(),
    );
    let script = vec![
        status("429 Too Many Requests"),
        Answer::CloseInRequest,
        Answer::CloseInResponse,
        Answer::Hang,
        status("502 Bad Gateway"),
        status("504 Gateway Timeout"),
        wish,
    ];
    let (books, received) = by_way_of_disk(script).await;
    assert_eq!((books.exported, books.refused.total()), (5, 0), "{books:?}");
    // One was closed before its body.
    assert_eq!(received.iter().map(|request| request.spans).collect::<Vec<_>>(), [5; 7]);
    assert!(received[6].at - received[5].at >= Duration::from_secs(1));
    for refusal in ["400 Bad Request", "401 Unauthorized", "500 Internal Server Error"] {
        let script = vec![status("503 Service Unavailable"), status(refusal)];
        let (books, received) = by_way_of_disk(script).await;
        assert_eq!((books.exported, books.refused.rejected), (0, 5), "{refusal}");
        assert_eq!(received.len(), 2);
    }
}

#[tokio::test]
async fn a_partial_success_is_not_sent_again() {
    let error_message = "two are too old".to_owned();
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
    let (books, received) = scripted(vec![protobuf("200 OK", &answer)], 5).await;
    assert_eq!((books.exported, books.refused.rejected, received.len()), (3, 2, 1));
    let expected = "the receiver refused 2 of 5 spans: two are too old";
    assert_eq!(books.last_error.as_deref(), Some(expected));
    // What is no answer of OTLP's is a success all the same: the status says so.
    let html = Answer::Status("202 Accepted", "content-type: text/html\r\n".to_owned(), vec![255]);
    let (books, _) = scripted(vec![html], 5).await;
    assert_eq!((books.exported, books.refused.total()), (5, 0));
}

#[tokio::test]
async fn a_slow_receiver_is_left_after_the_timeout() {
    let (receiver, address) = receiver(vec![Answer::Hang]).await;
    let timeout = Duration::from_millis(300);
    let options = OtlpOptions { timeout, ..options(&format!("http://{address}")) };
    let books = exported(options, 4).await;
    assert_eq!((books.exported, receiver.received.lock().unwrap().len()), (4, 2));
    assert_eq!(books.last_error.as_deref(), Some("no answer within 300 ms"));
}

#[tokio::test]
async fn what_was_taken_is_not_sent_again_because_the_rest_of_the_answer_is_late() {
    let (receiver, address) = receiver(vec![Answer::StallInBody]).await;
    let timeout = Duration::from_millis(300);
    let options = OtlpOptions { timeout, ..options(&format!("http://{address}")) };
    let books = exported(options, 4).await;
    assert_eq!((books.exported, receiver.received.lock().unwrap().len()), (4, 1));
}

#[tokio::test]
async fn an_absent_receiver_is_given_up_and_its_spans_are_counted() {
    let (listener, address) = listen().await;
    drop(listener);
    let mut options = options(&format!("http://{address}"));
    options.retry.give_up_after = Duration::from_millis(200);
    let books = exported(options, 4).await;
    assert_eq!(books.refused, Refused { retries_exhausted: 4, ..Refused::default() });
    let error = books.last_error.unwrap();
    assert!(error.contains("refused") && !error.contains("v1/traces"), "{error}");
}

#[tokio::test]
async fn credentials_that_are_repeated_do_not_get_into_the_books() {
    let repeated = b"token hunter22 is not known".to_vec();
    let answer = Answer::Status("401 Unauthorized", String::new(), repeated);
    let (_, address) = receiver(vec![answer]).await;
    let options = OtlpOptions {
        headers: vec![("authorization".to_owned(), "Bearer hunter22".to_owned())],
        ..options(&format!("http://{address}/?key=secret"))
    };
    let shown = format!("{:?}", Client::new(&options).unwrap().headers);
    assert!(!shown.contains("hunter22"), "{shown}");
    let books = exported(options, 1).await;
    let error = books.last_error.unwrap();
    assert_eq!(error, "HTTP status 401 Unauthorized: token *** is not known");
    assert!(!books.name.contains("secret"), "{}", books.name);
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_receiver() {
    let (proxy, address) = receiver(vec![]).await;
    let matcher = Matcher::builder().http(format!("http://user:pass@{address}")).build();
    let options = options("http://collector.invalid:4318");
    let intercept = matcher.intercept(options.receiver().uri());
    let client = Client::through(&options, intercept).unwrap();
    // An empty request has a length, too: not every receiver takes its absence for one.
    client.send(&ExportTraceServiceRequest::default()).await.unwrap();
    let head = proxy.received.lock().unwrap()[0].head.clone();
    assert!(
        head.starts_with("POST http://collector.invalid:4318/v1/traces HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("proxy-authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
}

/// An authority, and what it vouches for: PEM files in a directory.
struct Authority {
    directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { directory, issuer }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// `NAME.pem` and `NAME.key`, valid until that year.
    fn issue(&self, name: &str, until: i32) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), signed.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A receiver with the certificate `name`, which wants one of the client's, too.
    async fn serve(&self, name: &str) -> (Arc<Receiver>, SocketAddr) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let chain = vec![CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (listener, address) = listen().await;
        let receiver = Arc::new(Receiver::default());
        let serving = Arc::clone(&receiver);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(Arc::clone(&serving).serve(stream));
                }
            }
        });
        (receiver, address)
    }
}

#[tokio::test]
async fn tls_wants_the_right_certificates_of_both() {
    let authority = Authority::new();
    authority.issue("valid", 2100);
    authority.issue("expired", 2001);
    authority.issue("client", 2100);
    let (receiver, valid) = authority.serve("valid").await;
    let (_, expired) = authority.serve("expired").await;
    let path = |name: &str| Some(authority.path(name));
    let cases = [
        (valid, path("ca.pem"), path("client.pem"), ""),
        (valid, path("ca.pem"), None, "certificate"),
        (valid, path("client.pem"), path("client.pem"), "UnknownIssuer"),
        (expired, path("ca.pem"), path("client.pem"), "expired"),
    ];
    for (address, certificate, client_certificate, error) in cases {
        let client_key = client_certificate.as_ref().and_then(|_| path("client.key"));
        let mut options = OtlpOptions {
            certificate,
            client_certificate,
            client_key,
            ..options(&format!("https://localhost:{}", address.port()))
        };
        options.retry.give_up_after = Duration::from_millis(100);
        let books = exported(options, 3).await;
        let sent = if error.is_empty() { 3 } else { 0 };
        let said = books.last_error.unwrap_or_default();
        assert_eq!(books.exported, sent, "{error}: {said}");
        assert_eq!(books.refused.retries_exhausted, 3 - sent, "{error}: {said}");
        assert!(said.to_lowercase().contains(&error.to_lowercase()), "{error}: {said}");
    }
    assert_eq!(receiver.received.lock().unwrap().len(), 1);
}
