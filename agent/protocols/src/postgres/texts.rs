//! Texts that are shared within one connection, and the memory of those that nobody needs any more.
//!
//! A driver that names no statement sends its text with each execution: those few texts take turns.

use std::{borrow::Borrow, ops::Deref, sync::Arc};

use crate::limits;

/// A statement's text, or a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Text(Arc<String>);

impl Text {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// As a key that is looked up by `str`: hashes as one.
impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

#[derive(Debug, Default)]
pub(super) struct Texts {
    recent: Vec<Text>,
    /// Which of them makes room next, where all are in use.
    oldest: usize,
}

impl Texts {
    /// Keeps a text, in memory that nobody uses any more if there is any.
    pub(super) fn keep(&mut self, text: &str) -> Text {
        for Text(recent) in &mut self.recent {
            // Counting first: the other locks.
            if Arc::strong_count(recent) == 1
                && let Some(unused) = Arc::get_mut(recent)
            {
                unused.clear();
                unused.push_str(text);
                return Text(Arc::clone(recent));
            }
        }
        let text = Text(Arc::new(text.to_owned()));
        if self.recent.len() < limits::POSTGRES_RECENT_TEXTS {
            self.recent.push(text.clone());
        } else if let Some(oldest) = self.recent.get_mut(self.oldest) {
            // Long-lived ones have no turn.
            *oldest = text.clone();
            self.oldest = (self.oldest + 1) % limits::POSTGRES_RECENT_TEXTS;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_nobody_has_it_and_never_before() {
        let mut texts = Texts::default();
        let kept: Vec<Text> = (0..20).map(|n| texts.keep(&format!("named {n}"))).collect();
        let address = {
            let text = texts.keep("one");
            text.as_ptr()
        };
        for n in 0..20 {
            let text = texts.keep(&n.to_string());
            assert_eq!((&*text, text.as_ptr()), (&*n.to_string(), address));
        }
        for (n, text) in kept.iter().enumerate() {
            assert_eq!(**text, format!("named {n}"));
        }
        assert!(texts.recent.len() <= limits::POSTGRES_RECENT_TEXTS);
    }
}
