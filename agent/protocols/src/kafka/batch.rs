//! Record batches: how many records, at which offsets, with which headers
//! (<https://kafka.apache.org/documentation/#recordbatch>, KIP-98).
//!
//! A batch's own header is never compressed: count and offsets come from there. Records' keys and headers are
//! read, of compressed batches of the first records. Values are passed over. Message sets of magic 0 and 1, which brokers
//! from 4.0 on neither take nor give, are not read.

use super::compressed;
use super::event::{Batch, Records};
use super::reader::{Read, Reader, Stop};
use crate::limits;
use crate::w3c::TraceParent;

/// The present format.
const MAGIC: i8 = 2;

/// The compression's bits in a batch's attributes.
const COMPRESSION: i16 = 0b111;

/// Its records are the broker's marks of a transaction's end, and no messages.
const CONTROL: i16 = 1 << 5;

/// Bytes of a batch's header behind its length.
const HEADER_BYTES: u64 = 49;

/// What a run of batches shows.
#[derive(Debug, Default)]
pub(super) struct Batches {
    pub(super) records: Records,
    /// Offset of the first record, of those that were asked for.
    pub(super) first_offset: Option<i64>,
    /// The offset behind the last; `None` where its batch's header was not captured.
    pub(super) next_offset: Option<i64>,
}

/// Reads batches, of an answer only what is at `from` or behind it. `keys`: a key is kept.
pub(super) fn read(mut reader: Reader<'_>, from: Option<i64>, keys: bool) -> Batches {
    let mut found = Found {
        bytes: reader.left(),
        count: 0,
        with_context: 0,
        contexts: Vec::new(),
        batches: Vec::new(),
        keys,
        key: None,
        first_offset: None,
        next_offset: None,
        all: true,
        decoded: 0,
    };
    while reader.left() > 0 {
        match found.batch(&mut reader, from.unwrap_or(i64::MIN)) {
            Ok(true) => {}
            // A broker cuts an answer where it is full: what is left is no batch, and will come again.
            Ok(false) => break,
            Err(_) => {
                found.all = false;
                break;
            }
        }
    }
    found.batches()
}

struct Found {
    bytes: u64,
    count: u64,
    with_context: u64,
    contexts: Vec<TraceParent>,
    batches: Vec<Batch>,
    keys: bool,
    key: Option<Box<str>>,
    first_offset: Option<i64>,
    next_offset: Option<i64>,
    /// All batches' headers were there.
    all: bool,
    /// Batches that were decompressed.
    decoded: u32,
}

impl Found {
    /// One batch; `false`: it goes on behind the end.
    fn batch(&mut self, reader: &mut Reader<'_>, from: i64) -> Read<bool> {
        if reader.left() < HEADER_BYTES + 12 {
            return Ok(false);
        }
        let base = reader.i64()?;
        let length = u64::try_from(reader.i32()?).ok().ok_or(Stop::Broken)?;
        if length < HEADER_BYTES {
            return Err(Stop::Broken);
        }
        if length > reader.left() {
            return Ok(false);
        }
        let mut batch = reader.part(length)?;
        batch.skip(4)?;
        if batch.i8()? != MAGIC {
            return Err(Stop::Broken);
        }
        batch.skip(4)?;
        let attributes = batch.i16()?;
        let last_delta = batch.i32()?;
        batch.skip(8 + 8 + 8 + 2 + 4)?;
        let count = batch.i32()?;
        let (Ok(count), true) = (u64::try_from(count), base >= 0 && last_delta >= 0) else {
            return Err(Stop::Broken);
        };
        let next = base.saturating_add(i64::from(last_delta)).saturating_add(1);
        if next <= from || attributes & CONTROL != 0 {
            return Ok(true);
        }
        // Of a compacted batch fewer are there than its offsets say.
        let asked = next.saturating_sub(from.max(base));
        let asked = count.min(u64::try_from(asked).unwrap_or(u64::MAX));
        if asked == 0 {
            return Ok(true);
        }
        self.count = self.count.saturating_add(asked);
        // A client numbers what it sends from 0 on.
        if from > i64::MIN && self.batches.len() < limits::KAFKA_BATCHES {
            self.batches.push(Batch { base_offset: base, count });
        }
        self.first_offset.get_or_insert(from.max(base));
        self.next_offset = Some(next);
        // Records that can't be read take nothing from what the header says.
        match attributes & COMPRESSION {
            0 => self.records(batch, count, base, from).unwrap_or_default(),
            _ if self.decoded >= limits::KAFKA_DECODED_BATCHES => {}
            codec => {
                self.decoded += 1;
                let bytes = compressed::decode(codec, batch.captured());
                // How many there are behind those is not known.
                let batch = Reader::new(&bytes, u64::from(u32::MAX));
                self.records(batch, count, base, from).unwrap_or_default();
            }
        }
        Ok(true)
    }

