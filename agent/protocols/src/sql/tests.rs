//! Statements as applications write them, cut ones, and generated ones whose literals must never show.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[rstest]
#[case("SELECT * FROM wuser_table", "SELECT wuser_table")]
#[case(
    "INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders WHERE order_id = 5",
    "INSERT shipping_details SELECT orders"
)]
#[case("SELECT * FROM songs, artists WHERE songs.artist_id = artists.id", "SELECT songs artists")]
#[case(
    "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)",
    "SELECT SELECT orders customers"
)]
#[case(r#"SELECT * FROM "song list""#, r#"SELECT "song list""#)]
#[case(r#"select "User"."id" from "public"."User" where 1=1"#, "SELECT public.User")]
#[case("INSERT INTO audit (a) VALUES (1), (2)", "INSERT audit")]
#[case("/* c */ -- d\n update only orders set a = 1 from items i where x", "UPDATE orders items")]
#[case("DELETE FROM a USING b WHERE a.x = b.x", "DELETE a b")]
#[case("SELECT schema.fn(1, 'x')", "SELECT schema.fn")]
#[case("SELECT fn((SELECT max(id) FROM t))", "SELECT fn SELECT t")]
#[case("SELECT * FROM fn($1) WHERE x", "SELECT fn")]
#[case("SELECT count(*) FROM t", "SELECT t")]
#[case("SELECT coalesce(a, b)", "SELECT")]
#[case("SELECT 1", "SELECT")]
#[case("SELECT EXISTS(SELECT 1 FROM t)", "SELECT SELECT t")]
#[case("SELECT extract(year FROM d), trim(both 'x' from y) FROM t", "SELECT t")]
#[case("SELECT a IS DISTINCT FROM b FROM t", "SELECT t")]
#[case(
    "SELECT a FROM t WHERE x IS NOT DISTINCT FROM y AND z IN (SELECT z FROM u)",
    "SELECT t SELECT u"
)]
#[case("SELECT * FROM t FOR UPDATE OF t SKIP LOCKED", "SELECT t")]
#[case("SELECT a FROM b UNION ALL SELECT c FROM d", "SELECT b SELECT d")]
#[case(
    "WITH x AS (SELECT * FROM a), y (q) AS (SELECT 1 FROM x) SELECT * FROM x JOIN b ON 1=1 JOIN y USING (q), c",
    "SELECT a b c"
)]
#[case(
    "WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT n FROM t JOIN e ON 1=1) SELECT * FROM t",
    "SELECT e"
)]
#[case(
    "WITH d AS (DELETE FROM q RETURNING *) INSERT INTO a SELECT * FROM d",
    "INSERT a DELETE q SELECT"
)]
#[case("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", "INSERT t")]
#[case(
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "MERGE t s"
)]
#[case("CREATE TABLE IF NOT EXISTS users (id int, b text DEFAULT 'x')", "CREATE TABLE users")]
#[case("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i")]
#[case("CREATE MATERIALIZED VIEW v AS SELECT * FROM t", "CREATE MATERIALIZED VIEW v SELECT t")]
#[case("DROP TABLE a CASCADE", "DROP TABLE a")]
#[case("ALTER USER bob PASSWORD 'secret'", "ALTER USER bob")]
#[case("TRUNCATE TABLE a, b", "TRUNCATE a b")]
#[case("COPY t (a, b) FROM STDIN", "COPY t")]
#[case("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t")]
#[case("CALL do_it(1)", "CALL do_it")]
#[case("EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM t", "EXPLAIN SELECT t")]
#[case("EXPLAIN UPDATE t SET a = 1", "EXPLAIN UPDATE t")]
#[case("DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE SELECT t")]
#[case("BEGIN; SELECT 1 FROM a; SELECT 2 FROM a; COMMIT", "BEGIN; SELECT a; COMMIT")]
#[case("SET application_name = 'x'", "SET")]
#[case(
    "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
    "SELECT pg_advisory_unlock_all; CLOSE; UNLISTEN; RESET"
)]
#[case("SELECT * FROM (VALUES (1), (2)) v JOIN t ON 1=1", "SELECT t")]
#[case("SELECT * FROM a LEFT JOIN LATERAL (SELECT * FROM b) x ON true", "SELECT a SELECT b")]
#[case("hunter2 is my password", "")]
#[case("", "")]
#[case("(SELECT a FROM b) UNION (SELECT c FROM d)", "SELECT b SELECT d")]
#[case("SELECT 'FROM secret', $$ FROM secret $$ FROM t", "SELECT t")]
fn statements_are_summarised(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(summary(text, false).text, expected);
}

