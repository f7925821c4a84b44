//! A client's messages: their header, and of some the content.
//!
//! A body that was not captured to its end gives what is there of it.

use std::sync::Arc;

use super::ApiKey;
use super::batch;
use super::event::{Commit, Fact, Produced, Topic};
use super::names::{self, Names};
use super::pending::Positions;
use super::reader::{Read, Reader, Stop};
use crate::limits;

/// Bytes of a request's header that every one has: key, version, correlation id.
pub(super) const HEADER_BYTES: usize = 8;

/// What every request begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) id: i32,
    pub(super) client_id: Option<&'a str>,
}

impl<'a> Header<'a> {
    /// Reads it; the rest is the body. What can't be a request's is broken.
    pub(super) fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let (api, version, id) = (ApiKey(reader.i16()?), reader.i16()?, reader.i32()?);
        // Further requests and versions come with every release.
        if !(0..128).contains(&api.0) || !(0..64).contains(&version) {
            return Err(Stop::Broken);
        }
        let client_id = match reader.old_string()? {
            Some(bytes) => Some(names::text(bytes).ok_or(Stop::Broken)?),
            None => None,
        };
        *reader = reader.flexible(api.is_flexible(version));
        reader.tags()?;
        Ok(Self { api, version, id, client_id })
    }
}

/// A partition's part of a `Produce`.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it begins in the message.
    pub(super) at: u64,
    pub(super) produced: Produced,
}

/// A `Produce`.
#[derive(Debug, Default)]
pub(super) struct Produce {
    /// The broker is to answer.
    pub(super) answered: bool,
    pub(super) parts: Vec<Part>,
    /// There are no others.
    pub(super) whole: bool,
}

/// A topic by name or, where `by_id`, by id.
pub(super) fn topic(reader: &mut Reader<'_>, by_id: bool, names: &mut Names) -> Read<Topic> {
    if by_id {
        return reader.uuid().map(Topic::Id);
    }
    let name = reader.string()?.filter(|name| !name.is_empty()).ok_or(Stop::Broken)?;
    names.get(name).map(Topic::Name).ok_or(Stop::Broken)
}

/// Reads a `Produce`. `keys`: the key of a lone record is kept.
pub(super) fn produce(
    mut reader: Reader<'_>,
    version: i16,
    names: &mut Names,
    keys: bool,
) -> Read<Produce> {
    let mut produce = Produce::default();
    match read_produce(&mut reader, version, names, keys, &mut produce) {
        Ok(()) => {}
        Err(Stop::Cut) => produce.whole = false,
        Err(Stop::Broken) => return Err(Stop::Broken),
    }
    Ok(produce)
}

fn read_produce(
    reader: &mut Reader<'_>,
    version: i16,
    names: &mut Names,
    keys: bool,
    produce: &mut Produce,
) -> Read<()> {
    let length = reader.left();
    // Until it is known that nothing is to come, something is.
    produce.answered = true;
    if version >= 3 {
        reader.skip_string()?;
    }
    let acks = reader.i16()?;
    if !(-1..=1).contains(&acks) {
        return Err(Stop::Broken);
    }
    produce.answered = acks != 0;
    reader.i32()?;
    for _ in 0..reader.array()?.unwrap_or(0) {
        let topic = topic(reader, version >= 13, names)?;
        for _ in 0..reader.array()?.unwrap_or(0) {
            let at = length - reader.left();
            let partition = reader.i32()?;
            let records = reader.bytes()?;
            if produce.parts.len() >= limits::KAFKA_PARTITIONS {
                return Err(Stop::Cut);
            }
            if let Some(records) = records {
                let records = Some(batch::read(records, None, keys).records);
                let produced = Produced { topic: topic.clone(), partition, records };
                produce.parts.push(Part { at, produced });
            }
            reader.tags()?;
        }
        reader.tags()?;
    }
    produce.whole = true;
    Ok(())
}

