//! HTTP exchanges as spans: OpenTelemetry's stable HTTP conventions
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>), and the kernel's figures.
//!
//! Query values, credentials and bodies are never among them.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use opentelemetry_semantic_conventions::attribute as key;
use wirespan_protocols::http1::{End, EndError, RequestHead};

use crate::call::{ParentStatus, Placement, Role, Withheld};
use crate::exchange::Exchange;
use crate::semconv;
use crate::span::{Attribute, Span, SpanKind, Status};

/// The span of a finished, placed exchange. `route`: the low-cardinality form of its path, or empty.
pub fn span(exchange: &Exchange, route: &str, placement: Placement) -> Span {
    let method = if exchange.request.method.is_known() {
        Cow::Owned(exchange.request.method.as_str().to_owned())
    } else {
        // The convention's name for a method that is none: anybody can send any.
        Cow::Borrowed("HTTP")
    };
    let failure = failure(exchange);
    let mut attributes = Vec::with_capacity(24);
    request(exchange, route, &mut attributes);
    if let Some(response) = &exchange.response {
        attributes.push(Attribute::new(key::HTTP_RESPONSE_STATUS_CODE, i64::from(response.status)));
    }
    if let Some(failure) = &failure {
        attributes.push(Attribute::new(key::ERROR_TYPE, failure.kind.clone()));
    }
    sizes(exchange, &mut attributes);
    kernel(exchange, &mut attributes);
    parent(placement.status, &mut attributes);
    let start = exchange.wall.unix_ns(exchange.start_ns());
    let duration = exchange.end_ns().saturating_sub(exchange.start_ns());
    Span {
        trace_id: placement.trace_id,
        span_id: placement.span_id,
        parent_span_id: placement.parent_span_id,
        parent_is_remote: placement.parent_is_remote,
        trace_flags: placement.trace_flags,
        trace_state: placement.trace_state,
        kind: match exchange.role {
            Role::Server => SpanKind::Server,
            Role::Client => SpanKind::Client,
        },
        name: if route.is_empty() { method } else { Cow::Owned(format!("{method} {route}")) },
        start_unix_ns: start,
        end_unix_ns: start.saturating_add(duration),
        attributes,
        links: Vec::new(),
        status: failure.map_or(Status::Unset, |failure| Status::Error(failure.text)),
        resource: std::sync::Arc::clone(&exchange.resource),
    }
}

/// Whether a request carries telemetry: OTLP over HTTP by its path and content type
/// (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>). Tracing it would make spans out of
/// spans.
pub fn is_telemetry(head: &RequestHead) -> bool {
    let signal =
        ["/v1/traces", "/v1/metrics", "/v1/logs"].iter().any(|path| head.target.ends_with(path));
    let content = head.content_type.as_deref().unwrap_or_default();
    signal
        && head.method.as_str() == "POST"
        && (content.starts_with("application/x-protobuf")
            || content.starts_with("application/json"))
}

struct Failure {
    /// `error.type`.
    kind: Cow<'static, str>,
    /// The status description: empty where the status code says it all.
    text: Cow<'static, str>,
}

/// Errors by the convention: for a server 5xx, for a client 4xx too; and every exchange whose response is
/// not whole.
fn failure(exchange: &Exchange) -> Option<Failure> {
    let broken =
        |kind, text| Some(Failure { kind: Cow::Borrowed(kind), text: Cow::Borrowed(text) });
    match exchange.end.as_ref().map(|(_, end)| end) {
        Some(
            End::Reset { error: EndError::Reset, .. }
            | End::NoResponse { error: Some(EndError::Reset) },
        ) => {
            return broken("connection_reset", "connection reset before the response was complete");
        }
        Some(
            End::Reset { error: EndError::Timeout, .. }
            | End::NoResponse { error: Some(EndError::Timeout) },
        ) => return broken("timeout", "connection timed out before the response was complete"),
        Some(End::NoResponse { error: None }) => {
            return broken("connection_closed", "connection closed before a response");
        }
        Some(End::Truncated { .. }) => {
            return broken("response_truncated", "connection closed within the response");
        }
        Some(End::Complete { .. } | End::Inferred { .. } | End::Upgraded | End::Closed { .. })
        | None => {}
    }
    let status = exchange.response.as_ref()?.status;
    let threshold = if exchange.role == Role::Server { 500 } else { 400 };
    (status >= threshold)
        .then(|| Failure { kind: Cow::Owned(status.to_string()), text: Cow::Borrowed("") })
}

