//! What the parser tells: exchanges, how they ended, and what a connection shows of its cluster and groups.
//!
//! A record's value is never among it.

use std::sync::Arc;

use super::{ApiKey, ErrorCode};
use crate::exchange::{Abandon, Direction, EndError, Skip};
use crate::w3c::TraceParent;

/// A topic's id: unlike its name it is never given twice.
pub type TopicId = [u8; 16];

/// A topic, as the message at hand names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// By its name.
    Name(Arc<str>),
    /// By its id, as newer versions do: `Metadata` says the name, see [`Fact::Topic`].
    Id(TopicId),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What the client calls itself.
    pub client_id: Option<Arc<str>>,
    /// What for.
    pub operation: Operation,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// To append these batches to a partition.
    Produce(Box<Produced>),
    /// To be given records: which ones is known when they come. One exchange for each partition of which any do.
    Fetch,
    /// To note how far a group is.
    Commit(Box<Commit>),
    /// Anything else: what a client library does by itself, or administration.
    Other(ApiKey),
}

/// A partition's part of a `Produce`.
#[derive(Clone, Debug, PartialEq)]
pub struct Produced {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The batches; `None` where the request was not captured so far, and only the response names the
    /// partition.
    pub records: Option<Records>,
}

/// What is known of a run of record batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// Bytes of all batches, compressed as they are.
    pub bytes: u64,
    /// Records; `None`: not all batches' headers were captured, or they have an older format.
    pub count: Option<u64>,
    /// What the records' own `traceparent` headers say, each once and as far as they were captured.
    pub contexts: Vec<TraceParent>,
    /// Every record was looked at, and each has one of `contexts`.
    pub all_have_contexts: bool,
    /// The offset of each batch's first record and how many it has, as the broker keeps them: what a `Produce`
    /// appended is one batch, whoever is given it. Those of an answer only, the first ones.
    pub batches: Vec<Batch>,
    /// The key of the only record, if it is text and keys are kept.
    pub key: Option<Box<str>>,
}

/// One batch, as the broker keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The offset of its first record.
    pub base_offset: i64,
    /// How many it has.
    pub count: u64,
}

/// An `OffsetCommit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The group.
    pub group: Arc<str>,
    /// The topic, partition and offset of the first.
    pub first: Option<(Topic, i32, i64)>,
    /// All are of one topic.
    pub one_topic: bool,
    /// Partitions of which offsets are noted; `None`: not all were captured.
    pub partitions: Option<u32>,
}

/// A partition's part of a `Fetch`'s answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset of the first record that the client asked for and was given.
    pub first_offset: Option<i64>,
    /// The offset behind the last record; `None` where its batch's header was not captured.
    pub next_offset: Option<i64>,
    /// The batches. Their count is of what was asked for: a batch comes whole, even if its first records didn't.
    pub records: Records,
    /// What was wrong.
    pub error: Option<ErrorCode>,
    /// The answer goes on, with other partitions' records perhaps, but it was not captured.
    pub cut: bool,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The batches were appended, or not.
    Produced {
        /// The offset of the first record.
        base_offset: Option<i64>,
        /// What was wrong.
        error: Option<ErrorCode>,
    },
    /// The client wants no answer (`acks=0`).
    Sent,
    /// There were records, or an error.
    Fetched(Box<Delivered>),
    /// There were none.
    Idle,
    /// The offsets were noted, or not: what was wrong with the first that was.
    Committed {
        /// What was wrong.
        error: Option<ErrorCode>,
    },
    /// There was an answer, of which nothing else is read or was captured.
    Answered,
    /// The connection was over before.
    Closed {
        /// The answer had begun.
        answered: bool,
        /// How, if it was not orderly.
        error: Option<EndError>,
    },
}

/// What a connection shows of its cluster, and holds for all of the process's connections to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The cluster's id.
    Cluster(Arc<str>),
    /// A topic's name.
    Topic {
        /// Its id.
        id: TopicId,
        /// Its name.
        name: Arc<str>,
    },
    /// This client reads this topic as a member of this group.
    Group {
        /// The client.
        client_id: Option<Arc<str>>,
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Topic,
    },
}

/// A step of an exchange, or what became of bytes.
///
/// An exchange begins with `Request` and ends with `End` or `Abandoned`; those of one request begin together,
/// but for further partitions of an answer, which begin when it comes, with the request's own mark.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<M> {
    /// Something is asked.
    Request {
        /// The exchange, counted from 0.
        exchange: u64,
        /// Where in the stream it begins: another byte for each exchange of a request, within it.
        offset: u64,
        /// The mark of the request's first byte.
        first: M,
        /// What.
        request: Request,
    },
    /// The request is complete.
    RequestEnd {
        /// The exchange.
        exchange: u64,
        /// The mark of its last byte.
        last: M,
    },
    /// The response began.
    Response {
        /// The exchange.
        exchange: u64,
        /// The mark of its first byte.
        first: M,
    },
    /// It is over.
    End {
        /// The exchange.
        exchange: u64,
        /// The mark of the last byte.
        last: M,
        /// How.
        end: End,
    },
    /// Its end will never be known.
    Abandoned {
        /// The exchange.
        exchange: u64,
        /// Why.
        reason: Abandon,
    },
    /// Something about the cluster.
    Fact(Fact),
    /// Bytes made no message.
    Skipped {
        /// Whose.
        direction: Direction,
        /// How many.
        bytes: u64,
        /// Why.
        reason: Skip,
    },
}
