// The system's front: Express, which asks Flask with `http` and then FastAPI with `fetch`, and combines
// both. The id of each request is in the URL (`?rid=`) and goes on to every upstream in the URL.
// Environment: PORT; ORDERS_URL (Flask) and STOCK_URL (FastAPI), needed by /orders and /fanout; RABBITMQ_URL, and
// REDIS_PORT with REDIS_PASSWORD, to which /checkout hands over work, if they are set.
'use strict';

const http = require('node:http');
const express = require('express');
const counts = require('./counts');

const { PORT, ORDERS_URL, STOCK_URL } = process.env;
const agent = new http.Agent({ keepAlive: true });
const app = express();
app.use(express.json());

// The size is taken where the body is handed over, so that it is counted before anybody has read it.
function answer(req, res, status, value) {
  const body = Buffer.from(JSON.stringify(value));
  counts.answered(`${req.method} ${req.route.path}`, body.length);
  res.status(status).type('json').send(body);
}

function parsed(route, status, text) {
  counts.asked(route, Buffer.byteLength(text));
  if (status >= 400) throw new Error(`${route}: ${status}`);
  return JSON.parse(text);
}

function askHttp(route, method, url, value) {
  return new Promise((resolve, reject) => {
    const body = value === undefined ? '' : JSON.stringify(value);
    const headers = body ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) } : {};
    const request = http.request(url, { method, agent, headers }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        try {
          resolve(parsed(route, response.statusCode, Buffer.concat(chunks).toString()));
        } catch (error) {
          reject(error);
        }
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function askFetch(route, url) {
  const response = await fetch(url);
  return parsed(route, response.status, await response.text());
}

const query = (req) => `?rid=${encodeURIComponent(req.query.rid ?? '')}`;

app.get('/health', (req, res) => answer(req, res, 200, { ok: true }));

// First the order, then its stock: two calls, one after the other.
app.get('/orders/:id', async (req, res) => {
  const { id } = req.params;
  const order = await askHttp('GET /api/orders/:id', 'GET', `${ORDERS_URL}/api/orders/${id}${query(req)}`);
  const stock = await askFetch('GET /stock/:id', `${STOCK_URL}/stock/${id}${query(req)}`);
  answer(req, res, 200, { rid: req.query.rid, order, stock });
});

app.post('/orders', async (req, res) => {
  const order = await askHttp('POST /api/orders', 'POST', `${ORDERS_URL}/api/orders${query(req)}`, req.body);
  answer(req, res, 201, { rid: req.query.rid, order });
});

// Both calls at once: the answers come in any order.
app.get('/fanout/:id', async (req, res) => {
  const { id } = req.params;
  const [order, stock] = await Promise.all([
    askHttp('GET /api/orders/:id', 'GET', `${ORDERS_URL}/api/orders/${id}${query(req)}`),
    askFetch('GET /stock-sync/:id', `${STOCK_URL}/stock-sync/${id}${query(req)}`),
  ]);
  answer(req, res, 200, { rid: req.query.rid, order, stock });
});

const { RABBITMQ_URL, REDIS_PORT, REDIS_PASSWORD } = process.env;
let channel;
let jobs;

// A message for who sends the receipt, a job for who ships it: nobody waits for them.
app.post('/checkout/:id', async (req, res) => {
  const { id } = req.params;
  if (RABBITMQ_URL) {
    channel ??= require('amqplib').connect(RABBITMQ_URL).then(async (connection) => {
      const opened = await connection.createConfirmChannel();
      await opened.assertQueue('receipts');
      return opened;
    });
    const opened = await channel;
    opened.sendToQueue('receipts', Buffer.from(id), { messageId: `receipt-${id}` });
    await opened.waitForConfirms();
  }
  if (REDIS_PORT) {
    const { Queue } = require('bullmq');
    jobs ??= new Queue('shipping', { connection: { port: Number(REDIS_PORT), password: REDIS_PASSWORD } });
    await jobs.add('ship', { id });
  }
  answer(req, res, 202, { rid: req.query.rid, id });
});

app.get('/slow', (req, res) => {
  setTimeout(() => answer(req, res, 200, { rid: req.query.rid }), Number(req.query.ms ?? 200));
});

app.get('/error', (req, res) => answer(req, res, 500, { rid: req.query.rid, error: 'asked for' }));

// Chunked: no content-length, a chunk for each write.
app.get('/stream', (req, res) => {
  const chunks = Number(req.query.chunks ?? 4);
  const size = Number(req.query.bytes ?? 1000);
  counts.answered('GET /stream', chunks * size);
  for (let i = 0; i < chunks; i += 1) res.write('s'.repeat(size));
  res.end();
});

app.get('/__counts', (req, res) => res.json(counts.report()));

app.use((error, req, res, next) => {
  if (res.headersSent || !req.route) return next(error);
  return answer(req, res, 502, { rid: req.query.rid, error: String(error.message) });
});

// Longer than any pause in the load: an idle connection is not closed under a client about to use it.
app.listen(Number(PORT), '127.0.0.1').keepAliveTimeout = 75_000;
