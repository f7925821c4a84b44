//! What a call on a connection costs in memory of its own, once buffers have grown: what its span needs, no more.

use rstest::rstest;

use super::*;

/// Rounds before counting.
const WARM_UP: usize = 3;

/// Rounds that are counted.
const ROUNDS: usize = 10;

fn message(kind: u8, body: &str) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body.as_bytes()].concat()
}

/// A `SET` and its reply.
fn redis() -> [Vec<u8>; 2] {
    [b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n".to_vec(), b"+OK\r\n".to_vec()]
}

/// A session's beginning, then a prepared statement's `Bind`, `Execute` and `Sync`, and a row.
fn postgres() -> [Vec<u8>; 2] {
    let bind = message(b'B', "\0named\0\0\0\0\x01\0\0\0\x01v\0\0");
    let request = [bind, message(b'E', "\0\0\0\0\0"), message(b'S', "")].concat();
    let row = message(b'D', "\0\x01\0\0\0\x01r");
    let end = [message(b'C', "SELECT 1\0"), message(b'Z', "I")].concat();
    [request, [message(b'2', ""), row, end].concat()]
}

fn postgres_begins() -> [Vec<u8>; 2] {
    let startup = b"\0\0\0\x14\0\x03\0\0user\0shop\0\0\0".to_vec();
    let parse = message(b'P', "named\0SELECT name FROM orders WHERE id = $1\0\0\0");
    let asked = [startup, parse, message(b'S', "")].concat();
    let open = [message(b'R', "\0\0\0\0"), message(b'Z', "I")].concat();
    [asked, [open, message(b'1', ""), message(b'Z', "I")].concat()]
}

/// The text, and the box of all that is asked; of PostgreSQL's answer the tags.
#[rstest]
#[case::redis([Vec::new(), Vec::new()], redis(), 2)]
#[case::postgres(postgres_begins(), postgres(), 3)]
fn a_call_takes_memory_for_what_its_span_needs(
    #[case] begins: [Vec<u8>; 2],
    #[case] round: [Vec<u8>; 2],
    #[case] allocations: u64,
) {
    let first = if begins[0].is_empty() { &round[0] } else { &begins[0] };
    let Choice::Parser(mut parser, Role::Client) =
        parser::choose(first, true, None, true, &Options::default())
    else {
        panic!("not known by its beginning")
    };
    let (mut offsets, mut ended) = ([0; 2], 0);
    let mut feed = |pieces: &[Vec<u8>; 2]| {
        for (direction, bytes) in
            [Direction::Requests, Direction::Responses].into_iter().zip(pieces)
        {
            let offset = &mut offsets[direction as usize];
            parser.on_bytes(direction, *offset, bytes, 0, &Mark::default(), &mut |message| {
                ended +=
                    u64::from(matches!(message, Message::Call { step: Step::Over { .. }, .. }));
            });
            *offset += bytes.len() as u64;
        }
    };
    feed(&begins);
    (0..WARM_UP).for_each(|_| feed(&round));
    let counted = allocation_counter::measure(|| (0..ROUNDS).for_each(|_| feed(&round)));
    assert_eq!(ended, (WARM_UP + ROUNDS) as u64);
    assert_eq!(counted.count_total, allocations * ROUNDS as u64);
}
