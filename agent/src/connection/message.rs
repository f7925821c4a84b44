//! What a connection tells of its calls: the same steps for every protocol, and what each protocol's calls
//! carry.
//!
//! A further protocol adds a variant to [`Content`] and to [`Outcome`], a parser beside this file, and a
//! span beside the others.

use std::sync::Arc;

use wirespan_protocols::exchange::EndError;
use wirespan_protocols::{amqp, http1, kafka, postgres, redis};

use super::amqp::AmqpSession;
use super::{KafkaCall, Mark, RedisCall};
use crate::call::{MessageKey, Receipt};
use crate::queue::{Fate, Notice, Work};
use crate::settings::JsonField;

/// What a parser told.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "handled at once, never stored: a box would be an allocation a message"
)]
pub enum Message {
    /// A call went on.
    Call {
        /// Its ordinal on the connection.
        exchange: u64,
        /// How.
        step: Step,
    },
    /// The connection carries what can't be read; from here on nothing of it is.
    Opaque,
    /// Something of a queue on Redis.
    Queue {
        /// The call's ordinal that it is about.
        exchange: u64,
        /// When.
        mark: Mark,
        /// The database, where it is known.
        database: Option<u32>,
        /// What.
        notice: Notice,
    },
    /// The process sends spans of its own here.
    OwnSpans,
    /// Something about a Kafka cluster, which is true of all of the process's connections to it.
    Broker(kafka::Fact),
    /// Something was received that could not be read: of an inbound connection it may be a request.
    Unread {
        /// When, CLOCK_MONOTONIC; `None`: when something last happened on the connection.
        at_ns: Option<u64>,
    },
}

/// A step of a call. The first is `Begun`, the last `Over` or `Abandoned`.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "as a `Message`")]
pub enum Step {
    /// What it asks for is known.
    Begun {
        /// Where its first byte lies in its direction's stream.
        offset: u64,
        /// When that byte passed.
        first: Mark,
        /// What it asks for.
        content: Content,
    },
    /// The request's last byte passed.
    RequestEnd {
        /// When.
        last: Mark,
        /// Bytes of its content, where the protocol has a content and its framing was seen to the end.
        content_bytes: Option<u64>,
        /// Fields of its content that are asked for.
        fields: Vec<JsonField>,
    },
    /// The response began.
    Response {
        /// When its first byte passed.
        first: Mark,
        /// What an HTTP response's head says.
        head: Option<http1::ResponseHead<'static>>,
    },
    /// It is over.
    Over {
        /// When its last byte passed.
        last: Mark,
        /// How it ended.
        outcome: Outcome,
    },
    /// It will never be known in full.
    Abandoned,
}

/// The message that a call sends or is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// It sends it.
    Sends(MessageKey),
    /// It is given it.
    Receives(Receipt),
}

/// How a message is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The process will not say that it has handled it.
    pub automatic: bool,
    /// The channel that it came on.
    pub channel: u16,
    /// Its number there.
    pub delivery_tag: u64,
}

/// What a call asks for.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most calls are HTTP: a box would be one more each")]
pub enum Content {
    /// HTTP/1.x.
    Http {
        /// The request's head.
        request: http1::RequestHead<'static>,
        /// The response's.
        response: Option<http1::ResponseHead<'static>>,
    },
    /// Redis.
    Redis(Box<RedisCall>),
    /// A job that was taken from a queue on Redis. No call of its own: it lasts until it is settled.
    Job(Box<Work>),
    /// PostgreSQL.
    Postgres {
        /// The statement.
        query: Box<postgres::Query<'static>>,
        /// The session that it runs in.
        session: Arc<PostgresSession>,
    },
    /// AMQP.
    Amqp {
        /// A message that is published or was delivered, or what is asked of the broker.
        call: amqp::Call,
        /// The connection's.
        session: Arc<AmqpSession>,
    },
    /// Kafka.
    Kafka(Box<KafkaCall>),
}

/// Who uses a PostgreSQL connection, and for which database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresSession {
    /// The role.
    pub user: Option<Box<str>>,
    /// The database.
    pub database: Option<Box<str>>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// HTTP/1.x.
    Http(http1::End),
    /// Redis.
    Redis {
        /// How.
        end: redis::End<'static>,
        /// The database that it ran in, where that is known.
        database: Option<u32>,
    },
    /// PostgreSQL.
    Postgres(postgres::End<'static>),
    /// AMQP.
    Amqp(amqp::End),
    /// Kafka.
    Kafka(kafka::End),
    /// A job.
    Job(Fate),
}

