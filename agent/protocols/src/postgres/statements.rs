//! Which SQL text a prepared statement's or portal's name stands for, in the order of the client's
//! messages.
//!
//! A name whose text is not certain has none: after `Parse` failed, after SQL that touches prepared
//! statements by itself, after a loss.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::limits;
use crate::sql;

/// A statement's text, and its name if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) text: Option<Arc<str>>,
    pub(super) cut: bool,
    pub(super) name: Option<Arc<str>>,
    pub(super) poll: bool,
    /// It may change what names stand for, behind the protocol's back.
    meddles: bool,
}

impl Statement {
    pub(super) fn new(text: Arc<str>, cut: bool, name: Option<Arc<str>>) -> Self {
        let meddles = |word: &str| {
            ["prepare", "deallocate", "discard"].iter().any(|it| word.eq_ignore_ascii_case(it))
        };
        let meddles = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(meddles);
        let poll = !cut && sql::is_poll(&text);
        Self { text: Some(text), cut, name, poll, meddles }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.text, &other.text) {
            (Some(text), Some(other)) => Arc::ptr_eq(text, other),
            _ => false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Statements {
    unnamed: Statement,
    named: HashMap<Arc<str>, (u64, Statement)>,
    /// The names by age.
    ages: BTreeMap<u64, Arc<str>>,
    next_age: u64,
    text_bytes: usize,
    unnamed_portal: Statement,
    portals: HashMap<Arc<str>, Statement>,
}

/// A name on the wire as a name, `None` being the unnamed one; `Err`: cut or too long to be known.
pub(super) fn name(bytes: Option<&[u8]>) -> Result<Option<Arc<str>>, ()> {
    match bytes {
        Some([]) => Ok(None),
        Some(name) if name.len() <= limits::POSTGRES_NAME_BYTES => {
            Ok(Some(Arc::from(str::from_utf8(name).map_err(|_utf8| ())?)))
        }
        _ => Err(()),
    }
}

impl Statements {
    /// `Parse`; what was parsed.
    ///
    /// A name that stands for something else is refused by the server, unless it was freed in a way that
    /// was not seen: from here on it stands for nothing that is known.
    pub(super) fn define(
        &mut self,
        text: Arc<str>,
        cut: bool,
        name: Option<Arc<str>>,
    ) -> Statement {
        let statement = Statement::new(text, cut, name);
        let Some(name) = statement.name.clone() else {
            self.unnamed = statement.clone();
            return statement;
        };
        let same = |(_, known): &(u64, Statement)| {
            (&known.text, known.cut) == (&statement.text, statement.cut)
        };
        let named = match self.named.get(&name) {
            Some(known) if !same(known) => {
                Statement { name: Some(Arc::clone(&name)), ..Statement::default() }
            }
            _ => statement.clone(),
        };
        self.forget(&Some(Arc::clone(&name)));
        self.text_bytes += named.text.as_deref().map_or(0, str::len);
        self.ages.insert(self.next_age, Arc::clone(&name));
        self.named.insert(name, (self.next_age, named));
        self.next_age += 1;
        while self.named.len() > limits::POSTGRES_STATEMENTS
            || self.text_bytes > limits::POSTGRES_STATEMENT_BYTES
        {
            let Some(oldest) = self.ages.values().next().cloned() else { break };
            self.forget(&Some(oldest));
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
            self.forget(&statement.name);
        }
    }

    /// `Close`.
    pub(super) fn forget(&mut self, name: &Option<Arc<str>>) {
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
    pub(super) fn get(&self, name: Option<Arc<str>>) -> Statement {
        match &name {
            None => self.unnamed.clone(),
            Some(known) => match self.named.get(known) {
                Some((_, statement)) => statement.clone(),
                None => Statement { name, ..Statement::default() },
            },
        }
    }

    /// `Bind`.
    pub(super) fn bind(&mut self, portal: Option<Arc<str>>, statement: Statement) {
        match portal {
            None => self.unnamed_portal = statement,
            Some(portal) => {
                if self.portals.len() >= limits::POSTGRES_PORTALS
                    && !self.portals.contains_key(&portal)
                {
                    // Portals end with their transaction, which is not followed: all are old.
                    self.portals.clear();
                }
                self.portals.insert(portal, statement);
            }
        }
    }

    /// What a portal was made of.
    pub(super) fn portal(&self, portal: &Option<Arc<str>>) -> Statement {
        match portal {
            None => self.unnamed_portal.clone(),
            Some(portal) => self.portals.get(portal).cloned().unwrap_or_default(),
        }
    }

    pub(super) fn forget_portal(&mut self, portal: &Option<Arc<str>>) {
        match portal {
            None => self.unnamed_portal = Statement::default(),
            Some(portal) => drop(self.portals.remove(portal)),
        }
    }

    /// What may have been defined anew in bytes of one burst that were not captured: the unnamed ones.
    /// Drivers name every statement anew, so that a known name still means what it did.
    pub(super) fn forget_unnamed(&mut self) {
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

    /// `PREPARE`, `DEALLOCATE` and `DISCARD` change names behind the protocol's back.
    pub(super) fn run(&mut self, statement: &Statement) {
        if statement.meddles {
            self.forget_all();
        }
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_go_first() {
        let mut statements = Statements::default();
        let text: Arc<str> = Arc::from("x".repeat(1024));
        for n in 0..10_000u32 {
            let name = Some(Arc::from(format!("s{n}")));
            statements.define(Arc::clone(&text), false, name.clone());
            statements.bind(name, statements.get(None));
            assert!(statements.named.len() <= limits::POSTGRES_STATEMENTS);
            assert!(statements.text_bytes <= limits::POSTGRES_STATEMENT_BYTES);
            assert!(statements.portals.len() <= limits::POSTGRES_PORTALS);
            assert_eq!(statements.ages.len(), statements.named.len());
        }
        assert_eq!(statements.get(Some(Arc::from("s9999"))).text, Some(text));
        assert_eq!(statements.get(Some(Arc::from("s1"))).text, None);
        statements.simple_query(&Statement::new(Arc::from("DEALLOCATE ALL"), false, None));
        assert_eq!(statements.get(Some(Arc::from("s9999"))).text, None);
        assert_eq!(statements.text_bytes, 0);
    }
}
