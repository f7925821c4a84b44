//! Recorded sessions (`testdata/redis`): whole, at every prefix, split at every byte, with holes of
//! every kind at every position. What a damaged run tells must be part of what the whole one does.

use rstest::rstest;

use super::*;
use crate::testing::{Damage, records};

impl Run {
    /// Nothing here that the whole run doesn't tell alike, and in the same order.
    fn assert_part_of(&self, whole: &[Exchange], context: &dyn Fn() -> String) {
        let mut rest = whole.iter();
        for exchange in exchanges(&self.events) {
            exchange.assert_paired_right(context);
            if exchange.request.cut || !matches!(exchange.end, Some(Ok(End::Complete { .. }))) {
                continue;
            }
            // Where MULTI was lost, nobody can know that what follows is queued.
            let alike = |original: &Exchange| {
                let known = |request: &Command<'_>| {
                    (request.arguments, request.database, request.protocol, request.blocking)
                };
                original.request.text == exchange.request.text
                    && original.request.key == exchange.request.key
                    && known(&original.request) == known(&exchange.request)
                    && original.end == exchange.end
                    && original.values.iter().zip(&exchange.values).all(are_part_of)
            };
            assert!(rest.any(alike), "{} was never there, {}", exchange.tell(), context());
        }
    }
}

/// Whether values are the original's, as far as they were captured. Where `MULTI` was lost, so are its replies'.
fn are_part_of((original, values): (&Values<'_>, &Values<'_>)) -> bool {
    let alike = |(original, value): (Value<'_>, Value<'_>)| match (original, value) {
        (Value::Bytes(original), Value::Bytes(value)) => {
            original.len == value.len
                && original.kept.starts_with(value.kept)
                && value.hash.is_none_or(|hash| original.hash == Some(hash))
        }
        (original, value) => original == value,
    };
    let same = original.iter().count() == values.iter().count();
    (values.is_empty() || same) && original.iter().zip(values.iter()).all(alike)
}

/// The captures.
pub(super) const CAPTURES: &[(&str, &[u8])] = &[
    ("ioredis", include_bytes!("../../../testdata/redis/ioredis.resp")),
    ("redis-py-resp2", include_bytes!("../../../testdata/redis/redis-py-resp2.resp")),
    ("redis-py-resp3", include_bytes!("../../../testdata/redis/redis-py-resp3.resp")),
    ("pubsub-resp2", include_bytes!("../../../testdata/redis/pubsub-resp2.resp")),
    ("pubsub-resp3", include_bytes!("../../../testdata/redis/pubsub-resp3.resp")),
    ("raw", include_bytes!("../../../testdata/redis/raw.resp")),
    ("words", include_bytes!("../../../testdata/redis/words.resp")),
];

/// Every capture with what a whole run of it tells.
macro_rules! whole {
    ($($name:ident: $file:literal => $told:expr, $facts:expr, $pushes:expr;)*) => {
        $(#[test]
        fn $name() {
            let (_, capture) = CAPTURES.iter().find(|(name, _)| *name == $file).unwrap();
            let whole = Run::whole(&records(capture));
            assert_eq!(whole.told(), $told);
            assert_eq!(whole.facts(), $facts as &[Fact]);
            assert_eq!(whole.pushes(), $pushes as &[(PushKind, Option<&str>)]);
            exchanges(&whole.events).iter().for_each(|it| it.assert_paired_right(&String::new));
            for reason in [Skip::Resync, Skip::UnpairedResponse, Skip::Broken, Skip::HeldTooLong] {
                assert_eq!(whole.skipped(reason), 0, "{reason:?}");
            }
            for secret in ["secret", "sixsix", "nine", "xxx", "yyy", "field"] {
                let told = format!("{:?}", whole.events).to_lowercase();
                assert!(!told.contains(secret), "{secret}");
            }
        })*
    };
}

