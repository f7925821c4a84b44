//! Every send and receive of a traced process.
//!
//! Attaches to the tracepoints `sock:sock_send_length` and `sock:sock_recv_length` (Linux 6.3): once per
//! operation on any socket, whatever the system call, after the data was copied.
//! Emits: [`OperationRecord`], and through `socket` a `SocketRecord` before a process's first one.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use wirespan_ebpf::{
    Direction, KernelFields, MAX_PAYLOAD, OperationRecord, ProcessSlot, RUNTIME_PYTHON, RecordKind,
    SocketState, TAIL, flag, process_flag, uncaptured,
};

use crate::kernel::{self, Object, add, field, offset, setting};
use crate::payload::{self, Source};
use crate::room::Room;
use crate::socket::NO_BURST;
use crate::{lanes, python, socket};

/// A burst goes on for so many units of 2^30 ns at least before it is given a new budget: a stream that nobody
/// answers would else have been read once and for all.
const BURST_UNITS: i8 = 2;

const MSG_OOB: i32 = 0x1;
const MSG_PEEK: i32 = 0x2;
const MSG_TRUNC: i32 = 0x20;
const MSG_DONTWAIT: i32 = 0x40;
const MSG_ERRQUEUE: i32 = 0x2000;

const RCV_SHUTDOWN: u8 = 1;

/// EAGAIN.
const WOULD_BLOCK: i32 = -11;

/// The connection is over: EPIPE, ENETDOWN to ECONNRESET, ETIMEDOUT to EHOSTUNREACH. Whatever else went wrong
/// (EAGAIN, EINTR, EFAULT, ENOBUFS, EINVAL where no urgent byte waits) moved nothing and leaves it whole.
#[inline(always)]
fn is_broken(ret: i32) -> bool {
    matches!(ret, -32 | -104..=-100 | -113..=-110)
}

#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    operation(ctx.arg(0), ctx.arg(1), 0, Direction::SEND);
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    operation(ctx.arg(0), ctx.arg(1), ctx.arg(2), Direction::RECEIVE);
    0
}

#[inline(always)]
fn operation(sk: Object, ret: i32, flags: i32, direction: Direction) {
    let task = kernel::current();
    let tgid: u32 = field!(task, task_tgid);
    let storage = leaders_storage(task, tgid);
    let would_block = ret == WOULD_BLOCK && direction == Direction::SEND;
    if storage == 0
        || (ret < 0 && !would_block && !is_broken(ret))
        || !socket::is_stream(sk)
        || flags & MSG_ERRQUEUE != 0
    {
        return;
    }
    let Some((state, process)) = traced(task, tgid, sk) else { return };
    if would_block {
        blocked(task, sk, state, process);
        return;
    }
    if flags & MSG_PEEK != 0 {
        // SAFETY: a map value's counter.
        add(unsafe { &raw mut (*process).peeks }, 1);
        return;
    }
    let mut bits = 0;
    if ret == 0 {
        let shutdown: u8 = field!(sk, sock_shutdown);
        if direction != Direction::RECEIVE || shutdown & RCV_SHUTDOWN == 0 {
            return;
        }
        bits |= flag::END_OF_STREAM;
    } else if ret < 0 {
        bits |= flag::FAILED;
    }
    record(task, sk, state, process, ret, flags, direction, bits);
}

/// The task storage of the process's leader; 0 where it isn't traced. A leader is itself, and lies nearer.
#[inline(always)]
fn leaders_storage(task: Object, tgid: u32) -> u64 {
    let pid: u32 = field!(task, task_pid);
    if pid == tgid {
        return field!(task, task_storage);
    }
    let leader: Object = field!(task, task_group_leader);
    field!(leader, task_storage)
}

