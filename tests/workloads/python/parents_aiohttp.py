"""Accuracy: aiohttp's server, which serves all requests of a connection in one task. See `calls.py`."""

import os

from aiohttp import web

import calls


async def health(_request):
    return web.json_response({"ok": True})


async def call(request):
    rid = int(request.match_info["rid"])
    await calls.ASYNC[request.match_info["kind"]](rid)
    return web.json_response({"rid": rid})


async def _begin(_application):
    await calls.eager()


app = web.Application()
app.on_startup.append(_begin)
app.add_routes([web.get("/health", health), web.get("/{kind}/{rid}", call)])

if __name__ == "__main__":
    if os.environ.get("LOOP") == "uvloop":
        import uvloop

        uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None)
