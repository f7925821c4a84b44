//! What lists and sorted sets of Redis have in common as queues: elements are put in, and taken out by a pop.
//!
//! An element is known by its collection and a hash of it. Whether a collection is a queue at all shows who pops from
//! it: what is put into one that nobody was seen to pop from stays a command of a database.

use wirespan_protocols::redis::Bytes;

use super::{Asks, Expects, Identity, Part, Scope, System, Until, Work, text};

/// Elements of one command or reply that are joined.
pub(super) const MAX_ELEMENTS: usize = 64;

/// A kind of collection: the word by which identities of one differ from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Popped(pub(super) &'static str);

impl Popped {
    /// The collection itself: what who pops from it is known by.
    pub(super) fn identity(self, name: &str) -> Identity {
        Identity::new((self.0, name), Scope::Database)
    }

    /// A command that pops from the collection `named` in it, or, where none is, from the first of all its keys that
    /// isn't empty. `expects` says what its reply may bring of the one that is named.
    pub(super) fn claim(
        self,
        call: &Asks<'_>,
        named: Option<&str>,
        expects: impl FnOnce(Option<Box<str>>) -> Expects,
    ) -> Part {
        let takes_from = match named {
            Some(name) => vec![self.identity(name)],
            // All of them, and the longest wait.
            None => {
                let names = call.values.iter().rev().skip(1).filter_map(text);
                names.map(|name| self.identity(name)).collect()
            }
        };
        Part::claim(expects(named.map(Box::from)), takes_from)
    }

    /// A command that puts these in.
    pub(super) fn put(self, name: &str, elements: &[Bytes<'_>], operation: &'static str) -> Part {
        let work = self.work(name, elements, operation);
        Part::submit(Work { only_if_taken: Some(self.identity(name)), ..work })
    }

    /// These were popped.
    pub(super) fn taken(self, name: &str, elements: &[Bytes<'_>], operation: &'static str) -> Work {
        Work { until: Until::Next, ..self.work(name, elements, operation) }
    }

    fn work(self, name: &str, elements: &[Bytes<'_>], operation: &'static str) -> Work {
        let hashes = elements.iter().take(MAX_ELEMENTS).filter_map(|element| element.hash);
        let messages = hashes.map(|hash| Identity::new((self.0, name, hash), Scope::Database));
        // Of several, each may have its own.
        let alone = if let [element] = elements { element.whole() } else { None };
        Work {
            count: elements.len(),
            messages: messages.collect(),
            context: alone.and_then(super::context_in),
            ..Work::new(System::Redis, name, operation)
        }
    }
}
