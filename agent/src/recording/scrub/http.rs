//! HTTP/1: first lines and the fields that the parser reads are kept, but for queries, users and reasons;
//! other fields' values and all content are overwritten. What frames content is followed (RFC 9112, 6 and 7).

use super::{FILLER, Heads};

/// A line's beginning that is kept to know what it is.
const MOST_LINE_BYTES: usize = 4096;

/// Fields whose values the parser reads.
const KEPT: &[&str] = &[
    "b3",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "uber-trace-id",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-forwarded-for",
    "x-forwarded-proto",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first line of a message.
    First,
    /// A field's name, or the end of the head.
    Name,
    /// A field's value.
    Value {
        kept: bool,
    },
    /// Content of that many bytes.
    Content(u64),
    /// The line before a chunk.
    ChunkSize,
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailer,
    /// Content up to the connection's end.
    Rest,
    /// Nobody knows what comes: nothing is kept until an operation begins with a message.
    Lost,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    requests: bool,
    state: State,
    /// The line so far, as it came.
    line: Vec<u8>,
    field: Option<&'static str>,
    length: Option<u64>,
    chunked: bool,
    status: u16,
    method: Vec<u8>,
}

impl Stream {
    pub(super) fn new(requests: bool) -> Self {
        Self {
            requests,
            state: State::First,
            line: Vec::new(),
            field: None,
            length: None,
            chunked: false,
            status: 0,
            method: Vec::new(),
        }
    }

    /// Bytes passed that nobody saw.
    pub(super) fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// Overwrites, and says how many of the first bytes may be kept.
    pub(super) fn scrub(&mut self, bytes: &mut [u8], missing: u64, heads: &mut Heads) -> usize {
        if self.state == State::Lost {
            if !begins(bytes, self.requests) {
                return 0;
            }
            heads.clear();
            self.state = State::First;
            self.line.clear();
        }
        // A first line is kept once it is whole, and one: what looks like its beginning may be anything.
        let mut first_at = None;
        let mut kept = bytes.len();
        for (at, byte) in bytes.iter_mut().enumerate() {
            if self.state == State::First {
                first_at.get_or_insert(at);
            }
            self.take(byte, heads);
            match self.state {
                State::First if !self.line.is_empty() => {}
                State::Lost => {
                    kept = first_at.unwrap_or(at);
                    break;
                }
                _ => first_at = None,
            }
        }
        if let (State::First, Some(at)) = (self.state, first_at) {
            self.state = State::Lost;
            kept = at;
        }
        if missing > 0 {
            self.state = match self.state {
                State::Content(left) if left >= missing => content(left - missing),
                State::Chunk(left) if left > missing => State::Chunk(left - missing),
                State::Rest => State::Rest,
                _ => State::Lost,
            };
        }
        kept
    }

    /// Of content's last bytes: the end of a chunked one is kept.
    pub(super) fn scrub_tail(tail: &mut [u8]) {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        let end = if tail.ends_with(END) { END.len() } else { 0 };
        let content = tail.len().saturating_sub(end);
        tail.iter_mut().take(content).for_each(|byte| *byte = FILLER);
    }

