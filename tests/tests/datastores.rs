//! What real client libraries ask of a real Redis and a real PostgreSQL is told as it was: no operation is
//! missing, none is invented, and each is what the program says that it did.

use crate::common;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use common::lab::{Lab, PATIENCE, Tracing};
use common::spans::{Kind, Span, Value};
use rstest::rstest;
use serde::Deserialize;
use wirespan::capture::DEFAULT_BURST_BUDGET;
use wirespan_tests::servers::{Cluster, SECRET, Servers};
use wirespan_tests::workloads::{Program, Runtime};
use wirespan_tests::{sys, wait};

/// One operation: as the program says, or as its span says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Operation {
    system: String,
    /// The span's name; empty: the system's.
    name: String,
    /// A Redis key, or the alias that a statement has; empty where there is none.
    target: String,
    database: String,
    /// Returned.
    rows: Option<i64>,
    affected: Option<i64>,
    error: Option<String>,
    #[serde(default)]
    nil: bool,
    #[serde(default)]
    queued: bool,
    /// Statements of one query, where there are several, and what the one is that failed.
    #[serde(default)]
    statements: Option<i64>,
    #[serde(default)]
    failed: Option<String>,
    /// Of PostgreSQL the parent that a comment names.
    #[serde(default)]
    parent: Option<String>,
}

impl Operation {
    fn of(span: &Span) -> Self {
        let text = |key: &str| span.text(key).unwrap_or_default().to_owned();
        // A list that is popped from is a queue: pushes and what was popped are told by its conventions.
        let queue = span.text("messaging.system").is_some();
        let system = if queue { "redis".to_owned() } else { text("db.system.name") };
        let flag = |key: &str| span.attributes.get(key) == Some(&Value::Bool(true));
        let query = text("db.query.text");
        let is_target = |word: &&str| match &*system {
            "redis" => word.contains(':'),
            _ => word.starts_with("op_"),
        };
        let words = query.split(|c: char| !(c.is_alphanumeric() || "_:-".contains(c)));
        let target = words.into_iter().find(is_target).unwrap_or_default().to_owned();
        let mut name = if span.name == system { String::new() } else { span.name.clone() };
        let mut target = target;
        if queue {
            name = text("messaging.operation.name").to_uppercase();
            target = text("messaging.destination.name");
        }
        Self {
            name,
            target,
            database: text("db.namespace"),
            rows: span.int("db.response.returned_rows"),
            affected: span.int("wirespan.db.affected_rows"),
            error: span.text("error.type").map(str::to_owned),
            nil: flag("wirespan.redis.nil"),
            queued: flag("wirespan.redis.queued"),
            statements: span.int("db.operation.batch.size"),
            failed: span.text("wirespan.db.failed_summary").map(str::to_owned),
            // Of what is popped from a queue it is who pushed it.
            parent: span
                .parent
                .as_ref()
                .filter(|_| system == "postgresql")
                .map(|parent| format!("{}-{parent}", span.trace)),
            system,
        }
    }
}

/// A client library, what it is made to do, and what it asks by itself.
struct Client {
    runtime: Runtime,
    name: &'static str,
    scenarios: &'static str,
    /// Spans' names of the library's own doing, which the program cannot tell.
    own: &'static [&'static str],
}

const fn node(name: &'static str, scenarios: &'static str, own: &'static [&'static str]) -> Client {
    Client { runtime: Runtime::Node, name, scenarios, own }
}

const fn python(
    name: &'static str,
    scenarios: &'static str,
    own: &'static [&'static str],
) -> Client {
    Client { runtime: Runtime::Python, name, scenarios, own }
}

