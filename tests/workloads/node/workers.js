// Handles messages of RabbitMQ with amqplib or of Kafka with kafkajs, or jobs of Bull or BullMQ, as workers.py does
// with pika: the same scenarios, the same lines. Of jobs, PREFETCH are worked on at once.
'use strict';

const http = require('node:http');
const readline = require('node:readline');

const CLIENT = process.argv[2];
const WEB = Number(process.env.WEB_PORT);
const agent = new http.Agent({ keepAlive: true });

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const calls = (id) => Number(id.split('-').pop()) % 4;
const ask = (path) => new Promise((resolve, reject) => {
  http.get({ host: '127.0.0.1', port: WEB, path, agent }, (response) => {
    response.resume();
    response.on('end', resolve);
  }).on('error', reject);
});

async function handle(id) {
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 4));
  for (let number = 0; number < calls(id); number++) await ask(`/work/${id}/${number}`);
  say({ id, calls: calls(id) });
}

const redis = {
  port: Number(process.env.REDIS_PORT),
  password: process.env.REDIS_PASSWORD,
  maxRetriesPerRequest: null,
};

const clients = {
  bullmq: {
    async fill(name, count) {
      const queue = new (require('bullmq').Queue)(name, { connection: redis });
      for (let i = 0; i < count; i++) {
        // As BullMQ's telemetry leaves it there.
        const hex = (length) => (i + 1).toString(16).padStart(length, '0');
        const metadata = JSON.stringify({ traceparent: `00-${hex(32)}-${hex(16)}-01` });
        const telemetry = process.env.TELEMETRY && { metadata };
        await queue.add('work', {}, { jobId: `${name}-${i}`, ...(telemetry && { telemetry }) });
      }
      await queue.close();
    },
    async work(style, name, count, concurrency) {
      let handled = 0;
      await new Promise((resolve) => {
        const worker = new (require('bullmq').Worker)(name, (job) => handle(job.id), { connection: redis, concurrency });
        worker.on('completed', () => ++handled === count && resolve(worker.close()));
      });
    },
  },
  bull: {
    async fill(name, count) {
      const queue = new (require('bull'))(name, { redis });
      for (let i = 0; i < count; i++) await queue.add('work', {}, { jobId: `${name}-${i}` });
      await queue.close();
    },
    async work(style, name, count, concurrency) {
      const queue = new (require('bull'))(name, { redis });
      let handled = 0;
      await new Promise((resolve) => {
        queue.on('completed', () => ++handled === count && resolve());
        queue.process('work', concurrency, (job) => handle(job.id));
      });
      await queue.close();
    },
  },
  amqplib: {
    async work(style, queue, count, prefetch) {
      const connection = await require('amqplib').connect(process.env.RABBITMQ_URL);
      const channel = await connection.createChannel();
      await channel.prefetch(prefetch);
      let handled = 0;
      await new Promise((resolve) => channel.consume(queue, async (message) => {
        if (style === 'first') channel.ack(message);
        await handle(message.properties.messageId);
        if (style === 'last') channel.ack(message);
        if (++handled === count) resolve();
      }, { noAck: style === 'auto' }));
      // What is acknowledged last may otherwise not be sent any more.
      await channel.close();
      await connection.close();
    },
  },
  kafkajs: {
    kafka() {
      const { Kafka, logLevel } = require('kafkajs');
      const broker = `127.0.0.1:${process.env.KAFKA_PORT}`;
      return new Kafka({ clientId: 'shop', brokers: [broker], logLevel: logLevel.NOTHING });
    },
    async fill(topic, count) {
      const admin = this.kafka().admin();
      await admin.connect();
      await admin.createTopics({ topics: [{ topic, numPartitions: 2 }], waitForLeaders: true });
      await admin.disconnect();
      const producer = this.kafka().producer();
      await producer.connect();
      for (let i = 0; i < count; i++) {
        await producer.send({ topic, messages: [{ value: `${topic}-${i}`, partition: i % 2 }] });
      }
      await producer.disconnect();
    },
    async work(style, topic, count) {
      const consumer = this.kafka().consumer({ groupId: 'workers' });
      await consumer.connect();
      await consumer.subscribe({ topic, fromBeginning: true });
      let handled = 0;
      await new Promise((resolve) => consumer.run({
        partitionsConsumedConcurrently: 2,
        async eachMessage({ message }) {
          await handle(String(message.value));
          if (++handled === count) resolve();
        },
      }));
      await consumer.disconnect();
    },
  },
};

(async () => {
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    for (const word of line.split(' ')) {
      const [style, words] = word.split('=');
      const [queue, ...numbers] = words.split(':');
      const client = clients[CLIENT];
      if (style === 'fill') await client.fill(queue, ...numbers.map(Number));
      else await client.work(style, queue, ...numbers.map(Number));
    }
    say({ done: true });
  }
  agent.destroy();
})();
