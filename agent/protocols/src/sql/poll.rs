//! Text that asks nothing: what pools and drivers send to see whether a connection lives.

use super::lexer::{Kind, Lexer};

/// Longer texts are not looked at.
const MOST_BYTES: usize = 64;

/// Whether a text, which is whole, is empty but for comments and semicolons, or selects one constant.
#[must_use]
pub fn is_poll(text: &str) -> bool {
    if text.len() > MOST_BYTES {
        return false;
    }
    let mut tokens = Lexer::new(text).filter(|token| {
        !matches!(token.kind, Kind::Space | Kind::Comment) && !token.is_symbol(";")
    });
    match tokens.next() {
        None => true,
        Some(select) if select.is_word("select") => {
            let constant = tokens.next().is_some_and(|token| token.kind == Kind::Literal);
            // `SELECT 1 AS alive`.
            let named = match tokens.next() {
                Some(token) if token.is_word("as") => tokens
                    .next()
                    .is_some_and(|token| matches!(token.kind, Kind::Word | Kind::Quoted)),
                Some(_) => false,
                None => true,
            };
            constant && named && tokens.next().is_none()
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", true)]
    #[case(" ; ", true)]
    #[case("-- ping", true)]
    #[case("SELECT 1", true)]
    #[case("select 1;", true)]
    #[case("/* ping */ SELECT 'x' AS alive", true)]
    #[case("SELECT 1 AS \"alive\";", true)]
    #[case("SELECT", false)]
    #[case("SELECT 1 FROM t", false)]
    #[case("SELECT 1, 2", false)]
    #[case("SELECT now()", false)]
    #[case("SELECT 1; DELETE FROM t", false)]
    #[case("SELECT 1 AS", false)]
    #[case("BEGIN", false)]
    #[case("SELECT 1 -- aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false)]
    fn what_asks_nothing_is_recognised(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_poll(text), expected);
    }
}