/// How a connection's end cut a call short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It was reset.
    Reset,
    /// The kernel gave it up.
    TimedOut,
    /// It was closed before there was a response.
    NoResponse,
    /// It was closed within the response.
    Truncated,
}

impl From<EndError> for Broken {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Reset => Self::Reset,
            EndError::Timeout => Self::TimedOut,
        }
    }
}

impl Content {
    /// A client library's own doing: setting up a session, asking whether a connection is alive, waiting for
    /// work. It proves nothing about who asked for it.
    pub fn is_incidental(&self) -> bool {
        match self {
            Self::Http { .. } => false,
            Self::Redis(call) => call.is_incidental(),
            // It comes unasked, or by a call of its own.
            Self::Job(_) => true,
            Self::Postgres { query, .. } => super::postgres::is_incidental(query),
            Self::Amqp { call, .. } => super::amqp::is_incidental(call),
            Self::Kafka(call) => super::kafka::is_incidental(&call.request),
        }
    }

    /// Messages are given to the process by it that others sent: who they were decides its parent, and nothing that
    /// the process does. A delivery comes unasked and lasts until it is settled.
    pub fn receives(&self) -> bool {
        matches!(self, Self::Amqp { call: amqp::Call::Delivery(_), .. } | Self::Job(_))
            || self.is_fetch()
    }

    /// The process waits for what others give it to do, now or from now on: it serves them.
    pub fn waits_for_work(&self) -> bool {
        match self {
            Self::Redis(call) => call.waits_for_work(),
            Self::Amqp { call, .. } => super::amqp::waits_for_work(call),
            Self::Http { .. } | Self::Postgres { .. } => false,
            Self::Job(_) | Self::Kafka(_) => self.receives(),
        }
    }

    /// It is a message that the process handles: what is done for that is its, until it is settled.
    pub fn is_handled(&self) -> Option<Handled> {
        match self {
            Self::Amqp { call: amqp::Call::Delivery(delivery), .. } => {
                let &amqp::Delivery { automatic, channel, delivery_tag, .. } = &**delivery;
                Some(Handled { automatic, channel, delivery_tag })
            }
            _ => None,
        }
    }

    /// The task of Celery's that a message is which the process handles, by its id.
    pub fn celerys_task(&self) -> Option<&str> {
        match self {
            Self::Amqp { call: amqp::Call::Delivery(delivery), .. } => {
                delivery.message.properties.task_id.as_deref()
            }
            _ => None,
        }
    }

    /// The message that it sends or is given, where enough is known of it. `connection`: its socket's cookie;
    /// `at_ns`: when it began.
    pub fn mail(&self, connection: u64, at_ns: u64) -> Option<Mail> {
        match self {
            Self::Http { .. }
            | Self::Redis(_)
            | Self::Job(_)
            | Self::Postgres { .. }
            | Self::Kafka(_) => None,
            Self::Amqp { call, .. } => super::amqp::mail(call, connection, at_ns),
        }
    }

    /// Messages are taken by it that others sent: it waits for them, whoever asked for it.
    pub fn is_fetch(&self) -> bool {
        match self {
            Self::Http { .. }
            | Self::Redis(_)
            | Self::Job(_)
            | Self::Postgres { .. }
            | Self::Amqp { .. } => false,
            Self::Kafka(call) => super::kafka::is_fetch(&call.request),
        }
    }

    /// Written by a task of the client library's own, for whoever asked: of messages, which are sent together,
    /// and of polls. The context that it runs in is that of whoever began it.
    pub fn is_writers(&self) -> bool {
        match self {
            Self::Http { .. }
            | Self::Redis(_)
            | Self::Job(_)
            | Self::Postgres { .. }
            | Self::Amqp { .. } => false,
            Self::Kafka(call) => super::kafka::is_incidental(&call.request),
        }
    }
}

/// Whether a client's call that is over gives no span, and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It gives one.
    Never,
    /// It asked for work and there was none: within a request that is an answer, else an idle worker's poll.
    UnlessAskedFor,
    /// It tells nothing.
    Always,
}

