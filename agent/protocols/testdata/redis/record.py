"""Records what real Redis clients and a real server say to each other, one .resp file per session.

Run `python3 record.py` here, or with the names of those that are wanted, with redis-server and node on the path, the package redis for this python3,
and ioredis where NODE_PATH says. A relay between the two sides writes every chunk that it
passes on, in order:

    > LENGTH\\n<LENGTH bytes>\\n      from the client
    < LENGTH\\n<LENGTH bytes>\\n      from the server
    > end\\n  or  < end\\n            a FIN

Keys tell what belongs to them, so that a test can tell a right pair from a wrong one: a string at `s:N`
has N bytes, a list at `l:N` N items, a hash at `h:N` N fields.
"""

import os
import select
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))

IOREDIS = r"""
const Redis = require('ioredis');
(async () => {
  const redis = new Redis({ port: PORT, db: 2, enableReadyCheck: false });
  const sizes = [3, 30, 11, 60];
  await Promise.all(sizes.map((n) => redis.set(`s:${n}`, 'x'.repeat(n), 'EX', 60)));
  for (const n of sizes.slice(0, 3)) await redis.get(`s:${n}`);
  await Promise.all(sizes.map((n) => redis.get(`s:${n}`)));
  await redis.rpush('l:4', 'one', 'two', 'three', 'four');
  await redis.hset('h:2', { secretfield: 'secret value', other: '2' });
  const pipeline = redis.pipeline();
  pipeline.get('s:11').lrange('l:4', 0, -1).hgetall('h:2').get('s:3').incr('s:3').exists('s:3', 's:60');
  await pipeline.exec();
  await redis.multi().get('s:30').get('s:60').lrange('l:4', 0, 1).exec();
  await redis.eval("return redis.call('get', KEYS[1])", 1, 's:30');
  await Promise.all([redis.get('s:60'), redis.blpop('none', 0.05), redis.get('s:3')]);
  await redis.quit();
})();
"""

REDIS_PY = r"""
import redis
r = redis.Redis(port=PORT, protocol=PROTOCOL, db=1)
sizes = [5, 40, 17]
for n in sizes:
    r.set(f's:{n}', 'y' * n)
if PROTOCOL == 2:
    with r.pipeline(transaction=False) as p:
        for n in sizes[::-1]:
            p.get(f's:{n}')
        p.execute()
    with r.pipeline() as p:
        for n in sizes:
            p.get(f's:{n}')
        p.execute()
    for n in sizes:
        assert len(r.get(f's:{n}')) == n
r.rpush('l:3', 'a', 'b', 'c')
r.hset('h:3', mapping={'f': 'v', 'g': 'w', 'secret': 'secret'})
assert len(r.hgetall('h:3')) == 3
r.zadd('z', {'a': 1.5, 'b': 2})
r.zrange('z', 0, -1, withscores=True)
r.sadd('set', 'a', 'b')
r.smembers('set')
r.xadd('stream', {'field': 'value'})
r.xread({'stream': '0'}, count=10, block=10)
r.xgroup_create('stream', 'group', '0')
r.xreadgroup('group', 'me', {'stream': '>'})
r.blpop(['none', 'l:3'], timeout=1)
r.brpop('none', timeout=1)
try:
    r.lpush('s:5', 'no')
except redis.ResponseError:
    pass
try:
    r.execute_command('NOSUCH', 'secret')
except redis.ResponseError:
    pass
r.execute_command('SELECT', 3)
r.get('s:5')
r.connection_pool.disconnect()
"""

