"""Handles messages of RabbitMQ with pika or aio-pika, or jobs of Celery (over Redis or AMQP) or RQ, or of its own making, as it is told to
on standard input, a line of scenarios at a time:

  fill=Q:N                  publishes N messages
  last=Q:N:PREFETCH:THREADS handles N messages and settles each when it is done with it (first: before)
  auto=Q:N:1:1              handles N messages that nobody settles
  work=Q:POOL:N             starts a worker of jobs, with a pool of that kind and size: of Celery prefork, late (prefork,
                            with acknowledgements behind the work), solo or threads; of RQ fork or simple
  each=Q:N                  hands over N jobs, each a while after the one before was worked on
  took=Q:N                  waits until N more were worked on, and ends the worker

A handler asks a web server for /work/ID/0, /work/ID/1, ...: as many as the message's number modulo 4. It says
which it did, a line of JSON a message."""

import asyncio
import http.client
import json
import os
import subprocess
import sys
import threading
import time

CLIENT = sys.argv[1]
URL = os.environ.get("RABBITMQ_URL")
REDIS = "redis://:{REDIS_PASSWORD}@127.0.0.1:{REDIS_PORT}/".format_map({"REDIS_PASSWORD": "", "REDIS_PORT": "", **os.environ})
CELERY = ("celery", "celery-amqp")
OVER_AMQP = CLIENT == "celery-amqp"
WEB = ("127.0.0.1", int(os.environ["WEB_PORT"]))


def say(**line):
    # At once: threads say things at the same time.
    os.write(1, json.dumps(line).encode() + b"\n")


def calls(name):
    return int(name.rsplit("-", 1)[1]) % 4


