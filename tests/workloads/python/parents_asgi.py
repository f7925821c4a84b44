"""Accuracy: what more servers and frameworks do with the same calls. FRAMEWORK chooses. See `calls.py`."""

import os

import calls


def bare():
    """No framework: ASGI by hand."""

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            return await send({"type": "lifespan.shutdown.complete"})
        parts = scope["path"].strip("/").split("/")
        if len(parts) == 2:
            await calls.ASYNC[parts[0]](int(parts[1]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    return application


def quart():
    from quart import Quart

    application = Quart(__name__)

    @application.get("/health")
    async def health():
        return {"ok": True}

    @application.get("/<kind>/<int:rid>")
    async def call(kind, rid):
        await calls.ASYNC[kind](rid)
        return {"rid": rid}

    return application


def litestar():
    from litestar import Litestar, get

    @get("/health", sync_to_thread=False)
    def health() -> dict:
        return {"ok": True}

    @get("/{kind:str}/{rid:int}")
    async def call(kind: str, rid: int) -> dict:
        await calls.ASYNC[kind](rid)
        return {"rid": rid}

    return Litestar([health, call])


def falcon():
    import falcon.asgi

    class Health:
        async def on_get(self, _request, response):
            response.media = {"ok": True}

    class Call:
        async def on_get(self, _request, response, kind, rid):
            await calls.ASYNC[kind](rid)
            response.media = {"rid": rid}

    application = falcon.asgi.App()
    application.add_route("/health", Health())
    application.add_route("/{kind}/{rid:int}", Call())
    return application


def sanic():
    from sanic import Sanic
    from sanic.response import json as answer

    application = Sanic("parents")

    @application.get("/health")
    async def health(_request):
        return answer({"ok": True})

    @application.get("/<kind>/<rid:int>")
    async def call(_request, kind, rid):
        await calls.ASYNC[kind](rid)
        return answer({"rid": rid})

    return application


def channels():
    import django
    from django.conf import settings

    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="parents_asgi", INSTALLED_APPS=["channels"])
    django.setup()
    from channels.routing import ProtocolTypeRouter
    from django.core.asgi import get_asgi_application

    return ProtocolTypeRouter({"http": get_asgi_application()})


FRAMEWORK = os.environ.get("FRAMEWORK", "bare")

if FRAMEWORK == "channels":
    from django.http import JsonResponse
    from django.urls import path

    async def _health(_request):
        return JsonResponse({"ok": True})

    async def _call(_request, kind, rid):
        await calls.ASYNC[kind](rid)
        return JsonResponse({"rid": rid})

    urlpatterns = [path("health", _health), path("<str:kind>/<int:rid>", _call)]

app = {
    "bare": bare,
    "quart": quart,
    "litestar": litestar,
    "falcon": falcon,
    "sanic": sanic,
    "channels": channels,
}[FRAMEWORK]()

if __name__ == "__main__":
    # Sanic serves itself.
    app.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        single_process=True,
        access_log=False,
        motd=False,
    )
