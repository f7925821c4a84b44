//! Reads bodies of messages: names, SQL text, start-up parameters, command tags and errors.
//!
//! Every body may be cut; what is not there in full is not known.

use std::{borrow::Cow, sync::Arc};

use super::{
    event::{CommandTag, Fact, Parameter, PgError, Transaction},
    message::MAJOR_VERSION,
};
use crate::limits;

/// A string up to its NUL, and what follows; `None`: there is no NUL.
pub(super) fn cstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    let (string, rest) = bytes.split_at_checked(end)?;
    Some((string, rest.get(1..).unwrap_or_default()))
}

/// SQL text up to its NUL, or as much as there is; whether it is cut.
pub(super) fn text(bytes: &[u8]) -> (Cow<'_, str>, bool) {
    match cstring(bytes) {
        Some((whole, _)) if whole.len() <= limits::POSTGRES_QUERY_BYTES => {
            (String::from_utf8_lossy(whole), false)
        }
        _ => {
            let kept = bytes.get(..limits::POSTGRES_QUERY_BYTES).unwrap_or(bytes);
            let kept = without_split_character(kept);
            (String::from_utf8_lossy(kept), true)
        }
    }
}

/// Without the character at the end of which only a part is there.
fn without_split_character(bytes: &[u8]) -> &[u8] {
    let split = bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
    // A part of a character has three bytes at most; more invalid ones are another encoding's.
    let len = bytes.len() - if split < 4 { split } else { 0 };
    bytes.get(..len).unwrap_or(bytes)
}

/// A short text; longer than a name may be, it is cut.
fn short(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.get(..limits::POSTGRES_NAME_BYTES).unwrap_or(bytes))
}

fn set_short(text: &mut String, bytes: &[u8]) {
    text.clear();
    text.push_str(&short(bytes));
}

/// What a `StartupMessage` of version 3 says, given what follows its version.
pub(super) fn startup(mut parameters: &[u8]) -> Fact {
    let (mut user, mut database, mut application_name) = (None, None, None);
    let mut whole = false;
    while let Some((name, rest)) = cstring(parameters) {
        if name.is_empty() {
            whole = true;
            break;
        }
        let Some((value, rest)) = cstring(rest) else { break };
        match name {
            b"user" => user = Some(short(value).into()),
            b"database" => database = Some(short(value).into()),
            b"application_name" => application_name = Some(short(value).into()),
            _ => {}
        }
        parameters = rest;
    }
    // Who names no database means the one that is called as the user is: only all of the message shows that.
    let user: Option<Box<str>> = if whole || database.is_some() { user } else { None };
    Fact::Startup { user, database, application_name }
}

/// Whether a `StartupMessage` asks for the protocol that is read here.
pub(super) fn is_version_3(code: u32) -> bool {
    code >> 16 == MAJOR_VERSION
}

/// `server_version` of a `ParameterStatus`.
pub(super) fn server_version(body: &[u8]) -> Option<Box<str>> {
    let (name, rest) = cstring(body)?;
    let (value, _) = cstring(rest)?;
    (name == b"server_version").then(|| short(value).into())
}

/// `None`: not a status.
pub(super) fn transaction(body: &[u8]) -> Option<Transaction> {
    match body {
        b"I" => Some(Transaction::Idle),
        b"T" => Some(Transaction::InTransaction),
        b"E" => Some(Transaction::Failed),
        _ => None,
    }
}

/// A `CommandComplete`'s tag: upper-case words, then for some commands numbers, of which the last
/// counts rows. `None`: cut, or no tag.
pub(super) fn command_tag(body: &[u8]) -> Option<CommandTag> {
    let (tag, _) = cstring(body)?;
    let tag = str::from_utf8(tag).ok()?;
    // Words, then numbers.
    let numbers = tag.as_bytes().windows(2).position(|at| matches!(at, [b' ', b'0'..=b'9']));
    let command = tag.get(..numbers.unwrap_or(tag.len()))?;
    let is_word = |byte: u8| byte.is_ascii_uppercase() || byte == b' ';
    if command.is_empty() || !command.bytes().all(is_word) {
        return None;
    }
    let rest = tag.get(command.len()..).unwrap_or_default();
    let usual = COMMANDS.binary_search(&command).ok().and_then(|at| COMMANDS.get(at));
    let command =
        usual.map_or_else(|| Cow::Owned(command.to_owned()), |usual| Cow::Borrowed(*usual));
    Some(CommandTag { command, rows: rest.rsplit(' ').next()?.parse().ok() })
}

