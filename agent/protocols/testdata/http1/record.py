"""Records what real HTTP/1.1 clients and servers say to each other, one .http file per session.

Run `python3 record.py` here, with node, python3 and curl on the path. A proxy between the two sides
writes every chunk that it passes on, in order:

    > LENGTH\\n<LENGTH bytes>\\n      from the client
    < LENGTH\\n<LENGTH bytes>\\n      from the server
    > end\\n  or  < end\\n            a FIN

Every path ends in an id, and every response that can carries it in its content-type (`id=...`), so that
a test can tell a right pair from a wrong one.
"""

import os
import select
import socket
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))

NODE_SERVER = r"""
const http = require('http');
const id = (url) => url.replace(/\?.*/, '').split('/').pop();
const server = http.createServer((req, res) => {
  const type = `text/plain; id=${id(req.url)}`;
  const kind = req.url.replace(/^http:\/\/[^/]*/, '').split('/')[1];
  let got = 0;
  if (kind === 'refuse') {
    res.writeHead(413, { 'content-type': type, 'content-length': 9 });
    res.end('too large');
    req.resume();
    return;
  }
  if (kind === 'hints') res.writeEarlyHints({ link: '</style.css>; rel=preload' });
  req.on('data', (data) => { got += data.length; });
  req.on('end', () => {
    const body = `got ${got}\n`;
    res.setHeader('content-type', type);
    if (kind === 'length') { res.setHeader('content-length', body.length); res.end(body); }
    else if (kind === 'empty') { res.writeHead(204); res.end(); }
    else if (kind === 'unchanged') { res.writeHead(304, { etag: '"1"' }); res.end(); }
    else if (kind === 'missing') { res.writeHead(404, { 'content-length': 0 }); res.end(); }
    else if (kind === 'trailers') {
      res.writeHead(200, { trailer: 'x-sum' });
      res.write(body); res.addTrailers({ 'x-sum': 'abc' }); res.end();
    }
    else { // chunked, in three writes of which one looks like framing
      res.write(body);
      setImmediate(() => { res.write('\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'); setImmediate(() => res.end(body)); });
    }
  });
});
server.on('upgrade', (req, socket) => {
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\ncontent-type: text/plain; id=${id(req.url)}\r\n\r\n`);
  socket.pipe(socket);
});
server.on('connect', (req, socket) => {
  socket.write('HTTP/1.1 200 Connection established\r\ncontent-type: text/plain; id=443\r\n\r\n');
  socket.pipe(socket);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""

PYTHON_SERVER = r"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.' + MINOR
    def do_GET(self):
        self.rfile.read(int(self.headers.get('content-length', 0)))
        body = b'hello\n' * 20
        self.send_response(200)
        self.send_header('content-type', 'text/plain; id=' + self.path.rsplit('/', 1)[1])
        if MINOR == '1':
            self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

NODE_CLIENT = r"""
const http = require('http');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const parent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const call = (method, path, headers, writes) => new Promise((done, fail) => {
  const req = http.request({ host: '127.0.0.1', port: PORT, agent, method, path, headers }, (res) => {
    res.resume(); res.on('end', done);
  });
  req.on('error', fail);
  for (const write of writes) req.write(write);
  req.end();
});
(async () => {
  await call('GET', '/length/a1?secret=1', { traceparent: parent, tracestate: 'a=1,b=2' }, []);
  await call('GET', '/chunks/a2', {}, []);
  await call('POST', '/length/a3', { 'content-length': 40 }, ['GET /not/x HTTP/1.1\r\n', 'x'.repeat(19)]);
  await call('POST', '/chunks/a4', { 'content-type': 'application/json' }, ['{"a":', '1}\r\n', '0\r\n\r\n']);
  await call('HEAD', '/length/a5', {}, []);
  await call('DELETE', '/empty/a6', {}, []);
  await call('GET', '/unchanged/a7', { 'if-none-match': '"1"' }, []);
  await call('PUT', '/missing/a8', { 'content-length': 0 }, []);
  await call('GET', '/hints/a9', {}, []);
  await call('PATCH', '/trailers/a10', {}, ['abc']);
  await call('GET', '/length/a11', {}, []);
  agent.destroy();
})();
"""

PYTHON_CLIENT = r"""
import http.client
connection = http.client.HTTPConnection('127.0.0.1', PORT)
for at in range(4):
    body = None if at % 2 == 0 else b'x' * 100
    connection.request('POST' if body else 'GET', f'/hello/b{at}', body)
    connection.getresponse().read()
