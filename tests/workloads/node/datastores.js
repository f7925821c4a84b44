// Uses Redis or PostgreSQL through one client library, and writes down every operation.
//
// The argument names the library. Each line of standard input names scenarios; each operation of theirs is
// printed as a JSON line, as soon as it is over, and the end of a line's work as {"done": true}. Connections
// that a scenario opens it closes, but for `steady`, which keeps its own.
//
// No two operations look alike: Redis keys and SQL aliases (`op_...`, which a statement without its literals
// keeps) have the scenario and a number. Every value has the marker in it that must never be exported.
'use strict';

const readline = require('node:readline');

const CLIENT = process.argv[2];
const SECRET = 's3cr3t-value';
const LARGE = (SECRET + '-').repeat(75_000); // about 1 MB
const CONCURRENT = 20;
const MANY = 40;
const env = process.env;
const kept = {};
let number = 0;

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const key = (scenario) => `${CLIENT}:${scenario}:${++number}`;
const alias = (scenario) => `op_${CLIENT.replaceAll("-", "_")}_${scenario}_${++number}`;
const redisOp = (name, target = '', facts = {}) =>
  say({ system: 'redis', name, target, database: '0', ...facts });
const sqlOp = (name, target = '', facts = {}) =>
  say({ system: 'postgresql', name, target, database: env.PGDATABASE, ...facts });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const together = (work) => Promise.all(Array.from({ length: CONCURRENT }, work));
/** Never silent for long, and with pauses of many lengths: 2 to 80 ms. */
async function busy(work) {
  for (let i = 0; i < 100; i++) {
    await work();
    await pause(2 + ((i * 37) % 79));
  }
}
const ignored = () => {};
/** Any other failure is the test's own. */
const expected = (facts) => (error) => {
  if (!facts?.error || (error.code ?? error.message.split(' ')[0]) !== facts.error) throw error;
};

// ---- Redis ----

/** Commands with what is to be told of them. */
function redisCommands(scenario, count) {
  const commands = [];
  for (let i = 0; i < count; i++) {
    const name = key(scenario);
    commands.push(
      [['SET', name, SECRET]],
      [['GET', name]],
      [['GET', name + ':none'], { nil: true }],
      [['HSET', name + ':hash', 'field', SECRET]],
      [['HGETALL', name + ':hash']],
      [['LPUSH', name, SECRET], { error: 'WRONGTYPE' }],
      [['ZADD', name + ':set', '1', SECRET]],
      [['ZSCORE', name + ':set', SECRET + '-none'], { nil: true }],
      [["EVAL", "return redis.call('get', KEYS[1])", "1", name], { target: name }],
      [['DEL', name]],
    );
  }
  return commands;
}

function tellRedis([command, facts = {}], more = {}) {
  const { target = command[1], ...rest } = facts;
  redisOp(command[0], target, { ...rest, ...more });
}

/** Of a transaction: each command is answered that it is queued, and EXEC has the answers, the first error among
 * them. */
function tellTransaction(commands) {
  redisOp('MULTI');
  const failed = commands.find(([, facts = {}]) => facts.error);
  redisOp('EXEC', '', failed ? { error: failed[1].error } : {});
  for (const [command, facts = {}] of commands) {
    tellRedis([command, { target: facts.target ?? command[1], queued: true }]);
  }
}

/** A slot moves from one node to the other while its key is asked for. `ask` is the library's way to ask any
 * node, `admin` to ask a certain one, `ports` its masters'. */
async function redirected(name, owner, ports, ask, admin) {
  const slot = String(require('cluster-key-slot')(name));
  const other = ports.find((port) => port !== owner);
  const id = async (port) => {
    const answer = await admin(port, 'CLUSTER', 'MYID');
    redisOp('CLUSTER MYID');
    return answer;
  };
  const [from, to] = [await id(owner), await id(other)];
  const set = async (port, ...words) => {
    await admin(port, 'CLUSTER', 'SETSLOT', slot, ...words);
    redisOp('CLUSTER SETSLOT');
  };
  const twice = async (error, command, facts) => {
    await ask(name, ...command);
    redisOp(command[0], name, { error });
    redisOp(command[0], name, facts);
  };
  await set(other, 'IMPORTING', from);
  await set(owner, 'MIGRATING', to);
  await twice('ASK', ['GET', name], { nil: true });
  await twice('ASK', ['SET', name, SECRET]);
  await set(other, 'NODE', to);
  await set(owner, 'NODE', to);
  await twice('MOVED', ['GET', name]);
  await ask(name, 'DEL', name);
  redisOp('DEL', name);
}

