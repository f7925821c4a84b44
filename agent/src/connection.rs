//! The connection stage: records of one socket become two ordered byte streams, the streams a protocol,
//! and the protocol's parser tells messages.
//!
//! A connection decides its protocol from content, whichever side the process is on and whatever the
//! port. It knows nothing of other connections, of processes or of spans.

mod amqp;
#[cfg(test)]
mod costs;
mod ends;
mod evidence;
mod http;
mod kafka;
mod message;
mod parser;
mod postgres;
mod redis;
mod sdk;
mod stream;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use wirespan_protocols::exchange::{Direction, EndError};
use wirespan_protocols::http1;
use wirespan_protocols::propagation::Propagators;

use crate::call::{ProcessId, Role};
use crate::capture::{Gone, Operation, Socket};
use crate::queue::Rule;
use crate::settings::Pointer;

pub use amqp::AmqpSession;
use ends::Ends;
pub use kafka::{HandledRecords, KafkaCall};
pub use message::{
    Broken, Content, Handled, Mail, Message, Outcome, PostgresSession, Silence, Step,
};
use parser::{Choice, Parser};
pub use redis::RedisCall;
use stream::{Piece, Stream};
pub use table::{Announced, Connections};

/// What is kept and told of traffic beyond what always is. All of it is off unless the operator asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Parameters of statements become `db.query.parameter.N`: users' data leaves the process.
    pub query_parameters: bool,
    /// Keys of messages become `messaging.kafka.message.key`: users' data leaves the process.
    pub message_keys: bool,
    /// Queues on Redis that the operator describes.
    pub queues: Arc<[Arc<Rule>]>,
    /// Formats of trace contexts that are read beside W3C's.
    pub propagators: Propagators,
    /// Fields of HTTP heads that are kept.
    pub fields: Arc<http1::Asked>,
    /// First keys of Redis commands are kept.
    pub redis_keys: bool,
    /// Fields of JSON objects that are kept, of HTTP requests and of jobs.
    pub pointers: Arc<[Pointer]>,
}

/// Times that a connection which was met in its middle is given to show a message's beginning.
const MAX_TRIES: u8 = 32;

/// Bytes kept of an undecided beginning.
const MAX_UNDECIDED: usize = 1024;

/// Pieces kept of it.
const MAX_UNDECIDED_PIECES: usize = 16;

/// After so long without a word, what is still asked on a connection whose end can pass unseen is given up.
const SILENCE_NS: u64 = 600 * 1_000_000_000;

/// The same where there is hardly any room: then the connection itself is.
const CROWDED_SILENCE_NS: u64 = 60 * 1_000_000_000;

/// How long a unix connection is kept after its peer has ended its direction and nothing is asked any more.
const ENDED_SILENCE_NS: u64 = 1_000_000_000;

/// What becomes of a connection that is silent. The kernel tells the end of a TCP connection, so that silence
/// proves nothing there; of a unix socket it tells none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may go on.
    Keep,
    /// It may go on, but what is asked on it is not waited for any longer: [`Connection::give_up`].
    GiveUp,
    /// As [`Fate::GiveUp`], and it is forgotten.
    Forget,
}

/// What was known at the moment when a piece of a message passed. Handed to a parser as its opaque mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// CLOCK_MONOTONIC after the operation; of what TCP sent at once, within it.
    pub at_ns: u64,
    /// The thread.
    pub tid: u32,
    /// The runtime's logical task; 0: the thread.
    pub context: u64,
    /// Which of its strands; 0: not known.
    pub strand: u32,
    /// Sent by code that its thread alone runs.
    pub threads_own: bool,
    /// The descriptor was in blocking mode (receives only).
    pub blocking: bool,
    /// How long the data had been readable.
    pub queue_ns: Option<u64>,
    /// Smoothed round-trip time; 0: unknown.
    pub srtt_us: u32,
    /// Segments retransmitted on the connection so far, modulo 65,536.
    pub retransmits: u16,
    /// The thread's time on a run queue so far.
    pub run_delay_ns: u64,
    /// The thread's time on a CPU so far, plus a constant.
    pub exec_ns: u64,
}

