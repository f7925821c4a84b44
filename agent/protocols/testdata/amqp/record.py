"""Records what real AMQP clients and a real RabbitMQ say to each other, one .amqp file per connection.

Run `python3 record.py` here, with RabbitMQ's programs where Debian installs them, node on the path, the
packages pika and aio-pika for this python3, and amqplib where NODE_PATH says. A relay between the two sides
writes every chunk that it passes on, in order:

    > LENGTH\\n<LENGTH bytes>\\n      from the client
    < LENGTH\\n<LENGTH bytes>\\n      from the server
    > end\\n  or  < end\\n            a FIN

What a program publishes has a message id, and a body that ends with it. No body but those holds `secret`, and
no header but those that say so.
"""

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = "/usr/lib/rabbitmq/bin"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

AMQPLIB = r"""
const amqp = require('amqplib');
const body = (id, size) => Buffer.from('secret'.repeat(size) + id);
(async () => {
  const connection = await amqp.connect('amqp://guest:guest@127.0.0.1:PORT/shop?heartbeat=1');
  const channel = await connection.createConfirmChannel();
  const plain = await connection.createChannel();
  await channel.assertExchange('orders', 'topic');
  const { queue } = await channel.assertQueue('work', { arguments: { 'x-max-length': 1000 } });
  await channel.bindQueue(queue, 'orders', 'order.*');
  const generated = (await plain.assertQueue('', { exclusive: true })).queue;
  // Confirmed, at once, on two channels; one is larger than a frame.
  for (let i = 0; i < 6; i++) {
    const headers = i === 0 ? { traceparent: 'TRACEPARENT', tracestate: 'a=1' } : { deep: { list: [1, 'secret', { x: null }] }, n: i };
    channel.publish('orders', 'order.new', body(`m-${i}`, i === 3 ? 700 : i), { messageId: `m-${i}`, headers, persistent: true });
    plain.sendToQueue(generated, body(`p-${i}`, i), { messageId: `p-${i}`, correlationId: `c-${i}`, replyTo: generated });
  }
  await channel.waitForConfirms();
  // Comes back, and is confirmed all the same.
  channel.on('return', () => {});
  channel.publish('orders', 'nowhere', body('r-0', 1), { messageId: 'r-0', mandatory: true });
  channel.publish('orders', 'order.last', Buffer.alloc(0), { messageId: 'm-6', type: 'empty', appId: 'app', mandatory: true });
  await channel.waitForConfirms();
  await plain.prefetch(3);
  let left = 7;
  const consumer = connection.createChannel();
  const other = await consumer;
  await other.prefetch(20);
  await new Promise((resolve) => other.consume('work', (message) => {
    const id = message.properties.messageId;
    if (id === 'm-1' && !message.fields.redelivered) return other.nack(message, false, true);
    if (id === 'm-2') other.reject(message, false);
    else if (id === 'm-5') other.ack(message, true);
    else if (id !== 'm-4') other.ack(message);
    if (--left === 0) resolve();
  }, { consumerTag: 'mine' }));
  await new Promise((resolve) => {
    let count = 0;
    plain.consume(generated, () => { if (++count === 6) resolve(); }, { noAck: true });
  });
  await other.cancel('mine');
  for (let i = 0; i < 2; i++) await channel.sendToQueue('work', body(`g-${i}`, 1), { messageId: `g-${i}` });
  await channel.waitForConfirms();
  const got = await channel.get('work');
  channel.ack(got);
  await channel.get('work', { noAck: true });
  await channel.get('work');
  // The server's own cancelling, and a channel's exception.
  await new Promise((resolve) => plain.consume('work', (message) => { if (message === null) resolve(); }).then(() => channel.deleteQueue('work')));
  const broken = await connection.createChannel();
  broken.on('error', () => {});
  await broken.checkQueue('missing').catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 1300));
  await connection.close();
})();
"""

PIKA = r"""
import pika
parameters = pika.URLParameters('amqp://guest:guest@127.0.0.1:PORT/shop')
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.queue_declare('tasks')
body = lambda name, size: b'secret' * size + name.encode()
for i in range(3):
    channel.basic_publish('', 'tasks', body(f'u-{i}', i), pika.BasicProperties(message_id=f'u-{i}'))
channel.tx_select()
channel.basic_publish('', 'tasks', body('t-0', 0), pika.BasicProperties(message_id='t-0'))
channel.tx_commit()
channel.basic_publish('', 'tasks', body('t-1', 0), pika.BasicProperties(message_id='t-1'))
channel.tx_rollback()
confirmed = connection.channel()
confirmed.confirm_delivery()
for i in range(3):
    headers = {'traceparent': 'TRACEPARENT', 'task': 'shop.pay', 'id': f'job-{i}', 'retries': i, 'paid': True, 'when': None}
    confirmed.basic_publish('', 'tasks', body(f'c-{i}', 20), pika.BasicProperties(message_id=f'c-{i}', headers=headers, timestamp=1700000000))
try:
    confirmed.basic_publish('', 'nowhere', body('r-0', 1), pika.BasicProperties(message_id='r-0'), mandatory=True)
except pika.exceptions.UnroutableError:
    pass
got = []
consumer = connection.channel()
consumer.basic_qos(prefetch_count=2)
for method, properties, payload in consumer.consume('tasks', inactivity_timeout=1):
    if method is None:
        break
    got.append(properties.message_id)
    assert payload.endswith(properties.message_id.encode())
    if properties.message_id == 'u-1' and not method.redelivered:
        consumer.basic_nack(method.delivery_tag)
    else:
        consumer.basic_ack(method.delivery_tag)
    if len(got) == 8:
        break
consumer.cancel()
try:
    consumer.queue_declare('tasks', durable=True)
except pika.exceptions.ChannelClosedByBroker:
    pass
try:
    connection.channel().exchange_declare('odd', 'no-such-type')
except pika.exceptions.ConnectionClosedByBroker:
    pass
"""

