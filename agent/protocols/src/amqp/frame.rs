//! One direction of an AMQP connection: where in its frames it is.
//!
//! Knows pieces, frames and their ends (section 4.2 of the specification); what is in them is `method`'s,
//! `properties`' and `content`'s. A body's bytes are handed on as they come.

use std::borrow::Cow;

use crate::limits;
use crate::stream::{self, Piece};

/// What a client says first: protocol 0-9-1.
pub(super) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// Type, channel and size of a frame.
pub(super) const HEAD_BYTES: usize = 7;

/// What a frame ends with.
pub(super) const FRAME_END: u8 = 0xce;

/// Where in its frames a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Before or in the protocol header.
    Start,
    /// Before or in a frame.
    Framed,
    /// Nobody knows: see `resync`.
    Desync,
    /// What is spoken is not this protocol.
    Silent,
    /// After the stream's end.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// A frame's first seven bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) channel: u16,
    pub(super) size: u32,
}

impl Head {
    /// Reads it; `None`: no frame begins so.
    pub(super) fn read(&[kind, c1, c2, s1, s2, s3, s4]: &[u8; HEAD_BYTES]) -> Option<Self> {
        let channel = u16::from_be_bytes([c1, c2]);
        let size = u32::from_be_bytes([s1, s2, s3, s4]);
        let kind = match kind {
            1 if size >= 4 => Kind::Method,
            // Class, weight, size of the body, flags.
            2 if size >= 14 && channel > 0 => Kind::Header,
            3 if size > 0 && channel > 0 => Kind::Body,
            8 if size == 0 && channel == 0 => Kind::Heartbeat,
            _ => return None,
        };
        (size <= limits::AMQP_FRAME_BYTES).then_some(Self { kind, channel, size })
    }

    fn keep(self) -> usize {
        match self.kind {
            Kind::Method => limits::AMQP_METHOD_BYTES,
            Kind::Header => limits::AMQP_HEADER_BYTES,
            Kind::Body | Kind::Heartbeat => 0,
        }
    }
}

/// A frame that is not complete yet.
#[derive(Debug)]
struct Partial<M> {
    offset: u64,
    first: M,
    head: [u8; HEAD_BYTES],
    head_have: usize,
    known: Option<Head>,
    /// Bytes of the payload that are still to come.
    left: u64,
    kept: Vec<u8>,
    taken: u64,
}

/// A frame, all of which has passed.
#[derive(Debug)]
pub(super) struct Frame<'a, M> {
    pub(super) kind: Kind,
    pub(super) channel: u16,
    /// The payload's beginning, as much as is of use and was captured; nothing of a body.
    pub(super) payload: Cow<'a, [u8]>,
    /// All of it is there.
    pub(super) whole: bool,
    pub(super) offset: u64,
    pub(super) first: M,
    pub(super) bytes: u64,
}

/// What became of a piece.
#[derive(Debug)]
pub(super) enum Step<'a, M> {
    /// The frame goes on in the next piece.
    More,
    /// All but the frame's end has passed, which has to wait for the other direction.
    Hold,
    Frame(Frame<'a, M>),
    /// Bytes of a body: captured ones, then as many missing ones.
    Body {
        channel: u16,
        captured: &'a [u8],
        missing: u64,
    },
    /// Part of a frame's head was not captured.
    Lost,
    /// No frame begins, or ends, so.
    Broken,
}

/// One direction.
pub(super) type Stream<M> = stream::Stream<M, Frames<M>>;

/// Where in its frames a stream is, and what it has of the present one.
#[derive(Debug)]
pub(crate) struct Frames<M> {
    pub(super) at: At,
    partial: Option<Partial<M>>,
    /// The buffer of the last frame that needed one.
    spare: Vec<u8>,
    /// Of a stream that is not understood: what its last small pieces were.
    pub(super) window: Vec<u8>,
}

impl<M: Clone> Frames<M> {
    pub(super) fn new(at: At) -> Self {
        Self { at, partial: None, spare: Vec::new(), window: Vec::new() }
    }

