//! In the steady state a parser allocates what it hands out, and nothing for itself.
//!
//! A command's text and key, a statement's text and tags outlive the parser's step: spans are made of them.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests")]

use allocation_counter::measure;
use wirespan_protocols::exchange::Direction::{self, Requests, Responses};
use wirespan_protocols::exchange::Parser as _;
use wirespan_protocols::{postgres, redis};

/// Commands or statements of one run, after as many to warm up.
const ROUNDS: u64 = 1000;

/// A connection that is fed, with its offsets.
struct Feed<F> {
    on_bytes: F,
    offsets: [u64; 2],
}

impl<F: FnMut(Direction, u64, &[u8])> Feed<F> {
    fn new(on_bytes: F) -> Self {
        Self { on_bytes, offsets: [0; 2] }
    }

    fn piece(&mut self, direction: Direction, bytes: &[u8]) {
        let offset = &mut self.offsets[direction as usize];
        (self.on_bytes)(direction, *offset, bytes);
        *offset += bytes.len() as u64;
    }

    /// Allocations of `ROUNDS` requests, each with its answer, both in pieces of this length at most.
    fn rounds(&mut self, request: &[u8], answer: &[u8], piece_bytes: usize) -> u64 {
        let mut rounds = || {
            for _ in 0..ROUNDS {
                request.chunks(piece_bytes).for_each(|piece| self.piece(Requests, piece));
                answer.chunks(piece_bytes).for_each(|piece| self.piece(Responses, piece));
            }
        };
        rounds();
        measure(rounds).count_total
    }
}

#[test]
fn a_redis_command_costs_its_text_and_its_key() {
    let list = format!("*100\r\n{}", "$5\r\nvalue\r\n".repeat(100));
    for (request, answer, handed_out) in [
        (&b"*2\r\n$3\r\nGET\r\n$6\r\nuser:1\r\n"[..], &b"$5\r\nvalue\r\n"[..], 2),
        (b"*3\r\n$3\r\nSET\r\n$6\r\nuser:1\r\n$5\r\nvalue\r\n", b"+OK\r\n", 2),
        (b"*4\r\n$6\r\nLRANGE\r\n$3\r\nl:1\r\n$1\r\n0\r\n$2\r\n-1\r\n", list.as_bytes(), 2),
        (b"*1\r\n$4\r\nINFO\r\n", b"$3\r\na:b\r\n", 1),
    ] {
        for piece_bytes in [usize::MAX, 7] {
            let mut connection = redis::Connection::new(true);
            let mut over = 0;
            let mut feed = Feed::new(|direction, offset, bytes: &[u8]| {
                connection.on_bytes(direction, offset, bytes, 0, &(), &mut |event| {
                    over += u64::from(matches!(event, redis::Event::End { .. }));
                });
            });
            let allocations = feed.rounds(request, answer, piece_bytes);
            assert_eq!(over, 2 * ROUNDS);
            let request = String::from_utf8_lossy(request);
            assert_eq!(allocations, handed_out * ROUNDS, "{request:?} by {piece_bytes}");
        }
    }
}

/// A message of PostgreSQL's.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

#[test]
fn a_postgres_statement_costs_its_text_and_its_tags() {
    let startup = [&[0, 0, 0, 17, 0, 3, 0, 0][..], b"user\0me\0\0"].concat();
    let startup = [&u32::try_from(startup.len()).unwrap().to_be_bytes(), &startup[4..]].concat();
    let hello = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    let row = message(b'D', b"\0\x01\0\0\0\x05value");
    let columns = message(b'T', b"\0\0");
    let done = [message(b'C', b"SELECT 50\0"), message(b'Z', b"I")].concat();
    let simple = message(b'Q', b"SELECT name FROM orders\0");
    let prepared = [
        message(b'B', b"\0by-id\0\0\0\0\x01\0\0\0\x011\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat();
    let rows = row.repeat(50);
    for (request, answer, handed_out) in [
        // Its text, and the list of its tags.
        (simple, [&*columns, &rows, &done].concat(), 2),
        // The statement's name, to look it up, and the list of its tags.
        (prepared, [&*message(b'2', b""), &rows, &done].concat(), 2),
    ] {
        let mut connection = postgres::Connection::new(true);
        let mut over = 0;
        let mut feed = Feed::new(|direction, offset, bytes: &[u8]| {
            connection.on_bytes(direction, offset, bytes, 0, &(), &mut |event| {
                over += u64::from(matches!(event, postgres::Event::End { .. }));
            });
        });
        feed.piece(Requests, &startup);
        feed.piece(Responses, &hello);
        feed.piece(Requests, &message(b'P', b"by-id\0SELECT name FROM orders WHERE id = $1\0\0\0"));
        feed.piece(Requests, &message(b'S', b""));
        feed.piece(Responses, &[message(b'1', b""), message(b'Z', b"I")].concat());
        let allocations = feed.rounds(&request, &answer, usize::MAX);
        assert_eq!(over, 2 * ROUNDS);
        assert_eq!(allocations, handed_out * ROUNDS, "{}", String::from_utf8_lossy(&request));
    }
}
