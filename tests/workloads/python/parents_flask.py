"""Accuracy: Flask under gunicorn. See `calls.py`."""

from flask import Flask

import calls

app = Flask(__name__)


@app.get("/health")
def health():
    return {"ok": True}


@app.get("/<kind>/<int:rid>")
def call(kind, rid):
    calls.SYNC[kind](rid)
    return {"rid": rid}