whole! {
    words: "words" => [
        "MULTI > Ok",
        "(queued) SET s:1 ? > Queued",
        "(queued) INCR s:1 > Queued",
        "(queued) GET none > Queued",
        "(queued) LPUSH s:1 ? > Queued",
        "EXEC > *4, 1 nil, 2 -ERR value is not an integer or out of range",
        "GET s:1 > $1",
        "MULTI > Ok",
        "MULTI > -ERR MULTI calls can not be nested",
        "(queued) GET s:1 > Queued",
        "DISCARD > Ok",
        "GET s:1 > $1",
        "SUBSCRIBE a b > *2",
        "PSUBSCRIBE p* > *1",
        "SSUBSCRIBE s > *1",
        "UNSUBSCRIBE > *2",
        "UNSUBSCRIBE > *1",
        "UNSUBSCRIBE x > *1",
        "PUNSUBSCRIBE > *1",
        "PUNSUBSCRIBE > *1",
        "SUNSUBSCRIBE > *1",
        "SUNSUBSCRIBE > *1",
        "GET s:1 > $1",
        "ZADD z ? ? > Integer",
        "XADD st * ? ? > $15",
        "RPUSH l:1 ? > Integer",
        "LINSERT l:1 BEFORE ? ? > Integer",
        "LPOP none > Nil",
        "GET s:1 > $1",
        "FUNCTION LOAD ? ? > $3",
        "FCALL ? ? n > Integer",
        "FCALL ? ? s:1 > -ERR value is not an integer or out of range",
        "EVAL ? ? > -ERR ",
        "EVALSHA ? ? > -NOSCRIPT No matching script. Please use EVAL",
        "NOSUCH.ADD ? > -ERR unknown command ?",
        "GET s:1 > $1",
        "SET s:3 ? > Ok",
        "GET s:3 > $3",
        "SHUTDOWN NOSAVE > NoReply",
    ], &[], &[];
    ioredis: "ioredis" => [
        "HELLO ? > %7",
        "SELECT ? > Ok",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try ? HELP",
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try ? HELP",
        "SET s:3 ? EX ? > Ok",
        "SET s:30 ? EX ? > Ok",
        "SET s:11 ? EX ? > Ok",
        "SET s:60 ? EX ? > Ok",
        "GET s:3 > $3",
        "GET s:30 > $30",
        "GET s:11 > $11",
        "GET s:3 > $3",
        "GET s:30 > $30",
        "GET s:11 > $11",
        "GET s:60 > $60",
        "RPUSH l:4 ? ? ? ? > Integer",
        "HSET h:2 ? ? ? ? > Integer",
        "GET s:11 > $11",
        "LRANGE l:4 ? ? > *4",
        "HGETALL h:2 > %2",
        "GET s:3 > $3",
        "INCR s:3 > -ERR value is not an integer or out of range",
        "EXISTS s:3 s:60 > Integer",
        "MULTI > Ok",
        "(queued) GET s:30 > Queued",
        "(queued) GET s:60 > Queued",
        "(queued) LRANGE l:4 ? ? > Queued",
        "EXEC > *3",
        "EVAL ? ? s:30 > $30",
        "GET s:60 > $60",
        "BLPOP none ? > Nil",
        "GET s:3 > $3",
        "QUIT > Ok",
    ], &[Fact::Protocol(Some(3)), Fact::Database(Some(2))], &[];
    redis_py_resp2: "redis-py-resp2" => [
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try ? HELP",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try ? HELP",
        "SELECT ? > Ok",
        "SET s:5 ? > Ok",
        "SET s:40 ? > Ok",
        "SET s:17 ? > Ok",
        "GET s:17 > $17",
        "GET s:40 > $40",
        "GET s:5 > $5",
        "MULTI > Ok",
        "(queued) GET s:5 > Queued",
        "(queued) GET s:40 > Queued",
        "(queued) GET s:17 > Queued",
        "EXEC > *3",
        "GET s:5 > $5",
        "GET s:40 > $40",
        "GET s:17 > $17",
        "RPUSH l:3 ? ? ? > Integer",
        "HSET h:3 ? ? ? ? ? ? > Integer",
        "HGETALL h:3 > *6",
        "ZADD z ? ? ? ? > Integer",
        "ZRANGE z ? ? WITHSCORES > *4",
        "SADD set ? ? > Integer",
        "SMEMBERS set > *2",
        "XADD stream * ? ? > $15",
        "XREAD BLOCK ? COUNT ? STREAMS stream ? > *1",
        "XGROUP CREATE stream ? ? > Ok",
        "XREADGROUP GROUP ? ? STREAMS stream > > *1",
        "BLPOP none l:3 ? > *2",
        "BRPOP none ? > Nil",
        "LPUSH s:5 ? > -WRONGTYPE Operation against a key holding the wrong kind of value",
        "NOSUCH ? > -ERR unknown command ?",
        "SELECT ? > Ok",
        "GET s:5 > Nil",
    ], &[Fact::Database(Some(1)), Fact::Database(Some(3))], &[];
    redis_py_resp3: "redis-py-resp3" => [
        "HELLO ? > %7",
        "CLIENT MAINT_NOTIFICATIONS ON ? ? > -ERR unknown subcommand ? Try ? HELP",
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try ? HELP",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try ? HELP",
        "SELECT ? > Ok",
        "SET s:5 ? > Ok",
        "SET s:40 ? > Ok",
        "SET s:17 ? > Ok",
        "RPUSH l:3 ? ? ? > Integer",
        "HSET h:3 ? ? ? ? ? ? > Integer",
        "HGETALL h:3 > %3",
        "ZADD z ? ? ? ? > Integer",
        "ZRANGE z ? ? WITHSCORES > *2",
        "SADD set ? ? > Integer",
        "SMEMBERS set > *2",
        "XADD stream * ? ? > $15",
        "XREAD BLOCK ? COUNT ? STREAMS stream ? > %1",
        "XGROUP CREATE stream ? ? > Ok",
        "XREADGROUP GROUP ? ? STREAMS stream > > %1",
        "BLPOP none l:3 ? > *2",
        "BRPOP none ? > Nil",
        "LPUSH s:5 ? > -WRONGTYPE Operation against a key holding the wrong kind of value",
        "NOSUCH ? > -ERR unknown command ?",
        "SELECT ? > Ok",
        "GET s:5 > Nil",
    ], &[Fact::Protocol(Some(3)), Fact::Database(Some(1)), Fact::Database(Some(3))], &[];
    pubsub_resp2: "pubsub-resp2" => [
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try ? HELP",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try ? HELP",
        "SUBSCRIBE news weather > *2",
        "PSUBSCRIBE n* > *1",
        "PING > *2",
        "UNSUBSCRIBE news > *1",
        "UNSUBSCRIBE > *1",
        "PUNSUBSCRIBE > *1",
        "GET s:4 > Nil",
    ], &[], &[(PushKind::Message, Some("news")), (PushKind::Message, Some("news")), (PushKind::Message, Some("weather"))];
    pubsub_resp3: "pubsub-resp3" => [
        "HELLO ? > %7",
        "CLIENT MAINT_NOTIFICATIONS ON ? ? > -ERR unknown subcommand ? Try ? HELP",
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try ? HELP",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try ? HELP",
        "SUBSCRIBE news weather > *2",
        "PSUBSCRIBE n* > *1",
        "PING > Simple",
        "UNSUBSCRIBE news > *1",
        "UNSUBSCRIBE > *1",
        "PUNSUBSCRIBE > *1",
        "GET s:4 > Nil",
    ], &[Fact::Protocol(Some(3))], &[(PushKind::Message, Some("news")), (PushKind::Message, Some("news")), (PushKind::Message, Some("weather"))];
    raw: "raw" => [
        "PING > Simple",
        "SET s:6 ? EX ? > Ok",
        "GET s:6 > $6",
        "SET s:9 ? > Ok",
        "GET s:9 > $9",
        "GET s:6 > $6",
        "GET s:0 > Nil",
        "HELLO ? SETNAME ? > %7",
        "GET s:0 > Nil",
        "GET s:9 > $9",
        "DEBUG ? ? > $11",
        "DEBUG ? ? > Integer",
        "DEBUG ? ? > Double",
        "DEBUG ? ? > Nil",
        "DEBUG ? ? > *3",
        "DEBUG ? ? > *3",
        "DEBUG ? ? > %3",
        "DEBUG ? ? > $39",
        "DEBUG ? ? > $29",
        "DEBUG ? ? > Boolean",
        "DEBUG ? ? > Integer",
        "GET s:6 > $6",
        "CLIENT REPLY OFF > NoReply",
        "SET s:2 ? > NoReply",
        "CLIENT REPLY ON > Ok",
        "CLIENT REPLY SKIP > NoReply",
        "SET s:3 ? > NoReply",
        "GET s:3 > $3",
        "MULTI > Ok",
        "(queued) GET s:2 > Queued",
        "(queued) NOSUCH ? > -ERR unknown command ?",
        "EXEC > -EXECABORT Transaction discarded because of previous errors",
        "MULTI > Ok",
        "(queued) SELECT ? > Queued",
        "DISCARD > Ok",
        "GET s:9 > $9",
        "SUBSCRIBE a b > *2",
        "GET s:9 > $9",
        "UNSUBSCRIBE > *2",
        "GET s:2 > $2",
        "EVAL ? ? > *2",
        "SELECT ? > Ok",
        "RESET > Simple",
        "GET s:9 > $9",
        "CONFIG GET ? > *2",
        "AUTH ? ? > -WRONGPASS invalid username-password pair or user is disabled",
        "MONITOR > Ok",
    ], &[Fact::Protocol(Some(3)), Fact::Database(None), Fact::Database(Some(0)), Fact::Database(Some(5)), Fact::Database(Some(0)), Fact::Protocol(Some(2)), Fact::Database(None), Fact::Protocol(None)], &[];
}

