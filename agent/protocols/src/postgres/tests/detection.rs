//! What the first bytes of a stream, or of a request, are taken for.

use rstest::rstest;

use super::super::detect::{Shows, begins_request, detect, shows_turns};
use super::ask;
use crate::exchange::Detected;

#[rstest]
#[case(b"\0\0\0\x1e\0\x03\0\0user\0app\0", Detected::Requests)]
#[case(b"\0\0\0\x08\x04\xd2\x16\x2f", Detected::Requests)]
#[case(b"\0\0\0\x08\x04\xd2\x16\x30", Detected::Requests)]
#[case(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02", Detected::Requests)]
#[case(b"Q\0\0\0\x0dSELECT 1\0", Detected::Requests)]
#[case(b"Q\0\0\0\x0c  begin\0", Detected::Requests)]
#[case(b"Q\0\0\0\x05\0", Detected::Requests)]
#[case(b"P\0\0\0\x13s1\0SELECT $1\0\0\0", Detected::Requests)]
#[case(b"B\0\0\0\x12\0s1\0\0\x01\0\x01\0\x01", Detected::Requests)]
#[case(b"R\0\0\0\x08\0\0\0\0", Detected::Responses)]
#[case(b"NR\0\0\0\x08\0\0\0\0", Detected::Responses)]
#[case(b"S\x16\x03", Detected::Responses)]
#[case(b"E\0\0\0\x50SFATAL\0", Detected::Responses)]
#[case(b"1\0\0\0\x042\0\0\0\x04", Detected::Responses)]
#[case(b"T\0\0\0\x1b\0\x01id\0", Detected::Responses)]
#[case(b"C\0\0\0\x0dSELECT 5\0", Detected::Responses)]
#[case(b"Z\0\0\0\x05I", Detected::Responses)]
fn a_first_message_is_recognised_and_every_prefix_needs_more(
    #[case] bytes: &[u8],
    #[case] expected: Detected,
) {
    let mut decided = false;
    for len in 0..=bytes.len() {
        match detect(&bytes[..len]) {
            Detected::NeedMore => assert!(!decided, "{len}"),
            found => {
                assert_eq!(found, expected, "{len}");
                decided = true;
            }
        }
    }
    assert_eq!(detect(bytes), expected);
    assert_eq!(detect(&[bytes, b"\xff\x00 whatever"].concat()), expected);
}

#[rstest]
#[case(b"GET / HTTP/1.1\r\n")]
#[case(b"POST / HTTP/1.1\r\n")]
#[case(b"HTTP/1.1 200 OK\r\n")]
#[case(b"PRI * HTTP/2.0\r\n\r\n")]
#[case(b"*1\r\n$4\r\nPING\r\n")]
#[case(b"+OK\r\n")]
#[case(b":1\r\n")]
#[case(b"PING\r\n")]
#[case(b"\x16\x03\x01\x02\x00\x01")]
#[case(b"AMQP\x00\x00\x09\x01")]
#[case(b"\x01\x00\x00\x00\x00\x01\xce")]
#[case(b"SSH-2.0-OpenSSH_9.2p1\r\n")]
#[case(b"220 mail ESMTP\r\n")]
#[case(b"\0\0\0\x20\0\x12\0\x04\0\0\0\x01\0\x06client")]
#[case(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64")]
#[case(b"J\0\0\0\x0a5.7.1\0")]
#[case(b"Q\0\0\0\x0dHELLO 1!\0")]
#[case(b"Q\0\0\0\x0cSELECTED\0")]
#[case(b"\0\0\0\x08\x04\xd2\x16\x2d")]
#[case(b"\0\0\0\x10\0\x02\0\0user\0a\0")]
fn what_is_not_the_protocol_is_refused_for_good(#[case] bytes: &[u8]) {
    assert_eq!(detect(bytes), Detected::No);
    let mut refused = false;
    for len in 0..=bytes.len() {
        match detect(&bytes[..len]) {
            Detected::No => refused = true,
            Detected::NeedMore => assert!(!refused, "{len}"),
            decided => panic!("{decided:?} at {len}"),
        }
    }
}

#[rstest]
#[case(b"Q\0\0\0\x0dSELECT 1\0", 0, true)]
#[case(b"Q\0\0\0\x3dSELECT 1", 9, true)]
#[case(b"Q\0\0\0\x3dSE", 9, false)]
#[case(b"B\0\0\0\x0e\0s1\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04", 0, true)]
#[case(b"B\0\0\0\x0e\0s1\0\0\0\0\0\0\0what is this", 0, false)]
#[case(b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04", 0, true)]
#[case(b"E\0\0\0\x09\0\0\0\0\0", 0, false)]
#[case(b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04", 7, false)]
#[case(b"S\0\0\0\x04garbage", 0, false)]
#[case(b"d\0\0\0\x05x", 0, false)]
fn a_request_is_recognised_by_the_chain_of_its_messages(
    #[case] messages: &[u8],
    #[case] missing: u64,
    #[case] expected: bool,
) {
    assert_eq!(begins_request(messages, missing), expected);
}

#[test]
fn what_clients_that_take_turns_send_is_known_by_all_of_it() {
    let bound =
        [ask::bind("", "s", 3), ask::describe('P', ""), ask::execute("", 0), ask::sync()].concat();
    let parsed = [ask::parse("", "SELECT 1"), bound.clone()].concat();
    for request in [bound, parsed] {
        for len in 0..request.len() {
            assert_eq!(shows_turns(&request[..len]), None, "{len}");
        }
        assert_eq!(shows_turns(&request), Some(Shows::LikelyTurns));
        assert_eq!(shows_turns(&[request, ask::sync()].concat()), None);
    }
    for (name, known) in [("__asyncpg_stmt_5__", Some(Shows::Turns)), ("asyncpg", None)] {
        assert_eq!(shows_turns(&ask::parse(name, "SELECT 1, 2, 3")[..25]), known);
        assert_eq!(shows_turns(&ask::bind("", name, 9)[..25]), known);
    }
}
