//! Is this HTTP/1.x, and which side of it? A pure function of a stream's first bytes.
//!
//! Serves the choice of a parser and the parser's own resynchronisation. It reads the first line only
//! and decides nothing from the fields after it.

use memchr::memchr;

use super::{Detected, Direction, head::Method};
use crate::limits;

/// Recognises a request line (`METHOD SP target SP HTTP/1.x`) or a status line at the start of
/// `bytes`, after any empty lines (RFC 9112, 2.2).
///
/// Methods are upper-case letters, `-` and `_`: what is in use, and far from what other protocols begin
/// with. A first line longer than [`limits::HTTP1_HEAD_BYTES`] is none.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detected {
    match bytes.get(..limits::HTTP1_HEAD_BYTES) {
        None => classify(bytes),
        Some(capped) => match classify(capped) {
            Detected::NeedMore => Detected::No,
            decided => decided,
        },
    }
}

/// [`detect`] without its cap.
pub(super) fn classify(bytes: &[u8]) -> Detected {
    let line = skip_empty_lines(bytes);
    match (status_line(line), request_line(line)) {
        (Match::Yes, _) => Detected::Responses,
        (_, Match::Yes) => Detected::Requests,
        (Match::No, Match::No) => Detected::No,
        _ => Detected::NeedMore,
    }
}

/// Whether a message of this direction begins here, as far as `bytes` tell when `missing` more follow.
///
/// Stricter than "nothing speaks against it": used where framing is lost, so a request's method must be
/// registered (the end of a cut one is none), and the line be whole or cut by capture after its telling
/// part: the target's first character, the status code.
pub(super) fn begins_message(direction: Direction, bytes: &[u8], missing: u64) -> bool {
    let line = skip_empty_lines(bytes);
    match (detect(bytes), direction) {
        (Detected::Responses, Direction::Responses) => true,
        (Detected::NeedMore, Direction::Responses) => {
            missing > 0 && line.len() == STATUS_LINE_BYTES && line.starts_with(b"HTTP/1.")
        }
        (detected @ (Detected::Requests | Detected::NeedMore), Direction::Requests) => {
            let (method, rest) =
                memchr(b' ', line).and_then(|at| line.split_at_checked(at)).unwrap_or_default();
            let whole = detected == Detected::Requests;
            let telling = rest.starts_with(b" /") || rest.starts_with(b" http://");
            Method::is_registered(method) && (whole || (missing > 0 && telling))
        }
        _ => false,
    }
}

/// `bytes` without the empty lines (and stray CRs) that a robust recipient ignores before a message.
pub(super) fn skip_empty_lines(bytes: &[u8]) -> &[u8] {
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.get(empty..).unwrap_or_default()
}

/// `HTTP/1.x NNN`, without what follows the code.
pub(super) const STATUS_LINE_BYTES: usize = 12;

enum Match {
    Yes,
    Prefix,
    No,
}

fn status_line(line: &[u8]) -> Match {
    for (at, &byte) in line.iter().enumerate().take(STATUS_LINE_BYTES + 1) {
        let fits = match at {
            0..7 => b"HTTP/1.".get(at) == Some(&byte),
            7 => byte.is_ascii_digit(),
            8 => byte == b' ',
            9 => matches!(byte, b'1'..=b'9'),
            10..STATUS_LINE_BYTES => byte.is_ascii_digit(),
            _ => matches!(byte, b' ' | b'\r' | b'\n'),
        };
        if !fits {
            return Match::No;
        }
    }
    if line.len() > STATUS_LINE_BYTES { Match::Yes } else { Match::Prefix }
}

fn request_line(line: &[u8]) -> Match {
    let method = line.iter().take_while(|&&byte| is_method(byte)).count();
    if method > limits::HTTP1_METHOD_BYTES || (method == 0 && !line.is_empty()) {
        return Match::No;
    }
    let Some((&b' ', rest)) = line.get(method..).and_then(<[u8]>::split_first) else {
        return if method == line.len() { Match::Prefix } else { Match::No };
    };
    let target = rest.iter().take_while(|&&byte| byte > b' ' && byte != 0x7f).count();
    let Some((&b' ', version)) = rest.get(target..).and_then(<[u8]>::split_first) else {
        return if target == rest.len() { Match::Prefix } else { Match::No };
    };
    if target == 0 {
        return Match::No;
    }
    for (at, &byte) in version.iter().enumerate() {
        match at {
            0..7 if b"HTTP/1.".get(at) == Some(&byte) => {}
            7 if byte.is_ascii_digit() => {}
            8 if byte == b'\n' => return Match::Yes,
            8 if byte == b'\r' => {}
            9 if byte == b'\n' => return Match::Yes,
            _ => return Match::No,
        }
    }
    Match::Prefix
}

