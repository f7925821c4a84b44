//! The shared area of Node's assist: its layout, and how it is read from outside.
//!
//! Beside capture. The script (`assist/core.js`) writes into an ArrayBuffer of its own, one in each thread; the
//! agent reads that with process_vm_readv(2) and never writes. Everything in it is another process's word and is
//! checked here. It decides nothing about what the notes mean.
//!
//! All numbers are little-endian. The header:
//!
//! | byte | |
//! |---|---|
//! | 0 | magic, 16 bytes |
//! | 16 | u32 version |
//! | 20 | u32 capacity: entries, a power of two |
//! | 24 | u32 head: entries written so far, wrapping |
//! | 28 | u32 thread: 0 for the main one |
//! | 32 | u32 × 2: the number of the evaluation that announced it |
//! | 40 | u32 process id, as the process itself sees it |
//! | 48 | u32 bindings that are active, a bit each |
//! | 52 | u32 notes that the script withheld because something did not match |
//!
//! Each entry has 64 bytes: u32 its number plus one (written last; behind the head one may be half written), u32 kind
//! and flags, then by kind. `Range` and `Inbound`: f64 time, socket, start, length, owner, length of all that is
//! written at once. `Local` and `Remote`: f64 socket, u32 port, u32 length of the address, its text. `Text`: f64
//! number of a handler, u32 offset in the name of what it handles, u32 length, that many bytes of it. `Handles`:
//! f64 time, socket, number, two more by what is handled (AMQP: delivery tag, channel; Kafka: first and last
//! offset), u32 what (1 AMQP, 2 Kafka, 3 a job), i32 partition, u32 length of the name. `Handled`: f64 time, 0, number.

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Where an entry's place is computed from; the size of the header.
pub(super) const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 64;

/// `wirespan-assist` and a zero.
pub(super) const MAGIC: [u8; 16] = *b"wirespan-assist\0";

/// The layout described above.
pub(super) const VERSION: u32 = 2;

/// Larger areas than the script makes are not believed.
const MAX_CAPACITY: u32 = 1 << 16;

/// Integers above this are not exact in a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a process's memory.
pub(super) trait Memory {
    /// Fills `buffer` from `address`.
    ///
    /// # Errors
    /// When any of it can't be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// The header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) capacity: u32,
    pub(super) head: u32,
    pub(super) thread: u32,
    pub(super) nonce: [u32; 2],
    pub(super) pid: u32,
    pub(super) active: u32,
    pub(super) mismatches: u32,
}

/// One note.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// These bytes of what a socket sends are the owner's.
    Range {
        socket: u64,
        /// Counted from the connection's first byte.
        start: u64,
        length: u64,
        /// A request's number; 0: nobody's.
        owner: u64,
        /// They are one whole message: what it asks for may begin anywhere in it, not only at its beginning.
        message: bool,
        /// Written right before the kernel was given these bytes and others after them, with nothing before
        /// them still to be sent: when (CLOCK_MONOTONIC), and how many in all.
        sync: Option<(u64, u64)>,
    },
    /// The application is given a request that came on this socket.
    Inbound { socket: u64, at_ns: u64, owner: u64 },
    /// One end of a socket.
    End { socket: u64, local: bool, address: SocketAddr },
    /// A piece of the name of what the handler with this number is about to be given.
    Text { number: u64, offset: usize, piece: Piece },
    /// The handler is given what came, on that socket if it isn't 0.
    Handles { socket: u64, at_ns: u64, number: u64, delivered: Delivered, name_bytes: usize },
    /// What the handler returned has settled.
    Handled { at_ns: u64, number: u64 },
}

/// Some bytes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub(super) struct Piece {
    bytes: [u8; Self::MOST],
    length: usize,
}

impl Piece {
    /// Behind the fields of its note.
    const MOST: usize = 40;

