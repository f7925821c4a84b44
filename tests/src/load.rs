//! A load of HTTP/1.1 requests with ids, and what became of each: the ground truth for spans' times, order
//! and status.
//!
//! Threads and blocking sockets: what it measures is the system, and its own cost stays out of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};

use crate::http::Connection;
use crate::sys;

/// How long a connect, a read or a write may take: a bound on a hang, not on speed.
const LIMIT: Duration = Duration::from_secs(180);

/// One request to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// What names it in the report; by convention the `rid` of its path.
    pub id: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// A JSON body; none when empty.
    pub body: Vec<u8>,
}

impl Request {
    /// A GET.
    pub fn get(id: impl Into<String>, path: impl Into<String>) -> Self {
        Self { id: id.into(), method: "GET".into(), path: path.into(), body: Vec::new() }
    }

    /// A POST of JSON.
    pub fn post(id: impl Into<String>, path: impl Into<String>, json: &serde_json::Value) -> Self {
        let body = json.to_string().into_bytes();
        Self { id: id.into(), method: "POST".into(), path: path.into(), body }
    }

    fn encode(&self, address: SocketAddr, keep_alive: bool) -> Vec<u8> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let (method, path) = (&self.method, &self.path);
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: {connection}\r\n");
        if !self.body.is_empty() {
            let length = self.body.len();
            text += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// How requests are sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// How many connections at once, a thread each. 1: one request after the other.
    pub connections: usize,
    /// Whether a connection serves more than one request (or one pipelined batch of them).
    pub keep_alive: bool,
    /// How many requests are sent on a connection before the first answer is read (RFC 9112, 9.3.2).
    pub pipeline: usize,
}

impl Plan {
    /// Keep-alive connections without pipelining.
    #[must_use]
    pub fn new(address: SocketAddr, connections: usize) -> Self {
        Self { address, connections, keep_alive: true, pipeline: 1 }
    }
}

/// One answered request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The request's id.
    pub id: String,
    /// The request's path and query.
    pub path: String,
    /// The status code.
    pub status: u16,
    /// The response's body.
    pub body: Vec<u8>,
    /// The client's port: which connection carried it.
    pub local_port: u16,
    /// `CLOCK_REALTIME` just before the first byte was sent.
    pub start_ns: u64,
    /// `CLOCK_REALTIME` just after the read that brought the last byte.
    pub end_ns: u64,
}

/// A request that got no answer.
#[derive(Debug)]
pub struct Failure {
    /// The request's id.
    pub id: String,
    /// The request's path and query.
    pub path: String,
    /// Why.
    pub error: Error,
}

/// What became of a load. Every request taken up is in one of the two.
#[derive(Debug, Default)]
pub struct Report {
    /// The answered requests, whatever their status, by start time.
    pub outcomes: Vec<Outcome>,
    /// The others.
    pub failures: Vec<Failure>,
}

impl Report {
    /// The outcomes, when all were answered with a status below 400.
    ///
    /// # Errors
    /// The first that was not, and how many.
    pub fn all_ok(self) -> Result<Vec<Outcome>> {
        let count = self.failures.len();
        if let Some(Failure { id, path, error }) = self.failures.into_iter().next() {
            return Err(error.context(format!("{count} requests failed, first {path} ({id})")));
        }
        let mut refused = self.outcomes.iter().filter(|outcome| outcome.status >= 400);
        if let Some(Outcome { id, path, status, body, .. }) = refused.next() {
            let (more, body) = (refused.count(), String::from_utf8_lossy(body));
            return Err(anyhow!("{path} ({id}) and {more} more refused: {status} {body}"));
        }
        Ok(self.outcomes)
    }
}

