//! Ring-buffer bytes to typed records. User space never trusts a record: kind, length and every count are
//! checked here and nowhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wirespan_ebpf::{
    Direction, EndedRecord, ExitFigures, JobRecord, OperationRecord, ProcessRecord, RecordKind,
    SocketRecord, TAIL, flag, socket_flag,
};

use crate::capture::Slot;
use crate::sys::read_pod;

/// `TCP_LISTEN` (include/net/tcp_states.h).
const TCP_LISTEN: u8 = 10;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// Bytes passed, or the stream ended, or failed.
    Operation(Operation<'a>),
    /// A socket, before a process's first operation on it.
    Socket(Socket),
    /// A TCP connection is over.
    Gone(Gone),
    /// A process came, forked, listened or went.
    Process(ProcessEvent),
    /// A child of a pool begins to work on a job.
    Job(JobBegun<'a>),
}

/// One send or receive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operation<'a> {
    /// Socket cookie.
    pub cookie: u64,
    /// The process.
    pub slot: Slot,
    /// Thread, in the initial pid namespace.
    pub tid: u32,
    /// Whether the process sent (else it received).
    pub sent: bool,
    /// CLOCK_MONOTONIC after the operation; of what TCP sent at once, within it.
    pub at_ns: u64,
    /// Stream offset of the first byte.
    pub offset: u64,
    /// Bytes that passed.
    pub length: u32,
    /// The first of them.
    pub payload: &'a [u8],
    /// The last of them, where `payload` doesn't reach so far.
    pub tail: &'a [u8],
    /// The peer closed its direction.
    pub end_of_stream: bool,
    /// errno of a failed operation; 0: none.
    pub error: u16,
    /// Records of receives were lost since the socket's last record.
    pub lost_received: bool,
    /// Records of sends were lost since the socket's last record.
    pub lost_sent: bool,
    /// The descriptor is in blocking mode (receives only).
    pub blocking: bool,
    /// How long received data had been readable.
    pub queue_ns: Option<u64>,
    /// The runtime's logical task; 0: the thread.
    pub context: u64,
    /// Which of its strands; 0: not known.
    pub strand: u32,
    /// It sent by code that its thread alone runs, which no event loop's task is: of CPython only.
    pub threads_own: bool,
    /// Smoothed round-trip time; 0: unknown.
    pub srtt_us: u32,
    /// Segments retransmitted on this connection so far, modulo 65,536.
    pub retransmits: u16,
    /// The thread's time on a run queue so far.
    pub run_delay_ns: u64,
    /// The thread's time on a CPU so far, plus a constant: only differences mean anything.
    pub exec_ns: u64,
}

/// A socket and its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// Socket cookie.
    pub cookie: u64,
    /// The process.
    pub slot: Slot,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Both ends of an internet socket.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Of a unix socket: its cookie and its peer's; 0 where the peer has none yet.
    pub unix_ends: Option<(u64, u64)>,
    /// Inode of the network namespace.
    pub net_namespace: u32,
    /// The process connected, and was seen to.
    pub active: bool,
    /// Accepted from a listener that was known.
    pub passive: bool,
    /// A unix socket with an address: an accepted one.
    pub addressed: bool,
    /// It was open when the process's sockets were listed: it may have been used before.
    pub found: bool,
    /// How long the connect took.
    pub connect_ns: Option<u64>,
    /// It listens; it is no connection.
    pub listening: bool,
}

/// A TCP connection reached CLOSE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gone {
    /// Socket cookie.
    pub cookie: u64,
    /// The process that used it last.
    pub slot: Slot,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// errno; 0 for an orderly end.
    pub error: u16,
}

/// A child of a pool begins to work on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobBegun<'a> {
    /// The process.
    pub slot: Slot,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The logical task that it is from now on.
    pub context: u64,
    /// The job's first bytes, pickled.
    pub content: &'a [u8],
}

/// How a process ended, and what the kernel counted of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The wait status, as wait(2) gives it.
    pub status: u32,
    /// How long its main thread was ready to run and did not.
    pub run_delay_ns: u64,
    /// The most memory that was resident.
    pub max_rss_bytes: u64,
    /// Sums over all its threads, where those of all are known.
    pub threads: Option<ThreadFigures>,
}

/// What the kernel counted of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadFigures {
    /// How long they ran on a CPU, as of the scheduler's last tick.
    pub on_cpu_ns: u64,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
    /// How often they waited for something.
    pub voluntary_switches: u64,
    /// How often they were interrupted for others.
    pub involuntary_switches: u64,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEventKind {
    /// It executed a program.
    Exec,
    /// It is a traced process's new child.
    Fork,
    /// Its last thread exited.
    Exit(Exit),
    /// It began to listen on a TCP port.
    Listen,
}

