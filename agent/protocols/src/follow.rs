//! What every protocol's connection does with pieces, whatever they say: place them, hold those that came too
//! early, count, end.
//!
//! A protocol implements [`Follow`] and is an [`exchange::Parser`](crate::exchange::Parser) thereby. Nothing
//! here knows a message.

use crate::exchange::{Counters, Direction, EndError, Parser, Skip, Tells};
use crate::stream::{Flow, Piece, Stream};

/// Where a connection's events go.
pub(crate) type Out<'a, P> = dyn FnMut(<P as Tells>::Event<'_>) + 'a;

/// A connection of one protocol: what of following it is its own.
pub(crate) trait Follow<M: Clone + 'static>: Tells + 'static {
    /// What a direction keeps between two pieces.
    type State;
    /// Captured bytes that are held of a direction at most.
    const HELD_BYTES: usize;
    /// Pieces that are.
    const HELD_PIECES: usize;

    /// One direction.
    fn stream(&self, direction: Direction) -> &Stream<M, Self::State>;
    /// The same, to change it.
    fn stream_mut(&mut self, direction: Direction) -> &mut Stream<M, Self::State>;
    /// The event that says so; the bytes are counted already.
    fn skipped(direction: Direction, bytes: u64, reason: Skip) -> Self::Event<'static>;
    /// Takes what it can of a piece. All that it takes it counts, as message or as skipped.
    fn advance(
        &mut self,
        direction: Direction,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, Self>,
    ) -> Flow;
    /// Bytes were lost, see [`Parser::on_gap`].
    fn lose(&mut self, direction: Direction, out: &mut Out<'_, Self>);
    /// More waits for the other direction than may: nothing of what is held is waited for any longer.
    fn give_up_held(&mut self, out: &mut Out<'_, Self>);
    /// A direction is over, and nothing of it is held. Called once.
    fn end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, Self>,
    );
    /// See [`Parser::on_idle`].
    fn idle(&mut self, out: &mut Out<'_, Self>);
    /// Bytes of a message that isn't over.
    fn unfinished_bytes(&self, direction: Direction) -> u64;
    /// See [`Parser::open_exchanges`].
    fn open_count(&self) -> usize;

    /// See [`Counters::informational`].
    fn informational(&self, _direction: Direction) -> u64 {
        0
    }
    /// A piece comes, whether it is taken now or later.
    fn arrives(&mut self, _direction: Direction, _piece: &Piece<'_, M>) {}
    /// Bytes never came that lie before a piece.
    fn hole(&mut self, direction: Direction, hole: Piece<'_, M>, out: &mut Out<'_, Self>) {
        self.feed(direction, hole, out);
    }
    /// A direction will end once what is held of it is through.
    fn ending(&mut self, _direction: Direction, _out: &mut Out<'_, Self>) {}
    /// See [`Parser::on_trial`].
    fn trial(&self) -> Option<usize> {
        None
    }
    /// See [`Parser::likely_takes_turns`].
    fn likely_takes_turns(&self) -> bool {
        false
    }
    /// See [`Parser::nothing_owed`].
    fn end_trial(&mut self, _out: &mut Out<'_, Self>) {}

    /// Places a piece in its stream and feeds it.
    fn take(&mut self, direction: Direction, mut piece: Piece<'_, M>, out: &mut Out<'_, Self>) {
        let placed = self.stream_mut(direction).place(&mut piece);
        self.skip(direction, placed.overlap, Skip::Overlap, out);
        if placed.hole > 0 {
            self.hole(direction, piece.hole_before(placed.hole), out);
        }
        self.feed(direction, piece, out);
    }

    /// Takes what it can of a piece, and holds the rest.
    fn feed(&mut self, direction: Direction, mut piece: Piece<'_, M>, out: &mut Out<'_, Self>) {
        if piece.is_empty() {
            return;
        }
        self.arrives(direction, &piece);
        let behind = !self.stream(direction).held.is_empty();
        if (behind || self.advance(direction, &mut piece, out) == Flow::Hold)
            && !self.stream_mut(direction).held.push(&piece, Self::HELD_BYTES, Self::HELD_PIECES)
        {
            self.skip(direction, piece.len(), Skip::HeldTooLong, out);
            self.give_up_held(out);
        }
        self.release(out);
        // What was held may have been dropped.
        self.settle(Direction::Requests, out);
        self.settle(Direction::Responses, out);
    }

    /// Hands on what was held and needn't be any more.
    fn release(&mut self, out: &mut Out<'_, Self>) {
        while self.release_one(Direction::Requests, out)
            | self.release_one(Direction::Responses, out)
        {}
    }

    /// Whether anything of the first held piece was taken.
    fn release_one(&mut self, direction: Direction, out: &mut Out<'_, Self>) -> bool {
        let Some(held) = self.stream_mut(direction).held.pop() else { return false };
        let mut piece = held.piece();
        let before = piece.len();
        let flow = self.advance(direction, &mut piece, out);
        let taken = before - piece.len();
        if flow == Flow::Hold {
            self.stream_mut(direction).held.put_back(held, taken);
        }
        self.settle(direction, out);
        taken > 0
    }

    /// Ends a direction that has ended, once nothing of it is held.
    fn settle(&mut self, direction: Direction, out: &mut Out<'_, Self>) {
        let stream = self.stream_mut(direction);
        if !stream.held.is_empty() {
            return;
        }
        let Some((error, mark)) = stream.ending.take() else { return };
        stream.ended = Some(error);
        self.end(direction, error, &mark, out);
    }

    /// Counts bytes as skipped, and says so.
    fn skip(&mut self, direction: Direction, bytes: u64, reason: Skip, out: &mut Out<'_, Self>) {
        if bytes > 0 {
            self.stream_mut(direction).count_skipped(bytes);
            out(Self::skipped(direction, bytes, reason));
        }
    }

    /// Skips what is held of a direction.
    fn skip_held(&mut self, direction: Direction, reason: Skip, out: &mut Out<'_, Self>) {
        let bytes = self.stream_mut(direction).held.clear();
        self.skip(direction, bytes, reason, out);
    }
}

impl<M: Clone + 'static, P: Follow<M>> Parser<M> for P {
    fn on_bytes(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        missing: u64,
        mark: &M,
        out: &mut Out<'_, Self>,
    ) {
        self.take(direction, Piece::first(offset, bytes, missing, mark), out);
    }

    fn on_rest(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        mark: &M,
        out: &mut Out<'_, Self>,
    ) {
        self.take(direction, Piece::rest(offset, bytes, mark), out);
    }

    fn on_gap(&mut self, direction: Direction, out: &mut Out<'_, Self>) {
        self.lose(direction, out);
    }

    fn on_end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, Self>,
    ) {
        let stream = self.stream_mut(direction);
        if stream.has_ended() {
            return;
        }
        stream.ending = Some((error, mark.clone()));
        self.ending(direction, out);
        let both = [Direction::Requests, Direction::Responses];
        if both.iter().all(|direction| self.stream(*direction).has_ended()) {
            // Nothing will come that they could wait for.
            self.skip_held(Direction::Requests, Skip::Resync, out);
            self.skip_held(Direction::Responses, Skip::UnpairedResponse, out);
        }
        both.iter().for_each(|direction| self.settle(*direction, out));
        self.release(out);
    }

    fn on_idle(&mut self, out: &mut Out<'_, Self>) {
        self.idle(out);
    }

    fn counters(&self, direction: Direction) -> Counters {
        let (unfinished, informational) =
            (self.unfinished_bytes(direction), self.informational(direction));
        self.stream(direction).counters(unfinished, informational)
    }

    fn open_exchanges(&self) -> usize {
        self.open_count()
    }

    fn on_trial(&self) -> Option<usize> {
        self.trial()
    }

    fn likely_takes_turns(&self) -> bool {
        Follow::likely_takes_turns(self)
    }

    fn nothing_owed(&mut self, out: &mut Out<'_, Self>) {
        self.end_trial(out);
    }
}
