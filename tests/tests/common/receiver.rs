//! An OTLP/gRPC receiver inside the test: accepts everything, keeps the spans.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::spans::{self, Span};
use wirespan_tests::sys;

/// Listens until dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    kept: Kept,
    runtime: Option<Runtime>,
}

/// Spans with the wall time at which they arrived.
type Kept = Arc<Mutex<Vec<(Span, u64)>>>;

#[derive(Clone)]
struct Keep(Kept);

#[tonic::async_trait]
impl TraceService for Keep {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let now = sys::realtime_ns();
        let spans = spans::of(request.get_ref()).into_iter().map(|span| (span, now));
        self.0.lock().expect("nobody panics with it").extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    /// On a free port of 127.0.0.1.
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// On this address.
    pub(crate) fn at(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Keep(Arc::clone(&kept)))
            .accept_compressed(CompressionEncoding::Gzip);
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(service);
        let incoming = TcpIncoming::from(listener);
        runtime.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Self { address, kept, runtime: Some(runtime) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The exporter that delivers here, as an argument of `wirespan run`.
    pub(crate) fn export(&self) -> String {
        format!("--export=otlp=http://{}", self.address)
    }

    /// What has arrived so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let kept = self.kept.lock().expect("nobody panics with it");
        kept.iter().map(|(span, _)| span.clone()).collect()
    }

    /// How long after its end each span arrived, ascending, in nanoseconds.
    pub(crate) fn delays_ns(&self) -> Vec<u64> {
        let kept = self.kept.lock().expect("nobody panics with it");
        let delays = kept.iter().map(|(span, at)| at.saturating_sub(span.end_ns));
        let mut delays: Vec<u64> = delays.collect();
        delays.sort_unstable();
        delays
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Connections may be open; nobody waits for them.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