impl Mark {
    fn of(operation: &Operation<'_>) -> Self {
        Self {
            at_ns: operation.at_ns,
            tid: operation.tid,
            context: operation.context,
            strand: operation.strand,
            threads_own: operation.threads_own,
            blocking: operation.blocking,
            queue_ns: operation.queue_ns,
            srtt_us: operation.srtt_us,
            retransmits: operation.retransmits,
            run_delay_ns: operation.run_delay_ns,
            exec_ns: operation.exec_ns,
        }
    }
}

/// What became of a connection's bytes, for the books. `received = parsed + not_understood + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes that operations moved, captured or not.
    pub received: u64,
    /// Bytes that were handed to a parser.
    pub parsed: u64,
    /// Bytes of connections whose protocol isn't known.
    pub not_understood: u64,
    /// Bytes that wait for an earlier record or for a decision.
    pub waiting: u64,
    /// Bytes that TCP's sequence shows and no operation moved (splice, sendfile, lost records). Not part
    /// of `received`.
    pub unseen: u64,
    /// What the parser made of its bytes.
    pub messages: u64,
    /// What the parser could make no message of.
    pub skipped: u64,
    /// What lies in the parser.
    pub pending: u64,
}

/// One of something for each direction, seen from the process.
#[derive(Debug, Default)]
struct Ways<T> {
    received: T,
    sent: T,
}

impl<T> Ways<T> {
    fn of(&mut self, sent: bool) -> &mut T {
        if sent { &mut self.sent } else { &mut self.received }
    }
}

enum Protocol {
    Undecided { tries: u8 },
    Known(Box<dyn Parser>),
    Opaque,
}

/// What is known of a connection's other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Not known (yet).
    #[default]
    Unknown,
    /// It is followed too.
    Followed,
    /// No traced process can be there.
    Elsewhere,
}

/// One socket of a traced process.
pub struct Connection {
    /// The process that used it last.
    pub process: ProcessId,
    /// Both ends, where they are known.
    pub socket: Option<Socket>,
    /// Which side the process is on, once content has shown it.
    pub role: Option<Role>,
    /// How long the connect took, until a call has taken it.
    pub connect_ns: Option<u64>,
    /// When something last happened.
    pub last_ns: u64,
    /// Bytes passed that no record told of; set when it is seen, cleared by whoever acts on it.
    pub lost: bool,
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// The process whose requests may be hidden on it, because what came could not be read so far. Set and
    /// cleared by whoever acts on it.
    pub hides_requests_of: Option<ProcessId>,
    /// Records of its process were lost, that of its end perhaps among them.
    pub end_in_doubt: bool,
    /// Messages may have come on it before it was followed, and wait to be handled. Cleared by whoever acts on it.
    pub older_messages: bool,
    /// The peer ended its direction.
    peer_ended: bool,
    protocol: Protocol,
    streams: Ways<Stream>,
    /// Offset of each direction's first byte: TCP begins anywhere, parsers at 0.
    base: Ways<Option<u64>>,
    /// Pieces of a connection whose protocol isn't decided yet, in order.
    undecided: Vec<Piece>,
    from_start: bool,
    options: Options,
    bytes: Bytes,
    /// What a beginning that no parser knows looks like.
    resembles: Option<&'static str>,
}

