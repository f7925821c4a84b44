//! What of a payload gets into a recording.
//!
//! Of what a process sends and receives a span shows little. What it may show is kept, with what frames it; all else
//! is overwritten, each letter by a letter and each digit by a digit, or, where what is what can't be told for
//! certain, left out: the recording then has the operation with its length, and fewer bytes of it.

mod credentials;
mod http;
mod redis;

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::call::Role;
use crate::capture::Operation;
use credentials::Credentials;

/// Connections that are followed here. Of more, nothing is kept.
const MAX_CONNECTIONS: usize = 65_536;

/// What is kept of an operation's bytes: never more than it had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Of the first ones.
    pub bytes: Vec<u8>,
    /// Of the last ones.
    pub tail: Vec<u8>,
}

/// One direction of a connection, by what is spoken on it.
#[derive(Debug)]
enum Stream {
    Http(http::Stream),
    RedisRequests(Box<redis::Requests>),
    RedisReplies(redis::Replies),
}

impl Stream {
    /// `None`: what is spoken can't be overwritten piece by piece, and is left out.
    fn new(protocol: &str, requests: bool) -> Option<Self> {
        Some(match (protocol, requests) {
            ("HTTP/1", _) => Self::Http(http::Stream::new(requests)),
            ("Redis", true) => Self::RedisRequests(Box::default()),
            ("Redis", false) => Self::RedisReplies(redis::Replies::default()),
            _ => return None,
        })
    }

    fn lose(&mut self) {
        match self {
            Self::Http(stream) => stream.lose(),
            Self::RedisRequests(stream) => stream.lose(),
            Self::RedisReplies(stream) => stream.lose(),
        }
    }

    /// Overwrites, and says how many of the first bytes may be kept. `missing`: so many follow that were not
    /// captured.
    fn scrub(&mut self, bytes: &mut [u8], missing: u64, heads: &mut Heads) -> usize {
        match self {
            Self::Http(stream) => stream.scrub(bytes, missing, heads),
            Self::RedisRequests(stream) => stream.scrub(bytes, missing),
            Self::RedisReplies(stream) => stream.scrub(bytes, missing),
        }
    }

    /// Overwrites an operation's last bytes, which lie behind missing ones. Whether they may be kept.
    fn scrub_tail(&self, tail: &mut [u8]) -> bool {
        match self {
            Self::Http(_) => {
                http::Stream::scrub_tail(tail);
                true
            }
            Self::RedisRequests(_) | Self::RedisReplies(_) => false,
        }
    }
}

/// Methods of requests that are not answered yet: an answer's content depends on it.
#[derive(Debug, Default)]
struct Heads(VecDeque<Vec<u8>>);

impl Heads {
    /// A client that pipelines more is told wrong, and what it is answered is left out.
    const MOST: usize = 64;

    fn asked(&mut self, method: &[u8]) {
        if self.0.len() < Self::MOST {
            self.0.push_back(method.to_vec());
        }
    }

    fn answered(&mut self) -> Option<Vec<u8>> {
        self.0.pop_front()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// One direction, with the offset where it goes on.
#[derive(Debug, Default)]
struct Way {
    stream: Option<Stream>,
    next: Option<u64>,
    credentials: Credentials,
}

#[derive(Debug, Default)]
struct Connection {
    sent: Way,
    received: Way,
    heads: Heads,
}

/// Overwrites what is not to be recorded.
#[derive(Debug, Default)]
pub struct Scrubber {
    with_payload: bool,
    connections: FxHashMap<u64, Connection>,
}

impl Scrubber {
    /// `with_payload`: all is kept that is not known to be a credential.
    pub fn new(with_payload: bool) -> Self {
        Self { with_payload, connections: FxHashMap::default() }
    }

    /// A connection is over.
    pub fn forget(&mut self, cookie: u64) {
        self.connections.remove(&cookie);
    }

    /// What is kept of an operation. `spoken`: the protocol's name, and the process's side.
    pub fn scrub(
        &mut self,
        operation: &Operation<'_>,
        spoken: Option<(&'static str, Role)>,
    ) -> Payload {
        let room = self.connections.len() < MAX_CONNECTIONS;
        if !room && !self.connections.contains_key(&operation.cookie) {
            return Payload::default();
        }
        let connection = self.connections.entry(operation.cookie).or_default();
        let way = if operation.sent { &mut connection.sent } else { &mut connection.received };
        let (mut bytes, mut tail) = (operation.payload.to_vec(), operation.tail.to_vec());
        if self.with_payload {
            let captured = (bytes.len() + tail.len()) as u64;
            let missing = u64::from(operation.length).saturating_sub(captured);
            way.credentials.hide(&mut bytes, missing, spoken, operation.sent);
            way.credentials.hide(&mut tail, 0, spoken, operation.sent);
            return Payload { bytes, tail };
        }
        let follows = way.next.is_none_or(|next| next == operation.offset)
            && !operation.lost_sent
            && !operation.lost_received;
        way.next = Some(operation.offset.saturating_add(operation.length.into()));
        // What came before its protocol was known is left out, and so nothing may follow on it.
        let Some((protocol, role)) = spoken else {
            return Payload::default();
        };
        if way.stream.is_none() {
            way.stream = Stream::new(protocol, operation.sent == (role == Role::Client));
        }
        let Some(stream) = &mut way.stream else { return Payload::default() };
        if !follows {
            stream.lose();
        }
        let captured = (bytes.len() + tail.len()) as u64;
        let missing = u64::from(operation.length).saturating_sub(bytes.len() as u64);
        let kept = stream.scrub(&mut bytes, missing, &mut connection.heads);
        let cut = kept < bytes.len();
        bytes.truncate(kept);
        if cut || captured == 0 || !stream.scrub_tail(&mut tail) {
            tail.clear();
        }
        Payload { bytes, tail }
    }
}

/// What takes the place of what is not recorded. No command's word is made of it alone.
const FILLER: u8 = b'q';

/// Overwrites all but what ends a line.
fn overwrite(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| !matches!(**byte, b'\r' | b'\n')).for_each(|it| *it = FILLER);
}

#[cfg(test)]
mod tests;
