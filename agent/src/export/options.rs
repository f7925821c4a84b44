//! How to reach an OTLP receiver: the `OTEL_EXPORTER_OTLP_*` variables.
//!
//! Part of the export stage: configuration only. Follows
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>; an empty variable counts as unset,
//! and `OTEL_EXPORTER_OTLP_TRACES_*` wins over `OTEL_EXPORTER_OTLP_*`. Where an SDK warns about a value
//! that it does not understand and goes on, this refuses to start: an agent is started by an operator.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use thiserror::Error;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Uri;

use super::disk::DiskOptions;

/// How an OTLP exporter reaches its receiver. `Debug` shows no header's value.
#[derive(Clone, PartialEq)]
pub struct OtlpOptions {
    /// How spans are sent.
    pub protocol: Protocol,
    /// The receiver; `None`: this machine, at the protocol's own port.
    pub endpoint: Option<Endpoint>,
    /// Whether an endpoint written without a scheme is plaintext.
    pub insecure: bool,
    /// Headers (in gRPC: metadata) sent with each request: lower-case name, value.
    pub headers: Vec<(String, String)>,
    /// How requests are compressed.
    pub compression: Compression,
    /// The longest that one request may take.
    pub timeout: Duration,
    /// A PEM file with the authorities to trust instead of the system's.
    pub certificate: Option<PathBuf>,
    /// A PEM file with the client's certificate chain, for mutual TLS.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file with the client's private key.
    pub client_key: Option<PathBuf>,
    /// When to try again and when to give up.
    pub retry: RetryPolicy,
    /// Where requests wait that the receiver does not take now.
    pub disk_queue: Option<DiskOptions>,
}

/// OTLP's transports (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/#specify-protocol>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    #[default]
    Grpc,
    /// HTTP, with bodies in binary Protobuf.
    HttpProtobuf,
}

impl Protocol {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }

    /// Reads what [`Protocol::word`] gives.
    pub fn read(text: &str) -> Option<Self> {
        [Self::Grpc, Self::HttpProtobuf].into_iter().find(|protocol| protocol.word() == text)
    }
}

/// An OTLP receiver's address: `http` or `https`, host and perhaps port and path, without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
    /// Its path is the traces' own; else that goes behind it.
    is_whole: bool,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With gzip.
    Gzip,
}

/// When to try again: exponential backoff with jitter, within a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first pause; each further one is half as long again, give or take a quarter.
    pub initial_backoff: Duration,
    /// The longest pause that is not the receiver's own wish.
    pub max_backoff: Duration,
    /// How long after its first attempt a request is given up.
    pub give_up_after: Duration,
}

/// A variable that cannot be understood. Names the variable and never quotes a header's value.
#[derive(Debug, Error)]
#[error("{variable}: {problem}")]
pub struct OptionsError {
    /// The variable.
    pub variable: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Default for OtlpOptions {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            endpoint: None,
            insecure: false,
            headers: Vec::new(),
            compression: Compression::None,
            timeout: Duration::from_secs(10),
            certificate: None,
            client_certificate: None,
            client_key: None,
            retry: RetryPolicy::default(),
            disk_queue: None,
        }
    }
}

impl Default for RetryPolicy {
    /// Patience for a collector's restart: pauses from 1 s up to 5 s, for a minute.
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(5),
            give_up_after: Duration::from_secs(60),
        }
    }
}

impl OtlpOptions {
    /// Who gets the spans.
    pub fn receiver(&self) -> Endpoint {
        self.endpoint.clone().unwrap_or_else(|| Endpoint::default_of(self.protocol))
    }

    /// Reads the variables that `lookup` gives.
    ///
    /// # Errors
    /// The variable that is not understood.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, OptionsError> {
        Self::default().with_env(lookup)
    }

    /// The same, where variables replace what is known already.
    ///
    /// # Errors
    /// The variable that is not understood.
    pub fn with_env(self, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, OptionsError> {
        let variables = Variables { lookup };
        let mut options = self;

        if let Some(protocol) = variables.read("PROTOCOL", |value| {
            Protocol::read(value).ok_or_else(|| {
                let value = value.escape_debug();
                format!("`{value}` is not supported here: expected grpc or http/protobuf")
            })
        })? {
            options.protocol = protocol;
        }
        if let Some(insecure) = variables.read("INSECURE", boolean)? {
            options.insecure = insecure;
        }
        let insecure = options.insecure;
        if let Some(endpoint) = variables.read_of("ENDPOINT", |prefix, value| {
            let endpoint = Endpoint::parse(value, insecure)?;
            Ok(if prefix == OF_TRACES { endpoint.whole() } else { endpoint })
        })? {
            options.endpoint = Some(endpoint);
        }
        if let Some(headers) = variables.read("HEADERS", headers)? {
            options.headers = headers;
        }
        if let Some(compression) = variables.read("COMPRESSION", |value| match value {
            "none" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            other => Err(format!("`{}` is neither gzip nor none", other.escape_debug())),
        })? {
            options.compression = compression;
        }
        if let Some(timeout) = variables.read("TIMEOUT", milliseconds)? {
            options.timeout = timeout;
        }
        let certificate = variables.read("CERTIFICATE", path)?;
        options.certificate = certificate.or(options.certificate);
        let certificate = variables.read("CLIENT_CERTIFICATE", path)?;
        options.client_certificate = certificate.or(options.client_certificate);
        options.client_key = variables.read("CLIENT_KEY", path)?.or(options.client_key);
        Ok(options)
    }
}

