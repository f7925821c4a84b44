//! One direction of a Redis connection: pieces, where they lie, what is held of them, what was counted.
//!
//! Knows nothing of commands and replies.

use std::collections::VecDeque;

use crate::exchange::{Counters, EndError};
use crate::limits;

/// A run of one direction's bytes: captured ones, then a number of missing ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a, M> {
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
    pub(super) missing: u64,
    pub(super) mark: &'a M,
    /// Nothing of what the caller handed in has been taken yet.
    pub(super) start: bool,
}

impl<M> Piece<'_, M> {
    pub(super) fn len(&self) -> u64 {
        (self.bytes.len() as u64).saturating_add(self.missing)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.missing == 0
    }

    /// Takes the first `count` bytes, captured ones first; how many they were.
    pub(super) fn advance(&mut self, count: u64) -> u64 {
        let count = count.min(self.len());
        let captured =
            usize::try_from(count).map_or(self.bytes.len(), |count| count.min(self.bytes.len()));
        self.bytes = self.bytes.get(captured..).unwrap_or_default();
        self.missing -= count - captured as u64;
        self.offset = self.offset.saturating_add(count);
        self.start &= count == 0;
        count
    }

    /// Takes everything.
    pub(super) fn drain(&mut self) -> u64 {
        self.advance(u64::MAX)
    }
}

/// Pieces that wait for the other direction, in order.
#[derive(Debug)]
pub(super) struct Held<M> {
    pieces: VecDeque<HeldPiece<M>>,
    captured: usize,
    total: u64,
}

/// An owned [`Piece`].
#[derive(Debug)]
pub(super) struct HeldPiece<M> {
    offset: u64,
    bytes: Box<[u8]>,
    /// How many of `bytes` were taken since.
    taken: usize,
    missing: u64,
    mark: M,
    start: bool,
}

impl<M> HeldPiece<M> {
    pub(super) fn piece(&self) -> Piece<'_, M> {
        Piece {
            offset: self.offset,
            bytes: self.bytes.get(self.taken..).unwrap_or_default(),
            missing: self.missing,
            mark: &self.mark,
            start: self.start,
        }
    }
}

impl<M: Clone> Held<M> {
    fn new() -> Self {
        Self { pieces: VecDeque::new(), captured: 0, total: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Holds a piece behind the others; `false` (and nothing held) when that is too much.
    pub(super) fn push(&mut self, piece: &Piece<'_, M>) -> bool {
        let fits = self.captured + piece.bytes.len() <= limits::REDIS_HELD_BYTES
            && self.pieces.len() < limits::REDIS_HELD_PIECES;
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
            });
        }
        fits
    }

    pub(super) fn pop(&mut self) -> Option<HeldPiece<M>> {
        let held = self.pieces.pop_front()?;
        self.captured -= held.bytes.len();
        self.total = self.total.saturating_sub(held.piece().len());
        Some(held)
    }

    /// Puts back the piece that was taken last, after `taken` of its bytes. What is kept is counted in
    /// full until the piece is gone: its memory is.
    pub(super) fn put_back(&mut self, mut held: HeldPiece<M>, taken: u64) {
        let mut piece = held.piece();
        piece.advance(taken);
        let (offset, left, missing) = (piece.offset, piece.bytes.len(), piece.missing);
        held.start &= taken == 0;
        held.taken = held.bytes.len() - left;
        held.missing = missing;
        held.offset = offset;
        self.captured += held.bytes.len();
        self.total = self.total.saturating_add(held.piece().len());
        self.pieces.push_front(held);
    }

    /// Drops everything; how many bytes that were.
    pub(super) fn clear(&mut self) -> u64 {
        let total = self.total;
        *self = Self::new();
        total
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Stream<M> {
    pub(super) held: Held<M>,
    /// The stream's end, until everything held before it is through.
    pub(super) ending: Option<(Option<EndError>, M)>,
    /// The stream has ended, and how.
    pub(super) ended: Option<Option<EndError>>,
    /// Offset of the next byte; `None` when the next piece says.
    next: Option<u64>,
    fed_bytes: u64,
    message_bytes: u64,
    skipped_bytes: u64,
}

impl<M: Clone> Stream<M> {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
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
    pub(super) fn place(&mut self, piece: &mut Piece<'_, M>) -> Placed {
        let next = self.next.unwrap_or(piece.offset);
        let hole = piece.offset.saturating_sub(next);
        self.fed_bytes = self.fed_bytes.saturating_add(hole).saturating_add(piece.len());
        let start = piece.start;
        let overlap = piece.advance(next.saturating_sub(piece.offset));
        // What is left begins where the last piece ended: as good a start as any other.
        piece.start = start;
        self.next = Some(next.max(piece.offset.saturating_add(piece.len())));
        Placed { hole, overlap }
    }

    pub(super) fn count_message(&mut self, bytes: u64) {
        self.message_bytes = self.message_bytes.saturating_add(bytes);
    }

    pub(super) fn count_skipped(&mut self, bytes: u64) {
        self.skipped_bytes = self.skipped_bytes.saturating_add(bytes);
    }

    /// Whether its end is known, be it that held pieces come first.
    pub(super) fn has_ended(&self) -> bool {
        self.ending.is_some() || self.ended.is_some()
    }

    /// The counters, with `unfinished` bytes of a message that isn't over.
    pub(super) fn counters(&self, unfinished: u64) -> Counters {
        Counters {
            fed_bytes: self.fed_bytes,
            message_bytes: self.message_bytes,
            skipped_bytes: self.skipped_bytes,
            pending_bytes: self.held.total.saturating_add(unfinished),
            informational: 0,
        }
    }
}

/// How a piece lies behind those before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) hole: u64,
    pub(super) overlap: u64,
}