    /// Takes the next frame, or as much of it as the piece has. `waits`: whether the other direction has to
    /// come first, asked of a method's channel and payload.
    pub(super) fn take<'a>(
        &mut self,
        piece: &mut Piece<'a, M>,
        waits: impl Fn(u16, &[u8]) -> bool,
    ) -> Step<'a, M> {
        let mut partial = self.partial.take().unwrap_or_else(|| Partial {
            offset: piece.offset,
            first: piece.mark.clone(),
            head: [0; HEAD_BYTES],
            head_have: 0,
            known: None,
            left: 0,
            kept: Vec::new(),
            taken: 0,
        });
        let head = match partial.known {
            Some(head) => head,
            None => {
                let want = HEAD_BYTES - partial.head_have;
                let taken = piece.take(want.min(piece.bytes.len()) as u64);
                let slots = partial.head.iter_mut().skip(partial.head_have);
                slots.zip(taken).for_each(|(slot, &byte)| *slot = byte);
                partial.head_have += taken.len();
                partial.taken += taken.len() as u64;
                if partial.head_have < HEAD_BYTES {
                    let lost = piece.missing > 0;
                    self.partial = Some(partial);
                    return if lost { Step::Lost } else { Step::More };
                }
                let Some(head) = Head::read(&partial.head) else {
                    self.partial = Some(partial);
                    return Step::Broken;
                };
                partial.known = Some(head);
                partial.left = u64::from(head.size);
                head
            }
        };
        let before = u64::from(head.size) - partial.left;
        let used = partial.left.min(piece.len());
        let captured = piece.take(used);
        partial.left -= used;
        partial.taken += used;
        if head.kind == Kind::Body && used > 0 {
            self.partial = Some(partial);
            let missing = used - captured.len() as u64;
            return Step::Body { channel: head.channel, captured, missing };
        }
        // Captured bytes count only as long as none are missing before them.
        let room = head.keep().saturating_sub(partial.kept.len());
        let contiguous = partial.kept.len() as u64 == before;
        let fresh = if contiguous { captured.get(..room).unwrap_or(captured) } else { &[] };
        let ends_here = partial.left == 0 && !piece.is_empty();
        let borrows = ends_here && (before == 0 || head.kind == Kind::Body);
        let is_method = head.kind == Kind::Method;
        let hold = borrows && is_method && waits(head.channel, fresh)
            || !borrows && {
                if partial.kept.capacity() == 0 {
                    partial.kept = std::mem::take(&mut self.spare);
                    partial.kept.clear();
                }
                partial.kept.extend_from_slice(fresh);
                ends_here && is_method && waits(head.channel, &partial.kept)
            };
        if hold && borrows {
            partial.kept.extend_from_slice(fresh);
        }
        if hold || !ends_here {
            self.partial = Some(partial);
            return if hold { Step::Hold } else { Step::More };
        }
        let payload = if borrows {
            Cow::Borrowed(fresh)
        } else {
            Cow::Owned(std::mem::take(&mut partial.kept))
        };
        let end = piece.take(1);
        partial.taken += 1;
        if end.first().is_some_and(|&end| end != FRAME_END) {
            self.partial = Some(partial);
            return Step::Broken;
        }
        Step::Frame(Frame {
            kind: head.kind,
            channel: head.channel,
            whole: payload.len() as u64 == u64::from(head.size) || head.kind == Kind::Body,
            payload,
            offset: partial.offset,
            first: partial.first,
            bytes: partial.taken,
        })
    }

    /// Takes a frame's buffer back.
    pub(super) fn recycle(&mut self, payload: Cow<'_, [u8]>) {
        if let Cow::Owned(buffer) = payload
            && buffer.capacity() > self.spare.capacity()
        {
            self.spare = buffer;
        }
    }

    /// Drops the incomplete frame; how many bytes of it there were.
    pub(super) fn drop_partial(&mut self) -> u64 {
        self.partial.take().map_or(0, |partial| partial.taken)
    }

    /// Drops the incomplete protocol header; how many bytes of it there were.
    pub(super) fn drop_start(&mut self) -> u64 {
        let window = std::mem::take(&mut self.window);
        // Of a stream that isn't understood it has been skipped already.
        if self.at == At::Start { window.len() as u64 } else { 0 }
    }

    /// Bytes of the incomplete frame, or protocol header.
    pub(super) fn unfinished(&self) -> u64 {
        let start = if self.at == At::Start { self.window.len() as u64 } else { 0 };
        self.partial.as_ref().map_or(start, |partial| partial.taken)
    }
}
