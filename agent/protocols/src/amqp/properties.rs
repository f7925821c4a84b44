//! A message's properties (section 4.2.6.1 of the specification), and those headers that say whose it is.
//!
//! Read as far as they were captured. Tables and arrays in headers are passed over by their length: nothing
//! nests here. Of other headers nothing is kept.

use super::content::Hash;
use super::method::Fields;
use crate::limits;
use crate::w3c::{TraceParent, combine_tracestate};

/// The properties that are of use. Texts are cut at no place: they have 255 bytes at most, but for headers,
/// of which [`limits::AMQP_HEADER_VALUE_BYTES`] are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// `message-id`.
    pub message_id: Option<Box<str>>,
    /// `correlation-id`.
    pub correlation_id: Option<Box<str>>,
    /// `reply-to`.
    pub reply_to: Option<Box<str>>,
    /// `type`.
    pub kind: Option<Box<str>>,
    /// `app-id`.
    pub app_id: Option<Box<str>>,
    /// The header `traceparent`, if there is one and it is valid.
    pub traceparent: Option<TraceParent>,
    /// The header `tracestate`, with a valid `traceparent`.
    pub tracestate: Option<Box<str>>,
    /// The header `task`: what Celery calls a job.
    pub task: Option<Box<str>>,
    /// The header `id` of a message with a `task`.
    pub task_id: Option<Box<str>>,
    /// The header `retries` of a message with a `task`.
    pub task_retries: Option<u64>,
    /// FNV-1a of what identifies a message and reaches its consumers unchanged: `content-type`,
    /// `content-encoding`, the five texts above, and the time stamp. `None`: capture cut them.
    pub hash: Option<u64>,
}

impl Properties {
    /// Reads them from their flags on. `whole`: nothing of them is missing.
    pub(super) fn read(bytes: &[u8], whole: bool) -> Self {
        let mut found = Self::default();
        let mut hash = Hash::default();
        if found.fill(bytes, &mut hash).is_some() && whole {
            found.hash = Some(hash.value());
        }
        found
    }

    /// `None`: they go on behind what is there.
    fn fill(&mut self, bytes: &[u8], hash: &mut Hash) -> Option<()> {
        let mut fields = Fields(bytes);
        let flags = fields.u16()?;
        // Further flags follow where the last bit is set; this class has none.
        if flags & 1 != 0 {
            return None;
        }
        let has = |number: u16| flags >> (15 - number) & 1 != 0;
        for number in 0..14 {
            if !has(number) {
                continue;
            }
            match number {
                2 => {
                    let table = fields.u32()?;
                    let length = usize::try_from(table).ok()?;
                    self.headers(fields.0.get(..length).unwrap_or(fields.0));
                    fields.bytes(length)?;
                }
                // delivery-mode, priority.
                3 | 4 => drop(fields.u8()?),
                // timestamp.
                9 => hash.field(number, fields.bytes(8)?),
                _ => {
                    let value = fields.short()?;
                    // The expiration counts down in no queue, but a dead letter has none; who published is
                    // checked by the broker and told to all.
                    if !matches!(number, 7 | 11 | 13) {
                        hash.field(number, value);
                    }
                    let place = match number {
                        5 => &mut self.correlation_id,
                        6 => &mut self.reply_to,
                        8 => &mut self.message_id,
                        10 => &mut self.kind,
                        12 => &mut self.app_id,
                        _ => continue,
                    };
                    *place = Some(text(value));
                }
            }
        }
        Some(())
    }

    fn headers(&mut self, table: &[u8]) {
        let mut parents: [Option<&[u8]>; 2] = [None; 2];
        let mut state: Option<&[u8]> = None;
        let mut id = None;
        for (name, value) in Table::new(table) {
            match (name, value) {
                (name, Value::Text(value)) if name.eq_ignore_ascii_case(b"traceparent") => {
                    let free = parents.iter_mut().find(|place| place.is_none());
                    free.into_iter().for_each(|place| *place = Some(value));
                }
                (name, Value::Text(value)) if name.eq_ignore_ascii_case(b"tracestate") => {
                    state = Some(value);
                }
                (b"task", Value::Text(value)) => self.task = Some(text(value)),
                (b"id", Value::Text(value)) => id = Some(value),
                (b"retries", Value::Number(value)) => self.task_retries = Some(value),
                _ => {}
            }
        }
        if let [Some(parent), None] = parents {
            self.traceparent = TraceParent::parse(parent);
        }
        if self.traceparent.is_some() {
            self.tracestate =
                state.and_then(|state| Some(combine_tracestate(&[state])?.into_owned().into()));
        }
        match self.task {
            Some(_) => self.task_id = id.map(text),
            None => self.task_retries = None,
        }
    }
}

/// Text that may be kept, cut between characters.
pub(super) fn text(bytes: &[u8]) -> Box<str> {
    let kept = bytes.get(..limits::AMQP_HEADER_VALUE_BYTES).unwrap_or(bytes);
    let valid = match std::str::from_utf8(kept) {
        Ok(valid) => valid,
        // Cut within a character.
        Err(error) if kept.len() < bytes.len() && error.error_len().is_none() => {
            std::str::from_utf8(kept.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or("")
        }
        Err(_) => return String::from_utf8_lossy(kept).into(),
    };
    valid.into()
}

/// A field's value, as far as it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(&'a [u8]),
    Number(u64),
    Other,
}

/// The fields of a table, one after the other, up to the first that was cut or has an unknown type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    fields: Fields<'a>,
    left: usize,
}

impl<'a> Table<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { fields: Fields(bytes), left: limits::AMQP_HEADERS }
    }
}

impl<'a> Iterator for Table<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let fields = &mut self.fields;
        let name = fields.short()?;
        // RabbitMQ's types, which differ from the specification's
        // (https://www.rabbitmq.com/docs/amqp-0-9-1-errata).
        let value = match fields.u8()? {
            b'S' | b'x' => Value::Text(fields.long()?),
            b'F' | b'A' => {
                fields.long()?;
                Value::Other
            }
            b't' | b'b' | b'B' => Value::Number(u64::from(fields.u8()?)),
            b's' | b'u' => Value::Number(u64::from(fields.u16()?)),
            b'I' | b'i' => Value::Number(u64::from(fields.u32()?)),
            b'l' | b'L' | b'T' => Value::Number(fields.u64()?),
            b'f' => {
                fields.bytes(4)?;
                Value::Other
            }
            b'd' => {
                fields.bytes(8)?;
                Value::Other
            }
            b'D' => {
                fields.bytes(5)?;
                Value::Other
            }
            b'V' => Value::Other,
            _ => return None,
        };
        Some((name, value))
    }
}