#[rustfmt::skip]
const CLIENTS: &[Client] = &[
    node("ioredis", "sequential concurrent pipelined autopipelined database blocking unix", &["INFO", "SELECT"]),
    node("node-redis", "sequential concurrent pipelined database resp3 unix", &["SELECT"]),
    node("pg", "sequential concurrent pipelined wired prepared transaction copy several comment notices cancel unix", &[]),
    node("postgres", "sequential concurrent pipelined prepared transaction comment unix", &["SELECT pg_catalog.pg_type pg_catalog.pg_type"]),
    node("knex", "sequential concurrent", &["SELECT version"]),
    node("prisma", "sequential concurrent", &[]),
    python("redis-py", "sequential concurrent pipelined database resp3 blocking unix", &["SELECT"]),
    python("redis-py-asyncio", "sequential concurrent pipelined resp3", &[]),
    python("psycopg2", "sequential concurrent transaction copy several comment notices cancel functions unix", &["SELECT pg_catalog.pg_proc SELECT pg_catalog.pg_namespace"]),
    python("psycopg", "sequential concurrent pipelined prepared transaction copy unix", &[]),
    python("psycopg-asyncio", "sequential concurrent pipelined", &[]),
    python("asyncpg", "sequential concurrent pipelined prepared transaction copy comment unix", &[]),
    python("sqlalchemy", "sequential concurrent", &["SELECT pg_catalog.version", "SELECT current_schema", "SELECT pg_type pg_namespace", "SHOW"]),
    python("django", "sequential concurrent", &["SELECT set_config"]),
];

fn of_name(name: &str) -> &'static Client {
    CLIENTS.iter().find(|client| client.name == name).unwrap()
}

/// Servers and a lab with an agent that traces the programs, all of it for one test.
struct Bench {
    tracing: Tracing,
    lab: Lab,
    servers: Servers,
}

fn agent(lab: &Lab, more: &[&str]) -> Tracing {
    let rule = format!("cmd=*datastores.*{}*", lab.path().display());
    let alone = lab.calls_alone();
    lab.agent("agent", &[rule], &[more, &[&alone]].concat())
}

impl Bench {
    fn start(more: &[&str]) -> Self {
        let lab = Lab::new();
        let servers = Servers::start(lab.path()).unwrap();
        Self { tracing: agent(&lab, more), lab, servers }
    }

    fn program(&self, client: &Client) -> Program {
        let program = start(&self.lab, &self.servers, client);
        traced(&self.tracing, &program);
        program
    }

    /// Runs all scenarios of these clients, one client after the other. The programs live on: while they
    /// do, the books have a line for each.
    fn run(&self, clients: &[&Client]) -> Vec<(Program, Vec<Operation>)> {
        let run = |client: &&Client| {
            let mut program = self.program(client);
            let done = operations(&mut program, client.scenarios);
            (program, done)
        };
        clients.iter().map(run).collect()
    }
}

fn start(lab: &Lab, servers: &Servers, client: &Client) -> Program {
    start_with(lab, servers.environment(), client)
}

fn start_with(lab: &Lab, servers: Vec<(&'static str, String)>, client: &Client) -> Program {
    lab.installed.datastores(client.runtime, client.name, servers, lab.path()).unwrap()
}

fn traced(tracing: &Tracing, program: &Program) {
    wait::until("the program is traced", PATIENCE, || {
        let pid = i32::try_from(program.pid())?;
        Ok(tracing.status().processes.iter().any(|process| process.pid == pid).then_some(()))
    })
    .unwrap();
}

fn operations(program: &mut Program, scenarios: &str) -> Vec<Operation> {
    let told = program.run(scenarios).unwrap();
    told.into_iter().map(|line| serde_json::from_value(line).unwrap()).collect()
}

/// How often each operation was made.
fn counted(operations: impl IntoIterator<Item = Operation>) -> BTreeMap<Operation, i64> {
    let mut counts = BTreeMap::new();
    for operation in operations {
        *counts.entry(operation).or_default() += 1;
    }
    counts
}

/// On one line: what a failed test shows.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system, name, target, database, rows, affected, error, nil, queued, .. } = self;
        let Self { statements, failed, parent, .. } = self;
        write!(f, "{system} {name:?} {target:?} in {database:?} rows {rows:?} {affected:?} ")?;
        write!(f, "error {error:?} nil {nil} queued {queued} ")?;
        write!(f, "of {statements:?} {failed:?} under {parent:?}")
    }
}

