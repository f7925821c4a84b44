//! What the protocol's messages mean together, one rule at a time.

use rstest::rstest;

use super::*;

const READY: fn() -> Vec<u8> = || tell::ready('I');

#[test]
fn a_simple_query_has_the_tags_of_its_statements() {
    let mut run = Run::session();
    run.requests(ask::query("BEGIN; INSERT INTO t VALUES (1), (2); SELECT 1; ;"));
    run.responses([tell::tag("BEGIN"), tell::tag("INSERT 0 2"), tell::rows(1)].concat());
    run.responses(tell::ready('T')).close();
    assert_eq!(
        run.told(),
        [
            "Simple BEGIN; INSERT INTO t VALUES (1), (2); SELECT 1; ; > BEGIN INSERT 2 SELECT 1 =2 returned 1 InTransaction"
        ]
    );
    match &exchanges(&run.events)[0].end {
        Some(Ok(End::Complete(done))) => assert_eq!(done.statements, 3),
        end => panic!("{end:?}"),
    }
}

#[test]
fn what_ran_before_an_error_in_a_simple_query_is_told_with_it() {
    let mut run = Run::session();
    run.requests(ask::query("UPDATE t SET a = 1; SELECT 1/0"));
    run.responses(
        [tell::tag("UPDATE 7"), tell::error("22012", "division by zero"), READY()].concat(),
    );
    assert_eq!(
        run.told(),
        ["Simple UPDATE t SET a = 1; SELECT 1/0 > UPDATE 7 ERROR 22012 division by zero =7 Idle"]
    );
}

#[test]
fn pipelined_executes_are_exchanges_and_those_behind_an_error_are_not_executed() {
    let mut run = Run::session();
    let texts = ["SELECT 'a'", "SELECT 1/0", "SELECT 'c'", "SELECT 'd'"];
    let asked: Vec<u8> = texts.iter().flat_map(|text| ask::unnamed(text)).collect();
    run.requests(asked)
        .requests(ask::sync())
        .requests(ask::unnamed("SELECT 'e'"))
        .requests(ask::sync());
    run.responses(
        [tell::unnamed(3), tell::done('1'), tell::error("22012", "division by zero")].concat(),
    );
    run.responses(READY()).responses([tell::unnamed(5), READY()].concat()).close();
    assert_eq!(
        run.told(),
        [
            "Execute SELECT 'a' > SELECT 3 =3",
            "Execute SELECT 1/0 > ERROR 22012 division by zero Idle",
            "Execute SELECT 'c' > not executed",
            "Execute SELECT 'd' > not executed",
            "Execute SELECT 'e' > SELECT 5 =5 Idle",
        ]
    );
    assert_eq!(run.skipped(), 0);
}

#[test]
fn an_error_ends_what_comes_after_it_too() {
    let mut run = Run::session();
    run.requests(ask::unnamed("SELECT 1/0")).responses(tell::error("22012", "division by zero"));
    run.requests([ask::unnamed("SELECT 2"), ask::sync()].concat()).responses(READY());
    run.requests(ask::query("SELECT 3")).responses([tell::rows(3), READY()].concat()).close();
    assert_eq!(
        run.told(),
        [
            "Execute SELECT 1/0 > ERROR 22012 division by zero Idle",
            "Execute ? > not executed",
            "Simple SELECT 3 > SELECT 3 =3 Idle",
        ]
    );
}

#[test]
fn an_error_at_sync_belongs_to_what_it_ends() {
    let mut run = Run::session();
    run.requests([ask::unnamed("INSERT INTO t VALUES (1)"), ask::sync()].concat());
    run.responses(
        [tell::done('1'), tell::done('2'), tell::done('n'), tell::tag("INSERT 0 1")].concat(),
    );
    run.responses([tell::error("23505", "duplicate key"), READY()].concat()).close();
    assert_eq!(
        run.told(),
        ["Execute INSERT INTO t VALUES (1) > INSERT 1 ERROR 23505 duplicate key =1 Idle"]
    );
}

