"""Handles messages of RabbitMQ with pika or aio-pika, as it is told to on standard input, a line of scenarios at a time:

  fill=Q:N                  publishes N messages
  last=Q:N:PREFETCH:THREADS handles N messages and settles each when it is done with it (first: before)
  auto=Q:N:1:1              handles N messages that nobody settles

A handler asks a web server for /work/ID/0, /work/ID/1, ...: as many as the message's number modulo 4. It says
which it did, a line of JSON a message."""

import asyncio
import http.client
import json
import os
import sys
import threading

CLIENT = sys.argv[1]
URL = os.environ["RABBITMQ_URL"]
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


client = {"pika": Pika, "aio-pika": AioPika}[CLIENT]()
say(ready=True)
for line in sys.stdin:
    for word in line.split():
        style, words = word.split("=")
        queue, *numbers = words.split(":")
        numbers = [int(number) for number in numbers]
        if style == "fill":
            client.fill(queue, *numbers)
        else:
            client.work(style, queue, *numbers)
    say(done=True)
