// Hands over work by a queue in Redis with one client library, works, and writes down both.
//
// The argument names the library. Each line of standard input is one thing to do, and prints JSON lines:
//
//     send KIND QUEUE COUNT     {"did": "send", "queue", "id", "name", "before", "after"} of each; the last but one fails
//     work KIND QUEUE           works from now on
//     await COUNT               {"did": "work", "queue", "id", "name", "attempt", "failed", "before", "after"} of each
//                               job that was worked on, once there are so many
//
// and {"done": true} at the end. KIND is "job", or of ioredis "list", "stream", "channel" or "set". Times are wall time
// in nanoseconds, by the millisecond. Every value has the marker in it that must never be exported.
'use strict';

const readline = require('node:readline');
const Redis = require('ioredis');

const SECRET = 's3cr3t-value';
const CLIENT = process.argv[2];
const GROUP = 'workers-js';
const connection = {
  port: Number(process.env.REDIS_PORT),
  password: process.env.REDIS_PASSWORD,
  maxRetriesPerRequest: null,
};

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const before = () => Date.now() * 1e6;
const after = () => (Date.now() + 1) * 1e6;
const handled = [];
const queues = new Map();
const workers = [];

/** Works on one, which takes a while, and fails if it is to. */
async function handle(told, fails) {
  const started = before();
  await new Promise((resolve) => setTimeout(resolve, 5));
  handled.push({ did: 'work', failed: fails, before: started, after: after(), ...told });
  if (fails) throw new Error(SECRET);
}

function queueOf(name) {
  if (!queues.has(name)) {
    const Queue = CLIENT === 'bull' ? require('bull') : require('bullmq').Queue;
    queues.set(name, new Queue(name, CLIENT === 'bull' ? { redis: connection } : { connection }));
  }
  return queues.get(name);
}

async function sendJobs(name, count) {
  const queue = queueOf(name);
  const retried = { attempts: 2, backoff: 10 };
  const jobs = Array.from({ length: count }, (_, i) => ({
    name: i === count - 2 ? 'fails' : 'greets',
    data: { value: SECRET, workflow: { id: `w-${i}` } },
    opts: i === count - 2 ? retried : i === 1 ? { priority: 2 } : i === 2 ? { delay: 20 } : {},
  }));
  const sent = async (began, job) =>
    say({ did: 'send', queue: name, id: String(job.id), name: job.name, before: began, after: after() });
  // All but two one by one, and those together.
  for (const { name, data, opts } of jobs.slice(0, -2)) {
    const began = before();
    await sent(began, await queue.add(name, data, opts));
  }
  const began = before();
  for (const job of await queue.addBulk(jobs.slice(-2))) await sent(began, job);
}

async function workOnJobs(name) {
  const work = (job) => {
    const attempt = job.attemptsMade + 1;
    return handle({ queue: name, id: String(job.id), name: job.name, attempt }, job.name === 'fails');
  };
  if (CLIENT === 'bull') {
    for (const kind of ['greets', 'fails']) queueOf(name).process(kind, work);
    return;
  }
  const worker = new (require('bullmq').Worker)(name, work, { connection });
  worker.on('error', (error) => console.error(error));
  await worker.waitUntilReady();
  workers.push(worker);
}

// It connects for its first command, by when it is traced: of an older connection the database isn't known.
const client = CLIENT === 'ioredis' ? new Redis({ ...connection, lazyConnect: true }) : undefined;
let serial = 0;

async function sendPlain(kind, queue, count) {
  for (let i = 0; i < count; i++) {
    const value = `${SECRET} ${++serial} of ${CLIENT}`;
    const began = before();
    let id = '';
    if (kind === 'list') await client.lpush(queue, value);
    if (kind === 'channel') await client.publish(queue, value);
    if (kind === 'set') await client.zadd(queue, serial, value);
    const workflow = JSON.stringify({ id: `w-${serial}` });
    if (kind === 'stream') id = await client.xadd(queue, '*', 'value', value, 'workflow', workflow);
    say({ did: 'send', queue, id, name: '', before: began, after: after() });
  }
}

async function workPlain(kind, queue) {
  const own = client.duplicate();
  const told = (id = '') => ({ queue, id, name: '', attempt: 0 });
  if (kind === 'channel') {
    own.on('message', () => handle(told(), false));
    await own.subscribe(queue);
    return;
  }
  if (kind === 'stream') await client.xgroup('CREATE', queue, GROUP, '0', 'MKSTREAM').catch(() => {});
  const loop = async () => {
    for (;;) {
      if (kind === 'list' && (await own.brpop(queue, 1))) await handle(told(), false);
      if (kind === 'set' && (await own.bzpopmin(queue, 1))) await handle(told(), false);
      if (kind !== 'stream') continue;
      const words = ['GROUP', GROUP, 'one', 'COUNT', 1, 'BLOCK', 1000, 'STREAMS', queue, '>'];
      const streams = await own.xreadgroup(...words);
      for (const [, entries] of streams ?? []) {
        for (const [id] of entries) {
          await handle(told(id), false);
          await client.xack(queue, GROUP, id);
        }
      }
    }
  };
  loop();
}

async function main() {
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, kind, queue, count] = line.split(' ');
    const jobs = kind === 'job';
    if (word === 'send') await (jobs ? sendJobs(queue, Number(count)) : sendPlain(kind, queue, Number(count)));
    if (word === 'work') await (jobs ? workOnJobs(queue) : workPlain(kind, queue));
    if (word === 'await') {
      while (handled.length < Number(kind)) await new Promise((resolve) => setTimeout(resolve, 5));
      handled.splice(0).forEach(say);
    }
    say({ done: true });
  }
  process.exit(0);
}

main();