/** Every node has its part. */
const spread = (scenario, ask) =>
  together(async () => {
    for (const command of redisCommands(scenario, 1)) {
      await ask(command[1]?.target ?? command[0][1], ...command[0]).catch(expected(command[1]));
      tellRedis(command);
    }
  });

async function ioredis(scenario) {
  const Redis = require('ioredis');
  const options = { port: env.REDIS_PORT, password: env.REDIS_PASSWORD };
  const sequence = async (client, count, more) => {
    for (const command of redisCommands(scenario, count)) {
      await client.call(...command[0]).catch(expected(command[1]));
      tellRedis(command, more);
    }
  };
  if (scenario === 'steady') return sequence((kept.client ??= new Redis(options)), 2);
  if (scenario === 'busy') return busy(() => together(() => sequence(kept.client, 1)));
  if (scenario === 'cluster') {
    const client = new Redis.Cluster([options], { redisOptions: { password: env.REDIS_PASSWORD } });
    const ask = (_, ...words) => client.call(...words);
    await spread(scenario, ask);
    const nodes = Object.fromEntries(client.nodes('master').map((node) => [node.options.port, node]));
    const name = key(scenario);
    const owner = Number(client.slots[require('cluster-key-slot')(name)][0].split(':')[1]);
    const ports = Object.keys(nodes).map(Number);
    await redirected(name, owner, ports, ask, (port, ...words) => nodes[port].call(...words));
    return client.quit();
  }
  if (scenario === 'unix') options.path = env.REDIS_SOCKET;
  if (scenario === 'database') options.db = 2;
  if (scenario === 'autopipelined') options.enableAutoPipelining = true;
  const client = new Redis(options);
  switch (scenario) {
    case 'concurrent':
      await together(() => sequence(client, 3));
      break;
    case 'autopipelined': {
      const names = Array.from({ length: 20 }, () => key(scenario));
      await Promise.all(names.flatMap((name) => [client.set(name, SECRET), client.get(name), client.get(name + ':none')]));
      for (const name of names) {
        redisOp('SET', name);
        redisOp('GET', name);
        redisOp('GET', name + ':none', { nil: true });
      }
      break;
    }
    case 'many':
    case 'pipelined': {
      const commands = redisCommands(scenario, scenario === 'many' ? 2 * MANY : 4);
      const pipeline = client.pipeline();
      for (const [command] of commands) pipeline.call(...command);
      await pipeline.exec();
      for (const command of commands) tellRedis(command);
      const queued = redisCommands(scenario, 3);
      const transaction = client.multi();
      for (const [command] of queued) transaction.call(...command);
      await transaction.exec();
      tellTransaction(queued);
      break;
    }
    case 'blocking': {
      const name = key(scenario);
      const other = new Redis(options);
      const waiting = client.blpop(name, 20);
      let blocked;
      do {
        blocked = /cmd=blpop/.test(await other.client('LIST'));
        redisOp('CLIENT LIST');
      } while (!blocked);
      await other.rpush(name, SECRET);
      redisOp('RPUSH', name);
      await waiting;
      redisOp('BLPOP', name);
      // Nothing comes: an idle worker's poll is no span.
      await client.blpop(name, 0.1);
      await other.quit();
      break;
    }
    case 'large':
    case 'slow': {
      const name = key(scenario);
      await client.set(name, LARGE);
      redisOp('SET', name);
      const waiting = client.get(name);
      if (scenario === 'slow') {
        client.stream.pause();
        await pause(200);
        client.stream.resume();
      }
      if ((await waiting).length !== LARGE.length) throw new Error('cut');
      redisOp('GET', name);
      await sequence(client, 1);
      break;
    }
    default:
      await sequence(client, 4, scenario === 'database' ? { database: '2' } : {});
  }
  await client.quit();
}

