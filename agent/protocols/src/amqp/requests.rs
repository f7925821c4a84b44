//! What the client sends: publishes, acknowledgements, methods that the broker answers.

use std::collections::BTreeMap;

use super::channel::{Asked, Channel, Confirms, Consumer, Unconfirmed, Unsettled, call};
use super::connection::{Connection, Out};
use super::content::{Carrier, Content, Likeness, Progress, name};
use super::event::{Call, End, Event, Fact, Publish, Settlement};
use super::frame::{Frame, Kind};
use super::method::{Ask, Method};
use super::properties::text;
use crate::exchange::{Abandon, Direction};
use crate::limits;

const CONSUME: Ask = Ask { class: 60, method: 20 };
const CANCEL: Ask = Ask { class: 60, method: 30 };
const GET: Ask = Ask { class: 60, method: 70 };
const CONFIRM: Ask = Ask { class: 85, method: 10 };

/// How the process settles deliveries.
struct Settling {
    settlement: Settlement,
    tag: u64,
    multiple: bool,
    requeue: bool,
}

/// Whether a method has to wait for what the broker sent before: an acknowledgement of what was not seen
/// to be delivered yet.
pub(super) fn must_wait<M>(
    channels: &BTreeMap<u16, Channel<M>>,
    number: u16,
    payload: &[u8],
) -> bool {
    let Some(channel) = channels.get(&number) else { return false };
    let Some(delivered) = channel.delivery_tag else { return false };
    match Method::read(Direction::Requests, payload) {
        Some(Method::Ack { tag, .. } | Method::Nack { tag, .. } | Method::Reject { tag, .. }) => {
            tag > delivered && channel.refused.is_none() && !channel.closing
        }
        // A number that is given anew: the answer to giving it back comes first.
        Some(Method::ChannelOpen) => channel.closing,
        _ => false,
    }
}

