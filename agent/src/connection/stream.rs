//! One direction of a connection, put in order.
//!
//! Records of one socket come in order as long as one thread uses it. With several, a later operation's
//! record can be earlier by a scheduling delay: such a piece waits for what belongs before it, briefly;
//! then the hole is taken for real.

use crate::capture::Operation;
use crate::connection::Mark;

/// How long a piece waits for an earlier one. Measured delays between an operation and its record are
/// below 5 ms with stolen CPU time.
const PATIENCE_NS: u64 = 20_000_000;

/// Pieces of a direction that wait at most: beyond, the hole is taken for real at once.
const MAX_WAITING: usize = 64;

/// Bytes of one operation.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) sent: bool,
    pub(super) offset: u64,
    pub(super) bytes: Box<[u8]>,
    /// Bytes behind `bytes` that were not captured.
    pub(super) missing: u64,
    /// The operation's last bytes, behind the missing ones.
    pub(super) tail: Box<[u8]>,
    pub(super) mark: Mark,
    /// Something of the other direction was lost just before.
    pub(super) other_lost: bool,
}

impl Piece {
    pub(super) fn of(operation: &Operation<'_>, mark: Mark) -> Self {
        let captured = (operation.payload.len() + operation.tail.len()) as u64;
        Self {
            sent: operation.sent,
            offset: operation.offset,
            bytes: operation.payload.into(),
            missing: u64::from(operation.length).saturating_sub(captured),
            tail: operation.tail.into(),
            mark,
            other_lost: if operation.sent { operation.lost_received } else { operation.lost_sent },
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64 + self.missing + self.tail.len() as u64
    }

    fn end(&self) -> u64 {
        self.offset.wrapping_add(self.length())
    }
}

/// The order of one direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Offset of the next piece; `None` before the first.
    next: Option<u64>,
    /// Pieces behind a hole.
    waiting: Vec<Piece>,
}

impl Stream {
    /// Gives the piece back if it is next (or behind, which the parser sees) and needn't wait for the other
    /// direction either; else keeps it.
    pub(super) fn accept(&mut self, piece: Piece, hold: bool) -> Option<Piece> {
        let ahead = self.next.is_some_and(|next| piece.offset > next);
        if !ahead && !hold && self.waiting.is_empty() {
            return Some(piece);
        }
        self.waiting.push(piece);
        None
    }

    /// When the oldest waiting piece passed.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        self.waiting.iter().map(|piece| piece.mark.at_ns).min()
    }

    /// Whether the hole before what waits is to be taken for real.
    pub(super) fn is_overdue(&self, now_ns: u64) -> bool {
        self.oldest_ns().is_some_and(|at| now_ns.saturating_sub(at) >= PATIENCE_NS)
    }

    /// Whether more waits than may.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() > MAX_WAITING
    }

    /// A waiting piece whose turn it is.
    pub(super) fn next(&mut self) -> Option<Piece> {
        let index = match self.next {
            Some(next) => self.waiting.iter().position(|piece| piece.offset <= next)?,
            None => self.first()?,
        };
        Some(self.waiting.swap_remove(index))
    }

    /// The waiting piece with the lowest offset.
    pub(super) fn earliest(&mut self) -> Option<Piece> {
        let index = self.first()?;
        Some(self.waiting.swap_remove(index))
    }

    fn first(&self) -> Option<usize> {
        (0..self.waiting.len()).min_by_key(|index| self.waiting.get(*index).map(|p| p.offset))
    }

    /// Moves past a piece that is being delivered. Returns the bytes of the hole before it.
    pub(super) fn advance(&mut self, piece: &Piece) -> u64 {
        let hole = self.next.map_or(0, |next| piece.offset.saturating_sub(next));
        self.next = Some(self.next.unwrap_or(0).max(piece.end()));
        hole
    }

    /// Bytes that wait.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.waiting.iter().map(Piece::length).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, bytes: &[u8], at_ns: u64) -> Piece {
        Piece {
            sent: false,
            offset,
            bytes: bytes.into(),
            missing: 0,
            tail: Box::default(),
            mark: Mark { at_ns, ..Mark::default() },
            other_lost: false,
        }
    }

    fn deliver(stream: &mut Stream, piece: Piece, order: &mut Vec<u64>) {
        let mut piece = stream.accept(piece, false).or_else(|| stream.next());
        while let Some(next) = piece {
            stream.advance(&next);
            order.push(next.offset);
            piece = stream.next();
        }
    }

    #[test]
    fn puts_late_records_in_order() {
        let (mut stream, mut order) = (Stream::default(), Vec::new());
        for (offset, bytes) in [(10, "ab"), (14, "ef"), (16, "gh"), (12, "cd"), (18, "ij")] {
            deliver(&mut stream, piece(offset, bytes.as_bytes(), 0), &mut order);
        }
        assert_eq!(order, [10, 12, 14, 16, 18]);
        assert_eq!(stream.waiting_bytes(), 0);
    }

    #[test]
    fn a_hole_is_real_when_patience_ends() {
        let (mut stream, mut order) = (Stream::default(), Vec::new());
        deliver(&mut stream, piece(10, b"ab", 0), &mut order);
        deliver(&mut stream, piece(20, b"cd", 1_000), &mut order);
        assert!(!stream.is_overdue(PATIENCE_NS) && stream.next().is_none());
        assert!(stream.is_overdue(PATIENCE_NS + 1_000));
        let late = stream.earliest().unwrap();
        assert_eq!((late.offset, stream.advance(&late)), (20, 8));
    }

    #[test]
    fn too_many_do_not_wait() {
        let (mut stream, mut order) = (Stream::default(), Vec::new());
        deliver(&mut stream, piece(0, b"a", 0), &mut order);
        for index in 0..=MAX_WAITING as u64 {
            assert!(!stream.is_full());
            deliver(&mut stream, piece(10 + index, b"a", 0), &mut order);
        }
        assert!(stream.is_full());
    }
}
