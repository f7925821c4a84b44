//! The file exporter: OTLP's JSON mapping, and lines that stay whole when writing fails.

use std::fs;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::{Value as Json, json};

use super::*;
use crate::export::testing::{self, span};
use crate::export::{ExporterBooks, Exporters, Target};
use crate::span::{Attribute, Link, Span, SpanId, SpanKind, Status, TraceId};

async fn export_to(path: &Path, batches: &[&[Span]]) -> ExporterBooks {
    let runtime = tokio::runtime::Handle::current();
    let targets = vec![Target::File(path.to_owned())];
    let exporters = Exporters::start(targets, &runtime, Limits::default()).unwrap();
    for batch in batches {
        exporters.offer(&Arc::from(*batch));
    }
    let books = exporters.shutdown(testing::PATIENCE).await.remove(0);
    assert!(books.balanced(), "{books:?}");
    books
}

#[tokio::test]
async fn a_line_is_otlp_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    let whole = Span {
        trace_id: TraceId([0xAB; 16]),
        parent_is_remote: true,
        trace_flags: 1,
        trace_state: Some("v=1".into()),
        kind: SpanKind::Client,
        name: "GET\n".into(),
        start_unix_ns: 1_700_000_000_000_000_001,
        end_unix_ns: u64::MAX,
        attributes: vec![
            Attribute::new("i", i64::MAX),
            Attribute::new("d", 1.5),
            Attribute::new("nan", f64::NAN),
            Attribute::new("l", vec!["x".to_owned()]),
        ],
        links: vec![Link {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            attributes: vec![],
        }],
        status: Status::Error("reset".into()),
        ..span(1, 0xCD, Some(0xEF))
    };
    let books = export_to(&path, &[std::slice::from_ref(&whole)]).await;
    assert_eq!((books.exported, books.queued), (1, 0));

    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.ends_with('\n'));
    let line: Json = serde_json::from_str(&text).unwrap();
    let scope_spans = &line["resourceSpans"][0]["scopeSpans"][0];
    assert_eq!(scope_spans["scope"]["name"], "wirespan");
    let span = &scope_spans["spans"][0];
    for (key, expected) in [
        ("traceId", json!("ab".repeat(16))),
        ("spanId", json!("00000000000000cd")),
        ("parentSpanId", json!("00000000000000ef")),
        ("flags", json!(0x301)),
        ("traceState", json!("v=1")),
        ("kind", json!(3)),
        ("name", json!("GET\n")),
        ("startTimeUnixNano", json!("1700000000000000001")),
        ("endTimeUnixNano", json!("18446744073709551615")),
        ("status", json!({"code": 2, "message": "reset"})),
    ] {
        assert_eq!(span[key], expected, "{key}");
    }
    let values: Vec<&Json> =
        span["attributes"].as_array().unwrap().iter().map(|pair| &pair["value"]).collect();
    assert_eq!(values[0], &json!({"intValue": "9223372036854775807"}));
    assert_eq!(values[1], &json!({"doubleValue": 1.5}));
    assert_eq!(values[2], &json!({"stringValue": "NaN"}));
    assert_eq!(values[3], &json!({"arrayValue": {"values": [{"stringValue": "x"}]}}));
    assert_eq!(span["links"][0]["traceId"], "01".repeat(16));
    assert_eq!(span["links"][0]["spanId"], "02".repeat(8));

    // And back: whoever reads OTLP JSON reads the same spans.
    let read: ExportTraceServiceRequest = serde_json::from_str(&text).unwrap();
    assert_eq!(read, otlp::request([&whole]));
}

#[tokio::test]
async fn a_file_that_ends_mid_line_gets_a_new_line_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    fs::write(&path, "{\"resourceSpa").unwrap();
    export_to(&path, &[&[span(1, 1, None)]]).await;
    export_to(&path, &[&[span(1, 2, None)]]).await;
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], "{\"resourceSpa");
    for line in &lines[1..] {
        serde_json::from_str::<ExportTraceServiceRequest>(line).unwrap();
    }
}

#[tokio::test]
async fn a_device_without_room_is_counted_and_reported() {
    let books = export_to(Path::new("/dev/full"), &[&[span(1, 1, None), span(1, 2, None)]]).await;
    assert_eq!((books.offered, books.exported, books.refused.io), (2, 0, 2));
    assert!(books.last_error.unwrap().starts_with("cannot write: "));
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_says_which() {
    let runtime = tokio::runtime::Handle::current();
    let targets = vec![Target::File("/nowhere/at/all".into())];
    let error = Exporters::start(targets, &runtime, Limits::default()).unwrap_err();
    assert!(format!("{error:#}").contains("/nowhere/at/all"), "{error:#}");
}

/// A disk with room for `room` bytes more, where writing takes at most 3 bytes at once.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
    can_cut: bool,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(3).min(self.room);
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= taken;
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Appended for Disk {
    fn length_bytes(&self) -> io::Result<Option<u64>> {
        Ok(self.can_cut.then_some(self.bytes.len() as u64))
    }

    fn cut(&mut self, length_bytes: u64) -> io::Result<()> {
        self.room += self.bytes.len() - length_bytes as usize;
        self.bytes.truncate(length_bytes as usize);
        Ok(())
    }
}

#[test]
fn no_failure_point_leaves_half_a_line_before_a_whole_one() {
    for can_cut in [true, false] {
        for room in 0..24 {
            let disk = Disk { bytes: Vec::new(), room, can_cut };
            let mut lines = Lines { file: disk, torn: false };
            let outcomes: Vec<bool> = (0..3).map(|_| lines.put(b"{whole}\n").is_ok()).collect();
            lines.file.room = 1_000;
            lines.put(b"{after}\n").unwrap();
            let text = String::from_utf8(lines.file.bytes).unwrap();
            let whole = text.lines().filter(|line| *line == "{whole}").count();
            let written = outcomes.iter().filter(|written| **written).count();
            assert!(text.lines().any(|line| line == "{after}"), "room {room}: {text:?}");
            // A line whose newline alone was missing is whole after all, though counted as refused.
            let completed = usize::from(!can_cut && room % 8 == 7);
            assert_eq!(whole, written + completed, "room {room}, cut {can_cut}: {text:?}");
            if can_cut {
                assert_eq!(text.lines().count(), written + 1, "room {room}: {text:?}");
            }
        }
    }
}
