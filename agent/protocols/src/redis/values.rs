//! Values of some commands and their replies, for the caller who asked for them ([`Asked`]): what a job queue's
//! messages are known by. Of all other commands values never leave this module.
//!
//! They are lent with the event that tells of them, in the parser's own buffers, as far as capture and the caps
//! let them. A reply is a flat list in the order of the wire: an array or map says how many values follow as its own.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};

use super::table;
use crate::limits;

/// Which values a caller asks for.
#[derive(Debug, Default)]
pub struct Asked {
    /// By the command's name, in the order of names, with the patterns of its first key.
    commands: Vec<(&'static str, Vec<Pattern>)>,
    /// Published messages, too.
    messages: bool,
}

impl Asked {
    /// For nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// And for the arguments of this command behind its name, and its reply, where its first key fits `pattern` (`*`
    /// stands for any bytes). Of a command whose first key isn't its first argument the pattern is not looked at.
    ///
    /// # Errors
    /// The name is none that the parser knows, or one with a subcommand.
    pub fn command(mut self, name: &str, pattern: &str) -> Result<Self, UnknownCommand> {
        let spec = table::find(name.as_bytes()).filter(|spec| !table::is_container(spec.name));
        let Some(spec) = spec else { return Err(UnknownCommand(name.into())) };
        let pattern = Pattern::new(pattern);
        match self.commands.binary_search_by(|(known, _)| known.cmp(&spec.name)) {
            Ok(at) => {
                if let Some((_, patterns)) = self.commands.get_mut(at) {
                    patterns.push(pattern);
                }
            }
            Err(at) => self.commands.insert(at, (spec.name, vec![pattern])),
        }
        Ok(self)
    }

    /// And for published messages.
    #[must_use]
    pub fn messages(self) -> Self {
        Self { messages: true, ..self }
    }

    /// Whether published messages are asked for.
    pub(super) fn asks_for_messages(&self) -> bool {
        self.messages
    }

    /// What is asked of this command.
    pub(super) fn of(&self, spec: &table::Spec) -> Interest {
        let found = self.commands.binary_search_by(|(known, _)| (*known).cmp(spec.name));
        match found.ok().and_then(|at| Some((at, self.commands.get(at)?))) {
            None => Interest::None,
            Some((at, (_, patterns)))
                if spec.begins_with_key() && !patterns.iter().any(Pattern::is_any) =>
            {
                Interest::ByKey(at)
            }
            Some(_) => Interest::All,
        }
    }

    /// Whether that is so with this first key.
    pub(super) fn takes(&self, at: usize, key: &[u8]) -> bool {
        let patterns = self.commands.get(at).map(|(_, patterns)| patterns.as_slice());
        patterns.is_some_and(|patterns| patterns.iter().any(|pattern| pattern.fits(key)))
    }
}

/// No command that the parser knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCommand(pub Box<str>);

impl fmt::Display for UnknownCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no command of Redis that can be asked for", self.0)
    }
}

impl std::error::Error for UnknownCommand {}

/// What is asked of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    None,
    /// The first key decides, by the entry at this place.
    ByKey(usize),
    All,
}

/// A pattern of keys, with `*` for any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<[u8]>);

impl Pattern {
    /// From its text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().into())
    }

    fn is_any(&self) -> bool {
        *self.0 == *b"*"
    }

    /// Whether a key fits.
    #[must_use]
    pub fn fits(&self, key: &[u8]) -> bool {
        self.stars(key).is_some()
    }

    /// What the last `*` stands for in a key that fits: the shortest there is for each before it.
    #[must_use]
    pub fn last_star<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        self.stars(key).flatten()
    }

    #[expect(clippy::option_option, reason = "fits or not, and if it does, has a star or not")]
    fn stars<'a>(&self, key: &'a [u8]) -> Option<Option<&'a [u8]>> {
        let mut pieces = self.0.split(|byte| *byte == b'*');
        let mut rest = key.strip_prefix(pieces.next()?)?;
        let Some(mut piece) = pieces.next() else { return rest.is_empty().then_some(None) };
        for next in pieces {
            let at = memchr::memmem::find(rest, piece)?;
            rest = rest.get(at + piece.len()..)?;
            piece = next;
        }
        rest.strip_suffix(piece).map(Some)
    }
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An argument, a bulk string, or a simple string.
    Bytes(Bytes<'a>),
    /// An integer.
    Integer(i64),
    /// A null of whatever kind.
    Nil,
    /// An array or set: so many values are its own.
    Array(u64),
    /// A map: so many pairs are its own.
    Map(u64),
    /// Something else: one value.
    Other,
}

