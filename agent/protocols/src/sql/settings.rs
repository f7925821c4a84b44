//! Values that are written without quotes: of settings (`SET a = b`, `SET ROLE c`), and passwords.
//!
//! Follows a statement's words to where such a value stands; a literal there is hidden by what it is. It errs by hiding
//! more: a statement that is wrong, or cut, shows nothing behind that place.

use super::lexer::{Kind, Token};

/// How a token is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    AsItIs,
    /// As `?`.
    Hidden,
    /// Not at all: it belongs to what was hidden.
    Left,
}

/// Where in a statement a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before its first word.
    #[default]
    Begin,
    /// Nothing that matters here follows.
    Plain,
    /// Behind `SET`, or `SET LOCAL` and the like.
    Set,
    /// Behind `SET TIME`.
    Time,
    /// In `SET TRANSACTION` and the like, which have key words and names.
    Modes,
    /// Behind a setting's name, `TO` or `=` ahead.
    Name,
    /// Behind a dot in it.
    NamePart,
    /// A value follows, or values, up to the statement's end.
    Value,
    /// Behind the first token of that.
    InValue,
    /// Behind `CREATE [OR REPLACE]`.
    Create,
    /// Behind `ALTER`.
    Alter,
    /// In `ALTER ROLE` and the like: `SET` or `PASSWORD` may follow.
    Role,
    /// Behind `PASSWORD`.
    Password,
    /// In `CREATE FUNCTION` and the like: `SET` may follow, and more behind its values.
    Routine,
    RoutineName,
    RoutineValue,
    RoutineBehindValue,
    /// In `NOTIFY`: what follows the comma is the payload.
    Notify,
}

/// Follows the tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    at: At,
    parentheses: usize,
}

impl Settings {
    /// Takes the next token.
    pub(super) fn show(&mut self, token: &Token<'_>) -> Show {
        if matches!(token.kind, Kind::Space | Kind::Comment) {
            return if self.at == At::InValue { Show::Left } else { Show::AsItIs };
        }
        if token.is_symbol(";") {
            *self = Self::default();
            return Show::AsItIs;
        }
        if token.is_symbol("(") {
            self.parentheses += 1;
        } else if token.is_symbol(")") {
            self.parentheses = self.parentheses.saturating_sub(1);
        }
        let (at, show) = self.next(token);
        self.at = at;
        show
    }

    fn next(&self, token: &Token<'_>) -> (At, Show) {
        let is = |words: &[&str]| words.iter().any(|word| token.is_word(word));
        let value = (At::InValue, Show::Hidden);
        let at = match self.at {
            At::Plain => At::Plain,
            At::InValue => return (At::InValue, Show::Left),
            At::Value => return value,
            At::Begin if is(&["set"]) => At::Set,
            At::Begin if is(&["alter"]) => At::Alter,
            At::Begin if is(&["create"]) => At::Create,
            At::Begin if is(&["notify"]) => At::Notify,
            At::Begin => At::Plain,
            At::Notify if token.is_symbol(",") => At::Value,
            At::Notify => At::Notify,
            At::Set if is(&["session", "local"]) => At::Set,
            At::Set if is(&["transaction", "characteristics", "constraints"]) => At::Modes,
            At::Modes if token.is_symbol("=") => At::Value,
            At::Modes => At::Modes,
            At::Set if is(&["time"]) => At::Time,
            At::Set if is(&["role", "authorization", "names", "schema", "catalog"]) => At::Value,
            At::Time if is(&["zone"]) => At::Value,
            At::Set if is_name(token) => At::Name,
            At::Name if token.is_symbol("=") || is(&["to"]) => At::Value,
            At::Name if is(&["from"]) => At::Plain,
            At::Name if token.is_symbol(".") => At::NamePart,
            At::NamePart if is_name(token) => At::Name,
            At::Set | At::Time | At::Name | At::NamePart => return value,
            At::Alter if is(&["role", "user", "group", "database", "system"]) => At::Role,
            At::Create if is(&["or", "replace"]) => At::Create,
            At::Create if is(&["role", "user", "group"]) => At::Role,
            At::Alter | At::Create if is(&["function", "procedure", "routine"]) => At::Routine,
            At::Alter | At::Create => At::Plain,
            At::Role if is(&["set"]) => At::Set,
            At::Role if is(&["password"]) => At::Password,
            At::Role => At::Role,
            At::Password if is(&["null"]) => At::Role,
            At::Password if is_literal(token) => return (At::Role, Show::Hidden),
            At::Password => return value,
            At::RoutineBehindValue if token.is_symbol(",") => At::RoutineValue,
            At::Routine | At::RoutineBehindValue if is(&["atomic"]) => At::Plain,
            At::Routine | At::RoutineBehindValue if is(&["set"]) && self.parentheses == 0 => {
                At::RoutineName
            }
            At::Routine | At::RoutineBehindValue => At::Routine,
            At::RoutineName if token.is_symbol("=") || is(&["to"]) => At::RoutineValue,
            At::RoutineName if is_name(token) || token.is_symbol(".") => {
                if is(&["from"]) {
                    At::Routine
                } else {
                    At::RoutineName
                }
            }
            At::RoutineName => At::Routine,
            At::RoutineValue if ["-", "+"].iter().any(|sign| token.is_symbol(sign)) => {
                At::RoutineValue
            }
            At::RoutineValue => return (At::RoutineBehindValue, Show::Hidden),
        };
        (at, Show::AsItIs)
    }
}