/// What the spans have beyond what was done (positive), and what they lack (negative).
fn difference(spans: &[&Span], done: &[Operation]) -> BTreeMap<Operation, i64> {
    let mut counts = counted(spans.iter().map(|span| Operation::of(span)));
    for operation in done {
        *counts.entry(operation.clone()).or_default() -= 1;
    }
    counts.retain(|_, count| *count != 0);
    counts
}

/// The spans of a program, without what its library asked by itself.
fn of<'a>(spans: &'a [Span], client: &Client) -> Vec<&'a Span> {
    let own = |span: &Span| client.own.contains(&span.name.as_str());
    spans.iter().filter(|span| span.service == client.name && !own(span)).collect()
}

fn no_secret(file: &PathBuf) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.is_empty());
    let found = text.find(SECRET).map(|at| &text[at.saturating_sub(300)..at + 30]);
    assert_eq!(found, None, "a value or a password was exported");
}

#[test]
fn parameters_are_shown_when_the_operator_asks_for_them() {
    let bench = Bench::start(&["--query-parameters"]);
    let client = of_name("pg");
    let done = bench.run(&[&Client { scenarios: "sequential", ..*client }]);
    bench.tracing.quiet();
    let spans = bench.tracing.spans();
    let spans = of(&spans, client);
    assert_eq!(difference(&spans, &done[0].1), BTreeMap::new());
    let text =
        |span: &Span, n: u8| span.text(&format!("db.query.parameter.{n}")).map(str::to_owned);
    let secret = |span: &&&Span| text(span, 1).is_some_and(|shown| shown.contains(SECRET));
    assert!(spans.iter().filter(secret).count() > 0, "{spans:#?}");
}

#[rstest]
fn every_operation_of_every_client_is_one_right_span(
    #[values(Runtime::Node, Runtime::Python)] runtime: Runtime,
) {
    let bench = Bench::start(&[]);
    let clients: Vec<&Client> = CLIENTS.iter().filter(|client| client.runtime == runtime).collect();
    let done = bench.run(&clients);
    let status = bench.tracing.quiet();
    let spans = bench.tracing.spans();
    assert_eq!(spans.len() as u64, status.spans);
    let mut wrong = BTreeMap::new();
    for (client, (_, done)) in clients.into_iter().zip(&done) {
        let spans = of(&spans, client);
        let difference = difference(&spans, done);
        eprintln!("{}: {} operations, {} spans", client.name, done.len(), spans.len());
        if !difference.is_empty() {
            wrong.insert(client.name, difference);
        }
    }
    assert!(
        spans
            .iter()
            .all(|span| { (span.kind == Kind::Client) == span.text("messaging.system").is_none() })
    );
    assert!(wrong.is_empty(), "more (+) or fewer (-) spans than operations: {wrong:#?}");
    no_secret(&bench.tracing.file);
}

/// Each command is asked of the node that has the key, once more where the first was told that it moved.
#[test]
fn a_clusters_redirections_are_spans_and_what_finds_the_way_is_none() {
    let lab = Lab::new();
    let cluster = Cluster::start(lab.path()).unwrap();
    let tracing = agent(&lab, &[]);
    for name in ["ioredis", "node-redis", "redis-py"] {
        let client = of_name(name);
        let mut program = start_with(&lab, cluster.environment(), client);
        traced(&tracing, &program);
        let done = operations(&mut program, "cluster");
        tracing.quiet();
        let spans = tracing.spans();
        let spans = of(&spans, client);
        assert_eq!(difference(&spans, &done), BTreeMap::new(), "{name}");
        let redirected = |span: &&&Span| matches!(span.text("error.type"), Some("ASK" | "MOVED"));
        assert_eq!(spans.iter().filter(redirected).count(), 3, "{name}");
    }
    no_secret(&tracing.file);
}

