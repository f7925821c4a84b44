//! A statement's summary of low cardinality: `db.query.summary`.
//!
//! One pass over the tokens with a bounded stack of parentheses. It recognises operations and what
//! stands where a table's name must stand; it is right for usual statements, and says less, not
//! something else, for unusual ones. What is known of each command is in `commands`.

mod commands;

use std::mem::take;

use super::lexer::{Kind, Lexer, Token};
use super::statements::Body;
use crate::limits;

/// Operations and their targets: `SELECT orders items`, `INSERT audit`, `SELECT schema.fn`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// At most [`limits::SQL_SUMMARY_BYTES`], never cut within an operation or target; empty where
    /// nothing was recognised.
    pub text: String,
}

/// Summarises SQL text, of which only the beginning may be there (`cut`: the last word may be a part).
///
/// Operations are in upper case and targets as written, in the text's order; double quotes are left out
/// where the name needs none. Of `WITH`, the main operation comes first, then the tables of the common
/// table expressions, whose own names are no targets. A `SELECT` without tables has the function as
/// its target that it begins with. Several statements are joined by `; `, equal neighbours once.
#[must_use]
pub fn summary(text: &str, cut: bool) -> Summary {
    let mut reader = Reader::default();
    let mut lexer = Lexer::new(text).peekable();
    while let Some(token) = lexer.next() {
        if cut && lexer.peek().is_none() && matches!(token.kind, Kind::Word | Kind::Quoted) {
            // Its end may be missing.
            reader.path.clear();
            break;
        }
        if !matches!(token.kind, Kind::Space | Kind::Comment) {
            reader.token(token);
        }
        if reader.is_full() {
            break;
        }
    }
    reader.end_path(None);
    reader.end_statement();
    Summary { text: reader.text }
}

/// What a frame's statement does, as far as it decides what is read of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verb {
    #[default]
    None,
    /// In the list of common table expressions.
    With,
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    /// `CREATE TABLE` and its like, of which a query may follow.
    Define,
    /// `EXPLAIN`, `PREPARE`, `DECLARE`: has a statement in it.
    Wraps,
    Copy,
    /// `GRANT`, `COMMENT` and the like: what it is about follows `ON`.
    Names,
    /// `VACUUM` and its like: its options may be in parentheses before its targets.
    Maintains,
    /// An expression may follow, in which there are queries.
    Other,
    /// Nothing more is read than the target that follows, if one does.
    Quiet,
}

/// Where in its statement a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Elsewhere,
    /// A target's name follows; `list`: others may after a comma.
    Target { list: bool },
    /// Behind a target, in a list of them.
    List,
    /// At the beginning of a select list.
    SelectList,
    /// A common table expression's name follows.
    CteName,
    /// Behind it, its body ahead.
    CteBody,
    /// An object's kind follows; `shown`: it is part of the operation.
    Object { shown: bool },
    /// The operation may have a second word.
    Second,
}

/// A pair of parentheses, or the statement.
#[derive(Clone, Debug, Default)]
struct Frame {
    verb: Verb,
    place: Place,
    /// Within a common table expression.
    in_cte: bool,
    /// What changes tables may be in it, and not only what reads them.
    may_write: bool,
    has_from: bool,
    /// Index among the parts behind the last `SELECT`, and the function that it begins with.
    function: Option<(usize, String)>,
}

/// The longest that a parenthesis is looked into; what is deeper is passed over.
const FRAMES: usize = 64;
/// Names of common table expressions that are known.
const CTES: usize = 32;

#[derive(Default)]
struct Reader {
    text: String,
    last_statement: String,
    /// The main statement's parts, and those from common table expressions.
    parts: [Vec<String>; 2],
    part_bytes: usize,
    frame: Frame,
    outer: Vec<Frame>,
    /// Parentheses beyond those in `outer`.
    deeper: usize,
    ctes: Vec<String>,
    /// The name being read: identifiers and dots.
    path: String,
    path_open: bool,
    last_words: [Option<String>; 2],
    /// How many parts there were when common table expressions began.
    ctes_at: usize,
    body: Body,
}

