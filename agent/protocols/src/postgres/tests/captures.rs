//! Recorded sessions (`testdata/postgres`): whole, at every prefix, split at every byte, with holes of
//! every kind at every position. What a damaged run tells must be part of what the whole one does.

use rstest::rstest;

use super::*;
use crate::testing::{Damage, records};

impl Run {
    /// Nothing here that the whole run doesn't tell alike.
    fn assert_part_of(&self, whole: &[Exchange], context: &dyn Fn() -> String) {
        for exchange in exchanges(&self.events) {
            exchange.assert_paired_right(context);
            let text = exchange.query.text.as_deref();
            let asked_alike = |original: &&Exchange| match text {
                None => true,
                Some(text) if exchange.query.cut => {
                    original.query.text.as_deref().is_some_and(|whole| whole.starts_with(text))
                }
                text => original.query.text.as_deref() == text,
            };
            let mut originals = whole.iter().filter(asked_alike).peekable();
            assert!(
                originals.peek().is_some(),
                "{} was never there, {}",
                exchange.tell(),
                context()
            );
            let ended_alike = originals.any(|original| match (&exchange.end, &original.end) {
                (Some(Ok(End::Complete(done))), Some(Ok(End::Complete(whole)))) => {
                    done.tags.iter().all(|tag| whole.tags.contains(tag))
                        && done.statements == whole.statements
                        && part_of(done.returned, whole.returned)
                        && (done.affected == whole.affected
                            || (done.affected.is_none() && done.tags.len() < whole.tags.len()))
                        && alike(done.error.as_deref(), whole.error.as_deref(), done.transaction)
                        && (done.transaction.is_none() || done.transaction == whole.transaction)
                }
                (Some(Ok(End::Inferred(done))), Some(Ok(End::Complete(whole)))) => {
                    done.tags.iter().all(|tag| whole.tags.contains(tag))
                        && done.returned.unwrap_or(0) <= whole.returned.unwrap_or(0)
                        && done.affected.unwrap_or(0) <= whole.affected.unwrap_or(0)
                        && (done.error.is_none()
                            || alike(done.error.as_deref(), whole.error.as_deref(), None))
                }
                (Some(Ok(End::NotExecuted)), whole) => matches!(whole, Some(Ok(End::NotExecuted))),
                (Some(Ok(End::Closed { .. }) | Err(_)), _) => true,
                _ => false,
            });
            assert!(ended_alike, "{} never ended so, {}", exchange.tell(), context());
        }
    }
}

/// Rows as they were, or not known.
fn part_of(rows: Option<u64>, whole: Option<u64>) -> bool {
    rows.is_none() || rows == whole
}

/// An error of which all may be there, or less; none where what came last was lost.
fn alike(
    error: Option<&PgError>,
    whole: Option<&PgError>,
    transaction: Option<Transaction>,
) -> bool {
    let (error, whole) = match (error, whole) {
        (Some(error), Some(whole)) => (error, whole),
        (None, None) => return true,
        (None, Some(_)) => return transaction.is_none(),
        (Some(_), None) => return false,
    };
    let text = |part: &str, whole: &str| part.is_empty() || part == whole;
    text(&error.severity, &whole.severity)
        && text(&error.sqlstate, &whole.sqlstate)
        && text(&error.message, &whole.message)
        && text(&error.constraint, &whole.constraint)
}

/// Every capture with what a whole run of it tells.
macro_rules! captures {
    ($($name:ident: $file:literal => $told:expr;)*) => {
        pub(super) const CAPTURES: &[(&str, &[u8])] =
            &[$(($file, include_bytes!(concat!("../../../testdata/postgres/", $file)))),*];
        $(#[test]
        fn $name() {
            let (_, capture) = CAPTURES.iter().find(|(name, _)| *name == $file).unwrap();
            let whole = Run::whole(&records(capture));
            assert_eq!(whole.told(), $told);
            assert_eq!(whole.skipped(), 0);
            exchanges(&whole.events).iter().for_each(|it| it.assert_paired_right(&String::new));
        })*
    };
}