#[test]
fn copies_go_on_while_the_client_sends_data() {
    let mut run = Run::session();
    run.requests(ask::query("COPY t FROM STDIN")).responses(message(b'G', [0; 3]));
    for _ in 0..3 {
        run.requests(message(b'd', [b'x'; 100])).responses(tell::notice());
    }
    run.requests(message(b'c', "")).responses([tell::tag("COPY 3"), READY()].concat());
    run.requests(ask::query("COPY t FROM STDIN")).responses(message(b'G', [0; 3]));
    run.requests([message(b'd', "secret"), message(b'f', "why\0")].concat());
    run.responses([tell::error("57014", "COPY from stdin failed: why"), READY()].concat());
    run.requests(ask::query("COPY t TO STDOUT"));
    run.responses([message(b'H', [0; 3]), message(b'd', "x"), message(b'c', "")].concat());
    run.responses([tell::tag("COPY 1"), READY()].concat()).close();
    assert_eq!(
        run.told(),
        [
            "Simple COPY t FROM STDIN > COPY 3 =3 Idle",
            "Simple COPY t FROM STDIN > ERROR 57014 COPY from stdin failed Idle",
            "Simple COPY t TO STDOUT > COPY 1 =1 Idle",
        ]
    );
    assert_eq!(run.skipped(), 0);
}

#[test]
fn a_server_that_reads_a_copy_passes_over_sync() {
    // As libpq does it: the Sync that ends the request, and another one behind the copy's end.
    let copy = [
        ask::parse("", "COPY t FROM STDIN"),
        ask::bind("", "", 1),
        ask::describe('P', ""),
        ask::execute("", 0),
        ask::sync(),
    ]
    .concat();
    let prepared =
        [tell::done('1'), tell::done('2'), tell::done('n'), message(b'G', [0; 3])].concat();
    let mut run = Run::session();
    run.requests(&copy).responses(&prepared);
    run.requests([message(b'd', "x"), message(b'c', ""), ask::sync()].concat());
    run.responses([tell::tag("COPY 1"), READY()].concat());
    run.requests(&copy).responses(&prepared).requests(message(b'd', "x"));
    run.responses(tell::error("22P02", "invalid"));
    run.requests([message(b'd', "x"), message(b'c', ""), ask::sync()].concat()).responses(READY());
    run.requests(ask::query("SELECT 2")).responses([tell::rows(2), READY()].concat()).close();
    assert_eq!(
        run.told(),
        [
            "Execute COPY t FROM STDIN > COPY 1 =1 Idle",
            "Execute COPY t FROM STDIN > ERROR 22P02 invalid Idle",
            "Simple SELECT 2 > SELECT 2 =2 Idle",
        ]
    );
}

#[test]
fn a_copys_end_that_comes_before_the_server_begins_is_its_own() {
    let mut run = Run::session();
    run.requests(ask::query("COPY t FROM STDIN"));
    run.requests([message(b'd', "x"), message(b'c', "")].concat());
    run.requests(ask::query("SELECT 2"));
    run.responses([message(b'G', [0; 3]), tell::tag("COPY 1"), READY()].concat());
    run.responses([tell::rows(2), READY()].concat()).close();
    assert_eq!(
        run.told(),
        ["Simple COPY t FROM STDIN > COPY 1 =1 Idle", "Simple SELECT 2 > SELECT 2 =2 Idle"]
    );
}

#[test]
fn a_transaction_that_fails_at_its_end_fails_what_was_executed_though_its_portal_is_closed() {
    let mut run = Run::session();
    for failed in [true, false] {
        let closed = [ask::unnamed("INSERT INTO t"), ask::close('P', ""), ask::sync()].concat();
        run.requests(closed).responses([tell::done('1'), tell::done('2')].concat());
        run.responses([tell::done('n'), tell::tag("INSERT 0 1"), tell::done('3')].concat());
        if failed {
            run.responses(tell::error("23503", "no such row"));
        }
        run.responses(READY());
    }
    run.close();
    let told = "Execute INSERT INTO t > INSERT 1";
    assert_eq!(
        run.told(),
        [format!("{told} ERROR 23503 no such row =1 Idle"), format!("{told} =1 Idle")]
    );
}