/// The server's commands (`cmdtaglist.h`), which need no memory of their own; sorted.
const COMMANDS: [&str; 192] = [
    "ALTER ACCESS METHOD",
    "ALTER AGGREGATE",
    "ALTER CAST",
    "ALTER COLLATION",
    "ALTER CONSTRAINT",
    "ALTER CONVERSION",
    "ALTER DATABASE",
    "ALTER DEFAULT PRIVILEGES",
    "ALTER DOMAIN",
    "ALTER EVENT TRIGGER",
    "ALTER EXTENSION",
    "ALTER FOREIGN DATA WRAPPER",
    "ALTER FOREIGN TABLE",
    "ALTER FUNCTION",
    "ALTER INDEX",
    "ALTER LANGUAGE",
    "ALTER LARGE OBJECT",
    "ALTER MATERIALIZED VIEW",
    "ALTER OPERATOR",
    "ALTER OPERATOR CLASS",
    "ALTER OPERATOR FAMILY",
    "ALTER POLICY",
    "ALTER PROCEDURE",
    "ALTER PUBLICATION",
    "ALTER ROLE",
    "ALTER ROUTINE",
    "ALTER RULE",
    "ALTER SCHEMA",
    "ALTER SEQUENCE",
    "ALTER SERVER",
    "ALTER STATISTICS",
    "ALTER SUBSCRIPTION",
    "ALTER SYSTEM",
    "ALTER TABLE",
    "ALTER TABLESPACE",
    "ALTER TEXT SEARCH CONFIGURATION",
    "ALTER TEXT SEARCH DICTIONARY",
    "ALTER TEXT SEARCH PARSER",
    "ALTER TEXT SEARCH TEMPLATE",
    "ALTER TRANSFORM",
    "ALTER TRIGGER",
    "ALTER TYPE",
    "ALTER USER MAPPING",
    "ALTER VIEW",
    "ANALYZE",
    "BEGIN",
    "CALL",
    "CHECKPOINT",
    "CLOSE",
    "CLOSE CURSOR",
    "CLOSE CURSOR ALL",
    "CLUSTER",
    "COMMENT",
    "COMMIT",
    "COMMIT PREPARED",
    "COPY",
    "COPY FROM",
    "CREATE ACCESS METHOD",
    "CREATE AGGREGATE",
    "CREATE CAST",
    "CREATE COLLATION",
    "CREATE CONSTRAINT",
    "CREATE CONVERSION",
    "CREATE DATABASE",
    "CREATE DOMAIN",
    "CREATE EVENT TRIGGER",
    "CREATE EXTENSION",
    "CREATE FOREIGN DATA WRAPPER",
    "CREATE FOREIGN TABLE",
    "CREATE FUNCTION",
    "CREATE INDEX",
    "CREATE LANGUAGE",
    "CREATE MATERIALIZED VIEW",
    "CREATE OPERATOR",
    "CREATE OPERATOR CLASS",
    "CREATE OPERATOR FAMILY",
    "CREATE POLICY",
    "CREATE PROCEDURE",
    "CREATE PUBLICATION",
    "CREATE ROLE",
    "CREATE ROUTINE",
    "CREATE RULE",
    "CREATE SCHEMA",
    "CREATE SEQUENCE",
    "CREATE SERVER",
    "CREATE STATISTICS",
    "CREATE SUBSCRIPTION",
    "CREATE TABLE",
    "CREATE TABLE AS",
    "CREATE TABLESPACE",
    "CREATE TEXT SEARCH CONFIGURATION",
    "CREATE TEXT SEARCH DICTIONARY",
    "CREATE TEXT SEARCH PARSER",
    "CREATE TEXT SEARCH TEMPLATE",
    "CREATE TRANSFORM",
    "CREATE TRIGGER",
    "CREATE TYPE",
    "CREATE USER MAPPING",
    "CREATE VIEW",
    "DEALLOCATE",
    "DEALLOCATE ALL",
    "DECLARE CURSOR",
    "DELETE",
    "DISCARD",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DISCARD SEQUENCES",
    "DISCARD TEMP",
    "DO",
    "DROP ACCESS METHOD",
    "DROP AGGREGATE",
    "DROP CAST",
    "DROP COLLATION",
    "DROP CONVERSION",
    "DROP DATABASE",
    "DROP DOMAIN",
    "DROP EVENT TRIGGER",
    "DROP EXTENSION",
    "DROP FOREIGN DATA WRAPPER",
    "DROP FOREIGN TABLE",
    "DROP FUNCTION",
    "DROP INDEX",
    "DROP LANGUAGE",
    "DROP MATERIALIZED VIEW",
    "DROP OPERATOR",
    "DROP OPERATOR CLASS",
    "DROP OPERATOR FAMILY",
    "DROP OWNED",
    "DROP POLICY",
    "DROP PROCEDURE",
    "DROP PUBLICATION",
    "DROP REPLICATION SLOT",
    "DROP ROLE",
    "DROP ROUTINE",
    "DROP RULE",
    "DROP SCHEMA",
    "DROP SEQUENCE",
    "DROP SERVER",
    "DROP STATISTICS",
    "DROP SUBSCRIPTION",
    "DROP TABLE",
    "DROP TABLESPACE",
    "DROP TEXT SEARCH CONFIGURATION",
    "DROP TEXT SEARCH DICTIONARY",
    "DROP TEXT SEARCH PARSER",
    "DROP TEXT SEARCH TEMPLATE",
    "DROP TRANSFORM",
    "DROP TRIGGER",
    "DROP TYPE",
    "DROP USER MAPPING",
    "DROP VIEW",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "GRANT ROLE",
    "IMPORT FOREIGN SCHEMA",
    "INSERT",
    "LISTEN",
    "LOAD",
    "LOCK TABLE",
    "LOGIN",
    "MERGE",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "PREPARE TRANSACTION",
    "REASSIGN OWNED",
    "REFRESH MATERIALIZED VIEW",
    "REINDEX",
    "RELEASE",
    "RESET",
    "REVOKE",
    "REVOKE ROLE",
    "ROLLBACK",
    "ROLLBACK PREPARED",
    "SAVEPOINT",
    "SECURITY LABEL",
    "SELECT",
    "SELECT FOR KEY SHARE",
    "SELECT FOR NO KEY UPDATE",
    "SELECT FOR SHARE",
    "SELECT FOR UPDATE",
    "SELECT INTO",
    "SET",
    "SET CONSTRAINTS",
    "SHOW",
    "START TRANSACTION",
    "TRUNCATE TABLE",
    "UNLISTEN",
    "UPDATE",
    "VACUUM",
];

