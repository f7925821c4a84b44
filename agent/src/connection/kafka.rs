//! Kafka on a connection.

use std::ops::Range;
use std::sync::Arc;

use wirespan_protocols::kafka::{Connection, End, Event, Fact, Operation, Request, Topic};
use wirespan_protocols::w3c::TraceParent;

use super::message::{Content, Mail, Message, Outcome, Step};
use super::parser::{self, Adapter, Out};
use super::{Mark, Options};
use crate::call::{MessageKey, Receipt};
use crate::capture::Socket;

/// Messages of one answer whose senders are looked for.
const MOST_JOINED: usize = 512;

/// A call of Kafka's: what it asks, and what other connections of the process tell of the names in it.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaCall {
    /// What is asked.
    pub request: Request,
    /// The cluster's id, where it is known.
    pub cluster: Option<Arc<str>>,
    /// The topic's name, where the call has one topic and its name is known.
    pub topic: Option<Arc<str>>,
    /// The consumer's group, where it is known.
    pub group: Option<Arc<str>>,
    /// The process handles messages that such a call brought.
    pub handled: Option<HandledRecords>,
}

/// Messages that are handled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandledRecords {
    /// Their partition.
    pub partition: i32,
    /// The offset of the first.
    pub first: i64,
    /// The offset of the last.
    pub last: i64,
}

impl KafkaCall {
    /// The handling of messages that this call brought.
    #[must_use]
    pub fn handles(self, partition: i32, first: i64, last: i64) -> Self {
        Self { handled: Some(HandledRecords { partition, first, last }), ..self }
    }

    /// The messages at these offsets, as its group is given them. `socket`: that which they came on.
    pub fn receipts(
        &self,
        socket: &Socket,
        partition: i32,
        offsets: Range<i64>,
        at_ns: u64,
        out: &mut impl FnMut(Mail),
    ) {
        let (Some(topic), Some((_, broker))) = (&self.topic, socket.addresses) else { return };
        let broker = (broker.ip().to_canonical(), broker.port());
        let receiver = match &self.group {
            Some(group) => MessageKey::of(group),
            None => MessageKey::of(socket.cookie),
        };
        // A sender's batch is known by its first offset: where none begins nobody is found.
        for offset in offsets.take(MOST_JOINED) {
            let message = MessageKey::of(("kafka", broker, topic, partition, offset));
            out(Mail::Receives(Receipt { message, receiver: receiver.0, at_ns, again: true }));
        }
    }

    /// The trace context that all messages of a batch carry, if it is one: its sender propagates by itself.
    pub fn own_context(&self) -> Option<TraceParent> {
        let Operation::Produce(produced) = &self.request.operation else { return None };
        let records = produced.records.as_ref().filter(|records| records.all_have_contexts)?;
        match records.contexts[..] {
            [context] => Some(context),
            _ => None,
        }
    }

    /// The messages that a call which ended so has sent or was given: by topic, partition and offset, which the
    /// broker's answer says. `at_ns`: when it ended. To be asked when the topic is named.
    ///
    /// Of several clusters the broker's address tells which: not every client asks for the cluster's name. A
    /// partition has one broker that takes its messages and, as a rule, gives them.
    pub fn mail(&self, outcome: &Outcome, socket: &Socket, at_ns: u64, out: &mut impl FnMut(Mail)) {
        let (Some(topic), Outcome::Kafka(end)) = (&self.topic, outcome) else { return };
        let Some((_, broker)) = socket.addresses else { return };
        match (&self.request.operation, end) {
            (
                Operation::Produce(sent),
                End::Produced { base_offset: Some(offset), error: None },
            ) => {
                let broker = (broker.ip().to_canonical(), broker.port());
                let place = ("kafka", broker, topic, sent.partition, *offset);
                out(Mail::Sends(MessageKey::of(place)));
            }
            (Operation::Fetch, End::Fetched(delivered)) => {
                let offsets = delivered.first_offset.zip(delivered.next_offset);
                let Some((first, next)) = offsets else { return };
                self.receipts(socket, delivered.partition, first..next, at_ns, out);
            }
            _ => {}
        }
    }

