//! Where the running system call is not the one that moved the bytes, nothing is copied from where its
//! registers point; bytes that no hook sees show as gaps, and what follows is understood.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a skip is said; helpers panic as tests do"
)]

use crate::common::capture as common;
use crate::common::recorder;

use common::{Bench, Exchange, PLAIN, assert_right, connect, exchange, joined, spans_of, unique};
use recorder::Recorder;
use rstest::rstest;
use wirespan_ebpf::uncaptured;
use wirespan_tests::script::Script;
use wirespan_tests::spans::{CLIENT, SERVER};

/// What the lying registers point at. It is never sent.
const LOG: &str = "a line of a log that is nobody's business";

const SETUP: &str = r"
import fcntl, sys, threading
sys.path.insert(0, os.getcwd())
import uring
LOG = b'a line of a log that is nobody\'s business' * 20
path = '/proc/self/fd/%d' % os.memfd_create('log')
log = os.open(path, os.O_RDWR)
os.write(log, LOG)
BUFFER = ctypes.create_string_buffer(8192)
AT = ctypes.addressof(BUFFER)
listener, place = listen('inet'); c = connect(place); s = accept(listener)
";

/// Whether there is io_uring; where the kernel refuses it, there is nothing that could lie.
fn has_io_uring(script: &mut Script) -> bool {
    let refused = script.run(
        "try: uring.Ring().fd; refused = None\nexcept uring.Refused as error: refused = str(error)\nrefused",
    );
    let refused = refused.unwrap();
    if let Some(error) = refused.as_str() {
        println!("SKIPPED: the kernel refuses io_uring: {error}");
    }
    refused.is_null()
}

/// Nothing that was copied holds anything but what the connection carried.
fn assert_no_lie(recorder: &Recorder, slot: wirespan::capture::Slot, carried: &[&str]) {
    for seen in recorder.of(slot).filter(|seen| seen.length > 0) {
        let payload = String::from_utf8_lossy(&seen.payload);
        assert!(!payload.contains("log"), "copied {payload:?}, {LOG:?}: {seen:?}");
        assert!(
            seen.payload.is_empty() || carried.iter().any(|text| text.starts_with(&*payload)),
            "copied {payload:?}, not of {carried:?}"
        );
        let tail = String::from_utf8_lossy(&seen.tail);
        assert!(
            carried.iter().any(|text| text.contains(&*tail)) || tail.is_empty(),
            "copied {tail:?}"
        );
    }
}

/// A receive that waits in a ring is completed by whatever system call its task makes next.
#[rstest]
#[case::in_a_read("READ")]
#[case::in_a_write("WRITE")]
#[case::in_a_readv("READV")]
fn a_receive_completed_inside_another_call_is_counted_and_not_copied(#[case] call: &str) {
    let mut recorder = Recorder::load(4096);
    let (mut script, slot) = recorder.script(&unique("uring"));
    script.run(SETUP).unwrap();
    if !has_io_uring(&mut script) {
        return;
    }
    // The peer sends from another process on another CPU, while this one makes the call again and again: the
    // interrupt that completes the receive comes within one of them, nearly always.
    let code = r"
CPUS = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, CPUS[:1])
ring = uring.Ring()
def READ():
    os.lseek(log, 0, 0)
    return os.read(log, 512)
def READV():
    os.lseek(log, 0, 0)
    return os.readv(log, [bytearray(512)])
def WRITE():
    return os.write(log, LOG[:512])
def round(call):
    ring.queue(uring.RECV, s.fileno(), AT, 64, tag=1)
    ring.submit(1)
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, CPUS[-1:])
        # Not in COUNTS: another process, with books of its own.
        time.sleep(0.005); os.write(c.fileno(), b'secret of the connection'); os._exit(0)
    while not ring.is_complete():
        call()
    done = ring.completions(1)[1]
    count('receive', done)
    os.waitpid(child, 0)
    assert BUFFER.raw[:done] == b'secret of the connection', BUFFER.raw[:done]
";
    script.run(code).unwrap();
    let tries = 30;
    script.run(&format!("for _ in range({tries}): round({call})")).unwrap();
    let books = recorder.read(&mut script, slot);
    assert_eq!(books.seen_operations[0], tries);
    assert_eq!(books.uncaptured_bytes[usize::from(uncaptured::SYSCALL)], books.seen_bytes[0]);
    assert_no_lie(&recorder, slot, &[]);
}

/// A send that waits for room in a ring is completed inside the write of a log line.
#[test]
fn a_send_completed_inside_a_write_is_counted_and_not_copied() {
    let mut recorder = Recorder::load(4096);
    let (mut script, slot) = recorder.script(&unique("uring-send"));
    script.run(SETUP).unwrap();
    if !has_io_uring(&mut script) {
        return;
    }
    let code = r"
ring = uring.Ring()
CPUS = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, CPUS[:1])
s.setblocking(False)
try:
    while True: count('send', os.write(s.fileno(), b'f' * 65536))
