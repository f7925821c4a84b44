//! Which arguments of a command may be shown: those that `db.query.text` has, and those that the connection itself
//! goes by. For whoever keeps commands and not what they carry.

use super::command::Builder;

/// One command, argument by argument.
#[derive(Debug)]
pub struct Shown(Builder);

impl Default for Shown {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Shown {
    /// A command of so many arguments, its name among them.
    #[must_use]
    pub fn of(arguments: u32) -> Self {
        let mut builder = Builder::new(None);
        builder.begin(Some(arguments));
        Self(builder)
    }

    /// Whether the next argument, which is whole, may be shown.
    pub fn argument(&mut self, bytes: &[u8]) -> bool {
        self.0.shows(bytes)
    }

    /// The next argument is not known.
    pub fn unseen(&mut self) {
        self.0.argument(b"", 1);
    }
}
