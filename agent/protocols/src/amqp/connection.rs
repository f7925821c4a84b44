//! Both directions of one AMQP connection: what is open on its channels, and what is certain of that.
//!
//! - A message says all of itself, and frames carry lengths: bytes that were not captured within one cost
//!   nothing but its hash.
//! - **Confirms** count publishes since `confirm.select`. After lost bytes of the client the numbers of later
//!   publishes are unknown: their spans end with their last byte, until two quiet moments show the numbers.
//!   Lost bytes of the broker may have held confirms: what waits for one is abandoned.
//! - **Deliveries** are numbered by the broker, and settled by number. Lost bytes of the client may have held
//!   an acknowledgement: what waits for one is abandoned. Lost bytes of the broker cost the deliveries in them.
//!   If the consumer's beginning was not seen, nobody knows whether it acknowledges: such a delivery is told
//!   once it is settled, and from then on the consumer's are told at once.
//! - **Answers** to methods come in the order of what was asked, on each channel. After any loss they pair
//!   with nothing until a quiet moment at which no answer is due.
//! - Names of consumers outlive a loss of one direction: both `basic.consume` and its answer tell them.
//!
//! What each direction does with its frames is in `requests` and `responses`, how frames are found anew in
//! `resync`.

use std::collections::BTreeMap;

use super::channel::Channel;
use super::event::{Call, End, Event, Refusal, Tally};
use super::frame::{At, Frame, Frames, Kind, PROTOCOL_HEADER, Step, Stream};
use super::{requests, responses, resync};
use crate::exchange::{Abandon, Direction, EndError, Skip, Tells};
use crate::follow::Follow;
use crate::limits;
use crate::stream::{Flow, Piece};

/// Where events go.
pub(super) type Out<'a, M> = dyn FnMut(Event<M>) + 'a;

/// One of something for each direction.
#[derive(Debug)]
struct Ways<T> {
    requests: T,
    responses: T,
}

impl<T> Ways<T> {
    fn of(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Responses => &mut self.responses,
        }
    }
}

/// An AMQP connection seen from beside it.
///
/// `M` is the caller's mark (a time, a thread), cloned from the pieces into the events. Offsets count
/// from the first byte of each stream, which is 0 for a connection seen from its start. Pieces of one
/// direction come in the order of their offsets; between the directions order may be slightly off: an
/// answer that comes before what it answers is held for it.
///
/// A connection whose lost bytes can't be placed in a direction needs [`on_gap`](crate::exchange::Parser::on_gap) for both.
#[derive(Debug)]
pub struct Connection<M> {
    pub(super) requests: Stream<M>,
    pub(super) responses: Stream<M>,
    pub(super) channels: BTreeMap<u16, Channel<M>>,
    pub(super) next_exchange: u64,
    pub(super) open: usize,
    /// Deliveries that are kept untold.
    pub(super) untold: usize,
    pub(super) consumers: usize,
    /// The broker closed the connection: what is sent now is dropped there.
    pub(super) refused: Option<Refusal>,
    /// Directions that lost bytes since consumers were last forgotten.
    lost: Ways<bool>,
    pub(super) tally: Tally,
}

