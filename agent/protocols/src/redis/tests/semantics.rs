//! What commands and replies mean for each other: one rule a test, on hand-written bytes.

use rstest::rstest;

use super::*;

#[rstest]
#[case("SET user:1 secret EX 60 nx", "SET user:1 ? EX ? NX")]
#[case("set user:1 EX", "SET user:1 ?")]
#[case("MSET a 1 b 2", "MSET a ? b ?")]
#[case("BLPOP a b 5", "BLPOP a b ?")]
#[case("EVALSHA abc 2 k1 k2 v1 v2", "EVALSHA ? ? k1 k2 ? ?")]
#[case("EVAL script 9 k1 k2", "EVAL ? ? k1 k2")]
#[case("EVAL script x k1", "EVAL ? ? ?")]
#[case("ZUNIONSTORE to 2 a b WEIGHTS 1 2", "ZUNIONSTORE to ? a b WEIGHTS ? ?")]
#[case("XREAD COUNT 2 BLOCK 5 STREAMS s t 0 $", "XREAD COUNT ? BLOCK ? STREAMS s t ? $")]
#[case("XREADGROUP GROUP block me STREAMS s >", "XREADGROUP GROUP ? ? STREAMS s >")]
#[case("XGROUP CREATE s g $ MKSTREAM", "XGROUP CREATE s ? $ MKSTREAM")]
#[case("OBJECT encoding k", "OBJECT ENCODING k")]
#[case("CONFIG SET requirepass secret", "CONFIG SET ? ?")]
#[case("ACL SETUSER me on >secret", "ACL SETUSER ? ? ?")]
#[case("AUTH me secret", "AUTH ? ?")]
#[case("HELLO 3 AUTH me secret SETNAME x", "HELLO ? AUTH ? ? SETNAME ?")]
#[case("MIGRATE host 6379 key 0 5 AUTH secret", "MIGRATE ? ? key ? ? AUTH ?")]
#[case("ZADD k 1 ch", "ZADD k ? ?")]
#[case("XADD k * field acked", "XADD k * ? ?")]
#[case("LINSERT k before before x", "LINSERT k BEFORE ? ?")]
#[case("HELLO 3 AUTH auth auth", "HELLO ? AUTH ? ?")]
#[case("SCRIPT LOAD sync", "SCRIPT LOAD ?")]
#[case("SORT list BY w:* STORE sorted", "SORT list BY ? STORE sorted")]
#[case("BLMPOP 0 x left right count 5", "BLMPOP ? ? ? ? ? ?")]
#[case("OBJECT nosuch secret", "OBJECT ? ?")]
#[case("XGROUP nosuch secret", "XGROUP ? ?")]
#[case("PUBLISH news secret", "PUBLISH news ?")]
#[case("CLIENT secret", "CLIENT ?")]
#[case("ft.search idx secret", "FT.SEARCH idx ?")]
#[case("FT.CURSOR READ idx 12", "FT.CURSOR READ idx ?")]
#[case("JSON.SET doc $ secret NX", "JSON.SET doc ? ? NX")]
#[case("JSON.MGET a b $.secret", "JSON.MGET a b ?")]
#[case("JSON.MSET a $ 1 b $ 2", "JSON.MSET a ? ? b ? ?")]
#[case("TS.ADD temp * 12", "TS.ADD temp ? ?")]
#[case("TS.MADD a 1 2 b 3 4", "TS.MADD a ? ? b ? ?")]
#[case("CMS.MERGE to 2 a b WEIGHTS 1 2", "CMS.MERGE to ? a b ? ? ?")]
#[case("MSETEX 2 a nx b ex EX 60", "MSETEX ? a ? b ? EX ?")]
#[case("VADD v VALUES 2 0.1 0.2 secret", "VADD v VALUES ? ? ? ?")]
#[case("BF.ADD seen secret", "BF.ADD seen ?")]
#[case("NOSUCH.ADD secret secret", "NOSUCH.ADD ? ?")]
#[case("s\u{e9}cret value", "? ?")]
#[case("DEL k\u{1}\u{e9}", "DEL k\\x01\u{e9}")]
#[case("GET ?", "GET \"?\"")]
fn the_text_has_keys_and_words_and_no_values(#[case] line: &str, #[case] text: &str) {
    let mut run = Run::new(true);
    run.requests(commands(&[line]));
    assert_eq!(&*exchanges(&run.events)[0].request.text, text);
}

#[rstest]
#[case("FCALL count_up 1 k secret", Some("count_up"))]
#[case("FCALL_RO f 0", Some("f"))]
#[case("FCALL it's 0", None)]
#[case(
    "EVALSHA a42059b356c875f0717db19a51f6aaca9ae659ea 0",
    Some("a42059b356c875f0717db19a51f6aaca9ae659ea")
)]
#[case("EVALSHA secret 0", None)]
#[case("EVAL return 0", None)]
fn what_the_server_keeps_is_told_by_its_name(#[case] line: &str, #[case] name: Option<&str>) {
    let mut run = Run::new(true);
    run.requests(commands(&[line]));
    assert_eq!(exchanges(&run.events)[0].request.procedure.as_deref(), name);
}