/// A send found no room. Whoever makes it good may be somebody else: where logical tasks are followed it is
/// noted whose the bytes are.
#[inline(never)]
fn blocked(task: Object, sk: Object, state: *mut SocketState, process: *mut ProcessSlot) {
    // SAFETY: map values.
    if unsafe { (*process).runtime != RUNTIME_PYTHON || (*state).inbound != 0 } {
        return;
    }
    if let Ok(source) = payload::locate(task, sk, Direction::SEND) {
        // SAFETY: a map value.
        python::sent(task, unsafe { (*state).slot }, state, &source, 0);
    }
}

/// The socket's state and the process's table entry, if the running process is traced.
///
/// The state names the slot that used the socket last, and the slot its owner: where the owner is the
/// running process nothing more need be looked up.
#[inline(always)]
fn traced(task: Object, tgid: u32, sk: Object) -> Option<(*mut SocketState, *mut ProcessSlot)> {
    if let Some(state) = kernel::socket_state(sk) {
        if socket::is_own(state, sk) {
            // SAFETY: `state` is a map value.
            let process = kernel::process(unsafe { (*state).slot })?;
            // SAFETY: `process` is a map value.
            if unsafe { (*process).tgid } == tgid {
                // SAFETY: as above.
                let capturing = unsafe { (*process).flags } & process_flag::CAPTURE != 0;
                return capturing.then_some((state, process));
            }
        }
    }
    first_use(task, sk, tgid)
}

