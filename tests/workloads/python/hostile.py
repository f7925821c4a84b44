"""Recorded sessions, spoilt: what a peer may send that means harm, or a connection that breaks in the wrong place.

Each session is said again over a connection of this very process to itself, with some of its bytes changed, left out,
doubled, cut, moved to the other direction, or in pieces of other lengths. It is the same for the same seed.
"""

import pathlib
import random
import socket


def sessions(directory):
    """Each file's name and its pieces: who says it ('>' the client), and the bytes."""
    for path in sorted(pathlib.Path(directory).glob("*/*")):
        if path.suffix == ".py":
            continue
        data, pieces, at = path.read_bytes(), [], 0
        while at < len(data):
            end = data.index(b"\n", at)
            sign, length = data[at:end].split(b" ", 1)
            at = end + 1
            if length.isdigit():
                pieces.append((sign, data[at : at + int(length)]))
                at += int(length) + 1
        if pieces:
            yield path.name, pieces


def spoil(pieces, rng):
    spoilt = []
    for sign, data in pieces:
        data = bytearray(data)
        choice = rng.random()
        if choice < 0.15:
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif choice < 0.2:
            at = rng.randrange(len(data))
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"999999999"])
        elif choice < 0.25:
            del data[rng.randrange(len(data)) :]
        elif choice < 0.3:
            data = data * 2
        elif choice < 0.33:
            sign = b"<" if sign == b">" else b">"
        elif choice < 0.36:
            data = bytearray(rng.randbytes(rng.randint(1, 2000)))
        elif choice < 0.4:
            continue
        spoilt.append((sign, bytes(data)))
    return spoilt


def say(pieces, rng):
    """Over a new connection; returns the bytes sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for end in client, server:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent = 0
    with client, server:
        for sign, data in pieces:
            sender, receiver = (client, server) if sign == b">" else (server, client)
            at = 0
            while at < len(data):
                piece = data[at : at + rng.choice([1, 7, 100, 4096, 30000])]
                sender.sendall(piece)
                left = len(piece)
                while left > 0:
                    left -= len(receiver.recv(rng.choice([1, 64, 65536]) if left < 200 else 65536))
                at += len(piece)
            sent += len(data)
    return sent


def run(directory, rounds, seed):
    """Connections made and bytes sent."""
    rng = random.Random(seed)
    connections = total = 0
    for _ in range(rounds):
        for _, pieces in sessions(directory):
            # A long session says little that a part of it doesn't.
            begin = rng.randrange(len(pieces)) if rng.random() < 0.3 else 0
            total += say(spoil(pieces[begin : begin + 60], rng), rng)
            connections += 1
    return [connections, total]