    /// The first bytes of these.
    pub(super) fn new(from: &[u8]) -> Self {
        let mut bytes = [0; Self::MOST];
        let length = from.len().min(Self::MOST);
        bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Self { bytes, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// More bytes than a note has room for.
#[derive(Debug, thiserror::Error)]
#[error("a piece of a name is longer than a note")]
pub(super) struct TooLong;

impl TryFrom<Vec<u8>> for Piece {
    type Error = TooLong;

    fn try_from(bytes: Vec<u8>) -> Result<Self, TooLong> {
        if bytes.len() > Self::MOST { Err(TooLong) } else { Ok(Self::new(&bytes)) }
    }
}

impl From<Piece> for Vec<u8> {
    fn from(piece: Piece) -> Self {
        piece.bytes().to_vec()
    }
}

/// What a handler is given, but for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Delivered {
    Amqp { channel: u16, tag: u64 },
    Kafka { partition: i32, first: i64, last: i64 },
    Job,
}

/// What reading an area gave beside entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Entries.
    pub(super) entries: u64,
    /// Entries that were overwritten before they could be read.
    pub(super) lost: u64,
    /// Entries that made no sense.
    pub(super) malformed: u64,
    /// Bindings, a bit each.
    pub(super) active: u32,
    /// What the script withheld so far.
    pub(super) mismatches: u32,
}

/// An area that was found, and how far it was read.
#[derive(Debug)]
pub(super) struct Area {
    address: u64,
    capacity: u32,
    next: u32,
    buffer: Vec<u8>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

/// A whole number that a double holds exactly; `None` for anything else.
fn whole_at(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..)?.first_chunk::<8>()?;
    let number = f64::from_le_bytes(*eight);
    ((0.0..MAX_EXACT).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

/// A time in nanoseconds; those after 104 days of uptime have lost their last digits.
fn time_at(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..)?.first_chunk::<8>()?;
    let number = f64::from_le_bytes(*eight);
    (number > 0.0 && number < 1e19).then_some(number as u64)
}

impl Header {
    /// `None` where no area of this version is.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let capacity = u32_at(bytes, 20);
        let known = bytes.len() >= HEADER_BYTES
            && bytes.starts_with(&MAGIC)
            && u32_at(bytes, 16) == VERSION
            && capacity.is_power_of_two()
            && capacity <= MAX_CAPACITY;
        known.then(|| Self {
            capacity,
            head: u32_at(bytes, 24),
            thread: u32_at(bytes, 28),
            nonce: [u32_at(bytes, 32), u32_at(bytes, 36)],
            pid: u32_at(bytes, 40),
            active: u32_at(bytes, 48),
            mismatches: u32_at(bytes, 52),
        })
    }
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    const SYNC: u32 = 1 << 8;
    const MESSAGE: u32 = 1 << 9;
    let kind = u32_at(bytes, 4);
    match kind & 0xff {
        1 => {
            let sync = if kind & SYNC == 0 { None } else { time_at(bytes, 8) };
            Some(Entry::Range {
                socket: whole_at(bytes, 16)?,
                start: whole_at(bytes, 24)?,
                length: whole_at(bytes, 32)?,
                owner: whole_at(bytes, 40)?,
                message: kind & MESSAGE != 0,
                sync: sync.zip(whole_at(bytes, 48)),
            })
        }
        2 => Some(Entry::Inbound {
            socket: whole_at(bytes, 16)?,
            at_ns: time_at(bytes, 8)?,
            owner: whole_at(bytes, 40)?,
        }),
        3 | 4 => {
            let length = usize::try_from(u32_at(bytes, 20)).ok()?;
            let text = bytes.get(24..)?.get(..length)?;
            let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
            let port = u16::try_from(u32_at(bytes, 16)).ok()?;
            Some(Entry::End {
                socket: whole_at(bytes, 8)?,
                local: kind & 0xff == 3,
                address: SocketAddr::new(address.to_canonical(), port),
            })
        }
        5 => {
            let length = usize::try_from(u32_at(bytes, 20)).ok()?;
            Some(Entry::Text {
                number: whole_at(bytes, 8)?,
                offset: usize::try_from(u32_at(bytes, 16)).ok()?,
                piece: Piece::new(bytes.get(24..)?.get(..length)?),
            })
        }
        6 => {
            let (one, two) = (whole_at(bytes, 32)?, whole_at(bytes, 40)?);
            let delivered = match u32_at(bytes, 48) {
                1 => Delivered::Amqp { channel: u16::try_from(two).ok()?, tag: one },
                2 => Delivered::Kafka {
                    partition: u32_at(bytes, 52).cast_signed(),
                    first: one.cast_signed(),
                    last: two.cast_signed(),
                },
                3 => Delivered::Job,
                _ => return None,
            };
            Some(Entry::Handles {
                at_ns: time_at(bytes, 8)?,
                socket: whole_at(bytes, 16)?,
                number: whole_at(bytes, 24)?,
                delivered,
                name_bytes: usize::try_from(u32_at(bytes, 56)).ok()?,
            })
        }
        7 => Some(Entry::Handled { at_ns: time_at(bytes, 8)?, number: whole_at(bytes, 24)? }),
        _ => None,
    }
}

impl Area {
    /// An area that was found. What it holds already tells of connections that are open.
    pub(super) fn new(address: u64, header: &Header) -> Self {
        let held = header.head.min(header.capacity - 1);
        let next = header.head.wrapping_sub(held);
        Self { address, capacity: header.capacity, next, buffer: Vec::new() }
    }

