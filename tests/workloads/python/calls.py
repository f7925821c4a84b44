"""What the applications of the accuracy measurement do for a request: calls that carry its number.

The number is in the URL, in the Redis key and in the alias that a statement gives its column: that is the
truth, which the agent doesn't know. Pools are smaller than the number of requests at once. Environment:
UPSTREAM, REDIS_PORT, REDIS_PASSWORD, PG*; EAGER: connections are opened before the first request.
"""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

UPSTREAM = os.environ.get("UPSTREAM")
EAGER = bool(os.environ.get("EAGER"))
# What is too large for a socket's buffer leaves it when the loop finds room.
LARGE = "x" * 8_000_000


class Later:
    """Makes something at its first use."""

    def __init__(self, make):
        self.make = make
        self.made = None
        # Before 3.10 a lock belongs to the loop that there is when it is made.
        self.lock = None

    async def __call__(self):
        if self.made is None:
            self.lock = self.lock or asyncio.Lock()
            async with self.lock:
                if self.made is None:
                    self.made = await self.make()
        return self.made


async def _http():
    import httpx

    limits = httpx.Limits(max_connections=3, max_keepalive_connections=3)
    return httpx.AsyncClient(trust_env=False, timeout=60, limits=limits, base_url=UPSTREAM)


async def _redis():
    from redis import asyncio as redis

    pool = redis.BlockingConnectionPool(
        port=int(os.environ["REDIS_PORT"]),
        password=os.environ["REDIS_PASSWORD"],
        max_connections=2,
        timeout=60,
    )
    return redis.Redis(connection_pool=pool)


async def _asyncpg():
    import asyncpg

    return await asyncpg.create_pool(host="127.0.0.1", min_size=1, max_size=3)


async def _alchemy():
    from sqlalchemy.ext.asyncio import create_async_engine

    place = f"{os.environ['PGUSER']}:{os.environ['PGPASSWORD']}@127.0.0.1:{os.environ['PGPORT']}"
    url = f"postgresql+asyncpg://{place}/{os.environ['PGDATABASE']}"
    return create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=60)


async def _aiohttp():
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=3))


http, redis, pg, alchemy, aiohttp_session = map(Later, [_http, _redis, _asyncpg, _alchemy, _aiohttp])
_executor = ThreadPoolExecutor(4)
_local = threading.local()
background = set()


def sync_redis():
    """One connection a thread."""
    import redis as library

    if not hasattr(_local, "redis"):
        _local.redis = library.Redis(
            port=int(os.environ["REDIS_PORT"]), password=os.environ["REDIS_PASSWORD"]
        )
    return _local.redis


def sync_session():
    import requests

    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.trust_env = False
    return _local.session


def sync_pg():
    import psycopg

    if not hasattr(_local, "pg"):
        _local.pg = psycopg.connect(host="127.0.0.1", autocommit=True)
    return _local.pg


class Writer:
    """Does all requests' calls in one task of its own, as clients that share a connection do."""

    def __init__(self):
        self.queue = None

    def begin(self):
        if self.queue is None:
            self.queue = asyncio.Queue()
            background.add(asyncio.create_task(self.work()))

    async def work(self):
        while True:
            rid, done = await self.queue.get()
            await key(rid)
            done.set_result(None)

    async def __call__(self, rid):
        self.begin()
        done = asyncio.get_running_loop().create_future()
        await self.queue.put((rid, done))
        await done


writer = Writer()


async def eager():
    if EAGER:
        writer.begin()
        await (await pg()).fetchval("SELECT 1")
        await (await redis()).ping()


async def get(rid):
    (await (await http()).get(f"/prices/{rid}")).raise_for_status()


async def key(rid):
    await (await redis()).get(f"rid:{rid}")


async def row(rid):
    await (await pg()).fetchval(f"SELECT $1::int AS rid_{rid}", rid)


def sync_get(rid):
    sync_session().get(f"{UPSTREAM}/prices/{rid}").raise_for_status()


def sync_key(rid):
    sync_redis().get(f"rid:{rid}")


def sync_row(rid):
    sync_pg().execute(f"SELECT %s::int AS rid_{rid}", [rid]).fetchone()


async def three(rid):
    await get(rid)
    await key(rid)
    await row(rid)


async def four(rid):
    await three(rid)
    await key(rid)


async def gathered(rid):
    await asyncio.gather(get(rid), key(rid), row(rid))


async def task(rid):
    async def after_a_while():
        await asyncio.sleep(0)
        await key(rid)
        await asyncio.sleep(0.001)
        await row(rid)

    await asyncio.create_task(after_a_while())


async def executor(rid):
    await asyncio.get_running_loop().run_in_executor(_executor, sync_key, rid)


async def thread(rid):
    await asyncio.to_thread(sync_key, rid)


async def orm(rid):
    from sqlalchemy import text

    async with (await alchemy()).connect() as connection:
        await connection.execute(text(f"SELECT 1 AS rid_{rid}"))


async def session(rid):
    async with (await aiohttp_session()).get(f"{UPSTREAM}/prices/{rid}") as answer:
        await answer.read()