/// Reads an `ErrorResponse` into `error`, which is as new.
pub(super) fn error(mut body: &[u8], error: &mut PgError) {
    let (mut localized, mut schema, mut table) = (None, None, None);
    let (mut raised, mut whole) = (false, false);
    while let Some((&field, rest)) = body.split_first() {
        if field == 0 {
            whole = true;
            break;
        }
        let Some((value, rest)) = cstring(rest) else { break };
        match field {
            b'V' => set_short(&mut error.severity, value),
            b'S' => localized = Some(value),
            b'C' => set_short(&mut error.sqlstate, value),
            b'M' => masked(value, &mut error.message),
            b'P' => error.position = str::from_utf8(value).ok().and_then(|it| it.parse().ok()),
            b's' => schema = Some(value),
            b't' => table = Some(value),
            b'n' => set_short(&mut error.constraint, value),
            b'R' => raised = is_of_applications(value),
            _ => {}
        }
        body = rest;
    }
    if error.severity.is_empty() {
        // Before 9.6.
        error.severity.push_str(&localized.map(short).unwrap_or_default());
    }
    // Classes of PL/pgSQL, of routines in other languages, and of what nobody expected: those languages' errors are
    // such. Where the last field, the routine, is not there, anybody may have written it.
    let classes = ["P0", "38", "39", "XX"];
    if !whole || raised || classes.iter().any(|class| error.sqlstate.starts_with(class)) {
        error.message.clear();
    }
    if error.sqlstate == "57014"
        && let Some(end) = error.message.find(':')
    {
        // Of a COPY that the client broke off: its own words follow.
        error.message.truncate(end);
    }
    if let Some(table) = table {
        if let Some(schema) = schema {
            error.table.push_str(&short(schema));
            error.table.push('.');
        }
        error.table.push_str(&short(table));
    }
}

