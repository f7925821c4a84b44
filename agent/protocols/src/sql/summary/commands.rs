//! PostgreSQL's commands (<https://www.postgresql.org/docs/17/sql-commands.html>) as operations: of which words they
//! consist, and where their targets stand.
//!
//! An operation is named as its command tag is, where the text shows that. Targets are relations, routines and other
//! objects of a schema. None are names that programs make up as they go: of cursors, savepoints, channels, settings.

use super::{Place, Reader, Verb};
use crate::sql::lexer::{Kind, Token};

impl Reader {
    /// The first word of a statement, or of what is in parentheses.
    pub(super) fn begin(&mut self, word: &str) {
        use Place::{CteName, Elsewhere, Object, Second, Target};
        let (one, list) = (Target { list: false }, Target { list: true });
        let in_parentheses = !self.outer.is_empty();
        if in_parentheses && self.frame.verb == Verb::None && !self.came_after("(") {
            return;
        }
        let shown = Object { shown: true };
        let (verb, place) = match word {
            "WITH" if self.frame.verb != Verb::With => {
                if !self.frame.in_cte && self.ctes.is_empty() {
                    let [main, _] = &self.parts;
                    self.ctes_at = main.len();
                }
                self.frame.verb = Verb::With;
                self.frame.place = CteName;
                return;
            }
            // In other parentheses they are columns.
            "INSERT" | "UPDATE" | "DELETE" | "MERGE"
                if in_parentheses && self.frame.verb == Verb::None && !self.frame.may_write =>
            {
                return;
            }
            "INSERT" => (Verb::Insert, Elsewhere),
            "UPDATE" => (Verb::Update, one),
            "DELETE" => (Verb::Delete, Elsewhere),
            "MERGE" => (Verb::Merge, Elsewhere),
            // The words below begin expressions and columns as well.
            _ if in_parentheses || self.frame.verb == Verb::With => return,
            "CREATE" | "DROP" | "ALTER" | "REFRESH" | "IMPORT" | "REASSIGN" => (Verb::Quiet, shown),
            "REINDEX" => (Verb::Quiet, Object { shown: false }),
            "GRANT" | "REVOKE" | "COMMENT" => (Verb::Names, Elsewhere),
            "SECURITY" => (Verb::Names, Second),
            "TRUNCATE" | "LOCK" => (Verb::Quiet, list),
            "VACUUM" | "ANALYZE" | "ANALYSE" | "CLUSTER" => (Verb::Maintains, list),
            "TABLE" | "CALL" | "EXECUTE" => (Verb::Other, one),
            "COPY" => (Verb::Copy, one),
            "VALUES" => (Verb::Other, Elsewhere),
            "EXPLAIN" | "DECLARE" => (Verb::Wraps, Elsewhere),
            "PREPARE" => (Verb::Wraps, Second),
            "COMMIT" | "ROLLBACK" | "START" | "SET" | "DISCARD" => (Verb::Quiet, Second),
            "BEGIN" | "END" | "ABORT" | "SAVEPOINT" | "RELEASE" | "SHOW" | "RESET" | "DO"
            | "CHECKPOINT" | "LISTEN" | "UNLISTEN" | "NOTIFY" | "DEALLOCATE" | "FETCH" | "MOVE"
            | "CLOSE" | "LOAD" => (Verb::Quiet, Elsewhere),
            _ => {
                // Behind parentheses with a query, or not SQL that is known: nothing is said of that.
                let [parts, _] = &self.parts;
                self.frame.verb = if parts.is_empty() { Verb::Quiet } else { Verb::Other };
                return;
            }
        };
        self.operation(verb, word, place);
    }

    /// The second word of a statement.
    pub(super) fn second(&mut self, word: &str) {
        self.frame.place = Place::Elsewhere;
        let [parts, _] = &self.parts;
        let belongs = match parts.last().map(String::as_str) {
            Some("START" | "PREPARE") => word == "TRANSACTION",
            Some("COMMIT" | "ROLLBACK") => word == "PREPARED",
            Some("SECURITY") => word == "LABEL",
            Some("SET") => word == "CONSTRAINTS",
            Some("DISCARD") => {
                matches!(word, "ALL" | "PLANS" | "SEQUENCES" | "TEMP" | "TEMPORARY")
            }
            _ => false,
        };
        if belongs {
            self.extend_operation(word);
        }
    }

