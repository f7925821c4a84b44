"""Records the captures in this folder: real clients against a real server, through a relay.

    PGPORT=5432 python3 record.py [NAME]...

It needs a PostgreSQL server on 127.0.0.1:$PGPORT with a superuser `postgres` that may come in without a
password (`initdb -A trust -U postgres`), psql, node with the packages pg and postgres (NODE_PATH), and
Python with asyncpg, psycopg and psycopg2. The relay writes every chunk that it passes on, in order:

    > LENGTH\\n<LENGTH bytes>\\n      from the client
    < LENGTH\\n<LENGTH bytes>\\n      from the server
    > end\\n  or  < end\\n            a FIN

Every statement that gives rows says how many in its text (`n=5`), each another number, so that a test
can tell a right pair from a wrong one.
"""

import os
import select
import socket
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER = int(os.environ.get("PGPORT", "5432"))

NODE_PG = r"""
const { Client } = require('pg');
(async () => {
  const c = new Client({ host: '127.0.0.1', port: PORT, user: 'postgres', database: 'postgres', application_name: 'shop' });
  await c.connect();
  await c.query('SELECT generate_series(1, 3) AS a -- n=3');
  await c.query('SELECT generate_series(1, $1::int) /* n=4 */', [4]);
  for (const n of [5, 5]) await c.query({ name: 'five', text: 'SELECT generate_series(1, $1::int) /* n=5 */', values: [n] });
  await c.query('BEGIN');
  await c.query('CREATE TEMP TABLE items (id int PRIMARY KEY, t text)');
  await c.query("INSERT INTO items SELECT i, $1 FROM generate_series(1, 6) i /* n=6 */", ['secret']);
  await c.query("INSERT INTO items VALUES (1, 'secret')").catch(() => {});
  await c.query('ROLLBACK');
  await c.query('SELECT $1::int / 0', [1]).catch(() => {});
  await c.query('SELECT generate_series(1, 7); SELECT 1 WHERE false; SELECT generate_series(1, 2) /* n=9 */');
  await c.query('');
  await c.query('SELECT no_such_column, $1', [1]).catch(() => {});
  await c.query('SELECT generate_series(1, $1::int) /* n=8 */', [8]);
  await c.end();
})();
"""

POSTGRES_JS = r"""
Math.random = () => 0.2;  // names of statements are random
const postgres = require('postgres');
(async () => {
  const sql = postgres({ host: '127.0.0.1', port: PORT, user: 'postgres', database: 'postgres', max: 1, fetch_types: false, onnotice: () => {} });
  await sql`SELECT generate_series(1, ${1}::int) /* n=1 */`;
  await Promise.all([
    sql`SELECT generate_series(1, ${2}::int) /* n=2 */`,
    sql`SELECT generate_series(1, ${3}::int) /* n=3 */`,
    sql`SELECT generate_series(1, ${1}::int) /* n=1 */`,
    sql`SELECT ${1}::int / 0`.catch(() => {}),
    sql`SELECT generate_series(1, ${4}::int) /* n=4 */`,
  ]);
  await sql.unsafe('SELECT generate_series(1, 5) /* n=5 */');
  await sql.begin(async (t) => {
    await t`SELECT generate_series(1, ${6}::int) /* n=6 */`;
    await Promise.all([t`SELECT generate_series(1, ${7}::int) /* n=7 */`, t`SELECT generate_series(1, ${3}::int) /* n=3 */`]);
  });
  await sql.end();
})();
"""

ASYNCPG = r"""
import asyncio, asyncpg
async def main():
    c = await asyncpg.connect(host='127.0.0.1', port=PORT, user='postgres', database='postgres', ssl=False)
    await c.execute('SELECT generate_series(1, 2) /* n=2 */')
    for _ in range(2):
        await c.fetch('SELECT generate_series(1, $1::int) /* n=3 */', 3)
    await c.execute('CREATE TEMP TABLE t (id int, s text)')
    await c.executemany('INSERT INTO t VALUES ($1, $2) /* n=1 */', [(i, 'secret') for i in range(4)])
    await c.copy_records_to_table('t', records=[(i, 'x' * 100) for i in range(30)])
    try:
        await c.fetch('SELECT * FROM no_such_table')
    except asyncpg.PostgresError:
        pass
    async with c.transaction():
        cursor = await c.cursor('SELECT generate_series(1, 10)')
        await cursor.fetch(4)
        await cursor.fetch(4)
        await cursor.fetch(4)
    got = asyncio.Event()
    await c.add_listener('news', lambda *_: got.set())
    await c.execute("NOTIFY news, 'secret'")
    await got.wait()
    await c.fetch('SELECT generate_series(1, $1::int) /* n=5 */', 5)
    await c.close()
asyncio.run(main())
"""

