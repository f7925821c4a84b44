//! Is this Redis, and which side of it? A pure function of a stream's first bytes.
//!
//! Strict, for RESP's type bytes are ordinary characters. Commands are known by their name: an array of
//! strings is also what a server answers. Of what is not certain to be one or the other: no.

use super::{Detected, reply::integer, table};
use crate::limits;

/// Recognises a command that Redis or one of its usual modules has, in an array of bulk strings or a bare
/// `PING`; or a reply. Other inline commands are read once a connection is known to be one of Redis, but
/// too many protocols look like them.
///
/// An array of strings that a server answers, whose first is a command's name and whose number fits that
/// command, is taken for the command: who knows which side is which should rather go by that. Of one whose first is a
/// word in upper case that isn't known, as a newer server's or a module's command would be, what the other side says has
/// to decide.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detected {
    let Some((&kind, rest)) = bytes.split_first() else { return Detected::NeedMore };
    match kind {
        b'p' | b'P' => prefix_of(bytes, &[b"PING\r\n"], Detected::Requests),
        b'+' => {
            let lines: &[&[u8]] = &[b"+OK\r\n", b"+PONG\r\n", b"+QUEUED\r\n", b"+RESET\r\n"];
            prefix_of(bytes, lines, Detected::Responses)
        }
        b'-' => error(rest),
        b':' => number(rest, |_| Some(Detected::Responses)),
        b'_' => prefix_of(bytes, &[b"_\r\n"], Detected::Responses),
        b'#' => prefix_of(bytes, &[b"#t\r\n", b"#f\r\n"], Detected::Responses),
        b'$' => number(rest, |length| (length >= -1).then_some(Detected::Responses))
            .and_then(|| string_end(rest)),
        b'*' => array(rest),
        b'%' | b'~' | b'>' => aggregate(rest),
        _ => Detected::No,
    }
}

impl Detected {
    /// What `next` says, where this says that all is well so far.
    fn and_then(self, next: impl FnOnce() -> Self) -> Self {
        if matches!(self, Self::Requests | Self::Responses) { next() } else { self }
    }
}

/// Whether `bytes` begin with one of `lines`, in whatever case.
fn prefix_of(bytes: &[u8], lines: &[&[u8]], then: Detected) -> Detected {
    let mut decided = Detected::No;
    for line in lines {
        let common = bytes.len().min(line.len());
        let begins = bytes.iter().zip(line.iter()).all(|(byte, it)| byte.eq_ignore_ascii_case(it));
        if begins {
            if common == line.len() {
                return then;
            }
            decided = Detected::NeedMore;
        }
    }
    decided
}

/// A number and its line end.
fn number(bytes: &[u8], judge: impl FnOnce(i64) -> Option<Detected>) -> Detected {
    match line(bytes) {
        Err(undecided) => undecided,
        Ok((digits, _)) => integer(digits).and_then(judge).unwrap_or(Detected::No),
    }
}

/// A line of digits, and what follows it.
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Detected> {
    let digits = bytes
        .iter()
        .enumerate()
        .take_while(|&(at, &byte)| byte.is_ascii_digit() || (at == 0 && byte == b'-'))
        .count();
    // No leading zeros, no more digits than any count has.
    let first = bytes.first().copied();
    if digits > 20 || (first == Some(b'0') && digits > 1) {
        return Err(Detected::No);
    }
    match bytes.get(digits..).unwrap_or_default() {
        [] | [b'\r'] => Err(Detected::NeedMore),
        [b'\r', b'\n', rest @ ..] => Ok((bytes.get(..digits).unwrap_or_default(), rest)),
        _ => Err(Detected::No),
    }
}

fn error(rest: &[u8]) -> Detected {
    let word = rest.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let code = rest.get(..word).unwrap_or_default();
    let after = rest.get(word).copied();
    // POP3 says -ERR as well.
    if after.is_none() && code.len() <= 16 {
        return Detected::NeedMore;
    }
    if after == Some(b' ') && code != b"ERR" && super::error::is_code(code) {
        return Detected::Responses;
    }
    if after == Some(b' ') && code == b"ERR" {
        let told: &[&[u8]] = &[
            b"ERR unknown command ",
            b"ERR unknown subcommand ",
            b"ERR wrong number of arguments for ",
            b"ERR value is not an integer or out of range",
            b"ERR syntax error\r\n",
            b"ERR no such key\r\n",
        ];
        return prefix_of(rest, told, Detected::Responses);
    }
    Detected::No
}

/// As much of a string's end as is there.
fn string_end(rest: &[u8]) -> Detected {
    let Ok((digits, payload)) = line(rest) else { return Detected::No };
    let length = integer(digits).and_then(|length| usize::try_from(length).ok());
    let end = length.and_then(|length| payload.get(length..)).unwrap_or_default();
    match end {
        [] | [b'\r'] | [b'\r', b'\n', ..] => Detected::Responses,
        _ => Detected::No,
    }
}