#[test]
fn keys_with_blanks_are_quoted_and_binary_ones_escaped() {
    let mut run = Run::new(true);
    run.requests(command(&["GET", "a \"b\""]));
    run.requests(b"*2\r\n$3\r\nGET\r\n$3\r\n\xff\x00a\r\n");
    run.requests("get 'it is' \"a\\\"b\"\r\n");
    let told = exchanges(&run.events);
    assert_eq!(&*told[0].request.text, "GET \"a \\\"b\\\"\"");
    assert_eq!(&*told[1].request.text, "GET \\xff\\x00a");
    assert_eq!(told[1].request.key.as_deref(), Some("\\xff\\x00a"));
    assert_eq!(&*told[2].request.text, "GET \"it is\" ?");
    assert!(told[2].request.inline && !told[0].request.inline);
}

#[rstest]
#[case("BRPOP q 0", true, true)]
#[case("XREAD BLOCK 0 STREAMS s $", true, true)]
#[case("XREAD STREAMS s BLOCK", false, true)]
#[case("XREADGROUP GROUP g c BLOCK 5 STREAMS s >", true, true)]
#[case("WAIT 1 0", true, false)]
#[case("ZPOPMAX z", false, true)]
#[case("GET BLOCK", false, false)]
fn blocking_and_polling_commands_are_known(
    #[case] line: &str,
    #[case] blocking: bool,
    #[case] poll: bool,
) {
    let mut run = Run::new(true);
    run.requests(commands(&[line]));
    let request = &exchanges(&run.events)[0].request;
    assert_eq!((request.blocking, request.poll), (blocking, poll));
}

#[test]
fn a_value_that_is_not_captured_leaves_the_command_whole() {
    let mut run = Run::new(true);
    run.piece(Requests, b"*5\r\n$3\r\nSET\r\n$3\r\ns:1\r\n$9000\r\nabc", 8997 + 2);
    run.requests("$2\r\nEX\r\n$2\r\n60\r\n").requests(command(&["GET", "s:1"]));
    run.responses("+OK\r\n$1\r\nx\r\n");
    assert_eq!(run.told(), ["SET s:1 ? EX ? > Ok", "GET s:1 > $1"]);
    assert!(run.skipped_nothing());
}

#[test]
fn a_cut_command_keeps_its_name_and_keys_and_is_answered() {
    let mut run = Run::new(true);
    run.piece(Requests, b"*4\r\n$4\r\nHSET\r\n$3\r\nh:1\r\n$5\r\nfield\r\n$9", 1000);
    run.responses(":1\r\n");
    assert_eq!(run.told(), ["HSET h:1 ? ?~ > Integer"]);
    // Commands may have been in what was not captured.
    run.requests(command(&["GET", "s:1"])).responses("$1\r\nx\r\n").close();
    assert_eq!(run.told().len(), 1);
    assert_eq!(run.facts(), [Fact::Database(None), Fact::Protocol(None)]);
}

#[test]
fn a_cut_pipeline_pairs_as_far_as_it_was_seen() {
    let mut run = Run::new(true);
    let pipeline = commands(&["GET s:1", "GET s:2", "GET s:3", "GET s:4"]);
    run.piece(Requests, &pipeline[..50], pipeline.len() as u64 - 50);
    run.responses("$1\r\nx\r\n$2\r\nxx\r\n$3\r\nxxx\r\n$4\r\nxxxx\r\n").close();
    assert_eq!(run.told(), ["GET s:1 > $1", "GET s:2 > $2"]);
}

#[test]
fn a_cut_reply_is_inferred_where_it_was_the_only_one() {
    let mut run = Run::new(true);
    run.requests(command(&["HGETALL", "h:50"])).piece(
        Responses,
        b"*100\r\n$5\r\nfield\r\n$1",
        5000,
    );
    run.responses("more");
    assert_eq!(run.told(), ["HGETALL h:50 > open"]);
    run.idle();
    assert_eq!(run.told(), ["HGETALL h:50 > ~*100"]);
    let Some(Event::End { last, end: End::Inferred { bytes, .. }, .. }) =
        run.events.iter().find(|event| matches!(event, Event::End { .. }))
    else {
        panic!("inferred");
    };
    assert_eq!((*last, *bytes), (3, 19 + 5000 + 4));

    let mut run = Run::new(true);
    run.requests(commands(&["HGETALL h:50", "GET s:1"]));
    run.piece(Responses, b"*100\r\n$5\r\nfield\r\n$1", 5000).responses("$1\r\nx\r\n");
    assert_eq!(run.told(), ["HGETALL h:50 > ~*100", "GET s:1 > abandoned: Gap"]);
}

