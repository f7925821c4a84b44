//! The words of every command, by their place: whatever a value is spelt like, it is not told.

use super::super::{
    command::Builder,
    table::{COMMANDS, STREAM_IDS, SUBCOMMAND_TAILS, find},
    tail::all_words,
};

/// Every command with words behind its keys or values, its values as `?`. Counts say how many keys there are.
const SAMPLES: &[&str] = &[
    "BGSAVE SCHEDULE",
    "BITCOUNT k ? ? BIT",
    "BITFIELD k GET ? ? OVERFLOW SAT SET ? ? ? INCRBY ? ? ?",
    "BITFIELD_RO k GET ? ? GET ? ?",
    "BITOP AND a b c",
    "BITPOS k ? ? ? BYTE",
    "BLMOVE a b LEFT RIGHT ?",
    "BLMPOP ? 2 a b LEFT COUNT ?",
    "BZMPOP ? 2 a b MIN COUNT ?",
    "CLIENT CACHING YES",
    "CLIENT KILL TYPE ? ID ? SKIPME ? USER ?",
    "CLIENT LIST TYPE ?",
    "CLIENT LIST ID ? ?",
    "CLIENT MAINT_NOTIFICATIONS ON ? ?",
    "CLIENT NO-EVICT ON",
    "CLIENT NO-TOUCH OFF",
    "CLIENT PAUSE ? WRITE",
    "CLIENT REPLY ON",
    "CLIENT SETINFO LIB-NAME ?",
    "CLIENT SETNAME ?",
    "CLIENT TRACKING ON REDIRECT ? PREFIX ? PREFIX ? BCAST NOLOOP",
    "CLIENT UNBLOCK ? ERROR",
    "CLUSTERSCAN ? MATCH ? COUNT ? TYPE ? SLOT ?",
    "COPY a b DB ? REPLACE",
    "DELEX k IFEQ ?",
    "EXPIRE k ? NX",
    "EXPIREAT k ? XX",
    "FAILOVER TO ? ? FORCE TIMEOUT ?",
    "FLUSHALL ASYNC",
    "FLUSHDB SYNC",
    "GEOADD k NX CH 1 ? ? ? ? ?",
    "GEODIST k ? ? KM",
    "GEORADIUS k ? ? ? KM WITHDIST COUNT ? ANY ASC STORE b",
    "GEORADIUSBYMEMBER k ? ? KM WITHDIST COUNT ? DESC STOREDIST b",
    "GEORADIUSBYMEMBER_RO k ? ? M WITHHASH COUNT ? ANY",
    "GEORADIUS_RO k ? ? ? MI WITHCOORD COUNT ? ASC",
    "GEOSEARCH k FROMMEMBER ? BYRADIUS ? KM ASC COUNT ? ANY WITHDIST",
    "GEOSEARCH k FROMLONLAT ? ? BYBOX ? ? M WITHHASH",
    "GEOSEARCHSTORE a b FROMMEMBER ? BYBOX ? ? FT STOREDIST",
    "GETEX k EX ?",
    "HELLO ? AUTH ? ? SETNAME ?",
    "HEXPIRE k ? NX FIELDS ? ? ?",
    "HEXPIREAT k ? GT FIELDS ? ?",
    "HEXPIRETIME k FIELDS ? ?",
    "HGETDEL k FIELDS ? ?",
    "HGETEX k PX ? FIELDS ? ? ?",
    "HPERSIST k FIELDS ? ?",
    "HPEXPIRE k ? LT FIELDS ? ?",
    "HPEXPIREAT k ? XX FIELDS ? ?",
    "HPEXPIRETIME k FIELDS ? ?",
    "HPTTL k FIELDS ? ?",
    "HRANDFIELD k ? WITHVALUES",
    "HSCAN k ? MATCH ? COUNT ? NOVALUES",
    "HSETEX k FNX EX ? KEEPTTL FIELDS ? ? ? ? ?",
    "HTTL k FIELDS ? ?",
    "JSON.GET k INDENT ? NOESCAPE SPACE ? 1 ?",
    "JSON.SET k ? ? NX",
    "LCS a b IDX MINMATCHLEN ? WITHMATCHLEN",
    "LINSERT k BEFORE ? ?",
    "LMOVE a b LEFT RIGHT",
    "LMPOP 2 a b RIGHT COUNT ?",
    "LPOS k ? RANK ? COUNT ? MAXLEN ?",
    "MEMORY USAGE k SAMPLES ?",
    "MIGRATE ? ? k ? ? COPY REPLACE AUTH ?",
    "MIGRATE ? ? k ? ? AUTH2 ? ? KEYS a b c",
    "MSETEX 2 a ? b ? NX EX ?",
    "PEXPIRE k ? NX",
    "PEXPIREAT k ? LT",
    "RESTORE k ? ? REPLACE ABSTTL IDLETIME ? FREQ ?",
    "SCAN ? MATCH ? COUNT ? TYPE ?",
    "SCRIPT DEBUG YES",
    "SCRIPT FLUSH ASYNC",
    "SCRIPT LOAD ?",
    "SET k ? EX ? NX GET",
    "SET k ? IFEQ ? KEEPTTL",
    "SHUTDOWN NOSAVE NOW",
    "SINTERCARD 2 a b LIMIT ?",
    "SORT k BY ? LIMIT ? ? GET ? GET ? DESC ALPHA STORE b",
    "SORT_RO k BY ? LIMIT ? ? GET ? ASC",
    "SSCAN k ? MATCH ? COUNT ?",
    "VADD k REDUCE ? VALUES ? ? ? ?",
    "VSIM k ELE ? WITHSCORES COUNT ? FILTER ?",
    "XACKDEL k ? DELREF IDS ? ? ?",
    "XADD k NOMKSTREAM KEEPREF MAXLEN ~ ? LIMIT ? * ? ? ? ?",
    "XADD k IDMP ? ? MINID = ? 5-1 ? ?",
    "XADD k MAXLEN ? * ? ?",
    "XAUTOCLAIM k ? ? ? ? COUNT ? JUSTID",
    "XCLAIM k ? ? ? 1-0 2-0 IDLE ? RETRYCOUNT ? FORCE JUSTID LASTID ?",
    "XDELEX k ACKED IDS ? ? ?",
    "XGROUP CREATE k ? $ MKSTREAM ENTRIESREAD ?",
    "XGROUP SETID k ? $ ENTRIESREAD ?",
    "XINFO STREAM k FULL COUNT ?",
    "XPENDING k ? IDLE ? - + 9 ?",
    "XRANGE k - + COUNT ?",
    "XREAD COUNT ? BLOCK ? STREAMS a b $ +",
    "XREADGROUP GROUP ? ? COUNT ? BLOCK ? NOACK STREAMS a b > >",
    "XREVRANGE k + - COUNT ?",
    "XTRIM k MAXLEN ~ ? LIMIT ? ACKED",
    "ZADD k NX GT CH 1 ? ? ?",
    "ZDIFF 2 a b WITHSCORES",
    "ZINTER 2 a b WEIGHTS ? ? AGGREGATE SUM WITHSCORES",
    "ZINTERCARD 2 a b LIMIT ?",
    "ZINTERSTORE to 2 a b WEIGHTS ? ? AGGREGATE MIN",
    "ZMPOP 2 a b MIN COUNT ?",
    "ZRANDMEMBER k ? WITHSCORES",
    "ZRANGE k ? ? BYSCORE REV LIMIT ? ? WITHSCORES",
    "ZRANGEBYLEX k ? ? LIMIT ? ?",
    "ZRANGEBYSCORE k ? ? WITHSCORES LIMIT ? ?",
    "ZRANGESTORE a b ? ? BYLEX REV LIMIT ? ?",
    "ZRANK k ? WITHSCORE",
    "ZREVRANGE k ? ? WITHSCORES",
    "ZREVRANGEBYLEX k ? ? LIMIT ? ?",
    "ZREVRANGEBYSCORE k ? ? WITHSCORES LIMIT ? ?",
    "ZREVRANK k ? WITHSCORE",
    "ZSCAN k ? MATCH ? COUNT ?",
    "ZUNION 2 a b WEIGHTS ? ? AGGREGATE MAX WITHSCORES",
    "ZUNIONSTORE to 2 a b WEIGHTS ? ? AGGREGATE SUM",
];

