//! The body of one HTTP/1.x message (RFC 9112, 6 and 7): where it ends, and how many bytes it has.
//!
//! Content is counted, and kept only where the caller asks for JSON objects. Bytes that were not captured are crossed as long as their number
//! says where they lead.

use memchr::memchr;

use super::head::Framing;
use crate::limits;

/// How far into a message's body a stream is.
#[derive(Debug)]
pub(crate) struct Body {
    kind: Kind,
    /// Bytes of content so far, without chunk framing and trailers.
    pub(super) content_bytes: u64,
    /// All of it, where that is asked for, and was there.
    kept: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Kind {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// What became of a body after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
    /// Uncaptured bytes hid framing: the end can no longer be known.
    Lost,
    /// The framing is not what RFC 9112 allows.
    Broken,
}

impl Body {
    /// `None` when there is no body to wait for.
    pub(super) fn new(framing: Framing) -> Option<Self> {
        let kind = match framing {
            Framing::None | Framing::Length(0) => return None,
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked(Chunked::default()),
            Framing::UntilClose => Kind::UntilClose,
        };
        Some(Self { kind, content_bytes: 0, kept: None })
    }

    /// Content that may be a JSON object is kept from here on.
    pub(super) fn keeping_objects(mut self) -> Self {
        let fits = match self.kind {
            Kind::Length(length) => length <= limits::HTTP1_KEPT_BODY_BYTES as u64,
            Kind::Chunked(_) => true,
            Kind::UntilClose => false,
        };
        self.kept = fits.then(Vec::new);
        self
    }

    /// All content, where it was kept.
    pub(super) fn take_kept(&mut self) -> Option<Vec<u8>> {
        self.kept.take().filter(|kept| !kept.is_empty())
    }

    pub(super) fn is_chunked(&self) -> bool {
        matches!(self.kind, Kind::Chunked(_))
    }

    pub(super) fn ends_with_the_stream(&self) -> bool {
        matches!(self.kind, Kind::UntilClose)
    }

    /// Takes captured bytes; how many of them belong to the body, and what it is now.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> (usize, Progress) {
        match &mut self.kind {
            Kind::Chunked(chunked) => chunked.bytes(bytes, &mut self.content_bytes, &mut self.kept),
            _ => {
                let (used, progress) = self.cross(bytes.len() as u64);
                // `used` is at most `bytes.len()`.
                let used = usize::try_from(used).unwrap_or(bytes.len());
                keep(&mut self.kept, bytes.get(..used).unwrap_or_default());
                (used, progress)
            }
        }
    }

    /// Takes a number of bytes that were not captured.
    pub(super) fn missing(&mut self, missing: u64) -> (u64, Progress) {
        self.kept = None;
        self.cross(missing)
    }

    fn cross(&mut self, missing: u64) -> (u64, Progress) {
        match &mut self.kind {
            Kind::Length(left) => {
                let used = missing.min(*left);
                *left -= used;
                self.content_bytes = self.content_bytes.saturating_add(used);
                (used, if *left == 0 { Progress::Done } else { Progress::More })
            }
            Kind::Chunked(chunked) => chunked.missing(missing, &mut self.content_bytes),
            Kind::UntilClose => {
                self.content_bytes = self.content_bytes.saturating_add(missing);
                (missing, Progress::More)
            }
        }
    }
}

/// Adds to content that is kept. One that is no object, or too long, is not.
fn keep(kept: &mut Option<Vec<u8>>, bytes: &[u8]) {
    let Some(content) = kept else { return };
    let begins = content.first().or(bytes.first()).is_none_or(|first| *first == b'{');
    if begins && content.len() + bytes.len() <= limits::HTTP1_KEPT_BODY_BYTES {
        content.extend_from_slice(bytes);
    } else {
        *kept = None;
    }
}

/// Whether a piece of a chunked body whose framing was lost looks like its end: the last chunk, without
/// trailers, and nothing after it.
pub(super) fn ends_chunked(piece: &[u8]) -> bool {
    piece == b"0\r\n\r\n" || piece.ends_with(b"\r\n0\r\n\r\n")
}

