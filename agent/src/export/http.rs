//! OTLP over HTTP with binary Protobuf bodies.
//!
//! Part of the export stage; queue and retries are `sender`'s. <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.
//! Redirects are not followed: headers hold credentials, and a receiver has one address.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use hyper_util::client::proxy::matcher::Intercept;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::{Certificate, Identity, Response, Url};
use tokio::time::{Instant, timeout_at};

use super::options::{Compression, OtlpOptions};
use super::retry::{self, Verdict};
use super::sender::{Failure, causes, timed_out};
use super::{USER_AGENT, proxy};
use crate::clock;
use crate::tls;

const PROTOBUF: &str = "application/x-protobuf";

/// More of a response than that is not read: a success is some bytes, a failure a message.
const RESPONSE_LIMIT_BYTES: usize = 64 << 10;

/// Sends requests, over connections that are kept.
#[derive(Clone)]
pub(super) struct Client {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    compression: Compression,
    timeout: Duration,
}

impl Client {
    /// Nothing is connected before the first request.
    pub(super) fn new(options: &OtlpOptions) -> anyhow::Result<Self> {
        Self::through(options, proxy::of(&options.receiver()))
    }

    fn through(options: &OtlpOptions, proxy: Option<Intercept>) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let key = HeaderName::try_from(name)
                .with_context(|| format!("`{name}` cannot be a header's name"))?;
            let mut value = HeaderValue::try_from(value)
                .with_context(|| format!("header `{name}` has an invalid value"))?;
            value.set_sensitive(true);
            headers.append(key, value);
        }
        // What is sent is what the body is, whatever was asked for.
        for name in [CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        if options.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let url = options.receiver().traces_url();
        Ok(Self {
            client: client(options, proxy)?,
            url: Url::parse(&url).context("the endpoint is no URL")?,
            headers,
            compression: options.compression,
            timeout: options.timeout,
        })
    }

    pub(super) async fn send(
        &self,
        request: &ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Failure> {
        let body = self.body(request).map_err(|error| Failure {
            words: format!("cannot compress a request: {error}"),
            verdict: Verdict::Rejected,
        })?;
        let request = self.client.post(self.url.clone()).headers(self.headers.clone());
        // The library leaves it out where there is nothing in it.
        let request = request.header(CONTENT_LENGTH, body.len()).body(body);
        let deadline = Instant::now() + self.timeout;
        match timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => answered(response, deadline).await,
            Ok(Err(error)) => Err(broken(&error)),
            Err(_elapsed) => {
                Err(Failure { words: timed_out(self.timeout), verdict: Verdict::Retry(None) })
            }
        }
    }

    fn body(&self, request: &ExportTraceServiceRequest) -> std::io::Result<Vec<u8>> {
        let bytes = request.encode_to_vec();
        match self.compression {
            Compression::None => Ok(bytes),
            Compression::Gzip => {
                // The processor is the applications': they need it more than the network needs the rest.
                let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
        }
    }
}

fn client(options: &OtlpOptions, proxy: Option<Intercept>) -> anyhow::Result<reqwest::Client> {
    tls::install_provider();
    let receiver = options.receiver();
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(options.timeout)
        .redirect(reqwest::redirect::Policy::none())
        // Retries are the sender's, which counts them.
        .retry(reqwest::retry::never());
    if let Some(proxy) = proxy {
        let mut through = reqwest::Proxy::all(proxy.uri().to_string()).context("the proxy")?;
        if let Some(credentials) = proxy.basic_auth() {
            through = through.custom_http_auth(credentials.clone());
        }
        builder = builder.proxy(through);
    } else {
        builder = builder.no_proxy();
    }
    let read = |path: &Path| {
        fs::read(path).with_context(|| format!("cannot read certificate {}", path.display()))
    };
    if let Some(path) = &options.certificate {
        let authorities = Certificate::from_pem_bundle(&read(path)?)
            .with_context(|| format!("{} holds no certificate", path.display()))?;
        builder = builder.tls_certs_only(authorities);
    } else if !receiver.is_tls() {
        // A machine without any authorities is none the worse for it.
        builder = builder.tls_certs_only([]);
    }
    match (&options.client_certificate, &options.client_key) {
        (Some(certificate), Some(key)) => {
            let mut pem = read(key)?;
            pem.push(b'\n');
            pem.extend(read(certificate)?);
            let identity = Identity::from_pem(&pem).context("the client's certificate and key")?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        _ => anyhow::bail!("mutual TLS needs both a client certificate and its key"),
    }
    builder.build().context("cannot set up TLS")
}

/// There was no answer. The URL is left out: its query may hold a key.
fn broken(error: &reqwest::Error) -> Failure {
    // Its own words are "error sending request for url (...)"; what happened is beneath.
    let cause = std::error::Error::source(error);
    let words = cause.map_or_else(|| "the request failed".to_owned(), causes);
    let verdict = if error.is_builder() { Verdict::Rejected } else { Verdict::Retry(None) };
    Failure { words, verdict }
}

async fn answered(
    response: Response,
    deadline: Instant,
) -> Result<ExportTraceServiceResponse, Failure> {
    let status = response.status();
    let header = |name: HeaderName| response.headers().get(name)?.to_str().ok();
    let is_protobuf = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with(PROTOBUF));
    let wish = header(RETRY_AFTER).and_then(|wish| retry::after(wish, now()));
    let body = body(response, deadline).await;
    if status.is_success() {
        // That it was taken is what counts, and that once is enough: a body that is cut, late or no Protobuf
        // tells of no partial success.
        let body = if is_protobuf { body } else { Vec::new() };
        return Ok(ExportTraceServiceResponse::decode(body.as_slice()).unwrap_or_default());
    }
    let message = if is_protobuf {
        tonic_types::pb::Status::decode(body.as_slice()).unwrap_or_default().message
    } else {
        String::from_utf8_lossy(&body).trim().to_owned()
    };
    let separator = if message.is_empty() { "" } else { ": " };
    let words = format!("HTTP status {status}{separator}{message}");
    Err(Failure { words, verdict: retry::of_http(status.as_u16(), wish) })
}

/// The first bytes of a response, as far as they come.
async fn body(mut response: Response, deadline: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < RESPONSE_LIMIT_BYTES
        && let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(RESPONSE_LIMIT_BYTES);
    body
}

/// What a date in a header is compared with.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(clock::unix_ns())
}

#[cfg(test)]
mod tests;
