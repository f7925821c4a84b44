//! One reply of the server: where it ends, and what it was. All types of RESP2 and RESP3.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>. Elements are counted, not kept;
//! nesting is a bounded stack of counters. Bytes that were not captured are crossed through strings
//! whose length is known. The first elements of an array or push are looked at where it may be a
//! published message: those are told apart by them alone.

use std::borrow::Cow;

use memchr::memchr;

use super::{
    error,
    reply::{Reply, integer},
    values::{Store, Values},
};
use crate::limits;
use crate::stream::Piece;

/// What has become of a reply after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
    /// Uncaptured bytes hid framing.
    Lost,
    /// This is not RESP.
    Broken,
}

/// The first elements of an array or push.
#[derive(Debug, Default)]
pub(super) struct Elements {
    strings: [Element; 3],
    /// The third, where it is an integer.
    pub(super) count: Option<i64>,
}

/// One of them.
#[derive(Debug, Default)]
struct Element {
    /// It is a string, and was captured as far as is kept of it.
    known: bool,
    bytes: Vec<u8>,
}

impl Elements {
    /// As far as kept and captured; `None`: not a string, or not captured as far as that.
    pub(super) fn strings(&self) -> [Option<&[u8]>; 3] {
        self.strings.each_ref().map(|element| element.known.then_some(&*element.bytes))
    }

    fn forget(&mut self) {
        self.count = None;
        self.strings.iter_mut().for_each(|element| element.known = false);
    }
}

/// A reply that is being read.
#[derive(Debug)]
pub(super) struct Parser<M> {
    pub(super) first: M,
    pub(super) last: M,
    pub(super) bytes: u64,
    /// It is a push: no command's reply.
    pub(super) push: bool,
    pub(super) elements: Elements,
    /// Keep the first elements.
    watched: bool,
    /// What values are asked for.
    asked: Asking,
    values: Store,
    state: State,
    kind: u8,
    line: Vec<u8>,
    line_bytes: usize,
    /// Open aggregates and attributes, outermost first.
    stack: Vec<Frame>,
    top: Option<Top>,
    over: bool,
    /// It is that of `EXEC`: what its elements are counts.
    transaction: bool,
    executed: Executed,
}

/// What is known of a transaction's commands by the elements of its reply.
#[derive(Debug, Default)]
struct Executed {
    nils: u64,
    failed: u64,
    /// The first error, as far as it is kept.
    line: Vec<u8>,
    /// That is all of it.
    whole: bool,
    /// The string at hand is it.
    open: bool,
}

impl Executed {
    fn forget(&mut self) {
        self.line.clear();
        (self.nils, self.failed, self.whole, self.open) = (0, 0, false, false);
    }
}

