//! What is told around a loss, on a connection met in the middle, and of messages that were cut: one rule
//! at a time.

use rstest::rstest;

use super::*;

const LONG: &str = "SELECT a, b, c, d, e, f, g, h, i, j, k FROM t WHERE id = $1 AND x = 'secret'";

fn begin(bytes: usize) -> &'static str {
    LONG.get(..bytes).unwrap()
}

#[test]
fn a_client_that_takes_turns_is_told_again_after_two_rounds() {
    let mut run = Run::session();
    run.connection.takes_turns();
    run.round("SELECT 1", 1).gap(Responses).round("SELECT 2", 2).round("SELECT 3", 3);
    run.round("SELECT 4", 4).close();
    assert_eq!(
        run.told(),
        ["Execute SELECT 1 > SELECT 1 =1 Idle", "Execute SELECT 4 > SELECT 4 =4 Idle"]
    );
}

#[test]
fn one_that_may_pipeline_is_told_again_after_a_trial() {
    let mut run = Run::session();
    run.round("SELECT 1", 1).gap(Requests);
    // What was lost asked for 2 rows: from there on two requests are always under way.
    for number in 3..9 {
        run.requests([ask::unnamed(&format!("SELECT {number}")), ask::sync()].concat());
        run.responses([tell::unnamed(number - 1), tell::ready('I')].concat());
    }
    run.close();
    assert_eq!(run.told(), ["Execute SELECT 1 > SELECT 1 =1 Idle"]);
}

#[test]
fn any_other_is_told_again_after_two_quiet_moments() {
    let mut run = Run::session();
    run.simple("SELECT 1", 1).gap(Responses).simple("SELECT 2", 2).simple("SELECT 3", 3);
    run.idle().simple("SELECT 4", 4).simple("SELECT 5", 5).idle().simple("SELECT 6", 6);
    // From here on it may pipeline again.
    run.requests([ask::query("SELECT 7"), ask::query("SELECT 8")].concat());
    run.responses([tell::rows(7), tell::ready('I'), tell::rows(8), tell::ready('I')].concat())
        .close();
    assert_eq!(
        run.told(),
        [
            "Simple SELECT 1 > SELECT 1 =1 Idle",
            "Simple SELECT 6 > SELECT 6 =6 Idle",
            "Simple SELECT 7 > SELECT 7 =7 Idle",
            "Simple SELECT 8 > SELECT 8 =8 Idle",
        ]
    );
}

#[test]
fn the_caller_can_say_that_the_client_takes_turns() {
    let mut run = Run::new(false);
    run.connection.takes_turns();
    run.simple("SELECT 1", 1).simple("SELECT 2", 2).simple("SELECT 3", 3).close();
    assert_eq!(run.told(), ["Simple SELECT 3 > SELECT 3 =3 Idle"]);
}

#[rstest]
#[case([ask::unnamed("SELECT 1"), ask::sync()].concat())]
#[case([ask::bind("", "s", 1), ask::describe('P', ""), ask::execute("", 0), ask::sync()].concat())]
fn drivers_that_likely_take_turns_are_on_trial_behind_two_rounds(#[case] request: Vec<u8>) {
    let mut run = Run::new(false);
    run.simple("SELECT 1", 1).requests(request).responses(tell::ready('I'));
    run.simple("SELECT 2", 2).simple("SELECT 3", 3);
    assert_eq!(run.connection.on_trial(), Some(0));
    assert!(run.connection.likely_takes_turns());
    run.idle().simple("SELECT 4", 4).idle().simple("SELECT 5", 5).close();
    assert_eq!(run.told(), ["Simple SELECT 5 > SELECT 5 =5 Idle"]);
}

#[test]
fn which_is_over_when_times_show_it() {
    let mut run = Run::new(false);
    run.round("SELECT 1", 1).round("SELECT 2", 2).round("SELECT 3", 3);
    run.step(|connection, _, out| connection.nothing_owed(out));
    run.round("SELECT 4", 4).gap(Responses);
    run.round("SELECT 5", 5).round("SELECT 6", 6).round("SELECT 7", 7);
    run.step(|connection, _, out| connection.nothing_owed(out));
    run.round("SELECT 8", 8).close();
    assert_eq!(
        run.told(),
        ["Execute SELECT 4 > SELECT 4 =4 Idle", "Execute SELECT 8 > SELECT 8 =8 Idle"]
    );
}