class Pika:
    def __init__(self):
        import pika
        self.pika = pika

    def fill(self, queue, count):
        connection = self.pika.BlockingConnection(self.pika.URLParameters(URL))
        channel = connection.channel()
        channel.queue_declare(queue)
        for number in range(count):
            properties = self.pika.BasicProperties(message_id=f"{queue}-{number}")
            channel.basic_publish("", queue, b"work", properties)
        connection.close()

    def work(self, style, queue, count, prefetch, threads):
        workers = [threading.Thread(target=self.thread, args=(style, queue, count // threads, prefetch))
                   for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def thread(self, style, queue, count, prefetch):
        connection = self.pika.BlockingConnection(self.pika.URLParameters(URL))
        channel = connection.channel()
        channel.basic_qos(prefetch_count=prefetch)
        web = http.client.HTTPConnection(*WEB)
        web.connect()
        handled = 0

        def handle(channel, method, properties, body):
            nonlocal handled
            name = properties.message_id
            if style == "first":
                channel.basic_ack(method.delivery_tag)
            for number in range(calls(name)):
                web.request("GET", f"/work/{name}/{number}")
                web.getresponse().read()
            say(id=name, calls=calls(name))
            if style == "last":
                channel.basic_ack(method.delivery_tag)
            handled += 1
            if handled == count:
                channel.stop_consuming()

        channel.basic_consume(queue, handle, auto_ack=style == "auto")
        channel.start_consuming()
        connection.close()
        web.close()


class AioPika:
    def __init__(self):
        import aio_pika
        self.aio_pika = aio_pika

    def work(self, style, queue, count, prefetch, threads):
        asyncio.run(self.consume(style, queue, count, prefetch))

    async def ask(self, name, number):
        reader, writer = await asyncio.open_connection(*WEB)
        writer.write(f"GET /work/{name}/{number} HTTP/1.1\r\nHost: web\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\nok")
        writer.close()

    async def consume(self, style, queue, count, prefetch):
        connection = await self.aio_pika.connect(URL)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        declared = await channel.declare_queue(queue)
        handled, over = [], asyncio.Event()

        async def handle(message):
            name = message.message_id
            if style == "first":
                await message.ack()
            for number in range(calls(name)):
                await self.ask(name, number)
            say(id=name, calls=calls(name))
            if style == "last":
                await message.ack()
            handled.append(name)
            if len(handled) == count:
                over.set()

        tag = await declared.consume(handle, no_ack=style == "auto")
        await over.wait()
        await declared.cancel(tag)
        await connection.close()


own = threading.local()


def job(name):
    """Works on a job, in whatever process and thread."""
    if not hasattr(own, "web"):
        own.web = http.client.HTTPConnection(*WEB)
    for number in range(calls(name)):
        own.web.request("GET", f"/work/{name}/{number}")
        own.web.getresponse().read()
    say(id=name, calls=calls(name))


def over(**_):
    """A child of a worker ends: what it asks for then is for no job."""
    web = http.client.HTTPConnection(*WEB)
    web.request("GET", "/over")
    web.getresponse().read()


def celery_app(pool):
    import celery
    import celery.signals

    # Who awaits no result subscribes to none.
    # Over AMQP nobody keeps them.
    if OVER_AMQP:
        app = celery.Celery("workers", broker=URL)
    else:
        app = celery.Celery("workers", broker=REDIS + "0", backend=pool and REDIS + "1")
    app.conf.update(worker_redirect_stdouts=False, worker_hijack_root_logger=False, task_acks_late=pool == "late")
    app.task(job, name="job")
    celery.signals.worker_process_shutdown.connect(over, weak=False)
    return app


def worker(queue, pool, size):
    """In a process of its own, for good."""
    if CLIENT in CELERY:
        kind = {"late": "prefork"}.get(pool, pool)
        celery_app(pool).worker_main(["worker", "-P", kind, "-Q", queue, "-c", size, "-l", "ERROR"])
    else:
        import redis
        import rq

        kind = {"fork": rq.Worker, "simple": rq.SimpleWorker}[pool]
        kind([rq.Queue(queue, connection=redis.from_url(REDIS))]).work(logging_level="ERROR")


class Own:
    """Jobs as an application keeps them itself: a hash for each, with the context of whoever hands it over."""

    def fill(self, queue, count):
        import redis

        client = redis.from_url(REDIS)
        for number in range(count):
            context = f"00-{number + 1:032x}-{number + 1:016x}-01"
            client.hset(f"thumb:{queue}-{number}", mapping={"state": "new", "traceparent": context})

    def work(self, style, queue, count, prefetch, threads):
        import redis

        client = redis.from_url(REDIS)
        for number in range(count):
            name = f"{queue}-{number}"
            client.hgetall(f"thumb:{name}")
            job(name)
            client.delete(f"thumb:{name}")


class Jobs:
    """The worker's own lines are passed on once they are asked for."""

    def fill(self, queue, count):
        for name in self.send(queue, 0, count):
            pass

    def each(self, queue, count):
        # Numbers of their own.
        for name in self.send(queue, 1_000_000, count):
            self.pass_on()
            time.sleep(0.05)

    def send(self, queue, first, count):
        if CLIENT in CELERY:
            app = celery_app(None)
        else:
            import redis
            import rq

            jobs = rq.Queue(queue, connection=redis.from_url(REDIS))
        for number in range(first, first + count):
            name = f"{queue}-{number}"
            if CLIENT in CELERY:
                app.send_task("job", args=[name], queue=queue, task_id=name)
            else:
                jobs.enqueue("workers.job", name, job_id=name)
            yield name

    def pass_on(self):
        """What the worker says of its next job."""
        line = ""
        # Celery greets.
        while not line.startswith("{"):
            line = self.worker.stdout.readline()
        os.write(1, line.encode())

    def start(self, queue, pool, size):
        arguments = [sys.executable, *sys.argv, queue, pool, size]
        self.worker = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        # It is there when it waits for work.
        if OVER_AMQP:
            import pika

            with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
                channel = connection.channel()
                while not channel.queue_declare(queue, durable=True).method.consumer_count:
                    time.sleep(0.05)
            return
        import redis

        control = redis.from_url(REDIS)
        while not any(it["cmd"] in ("brpop", "blmove", "lmove", "blpop") for it in control.client_list()):
            time.sleep(0.05)
        control.close()

    def took(self, queue, count):
        for _ in range(count):
            self.pass_on()
        # In order, so that it has said what became of the last one.
        self.worker.terminate()
        self.worker.wait()


def main():
    client = {"pika": Pika, "aio-pika": AioPika, "celery": Jobs, "celery-amqp": Jobs, "rq": Jobs, "own": Own}[CLIENT]()
    say(ready=True)
    for line in sys.stdin:
        for word in line.split():
            style, words = word.split("=")
            queue, *numbers = words.split(":")
            if style == "work":
                client.start(queue, *numbers)
            elif style in ("fill", "each", "took"):
                getattr(client, style)(queue, *map(int, numbers))
            else:
                client.work(style, queue, *map(int, numbers))
        say(done=True)


# RQ imports this file, to find what it is to call.
if __name__ == "__main__":
    worker(*sys.argv[3:]) if len(sys.argv) > 3 else main()
