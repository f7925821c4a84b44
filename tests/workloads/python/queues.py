"""Hands over work by a queue in Redis with one client library, works, and writes down both.

As queues.js beside the Node.js programs: the argument names the library, lines of standard input say what to do. The
workers of Celery and RQ are processes of their own, of this same file; what they write is passed on.
"""

import json
import os
import subprocess
import sys
import threading
import time

import redis

SECRET = "s3cr3t-value"
CLIENT = sys.argv[1]
PORT = int(os.environ["REDIS_PORT"])
PASSWORD = os.environ["REDIS_PASSWORD"]
URL = f"redis://:{PASSWORD}@127.0.0.1:{PORT}/0"
GROUP = "workers-py"
handled = []
# What closes its connections when nobody has it.
clients = []


def say(**line):
    # At once: several processes write.
    os.write(1, (json.dumps(line) + "\n").encode())


def handle(told, fails):
    before = time.time_ns()
    time.sleep(0.005)
    say(did="work", failed=fails, before=before, after=time.time_ns(), **told)
    if fails:
        raise ValueError(SECRET)


def celery_app():
    import celery

    app = celery.Celery("queues", broker=URL, backend=f"redis://:{PASSWORD}@127.0.0.1:{PORT}/1")
    app.conf.update(worker_redirect_stdouts=False, worker_hijack_root_logger=False)

    def told(task):
        request = task.request
        queue = request.delivery_info["routing_key"]
        return {"queue": queue, "id": request.id, "name": task.name, "attempt": request.retries + 1}

    @app.task(bind=True, name="greets")
    def greets(self, value, workflow):
        handle(told(self), False)

    @app.task(bind=True, name="fails", max_retries=1)
    def fails(self, value, workflow):
        try:
            handle(told(self), True)
        except ValueError as error:
            before = time.time_ns()
            try:
                raise self.retry(exc=error, countdown=0.01)
            except celery.exceptions.Retry:
                name, queue = self.name, self.request.delivery_info["routing_key"]
                sent = {"queue": queue, "id": self.request.id, "name": name}
                say(did="send", before=before, after=time.time_ns(), **sent)
                raise

    return app


def greets(value):
    rq_job("queues.greets", False)


def fails(value):
    rq_job("queues.fails", True)


def rq_job(name, fails):
    import rq

    job = rq.get_current_job()
    handle({"queue": job.origin, "id": job.id, "name": name, "attempt": 0}, fails)


def worker(queue):
    """In a process of its own, for good."""
    if CLIENT == "celery":
        celery_app().worker_main(["worker", "-Q", queue, "-c", "2", "-l", "ERROR"])
    else:
        import rq

        rq.Worker([rq.Queue(queue, connection=redis.from_url(URL))]).work(logging_level="ERROR")


def send_jobs(queue, count):
    if CLIENT == "celery":
        app = celery_app()
    else:
        import rq

        jobs = rq.Queue(queue, connection=redis.from_url(URL))
    for number in range(count):
        name = "fails" if number == count - 2 else "greets"
        before = time.time_ns()
        if CLIENT == "celery":
            workflow = {"id": f"w-{number}"}
            task = app.send_task(name, args=[SECRET], kwargs={"workflow": workflow}, queue=queue)
            told = {"id": task.id, "name": name}
        else:
            told = {"id": jobs.enqueue(f"queues.{name}", SECRET).id, "name": f"queues.{name}"}
        say(did="send", queue=queue, before=before, after=time.time_ns(), **told)


def work_on_jobs(queue, kept):
    arguments = [sys.executable, *sys.argv, queue]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    kept.append(process)

    def pass_on():
        for line in process.stdout:
            # Celery greets.
            if line.startswith("{"):
                handled.append(line)

    threading.Thread(target=pass_on, daemon=True).start()
    # It is there when it waits for work.
    control = redis.from_url(URL)
    while not any(it["cmd"] in ("brpop", "blmove", "blpop", "lmove") for it in control.client_list()):
        time.sleep(0.05)


def send_plain(kind, queue, count):
    client = redis.from_url(URL)
    for number in range(count):
        value = f"{SECRET} {number} of {CLIENT} {time.time_ns()}"
        before, key = time.time_ns(), ""
        if kind == "list":
            client.lpush(queue, value)
        elif kind == "channel":
            client.publish(queue, value)
        elif kind == "set":
            client.zadd(queue, {value: time.time_ns()})
        else:
            key = client.xadd(queue, {"value": value}).decode()
        say(did="send", queue=queue, id=key, name="", before=before, after=time.time_ns())


def work_plain(kind, queue):
    client = redis.from_url(URL)
    clients.append(client)
    told = {"queue": queue, "id": "", "name": "", "attempt": 0}

    def one():
        if kind == "list":
            if client.brpop(queue, 1):
                note(told)
        elif kind == "set":
            if client.bzpopmin(queue, 1):
                note(told)
        else:
            for _, entries in client.xreadgroup(GROUP, "one", {queue: ">"}, 1, 1000):
                for key, _ in entries:
                    note({**told, "id": key.decode()})
                    client.xack(queue, GROUP, key)

    if kind == "channel":
        subscriber = client.pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe(queue)
        subscriber.get_message(timeout=5)

        def one():
            if subscriber.get_message(timeout=1):
                note(told)

    if kind == "stream":
        client.xgroup_create(queue, GROUP, 0, mkstream=True)

    def loop():
        while True:
            one()

    threading.Thread(target=loop, daemon=True).start()


def note(told):
    """As `handle`, kept until it is asked for."""
    before = time.time_ns()
    time.sleep(0.005)
    line = {"did": "work", "failed": False, "before": before, "after": time.time_ns(), **told}
    handled.append(json.dumps(line) + "\n")


def main():
    kept = []
    say(ready=True)
    for line in sys.stdin:
        word, kind, *rest = line.split()
        if word == "send":
            (send_jobs if kind == "job" else lambda *them: send_plain(kind, *them))(rest[0], int(rest[1]))
        elif word == "work":
            if kind == "job":
                work_on_jobs(rest[0], kept)
            else:
                work_plain(kind, rest[0])
        else:
            while len(handled) < int(kind):
                time.sleep(0.005)
            for line in handled[: len(handled)]:
                os.write(1, line.encode())
            handled.clear()
        say(done=True)
    for process in kept:
        process.kill()


# RQ imports this file, to find what it is to call.
if __name__ == "__main__":
    worker(sys.argv[3]) if len(sys.argv) > 3 else main()
