//! What the broker sends: deliveries, confirms, messages that come back, answers, its closing.

use std::collections::BTreeMap;

use super::channel::{Channel, Confirms, Consumer, Unsettled};
use super::connection::{Connection, Out};
use super::content::{Carrier, Content, Likeness, name};
use super::event::{Call, Delivery, End, Event, Fact, Message, Refusal};
use super::frame::Frame;
use super::method::{Ask, Method};
use super::properties::{Table, Value, text};
use crate::exchange::{Abandon, Direction};
use crate::limits;

/// Whether a method has to wait for what the client sent before: the confirm of a publish that was not
/// seen yet, an answer to nothing.
pub(super) fn must_wait<M>(
    channels: &BTreeMap<u16, Channel<M>>,
    number: u16,
    payload: &[u8],
) -> bool {
    let Some(channel) = channels.get(&number) else { return false };
    match Method::read(Direction::Responses, payload) {
        Some(Method::Ack { tag, .. } | Method::Nack { tag, .. }) => match channel.confirms {
            Confirms::On { next } => tag >= next,
            Confirms::Off => !channel.closing && channel.refused.is_none(),
            Confirms::Unknown { .. } => false,
        },
        // It comes back before it is confirmed.
        Some(Method::Return { .. }) => {
            matches!(channel.confirms, Confirms::On { .. }) && channel.unconfirmed.len() == 0
        }
        Some(
            Method::Reply(_)
            | Method::ConsumeOk { .. }
            | Method::CancelOk { .. }
            | Method::DeclareOk { .. }
            | Method::GetOk { .. },
        ) => channel.paired && channel.asked.is_empty() && channel.refused.is_none(),
        _ => false,
    }
}

