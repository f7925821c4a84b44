//! A frame: one request as it lies in a segment file, and finding the next one behind damage.
//!
//! Part of the disk queue. Pure: bytes in, bytes out. A header of [`HEADER_BYTES`], little-endian, then the encoded
//! `ExportTraceServiceRequest`:
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | the file's nonce: what begins a frame, unknown to whoever writes attributes |
//! | 8..16 | spans that were put into this queue before these |
//! | 16..20 | spans |
//! | 20..24 | bytes of the request |
//! | 24..28 | CRC-32 of the request |
//! | 28..32 | CRC-32 of the 28 bytes before |
//! | 32..36 | [`WAITS`] or [`DONE`] |

use memchr::memmem;

/// Bytes of a frame before its request.
pub(super) const HEADER_BYTES: usize = 36;
/// Where in a frame its mark is.
pub(super) const MARK_AT: u64 = 32;
/// The frame is to be sent. So is one with any other mark but [`DONE`]: twice is better than never.
pub(super) const WAITS: [u8; 4] = *b"wait";
/// The frame is dealt with. No flipped byte makes this of the other.
pub(super) const DONE: [u8; 4] = *b"DONE";

/// No count of spans comes near: what has more is none of ours.
pub(super) const SPANS_LIMIT: u64 = 1 << 48;

/// A larger request is not written: no receiver takes one of 4 MiB, unless it is told to.
pub(super) const REQUEST_LIMIT_BYTES: usize = 16 << 20;

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Spans put into the queue before these.
    pub(super) first_span: u64,
    pub(super) spans: u32,
    pub(super) request_bytes: u32,
    pub(super) checksum: u32,
    pub(super) done: bool,
}

impl Header {
    /// Of a request that waits.
    pub(super) fn new(first_span: u64, spans: u32, request: &[u8]) -> Option<Self> {
        let request_bytes = u32::try_from(request.len()).ok()?;
        let fits = request.len() <= REQUEST_LIMIT_BYTES;
        let checksum = crc32fast::hash(request);
        fits.then_some(Self { first_span, spans, request_bytes, checksum, done: false })
    }

    /// As it is written.
    pub(super) fn bytes(&self, nonce: [u8; 8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(nonce);
        bytes.extend(self.first_span.to_le_bytes());
        bytes.extend(self.spans.to_le_bytes());
        bytes.extend(self.request_bytes.to_le_bytes());
        bytes.extend(self.checksum.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.extend(if self.done { DONE } else { WAITS });
        bytes
    }

    /// Reads one; `None`: these bytes are none.
    pub(super) fn read(bytes: &[u8], nonce: [u8; 8]) -> Option<Self> {
        let checked = bytes.get(..28)?;
        let mut rest = bytes.strip_prefix(&nonce)?;
        let header = Self {
            first_span: u64::from_le_bytes(taken(&mut rest)?),
            spans: u32::from_le_bytes(taken(&mut rest)?),
            request_bytes: u32::from_le_bytes(taken(&mut rest)?),
            checksum: u32::from_le_bytes(taken(&mut rest)?),
            done: bytes.get(32..HEADER_BYTES)? == DONE,
        };
        let sound = u32::from_le_bytes(taken(&mut rest)?) == crc32fast::hash(checked)
            && header.request_bytes as usize <= REQUEST_LIMIT_BYTES
            && header.first_span < SPANS_LIMIT;
        sound.then_some(header)
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.request_bytes)
    }

    /// Spans put into the queue up to these, these included.
    pub(super) fn end_span(&self) -> u64 {
        self.first_span.saturating_add(u64::from(self.spans))
    }
}

/// The first header in these bytes, and where it is.
pub(super) fn find(bytes: &[u8], nonce: [u8; 8]) -> Option<(usize, Header)> {
    memmem::find_iter(bytes, &nonce).find_map(|at| {
        let header = Header::read(bytes.get(at..)?, nonce)?;
        Some((at, header))
    })
}

fn taken<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}