#[test]
fn what_a_statement_returns_is_known_from_when_it_was_described() {
    let mut run = Run::session();
    for (name, described, tag) in
        [("a", tell::done('n'), "SELECT 0"), ("b", tell::columns(), "SELECT 0")]
    {
        run.requests([ask::parse(name, "x"), ask::describe('S', name), ask::sync()].concat());
        run.responses([tell::done('1'), message(b't', [0; 2]), described, READY()].concat());
        for _ in 0..2 {
            run.requests([ask::bind("", name, 1), ask::execute("", 0), ask::sync()].concat());
            run.responses([tell::done('2'), tell::tag(tag), READY()].concat());
        }
    }
    let rows = exchanges(&run.events).into_iter().map(|exchange| match exchange.end {
        Some(Ok(End::Complete(done))) => (done.returned, done.affected),
        end => panic!("{end:?}"),
    });
    let (made, found) = ((None, Some(0)), (Some(0), None));
    assert_eq!(rows.collect::<Vec<_>>(), [made, made, found, found]);
}

#[test]
fn every_execute_of_a_portal_is_an_exchange() {
    let mut run = Run::session();
    run.requests(
        [ask::parse("s", "SELECT g"), ask::bind("p", "s", 0), ask::execute("p", 2)].concat(),
    );
    run.requests([ask::flush(), ask::execute("p", 2), ask::execute("p", 0), ask::sync()].concat());
    run.responses(
        [tell::done('1'), tell::done('2'), tell::row(1).repeat(2), tell::done('s')].concat(),
    );
    run.responses(
        [tell::row(1).repeat(2), tell::done('s'), tell::row(1), tell::tag("SELECT 1")].concat(),
    );
    run.responses(tell::ready('T')).close();
    assert_eq!(
        run.told(),
        [
            "Execute s @p SELECT g > suspended =2",
            "Execute s @p SELECT g > suspended =2",
            "Execute s @p SELECT g > SELECT 1 =1 InTransaction",
        ]
    );
}

#[test]
fn asynchronous_messages_come_between_any_two() {
    let answer = [
        tell::done('1'),
        tell::done('2'),
        tell::columns(),
        tell::row(1),
        tell::row(1),
        tell::tag("SELECT 2"),
        READY(),
    ];
    for unasked in [tell::notice(), tell::notification(), tell::parameter("TimeZone", "UTC")] {
        let mut run = Run::session();
        run.responses(&unasked);
        run.requests([ask::unnamed("SELECT a"), ask::sync()].concat());
        for message in &answer {
            run.responses(&unasked).responses(message);
        }
        run.responses(&unasked).close();
        assert_eq!(run.told(), ["Execute SELECT a > SELECT 2 =2 Idle"]);
        assert_eq!(run.skipped(), 0);
    }
}

#[test]
fn an_error_that_nobody_asked_for_ends_the_session_and_no_exchange() {
    let mut run = Run::session();
    run.responses(message(b'E', "SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0"));
    run.close();
    assert_eq!(run.told(), [""; 0]);
    assert!(
        matches!(run.facts().last(), Some(Fact::Failure(error)) if *error.sqlstate == *"57P01")
    );
}

#[rstest]
#[case(b"S", Encryption::Tls, &[0, 0, 0, 8, 4, 210, 22, 47])]
#[case(b"G", Encryption::Gss, &[0, 0, 0, 8, 4, 210, 22, 48])]
fn what_is_encrypted_is_opaque(
    #[case] yes: &[u8],
    #[case] encryption: Encryption,
    #[case] request: &[u8],
) {
    let mut run = Run::new(true);
    run.requests(request).responses(yes);
    run.requests(ask::query("SELECT 1"))
        .responses([tell::rows(1), READY()].concat())
        .idle()
        .close();
    assert_eq!(run.facts(), [&Fact::Opaque(encryption)]);
    assert_eq!(run.told(), [""; 0]);

    let mut run = Run::new(true);
    run.requests(request).responses("N");
    run.requests(ask::startup(&[("user", "bob")])).responses(tell::authenticated());
    run.requests(ask::query("SELECT 1")).responses([tell::rows(1), READY()].concat()).close();
    assert_eq!(run.facts()[0], &Fact::Plain(encryption));
    assert_eq!(run.told(), ["Simple SELECT 1 > SELECT 1 =1 Idle"]);
}

