//! The field section of an HTTP/1.x head (RFC 9112, 5): the few fields that framing and spans need.
//!
//! One pass, borrowed. Anything that would make two recipients read the section differently is broken;
//! a field that nobody here asks for is only checked for its form.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memchr;

use super::asked::{Field, Found};
use super::head::host;
use crate::{
    limits,
    propagation::{Carrier, Propagators},
    w3c::{TraceParent, combine_tracestate},
};

/// What the `Content-Length` fields of one message say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lengths {
    #[default]
    None,
    One(u64),
    Conflicting,
}

/// What the `Transfer-Encoding` fields of one message say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Coding {
    /// `chunked` is the last coding, and is there once.
    pub(super) chunked_last: bool,
    chunked_seen: bool,
}

#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) content_length: Lengths,
    pub(super) upgrade: bool,
    pub(super) expects_continue: bool,
    coding: Option<Coding>,
    host: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    forwarded: Option<&'a [u8]>,
    x_forwarded_for: Option<&'a [u8]>,
    traceparent: Option<&'a [u8]>,
    traceparents: u32,
    tracestate: Option<&'a [u8]>,
    /// Behind the first: hardly any message has them.
    tracestates: Vec<&'a [u8]>,
    others: Carrier<'a>,
    asked: Found<'a>,
}

