"""Accuracy: Django in one file, synchronous views under gunicorn and coroutines under uvicorn. See `calls.py`."""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

import calls

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="no secret", MIDDLEWARE=[], DEBUG=False
)
django.setup()


def health(_request):
    return JsonResponse({"ok": True})


def call(_request, kind, rid):
    calls.SYNC[kind](rid)
    return JsonResponse({"rid": rid})


async def call_async(_request, kind, rid):
    await calls.ASYNC[kind](rid)
    return JsonResponse({"rid": rid})


urlpatterns = [
    path("health", health),
    path("async/<kind>/<int:rid>", call_async),
    path("<kind>/<int:rid>", call),
]
asgi = get_asgi_application()
wsgi = get_wsgi_application()
