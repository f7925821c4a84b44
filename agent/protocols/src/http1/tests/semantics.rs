//! What RFC 9112 and RFC 9110 say of framing and pairing, and what this parser says where capture was
//! incomplete: one short session each.

use std::sync::Arc;

use rstest::rstest;

use super::*;

const GET: &str = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn get(id: u32) -> String {
    format!("GET /{id} HTTP/1.1\r\n\r\n")
}

fn ok(id: u32) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: a; id={id}\r\ncontent-length: 2\r\n\r\nok")
}

#[rstest]
#[case::no_body(GET, "GET /a>0 - open")]
#[case::line_feeds("GET /a HTTP/1.1\nhost: x\n\n", "GET /a>0 - open")]
#[case::empty_lines_before("\r\n\r\nGET /a HTTP/1.1\r\n\r\n", "GET /a>0 - open")]
#[case::unknown_method("BREW /pot HTTP/1.1\r\n\r\n", "BREW /pot>0 - open")]
#[case::asterisk("OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS *>0 - open")]
#[case::absolute_without_path("GET http://h?q HTTP/1.1\r\n\r\n", "GET >0 - open")]
#[case::length("POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", "POST /a>3 - open")]
#[case::repeated_length(
    "POST /a HTTP/1.1\r\nContent-Length: 3, 3\r\ncontent-length:3\r\n\r\nabc",
    "POST /a>3 - open"
)]
#[case::coding_over_length(
    "POST /a HTTP/1.1\r\ncontent-length: 99\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "POST /a>3 - open"
)]
#[case::folded("GET /a HTTP/1.1\r\nx: y\r\n z\r\n\r\n", "GET /a>0 - open")]
fn a_request_is_framed_by_its_head(#[case] bytes: &str, #[case] told: &str) {
    let mut run = Run::new(true);
    assert_eq!(run.requests(bytes).told(), [told]);
    assert_eq!(run.connection.counters(Requests).message_bytes, bytes.len() as u64);
}

#[rstest]
#[case::conflicting_lengths("content-length: 3\r\ncontent-length: 4\r\n")]
#[case::signed_length("content-length: +3\r\n")]
#[case::length_of_2_to_64("content-length: 18446744073709551616\r\n")]
#[case::folded_length("content-length: 3\r\n 4\r\n")]
#[case::not_chunked("transfer-encoding: gzip\r\n")]
#[case::chunked_not_last("transfer-encoding: chunked, gzip\r\n")]
#[case::chunked_twice("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n")]
#[case::space_before_colon("transfer-encoding : chunked\r\n")]
#[case::no_colon("what\r\n")]
#[case::nul("a: b\0c\r\n")]
#[case::bare_carriage_return("a: b\rcontent-length: 3\r\n")]
fn a_request_that_two_recipients_may_read_differently_is_broken(#[case] fields: &str) {
    let mut run = Run::new(true);
    run.requests(format!("POST /a HTTP/1.1\r\n{fields}\r\nabc")).close();
    assert!(run.told().is_empty(), "{:?}", run.told());
    assert!(run.skipped(Skip::Broken) > 0);
}

#[rstest]
#[case::length(GET, OK, "GET /a>0 200 2")]
#[case::line_feeds(GET, "HTTP/1.1 200 OK\ncontent-length: 2\n\nok", "GET /a>0 200 2")]
#[case::no_reason(GET, "HTTP/1.1 404\r\ncontent-length: 0\r\n\r\n", "GET /a>0 404 0")]
#[case::chunked(
    GET,
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nt: u\r\n\r\n",
    "GET /a>0 200 2"
)]
#[case::continued(
    GET,
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "GET /a>0 200 2"
)]
#[case::head(
    "HEAD /a HTTP/1.1\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
    "HEAD /a>0 200 0"
)]
#[case::no_content(GET, "HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n", "GET /a>0 204 0")]
#[case::not_modified(
    GET,
    "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n",
    "GET /a>0 304 0"
)]
#[case::close_delimited(GET, "HTTP/1.0 200 OK\r\n\r\nanything", "GET /a>0 200 open")]
#[case::coding_not_chunked(
    GET,
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nxyz",
    "GET /a>0 200 open"
)]
#[case::switching(
    "GET /a HTTP/1.1\r\nupgrade: x\r\n\r\n",
    "HTTP/1.1 101 Switching\r\n\r\n\x01\x02",
    "GET /a>0 101 Upgraded"
)]
#[case::tunnel(
    "CONNECT h:1 HTTP/1.1\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\x01",
    "CONNECT >0 200 Upgraded"
)]
#[case::no_tunnel(
    "CONNECT h:1 HTTP/1.1\r\n\r\n",
    "HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno",
    "CONNECT >0 403 2"
)]
fn a_response_is_framed_by_both_heads(
    #[case] request: &str,
    #[case] response: &str,
    #[case] told: &str,
) {
    assert_eq!(Run::new(true).requests(request).responses(response).told(), [told]);
}

