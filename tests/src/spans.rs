//! What the agent exported, as its JSON-lines file has it: flat spans for the tests to compare.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// One exported span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// `process.pid` of its resource.
    pub pid: i64,
    /// OTLP's number: 2 server, 3 client, 4 producer.
    pub kind: i64,
    /// Its name.
    pub name: String,
    /// Its trace, hexadecimal.
    pub trace_id: String,
    /// Itself, hexadecimal.
    pub span_id: String,
    /// Its parent, hexadecimal; empty: a root.
    pub parent_span_id: String,
    /// Unix nanoseconds.
    pub start_ns: u64,
    /// Unix nanoseconds.
    pub end_ns: u64,
    /// Its attributes: text, or numbers as text.
    pub attributes: BTreeMap<String, String>,
    /// OTLP's status code: 0 unset, 2 error.
    pub status: i64,
}

/// A server's span.
pub const SERVER: i64 = 2;
/// A client's span.
pub const CLIENT: i64 = 3;
/// A span of what sends a message.
pub const PRODUCER: i64 = 4;

impl Span {
    /// The path that was asked for: `url.path`, or that of `url.full`.
    #[must_use]
    pub fn path(&self) -> &str {
        if let Some(path) = self.text("url.path") {
            return path;
        }
        let full = self.text("url.full").unwrap_or_default();
        let after = full.split_once("://").map_or("", |(_, after)| after);
        after.find('/').and_then(|at| after.get(at..)).unwrap_or_default()
    }

    /// An attribute.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    /// An attribute that is an integer.
    #[must_use]
    pub fn int(&self, key: &str) -> Option<i64> {
        self.text(key)?.parse().ok()
    }
}

/// All spans in the file so far; none where there is no file yet. A line that is still being written is
/// left out.
///
/// # Errors
/// A whole line that is not what the exporter should write.
pub fn read(path: &Path) -> Result<Vec<Span>> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(Vec::new()) };
    let mut spans = Vec::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let line: Value = serde_json::from_str(line).context("a line that is no JSON")?;
        for resource in list(&line, "resourceSpans") {
            let attributes = attributes(resource.get("resource").unwrap_or(&Value::Null));
            let of = |key: &str| attributes.get(key).cloned().unwrap_or_default();
            for scope in list(resource, "scopeSpans") {
                for span in list(scope, "spans") {
                    let service = of("service.name");
                    let pid = of("process.pid").parse().unwrap_or_default();
                    spans.push(span_of(span, service, pid)?);
                }
            }
        }
    }
    Ok(spans)
}

fn span_of(span: &Value, service: String, pid: i64) -> Result<Span> {
    let text = |key: &str| span.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let time = |key: &str| text(key).parse().with_context(|| format!("{key} of {span}"));
    let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or_default();
    Ok(Span {
        service,
        pid,
        kind: number(span.get("kind")),
        name: text("name"),
        trace_id: text("traceId"),
        span_id: text("spanId"),
        parent_span_id: text("parentSpanId"),
        start_ns: time("startTimeUnixNano")?,
        end_ns: time("endTimeUnixNano")?,
        attributes: attributes(span),
        status: number(span.get("status").and_then(|status| status.get("code"))),
    })
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn attributes(holder: &Value) -> BTreeMap<String, String> {
    let pairs = list(holder, "attributes").iter().filter_map(|attribute| {
        let key = attribute.get("key")?.as_str()?;
        let value = attribute.get("value")?.as_object()?.values().next()?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some((key.to_owned(), text))
    });
    pairs.collect()
}
