//! Redis' protocol: names, keys and structural words of commands are kept, as a span shows them, and of replies what
//! tells their kind; every value is overwritten.

use wirespan_protocols::redis::{Shown, overwrite_error};

use super::{FILLER, overwrite};

/// The longest line that begins an item: a sign, a number, a line end.
const MOST_HEADER_BYTES: usize = 24;

/// The longest argument that is looked at as a whole.
const MOST_ARGUMENT_BYTES: usize = 4096;

/// Where a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// An item's first line.
    #[default]
    Line,
    /// A string of which so many bytes are left, its line end among them. `begins`: they are all that it has.
    Data { left: u64, begins: bool },
    /// Nobody knows what comes: nothing more is kept.
    Lost,
}

impl State {
    fn data(bytes: u64) -> Self {
        Self::Data { left: bytes.saturating_add(2), begins: true }
    }

    fn within(left: u64) -> Self {
        if left == 0 { Self::Line } else { Self::Data { left, begins: false } }
    }

    /// Where it is behind bytes that were not captured.
    fn after(self, missing: u64) -> Self {
        match self {
            it if missing == 0 => it,
            Self::Data { left, .. } if left >= missing => Self::within(left - missing),
            Self::Line | Self::Data { .. } | Self::Lost => Self::Lost,
        }
    }
}

/// What a client sends: arrays of strings.
#[derive(Debug, Default)]
pub(super) struct Requests {
    state: State,
    line: Vec<u8>,
    /// Arguments that are still to come.
    left: u64,
    shown: Shown,
}

impl Requests {
    /// Bytes passed that nobody saw.
    pub(super) fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// Overwrites, and says how many of the first bytes may be kept.
    pub(super) fn scrub(&mut self, bytes: &mut [u8], missing: u64) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let length = match self.state {
                State::Lost => None,
                State::Data { left, begins } => Some(self.data(rest, left, begins)),
                State::Line => self.header(rest),
            };
            let Some(length) = length else {
                self.state = State::Lost;
                break;
            };
            at += length;
        }
        if let State::Data { begins: true, .. } = self.state
            && missing > 0
        {
            self.shown.unseen();
        }
        self.state = self.state.after(missing);
        at
    }

    /// One argument, or a part of it, with its line end behind it: how many bytes that are.
    fn data(&mut self, rest: &mut [u8], left: u64, begins: bool) -> usize {
        let length = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let whole = begins && length as u64 == left;
        let text = length.min(usize::try_from(left.saturating_sub(2)).unwrap_or(length));
        let text = rest.get_mut(..text).unwrap_or_default();
        let is_shown = whole && text.len() <= MOST_ARGUMENT_BYTES && self.shown.argument(text);
        if begins && !(whole && text.len() <= MOST_ARGUMENT_BYTES) {
            self.shown.unseen();
        }
        if !is_shown {
            overwrite(text);
        }
        self.state = State::within(left - length as u64);
        length
    }

    /// An item's first line, or what there is of it: how many bytes that are. `None`: it is none.
    fn header(&mut self, rest: &[u8]) -> Option<usize> {
        let (length, line) = take_line(&mut self.line, rest)?;
        let Some(line) = line else { return Some(length) };
        match (line.first(), number(&line)?) {
            (Some(b'*'), count) if self.left == 0 => {
                self.left = count;
                self.shown = Shown::of(u32::try_from(count).unwrap_or(u32::MAX));
            }
            (Some(b'$'), bytes) if self.left > 0 => {
                self.left -= 1;
                self.state = State::data(bytes);
            }
            // An inline command, or none.
            _ => return None,
        }
        Some(length)
    }
}

/// What a server sends.
#[derive(Debug, Default)]
pub(super) struct Replies {
    state: State,
    line: Vec<u8>,
    /// The sign of a simple string, an error or a number that goes on.
    long: Option<u8>,
}

