//! Is this PostgreSQL's protocol 3, and which side of it? A pure function of a stream's first bytes.
//!
//! Serves the choice of a parser and, as [`begins_request`], the parser's own resynchronisation.

use super::message::{
    CANCEL_CODE, GSS_CODE, HEADER_BYTES, Header, MAJOR_VERSION, SSL_CODE, backend, frontend,
};
use crate::exchange::{Detected, Direction};

/// Recognises the first message, by its content and not by its header alone.
///
/// Of a client: `StartupMessage`, `SSLRequest`, `GSSENCRequest`, `CancelRequest`; `Query` and `Parse` of
/// something that is SQL; `Bind`. Of a server: the answer to a request for encryption with what follows
/// it, and the messages that an answer begins with. A bare `S`, `N` or `G` needs more.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detected {
    match (request(bytes), response(bytes)) {
        (Match::Yes, _) => Detected::Requests,
        (Match::No, Match::Yes) => Detected::Responses,
        (Match::No, Match::No) => Detected::No,
        _ => Detected::NeedMore,
    }
}

/// Whether a request begins at a piece's start, where framing was lost: a chain of valid messages that
/// ends with the piece or in a body, begun by one that is recognised by its content, or ended by `Sync`.
pub(super) fn begins_request(bytes: &[u8], missing: u64) -> bool {
    let recognised = match bytes.first() {
        Some(&(frontend::QUERY | frontend::PARSE | frontend::BIND)) => {
            match message_of_request(bytes) {
                Match::Yes => true,
                // Cut by capture: what is there speaks for it.
                Match::Prefix if missing > 0 && bytes.len() > HEADER_BYTES + 4 => true,
                _ => return false,
            }
        }
        Some(
            &(frontend::CLOSE
            | frontend::DESCRIBE
            | frontend::EXECUTE
            | frontend::SYNC
            | frontend::FUNCTION_CALL),
        ) => false,
        _ => return false,
    };
    let mut rest = bytes;
    let mut last = 0;
    while !rest.is_empty() {
        let Some(&header) = rest.first_chunk::<HEADER_BYTES>() else {
            // In the middle of a header: fine if the next piece has the rest, or capture cut it.
            return recognised;
        };
        let Some(header) = Header::read(Direction::Requests, header) else { return false };
        let Ok(body) = usize::try_from(header.body_bytes) else { return false };
        last = header.kind;
        match rest.get(HEADER_BYTES + body..) {
            Some(after) => rest = after,
            None => return recognised,
        }
    }
    recognised || (last == frontend::SYNC && missing == 0)
}

/// What a request shows of a driver that sends no other one before it has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// No other one makes such requests.
    Turns,
    /// One that was told to pipeline makes them too.
    LikelyTurns,
}

/// What a request shows of whether its driver takes turns, if anything.
///
/// node-postgres and libpq send `Bind`, `Describe` of the portal, `Execute` and `Sync` at once, with or without
/// `Parse` before, and the same in their pipeline modes where there is a `Sync` to each; asyncpg's names of statements
/// are its own, and it has no such mode.
pub(super) fn shows_turns(bytes: &[u8]) -> Option<Shows> {
    const ASYNCPG: &[u8] = b"__asyncpg_stmt_";
    let mut rest = bytes;
    let mut next = || {
        let (header, body) = framed(Direction::Requests, rest).ok()?;
        let (body, after) = body.split_at_checked(usize::try_from(header.body_bytes).ok()?)?;
        rest = after;
        Some((header.kind, body))
    };
    let statement = match bytes.first() {
        Some(&frontend::PARSE) => bytes.get(HEADER_BYTES..),
        Some(&frontend::BIND) => bytes.get(HEADER_BYTES..).and_then(|body| name(body).ok()),
        _ => return None,
    };
    if statement.is_some_and(|name| name.starts_with(ASYNCPG)) {
        return framed(Direction::Requests, bytes).ok().map(|_| Shows::Turns);
    }
    let mut message = next();
    if matches!(message, Some((frontend::PARSE, _))) {
        message = next();
    }
    let likely = matches!(message, Some((frontend::BIND, _)))
        && matches!(next(), Some((frontend::DESCRIBE, [b'P', ..])))
        && matches!(next(), Some((frontend::EXECUTE, _)))
        && matches!(next(), Some((frontend::SYNC, _)))
        && rest.is_empty();
    likely.then_some(Shows::LikelyTurns)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    Prefix,
    No,
}

impl Match {
    /// The first of two that says no or needs more decides.
    fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => other(),
            decided => decided,
        }
    }
}

fn request(bytes: &[u8]) -> Match {
    match bytes.first() {
        None => Match::Prefix,
        Some(0) => startup(bytes),
        _ => message_of_request(bytes),
    }
}

/// `bytes` begin with `expected`.
fn begins(bytes: &[u8], expected: &[u8]) -> Match {
    if bytes.starts_with(expected) {
        Match::Yes
    } else if expected.starts_with(bytes) {
        Match::Prefix
    } else {
        Match::No
    }
}