#[test]
fn a_startup_that_comes_before_the_answer_to_a_request_for_encryption_waits() {
    let mut run = Run::new(true);
    run.requests([0, 0, 0, 8, 4, 210, 22, 47]).requests(ask::startup(&[("user", "bob")]));
    run.responses([b"N".to_vec(), tell::authenticated()].concat());
    assert!(matches!(run.facts()[..], [Fact::Plain(_), Fact::Startup { .. }, .., Fact::Ready]));
    assert_eq!(run.skipped(), 0);
}

#[test]
fn a_request_to_cancel_has_no_answer_and_no_exchange() {
    let mut run = Run::new(true);
    run.requests([0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4]).close();
    assert_eq!(run.facts(), [&Fact::Cancel]);
    assert_eq!((run.told(), run.skipped()), (vec![], 0));
}

#[test]
fn of_a_session_only_what_names_it_is_kept() {
    let mut run = Run::new(true);
    let parameters = [("user", "bob"), ("options", "-c a=secret"), ("database", "shop")];
    run.requests(ask::startup(&[&parameters[..], &[("application_name", "web")]].concat()));
    run.responses(message(b'R', b"\0\0\0\x05salt")).requests(message(b'p', "md5secret\0"));
    run.responses(message(b'R', b"\0\0\0\x0a\0")).requests(message(b'p', "SCRAM-secret"));
    run.responses([message(b'R', [0; 4]), tell::parameter("server_version", "16.3")].concat());
    run.responses([message(b'K', b"\0\0\0\x07secr"), READY()].concat()).close();
    let text = |text: &str| Some(text.into());
    assert_eq!(
        run.facts(),
        [
            &Fact::Startup {
                user: text("bob"),
                database: text("shop"),
                application_name: text("web")
            },
            &Fact::ServerVersion("16.3".into()),
            &Fact::Backend { process_id: 7 },
            &Fact::Ready,
        ]
    );
    assert!(!format!("{:?}", run.events).contains("secret"));
}

