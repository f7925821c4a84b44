//! Which SQL text a prepared statement's or portal's name stands for, in the order of the client's
//! messages.
//!
//! A name whose text is not certain has none: after `Parse` failed, after SQL that touches prepared
//! statements by itself, after a loss.

use std::collections::{BTreeMap, HashMap};

use super::texts::{Text, Texts};
use crate::limits;
use crate::sql;

/// A statement's text, and its name if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) text: Option<Text>,
    pub(super) cut: bool,
    pub(super) name: Option<Text>,
    pub(super) poll: bool,
    /// Whether it returns rows, where the server has said so.
    pub(super) returns: Option<bool>,
    /// The ordinal of the `Parse` that it came in, from 1; 0: in none.
    parsed: u64,
    /// It may change what names stand for, behind the protocol's back.
    meddles: bool,
}

impl Statement {
    fn new(text: Text, cut: bool, name: Option<Text>) -> Self {
        let meddles = text.split(';').any(meddles);
        let poll = !cut && sql::is_poll(&text);
        Self { text: Some(text), cut, name, poll, returns: None, parsed: 0, meddles }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.text, &other.text) {
            (Some(text), Some(other)) => text.is_same(other),
            _ => false,
        }
    }
}

/// Whether one statement of a text may change what names stand for. Elsewhere than at its beginning such a word is a
/// column's name, a literal's or a comment's; where a comment comes first, or other statements are within it, any counts.
fn meddles(statement: &str) -> bool {
    let among = |words: &[&str], word: &str| words.iter().any(|it| word.eq_ignore_ascii_case(it));
    let is_it = |word: &str| among(&["prepare", "deallocate", "discard"], word);
    let mut words = statement.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let bare = statement.trim_start();
    if bare.starts_with("--") || bare.starts_with("/*") {
        return words.any(is_it);
    }
    match words.find(|word| !word.is_empty()) {
        Some(first) if first.eq_ignore_ascii_case("do") => words.any(is_it),
        first => first.is_some_and(is_it),
    }
}

#[derive(Debug, Default)]
pub(super) struct Statements {
    unnamed: Statement,
    named: HashMap<Text, (u64, Statement)>,
    /// The names by age.
    ages: BTreeMap<u64, Text>,
    next_age: u64,
    text_bytes: usize,
    unnamed_portal: Statement,
    portals: HashMap<Text, Statement>,
    texts: Texts,
    /// How many `Parse` came, how many before the last `Sync`, how many before the last `Execute`, and the last that
    /// was executed.
    parses: u64,
    parses_before: u64,
    parses_before_execute: u64,
    executed: u64,
}

/// A name on the wire as a name, `None` being the unnamed one; `Err`: cut or too long to be known.
pub(super) fn name(bytes: Option<&[u8]>) -> Result<Option<&str>, ()> {
    match bytes {
        Some([]) => Ok(None),
        Some(name) if name.len() <= limits::POSTGRES_NAME_BYTES => {
            Ok(Some(str::from_utf8(name).map_err(|_utf8| ())?))
        }
        _ => Err(()),
    }
}

impl Statements {
    /// A portal's name, to keep.
    pub(super) fn keep(&mut self, name: Option<&str>) -> Option<Text> {
        name.map(|name| self.texts.keep(name))
    }

    /// A statement without a name.
    pub(super) fn unnamed(&mut self, text: &str, cut: bool) -> Statement {
        Statement::new(self.texts.keep(text), cut, None)
    }

    /// `Parse`; what was parsed.
    ///
    /// A name that stands for something else is refused by the server, unless it was freed in a way that
    /// was not seen: from here on it stands for nothing that is known.
    pub(super) fn define(&mut self, text: &str, cut: bool, name: Option<&str>) -> Statement {
        let name = self.keep(name);
        let mut statement = Statement::new(self.texts.keep(text), cut, name);
        self.parses += 1;
        statement.parsed = self.parses;
        let Some(name) = statement.name.clone() else {
            self.unnamed = statement.clone();
            return statement;
        };
        let same = |(_, known): &(u64, Statement)| {
            (&known.text, known.cut) == (&statement.text, statement.cut)
        };
        let named = match self.named.get(&name) {
            // As it was, whatever becomes of this one.
            Some(known) if same(known) => return statement,
            Some(_) => Statement { name: Some(name.clone()), ..Statement::default() },
            None => statement.clone(),
        };
        self.forget(Some(&name));
        self.text_bytes += named.text.as_deref().map_or(0, str::len);
        self.ages.insert(self.next_age, name.clone());
        self.named.insert(name, (self.next_age, named));
        self.next_age += 1;
        while self.named.len() > limits::POSTGRES_STATEMENTS
            || self.text_bytes > limits::POSTGRES_STATEMENT_BYTES
        {
            let Some(oldest) = self.ages.values().next().cloned() else { break };
            self.forget(Some(&oldest));
        }
        statement
    }

    /// A `Parse` that failed, or was passed over.
    pub(super) fn failed(&mut self, statement: &Statement) {
        let defined = match &statement.name {
            None => Some(&self.unnamed),
            Some(name) => self.named.get(name).map(|(_, named)| named),
        };
        if defined.is_some_and(|defined| defined.is_same(statement)) {
            self.forget(statement.name.as_deref());
        }
    }

    /// The server has said what a statement returns.
    pub(super) fn described(&mut self, statement: &Statement, returns: bool) {
        let defined = match &statement.name {
            None => Some(&mut self.unnamed),
            Some(name) => self.named.get_mut(name).map(|(_, named)| named),
        };
        if let Some(defined) = defined.filter(|defined| defined.is_same(statement)) {
            defined.returns = Some(returns);
        }
    }