/// Sends the requests, each once, in the order given (with several connections: begun in that order).
/// When `stop` becomes true, those not yet begun are left out.
#[must_use]
pub fn run(plan: &Plan, requests: &[Request], stop: &AtomicBool) -> Report {
    let depth = plan.pipeline.max(1);
    let batches: Vec<&[Request]> = requests.chunks(depth).collect();
    let next = AtomicUsize::new(0);
    let drive = || {
        let mut report = Report::default();
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            exchange(plan, batch, &mut connection, &mut report);
        }
        report
    };
    let mut report = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.connections.clamp(1, batches.len().max(1)))
            .map(|_| scope.spawn(drive))
            .collect();
        let mut all = Report::default();
        for thread in threads {
            match thread.join() {
                Ok(part) => {
                    all.outcomes.extend(part.outcomes);
                    all.failures.extend(part.failures);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    report.outcomes.sort_by_key(|outcome| outcome.start_ns);
    report
}

/// Sends a batch on the connection, opening one if need be, and reads its answers.
fn exchange(plan: &Plan, batch: &[Request], slot: &mut Option<Connection>, report: &mut Report) {
    let answered = report.outcomes.len();
    let result = try_exchange(plan, batch, slot, &mut report.outcomes);
    let answered = report.outcomes.len() - answered;
    if let Err(error) = result {
        *slot = None;
        // The error happened once but befell every request of the batch without an answer.
        let text = format!("{error:#}");
        report.failures.extend(batch.iter().skip(answered).map(|request| Failure {
            id: request.id.clone(),
            path: request.path.clone(),
            error: anyhow!(text.clone()),
        }));
    }
}

fn try_exchange(
    plan: &Plan,
    batch: &[Request],
    slot: &mut Option<Connection>,
    outcomes: &mut Vec<Outcome>,
) -> Result<()> {
    let mut connection = match slot.take().filter(Connection::is_reusable) {
        Some(connection) => connection,
        None => Connection::open(plan.address, LIMIT)?,
    };
    let local_port = connection.local_port()?;
    let last = batch.len().saturating_sub(1);
    let mut starts = Vec::with_capacity(batch.len());
    for (index, request) in batch.iter().enumerate() {
        let bytes = request.encode(plan.address, plan.keep_alive || index < last);
        starts.push(sys::realtime_ns());
        connection.send(&bytes)?;
    }
    for (request, start_ns) in batch.iter().zip(starts) {
        let (response, end_ns) = connection.receive(&request.method)?;
        outcomes.push(Outcome {
            id: request.id.clone(),
            path: request.path.clone(),
            status: response.status,
            body: response.body,
            local_port,
            start_ns,
            end_ns,
        });
    }
    *slot = plan.keep_alive.then_some(connection);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Serves until the test ends: echoes the path, closes the connection after `per_connection` answers
    /// without saying so, and drops the connection unanswered for a path with "drop" in it.
    fn server(per_connection: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || serve(stream.unwrap(), per_connection));
            }
        });
        address
    }

    fn serve(mut stream: TcpStream, per_connection: usize) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for _ in 0..per_connection {
            let Some(Ok(line)) = lines.next() else { return };
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = line.split(' ').nth(1).unwrap().to_owned();
            if path.contains("drop") {
                return;
            }
            let length = path.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}").unwrap();
        }
    }

    fn requests(count: usize) -> Vec<Request> {
        (0..count).map(|id| Request::get(id.to_string(), format!("/r/{id}"))).collect()
    }

    fn check(plan: &Plan, count: usize) -> Vec<Outcome> {
        let outcomes = run(plan, &requests(count), &AtomicBool::new(false)).all_ok().unwrap();
        let ids: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.id.clone()).collect();
        assert_eq!((outcomes.len(), ids.len()), (count, count));
        for outcome in &outcomes {
            assert_eq!(outcome.body, outcome.path.as_bytes());
            assert!(outcome.start_ns <= outcome.end_ns);
        }
        outcomes
    }

    fn ports(outcomes: &[Outcome]) -> usize {
        outcomes.iter().map(|outcome| outcome.local_port).collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn one_connection_carries_all_in_order() {
        let outcomes = check(&Plan::new(server(1000), 1), 50);
        assert_eq!(ports(&outcomes), 1);
        let paths: Vec<_> = outcomes.iter().map(|outcome| outcome.path.clone()).collect();
        assert_eq!(paths, requests(50).into_iter().map(|request| request.path).collect::<Vec<_>>());
    }

    #[test]
    fn many_connections_share_the_requests() {
        check(&Plan::new(server(1000), 20), 400);
    }

    #[test]
    fn pipelined_answers_go_to_their_requests() {
        check(&Plan { pipeline: 7, ..Plan::new(server(1000), 3) }, 100);
    }

    #[test]
    fn without_keep_alive_each_request_has_its_connection() {
        let outcomes = check(&Plan { keep_alive: false, ..Plan::new(server(1), 2) }, 20);
        assert_eq!(ports(&outcomes), 20);
    }

    #[test]
    fn a_request_without_an_answer_is_a_failure_and_the_rest_go_on() {
        let mut requests = requests(10);
        requests[4].path = "/drop".into();
        let report = run(&Plan::new(server(1000), 1), &requests, &AtomicBool::new(false));
        let failed: Vec<_> = report.failures.iter().map(|failure| failure.id.as_str()).collect();
        assert_eq!((report.outcomes.len(), failed), (9, vec!["4"]));
        assert!(report.all_ok().is_err());
    }

    #[test]
    fn a_stopped_load_begins_nothing() {
        let report = run(&Plan::new(server(1000), 4), &requests(10), &AtomicBool::new(true));
        assert_eq!((report.outcomes.len(), report.failures.len()), (0, 0));
    }
}