#[test]
fn a_texts_comments_are_of_its_first_execution_behind_its_parse() {
    let execute = |name: &str| [ask::bind("", name, 1), ask::execute("", 0)].concat();
    let executed = [tell::done('2'), tell::tag("SELECT 0")].concat();
    let mut run = Run::session();
    let mut round = |asked: &[Vec<u8>], executions: usize, others: usize| {
        run.requests([asked.concat(), ask::sync()].concat());
        run.responses([tell::done('1').repeat(others), executed.repeat(executions)].concat());
        run.responses(READY());
    };
    round(&[ask::parse("", "1 a"), execute("")], 1, 1);
    round(&[execute("")], 1, 0);
    round(&[ask::parse("s", "2 a"), ask::flush(), execute("s"), ask::flush(), execute("s")], 2, 1);
    round(&[execute("s")], 1, 0);
    // Prepared for later, and something else came first.
    round(&[ask::parse("t", "3 -")], 0, 1);
    round(&[execute("s"), execute("t")], 2, 0);
    round(&[ask::parse("x", "9 -"), ask::parse("y", "10 a")], 0, 2);
    round(&[execute("y"), execute("x"), execute("y")], 3, 0);
    run.requests(ask::query("4 a")).responses([tell::tag("SELECT 0"), READY()].concat());
    let two = [ask::parse("u", "5 a"), ask::parse("v", "6 a")].concat();
    run.requests([two, execute("u"), execute("v"), execute("u"), ask::sync()].concat());
    run.responses([tell::done('1').repeat(2), executed.repeat(3), READY()].concat());
    // The driver asked for the types first, in a turn of its own or behind its `Sync`.
    run.requests([ask::parse("w", "7 a"), ask::sync(), execute("w"), ask::sync()].concat());
    run.responses([tell::done('1'), READY(), executed.clone(), READY()].concat());
    for asked in [ask::parse("z", "11 a"), execute("z"), execute("z")] {
        let is_parse = asked[0] == b'P';
        run.requests([asked, ask::sync()].concat());
        let answer = if is_parse { tell::done('1') } else { executed.clone() };
        run.responses([answer, READY()].concat());
    }
    // It was prepared by who did not execute it.
    run.requests([ask::parse("q", "12 -"), ask::sync()].concat());
    run.responses([tell::done('1'), READY()].concat());
    run.requests(ask::query("13 a")).responses([tell::tag("BEGIN"), READY()].concat());
    run.requests([execute("q"), ask::sync()].concat())
        .responses([executed.clone(), READY()].concat());
    // One that fails to be prepared has one too.
    run.requests([ask::parse("", "8 a"), ask::sync()].concat());
    run.responses([tell::error("42601", "no"), READY()].concat());
    run.requests(message(b'F', [0; 14])).close();
    let told: Vec<String> = exchanges(&run.events)
        .iter()
        .map(|it| {
            format!(
                "{}{}",
                it.query.text.as_deref().unwrap_or("?"),
                if it.query.fresh { "!" } else { "" }
            )
        })
        .collect();
    let expected =
        "1 a! 1 a 2 a! 2 a 2 a 2 a 3 - 10 a! 9 - 10 a 4 a! 5 a! 6 a! 5 a 7 a! 11 a! 11 a 13 a! 12 - 8 a! ?"
            .split(' ')
            .collect::<Vec<_>>()
            .join(" ");
    assert_eq!(told.join(" "), expected);
}

#[test]
fn behind_a_loss_nobody_knows_when_a_statement_was_parsed() {
    let mut run = Run::session();
    run.connection.takes_turns();
    run.requests([ask::parse("s", "SELECT a"), ask::flush()].concat());
    run.responses(tell::done('1')).gap(Requests);
    for _ in 0..4 {
        run.requests([ask::bind("", "s", 0), ask::execute("", 0), ask::sync()].concat());
        run.responses([tell::done('2'), tell::tag("SELECT 5"), READY()].concat());
    }
    let told = exchanges(&run.events);
    assert!(!told.is_empty());
    assert!(told.iter().all(|it| it.query.text.is_some() && !it.query.fresh));
}

#[test]
fn an_errors_place_is_read_and_forgotten() {
    let mut run = Run::session();
    let place =
        |place: &str| [message(b'E', format!("SERROR\0C42601\0Mno{place}\0\0")), READY()].concat();
    for told in ["\0P17", "", "\0Px", "\0P99999999999"] {
        run.requests(ask::query("SELEC")).responses(place(told));
    }
    let places = exchanges(&run.events).into_iter().map(|exchange| match exchange.end {
        Some(Ok(End::Complete(done))) => done.error.as_ref().unwrap().position,
        end => panic!("{end:?}"),
    });
    assert_eq!(places.collect::<Vec<_>>(), [Some(17), None, None, None]);
}