impl Reader {
    fn is_full(&self) -> bool {
        self.text.len() + self.part_bytes > 2 * limits::SQL_SUMMARY_BYTES
    }

    fn token(&mut self, token: Token<'_>) {
        self.body.token(&token);
        if self.deeper > 0 {
            if token.is_symbol("(") {
                self.deeper += 1;
            } else if token.is_symbol(")") {
                self.deeper -= 1;
            }
            return;
        }
        if matches!(self.frame.place, Place::Object { .. }) && self.is_objects_name(&token) {
            self.frame.place = Place::Target { list: self.has_list() };
        }
        if self.wants_path() {
            if self.path_token(token) {
                return;
            }
            self.end_path(Some(token));
        }
        match token.kind {
            Kind::Word => self.word(token),
            Kind::Symbol => self.symbol(token.text),
            Kind::Quoted if self.frame.place == Place::CteName => self.cte(token.text),
            _ if self.frame.place == Place::SelectList => self.frame.place = Place::Elsewhere,
            _ => {}
        }
        if !matches!(token.kind, Kind::Word | Kind::Symbol) {
            self.remember("");
        }
    }

    fn remember(&mut self, word: &str) {
        let [_, last] = &mut self.last_words;
        let last = last.replace(word.get(..16).unwrap_or(word).to_ascii_uppercase());
        let [before, _] = &mut self.last_words;
        *before = last;
    }

    fn came_after(&self, word: &str) -> bool {
        let [_, last] = &self.last_words;
        last.as_deref() == Some(word)
    }

    fn wants_path(&self) -> bool {
        matches!(self.frame.place, Place::Target { .. } | Place::SelectList)
    }

    /// Takes a token of a name; `false`: it is none.
    fn path_token(&mut self, token: Token<'_>) -> bool {
        let identifier = match token.kind {
            Kind::Word if self.path.is_empty() => {
                !commands::is_no_name(token.text, self.frame.place == Place::SelectList)
            }
            Kind::Word | Kind::Quoted => true,
            Kind::Symbol if token.text == "." && !self.path.is_empty() && !self.path_open => {
                self.path.push('.');
                self.path_open = true;
                return true;
            }
            _ => false,
        };
        let skipped = token.kind == Kind::Word
            && self.path.is_empty()
            && matches!(self.frame.place, Place::Target { .. })
            && self.is_before_name(token.text);
        if skipped {
            return true;
        }
        if !identifier || (!self.path.is_empty() && !self.path_open) {
            return false;
        }
        self.path_open = false;
        self.path.push_str(if token.kind == Kind::Quoted {
            unquoted(token.text)
        } else {
            token.text
        });
        true
    }

    /// The name is over: `next` is behind it.
    fn end_path(&mut self, next: Option<Token<'_>>) {
        let path = take(&mut self.path);
        let cut = take(&mut self.path_open);
        match self.frame.place {
            Place::Target { list } if !path.is_empty() => {
                self.frame.place = if list { Place::List } else { Place::Elsewhere };
                if !cut && (path.contains('.') || !self.is_cte(&path)) {
                    self.part(path, false);
                }
            }
            // Its options, behind which the first one comes.
            Place::Target { .. }
                if self.frame.verb == Verb::Maintains
                    && next.is_some_and(|next| next.is_symbol("(")) => {}
            Place::Target { list } if next.is_some_and(|next| next.is_symbol("(")) => {
                self.frame.place = if list { Place::List } else { Place::Elsewhere };
            }
            Place::SelectList => {
                self.frame.place = Place::Elsewhere;
                let call = next.is_some_and(|next| next.is_symbol("("));
                if call && !path.is_empty() && !cut {
                    let [main, cte] = &self.parts;
                    let at = if self.frame.in_cte { cte.len() } else { main.len() };
                    self.frame.function = Some((at, path));
                }
            }
            Place::Target { .. } => self.frame.place = Place::Elsewhere,
            _ => {}
        }
    }

