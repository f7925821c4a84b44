//! Both directions of one PostgreSQL connection: what is open, and what is certain of it.
//!
//! Answers pair with requests by order alone, but most message types fit one kind of request only, and
//! each `Query` or `Sync` has exactly one `ReadyForQuery`: an answer that doesn't fit what is due shows
//! that order was lost. As long as every message's beginning is seen, any client can be followed; what
//! is given up where one is not, and what isn't, is said in `lost`, and how pairing begins anew in
//! `resync`.

use std::{borrow::Cow, sync::Arc};

use super::{
    event::{CommandTag, Completion, End, Event, Fact, Parameter, PgError, Tally, Transaction},
    lost::{Heard, LostAnswer},
    pending::{Exchange, Pending},
    resync::{Certainty, Turns},
    statements::Statements,
    stream::{Frames, State, Stream},
    texts::Text,
};
use crate::exchange::{Abandon, Direction, EndError, Skip, Tells};
use crate::follow::Follow;
use crate::limits;
use crate::stream::{Flow, Piece};

/// Where events go.
pub(super) type Out<'a, M> = dyn FnMut(Event<'_, M>) + 'a;

/// An exchange whose answer is over, but for the `ReadyForQuery` that may follow.
#[derive(Debug)]
pub(super) struct Finishing<M> {
    pub(super) exchange: Exchange,
    pub(super) last: M,
}

/// A PostgreSQL connection seen from beside it.
/// How it is fed: [`Parser`](crate::exchange::Parser).
#[derive(Debug)]
pub struct Connection<M> {
    pub(super) requests: Stream<M>,
    pub(super) responses: Stream<M>,
    pub(super) pending: Pending<M>,
    pub(super) finishing: Option<Finishing<M>>,
    pub(super) statements: Statements,
    /// The present group of messages that belong to one `Execute`.
    pub(super) group: u64,
    /// Offset and mark of the group's first message.
    pub(super) group_start: Option<(u64, M)>,
    /// The group has a `Bind`, of this portal.
    pub(super) bound: Option<Option<Text>>,
    /// Its parameters, where they are kept.
    pub(super) parameters: Option<Arc<[Parameter]>>,
    /// Something was executed since the last `Sync` or `Flush`.
    pub(super) executed: bool,
    /// The caller wants them.
    pub(super) keeps_parameters: bool,
    /// The last group of which an answer came, and the mark of its first byte.
    pub(super) answered_group: Option<(u64, M)>,
    /// The last group that was described, and whether what it executes returns rows.
    pub(super) described: Option<(u64, bool)>,
    pub(super) next_exchange: u64,
    pub(super) open: usize,
    /// The server passes over what comes before the next `Sync`.
    pub(super) skipping: bool,
    /// The server reads COPY data.
    pub(super) copy_in: bool,
    /// The client's last message was such data, or may have asked to copy.
    pub(super) may_copy: bool,
    pub(super) certainty: Certainty,
    pub(super) turns: Turns,
    /// It sends what a driver sends that takes them unless it is told to pipeline.
    pub(super) turns_likely: bool,
    /// That it takes them is no more than likely, and rests on nothing that was certain.
    pub(super) turns_unproven: bool,
    /// Something was lost since pairing was certain without it: now it rests on the client taking turns.
    pub(super) tainted: bool,
    /// In `Certainty::Rounds`: the answer had bytes that were not captured.
    pub(super) answer_cut: bool,
    /// In `Certainty::Lost`: the server may not have answered everything.
    pub(super) owed: bool,
    /// What is being fed never came, all of it.
    pub(super) in_hole: bool,
    /// A request was lost so: there may have been others with it.
    pub(super) lost_in_hole: bool,
    /// What the server answered since a request was lost.
    pub(super) heard: Heard,
    /// What looked like a request came where what was lost had not been answered.
    pub(super) suspected: bool,
    /// The answer in which framing was lost.
    pub(super) lost_answer: Option<LostAnswer<M>>,
    pub(super) tally: Tally,
    /// Memory of what is over, for what comes next.
    pub(super) spare_tags: Vec<CommandTag>,
    pub(super) spare_error: Option<Box<PgError>>,
}

