//! Input made to hurt: lengths that overflow, messages without end, floods; and arbitrary scripts, whose
//! events must keep their promises.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn with_length(kind: u8, length: u32) -> Vec<u8> {
    [&[kind][..], &length.to_be_bytes()].concat()
}

#[rstest]
#[case(with_length(b'C', 3))]
#[case(with_length(b'C', 0))]
#[case(with_length(b'C', u32::MAX))]
#[case(with_length(b'D', 0x4000_0000))]
#[case(with_length(b'Z', 6))]
#[case(with_length(b'1', 5))]
#[case(with_length(b'x', 4))]
#[case(with_length(0, 4))]
#[case(message(b'Z', "x"))]
#[case(message(b'Z', "I"))]
#[case(message(b'V', [0; 4]))]
#[case(message(b's', ""))]
#[case(message(b'1', ""))]
#[case(message(b'K', [0; 8]))]
#[case(b"HTTP/1.1 400 Bad Request\r\n".to_vec())]
fn answers_that_are_broken_or_do_not_fit_end_nothing(
    #[case] answer: Vec<u8>,
    #[values(1, 1000)] step: usize,
) {
    let mut run = Run::session();
    run.requests(ask::query("SELECT 1"));
    for piece in answer.chunks(step) {
        run.responses(piece);
    }
    assert_eq!(run.told(), ["Simple SELECT 1 > abandoned: Broken"]);
    run.close();
}

#[rstest]
#[case(with_length(b'Q', 4))]
#[case(with_length(b'Q', u32::MAX))]
#[case(with_length(b'S', 5))]
#[case(with_length(b'E', 100_000))]
#[case(with_length(b'Y', 4))]
#[case(b"GET / HTTP/1.1\r\n".to_vec())]
fn broken_requests_are_broken(#[case] request: Vec<u8>, #[values(1, 1000)] step: usize) {
    let mut run = Run::session();
    run.requests(ask::query("SELECT 1"));
    for piece in request.chunks(step) {
        run.requests(piece);
    }
    assert_eq!(run.told(), ["Simple SELECT 1 > abandoned: Broken"]);
    run.close();
}

#[rstest]
#[case(b"\0\0\0\x10\0\x02\0\0user\0bob")]
#[case(b"GET / HTTP/1.1\r\n\r\n")]
#[case(b"\x16\x03\x01\x02\x00\x01\x00")]
#[case(b"\0\0\0\x04")]
#[case(b"\xff\xff\xff\xff\xff\xff\xff\xff")]
fn what_does_not_begin_a_session_tells_nothing(#[case] bytes: &[u8]) {
    let mut run = Run::new(true);
    run.requests(bytes).responses([tell::authenticated(), tell::rows(1)].concat());
    run.simple("SELECT 1", 1).idle().close();
    assert_eq!((run.told(), run.facts().len()), (vec![], 0));
}

#[test]
fn the_largest_lengths_are_counted_and_never_allocated() {
    let mut run = Run::session();
    let size = 0x3fff_ffff_u32;
    let missing = u64::from(size) - 4;
    run.piece(Requests, &with_length(b'Q', size), missing);
    run.piece(Responses, &with_length(b'T', size), missing);
    run.piece(Responses, &with_length(b'E', size), missing);
    run.responses(tell::ready('I'));
    assert_eq!(run.told(), ["Simple ... >   - Idle"]);
    run.close();
    let mut connection = Connection::new(true);
    let mut out = |_: Event<'_, ()>| {};
    for offset in [0, 1, u64::MAX - 1, u64::MAX] {
        for direction in [Requests, Responses] {
            connection.on_bytes(direction, offset, &ask::query("x"), u64::MAX, &(), &mut out);
        }
    }
    connection.on_end(Requests, None, &(), &mut out);
    connection.on_end(Responses, None, &(), &mut out);
    assert_eq!(connection.open_exchanges(), 0);
}

