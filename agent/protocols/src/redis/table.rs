//! The commands of Redis, a long table: where their keys are, which words are part of their structure, what they answer.
//!
//! Arity and key positions are those of `COMMAND INFO` of Redis 7.0 (and the documentation of what came later), but
//! that a channel counts as a key, and that `MIGRATE` tells none. Words are matched against this list and
//! told from it: nothing that a client made up is told as one. Replies' shapes are for the usual answer;
//! errors, nil and `QUEUED` are always possible.

/// What is known of a command.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// How many arguments it has, the name among them; negative: at least so many.
    arity: i8,
    pub(super) keys: Keys,
    pub(super) shape: Shape,
    /// Position of the first argument that may be a word; 0: none.
    pub(super) words_from: u32,
    words: &'static str,
}

impl Spec {
    /// Whether the command can have so many arguments, the name among them.
    pub(super) fn takes(&self, count: i64) -> bool {
        let arity = i64::from(self.arity);
        if arity < 0 { count >= -arity } else { count == arity }
    }

    /// Whether its first argument is its first key.
    pub(super) fn begins_with_key(&self) -> bool {
        match self.keys {
            Keys::Range { first, .. } => first == 1,
            Keys::IntoCounted => true,
            Keys::Counted { .. } | Keys::Streams => false,
        }
    }

    /// The word that `argument` is, if any.
    pub(super) fn word(&self, argument: &[u8]) -> Option<&'static str> {
        self.words
            .split_ascii_whitespace()
            .find(|word| word.as_bytes().eq_ignore_ascii_case(argument))
    }
}

/// Which arguments are keys. The name is argument 0.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys {
    /// `last` counts from the end when negative (-1 is the last); `first` 0: there are none.
    Range { first: u32, last: i32, step: u32 },
    /// The argument `at` says how many follow.
    Counted { at: u32 },
    /// One, then their number, then they.
    IntoCounted,
    /// The first half of what follows `STREAMS`.
    Streams,
}

/// What a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Any,
    Status,
    Integer,
    Bulk,
    Array,
}

const NO_KEYS: Keys = Keys::Range { first: 0, last: 0, step: 0 };
const ONE_KEY: Keys = Keys::Range { first: 1, last: 1, step: 1 };
const TWO_KEYS: Keys = Keys::Range { first: 1, last: 2, step: 1 };
const ALL_KEYS: Keys = Keys::Range { first: 1, last: -1, step: 1 };
const ALL_KEYS_BUT_LAST: Keys = Keys::Range { first: 1, last: -2, step: 1 };
const AFTER_SUBCOMMAND: Keys = Keys::Range { first: 2, last: 2, step: 1 };

const fn row(
    name: &'static str,
    arity: i8,
    keys: Keys,
    shape: Shape,
    words_from: u32,
    words: &'static str,
) -> Spec {
    Spec { name, arity, keys, shape, words_from, words }
}

/// A command by its name, in whatever case.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    let upper = name.iter().map(u8::to_ascii_uppercase);
    let at = COMMANDS.binary_search_by(|spec| spec.name.bytes().cmp(upper.clone())).ok()?;
    COMMANDS.get(at)
}

/// The subcommand of a container command, in upper case; `None`: not a container's, or not known.
pub(super) fn subcommand(name: &str, argument: &[u8]) -> Option<&'static str> {
    let (_, subcommands) = CONTAINERS.iter().find(|(container, _)| *container == name)?;
    subcommands
        .split_ascii_whitespace()
        .find(|subcommand| subcommand.as_bytes().eq_ignore_ascii_case(argument))
}

/// Whether the second word of this command belongs to its name.
pub(super) fn is_container(name: &str) -> bool {
    CONTAINERS.iter().any(|(container, _)| *container == name)
}

/// Whether the server may keep the client waiting, as this command asks it to.
pub(super) fn is_blocking(name: &str) -> bool {
    matches!(
        name,
        "BLMOVE"
            | "BLMPOP"
            | "BLPOP"
            | "BRPOP"
            | "BRPOPLPUSH"
            | "BZMPOP"
            | "BZPOPMAX"
            | "BZPOPMIN"
            | "WAIT"
            | "WAITAOF"
    )
}

