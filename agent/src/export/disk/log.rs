//! The queue as it lies in its directory: segment files of frames, the oldest first.
//!
//! Part of the disk queue. A frame is appended to the newest segment; it is read from the oldest that has one, and
//! marked where it lies when it is dealt with; a segment without frames to send is removed. Nothing is kept beside
//! the frames: who opens the directory again finds which of them are to be sent. Blocks; knows no clock and no
//! exporter.
//!
//! Damage (a crash in a write, a disk that fails) takes the frames that it is in and no other. Each frame and each
//! file's name says how many spans went before, so that what is missing is counted, but for what was at the very
//! end and lost its header, too.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use thiserror::Error;

use super::directory::{Directory, DirectoryError};
use super::frame::{self, DONE, HEADER_BYTES, Header, MARK_AT, REQUEST_LIMIT_BYTES, SPANS_LIMIT};

/// Behind each segment's name: the frames' format.
const SUFFIX: &str = ".spans1";

/// A segment is removed as a whole: this share of the queue is the most that waits for it.
const SEGMENT_SHARE: u64 = 16;
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 16 << 10..=8 << 20;

/// No segment is written that is larger; of a larger file the rest is damage.
const SEGMENT_LIMIT_BYTES: u64 = (REQUEST_LIMIT_BYTES + HEADER_BYTES) as u64;

/// So often a segment is tried that can't be read. Then it counts as damaged, so that those behind it are sent.
const READ_TRIES: u32 = 10;

/// Why a request was not written.
#[derive(Debug, Error)]
pub(in crate::export) enum AppendError {
    #[error("its bound is reached")]
    Bound,
    #[error("a request is larger than the queue, or than {REQUEST_LIMIT_BYTES} bytes")]
    TooLarge,
    #[error("no storage space: what is free on its file system is left to others")]
    NoSpace,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::export) struct Levels {
    /// Bytes of all segments.
    pub(in crate::export) bytes: u64,
    /// Spans that are to be sent, handed out or not.
    pub(in crate::export) spans: u64,
    /// Spans of these that were not handed out yet.
    pub(in crate::export) unread_spans: u64,
    /// Spans that were lost to damage since the queue was opened, those that were found so included.
    pub(in crate::export) damaged_spans: u64,
    /// Bytes in which nothing was found when the queue was opened.
    pub(in crate::export) damaged_bytes: u64,
}

/// A request that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::export) struct Frame {
    segment: Name,
    at: u64,
    /// Spans put into the queue before these: frames are in order by it.
    pub(in crate::export) first_span: u64,
    pub(in crate::export) spans: usize,
    /// The encoded `ExportTraceServiceRequest`.
    pub(in crate::export) request: Vec<u8>,
}

/// A segment's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    first_span: u64,
    nonce: [u8; 8],
}

/// A segment.
#[derive(Debug)]
struct Segment {
    name: Name,
    bytes: u64,
    /// Where the next frame is read.
    read_bytes: u64,
    /// Spans that are to be sent.
    spans: u64,
    /// Spans of these that were not handed out.
    unread_spans: u64,
    /// How often it could not be read, one after the other.
    failures: u32,
}

/// The queue.
#[derive(Debug)]
pub(in crate::export) struct Log {
    directory: Directory,
    max_bytes: u64,
    segment_bytes: u64,
    /// Other than in a test: what is free on the file system is not used up.
    leaves_room: bool,
    segments: VecDeque<Segment>,
    /// The last of them, while it is written to.
    writing: Option<File>,
    next_span: u64,
    damaged_spans: u64,
    damaged_bytes: u64,
}