impl Operation {
    /// Whether nothing that this span says contradicts the operation; what capture left out it may omit,
    /// and it may tell less of what its text was cut in.
    fn may_be(&self, done: &Self) -> bool {
        let omitted = |said: &Option<i64>, done: &Option<i64>| said.is_none() || said == done;
        self.system == done.system
            && (self.database == done.database || self.database.is_empty())
            && done.name.starts_with(&self.name)
            && done.target.starts_with(&self.target)
            && omitted(&self.rows, &done.rows)
            && omitted(&self.affected, &done.affected)
            && (self.error.is_none() || self.error == done.error)
            && omitted(&self.statements, &done.statements)
            && (self.failed.is_none() || self.failed == done.failed)
            && (self.parent.is_none() || self.parent == done.parent)
            && (!self.nil || done.nil)
            && (!self.queued || done.queued)
    }

    /// How much it leaves open.
    fn open(&self) -> usize {
        let empty = [&self.name, &self.target, &self.database].map(|text| text.is_empty());
        let none = [self.rows.is_none(), self.affected.is_none(), self.error.is_none()];
        empty.into_iter().chain(none).filter(|open| *open).count()
    }
}

/// The spans that no operation can have made: each operation makes one at most. Those that say most choose
/// first.
fn invented(spans: &[&Span], done: &[Operation]) -> Vec<Operation> {
    let mut said: Vec<Operation> = spans.iter().map(|span| Operation::of(span)).collect();
    said.sort_by_key(Operation::open);
    let mut left = done.to_vec();
    said.retain(|said| {
        // A key may be the beginning of another's.
        let exact = |done: &Operation| said.target == done.target && said.may_be(done);
        let exact = left.iter().position(exact);
        let at = exact.or_else(|| left.iter().position(|done| said.may_be(done)));
        at.map(|at| left.swap_remove(at)).is_none()
    });
    said
}

/// What needs more than the usual budget: values of 1 MB, a reader that waits, more commands in one write
/// than are looked at.
#[rustfmt::skip]
const HEAVY: &[Client] = &[
    node("ioredis", "large slow pipelined many concurrent", &["INFO"]),
    node("node-redis", "sequential wide sequential", &[]),
    node("pg", "large slow pipelined many prepared", &[]),
    node("postgres", "sequential many sequential", &["SELECT pg_catalog.pg_type pg_catalog.pg_type"]),
    python("redis-py", "large pipelined many resp3 concurrent", &[]),
    python("redis-py-asyncio", "slow pipelined many", &[]),
    python("psycopg2", "large copy", &[]),
    python("psycopg", "large pipelined many copy prepared", &[]),
    python("asyncpg", "large slow pipelined many copy", &[]),
];

#[rstest]
#[case::least(64)]
#[ignore = "long: between the others"]
#[case::small(256)]
#[ignore = "long: between the others"]
#[case::usual(4_096)]
#[ignore = "long: between the others"]
#[case::large(1 << 20)]
#[case::unlimited(u32::MAX)]
fn a_budget_costs_spans_that_are_counted_and_makes_none_wrong(#[case] budget: u32) {
    let bench = Bench::start(&[&format!("--payload-budget={budget}")]);
    let clients: Vec<&Client> = HEAVY.iter().collect();
    let done = bench.run(&clients);
    let status = bench.tracing.quiet();
    let spans = bench.tracing.spans();
    let (mut wrong, mut lacking) = (BTreeMap::new(), BTreeMap::new());
    for (client, (program, done)) in clients.into_iter().zip(&done) {
        let spans = of(&spans, client);
        eprintln!("{budget}: {}: {} operations, {} spans", client.name, done.len(), spans.len());
        let pid = i32::try_from(program.pid()).unwrap();
        let line = status.processes.iter().find(|line| line.pid == pid).unwrap();
        let books = &line.agent;
        if spans.len() < done.len() {
            let counted = books.calls_abandoned + books.bytes_skipped + books.bytes_not_understood;
            assert!(counted > 0, "{} of {}: {line:#?}", spans.len(), done.len());
        }
        let difference = difference(&spans, done);
        if budget >= DEFAULT_BURST_BUDGET && !difference.is_empty() {
            lacking.insert(client.name, difference);
        }
        let invented = invented(&spans, done);
        if !invented.is_empty() {
            wrong.insert(client.name, invented);
        }
    }
    assert!(wrong.is_empty(), "no operation was so: {wrong:#?}");
    // By default, and with more, nothing is missing, and nothing omitted.
    assert!(lacking.is_empty(), "more (+) or fewer (-) spans than operations: {lacking:#?}");
    no_secret(&bench.tracing.file);
}

