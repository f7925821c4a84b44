"""Records the captures in this folder: real clients against a real broker, through a relay.

    BROKER=19092 RELAY=19094 python3 record.py [NAME]...

It needs a broker of Apache Kafka 4 (KRaft) that listens on 127.0.0.1:$BROKER and advertises
127.0.0.1:$RELAY, where the relay is (`advertised.listeners`), with num.partitions=2 and
message.max.bytes=3000; node with the package kafkajs (NODE_PATH), and Python with aiokafka (and its
codecs, cramjam) and confluent-kafka. A client makes several connections: each is a file, NAME-N.kafka;
those that only look for the broker, which have less than 1000 bytes, are not kept.
The relay writes every chunk that it passes on, in order:

    > LENGTH\\n<LENGTH bytes>\\n      from the client
    < LENGTH\\n<LENGTH bytes>\\n      from the broker
    > end\\n  or  < end\\n            a FIN

The value of each record says in which topic it is and which it is there (`orders 3`), so that a test
can tell what was read right.
"""

import glob
import os
import select
import socket
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
BROKER = int(os.environ.get("BROKER", "19092"))
RELAY = int(os.environ.get("RELAY", "19094"))
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

KAFKAJS = r"""
const { Kafka, CompressionTypes, logLevel } = require('kafkajs');
(async () => {
  const kafka = new Kafka({ clientId: 'shop', brokers: ['127.0.0.1:RELAY'], logLevel: logLevel.NOTHING, retry: { retries: 20, initialRetryTime: 100 } });
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ waitForLeaders: true, topics: ['js.orders', 'js.mails'].map((topic) => ({ topic, numPartitions: 2, replicationFactor: 1 })) });
  await admin.disconnect();
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  let n = 0;
  const record = (topic, more) => ({ value: `${topic} ${n++}`, ...more });
  await producer.send({ topic: 'js.orders', messages: [record('js.orders', { key: 'a', partition: 0, headers: { traceparent: 'TRACE' } })] });
  await producer.send({ topic: 'js.orders', messages: [1, 2, 3].map(() => record('js.orders', { partition: 1 })) });
  await producer.sendBatch({ compression: CompressionTypes.GZIP, topicMessages: [
    { topic: 'js.orders', messages: [0, 1, 0, 1, 1].map((partition) => record('js.orders', { partition, headers: { traceparent: 'TRACE' } })) },
    { topic: 'js.mails', messages: [record('js.mails', { partition: 0 }), record('js.mails', { partition: 0 })] },
  ] });
  await producer.send({ acks: 0, topic: 'js.mails', messages: [record('js.mails', { partition: 1 })] });
  await producer.send({ topic: 'js.mails', messages: [{ partition: 1, value: Buffer.alloc(4000) }] }).catch(() => {});
  await producer.disconnect();
  const consumer = kafka.consumer({ groupId: 'billing', maxWaitTimeInMs: 300 });
  await consumer.connect();
  await consumer.subscribe({ topics: ['js.orders', 'js.mails'], fromBeginning: true });
  let left = n;
  const done = new Promise((resolve) => consumer.run({ eachMessage: async () => { if (--left === 0) resolve(); } }));
  await done;
  await new Promise((resolve) => setTimeout(resolve, 700));
  await consumer.disconnect();
})();
"""

