//! Both directions of one Redis connection: which commands are open, and what is certain of them.
//!
//! Replies pair with commands by order alone, and a client may have any number of them under way at any
//! time, so nothing in the streams themselves shows how many replies are still owed after a loss. Hence:
//!
//! - Lost request bytes leave the commands before them certain: their replies come first, and pair. Then
//!   nothing does.
//! - Lost reply bytes (other than within a string of known length) leave nothing certain. If the reply at
//!   hand was the only one awaited, it is still told, as inferred.
//! - Pairing begins anew when nothing can be owed. Of a client that never sends before it has read all
//!   that it waits for (redis-py says its name; the caller may know), that is so whenever it sends after
//!   it received. Of any other it takes a trial: from a command on that follows a reply, or from a quiet
//!   moment on, commands and replies are counted against each other, but not told. A reply that does not
//!   fit, or for which no command was counted, shows that some were owed, and ends the trial. None was
//!   owed if they are even at two quiet moments; that errs only if a command that doesn't block stayed
//!   unanswered through both, for the whole of what the caller calls quiet. On a connection that is never
//!   quiet the caller may judge by the times of what is counted ([`Parser::on_trial`](crate::exchange::Parser::on_trial)). A connection
//!   met in the middle begins so too.
//!
//! What each direction does with its bytes is in `requests` and `responses`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{
    event::{Event, Fact},
    reply::Reply,
    request, resp,
    session::{Answers, Kind, Session},
    table::Shape,
    values::{Asked, Values},
};
use crate::exchange::{Abandon, Direction, EndError, Skip, Tells};
use crate::follow::Follow;
use crate::limits;
use crate::stream::{Flow, Piece, Stream};

/// Where events go.
pub(super) type Out<'a, M> = dyn FnMut(Event<'_, M>) + 'a;

/// How certain the pairing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    Certain,
    /// Counted, not told.
    Trial {
        /// It was quiet since, with as many replies as commands.
        quiet: bool,
        /// At least one reply came since that, or since the trial began.
        paired: bool,
    },
    /// Commands were lost behind those that are open.
    Draining,
    /// Nobody knows what is owed.
    Lost,
    /// No longer commands and replies.
    Opaque,
}

/// A command that waits for its reply.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None`: not told.
    pub(super) ordinal: Option<u64>,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    pub(super) answers: Answers,
    pub(super) blocking: bool,
    pub(super) doubtful: bool,
    /// Its reply's values are asked for.
    pub(super) asked: bool,
}

/// Confirmations of the first open command so far.
#[derive(Debug)]
pub(super) struct Confirmed<M> {
    pub(super) first: M,
    pub(super) bytes: u64,
    pub(super) count: u64,
}

/// The reply that was being read when its framing was lost.
#[derive(Debug)]
pub(super) struct LostReply<M> {
    pub(super) ordinal: u64,
    pub(super) first: M,
    pub(super) last: M,
    pub(super) reply: Option<Reply<'static>>,
    pub(super) bytes: u64,
}

/// What was sent since the server was last heard, while nothing is certain.
#[derive(Debug)]
pub(super) enum Parked {
    None,
    /// One command that may keep the client waiting: silence behind it is no riddle.
    Blocking(Entry),
    Unknown,
}

/// A Redis connection seen from beside it.
/// How it is fed: [`Parser`](crate::exchange::Parser).
#[derive(Debug)]
pub struct Connection<M> {
    pub(super) requests: Stream<M, ()>,
    pub(super) responses: Stream<M, ()>,
    pub(super) request: Option<Box<request::Parser<M>>>,
    pub(super) reply: Option<Box<resp::Parser<M>>>,
    /// Parsers that are done, kept for their buffers, which are small by their limits.
    pub(super) spare_request: Option<Box<request::Parser<M>>>,
    pub(super) spare_reply: Option<Box<resp::Parser<M>>>,
    pub(super) lost_reply: Option<Box<LostReply<M>>>,
    pub(super) open: VecDeque<Entry>,
    pub(super) confirmed: Option<Confirmed<M>>,
    pub(super) open_told: usize,
    pub(super) tracking: Tracking,
    pub(super) parked: Parked,
    /// The client takes turns: it never sends before it has read all that it waits for.
    pub(super) turns: bool,
    /// Something was received since something was last sent.
    pub(super) answered: bool,
    /// What was received last ended where a reply may end.
    pub(super) reply_ended: bool,
    pub(super) session: Session,
    pub(super) asked: Option<Arc<Asked>>,
    told: (Option<u32>, Option<u8>),
    pub(super) next_exchange: u64,
}

