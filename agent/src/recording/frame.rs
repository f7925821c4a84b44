//! The frames of a recording, as protobuf messages: what is not known in them is passed over, what is not there is 0.
//!
//! Times are CLOCK_MONOTONIC of the machine that recorded, in nanoseconds. Processes are the agent's own numbers.

use std::net::SocketAddr;

use crate::capture::{self, Slot};

/// One frame. A kind that is not known is passed over.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    /// What it tells.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub kind: Option<Kind>,
}

impl From<Kind> for Frame {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

/// What a frame tells.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// The first.
    #[prost(message, tag = "1")]
    Header(Header),
    /// What is known of a process.
    #[prost(message, tag = "2")]
    Process(Process),
    /// What became of a process.
    #[prost(message, tag = "3")]
    Change(Change),
    /// Bytes passed.
    #[prost(message, tag = "4")]
    Operation(Operation),
    /// A socket, before a process's first operation on it.
    #[prost(message, tag = "5")]
    Socket(Socket),
    /// A connection is over.
    #[prost(message, tag = "6")]
    Gone(Gone),
    /// A round of the agent begins.
    #[prost(message, tag = "7")]
    Round(Round),
    /// Silences were looked at.
    #[prost(message, tag = "8")]
    Housekeeping(Housekeeping),
    /// The sockets of processes that ran before were listed.
    #[prost(message, tag = "9")]
    Listed(Listed),
    /// A round is over.
    #[prost(message, tag = "10")]
    RoundEnd(RoundEnd),
    /// The last, unless the recording was cut off.
    #[prost(message, tag = "11")]
    End(End),
    /// A child of a pool begins to work on a job.
    #[prost(message, tag = "12")]
    Job(Job),
    /// Something on a connection could not be read.
    #[prost(message, tag = "13")]
    Doubt(Doubt),
}

/// By whom, where and when.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Header {
    /// Of the format.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The agent's.
    #[prost(string, tag = "2")]
    pub agent: String,
    /// The kernel's release.
    #[prost(string, tag = "3")]
    pub kernel: String,
    /// The machine's architecture, as uname(2) names it.
    #[prost(string, tag = "4")]
    pub machine: String,
    /// Unix time.
    #[prost(uint64, tag = "5")]
    pub unix_ns: u64,
    /// Where the ids of spans began.
    #[prost(uint64, tag = "6")]
    pub seed: u64,
    /// Payload was not overwritten.
    #[prost(bool, tag = "7")]
    pub with_payload: bool,
}

/// What is known of a process: [`super::Facts`] as JSON.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    /// The text.
    #[prost(bytes = "vec", tag = "1")]
    pub json: Vec<u8>,
}

/// What became of a process.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Change {
    /// What.
    #[prost(enumeration = "ChangeKind", tag = "1")]
    pub kind: i32,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub process: u64,
    /// When, where that matters.
    #[prost(uint64, tag = "3")]
    pub at_ns: u64,
    /// It was not seen from its beginning.
    #[prost(bool, tag = "4")]
    pub found_running: bool,
    /// The one that forked it.
    #[prost(uint64, tag = "5")]
    pub parent: u64,
    /// It exited; else it is not traced any more.
    #[prost(bool, tag = "6")]
    pub exited: bool,
    /// How it exited, where that was told.
    #[prost(message, optional, tag = "7")]
    pub exit: Option<Exit>,
    /// Where it listens.
    #[prost(uint32, tag = "8")]
    pub port: u32,
}

/// How a process exited: [`capture::Exit`], field by field.
#[derive(Clone, Copy, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "they are capture::Exit's")]
pub struct Exit {
    #[prost(uint32, tag = "1")]
    pub status: u32,
    #[prost(uint64, tag = "2")]
    pub run_delay_ns: u64,
    #[prost(uint64, tag = "3")]
    pub max_rss_bytes: u64,
    #[prost(message, optional, tag = "4")]
    pub threads: Option<ThreadFigures>,
}