impl<M: Clone + 'static> Connection<M> {
    /// A connection seen `from_start`, or met in the middle.
    ///
    /// Met in the middle, each direction's first piece sets its offset: what is lost between the meeting
    /// and that piece can't be noticed.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        let (requests, responses) =
            if from_start { (At::Start, At::Framed) } else { (At::Desync, At::Desync) };
        Self {
            requests: Stream::new(from_start, Frames::new(requests)),
            responses: Stream::new(from_start, Frames::new(responses)),
            channels: BTreeMap::new(),
            next_exchange: 0,
            open: 0,
            untold: 0,
            consumers: 0,
            refused: None,
            lost: Ways { requests: false, responses: false },
            tally: Tally::default(),
        }
    }

    /// What belongs to no exchange.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The first eight bytes of a client.
    fn protocol_header(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let stream = &mut self.requests;
        let wanted = PROTOCOL_HEADER.get(stream.state.window.len()..).unwrap_or_default();
        let fits = piece.bytes.iter().zip(wanted).all(|(byte, wanted)| byte == wanted);
        if !fits {
            return self.silence(out);
        }
        let captured = piece.bytes.len().min(wanted.len());
        if captured == 0 {
            return self.desync(Direction::Requests, Skip::Resync, out);
        }
        stream.state.window.extend_from_slice(piece.take(captured as u64));
        if stream.state.window.len() == PROTOCOL_HEADER.len() {
            stream.count_message(PROTOCOL_HEADER.len() as u64);
            stream.state.window.clear();
            stream.state.at = At::Framed;
        }
    }

    fn frame(
        &mut self,
        direction: Direction,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        let last = piece.mark;
        let channels = &self.channels;
        let step = match direction {
            Direction::Requests => self
                .requests
                .state
                .take(piece, |number, payload| requests::must_wait(channels, number, payload)),
            Direction::Responses => self
                .responses
                .state
                .take(piece, |number, payload| responses::must_wait(channels, number, payload)),
        };
        match step {
            Step::More => {}
            Step::Hold => return Flow::Hold,
            Step::Body { channel, captured, missing } => {
                self.body(direction, channel, captured, missing, out);
            }
            Step::Frame(frame) => self.accept(direction, frame, last, out),
            Step::Lost | Step::Broken => self.desync(direction, Skip::Resync, out),
        }
        Flow::Taken
    }

    fn accept(
        &mut self,
        direction: Direction,
        frame: Frame<'_, M>,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        self.stream_mut(direction).count_message(frame.bytes);
        match frame.kind {
            Kind::Heartbeat => self.tally.heartbeats = self.tally.heartbeats.saturating_add(1),
            Kind::Method => match direction {
                Direction::Requests => self.request(&frame, last, out),
                Direction::Responses => self.response(&frame, last, out),
            },
            Kind::Header | Kind::Body => self.content_frame(direction, &frame, last, out),
        }
        self.stream_mut(direction).state.recycle(frame.payload);
    }

    /// What is held waits no longer: what it would have waited for counts as lost.
    fn wait_no_longer(&mut self, out: &mut Out<'_, M>) {
        for (direction, other) in [
            (Direction::Requests, Direction::Responses),
            (Direction::Responses, Direction::Requests),
        ] {
            if !self.stream(direction).held.is_empty() {
                self.lose_from(other, out);
            }
        }
        self.release(out);
    }

    /// Bytes of a direction were lost: messages began or ended in them.
    fn desync(&mut self, direction: Direction, reason: Skip, out: &mut Out<'_, M>) {
        let state = &mut self.stream_mut(direction).state;
        if matches!(state.at, At::Silent | At::Ended) {
            return;
        }
        let unfinished = state.drop_partial() + state.drop_start();
        state.at = At::Desync;
        self.skip(direction, unfinished, reason, out);
        self.lose_from(direction, out);
    }

    /// What is not certain any more when bytes of a direction were lost.
    pub(super) fn lose_from(&mut self, direction: Direction, out: &mut Out<'_, M>) {
        *self.lost.of(direction) = true;
        let both = self.lost.requests && self.lost.responses;
        let mut abandoned = Vec::new();
        if direction == Direction::Requests {
            for number in self.channels.keys().copied().collect::<Vec<_>>() {
                abandoned.extend(self.take_unsettled(number));
            }
        }
        for channel in self.channels.values_mut() {
            channel.paired = false;
            abandoned.extend(channel.asked.drain(..).map(|asked| asked.exchange));
            match direction {
                Direction::Requests => {
                    channel.published = None;
                    channel.refused = None;
                    channel.confirms.lose();
                }
                Direction::Responses => {
                    channel.delivered = None;
                    channel.delivery_tag = None;
                    channel.closing = false;
                    while let Some(publish) = channel.unconfirmed.take_first(u64::MAX) {
                        abandoned.push(publish.exchange);
                    }
                }
            }
            if both {
                self.consumers = self.consumers.saturating_sub(channel.consumers.len());
                channel.consumers.clear();
                channel.last_queue = None;
            }
        }
        if both {
            self.lost = Ways { requests: false, responses: false };
        }
        for exchange in abandoned {
            self.abandon(exchange, Abandon::Gap, out);
        }
    }

    /// What is spoken here is not the protocol: nothing will be told any more.
    fn silence(&mut self, out: &mut Out<'_, M>) {
        for direction in [Direction::Requests, Direction::Responses] {
            self.desync(direction, Skip::Broken, out);
            let stream = self.stream_mut(direction);
            if stream.state.at != At::Ended {
                stream.state.at = At::Silent;
            }
        }
        self.forget_channels(Abandon::Broken, out);
    }

    /// The channel; one that was not seen to open is met in the middle. `None`: there are too many.
    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel<M>> {
        if !self.channels.contains_key(&number) {
            if number == 0 || self.channels.len() >= limits::AMQP_CHANNELS {
                return None;
            }
            // A channel that is used before it is opened is one whose opening was not understood.
            self.channels.insert(number, Channel::new(false));
        }
        self.channels.get_mut(&number)
    }

    /// Tells the beginning of an exchange whose request has passed; its ordinal.
    pub(super) fn begin(
        &mut self,
        offset: u64,
        first: M,
        last: M,
        bytes: u64,
        call: Call,
        out: &mut Out<'_, M>,
    ) -> u64 {
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        self.open += 1;
        out(Event::Request { exchange, offset, first, call });
        out(Event::RequestEnd { exchange, last, bytes });
        exchange
    }

    /// Whether one more exchange may wait.
    pub(super) fn has_room(&self) -> bool {
        self.open < limits::AMQP_OPEN_EXCHANGES
    }

    pub(super) fn answer(
        &mut self,
        exchange: u64,
        first: M,
        last: &M,
        end: End,
        out: &mut Out<'_, M>,
    ) {
        out(Event::Response { exchange, first });
        self.end(exchange, last, end, out);
    }

    pub(super) fn end(&mut self, exchange: u64, last: &M, end: End, out: &mut Out<'_, M>) {
        self.open = self.open.saturating_sub(1);
        out(Event::End { exchange, last: last.clone(), end });
    }

    pub(super) fn abandon(&mut self, exchange: u64, reason: Abandon, out: &mut Out<'_, M>) {
        self.open = self.open.saturating_sub(1);
        out(Event::Abandoned { exchange, reason });
    }
}

