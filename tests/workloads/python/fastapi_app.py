"""Stock: FastAPI under uvicorn, with coroutine endpoints and one that runs in the thread pool.

The id of each request is in the URL (`?rid=`) and goes on to the upstream in the URL.
Environment: UPSTREAM, optional: a base URL asked for `/prices/<id>` through httpx.
"""

import asyncio
import os
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, StreamingResponse

import counts

UPSTREAM = os.environ.get("UPSTREAM")
# A proxy from the environment is not part of the system under test.
_sync_client = httpx.Client(trust_env=False, timeout=30)


@asynccontextmanager
async def _lifespan(application):
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        application.state.client = client
        yield


app = FastAPI(lifespan=_lifespan)


class Count:
    """Counts below the framework, where the body's bytes are what the server will send."""

    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] == "/__counts":
            await self.inner(scope, receive, send)
            return
        size = 0

        async def counting(message):
            nonlocal size
            if message["type"] == "http.response.body":
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    route = scope.get("route")
                    counts.answered(f"{scope['method']} {route.path if route else 'unrouted'}", size)
            await send(message)

        await self.inner(scope, receive, counting)


app.add_middleware(Count)


def _read(answer):
    counts.asked("GET /prices/:id", len(answer.content))
    answer.raise_for_status()
    return answer.json()["price"]


async def _price(item, rid):
    if not UPSTREAM:
        return None
    return _read(await app.state.client.get(f"{UPSTREAM}/prices/{item}", params={"rid": rid}))


@app.get("/health")
async def health():
    return {"ok": True}


@app.get("/stock/{item}")
async def stock(item: int, rid: str = ""):
    return {"rid": rid, "item": item, "price": await _price(item, rid)}


@app.get("/stock-sync/{item}")
def stock_sync(item: int, rid: str = ""):
    price = None
    if UPSTREAM:
        price = _read(_sync_client.get(f"{UPSTREAM}/prices/{item}", params={"rid": rid}))
    return {"rid": rid, "item": item, "price": price}


@app.get("/gather/{item}")
async def gather(item: int, rid: str = ""):
    """Two calls at once, in two tasks of the same request."""
    prices = await asyncio.gather(_price(item, rid), _price(item + 1, rid))
    return {"rid": rid, "item": item, "prices": prices}


@app.get("/slow")
async def slow(ms: float = 200, rid: str = ""):
    await asyncio.sleep(ms / 1000)
    return {"rid": rid}


@app.get("/error")
async def error(rid: str = ""):
    return JSONResponse({"rid": rid, "error": "asked for"}, status_code=500)


@app.get("/stream")
async def stream(chunks: int = 4, bytes: int = 1000):
    async def body():
        for _ in range(chunks):
            yield b"s" * bytes

    return StreamingResponse(body(), media_type="text/plain")


@app.get("/__counts")
async def report():
    return Response(counts.report(), media_type="application/json")
