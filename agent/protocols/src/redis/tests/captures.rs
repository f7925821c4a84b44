//! Recorded sessions (`testdata/redis`): whole, at every prefix, split at every byte, with holes of
//! every kind at every position. What a damaged run tells must be part of what the whole one does.

use rstest::rstest;

use super::*;

/// One record of a capture: who sent, and what; `None`: a FIN.
type Record<'a> = (Direction, Option<&'a [u8]>);

fn records(capture: &[u8]) -> Vec<Record<'_>> {
    let mut rest = capture;
    let mut records = Vec::new();
    while let Some(line) = rest.iter().position(|&byte| byte == b'\n') {
        let (head, after) = (str::from_utf8(&rest[..line]).unwrap(), &rest[line + 1..]);
        let (sign, length) = head.split_once(' ').unwrap();
        let direction = if sign == ">" { Requests } else { Responses };
        rest = if length == "end" {
            records.push((direction, None));
            after
        } else {
            let length: usize = length.parse().unwrap();
            records.push((direction, Some(&after[..length])));
            &after[length + 1..]
        };
    }
    records
}

impl Run {
    fn record(&mut self, (direction, bytes): Record<'_>) {
        match bytes {
            Some(bytes) => self.piece(direction, bytes, 0),
            None => self.end(direction, None),
        };
    }

    fn whole(records: &[Record<'_>]) -> Self {
        let mut run = Self::new(true);
        records.iter().for_each(|&record| run.record(record));
        run.close();
        run
    }

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
                let mut request = original.request.clone();
                request.queued = exchange.request.queued;
                request == exchange.request && original.end == exchange.end
            };
            assert!(rest.any(alike), "{} was never there, {}", exchange.tell(), context());
        }
    }
}