AIO_PIKA = r"""
import asyncio, aio_pika
async def main():
    connection = await aio_pika.connect('amqp://guest:guest@127.0.0.1:PORT/shop')
    channel = await connection.channel()
    exchange = await channel.declare_exchange('events', aio_pika.ExchangeType.FANOUT)
    queue = await channel.declare_queue('', exclusive=True)
    await queue.bind(exchange)
    message = lambda name, size: aio_pika.Message(b'secret' * size + name.encode(), message_id=name, correlation_id='c-' + name)
    await asyncio.gather(*(exchange.publish(message(f'a-{i}', i * 10), 'any') for i in range(8)))
    await channel.set_qos(prefetch_count=4)
    count = 0
    async with queue.iterator() as messages:
        async for found in messages:
            async with found.process():
                await asyncio.sleep(0.005)
            count += 1
            if count == 8:
                break
    second = await connection.channel(publisher_confirms=False)
    await second.default_exchange.publish(message('b-0', 1), queue.name)
    while await queue.get(fail=False, no_ack=True) is None:
        await asyncio.sleep(0.01)
    assert await queue.get(fail=False) is None
    await connection.close()
asyncio.run(main())
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def record(name, client):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def relay():
        inner, _ = listener.accept()
        outer = socket.create_connection(("127.0.0.1", SERVER))
        ways = {inner: (b">", outer), outer: (b"<", inner)}
        with open(os.path.join(HERE, name + ".amqp"), "wb") as out:
            while ways:
                for ready in select.select(list(ways), [], [])[0]:
                    sign, other = ways[ready]
                    try:
                        data = ready.recv(65536)
                    except ConnectionResetError:
                        data = b""
                    if data:
                        out.write(b"%s %d\n%s\n" % (sign, len(data), data))
                        other.sendall(data)
                    else:
                        out.write(sign + b" end\n")
                        del ways[ready]
                        try:
                            other.shutdown(socket.SHUT_WR)
                        except OSError:
                            pass  # The other side was first.

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    words = [word.replace("PORT", str(port)).replace("TRACE" + "PARENT", TRACEPARENT) for word in client]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=60)
    thread.join(timeout=10)
    if thread.is_alive():
        sys.exit(f"{name}: the connection stays open")


SERVER, EPMD = free_port(), free_port()
home = tempfile.mkdtemp(prefix="rabbitmq-")
environment = dict(
    os.environ,
    HOME=home,
    ERL_EPMD_PORT=str(EPMD),
    RABBITMQ_NODENAME="record@localhost",
    RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
    RABBITMQ_NODE_PORT=str(SERVER),
    RABBITMQ_DIST_PORT=str(free_port()),
    RABBITMQ_MNESIA_BASE=home + "/mnesia",
    RABBITMQ_LOG_BASE=home,
    RABBITMQ_ENABLED_PLUGINS_FILE=home + "/plugins",
    RABBITMQ_CONFIG_FILE=home + "/none",
    RABBITMQ_CONF_ENV_FILE="/dev/null",
)
epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(EPMD)])
server = subprocess.Popen([PROGRAMS + "/rabbitmq-server"], env=environment, stdout=subprocess.DEVNULL)
try:
    control = [PROGRAMS + "/rabbitmqctl", "-n", "record@localhost"]
    deadline = time.monotonic() + 60
    while subprocess.run(control + ["await_startup"], env=environment, capture_output=True).returncode:
        if time.monotonic() > deadline:
            sys.exit("RabbitMQ does not start")
        time.sleep(0.5)
    for words in (["add_vhost", "shop"], ["set_permissions", "-p", "shop", "guest", ".*", ".*", ".*"]):
        subprocess.run(control + words, env=environment, check=True, stdout=subprocess.DEVNULL)
    python = lambda source: [sys.executable, "-c", source]
    record("amqplib", ["node", "-e", AMQPLIB])
    record("pika", python(PIKA))
    record("aio-pika", python(AIO_PIKA))
finally:
    server.terminate()
    server.wait()
    epmd.terminate()
    epmd.wait()
    shutil.rmtree(home)
