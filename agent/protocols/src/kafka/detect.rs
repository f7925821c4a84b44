//! Is this Kafka, and which side of it? A pure function of a stream's first bytes.
//!
//! Every message begins with its length, as many protocols' do: what follows has to be what only Kafka says.
//! Serves the choice of a parser and, as [`begins_request`], the parser's own resynchronisation.

use super::frames::LENGTH_BYTES;
use super::names::Names;
use super::reader::{Read, Reader, Stop};
use super::requests::{self, HEADER_BYTES, Header};
use super::{ApiKey, Detected};
use crate::limits;

/// Recognises a request by its header: key and version of one that a 4.x broker takes, a client's name that is
/// text and not longer than the message; `Produce` and requests without such a name by their body, too. Of
/// responses only that to `ApiVersions` is recognised: the others show nothing but a number.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detected {
    let Some((&length, body)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        // A message of a gigabyte is none.
        return if bytes.first().is_none_or(|first| *first <= 6) {
            Detected::NeedMore
        } else {
            Detected::No
        };
    };
    let length = u32::from_be_bytes(length);
    if length > limits::KAFKA_MESSAGE_BYTES {
        return Detected::No;
    }
    let reader = Reader::new(body, u64::from(length));
    match (request(reader, None), api_versions(reader)) {
        (Ok(()), _) => Detected::Requests,
        (_, Ok(())) => Detected::Responses,
        (Err(Stop::Broken), Err(Stop::Broken)) => Detected::No,
        _ => Detected::NeedMore,
    }
}

/// Whether a request begins at a piece's start, where framing was lost; `client_id`: who sends them, if that
/// is known.
pub(super) fn begins_request(bytes: &[u8], client_id: Option<&str>) -> bool {
    let Some((&length, body)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return false };
    let length = u32::from_be_bytes(length);
    length <= limits::KAFKA_MESSAGE_BYTES
        && request(Reader::new(body, u64::from(length)), client_id).is_ok()
}

fn request(mut reader: Reader<'_>, known: Option<&str>) -> Read<()> {
    if reader.left() < HEADER_BYTES as u64 + 2 {
        return Err(Stop::Broken);
    }
    let mut start = reader;
    let api = ApiKey(start.i16()?);
    let versions = api.versions().ok_or(Stop::Broken)?;
    let version = start.i16()?;
    if !(versions.least..=versions.most).contains(&version) {
        return Err(Stop::Broken);
    }
    // Clients count from 0 on.
    if start.i32()? < 0 {
        return Err(Stop::Broken);
    }
    let header = Header::read(&mut reader)?;
    let named = header.client_id.filter(|id| !id.is_empty());
    if known.is_some() && named != known {
        return Err(Stop::Broken);
    }
    match api {
        ApiKey::PRODUCE => produce(reader, version),
        // Nothing may follow, or it is of a kind that every client sends.
        _ if named.is_some() || reader.left() == 0 => Ok(()),
        ApiKey::API_VERSIONS | ApiKey::METADATA | ApiKey::FETCH => Ok(()),
        _ => Err(Stop::Broken),
    }
}

/// As much of a `Produce` as shows that it is one.
fn produce(mut reader: Reader<'_>, version: i16) -> Read<()> {
    let mut start = reader;
    start.skip_string()?;
    if !(-1..=1).contains(&start.i16()?) || start.i32()? < 0 {
        return Err(Stop::Broken);
    }
    if start.array()?.is_none_or(|topics| topics == 0) {
        return Err(Stop::Broken);
    }
    requests::topic(&mut start, version >= 13, &mut Names::default())?;
    reader = start;
    reader.array().map(|_| ())
}

/// As much of an answer to `ApiVersions` as shows that it is one.
fn api_versions(mut reader: Reader<'_>) -> Read<()> {
    // No broker takes as few requests.
    if reader.left() < 64 {
        return Err(Stop::Broken);
    }
    let (id, error) = (reader.i32()?, reader.i16()?);
    if id < 0 || error != 0 {
        return Err(Stop::Broken);
    }
    let mut compact = reader.flexible(true);
    let read = |reader: &mut Reader<'_>| -> Read<()> {
        let count = reader.array()?.ok_or(Stop::Broken)?;
        if !(10..=128).contains(&count) {
            return Err(Stop::Broken);
        }
        // The first two are those of 0 and 1.
        for api in [ApiKey::PRODUCE, ApiKey::FETCH] {
            let (key, least, most) = (reader.i16()?, reader.i16()?, reader.i16()?);
            if ApiKey(key) != api || !(0..=most).contains(&least) || most > 64 {
                return Err(Stop::Broken);
            }
            reader.tags()?;
        }
        Ok(())
    };
    match (read(&mut compact), read(&mut reader)) {
        (Ok(()), _) | (_, Ok(())) => Ok(()),
        (Err(Stop::Broken), Err(Stop::Broken)) => Err(Stop::Broken),
        _ => Err(Stop::Cut),
    }
}