impl Connection {
    /// A connection, announced by its socket or (where that record was lost) by its first operation.
    /// `from_start`: nothing passed on it before.
    pub fn new(process: ProcessId, socket: Option<Socket>, from_start: bool) -> Self {
        Self {
            process,
            role: None,
            connect_ns: socket.as_ref().and_then(|socket| socket.connect_ns),
            last_ns: socket.as_ref().map_or(0, |socket| socket.at_ns),
            lost: false,
            peer: Peer::default(),
            hides_requests_of: None,
            end_in_doubt: false,
            older_messages: !from_start,
            peer_ended: false,
            socket,
            protocol: Protocol::Undecided { tries: 0 },
            streams: Ways::default(),
            base: Ways::default(),
            undecided: Vec::new(),
            from_start,
            options: Options::default(),
            bytes: Bytes::default(),
            resembles: None,
        }
    }

    /// The same with what the operator asks for.
    #[must_use]
    pub fn with(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// What the operator asks for from now on. Of a protocol that is known already only what is kept of heads and keys
    /// changes.
    pub fn ask(&mut self, options: Options) {
        if let Protocol::Known(parser) = &mut self.protocol {
            parser.ask(&options);
        }
        self.options = options;
    }

    /// A process uses it (now).
    pub fn announced(&mut self, process: ProcessId, socket: Socket) {
        self.process = process;
        if self.socket.is_none() {
            // It was met without its record; its ends are known from here on.
            self.connect_ns = self.connect_ns.or(socket.connect_ns);
            self.socket = Some(socket);
        }
    }

    /// What its silence means. `crowded`: there is hardly room for more connections.
    pub fn fate(&self, now_ns: u64, crowded: bool) -> Fate {
        let unix = self.socket.as_ref().is_none_or(|socket| socket.unix_ends.is_some());
        let silence_ns = now_ns.saturating_sub(self.last_ns);
        let open = match &self.protocol {
            Protocol::Known(parser) => parser.open_exchanges(),
            Protocol::Undecided { .. } | Protocol::Opaque => 0,
        };
        if !unix && !self.end_in_doubt {
            Fate::Keep
        } else if (crowded && silence_ns > CROWDED_SILENCE_NS)
            // Most likely a record that came after its connection's end.
            || (self.socket.is_none() && silence_ns > SILENCE_NS)
            || (unix && self.peer_ended && open == 0 && silence_ns > ENDED_SILENCE_NS)
        {
            Fate::Forget
        } else if open > 0 && silence_ns > SILENCE_NS {
            Fate::GiveUp
        } else {
            Fate::Keep
        }
    }

    /// What is asked on it will not be waited for: no span comes of that.
    pub fn give_up(&mut self, out: &mut dyn FnMut(Message)) {
        let Protocol::Known(parser) = &mut self.protocol else { return };
        for direction in [Direction::Requests, Direction::Responses] {
            parser.on_gap(direction, out);
        }
    }

    /// Nothing passed on it before it was followed.
    pub fn is_from_start(&self) -> bool {
        self.from_start
    }

    /// What is spoken on it and whether that is read, in words for a person.
    pub fn state(&self) -> String {
        match (&self.protocol, self.resembles) {
            (Protocol::Known(parser), _) => parser.name().to_owned(),
            (Protocol::Opaque, Some(resembles)) => format!("{resembles}, which is not read"),
            (Protocol::Opaque, None) => "a protocol that is not known".to_owned(),
            (Protocol::Undecided { .. }, Some(resembles)) => format!("perhaps {resembles}"),
            (Protocol::Undecided { .. }, None) => "nothing that tells its protocol yet".to_owned(),
        }
    }

    /// The protocol's name and the process's side, once content has shown them.
    pub fn spoken(&self) -> Option<(&'static str, Role)> {
        match &self.protocol {
            Protocol::Known(parser) => Some((parser.name(), self.role?)),
            Protocol::Undecided { .. } | Protocol::Opaque => None,
        }
    }

    /// Whether content may still show what is spoken.
    pub fn is_undecided(&self) -> bool {
        matches!(self.protocol, Protocol::Undecided { .. })
    }

    /// Calls that wait for their end.
    pub fn open_calls(&self) -> usize {
        match &self.protocol {
            Protocol::Known(parser) => parser.open_exchanges(),
            Protocol::Undecided { .. } | Protocol::Opaque => 0,
        }
    }

    /// What became of its bytes.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = self.bytes;
        bytes.waiting = self.streams.received.waiting_bytes()
            + self.streams.sent.waiting_bytes()
            + self.undecided.iter().map(Piece::length).sum::<u64>();
        if let Protocol::Known(parser) = &self.protocol {
            for direction in [Direction::Requests, Direction::Responses] {
                let counters = parser.counters(direction);
                let add = |sum: &mut u64, part: u64| *sum = sum.saturating_add(part);
                add(&mut bytes.messages, counters.message_bytes);
                add(&mut bytes.skipped, counters.skipped_bytes);
                add(&mut bytes.pending, counters.pending_bytes);
            }
        }
        bytes
    }