    /// Reads what was written since the last time.
    ///
    /// # Errors
    /// The area is not there any more: the process ended, executed something else, or its assist was undone.
    pub(super) fn read(
        &mut self,
        memory: &impl Memory,
        out: &mut impl FnMut(Entry),
    ) -> io::Result<Read> {
        let mut header = self.header(memory)?;
        let mut read =
            Read { active: header.active, mismatches: header.mismatches, ..Read::default() };
        let mut waiting = header.head.wrapping_sub(self.next);
        if waiting == 0 {
            return Ok(read);
        }
        if waiting > self.capacity {
            read.lost += u64::from(waiting - self.capacity);
            self.next = header.head.wrapping_sub(self.capacity);
            waiting = self.capacity;
        }
        self.copy(memory, waiting)?;
        // What was written meanwhile may have run over what was copied.
        header = self.header(memory)?;
        let overrun = header.head.wrapping_sub(self.next).saturating_sub(self.capacity - 1);
        for (index, bytes) in (0..waiting).zip(self.buffer.chunks_exact(ENTRY_BYTES)) {
            let number = self.next.wrapping_add(index).wrapping_add(1);
            // One that is being written over is not in what is believed, or has another's number.
            if index < overrun || u32_at(bytes, 0) != number {
                read.lost += 1;
            } else if let Some(entry) = entry(bytes) {
                read.entries += 1;
                out(entry);
            } else {
                read.malformed += 1;
            }
        }
        self.next = self.next.wrapping_add(waiting);
        Ok(read)
    }

    fn header(&self, memory: &impl Memory) -> io::Result<Header> {
        let mut bytes = [0; HEADER_BYTES];
        memory.read(self.address, &mut bytes)?;
        Header::parse(&bytes)
            .filter(|header| header.capacity == self.capacity)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the assist's area is gone"))
    }

    /// Copies the next `count` entries, in one piece or two.
    fn copy(&mut self, memory: &impl Memory, count: u32) -> io::Result<()> {
        let first = self.next & (self.capacity - 1);
        let straight = count.min(self.capacity - first);
        self.buffer.resize(count as usize * ENTRY_BYTES, 0);
        let (one, two) = self.buffer.split_at_mut(straight as usize * ENTRY_BYTES);
        let base = self.address.saturating_add(HEADER_BYTES as u64);
        memory.read(base.saturating_add(u64::from(first) * ENTRY_BYTES as u64), one)?;
        if two.is_empty() { Ok(()) } else { memory.read(base, two) }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    const CAPACITY: u32 = 8;
    const ADDRESS: u64 = 0x7000_0010;

    /// What the script would have written. `run_over`: entries that come while the agent reads.
    #[derive(Default)]
    struct Written {
        bytes: RefCell<Vec<u8>>,
        head: RefCell<u32>,
        run_over: RefCell<u32>,
    }

    impl Written {
        fn new() -> Self {
            let written = Self::default();
            let mut bytes = vec![0; HEADER_BYTES + CAPACITY as usize * ENTRY_BYTES];
            bytes[..16].copy_from_slice(&MAGIC);
            bytes[16..20].copy_from_slice(&VERSION.to_le_bytes());
            bytes[20..24].copy_from_slice(&CAPACITY.to_le_bytes());
            written.bytes.replace(bytes);
            written
        }

        fn write(&self, count: u32) {
            for _ in 0..count {
                let head = *self.head.borrow();
                let at = HEADER_BYTES + (head % CAPACITY) as usize * ENTRY_BYTES;
                let mut bytes = self.bytes.borrow_mut();
                let entry = &mut bytes[at..at + ENTRY_BYTES];
                entry.fill(0);
                entry[..4].copy_from_slice(&(head + 1).to_le_bytes());
                entry[4..8].copy_from_slice(&2_u32.to_le_bytes());
                entry[8..16].copy_from_slice(&1.0_f64.to_le_bytes());
                entry[40..48].copy_from_slice(&f64::from(head).to_le_bytes());
                bytes[24..28].copy_from_slice(&(head + 1).to_le_bytes());
                self.head.replace(head + 1);
            }
        }
    }

    impl Memory for Written {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
            let at = (address - ADDRESS) as usize;
            buffer.copy_from_slice(&self.bytes.borrow()[at..at + buffer.len()]);
            if buffer.len() >= ENTRY_BYTES && at >= HEADER_BYTES {
                let count = self.run_over.replace(0);
                self.write(count);
            }
            Ok(())
        }
    }

    fn area(written: &Written) -> Area {
        Area::new(ADDRESS, &Header::parse(&written.bytes.borrow()).unwrap())
    }

    fn owners(area: &mut Area, written: &Written) -> (Vec<u64>, Read) {
        let mut owners = Vec::new();
        let read = area.read(written, &mut |entry| match entry {
            Entry::Inbound { owner, .. } => owners.push(owner),
            other => panic!("{other:?}"),
        });
        (owners, read.unwrap())
    }