#[test]
fn what_is_kept_of_a_message_is_bounded() {
    let mut run = Run::session();
    let long = "é".repeat(1 << 20);
    run.requests([ask::parse(&long, &long), ask::sync()].concat());
    run.responses([tell::error(&long, &long), tell::ready('I')].concat());
    run.requests(ask::query(&long))
        .responses(message(b'E', format!("V{long}\0M{long}\0n{long}\0\0")));
    run.responses([tell::tag(&"A".repeat(9000)), tell::ready('I')].concat()).close();
    for exchange in exchanges(&run.events) {
        let text = exchange.query.text.as_deref().unwrap_or_default();
        assert!(text.len() <= limits::POSTGRES_QUERY_BYTES);
        assert!(exchange.query.statement.is_none());
        let Some(Ok(End::Complete(done))) = exchange.end else { panic!("{:?}", exchange.end) };
        assert!(done.tags.is_empty());
        let error = done.error.as_ref().unwrap();
        assert!(error.message.len() <= limits::POSTGRES_MESSAGE_BYTES);
        assert!(error.severity.len() <= 2 * limits::POSTGRES_NAME_BYTES);
    }
    let mut run = Run::new(true);
    run.requests(ask::startup(&[("user", &"u".repeat(4000)), ("database", &"d".repeat(4000))]));
    assert!(format!("{:?}", run.facts()).len() < 1000);
}

#[test]
fn a_simple_query_of_very_many_statements_is_told_in_bounds() {
    let mut run = Run::session();
    run.requests(ask::query(&"SELECT;".repeat(10_000)));
    run.responses(tell::tag("SELECT 1").repeat(10_000)).responses(tell::ready('I'));
    let Some(Ok(End::Complete(done))) = exchanges(&run.events).remove(0).end else { panic!() };
    assert_eq!((done.tags.len(), done.statements), (limits::POSTGRES_TAGS, 10_000));
    assert_eq!(done.affected, Some(10_000));
}

#[test]
fn a_flood_of_requests_is_given_up_and_nothing_grows() {
    for request in [ask::query("SELECT 1"), ask::parse("a", "SELECT 1"), ask::sync()] {
        let mut run = Run::session();
        for _ in 0..3 * limits::POSTGRES_PENDING {
            run.requests(&request);
            assert!(run.connection.open_exchanges() <= limits::POSTGRES_PENDING);
        }
        assert!(run.told().iter().all(|told| told.ends_with("abandoned: TooMany")));
        assert!(run.skipped() > 0);
        run.close();
    }
    // Long texts are fewer.
    let mut run = Run::session();
    let text = "x".repeat(limits::POSTGRES_QUERY_BYTES);
    for n in 0..2 * limits::POSTGRES_PENDING_TEXT_BYTES / limits::POSTGRES_QUERY_BYTES {
        run.requests(ask::parse(&format!("s{n}"), &text));
    }
    assert!(run.skipped() > 0);
}

#[test]
fn a_flood_of_answers_is_given_up_and_nothing_grows() {
    for piece in [tell::rows(3), tell::row(1), b"D".to_vec()] {
        let mut run = Run::session();
        for _ in 0..10_000 {
            run.responses(&piece);
            let held = run.connection.counters(Responses).pending_bytes;
            assert!(held <= limits::POSTGRES_HELD_BYTES as u64);
            assert!(held <= (limits::POSTGRES_HELD_PIECES * piece.len()) as u64);
        }
        assert!(run.skipped() > 0);
        run.close();
    }
}

#[test]
fn a_flood_around_a_copy_takes_linear_time_and_nothing_grows() {
    const MANY: usize = 100_000;
    let begins = message(b'G', [0; 3]);
    for (asked, end) in [(MANY, "open"), (0, "abandoned: Broken")] {
        let mut run = Run::session();
        run.requests(ask::query("COPY t FROM STDIN"));
        // Ends of what has not begun, and turns that the server will pass over.
        for _ in 0..limits::POSTGRES_PENDING - 2 {
            run.requests(ask::sync());
        }
        for _ in 0..asked {
            run.requests(message(b'c', ""));
        }
        assert!(run.connection.pending.len() <= limits::POSTGRES_PENDING);
        run.responses(&begins);
        // Quadratic, this would be noticed.
        for _ in 0..asked {
            run.responses([&begins[..], &tell::tag("COPY 1")].concat());
        }
        if asked == 0 {
            run.responses(&begins);
        }
        assert_eq!(run.told(), [format!("Simple COPY t FROM STDIN > {end}")]);
    }
    let mut run = Run::session();
    run.requests([ask::query("COPY t FROM STDIN"), ask::query("SELECT 2")].concat());
    run.responses(&begins);
    // The server takes the second one for a part of the copy, and refuses it.
    let told = run.told();
    assert!(told.iter().all(|told| told.ends_with("abandoned: Broken")), "{told:?}");
    let mut run = Run::session();
    run.requests(ask::query("COPY t FROM STDIN")).responses(begins).requests(ask::sync());
    run.requests(ask::query("SELECT 2"));
    assert_eq!(run.told(), ["Simple COPY t FROM STDIN > abandoned: Broken"]);
}

