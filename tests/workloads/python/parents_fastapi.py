"""Accuracy: FastAPI, with coroutine endpoints and one that runs in the thread pool. See `calls.py`."""

from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

import calls


@asynccontextmanager
async def _lifespan(_application):
    await calls.eager()
    yield


app = FastAPI(lifespan=_lifespan)


@app.get("/health")
async def health():
    return {"ok": True}


@app.get("/in-threads/{rid}")
def in_threads(rid: int):
    calls.sync_three(rid)
    return {"rid": rid}


@app.get("/background/{rid}")
async def background(rid: int, tasks: BackgroundTasks):
    tasks.add_task(calls.key, rid)
    return {"rid": rid}


@app.get("/streaming/{rid}")
async def streaming(rid: int):
    async def body():
        for _ in range(3):
            await calls.key(rid)
            yield b"x" * 1000

    return StreamingResponse(body())


@app.get("/{kind}/{rid}")
async def call(kind: str, rid: int):
    await calls.ASYNC[kind](rid)
    return {"rid": rid}
