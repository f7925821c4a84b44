//! The commands of Redis, a long table: where their keys are, which words are part of their structure, what they answer.
//!
//! Arity and key positions are those of `COMMAND INFO` of Redis 7.0, and the documentation's of what came later (up to
//! Redis 8.8 and Valkey 9, with the modules that come with these), but that a channel counts as a key, and an index of the
//! query engine (`FT.SEARCH`). Words are looked for by their place ([`super::tail`]) and told from this list: nothing
//! that a client made up is told as one. Replies' shapes are for the usual answer;
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
    pub(super) tail_from: u32,
    /// The grammar of what comes from there on, but for the keys ([`super::tail::Tail`]).
    pub(super) tail: &'static str,
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
}

/// Which arguments are keys. The name is argument 0.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys {
    /// `last` counts from the end when negative (-1 is the last); `first` 0: there are none.
    Range { first: u32, last: i32, step: u32 },
    /// The argument `at` says how many follow, each `step` behind the one before.
    Counted { at: u32, step: u32 },
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

const fn counted(at: u32) -> Keys {
    Keys::Counted { at, step: 1 }
}

const fn row(
    name: &'static str,
    arity: i8,
    keys: Keys,
    shape: Shape,
    tail_from: u32,
    tail: &'static str,
) -> Spec {
    Spec { name, arity, keys, shape, tail_from, tail }
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

/// Where words may come in a command with this subcommand, and their grammar.
pub(super) fn subcommand_tail(name: &str) -> Option<(u32, &'static str)> {
    SUBCOMMAND_TAILS.iter().find(|(known, ..)| *known == name).map(|(_, from, tail)| (*from, *tail))
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
    ("COMMANDLOG", "GET HELP LEN RESET"),
    ("CONFIG", "GET HELP RESETSTAT REWRITE SET"),
    ("FT.CONFIG", "GET HELP SET"),
    ("FT.CURSOR", "DEL GC READ"),
    ("FUNCTION", "DELETE DUMP FLUSH HELP KILL LIST LOAD RESTORE STATS"),
    ("HOTKEYS", "GET HELP RESET START STOP"),
    ("JSON.DEBUG", "HELP MEMORY"),
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

pub(super) const SUBCOMMAND_TAILS: &[(&str, u32, &str)] = &[
    ("CLIENT CACHING", 2, "YES NO/"),
    ("CLIENT KILL", 2, "ID:1 TYPE:1 USER:1 ADDR:1 LADDR:1 SKIPME:1 MAXAGE:1"),
    ("CLIENT LIST", 2, "TYPE:1 ID!"),
    ("CLIENT MAINT_NOTIFICATIONS", 2, "ON OFF/"),
    ("CLIENT NO-EVICT", 2, "ON OFF/"),
    ("CLIENT NO-TOUCH", 2, "ON OFF/"),
    ("CLIENT PAUSE", 3, "WRITE ALL/"),
    ("CLIENT REPLY", 2, "ON OFF SKIP/"),
    ("CLIENT SETINFO", 2, "LIB-NAME LIB-VER/"),
    ("CLIENT TRACKING", 2, "ON OFF/REDIRECT:1 PREFIX:1 BCAST OPTIN OPTOUT NOLOOP"),
    ("CLIENT UNBLOCK", 3, "TIMEOUT ERROR/"),
    ("MEMORY USAGE", 3, "SAMPLES:1"),
    ("SCRIPT DEBUG", 2, "YES SYNC NO/"),
    ("SCRIPT FLUSH", 2, "ASYNC SYNC/"),
    ("XGROUP CREATE", 4, "$/MKSTREAM ENTRIESREAD:1"),
    ("XGROUP SETID", 4, "$/ENTRIESREAD:1"),
    ("XINFO STREAM", 3, "FULL COUNT:1"),
];

/// Of the ids that a command reads behind, those that are no id.
pub(super) const STREAM_IDS: &str = "... $ + >";

/// Sorted by name.
pub(super) static COMMANDS: &[Spec] = &[
    row("ACL", -2, NO_KEYS, Shape::Any, 0, ""),
    row("APPEND", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("ARCOUNT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARDEL", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARDELRANGE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARGET", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARGETRANGE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARGREP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARINFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARINSERT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARLASTITEMS", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARLEN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARMGET", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARMSET", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARNEXT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("AROP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARRING", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARSCAN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARSEEK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ARSET", -2, ONE_KEY, Shape::Any, 0, ""),
    row("ASKING", 1, NO_KEYS, Shape::Status, 0, ""),
    row("AUTH", -2, NO_KEYS, Shape::Status, 0, ""),
    row("BF.ADD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.CARD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.DEBUG", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.EXISTS", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.INFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.INSERT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.LOAD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.LOADCHUNK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.MADD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.MEXISTS", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.RESERVE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BF.SCANDUMP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("BGREWRITEAOF", 1, NO_KEYS, Shape::Any, 0, ""),
    row("BGSAVE", -1, NO_KEYS, Shape::Any, 1, "SCHEDULE"),
    row("BITCOUNT", -2, ONE_KEY, Shape::Integer, 4, "BYTE BIT/"),
    row("BITFIELD", -2, ONE_KEY, Shape::Any, 2, "GET:2 SET:3 INCRBY:3 OVERFLOW WRAP SAT FAIL"),
    row("BITFIELD_RO", -2, ONE_KEY, Shape::Any, 2, "GET:2"),
    row(
        "BITOP",
        -4,
        Keys::Range { first: 2, last: -1, step: 1 },
        Shape::Integer,
        1,
        "AND OR XOR NOT DIFF DIFF1 ANDOR ONE/",
    ),
    row("BITPOS", -3, ONE_KEY, Shape::Integer, 5, "BYTE BIT/"),
    row("BLMOVE", 6, TWO_KEYS, Shape::Bulk, 3, "LEFT RIGHT/LEFT RIGHT/"),
    row("BLMPOP", -5, counted(2), Shape::Array, 3, "LEFT RIGHT/COUNT:1"),
    row("BLPOP", -3, ALL_KEYS_BUT_LAST, Shape::Array, 0, ""),
    row("BRPOP", -3, ALL_KEYS_BUT_LAST, Shape::Array, 0, ""),
    row("BRPOPLPUSH", 4, TWO_KEYS, Shape::Bulk, 0, ""),
    row("BZMPOP", -5, counted(2), Shape::Array, 3, "MIN MAX/COUNT:1"),
    row("BZPOPMAX", -3, ALL_KEYS_BUT_LAST, Shape::Array, 0, ""),
    row("BZPOPMIN", -3, ALL_KEYS_BUT_LAST, Shape::Array, 0, ""),
    row("CF.ADD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.ADDNX", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.COMPACT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.COUNT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.DEBUG", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.DEL", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.EXISTS", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.INFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.INSERT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.INSERTNX", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.LOADCHUNK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.MEXISTS", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.RESERVE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CF.SCANDUMP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CL.THROTTLE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CLIENT", -2, NO_KEYS, Shape::Any, 0, ""),
    row("CLUSTER", -2, NO_KEYS, Shape::Any, 0, ""),
    row("CLUSTERSCAN", -2, NO_KEYS, Shape::Any, 2, "MATCH:1 COUNT:1 TYPE:1 SLOT:1"),
    row("CMS.INCRBY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CMS.INFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CMS.INITBYDIM", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CMS.INITBYPROB", -2, ONE_KEY, Shape::Any, 0, ""),
    row("CMS.MERGE", -4, Keys::IntoCounted, Shape::Any, 0, ""),
    row("CMS.QUERY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("COMMAND", -1, NO_KEYS, Shape::Any, 0, ""),
    row("COMMANDLOG", -2, NO_KEYS, Shape::Any, 0, ""),
    row("CONFIG", -2, NO_KEYS, Shape::Any, 0, ""),
    row("COPY", -3, TWO_KEYS, Shape::Integer, 3, "DB:1 REPLACE"),
    row("DBSIZE", 1, NO_KEYS, Shape::Integer, 0, ""),
    row("DEBUG", -2, NO_KEYS, Shape::Any, 0, ""),
    row("DECR", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("DECRBY", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("DEL", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("DELEX", -2, ONE_KEY, Shape::Integer, 2, "IFEQ:1 IFNE:1 IFDEQ:1 IFDNE:1"),
    row("DELIFEQ", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("DIGEST", 2, ONE_KEY, Shape::Bulk, 0, ""),
    row("DISCARD", 1, NO_KEYS, Shape::Status, 0, ""),
    row("DUMP", 2, ONE_KEY, Shape::Bulk, 0, ""),
    row("ECHO", 2, NO_KEYS, Shape::Bulk, 0, ""),
    row("EVAL", -3, counted(2), Shape::Any, 0, ""),
    row("EVALSHA", -3, counted(2), Shape::Any, 0, ""),
    row("EVALSHA_RO", -3, counted(2), Shape::Any, 0, ""),
    row("EVAL_RO", -3, counted(2), Shape::Any, 0, ""),
    row("EXEC", 1, NO_KEYS, Shape::Array, 0, ""),
    row("EXISTS", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("EXPIRE", -3, ONE_KEY, Shape::Integer, 3, "NX XX GT LT"),
    row("EXPIREAT", -3, ONE_KEY, Shape::Integer, 3, "NX XX GT LT"),
    row("EXPIRETIME", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("FAILOVER", -1, NO_KEYS, Shape::Any, 1, "TO:2 FORCE ABORT TIMEOUT:1"),
    row("FCALL", -3, counted(2), Shape::Any, 0, ""),
    row("FCALL_RO", -3, counted(2), Shape::Any, 0, ""),
    row("FLUSHALL", -1, NO_KEYS, Shape::Status, 1, "ASYNC SYNC"),
    row("FLUSHDB", -1, NO_KEYS, Shape::Status, 1, "ASYNC SYNC"),
    row("FT.AGGREGATE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.ALIASADD", -2, TWO_KEYS, Shape::Any, 0, ""),
    row("FT.ALIASDEL", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.ALIASUPDATE", -2, TWO_KEYS, Shape::Any, 0, ""),
    row("FT.ALTER", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.CONFIG", -2, NO_KEYS, Shape::Any, 0, ""),
    row("FT.CREATE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.CURSOR", -2, AFTER_SUBCOMMAND, Shape::Any, 0, ""),
    row("FT.DICTADD", -2, NO_KEYS, Shape::Any, 0, ""),
    row("FT.DICTDEL", -2, NO_KEYS, Shape::Any, 0, ""),
    row("FT.DICTDUMP", -2, NO_KEYS, Shape::Any, 0, ""),
    row("FT.DROP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.DROPINDEX", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.EXPLAIN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.EXPLAINCLI", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.HYBRID", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.INFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.PROFILE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.SEARCH", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.SPELLCHECK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.SUGADD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.SUGDEL", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.SUGGET", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.SUGLEN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.SYNDUMP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.SYNUPDATE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT.TAGVALS", -2, ONE_KEY, Shape::Any, 0, ""),
    row("FT._LIST", 1, NO_KEYS, Shape::Any, 0, ""),
    row("FUNCTION", -2, NO_KEYS, Shape::Any, 0, ""),
    row("GCRA", -2, ONE_KEY, Shape::Any, 0, ""),
    row("GEOADD", -5, ONE_KEY, Shape::Integer, 2, "NX XX CH"),
    row("GEODIST", -4, ONE_KEY, Shape::Bulk, 4, "M KM FT MI/"),
    row("GEOHASH", -2, ONE_KEY, Shape::Array, 0, ""),
    row("GEOPOS", -2, ONE_KEY, Shape::Array, 0, ""),
    row(
        "GEORADIUS",
        -6,
        ONE_KEY,
        Shape::Any,
        5,
        "M KM FT MI/WITHCOORD WITHDIST WITHHASH COUNT:1 ANY ASC DESC STORE:k STOREDIST:k",
    ),
    row(
        "GEORADIUSBYMEMBER",
        -5,
        ONE_KEY,
        Shape::Any,
        4,
        "M KM FT MI/WITHCOORD WITHDIST WITHHASH COUNT:1 ANY ASC DESC STORE:k STOREDIST:k",
    ),
    row(
        "GEORADIUSBYMEMBER_RO",
        -5,
        ONE_KEY,
        Shape::Any,
        4,
        "M KM FT MI/WITHCOORD WITHDIST WITHHASH COUNT:1 ANY ASC DESC",
    ),
    row(
        "GEORADIUS_RO",
        -6,
        ONE_KEY,
        Shape::Any,
        5,
        "M KM FT MI/WITHCOORD WITHDIST WITHHASH COUNT:1 ANY ASC DESC",
    ),
    row(
        "GEOSEARCH",
        -7,
        ONE_KEY,
        Shape::Array,
        2,
        "FROMMEMBER:1 FROMLONLAT:2 BYRADIUS:1 BYBOX:2 M KM FT MI ASC DESC COUNT:1 ANY WITHCOORD WITHDIST WITHHASH",
    ),
    row(
        "GEOSEARCHSTORE",
        -8,
        TWO_KEYS,
        Shape::Integer,
        3,
        "FROMMEMBER:1 FROMLONLAT:2 BYRADIUS:1 BYBOX:2 M KM FT MI ASC DESC COUNT:1 ANY STOREDIST",
    ),
    row("GET", 2, ONE_KEY, Shape::Bulk, 0, ""),
    row("GETBIT", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("GETDEL", 2, ONE_KEY, Shape::Bulk, 0, ""),
    row("GETEX", -2, ONE_KEY, Shape::Bulk, 2, "EX:1 PX:1 EXAT:1 PXAT:1 PERSIST"),
    row("GETRANGE", 4, ONE_KEY, Shape::Bulk, 0, ""),
    row("GETSET", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row("GRAPH.DELETE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("GRAPH.EXPLAIN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("GRAPH.PROFILE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("GRAPH.QUERY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("GRAPH.RO_QUERY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("HDEL", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("HELLO", -1, NO_KEYS, Shape::Array, 2, "AUTH:2 SETNAME:1"),
    row("HEXISTS", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("HEXPIRE", -6, ONE_KEY, Shape::Any, 3, "NX XX GT LT FIELDS!"),
    row("HEXPIREAT", -6, ONE_KEY, Shape::Any, 3, "NX XX GT LT FIELDS!"),
    row("HEXPIRETIME", -5, ONE_KEY, Shape::Any, 2, "FIELDS!"),
    row("HGET", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row("HGETALL", 2, ONE_KEY, Shape::Array, 0, ""),
    row("HGETDEL", -5, ONE_KEY, Shape::Any, 2, "FIELDS!"),
    row("HGETEX", -5, ONE_KEY, Shape::Any, 2, "EX:1 PX:1 EXAT:1 PXAT:1 PERSIST FIELDS!"),
    row("HINCRBY", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("HINCRBYFLOAT", 4, ONE_KEY, Shape::Bulk, 0, ""),
    row("HKEYS", 2, ONE_KEY, Shape::Array, 0, ""),
    row("HLEN", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("HMGET", -3, ONE_KEY, Shape::Array, 0, ""),
    row("HMSET", -4, ONE_KEY, Shape::Status, 0, ""),
    row("HOTKEYS", -2, NO_KEYS, Shape::Any, 0, ""),
    row("HPERSIST", -5, ONE_KEY, Shape::Any, 2, "FIELDS!"),
    row("HPEXPIRE", -6, ONE_KEY, Shape::Any, 3, "NX XX GT LT FIELDS!"),
    row("HPEXPIREAT", -6, ONE_KEY, Shape::Any, 3, "NX XX GT LT FIELDS!"),
    row("HPEXPIRETIME", -5, ONE_KEY, Shape::Any, 2, "FIELDS!"),
    row("HPTTL", -5, ONE_KEY, Shape::Any, 2, "FIELDS!"),
    row("HRANDFIELD", -2, ONE_KEY, Shape::Any, 3, "WITHVALUES"),
    row("HSCAN", -3, ONE_KEY, Shape::Array, 3, "MATCH:1 COUNT:1 NOVALUES"),
    row("HSET", -4, ONE_KEY, Shape::Integer, 0, ""),
    row("HSETEX", -6, ONE_KEY, Shape::Any, 2, "FNX FXX EX:1 PX:1 EXAT:1 PXAT:1 KEEPTTL FIELDS!"),
    row("HSETNX", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("HSTRLEN", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("HTTL", -5, ONE_KEY, Shape::Any, 2, "FIELDS!"),
    row("HVALS", 2, ONE_KEY, Shape::Array, 0, ""),
    row("INCR", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("INCRBY", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("INCRBYFLOAT", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row("INCREX", -2, ONE_KEY, Shape::Any, 0, ""),
    row("INFO", -1, NO_KEYS, Shape::Bulk, 0, ""),
    row("JSON.ARRAPPEND", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.ARRINDEX", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.ARRINSERT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.ARRLEN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.ARRPOP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.ARRTRIM", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.CLEAR", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.DEBUG", -2, AFTER_SUBCOMMAND, Shape::Any, 0, ""),
    row("JSON.DEL", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.FORGET", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.GET", -2, ONE_KEY, Shape::Any, 2, "INDENT:1 NEWLINE:1 SPACE:1 NOESCAPE"),
    row("JSON.MERGE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.MGET", -3, ALL_KEYS_BUT_LAST, Shape::Any, 0, ""),
    row("JSON.MSET", -4, Keys::Range { first: 1, last: -1, step: 3 }, Shape::Any, 0, ""),
    row("JSON.NUMINCRBY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.NUMMULTBY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.NUMPOWBY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.OBJKEYS", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.OBJLEN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.RESP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.SET", -4, ONE_KEY, Shape::Any, 4, "NX XX"),
    row("JSON.STRAPPEND", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.STRLEN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.TOGGLE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("JSON.TYPE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("KEYS", 2, NO_KEYS, Shape::Array, 0, ""),
    row("LASTSAVE", 1, NO_KEYS, Shape::Integer, 0, ""),
    row("LATENCY", -2, NO_KEYS, Shape::Any, 0, ""),
    row("LCS", -3, TWO_KEYS, Shape::Any, 3, "LEN IDX MINMATCHLEN:1 WITHMATCHLEN"),
    row("LINDEX", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row("LINSERT", 5, ONE_KEY, Shape::Integer, 2, "BEFORE AFTER/"),
    row("LLEN", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("LMOVE", 5, TWO_KEYS, Shape::Bulk, 3, "LEFT RIGHT/LEFT RIGHT/"),
    row("LMPOP", -4, counted(1), Shape::Array, 2, "LEFT RIGHT/COUNT:1"),
    row("LOLWUT", -1, NO_KEYS, Shape::Bulk, 0, ""),
    row("LPOP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("LPOS", -3, ONE_KEY, Shape::Any, 3, "RANK:1 COUNT:1 MAXLEN:1"),
    row("LPUSH", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("LPUSHX", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("LRANGE", 4, ONE_KEY, Shape::Array, 0, ""),
    row("LREM", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("LSET", 4, ONE_KEY, Shape::Status, 0, ""),
    row("LTRIM", 4, ONE_KEY, Shape::Status, 0, ""),
    row("MEMORY", -2, AFTER_SUBCOMMAND, Shape::Any, 0, ""),
    row("MGET", -2, ALL_KEYS, Shape::Array, 0, ""),
    row(
        "MIGRATE",
        -6,
        Keys::Range { first: 3, last: 3, step: 1 },
        Shape::Any,
        6,
        "COPY REPLACE AUTH:1 AUTH2:2 KEYS:K",
    ),
    row("MODULE", -2, NO_KEYS, Shape::Any, 0, ""),
    row("MONITOR", 1, NO_KEYS, Shape::Status, 0, ""),
    row("MOVE", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("MSET", -3, Keys::Range { first: 1, last: -1, step: 2 }, Shape::Status, 0, ""),
    row(
        "MSETEX",
        -4,
        Keys::Counted { at: 1, step: 2 },
        Shape::Any,
        2,
        "NX XX EX:1 PX:1 EXAT:1 PXAT:1 KEEPTTL",
    ),
    row("MSETNX", -3, Keys::Range { first: 1, last: -1, step: 2 }, Shape::Integer, 0, ""),
    row("MULTI", 1, NO_KEYS, Shape::Status, 0, ""),
    row("OBJECT", -2, AFTER_SUBCOMMAND, Shape::Any, 0, ""),
    row("PERSIST", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("PEXPIRE", -3, ONE_KEY, Shape::Integer, 3, "NX XX GT LT"),
    row("PEXPIREAT", -3, ONE_KEY, Shape::Integer, 3, "NX XX GT LT"),
    row("PEXPIRETIME", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("PFADD", -2, ONE_KEY, Shape::Integer, 0, ""),
    row("PFCOUNT", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("PFDEBUG", -2, AFTER_SUBCOMMAND, Shape::Any, 0, ""),
    row("PFMERGE", -2, ALL_KEYS, Shape::Status, 0, ""),
    row("PFSELFTEST", 1, NO_KEYS, Shape::Any, 0, ""),
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
    row("RESTORE", -4, ONE_KEY, Shape::Status, 4, "REPLACE ABSTTL IDLETIME:1 FREQ:1"),
    row("ROLE", 1, NO_KEYS, Shape::Array, 0, ""),
    row("RPOP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("RPOPLPUSH", 3, TWO_KEYS, Shape::Bulk, 0, ""),
    row("RPUSH", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("RPUSHX", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("SADD", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("SAVE", 1, NO_KEYS, Shape::Any, 0, ""),
    row("SCAN", -2, NO_KEYS, Shape::Array, 2, "MATCH:1 COUNT:1 TYPE:1"),
    row("SCARD", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("SCRIPT", -2, NO_KEYS, Shape::Any, 0, ""),
    row("SDIFF", -2, ALL_KEYS, Shape::Array, 0, ""),
    row("SDIFFSTORE", -3, ALL_KEYS, Shape::Integer, 0, ""),
    row("SELECT", 2, NO_KEYS, Shape::Status, 0, ""),
    row("SENTINEL", -2, NO_KEYS, Shape::Any, 0, ""),
    row(
        "SET",
        -3,
        ONE_KEY,
        Shape::Any,
        3,
        "EX:1 PX:1 EXAT:1 PXAT:1 NX XX GET KEEPTTL IFEQ:1 IFNE:1 IFDEQ:1 IFDNE:1",
    ),
    row("SETBIT", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("SETEX", 4, ONE_KEY, Shape::Status, 0, ""),
    row("SETNX", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("SETRANGE", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("SHUTDOWN", -1, NO_KEYS, Shape::Any, 1, "NOSAVE SAVE NOW FORCE ABORT SAFE FAILOVER"),
    row("SINTER", -2, ALL_KEYS, Shape::Array, 0, ""),
    row("SINTERCARD", -3, counted(1), Shape::Integer, 2, "LIMIT:1"),
    row("SINTERSTORE", -3, ALL_KEYS, Shape::Integer, 0, ""),
    row("SISMEMBER", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("SLAVEOF", 3, NO_KEYS, Shape::Any, 0, ""),
    row("SLOWLOG", -2, NO_KEYS, Shape::Any, 0, ""),
    row("SMEMBERS", 2, ONE_KEY, Shape::Array, 0, ""),
    row("SMISMEMBER", -3, ONE_KEY, Shape::Array, 0, ""),
    row("SMOVE", 4, TWO_KEYS, Shape::Integer, 0, ""),
    row("SORT", -2, ONE_KEY, Shape::Any, 2, "BY:1 LIMIT:2 GET:1 ASC DESC ALPHA STORE:k"),
    row("SORT_RO", -2, ONE_KEY, Shape::Any, 2, "BY:1 LIMIT:2 GET:1 ASC DESC ALPHA"),
    row("SPOP", -2, ONE_KEY, Shape::Any, 0, ""),
    row("SPUBLISH", 3, ONE_KEY, Shape::Integer, 0, ""),
    row("SRANDMEMBER", -2, ONE_KEY, Shape::Any, 0, ""),
    row("SREM", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("SSCAN", -3, ONE_KEY, Shape::Array, 3, "MATCH:1 COUNT:1"),
    row("SSUBSCRIBE", -2, ALL_KEYS, Shape::Any, 0, ""),
    row("STRALGO", -2, NO_KEYS, Shape::Any, 0, ""),
    row("STRLEN", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("SUBSCRIBE", -2, ALL_KEYS, Shape::Any, 0, ""),
    row("SUBSTR", 4, ONE_KEY, Shape::Bulk, 0, ""),
    row("SUNION", -2, ALL_KEYS, Shape::Array, 0, ""),
    row("SUNIONSTORE", -3, ALL_KEYS, Shape::Integer, 0, ""),
    row("SUNSUBSCRIBE", -1, ALL_KEYS, Shape::Any, 0, ""),
    row("SWAPDB", 3, NO_KEYS, Shape::Status, 0, ""),
    row("SYNC", 1, NO_KEYS, Shape::Any, 0, ""),
    row("TDIGEST.ADD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.BYRANK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.BYREVRANK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.CDF", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.CREATE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.INFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.MAX", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.MERGE", -4, Keys::IntoCounted, Shape::Any, 0, ""),
    row("TDIGEST.MIN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.QUANTILE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.RANK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.RESET", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.REVRANK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TDIGEST.TRIMMED_MEAN", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TIME", 1, NO_KEYS, Shape::Array, 0, ""),
    row("TOPK.ADD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TOPK.COUNT", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TOPK.INCRBY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TOPK.INFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TOPK.LIST", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TOPK.QUERY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TOPK.RESERVE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TOUCH", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("TS.ADD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.ALTER", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.CREATE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.CREATERULE", -3, TWO_KEYS, Shape::Any, 0, ""),
    row("TS.DECRBY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.DEL", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.DELETERULE", -3, TWO_KEYS, Shape::Any, 0, ""),
    row("TS.GET", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.INCRBY", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.INFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.MADD", -4, Keys::Range { first: 1, last: -1, step: 3 }, Shape::Any, 0, ""),
    row("TS.MGET", -2, NO_KEYS, Shape::Any, 0, ""),
    row("TS.MRANGE", -2, NO_KEYS, Shape::Any, 0, ""),
    row("TS.MREVRANGE", -2, NO_KEYS, Shape::Any, 0, ""),
    row("TS.QUERYINDEX", -2, NO_KEYS, Shape::Any, 0, ""),
    row("TS.RANGE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TS.REVRANGE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("TTL", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("TYPE", 2, ONE_KEY, Shape::Status, 0, ""),
    row("UNLINK", -2, ALL_KEYS, Shape::Integer, 0, ""),
    row("UNSUBSCRIBE", -1, ALL_KEYS, Shape::Any, 0, ""),
    row("UNWATCH", 1, NO_KEYS, Shape::Status, 0, ""),
    row("VADD", -5, ONE_KEY, Shape::Any, 2, "REDUCE:1 FP32! VALUES!"),
    row("VCARD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VDIM", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VEMB", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VGETATTR", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VINFO", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VISMEMBER", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VLINKS", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VRANDMEMBER", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VRANGE", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VREM", -2, ONE_KEY, Shape::Any, 0, ""),
    row("VSETATTR", -2, ONE_KEY, Shape::Any, 0, ""),
    row(
        "VSIM",
        -4,
        ONE_KEY,
        Shape::Any,
        2,
        "ELE:1 FP32:1 VALUES! WITHSCORES WITHATTRIBS COUNT:1 EF:1 EPSILON:1 FILTER:1 FILTER-EF:1 TRUTH NOTHREAD",
    ),
    row("WAIT", 3, NO_KEYS, Shape::Integer, 0, ""),
    row("WAITAOF", 4, NO_KEYS, Shape::Any, 0, ""),
    row("WATCH", -2, ALL_KEYS, Shape::Status, 0, ""),
    row("XACK", -4, ONE_KEY, Shape::Integer, 0, ""),
    row("XACKDEL", -6, ONE_KEY, Shape::Any, 3, "KEEPREF DELREF ACKED IDS!"),
    row(
        "XADD",
        -5,
        ONE_KEY,
        Shape::Bulk,
        2,
        "NOMKSTREAM KEEPREF DELREF ACKED IDMPAUTO:1 IDMP:2 MAXLEN~ MINID~ LIMIT:1 *!",
    ),
    row("XAUTOCLAIM", -6, ONE_KEY, Shape::Array, 6, "COUNT:1 JUSTID"),
    row("XCFGSET", -2, ONE_KEY, Shape::Any, 0, ""),
    row(
        "XCLAIM",
        -6,
        ONE_KEY,
        Shape::Array,
        5,
        "... IDLE:1 TIME:1 RETRYCOUNT:1 FORCE JUSTID LASTID:1",
    ),
    row("XDEL", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("XDELEX", -5, ONE_KEY, Shape::Any, 2, "KEEPREF DELREF ACKED IDS!"),
    row("XGROUP", -2, AFTER_SUBCOMMAND, Shape::Any, 0, ""),
    row("XIDMPRECORD", -2, ONE_KEY, Shape::Any, 0, ""),
    row("XINFO", -2, AFTER_SUBCOMMAND, Shape::Any, 0, ""),
    row("XLEN", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("XNACK", -2, ONE_KEY, Shape::Any, 0, ""),
    row("XPENDING", -3, ONE_KEY, Shape::Array, 3, "IDLE:1 - +"),
    row("XRANGE", -4, ONE_KEY, Shape::Array, 2, "- +/- +/COUNT:1"),
    row("XREAD", -4, Keys::Streams, Shape::Array, 1, "COUNT:1 BLOCK:1 STREAMS"),
    row(
        "XREADGROUP",
        -7,
        Keys::Streams,
        Shape::Array,
        1,
        "GROUP:2 COUNT:1 BLOCK:1 NOACK CLAIM:1 STREAMS",
    ),
    row("XREVRANGE", -4, ONE_KEY, Shape::Array, 2, "- +/- +/COUNT:1"),
    row("XSETID", -3, ONE_KEY, Shape::Status, 0, ""),
    row("XTRIM", -4, ONE_KEY, Shape::Integer, 2, "MAXLEN~ MINID~ LIMIT:1 KEEPREF DELREF ACKED"),
    row("ZADD", -4, ONE_KEY, Shape::Any, 2, "NX XX GT LT CH INCR"),
    row("ZCARD", 2, ONE_KEY, Shape::Integer, 0, ""),
    row("ZCOUNT", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZDIFF", -3, counted(1), Shape::Array, 2, "WITHSCORES"),
    row("ZDIFFSTORE", -4, Keys::IntoCounted, Shape::Integer, 0, ""),
    row("ZINCRBY", 4, ONE_KEY, Shape::Bulk, 0, ""),
    row(
        "ZINTER",
        -3,
        counted(1),
        Shape::Array,
        2,
        "WEIGHTS:n AGGREGATE SUM MIN MAX COUNT WITHSCORES",
    ),
    row("ZINTERCARD", -3, counted(1), Shape::Integer, 2, "LIMIT:1"),
    row(
        "ZINTERSTORE",
        -4,
        Keys::IntoCounted,
        Shape::Integer,
        3,
        "WEIGHTS:n AGGREGATE SUM MIN MAX COUNT",
    ),
    row("ZLEXCOUNT", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZMPOP", -4, counted(1), Shape::Array, 2, "MIN MAX/COUNT:1"),
    row("ZMSCORE", -3, ONE_KEY, Shape::Array, 0, ""),
    row("ZPOPMAX", -2, ONE_KEY, Shape::Array, 0, ""),
    row("ZPOPMIN", -2, ONE_KEY, Shape::Array, 0, ""),
    row("ZRANDMEMBER", -2, ONE_KEY, Shape::Any, 3, "WITHSCORES"),
    row("ZRANGE", -4, ONE_KEY, Shape::Array, 4, "BYSCORE BYLEX REV LIMIT:2 WITHSCORES"),
    row("ZRANGEBYLEX", -4, ONE_KEY, Shape::Array, 4, "LIMIT:2"),
    row("ZRANGEBYSCORE", -4, ONE_KEY, Shape::Array, 4, "WITHSCORES LIMIT:2"),
    row("ZRANGESTORE", -5, TWO_KEYS, Shape::Integer, 5, "BYSCORE BYLEX REV LIMIT:2"),
    row("ZRANK", -3, ONE_KEY, Shape::Any, 3, "WITHSCORE"),
    row("ZREM", -3, ONE_KEY, Shape::Integer, 0, ""),
    row("ZREMRANGEBYLEX", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZREMRANGEBYRANK", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZREMRANGEBYSCORE", 4, ONE_KEY, Shape::Integer, 0, ""),
    row("ZREVRANGE", -4, ONE_KEY, Shape::Array, 4, "WITHSCORES"),
    row("ZREVRANGEBYLEX", -4, ONE_KEY, Shape::Array, 4, "LIMIT:2"),
    row("ZREVRANGEBYSCORE", -4, ONE_KEY, Shape::Array, 4, "WITHSCORES LIMIT:2"),
    row("ZREVRANK", -3, ONE_KEY, Shape::Any, 3, "WITHSCORE"),
    row("ZSCAN", -3, ONE_KEY, Shape::Array, 3, "MATCH:1 COUNT:1"),
    row("ZSCORE", 3, ONE_KEY, Shape::Bulk, 0, ""),
    row(
        "ZUNION",
        -3,
        counted(1),
        Shape::Array,
        2,
        "WEIGHTS:n AGGREGATE SUM MIN MAX COUNT WITHSCORES",
    ),
    row(
        "ZUNIONSTORE",
        -4,
        Keys::IntoCounted,
        Shape::Integer,
        3,
        "WEIGHTS:n AGGREGATE SUM MIN MAX COUNT",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_sorted_and_found_in_any_case() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for spec in COMMANDS {
            assert_eq!(find(spec.name.to_lowercase().as_bytes()).unwrap().name, spec.name);
            assert_eq!(spec.tail.is_empty(), spec.tail_from == 0, "{}", spec.name);
        }
        assert!(find(b"GETX").is_none() && find(b"").is_none());
        assert!(CONTAINERS.iter().all(|(container, _)| find(container.as_bytes()).is_some()));
        for (name, ..) in SUBCOMMAND_TAILS {
            let (container, name) = name.split_once(' ').unwrap();
            assert!(subcommand(container, name.as_bytes()).is_some(), "{name}");
        }
    }
}
