//! [`Span`] to OTLP: `ExportTraceServiceRequest` as both the gRPC and the file exporter send it.
//!
//! Part of the export stage. Pure: no I/O, no clock. One `ResourceSpans` for each resource
//! (<https://opentelemetry.io/docs/specs/otlp/>, opentelemetry-proto 1.x); no events, which spans here
//! do not have.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::span::{Link as OtlpLink, SpanKind as OtlpKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as OtlpSpan, SpanFlags, Status as OtlpStatus,
};
use opentelemetry_semantic_conventions::SCHEMA_URL;

use crate::span::{Attribute, Link, Resource, Span, SpanKind, Status, Value};

/// The instrumentation scope's name; its version is the agent's.
const SCOPE_NAME: &str = "wirespan";

/// One request with all of `spans`: a `ResourceSpans` for each resource, in order of appearance.
#[expect(single_use_lifetimes, reason = "an elided one in `impl Trait` is not stable")]
pub(super) fn request<'a>(spans: impl IntoIterator<Item = &'a Span>) -> ExportTraceServiceRequest {
    let mut groups: Vec<(&Arc<Resource>, Vec<OtlpSpan>)> = Vec::new();
    // By pointer, so that a resource is compared by value once for each `Arc` and not for each span.
    let mut by_pointer: HashMap<*const Resource, usize> = HashMap::new();
    for span in spans {
        let group = *by_pointer.entry(Arc::as_ptr(&span.resource)).or_insert_with(|| {
            let known = groups.iter().position(|(resource, _)| **resource == span.resource);
            known.unwrap_or_else(|| {
                groups.push((&span.resource, Vec::new()));
                groups.len() - 1
            })
        });
        if let Some((_, members)) = groups.get_mut(group) {
            members.push(otlp_span(span));
        }
    }
    let resource_spans =
        groups.into_iter().map(|(resource, spans)| resource_spans(resource, spans));
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

fn resource_spans(resource: &Resource, spans: Vec<OtlpSpan>) -> ResourceSpans {
    let resource =
        OtlpResource { attributes: attributes(&resource.attributes), ..Default::default() };
    let scope = InstrumentationScope {
        name: SCOPE_NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope),
            spans,
            schema_url: SCHEMA_URL.to_owned(),
        }],
        schema_url: SCHEMA_URL.to_owned(),
    }
}

fn otlp_span(span: &Span) -> OtlpSpan {
    OtlpSpan {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: span.trace_state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span.parent_span_id.map(|id| id.0.to_vec()).unwrap_or_default(),
        flags: flags(span),
        name: span.name.clone().into_owned(),
        kind: kind(span.kind).into(),
        start_time_unix_nano: span.start_unix_ns,
        end_time_unix_nano: span.end_unix_ns,
        attributes: attributes(&span.attributes),
        dropped_attributes_count: span.dropped_attributes,
        links: span.links.iter().map(link).collect(),
        status: Some(status(&span.status)),
        ..Default::default()
    }
}

/// The W3C flags, and whether the parent is remote, which is always known here.
fn flags(span: &Span) -> u32 {
    let mut flags = u32::from(span.trace_flags) | SpanFlags::ContextHasIsRemoteMask as u32;
    if span.parent_span_id.is_some() && span.parent_is_remote {
        flags |= SpanFlags::ContextIsRemoteMask as u32;
    }
    flags
}

fn kind(kind: SpanKind) -> OtlpKind {
    match kind {
        SpanKind::Internal => OtlpKind::Internal,
        SpanKind::Server => OtlpKind::Server,
        SpanKind::Client => OtlpKind::Client,
        SpanKind::Producer => OtlpKind::Producer,
        SpanKind::Consumer => OtlpKind::Consumer,
    }
}

fn status(status: &Status) -> OtlpStatus {
    match status {
        Status::Unset => OtlpStatus { code: StatusCode::Unset.into(), message: String::new() },
        Status::Error(description) => {
            let message = description.clone().into_owned();
            OtlpStatus { code: StatusCode::Error.into(), message }
        }
    }
}

fn link(link: &Link) -> OtlpLink {
    OtlpLink {
        trace_id: link.trace_id.0.to_vec(),
        span_id: link.span_id.0.to_vec(),
        attributes: attributes(&link.attributes),
        ..Default::default()
    }
}

fn attributes(attributes: &[Attribute]) -> Vec<KeyValue> {
    let pairs = attributes.iter().map(|attribute| KeyValue {
        key: attribute.key.clone().into_owned(),
        value: Some(any_value(value(&attribute.value))),
        ..Default::default()
    });
    pairs.collect()
}

