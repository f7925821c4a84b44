//! `exporters` and `queue`: where spans go, and how many may wait.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::scalar::{Count, DiskSize, Leaf, Scalar, Time};
use crate::export::{
    Color, Compression, ConsoleOptions, DiskOptions, Endpoint, Limits, OtlpOptions, Protocol,
    Target, is_header,
};

/// One exporter.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exporter {
    /// Trace trees on standard output.
    Console(Console),
    /// A file to which one OTLP JSON `ExportTraceServiceRequest` a line is appended.
    File(File),
    /// OTLP over gRPC or HTTP.
    Otlp(Box<Otlp>),
}

/// Trace trees on standard output.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// Print the traceparent of each span. Default: false.
    pub traceparent: Option<Scalar<bool>>,
    /// When to use colour: `auto`, `always` or `never`. Default: auto.
    pub color: Option<Scalar<Color>>,
}

/// A file of spans.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its path.
    pub path: Scalar<String>,
}

/// OTLP over gRPC or HTTP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// `grpc` or `http/protobuf`. Default: grpc. `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub protocol: Option<Scalar<Protocol>>,
    /// `http://HOST:PORT`, or `https://` for TLS; with `http/protobuf` a path may follow, behind which `/v1/traces`
    /// goes. Default: http://localhost:4317, with `http/protobuf` http://localhost:4318.
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<Scalar<EndpointText>>,
    /// Sent with each request, by name. `OTEL_EXPORTER_OTLP_HEADERS` replaces them all.
    pub headers: BTreeMap<String, Scalar<HeaderText>>,
    /// `gzip` or `none`. Default: none. `OTEL_EXPORTER_OTLP_COMPRESSION`.
    pub compression: Option<Scalar<Compression>>,
    /// The longest that one request may take. Default: 10s. `OTEL_EXPORTER_OTLP_TIMEOUT`.
    pub timeout: Option<Scalar<Time>>,
    /// How long after its first attempt a request is given up. With a `disk_queue`, requests on disk are not, unless
    /// the receiver takes others meanwhile. Default: 1m.
    pub give_up_after: Option<Scalar<Time>>,
    /// Where requests wait that the receiver does not take now; they survive the agent. Default: in memory only.
    pub disk_queue: Option<DiskQueue>,
    /// Certificates.
    pub tls: Tls,
}

/// A queue on disk.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskQueue {
    /// Its directory: of this exporter and no other, and the agent's alone (mode 0700). It is made if it is not there.
    pub directory: Scalar<String>,
    /// The most that its files may take; more stays in memory, and is refused and counted once there is no room.
    /// Default: 1GiB.
    #[serde(default)]
    pub max_size: Option<Scalar<DiskSize>>,
}

/// PEM files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The authorities to trust instead of the system's. `OTEL_EXPORTER_OTLP_CERTIFICATE`.
    pub ca_file: Option<Scalar<String>>,
    /// The client's certificate chain. `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`.
    pub cert_file: Option<Scalar<String>>,
    /// The client's private key. `OTEL_EXPORTER_OTLP_CLIENT_KEY`.
    pub key_file: Option<Scalar<String>>,
}

/// The bounds of each exporter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Spans that an exporter may hold; more are refused and counted. Default: 16384. `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub spans: Option<Scalar<Count>>,
    /// Spans in one request, at most. Default: 512. `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub batch_spans: Option<Scalar<Count>>,
    /// How long a request that is not full waits for more spans. Default: 200ms. `OTEL_BSP_SCHEDULE_DELAY`.
    pub linger: Option<Scalar<Time>>,
}

