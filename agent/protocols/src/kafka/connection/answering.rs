//! What the broker answers: which request it is to, and how that one's exchanges end.

use super::{Connection, Early, Out};
use crate::exchange::{Abandon, Direction, Skip};
use crate::follow::Follow as _;
use crate::kafka::ApiKey;
use crate::kafka::event::{End, Event, Fact, Operation, Produced};
use crate::kafka::frames::{LENGTH_BYTES, Message, State};
use crate::kafka::pending::{Asked, Pending};
use crate::kafka::reader::{Reader, Stop};
use crate::kafka::responses;
use crate::limits;

impl<M: Clone + 'static> Connection<M> {
    /// A response is complete.
    pub(super) fn response(&mut self, message: Message<'_, M>, last: &M, out: &mut Out<'_, M>) {
        let Message { body, first, bytes, .. } = message;
        let length = bytes - LENGTH_BYTES as u64;
        let Ok(id) = Reader::new(&body, length).i32() else {
            return self.skip(Direction::Responses, bytes, Skip::Resync, out);
        };
        if self.pending.iter().any(|pending| pending.id == id) {
            return self.answer(&body, &first, last, bytes, out);
        }
        let ahead = match self.last_id {
            _ if self.requests.state.at == State::Ended => false,
            Some(known) => (1..=limits::KAFKA_EARLY_IDS).contains(&id.wrapping_sub(known)),
            // The first request's record may be late; that of one without an answer never is waited for.
            None => self.requests.state.at == State::Framed,
        };
        if !ahead || body.len() > limits::KAFKA_KEPT_BYTES {
            if self.bare {
                return self.responses.count_message(bytes);
            }
            return self.skip(Direction::Responses, bytes, Skip::UnpairedResponse, out);
        }
        self.early.push(Early { body: body.into(), first, last: last.clone(), bytes });
        self.drop_early(limits::KAFKA_EARLY, Skip::HeldTooLong, out);
    }

    /// Answers what came before its request.
    pub(super) fn release_early(&mut self, out: &mut Out<'_, M>) {
        let Some(known) = self.last_id else { return };
        let mut index = 0;
        while let Some(early) = self.early.get(index) {
            let length = early.bytes - LENGTH_BYTES as u64;
            let id = Reader::new(&early.body, length).i32().unwrap_or(known);
            if self.pending.iter().any(|pending| pending.id == id) {
                let early = self.early.remove(index);
                self.answer(&early.body, &early.first, &early.last, early.bytes, out);
            } else if (1..=limits::KAFKA_EARLY_IDS).contains(&id.wrapping_sub(known)) {
                index += 1;
            } else {
                let early = self.early.remove(index);
                self.skip(Direction::Responses, early.bytes, Skip::UnpairedResponse, out);
            }
        }
    }

    /// Drops the oldest of what is kept for its request, down to `most`.
    pub(super) fn drop_early(&mut self, most: usize, reason: Skip, out: &mut Out<'_, M>) {
        let kept =
            |early: &Vec<Early<M>>| early.iter().map(|early| early.body.len()).sum::<usize>();
        while self.early.len() > most || kept(&self.early) > limits::KAFKA_KEPT_BYTES {
            let early = self.early.remove(0);
            self.skip(Direction::Responses, early.bytes, reason, out);
        }
    }

    /// The response to a request that waits; those before it have none any more.
    pub(super) fn answer(
        &mut self,
        body: &[u8],
        first: &M,
        last: &M,
        bytes: u64,
        out: &mut Out<'_, M>,
    ) {
        self.responses.count_message(bytes);
        let mut reader = Reader::new(body, bytes - LENGTH_BYTES as u64);
        let Ok(id) = reader.i32() else { return };
        let pending = loop {
            let Some(pending) = self.pending.pop_front() else { return };
            if pending.id == id {
                break pending;
            }
            self.abandon(&pending, Abandon::Gap, out);
        };
        for exchange in pending.asked.exchanges() {
            out(Event::Response { exchange, first: first.clone() });
        }
        let (api, version) = (pending.api, pending.version);
        let mut reader = reader.flexible(api.answers_with_tags(version));
        if api.is_known(version) && reader.tags().is_ok() {
            // `ApiVersions` alone has a body of another encoding than its header.
            reader = reader.flexible(api.is_flexible(version));
            self.read_answer(&pending, reader, first, last, out);
        } else {
            for exchange in pending.asked.exchanges() {
                self.over(exchange, last, End::Answered, out);
            }
        }
    }

    pub(super) fn read_answer(
        &mut self,
        pending: &Pending<M>,
        mut reader: Reader<'_>,
        first: &M,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let version = pending.version;
        match &pending.asked {
            Asked::Produce { parts, whole } => {
                let mut appended = Vec::new();
                // What was read before it was cut, or broke, is told.
                let read = responses::produce(&mut reader, version, &mut self.names, &mut |it| {
                    appended.push(it);
                });
                if read == Err(Stop::Broken) {
                    appended.clear();
                }
                let mut waiting: Vec<_> = parts.iter().collect();
                for it in appended {
                    let known = waiting.iter().position(|(_, topic, partition)| {
                        (topic, *partition) == (&it.topic, it.partition)
                    });
                    let end = End::Produced { base_offset: it.base_offset, error: it.error };
                    let exchange = match known {
                        Some(known) => waiting.swap_remove(known).0,
                        None if *whole => continue,
                        None => {
                            let produced = Produced {
                                topic: it.topic,
                                partition: it.partition,
                                records: None,
                            };
                            let operation = Operation::Produce(Box::new(produced));
                            self.begin_answered(pending, parts.len(), operation, first, out)
                        }
                    };
                    self.over(exchange, last, end, out);
                }
                for (exchange, ..) in waiting {
                    self.over(*exchange, last, End::Answered, out);
                }
            }
            Asked::Fetch(exchange) => {
                self.read_fetched(pending, *exchange, reader, first, last, out);
            }
            Asked::Commit(exchange) => {
                let of_transaction = pending.api == ApiKey::TXN_OFFSET_COMMIT;
                let by_id = !of_transaction && version >= 10;
                let throttled = of_transaction || version >= 3;
                let (error, read) =
                    responses::commit(&mut reader, by_id, throttled, &mut self.names);
                let end = match (error, read) {
                    (None, Err(_)) => End::Answered,
                    (error, _) => End::Committed { error },
                };
                self.over(*exchange, last, end, out);
            }
            Asked::Other(exchange) => {
                if pending.api == ApiKey::METADATA {
                    // What was read before it was cut is true.
                    let mut told = |fact: Fact| out(Event::Fact(fact));
                    responses::metadata(&mut reader, version, &mut self.names, &mut told)
                        .unwrap_or_default();
                }
                self.over(*exchange, last, End::Answered, out);
            }
        }
    }

    pub(super) fn read_fetched(
        &mut self,
        pending: &Pending<M>,
        exchange: u64,
        mut reader: Reader<'_>,
        first: &M,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let mut delivered = Vec::new();
        let mut most = false;
        let (names, positions, keys) = (&mut self.names, &self.positions, self.keeps_keys);
        let read =
            responses::fetch(&mut reader, pending.version, names, positions, keys, &mut |it| {
                most |= delivered.len() >= limits::KAFKA_PARTITIONS;
                if !most {
                    delivered.push(it);
                }
            });
        if read == Err(Stop::Broken) {
            delivered.clear();
        }
        if let Some(last) = delivered.last_mut() {
            last.cut = most || read.is_err();
        }
        if delivered.is_empty() {
            let end = if read.is_ok() { End::Idle } else { End::Answered };
            return self.over(exchange, last, end, out);
        }
        for (index, delivered) in delivered.into_iter().enumerate() {
            let exchange = match index {
                0 => exchange,
                _ => self.begin_answered(pending, index, Operation::Fetch, first, out),
            };
            self.over(exchange, last, End::Fetched(Box::new(delivered)), out);
        }
    }

    /// Begins an exchange of which only the answer tells.
    pub(super) fn begin_answered(
        &mut self,
        pending: &Pending<M>,
        at: usize,
        operation: Operation,
        first: &M,
        out: &mut Out<'_, M>,
    ) -> u64 {
        let exchange = self.begin(pending, at as u64, operation, out);
        out(Event::Response { exchange, first: first.clone() });
        exchange
    }

    pub(super) fn over(&mut self, exchange: u64, last: &M, end: End, out: &mut Out<'_, M>) {
        self.open = self.open.saturating_sub(1);
        out(Event::End { exchange, last: last.clone(), end });
    }

    pub(super) fn abandon(&mut self, pending: &Pending<M>, reason: Abandon, out: &mut Out<'_, M>) {
        for exchange in pending.asked.exchanges() {
            self.open = self.open.saturating_sub(1);
            out(Event::Abandoned { exchange, reason });
        }
    }
}
