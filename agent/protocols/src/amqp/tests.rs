//! Tests of the AMQP parser: what they share. Events of a run, told in one line per exchange; frames as the
//! two sides send them.

mod captures;
mod detection;
mod hostile;
mod losses;
mod oracle;
mod semantics;

use std::collections::BTreeMap;

use super::{fuzz::fuzz_amqp, *};
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
    fn told(&self) -> Vec<String> {
        exchanges(&self.events).iter().map(Exchange::tell).collect()
    }

    /// What is told of messages, without the methods around them.
    fn messages(&self) -> Vec<String> {
        let is_message = |it: &&Exchange| !matches!(it.call, Call::Method { .. });
        exchanges(&self.events).iter().filter(is_message).map(Exchange::tell).collect()
    }

    fn skipped(&self, reason: Skip) -> u64 {
        let bytes = |event: &Event<u32>| match event {
            Event::Skipped { bytes, reason: why, .. } if *why == reason => *bytes,
            _ => 0,
        };
        self.events.iter().map(bytes).sum()
    }
}

/// What the events say of one exchange.
#[derive(Clone, Debug, PartialEq)]
struct Exchange {
    call: Call,
    first: u32,
    last: u32,
    bytes: Option<u64>,
    end: Option<Result<End, Abandon>>,
}

impl Exchange {
    /// `what > end`; of a message its id.
    fn tell(&self) -> String {
        let end = match &self.end {
            None => "open".to_owned(),
            Some(Ok(End::Got(delivery))) => tell_delivery(delivery),
            Some(Ok(End::Settled { settlement, requeue, multiple })) => {
                let requeue = if *requeue { ", again" } else { "" };
                let multiple = if *multiple { ", all before" } else { "" };
                format!("{settlement:?}{requeue}{multiple}")
            }
            Some(Ok(End::Confirmed { returned: None })) => "Confirmed".to_owned(),
            Some(Ok(End::Confirmed { returned: Some(refusal) })) => {
                format!("Returned {}", refusal.code)
            }
            Some(Ok(End::Closed(refusal))) => format!("Closed {}", refusal.code),
            Some(Ok(end)) => format!("{end:?}"),
            Some(Err(reason)) => format!("abandoned: {reason:?}"),
        };
        let call = match &self.call {
            Call::Publish(publish) => {
                let mandatory = if publish.mandatory { " mandatory" } else { "" };
                let (exchange, key) = (&publish.exchange, &publish.routing_key);
                format!("publish {} to {exchange}:{key}{mandatory}", id(&publish.message))
            }
            Call::Delivery(delivery) => tell_delivery(delivery),
            Call::Get { queue } => format!("get {}", queue.as_deref().unwrap_or("?")),
            Call::Method { name, target } => match target {
                Some(target) => format!("{name} {target}"),
                None => (*name).to_owned(),
            },
        };
        format!("{call} > {end}").replace(&self.generated(), "amq.gen")
    }

    /// A queue's name that the broker made.
    fn generated(&self) -> String {
        let names = format!("{:?}", self.call);
        let name = names.split(['"', '\'']).find(|name| name.starts_with("amq.gen-"));
        name.unwrap_or("amq.gen-").to_owned()
    }
}

fn tell_delivery(delivery: &Delivery) -> String {
    let redelivered = if delivery.redelivered { " again" } else { "" };
    let automatic = if delivery.automatic { " automatically" } else { "" };
    let queue = delivery.queue.as_deref().unwrap_or("?");
    format!("deliver {} from {queue}{redelivered}{automatic}", id(&delivery.message))
}

fn id(message: &Message) -> &str {
    message.properties.message_id.as_deref().unwrap_or("-")
}

fn exchanges(events: &[Event<u32>]) -> Vec<Exchange> {
    let mut exchanges: BTreeMap<u64, Exchange> = BTreeMap::new();
    for event in events.iter().cloned() {
        match event {
            Event::Request { exchange, call, first, .. } => {
                let fresh = Exchange { call, first, last: 0, bytes: None, end: None };
                exchanges.insert(exchange, fresh);
            }
            Event::RequestEnd { exchange, bytes, .. } => {
                exchanges.get_mut(&exchange).unwrap().bytes = Some(bytes);
            }
            Event::End { exchange, end, last } => {
                let it = exchanges.get_mut(&exchange).unwrap();
                (it.end, it.last) = (Some(Ok(end)), last);
            }
            Event::Abandoned { exchange, reason } => {
                exchanges.get_mut(&exchange).unwrap().end = Some(Err(reason));
            }
            Event::Response { .. } | Event::Session(_) | Event::Skipped { .. } => {}
        }
    }
    exchanges.into_values().collect()
}