/// `executemany`, of more than is copied of one burst: each span says with which number of rows its statement was
/// executed, and how many it changed.
#[rstest]
fn of_one_statement_executed_many_times_in_a_turn_none_is_told_as_another(
    #[values(&[], &["--payload-budget=64"])] budget: &[&str],
) {
    let bench = Bench::start(&[budget, &["--query-parameters"]].concat());
    let clients = ["psycopg", "asyncpg"].map(|name| Client { scenarios: "bulk", ..*of_name(name) });
    let done = bench.run(&clients.iter().collect::<Vec<_>>());
    let status = bench.tracing.quiet();
    let spans = bench.tracing.spans();
    for (client, (program, done)) in clients.iter().zip(&done) {
        let spans = of(&spans, client);
        let updates: Vec<_> = spans
            .iter()
            .filter(|span| span.name == "UPDATE orders")
            .filter_map(|span| span.int("wirespan.db.affected_rows").zip(number(span)))
            .collect();
        eprintln!("{budget:?}: {}: {} and {}", client.name, updates.len(), spans.len());
        let wrong = updates.iter().filter(|(changed, asked)| changed != asked).count();
        assert_eq!(wrong, 0, "{} of {}: {updates:?}", client.name, updates.len());
        // psycopg may have sent several turns in what was lost: nothing is certain.
        assert!(client.name != "asyncpg" || updates.len() > 10, "{}", updates.len());
        let pid = i32::try_from(program.pid()).unwrap();
        let line = status.processes.iter().find(|line| line.pid == pid).unwrap();
        let books = &line.agent;
        assert!(spans.len() <= done.len());
        assert!(spans.len() == done.len() || books.bytes_skipped > 0, "{line:#?}");
    }
}

/// The parameter of an update that is a number: psycopg's in text or with 2 bytes, asyncpg's with 4.
fn number(span: &Span) -> Option<i64> {
    ["db.query.parameter.0", "db.query.parameter.1"].iter().find_map(|key| {
        let shown = span.text(key)?;
        match shown.strip_prefix("\\x") {
            Some(binary) => i64::from_str_radix(binary, 16).ok(),
            None => shown.parse().ok(),
        }
    })
}

/// Programs of these clients whose connections are there, with statements prepared, before the agent is.
fn older_programs(lab: &Lab, servers: &Servers, clients: &[&Client]) -> (Vec<Program>, Tracing) {
    let mut programs: Vec<Program> =
        clients.iter().map(|client| start(lab, servers, client)).collect();
    for program in &mut programs {
        operations(program, "steady");
    }
    let tracing = agent(lab, &[]);
    for program in &programs {
        traced(&tracing, program);
    }
    (programs, tracing)
}

/// Starts programs and an agent that is not there for their beginning.
type Begin = fn(&Lab, &Servers, &[&Client]) -> (Vec<Program>, Tracing);

/// Programs that began, connected and prepared statements while the agent was held up: it learns of them later.
fn programs_unseen(lab: &Lab, servers: &Servers, clients: &[&Client]) -> (Vec<Program>, Tracing) {
    let tracing = agent(lab, &[]);
    sys::kill(tracing.agent.pid(), libc::SIGSTOP).unwrap();
    let mut programs: Vec<Program> =
        clients.iter().map(|client| start(lab, servers, client)).collect();
    for program in &mut programs {
        operations(program, "steady");
    }
    sys::kill(tracing.agent.pid(), libc::SIGCONT).unwrap();
    for program in &programs {
        traced(&tracing, program);
    }
    (programs, tracing)
}

