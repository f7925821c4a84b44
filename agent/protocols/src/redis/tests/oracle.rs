//! Another reader of RESP (the crate `redis-protocol`) must find in recorded sessions, and in frames of all kinds,
//! what this parser tells of them: where each ends, what it is, and how large.
//!
//! It reads whole frames alone, and differs where a frame is not one that a server sends: it takes a map or set with
//! the same key twice for one with fewer, reads no null of RESP2 in RESP3, no attribute within a frame, and a length
//! with a sign or zeros before it. Nothing like that is compared.

use proptest::prelude::*;
use redis_protocol::{resp2, resp3};

use super::*;
use crate::testing::records;

/// How a frame begins and how large it is, as [`tell_reply`] has it, without an error's words.
fn tell_resp2(frame: &resp2::types::OwnedFrame) -> String {
    use resp2::types::OwnedFrame as Frame;
    match frame {
        Frame::SimpleString(text) => simple(text),
        Frame::Error(_) => "-".to_owned(),
        Frame::Integer(_) => "Integer".to_owned(),
        Frame::BulkString(bytes) => format!("${}", bytes.len()),
        Frame::Array(items) => format!("*{}", items.len()),
        Frame::Null => "Nil".to_owned(),
    }
}

fn tell_resp3(frame: &resp3::types::OwnedFrame) -> String {
    use resp3::types::OwnedFrame as Frame;
    match frame {
        Frame::BlobString { data, .. } => format!("${}", data.len()),
        Frame::VerbatimString { data, .. } => format!("${}", data.len() + "txt:".len()),
        Frame::BlobError { .. } | Frame::SimpleError { .. } => "-".to_owned(),
        Frame::SimpleString { data, .. } => simple(data),
        Frame::Boolean { .. } => "Boolean".to_owned(),
        Frame::Null => "Nil".to_owned(),
        Frame::Number { .. } | Frame::BigNumber { .. } => "Integer".to_owned(),
        Frame::Double { .. } => "Double".to_owned(),
        Frame::Array { data, .. } => format!("*{}", data.len()),
        Frame::Set { data, .. } => format!("*{}", data.len()),
        Frame::Map { data, .. } => format!("%{}", data.len()),
        frame => panic!("no reply: {frame:?}"),
    }
}

fn simple(text: &[u8]) -> String {
    match text {
        b"OK" => "Ok",
        b"QUEUED" => "Queued",
        _ => "Simple",
    }
    .to_owned()
}

/// Two frames, the second of which shows that the first ended where it should: how each is told, with its length.
fn ours(wire: &[u8], step: usize) -> Vec<(String, usize)> {
    let mut run = Run::new(true);
    run.requests(commands(&["EVAL x 0", "EVAL x 0"]));
    for piece in wire.chunks(step) {
        run.responses(piece);
    }
    let told = exchanges(&run.events).into_iter().filter_map(|exchange| match exchange.end {
        Some(Ok(End::Complete { reply: Reply::Error { .. }, bytes })) => {
            Some(("-".to_owned(), bytes))
        }
        Some(Ok(End::Complete { reply, bytes })) => Some((tell_reply(&reply), bytes)),
        _ => None,
    });
    told.map(|(told, bytes)| (told, usize::try_from(bytes).unwrap())).collect()
}

fn theirs(mut wire: &[u8], resp3: bool) -> Vec<(String, usize)> {
    let mut told = Vec::new();
    while !wire.is_empty() {
        let one = if resp3 {
            resp3::decode::complete::decode(wire)
                .unwrap()
                .map(|(frame, used)| (tell_resp3(&frame), used))
        } else {
            resp2::decode::decode(wire).unwrap().map(|(frame, used)| (tell_resp2(&frame), used))
        };
        let (frame, used) = one.expect("a whole frame");
        wire = &wire[used..];
        told.push((frame, used));
    }
    told
}

/// A frame without others in it.
fn leaf(resp3: bool) -> BoxedStrategy<String> {
    let text = "[ -~]{0,40}";
    let bulk = prop::collection::vec(prop::char::range('\0', '\u{7f}'), 0..40);
    let bulk = bulk.prop_map(|text| text.into_iter().collect::<String>());
    let sized = |sign: char, text: &str| format!("{sign}{}\r\n{text}\r\n", text.len());
    let both = prop_oneof![
        text.prop_map(|text| format!("+{text}\r\n")),
        Just("+OK\r\n".to_owned()),
        Just("+QUEUED\r\n".to_owned()),
        text.prop_map(|text| format!("-ERR {text}\r\n")),
        any::<i64>().prop_map(|number| format!(":{number}\r\n")),
        bulk.prop_map(move |text| sized('$', &text)),
    ];
    if !resp3 {
        return prop_oneof![8 => both, 1 => Just("$-1\r\n".to_owned()), 1 => Just("*-1\r\n".to_owned())]
            .boxed();
    }
    let more = prop_oneof![
        Just("_\r\n".to_owned()),
        any::<bool>().prop_map(|it| format!("#{}\r\n", if it { 't' } else { 'f' })),
        (-1e9..1e9).prop_map(|number| format!(",{number}\r\n")),
        Just(",inf\r\n".to_owned()),
        "[1-9][0-9]{20,40}".prop_map(|number| format!("({number}\r\n")),
        text.prop_map(move |text| sized('!', &format!("ERR {text}"))),
        text.prop_map(move |text| sized('=', &format!("txt:{text}"))),
    ];
    prop_oneof![both, more].boxed()
}