    fn records(&mut self, mut batch: Reader<'_>, count: u64, base: i64, from: i64) -> Read<()> {
        for _ in 0..count {
            let length = size(batch.varlong()?)?.ok_or(Stop::Broken)?;
            let mut record = batch.part(length)?;
            record.skip(1)?;
            record.varlong()?;
            let delta = record.varlong()?;
            if base.saturating_add(delta) < from {
                continue;
            }
            let key = match size(record.varlong()?)? {
                Some(length) => Some(record.part(length)?),
                None => None,
            };
            if self.keys && count == 1 {
                self.key = key.and_then(text);
            }
            let value = size(record.varlong()?)?;
            record.skip(value.unwrap_or(0))?;
            let context = context(record)?;
            if let Some(context) = context {
                self.with_context += 1;
                if !self.contexts.contains(&context) {
                    if self.contexts.len() >= limits::KAFKA_CONTEXTS {
                        // Without it nobody can say that all have one of these.
                        self.with_context -= 1;
                        continue;
                    }
                    self.contexts.push(context);
                }
            }
        }
        Ok(())
    }

    fn batches(self) -> Batches {
        let count = self.all.then_some(self.count);
        Batches {
            records: Records {
                bytes: self.bytes,
                count,
                all_have_contexts: count == Some(self.with_context) && self.with_context > 0,
                contexts: self.contexts,
                batches: self.batches,
                key: self.key.filter(|_| count == Some(1)),
            },
            first_offset: self.first_offset,
            next_offset: self.next_offset.filter(|_| self.all),
        }
    }
}

/// A length; `None`: null.
fn size(length: i64) -> Read<Option<u64>> {
    match length {
        -1 => Ok(None),
        length => u64::try_from(length).map(Some).ok().ok_or(Stop::Broken),
    }
}

/// A key that is text, short, and was captured.
fn text(mut key: Reader<'_>) -> Option<Box<str>> {
    let length = usize::try_from(key.left()).ok().filter(|it| *it <= limits::KAFKA_KEY_BYTES)?;
    super::names::text(key.take(length).ok()?).map(Box::from)
}

/// The context in a record's headers: none if there are two, which only one can be right.
fn context(mut record: Reader<'_>) -> Read<Option<TraceParent>> {
    let count = u64::try_from(record.varlong()?).ok().ok_or(Stop::Broken)?;
    let mut found = None;
    let mut times = 0_u32;
    for _ in 0..count {
        let length = size(record.varlong()?)?.ok_or(Stop::Broken)?;
        let mut key = record.part(length)?;
        let is_parent = length == 11 && key.take(11)?.eq_ignore_ascii_case(b"traceparent");
        let Some(length) = size(record.varlong()?)? else { continue };
        let value = record.part(length)?;
        if is_parent {
            times += 1;
            found = read_context(value)?;
        }
    }
    Ok(found.filter(|_| times == 1))
}

fn read_context(mut value: Reader<'_>) -> Read<Option<TraceParent>> {
    // A later version's may be longer; none is as long as this.
    let Some(length) = usize::try_from(value.left()).ok().filter(|length| *length <= 256) else {
        return Ok(None);
    };
    Ok(TraceParent::parse(value.take(length)?))
}
