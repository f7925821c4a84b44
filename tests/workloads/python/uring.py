"""io_uring by its system calls, for sockets.py: enough to receive, send and poll."""

import ctypes
import mmap
import os
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

SETUP, ENTER = 425, 426
SQPOLL, COOP_TASKRUN, TASKRUN_FLAG = 1 << 1, 1 << 8, 1 << 9
POLL_ADD, RECV, SEND = 6, 27, 26
LINK, ASYNC = 1 << 2, 1 << 4
GETEVENTS, SQ_WAKEUP = 1 << 0, 1 << 1
# Bits of the submission ring's flags.
NEED_WAKEUP, TASKRUN = 1 << 0, 1 << 2


class Refused(OSError):
    """The kernel has no io_uring for this process."""


class Ring:
    def __init__(self, flags=0, entries=8):
        params = (ctypes.c_char * 120)()
        struct.pack_into("II", params, 8, flags, 0)
        if flags & SQPOLL:
            struct.pack_into("I", params, 16, 60_000)
        self.fd = LIBC.syscall(SETUP, entries, params)
        if self.fd < 0:
            raise Refused(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.sqpoll = bool(flags & SQPOLL)
        entries, cq_entries = struct.unpack_from("II", params, 0)
        self.sq = struct.unpack_from("7I", params, 40)
        self.cq = struct.unpack_from("7I", params, 80)
        size = max(self.sq[6] + entries * 4, self.cq[5] + cq_entries * 16)
        self.rings = mmap.mmap(self.fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self.sqes = mmap.mmap(self.fd, entries * 64, flags=mmap.MAP_SHARED, offset=0x10000000)
        self.mask, self.cq_mask = entries - 1, cq_entries - 1

    def word(self, offset):
        return struct.unpack_from("I", self.rings, offset)[0]

    def queue(self, opcode, fd, address=0, length=0, flags=0, operation_flags=0, tag=0):
        tail = self.word(self.sq[1])
        index = tail & self.mask
        entry = struct.pack(
            "BBHiQQIIQ24x", opcode, flags, 0, fd, 0, address, length, operation_flags, tag
        )
        self.sqes[index * 64 : index * 64 + 64] = entry
        struct.pack_into("I", self.rings, self.sq[6] + index * 4, index)
        struct.pack_into("I", self.rings, self.sq[1], tail + 1)

    def submit(self, number):
        if self.sqpoll:
            if self.word(self.sq[4]) & NEED_WAKEUP:
                LIBC.syscall(ENTER, self.fd, 0, 0, SQ_WAKEUP, None, 0)
            return
        done = LIBC.syscall(ENTER, self.fd, number, 0, 0, None, 0)
        assert done == number, (done, ctypes.get_errno())

    def completions(self, number):
        """Waits for so many; their results by tag."""
        results = {}
        head = self.word(self.cq[0])
        while len(results) < number:
            if head == self.word(self.cq[1]):
                LIBC.syscall(ENTER, self.fd, 0, 1, GETEVENTS, None, 0)
                continue
            at = self.cq[5] + (head & self.cq_mask) * 16
            tag, result = struct.unpack_from("Qi", self.rings, at)
            results[tag] = result
            head += 1
            struct.pack_into("I", self.rings, self.cq[0], head)
        return results

    def is_complete(self):
        """Whether there is a completion, by a look at memory."""
        return self.word(self.cq[0]) != self.word(self.cq[1])

    def work_waits(self):
        """Whether something is to be completed in this task's next system call."""
        return bool(self.word(self.sq[4]) & TASKRUN)
