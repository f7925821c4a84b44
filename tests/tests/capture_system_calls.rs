//! Every system call that moves bytes over a stream socket is seen and counted exactly, and gives spans
//! wherever its registers tell where the bytes are.

use crate::common::capture as common;

use common::{
    Bench, Calls, Exchange, PLAIN, assert_right, both_ends, connect, exchange, span_of, spans_of,
    unique,
};
use rstest::rstest;
use wirespan_tests::spans::{CLIENT, SERVER};

const FAMILIES: [&str; 3] = ["inet", "inet6", "unix"];

#[rstest]
#[case::write_and_read("'write'", "65536, 'read'")]
#[case::sendto_and_recvfrom("'sendto'", "65536, 'recvfrom'")]
#[case::writev_and_readv("'writev', (20, 0, 7, 1, 0, 30)", "0, 'readv', (5, 0, 1, 64, 4096)")]
#[case::sendmsg_and_recvmsg("'sendmsg', (3, 0, 70)", "0, 'recvmsg', (9, 0, 2, 8192)")]
#[case::one_message_of_sendmmsg_and_recvmmsg("'sendmmsg'", "65536, 'recvmmsg'")]
#[case::as_many_iovecs_as_are_looked_at(
    "'writev', (9, 0, 9) + (0,) * 98 + (1,) * 26",
    "0, 'readv', (1,) * 127 + (8192,)"
)]
fn each_call_gives_whole_spans(#[case] send: &'static str, #[case] receive: &'static str) {
    let bench = Bench::start(&unique("calls"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let calls = Calls { send, receive };
    let mut exchanges = Vec::new();
    for (index, family) in FAMILIES.iter().enumerate() {
        connect(&mut client, &mut server, family);
        for number in 0..5 {
            let one = Exchange::new(family, 10 * index + number);
            exchange(&mut client, &mut server, [calls; 2], &one);
            exchanges.push(one);
        }
    }
    for script in [&mut client, &mut server] {
        let line = bench.agrees(script, 0);
        assert_eq!(line.kernel.bytes_captured, line.kernel.bytes_seen, "{line:#?}");
        assert_eq!(line.agent.calls_spans, exchanges.len() as u64, "{line:#?}");
        assert_eq!(line.agent.bytes_in_messages, line.agent.bytes, "{line:#?}");
    }
    let spans = bench.spans();
    for one in &exchanges {
        both_ends(&spans, one);
    }
    assert_eq!(spans.len(), 2 * exchanges.len());
}

#[rstest]
#[case::sent(Calls { send: "'sendmmsg', (10, 25)", receive: PLAIN.receive }, PLAIN)]
#[case::received(PLAIN, Calls { send: PLAIN.send, receive: "0, 'recvmmsg', (10, 8192)" })]
fn several_messages_in_one_call_are_counted_and_what_follows_is_right(
    #[case] ours: Calls,
    #[case] theirs: Calls,
) {
    let bench = Bench::start(&unique("several"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let mut exchanges = Vec::new();
    for (index, family) in FAMILIES.iter().enumerate() {
        connect(&mut client, &mut server, family);
        for number in 0..6 {
            let one = Exchange::new(family, 10 * index + number);
            let hidden = number == 2;
            let calls = if hidden { [ours, theirs] } else { [PLAIN; 2] };
            exchange(&mut client, &mut server, calls, &one);
            exchanges.push((one, hidden));
        }
    }
    let hides_client = ours.send != PLAIN.send;
    for (script, hides) in [(&mut client, hides_client), (&mut server, !hides_client)] {
        let line = bench.agrees(script, 0);
        assert_eq!(line.kernel.bytes_other_syscall > 0, hides, "{line:#?}");
        assert_eq!(
            line.kernel.bytes_captured + line.kernel.bytes_other_syscall,
            line.kernel.bytes_seen,
            "{line:#?}"
        );
    }
    let spans = bench.spans();
    for (one, hidden) in &exchanges {
        if !hidden {
            both_ends(&spans, one);
            continue;
        }
        let (seen, unseen) = if hides_client { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
        span_of(&spans, seen, one);
        for span in spans_of(&spans, unseen, &one.path) {
            assert_right(span, one);
        }
    }
}

#[test]
fn a_connection_that_begins_with_what_cannot_be_read_is_understood_later() {
    let bench = Bench::start(&unique("begins"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let hidden = Calls { send: "'sendmmsg', (10, 25)", receive: PLAIN.receive };
    let mut exchanges = Vec::new();
    for (index, family) in FAMILIES.iter().enumerate() {
        connect(&mut client, &mut server, family);
        for number in 0..6 {
            let one = Exchange::new(family, 10 * index + number);
            exchange(
                &mut client,
                &mut server,
                [if number == 0 { hidden } else { PLAIN }, PLAIN],
                &one,
            );
            exchanges.push((one, number == 0));
        }
    }
    bench.agrees(&mut client, 0);
    bench.agrees(&mut server, 0);
    let spans = bench.spans();
    for (one, hidden) in &exchanges {
        if *hidden {
            span_of(&spans, SERVER, one);
            assert!(spans_of(&spans, CLIENT, &one.path).is_empty());
        } else {
            both_ends(&spans, one);
        }
    }
}

/// As many iovecs as one call can have, with the head spread over them.
#[test]
fn every_iovec_of_a_call_is_looked_at() {
    let bench = Bench::start(&unique("iovecs"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let ones = "(0,) * 900 + (1,) * 40 + (0,) * 80";
    let (send, receive) = (format!("'writev', {ones}"), format!("0, 'readv', {ones}"));
    let many = Calls { send: send.leak(), receive: receive.leak() };
    let mut exchanges = Vec::new();
    for (index, family) in FAMILIES.iter().enumerate() {
        connect(&mut client, &mut server, family);
        for number in 0..4 {
            let one = Exchange::new(family, 10 * index + number);
            let calls = if number % 2 == 1 { [many, many] } else { [PLAIN; 2] };
            exchange(&mut client, &mut server, calls, &one);
            exchanges.push(one);
        }
    }
    for script in [&mut client, &mut server] {
        let kernel = bench.agrees(script, 0).kernel;
        assert_eq!(kernel.bytes_unreadable, 0, "{kernel:#?}");
    }
    let spans = bench.spans();
    for one in &exchanges {
        both_ends(&spans, one);
    }
}

#[test]
fn partial_and_refused_operations_are_counted_as_what_they_moved() {
    let bench = Bench::start(&unique("partial"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let mut exchanges = Vec::new();
    for (index, family) in FAMILIES.iter().enumerate() {
        connect(&mut client, &mut server, family);
        let small = "setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)";
        client.run(&format!("c.setblocking(False); c.{small}")).unwrap();
        server.run(&format!("s.{small}")).unwrap();
        for (number, call) in ["write", "writev", "sendto", "sendmsg"].into_iter().enumerate() {
            let mut one = Exchange::new(family, 10 * index + number);
            (one.request_bytes, one.response_bytes) = (300_000 + number, 200_000 + number);
            let send = format!("{call:?}, (50, 9000)").replace('"', "'");
            let calls = Calls { send: send.leak(), receive: "1500, 'recvfrom'" };
            // Nothing is there yet: this is refused, and is no operation.
            client.run("try: recv_once(c, 10)\nexcept BlockingIOError: pass").unwrap();
            exchange(&mut client, &mut server, [calls; 2], &one);
            exchanges.push(one);
        }
    }
    for script in [&mut client, &mut server] {
        let line = bench.agrees(script, 0);
        assert!(line.kernel.operations_seen > 1000, "{line:#?}");
        assert_eq!(line.kernel.bytes_unreadable, 0, "{line:#?}");
        assert_eq!(line.agent.bytes_unseen, 0, "{line:#?}");
    }
    let spans = bench.spans();
    for one in &exchanges {
        both_ends(&spans, one);
    }
}

#[test]
fn peeked_bytes_are_not_counted_twice_and_waiting_for_all_is_one_operation() {
    let bench = Bench::start(&unique("peek"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let mut exchanges = Vec::new();
    for (index, family) in FAMILIES.iter().enumerate() {
        connect(&mut client, &mut server, family);
        for number in 0..3 {
            let one = Exchange::new(family, 10 * index + number);
            let (path, bytes) = (&one.path, one.request_bytes);
            server
                .begin(&format!(
                    "len(recv_once(s, 1, flags=socket.MSG_PEEK)); \
                     recv_once(s, 4000, flags=socket.MSG_PEEK); \
                     recv_once(s, len(request({path:?}, {bytes})), flags=socket.MSG_WAITALL); \
                     send_all(s, response({}, {}))",
                    one.status, one.response_bytes
                ))
                .unwrap();
            client
                .run(&format!(
                    "data = request({path:?}, {bytes}); send_all(c, data[:30]); send_all(c, data[30:]); \
                     cr.message(flags=socket.MSG_PEEK) if False else recv_once(c, 5, flags=socket.MSG_PEEK); \
                     cr.message(); None"
                ))
                .unwrap();
            server.finish().unwrap();
            exchanges.push(one);
        }
    }
    assert_eq!(bench.agrees(&mut server, 0).kernel.peeks, 18);
    assert_eq!(bench.agrees(&mut client, 0).kernel.peeks, 9);
    let spans = bench.spans();
    for one in &exchanges {
        both_ends(&spans, one);
    }
    assert_eq!(spans.len(), 2 * exchanges.len());
}

#[rstest]
#[case::truncated("recv_once(s, {size}, flags=socket.MSG_TRUNC)")]
#[case::urgent("recv_once(s, 9000); wait_for(s, 2); recv_once(s, 1, flags=socket.MSG_OOB)")]
fn discarded_and_urgent_bytes_are_special_and_what_follows_is_right(#[case] receive: &str) {
    let bench = Bench::start(&unique("special"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let urgent = receive.contains("OOB");
    let mut exchanges = Vec::new();
    for (index, family) in ["inet", "inet6"].iter().enumerate() {
        connect(&mut client, &mut server, family);
        for number in 0..8 {
            let one = Exchange::new(family, 10 * index + number);
            if number != 2 {
                exchange(&mut client, &mut server, [PLAIN; 2], &one);
                exchanges.push((one, false));
                continue;
            }
            let whole = format!("request({:?}, {})", one.path, one.request_bytes);
            // MSG_TRUNC on TCP discards the bytes, MSG_OOB takes one out of the stream: it is sent behind
            // the request, so that what both ends see of HTTP is the same.
            let receive = receive.replace("{size}", &format!("len({whole})"));
            let oob = if urgent { "; send_all(c, b'!', flags=socket.MSG_OOB)" } else { "" };
            server
                .begin(&format!(
                    "{receive}; send_all(s, response({}, {}))",
                    one.status, one.response_bytes
                ))
                .unwrap();
            client.run(&format!("send_all(c, {whole}){oob}; cr.message(); None")).unwrap();
            server.finish().unwrap();
            exchanges.push((one, true));
        }
    }
    bench.agrees(&mut client, 0);
    let line = bench.agrees(&mut server, 0);
    assert!(line.kernel.bytes_special > 0, "{line:#?}");
    let spans = bench.spans();
    for (one, special) in &exchanges {
        for kind in [CLIENT, SERVER] {
            spans_of(&spans, kind, &one.path).iter().for_each(|span| assert_right(span, one));
        }
        // The urgent byte lies before the next request, and is a byte that none of HTTP is: from there on
        // the server's end can't be certain of pairs.
        let before = one.path.ends_with(['0', '1']);
        match (urgent, special) {
            (true, _) if before => _ = both_ends(&spans, one),
            (false, true) => _ = span_of(&spans, CLIENT, one),
            (false, false) => _ = both_ends(&spans, one),
            _ => {}
        }
    }
}

#[test]
fn a_reset_ends_the_call_as_reset_and_counts_nothing() {
    let bench = Bench::start(&unique("reset"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    for family in ["inet", "inet6"] {
        connect(&mut client, &mut server, family);
        exchange(&mut client, &mut server, [PLAIN; 2], &Exchange::new(family, 0));
        server.begin("sr.message(); reset(s)").unwrap();
        let refused = client.run(&format!(
            "send_all(c, request('/{family}/reset', 5))\nerrors = []\n\
             for step in (lambda: cr.message(), lambda: send_all(c, b'more')):\n  \
             try: step()\n  except OSError as error: errors.append(error.errno)\nerrors"
        ));
        assert_eq!(refused.unwrap(), serde_json::json!([libc::ECONNRESET, libc::EPIPE]));
        server.finish().unwrap();
    }
    bench.agrees(&mut client, 0);
    bench.agrees(&mut server, 0);
    let spans = bench.spans();
    for family in ["inet", "inet6"] {
        both_ends(&spans, &Exchange::new(family, 0));
        let path = format!("/{family}/reset");
        for kind in [CLIENT, SERVER] {
            let found = spans_of(&spans, kind, &path);
            assert_eq!(found.len(), 1, "kind {kind}: {found:#?}");
            assert_eq!(found[0].status, 2, "{found:#?}");
            assert_eq!(found[0].text("http.response.status_code"), None, "{found:#?}");
        }
        assert_eq!(spans_of(&spans, CLIENT, &path)[0].text("error.type"), Some("connection_reset"));
    }
}

#[test]
fn an_operation_that_fails_and_leaves_the_connection_whole_ends_nothing() {
    let bench = Bench::start(&unique("fails"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    let fail = "\ndef refused(*call):\n  try: checked(call[0](*call[1:]))\n  \
                except OSError as error: return error.errno\n";
    client.run(fail).unwrap();
    server.run(fail).unwrap();
    let mut exchanges = Vec::new();
    for family in FAMILIES {
        connect(&mut client, &mut server, family);
        for number in 0..3 {
            let one = Exchange::new(family, number);
            server
                .begin(&format!(
                    "sr.message(); errors = [refused(LIBC.recv, s.fileno(), ctypes.c_void_p(8), 0, 64), \
                     refused(LIBC.send, s.fileno(), ctypes.c_void_p(8), 64, 0)]; \
                     send_all(s, response({}, {})); errors",
                    one.status, one.response_bytes
                ))
                .unwrap();
            client
                .run(&format!(
                    "send_all(c, request({:?}, {})); \
                     refused(LIBC.send, c.fileno(), ctypes.c_void_p(8), 64, 0); wait_for(c, 1); \
                     refused(LIBC.recv, c.fileno(), ctypes.c_void_p(8), 64, socket.MSG_OOB); \
                     refused(LIBC.recv, c.fileno(), ctypes.c_void_p(8), 64, 0); cr.message(); None",
                    one.path, one.request_bytes
                ))
                .unwrap();
            assert_eq!(server.finish().unwrap()[1], libc::EFAULT);
            exchanges.push(one);
        }
    }
    bench.agrees(&mut client, 0);
    bench.agrees(&mut server, 0);
    let spans = bench.spans();
    for one in &exchanges {
        both_ends(&spans, one);
    }
}

#[rstest]
#[case::closed("s.close()")]
#[case::shut_down("s.shutdown(socket.SHUT_WR)")]
fn the_end_of_the_stream_ends_a_response_and_is_no_byte(#[case] end: &str) {
    let bench = Bench::start(&unique("end"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    // Read in pieces, and whole: the receive that takes the last byte then takes the FIN as well.
    let cases = FAMILIES.into_iter().flat_map(|family| [(family, 900), (family, 65536)]);
    let cases: Vec<_> =
        cases.flat_map(|(family, size)| [(family, size, 0), (family, size, 1)]).collect();
    for (family, size, length) in &cases {
        let place = server.run(&format!("listener, place = listen({family:?}); place")).unwrap();
        client.run(&format!("c = connect({})", common::python(&place))).unwrap();
        let head = ["Connection: close", "Content-Length: 3000"][*length];
        server
            .begin(&format!(
                "s = accept(listener); Reader(s).message(); \
                 send_all(s, b'HTTP/1.1 200 OK\\r\\n{head}\\r\\n\\r\\n' + content(3000)); {end}"
            ))
            .unwrap();
        client.run(&format!("send_all(c, request('/{family}/{size}/{length}', 5))")).unwrap();
        server.finish().unwrap();
        client.run(&format!("while recv_once(c, {size}): pass\nc.close()")).unwrap();
        server.run("recv_once(s, 10) if s.fileno() >= 0 else None; s.close()").unwrap();
    }
    // A unix socket's close is not seen by its own end: there the response without a length stays open.
    for script in [&mut client, &mut server] {
        let line = bench.agrees(script, 2);
        assert_eq!(line.agent.bytes_unseen, 0, "{line:#?}");
        assert_eq!(line.agent.bytes_in_messages, line.agent.bytes, "{line:#?}");
    }
    let spans = bench.spans();
    for (family, size, length) in &cases {
        for kind in [CLIENT, SERVER] {
            if (*family, kind, *length) == ("unix", SERVER, 0) {
                continue;
            }
            let found = spans_of(&spans, kind, &format!("/{family}/{size}/{length}"));
            assert_eq!(found.len(), 1, "{family}, kind {kind}: {spans:#?}");
            assert_eq!(found[0].int("http.response.body.size"), Some(3000), "{found:#?}");
            assert_eq!(found[0].status, 0, "{found:#?}");
        }
    }
}
