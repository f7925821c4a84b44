//! A protocol's parser as a connection uses it, and the choice of one.
//!
//! Every protocol's parser is fed alike ([`exchange::Parser`]); what its events mean is said by its
//! [`Adapter`], in a file of its own beside this one.

use wirespan_protocols::exchange::{self, Counters, Detected, Direction, EndError, Skip, Tells};
use wirespan_protocols::{amqp, http1, kafka, postgres, redis};

use super::evidence::Evidence;
use super::message::Message;
use super::{
    Mark, Options, amqp as amqp_parser, http, kafka as kafka_parser, postgres as postgres_parser,
    redis as redis_parser,
};
use crate::call::Role;

/// Where messages go.
pub(super) type Out<'a> = dyn FnMut(Message) + 'a;

/// What a protocol adds to its parser: what its events mean, and how long its silences are.
pub(super) trait Adapter: Send {
    /// The parser.
    type Connection: exchange::Parser<Mark> + Send;
    /// What people call the protocol.
    const NAME: &'static str;
    /// Silence that ends what only silence can end.
    const QUIET_NS: u64;
    /// Longer than most answers take: no shorter pause is [`Evidence`] that nothing is owed. `None`: this
    /// protocol's parser has no trials.
    const LEAST_PAUSE_NS: Option<u64>;

    /// What the operator asks for from now on, as far as that can change on a connection.
    fn ask(&mut self, _connection: &mut Self::Connection, _options: &Options) {}

    /// Makes an event a message, or none, or remembers what it says of the connection.
    fn tell(&mut self, event: <Self::Connection as Tells>::Event<'_>, out: &mut Out<'_>);
}

/// What [`Adapter::tell`] makes of bytes without a message: the parser's own counters have them, but a request
/// may have been among them.
pub(super) fn skipped(direction: Direction, reason: Skip, out: &mut Out<'_>) {
    if direction == Direction::Requests && reason.may_hide_a_request() {
        out(Message::Unread { at_ns: None });
    }
}

/// One connection's parser: two streams in, messages out. Offsets count from the first byte handed in.
pub(super) trait Parser: Send {
    /// What the operator asks for from now on, as far as that can change on a connection.
    fn ask(&mut self, options: &Options);
    /// A run of one direction's bytes, captured ones first, then `missing` ones.
    fn on_bytes(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        missing: u64,
        mark: &Mark,
        out: &mut Out<'_>,
    );
    /// The last bytes of the operation that the run before began, behind its missing ones.
    fn on_rest(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        mark: &Mark,
        out: &mut Out<'_>,
    );
    /// Bytes were lost, nobody knows how many.
    fn on_gap(&mut self, direction: Direction, out: &mut Out<'_>);
    /// The direction is over.
    fn on_end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &Mark,
        out: &mut Out<'_>,
    );
    /// Nothing has passed for [`Parser::quiet_ns`].
    fn on_idle(&mut self, out: &mut Out<'_>);
    /// Silence that ends what only silence can end.
    fn quiet_ns(&self) -> u64;
    /// What the direction's bytes became.
    fn counters(&self, direction: Direction) -> Counters;
    /// Calls that wait for their end.
    fn open_exchanges(&self) -> usize;
    /// The protocol's name, for a person.
    fn name(&self) -> &'static str;
}

/// The [`Parser`] that a protocol's parser and its [`Adapter`] make.
struct Adapted<A: Adapter> {
    connection: A::Connection,
    adapter: A,
    evidence: Option<Evidence>,
}

impl<A: Adapter> Adapted<A> {
    fn new(connection: A::Connection, adapter: A) -> Self {
        Self { connection, adapter, evidence: A::LEAST_PAUSE_NS.map(Evidence::new) }
    }

    /// Whether pairing begins anew.
    fn judge(&mut self, direction: Direction, mark: &Mark, out: &mut Out<'_>) {
        let Some(evidence) = &mut self.evidence else { return };
        let due = exchange::Parser::on_trial(&self.connection);
        match direction {
            Direction::Requests => evidence.asked(due, mark),
            Direction::Responses => {
                let likely = exchange::Parser::likely_takes_turns(&self.connection);
                if evidence.answered(due, likely, mark) {
                    let Self { connection, adapter, .. } = self;
                    exchange::Parser::nothing_owed(connection, &mut |it| adapter.tell(it, out));
                }
            }
        }
    }
}

impl<A: Adapter> Parser for Adapted<A> {
    fn ask(&mut self, options: &Options) {
        self.adapter.ask(&mut self.connection, options);
    }

    fn on_bytes(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        missing: u64,
        mark: &Mark,
        out: &mut Out<'_>,
    ) {
        let Self { connection, adapter, .. } = self;
        let tell = &mut |event: <A::Connection as Tells>::Event<'_>| adapter.tell(event, out);
        exchange::Parser::on_bytes(connection, direction, offset, bytes, missing, mark, tell);
        self.judge(direction, mark, out);
    }

