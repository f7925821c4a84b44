//! Tests of the Kafka parser: what they share. Events of a run, told in one line per exchange.

mod captures;
mod detection;
mod hostile;
mod oracle;
mod semantics;

use std::collections::BTreeMap;

use super::{fuzz::fuzz_kafka, *};
use crate::exchange::Parser as _;
use crate::limits;
use crate::script::Books;
use crate::testing::{self, Tested};
use Direction::{Requests, Responses};

type Run = testing::Run<Connection<u32>>;

impl Tested for Connection<u32> {
    type Told = Event<u32>;

    fn met(from_start: bool) -> Self {
        Self::new(from_start)
    }

    fn book(books: &mut Books, event: &Event<u32>) {
        fuzz::book(books, event.clone());
    }

    fn keep(event: Event<u32>) -> Event<u32> {
        event
    }
}

impl Run {
    /// What is told of everything but a client's own doing.
    fn told(&self) -> Vec<String> {
        let told = exchanges(&self.events);
        told.iter().filter(|it| !it.is_other()).map(Exchange::tell).collect()
    }

    fn facts(&self) -> Vec<&Fact> {
        let facts = self.events.iter().filter_map(|event| match event {
            Event::Fact(fact) => Some(fact),
            _ => None,
        });
        facts.collect()
    }

    fn skipped(&self) -> u64 {
        [Requests, Responses]
            .iter()
            .map(|&direction| self.connection.counters(direction).skipped_bytes)
            .sum()
    }
}

/// What the events say of one exchange.
#[derive(Clone, Debug, PartialEq)]
struct Exchange {
    offset: u64,
    request: Request,
    answered: bool,
    end: Option<Result<End, Abandon>>,
}

impl Exchange {
    fn is_other(&self) -> bool {
        matches!(self.request.operation, Operation::Other(_))
            || matches!(self.end, Some(Ok(End::Idle)))
    }

    /// `Produce orders/0 x3 > @7`.
    fn tell(&self) -> String {
        let asked = match &self.request.operation {
            Operation::Produce(it) => {
                let records = it.records.as_ref().map_or(" ?".to_owned(), tell_records);
                format!("Produce {}/{}{records}", tell_topic(&it.topic), it.partition)
            }
            Operation::Fetch => "Fetch".to_owned(),
            Operation::Commit(it) => {
                let first =
                    it.first.as_ref().map_or(String::new(), |(topic, partition, offset)| {
                        format!(" {}/{partition}={offset}", tell_topic(topic))
                    });
                let partitions = it.partitions.map_or("?".to_owned(), |count| count.to_string());
                let topics = if it.one_topic { "" } else { " and others" };
                format!("Commit {}{first} of {partitions}{topics}", it.group)
            }
            Operation::Other(api) => api.to_string(),
        };
        let end = match &self.end {
            None => "open".to_owned(),
            Some(Err(reason)) => format!("abandoned: {reason:?}"),
            Some(Ok(End::Produced { base_offset, error })) => match (base_offset, error) {
                (Some(offset), None) => format!("@{offset}"),
                (offset, error) => format!("{offset:?} {error:?}"),
            },
            Some(Ok(End::Fetched(it))) => {
                let error = it.error.map_or(String::new(), |error| format!(" {error}"));
                let range = match (it.first_offset, it.next_offset) {
                    (None, None) => String::new(),
                    (first, next) => format!(
                        " @{}..{}",
                        first.map_or(String::new(), |it| it.to_string()),
                        next.map_or(String::new(), |it| it.to_string())
                    ),
                };
                let cut = if it.cut { " cut" } else { "" };
                let records = tell_records(&it.records);
                format!("{}/{}{range}{records}{error}{cut}", tell_topic(&it.topic), it.partition)
            }
            Some(Ok(End::Committed { error: None })) => "noted".to_owned(),
            Some(Ok(End::Committed { error: Some(error) })) => error.to_string(),
            Some(Ok(end)) => format!("{end:?}"),
        };
        format!("{asked} > {end}")
    }
}

fn tell_topic(topic: &Topic) -> String {
    match topic {
        Topic::Name(name) => name.to_string(),
        Topic::Id(_) => "by id".to_owned(),
    }
}

fn tell_records(records: &Records) -> String {
    let count = records.count.map_or("?".to_owned(), |count| count.to_string());
    let all = if records.all_have_contexts { "all " } else { "" };
    let contexts = match records.contexts.len() {
        0 => String::new(),
        contexts => format!(" ({all}{contexts})"),
    };
    let key = records.key.as_deref().map_or(String::new(), |key| format!(" key {key}"));
    format!(" x{count}{contexts}{key}")
}

fn exchanges(events: &[Event<u32>]) -> Vec<Exchange> {
    let mut exchanges = BTreeMap::new();
    for event in events.iter().cloned() {
        match event {
            Event::Request { exchange, offset, request, .. } => {
                exchanges
                    .insert(exchange, Exchange { offset, request, answered: false, end: None });
            }
            Event::RequestEnd { .. } | Event::Fact(_) | Event::Skipped { .. } => {}
            Event::Response { exchange, .. } => {
                exchanges.get_mut(&exchange).unwrap().answered = true;
            }
            Event::End { exchange, end, .. } => {
                exchanges.get_mut(&exchange).unwrap().end = Some(Ok(end));
            }
            Event::Abandoned { exchange, reason } => {
                exchanges.get_mut(&exchange).unwrap().end = Some(Err(reason));
            }
        }
    }
    exchanges.into_values().collect()
}