#[rstest]
#[case([ask::parse("__asyncpg_stmt_1__", "SELECT 1"), ask::describe('S', "x"), ask::flush()].concat())]
#[case([ask::bind("", "__asyncpg_stmt_1__", 1), ask::execute("", 0), ask::sync()].concat())]
fn a_driver_that_takes_turns_is_known_by_what_they_send(#[case] request: Vec<u8>) {
    let mut run = Run::new(false);
    run.simple("SELECT 1", 1).requests(request).responses(tell::ready('I'));
    run.simple("SELECT 2", 2).simple("SELECT 3", 3).simple("SELECT 4", 4).close();
    assert_eq!(run.told().last().map(|told| &**told), Some("Simple SELECT 4 > SELECT 4 =4 Idle"));
}

#[rstest]
#[case([ask::parse("a", "SELECT 1"), ask::describe('S', "a"), ask::flush()].concat())]
#[case([ask::bind("", "a", 1), ask::execute("", 0), ask::sync()].concat())]
#[case([ask::unnamed("SELECT 1"), ask::unnamed("SELECT 2"), ask::sync()].concat())]
#[case(ask::unnamed("SELECT 1"))]
fn others_are_not(#[case] request: Vec<u8>) {
    let mut run = Run::new(false);
    run.requests(request).responses([tell::done('1'), tell::ready('I')].concat());
    run.simple("SELECT 2", 2).simple("SELECT 3", 3).simple("SELECT 4", 4).close();
    assert_eq!(run.told(), [""; 0]);
}

#[test]
fn postgres_js_takes_no_turns_whatever_it_sends() {
    let mut run = Run::new(true);
    run.requests(ask::startup(&[("user", "bob"), ("application_name", "postgres.js")]));
    run.responses(tell::authenticated()).round("SELECT 1", 1).gap(Responses);
    run.round("SELECT 2", 2).round("SELECT 3", 3).round("SELECT 4", 4).close();
    assert_eq!(run.told(), ["Execute SELECT 1 > SELECT 1 =1 Idle"]);
}

#[test]
fn a_client_seen_to_pipeline_takes_no_turns() {
    let request = |text: &str| [ask::unnamed(text), ask::sync()].concat();
    let mut run = Run::session();
    run.round("SELECT 1", 1).requests(request("SELECT 2")).requests(request("SELECT 3"));
    for rows in [2, 3] {
        run.responses([tell::unnamed(rows), tell::ready('I')].concat());
    }
    run.gap(Responses).round("SELECT 4", 4).round("SELECT 5", 5).round("SELECT 6", 6).close();
    assert_eq!(run.told().len(), 3);
}

#[test]
fn steady_traffic_of_two_requests_at_a_time_is_never_mispaired() {
    let mut run = Run::new(false);
    // The answer to what was asked before the meeting comes to each.
    for n in 1..30 {
        run.simple(&format!("SELECT /* n={n} */"), n - 1);
    }
    run.close();
    assert_eq!(run.told(), [""; 0]);
}

/// As of node-postgres in its pipeline mode, or of psycopg's with a `Sync` to each.
#[test]
fn nor_where_each_is_made_as_those_make_it_that_take_turns() {
    let mut run = Run::new(false);
    for n in 1..200 {
        run.round(&format!("SELECT /* n={n} */"), n - 1);
    }
    assert_eq!(run.told(), [""; 0]);
    // A third one shows it, and no quiet moment makes it likely any more.
    run.requests([ask::unnamed("SELECT 1"), ask::sync()].concat()).round("SELECT 2", 0).idle();
    run.round("SELECT 3", 0).close();
    assert_eq!(run.told(), [""; 0]);
    assert!(!run.connection.likely_takes_turns());
}

#[test]
fn a_quiet_moment_with_something_sent_before_begins_nothing() {
    let mut run = Run::new(false);
    run.simple("SELECT 1", 1);
    // It takes long.
    run.requests(ask::query("SELECT 2")).idle();
    run.responses([tell::rows(2), tell::ready('I')].concat());
    run.simple("SELECT 3", 3).idle().simple("SELECT 4", 4).idle().simple("SELECT 5", 5).close();
    assert_eq!(run.told(), ["Simple SELECT 5 > SELECT 5 =5 Idle"]);
}