/// What the kernel counted of threads: [`capture::ThreadFigures`], field by field.
#[derive(Clone, Copy, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "they are capture::ThreadFigures's")]
pub struct ThreadFigures {
    #[prost(uint64, tag = "1")]
    pub on_cpu_ns: u64,
    #[prost(uint64, tag = "2")]
    pub major_faults: u64,
    #[prost(uint64, tag = "3")]
    pub voluntary_switches: u64,
    #[prost(uint64, tag = "4")]
    pub involuntary_switches: u64,
}

impl From<capture::Exit> for Exit {
    fn from(from: capture::Exit) -> Self {
        let capture::Exit { status, run_delay_ns, max_rss_bytes, threads } = from;
        let threads = threads.map(|from| ThreadFigures {
            on_cpu_ns: from.on_cpu_ns,
            major_faults: from.major_faults,
            voluntary_switches: from.voluntary_switches,
            involuntary_switches: from.involuntary_switches,
        });
        Self { status, run_delay_ns, max_rss_bytes, threads }
    }
}

impl Exit {
    /// As capture tells it.
    pub fn record(self) -> capture::Exit {
        let Self { status, run_delay_ns, max_rss_bytes, threads } = self;
        let threads = threads.map(|told| capture::ThreadFigures {
            on_cpu_ns: told.on_cpu_ns,
            major_faults: told.major_faults,
            voluntary_switches: told.voluntary_switches,
            involuntary_switches: told.involuntary_switches,
        });
        capture::Exit { status, run_delay_ns, max_rss_bytes, threads }
    }
}

/// What can become of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ChangeKind {
    /// None that is known.
    Unknown = 0,
    /// It is traced from now on.
    Traced = 1,
    /// A traced process forked it.
    Forked = 2,
    /// It executed something.
    Executed = 3,
    /// It is gone, or no longer allowed.
    Gone = 4,
    /// It is to be let go.
    Dismissed = 5,
    /// It runs a program of its own.
    Program = 6,
    /// It began to listen.
    Listens = 7,
}

/// Something on a connection could not be read when it was recorded. What a recording leaves out could not be read
/// either, but was: this alone is what was in doubt.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Doubt {
    /// What may have passed.
    #[prost(enumeration = "DoubtKind", tag = "1")]
    pub kind: i32,
    /// The process.
    #[prost(uint64, tag = "2")]
    pub process: u64,
    /// The connection.
    #[prost(uint64, tag = "3")]
    pub cookie: u64,
    /// When.
    #[prost(uint64, tag = "4")]
    pub at_ns: u64,
}

/// What may have passed on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DoubtKind {
    /// None that is known.
    Unknown = 0,
    /// A request.
    Requests = 1,
    /// Messages.
    Messages = 2,
    /// Requests, from then on.
    Opened = 3,
    /// None any more.
    Closed = 4,
}

/// One send or receive: [`capture::Operation`], field by field.
#[derive(Clone, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "they are capture::Operation's")]
pub struct Operation {
    #[prost(uint64, tag = "1")]
    pub cookie: u64,
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    #[prost(uint32, tag = "3")]
    pub tid: u32,
    #[prost(bool, tag = "4")]
    pub sent: bool,
    #[prost(uint64, tag = "5")]
    pub at_ns: u64,
    #[prost(uint64, tag = "6")]
    pub offset: u64,
    #[prost(uint32, tag = "7")]
    pub length: u32,
    #[prost(bytes = "vec", tag = "8")]
    pub payload: Vec<u8>,
    #[prost(bytes = "vec", tag = "9")]
    pub tail: Vec<u8>,
    #[prost(bool, tag = "10")]
    pub end_of_stream: bool,
    #[prost(uint32, tag = "11")]
    pub error: u32,
    #[prost(bool, tag = "12")]
    pub lost_received: bool,
    #[prost(bool, tag = "13")]
    pub lost_sent: bool,
    #[prost(bool, tag = "14")]
    pub blocking: bool,
    #[prost(uint64, optional, tag = "15")]
    pub queue_ns: Option<u64>,
    #[prost(uint64, tag = "16")]
    pub context: u64,
    #[prost(uint32, tag = "17")]
    pub strand: u32,
    #[prost(bool, tag = "18")]
    pub threads_own: bool,
    #[prost(uint32, tag = "19")]
    pub srtt_us: u32,
    #[prost(uint32, tag = "20")]
    pub retransmits: u32,
    #[prost(uint64, tag = "21")]
    pub run_delay_ns: u64,
    #[prost(uint64, tag = "22")]
    pub exec_ns: u64,
}

