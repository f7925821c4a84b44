//! Message types of PostgreSQL's protocol 3, with the lengths that each can have.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>. A length counts itself and
//! not the type byte. The bounds are the server's own (`PQ_SMALL_MESSAGE_LIMIT` and
//! `PQ_LARGE_MESSAGE_LIMIT` in src/include/libpq/libpq.h).

use crate::exchange::Direction;
use crate::limits;

/// What clients send.
pub(super) mod frontend {
    pub(in crate::postgres) const BIND: u8 = b'B';
    pub(in crate::postgres) const CLOSE: u8 = b'C';
    pub(in crate::postgres) const COPY_DATA: u8 = b'd';
    pub(in crate::postgres) const COPY_DONE: u8 = b'c';
    pub(in crate::postgres) const COPY_FAIL: u8 = b'f';
    pub(in crate::postgres) const DESCRIBE: u8 = b'D';
    pub(in crate::postgres) const EXECUTE: u8 = b'E';
    pub(in crate::postgres) const FLUSH: u8 = b'H';
    pub(in crate::postgres) const FUNCTION_CALL: u8 = b'F';
    pub(in crate::postgres) const PARSE: u8 = b'P';
    /// `PasswordMessage`, `SASLResponse` and what else authentication needs.
    pub(in crate::postgres) const PASSWORD: u8 = b'p';
    pub(in crate::postgres) const QUERY: u8 = b'Q';
    pub(in crate::postgres) const SYNC: u8 = b'S';
    pub(in crate::postgres) const TERMINATE: u8 = b'X';
}

/// What servers send.
pub(super) mod backend {
    pub(in crate::postgres) const AUTHENTICATION: u8 = b'R';
    pub(in crate::postgres) const BACKEND_KEY_DATA: u8 = b'K';
    pub(in crate::postgres) const BIND_COMPLETE: u8 = b'2';
    pub(in crate::postgres) const CLOSE_COMPLETE: u8 = b'3';
    pub(in crate::postgres) const COMMAND_COMPLETE: u8 = b'C';
    pub(in crate::postgres) const COPY_BOTH: u8 = b'W';
    pub(in crate::postgres) const COPY_DATA: u8 = b'd';
    pub(in crate::postgres) const COPY_DONE: u8 = b'c';
    pub(in crate::postgres) const COPY_IN: u8 = b'G';
    pub(in crate::postgres) const COPY_OUT: u8 = b'H';
    pub(in crate::postgres) const DATA_ROW: u8 = b'D';
    pub(in crate::postgres) const EMPTY_QUERY: u8 = b'I';
    pub(in crate::postgres) const ERROR: u8 = b'E';
    pub(in crate::postgres) const FUNCTION_CALL: u8 = b'V';
    pub(in crate::postgres) const NEGOTIATE_VERSION: u8 = b'v';
    pub(in crate::postgres) const NO_DATA: u8 = b'n';
    pub(in crate::postgres) const NOTICE: u8 = b'N';
    pub(in crate::postgres) const NOTIFICATION: u8 = b'A';
    pub(in crate::postgres) const PARAMETER_DESCRIPTION: u8 = b't';
    pub(in crate::postgres) const PARAMETER_STATUS: u8 = b'S';
    pub(in crate::postgres) const PARSE_COMPLETE: u8 = b'1';
    pub(in crate::postgres) const PORTAL_SUSPENDED: u8 = b's';
    pub(in crate::postgres) const READY: u8 = b'Z';
    pub(in crate::postgres) const ROW_DESCRIPTION: u8 = b'T';
}

/// Codes that stand where a `StartupMessage` has its version.
pub(super) const CANCEL_CODE: u32 = 0x04d2_162e;
pub(super) const SSL_CODE: u32 = 0x04d2_162f;
pub(super) const GSS_CODE: u32 = 0x04d2_1630;
/// Major version 3 of the protocol, in the upper half.
pub(super) const MAJOR_VERSION: u32 = 3;