#[test]
fn nothing_that_may_be_a_users_is_told_but_the_text() {
    let mut run = Run::new(true);
    let startup = [("user", "bob"), ("password", "secret"), ("options", "-c x=secret")];
    run.requests(ask::startup(&startup)).responses(message(b'R', b"\0\0\0\x03"));
    run.requests(message(b'p', "secret\0")).responses(tell::authenticated());
    run.responses(tell::parameter("application_name", "secret"));
    let fields =
        "SERROR\0VERROR\0C23505\0Mduplicate \"secret\" key\0Dsecret\0Hsecret\0qsecret\0Wsecret\0\0";
    for answer in [
        [tell::notice(), tell::notification(), message(b'E', fields)].concat(),
        [message(b'G', [0; 3]), message(b'E', fields)].concat(),
        [message(b'H', [0; 3]), message(b'd', "secret"), tell::tag("COPY 1")].concat(),
        [message(b'T', b"\0\x01secret\0"), message(b'D', "\0\x01secret"), tell::tag("X 1")]
            .concat(),
    ] {
        run.requests([ask::query("COPY t FROM STDIN"), message(b'd', "secret")].concat());
        run.requests(message(b'f', "secret\0")).responses([answer, tell::ready('I')].concat());
    }
    let mut bind = b"\0\0\0\0\0\x01\0\0\0\x06secret\0\0".to_vec();
    run.requests([ask::parse("", "SELECT $1"), message(b'B', &bind), ask::execute("", 0)].concat());
    bind.truncate(9);
    run.requests([message(b'F', [&bind[..], b"secret"].concat()), ask::sync()].concat());
    run.close();
    assert!(run.told().len() > 4);
    assert!(!format!("{:?}", run.events).contains("secret"), "{:#?}", run.events);
}

/// Messages, so that arbitrary scripts get further than arbitrary bytes do.
fn messages() -> Vec<Vec<u8>> {
    vec![
        ask::startup(&[("user", "bob")]),
        vec![0, 0, 0, 8, 4, 210, 22, 47],
        ask::query("SELECT 1"),
        ask::query("COPY t FROM STDIN"),
        ask::parse("a", "SELECT 1"),
        ask::parse("__asyncpg_stmt_1__", "SELECT 1"),
        ask::bind("", "a", 3),
        ask::describe('S', "a"),
        ask::describe('P', ""),
        ask::execute("", 0),
        ask::close('S', "a"),
        ask::flush(),
        ask::sync(),
        [ask::unnamed("SELECT 1"), ask::sync()].concat(),
        message(b'd', "x"),
        message(b'c', ""),
        message(b'f', "x\0"),
        message(b'F', [0; 14]),
        message(b'X', ""),
        tell::authenticated(),
        tell::rows(1),
        tell::tag("SELECT 1"),
        tell::unnamed(1),
        tell::ready('I'),
        tell::ready('T'),
        tell::done('1'),
        tell::done('2'),
        tell::done('3'),
        tell::done('I'),
        tell::done('n'),
        tell::done('s'),
        tell::error("42601", "no"),
        tell::notice(),
        message(b't', [0; 2]),
        message(b'G', [0; 3]),
        message(b'H', [0; 3]),
        message(b'W', [0; 3]),
        message(b'V', [0; 4]),
        b"S".to_vec(),
        b"N".to_vec(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_keep_the_promises(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_postgres(&data);
    }

    #[test]
    fn arbitrary_scripts_keep_the_promises(
        flags in any::<u8>(),
        script in prop::collection::vec((any::<u8>(), prop::sample::select(messages())), 0..60),
    ) {
        let mut data = vec![flags];
        for (op, message) in script {
            data.push(op);
            data.extend_from_slice(&message);
        }
        fuzz_postgres(&data);
    }

    #[test]
    fn arbitrary_messages_keep_the_promises(
        flags in any::<u8>(),
        ops in prop::collection::vec(
            (any::<u8>(), prop::sample::select(b"QPBEDCSHFXdcfp123ACGHIKNRTVWZsntv\0".to_vec()),
             prop::collection::vec(prop_oneof![Just(0u8), Just(b'S'), any::<u8>()], 0..12)),
            0..40,
        ),
    ) {
        let mut script = vec![flags];
        for (op, kind, body) in ops {
            script.push(op);
            script.extend(message(kind, &body));
        }
        fuzz_postgres(&script);
    }
}
