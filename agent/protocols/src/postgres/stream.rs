//! One direction of a PostgreSQL connection: where in a message it is, what it holds, what it counted.
//!
//! Knows pieces and message boundaries; what the messages mean together is `connection`'s.

use std::{borrow::Cow, collections::VecDeque};

use super::message::{HEADER_BYTES, Header};
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

impl<'a, M> Piece<'a, M> {
    pub(super) fn len(&self) -> u64 {
        (self.bytes.len() as u64).saturating_add(self.missing)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.missing == 0
    }

    /// Takes the first `count` bytes, captured ones first; the captured ones.
    pub(super) fn advance(&mut self, count: u64) -> &'a [u8] {
        let count = count.min(self.len());
        let captured =
            usize::try_from(count).map_or(self.bytes.len(), |count| count.min(self.bytes.len()));
        let (taken, rest) = self.bytes.split_at_checked(captured).unwrap_or((self.bytes, &[]));
        self.bytes = rest;
        self.missing -= count - taken.len() as u64;
        self.offset = self.offset.saturating_add(count);
        self.start &= count == 0;
        taken
    }

    /// Takes everything; how much that was.
    pub(super) fn drain(&mut self) -> u64 {
        let len = self.len();
        self.advance(len);
        len
    }
}

/// Where in its messages a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Before or in a message without a type.
    Startup,
    /// Before or in a message.
    Framed,
    /// Bytes that were not captured hid where messages begin; the exchange at hand goes on.
    Lost,
    /// Between exchanges: the next message begins with a piece.
    Expect,
    /// Nothing is known: see `resync`.
    Desync,
    /// As `Desync`, for good.
    Silent,
    /// Encrypted.
    Opaque,
    /// After the stream's end.
    Ended,
}

/// A message that is not complete yet.
#[derive(Debug)]
struct Partial<M> {
    offset: u64,
    first: M,
    header: [u8; HEADER_BYTES],
    header_have: usize,
    /// Once the header is complete.
    known: Option<Header>,
    left: u64,
    kept: Vec<u8>,
    taken: u64,
}

/// A message.
#[derive(Debug)]
pub(super) struct Message<'a, M> {
    /// 0: without a type.
    pub(super) kind: u8,
    /// The body's beginning, as much as is of use and was captured.
    pub(super) body: Cow<'a, [u8]>,
    /// Stream offset of the first byte.
    pub(super) offset: u64,
    pub(super) first: M,
    /// All of it, the header included.
    pub(super) bytes: u64,
}

/// What became of a piece.
#[derive(Debug)]
pub(super) enum Step<'a, M> {
    /// The message goes on in the next piece.
    More,
    Message(Message<'a, M>),
    /// Part of a header was not captured.
    Lost,
    /// No message begins so.
    Broken,
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
        let fits = self.captured + piece.bytes.len() <= limits::POSTGRES_HELD_BYTES
            && self.pieces.len() < limits::POSTGRES_HELD_PIECES;
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
    pub(super) state: State,
    pub(super) held: Held<M>,
    /// The stream's end, until everything held before it is through.
    pub(super) ending: Option<(Option<EndError>, M)>,
    /// How the stream ended, once it has.
    pub(super) end_error: Option<EndError>,
    partial: Option<Partial<M>>,
    /// Offset of the next byte; `None` when the next piece says.
    next: Option<u64>,
    fed_bytes: u64,
    message_bytes: u64,
    skipped_bytes: u64,
}

