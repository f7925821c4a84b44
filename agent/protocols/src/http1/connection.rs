//! Both directions of one HTTP/1.x connection: which exchanges are open, and what is certain of them.
//!
//! Responses pair with requests by order alone (RFC 9112, 9.3), so one lost message would shift every
//! later pair. Hence the rule of this file: what may have hidden a message's beginning abandons all open
//! exchanges, and pairing begins anew only where a client that doesn't pipeline leaves no doubt. What
//! each direction does with its bytes is in `requests` and `responses`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{
    asked::Asked,
    event::{End, Event},
    stream::{State, Stream},
};
use crate::exchange::{Abandon, Direction, EndError, Skip, Tells};
use crate::follow::Follow;
use crate::limits;
use crate::propagation::Propagators;
use crate::stream::{Flow, Piece};

/// Where events go.
pub(super) type Out<'a, M> = dyn FnMut(Event<'_, M>) + 'a;

/// A request that waits for its response, or whose response isn't over.
#[derive(Debug)]
pub(super) struct Exchange<M> {
    pub(super) ordinal: u64,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
    /// The client asked for another protocol.
    pub(super) upgrade: bool,
    /// The client may leave the body out when refused (`Expect: 100-continue`).
    pub(super) expects_continue: bool,
    pub(super) request_ended: bool,
    pub(super) answer: Answer<M>,
}

/// How far an exchange's response is.
#[derive(Debug)]
pub(super) enum Answer<M> {
    Awaited,
    Begun,
    /// Over before its request was.
    Over {
        end: End,
        last: M,
    },
}

/// An HTTP/1.x connection seen from beside it.
/// How it is fed: [`Parser`](crate::exchange::Parser).
#[derive(Debug)]
pub struct Connection<M> {
    pub(super) requests: Stream<M>,
    pub(super) responses: Stream<M>,
    /// Responses with 1xx other than 101.
    pub(super) informational: u64,
    pub(super) open: VecDeque<Exchange<M>>,
    pub(super) next_exchange: u64,
    /// Two requests were open at once, at some time.
    pub(super) pipelined: bool,
    /// Something was lost at some time: the pairing rests on the client not pipelining.
    pub(super) tainted: bool,
    /// The server still owes a response to a request that was lost or abandoned.
    pub(super) owed: bool,
    /// A request came while one was owed: either the client pipelines or the response was lost too.
    pub(super) suspected: bool,
    /// What a head that comes in several pieces is gathered in, kept for the next: no longer than one.
    pub(super) spare: Vec<u8>,
    pub(super) propagators: Propagators,
    asked: Option<Arc<Asked>>,
}

impl<M: Clone + 'static> Connection<M> {
    /// A connection seen `from_start`, or met in the middle.
    ///
    /// Met in the middle, each direction's first piece sets its offset: what is lost between the meeting
    /// and that piece can't be noticed.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        Self {
            requests: Stream::new(from_start, State::new(from_start)),
            responses: Stream::new(from_start, State::new(from_start)),
            informational: 0,
            open: VecDeque::new(),
            next_exchange: 0,
            pipelined: false,
            tainted: !from_start,
            owed: false,
            suspected: false,
            spare: Vec::new(),
            propagators: Propagators::default(),
            asked: None,
        }
    }

    /// Reads trace contexts in these formats too, where there is no valid `traceparent`.
    #[must_use]
    pub fn propagators(mut self, propagators: Propagators) -> Self {
        self.propagators = propagators;
        self
    }

    /// Keeps these fields of heads from now on.
    pub fn ask(&mut self, asked: &Arc<Asked>) {
        self.asked = (!asked.is_empty()).then(|| Arc::clone(asked));
    }

    /// Names of the fields that are kept.
    pub(super) fn keeps_objects(&self) -> bool {
        self.asked.as_deref().is_some_and(Asked::keeps_objects)
    }

    pub(super) fn asked(&self, direction: Direction) -> &[Arc<str>] {
        self.asked.as_deref().map_or(&[], |asked| asked.of(direction))
    }

    /// Puts a stream in a state that keeps nothing of what it had.
    pub(super) fn reset(
        &mut self,
        direction: Direction,
        state: State<M>,
        held: Skip,
        gathered: Skip,
        out: &mut Out<'_, M>,
    ) {
        self.skip_held(direction, held, out);
        let stream = self.stream_mut(direction);
        if let State::Head(gather) = std::mem::replace(&mut stream.state, state) {
            self.skip(direction, gather.pending(), gathered, out);
        }
    }

    /// Gives up what is open: what follows is paired only after both sides were recognised anew, or,
    /// with a client that pipelines, never.
    pub(super) fn desync(&mut self, reason: Abandon, held: Skip, out: &mut Out<'_, M>) {
        self.tainted = true;
        for exchange in std::mem::take(&mut self.open) {
            let exchange_end = match exchange.answer {
                Answer::Over { end, last } => Event::End { exchange: exchange.ordinal, last, end },
                answer => {
                    self.owed |= matches!(answer, Answer::Awaited);
                    Event::Abandoned { exchange: exchange.ordinal, reason }
                }
            };
            out(exchange_end);
        }
        for direction in [Direction::Requests, Direction::Responses] {
            if matches!(self.stream(direction).state, State::Ended | State::Tunnel) {
                continue;
            }
            let state = if self.pipelined { State::Silent } else { State::Desync };
            self.reset(direction, state, held, Skip::Resync, out);
        }
    }

    /// The client pipelines, and something was lost: nothing on this connection is certain any more.
    pub(super) fn silence(&mut self, out: &mut Out<'_, M>) {
        self.pipelined = true;
        self.desync(Abandon::Pipelined, Skip::Resync, out);
    }

    /// Response bytes passed, or may have been lost: nothing is owed for certain.
    pub(super) fn response_seen(&mut self) {
        self.owed = false;
        self.suspected = false;
    }

    /// Ends the response whose framing was lost: it is over, whatever its length was.
    pub(super) fn end_inferred(&mut self, out: &mut Out<'_, M>) {
        let State::Lost { last, content_bytes, .. } = &self.responses.state else { return };
        let (last, end) = (last.clone(), End::Inferred { body_bytes: *content_bytes });
        self.responses.state = State::Desync;
        if let Some(exchange) = self.open.pop_front() {
            out(Event::End { exchange: exchange.ordinal, last, end });
        }
    }

    /// The response of the first open exchange is over; so is the exchange if its request is.
    pub(super) fn finish_response(&mut self, end: End, last: M, out: &mut Out<'_, M>) {
        let request_over = matches!(self.requests.state, State::Ended);
        let Some(exchange) = self.open.front_mut() else { return };
        exchange.answer = Answer::Over { end, last };
        if exchange.request_ended || request_over {
            self.pop_ended(out);
        }
    }

    /// Ends the first open exchange if its response is over.
    pub(super) fn pop_ended(&mut self, out: &mut Out<'_, M>) {
        match self.open.pop_front() {
            Some(Exchange { ordinal, answer: Answer::Over { end, last }, .. }) => {
                out(Event::End { exchange: ordinal, last, end });
            }
            Some(exchange) => self.open.push_front(exchange),
            None => {}
        }
    }

    /// Ends what can't be answered any more.
    pub(super) fn end_unanswered(
        &mut self,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, M>,
    ) {
        for Exchange { ordinal: exchange, answer, .. } in std::mem::take(&mut self.open) {
            out(match answer {
                Answer::Over { end, last } => Event::End { exchange, last, end },
                _ => {
                    let (last, end) = (mark.clone(), End::NoResponse { error });
                    Event::End { exchange, last, end }
                }
            });
        }
    }

    /// The connection speaks something else from here on.
    pub(super) fn upgrade(&mut self, mark: &M, out: &mut Out<'_, M>) {
        if let Some(exchange) = self.open.pop_front() {
            let (exchange, last) = (exchange.ordinal, mark.clone());
            out(Event::End { exchange, last, end: End::Upgraded });
        }
        for exchange in std::mem::take(&mut self.open) {
            out(Event::Abandoned { exchange: exchange.ordinal, reason: Abandon::Upgraded });
        }
        for direction in [Direction::Requests, Direction::Responses] {
            if !matches!(self.stream(direction).state, State::Ended) {
                let after = Skip::AfterUpgrade;
                self.reset(direction, State::Tunnel, after, after, out);
            }
        }
    }
}