    fn is_cte(&self, name: &str) -> bool {
        self.ctes.iter().any(|cte| cte.eq_ignore_ascii_case(name))
    }

    fn cte(&mut self, name: &str) {
        if self.ctes.len() < CTES {
            self.ctes.push(unquoted(name).to_owned());
        }
        self.frame.place = Place::CteBody;
    }

    /// Adds an operation or a target.
    fn part(&mut self, part: String, is_select: bool) {
        if self.is_full() || part.len() > limits::SQL_SUMMARY_BYTES {
            return;
        }
        let [main, cte] = &mut self.parts;
        if !self.frame.in_cte {
            self.part_bytes += part.len() + 1;
            main.push(part);
        } else if !is_select {
            self.part_bytes += part.len() + 1;
            cte.push(part);
        }
    }

    fn operation(&mut self, verb: Verb, name: &str, place: Place) {
        self.frame.verb = verb;
        self.frame.place = place;
        self.part(name.to_owned(), verb == Verb::Select);
    }

    fn word(&mut self, token: Token<'_>) {
        let upper = token.text.get(..16).unwrap_or(token.text).to_ascii_uppercase();
        match (self.frame.place, &*upper) {
            (Place::CteName, "RECURSIVE") => {}
            (Place::CteName, _) => self.cte(token.text),
            (Place::Object { shown }, object) => self.object(object, shown),
            (Place::Second, word) => self.second(word),
            (_, word) => self.clause(word),
        }
        if self.frame.place == Place::SelectList && upper != "SELECT" {
            self.frame.place = Place::Elsewhere;
        }
        self.remember(&upper);
    }

    /// A word that begins a clause, or none.
    fn clause(&mut self, word: &str) {
        match (self.frame.verb, word) {
            (Verb::Names, "ON") => {
                self.frame.verb = Verb::Quiet;
                self.frame.place = Place::Object { shown: false };
            }
            (Verb::Quiet, "TO" | "FROM") => self.frame.place = Place::Elsewhere,
            (Verb::Names | Verb::Quiet | Verb::Maintains, _) => {}
            (_, "SELECT") => {
                self.end_select();
                self.frame.has_from = false;
                self.operation(Verb::Select, "SELECT", Place::SelectList);
            }
            (Verb::None | Verb::With, _) => self.begin(word),
            (Verb::Insert, "WITH") => self.begin(word),
            (Verb::Define, "WITH" | "EXECUTE" | "VALUES" | "TABLE") if self.came_after("AS") => {
                self.begin(word);
            }
            (Verb::Wraps, "WITH" | "INSERT" | "UPDATE" | "DELETE" | "MERGE")
            | (Verb::Wraps, "CREATE" | "EXECUTE" | "VALUES") => self.begin(word),
            (Verb::Select, "FROM") if self.is_from() => self.tables(),
            (Verb::Delete | Verb::Update, "FROM") if !self.distinct_from() => self.tables(),
            (Verb::Delete, "USING") => self.tables(),
            (Verb::Merge, "USING") if !self.frame.has_from => self.tables(),
            (_, "JOIN") if self.frame.has_from => self.frame.place = Place::Target { list: true },
            (Verb::Insert | Verb::Merge, "INTO") => {
                self.frame.place = Place::Target { list: false };
            }
            (Verb::Select, "INTO") if !self.frame.has_from => {
                self.frame.place = Place::Target { list: false };
            }
            (
                _,
                "WHERE" | "GROUP" | "ORDER" | "LIMIT" | "OFFSET" | "FETCH" | "HAVING" | "WINDOW"
                | "SET" | "RETURNING" | "FOR" | "UNION" | "EXCEPT" | "INTERSECT" | "WHEN"
                | "VALUES",
            ) => {
                self.frame.place = Place::Elsewhere;
            }
            _ => {}
        }
    }

