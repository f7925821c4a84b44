//! Rows of a tree as lines of text: columns, colours, notes.
//!
//! Part of the console exporter. Every text that came over the wire passes [`printable`] here; nothing
//! is wider than the look's columns.

use std::fmt::Write as _;

use opentelemetry_semantic_conventions::attribute::{
    HTTP_RESPONSE_STATUS_CODE, SERVER_ADDRESS, SERVER_PORT, SERVICE_NAME,
};

use super::tree::Row;
use crate::export::text::{columns, duration, printable, shortened};
use crate::semconv;
use crate::span::{Span, SpanKind, Status};

/// Columns right of the names: a space, the error mark, the status, the duration, the queue time.
const FIGURES_COLUMNS: usize = 39;

/// Columns that a name keeps beside the deepest branches.
const LEAST_NAME_COLUMNS: usize = 16;

/// The narrowest and the widest that lines are laid out for: a wider terminal would put the figures
/// too far from the names to follow the line.
const WIDTHS: (usize, usize) = (60, 140);

/// How traces are to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::export) struct Look {
    name_columns: usize,
    color: bool,
    traceparent: bool,
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Dim,
    Error,
    Warning,
    Service(&'static str),
}

/// Foreground colours for services: neither red nor yellow, which mean something.
const SERVICE_COLORS: [&str; 6] = ["36", "35", "34", "32", "96", "95"];

impl Look {
    pub(in crate::export) fn new(columns: usize, color: bool, traceparent: bool) -> Self {
        let name_columns = columns.clamp(WIDTHS.0, WIDTHS.1) - FIGURES_COLUMNS;
        Self { name_columns, color, traceparent }
    }

    /// The levels that branches can be drawn for.
    pub(in crate::export) fn depth_limit(&self) -> usize {
        self.name_columns.saturating_sub(LEAST_NAME_COLUMNS) / 3
    }

    fn columns(&self) -> usize {
        self.name_columns + FIGURES_COLUMNS
    }

    fn paint(&self, out: &mut String, style: Style, text: &str) {
        let code = match style {
            Style::Plain => "",
            Style::Dim => "2",
            Style::Error => "31",
            Style::Warning => "33",
            Style::Service(code) => code,
        };
        if !self.color || code.is_empty() || text.is_empty() {
            out.push_str(text);
        } else {
            out.extend(["\x1b[", code, "m", text, "\x1b[0m"]);
        }
    }
}