    /// Takes one operation.
    pub fn operation(&mut self, operation: &Operation<'_>, out: &mut dyn FnMut(Message)) {
        self.last_ns = self.last_ns.max(operation.at_ns);
        let mark = Mark::of(operation);
        if operation.length > 0 {
            self.bytes.received += u64::from(operation.length);
            let piece = Piece::of(operation, mark);
            if matches!(self.protocol, Protocol::Opaque) {
                self.bytes.not_understood += piece.length();
                if operation.sent
                    && self.resembles == Some(HTTP2)
                    && sdk::exports_spans(&piece.bytes)
                {
                    out(Message::OwnSpans);
                }
                return;
            }
            self.accept(operation.sent, piece, out);
        }
        if operation.end_of_stream {
            self.peer_ended |= !operation.sent;
            self.flush_late(out);
            self.end(operation.sent, None, mark, out);
        }
        if operation.error != 0 {
            self.break_off(operation.error, mark, out);
        }
    }

    /// The kernel's word that the connection is over.
    pub fn gone(&mut self, gone: &Gone, out: &mut dyn FnMut(Message)) {
        self.last_ns = self.last_ns.max(gone.at_ns);
        let mark = Mark { at_ns: gone.at_ns, ..Mark::default() };
        self.flush_late(out);
        if gone.error == 0 {
            self.end(false, None, mark, out);
            self.end(true, None, mark, out);
        } else {
            self.break_off(gone.error, mark, out);
        }
    }

    /// Nothing more will come: the process is gone or the agent leaves.
    pub fn close(&mut self, at_ns: u64, out: &mut dyn FnMut(Message)) {
        self.gone(&Gone { cookie: 0, slot: crate::capture::Slot(0), at_ns, error: 0 }, out);
        for piece in self.undecided.drain(..) {
            self.bytes.not_understood += piece.length();
        }
    }

    /// Time passes: pieces that waited for an earlier one too long go on without it, and a connection that
    /// has been quiet for long enough ends what only silence can end.
    pub fn tick(&mut self, now_ns: u64, out: &mut dyn FnMut(Message)) {
        self.deliver_waiting(now_ns, out);
        if let Protocol::Known(parser) = &mut self.protocol
            && now_ns.saturating_sub(self.last_ns) >= parser.quiet_ns()
        {
            parser.on_idle(out);
        }
    }

    /// While one direction waits for an earlier record, so does the other: a request that came after an
    /// answer stays behind it, and a client that asks one after the other never seems to pipeline.
    fn accept(&mut self, sent: bool, piece: Piece, out: &mut dyn FnMut(Message)) {
        let now_ns = piece.mark.at_ns;
        let hold = self.streams.of(!sent).oldest_ns().is_some();
        if let Some(piece) = self.streams.of(sent).accept(piece, hold) {
            self.deliver(sent, piece, out);
        }
        self.deliver_waiting(now_ns, out);
    }

