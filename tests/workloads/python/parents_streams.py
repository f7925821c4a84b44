"""Accuracy: HTTP by hand over `asyncio.start_server`: one task a connection. See `calls.py`."""

import asyncio
import os

import calls


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            kind, rid = head.split(b" ")[1].decode().strip("/").partition("/")[::2]
            if rid:
                await calls.ASYNC[kind](int(rid))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main():
    await calls.eager()
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]), backlog=1024)
    await server.serve_forever()


asyncio.run(main())