/// Whether values are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asking {
    /// Of this reply.
    pub(super) reply: bool,
    /// Of a push, if it is one.
    pub(super) push: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Type,
    /// In the line after a type.
    Line,
    /// In a string: bytes left, whether it is a chunk of a streamed one.
    String {
        left: u64,
        chunk: bool,
    },
    /// At a string's CR, or LF.
    Cr {
        chunk: bool,
    },
    Lf {
        chunk: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Frame {
    Items(u64),
    /// An aggregate of unknown length.
    Streamed,
    /// A string of unknown length.
    Chunks,
    Attribute(u64),
}

/// What is known of the reply itself.
#[derive(Clone, Debug)]
enum Top {
    Line,
    String { bytes: u64, error: bool },
    Items { count: u64, map: bool },
    Nil,
}

impl<M: Clone> Parser<M> {
    /// A reply; `watched`: it may be a published message, or the word that a subscription begins or ends.
    pub(super) fn new(first: M, watched: bool, asked: Asking) -> Self {
        Self {
            asked,
            values: Store::default(),
            last: first.clone(),
            first,
            watched,
            bytes: 0,
            push: false,
            elements: Elements::default(),
            state: State::Type,
            kind: 0,
            line: Vec::new(),
            line_bytes: 0,
            stack: Vec::new(),
            top: None,
            over: false,
            transaction: false,
            executed: Executed::default(),
        }
    }

    /// The reply is that of `EXEC`.
    pub(super) fn of_transaction(&mut self) {
        self.transaction = true;
    }

    /// As new, with the buffers that it has.
    pub(super) fn renew(&mut self, first: M, watched: bool, asked: Asking) {
        let new = Self::new(first, watched, asked);
        let Self { mut line, mut stack, mut elements, mut values, mut executed, .. } =
            std::mem::replace(self, new);
        executed.forget();
        self.executed = executed;
        values.clear();
        self.values = values;
        line.clear();
        stack.clear();
        elements.forget();
        (self.line, self.stack, self.elements) = (line, stack, elements);
    }

    /// Takes what belongs to the reply.
    pub(super) fn feed(&mut self, piece: &mut Piece<'_, M>) -> Progress {
        self.last = piece.mark.clone();
        while !piece.is_empty() {
            let (used, progress) = if piece.bytes.is_empty() {
                self.missing(piece.missing)
            } else {
                self.take(piece.bytes)
            };
            self.bytes = self.bytes.saturating_add(piece.advance(used));
            if progress != Progress::More {
                self.over = progress == Progress::Done;
                return progress;
            }
        }
        Progress::More
    }

    /// Whether it may be a message or a confirmation, as RESP2 sends them.
    pub(super) fn is_watched_array(&self) -> bool {
        self.watched && matches!(self.top, Some(Top::Items { map: false, .. }))
    }

    /// What the reply is, once it is `Done`, or as far as is known before.
    pub(super) fn reply(&self) -> Option<Reply<'_>> {
        Some(match self.top.as_ref()? {
            Top::Line => self.line_reply()?,
            Top::String { error: true, .. } => self.error(),
            Top::String { bytes, .. } => Reply::Bulk { bytes: *bytes },
            Top::Items { count, map: true } => Reply::Map { entries: count / 2 },
            Top::Items { count, map: false } if self.transaction && !self.push => {
                let Executed { nils, failed, line, whole, .. } = &self.executed;
                Reply::Executed {
                    items: *count,
                    nils: *nils,
                    failed: *failed,
                    code: Cow::Borrowed(error::code(line, *whole)),
                    message: Cow::Borrowed(error::message(line, *whole)),
                }
            }
            Top::Items { count, map: false } => Reply::Array { items: *count },
            Top::Nil => Reply::Nil,
        })
    }

    /// Its values, where they are asked for.
    pub(super) fn values(&self) -> Values<'_> {
        self.values.values()
    }

    /// Where values go, if those that come now are asked for.
    fn told(&mut self) -> Option<&mut Store> {
        let of_attribute = || self.stack.iter().any(|it| matches!(it, Frame::Attribute(_)));
        (self.asked.reply && !of_attribute()).then_some(&mut self.values)
    }

    fn error(&self) -> Reply<'_> {
        let whole = match self.top {
            Some(Top::String { bytes, .. }) => self.line.len() as u64 == bytes,
            _ => self.over && self.line_bytes <= limits::REDIS_LINE_KEPT_BYTES,
        };
        let (code, message) = (error::code(&self.line, whole), error::message(&self.line, whole));
        Reply::Error { code: Cow::Borrowed(code), message: Cow::Borrowed(message) }
    }

    fn line_reply(&self) -> Option<Reply<'_>> {
        Some(match self.kind {
            // Of a part nobody knows which it is.
            b'+' if !self.over => return None,
            b'+' if self.line == b"OK" => Reply::Ok,
            b'+' if self.line == b"QUEUED" => Reply::Queued,
            b'+' => Reply::Simple,
            b'-' => self.error(),
            b':' | b'(' => Reply::Integer,
            b',' => Reply::Double,
            b'#' => Reply::Boolean,
            b'_' => Reply::Nil,
            _ => return None,
        })
    }

    /// One step over captured bytes: how many it took.
    fn take(&mut self, bytes: &[u8]) -> (u64, Progress) {
        let Some(&byte) = bytes.first() else { return (0, Progress::More) };
        match self.state {
            State::Type => (1, self.begin(byte)),
            State::Line => self.take_line(bytes),
            State::String { left, chunk } => {
                let taken = left.min(bytes.len() as u64);
                let run = usize::try_from(taken).ok().and_then(|taken| bytes.get(..taken));
                self.keep(run.unwrap_or(bytes));
                self.cross(taken, left, chunk);
                (taken, Progress::More)
            }
            State::Cr { chunk } if byte == b'\r' => {
                self.state = State::Lf { chunk };
                (1, Progress::More)
            }
            State::Lf { chunk } if byte == b'\n' => (1, self.string_over(chunk)),
            State::Cr { .. } | State::Lf { .. } => (1, Progress::Broken),
        }
    }

    /// One step over bytes that were not captured.
    fn missing(&mut self, missing: u64) -> (u64, Progress) {
        match self.state {
            State::String { left, chunk } => {
                let taken = left.min(missing);
                self.forget_element();
                self.values.missing();
                self.executed.open = false;
                self.cross(taken, left, chunk);
                (taken, Progress::More)
            }
            State::Cr { chunk } => {
                self.state = State::Lf { chunk };
                (1, Progress::More)
            }
            State::Lf { chunk } => (1, self.string_over(chunk)),
            State::Type | State::Line => (0, Progress::Lost),
        }
    }

    fn cross(&mut self, taken: u64, left: u64, chunk: bool) {
        if let Some(Top::String { bytes, .. }) = &mut self.top
            && chunk
        {
            *bytes = bytes.saturating_add(taken);
        }
        self.state = match left - taken {
            0 => State::Cr { chunk },
            left => State::String { left, chunk },
        };
        if left == taken {
            self.values.end();
        }
    }

    fn begin(&mut self, byte: u8) -> Progress {
        let streamed = match self.stack.last() {
            Some(Frame::Chunks) => byte == b';',
            Some(Frame::Streamed) => byte != b';',
            _ => !matches!(byte, b';' | b'.'),
        };
        let known = matches!(
            byte,
            b'+' | b'-'
                | b':'
                | b'$'
                | b'*'
                | b'_'
                | b'#'
                | b','
                | b'('
                | b'!'
                | b'='
                | b'%'
                | b'~'
                | b'>'
                | b'|'
                | b';'
                | b'.'
        );
        // A push is never part of anything; an attribute before it is its own.
        if !streamed || !known || (byte == b'>' && !self.stack.is_empty()) {
            return Progress::Broken;
        }
        self.push |= byte == b'>';
        self.asked.reply |= byte == b'>' && self.asked.push;
        self.kind = byte;
        self.line.clear();
        self.line_bytes = 0;
        self.state = State::Line;
        if self.stack.is_empty() && matches!(byte, b'+' | b'-' | b':' | b'(' | b',' | b'#' | b'_') {
            self.top = Some(Top::Line);
        }
        Progress::More
    }

    fn take_line(&mut self, bytes: &[u8]) -> (u64, Progress) {
        let text = matches!(self.kind, b'+' | b'-' | b'(' | b',');
        let (cap, kept) = if text {
            (limits::REDIS_LINE_BYTES, limits::REDIS_LINE_KEPT_BYTES)
        } else {
            (limits::REDIS_NUMBER_BYTES, limits::REDIS_NUMBER_BYTES)
        };
        let end = memchr(b'\n', bytes);
        let run = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or(bytes);
        let room = kept.saturating_sub(self.line.len());
        self.line.extend_from_slice(run.get(..room).unwrap_or(run));
        self.line_bytes = self.line_bytes.saturating_add(run.len());
        if self.line_bytes > cap {
            return (run.len() as u64, Progress::Broken);
        }
        let Some(end) = end else { return (run.len() as u64, Progress::More) };
        let whole = self.line_bytes == self.line.len();
        if whole && self.line.pop() != Some(b'\r') {
            return (end as u64 + 1, Progress::Broken);
        }
        (end as u64 + 1, self.line_over())
    }

    fn line_over(&mut self) -> Progress {
        self.state = State::Type;
        self.tell_line();
        match self.kind {
            b'+' | b'-' => {
                if self.kind == b'-' && self.is_executed() {
                    self.failed_line();
                }
                self.element_line();
                self.value_over()
            }
            b',' | b'(' if self.line.is_empty() => Progress::Broken,
            b',' | b'(' => self.value_over(),
            b':' => match integer(&self.line) {
                Some(number) => {
                    if self.depth() == 1 && self.item() == Some(2) {
                        self.elements.count = Some(number);
                    }
                    self.value_over()
                }
                None => Progress::Broken,
            },
            b'#' if matches!(self.line.as_slice(), b"t" | b"f") => self.value_over(),
            b'_' if self.line.is_empty() => self.nil(),
            b'.' if self.line.is_empty() => {
                self.stack.pop();
                self.value_over()
            }
            b'$' | b'!' | b'=' => self.string(),
            b';' => self.chunk(),
            b'*' | b'~' | b'>' | b'%' | b'|' => self.aggregate(),
            _ => Progress::Broken,
        }
    }

    /// Tells a value that is all in its line.
    fn tell_line(&mut self) {
        let (kind, line) = (self.kind, std::mem::take(&mut self.line));
        if let Some(values) = self.told() {
            match (kind, integer(&line)) {
                (b'+', _) => {
                    values.begin(line.len() as u64);
                    values.bytes(&line);
                    values.end();
                }
                (b':', Some(number)) => values.integer(number),
                (b'_', _) | (b'$' | b'*', Some(-1)) => values.nil(),
                (b'-' | b',' | b'(' | b'#', _) => values.other(),
                _ => {}
            }
        }
        self.line = line;
    }

    fn string(&mut self) -> Progress {
        let error = self.kind == b'!';
        let top = self.stack.is_empty();
        if self.line == b"?" && self.kind == b'$' {
            if top {
                self.top = Some(Top::String { bytes: 0, error });
            }
            if let Some(values) = self.told() {
                values.other();
            }
            return self.open(Frame::Chunks);
        }
        match integer(&self.line) {
            Some(-1) if self.kind == b'$' => {
                if top {
                    self.top = Some(Top::Nil);
                }
                self.nil()
            }
            Some(length @ 0..=limits::REDIS_BULK_BYTES) => {
                if error && self.is_executed() {
                    self.executed.failed = self.executed.failed.saturating_add(1);
                    self.executed.open = self.executed.failed == 1;
                }
                if top {
                    self.top = Some(Top::String { bytes: length.unsigned_abs(), error });
                }
                self.line.clear();
                self.begin_string(length.unsigned_abs(), false);
                Progress::More
            }
            _ => Progress::Broken,
        }
    }

    fn begin_string(&mut self, left: u64, chunk: bool) {
        self.state = if left == 0 { State::Cr { chunk } } else { State::String { left, chunk } };
        if let Some(values) = self.told() {
            values.begin(left);
            if left == 0 {
                values.end();
            }
        }
        if let Some(element) = self.element() {
            element.known = true;
            element.bytes.clear();
        }
    }

    fn chunk(&mut self) -> Progress {
        match integer(&self.line) {
            Some(0) => {
                self.stack.pop();
                self.value_over()
            }
            Some(length @ 1..=limits::REDIS_BULK_BYTES) => {
                self.state = State::String { left: length.unsigned_abs(), chunk: true };
                Progress::More
            }
            _ => Progress::Broken,
        }
    }

    fn aggregate(&mut self) -> Progress {
        let map = matches!(self.kind, b'%' | b'|');
        let top = self.stack.is_empty() && self.kind != b'|';
        if self.line == b"?" && matches!(self.kind, b'*' | b'~' | b'%') {
            if top {
                self.top = Some(Top::Items { count: 0, map });
            }
            if let Some(values) = self.told() {
                // How many are its own is not known before its end.
                values.other();
                values.cut();
            }
            return self.open(Frame::Streamed);
        }
        let count = match integer(&self.line) {
            Some(-1) if self.kind == b'*' => {
                if top {
                    self.top = Some(Top::Nil);
                }
                return self.nil();
            }
            Some(count @ 0..) => count.unsigned_abs(),
            _ => return Progress::Broken,
        };
        let Some(items) = count.checked_mul(if map { 2 } else { 1 }) else {
            return Progress::Broken;
        };
        if top {
            self.top = Some(Top::Items { count: items, map });
        }
        let attribute = self.kind == b'|';
        if let Some(values) = self.told().filter(|_| !attribute) {
            if map { values.map(items / 2) } else { values.array(items) }
        }
        match (self.kind, items) {
            // Nothing is said of the value that follows.
            (b'|', 0) => Progress::More,
            (b'|', _) => self.open(Frame::Attribute(items)),
            (_, 0) => self.value_over(),
            _ => self.open(Frame::Items(items)),
        }
    }

    fn open(&mut self, frame: Frame) -> Progress {
        if self.stack.len() >= limits::REDIS_DEPTH {
            return Progress::Broken;
        }
        self.stack.push(frame);
        Progress::More
    }

    fn string_over(&mut self, chunk: bool) -> Progress {
        self.state = State::Type;
        if std::mem::take(&mut self.executed.open) {
            self.executed.whole = self.executed.line.len() < limits::REDIS_LINE_KEPT_BYTES;
        }
        if chunk { Progress::More } else { self.value_over() }
    }

    fn nil(&mut self) -> Progress {
        if self.is_executed() {
            self.executed.nils = self.executed.nils.saturating_add(1);
        }
        self.value_over()
    }

    /// Whether what is being read is what a transaction's command was answered.
    fn is_executed(&self) -> bool {
        let of_top = matches!(self.stack.as_slice(), [Frame::Items(_) | Frame::Streamed]);
        self.transaction
            && of_top
            && !self.push
            && matches!(self.top, Some(Top::Items { map: false, .. }))
    }

    /// A transaction's command failed, with this line.
    fn failed_line(&mut self) {
        let Executed { failed, line, whole, .. } = &mut self.executed;
        *failed = failed.saturating_add(1);
        if *failed == 1 {
            line.clear();
            line.extend_from_slice(&self.line);
            *whole = self.line_bytes <= limits::REDIS_LINE_KEPT_BYTES;
        }
    }

    /// A value is over, and with it perhaps what it was the last of.
    fn value_over(&mut self) -> Progress {
        loop {
            match self.stack.last_mut() {
                None => return Progress::Done,
                Some(Frame::Items(left)) => {
                    *left -= 1;
                    if *left > 0 {
                        return Progress::More;
                    }
                    self.stack.pop();
                }
                Some(Frame::Attribute(left)) => {
                    *left -= 1;
                    if *left == 0 {
                        // The value that it is an attribute of is still to come.
                        self.stack.pop();
                    }
                    return Progress::More;
                }
                Some(Frame::Streamed) => {
                    if self.stack.len() == 1
                        && let Some(Top::Items { count, .. }) = &mut self.top
                    {
                        *count = count.saturating_add(1);
                    }
                    return Progress::More;
                }
                // Only a string's chunks are within it.
                Some(Frame::Chunks) => return Progress::Broken,
            }
        }
    }

    fn depth(&self) -> usize {
        self.stack.len()
    }

    /// Which of the reply's own elements is being read.
    fn item(&self) -> Option<u64> {
        match (&self.top, self.stack.as_slice()) {
            (Some(Top::Items { count, map: false }), [Frame::Items(left)]) => Some(count - left),
            _ => None,
        }
    }

    fn element(&mut self) -> Option<&mut Element> {
        if !self.watched && !self.push {
            return None;
        }
        let item = usize::try_from(self.item()?).ok()?;
        self.elements.strings.get_mut(item)
    }

    fn element_line(&mut self) {
        if self.kind == b'+' {
            let line = std::mem::take(&mut self.line);
            if let Some(element) = self.element() {
                element.known = true;
                element.bytes.clear();
                element.bytes.extend_from_slice(&line);
            }
            self.line = line;
        }
    }

    /// Keeps of a string what is of interest: of the elements that tell messages apart, and of errors.
    fn keep(&mut self, bytes: &[u8]) {
        self.values.bytes(bytes);
        if self.executed.open {
            let line = &mut self.executed.line;
            let room = limits::REDIS_LINE_KEPT_BYTES.saturating_sub(line.len());
            line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        } else if let Some(Top::String { error: true, .. }) = self.top {
            let room = limits::REDIS_LINE_KEPT_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        } else if let Some(Element { known: true, bytes: kept }) = self.element() {
            let room = limits::REDIS_KEY_BYTES.saturating_sub(kept.len());
            kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
    }

    /// The first element tells what this is, so it counts whole or not at all.
    fn forget_element(&mut self) {
        if self.item() == Some(0)
            && let Some(first) = self.elements.strings.first_mut()
        {
            first.known = false;
        }
    }
}
