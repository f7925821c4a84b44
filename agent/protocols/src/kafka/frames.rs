//! One direction of a Kafka connection: where in a message it is, what it holds of it.
//!
//! A message is its length and as many bytes. Of those the first ones that were captured without a gap are
//! kept, up to a limit; the rest is counted. What messages mean is `connection`'s.

use std::borrow::Cow;

use crate::limits;
use crate::stream::{self, Piece};

/// Bytes of a message's length.
pub(super) const LENGTH_BYTES: usize = 4;

/// A response is nothing but a correlation id at least; no request is as short.
const LEAST_BYTES: u32 = 4;

/// Where in its messages a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Before or in a message.
    Framed,
    /// Where messages begin is not known.
    Lost,
    /// After the stream's end.
    Ended,
}

/// A message that is not complete yet.
#[derive(Debug)]
struct Partial<M> {
    offset: u64,
    first: M,
    length: [u8; LENGTH_BYTES],
    length_have: usize,
    /// Once its length is known.
    left: Option<u64>,
    kept: Vec<u8>,
    /// All of `kept` lies at the message's beginning, and more may.
    open: bool,
    taken: u64,
}

/// A message.
#[derive(Debug)]
pub(super) struct Message<'a, M> {
    /// Its beginning behind the length, as much as is kept.
    pub(super) body: Cow<'a, [u8]>,
    /// Stream offset of its first byte.
    pub(super) offset: u64,
    pub(super) first: M,
    /// All of it, the length included.
    pub(super) bytes: u64,
}

/// What became of a piece.
#[derive(Debug)]
pub(super) enum Step<'a, M> {
    /// The message goes on in the next piece.
    More,
    Message(Message<'a, M>),
    /// Part of a length was not captured, or no message has that length.
    Lost,
}

/// One direction.
pub(crate) type Stream<M> = stream::Stream<M, Frames<M>>;

/// Where in its messages a stream is, and what it has of the present one.
#[derive(Debug)]
pub(crate) struct Frames<M> {
    pub(super) at: State,
    partial: Option<Partial<M>>,
}

impl<M: Clone> Frames<M> {
    pub(super) fn new(at: State) -> Self {
        Self { at, partial: None }
    }

    /// Takes the next message, or as much of it as the piece has.
    pub(super) fn take<'a>(&mut self, piece: &mut Piece<'a, M>) -> Step<'a, M> {
        let mut partial = self.partial.take().unwrap_or_else(|| Partial {
            offset: piece.offset,
            first: piece.mark.clone(),
            length: [0; LENGTH_BYTES],
            length_have: 0,
            left: None,
            kept: Vec::new(),
            open: true,
            taken: 0,
        });
        let left = match partial.left {
            Some(left) => left,
            None => {
                let want = LENGTH_BYTES - partial.length_have;
                let taken = piece.take(want.min(piece.bytes.len()) as u64);
                let slots = partial.length.iter_mut().skip(partial.length_have);
                slots.zip(taken).for_each(|(slot, &byte)| *slot = byte);
                partial.length_have += taken.len();
                partial.taken += taken.len() as u64;
                if partial.length_have < LENGTH_BYTES {
                    let lost = piece.missing > 0;
                    self.partial = Some(partial);
                    return if lost { Step::Lost } else { Step::More };
                }
                let length = u32::from_be_bytes(partial.length);
                if !(LEAST_BYTES..=limits::KAFKA_MESSAGE_BYTES).contains(&length) {
                    self.partial = Some(partial);
                    return Step::Lost;
                }
                u64::from(length)
            }
        };
        let used = left.min(piece.len());
        let captured = piece.take(used);
        let left = left - used;
        partial.left = Some(left);
        partial.taken += used;
        let room = limits::KAFKA_KEPT_BYTES - partial.kept.len().min(limits::KAFKA_KEPT_BYTES);
        let fresh = if partial.open { captured.get(..room).unwrap_or(captured) } else { &[] };
        partial.open &= fresh.len() as u64 == used;
        if left > 0 {
            partial.kept.extend_from_slice(fresh);
            self.partial = Some(partial);
            return Step::More;
        }
        let body = if partial.kept.is_empty() {
            Cow::Borrowed(fresh)
        } else {
            partial.kept.extend_from_slice(fresh);
            Cow::Owned(partial.kept)
        };
        Step::Message(Message {
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

    /// Bytes of the incomplete message.
    pub(super) fn unfinished(&self) -> u64 {
        self.partial.as_ref().map_or(0, |partial| partial.taken)
    }
}