impl<'a> Fields<'a> {
    /// Reads the lines after the first one. When not `complete`, a last line without end is left out:
    /// the `1` of `Content-Length: 10` says nothing. `asked`: names of fields that are kept. `None`: broken.
    pub(super) fn read(mut rest: &'a [u8], complete: bool, asked: &[Arc<str>]) -> Option<Self> {
        let mut fields = Self::default();
        let mut may_fold = false;
        while let Some((line, after)) = memchr(b'\n', rest).and_then(|at| rest.split_at_checked(at))
        {
            rest = after.get(1..).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                return Some(fields);
            }
            if line.iter().any(|byte| matches!(byte, b'\0' | b'\r')) {
                return None;
            }
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                // Line folding (5.2) is obsolete: tolerated where it can't change the framing.
                if !may_fold {
                    return None;
                }
                fields.asked.folded();
                continue;
            }
            let (name, value) = line.split_at_checked(memchr(b':', line)?)?;
            if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
                return None;
            }
            let value = value.get(1..)?.trim_ascii();
            if !asked.is_empty() {
                fields.asked.field(asked, name, value);
            }
            may_fold = fields.field(name, value);
        }
        (!complete).then_some(fields)
    }

    /// Takes one field; whether the value may go on in a folded line.
    fn field(&mut self, name: &[u8], value: &'a [u8]) -> bool {
        // By length first: most fields are none of these.
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("host") => {
                self.host.get_or_insert(value);
            }
            6 if is("expect") => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if is("upgrade") => self.upgrade = true,
            9 if is("forwarded") => {
                self.forwarded.get_or_insert(value);
            }
            10 if is("user-agent") => {
                self.user_agent.get_or_insert(value);
            }
            10 if is("tracestate") => match self.tracestate {
                None => self.tracestate = Some(value),
                Some(_) => self.tracestates.push(value),
            },
            11 if is("traceparent") => {
                self.traceparent = Some(value);
                self.traceparents += 1;
            }
            12 if is("content-type") => {
                self.content_type.get_or_insert(value);
            }
            14 if is("content-length") => {
                self.content_length = self.content_length.and(value);
                return false;
            }
            15 if is("x-forwarded-for") => {
                self.x_forwarded_for.get_or_insert(value);
            }
            17 if is("transfer-encoding") => {
                self.coding.get_or_insert_default().and(value);
                return false;
            }
            _ => self.others.take(name, value),
        }
        true
    }

    pub(super) fn transfer_coding(&self) -> Option<Coding> {
        self.coding
    }

    /// The length that frames the body: none where a transfer coding overrides it.
    pub(super) fn body_length(&self) -> Option<u64> {
        match (self.coding, self.content_length) {
            (None, Lengths::One(length)) => Some(length),
            _ => None,
        }
    }

    pub(super) fn host(&self) -> Option<Cow<'a, str>> {
        self.host.and_then(host)
    }

    pub(super) fn user_agent(&self) -> Option<Cow<'a, str>> {
        self.user_agent.and_then(|value| text(value, limits::HTTP1_VALUE_BYTES))
    }

    pub(super) fn content_type(&self) -> Option<Cow<'a, str>> {
        self.content_type.and_then(|value| text(value, limits::HTTP1_VALUE_BYTES))
    }

    /// The trace context that the message carries: its `traceparent`, else one in these formats.
    pub(super) fn context(&self, propagators: Propagators) -> Option<TraceParent> {
        self.traceparent().or_else(|| self.others.context(propagators))
    }

    fn traceparent(&self) -> Option<TraceParent> {
        // Of two nobody knows which is right.
        self.traceparent.filter(|_| self.traceparents == 1).and_then(TraceParent::parse)
    }

    /// W3C Trace Context, 3.3: without a valid `traceparent` the `tracestate` is not read.
    pub(super) fn tracestate(&self) -> Option<Cow<'a, str>> {
        self.traceparent()?;
        let first = self.tracestate?;
        if self.tracestates.is_empty() {
            return combine_tracestate(&[first]);
        }
        combine_tracestate(&[&[first], &*self.tracestates].concat())
    }

    /// The fields that were asked for.
    pub(super) fn take_asked(&mut self) -> Vec<Field<'a>> {
        std::mem::take(&mut self.asked).into_fields()
    }

    pub(super) fn forwarded(&self) -> Option<Cow<'a, str>> {
        let first = |value: &'a [u8]| value.split(|&byte| byte == b',').next().unwrap_or_default();
        let address = match (self.x_forwarded_for, self.forwarded) {
            (Some(value), _) => first(value),
            // RFC 7239, 4: `for=192.0.2.60;proto=http, for="[2001:db8::1]"`
            (None, Some(value)) => first(value)
                .split(|&byte| byte == b';')
                .map(<[u8]>::trim_ascii)
                .find_map(|pair| {
                    let (name, value) = pair.split_at_checked(4)?;
                    name.eq_ignore_ascii_case(b"for=").then_some(value)
                })?,
            (None, None) => return None,
        };
        let address = address.trim_ascii();
        let bare = address.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        text(bare.unwrap_or(address), limits::HTTP1_VALUE_BYTES)
    }
}

impl Lengths {
    /// Adds one field's value: a number, or (9110, 8.6) a list of one number repeated.
    fn and(self, value: &[u8]) -> Self {
        value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).fold(
            self,
            |lengths, value| match (lengths, decimal(value)) {
                (Self::None, Some(length)) => Self::One(length),
                (Self::One(before), Some(length)) if before == length => lengths,
                _ => Self::Conflicting,
            },
        )
    }
}

impl Coding {
    fn and(&mut self, value: &[u8]) {
        for coding in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if coding.is_empty() {
                continue;
            }
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.chunked_last = chunked && !self.chunked_seen;
            self.chunked_seen |= chunked;
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// At most `cap` bytes of `value` as text; `None` when empty.
pub(super) fn text(value: &[u8], cap: usize) -> Option<Cow<'_, str>> {
    if value.is_empty() {
        return None;
    }
    let (kept, cut) = match value.get(..cap) {
        Some(kept) => (kept, kept.len() < value.len()),
        None => (value, false),
    };
    let mut text = String::from_utf8_lossy(kept);
    if cut && text.ends_with(char::REPLACEMENT_CHARACTER) {
        // The cap fell inside a character.
        text.to_mut().pop();
    }
    Some(text)
}

/// `tchar` (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