PUBSUB = r"""
import redis
other = redis.Redis(port=SERVER)
pubsub = redis.Redis(port=PORT, protocol=PROTOCOL).pubsub()
def wait(kind):
    while True:
        message = pubsub.get_message(timeout=5)
        if message is not None and message['type'] == kind:
            return
pubsub.subscribe('news', 'weather')
wait('subscribe'); wait('subscribe')
pubsub.psubscribe('n*')
wait('psubscribe')
other.publish('news', 'secret message')
wait('message'); wait('pmessage')
pubsub.ping()
wait('pong')
pubsub.unsubscribe('news')
wait('unsubscribe')
other.publish('weather', 'secret rain')
wait('message')
pubsub.unsubscribe()
wait('unsubscribe')
pubsub.punsubscribe()
wait('punsubscribe')
pubsub.connection.send_command('GET', 's:4')
pubsub.connection.read_response()
pubsub.close()
"""


def bulk(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def raw(*turns):
    """A client that writes, waits until the answer ends as expected, and goes on."""
    return "import socket\ns = socket.create_connection(('127.0.0.1', PORT))\n" + "".join(
        f"s.sendall({said!r})\nseen = b''\n"
        f"while not seen.endswith({wanted!r}):\n    seen += s.recv(65536)\n"
        for said, wanted in turns
    ) + "s.shutdown(1)\nwhile s.recv(65536): pass\n"


def record(name, client):
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def relay():
        inner, _ = listener.accept()
        outer = socket.create_connection(("127.0.0.1", SERVER))
        ways = {inner: (b">", outer), outer: (b"<", inner)}
        with open(os.path.join(HERE, name + ".resp"), "wb") as out:
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
                        try:
                            other.shutdown(socket.SHUT_WR)
                        except OSError:
                            pass  # The other side was first.

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    words = [word.replace("PORT", str(port)).replace("SERVER", str(SERVER)) for word in client]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=30)
    thread.join(timeout=5)
    if thread.is_alive():
        sys.exit(f"{name}: the connection stays open")
    # Each recording finds the same server.
    if server.poll() is None:
        with socket.create_connection(("127.0.0.1", SERVER)) as control:
            control.sendall(b"FLUSHALL\r\n")
            control.recv(100)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


