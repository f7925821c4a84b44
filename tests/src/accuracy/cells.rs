//! The cells: which application, how it is started, which kind of call, and how many each request makes.

mod node;

use std::path::Path;

use anyhow::{Context, Result};

use crate::workloads::{Installed, Spec};

pub use node::NODE_CELLS;

/// The three applications whose cost `cargo xtask bench` measures: four calls a request each.
///
/// # Errors
/// Never, as long as the cells are there.
pub fn costed() -> Result<[&'static Cell; 3]> {
    let four = |cells: &'static [Cell], name| {
        let cell = cells
            .iter()
            .find(|cell| cell.name == name && cell.calls == 4 && cell.may_withhold.is_none());
        cell.with_context(|| format!("no cell of {name} with four calls"))
    };
    Ok([
        four(NODE_CELLS, "Express")?,
        four(CELLS, "Flask, gthread")?,
        four(CELLS, "FastAPI, asyncio")?,
    ])
}

/// What runs a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runtime {
    Python,
    /// With this framework, and these kinds of calls.
    Node {
        framework: &'static str,
        calls: &'static str,
    },
}

/// A server that only some cells ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Redis, PostgreSQL and the service for prices, which all have.
    Nothing,
    /// RabbitMQ too.
    RabbitMq,
    /// Kafka too.
    Kafka,
}

/// One application with one kind of call.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Framework and server.
    pub name: &'static str,
    /// What its calls are, for the table.
    pub kind: &'static str,
    runtime: Runtime,
    /// A server besides.
    pub asks: Asks,
    /// Arguments of the agent besides.
    pub agent: &'static [&'static str],
    /// The oldest major version of the runtime that its framework takes.
    pub oldest: u32,
    /// The program's arguments: of `python` (`-m` included) or the name of a script of its own.
    arguments: &'static [&'static str],
    /// Its environment.
    environment: &'static [(&'static str, &'static str)],
    /// Before the number.
    pub path: &'static str,
    /// Calls that each request makes.
    pub calls: usize,
    /// The agent is there before the application: connections that this opens when it starts are seen whole.
    pub agent_first: bool,
    /// The server ends each connection with its response.
    pub closes: bool,
    /// Withheld by design, with why; the bar is then only that none is wrong.
    pub may_withhold: Option<&'static str>,
}

impl Cell {
    /// Whether Node.js runs it; else Python.
    #[must_use]
    pub fn is_node(&self) -> bool {
        matches!(self.runtime, Runtime::Node { .. })
    }

    /// The application, not started. `node`: the program that runs those of Node.js.
    pub(super) fn spec(&self, installed: &Installed, node: &Path) -> Result<Spec> {
        let spec = match self.runtime {
            Runtime::Python => installed.python("front", &[])?,
            Runtime::Node { framework, calls } => {
                installed.parents_any("front", node, framework)?.env("CALLS", calls)
            }
        };
        let port = spec.port().to_string();
        let arguments: Vec<String> =
            self.arguments.iter().map(|argument| argument.replace("{port}", &port)).collect();
        let mut spec = spec.arguments(arguments);
        spec = spec.env("UVICORN_PORT", port).env("UVICORN_TIMEOUT_KEEP_ALIVE", "75");
        if self.agent_first {
            // By which a rule tells this very process before it listens.
            let port = spec.port().to_string();
            spec = spec.arguments(["--port", &port]);
        }
        for (name, value) in self.environment {
            spec = spec.env(name, *value);
        }
        Ok(spec)
    }
}

const WRITER: &str = "who asks is not to be seen in what the task does";

const ONE_TASK: &str =
    "the first request of each connection: that its task serves it shows when it answers";

const TIME_LIMIT: &str = "a time limit on the socket makes its reads look like an event loop's";

const OWN_QUEUE: &str = "one thread reads, and hands over to others in a queue of its own";

const OUTLIVES: &str =
    "more than half a second after the response, when they queue for two connections";

type Arguments = &'static [&'static str];

