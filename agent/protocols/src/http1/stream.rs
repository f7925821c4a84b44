//! One direction of an HTTP/1.x connection: where in a message it is, what it holds, what it counted.
//!
//! Knows pieces, heads and bodies; which request a response belongs to is `connection`'s.

use std::collections::VecDeque;

use super::{
    body::{Body, Progress},
    detect::{Detected, begins_message, classify},
};
use crate::exchange::{Counters, Direction, EndError};
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

    /// Gives the body its part of the piece; how many bytes that were.
    pub(super) fn feed(&mut self, body: &mut Body) -> (u64, Progress) {
        let (used, progress) = if self.bytes.is_empty() {
            body.missing(self.missing)
        } else {
            let (used, progress) = body.bytes(self.bytes);
            (used as u64, progress)
        };
        (self.advance(used), progress)
    }

    pub(super) fn begins_message(&self, direction: Direction) -> bool {
        self.start && begins_message(direction, self.bytes, self.missing)
    }
}

/// Where in its messages a stream is.
#[derive(Debug)]
pub(super) enum State<M> {
    /// Between two messages.
    Boundary,
    /// In a head.
    Head(Gather<M>),
    /// In a body whose end will be known.
    Body(Body),
    /// In a message whose end can't be known any more.
    Lost { last: M, chunked: bool, content_bytes: u64 },
    /// Between messages as far as anyone knows: the next is recognised at the start of a piece.
    Desync,
    /// As `Desync`, for good: pairing can't become certain again.
    Silent,
    /// No longer HTTP.
    Tunnel,
    /// After the stream's end.
    Ended,
}

/// A head that is not complete yet.
#[derive(Debug)]
pub(super) struct Gather<M> {
    offset: u64,
    first: M,
    buffer: Vec<u8>,
    /// Bytes searched for line ends so far.
    scanned: usize,
    /// Where the line after the last one found begins.
    line: usize,
    recognised: bool,
}

/// A head, whole or cut.
#[derive(Debug)]
pub(super) struct Head<M, T> {
    pub(super) offset: u64,
    pub(super) first: M,
    /// Bytes that it had.
    pub(super) bytes: u64,
    /// What was read from it; `None`: not HTTP, or broken.
    pub(super) parsed: Option<T>,
    pub(super) complete: bool,
}

impl<M: Clone> Gather<M> {
    pub(super) fn new(piece: &Piece<'_, M>) -> Self {
        Self {
            offset: piece.offset,
            first: piece.mark.clone(),
            buffer: Vec::new(),
            scanned: 0,
            line: 0,
            recognised: false,
        }
    }

    pub(super) fn pending(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Takes what belongs to the head. `Err`: it goes on in the next piece.
    pub(super) fn take<T>(
        mut self,
        direction: Direction,
        piece: &mut Piece<'_, M>,
        parse: fn(&[u8], bool) -> Option<T>,
    ) -> Result<Head<M, T>, Self> {
        let room = limits::HTTP1_HEAD_BYTES.saturating_sub(self.buffer.len());
        let fresh = piece.bytes.get(..room).unwrap_or(piece.bytes);
        let before = self.buffer.len();
        // The usual head comes in one piece: read it where it lies.
        let mut buffer = std::mem::take(&mut self.buffer);
        let bytes = if buffer.is_empty() {
            fresh
        } else {
            buffer.extend_from_slice(fresh);
            &buffer
        };
        let end = self.find_end(bytes);
        let cut = piece.missing > 0 || bytes.len() >= limits::HTTP1_HEAD_BYTES;
        // Asked at the first bytes, when the first line is whole, and when no more will come: not at
        // every piece, which tiny pieces would make quadratic.
        let ask = before == 0 || cut || (self.line > 0 && !self.recognised);
        let not_http = ask && !may_begin(direction, bytes);
        self.recognised |= self.line > 0;
        let (len, complete) = match end {
            Some(end) => (end, true),
            None if cut || not_http => (bytes.len(), false),
            None => {
                self.buffer = if before == 0 { fresh.to_vec() } else { buffer };
                piece.advance(fresh.len() as u64);
                return Err(self);
            }
        };
        let head = bytes.get(..len).unwrap_or(bytes);
        let parsed = if not_http { None } else { parse(head, complete) };
        piece.advance((len - before.min(len)) as u64);
        Ok(Head { offset: self.offset, first: self.first, bytes: len as u64, parsed, complete })
    }

    /// Reads what is there as a head that was cut here.
    pub(super) fn cut<T>(
        self,
        direction: Direction,
        parse: fn(&[u8], bool) -> Option<T>,
    ) -> Head<M, T> {
        Head {
            offset: self.offset,
            bytes: self.pending(),
            parsed: if may_begin(direction, &self.buffer) {
                parse(&self.buffer, false)
            } else {
                None
            },
            first: self.first,
            complete: false,
        }
    }

    /// Position after the empty line that ends the head.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let fresh = bytes.get(self.scanned..).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', fresh) {
            let end = self.scanned + at;
            let line = bytes.get(self.line..end).unwrap_or_default();
            if line.is_empty() || line == b"\r" {
                return Some(end + 1);
            }
            self.line = end + 1;
        }
        self.scanned = bytes.len();
        None
    }
}

/// Whether nothing speaks against a message of this direction.
fn may_begin(direction: Direction, bytes: &[u8]) -> bool {
    match classify(bytes) {
        Detected::NeedMore => true,
        Detected::Requests => direction == Direction::Requests,
        Detected::Responses => direction == Direction::Responses,
        Detected::No => false,
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
        let fits = self.captured + piece.bytes.len() <= limits::HTTP1_HELD_BYTES
            && self.pieces.len() < limits::HTTP1_HELD_PIECES;
        if fits {
            self.pieces.push_back(HeldPiece {
                offset: piece.offset,
                bytes: piece.bytes.into(),
                taken: 0,
                missing: piece.missing,
                mark: piece.mark.clone(),
                start: piece.start,
            });
            self.captured += piece.bytes.len();
            self.total = self.total.saturating_add(piece.len());
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
    pub(super) state: State<M>,
    pub(super) held: Held<M>,
    /// The stream's end, until everything held before it is through.
    pub(super) ending: Option<(Option<EndError>, M)>,
    /// How the stream ended, once it has.
    pub(super) end_error: Option<EndError>,
    pub(super) informational: u64,
    /// Offset of the next byte; `None` when the next piece says.
    next: Option<u64>,
    fed_bytes: u64,
    message_bytes: u64,
    skipped_bytes: u64,
}

impl<M: Clone> Stream<M> {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            state: if from_start { State::Boundary } else { State::Desync },
            held: Held::new(),
            ending: None,
            end_error: None,
            informational: 0,
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
        self.ending.is_some() || matches!(self.state, State::Ended)
    }

    pub(super) fn counters(&self) -> Counters {
        let gathered = if let State::Head(gather) = &self.state { gather.pending() } else { 0 };
        Counters {
            fed_bytes: self.fed_bytes,
            message_bytes: self.message_bytes,
            skipped_bytes: self.skipped_bytes,
            pending_bytes: self.held.total.saturating_add(gathered),
            informational: self.informational,
        }
    }
}

/// How a piece lies behind those before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) hole: u64,
    pub(super) overlap: u64,
}
