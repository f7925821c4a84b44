//! Input made to hurt: sizes that overflow, tables that nest, floods of channels, consumers and tags; and
//! arbitrary scripts, whose events must keep their promises.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::limits;

#[rstest]
#[case::unknown_type(&[4, 0, 1, 0, 0, 0, 0, 0xce])]
#[case::no_end(&[8, 0, 0, 0, 0, 0, 0, 0])]
#[case::size(&[1, 0, 1, 0xff, 0xff, 0xff, 0xff])]
#[case::method_too_short(&[1, 0, 1, 0, 0, 0, 3])]
#[case::header_too_short(&[2, 0, 1, 0, 0, 0, 13])]
#[case::empty_body(&[3, 0, 1, 0, 0, 0, 0])]
#[case::heartbeat_of_a_channel(&[8, 0, 1, 0, 0, 0, 0])]
#[case::content_of_the_connection(&[3, 0, 0, 0, 0, 0, 1])]
#[case::http(b"HTTP/1.1 400 Bad Request\r\n")]
#[case::tls(b"\x16\x03\x01\x02\x00\x01\x00")]
fn what_is_no_frame_is_skipped_until_one_comes(
    #[case] bytes: &[u8],
    #[values(1, 1000)] step: usize,
    #[values(Requests, Responses)] direction: Direction,
) {
    let mut run = opened(&[1]);
    run.events.clear();
    for piece in bytes.chunks(step) {
        run.piece(direction, piece, 0);
    }
    assert_eq!(run.skipped(Skip::Resync), bytes.len() as u64);
    run.requests(publish(1, "x", "k", "m"));
    assert_eq!(run.told(), ["publish m to x:k mandatory > NoReply"]);
    run.close();
}

#[test]
fn what_does_not_begin_as_a_client_does_is_never_read() {
    for bytes in [&b"AMQP\x00\x01\x00\x00"[..], b"GET / HTTP/1.1\r\n\r\n", b"AMQx"] {
        let mut run = Run::new(true);
        bytes.chunks(3).for_each(|piece| {
            run.requests(piece);
        });
        run.requests(publish(1, "x", "k", "m")).responses(deliver(1, "c", 1, "m")).close();
        assert!(run.told().is_empty());
        assert_eq!(run.skipped(Skip::Broken), run.offsets.iter().sum::<u64>());
    }
}

#[test]
fn the_largest_body_is_counted_and_never_allocated() {
    let mut run = opened(&[1]);
    let header = [&[0, 60, 0, 0][..], &u64::MAX.to_be_bytes(), &[0, 0]].concat();
    run.requests(publish_method(1, "x", "k", false)).requests(frame(2, 1, &header));
    for _ in 0..4 {
        let size = limits::AMQP_FRAME_BYTES;
        let head = [&[3, 0, 1], &size.to_be_bytes()[..]].concat();
        run.piece(Requests, &head, u64::from(size) + 1);
    }
    assert!(run.messages().is_empty());
    run.requests(publish(1, "x", "k", "m"));
    assert_eq!(run.messages(), ["publish m to x:k mandatory > NoReply"]);
}

#[test]
fn a_body_that_is_longer_than_it_says_is_no_message() {
    let mut run = opened(&[1]);
    let frames = content(1, "m", b"body", 9);
    run.requests(publish_method(1, "x", "k", false)).requests(&frames[0]);
    run.requests(frame(3, 1, b"bodies")).requests(frame(3, 1, b"more"));
    run.requests(publish_method(1, "x", "k", false)).requests(&frames[1]).requests(&frames[0]);
    assert!(run.messages().is_empty());
    // A method in the middle of a message begins another one.
    run.requests(publish_method(1, "x", "a", false)).requests(&frames[0]);
    run.requests(publish(1, "x", "b", "n"));
    assert_eq!(run.messages(), ["publish n to x:b mandatory > NoReply"]);
}

#[test]
fn headers_nest_without_end_and_nothing_follows_them() {
    let mut table = Vec::new();
    for _ in 0..2000 {
        let length = u32::try_from(table.len()).unwrap().to_be_bytes();
        table = [&short("t")[..], b"F", &length, &table].concat();
    }
    let length = u32::try_from(table.len()).unwrap().to_be_bytes();
    let properties = [&[0x20, 0x80][..], &length, &table, &short("id")].concat();
    assert!(Properties::read(&properties, true).message_id.is_some());
    let mut run = opened(&[1]);
    let header = [&[0, 60, 0, 0][..], &[0; 8], &properties].concat();
    run.requests(publish_method(1, "x", "k", false)).requests(frame(2, 1, &header));
    assert_eq!(run.messages(), ["publish - to x:k > NoReply"], "cut: its id comes later");
    // More headers than are looked at, and a table that says it is longer than all.
    let many = [&short("n")[..], b"V"].concat().repeat(limits::AMQP_HEADERS);
    let late = [&many[..], &short("task"), b"S\0\0\0\x01t"].concat();
    let length = u32::try_from(late.len()).unwrap().to_be_bytes();
    let found = Properties::read(&[&[0x20, 0x00][..], &length, &late].concat(), true);
    assert!(found.task.is_none() && found.hash.is_some());
    let endless = Properties::read(&[0x20, 0, 0xff, 0xff, 0xff, 0xff, 4, b't'], false);
    assert_eq!(endless, Properties::default());
}