impl Log {
    /// Opens the directory and looks through what is in it.
    pub(super) fn open(path: &Path, max_bytes: u64) -> Result<Self, DirectoryError> {
        let mut log = Self {
            directory: Directory::open(path)?,
            max_bytes,
            segment_bytes: (max_bytes / SEGMENT_SHARE)
                .clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end()),
            leaves_room: true,
            segments: VecDeque::new(),
            writing: None,
            next_span: 0,
            damaged_spans: 0,
            damaged_bytes: 0,
        };
        let io = |error: io::Error| DirectoryError::Io { path: path.to_owned(), error };
        log.look_through().map_err(io)?;
        Ok(log)
    }

    /// Uses up the file system.
    #[cfg(test)]
    pub(super) fn leave_no_room(&mut self) {
        self.leaves_room = false;
    }

    pub(in crate::export) fn levels(&self) -> Levels {
        let sum = |of: fn(&Segment) -> u64| self.segments.iter().map(of).sum();
        Levels {
            bytes: sum(|segment| segment.bytes),
            spans: sum(|segment| segment.spans),
            unread_spans: sum(|segment| segment.unread_spans),
            damaged_spans: self.damaged_spans,
            damaged_bytes: self.damaged_bytes,
        }
    }

    /// Puts a request behind all others, or leaves everything as it is.
    pub(in crate::export) fn append(
        &mut self,
        spans: usize,
        request: &[u8],
    ) -> Result<(), AppendError> {
        let count = u32::try_from(spans).map_err(|_too_many| AppendError::TooLarge)?;
        let header = Header::new(self.next_span, count, request).ok_or(AppendError::TooLarge)?;
        let bytes = header.frame_bytes();
        if bytes > self.max_bytes {
            return Err(AppendError::TooLarge);
        }
        if self.levels().bytes + bytes > self.max_bytes {
            return Err(AppendError::Bound);
        }
        if self.leaves_room {
            let space = self.directory.space()?;
            if space.free_bytes < space.left_bytes + bytes {
                return Err(AppendError::NoSpace);
            }
        }
        let fits =
            |segment: &Segment| segment.bytes == 0 || segment.bytes + bytes <= self.segment_bytes;
        if !self.segments.back().is_some_and(fits) {
            self.writing = None;
        }
        if self.writing.is_none() {
            let name = Name { first_span: self.next_span, nonce: rand::random() };
            self.writing = Some(self.directory.create(&name.text())?);
            self.segments.push_back(Segment::new(name));
        }
        let (Some(file), Some(segment)) = (&self.writing, self.segments.back_mut()) else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        let mut whole = header.bytes(segment.name.nonce);
        whole.extend_from_slice(request);
        if let Err(error) = file.write_all_at(&whole, segment.bytes) {
            if file.set_len(segment.bytes).is_err() {
                // What lies there now may look whole: it keeps its place in the count, and nothing follows it.
                segment.bytes = file.metadata().map_or(segment.bytes, |found| found.len());
                self.next_span = header.end_span();
                self.writing = None;
            }
            return Err(error.into());
        }
        segment.bytes += bytes;
        segment.spans += u64::from(count);
        segment.unread_spans += u64::from(count);
        self.next_span = header.end_span();
        Ok(())
    }

    /// The oldest request that was not handed out. Skips what is damaged.
    ///
    /// # Errors
    /// A segment can't be read now; it is tried again.
    pub(in crate::export) fn next(&mut self) -> io::Result<Option<Frame>> {
        let unread = |segment: &&mut Segment| segment.unread_spans > 0;
        while let Some(segment) = self.segments.iter_mut().find(unread) {
            let frame = match self.directory.file(&segment.name.text()) {
                Ok(file) => segment.next(&file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            };
            match frame {
                Ok(None) => {}
                Ok(frame) => {
                    segment.failures = 0;
                    return Ok(frame);
                }
                Err(error) => {
                    segment.failures += 1;
                    if segment.failures < READ_TRIES {
                        return Err(error);
                    }
                }
            }
            // It has come to its end, and these were not met.
            self.damaged_spans += segment.unread_spans;
            segment.spans = segment.spans.saturating_sub(segment.unread_spans);
            segment.unread_spans = 0;
            self.tidy()?;
        }
        Ok(None)
    }

    /// A frame that was handed out is dealt with: it will not be read again, by whomever.
    ///
    /// # Errors
    /// It could not be marked: who opens the queue again will send it again.
    pub(in crate::export) fn done(&mut self, frame: &Frame) -> io::Result<()> {
        let named = |segment: &&mut Segment| segment.name == frame.segment;
        let Some(segment) = self.segments.iter_mut().find(named) else { return Ok(()) };
        segment.spans = segment.spans.saturating_sub(frame.spans as u64);
        let file = self.directory.file(&segment.name.text());
        let marked = file.and_then(|file| file.write_all_at(&DONE, frame.at + MARK_AT));
        self.tidy().and(marked)
    }

    /// Removes the oldest segments that have nothing to send. Only the oldest: a gap between files is damage.
    fn tidy(&mut self) -> io::Result<()> {
        while let Some(segment) = self.segments.front() {
            if segment.spans > 0 {
                break;
            }
            self.directory.remove(&segment.name.text())?;
            self.segments.pop_front();
            if self.segments.is_empty() {
                self.writing = None;
            }
        }
        Ok(())
    }

    fn look_through(&mut self) -> io::Result<()> {
        let mut names: Vec<Name> =
            self.directory.names()?.iter().filter_map(|name| Name::read(name)).collect();
        names.sort();
        for name in names {
            let file = match self.directory.file(&name.text()) {
                Ok(file) => file,
                // A link, or no file: nothing that this agent wrote.
                Err(error) => {
                    tracing::warn!(name = name.text(), %error, "no segment of a disk queue");
                    continue;
                }
            };
            if !self.segments.is_empty() {
                self.damaged_spans += name.first_span.saturating_sub(self.next_span);
            }
            let mut segment = Segment::new(name);
            segment.bytes = file.metadata()?.len();
            let found = segment.look_through(&file)?;
            self.damaged_spans += found.damaged_spans;
            self.damaged_bytes += found.damaged_bytes;
            self.next_span = found.end_span;
            self.segments.push_back(segment);
        }
        self.tidy()
    }
}

