//! What a command was answered: kinds and sizes, never values. And RESP's numbers.
//!
//! How it is read from the wire is in `resp`.

use std::borrow::Cow;

/// What a command was answered, without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK`.
    Ok,
    /// `+QUEUED`: the command runs when the transaction does.
    Queued,
    /// Another simple string.
    Simple,
    /// A null of whatever kind.
    Nil,
    /// An integer, or a big number.
    Integer,
    /// A double.
    Double,
    /// A boolean.
    Boolean,
    /// A string.
    Bulk {
        /// Its length, without framing.
        bytes: u64,
    },
    /// An array or a set; and the confirmations of one command for several channels.
    Array {
        /// How many elements it has itself.
        items: u64,
    },
    /// A map.
    Map {
        /// How many pairs it has itself.
        entries: u64,
    },
    /// What the commands of a transaction were answered: the array of `EXEC`. Of a reply that was cut, as far as it
    /// came.
    Executed {
        /// How many.
        items: u64,
        /// Those that were answered a null.
        nils: u64,
        /// Those that failed.
        failed: u64,
        /// The code of the first of these, as of [`Reply::Error`]; empty where none failed, or it has none.
        code: Cow<'a, str>,
        /// Its message, likewise.
        message: Cow<'a, str>,
    },
    /// An error.
    Error {
        /// Its code (`WRONGTYPE`, `MOVED`, `ERR`): one of Redis' own.
        code: Cow<'a, str>,
        /// The rest, if it is one of Redis' own messages: names and numbers in it are `?`.
        message: Cow<'a, str>,
    },
}

impl Reply<'_> {
    /// The same, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> Reply<'static> {
        match self {
            Self::Ok => Reply::Ok,
            Self::Queued => Reply::Queued,
            Self::Simple => Reply::Simple,
            Self::Nil => Reply::Nil,
            Self::Integer => Reply::Integer,
            Self::Double => Reply::Double,
            Self::Boolean => Reply::Boolean,
            Self::Bulk { bytes } => Reply::Bulk { bytes },
            Self::Array { items } => Reply::Array { items },
            Self::Map { entries } => Reply::Map { entries },
            Self::Executed { items, nils, failed, code, message } => Reply::Executed {
                items,
                nils,
                failed,
                code: Cow::Owned(code.into_owned()),
                message: Cow::Owned(message.into_owned()),
            },
            Self::Error { code, message } => Reply::Error {
                code: Cow::Owned(code.into_owned()),
                message: Cow::Owned(message.into_owned()),
            },
        }
    }
}

/// A decimal number as Redis writes it.
pub(super) fn integer(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits.split_first() {
        Some((b'-', digits)) => (true, digits),
        // RESP allows it, Redis doesn't write it.
        Some((b'+', digits)) => (false, digits),
        _ => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0i64, |number, byte| {
        let digit = i64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        let number = number.checked_mul(10)?;
        if negative { number.checked_sub(digit) } else { number.checked_add(digit) }
    })
}
