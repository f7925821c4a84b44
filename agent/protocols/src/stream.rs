//! One direction of a connection, whatever its protocol: pieces, where they lie, what is held of them,
//! what was counted.
//!
//! Knows nothing of messages. A parser adds the state that it needs between two pieces, `S`.

use std::collections::VecDeque;

use crate::exchange::{Counters, EndError};

/// A run of one direction's bytes: captured ones, then a number of missing ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a, M> {
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) missing: u64,
    pub(crate) mark: &'a M,
    /// It is an operation's beginning, of which nothing has been taken yet.
    pub(crate) start: bool,
    /// It is an operation's end, behind bytes that are missing, and nothing of it has been taken yet.
    pub(crate) rest: bool,
}

impl<'a, M> Piece<'a, M> {
    /// What an operation begins with, or all of it.
    pub(crate) fn first(offset: u64, bytes: &'a [u8], missing: u64, mark: &'a M) -> Self {
        Self { offset, bytes, missing, mark, start: true, rest: false }
    }

    /// What an operation ends with.
    pub(crate) fn rest(offset: u64, bytes: &'a [u8], mark: &'a M) -> Self {
        Self { start: false, rest: true, ..Self::first(offset, bytes, 0, mark) }
    }

    /// `bytes` missing ones before this.
    pub(crate) fn hole_before(&self, bytes: u64) -> Self {
        Self::first(self.offset.saturating_sub(bytes), &[], bytes, self.mark)
    }

    /// Its end is the operation's, and was captured with all that came before in the piece.
    pub(crate) fn shows_end(&self) -> bool {
        (self.start || self.rest) && self.missing == 0
    }

    pub(crate) fn len(&self) -> u64 {
        (self.bytes.len() as u64).saturating_add(self.missing)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.missing == 0
    }

    /// Takes the first `count` bytes, captured ones first; the captured ones.
    pub(crate) fn take(&mut self, count: u64) -> &'a [u8] {
        let count = count.min(self.len());
        let captured =
            usize::try_from(count).map_or(self.bytes.len(), |count| count.min(self.bytes.len()));
        let (taken, rest) = self.bytes.split_at_checked(captured).unwrap_or((self.bytes, &[]));
        self.bytes = rest;
        self.missing -= count - taken.len() as u64;
        self.offset = self.offset.saturating_add(count);
        self.start &= count == 0;
        self.rest &= count == 0;
        taken
    }

    /// Takes the first `count` bytes, captured ones first; how many they were.
    pub(crate) fn advance(&mut self, count: u64) -> u64 {
        let count = count.min(self.len());
        self.take(count);
        count
    }

    /// Takes everything; how much that was.
    pub(crate) fn drain(&mut self) -> u64 {
        self.advance(u64::MAX)
    }
}

/// Whether a direction took all of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Taken,
    /// The rest has to wait for the other direction.
    Hold,
}

/// Pieces that wait for the other direction, in order.
#[derive(Debug)]
pub(crate) struct Held<M> {
    pieces: VecDeque<HeldPiece<M>>,
    captured: usize,
    total: u64,
}

/// An owned [`Piece`].
#[derive(Debug)]
pub(crate) struct HeldPiece<M> {
    offset: u64,
    bytes: Box<[u8]>,
    /// How many of `bytes` were taken since.
    taken: usize,
    missing: u64,
    mark: M,
    start: bool,
    rest: bool,
}

impl<M> HeldPiece<M> {
    pub(crate) fn piece(&self) -> Piece<'_, M> {
        Piece {
            offset: self.offset,
            bytes: self.bytes.get(self.taken..).unwrap_or_default(),
            missing: self.missing,
            mark: &self.mark,
            start: self.start,
            rest: self.rest,
        }
    }
}

