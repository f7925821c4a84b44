//! HTTP/1.x on a connection.

use wirespan_protocols::exchange::{Counters, Direction, EndError};
use wirespan_protocols::http1::{Connection, Event};

use super::Mark;
use super::message::{Content, Message, Outcome, Step};
use super::parser::{self, Out};

/// Ends a body whose framing was lost.
const QUIET_NS: u64 = 500_000_000;

pub(super) struct Parser(Connection<Mark>);

impl Parser {
    pub(super) fn new(from_start: bool) -> Self {
        Self(Connection::new(from_start))
    }
}

impl parser::Parser for Parser {
    fn on_bytes(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        missing: u64,
        mark: &Mark,
        out: &mut Out<'_>,
    ) {
        self.0.on_bytes(direction, offset, bytes, missing, mark, &mut |event| tell(event, out));
    }

    fn on_rest(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
        mark: &Mark,
        out: &mut Out<'_>,
    ) {
        self.0.on_rest(direction, offset, bytes, mark, &mut |event| tell(event, out));
    }

    fn on_gap(&mut self, direction: Direction, out: &mut Out<'_>) {
        self.0.on_gap(direction, &mut |event| tell(event, out));
    }

    fn on_end(
        &mut self,
        direction: Direction,
        error: Option<EndError>,
        mark: &Mark,
        out: &mut Out<'_>,
    ) {
        self.0.on_end(direction, error, mark, &mut |event| tell(event, out));
    }

    fn on_idle(&mut self, out: &mut Out<'_>) {
        self.0.on_idle(&mut |event| tell(event, out));
    }

    fn quiet_ns(&self) -> u64 {
        QUIET_NS
    }

    fn counters(&self, direction: Direction) -> Counters {
        self.0.counters(direction)
    }

    fn open_exchanges(&self) -> usize {
        self.0.open_exchanges()
    }
}

fn tell(event: Event<Mark>, out: &mut Out<'_>) {
    let (exchange, step) = match event {
        Event::Request { exchange, offset, first, head } => {
            let content = Content::Http { request: head, response: None };
            (exchange, Step::Begun { offset, first, content })
        }
        Event::RequestEnd { exchange, last, body_bytes, exact } => {
            (exchange, Step::RequestEnd { last, content_bytes: exact.then_some(body_bytes) })
        }
        Event::Response { exchange, first, head } => {
            (exchange, Step::Response { first, head: Some(head) })
        }
        Event::End { exchange, last, end } => {
            (exchange, Step::Over { last, outcome: Outcome::Http(end) })
        }
        Event::Abandoned { exchange, .. } => (exchange, Step::Abandoned),
        // The parser's own counters have the bytes; but a request may have been among them.
        Event::Skipped { direction: Direction::Requests, reason, .. }
            if reason.may_hide_a_request() =>
        {
            return out(Message::Unread { at_ns: None });
        }
        Event::Skipped { .. } => return,
    };
    out(Message::Call { exchange, step });
}
