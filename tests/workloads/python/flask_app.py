"""Orders: Flask, for gunicorn's sync and gthread workers.

The id of each request is in the URL (`?rid=`) and goes on to the upstream in the URL.
Environment: UPSTREAM, optional: a base URL asked for `/prices/<id>` through one `requests` session a thread.
"""

import os
import threading
import time

import requests
from flask import Flask, Response, jsonify, request

import counts

UPSTREAM = os.environ.get("UPSTREAM")
app = Flask(__name__)
_local = threading.local()


def _price(order, rid):
    if not UPSTREAM:
        return None
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        # A proxy from the environment is not part of the system under test.
        _local.session.trust_env = False
    answer = _local.session.get(f"{UPSTREAM}/prices/{order}", params={"rid": rid}, timeout=30)
    counts.asked("GET /prices/:id", len(answer.content))
    answer.raise_for_status()
    return answer.json()["price"]


@app.after_request
def _count(response):
    if request.path != "/__counts":
        route = request.url_rule.rule if request.url_rule else "unrouted"
        counts.answered(f"{request.method} {route}", response.content_length or 0)
    return response


@app.get("/health")
def health():
    return jsonify(ok=True)


@app.get("/api/orders/<int:order>")
def get_order(order):
    rid = request.args.get("rid", "")
    return jsonify(rid=rid, order=order, price=_price(order, rid))


@app.post("/api/orders")
def post_order():
    rid = request.args.get("rid", "")
    return jsonify(rid=rid, received=request.get_json()), 201


@app.get("/slow")
def slow():
    time.sleep(float(request.args.get("ms", "200")) / 1000)
    return jsonify(rid=request.args.get("rid", ""))


@app.get("/error")
def error():
    return jsonify(rid=request.args.get("rid", ""), error="asked for"), 500


@app.get("/__counts")
def report():
    return Response(counts.report(), mimetype="application/json")