/// The bytes of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bytes<'a> {
    /// Its first bytes, as far as captured and kept ([`limits::REDIS_VALUE_BYTES`]).
    pub kept: &'a [u8],
    /// Its length.
    pub len: u64,
    /// A hash of all of it, the same wherever it passes; `None`: not all was captured.
    pub hash: Option<u64>,
}

impl<'a> Bytes<'a> {
    /// All of it, if all is kept.
    #[must_use]
    pub fn whole(&self) -> Option<&'a [u8]> {
        (self.kept.len() as u64 == self.len).then_some(self.kept)
    }
}

impl fmt::Debug for Bytes<'_> {
    /// Values are shown nowhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.kept.len(), self.len)
    }
}

/// The values of a command or a reply.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values<'a> {
    items: Cow<'a, [Item]>,
    bytes: Cow<'a, [u8]>,
    cut: bool,
}

impl Values<'_> {
    /// In the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        self.items.iter().map(|item| match *item {
            Item::Bytes { from, to, len, hash } => {
                let kept = self.bytes.get(from as usize..to as usize).unwrap_or_default();
                Value::Bytes(Bytes { kept, len, hash })
            }
            Item::Integer(number) => Value::Integer(number),
            Item::Nil => Value::Nil,
            Item::Array(items) => Value::Array(items),
            Item::Map(entries) => Value::Map(entries),
            Item::Other => Value::Other,
        })
    }

    /// Whether there are none: not asked for, or there aren't any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Not all came, or are kept.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The same, with bytes of its own.
    #[must_use]
    pub fn into_owned(self) -> Values<'static> {
        Values {
            items: Cow::Owned(self.items.into_owned()),
            bytes: Cow::Owned(self.bytes.into_owned()),
            cut: self.cut,
        }
    }
}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Bytes { from: u32, to: u32, len: u64, hash: Option<u64> },
    Integer(i64),
    Nil,
    Array(u64),
    Map(u64),
    Other,
}

/// Values as they come. Its buffers serve one command after the other.
#[derive(Debug, Default)]
pub(super) struct Store {
    items: Vec<Item>,
    bytes: Vec<u8>,
    cut: bool,
    /// The string that is being read: where its bytes begin, its length, all of it so far.
    open: Option<(u32, u64, Hash)>,
}

impl Store {
    /// Forgets all, and gives back room beyond what most need.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
        self.bytes.shrink_to(SPARE_BYTES);
        self.items.shrink_to(SPARE_ITEMS);
        (self.cut, self.open) = (false, None);
    }

    pub(super) fn values(&self) -> Values<'_> {
        Values {
            items: Cow::Borrowed(&self.items),
            bytes: Cow::Borrowed(&self.bytes),
            cut: self.cut || self.open.is_some(),
        }
    }

    /// Not all will come.
    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    pub(super) fn integer(&mut self, number: i64) {
        self.push(Item::Integer(number));
    }

    pub(super) fn nil(&mut self) {
        self.push(Item::Nil);
    }

    pub(super) fn array(&mut self, items: u64) {
        self.push(Item::Array(items));
    }

    pub(super) fn map(&mut self, entries: u64) {
        self.push(Item::Map(entries));
    }

    pub(super) fn other(&mut self) {
        self.push(Item::Other);
    }

    /// A string of this length begins.
    pub(super) fn begin(&mut self, len: u64) {
        let from = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.open = Some((from, len, Hash::new()));
    }

    /// Bytes of it.
    pub(super) fn bytes(&mut self, run: &[u8]) {
        let Some((from, _, hash)) = &mut self.open else { return };
        hash.add(run);
        let own = limits::REDIS_VALUE_BYTES.saturating_sub(self.bytes.len() - *from as usize);
        let room = own.min(limits::REDIS_VALUES_BYTES.saturating_sub(self.bytes.len()));
        if hash.is_whole() {
            self.bytes.extend_from_slice(run.get(..room).unwrap_or(run));
        }
    }

    /// Bytes of it were not captured: what is kept of it is its beginning.
    pub(super) fn missing(&mut self) {
        if let Some((_, _, hash)) = &mut self.open {
            hash.lose();
        }
    }

    /// It is over, or nothing more will come of it and it has [`Self::missing`] bytes. Nothing where none is open.
    pub(super) fn end(&mut self) {
        let Some((from, len, hash)) = self.open.take() else { return };
        let to = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.push(Item::Bytes { from, to, len, hash: hash.finish() });
    }

    fn push(&mut self, item: Item) {
        if self.items.len() < limits::REDIS_VALUES {
            self.items.push(item);
        } else {
            self.cut = true;
        }
    }
}