/// The chunked coding, byte by byte but for the chunks' data.
#[derive(Debug, Default)]
struct Chunked {
    state: Chunk,
    size: u64,
    /// Bytes of the present size line, or of the trailer section.
    line_bytes: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Chunk {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size,
    Extension,
    /// After a size line's CR.
    SizeLf,
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    /// After a CR at the start of a trailer line.
    LastLf,
    TrailerLine,
}

impl Chunked {
    fn bytes(
        &mut self,
        bytes: &[u8],
        content_bytes: &mut u64,
        kept: &mut Option<Vec<u8>>,
    ) -> (usize, Progress) {
        let mut rest = bytes;
        let used = |rest: &[u8]| bytes.len() - rest.len();
        while let Some((&byte, after)) = rest.split_first() {
            if let Chunk::Data(left) = self.state {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                self.data(taken as u64, left, content_bytes);
                keep(kept, rest.get(..taken).unwrap_or_default());
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            if matches!(self.state, Chunk::Extension | Chunk::TrailerLine) {
                // Up to the line's end in one step; the cap holds for long runs too.
                let run = memchr(b'\n', rest).unwrap_or(rest.len());
                if !self.count(u32::try_from(run).unwrap_or(u32::MAX)) {
                    return (used(rest), Progress::Broken);
                }
                rest = rest.get(run..).unwrap_or_default();
                if let Some(after) = rest.strip_prefix(b"\n") {
                    rest = after;
                    self.state = self.after_line();
                }
                continue;
            }
            let next = self.step(byte);
            rest = after;
            match next {
                Some(Progress::More) => {}
                Some(progress) => return (used(rest), progress),
                None => return (used(rest), Progress::Broken),
            }
        }
        (used(rest), Progress::More)
    }

    /// One byte of framing. `None`: broken.
    fn step(&mut self, byte: u8) -> Option<Progress> {
        if !self.count(1) {
            return None;
        }
        self.state = match (self.state, byte) {
            (Chunk::Start | Chunk::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16)?;
                self.size = self.size.checked_mul(16)?.checked_add(u64::from(digit))?;
                Chunk::Size
            }
            (Chunk::Size, b'\r') => Chunk::SizeLf,
            (Chunk::Size | Chunk::SizeLf, b'\n') => self.after_line(),
            (Chunk::Size, b';' | b' ' | b'\t') => Chunk::Extension,
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => {
                self.line_bytes = 0;
                Chunk::Start
            }
            (Chunk::Trailer, b'\r') => Chunk::LastLf,
            (Chunk::Trailer | Chunk::LastLf, b'\n') => return Some(Progress::Done),
            (Chunk::Trailer, _) => Chunk::TrailerLine,
            _ => return None,
        };
        Some(Progress::More)
    }

    /// What follows the end of a size line or of a trailer line.
    fn after_line(&mut self) -> Chunk {
        if self.state == Chunk::TrailerLine {
            return Chunk::Trailer;
        }
        self.line_bytes = 0;
        match std::mem::take(&mut self.size) {
            0 => Chunk::Trailer,
            size => Chunk::Data(size),
        }
    }

    fn data(&mut self, taken: u64, left: u64, content_bytes: &mut u64) {
        *content_bytes = content_bytes.saturating_add(taken);
        self.state = match left.saturating_sub(taken) {
            0 => Chunk::DataCr,
            left => Chunk::Data(left),
        };
    }

    /// Counts framing bytes against the caps; whether they hold.
    fn count(&mut self, bytes: u32) -> bool {
        self.line_bytes = self.line_bytes.saturating_add(bytes);
        let cap = match self.state {
            Chunk::Trailer | Chunk::LastLf | Chunk::TrailerLine => limits::HTTP1_TRAILER_BYTES,
            _ => limits::HTTP1_CHUNK_LINE_BYTES,
        };
        self.line_bytes <= cap
    }

