"""What this service was asked and what it asked others: the ground truth that the tests compare spans with.

A service of several processes sets COUNTS_FILE: each adds a line to it in one write, so that any of them
can report for all. Without it the counts are this process's own.
"""

import json
import os
import threading

_path = os.environ.get("COUNTS_FILE")
_lock = threading.Lock()
_lines = []


def _add(kind, route, size):
    line = f"{kind}\t{route}\t{size}\n"
    if _path:
        descriptor = os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    else:
        with _lock:
            _lines.append(line)


def answered(route, size):
    """One answered request; `size` is the number of bytes of the response's body."""
    _add("requests", route, size)


def asked(route, size):
    """One answer read from an upstream; `size` likewise."""
    _add("upstream", route, size)


def report():
    """The counts as JSON, in the shape that every workload answers /__counts with."""
    if _path and os.path.exists(_path):
        with open(_path, encoding="utf-8") as file:
            lines = file.readlines()
    else:
        with _lock:
            lines = list(_lines)
    tables = {"requests": {}, "upstream": {}}
    for line in lines:
        kind, route, size = line.rstrip("\n").split("\t")
        entry = tables[kind].setdefault(route, {"requests": 0, "bytes": 0})
        entry["requests"] += 1
        entry["bytes"] += int(size)
    return json.dumps(tables)
