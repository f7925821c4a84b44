//! Fields of heads for the caller who asked for them ([`Asked`]), beside those that every head is read for. Of all
//! others nothing leaves the parser.
//!
//! A value that goes on in a folded line is left out: half of one is another.

use std::borrow::Cow;
use std::sync::Arc;

use super::fields::text;
use crate::exchange::Direction;
use crate::limits;

/// Which fields a caller asks for, by name, in lower case; and whether for content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    objects: bool,
    requests: Vec<Arc<str>>,
    responses: Vec<Arc<str>>,
}

impl Asked {
    /// For nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// And for this field in heads of this direction.
    #[must_use]
    pub fn field(mut self, direction: Direction, name: &str) -> Self {
        let names = match direction {
            Direction::Requests => &mut self.requests,
            Direction::Responses => &mut self.responses,
        };
        let name = name.to_ascii_lowercase();
        if !names.iter().any(|known| **known == *name) {
            names.push(name.into());
        }
        self
    }

    /// And for the content of requests that may be JSON objects: those that begin with a brace, are no longer than
    /// [`limits::HTTP1_KEPT_BODY_BYTES`] and were captured whole.
    #[must_use]
    pub fn objects(mut self) -> Self {
        self.objects = true;
        self
    }

    pub(super) fn keeps_objects(&self) -> bool {
        self.objects
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.responses.is_empty() && !self.objects
    }

    pub(super) fn of(&self, direction: Direction) -> &[Arc<str>] {
        match direction {
            Direction::Requests => &self.requests,
            Direction::Responses => &self.responses,
        }
    }
}

/// A field that was asked for. Text that isn't UTF-8 has U+FFFD in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name, in lower case.
    pub name: Arc<str>,
    /// Its value, of which [`limits::HTTP1_ASKED_VALUE_BYTES`] are kept.
    pub value: Cow<'a, str>,
    /// The value is all there, and so are all others of that name.
    pub whole: bool,
}

impl Field<'_> {
    pub(super) fn into_owned(self) -> Field<'static> {
        let Self { name, value, whole } = self;
        Field { name, value: Cow::Owned(value.into_owned()), whole }
    }
}

/// The fields of one head that were asked for, in order.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    fields: Vec<Field<'a>>,
    /// The last line's is the last of these: a folded one would be a part of it.
    is_last: bool,
}

impl<'a> Found<'a> {
    /// Looks at the next field of a head.
    pub(super) fn field(&mut self, names: &[Arc<str>], name: &[u8], value: &'a [u8]) {
        self.is_last = false;
        let known = |known: &&Arc<str>| known.as_bytes().eq_ignore_ascii_case(name);
        let Some(name) = names.iter().find(known) else { return };
        if self.fields.len() >= limits::HTTP1_ASKED_FIELDS {
            return self.is_not_all(name);
        }
        let cap = limits::HTTP1_ASKED_VALUE_BYTES;
        let Some(text) = text(value, cap) else { return };
        self.fields.push(Field { name: Arc::clone(name), value: text, whole: value.len() <= cap });
        self.is_last = true;
    }

    /// The last field goes on in a folded line.
    pub(super) fn folded(&mut self) {
        if std::mem::take(&mut self.is_last)
            && let Some(Field { name, .. }) = self.fields.pop()
        {
            self.is_not_all(&name);
        }
    }

    /// A value of this name is left out: what is kept of the others is not all.
    fn is_not_all(&mut self, name: &str) {
        for field in self.fields.iter_mut().filter(|field| *field.name == *name) {
            field.whole = false;
        }
    }

    pub(super) fn into_fields(self) -> Vec<Field<'a>> {
        self.fields
    }
}