/// Reads what a `Fetch` says about where the client is.
pub(super) fn fetch(
    reader: &mut Reader<'_>,
    version: i16,
    names: &mut Names,
    positions: &mut Positions,
) -> Read<()> {
    if version <= 14 {
        reader.i32()?;
    }
    // Longest wait, least bytes, most bytes, isolation.
    reader.skip(8)?;
    if version >= 3 {
        reader.skip(4)?;
    }
    if version >= 4 {
        reader.skip(1)?;
    }
    let mut incremental = false;
    if version >= 7 {
        let (_, epoch) = (reader.i32()?, reader.i32()?);
        incremental = epoch > 0;
    }
    if !incremental {
        positions.clear();
    }
    for _ in 0..reader.array()?.unwrap_or(0) {
        let topic = topic(reader, version >= 13, names)?;
        for _ in 0..reader.array()?.unwrap_or(0) {
            let partition = reader.i32()?;
            if version >= 9 {
                reader.skip(4)?;
            }
            let offset = reader.i64()?;
            if version >= 12 {
                reader.skip(4)?;
            }
            if version >= 5 {
                reader.skip(8)?;
            }
            reader.skip(4)?;
            reader.tags()?;
            positions.set(&topic, partition, offset);
        }
        reader.tags()?;
    }
    Ok(())
}

/// Reads an `OffsetCommit`, or the like of a transaction; `told` of the topics.
pub(super) fn commit(
    mut reader: Reader<'_>,
    (api, version): (ApiKey, i16),
    names: &mut Names,
    told: &mut dyn FnMut(&Arc<str>, Topic),
) -> Read<Commit> {
    let of_transaction = api == ApiKey::TXN_OFFSET_COMMIT;
    if of_transaction {
        reader.skip_string()?;
    }
    let group = reader.string()?.ok_or(Stop::Broken)?;
    let group = names.get(group).ok_or(Stop::Broken)?;
    let mut commit = Commit { group, first: None, one_topic: true, partitions: None };
    match read_commit(&mut reader, (of_transaction, version), names, &mut commit, told) {
        Ok(count) => commit.partitions = Some(count),
        Err(Stop::Cut) => commit.one_topic = false,
        Err(Stop::Broken) => return Err(Stop::Broken),
    }
    Ok(commit)
}

fn read_commit(
    reader: &mut Reader<'_>,
    (of_transaction, version): (bool, i16),
    names: &mut Names,
    commit: &mut Commit,
    told: &mut dyn FnMut(&Arc<str>, Topic),
) -> Read<u32> {
    if of_transaction {
        reader.skip(8 + 2)?;
    }
    let has_member = if of_transaction { version >= 3 } else { version >= 1 };
    if has_member {
        reader.i32()?;
        reader.skip_string()?;
    }
    if version >= if of_transaction { 3 } else { 7 } {
        reader.skip_string()?;
    }
    if !of_transaction && (2..=4).contains(&version) {
        reader.skip(8)?;
    }
    let has_epoch = version >= if of_transaction { 2 } else { 6 };
    let has_time = !of_transaction && version == 1;
    let (mut topics, mut partitions) = (0_usize, 0_u32);
    for _ in 0..reader.array()?.unwrap_or(0) {
        let topic = topic(reader, !of_transaction && version >= 10, names)?;
        topics += 1;
        commit.one_topic = topics == 1;
        if topics <= limits::KAFKA_PARTITIONS {
            told(&commit.group, topic.clone());
        }
        for _ in 0..reader.array()?.unwrap_or(0) {
            let (partition, offset) = (reader.i32()?, reader.i64()?);
            reader.skip(if has_epoch { 4 } else { 0 } + if has_time { 8 } else { 0 })?;
            reader.skip_string()?;
            reader.tags()?;
            partitions = partitions.saturating_add(1);
            if commit.first.is_none() {
                commit.first = Some((topic.clone(), partition, offset));
            }
        }
        reader.tags()?;
    }
    Ok(partitions)
}

/// Reads an `OffsetFetch`: a member asks where its group is, of the topics that it is going to read.
pub(super) fn offset_fetch(
    reader: &mut Reader<'_>,
    version: i16,
    names: &mut Names,
    told: &mut dyn FnMut(&Arc<str>, Topic),
) -> Read<()> {
    let groups = if version >= 8 { reader.array()?.unwrap_or(0) } else { 1 };
    for _ in 0..groups {
        let group = reader.string()?.ok_or(Stop::Broken)?;
        let group = names.get(group).ok_or(Stop::Broken)?;
        if version >= 9 {
            reader.skip_string()?;
            reader.i32()?;
        }
        for _ in 0..reader.array()?.unwrap_or(0) {
            let topic = topic(reader, version >= 10, names)?;
            reader.skip_array(4)?;
            reader.tags()?;
            told(&group, topic);
        }
        if version >= 8 {
            reader.tags()?;
        }
    }
    Ok(())
}

/// A [`Fact::Group`].
pub(super) fn member(client_id: Option<&Arc<str>>, group: &Arc<str>, topic: Topic) -> Fact {
    Fact::Group { client_id: client_id.cloned(), group: Arc::clone(group), topic }
}
