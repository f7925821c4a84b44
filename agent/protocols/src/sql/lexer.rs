//! Cuts SQL text into tokens: every byte belongs to exactly one, and whatever could be a literal's
//! content is inside a literal.
//!
//! Where two readings are possible, depending on settings of the server that the text doesn't tell,
//! the rest of the text is taken for a literal: nothing leaks, some is lost.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Space,
    Comment,
    /// An unquoted identifier or key word.
    Word,
    /// A quoted identifier, quotes included; `U&"..."` too.
    Quoted,
    /// A string, bit string or number; to the text's end if it is cut.
    Literal,
    /// `$1`.
    Parameter,
    /// One character of anything else.
    Symbol,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

impl Token<'_> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }
}

/// The tokens of a text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    /// The last word was `ESCAPE`, and only white space and comments followed.
    escape: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, escape: false }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.rest.as_bytes();
        let (kind, len) = token(bytes, self.escape)?;
        // Every end is beside an ASCII byte or at the text's end; if one were not, all that is left is
        // one literal.
        let split = self.rest.split_at_checked(len);
        let (text, kind, rest) = match split {
            Some((text, rest)) => (text, kind, rest),
            None => (self.rest, Kind::Literal, ""),
        };
        self.rest = rest;
        let token = Token { kind, text };
        if !matches!(kind, Kind::Space | Kind::Comment) {
            self.escape = token.is_word("escape");
        }
        Some(token)
    }
}

fn token(bytes: &[u8], escape: bool) -> Option<(Kind, usize)> {
    let &first = bytes.first()?;
    let second = bytes.get(1).copied();
    let third = bytes.get(2).copied();
    Some(match (first, second) {
        (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => (Kind::Space, run(bytes, is_space)),
        (b'-', Some(b'-')) => (Kind::Comment, run(bytes, |byte| byte != b'\n' && byte != b'\r')),
        (b'/', Some(b'*')) => (Kind::Comment, block_comment(bytes)),
        (b'\'', _) => (Kind::Literal, plain_string(bytes, 1, escape)),
        (b'e' | b'E', Some(b'\'')) => (Kind::Literal, escape_string(bytes, 2)),
        (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', Some(b'\'')) => {
            (Kind::Literal, plain_string(bytes, 2, escape))
        }
        (b'u' | b'U', Some(b'&')) if third == Some(b'\'') => {
            (Kind::Literal, plain_string(bytes, 3, escape))
        }
        (b'u' | b'U', Some(b'&')) if third == Some(b'"') => (Kind::Quoted, quoted(bytes, 3)),
        (b'"', _) => (Kind::Quoted, quoted(bytes, 1)),
        (b'0'..=b'9', _) | (b'.', Some(b'0'..=b'9')) => (Kind::Literal, number(bytes)),
        (b'$', Some(b'0'..=b'9')) => {
            (Kind::Parameter, 1 + run(tail(bytes, 1), |byte| byte.is_ascii_digit()))
        }
        (b'$', _) => dollar(bytes),
        _ if is_word_start(first) => (Kind::Word, run(bytes, is_word)),
        _ => (Kind::Symbol, 1),
    })
}

fn tail(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or_default()
}

/// How many bytes at the beginning are alike.
fn run(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|&&byte| of(byte)).count()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

pub(super) fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

pub(super) fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// `/* ... */`, which nests in PostgreSQL.
fn block_comment(bytes: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A string in which a backslash is an ordinary character if `standard_conforming_strings` is on, as it
/// is by default. A backslash before a quote reads differently when it is off: the rest of the text
/// is taken for the string, but for `ESCAPE '\'`, which nobody writes when it is off.
fn plain_string(bytes: &[u8], from: usize, escape: bool) -> usize {
    if escape && tail(bytes, from).starts_with(b"\\'") && bytes.get(from + 2) != Some(&b'\'') {
        return from + 2;
    }
    let mut backslashes = 0usize;
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => backslashes += 1,
            b'\'' if backslashes % 2 == 1 => return bytes.len(),
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => {
                at += 1;
                backslashes = 0;
            }
            b'\'' => return at + 1,
            _ => backslashes = 0,
        }
        at += 1;
    }
    bytes.len()
}

/// `E'...'`: a backslash takes the next character with it. After a character that isn't valid UTF-8 it
/// may be the second byte of one in another encoding: the rest of the text is taken for the string.
fn escape_string(bytes: &[u8], from: usize) -> usize {
    const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if bytes.get(..at).is_some_and(|before| before.ends_with(REPLACEMENT)) => {
                return bytes.len();
            }
            b'\\' => at += 1,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 1,
            b'\'' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn quoted(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = memchr::memchr(b'"', tail(bytes, at)) {
        at += found + 1;
        if bytes.get(at) != Some(&b'"') {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// A number with all that sticks to it: `1.5e-3`, `0xff`, `1_000`, `12ab`.
fn number(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let exponent = matches!(byte, b'e' | b'E')
            && matches!(bytes.get(at + 1), Some(b'+' | b'-'))
            && bytes.get(at + 2).is_some_and(u8::is_ascii_digit);
        match byte {
            _ if exponent => at += 2,
            b'.' if bytes.get(at + 1) == Some(&b'.') => break,
            b'.' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => at += 1,
            _ => break,
        }
    }
    at.max(1)
}

/// `$tag$ ... $tag$`, whose content is never looked into.
fn dollar(bytes: &[u8]) -> (Kind, usize) {
    let name = run(tail(bytes, 1), |byte| is_word(byte) && byte != b'$');
    if bytes.get(1 + name) != Some(&b'$') {
        return (Kind::Symbol, 1);
    }
    let tag = bytes.get(..name + 2).unwrap_or(bytes);
    let content = tail(bytes, tag.len());
    // A tag has `$` at its ends only: occurrences overlap by one byte at most, and searching for the
    // second from the first's end misses none that closes.
    let end = memchr::memmem::find(content, tag);
    (Kind::Literal, end.map_or(bytes.len(), |at| tag.len() + at + tag.len()))
}
