//! Tests of the PostgreSQL parser: what they share. Events of a run, told in one line per exchange.

mod captures;
mod detection;
mod hostile;
mod losses;
mod oracle;
mod semantics;
mod simulation;

use std::collections::BTreeMap;

use super::{fuzz::fuzz_postgres, *};
use crate::exchange::Parser as _;
use crate::limits;
use crate::script::Books;
use crate::testing::{self, Tested};
use Direction::{Requests, Responses};

type Run = testing::Run<Connection<u32>>;

impl Tested for Connection<u32> {
    type Told = Event<'static, u32>;

    fn met(from_start: bool) -> Self {
        Self::new(from_start)
    }

    fn book(books: &mut Books, event: &Event<'static, u32>) {
        fuzz::book(books, event.clone());
    }

    fn keep(event: Event<'_, u32>) -> Event<'static, u32> {
        event.into_owned()
    }
}

impl Run {
    fn told(&self) -> Vec<String> {
        exchanges(&self.events).iter().map(Exchange::tell).collect()
    }

    fn facts(&self) -> Vec<&Fact> {
        let mut facts = Vec::new();
        for event in &self.events {
            if let Event::Session { fact, .. } = event {
                facts.push(fact);
            }
        }
        facts
    }

    fn skipped(&self) -> u64 {
        [Requests, Responses]
            .iter()
            .map(|&direction| self.connection.counters(direction).skipped_bytes)
            .sum()
    }
}

/// What the events say of one exchange.
#[derive(Clone, Debug, PartialEq)]
struct Exchange {
    query: Query<'static>,
    answered: bool,
    end: Option<Result<End<'static>, Abandon>>,
}

impl Exchange {
    /// `Execute five "SELECT ..." > SELECT 5 =5 Idle`.
    fn tell(&self) -> String {
        let Query { text, cut, kind, statement, portal, .. } = &self.query;
        let name = statement.as_deref().map_or(String::new(), |name| format!(" {name}"));
        let portal = portal.as_deref().map_or(String::new(), |portal| format!(" @{portal}"));
        let text = text.as_deref().unwrap_or("?");
        let cut = if *cut { "..." } else { "" };
        let end = match &self.end {
            None => "open".to_owned(),
            Some(Ok(End::Complete(done))) => told_completion(done),
            Some(Ok(End::Inferred(done))) => format!("about {}", told_completion(done)),
            Some(Ok(End::NotExecuted)) => "not executed".to_owned(),
            Some(Ok(End::Closed { answered, error })) => format!("closed {answered} {error:?}"),
            Some(Err(reason)) => format!("abandoned: {reason:?}"),
        };
        format!("{kind:?}{name}{portal} {text}{cut} > {end}")
    }

    /// How many rows the text says that there are.
    fn rows_due(&self) -> Option<u64> {
        let (_, rows) = self.query.text.as_deref()?.rsplit_once("n=")?;
        let digits = rows.bytes().take_while(u8::is_ascii_digit).count();
        // Cut, there may have been more of them.
        if self.query.cut && digits == rows.len() { None } else { rows.get(..digits)?.parse().ok() }
    }