#[rstest]
#[case::after_them(older_programs, &["ioredis", "pg", "redis-py", "psycopg", "asyncpg"])]
#[case::too_late_for_their_beginning(programs_unseen, &["redis-py", "psycopg"])]
fn an_agent_that_comes_in_the_middle_tells_nothing_wrong_and_in_the_end_all(
    #[case] begin: Begin,
    #[case] clients: &[&'static str],
) {
    let lab = Lab::new();
    let servers = Servers::start(lab.path()).unwrap();
    let clients: Vec<&Client> = clients.iter().copied().map(of_name).collect();
    let (mut programs, tracing) = begin(&lab, &servers, &clients);
    let mut done = vec![Vec::new(); programs.len()];
    let mut missing = Vec::new();
    let whole = wait::until("a round of every client is told whole", PATIENCE, || {
        let mut last = Vec::new();
        for (program, done) in programs.iter_mut().zip(&mut done) {
            // Pairing begins anew between two silences, and goes on behind the second.
            last.push(operations(program, "silence steady"));
            done.extend(last.last().cloned().into_iter().flatten());
        }
        tracing.quiet();
        let spans = tracing.spans();
        missing.clear();
        for ((client, done), last) in clients.iter().zip(&done).zip(&last) {
            let spans = of(&spans, client);
            let wrong = invented(&spans, done);
            assert!(wrong.is_empty(), "{}: no operation was so: {wrong:#?}", client.name);
            let said: Vec<Operation> = spans.iter().map(|span| Operation::of(span)).collect();
            // Which database a connection met in the middle uses is not known.
            let of_redis = said.iter().filter(|said| said.system == "redis");
            let knowing: Vec<_> = of_redis.filter(|said| !said.database.is_empty()).collect();
            assert!(knowing.is_empty(), "how do they know? {knowing:#?}");
            let told = |done: &Operation| {
                said.iter().any(|said| said.target == done.target && said.may_be(done))
            };
            missing.extend(last.iter().filter(|done| !told(done)).cloned());
        }
        Ok(missing.is_empty().then_some(()))
    });
    whole.unwrap_or_else(|error| panic!("{error}: {missing:#?}"));
    no_secret(&tracing.file);
}

/// Each of these has a connection that is older than the agent, and never silent: only times show that nothing
/// is owed.
const BUSY: &[&str] = &["ioredis", "node-redis", "pg", "postgres", "psycopg2"];

#[test]
#[ignore = "long: it waits for pauses as they come"]
fn a_client_that_is_never_silent_is_understood_in_its_midst() {
    let lab = Lab::new();
    let servers = Servers::start(lab.path()).unwrap();
    let clients: Vec<&Client> = BUSY.iter().copied().map(of_name).collect();
    let (mut programs, tracing) = older_programs(&lab, &servers, &clients);
    let mut missing = BTreeMap::new();
    for (client, program) in clients.iter().zip(&mut programs) {
        let done = operations(program, "busy");
        tracing.quiet();
        let spans = tracing.spans();
        let spans = of(&spans, client);
        eprintln!("{}: {} operations, {} spans", client.name, done.len(), spans.len());
        let wrong = invented(&spans, &done);
        assert!(wrong.is_empty(), "{}: no operation was so: {wrong:#?}", client.name);
        let said: Vec<Operation> = spans.iter().map(|span| Operation::of(span)).collect();
        let told = |done: &Operation| {
            said.iter().any(|said| said.target == done.target && said.may_be(done))
        };
        // Of PostgreSQL the process's own settings name the database; of Redis nothing does.
        let named = |said: &Operation| said.database.is_empty() == (said.system == "redis");
        assert!(said.iter().all(named), "{}: {said:#?}", client.name);
        let last: Vec<_> = done.iter().rev().take(100).filter(|done| !told(done)).collect();
        if !last.is_empty() {
            missing.insert(client.name, format!("{last:#?}"));
        }
    }
    assert!(missing.is_empty(), "not understood: {missing:#?}");
    no_secret(&tracing.file);
}