#[test]
fn a_trial_begins_behind_any_answer_and_the_callers_word_ends_it() {
    let mut run = Run::new(false);
    run.simple("SELECT 1", 1).requests(ask::query("SELECT 2"));
    assert_eq!(run.connection.on_trial(), Some(1));
    // One was owed.
    run.responses([tell::rows(2), tell::ready('I'), tell::rows(3), tell::ready('I')].concat());
    assert_eq!(run.connection.on_trial(), None);
    run.step(|connection, _, out| connection.nothing_owed(out));
    run.simple("SELECT 4", 4);
    assert_eq!(run.connection.on_trial(), Some(0));
    run.step(|connection, _, out| connection.nothing_owed(out));
    run.simple("SELECT 5", 5).close();
    assert_eq!(run.told(), ["Simple SELECT 5 > SELECT 5 =5 Idle"]);
}

#[test]
fn a_trial_in_which_an_answer_comes_unasked_is_over() {
    let mut run = Run::new(false);
    run.idle().simple("SELECT 1", 1).responses([tell::rows(9), tell::ready('I')].concat());
    run.idle().simple("SELECT 2", 2).simple("SELECT 3", 3).close();
    assert_eq!(run.told(), [""; 0]);
}

/// Bytes that were captured of a long answer, and whether those at its end were.
fn cut_answer(run: &mut Run, tail: bool) {
    run.requests([ask::unnamed("SELECT 9"), ask::sync()].concat());
    let answer = [tell::unnamed(9), tell::ready('T')].concat();
    if tail {
        run.cut(Responses, &answer, 64);
    } else {
        run.piece(Responses, &answer[..64], (answer.len() - 64) as u64);
    }
}

#[rstest]
#[case(true)]
#[case(false)]
fn an_answer_that_was_cut_is_over_when_the_next_request_begins(#[case] tail: bool) {
    let mut run = Run::session();
    cut_answer(&mut run, tail);
    assert_eq!(run.told(), ["Execute SELECT 9 > open"]);
    run.round("SELECT 2", 2).close();
    let end = if tail { "about InTransaction" } else { "about " };
    assert_eq!(
        run.told(),
        [&*format!("Execute SELECT 9 > {end}"), "Execute SELECT 2 > SELECT 2 =2 Idle"]
    );
    assert_eq!(run.skipped(), 0);
}

#[test]
fn an_end_that_comes_in_pieces_is_an_end() {
    for last in 1..19 {
        let mut run = Run::session();
        run.requests([ask::unnamed("SELECT 9"), ask::sync()].concat());
        let answer = [tell::unnamed(9), tell::ready('T')].concat();
        let (begin, end) = answer.split_at(answer.len() - 40);
        let (end, last) = end.split_at(end.len() - last);
        run.piece(Responses, &begin[..64], (begin.len() - 64) as u64)
            .responses(end)
            .responses(last);
        run.round("SELECT 2", 2).close();
        assert_eq!(run.told()[0], "Execute SELECT 9 > SELECT 9 =9 InTransaction", "{last:?}");
    }
}

#[test]
fn whose_end_was_captured_with_its_tag_is_complete() {
    let mut run = Run::session();
    run.requests([ask::unnamed("SELECT 9"), ask::sync()].concat());
    let answer = [tell::unnamed(9), tell::ready('T')].concat();
    let (begin, end) = answer.split_at(answer.len() - 40);
    run.piece(Responses, &begin[..64], (begin.len() - 64) as u64).responses(end);
    run.round("SELECT 2", 2).close();
    assert_eq!(
        run.told(),
        ["Execute SELECT 9 > SELECT 9 =9 InTransaction", "Execute SELECT 2 > SELECT 2 =2 Idle"]
    );
}

#[test]
fn an_answer_that_was_cut_is_abandoned_where_the_client_may_have_pipelined() {
    let mut run = Run::session();
    run.requests(ask::query("SELECT 9"));
    run.piece(Responses, &tell::rows(9)[..40], 100);
    run.simple("SELECT 2", 2).close();
    assert_eq!(run.told(), ["Simple SELECT 9 > abandoned: Unpaired"]);
}

