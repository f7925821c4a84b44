//! The attribute keys that are Wirespan's own, beside OpenTelemetry's conventions.
//!
//! OpenTelemetry's keys are the constants of `opentelemetry-semantic-conventions`; what is here has no
//! name there. Units are in the names.

/// How long an inbound call's first bytes lay in the socket before the application read them:
/// an integer, nanoseconds.
pub const QUEUE_TIME_NS: &str = "wirespan.kernel.queue_time_ns";

/// What is known of the span's parent: [`PARENT_STATUS_WITHHELD`], or absent where nothing is to be said.
pub const PARENT_STATUS: &str = "wirespan.parent.status";

/// A value of [`PARENT_STATUS`]: a parent exists but was not certain, so none was given.
pub const PARENT_STATUS_WITHHELD: &str = "withheld";

/// Why [`PARENT_STATUS`] is what it is: a short text such as `concurrent`.
pub const PARENT_REASON: &str = "wirespan.parent.reason";

/// How long the connect took, on the first call over a connection: an integer, nanoseconds.
pub const CONNECT_TIME_NS: &str = "wirespan.kernel.connect_time_ns";

/// Of a client: from the request's last byte to the response's first byte in the socket. Of a server: from
/// the request's first byte in the socket to the response's first byte handed to the kernel. An integer,
/// nanoseconds.
pub const FIRST_BYTE_TIME_NS: &str = "wirespan.kernel.first_byte_time_ns";

/// How long an answer's first bytes lay in the socket before the application read them: an integer,
/// nanoseconds.
pub const UNREAD_TIME_NS: &str = "wirespan.kernel.unread_time_ns";

/// Smoothed round-trip time of the connection at the call's end: an integer, microseconds.
pub const SMOOTHED_RTT_US: &str = "wirespan.kernel.smoothed_rtt_us";

/// Segments that the connection retransmitted during the call: an integer.
pub const RETRANSMITS: &str = "wirespan.kernel.retransmits";

/// How long the request's thread was ready to run and did not, while it served the request: an integer,
/// nanoseconds. Only where the thread serves one request at a time. Of a process's span: its main thread.
pub const RUN_DELAY_NS: &str = "wirespan.kernel.run_delay_ns";

/// How long the request's thread ran on a CPU while it served the request: an integer, nanoseconds. Only
/// where the thread serves one request at a time. Of a process's span: all its threads.
pub const ON_CPU_TIME_NS: &str = "wirespan.kernel.on_cpu_time_ns";

/// Of a process's span: its script, or `-m` and its module. Text.
pub const PROCESS_ENTRY: &str = "wirespan.process.entry";

/// Of a process's span: why it ends before its process does. [`PROCESS_END_SERVES`], `replaced` (it executed another
/// program), `let_go` (it is not traced any more), `goes_on` (its time is over, or the agent's).
pub const PROCESS_END: &str = "wirespan.process.end";

/// A value of [`PROCESS_END`]: it began to serve, and the span is its start.
pub const PROCESS_END_SERVES: &str = "serves";

/// `true`: the process began before it was traced; calls of before are not beneath its span.
pub const PROCESS_FOUND_RUNNING: &str = "wirespan.process.found_running";

/// The most memory of a process that was resident until it exited: an integer, bytes.
pub const PROCESS_MAX_RSS_BYTES: &str = "wirespan.process.max_rss_bytes";

/// Page faults of a process that waited for a disk, until it exited: an integer.
pub const PROCESS_MAJOR_FAULTS: &str = "wirespan.process.major_faults";

/// How often a process's threads waited for something, until it exited: an integer.
pub const PROCESS_VOLUNTARY_SWITCHES: &str = "wirespan.process.voluntary_context_switches";

/// How often a process's threads were interrupted for others, until it exited: an integer.
pub const PROCESS_INVOLUNTARY_SWITCHES: &str = "wirespan.process.involuntary_context_switches";