    fn take(&mut self, byte: &mut u8, heads: &mut Heads) {
        let was = *byte;
        match self.state {
            State::First => {
                // Of a line that goes on nothing more is shown.
                let long = self.line.len() >= MOST_LINE_BYTES && !matches!(was, b'\r' | b'\n');
                if long || self.hides(was) {
                    *byte = FILLER;
                }
                self.keep(was);
                if was == b'\n' {
                    self.first_line();
                }
            }
            State::Name => match was {
                b':' => {
                    let name = self.line.trim_ascii().to_ascii_lowercase();
                    self.field = KEPT.iter().find(|it| it.as_bytes() == name).copied();
                    self.line.clear();
                    self.state = State::Value { kept: self.field.is_some() };
                }
                b'\n' if self.line.iter().all(|it| *it == b'\r') => self.head_ends(heads),
                // No field; or a line that is folded, of which nobody knows what it belongs to.
                b'\n' => self.state = State::Lost,
                b' ' | b'\t' if self.line.is_empty() => self.state = State::Lost,
                _ => self.keep(was),
            },
            State::Value { kept } => {
                if was == b'\n' {
                    self.value();
                } else {
                    self.keep(was);
                    if !kept && was != b'\r' {
                        *byte = FILLER;
                    }
                }
            }
            State::Content(left) => {
                *byte = FILLER;
                self.state = content(left.saturating_sub(1));
            }
            State::ChunkSize => self.chunk_size(byte),
            State::Chunk(left) => {
                *byte = FILLER;
                self.state = match left.saturating_sub(1) {
                    0 => State::ChunkEnd,
                    left => State::Chunk(left),
                };
            }
            State::ChunkEnd => match was {
                b'\r' => {}
                b'\n' => self.state = State::ChunkSize,
                _ => self.state = State::Lost,
            },
            State::Trailer => {
                self.keep(was);
                if was == b'\n' {
                    let is_end = self.line.iter().all(|it| matches!(it, b'\r' | b'\n'));
                    self.line.clear();
                    if is_end {
                        self.state = State::First;
                    }
                } else if was != b'\r' && was != b':' {
                    *byte = FILLER;
                }
            }
            State::Rest => *byte = FILLER,
            State::Lost => {}
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.line.len() < MOST_LINE_BYTES {
            self.line.push(byte);
        }
    }

    /// Whether a byte of a first line, behind those in `line`, is not shown: a query, a user, a reason.
    fn hides(&self, byte: u8) -> bool {
        if matches!(byte, b'\r' | b'\n' | b' ') {
            return false;
        }
        let mut words = self.line.split(|byte| *byte == b' ');
        let (_, second, third) = (words.next(), words.next(), words.next());
        if !self.requests {
            return third.is_some();
        }
        let Some(target) = second.filter(|_| third.is_none()) else { return false };
        // In absolute-form nothing tells where a user ends before it has.
        let absolute = target.windows(3).position(|it| it == b"://");
        let in_authority = absolute.is_some_and(|at| {
            byte != b'/' && !target.get(at + 3..).unwrap_or_default().contains(&b'/')
        });
        let in_query = target.contains(&b'?') || target.contains(&b'#');
        in_authority || (in_query && !matches!(byte, b'&' | b'='))
    }

    fn first_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.iter().all(|it| matches!(it, b'\r' | b'\n')) {
            // Empty lines before a message are passed over (RFC 9112, 2.2).
            return;
        }
        (self.length, self.chunked) = (None, false);
        if !begins(&line, self.requests) {
            self.state = State::Lost;
            return;
        }
        if self.requests {
            self.method = line.split(|it| *it == b' ').next().unwrap_or_default().to_vec();
        } else {
            let status = line.get(9..12).and_then(|it| str::from_utf8(it).ok());
            self.status = status.and_then(|it| it.parse().ok()).unwrap_or(0);
        }
        self.state = State::Name;
    }

    fn value(&mut self) {
        let value = self.line.trim_ascii();
        match self.field {
            Some("content-length") => {
                self.length = str::from_utf8(value).ok().and_then(|it| it.parse().ok());
            }
            Some("transfer-encoding") => {
                self.chunked |= value.to_ascii_lowercase().ends_with(b"chunked");
            }
            _ => {}
        }
        self.line.clear();
        self.state = State::Name;
    }

    fn head_ends(&mut self, heads: &mut Heads) {
        self.line.clear();
        let framed =
            if self.chunked { State::ChunkSize } else { content(self.length.unwrap_or(0)) };
        if self.requests {
            heads.asked(&self.method);
            self.state = framed;
            return;
        }
        let method = if self.status >= 200 { heads.answered() } else { None };
        let method = method.as_deref();
        // What follows is another protocol's.
        let switched = self.status == 101 || (method == Some(b"CONNECT") && self.status < 300);
        let bare = self.status < 200 || matches!(self.status, 204 | 304) || method == Some(b"HEAD");
        self.state = if switched {
            State::Lost
        } else if bare {
            State::First
        } else if self.chunked || self.length.is_some() {
            framed
        } else {
            State::Rest
        };
    }

    /// The size is kept, an extension behind it is not.
    fn chunk_size(&mut self, byte: &mut u8) {
        let was = *byte;
        if was == b'\n' {
            let digits = self.line.split(|it| !it.is_ascii_hexdigit()).next().unwrap_or_default();
            let size = str::from_utf8(digits).ok();
            self.state = match size.and_then(|size| u64::from_str_radix(size, 16).ok()) {
                Some(0) => State::Trailer,
                Some(size) => State::Chunk(size),
                None => State::Lost,
            };
            self.line.clear();
            return;
        }
        if self.line.contains(&b';') && was != b'\r' {
            *byte = FILLER;
        } else if !was.is_ascii_hexdigit() && !matches!(was, b';' | b'\r' | b' ') {
            self.state = State::Lost;
        }
        self.keep(was);
    }
}

fn content(left: u64) -> State {
    if left == 0 { State::First } else { State::Content(left) }
}

/// Whether these can be a message's first bytes, by its first line.
fn begins(bytes: &[u8], requests: bool) -> bool {
    if !requests {
        return bytes.starts_with(b"HTTP/1.")
            && bytes.get(9..12).is_some_and(|it| it.iter().all(u8::is_ascii_digit));
    }
    let line = bytes.split(|it| *it == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let method = line.iter().take_while(|it| it.is_ascii_uppercase()).count();
    (3..=16).contains(&method)
        && line.get(method) == Some(&b' ')
        && (line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0"))
}