impl<M: Clone + 'static> Connection<M> {
    /// A connection seen `from_start`, or met in the middle.
    ///
    /// Met in the middle, each direction's first piece sets its offset: what is lost between the meeting
    /// and that piece can't be noticed.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        let (requests, responses) = if from_start {
            (State::Startup, State::Framed)
        } else {
            (State::Desync, State::Desync)
        };
        Self {
            requests: Stream::new(from_start, Frames::new(requests)),
            responses: Stream::new(from_start, Frames::new(responses)),
            pending: Pending::new(),
            finishing: None,
            statements: Statements::default(),
            group: 0,
            group_start: None,
            bound: None,
            parameters: None,
            executed: false,
            keeps_parameters: false,
            answered_group: None,
            described: None,
            next_exchange: 0,
            open: 0,
            skipping: false,
            copy_in: false,
            may_copy: false,
            certainty: if from_start { Certainty::Certain } else { Certainty::Lost },
            turns: Turns::Unknown,
            turns_likely: false,
            turns_unproven: false,
            tainted: false,
            answer_cut: false,
            owed: false,
            in_hole: false,
            lost_in_hole: false,
            heard: Heard::default(),
            suspected: false,
            lost_answer: None,
            tally: Tally::default(),
            spare_tags: Vec::new(),
            spare_error: None,
        }
    }

    /// Says that this client takes turns: it never sends on before it has read the whole answer. Where
    /// its messages show that it does so (asyncpg) or is likely to (node-postgres and psycopg, with parameters), or
    /// doesn't, that is found out.
    ///
    /// Of such a client pairing begins anew soon after a loss, or on a connection met in the middle; of
    /// any other it takes two quiet moments. Of a client that does otherwise this would make wrong pairs.
    pub fn takes_turns(&mut self) {
        if self.turns == Turns::Unknown {
            self.found_taking_turns();
        }
    }

    /// Keeps the parameters of statements, for [`super::Query::parameters`]. They are users' data: nothing is
    /// kept of them unless this is called.
    pub fn keep_parameters(&mut self) {
        self.keeps_parameters = true;
    }

    /// Messages that belong to no exchange.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The server's stream is over: nothing that is open will be answered any more.
    fn end_responses(&mut self, error: Option<EndError>, mark: &M, out: &mut Out<'_, M>) {
        self.finish(None, None, out);
        if error.is_none() {
            self.end_lost_answer(false, out);
        }
        for mut op in self.pending.clear() {
            let group = op.group();
            let Some(mut exchange) = op.take_exchange() else { continue };
            if let Some((answered, first)) = &self.answered_group
                && group == Some(*answered)
            {
                exchange.begin(first.clone(), 0, out);
            }
            self.close(exchange, error, mark, out);
        }
    }

    pub(super) fn close(
        &mut self,
        exchange: Exchange,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, M>,
    ) {
        let end = if exchange.done.error.is_some() {
            End::Complete(Cow::Owned(exchange.done))
        } else {
            End::Closed { answered: exchange.answered, error }
        };
        self.over(exchange.ordinal, mark.clone(), end, out);
    }

    pub(super) fn over(&mut self, exchange: u64, last: M, end: End<'_>, out: &mut Out<'_, M>) {
        self.open = self.open.saturating_sub(1);
        out(Event::End { exchange, last, end });
    }

    /// Ends the exchange whose answer is over, with the session's state if `ReadyForQuery` told it.
    pub(super) fn finish(
        &mut self,
        transaction: Option<Transaction>,
        last: Option<M>,
        out: &mut Out<'_, M>,
    ) {
        let Some(Finishing { exchange, last: before }) = self.finishing.take() else { return };
        let done = Completion { transaction, ..exchange.done };
        let end = End::Complete(Cow::Borrowed(&done));
        self.over(exchange.ordinal, last.unwrap_or(before), end, out);
        self.recycle(done);
    }

    /// Keeps the memory of what is over.
    fn recycle(&mut self, done: Completion) {
        let Completion { mut tags, error, .. } = done;
        if tags.capacity() > 0 {
            tags.clear();
            self.spare_tags = tags;
        }
        if let Some(mut error) = error {
            error.clear();
            self.spare_error = Some(error);
        }
    }

    pub(super) fn fact(&self, fact: Fact, mark: &M, out: &mut Out<'_, M>) {
        out(Event::Session { mark: mark.clone(), fact });
    }

    /// Counts a message's bytes: while pairing is not certain they make none.
    pub(super) fn took(&mut self, direction: Direction, bytes: u64, out: &mut Out<'_, M>) {
        if self.certainty != Certainty::Certain {
            self.skip(direction, bytes, Skip::Resync, out);
        } else {
            self.stream_mut(direction).count_message(bytes);
        }
    }

    pub(super) fn abandon(&mut self, exchange: &Exchange, reason: Abandon, out: &mut Out<'_, M>) {
        self.open = self.open.saturating_sub(1);
        out(Event::Abandoned { exchange: exchange.ordinal, reason });
    }

    /// Gives up what is open: pairing begins anew as `resync` says.
    pub(super) fn desync(&mut self, reason: Abandon, held: Skip, out: &mut Out<'_, M>) {
        self.give_up(State::Desync, reason, held, out);
        self.lose_certainty();
    }

    /// What is spoken here is not the protocol: nothing will be told any more.
    pub(super) fn silence(&mut self, out: &mut Out<'_, M>) {
        self.give_up(State::Silent, Abandon::Broken, Skip::Resync, out);
        self.certainty = Certainty::Lost;
    }

    fn give_up(&mut self, state: State, reason: Abandon, held: Skip, out: &mut Out<'_, M>) {
        self.finish(None, None, out);
        for exchange in self.pending.clear().into_iter().filter_map(|mut op| op.take_exchange()) {
            self.abandon(&exchange, reason, out);
        }
        self.statements.forget_unnamed();
        self.end_turn();
        self.answered_group = None;
        self.skipping = false;
        self.copy_in = false;
        self.suspected = false;
        self.lost_answer = None;
        self.reset(state, held, Skip::Resync, out);
    }

    /// Puts both streams in a state that keeps nothing of what they had.
    pub(super) fn reset(&mut self, state: State, held: Skip, partial: Skip, out: &mut Out<'_, M>) {
        for direction in [Direction::Requests, Direction::Responses] {
            if matches!(self.stream(direction).state.at, State::Ended | State::Opaque) {
                continue;
            }
            self.skip_held(direction, held, out);
            let stream = self.stream_mut(direction);
            let bytes = stream.state.drop_partial();
            stream.state.at = state;
            self.skip(direction, bytes, partial, out);
        }
    }

    /// What comes next belongs to another `Execute`.
    pub(super) fn end_group(&mut self) {
        self.group += 1;
        self.group_start = None;
        self.bound = None;
        self.parameters = None;
    }

    /// The server sends all that it has to say: what comes next may depend on it.
    pub(super) fn end_turn(&mut self) {
        self.end_group();
        self.executed = false;
    }
}