except BlockingIOError: pass
s.setblocking(True)
BUFFER.raw = b'sent through the ring'.ljust(8192)
ring.queue(uring.SEND, s.fileno(), AT, 64, tag=1)
ring.submit(1)
child = os.fork()
if child == 0:
    os.sched_setaffinity(0, CPUS[-1:]); time.sleep(0.01)
    c.setblocking(False)
    left = 200
    while left:
        try:
            os.read(c.fileno(), 1 << 20)
        except BlockingIOError:
            left -= 1
            time.sleep(0.001)
    os._exit(0)
while not ring.is_complete():
    os.write(log, LOG[:512])
done = ring.completions(1)[1]
count('send', done)
os.waitpid(child, 0)
done";
    let done = script.run(code).unwrap();
    let books = recorder.read(&mut script, slot);
    let other = books.uncaptured_bytes[usize::from(uncaptured::SYSCALL)];
    assert_eq!(Some(other), done.as_u64(), "{books:?}");
    assert_no_lie(&recorder, slot, &["f".repeat(4096).as_str()]);
}

/// A kernel thread that works for a ring has the registers of the call in which it was made.
#[test]
fn a_worker_thread_of_a_ring_copies_nothing_by_its_inherited_registers() {
    // A poll of a pipe (made ready from another CPU), and linked to it a receive by a worker: when the pipe
    // becomes readable, the worker is made inside a read of the log, and finds the connection's bytes there.
    let code = r"
CPUS = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, CPUS[:1])
pipe, into = os.pipe()
send_all(c, b'secret of the connection')
wait_for(s, 1)
ring = uring.Ring()
ring.queue(uring.POLL_ADD, pipe, operation_flags=1, flags=uring.LINK, tag=1)
ring.queue(uring.RECV, s.fileno(), AT, 64, flags=uring.ASYNC, tag=2)
ring.submit(2)
os.lseek(log, 0, 0)
child = os.fork()
if child == 0:
    os.sched_setaffinity(0, CPUS[-1:]); time.sleep(0.01); os.write(into, b'x'); os._exit(0)
while not ring.is_complete():
    os.lseek(log, 0, 0); os.read(log, 512)
done = ring.completions(2)[2]
count('receive', done)
os.waitpid(child, 0)
assert BUFFER.raw[:done] == b'secret of the connection'";
    // The interrupt may come between two reads and make the worker in no call at all: several times.
    for _ in 0..10 {
        let mut recorder = Recorder::load(4096);
        let (mut script, slot) = recorder.script(&unique("uring-worker"));
        script.run(SETUP).unwrap();
        if !has_io_uring(&mut script) {
            return;
        }
        script.run(code).unwrap();
        let books = recorder.read(&mut script, slot);
        assert_no_lie(&recorder, slot, &["secret of the connection"]);
        let received = recorder.of(slot).find(|seen| !seen.sent && seen.length > 0).unwrap();
        assert_ne!(received.tid, script.pid(), "a worker received it");
        assert!(received.payload.is_empty(), "{received:?}");
        assert_eq!(books.uncaptured_bytes[usize::from(uncaptured::SYSCALL)], 24, "{books:?}");
    }
}

#[test]
fn a_polling_thread_of_a_ring_is_counted_and_not_copied() {
    let mut recorder = Recorder::load(4096);
    let (mut script, slot) = recorder.script(&unique("uring-sqpoll"));
    script.run(SETUP).unwrap();
    if !has_io_uring(&mut script) {
        return;
    }
    let code = r"
BUFFER.raw = b'through the polling thread'.ljust(8192)
ring = uring.Ring(uring.SQPOLL)
for number in range(5):
    ring.queue(uring.SEND, s.fileno(), AT, 26, tag=1); ring.submit(1)
    done = ring.completions(1)[1]; count('send', done)
    assert recv_once(c, 64) == b'through the polling thread'
    send_all(c, b'answer')
    ring.queue(uring.RECV, s.fileno(), AT + 4096, 64, tag=2); ring.submit(1)
    done = ring.completions(1)[2]; count('receive', done)
    assert BUFFER.raw[4096:4096 + done] == b'answer'
";
    script.run(code).unwrap();
    let books = recorder.read(&mut script, slot);
    assert_eq!(books.uncaptured_bytes[usize::from(uncaptured::SYSCALL)], 5 * (26 + 6), "{books:?}");
    assert_no_lie(&recorder, slot, &["through the polling thread", "answer"]);
}

#[test]
fn ordinary_calls_of_a_process_with_a_ring_are_copied() {
    let mut recorder = Recorder::load(4096);
    let (mut script, slot) = recorder.script(&unique("uring-plain"));
    script.run(SETUP).unwrap();
    if !has_io_uring(&mut script) {
        return;
    }
    script
        .run("ring = uring.Ring(); ring.queue(0, 0); ring.submit(1); ring.completions(1)")
        .unwrap();
    script.run("send_all(c, b'plain'); recv_once(s, 64); send_all(s, b'too', 'writev'); recv_once(c, 9, 'readv')").unwrap();
    let books = recorder.read(&mut script, slot);
    assert_eq!(books.uncaptured_bytes, [0; uncaptured::REASONS], "{books:?}");
    assert_no_lie(&recorder, slot, &["plain", "too"]);
}

