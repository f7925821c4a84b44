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

/// Longest value kept of a field that was asked for; one that is longer is cut at a character's boundary.
pub const HTTP1_ASKED_VALUE_BYTES: usize = 1024;

/// Most fields kept of one head because they were asked for.
pub const HTTP1_ASKED_FIELDS: usize = 32;

/// Content of a request that is kept, where the caller asks for that.
pub const HTTP1_KEPT_BODY_BYTES: usize = 16 * 1024;

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

/// Longest Redis command name kept (the longest of Redis itself have 20 letters).
pub const REDIS_NAME_BYTES: usize = 32;

/// Most bytes of one Redis key or channel kept.
pub const REDIS_KEY_BYTES: usize = 128;

/// Most bytes kept of one value of a Redis command or reply, where values are asked for.
pub const REDIS_VALUE_BYTES: usize = 16 * 1024;

/// Most bytes kept of all of them.
pub const REDIS_VALUES_BYTES: usize = 64 * 1024;

/// Most values of one command or reply that are told.
pub const REDIS_VALUES: usize = 1024;

/// Most bytes of a Redis command's text kept; where more follows it is said to be cut.
pub const REDIS_TEXT_BYTES: usize = 1024;

/// Longest length or number line of RESP (`$`, `*`, `:`, ...), line end included.
pub const REDIS_NUMBER_BYTES: usize = 32;

/// Most bytes kept of a RESP simple string, error or number.
pub const REDIS_LINE_KEPT_BYTES: usize = 256;

/// Longest RESP simple string, error or number, and longest inline command (Redis' own limit).
pub const REDIS_LINE_BYTES: usize = 64 * 1024;

/// Most bytes of an inline command that are read.
pub const REDIS_INLINE_KEPT_BYTES: usize = 1024;

/// Most arguments of a Redis command (Redis' own limit before 7.0; a multiple of any real one).
pub const REDIS_ARGUMENTS: i64 = 1024 * 1024;

/// Longest bulk string of RESP. Redis' default is 512 MiB and configurable.
pub const REDIS_BULK_BYTES: i64 = 1 << 40;

/// Deepest nesting of a Redis reply.
pub const REDIS_DEPTH: usize = 32;

/// Most commands of one connection that wait for their reply and are told; those beyond are only counted.
pub const REDIS_OPEN_EXCHANGES: usize = 8 * 1024;

/// Most commands of one connection that wait for their reply at all.
pub const REDIS_OPEN_COMMANDS: usize = 16 * 1024;

/// Most captured bytes of replies held while their commands' records are awaited.
pub const REDIS_HELD_BYTES: usize = 64 * 1024;

/// Most pieces of replies held.
pub const REDIS_HELD_PIECES: usize = 256;

/// Longest summary of SQL text, as OpenTelemetry asks of `db.query.summary`.
pub const SQL_SUMMARY_BYTES: usize = 255;

/// Most bytes of one SQL text that are kept.
pub const POSTGRES_QUERY_BYTES: usize = 8 * 1024;

/// Longest name of a statement, portal, role or database that is kept. PostgreSQL's own identifiers have
/// 63 bytes; clients may name prepared statements at greater length.
pub const POSTGRES_NAME_BYTES: usize = 128;

/// Most bytes of a `Bind`'s parameters that are read, where they are asked for.
pub const POSTGRES_PARAMETERS_BYTES: usize = 4 * 1024;

/// Most parameters of one statement that are kept.
pub const POSTGRES_PARAMETERS: usize = 64;

/// Longest parameter that is kept; one that is longer is cut.
pub const POSTGRES_PARAMETER_BYTES: usize = 256;

/// Most bytes of a `StartupMessage` that are read, of the 10,000 that a server takes.
pub const POSTGRES_STARTUP_BYTES: usize = 4 * 1024;

/// Most bytes of an `ErrorResponse` that are read.
pub const POSTGRES_ERROR_BYTES: usize = 4 * 1024;

/// Longest message of an error that is kept.
pub const POSTGRES_MESSAGE_BYTES: usize = 256;

/// Longest command tag (`COMPLETION_TAG_BUFSIZE` in the server).
pub const POSTGRES_TAG_BYTES: usize = 64;

/// Most command tags kept of one simple query.
pub const POSTGRES_TAGS: usize = 16;

/// Most messages of one connection that wait for their answers.
pub const POSTGRES_PENDING: usize = 2048;

/// Most bytes of the SQL texts that they keep.
pub const POSTGRES_PENDING_TEXT_BYTES: usize = 1024 * 1024;

/// Most prepared statements of one connection whose texts are known; the oldest go first. Drivers' own
/// caches keep 100 to 256.
pub const POSTGRES_STATEMENTS: usize = 512;

/// Most bytes of those texts together.
pub const POSTGRES_STATEMENT_BYTES: usize = 256 * 1024;

/// Texts and names of one connection whose memory is used again once nobody has them. Of a client that pipelines
/// more than this each is memory of its own.
pub const POSTGRES_RECENT_TEXTS: usize = 8;