#[test]
fn the_stream_s_end_tells_how_a_response_ended() {
    let told = |response: &str, error| {
        let mut run = Run::new(true);
        run.requests(GET).responses(response).end(Responses, error);
        run.told().concat()
    };
    let reset = Some(EndError::Reset);
    assert_eq!(told("HTTP/1.1 200 OK\r\n\r\nabc", None), "GET /a>0 200 Closed { body_bytes: 3 }");
    assert_eq!(
        told("HTTP/1.1 200 OK\r\n\r\nabc", reset),
        "GET /a>0 200 Reset { body_bytes: 3, error: Reset }"
    );
    let partial = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
    assert_eq!(told(partial, None), "GET /a>0 200 Truncated { body_bytes: 3 }");
    assert_eq!(
        told("HTTP/1.1 200 OK\r\ncontent-le", None),
        "GET /a>0 200 Truncated { body_bytes: 0 }"
    );
    assert_eq!(told("", None), "GET /a>0 - NoResponse { error: None }");
    assert_eq!(told("HTTP/1.1 2", None), "GET /a>0 - NoResponse { error: None }");
    let timeout = Some(EndError::Timeout);
    assert_eq!(told("", timeout), "GET /a>0 - NoResponse { error: Some(Timeout) }");
    assert_eq!(
        told("HTTP/1.1 100 Continue\r\n\r\n", reset),
        "GET /a>0 - NoResponse { error: Some(Reset) }"
    );
}