/// A 32-bit system call's registers are cut, and its numbers mean other calls.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_by_int_0x80_is_counted_and_not_copied() {
    let mut recorder = Recorder::load(4096);
    let (mut script, slot) = recorder.script(&unique("int80"));
    script.run(SETUP).unwrap();
    // write(ebx, ecx, edx) with everything below 4 GiB: mov eax, edi; mov ecx, edx; mov edx, r8d (after
    // ebx is saved and set from esi); int 0x80.
    let code = r"
import mmap
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
low = LIBC.mmap(None, 8192, 7, 0x62, -1, 0)
assert low < 1 << 32
machine = bytes.fromhex('53 89f8 89f3 89d1 4489c2 cd80 5b c3'.replace(' ', ''))
machine = bytes.fromhex('53' '89f8' '89f3' '89d1' '4489c2' 'cd80' '4863c0' '5b' 'c3')
ctypes.memmove(low, machine, len(machine))
ctypes.memmove(low + 4096, b'thirty-two bits', 15)
enter = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_uint] * 3, ctypes.c_uint, ctypes.c_uint)(low)
# edi: number, esi: descriptor, edx: buffer, r8d (the fifth): length.
sent = enter(4, c.fileno(), low + 4096, 0, 15)
count('send', sent)
received = enter(3, s.fileno(), low + 6000, 0, 64) if sent > 0 else 0
count('receive', received)
[sent, received, ctypes.string_at(low + 6000, 15).decode()]";
    let done = script.run(code).unwrap();
    if done[0] == -i64::from(libc::ENOSYS) {
        println!("SKIPPED: the kernel has no 32-bit system calls");
        return;
    }
    assert_eq!(done, serde_json::json!([15, 15, "thirty-two bits"]));
    let books = recorder.read(&mut script, slot);
    assert_eq!(books.uncaptured_bytes[usize::from(uncaptured::SYSCALL)], 30, "{books:?}");
    assert_no_lie(&recorder, slot, &[]);
}

/// Bytes that go between sockets and files without passing the process.
#[rstest]
#[case::sendfile_sends_the_response(
    "def send_response(whole):\n  f = os.memfd_create('f'); os.write(f, whole); at = 0\n  \
     while at < len(whole):\n    n = os.sendfile(s.fileno(), f, at, len(whole) - at); at += n; count('send', n)",
    false
)]
#[case::splice_sends_the_response(
    "def send_response(whole):\n  r, w = os.pipe(); os.write(w, whole); at = 0\n  \
     while at < len(whole):\n    n = os.splice(r, s.fileno(), len(whole) - at); at += n; count('send', n)",
    false
)]
#[case::splice_receives_the_request("", true)]
fn what_bypasses_the_process_is_a_gap_and_the_connection_goes_on(
    #[case] setup: &str,
    #[case] unseen: bool,
) {
    let bench = Bench::start(&unique("bypass"), &[]);
    let (mut client, mut server) = (bench.script("client"), bench.script("server"));
    server.run(setup).unwrap();
    let mut exchanges = Vec::new();
    let mut spliced = 0;
    for family in ["inet", "inet6"] {
        connect(&mut client, &mut server, family);
        for number in 0..12 {
            let one = Exchange::new(family, number);
            let hidden = number == 3;
            exchanges.push((one.clone(), hidden));
            if !hidden {
                exchange(&mut client, &mut server, [PLAIN; 2], &one);
                continue;
            }
            let answer = format!("response({}, {})", one.status, one.response_bytes);
            let work = if unseen {
                let length = format!("len(request({:?}, {}))", one.path, one.request_bytes);
                spliced += server.run(&length).unwrap().as_u64().unwrap();
                format!(
                    "r, w = os.pipe(); left = {length}\n\
                     while left: left -= os.splice(s.fileno(), w, left)\nsend_all(s, {answer})"
                )
            } else {
                format!("sr.message(); send_response({answer})")
            };
            server.begin(&work).unwrap();
            let ask = format!("request({:?}, {})", one.path, one.request_bytes);
            client.run(&format!("send_all(c, {ask}); cr.message(); None")).unwrap();
            server.finish().unwrap();
        }
    }
    bench.agrees(&mut client, 0);
    let line = bench.agrees(&mut server, 0);
    assert_eq!(line.agent.bytes_unseen, spliced, "{line:#?}");
    assert_eq!(line.kernel.bytes_other_syscall > 0, !unseen, "{line:#?}");
    let spans = bench.spans();
    for (one, hidden) in &exchanges {
        for kind in [CLIENT, SERVER] {
            spans_of(&spans, kind, &one.path).iter().for_each(|span| assert_right(span, one));
        }
        // The client's end saw everything; the server's is certain of the very next exchange.
        common::span_of(&spans, CLIENT, one);
        if !hidden {
            joined(&spans, one);
        }
    }
}
