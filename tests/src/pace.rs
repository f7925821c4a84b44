//! A load that goes on: at a fixed rate of arrivals, or as fast as its connections allow.
//!
//! Requests arrive when they are due, whatever became of those before (an open loop), and what a request took counts
//! from when it was due: that it had to wait for a connection is part of it, or a server that stands still for a
//! second would look as if it had slowed down one request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Error, Result, anyhow, ensure};

use crate::http::Connection;
use crate::sys;

/// How long a connect, a read or a write may take: a bound on a hang.
const LIMIT: Duration = Duration::from_secs(60);

/// What to send, where and how often.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The server.
    pub address: SocketAddr,
    /// Before the request's number, which ends the path.
    pub path: String,
    /// Connections, a thread each: the most that are in flight at once.
    pub connections: usize,
    /// Arrivals a second; `None`: each connection sends when it has its answer.
    pub per_second: Option<f64>,
}

/// A load at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    pace: Pace,
    /// [`sys::monotonic`].
    started: Duration,
    next: AtomicU64,
    stop: AtomicBool,
    taken: Mutex<Taken>,
}

/// What was answered since it was asked last.
#[derive(Debug, Default)]
pub struct Taken {
    /// Nanoseconds of each request from when it was due to its answer's last byte.
    pub latencies: Vec<u64>,
    /// The first request that had no answer, or one with an error in it.
    failure: Option<Error>,
}

impl Load {
    /// Begins.
    #[must_use]
    pub fn start(pace: Pace) -> Self {
        let connections = pace.connections.max(1);
        let shared = Arc::new(Shared {
            pace,
            started: sys::monotonic(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            taken: Mutex::default(),
        });
        let thread = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.drive())
        };
        let threads = (0..connections).map(thread).collect();
        Self { shared, threads }
    }

    /// What was answered since the last time.
    ///
    /// # Errors
    /// When a request failed since then.
    pub fn take(&self) -> Result<Vec<u64>> {
        let mut taken = self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Taken { latencies, failure } = std::mem::take(&mut *taken);
        failure.map_or(Ok(latencies), Err)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of a thread was printed; there is nobody here to hand it to.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Sends requests on one connection until it is stopped.
    fn drive(&self) {
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(due) = self.wait(number) else { return };
            let answered = self.exchange(number, &mut connection);
            let took = sys::monotonic().saturating_sub(due);
            let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            match answered {
                Ok(()) => taken.latencies.push(took),
                Err(error) => {
                    connection = None;
                    taken.failure.get_or_insert(error.context(format!("request {number}")));
                }
            }
        }
    }

    /// Waits until this request is due; `None`: the load has ended.
    fn wait(&self, number: u64) -> Option<Duration> {
        let Some(rate) = self.pace.per_second else { return Some(sys::monotonic()) };
        #[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
        let due = self.started + Duration::from_secs_f64(number as f64 / rate);
        loop {
            let left = due.saturating_sub(sys::monotonic());
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if left.is_zero() {
                return Some(due);
            }
            // In pieces: what is due late must not keep the load from ending.
            thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    fn exchange(&self, number: u64, slot: &mut Option<Connection>) -> Result<()> {
        let Pace { address, path, .. } = &self.pace;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => Connection::open(*address, LIMIT)?,
        };
        let request = format!("GET {path}/{number} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        connection.send(request.as_bytes())?;
        let (response, _) = connection.receive("GET")?;
        ensure!(response.status < 400, anyhow!("status {}", response.status));
        // A connection that the server ends is opened anew.
        *slot = Some(connection).filter(|connection| !connection.is_closing());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::wait;

    /// Answers each request after `pause`, one connection at a time in a thread of its own.
    fn server(pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || serve(stream.unwrap(), pause));
            }
        });
        address
    }

    fn serve(mut stream: TcpStream, pause: Duration) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            thread::sleep(pause);
            let status = if line.contains("/bad/") { 500 } else { 200 };
            if write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }

    fn pace(address: SocketAddr, connections: usize, per_second: Option<f64>) -> Pace {
        Pace { address, path: "/x".into(), connections, per_second }
    }

    /// Latencies of this many requests or more.
    fn latencies(load: &Load, count: usize) -> Vec<u64> {
        let mut all = Vec::new();
        wait::until("requests are answered", LIMIT, || {
            all.extend(load.take()?);
            Ok((all.len() >= count).then_some(()))
        })
        .unwrap();
        all
    }

    #[test]
    fn as_many_as_there_are_connections_are_in_flight() {
        let load = Load::start(pace(server(Duration::from_millis(20)), 4, None));
        let all = latencies(&load, 40);
        assert!(all.iter().all(|&ns| ns >= 20_000_000));
    }

    #[test]
    fn waiting_for_a_connection_is_part_of_what_a_request_took() {
        // Due 10 ms apart and served one after the other in 20: the 40th is some 400 ms late.
        let load = Load::start(pace(server(Duration::from_millis(20)), 1, Some(100.0)));
        let all = latencies(&load, 40);
        assert!(all.iter().max() >= Some(&350_000_000), "{all:?}");
    }

    #[test]
    fn a_request_is_not_sent_before_it_is_due() {
        let started = sys::monotonic();
        let load = Load::start(pace(server(Duration::ZERO), 4, Some(200.0)));
        latencies(&load, 41);
        // The 41st is due after 200 ms.
        assert!(sys::monotonic() - started >= Duration::from_millis(200));
    }

    #[test]
    fn an_error_is_told() {
        let bad = Pace { path: "/bad".into(), ..pace(server(Duration::ZERO), 1, None) };
        let load = Load::start(bad);
        let told = wait::until("it fails", LIMIT, || Ok(load.take().err())).unwrap();
        assert!(format!("{told:#}").contains("status 500"), "{told:#}");
    }
}
