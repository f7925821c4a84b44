//! What a span shows is kept, as it was; nothing else is.

use rstest::rstest;

use super::*;
use crate::capture::Slot;

fn operation(sent: bool, offset: u64, payload: &[u8], length: u32) -> Operation<'_> {
    Operation {
        cookie: 1,
        slot: Slot(1),
        tid: 1,
        sent,
        at_ns: 1,
        offset,
        length,
        payload,
        tail: b"",
        end_of_stream: false,
        error: 0,
        lost_received: false,
        lost_sent: false,
        blocking: false,
        queue_ns: None,
        context: 0,
        strand: 0,
        threads_own: false,
        srtt_us: 0,
        retransmits: 0,
        run_delay_ns: 0,
        exec_ns: 0,
    }
}

/// What is kept of these, sent (`>`) and received (`<`) by a client.
fn kept(with_payload: bool, protocol: &'static str, pieces: &[(char, &str)]) -> Vec<String> {
    let mut scrubber = Scrubber::new(with_payload);
    let mut offsets = [0, 0];
    let mut kept = Vec::new();
    for (way, text) in pieces {
        let sent = *way == '>';
        let offset = &mut offsets[usize::from(sent)];
        let operation = operation(sent, *offset, text.as_bytes(), text.len() as u32);
        *offset += text.len() as u64;
        let payload = scrubber.scrub(&operation, Some((protocol, Role::Client)));
        kept.push(String::from_utf8(payload.bytes).unwrap());
    }
    kept
}

#[rstest]
#[case::fields_and_query(
    &[('>', "GET /a/1?user=ann&x=2#f HTTP/1.1\r\nHost: h:80\r\nAuthorization: Bearer t\r\nX: 1\r\n\r\n")],
    &["GET /a/1?qqqq=qqq&q=qqq HTTP/1.1\r\nHost: h:80\r\nAuthorization:qqqqqqqqq\r\nX:qq\r\n\r\n"]
)]
#[case::a_user_in_the_target(
    &[('>', "GET http://me:pw@h/p HTTP/1.1\r\n\r\n")],
    &["GET http://qqqqqqq/p HTTP/1.1\r\n\r\n"]
)]
#[case::content_by_length_and_what_follows_it(
    &[('>', "POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nGET GET /b HTTP/1.1\r\n\r\n")],
    &["POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nqqqqGET /b HTTP/1.1\r\n\r\n"]
)]
#[case::chunks_in_pieces(
    &[
        ('>', "GET /a HTTP/1.1\r\n\r\n"),
        ('<', "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n5;x=y\r\nab"),
        ('<', "cde\r\n0\r\nT: v\r\n\r\nHTTP/1.1 204 No\r\n\r\n"),
    ],
    &[
        "GET /a HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 qqqq\r\nTransfer-Encoding: chunked\r\nSet-Cookie:qqqq\r\n\r\n5;qqq\r\nqq",
        "qqq\r\n0\r\nq:qq\r\n\r\nHTTP/1.1 204 qq\r\n\r\n",
    ]
)]
#[case::no_content_of_an_answer_to_head(
    &[
        ('>', "HEAD /a HTTP/1.1\r\n\r\n"),
        ('<', "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 404 OK\r\n\r\n"),
    ],
    &[
        "HEAD /a HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 qq\r\nContent-Length: 9\r\n\r\nHTTP/1.1 404 qq\r\n\r\n",
    ]
)]
#[case::nothing_after_another_protocol_took_over(
    &[
        ('>', "GET /a HTTP/1.1\r\nUpgrade: x\r\n\r\n"),
        ('<', "HTTP/1.1 101 OK\r\n\r\nsecret"),
        ('<', "secret"),
    ],
    &["GET /a HTTP/1.1\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 101 qq\r\n\r", ""]
)]
#[case::nothing_of_what_is_no_message(&[('>', "secret\r\nsecret")], &[""])]
#[case::nor_of_what_looks_like_its_beginning(
    &[('>', "GET /a HTTP/1.1\r\n\r\nTHE secret is"), ('>', " HTTP/1.1\r\n")],
    &["GET /a HTTP/1.1\r\n\r\n", ""]
)]
fn http(#[case] pieces: &[(char, &str)], #[case] expected: &[&str]) {
    let kept = kept(false, "HTTP/1", pieces);
    assert_eq!(kept, expected);
    assert!(!kept.concat().contains("secret"), "{kept:?}");
}

