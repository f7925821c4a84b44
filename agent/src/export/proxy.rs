//! The proxy that the environment names for a receiver: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, in
//! either case, as curl reads them. This machine itself is never reached through one, as in Go's programs.
//!
//! Part of the export stage: configuration only.

use std::net::IpAddr;

use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::options::Endpoint;

/// The proxy to go through, if there is one.
pub(super) fn of(receiver: &Endpoint) -> Option<Intercept> {
    through(&Matcher::from_env(), receiver)
}

fn through(matcher: &Matcher, receiver: &Endpoint) -> Option<Intercept> {
    if is_loopback(receiver) { None } else { matcher.intercept(receiver.uri()) }
}

/// Whether it is this machine itself.
fn is_loopback(receiver: &Endpoint) -> bool {
    let host = receiver.uri().host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_decide_but_not_for_this_machine() {
        let matcher = Matcher::builder()
            .http("http://plain:3128")
            .https("http://user:secret@secure:3128")
            .no("inside.example")
            .build();
        for (receiver, expected) in [
            ("http://collector:4317", Some("plain")),
            ("https://collector", Some("secure")),
            ("https://inside.example", None),
            ("https://a.inside.example", None),
            ("http://localhost:4317", None),
            ("http://127.8.9.1:4317", None),
            ("http://[::1]:4317", None),
        ] {
            let receiver = Endpoint::parse(receiver, false).unwrap();
            let proxy = through(&matcher, &receiver);
            let host = proxy.as_ref().and_then(|proxy| proxy.uri().host());
            assert_eq!(host, expected, "{receiver}");
        }
    }
}
