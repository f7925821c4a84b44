//! One command as it is told: name, keys, structural words; every value is a `?`.
//!
//! Arguments come one by one, each as far as capture and the caps let it; what a command's arguments are
//! is the table's. Credentials are values like any other.

use std::borrow::Cow;
use std::sync::Arc;

use super::{
    session::Kind,
    table::{self, Keys, Shape, Spec},
    tail::Tail,
    values::{Asked, Interest, Store, Values},
};
use crate::limits;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Its name in upper case, with the subcommand where it has one (`CLIENT SETINFO`); `?` where it
    /// isn't one or was not captured.
    pub name: Cow<'a, str>,
    /// `db.query.text`: the command with its keys and structural words, every value replaced by `?`. Of a
    /// command that isn't known: the name and a `?` for each argument.
    pub text: Cow<'a, str>,
    /// The first key, or channel, as far as it is kept ([`limits::REDIS_KEY_BYTES`]); bytes that are not
    /// UTF-8, and control characters, as `\xNN`.
    pub key: Option<Cow<'a, str>>,
    /// The function that `FCALL` calls, or the SHA1 of the script that `EVALSHA` runs, where it looks like one.
    pub procedure: Option<Cow<'a, str>>,
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

impl Command<'_> {
    /// The same, with text of its own.
    #[must_use]
    pub fn into_owned(self) -> Command<'static> {
        // Nearly every name is of the table.
        let name = match table::find(self.name.as_bytes()) {
            Some(spec) => Cow::Borrowed(spec.name),
            None => Cow::Owned(self.name.into_owned()),
        };
        Command {
            name,
            text: Cow::Owned(self.text.into_owned()),
            key: self.key.map(|key| Cow::Owned(key.into_owned())),
            procedure: self.procedure.map(|name| Cow::Owned(name.into_owned())),
            arguments: self.arguments,
            database: self.database,
            protocol: self.protocol,
            blocking: self.blocking,
            poll: self.poll,
            queued: self.queued,
            inline: self.inline,
            cut: self.cut,
        }
    }
}

/// What the connection has to know of a command beside what is told.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) command: Command<'a>,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// Its arguments, where they are asked for.
    pub(super) values: Values<'a>,
    /// Its reply's values are asked for.
    pub(super) asked: bool,
}

/// Reads a command, argument by argument. Its buffers serve one command after the other.
#[derive(Debug)]
pub(super) struct Builder {
    /// How many arguments there are in all, the name among them; `None`: not known before the end.
    total: Option<u32>,
    /// How many came.
    index: u32,
    spec: Option<&'static Spec>,
    /// Upper-case; empty: not known.
    name: String,
    text: String,
    /// No room for more text.
    full: bool,
    key: String,
    keyed: bool,
    /// Empty: none.
    procedure: String,
    /// Keys from here up to there, once a count has told them, and values between them.
    counted: Option<(u32, u32)>,
    /// How many keys the count told.
    count: u32,
    /// Words may come from here on.
    tail_from: u32,
    tail: Tail,
    kind: Kind,
    database: Option<u32>,
    protocol: Option<u8>,
    blocking: bool,
    inline: bool,
    cut: bool,
    asked: Option<Arc<Asked>>,
    interest: Interest,
    values: Store,
}

impl Builder {
    pub(super) fn new(asked: Option<Arc<Asked>>) -> Self {
        Self {
            asked,
            interest: Interest::None,
            values: Store::default(),
            total: None,
            index: 0,
            spec: None,
            name: String::new(),
            text: String::new(),
            full: false,
            key: String::new(),
            keyed: false,
            procedure: String::new(),
            counted: None,
            count: 0,
            tail_from: 0,
            tail: Tail::default(),
            kind: Kind::Unclear,
            database: None,
            protocol: None,
            blocking: false,
            inline: false,
            cut: false,
        }
    }

    /// Begins another command, of so many arguments; `None`: that is not known before the end.
    pub(super) fn begin(&mut self, total: Option<u32>) {
        let asked = self.asked.take();
        let Self { mut name, mut text, mut key, mut procedure, mut values, .. } =
            std::mem::replace(self, Self::new(asked));
        [&mut name, &mut text, &mut key, &mut procedure].into_iter().for_each(String::clear);
        values.clear();
        (self.name, self.text, self.key, self.values) = (name, text, key, values);
        self.procedure = procedure;
        (self.total, self.inline) = (total, total.is_none());
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
        !self.name.is_empty()
    }

    /// Whether the next argument's value is asked for: all of it goes to [`Self::value`] then.
    pub(super) fn asks(&self) -> bool {
        self.interest == Interest::All && self.index > 0
    }