    /// The topic of a call that ended so, as the messages name it.
    pub fn named_topic<'a>(&'a self, outcome: &'a Outcome) -> Option<&'a Topic> {
        match (&self.request.operation, outcome) {
            (Operation::Produce(produced), _) => Some(&produced.topic),
            (Operation::Commit(commit), _) if commit.one_topic => {
                commit.first.as_ref().map(|(topic, ..)| topic)
            }
            (Operation::Fetch, Outcome::Kafka(End::Fetched(delivered))) => Some(&delivered.topic),
            _ => None,
        }
    }
}

#[derive(Default)]
pub(super) struct Kafka {
    /// What this very connection tells.
    cluster: Option<Arc<str>>,
}

/// The parser, which keeps what the operator asks for.
pub(super) fn connection(from_start: bool, options: &Options) -> Connection<Mark> {
    let mut connection = Connection::new(from_start);
    if options.message_keys {
        connection.keep_keys();
    }
    connection
}

impl Adapter for Kafka {
    type Connection = Connection<Mark>;
    const NAME: &'static str = "Kafka";
    /// Longer than the record of a request may come behind that of its answer.
    const QUIET_NS: u64 = 1_000_000_000;
    /// Answers name their requests.
    const LEAST_PAUSE_NS: Option<u64> = None;

    fn tell(&mut self, event: Event<Mark>, out: &mut Out<'_>) {
        let (exchange, step) = match event {
            Event::Request { exchange, offset, first, request } => {
                let cluster = self.cluster.clone();
                let call = KafkaCall { request, cluster, topic: None, group: None, handled: None };
                let content = Content::Kafka(Box::new(call));
                (exchange, Step::Begun { offset, first, content })
            }
            Event::RequestEnd { exchange, last } => {
                (exchange, Step::RequestEnd { last, content_bytes: None, fields: Vec::new() })
            }
            Event::Response { exchange, first } => (exchange, Step::Response { first, head: None }),
            Event::End { exchange, last, end } => {
                (exchange, Step::Over { last, outcome: Outcome::Kafka(end) })
            }
            Event::Abandoned { exchange, .. } => (exchange, Step::Abandoned),
            Event::Fact(fact) => {
                if let Fact::Cluster(id) = &fact {
                    self.cluster = Some(Arc::clone(id));
                }
                return out(Message::Broker(fact));
            }
            Event::Skipped { direction, reason, .. } => {
                return parser::skipped(direction, reason, out);
            }
        };
        out(Message::Call { exchange, step });
    }
}

/// Takes what others sent.
pub(super) fn is_fetch(request: &Request) -> bool {
    matches!(request.operation, Operation::Fetch)
}

/// Everything is a client library's own doing but an `OffsetCommit`: it polls by itself, and what it is given
/// to send it sends together with others', when it sees fit. Whoever is in flight then need not have asked for
/// it.
pub(super) fn is_incidental(request: &Request) -> bool {
    !matches!(request.operation, Operation::Commit(_))
}

/// A poll in vain, or what a client library does by itself. One that a connection's end cut short was waiting.
pub(super) fn is_silent(request: &Request, end: &End) -> bool {
    match request.operation {
        Operation::Fetch => !matches!(end, End::Fetched(_)),
        Operation::Other(_) => true,
        Operation::Produce(_) | Operation::Commit(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirespan_protocols::kafka::{Delivered, Produced, Records};

    fn asked(operation: Operation) -> Request {
        Request { client_id: None, operation }
    }

    #[test]
    fn a_poll_that_brought_nothing_is_silent_and_a_batch_never_is() {
        let orders = || Topic::Name("orders".into());
        let fetched = End::Fetched(Box::new(Delivered {
            topic: orders(),
            partition: 0,
            first_offset: Some(1),
            next_offset: Some(2),
            records: Records::default(),
            error: None,
            cut: false,
        }));
        let closed = End::Closed { answered: false, error: None };
        let produced = Produced { topic: orders(), partition: 0, records: None };
        let produce = Operation::Produce(Box::new(produced));
        for (operation, end, silent) in [
            (Operation::Fetch, &fetched, false),
            (Operation::Fetch, &End::Idle, true),
            (Operation::Fetch, &closed, true),
            (produce.clone(), &closed, false),
            (produce, &End::Sent, false),
        ] {
            assert_eq!(is_silent(&asked(operation.clone()), end), silent, "{operation:?} {end:?}");
            assert!(is_incidental(&asked(operation)));
        }
    }
}
