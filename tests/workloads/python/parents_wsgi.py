"""Accuracy: WSGI by hand and by frameworks, on several servers. FRAMEWORK chooses. See `calls.py`."""

import os

import calls


def bare():
    def application(environ, start_response):
        parts = environ["PATH_INFO"].strip("/").split("/")
        if len(parts) == 2:
            calls.SYNC[parts[0]](int(parts[1]))
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
        return [b"{}"]

    return application


def bottle():
    from bottle import Bottle

    application = Bottle()

    @application.get("/health")
    def health():
        return {"ok": True}

    @application.get("/<kind>/<rid:int>")
    def call(kind, rid):
        calls.SYNC[kind](rid)
        return {"rid": rid}

    return application


def falcon():
    import falcon

    class Health:
        def on_get(self, _request, response):
            response.media = {"ok": True}

    class Call:
        def on_get(self, _request, response, kind, rid):
            calls.SYNC[kind](rid)
            response.media = {"rid": rid}

    application = falcon.App()
    application.add_route("/health", Health())
    application.add_route("/{kind}/{rid:int}", Call())
    return application


app = {"bare": bare, "bottle": bottle, "falcon": falcon}[os.environ.get("FRAMEWORK", "bare")]()


def serve():
    """The servers that have no program that takes what is needed here."""
    port = int(os.environ["PORT"])
    server = os.environ["SERVER"]
    if server == "cheroot":
        from cheroot.wsgi import Server

        Server(("127.0.0.1", port), app, numthreads=20, request_queue_size=512).start()
    elif server == "cherrypy":
        import cherrypy

        cherrypy.tree.graft(app, "/")
        cherrypy.config.update(
            {
                "server.socket_host": "127.0.0.1",
                "server.socket_port": port,
                "server.thread_pool": 20,
                "server.socket_queue_size": 512,
                "log.screen": False,
                "engine.autoreload.on": False,
            }
        )
        cherrypy.engine.start()
        cherrypy.engine.block()
    elif server == "waitress":
        from waitress import serve

        serve(app, host="127.0.0.1", port=port, threads=8, backlog=512)
    elif server == "wsgiref":
        from socketserver import ThreadingMixIn
        from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

        class Quiet(WSGIRequestHandler):
            def log_message(self, *_arguments):
                pass

        class Threaded(ThreadingMixIn, WSGIServer):
            daemon_threads = True
            request_queue_size = 512

        make_server("127.0.0.1", port, app, Threaded, Quiet).serve_forever()
    elif server == "werkzeug":
        from werkzeug.serving import run_simple

        run_simple("127.0.0.1", port, app, threaded=True)


if __name__ == "__main__":
    serve()
