//! One direction of an HTTP/1.x connection: where in a message it is, what it holds, what it counted.
//!
//! Knows pieces, heads and bodies; which request a response belongs to is `connection`'s.

use super::{
    Detected,
    body::{Body, Progress},
    detect::{begins_message, classify},
};
use crate::exchange::Direction;
use crate::limits;
use crate::stream::{self, Piece};

impl<M> Piece<'_, M> {
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

/// One direction.
pub(super) type Stream<M> = stream::Stream<M, State<M>>;

/// Where in its messages a stream is.
#[derive(Debug)]
pub(crate) enum State<M> {
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

impl<M: Clone> State<M> {
    pub(super) fn new(from_start: bool) -> Self {
        if from_start { Self::Boundary } else { Self::Desync }
    }

    /// Bytes of a head that is not complete yet.
    pub(super) fn gathered(&self) -> u64 {
        if let Self::Head(gather) = self { gather.pending() } else { 0 }
    }
}

/// A head that is not complete yet.
#[derive(Debug)]
pub(crate) struct Gather<M> {
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
pub(super) struct Head<'a, M> {
    pub(super) offset: u64,
    pub(super) first: M,
    pub(super) complete: bool,
    /// All of it, where it came in one piece.
    direct: Option<&'a [u8]>,
    /// All of it, where it did not; else nothing.
    pub(super) buffer: Vec<u8>,
    /// It can't be one.
    not_http: bool,
}

impl<M> Head<'_, M> {
    fn bytes(&self) -> &[u8] {
        self.direct.unwrap_or(&self.buffer)
    }

    /// Bytes that it has.
    pub(super) fn len(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// What is read from it; `None`: not HTTP, or broken.
    pub(super) fn parsed<'h, T>(
        &'h self,
        parse: impl FnOnce(&'h [u8], bool) -> Option<T>,
    ) -> Option<T> {
        if self.not_http { None } else { parse(self.bytes(), self.complete) }
    }
}

impl<M: Clone> Gather<M> {
    /// `room`: what is gathered in, empty.
    pub(super) fn new(piece: &Piece<'_, M>, room: Vec<u8>) -> Self {
        Self {
            offset: piece.offset,
            first: piece.mark.clone(),
            buffer: room,
            scanned: 0,
            line: 0,
            recognised: false,
        }
    }

    pub(super) fn pending(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Takes what belongs to the head. `Err`: it goes on in the next piece.
    pub(super) fn take<'a>(
        mut self,
        direction: Direction,
        piece: &mut Piece<'a, M>,
    ) -> Result<Head<'a, M>, Self> {
        let room = limits::HTTP1_HEAD_BYTES.saturating_sub(self.buffer.len());
        let fresh = piece.bytes.get(..room).unwrap_or(piece.bytes);
        let before = self.buffer.len();
        // The usual head comes in one piece: it is read where it lies.
        let mut buffer = std::mem::take(&mut self.buffer);
        let bytes = if before == 0 {
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
                if before == 0 {
                    buffer.extend_from_slice(fresh);
                }
                self.buffer = buffer;
                piece.advance(fresh.len() as u64);
                return Err(self);
            }
        };
        let direct = if before == 0 { fresh.get(..len) } else { None };
        buffer.truncate(len);
        piece.advance((len - before.min(len)) as u64);
        let Self { offset, first, .. } = self;
        Ok(Head { offset, first, complete, direct, buffer, not_http })
    }

    /// What is there, as a head that was cut here.
    pub(super) fn cut(self, direction: Direction) -> Head<'static, M> {
        let Self { offset, first, buffer, .. } = self;
        let not_http = !may_begin(direction, &buffer);
        Head { offset, first, complete: false, direct: None, buffer, not_http }
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
