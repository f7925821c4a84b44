//! Input made to hurt: nesting, sizes that overflow, messages without end, floods; and arbitrary
//! scripts, whose events must keep their promises.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::limits;

#[rstest]
#[case::arrays("*1\r\n")]
#[case::maps("%1\r\n")]
#[case::sets("~1\r\n")]
#[case::attributes("|1\r\n")]
#[case::streamed("*?\r\n")]
fn nesting_without_end_is_broken_at_its_cap(#[case] level: &str) {
    let mut run = Run::new(true);
    run.requests(command(&["EVAL", "x", "0"])).responses(level.repeat(8192));
    assert_eq!(run.told(), ["EVAL ? ? > abandoned: Broken"]);
}

#[test]
fn nesting_up_to_the_cap_is_followed() {
    let mut run = Run::new(true);
    let deep = "*1\r\n".repeat(limits::REDIS_DEPTH) + ":1\r\n";
    run.requests(commands(&["EVAL x 0", "GET s:1"])).responses(deep + "$1\r\nx\r\n");
    assert_eq!(run.told(), ["EVAL ? ? > *1", "GET s:1 > $1"]);
}

#[rstest]
#[case("*9223372036854775808\r\n")]
#[case("$9223372036854775807\r\n")]
#[case("$-2\r\n")]
#[case("*-2\r\n")]
#[case("$\r\n")]
#[case(":\r\n")]
#[case(":1x\r\n")]
#[case("$3\r\nabcd\r\n")]
#[case("*1\r\n>1\r\n")]
#[case("*1\r\n.\r\n")]
#[case(".\r\n")]
#[case(";3\r\n")]
#[case("$?\r\n+a\r\n")]
#[case("*?\r\n;1\r\n")]
#[case("+OK\n")]
#[case("#x\r\n")]
#[case("HTTP/1.1 400 Bad Request\r\n")]
#[case("\x00\x00\x00\x00")]
fn broken_replies_are_broken(#[case] reply: &str, #[values(1, 1000)] step: usize) {
    let mut run = Run::new(true);
    run.requests(command(&["EVAL", "x", "0"]));
    for piece in reply.as_bytes().chunks(step) {
        run.responses(piece);
    }
    assert_eq!(run.told(), ["EVAL ? ? > abandoned: Broken"]);
    run.close();
}

#[rstest]
#[case("*1\r\n$-1\r\n")]
#[case("*1\r\n:1\r\n")]
#[case("*1\n$4\r\nPING\r\n")]
#[case("*1\r\n$4\r\nPINGxx")]
#[case("*1048577\r\n")]
#[case("*99999999999999999999\r\n")]
#[case("*1\r\n$9223372036854775807\r\n")]
#[case("\x16\x03\x01\x02\x00\x01")]
#[case("Host: example.org\r\n")]
#[case("SET a \"b\r\n")]
#[case("SET a 'b'c\r\n")]
fn broken_commands_are_broken(#[case] request: &str, #[values(1, 1000)] step: usize) {
    let mut run = Run::new(true);
    run.requests(command(&["GET", "s:1"]));
    for piece in request.as_bytes().chunks(step) {
        run.requests(piece);
    }
    assert_eq!(run.told(), ["GET s:1 > abandoned: Broken"]);
    run.close();
}