SERVER = free_port()
server = subprocess.Popen(
    ["redis-server", "--port", str(SERVER), "--bind", "127.0.0.1", "--save", "",
     "--enable-debug-command", "yes"],
    stdout=subprocess.DEVNULL,
)
try:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", SERVER)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    python = lambda source: [sys.executable, "-c", source]
    record("ioredis", ["node", "-e", IOREDIS])
    for protocol in "23":
        record(f"redis-py-resp{protocol}", python(REDIS_PY.replace("PROTOCOL", protocol)))
        record(f"pubsub-resp{protocol}", python(PUBSUB.replace("PROTOCOL", protocol)))
    record("raw", python(raw(
        (b"PING\r\n", b"+PONG\r\n"),
        (b"\r\nset s:6 \"sixsix\" ex 100\r\n", b"+OK\r\n"),
        (b"GET s:6\r\n", b"sixsix\r\n"),
        (bulk(b"SET", b"s:9", b"ninebytes") + bulk(b"GET", b"s:9") + b"get s:6\r\n" + bulk(b"GET", b"s:0"),
         b"$-1\r\n"),
        (bulk(b"HELLO", b"3", b"SETNAME", b"me"), b"modules\r\n*0\r\n"),
        (bulk(b"GET", b"s:0") + bulk(b"GET", b"s:9"), b"ninebytes\r\n"),
        # Debugging commands answer with every type of RESP3.
        (b"".join(bulk(b"DEBUG", b"PROTOCOL", kind) for kind in (
            b"string", b"integer", b"double", b"null", b"array", b"set", b"map", b"attrib", b"verbatim",
            b"true", b"bignum")) + bulk(b"GET", b"s:6"), b"sixsix\r\n"),
        (bulk(b"CLIENT", b"REPLY", b"OFF") + bulk(b"SET", b"s:2", b"22") + bulk(b"CLIENT", b"REPLY", b"ON"),
         b"+OK\r\n"),
        (bulk(b"CLIENT", b"REPLY", b"SKIP") + bulk(b"SET", b"s:3", b"333") + bulk(b"GET", b"s:3"), b"333\r\n"),
        (bulk(b"MULTI") + bulk(b"GET", b"s:2") + bulk(b"NOSUCH", b"secret") + bulk(b"EXEC"), b"errors.\r\n"),
        (bulk(b"MULTI") + bulk(b"SELECT", b"4") + bulk(b"DISCARD") + bulk(b"GET", b"s:9"), b"ninebytes\r\n"),
        (bulk(b"SUBSCRIBE", b"a", b"b") + bulk(b"GET", b"s:9"), b"ninebytes\r\n"),
        (bulk(b"UNSUBSCRIBE") + bulk(b"GET", b"s:2"), b"22\r\n"),
        (bulk(b"EVAL", b"local t = 'deep' for i = 1, 6 do t = {t, i} end return t", b"0"), b":6\r\n"),
        (bulk(b"SELECT", b"5") + bulk(b"RESET") + bulk(b"GET", b"s:9"), b"ninebytes\r\n"),
        (bulk(b"CONFIG", b"GET", b"maxmemory") + bulk(b"AUTH", b"user", b"secret"), b"disabled.\r\n"),
        (bulk(b"MONITOR"), b"+OK\r\n"),
        (bulk(b"PING"), b"\"PING\"\r\n"),
    )))
    library = b"#!lua name=lib\nredis.register_function('count_up', function(keys) return redis.call('INCR', keys[1]) end)"
    turns = [
        (bulk(b"MULTI") + bulk(b"SET", b"s:1", b"x") + bulk(b"INCR", b"s:1") + bulk(b"GET", b"none") + bulk(b"LPUSH", b"s:1", b"no")
         + bulk(b"EXEC") + bulk(b"GET", b"s:1"), b"$1\r\nx\r\n"),
        (bulk(b"MULTI") + bulk(b"MULTI") + bulk(b"GET", b"s:1") + bulk(b"DISCARD") + bulk(b"GET", b"s:1"), b"$1\r\nx\r\n"),
        (bulk(b"SUBSCRIBE", b"a", b"b") + bulk(b"PSUBSCRIBE", b"p*") + bulk(b"SSUBSCRIBE", b"s") + bulk(b"UNSUBSCRIBE")
         + bulk(b"UNSUBSCRIBE") + bulk(b"UNSUBSCRIBE", b"x") + bulk(b"PUNSUBSCRIBE") + bulk(b"PUNSUBSCRIBE") + bulk(b"SUNSUBSCRIBE")
         + bulk(b"SUNSUBSCRIBE") + bulk(b"GET", b"s:1"), b"$1\r\nx\r\n"),
        (bulk(b"ZADD", b"z", b"1", b"ch") + bulk(b"XADD", b"st", b"*", b"secret", b"acked") + bulk(b"RPUSH", b"l:1", b"before")
         + bulk(b"LINSERT", b"l:1", b"before", b"before", b"after") + bulk(b"LPOP", b"none") + bulk(b"GET", b"s:1"), b"$1\r\nx\r\n"),
        (bulk(b"FUNCTION", b"LOAD", b"REPLACE", library) + bulk(b"FCALL", b"count_up", b"1", b"n") + bulk(b"FCALL", b"count_up", b"1", b"s:1")
         + bulk(b"EVAL", b"return redis.error_reply('ERR user secret set')", b"0") + bulk(b"EVALSHA", b"a" * 40, b"0")
         + bulk(b"NOSUCH.ADD", b"secret") + bulk(b"GET", b"s:1"), b"$1\r\nx\r\n"),
        (b"set \"s:\\x33\" 'x\\'x'\r\nget s:3\r\n", b"x'x\r\n"),
        (bulk(b"SHUTDOWN", b"NOSAVE"), b""),
    ]
    # The server is gone then.
    record("words", python(raw(*turns)))
finally:
    server.kill()
    server.wait()
