//! One command on the wire: an array of bulk strings, or an inline command. Where it ends, and its
//! arguments on their way to the builder.
//!
//! Bytes that were not captured are crossed through bulk strings, whose length is known.

use std::sync::Arc;

use memchr::memchr;

use super::{
    command::{Builder, Read},
    inline,
    reply::integer,
    values::Asked,
};
use crate::limits;
use crate::stream::Piece;

/// What has become of a command after some bytes.
#[derive(Debug)]
pub(super) enum Progress {
    More,
    /// Over: [`Parser::read`] has it.
    Done,
    /// Over, and nothing that is answered: an empty line, an array of nothing.
    Nothing,
    /// Uncaptured bytes hid framing.
    Lost,
    /// Not a command: the server answers that by closing.
    Broken,
}

/// A command that is being read.
#[derive(Debug)]
pub(super) struct Parser<M> {
    pub(super) offset: u64,
    pub(super) first: M,
    pub(super) bytes: u64,
    state: State,
    line: Vec<u8>,
    line_bytes: usize,
    argument: Vec<u8>,
    /// The rest of the argument is of no interest, or was not captured.
    argument_cut: bool,
    wanted: usize,
    builder: Builder,
    /// A word of an inline command.
    word: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Type,
    Count,
    Length,
    /// In an argument: bytes left of how many.
    Argument {
        left: u64,
        len: u64,
    },
    Cr,
    Lf,
    Inline,
}

impl<M: Clone> Parser<M> {
    pub(super) fn new(piece: &Piece<'_, M>, asked: Option<Arc<Asked>>) -> Self {
        Self {
            offset: piece.offset,
            first: piece.mark.clone(),
            bytes: 0,
            state: State::Type,
            line: Vec::new(),
            line_bytes: 0,
            argument: Vec::new(),
            argument_cut: false,
            wanted: 0,
            builder: Builder::new(asked),
            word: Vec::new(),
        }
    }

    /// As new, with the buffers that it has.
    pub(super) fn renew(&mut self, piece: &Piece<'_, M>) {
        let Self { mut line, mut argument, builder, word, .. } =
            std::mem::replace(self, Self::new(piece, None));
        line.clear();
        argument.clear();
        (self.line, self.argument, self.builder, self.word) = (line, argument, builder, word);
    }

    /// Takes what belongs to the command.
    pub(super) fn feed(&mut self, piece: &mut Piece<'_, M>) -> Progress {
        while !piece.is_empty() {
            let (used, progress) = if piece.bytes.is_empty() {
                self.missing(piece.missing)
            } else {
                self.take(piece.bytes)
            };
            self.bytes = self.bytes.saturating_add(piece.advance(used));
            if !matches!(progress, Progress::More) {
                return progress;
            }
        }
        Progress::More
    }

