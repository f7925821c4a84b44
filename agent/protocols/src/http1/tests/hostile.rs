//! Input made to hurt: sizes that overflow, messages without end, floods, offsets at the edge; and
//! arbitrary scripts, whose events must keep their promises.

use proptest::prelude::*;

use super::*;
use crate::limits;

#[test]
fn the_largest_lengths_are_counted_and_never_allocated() {
    let mut run = Run::new(true);
    run.requests(format!("POST /a HTTP/1.1\r\ncontent-length: {}\r\n\r\nx", u64::MAX)).close();
    assert_eq!(run.told(), ["POST /a>? - NoResponse { error: None }"]);
    let mut connection = Connection::new(true);
    let mut events = Vec::new();
    let mut out = |event: Event<'_, ()>| events.push(event.into_owned());
    for offset in [0, 1, u64::MAX - 1, u64::MAX] {
        for direction in [Requests, Responses] {
            connection.on_bytes(
                direction,
                offset,
                b"GET / HTTP/1.1\r\n\r\n",
                u64::MAX,
                &(),
                &mut out,
            );
        }
    }
    connection.on_end(Requests, None, &(), &mut out);
    connection.on_end(Responses, None, &(), &mut out);
    assert_eq!(connection.open_exchanges(), 0);
}

#[test]
fn a_chunk_of_2_to_64_bytes_is_broken() {
    let mut run = Run::new(true);
    run.requests("GET /a HTTP/1.1\r\n\r\n");
    run.responses("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\n");
    assert_eq!(run.told(), ["GET /a>0 200 abandoned: Broken"]);
}

#[test]
fn a_head_without_end_is_cut_at_its_cap() {
    let mut run = Run::new(true);
    run.requests("GET /a HTTP/1.1\r\n");
    for at in 0..100_000 {
        run.requests(format!("x-{at}: y\r\n"));
        assert!(
            run.connection.counters(Requests).pending_bytes < limits::HTTP1_HEAD_BYTES as u64,
            "no more is kept"
        );
    }
    assert_eq!(run.told(), ["GET /a>? - open"]);
    assert!(!exchanges(&run.events)[0].request.complete);
    run.responses("HTTP/1.1 431 Too Large\r\ncontent-length: 0\r\n\r\n").close();
    assert_eq!(run.told(), ["GET /a>0 431 0"]);
}

#[test]
fn endless_chunk_extensions_end() {
    let mut run = Run::new(true);
    run.requests("GET /a HTTP/1.1\r\n\r\n");
    run.responses("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;");
    for _ in 0..10_000 {
        run.responses("a=b;");
    }
    assert_eq!(run.told(), ["GET /a>0 200 abandoned: Broken"]);
}

#[test]
fn a_flood_of_requests_is_given_up_and_nothing_grows() {
    let mut run = Run::new(true);
    for _ in 0..10_000 {
        run.requests("GET /a HTTP/1.1\r\n\r\n");
        assert!(run.connection.open_exchanges() <= limits::HTTP1_OPEN_EXCHANGES);
    }
    run.close();
    assert_eq!(run.told().len(), limits::HTTP1_OPEN_EXCHANGES);
    assert!(run.told().iter().all(|told| told.ends_with("abandoned: TooMany")));
}

#[test]
fn a_flood_of_responses_is_given_up_and_nothing_grows() {
    for piece in ["HTTP/1.1 200 OK\r\n\r\n", "x"] {
        let mut run = Run::new(true);
        for _ in 0..10_000 {
            run.responses(piece);
            let held = run.connection.counters(Responses).pending_bytes;
            assert!(held <= limits::HTTP1_HELD_BYTES as u64);
            assert!(held <= (limits::HTTP1_HELD_PIECES * piece.len()) as u64);
        }
        assert!(run.skipped(Skip::HeldTooLong) > 0);
        run.close();
    }
}

#[test]
fn nothing_but_zeros() {
    for direction in [Requests, Responses] {
        let mut run = Run::new(true);
        run.requests("GET /a HTTP/1.1\r\n\r\n").piece(direction, &[0; 100_000], 0).close();
        assert_eq!(run.told(), ["GET /a>0 - abandoned: Broken"]);
    }
}

/// Pieces of messages, so that arbitrary scripts get further than arbitrary bytes do.
const WORDS: &[&str] = &[
    "GET /a HTTP/1.1\r\n",
    "POST /b HTTP/1.1\r\n",
    "CONNECT c:1 HTTP/1.1\r\n",
    "HEAD /d HTTP/1.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n",
    "HTTP/1.1 101 Switching\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "upgrade: x\r\n",
    "expect: 100-continue\r\n",
    "\r\n",
    "\n",
    "5\r\n",
    "hello",
    "0\r\n",
    "a",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn arbitrary_bytes_keep_the_promises(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_http1(&data);
    }

    #[test]
    fn arbitrary_scripts_keep_the_promises(
        flags in 0u8..2,
        script in prop::collection::vec((any::<u8>(), 0..WORDS.len(), 0..WORDS.len()), 0..60),
    ) {
        let mut data = vec![flags];
        for (op, first, second) in script {
            data.push(op);
            data.extend_from_slice(WORDS[first].as_bytes());
            data.extend_from_slice(WORDS[second].as_bytes());
        }
        fuzz_http1(&data);
    }

    /// httparse, an independent parser, as the oracle for what is a head and what it says.
    #[test]
    fn heads_that_httparse_reads_are_read_alike(
        method in "[A-Z]{1,10}",
        target in "/[!-~]{0,20}",
        names in prop::collection::vec("[a-z-]{1,12}", 0..5),
        value in "[ -~\t]{0,20}",
        line_end in prop::sample::select(vec!["\r\n", "\n"]),
    ) {
        let mut head = format!("{method} {target} HTTP/1.1{line_end}");
        for name in &names {
            head += &format!("x{name}:{value}{line_end}");
        }
        head += &format!("host: {value}{line_end}user-agent: {value}{line_end}{line_end}");
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut fields);
        let read = request.parse(head.as_bytes());
        let mut run = Run::new(true);
        run.requests(&head);
        let exchanges = exchanges(&run.events);
        prop_assert_eq!(read.is_ok_and(|status| status.is_complete()), exchanges.len() == 1);
        if let Some(exchange) = exchanges.first() {
            prop_assert_eq!(request.method, Some(exchange.request.method.as_str()));
            let path = request.path.unwrap().split('#').next().unwrap();
            let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
            prop_assert_eq!(path, &*exchange.request.target);
            prop_assert_eq!(query, exchange.request.query.as_deref());
            let agent = request.headers.last().unwrap().value;
            prop_assert_eq!(agent, exchange.request.user_agent.as_deref().unwrap_or_default().as_bytes());
            // Of the host, what stands behind user information, or nothing.
            let host = exchange.request.host.as_deref().unwrap_or_default();
            prop_assert!(agent.ends_with(host.as_bytes()) && !host.contains('@'), "{}", host);
        }
    }
}