/// A word that names something. What `TRUE` and `FALSE` are shown as is no name any more.
fn is_name(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::Word | Kind::Quoted)
        && !token.is_word("true")
        && !token.is_word("false")
}

/// A literal, a parameter, or what stands for one.
fn is_literal(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::Literal | Kind::Parameter) || token.is_symbol("?")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::sql::sanitize;

    #[rstest]
    #[case("SET search_path = secret, public", "SET search_path = ?")]
    #[case("set local app.tenant to secret", "set local app.tenant to ?")]
    #[case("SET SESSION a.b = 'secret' -- secret", "SET SESSION a.b = ?")]
    #[case("SET a = -5; SELECT b FROM c", "SET a = ?; SELECT b FROM c")]
    #[case("SET ROLE secret", "SET ROLE ?")]
    #[case("SET LOCAL ROLE \"secret\"", "SET LOCAL ROLE ?")]
    #[case("SET SESSION AUTHORIZATION secret;", "SET SESSION AUTHORIZATION ?;")]
    #[case("SET LOCAL SESSION AUTHORIZATION 'secret'", "SET LOCAL SESSION AUTHORIZATION ?")]
    #[case("SET TIME ZONE secret", "SET TIME ZONE ?")]
    #[case("SET /* x */ a /* secret */ TO/**/secret", "SET  a  TO ?")]
    #[case("SET a.transaction = secret", "SET a.transaction = ?")]
    #[case("SET password my secret words", "SET password ?")]
    #[case("SET @secret = 1", "SET ?")]
    #[case("SET false*.secret", "SET ?")]
    #[case("SET a.true*secret", "SET a.?")]
    #[case("SELECT 1; SET FALSE secret; SET b = secret", "SELECT ?; SET ?; SET b = ?")]
    #[case("SET a = secret (secret) \"secret", "SET a = ?")]
    #[case("SET a FROM CURRENT", "SET a FROM CURRENT")]
    #[case("SET TRANSACTION SNAPSHOT '0003'", "SET TRANSACTION SNAPSHOT ?")]
    #[case(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
    )]
    #[case("SET CONSTRAINTS a.b DEFERRED", "SET CONSTRAINTS a.b DEFERRED")]
    #[case("SELECT set_config('a', 'secret', true)", "SELECT set_config(?, ?, ?)")]
    #[case("UPDATE t SET a = b WHERE c", "UPDATE t SET a = b WHERE c")]
    #[case("ALTER ROLE r SET a = secret", "ALTER ROLE r SET a = ?")]
    #[case(
        "ALTER ROLE r WITH PASSWORD 'secret' VALID UNTIL 'x'",
        "ALTER ROLE r WITH PASSWORD ? VALID UNTIL ?"
    )]
    #[case("ALTER USER r ENCRYPTED PASSWORD secret secret", "ALTER USER r ENCRYPTED PASSWORD ?")]
    #[case("ALTER ROLE r PASSWORD NULL", "ALTER ROLE r PASSWORD NULL")]
    #[case("CREATE ROLE r LOGIN PASSWORD E'sec\\'ret'", "CREATE ROLE r LOGIN PASSWORD ?")]
    #[case("ALTER DATABASE d SET a TO secret", "ALTER DATABASE d SET a TO ?")]
    #[case("ALTER SYSTEM SET a = secret", "ALTER SYSTEM SET a = ?")]
    #[case(
        "CREATE OR REPLACE FUNCTION f(set int) RETURNS int SET a.b = secret, secret SET c TO 7 AS $$ secret $$ LANGUAGE sql",
        "CREATE OR REPLACE FUNCTION f(set int) RETURNS int SET a.b = ?, ? SET c TO ? AS ? LANGUAGE sql"
    )]
    #[case(
        "CREATE FUNCTION f() BEGIN ATOMIC UPDATE t SET a = b; SELECT 1; END",
        "CREATE FUNCTION f() BEGIN ATOMIC UPDATE t SET a = b; SELECT ?; END"
    )]
    #[case("COMMENT ON TABLE t IS 'secret'", "COMMENT ON TABLE t IS ?")]
    #[case("NOTIFY c, 'secret'", "NOTIFY c, ?")]
    #[case("NOTIFY c, secret", "NOTIFY c, ?")]
    #[case(
        "CREATE SUBSCRIPTION s CONNECTION 'password=secret' PUBLICATION p",
        "CREATE SUBSCRIPTION s CONNECTION ? PUBLICATION p"
    )]
    #[case("DO $$ secret $$", "DO ?")]
    #[case("DO LANGUAGE plpgsql $body$ secret", "DO LANGUAGE plpgsql ?")]
    #[case(
        "CREATE USER MAPPING FOR u SERVER s OPTIONS (password 'secret')",
        "CREATE USER MAPPING FOR u SERVER s OPTIONS (password ?)"
    )]
    fn values_without_quotes_are_hidden(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(sanitize(text), expected);
        assert_eq!(sanitize(expected), expected);
        for len in 0..text.len() {
            let cut = sanitize(text.get(..len).unwrap());
            assert!(!cut.contains("sec"), "{cut}");
            assert_eq!(sanitize(&cut), cut);
        }
    }
}