#[rstest]
#[case("SELECT * FROM ord", "SELECT")]
#[case("SELECT * FROM orders ", "SELECT orders")]
#[case("SELECT * FROM orders JOIN ite", "SELECT orders")]
#[case("SELECT * FROM public.", "SELECT")]
#[case("SELECT * FROM public.or", "SELECT")]
#[case("SELECT * FROM \"song", "SELECT")]
#[case("SEL", "")]
#[case("SELECT schema.f", "SELECT")]
fn the_last_word_of_a_cut_text_is_no_target(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(summary(text, true).text, expected);
}

#[test]
fn a_summary_ends_at_a_whole_target() {
    let tables: Vec<String> = (0..100).map(|n| format!("table_{n}")).collect();
    let text = format!("SELECT * FROM {}", tables.join(", "));
    let summary = summary(&text, false).text;
    assert!(summary.len() <= 255 && summary.len() > 235, "{}", summary.len());
    assert!(summary.split(' ').skip(1).all(|target| tables.iter().any(|table| table == target)));
}

#[rstest]
#[case(
    "SELECT 'a', E'b\\'c', $$d$$, $t$e $$ $t$, 1, 1.5e-3, 0xff, B'01', U&'x' , N'y'",
    "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? , ?"
)]
#[case(
    "SELECT * FROM t WHERE a IN (1, 'b',\n -3) AND b IN ($1, $2) AND c IN (SELECT 1)",
    "SELECT * FROM t WHERE a IN (?) AND b IN ($1, $2) AND c IN (SELECT ?)"
)]
#[case("SELECT a -- secret\n  FROM/* secret /* nested */ still */t", "SELECT a \n  FROM t")]
#[case("SELECT 'it''s' FROM \"a \"\"b\"", "SELECT ? FROM \"a \"\"b\"")]
#[case("SELECT * FROM t1 WHERE a = 'sec", "SELECT * FROM t1 WHERE a = ?")]
#[case("SELECT * FROM t1 WHERE a = $tag$sec $tag", "SELECT * FROM t1 WHERE a = ?")]
#[case("SELECT * FROM t1 /* sec", "SELECT * FROM t1")]
#[case("WHERE a IN (1, 2, ", "WHERE a IN (?")]
#[case(
    "WHERE a = TRUE AND b IS NOT TRUE AND c IS FALSE AND d IS NULL",
    "WHERE a = ? AND b IS NOT TRUE AND c IS FALSE AND d IS NULL"
)]
#[case("a LIKE 'x' ESCAPE '\\' AND b = 'c'", "a LIKE ? ESCAPE ? AND b = ?")]
#[case("a = '\\' AND b = 'c'", "a = ?")]
#[case("SELECT '{\"a\"}'::jsonb->>'k', foo$bar$ FROM x", "SELECT ?::jsonb->>?, foo$bar$ FROM x")]
#[case("ALTER USER x PASSWORD 'hunter2'", "ALTER USER x PASSWORD ?")]
#[case("SELECT a[1:2], b.c1", "SELECT a[?:?], b.c1")]
#[case("SELECT 1_000, .5, 1..2, 12ab", "SELECT ?, ?, ?.?, ?")]
#[case("-- x\nSELECT 1", "SELECT ?")]
#[case("SELECT E'a'\n  'b\\'secret' FROM t", "SELECT ?\n  ?")]
#[case(
    "SELECT U&'d!0061t' UESCAPE '!', U&\"d!0061t\" FROM t",
    "SELECT ? UESCAPE ?, U&\"d!0061t\" FROM t"
)]
#[case(
    "SELECT ARRAY['a', -2, +3.5], '{1,\"b\"}'::text[] FROM t",
    "SELECT ARRAY[?, -?, +?], ?::text[] FROM t"
)]
#[case(
    "SELECT DATE'2020-01-01', interval '1 day', X'1f', b'01', 0o17, 0b1",
    "SELECT DATE?, interval ?, ?, ?, ?, ?"
)]
#[case("SELECT 12$$secret$$, $1$x$secret$x$, a$x$", "SELECT ??, $1?, a$x$")]
#[case("SELECT $é$secret$é$, $_1$se$cret$_1$ FROM t", "SELECT ?, ? FROM t")]
#[case("SELECT 'a\\' , 'secret' FROM t", "SELECT ?")]
#[case("SELECT 'a\\\\' , b FROM t", "SELECT ? , b FROM t")]
#[case("SELECT @-- secret\n a*/* /* */ secret */b", "SELECT @\n a* b")]
#[case("SELECT $1::text, $12", "SELECT $1::text, $12")]
fn literals_are_replaced(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(sanitize(text), expected);
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[rstest]
#[case("SELECT 1 /*action='%2Fx',traceparent='PARENT',tracestate='a%3D1'*/", true)]
#[case("/* traceparent='PARENT' */ SELECT 1", true)]
#[case("SELECT 1 /*traceparent='PARENT'*/ /*traceparent='PARENT'*/", true)]
#[case(
    "SELECT 1 /*traceparent='00%2D4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/",
    true
)]
#[case("SELECT '/*traceparent=''PARENT''*/'", false)]
#[case("SELECT $$/*traceparent='PARENT'*/$$", false)]
#[case("SELECT 1 -- traceparent='PARENT'", false)]
#[case("SELECT 1 /*traceparent='PARENT'", false)]
#[case("SELECT 1 /*xtraceparent='PARENT'*/", false)]
#[case("SELECT 1 /*traceparent=PARENT*/", false)]
#[case(
    "SELECT 1 /*traceparent='PARENT',traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01'*/",
    false
)]
#[case("SELECT 1 /*traceparent='%'*/", false)]
fn a_comments_trace_context_is_read(#[case] text: &str, #[case] there: bool) {
    let found = traceparent_in_comment(&text.replace("PARENT", PARENT));
    assert_eq!(found.map(|parent| parent.to_header()).as_deref(), there.then_some(PARENT));
}