impl<M: Clone + 'static> Connection<M> {
    pub(super) fn response(&mut self, frame: &Frame<'_, M>, last: &M, out: &mut Out<'_, M>) {
        let number = frame.channel;
        let Some(method) = Method::read(Direction::Responses, &frame.payload) else {
            return self.lose_from(Direction::Responses, out);
        };
        match method {
            Method::Start { properties } => {
                let cluster = Table::new(properties).find_map(|(name, value)| match value {
                    Value::Text(value) if name == b"cluster_name" => Some(text(value)),
                    _ => None,
                });
                if let Some(cluster) = cluster {
                    out(Event::Session(Fact::Cluster(cluster)));
                }
            }
            Method::Blocked => self.tally.blocked = self.tally.blocked.saturating_add(1),
            Method::ConnectionClose { code } => self.refuse(None, code, last, out),
            Method::ChannelClose { code } => self.refuse(Some(number), code, last, out),
            Method::ChannelCloseOk => {
                self.end_channel(number, &End::Released, last, out);
                self.remove_channel(number);
            }
            Method::Reply(ask) => {
                let end =
                    if (ask.class, ask.method) == (60, 70) { End::Empty } else { End::Replied };
                self.replied(frame, ask, end, last, out);
            }
            Method::DeclareOk { queue } => {
                if let Some(channel) = self.channel(number) {
                    channel.last_queue = name(queue);
                }
                self.replied(frame, Ask { class: 50, method: 10 }, End::Replied, last, out);
            }
            Method::ConsumeOk { tag } => {
                let asked = self.channels.get(&number).and_then(|channel| channel.asked.front());
                let consumer = match asked {
                    Some(asked) if (asked.ask.class, asked.ask.method) == (60, 20) => {
                        let automatic = Some(asked.automatic);
                        Consumer { queue: asked.queue.clone(), automatic }
                    }
                    // Who bore this name before is not who bears it now.
                    _ => Consumer { queue: None, automatic: None },
                };
                self.consumes(number, tag, consumer);
                self.replied(frame, Ask { class: 60, method: 20 }, End::Replied, last, out);
            }
            // The queue is gone.
            Method::Cancel { tag, .. } => self.consumes_no_more(number, tag),
            Method::CancelOk { tag } => {
                self.consumes_no_more(number, tag);
                self.replied(frame, Ask { class: 60, method: 30 }, End::Replied, last, out);
            }
            Method::Deliver { consumer, tag, redelivered, exchange, routing_key } => {
                let carrier = Carrier::Deliver { consumer: text(consumer), tag, redelivered };
                self.carries(frame, carrier, exchange, routing_key);
            }
            Method::GetOk { tag, redelivered, exchange, routing_key } => {
                self.carries(frame, Carrier::GetOk { tag, redelivered }, exchange, routing_key);
            }
            Method::Return { code, exchange, routing_key } => {
                self.carries(frame, Carrier::Return { code }, exchange, routing_key);
            }
            Method::Ack { tag, multiple } => self.confirms(frame, tag, multiple, true, last, out),
            Method::Nack { tag, multiple, .. } => {
                self.confirms(frame, tag, multiple, false, last, out);
            }
            _ => {}
        }
    }

    /// No delivery to this consumer follows. What was delivered can still be settled.
    fn consumes_no_more(&mut self, number: u16, tag: &[u8]) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        if channel.consumers.remove(&text(tag)).is_some() {
            self.consumers = self.consumers.saturating_sub(1);
        }
    }

    /// A method that a message follows.
    fn carries(
        &mut self,
        frame: &Frame<'_, M>,
        carrier: Carrier,
        exchange: &[u8],
        routing_key: &[u8],
    ) {
        let (exchange, routing_key) = (text(exchange), text(routing_key));
        let (offset, first, bytes) = (frame.offset, frame.first.clone(), frame.bytes);
        if let Some(channel) = self.channel(frame.channel) {
            let content = Content::new(carrier, exchange, routing_key, offset, first, bytes);
            channel.delivered = Some(content);
        }
    }

    /// The broker answered what was asked first.
    fn replied(
        &mut self,
        frame: &Frame<'_, M>,
        ask: Ask,
        end: End,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let Some(channel) = self.channels.get_mut(&frame.channel) else { return };
        match channel.asked.pop_front() {
            Some(asked) if asked.ask == ask => {
                self.answer(asked.exchange, frame.first.clone(), last, end, out);
            }
            Some(other) => {
                // Answers come in order: something was not understood.
                channel.paired = false;
                let rest: Vec<u64> = channel.asked.drain(..).map(|asked| asked.exchange).collect();
                for exchange in std::iter::once(other.exchange).chain(rest) {
                    self.abandon(exchange, Abandon::Unpaired, out);
                }
            }
            None => {}
        }
    }

    /// The broker confirms publishes, or refuses them.
    fn confirms(
        &mut self,
        frame: &Frame<'_, M>,
        tag: u64,
        multiple: bool,
        taken: bool,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let all = multiple && tag == 0;
        loop {
            let Some(channel) = self.channel(frame.channel) else { return };
            if let Confirms::Unknown { highest, .. } = &mut channel.confirms {
                *highest = tag.max(*highest);
            } else if channel.confirms == Confirms::Off {
                channel.confirms = Confirms::UNKNOWN;
            }
            let publish = if multiple {
                channel.unconfirmed.take_first(if all { u64::MAX } else { tag })
            } else {
                channel.unconfirmed.take(tag)
            };
            let Some(publish) = publish else { return };
            let end = match taken {
                true => End::Confirmed { returned: publish.returned },
                false => End::Refused,
            };
            self.answer(publish.exchange, frame.first.clone(), last, end, out);
            if !multiple {
                return;
            }
        }
    }

    /// A message from the broker is complete.
    pub(super) fn delivered(
        &mut self,
        number: u16,
        content: Content<M>,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let (offset, first, bytes) = (content.offset, content.first.clone(), content.bytes);
        let (carrier, exchange, routing_key, message) = content.finish();
        match carrier {
            Carrier::Deliver { consumer, tag, redelivered } => {
                let (queue, automatic) = match self.numbered(number, tag, out) {
                    Some(channel) => match channel.consumers.get(&consumer) {
                        Some(known) => (known.queue.clone(), known.automatic),
                        None => (None, None),
                    },
                    None => return,
                };
                let delivery = Box::new(Delivery {
                    exchange,
                    routing_key,
                    queue,
                    consumer_tag: consumer,
                    delivery_tag: tag,
                    redelivered,
                    automatic: automatic == Some(true),
                    channel: number,
                    message,
                });
                self.deliver(delivery, automatic, (offset, first, bytes), last, out);
            }
            Carrier::GetOk { tag, redelivered } => {
                let Some(channel) = self.numbered(number, tag, out) else { return };
                let ask = Ask { class: 60, method: 70 };
                let Some(asked) = channel.asked.front().filter(|asked| asked.ask == ask) else {
                    channel.paired = channel.asked.is_empty() && channel.paired;
                    return;
                };
                let (exchange_number, queue, automatic) =
                    (asked.exchange, asked.queue.clone(), asked.automatic);
                channel.asked.pop_front();
                let delivery = Box::new(Delivery {
                    exchange,
                    routing_key,
                    queue,
                    consumer_tag: "".into(),
                    delivery_tag: tag,
                    redelivered,
                    automatic,
                    channel: number,
                    message,
                });
                self.answer(exchange_number, first, last, End::Got(delivery), out);
            }
            Carrier::Return { code } => {
                self.returned(number, code, &exchange, &routing_key, &message);
            }
            Carrier::Publish { .. } => {}
        }
    }

    /// The channel, at a delivery's number. One that is not above those before it is another channel's: this
    /// number was given anew, unseen.
    fn numbered(&mut self, number: u16, tag: u64, out: &mut Out<'_, M>) -> Option<&mut Channel<M>> {
        let again = self
            .channels
            .get(&number)
            .is_some_and(|channel| channel.delivery_tag.is_some_and(|before| before >= tag));
        if again {
            self.abandon_channel(number, Abandon::Gap, out);
            self.remove_channel(number);
        }
        let channel = self.channel(number)?;
        channel.delivery_tag = Some(tag);
        Some(channel)
    }

    fn deliver(
        &mut self,
        delivery: Box<Delivery>,
        automatic: Option<bool>,
        (offset, first, bytes): (u64, M, u64),
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let (number, tag) = (delivery.channel, delivery.delivery_tag);
        let closing = self.channels.get(&number).is_none_or(|channel| channel.closing);
        if automatic.is_none() {
            if self.untold < limits::AMQP_UNTOLD && !closing {
                let waits =
                    Unsettled::Untold { delivery, offset, first, last: last.clone(), bytes };
                let channel = self.channels.get_mut(&number);
                if channel.is_some_and(|channel| channel.unsettled.push(tag, waits).is_ok()) {
                    self.untold += 1;
                    return;
                }
            }
            self.tally.untold = self.tally.untold.saturating_add(1);
            return;
        }
        let room = self.has_room();
        let call = Call::Delivery(delivery);
        let exchange = self.begin(offset, first, last.clone(), bytes, call, out);
        if automatic == Some(true) {
            return self.end(exchange, last, End::NoReply, out);
        }
        if closing {
            // The process reads no further.
            return self.end(exchange, last, End::Released, out);
        }
        let entered = room
            && self.channels.get_mut(&number).is_some_and(|channel| {
                channel.unsettled.push(tag, Unsettled::Told { exchange }).is_ok()
            });
        if !entered {
            self.abandon(exchange, Abandon::TooMany, out);
        }
    }

    /// A message came back: the first of those like it that wait for their confirm and may come back. The
    /// broker looks for queues in the order in which it was given messages, and says so before it confirms.
    fn returned(
        &mut self,
        number: u16,
        code: u16,
        exchange: &str,
        routing_key: &str,
        message: &Message,
    ) {
        let likeness = Likeness::of(exchange, routing_key, message);
        let found = self.channels.get_mut(&number).and_then(|channel| {
            let mut waiting = channel.unconfirmed.iter_mut().take(limits::AMQP_RETURN_SEARCH);
            waiting.find(|publish| {
                publish.mandatory
                    && publish.returned.is_none()
                    && publish.likeness.may_be(&likeness)
            })
        });
        match found {
            Some(publish) => publish.returned = Some(Refusal { code }),
            None => self.tally.returned = self.tally.returned.saturating_add(1),
        }
    }
}
