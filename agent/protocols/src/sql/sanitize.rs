//! SQL text without its literals and comments: `db.query.text`.

use super::lexer::{Kind, Lexer, Token, is_word};
use super::settings::{Settings, Show};

/// The text with every literal replaced by `?`, comments left out, and `IN` lists of literals collapsed
/// to `IN (?)`.
///
/// Literals are strings of all kinds, numbers and booleans, and values of settings (`SET a = b`); `NULL` and
/// placeholders (`$1`) stay, and so do identifiers, quoted ones too, and white space but at the ends. Where a comment
/// kept two words apart a space takes its place. A literal that the text's end cuts is `?` as well.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let mut out = Output { text: String::with_capacity(text.len()), list: List::No };
    let mut lexer = Lexer::new(text);
    let mut before = [""; 2];
    let mut settings = Settings::default();
    while let Some(token) = lexer.next() {
        match settings.show(&token) {
            Show::AsItIs => {}
            Show::Hidden => {
                out.push(Token { kind: Kind::Literal, text: token.text }, "?");
                continue;
            }
            Show::Left => continue,
        }
        match token.kind {
            Kind::Comment => out.gap(&lexer),
            Kind::Space => out.push(token, token.text),
            Kind::Literal => out.push(token, "?"),
            Kind::Word if is_boolean(token, before) => {
                out.push(Token { kind: Kind::Literal, text: token.text }, "?");
            }
            _ => out.push(token, token.text),
        }
        if !matches!(token.kind, Kind::Space | Kind::Comment) {
            before = [before[1], token.text];
        }
    }
    out.close_list();
    // What is white space to Unicode may be a letter of a word here.
    out.text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b').to_owned()
}

/// `TRUE` or `FALSE`, not as a part of `IS TRUE` and `IS NOT TRUE`.
fn is_boolean(token: Token<'_>, [second, last]: [&str; 2]) -> bool {
    (token.is_word("true") || token.is_word("false"))
        && !last.eq_ignore_ascii_case("is")
        && !(last.eq_ignore_ascii_case("not") && second.eq_ignore_ascii_case("is"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    No,
    /// After `IN`.
    In,
    /// After `IN (` and, from byte `first` of the output on, literals, signs, commas and space only.
    Items {
        first: usize,
        any: bool,
    },
}

struct Output {
    text: String,
    list: List,
}

impl Output {
    fn push(&mut self, token: Token<'_>, text: &str) {
        let is_literal = token.kind == Kind::Literal || token.is_symbol("?");
        self.list = match self.list {
            List::No | List::In if token.is_word("in") => List::In,
            List::In if token.kind == Kind::Space => List::In,
            List::In if token.is_symbol("(") => {
                List::Items { first: self.text.len() + 1, any: false }
            }
            List::Items { first, any }
                if is_literal
                    || token.kind == Kind::Space
                    || [",", "-", "+"].iter().any(|symbol| token.is_symbol(symbol)) =>
            {
                List::Items { first, any: any || is_literal }
            }
            List::Items { .. } if token.is_symbol(")") => {
                self.close_list();
                List::No
            }
            _ => List::No,
        };
        self.text.push_str(text);
    }

    /// Collapses the list whose items were all literals.
    fn close_list(&mut self) {
        if let List::Items { first, any: true } = self.list {
            self.text.truncate(first);
            self.text.push('?');
        }
        self.list = List::No;
    }

    /// In place of a comment: a space, if what stands on its sides could read as one token.
    fn gap(&mut self, rest: &Lexer<'_>) {
        let glues = |byte: u8| !byte.is_ascii_whitespace() && !b"(),;".contains(&byte);
        let next = rest.clone().next();
        let after = next.and_then(|token| match token.kind {
            Kind::Comment => None,
            _ => token.text.bytes().next(),
        });
        let before = self.text.bytes().next_back();
        if before.is_some_and(glues) && after.is_some_and(|byte| glues(byte) || is_word(byte)) {
            self.text.push(' ');
        }
    }
}