    fn assert_paired_right(&self, context: &dyn Fn() -> String) {
        let (Some(due), Some(Ok(End::Complete(done) | End::Inferred(done)))) =
            (self.rows_due(), &self.end)
        else {
            return;
        };
        // Of what changes rows those that it returns are others.
        let selects = self.query.text.as_deref().is_some_and(|text| text.starts_with("SELECT"));
        if let Some(rows) = if selects { rows(done) } else { done.affected } {
            let inferred = matches!(self.end, Some(Ok(End::Inferred(_))));
            assert!(
                rows == due || (inferred && rows < due),
                "a wrong pair: {}, {}",
                self.tell(),
                context()
            );
        }
    }
}

/// The rows that a completion tells, changed ones first.
fn rows(done: &Completion) -> Option<u64> {
    done.affected.or(done.returned)
}

fn told_completion(done: &Completion) -> String {
    let mut told: Vec<String> = Vec::new();
    for tag in &done.tags {
        let rows = tag.rows.map_or(String::new(), |rows| format!(" {rows}"));
        told.push(format!("{}{rows}", tag.command));
    }
    if let Some(error) = &done.error {
        let message = if error.message.is_empty() { "-" } else { &error.message };
        told.push(format!("{} {} {message}", error.severity, error.sqlstate));
    }
    if done.suspended {
        told.push("suspended".to_owned());
    }
    if let Some(rows) = rows(done) {
        told.push(format!("={rows}"));
    }
    if let (Some(_), Some(returned)) = (done.affected, done.returned) {
        told.push(format!("returned {returned}"));
    }
    if let Some(transaction) = done.transaction {
        told.push(format!("{transaction:?}"));
    }
    told.join(" ")
}

fn exchanges(events: &[Event<'static, u32>]) -> Vec<Exchange> {
    let mut exchanges = BTreeMap::new();
    for event in events.iter().cloned() {
        match event {
            Event::Request { exchange, query, .. } => {
                exchanges.insert(exchange, Exchange { query, answered: false, end: None });
            }
            Event::RequestEnd { .. } | Event::Session { .. } | Event::Skipped { .. } => {}
            Event::Response { exchange, .. } => {
                exchanges.get_mut(&exchange).unwrap().answered = true;
            }
            Event::End { exchange, end, .. } => {
                exchanges.get_mut(&exchange).unwrap().end = Some(Ok(end));
            }
            Event::Abandoned { exchange, reason } => {
                exchanges.get_mut(&exchange).unwrap().end = Some(Err(reason));
            }
        }
    }
    exchanges.into_values().collect()
}

/// A message with a type.
fn message(kind: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut message = vec![kind];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// What clients send.
mod ask {
    use super::message;

    pub(super) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut body = vec![0, 3, 0, 0];
        for (name, value) in parameters {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        [&(body.len() as u32 + 4).to_be_bytes(), &*body].concat()
    }

    pub(super) fn query(text: &str) -> Vec<u8> {
        message(b'Q', format!("{text}\0"))
    }

    pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
        message(b'P', format!("{name}\0{text}\0\0\0"))
    }

    /// With one parameter of so many bytes.
    pub(super) fn bind(portal: &str, name: &str, value_bytes: usize) -> Vec<u8> {
        let mut body = format!("{portal}\0{name}\0\0\0\0\x01").into_bytes();
        body.extend_from_slice(&(value_bytes as u32).to_be_bytes());
        body.resize(body.len() + value_bytes, b'v');
        body.extend_from_slice(b"\0\0");
        message(b'B', body)
    }

    pub(super) fn describe(of: char, name: &str) -> Vec<u8> {
        message(b'D', format!("{of}{name}\0"))
    }

    pub(super) fn close(of: char, name: &str) -> Vec<u8> {
        message(b'C', format!("{of}{name}\0"))
    }

    pub(super) fn execute(portal: &str, rows: u32) -> Vec<u8> {
        message(b'E', [format!("{portal}\0").as_bytes(), &rows.to_be_bytes()].concat())
    }

    pub(super) fn sync() -> Vec<u8> {
        message(b'S', "")
    }

    pub(super) fn flush() -> Vec<u8> {
        message(b'H', "")
    }

    /// `Parse`, `Bind`, `Describe`, `Execute` of the unnamed ones, without `Sync`.
    pub(super) fn unnamed(text: &str) -> Vec<u8> {
        [parse("", text), bind("", "", 1), describe('P', ""), execute("", 0)].concat()
    }
}

/// What servers send.
mod tell {
    use super::message;

    pub(super) fn authenticated() -> Vec<u8> {
        [message(b'R', [0; 4]), message(b'K', [0, 0, 0, 7, 1, 2, 3, 4]), ready('I')].concat()
    }

    pub(super) fn ready(status: char) -> Vec<u8> {
        message(b'Z', [status as u8])
    }

    pub(super) fn tag(tag: &str) -> Vec<u8> {
        message(b'C', format!("{tag}\0"))
    }

    pub(super) fn columns() -> Vec<u8> {
        message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0")
    }

    pub(super) fn row(value_bytes: usize) -> Vec<u8> {
        let mut body = vec![0, 1];
        body.extend_from_slice(&(value_bytes as u32).to_be_bytes());
        body.resize(body.len() + value_bytes, b'r');
        message(b'D', body)
    }

    /// Columns, rows and the tag of `SELECT`.
    pub(super) fn rows(rows: usize) -> Vec<u8> {
        [columns(), row(1).repeat(rows), tag(&format!("SELECT {rows}"))].concat()
    }

    /// What answers [`super::ask::unnamed`].
    pub(super) fn unnamed(rows: usize) -> Vec<u8> {
        [done('1'), done('2'), self::rows(rows)].concat()
    }

    /// A message without a body.
    pub(super) fn done(kind: char) -> Vec<u8> {
        message(kind as u8, "")
    }

    pub(super) fn error(sqlstate: &str, text: &str) -> Vec<u8> {
        message(b'E', format!("SERROR\0VERROR\0C{sqlstate}\0M{text}\0\0"))
    }

    pub(super) fn notice() -> Vec<u8> {
        message(b'N', "SNOTICE\0VNOTICE\0C00000\0Msecret\0\0")
    }

    pub(super) fn notification() -> Vec<u8> {
        message(b'A', b"\0\0\0\x07news\0secret\0")
    }

    pub(super) fn parameter(name: &str, value: &str) -> Vec<u8> {
        message(b'S', format!("{name}\0{value}\0"))
    }
}

impl Run {
    /// A piece of which only so many bytes were captured, and its last eight.
    fn cut(&mut self, direction: Direction, bytes: impl AsRef<[u8]>, kept: usize) -> &mut Self {
        let bytes = bytes.as_ref();
        let tail = bytes.len() - 8;
        self.piece(direction, &bytes[..kept], (tail - kept) as u64);
        self.piece(direction, &bytes[tail..], 0)
    }

    /// A request as node-postgres makes it, answered with so many rows.
    fn round(&mut self, text: &str, rows: usize) -> &mut Self {
        self.requests([ask::unnamed(text), ask::sync()].concat());
        self.responses([tell::unnamed(rows), tell::ready('I')].concat())
    }

    /// A simple query, answered with so many rows.
    fn simple(&mut self, text: &str, rows: usize) -> &mut Self {
        self.requests(ask::query(text));
        self.responses([tell::rows(rows), tell::ready('I')].concat())
    }

    /// A session that is open.
    fn session() -> Self {
        let mut run = Self::new(true);
        run.requests(ask::startup(&[("user", "bob")])).responses(tell::authenticated());
        run
    }
}
