//! The cells of Node.js: `tests/workloads/node/parents_any.js` and `calls.js`.

use super::{Asks, Cell, Runtime};

const fn cell(
    name: &'static str,
    framework: &'static str,
    kind: &'static str,
    (path, kinds): (&'static str, &'static str),
    calls: usize,
) -> Cell {
    Cell {
        name,
        kind,
        runtime: Runtime::Node { framework, calls: kinds },
        asks: Asks::Nothing,
        agent: &[],
        oldest: 18,
        arguments: &[],
        environment: &[],
        path,
        calls,
        // A connection to Redis is understood from its beginning on.
        agent_first: true,
        closes: false,
        may_withhold: None,
    }
}

const fn express(kind: &'static str, made: (&'static str, &'static str), calls: usize) -> Cell {
    cell("Express", "express", kind, made, calls)
}

const fn alone(cell: Cell) -> Cell {
    let why = "an event loop can't be told apart from outside";
    Cell { agent: &["--no-node-assist"], may_withhold: Some(why), ..cell }
}

const fn asks(asks: Asks, cell: Cell) -> Cell {
    Cell { asks, ..cell }
}

const fn may_withhold(cell: Cell, why: &'static str) -> Cell {
    Cell { may_withhold: Some(why), ..cell }
}

const MIXED: &str = "http pg ioredis";

const KIND: &str = "http, pg, ioredis";

/// All of them.
#[rustfmt::skip]
pub const NODE_CELLS: &[Cell] = &[
    cell("http", "http", KIND, ("/each", MIXED), 3),
    express(KIND, ("/each", MIXED), 3),
    express("http, ioredis, pg, ioredis", ("/each", "http ioredis pg ioredis"), 4),
    cell("Fastify", "fastify", KIND, ("/each", MIXED), 3),
    cell("NestJS", "nest", KIND, ("/each", MIXED), 3),
    cell("Koa", "koa", KIND, ("/each", MIXED), 3),
    express("the same at once", ("/together", MIXED), 3),
    express("streaming response", ("/stream", MIXED), 3),
    express("fetch, axios", ("/each", "fetch axios"), 2),
    express("fetch with a body", ("/each", "post"), 1),
    express("http, after a timer, the thread pool, DNS, a file", ("/each", "later"), 1),
    may_withhold(express("http, beside calls given up", ("/each", "aborted"), 2), "a call that is given up before its head is sent makes no span"),
    express("pg, callbacks", ("/each", "pg-callback"), 3),
    express("pg, transaction", ("/each", "pg-transaction"), 1),
    express("knex", ("/each", "knex knex-transaction"), 2),
    express("postgres", ("/together", "postgres postgres-tagged"), 4),
    express("postgres, transaction", ("/each", "postgres-transaction"), 2),
    express("ioredis, pipelines", ("/together", "ioredis ioredis-pipeline"), 3),
    express("ioredis, auto-pipelining", ("/together", "ioredis-auto"), 1),
    may_withhold(express("ioredis, values of 1 MB", ("/each", "ioredis-large"), 1), "a command that begins more than 64 KiB into one write is not seen"),
    express("redis", ("/together", "redis redis-multi"), 3),
    asks(Asks::RabbitMq, express("amqplib, confirms", ("/each", "amqplib"), 1)),
    asks(Asks::Kafka, express("kafkajs, one request at a time", ("/each", "kafkajs"), 1)),
    alone(express("http, pg, ioredis, not assisted", ("/each", MIXED), 3)),
    alone(express("the same at once, not assisted", ("/together", MIXED), 3)),
];
