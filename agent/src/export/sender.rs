//! What OTLP's two transports have in common: a batch is taken from the queue and seen through to one of its ends.
//!
//! Part of the export stage. Several requests are under way at once, each until it is acknowledged, refused or
//! given up (<https://opentelemetry.io/docs/specs/otlp/>). While all wait to try again the queue fills, and then
//! refuses. How a request is sent is `grpc` or `http`.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::books::Refusal;
use super::options::{OtlpOptions, Protocol, RetryPolicy};
use super::queue::{self, Queue, Taken};
use super::retry::{Backoff, Verdict};
use super::text::printable;
use super::{Limits, grpc, http, otlp};

/// The longest message of a receiver that is kept, in characters.
const MESSAGE_LIMIT: usize = 300;

/// How requests go out.
#[derive(Clone)]
pub(super) enum Client {
    /// OTLP/gRPC.
    Grpc(grpc::Client),
    /// OTLP/HTTP.
    Http(http::Client),
}

/// Why a request was not taken.
#[derive(Debug)]
pub(super) struct Failure {
    /// In words. May hold what the receiver said, and that may hold anything.
    pub(super) words: String,
    /// Whether it may be sent again.
    pub(super) verdict: Verdict,
}

impl Client {
    /// Nothing is connected before the first request. Needs a runtime's context.
    pub(super) fn new(options: &OtlpOptions) -> anyhow::Result<Self> {
        Ok(match options.protocol {
            Protocol::Grpc => {
                Self::Grpc(grpc::Client::new(grpc::connect_lazily(options)?, options)?)
            }
            Protocol::HttpProtobuf => Self::Http(http::Client::new(options)?),
        })
    }

    pub(super) async fn send(
        &mut self,
        request: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Failure> {
        match self {
            Self::Grpc(client) => client.send(request).await,
            Self::Http(client) => client.send(&request).await,
        }
    }
}

/// Sends an empty request, once. An error is why it was not answered, without credentials.
pub(super) async fn probe(options: &OtlpOptions) -> Result<(), String> {
    let mut client = Client::new(options).map_err(|error| format!("{error:#}"))?;
    let answer = client.send(ExportTraceServiceRequest::default()).await;
    answer.map(|_| ()).map_err(|failure| presentable(&secrets(&options.headers), &failure.words))
}

/// One of the exporter's tasks: takes a batch, sees it through, takes the next.
#[derive(Clone)]
pub(super) struct Sender {
    client: Client,
    retry: RetryPolicy,
    secrets: Arc<[String]>,
    limits: Limits,
    /// Held while a batch is taken: a queue is taken from by one at a time.
    turn: Arc<Mutex<()>>,
}

impl Sender {
    pub(super) fn new(client: Client, options: &OtlpOptions, limits: Limits) -> Self {
        Self {
            client,
            retry: options.retry,
            secrets: secrets(&options.headers),
            limits,
            turn: Arc::new(Mutex::new(())),
        }
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
            // Made anew for each attempt: rarely needed twice, and dearer to keep than to make.
            let request = otlp::request(queue::spans(&taken.slices));
            let failure = match self.client.send(request).await {
                Ok(response) => return self.acknowledged(queue, taken, response),
                Err(failure) => failure,
            };
            queue.failed(presentable(&self.secrets, &failure.words));
            let Verdict::Retry(wish) = failure.verdict else {
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

    fn acknowledged(&self, queue: &Queue, mut taken: Taken, response: ExportTraceServiceResponse) {
        let sent = taken.claim.spans();
        let rejected = rejected(queue, sent, response, &self.secrets);
        taken.claim.refused(rejected, Refusal::Rejected);
        taken.claim.exported(sent - rejected);
    }
}

/// How many of the spans that were sent a receiver refused although it took the request.
pub(super) fn rejected(
    queue: &Queue,
    sent: usize,
    response: ExportTraceServiceResponse,
    secrets: &[String],
) -> usize {
    let partial = response.partial_success.unwrap_or_default();
    let message = presentable(secrets, &partial.error_message);
    let rejected = usize::try_from(partial.rejected_spans).unwrap_or(0).min(sent);
    if rejected > 0 {
        queue.failed(format!("the receiver refused {rejected} of {sent} spans: {message}"));
    } else {
        queue.works();
        if !message.is_empty() {
            tracing::debug!(message, "the receiver took all spans and has a remark");
        }
    }
    rejected
}

/// A receiver may repeat what it was sent: takes out the headers' values, and what would confuse a terminal.
pub(super) fn presentable(secrets: &[String], text: &str) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret, "***");
    }
    let text: String = text.chars().take(MESSAGE_LIMIT).collect();
    printable(&text).into_owned()
}

/// The failure that timeouts are, whoever's clock it was.
pub(super) fn timed_out(timeout: Duration) -> String {
    format!("no answer within {} ms", timeout.as_millis())
}

/// An error and what caused it, each cause once.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}

/// The headers' values and the words in them (`Bearer`'s token), longest first. Words of up to three
/// characters are no secrets, and taking them out would garble messages.
pub(super) fn secrets(headers: &[(String, String)]) -> Arc<[String]> {
    let mut secrets: Vec<String> = headers
        .iter()
        .flat_map(|(_, value)| value.split_whitespace().chain([value.as_str()]))
        .filter(|word| word.len() > 3 && !matches!(*word, "Bearer" | "Basic"))
        .map(str::to_owned)
        .collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into()
}
