//! HTTP exchanges as spans: OpenTelemetry's stable HTTP conventions
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).
//!
//! Query values, credentials and bodies are never among them; fields that the operator asks for are `lifted`'s.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use opentelemetry_semantic_conventions::attribute as key;
use wirespan_protocols::http1::{End, RequestHead, ResponseHead, Version};

use crate::call::{Placement, Role};
use crate::connection::Outcome;
use crate::exchange::Exchange;
use crate::span::common::{self, Failure};
use crate::span::{Attribute, Span};

/// The span of a finished, placed exchange. `route`: the low-cardinality form of its path, or empty.
pub(super) fn span(
    exchange: &Exchange,
    request: &RequestHead<'_>,
    response: Option<&ResponseHead<'_>>,
    route: &str,
    placement: Placement,
) -> Span {
    // The convention's name for a method that is none: anybody can send any.
    let method = request.method.known().unwrap_or("HTTP");
    let failure = failure(exchange, response);
    let mut attributes = Vec::with_capacity(24);
    asked(exchange, request, route, &mut attributes);
    if let Some(response) = response {
        attributes.push(Attribute::new(key::HTTP_RESPONSE_STATUS_CODE, i64::from(response.status)));
    }
    sizes(exchange, &mut attributes);
    let name = if route.is_empty() {
        Cow::Borrowed(method)
    } else {
        Cow::Owned([method, " ", route].concat())
    };
    common::span(exchange, name, attributes, failure, placement)
}

/// Whether a request carries telemetry: Jaeger's, or OTLP over HTTP by its path and content type
/// (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>). Tracing it would make spans out of
/// spans. JSON is what any application's own interface may take on a path that ends so: it counts on the
/// specification's paths alone.
pub fn is_telemetry(head: &RequestHead<'_>) -> bool {
    is_thrift_spans(head) || is_otlp(head)
}

/// Whether it carries spans.
pub fn is_spans(head: &RequestHead<'_>) -> bool {
    is_thrift_spans(head) || (is_otlp(head) && head.target.ends_with("/v1/traces"))
}

/// Jaeger's own protocol over HTTP (<https://www.jaegertracing.io/docs/1.76/architecture/apis/>, "Thrift over HTTP").
fn is_thrift_spans(head: &RequestHead<'_>) -> bool {
    let content = head.content_type.as_deref().unwrap_or_default();
    let path = head.target.split('?').next().unwrap_or_default();
    head.method.as_str() == "POST"
        && path.ends_with("/api/traces")
        && ["application/x-thrift", "application/vnd.apache.thrift.binary"]
            .iter()
            .any(|known| content.eq_ignore_ascii_case(known))
}

fn is_otlp(head: &RequestHead<'_>) -> bool {
    const PATHS: [&str; 3] = ["/v1/traces", "/v1/metrics", "/v1/logs"];
    let content = head.content_type.as_deref().unwrap_or_default();
    let content = content.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| content.eq_ignore_ascii_case(known);
    let path = if is("application/x-protobuf") {
        PATHS.iter().any(|path| head.target.ends_with(path))
    } else {
        is("application/json") && PATHS.contains(&&*head.target)
    };
    path && head.method.as_str() == "POST"
}

/// Errors by the convention: for a server 5xx, for a client 4xx too; and every exchange whose response is
/// not whole.
fn failure(exchange: &Exchange, response: Option<&ResponseHead<'_>>) -> Option<Failure> {
    if let Some(broken) = common::broken(exchange) {
        return Some(broken);
    }
    let status = response?.status;
    let threshold = if exchange.role == Role::Server { 500 } else { 400 };
    (status >= threshold)
        .then(|| Failure { kind: Cow::Owned(status.to_string()), text: Cow::Borrowed("") })
}

fn asked(
    exchange: &Exchange,
    head: &RequestHead<'_>,
    route: &str,
    attributes: &mut Vec<Attribute>,
) {
    let mut add = |attribute| attributes.push(attribute);
    add(Attribute::new(key::HTTP_REQUEST_METHOD, head.method.known().unwrap_or(common::OTHER)));
    if head.method.known().is_none() {
        add(Attribute::new(key::HTTP_REQUEST_METHOD_ORIGINAL, head.method.as_str().to_owned()));
    }
    let scheme = head.scheme.as_deref().unwrap_or("http");
    let ends = common::ends(exchange);
    let (host, port) = authority(head.host.as_deref(), ends.map(|(server, _)| server));
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
    if let Some((_, remote)) = ends
        && exchange.role == Role::Server
    {
        let client =
            head.forwarded.as_deref().map_or_else(|| common::text(remote.ip()), str::to_owned);
        add(Attribute::new(key::CLIENT_ADDRESS, client));
    }
    if let Some(version) = head.version {
        let version = match version {
            Version(1) => Cow::Borrowed("1.1"),
            other => Cow::Owned(other.to_string()),
        };
        add(Attribute::new(key::NETWORK_PROTOCOL_VERSION, version));
    }
    if let Some(agent) = &head.user_agent
        && exchange.role == Role::Server
    {
        add(Attribute::new(key::USER_AGENT_ORIGINAL, agent.to_string()));
    }
    common::peer(exchange, attributes);
}

/// Host and port of the server: what the request names, else where it went.
fn authority(host: Option<&str>, server: Option<SocketAddr>) -> (Option<String>, Option<u16>) {
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return (
            server.map(|server| common::text(server.ip())),
            server.map(|server| server.port()),
        );
    };
    if let Ok(named) = host.parse::<SocketAddr>() {
        return (Some(common::text(named.ip())), Some(named.port()));
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
    if let Some((_, Outcome::Http(End::Complete { body_bytes } | End::Closed { body_bytes }))) =
        exchange.end
    {
        add(key::HTTP_RESPONSE_BODY_SIZE, body_bytes);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use wirespan_protocols::exchange::Parser as _;
    use wirespan_protocols::http1::{Connection, Direction, Event};

    use super::*;

    fn head(text: &str) -> RequestHead<'static> {
        let mut head = None;
        let mut connection = Connection::new(true);
        connection.on_bytes(Direction::Requests, 0, text.as_bytes(), 0, &(), &mut |event| {
            if let Event::Request { head: found, .. } = event {
                head = Some(found.into_owned());
            }
        });
        head.unwrap()
    }

    #[rstest]
    #[case::traces("POST /v1/traces", "application/x-protobuf", true)]
    #[case::jaeger("POST /api/traces?format=jaeger.thrift", "application/x-thrift", true)]
    #[case::another_api("POST /api/traces", "application/json", false)]
    #[case::behind_a_prefix("POST /otlp/v1/metrics", "application/x-protobuf", true)]
    #[case::json("POST /v1/logs", "Application/JSON; charset=utf-8", true)]
    #[case::an_applications_own("POST /api/v1/metrics", "application/json", false)]
    #[case::with_a_longer_name("POST /v1/logs/7", "application/x-protobuf", false)]
    #[case::another_type("POST /v1/traces", "application/json-patch+json", false)]
    #[case::another_method("GET /v1/traces", "application/json", false)]
    fn telemetry_is_told_by_what_otlp_says(
        #[case] line: &str,
        #[case] content: &str,
        #[case] expected: bool,
    ) {
        let text = format!("{line} HTTP/1.1\r\ncontent-type: {content}\r\n\r\n");
        assert_eq!(is_telemetry(&head(&text)), expected);
        let spans = expected && line.contains("traces");
        assert_eq!(is_spans(&head(&text)), spans);
    }
}