    /// Delivers what waits, in the order of time, up to a hole that may still be filled.
    fn deliver_waiting(&mut self, now_ns: u64, out: &mut dyn FnMut(Message)) {
        while let Some(sent) = self.older() {
            let full = self.streams.received.is_full() || self.streams.sent.is_full();
            let stream = self.streams.of(sent);
            let overdue = full || stream.is_overdue(now_ns);
            let next = stream.next();
            let Some(piece) = next.or_else(|| overdue.then(|| stream.earliest()).flatten()) else {
                return;
            };
            self.deliver(sent, piece, out);
        }
    }

    /// Whether the oldest piece that waits was sent.
    fn older(&mut self) -> Option<bool> {
        let mut oldest = |sent: bool| self.streams.of(sent).oldest_ns().map(|at| (at, sent));
        let (received, sent) = (oldest(false), oldest(true));
        received.into_iter().chain(sent).min().map(|(_, sent)| sent)
    }

    fn flush_late(&mut self, out: &mut dyn FnMut(Message)) {
        self.deliver_waiting(u64::MAX, out);
    }

    /// One piece, in order. A hole before it shows by its offset, which the parser sees as well.
    fn deliver(&mut self, sent: bool, piece: Piece, out: &mut dyn FnMut(Message)) {
        let hole = self.streams.of(sent).advance(&piece);
        self.bytes.unseen += hole;
        self.lost |= hole > 0;
        match &mut self.protocol {
            Protocol::Opaque => self.bytes.not_understood += piece.length(),
            Protocol::Known(_) => self.feed(&piece, out),
            Protocol::Undecided { .. } => self.decide(piece, out),
        }
    }

    fn feed(&mut self, piece: &Piece, out: &mut dyn FnMut(Message)) {
        self.bytes.parsed += piece.length();
        let Some(role) = self.role else { return };
        let direction = direction(role, piece.sent);
        let base = *self.base.of(piece.sent).get_or_insert(piece.offset);
        let Some(offset) = piece.offset.checked_sub(base) else {
            // Of two threads' first operations the later was recorded first. What came before the stream's
            // beginning has no place in it any more.
            self.bytes.skipped = self.bytes.skipped.saturating_add(piece.length());
            self.lost = true;
            return;
        };
        let Protocol::Known(parser) = &mut self.protocol else { return };
        let mut out = |mut message| {
            if let Message::Call { step: Step::Begun { offset, .. }, .. } = &mut message {
                *offset = offset.wrapping_add(base);
            }
            out(message);
        };
        if piece.other_lost {
            // Else what was answered would seem open, and a client that pipelines can't be followed.
            parser.on_gap(self::direction(role, !piece.sent), &mut out);
            self.lost = true;
        }
        parser.on_bytes(direction, offset, &piece.bytes, piece.missing, &piece.mark, &mut out);
        if !piece.tail.is_empty() {
            let read = (piece.bytes.len() as u64).saturating_add(piece.missing);
            let offset = offset.saturating_add(read);
            parser.on_rest(direction, offset, &piece.tail, &piece.mark, &mut out);
        }
    }

    /// Looks at the beginning of what has come so far.
    fn decide(&mut self, piece: Piece, out: &mut dyn FnMut(Message)) {
        if piece.bytes.is_empty() && self.undecided.iter().all(|other| other.sent != piece.sent) {
            // A beginning that can't be read settles nothing: what follows is met in its middle.
            self.bytes.not_understood += piece.length();
            self.from_start = false;
            if !piece.sent {
                out(Message::Unread { at_ns: Some(piece.mark.at_ns) });
            }
            return;
        }
        self.undecided.push(piece);
        let Some(first) = self.undecided.first() else { return };
        let sent = first.sent;
        let beginning = self.beginning(sent);
        let mut choice = self.choose(&beginning, sent);
        if matches!(choice, Choice::NeedMore) {
            // What both sides may say (a heartbeat) is decided by what the other one says.
            let answer = self.choose(&self.beginning(!sent), !sent);
            if matches!(answer, Choice::Parser(..)) {
                choice = answer;
            }
        }
        match choice {
            Choice::Parser(parser, role) => {
                self.role = Some(role);
                self.protocol = Protocol::Known(parser);
                for piece in std::mem::take(&mut self.undecided) {
                    self.feed(&piece, out);
                }
            }
            Choice::NeedMore
                if beginning.len() < MAX_UNDECIDED
                    && self.undecided.len() < MAX_UNDECIDED_PIECES => {}
            Choice::NeedMore | Choice::Unknown => {
                self.resembles = self.resembles.or(resembles(&beginning));
                if sent && self.resembles == Some(HTTP2) && sdk::exports_spans(&beginning) {
                    out(Message::OwnSpans);
                }
                self.not_known(out);
            }
        }
    }