impl Replies {
    /// Bytes passed that nobody saw.
    pub(super) fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// Overwrites, and says how many of the first bytes may be kept.
    pub(super) fn scrub(&mut self, bytes: &mut [u8], missing: u64) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let length = match self.state {
                State::Lost => None,
                State::Data { left, begins } => Some(self.data(rest, left, begins)),
                State::Line => self.item(rest),
            };
            let Some(length) = length else {
                self.state = State::Lost;
                break;
            };
            at += length;
        }
        self.state = self.state.after(missing);
        at
    }

    fn data(&mut self, rest: &mut [u8], left: u64, begins: bool) -> usize {
        let length = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let text = length.min(usize::try_from(left.saturating_sub(2)).unwrap_or(length));
        let text = rest.get_mut(..text).unwrap_or_default();
        let whole = begins && length as u64 == left;
        if !(whole && WORDS.iter().any(|word| word.as_bytes() == &*text)) {
            overwrite(text);
        }
        self.state = State::within(left - length as u64);
        length
    }

    fn item(&mut self, rest: &mut [u8]) -> Option<usize> {
        let first = rest.first().copied().filter(|_| self.line.is_empty());
        if let Some(kind @ (b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_')) = self.long.or(first) {
            let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let length = end.unwrap_or(rest.len());
            let line = rest.get_mut(..length).unwrap_or_default();
            if self.long.is_none() && end.is_some() {
                hide(kind, line);
            } else {
                // What comes in pieces is not looked at: only its kind is kept.
                let skip = usize::from(self.long.is_none());
                overwrite(line.get_mut(skip..).unwrap_or_default());
            }
            self.long = end.is_none().then_some(kind);
            return Some(length);
        }
        let (length, line) = take_line(&mut self.line, rest)?;
        let Some(line) = line else { return Some(length) };
        match (line.first()?, number(&line)) {
            // What is in them follows, one after the other.
            (b'*' | b'~' | b'>' | b'%' | b'|', _) => {}
            (b'$' | b'=' | b'!', Some(bytes)) => self.state = State::data(bytes),
            (b'$', None) if line.starts_with(b"$-1") => {}
            _ => return None,
        }
        Some(length)
    }
}

/// What a server itself says in strings, and a connection has to know.
const WORDS: &[&str] = &[
    "message",
    "pmessage",
    "proto",
    "psubscribe",
    "punsubscribe",
    "smessage",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "unsubscribe",
];

/// Overwrites what a line says.
fn hide(kind: u8, line: &mut [u8]) {
    let end = line.iter().rposition(|it| !matches!(it, b'\r' | b'\n')).map_or(0, |at| at + 1);
    let Some(text) = line.get_mut(1..end.max(1)) else { return };
    match kind {
        b'+' if matches!(&*text, b"OK" | b"PONG" | b"QUEUED" | b"RESET" | b"") => {}
        b'-' => overwrite_error(text, FILLER),
        // One that is so short says how many, or whether.
        b':' if text.len() == 1 => {}
        b':' | b',' | b'(' => {
            text.iter_mut().filter(|it| it.is_ascii_digit()).for_each(|it| *it = b'1');
        }
        b'#' | b'_' => {}
        _ => overwrite(text),
    }
}

/// The number behind an item's sign.
fn number(line: &[u8]) -> Option<u64> {
    let digits = line.get(1..)?;
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Takes what there is of a line, which may have begun in `before`: how many bytes, and the line once it is whole,
/// without its end. `None`: it is longer than any.
fn take_line(before: &mut Vec<u8>, rest: &[u8]) -> Option<(usize, Option<Vec<u8>>)> {
    let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
    let length = end.unwrap_or(rest.len());
    if before.len() + length > MOST_HEADER_BYTES {
        return None;
    }
    before.extend_from_slice(rest.get(..length)?);
    let line = end.map(|_| {
        let mut line = std::mem::take(before);
        line.truncate(line.trim_ascii_end().len());
        line
    });
    Some((length, line))
}
