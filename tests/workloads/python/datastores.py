"""Uses Redis or PostgreSQL through one client library, and writes down every operation.

The argument names the library. Each line of standard input names scenarios; each operation of theirs is
printed as a JSON line, as soon as it is over, and the end of a line's work as {"done": true}. Connections
that a scenario opens it closes, but for `steady`, which keeps its own.

No two operations look alike: Redis keys and SQL aliases (`op_...`, which a statement without its literals
keeps) have the scenario and a number. Every value has the marker in it that must never be exported.
"""

import asyncio
import itertools
import json
import os
import sys
import threading
import time
import uuid

SECRET = "s3cr3t-value"
CLIENT = sys.argv[1]
LARGE = (SECRET + "-") * 75_000  # about 1 MB
CONCURRENT = 20
MANY = 40

REDIS = {"port": int(os.environ["REDIS_PORT"]), "password": os.environ["REDIS_PASSWORD"]}
REDIS_SOCKET = {"path": os.environ["REDIS_SOCKET"], "password": os.environ["REDIS_PASSWORD"]}
PG_SOCKET = os.environ["PG_SOCKET_DIRECTORY"]

_lock = threading.Lock()
_numbers = itertools.count(1)


def say(**line):
    with _lock:
        print(json.dumps(line), flush=True)


def pauses():
    """Of many lengths, none long: 2 to 80 ms."""
    for number in range(100):
        yield
        time.sleep((2 + number * 37 % 79) / 1000)


def key(scenario):
    """A key that nobody else uses."""
    return f"{CLIENT}:{scenario}:{next(_numbers)}"


def alias(scenario):
    """An SQL identifier that no other statement has."""
    return f"op_{CLIENT.replace('-', '_')}_{scenario}_{next(_numbers)}"


def redis_op(name, target="", database="0", **more):
    say(system="redis", name=name, target=target, database=database, **more)


def sql_op(name, target="", **more):
    say(system="postgresql", name=name, target=target, database=os.environ["PGDATABASE"], **more)


def expected(code, facts):
    """Any other failure is the test's own."""
    if code != facts.get("error"):
        raise RuntimeError(f"{code} instead of {facts}")


# ---- Redis ----


def redis_commands(scenario, count):
    """Commands with their arguments and what is to be told of them."""
    for _ in range(count):
        name = key(scenario)
        yield ("SET", name, SECRET), {}
        yield ("GET", name), {}
        yield ("GET", name + ":none"), {"nil": True}
        yield ("HSET", name + ":hash", "field", SECRET), {}
        yield ("HGETALL", name + ":hash"), {}
        yield ("LPUSH", name, SECRET), {"error": "WRONGTYPE"}
        yield ("ZADD", name + ":set", "1", SECRET), {}
        yield ("ZSCORE", name + ":set", SECRET + "-none"), {"nil": True}
        yield ("EVAL", "return redis.call('get', KEYS[1])", 1, name), {"target": name}
        yield ("DEL", name), {}


def told(command, facts, **more):
    facts = dict(facts, **more)
    redis_op(command[0], facts.pop("target", command[1]), **facts)