impl Operation {
    /// With what is kept of its payload.
    pub fn of(from: &capture::Operation<'_>, payload: Vec<u8>, tail: Vec<u8>) -> Self {
        Self {
            cookie: from.cookie,
            slot: from.slot.0,
            tid: from.tid,
            sent: from.sent,
            at_ns: from.at_ns,
            offset: from.offset,
            length: from.length,
            payload,
            tail,
            end_of_stream: from.end_of_stream,
            error: from.error.into(),
            lost_received: from.lost_received,
            lost_sent: from.lost_sent,
            blocking: from.blocking,
            queue_ns: from.queue_ns,
            context: from.context,
            strand: from.strand,
            threads_own: from.threads_own,
            srtt_us: from.srtt_us,
            retransmits: from.retransmits.into(),
            run_delay_ns: from.run_delay_ns,
            exec_ns: from.exec_ns,
        }
    }

    /// As capture tells it; `None` where its lengths contradict each other.
    pub fn record(&self) -> Option<capture::Operation<'_>> {
        let captured = self.payload.len() as u64 + self.tail.len() as u64;
        if captured > u64::from(self.length) {
            return None;
        }
        Some(capture::Operation {
            cookie: self.cookie,
            slot: Slot(self.slot),
            tid: self.tid,
            sent: self.sent,
            at_ns: self.at_ns,
            offset: self.offset,
            length: self.length,
            payload: &self.payload,
            tail: &self.tail,
            end_of_stream: self.end_of_stream,
            error: u16::try_from(self.error).ok()?,
            lost_received: self.lost_received,
            lost_sent: self.lost_sent,
            blocking: self.blocking,
            queue_ns: self.queue_ns,
            context: self.context,
            strand: self.strand,
            threads_own: self.threads_own,
            srtt_us: self.srtt_us,
            retransmits: u16::try_from(self.retransmits).ok()?,
            run_delay_ns: self.run_delay_ns,
            exec_ns: self.exec_ns,
        })
    }
}

/// A socket and its ends: [`capture::Socket`], field by field.
#[derive(Clone, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "they are capture::Socket's")]
pub struct Socket {
    #[prost(uint64, tag = "1")]
    pub cookie: u64,
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    #[prost(uint64, tag = "3")]
    pub at_ns: u64,
    #[prost(string, tag = "4")]
    pub local: String,
    #[prost(string, tag = "5")]
    pub remote: String,
    #[prost(uint64, repeated, tag = "6")]
    pub unix_ends: Vec<u64>,
    #[prost(uint32, tag = "7")]
    pub net_namespace: u32,
    #[prost(bool, tag = "8")]
    pub active: bool,
    #[prost(bool, tag = "9")]
    pub passive: bool,
    #[prost(bool, tag = "10")]
    pub addressed: bool,
    #[prost(bool, tag = "11")]
    pub found: bool,
    #[prost(uint64, optional, tag = "12")]
    pub connect_ns: Option<u64>,
    #[prost(bool, tag = "13")]
    pub listening: bool,
}

impl From<&capture::Socket> for Socket {
    fn from(from: &capture::Socket) -> Self {
        let (local, remote) = from.addresses.unzip();
        let text = |end: Option<SocketAddr>| end.map(|end| end.to_string()).unwrap_or_default();
        Self {
            cookie: from.cookie,
            slot: from.slot.0,
            at_ns: from.at_ns,
            local: text(local),
            remote: text(remote),
            unix_ends: from.unix_ends.map(|(here, there)| vec![here, there]).unwrap_or_default(),
            net_namespace: from.net_namespace,
            active: from.active,
            passive: from.passive,
            addressed: from.addressed,
            found: from.found,
            connect_ns: from.connect_ns,
            listening: from.listening,
        }
    }
}