#[rstest]
#[case::values_but_not_keys(
    &[
        ('>', "*3\r\n$3\r\nSET\r\n$6\r\nuser:1\r\n$6\r\nsecret\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
        ('<', "+OK\r\n$6\r\nsecret\r\n"),
    ],
    &[
        "*3\r\n$3\r\nSET\r\n$6\r\nuser:1\r\n$6\r\nqqqqqq\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        "+OK\r\n$6\r\nqqqqqq\r\n",
    ]
)]
#[case::credentials(
    &[('>', "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n")],
    &["*3\r\n$4\r\nAUTH\r\n$2\r\nqq\r\n$6\r\nqqqqqq\r\n"]
)]
#[case::what_the_connection_goes_by(
    &[('>', "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n")],
    &["*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$2\r\nqq\r\n$6\r\nqqqqqq\r\n"]
)]
#[case::in_pieces(
    &[('>', "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\nsec"), ('>', "ret\r\n*1\r\n$4\r\nPING\r\n")],
    &["*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\nqqq", "qqq\r\n*1\r\n$4\r\nPING\r\n"]
)]
#[case::replies(
    &[('<', "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n-ERR secret\r\n:1\r\n:4711\r\n*2\r\n$-1\r\n$7\r\nmessage\r\n+secret\r\n")],
    &["-WRONGTYPE Operation against a key holding the wrong kind of value\r\n-ERR qqqqqq\r\n:1\r\n:1111\r\n*2\r\n$-1\r\n$7\r\nmessage\r\n+qqqqqq\r\n"]
)]
#[case::inline(&[('>', "SET k secret\r\n")], &[""])]
fn redis(#[case] pieces: &[(char, &str)], #[case] expected: &[&str]) {
    let kept = kept(false, "Redis", pieces);
    assert_eq!(kept, expected);
    assert!(!kept.concat().contains("secret"), "{kept:?}");
}

#[test]
fn nothing_is_kept_of_what_cannot_be_overwritten() {
    for protocol in ["PostgreSQL", "AMQP", "Kafka", "another"] {
        assert_eq!(kept(false, protocol, &[('>', "secret"), ('<', "secret")]), ["", ""]);
    }
    let mut scrubber = Scrubber::new(false);
    assert_eq!(scrubber.scrub(&operation(true, 0, b"secret", 6), None), Payload::default());
}

#[test]
fn after_a_hole_nothing_is_kept_until_a_message_begins() {
    let mut scrubber = Scrubber::new(false);
    let mut scrub = |offset, text: &[u8], length| {
        let spoken = Some(("HTTP/1", Role::Server));
        let payload = scrubber.scrub(&operation(false, offset, text, length), spoken);
        String::from_utf8(payload.bytes).unwrap()
    };
    let head = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1";
    // It goes on, uncaptured.
    assert_eq!(scrub(0, head, 1000).len(), head.len());
    assert_eq!(scrub(1000, b"secret", 6), "");
    assert_eq!(scrub(1006, b"GET /b HTTP/1.1\r\n\r\n", 19), "GET /b HTTP/1.1\r\n\r\n");
    // Bytes passed unseen.
    assert_eq!(scrub(2000, b"X: secret\r\n", 11), "");
}

const POSTGRES: &str = "p\0\0\0\u{b}secret\0";
const POSTGRES_SASL: &str = "p\0\0\0\u{21}SCRAM-SHA-256\0\0\0\0\u{9}secret";
const AMQP: &str = "\u{1}\0\0\0\0\0\u{10}\0\u{a}\0\u{b}PLAIN secret\u{1}";
const KAFKA: &str = "\0\0\0\u{14}\0\u{24}\0\u{2}\0\0\0\u{1}\0\u{1}a\0secret";

