//! Every cap of the parsers, in one place.
//!
//! A parser keeps no more than these per connection, whatever the wire says.

/// Most bytes of one HTTP/1 head (first line and fields) that are kept; what follows counts as cut.
///
/// Node.js refuses more than 16 KiB of head, nginx and gunicorn less (8 KiB lines).
pub const HTTP1_HEAD_BYTES: usize = 16 * 1024;

/// Longest method token of an HTTP/1 request line. The longest registered ones have 17 letters
/// (`UPDATEREDIRECTREF`).
pub const HTTP1_METHOD_BYTES: usize = 24;

/// Longest `host`, `content-type`, `user-agent` or forwarded address kept from a head; longer values
/// are cut at a character's boundary.
pub const HTTP1_VALUE_BYTES: usize = 512;

/// Longest chunk-size line, extensions included (RFC 9112, 7.1.1 asks for such a limit).
pub const HTTP1_CHUNK_LINE_BYTES: u32 = 4 * 1024;

/// Most bytes of a chunked body's trailer section.
pub const HTTP1_TRAILER_BYTES: u32 = 16 * 1024;

/// Most captured bytes of one direction held while the other direction's records are awaited.
pub const HTTP1_HELD_BYTES: usize = 64 * 1024;

/// Most pieces of one direction held, so that tiny pieces cost no more than large ones.
pub const HTTP1_HELD_PIECES: usize = 256;

/// Most requests of one connection that wait for their response.
pub const HTTP1_OPEN_EXCHANGES: usize = 128;

/// Most list-members of a `tracestate` (W3C Trace Context, 3.3.1.1).
pub const TRACESTATE_MEMBERS: usize = 32;

/// Most bytes of a combined `tracestate` (W3C Trace Context, 3.3.1.5).
pub const TRACESTATE_BYTES: usize = 512;

/// List-members longer than this go first when a `tracestate` is too long (same section).
pub const TRACESTATE_LONG_MEMBER_BYTES: usize = 128;
