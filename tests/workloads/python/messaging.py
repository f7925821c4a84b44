"""Publishes to RabbitMQ and consumes from it with pika or aio-pika, as messaging.js does with amqplib: the same
scenarios, the same lines."""

import asyncio
import json
import os
import sys

SECRET = b"s3cr3t"
CLIENT = sys.argv[1]
URL = os.environ["RABBITMQ_URL"]
runs = 0


def say(**line):
    print(json.dumps(line), flush=True)


def target(*parts):
    return ":".join(dict.fromkeys(part for part in parts if part))


def to_send(queue, number, key=None, confirms=False):
    """Exchange, routing key, id and body of a message, which is said to be sent."""
    name = f"{CLIENT}-{queue}-{runs}-{number}"
    exchange, routing_key = ("", queue) if number % 3 == 0 else ("events", key or f"to.{queue}")
    body = SECRET * (1 + number * 8)
    say(operation="send", id=name, destination=target(exchange, routing_key), bytes=len(body),
        error=key and "no-route", settlement="confirmed" if confirms else "", redelivered=False)
    return exchange, routing_key, name, body


def judge(name, redelivered):
    """What becomes of a message: how it is settled, and whether that is an error."""
    number = int(name.rsplit("-", 1)[1])
    if number % 7 == 3 and not redelivered:
        return "nack", None
    return ("reject", "reject") if number % 11 == 5 else ("ack", None)


def told(operation, name, exchange, routing_key, queue, size, settlement, redelivered, error=None):
    say(operation=operation, id=name, destination=target(exchange, routing_key, queue), bytes=size,
        error=error, settlement=settlement, redelivered=redelivered)


class Pika:
    def __init__(self):
        import pika
        self.pika = pika
        self.connection = pika.BlockingConnection(pika.URLParameters(URL))

    def prepare(self, channel, queue):
        channel.exchange_declare("events", "topic")
        channel.queue_declare(queue)
        channel.queue_bind(queue, "events", f"to.{queue}")

    def publish(self, channel, queue, number, **more):
        exchange, key, name, body = to_send(queue, number, **more)
        properties = self.pika.BasicProperties(message_id=name, correlation_id="c-" + name)
        channel.basic_publish(exchange, key, body, properties, mandatory="key" in more)

    def send(self, queue):
        channel = self.connection.channel()
        self.prepare(channel, queue)
        channel.confirm_delivery()
        for number in range(30):
            self.publish(channel, queue, number, confirms=True)
        try:
            self.publish(channel, queue, 31, key="nowhere", confirms=True)
        except self.pika.exceptions.UnroutableError:
            pass
        channel.close()

    def fire(self, queue):
        channel = self.connection.channel()
        self.prepare(channel, queue)
        for number in range(40, 50):
            self.publish(channel, queue, number)
        channel.close()

    def take(self, queue):
        channel = self.connection.channel()
        channel.basic_qos(prefetch_count=20)
        handled = 0
        for method, properties, body in channel.consume(queue):
            settlement, error = judge(properties.message_id, method.redelivered)
            told("process", properties.message_id, method.exchange, method.routing_key, queue, len(body),
                 settlement, method.redelivered, error)
            if settlement == "nack":
                channel.basic_nack(method.delivery_tag)
                continue
            if settlement == "reject":
                channel.basic_reject(method.delivery_tag, requeue=False)
            else:
                channel.basic_ack(method.delivery_tag)
            handled += 1
            if handled == 40:
                break
        channel.cancel()
        channel.close()

    def auto(self, queue):
        channel = self.connection.channel()
        consumed = channel.consume(queue, auto_ack=True)
        for _ in range(40):
            method, properties, body = next(consumed)
            told("process", properties.message_id, method.exchange, method.routing_key, queue, len(body),
                 "auto", method.redelivered)
        channel.cancel()
        channel.close()

    def get(self, queue):
        channel = self.connection.channel()
        while True:
            method, properties, body = channel.basic_get(queue)
            if method is None:
                break
            told("receive", properties.message_id, method.exchange, method.routing_key, queue, len(body), "",
                 method.redelivered)
            channel.basic_ack(method.delivery_tag)
        channel.close()

    def run(self, name, queue):
        getattr(self, name)(queue)


class AioPika:
    def __init__(self):
        import aio_pika
        self.aio_pika = aio_pika
        self.loop = asyncio.new_event_loop()
        self.connection = self.loop.run_until_complete(aio_pika.connect(URL))

    async def publish(self, exchanges, queue, number, **more):
        exchange, key, name, body = to_send(queue, number, **more)
        message = self.aio_pika.Message(body, message_id=name, correlation_id="c-" + name)
        try:
            await exchanges[exchange].publish(message, key, mandatory="key" in more)
        except self.aio_pika.exceptions.DeliveryError:
            pass

    async def open(self, queue, **more):
        channel = await self.connection.channel(**more)
        events = await channel.declare_exchange("events", self.aio_pika.ExchangeType.TOPIC)
        declared = await channel.declare_queue(queue)
        await declared.bind(events, f"to.{queue}")
        return channel, declared, {"": channel.default_exchange, "events": events}

    async def send(self, queue):
        channel, _, exchanges = await self.open(queue, on_return_raises=True)
        sends = [self.publish(exchanges, queue, number, confirms=True) for number in range(30)]
        sends.append(self.publish(exchanges, queue, 31, key="nowhere", confirms=True))
        await asyncio.gather(*sends)
        await channel.close()

    async def fire(self, queue):
        channel, _, exchanges = await self.open(queue, publisher_confirms=False)
        for number in range(40, 50):
            await self.publish(exchanges, queue, number)
        await channel.close()

    def said(self, operation, message, queue, settlement, error=None):
        told(operation, message.message_id, message.exchange, message.routing_key, queue,
             len(message.body), settlement, bool(message.redelivered), error)

    async def take(self, queue):
        channel, declared, _ = await self.open(queue)
        await channel.set_qos(prefetch_count=20)
        handled, over = [], asyncio.Event()

        async def handle(message):
            await asyncio.sleep(0.002)
            settlement, error = judge(message.message_id, message.redelivered)
            self.said("process", message, queue, settlement, error)
            if settlement == "nack":
                return await message.nack(requeue=True)
            if settlement == "reject":
                await message.reject(requeue=False)
            else:
                await message.ack()
            handled.append(message)
            if len(handled) == 40:
                over.set()

        tag = await declared.consume(handle)
        await over.wait()
        await declared.cancel(tag)
        await channel.close()

    async def auto(self, queue):
        channel, declared, _ = await self.open(queue)
        handled, over = [], asyncio.Event()

        def handle(message):
            self.said("process", message, queue, "auto")
            handled.append(message)
            if len(handled) == 40:
                over.set()

        tag = await declared.consume(handle, no_ack=True)
        await over.wait()
        await declared.cancel(tag)
        await channel.close()

    async def get(self, queue):
        channel, declared, _ = await self.open(queue)
        while (message := await declared.get(fail=False)) is not None:
            self.said("receive", message, queue, "")
            await message.ack()
        await channel.close()

    def run(self, name, queue):
        self.loop.run_until_complete(getattr(self, name)(queue))


# Connected when told: what is sent before it is traced is not seen.
client = None
say(ready=True)
for line in sys.stdin:
    client = client or {"pika": Pika, "aio-pika": AioPika}[CLIENT]()
    for word in line.split():
        name, queue = word.split("=")
        runs += 1
        client.run(name, queue)
    say(done=True)