AIOKAFKA = r"""
import asyncio, aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
async def main():
    server = dict(bootstrap_servers='127.0.0.1:RELAY', client_id='shop')
    admin = AIOKafkaAdminClient(**server)
    await admin.start()
    await admin.create_topics([NewTopic('aio.orders', 2, 1)])
    await admin.close()
    n = 0
    for codec in (None, 'gzip', 'snappy', 'lz4', 'zstd'):
        producer = aiokafka.AIOKafkaProducer(compression_type=codec, **server)
        await producer.start()
        for partition in (0, 1):
            await producer.send_and_wait('aio.orders', b'aio.orders %d' % n, key=b'k', partition=partition, headers=[('traceparent', b'TRACE')])
            n += 1
        batch = producer.create_batch()
        for _ in range(3):
            batch.append(key=None, value=b'aio.orders %d' % n, timestamp=None)
            n += 1
        await (await producer.send_batch(batch, 'aio.orders', partition=0))
        await producer.stop()
    consumer = aiokafka.AIOKafkaConsumer('aio.orders', group_id='billing', auto_offset_reset='earliest', enable_auto_commit=False, fetch_max_wait_ms=300, **server)
    await consumer.start()
    left = n
    while left:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            left -= len(records)
    await consumer.commit()
    await asyncio.sleep(0.7)
    await consumer.stop()
asyncio.run(main())
"""

CONFLUENT = r"""
import confluent_kafka, time
from confluent_kafka.admin import AdminClient, NewTopic
server = {'bootstrap.servers': '127.0.0.1:RELAY', 'client.id': 'shop', 'broker.address.family': 'v4'}
admin = AdminClient(server)
for f in admin.create_topics([NewTopic('rd.orders', 2, 1)]).values(): f.result()
time.sleep(0.5)
n = 0
for codec in ('none', 'gzip', 'snappy', 'lz4', 'zstd'):
    producer = confluent_kafka.Producer({**server, 'compression.type': codec, 'linger.ms': 20, 'enable.idempotence': codec == 'none'})
    for partition in (0, 1, 1, 0, 1):
        producer.produce('rd.orders', b'rd.orders %d' % n, key=b'k', partition=partition, headers=[('traceparent', b'TRACE')])
        n += 1
    producer.flush()
    del producer
consumer = confluent_kafka.Consumer({**server, 'group.id': 'billing', 'auto.offset.reset': 'earliest', 'fetch.wait.max.ms': 300, 'enable.auto.commit': False})
consumer.subscribe(['rd.orders'])
left = n
while left:
    message = consumer.poll(1)
    left -= message is not None and message.error() is None
consumer.commit(asynchronous=False)
time.sleep(0.7)
consumer.close()
"""

CLIENTS = {
    "kafkajs": ["node", "-e", KAFKAJS],
    "aiokafka": [sys.executable, "-c", AIOKAFKA],
    "confluent": [sys.executable, "-c", CONFLUENT],
}


def pass_on(inner, name):
    outer = socket.create_connection(("127.0.0.1", BROKER))
    ways = {inner: (b">", outer), outer: (b"<", inner)}
    with open(name, "wb") as out:
        while ways:
            for ready in select.select(list(ways), [], [])[0]:
                sign, other = ways[ready]
                try:
                    data = ready.recv(65536)
                except ConnectionResetError:
                    data = b""
                if data:
                    out.write(b"%s %d\n%s\n" % (sign, len(data), data))
                    out.flush()
                    other.sendall(data)
                else:
                    out.write(sign + b" end\n")
                    del ways[ready]
                    try:
                        other.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass


def record(name):
    for old in glob.glob(os.path.join(HERE, name + "-*.kafka")):
        os.unlink(old)
    listener = socket.create_server(("127.0.0.1", RELAY))
    connections = []

    def accept():
        while True:
            try:
                inner, _ = listener.accept()
            except OSError:
                return
            path = os.path.join(HERE, "%s-%d.kafka" % (name, len(connections) + 1))
            thread = threading.Thread(target=pass_on, args=(inner, path))
            connections.append(thread)
            thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    command = [word.replace("RELAY", str(RELAY)).replace("TRACE", TRACE) for word in CLIENTS[name]]
    subprocess.run(command, check=True, timeout=60)
    for thread in connections:
        thread.join(timeout=20)
        if thread.is_alive():
            sys.exit(f"{name}: the broker keeps a connection open")
    for path in glob.glob(os.path.join(HERE, name + "-*.kafka")):
        if os.path.getsize(path) < 1000:
            os.unlink(path)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


for name in sys.argv[1:] or CLIENTS:
    record(name)