/// Whether a routine of the server's tells what an application wrote: PL/pgSQL's RAISE, the errors of PL/Python, PL/Perl
/// and PL/Tcl, and those that another server sent.
fn is_of_applications(routine: &[u8]) -> bool {
    const ROUTINES: [&[u8]; 4] =
        [b"exec_stmt_raise", b"throw_tcl_error", b"pgfdw_report_error", b"dblink_res_error"];
    const BEGINNINGS: [&[u8]; 3] = [b"PLy_", b"plperl", b"pltcl"];
    ROUTINES.contains(&routine) || BEGINNINGS.iter().any(|beginning| routine.starts_with(beginning))
}

/// An error's message without values: values are quoted, in whatever way the server's language does,
/// and may have quotation marks in themselves. `out` is empty, unless a message was there already.
fn masked(message: &[u8], out: &mut String) {
    out.clear();
    let message = String::from_utf8_lossy(message);
    let is_quote = |c: char| matches!(c, '"' | '\'' | '`') || !c.is_ascii();
    let (before, after) = match (message.find(is_quote), message.rfind(is_quote)) {
        // What an only quotation mark begins doesn't end.
        (Some(first), Some(last)) if first == last => (message.get(..first), ""),
        (Some(first), Some(last)) => {
            let after = message.get(last..).unwrap_or_default();
            (message.get(..first), after.strip_prefix(is_quote).unwrap_or_default())
        }
        _ => (Some(&*message), ""),
    };
    let mask = |text: &str, out: &mut String| {
        let mut in_number = false;
        for c in text.chars() {
            // Digits with the letters that stick to them: 0xff.
            let digit = c.is_ascii_digit() || (in_number && c.is_ascii_alphanumeric());
            match (digit, in_number) {
                (true, false) => out.push('?'),
                (true, true) => {}
                (false, _) => out.push(c),
            }
            in_number = digit;
        }
    };
    let before = before.unwrap_or_default();
    mask(before, out);
    if before.len() < message.len() {
        out.push('?');
    }
    mask(after, out);
    if out.len() > limits::POSTGRES_MESSAGE_BYTES {
        let mut end = limits::POSTGRES_MESSAGE_BYTES;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
    }
}

