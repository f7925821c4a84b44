"""A program that serves nothing, and does what its arguments say, one after the other.

    URL REDIS_PORT WORD...

    get:N       asks URL/N
    set:N       sets a key in Redis
    wait        reads a line
    fork:N      a child asks URL/N, and is waited for
    run:WORD    this script as another process, with that word, is waited for
    again:WORD  becomes this script anew, with that word
    threads:N   as many threads ask, URL/100 and on
    burn:N      computes for N milliseconds of CPU time
    listen      listens
    pop         waits for a job that does not come
    exit:N      exits with that code
    kill:N      ends itself by that signal
"""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

URL, REDIS_PORT = sys.argv[1:3]


def redis():
    # Loaded by those who use it: the others are as short as Python can be.
    import redis

    return redis.Redis(port=int(REDIS_PORT), password=os.environ["PASSWORD"])


def get(number):
    parts = urlsplit(URL)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request("GET", f"{parts.path}/{number}?rid={number}")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{URL}: {answer.status}")


def fork(number):
    child = os.fork()
    if child == 0:
        get(number)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise SystemExit(f"child: {status}")


def threads(count):
    asking = [threading.Thread(target=get, args=(100 + n,)) for n in range(int(count))]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()


def burn(milliseconds):
    until = time.process_time() + int(milliseconds) / 1000
    while time.process_time() < until:
        pass


def script(word):
    return [sys.executable, __file__, URL, REDIS_PORT, word]


def main():
    kept = []
    for word in sys.argv[3:]:
        action, _, value = word.partition(":")
        if action == "get":
            get(value)
        elif action == "set":
            redis().set(f"key:{value}", value)
        elif action == "wait":
            print("waits", flush=True)
            sys.stdin.readline()
        elif action == "fork":
            fork(value)
        elif action == "run":
            subprocess.run(script(value), check=True)
        elif action == "again":
            os.execv(sys.executable, script(value))
        elif action == "threads":
            threads(value)
        elif action == "burn":
            burn(value)
        elif action == "listen":
            kept.append(socket.create_server(("127.0.0.1", 0)))
        elif action == "pop":
            redis().brpop("nothing", timeout=1)
        elif action == "exit":
            sys.exit(int(value))
        elif action == "kill":
            os.kill(os.getpid(), int(value))
        else:
            raise SystemExit(f"{word}?")


main()