#[test]
fn a_long_string_reply_that_is_not_captured_is_crossed() {
    let mut run = Run::new(true);
    run.requests(commands(&["LRANGE l:2 0 1", "GET s:1"]));
    run.piece(Responses, b"*2\r\n$9000\r\nabc", 8997 + 2).responses("$1\r\na\r\n$1\r\nx\r\n");
    assert_eq!(run.told(), ["LRANGE l:2 ? ? > *2", "GET s:1 > $1"]);
}

#[test]
fn redis_py_is_known_by_its_name_and_needs_no_quiet() {
    let mut run = Run::new(true);
    run.requests(commands(&["CLIENT SETINFO LIB-NAME redis-py"])).responses("+OK\r\n");
    run.requests(command(&["GET", "s:1"])).gap(Responses).responses("$1\r\nx\r\n");
    run.requests(command(&["GET", "s:2"])).responses("$2\r\nxx\r\n");
    assert_eq!(run.told()[1..], ["GET s:1 > abandoned: Gap", "GET s:2 > $2"]);
    // Another client, alike.
    let mut run = Run::new(true);
    run.requests(commands(&["CLIENT SETINFO LIB-NAME ioredis"])).responses("+OK\r\n");
    run.requests(command(&["GET", "s:1"])).gap(Responses).responses("$1\r\nx\r\n");
    run.requests(command(&["GET", "s:2"])).responses("$2\r\nxx\r\n");
    assert_eq!(run.told()[1..], ["GET s:1 > abandoned: Gap"]);
}

#[test]
fn a_held_reply_begins_no_turn() {
    let mut run = Run::new(true);
    run.connection.takes_turns();
    // A command whose end is lost, its reply, and a whole command that is lost.
    let list = command(&["LRANGE", "l:1", "0", "-1"]);
    run.requests(&list[..14]).responses("*1\r\n:1\r\n");
    run.hole(Requests, list.len() as u64 - 14 + 22).requests(command(&["GET", "s:2"]));
    run.responses("$1\r\nx\r\n$2\r\nxx\r\n");
    run.requests(command(&["GET", "s:3"])).responses("$3\r\nxxx\r\n");
    assert_eq!(run.told(), ["LRANGE ? ? ?~ > *1", "GET s:3 > $3"]);
}

#[test]
fn a_worker_met_while_it_waits_is_told_after_a_trial() {
    let mut run = Run::new(false);
    let block = command(&["BRPOP", "q", "5"]);
    run.idle().responses("*-1\r\n");
    for _ in 0..4 {
        run.requests(&block).idle().responses("*-1\r\n");
    }
    assert_eq!(run.told(), ["BRPOP q ? > Nil"; 2]);
}

#[test]
fn a_slow_reply_across_a_quiet_moment_makes_no_wrong_pair() {
    let mut run = Run::new(false);
    // Met while a command of which nothing was seen is still running.
    run.responses("$1\r\nx\r\n").idle();
    for size in 1..20 {
        run.requests(command(&["GET", &format!("s:{size}")]));
        let owed = size - 1;
        run.responses(format!("${owed}\r\n{}\r\n", "x".repeat(owed)));
    }
    run.responses(format!("$19\r\n{}\r\n", "x".repeat(19))).idle().close();
    assert_eq!(run.told(), [""; 0]);
}

#[test]
fn a_trial_begins_behind_any_reply_and_the_callers_word_ends_it() {
    let mut run = Run::new(false);
    let get = |run: &mut Run, size: usize| {
        run.requests(command(&["GET", &format!("s:{size}")]));
        run.responses(format!("${size}\r\n{}\r\n", "x".repeat(size)));
    };
    get(&mut run, 1);
    assert_eq!(run.connection.on_trial(), None, "one may have been owed");
    run.requests(command(&["GET", "s:2"]));
    assert_eq!(run.connection.on_trial(), Some(1));
    // One too many: it was.
    run.responses("$1\r\nx\r\n$2\r\nxx\r\n");
    assert_eq!(run.connection.on_trial(), None);
    run.step(|connection, _, out| connection.nothing_owed(out));
    get(&mut run, 3);
    assert_eq!(run.connection.on_trial(), Some(0));
    run.step(|connection, _, out| connection.nothing_owed(out));
    get(&mut run, 4);
    run.close();
    assert_eq!(run.told(), ["GET s:4 > $4"]);
}

#[test]
fn a_trial_that_began_behind_a_reply_takes_two_quiet_moments_as_well() {
    let mut run = Run::new(false);
    let get = |run: &mut Run, size: usize| {
        run.requests(command(&["GET", &format!("s:{size}")]));
        run.responses(format!("${size}\r\n{}\r\n", "x".repeat(size)));
    };
    (1..3).for_each(|size| get(&mut run, size));
    run.idle();
    get(&mut run, 3);
    run.idle();
    get(&mut run, 4);
    run.close();
    assert_eq!(run.told(), ["GET s:4 > $4"]);
}