const ASYNCIO: Arguments =
    &["-m", "uvicorn", "--loop", "asyncio", "--no-access-log", "parents_fastapi:app"];
const UVLOOP: Arguments =
    &["-m", "uvicorn", "--loop", "uvloop", "--no-access-log", "parents_fastapi:app"];
const DJANGO_ASGI: Arguments =
    &["-m", "uvicorn", "--loop", "asyncio", "--no-access-log", "parents_django:asgi"];
const FLASK_SYNC: Arguments =
    &["-m", "gunicorn", "--workers", "4", "--backlog", "512", "parents_flask:app"];
const FLASK_GTHREAD: Arguments = &[
    "-m",
    "gunicorn",
    "--workers",
    "2",
    "--worker-class",
    "gthread",
    "--threads",
    "20",
    "--keep-alive",
    "75",
    "parents_flask:app",
];
const FLASK_GEVENT: Arguments =
    &["-m", "gunicorn", "--worker-class", "gevent", "--keep-alive", "75", "parents_flask:app"];
const DJANGO_WSGI: Arguments = &[
    "-m",
    "gunicorn",
    "--workers",
    "2",
    "--worker-class",
    "gthread",
    "--threads",
    "20",
    "--keep-alive",
    "75",
    "parents_django:wsgi",
];

const LITESTAR: Arguments =
    &["-m", "uvicorn", "--loop", "asyncio", "--no-access-log", "parents_asgi:app"];
const HYPERCORN: Arguments = &["-m", "hypercorn", "--bind", BIND, "parents_asgi:app"];
const HYPERCORN_UVLOOP: Arguments =
    &["-m", "hypercorn", "--worker-class", "uvloop", "--bind", BIND, "parents_asgi:app"];
const HYPERCORN_TRIO: Arguments =
    &["-m", "hypercorn", "--worker-class", "trio", "--bind", BIND, "parents_asgi:app"];
const DAPHNE: Arguments = &[
    "-m",
    "daphne",
    "-b",
    "127.0.0.1",
    "-p",
    PORT,
    "--access-log",
    "/dev/null",
    "parents_asgi:app",
];
const BOTTLE: Arguments = &[
    "-m",
    "gunicorn",
    "--worker-class",
    "gthread",
    "--threads",
    "20",
    "--keep-alive",
    "75",
    "parents_wsgi:app",
];

/// In arguments: where the application listens.
const BIND: &str = "127.0.0.1:{port}";
const PORT: &str = "{port}";

const fn cell(
    name: &'static str,
    kind: &'static str,
    arguments: Arguments,
    path: &'static str,
    calls: usize,
) -> Cell {
    Cell {
        name,
        kind,
        runtime: Runtime::Python,
        asks: Asks::Nothing,
        agent: &[],
        oldest: 0,
        arguments,
        environment: &[],
        path,
        calls,
        agent_first: false,
        closes: false,
        may_withhold: None,
    }
}

const fn eager(cell: Cell) -> Cell {
    Cell { environment: &[("EAGER", "1")], agent_first: true, ..cell }
}

const fn closes(cell: Cell) -> Cell {
    Cell { closes: true, ..cell }
}

const fn on_uvloop(cell: Cell) -> Cell {
    Cell { environment: &[("LOOP", "uvloop")], ..cell }
}

const fn of(framework: &'static [(&'static str, &'static str)], cell: Cell) -> Cell {
    Cell { environment: framework, ..cell }
}

const fn may_withhold(cell: Cell, why: &'static str) -> Cell {
    Cell { may_withhold: Some(why), ..cell }
}