async function nodeRedis(scenario) {
  const { createClient, createCluster } = require('redis');
  if (scenario === 'cluster') {
    const rootNodes = [{ url: `redis://127.0.0.1:${env.REDIS_PORT}` }];
    const client = createCluster({ rootNodes, defaults: { password: env.REDIS_PASSWORD } });
    await client.connect();
    const ask = (name, ...words) => client.sendCommand(name, false, words);
    await spread(scenario, ask);
    const name = key(scenario);
    const owner = client.slots[require('cluster-key-slot')(name)].master.port;
    const admin = async (port, ...words) =>
      (await client.nodeClient(client.masters.find((node) => node.port === port))).sendCommand(words);
    await redirected(name, owner, client.masters.map((node) => node.port), ask, admin);
    return client.close();
  }
  const socket = scenario === 'unix' ? { path: env.REDIS_SOCKET } : { port: Number(env.REDIS_PORT), host: '127.0.0.1' };
  const options = { socket, password: env.REDIS_PASSWORD, RESP: scenario === 'resp3' ? 3 : 2 };
  if (scenario === 'database') options.database = 2;
  const client = kept.client ?? createClient(options);
  if (!kept.client) await client.connect();
  const sequence = async (count, more) => {
    for (const command of redisCommands(scenario, count)) {
      await client.sendCommand(command[0]).catch(expected(command[1]));
      tellRedis(command, more);
    }
  };
  if (scenario === 'steady' || scenario === 'busy') {
    kept.client = client;
    return scenario === 'busy' ? busy(() => together(() => sequence(1))) : sequence(2);
  }
  // It writes each command as a vector of its own: `wide` has hundreds in one writev().
  if (scenario === 'concurrent') await together(() => sequence(3));
  else if (scenario === 'wide') await Promise.all(Array.from({ length: 200 }, () => sequence(1)));
  else if (scenario === 'pipelined') {
    const commands = redisCommands(scenario, 1);
    await Promise.all(commands.map(([command, facts]) => client.sendCommand(command).catch(expected(facts))));
    for (const command of commands) tellRedis(command);
    const queued = redisCommands(scenario, 1);
    const transaction = client.multi();
    for (const [command] of queued) transaction.addCommand(command);
    await transaction.exec().catch(ignored);
    tellTransaction(queued);
  } else await sequence(4, scenario === 'database' ? { database: '2' } : {});
  await client.close();
}

// ---- PostgreSQL ----

/** Statements with their parameters and what is to be told of them, each its own row numbers. */
function sqlStatements(scenario, count) {
  const statements = [];
  for (let rows = 1; rows <= count; rows++) {
    let name = alias(scenario);
    const add = (text, values, facts) => statements.push([text, values, { target: name, ...facts }]);
    add(`SELECT ${name}.name FROM orders AS ${name} WHERE id <= $1 AND name <> $2`, [rows, SECRET + "-none"], { name: "SELECT orders", rows });
    name = alias(scenario);
    const insert = `INSERT INTO items AS ${name} VALUES ('${CLIENT}-${scenario}-${SECRET}', $1, $2)`;
    const row = number;
    add(insert, [row, SECRET], { name: 'INSERT items', affected: 1 });
    add(insert, [row, SECRET], { name: 'INSERT items', error: '23505' });
    name = alias(scenario);
    add(`UPDATE orders AS ${name} SET name = $2 WHERE id <= $1`, [rows, SECRET], { name: "UPDATE orders", affected: rows });
    name = alias(scenario);
    add(`SELECT app.fn($1) AS ${name}`, [rows], { name: "SELECT app.fn", rows: 1 });
    name = alias(scenario);
    add(`SELECT nothing AS ${name} WHERE '${SECRET}' <> ''`, [], { name: "SELECT", error: "42703" });
    name = alias(scenario);
    add(`SELEKT ${name}`, [], { name: "", error: "42601" });
  }
  return statements;
}

const good = (statements) => statements.filter(([, , facts]) => !facts.error);

function tellSql({ name, target, ...facts }) {
  sqlOp(name, target, facts);
}