/// Whether this is what a worker repeats while it has nothing to do: asking a queue for work.
pub(super) fn is_poll(name: &str) -> bool {
    matches!(
        name,
        "BLMOVE"
            | "BLMPOP"
            | "BLPOP"
            | "BRPOP"
            | "BRPOPLPUSH"
            | "BZMPOP"
            | "BZPOPMAX"
            | "BZPOPMIN"
            | "LMOVE"
            | "LMPOP"
            | "LPOP"
            | "PING"
            | "RPOP"
            | "RPOPLPUSH"
            | "SPOP"
            | "XAUTOCLAIM"
            | "XPENDING"
            | "XREAD"
            | "XREADGROUP"
            | "ZMPOP"
            | "ZPOPMAX"
            | "ZPOPMIN"
    )
}

/// Prefixes of the commands that modules bring.
pub(super) const MODULES: &[&[u8]] =
    &[b"AI.", b"BF.", b"CF.", b"CMS.", b"FT.", b"GRAPH.", b"JSON.", b"TDIGEST.", b"TOPK.", b"TS."];

const CONTAINERS: &[(&str, &str)] = &[
    ("ACL", "CAT DELUSER DRYRUN GENPASS GETUSER HELP LIST LOAD LOG SAVE SETUSER USERS WHOAMI"),
    (
        "CLIENT",
        "CACHING CAPA GETNAME GETREDIR HELP ID IMPORT-SOURCE INFO KILL LIST MAINT_NOTIFICATIONS NO-EVICT NO-TOUCH PAUSE \
         REPLY SETINFO SETNAME TRACKING TRACKINGINFO UNBLOCK UNPAUSE",
    ),
    (
        "CLUSTER",
        "ADDSLOTS ADDSLOTSRANGE BUMPEPOCH COUNT-FAILURE-REPORTS COUNTKEYSINSLOT DELSLOTS \
         DELSLOTSRANGE FAILOVER FLUSHSLOTS FORGET GETKEYSINSLOT HELP INFO KEYSLOT LINKS MEET \
         MIGRATION MYID MYSHARDID NODES REPLICAS REPLICATE RESET SAVECONFIG SET-CONFIG-EPOCH \
         SETSLOT SHARDS SLAVES SLOT-STATS SLOTS",
    ),
    ("COMMAND", "COUNT DOCS GETKEYS GETKEYSANDFLAGS HELP INFO LIST"),
    ("CONFIG", "GET HELP RESETSTAT REWRITE SET"),
    ("FUNCTION", "DELETE DUMP FLUSH HELP KILL LIST LOAD RESTORE STATS"),
    ("LATENCY", "DOCTOR GRAPH HELP HISTOGRAM HISTORY LATEST RESET"),
    ("MEMORY", "DOCTOR HELP MALLOC-STATS PURGE STATS USAGE"),
    ("MODULE", "HELP LIST LOAD LOADEX UNLOAD"),
    ("OBJECT", "ENCODING FREQ HELP IDLETIME REFCOUNT"),
    ("PUBSUB", "CHANNELS HELP NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB"),
    ("SCRIPT", "DEBUG EXISTS FLUSH HELP KILL LOAD SHOW"),
    (
        "SENTINEL",
        "CKQUORUM CONFIG FAILOVER FLUSHCONFIG GET-MASTER-ADDR-BY-NAME HELP INFO-CACHE \
         IS-MASTER-DOWN-BY-ADDR MASTER MASTERS MONITOR MYID PENDING-SCRIPTS REMOVE REPLICAS RESET \
         SENTINELS SET SLAVES",
    ),
    ("SLOWLOG", "GET HELP LEN RESET"),
    ("XGROUP", "CREATE CREATECONSUMER DELCONSUMER DESTROY HELP SETID"),
    ("XINFO", "CONSUMERS GROUPS HELP STREAM"),
];

