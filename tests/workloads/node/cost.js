// What the assist costs inside a process: nanoseconds of CPU for an await, a write to a socket, a Redis command and
// an HTTP exchange with four calls. Run it once as it is and once with the assist loaded:
//   node cost.js; wirespan node-script > assist.cjs; node --require ./assist.cjs cost.js
// Prints a JSON line. Environment: REDIS_PORT for the command.
'use strict';

const { once } = require('node:events');
const http = require('node:http');
const net = require('node:net');

/** CPU nanoseconds of this process for one of `count`, best of five. */
async function cost(count, work) {
  let best = Infinity;
  for (let round = 0; round < 6; round++) {
    const before = process.cpuUsage();
    await work(count);
    const { user, system } = process.cpuUsage(before);
    if (round > 0) best = Math.min(best, ((user + system) * 1000) / count);
  }
  return Math.round(best);
}

async function awaits(count) {
  for (let i = 0; i < count; i++) await undefined;
}

async function main() {
  const costs = { node: process.version, assist: process[Symbol.for('wirespan.assist')] !== undefined };
  const agent = new http.Agent({ keepAlive: true });
  const back = http.createServer((req, res) => res.end('ok')).listen(0, '127.0.0.1');
  await once(back, 'listening');
  const get = (port, path) => new Promise((resolve, reject) => http.get({ host: '127.0.0.1', port, path, agent }, (res) => res.resume().on('end', resolve)).on('error', reject));
  let inside;
  const front = http
    .createServer(async (req, res) => {
      if (req.url === '/inside') await inside();
      else for (let i = 0; i < 4; i++) await get(back.address().port, '/');
      res.end('ok');
    })
    .listen(0, '127.0.0.1');
  await once(front, 'listening');
  /** Work inside of a request: where the assist has something to do. */
  const within = (work) => {
    inside = work;
    return get(front.address().port, '/inside');
  };

  costs.await_ns = await cost(1e6, (count) => within(() => awaits(count)));
  const sink = net.createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
  await once(sink, 'listening');
  const socket = net.connect(sink.address().port, '127.0.0.1');
  await once(socket, 'connect');
  const chunk = Buffer.alloc(64);
  costs.write_ns = await cost(50_000, (count) =>
    within(async () => {
      for (let i = 0; i < count; i++) if (!socket.write(chunk)) await once(socket, 'drain');
    }),
  );
  socket.destroy();
  if (process.env.REDIS_PORT) {
    for (const [name, options] of [['ioredis', {}], ['ioredis_auto', { enableAutoPipelining: true }]]) {
      const client = new (require('ioredis'))(Number(process.env.REDIS_PORT), '127.0.0.1', options);
      costs[`${name}_ns`] = await cost(20_000, (count) =>
        within(async () => {
          for (let i = 0; i < count; i += 50) await Promise.all(Array.from({ length: 50 }, () => client.get('x')));
        }),
      );
      client.disconnect();
    }
    const client = require('redis').createClient({ url: `redis://127.0.0.1:${process.env.REDIS_PORT}` });
    await client.connect();
    costs.redis_ns = await cost(20_000, (count) =>
      within(async () => {
        for (let i = 0; i < count; i += 50) await Promise.all(Array.from({ length: 50 }, () => client.get('x')));
      }),
    );
    client.destroy();
  }
  costs.exchange_ns = await cost(3000, async (count) => {
    for (let i = 0; i < count; i += 20) await Promise.all(Array.from({ length: 20 }, () => get(front.address().port, '/')));
  });
  console.log(JSON.stringify(costs));
  process.exit();
}

main();