    /// What came in one direction, up to the first byte that was not captured.
    fn beginning(&self, sent: bool) -> Vec<u8> {
        let mut beginning = Vec::new();
        for piece in self.undecided.iter().filter(|piece| piece.sent == sent) {
            beginning.extend_from_slice(&piece.bytes);
            if piece.missing > 0 {
                break;
            }
        }
        beginning
    }

    fn choose(&self, beginning: &[u8], sent: bool) -> Choice {
        parser::choose(beginning, sent, self.side(), self.from_start, &self.options)
    }

    /// The process's side, where its socket tells it.
    fn side(&self) -> Option<Role> {
        let socket = self.socket.as_ref()?;
        match (socket.active, socket.passive || socket.addressed) {
            (true, false) => Some(Role::Client),
            (false, true) => Some(Role::Server),
            _ => None,
        }
    }

    fn not_known(&mut self, out: &mut dyn FnMut(Message)) {
        let mut unread = None;
        for piece in self.undecided.drain(..) {
            self.bytes.not_understood += piece.length();
            if !piece.sent {
                unread = unread.max(Some(piece.mark.at_ns));
            }
        }
        let Protocol::Undecided { tries } = &mut self.protocol else { return };
        *tries += 1;
        // A beginning that no parser knows settles it; a middle may be any message's.
        if self.from_start || *tries >= MAX_TRIES {
            self.protocol = Protocol::Opaque;
            out(Message::Opaque);
        } else if unread.is_some() {
            out(Message::Unread { at_ns: unread });
        }
    }

    fn end(
        &mut self,
        sent: bool,
        error: Option<EndError>,
        mark: Mark,
        out: &mut dyn FnMut(Message),
    ) {
        let (Protocol::Known(parser), Some(role)) = (&mut self.protocol, self.role) else { return };
        parser.on_end(direction(role, sent), error, &mark, out);
    }

    fn break_off(&mut self, errno: u16, mark: Mark, out: &mut dyn FnMut(Message)) {
        let error =
            if i32::from(errno) == libc::ETIMEDOUT { EndError::Timeout } else { EndError::Reset };
        self.flush_late(out);
        // The response's direction first: what was asked and never answered ends as reset, not as cut.
        let response_is_sent = self.role == Some(Role::Server);
        self.end(response_is_sent, Some(error), mark, out);
        self.end(!response_is_sent, Some(error), mark, out);
    }
}

/// HTTP/2, in words.
const HTTP2: &str = "HTTP/2";

/// What a beginning is that is not read, where two words tell: a TLS record of a handshake (RFC 8446, 5.1), HTTP/2's
/// preface (RFC 9113, 3.4).
fn resembles(beginning: &[u8]) -> Option<&'static str> {
    match beginning {
        [0x16, 0x03, 0..=4, ..] => Some("TLS"),
        [b'P', b'R', b'I', b' ', b'*', ..] => Some(HTTP2),
        _ => None,
    }
}

fn direction(role: Role, sent: bool) -> Direction {
    if sent == (role == Role::Client) { Direction::Requests } else { Direction::Responses }
}
