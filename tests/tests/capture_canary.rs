//! No byte is copied but those that passed: nothing beside a buffer, nothing behind what an operation
//! returned, and what is copied is what was sent.

use crate::common::capture as common;
use crate::common::recorder;

use common::unique;
use recorder::Recorder;
use rstest::rstest;
use wirespan_ebpf::TAIL;

/// Fills what surrounds every buffer; in nothing that is sent.
const CANARY: u8 = 0xc7;

/// Buffers in the middle of pages that hold canaries only, the last page followed by one that can't be read.
const AREA: &str = r"
import mmap
AREA = mmap.mmap(-1, 5 * 4096)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.syscall.argtypes = [ctypes.c_long] + [ctypes.c_long] * 4
START = ctypes.addressof(ctypes.c_char.from_buffer(AREA))
assert LIBC.mprotect(START + 4 * 4096, 4096, 0) == 0
NUMBERS = dict(read=0, write=1, readv=19, writev=20)

def fill():
    ctypes.memset(START, 0xc7, 4 * 4096)

def put(at, data):
    ctypes.memmove(START + at, bytes(data), len(data))
    return START + at

def iovecs(parts):
    array = (Iovec * len(parts))()
    for entry, (at, length) in zip(array, parts):
        entry.base, entry.length = START + at, length
    return array

def header(parts):
    array = iovecs(parts)
    message = Msghdr()
    message.iovecs, message.iovec_count = array, len(parts)
    return message, array

def raw_send(sock, call, parts):
    'Sends `parts`, each (offset, length) in the area.'
    fd = sock.fileno()
    if call == 'write':
        done = LIBC.syscall(1, fd, START + parts[0][0], parts[0][1], 0)
    elif call == 'sendto':
        done = LIBC.send(fd, ctypes.c_void_p(START + parts[0][0]), ctypes.c_size_t(parts[0][1]), 0)
    elif call == 'writev':
        array = iovecs(parts)
        done = LIBC.syscall(20, fd, ctypes.addressof(array), len(parts), 0)
    elif call == 'sendmsg':
        message, array = header(parts)
        done = LIBC.sendmsg(fd, ctypes.byref(message), 0)
    count('send', checked(done))
    return done

def raw_recv(sock, call, parts):
    fd = sock.fileno()
    if call == 'read':
        done = LIBC.syscall(0, fd, START + parts[0][0], parts[0][1], 0)
    elif call == 'recvfrom':
        done = LIBC.recv(fd, ctypes.c_void_p(START + parts[0][0]), ctypes.c_size_t(parts[0][1]), 0)
    elif call == 'readv':
        array = iovecs(parts)
        done = LIBC.syscall(19, fd, ctypes.addressof(array), len(parts), 0)
    elif call == 'recvmsg':
        message, array = header(parts)
        done = LIBC.recvmsg(fd, ctypes.byref(message), 0)
    count('receive', checked(done))
    return done
";

const CONNECT: &str =
    "listener, place = listen({family}); c = connect(place); s = accept(listener)";

#[rstest]
#[case::write_and_read("write", "read", false)]
#[case::sendto_and_recvfrom("sendto", "recvfrom", false)]
#[case::writev_and_readv("writev", "readv", true)]
#[case::sendmsg_and_recvmsg("sendmsg", "recvmsg", true)]
fn only_what_passed_is_copied(
    #[case] send: &str,
    #[case] receive: &str,
    #[case] vectors: bool,
    #[values(4096, 100, 8192)] budget: u32,
) {
    let mut recorder = Recorder::load(budget);
    let (mut script, slot) = recorder.script(&unique("canary"));
    script.run(AREA).unwrap();
    let mut sent = Vec::new();
    for family in ["'inet'", "'inet6'", "'unix'"] {
        script.run(&CONNECT.replace("{family}", family)).unwrap();
        // Lengths about what is copied at once, in the middle of a page, over a page's end, and up to the
        // last byte that can be read.
        for (at, length) in
            [(100, 1), (100, 7), (4000, 200), (700, 99), (700, 101), (16384 - 50, 50), (3, 5000)]
        {
            let data: Vec<u8> = (0..length).map(|index| b'a' + (index % 26) as u8).collect();
            let text = String::from_utf8(data.clone()).unwrap();
            // Sent out of a larger area; with iovecs in pieces that lie apart.
            let pieces = if vectors && length > 3 {
                let (one, two) = (length / 3, length / 2 - length / 3);
                vec![(at, one), (9000, two), (9000 + two + 64, length - one - two)]
            } else {
                vec![(at, length)]
            };
            // Received into more room than is needed; what is behind `ret` stays a canary.
            let room = if vectors {
                "[(8192, 3), (300, 0), (200, 2), (1024, 6000)]"
            } else {
                "[(512, 8000)]"
            };
            let code = format!(
                "fill(); data = {text:?}.encode(); at = 0\n\
                 for place, length in {pieces:?}:\n  put(place, data[at:at + length]); at += length\n\
                 assert raw_send(c, {send:?}, {pieces:?}) == {length}\n\
                 wait_for(s, 1); fill(); done = 0\n\
                 while done < {length}: done += raw_recv(s, {receive:?}, {room})"
            );
            script.run(&code).unwrap();
            sent.push(data);
        }
    }
    let books = recorder.read(&mut script, slot);
    let expected: Vec<u8> = sent.concat();
    for way in [true, false] {
        let mut at = 0;
        for seen in recorder.of(slot).filter(|seen| seen.sent == way && seen.length > 0) {
            let length = seen.length as usize;
            let truth = &expected[at..at + length];
            assert!(!seen.payload.contains(&CANARY), "a canary was copied: {seen:?}");
            assert!(!seen.tail.contains(&CANARY), "a canary was copied: {seen:?}");
            assert_eq!(seen.payload, truth[..seen.payload.len()], "{seen:?}");
            assert_eq!(seen.tail, truth[length - seen.tail.len()..], "{seen:?}");
            // The end shows even where the budget was used up before.
            assert_eq!(seen.tail.len(), (length - seen.payload.len()).min(TAIL), "{seen:?}");
            // Nothing comes between: both directions are one burst each, per connection.
            assert!(seen.payload.len() <= budget as usize, "{seen:?}");
            at += length;
        }
        assert_eq!(at, expected.len(), "sent: {way}");
    }
    assert_eq!(books.uncaptured_bytes[2..], [0, 0, 0], "{books:?}");
    if budget == 8192 {
        assert_eq!(books.uncaptured_bytes, [0; 5], "{books:?}");
    }
}