def redis_cluster(scenario):
    """Every node has its part; then a slot moves from one node to the other while its key is asked for."""
    import redis.cluster

    client = redis.cluster.RedisCluster(host="127.0.0.1", **REDIS)

    def part():
        for command, facts in redis_commands(scenario, 1):
            try:
                client.execute_command(*command)
            except redis.ResponseError as error:
                expected(str(error).split()[0], facts)
            told(command, facts)

    threads = [threading.Thread(target=part) for _ in range(CONCURRENT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    name = key(scenario)
    slot = client.keyslot(name)
    owner = client.get_node_from_key(name)
    other = next(node for node in client.get_primaries() if node.port != owner.port)

    def admin(node, command, *words):
        redis_op(command)
        return client.execute_command(command, *words, target_nodes=node)

    def twice(error, *command, **facts):
        client.execute_command(*command)
        redis_op(command[0], name, error=error)
        redis_op(command[0], name, **facts)

    ids = [admin(node, "CLUSTER MYID") for node in (owner, other)]
    ids = [text.decode() for text in ids]
    admin(other, "CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
    admin(owner, "CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
    twice("ASK", "GET", name, nil=True)
    twice("ASK", "SET", name, SECRET)
    admin(other, "CLUSTER SETSLOT", slot, "NODE", ids[1])
    admin(owner, "CLUSTER SETSLOT", slot, "NODE", ids[1])
    twice("MOVED", "GET", name)
    client.delete(name)
    redis_op("DEL", name)
    client.close()


def redis_sync(scenario):
    import redis

    def sequence(client, count, **more):
        for command, facts in redis_commands(scenario, count):
            try:
                client.execute_command(*command)
            except redis.ResponseError as error:
                expected(str(error).split()[0], facts)
            told(command, facts, **more)

    if scenario == "cluster":
        return redis_cluster(scenario)
    if scenario == "steady":
        client = _kept.get("client") or _kept.setdefault("client", redis.Redis(**REDIS))
        return sequence(client, 2)
    if scenario == "database":
        client = redis.Redis(db=2, **REDIS)
    elif scenario == "resp3":
        client = redis.Redis(protocol=3, **REDIS)
    elif scenario == "unix":
        client = redis.Redis(unix_socket_path=REDIS_SOCKET["path"], password=REDIS_SOCKET["password"])
    else:
        client = redis.Redis(**REDIS)
    with client:
        if scenario == "concurrent":
            threads = [threading.Thread(target=sequence, args=(client, 3)) for _ in range(CONCURRENT)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        elif scenario in ("pipelined", "many"):
            for transaction in (False, True):
                pipeline = client.pipeline(transaction=transaction)
                commands = list(redis_commands(scenario, 2 * MANY if scenario == "many" else 4))
                for command, _ in commands:
                    pipeline.execute_command(*command)
                pipeline.execute(raise_on_error=False)
                redis_transaction(commands, transaction)
        elif scenario == "blocking":
            name = key(scenario)
            with redis.Redis(**REDIS) as other:
                waiting = threading.Thread(target=lambda: client.blpop([name], 20))
                waiting.start()
                blocked = 0
                while not blocked:
                    blocked = other.info("clients")["blocked_clients"]
                    redis_op("INFO")
                other.rpush(name, SECRET)
                redis_op("RPUSH", name)
                waiting.join()
                redis_op("BLPOP", name)
            # Nothing comes: an idle worker's poll is no span.
            client.blpop([name], 0.1)
        elif scenario == "large":
            name = key(scenario)
            client.set(name, LARGE)
            redis_op("SET", name)
            assert len(client.get(name)) == len(LARGE)
            redis_op("GET", name)
            sequence(client, 1)
        elif scenario == "database":
            sequence(client, 2, database="2")
        else:
            sequence(client, 4)


def redis_transaction(commands, transaction):
    if transaction:
        redis_op("MULTI")
        # The first of its errors.
        failed = next((facts["error"] for _, facts in commands if "error" in facts), None)
        redis_op("EXEC", **({"error": failed} if failed else {}))
    for command, facts in commands:
        # Within a transaction the answer to each is that it is queued; EXEC's answer has theirs.
        told(command, {"target": facts.get("target", command[1]), "queued": True} if transaction else facts)


async def redis_asyncio(scenario):
    import redis
    import redis.asyncio

    async def sequence(client, count):
        for command, facts in redis_commands(scenario, count):
            try:
                await client.execute_command(*command)
            except redis.ResponseError as error:
                expected(str(error).split()[0], facts)
            told(command, facts)

    async with redis.asyncio.Redis(protocol=3 if scenario == "resp3" else 2, **REDIS) as client:
        if scenario == "concurrent":
            await asyncio.gather(*(sequence(client, 3) for _ in range(CONCURRENT)))
        elif scenario in ("pipelined", "many"):
            for transaction in (False, True):
                pipeline = client.pipeline(transaction=transaction)
                commands = list(redis_commands(scenario, 2 * MANY if scenario == "many" else 4))
                for command, _ in commands:
                    pipeline.execute_command(*command)
                await pipeline.execute(raise_on_error=False)
                redis_transaction(commands, transaction)
        elif scenario == "slow":
            name = key(scenario)
            await client.set(name, LARGE)
            redis_op("SET", name)
            waiting = asyncio.create_task(client.get(name))
            await asyncio.sleep(0)
            time.sleep(0.3)  # The event loop reads nothing meanwhile.
            await waiting
            redis_op("GET", name)
            await sequence(client, 1)
        else:
            await sequence(client, 4)


# ---- PostgreSQL ----


def sql_statements(scenario, count, style="%s"):
    """Statements with their parameters and what is to be told of them, each its own row numbers."""
    one, two = ("$1", "$2") if style == "$" else ("%s", "%s")
    cast = "::int" if style == "$" else ""
    for number in range(1, count + 1):
        name = alias(scenario)
        select = f"SELECT {name}.name FROM orders AS {name} WHERE id <= {one}{cast} AND name <> {two}"
        yield select, (number, SECRET + "-none"), {"name": "SELECT orders", "target": name, "rows": number}
        name = alias(scenario)
        row = int(name.rsplit("_", 1)[1])
        insert = f"INSERT INTO items AS {name} VALUES ('{CLIENT}-{scenario}-{SECRET}', {one}{cast}, {two})"
        yield insert, (row, SECRET), {"name": "INSERT items", "target": name, "affected": 1}
        yield insert, (row, SECRET), {"name": "INSERT items", "target": name, "error": "23505"}
        name = alias(scenario)
        update = f"UPDATE orders AS {name} SET name = {two if style == '$' else one} WHERE id <= {one if style == '$' else two}"
        arguments = (number, SECRET) if style == "$" else (SECRET, number)
        yield update, arguments, {"name": "UPDATE orders", "target": name, "affected": number}
        name = alias(scenario)
        yield f"SELECT app.fn({one}{cast}) AS {name}", (number,), {"name": "SELECT app.fn", "target": name, "rows": 1}
        name = alias(scenario)
        yield f"SELECT nothing AS {name} WHERE '{SECRET}' <> ''", (), {"name": "SELECT", "target": name, "error": "42703"}
        name = alias(scenario)
        yield f"SELEKT {name}", (), {"name": "", "target": name, "error": "42601"}


def told_sql(facts):
    facts = dict(facts)
    sql_op(facts.pop("name"), facts.pop("target", ""), **facts)


def transaction_statements(scenario):
    count = MANY if scenario == "many" else 2
    return [s for s in sql_statements(scenario, count) if "error" not in s[2]]


def bulk(limit, text):
    """One statement, and the rows to execute it with in one turn, in several writes: row `n` changes `n` rows."""
    name = alias("bulk")
    rows = [(number % 10 + 1, SECRET * 4) for number in range(6_000)]
    for number, _ in rows:
        sql_op("UPDATE orders", name, affected=number)
    return f"UPDATE orders AS {name} SET name = {text} WHERE id <= {limit}", rows


def traced_comment(number):
    """A comment as sqlcommenter writes it, and the parent that it names."""
    trace, span = f"{number:032x}", f"{number:016x}"
    return f" /*action='{SECRET}',traceparent='00-{trace}-{span}-01'*/", f"{trace}-{span}"


def psycopg2_more(scenario, connect):
    """What is no query with an answer of rows."""
    import psycopg2

    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor()
    if scenario == "several":
        name = alias(scenario)
        update = f"UPDATE orders AS {name} SET name = '{SECRET}' WHERE id <= 3"
        cursor.execute(f"{update}; SELECT id FROM orders")
        sql_op("UPDATE orders; SELECT orders", name, statements=2)
        for text, error, failed in (
            ("SELECT 1 / 0; SELECT 2", "22012", "SELECT"),
            (f"INSERT INTO items VALUES ('{SECRET}', 'x', 'y'); SELECT 2", "22P02", "INSERT items"),
            ("SELEKT 2; SELECT 2", "42601", None),
        ):
            name = alias(scenario)
            update = f"UPDATE orders AS {name} SET name = '{SECRET}' WHERE id <= 3"
            try:
                cursor.execute(f"{update}; {text}")
            except psycopg2.Error as raised:
                expected(raised.pgcode, {"error": error})
            summary = {"SELECT": "UPDATE orders; SELECT", "INSERT items": "UPDATE orders; INSERT items; SELECT"}
            whole = summary.get(failed, "UPDATE orders; SELECT")
            sql_op(whole, name, statements=3, failed=failed, error=error)
    elif scenario == "comment":
        comment, parent = traced_comment(next(_numbers) + 4096)
        name = alias(scenario)
        cursor.execute(f"SELECT {name}.id FROM orders AS {name} WHERE id <= %s{comment}", (3,))
        sql_op("SELECT orders", name, rows=3, parent=parent)
        name = alias(scenario)
        cursor.execute(f"SELECT {name}.id FROM orders AS {name} WHERE id <= %s", (4,))
        sql_op("SELECT orders", name, rows=4)
    elif scenario == "notices":
        import select

        channel = alias(scenario)
        cursor.execute(f"LISTEN {channel}")
        sql_op("LISTEN", channel)
        cursor.execute(f"DO $$ BEGIN RAISE NOTICE '{SECRET}'; END $$")
        sql_op("DO")
        other = connect()
        other.autocommit = True
        # One that comes unasked, and one among an answer.
        for sender in (other, connection):
            sender.cursor().execute(f"NOTIFY {channel}, '{SECRET}'")
            sql_op("NOTIFY", channel)
            while not connection.notifies:
                select.select([connection], [], [], 1)
                connection.poll()
            connection.notifies.clear()
        other.close()
        name = alias(scenario)
        cursor.execute(f"SELECT {name}.id FROM orders AS {name} WHERE id <= 5")
        sql_op("SELECT orders", name, rows=5)
    elif scenario == "cancel":
        name = alias(scenario)
        errors = []

        def wait():
            try:
                cursor.execute(f"SELECT pg_sleep(60) AS {name}")
            except psycopg2.Error as raised:
                errors.append(raised.pgcode)

        waiting = threading.Thread(target=wait)
        waiting.start()
        while waiting.is_alive():
            # What comes before the server began has no effect.
            connection.cancel()
            waiting.join(0.1)
        expected(errors[0], {"error": "57014"})
        sql_op("SELECT pg_sleep", name, error="57014")
    elif scenario == "functions":
        # Large objects are read and written by function calls.
        connection.autocommit = False
        sql_op("BEGIN")
        made = connection.lobject(0, "wb")
        sql_op("CALL")  # lo_creat
        sql_op("CALL")  # lo_open
        made.write(SECRET.encode())
        sql_op("CALL")  # lowrite
        made.seek(0)
        sql_op("CALL")  # lo_lseek64
        made.read(5)
        sql_op("CALL")  # loread
        made.close()
        sql_op("CALL")  # lo_close
        connection.lobject(made.oid, "n").unlink()
        sql_op("CALL")  # lo_unlink
        connection.commit()
        sql_op("COMMIT")
    connection.close()


def psycopg2_sync(scenario):
    import psycopg2

    if scenario in ("several", "comment", "notices", "cancel", "functions"):
        return psycopg2_more(scenario, lambda: psycopg2.connect(host="127.0.0.1"))

    def sequence(count):
        # libpq has the rest from the environment.
        connection = psycopg2.connect(host=PG_SOCKET if scenario == "unix" else "127.0.0.1")
        connection.autocommit = True
        cursor = connection.cursor()
        for text, arguments, facts in sql_statements(scenario, count):
            try:
                cursor.execute(text, arguments)
            except psycopg2.Error as error:
                expected(error.pgcode, facts)
            told_sql(facts)
        connection.close()

    if scenario in ("steady", "busy"):
        if "client" not in _kept:
            _kept["client"] = psycopg2.connect(host="127.0.0.1")
            _kept["client"].autocommit = True
        cursor = _kept["client"].cursor()
        for _ in pauses() if scenario == "busy" else range(1):
            for text, arguments, facts in transaction_statements(scenario):
                cursor.execute(text, arguments)
                told_sql(facts)
        return None
    if scenario == "concurrent":
        return in_threads(sequence, 2)
    if scenario == "transaction":
        connection = psycopg2.connect(host="127.0.0.1")
        for end in (connection.commit, connection.rollback):
            cursor = connection.cursor()
            sql_op("BEGIN")
            for text, arguments, facts in transaction_statements(scenario):
                cursor.execute(text, arguments)
                told_sql(facts)
            end()
            sql_op("COMMIT" if end == connection.commit else "ROLLBACK")
        return connection.close()
    if scenario == "copy":
        import io

        connection = psycopg2.connect(host="127.0.0.1")
        connection.autocommit = True
        cursor = connection.cursor()
        rows = "".join(f"{CLIENT}-copy\t{number}\t{SECRET}\n" for number in range(50))
        cursor.copy_expert("COPY items FROM STDIN", io.StringIO(rows))
        sql_op("COPY items", affected=50)
        cursor.copy_expert("COPY orders TO STDOUT", io.StringIO())
        sql_op("COPY orders", affected=100)
        try:
            cursor.copy_expert("COPY items FROM STDIN", io.StringIO(f"x\t{SECRET}\ty\n" * 50))
        except psycopg2.Error as error:
            expected(error.pgcode, {"error": "22P02"})
        sql_op("COPY items", error="22P02")
        return connection.close()
    return sequence(3) if scenario != "large" else large_psycopg(psycopg2.connect(host="127.0.0.1"))


def large_psycopg(connection):
    connection.autocommit = True
    cursor = connection.cursor()
    name = alias("large")
    cursor.execute(f"SELECT {name}.id FROM orders AS {name} WHERE id <= 7 AND name <> %s", (LARGE,))
    sql_op("SELECT orders", name, rows=7)
    name = alias("large")
    cursor.execute(f"SELECT repeat('{SECRET}', 170000) AS {name}")
    assert len(cursor.fetchone()[0]) > 1_000_000
    sql_op("SELECT repeat", name, rows=1)
    for text, arguments, facts in sql_statements("large", 1):
        if "error" not in facts:
            cursor.execute(text, arguments)
            told_sql(facts)
    connection.close()


def in_threads(work, *arguments):
    threads = [threading.Thread(target=work, args=arguments) for _ in range(CONCURRENT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def psycopg_sync(scenario):
    import psycopg

    def connect():
        return psycopg.connect(host=PG_SOCKET if scenario == "unix" else "127.0.0.1", autocommit=True)

    def sequence(connection, count):
        for text, arguments, facts in sql_statements(scenario, count):
            try:
                connection.execute(text, arguments or None)
            except psycopg.Error as error:
                expected(error.sqlstate, facts)
            told_sql(facts)

    def alone(count):
        with connect() as connection:
            sequence(connection, count)

    if scenario == "steady":
        connection = _kept.get("client") or _kept.setdefault("client", connect())
        return sequence(connection, 1)
    if scenario == "concurrent":
        return in_threads(alone, 2)
    if scenario == "large":
        return large_psycopg(connect())
    with connect() as connection:
        if scenario == "bulk":
            # The order of the parameters is that of the text.
            text, rows = bulk("%(number)s", "%(name)s")
            rows = [{"number": number, "name": name} for number, name in rows]
            connection.cursor().executemany(text, rows)
            sequence(connection, 1)
            return
        if scenario in ("pipelined", "many"):
            with connection.pipeline():
                statements = list(transaction_statements(scenario)) * 2
                statements = [s for s in statements if not s[0].startswith("INSERT")]
                for text, arguments, _ in statements:
                    connection.execute(text, arguments)
            for _, _, facts in statements:
                told_sql(facts)
        elif scenario == "prepared":
            name = alias(scenario)
            text = f"SELECT {name}.name FROM orders AS {name} WHERE id <= %s"
            for number in range(1, 21):
                connection.execute(text, (number,), prepare=True)
                sql_op("SELECT orders", name, rows=number)
        elif scenario == "transaction":
            for number in range(2):
                with connection.transaction(force_rollback=number == 1):
                    sql_op("BEGIN")
                    for text, arguments, facts in transaction_statements(scenario):
                        connection.execute(text, arguments)
                        told_sql(facts)
                sql_op("ROLLBACK" if number else "COMMIT")
        elif scenario == "copy":
            with connection.cursor().copy("COPY items FROM STDIN") as copy:
                for number in range(50):
                    copy.write_row((f"{CLIENT}-copy", number, SECRET))
            sql_op("COPY items", affected=50)
            with connection.cursor().copy("COPY orders TO STDOUT") as copy:
                assert len(list(copy.rows())) == 100
            sql_op("COPY orders", affected=100)
            for error in ("22P02", "57014"):
                try:
                    with connection.cursor().copy("COPY items FROM STDIN") as copy:
                        copy.write_row((f"{CLIENT}-bad", SECRET if error == "22P02" else 7, SECRET))
                        if error == "57014":
                            raise ValueError(SECRET)
                except psycopg.Error as raised:
                    expected(raised.sqlstate, {"error": error})
                except ValueError:
                    pass
                sql_op("COPY items", error=error)
        else:
            sequence(connection, 3)


async def psycopg_asyncio(scenario):
    import psycopg

    async def sequence(count):
        async with await psycopg.AsyncConnection.connect(host="127.0.0.1", autocommit=True) as connection:
            for text, arguments, facts in sql_statements(scenario, count):
                try:
                    await connection.execute(text, arguments or None)
                except psycopg.Error as error:
                    expected(error.sqlstate, facts)
                told_sql(facts)

    if scenario == "concurrent":
        await asyncio.gather(*(sequence(2) for _ in range(CONCURRENT)))
    elif scenario == "pipelined":
        async with await psycopg.AsyncConnection.connect(host="127.0.0.1", autocommit=True) as connection:
            statements = transaction_statements(scenario)
            async with connection.pipeline() as pipeline:
                for text, arguments, facts in statements:
                    await connection.execute(text, arguments)
                    await pipeline.sync()
                    told_sql(facts)
            # The first fails, and the server passes over the rest.
            failing = [s for s in sql_statements(scenario, 1) if s[2].get("error") == "42703"]
            try:
                async with connection.pipeline():
                    for text, arguments, facts in failing + transaction_statements(scenario):
                        await connection.execute(text, arguments or None)
            except psycopg.Error:
                pass
            told_sql(failing[0][2])
    else:
        await sequence(3)


async def with_asyncpg(scenario):
    import asyncpg

    async def connect():
        if scenario == "unix":
            return await asyncpg.connect(host=PG_SOCKET)
        return await asyncpg.connect(host="127.0.0.1")

    async def sequence(connection, count):
        for text, arguments, facts in sql_statements(scenario, count, "$"):
            # One that cannot be prepared is never executed, and is told by the preparation that failed.
            try:
                await connection.fetch(text, *arguments)
            except asyncpg.PostgresError as error:
                expected(error.sqlstate, facts)
            told_sql(facts)

    async def alone(count):
        connection = await connect()
        await sequence(connection, count)
        await connection.close()

    if scenario == "steady":
        if "client" not in _kept:
            _kept["client"] = await connect()
        return await sequence(_kept["client"], 1)
    if scenario == "concurrent":
        return await asyncio.gather(*(alone(2) for _ in range(CONCURRENT)))
    connection = await connect()
    if scenario in ("pipelined", "many"):
        # In one pipeline, within a transaction that it makes of the group.
        name = alias(scenario)
        count = 300 if scenario == "many" else 15
        rows = [(number % 100 + 1, SECRET) for number in range(count)]
        await connection.executemany(f"UPDATE orders AS {name} SET name = $2 WHERE id <= $1", rows)
        for number, _ in rows:
            sql_op("UPDATE orders", name, affected=number)
    elif scenario == "bulk":
        text, rows = bulk("$1", "$2")
        await connection.executemany(text, rows)
        await sequence(connection, 1)
    elif scenario == "prepared":
        name = alias(scenario)
        statement = await connection.prepare(f"SELECT {name}.name FROM orders AS {name} WHERE id <= $1")
        for number in range(1, 21):
            await statement.fetch(number)
            sql_op("SELECT orders", name, rows=number)
    elif scenario == "comment":
        # It asks for a statement's types first, and keeps the statement.
        comment, parent = traced_comment(next(_numbers) + 4096)
        name = alias(scenario)
        text = f"SELECT {name}.name FROM orders AS {name} WHERE id <= $1{comment}"
        for number in range(1, 4):
            await connection.fetch(text, number)
            sql_op("SELECT orders", name, rows=number, **({"parent": parent} if number == 1 else {}))
    elif scenario == "transaction":
        for rolled_back in (False, True):
            transaction = connection.transaction()
            await transaction.start()
            sql_op("BEGIN")
            for text, arguments, facts in sql_statements(scenario, 2, "$"):
                if "error" not in facts:
                    await connection.fetch(text, *arguments)
                    told_sql(facts)
            await (transaction.rollback if rolled_back else transaction.commit)()
            sql_op("ROLLBACK" if rolled_back else "COMMIT")
    elif scenario == "copy":
        records = [(f"{CLIENT}-copy", number, SECRET) for number in range(50)]
        await connection.copy_records_to_table("items", records=records)
        sql_op("COPY items", affected=50)

        async def discard(_data):
            pass

        await connection.copy_from_table("orders", output=discard)
        sql_op("COPY orders", affected=100)
    elif scenario in ("large", "slow"):
        name = alias(scenario)
        text = f"SELECT {name}.id FROM orders AS {name} WHERE id <= 7 AND name <> $1"
        await connection.fetch(text, LARGE)
        sql_op("SELECT orders", name, rows=7)
        name = alias(scenario)
        asking = asyncio.create_task(connection.fetch(f"SELECT repeat('{SECRET}', 170000) AS {name}"))
        if scenario == "slow":
            for _ in range(20):
                await asyncio.sleep(0)
                time.sleep(0.02)  # The event loop reads little meanwhile.
        await asking
        sql_op("SELECT repeat", name, rows=1)
        await sequence(connection, 1)
    else:
        await sequence(connection, 3)
    await connection.close()


def sqlalchemy_orm(scenario):
    import sqlalchemy
    from sqlalchemy import orm

    url = "postgresql+psycopg2://postgres@127.0.0.1/" + os.environ["PGDATABASE"]
    engine = sqlalchemy.create_engine(url, pool_size=CONCURRENT)
    base = orm.declarative_base()

    class Thing(base):
        __tablename__ = "thing"
        id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
        name = sqlalchemy.Column(sqlalchemy.Text)
        number = sqlalchemy.Column(sqlalchemy.Integer)

    def work():
        with orm.Session(engine) as session:
            unique = uuid.uuid4().hex
            things = [Thing(name=SECRET + unique, number=number) for number in range(4)]
            sql_op("BEGIN")
            session.add(things[0])
            session.commit()
            sql_op("INSERT thing", affected=1, rows=1)
            sql_op("COMMIT")
            sql_op("BEGIN")
            session.add_all(things[1:])
            session.flush()
            # A statement of its own making, to know which row became which object.
            sql_op("INSERT thing SELECT", affected=3, rows=3)
            found = session.scalars(sqlalchemy.select(Thing).where(Thing.name == SECRET + unique)).all()
            assert len(found) == 4
            sql_op("SELECT thing", rows=4)
            session.rollback()
            sql_op("ROLLBACK")

    # What it asks of a new server, once.
    with engine.connect():
        for name in ("BEGIN", "ROLLBACK"):
            sql_op(name)
            sql_op(name)
    if scenario == "concurrent":
        in_threads(work)
    else:
        work()
    engine.dispose()


def django_orm(scenario):
    import django
    from django.conf import settings

    if not settings.configured:
        database = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1"}
        names = {"NAME": "PGDATABASE", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "PORT": "PGPORT"}
        database |= {name: os.environ[variable] for name, variable in names.items()}
        settings.configure(DATABASES={"default": database}, INSTALLED_APPS=[], USE_TZ=True)
        django.setup()
    from django.db import connection, models, transaction

    if "thing" not in _kept:

        class Thing(models.Model):
            id = models.AutoField(primary_key=True)
            name = models.TextField()
            number = models.IntegerField()

            class Meta:
                app_label = "shop"
                db_table = "thing"

        _kept["thing"] = Thing
    thing = _kept["thing"]

    def work():
        unique = SECRET + uuid.uuid4().hex
        thing.objects.create(name=unique, number=1)
        sql_op("INSERT thing", affected=1, rows=1)
        with transaction.atomic():
            sql_op("BEGIN")
            thing.objects.bulk_create([thing(name=unique, number=number) for number in range(3)])
            sql_op("INSERT thing", affected=3, rows=3)
            assert len(thing.objects.filter(name=unique)) == 4
            sql_op("SELECT thing", rows=4)
        sql_op("COMMIT")
        assert thing.objects.filter(name=unique).update(number=5) == 4
        sql_op("UPDATE thing", affected=4)
        assert thing.objects.filter(name=unique + "none").first() is None
        sql_op("SELECT thing", rows=0)
        connection.close()

    if scenario == "concurrent":
        in_threads(work)
    else:
        work()


_kept = {}
_clients = {
    "redis-py": redis_sync,
    "redis-py-asyncio": redis_asyncio,
    "psycopg2": psycopg2_sync,
    "psycopg": psycopg_sync,
    "psycopg-asyncio": psycopg_asyncio,
    "asyncpg": with_asyncpg,
    "sqlalchemy": sqlalchemy_orm,
    "django": django_orm,
}


def main():
    run = _clients[CLIENT]
    loop = asyncio.new_event_loop()
    say(ready=True)
    for line in sys.stdin:
        for scenario in line.split():
            if scenario == "silence":
                time.sleep(1.3)  # Longer than what the agent takes for one.
            elif asyncio.iscoroutinefunction(run):
                loop.run_until_complete(run(scenario))
            else:
                run(scenario)
        say(done=True)


main()