/// A process event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessEvent {
    /// What happened.
    pub kind: ProcessEventKind,
    /// Its slot, where it has one.
    pub slot: Option<Slot>,
    /// The parent's slot (fork).
    pub parent_slot: Option<Slot>,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Its number in the agent's pid namespace; `None`: not visible there.
    pub pid: Option<i32>,
    /// Where it listens.
    pub port: u16,
}

/// A record that makes no sense: the object and the agent don't belong together, or memory is corrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Shorter than its kind.
    #[error("a record is shorter than its kind")]
    Short,
    /// No such kind.
    #[error("a record is of unknown kind {0}")]
    Kind(u16),
    /// An operation captures more than it moved.
    #[error("a record's lengths contradict each other")]
    Length,
}

/// Checks and types one record.
///
/// # Errors
/// [`RecordError`]; nothing of the record may then be used.
pub fn parse(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let kind = read_u16(bytes).ok_or(RecordError::Short)?;
    match RecordKind(kind) {
        RecordKind::OPERATION => operation(bytes),
        RecordKind::SOCKET => Ok(Record::Socket(socket(&read(bytes)?))),
        RecordKind::ENDED => {
            let record: EndedRecord = read(bytes)?;
            Ok(Record::Gone(Gone {
                cookie: record.cookie,
                slot: Slot(record.slot),
                at_ns: record.timestamp_ns,
                error: record.error,
            }))
        }
        RecordKind::EXEC | RecordKind::FORK | RecordKind::EXIT | RecordKind::LISTEN => {
            Ok(Record::Process(process(&read(bytes)?)))
        }
        RecordKind::JOB => {
            let JobRecord { slot, timestamp_ns: at_ns, number: context, .. } = read(bytes)?;
            let content = std::mem::offset_of!(JobRecord, content)..size_of::<JobRecord>();
            let content = bytes.get(content).ok_or(RecordError::Short)?;
            Ok(Record::Job(JobBegun { slot: Slot(slot), at_ns, context, content }))
        }
        _ => Err(RecordError::Kind(kind)),
    }
}

fn read_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn read<T: wirespan_ebpf::Pod>(bytes: &[u8]) -> Result<T, RecordError> {
    read_pod(bytes).ok_or(RecordError::Short)
}

fn operation(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let record: OperationRecord = read(bytes)?;
    let captured = usize::try_from(record.captured).unwrap_or(usize::MAX);
    let payload = bytes.get(size_of::<OperationRecord>()..).and_then(|rest| rest.get(..captured));
    let payload = payload.ok_or(RecordError::Short)?;
    let tail = match usize::from(record.tail_length) {
        0 => &[][..],
        length => {
            let behind = bytes.get(size_of::<OperationRecord>() + captured..);
            let room = behind.and_then(|behind| behind.last_chunk::<TAIL>());
            room.ok_or(RecordError::Short)?.get(..length).ok_or(RecordError::Length)?
        }
    };
    if u64::from(record.captured) + u64::from(record.tail_length) > u64::from(record.length) {
        return Err(RecordError::Length);
    }
    let has = |bit| record.flags & bit != 0;
    Ok(Record::Operation(Operation {
        cookie: record.cookie,
        slot: Slot(record.slot),
        tid: record.tid,
        sent: record.direction == Direction::SEND.0,
        at_ns: record.timestamp_ns,
        offset: record.offset,
        length: record.length,
        payload,
        tail,
        end_of_stream: has(flag::END_OF_STREAM),
        lost_received: has(flag::LOST_RECEIVED),
        lost_sent: has(flag::LOST_SENT),
        error: if has(flag::FAILED) { record.error.max(1) } else { 0 },
        blocking: has(flag::BLOCKING),
        queue_ns: has(flag::QUEUE_TIME).then_some(record.queue_ns),
        context: record.context,
        strand: record.strand,
        threads_own: has(flag::THREADS_OWN),
        srtt_us: record.srtt_us,
        retransmits: record.retransmits,
        run_delay_ns: record.run_delay_ns,
        exec_ns: record.exec_ns,
    }))
}