#[test]
fn a_reply_of_the_wrong_kind_ends_all_certainty() {
    let mut run = Run::new(true);
    run.requests(commands(&["INCR n", "GET s:1"])).responses("$1\r\nx\r\n:1\r\n").close();
    assert_eq!(run.told(), ["INCR n > abandoned: Unpaired", "GET s:1 > abandoned: Unpaired"]);
}

#[test]
fn messages_to_a_subscriber_pair_with_nothing() {
    let mut run = Run::new(true);
    run.requests(command(&["SUBSCRIBE", "a"]))
        .responses("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$6\r\nsecret\r\n";
    run.responses(message).requests(command(&["PING"]));
    run.responses(message).responses("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    // Its payload is not captured.
    run.piece(Responses, b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$600\r\nsec", 597 + 2);
    run.requests(command(&["UNSUBSCRIBE", "a"]));
    run.responses("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n");
    // No longer a subscriber: an array is a reply, whatever is in it.
    run.requests(command(&["LRANGE", "l:3", "0", "2"])).responses(message);
    assert_eq!(
        run.told(),
        ["SUBSCRIBE a > *1", "PING > *2", "UNSUBSCRIBE a > *1", "LRANGE l:3 ? ? > *3"]
    );
    assert_eq!(run.pushes(), [(PushKind::Message, Some("a")); 3]);
}

#[rstest]
fn a_confirmation_that_is_read_before_its_subscription_waits_for_it(
    #[values(false, true)] resp3: bool,
) {
    let mut run = Run::new(true);
    let sort = if resp3 { '>' } else { '*' };
    let word = |channel: &str, count: u32| {
        format!("{sort}3\r\n$9\r\nsubscribe\r\n$1\r\n{channel}\r\n:{count}\r\n")
    };
    run.requests(command(&["SUBSCRIBE", "a"])).responses(word("a", 1));
    // Another thread reads than sends.
    run.responses(word("b", 2)).requests(command(&["SUBSCRIBE", "b"]));
    run.requests(command(&["SUBSCRIBE", "c"])).responses(word("c", 3)).close();
    assert_eq!(run.told(), ["SUBSCRIBE a > *1", "SUBSCRIBE b > *1", "SUBSCRIBE c > *1"]);
    assert_eq!(run.pushes(), []);
}

#[test]
fn what_is_pushed_behind_a_reply_that_was_cut_is_none_of_it() {
    let mut run = Run::new(true);
    run.requests(command(&["SMEMBERS", "s:9"]));
    run.piece(Responses, b"~9\r\n$1\r\na\r\n", 100);
    assert_eq!(run.told(), ["SMEMBERS s:9 > open"]);
    let invalidate = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
    run.responses(invalidate);
    let told = run.told();
    run.responses(invalidate).close();
    assert_eq!(run.told(), told);
    assert_eq!(told, ["SMEMBERS s:9 > ~*9"]);
}

#[test]
fn a_reset_that_was_to_be_skipped_is_not_answered() {
    let mut run = Run::new(true);
    run.requests(commands(&["CLIENT REPLY SKIP", "RESET", "SET a b", "GET s:1"]));
    run.responses("+OK\r\n$1\r\nx\r\n").close();
    let told = run.told();
    let wrong = |told: &&String| told.starts_with("RESET") || told.contains("GET s:1 > +");
    assert!(!told.iter().any(|told| wrong(&told) && !told.contains("abandoned")), "{told:?}");
}

#[test]
fn of_a_line_that_was_cut_nobody_knows_what_it_says() {
    let mut run = Run::new(true);
    run.requests(commands(&["MULTI", "EVAL x 0"])).responses("+OK\r\n");
    run.piece(Responses, b"+QUEU", 4);
    run.requests(command(&["GET", "s:1"])).close();
    let ends = run.events.iter().filter_map(|event| match event {
        Event::End { exchange: 1, end, .. } => Some(end),
        _ => None,
    });
    assert!(matches!(ends.collect::<Vec<_>>()[..], [End::Inferred { reply: None, .. }]));
}

#[test]
fn a_refused_subscription_changes_nothing() {
    let mut run = Run::new(true);
    run.requests(commands(&["SUBSCRIBE a b", "GET s:1"]));
    run.responses("-NOPERM No permissions to access a channel\r\n$1\r\nx\r\n");
    assert_eq!(
        run.told(),
        ["SUBSCRIBE a b > -NOPERM No permissions to access a channel", "GET s:1 > $1"]
    );
}

/// A word that a subscription begins or ends, as RESP2 or RESP3 has it.
fn word(resp2: bool, kind: &str, channel: Option<&str>, left: usize) -> String {
    let sign = if resp2 { '*' } else { '>' };
    let nothing = if resp2 { "$-1\r\n" } else { "_\r\n" };
    let channel =
        channel.map_or(nothing.to_owned(), |name| format!("${}\r\n{name}\r\n", name.len()));
    format!("{sign}3\r\n${}\r\n{kind}\r\n{channel}:{left}\r\n", kind.len())
}

#[rstest]
fn each_command_that_ends_all_subscriptions_has_its_own_confirmations(
    #[values(true, false)] resp2: bool,
) {
    let mut run = Run::new(true);
    let word = |kind, channel, left| word(resp2, kind, channel, left);
    run.requests(commands(&["SUBSCRIBE a b", "PSUBSCRIBE p*", "SSUBSCRIBE s"]));
    run.responses(word("subscribe", Some("a"), 1) + &word("subscribe", Some("b"), 2));
    run.responses(word("psubscribe", Some("p*"), 3) + &word("ssubscribe", Some("s"), 1));
    run.requests(commands(&["UNSUBSCRIBE", "UNSUBSCRIBE", "UNSUBSCRIBE x", "PUNSUBSCRIBE"]));
    run.requests(commands(&["PUNSUBSCRIBE", "SUNSUBSCRIBE", "SUNSUBSCRIBE", "GET s:1"]));
    run.responses(word("unsubscribe", Some("a"), 2) + &word("unsubscribe", Some("b"), 1));
    run.responses(word("unsubscribe", None, 1) + &word("unsubscribe", Some("x"), 1));
    run.responses(word("punsubscribe", Some("p*"), 0) + &word("punsubscribe", None, 0));
    run.responses(word("sunsubscribe", Some("s"), 0) + &word("sunsubscribe", None, 0));
    run.responses("$1\r\nx\r\n").close();
    let told = ["UNSUBSCRIBE > *2", "UNSUBSCRIBE > *1", "UNSUBSCRIBE x > *1", "PUNSUBSCRIBE > *1"];
    assert_eq!(run.told()[3..7], told);
    let told = ["PUNSUBSCRIBE > *1", "SUNSUBSCRIBE > *1", "SUNSUBSCRIBE > *1", "GET s:1 > $1"];
    assert_eq!(run.told()[7..], told);
    assert!(run.pushes().is_empty() && run.skipped_nothing());
}

#[test]
fn where_subscriptions_are_not_known_their_end_is_not_told() {
    let mut run = Run::new(false);
    run.idle().requests(command(&["PING"])).responses("+PONG\r\n").idle();
    run.requests(commands(&["UNSUBSCRIBE", "GET s:1"]));
    // There may be another.
    run.responses(word(true, "unsubscribe", Some("a"), 1));
    run.responses(word(true, "unsubscribe", Some("b"), 0)).responses("$1\r\nx\r\n");
    assert_eq!(run.told(), ["UNSUBSCRIBE > abandoned: Unpaired", "GET s:1 > abandoned: Unpaired"]);
    let mut run = Run::new(false);
    run.idle().requests(command(&["PING"])).responses("+PONG\r\n").idle();
    run.requests(commands(&["UNSUBSCRIBE", "GET s:1"]));
    run.responses(word(true, "unsubscribe", Some("a"), 0)).responses("$1\r\nx\r\n");
    assert_eq!(run.told(), ["UNSUBSCRIBE > *1", "GET s:1 > $1"]);
}

#[test]
fn the_end_of_subscriptions_that_is_refused_changes_nothing() {
    let mut run = Run::new(true);
    run.requests(commands(&["UNSUBSCRIBE", "GET s:1"])).responses("-NOAUTH no\r\n$1\r\nx\r\n");
    run.requests(command(&["GET", "s:2"])).responses("$2\r\nxx\r\n");
    assert_eq!(run.told()[1..], ["GET s:1 > $1", "GET s:2 > $2"]);
}

#[test]
fn after_an_error_that_may_be_anyones_pairing_begins_anew() {
    let mut run = Run::new(true);
    run.requests(commands(&["CLIENT REPLY SKIP", "SET s:1 x", "GET s:1"]));
    run.responses("-NOPERM No permissions\r\n+OK\r\n$1\r\nx\r\n").idle();
    run.requests(command(&["GET", "s:1"])).responses("$1\r\nx\r\n").idle();
    run.requests(command(&["GET", "s:1"])).responses("$1\r\nx\r\n").close();
    assert_eq!(run.told().last().unwrap(), "GET s:1 > $1");
}

#[rstest]
#[case(
    "*2\r\n+OK\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    "*2, 0 nil, 1 -WRONGTYPE Operation against a key holding the wrong kind of value"
)]
#[case("*3\r\n-ERR no such key\r\n$-1\r\n-OOM x\r\n", "*3, 1 nil, 2 -ERR no such key")]
#[case("*3\r\n_\r\n*-1\r\n:1\r\n", "*3, 2 nil, 0 - ")]
#[case("*1\r\n!15\r\nERR no such key\r\n", "*1, 0 nil, 1 -ERR no such key")]
// What a command answers within its own array is that command's.
#[case("*1\r\n*2\r\n-ERR no such key\r\n$-1\r\n", "*1")]
#[case("*1\r\n|1\r\n+a\r\n-ERR no such key\r\n+OK\r\n", "*1")]
fn what_fails_within_a_transaction_is_told_with_its_end(
    #[case] reply: &str,
    #[case] told: &str,
    #[values(1, 1000)] step: usize,
) {
    let mut run = Run::new(true);
    for _ in 0..2 {
        run.requests(commands(&["MULTI", "EVAL x 0", "EXEC", "GET s:1"]));
        run.responses("+OK\r\n+QUEUED\r\n");
        for piece in (reply.to_owned() + "$1\r\nx\r\n").as_bytes().chunks(step) {
            run.responses(piece);
        }
    }
    assert_eq!(run.told()[2..4], [format!("EXEC > {told}"), "GET s:1 > $1".to_owned()]);
    assert_eq!(run.told()[4..], run.told()[..4]);
}

#[test]
fn of_a_cut_transaction_what_failed_is_told_as_far_as_it_came() {
    let mut run = Run::new(true);
    run.requests(commands(&["MULTI", "INCR k", "EXEC"])).responses("+OK\r\n+QUEUED\r\n");
    run.piece(Responses, b"*3\r\n-ERR no such key\r\n-ERR", 900).idle();
    assert_eq!(run.told()[2], "EXEC > ~*3, 0 nil, 1 -ERR no such key");
    let mut run = Run::new(true);
    run.requests(commands(&["MULTI", "INCR k", "EXEC"])).responses("+OK\r\n+QUEUED\r\n");
    run.piece(Responses, b"*3\r\n+OK\r\n-ERR no", 900).idle();
    assert_eq!(run.told()[2], "EXEC > ~*3");
}

#[test]
fn pushes_between_replies_pair_with_nothing() {
    let mut run = Run::new(true);
    run.requests(commands(&["GET s:1", "GET s:2"]));
    run.responses("$1\r\nx\r\n>2\r\n+invalidate\r\n*1\r\n$3\r\ns:1\r\n$2\r\nxx\r\n");
    run.responses(">2\r\n+invalidate\r\n_\r\n");
    assert_eq!(run.told(), ["GET s:1 > $1", "GET s:2 > $2"]);
    assert_eq!(run.pushes(), [(PushKind::Other, None); 2]);
    assert!(run.skipped_nothing());
}

#[rstest]
#[case("$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n", "$5")]
#[case("*?\r\n:1\r\n*2\r\n:1\r\n:2\r\n+a\r\n.\r\n", "*3")]
#[case("%?\r\n+a\r\n:1\r\n+b\r\n:2\r\n.\r\n", "%2")]
#[case("|1\r\n+ttl\r\n:3600\r\n$1\r\nx\r\n", "$1")]
#[case("*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:1\r\n:2\r\n", "*2")]
#[case("|0\r\n+OK\r\n", "Ok")]
#[case("~2\r\n+a\r\n+b\r\n", "*2")]
#[case("=8\r\ntxt:abcd\r\n", "$8")]
#[case("!16\r\nERR syntax error\r\n", "-ERR syntax error")]
#[case("(3492890328409238509324850943850943825024385\r\n", "Integer")]
#[case(",inf\r\n", "Double")]
#[case("#f\r\n", "Boolean")]
#[case("_\r\n", "Nil")]
#[case("*-1\r\n", "Nil")]
#[case("*0\r\n", "*0")]
#[case("%0\r\n", "%0")]
#[case("*2\r\n*0\r\n*1\r\n$-1\r\n", "*2")]
#[case("-MOVED 3999 127.0.0.1:6381\r\n", "-MOVED ")]
fn every_type_ends_where_it_should(
    #[case] reply: &str,
    #[case] told: &str,
    #[values(1, 3, 1000)] step: usize,
) {
    let mut run = Run::new(true);
    run.requests(commands(&["EVAL script 0", "GET s:1"]));
    for piece in (reply.to_owned() + "$1\r\nx\r\n").as_bytes().chunks(step) {
        run.responses(piece);
    }
    assert_eq!(run.told(), [format!("EVAL ? ? > {told}"), "GET s:1 > $1".to_owned()]);
    assert!(run.skipped_nothing());
}

#[test]
fn commands_that_ask_for_no_reply_get_none() {
    let mut run = Run::new(true);
    run.requests(commands(&["CLIENT REPLY SKIP", "SET s:1 x", "GET s:1"]));
    // Refused after all: whose error it is can't be known.
    run.responses("-NOPERM No permissions\r\n+OK\r\n$1\r\nx\r\n");
    run.requests(command(&["GET", "s:1"])).responses("$1\r\nx\r\n").close();
    assert_eq!(
        run.told(),
        ["CLIENT REPLY SKIP > NoReply", "SET s:1 ? > NoReply", "GET s:1 > abandoned: Unpaired"]
    );
}

#[test]
fn replication_is_left_alone() {
    let mut run = Run::new(true);
    run.requests(commands(&["REPLCONF capa psync2", "PSYNC ? -1"]));
    run.responses("+OK\r\n+FULLRESYNC 0 0\r\n")
        .requests(command(&["REPLCONF", "ACK", "1"]))
        .close();
    assert_eq!(
        run.told(),
        ["REPLCONF ? ? > abandoned: Upgraded", "PSYNC ? ? > abandoned: Upgraded"]
    );
    assert!(run.skipped(Skip::AfterUpgrade) > 0);
}

#[test]
fn facts_come_in_the_order_of_replies() {
    let mut run = Run::new(true);
    run.requests(commands(&["SELECT 3", "GET s:1", "SELECT 99"]));
    run.responses("+OK\r\n$1\r\nx\r\n-ERR DB index is out of range\r\n");
    let at = |wanted: &dyn Fn(&Event<'_, u32>) -> bool| run.events.iter().position(wanted).unwrap();
    let fact = at(&|event| *event == Event::Session(Fact::Database(Some(3))));
    assert!(at(&|event| matches!(event, Event::End { exchange: 0, .. })) < fact);
    assert!(fact < at(&|event| matches!(event, Event::End { exchange: 1, .. })));
    assert_eq!(run.facts().len(), 1);
    assert_eq!(exchanges(&run.events)[2].request.database, Some(99));
    // A transaction's choice is its own affair.
    run.requests(commands(&["MULTI", "SELECT 4", "EXEC"]));
    run.responses("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    assert_eq!(run.facts()[1..], [Fact::Database(None)]);
}

/// Which database each command is told to have run in, when it ends.
fn databases(run: &Run) -> Vec<String> {
    let (mut database, mut named, mut ended) = (Some(0), Vec::new(), Vec::new());
    for event in &run.events {
        match event {
            Event::Session(Fact::Database(selected)) => database = *selected,
            Event::Request { exchange, request, .. } => {
                named.push((*exchange, request.name.to_string()));
            }
            Event::End { exchange, .. } => {
                let (_, name) = named.iter().find(|(known, _)| known == exchange).unwrap();
                let database = database.map_or_else(|| "?".to_owned(), |it: u32| it.to_string());
                ended.push(format!("{name}@{database}"));
            }
            _ => {}
        }
    }
    ended
}

#[rstest]
// What is queued behind the choice of another runs there, if all goes well.
#[case(&["MULTI", "SELECT 3", "SET k v", "EXEC", "GET k"], "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n$1\r\nv\r\n",
    &["MULTI@0", "SELECT@0", "SET@?", "EXEC@?", "GET@?"])]
#[case(&["MULTI", "SELECT 3", "DISCARD", "GET k"], "+OK\r\n+QUEUED\r\n+OK\r\n$1\r\nv\r\n",
    &["MULTI@0", "SELECT@0", "DISCARD@?", "GET@0"])]