captures! {
    psql: "psql.pg" => [
        "Simple SELECT generate_series(1, 3) /* n=3 */ > SELECT 3 =3 Idle",
        "Simple BEGIN; SELECT 1; COMMIT > BEGIN SELECT 1 COMMIT =1 Idle",
    ];
    node_pg: "node-pg.pg" => [
        "Simple SELECT generate_series(1, 3) AS a -- n=3 > SELECT 3 =3 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=4 */ > SELECT 4 =4 Idle",
        "Execute five SELECT generate_series(1, $1::int) /* n=5 */ > SELECT 5 =5 Idle",
        "Execute five SELECT generate_series(1, $1::int) /* n=5 */ > SELECT 5 =5 Idle",
        "Simple BEGIN > BEGIN InTransaction",
        "Simple CREATE TEMP TABLE items (id int PRIMARY KEY, t text) > CREATE TABLE InTransaction",
        "Execute INSERT INTO items SELECT i, $1 FROM generate_series(1, 6) i /* n=6 */ > INSERT 6 =6 InTransaction",
        "Simple INSERT INTO items VALUES (1, 'secret') > ERROR 23505 duplicate key value violates unique constraint ? Failed",
        "Simple ROLLBACK > ROLLBACK Idle",
        "Execute SELECT $1::int / 0 > ERROR 22012 division by zero Idle",
        "Simple SELECT generate_series(1, 7); SELECT 1 WHERE false; SELECT generate_series(1, 2) /* n=9 */ > SELECT 7 SELECT 0 SELECT 2 =9 Idle",
        "Simple  > Idle",
        "Execute SELECT no_such_column, $1 > ERROR 42703 column ? does not exist Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=8 */ > SELECT 8 =8 Idle",
    ];
    postgres_js: "postgres-js.pg" => [
        "Execute 777777777781 SELECT generate_series(1, $1::int) /* n=1 */ > SELECT 1 =1 Idle",
        "Execute 777777777782 SELECT $1::int / 0 > ERROR 22012 division by zero Idle",
        "Execute 777777777783 SELECT generate_series(1, $1::int) /* n=2 */ > SELECT 2 =2 Idle",
        "Execute 777777777784 SELECT generate_series(1, $1::int) /* n=3 */ > SELECT 3 =3 Idle",
        "Execute 777777777781 SELECT generate_series(1, $1::int) /* n=1 */ > SELECT 1 =1 Idle",
        "Execute 777777777785 SELECT generate_series(1, $1::int) /* n=4 */ > SELECT 4 =4 Idle",
        "Simple SELECT generate_series(1, 5) /* n=5 */ > SELECT 5 =5 Idle",
        "Simple begin  > BEGIN InTransaction",
        "Execute 777777777786 SELECT generate_series(1, $1::int) /* n=6 */ > SELECT 6 =6 InTransaction",
        "Execute 777777777787 SELECT generate_series(1, $1::int) /* n=7 */ > SELECT 7 =7 InTransaction",
        "Execute 777777777784 SELECT generate_series(1, $1::int) /* n=3 */ > SELECT 3 =3 InTransaction",
        "Execute 777777777788 commit > COMMIT Idle",
    ];
    asyncpg: "asyncpg.pg" => [
        "Simple SELECT generate_series(1, 2) /* n=2 */ > SELECT 2 =2 Idle",
        "Execute __asyncpg_stmt_1__ SELECT generate_series(1, $1::int) /* n=3 */ > SELECT 3 =3 Idle",
        "Execute __asyncpg_stmt_1__ SELECT generate_series(1, $1::int) /* n=3 */ > SELECT 3 =3 Idle",
        "Simple CREATE TEMP TABLE t (id int, s text) > CREATE TABLE Idle",
        "Execute __asyncpg_stmt_2__ INSERT INTO t VALUES ($1, $2) /* n=1 */ > INSERT 1 =1",
        "Execute __asyncpg_stmt_2__ INSERT INTO t VALUES ($1, $2) /* n=1 */ > INSERT 1 =1",
        "Execute __asyncpg_stmt_2__ INSERT INTO t VALUES ($1, $2) /* n=1 */ > INSERT 1 =1",
        "Execute __asyncpg_stmt_2__ INSERT INTO t VALUES ($1, $2) /* n=1 */ > INSERT 1 =1 Idle",
        "Simple COPY \"t\" FROM STDIN (FORMAT binary)  > COPY 30 =30 Idle",
        "Prepare __asyncpg_stmt_4__ SELECT * FROM no_such_table > ERROR 42P01 relation ? does not exist Idle",
        "Simple BEGIN; > BEGIN InTransaction",
        "Execute __asyncpg_stmt_5__ @__asyncpg_portal_6__ SELECT generate_series(1, 10) > suspended =4 InTransaction",
        "Execute __asyncpg_stmt_5__ @__asyncpg_portal_6__ SELECT generate_series(1, 10) > suspended =4 InTransaction",
        "Execute __asyncpg_stmt_5__ @__asyncpg_portal_6__ SELECT generate_series(1, 10) > SELECT 2 =2 InTransaction",
        "Simple COMMIT; > COMMIT Idle",
        "Execute __asyncpg_stmt_7__ LISTEN \"news\" > LISTEN Idle",
        "Simple NOTIFY news, 'secret' > NOTIFY Idle",
        "Execute __asyncpg_stmt_8__ SELECT generate_series(1, $1::int) /* n=5 */ > SELECT 5 =5 Idle",
    ];
    psycopg: "psycopg.pg" => [
        "Simple SELECT generate_series(1, 2) /* n=2 */ > SELECT 2 =2 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=3 */ > SELECT 3 =3 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=4 */ > SELECT 4 =4",
        "Execute SELECT generate_series(1, $1::int) /* n=5 */ > SELECT 5 =5",
        "Execute SELECT generate_series(1, $1::int) /* n=6 */ > SELECT 6 =6 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=7 */ > SELECT 7 =7",
        "Execute SELECT $1::int / 0 > ERROR 22012 division by zero Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=8 */ > not executed",
        "Simple CREATE TEMP TABLE t (id int PRIMARY KEY, s text) > CREATE TABLE Idle",
        "Simple COPY t FROM STDIN /* n=9 */ > COPY 9 =9 Idle",
        "Simple COPY t TO STDOUT /* n=9 */ > COPY 9 =9 Idle",
        "Simple COPY t FROM STDIN > ERROR 23505 duplicate key value violates unique constraint ? Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=10 */ > SELECT 10 =10 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=11 */ > SELECT 11 =11 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=11 */ > SELECT 11 =11 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=11 */ > SELECT 11 =11 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=11 */ > SELECT 11 =11 Idle",
        "Execute SELECT generate_series(1, $1::int) /* n=11 */ > SELECT 11 =11 Idle",
        "Execute _pg3_0 SELECT generate_series(1, $1::int) /* n=11 */ > SELECT 11 =11 Idle",
        "Execute _pg3_0 SELECT generate_series(1, $1::int) /* n=11 */ > SELECT 11 =11 Idle",
    ];
    psycopg2: "psycopg2.pg" => [
        "Simple BEGIN > BEGIN InTransaction",
        "Simple SELECT generate_series(1, 3) /* n=3 */ > SELECT 3 =3 InTransaction",
        "Simple DO $$ BEGIN RAISE NOTICE 'secret'; END $$ > DO InTransaction",
        "Simple DO $$ BEGIN RAISE EXCEPTION 'secret'; END $$ > ERROR P0001 - Failed",
        "Simple ROLLBACK > ROLLBACK Idle",
        "Simple BEGIN > BEGIN InTransaction",
        "Simple DECLARE \"named\" CURSOR WITHOUT HOLD FOR SELECT generate_series(1, 6) > DECLARE CURSOR InTransaction",
        "Simple FETCH FORWARD ALL FROM \"named\" > FETCH 6 =6 InTransaction",
        "Simple CLOSE \"named\" > CLOSE CURSOR InTransaction",
        "Simple COMMIT > COMMIT Idle",
    ];
    raw: "raw.pg" => [
        "FunctionCall ? > Idle",
        "Prepare bad SELECT nothing FROM nowhere > ERROR 42P01 relation ? does not exist Idle",
        "Execute good SELECT generate_series(1, 3) > suspended =2",
        "Execute good SELECT generate_series(1, 3) > SELECT 1 =1 Idle",
        "Simple CREATE TEMP TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED) > CREATE TABLE Idle",
        "Execute INSERT INTO d VALUES (1), (1) > INSERT 2 ERROR 23505 duplicate key value violates unique constraint ? =2 Idle",
    ];
}