fn socket(record: &SocketRecord) -> Socket {
    let family = i32::from(record.family);
    let internet = |address: fn(&[u8; 16]) -> IpAddr| {
        Some((
            SocketAddr::new(address(&record.local_address), record.local_port),
            SocketAddr::new(address(&record.remote_address), record.remote_port),
        ))
    };
    let addresses = match family {
        libc::AF_INET => internet(|[a, b, c, d, ..]| Ipv4Addr::new(*a, *b, *c, *d).into()),
        // An IPv4 peer of an IPv6 socket is that IPv4 address: both ends must give the same pair.
        libc::AF_INET6 => internet(|bytes| Ipv6Addr::from(*bytes).to_canonical()),
        _ => None,
    };
    Socket {
        cookie: record.cookie,
        slot: Slot(record.slot),
        at_ns: record.timestamp_ns,
        addresses,
        unix_ends: (family == libc::AF_UNIX).then_some(record.unix_ends.into()),
        net_namespace: record.net_namespace,
        active: record.flags & socket_flag::ACTIVE != 0,
        passive: record.flags & socket_flag::PASSIVE != 0,
        addressed: record.flags & socket_flag::ADDRESSED != 0,
        found: record.flags & socket_flag::FOUND != 0,
        connect_ns: (record.connect_ns != 0).then_some(record.connect_ns),
        listening: family != libc::AF_UNIX && record.state == TCP_LISTEN,
    }
}

fn process(record: &ProcessRecord) -> ProcessEvent {
    let kind = match RecordKind(record.kind) {
        RecordKind::EXEC => ProcessEventKind::Exec,
        RecordKind::FORK => ProcessEventKind::Fork,
        RecordKind::LISTEN => ProcessEventKind::Listen,
        _ => ProcessEventKind::Exit(exit(record)),
    };
    ProcessEvent {
        kind,
        slot: Slot::known(record.slot),
        parent_slot: Slot::known(record.parent_slot),
        at_ns: record.timestamp_ns,
        pid: i32::try_from(record.namespace_tgid).ok().filter(|pid| *pid > 0),
        port: record.port,
    }
}

fn exit(record: &ProcessRecord) -> Exit {
    let ExitFigures {
        on_cpu_ns,
        run_delay_ns,
        max_rss_pages,
        major_faults,
        voluntary_switches,
        involuntary_switches,
    } = record.exit;
    let is_known = involuntary_switches != u64::MAX;
    Exit {
        status: record.exit_code,
        run_delay_ns,
        max_rss_bytes: max_rss_pages.saturating_mul(procfs::page_size()),
        threads: is_known.then_some(ThreadFigures {
            on_cpu_ns,
            major_faults,
            voluntary_switches,
            involuntary_switches,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::pod_bytes;

    fn sample() -> OperationRecord {
        let mut record: OperationRecord = read_pod(&[0; size_of::<OperationRecord>()]).unwrap();
        record.kind = RecordKind::OPERATION.0;
        record.captured = 4;
        record.length = 10;
        record.tail_length = 6;
        record
    }

    /// The record with what follows it, and as much that is nothing's as the ring has before a tail.
    fn bytes(record: &OperationRecord, between: usize) -> Vec<u8> {
        let mut bytes = pod_bytes(record).to_vec();
        bytes.extend_from_slice(b"0001");
        bytes.resize(bytes.len() + between, 0xff);
        let mut tail = [0xff; TAIL];
        tail[..6].copy_from_slice(b"234567");
        bytes.extend_from_slice(&tail);
        bytes
    }

    #[test]
    fn gives_payload_and_tail() {
        for between in [0, 100] {
            let bytes = bytes(&sample(), between);
            let Ok(Record::Operation(operation)) = parse(&bytes) else { panic!("no operation") };
            assert_eq!((operation.payload, operation.tail), (&b"0001"[..], &b"234567"[..]));
        }
    }

    #[test]
    fn refuses_every_prefix() {
        let bytes = bytes(&sample(), 0);
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "a prefix of {length} bytes passed");
        }
    }

    #[test]
    fn refuses_more_payload_than_passed() {
        let mut record = sample();
        record.length = 9;
        assert_eq!(parse(&bytes(&record, 0)), Err(RecordError::Length));
        record = OperationRecord { length: 1000, tail_length: TAIL as u8 + 1, ..sample() };
        assert_eq!(parse(&bytes(&record, 0)), Err(RecordError::Length));
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(parse(&bytes));
        }

        #[test]
        fn takes_any_operation(bytes in proptest::collection::vec(any::<u8>(), 110..300)) {
            let mut bytes = bytes;
            bytes[..2].copy_from_slice(&RecordKind::OPERATION.0.to_ne_bytes());
            if let Ok(Record::Operation(operation)) = parse(&bytes) {
                prop_assert!(operation.payload.len() + operation.tail.len() <= operation.length as usize);
            }
        }
    }
}