impl Exporter {
    /// The same as a target, with what the `OTEL_EXPORTER_OTLP_*` variables say instead of the file.
    ///
    /// # Errors
    /// A variable that is not understood.
    pub fn target(
        &self,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Target, crate::export::OptionsError> {
        Ok(match self {
            Self::Console(console) => Target::Console(ConsoleOptions {
                traceparent: console.traceparent.as_ref().is_some_and(|flag| flag.0),
                color: console.color.as_ref().map_or(Color::Auto, |color| color.0),
                width: None,
            }),
            Self::File(file) => Target::File(PathBuf::from(&file.path.0)),
            Self::Otlp(otlp) => Target::Otlp(otlp.options().with_env(lookup)?),
        })
    }
}

impl Otlp {
    fn options(&self) -> OtlpOptions {
        let mut options = OtlpOptions::default();
        if let Some(protocol) = &self.protocol {
            options.protocol = protocol.0;
        }
        options.endpoint = self.endpoint.as_ref().map(|endpoint| endpoint.0.0.clone());
        options.headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.0.0.clone()))
            .collect();
        if let Some(compression) = &self.compression {
            options.compression = compression.0;
        }
        if let Some(timeout) = &self.timeout {
            options.timeout = timeout.0.0;
        }
        if let Some(time) = &self.give_up_after {
            options.retry.give_up_after = time.0.0;
        }
        options.disk_queue = self.disk_queue.as_ref().map(|queue| DiskOptions {
            directory: PathBuf::from(&queue.directory.0),
            max_bytes: queue.max_size.as_ref().map_or(DiskOptions::DEFAULT_BYTES, |size| size.0.0),
        });
        let path = |path: &Option<Scalar<String>>| path.as_ref().map(|path| PathBuf::from(&path.0));
        options.certificate = path(&self.tls.ca_file);
        options.client_certificate = path(&self.tls.cert_file);
        options.client_key = path(&self.tls.key_file);
        options
    }

    /// What no single scalar shows to be wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(queue) = &self.disk_queue
            && !queue.directory.0.starts_with('/')
        {
            return Err("disk_queue: `directory` must be an absolute path".to_owned());
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            return Err("tls: `cert_file` and `key_file` go together".to_owned());
        }
        match self.headers.keys().find(|name| !is_header(name, "")) {
            Some(name) => {
                Err(format!("headers: `{}` cannot be a header's name", name.escape_debug()))
            }
            None => Ok(()),
        }
    }
}

impl Queue {
    /// The bounds, with what the `OTEL_BSP_*` variables say instead of the file.
    ///
    /// # Errors
    /// The variable that is not understood.
    pub fn limits(&self, lookup: impl Fn(&str) -> Option<String>) -> Result<Limits, String> {
        let mut limits = Limits::default();
        if let Some(spans) = &self.spans {
            limits.queue_spans = spans.0.0;
        }
        if let Some(spans) = &self.batch_spans {
            limits.batch_spans = spans.0.0;
        }
        if let Some(linger) = &self.linger {
            limits.linger = linger.0.0;
        }
        let variable = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let count = |name: &str| -> Result<Option<usize>, String> {
            let Some(text) = variable(name) else { return Ok(None) };
            match Count::read(text.trim()) {
                Ok(Count(count)) => Ok(Some(count)),
                Err(_) => Err(format!("{name}: expected {}", Count::EXPECTED)),
            }
        };
        if let Some(spans) = count("OTEL_BSP_MAX_QUEUE_SIZE")? {
            limits.queue_spans = spans;
        }
        if let Some(spans) = count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")? {
            limits.batch_spans = spans;
        }
        if let Some(milliseconds) = count("OTEL_BSP_SCHEDULE_DELAY")? {
            limits.linger = std::time::Duration::from_millis(milliseconds as u64);
        }
        Ok(limits)
    }
}

/// An endpoint's URL.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointText(pub Endpoint);

impl Leaf for EndpointText {
    const EXPECTED: &'static str = "http://HOST:PORT or https://HOST:PORT";
    // It may hold a password, which is one of the errors.
    const IS_QUOTED: bool = false;

    fn read(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return Err("it has no scheme".to_owned());
        }
        Endpoint::parse(text, false).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// A header's value.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderText(pub String);

impl Leaf for HeaderText {
    const EXPECTED: &'static str = "printable text, without line breaks";
    const IS_SECRET: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        if is_header("x", text) { Ok(Self(text.to_owned())) } else { Err(String::new()) }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl Leaf for Protocol {
    const EXPECTED: &'static str = "grpc or http/protobuf";

    fn read(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(String::new)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": ["grpc", "http/protobuf"] })
    }
}

impl Leaf for Compression {
    const EXPECTED: &'static str = "gzip or none";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "none" => Ok(Self::None),
            _ => Err(String::new()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": ["gzip", "none"] })
    }
}

impl Leaf for Color {
    const EXPECTED: &'static str = "auto, always or never";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(String::new()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": ["auto", "always", "never"] })
    }
}
