//! An error reply as it may be told: its code, and its message without anything of the application's.
//!
//! Redis quotes arguments in its errors, and scripts make up errors of their own. So a message is told only if it is
//! one of Redis' own, and from the list of these: whatever it says of keys, names and numbers is a `?` there.

/// An error's code: its first word, if that is one of Redis' own; empty where it is not, or where not all of it came.
pub(super) fn code(line: &[u8], whole: bool) -> &str {
    let code = split(line).0.unwrap_or_default();
    if whole || line.len() > code.len() { code } else { "" }
}

/// An error's message, without values; empty where it is none of Redis' own, or where too little of it came to say so.
pub(super) fn message(line: &[u8], whole: bool) -> &'static str {
    let (_, message) = split(line);
    let message = message.trim_ascii_start();
    // What a script ran into is told with its place there.
    let place = memchr::memmem::find(message, b" script: ");
    let (message, whole) = match place.and_then(|at| message.get(..at)) {
        Some(before) => (before, true),
        None => (message, whole),
    };
    let message = bare(message);
    // There are some hundred: most are told from it by their first byte.
    let may_fit = |template: &&&str| {
        let first = template.as_bytes().first();
        first == message.first() || first == Some(&b'?')
    };
    let fits = |template: &&&str| fits(template.as_bytes(), message, whole);
    MESSAGES.iter().filter(may_fit).find(fits).copied().unwrap_or_default()
}

/// Code and message.
fn split(line: &[u8]) -> (Option<&str>, &[u8]) {
    let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
    match line.split_at_checked(end) {
        Some((first, rest)) if is_code(first) => (str::from_utf8(first).ok(), rest),
        _ => (None, line),
    }
}

pub(super) fn is_code(word: &[u8]) -> bool {
    (2..=32).contains(&word.len())
        && word.iter().all(|&byte| byte.is_ascii_uppercase() || byte == b'_')
        && (word == b"ERR" || CODES.split_ascii_whitespace().any(|code| code.as_bytes() == word))
}

/// Overwrites what an error says beyond Redis' own words, by a letter. The line is without its sign and its end.
pub fn overwrite_error(line: &mut [u8], filler: u8) {
    let template = message(line, true);
    let said = split(line).1.trim_ascii_start().len();
    let from = line.len().saturating_sub(said);
    let message = line.get_mut(from..).unwrap_or_default();
    // Whose holes are where is told by the pieces between them, as `fits` finds them.
    let mut at = 0;
    let mut holes = Vec::new();
    let mut pieces = template.split('?').map(str::as_bytes).enumerate().peekable();
    while let Some((index, piece)) = pieces.next() {
        let rest = message.get(at..).unwrap_or_default();
        let found = match index {
            0 => Some(0),
            _ if pieces.peek().is_none() && piece.is_empty() => Some(rest.len()),
            _ if pieces.peek().is_none() => memchr::memmem::rfind(rest, piece),
            _ => memchr::memmem::find(rest, piece),
        };
        let Some(found) = found else { break };
        holes.push(at..at + found);
        at = at.saturating_add(found).saturating_add(piece.len());
    }
    // What a script ran into, or a version's own ending; or it is no message of Redis' own.
    let known = if template.is_empty() { 0 } else { at };
    holes.push(known..message.len());
    for hole in holes {
        message.get_mut(hole).unwrap_or_default().fill(filler);
    }
}

/// Without what some versions put at its end.
fn bare(message: &[u8]) -> &[u8] {
    let message = message.trim_ascii_end();
    message.strip_suffix(b".").or(message.strip_suffix(b"?")).unwrap_or(message)
}

/// Whether a message is this one, whose holes may hold anything.
fn fits(template: &[u8], message: &[u8], whole: bool) -> bool {
    let mut pieces = template.split(|byte| *byte == b'?');
    let Some(mut rest) = pieces.next().and_then(|first| message.strip_prefix(first)) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return whole && rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return piece.is_empty() || (whole && rest.ends_with(piece));
        }
        let Some(at) = memchr::memmem::find(rest, piece) else { return false };
        rest = rest.get(at + piece.len()..).unwrap_or_default();
    }
    false
}

/// Codes of Redis' own errors. What a script or a module made up is not told: it may be anything.
const CODES: &str = "ASK AUTH BUSY BUSYGROUP BUSYKEY CLUSTERDOWN CROSSSLOT DENIED EXECABORT INPROG \
    INVALIDOBJ IOERR LOADING MASTERDOWN MISCONF MOVED NOAUTH NOGOODSLAVE NOGROUP NOKEY NOMASTERLINK \
    NOPERM NOPROTO NOREPLICAS NOSCRIPT NOSUB NOTBUSY NOTREADY OOM OUTOFRANGE QUERYERR READONLY REDIRECT \
    STALE SYNTAX TRYAGAIN UNBLOCKED UNKILLABLE UNSTABLE VERSIONMISMATCH WRONGPASS WRONGTYPE";