fn text(words: &[&str]) -> String {
    let mut builder = Builder::new(None);
    builder.begin(u32::try_from(words.len()).ok());
    for word in words {
        let wanted = builder.wanted().min(word.len());
        builder.argument(&word.as_bytes()[..wanted], word.len() as u64);
    }
    builder.finish(true);
    builder.read().command.text.into_owned()
}

/// However a value is spelt, the text is the same.
#[test]
fn a_value_that_is_spelt_like_a_word_is_not_told() {
    for sample in SAMPLES {
        let parts: Vec<&str> = sample.split(' ').collect();
        let spec = find(parts[0].as_bytes()).unwrap();
        let own = SUBCOMMAND_TAILS.iter().filter(|(name, ..)| sample.starts_with(name));
        let grammars = own.map(|(.., tail)| *tail).chain([spec.tail, STREAM_IDS]);
        let words: Vec<String> = grammars
            .flat_map(all_words)
            .flat_map(|it| [it.to_owned(), it.to_lowercase()])
            .collect();
        let is_number = |part: &str| part.starts_with(|it: char| it.is_ascii_digit());
        let told: Vec<&str> =
            parts.iter().map(|part| if is_number(part) { "?" } else { part }).collect();
        let told = told.join(" ");
        assert_eq!(text(&parts), told);
        for at in (0..parts.len()).filter(|at| parts[*at] == "?") {
            for word in &words {
                let mut parts = parts.clone();
                parts[at] = word;
                assert_eq!(text(&parts), told, "{word} at {at}");
            }
        }
    }
}

#[test]
fn every_command_with_words_has_a_sample() {
    for spec in COMMANDS.iter().filter(|spec| !spec.tail.is_empty()) {
        let of = |sample: &&&str| sample.split(' ').next() == Some(spec.name);
        assert!(SAMPLES.iter().any(|sample| of(&sample)), "{}", spec.name);
    }
    for (name, ..) in SUBCOMMAND_TAILS {
        assert!(SAMPLES.iter().any(|sample| sample.starts_with(name)), "{name}");
    }
}
