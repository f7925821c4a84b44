"""A server that becomes another program, and a parent of children that live for one request.

    serve [WORD]        answers on PORT, after it has printed that it listens;
                        /exec/again replaces it by itself, /exec/sleep by another program, /exec/node by
                        Node.js with the script NEXT
    fork URL FIRST N    once it has read a line: forks N children, one after the other, each of which asks
                        URL/NUMBER and exits
    ask URL NUMBER      asks once and exits
"""

import http.client
import os
import socket
import sys
from urllib.parse import urlsplit


def ask(url, number):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.request("GET", f"{parts.path}/{number}?rid={number}")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{url}: {answer.status}")


def fork(url, first, count):
    sys.stdin.readline()
    for number in range(first, first + count):
        child = os.fork()
        if child == 0:
            ask(url, number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            raise SystemExit(f"child for {number}: {status}")


def serve():
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=100)
    print("listening", *sys.argv[2:], flush=True)
    while True:
        connection, _ = listener.accept()
        request = connection.makefile("rb")
        line = request.readline()
        if not line:
            # Somebody only looked whether it listens.
            connection.close()
            continue
        path = line.split()[1].decode()
        while request.readline().strip():
            pass
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        request.close()
        connection.close()
        if path.startswith("/exec/again"):
            os.execv(sys.executable, [sys.executable, __file__, "serve", "again"])
        if path.startswith("/exec/sleep"):
            os.execvp("sleep", ["sleep", "1000"])
        if path.startswith("/exec/node"):
            os.execvp("node", ["node", os.environ["NEXT"]])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    elif sys.argv[1] == "fork":
        fork(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        ask(sys.argv[2], int(sys.argv[3]))