/// Sorted by name.
static COMMANDS: &[Spec] = &[
    row("ACL", -2, NO_KEYS, Shape::Any, 0, ""),
    row("APPEND", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("ASKING", 1, NO_KEYS, Shape::Status, 0, ""),
    row("AUTH", -2, NO_KEYS, Shape::Status, 0, ""),
    row("BGREWRITEAOF", 1, NO_KEYS, Shape::Any, 0, ""),
    row("BGSAVE", -1, NO_KEYS, Shape::Any, 1, "SCHEDULE"),
    row("BITCOUNT", -2, ONE_KEY, Shape::Integer, 2, "BYTE BIT"),
    row("BITFIELD", -2, ONE_KEY, Shape::Any, 2, "GET SET INCRBY OVERFLOW WRAP SAT FAIL"),
    row("BITFIELD_RO", -2, ONE_KEY, Shape::Any, 2, "GET"),
    row(
        "BITOP",
        -4,
        Keys::Range { first: 2, last: -1, step: 1 },
        Shape::Integer,
        1,
        "AND OR XOR NOT DIFF DIFF1 ANDOR ONE",
    ),
    row("BITPOS", -3, ONE_KEY, Shape::Integer, 3, "BYTE BIT"),
    row("BLMOVE", 6, TWO_KEYS, Shape::Bulk, 3, "LEFT RIGHT"),
    row("BLMPOP", -5, Keys::Counted { at: 2 }, Shape::Array, 4, "LEFT RIGHT COUNT"),
    row("BLPOP", -3, ALL_KEYS_BUT_LAST, Shape::Array, 0, ""),
    row("BRPOP", -3, ALL_KEYS_BUT_LAST, Shape::Array, 0, ""),
    row("BRPOPLPUSH", 4, TWO_KEYS, Shape::Bulk, 0, ""),
    row("BZMPOP", -5, Keys::Counted { at: 2 }, Shape::Array, 4, "MIN MAX COUNT"),
    row("BZPOPMAX", -3, ALL_KEYS_BUT_LAST, Shape::Array, 0, ""),
    row("BZPOPMIN", -3, ALL_KEYS_BUT_LAST, Shape::Array, 0, ""),
    row(
        "CLIENT",
        -2,
        NO_KEYS,
        Shape::Any,
        2,
        "LIB-NAME LIB-VER ON OFF SKIP TYPE NORMAL MASTER REPLICA PUBSUB ID ADDR LADDR SKIPME YES NO REDIRECT BCAST PREFIX OPTIN OPTOUT NOLOOP",
    ),
    row("CLUSTER", -2, NO_KEYS, Shape::Any, 0, ""),
    row("COMMAND", -1, NO_KEYS, Shape::Any, 0, ""),
    row("CONFIG", -2, NO_KEYS, Shape::Any, 0, ""),
    row("COPY", -3, TWO_KEYS, Shape::Integer, 3, "DB REPLACE"),
    row("DBSIZE", 1, NO_KEYS, Shape::Integer, 0, ""),
    row("DEBUG", -2, NO_KEYS, Shape::Any, 0, ""),
    row("DECR", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("DECRBY", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("DEL", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("DISCARD", 1, NO_KEYS, Shape::Status, 0, ""),
    row("DUMP", 2, ONE_KEY, Shape::Bulk, 0, ""),
    row("ECHO", 2, NO_KEYS, Shape::Bulk, 0, ""),
    row("EVAL", -3, Keys::Counted { at: 2 }, Shape::Any, 0, ""),
    row("EVALSHA", -3, Keys::Counted { at: 2 }, Shape::Any, 0, ""),
    row("EVALSHA_RO", -3, Keys::Counted { at: 2 }, Shape::Any, 0, ""),
    row("EVAL_RO", -3, Keys::Counted { at: 2 }, Shape::Any, 0, ""),
    row("EXEC", 1, NO_KEYS, Shape::Array, 0, ""),
    row("EXISTS", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("EXPIRE", -3, ONE_KEY, Shape::Integer, 3, "NX XX GT LT"),
    row("EXPIREAT", -3, ONE_KEY, Shape::Integer, 3, "NX XX GT LT"),
    row("EXPIRETIME", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("FAILOVER", -1, NO_KEYS, Shape::Any, 1, "TO FORCE ABORT TIMEOUT"),
    row("FCALL", -3, Keys::Counted { at: 2 }, Shape::Any, 0, ""),
    row("FCALL_RO", -3, Keys::Counted { at: 2 }, Shape::Any, 0, ""),
    row("FLUSHALL", -1, NO_KEYS, Shape::Status, 1, "ASYNC SYNC"),
    row("FLUSHDB", -1, NO_KEYS, Shape::Status, 1, "ASYNC SYNC"),
    row("FUNCTION", -2, NO_KEYS, Shape::Any, 0, ""),
    row("GEOADD", -5, ONE_KEY, Shape::Integer, 2, "NX XX CH"),
    row("GEODIST", -4, ONE_KEY, Shape::Bulk, 4, "M KM FT MI"),
    row("GEOHASH", -2, ONE_KEY, Shape::Array, 0, ""),
    row("GEOPOS", -2, ONE_KEY, Shape::Array, 0, ""),
    row(
        "GEORADIUS",
        -6,
        ONE_KEY,
        Shape::Any,
        5,
        "M KM FT MI WITHCOORD WITHDIST WITHHASH COUNT ANY ASC DESC STORE STOREDIST",
    ),
    row(
        "GEORADIUSBYMEMBER",
        -5,
        ONE_KEY,
        Shape::Any,
        4,
        "M KM FT MI WITHCOORD WITHDIST WITHHASH COUNT ANY ASC DESC STORE STOREDIST",
    ),
    row("GEORADIUSBYMEMBER_RO", -5, ONE_KEY, Shape::Any, 0, ""),
    row("GEORADIUS_RO", -6, ONE_KEY, Shape::Any, 0, ""),
    row(
        "GEOSEARCH",
        -7,
        ONE_KEY,
        Shape::Array,
        2,
        "FROMMEMBER FROMLONLAT BYRADIUS BYBOX M KM FT MI ASC DESC COUNT ANY WITHCOORD WITHDIST WITHHASH",
    ),
    row(
        "GEOSEARCHSTORE",
        -8,
        TWO_KEYS,
        Shape::Integer,
        3,
        "FROMMEMBER FROMLONLAT BYRADIUS BYBOX M KM FT MI ASC DESC COUNT ANY STOREDIST",
    ),
    row("GET", 2, ONE_KEY, Shape::Bulk, 0, ""),
    row("GETBIT", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("GETDEL", 2, ONE_KEY, Shape::Bulk, 0, ""),
    row("GETEX", -2, ONE_KEY, Shape::Bulk, 2, "EX PX EXAT PXAT PERSIST"),
    row("GETRANGE", 4, ONE_KEY, Shape::Bulk, 0, ""),
    row("GETSET", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row("HDEL", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("HELLO", -1, NO_KEYS, Shape::Array, 2, "AUTH SETNAME"),
    row("HEXISTS", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("HEXPIRE", -6, ONE_KEY, Shape::Any, 3, "NX XX GT LT FIELDS"),
    row("HEXPIREAT", -6, ONE_KEY, Shape::Any, 3, "NX XX GT LT FIELDS"),
    row("HEXPIRETIME", -5, ONE_KEY, Shape::Any, 0, ""),
    row("HGET", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row("HGETALL", 2, ONE_KEY, Shape::Array, 0, ""),
    row("HGETDEL", -5, ONE_KEY, Shape::Any, 2, "FIELDS"),
    row("HGETEX", -5, ONE_KEY, Shape::Any, 2, "EX PX EXAT PXAT PERSIST FIELDS"),
    row("HINCRBY", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("HINCRBYFLOAT", 4, ONE_KEY, Shape::Bulk, 0, ""),
    row("HKEYS", 2, ONE_KEY, Shape::Array, 0, ""),
    row("HLEN", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("HMGET", -3, ONE_KEY, Shape::Array, 0, ""),
    row("HMSET", -4, ONE_KEY, Shape::Status, 0, ""),
    row("HPERSIST", -5, ONE_KEY, Shape::Any, 2, "FIELDS"),
    row("HPEXPIRE", -6, ONE_KEY, Shape::Any, 3, "NX XX GT LT FIELDS"),
    row("HPEXPIREAT", -6, ONE_KEY, Shape::Any, 3, "NX XX GT LT FIELDS"),
    row("HPEXPIRETIME", -5, ONE_KEY, Shape::Any, 0, ""),
    row("HPTTL", -5, ONE_KEY, Shape::Any, 2, "FIELDS"),
    row("HRANDFIELD", -2, ONE_KEY, Shape::Any, 3, "WITHVALUES"),
    row("HSCAN", -3, ONE_KEY, Shape::Array, 3, "MATCH COUNT NOVALUES"),
    row("HSET", -4, ONE_KEY, Shape::Integer, 0, ""),
    row("HSETEX", -6, ONE_KEY, Shape::Any, 2, "FNX FXX EX PX EXAT PXAT KEEPTTL FIELDS"),
    row("HSETNX", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("HSTRLEN", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("HTTL", -5, ONE_KEY, Shape::Any, 2, "FIELDS"),
    row("HVALS", 2, ONE_KEY, Shape::Array, 0, ""),
    row("INCR", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("INCRBY", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("INCRBYFLOAT", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row("INFO", -1, NO_KEYS, Shape::Bulk, 0, ""),
    row("KEYS", 2, NO_KEYS, Shape::Array, 0, ""),
    row("LASTSAVE", 1, NO_KEYS, Shape::Integer, 0, ""),
    row("LATENCY", -2, NO_KEYS, Shape::Any, 0, ""),
    row("LCS", -3, TWO_KEYS, Shape::Any, 3, "LEN IDX MINMATCHLEN WITHMATCHLEN"),
    row("LINDEX", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row("LINSERT", 5, ONE_KEY, Shape::Integer, 2, "BEFORE AFTER"),
    row("LLEN", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("LMOVE", 5, TWO_KEYS, Shape::Bulk, 3, "LEFT RIGHT"),
    row("LMPOP", -4, Keys::Counted { at: 1 }, Shape::Array, 3, "LEFT RIGHT COUNT"),
    row("LOLWUT", -1, NO_KEYS, Shape::Bulk, 0, ""),
    row("LPOP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("LPOS", -3, ONE_KEY, Shape::Any, 3, "RANK COUNT MAXLEN"),
    row("LPUSH", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("LPUSHX", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("LRANGE", 4, ONE_KEY, Shape::Array, 0, ""),
    row("LREM", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("LSET", 4, ONE_KEY, Shape::Status, 0, ""),
    row("LTRIM", 4, ONE_KEY, Shape::Status, 0, ""),
    row("MEMORY", -2, AFTER_SUBCOMMAND, Shape::Any, 3, "SAMPLES"),
    row("MGET", -2, ALL_KEYS, Shape::Array, 0, ""),
    row("MIGRATE", -6, NO_KEYS, Shape::Any, 0, ""),
    row("MODULE", -2, NO_KEYS, Shape::Any, 0, ""),
    row("MONITOR", 1, NO_KEYS, Shape::Status, 0, ""),
    row("MOVE", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("MSET", -3, Keys::Range { first: 1, last: -1, step: 2 }, Shape::Status, 0, ""),
    row("MSETNX", -3, Keys::Range { first: 1, last: -1, step: 2 }, Shape::Integer, 0, ""),
    row("MULTI", 1, NO_KEYS, Shape::Status, 0, ""),
    row("OBJECT", -2, AFTER_SUBCOMMAND, Shape::Any, 0, ""),
    row("PERSIST", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("PEXPIRE", -3, ONE_KEY, Shape::Integer, 3, "NX XX GT LT"),
    row("PEXPIREAT", -3, ONE_KEY, Shape::Integer, 3, "NX XX GT LT"),
    row("PEXPIRETIME", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("PFADD", -2, ONE_KEY, Shape::Integer, 0, ""),
    row("PFCOUNT", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("PFMERGE", -2, ALL_KEYS, Shape::Status, 0, ""),
    row("PING", -1, NO_KEYS, Shape::Any, 0, ""),
    row("PSETEX", 4, ONE_KEY, Shape::Status, 0, ""),
    row("PSUBSCRIBE", -2, ALL_KEYS, Shape::Any, 0, ""),
    row("PSYNC", -3, NO_KEYS, Shape::Any, 0, ""),
    row("PTTL", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("PUBLISH", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("PUBSUB", -2, NO_KEYS, Shape::Any, 0, ""),
    row("PUNSUBSCRIBE", -1, ALL_KEYS, Shape::Any, 0, ""),
    row("QUIT", -1, NO_KEYS, Shape::Status, 0, ""),
    row("RANDOMKEY", 1, NO_KEYS, Shape::Bulk, 0, ""),
    row("READONLY", 1, NO_KEYS, Shape::Status, 0, ""),
    row("READWRITE", 1, NO_KEYS, Shape::Status, 0, ""),
    row("RENAME", 3, TWO_KEYS, Shape::Status, 0, ""),
    row("RENAMENX", 3, TWO_KEYS, Shape::Integer, 0, ""),
    row("REPLCONF", -1, NO_KEYS, Shape::Any, 0, ""),
    row("REPLICAOF", 3, NO_KEYS, Shape::Any, 0, ""),
    row("RESET", 1, NO_KEYS, Shape::Status, 0, ""),
    row("RESTORE", -4, ONE_KEY, Shape::Status, 4, "REPLACE ABSTTL IDLETIME FREQ"),
    row("ROLE", 1, NO_KEYS, Shape::Array, 0, ""),
    row("RPOP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("RPOPLPUSH", 3, TWO_KEYS, Shape::Bulk, 0, ""),
    row("RPUSH", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("RPUSHX", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("SADD", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("SAVE", 1, NO_KEYS, Shape::Any, 0, ""),
    row("SCAN", -2, NO_KEYS, Shape::Array, 2, "MATCH COUNT TYPE"),
    row("SCARD", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("SCRIPT", -2, NO_KEYS, Shape::Any, 2, "ASYNC SYNC YES NO"),
    row("SDIFF", -2, ALL_KEYS, Shape::Array, 0, ""),
    row("SDIFFSTORE", -3, ALL_KEYS, Shape::Integer, 0, ""),
    row("SELECT", 2, NO_KEYS, Shape::Status, 0, ""),
    row("SENTINEL", -2, NO_KEYS, Shape::Any, 0, ""),
    row("SET", -3, ONE_KEY, Shape::Any, 3, "EX PX EXAT PXAT NX XX GET KEEPTTL IFEQ IFNE"),
    row("SETBIT", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("SETEX", 4, ONE_KEY, Shape::Status, 0, ""),
    row("SETNX", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("SETRANGE", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("SHUTDOWN", -1, NO_KEYS, Shape::Any, 1, "NOSAVE SAVE NOW FORCE ABORT"),
    row("SINTER", -2, ALL_KEYS, Shape::Array, 0, ""),
    row("SINTERCARD", -3, Keys::Counted { at: 1 }, Shape::Integer, 3, "LIMIT"),
    row("SINTERSTORE", -3, ALL_KEYS, Shape::Integer, 0, ""),
    row("SISMEMBER", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("SLAVEOF", 3, NO_KEYS, Shape::Any, 0, ""),
    row("SLOWLOG", -2, NO_KEYS, Shape::Any, 0, ""),
    row("SMEMBERS", 2, ONE_KEY, Shape::Array, 0, ""),
    row("SMISMEMBER", -3, ONE_KEY, Shape::Array, 0, ""),
    row("SMOVE", 4, TWO_KEYS, Shape::Integer, 0, ""),
    row("SORT", -2, ONE_KEY, Shape::Any, 2, "BY LIMIT GET ASC DESC ALPHA STORE"),
    row("SORT_RO", -2, ONE_KEY, Shape::Any, 2, "BY LIMIT GET ASC DESC ALPHA"),
    row("SPOP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("SPUBLISH", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("SRANDMEMBER", -2, ONE_KEY, Shape::Any, 0, ""),
    row("SREM", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("SSCAN", -3, ONE_KEY, Shape::Array, 3, "MATCH COUNT"),
    row("SSUBSCRIBE", -2, ALL_KEYS, Shape::Any, 0, ""),
    row("STRLEN", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("SUBSCRIBE", -2, ALL_KEYS, Shape::Any, 0, ""),
    row("SUBSTR", 4, ONE_KEY, Shape::Bulk, 0, ""),
    row("SUNION", -2, ALL_KEYS, Shape::Array, 0, ""),
    row("SUNIONSTORE", -3, ALL_KEYS, Shape::Integer, 0, ""),
    row("SUNSUBSCRIBE", -1, ALL_KEYS, Shape::Any, 0, ""),
    row("SWAPDB", 3, NO_KEYS, Shape::Status, 0, ""),
    row("SYNC", 1, NO_KEYS, Shape::Any, 0, ""),
    row("TIME", 1, NO_KEYS, Shape::Array, 0, ""),
    row("TOUCH", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("TTL", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("TYPE", 2, ONE_KEY, Shape::Status, 0, ""),
    row("UNLINK", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("UNSUBSCRIBE", -1, ALL_KEYS, Shape::Any, 0, ""),
    row("UNWATCH", 1, NO_KEYS, Shape::Status, 0, ""),
    row("WAIT", 3, NO_KEYS, Shape::Integer, 0, ""),
    row("WAITAOF", 4, NO_KEYS, Shape::Any, 0, ""),
    row("WATCH", -2, ALL_KEYS, Shape::Status, 0, ""),
    row("XACK", -4, ONE_KEY, Shape::Integer, 0, ""),
    row("XACKDEL", -6, ONE_KEY, Shape::Any, 3, "KEEPREF DELREF ACKED IDS"),
    row(
        "XADD",
        -5,
        ONE_KEY,
        Shape::Bulk,
        2,
        "NOMKSTREAM KEEPREF DELREF ACKED MAXLEN MINID = ~ LIMIT *",
    ),
    row("XAUTOCLAIM", -6, ONE_KEY, Shape::Array, 5, "COUNT JUSTID"),
    row("XCLAIM", -6, ONE_KEY, Shape::Array, 5, "IDLE TIME RETRYCOUNT FORCE JUSTID LASTID"),
    row("XDEL", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("XDELEX", -5, ONE_KEY, Shape::Any, 2, "KEEPREF DELREF ACKED IDS"),
    row("XGROUP", -2, AFTER_SUBCOMMAND, Shape::Any, 3, "MKSTREAM ENTRIESREAD $"),
    row("XINFO", -2, AFTER_SUBCOMMAND, Shape::Any, 3, "FULL COUNT"),
    row("XLEN", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("XPENDING", -3, ONE_KEY, Shape::Array, 3, "IDLE - +"),
    row("XRANGE", -4, ONE_KEY, Shape::Array, 2, "- + COUNT"),
    row("XREAD", -4, Keys::Streams, Shape::Array, 1, "COUNT BLOCK STREAMS $ +"),
    row(
        "XREADGROUP",
        -7,
        Keys::Streams,
        Shape::Array,
        1,
        "GROUP COUNT BLOCK NOACK CLAIM STREAMS >",
    ),
    row("XREVRANGE", -4, ONE_KEY, Shape::Array, 2, "- + COUNT"),
    row("XSETID", -3, ONE_KEY, Shape::Status, 0, ""),
    row("XTRIM", -4, ONE_KEY, Shape::Integer, 2, "MAXLEN MINID = ~ LIMIT"),
    row("ZADD", -4, ONE_KEY, Shape::Any, 2, "NX XX GT LT CH INCR"),
    row("ZCARD", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("ZCOUNT", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZDIFF", -3, Keys::Counted { at: 1 }, Shape::Array, 3, "WITHSCORES"),
    row("ZDIFFSTORE", -4, Keys::IntoCounted, Shape::Integer, 0, ""),
    row("ZINCRBY", 4, ONE_KEY, Shape::Bulk, 0, ""),
    row(
        "ZINTER",
        -3,
        Keys::Counted { at: 1 },
        Shape::Array,
        3,
        "WEIGHTS AGGREGATE SUM MIN MAX WITHSCORES",
    ),
    row("ZINTERCARD", -3, Keys::Counted { at: 1 }, Shape::Integer, 3, "LIMIT"),
    row("ZINTERSTORE", -4, Keys::IntoCounted, Shape::Integer, 4, "WEIGHTS AGGREGATE SUM MIN MAX"),
    row("ZLEXCOUNT", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZMPOP", -4, Keys::Counted { at: 1 }, Shape::Array, 3, "MIN MAX COUNT"),
    row("ZMSCORE", -3, ONE_KEY, Shape::Array, 0, ""),
    row("ZPOPMAX", -2, ONE_KEY, Shape::Array, 0, ""),
    row("ZPOPMIN", -2, ONE_KEY, Shape::Array, 0, ""),
    row("ZRANDMEMBER", -2, ONE_KEY, Shape::Any, 3, "WITHSCORES"),
    row("ZRANGE", -4, ONE_KEY, Shape::Array, 4, "BYSCORE BYLEX REV LIMIT WITHSCORES"),
    row("ZRANGEBYLEX", -4, ONE_KEY, Shape::Array, 4, "LIMIT"),
    row("ZRANGEBYSCORE", -4, ONE_KEY, Shape::Array, 4, "WITHSCORES LIMIT"),
    row("ZRANGESTORE", -5, TWO_KEYS, Shape::Integer, 5, "BYSCORE BYLEX REV LIMIT"),
    row("ZRANK", 3, ONE_KEY, Shape::Any, 3, "WITHSCORE"),
    row("ZREM", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("ZREMRANGEBYLEX", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZREMRANGEBYRANK", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZREMRANGEBYSCORE", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZREVRANGE", -4, ONE_KEY, Shape::Array, 4, "WITHSCORES"),
    row("ZREVRANGEBYLEX", -4, ONE_KEY, Shape::Array, 4, "LIMIT"),
    row("ZREVRANGEBYSCORE", -4, ONE_KEY, Shape::Array, 4, "WITHSCORES LIMIT"),
    row("ZREVRANK", 3, ONE_KEY, Shape::Any, 3, "WITHSCORE"),
    row("ZSCAN", -3, ONE_KEY, Shape::Array, 3, "MATCH COUNT"),
    row("ZSCORE", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row(
        "ZUNION",
        -3,
        Keys::Counted { at: 1 },
        Shape::Array,
        3,
        "WEIGHTS AGGREGATE SUM MIN MAX WITHSCORES",
    ),
    row("ZUNIONSTORE", -4, Keys::IntoCounted, Shape::Integer, 4, "WEIGHTS AGGREGATE SUM MIN MAX"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_sorted_and_found_in_any_case() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for spec in COMMANDS {
            assert_eq!(find(spec.name.to_lowercase().as_bytes()).unwrap().name, spec.name);
            assert_eq!(spec.words.is_empty(), spec.words_from == 0, "{}", spec.name);
        }
        assert!(find(b"GETX").is_none() && find(b"").is_none());
        assert!(CONTAINERS.iter().all(|(container, _)| find(container.as_bytes()).is_some()));
    }
}
