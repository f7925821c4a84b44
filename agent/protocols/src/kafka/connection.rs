//! Both directions of one Kafka connection: what is open, and what is certain of it.
//!
//! A response names its request by a correlation id, so that pairing needs no order. But a broker answers in
//! order (<https://kafka.apache.org/protocol#protocol_network>): requests before the answered one won't be
//! answered any more. A hole in one direction loses nothing of the other. Where it hid a message's length, the
//! next message is looked for at the beginning of an operation: a request by its header, of which the client's
//! name must be the known one; a response by the id of a request that waits, and a body that is one to it.

mod answering;
mod asking;

use std::sync::Arc;

use super::ApiKey;
use super::detect;
use super::event::{End, Event};
use super::frames::{Frames, LENGTH_BYTES, State, Step, Stream};
use super::names::Names;
use super::pending::{Asked, Positions, Queue};
use super::reader::{Reader, Stop};
use super::responses;
use crate::exchange::{Abandon, Direction, EndError, Skip, Tells};
use crate::follow::{self, Follow};
use crate::limits;
use crate::stream::{Flow, Piece};

/// Where events go.
type Out<'a, M> = follow::Out<'a, Connection<M>>;

/// A response whose request has not been seen yet.
#[derive(Debug)]
struct Early<M> {
    body: Box<[u8]>,
    first: M,
    last: M,
    bytes: u64,
}

/// A Kafka connection seen from beside it. A response that comes before its request is kept for it.
#[derive(Debug)]
pub struct Connection<M> {
    requests: Stream<M>,
    responses: Stream<M>,
    pending: Queue<M>,
    early: Vec<Early<M>>,
    positions: Positions,
    names: Names,
    client_id: Option<Arc<str>>,
    /// The last request's correlation id.
    last_id: Option<i32>,
    /// Messages without a header may follow: `SaslHandshake` 0 was sent.
    bare: bool,
    keeps_keys: bool,
    next_exchange: u64,
    open: usize,
}

impl<M: Clone + 'static> Connection<M> {
    /// A connection seen `from_start`, or met in the middle.
    ///
    /// Met in the middle, each direction's first piece sets its offset: what is lost between the meeting and
    /// that piece can't be noticed.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        let at = if from_start { State::Framed } else { State::Lost };
        Self {
            requests: Stream::new(from_start, Frames::new(at)),
            responses: Stream::new(from_start, Frames::new(at)),
            pending: Queue::new(),
            early: Vec::new(),
            positions: Positions::default(),
            names: Names::default(),
            client_id: None,
            last_id: None,
            bare: false,
            keeps_keys: false,
            next_exchange: 0,
            open: 0,
        }
    }

    /// Keeps the key of a record that comes alone. Keys are users' data: none is kept unless this is called.
    pub fn keep_keys(&mut self) {
        self.keeps_keys = true;
    }

    /// Where messages begin is not known any more.
    fn unframe(&mut self, direction: Direction, out: &mut Out<'_, M>) {
        let state = &mut self.stream_mut(direction).state;
        state.at = State::Lost;
        let partial = state.drop_partial();
        self.skip(direction, partial, Skip::Resync, out);
    }

    /// Whether a message begins with the piece, where framing was lost.
    fn begins(&mut self, direction: Direction, piece: &Piece<'_, M>) -> bool {
        if !piece.start {
            return false;
        }
        match direction {
            Direction::Requests => detect::begins_request(piece.bytes, self.client_id.as_deref()),
            Direction::Responses => self.begins_response(piece),
        }
    }

    fn begins_response(&mut self, piece: &Piece<'_, M>) -> bool {
        let Some((&length, body)) = piece.bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return false;
        };
        let length = u32::from_be_bytes(length);
        if length > limits::KAFKA_MESSAGE_BYTES {
            return false;
        }
        let mut reader = Reader::new(body, u64::from(length));
        let Ok(id) = reader.i32() else { return false };
        let Some(pending) = self.pending.iter().find(|pending| pending.id == id) else {
            return false;
        };
        let (api, version) = (pending.api, pending.version);
        let mut reader = reader.flexible(api.answers_with_tags(version));
        let (names, positions) = (&mut self.names, &self.positions);
        let read = reader.tags().and_then(|()| match (api, &pending.asked) {
            (ApiKey::PRODUCE, Asked::Produce { .. }) => {
                responses::produce(&mut reader, version, names, &mut |_| ())
            }
            (ApiKey::FETCH, Asked::Fetch(_)) => {
                responses::fetch(&mut reader, version, names, positions, false, &mut |_| ())
            }
            // Nothing more is known of it: at least it is all of the operation.
            _ if piece.missing == 0 && u64::from(length) + 4 == piece.len() => Ok(()),
            _ => Err(Stop::Broken),
        });
        match read {
            Ok(()) => true,
            // Enough of it that chance is out of question.
            Err(Stop::Cut) => piece.bytes.len() >= 24,
            Err(Stop::Broken) => false,
        }
    }
}

impl<M> Tells for Connection<M> {
    type Event<'e> = Event<M>;
}

impl<M: Clone + 'static> Follow<M> for Connection<M> {
    type State = Frames<M>;
    // No piece waits for the other direction, only whole responses do.
    const HELD_BYTES: usize = 0;
    const HELD_PIECES: usize = 0;

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
            let at = self.stream(direction).state.at;
            match at {
                State::Framed => {}
                State::Lost if self.begins(direction, piece) => {
                    self.stream_mut(direction).state.at = State::Framed;
                }
                State::Lost | State::Ended => {
                    let bytes = piece.drain();
                    self.skip(direction, bytes, Skip::Resync, out);
                    break;
                }
            }
            let last = piece.mark;
            match self.stream_mut(direction).state.take(piece) {
                Step::More => break,
                Step::Lost => self.unframe(direction, out),
                Step::Message(message) => match direction {
                    Direction::Requests => self.request(&message, last, out),
                    Direction::Responses => self.response(message, last, out),
                },
            }
        }
        Flow::Taken
    }

    /// Every open exchange is abandoned.
    fn lose(&mut self, direction: Direction, out: &mut Out<'_, M>) {
        if self.stream(direction).state.at == State::Ended {
            return;
        }
        self.unframe(direction, out);
        while let Some(pending) = self.pending.pop_front() {
            self.abandon(&pending, Abandon::Gap, out);
        }
    }

    fn give_up_held(&mut self, _out: &mut Out<'_, M>) {}

    fn end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, M>,
    ) {
        let mut answered =
            direction == Direction::Responses && self.responses.state.unfinished() > 0;
        self.unframe(direction, out);
        self.stream_mut(direction).state.at = State::Ended;
        if direction == Direction::Requests {
            return;
        }
        self.drop_early(0, Skip::UnpairedResponse, out);
        while let Some(pending) = self.pending.pop_front() {
            for exchange in pending.asked.exchanges() {
                self.over(exchange, mark, End::Closed { answered, error }, out);
            }
            answered = false;
        }
    }

    /// What was kept for a record that may come late is dropped.
    fn idle(&mut self, out: &mut Out<'_, M>) {
        self.drop_early(0, Skip::HeldTooLong, out);
    }

    fn unfinished_bytes(&self, direction: Direction) -> u64 {
        let kept = match direction {
            Direction::Requests => 0,
            Direction::Responses => self.early.iter().map(|early| early.bytes).sum(),
        };
        self.stream(direction).state.unfinished() + kept
    }

    fn open_count(&self) -> usize {
        self.open
    }
}