    /// A word of `CREATE UNIQUE INDEX` and its like.
    pub(super) fn object(&mut self, word: &str, shown: bool) {
        let [parts, _] = &self.parts;
        let operation = parts.last().map_or("", String::as_str);
        let creates = operation.starts_with("CREATE");
        let mut place = Place::Object { shown };
        match word {
            "DEFAULT" if operation == "ALTER" => {}
            "OR" | "REPLACE" | "TEMP" | "TEMPORARY" | "UNLOGGED" | "UNIQUE" | "GLOBAL"
            | "LOCAL" | "RECURSIVE" | "TRUSTED" | "PROCEDURAL" | "DEFAULT" => return,
            // Of `GRANT`.
            "ALL" | "TABLES" | "SEQUENCES" | "FUNCTIONS" | "PROCEDURES" | "ROUTINES" | "IN"
                if !shown =>
            {
                return;
            }
            "CONSTRAINT" if shown => return,
            // More words of the kind may follow, or the name itself.
            "MATERIALIZED" | "FOREIGN" | "EVENT" | "ACCESS" | "LARGE" | "TEXT" | "SEARCH"
            | "DATA" | "USER" | "OPERATOR" => {}
            "CAST" | "TRANSFORM" | "MAPPING" | "OBJECT" | "SYSTEM" | "OWNED" | "PRIVILEGES" => {
                place = Place::Elsewhere;
            }
            "TABLE" | "VIEW" | "SCHEMA" => {
                place = Place::Target { list: self.has_list() };
                if creates {
                    self.frame.verb = Verb::Define;
                }
            }
            word if is_kind(word) => place = Place::Target { list: self.has_list() },
            _ => {
                self.frame.place = Place::Elsewhere;
                return;
            }
        }
        self.frame.place = place;
        if shown {
            self.extend_operation(word);
        }
    }

    /// Whether an object's name comes where words of its kind may.
    pub(super) fn is_objects_name(&self, token: &Token<'_>) -> bool {
        let is_name = matches!(token.kind, Kind::Word | Kind::Quoted);
        let [parts, _] = &self.parts;
        if self.came_after("USER") {
            return is_name && !token.is_word("mapping");
        }
        if self.came_after("OPERATOR") || self.came_after("SYSTEM") {
            return false;
        }
        // What is granted on, unless its kind is said, are tables.
        let grants = matches!(parts.last().map(String::as_str), Some("GRANT" | "REVOKE"));
        let upper = token.text.get(..16).unwrap_or(token.text).to_ascii_uppercase();
        let is_kind = matches!(
            &*upper,
            "TABLE"
                | "SCHEMA"
                | "FOREIGN"
                | "DATA"
                | "LARGE"
                | "OBJECT"
                | "ALL"
                | "TABLES"
                | "SEQUENCES"
                | "FUNCTIONS"
                | "PROCEDURES"
                | "ROUTINES"
                | "IN"
        ) || is_kind(&upper);
        grants && is_name && !(token.kind == Kind::Word && is_kind)
    }

    /// Whether the operation takes several objects.
    pub(super) fn has_list(&self) -> bool {
        let [parts, _] = &self.parts;
        let operation = parts.last().map_or("", String::as_str);
        ["DROP", "GRANT", "REVOKE"].iter().any(|several| operation.starts_with(several))
    }

    /// Whether a word where a name is awaited comes before it.
    pub(super) fn is_before_name(&self, word: &str) -> bool {
        let any = |words: &[&str]| words.iter().any(|before| word.eq_ignore_ascii_case(before));
        let [parts, _] = &self.parts;
        let operation = parts.last().map_or("", String::as_str);
        any(&["only", "lateral", "table", "if", "not", "exists", "concurrently"])
            || match self.frame.verb {
                Verb::Maintains => any(&["full", "freeze", "verbose", "analyze", "analyse"]),
                Verb::Select => any(&["temp", "temporary", "unlogged"]),
                // An index without a name is its table's.
                Verb::Quiet => operation == "CREATE INDEX" && any(&["on"]),
                // One that is called as its owner is.
                Verb::Define => operation == "CREATE SCHEMA" && any(&["authorization"]),
                _ => false,
            }
    }