#[test]
fn a_traceparent_is_read_at_no_prefix_of_the_comment() {
    let text = format!("SELECT 1 /*traceparent='{PARENT}'*/");
    for len in 0..text.len() {
        assert_eq!(traceparent_in_comment(text.get(..len).unwrap()), None, "{len}");
    }
}

/// A literal whose content is telling: `zq` is in nothing else that is generated.
fn any_literal() -> impl Strategy<Value = String> {
    let content = "zq[a-z0-9 ;,()$/*\"-]{0,8}zq";
    prop_oneof![
        content.prop_map(|it| format!("'{it}'")),
        content.prop_map(|it| format!("'it''s {it}\\ '")),
        content.prop_map(|it| format!("E'{it}\\'{it}\\\\'")),
        content.prop_map(|it| format!("e'{it}'''")),
        content.prop_map(|it| format!("U&'{it}'")),
        content.prop_map(|it| format!("n'{it}'")),
        "zq[a-z0-9 ;,()'/*\"-]{0,8}zq".prop_map(|it| format!("$${it}$$")),
        "zq[a-z0-9 ;,()'/*\"$-]{0,8}zq".prop_map(|it| format!("$tag${it}$x$ $$ $tag$")),
        "zq[a-z'\"$ ]{0,8}".prop_map(|it| format!("/* {it} /* {it} */ {it} */")),
        "zq[a-z'\"$ /*]{0,8}".prop_map(|it| format!("-- {it}\n")),
        "[0-9]{1,3}[.]?[0-9]{0,3}".prop_map(|it| format!(" 777{it}")),
        Just("0xzq".to_owned()),
    ]
}