impl<M> Tells for Connection<M> {
    type Event<'e> = Event<M>;
}

impl<M: Clone + 'static> Follow<M> for Connection<M> {
    type State = Frames<M>;
    const HELD_BYTES: usize = limits::AMQP_HELD_BYTES;
    const HELD_PIECES: usize = limits::AMQP_HELD_PIECES;

    fn stream(&self, direction: Direction) -> &Stream<M> {
        match direction {
            Direction::Requests => &self.requests,
            Direction::Responses => &self.responses,
        }
    }

    fn stream_mut(&mut self, direction: Direction) -> &mut Stream<M> {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Responses => &mut self.responses,
        }
    }

    fn skipped(direction: Direction, bytes: u64, reason: Skip) -> Event<M> {
        Event::Skipped { direction, bytes, reason }
    }

    fn advance(
        &mut self,
        direction: Direction,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        while !piece.is_empty() {
            match self.stream(direction).state.at {
                At::Start => self.protocol_header(piece, out),
                At::Framed => {
                    if self.frame(direction, piece, out) == Flow::Hold {
                        return Flow::Hold;
                    }
                }
                At::Desync => resync::advance(self, direction, piece, out),
                At::Silent => {
                    let bytes = piece.drain();
                    self.skip(direction, bytes, Skip::Broken, out);
                }
                At::Ended => {
                    let bytes = piece.drain();
                    self.skip(direction, bytes, Skip::Resync, out);
                }
            }
        }
        Flow::Taken
    }

    fn lose(&mut self, direction: Direction, out: &mut Out<'_, M>) {
        if self.stream(direction).has_ended() {
            return;
        }
        self.skip_held(direction, Skip::Resync, out);
        self.desync(direction, Skip::Resync, out);
        self.release(out);
    }

    fn give_up_held(&mut self, out: &mut Out<'_, M>) {
        for direction in [Direction::Requests, Direction::Responses] {
            self.skip_held(direction, Skip::HeldTooLong, out);
            self.desync(direction, Skip::HeldTooLong, out);
        }
    }

    fn ending(&mut self, _: Direction, out: &mut Out<'_, M>) {
        if self.requests.has_ended() && self.responses.has_ended() {
            // Nothing will come that they could wait for.
            self.wait_no_longer(out);
        }
    }

    fn end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, M>,
    ) {
        let state = &mut self.stream_mut(direction).state;
        let unfinished = state.drop_partial() + state.drop_start();
        state.at = At::Ended;
        self.skip(direction, unfinished, Skip::Resync, out);
        match (direction, self.responses.ended) {
            (Direction::Responses, _) => self.end_all(&End::Broken { error }, mark, out),
            // What was published into a connection that was over.
            (Direction::Requests, Some(error)) => self.end_all(&End::Broken { error }, mark, out),
            (Direction::Requests, None) => {}
        }
    }

    fn idle(&mut self, out: &mut Out<'_, M>) {
        self.wait_no_longer(out);
        for channel in self.channels.values_mut() {
            channel.confirms.quiet();
            channel.paired |= channel.asked.is_empty();
        }
    }

    fn unfinished_bytes(&self, direction: Direction) -> u64 {
        self.stream(direction).state.unfinished()
    }

    fn open_count(&self) -> usize {
        self.open
    }

    fn informational(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Requests => 0,
            Direction::Responses => self.tally.heartbeats,
        }
    }
}