#[test]
fn at_a_quiet_moment_what_was_cut_is_over_unless_its_end_would_have_been_seen() {
    for (seen, told) in [(false, "Simple SELECT 9 > about "), (true, "Simple SELECT 9 > open")] {
        let mut run = Run::session();
        run.requests(ask::query("SELECT 9")).piece(Responses, &tell::rows(9)[..40], 100);
        if seen {
            run.responses("not the end");
        }
        run.idle();
        assert_eq!(run.told(), [told]);
    }
}

#[test]
fn of_a_request_cut_behind_its_text_the_execute_is_told_when_it_is_bound() {
    for budget in [15, 40, 64] {
        let mut run = Run::session();
        run.round("SELECT 1", 1);
        run.cut(Requests, [ask::unnamed(LONG), ask::sync()].concat(), budget);
        assert_eq!(run.told().len(), 1);
        run.responses([tell::unnamed(2), tell::ready('I')].concat()).round("SELECT 3", 3).close();
        let told = run.told();
        let text = begin(budget - 6);
        assert_eq!(told[1], format!("Execute {text}... > SELECT 2 =2 Idle"));
        assert_eq!(told[2], "Execute SELECT 3 > SELECT 3 =3 Idle");
        assert_eq!(run.skipped(), 0);
    }
}

#[test]
fn a_request_cut_behind_its_text_that_fails_is_told() {
    for prepared in [0, 1] {
        let mut run = Run::session();
        run.round("SELECT 1", 1).cut(Requests, [ask::unnamed(LONG), ask::sync()].concat(), 40);
        run.responses(tell::done('1').repeat(prepared));
        run.responses([tell::error("42P01", "no such table"), tell::ready('I')].concat());
        run.round("SELECT 3", 3).close();
        let text = begin(34);
        assert_eq!(
            run.told()[1..],
            [
                format!("Prepare {text}... > ERROR 42P01 no such table Idle"),
                "Execute SELECT 3 > SELECT 3 =3 Idle".to_owned(),
            ]
        );
    }
}

#[test]
fn a_prepare_that_was_cut_is_no_exchange() {
    let mut run = Run::session();
    run.connection.takes_turns();
    let prepare = [ask::parse("s", LONG), ask::describe('S', "s")].concat();
    let prepared = [tell::done('1'), message(b't', [0; 2]), tell::columns()].concat();
    for end in [ask::sync(), ask::flush()] {
        run.cut(Requests, [prepare.clone(), end.clone()].concat(), 40);
        run.responses(&prepared);
        if end == ask::sync() {
            run.responses(tell::ready('I'));
        }
        run.requests([ask::bind("", "t", 0), ask::execute("", 0), ask::sync()].concat());
        run.responses([tell::done('2'), tell::tag("SELECT 4"), tell::ready('I')].concat());
    }
    run.requests([ask::bind("", "s", 0), ask::execute("", 0), ask::sync()].concat());
    run.responses([tell::done('2'), tell::tag("SELECT 5"), tell::ready('I')].concat()).close();
    assert_eq!(
        run.told(),
        [
            "Execute t ? > SELECT 4 =4 Idle".to_owned(),
            "Execute t ? > SELECT 4 =4 Idle".to_owned(),
            format!("Execute s {}... > SELECT 5 =5 Idle", begin(33)),
        ]
    );
    assert_eq!(run.skipped(), 0);
}

#[test]
fn behind_an_execute_that_was_lost_alone_the_client_still_takes_turns() {
    let mut run = Run::session();
    run.connection.takes_turns();
    run.round("SELECT 1", 1);
    for rows in 2..5 {
        let asked = [ask::parse("", &format!("SELECT {rows}")), ask::bind("", "", 1)].concat();
        run.piece(Requests, &asked, 15);
        let changed = [tell::done('2'), tell::tag(&format!("UPDATE {rows}")), tell::ready('I')];
        run.responses([tell::done('1'), changed.concat()].concat());
    }
    run.close();
    let told = |rows: usize| format!("Execute SELECT {rows} > UPDATE {rows} ={rows} Idle");
    assert_eq!(run.told()[1..], [told(2), told(3), told(4)]);
}