impl<M: Clone> Held<M> {
    fn new() -> Self {
        Self { pieces: VecDeque::new(), captured: 0, total: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Holds a piece behind the others; `false` (and nothing held) when that makes more captured bytes
    /// or pieces than may be.
    pub(crate) fn push(
        &mut self,
        piece: &Piece<'_, M>,
        most_bytes: usize,
        most_pieces: usize,
    ) -> bool {
        let fits =
            self.captured + piece.bytes.len() <= most_bytes && self.pieces.len() < most_pieces;
        if fits {
            self.captured += piece.bytes.len();
            self.total = self.total.saturating_add(piece.len());
            self.pieces.push_back(HeldPiece {
                offset: piece.offset,
                bytes: piece.bytes.into(),
                taken: 0,
                missing: piece.missing,
                mark: piece.mark.clone(),
                start: piece.start,
                rest: piece.rest,
            });
        }
        fits
    }

    pub(crate) fn pop(&mut self) -> Option<HeldPiece<M>> {
        let held = self.pieces.pop_front()?;
        self.captured -= held.bytes.len();
        self.total = self.total.saturating_sub(held.piece().len());
        Some(held)
    }

    /// Puts back the piece that was taken last, after `taken` of its bytes. What is kept is counted in
    /// full until the piece is gone: its memory is.
    pub(crate) fn put_back(&mut self, mut held: HeldPiece<M>, taken: u64) {
        let mut piece = held.piece();
        piece.advance(taken);
        let (offset, left, missing) = (piece.offset, piece.bytes.len(), piece.missing);
        held.start &= taken == 0;
        held.rest &= taken == 0;
        held.taken = held.bytes.len() - left;
        held.missing = missing;
        held.offset = offset;
        self.captured += held.bytes.len();
        self.total = self.total.saturating_add(held.piece().len());
        self.pieces.push_front(held);
    }

    /// Drops everything; how many bytes that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let total = self.total;
        *self = Self::new();
        total
    }
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Stream<M, S> {
    /// Where in its messages it is.
    pub(crate) state: S,
    pub(crate) held: Held<M>,
    /// The stream's end, until everything held before it is through.
    pub(crate) ending: Option<(Option<EndError>, M)>,
    /// The stream has ended, and how.
    pub(crate) ended: Option<Option<EndError>>,
    /// Offset of the next byte; `None` when the next piece says.
    next: Option<u64>,
    fed_bytes: u64,
    message_bytes: u64,
    skipped_bytes: u64,
}

impl<M: Clone, S> Stream<M, S> {
    pub(crate) fn new(from_start: bool, state: S) -> Self {
        Self {
            state,
            held: Held::new(),
            ending: None,
            ended: None,
            next: from_start.then_some(0),
            fed_bytes: 0,
            message_bytes: 0,
            skipped_bytes: 0,
        }
    }

    /// Places a piece in the stream: cuts off what has already passed, and says how many bytes before it
    /// never came (`hole`) and how many came again (`overlap`).
    pub(crate) fn place(&mut self, piece: &mut Piece<'_, M>) -> Placed {
        let next = self.next.unwrap_or(piece.offset);
        let hole = piece.offset.saturating_sub(next);
        self.fed_bytes = self.fed_bytes.saturating_add(hole).saturating_add(piece.len());
        let (start, rest) = (piece.start, piece.rest);
        let overlap = piece.advance(next.saturating_sub(piece.offset));
        // What is left begins where the last piece ended: as good a start as any other.
        (piece.start, piece.rest) = (start, rest);
        self.next = Some(next.max(piece.offset.saturating_add(piece.len())));
        Placed { hole, overlap }
    }

    pub(crate) fn count_message(&mut self, bytes: u64) {
        self.message_bytes = self.message_bytes.saturating_add(bytes);
    }

    pub(crate) fn count_skipped(&mut self, bytes: u64) {
        self.skipped_bytes = self.skipped_bytes.saturating_add(bytes);
    }

    /// Whether its end is known, be it that held pieces come first.
    pub(crate) fn has_ended(&self) -> bool {
        self.ending.is_some() || self.ended.is_some()
    }

    /// The counters, with `unfinished` bytes of a message that isn't over.
    pub(crate) fn counters(&self, unfinished: u64, informational: u64) -> Counters {
        Counters {
            fed_bytes: self.fed_bytes,
            message_bytes: self.message_bytes,
            skipped_bytes: self.skipped_bytes,
            pending_bytes: self.held.total.saturating_add(unfinished),
            informational,
        }
    }
}

/// How a piece lies behind those before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) hole: u64,
    pub(crate) overlap: u64,
}