    /// `IS [NOT] DISTINCT FROM` is an operator.
    fn distinct_from(&self) -> bool {
        let [before, last] = &self.last_words;
        last.as_deref() == Some("DISTINCT") && matches!(before.as_deref(), Some("IS" | "NOT"))
    }

    fn is_from(&self) -> bool {
        !self.frame.has_from && !self.distinct_from()
    }

    fn tables(&mut self) {
        self.frame.has_from = true;
        self.frame.place = Place::Target { list: true };
    }

    fn symbol(&mut self, symbol: &str) {
        match symbol {
            "(" => {
                let in_body = self.frame.place == Place::CteBody;
                let in_cte = self.frame.in_cte || in_body;
                let may_write = (in_body
                    && (self.came_after("AS") || self.came_after("MATERIALIZED")))
                    || (self.frame.verb == Verb::Copy && self.came_after("COPY"));
                let verb = match self.frame.verb {
                    Verb::Quiet | Verb::Names | Verb::Maintains => Verb::Quiet,
                    _ => Verb::None,
                };
                if self.outer.len() >= FRAMES {
                    self.deeper = 1;
                    return;
                }
                let inner = Frame { in_cte, may_write, verb, ..Frame::default() };
                self.outer.push(std::mem::replace(&mut self.frame, inner));
            }
            ")" => {
                self.end_select();
                if let Some(frame) = self.outer.pop() {
                    self.frame = frame;
                }
            }
            "," if self.frame.place == Place::List => {
                self.frame.place = Place::Target { list: true }
            }
            // An operator's.
            _ if matches!(self.frame.place, Place::Object { .. }) => {
                self.frame.place = Place::Elsewhere;
            }
            "," if self.frame.place == Place::CteBody => self.frame.place = Place::CteName,
            ";" if self.outer.is_empty() && !self.body.is_open() => self.end_statement(),
            _ => {}
        }
        self.remember(symbol);
    }

    /// A select is over: without tables, its function is the target.
    fn end_select(&mut self) {
        let Some((at, function)) = self.frame.function.take() else { return };
        if !self.frame.has_from {
            let [main, cte] = &mut self.parts;
            let parts = if self.frame.in_cte { cte } else { main };
            self.part_bytes += function.len() + 1;
            parts.insert(at.min(parts.len()), function);
        }
    }

    fn end_statement(&mut self) {
        while let Some(frame) = self.outer.pop() {
            self.end_select();
            self.frame = frame;
        }
        self.end_select();
        self.frame = Frame::default();
        self.ctes.clear();
        self.body = Body::default();
        let ctes_at = take(&mut self.ctes_at);
        self.last_words = [None, None];
        self.part_bytes = 0;
        let [mut parts, ctes] = take(&mut self.parts);
        if !ctes.is_empty() {
            // Behind the main operation, and its target if it has one of its own.
            let selects = parts.get(ctes_at).is_none_or(|operation| operation == "SELECT");
            let at = parts.len().min(ctes_at + if selects { 1 } else { 2 });
            parts.splice(at..at, ctes);
        }
        let mut statement = String::new();
        for part in parts {
            let used = self.text.len() + statement.len() + part.len() + 3;
            if used > limits::SQL_SUMMARY_BYTES {
                break;
            }
            if !statement.is_empty() {
                statement.push(' ');
            }
            statement.push_str(&part);
        }
        if statement.is_empty() || statement == self.last_statement {
            return;
        }
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        self.text.push_str(&statement);
        self.last_statement = statement;
    }
}

/// A quoted identifier without its quotes, where it needs none.
fn unquoted(name: &str) -> &str {
    let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$';
    if !inner.is_empty() && inner.bytes().all(plain) { inner } else { name }
}
