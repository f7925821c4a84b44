//! What spans of all protocols have in common: ids and times, the ends of the connection, what broke it, the
//! kernel's own figures, what is known of the parent.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use opentelemetry_semantic_conventions::attribute as key;

use crate::call::{LinkReason, Origin, ParentStatus, Placement, Role, Withheld};
use crate::connection::{Broken, Mark};
use crate::exchange::Exchange;
use crate::semconv;
use crate::span::{Attribute, Link, Span, SpanKind, Status};

/// What a value of a closed list is where it is none of them (OpenTelemetry's conventions).
pub(super) const OTHER: &str = "_OTHER";

/// Why a call counts as failed.
pub(super) struct Failure {
    /// `error.type`.
    pub(super) kind: Cow<'static, str>,
    /// The status description: empty where the status code says it all.
    pub(super) text: Cow<'static, str>,
}

/// `db.query.text`, with the mark of what goes on and is not there.
pub(super) fn query_text(mut text: String, cut: bool) -> Attribute {
    if cut {
        text.push('\u{2026}');
    }
    Attribute::new(key::DB_QUERY_TEXT, text)
}

/// What a server's error makes of the call: `db.response.status_code` is its code, unless nobody knows that.
pub(super) fn refused(code: &str, message: &str, attributes: &mut Vec<Attribute>) -> Failure {
    let kind = if code.is_empty() {
        Cow::Borrowed(OTHER)
    } else {
        attributes.push(Attribute::new(key::DB_RESPONSE_STATUS_CODE, code.to_owned()));
        Cow::Owned(code.to_owned())
    };
    Failure { kind, text: Cow::Owned(message.to_owned()) }
}

/// What the connection's end did to the call.
pub(super) fn broken(exchange: &Exchange) -> Option<Failure> {
    let (kind, text) = match exchange.end.as_ref()?.1.broken()? {
        Broken::Reset => ("connection_reset", "connection reset before the response was complete"),
        Broken::TimedOut => ("timeout", "connection timed out before the response was complete"),
        Broken::NoResponse => ("connection_closed", "connection closed before a response"),
        Broken::Truncated => ("response_truncated", "connection closed within the response"),
    };
    Some(Failure { kind: Cow::Borrowed(kind), text: Cow::Borrowed(text) })
}

pub(super) fn link((Origin { trace_id, span_id }, reason): (Origin, LinkReason)) -> Link {
    let reason = match reason {
        LinkReason::LateWork => "late_work",
        LinkReason::Message => "message",
    };
    let attributes = vec![Attribute::new(semconv::LINK_REASON, reason)];
    Link { trace_id, span_id, attributes }
}

/// The span, from what its protocol says of it and what all have.
pub(super) fn span(
    exchange: &Exchange,
    name: Cow<'static, str>,
    mut attributes: Vec<Attribute>,
    failure: Option<Failure>,
    placement: Placement,
) -> Span {
    if let Some(failure) = &failure {
        attributes.push(Attribute::new(key::ERROR_TYPE, failure.kind.clone()));
    }
    if exchange.end.as_ref().is_some_and(|(_, outcome)| outcome.is_inferred()) {
        attributes.push(Attribute::new(semconv::END_INFERRED, true));
    }
    if let Some(sent_ns) = placement.sent_at_ns {
        // A fetch waits for what it is given.
        let read_ns =
            if exchange.content.is_fetch() { exchange.end_ns() } else { exchange.first.at_ns };
        let waited = read_ns.saturating_sub(sent_ns);
        attributes.push(Attribute::new(semconv::MESSAGE_WAIT_TIME, waited.cast_signed()));
    }
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
        name,
        start_unix_ns: start,
        end_unix_ns: start.saturating_add(duration),
        attributes,
        dropped_attributes: 0,
        links: placement.links.into_iter().map(link).collect(),
        status: failure.map_or(Status::Unset, |failure| Status::Error(failure.text)),
        resource: std::sync::Arc::clone(&exchange.resource),
    }
}

/// An address as text. Formatting one is a tenth of what a span costs to make: what is most frequent is written
/// directly.
pub(super) fn text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        for unit in [100, 10, 1].into_iter().skip_while(|unit| *unit > octet.max(1)) {
            text.push(char::from(b'0' + octet / unit % 10));
        }
    }
    text
}

/// The server's end of the connection, and the other one.
pub(super) fn ends(exchange: &Exchange) -> Option<(SocketAddr, SocketAddr)> {
    let (local, remote) = exchange.socket.as_ref()?.addresses?;
    Some((if exchange.role == Role::Server { local } else { remote }, remote))
}

/// `network.peer.*`, or that the connection is a unix socket's.
pub(super) fn peer(exchange: &Exchange, attributes: &mut Vec<Attribute>) {
    if let Some((_, remote)) = ends(exchange) {
        attributes.push(Attribute::new(key::NETWORK_PEER_ADDRESS, text(remote.ip())));
        attributes.push(Attribute::new(key::NETWORK_PEER_PORT, i64::from(remote.port())));
    } else if exchange.socket.as_ref().is_some_and(|socket| socket.unix_ends.is_some()) {
        attributes.push(Attribute::new(key::NETWORK_TRANSPORT, "unix"));
    }
}

/// `server.*` of a protocol whose requests don't name their server: where they went.
pub(super) fn server(exchange: &Exchange, attributes: &mut Vec<Attribute>) {
    if let Some((server, _)) = ends(exchange) {
        attributes.push(Attribute::new(key::SERVER_ADDRESS, text(server.ip())));
        attributes.push(Attribute::new(key::SERVER_PORT, i64::from(server.port())));
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
    let reached = |mark: &Mark| mark.at_ns.saturating_sub(mark.queue_ns.unwrap_or(0));
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
        add(semconv::RETRANSMITS, u64::from(last.retransmits.wrapping_sub(first.retransmits)));
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_written_as_by_the_standard_library(bits: u32, small in 0_u32..0x0101_0101) {
            for bits in [bits, small] {
                let address = IpAddr::V4(Ipv4Addr::from_bits(bits));
                prop_assert_eq!(text(address), address.to_string());
            }
        }
    }
}