    proptest! {
        /// Each entry is read once, in order, or counted as lost.
        #[test]
        fn every_entry_is_read_or_counted(
            rounds in prop::collection::vec((0_u32..20, 0_u32..20), 1..20),
        ) {
            let written = Written::new();
            let mut area = area(&written);
            let (mut next, mut seen, mut lost) = (0, 0, 0);
            for (before, during) in rounds {
                written.write(before);
                written.run_over.replace(during);
                let (owners, read) = owners(&mut area, &written);
                for owner in owners {
                    prop_assert!(owner >= next);
                    next = owner + 1;
                    seen += 1;
                }
                lost += read.lost;
            }
            written.run_over.replace(0);
            let (owners, read) = owners(&mut area, &written);
            prop_assert_eq!(seen + lost + owners.len() as u64 + read.lost, u64::from(*written.head.borrow()));
            prop_assert_eq!(read.malformed, 0);
        }

        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _header = Header::parse(&bytes);
            let _entry = entry(&bytes);
        }
    }

    #[test]
    fn an_area_that_is_gone_is_an_error() {
        let written = Written::new();
        let mut area = area(&written);
        written.bytes.borrow_mut()[0] = 0;
        assert!(area.read(&written, &mut |_| {}).is_err());
    }

    #[test]
    fn addresses_are_read_as_node_writes_them() {
        let end = |text: &str| {
            let mut bytes = [0; ENTRY_BYTES];
            bytes[4..8].copy_from_slice(&3_u32.to_le_bytes());
            bytes[8..16].copy_from_slice(&7.0_f64.to_le_bytes());
            bytes[16..20].copy_from_slice(&80_u32.to_le_bytes());
            bytes[20..24].copy_from_slice(&(text.len() as u32).to_le_bytes());
            bytes[24..24 + text.len()].copy_from_slice(text.as_bytes());
            entry(&bytes)
        };
        let known = |address: &str| {
            Some(Entry::End { socket: 7, local: true, address: address.parse().unwrap() })
        };
        assert_eq!(end("127.0.0.1"), known("127.0.0.1:80"));
        assert_eq!(end("::ffff:127.0.0.1"), known("127.0.0.1:80"));
        assert_eq!(end("fe80::1"), known("[fe80::1]:80"));
        assert_eq!(end("nonsense"), None);
    }

    #[test]
    fn deliveries_are_read_as_node_writes_them() {
        let handles = |what: u32, one: f64, two: f64| {
            let mut bytes = [0; ENTRY_BYTES];
            bytes[4..8].copy_from_slice(&6_u32.to_le_bytes());
            for (at, number) in [(8, 100.0), (16, 3.0), (24, 5.0), (32, one), (40, two)] {
                bytes[at..at + 8].copy_from_slice(&f64::to_le_bytes(number));
            }
            bytes[48..52].copy_from_slice(&what.to_le_bytes());
            bytes[52..56].copy_from_slice(&(-1_i32).to_le_bytes());
            bytes[56..60].copy_from_slice(&9_u32.to_le_bytes());
            entry(&bytes)
        };
        let known = |delivered| {
            Some(Entry::Handles { at_ns: 100, socket: 3, number: 5, delivered, name_bytes: 9 })
        };
        assert_eq!(handles(1, 17.0, 2.0), known(Delivered::Amqp { channel: 2, tag: 17 }));
        assert_eq!(handles(1, 17.0, 65_536.0), None);
        let kafka = Delivered::Kafka { partition: -1, first: 17, last: 19 };
        assert_eq!(handles(2, 17.0, 19.0), known(kafka));
        assert_eq!(handles(2, -1.0, 19.0), None);
        assert_eq!(handles(3, 0.0, 0.0), known(Delivered::Job));
        assert_eq!(handles(4, 0.0, 0.0), None);
        let mut bytes = [0; ENTRY_BYTES];
        bytes[4..8].copy_from_slice(&5_u32.to_le_bytes());
        bytes[16..20].copy_from_slice(&40_u32.to_le_bytes());
        bytes[20..24].copy_from_slice(&3_u32.to_le_bytes());
        bytes[24..27].copy_from_slice(b"abc");
        let piece = Piece::new(b"abc");
        assert_eq!(entry(&bytes), Some(Entry::Text { number: 0, offset: 40, piece }));
        bytes[20..24].copy_from_slice(&41_u32.to_le_bytes());
        assert_eq!(entry(&bytes), None);
    }

    #[test]
    fn what_a_double_does_not_hold_exactly_is_no_number() {
        for (number, expected) in [
            (0.0, Some(0)),
            (5.0, Some(5)),
            (-1.0, None),
            (0.5, None),
            (f64::NAN, None),
            (MAX_EXACT, None),
        ] {
            assert_eq!(whole_at(&f64::to_le_bytes(number), 0), expected, "{number}");
        }
    }
}