fn array(rest: &[u8]) -> Detected {
    let (count, elements) = match line(rest) {
        Err(undecided) => return undecided,
        Ok((digits, elements)) => (integer(digits), elements),
    };
    let Some(count @ -1..=limits::REDIS_ARGUMENTS) = count else { return Detected::No };
    if count <= 0 {
        return Detected::Responses;
    }
    if !elements.starts_with(b"$") {
        return element(elements);
    }
    let (name, after) = match string(elements) {
        Ok(string) => string,
        Err(undecided) => return undecided,
    };
    // Of a string longer than any name nothing more need be seen.
    let Some(name) = name.filter(|name| name.len() <= limits::REDIS_NAME_BYTES) else {
        return Detected::Responses;
    };
    let upper = name.to_ascii_uppercase();
    let known = table::find(name).is_some_and(|spec| spec.takes(count));
    if known || table::MODULES.iter().any(|it| upper.starts_with(it)) {
        Detected::Requests
    } else if upper == name && super::command::is_name(name) {
        unknown_command(count - 1, after)
    } else if upper == name && name.first().is_some_and(u8::is_ascii_uppercase) {
        // A server's word.
        Detected::No
    } else {
        Detected::Responses
    }
}

/// A string of an array with what follows it; `None`: a null, or longer than a name and so perhaps not all there.
fn string(bytes: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Detected> {
    let Some(string) = bytes.strip_prefix(b"$") else {
        return Err(if bytes.is_empty() { Detected::NeedMore } else { Detected::No });
    };
    let (digits, payload) = line(string)?;
    let length = integer(digits).filter(|length| *length >= -1).ok_or(Detected::No)?;
    let Ok(length) = usize::try_from(length) else { return Ok((None, payload)) };
    let Some(text) = payload.get(..length) else {
        let name = length <= limits::REDIS_NAME_BYTES;
        return if name { Err(Detected::NeedMore) } else { Ok((None, &[])) };
    };
    match payload.get(length..).unwrap_or_default() {
        [] | [b'\r'] => Err(Detected::NeedMore),
        [b'\r', b'\n', after @ ..] => Ok((Some(text), after)),
        _ => Err(Detected::No),
    }
}

/// The rest of what may be a command that isn't known: strings as long as they say, and whatever follows them, which
/// may be one that is known.
fn unknown_command(arguments: i64, mut rest: &[u8]) -> Detected {
    for _ in 0..arguments {
        match string(rest) {
            Ok((Some(_), after)) => rest = after,
            // Servers answer nulls.
            Ok((None, _)) if rest.starts_with(b"$-") => return Detected::No,
            Ok((None, _)) | Err(Detected::NeedMore) => return Detected::NeedMore,
            Err(undecided) => return undecided,
        }
    }
    match rest.first() {
        None | Some(b'*') => Detected::NeedMore,
        Some(_) => Detected::No,
    }
}

fn aggregate(rest: &[u8]) -> Detected {
    match line(rest) {
        Err(undecided) => undecided,
        Ok((digits, elements)) => match integer(digits) {
            Some(0) => Detected::Responses,
            Some(1..) => element(elements),
            _ => Detected::No,
        },
    }
}

/// An aggregate's first element.
fn element(bytes: &[u8]) -> Detected {
    let Some((&kind, rest)) = bytes.split_first() else { return Detected::NeedMore };
    match kind {
        b'$' | b':' | b'*' | b'%' | b'~' | b'=' => {
            number(rest, |number| (number >= -1 || kind == b':').then_some(Detected::Responses))
        }
        b'+' | b'-' => match rest.first() {
            None => Detected::NeedMore,
            Some(byte) if byte.is_ascii_alphanumeric() => Detected::Responses,
            Some(_) => Detected::No,
        },
        b'_' | b'#' | b',' => detect_scalar(kind, bytes),
        _ => Detected::No,
    }
}

fn detect_scalar(kind: u8, bytes: &[u8]) -> Detected {
    match kind {
        b'_' => prefix_of(bytes, &[b"_\r\n"], Detected::Responses),
        b'#' => prefix_of(bytes, &[b"#t\r\n", b"#f\r\n"], Detected::Responses),
        _ => match bytes.get(1) {
            None => Detected::NeedMore,
            Some(byte) if byte.is_ascii_digit() || matches!(byte, b'-' | b'i' | b'n') => {
                Detected::Responses
            }
            Some(_) => Detected::No,
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"*1\r\n$4\r\nPING\r\n", Detected::Requests)]
    #[case(b"*3\r\n$3\r\nset\r\n", Detected::Requests)]
    #[case(b"*2\r\n$8\r\nJSON.GET\r\n", Detected::Requests)]
    #[case(b"PING\r\n", Detected::Requests)]
    #[case(b"+OK\r\n", Detected::Responses)]
    #[case(b"+PONG\r\n", Detected::Responses)]
    #[case(b"-WRONGTYPE ", Detected::Responses)]
    #[case(b"-ERR unknown command ", Detected::Responses)]
    #[case(b":1000\r\n", Detected::Responses)]
    #[case(b":-1\r\n", Detected::Responses)]
    #[case(b"$-1\r\n", Detected::Responses)]
    #[case(b"$5\r\n", Detected::Responses)]
    #[case(b"*-1\r\n", Detected::Responses)]
    #[case(b"*0\r\n", Detected::Responses)]
    #[case(b"*2\r\n$4\r\nword\r\n", Detected::Responses)]
    // A hash with a field of a command's name, and more arguments than the command has.
    #[case(b"*6\r\n$4\r\ntype\r\n", Detected::Responses)]
    #[case(b"*2\r\n:1\r\n", Detected::Responses)]
    #[case(b"*2\r\n$300\r\n", Detected::Responses)]
    #[case(b"%7\r\n$6\r\n", Detected::Responses)]
    #[case(b">3\r\n$7\r\n", Detected::Responses)]
    #[case(b"~0\r\n", Detected::Responses)]
    #[case(b"_\r\n", Detected::Responses)]
    #[case(b"#t\r\n", Detected::Responses)]
    fn a_beginning_is_recognised_at_its_end_and_every_prefix_needs_more(
        #[case] bytes: &[u8],
        #[case] expected: Detected,
    ) {
        for len in 0..bytes.len() {
            assert_eq!(detect(&bytes[..len]), Detected::NeedMore, "{len}");
        }
        assert_eq!(detect(bytes), expected);
    }

    #[rstest]
    #[case(b"GET / HTTP/1.1\r\n")]
    #[case(b"POST /a HTTP/1.1\r\n")]
    #[case(b"PUT /a HTTP/1.1\r\n")]
    #[case(b"HTTP/1.1 200 OK\r\n")]
    #[case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]
    #[case(b"\x16\x03\x01\x02\x00")]
    #[case(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")]
    #[case(b"\x00\x00\x00\x54\x00\x03\x00\x00user\x00")]
    #[case(b"Q\x00\x00\x00\x0dSELECT 1\x00")]
    #[case(b"AMQP\x00\x00\x09\x01")]
    #[case(b"\x60\x60\xb0\x17\x00\x00\x01\x04")]
    #[case(b"SSH-2.0-OpenSSH_9.2p1\r\n")]
    #[case(b"+OK POP3 ready\r\n")]
    #[case(b"-ERR no such message\r\n")]
    #[case(b"get key\r\n")]
    #[case(b"set key 0 0 5\r\nhello\r\n")]
    #[case(b"PING :irc.example.org\r\n")]
    #[case(b":irc.example.org 001 me\r\n")]
    #[case(b"220 mail.example.org ESMTP\r\n")]
    #[case(b"INFO {\"server_id\":\"a\"}\r\n")]
    #[case(b"*1\r\n$3\r\nABC\r\nABC")]
    #[case(b"*2\r\n$3\r\nABC\r\n:1\r\n")]
    #[case(b"*2\r\n$3\r\nABC\r\n$-1\r\n")]
    #[case(b"*2\r\n$3\r\nABC\r\n$1\r\nab")]
    #[case(b"*1\r\nPING\r\n")]
    #[case(b"*01\r\n$4\r\nPING\r\n")]
    #[case(b"$GPGGA,123519\r\n")]
    #[case(b"$5\r\nhello!!")]
    #[case(b"$-2\r\n")]
    #[case(b"*99999999999\r\n$4\r\nPING\r\n")]
    fn what_is_not_redis_is_refused_for_good(#[case] bytes: &[u8]) {
        assert_eq!(detect(bytes), Detected::No);
        // Once refused, more bytes change nothing.
        let mut refused = false;
        for len in 0..=bytes.len() {
            match detect(&bytes[..len]) {
                Detected::No => refused = true,
                Detected::NeedMore => assert!(!refused, "{len}"),
                // The length of a string is enough; only its end may speak against it.
                decided => assert!(bytes.starts_with(b"$5\r\n"), "{decided:?} at {len}"),
            }
        }
    }

    #[rstest]
    #[case(b"*1\r\n$3\r\nABC\r\n")]
    #[case(b"*3\r\n$9\r\nNEW.THING\r\n$0\r\n\r\n$3\r\nabc\r\n*1\r\n")]
    #[case(b"*2\r\n$3\r\nABC\r\n$3000\r\nabc")]
    fn a_command_that_is_not_known_is_left_to_what_it_is_answered(#[case] bytes: &[u8]) {
        for len in 0..=bytes.len() {
            assert_eq!(detect(&bytes[..len]), Detected::NeedMore, "{len}");
        }
    }

    #[test]
    fn neither_protocol_takes_the_others_beginnings() {
        use crate::http1;
        for redis in [&b"*1\r\n$4\r\nPING\r\n"[..], b"+OK\r\n", b"PING\r\n"] {
            assert_eq!(http1::detect(redis), Detected::No);
        }
    }
}