/// A statement that is executed for each of many rows, in several writes and one turn. Row `n` changes `n` rows.
#[rstest]
#[case::asyncpg(false)]
#[case::psycopg(true)]
fn of_one_executed_many_times_in_a_turn_nothing_wrong_is_told(
    #[case] parses: bool,
    #[values(20, 40, 64, 100, 300)] budget: usize,
    #[values(1, 3, 8)] heard: usize,
) {
    let changed = |rows: std::ops::Range<usize>| {
        rows.map(|row| [tell::done('2'), tell::tag(&format!("UPDATE {row}"))].concat())
    };
    let mut run = Run::session();
    run.connection.takes_turns();
    run.round("SELECT 1 /* n=1 */", 1);
    let one = [ask::bind("", "s", 9), ask::execute("", 0)].concat();
    let text = ask::parse("s", "UPDATE t SET a = $1");
    if parses {
        run.cut(Requests, [text, one.repeat(10)].concat(), budget).responses(tell::done('1'));
    } else {
        run.requests([text, ask::sync()].concat())
            .responses([tell::done('1'), tell::ready('I')].concat());
        run.cut(Requests, one.repeat(10), budget);
    }
    run.responses(changed(0..heard).collect::<Vec<_>>().concat());
    run.requests(one.repeat(10));
    run.responses(changed(heard..15).collect::<Vec<_>>().concat());
    run.requests([one.repeat(10), ask::sync()].concat());
    run.responses([changed(15..30).collect::<Vec<_>>().concat(), tell::ready('I')].concat());
    for rows in 2..6 {
        run.round(&format!("SELECT {rows} /* n={rows} */"), rows);
    }
    run.close();
    let mut executed = 0;
    for exchange in exchanges(&run.events) {
        exchange.assert_paired_right(&|| format!("{:?}", run.told()));
        if let Some(Ok(End::Complete(done))) = &exchange.end
            && let [tag] = &done.tags[..]
            && &*tag.command == "UPDATE"
        {
            assert_eq!(tag.rows, Some(executed), "{:?}", run.told());
            executed += 1;
        }
    }
    // What was seen is told, and the rest is counted.
    let seen = (budget / one.len()).min(if parses { 1 } else { 10 });
    assert!(executed >= seen as u64 && executed <= 10 && run.skipped() > 0, "{:?}", run.told());
    assert_eq!(run.told().last().unwrap(), "Execute SELECT 5 /* n=5 */ > SELECT 5 =5 Idle");
}

#[test]
fn requests_and_answers_that_are_both_cut_are_told() {
    let mut run = Run::session();
    run.round("SELECT 1", 1);
    for _ in 0..3 {
        run.cut(Requests, [ask::unnamed(LONG), ask::sync()].concat(), 40);
        run.cut(Responses, [tell::unnamed(9), tell::ready('I')].concat(), 40);
    }
    run.round("SELECT 3", 3).close();
    let cut = format!("Execute {}... > about Idle", begin(34));
    let first = "Execute SELECT 1 > SELECT 1 =1 Idle";
    assert_eq!(run.told(), [first, &cut, &cut, &cut, "Execute SELECT 3 > SELECT 3 =3 Idle"]);
    assert_eq!(run.skipped(), 0);
}

#[test]
fn the_data_of_a_copy_may_be_lost() {
    for begun in [false, true] {
        let mut run = Run::session();
        run.connection.takes_turns();
        run.requests(ask::query("COPY t FROM STDIN"));
        if begun {
            run.responses(message(b'G', [0; 3]));
        }
        let data = [message(b'd', [b'x'; 100]).repeat(5), message(b'c', "")].concat();
        run.cut(Requests, data, 30);
        if !begun {
            run.responses(message(b'G', [0; 3]));
        }
        run.responses([tell::tag("COPY 5"), tell::ready('I')].concat())
            .round("SELECT 3", 3)
            .close();
        assert_eq!(
            run.told(),
            ["Simple COPY t FROM STDIN > COPY 5 =5 Idle", "Execute SELECT 3 > SELECT 3 =3 Idle"]
        );
        assert_eq!(run.skipped(), 0);
    }
}

#[test]
fn named_statements_outlive_a_loss_and_unnamed_ones_do_not() {
    let mut run = Run::session();
    run.requests([ask::parse("s", "SELECT a"), ask::parse("", "SELECT b"), ask::sync()].concat());
    run.responses([tell::done('1'), tell::done('1'), tell::ready('I')].concat());
    run.connection.takes_turns();
    run.gap(Requests);
    // The first two are the rounds that pairing takes.
    for name in ["s", "s", "s", ""] {
        run.requests([ask::bind("", name, 0), ask::execute("", 0), ask::sync()].concat());
        run.responses([tell::done('2'), tell::tag("SELECT 5"), tell::ready('I')].concat());
    }
    assert_eq!(
        run.told(),
        ["Execute s SELECT a > SELECT 5 =5 Idle", "Execute ? > SELECT 5 =5 Idle"]
    );
}