#[test]
fn rows_are_counted_by_what_came_and_not_by_the_tag_alone() {
    let prepared = |run: &mut Run, described: &[Vec<u8>], tag: &str, rows: usize| {
        let describe = if described.is_empty() { Vec::new() } else { ask::describe('P', "") };
        run.requests([ask::bind("", "s", 1), describe, ask::execute("", 0), ask::sync()].concat());
        run.responses([tell::done('2'), described.concat(), tell::row(1).repeat(rows)].concat());
        run.responses([tell::tag(tag), READY()].concat());
    };
    let (returns, none) = ([tell::columns()], [tell::done('n')]);
    let mut run = Run::session();
    for tag in ["SELECT 7", "INSERT 0 7", "MOVE 7", "CREATE TABLE"] {
        run.requests(ask::query("x")).responses([tell::tag(tag), READY()].concat());
        prepared(&mut run, &none, tag, 0);
        prepared(&mut run, &[], tag, 0);
    }
    for tag in ["SELECT 2", "DELETE 2", "MERGE 2", "EXPLAIN", "FETCH 2"] {
        run.requests(ask::query("x")).responses([tell::columns(), tell::row(1)].concat());
        run.responses([tell::row(1), tell::tag(tag), READY()].concat());
        prepared(&mut run, &returns, tag, 2);
        prepared(&mut run, &[], tag, 2);
    }
    for tag in ["SELECT 0", "UPDATE 0", "FETCH 0"] {
        run.requests(ask::query("x"));
        run.responses([tell::columns(), tell::tag(tag), READY()].concat());
        prepared(&mut run, &returns, tag, 0);
        prepared(&mut run, &[], tag, 0);
        prepared(&mut run, &none, tag, 0);
    }
    let done = exchanges(&run.events).into_iter().map(|exchange| match exchange.end {
        Some(Ok(End::Complete(done))) => (done.returned, done.affected),
        end => panic!("{end:?}"),
    });
    let (none, some) = ((None, None), |rows| (Some(rows), None));
    let changed = |rows| (None, Some(rows));
    let both = |rows| (Some(rows), Some(rows));
    let expected = [
        vec![changed(7); 6],
        vec![none; 6],
        vec![some(2); 3],
        vec![both(2); 6],
        vec![some(2); 6],
        // Whether `SELECT 0` had none to return or made a table is known where somebody asked.
        vec![some(0), some(0), none, changed(0)],
        vec![both(0), both(0), changed(0), changed(0)],
        vec![some(0), some(0), some(0), none],
    ];
    assert_eq!(done.collect::<Vec<_>>(), expected.concat());
}

/// Prepares, and executes with an own `Sync` each.
fn prepared(run: &mut Run, name: &str, rows: usize) {
    run.requests([ask::bind("", name, 1), ask::execute("", 0), ask::sync()].concat());
    run.responses([tell::done('2'), tell::row(1).repeat(rows)].concat());
    run.responses([tell::tag(&format!("SELECT {rows}")), READY()].concat());
}

fn prepare(run: &mut Run, name: &str, text: &str) {
    run.requests([ask::parse(name, text), ask::sync()].concat());
    run.responses([tell::done('1'), READY()].concat());
}

#[test]
fn a_statements_name_stands_for_the_text_that_it_has_now() {
    let mut run = Run::session();
    prepared(&mut run, "before", 1);
    prepare(&mut run, "s", "SELECT a");
    prepared(&mut run, "s", 2);
    run.requests([ask::close('S', "s"), ask::sync()].concat());
    run.responses([tell::done('3'), READY()].concat());
    prepared(&mut run, "s", 3);
    prepare(&mut run, "s", "SELECT b");
    prepared(&mut run, "s", 4);
    for text in ["DEALLOCATE ALL", "/* x */ discard all", "SELECT 1; Deallocate s"] {
        run.requests(ask::query(text)).responses([tell::tag("DEALLOCATE"), READY()].concat());
        prepared(&mut run, "s", 5);
        prepare(&mut run, "s", "SELECT c");
        prepared(&mut run, "s", 6);
    }
    run.close();
    let told = run.told();
    let executes: Vec<&str> =
        told.iter().filter(|told| told.starts_with("Execute")).map(|told| &**told).collect();
    assert_eq!(
        executes,
        [
            "Execute before ? > SELECT 1 =1 Idle",
            "Execute s SELECT a > SELECT 2 =2 Idle",
            "Execute s ? > SELECT 3 =3 Idle",
            "Execute s SELECT b > SELECT 4 =4 Idle",
            "Execute s ? > SELECT 5 =5 Idle",
            "Execute s SELECT c > SELECT 6 =6 Idle",
            "Execute s ? > SELECT 5 =5 Idle",
            "Execute s SELECT c > SELECT 6 =6 Idle",
            "Execute s ? > SELECT 5 =5 Idle",
            "Execute s SELECT c > SELECT 6 =6 Idle",
        ]
    );
}