impl<M: Clone> Stream<M> {
    pub(super) fn new(from_start: bool, state: State) -> Self {
        Self {
            state,
            held: Held::new(),
            ending: None,
            end_error: None,
            partial: None,
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
        let overlap = next.saturating_sub(piece.offset).min(piece.len());
        piece.advance(overlap);
        // What is left begins where the last piece ended: as good a start as any other.
        piece.start = start;
        self.next = Some(next.max(piece.offset.saturating_add(piece.len())));
        Placed { hole, overlap }
    }

    /// Whether the stream is between two messages, as far as framing goes.
    pub(super) fn at_boundary(&self) -> bool {
        self.partial.is_none()
    }

    /// Takes the next message, or as much of it as the piece has.
    pub(super) fn take<'a>(
        &mut self,
        direction: Direction,
        piece: &mut Piece<'a, M>,
    ) -> Step<'a, M> {
        let typed = self.state != State::Startup;
        let mut partial = self.partial.take().unwrap_or_else(|| Partial {
            offset: piece.offset,
            first: piece.mark.clone(),
            header: [0; HEADER_BYTES],
            header_have: usize::from(!typed),
            known: None,
            left: 0,
            kept: Vec::new(),
            taken: 0,
        });
        let header = match partial.known {
            Some(header) => header,
            None => {
                let want = HEADER_BYTES - partial.header_have;
                let taken = piece.advance(want.min(piece.bytes.len()) as u64);
                let slots = partial.header.iter_mut().skip(partial.header_have);
                slots.zip(taken).for_each(|(slot, &byte)| *slot = byte);
                partial.header_have += taken.len();
                partial.taken += taken.len() as u64;
                if partial.header_have < HEADER_BYTES {
                    let lost = piece.missing > 0;
                    self.partial = Some(partial);
                    return if lost { Step::Lost } else { Step::More };
                }
                let [_, length @ ..] = partial.header;
                let header = if typed {
                    Header::read(direction, partial.header)
                } else {
                    Header::read_startup(length)
                };
                let Some(header) = header else {
                    self.partial = Some(partial);
                    return Step::Broken;
                };
                partial.known = Some(header);
                partial.left = u64::from(header.body_bytes);
                header
            }
        };
        let used = partial.left.min(piece.len());
        let captured = piece.advance(used);
        partial.left -= used;
        partial.taken += used;
        // Captured bytes count only as long as none are missing before them.
        let contiguous = partial.kept.len() as u64
            == partial.taken - used - (HEADER_BYTES - usize::from(!typed)) as u64;
        let room = if contiguous { header.keep - partial.kept.len().min(header.keep) } else { 0 };
        let fresh = captured.get(..room).unwrap_or(captured);
        let body = if partial.left == 0 && partial.kept.is_empty() {
            Cow::Borrowed(fresh)
        } else {
            partial.kept.extend_from_slice(fresh);
            if partial.left > 0 {
                self.partial = Some(partial);
                return Step::More;
            }
            Cow::Owned(partial.kept)
        };
        Step::Message(Message {
            kind: header.kind,
            body,
            offset: partial.offset,
            first: partial.first,
            bytes: partial.taken,
        })
    }

    /// Drops the incomplete message; how many bytes of it there were.
    pub(super) fn drop_partial(&mut self) -> u64 {
        self.partial.take().map_or(0, |partial| partial.taken)
    }

    pub(super) fn count_message(&mut self, bytes: u64) {
        self.message_bytes = self.message_bytes.saturating_add(bytes);
    }

    pub(super) fn count_skipped(&mut self, bytes: u64) {
        self.skipped_bytes = self.skipped_bytes.saturating_add(bytes);
    }

    /// Whether its end is known, be it that held pieces come first.
    pub(super) fn has_ended(&self) -> bool {
        self.ending.is_some() || self.state == State::Ended
    }

    pub(super) fn counters(&self, informational: u64) -> Counters {
        let partial = self.partial.as_ref().map_or(0, |partial| partial.taken);
        Counters {
            fed_bytes: self.fed_bytes,
            message_bytes: self.message_bytes,
            skipped_bytes: self.skipped_bytes,
            pending_bytes: self.held.total.saturating_add(partial),
            informational,
        }
    }
}

/// How a piece lies behind those before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) hole: u64,
    pub(super) overlap: u64,
}
