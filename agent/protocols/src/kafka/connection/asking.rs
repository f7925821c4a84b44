//! What the client asks: its requests begin exchanges, and wait for their answers.

use std::sync::Arc;

use super::{Connection, Out};
use crate::exchange::{Abandon, Direction, Skip};
use crate::follow::Follow as _;
use crate::kafka::ApiKey;
use crate::kafka::event::{End, Event, Operation, Request};
use crate::kafka::frames::{LENGTH_BYTES, Message, State};
use crate::kafka::pending::{Asked, Pending};
use crate::kafka::reader::{Reader, Stop};
use crate::kafka::requests::{self, Header};
use crate::limits;

impl<M: Clone + 'static> Connection<M> {
    /// A request is complete.
    pub(super) fn request(&mut self, message: &Message<'_, M>, last: &M, out: &mut Out<'_, M>) {
        let length = message.bytes - LENGTH_BYTES as u64;
        let mut reader = Reader::new(&message.body, length);
        let header = match Header::read(&mut reader) {
            Ok(header) if self.responses.state.at != State::Ended => header,
            Err(Stop::Broken) if self.bare => {
                // A token of SASL's.
                return self.requests.count_message(message.bytes);
            }
            Ok(_) | Err(Stop::Cut) => {
                return self.skip(Direction::Requests, message.bytes, Skip::Resync, out);
            }
            Err(Stop::Broken) => {
                self.skip(Direction::Requests, message.bytes, Skip::Broken, out);
                return self.unframe(Direction::Requests, out);
            }
        };
        self.requests.count_message(message.bytes);
        let client_id = header.client_id.and_then(|id| self.names.get(id.as_bytes()));
        self.client_id.clone_from(&client_id);
        self.last_id = Some(header.id);
        self.bare = header.api == ApiKey::SASL_HANDSHAKE && header.version == 0;
        if let Some(stale) = self.pending.iter().position(|pending| pending.id == header.id)
            && let Some(stale) = self.pending.remove(stale)
        {
            // Which of the two the answer is to, nobody can say.
            self.abandon(&stale, Abandon::Unpaired, out);
        }
        let mut pending = Pending {
            id: header.id,
            api: header.api,
            version: header.version,
            client_id,
            offset: message.offset,
            bytes: message.bytes,
            first: message.first.clone(),
            last: last.clone(),
            asked: Asked::Other(0),
        };
        if !self.ask(&mut pending, reader, out) {
            return;
        }
        self.pending.push_back(pending);
        while self.pending.len() > limits::KAFKA_PENDING || self.open > limits::KAFKA_OPEN_EXCHANGES
        {
            let Some(oldest) = self.pending.pop_front() else { break };
            self.abandon(&oldest, Abandon::TooMany, out);
        }
        self.release_early(out);
    }

    /// Tells what a request asks; `false`: nothing answers it.
    pub(super) fn ask(
        &mut self,
        pending: &mut Pending<M>,
        mut body: Reader<'_>,
        out: &mut Out<'_, M>,
    ) -> bool {
        let (api, version) = (pending.api, pending.version);
        if !api.is_known(version) {
            pending.asked = Asked::Other(self.begin(pending, 0, Operation::Other(api), out));
            return true;
        }
        let client_id = pending.client_id.clone();
        let mut member = |group: &Arc<str>, topic| {
            out(Event::Fact(requests::member(client_id.as_ref(), group, topic)));
        };
        pending.asked = match api {
            ApiKey::PRODUCE => {
                let length = body.left();
                match requests::produce(body, version, &mut self.names, self.keeps_keys) {
                    Ok(produce) => return self.ask_produce(pending, length, produce, out),
                    Err(_) => Asked::Other(self.begin(pending, 0, Operation::Other(api), out)),
                }
            }
            ApiKey::FETCH => {
                // What can't be read of it is where the client is: then all of a batch counts.
                let (names, positions) = (&mut self.names, &mut self.positions);
                if requests::fetch(&mut body, version, names, positions).is_err() {
                    positions.clear();
                }
                Asked::Fetch(self.begin(pending, 0, Operation::Fetch, out))
            }
            ApiKey::OFFSET_COMMIT | ApiKey::TXN_OFFSET_COMMIT => {
                let commit = requests::commit(body, (api, version), &mut self.names, &mut member);
                match commit {
                    Ok(commit) => {
                        let operation = Operation::Commit(Box::new(commit));
                        Asked::Commit(self.begin(pending, 0, operation, out))
                    }
                    Err(_) => Asked::Other(self.begin(pending, 0, Operation::Other(api), out)),
                }
            }
            ApiKey::OFFSET_FETCH => {
                // It is a member's question whether it can be read to its end or not.
                requests::offset_fetch(&mut body, version, &mut self.names, &mut member)
                    .unwrap_or_default();
                Asked::Other(self.begin(pending, 0, Operation::Other(api), out))
            }
            _ => Asked::Other(self.begin(pending, 0, Operation::Other(api), out)),
        };
        true
    }

    pub(super) fn ask_produce(
        &mut self,
        pending: &mut Pending<M>,
        body_bytes: u64,
        produce: requests::Produce,
        out: &mut Out<'_, M>,
    ) -> bool {
        let head_bytes = pending.bytes - body_bytes;
        let mut parts = Vec::with_capacity(produce.parts.len());
        for part in produce.parts {
            let (topic, partition) = (part.produced.topic.clone(), part.produced.partition);
            let operation = Operation::Produce(Box::new(part.produced));
            let exchange = self.begin(pending, head_bytes + part.at, operation, out);
            if produce.answered {
                parts.push((exchange, topic, partition));
            } else {
                self.over(exchange, &pending.last, End::Sent, out);
            }
        }
        pending.asked = Asked::Produce { parts, whole: produce.whole };
        produce.answered
    }

    /// Begins an exchange of a request, `at` bytes into it.
    pub(super) fn begin(
        &mut self,
        pending: &Pending<M>,
        at: u64,
        operation: Operation,
        out: &mut Out<'_, M>,
    ) -> u64 {
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        self.open += 1;
        let offset = pending.offset.saturating_add(at.min(pending.bytes.saturating_sub(1)));
        let request = Request { client_id: pending.client_id.clone(), operation };
        out(Event::Request { exchange, offset, first: pending.first.clone(), request });
        out(Event::RequestEnd { exchange, last: pending.last.clone() });
        exchange
    }
}
