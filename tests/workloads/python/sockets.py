"""A process that speaks HTTP/1.1 over its sockets with exactly the system calls that it is told to use.

Usage: sockets.py NAME. It runs the code that it is sent, one JSON object a line ({"code": TEXT}) on its
standard input, with everything below at hand, and answers on its standard output with the value of the last
expression ({"value": ...}) or with {"error": TRACEBACK}. It counts what its own calls returned (`COUNTS`):
the truth that the agent's books are held against. It opens no socket of its own accord.
"""

import ast
import ctypes
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
LOCK = threading.Lock()
COUNTS = {
    "receive": {"operations": 0, "bytes": 0},
    "send": {"operations": 0, "bytes": 0},
    "peeks": 0,
}

MSG_WAITFORONE = 0x10000


def count(direction, length):
    """One operation that moved `length` bytes; one that moved none is none."""
    if length > 0:
        with LOCK:
            COUNTS[direction]["operations"] += 1
            COUNTS[direction]["bytes"] += length


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iovecs", ctypes.POINTER(Iovec)),
        ("iovec_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("header", Msghdr), ("length", ctypes.c_uint32)]


def messages(buffers):
    """An array of mmsghdr, one for each list of buffers, and what has to be kept alive with it."""
    array, kept = (Mmsghdr * len(buffers))(), []
    for entry, parts in zip(array, buffers):
        iovecs = (Iovec * len(parts))()
        for iovec, part in zip(iovecs, parts):
            iovec.base, iovec.length = ctypes.addressof(part), len(part)
        entry.header.iovecs = iovecs
        entry.header.iovec_count = len(parts)
        kept.append((iovecs, parts))
    return array, kept


def checked(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def split(data, lengths):
    """`data` cut into pieces of these lengths, the last one taking what is left."""
    parts, at = [], 0
    for length in lengths:
        parts.append(data[at : at + length])
        at += length
    return parts + [data[at:]] if at < len(data) or not parts else parts


def send_once(sock, data, call="sendto", cuts=(), flags=0):
    """One call. `cuts`: lengths of the iovecs (of the messages, with sendmmsg). Returns what it did."""
    if call == "write":
        done = os.write(sock.fileno(), data)
    elif call == "writev":
        done = os.writev(sock.fileno(), split(data, cuts))
    elif call == "sendto":
        done = sock.send(data, flags)
    elif call == "sendmsg":
        done = sock.sendmsg(split(data, cuts), [], flags)
    elif call == "sendmmsg":
        parts = split(data, cuts)
        buffers = [[(ctypes.c_char * len(part)).from_buffer(bytearray(part))] for part in parts]
        array, kept = messages(buffers)
        number = checked(LIBC.sendmmsg(sock.fileno(), array, len(array), flags))
        lengths = [array[index].length for index in range(number)]
        for length in lengths:
            count("send", length)
        del kept
        return sum(lengths)
    else:
        raise ValueError(call)
    count("send", done)
    return done


def send_all(sock, data, call="sendto", cuts=(), flags=0):
    """Calls until everything is sent. A call that would block is tried again when it would not."""
    data = memoryview(bytes(data))
    calls = 0
    while data:
        try:
            done = send_once(sock, data, call, cuts, flags)
        except BlockingIOError:
            wait_for(sock, 4)
            continue
        calls += 1
        data = data[done:]
    return calls


def recv_once(sock, size, call="recvfrom", cuts=(), flags=0):
    """One call; returns the bytes. `cuts`: lengths of the iovecs (of the messages, with recvmmsg)."""
    if call == "read":
        data = os.read(sock.fileno(), size)
    elif call == "recvfrom":
        data = sock.recv(size, flags)
        if flags & socket.MSG_PEEK:
            with LOCK:
                COUNTS["peeks"] += 1
            return data
    elif call in ("readv", "recvmsg"):
        buffers = [bytearray(length) for length in cuts] or [bytearray(size)]
        if call == "readv":
            done = os.readv(sock.fileno(), buffers)
        else:
            done = sock.recvmsg_into(buffers, 0, flags)[0]
        data = b"".join(buffers)[:done]
    elif call == "recvmmsg":
        lengths = list(cuts) or [size]
        buffers = [[(ctypes.c_char * length)()] for length in lengths]
        array, kept = messages(buffers)
        number = checked(LIBC.recvmmsg(sock.fileno(), array, len(array), flags | MSG_WAITFORONE, None))
        data = b""
        for index in range(number):
            length = array[index].length
            count("receive", length)
            data += bytes(buffers[index][0])[:length]
        del kept
        return data
    else:
        raise ValueError(call)
    count("receive", len(data))
    return data


def wait_for(sock, events, timeout=30):
    """Until poll(2) shows one of the events (1: readable, 4: writable)."""
    import select

    poll = select.poll()
    poll.register(sock, events)
    if not poll.poll(timeout * 1000):
        raise TimeoutError("the socket does not become ready")


class Reader:
    """Whole HTTP messages from a socket, with one kind of call."""

    def __init__(self, sock):
        self.sock, self.unread = sock, b""

    def more(self, size, call, cuts, flags):
        while True:
            try:
                data = recv_once(self.sock, size, call, cuts, flags)
            except BlockingIOError:
                wait_for(self.sock, 1)
                continue
            if not data:
                raise EOFError(self.unread)
            self.unread += data
            return

    def message(self, size=65536, call="recvfrom", cuts=(), flags=0):
        """The next message: head and content."""
        while b"\r\n\r\n" not in self.unread:
            self.more(size, call, cuts, flags)
        head, _, rest = self.unread.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
        if fields.get(b"transfer-encoding") == b"chunked":
            while not self.unread.endswith(b"\r\n0\r\n\r\n"):
                self.more(size, call, cuts, flags)
            content, self.unread = self.unread[len(head) + 4 :], b""
            return head, content
        length = int(fields.get(b"content-length", 0))
        while len(self.unread) < len(head) + 4 + length:
            self.more(size, call, cuts, flags)
        content = self.unread[len(head) + 4 : len(head) + 4 + length]
        self.unread = self.unread[len(head) + 4 + length :]
        return head, content


def content(length):
    """Content that shows where in it a piece comes from."""
    words = b"".join(b"%07d " % number for number in range(length // 8 + 1))
    return words[:length]


def chunked(length, chunk):
    data = content(length)
    pieces = [data[at : at + chunk] for at in range(0, length, chunk)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def request(path, length=0, padding=0, chunk=0):
    """A POST with `length` bytes of content and `padding` bytes of one more field; chunked if asked."""
    extra = b"X-Padding: " + b"p" * padding + b"\r\n" if padding else b""
    start = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: sockets\r\n" + extra
    if chunk:
        return start + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(length, chunk)
    return start + b"Content-Length: %d\r\n\r\n" % length + content(length)


def response(status=200, length=0, padding=0, chunk=0):
    extra = b"X-Padding: " + b"p" * padding + b"\r\n" if padding else b""
    start = b"HTTP/1.1 %d Status\r\n" % status + extra
    if chunk:
        return start + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(length, chunk)
    return start + b"Content-Length: %d\r\n\r\n" % length + content(length)


def listen(family="inet", backlog=128, reuse=False, host=None, port=0):
    """A listening socket, and where: what `connect` takes."""
    if family == "unix":
        listener = socket.socket(socket.AF_UNIX)
        # Abstract: no file to remove.
        place = "\0sockets-%d-%d" % (os.getpid(), time.monotonic_ns())
        listener.bind(place)
    else:
        listener = socket.socket(socket.AF_INET6 if family == "inet6" else socket.AF_INET)
        if reuse:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host or ("::1" if family == "inet6" else "127.0.0.1"), port))
        place = list(listener.getsockname()[:2])
    listener.listen(backlog)
    return listener, place


def connect(place, receive_buffer=0):
    if isinstance(place, str):
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
        place = tuple(place)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(place)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def accept(listener):
    sock = listener.accept()[0]
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def reset(sock):
    """Closes with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def spin(seconds):
    """Computes for so long on a CPU, and makes no system call meanwhile."""
    end = time.thread_time_ns() + int(seconds * 1e9)
    while time.thread_time_ns() < end:
        pass


def spin_until(condition, rounds=100_000_000):
    """Until the condition holds, without any system call: not even a clock is sure to be none."""
    for _ in range(rounds):
        if condition():
            return
    raise TimeoutError("the condition does not come true")


def run(code, namespace):
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "command", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "command", "eval"), namespace) if last else None


def main():
    namespace = globals()
    for line in sys.stdin:
        try:
            answer = {"value": run(json.loads(line)["code"], namespace)}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer, default=repr), flush=True)


if __name__ == "__main__":
    main()