/// Bytes of a message's type and length.
pub(super) const HEADER_BYTES: usize = 5;
/// The longest body: the server's limit, less the length field.
const LARGE: u32 = 0x3fff_ffff - 4;
/// The longest body of messages that are small by nature.
const SMALL: u32 = 10_000 - 4;
/// The longest of those that authenticate (`PG_MAX_AUTH_TOKEN_LENGTH`).
const TOKEN: u32 = 65_535;
const NAME: usize = limits::POSTGRES_NAME_BYTES + 1;
const TEXT: usize = limits::POSTGRES_QUERY_BYTES + 1;

/// A message's type, its body's length, and how many bytes from the body's beginning are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// 0 of messages without a type.
    pub(super) kind: u8,
    pub(super) body_bytes: u32,
    pub(super) keep: usize,
}

impl Header {
    /// Reads the first [`HEADER_BYTES`]; `None`: no message begins so.
    pub(super) fn read(direction: Direction, bytes: [u8; HEADER_BYTES]) -> Option<Self> {
        let [kind, length @ ..] = bytes;
        let body_bytes = u32::from_be_bytes(length).checked_sub(4)?;
        let (least, most, keep) = match direction {
            Direction::Requests => frontend_lengths(kind)?,
            Direction::Responses => backend_lengths(kind)?,
        };
        (least..=most).contains(&body_bytes).then_some(Self { kind, body_bytes, keep })
    }

    /// Reads the length of a message without a type: `StartupMessage` and what stands in its place.
    pub(super) fn read_startup(bytes: [u8; 4]) -> Option<Self> {
        let body_bytes = u32::from_be_bytes(bytes).checked_sub(4)?;
        let keep = limits::POSTGRES_STARTUP_BYTES;
        (4..=SMALL).contains(&body_bytes).then_some(Self { kind: 0, body_bytes, keep })
    }
}

/// Shortest and longest body, and how much of it is kept.
fn frontend_lengths(kind: u8) -> Option<(u32, u32, usize)> {
    use frontend::*;
    Some(match kind {
        QUERY => (1, LARGE, TEXT),
        PARSE => (4, LARGE, NAME + TEXT),
        BIND => (8, LARGE, 2 * NAME + limits::POSTGRES_PARAMETERS_BYTES),
        EXECUTE => (5, SMALL, NAME),
        DESCRIBE | CLOSE => (2, SMALL, 1 + NAME),
        FUNCTION_CALL => (10, LARGE, 0),
        PASSWORD => (0, TOKEN, 0),
        COPY_DATA => (0, LARGE, 0),
        COPY_FAIL => (1, SMALL, 0),
        COPY_DONE | FLUSH | SYNC | TERMINATE => (0, 0, 0),
        _ => return None,
    })
}

fn backend_lengths(kind: u8) -> Option<(u32, u32, usize)> {
    use backend::*;
    Some(match kind {
        AUTHENTICATION => (4, TOKEN, 0),
        BACKEND_KEY_DATA => (8, 260, 4),
        BIND_COMPLETE | CLOSE_COMPLETE | COPY_DONE | EMPTY_QUERY | NO_DATA | PARSE_COMPLETE
        | PORTAL_SUSPENDED => (0, 0, 0),
        COMMAND_COMPLETE => (1, SMALL, limits::POSTGRES_TAG_BYTES),
        COPY_BOTH | COPY_IN | COPY_OUT => (3, SMALL, 0),
        COPY_DATA => (0, LARGE, 0),
        DATA_ROW => (2, LARGE, 0),
        ERROR => (1, LARGE, limits::POSTGRES_ERROR_BYTES),
        NOTICE | NOTIFICATION => (1, LARGE, 0),
        FUNCTION_CALL => (4, LARGE, 0),
        NEGOTIATE_VERSION => (8, SMALL, 0),
        PARAMETER_DESCRIPTION => (2, 2 + 4 * 65_535, 0),
        PARAMETER_STATUS => (2, LARGE, 2 * NAME),
        READY => (1, 1, 1),
        ROW_DESCRIPTION => (2, LARGE, 0),
        _ => return None,
    })
}

/// Whether a server may send it at any time, whatever was asked.
pub(super) fn is_asynchronous(kind: u8) -> bool {
    matches!(kind, backend::NOTICE | backend::NOTIFICATION | backend::PARAMETER_STATUS)
}