/// Redis' own messages, without their code and the full stop at their end, and with `?` for what it puts into them.
/// Of those that fit one the first is told.
const MESSAGES: &[&str] = &[
    "A client can only redirect to a single other client",
    "ACL GENPASS argument must be the number of bits for the output password, a positive number up to ?",
    "ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: ?",
    "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct",
    "Authentication required",
    "BITFIELD_RO only supports the GET subcommand",
    "BITOP NOT must be called with a single source key",
    "BY option of SORT denied due to insufficient ACL permissions",
    "BY option of SORT denied in Cluster mode",
    "BY option of SORT denied in cluster mode",
    "Background append only file rewriting already in progress",
    "Background save already in progress",
    "Bulk string length out of range",
    "CLIENT PAUSE mode must be WRITE or ALL",
    "CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
    "COUNT can't be negative",
    "COUNT must be > 0",
    "Can not execute a command ? while the cluster is down",
    "Can not execute a script with write flag using *_ro command",
    "Can not execute the command on a stale replica",
    "Can not run script on cluster, 'no-cluster' flag is set",
    "Can not run script with write flag on readonly replica",
    "Can't SYNC while ?",
    "Can't execute ?: only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
    "Can't execute ?: only ? are allowed in this context",
    "Client names cannot contain spaces, newlines or special characters",
    "Client sent AUTH, but no password is set. Did you mean AUTH <username> <password>",
    "Command is not valid when client is a replica",
    "Command not allowed inside a transaction",
    "Config name not found",
    "Consumer Group name already exists",
    "Copying to another database is not allowed in cluster mode",
    "Corrupted HLL object detected",
    "DB index is out of range",
    "DISCARD without MULTI",
    "DUMP payload version or checksum are wrong",
    "EXEC without MULTI",
    "Engine ? not found",
    "Error compiling function: ?",
    "Error compiling script (new function): ?",
    "Error registering functions: ?",
    "Error running script ?",
    "Errors trying to SHUTDOWN. Check logs",
    "Errors writing to the AOF file: ?",
    "FAILOVER already in progress",
    "FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead",
    "FAILOVER requires connected replicas",
    "FUNCTION FLUSH only supports SYNC|ASYNC option",
    "Failover already in progress",
    "Function ? already exists",
    "Function not found",
    "GET option of SORT denied due to insufficient ACL permissions",
    "GET option of SORT denied in Cluster mode",
    "GET option of SORT denied in cluster mode",
    "GT and LT options at the same time are not compatible",
    "GT, LT, and/or NX options at the same time are not compatible",
    "HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
    "Hash slot not served",
    "INCR option supports a single increment-element pair",
    "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
    "Invalid FREQ value, must be >= 0 and <= 255",
    "Invalid IDLE option argument for XCLAIM",
    "Invalid IDLETIME value, must be >= 0",
    "Invalid OVERFLOW type specified",
    "Invalid RETRYCOUNT option argument for XCLAIM",
    "Invalid TIME option argument for XCLAIM",
    "Invalid TTL value, must be >= 0",
    "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is",
    "Invalid client ID",
    "Invalid input of zero count",
    "Invalid min-idle-time argument for ?",
    "Invalid or out of range slot",
    "Invalid slot",
    "Invalid stream ID specified as stream command argument",
    "Key is not a valid HyperLogLog string value",
    "Keys in request don't hash to the same slot",
    "LIMIT can't be negative",
    "LIMIT can't be used without MAXLEN or MINID",
    "Library ? already exists",
    "Library not found",
    "Link with MASTER is down and replica-serve-stale-data is set to 'no'",
    "MAXLEN can't be negative",
    "MOVE is not allowed in cluster mode",
    "MULTI calls can not be nested",
    "Mandatory argument FIELDS is missing or not at the right position",
    "Missing GROUP option for XREADGROUP",
    "Multi-bulk length out of range",
    "Multiple keys request during rehashing of slot",
    "NX and XX options at the same time are not compatible",
    "NX and XX, GT or LT options at the same time are not compatible",
    "No matching script",
    "No matching script. Please use EVAL",
    "No permissions to access a channel",
    "No permissions to access a key",
    "No scripts in execution right now",
    "No such client",
    "No such consumer group ? for key name ?",
    "No such key ? or consumer group ?",
    "No such user ?",
    "Not enough good replicas to write",
    "Number of keys can't be greater than number of args",
    "Number of keys can't be negative",
    "OPTIN and OPTOUT are not compatible with BCAST",
    "One or more scores can't be converted into double",
    "Operation against a key holding the wrong kind of value",
    "Out of range database",
    "Parameter `numFields` should be greater than 0",
    "Password mismatch",
    "Protocol error: expected '$', got ?",
    "Protocol error: invalid bulk length",
    "Protocol error: invalid multibulk length",
    "Protocol error: too big bulk count string",
    "Protocol error: too big inline request",
    "Protocol error: too big mbulk count string",
    "Protocol error: unauthenticated bulk length",
    "Protocol error: unauthenticated multibulk length",
    "Protocol error: unbalanced quotes in request",
    "Protocol version is not an integer or out of range",
    "RANK can't be zero: ?",
    "RESP version must be 2 or 3",
    "Redis is busy running a module command",
    "Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE",
    "Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE",
    "Redis is configured to persist data to AOF, but it's currently unable to persist to disk. ?",
    "Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. ?",
    "Redis is loading the dataset in memory",
    "Redis is running in protected mode because protected mode is enabled and no password is set for the default user. ?",
    "Replica can't interact with the keyspace",
    "SCRIPT FLUSH only support SYNC|ASYNC option",
    "SELECT is not allowed in cluster mode",
    "SWAPDB is not allowed in cluster mode",
    "Script attempted to access a non local key in a cluster node",
    "Script attempted to access keys that do not hash to the same slot",
    "Script attempted to access nonexistent global variable ?",
    "Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command",
    "Syntax error in ACL SETUSER modifier ?",
    "Target instance replied with error: ?",
    "Target key name already exists",
    "The ID argument must be an integer",
    "The ID specified in XADD is equal or smaller than the target stream top item",
    "The ID specified in XADD must be greater than 0-0",
    "The ID specified in XSETID is smaller than the target stream top item",
    "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically",
    "The bit argument must be 1 or 0",
    "The busy script was sent by a master instance in the context of replication and cannot be killed",
    "The client ID you want redirect to does not exist",
    "The cluster is down and only accepts read commands",
    "The cluster is down",
    "The command has no key arguments",
    "The greatest ID in the stream is equal or smaller than ?",
    "The stream has exhausted the last possible ID, unable to add more items",
    "This Redis command is not allowed from script",
    "This Redis command is not allowed from scripts",
    "This Redis instance is not configured to use an ACL file. ?",
    "This instance has cluster support disabled",
    "Timeout is not a float or out of range",
    "Transaction discarded because of previous errors",
    "Transaction discarded because of: ?",
    "Unbalanced ? list of streams: for each stream key an ID must be specified",
    "Unbalanced ? list of streams: for each stream key an ID or '>' must be specified",
    "Unbalanced ? list of streams: for each stream key an ID, '+', or '$' must be specified",
    "Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified",
    "Undeclared key ?",
    "Unknown Redis command called from script",
    "Unknown node ?",
    "Unrecognized option or bad number of args for ?",
    "User ? has no permissions to ?",
    "WATCH inside MULTI is not allowed",
    "Wrong number of args calling Redis command from script",
    "You can't write against a read only instance",
    "You can't write against a read only replica",
    "You can't write against a read only slave",
    "allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
    "at least 1 input key is needed for ?",
    "bit is not an integer or out of range",
    "bit offset is not an integer or out of range",
    "bits argument must be 1 or 0",
    "client unblocked via CLIENT UNBLOCK",
    "command not allowed when used memory > 'maxmemory'",
    "count should be greater than 0",
    "decrement would overflow",
    "enabling XX and NX options at the same time is not compatible",
    "error or timeout ? to target instance",
    "exactly one of BYRADIUS and BYBOX can be specified for ?",
    "exactly one of FROMMEMBER or FROMLONLAT can be specified for ?",
    "force unblock from blocking operation, instance state changed ?",
    "hash value is not a float",
    "hash value is not an integer",
    "increment or decrement would overflow",
    "increment would produce NaN or Infinity",
    "index is out of range",
    "index out of range",
    "invalid cursor",
    "invalid expire time in ? command",
    "invalid expire time",
    "invalid longitude,latitude pair ?",
    "invalid password",
    "invalid stream ID specified ?",
    "invalid username-password pair or user is disabled",
    "limit can't be negative",
    "max number of clients + cluster connections reached",
    "max number of clients reached",
    "min or max is not a float",
    "min or max not valid string range item",
    "no such key",
    "numkeys can't be non-positive value",
    "numkeys should be greater than 0",
    "offset is out of range",
    "operation not permitted",
    "radius cannot be negative",
    "resulting score is not a number (NaN)",
    "source and destination objects are the same",
    "string exceeds maximum allowed size (512MB)",
    "string exceeds maximum allowed size (proto-max-bulk-len)",
    "syntax error",
    "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
    "syntax error, WITHSCORES not supported in combination with BYLEX",
    "the consumer group this client was blocked on no longer exists",
    "the stream key no longer exists",
    "this user has no permissions to access one of the channels used as arguments",
    "this user has no permissions to access one of the keys used as arguments",
    "this user has no permissions to access the ? channel used as an argument",
    "this user has no permissions to access the ? key used as an argument",
    "this user has no permissions to run the ? command or its subcommand",
    "this user has no permissions to run the ? command",
    "timeout is negative",
    "timeout is not a float or out of range",
    "timeout is not an integer or out of range",
    "timeout is out of range",
    "unit must be one of M, KM, FT, MI",
    "unknown command ?",
    "unknown or unsupported command",
    "unknown subcommand ? Try ? HELP",
    "unknown subcommand or wrong number of arguments for ?",
    "unsupported protocol version",
    "unsupported unit provided. please use M, KM, FT, MI",
    "value is not a valid float",
    "value is not an integer or out of range",
    "value is out of range",
    "value is out of range, must be positive",
    "value is out of range, value must between ?",
    "value must be positive",
    "weight value is not a float",
    "wrong number of arguments for ? command",
    "wrong number of arguments for command",
    "wrong number of arguments for ?",
    "wrong number of arguments",
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{MESSAGES, code, message};

    #[rstest]
    #[case(
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "WRONGTYPE",
        "Operation against a key holding the wrong kind of value"
    )]
    #[case("MOVED 3999 127.0.0.1:6381", "MOVED", "")]
    #[case(
        "ERR unknown command 'secret word', with args beginning with: 'a' ",
        "ERR",
        "unknown command ?"
    )]
    #[case("ERR unknown command `secret`", "ERR", "unknown command ?")]
    #[case(
        "ERR wrong number of arguments for 'get' command",
        "ERR",
        "wrong number of arguments for ? command"
    )]
    #[case("ERR syntax error", "ERR", "syntax error")]
    #[case(
        "NOSCRIPT No matching script. Please use EVAL.",
        "NOSCRIPT",
        "No matching script. Please use EVAL"
    )]
    #[case(
        "WRONGTYPE Operation against a key holding the wrong kind of value script: \
         a42059b356c875f0717db19a51f6aaca9ae659ea, on @user_script:1.",
        "WRONGTYPE",
        "Operation against a key holding the wrong kind of value"
    )]
    #[case(
        "ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.",
        "ERR",
        "unknown subcommand ? Try ? HELP"
    )]
    // A script's own words, though Redis uses each of them.
    #[case("ERR user password set", "ERR", "")]
    #[case("ERR client name", "ERR", "")]
    #[case("user alice not found", "", "")]
    #[case("ALICE has failed", "", "")]
    #[case("-Job 17 locked by worker 9", "", "")]
    #[case("ERR", "ERR", "")]
    #[case("", "", "")]
    fn only_redis_own_messages_are_told(
        #[case] line: &str,
        #[case] first: &str,
        #[case] told: &str,
    ) {
        let line = line.as_bytes();
        assert_eq!((code(line, true), message(line, true)), (first, told));
        let cut = line.split(|byte| *byte == b' ').next().unwrap();
        assert_eq!(code(cut, false), "", "of `{line:?}` more may have come");
    }

    #[test]
    fn of_a_cut_message_no_more_is_told_than_came() {
        assert_eq!(message(b"ERR syntax error", false), "");
        assert_eq!(message(b"ERR unknown command 'a", false), "unknown command ?");
        assert_eq!(
            message(b"ERR wrong number of arguments for 'a' comm", false),
            "wrong number of arguments for ?"
        );
    }

    #[test]
    fn every_message_is_found_with_anything_in_its_holes() {
        for template in MESSAGES {
            for filling in ["", "'a b'", "\u{e9} script", "syntax error"] {
                let line = format!("ERR {}.", template.replace('?', filling));
                let told = message(line.as_bytes(), true);
                // One may be a part of another.
                assert!(
                    told == *template || template.starts_with(told.trim_end_matches('?')),
                    "{line} {told}"
                );
            }
        }
    }
}
