//! Exported spans, read back from OTLP: the same typed view of what arrived over gRPC and of what the file
//! exporter wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, SpanFlags};

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
    Double(f64),
    List(Vec<Self>),
    Other,
}

pub(crate) type Attributes = BTreeMap<String, Value>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Server,
    Client,
    Producer,
    Consumer,
    Internal,
    Other,
}

/// One exported span. Ids are in hexadecimal.
#[derive(Clone, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) parent_is_remote: bool,
    pub(crate) trace_state: String,
    pub(crate) service: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    /// The status is an error, with this description.
    pub(crate) error: Option<String>,
    pub(crate) attributes: Attributes,
    pub(crate) dropped_attributes: u32,
    /// Trace and span of each link.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) resource: Attributes,
}

/// On one line, without the resource: what a failed test shows.
impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, id, parent, service, kind, name, start_ns, end_ns, error, .. } = self;
        let parent = parent.as_deref().unwrap_or("-");
        write!(f, "{service} {kind:?} {name:?} {trace}/{id} under {parent} {start_ns}..{end_ns}")?;
        write!(f, " error {error:?} {:?}", self.attributes)
    }
}

impl Span {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.attributes.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn int(&self, key: &str) -> Option<i64> {
        match self.attributes.get(key)? {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The request's path, on either side.
    pub(crate) fn path(&self) -> &str {
        if let Some(path) = self.text("url.path") {
            return path;
        }
        let url = self.text("url.full").unwrap_or_default();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.find('/').map_or("", |at| &rest[at..])
    }

    /// The number at the end of the path, by which the applications' requests are told apart.
    pub(crate) fn number(&self) -> Option<u64> {
        self.path().rsplit('/').next()?.parse().ok()
    }

    pub(crate) fn status(&self) -> Option<i64> {
        self.int("http.response.status_code")
    }

    /// Why the parent was withheld, if it was.
    pub(crate) fn withheld(&self) -> Option<&str> {
        (self.text("wirespan.parent.status") == Some("withheld"))
            .then(|| self.text("wirespan.parent.reason").unwrap_or("no reason"))
    }

    pub(crate) fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// The whole lines of a JSON-lines file; what is not there yet is none.
pub(crate) fn read(path: &Path) -> Vec<Span> {
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut spans = Vec::new();
    for line in whole.lines() {
        let request: ExportTraceServiceRequest =
            serde_json::from_str(line).expect("a line of OTLP");
        spans.extend(of(&request));
    }
    spans
}

/// The spans of one export.
pub(crate) fn of(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for group in &request.resource_spans {
        let resource = attributes(&group.resource.as_ref().expect("a resource").attributes);
        for scope in &group.scope_spans {
            assert_eq!(scope.scope.as_ref().map(|scope| scope.name.as_str()), Some("wirespan"));
            spans.extend(scope.spans.iter().map(|found| span(found, &resource)));
        }
    }
    spans
}

fn span(span: &OtlpSpan, resource: &Attributes) -> Span {
    let service = match resource.get("service.name") {
        Some(Value::Text(name)) => name.clone(),
        other => panic!("service.name is {other:?}"),
    };
    assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8), "{span:?}");
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    let status = span.status.clone().unwrap_or_default();
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
        parent_is_remote: span.flags & SpanFlags::ContextIsRemoteMask as u32 != 0,
        trace_state: span.trace_state.clone(),
        service,
        kind: match span.kind() {
            SpanKind::Server => Kind::Server,
            SpanKind::Client => Kind::Client,
            SpanKind::Producer => Kind::Producer,
            SpanKind::Consumer => Kind::Consumer,
            SpanKind::Internal => Kind::Internal,
            _ => Kind::Other,
        },
        name: span.name.clone(),
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        error: (status.code() == StatusCode::Error).then_some(status.message),
        attributes: attributes(&span.attributes),
        dropped_attributes: span.dropped_attributes_count,
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        resource: resource.clone(),
    }
}

fn attributes(pairs: &[KeyValue]) -> Attributes {
    let mut map = Attributes::new();
    for pair in pairs {
        let value = pair.value.as_ref().map_or(Value::Other, value);
        assert_eq!(map.insert(pair.key.clone(), value), None, "{} is given twice", pair.key);
    }
    map
}

fn value(any: &AnyValue) -> Value {
    match &any.value {
        Some(OtlpValue::StringValue(text)) => Value::Text(text.clone()),
        Some(OtlpValue::IntValue(value)) => Value::Int(*value),
        Some(OtlpValue::BoolValue(value)) => Value::Bool(*value),
        Some(OtlpValue::DoubleValue(value)) => Value::Double(*value),
        Some(OtlpValue::ArrayValue(list)) => Value::List(list.values.iter().map(value).collect()),
        _ => Value::Other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