fn request(exchange: &Exchange, route: &str, attributes: &mut Vec<Attribute>) {
    let head = &exchange.request;
    let mut add = |attribute| attributes.push(attribute);
    if head.method.is_known() {
        add(Attribute::new(key::HTTP_REQUEST_METHOD, head.method.as_str().to_owned()));
    } else {
        add(Attribute::new(key::HTTP_REQUEST_METHOD, "_OTHER"));
        add(Attribute::new(key::HTTP_REQUEST_METHOD_ORIGINAL, head.method.as_str().to_owned()));
    }
    let scheme = head.scheme.as_deref().unwrap_or("http");
    let ends = exchange.socket.as_ref().and_then(|socket| socket.addresses);
    let server =
        ends.map(|(local, remote)| if exchange.role == Role::Server { local } else { remote });
    let (host, port) = authority(head.host.as_deref(), server);
    match exchange.role {
        Role::Server => {
            add(Attribute::new(key::URL_SCHEME, scheme.to_owned()));
            if !head.target.is_empty() {
                add(Attribute::new(key::URL_PATH, head.target.to_string()));
            }
            if !route.is_empty() {
                add(Attribute::new(key::HTTP_ROUTE, route.to_owned()));
            }
        }
        Role::Client => {
            if let Some(host) = &host {
                let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let port = port.filter(|port| *port != 80).map(|port| format!(":{port}"));
                let port = port.unwrap_or_default();
                add(Attribute::new(
                    key::URL_FULL,
                    format!("{scheme}://{bracketed}{port}{}", head.target),
                ));
            }
            if !route.is_empty() {
                add(Attribute::new(key::URL_TEMPLATE, route.to_owned()));
            }
        }
    }
    if let Some(host) = host {
        add(Attribute::new(key::SERVER_ADDRESS, host));
    }
    if let Some(port) = port {
        add(Attribute::new(key::SERVER_PORT, i64::from(port)));
    }
    if let Some((_, remote)) = ends {
        add(Attribute::new(key::NETWORK_PEER_ADDRESS, remote.ip().to_string()));
        add(Attribute::new(key::NETWORK_PEER_PORT, i64::from(remote.port())));
        if exchange.role == Role::Server {
            let client =
                head.forwarded.as_deref().map_or_else(|| remote.ip().to_string(), str::to_owned);
            add(Attribute::new(key::CLIENT_ADDRESS, client));
        }
    } else if exchange.socket.as_ref().is_some_and(|socket| socket.unix_ends.is_some()) {
        add(Attribute::new(key::NETWORK_TRANSPORT, "unix"));
    }
    if let Some(version) = head.version {
        add(Attribute::new(key::NETWORK_PROTOCOL_VERSION, version.to_string()));
    }
    if let Some(agent) = &head.user_agent
        && exchange.role == Role::Server
    {
        add(Attribute::new(key::USER_AGENT_ORIGINAL, agent.to_string()));
    }
}

/// Host and port of the server: what the request names, else where it went.
fn authority(host: Option<&str>, server: Option<SocketAddr>) -> (Option<String>, Option<u16>) {
    let address = server.map(|server| server.ip().to_string());
    let port = server.map(|server| server.port());
    let Some(host) = host.filter(|host| !host.is_empty()) else { return (address, port) };
    if let Ok(named) = host.parse::<SocketAddr>() {
        return (Some(named.ip().to_string()), Some(named.port()));
    }
    if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && literal.parse::<IpAddr>().is_ok()
    {
        return (Some(literal.to_owned()), Some(80));
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (Some(name.to_owned()), port.parse().ok()),
        _ => (Some(host.to_owned()), Some(80)),
    }
}