/// What a segment was found to hold beside frames.
struct Found {
    damaged_spans: u64,
    damaged_bytes: u64,
    /// Spans put into the queue up to its end, as far as it tells.
    end_span: u64,
}

impl Segment {
    fn new(name: Name) -> Self {
        Self { name, bytes: 0, read_bytes: 0, spans: 0, unread_spans: 0, failures: 0 }
    }

    /// Where frames end at the latest.
    fn end(&self) -> u64 {
        self.bytes.min(SEGMENT_LIMIT_BYTES.max(*SEGMENT_BYTES.end()))
    }

    /// Counts its frames by their headers.
    fn look_through(&mut self, file: &File) -> io::Result<Found> {
        let end = self.end();
        let (mut at, mut damaged_spans, mut damaged_bytes) = (0, 0, 0);
        let mut end_span = self.name.first_span;
        while let Some((place, header)) = header_from(file, at, end, self.name.nonce)? {
            damaged_spans += header.first_span.saturating_sub(end_span);
            damaged_bytes += place - at;
            end_span = header.end_span().max(end_span);
            at = place + header.frame_bytes();
            if at > end {
                // Cut.
                damaged_spans += u64::from(if header.done { 0 } else { header.spans });
                damaged_bytes += end - place;
                at = end;
            } else if !header.done {
                self.spans += u64::from(header.spans);
            }
        }
        self.unread_spans = self.spans;
        damaged_bytes += self.bytes.saturating_sub(at);
        Ok(Found { damaged_spans, damaged_bytes, end_span })
    }

    /// The next frame that is to be sent and is whole; `None`: there is none.
    fn next(&mut self, file: &File) -> io::Result<Option<Frame>> {
        let end = self.end();
        while let Some((at, header)) = header_from(file, self.read_bytes, end, self.name.nonce)? {
            let behind = (at + header.frame_bytes()).min(end);
            let spans = u64::from(header.spans);
            // More than was counted: its mark has changed since.
            if header.done || spans > self.unread_spans || at + header.frame_bytes() > end {
                self.read_bytes = behind;
                continue;
            }
            let mut request = vec![0; header.request_bytes as usize];
            let whole = read_whole(file, &mut request, at + HEADER_BYTES as u64)?;
            self.read_bytes = behind;
            if !whole || crc32fast::hash(&request) != header.checksum {
                continue;
            }
            self.unread_spans -= spans;
            return Ok(Some(Frame {
                segment: self.name,
                at,
                first_span: header.first_span,
                spans: header.spans as usize,
                request,
            }));
        }
        Ok(None)
    }
}

/// The first header at or behind `from`, and where it is.
fn header_from(
    file: &File,
    from: u64,
    end: u64,
    nonce: [u8; 8],
) -> io::Result<Option<(u64, Header)>> {
    if end.saturating_sub(from) < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES];
    if !read_whole(file, &mut bytes, from)? {
        return Ok(None);
    }
    if let Some(header) = Header::read(&bytes, nonce) {
        return Ok(Some((from, header)));
    }
    // A segment's size, at most.
    let mut rest = vec![0; usize::try_from(end - from).unwrap_or_default()];
    if !read_whole(file, &mut rest, from)? {
        return Ok(None);
    }
    let found = frame::find(&rest, nonce);
    Ok(found.map(|(at, header)| (from + at as u64, header)))
}

/// Fills `bytes`; false: the file ends before.
fn read_whole(file: &File, bytes: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file is a segment, by its name.
pub(super) fn is_segment(name: &OsStr) -> bool {
    name.to_str().and_then(Name::read).is_some()
}

impl Name {
    fn text(self) -> String {
        format!("{:016x}-{:016x}{SUFFIX}", self.first_span, u64::from_be_bytes(self.nonce))
    }

    fn read(text: &str) -> Option<Self> {
        let (first_span, nonce) = text.strip_suffix(SUFFIX)?.split_once('-')?;
        let first_span = u64::from_str_radix(first_span, 16).ok()?;
        let nonce = u64::from_str_radix(nonce, 16).ok()?.to_be_bytes();
        let name = Self { first_span, nonce };
        (name.text() == text && first_span < SPANS_LIMIT).then_some(name)
    }
}