#[test]
fn facts_of_the_captures_are_read() {
    let run = Run::whole(&records(CAPTURES[0].1));
    let text = format!("{:?}", run.facts());
    assert!(
        matches!(
            *run.facts(),
            [
                Fact::Plain(Encryption::Tls),
                Fact::Startup { user: Some(user), database: Some(database), application_name: Some(_) },
                Fact::ServerVersion(_),
                Fact::Backend { process_id: 1.. },
                Fact::Ready,
                Fact::Terminate,
            ] if **user == *"postgres" && **database == *"postgres"
        ),
        "{text}"
    );
    for (_, capture) in CAPTURES {
        let run = Run::whole(&records(capture));
        assert_eq!(run.facts().iter().filter(|fact| matches!(fact, Fact::Ready)).count(), 1);
        assert!(!format!("{:?}", run.facts()).contains("secret"));
    }
    let (_, capture) = CAPTURES.iter().find(|(name, _)| *name == "psycopg2.pg").unwrap();
    assert_eq!(Run::whole(&records(capture)).connection.tally().notices, 1);
    let (_, capture) = CAPTURES.iter().find(|(name, _)| *name == "asyncpg.pg").unwrap();
    assert_eq!(Run::whole(&records(capture)).connection.tally().notifications, 1);
}

