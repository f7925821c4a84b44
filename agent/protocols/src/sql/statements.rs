//! Where one statement ends and the next begins in a text of several: what the server does one after the other.

use std::ops::Range;

use super::lexer::{Kind, Lexer, Token};

/// Follows `BEGIN ATOMIC ... END`, the body of an SQL function: semicolons in it end no statement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Body {
    depth: usize,
    after_begin: bool,
}

impl Body {
    /// Takes the next token, of those that mean something.
    pub(super) fn token(&mut self, token: &Token<'_>) {
        let begins = self.after_begin && token.is_word("atomic");
        if begins || (self.depth > 0 && token.is_word("case")) {
            self.depth += 1;
        } else if self.depth > 0 && token.is_word("end") {
            self.depth -= 1;
        }
        self.after_begin = token.is_word("begin");
    }

    pub(super) fn is_open(&self) -> bool {
        self.depth > 0
    }
}

/// Where the statements of a text are, empty ones left out: each from its first token on, up to its semicolon or the
/// text's end. In linear time.
pub fn statements(text: &str) -> impl Iterator<Item = Range<usize>> {
    Statements { lexer: Lexer::new(text), at: 0 }
}

struct Statements<'a> {
    lexer: Lexer<'a>,
    at: usize,
}

impl Iterator for Statements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let mut statement: Option<Range<usize>> = None;
        let mut body = Body::default();
        let mut parentheses = 0usize;
        for token in self.lexer.by_ref() {
            let at = self.at;
            self.at += token.text.len();
            if matches!(token.kind, Kind::Space | Kind::Comment) {
                continue;
            }
            body.token(&token);
            // A rule's actions are in parentheses.
            if token.is_symbol(";") && parentheses == 0 && !body.is_open() {
                if statement.is_some() {
                    break;
                }
                continue;
            }
            if token.is_symbol("(") {
                parentheses += 1;
            } else if token.is_symbol(")") {
                parentheses = parentheses.saturating_sub(1);
            }
            statement.get_or_insert(at..at).end = self.at;
        }
        statement
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", &[])]
    #[case(" ; /* a; */ ;", &[])]
    #[case("SELECT 1", &["SELECT 1"])]
    #[case("BEGIN; ; SELECT ';' -- ;\n ;COMMIT ; ", &["BEGIN", "SELECT ';'", "COMMIT"])]
    #[case(
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3",
        &["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 3"]
    )]
    #[case(
        "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END; SELECT 3",
        &["CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END", "SELECT 3"]
    )]
    #[case("DO $$ BEGIN; END $$; SELECT 1", &["DO $$ BEGIN; END $$", "SELECT 1"])]
    #[case("SELECT 'a; b", &["SELECT 'a; b"])]
    fn statements_are_split(#[case] text: &str, #[case] expected: &[&str]) {
        let found: Vec<&str> = statements(text).filter_map(|range| text.get(range)).collect();
        assert_eq!(found, expected);
    }
}