#[case(&["WATCH k", "MULTI", "SELECT 3", "EXEC", "GET k"], "+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n$1\r\nv\r\n",
    &["WATCH@0", "MULTI@0", "SELECT@0", "EXEC@?", "GET@0"])]
// In the order of replies, whatever was sent meanwhile.
#[case(&["MULTI", "SELECT 1", "DISCARD", "MULTI", "SELECT 2", "EXEC", "GET k"],
    "+OK\r\n+QUEUED\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$1\r\nv\r\n",
    &["MULTI@0", "SELECT@0", "DISCARD@?", "MULTI@0", "SELECT@0", "EXEC@?", "GET@?"])]
#[case(&["RESET", "MULTI", "SELECT 2", "EXEC", "GET k"], "+RESET\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$1\r\nv\r\n",
    &["RESET@0", "MULTI@0", "SELECT@0", "EXEC@?", "GET@?"])]
// A transaction that was refused is none.
#[case(&["MULTI"], "-NOPERM no\r\n", &["MULTI@0"])]
// Nobody hears whether it went well.
#[case(&["CLIENT REPLY SKIP", "SELECT 3", "GET k"], "$1\r\nv\r\n", &["CLIENT REPLY@0", "SELECT@?", "GET@?"])]
#[case(&["SELECT 3", "CLIENT REPLY SKIP", "SET k v", "GET k"], "+OK\r\n$1\r\nv\r\n",
    &["CLIENT REPLY@?", "SET@?", "SELECT@?", "GET@3"])]