impl<M: Clone + 'static> Connection<M> {
    /// A connection seen `from_start`, or met in the middle.
    ///
    /// Met in the middle, each direction's first piece sets its offset: what is lost between the meeting
    /// and that piece can't be noticed.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        let session = Session::new(from_start);
        Self {
            requests: Stream::new(from_start, ()),
            responses: Stream::new(from_start, ()),
            request: None,
            reply: None,
            spare_request: None,
            spare_reply: None,
            lost_reply: None,
            open: VecDeque::new(),
            confirmed: None,
            open_told: 0,
            tracking: if from_start { Tracking::Certain } else { Tracking::Lost },
            parked: Parked::None,
            turns: false,
            answered: false,
            reply_ended: false,
            told: (session.database, session.protocol),
            session,
            asked: None,
            next_exchange: 0,
        }
    }

    /// The same, that tells values of what is `asked` for.
    #[must_use]
    pub fn asking(self, asked: Arc<Asked>) -> Self {
        Self { asked: Some(asked), ..self }
    }

    /// Says that this client never sends before it has read all that it waits for, as redis-py does
    /// (where it names itself with `CLIENT SETINFO` that is found out). Of a client that does otherwise
    /// this would make wrong pairs.
    pub fn takes_turns(&mut self) {
        self.turns = true;
    }

    /// Whether what is open can be so through any silence.
    fn only_blocked(&self) -> bool {
        match (self.open.front(), self.open.len()) {
            (None, _) => true,
            (Some(entry), 1) => entry.blocking,
            _ => false,
        }
    }

    pub(super) fn push_open(&mut self, entry: Entry) {
        self.open_told += usize::from(entry.ordinal.is_some());
        self.open.push_back(entry);
    }

    pub(super) fn pop_open(&mut self) -> Option<Entry> {
        let entry = self.open.pop_front()?;
        self.confirmed = None;
        self.open_told -= usize::from(entry.ordinal.is_some());
        Some(entry)
    }

    /// Gives up what is open: what follows pairs only once pairing has begun anew, if `to` allows.
    pub(super) fn give_up(
        &mut self,
        to: Tracking,
        reason: Abandon,
        held: Skip,
        out: &mut Out<'_, M>,
    ) {
        self.end_inferred(out);
        while let Some(entry) = self.pop_open() {
            if let Some(exchange) = entry.ordinal {
                out(Event::Abandoned { exchange, reason });
            }
        }
        if let Some(request) = self.request.take() {
            self.skip(Direction::Requests, request.bytes, Skip::Resync, out);
        }
        if let Some(reply) = self.reply.take() {
            self.skip(Direction::Responses, reply.bytes, Skip::Resync, out);
        }
        self.skip_held(Direction::Responses, held, out);
        self.parked = Parked::Unknown;
        self.tracking = to;
        self.session = Session::new(false);
        self.tell_facts(out);
    }

    /// The streams don't fit together, or can't be followed.
    pub(super) fn desync(&mut self, reason: Abandon, out: &mut Out<'_, M>) {
        self.give_up(Tracking::Lost, reason, Skip::UnpairedResponse, out);
    }

    /// Ends the reply whose framing was lost: it is over, whatever its length was.
    pub(super) fn end_inferred(&mut self, out: &mut Out<'_, M>) {
        if let Some(lost) = self.lost_reply.take() {
            let LostReply { ordinal: exchange, first, last, reply, bytes } = *lost;
            out(Event::Response { exchange, first });
            let (end, values) = (super::End::Inferred { reply, bytes }, Values::default());
            out(Event::End { exchange, last, end, values });
        }
    }

    /// Tells facts that changed; while nothing is certain none is known.
    pub(super) fn tell_facts(&mut self, out: &mut Out<'_, M>) {
        let known = matches!(self.tracking, Tracking::Certain | Tracking::Draining);
        let facts =
            if known { (self.session.database, self.session.protocol) } else { (None, None) };
        let told = std::mem::replace(&mut self.told, facts);
        if told.0 != facts.0 {
            out(Event::Session(Fact::Database(facts.0)));
        }
        if told.1 != facts.1 {
            out(Event::Session(Fact::Protocol(facts.1)));
        }
    }
}