async function run(ask, statements) {
  for (const [text, values, facts] of statements) {
    await Promise.resolve(ask(text, values)).catch(expected(facts));
    tellSql(facts);
  }
}

async function pg(scenario) {
  const { Client, Pool } = require('pg');
  const options = { host: scenario === 'unix' ? env.PG_SOCKET_DIRECTORY : '127.0.0.1' };
  if (scenario === 'concurrent') {
    const pool = new Pool({ ...options, max: CONCURRENT });
    await together(() => run((text, values) => pool.query(text, values), sqlStatements(scenario, 2)));
    return pool.end();
  }
  if (scenario === 'busy') return busy(() => run((text, values) => kept.client.query(text, values), sqlStatements(scenario, 1)));
  if (scenario === 'steady' && kept.client) return run((text, values) => kept.client.query(text, values), sqlStatements(scenario, 1));
  // Else it keeps to itself what it is asked while it waits.
  const client = new Client({ ...options, pipeline: scenario === 'wired' });
  await client.connect();
  const ask = (text, values) => client.query(text, values);
  switch (scenario) {
    case 'steady':
      kept.client = client;
      return run(ask, sqlStatements(scenario, 1));
    case 'many':
    case 'wired':
    case 'pipelined': {
      const statements = sqlStatements(scenario, scenario === 'many' ? MANY : 3);
      await Promise.all(statements.map(([text, values, facts]) => ask(text, values).catch(expected(facts))));
      for (const [, , facts] of statements) tellSql(facts);
      break;
    }
    case 'prepared': {
      const name = alias(scenario);
      const text = `SELECT ${name}.name FROM orders AS ${name} WHERE id <= $1`;
      for (let rows = 1; rows <= 20; rows++) {
        await client.query({ name: 'by-id', text, values: [rows] });
        sqlOp('SELECT orders', name, { rows });
      }
      break;
    }
    case 'copy':
      await copies(client);
      break;
    case 'several': {
      const update = (name) => `UPDATE orders AS ${name} SET name = '${SECRET}' WHERE id <= 3`;
      let name = alias(scenario);
      await ask(`${update(name)}; SELECT id FROM orders;`);
      sqlOp('UPDATE orders; SELECT orders', name, { statements: 2 });
      name = alias(scenario);
      await ask(`${update(name)}; SELECT 1 / 0; SELECT 2`).catch(expected({ error: '22012' }));
      sqlOp('UPDATE orders; SELECT', name, { statements: 3, failed: 'SELECT', error: '22012' });
      break;
    }
    case 'comment':
      await commented((text, values) => client.query({ name: 'commented', text, values }));
      break;
    case 'notices': {
      const channel = alias(scenario);
      await ask(`LISTEN ${channel}`);
      sqlOp('LISTEN', channel);
      await ask(`DO $$ BEGIN RAISE NOTICE '${SECRET}'; END $$`);
      sqlOp('DO');
      const other = new Client(options);
      await other.connect();
      // One that comes unasked, and one among an answer.
      for (const sender of [other, client]) {
        const notified = new Promise((resolve) => client.once('notification', resolve));
        await sender.query(`NOTIFY ${channel}, '${SECRET}'`);
        sqlOp('NOTIFY', channel);
        await notified;
      }
      await other.end();
      await run(ask, good(sqlStatements(scenario, 1)));
      break;
    }
    case 'cancel': {
      const name = alias(scenario);
      let over = false;
      const asking = ask(`SELECT pg_sleep(60) AS ${name}`).catch(expected({ error: '57014' })).finally(() => (over = true));
      // What comes before the server began has no effect.
      while (!over) {
        await cancel(client);
        await Promise.race([asking, pause(100)]);
      }
      sqlOp('SELECT pg_sleep', name, { error: '57014' });
      break;
    }
    case 'transaction':
      for (const end of ['COMMIT', 'ROLLBACK']) {
        await ask('BEGIN');
        sqlOp('BEGIN');
        await run(ask, good(sqlStatements(scenario, 2)));
        await ask(end);
        sqlOp(end);
      }
      break;
    case 'large':
    case 'slow': {
      let name = alias(scenario);
      await ask(`SELECT ${name}.id FROM orders AS ${name} WHERE id <= 7 AND name <> $1`, [LARGE]);
      sqlOp('SELECT orders', name, { rows: 7 });
      name = alias(scenario);
      const asking = ask(`SELECT repeat('${SECRET}', 170000) AS ${name}`);
      if (scenario === 'slow') {
        client.connection.stream.pause();
        await pause(200);
        client.connection.stream.resume();
      }
      await asking;
      sqlOp('SELECT repeat', name, { rows: 1 });
      await run(ask, sqlStatements(scenario, 1));
      break;
    }
    default:
      await run(ask, sqlStatements(scenario, 3));
  }
  await client.end();
}