#[test]
fn at_every_prefix_what_is_told_is_part_of_the_whole() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            for len in 0..bytes.map_or(0, <[u8]>::len) {
                let run = Run::prefix(&records, at, len);
                run.assert_part_of(&whole, &|| format!("{name}: {len} bytes of record {at}"));
            }
        }
    }
}

#[test]
fn split_at_every_byte_all_is_told_alike() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for len in 1..bytes.len() {
                let run = Run::split(&records, at, len);
                assert_eq!(exchanges(&run.events), whole, "{name}: record {at} split at {len}");
            }
        }
        let run = Run::byte_by_byte(&records);
        assert_eq!(exchanges(&run.events), whole, "{name}: byte by byte");
    }
}

// 23 bytes have most commands and replies: holes of whole messages.
#[rstest]
#[case(Damage::Hole, 1)]
#[case(Damage::Hole, 23)]
#[case(Damage::Hole, usize::MAX)]
#[case(Damage::Missing, usize::MAX)]
#[case(Damage::Gap, 23)]
#[case(Damage::Gaps, usize::MAX)]
fn with_damage_at_every_position_nothing_is_told_that_was_not_there(
    #[case] damage: Damage,
    #[case] length: usize,
) {
    let mut complete = 0;
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for from in 0..bytes.len() {
                let to = from.saturating_add(length).min(bytes.len());
                let mut run = Run::new(true);
                if name.starts_with("redis-py") {
                    run.connection.takes_turns();
                }
                run.goes_on_damaged(&records, at, from..to, damage);
                let context = || format!("{name}: record {at}, bytes {from}..{to} {damage:?}");
                run.assert_part_of(&whole, &context);
                let over = |event: &&Event<'_, u32>| {
                    matches!(event, Event::End { end: End::Complete { .. }, .. })
                };
                complete += run.events.iter().filter(over).count();
            }
        }
    }
    assert!(complete > 10_000, "what the damage didn't touch is told: {complete}");
}

#[test]
fn met_at_every_record_nothing_is_paired_wrongly() {
    let mut told = 0;
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, turns) in (0..records.len()).flat_map(|at| [(at, false), (at, true)]) {
            if turns && !name.starts_with("redis-py") {
                continue;
            }
            let mut run = Run::new(false);
            if turns {
                run.connection.takes_turns();
            }
            for (after, &record) in records[at..].iter().enumerate() {
                run.record(record);
                // The recorded clients are quiet at times; here, after each third reply.
                let quiet = record.0 == Responses && after % 3 == 2;
                let owed =
                    records[at + after + 1..].first().is_some_and(|next| next.0 == Responses);
                if quiet && !owed {
                    run.idle();
                }
            }
            run.close();
            run.assert_part_of(&whole, &|| format!("{name}: met at record {at}, {turns}"));
            told += run.told().len();
        }
    }
    assert!(told > 500, "{told}");
}

#[test]
fn the_fuzz_target_holds_on_every_prefix_of_the_captures() {
    for (_, capture) in CAPTURES {
        for len in 0..capture.len() {
            fuzz_redis(&capture[..len]);
        }
    }
}