async def outlives(rid):
    """Answers at once; what it began goes on."""

    async def work():
        await asyncio.sleep(0.02)
        await key(rid)

    work = asyncio.create_task(work())
    background.add(work)
    work.add_done_callback(background.discard)


async def large(rid):
    await (await redis()).set(f"rid:{rid}", LARGE)


async def cancelled(rid):
    """A task that is cancelled while it waits, and another call after it."""
    waiting = asyncio.create_task(asyncio.sleep(60))
    await key(rid)
    waiting.cancel()
    await row(rid)


_alone = None


async def alone(rid):
    """Without anything of asyncio: for other loops."""
    global _alone
    if _alone is None:
        import httpx

        limits = httpx.Limits(max_connections=3, max_keepalive_connections=3)
        _alone = httpx.AsyncClient(trust_env=False, timeout=60, limits=limits, base_url=UPSTREAM)
    (await _alone.get(f"/prices/{rid}")).raise_for_status()


async def _psycopg():
    import psycopg_pool

    pool = psycopg_pool.AsyncConnectionPool("host=127.0.0.1", min_size=2, max_size=2, open=False)
    await pool.open()
    return pool


psycopg_pool = Later(_psycopg)


async def pooled(rid):
    async with (await psycopg_pool()).connection(timeout=60) as connection:
        await connection.execute(f"SELECT %s::int AS rid_{rid}", [rid])


ASYNC = {
    "alone": alone,
    "pooled": pooled,
    "three": three,
    "four": four,
    "gathered": gathered,
    "task": task,
    "executor": executor,
    "thread": thread,
    "orm": orm,
    "session": session,
    "outlives": outlives,
    "large": large,
    "cancelled": cancelled,
    "writer": writer,
}


def sync_three(rid):
    sync_get(rid)
    sync_key(rid)
    sync_row(rid)


def sync_pool(rid):
    _executor.submit(sync_key, rid).result()


def sync_two(rid):
    sync_get(rid)
    sync_key(rid)


def sync_spawned(rid):
    import gevent

    gevent.spawn(sync_key, rid).get()


_lock = threading.Lock()
_shared = {}


def _once(name, make):
    """What all threads share."""
    with _lock:
        if name not in _shared:
            _shared[name] = make()
        return _shared[name]


def _urllib3():
    import urllib3

    return urllib3.PoolManager(maxsize=2, block=True)


def _sync_httpx():
    import httpx

    limits = httpx.Limits(max_connections=2, max_keepalive_connections=2)
    return httpx.Client(trust_env=False, timeout=60, limits=limits)


def _sync_pool():
    import psycopg_pool

    return psycopg_pool.ConnectionPool("host=127.0.0.1", min_size=2, max_size=2, timeout=60, open=True)


def _psycopg2():
    import psycopg2.pool

    return psycopg2.pool.ThreadedConnectionPool(2, 100, "host=127.0.0.1")


def _redis_pool():
    import redis

    pool = redis.BlockingConnectionPool(
        port=int(os.environ["REDIS_PORT"]),
        password=os.environ["REDIS_PASSWORD"],
        max_connections=2,
        timeout=60,
    )
    return redis.Redis(connection_pool=pool)


def sync_shared(rid):
    """Clients with pools that all threads share."""
    pool = _once("urllib3", _urllib3)
    assert pool.request("GET", f"{UPSTREAM}/prices/{rid}").status == 200
    client = _once("httpx", _sync_httpx)
    client.get(f"{UPSTREAM}/prices/{rid}").raise_for_status()
    with _once("pool", _sync_pool).connection() as connection:
        connection.execute(f"SELECT %s::int AS rid_{rid}", [rid])
    _once("redis", _redis_pool).get(f"rid:{rid}")


def sync_older(rid):
    """psycopg2, and the standard library's client, a connection for each."""
    import http.client
    import urllib.parse

    place = urllib.parse.urlsplit(UPSTREAM)
    connection = http.client.HTTPConnection(place.hostname, place.port)
    connection.request("GET", f"/prices/{rid}")
    assert connection.getresponse().read()
    connection.close()
    pool = _once("psycopg2", _psycopg2)
    connection = pool.getconn()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT %s::int AS rid_{rid}", [rid])
    pool.putconn(connection)


def sync_four(rid):
    """What `four` does, with the clients of threads; a connection to the database for each of these."""
    import psycopg2

    sync_get(rid)
    sync_key(rid)
    if not hasattr(_local, "psycopg2"):
        _local.psycopg2 = psycopg2.connect("host=127.0.0.1")
        _local.psycopg2.autocommit = True
    with _local.psycopg2.cursor() as cursor:
        cursor.execute(f"SELECT %s::int AS rid_{rid}", [rid])
    sync_key(rid)


SYNC = {
    "shared": sync_shared,
    "older": sync_older,
    "three": sync_three,
    "four": sync_four,
    "two": sync_two,
    "pool": sync_pool,
    "spawned": sync_spawned,
}