impl Socket {
    /// As capture tells it.
    pub fn record(&self) -> capture::Socket {
        capture::Socket {
            cookie: self.cookie,
            slot: Slot(self.slot),
            at_ns: self.at_ns,
            addresses: self.local.parse().ok().zip(self.remote.parse().ok()),
            unix_ends: match self.unix_ends.as_slice() {
                [here, there] => Some((*here, *there)),
                _ => None,
            },
            net_namespace: self.net_namespace,
            active: self.active,
            passive: self.passive,
            addressed: self.addressed,
            found: self.found,
            connect_ns: self.connect_ns,
            listening: self.listening,
        }
    }
}

/// A connection is over: [`capture::Gone`], field by field.
#[derive(Clone, Copy, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "they are capture::Gone's")]
pub struct Gone {
    #[prost(uint64, tag = "1")]
    pub cookie: u64,
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    #[prost(uint64, tag = "3")]
    pub at_ns: u64,
    #[prost(uint32, tag = "4")]
    pub error: u32,
}

impl From<&capture::Gone> for Gone {
    fn from(from: &capture::Gone) -> Self {
        let capture::Gone { cookie, slot, at_ns, error } = *from;
        Self { cookie, slot: slot.0, at_ns, error: error.into() }
    }
}

impl Gone {
    /// As capture tells it.
    pub fn record(&self) -> capture::Gone {
        capture::Gone {
            cookie: self.cookie,
            slot: Slot(self.slot),
            at_ns: self.at_ns,
            error: u16::try_from(self.error).unwrap_or(u16::MAX),
        }
    }
}

/// A child of a pool begins to work on a job.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Job {
    /// The process.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// When.
    #[prost(uint64, tag = "2")]
    pub at_ns: u64,
    /// The logical task that it is from now on.
    #[prost(uint64, tag = "3")]
    pub context: u64,
    /// The job's id, as spans show it. What else the child was given is not recorded.
    #[prost(string, tag = "4")]
    pub id: String,
}

/// A round begins.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Round {
    /// Records of before were read in it.
    #[prost(uint64, tag = "1")]
    pub now_ns: u64,
    /// Unix time at 0 of that clock.
    #[prost(uint64, tag = "2")]
    pub wall_ns: u64,
}

/// Silences were looked at.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Housekeeping {
    /// When.
    #[prost(uint64, tag = "1")]
    pub now_ns: u64,
    /// Processes of which the kernel lost records since the time before.
    #[prost(uint64, repeated, tag = "2")]
    pub lost: Vec<u64>,
    /// Processes whose slots were given back.
    #[prost(uint64, repeated, tag = "3")]
    pub forgotten: Vec<u64>,
}

/// Sockets were listed.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Listed {
    /// When that was done.
    #[prost(uint64, tag = "1")]
    pub at_ns: u64,
}

/// A round is over.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RoundEnd {
    /// All records of before it were read: time goes on.
    #[prost(bool, tag = "1")]
    pub drained: bool,
    /// When the sockets of processes that are assisted now were told.
    #[prost(uint64, tag = "2")]
    pub assisted_ns: u64,
    /// What the assists heard: [`crate::runtime::node::Heard`] as JSON; empty: nothing.
    #[prost(bytes = "vec", tag = "3")]
    pub heard_json: Vec<u8>,
}

/// What was counted.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct End {
    /// Sends, receives and ends.
    #[prost(uint64, tag = "1")]
    pub operations: u64,
    /// Payload that is in the file, overwritten or not.
    #[prost(uint64, tag = "2")]
    pub payload_bytes: u64,
    /// Payload that was captured and is not in the file.
    #[prost(uint64, tag = "3")]
    pub left_out_bytes: u64,
    /// How often records of a process were found lost.
    #[prost(uint64, tag = "4")]
    pub losses: u64,
    /// It ends because the file was as large as it may be.
    #[prost(bool, tag = "5")]
    pub full: bool,
}
