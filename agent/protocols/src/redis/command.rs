//! One command as it is told: name, keys, structural words; every value is a `?`.
//!
//! Arguments come one by one, each as far as capture and the caps let it; what a command's arguments are
//! is the table's. Credentials are values like any other.

use std::borrow::Cow;

use super::{
    session::Kind,
    table::{self, Keys, Shape, Spec},
};
use crate::limits;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its name in upper case, with the subcommand where it has one (`CLIENT SETINFO`); `?` where it
    /// isn't one or was not captured.
    pub name: Cow<'static, str>,
    /// `db.query.text`: the command with its keys and structural words, every value replaced by `?`. Of a
    /// command that isn't known: the name and a `?` for each argument.
    pub text: Box<str>,
    /// The first key, or channel, as far as it is kept ([`limits::REDIS_KEY_BYTES`]); bytes that are not
    /// UTF-8, and control characters, as `\xNN`.
    pub key: Option<Box<str>>,
    /// How many arguments follow the name's first word.
    pub arguments: u32,
    /// The database that `SELECT` asks for.
    pub database: Option<u32>,
    /// The version of RESP that `HELLO` asks for.
    pub protocol: Option<u8>,
    /// The server may keep the client waiting, as the client asks it to (`BRPOP`, `XREAD BLOCK`, `WAIT`).
    pub blocking: bool,
    /// What a worker repeats while it has nothing to do; with an empty reply it tells little.
    pub poll: bool,
    /// Sent between `MULTI` and `EXEC`: answered `QUEUED`, and run by the `EXEC`.
    pub queued: bool,
    /// An inline command.
    pub inline: bool,
    /// Not all of what is told here (name, keys, words, numbers) was captured or is kept, or the command
    /// never ended.
    pub cut: bool,
}

/// What the connection has to know of a command beside what is told.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) command: Command,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
}

/// Reads a command, argument by argument.
#[derive(Debug)]
pub(super) struct Builder {
    /// How many arguments there are in all, the name among them; `None`: not known before the end.
    total: Option<u32>,
    /// How many came.
    index: u32,
    spec: Option<&'static Spec>,
    name: Cow<'static, str>,
    text: String,
    /// No room for more text.
    full: bool,
    key: Option<Box<str>>,
    /// Keys from here up to there, once a count has told them.
    counted: Option<(u32, u32)>,
    kind: Kind,
    database: Option<u32>,
    protocol: Option<u8>,
    blocking: bool,
    inline: bool,
    cut: bool,
}

impl Builder {
    /// `room`: what the text is written to, empty.
    pub(super) fn new(total: Option<u32>, room: String) -> Self {
        Self {
            total,
            index: 0,
            spec: None,
            name: Cow::Borrowed("?"),
            text: room,
            full: false,
            key: None,
            counted: None,
            kind: Kind::Unclear,
            database: None,
            protocol: None,
            blocking: false,
            inline: total.is_none(),
            cut: false,
        }
    }

    pub(super) fn set_total(&mut self, total: u32) {
        self.total = Some(total);
    }

    /// How many arguments have still to come.
    pub(super) fn left(&self) -> u32 {
        self.total.unwrap_or(u32::MAX).saturating_sub(self.index)
    }

    /// Whether the name is known.
    pub(super) fn is_named(&self) -> bool {
        self.name != "?"
    }

    /// How many bytes of the next argument are of interest.
    pub(super) fn wanted(&self) -> usize {
        match self.index {
            0 | 1 if self.spec.is_none_or(|spec| table::is_container(spec.name)) => {
                limits::REDIS_NAME_BYTES
            }
            _ if self.full => WORD_BYTES,
            index if self.is_key(index) => limits::REDIS_KEY_BYTES,
            _ => WORD_BYTES,
        }
    }

    /// The next argument: as many bytes of it as were wanted and captured, and its length.
    pub(super) fn argument(&mut self, bytes: &[u8], len: u64) {
        let index = self.index;
        self.index = index.saturating_add(1);
        let whole = bytes.len() as u64 == len;
        match (index, self.spec) {
            (0, _) => return self.name(bytes, whole, len),
            (1, Some(spec)) if table::is_container(spec.name) => {
                return self.subcommand(spec, bytes, whole, len);
            }
            _ => {}
        }
        self.take_note(index, bytes, whole);
        if self.is_key(index) {
            return self.key(bytes, whole);
        }
        if let Some(spec) = self.spec {
            let counts = match spec.keys {
                Keys::Counted { at } => index == at,
                Keys::IntoCounted => index == 2,
                _ => false,
            };
            if counts {
                self.keys_follow(bytes, whole);
            } else if spec.words_from > 0
                && index >= spec.words_from
                && !is_name_of_group(spec, index)
            {
                let word = if whole { spec.word(bytes) } else { None };
                // A cut argument may be a word unless it is longer than any.
                self.cut |= !whole && len <= WORD_BYTES as u64;
                if let Some(word) = word {
                    self.structure(spec, word);
                    return self.push(word);
                }
            }
        }
        self.push("?");
    }