fn startup(bytes: &[u8]) -> Match {
    let length_fits = |length: u32| (8..=10_000).contains(&length);
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        // Below 65,536.
        return if bytes.iter().take(2).all(|&byte| byte == 0) { Match::Prefix } else { Match::No };
    };
    let length = u32::from_be_bytes(*length);
    if !length_fits(length) {
        return Match::No;
    }
    let mut matched = Match::No;
    for (code, exact) in [
        (SSL_CODE, Some(8)),
        (GSS_CODE, Some(8)),
        // A secret key of 4 bytes; since protocol 3.2 of up to 256.
        (CANCEL_CODE, None),
    ] {
        let fits = exact.map_or((16..=268).contains(&length), |exact| length == exact);
        match begins(rest, &code.to_be_bytes()) {
            Match::Yes if fits => return Match::Yes,
            Match::Prefix if fits => matched = Match::Prefix,
            _ => {}
        }
    }
    let version = u32::from(u16::try_from(MAJOR_VERSION).unwrap_or(3)).to_be_bytes();
    let [_, _, major @ ..] = version;
    let version_3 = begins(rest, &major).and(|| match rest.get(2..).unwrap_or_default() {
        [] => Match::Prefix,
        // The minor version, and the first parameter's name.
        [0] | [0, _] => Match::Prefix,
        [0, _, b'a'..=b'z' | b'_', ..] => Match::Yes,
        _ => Match::No,
    });
    if version_3 == Match::No { matched } else { version_3 }
}

/// The header, as far as it is there; its body.
fn framed(direction: Direction, bytes: &[u8]) -> Result<(Header, &[u8]), Match> {
    match bytes.split_first_chunk::<HEADER_BYTES>() {
        Some((header, body)) => {
            Header::read(direction, *header).map(|header| (header, body)).ok_or(Match::No)
        }
        // No length is above 0x3fff_ffff.
        None if bytes.get(1).is_none_or(|&byte| byte < 0x40) => Err(Match::Prefix),
        None => Err(Match::No),
    }
}

fn message_of_request(bytes: &[u8]) -> Match {
    if !matches!(bytes.first(), Some(&(frontend::QUERY | frontend::PARSE | frontend::BIND))) {
        return Match::No;
    }
    let (header, body) = match framed(Direction::Requests, bytes) {
        Ok(framed) => framed,
        Err(decided) => return decided,
    };
    let whole = body.len() >= usize::try_from(header.body_bytes).unwrap_or(usize::MAX);
    let matched = match header.kind {
        frontend::QUERY => sql(body),
        frontend::PARSE => match name(body) {
            Ok(text) => sql(text),
            Err(decided) => decided,
        },
        _ => match name(body).and_then(name) {
            Ok(formats) => parameter_formats(formats),
            Err(decided) => decided,
        },
    };
    // All of it is there and is not enough.
    if whole && matched == Match::Prefix { Match::No } else { matched }
}

/// What follows a name: printable, and no longer than drivers make them.
fn name(bytes: &[u8]) -> Result<&[u8], Match> {
    let printable = bytes.iter().take(129).take_while(|&&byte| byte > b' ' && byte != 0x7f).count();
    match bytes.get(printable) {
        _ if printable > 128 => Err(Match::No),
        None => Err(Match::Prefix),
        Some(0) => Ok(bytes.get(printable + 1..).unwrap_or_default()),
        Some(_) => Err(Match::No),
    }
}

/// The parameters' formats of a `Bind`: a number of them, each 0 or 1.
fn parameter_formats(bytes: &[u8]) -> Match {
    let Some((count, formats)) = bytes.split_first_chunk::<2>() else { return Match::Prefix };
    let count = usize::from(u16::from_be_bytes(*count));
    let mut formats = formats.chunks(2).take(count.min(4));
    let mut seen = 0;
    let fits = formats.all(|format| {
        seen += usize::from(format.len() == 2);
        matches!(format, [0, 0 | 1] | [0])
    });
    match (fits, seen == count.min(4)) {
        (false, _) => Match::No,
        (true, false) => Match::Prefix,
        (true, true) => Match::Yes,
    }
}