/// What variables for traces alone begin with; the others are for all signals.
const OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_";

struct Variables<L> {
    lookup: L,
}

impl<L: Fn(&str) -> Option<String>> Variables<L> {
    /// The value of `OTEL_EXPORTER_OTLP_TRACES_{suffix}`, else of `OTEL_EXPORTER_OTLP_{suffix}`.
    fn read<T>(
        &self,
        suffix: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, OptionsError> {
        self.read_of(suffix, |_prefix, value| parse(value))
    }

    /// The same, where it matters which of the two it is.
    fn read_of<T>(
        &self,
        suffix: &str,
        parse: impl FnOnce(&str, &str) -> Result<T, String>,
    ) -> Result<Option<T>, OptionsError> {
        for prefix in [OF_TRACES, "OTEL_EXPORTER_OTLP_"] {
            let variable = format!("{prefix}{suffix}");
            let value = (self.lookup)(&variable).unwrap_or_default();
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            return match parse(prefix, value) {
                Ok(parsed) => Ok(Some(parsed)),
                Err(problem) => Err(OptionsError { variable, problem }),
            };
        }
        Ok(None)
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{}` is neither true nor false", value.escape_debug())),
    }
}

fn milliseconds(value: &str) -> Result<Duration, String> {
    match value.parse::<u64>() {
        Ok(0) => Err("a timeout of 0 lets nothing through".to_owned()),
        Ok(value) => Ok(Duration::from_millis(value)),
        Err(error) => {
            Err(format!("`{}` is no number of milliseconds: {error}", value.escape_debug()))
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "has the shape of the other variables' parsers")]
fn path(value: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(value))
}

/// `name=value` pairs, comma-separated, both percent-encoded, as in W3C Baggage without properties.
fn headers(value: &str) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    for (index, pair) in value.split(',').enumerate() {
        let position = index + 1;
        if pair.trim().is_empty() {
            continue;
        }
        // A pair is never quoted: it may be a password whose `name=` was forgotten.
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("header {position} is not of the form name=value"));
        };
        let decode = |text: &str| match percent_decode_str(text.trim()).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(format!("header {position} is not UTF-8 once decoded")),
        };
        let name = decode(name)?.to_ascii_lowercase();
        let value = decode(value)?;
        if !is_header(&name, "") {
            return Err(format!("header {position} has a name that no header can have"));
        }
        if !is_header(&name, &value) {
            return Err(format!("header `{name}` has a value that no header can have"));
        }
        headers.push((name, value));
    }
    Ok(headers)
}

/// Whether this can be sent as a header.
pub fn is_header(name: &str, value: &str) -> bool {
    name.to_ascii_lowercase().parse::<AsciiMetadataKey>().is_ok()
        && AsciiMetadataValue::try_from(value).is_ok()
}

impl Endpoint {
    /// Reads `http://host:port`, `https://host:port`, or `host:port`, which is TLS unless `insecure`.
    /// The error never quotes credentials.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, String> {
        let text = text.trim();
        let url = match (text.contains("://"), insecure) {
            (true, _) => text.to_owned(),
            (false, true) => format!("http://{text}"),
            (false, false) => format!("https://{text}"),
        };
        let uri = url.parse::<Uri>().map_err(|error| format!("the endpoint is no URL: {error}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("the endpoint's scheme must be http or https".to_owned());
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                Err("credentials in an endpoint are not supported: use OTEL_EXPORTER_OTLP_HEADERS"
                    .to_owned())
            }
            Some(authority) if !authority.host().is_empty() => Ok(Self { uri, is_whole: false }),
            _ => Err("the endpoint has no host".to_owned()),
        }
    }

    /// Whether the connection is TLS.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Where `protocol`'s receivers listen on this machine.
    fn default_of(protocol: Protocol) -> Self {
        let uri = match protocol {
            Protocol::Grpc => Uri::from_static("http://localhost:4317"),
            Protocol::HttpProtobuf => Uri::from_static("http://localhost:4318"),
        };
        Self { uri, is_whole: false }
    }

    /// The same, its path taken as it is.
    fn whole(self) -> Self {
        Self { is_whole: true, ..self }
    }

    /// Where HTTP requests with spans go
    /// (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp>).
    pub(super) fn traces_url(&self) -> String {
        let (path, query) = match self.uri.path_and_query() {
            Some(path) => (path.path(), path.query()),
            None => ("/", None),
        };
        let traces = if self.is_whole { "" } else { "/v1/traces" };
        let path = if self.is_whole { path } else { path.trim_end_matches('/') };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{self}{path}{traces}{query}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the path, which gRPC does not use, and without a query: both may hold a key.
        let scheme = self.uri.scheme_str().unwrap_or("http");
        write!(f, "{scheme}://{}", self.uri.authority().map_or("", |authority| authority.as_str()))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for OtlpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("OtlpOptions")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint)
            .field("insecure", &self.insecure)
            .field("header_names", &names)
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .field("certificate", &self.certificate)
            .field("client_certificate", &self.client_certificate)
            .field("client_key", &self.client_key)
            .field("retry", &self.retry)
            .field("disk_queue", &self.disk_queue)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<OtlpOptions, OptionsError> {
        OtlpOptions::from_env(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_is_the_specification_s_default() {
        let options = from(&[]).unwrap();
        assert_eq!(options, OtlpOptions::default());
        assert_eq!(options.receiver().to_string(), "http://localhost:4317");
        assert_eq!(options.timeout, Duration::from_secs(10));
    }

    #[test]
    fn the_signal_s_own_variable_wins_and_an_empty_one_is_unset() {
        let options = from(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:4317/"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", ""),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/etc/ca.pem"),
        ])
        .unwrap();
        assert_eq!(options.receiver().to_string(), "https://traces:4317");
        assert!(options.receiver().is_tls());
        assert_eq!(options.timeout, Duration::from_millis(1500));
        assert_eq!(options.compression, Compression::Gzip);
        assert_eq!(options.certificate, Some(PathBuf::from("/etc/ca.pem")));
    }

    #[test]
    fn http_has_a_port_and_a_path_of_its_own() {
        let url = |variables: &[(&str, &str)]| {
            let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
            let options = from(&[&[protocol], variables].concat()).unwrap();
            assert_eq!(options.protocol, Protocol::HttpProtobuf);
            options.receiver().traces_url()
        };
        const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        assert_eq!(url(&[]), "http://localhost:4318/v1/traces");
        assert_eq!(url(&[(ALL, "http://c:1")]), "http://c:1/v1/traces");
        assert_eq!(url(&[(ALL, "https://c/otlp/")]), "https://c/otlp/v1/traces");
        assert_eq!(url(&[(ALL, "https://c/?key=7")]), "https://c/v1/traces?key=7");
        // The traces' own is used as it is; without a path it has the root's.
        assert_eq!(url(&[(TRACES, "http://c:1/here")]), "http://c:1/here");
        assert_eq!(url(&[(TRACES, "http://c:1"), (ALL, "http://d")]), "http://c:1/");
    }

    #[test]
    fn only_an_endpoint_without_a_scheme_asks_insecure() {
        for (endpoint, insecure, tls) in [
            ("collector:4317", "", true),
            ("collector:4317", "false", true),
            ("collector:4317", "TRUE", false),
            ("http://collector:4317", "false", false),
            ("https://collector:4317", "true", true),
            ("[::1]:4317", "true", false),
        ] {
            let options = from(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
                ("OTEL_EXPORTER_OTLP_INSECURE", insecure),
            ])
            .unwrap();
            assert_eq!(options.receiver().is_tls(), tls, "{endpoint} insecure={insecure}");
        }
    }

    #[test]
    fn headers_are_percent_decoded() {
        let options = from(&[(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "Authorization=Bearer%20a%2Cb=, x-Tenant = 7 ,",
        )])
        .unwrap();
        let expected = [("authorization", "Bearer a,b="), ("x-tenant", "7")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(options.headers, expected);
    }

    #[test]
    fn errors_name_the_variable_and_no_header_value_is_ever_shown() {
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://host"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://hunter2:hunter2@host"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0a"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%ff"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "yes"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "GRPC"),
        ] {
            let error = from(&[(variable, value)]).expect_err(value).to_string();
            assert!(error.starts_with(variable), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let options = from(&[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2")]).unwrap();
        let shown = format!("{options:?}");
        assert!(shown.contains("api-key") && !shown.contains("hunter2"), "{shown}");
    }
}