    /// The command, once it is `Done`, or as far as it came once it was [`Self::cut`].
    pub(super) fn read(&self) -> Read<'_> {
        self.builder.read()
    }

    /// No more will come of the command; whether its name did.
    pub(super) fn cut(&mut self) -> bool {
        match self.state {
            State::Inline => {
                self.builder.begin(None);
                if inline::read(&self.line, false, &mut self.word, &mut self.builder).is_err() {
                    return false;
                }
            }
            State::Type | State::Count => return false,
            // Fewer of its bytes have come than it has.
            State::Argument { len, .. } => {
                self.builder.value_missing();
                self.builder.argument(&self.argument, len);
            }
            State::Length | State::Cr | State::Lf => {}
        }
        let named = self.builder.is_named();
        self.builder.finish(false);
        named
    }

    fn take(&mut self, bytes: &[u8]) -> (u64, Progress) {
        let Some(&byte) = bytes.first() else { return (0, Progress::More) };
        match self.state {
            State::Type if byte == b'*' => {
                self.state = State::Count;
                (1, Progress::More)
            }
            State::Type => {
                self.state = State::Inline;
                let may_begin = byte.is_ascii_alphabetic() || byte.is_ascii_whitespace();
                (0, if may_begin { Progress::More } else { Progress::Broken })
            }
            State::Count | State::Length | State::Inline => self.take_line(bytes),
            State::Argument { left, len } => {
                let taken = left.min(bytes.len() as u64);
                let run = usize::try_from(taken).ok().and_then(|taken| bytes.get(..taken));
                self.keep(run.unwrap_or(bytes));
                self.cross(taken, left, len);
                (taken, Progress::More)
            }
            State::Cr if byte == b'\r' => {
                self.state = State::Lf;
                (1, Progress::More)
            }
            State::Lf if byte == b'\n' => (1, self.argument_over()),
            State::Cr | State::Lf => (1, Progress::Broken),
        }
    }

    fn missing(&mut self, missing: u64) -> (u64, Progress) {
        match self.state {
            State::Argument { left, len } => {
                let taken = left.min(missing);
                self.argument_cut = true;
                self.builder.value_missing();
                self.cross(taken, left, len);
                (taken, Progress::More)
            }
            State::Cr => {
                self.state = State::Lf;
                (1, Progress::More)
            }
            State::Lf => (1, self.argument_over()),
            State::Type | State::Count | State::Length | State::Inline => (0, Progress::Lost),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.argument_cut {
            let room = self.wanted.saturating_sub(self.argument.len());
            self.argument.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            self.builder.value(bytes);
        }
    }

    fn cross(&mut self, taken: u64, left: u64, len: u64) {
        match left - taken {
            0 => {
                self.state = State::Cr;
                self.builder.argument(&self.argument, len);
            }
            left => self.state = State::Argument { left, len },
        }
    }

    fn argument_over(&mut self) -> Progress {
        if self.builder.left() > 0 {
            self.state = State::Length;
            self.line.clear();
            self.line_bytes = 0;
            return Progress::More;
        }
        self.builder.finish(true);
        Progress::Done
    }

    fn take_line(&mut self, bytes: &[u8]) -> (u64, Progress) {
        let (cap, kept) = match self.state {
            State::Inline => (limits::REDIS_LINE_BYTES, limits::REDIS_INLINE_KEPT_BYTES),
            _ => (limits::REDIS_NUMBER_BYTES, limits::REDIS_NUMBER_BYTES),
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
        (end as u64 + 1, self.line_over())
    }

    fn line_over(&mut self) -> Progress {
        if matches!(self.state, State::Inline) {
            return self.inline_over();
        }
        if self.line.pop() != Some(b'\r') {
            return Progress::Broken;
        }
        match (self.state, integer(&self.line)) {
            (State::Count, Some(..=0)) => Progress::Nothing,
            (State::Count, Some(count @ ..=limits::REDIS_ARGUMENTS)) => {
                self.builder.begin(u32::try_from(count).ok());
                self.state = State::Length;
                self.line.clear();
                self.line_bytes = 0;
                Progress::More
            }
            (State::Length, None) => match self.line.strip_prefix(b"$").map(integer) {
                Some(Some(len @ 0..=limits::REDIS_BULK_BYTES)) => {
                    self.begin_argument(len.unsigned_abs());
                    Progress::More
                }
                _ => Progress::Broken,
            },
            _ => Progress::Broken,
        }
    }

    fn begin_argument(&mut self, len: u64) {
        self.argument.clear();
        self.argument_cut = false;
        self.wanted = self.builder.wanted();
        self.state = State::Argument { left: len, len };
        if self.builder.asks() {
            self.builder.begin_value(len);
        }
        if len == 0 {
            self.cross(0, 0, 0);
        }
    }

    fn inline_over(&mut self) -> Progress {
        let whole = self.line_bytes == self.line.len();
        if whole && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if inline::is_empty(&self.line) {
            return Progress::Nothing;
        }
        self.builder.begin(None);
        let read = inline::read(&self.line, whole, &mut self.word, &mut self.builder);
        if read.is_err() || !self.builder.is_named() {
            // Redis would answer with an error; this is far more likely another protocol.
            return Progress::Broken;
        }
        self.builder.finish(whole);
        Progress::Done
    }
}