    /// The value of the next argument begins.
    pub(super) fn begin_value(&mut self, len: u64) {
        self.values.begin(len);
    }

    /// Bytes of it.
    pub(super) fn value(&mut self, run: &[u8]) {
        self.values.bytes(run);
    }

    /// Not all of it was captured.
    pub(super) fn value_missing(&mut self) {
        self.values.missing();
    }

    /// How many bytes of the next argument are of interest.
    pub(super) fn wanted(&self) -> usize {
        match self.index {
            0 | 1 if self.spec.is_none_or(|spec| table::is_container(spec.name)) => {
                limits::REDIS_NAME_BYTES
            }
            1 if self.spec.is_some_and(|spec| procedure(spec.name).is_some()) => {
                limits::REDIS_KEY_BYTES
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
        if let Interest::ByKey(at) = self.interest
            && index == 1
        {
            let asked = self.asked.as_ref();
            let takes = whole && asked.is_some_and(|asked| asked.takes(at, bytes));
            self.interest = if takes { Interest::All } else { Interest::None };
            if takes {
                self.values.begin(len);
                self.values.bytes(bytes);
            }
        }
        self.values.end();
        match (index, self.spec) {
            (0, _) => return self.name(bytes, whole, len),
            (1, Some(spec)) if table::is_container(spec.name) => {
                return self.subcommand(spec, bytes, whole, len);
            }
            _ => {}
        }
        self.take_note(index, bytes, whole);
        if self.is_key(index) {
            self.tail.operand();
            return self.key(bytes, whole);
        }
        let word = match self.spec {
            Some(spec) => self.structure(spec, index, bytes, whole, len),
            None => None,
        };
        self.push(word.unwrap_or("?"));
    }

    /// The next argument, which is whole: whether it, or what it says, is told.
    pub(super) fn shows(&mut self, bytes: &[u8]) -> bool {
        let (index, before) = (self.index, self.text.len());
        let was_noted = (self.database, self.protocol, self.procedure.len(), self.counted);
        self.argument(bytes, bytes.len() as u64);
        let is_noted = (self.database, self.protocol, self.procedure.len(), self.counted);
        // Of a command that is not known nobody knows which words are its own.
        let told = self.text.get(before..).is_some_and(|told| !told.is_empty() && told != " ?")
            && (index > 0 || self.text != "?");
        let mode =
            matches!(self.kind, Kind::ReplyOn | Kind::ReplyOff | Kind::ReplySkip) && index == 2;
        let library = matches!(self.kind, Kind::Library { named: true, .. }) && index <= 3;
        told || was_noted != is_noted || mode || library
    }

    /// No more will come of it; not all came unless it has `ended`.
    pub(super) fn finish(&mut self, ended: bool) {
        let left = self.total.map_or(0, |total| total.saturating_sub(self.index));
        self.cut |= !ended || !self.is_named();
        if !ended {
            self.values.cut();
        }
        let keys_left = (0..left.min(8)).any(|at| self.is_key(self.index.saturating_add(at)));
        for _ in 0..left {
            if self.full {
                break;
            }
            self.push("?");
        }
        self.cut |= keys_left || self.full;
        if left > 0 && (self.kind.depends_on_arguments() || self.is_container_alone()) {
            self.kind = Kind::Unclear;
        }
    }

    /// The command, once it is finished.
    pub(super) fn read(&self) -> Read<'_> {
        let arguments = self.total.unwrap_or(self.index).saturating_sub(1);
        let spec_name = self.spec.map_or("", |spec| spec.name);
        let name = if self.is_named() { &*self.name } else { "?" };
        Read {
            shape: self.spec.map_or(Shape::Any, |spec| spec.shape),
            kind: self.kind.with_arguments(arguments),
            values: self.values.values(),
            asked: self.interest == Interest::All,
            command: Command {
                name: Cow::Borrowed(name),
                text: Cow::Borrowed(&self.text),
                key: self.keyed.then_some(Cow::Borrowed(&*self.key)),
                procedure: (!self.procedure.is_empty()).then_some(Cow::Borrowed(&*self.procedure)),
                arguments,
                database: self.database,
                protocol: self.protocol,
                blocking: self.blocking || table::is_blocking(spec_name),
                poll: table::is_poll(spec_name),
                queued: false,
                inline: self.inline,
                cut: self.cut,
            },
        }
    }

    /// The subcommand has not come.
    fn is_container_alone(&self) -> bool {
        self.index < 2 && self.spec.is_some_and(|spec| table::is_container(spec.name))
    }

    fn name(&mut self, bytes: &[u8], whole: bool, len: u64) {
        let known = if whole { table::find(bytes) } else { None };
        if let Some(spec) = known {
            self.spec = Some(spec);
            self.interest = self.asked.as_ref().map_or(Interest::None, |asked| asked.of(spec));
            self.name.push_str(spec.name);
            self.kind = Kind::of(spec.name);
            (self.tail_from, self.tail) = (spec.tail_from, Tail::new(spec.tail));
        } else if whole && is_name(bytes) {
            // Nothing that a name like this could do to the connection is known.
            self.name.extend(bytes.iter().map(|byte| char::from(byte.to_ascii_uppercase())));
            self.kind = Kind::Plain;
        } else if whole || len > limits::REDIS_NAME_BYTES as u64 {
            // Longer than, or unlike, any name: the server knows no such command.
            self.kind = Kind::Plain;
        }
        push(&mut self.text, &mut self.full, if self.name.is_empty() { "?" } else { &self.name });
    }

    fn subcommand(&mut self, spec: &'static Spec, bytes: &[u8], whole: bool, len: u64) {
        let known = if whole { table::subcommand(spec.name, bytes) } else { None };
        let Some(subcommand) = known else {
            if !whole && len <= limits::REDIS_NAME_BYTES as u64 {
                self.cut = true;
                self.kind = Kind::Unclear;
            }
            // Nothing is known of what follows.
            self.spec = None;
            return self.push("?");
        };
        self.name.push(' ');
        self.name.push_str(subcommand);
        self.kind = Kind::of(&self.name);
        if let Some((from, tail)) = table::subcommand_tail(&self.name) {
            (self.tail_from, self.tail) = (from, Tail::new(tail));
        }
        self.push(subcommand);
    }

    /// Keeps what the connection must know.
    fn take_note(&mut self, index: u32, bytes: &[u8], whole: bool) {
        if index == 1
            && whole
            && let Some(is_procedure) = self.spec.and_then(|spec| procedure(spec.name))
            && let Some(name) = str::from_utf8(bytes).ok().filter(|name| is_procedure(name))
        {
            self.procedure.push_str(name);
        }
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
                let modes =
                    [("ON", Kind::ReplyOn), ("OFF", Kind::ReplyOff), ("SKIP", Kind::ReplySkip)];
                let is_mode =
                    |(mode, _): &(&str, Kind)| bytes.eq_ignore_ascii_case(mode.as_bytes());
                self.kind = match modes.into_iter().find(is_mode) {
                    _ if !whole => Kind::Unclear,
                    Some((_, kind)) => kind,
                    None => Kind::Plain,
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

    /// What an argument that is no key says of those that follow; the word that it is, if it is one.
    fn structure(
        &mut self,
        spec: &Spec,
        index: u32,
        bytes: &[u8],
        whole: bool,
        len: u64,
    ) -> Option<&'static str> {
        match spec.keys {
            Keys::Counted { at, step } if index == at => {
                self.keys_follow(bytes, whole, step);
                return None;
            }
            Keys::IntoCounted if index == 2 => {
                self.keys_follow(bytes, whole, 1);
                return None;
            }
            _ => {}
        }
        let between_keys = self.counted.is_some_and(|(from, to)| (from..to).contains(&index));
        if self.tail_from == 0 || index < self.tail_from || between_keys {
            return None;
        }
        if !self.tail.awaits_word() {
            self.tail.operand();
            return None;
        }
        if !whole && len <= WORD_BYTES as u64 {
            // It may be a word, of which nobody knows what belongs to it.
            self.cut = true;
            self.tail = Tail::default();
            return None;
        }
        let word = self.tail.word(if whole { bytes } else { b"" }, self.count);
        if let (Keys::Streams, Some(word)) = (spec.keys, word) {
            self.blocking |= word == "BLOCK";
            if word == "STREAMS" {
                let count = self.left() / 2;
                self.counted = Some((self.index, self.index.saturating_add(count)));
                self.tail = Tail::new(table::STREAM_IDS);
            }
        }
        word
    }

    fn keys_follow(&mut self, bytes: &[u8], whole: bool, step: u32) {
        let count = if whole { super::reply::integer(bytes) } else { None };
        self.cut |= !whole;
        let count = count.and_then(|count| u32::try_from(count).ok());
        if count.is_none() {
            // Where words begin isn't known.
            self.tail = Tail::default();
        }
        self.count = count.unwrap_or(0);
        let args = self.count.saturating_mul(step).min(self.left());
        self.counted = Some((self.index, self.index.saturating_add(args)));
    }

    fn is_key(&self, index: u32) -> bool {
        let counted = |step| {
            let at = |(from, to): (u32, u32)| (from..to).contains(&index).then(|| index - from);
            self.counted.and_then(at).is_some_and(|at| at.checked_rem(step) == Some(0))
        };
        let by_place = match self.spec.map(|spec| spec.keys) {
            None | Some(Keys::Range { first: 0, .. }) => false,
            Some(Keys::Range { first, last, step }) => {
                let last = match (u32::try_from(last), self.total) {
                    (Ok(last), _) => last,
                    (Err(_), Some(total)) => total.saturating_sub(last.unsigned_abs()),
                    // How many arguments there are isn't known: this may be the one that is no key.
                    (Err(_), None) if last < -1 => 0,
                    (Err(_), None) => u32::MAX,
                };
                (first..=last).contains(&index) && (index - first).checked_rem(step) == Some(0)
            }
            Some(Keys::IntoCounted) => index == 1 || counted(1),
            Some(Keys::Counted { step, .. }) => counted(step),
            Some(Keys::Streams) => counted(1),
        };
        by_place || (index >= self.tail_from && self.tail.awaits_key())
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
            if !self.keyed {
                self.key.push_str(simple);
                self.keyed = true;
            }
            return;
        }
        self.cut |= !whole;
        // Shown where the first key will stay, others behind it for as long as they are looked at.
        let from = self.key.len();
        show(bytes, whole, &mut self.key);
        let shown = self.key.get(from..).unwrap_or_default();
        let plain = whole
            && !shown.is_empty()
            && shown != "?"
            && !shown.contains(|it: char| it.is_whitespace() || it == '"');
        let quote = if plain { "" } else { "\"" };
        let end = if whole { "" } else { "..." };
        let escaped = shown.split('"').enumerate();
        let parts = escaped.flat_map(|(at, part)| [if at > 0 { "\\\"" } else { "" }, part]);
        let tokens = [quote].into_iter().chain(parts).chain([end, quote]);
        push_parts(&mut self.text, &mut self.full, tokens);
        if self.keyed {
            self.key.truncate(from);
        }
        self.keyed = true;
    }

    fn push(&mut self, token: &str) {
        push(&mut self.text, &mut self.full, token);
    }
}

fn push(text: &mut String, full: &mut bool, token: &str) {
    push_parts(text, full, [token].into_iter());
}

/// Adds a word that has these parts, if there is room for all of them.
fn push_parts<'a, P: Iterator<Item = &'a str> + Clone>(
    text: &mut String,
    full: &mut bool,
    parts: P,
) {
    if *full {
        return;
    }
    if text.len() + parts.clone().map(str::len).sum::<usize>() + 1 > limits::REDIS_TEXT_BYTES {
        *full = true;
        return;
    }
    if !text.is_empty() {
        text.push(' ');
    }
    text.extend(parts);
}

/// No word of the table, and no number that is read, is longer.
const WORD_BYTES: usize = 24;

/// Of a command that runs what the server keeps: whether its first argument can be the name of such.
fn procedure(command: &str) -> Option<fn(&str) -> bool> {
    match command {
        // As the server takes names of functions.
        "FCALL" | "FCALL_RO" => Some(|name| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        }),
        "EVALSHA" | "EVALSHA_RO" => {
            Some(|name| name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        }
        _ => None,
    }
}

/// Whether this can be a command's name: unknown ones are told.
pub(super) fn is_name(bytes: &[u8]) -> bool {
    let (Some(first), len) = (bytes.first(), bytes.len()) else { return false };
    first.is_ascii_alphabetic()
        && len <= limits::REDIS_NAME_BYTES
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// A kept key, or channel, as it is told.
pub(super) fn show_key(bytes: &[u8]) -> Cow<'_, str> {
    let whole = bytes.len() < limits::REDIS_KEY_BYTES;
    match str::from_utf8(bytes) {
        Ok(text) if whole && !text.contains(char::is_control) => Cow::Borrowed(text),
        _ => {
            let mut shown = String::new();
            show(bytes, whole, &mut shown);
            Cow::Owned(shown)
        }
    }
}

/// A key as text: what is not UTF-8 and control characters as `\xNN`, a character that capture or the
/// cap cut left out.
fn show(bytes: &[u8], whole: bool, shown: &mut String) {
    use std::fmt::Write as _;
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        for it in chunk.valid().chars() {
            if it.is_control() {
                for byte in it.encode_utf8(&mut [0; 4]).bytes() {
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
}