    /// The command, whole, or (when `ended` isn't) as far as it came; and the room again.
    pub(super) fn finish(mut self, ended: bool) -> (Read, String) {
        let left = self.total.map_or(0, |total| total.saturating_sub(self.index));
        self.cut |= !ended || !self.is_named();
        let keys_left = (0..left.min(8)).any(|at| self.is_key(self.index.saturating_add(at)));
        for _ in 0..left {
            if self.full {
                break;
            }
            self.push("?");
        }
        self.cut |= keys_left || self.full;
        let total = self.total.unwrap_or(self.index);
        if left > 0 && (self.kind.depends_on_arguments() || self.is_container_alone()) {
            self.kind = Kind::Unclear;
        }
        let name = self.name;
        let spec_name = self.spec.map_or("", |spec| spec.name);
        let read = Read {
            shape: self.spec.map_or(Shape::Any, |spec| spec.shape),
            kind: self.kind.with_arguments(total.saturating_sub(1)),
            command: Command {
                text: self.text.as_str().into(),
                key: self.key,
                arguments: total.saturating_sub(1),
                database: self.database,
                protocol: self.protocol,
                blocking: self.blocking || table::is_blocking(spec_name),
                poll: table::is_poll(spec_name),
                queued: false,
                inline: self.inline,
                cut: self.cut,
                name,
            },
        };
        self.text.clear();
        (read, self.text)
    }

    /// The subcommand has not come.
    fn is_container_alone(&self) -> bool {
        self.index < 2 && self.spec.is_some_and(|spec| table::is_container(spec.name))
    }

    fn name(&mut self, bytes: &[u8], whole: bool, len: u64) {
        let known = if whole { table::find(bytes) } else { None };
        if let Some(spec) = known {
            self.spec = Some(spec);
            self.name = Cow::Borrowed(spec.name);
            self.kind = Kind::of(spec.name);
        } else if whole && is_name(bytes) {
            // Nothing that a name like this could do to the connection is known.
            self.name = Cow::Owned(String::from_utf8_lossy(bytes).to_ascii_uppercase());
            self.kind = Kind::Plain;
        } else if whole || len > limits::REDIS_NAME_BYTES as u64 {
            // Longer than, or unlike, any name: the server knows no such command.
            self.kind = Kind::Plain;
        }
        let name = self.name.clone();
        self.push(&name);
    }

    fn subcommand(&mut self, spec: &'static Spec, bytes: &[u8], whole: bool, len: u64) {
        let known = if whole { table::subcommand(spec.name, bytes) } else { None };
        let Some(subcommand) = known else {
            if !whole && len <= limits::REDIS_NAME_BYTES as u64 {
                self.cut = true;
                self.kind = Kind::Unclear;
            }
            return self.push("?");
        };
        self.name = Cow::Owned(format!("{} {subcommand}", spec.name));
        self.kind = Kind::of(&self.name);
        self.push(subcommand);
    }

    /// Keeps what the connection must know.
    fn take_note(&mut self, index: u32, bytes: &[u8], whole: bool) {
        let number = || if whole { super::reply::integer(bytes) } else { None };
        match (&self.kind, index) {
            (Kind::Select(_), 1) => {
                self.cut |= !whole;
                self.database = number().and_then(|number| u32::try_from(number).ok());
                self.kind = Kind::Select(self.database);
            }
            (Kind::Hello { .. }, 1) => {
                self.cut |= !whole;
                self.protocol = number().and_then(|number| u8::try_from(number).ok());
                self.kind = Kind::Hello { asked: true, protocol: self.protocol };
            }
            (Kind::ReplyMode, 2) => {
                self.kind = match bytes.to_ascii_uppercase().as_slice() {
                    _ if !whole => Kind::Unclear,
                    b"ON" => Kind::ReplyOn,
                    b"OFF" => Kind::ReplyOff,
                    b"SKIP" => Kind::ReplySkip,
                    _ => Kind::Plain,
                };
            }
            (Kind::Library { .. }, 2) => {
                self.kind =
                    Kind::Library { named: bytes.eq_ignore_ascii_case(b"LIB-NAME"), turns: false };
            }
            (Kind::Library { named: true, .. }, 3) => {
                self.kind = Kind::Library { named: true, turns: bytes.starts_with(b"redis-py") };
            }
            _ => {}
        }
    }

