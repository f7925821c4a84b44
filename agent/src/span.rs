//! The finished span: the boundary between correlation and export.
//!
//! Wire-neutral: no OTLP type and no clock. Times are Unix nanoseconds.

pub mod amqp;
mod common;
pub mod http;
mod kafka;
mod lifted;
mod postgres;
pub mod process;
mod queue;
mod redis;

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
pub use wirespan_protocols::w3c::{SpanId, TraceId};

use crate::call::{Placement, Role};
use crate::connection::Content;
use crate::exchange::Exchange;

/// The span of a finished, placed exchange. `route`: of HTTP the low-cardinality form of its path, or empty.
pub fn of(exchange: &Exchange, route: &str, placement: Placement) -> Span {
    let mut span = match &exchange.content {
        Content::Http { request, response } => {
            http::span(exchange, request, response.as_ref(), route, placement)
        }
        Content::Redis(call) => match &call.submits {
            Some(work) if exchange.role == Role::Client => {
                queue::submitted(exchange, call, work, placement)
            }
            _ => redis::span(exchange, &call.command, placement),
        },
        Content::Job(work) => queue::job(exchange, work, placement),
        Content::Kafka(call) => kafka::span(exchange, call, placement),
        Content::Postgres { query, session } => postgres::span(exchange, query, session, placement),
        Content::Amqp { call, session } => amqp::span(exchange, call, session, placement),
    };
    lifted::add(exchange, &mut span);
    span
}

/// OpenTelemetry's span kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Work inside the process.
    Internal,
    /// The process answered a request.
    Server,
    /// The process made a request.
    Client,
    /// The process handed a message to a broker.
    Producer,
    /// The process took a message from a broker.
    Consumer,
}

/// An attribute's value. Conventions in use here need no more than these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Text.
    Str(Cow<'static, str>),
    /// A list of texts (`process.command_args`).
    StrArray(Vec<String>),
}

/// A named value. Keys from OpenTelemetry's conventions are that crate's constants, never literals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// The name, as the semantic conventions spell it.
    pub key: Cow<'static, str>,
    /// The value.
    pub value: Value,
}

/// A span's status: `Unset` unless the conventions call the outcome an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing to report.
    Unset,
    /// An error, with a description that carries no payload.
    Error(Cow<'static, str>),
}

/// Another span that this one has to do with, without being its parent.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The other span's trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// Why it is linked.
    pub attributes: Vec<Attribute>,
}

/// The entity that spans belong to: one traced service instance. Spans share it by `Arc`, and an
/// exporter groups by the pointer.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// `service.name` first, then the rest.
    pub attributes: Vec<Attribute>,
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace_id: TraceId,
    /// This span.
    pub span_id: SpanId,
    /// The parent, unless this is a root.
    pub parent_span_id: Option<SpanId>,
    /// Whether the parent came over the wire (a `traceparent`) and may be unknown to this agent.
    pub parent_is_remote: bool,
    /// W3C trace flags (bit 0: sampled).
    pub trace_flags: u8,
    /// W3C `tracestate`, as received.
    pub trace_state: Option<Box<str>>,
    /// The kind.
    pub kind: SpanKind,
    /// A low-cardinality name.
    pub name: Cow<'static, str>,
    /// When it began, Unix nanoseconds.
    pub start_unix_ns: u64,
    /// When it ended, Unix nanoseconds; never before `start_unix_ns`.
    pub end_unix_ns: u64,
    /// Attributes, each key once.
    pub attributes: Vec<Attribute>,
    /// Attributes that were left out, being more than there may be.
    pub dropped_attributes: u32,
    /// Links.
    pub links: Vec<Link>,
    /// The status.
    pub status: Status,
    /// The service instance.
    pub resource: Arc<Resource>,
}

impl Attribute {
    /// An attribute with any value that [`Value`] takes.
    pub fn new(key: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

impl Resource {
    /// The value of `key`, if it is there and is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        text(&self.attributes, key)
    }
}

impl Span {
    /// The value of `key`, if it is there and is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        text(&self.attributes, key)
    }

    /// The value of `key`, if it is there and is an integer.
    pub fn int(&self, key: &str) -> Option<i64> {
        self.attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| {
            match attribute.value {
                Value::Int(value) => Some(value),
                _ => None,
            }
        })
    }
}

fn text<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| match &attribute
        .value
    {
        Value::Str(value) => Some(value.as_ref()),
        _ => None,
    })
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Self::Str(Cow::Borrowed(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(Cow::Owned(value))
    }
}

impl From<Cow<'static, str>> for Value {
    fn from(value: Cow<'static, str>) -> Self {
        Self::Str(value)
    }
}

impl From<Vec<String>> for Value {
    fn from(value: Vec<String>) -> Self {
        Self::StrArray(value)
    }
}