fn is_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"GET / HTTP/1.1\r\n", Detected::Requests)]
    #[case(b"\r\n\r\nGET / HTTP/1.1\r\n", Detected::Requests)]
    #[case(b"M-SEARCH * HTTP/1.1\n", Detected::Requests)]
    #[case(b"CONNECT example.org:443 HTTP/1.1\r\n", Detected::Requests)]
    #[case(b"GET http://example.org/a?b HTTP/1.0\r\n", Detected::Requests)]
    #[case(b"HTTP/1.1 200 ", Detected::Responses)]
    #[case(b"HTTP/1.0 404\r", Detected::Responses)]
    fn a_first_line_is_recognised_at_its_end_and_every_prefix_needs_more(
        #[case] line: &[u8],
        #[case] expected: Detected,
    ) {
        for len in 0..line.len() {
            assert_eq!(detect(&line[..len]), Detected::NeedMore, "{len}");
        }
        assert_eq!(detect(line), expected);
        let mut more = line.to_vec();
        more.extend_from_slice(b"\xff\x00 whatever");
        assert_eq!(detect(&more), expected);
    }

    #[rstest]
    #[case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]
    #[case(b"get / HTTP/1.1\r\n")]
    #[case(b"GET  / HTTP/1.1\r\n")]
    #[case(b"GET / HTTP/1.1 \r\n")]
    #[case(b"GET / HTTP/1.12\r\n")]
    #[case(b"GET /\r\n")]
    #[case(b"GET /\x00 HTTP/1.1\r\n")]
    #[case(b"HTTP/1.1 099 ")]
    #[case(b"HTTP/1.1  200 ")]
    #[case(b"HTTP/2 200 ")]
    #[case(b"*1\r\n$4\r\nPING\r\n")]
    #[case(b"\x16\x03\x01\x02\x00")]
    #[case(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")]
    #[case(b"AMQP\x00\x00\x09\x01")]
    #[case(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n")]
    #[case(b"SSH-2.0-OpenSSH_9.2p1\r\n")]
    fn what_is_not_http_1_is_refused_for_good(#[case] bytes: &[u8]) {
        assert_eq!(detect(bytes), Detected::No);
        // Once refused, more bytes change nothing.
        let mut refused = false;
        for len in 0..=bytes.len() {
            match detect(&bytes[..len]) {
                Detected::No => refused = true,
                Detected::NeedMore => assert!(!refused, "{len}"),
                decided => panic!("{decided:?} at {len}"),
            }
        }
    }

    #[test]
    fn a_first_line_without_end_is_refused_at_the_cap() {
        let mut line = b"GET /".to_vec();
        line.resize(limits::HTTP1_HEAD_BYTES - 1, b'a');
        assert_eq!(detect(&line), Detected::NeedMore);
        line.push(b'a');
        assert_eq!(detect(&line), Detected::No);
        line.extend_from_slice(b" HTTP/1.1\r\n");
        assert_eq!(detect(&line), Detected::No);
    }

    #[rstest]
    #[case(Direction::Requests, b"GET /a", 9, true)]
    #[case(Direction::Requests, b"GET /a", 0, false)]
    #[case(Direction::Requests, b"GET ", 9, false)]
    #[case(Direction::Requests, b"HELLO /a", 9, false)]
    #[case(Direction::Requests, b"ET /a HTTP/1.1\r\n", 0, false)]
    #[case(Direction::Requests, b"\r\nGET * HTTP/1.1\r\n", 0, true)]
    #[case(Direction::Requests, b"HTTP/1.1 200 OK\r\n", 9, false)]
    #[case(Direction::Responses, b"HTTP/1.1 200", 9, true)]
    #[case(Direction::Responses, b"HTTP/1.1 20", 9, false)]
    #[case(Direction::Responses, b"GET / HTTP/1.1\r\n", 9, false)]
    fn a_cut_first_line_counts_once_its_telling_part_is_there(
        #[case] direction: Direction,
        #[case] bytes: &[u8],
        #[case] missing: u64,
        #[case] expected: bool,
    ) {
        assert_eq!(begins_message(direction, bytes, missing), expected);
    }
}