fn sizes(exchange: &Exchange, attributes: &mut Vec<Attribute>) {
    let mut add = |key: &'static str, bytes: u64| {
        attributes.push(Attribute::new(key, i64::try_from(bytes).unwrap_or(i64::MAX)));
    };
    if let Some(bytes) = exchange.request_bytes.filter(|bytes| *bytes > 0) {
        add(key::HTTP_REQUEST_BODY_SIZE, bytes);
    }
    match exchange.end.as_ref().map(|(_, end)| *end) {
        Some(End::Complete { body_bytes } | End::Closed { body_bytes }) => {
            add(key::HTTP_RESPONSE_BODY_SIZE, body_bytes);
        }
        Some(End::Inferred { .. }) => attributes.push(Attribute::new(semconv::END_INFERRED, true)),
        _ => {}
    }
}

/// The kernel's own figures, each only where it is this exchange's alone.
fn kernel(exchange: &Exchange, attributes: &mut Vec<Attribute>) {
    let mut add = |key: &'static str, figure: u64| {
        attributes.push(Attribute::new(key, i64::try_from(figure).unwrap_or(i64::MAX)));
    };
    let first = &exchange.first;
    let last = exchange.end.as_ref().map(|(last, _)| last);
    if let Some(connect) = exchange.connect_ns {
        add(semconv::CONNECT_TIME_NS, connect);
    }
    let reached =
        |mark: &crate::connection::Mark| mark.at_ns.saturating_sub(mark.queue_ns.unwrap_or(0));
    match exchange.role {
        Role::Server => {
            if let Some(queue) = first.queue_ns {
                add(semconv::QUEUE_TIME_NS, queue);
            }
            if let Some(response) = &exchange.response_first {
                add(
                    semconv::FIRST_BYTE_TIME_NS,
                    response.at_ns.saturating_sub(exchange.start_ns()),
                );
            }
            // A thread that reads from a blocking socket serves nobody else meanwhile: its slices are this
            // request's. An event loop's are everybody's.
            if let Some(last) = last.filter(|last| first.blocking && last.tid == first.tid) {
                let wall = last.at_ns.saturating_sub(first.at_ns);
                let waited = last.run_delay_ns.saturating_sub(first.run_delay_ns);
                let ran =
                    last.exec_ns.wrapping_sub(first.exec_ns).cast_signed().max(0).cast_unsigned();
                add(semconv::RUN_DELAY_NS, waited.min(wall));
                add(semconv::ON_CPU_TIME_NS, ran.min(wall));
            }
        }
        Role::Client => {
            if let Some(response) = &exchange.response_first {
                let sent = exchange.request_last.as_ref().unwrap_or(first).at_ns;
                add(semconv::FIRST_BYTE_TIME_NS, reached(response).saturating_sub(sent));
                if let Some(unread) = response.queue_ns {
                    add(semconv::UNREAD_TIME_NS, unread);
                }
            }
        }
    }
    if let Some(last) = last.filter(|last| last.srtt_us > 0) {
        add(semconv::SMOOTHED_RTT_US, u64::from(last.srtt_us));
        add(semconv::RETRANSMITS, u64::from(last.retransmits.saturating_sub(first.retransmits)));
    }
}

fn parent(status: ParentStatus, attributes: &mut Vec<Attribute>) {
    let ParentStatus::Withheld(reason) = status else { return };
    attributes.push(Attribute::new(semconv::PARENT_STATUS, semconv::PARENT_STATUS_WITHHELD));
    let reason = match reason {
        Withheld::Concurrent => "concurrent",
        Withheld::Ambient => "ambient",
        Withheld::LateWork => "late_work",
        Withheld::Opaque => "opaque",
        Withheld::Lost => "lost",
    };
    attributes.push(Attribute::new(semconv::PARENT_REASON, reason));
}
