//! A protocol's parser as a connection uses it, and the choice of one.

use wirespan_protocols::exchange::{Counters, Detected, Direction, EndError};
use wirespan_protocols::{http1, postgres, redis};

use super::message::Message;
use super::{Mark, Options, http, postgres as postgres_parser, redis as redis_parser};
use crate::call::Role;

/// Where messages go.
pub(super) type Out<'a> = dyn FnMut(Message) + 'a;

/// One connection's parser: two streams in, messages out. Offsets count from the first byte handed in.
pub(super) trait Parser: Send {
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
}

/// A protocol that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Redis,
    Postgres,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Http1, Self::Redis, Self::Postgres];

    fn detect(self, beginning: &[u8]) -> Detected {
        match self {
            Self::Http1 => http1::detect(beginning),
            Self::Redis => redis::detect(beginning),
            Self::Postgres => postgres::detect(beginning),
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
    options: Options,
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
        let (parser, role): (Box<dyn Parser>, Role) = match protocol {
            Protocol::Http1 => (Box::new(http::Parser::new(from_start)), content),
            // An array that a server answers may look like a command: who connected tells for certain.
            Protocol::Redis => {
                (Box::new(redis_parser::Parser::new(from_start)), side.unwrap_or(content))
            }
            Protocol::Postgres => {
                (Box::new(postgres_parser::Parser::new(from_start, options)), content)
            }
        };
        return Choice::Parser(parser, role);
    }
    if possible { Choice::NeedMore } else { Choice::Unknown }
}
