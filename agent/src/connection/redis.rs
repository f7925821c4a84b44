//! Redis on a connection.

use std::sync::Arc;

use wirespan_protocols::redis::{Command, Connection, End, Event, Fact, PushKind, Reply};

use super::message::{Content, Message, Outcome, Silence, Step};
use super::parser::{self, Adapter, Out};
use super::{Mark, Options};
use crate::queue::{self, Notice, Recognizer, Told, Work};

/// A command, and what it means to queues.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisCall {
    /// It.
    pub command: Command<'static>,
    /// The work that it hands over.
    pub submits: Option<Box<Work>>,
    /// A queue's library's own bookkeeping, or a job's beginning or end: if it went well, jobs' spans tell of it.
    pub internal: bool,
}

impl RedisCall {
    /// What client libraries do by themselves, and what waits for work.
    pub(super) fn is_incidental(&self) -> bool {
        self.internal || is_incidental(&self.command)
    }

    /// A subscription, or a wait for whatever another puts somewhere.
    pub(super) fn waits_for_work(&self) -> bool {
        let Command { name, blocking, poll, .. } = &self.command;
        (*blocking && *poll) || matches!(&**name, "PSUBSCRIBE" | "SSUBSCRIBE" | "SUBSCRIBE")
    }

    /// Whether a span comes of it.
    pub(super) fn silence(&self, end: &End<'_>) -> Silence {
        let internal = match end {
            // The library sends the script itself then.
            End::Complete { reply: Reply::Error { code, .. }, .. } => {
                code == "NOSCRIPT" && (self.internal || self.submits.is_some())
            }
            // Who subscribes need not wait for the word, and who waits for work is done when it leaves.
            End::Complete { .. } | End::NoReply | End::NoResponse { error: None } => {
                self.internal && self.submits.is_none()
            }
            _ => false,
        };
        if internal { Silence::Always } else { silence(&self.command, end) }
    }
}

/// The parser, which tells what queues are known by.
pub(super) fn connection(from_start: bool, options: &Options) -> Connection<Mark> {
    Connection::new(from_start).asking(queue::asked(&options.queues))
}

pub(super) struct Redis {
    /// The selected database, where it is known.
    database: Option<u32>,
    /// The last `SELECT` or `RESET` that was not answered: what comes behind it is in its database, or not.
    selecting: Option<u64>,
    queues: Recognizer,
    /// Commands are handed on with their first key.
    keeps_keys: bool,
    /// What is told of queues behind a call's beginning. Empty between events: kept for its room.
    later: Vec<Told>,
}

impl Redis {
    pub(super) fn new(from_start: bool, options: &Options) -> Self {
        Self {
            database: from_start.then_some(0),
            selecting: None,
            queues: Recognizer::new(Arc::clone(&options.queues), Arc::clone(&options.pointers)),
            keeps_keys: options.redis_keys,
            later: Vec::new(),
        }
    }
}

/// Hands on what is known of queues, in this database.
fn relay<'a>(database: Option<u32>, out: &'a mut Out<'_>) -> impl FnMut(Told) + 'a {
    move |told| {
        out(match told {
            Told::Notice(exchange, mark, notice) => {
                Message::Queue { exchange, mark, database, notice }
            }
            Told::Over(exchange, last, end) => {
                let outcome = Outcome::Redis { end, database };
                Message::Call { exchange, step: Step::Over { last, outcome } }
            }
            Told::Abandoned(exchange) => Message::Call { exchange, step: Step::Abandoned },
        });
    }
}

/// How libraries open a session, end it, see that it lives, and find out where what is.
fn is_setting_up(name: &str) -> bool {
    matches!(
        name,
        "ASKING"
            | "AUTH"
            | "CLIENT SETNAME"
            | "CLUSTER INFO"
            | "CLUSTER NODES"
            | "CLUSTER SHARDS"
            | "CLUSTER SLOTS"
            | "COMMAND"
            | "HELLO"
            | "PING"
            | "QUIT"
            | "READONLY"
            | "READWRITE"
            | "SENTINEL GET-MASTER-ADDR-BY-NAME"
            | "SENTINEL MASTER"
            | "SENTINEL MASTERS"
            | "SENTINEL REPLICAS"
            | "SENTINEL SENTINELS"
            | "SENTINEL SLAVES"
    )
}

