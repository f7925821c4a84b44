// Publishes to RabbitMQ and consumes from it with amqplib, as it is told to on standard input, a line of
// scenarios at a time, and says what it did, a line of JSON an operation:
//
//   send=Q   30 messages with confirms, at once, and one that no queue takes
//   fire=Q   10 messages without confirms
//   take=Q   consumes 40, 20 of them at once; some are refused, some come again
//   auto=Q   consumes 40 that need no acknowledgement
//   get=Q    takes one message after the other until there is none
//
// Bodies hold a secret; ids tell messages apart.
'use strict';

const amqp = require('amqplib');
const readline = require('node:readline');

const SECRET = 's3cr3t';
const CLIENT = process.argv[2];

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const target = (parts) => [...new Set(parts.filter((part) => part))].join(':');
let runs = 0;

async function prepare(channel, queue) {
  await channel.assertExchange('events', 'topic', { durable: false });
  await channel.assertQueue(queue, { durable: false });
  await channel.bindQueue(queue, 'events', `to.${queue}`);
}

function publish(channel, queue, number, more) {
  const id = `${CLIENT}-${queue}-${runs}-${number}`;
  const body = Buffer.from(SECRET.repeat(1 + number * 8));
  const [exchange, key] = number % 3 === 0 ? ['', queue] : ['events', more.key ?? `to.${queue}`];
  const options = { messageId: id, correlationId: `c-${id}`, mandatory: more.key !== undefined };
  say({
    operation: 'send', id, destination: target([exchange, key]), bytes: body.length,
    error: more.key === undefined ? null : 'no-route', settlement: more.confirms ? 'confirmed' : '', redelivered: false,
  });
  return new Promise((resolve) => {
    if (more.confirms) channel.publish(exchange, key, body, options, resolve);
    else resolve(channel.publish(exchange, key, body, options));
  });
}

function told(message, queue, operation, settlement, error) {
  const { exchange, routingKey, redelivered } = message.fields;
  say({
    operation, id: message.properties.messageId, destination: target([exchange, routingKey, queue]),
    bytes: message.content.length, error: error ?? null, settlement, redelivered,
  });
}

const scenarios = {
  async send(connection, queue) {
    const channel = await connection.createConfirmChannel();
    channel.on('return', () => {});
    await prepare(channel, queue);
    const sent = Array.from({ length: 30 }, (_, i) => publish(channel, queue, i, { confirms: true }));
    sent.push(publish(channel, queue, 31, { confirms: true, key: 'nowhere' }));
    await Promise.all(sent);
    await channel.close();
  },
  async fire(connection, queue) {
    const channel = await connection.createChannel();
    await prepare(channel, queue);
    for (let i = 0; i < 10; i++) await publish(channel, queue, 40 + i, {});
    await channel.close();
  },
  async take(connection, queue) {
    const channel = await connection.createChannel();
    await channel.prefetch(20);
    let handled = 0;
    await new Promise((resolve) => channel.consume(queue, async (message) => {
      await new Promise((done) => setTimeout(done, 2));
      const number = Number(message.properties.messageId.split('-').pop());
      if (number % 7 === 3 && !message.fields.redelivered) {
        told(message, queue, 'process', 'nack');
        return channel.nack(message, false, true);
      }
      if (number % 11 === 5) {
        told(message, queue, 'process', 'reject', 'reject');
        channel.reject(message, false);
      } else {
        told(message, queue, 'process', 'ack');
        channel.ack(message);
      }
      if (++handled === 40) resolve();
    }));
    await channel.close();
  },
  async auto(connection, queue) {
    const channel = await connection.createChannel();
    let handled = 0;
    await new Promise((resolve) => channel.consume(queue, (message) => {
      told(message, queue, 'process', 'auto');
      if (++handled === 40) resolve();
    }, { noAck: true }));
    await channel.close();
  },
  async get(connection, queue) {
    const channel = await connection.createChannel();
    for (let message; (message = await channel.get(queue)) !== false;) {
      told(message, queue, 'receive', '');
      channel.ack(message);
    }
    await channel.close();
  },
};

(async () => {
  // Connected when told: what is sent before it is traced is not seen.
  let connection;
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    for (const word of line.split(' ')) {
      const [name, queue] = word.split('=');
      runs += 1;
      connection ??= await amqp.connect(process.env.RABBITMQ_URL);
      await scenarios[name](connection, queue);
    }
    say({ done: true });
  }
  await connection?.close();
})();