#[test]
fn a_buffer_that_is_gone_gives_nothing() {
    let mut recorder = Recorder::load(4096);
    let (mut script, slot) = recorder.script(&unique("gone"));
    script.run(AREA).unwrap();
    script.run(&CONNECT.replace("{family}", "'inet'")).unwrap();
    // The kernel may take what can be read of the iovecs, or refuse them all: either way only that is seen.
    let code = "fill(); put(16384 - 8, b'readable'); passed = {}\n\
                def attempt(what, sock, call, parts):\n  \
                  try: passed[what] = call(sock, what, parts)\n  \
                  except OSError as error: passed[what] = -error.errno\n\
                attempt('writev', c, raw_send, [(16384 - 8, 8), (16384, 100)])\n\
                send_all(s, b'answer'); fill(); wait_for(c, 1)\n\
                attempt('readv', c, raw_recv, [(16384 - 4, 4), (16384, 100)])\n\
                put(100, b'goes on'); raw_send(c, 'write', [(100, 7)]); passed";
    let passed = script.run(code).unwrap();
    let kept = |call: &str, whole: &str| {
        let length = usize::try_from(passed[call].as_i64().unwrap()).unwrap_or(0);
        whole.get(..length).filter(|kept| !kept.is_empty()).map(str::to_owned)
    };
    recorder.read(&mut script, slot);
    let payload = |sent| {
        let mine = recorder.of(slot).filter(move |seen| seen.sent == sent);
        mine.map(|seen| String::from_utf8(seen.payload.clone()).unwrap()).collect::<Vec<_>>()
    };
    let mut expected: Vec<_> = kept("writev", "readable").into_iter().collect();
    expected.extend(["answer".to_owned(), "goes on".to_owned()]);
    assert_eq!(payload(true), expected, "{passed}");
    assert_eq!(payload(false), kept("readv", "answer").into_iter().collect::<Vec<_>>(), "{passed}");
}

#[test]
fn what_is_written_over_before_the_hook_reads_it_is_still_within_the_buffer() {
    // The hook runs after the copy: another thread may write into the buffer meanwhile. What is copied may
    // then be newer, and never comes from elsewhere.
    let mut recorder = Recorder::load(4096);
    let (mut script, slot) = recorder.script(&unique("race"));
    script.run(AREA).unwrap();
    script.run(&CONNECT.replace("{family}", "'unix'")).unwrap();
    let code = "import threading\nstop = False\n\
                def scribble():\n  \
                  while not stop: ctypes.memset(START + 1000, 98, 64); ctypes.memset(START + 1000, 97, 64)\n\
                fill(); ctypes.memset(START + 1000, 97, 64); thread = threading.Thread(target=scribble)\n\
                thread.start()\n\
                for _ in range(2000): raw_send(c, 'write', [(1000, 64)]); \
                  recv_once(s, 64); send_once(s, b'-'); recv_once(c, 1)\n\
                stop = True; thread.join()";
    script.run(code).unwrap();
    recorder.read(&mut script, slot);
    for seen in recorder.of(slot).filter(|seen| seen.sent && seen.length > 1) {
        assert_eq!(seen.payload.len(), 64);
        assert!(seen.payload.iter().all(|byte| matches!(byte, b'a' | b'b')), "{seen:?}");
    }
}