/// A frame.
fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap();
    [&[kind], &channel.to_be_bytes()[..], &size.to_be_bytes(), payload, &[0xce]].concat()
}

/// A method's frame.
fn method(channel: u16, class: u16, number: u16, arguments: &[u8]) -> Vec<u8> {
    frame(1, channel, &[&class.to_be_bytes()[..], &number.to_be_bytes(), arguments].concat())
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// A message's header, with its id, and its body in frames of this size.
fn content(channel: u16, id: &str, body: &[u8], frame_bytes: usize) -> Vec<Vec<u8>> {
    let size = body.len() as u64;
    let header = [&[0, 60, 0, 0], &size.to_be_bytes()[..], &[0x00, 0x80], &short(id)].concat();
    let bodies = body.chunks(frame_bytes).map(|part| frame(3, channel, part));
    std::iter::once(frame(2, channel, &header)).chain(bodies).collect()
}

fn publish_method(channel: u16, exchange: &str, key: &str, mandatory: bool) -> Vec<u8> {
    let arguments = [&[0, 0], &short(exchange)[..], &short(key), &[u8::from(mandatory)]].concat();
    method(channel, 60, 40, &arguments)
}

/// A message with its id for a body.
fn publish(channel: u16, exchange: &str, key: &str, id: &str) -> Vec<u8> {
    let method = publish_method(channel, exchange, key, true);
    [method, content(channel, id, id.as_bytes(), 4096).concat()].concat()
}

fn returned(channel: u16, code: u16, exchange: &str, key: &str, id: &str) -> Vec<u8> {
    let arguments =
        [&code.to_be_bytes()[..], &short("NO_ROUTE"), &short(exchange), &short(key)].concat();
    [method(channel, 60, 50, &arguments), content(channel, id, id.as_bytes(), 4096).concat()]
        .concat()
}

fn deliver_method(channel: u16, consumer: &str, tag: u64) -> Vec<u8> {
    let arguments =
        [&short(consumer)[..], &tag.to_be_bytes(), &[0], &short("x"), &short("key")].concat();
    method(channel, 60, 60, &arguments)
}

fn deliver(channel: u16, consumer: &str, tag: u64, id: &str) -> Vec<u8> {
    let content = content(channel, id, id.as_bytes(), 4096).concat();
    [deliver_method(channel, consumer, tag), content].concat()
}

fn ack(channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
    method(channel, 60, 80, &[&tag.to_be_bytes()[..], &[u8::from(multiple)]].concat())
}

fn nack(channel: u16, tag: u64, bits: u8) -> Vec<u8> {
    method(channel, 60, 120, &[&tag.to_be_bytes()[..], &[bits]].concat())
}

fn consume(channel: u16, queue: &str, tag: &str, automatic: bool) -> Vec<u8> {
    let bits = u8::from(automatic) << 1;
    let arguments = [&[0, 0], &short(queue)[..], &short(tag), &[bits, 0, 0, 0, 0]].concat();
    method(channel, 60, 20, &arguments)
}

fn consume_ok(channel: u16, tag: &str) -> Vec<u8> {
    method(channel, 60, 21, &short(tag))
}

fn close(channel: u16, code: u16) -> Vec<u8> {
    let class = if channel == 0 { 10 } else { 20 };
    let number = if channel == 0 { 50 } else { 40 };
    let text = short("NOT_FOUND - no exchange 'secret'");
    method(channel, class, number, &[&code.to_be_bytes()[..], &text, &[0, 60, 0, 40]].concat())
}

/// A connection on which these channels are open.
fn opened(channels: &[u16]) -> Run {
    let mut run = Run::new(true);
    run.requests(b"AMQP\x00\x00\x09\x01").responses(method(0, 10, 10, &[0, 9, 0, 0, 0, 0]));
    run.requests(method(0, 10, 31, &[7, 255, 0, 2, 0, 0, 0, 60]));
    run.requests(method(0, 10, 40, b"\x04shop\0\0")).responses(method(0, 10, 41, &[0]));
    for &channel in channels {
        run.requests(method(channel, 20, 10, &[0])).responses(method(channel, 20, 11, &[0; 4]));
    }
    run
}

/// A channel that confirms.
fn confirming() -> Run {
    let mut run = opened(&[1]);
    run.requests(method(1, 85, 10, &[0])).responses(method(1, 85, 11, &[]));
    run.events.clear();
    run
}

/// A channel with a consumer `c` of the queue `q`, which acknowledges.
fn consuming() -> Run {
    let mut run = opened(&[1]);
    run.requests(consume(1, "q", "c", false)).responses(consume_ok(1, "c"));
    run.events.clear();
    run
}