/// All of them.
#[rustfmt::skip]
pub const CELLS: &[Cell] = &[
    cell("FastAPI, asyncio", "httpx, redis, asyncpg", ASYNCIO, "/three", 3),
    eager(cell("FastAPI, asyncio", "the same, connected at start", ASYNCIO, "/three", 3)),
    cell("FastAPI, asyncio", "httpx, redis, asyncpg, redis", ASYNCIO, "/four", 4),
    cell("FastAPI, asyncio", "gather", ASYNCIO, "/gathered", 3),
    cell("FastAPI, asyncio", "a task of its own", ASYNCIO, "/task", 2),
    cell("FastAPI, asyncio", "run_in_executor, redis", ASYNCIO, "/executor", 1),
    cell("FastAPI, asyncio", "to_thread, redis", ASYNCIO, "/thread", 1),
    cell("FastAPI, asyncio", "SQLAlchemy on asyncpg", ASYNCIO, "/orm", 1),
    cell("FastAPI, asyncio", "aiohttp's client", ASYNCIO, "/session", 1),
    cell("FastAPI, asyncio", "in worker threads: requests, redis, psycopg", ASYNCIO, "/in-threads", 3),
    may_withhold(cell("FastAPI, asyncio", "BackgroundTasks", ASYNCIO, "/background", 1), "more than 5 s after the response, when they queue for two connections"),
    cell("FastAPI, asyncio", "streaming response", ASYNCIO, "/streaming", 3),
    may_withhold(cell("FastAPI, asyncio", "a task that outlives its request", ASYNCIO, "/outlives", 1), OUTLIVES),
    cell("FastAPI, asyncio", "beside a cancelled task", ASYNCIO, "/cancelled", 2),
    may_withhold(cell("FastAPI, asyncio", "through a task that writes for all, begun in a request", ASYNCIO, "/writer", 1), WRITER),
    may_withhold(eager(cell("FastAPI, asyncio", "through a task that writes for all, begun at start", ASYNCIO, "/writer", 1)), WRITER),
    cell("FastAPI, uvloop", "httpx, redis, asyncpg", UVLOOP, "/three", 3),
    eager(cell("FastAPI, uvloop", "the same, connected at start", UVLOOP, "/three", 3)),
    cell("FastAPI, uvloop", "gather", UVLOOP, "/gathered", 3),
    cell("FastAPI, uvloop", "a task of its own", UVLOOP, "/task", 2),
    cell("FastAPI, uvloop", "run_in_executor, redis", UVLOOP, "/executor", 1),
    cell("FastAPI, uvloop", "to_thread, redis", UVLOOP, "/thread", 1),
    cell("FastAPI, uvloop", "SQLAlchemy on asyncpg", UVLOOP, "/orm", 1),
    cell("FastAPI, uvloop", "aiohttp's client", UVLOOP, "/session", 1),
    cell("FastAPI, uvloop", "in worker threads: requests, redis, psycopg", UVLOOP, "/in-threads", 3),
    may_withhold(cell("FastAPI, uvloop", "a task that outlives its request", UVLOOP, "/outlives", 1), OUTLIVES),
    cell("aiohttp, asyncio", "httpx, redis, asyncpg", &["parents_aiohttp.py"], "/three", 3),
    eager(cell("aiohttp, asyncio", "the same, connected at start", &["parents_aiohttp.py"], "/three", 3)),
    cell("aiohttp, asyncio", "a task of its own", &["parents_aiohttp.py"], "/task", 2),
    cell("aiohttp, asyncio", "run_in_executor, redis", &["parents_aiohttp.py"], "/executor", 1),
    may_withhold(on_uvloop(cell("aiohttp, uvloop", "httpx, redis, asyncpg", &["parents_aiohttp.py"], "/three", 3)), ONE_TASK),
    cell("asyncio streams", "httpx, redis, asyncpg", &["parents_streams.py"], "/three", 3),
    cell("Tornado", "httpx, redis, asyncpg", &["parents_tornado.py"], "/three", 3),
    cell("Tornado", "run_in_executor, redis", &["parents_tornado.py"], "/executor", 1),
    cell("FastAPI, asyncio", "psycopg's pool", ASYNCIO, "/pooled", 1),
    cell("FastAPI, uvloop", "psycopg's pool", UVLOOP, "/pooled", 1),
    cell("ASGI, hypercorn", "httpx, redis, asyncpg", HYPERCORN, "/three", 3),
    cell("ASGI, hypercorn", "a task of its own", HYPERCORN, "/task", 2),
    may_withhold(cell("ASGI, hypercorn on uvloop", "httpx, redis, asyncpg", HYPERCORN_UVLOOP, "/three", 3), ONE_TASK),
    cell("ASGI, hypercorn on trio", "httpx", HYPERCORN_TRIO, "/alone", 1),
    of(&[("FRAMEWORK", "quart")], cell("Quart, hypercorn", "httpx, redis, asyncpg", HYPERCORN, "/three", 3)),
    of(&[("FRAMEWORK", "litestar")], cell("Litestar, uvicorn", "httpx, redis, asyncpg", LITESTAR, "/three", 3)),
    of(&[("FRAMEWORK", "falcon")], cell("Falcon ASGI, uvicorn", "httpx, redis, asyncpg", LITESTAR, "/three", 3)),
    of(&[("FRAMEWORK", "sanic"), ("SANIC_USE_UVLOOP", "false")], cell("Sanic, asyncio", "httpx, redis, asyncpg", &["parents_asgi.py"], "/three", 3)),
    may_withhold(of(&[("FRAMEWORK", "sanic")], cell("Sanic, uvloop", "httpx, redis, asyncpg", &["parents_asgi.py"], "/three", 3)), ONE_TASK),
    of(&[("FRAMEWORK", "channels")], cell("Django Channels, daphne", "httpx, redis, asyncpg", DAPHNE, "/three", 3)),
    cell("Django ASGI", "httpx, redis, asyncpg", DJANGO_ASGI, "/async/three", 3),
    cell("Django ASGI", "synchronous view: requests, redis", DJANGO_ASGI, "/two", 2),
    cell("Django, gthread", "requests, redis, psycopg", DJANGO_WSGI, "/three", 3),
    cell("Flask, sync", "requests, redis, psycopg", FLASK_SYNC, "/three", 3),
    cell("Flask, gthread", "requests, redis, psycopg", FLASK_GTHREAD, "/three", 3),
    cell("Flask, gthread", "requests, redis, psycopg2, redis", FLASK_GTHREAD, "/four", 4),
    cell("Flask, gthread", "ThreadPoolExecutor, redis", FLASK_GTHREAD, "/pool", 1),
    cell("Flask, gthread", "urllib3, httpx, psycopg and redis, shared pools", FLASK_GTHREAD, "/shared", 4),
    cell("Flask, gthread", "http.client, psycopg2", FLASK_GTHREAD, "/older", 2),
    of(&[("FRAMEWORK", "bottle")], cell("Bottle, gthread", "requests, redis, psycopg", BOTTLE, "/three", 3)),
    of(&[("FRAMEWORK", "falcon")], cell("Falcon, gthread", "requests, redis, psycopg", BOTTLE, "/three", 3)),
    may_withhold(of(&[("SERVER", "cheroot")], cell("WSGI, cheroot", "requests, redis, psycopg", &["parents_wsgi.py"], "/three", 3)), TIME_LIMIT),
    may_withhold(of(&[("SERVER", "cherrypy")], cell("WSGI, CherryPy", "requests, redis, psycopg", &["parents_wsgi.py"], "/three", 3)), TIME_LIMIT),
    may_withhold(of(&[("SERVER", "waitress")], cell("WSGI, waitress", "requests, redis, psycopg", &["parents_wsgi.py"], "/three", 3)), OWN_QUEUE),
    closes(of(&[("SERVER", "wsgiref")], cell("WSGI, wsgiref with threads", "requests, redis, psycopg", &["parents_wsgi.py"], "/three", 3))),
    of(&[("SERVER", "werkzeug")], cell("WSGI, Werkzeug with threads", "requests, redis, psycopg", &["parents_wsgi.py"], "/three", 3)),
    cell("Flask, gevent", "requests, redis", FLASK_GEVENT, "/two", 2),
    may_withhold(cell("Flask, gevent", "in a greenlet that it spawns", FLASK_GEVENT, "/spawned", 1), "a greenlet does not know who spawned it"),
];