impl<M> Tells for Connection<M> {
    type Event<'e> = Event<'e, M>;
}

impl<M: Clone + 'static> Follow<M> for Connection<M> {
    type State = ();
    const HELD_BYTES: usize = limits::REDIS_HELD_BYTES;
    const HELD_PIECES: usize = limits::REDIS_HELD_PIECES;

    fn stream(&self, direction: Direction) -> &Stream<M, ()> {
        match direction {
            Direction::Requests => &self.requests,
            Direction::Responses => &self.responses,
        }
    }

    fn stream_mut(&mut self, direction: Direction) -> &mut Stream<M, ()> {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Responses => &mut self.responses,
        }
    }

    fn skipped(direction: Direction, bytes: u64, reason: Skip) -> Event<'static, M> {
        Event::Skipped { direction, bytes, reason }
    }

    fn arrives(&mut self, direction: Direction, piece: &Piece<'_, M>) {
        if direction == Direction::Responses {
            // Now, whenever it is taken: what was held came before the commands that release it.
            self.answered = true;
            self.reply_ended = piece.missing == 0 && piece.bytes.ends_with(b"\r\n");
        }
    }

    fn advance(
        &mut self,
        direction: Direction,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        match direction {
            Direction::Requests => {
                self.advance_requests(piece, out);
                Flow::Taken
            }
            Direction::Responses => self.advance_responses(piece, out),
        }
    }

    fn lose(&mut self, direction: Direction, out: &mut Out<'_, M>) {
        if self.stream(direction).has_ended() {
            return;
        }
        match direction {
            Direction::Requests => self.lose_requests(out),
            Direction::Responses => self.lose_responses(out),
        }
        self.release(out);
    }

    fn give_up_held(&mut self, out: &mut Out<'_, M>) {
        self.give_up(Tracking::Lost, Abandon::Gap, Skip::HeldTooLong, out);
    }

    fn ending(&mut self, direction: Direction, out: &mut Out<'_, M>) {
        if direction == Direction::Requests {
            self.finish_cut(out);
        }
        self.release(out);
        if self.requests.has_ended() {
            // Nothing will come that they could wait for.
            self.skip_held(Direction::Responses, Skip::UnpairedResponse, out);
        }
    }

    fn end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, M>,
    ) {
        if direction == Direction::Responses {
            self.end_responses(error, mark, out);
        }
    }

    fn idle(&mut self, out: &mut Out<'_, M>) {
        self.end_inferred(out);
        if !self.responses.held.is_empty() {
            return self.give_up_held(out);
        }
        let between = self.request.is_none() && self.reply.is_none() && self.only_blocked();
        match (self.tracking, &self.parked) {
            (Tracking::Lost, Parked::None | Parked::Blocking(_)) => {
                self.tracking = Tracking::Trial { quiet: true, paired: false };
                if let Parked::Blocking(entry) = std::mem::replace(&mut self.parked, Parked::None) {
                    self.open.push_back(entry);
                }
            }
            (Tracking::Trial { quiet: true, paired: true }, _) if between => {
                self.tracking = Tracking::Certain;
                self.tell_facts(out);
            }
            (Tracking::Trial { quiet: false, .. }, _)
                if between && (self.answered || !self.open.is_empty()) =>
            {
                self.tracking = Tracking::Trial { quiet: true, paired: false };
            }
            _ => {}
        }
    }

    fn unfinished_bytes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Requests => self.request.as_ref().map_or(0, |request| request.bytes),
            Direction::Responses => self.reply.as_ref().map_or(0, |reply| reply.bytes),
        }
    }

    fn open_count(&self) -> usize {
        self.open_told + usize::from(self.lost_reply.is_some())
    }

    fn trial(&self) -> Option<usize> {
        matches!(self.tracking, Tracking::Trial { .. }).then_some(self.open.len())
    }

    fn end_trial(&mut self, out: &mut Out<'_, M>) {
        if self.trial() == Some(0) && self.request.is_none() && self.reply.is_none() {
            self.tracking = Tracking::Certain;
            self.tell_facts(out);
        }
    }
}