fn frame(resp3: bool) -> impl Strategy<Value = String> {
    leaf(resp3).prop_recursive(4, 40, 6, move |inner| {
        let items = prop::collection::vec(inner, 0..6);
        (items, 0..if resp3 { 3u8 } else { 1 }).prop_map(|(items, kind)| {
            let count = items.len();
            // Each its own key.
            let keys = (0..count).map(|at| format!("$1\r\n{at}\r\n"));
            match kind {
                0 => format!("*{count}\r\n{}", items.concat()),
                1 => format!("~{count}\r\n{}", keys.collect::<String>()),
                _ => {
                    let pairs = keys.zip(&items).map(|(key, value)| key + value);
                    format!("%{count}\r\n{}", pairs.collect::<String>())
                }
            }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn replies_are_what_the_other_reader_finds(
        (resp3, first, second) in any::<bool>().prop_flat_map(|resp3| (Just(resp3), frame(resp3), frame(resp3))),
        step in prop_oneof![1usize..20, Just(usize::MAX)],
    ) {
        let wire = (first + &second).into_bytes();
        prop_assert_eq!(ours(&wire, step), theirs(&wire, resp3));
    }

    #[test]
    fn a_broken_frame_is_told_by_none_or_by_both_alike(
        first in frame(false),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut wire = first.into_bytes();
        let at = at.index(wire.len());
        wire[at] = byte;
        let one = resp2::decode::decode(&wire);
        let told = ours(&wire, usize::MAX);
        // What only the other reader takes is refused; what only this one takes is of RESP3.
        if let (Ok(Some((frame, used))), Some((told, bytes))) = (one, told.first()) {
            let spelt_otherwise = wire.windows(2).any(|at| {
                at[0].is_ascii_punctuation() && (at[1] == b'+' || at[1] == b'0' || at[1] == b'-')
            });
            prop_assert!(spelt_otherwise || (tell_resp2(&frame), used) == (told.clone(), *bytes));
        }
    }

    #[test]
    fn commands_are_what_the_other_reader_finds(
        words in prop::collection::vec("[a-z0-9]{0,12}", 1..12),
        step in prop_oneof![1usize..20, Just(usize::MAX)],
    ) {
        let words: Vec<&str> = ["NOSUCH"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let wire = command(&words);
        let mut run = Run::new(true);
        for piece in wire.chunks(step) {
            run.requests(piece);
        }
        let (frame, used) = resp2::decode::decode(&wire).unwrap().unwrap();
        let resp2::types::OwnedFrame::Array(items) = frame else { panic!("{frame:?}") };
        let told = &exchanges(&run.events)[0];
        prop_assert_eq!(told.request_bytes, Some(used as u64));
        prop_assert_eq!(told.request.arguments as usize + 1, items.len());
    }
}

/// Recorded sessions, frame by frame: as many commands as the other reader finds, and each reply as long.
#[test]
fn of_recorded_sessions_both_tell_the_same() {
    let mut compared = 0;
    for (name, capture) in captures::CAPTURES {
        // Inline commands, and what no command is answered.
        if *name == "raw" || name.starts_with("pubsub") || name.starts_with("words") {
            continue;
        }
        let records = records(capture);
        let of = |wanted| {
            let bytes = records.iter().filter(|(side, _)| *side == wanted);
            bytes.filter_map(|(_, bytes)| *bytes).flatten().copied().collect::<Vec<u8>>()
        };
        let sent: Vec<usize> = theirs(&of(Requests), false).iter().map(|(_, used)| *used).collect();
        let resp3 = *name != "redis-py-resp2";
        let mut replies = Vec::new();
        let mut rest = &of(Responses)[..];
        while !rest.is_empty() {
            // Before HELLO was answered, it is RESP2.
            let three =
                resp3.then(|| resp3::decode::complete::decode(rest).ok().flatten()).flatten();
            let used = match three {
                Some((_, used)) => used,
                None => resp2::decode::decode(rest).unwrap().unwrap().1,
            };
            replies.push(used);
            rest = &rest[used..];
        }
        let told = exchanges(&Run::whole(&records).events);
        let bytes = told.iter().map(|it| it.request_bytes.unwrap() as usize);
        assert_eq!(bytes.collect::<Vec<_>>(), sent, "{name}");
        let bytes = told.iter().map(|it| match &it.end {
            Some(Ok(End::Complete { bytes, .. })) => *bytes as usize,
            end => panic!("{name}: {end:?}"),
        });
        assert_eq!(bytes.collect::<Vec<_>>(), replies, "{name}");
        compared += replies.len();
    }
    assert!(compared > 50, "{compared}");
}