impl<M> Tells for Connection<M> {
    type Event<'e> = Event<'e, M>;
}

impl<M: Clone + 'static> Follow<M> for Connection<M> {
    type State = Frames<M>;
    const HELD_BYTES: usize = limits::POSTGRES_HELD_BYTES;
    const HELD_PIECES: usize = limits::POSTGRES_HELD_PIECES;

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
        self.suspect(out);
        self.in_hole = true;
        self.feed(direction, hole, out);
        self.in_hole = false;
    }

    /// Every open exchange is abandoned.
    fn lose(&mut self, direction: Direction, out: &mut Out<'_, M>) {
        if matches!(self.stream(direction).state.at, State::Ended | State::Opaque | State::Silent) {
            return;
        }
        self.desync(Abandon::Gap, Skip::Resync, out);
    }

    fn give_up_held(&mut self, out: &mut Out<'_, M>) {
        self.desync(Abandon::Gap, Skip::HeldTooLong, out);
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
        let stream = self.stream_mut(direction);
        let partial = stream.state.drop_partial();
        stream.state.at = State::Ended;
        self.skip(direction, partial, Skip::Resync, out);
    }

    fn idle(&mut self, out: &mut Out<'_, M>) {
        self.finish(None, None, out);
        self.idle_in_lost_answer(out);
        if !self.requests.held.is_empty() || !self.responses.held.is_empty() {
            self.give_up_held(out);
        }
        self.quiet_moment();
    }

    fn unfinished_bytes(&self, direction: Direction) -> u64 {
        self.stream(direction).state.unfinished()
    }

    /// Notices and notifications.
    fn informational(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Requests => 0,
            Direction::Responses => self.tally.notices.saturating_add(self.tally.notifications),
        }
    }

    fn open_count(&self) -> usize {
        self.open
    }

    fn trial(&self) -> Option<usize> {
        self.counted_on_trial()
    }

    fn likely_takes_turns(&self) -> bool {
        self.turns_unproven
    }

    fn end_trial(&mut self, _out: &mut Out<'_, M>) {
        self.trust();
    }
}