    /// `Close`.
    pub(super) fn forget(&mut self, name: Option<&str>) {
        let Some(name) = name else {
            self.unnamed = Statement::default();
            return;
        };
        if let Some((age, statement)) = self.named.remove(name) {
            self.ages.remove(&age);
            self.text_bytes -= statement.text.as_deref().map_or(0, str::len);
        }
    }

    /// A statement by its name; one prepared before this connection was seen has no text.
    pub(super) fn get(&mut self, name: Option<&str>) -> Statement {
        match name.map(|name| self.named.get(name)) {
            None => self.unnamed.clone(),
            Some(Some((_, statement))) => statement.clone(),
            Some(None) => Statement { name: self.keep(name), ..Statement::default() },
        }
    }

    /// `Bind`.
    pub(super) fn bind(&mut self, portal: Option<Text>, statement: Statement) {
        match portal {
            None => self.unnamed_portal = statement,
            Some(portal) => {
                if let Some(bound) = self.portals.get_mut(&portal) {
                    *bound = statement;
                    return;
                }
                if self.portals.len() >= limits::POSTGRES_PORTALS {
                    // Portals end with their transaction, which is not followed: all are old.
                    self.portals.clear();
                }
                self.portals.insert(portal, statement);
            }
        }
    }

    /// What a portal was made of.
    pub(super) fn portal(&self, portal: Option<&str>) -> Statement {
        match portal {
            None => self.unnamed_portal.clone(),
            Some(portal) => self.portals.get(portal).cloned().unwrap_or_default(),
        }
    }

    pub(super) fn forget_portal(&mut self, portal: Option<&str>) {
        match portal {
            None => self.unnamed_portal = Statement::default(),
            Some(portal) => drop(self.portals.remove(portal)),
        }
    }

    /// What may have been defined anew in bytes of one burst that were not captured: the unnamed ones.
    /// Drivers name every statement anew, so that a known name still means what it did.
    pub(super) fn forget_unnamed(&mut self) {
        self.end_turn();
        self.executes_another();
        self.unnamed = Statement::default();
        self.forget_portals();
    }

    pub(super) fn forget_portals(&mut self) {
        self.unnamed_portal = Statement::default();
        self.portals.clear();
    }

    /// Simple queries destroy the unnamed statement and portal.
    pub(super) fn simple_query(&mut self, statement: &Statement) {
        self.unnamed = Statement::default();
        self.unnamed_portal = Statement::default();
        self.run(statement);
    }

    /// `Sync`, or what has it in itself.
    pub(super) fn end_turn(&mut self) {
        self.parses_before = self.parses;
    }

    /// Something else is executed: what was parsed before waits for no execution of its own any more.
    pub(super) fn executes_another(&mut self) {
        self.parses_before_execute = self.parses;
    }

    /// `Execute`: whether it is the first one of what was parsed since the last `Sync`, or of what was parsed last of
    /// all with nothing executed in between (drivers that ask for a statement's types first). Where another statement
    /// that was parsed later was executed already, nobody counts.
    pub(super) fn first_execution(&mut self, statement: &Statement) -> bool {
        let is_next =
            statement.parsed == self.parses && statement.parsed > self.parses_before_execute;
        let first =
            statement.parsed > self.executed && (is_next || statement.parsed > self.parses_before);
        self.executed = self.executed.max(statement.parsed);
        self.executes_another();
        first
    }

    /// `PREPARE`, `DEALLOCATE` and `DISCARD` change names behind the protocol's back.
    pub(super) fn run(&mut self, statement: &Statement) {
        if statement.meddles {
            self.forget_all();
        }
    }

    pub(super) fn forget_all(&mut self) {
        let Self { parses, parses_before, parses_before_execute, executed, .. } = *self;
        *self = Self { parses, parses_before, parses_before_execute, executed, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("DEALLOCATE ALL", true)]
    #[case("  discard plans", true)]
    #[case("SELECT 1; PREPARE a AS SELECT 2", true)]
    #[case("/* all */ DISCARD ALL", true)]
    #[case("DO $$BEGIN EXECUTE 'DEALLOCATE a'; END$$", true)]
    #[case("SELECT discard FROM cards WHERE id = $1", false)]
    #[case("INSERT INTO notes VALUES ('please prepare')", false)]
    #[case("UPDATE t SET deallocate = 1 /*action='prepare'*/", false)]
    #[case("", false)]
    fn names_change_by_statements_of_their_own(#[case] text: &str, #[case] changes: bool) {
        assert_eq!(text.split(';').any(meddles), changes);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_go_first() {
        let mut statements = Statements::default();
        let text = "x".repeat(1024);
        for n in 0..10_000u32 {
            let name = format!("s{n}");
            statements.define(&text, false, Some(&name));
            let (name, unnamed) = (statements.keep(Some(&name)), statements.get(None));
            statements.bind(name, unnamed);
            assert!(statements.named.len() <= limits::POSTGRES_STATEMENTS);
            assert!(statements.text_bytes <= limits::POSTGRES_STATEMENT_BYTES);
            assert!(statements.portals.len() <= limits::POSTGRES_PORTALS);
            assert_eq!(statements.ages.len(), statements.named.len());
        }
        assert_eq!(statements.get(Some("s9999")).text.as_deref(), Some(&*text));
        assert_eq!(statements.get(Some("s1")).text, None);
        let deallocate = statements.unnamed("DEALLOCATE ALL", false);
        statements.simple_query(&deallocate);
        assert_eq!(statements.get(Some("s9999")).text, None);
        assert_eq!(statements.text_bytes, 0);
    }
}
