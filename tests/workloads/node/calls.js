// Every kind of call that an application makes, in the name of the request that asks for it.
//
// Everything carries the request's number: URLs end with it, Redis keys are `rid:NUMBER`, SQL has an alias
// `rid_NUMBER`, a message's id or key is it. Pools are smaller than what is in flight. Environment: UPSTREAM, CALLS
// (names of `calls` below; all that are made of what the first applications have), REDIS_*, PG*, RABBITMQ_URL,
// KAFKA_PORT.
'use strict';

const crypto = require('node:crypto');
const dns = require('node:dns');
const fs = require('node:fs');
const http = require('node:http');

const { env } = process;
const wanted = env.CALLS ? env.CALLS.split(' ') : undefined;
const agent = new http.Agent({ keepAlive: true, maxSockets: 3 });
const wants = (name) => wanted === undefined || wanted.includes(name);
const calls = {};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function get(id, done) {
  http.get(`${env.UPSTREAM}/prices/${id}`, { agent }, (answer) => answer.resume().on('end', () => done())).on('error', done);
}

if (env.UPSTREAM) {
  const one = (id) => new Promise((resolve, reject) => get(id, (error) => (error ? reject(error) : resolve())));
  calls.http = one;
  calls.fetch = async (id) => void (await (await fetch(`${env.UPSTREAM}/prices/${id}`)).text());
  calls.post = async (id) => void (await (await fetch(`${env.UPSTREAM}/prices/${id}`, { method: 'POST', body: 'x'.repeat(10_000) })).text());
  // What comes back later through the thread pool, timers and the resolver is still the same request's.
  calls.later = async (id) => {
    await pause(id % 5);
    await new Promise((resolve) => crypto.pbkdf2('a', 'b', 10, 8, 'sha1', resolve));
    await new Promise((resolve) => dns.lookup('localhost', resolve));
    await fs.promises.readFile(__filename);
    await new Promise((resolve) => setImmediate(resolve));
    await one(id);
  };
  // One that is given up before it is answered, and one that isn't, on the same agent.
  if (wanted?.includes('aborted')) {
    calls.aborted = async (id) => {
      await new Promise((resolve) => {
        const request = http.get(`${env.UPSTREAM}/prices/${id}`, { agent });
        request.on('error', resolve).on('close', resolve).on('response', (answer) => answer.resume());
        setTimeout(() => request.destroy(), id % 3);
      });
      await one(id);
    };
  }
  if (wanted?.includes('axios')) {
    const axios = require('axios').create({ httpAgent: agent });
    calls.axios = async (id) => void (await axios.get(`${env.UPSTREAM}/prices/${id}`));
  }
}
if (env.PGPORT) {
  if (wants('pg') || wants('pg-callback') || wants('pg-transaction')) {
    const pg = require('pg');
    const pool = new pg.Pool({ host: '127.0.0.1', max: 2 });
    const sql = (id, more = '') => `SELECT 1 AS rid_${id}${more}`;
    calls.pg = (id) => pool.query(id % 2 ? sql(id) : { text: sql(id, ', $1::int'), values: [7] });
    calls['pg-callback'] = (id) =>
      new Promise((resolve, reject) =>
        pool.query(sql(id), (error) => {
          if (error) return reject(error);
          // In the callback: whose it is, is the pool's business no more.
          pool.query(sql(id), [], (error) => (error ? reject(error) : env.UPSTREAM ? get(id, resolve) : resolve()));
        }),
      );
    calls['pg-transaction'] = async (id) => {
      const client = await pool.connect();
      try {
        await client.query(`BEGIN`);
        await client.query(sql(id));
        await client.query('COMMIT');
      } finally {
        client.release();
      }
    };
  }
  if (wants('knex') || wants('knex-transaction')) {
    const knex = require('knex')({ client: 'pg', connection: { host: '127.0.0.1', port: env.PGPORT, user: env.PGUSER, password: env.PGPASSWORD, database: env.PGDATABASE }, pool: { min: 1, max: 2 } });
    calls.knex = (id) => knex.select(knex.raw(`1 AS rid_${id}`));
    if (wanted?.includes('knex-transaction')) {
      calls['knex-transaction'] = (id) => knex.transaction(async (trx) => void (await trx.select(trx.raw(`1 AS rid_${id}`))));
    }
  }
  if (wants('postgres') || wants('postgres-transaction')) {
    const sql = require('postgres')({ host: '127.0.0.1', max: 2 });
    calls.postgres = (id) => sql.unsafe(`SELECT 1 AS rid_${id}`);
    // Prepared, with and without values; several at once on one connection, in a transaction and by a cursor.
    calls['postgres-tagged'] = (id) =>
      Promise.all([sql`SELECT ${id}::int AS ${sql(`rid_${id}`)}`, sql`SELECT 2 AS ${sql(`rid_${id}`)}`, sql.unsafe(`SELECT 3 AS rid_${id}`)]);
    if (wanted?.includes('postgres-transaction')) {
      calls['postgres-transaction'] = (id) =>
        sql.begin((sql) => [sql`SELECT ${id}::int AS ${sql(`rid_${id}`)}`, sql.unsafe(`SELECT 2 AS rid_${id}`)]);
    }
    calls['postgres-begin'] = (id) =>
      sql.begin(async (sql) => {
        await sql`SELECT ${id}::int AS ${sql(`rid_${id}`)}`;
        for await (const rows of sql`SELECT x AS ${sql(`rid_${id}`)} FROM generate_series(1, 5) x`.cursor(2)) void rows;
      });
  }
}
if (env.REDIS_PORT) {
  const options = { port: Number(env.REDIS_PORT), password: env.REDIS_PASSWORD };
  const large = 'x'.repeat(1_000_000);
  if (wants('ioredis') || wants('ioredis-pipeline') || wants('ioredis-large')) {
    const Redis = require('ioredis');
    const client = new Redis(options);
    calls.ioredis = (id) => client.get(`rid:${id}`);
    calls['ioredis-pipeline'] = (id) => client.pipeline().get(`rid:${id}`).set(`rid:${id}`, 'é').exec();
    if (wanted?.includes('ioredis-large')) calls['ioredis-large'] = (id) => client.set(`large:rid:${id}`, large);
  }
  if (wants('ioredis-auto')) {
    const Redis = require('ioredis');
    const client = new Redis({ ...options, enableAutoPipelining: true });
    calls['ioredis-auto'] = (id) => client.get(`rid:${id}`);
  }
  if (wants('redis')) {
    const { createClient } = require('redis');
    const client = createClient({ socket: { port: options.port, host: '127.0.0.1' }, password: options.password });
    const ready = client.connect();
    calls.redis = async (id) => {
      await ready;
      await client.get(`rid:${id}`);
    };
    calls['redis-multi'] = async (id) => {
      await ready;
      await client.multi().get(`rid:${id}`).set(`rid:${id}`, 'x').exec();
    };
  }
}
if (env.RABBITMQ_URL && wanted?.includes('amqplib')) {
  const channel = require('amqplib')
    .connect(env.RABBITMQ_URL)
    .then((connection) => connection.createConfirmChannel())
    .then(async (channel) => {
      await channel.assertQueue('calls', { durable: false, maxLength: 100 });
      return channel;
    });
  const large = Buffer.alloc(20_000);
  const small = Buffer.from('x');
  calls.amqplib = async (id) => {
    const it = await channel;
    // Small ones are one piece, large ones several, which others' may come between.
    await new Promise((resolve, reject) =>
      it.sendToQueue('calls', id % 3 ? small : large, { messageId: String(id) }, (error) => (error ? reject(error) : resolve())),
    );
  };
}
if (env.KAFKA_PORT && wanted?.includes('kafkajs')) {
  const { Kafka, logLevel } = require('kafkajs');
  const kafka = new Kafka({ clientId: 'front', brokers: [`127.0.0.1:${env.KAFKA_PORT}`], logLevel: logLevel.NOTHING });
  const producer = kafka.producer({ maxInFlightRequests: 1 });
  const ready = producer.connect();
  calls.kafkajs = async (id) => {
    await ready;
    await producer.send({ topic: 'calls', messages: [{ key: String(id), value: 'x', partition: id % 3 }] });
  };
}

// One that is named twice is made twice.
const names = (wanted ?? Object.keys(calls)).filter((name) => calls[name]);
/** In an order that differs from request to request. */
const order = (id) => names.map((name, i) => [(i * 7 + id * 13) % 31, name]).sort((a, b) => a[0] - b[0]).map(([, name]) => name);

module.exports = {
  names,
  order,
  /** One after the other. */
  async each(id) {
    for (const name of order(id)) await calls[name](id);
  },
  /** All at once. */
  together: (id) => Promise.all(order(id).map((name) => calls[name](id))),
  /** One after the other, with something to do before each. */
  async between(id, step) {
    for (const name of order(id)) {
      step(name);
      await calls[name](id);
    }
  },
};
