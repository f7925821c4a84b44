//! An error reply as it may be told: its code, and its message without anything of the application's.
//!
//! Redis quotes arguments in its errors, and scripts make up errors of their own. So a message keeps only
//! words that Redis' own messages are made of; whatever else is in it becomes a `?`.

use std::{collections::HashSet, sync::LazyLock};

/// An error's code: its first word, if that is one of Redis' own; empty where it is not, or where not all of it came.
pub(super) fn code(line: &[u8], whole: bool) -> &str {
    let code = split(line).0.unwrap_or_default();
    if whole || line.len() > code.len() { code } else { "" }
}

/// An error's message with values removed; `masked` is empty.
pub(super) fn mask(line: &[u8], masked: &mut String) {
    // A script's own has no code: Redis 7 puts ERR before such.
    mask_words(split(line).1, masked);
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

/// Words up to the first colon; quoted parts, digits and unknown words become `?`.
fn mask_words(message: &[u8], masked: &mut String) {
    let end = message.iter().position(|&byte| byte == b':').unwrap_or(message.len());
    let message = message.get(..end).unwrap_or(message);
    let mut quote = None;
    for word in message.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        let opens = word.first().copied().filter(|byte| matches!(byte, b'\'' | b'"' | b'`'));
        let inside = quote.is_some() || opens.is_some();
        let closing = quote.or(opens);
        let long_enough = quote.is_some() || word.len() > 1;
        let bare = word.strip_suffix(b",").or(word.strip_suffix(b".")).unwrap_or(word);
        quote = if long_enough && bare.last().copied() == closing { None } else { closing };
        let plain: &[u8] = bare.strip_prefix(b"(").unwrap_or(bare);
        let plain = plain.strip_suffix(b")").unwrap_or(plain);
        let known = !inside && is_known(plain);
        let token = if known { str::from_utf8(word).unwrap_or("?") } else { "?" };
        if token == "?" && (&*masked == "?" || masked.ends_with(" ?")) {
            continue;
        }
        if !masked.is_empty() {
            masked.push(' ');
        }
        masked.push_str(token);
    }
}

/// Whether Redis' own messages have this word, in whatever case.
fn is_known(word: &[u8]) -> bool {
    static KNOWN: LazyLock<HashSet<&[u8]>> =
        LazyLock::new(|| WORDS.split_ascii_whitespace().map(str::as_bytes).collect());
    let mut lower = [0; MAX_WORD_BYTES];
    let Some(lower) = lower.get_mut(..word.len()) else { return false };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    KNOWN.contains(&*lower)
}

/// No word of Redis' is longer.
const MAX_WORD_BYTES: usize = 24;

/// Codes of Redis' own errors. What a script or a module made up is not told: it may be anything.
const CODES: &str = "ASK AUTH BUSY BUSYGROUP BUSYKEY CLUSTERDOWN CROSSSLOT DENIED EXECABORT INPROG \
    INVALIDOBJ IOERR LOADING MASTERDOWN MISCONF MOVED NOAUTH NOGOODSLAVE NOGROUP NOKEY NOMASTERLINK \
    NOPERM NOPROTO NOREPLICAS NOSCRIPT NOSUB NOTBUSY NOTREADY OOM OUTOFRANGE QUERYERR READONLY REDIRECT \
    STALE SYNTAX TRYAGAIN UNBLOCKED UNKILLABLE UNSTABLE VERSIONMISMATCH WRONGPASS WRONGTYPE";

/// Words of Redis' own messages.
const WORDS: &str = "a able abort aborted above accept access accessed according acl active address after \
    against aggregate all allowed already also amount an and another any are argument arguments args as \
    asking at attempt auth authenticate authenticated authentication available background be because been \
    before beginning being below bigger bit bitmap bits block blocked both bounds bulk busy but by bytes call \
    called calls can cannot can't channel check client clients close closed cluster cluster_mode command \
    commands compile compiled config configuration configured connected connection consider consumer consumers \
    container contains context copy corrupted count create current currently cursor data database databases \
    db deadlock default denied deny destination disable disabled discard discarded disk do does doesn't don't \
    due dump during duplicate either element elements empty enable enabled end error errors eval exceeded \
    exceeds exec executable execute executed executing execution exist existing exists expected expire \
    expiration expired extra failed failover failure fatal few field fields file find finite first flag \
    flags float flush for format found from full function functions generic get given greater group has \
    hash have here holding host if implemented in increment incompatible index infinity info inline input \
    inside instance integer internal invalid is isn't it item its join keep key keys kill kind last leader \
    least length less library like limit limited line link list load loaded loading log long longer lua \
    mandatory map master match matching max maximum maxmemory may mbulk member memory message min minimum \
    mismatch missing mode module more multi multibulk multiple must name names nan negative nested nil no \
    node nodes non none not null number numkeys object of offset on one only opening operation option options \
    or order other out over overflow parameter parameters parse parsing partition password path payload \
    pattern pending perform permission permissions permitted persist please policy port position positive \
    possible precision previous privileges problem progress protected protocol provided pub pubsub queue \
    queued radius range read readonly reached received recursion refused released reload remove rename \
    replica replicas replicate replication reply request require required requires reset resp restart \
    result return returned run running same save saved saving script scripts section see server serve \
    served set sha sha1 should signed size slave slot slots smaller snapshot some sort sorted source space specify \
    specified start started state stopped store stream string strings subcommand subscribe such supported \
    syntax take takes target than that the their there this threshold time timeout times to too top transaction \
    trailing try trying type unable unbalanced undefined unexpected unit unknown unsigned unsupported until \
    up update use used user username using valid value values version wait was watch were when where which \
    while will with within without write writes wrong yet you your zero zset";

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{code, mask};

    #[rstest]
    #[case(
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "WRONGTYPE",
        "Operation against a key holding the wrong kind of value"
    )]
    #[case("MOVED 3999 127.0.0.1:6381", "MOVED", "?")]
    #[case(
        "ERR unknown command 'secret word', with args beginning with: 'a' ",
        "ERR",
        "unknown command ? with args beginning with"
    )]
    #[case(
        "ERR wrong number of arguments for 'get' command",
        "ERR",
        "wrong number of arguments for ? command"
    )]
    #[case("ERR syntax error", "ERR", "syntax error")]
    #[case(
        "NOSCRIPT No matching script. Please use EVAL.",
        "NOSCRIPT",
        "No matching script. Please use EVAL."
    )]
    #[case("user alice not found", "", "user ? not found")]
    #[case("ALICE has failed", "", "? has failed")]
    #[case("ERR 'a b \" c' for 'it'x' d", "ERR", "? for ?")]
    #[case("ERR ' is not a value", "ERR", "?")]
    #[case("-Job 17 locked by worker 9", "", "? by ?")]
    #[case("ERR", "ERR", "")]
    #[case("", "", "")]
    fn only_redis_own_words_are_told(#[case] line: &str, #[case] first: &str, #[case] told: &str) {
        let mut message = String::new();
        mask(line.as_bytes(), &mut message);
        assert_eq!((code(line.as_bytes(), true), &*message), (first, told));
        let cut = line.split_once(' ').map_or(line, |(before, _)| before);
        assert_eq!(code(cut.as_bytes(), false), "", "of `{line}` more may have come");
    }
}
