"""Sends and receives messages through a broker with one client library, and writes down each.

The argument names the library. Each line of standard input is one thing to do, and prints JSON lines:

    send TOPIC      one message after the other, several at once, and one that is refused: {"sent": COUNT,
                    "unanswered": COUNT, "refused": COUNT}
    receive COUNT TOPIC...     as a member of the group GROUP: {"topic", "partition", "offset"} of each, and
                    goes on polling

and {"done": true} at the end. Every value has the marker in it that must never be exported.
"""

import asyncio
import json
import os
import sys

import aiokafka

SECRET = "s3cr3t-value"
CLIENT = sys.argv[1]
SERVER = {"bootstrap_servers": f"127.0.0.1:{os.environ['KAFKA_PORT']}", "client_id": "shop-py"}
GROUP = "billing-py"
ALONE = 60
TOGETHER = 20


def say(**line):
    print(json.dumps(line), flush=True)


async def send(topic):
    value = SECRET.encode()
    producer = aiokafka.AIOKafkaProducer(**SERVER)
    await producer.start()
    for number in range(ALONE):
        await producer.send_and_wait(topic, value, key=b"s3cr3t-key", partition=number % 3)
    await asyncio.gather(*[producer.send_and_wait(topic, value) for _ in range(TOGETHER)])
    try:
        await producer.send_and_wait(topic, bytes(200_000), partition=0)
        raise AssertionError("it is too large")
    except aiokafka.errors.MessageSizeTooLargeError:
        pass
    await producer.stop()
    packed = aiokafka.AIOKafkaProducer(compression_type="gzip", linger_ms=50, **SERVER)
    await packed.start()
    await asyncio.gather(*[packed.send_and_wait(topic, value) for _ in range(TOGETHER)])
    await packed.stop()
    hasty = aiokafka.AIOKafkaProducer(acks=0, **SERVER)
    await hasty.start()
    await hasty.send_and_wait(topic, value, partition=0)
    await hasty.stop()
    say(sent=ALONE + 2 * TOGETHER, unanswered=1, refused=1)


async def receive(count, topics, kept):
    consumer = aiokafka.AIOKafkaConsumer(
        *topics,
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
        **SERVER,
    )
    await consumer.start()
    while count > 0:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            for record in records:
                count -= 1
                say(topic=record.topic, partition=record.partition, offset=record.offset)
    await consumer.commit()
    kept.append(asyncio.create_task(consumer.getone()))


async def main():
    kept = []
    say(ready=True)
    while True:
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            return
        word, *rest = line.split()
        if word == "send":
            await send(*rest)
        else:
            await receive(int(rest[0]), rest[1:], kept)
        say(done=True)


asyncio.run(main())