fn value(value: &Value) -> OtlpValue {
    match value {
        Value::Bool(value) => OtlpValue::BoolValue(*value),
        Value::Int(value) => OtlpValue::IntValue(*value),
        // JSON has no such numbers, and no backend can do arithmetic with them.
        Value::Double(value) if !value.is_finite() => OtlpValue::StringValue(value.to_string()),
        Value::Double(value) => OtlpValue::DoubleValue(*value),
        Value::Str(value) => OtlpValue::StringValue(value.clone().into_owned()),
        Value::StrArray(values) => {
            let values = values.iter().cloned().map(OtlpValue::StringValue).map(any_value);
            OtlpValue::ArrayValue(ArrayValue { values: values.collect() })
        }
    }
}

fn any_value(value: OtlpValue) -> AnyValue {
    AnyValue { value: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing::{self, span};
    use crate::span::{SpanId, TraceId};

    #[test]
    fn spans_are_grouped_by_resource_pointer_then_equality() {
        let (a, b) = (testing::resource("a"), testing::resource("b"));
        let equal_to_a = testing::resource("a");
        assert!(!Arc::ptr_eq(&a, &equal_to_a));
        let spans = [&a, &b, &a, &equal_to_a]
            .map(|resource| Span { resource: Arc::clone(resource), ..span(1, 1, None) });
        let request = request(&spans);
        let sizes = request.resource_spans.iter().map(|group| {
            let scope = &group.scope_spans[0];
            assert_eq!(scope.scope.as_ref().unwrap().name, "wirespan");
            assert_eq!(scope.scope.as_ref().unwrap().version, env!("CARGO_PKG_VERSION"));
            (group.resource.as_ref().unwrap().attributes[0].clone(), scope.spans.len())
        });
        let sizes: Vec<(KeyValue, usize)> = sizes.collect();
        assert_eq!(sizes.len(), 2);
        assert_eq!((sizes[0].1, sizes[1].1), (3, 1));
        assert_eq!(sizes[1].0.value, Some(any_value(OtlpValue::StringValue("b".to_owned()))));
    }

    #[test]
    fn flags_say_whether_the_parent_is_remote() {
        let sampled = |parent: Option<u8>, parent_is_remote| {
            flags(&Span { trace_flags: 1, parent_is_remote, ..span(1, 1, parent) })
        };
        assert_eq!(sampled(None, false), 0x101);
        assert_eq!(sampled(Some(2), false), 0x101);
        assert_eq!(sampled(Some(2), true), 0x301);
    }

    #[test]
    fn everything_a_span_has_arrives() {
        let whole = Span {
            trace_state: Some("a=1".into()),
            kind: SpanKind::Producer,
            status: Status::Error("timeout".into()),
            attributes: vec![
                Attribute::new("b", true),
                Attribute::new("i", i64::MIN),
                Attribute::new("d", 0.5),
                Attribute::new("s", "text"),
                Attribute::new("l", vec!["x".to_owned(), "y".to_owned()]),
            ],
            dropped_attributes: 3,
            links: vec![Link {
                trace_id: TraceId([9; 16]),
                span_id: SpanId([8; 8]),
                attributes: vec![Attribute::new("k", 1)],
            }],
            ..span(1, 2, Some(3))
        };
        let sent = &request([&whole]).resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(sent.trace_id, whole.trace_id.0);
        assert_eq!(sent.span_id, whole.span_id.0);
        assert_eq!(sent.parent_span_id, whole.parent_span_id.unwrap().0);
        assert_eq!(sent.trace_state, "a=1");
        assert_eq!(sent.kind, OtlpKind::Producer as i32);
        let status = sent.status.as_ref().unwrap();
        assert_eq!((status.code, status.message.as_str()), (StatusCode::Error as i32, "timeout"));
        assert_eq!(sent.links[0].trace_id, [9; 16]);
        assert_eq!(sent.links[0].span_id, [8; 8]);
        assert_eq!(sent.links[0].attributes.len(), 1);
        assert_eq!(sent.dropped_attributes_count, 3);
        let values: Vec<_> =
            sent.attributes.iter().map(|pair| pair.value.clone().unwrap().value.unwrap()).collect();
        let texts = ["x", "y"].map(|text| any_value(OtlpValue::StringValue(text.to_owned())));
        assert_eq!(
            values,
            [
                OtlpValue::BoolValue(true),
                OtlpValue::IntValue(i64::MIN),
                OtlpValue::DoubleValue(0.5),
                OtlpValue::StringValue("text".to_owned()),
                OtlpValue::ArrayValue(ArrayValue { values: texts.to_vec() }),
            ]
        );
        assert_eq!(sent.start_time_unix_nano, whole.start_unix_ns);
        assert_eq!(sent.end_time_unix_nano, whole.end_unix_ns);
    }
}