/// Most named portals of one connection that are known.
pub const POSTGRES_PORTALS: usize = 64;

/// Most captured bytes of one direction held while the other direction's records are awaited.
pub const POSTGRES_HELD_BYTES: usize = 64 * 1024;

/// Most pieces of one direction held.
pub const POSTGRES_HELD_PIECES: usize = 256;

/// Requests of a client that takes turns that must be seen answered one by one, after a loss, before
/// any is told again.
pub const POSTGRES_ROUNDS: u8 = 2;

/// Largest frame of AMQP that is believed. RabbitMQ's own default is 128 KiB; a peer may ask for no limit.
pub const AMQP_FRAME_BYTES: u32 = 256 * 1024 * 1024;

/// Most bytes of an AMQP method's arguments that are read: three short strings and some numbers. What is read
/// of `connection.start`, the broker's properties, comes within as much.
pub const AMQP_METHOD_BYTES: usize = 2 * 1024;

/// Most bytes of a message's properties that are read, its headers among them.
pub const AMQP_HEADER_BYTES: usize = 8 * 1024;

/// Most headers of a message that are looked at.
pub const AMQP_HEADERS: usize = 256;

/// Most bytes of a text out of AMQP that are kept. Short strings have 255 at most.
pub const AMQP_HEADER_VALUE_BYTES: usize = 512;

/// How much of a message's body its prefix is.
pub const AMQP_PREFIX_BYTES: u64 = 256;

/// Longest body that is hashed as a whole: a byte takes about a nanosecond.
pub const AMQP_HASHED_BYTES: u64 = 16 * 1024;

/// Most channels of one connection that are followed (RabbitMQ's default limit is 2,047).
pub const AMQP_CHANNELS: usize = 2048;

/// Most consumers of one connection that are known.
pub const AMQP_CONSUMERS: usize = 2048;

/// Most exchanges of one connection that wait: for a confirm, an acknowledgement, an answer.
pub const AMQP_OPEN_EXCHANGES: usize = 8 * 1024;

/// Most deliveries of one connection that are kept untold until they are settled.
pub const AMQP_UNTOLD: usize = 256;

/// Most publishes that wait for their confirm and are compared with a message that came back.
pub const AMQP_RETURN_SEARCH: usize = 256;

/// Most captured bytes of one direction held while the other direction's records are awaited.
pub const AMQP_HELD_BYTES: usize = 64 * 1024;

/// Most pieces of one direction held.
pub const AMQP_HELD_PIECES: usize = 256;

/// Bytes of small pieces that are looked at together where frames have to be found anew.
pub const AMQP_RESYNC_BYTES: usize = 1024;

/// Places in a piece at which a frame is looked for.
pub const AMQP_RESYNC_TRIES: usize = 256;

/// Frames in a row that are certain to be frames.
pub const AMQP_RESYNC_FRAMES: u32 = 32;

/// Longest message of Kafka's that is taken for one: a broker's default for requests
/// (`socket.request.max.bytes`), and what clients ask for at most, twice over.
pub const KAFKA_MESSAGE_BYTES: u32 = 100 * 1024 * 1024;

/// Most captured bytes of one Kafka message that are read. What a partition's records begin with lies within
/// them, or was not captured.
pub const KAFKA_KEPT_BYTES: usize = 256 * 1024;

/// Longest name of a topic (Kafka's own limit), client, group or cluster that is kept.
pub const KAFKA_NAME_BYTES: usize = 249;

/// Most such names that one connection keeps.
pub const KAFKA_NAMES: usize = 256;

/// Most requests of one connection that wait for their response; clients send 5 ahead as a rule.
pub const KAFKA_PENDING: usize = 256;

/// Most exchanges of one connection that do.
pub const KAFKA_OPEN_EXCHANGES: usize = 2048;

/// Most partitions of one request or response that are told.
pub const KAFKA_PARTITIONS: usize = 256;

/// Most partitions of which one connection knows up to where they are read.
pub const KAFKA_POSITIONS: usize = 1024;

/// Most trace contexts that are kept of one partition's records.
pub const KAFKA_CONTEXTS: usize = 32;

/// Most batches of one partition's records that are told one by one.
pub const KAFKA_BATCHES: usize = 128;

/// Bytes of a compressed batch's records that are read, when decompressed. Further records' headers are not known.
pub const KAFKA_DECODED_BYTES: usize = 64 * 1024;

/// Compressed batches of one partition's records that are decompressed.
pub const KAFKA_DECODED_BATCHES: u32 = 4;

/// The largest window that a frame of zstd may ask for.
pub const KAFKA_ZSTD_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// Longest key that is kept, where keys are asked for.
pub const KAFKA_KEY_BYTES: usize = 256;

/// Most responses that are kept for the records of their requests.
pub const KAFKA_EARLY: usize = 16;

/// How far ahead of the last request such a response may be.
pub const KAFKA_EARLY_IDS: i32 = 1024;
