//! Values, where they are asked for: those and no others, in every form that replies have, whole or not at all.

use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::limits;

fn asked() -> Arc<Asked> {
    let asked = Asked::new().messages().command("lpush", "*").unwrap();
    let more = ["BRPOP", "HSET", "HGETALL", "EVALSHA", "XADD", "XREADGROUP", "RPOP"];
    let pattern = |name| if name == "HSET" || name == "HGETALL" { "job:*" } else { "*" };
    Arc::new(more.into_iter().fold(asked, |it, name| it.command(name, pattern(name)).unwrap()))
}

impl Run {
    fn asking() -> Self {
        let mut run = Self::new(true);
        run.connection = Connection::new(true).asking(asked());
        run
    }
}

/// Values in one line; `~` stands for what was not kept.
fn tell(values: &Values<'_>) -> String {
    let tell = |value: Value<'_>| match value {
        Value::Bytes(bytes) => match (bytes.whole(), bytes.hash) {
            (Some(whole), Some(sum)) => {
                assert_eq!(sum, hash(whole));
                String::from_utf8(whole.to_vec()).unwrap()
            }
            (_, None) => format!("{}~", String::from_utf8_lossy(bytes.kept)),
            (None, Some(_)) => format!("#{}", bytes.len),
        },
        value => format!("{value:?}"),
    };
    let mut told: Vec<String> = values.iter().map(tell).collect();
    if values.is_cut() {
        told.push("...".to_owned());
    }
    told.join(" ")
}

#[rstest]
#[case("LPUSH q one two", ":2", "q one two", "Integer(2)")]
#[case("lpush q one", ":1", "q one", "Integer(1)")]
#[case("BRPOP q 5", "*2 $1 q $3 one", "q 5", "Array(2) q one")]
#[case("BRPOP q 5", "*-1", "q 5", "Nil")]
#[case("HSET job:7 a 1", ":1", "job:7 a 1", "Integer(1)")]
#[case("HSET user:7 a 1", ":1", "", "")]
#[case("HGETALL job:7", "%1 $1 a $1 1", "job:7", "Map(1) a 1")]
#[case("HGETALL job:7", "*2 $1 a $1 1", "job:7", "Array(2) a 1")]
#[case("SET q one", "+OK", "", "")]
#[case("EVALSHA abc 1 k v", "*2 *2 $1 a $0  :5", "abc 1 k v", "Array(2) Array(2) a  Integer(5)")]
#[case("XADD s * a 1", "$3 1-0", "s * a 1", "1-0")]
#[case("XADD s * a 1", "-ERR no", "s * a 1", "Other")]
#[case("RPOP q", "|1 +ttl :5 $1 x", "q", "x")]
#[case("RPOP q", "*? $1 x .", "q", "Other x ...")]
#[case("RPOP q", "*3 _ #t ,1.5", "q", "Array(3) Nil Other Other")]
fn what_is_asked_for_is_told(
    #[case] line: &str,
    #[case] reply: &str,
    #[case] arguments: &str,
    #[case] values: &str,
) {
    let reply = reply.split(' ').fold(String::new(), |wire, line| wire + line + "\r\n");
    for pieces in [usize::MAX, 1, 3] {
        let mut run = Run::asking();
        for piece in commands(&[line]).chunks(pieces) {
            run.requests(piece);
        }
        for piece in reply.as_bytes().chunks(pieces) {
            run.responses(piece);
        }
        let told = &exchanges(&run.events)[0];
        assert_eq!([tell(&told.values[0]), tell(&told.values[1])], [arguments, values], "{line}");
    }
}

#[test]
fn an_inline_command_has_values_too() {
    let mut run = Run::asking();
    run.requests("lpush q \"one two\" three\r\n");
    assert_eq!(tell(&exchanges(&run.events)[0].values[0]), "q one two three");
}

#[test]
fn of_a_transaction_exec_has_the_values_of_all_replies() {
    let mut run = Run::asking();
    run.requests(commands(&["MULTI", "SET a b", "XADD s * a 1", "EXEC", "MULTI", "GET a", "EXEC"]));
    run.responses("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$3\r\n1-0\r\n");
    run.responses("+OK\r\n+QUEUED\r\n*1\r\n$1\r\nb\r\n");
    let told = exchanges(&run.events);
    let values: Vec<_> = told.iter().map(|it| tell(&it.values[1])).collect();
    assert_eq!(values, ["", "", "", "Array(2) OK 1-0", "", "", ""]);
    assert_eq!(tell(&told[2].values[0]), "s * a 1");
}

#[test]
fn a_published_message_is_told_however_it_comes() {
    let message = "$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    for kind in ["*3", ">3"] {
        let mut run = Run::asking();
        run.requests(commands(&["SUBSCRIBE news"]));
        run.responses("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
        run.responses(format!("{kind}\r\n{message}"));
        let values = |event: &Event<'_, u32>| match event {
            Event::Push { kind: PushKind::Message, values, .. } => Some(tell(values)),
            _ => None,
        };
        let told: Vec<_> = run.events.iter().filter_map(values).collect();
        assert_eq!(told, ["Array(3) message news hi"], "{kind}");
        assert!(exchanges(&run.events)[0].values[1].is_empty(), "a confirmation is no message");
    }
}

#[test]
fn of_a_value_that_was_not_captured_there_is_no_hash() {
    let mut run = Run::asking();
    run.piece(Requests, b"*3\r\n$5\r\nLPUSH\r\n$1\r\nq\r\n$9\r\nfirst", 4);
    run.requests("\r\n");
    run.responses(":1\r\n");
    run.requests(commands(&["RPOP q"]));
    run.piece(Responses, b"$9\r\nfi", 9);
    let told = exchanges(&run.events);
    assert_eq!(tell(&told[0].values[0]), "q first~");
    assert_eq!(tell(&told[1].values[1]), "fi~");
}

#[test]
fn a_command_that_broke_off_says_so() {
    let mut run = Run::asking();
    run.requests("*3\r\n$5\r\nLPUSH\r\n$1\r\nq\r\n$9\r\nfirst").close();
    assert_eq!(tell(&exchanges(&run.events)[0].values[0]), "q first~ ...");
}

#[test]
fn a_long_value_is_known_by_its_hash() {
    let long = "x".repeat(limits::REDIS_VALUE_BYTES + 1);
    let mut run = Run::asking();
    run.requests(command(&["LPUSH", "q", &long]));
    run.responses(":1\r\n");
    run.requests(commands(&["RPOP q"]));
    run.responses(format!("${}\r\n{long}\r\n", long.len()));
    let told = exchanges(&run.events);
    let hash_of = |values: &Values<'_>, at| match values.iter().nth(at) {
        Some(Value::Bytes(bytes)) => bytes.hash,
        _ => None,
    };
    let sum = Some(hash(long.as_bytes()));
    assert_eq!([hash_of(&told[0].values[0], 1), hash_of(&told[1].values[1], 0)], [sum, sum]);
    assert_eq!(tell(&told[1].values[1]), format!("#{}", long.len()));
}

#[test]
fn only_commands_of_redis_can_be_asked_for() {
    for name in ["GETX", "", "CLIENT", "XGROUP"] {
        assert!(Asked::new().command(name, "*").is_err(), "{name}");
    }
}
