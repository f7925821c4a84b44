"""Sends receipts, or would: takes orders from RabbitMQ with pika, one at a time, and asks what each cost.

Environment: PORT, where it says that it is there; UPSTREAM; RABBITMQ_URL; GO, a file: if this is set, it connects
when the file is there, and says that it is there itself before that.
"""

import http.server
import os
import threading
import time

import pika
import requests

import counts

UPSTREAM = os.environ["UPSTREAM"]
GO = os.environ.get("GO")
session = requests.Session()
# A proxy from the environment is not part of the system under test.
session.trust_env = False


class Report(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = counts.report().encode() if self.path == "/__counts" else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def send(channel, method, properties, body):
    answer = session.get(f"{UPSTREAM}/prices/{body.decode()}", timeout=30)
    counts.asked("GET /prices/:id", len(answer.content))
    counts.answered("receipt", 0)
    channel.basic_ack(method.delivery_tag)


def answer():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Report)
    threading.Thread(target=server.serve_forever, daemon=True).start()


if GO:
    answer()
    while not os.path.exists(GO):
        time.sleep(0.02)
connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
channel = connection.channel()
channel.queue_declare("receipts", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("receipts", send)
if not GO:
    answer()
print("at work", flush=True)
channel.start_consuming()