#[test]
fn bytes_that_come_again_are_skipped() {
    let mut run = Run::session();
    let request = ask::query("SELECT 1");
    run.requests(&request);
    run.offsets[0] -= request.len() as u64;
    run.requests(&request).responses([tell::rows(1), tell::ready('I')].concat()).close();
    assert_eq!(run.told(), ["Simple SELECT 1 > SELECT 1 =1 Idle"]);
    assert_eq!(run.skipped(), request.len() as u64);
}

#[test]
fn answers_whose_requests_never_come_are_dropped() {
    let mut run = Run::session();
    run.responses([tell::rows(1), tell::ready('I')].concat()).idle();
    run.requests(ask::query("SELECT 1")).close();
    assert_eq!(run.told(), [""; 0]);

    let mut run = Run::session();
    for _ in 0..limits::POSTGRES_HELD_PIECES + 1 {
        run.responses(tell::rows(1));
    }
    run.requests(ask::query("SELECT 1")).responses([tell::rows(1), tell::ready('I')].concat());
    run.close();
    assert_eq!(run.told(), [""; 0]);
}

#[test]
fn a_startup_that_is_cut_or_lost_hides_no_later_request_for_good() {
    let mut run = Run::new(true);
    run.hole(Requests, 50).hole(Responses, 300);
    for rows in 1..4 {
        run.round(&format!("SELECT {rows}"), rows).idle();
    }
    run.round("SELECT 4", 4).close();
    assert_eq!(run.told(), ["Execute SELECT 4 > SELECT 4 =4 Idle"]);
}

/// What is told of `SELECT 3`, whose answer has three rows: nothing, or that.
fn assert_told_right(run: &mut Run) {
    run.round("SELECT 8", 8).round("SELECT 8", 8).round("SELECT 8", 8).close();
    for exchange in exchanges(&run.events) {
        let Some(Ok(End::Complete(done) | End::Inferred(done))) = &exchange.end else { continue };
        let text = exchange.query.text.as_deref().unwrap_or("SELECT 3");
        let due = text.strip_prefix("SELECT ").and_then(|rows| rows.parse().ok()).unwrap_or(3);
        assert!(rows(done).is_none_or(|told| told == due), "{}", exchange.tell());
    }
}

#[test]
fn a_request_that_was_lost_together_with_the_next_one_gets_no_answer_of_that() {
    let (asked, answer) = ([ask::unnamed("SELECT 3"), ask::sync()].concat(), tell::unnamed(3));
    let next = [tell::unnamed(5), tell::ready('I')].concat();
    for kept in 0..asked.len() {
        for answered in 0..answer.len() {
            let mut run = Run::session();
            run.connection.takes_turns();
            run.requests(&asked[..kept]).hole(Requests, (asked.len() - kept + 40) as u64);
            run.piece(Responses, &answer[..answered], (answer.len() + 6 - answered) as u64);
            run.responses(&next);
            assert_told_right(&mut run);
        }
    }
}

#[test]
fn nor_one_that_was_lost_in_part_where_its_answer_was_lost() {
    let asked = [ask::unnamed("SELECT 3"), ask::sync()].concat();
    let answer = [tell::unnamed(3), tell::ready('I')].concat();
    for kept in 0..asked.len() {
        for answered in 0..answer.len() {
            let mut run = Run::session();
            run.connection.takes_turns();
            run.piece(Requests, &asked[..kept], (asked.len() - kept) as u64);
            run.responses(&answer[..answered]).hole(Responses, (answer.len() - answered) as u64);
            run.round("SELECT 5", 5);
            assert_told_right(&mut run);
        }
    }
}

#[test]
fn an_answers_end_is_its_own_only_if_the_next_request_is_seen() {
    let mut run = Run::session();
    run.requests(ask::query("SELECT 3"));
    run.piece(Responses, &tell::rows(3)[..30], 60).hole(Requests, 30);
    run.responses([tell::rows(5), tell::ready('I')].concat()).close();
    assert_eq!(run.told(), ["Simple SELECT 3 > about "]);
}