impl Adapter for Redis {
    type Connection = Connection<Mark>;
    const NAME: &'static str = "Redis";
    /// Longer than a command takes that doesn't block: pairing begins anew where two such silences enclose as
    /// many replies as commands.
    const QUIET_NS: u64 = 1_000_000_000;
    /// Longer than most commands take, with the way there and back.
    const LEAST_PAUSE_NS: Option<u64> = Some(1_000_000);

    fn ask(&mut self, _: &mut Connection<Mark>, options: &Options) {
        self.keeps_keys = options.redis_keys;
        self.queues.ask(Arc::clone(&options.pointers));
    }

    fn tell(&mut self, event: Event<'_, Mark>, out: &mut Out<'_>) {
        let Self { database, selecting, queues, keeps_keys, later } = self;
        if let Event::End { exchange, .. } | Event::Abandoned { exchange, .. } = &event {
            selecting.take_if(|select| *select == *exchange);
        }
        let (exchange, step) = match event {
            Event::Request { exchange, offset, first, request, values } => {
                let hold = &mut |told| later.push(told);
                let part = queues.asked(exchange, &first, &request, &values, hold);
                let internal = part.is_internal();
                if matches!(&*request.name, "SELECT" | "RESET") {
                    *selecting = Some(exchange);
                }
                // The text has the key.
                let key = if *keeps_keys { request.key } else { None };
                let command = Command { key, ..request }.into_owned();
                let submits = part.submits;
                let messages = submits.as_ref().map(|work| work.messages.clone());
                let call = RedisCall { command, submits, internal };
                let content = Content::Redis(Box::new(call));
                out(Message::Call { exchange, step: Step::Begun { offset, first, content } });
                if let Some(messages) = messages.filter(|messages| !messages.is_empty()) {
                    let notice = Notice::Submitted { id: None, messages };
                    later.push(Told::Notice(exchange, first, notice));
                }
                let database = database.filter(|_| selecting.is_none());
                return later.drain(..).for_each(relay(database, out));
            }
            Event::RequestEnd { exchange, last, .. } => {
                (exchange, Step::RequestEnd { last, content_bytes: None, fields: Vec::new() })
            }
            Event::Response { exchange, first } => (exchange, Step::Response { first, head: None }),
            Event::End { exchange, last, end, values } => {
                let relay = &mut relay(*database, out);
                if queues.answered(exchange, &last, &end, &values, relay) {
                    return;
                }
                let outcome = Outcome::Redis { end: end.into_owned(), database: *database };
                (exchange, Step::Over { last, outcome })
            }
            Event::Abandoned { exchange, .. } => {
                queues.abandoned(exchange, &mut relay(*database, out));
                (exchange, Step::Abandoned)
            }
            Event::Session(Fact::Database(selected)) => {
                *database = selected;
                return;
            }
            Event::Skipped { direction, reason, .. } => {
                return parser::skipped(direction, reason, out);
            }
            Event::Push { kind: PushKind::Message, last, values, .. } => {
                return queues.pushed(&last, &values, &mut relay(*database, out));
            }
            Event::Session(Fact::Protocol(_)) | Event::Push { .. } => return,
        };
        out(Message::Call { exchange, step });
    }
}

/// What client libraries do by themselves, and what waits for work.
fn is_incidental(command: &Command<'_>) -> bool {
    let mut words = command.name.split(' ');
    command.blocking
        || command.poll
        || matches!(
            words.next(),
            Some(
                "ASKING"
                    | "AUTH"
                    | "CLIENT"
                    | "CLUSTER"
                    | "COMMAND"
                    | "CONFIG"
                    | "ECHO"
                    | "HELLO"
                    | "INFO"
                    | "PING"
                    | "PSUBSCRIBE"
                    | "PUNSUBSCRIBE"
                    | "QUIT"
                    | "READONLY"
                    | "READWRITE"
                    | "RESET"
                    | "ROLE"
                    | "SELECT"
                    | "SENTINEL"
                    | "SSUBSCRIBE"
                    | "SUBSCRIBE"
                    | "SUNSUBSCRIBE"
                    | "UNSUBSCRIBE"
            )
        )
}