/// The process uses the socket for the first time, or after another process did.
#[inline(always)]
fn first_use(task: Object, sk: Object, tgid: u32) -> Option<(*mut SocketState, *mut ProcessSlot)> {
    let slot = kernel::task_slot(task)?;
    let process = kernel::process(slot)?;
    // SAFETY: `process` is a map value; only threads of one process get here with an unclaimed slot, and
    // all write the same.
    unsafe {
        let flags = (*process).flags;
        if flags & process_flag::UNCLAIMED != 0 {
            (*process).tgid = tgid;
            (*process).flags = flags & !process_flag::UNCLAIMED;
        }
        if (*process).tgid != tgid || flags & process_flag::CAPTURE == 0 {
            return None;
        }
    }
    let state = socket::own(sk)?;
    socket::announce(sk, state, slot, 0);
    Some((state, process))
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one inlined step of `operation`, not an interface")]
fn record(
    task: Object,
    sk: Object,
    state: *mut SocketState,
    process: *mut ProcessSlot,
    ret: i32,
    flags: i32,
    direction: Direction,
    mut bits: u8,
) {
    let way = usize::from(direction.0 & 1);
    let length = if ret > 0 { ret as u32 } else { 0 };
    // What lies in memory that may be far is asked for before the clock is: the clock waits until all of it has
    // come, and one after the other it would be waited for several times.
    let mut reason = uncaptured::NONE;
    let mut source = Source::NOTHING;
    if length > 0 {
        if flags & (MSG_OOB | MSG_TRUNC) != 0 {
            reason = uncaptured::SPECIAL;
        } else {
            match payload::locate(task, sk, direction) {
                Ok(found) => source = found,
                Err(why) => reason = why,
            }
        }
    }
    // SAFETY: `state` is a map value.
    let cookie = unsafe { (*state).cookie };
    reason = kernel::forget(u64::from(reason), cookie) as u8;
    source = source.forget(cookie);
    let tcp = kernel::tcp_sock(sk);
    let mut srtt_us = 0;
    let mut now = 0;
    // SAFETY: `state` is a map value.
    let next = unsafe { (*state).next_offset[way] };
    let mut end = next + u64::from(length);
    if !tcp.is_null() {
        let sequence: u32 = if direction == Direction::SEND {
            let written: u32 = field!(tcp, tcp_write_seq);
            now = sent_at(tcp, written, next, length);
            written
        } else {
            received_up_to(sk, tcp, next, length)
        };
        end = if next == 0 {
            // One turn of the sequence space ahead of zero, so that nothing before this is negative.
            (1 << 32) | u64::from(sequence)
        } else {
            next.wrapping_add_signed(i64::from(sequence.wrapping_sub(next as u32).cast_signed()))
        };
        let srtt: u32 = field!(tcp, tcp_srtt_us);
        srtt_us = srtt >> 3;
    }
    end = kernel::forget(end, cookie);
    lanes::approach();
    // SAFETY: `state` is a map value.
    let burst = unsafe { (*state).burst_direction };
    // The first operation behind an announcement must not seem to have come before it; and of a thread that serves
    // one request at a time the time on a CPU is told, which is the present's.
    // SAFETY: `state` is a map value.
    if now == 0 || burst == NO_BURST || unsafe { (*state).blocking } != 0 {
        now = kernel::now_ns();
    }

    let (budget, wide_budget) = (setting!(burst_budget), setting!(wide_budget));
    let units = (now >> 30) as u8;
    let turns = burst != direction.0;
    // SAFETY: as above.
    unsafe {
        if turns || units.wrapping_sub((*state).burst_since).cast_signed() >= BURST_UNITS {
            (*state).burst_direction = direction.0;
            (*state).burst_since = units;
            (*state).burst_left = if (*state).wide != 0 { wide_budget } else { budget };
        }
    }
    // SAFETY: `state` is a map value.
    unsafe {
        if reason == uncaptured::NONE
            && ((*state).burst_left < length || length == payload::AMQP_BYTES || burst == NO_BURST)
            && (*state).wide == 0
            && payload::begins_wide(&source)
        {
            (*state).wide = 1;
            (*state).burst_left += wide_budget - budget;
        }
    }
    // SAFETY: `state` is a map value.
    let left = unsafe { (*state).burst_left };
    let mut want = u64::from(if left < length { left } else { length });
    if want > MAX_PAYLOAD as u64 {
        want = MAX_PAYLOAD as u64;
    }
    let mut tail_want = u64::from(length) - want;
    if tail_want > TAIL as u64 {
        tail_want = TAIL as u64;
    }
    if reason != uncaptured::NONE {
        (want, tail_want) = (0, 0);
    }

    // SAFETY: `state` is a map value of this socket.
    let (lost, ready) = unsafe { ((*state).lost, (*state).ready_ns) };
    bits |= lost;
    // SAFETY: as above.
    unsafe {
        (*state).next_offset[way] = end;
        if direction == Direction::RECEIVE {
            if ready != 0 {
                (*state).ready_ns = 0;
                bits |= flag::QUEUE_TIME;
            }
            (*state).blocking = u8::from(flags & MSG_DONTWAIT == 0);
            if flags & MSG_DONTWAIT == 0 {
                bits |= flag::BLOCKING;
            }
        }
    }

    let (mut context, mut strand) = (0, 0);
    // SAFETY: map values.
    if unsafe { (*process).runtime } == RUNTIME_PYTHON {
        context = python_context(task, state, &source, length, direction, turns);
        if direction == Direction::SEND {
            // SAFETY: `state` is a map value.
            let within = unsafe { (*state).context };
            strand = within as u32;
            if within == python::THREADS_OWN {
                bits |= flag::THREADS_OWN;
            }
        }
    }

    context = kernel::forget(context, cookie);
    strand = kernel::forget(u64::from(strand), cookie) as u32;
    bits = kernel::forget(u64::from(bits), cookie) as u8;
    (want, tail_want) = (kernel::forget(want, cookie), kernel::forget(tail_want, cookie));
    let room = Room::reserve(&source, want, tail_want, direction);
    // Before a lane is written to: a locked instruction waits for all that was written.
    let early = room.is_lane();
    if early && length > 0 {
        let reason = if reason == uncaptured::NONE { uncaptured::BUDGET } else { reason };
        account(process, way, u64::from(length), want, reason, true);
    }
    let mut captured = 0;
    let mut tail = 0;
    // With the budget used up nothing but the tail is read.
    if length > 0 && reason == uncaptured::NONE && !room.is_none() {
        let length = u64::from(length);
        let fits = source.holds(length);
        if want > 0 && fits {
            captured = room.copy(&source, want);
            // SAFETY: `state` is a map value.
            unsafe { (*state).burst_left = u64::from(left).saturating_sub(captured) as u32 };
        }
        if captured < want {
            reason = uncaptured::FAULT;
        } else if captured < length {
            reason = uncaptured::BUDGET;
        }
        if captured == want && tail_want > 0 && fits {
            tail = room.copy_tail(&source, captured, length - tail_want, tail_want);
            // All of it or nothing: a part would not be the operation's end.
            if tail != tail_want {
                tail = 0;
            }
        }
    }

    reason = kernel::forget(u64::from(reason), cookie) as u8;
    (captured, tail) = (kernel::forget(captured, cookie), kernel::forget(tail, cookie));
    if captured > MAX_PAYLOAD as u64 {
        captured = MAX_PAYLOAD as u64;
    }

    if reason > uncaptured::BUDGET {
        debug!((), "{} bytes not captured, reason {}", length, reason);
    }
    // An event loop's slices are everybody's: what nobody can use isn't read.
    // SAFETY: `state` is a map value.
    let (run_delay_ns, exec_ns) = if unsafe { (*state).blocking } != 0 {
        let absent = offset!(task_run_delay) == KernelFields::ABSENT;
        (if absent { 0 } else { field!(task, task_run_delay) }, on_cpu(task, now))
    } else {
        (0, 0)
    };
    let written = room.write(
        cookie,
        OperationRecord {
            kind: RecordKind::OPERATION.0,
            direction: direction.0,
            flags: bits,
            captured: captured as u32,
            timestamp_ns: now,
            cookie,
            offset: end.wrapping_sub(u64::from(length)),
            length,
            // SAFETY: `state` is a map value.
            slot: unsafe { (*state).slot },
            tgid: field!(task, task_tgid),
            tid: field!(task, task_pid),
            uncaptured: reason,
            tail_length: tail as u8,
            error: if ret < 0 { ret.unsigned_abs() as u16 } else { 0 },
            srtt_us,
            // SAFETY: `state` is a map value.
            retransmits: unsafe { (*state).retransmits },
            reserved: 0,
            strand,
            context,
            queue_ns: now.saturating_sub(ready),
            run_delay_ns,
            exec_ns,
        },
    );
    if !written {
        let way_lost =
            if direction == Direction::SEND { flag::LOST_SENT } else { flag::LOST_RECEIVED };
        // SAFETY: `state` is a map value. Two threads at once may tell one loss twice, or only the later.
        unsafe { (*state).lost = lost | way_lost };
    } else if lost != 0 {
        // SAFETY: as above.
        unsafe { (*state).lost = 0 };
    }
    if length > 0 {
        if !early {
            account(process, way, u64::from(length), captured, reason, written);
        } else if captured < want {
            // What was to be copied could not be read.
            uncapture(process, way, u64::from(length), want, captured);
        }
    } else if !written {
        // SAFETY: a map value's counter.
        add(unsafe { &raw mut (*process).dropped_records }, 1);
    }
}

/// The request that the bytes are of, or for which they are sent; 0 where that isn't known.
#[inline(always)]
fn python_context(
    task: Object,
    state: *mut SocketState,
    source: &Source,
    length: u32,
    direction: Direction,
    turns: bool,
) -> u64 {
    if length == 0 {
        return 0;
    }
    // SAFETY: `state` is a map value.
    let (slot, inbound, blocking) =
        unsafe { ((*state).slot, (*state).inbound != 0, (*state).blocking != 0) };
    match (direction, inbound) {
        (Direction::RECEIVE, true) => python::received(task, slot, state, turns, blocking),
        (Direction::RECEIVE, false) => {
            python::received_answer(task, slot);
            0
        }
        _ => python::sent(task, slot, state, source, u64::from(length)),
    }
}

/// When TCP put the operation's last byte on the wire, of which it keeps the time: a look at the clock that was
/// had already. 0: it has not done so yet.
///
/// It looks at the clock each time before it sends anything (`tcp_write_xmit` in net/ipv4/tcp_output.c), so where
/// nothing waits any more it did since the bytes were given to it: if they were (a sockmap, or TLS in the kernel, may
/// have taken them). `before`: what had been given when the send before was over.
#[inline(always)]
fn sent_at(tcp: Object, written: u32, before: u64, length: u32) -> u64 {
    let sent: u32 = field!(tcp, tcp_snd_nxt);
    let given = before != 0 && length > 0 && written.wrapping_sub(before as u32) >= length;
    if offset!(tcp_clock_cache) == KernelFields::ABSENT || sent != written || !given {
        return 0;
    }
    field!(tcp, tcp_clock_cache)
}

/// The sequence number after the last byte that the application has read.
///
/// The receive that takes the last byte takes the peer's FIN as well, and a FIN has a sequence number of its
/// own (`found_fin_ok` in net/ipv4/tcp.c): left in, the bytes would seem to lie one further on, behind a
/// hole. RCV_SHUTDOWN alone doesn't tell: a FIN may have come since, or the application have shut down.
#[inline(always)]
fn received_up_to(sk: Object, tcp: Object, next: u64, length: u32) -> u32 {
    let copied: u32 = field!(tcp, tcp_copied_seq);
    let shutdown: u8 = field!(sk, sock_shutdown);
    if shutdown & RCV_SHUTDOWN == 0 {
        return copied;
    }
    let took_fin = if next == 0 {
        let expected: u32 = field!(tcp, tcp_rcv_nxt);
        copied == expected
    } else {
        copied.wrapping_sub(next as u32) == length.wrapping_add(1)
    };
    if took_fin { copied.wrapping_sub(1) } else { copied }
}

/// The thread's time on a CPU. The scheduler adds a slice only at its end or at a tick, so the part since
/// then is added here; the scheduler's clock runs at a constant distance from `now`, which a difference of
/// two readings cancels (but for time stolen by the hypervisor between them).
#[inline(always)]
fn on_cpu(task: Object, now: u64) -> u64 {
    let sum: u64 = field!(task, task_exec_runtime);
    let since: u64 = field!(task, task_exec_start);
    sum.wrapping_add(now).wrapping_sub(since)
}

/// The kernel's side of the books.
#[inline(always)]
fn account(
    process: *mut ProcessSlot,
    way: usize,
    length: u64,
    captured: u64,
    reason: u8,
    written: bool,
) {
    // SAFETY: counters of a map value; `way` is 0 or 1, `reason` masked below its array's length.
    unsafe {
        add(&raw mut (*process).seen_operations[way], 1);
        add(&raw mut (*process).seen_bytes[way], length);
        if written {
            add(&raw mut (*process).captured_bytes[way], captured);
            if length > captured {
                let reason =
                    if reason < uncaptured::REASONS as u8 { usize::from(reason) } else { 0 };
                add(
                    (&raw mut (*process).uncaptured_bytes).cast::<u64>().add(reason),
                    length - captured,
                );
            }
        } else {
            add(&raw mut (*process).dropped_operations[way], 1);
            add(&raw mut (*process).dropped_bytes[way], length);
        }
    }
}

/// Of the bytes that were booked as captured only so many could be read: all others are for that reason missing.
#[inline(always)]
fn uncapture(process: *mut ProcessSlot, way: usize, length: u64, booked: u64, captured: u64) {
    // SAFETY: counters of a map value; `way` is 0 or 1.
    unsafe {
        let missing = (&raw mut (*process).uncaptured_bytes).cast::<u64>();
        add(&raw mut (*process).captured_bytes[way], captured.wrapping_sub(booked));
        add(missing.add(usize::from(uncaptured::BUDGET)), booked.wrapping_sub(length));
        add(missing.add(usize::from(uncaptured::FAULT)), length.wrapping_sub(captured));
    }
}