    fn extend_operation(&mut self, word: &str) {
        let [parts, _] = &mut self.parts;
        if let Some(operation) = parts.last_mut() {
            operation.push(' ');
            operation.push_str(word);
        }
    }
}

/// The last words of kinds of objects, whose names follow.
const KINDS: &[&str] = &[
    "AGGREGATE",
    "CLASS",
    "COLLATION",
    "COLUMN",
    "CONFIGURATION",
    "CONSTRAINT",
    "CONVERSION",
    "DATABASE",
    "DICTIONARY",
    "DOMAIN",
    "EXTENSION",
    "FAMILY",
    "FUNCTION",
    "GROUP",
    "INDEX",
    "LANGUAGE",
    "METHOD",
    "PARAMETER",
    "PARSER",
    "POLICY",
    "PROCEDURE",
    "PUBLICATION",
    "ROLE",
    "ROUTINE",
    "RULE",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "TABLESPACE",
    "TEMPLATE",
    "TRIGGER",
    "TYPE",
    "WRAPPER",
];

fn is_kind(word: &str) -> bool {
    KINDS.binary_search(&word).is_ok()
}

/// Words that can't be what a name begins with; `called`: a function's at the beginning of a select list.
pub(super) fn is_no_name(word: &str, called: bool) -> bool {
    const NOT_CALLED: &[&str] = &[
        "all",
        "array",
        "case",
        "cast",
        "coalesce",
        "distinct",
        "exists",
        "extract",
        "from",
        "greatest",
        "in",
        "least",
        "not",
        "null",
        "nullif",
        "on",
        "overlay",
        "position",
        "row",
        "substring",
        "trim",
    ];
    const NO_TABLES: &[&str] = &[
        "all",
        "as",
        "current_role",
        "current_user",
        "for",
        "from",
        "in",
        "on",
        "rows",
        "select",
        "session_user",
        "set",
        "to",
        "using",
        "values",
        "where",
        "with",
    ];
    let words = if called { NOT_CALLED } else { NO_TABLES };
    words.iter().any(|no| word.eq_ignore_ascii_case(no))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::sql::summary;

    /// Every command of PostgreSQL 17, as its documentation writes it.
    #[rstest]
    #[case("ABORT AND CHAIN", "ABORT")]
    #[case("ALTER AGGREGATE myavg(integer) RENAME TO my_average", "ALTER AGGREGATE myavg")]
    #[case("ALTER COLLATION \"de_DE\" RENAME TO german", "ALTER COLLATION de_DE")]
    #[case(
        "ALTER CONVERSION iso_8859_1_to_utf8 OWNER TO joe",
        "ALTER CONVERSION iso_8859_1_to_utf8"
    )]
    #[case("ALTER DATABASE test SET enable_indexscan TO off", "ALTER DATABASE test")]
    #[case(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES"
    )]
    #[case("ALTER DOMAIN zipcode DROP NOT NULL", "ALTER DOMAIN zipcode")]
    #[case("ALTER EVENT TRIGGER e DISABLE", "ALTER EVENT TRIGGER e")]
    #[case("ALTER EXTENSION hstore UPDATE TO '2.0'", "ALTER EXTENSION hstore")]
    #[case(
        "ALTER FOREIGN DATA WRAPPER dbi OPTIONS (ADD foo '1', DROP bar)",
        "ALTER FOREIGN DATA WRAPPER dbi"
    )]
    #[case("ALTER FOREIGN TABLE ft ALTER COLUMN a SET NOT NULL", "ALTER FOREIGN TABLE ft")]
    #[case("ALTER FUNCTION sqrt(integer) RENAME TO root", "ALTER FUNCTION sqrt")]
    #[case("ALTER GROUP staff ADD USER karl, john", "ALTER GROUP staff")]
    #[case("ALTER INDEX IF EXISTS i RENAME TO j", "ALTER INDEX i")]
    #[case("ALTER INDEX ALL IN TABLESPACE a SET TABLESPACE b", "ALTER INDEX")]
    #[case("ALTER PROCEDURAL LANGUAGE l RENAME TO m", "ALTER LANGUAGE l")]
    #[case("ALTER LARGE OBJECT 1234 OWNER TO joe", "ALTER LARGE OBJECT")]
    #[case("ALTER MATERIALIZED VIEW foo RENAME TO bar", "ALTER MATERIALIZED VIEW foo")]
    #[case("ALTER OPERATOR @@ (text, text) OWNER TO joe", "ALTER OPERATOR")]
    #[case("ALTER OPERATOR CLASS c USING btree OWNER TO x", "ALTER OPERATOR CLASS c")]
    #[case("ALTER OPERATOR FAMILY f USING btree ADD", "ALTER OPERATOR FAMILY f")]
    #[case("ALTER POLICY p ON t RENAME TO q", "ALTER POLICY p")]
    #[case("ALTER PROCEDURE s.p(integer) OWNER TO joe", "ALTER PROCEDURE s.p")]
    #[case("ALTER PUBLICATION p ADD TABLE users", "ALTER PUBLICATION p")]
    #[case("ALTER ROLE davide WITH PASSWORD 'hu8jmn3'", "ALTER ROLE davide")]
    #[case("ALTER ROLE ALL IN DATABASE d SET a = b", "ALTER ROLE")]
    #[case("ALTER ROUTINE foo(integer) RENAME TO bar", "ALTER ROUTINE foo")]
    #[case("ALTER RULE r ON t RENAME TO s", "ALTER RULE r")]
    #[case("ALTER SCHEMA s OWNER TO joe", "ALTER SCHEMA s")]
    #[case("ALTER SEQUENCE serial RESTART WITH 105", "ALTER SEQUENCE serial")]
    #[case("ALTER SERVER s OPTIONS (host 'foo')", "ALTER SERVER s")]
    #[case("ALTER STATISTICS s SET STATISTICS 100", "ALTER STATISTICS s")]
    #[case("ALTER SUBSCRIPTION s CONNECTION 'password=x'", "ALTER SUBSCRIPTION s")]
    #[case("ALTER SYSTEM SET wal_level = replica", "ALTER SYSTEM")]
    #[case("ALTER TABLE ONLY a.b ADD CONSTRAINT c CHECK (x > 1)", "ALTER TABLE a.b")]
    #[case("ALTER TABLESPACE t OWNER TO x", "ALTER TABLESPACE t")]
    #[case(
        "ALTER TEXT SEARCH CONFIGURATION c ALTER MAPPING REPLACE english WITH swedish",
        "ALTER TEXT SEARCH CONFIGURATION c"
    )]
    #[case("ALTER TEXT SEARCH DICTIONARY d (StopWords = x)", "ALTER TEXT SEARCH DICTIONARY d")]
    #[case("ALTER TEXT SEARCH PARSER p RENAME TO q", "ALTER TEXT SEARCH PARSER p")]
    #[case("ALTER TEXT SEARCH TEMPLATE t RENAME TO u", "ALTER TEXT SEARCH TEMPLATE t")]
    #[case("ALTER TRIGGER t ON emp RENAME TO u", "ALTER TRIGGER t")]
    #[case("ALTER TYPE colors ADD VALUE 'orange' AFTER 'red'", "ALTER TYPE colors")]
    #[case("ALTER USER bob PASSWORD 'secret'", "ALTER USER bob")]
    #[case("ALTER USER \"bob\" SET a TO b", "ALTER USER bob")]
    #[case(
        "ALTER USER MAPPING FOR bob SERVER foo OPTIONS (SET password 'x')",
        "ALTER USER MAPPING"
    )]
    #[case("ALTER VIEW foo RENAME TO bar", "ALTER VIEW foo")]
    #[case("ANALYZE", "ANALYZE")]
    #[case("ANALYZE (VERBOSE, SKIP_LOCKED) a (x, y), b", "ANALYZE a b")]
    #[case("ANALYZE VERBOSE a", "ANALYZE a")]
    #[case("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE", "BEGIN")]
    #[case("CALL do_db_maintenance()", "CALL do_db_maintenance")]
    #[case("CHECKPOINT", "CHECKPOINT")]
    #[case("CLOSE liahona", "CLOSE")]
    #[case("CLUSTER employees USING employees_ind", "CLUSTER employees")]
    #[case("CLUSTER (VERBOSE) employees", "CLUSTER employees")]
    #[case("COMMENT ON TABLE mytable IS 'This is my table.'", "COMMENT mytable")]
    #[case("COMMENT ON COLUMN my_table.my_column IS 'x'", "COMMENT my_table.my_column")]
    #[case("COMMENT ON CONSTRAINT c ON DOMAIN d IS 'x'", "COMMENT c")]
    #[case("COMMENT ON CAST (text AS int4) IS 'x'", "COMMENT")]
    #[case("COMMENT ON LARGE OBJECT 346344 IS 'x'", "COMMENT")]
    #[case("COMMENT ON OPERATOR ^ (text, text) IS 'x'", "COMMENT")]
    #[case("COMMENT ON TEXT SEARCH PARSER p IS NULL", "COMMENT p")]
    #[case("COMMENT ON MATERIALIZED VIEW v IS 'x'", "COMMENT v")]
    #[case("COMMIT AND NO CHAIN", "COMMIT")]
    #[case("COMMIT PREPARED 'foobar'", "COMMIT PREPARED")]
    #[case("COPY country TO STDOUT (DELIMITER '|')", "COPY country")]
    #[case("COPY t FROM STDIN WITH CSV HEADER", "COPY t")]
    #[case("COPY (DELETE FROM a RETURNING b) TO STDOUT", "COPY DELETE a")]
    #[case("COPY (WITH x AS (SELECT * FROM y) SELECT * FROM x) TO STDOUT", "COPY SELECT y")]
    #[case("CREATE ACCESS METHOD heptree TYPE INDEX HANDLER h", "CREATE ACCESS METHOD heptree")]
    #[case("CREATE OR REPLACE AGGREGATE a (int) (SFUNC = f)", "CREATE AGGREGATE a")]
    #[case("CREATE CAST (bigint AS int4) WITH FUNCTION int4(bigint)", "CREATE CAST")]
    #[case("CREATE COLLATION IF NOT EXISTS french (locale = 'fr_FR')", "CREATE COLLATION french")]
    #[case("CREATE DEFAULT CONVERSION c FOR 'UTF8' TO 'LATIN1' FROM f", "CREATE CONVERSION c")]
    #[case("CREATE DATABASE sales OWNER salesapp", "CREATE DATABASE sales")]
    #[case("CREATE DOMAIN d AS text CHECK (VALUE ~ 'x')", "CREATE DOMAIN d")]
    #[case(
        "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION f()",
        "CREATE EVENT TRIGGER e"
    )]
    #[case("CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\"", "CREATE EXTENSION \"uuid-ossp\"")]
    #[case("CREATE FOREIGN DATA WRAPPER w HANDLER h", "CREATE FOREIGN DATA WRAPPER w")]
    #[case("CREATE FOREIGN TABLE films (a int) SERVER s", "CREATE FOREIGN TABLE films")]
    #[case(
        "CREATE OR REPLACE FUNCTION f(a int) RETURNS int AS $$ SELECT secret FROM t $$ LANGUAGE SQL; SELECT 1",
        "CREATE FUNCTION f; SELECT"
    )]
    #[case(
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END FROM t; SELECT 2; END; DELETE FROM u",
        "CREATE FUNCTION f; DELETE u"
    )]
    #[case("CREATE GROUP g", "CREATE GROUP g")]
    #[case("CREATE UNIQUE INDEX title_idx ON films (title)", "CREATE INDEX title_idx")]
    #[case("CREATE INDEX ON films ((lower(title)))", "CREATE INDEX films")]
    #[case("CREATE INDEX CONCURRENTLY ON ONLY films USING gin (a)", "CREATE INDEX films")]
    #[case("CREATE OR REPLACE TRUSTED LANGUAGE l HANDLER h", "CREATE LANGUAGE l")]
    #[case(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT * FROM t",
        "CREATE MATERIALIZED VIEW v SELECT t"
    )]
    #[case("CREATE OPERATOR === (LEFTARG = box)", "CREATE OPERATOR")]
    #[case(
        "CREATE OPERATOR CLASS c DEFAULT FOR TYPE _int4 USING gist AS",
        "CREATE OPERATOR CLASS c"
    )]
    #[case("CREATE OPERATOR FAMILY f USING btree", "CREATE OPERATOR FAMILY f")]
    #[case("CREATE POLICY p ON t FOR SELECT USING (a IN (SELECT b FROM u))", "CREATE POLICY p")]
    #[case(
        "CREATE PROCEDURE insert_data(a integer) LANGUAGE SQL AS $$ x $$",
        "CREATE PROCEDURE insert_data"
    )]
    #[case("CREATE PUBLICATION p FOR TABLE users, departments", "CREATE PUBLICATION p")]
    #[case("CREATE ROLE miriam WITH LOGIN PASSWORD 'jw8s0F4'", "CREATE ROLE miriam")]
    #[case(
        "CREATE RULE r AS ON SELECT TO t DO INSTEAD (SELECT * FROM u; DELETE FROM v)",
        "CREATE RULE r"
    )]
    #[case("CREATE SCHEMA IF NOT EXISTS myschema", "CREATE SCHEMA myschema")]
    #[case("CREATE SCHEMA AUTHORIZATION joe", "CREATE SCHEMA joe")]
    #[case("CREATE SCHEMA IF NOT EXISTS AUTHORIZATION \"joe\"", "CREATE SCHEMA joe")]
    #[case("CREATE SCHEMA AUTHORIZATION CURRENT_USER", "CREATE SCHEMA")]
    #[case("CREATE SCHEMA s AUTHORIZATION joe", "CREATE SCHEMA s")]
    #[case("CREATE TEMP SEQUENCE serial START 101", "CREATE SEQUENCE serial")]
    #[case("CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'foo')", "CREATE SERVER s")]
    #[case("CREATE STATISTICS s (dependencies) ON a, b FROM t", "CREATE STATISTICS s")]
    #[case("CREATE STATISTICS ON a, b FROM t", "CREATE STATISTICS")]
    #[case("CREATE SUBSCRIPTION s CONNECTION 'password=x' PUBLICATION p", "CREATE SUBSCRIPTION s")]
    #[case(
        "CREATE UNLOGGED TABLE IF NOT EXISTS a.b (insert int, c timestamp with time zone)",
        "CREATE TABLE a.b"
    )]
    #[case("CREATE TABLE a PARTITION OF b FOR VALUES FROM ('x') TO ('y')", "CREATE TABLE a")]
    #[case(
        "CREATE TABLE a (x) WITH (fillfactor = 7) AS SELECT y FROM b",
        "CREATE TABLE a SELECT b"
    )]
    #[case(
        "CREATE TABLE a AS WITH x AS (SELECT * FROM b) SELECT * FROM x",
        "CREATE TABLE a SELECT b"
    )]
    #[case(
        "CREATE TEMP TABLE a AS EXECUTE recentfilms('2002-01-01')",
        "CREATE TABLE a EXECUTE recentfilms"
    )]
    #[case("CREATE TABLESPACE dbspace LOCATION '/data/dbs'", "CREATE TABLESPACE dbspace")]
    #[case("CREATE TEXT SEARCH CONFIGURATION c (PARSER = p)", "CREATE TEXT SEARCH CONFIGURATION c")]
    #[case(
        "CREATE TRANSFORM FOR hstore LANGUAGE plpython3u (FROM SQL WITH FUNCTION f(internal))",
        "CREATE TRANSFORM"
    )]
    #[case(
        "CREATE CONSTRAINT TRIGGER t AFTER INSERT OR UPDATE ON a EXECUTE FUNCTION f()",
        "CREATE TRIGGER t"
    )]
    #[case("CREATE TYPE bug_status AS ENUM ('new', 'open')", "CREATE TYPE bug_status")]
    #[case("CREATE USER davide WITH PASSWORD 'jw8s0F4'", "CREATE USER davide")]
    #[case("CREATE USER MAPPING FOR bob SERVER foo OPTIONS (password 'x')", "CREATE USER MAPPING")]
    #[case("CREATE OR REPLACE RECURSIVE VIEW v (n) AS SELECT 1 FROM t", "CREATE VIEW v SELECT t")]
    #[case("DEALLOCATE PREPARE p", "DEALLOCATE")]
    #[case("DECLARE c CURSOR WITH HOLD FOR SELECT * FROM films FOR UPDATE", "DECLARE SELECT films")]
    #[case("DECLARE c CURSOR FOR WITH x AS (SELECT * FROM a) SELECT * FROM x", "DECLARE SELECT a")]
    #[case("DELETE FROM films WHERE CURRENT OF c_tasks", "DELETE films")]
    #[case("DISCARD ALL", "DISCARD ALL")]
    #[case("DO LANGUAGE plpgsql $$ BEGIN PERFORM 1; END $$", "DO")]
    #[case("DROP ACCESS METHOD heptree", "DROP ACCESS METHOD heptree")]
    #[case(
        "DROP AGGREGATE myavg(integer), myrank(VARIADIC \"any\")",
        "DROP AGGREGATE myavg myrank"
    )]
    #[case("DROP CAST (text AS int)", "DROP CAST")]
    #[case("DROP FUNCTION IF EXISTS sqrt(integer), a.b", "DROP FUNCTION sqrt a.b")]
    #[case("DROP INDEX CONCURRENTLY IF EXISTS i, j", "DROP INDEX i j")]
    #[case("DROP OPERATOR ~ (none, bit)", "DROP OPERATOR")]
    #[case("DROP OWNED BY x, y", "DROP OWNED")]
    #[case("DROP POLICY IF EXISTS p ON t", "DROP POLICY p")]
    #[case("DROP ROLE jonathan", "DROP ROLE jonathan")]
    #[case("DROP TABLE IF EXISTS films, distributors CASCADE", "DROP TABLE films distributors")]
    #[case("DROP TEXT SEARCH DICTIONARY english", "DROP TEXT SEARCH DICTIONARY english")]
    #[case("DROP TRANSFORM FOR hstore LANGUAGE plpython3u", "DROP TRANSFORM")]
    #[case("DROP TRIGGER t ON films", "DROP TRIGGER t")]
    #[case("DROP USER bob, mapping", "DROP USER bob mapping")]
    #[case("DROP USER MAPPING IF EXISTS FOR bob SERVER foo", "DROP USER MAPPING")]
    #[case("END", "END")]
    #[case("EXECUTE fooplan(1, 'Hunter')", "EXECUTE fooplan")]
    #[case("EXPLAIN ANALYZE INSERT INTO a SELECT * FROM b", "EXPLAIN INSERT a SELECT b")]
    #[case("EXPLAIN (COSTS off) EXECUTE query(100)", "EXPLAIN EXECUTE query")]
    #[case("EXPLAIN CREATE TABLE a AS SELECT * FROM b", "EXPLAIN CREATE TABLE a SELECT b")]
    #[case("FETCH FORWARD 5 FROM liahona", "FETCH")]
    #[case("GRANT INSERT, SELECT (a, b) ON films, TABLE x.y TO PUBLIC, joe", "GRANT films x.y")]
    #[case("GRANT ALL ON ALL TABLES IN SCHEMA s TO joe", "GRANT s")]
    #[case("GRANT USAGE ON FOREIGN DATA WRAPPER w TO joe", "GRANT w")]
    #[case("GRANT EXECUTE ON FUNCTION f(int), g TO joe", "GRANT f g")]
    #[case("GRANT admins TO joe", "GRANT")]
    #[case(
        "IMPORT FOREIGN SCHEMA foreign_films FROM SERVER s INTO films",
        "IMPORT FOREIGN SCHEMA foreign_films"
    )]
    #[case("INSERT INTO t (insert, update, \"a\") VALUES (1, 2, 3)", "INSERT t")]
    #[case("INSERT INTO t (merge) SELECT delete FROM u", "INSERT t SELECT u")]
    #[case("INSERT INTO t DEFAULT VALUES", "INSERT t")]
    #[case("INSERT INTO t WITH x AS (SELECT * FROM a) SELECT * FROM x", "INSERT t SELECT a")]
    #[case("LISTEN virtual", "LISTEN")]
    #[case("LOAD '$libdir/x'", "LOAD")]
    #[case("LOCK TABLE ONLY films, x IN SHARE UPDATE EXCLUSIVE MODE NOWAIT", "LOCK films x")]
    #[case(
        "MERGE INTO ONLY a USING (SELECT * FROM b) AS c ON x WHEN MATCHED THEN DELETE",
        "MERGE a SELECT b"
    )]
    #[case("MOVE FORWARD 5 IN liahona", "MOVE")]
    #[case("NOTIFY virtual, 'This is the payload'", "NOTIFY")]
    #[case("PREPARE p (int, text) AS UPDATE t SET a = $1", "PREPARE UPDATE t")]
    #[case("PREPARE TRANSACTION 'foobar'", "PREPARE TRANSACTION")]
    #[case("REASSIGN OWNED BY a TO b", "REASSIGN OWNED")]
    #[case("REFRESH MATERIALIZED VIEW CONCURRENTLY v WITH NO DATA", "REFRESH MATERIALIZED VIEW v")]
    #[case("REINDEX INDEX my_index", "REINDEX my_index")]
    #[case("REINDEX (VERBOSE) TABLE CONCURRENTLY s.t", "REINDEX s.t")]
    #[case("REINDEX SYSTEM d", "REINDEX")]
    #[case("RELEASE SAVEPOINT my_savepoint", "RELEASE")]
    #[case("RESET timezone", "RESET")]
    #[case("REVOKE GRANT OPTION FOR SELECT ON films FROM joe CASCADE", "REVOKE films")]
    #[case("REVOKE admins FROM joe", "REVOKE")]
    #[case("ROLLBACK TO SAVEPOINT my_savepoint", "ROLLBACK")]
    #[case("ROLLBACK PREPARED 'foobar'", "ROLLBACK PREPARED")]
    #[case("SAVEPOINT my_savepoint", "SAVEPOINT")]
    #[case("SECURITY LABEL FOR selinux ON TABLE mytable IS 'system_u'", "SECURITY LABEL mytable")]
    #[case("SELECT a, b INTO TEMP films_recent FROM films WHERE x", "SELECT films_recent films")]
    #[case("SELECT f(a::timestamp with time zone, orders) FROM orders", "SELECT orders")]
    #[case("SELECT * FROM a LEFT JOIN b USING (x), c FOR NO KEY UPDATE OF a", "SELECT a b c")]
    #[case("SET LOCAL search_path TO update, secret", "SET")]
    #[case("SET CONSTRAINTS ALL DEFERRED", "SET CONSTRAINTS")]
    #[case("SET ROLE paul", "SET")]
    #[case("SET SESSION AUTHORIZATION 'paul'", "SET")]
    #[case("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET")]
    #[case("SHOW ALL", "SHOW")]
    #[case("START TRANSACTION READ ONLY", "START TRANSACTION")]
    #[case("TABLE films", "TABLE films")]
    #[case("TRUNCATE bigtable, fattable RESTART IDENTITY", "TRUNCATE bigtable fattable")]
    #[case("UNLISTEN *", "UNLISTEN")]
    #[case("UPDATE ONLY films AS f SET kind = 'x' FROM a WHERE b", "UPDATE films a")]
    #[case("VACUUM (VERBOSE, ANALYZE) onek", "VACUUM onek")]
    #[case("VACUUM FULL FREEZE VERBOSE ANALYZE a.onek (x)", "VACUUM a.onek")]
    #[case("VACUUM", "VACUUM")]
    #[case("VALUES (1, 'one'), ((SELECT max(a) FROM t), 'two')", "VALUES SELECT t")]
    fn every_command_is_summarised(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(summary(text, false).text, expected);
    }

    #[test]
    fn kinds_are_found() {
        assert!(super::KINDS.is_sorted());
    }
}
