//! Tests of the Redis parser: what they share. Events of a run, told in one line per exchange.

mod captures;
mod hostile;
mod oracle;
mod semantics;
mod simulation;
mod values;
mod words;

use std::collections::BTreeMap;

use super::{fuzz::fuzz_redis, *};
use crate::exchange::Parser as _;
use crate::script::Books;
use crate::testing::{self, Tested};
use Direction::{Requests, Responses};

type Run = testing::Run<Connection<u32>>;

impl Tested for Connection<u32> {
    type Told = Event<'static, u32>;

    fn met(from_start: bool) -> Self {
        // What is told of values is never more than of the rest.
        Self::new(from_start).asking(fuzz::asked())
    }

    fn book(books: &mut Books, event: &Event<'static, u32>) {
        fuzz::book(books, event.clone());
    }

    fn keep(event: Event<'_, u32>) -> Event<'static, u32> {
        event.into_owned()
    }
}

impl Run {
    fn told(&self) -> Vec<String> {
        exchanges(&self.events).iter().map(Exchange::tell).collect()
    }

    fn facts(&self) -> Vec<Fact> {
        let fact = |event: &Event<'_, u32>| match event {
            Event::Session(fact) => Some(*fact),
            _ => None,
        };
        self.events.iter().filter_map(fact).collect()
    }

    fn pushes(&self) -> Vec<(PushKind, Option<&str>)> {
        fn push<'a>(event: &'a Event<'static, u32>) -> Option<(PushKind, Option<&'a str>)> {
            match event {
                Event::Push { kind, channel, .. } => Some((*kind, channel.as_deref())),
                _ => None,
            }
        }
        self.events.iter().filter_map(push).collect()
    }

    fn skipped(&self, reason: Skip) -> u64 {
        let bytes = |event: &Event<'_, u32>| match event {
            Event::Skipped { bytes, reason: why, .. } if *why == reason => *bytes,
            _ => 0,
        };
        self.events.iter().map(bytes).sum()
    }

    fn skipped_nothing(&self) -> bool {
        !self.events.iter().any(|event| matches!(event, Event::Skipped { .. }))
    }
}

/// What the events say of one exchange.
#[derive(Clone, Debug, PartialEq)]
struct Exchange {
    request: Command<'static>,
    /// Of the command and of its reply.
    values: [Values<'static>; 2],
    request_bytes: Option<u64>,
    answered: bool,
    end: Option<Result<End<'static>, Abandon>>,
}

impl Exchange {
    /// `text > reply`, with `~` for what was cut.
    fn tell(&self) -> String {
        let cut = if self.request.cut { "~" } else { "" };
        let queued = if self.request.queued { "(queued) " } else { "" };
        let end = match &self.end {
            None => "open".to_owned(),
            Some(Ok(End::Complete { reply, .. })) => tell_reply(reply),
            Some(Ok(End::Inferred { reply, .. })) => {
                format!("~{}", reply.as_ref().map_or("?".to_owned(), tell_reply))
            }
            Some(Ok(end)) => format!("{end:?}"),
            Some(Err(reason)) => format!("abandoned: {reason:?}"),
        };
        format!("{queued}{}{cut} > {end}", self.request.text)
    }

    /// Keys tell what belongs to them: `s:5` a string of 5 bytes, `l:5` a list of 5 items, `h:5` a hash of
    /// 5 fields.
    fn assert_paired_right(&self, context: &dyn Fn() -> String) {
        let Some(Ok(End::Complete { reply, .. })) = &self.end else { return };
        if self.request.queued || self.request.cut {
            return;
        }
        let Some((kind, size)) = self.request.key.as_deref().and_then(|key| key.split_once(':'))
        else {
            return;
        };
        let Ok(size) = size.parse::<u64>() else { return };
        let fits = match (&*self.request.name, kind, reply) {
            ("GET", "s", Reply::Bulk { bytes }) => *bytes == size,
            ("LRANGE", "l", Reply::Array { items }) => *items == size,
            ("HGETALL", "h", Reply::Array { items }) => *items == 2 * size,
            ("HGETALL", "h", Reply::Map { entries }) => *entries == size,
            _ => true,
        };
        assert!(fits, "a wrong pair: {}, {}", self.tell(), context());
    }
}

fn tell_reply(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Bulk { bytes } => format!("${bytes}"),
        Reply::Array { items } => format!("*{items}"),
        Reply::Map { entries } => format!("%{entries}"),
        Reply::Executed { items, nils: 0, failed: 0, .. } => format!("*{items}"),
        Reply::Executed { items, nils, failed, code, message } => {
            format!("*{items}, {nils} nil, {failed} -{code} {message}")
        }
        Reply::Error { code, message } => format!("-{code} {message}"),
        reply => format!("{reply:?}"),
    }
}

fn exchanges(events: &[Event<'static, u32>]) -> Vec<Exchange> {
    let mut exchanges = BTreeMap::new();
    for event in events.iter().cloned() {
        match event {
            Event::Request { exchange, request, values, .. } => {
                let fresh = Exchange {
                    request,
                    values: [values, Values::default()],
                    request_bytes: None,
                    answered: false,
                    end: None,
                };
                exchanges.insert(exchange, fresh);
            }
            Event::RequestEnd { exchange, bytes, .. } => {
                exchanges.get_mut(&exchange).unwrap().request_bytes = Some(bytes);
            }
            Event::Response { exchange, .. } => {
                exchanges.get_mut(&exchange).unwrap().answered = true;
            }
            Event::End { exchange, end, values, .. } => {
                let told = exchanges.get_mut(&exchange).unwrap();
                (told.end, told.values[1]) = (Some(Ok(end)), values);
            }
            Event::Abandoned { exchange, reason } => {
                exchanges.get_mut(&exchange).unwrap().end = Some(Err(reason));
            }
            Event::Push { .. } | Event::Session(_) | Event::Skipped { .. } => {}
        }
    }
    exchanges.into_values().collect()
}

/// A command as clients send it.
fn command(words: &[&str]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len());
    for word in words {
        wire += &format!("${}\r\n{word}\r\n", word.len());
    }
    wire.into_bytes()
}

/// The commands of some lines; words are parted by spaces.
fn commands(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| command(&line.split(' ').collect::<Vec<_>>())).collect()
}