/// `true`: the response's end was not seen but inferred from silence or from the next request, because its
/// framing was not captured. The span's end is the last byte that was seen.
pub const END_INFERRED: &str = "wirespan.end_inferred";

/// Nanoseconds from when a message was sent until it was read, where its sender is the parent.
pub const MESSAGE_WAIT_TIME: &str = "wirespan.message.wait_time_ns";

/// What a queue's library calls a job by, such as its function: text.
pub const JOB_NAME: &str = "wirespan.job.name";

/// Which attempt at a job this is, from 1: an integer.
pub const JOB_ATTEMPT: &str = "wirespan.job.attempt";

/// Of a job that failed: whether it will be tried again.
pub const JOB_RETRIED: &str = "wirespan.job.retried";

/// On a link: why. `late_work`: the span is work of the linked request, which was answered too long before to be
/// the parent. `message`: the linked span sent one of several messages that this one received.
pub const LINK_REASON: &str = "wirespan.link.reason";

/// `true`: a Redis command was answered with nothing (a key that isn't there, a wait that was in vain).
pub const REDIS_NIL: &str = "wirespan.redis.nil";

/// `true`: a Redis command was sent within `MULTI`, and is run by `EXEC`. Its own span is its being queued.
pub const REDIS_QUEUED: &str = "wirespan.redis.queued";

/// The role that a PostgreSQL session was opened for: text. (OpenTelemetry's `db.user` was removed without successor.)
pub const DB_USER: &str = "wirespan.db.user";

/// Of several statements in one query, one of which failed: which one, from 1. An integer.
pub const FAILED_STATEMENT: &str = "wirespan.db.failed_statement";

/// What that statement is, as `db.query.summary` says it: text.
pub const FAILED_SUMMARY: &str = "wirespan.db.failed_summary";

/// How many commands of a Redis transaction were answered with nothing: an integer, on `EXEC`.
pub const REDIS_NILS: &str = "wirespan.redis.nils";

/// How many commands of a Redis transaction failed when it was run: an integer, on `EXEC`.
pub const REDIS_FAILED: &str = "wirespan.redis.failed";

/// Rows that a statement inserted, changed, deleted or copied: an integer.
pub const AFFECTED_ROWS: &str = "wirespan.db.affected_rows";

/// The virtual host of a RabbitMQ connection: text.
pub const RABBITMQ_VIRTUAL_HOST: &str = "wirespan.rabbitmq.virtual_host";

/// The queue that a message was delivered from: text.
pub const RABBITMQ_QUEUE: &str = "wirespan.rabbitmq.queue";

/// The consumer that a message was delivered to: text.
pub const RABBITMQ_CONSUMER_TAG: &str = "wirespan.rabbitmq.consumer_tag";

/// `true`: a message was delivered before, or may have been.
pub const RABBITMQ_REDELIVERED: &str = "wirespan.rabbitmq.redelivered";

/// What the process said of a message: `ack`, `nack`, `reject`, or `auto` where the broker waits for no word.
pub const RABBITMQ_SETTLEMENT: &str = "wirespan.rabbitmq.settlement";

/// `true`: a message that was not acknowledged goes back into its queue. `false`: it is dropped, or dead-lettered.
pub const RABBITMQ_REQUEUE: &str = "wirespan.rabbitmq.requeue";

/// `true`: the broker confirmed that it has the message. Absent where it was not asked to, or its word was not seen.
pub const RABBITMQ_CONFIRMED: &str = "wirespan.rabbitmq.confirmed";

/// The id of the Kafka cluster, as its brokers tell it: a text.
pub const KAFKA_CLUSTER_ID: &str = "wirespan.kafka.cluster_id";

/// `true`: a Kafka broker's answer goes on behind the partition that this span tells of, and was not captured:
/// it may have brought other partitions' messages.
pub const KAFKA_CUT: &str = "wirespan.kafka.cut";