fn the_database_is_told_where_it_is_certain(
    #[case] sent: &[&str],
    #[case] replies: &str,
    #[case] expected: &[&str],
) {
    let mut run = Run::new(true);
    run.requests(commands(sent)).responses(replies);
    assert_eq!(databases(&run), expected);
}

#[test]
fn a_database_that_was_asked_for_is_not_told_where_no_answer_came() {
    let mut run = Run::new(true);
    run.requests(commands(&["SELECT 3", "GET k"])).end(Responses, Some(EndError::Reset));
    assert_eq!(databases(&run), ["SELECT@?", "GET@?"]);
}

#[test]
fn a_transaction_is_known_by_its_replies() {
    // Refused: what follows is answered at once.
    let mut run = Run::new(true);
    run.requests(command(&["MULTI"])).responses("-NOPERM no\r\n");
    run.requests(commands(&["SELECT 3", "GET k"])).responses("+OK\r\n$1\r\nv\r\n");
    assert_eq!(databases(&run), ["MULTI@0", "SELECT@0", "GET@3"]);
    assert!(!exchanges(&run.events)[2].request.queued);
    // One within another is refused, and changes nothing.
    let mut run = Run::new(true);
    run.requests(commands(&["MULTI", "MULTI"]));
    run.responses("+OK\r\n-ERR MULTI calls can not be nested\r\n");
    run.requests(commands(&["SUBSCRIBE a", "EXEC", "GET s:1"]));
    run.responses("+QUEUED\r\n*1\r\n+OK\r\n$1\r\nx\r\n");
    assert_eq!(run.told()[2..], ["(queued) SUBSCRIBE a > abandoned: Unpaired"]);
    let mut run = Run::new(true);
    run.requests(commands(&["MULTI", "HELLO 3", "EXEC"])).responses("+OK\r\n+QUEUED\r\n");
    assert_eq!(run.facts(), [Fact::Protocol(None)]);
}