/// Room that an idle connection keeps for values.
const SPARE_BYTES: usize = 2048;
const SPARE_ITEMS: usize = 64;

/// Hashes a value that comes in pieces: SipHash, since senders choose the bytes.
#[derive(Debug)]
struct Hash(Option<DefaultHasher>);

impl Hash {
    fn new() -> Self {
        Self(Some(DefaultHasher::new()))
    }

    fn add(&mut self, run: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.write(run);
        }
    }

    fn lose(&mut self) {
        self.0 = None;
    }

    fn is_whole(&self) -> bool {
        self.0.is_some()
    }

    fn finish(self) -> Option<u64> {
        self.0.map(|hasher| hasher.finish())
    }
}

/// The hash that [`Bytes::hash`] has for these bytes.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_they_say() {
        for (pattern, key, last) in [
            ("job:*", "job:7", Some("7")),
            ("job:*:data", "job:7:data", Some("7")),
            ("*:*:wait", "bull:mail:wait", Some("mail")),
            ("a*b", "ab", Some("")),
            ("*", "", Some("")),
        ] {
            let pattern = Pattern::new(pattern);
            assert_eq!(pattern.last_star(key.as_bytes()), last.map(str::as_bytes), "{key}");
        }
        assert!(Pattern::new("jobs").fits(b"jobs"));
        for (pattern, key) in
            [("job:*", "jo"), ("jobs", "jobs2"), ("ab*ab", "ab"), ("a*b*c", "acb"), ("*x", "y")]
        {
            assert!(!Pattern::new(pattern).fits(key.as_bytes()), "{pattern} {key}");
        }
    }

    #[test]
    fn a_value_has_one_hash_however_it_came() {
        let value: Vec<u8> = (0..100u8).collect();
        for split in 0..value.len() {
            let mut store = Store::default();
            store.begin(100);
            store.bytes(&value[..split]);
            store.bytes(&value[split..]);
            store.end();
            let values = store.values();
            let bytes = Bytes { kept: &value, len: 100, hash: Some(hash(&value)) };
            assert_eq!(values.iter().collect::<Vec<_>>(), [Value::Bytes(bytes)], "{split}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut store = Store::default();
        for _ in 0..2 * limits::REDIS_VALUES {
            store.begin(100_000);
            store.bytes(&[7; 100_000]);
            store.end();
        }
        let values = store.values();
        assert!(values.is_cut());
        assert_eq!(values.iter().count(), limits::REDIS_VALUES);
        assert_eq!(values.bytes.len(), limits::REDIS_VALUES_BYTES);
        let Some(Value::Bytes(first)) = values.iter().next() else { panic!("no value") };
        assert_eq!((first.kept.len(), first.whole()), (limits::REDIS_VALUE_BYTES, None));
        store.clear();
        assert!(store.values().is_empty() && store.bytes.capacity() <= SPARE_BYTES);
    }
}
