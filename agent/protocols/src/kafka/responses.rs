//! A broker's messages: their header, and of some the content.
//!
//! A body that was not captured to its end gives what is there of it.

use super::batch;
use super::error::ErrorCode;
use super::event::{Delivered, Fact, Records, Topic};
use super::names::Names;
use super::pending::Positions;
use super::reader::{Read, Reader, Stop};
use super::requests::topic;
use crate::limits;

/// Longest throttling that is believed: a day.
const THROTTLE_MS: i32 = 24 * 3600 * 1000;

fn throttle(reader: &mut Reader<'_>) -> Read<()> {
    if (0..=THROTTLE_MS).contains(&reader.i32()?) { Ok(()) } else { Err(Stop::Broken) }
}

/// What became of a partition's batches.
pub(super) struct Appended {
    pub(super) topic: Topic,
    pub(super) partition: i32,
    pub(super) base_offset: Option<i64>,
    pub(super) error: Option<ErrorCode>,
}

/// Reads a `Produce`'s.
pub(super) fn produce(
    reader: &mut Reader<'_>,
    version: i16,
    names: &mut Names,
    told: &mut dyn FnMut(Appended),
) -> Read<()> {
    let mut count = 0;
    for _ in 0..reader.array()?.unwrap_or(0) {
        let topic = topic(reader, version >= 13, names)?;
        for _ in 0..reader.array()?.unwrap_or(0) {
            let partition = reader.i32()?;
            let error = ErrorCode::new(reader.i16()?);
            let base_offset = Some(reader.i64()?).filter(|offset| *offset >= 0 && error.is_none());
            count += 1;
            if count <= limits::KAFKA_PARTITIONS {
                told(Appended { topic: topic.clone(), partition, base_offset, error });
            }
            reader.skip(if version >= 2 { 8 } else { 0 } + if version >= 5 { 8 } else { 0 })?;
            if version >= 8 {
                for _ in 0..reader.array()?.unwrap_or(0) {
                    reader.i32()?;
                    reader.skip_string()?;
                    reader.tags()?;
                }
                reader.skip_string()?;
            }
            reader.tags()?;
        }
        reader.tags()?;
    }
    if version >= 1 {
        throttle(reader)?;
    }
    reader.tags()
}

/// Reads a `Fetch`'s: the partitions that have records or an error. `keys`: the key of a lone record is kept.
pub(super) fn fetch(
    reader: &mut Reader<'_>,
    version: i16,
    names: &mut Names,
    positions: &Positions,
    keys: bool,
    told: &mut dyn FnMut(Delivered),
) -> Read<()> {
    if version >= 1 {
        throttle(reader)?;
    }
    if version >= 7 {
        reader.i16()?;
        reader.i32()?;
    }
    for _ in 0..reader.array()?.unwrap_or(0) {
        let topic = topic(reader, version >= 13, names)?;
        for _ in 0..reader.array()?.unwrap_or(0) {
            let partition = reader.i32()?;
            let error = ErrorCode::new(reader.i16()?);
            reader.skip(8)?;
            if version >= 4 {
                reader.skip(8 + if version >= 5 { 8 } else { 0 })?;
                for _ in 0..reader.array()?.unwrap_or(0) {
                    reader.skip(8 + 8)?;
                    reader.tags()?;
                }
            }
            reader.skip(if version >= 11 { 4 } else { 0 })?;
            let records = reader.bytes()?.filter(|records| records.left() > 0);
            let delivered = deliver(records, (topic.clone(), partition), error, positions, keys);
            if let Some(delivered) = delivered {
                told(delivered);
            }
            reader.tags()?;
        }
        reader.tags()?;
    }
    reader.tags()
}

/// What a partition's part of an answer brings, if it is anything.
fn deliver(
    records: Option<Reader<'_>>,
    (topic, partition): (Topic, i32),
    error: Option<ErrorCode>,
    positions: &Positions,
    keys: bool,
) -> Option<Delivered> {
    // Where the client is not known, all counts.
    let from = positions.of(&topic, partition).unwrap_or(0);
    let batches = records.map(|records| batch::read(records, Some(from), keys)).unwrap_or_default();
    // Without a count there is something that was not captured; with one of nothing, there is nothing.
    let nothing = batches.records.count.map_or(batches.records.bytes, |count| count) == 0;
    if nothing && error.is_none() {
        return None;
    }
    let records =
        if nothing { Records { count: Some(0), ..Records::default() } } else { batches.records };
    Some(Delivered {
        topic,
        partition,
        first_offset: batches.first_offset,
        next_offset: batches.next_offset,
        records,
        error,
        cut: false,
    })
}

/// Reads an `OffsetCommit`'s, or that of a transaction: the first error.
pub(super) fn commit(
    reader: &mut Reader<'_>,
    by_id: bool,
    throttled: bool,
    names: &mut Names,
) -> (Option<ErrorCode>, Read<()>) {
    let mut first = None;
    let read = read_commit(reader, by_id, throttled, names, &mut first);
    (first, read)
}

fn read_commit(
    reader: &mut Reader<'_>,
    by_id: bool,
    throttled: bool,
    names: &mut Names,
    first: &mut Option<ErrorCode>,
) -> Read<()> {
    if throttled {
        throttle(reader)?;
    }
    for _ in 0..reader.array()?.unwrap_or(0) {
        topic(reader, by_id, names)?;
        for _ in 0..reader.array()?.unwrap_or(0) {
            reader.i32()?;
            let error = ErrorCode::new(reader.i16()?);
            *first = first.or(error);
            reader.tags()?;
        }
        reader.tags()?;
    }
    reader.tags()
}

/// Reads a `Metadata`'s: the cluster's id, and topics' ids with their names.
pub(super) fn metadata(
    reader: &mut Reader<'_>,
    version: i16,
    names: &mut Names,
    told: &mut dyn FnMut(Fact),
) -> Read<()> {
    if version >= 3 {
        throttle(reader)?;
    }
    for _ in 0..reader.array()?.unwrap_or(0) {
        reader.i32()?;
        reader.skip_string()?;
        reader.i32()?;
        if version >= 1 {
            reader.skip_string()?;
        }
        reader.tags()?;
    }
    if version >= 2
        && let Some(cluster) = reader.string()?
    {
        told(Fact::Cluster(names.get(cluster).ok_or(Stop::Broken)?));
    }
    if version >= 1 {
        reader.i32()?;
    }
    for _ in 0..reader.array()?.unwrap_or(0) {
        reader.i16()?;
        let name = reader.string()?;
        let id = if version >= 10 { reader.uuid()? } else { [0; 16] };
        if id != [0; 16]
            && let Some(name) = name.and_then(|name| names.get(name))
        {
            told(Fact::Topic { id, name });
        }
        if version >= 1 {
            reader.skip(1)?;
        }
        for _ in 0..reader.array()?.unwrap_or(0) {
            reader.skip(2 + 4 + 4 + if version >= 7 { 4 } else { 0 })?;
            reader.skip_array(4)?;
            reader.skip_array(4)?;
            if version >= 5 {
                reader.skip_array(4)?;
            }
            reader.tags()?;
        }
        if version >= 8 {
            reader.skip(4)?;
        }
        reader.tags()?;
    }
    Ok(())
}