PSYCOPG = r"""
import psycopg
with psycopg.connect('host=127.0.0.1 port=PORT user=postgres dbname=postgres sslmode=disable', autocommit=True) as c:
    c.execute('SELECT generate_series(1, 2) /* n=2 */')
    c.execute('SELECT generate_series(1, %s::int) /* n=3 */', (3,))
    with c.pipeline() as p:
        for n in (4, 5, 6):
            c.execute(f'SELECT generate_series(1, %s::int) /* n={n} */', (n,))
        p.sync()
        try:
            c.execute('SELECT generate_series(1, %s::int) /* n=7 */', (7,))
            c.execute('SELECT %s::int / 0', (1,))
            c.execute('SELECT generate_series(1, %s::int) /* n=8 */', (8,))
            p.sync()
        except psycopg.Error:
            pass
    c.execute('CREATE TEMP TABLE t (id int PRIMARY KEY, s text)')
    with c.cursor().copy('COPY t FROM STDIN /* n=9 */') as copy:
        for i in range(9):
            copy.write_row((i, 'secret'))
    with c.cursor().copy('COPY t TO STDOUT /* n=9 */') as copy:
        for _ in copy:
            pass
    try:
        with c.cursor().copy('COPY t FROM STDIN') as copy:
            for i in range(3):
                copy.write_row((i, 'secret'))
    except psycopg.Error:
        pass
    c.execute('SELECT generate_series(1, %s::int) /* n=10 */', (10,))
    for _ in range(7):
        c.execute('SELECT generate_series(1, %s::int) /* n=11 */', (11,))
"""

PSYCOPG2 = r"""
import psycopg2
c = psycopg2.connect('host=127.0.0.1 port=PORT user=postgres dbname=postgres')
with c.cursor() as k:
    k.execute('SELECT generate_series(1, %s) /* n=3 */', (3,))
    k.execute("DO $$ BEGIN RAISE NOTICE 'secret'; END $$")
    try:
        k.execute("DO $$ BEGIN RAISE EXCEPTION 'secret'; END $$")
    except psycopg2.Error:
        c.rollback()
with c.cursor('named') as k:
    k.itersize = 4
    k.execute('SELECT generate_series(1, 6)')
    k.fetchall()
c.commit()
c.close()
"""

RAW = r"""
import socket, struct
s = socket.create_connection(('127.0.0.1', PORT))
def typed(kind, body=b''):
    return kind + struct.pack('>I', len(body) + 4) + body
def until_ready(seen=b''):
    while not (seen[-6:-1] == b'Z\0\0\0\5'):
        seen += s.recv(65536)
body = struct.pack('>I', 196608) + b'user\0postgres\0database\0postgres\0\0'
s.sendall(struct.pack('>I', len(body) + 4) + body)
until_ready()
# int4abs(-5), by its OID: a function call.
s.sendall(typed(b'F', struct.pack('>IHHHi', 1251, 1, 1, 1, 4) + struct.pack('>i', -5) + struct.pack('>H', 1)))
until_ready()
# A prepared statement that fails with nothing to execute it, and one that a Flush ends.
s.sendall(typed(b'P', b'bad\0SELECT nothing FROM nowhere\0\0\0') + typed(b'D', b'Sbad\0') + typed(b'S'))
until_ready()
s.sendall(typed(b'P', b'good\0SELECT generate_series(1, 3)\0\0\0') + typed(b'D', b'Sgood\0') + typed(b'H'))
seen = b''
while b'generate_series' not in seen:
    seen += s.recv(65536)
s.sendall(typed(b'B', b'\0good\0\0\0\0\0\0\0') + typed(b'E', b'\0\0\0\0\2') + typed(b'E', b'\0\0\0\0\0') + typed(b'C', b'Sgood\0') + typed(b'S'))
until_ready()
# A deferred constraint: the error comes at the Sync.
s.sendall(typed(b'Q', b'CREATE TEMP TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)\0'))
until_ready()
s.sendall(typed(b'P', b'\0INSERT INTO d VALUES (1), (1)\0\0\0') + typed(b'B', b'\0\0\0\0\0\0\0\0') + typed(b'E', b'\0\0\0\0\0') + typed(b'S'))
until_ready()
s.sendall(typed(b'X'))
while s.recv(65536): pass
s.close()
"""


def record(name, client):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with open(os.path.join(HERE, name + ".pg"), "wb") as out:
        def relay():
            inner, _ = listener.accept()
            outer = socket.create_connection(("127.0.0.1", SERVER))
            ways = {inner: (b">", outer), outer: (b"<", inner)}
            while ways:
                for ready in select.select(list(ways), [], [])[0]:
                    sign, other = ways[ready]
                    try:
                        data = ready.recv(65536)
                    except ConnectionResetError:
                        data = b""
                    if data:
                        out.write(b"%s %d\n%s\n" % (sign, len(data), data))
                        other.sendall(data)
                    else:
                        out.write(sign + b" end\n")
                        del ways[ready]
                        try:
                            other.shutdown(socket.SHUT_WR)
                        except OSError:
                            pass
        thread = threading.Thread(target=relay)
        thread.start()
        subprocess.run(
            [word.replace("PORT", str(port)) for word in client],
            check=True, stdout=subprocess.DEVNULL, timeout=20,
        )
        thread.join(timeout=20)
        if thread.is_alive():
            sys.exit(f"{name}: the server keeps its connection open")


python = lambda source: [sys.executable, "-c", source]
CAPTURES = {
    "psql": ["psql", "-q", "-h", "127.0.0.1", "-p", "PORT", "-U", "postgres", "-d", "postgres",
             "-c", "SELECT generate_series(1, 3) /* n=3 */", "-c", "BEGIN; SELECT 1; COMMIT"],
    "node-pg": ["node", "-e", NODE_PG],
    "postgres-js": ["node", "-e", POSTGRES_JS],
    "asyncpg": python(ASYNCPG),
    "psycopg": python(PSYCOPG),
    "psycopg2": python(PSYCOPG2),
    "raw": python(RAW),
}
for name in sys.argv[1:] or CAPTURES:
    record(name, CAPTURES[name])