impl Outcome {
    /// What a call that ended so tells: of a worker that asked for work where there was none, of a connection that
    /// was found alive, of a statement that the server passed over, nothing.
    /// `silent_pool_pings`: so does a pool's ping.
    pub fn silence(&self, content: &Content, silent_pool_pings: bool) -> Silence {
        let silent = match (self, content) {
            (Self::Redis { end, .. }, Content::Redis(call)) => return call.silence(end),
            (Self::Kafka(end), Content::Kafka(call)) => super::kafka::is_silent(&call.request, end),
            (Self::Postgres(postgres::End::NotExecuted), _) => true,
            (Self::Postgres(end), Content::Postgres { query, .. }) => {
                silent_pool_pings && super::postgres::is_ping(query, end)
            }
            (Self::Amqp(end), Content::Amqp { call, .. }) => super::amqp::is_silent(call, end),
            _ => false,
        };
        if silent { Silence::Always } else { Silence::Never }
    }

    /// The message that a call of this process's asked for and was given, where enough is known of it. `connection`:
    /// its socket's cookie; `at_ns`: when it ended.
    pub fn fetched(&self, connection: u64, at_ns: u64) -> Option<Receipt> {
        match self {
            Self::Amqp(end) => super::amqp::fetched(end, connection, at_ns),
            _ => None,
        }
    }

    /// How the connection's end cut the call short, if it did.
    pub fn broken(&self) -> Option<Broken> {
        match self {
            Self::Http(http1::End::Reset { error, .. })
            | Self::Redis { end: redis::End::Reset { error, .. }, .. }
            | Self::Postgres(postgres::End::Closed { error: Some(error), .. })
            | Self::Amqp(amqp::End::Broken { error: Some(error) })
            | Self::Kafka(kafka::End::Closed { error: Some(error), .. }) => Some((*error).into()),
            Self::Http(http1::End::NoResponse { error })
            | Self::Redis { end: redis::End::NoResponse { error }, .. } => {
                Some(error.map_or(Broken::NoResponse, Broken::from))
            }
            Self::Http(http1::End::Truncated { .. })
            | Self::Redis { end: redis::End::Truncated { .. }, .. }
            | Self::Postgres(postgres::End::Closed { answered: true, error: None })
            | Self::Kafka(kafka::End::Closed { answered: true, error: None }) => {
                Some(Broken::Truncated)
            }
            Self::Postgres(postgres::End::Closed { answered: false, error: None })
            | Self::Amqp(amqp::End::Broken { error: None })
            | Self::Kafka(kafka::End::Closed { answered: false, error: None }) => {
                Some(Broken::NoResponse)
            }
            Self::Http(
                http1::End::Complete { .. }
                | http1::End::Inferred { .. }
                | http1::End::Upgraded
                | http1::End::Closed { .. },
            )
            | Self::Redis {
                end: redis::End::Complete { .. } | redis::End::Inferred { .. } | redis::End::NoReply,
                ..
            }
            | Self::Postgres(
                postgres::End::Complete(_)
                | postgres::End::Inferred(_)
                | postgres::End::NotExecuted,
            )
            | Self::Amqp(
                amqp::End::NoReply
                | amqp::End::Confirmed { .. }
                | amqp::End::Refused
                | amqp::End::Settled { .. }
                | amqp::End::Replied
                | amqp::End::Got(_)
                | amqp::End::Empty
                | amqp::End::Released
                | amqp::End::Closed(_),
            )
            | Self::Kafka(
                kafka::End::Produced { .. }
                | kafka::End::Sent
                | kafka::End::Fetched(_)
                | kafka::End::Idle
                | kafka::End::Committed { .. }
                | kafka::End::Answered,
            )
            | Self::Job(_) => None,
        }
    }

    /// The response's end was not seen but inferred.
    pub fn is_inferred(&self) -> bool {
        matches!(
            self,
            Self::Http(http1::End::Inferred { .. })
                | Self::Redis { end: redis::End::Inferred { .. }, .. }
                | Self::Postgres(postgres::End::Inferred(_))
        )
    }

    /// The response's last byte was seen.
    pub fn is_whole(&self) -> bool {
        self.broken().is_none() && !self.is_inferred()
    }

    /// What follows on the connection is something else.
    pub fn is_upgrade(&self) -> bool {
        matches!(self, Self::Http(http1::End::Upgraded))
    }
}
