//! What the parsers' tests share: a connection with its marks, offsets, books and events, and recorded sessions.

use std::ops::Range;

use crate::exchange::Direction::{self, Requests, Responses};
use crate::exchange::{EndError, Parser};
use crate::script::Books;

/// A protocol under test.
pub(crate) trait Tested: Parser<u32> + Sized {
    /// An event, kept.
    type Told;

    /// A connection seen from its start, or met in the middle.
    fn met(from_start: bool) -> Self;
    /// Holds an event against those before it.
    fn book(books: &mut Books, event: &Self::Told);
    /// Keeps an event.
    fn keep(event: Self::Event<'_>) -> Self::Told;
}

/// A connection with its marks counted up, its offsets kept, and its promises checked at every step.
pub(crate) struct Run<P: Tested> {
    pub(crate) connection: P,
    pub(crate) books: Books,
    pub(crate) events: Vec<P::Told>,
    pub(crate) offsets: [u64; 2],
    mark: u32,
}

impl<P: Tested> Run<P> {
    pub(crate) fn new(from_start: bool) -> Self {
        Self {
            connection: P::met(from_start),
            books: Books::default(),
            events: Vec::new(),
            offsets: [0; 2],
            mark: 0,
        }
    }

    pub(crate) fn step(
        &mut self,
        step: impl FnOnce(&mut P, &u32, &mut dyn FnMut(P::Event<'_>)),
    ) -> &mut Self {
        self.mark += 1;
        let (books, events) = (&mut self.books, &mut self.events);
        step(&mut self.connection, &self.mark, &mut |event: P::Event<'_>| {
            let event = P::keep(event);
            P::book(books, &event);
            events.push(event);
        });
        self.books.check(&self.connection);
        self
    }

    pub(crate) fn piece(&mut self, direction: Direction, bytes: &[u8], missing: u64) -> &mut Self {
        let offset = self.offsets[direction as usize];
        self.offsets[direction as usize] += bytes.len() as u64 + missing;
        self.step(|connection, mark, out| {
            connection.on_bytes(direction, offset, bytes, missing, mark, out);
        })
    }

    pub(crate) fn requests(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.piece(Requests, bytes.as_ref(), 0)
    }

    pub(crate) fn responses(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.piece(Responses, bytes.as_ref(), 0)
    }

    /// The next piece of this direction comes after bytes that never did.
    pub(crate) fn hole(&mut self, direction: Direction, bytes: u64) -> &mut Self {
        self.offsets[direction as usize] += bytes;
        self
    }

    pub(crate) fn gap(&mut self, direction: Direction) -> &mut Self {
        self.step(|connection, _, out| connection.on_gap(direction, out))
    }

    pub(crate) fn idle(&mut self) -> &mut Self {
        self.step(|connection, _, out| connection.on_idle(out))
    }

    pub(crate) fn end(&mut self, direction: Direction, error: Option<EndError>) -> &mut Self {
        self.step(|connection, mark, out| connection.on_end(direction, error, mark, out))
    }

    /// Ends both directions, and holds that nothing is left open.
    pub(crate) fn close(&mut self) -> &mut Self {
        self.end(Requests, None).end(Responses, None);
        self.books.check_over(&self.connection);
        self
    }

    /// A whole session, each end of which is told. Holds that nothing is left open.
    pub(crate) fn whole(records: &[Record<'_>]) -> Self {
        let mut run = Self::new(true);
        run.records(records);
        run.books.check_over(&run.connection);
        run
    }

    /// A session that broke off after `len` bytes of the record `at`.
    pub(crate) fn prefix(records: &[Record<'_>], at: usize, len: usize) -> Self {
        let (direction, bytes) = records[at];
        let mut run = Self::new(true);
        run.records(&records[..at]);
        run.record((direction, bytes.map(|bytes| &bytes[..len])));
        run.close();
        run
    }

    /// A session of which the record `at` came in two pieces, the first of `len` bytes.
    pub(crate) fn split(records: &[Record<'_>], at: usize, len: usize) -> Self {
        let (direction, bytes) = records[at];
        let (before, after) = bytes.unwrap_or_default().split_at(len);
        let mut run = Self::new(true);
        run.records(&records[..at]);
        run.piece(direction, before, 0).piece(direction, after, 0);
        run.records(&records[at + 1..]);
        run
    }

    /// A session that came byte by byte.
    pub(crate) fn byte_by_byte(records: &[Record<'_>]) -> Self {
        let mut run = Self::new(true);
        for &(direction, bytes) in records {
            match bytes {
                Some(bytes) => bytes.iter().for_each(|byte| {
                    run.piece(direction, std::slice::from_ref(byte), 0);
                }),
                None => run.record((direction, None)),
            }
        }
        run
    }

    /// A session of which these bytes of the record `at` were damaged, to its end.
    pub(crate) fn damaged(
        records: &[Record<'_>],
        at: usize,
        lost: Range<usize>,
        damage: Damage,
    ) -> Self {
        let mut run = Self::new(true);
        run.goes_on_damaged(records, at, lost, damage);
        run
    }

    /// The same on a connection of which something is known already.
    pub(crate) fn goes_on_damaged(
        &mut self,
        records: &[Record<'_>],
        at: usize,
        lost: Range<usize>,
        damage: Damage,
    ) {
        self.records(&records[..at]);
        let (direction, bytes) = records[at];
        let bytes = bytes.unwrap_or_default();
        let (before, after) = (&bytes[..lost.start], &bytes[lost.end..]);
        match damage {
            Damage::Missing => {
                self.piece(direction, before, (bytes.len() - lost.start) as u64);
            }
            Damage::Middle => {
                self.piece(direction, before, lost.len() as u64);
                let offset = self.offsets[direction as usize];
                self.offsets[direction as usize] += after.len() as u64;
                self.step(|connection, mark, out| {
                    connection.on_rest(direction, offset, after, mark, out);
                });
            }
            Damage::Hole => {
                self.piece(direction, before, 0).hole(direction, lost.len() as u64);
                self.piece(direction, after, 0);
            }
            Damage::Gap => {
                self.piece(direction, before, 0).gap(direction);
                self.piece(direction, after, 0);
            }
            Damage::Gaps => {
                self.piece(direction, before, 0).gap(Requests).gap(Responses);
                self.piece(direction, after, 0);
            }
        }
        self.records(&records[at + 1..]);
        self.close();
    }

    pub(crate) fn records(&mut self, records: &[Record<'_>]) {
        records.iter().for_each(|&record| self.record(record));
    }

    /// One record of a capture.
    pub(crate) fn record(&mut self, (direction, bytes): Record<'_>) {
        match bytes {
            Some(bytes) => self.piece(direction, bytes, 0),
            None => self.end(direction, None),
        };
    }
}

/// How a record of a capture is damaged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Damage {
    /// Its bytes were not captured from here to its end.
    Missing,
    /// Bytes were not captured, but for its last ones.
    Middle,
    /// Bytes never came; those after them did.
    Hole,
    /// As `Hole`, and nobody knows how many.
    Gap,
    /// As `Gap`, and nobody knows in which direction.
    Gaps,
}

/// One record of a capture: who sent, and what; `None`: a FIN.
pub(crate) type Record<'a> = (Direction, Option<&'a [u8]>);

/// The records of a capture, each `> LENGTH` or `< LENGTH` or `> end` and a line's end before its bytes.
pub(crate) fn records(capture: &[u8]) -> Vec<Record<'_>> {
    let mut rest = capture;
    let mut records = Vec::new();
    while let Some(line) = rest.iter().position(|&byte| byte == b'\n') {
        let (head, after) = (str::from_utf8(&rest[..line]).unwrap(), &rest[line + 1..]);
        let (sign, length) = head.split_once(' ').unwrap();
        let direction = if sign == ">" { Requests } else { Responses };
        rest = if length == "end" {
            records.push((direction, None));
            after
        } else {
            let length: usize = length.parse().unwrap();
            records.push((direction, Some(&after[..length])));
            &after[length + 1..]
        };
    }
    records
}