/// The captures.
const CAPTURES: &[(&str, &[u8])] = &[
    ("ioredis", include_bytes!("../../../testdata/redis/ioredis.resp")),
    ("redis-py-resp2", include_bytes!("../../../testdata/redis/redis-py-resp2.resp")),
    ("redis-py-resp3", include_bytes!("../../../testdata/redis/redis-py-resp3.resp")),
    ("pubsub-resp2", include_bytes!("../../../testdata/redis/pubsub-resp2.resp")),
    ("pubsub-resp3", include_bytes!("../../../testdata/redis/pubsub-resp3.resp")),
    ("raw", include_bytes!("../../../testdata/redis/raw.resp")),
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
            for reason in [Skip::Resync, Skip::UnpairedResponse, Skip::NotHttp, Skip::HeldTooLong] {
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
    ioredis: "ioredis" => [
        "HELLO ? > %7",
        "SELECT ? > Ok",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try CLIENT ?",
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try CLIENT ?",
        "SET s:3 ? EX ? > Ok",
        "SET s:70 ? EX ? > Ok",
        "SET s:11 ? EX ? > Ok",
        "SET s:200 ? EX ? > Ok",
        "SET s:41 ? EX ? > Ok",
        "GET s:3 > $3",
        "GET s:70 > $70",
        "GET s:11 > $11",
        "GET s:3 > $3",
        "GET s:70 > $70",
        "GET s:11 > $11",
        "GET s:200 > $200",
        "GET s:41 > $41",
        "RPUSH l:4 ? ? ? ? > Integer",
        "HSET h:2 ? ? ? ? > Integer",
        "GET s:11 > $11",
        "LRANGE l:4 ? ? > *4",
        "HGETALL h:2 > %2",
        "GET s:3 > $3",
        "INCR s:3 > -ERR value is not an integer or out of range",
        "EXISTS s:3 s:200 > Integer",
        "MULTI > Ok",
        "(queued) GET s:70 > Queued",
        "(queued) GET s:41 > Queued",
        "(queued) LRANGE l:4 ? ? > Queued",
        "EXEC > *3",
        "EVAL ? ? s:70 > $70",
        "GET s:200 > $200",
        "BLPOP none ? > Nil",
        "GET s:3 > $3",
        "QUIT > Ok",
    ], &[Fact::Protocol(Some(3)), Fact::Database(Some(2))], &[];
    redis_py_resp2: "redis-py-resp2" => [
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try CLIENT ?",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try CLIENT ?",
        "SELECT ? > Ok",
        "SET s:5 ? > Ok",
        "SET s:90 ? > Ok",
        "SET s:17 ? > Ok",
        "SET s:300 ? > Ok",
        "GET s:5 > $5",
        "GET s:90 > $90",
        "GET s:17 > $17",
        "GET s:300 > $300",
        "GET s:300 > $300",
        "GET s:17 > $17",
        "GET s:90 > $90",
        "GET s:5 > $5",
        "MULTI > Ok",
        "(queued) GET s:5 > Queued",
        "(queued) GET s:90 > Queued",
        "(queued) GET s:17 > Queued",
        "(queued) GET s:300 > Queued",
        "EXEC > *4",
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
        "NOSUCH ? > -ERR unknown command ? with args beginning with",
        "SELECT ? > Ok",
        "GET s:5 > Nil",
    ], &[Fact::Database(Some(1)), Fact::Database(Some(3))], &[];
    redis_py_resp3: "redis-py-resp3" => [
        "HELLO ? > %7",
        "CLIENT MAINT_NOTIFICATIONS ON ? ? > -ERR unknown subcommand ? Try CLIENT ?",
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try CLIENT ?",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try CLIENT ?",
        "SELECT ? > Ok",
        "SET s:5 ? > Ok",
        "SET s:90 ? > Ok",
        "SET s:17 ? > Ok",
        "SET s:300 ? > Ok",
        "GET s:5 > $5",
        "GET s:90 > $90",
        "GET s:17 > $17",
        "GET s:300 > $300",
        "GET s:300 > $300",
        "GET s:17 > $17",
        "GET s:90 > $90",
        "GET s:5 > $5",
        "MULTI > Ok",
        "(queued) GET s:5 > Queued",
        "(queued) GET s:90 > Queued",
        "(queued) GET s:17 > Queued",
        "(queued) GET s:300 > Queued",
        "EXEC > *4",
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
        "NOSUCH ? > -ERR unknown command ? with args beginning with",
        "SELECT ? > Ok",
        "GET s:5 > Nil",
    ], &[Fact::Protocol(Some(3)), Fact::Database(Some(1)), Fact::Database(Some(3))], &[];
    pubsub_resp2: "pubsub-resp2" => [
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try CLIENT ?",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try CLIENT ?",
        "SUBSCRIBE news weather > *2",
        "PSUBSCRIBE n* > *1",
        "PING > *2",
        "UNSUBSCRIBE news > *1",
        "UNSUBSCRIBE > NoReply",
        "PUNSUBSCRIBE > NoReply",
        "GET s:4 > Nil",
    ], &[], &[(PushKind::Message, Some("news")), (PushKind::Message, Some("news")), (PushKind::Message, Some("weather")), (PushKind::Confirmation, None), (PushKind::Confirmation, None)];
    pubsub_resp3: "pubsub-resp3" => [
        "HELLO ? > %7",
        "CLIENT MAINT_NOTIFICATIONS ON ? ? > -ERR unknown subcommand ? Try CLIENT ?",
        "CLIENT SETINFO LIB-NAME ? > -ERR unknown subcommand ? Try CLIENT ?",
        "CLIENT SETINFO LIB-VER ? > -ERR unknown subcommand ? Try CLIENT ?",
        "SUBSCRIBE news weather > *2",
        "PSUBSCRIBE n* > *1",
        "PING > Simple",
        "UNSUBSCRIBE news > *1",
        "UNSUBSCRIBE > NoReply",
        "PUNSUBSCRIBE > NoReply",
        "GET s:4 > Nil",
    ], &[Fact::Protocol(Some(3))], &[(PushKind::Message, Some("news")), (PushKind::Message, Some("news")), (PushKind::Message, Some("weather")), (PushKind::Confirmation, None), (PushKind::Confirmation, None)];
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
        "(queued) NOSUCH ? > -ERR unknown command ? with args beginning with",
        "EXEC > -EXECABORT Transaction discarded because of previous errors.",
        "MULTI > Ok",
        "(queued) SELECT ? > Queued",
        "DISCARD > Ok",
        "GET s:9 > $9",
        "SUBSCRIBE a b > *2",
        "GET s:9 > $9",
        "UNSUBSCRIBE > NoReply",
        "GET s:2 > $2",
        "EVAL ? ? > *2",
        "SELECT ? > Ok",
        "RESET > Simple",
        "GET s:9 > $9",
        "CONFIG GET ? > *2",
        "AUTH ? ? > -WRONGPASS invalid ? or user is disabled.",
        "MONITOR > Ok",
    ], &[Fact::Protocol(Some(3)), Fact::Database(Some(5)), Fact::Database(Some(0)), Fact::Protocol(Some(2)), Fact::Database(None), Fact::Protocol(None)], &[(PushKind::Confirmation, None), (PushKind::Confirmation, None)];
}
