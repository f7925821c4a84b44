//! HTTP/1.x on a connection.

use std::sync::Arc;

use wirespan_protocols::http1::{Connection, Event};

use super::message::{Content, Message, Outcome, Step};
use super::parser::{self, Adapter, Out};
use super::{Mark, Options};
use crate::settings::{Pointer, fields};

#[derive(Default)]
pub(super) struct Http {
    /// Fields of requests' contents that are asked for.
    pointers: Arc<[Pointer]>,
}

impl Adapter for Http {
    type Connection = Connection<Mark>;
    const NAME: &'static str = "HTTP/1";
    /// Ends a body whose framing was lost.
    const QUIET_NS: u64 = 500_000_000;
    const LEAST_PAUSE_NS: Option<u64> = None;

    fn ask(&mut self, connection: &mut Connection<Mark>, options: &Options) {
        connection.ask(&options.fields);
        self.pointers = Arc::clone(&options.pointers);
    }

    fn tell(&mut self, event: Event<'_, Mark>, out: &mut Out<'_>) {
        let (exchange, step) = match event {
            Event::Request { exchange, offset, first, head } => {
                let content = Content::Http { request: head.into_owned(), response: None };
                (exchange, Step::Begun { offset, first, content })
            }
            Event::RequestEnd { exchange, last, body_bytes, exact, content } => {
                let content_bytes = exact.then_some(body_bytes);
                let found = content.map(|content| fields(&content, &self.pointers));
                let fields = found.unwrap_or_default();
                (exchange, Step::RequestEnd { last, content_bytes, fields })
            }
            Event::Response { exchange, first, head } => {
                (exchange, Step::Response { first, head: Some(head.into_owned()) })
            }
            Event::End { exchange, last, end } => {
                (exchange, Step::Over { last, outcome: Outcome::Http(end) })
            }
            Event::Abandoned { exchange, .. } => (exchange, Step::Abandoned),
            Event::Skipped { direction, reason, .. } => {
                return parser::skipped(direction, reason, out);
            }
        };
        out(Message::Call { exchange, step });
    }
}