/** Of a prepared statement the comment is of whoever prepared it. */
async function commented(ask) {
  const name = alias('comment');
  const [trace, span] = [32, 16].map((length) => (4096 + number).toString(16).padStart(length, '0'));
  const comment = `/*action='${SECRET}',traceparent='00-${trace}-${span}-01'*/`;
  const text = `SELECT ${name}.name FROM orders AS ${name} WHERE id <= $1 ${comment}`;
  for (let rows = 1; rows <= 3; rows++) {
    await ask(text, [rows]);
    sqlOp('SELECT orders', name, { rows, ...(rows === 1 && { parent: `${trace}-${span}` }) });
  }
}

/** Asks the server on a connection of its own to cancel what this one runs. */
function cancel(client) {
  const request = Buffer.alloc(16);
  [16, 80877102, client.processID, client.secretKey].forEach((word, at) => request.writeInt32BE(word, 4 * at));
  return new Promise((resolve, reject) => {
    const socket = require('node:net').connect(Number(env.PGPORT), '127.0.0.1', () => socket.write(request));
    socket.on('error', reject).on('close', resolve).resume();
  });
}

/** COPY both ways, refused by the server, and broken off. */
async function copies(client) {
  const { from, to } = require('pg-copy-streams');
  const { pipeline } = require('node:stream/promises');
  const { Readable, Writable } = require('node:stream');
  const discard = () => new Writable({ write: (_chunk, _encoding, done) => done() });
  const rows = Array.from({ length: 50 }, (_, row) => `${CLIENT}-copy\t${row}\t${SECRET}\n`);
  await pipeline(Readable.from(rows), client.query(from('COPY items FROM STDIN')));
  sqlOp('COPY items', '', { affected: 50 });
  await pipeline(client.query(to('COPY orders TO STDOUT')), discard());
  sqlOp('COPY orders', '', { affected: 100 });
  const bad = Array.from({ length: 50 }, () => `x\t${SECRET}\ty\n`);
  await pipeline(Readable.from(bad), client.query(from('COPY items FROM STDIN'))).catch(expected({ error: '22P02' }));
  sqlOp('COPY items', '', { error: '22P02' });
  const broken = async function* () {
    yield rows[0];
    throw Object.assign(new Error(SECRET), { code: 'broken off' });
  };
  const stream = client.query(from('COPY items FROM STDIN'));
  // With the server's answer.
  const closed = new Promise((resolve) => stream.once('close', resolve));
  await pipeline(Readable.from(broken()), stream).catch(expected({ error: 'broken off' }));
  await closed;
  sqlOp('COPY items', '', { error: '57014' });
  await run((text, values) => client.query(text, values), sqlStatements('copy', 1));
}

