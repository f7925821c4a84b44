//! Where spans go: what a person writes after `--export`.
//!
//! Part of the export stage: configuration only, nothing is opened or connected here. A further
//! exporter (the local page) is a further variant, its spelling in [`Target::parse`],
//! and a `Sink` in `super`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::options::{Endpoint, OptionsError, OtlpOptions, Protocol};

/// One place that spans go to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "there are a handful, made once")]
pub enum Target {
    /// Trace trees on standard output, for a person.
    Console(ConsoleOptions),
    /// One `ExportTraceServiceRequest` in OTLP's JSON mapping a line, appended to this file.
    File(PathBuf),
    /// OTLP, over gRPC or HTTP.
    Otlp(OtlpOptions),
}

/// How the console shows traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleOptions {
    /// Print each span's `traceparent` under it.
    pub traceparent: bool,
    /// When to use colour.
    pub color: Color,
    /// Columns to fill; the terminal's width, or 80 where there is no terminal, if `None`.
    pub width: Option<usize>,
}

/// When the console uses colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is wrong with a target as it was written.
#[derive(Debug, Error)]
pub enum TargetError {
    /// No such exporter.
    #[error(
        "`{0}` is no exporter: expected console, file:PATH, otlp, otlp=http://HOST:4317 or otlphttp=http://HOST:4318"
    )]
    Unknown(String),
    /// `file:` without a path.
    #[error("`file:` needs a path, as in file:/var/log/spans.jsonl")]
    NoPath,
    /// The endpoint after `otlp=`.
    #[error("{0}=: {1}")]
    Endpoint(&'static str, String),
    /// An OTLP variable of the environment.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

impl Target {
    /// Reads `console`, `file:PATH`, `otlp` or `otlp=URL`, `otlphttp` or `otlphttp=URL`; what OTLP leaves open
    /// is looked up among the `OTEL_EXPORTER_OTLP_*` variables that `lookup` gives.
    pub fn parse(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, TargetError> {
        if text == "console" {
            return Ok(Self::Console(ConsoleOptions::default()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path {
                "" => Err(TargetError::NoPath),
                path => Ok(Self::File(PathBuf::from(path))),
            };
        }
        let (word, url) = match text.split_once('=') {
            Some((word, url)) => (word, Some(url)),
            None => (text, None),
        };
        // The first leaves the protocol to the variable.
        let (word, protocol) = match word {
            "otlp" => ("otlp", None),
            "otlphttp" => ("otlphttp", Some(Protocol::HttpProtobuf)),
            _ => return Err(TargetError::Unknown(text.to_owned())),
        };
        let mut options = OtlpOptions::from_env(lookup)?;
        options.protocol = protocol.unwrap_or(options.protocol);
        if let Some(url) = url {
            let endpoint = Endpoint::parse(url, options.insecure)
                .map_err(|problem| TargetError::Endpoint(word, problem))?;
            options.endpoint = Some(endpoint);
        }
        Ok(Self::Otlp(options))
    }

    /// What only one exporter can use at a time.
    pub(super) fn held(&self) -> Option<&Path> {
        match self {
            Self::Console(_) => Some(Path::new("/dev/stdout")),
            Self::File(path) => Some(path),
            Self::Otlp(options) => options.disk_queue.as_ref().map(|disk| disk.directory.as_path()),
        }
    }

    /// The target as a person would write it; names its books.
    pub fn name(&self) -> String {
        match self {
            Self::Console(_) => "console".to_owned(),
            Self::File(path) => format!("file:{}", path.display()),
            Self::Otlp(options) => match options.protocol {
                Protocol::Grpc => format!("otlp={}", options.receiver()),
                Protocol::HttpProtobuf => format!("otlphttp={}", options.receiver()),
            },
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// [`Target::parse`] with this process's environment.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, |name| std::env::var(name).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::parse(text, |_| None)
    }

    #[test]
    fn spellings_and_names() {
        for (text, name) in [
            ("console", "console"),
            ("file:/var/log/a b.jsonl", "file:/var/log/a b.jsonl"),
            ("file:relative", "file:relative"),
            ("otlp", "otlp=http://localhost:4317"),
            ("otlp=https://collector", "otlp=https://collector"),
            ("otlp=collector:4317", "otlp=https://collector:4317"),
            ("otlphttp", "otlphttp=http://localhost:4318"),
            ("otlphttp=https://collector/secret?k=v", "otlphttp=https://collector"),
        ] {
            assert_eq!(parse(text).unwrap().name(), name, "{text}");
        }
    }

    #[test]
    fn what_is_no_target_says_what_would_be() {
        for (text, part) in [
            ("", "expected console"),
            ("Console", "expected console"),
            ("file", "expected console"),
            ("file:", "needs a path"),
            ("otlp=", "otlp=: "),
            ("otlphttp=", "otlphttp=: "),
            ("otlpgrpc=http://host", "expected console"),
            ("otlp=ftp://host", "http or https"),
            ("otlp=http://user:secret@host", "OTEL_EXPORTER_OTLP_HEADERS"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_written_endpoint_wins_over_the_environment() {
        let lookup = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://elsewhere:4317".to_owned()),
            "OTEL_EXPORTER_OTLP_COMPRESSION" => Some("gzip".to_owned()),
            _ => None,
        };
        let Target::Otlp(options) = Target::parse("otlp=http://here:4317", lookup).unwrap() else {
            panic!("not an OTLP target");
        };
        assert_eq!(options.receiver().to_string(), "http://here:4317");
        assert_eq!(options.compression, super::super::options::Compression::Gzip);
    }
}