/// Appends one trace and an empty line.
pub(in crate::export) fn trace(out: &mut String, rows: &[Row<'_>], look: &Look) {
    for row in rows {
        span(out, row, look);
        notes(out, row, look);
    }
    if let Some(first) = rows.first().map(|row| row.span) {
        let began = time_of_day(first.start_unix_ns);
        look.paint(out, Style::Dim, &format!("  trace {}   {began}", first.trace_id));
        out.push_str("\n\n");
    }
}

fn span(out: &mut String, row: &Row<'_>, look: &Look) {
    let span = row.span;
    let failed = matches!(span.status, Status::Error(_));
    names(out, row, failed, look);

    look.paint(out, Style::Error, if failed { " ✗" } else { "  " });
    let code = span.int(HTTP_RESPONSE_STATUS_CODE).filter(|code| (100..1_000).contains(code));
    let style = match code {
        Some(500..) => Style::Error,
        _ if failed => Style::Error,
        Some(400..) => Style::Warning,
        _ => Style::Plain,
    };
    let code = code.map(|code| code.to_string()).unwrap_or_default();
    look.paint(out, style, &format!("   {code:>3}"));

    let took = duration(span.end_unix_ns.saturating_sub(span.start_unix_ns));
    look.paint(out, Style::Plain, &format!("{took:>11}"));
    let queued = span.int(semconv::QUEUE_TIME_NS).and_then(|queued| u64::try_from(queued).ok());
    if let Some(queued) = queued {
        look.paint(out, Style::Dim, &format!("  queue {}", duration(queued)));
    }
    out.push('\n');
}

/// Branches, service, arrow, name and peer, padded to the names' columns.
fn names(out: &mut String, row: &Row<'_>, failed: bool, look: &Look) {
    let span = row.span;
    let service = printable(service(span));
    let outbound = is_outbound(span);
    let arrow = arrow(outbound);
    let peer = if outbound && !row.answered { peer(span) } else { None };
    let peer = peer.map(|peer| format!(" {peer}")).unwrap_or_default();
    let name = printable(&span.name);

    let name_style = if failed { Style::Error } else { Style::Plain };
    let (name_columns, peer_columns) = (columns(&name), columns(&peer));
    let mut left = look.name_columns;
    let mut put = |style, text: &str, keep: &dyn Fn(usize) -> usize| {
        let text = shortened(text, left.saturating_sub(keep(left)));
        left -= columns(&text);
        look.paint(out, style, &text);
    };
    put(Style::Dim, &row.lead, &|_| 0);
    // Where both are long, service and name get half each; where name and peer are, the end of the
    // name says less than whom it calls, but some of the name must stay.
    let beside_service = |left| columns(arrow) + (name_columns + peer_columns).min(left / 2);
    put(Style::Service(service_color(&service)), &service, &beside_service);
    put(Style::Dim, arrow, &|_| 0);
    let fits = |left| left >= peer_columns + name_columns.min(LEAST_NAME_COLUMNS / 2);
    put(name_style, &name, &|left| if fits(left) { peer_columns } else { 0 });
    put(Style::Dim, &peer, &|_| 0);
    out.extend(std::iter::repeat_n(' ', left));
}

fn notes(out: &mut String, row: &Row<'_>, look: &Look) {
    let span = row.span;
    let mut note = |style, text: &str| {
        let text = shortened(text, look.columns().saturating_sub(columns(&row.below)));
        look.paint(out, Style::Dim, &row.below);
        look.paint(out, style, &text);
        out.push('\n');
    };
    if let Status::Error(description) = &span.status
        && !description.is_empty()
    {
        note(Style::Error, &printable(description));
    }
    if span.text(semconv::PARENT_STATUS) == Some(semconv::PARENT_STATUS_WITHHELD) {
        let reason = span.text(semconv::PARENT_REASON).unwrap_or("unknown reason");
        note(Style::Dim, &format!("parent withheld: {}", printable(reason)));
    }
    if let Some(parent) = span.parent_span_id.filter(|_| row.parent_missing) {
        note(Style::Dim, &format!("parent {parent} not shown here"));
    }
    if look.traceparent {
        let (trace_id, span_id, flags) = (span.trace_id, span.span_id, span.trace_flags);
        note(Style::Dim, &format!("00-{trace_id}-{span_id}-{flags:02x}"));
    }
}

/// Whose span it is.
pub(in crate::export) fn service(span: &Span) -> &str {
    span.resource.text(SERVICE_NAME).unwrap_or("unknown_service")
}

/// Whether the process asks somebody.
pub(in crate::export) fn is_outbound(span: &Span) -> bool {
    matches!(span.kind, SpanKind::Client | SpanKind::Producer)
}

/// What is between service and name.
pub(in crate::export) fn arrow(outbound: bool) -> &'static str {
    if outbound { " → " } else { "  " }
}

fn peer(span: &Span) -> Option<String> {
    let mut peer = printable(span.text(SERVER_ADDRESS)?).into_owned();
    if peer.contains(':') {
        peer = format!("[{peer}]");
    }
    if let Some(port) = span.int(SERVER_PORT) {
        // Writing to a String cannot fail.
        _ = write!(peer, ":{port}");
    }
    Some(peer)
}

/// The same colour for a service whenever and wherever it is shown (FNV-1a of its name).
fn service_color(service: &str) -> &'static str {
    let hash = service.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let choice = usize::try_from(hash % SERVICE_COLORS.len() as u64).unwrap_or(0);
    SERVICE_COLORS.get(choice).copied().unwrap_or("36")
}

/// UTC, to the millisecond.
fn time_of_day(unix_ns: u64) -> String {
    let ms = unix_ns / 1_000_000 % 86_400_000;
    let (s, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}Z", s / 3_600, s / 60 % 60, s % 60)
}
