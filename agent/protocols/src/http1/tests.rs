//! Tests of the HTTP/1.x parser: what they share. Events of a run, told in one line per exchange.

mod captures;
mod hostile;
mod semantics;
mod simulation;

use std::collections::BTreeMap;

use super::{fuzz::fuzz_http1, *};
use crate::exchange::Parser as _;
use crate::script::Books;
use crate::testing::{self, Tested};
use Direction::{Requests, Responses};

type Run = testing::Run<Connection<u32>>;

impl Tested for Connection<u32> {
    type Told = Event<'static, u32>;

    fn met(from_start: bool) -> Self {
        Self::new(from_start)
    }

    fn book(books: &mut Books, event: &Event<'static, u32>) {
        fuzz::book(books, event.clone());
    }

    fn keep(event: Event<'_, u32>) -> Event<'static, u32> {
        event.into_owned()
    }
}

impl Run {
    fn told(&self) -> Vec<String> {
        exchanges(&self.events).iter().map(Exchange::tell).collect()
    }

    fn skipped_nothing(&self) -> bool {
        !self.events.iter().any(|event| matches!(event, Event::Skipped { .. }))
    }

    fn skipped(&self, reason: Skip) -> u64 {
        let bytes = |event: &Event<'_, u32>| match event {
            Event::Skipped { bytes, reason: why, .. } if *why == reason => *bytes,
            _ => 0,
        };
        self.events.iter().map(bytes).sum()
    }
}

/// What the events say of one exchange.
#[derive(Clone, Debug, PartialEq)]
struct Exchange {
    request: RequestHead<'static>,
    request_bytes: Option<u64>,
    response: Option<ResponseHead<'static>>,
    end: Option<Result<End, Abandon>>,
}

impl Exchange {
    /// `METHOD target>request bytes status end`
    fn tell(&self) -> String {
        let Self { request, request_bytes, response, end } = self;
        let cut = if request.target_cut { "~" } else { "" };
        let sent = request_bytes.map_or("?".to_owned(), |bytes| bytes.to_string());
        let status = response.as_ref().map_or("-".to_owned(), |head| head.status.to_string());
        let end = match end {
            None => "open".to_owned(),
            Some(Ok(End::Complete { body_bytes })) => body_bytes.to_string(),
            Some(Ok(end)) => format!("{end:?}"),
            Some(Err(reason)) => format!("abandoned: {reason:?}"),
        };
        format!("{} {}{cut}>{sent} {status} {end}", request.method, request.target)
    }

    fn id(&self) -> Option<&str> {
        let whole = !self.request.target_cut && !self.request.target.is_empty();
        whole.then(|| self.request.target.rsplit('/').next()).flatten()
    }

    /// The id that a response of the captures and the simulation carries.
    fn response_id(&self) -> Option<&str> {
        self.response.as_ref()?.content_type.as_ref()?.split_once("id=").map(|(_, id)| id)
    }

    fn assert_paired_right(&self, context: &dyn Fn() -> String) {
        if let (Some(asked), Some(answered)) = (self.id(), self.response_id()) {
            assert_eq!(asked, answered, "a wrong pair, {}", context());
        }
    }
}

fn exchanges(events: &[Event<'static, u32>]) -> Vec<Exchange> {
    let mut exchanges = BTreeMap::new();
    for event in events.iter().cloned() {
        match event {
            Event::Request { exchange, head, .. } => {
                let fresh =
                    Exchange { request: head, request_bytes: None, response: None, end: None };
                exchanges.insert(exchange, fresh);
            }
            Event::RequestEnd { exchange, body_bytes, .. } => {
                exchanges.get_mut(&exchange).unwrap().request_bytes = Some(body_bytes);
            }
            Event::Response { exchange, head, .. } => {
                exchanges.get_mut(&exchange).unwrap().response = Some(head);
            }
            Event::End { exchange, end, .. } => {
                exchanges.get_mut(&exchange).unwrap().end = Some(Ok(end));
            }
            Event::Abandoned { exchange, reason } => {
                exchanges.get_mut(&exchange).unwrap().end = Some(Err(reason));
            }
            Event::Skipped { .. } => {}
        }
    }
    exchanges.into_values().collect()
}
