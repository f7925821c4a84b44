//! OTLP over gRPC: `ExportTraceServiceRequest`s over one lazily connected HTTP/2 connection.
//!
//! Part of the export stage; queue and retries are `sender`'s. <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Intercept;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Status};

use super::options::{Compression, OtlpOptions};
use super::sender::{Failure, causes, timed_out};
use super::{proxy, retry};

/// A connection on which nothing is heard for this long, though an answer is due, is pinged; and is
/// given up after as long again. Else a receiver that vanished would be waited for until TCP gives up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A channel to the receiver, which connects with the first request. Needs a runtime's context.
pub(super) fn connect_lazily(options: &OtlpOptions) -> anyhow::Result<Channel> {
    connect_through(options, proxy::of(&options.receiver()))
}

fn connect_through(options: &OtlpOptions, proxy: Option<Intercept>) -> anyhow::Result<Channel> {
    let mut endpoint = endpoint(options)?;
    if options.receiver().is_tls() {
        endpoint = endpoint.tls_config(tls(options)?).context("cannot set up TLS")?;
    }
    let Some(proxy) = proxy else { return Ok(endpoint.connect_lazy()) };
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
    if let Some(credentials) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(credentials.clone());
    }
    Ok(endpoint.connect_with_connector_lazy(tunnel))
}

fn endpoint(options: &OtlpOptions) -> anyhow::Result<tonic::transport::Endpoint> {
    Ok(tonic::transport::Endpoint::from(options.receiver().uri().clone())
        .user_agent(super::USER_AGENT)?
        .connect_timeout(options.timeout)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE))
}

fn tls(options: &OtlpOptions) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &Path| {
        fs::read(path).with_context(|| format!("cannot read certificate {}", path.display()))
    };
    let mut tls = match &options.certificate {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match (&options.client_certificate, &options.client_key) {
        (Some(certificate), Some(key)) => {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        (None, None) => {}
        _ => anyhow::bail!("mutual TLS needs both a client certificate and its key"),
    }
    Ok(tls)
}

/// Sends requests over a channel.
#[derive(Clone)]
pub(super) struct Client {
    client: TraceServiceClient<Channel>,
    metadata: MetadataMap,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(channel: Channel, options: &OtlpOptions) -> anyhow::Result<Self> {
        let mut client = TraceServiceClient::new(channel);
        if options.compression == Compression::Gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        let mut metadata = MetadataMap::new();
        for (name, value) in &options.headers {
            let key: AsciiMetadataKey =
                name.parse().with_context(|| format!("`{name}` cannot be a header's name"))?;
            let mut value: tonic::metadata::AsciiMetadataValue =
                value.parse().with_context(|| format!("header `{name}` has an invalid value"))?;
            value.set_sensitive(true);
            metadata.append(key, value);
        }
        Ok(Self { client, metadata, timeout: options.timeout })
    }

    pub(super) async fn send(
        &mut self,
        request: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Failure> {
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        request.set_timeout(self.timeout);
        let status = match tokio::time::timeout(self.timeout, self.client.export(request)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(timed_out(self.timeout)),
        };
        Err(Failure { words: described(&status), verdict: retry::of_status(&status) })
    }
}

/// The failure in words.
fn described(status: &Status) -> String {
    let mut words = format!("{:?}: {}", status.code(), status.message());
    // Its own text has the code and the message again.
    if let Some(cause) = std::error::Error::source(status) {
        for part in causes(cause).split(": ") {
            if !words.contains(part) {
                words = format!("{words}: {part}");
            }
        }
    }
    words
}

#[cfg(test)]
mod tests;
