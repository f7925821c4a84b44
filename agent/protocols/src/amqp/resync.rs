//! How frames are found anew where a stream's framing was lost, or was never seen.
//!
//! A frame says its length, and ends with an octet that is known: a chain of frames that fit each other up to
//! the end of what was captured, with a method in it that this side can send, is no accident. A message's body
//! that holds frames itself would be taken for them only if all else of it were lost: its own frame's end
//! doesn't fit such a chain.

use super::connection::{Connection, Out};
use super::frame::{At, FRAME_END, HEAD_BYTES, Head, Kind};
use super::method::Method;
use crate::exchange::{Direction, Skip};
use crate::follow::Follow;
use crate::limits;
use crate::stream::Piece;

/// What frames in a row show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Whole frames.
    pub(super) frames: u32,
    /// Those of them that are known by their content.
    pub(super) known: u32,
    /// The last one ends with the bytes.
    pub(super) exact: bool,
}

/// Follows frames from the first byte on; `None`: something does not fit.
pub(super) fn chain(direction: Direction, bytes: &[u8]) -> Option<Chain> {
    let mut chain = Chain::default();
    let mut rest = bytes;
    while chain.frames < limits::AMQP_RESYNC_FRAMES {
        let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() else {
            chain.exact = rest.is_empty();
            let may_begin = rest.first().is_none_or(|kind| matches!(kind, 1..=3 | 8));
            return may_begin.then_some(chain);
        };
        let head = Head::read(head)?;
        let size = usize::try_from(head.size).ok()?;
        let payload = after.get(..size).unwrap_or(after);
        let is_known = match head.kind {
            Kind::Method => match Method::read(direction, payload) {
                Some(_) => true,
                None if payload.len() < size => false,
                None => return None,
            },
            Kind::Header => match payload.first_chunk::<4>() {
                Some([0, 60, 0, 0]) => true,
                Some(_) => return None,
                None => false,
            },
            Kind::Heartbeat => true,
            Kind::Body => false,
        };
        match after.get(size) {
            Some(&FRAME_END) => {}
            Some(_) => return None,
            None => return Some(chain),
        }
        chain.frames += 1;
        chain.known += u32::from(is_known);
        rest = after.get(size + 1..).unwrap_or_default();
    }
    Some(chain)
}

/// Where in a piece frames begin for certain.
fn find(direction: Direction, bytes: &[u8], start: bool) -> Option<usize> {
    let first = start.then_some(0);
    let behind_ends = memchr::memchr_iter(FRAME_END, bytes).map(|at| at + 1);
    first.into_iter().chain(behind_ends).take(limits::AMQP_RESYNC_TRIES).find(|&at| {
        let Some(chain) = chain(direction, bytes.get(at..).unwrap_or_default()) else {
            return false;
        };
        chain.known > 0
            && match at {
                // What an operation begins with is rarely anything else.
                0 => chain.frames >= 2 || chain.exact,
                _ => chain.frames >= 3 || (chain.frames == 2 && chain.exact),
            }
    })
}

/// Takes a piece of a stream that is not understood, or what of it comes before the first certain frame.
pub(super) fn advance<M: Clone + 'static>(
    connection: &mut Connection<M>,
    direction: Direction,
    piece: &mut Piece<'_, M>,
    out: &mut Out<'_, M>,
) {
    let state = &mut connection.stream_mut(direction).state;
    if let Some(at) = find(direction, piece.bytes, piece.start || piece.rest) {
        state.window.clear();
        state.at = At::Framed;
        let skipped = piece.advance(at as u64);
        return connection.skip(direction, skipped, Skip::Resync, out);
    }
    // Some clients read a frame's head, its payload and its end one by one: then frames are certain only
    // together, and the next one begins behind them.
    if piece.missing > 0 || piece.bytes.len() >= limits::AMQP_RESYNC_BYTES {
        state.window.clear();
    } else {
        let room = limits::AMQP_RESYNC_BYTES - piece.bytes.len();
        let excess = state.window.len().saturating_sub(room);
        state.window.drain(..excess);
        state.window.extend_from_slice(piece.bytes);
        if piece.bytes.last() == Some(&FRAME_END) && ends_with_frames(direction, &state.window) {
            state.window.clear();
            state.at = At::Framed;
        }
    }
    let skipped = piece.drain();
    connection.skip(direction, skipped, Skip::Resync, out);
}

/// Whether the bytes end with at least two frames, one of which is known.
fn ends_with_frames(direction: Direction, window: &[u8]) -> bool {
    let behind_ends = memchr::memchr_iter(FRAME_END, window).map(|at| at + 1);
    std::iter::once(0).chain(behind_ends).any(|at| {
        chain(direction, window.get(at..).unwrap_or_default())
            .is_some_and(|chain| chain.exact && chain.known > 0 && chain.frames >= 2)
    })
}
