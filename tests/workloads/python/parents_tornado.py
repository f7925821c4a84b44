"""Accuracy: Tornado, whose reads are in the task that serves the connection or in a reader's. See `calls.py`."""

import asyncio
import os

from tornado import web

import calls


class Health(web.RequestHandler):
    async def get(self):
        self.write({"ok": True})


class Call(web.RequestHandler):
    async def get(self, kind, rid):
        await calls.ASYNC[kind](int(rid))
        self.write({"rid": rid})


async def main():
    await calls.eager()
    application = web.Application([("/health", Health), (r"/(\w+)/(\d+)", Call)])
    application.listen(int(os.environ["PORT"]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