#[test]
fn the_largest_lengths_are_counted_and_never_allocated() {
    let mut run = Run::new(true);
    let size = limits::REDIS_BULK_BYTES as u64;
    run.piece(Requests, format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${size}\r\nx").as_bytes(), size - 1);
    run.requests("\r\n").responses("+OK\r\n");
    run.requests(command(&["GET", "a"]));
    run.piece(Responses, format!("${size}\r\n").as_bytes(), size + 2);
    // An array of as many items as can be counted.
    run.requests(command(&["LRANGE", "b", "0", "-1"])).responses("*9223372036854775807\r\n:1\r\n");
    assert_eq!(
        run.told(),
        ["SET a ? > Ok".to_owned(), format!("GET a > ${size}"), "LRANGE b ? ? > open".to_owned()]
    );
    run.close();
    let mut connection = Connection::new(true);
    let mut out = |_: Event<'_, ()>| {};
    for offset in [0, 1, u64::MAX - 1, u64::MAX] {
        for direction in [Requests, Responses] {
            connection.on_bytes(direction, offset, b"*1\r\n$4\r\nPI", u64::MAX, &(), &mut out);
        }
    }
    connection.on_end(Requests, None, &(), &mut out);
    connection.on_end(Responses, None, &(), &mut out);
    assert_eq!(connection.open_exchanges(), 0);
}

#[test]
fn lines_without_end_are_broken_at_their_cap() {
    for start in ["+", "-ERR ", ":", "$", "*"] {
        let mut run = Run::new(true);
        run.requests(command(&["EVAL", "x", "0"])).responses(start);
        for _ in 0..limits::REDIS_LINE_BYTES / 8 + 2 {
            run.responses("11111111");
        }
        assert_eq!(run.told(), ["EVAL ? ? > abandoned: Broken"], "{start}");
    }
    let mut run = Run::new(true);
    run.requests("GET ");
    for _ in 0..limits::REDIS_LINE_BYTES {
        run.requests("aa");
    }
    assert_eq!(run.told(), [""; 0]);
    assert!(run.skipped(Skip::Broken) > 0);
}

#[test]
fn a_command_of_very_many_arguments_is_told_in_bounds() {
    let mut run = Run::new(true);
    let keys: Vec<String> = (0..100_000).map(|at| format!("key:{at}")).collect();
    let mut words = vec!["DEL"];
    words.extend(keys.iter().map(String::as_str));
    run.requests(command(&words)).responses(":5\r\n");
    let told = &exchanges(&run.events)[0];
    assert_eq!(told.request.arguments, 100_000);
    assert!(told.request.cut && told.request.text.contains(" key:9 "));
    assert!(told.request.text.len() <= limits::REDIS_TEXT_BYTES);
    let mut run = Run::new(true);
    run.requests(command(&["GET", &"é".repeat(1000)])).responses("$-1\r\n");
    let key = exchanges(&run.events)[0].request.key.clone().unwrap();
    assert!(key.len() <= limits::REDIS_KEY_BYTES && key.chars().all(|it| it == 'é'));
}

#[test]
fn a_flood_of_commands_is_counted_then_given_up_and_nothing_grows() {
    let mut run = Run::new(true);
    for _ in 0..limits::REDIS_OPEN_EXCHANGES + 10 {
        run.requests(command(&["GET", "s:1"]));
    }
    run.requests(command(&["GET", "s:2"]));
    for _ in 0..limits::REDIS_OPEN_EXCHANGES + 10 {
        run.responses("$1\r\nx\r\n");
    }
    // Those beyond the cap were counted, so what follows them pairs.
    run.responses("$2\r\nxx\r\n").requests(command(&["GET", "s:3"])).responses("$3\r\nxxx\r\n");
    let told = run.told();
    assert_eq!(
        told.iter().filter(|told| *told == "GET s:1 > $1").count(),
        limits::REDIS_OPEN_EXCHANGES
    );
    assert_eq!(told.last().unwrap(), "GET s:3 > $3");
    let mut run = Run::new(true);
    for _ in 0..limits::REDIS_OPEN_COMMANDS * 2 {
        run.requests("PING\r\n");
    }
    run.close();
    assert!(run.told().iter().all(|told| told.ends_with("abandoned: TooMany")));
}

#[test]
fn a_flood_of_replies_is_given_up_and_nothing_grows() {
    for piece in ["$3\r\nabc\r\n", "+"] {
        let mut run = Run::new(true);
        for _ in 0..10_000 {
            run.responses(piece);
            let held = run.connection.counters(Responses).pending_bytes;
            assert!(held <= limits::REDIS_HELD_BYTES as u64);
            assert!(held <= (limits::REDIS_HELD_PIECES * piece.len()) as u64);
        }
        assert!(run.skipped(Skip::HeldTooLong) > 0);
        run.close();
    }
}

/// Pieces of messages, so that arbitrary scripts get further than arbitrary bytes do.
const WORDS: &[&str] = &[
    "*1\r\n$4\r\nPING\r\n",
    "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n",
    "*1\r\n$11\r\nUNSUBSCRIBE\r\n",
    "*1\r\n$12\r\nPUNSUBSCRIBE\r\n",
    "*1\r\n$8\r\nSHUTDOWN\r\n",
    "*1\r\n$5\r\nMULTI\r\n",
    "*1\r\n$4\r\nEXEC\r\n",
    "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n",
    "*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n",
    "MONITOR\r\n",
    "*1\r\n$5\r\nRESET\r\n",
    "PSYNC ? -1\r\n",
    "*2\r\n$5\r\nBLPOP\r\n$1\r\n",
    "+OK\r\n",
    "+QUEUED\r\n",
    "$1\r\na\r\n",
    "$-1\r\n",
    ":1\r\n",
    "-ERR no\r\n",
    "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
    "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    "*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n",
    "*2\r\n-WRONGTYPE a\r\n_\r\n",
    ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
    "*2\r\n",
    "|1\r\n+a\r\n",
    "%?\r\n",
    ".\r\n",
    "$9\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_keep_the_promises(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_redis(&data);
    }

    #[test]
    fn arbitrary_scripts_keep_the_promises(
        flags in 0u8..8,
        script in prop::collection::vec((any::<u8>(), 0..WORDS.len(), 0..WORDS.len()), 0..60),
    ) {
        let mut data = vec![flags];
        for (op, first, second) in script {
            data.push(op);
            data.extend_from_slice(WORDS[first].as_bytes());
            data.extend_from_slice(WORDS[second].as_bytes());
        }
        fuzz_redis(&data);
    }

    /// Values never show, whatever the command.
    #[test]
    fn no_value_is_told(
        name in prop::sample::select(vec![
            "SET", "HSET", "AUTH", "HELLO", "EVAL", "CONFIG", "ACL", "MIGRATE", "RPUSH", "ZADD", "XADD",
            "CLIENT", "SORT", "GETEX", "NOSUCH", "XREADGROUP", "MSET", "DEBUG", "SCRIPT", "FCALL",
            "JSON.SET", "JSON.MSET", "FT.SEARCH", "TS.ADD", "VADD", "CMS.MERGE",
        ]),
        words in prop::collection::vec("[a-z0-9]{0,8}", 0..6),
        inline: bool,
        cut in 0usize..400,
    ) {
        // The first argument may be a key, so it isn't secret, nor what a count says are keys.
        let secret = |at: usize, word: &str| format!("secret{at}{word}");
        let mut line = vec![name.to_owned(), "a".to_owned()];
        line.extend(words.iter().enumerate().map(|(at, word)| secret(at, word)));
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let wire = if inline { (line.join(" ") + "\r\n").into_bytes() } else { command(&line) };
        let (captured, missing) = wire.split_at(cut.min(wire.len()));
        let mut run = Run::new(true);
        run.piece(Requests, captured, missing.len() as u64);
        run.responses(format!("-ERR {} \"{}\" 'a {}'\r\n", line.join(" "), line.join("\" "), line.join(" ")));
        run.close();
        let mset_keys = matches!(name, "MSET" | "JSON.MSET" | "MIGRATE");
        let told = format!("{:?}", run.events);
        prop_assert!(mset_keys || !told.contains("secret"), "{}", told);
    }
}