connection.close()
"""


def raw(*turns):
    """A client that writes, waits until the answer holds what it expects, and goes on."""
    return "import socket\ns = socket.create_connection(('127.0.0.1', PORT))\n" + "".join(
        f"s.sendall({said!r})\nseen = b''\n"
        f"while seen.count({wanted!r}) < {times}:\n    seen += s.recv(65536)\n"
        for said, wanted, times in turns
    ) + "s.shutdown(1)\nwhile s.recv(65536): pass\n"


def get(path, more=b""):
    return b"GET " + path + b" HTTP/1.1\r\nhost: example.org\r\n" + more + b"\r\n"


def record(name, server, client):
    served = subprocess.Popen(server, stdout=subprocess.PIPE)
    target = int(served.stdout.readline())
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with open(os.path.join(HERE, name + ".http"), "wb") as out:
        def proxy():
            inner, _ = listener.accept()
            outer = socket.create_connection(("127.0.0.1", target))
            ways = {inner: (b">", outer), outer: (b"<", inner)}
            while ways:
                for ready in select.select(list(ways), [], [])[0]:
                    sign, other = ways[ready]
                    data = ready.recv(65536)
                    if data:
                        out.write(b"%s %d\n%s\n" % (sign, len(data), data))
                        other.sendall(data)
                    else:
                        out.write(sign + b" end\n")
                        del ways[ready]
                        other.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=proxy)
        thread.start()
        subprocess.run(
            [word.replace("PORT", str(port)) for word in client],
            check=True, stdout=subprocess.DEVNULL, timeout=20,
        )
        thread.join(timeout=20)
        if thread.is_alive():
            sys.exit(f"{name}: the server keeps its connection open")
    served.kill()
    served.wait()


node = ["node", "-e", NODE_SERVER]
python = lambda minor: ["python3", "-c", f"MINOR = '{minor}'\n" + PYTHON_SERVER]
python_client = lambda source: ["python3", "-c", source]
curl = ["curl", "-sS"]

record("node-keep-alive", node, ["node", "-e", NODE_CLIENT])
record("python-keep-alive", python(1), python_client(PYTHON_CLIENT))
record("python-http10", python(0), [*curl, "http://127.0.0.1:PORT/hello/c1"])
record("curl-expect", node, [
    *curl, "-H", "expect: 100-continue", "--data-binary", "x" * 200, "http://127.0.0.1:PORT/length/d1",
    "--next", *curl[1:], "http://127.0.0.1:PORT/chunks/d2",
])
record("curl-absolute", node, [*curl, "-x", "127.0.0.1:PORT", "http://user:pw@example.org:81/length/e1?q",
                               "http://example.org:81/chunks/e2"])
record("refused", node, python_client(raw(
    (b"POST /refuse/f1 HTTP/1.1\r\nhost: example.org\r\ncontent-length: 50\r\n\r\n12345", b"too large", 1),
    (b"x" * 45 + get(b"/length/f2"), b"got 0", 1),
)))
record("upgrade", node, python_client(raw(
    (get(b"/length/g1"), b"got 0", 1),
    (get(b"/socket/g2", b"connection: upgrade\r\nupgrade: echo\r\n"), b"\r\n\r\n", 1),
    (get(b"/inside/g3"), b"g3", 1),
)))
record("connect", node, python_client(raw(
    (b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n", b"\r\n\r\n", 1),
    (b"\x16\x03\x01\x00\x05hello", b"hello", 1),
)))
record("pipelined", node, python_client(raw(
    (get(b"/length/h1"), b"got 0", 1),
    (get(b"/length/h2") + get(b"/chunks/h3") + get(b"/length/h4") + get(b"/empty/h5"), b"HTTP/1.1 2", 5),
    (b"POST /length/h6 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc" + get(b"/unchanged/h7"), b"HTTP/1.1 304", 1),
    (get(b"/length/h8"), b"got 0", 1),
)))