#[test]
fn a_statement_that_exists_already_keeps_no_other_text() {
    let mut run = Run::session();
    prepare(&mut run, "s", "SELECT a");
    // The server refuses; the client sends on before it knows.
    run.requests([ask::parse("s", "SELECT b"), ask::sync()].concat());
    run.requests([ask::bind("", "s", 1), ask::execute("", 0), ask::sync()].concat());
    run.responses(
        [tell::error("42P05", "prepared statement \"s\" already exists"), READY()].concat(),
    );
    run.responses([tell::done('2'), tell::tag("SELECT 0"), READY()].concat());
    prepare(&mut run, "t", "SELECT c");
    prepare(&mut run, "t", "SELECT c");
    prepared(&mut run, "t", 1);
    assert_eq!(
        run.told(),
        [
            "Execute s ? > SELECT 0 Idle",
            "Prepare s SELECT b > ERROR 42P05 prepared statement ? already exists Idle",
            "Execute t SELECT c > SELECT 1 =1 Idle",
        ]
    );
}

#[test]
fn session_work_that_succeeds_is_counted_and_makes_no_exchange() {
    let mut run = Run::session();
    prepare(&mut run, "s", "SELECT a");
    run.requests([ask::describe('S', "s"), ask::close('S', "s"), ask::sync()].concat());
    run.responses([message(b't', [0; 2]), tell::columns(), tell::done('3'), READY()].concat());
    assert_eq!(run.told(), [""; 0]);
    assert_eq!(run.connection.tally().session_work, 3);
}

#[test]
fn a_prepare_that_fails_is_an_exchange() {
    let mut run = Run::session();
    run.requests([ask::parse("s", "SELEC"), ask::describe('S', "s"), ask::sync()].concat());
    run.responses([tell::error("42601", "syntax error"), READY()].concat());
    prepared(&mut run, "s", 1);
    assert_eq!(
        run.told(),
        ["Prepare s SELEC > ERROR 42601 syntax error Idle", "Execute s ? > SELECT 1 =1 Idle"]
    );
}

#[test]
fn a_function_call_has_no_text() {
    let mut run = Run::session();
    run.requests(message(b'F', [0; 14]));
    run.responses([message(b'V', [0, 0, 0, 0]), READY()].concat()).close();
    assert_eq!(run.told(), ["FunctionCall ? > Idle"]);
}

#[test]
fn what_is_open_ends_with_the_connection() {
    for error in [None, Some(EndError::Reset)] {
        let mut run = Run::session();
        run.requests([ask::unnamed("SELECT a"), ask::unnamed("SELECT b"), ask::sync()].concat());
        run.responses([tell::done('1'), tell::done('2'), tell::columns()].concat());
        run.end(Responses, error);
        assert_eq!(
            run.told(),
            [
                format!("Execute SELECT a > closed true {error:?}"),
                format!("Execute SELECT b > closed false {error:?}"),
            ]
        );
        run.requests(ask::query("SELECT c")).close();
        assert_eq!(run.told().len(), 3);
    }
}

#[test]
fn an_errors_message_has_no_values() {
    let mut run = Run::session();
    run.requests(ask::query("SELECT 'secret'::int"));
    run.responses(
        [tell::error("22P02", "invalid input for integer: \"secret\" 4711"), READY()].concat(),
    );
    assert!(run.told()[0].ends_with("> ERROR 22P02 invalid input for integer: ? ? Idle"));
}