/// A connection found alive, and a library's setting up of a session that went well, tell nothing; an empty answer
/// to who asks for work is an idle worker's, or a request's.
fn silence(command: &Command<'_>, end: &End<'_>) -> Silence {
    let reply = match end {
        End::Complete { reply, .. } | End::Inferred { reply: Some(reply), .. } => reply,
        // Who waits for work is done when it leaves.
        End::NoResponse { error: None } if command.blocking && command.poll => {
            return Silence::Always;
        }
        _ => return Silence::Never,
    };
    match (&*command.name, reply) {
        // What an older server doesn't know, libraries ask for all the same, and go on without.
        ("CLIENT SETINFO" | "CLIENT MAINT_NOTIFICATIONS", _) => Silence::Always,
        (_, Reply::Error { .. } | Reply::Queued) => Silence::Never,
        (_, Reply::Nil | Reply::Array { items: 0 } | Reply::Map { entries: 0 }) if command.poll => {
            Silence::UnlessAskedFor
        }
        (name, _) if is_setting_up(name) => Silence::Always,
        _ => Silence::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &'static str, poll: bool) -> Command<'static> {
        Command {
            name: name.into(),
            text: name.into(),
            key: None,
            procedure: None,
            arguments: 0,
            database: None,
            protocol: None,
            blocking: false,
            poll,
            queued: false,
            inline: false,
            cut: false,
        }
    }

    fn replied(reply: Reply<'static>) -> End<'static> {
        End::Complete { reply, bytes: 5 }
    }

    #[test]
    fn only_what_tells_nothing_is_silent() {
        use Silence::{Always, Never, UnlessAskedFor};
        let error = || Reply::Error { code: "ERR".into(), message: "".into() };
        for (name, poll, reply, expected) in [
            ("BRPOP", true, Reply::Nil, UnlessAskedFor),
            ("BRPOP", true, Reply::Array { items: 2 }, Never),
            ("ZPOPMAX", true, Reply::Array { items: 0 }, UnlessAskedFor),
            ("BRPOP", true, error(), Never),
            ("GET", false, Reply::Nil, Never),
            ("PING", false, Reply::Simple, Always),
            ("PING", false, error(), Never),
            ("AUTH", false, Reply::Ok, Always),
            ("AUTH", false, error(), Never),
            ("CLIENT SETINFO", false, error(), Always),
            ("CLIENT LIST", false, Reply::Bulk { bytes: 9 }, Never),
            ("CLUSTER SLOTS", false, Reply::Array { items: 3 }, Always),
            ("CLUSTER SETSLOT", false, Reply::Ok, Never),
            ("ASKING", false, Reply::Ok, Always),
            ("SENTINEL MASTERS", false, Reply::Array { items: 1 }, Always),
            ("READONLY", false, error(), Never),
        ] {
            let what = format!("{name} {reply:?}");
            assert_eq!(silence(&command(name, poll), &replied(reply)), expected, "{what}");
        }
        let broken = End::NoResponse { error: None };
        assert_eq!(silence(&command("BRPOP", true), &broken), Never);
        assert_eq!(silence(&command("PING", false), &broken), Never);
    }

    #[test]
    fn what_libraries_send_by_themselves_proves_nothing() {
        for name in
            ["HELLO", "CLIENT SETINFO", "SELECT", "PING", "SUBSCRIBE", "CLUSTER SLOTS", "ASKING"]
        {
            assert!(is_incidental(&command(name, false)), "{name}");
        }
        for name in ["GET", "LPUSH", "EVALSHA", "MULTI", "?"] {
            assert!(!is_incidental(&command(name, false)), "{name}");
        }
        assert!(is_incidental(&command("RPOP", true)));
        assert!(is_incidental(&Command { blocking: true, ..command("XREAD", false) }));
    }
}
