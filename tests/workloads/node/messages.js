// Sends and receives messages through a broker with one client library, and writes down each.
//
// The argument names the library. Each line of standard input is one thing to do, and prints JSON lines:
//
//   send TOPIC      one message after the other, several at once, and one that is refused: {"sent": COUNT,
//                   "unanswered": COUNT, "refused": COUNT}
//   receive COUNT TOPIC...     as a member of the group billing-js: {"topic", "partition", "offset"} of each,
//                   and goes on polling
//
// and {"done": true} at the end. Every value has the marker in it that must never be exported.
'use strict';

const readline = require('node:readline');
const { Kafka, CompressionTypes, logLevel } = require('kafkajs');

const SECRET = 's3cr3t-value';
const ALONE = 60;
const TOGETHER = 20;

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const kafka = new Kafka({
  clientId: 'shop-js',
  brokers: [`127.0.0.1:${process.env.KAFKA_PORT}`],
  logLevel: logLevel.NOTHING,
});
const message = (partition) => ({ key: 's3cr3t-key', value: SECRET, partition });

async function send(topic) {
  const producer = kafka.producer();
  await producer.connect();
  for (let i = 0; i < ALONE; i++) await producer.send({ topic, messages: [message(i % 3)] });
  const several = Array.from({ length: TOGETHER }, (_, i) => message(i % 3));
  await producer.send({ topic, messages: several });
  await producer.send({ topic, messages: several, compression: CompressionTypes.GZIP });
  const large = { partition: 0, value: Buffer.alloc(200_000) };
  const refused = await producer.send({ topic, messages: [large] }).then(() => 0, () => 1);
  await producer.send({ topic, acks: 0, messages: [message(0)] });
  await producer.disconnect();
  say({ sent: ALONE + 2 * TOGETHER, unanswered: 1, refused });
}

async function receive(count, topics) {
  const consumer = kafka.consumer({ groupId: 'billing-js', maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning: true });
  let left = Number(count);
  await new Promise((resolve) =>
    consumer.run({
      eachMessage: async ({ topic, partition, message: { offset } }) => {
        say({ topic, partition, offset: Number(offset) });
        if (--left === 0) resolve();
      },
    }),
  );
}

async function main() {
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, ...rest] = line.split(' ');
    await (word === 'send' ? send(...rest) : receive(rest[0], rest.slice(1)));
    say({ done: true });
  }
  process.exit(0);
}

main();
