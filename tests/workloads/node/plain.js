// A server and a client of `node:http` with nothing above them: keep-alive on both sides, requests
// answered in order also when a client sends several before it reads.
// Environment: PORT; UPSTREAM, a base URL that /relay asks for `/prices/:id`, and /later too, after it has
// answered; TLS_PORT, TLS_KEY and TLS_CERT: the same behind TLS as well.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const counts = require('./counts');

const { PORT, UPSTREAM, TLS_PORT, TLS_KEY, TLS_CERT } = process.env;
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

function answer(res, route, status, value) {
  const body = Buffer.from(JSON.stringify(value));
  counts.answered(route, body.length);
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length });
  res.end(body);
}

function relay(res, route, id, rid) {
  const url = `${UPSTREAM}/prices/${id}?rid=${encodeURIComponent(rid)}`;
  const failed = (error) => answer(res, route, 502, { rid, error: error.message });
  http
    .get(url, { agent }, (upstream) => {
      const chunks = [];
      upstream.on('data', (chunk) => chunks.push(chunk));
      upstream.on('error', failed);
      upstream.on('end', () => {
        const body = Buffer.concat(chunks);
        counts.asked('GET /prices/:id', body.length);
        answer(res, route, upstream.statusCode, { rid, upstream: body.toString() });
      });
    })
    .on('error', failed);
}

// Work that nobody waits for: it begins when the answer is out, and some of it a while after.
function later(res, id, rid) {
  const ask = () => {
    const request = http.get(`${UPSTREAM}/prices/${id}?rid=${encodeURIComponent(rid)}`, { agent }, (upstream) => {
      upstream.resume();
      upstream.on('end', () => counts.asked('GET /prices/:id', 0));
    });
    request.on('error', (error) => console.error(error));
  };
  answer(res, 'GET /later/:id', 200, { rid });
  if (Number(id) % 2) setImmediate(ask);
  else setTimeout(ask, Number(id) % 7);
}

function serve(req, res) {
  const url = new URL(req.url, 'http://workload');
  const rid = url.searchParams.get('rid') ?? '';
  const [, first, id] = url.pathname.split('/');
  req.resume();
  if (url.pathname === '/__counts') {
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify(counts.report()));
  } else if (url.pathname === '/health') answer(res, 'GET /health', 200, { ok: true });
  else if (first === 'prices' && id) answer(res, 'GET /prices/:id', 200, { rid, id, price: Number(id) * 3 });
  else if (first === 'relay' && id) relay(res, 'GET /relay/:id', id, rid);
  else if (first === 'slow') {
    setTimeout(() => answer(res, 'GET /slow', 200, { rid }), Number(url.searchParams.get('ms') ?? 200));
  } else if (first === 'later' && id) later(res, id, rid);
  else answer(res, 'unrouted', 404, { rid });
}

function listen(server, port) {
  // Longer than any pause in the load: an idle connection is not closed under a client about to use it.
  server.keepAliveTimeout = 75_000;
  server.listen(Number(port), '127.0.0.1');
}

if (TLS_PORT) {
  const [key, cert] = [TLS_KEY, TLS_CERT].map((path) => fs.readFileSync(path));
  listen(https.createServer({ key, cert }, serve), TLS_PORT);
}
listen(http.createServer(serve), PORT);