#[test]
fn a_value_of_a_megabyte_is_crossed_by_its_length() {
    let mut run = Run::session();
    let big = [tell::columns(), tell::row(1 << 20)].concat();
    run.requests(ask::query("SELECT big"));
    run.piece(Responses, &big[..64], (big.len() - 64) as u64);
    run.responses([tell::row(1), tell::tag("SELECT 2"), READY()].concat());
    let bind = ask::bind("", "", 1 << 20);
    run.requests(ask::parse("", "INSERT INTO t VALUES ($1)"));
    run.piece(Requests, &bind[..64], (bind.len() - 64) as u64);
    run.requests([ask::execute("", 0), ask::sync()].concat());
    run.responses([tell::done('1'), tell::done('2'), tell::tag("INSERT 0 1"), READY()].concat());
    run.close();
    assert_eq!(
        run.told(),
        [
            "Simple SELECT big > SELECT 2 =2 Idle",
            "Execute INSERT INTO t VALUES ($1) > INSERT 1 =1 Idle",
        ]
    );
    assert_eq!(run.skipped(), 0);
}

/// `Bind` of the unnamed statement with these parameters, each with its format.
fn bind_with(parameters: &[(u8, Option<&[u8]>)]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, parameters.len() as u8];
    body.extend(parameters.iter().flat_map(|(format, _)| [0, *format]));
    body.extend([0, parameters.len() as u8]);
    for (_, value) in parameters {
        body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    body.extend([0, 0]);
    message(b'B', body)
}

#[rstest]
fn parameters_are_kept_only_where_they_are_asked_for(#[values(true, false)] asked_for: bool) {
    let mut run = Run::session();
    if asked_for {
        run.connection.keep_parameters();
    }
    let long = "x".repeat(1000);
    let bind = bind_with(&[
        (0, Some(b"one")),
        (1, Some(&[0, 0, 0, 5])),
        (0, None),
        (0, Some(long.as_bytes())),
        (0, Some(b"")),
    ]);
    let parse = ask::parse("", "SELECT $1, $2, $3, $4, $5");
    run.requests([parse, bind, ask::execute("", 0), ask::sync()].concat());
    // The next one has none.
    run.requests(ask::query("SELECT 6"));
    let kept: Vec<_> = run
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Request { query, .. } => Some(query.parameters.clone()),
            _ => None,
        })
        .collect();
    let text = |text: &str| Parameter::Text(text.into());
    let all = [
        text("one"),
        Parameter::Binary([0, 0, 0, 5].into()),
        Parameter::Null,
        text(&"x".repeat(limits::POSTGRES_PARAMETER_BYTES)),
        text(""),
    ];
    assert_eq!(kept, [asked_for.then(|| all.into()), None]);
}

#[test]
fn of_two_portals_none_is_told_with_the_parameters_of_the_other() {
    let mut run = Run::session();
    run.connection.keep_parameters();
    let bind = |portal: &str, value: &str| {
        let mut bind = bind_with(&[(0, Some(value.as_bytes()))]);
        let body = bind.split_off(5);
        message(b'B', [portal.as_bytes(), &body].concat())
    };
    run.requests([ask::parse("", "SELECT $1"), bind("a", "one"), bind("b", "two")].concat());
    run.requests([ask::execute("a", 0), ask::execute("b", 0), ask::sync()].concat());
    run.requests([bind("a", "three"), ask::execute("a", 0), ask::sync()].concat());
    let told = exchanges(&run.events).into_iter().map(|exchange| exchange.query.parameters);
    let three = Parameter::Text("three".into());
    assert_eq!(told.collect::<Vec<_>>(), [None, None, Some([three].into())]);
}

#[test]
fn of_a_cut_bind_the_parameters_that_were_captured_are_kept() {
    let whole = [
        bind_with(&[(0, Some(b"one")), (0, Some(&[b'x'; 9000])), (0, Some(b"two"))]),
        ask::execute("", 0),
        ask::sync(),
    ]
    .concat();
    for cut in 0..200 {
        let mut run = Run::session();
        run.connection.keep_parameters();
        run.requests(ask::parse("", "SELECT $1, $2, $3")).cut(Requests, &whole, cut);
        for event in &run.events {
            if let Event::Request { query, .. } = event
                && let Some(kept) = &query.parameters
            {
                assert!(
                    [&[][..], &[Parameter::Text("one".into())]].contains(&&**kept),
                    "{cut}: {kept:?}"
                );
            }
        }
    }
}