impl<M> Tells for Connection<M> {
    type Event<'e> = Event<'e, M>;
}

impl<M: Clone + 'static> Follow<M> for Connection<M> {
    type State = State<M>;
    const HELD_BYTES: usize = limits::HTTP1_HELD_BYTES;
    const HELD_PIECES: usize = limits::HTTP1_HELD_PIECES;

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

    fn skipped(direction: Direction, bytes: u64, reason: Skip) -> Event<'static, M> {
        Event::Skipped { direction, bytes, reason }
    }

    fn advance(
        &mut self,
        direction: Direction,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        match direction {
            Direction::Requests => self.advance_requests(piece, out),
            Direction::Responses => self.advance_responses(piece, out),
        }
    }

    fn hole(&mut self, direction: Direction, hole: Piece<'_, M>, out: &mut Out<'_, M>) {
        if direction == Direction::Responses {
            self.response_seen();
        }
        self.feed(direction, hole, out);
    }

    /// Every open exchange is abandoned.
    fn lose(&mut self, direction: Direction, out: &mut Out<'_, M>) {
        if matches!(self.stream(direction).state, State::Ended | State::Tunnel | State::Silent) {
            return;
        }
        let between = self.open.is_empty() && self.responses.held.is_empty();
        self.desync(Abandon::Gap, Skip::Resync, out);
        match direction {
            Direction::Responses => self.response_seen(),
            // A request may have been among what was lost.
            Direction::Requests => self.owed |= between,
        }
    }

    fn give_up_held(&mut self, out: &mut Out<'_, M>) {
        self.desync(Abandon::Gap, Skip::HeldTooLong, out);
        self.response_seen();
    }

    fn end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, M>,
    ) {
        match direction {
            Direction::Requests => self.end_requests(error, mark, out),
            Direction::Responses => self.end_responses(error, mark, out),
        }
    }

    fn idle(&mut self, out: &mut Out<'_, M>) {
        self.end_inferred(out);
        if let Some(Exchange { answer: Answer::Over { .. }, expects_continue, .. }) =
            self.open.front()
        {
            // A client that expected 100 and was refused may have left the body out.
            let body_left_out = *expects_continue
                && matches!(&self.requests.state, State::Body(body) if body.content_bytes == 0);
            self.pop_ended(out);
            if body_left_out {
                self.requests.state = State::Desync;
                self.tainted = true;
            }
        }
        if !self.requests.held.is_empty() || !self.responses.held.is_empty() {
            self.give_up_held(out);
        }
    }

    fn unfinished_bytes(&self, direction: Direction) -> u64 {
        self.stream(direction).state.gathered()
    }

    fn informational(&self, direction: Direction) -> u64 {
        if direction == Direction::Responses { self.informational } else { 0 }
    }

    fn open_count(&self) -> usize {
        self.open.len()
    }
}