/// The parameters of a `Bind`, behind its two names, as far as they are there and are kept.
pub(super) fn parameters(bytes: &[u8]) -> Arc<[Parameter]> {
    let mut kept = Vec::new();
    let mut rest = bytes;
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(taken)
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    let formats = take(2).map(number).and_then(|count| take(2 * count)).unwrap_or_default();
    let count = take(2).map_or(0, number);
    for index in 0..count.min(limits::POSTGRES_PARAMETERS) {
        // None: all are text; one: it is for all.
        let format = match formats.len() {
            0 => 0,
            2 => number(formats),
            _ => formats.chunks_exact(2).nth(index).map_or(0, number),
        };
        let Some(length) = take(4) else { break };
        if length == [0xff; 4] {
            kept.push(Parameter::Null);
            continue;
        }
        let length = number(length);
        let Some(value) = take(length) else {
            // Cut, as what is behind it: a part tells what kind of thing it was.
            break;
        };
        let value = value.get(..limits::POSTGRES_PARAMETER_BYTES).unwrap_or(value);
        kept.push(match format {
            0 => Parameter::Text(String::from_utf8_lossy(value).into()),
            _ => Parameter::Binary(value.into()),
        });
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("SELECT 5", "SELECT", Some(5))]
    #[case("INSERT 0 1", "INSERT", Some(1))]
    #[case("CREATE TABLE", "CREATE TABLE", None)]
    #[case("COPY 18446744073709551615", "COPY", Some(u64::MAX))]
    #[case("BEGIN", "BEGIN", None)]
    fn tags_are_read(#[case] tag: &str, #[case] command: &str, #[case] rows: Option<u64>) {
        let read = command_tag(&[tag.as_bytes(), b"\0"].concat()).expect("a tag");
        assert_eq!((&*read.command, read.rows), (command, rows));
        assert_eq!(command_tag(tag.as_bytes()), None, "cut");
    }

    #[rstest]
    #[case(b"\0")]
    #[case(b"select 1\0")]
    #[case(b"5\0")]
    #[case(b"SEL\xffCT\0")]
    fn what_is_no_tag_is_none(#[case] body: &[u8]) {
        assert_eq!(command_tag(body), None);
    }

    #[rstest]
    #[case("division by zero", "division by zero")]
    #[case(
        "invalid input syntax for type integer: \"sec\"ret\"",
        "invalid input syntax for type integer: ?"
    )]
    #[case("column \"a\" of relation \"b\" does not exist", "column ? does not exist")]
    #[case(
        "value too long for type character varying(10)",
        "value too long for type character varying(?)"
    )]
    #[case(
        "invalid byte sequence for encoding \"UTF8\": 0xc3 0x28",
        "invalid byte sequence for encoding ?: ? ?"
    )]
    #[case("la relation « x » n'existe pas", "la relation ?existe pas")]
    #[case("\"secret", "?")]
    fn values_of_messages_are_masked(#[case] message: &str, #[case] expected: &str) {
        let mut out = String::new();
        masked(message.as_bytes(), &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn commands_are_found() {
        assert!(COMMANDS.is_sorted());
    }

    fn error(body: &[u8]) -> PgError {
        let mut error = PgError::default();
        super::error(body, &mut error);
        error
    }

    #[test]
    fn errors_are_read_as_far_as_they_go() {
        let body = b"SFEHLER\0VERROR\0C23505\0Mduplicate key value violates unique constraint \"k\"\0\
            DKey (email)=(secret) already exists.\0spublic\0tusers\0nk\0Fnbtinsert.c\0R_bt_check_unique\0\0";
        let whole = error(body);
        assert_eq!((&*whole.severity, &*whole.sqlstate), ("ERROR", "23505"));
        assert_eq!(whole.table, "public.users");
        assert_eq!(whole.constraint, "k");
        assert_eq!(whole.message, "duplicate key value violates unique constraint ?");
        for len in 0..body.len() {
            assert!(!format!("{:?}", error(&body[..len])).contains("secret"), "{len}");
        }
        let raised: &[u8] = b"SERROR\0VERROR\0C23505\0Mfree text of a user\0Rexec_stmt_raise\0\0";
        for len in 0..=raised.len() {
            assert_eq!(error(&raised[..len]).message, "", "{len}");
        }
        for (code, routine) in [("38000", "x"), ("XX000", "x"), ("22000", "PLy_elog_impl")] {
            let body = format!("SERROR\0C{code}\0Mfree text\0R{routine}\0\0");
            assert_eq!(error(body.as_bytes()).message, "", "{code} {routine}");
        }
        let broken_off =
            b"SERROR\0C57014\0MCOPY from stdin failed: ValueError: Jane\0RCopyGetData\0\0";
        assert_eq!(error(broken_off).message, "COPY from stdin failed");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(text("SELECT é\0".as_bytes()), (Cow::Borrowed("SELECT é"), false));
        assert_eq!(text(b"SELECT \xc3"), (Cow::Borrowed("SELECT "), true));
        assert_eq!(text(b"SELECT \xff\0").0, "SELECT \u{fffd}");
        let long = [b"x".repeat(limits::POSTGRES_QUERY_BYTES + 9), vec![0]].concat();
        let (kept, cut) = text(&long);
        assert!(cut && kept.len() == limits::POSTGRES_QUERY_BYTES);
    }
}