    /// What a word says of the arguments that follow.
    fn structure(&mut self, spec: &Spec, word: &str) {
        let streams = matches!(spec.keys, Keys::Streams);
        if streams && self.counted.is_none() {
            if word == "STREAMS" {
                let count = self.left() / 2;
                self.counted = Some((self.index, self.index.saturating_add(count)));
            }
            self.blocking |= word == "BLOCK";
        }
    }

    fn keys_follow(&mut self, bytes: &[u8], whole: bool) {
        let count = if whole { super::reply::integer(bytes) } else { None };
        self.cut |= !whole;
        let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        self.counted = Some((self.index, self.index.saturating_add(count.min(self.left()))));
    }

    fn is_key(&self, index: u32) -> bool {
        let counted = self.counted.is_some_and(|(from, to)| (from..to).contains(&index));
        match self.spec.map(|spec| spec.keys) {
            None => false,
            Some(Keys::Range { first: 0, .. }) => false,
            Some(Keys::Range { first, last, step }) => {
                let last = match (u32::try_from(last), self.total) {
                    (Ok(last), _) => last,
                    (Err(_), Some(total)) => total.saturating_sub(last.unsigned_abs()),
                    (Err(_), None) => u32::MAX,
                };
                (first..=last).contains(&index) && (index - first).checked_rem(step) == Some(0)
            }
            Some(Keys::IntoCounted) => index == 1 || counted,
            Some(Keys::Counted { .. } | Keys::Streams) => counted,
        }
    }

    fn key(&mut self, bytes: &[u8], whole: bool) {
        let is_simple = |byte: &u8| byte.is_ascii_alphanumeric() || b":_-./{}".contains(byte);
        if let Ok(simple) = str::from_utf8(bytes)
            && whole
            && !bytes.is_empty()
            && bytes.iter().all(is_simple)
        {
            // Nearly every key is told as it is.
            self.push(simple);
            if self.key.is_none() {
                self.key = Some(simple.into());
            }
            return;
        }
        let shown = show(bytes, whole);
        self.cut |= !whole;
        let plain = whole
            && !shown.is_empty()
            && shown != "?"
            && !shown.contains(|it: char| it.is_whitespace() || it == '"');
        if plain {
            self.push(&shown);
        } else {
            let end = if whole { "" } else { "..." };
            self.push(&format!("\"{}{end}\"", shown.replace('"', "\\\"")));
        }
        if self.key.is_none() {
            self.key = Some(shown.into_boxed_str());
        }
    }

    fn push(&mut self, token: &str) {
        if self.full {
            return;
        }
        if self.text.len() + token.len() + 1 > limits::REDIS_TEXT_BYTES {
            self.full = true;
            self.text.push_str(" ...");
            return;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(token);
    }
}

/// Whether this is where `XREADGROUP` names group and consumer, which may be named like its words.
fn is_name_of_group(spec: &Spec, index: u32) -> bool {
    spec.name == "XREADGROUP" && (2..=3).contains(&index)
}

/// No word of the table, and no number that is read, is longer.
const WORD_BYTES: usize = 24;

/// Whether this can be a command's name: unknown ones are told.
fn is_name(bytes: &[u8]) -> bool {
    let (Some(first), len) = (bytes.first(), bytes.len()) else { return false };
    first.is_ascii_alphabetic()
        && len <= limits::REDIS_NAME_BYTES
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// A kept key, or channel, as it is told.
pub(super) fn show_key(bytes: &[u8]) -> Box<str> {
    show(bytes, bytes.len() < limits::REDIS_KEY_BYTES).into_boxed_str()
}

/// A key as text: what is not UTF-8 and control characters as `\xNN`, a character that capture or the
/// cap cut left out.
fn show(bytes: &[u8], whole: bool) -> String {
    use std::fmt::Write as _;
    let mut shown = String::new();
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        for it in chunk.valid().chars() {
            if it.is_control() {
                for byte in it.to_string().bytes() {
                    // Writing to a string cannot fail.
                    write!(shown, "\\x{byte:02x}").unwrap_or_default();
                }
            } else {
                shown.push(it);
            }
        }
        if !whole && chunks.peek().is_none() {
            break;
        }
        for byte in chunk.invalid() {
            write!(shown, "\\x{byte:02x}").unwrap_or_default();
        }
    }
    shown
}