fn any_filler() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "SELECT",
            "FROM",
            "t",
            "WHERE",
            "a",
            "=",
            "IN (",
            ")",
            ",",
            "(",
            "$1",
            "\"q i\"",
            "AND",
            "INSERT INTO",
            "VALUES",
            "::",
            "->>",
            "-",
            "/",
            "*",
            "WITH x AS (",
            ";",
            ".",
            "ESCAPE",
            "JOIN",
            "true",
            "u",
            "e",
            "SET",
            "TO",
            "ALTER ROLE",
            "PASSWORD",
            "CREATE FUNCTION f()",
            "NOTIFY",
            "CREATE INDEX ON",
            "GRANT",
            "ON",
            "EXPLAIN",
            "BEGIN ATOMIC",
            "END",
            "\n",
            "\u{e9}t\u{e9}",
        ])
        .prop_map(|it| format!(" {it} ")),
        Just(" ".to_owned()),
    ]
}

fn any_statement() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![3 => any_filler(), 2 => any_literal()], 0..24)
        .prop_map(|parts| parts.join(" "))
}

proptest! {
    #[test]
    fn no_literal_shows_wherever_the_text_is_cut(text in any_statement(), cut in any::<prop::sample::Index>()) {
        let mut cut = cut.index(text.len() + 1);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        let text = text.get(..cut).unwrap();
        for shown in [sanitize(text), summary(text, true).text, summary(text, false).text] {
            prop_assert!(!shown.contains("zq") && !shown.contains("777"), "{:?} of {:?}", shown, text);
            prop_assert!(!shown.contains('z') && !shown.contains('7'), "{:?} of {:?}", shown, text);
        }
    }

    #[test]
    fn what_is_sanitised_stays_as_it_is(text in any_statement()) {
        let once = sanitize(&text);
        prop_assert_eq!(sanitize(&once), once);
    }

    #[test]
    fn any_text_is_read(text in "\\PC{0,80}", sql in "[a-z'\"$ ()/*;.,\\\\0-9\n-]{0,80}", cut in any::<bool>()) {
        for text in [text, sql] {
            prop_assert!(summary(&text, cut).text.len() <= 255);
            prop_assert!(sanitize(&text).len() <= 2 * text.len() + 2);
            prop_assert_eq!(traceparent_in_comment(&text), None);
            let tokens: String = lexer::Lexer::new(&text).map(|token| token.text).collect();
            let mut end = 0;
            for statement in statements(&text) {
                prop_assert!(end <= statement.start && text.get(statement.clone()).is_some());
                end = statement.end;
            }
            prop_assert_eq!(tokens, text);
        }
    }
}

#[rstest]
#[case("(")]
#[case("/*")]
#[case("$a$ ")]
#[case("SELECT f(")]
#[case("'\\")]
#[case("WITH a AS (")]
#[case("\"a\".")]
#[case("/**/")]
#[case("a;")]
#[case("IN (1,")]
#[case("$a")]
#[case("SET a")]
#[case("BEGIN ATOMIC ")]
#[case("CREATE OR ")]
#[case("(;")]
fn a_megabyte_of_nonsense_takes_linear_time(#[case] part: &str) {
    // Quadratic, this would take hours.
    let text = part.repeat((1 << 20) / part.len());
    assert!(sanitize(&text).len() <= 2 * text.len());
    assert!(summary(&text, true).text.len() <= 255);
    assert!(statements(&text).count() <= text.len());
    assert_eq!(traceparent_in_comment(&text), None);
}