#[test]
fn floods_stay_within_the_limits() {
    let mut run = Run::new(false);
    run.requests([frame(8, 0, &[]), frame(8, 0, &[]), publish(1, "x", "k", "m")].concat());
    run.responses([frame(8, 0, &[]), frame(8, 0, &[]), deliver(1, "c", 1, "m")].concat());
    for channel in 2..=u16::MAX {
        run.connection.step_requests(&method(channel, 20, 10, &[0]));
    }
    assert_eq!(run.connection.channels.len(), limits::AMQP_CHANNELS);
    let mut run = opened(&[1]);
    for tag in 0..limits::AMQP_CONSUMERS + 100 {
        run.requests(method(1, 60, 20, &[&[0, 0, 0][..], &short(&tag.to_string()), &[8]].concat()));
    }
    assert_eq!(run.connection.consumers, limits::AMQP_CONSUMERS);
    let mut run = confirming();
    for _ in 0..limits::AMQP_OPEN_EXCHANGES + 10 {
        run.requests(publish(1, "", "", ""));
    }
    let abandoned = run.told().iter().filter(|told| told.ends_with("TooMany")).count();
    assert_eq!((abandoned, run.connection.open), (10, limits::AMQP_OPEN_EXCHANGES));
    let mut run = Run::new(false);
    for tag in 1..2000 {
        run.responses([deliver(1, "c", tag, ""), frame(8, 0, &[])].concat());
    }
    assert_eq!(run.connection.untold, limits::AMQP_UNTOLD);
    let last = limits::AMQP_UNTOLD as u64;
    run.requests([ack(1, last, true), frame(8, 0, &[])].concat());
    assert_eq!((run.connection.untold, run.told().len()), (0, limits::AMQP_UNTOLD));
}

impl Connection<u32> {
    /// A piece that nothing is checked after: for floods.
    fn step_requests(&mut self, bytes: &[u8]) {
        use crate::exchange::Parser as _;
        let offset = self.counters(Requests).fed_bytes;
        self.on_bytes(Requests, offset, bytes, 0, &0, &mut |_| {});
    }
}

#[test]
fn more_than_is_held_is_given_up() {
    let mut run = consuming();
    for tag in 1..=10_000 {
        run.requests(ack(1, tag, false));
    }
    assert!(run.skipped(Skip::HeldTooLong) > 0);
    run.requests(publish(1, "x", "k", "m"));
    assert_eq!(run.messages(), ["publish m to x:k mandatory > NoReply"]);
    run.close();
}

proptest! {
    #[test]
    fn arbitrary_scripts_keep_the_promises(script: Vec<u8>) {
        fuzz_amqp(&script);
    }

    #[test]
    fn arbitrary_frames_keep_the_promises(
        from_start: bool,
        ops in prop::collection::vec((0_u8..=255, 0_usize..18, 0_u16..3, 0_u64..6), 1..60),
    ) {
        let mut script = vec![u8::from(!from_start)];
        for (op, kind, channel, tag) in ops {
            script.push(op);
            script.extend(match kind {
                0 => publish(channel, "x", "k", "m"),
                1 => deliver(channel, "c", tag, "d"),
                2 => ack(channel, tag, op & 64 != 0),
                3 => nack(channel, tag, op & 3),
                4 => consume(channel, "q", "c", op & 64 != 0),
                5 => consume_ok(channel, "c"),
                6 => close(channel, 404),
                7 => method(channel, 20, 41, &[]),
                8 => method(channel, 20, 10, &[0]),
                9 => method(channel, 85, 10, &[0]),
                10 => method(channel, 85, 11, &[]),
                11 => returned(channel, 312, "x", "k", "m"),
                12 => method(channel, 60, 70, &[0, 0, 1, b'q', 0]),
                13 => method(channel, 60, 72, &[0]),
                14 => publish_method(channel, "x", "k", true),
                15 => content(channel, "d", b"body", 2).concat(),
                16 => b"AMQP\x00\x00\x09\x01".to_vec(),
                _ => frame(8, 0, &[]),
            });
        }
        fuzz_amqp(&script);
    }
}