    fn on_rest(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        mark: &Mark,
        out: &mut Out<'_>,
    ) {
        let Self { connection, adapter, .. } = self;
        let tell = &mut |event: <A::Connection as Tells>::Event<'_>| adapter.tell(event, out);
        exchange::Parser::on_rest(connection, direction, offset, bytes, mark, tell);
        self.judge(direction, mark, out);
    }

    fn on_gap(&mut self, direction: Direction, out: &mut Out<'_>) {
        let Self { connection, adapter, .. } = self;
        exchange::Parser::on_gap(connection, direction, &mut |event| adapter.tell(event, out));
    }

    fn on_end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &Mark,
        out: &mut Out<'_>,
    ) {
        let Self { connection, adapter, .. } = self;
        let tell = &mut |event: <A::Connection as Tells>::Event<'_>| adapter.tell(event, out);
        exchange::Parser::on_end(connection, direction, error, mark, tell);
    }

    fn on_idle(&mut self, out: &mut Out<'_>) {
        let Self { connection, adapter, .. } = self;
        exchange::Parser::on_idle(connection, &mut |event| adapter.tell(event, out));
    }

    fn name(&self) -> &'static str {
        A::NAME
    }

    fn quiet_ns(&self) -> u64 {
        A::QUIET_NS
    }

    fn counters(&self, direction: Direction) -> Counters {
        exchange::Parser::counters(&self.connection, direction)
    }

    fn open_exchanges(&self) -> usize {
        exchange::Parser::open_exchanges(&self.connection)
    }
}

/// A protocol that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Redis,
    Postgres,
    Amqp,
    Kafka,
}

impl Protocol {
    const ALL: [Self; 5] = [Self::Http1, Self::Redis, Self::Postgres, Self::Amqp, Self::Kafka];

    fn detect(self, beginning: &[u8]) -> Detected {
        match self {
            Self::Http1 => http1::detect(beginning),
            Self::Redis => redis::detect(beginning),
            Self::Postgres => postgres::detect(beginning),
            Self::Amqp => amqp::detect(beginning),
            Self::Kafka => kafka::detect(beginning),
        }
    }

    fn parser(self, role: Role, from_start: bool, options: &Options) -> Box<dyn Parser> {
        match self {
            Self::Http1 => {
                let connection = http1::Connection::new(from_start);
                // What a process sends on by itself is told apart from what it was sent by `traceparent` alone:
                // its request is asked for by the one that it serves, and stays in that one's trace.
                let mut connection = match role {
                    Role::Server => connection.propagators(options.propagators),
                    Role::Client => connection,
                };
                let mut http = http::Http::default();
                http.ask(&mut connection, options);
                Box::new(Adapted::new(connection, http))
            }
            Self::Redis => Box::new(Adapted::new(
                redis_parser::connection(from_start, options),
                redis_parser::Redis::new(from_start, options),
            )),
            Self::Postgres => Box::new(Adapted::new(
                postgres_parser::connection(from_start, options),
                postgres_parser::Postgres::default(),
            )),
            Self::Amqp => Box::new(Adapted::new(
                amqp::Connection::new(from_start),
                amqp_parser::Amqp::default(),
            )),
            Self::Kafka => Box::new(Adapted::new(
                kafka_parser::connection(from_start, options),
                kafka_parser::Kafka::default(),
            )),
        }
    }
}

/// What the beginning of a direction shows.
pub(super) enum Choice {
    /// A protocol, and the process's side.
    Parser(Box<dyn Parser>, Role),
    /// It may yet be one.
    NeedMore,
    /// None.
    Unknown,
}

/// Asks every protocol about the first bytes of one direction. `side`: the process's, where the socket tells
/// it; `from_start`: nothing passed before.
pub(super) fn choose(
    beginning: &[u8],
    sent: bool,
    side: Option<Role>,
    from_start: bool,
    options: &Options,
) -> Choice {
    let mut possible = false;
    for protocol in Protocol::ALL {
        let requests = match protocol.detect(beginning) {
            Detected::Requests => true,
            Detected::Responses => false,
            Detected::NeedMore => {
                possible = true;
                continue;
            }
            Detected::No => continue,
        };
        let content = if requests == sent { Role::Client } else { Role::Server };
        // An array that a Redis server answers may look like a command: who connected tells for certain.
        let told = if protocol == Protocol::Redis { side } else { None };
        let role = told.unwrap_or(content);
        return Choice::Parser(protocol.parser(role, from_start, options), role);
    }
    if possible { Choice::NeedMore } else { Choice::Unknown }
}
