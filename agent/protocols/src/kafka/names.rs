//! Names that come again with every request, kept once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::limits;

/// The names of one connection's topics, groups and clients.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// The name, if it is one: text of no more than [`limits::KAFKA_NAME_BYTES`], without control characters.
    pub(super) fn get(&mut self, bytes: &[u8]) -> Option<Arc<str>> {
        let text = text(bytes)?;
        if let Some(known) = self.0.get(text) {
            return Some(Arc::clone(known));
        }
        if self.0.len() >= limits::KAFKA_NAMES {
            self.0.clear();
        }
        let name: Arc<str> = text.into();
        self.0.insert(Arc::clone(&name));
        Some(name)
    }
}

/// What can be a name.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let text = (bytes.len() <= limits::KAFKA_NAME_BYTES).then(|| str::from_utf8(bytes).ok())??;
    (!text.contains(char::is_control)).then_some(text)
}