/// Every position of short records, some of long ones: they are rows.
fn stride(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(150).max(1)
}

#[test]
fn at_every_prefix_what_is_told_is_part_of_the_whole() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let length = bytes.map_or(0, <[u8]>::len);
            for len in (0..length).step_by(stride(bytes.unwrap_or_default())) {
                let run = Run::prefix(&records, at, len);
                run.assert_part_of(&whole, &|| format!("{name}: {len} bytes of record {at}"));
            }
        }
    }
}

#[test]
fn split_at_every_byte_all_is_told_alike() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for len in (1..bytes.len()).step_by(stride(bytes)) {
                let run = Run::split(&records, at, len);
                assert_eq!(exchanges(&run.events), whole, "{name}: record {at} split at {len}");
            }
        }
        let run = Run::byte_by_byte(&records);
        assert_eq!(exchanges(&run.events), whole, "{name}: byte by byte");
    }
}

#[test]
fn an_answer_that_comes_before_its_request_waits_for_it() {
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for at in 0..records.len() - 1 {
            if !matches!(records[at..at + 2], [(Requests, Some(_)), (Responses, Some(_))]) {
                continue;
            }
            let mut swapped = records.clone();
            swapped.swap(at, at + 1);
            let told = exchanges(&Run::whole(&swapped).events);
            assert_eq!(told, whole, "{name}: records {at} and the next swapped");
        }
    }
}

// 5, 22 and 97 bytes have most of single messages, of groups behind a Bind, and of whole requests.
#[rstest]
#[case(Damage::Hole, 1, 1)]
#[case(Damage::Hole, 5, 5)]
#[case(Damage::Hole, 22, 5)]
#[case(Damage::Hole, 97, 5)]
#[case(Damage::Hole, usize::MAX, 5)]
#[case(Damage::Missing, usize::MAX, 1)]
#[case(Damage::Gap, 46, 7)]
#[case(Damage::Gap, usize::MAX, 7)]
#[case(Damage::Gaps, usize::MAX, 7)]
fn with_damage_at_every_position_nothing_is_told_that_was_not_there(
    #[case] damage: Damage,
    #[case] length: usize,
    #[case] step: usize,
) {
    let mut complete = 0;
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for (at, &(_, bytes)) in records.iter().enumerate() {
            let bytes = bytes.unwrap_or_default();
            for from in (0..bytes.len()).step_by(step * stride(bytes)) {
                let to = from.saturating_add(length).min(bytes.len());
                if matches!(damage, Damage::Missing) && (to < bytes.len() || from == 0) {
                    continue;
                }
                let run = Run::damaged(&records, at, from..to, damage);
                let context = || format!("{name}: record {at}, bytes {from}..{to} {damage:?}");
                run.assert_part_of(&whole, &context);
                complete += exchanges(&run.events)
                    .iter()
                    .filter(|exchange| matches!(exchange.end, Some(Ok(End::Complete { .. }))))
                    .count();
            }
        }
    }
    assert!(complete > 2_000, "what the damage didn't touch is told: {complete}");
}

#[test]
fn met_at_every_record_nothing_is_paired_wrongly() {
    let mut complete = 0;
    for (name, capture) in CAPTURES {
        let records = records(capture);
        let whole = exchanges(&Run::whole(&records).events);
        for at in 0..records.len() {
            let rest = &records[at..];
            let mut run = Run::new(false);
            for (at, part) in rest.chunks(rest.len().div_ceil(3)).enumerate() {
                // Quiet moments behind answers, as all are but those in which a server is slow.
                let quiet = part.iter().rposition(|(direction, _)| *direction == Responses);
                let (before, behind) = part.split_at(quiet.map_or(0, |last| last + 1));
                run.records(before);
                if at < 2 {
                    run.idle();
                }
                run.records(behind);
            }
            run.close();
            run.assert_part_of(&whole, &|| format!("{name}: met at record {at}"));
            complete += run.told().len();
        }
    }
    assert!(complete > 300, "{complete}");
}

#[test]
fn the_fuzz_target_holds_on_every_prefix_of_the_captures() {
    for (_, capture) in CAPTURES {
        for len in (0..capture.len()).step_by(29) {
            fuzz_postgres(&capture[..len]);
        }
    }
}