/// Messages as clients and brokers write them.
mod write {
    /// A message: its length, and what it is.
    pub(super) fn message(parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    }

    pub(super) fn string(text: &str) -> Vec<u8> {
        [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
    }

    /// A request of an older, not flexible version.
    pub(super) fn request(api: i16, version: i16, id: i32, body: &[&[u8]]) -> Vec<u8> {
        let head = [&api.to_be_bytes()[..], &version.to_be_bytes(), &id.to_be_bytes()].concat();
        message(&[&head, &string("shop"), &body.concat()])
    }

    pub(super) fn response(id: i32, body: &[&[u8]]) -> Vec<u8> {
        message(&[&id.to_be_bytes(), &body.concat()])
    }

    pub(super) fn varint(value: i64) -> Vec<u8> {
        let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
        let mut bytes = Vec::new();
        loop {
            let byte = (rest & 0x7f) as u8;
            rest >>= 7;
            bytes.push(if rest > 0 { byte | 0x80 } else { byte });
            if rest == 0 {
                return bytes;
            }
        }
    }

    /// A record with these headers.
    pub(super) fn record(
        delta: i64,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, &[u8])],
    ) -> Vec<u8> {
        let sized = |bytes: &[u8]| [varint(bytes.len() as i64), bytes.to_vec()].concat();
        let mut body = [&[0][..], &varint(0), &varint(delta)].concat();
        body.extend(key.map_or(varint(-1), sized));
        body.extend(sized(value));
        body.extend(varint(headers.len() as i64));
        for (name, value) in headers {
            body.extend([sized(name.as_bytes()), sized(value)].concat());
        }
        sized(&body)
    }

    /// A batch of records, the last of which has this delta.
    pub(super) fn batch(
        base: i64,
        attributes: i16,
        last_delta: i32,
        count: i32,
        records: &[u8],
    ) -> Vec<u8> {
        let mut body = [&[0; 4][..], &[2], &[0; 4], &attributes.to_be_bytes()].concat();
        body.extend(last_delta.to_be_bytes());
        body.extend([0; 8 + 8 + 8 + 2 + 4]);
        body.extend(count.to_be_bytes());
        body.extend(records);
        [&base.to_be_bytes()[..], &(body.len() as i32).to_be_bytes(), &body].concat()
    }

    /// A batch of so many records.
    pub(super) fn records(base: i64, count: i32) -> Vec<u8> {
        let records: Vec<u8> =
            (0..count).flat_map(|delta| record(delta.into(), None, b"secret", &[])).collect();
        batch(base, 0, count - 1, count, &records)
    }

    pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as i32).to_be_bytes()[..], bytes].concat()
    }

    /// A `Produce` 3 of one topic.
    pub(super) fn produce(id: i32, acks: i16, topic: &str, parts: &[(i32, Vec<u8>)]) -> Vec<u8> {
        let mut body =
            [&(-1_i16).to_be_bytes()[..], &acks.to_be_bytes(), &1000_i32.to_be_bytes()].concat();
        body.extend([&1_i32.to_be_bytes()[..], &string(topic)].concat());
        body.extend((parts.len() as i32).to_be_bytes());
        for (partition, records) in parts {
            body.extend([&partition.to_be_bytes()[..], &sized(records)].concat());
        }
        request(0, 3, id, &[&body])
    }

    /// What answers it.
    pub(super) fn produced(id: i32, topic: &str, parts: &[(i32, i16, i64)]) -> Vec<u8> {
        let mut body = [&1_i32.to_be_bytes()[..], &string(topic)].concat();
        body.extend((parts.len() as i32).to_be_bytes());
        for (partition, error, offset) in parts {
            body.extend(
                [
                    &partition.to_be_bytes()[..],
                    &error.to_be_bytes(),
                    &offset.to_be_bytes(),
                    &[0xff; 8],
                ]
                .concat(),
            );
        }
        response(id, &[&body, &[0; 4]])
    }

    /// A `Fetch` 4 of one topic.
    pub(super) fn fetch(id: i32, topic: &str, parts: &[(i32, i64)]) -> Vec<u8> {
        let mut body = [&(-1_i32).to_be_bytes()[..], &[0; 8], &[0; 4], &[0]].concat();
        body.extend([&1_i32.to_be_bytes()[..], &string(topic)].concat());
        body.extend((parts.len() as i32).to_be_bytes());
        for (partition, offset) in parts {
            body.extend([&partition.to_be_bytes()[..], &offset.to_be_bytes(), &[0; 4]].concat());
        }
        request(1, 4, id, &[&body])
    }

    /// What answers it.
    pub(super) fn fetched(id: i32, topic: &str, parts: &[(i32, i16, Vec<u8>)]) -> Vec<u8> {
        let mut body = [&[0; 4][..], &1_i32.to_be_bytes(), &string(topic)].concat();
        body.extend((parts.len() as i32).to_be_bytes());
        for (partition, error, records) in parts {
            body.extend(
                [
                    &partition.to_be_bytes()[..],
                    &error.to_be_bytes(),
                    &[0; 16],
                    &[0; 4],
                    &sized(records),
                ]
                .concat(),
            );
        }
        response(id, &[&body])
    }

    /// A `Heartbeat` 0, and what answers it.
    pub(super) fn heartbeat(id: i32) -> (Vec<u8>, Vec<u8>) {
        let asked = request(12, 0, id, &[&string("billing"), &[0; 4], &string("me")]);
        (asked, response(id, &[&[0; 2]]))
    }
}