#[rstest]
#[case::authorization(
    "HTTP/1",
    "GET /a?b HTTP/1.1\r\nX: kept\r\nauthorization: Basic secret\r\nY: kept\r\n\r\nkept"
)]
#[case::proxy("HTTP/1", "GET /a?b HTTP/1.1\r\nX: kept\r\nProxy-Authorization:secret\r\n\r\nkept")]
#[case::cookie(
    "HTTP/1",
    "GET /a?b HTTP/1.1\r\nX: kept\r\nCookie: a=secret\r\n folded=secret\r\n\r\nkept"
)]
#[case::set_cookie(
    "HTTP/1",
    "HTTP/1.1 200 OK\r\nX: kept\r\nSet-Cookie: a=secret; Path=/\r\n\r\nkept"
)]
#[case::auth("Redis", "*2\r\n$4\r\nauth\r\n$6\r\nsecret\r\n*2\r\n$3\r\nGET\r\n$4\r\nkept\r\n")]
#[case::auth_like_resp(
    "Redis",
    "*2\r\n$4\r\nAUTH\r\n$15\r\n*1\r\n$ecretsecret\r\n*2\r\n$3\r\nGET\r\n$4\r\nkept\r\n"
)]
#[case::hello(
    "Redis",
    "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$6\r\nsecret\r\n*1\r\n$4\r\nkept\r\n"
)]
#[case::inline("Redis", "AUTH u secret\r\nHELLO 3 AUTH u secret\r\nGET kept\r\n")]
#[case::password("PostgreSQL", &format!("{POSTGRES}Q\0\0\0\u{9}kept\0"))]
#[case::postgres_sasl("PostgreSQL", &format!("{POSTGRES_SASL}Q\0\0\0\u{9}kept\0"))]
#[case::start_ok("AMQP", AMQP)]
#[case::sasl_authenticate("Kafka", KAFKA)]
fn credentials_are_never_kept(#[case] protocol: &'static str, #[case] text: &str) {
    let whole = kept(true, protocol, &[('>', text)]).concat();
    assert_eq!(whole.matches("kept").count(), text.matches("kept").count(), "{whole:?}");
    for at in 1..text.len() {
        let (first, rest) = text.split_at(at);
        // Two sends, and one of which the protocol is not known yet.
        let pieces = kept(true, protocol, &[('>', first), ('>', rest)]);
        let mut scrubber = Scrubber::new(true);
        let unknown = scrubber.scrub(&operation(true, 0, text.as_bytes(), text.len() as u32), None);
        let unknown = String::from_utf8(unknown.bytes).unwrap();
        for kept in [&whole, &pieces.concat(), &unknown] {
            assert!(!kept.contains("secret") && !kept.contains("ecretsecret"), "{at}: {kept:?}");
        }
        for part in ["secre", "ecret", "ret\r"] {
            assert!(!pieces.concat().contains(part), "{at}: {pieces:?}");
        }
        // What follows is understood as before.
        let behind = text.rfind("secret\r\n").filter(|_| protocol == "Redis").map(|at| at + 8);
        let behind = behind.and_then(|at| text.get(at..)).unwrap_or_default();
        assert!(pieces.concat().ends_with(behind), "{at}: {pieces:?}");
    }
}

#[test]
fn a_token_without_a_request_around_it_is_not_kept() {
    let handshake = "\0\0\0\u{11}\0\u{11}\0\0\0\0\0\u{1}\0\u{1}a\0\u{5}PLAIN";
    let token = "\0\0\0\u{c}\0user\0secret";
    let metadata = "\0\0\0\u{f}\0\u{3}\0\u{1}\0\0\0\u{2}\0\u{1}akept";
    let kept = kept(true, "Kafka", &[('>', handshake), ('>', token), ('>', metadata)]);
    assert_eq!(kept, [handshake, "\0\0\0\u{c}", metadata]);
}

#[test]
fn a_credential_goes_on_behind_what_was_not_captured() {
    let mut scrubber = Scrubber::new(true);
    let head = b"GET /a HTTP/1.1\r\nCookie: sec";
    let cut = Operation { tail: b"ret\r\nX: kept\r\n\r\n", ..operation(true, 0, head, 1000) };
    let payload = scrubber.scrub(&cut, Some(("HTTP/1", Role::Client)));
    assert_eq!(payload.bytes, b"GET /a HTTP/1.1\r\nCookie:qqqq");
    assert_eq!(payload.tail, b"qqq\r\nX: kept\r\n\r\n");
}