    /// Uncaptured bytes lead somewhere known through a chunk's data, the CRLF after it and the
    /// LF after a CR, no further.
    fn missing(&mut self, missing: u64, content_bytes: &mut u64) -> (u64, Progress) {
        let mut left = missing;
        while left > 0 {
            match self.state {
                Chunk::Data(size) => {
                    let taken = left.min(size);
                    self.data(taken, size, content_bytes);
                    left -= taken;
                }
                Chunk::DataCr => {
                    self.state = Chunk::DataLf;
                    left -= 1;
                }
                Chunk::DataLf => {
                    self.line_bytes = 0;
                    self.state = Chunk::Start;
                    left -= 1;
                }
                // After these CRs nothing but an LF is allowed.
                Chunk::SizeLf => {
                    self.state = self.after_line();
                    left -= 1;
                }
                Chunk::LastLf => return (missing - left + 1, Progress::Done),
                _ => return (missing - left, Progress::Lost),
            }
        }
        (missing, Progress::More)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// Feeds a whole body in pieces of `step` bytes: bytes used, content bytes, outcome.
    fn run(framing: Framing, bytes: &[u8], step: usize) -> (usize, u64, Progress) {
        let mut body = Body::new(framing).expect("a body");
        let mut used = 0;
        for piece in bytes.chunks(step) {
            let (taken, progress) = body.bytes(piece);
            used += taken;
            if progress != Progress::More {
                return (used, body.content_bytes, progress);
            }
        }
        (used, body.content_bytes, Progress::More)
    }

    #[rstest]
    #[case::length(Framing::Length(7), br#"{"a":1}"#, Some(7))]
    #[case::chunked(Framing::Chunked, b"3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n", Some(7))]
    #[case::no_object(Framing::Length(3), b"[1]", None)]
    #[case::too_long(Framing::Length(1 << 20), b"{", None)]
    #[case::until_close(Framing::UntilClose, b"{}", None)]
    fn objects_are_kept_where_they_are_asked_for(
        #[case] framing: Framing,
        #[case] bytes: &[u8],
        #[case] kept: Option<usize>,
        #[values(1, 5, 1000)] step: usize,
    ) {
        let mut body = Body::new(framing).expect("a body").keeping_objects();
        let mut unasked = Body::new(framing).expect("a body");
        for piece in bytes.chunks(step) {
            body.bytes(piece);
            unasked.bytes(piece);
        }
        assert_eq!(body.take_kept().map(|it| it.len()), kept);
        assert_eq!(unasked.take_kept(), None);
    }

    #[test]
    fn of_an_object_with_a_hole_or_without_end_nothing_is_kept() {
        let mut body = Body::new(Framing::Length(9)).expect("a body").keeping_objects();
        body.bytes(b"{");
        body.missing(7);
        assert_eq!((body.bytes(b"}").1, body.take_kept()), (Progress::Done, None));
        let mut endless = Body::new(Framing::Chunked).expect("a body").keeping_objects();
        let mut chunk = b"ffff\r\n{".to_vec();
        chunk.resize(limits::HTTP1_KEPT_BODY_BYTES + 20, b' ');
        endless.bytes(&chunk);
        assert_eq!(endless.take_kept(), None);
    }

    #[rstest]
    #[case::plain(b"5\r\nhello\r\n0\r\n\r\nNEXT", 15, 5)]
    #[case::extension(b"5;a=\"b\";c\r\nhello\r\n0;last\r\n\r\nNEXT", 28, 5)]
    #[case::bad_white_space(b"5 ;a\r\nhello\r\n0\r\n\r\nNEXT", 18, 5)]
    #[case::trailers(b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\nNEXT", 27, 5)]
    #[case::upper_case_and_zeros(b"00A\r\n0123456789\r\n000\r\n\r\nNEXT", 24, 10)]
    #[case::line_feeds(b"5\nhello\r\n0\n\nNEXT", 12, 5)]
    #[case::framing_in_data(b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\nNEXT", 17, 7)]
    fn chunked_ends_where_it_should(
        #[case] bytes: &[u8],
        #[case] used: usize,
        #[case] content: u64,
        #[values(1, 2, 3, 1000)] step: usize,
    ) {
        assert_eq!(run(Framing::Chunked, bytes, step), (used, content, Progress::Done));
    }

    #[rstest]
    #[case::overflow(b"10000000000000000\r\n")]
    #[case::no_size(b"\r\nhello")]
    #[case::negative(b"-1\r\n")]
    #[case::prefix(b"0x5\r\nhello")]
    #[case::too_little_announced(b"4\r\nhello\r\n")]
    #[case::line_feed_after_data(b"5\r\nhello\n0\r\n\r\n")]
    fn broken_chunks_are_broken(#[case] bytes: &[u8], #[values(1, 1000)] step: usize) {
        assert_eq!(run(Framing::Chunked, bytes, step).2, Progress::Broken);
    }

    #[rstest]
    #[case(b"5;".as_slice(), limits::HTTP1_CHUNK_LINE_BYTES)]
    #[case(b"0".as_slice(), limits::HTTP1_CHUNK_LINE_BYTES)]
    #[case(b"0\r\nA: ".as_slice(), limits::HTTP1_TRAILER_BYTES)]
    fn endless_framing_is_broken_at_its_cap(
        #[case] start: &[u8],
        #[case] cap: u32,
        #[values(1, 7, 1 << 20)] step: usize,
    ) {
        let mut bytes = start.to_vec();
        bytes.resize(cap as usize * 2, b'0');
        let (used, _, progress) = run(Framing::Chunked, &bytes, step);
        assert_eq!(progress, Progress::Broken);
        assert!(used <= cap as usize + start.len());
    }

    #[test]
    fn the_largest_chunk_is_crossed_without_being_seen() {
        let mut body = Body::new(Framing::Chunked).expect("a body");
        assert_eq!(body.bytes(b"ffffffffffffffff\r\nab").1, Progress::More);
        assert_eq!(body.missing(u64::MAX - 2), (u64::MAX - 2, Progress::More));
        assert_eq!(body.content_bytes, u64::MAX);
        assert_eq!(body.bytes(b"\r\n0\r\n\r\n"), (7, Progress::Done));
    }

    #[rstest]
    #[case::inside_data(b"8\r\nab", 4, Progress::More, b"gh\r\n0\r\n\r\n", Progress::Done)]
    #[case::to_the_next_chunk(b"8\r\nab", 8, Progress::More, b"0\r\n\r\n", Progress::Done)]
    #[case::half_the_line_end(b"8\r\nab", 7, Progress::More, b"\n0\r\n\r\n", Progress::Done)]
    #[case::into_the_next_size(b"8\r\nab", 9, Progress::Lost, b"", Progress::More)]
    #[case::in_a_size(b"8", 1, Progress::Lost, b"", Progress::More)]
    #[case::last_line_feed(b"0\r\n\r", 1, Progress::Done, b"", Progress::More)]
    #[case::in_a_trailer(b"0\r\nA: ", 1, Progress::Lost, b"", Progress::More)]
    fn missing_bytes_lead_through_data_only(
        #[case] before: &[u8],
        #[case] missing: u64,
        #[case] then: Progress,
        #[case] after: &[u8],
        #[case] last: Progress,
    ) {
        let mut body = Body::new(Framing::Chunked).expect("a body");
        assert_eq!(body.bytes(before), (before.len(), Progress::More));
        assert_eq!(body.missing(missing).1, then);
        if then == Progress::More {
            assert_eq!(body.bytes(after), (after.len(), last));
            assert_eq!(body.content_bytes, 8);
        }
    }

    proptest! {
        #[test]
        fn any_chunking_in_any_pieces_gives_the_content_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            step in 1usize..50,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let content = chunks.iter().map(Vec::len).sum::<usize>() as u64;
            let whole = wire.len();
            wire.extend_from_slice(b"HTTP/1.1 ");
            prop_assert_eq!(run(Framing::Chunked, &wire, step), (whole, content, Progress::Done));
        }

        #[test]
        fn arbitrary_bytes_never_use_more_than_there_is(bytes in prop::collection::vec(any::<u8>(), 0..200), missing in any::<u64>()) {
            let mut body = Body::new(Framing::Chunked).expect("a body");
            prop_assert!(body.bytes(&bytes).0 <= bytes.len());
            prop_assert!(body.missing(missing).0 <= missing);
        }
    }
}
