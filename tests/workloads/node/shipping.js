// Ships orders, or would: a worker on a queue of BullMQ's, which asks `node:http` for each one's price.
// Environment: PORT, where it says that it is there; UPSTREAM; REDIS_PORT and REDIS_PASSWORD; GO, a file: if this is
// set, it connects when the file is there, and says that it is there itself before that.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const { Worker } = require('bullmq');
const counts = require('./counts');

const { PORT, UPSTREAM, REDIS_PORT, REDIS_PASSWORD, GO } = process.env;
const connection = { port: Number(REDIS_PORT), password: REDIS_PASSWORD, maxRetriesPerRequest: null };

async function ship(job) {
  const response = await fetch(`${UPSTREAM}/prices/${job.data.id}`);
  const text = await response.text();
  counts.asked('GET /prices/:id', text.length);
  counts.answered('ship', 0);
}

function answer() {
  const server = http.createServer((req, res) => {
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify(req.url === '/__counts' ? counts.report() : { ok: true }));
  });
  server.listen(Number(PORT), '127.0.0.1');
}

function work() {
  const worker = new Worker('shipping', ship, { connection });
  worker.waitUntilReady().then(() => {
    if (!GO) answer();
    console.log('at work');
  });
}

function wait() {
  if (fs.existsSync(GO)) work();
  else setTimeout(wait, 20);
}

if (GO) {
  answer();
  wait();
} else work();