#[test]
fn what_ends_with_the_connection_says_how() {
    let mut run = Run::new(true);
    run.requests(commands(&["GET s:9", "GET s:1"])).responses("$9\r\nabc");
    run.end(Responses, Some(EndError::Reset)).end(Requests, Some(EndError::Reset));
    assert_eq!(
        run.told(),
        [
            "GET s:9 > Reset { bytes: 7, error: Reset }",
            "GET s:1 > NoResponse { error: Some(Reset) }"
        ]
    );
    let mut run = Run::new(true);
    run.requests(command(&["GET", "s:9"])).responses("$9\r\nabc");
    run.requests("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nabc").close();
    assert_eq!(
        run.told(),
        ["GET s:9 > Truncated { bytes: 7 }", "SET k ?~ > NoResponse { error: None }"]
    );
}

#[test]
fn a_server_that_ends_as_it_was_told_to_has_answered() {
    for error in [None, Some(EndError::Reset)] {
        let mut run = Run::new(true);
        run.requests(commands(&["GET s:1", "SHUTDOWN NOSAVE", "GET s:2"])).responses("$1\r\nx\r\n");
        run.end(Responses, error);
        let none = format!("GET s:2 > NoResponse {{ error: {error:?} }}");
        assert_eq!(run.told()[1..], ["SHUTDOWN NOSAVE > NoReply", &*none]);
        // Its record may come late.
        let mut run = Run::new(true);
        run.end(Responses, error).requests(command(&["SHUTDOWN"]));
        assert_eq!(run.told(), ["SHUTDOWN > NoReply"]);
    }
    let mut run = Run::new(true);
    run.requests(commands(&["GET s:1", "SHUTDOWN"])).end(Responses, None);
    assert_eq!(run.told()[1], "SHUTDOWN > NoResponse { error: None }");
    let mut run = Run::new(true);
    run.requests(command(&["SHUTDOWN"]))
        .responses("-ERR Errors trying to SHUTDOWN. Check logs.\r\n");
    assert_eq!(run.told(), ["SHUTDOWN > -ERR Errors trying to SHUTDOWN. Check logs"]);
}

#[test]
fn held_replies_are_given_up_when_it_is_quiet() {
    let mut run = Run::new(true);
    run.responses("$1\r\nx\r\n").idle();
    assert_eq!(run.skipped(Skip::HeldTooLong), 7);
    run.requests(command(&["GET", "s:2"])).responses("$2\r\nxx\r\n").close();
    assert_eq!(run.told(), [""; 0]);
}

#[test]
fn empty_lines_and_arrays_are_not_answered() {
    let mut run = Run::new(true);
    run.requests("\r\n*0\r\n\n*-1\r\n").requests(command(&["GET", "s:1"])).responses("$1\r\nx\r\n");
    assert_eq!(run.told(), ["GET s:1 > $1"]);
    assert!(run.skipped_nothing());
}
