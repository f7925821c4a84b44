//! A message while its frames pass on a channel: the method, the header, the body's frames.
//!
//! Of the body two hashes are made, by FNV-1a (<https://www.rfc-editor.org/rfc/rfc9923>): of all of it, and of
//! its beginning, which capture has more often. They tell whether two messages are the same; nobody who would
//! forge one gains anything.

use std::sync::Arc;

use super::event::Message;
use super::method::Fields;
use super::properties::Properties;
use crate::limits;

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// A field with its number and length: two fields are never taken for one.
    pub(super) fn field(&mut self, number: u16, bytes: &[u8]) {
        self.bytes(&number.to_be_bytes());
        self.bytes(&(bytes.len() as u64).to_be_bytes());
        self.bytes(bytes);
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// What brings a message.
#[derive(Debug)]
pub(super) enum Carrier {
    Publish { mandatory: bool },
    Deliver { consumer: Box<str>, tag: u64, redelivered: bool },
    GetOk { tag: u64, redelivered: bool },
    Return { code: u16 },
}

/// A message whose frames are passing.
#[derive(Debug)]
pub(super) struct Content<M> {
    pub(super) carrier: Carrier,
    pub(super) exchange: Box<str>,
    pub(super) routing_key: Box<str>,
    pub(super) offset: u64,
    pub(super) first: M,
    /// Bytes of its frames so far.
    pub(super) bytes: u64,
    properties: Option<Properties>,
    body_bytes: u64,
    passed: u64,
    hash: Hash,
    hashed: u64,
    prefix: Option<u64>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Complete,
    /// These frames are not those of one message.
    Broken,
}

impl<M> Content<M> {
    pub(super) fn new(
        carrier: Carrier,
        exchange: Box<str>,
        routing_key: Box<str>,
        offset: u64,
        first: M,
        bytes: u64,
    ) -> Self {
        Self {
            carrier,
            exchange,
            routing_key,
            offset,
            first,
            bytes,
            properties: None,
            body_bytes: 0,
            passed: 0,
            hash: Hash::default(),
            hashed: 0,
            prefix: None,
        }
    }

    /// The header's frame passed.
    pub(super) fn header(&mut self, payload: &[u8], whole: bool, bytes: u64) -> Progress {
        self.bytes = self.bytes.saturating_add(bytes);
        let mut fields = Fields(payload);
        let mut head = || Some((fields.u16()?, fields.u16()?, fields.u64()?));
        let (None, Some((class, _, body_bytes))) = (&self.properties, head()) else {
            return Progress::Broken;
        };
        if class != 60 {
            return Progress::Broken;
        }
        self.properties = Some(Properties::read(fields.0, whole));
        self.body_bytes = body_bytes;
        if body_bytes == 0 { Progress::Complete } else { Progress::More }
    }

    /// Bytes of the body passed.
    pub(super) fn part(&mut self, captured: &[u8], missing: u64) -> Progress {
        if self.properties.is_none() {
            return Progress::Broken;
        }
        let before = self.passed;
        self.passed = before.saturating_add(captured.len() as u64).saturating_add(missing);
        if self.passed > self.body_bytes {
            return Progress::Broken;
        }
        if self.hashed == before {
            let prefix = limits::AMQP_PREFIX_BYTES.min(self.body_bytes);
            let to_prefix = usize::try_from(prefix.saturating_sub(before)).unwrap_or(usize::MAX);
            let (head, rest) = captured.split_at_checked(to_prefix).unwrap_or((captured, &[]));
            self.hash.bytes(head);
            if self.prefix.is_none() && before + head.len() as u64 == prefix {
                self.prefix = Some(self.hash.value());
            }
            if self.body_bytes <= limits::AMQP_HASHED_BYTES {
                self.hash.bytes(rest);
                self.hashed += captured.len() as u64;
            } else {
                self.hashed += head.len() as u64;
            }
        }
        Progress::More
    }

    /// A body's frame is over.
    pub(super) fn body_frame(&mut self, bytes: u64) -> Progress {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.properties.is_some() && self.passed == self.body_bytes {
            Progress::Complete
        } else {
            Progress::More
        }
    }

    /// The message; what brought it, its exchange and its routing key.
    pub(super) fn finish(self) -> (Carrier, Box<str>, Box<str>, Message) {
        let hash = self.hash.value();
        let message = Message {
            properties: self.properties.unwrap_or_default(),
            body_bytes: self.body_bytes,
            body_hash: (self.hashed == self.body_bytes).then_some(hash),
            prefix_hash: if self.body_bytes == 0 { Some(hash) } else { self.prefix },
        };
        (self.carrier, self.exchange, self.routing_key, message)
    }
}

/// What tells messages of the same exchange and routing key apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Likeness {
    names: u64,
    body_bytes: u64,
    properties: Option<u64>,
    prefix: Option<u64>,
}

impl Likeness {
    pub(super) fn of(exchange: &str, routing_key: &str, message: &Message) -> Self {
        let mut names = Hash::default();
        names.field(0, exchange.as_bytes());
        names.field(1, routing_key.as_bytes());
        Self {
            names: names.value(),
            body_bytes: message.body_bytes,
            properties: message.properties.hash,
            prefix: message.prefix_hash,
        }
    }

    /// Nothing that is known of both differs.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        let agree = |a: Option<u64>, b: Option<u64>| a.is_none() || b.is_none() || a == b;
        self.names == other.names
            && self.body_bytes == other.body_bytes
            && agree(self.properties, other.properties)
            && agree(self.prefix, other.prefix)
    }
}

/// A name as it is kept; `None` for the empty one.
pub(super) fn name(bytes: &[u8]) -> Option<Arc<str>> {
    (!bytes.is_empty()).then(|| Arc::from(super::properties::text(bytes)))
}
