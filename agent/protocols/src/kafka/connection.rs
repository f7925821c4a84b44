//! Both directions of one Kafka connection: what is open, and what is certain of it.
//!
//! A response names its request by a correlation id, so that pairing needs no order. But a broker answers in
//! order (<https://kafka.apache.org/protocol#protocol_network>): requests before the answered one won't be
//! answered any more. A hole in one direction loses nothing of the other. Where it hid a message's length, the
//! next message is looked for at the beginning of an operation: a request by its header, of which the client's
//! name must be the known one; a response by the id of a request that waits, and a body that is one to it.

use std::sync::Arc;

use super::ApiKey;
use super::detect;
use super::event::{End, Event, Fact, Operation, Produced, Request};
use super::frames::{Frames, LENGTH_BYTES, Message, State, Step, Stream};
use super::names::Names;
use super::pending::{Asked, Pending, Positions, Queue};
use super::reader::{Reader, Stop};
use super::requests::{self, Header};
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

    /// A request is complete.
    fn request(&mut self, message: &Message<'_, M>, last: &M, out: &mut Out<'_, M>) {
        let length = message.bytes - LENGTH_BYTES as u64;
        let mut reader = Reader::new(&message.body, length);
        let header = match Header::read(&mut reader) {
            Ok(header) if self.responses.state.at != State::Ended => header,
            Err(Stop::Broken) if self.bare => {
                // A token of SASL's.
                return self.requests.count_message(message.bytes);
            }
            Ok(_) | Err(Stop::Cut) => {
                return self.skip(Direction::Requests, message.bytes, Skip::Resync, out);
            }
            Err(Stop::Broken) => {
                self.skip(Direction::Requests, message.bytes, Skip::Broken, out);
                return self.unframe(Direction::Requests, out);
            }
        };
        self.requests.count_message(message.bytes);
        let client_id = header.client_id.and_then(|id| self.names.get(id.as_bytes()));
        self.client_id.clone_from(&client_id);
        self.last_id = Some(header.id);
        self.bare = header.api == ApiKey::SASL_HANDSHAKE && header.version == 0;
        if let Some(stale) = self.pending.iter().position(|pending| pending.id == header.id)
            && let Some(stale) = self.pending.remove(stale)
        {
            // Which of the two the answer is to, nobody can say.
            self.abandon(&stale, Abandon::Unpaired, out);
        }
        let mut pending = Pending {
            id: header.id,
            api: header.api,
            version: header.version,
            client_id,
            offset: message.offset,
            bytes: message.bytes,
            first: message.first.clone(),
            last: last.clone(),
            asked: Asked::Other(0),
        };
        if !self.ask(&mut pending, reader, out) {
            return;
        }
        self.pending.push_back(pending);
        while self.pending.len() > limits::KAFKA_PENDING || self.open > limits::KAFKA_OPEN_EXCHANGES
        {
            let Some(oldest) = self.pending.pop_front() else { break };
            self.abandon(&oldest, Abandon::TooMany, out);
        }
        self.release_early(out);
    }

    /// Tells what a request asks; `false`: nothing answers it.
    fn ask(
        &mut self,
        pending: &mut Pending<M>,
        mut body: Reader<'_>,
        out: &mut Out<'_, M>,
    ) -> bool {
        let (api, version) = (pending.api, pending.version);
        if !api.is_known(version) {
            pending.asked = Asked::Other(self.begin(pending, 0, Operation::Other(api), out));
            return true;
        }
        let client_id = pending.client_id.clone();
        let mut member = |group: &Arc<str>, topic| {
            out(Event::Fact(requests::member(client_id.as_ref(), group, topic)));
        };
        pending.asked = match api {
            ApiKey::PRODUCE => {
                let length = body.left();
                match requests::produce(body, version, &mut self.names, self.keeps_keys) {
                    Ok(produce) => return self.ask_produce(pending, length, produce, out),
                    Err(_) => Asked::Other(self.begin(pending, 0, Operation::Other(api), out)),
                }
            }
            ApiKey::FETCH => {
                // What can't be read of it is where the client is: then all of a batch counts.
                let (names, positions) = (&mut self.names, &mut self.positions);
                if requests::fetch(&mut body, version, names, positions).is_err() {
                    positions.clear();
                }
                Asked::Fetch(self.begin(pending, 0, Operation::Fetch, out))
            }
            ApiKey::OFFSET_COMMIT | ApiKey::TXN_OFFSET_COMMIT => {
                let commit = requests::commit(body, (api, version), &mut self.names, &mut member);
                match commit {
                    Ok(commit) => {
                        let operation = Operation::Commit(Box::new(commit));
                        Asked::Commit(self.begin(pending, 0, operation, out))
                    }
                    Err(_) => Asked::Other(self.begin(pending, 0, Operation::Other(api), out)),
                }
            }
            ApiKey::OFFSET_FETCH => {
                // It is a member's question whether it can be read to its end or not.
                requests::offset_fetch(&mut body, version, &mut self.names, &mut member)
                    .unwrap_or_default();
                Asked::Other(self.begin(pending, 0, Operation::Other(api), out))
            }
            _ => Asked::Other(self.begin(pending, 0, Operation::Other(api), out)),
        };
        true
    }

    fn ask_produce(
        &mut self,
        pending: &mut Pending<M>,
        body_bytes: u64,
        produce: requests::Produce,
        out: &mut Out<'_, M>,
    ) -> bool {
        let head_bytes = pending.bytes - body_bytes;
        let mut parts = Vec::with_capacity(produce.parts.len());
        for part in produce.parts {
            let (topic, partition) = (part.produced.topic.clone(), part.produced.partition);
            let operation = Operation::Produce(Box::new(part.produced));
            let exchange = self.begin(pending, head_bytes + part.at, operation, out);
            if produce.answered {
                parts.push((exchange, topic, partition));
            } else {
                self.over(exchange, &pending.last, End::Sent, out);
            }
        }
        pending.asked = Asked::Produce { parts, whole: produce.whole };
        produce.answered
    }

    /// Begins an exchange of a request, `at` bytes into it.
    fn begin(
        &mut self,
        pending: &Pending<M>,
        at: u64,
        operation: Operation,
        out: &mut Out<'_, M>,
    ) -> u64 {
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        self.open += 1;
        let offset = pending.offset.saturating_add(at.min(pending.bytes.saturating_sub(1)));
        let request = Request { client_id: pending.client_id.clone(), operation };
        out(Event::Request { exchange, offset, first: pending.first.clone(), request });
        out(Event::RequestEnd { exchange, last: pending.last.clone() });
        exchange
    }

    /// A response is complete.
    fn response(&mut self, message: Message<'_, M>, last: &M, out: &mut Out<'_, M>) {
        let Message { body, first, bytes, .. } = message;
        let length = bytes - LENGTH_BYTES as u64;
        let Ok(id) = Reader::new(&body, length).i32() else {
            return self.skip(Direction::Responses, bytes, Skip::Resync, out);
        };
        if self.pending.iter().any(|pending| pending.id == id) {
            return self.answer(&body, &first, last, bytes, out);
        }
        let ahead = match self.last_id {
            _ if self.requests.state.at == State::Ended => false,
            Some(known) => (1..=limits::KAFKA_EARLY_IDS).contains(&id.wrapping_sub(known)),
            // The first request's record may be late; that of one without an answer never is waited for.
            None => self.requests.state.at == State::Framed,
        };
        if !ahead || body.len() > limits::KAFKA_KEPT_BYTES {
            if self.bare {
                return self.responses.count_message(bytes);
            }
            return self.skip(Direction::Responses, bytes, Skip::UnpairedResponse, out);
        }
        self.early.push(Early { body: body.into(), first, last: last.clone(), bytes });
        self.drop_early(limits::KAFKA_EARLY, Skip::HeldTooLong, out);
    }

    /// Answers what came before its request.
    fn release_early(&mut self, out: &mut Out<'_, M>) {
        let Some(known) = self.last_id else { return };
        let mut index = 0;
        while let Some(early) = self.early.get(index) {
            let length = early.bytes - LENGTH_BYTES as u64;
            let id = Reader::new(&early.body, length).i32().unwrap_or(known);
            if self.pending.iter().any(|pending| pending.id == id) {
                let early = self.early.remove(index);
                self.answer(&early.body, &early.first, &early.last, early.bytes, out);
            } else if (1..=limits::KAFKA_EARLY_IDS).contains(&id.wrapping_sub(known)) {
                index += 1;
            } else {
                let early = self.early.remove(index);
                self.skip(Direction::Responses, early.bytes, Skip::UnpairedResponse, out);
            }
        }
    }

    /// Drops the oldest of what is kept for its request, down to `most`.
    fn drop_early(&mut self, most: usize, reason: Skip, out: &mut Out<'_, M>) {
        let kept =
            |early: &Vec<Early<M>>| early.iter().map(|early| early.body.len()).sum::<usize>();
        while self.early.len() > most || kept(&self.early) > limits::KAFKA_KEPT_BYTES {
            let early = self.early.remove(0);
            self.skip(Direction::Responses, early.bytes, reason, out);
        }
    }

    /// The response to a request that waits; those before it have none any more.
    fn answer(&mut self, body: &[u8], first: &M, last: &M, bytes: u64, out: &mut Out<'_, M>) {
        self.responses.count_message(bytes);
        let mut reader = Reader::new(body, bytes - LENGTH_BYTES as u64);
        let Ok(id) = reader.i32() else { return };
        let pending = loop {
            let Some(pending) = self.pending.pop_front() else { return };
            if pending.id == id {
                break pending;
            }
            self.abandon(&pending, Abandon::Gap, out);
        };
        for exchange in pending.asked.exchanges() {
            out(Event::Response { exchange, first: first.clone() });
        }
        let (api, version) = (pending.api, pending.version);
        let mut reader = reader.flexible(api.answers_with_tags(version));
        if api.is_known(version) && reader.tags().is_ok() {
            // `ApiVersions` alone has a body of another encoding than its header.
            reader = reader.flexible(api.is_flexible(version));
            self.read_answer(&pending, reader, first, last, out);
        } else {
            for exchange in pending.asked.exchanges() {
                self.over(exchange, last, End::Answered, out);
            }
        }
    }

    fn read_answer(
        &mut self,
        pending: &Pending<M>,
        mut reader: Reader<'_>,
        first: &M,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let version = pending.version;
        match &pending.asked {
            Asked::Produce { parts, whole } => {
                let mut appended = Vec::new();
                // What was read before it was cut, or broke, is told.
                let read = responses::produce(&mut reader, version, &mut self.names, &mut |it| {
                    appended.push(it);
                });
                if read == Err(Stop::Broken) {
                    appended.clear();
                }
                let mut waiting: Vec<_> = parts.iter().collect();
                for it in appended {
                    let known = waiting.iter().position(|(_, topic, partition)| {
                        (topic, *partition) == (&it.topic, it.partition)
                    });
                    let end = End::Produced { base_offset: it.base_offset, error: it.error };
                    let exchange = match known {
                        Some(known) => waiting.swap_remove(known).0,
                        None if *whole => continue,
                        None => {
                            let produced = Produced {
                                topic: it.topic,
                                partition: it.partition,
                                records: None,
                            };
                            let operation = Operation::Produce(Box::new(produced));
                            self.begin_answered(pending, parts.len(), operation, first, out)
                        }
                    };
                    self.over(exchange, last, end, out);
                }
                for (exchange, ..) in waiting {
                    self.over(*exchange, last, End::Answered, out);
                }
            }
            Asked::Fetch(exchange) => {
                self.read_fetched(pending, *exchange, reader, first, last, out);
            }
            Asked::Commit(exchange) => {
                let of_transaction = pending.api == ApiKey::TXN_OFFSET_COMMIT;
                let by_id = !of_transaction && version >= 10;
                let throttled = of_transaction || version >= 3;
                let (error, read) =
                    responses::commit(&mut reader, by_id, throttled, &mut self.names);
                let end = match (error, read) {
                    (None, Err(_)) => End::Answered,
                    (error, _) => End::Committed { error },
                };
                self.over(*exchange, last, end, out);
            }
            Asked::Other(exchange) => {
                if pending.api == ApiKey::METADATA {
                    // What was read before it was cut is true.
                    let mut told = |fact: Fact| out(Event::Fact(fact));
                    responses::metadata(&mut reader, version, &mut self.names, &mut told)
                        .unwrap_or_default();
                }
                self.over(*exchange, last, End::Answered, out);
            }
        }
    }

    fn read_fetched(
        &mut self,
        pending: &Pending<M>,
        exchange: u64,
        mut reader: Reader<'_>,
        first: &M,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let mut delivered = Vec::new();
        let mut most = false;
        let (names, positions, keys) = (&mut self.names, &self.positions, self.keeps_keys);
        let read =
            responses::fetch(&mut reader, pending.version, names, positions, keys, &mut |it| {
                most |= delivered.len() >= limits::KAFKA_PARTITIONS;
                if !most {
                    delivered.push(it);
                }
            });
        if read == Err(Stop::Broken) {
            delivered.clear();
        }
        if let Some(last) = delivered.last_mut() {
            last.cut = most || read.is_err();
        }
        if delivered.is_empty() {
            let end = if read.is_ok() { End::Idle } else { End::Answered };
            return self.over(exchange, last, end, out);
        }
        for (index, delivered) in delivered.into_iter().enumerate() {
            let exchange = match index {
                0 => exchange,
                _ => self.begin_answered(pending, index, Operation::Fetch, first, out),
            };
            self.over(exchange, last, End::Fetched(Box::new(delivered)), out);
        }
    }

    /// Begins an exchange of which only the answer tells.
    fn begin_answered(
        &mut self,
        pending: &Pending<M>,
        at: usize,
        operation: Operation,
        first: &M,
        out: &mut Out<'_, M>,
    ) -> u64 {
        let exchange = self.begin(pending, at as u64, operation, out);
        out(Event::Response { exchange, first: first.clone() });
        exchange
    }

    fn over(&mut self, exchange: u64, last: &M, end: End, out: &mut Out<'_, M>) {
        self.open = self.open.saturating_sub(1);
        out(Event::End { exchange, last: last.clone(), end });
    }

    fn abandon(&mut self, pending: &Pending<M>, reason: Abandon, out: &mut Out<'_, M>) {
        for exchange in pending.asked.exchanges() {
            self.open = self.open.saturating_sub(1);
            out(Event::Abandoned { exchange, reason });
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