async function postgresJs(scenario) {
  const postgres = require('postgres');
  const sql = kept.client ?? postgres({
    host: scenario === 'unix' ? env.PG_SOCKET_DIRECTORY : '127.0.0.1',
    max: scenario === 'concurrent' ? CONCURRENT : 1,
    onnotice: ignored,
  });
  const ask = (text, values) => sql.unsafe(text, values);
  if (scenario === 'steady' || scenario === 'busy') {
    kept.client = sql;
    const statements = () => good(sqlStatements(scenario, 1));
    if (scenario === 'steady') return run(ask, statements());
    return busy(async () => {
      const asked = statements();
      await Promise.all(asked.map(([text, values]) => ask(text, values)));
      for (const [, , facts] of asked) tellSql(facts);
    });
  }
  if (scenario === 'concurrent') await together(() => run(ask, sqlStatements(scenario, 2)));
  else if (scenario === 'pipelined' || scenario === 'many') {
    const statements = good(sqlStatements(scenario, scenario === 'many' ? MANY : 3));
    await Promise.all(statements.map(([text, values]) => ask(text, values)));
    for (const [, , facts] of statements) tellSql(facts);
  } else if (scenario === 'prepared') {
    const name = alias(scenario);
    for (let rows = 1; rows <= 20; rows++) {
      await sql.unsafe(`SELECT ${name}.name FROM orders AS ${name} WHERE id <= $1`, [rows], { prepare: true });
      sqlOp('SELECT orders', name, { rows });
    }
  } else if (scenario === 'comment') {
    await commented((text, values) => sql.unsafe(text, values, { prepare: true }));
  } else if (scenario === 'transaction') {
    await sql.begin(async (inner) => {
      sqlOp('BEGIN');
      await run((text, values) => inner.unsafe(text, values), good(sqlStatements(scenario, 2)));
    });
    sqlOp('COMMIT');
  } else await run(ask, sqlStatements(scenario, 3));
  await sql.end();
}

async function knexBuilder(scenario) {
  const knex = require('knex')({ client: 'pg', connection: { host: '127.0.0.1', port: Number(env.PGPORT), user: env.PGUSER, database: env.PGDATABASE, password: env.PGPASSWORD }, pool: { min: 0, max: CONCURRENT } });
  const work = async () => {
    const name = alias(scenario);
    const rows = await knex(`orders as ${name}`).where("id", "<=", 7).whereNot("name", SECRET);
    sqlOp('SELECT orders', name, { rows: rows.length });
    const made = `${SECRET}-${++number}`;
    await knex('thing').insert([1, 2, 3].map((n) => ({ name: made, number: n })));
    sqlOp('INSERT thing', '', { affected: 3 });
    await knex.transaction(async (inner) => {
      sqlOp('BEGIN');
      await inner('thing').where({ name: made }).update({ number: 4 });
      sqlOp('UPDATE thing', '', { affected: 3 });
    });
    sqlOp('COMMIT');
    await knex('thing').where({ name: made }).del();
    sqlOp('DELETE thing', '', { affected: 3 });
  };
  if (scenario === 'concurrent') await together(work);
  else await work();
  await knex.destroy();
}

async function prisma(scenario) {
  const { PrismaClient } = require('@prisma/client');
  const { PrismaPg } = require('@prisma/adapter-pg');
  // node-postgres has the rest from the environment.
  const client = new PrismaClient({ adapter: new PrismaPg({ host: '127.0.0.1', max: CONCURRENT }) });
  const work = async () => {
    const statements = good(sqlStatements(scenario, 1)).filter(([text]) => !text.startsWith('INSERT'));
    for (const [text, values, facts] of statements) {
      await client.$queryRawUnsafe(text, ...values);
      tellSql(facts);
    }
    const name = `${SECRET}-${++number}`;
    const made = await client.thing.create({ data: { name, number: 1 } });
    sqlOp('INSERT public.thing', '', { affected: 1, rows: 1 });
    const found = await client.thing.findMany({ where: { name } });
    sqlOp('SELECT public.thing', '', { rows: found.length });
    await client.$transaction([client.thing.findMany({ where: { name } }), client.thing.deleteMany({ where: { id: made.id } })]);
    sqlOp('BEGIN');
    sqlOp('SELECT public.thing', '', { rows: 1 });
    sqlOp('DELETE public.thing', '', { affected: 1 });
    sqlOp('COMMIT');
  };
  if (scenario === 'concurrent') await together(work);
  else await work();
  await client.$disconnect();
}

const clients = { prisma, ioredis, 'node-redis': nodeRedis, pg, postgres: postgresJs, knex: knexBuilder };

async function main() {
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    for (const scenario of line.split(' ').filter(Boolean)) {
      // Longer than what the agent takes for one.
      if (scenario === 'silence') await pause(1300);
      else await clients[CLIENT](scenario);
    }
    say({ done: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
