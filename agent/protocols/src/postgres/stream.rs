//! One direction of a PostgreSQL connection: where in a message it is, what it holds, what it counted.
//!
//! Knows pieces and message boundaries; what the messages mean together is `connection`'s.

use std::borrow::Cow;

use super::message::{HEADER_BYTES, Header};
use crate::exchange::Direction;
use crate::stream::{self, Piece};

/// Where in its messages a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
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

/// One direction.
pub(super) type Stream<M> = stream::Stream<M, Frames<M>>;

/// Where in its messages a stream is, and what it has of the present one.
#[derive(Debug)]
pub(crate) struct Frames<M> {
    pub(super) at: State,
    partial: Option<Partial<M>>,
    /// What the next message's body is gathered in, empty.
    spare: Vec<u8>,
}

impl<M: Clone> Frames<M> {
    pub(super) fn new(at: State) -> Self {
        Self { at, partial: None, spare: Vec::new() }
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
        let typed = self.at != State::Startup;
        let mut partial = self.partial.take().unwrap_or_else(|| Partial {
            offset: piece.offset,
            first: piece.mark.clone(),
            header: [0; HEADER_BYTES],
            header_have: usize::from(!typed),
            known: None,
            left: 0,
            kept: std::mem::take(&mut self.spare),
            taken: 0,
        });
        let header = match partial.known {
            Some(header) => header,
            None => {
                let want = HEADER_BYTES - partial.header_have;
                let taken = piece.take(want.min(piece.bytes.len()) as u64);
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
        let captured = piece.take(used);
        partial.left -= used;
        partial.taken += used;
        // Captured bytes count only as long as none are missing before them.
        let contiguous = partial.kept.len() as u64
            == partial.taken - used - (HEADER_BYTES - usize::from(!typed)) as u64;
        let room = if contiguous { header.keep - partial.kept.len().min(header.keep) } else { 0 };
        let fresh = captured.get(..room).unwrap_or(captured);
        let body = if partial.left == 0 && partial.kept.is_empty() {
            self.spare = partial.kept;
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

    /// Takes a message's memory back.
    pub(super) fn recycle(&mut self, message: Message<'_, M>) {
        if let Cow::Owned(mut body) = message.body {
            body.clear();
            self.spare = body;
        }
    }

    /// Drops the incomplete message; how many bytes of it there were.
    pub(super) fn drop_partial(&mut self) -> u64 {
        self.partial.take().map_or(0, |partial| partial.taken)
    }

    /// Bytes of the incomplete message.
    pub(super) fn unfinished(&self) -> u64 {
        self.partial.as_ref().map_or(0, |partial| partial.taken)
    }
}