impl<M: Clone + 'static> Connection<M> {
    pub(super) fn request(&mut self, frame: &Frame<'_, M>, last: &M, out: &mut Out<'_, M>) {
        let number = frame.channel;
        let Some(method) = Method::read(Direction::Requests, &frame.payload) else {
            // It may have been any.
            return self.lose_from(Direction::Requests, out);
        };
        match method {
            Method::Open { vhost } => out(Event::Session(Fact::VirtualHost(text(vhost)))),
            Method::ConnectionClose { .. } => {
                for number in self.channels.keys().copied().collect::<Vec<_>>() {
                    self.give_back(number, last, out);
                }
            }
            Method::ChannelOpen => {
                self.abandon_channel(number, Abandon::Gap, out);
                self.remove_channel(number);
                if number > 0 && self.channels.len() < limits::AMQP_CHANNELS {
                    self.channels.insert(number, Channel::new(true));
                }
            }
            Method::ChannelClose { .. } => self.give_back(number, last, out),
            Method::ChannelCloseOk => {
                self.abandon_channel(number, Abandon::Gap, out);
                self.remove_channel(number);
            }
            Method::Ask { ask, target, no_wait } => {
                let Some(channel) = self.channel(number) else { return };
                if ask == CONFIRM && channel.confirms == Confirms::Off {
                    channel.confirms = Confirms::On { next: 1 };
                }
                // A queue without a name is the one declared last, but where it is declared.
                let target = match (ask.class, ask.method) {
                    (50, 10) | (40, _) => name(target),
                    (50, _) => channel.queue(target),
                    _ => None,
                };
                if (ask.class, ask.method) == (50, 10) && target.is_some() {
                    channel.last_queue.clone_from(&target);
                }
                self.ask(frame, ask, call(ask, target), None, no_wait, last, out);
            }
            Method::Consume { queue, tag, automatic, no_wait } => {
                let Some(channel) = self.channel(number) else { return };
                let queue = channel.queue(queue);
                if no_wait {
                    let consumer = Consumer { queue: queue.clone(), automatic: Some(automatic) };
                    self.consumes(number, tag, consumer);
                }
                let asked = Some((queue.clone(), automatic));
                self.ask(frame, CONSUME, call(CONSUME, queue), asked, no_wait, last, out);
            }
            Method::Cancel { tag, no_wait } => {
                let Some(channel) = self.channel(number) else { return };
                let known =
                    std::str::from_utf8(tag).ok().and_then(|tag| channel.consumers.get(tag));
                let queue = known.and_then(|consumer| consumer.queue.clone());
                // Deliveries go on until the broker has it: the consumer stays known.
                self.ask(frame, CANCEL, call(CANCEL, queue), None, no_wait, last, out);
            }
            Method::Get { queue, automatic } => {
                let Some(channel) = self.channel(number) else { return };
                let queue = channel.queue(queue);
                let asked = Some((queue.clone(), automatic));
                self.ask(frame, GET, Call::Get { queue }, asked, false, last, out);
            }
            Method::Publish { exchange, routing_key, mandatory } => {
                let (exchange, routing_key) = (text(exchange), text(routing_key));
                let (offset, first, bytes) = (frame.offset, frame.first.clone(), frame.bytes);
                let Some(channel) = self.channel(number) else { return };
                if channel.published.is_some() {
                    // One whose content was not understood; the broker may have counted it.
                    channel.confirms.lose();
                }
                channel.published = Some(Content::new(
                    Carrier::Publish { mandatory },
                    exchange,
                    routing_key,
                    offset,
                    first,
                    bytes,
                ));
            }
            Method::Ack { tag, multiple } => {
                let how = Settling { settlement: Settlement::Ack, tag, multiple, requeue: false };
                self.settles(number, &how, last, out);
            }
            Method::Nack { tag, multiple, requeue } => {
                let how = Settling { settlement: Settlement::Nack, tag, multiple, requeue };
                self.settles(number, &how, last, out);
            }
            Method::Reject { tag, requeue } => {
                let settlement = Settlement::Reject;
                let how = Settling { settlement, tag, multiple: false, requeue };
                self.settles(number, &how, last, out);
            }
            _ => {}
        }
    }

    /// A method that the broker answers, or that asked for no answer.
    #[expect(clippy::too_many_arguments, reason = "a method's own parts, handed on once")]
    fn ask(
        &mut self,
        frame: &Frame<'_, M>,
        ask: Ask,
        call: Call,
        consumes: Option<(Option<std::sync::Arc<str>>, bool)>,
        no_wait: bool,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let paired = self.channels.get(&frame.channel).is_some_and(|channel| channel.paired);
        if !(no_wait || paired && self.has_room()) {
            return;
        }
        let first = frame.first.clone();
        let exchange = self.begin(frame.offset, first, last.clone(), frame.bytes, call, out);
        if no_wait {
            return self.end(exchange, last, End::NoReply, out);
        }
        let (queue, automatic) = consumes.unwrap_or_default();
        if let Some(channel) = self.channels.get_mut(&frame.channel) {
            channel.asked.push_back(Asked { exchange, ask, queue, automatic });
        }
    }

    /// A consumer begins.
    pub(super) fn consumes(&mut self, number: u16, tag: &[u8], consumer: Consumer) {
        let room = self.consumers < limits::AMQP_CONSUMERS;
        let Some(channel) = self.channel(number) else { return };
        let tag = text(tag);
        let known = channel.consumers.contains_key(&tag);
        if known || room {
            channel.consumers.insert(tag, consumer);
            self.consumers += usize::from(!known);
        }
    }

    /// The process gives a channel back: what it did not settle goes back into its queue. What it asked or
    /// published may still be answered before the channel is closed.
    fn give_back(&mut self, number: u16, last: &M, out: &mut Out<'_, M>) {
        for exchange in self.take_unsettled(number) {
            self.end(exchange, last, End::Released, out);
        }
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.published = None;
            channel.closing = true;
        }
    }

    /// The process settles deliveries.
    fn settles(&mut self, number: u16, how: &Settling, last: &M, out: &mut Out<'_, M>) {
        // The one that is named needed it; those before it may have needed none.
        self.acknowledges(number, how.tag);
        let up_to = if how.tag == 0 { u64::MAX } else { how.tag };
        loop {
            let Some(channel) = self.channels.get_mut(&number) else { return };
            let unsettled = if how.multiple {
                channel.unsettled.take_first(up_to)
            } else {
                channel.unsettled.take(how.tag)
            };
            let exchange = match unsettled {
                None => return,
                Some(Unsettled::Told { exchange }) => Some(exchange),
                Some(Unsettled::Untold { delivery, offset, first, last, bytes }) => {
                    self.untold = self.untold.saturating_sub(1);
                    let consumer = channel.consumers.get(&delivery.consumer_tag);
                    if consumer.is_some_and(|known| known.automatic == Some(false)) {
                        let call = Call::Delivery(delivery);
                        Some(self.begin(offset, first, last, bytes, call, out))
                    } else {
                        self.tally.untold = self.tally.untold.saturating_add(1);
                        None
                    }
                }
            };
            if let Some(exchange) = exchange {
                let Settling { settlement, multiple, requeue, .. } = *how;
                self.end(exchange, last, End::Settled { settlement, requeue, multiple }, out);
            }
            if !how.multiple {
                return;
            }
        }
    }

    /// The consumer of this delivery acknowledges: its next ones are told at once.
    fn acknowledges(&mut self, number: u16, tag: u64) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(Unsettled::Untold { delivery, .. }) = channel.unsettled.get(tag) else { return };
        let tag = delivery.consumer_tag.clone();
        if channel.consumers.get(&tag).is_none_or(|known| known.automatic.is_none()) {
            let consumer = Consumer { queue: None, automatic: Some(false) };
            self.consumes(number, tag.as_bytes(), consumer);
        }
    }

    /// Bytes of a body passed, of either side.
    pub(super) fn body(
        &mut self,
        direction: Direction,
        number: u16,
        captured: &[u8],
        missing: u64,
        out: &mut Out<'_, M>,
    ) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let content = match direction {
            Direction::Requests => &mut channel.published,
            Direction::Responses => &mut channel.delivered,
        };
        if content.as_mut().is_some_and(|it| it.part(captured, missing) == Progress::Broken) {
            *content = None;
            self.lose_from(direction, out);
        }
    }

    /// A frame of a message's content is over, of either side.
    pub(super) fn content_frame(
        &mut self,
        direction: Direction,
        frame: &Frame<'_, M>,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let Some(channel) = self.channels.get_mut(&frame.channel) else { return };
        let place = match direction {
            Direction::Requests => &mut channel.published,
            Direction::Responses => &mut channel.delivered,
        };
        let Some(content) = place else { return };
        let progress = match frame.kind {
            Kind::Header => content.header(&frame.payload, frame.whole, frame.bytes),
            _ => content.body_frame(frame.bytes),
        };
        if progress == Progress::More {
            return;
        }
        let Some(content) = place.take() else { return };
        if progress == Progress::Broken {
            // The other side counts it, whatever it was.
            return self.lose_from(direction, out);
        }
        match direction {
            Direction::Requests => self.published(frame.channel, content, last, out),
            Direction::Responses => self.delivered(frame.channel, content, last, out),
        }
    }

    /// A message was published.
    fn published(&mut self, number: u16, content: Content<M>, last: &M, out: &mut Out<'_, M>) {
        let (offset, first, bytes) = (content.offset, content.first.clone(), content.bytes);
        let (carrier, exchange, routing_key, message) = content.finish();
        let Carrier::Publish { mandatory } = carrier else { return };
        let room = self.has_room();
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let refused = channel.refused.or(self.refused);
        let confirm_tag = channel.confirms.publish();
        let likeness = confirm_tag.map(|_| Likeness::of(&exchange, &routing_key, &message));
        let publish =
            Publish { exchange, routing_key, mandatory, confirm_tag, channel: number, message };
        let call = Call::Publish(Box::new(publish));
        let exchange = self.begin(offset, first, last.clone(), bytes, call, out);
        if let Some(refused) = refused {
            return self.end(exchange, last, End::Closed(refused), out);
        }
        let (Some(tag), Some(likeness)) = (confirm_tag, likeness) else {
            return self.end(exchange, last, End::NoReply, out);
        };
        let waits = Unconfirmed { exchange, likeness, mandatory, returned: None };
        let entered = room
            && self
                .channels
                .get_mut(&number)
                .is_some_and(|channel| channel.unconfirmed.push(tag, waits).is_ok());
        if !entered {
            self.abandon(exchange, Abandon::TooMany, out);
        }
    }
}