/// Text that begins like a statement.
fn sql(bytes: &[u8]) -> Match {
    const VERBS: &[&str] = &[
        "ABORT",
        "ALTER",
        "ANALYZE",
        "BEGIN",
        "CALL",
        "CHECKPOINT",
        "CLOSE",
        "CLUSTER",
        "COMMENT",
        "COMMIT",
        "COPY",
        "CREATE",
        "DEALLOCATE",
        "DECLARE",
        "DELETE",
        "DISCARD",
        "DO",
        "DROP",
        "END",
        "EXECUTE",
        "EXPLAIN",
        "FETCH",
        "GRANT",
        "IDENTIFY_SYSTEM",
        "IMPORT",
        "INSERT",
        "LISTEN",
        "LOAD",
        "LOCK",
        "MERGE",
        "MOVE",
        "NOTIFY",
        "PREPARE",
        "REASSIGN",
        "REFRESH",
        "REINDEX",
        "RELEASE",
        "RESET",
        "REVOKE",
        "ROLLBACK",
        "SAVEPOINT",
        "SECURITY",
        "SELECT",
        "SET",
        "SHOW",
        "START",
        "TABLE",
        "TRUNCATE",
        "UNLISTEN",
        "UPDATE",
        "VACUUM",
        "VALUES",
        "WITH",
    ];
    const MOST_SPACE: usize = 64;
    let space = bytes
        .iter()
        .take(MOST_SPACE)
        .take_while(|byte| byte.is_ascii_whitespace() || matches!(byte, b'(' | b';'))
        .count();
    let text = bytes.get(space..).unwrap_or_default();
    match text {
        // An empty query.
        [0, ..] => return Match::Yes,
        [b'-'] | [b'/'] => return Match::Prefix,
        [b'-', b'-', ..] | [b'/', b'*', ..] => return Match::Yes,
        _ => {}
    }
    let word = text
        .iter()
        .take(16)
        .take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'_')
        .count();
    let (word, after) = text.split_at_checked(word).unwrap_or_default();
    let is_verb = |verb: &&str| verb.as_bytes().eq_ignore_ascii_case(word);
    let may_be = |verb: &&str| {
        verb.as_bytes().get(..word.len()).is_some_and(|verb| verb.eq_ignore_ascii_case(word))
    };
    match after.first() {
        None if space < MOST_SPACE && VERBS.iter().any(may_be) => Match::Prefix,
        Some(after) if !after.is_ascii_digit() && VERBS.iter().any(is_verb) => Match::Yes,
        _ => Match::No,
    }
}

fn response(bytes: &[u8]) -> Match {
    match bytes {
        [] => return Match::Prefix,
        // The answer to a request for encryption: TLS follows a yes, authentication or an error a no.
        [b'S' | b'N' | b'G'] | [b'S', 0x16] => return Match::Prefix,
        [b'S', 0x16, 0x03, ..] => return Match::Yes,
        [b'N', rest @ ..] if matches!(rest, [b'R' | b'E', ..]) => {
            return message_of_response(rest);
        }
        _ => {}
    }
    message_of_response(bytes)
}

fn message_of_response(bytes: &[u8]) -> Match {
    use backend::*;
    let Some(&kind) = bytes.first() else { return Match::Prefix };
    let known = matches!(
        kind,
        AUTHENTICATION
            | ERROR
            | NOTICE
            | PARAMETER_STATUS
            | PARSE_COMPLETE
            | BIND_COMPLETE
            | CLOSE_COMPLETE
            | ROW_DESCRIPTION
            | COMMAND_COMPLETE
            | READY
    );
    if !known {
        return Match::No;
    }
    let (header, body) = match framed(Direction::Responses, bytes) {
        Ok(framed) => framed,
        Err(decided) => return decided,
    };
    match (kind, body) {
        // What follows is another message of a server.
        (PARSE_COMPLETE | BIND_COMPLETE | CLOSE_COMPLETE, rest) => match rest.first() {
            None => Match::Prefix,
            Some(
                b'1' | b'2' | b'3' | b't' | b'T' | b'n' | b'D' | b'C' | b'I' | b'E' | b'N' | b'Z',
            ) => Match::Yes,
            Some(_) => Match::No,
        },
        (AUTHENTICATION, [0, 0, 0, 0..=19, ..]) => Match::Yes,
        (AUTHENTICATION, code) if [0, 0, 0].starts_with(code) => Match::Prefix,
        (ERROR | NOTICE, [b'S', b'A'..=b'Z' | 0xc0.., ..]) => Match::Yes,
        (ERROR | NOTICE, [] | [b'S']) => Match::Prefix,
        (PARAMETER_STATUS, [b'a'..=b'z' | b'A'..=b'Z', ..]) => Match::Yes,
        (PARAMETER_STATUS, []) => Match::Prefix,
        // The number of columns, at most 1,664, and the first one's name.
        (ROW_DESCRIPTION, [0, 0, ..]) if header.body_bytes == 2 => Match::Yes,
        (ROW_DESCRIPTION, [0..=6, _, first, ..]) if *first >= b' ' => Match::Yes,
        (ROW_DESCRIPTION, [] | [0..=6] | [0..=6, _]) => Match::Prefix,
        (COMMAND_COMPLETE, [b'A'..=b'Z', b'A'..=b'Z', ..]) => Match::Yes,
        (COMMAND_COMPLETE, [] | [b'A'..=b'Z']) => Match::Prefix,
        (READY, [b'I' | b'T' | b'E', ..]) => Match::Yes,
        (READY, []) => Match::Prefix,
        _ => Match::No,
    }
}
