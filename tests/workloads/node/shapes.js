// A server and a client of every shape that an HTTP/1.1 exchange can have: `node:http`, and bare sockets
// where it would not let a shape through.
// Environment: PORT; HOST (default 127.0.0.1); SOCKET, a path to listen on as well.
'use strict';

const http = require('node:http');
const net = require('node:net');
const counts = require('./counts');

const { PORT, HOST = '127.0.0.1', SOCKET } = process.env;

// Bodies that look like what a parser might wait for.
const DECOY = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nGET /decoy HTTP/1.1\r\nHost: x\r\n\r\n';

function answer(res, status, body, headers = {}) {
  // A broken exchange can be told as an error twice.
  if (res.headersSent) return;
  res.writeHead(status, { 'content-length': Buffer.byteLength(body), ...headers });
  res.end(body);
}

// Asks `to` (an absolute URL, or with `socket` a path on that unix socket) and answers with its answer.
function ask(req, res, params) {
  const options = { agent: false, headers: {}, method: params.get('method') ?? 'GET' };
  const url = params.get('to');
  if (params.has('socket')) options.socketPath = params.get('socket');
  if (params.has('traceparent')) options.headers.traceparent = params.get('traceparent');
  if (params.has('chunked')) options.headers['transfer-encoding'] = 'chunked';
  const request = http.request(url, options, (upstream) => {
    const chunks = [];
    upstream.on('data', (chunk) => chunks.push(chunk));
    upstream.on('end', () => answer(res, 200, Buffer.concat(chunks)));
    upstream.on('error', (error) => answer(res, 502, error.code));
  });
  request.on('error', (error) => answer(res, 502, error.code ?? error.message));
  if (params.has('timeout')) {
    request.setTimeout(Number(params.get('timeout')), () => request.destroy(new Error('ETIMEOUT')));
  }
  if (params.has('chunked')) {
    request.write('first');
    setImmediate(() => request.end('second'));
  } else request.end();
}

const routes = {
  '/plain': (req, res) => answer(res, 200, 'plain'),
  '/no-content': (req, res) => res.writeHead(204).end(),
  '/not-modified': (req, res) => res.writeHead(304, { etag: '"1"' }).end(),
  '/error': (req, res) => answer(res, 500, 'error'),
  '/decoy': (req, res) => answer(res, 200, DECOY),
  '/hints': (req, res) => {
    res.writeEarlyHints({ link: '</style.css>; rel=preload' }, () => answer(res, 200, 'hinted'));
  },
  '/chunked': (req, res) => {
    res.write('one');
    setImmediate(() => {
      res.write(DECOY);
      setImmediate(() => res.end('three'));
    });
  },
  '/large': (req, res) => answer(res, 200, 'x'.repeat(1_000_000)),
  // Neither a length nor chunks: the body ends with the connection.
  '/until-close': (req, res) => {
    req.socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end');
  },
  // Says 100 bytes, sends 10, resets.
  '/reset': (req, res) => {
    req.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789', () => {
      setTimeout(() => req.socket.resetAndDestroy(), 20);
    });
  },
  '/hang-up': (req) => req.socket.end(),
  '/slow': (req, res, params) => setTimeout(() => answer(res, 200, 'slow'), Number(params.get('ms'))),
  '/echo': (req, res) => {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', () => answer(res, 200, Buffer.concat(chunks)));
  },
  '/ask': ask,
};

function serve(req, res) {
  const url = new URL(req.url, 'http://workload');
  if (url.pathname === '/health') return answer(res, 200, '{}');
  // The last segment may be a number that tells requests apart.
  const route = routes[url.pathname.replace(/\/\d+$/, '')];
  if (req.method === 'GET' || req.method === 'HEAD') req.resume();
  if (!route) return answer(res, 404, 'none such');
  counts.answered(url.pathname, 0);
  return route(req, res, url.searchParams);
}

function listen(...where) {
  const server = http.createServer(serve);
  server.keepAliveTimeout = 75_000;
  // Another protocol: every line comes back, whatever it looks like.
  server.on('upgrade', (req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    socket.on('data', (data) => socket.write(data));
    socket.on('end', () => socket.end());
    socket.on('error', () => socket.destroy());
  });
  // A proxy for TCP.
  server.on('connect', (req, socket, head) => {
    const [host, port] = req.url.split(':');
    const target = net.connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      target.write(head);
      target.pipe(socket);
      socket.pipe(target);
    });
    target.on('error', () => socket.destroy());
    socket.on('error', () => target.destroy());
  });
  server.listen(...where);
}

listen(Number(PORT), HOST);
if (SOCKET) listen(SOCKET);
