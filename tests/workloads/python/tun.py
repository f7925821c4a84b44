"""A link between two network namespaces that delays and drops packets, for sockets.py.

Two TUN devices, one in each namespace, 10.77.0.1 and 10.77.0.2, and a thread that carries packets between
them. IPv4 and TCP only.
"""

import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
import time

TUNSETIFF = 0x400454CA
TUN, NO_PACKET_INFORMATION = 0x0001, 0x1000


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Link:
    def __init__(self, namespaces):
        self.delay, self.drop, self.dropped, self.repeated = 0.0, 0, 0, 0
        self.ends, self.seen, self.stopping = [], set(), False
        for index, namespace in enumerate(namespaces):
            end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            name = "ws%d-%d" % (os.getpid() % 1000000, index)
            fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), TUN | NO_PACKET_INFORMATION))
            ip("link", "set", name, "netns", namespace)
            ip("-n", namespace, "addr", "add", "10.77.0.%d/24" % (index + 1), "dev", name)
            ip("-n", namespace, "link", "set", name, "up")
            ip("-n", namespace, "link", "set", "lo", "up")
            self.ends.append(end)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.carry()
        except OSError:
            # The namespaces are gone, and the devices with them.
            pass

    def carry(self):
        poll = select.poll()
        for end in self.ends:
            poll.register(end, select.POLLIN)
        due, order = [], 0
        while not self.stopping:
            wait = max(0.0, due[0][0] - time.monotonic()) * 1000 if due else 100
            for end, _ in poll.poll(wait):
                packet = os.read(end, 65536)
                if packet[0] >> 4 != 4 or packet[9] != 6 or (end == self.ends[0] and self.drops(packet)):
                    continue
                order += 1
                other = self.ends[1 - self.ends.index(end)]
                heapq.heappush(due, (time.monotonic() + self.delay, order, other, packet))
            while due and due[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(due)
                os.write(end, packet)

    def drops(self, packet):
        """Of the first namespace's segments with data drops the next `drop`, and counts what comes again."""
        head = (packet[0] & 15) * 4
        tcp = packet[head:]
        length = len(packet) - head - (tcp[12] >> 4) * 4
        if length == 0:
            return False
        key = (tcp[:8], length)
        self.repeated += key in self.seen
        self.seen.add(key)
        if self.drop > 0:
            self.drop -= 1
            self.dropped += 1
            return True
        return False

    def close(self):
        self.stopping = True
        self.thread.join()
        for end in self.ends:
            os.close(end)
