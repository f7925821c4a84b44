//! The OTLP/gRPC exporter.
//!
//! Part of the export stage. Sends `ExportTraceServiceRequest`s over one lazily connected HTTP/2
//! connection, several at once, each until it is acknowledged, refused or given up
//! (<https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>). While it waits to try again its queue fills,
//! and then refuses.

mod retry;

use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use self::retry::{Backoff, Verdict};
use super::Limits;
use super::books::Refusal;
use super::options::{Compression, OtlpOptions, RetryPolicy};
use super::otlp;
use super::queue::{self, Queue, Taken};
use super::text::printable;

/// A connection on which nothing is heard for this long, though an answer is due, is pinged; and is
/// given up after as long again. Else a receiver that vanished would be waited for until TCP gives up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The longest message of a receiver that is kept, in characters.
const MESSAGE_LIMIT: usize = 300;

/// A channel to the receiver, which connects with the first request. Needs a runtime's context.
pub(super) fn connect_lazily(options: &OtlpOptions) -> anyhow::Result<Channel> {
    let mut endpoint = endpoint(options)?;
    if options.endpoint.is_tls() {
        endpoint = endpoint.tls_config(tls(options)?).context("cannot set up TLS")?;
    }
    Ok(endpoint.connect_lazy())
}

fn endpoint(options: &OtlpOptions) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from(options.endpoint.uri().clone())
        .user_agent(concat!("wirespan/", env!("CARGO_PKG_VERSION")))?
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

/// Sends an empty request, once. An error is why it was not answered, without credentials.
pub(super) async fn probe(options: &OtlpOptions) -> Result<(), String> {
    let channel = connect_lazily(options).map_err(|error| format!("{error:#}"))?;
    let mut sender =
        Sender::new(channel, options, Limits::default()).map_err(|error| format!("{error:#}"))?;
    let mut request = Request::new(ExportTraceServiceRequest::default());
    *request.metadata_mut() = sender.metadata.clone();
    request.set_timeout(sender.timeout);
    match tokio::time::timeout(sender.timeout, sender.client.export(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(sender.describe(&status)),
        Err(_) => Err(format!("no answer within {} ms", sender.timeout.as_millis())),
    }
}

/// One of the exporter's tasks: takes a batch, sees it through, takes the next.
#[derive(Clone)]
pub(super) struct Sender {
    client: TraceServiceClient<Channel>,
    metadata: MetadataMap,
    timeout: Duration,
    retry: RetryPolicy,
    secrets: Arc<[String]>,
    limits: Limits,
    /// Held while a batch is taken: a queue is taken from by one at a time.
    turn: Arc<Mutex<()>>,
}

impl Sender {
    pub(super) fn new(
        channel: Channel,
        options: &OtlpOptions,
        limits: Limits,
    ) -> anyhow::Result<Self> {
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
        Ok(Self {
            client,
            metadata,
            timeout: options.timeout,
            retry: options.retry,
            secrets: secrets(&options.headers),
            limits,
            turn: Arc::new(Mutex::new(())),
        })
    }

    /// Sends what `queue` gives until it is closed and empty.
    pub(super) async fn run(mut self, queue: Arc<Queue>) {
        loop {
            let taken = {
                let _turn = self.turn.lock().await;
                queue.take(self.limits.batch_spans, self.limits.linger).await
            };
            let Some(taken) = taken else { return };
            self.deliver(&queue, taken).await;
        }
    }

    /// Sees a batch through to one of its ends.
    async fn deliver(&mut self, queue: &Queue, mut taken: Taken) {
        let began = Instant::now();
        let mut backoff = Backoff::new(self.retry);
        loop {
            let status = match self.attempt(&taken).await {
                Ok(response) => return self.acknowledged(queue, taken, response),
                Err(status) => status,
            };
            queue.failed(self.describe(&status));
            let Verdict::Retry(wish) = retry::verdict(&status) else {
                taken.claim.refuse_all(Refusal::Rejected);
                return;
            };
            let Some(pause) = backoff.pause(wish, began.elapsed(), &mut rand::rng()) else {
                taken.claim.refuse_all(Refusal::RetriesExhausted);
                return;
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&mut self, taken: &Taken) -> Result<ExportTraceServiceResponse, Status> {
        // Made anew for each attempt: rarely needed twice, and dearer to keep than to make.
        let mut request = Request::new(otlp::request(queue::spans(&taken.slices)));
        *request.metadata_mut() = self.metadata.clone();
        request.set_timeout(self.timeout);
        match tokio::time::timeout(self.timeout, self.client.export(request)).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => {
                let after = self.timeout.as_millis();
                Err(Status::deadline_exceeded(format!("no answer within {after} ms")))
            }
        }
    }

    fn acknowledged(&self, queue: &Queue, mut taken: Taken, response: ExportTraceServiceResponse) {
        let sent = taken.claim.spans();
        let partial = response.partial_success.unwrap_or_default();
        let message = self.presentable(&partial.error_message);
        let rejected = usize::try_from(partial.rejected_spans).unwrap_or(0).min(sent);
        if rejected > 0 {
            queue.failed(format!("the receiver refused {rejected} of {sent} spans: {message}"));
        } else {
            queue.works();
            if !message.is_empty() {
                tracing::debug!(message, "the receiver took all spans and has a remark");
            }
        }
        taken.claim.refused(rejected, Refusal::Rejected);
        taken.claim.exported(sent - rejected);
    }

    /// The failure in words, without credentials.
    fn describe(&self, status: &Status) -> String {
        let mut words = format!("{:?}: {}", status.code(), status.message());
        let mut cause = status.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !words.contains(&text) {
                words = format!("{words}: {text}");
            }
            cause = error.source();
        }
        self.presentable(&words)
    }

    /// A receiver may repeat what it was sent: takes out the headers' values, and what would confuse a
    /// terminal.
    fn presentable(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter() {
            text = text.replace(secret, "***");
        }
        let text: String = text.chars().take(MESSAGE_LIMIT).collect();
        printable(&text).into_owned()
    }
}

/// The headers' values and the words in them (`Bearer`'s token), longest first. Words of up to three
/// characters are no secrets, and taking them out would garble messages.
fn secrets(headers: &[(String, String)]) -> Arc<[String]> {
    let mut secrets: Vec<String> = headers
        .iter()
        .flat_map(|(_, value)| value.split_whitespace().chain([value.as_str()]))
        .filter(|word| word.len() > 3 && !matches!(*word, "Bearer" | "Basic"))
        .map(str::to_owned)
        .collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into()
}

#[cfg(test)]
mod tests;