#[test]
fn marks_are_those_of_the_pieces_with_the_first_and_last_byte() {
    let mut run = Run::new(true);
    run.requests("\r\n").requests("POST /a HT").requests("TP/1.1\r\ncontent-length: 2\r\n\r\na");
    run.requests("b")
        .responses("HTTP/1.1 20")
        .responses("0 OK\r\ncontent-length: 2\r\n\r\no")
        .responses("k");
    let marks: Vec<(&str, u32)> = run
        .events
        .iter()
        .map(|event| match event {
            Event::Request { first, offset: 2, .. } => ("request", *first),
            Event::RequestEnd { last, body_bytes: 2, .. } => ("request end", *last),
            Event::Response { first, .. } => ("response", *first),
            Event::End { last, .. } => ("end", *last),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(marks, [("request", 2), ("request end", 4), ("response", 5), ("end", 7)]);
}

#[test]
fn an_early_response_ends_its_exchange_once_the_request_is_through() {
    let post = "POST /a HTTP/1.1\r\ncontent-length: 5\r\n\r\nab";
    let mut run = Run::new(true);
    run.requests(post).responses(OK);
    assert_eq!(run.told(), ["POST /a>? 200 open"]);
    run.requests(["cde", GET].concat()).responses(OK);
    assert_eq!(run.told(), ["POST /a>5 200 2", "GET /a>0 200 2"]);

    // A request that never ends: silence, or the stream's end.
    assert_eq!(Run::new(true).requests(post).responses(OK).idle().told(), ["POST /a>? 200 2"]);
    assert_eq!(Run::new(true).requests(post).responses(OK).close().told(), ["POST /a>? 200 2"]);
}

#[test]
fn a_body_left_out_after_a_refused_expectation_doesn_t_swallow_the_next_request() {
    let post = "POST /1 HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 500\r\n\r\n";
    let refusal = "HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n";
    let mut run = Run::new(true);
    run.requests(post).responses(refusal).requests(get(2)).responses(ok(2));
    assert_eq!(run.told(), ["POST /1>? 417 0", "GET /2>0 200 2"]);
    let mut run = Run::new(true);
    run.requests(post).responses(refusal).idle().requests(get(2)).responses(ok(2));
    assert_eq!(run.told(), ["POST /1>? 417 0", "GET /2>0 200 2"]);
}

#[test]
fn a_response_that_comes_before_its_request_is_held_for_it() {
    let mut run = Run::new(true);
    run.responses(ok(1)).end(Responses, None);
    assert!(run.told().is_empty());
    run.requests(get(1));
    assert_eq!(run.told(), ["GET /1>0 200 2"]);
    // The end was held behind it: what comes now won't be answered.
    run.requests(get(2));
    assert_eq!(run.told()[1], "GET /2>0 - NoResponse { error: None }");

    // In the middle of a request head, and for pipelined requests.
    let mut run = Run::new(true);
    run.requests("GET /1 HTT").responses([ok(1), ok(2)].concat()).requests("P/1.1\r\n\r\n");
    assert_eq!(run.told(), ["GET /1>0 200 2"]);
    run.requests(get(2));
    assert_eq!(run.told()[1], "GET /2>0 200 2");
}

#[test]
fn a_response_that_nobody_asked_for_is_dropped() {
    let late = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n";
    let mut run = Run::new(true);
    run.requests(get(1)).responses(ok(1)).responses(late).close();
    assert_eq!(run.told(), ["GET /1>0 200 2"]);
    assert_eq!(run.skipped(Skip::UnpairedResponse), late.len() as u64);

    let mut run = Run::new(true);
    run.responses(late).idle();
    assert_eq!(run.skipped(Skip::HeldTooLong), late.len() as u64);
    run.requests(get(1)).responses(ok(1));
    assert_eq!(run.told(), ["GET /1>0 200 2"]);
}

#[test]
fn after_an_upgrade_both_streams_are_left_alone() {
    let mut run = Run::new(true);
    run.requests("GET /a HTTP/1.1\r\nupgrade: x\r\n\r\n");
    // Sent after the 101, recorded before it.
    run.requests(get(7))
        .responses(["HTTP/1.1 101 Switching\r\n\r\n", OK].concat())
        .requests(get(8))
        .close();
    assert_eq!(run.told(), ["GET /a>0 101 Upgraded"]);
    assert_eq!(run.skipped(Skip::AfterUpgrade), (get(7).len() * 2 + OK.len()) as u64);

    // Refused, it was a request like any other.
    let mut run = Run::new(true);
    run.requests("GET /1 HTTP/1.1\r\nupgrade: x\r\n\r\n").requests(get(2));
    run.responses([ok(1), ok(2)].concat());
    assert_eq!(run.told(), ["GET /1>0 200 2", "GET /2>0 200 2"]);
}

#[test]
fn missing_bytes_inside_a_body_change_nothing() {
    let mut run = Run::new(true);
    run.piece(Requests, b"POST /1 HTTP/1.1\r\ncontent-length: 100\r\n\r\nabc", 97);
    run.piece(Responses, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nabc", 99);
    run.responses("0\r\n\r\n").requests(get(2)).piece(Responses, b"HTTP/1.1 200 OK\r\n\r\n", 9);
    run.end(Responses, None);
    assert_eq!(run.told(), ["POST /1>100 200 100", "GET /2>0 200 Closed { body_bytes: 9 }"]);
    assert!(run.skipped_nothing());
}

#[test]
fn cut_heads_are_told_and_their_ends_inferred() {
    let mut run = Run::new(true);
    run.piece(Requests, b"GET /1?q=2 HTTP/1.1\r\nhost: h\r\ncookie: abc", 5000);
    run.piece(Responses, b"HTTP/1.1 200 OK\r\ncontent-type: a; id=1\r\nset-cookie: de", 9000);
    assert_eq!(run.told(), ["GET /1>0 200 open"]);
    run.piece(Responses, b"more of it", 0);
    run.piece(Requests, b"GET /2/this/goes/on", 3000);
    assert_eq!(
        run.told(),
        ["GET /1>0 200 Inferred { body_bytes: 0 }", "GET /2/this/goes/on~>? - open"]
    );
    run.responses(ok(2)).requests(get(3)).responses(ok(3));
    assert_eq!(run.told()[1..], ["GET /2/this/goes/on~>0 200 2", "GET /3>0 200 2"]);
    let heads = exchanges(&run.events);
    assert!(!heads[0].request.complete && !heads[1].request.complete && heads[2].request.complete);
    assert_eq!(heads[0].request.host.as_deref(), Some("h"));
    assert!(!heads[0].response.as_ref().unwrap().complete);
    assert_eq!(heads[1].request.version, None);

    // Silence ends it as well.
    let mut run = Run::new(true);
    run.requests(get(1)).piece(Responses, b"HTTP/1.1 200 OK\r\nx: y", 1).idle();
    assert_eq!(run.told(), ["GET /1>0 200 Inferred { body_bytes: 0 }"]);
}

#[test]
fn of_a_cut_line_or_field_nothing_is_taken_for_whole() {
    let mut run = Run::new(true);
    run.piece(Requests, b"POST http://user:pass", 100);
    let heads = exchanges(&run.events);
    assert_eq!((heads[0].request.host.as_deref(), &*heads[0].request.target), (None, ""));
    let mut run = Run::new(true);
    run.piece(Requests, b"POST /1 HTTP/1.1\r\nhost: example.o", 100);
    let heads = exchanges(&run.events);
    assert_eq!(heads[0].request.host, None);
    assert!(!heads[0].request.target_cut);
}

/// Target and `Host`, and what is told of them: authority, path, query.
#[rstest]
#[case::origin("/a?b", "h:81", Some("h:81"), "/a", Some("b"))]
#[case::user_information_in_host("/a", "user:secret@h:81", Some("h:81"), "/a", None)]
#[case::only_user_information("/a", "user:secret@", None, "/a", None)]
#[case::host_that_is_none("/a", "user:secret", None, "/a", None)]
#[case::address("/a", "[2001:db8::1]:81", Some("[2001:db8::1]:81"), "/a", None)]
#[case::address_without_port("/a", "user:secret@[::1]", Some("[::1]"), "/a", None)]
#[case::absolute("http://user:secret@g:82/a?b", "h", Some("g:82"), "/a", Some("b"))]
#[case::scheme_with_signs("coap+tcp://user:secret@g/a", "h", Some("g"), "/a", None)]
#[case::scheme_of_all("X-1.y+z://user:secret@g", "h", Some("g"), "", None)]
#[case::no_scheme("1http://user:secret@g/a", "h", Some("h"), "", None)]
#[case::slash_in_a_password("http://user:sec/secret@g/a", "h", Some("h"), "", None)]
#[case::at_sign_in_a_password("http://user:secret@secret@g/a", "h", Some("g"), "/a", None)]
#[case::no_authority("mailto:user:secret@g", "h", Some("h"), "", None)]
#[case::relative("user:secret@g/a?secret", "h", Some("h"), "", None)]
#[case::asterisk_and_more("*secret", "h", Some("h"), "", None)]
fn credentials_are_told_of_no_form_of_target(
    #[case] target: &str,
    #[case] host: &str,
    #[case] authority: Option<&str>,
    #[case] path: &str,
    #[case] query: Option<&str>,
) {
    let mut run = Run::new(true);
    run.requests(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    let heads = exchanges(&run.events);
    let head = &heads[0].request;
    assert_eq!(
        (head.host.as_deref(), &*head.target, head.query.as_deref()),
        (authority, path, query)
    );
    assert!(!format!("{head:?}").contains("secret"), "{head:?}");
}

#[test]
fn a_chunked_body_whose_framing_was_lost_may_end_with_its_last_chunk() {
    let mut run = Run::new(true);
    run.requests(get(1));
    run.piece(Responses, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", 50);
    run.responses("cd\r\n0\r\n\r\n");
    assert_eq!(run.told(), ["GET /1>0 200 Inferred { body_bytes: 5 }"]);
    run.requests(get(2)).responses(ok(2));
    assert_eq!(run.told()[1], "GET /2>0 200 2");
}

#[test]
fn a_gap_abandons_what_is_open_and_the_next_exchange_is_found() {
    for direction in [Requests, Responses] {
        let mut run = Run::new(true);
        run.requests(get(1)).responses("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab");
        run.gap(direction).responses("cdefghi");
        run.requests(get(2)).responses(ok(2)).close();
        assert_eq!(run.told(), ["GET /1>0 200 abandoned: Gap", "GET /2>0 200 2"], "{direction:?}");
    }
}

#[test]
fn after_a_lost_request_its_response_is_nobody_s() {
    let mut run = Run::new(true);
    run.requests(get(1)).responses(ok(1));
    run.hole(Requests, 70).responses(ok(2)).requests(get(3)).responses(ok(3));
    assert_eq!(run.told(), ["GET /1>0 200 2", "GET /3>0 200 2"]);

    // Found out before the response came.
    let mut run = Run::new(true);
    run.piece(Requests, b"", 70).responses(ok(2)).requests(get(3)).responses(ok(3));
    assert_eq!(run.told(), ["GET /3>0 200 2"]);
}

#[test]
fn a_connection_met_in_the_middle_begins_with_the_first_request() {
    let mut run = Run::new(false);
    run.offsets = [9_000, 77];
    run.requests("middle of a body").responses(ok(9)).requests(get(1));
    run.responses(ok(1)).requests(get(2)).responses(ok(2)).close();
    assert_eq!(run.told(), ["GET /1>0 200 2", "GET /2>0 200 2"]);
    assert_eq!(run.skipped(Skip::UnpairedResponse), ok(9).len() as u64);
}

#[test]
fn a_client_that_pipelines_is_not_followed_after_a_gap() {
    let mut run = Run::new(true);
    run.requests([get(1), get(2)].concat()).responses([ok(1), ok(2)].concat());
    assert_eq!(run.told(), ["GET /1>0 200 2", "GET /2>0 200 2"]);
    run.gap(Responses).requests(get(3)).responses(ok(3)).close();
    assert_eq!(run.told().len(), 2);

    let mut run = Run::new(false);
    run.requests(get(1))
        .requests(get(2))
        .responses(ok(0))
        .requests(get(3))
        .responses(ok(1))
        .close();
    assert_eq!(run.told(), ["GET /1>0 - abandoned: Pipelined"]);
}

#[test]
fn what_is_no_http_abandons_what_is_open() {
    let mut run = Run::new(true);
    run.requests(get(1)).requests("\x16\x03\x01").responses(ok(1)).close();
    assert_eq!(run.told(), ["GET /1>0 - abandoned: Broken"]);
    let mut run = Run::new(true);
    run.requests(get(1)).responses("+OK\r\n").requests(get(2)).responses(ok(2));
    assert_eq!(run.told(), ["GET /1>0 - abandoned: Broken", "GET /2>0 200 2"]);
}

#[test]
fn bytes_that_come_again_are_left_out() {
    let mut run = Run::new(true);
    run.requests(get(1)).responses(ok(1));
    run.offsets[1] -= 10;
    run.requests(get(2)).responses([ok(1).split_off(ok(1).len() - 10), ok(2)].concat());
    assert_eq!(run.told(), ["GET /1>0 200 2", "GET /2>0 200 2"]);
    assert_eq!(run.skipped(Skip::Overlap), 10);
}

#[test]
fn another_format_of_trace_contexts_is_read_where_it_is_asked_for_and_no_traceparent_is_there() {
    let b3 = "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1\r\n";
    let traceparent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    for (asked, fields, trace) in [
        (true, b3.to_owned(), Some("80f198ee56343ba864fe8b2a57d3eff7")),
        (false, b3.to_owned(), None),
        (true, [b3, traceparent].concat(), Some("4bf92f3577b34da6a3ce929d0e0e4736")),
        (true, [b3, "tracestate: a=1\r\n"].concat(), Some("80f198ee56343ba864fe8b2a57d3eff7")),
    ] {
        let mut run = Run::new(true);
        let formats = asked.then_some(crate::propagation::Propagator::B3).into_iter().collect();
        run.connection = Connection::new(true).propagators(formats);
        run.requests(format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        run.responses(OK);
        let head = &exchanges(&run.events)[0].request;
        let read = head.traceparent.map(|it| it.trace_id.to_string());
        assert_eq!((read.as_deref(), &head.tracestate), (trace, &None), "{fields}");
    }
}

/// What a head's fields are that were asked for, and whether each is whole.
fn asked(fields: &[Field<'_>]) -> Vec<(String, String, bool)> {
    fields.iter().map(|it| (it.name.to_string(), it.value.to_string(), it.whole)).collect()
}

#[test]
fn fields_are_kept_that_are_asked_for_and_no_others() {
    let mut run = Run::new(true);
    let names = Asked::new().field(Requests, "X-User").field(Requests, "host");
    run.connection.ask(&Arc::new(names.field(Responses, "x-job")));
    let long = "x".repeat(crate::limits::HTTP1_ASKED_VALUE_BYTES - 1) + "\u{e9}";
    run.requests(format!(
        "GET /a HTTP/1.1\r\nHost: h\r\nx-USER: 7\r\nx-user:\t8 \r\nx-job: 1\r\nx-user:\r\n\
         authorization: b\r\nX-User: {long}\r\n\r\n",
    ));
    run.responses("HTTP/1.1 200 OK\r\nX-Job: 9\r\nx-user: 7\r\ncontent-length: 0\r\n\r\n");
    let exchange = &exchanges(&run.events)[0];
    let field = |name: &str, value: &str, whole| (name.to_owned(), value.to_owned(), whole);
    let expected = [
        field("host", "h", true),
        field("x-user", "7", true),
        field("x-user", "8", true),
        field("x-user", long.trim_end_matches('\u{e9}'), false),
    ];
    assert_eq!(asked(&exchange.request.fields), expected);
    let response = exchange.response.as_ref().unwrap();
    assert_eq!(asked(&response.fields), [field("x-job", "9", true)]);
    assert_eq!(exchange.request.host.as_deref(), Some("h"), "it is read as ever");

    run.connection.ask(&Arc::default());
    run.requests("GET /b HTTP/1.1\r\nHost: h\r\nx-user: 7\r\n\r\n");
    run.responses(OK);
    assert!(exchanges(&run.events)[1].request.fields.is_empty(), "nothing is asked for any more");
}

#[test]
fn a_field_that_may_go_on_is_not_kept() {
    let ask = |head: &str, missing: u64| {
        let mut connection = Connection::new(true);
        connection.ask(&Arc::new(Asked::new().field(Requests, "x-user")));
        let mut fields = None;
        connection.on_bytes(Requests, 0, head.as_bytes(), missing, &0_u32, &mut |event| {
            if let Event::Request { head, .. } = event {
                fields = Some(asked(&head.into_owned().fields));
            }
        });
        fields.unwrap()
    };
    let start = "GET /a HTTP/1.1\r\nHost: h\r\nx-user: 71";
    assert_eq!(ask(&format!("{start}\r\n folded\r\n\r\n"), 0), []);
    assert_eq!(ask(&format!("{start}\r\nx: y\r\n folded\r\n\r\n"), 0).len(), 1);
    assert_eq!(ask(start, 100), [], "cut within the value");
    assert_eq!(ask(&format!("{start}\r\nx"), 100).len(), 1);
}

#[test]
fn of_many_fields_that_are_asked_for_the_first_are_kept() {
    let mut run = Run::new(true);
    run.connection.ask(&Arc::new(Asked::new().field(Requests, "a")));
    let most = crate::limits::HTTP1_ASKED_FIELDS;
    let fields: String = (0..=most).map(|number| format!("a: {number}\r\n")).collect();
    run.requests(format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    run.responses(OK);
    let fields = &exchanges(&run.events)[0].request.fields;
    assert_eq!((fields.len(), &*fields[most - 1].value), (most, &*(most - 1).to_string()));
    assert!(fields.iter().all(|field| !field.whole), "there was one more of that name");
}

#[test]
fn fields_that_a_span_needs_are_read() {
    let mut run = Run::new(true);
    run.requests(
        "GET /a HTTP/1.1\r\nHOST: h:80\r\nX-Forwarded-For: 192.0.2.1 , 10.0.0.1\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         tracestate: a=1\r\ntracestate: b=2\r\nuser-agent: caf\u{e9}/1\r\n\r\n",
    );
    run.responses(OK);
    run.requests(
        "GET /b HTTP/1.1\r\nforwarded: proto=http;For=\"[2001:db8::1]\", for=x\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n\r\n",
    );
    let heads = exchanges(&run.events);
    let (first, second) = (&heads[0].request, &heads[1].request);
    assert_eq!(first.forwarded.as_deref(), Some("192.0.2.1"));
    assert_eq!(first.tracestate.as_deref(), Some("a=1,b=2"));
    assert_eq!(first.user_agent.as_deref(), Some("caf\u{e9}/1"));
    assert_eq!(second.forwarded.as_deref(), Some("[2001:db8::1]"));
    assert_eq!((second.traceparent, &second.tracestate), (None, &None));
    assert_eq!(heads[0].response.as_ref().unwrap().content_length, Some(2));
}
