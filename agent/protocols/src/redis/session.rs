//! What commands do to their connection: transactions, subscriptions, the database, whether they are
//! answered at all.
//!
//! Follows the commands in the order in which they were sent, and the replies in theirs; pairing itself
//! is `connection`'s.

use super::reply::Reply;

/// What a command does to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: one reply.
    Plain,
    /// That was not captured: anything.
    Unclear,
    Ping,
    Multi,
    Exec,
    Discard,
    /// Answered at once even within a transaction.
    Watch,
    Quit,
    Reset,
    Select(Option<u32>),
    /// `asked`: it names a version, or one was not captured.
    Hello {
        asked: bool,
        protocol: Option<u8>,
    },
    /// One confirmation for each channel.
    Subscribe {
        of: Channels,
        count: u32,
    },
    /// As `Subscribe`; without channels one for each subscription, or one that there is none.
    Unsubscribe {
        of: Channels,
        count: u32,
    },
    /// What follows its reply answers nothing.
    Monitor,
    /// The server ends, and says nothing if all goes well.
    Shutdown,
    /// What follows is replication.
    Replicate,
    /// `CLIENT REPLY`, its mode not seen yet.
    ReplyMode,
    ReplyOn,
    ReplyOff,
    ReplySkip,
    /// `CLIENT SETINFO`; `turns`: of a library that never sends before it has read what it waits for.
    Library {
        named: bool,
        turns: bool,
    },
}

/// The kinds of channels, which are confirmed and counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    Plain,
    Pattern,
    Shard,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        let (plain, pattern, shard) = (Channels::Plain, Channels::Pattern, Channels::Shard);
        match name {
            // Their subcommand decides.
            "CLIENT" => Self::Plain,
            "CLIENT REPLY" => Self::ReplyMode,
            "CLIENT SETINFO" => Self::Library { named: false, turns: false },
            "PING" => Self::Ping,
            "MULTI" => Self::Multi,
            "EXEC" => Self::Exec,
            "DISCARD" => Self::Discard,
            "WATCH" => Self::Watch,
            "QUIT" => Self::Quit,
            "RESET" => Self::Reset,
            "SELECT" => Self::Select(None),
            "HELLO" => Self::Hello { asked: false, protocol: None },
            "SUBSCRIBE" => Self::Subscribe { of: plain, count: 0 },
            "PSUBSCRIBE" => Self::Subscribe { of: pattern, count: 0 },
            "SSUBSCRIBE" => Self::Subscribe { of: shard, count: 0 },
            "UNSUBSCRIBE" => Self::Unsubscribe { of: plain, count: 0 },
            "PUNSUBSCRIBE" => Self::Unsubscribe { of: pattern, count: 0 },
            "SUNSUBSCRIBE" => Self::Unsubscribe { of: shard, count: 0 },
            "MONITOR" => Self::Monitor,
            "SHUTDOWN" => Self::Shutdown,
            "SYNC" | "PSYNC" => Self::Replicate,
            _ => Self::Plain,
        }
    }

    /// Whether arguments that were not captured leave open what the command does.
    pub(super) fn depends_on_arguments(self) -> bool {
        matches!(self, Self::ReplyMode | Self::Unclear)
    }

    pub(super) fn with_arguments(self, count: u32) -> Self {
        match self {
            Self::Subscribe { of, .. } => Self::Subscribe { of, count },
            Self::Unsubscribe { of, .. } => Self::Unsubscribe { of, count },
            // Refused for want of an argument.
            Self::ReplyMode => Self::Plain,
            kind => kind,
        }
    }

    /// Whether it is answered at once, not queued, within a transaction.
    fn is_never_queued(self) -> bool {
        matches!(
            self,
            Self::Multi | Self::Exec | Self::Discard | Self::Watch | Self::Quit | Self::Reset
        )
    }

    /// Whether nobody can tell what its being queued does to the connection.
    fn is_dangerous_queued(self) -> bool {
        !matches!(
            self,
            Self::Plain
                | Self::Ping
                | Self::Select(_)
                | Self::Hello { .. }
                | Self::Library { .. }
                // It is refused.
                | Self::Shutdown
        )
    }
}

/// How a command will be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    One,
    /// So many confirmations, or one error.
    Confirmations {
        subscribe: bool,
        of: Channels,
        left: u32,
    },
    /// A confirmation for each subscription that there is by then, or one that there is none; or one error.
    AllConfirmations {
        of: Channels,
    },
    /// None, or none that is waited for.
    None,
    /// The connection is no longer one of commands and replies.
    Replication,
    /// Nobody can tell.
    Unknown,
}

impl Answers {
    /// Whether words come that subscriptions begin or end.
    pub(super) fn are_confirmations(self) -> bool {
        matches!(self, Self::Confirmations { .. } | Self::AllConfirmations { .. })
    }
}

/// A command's place in the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// What it does, here.
    pub(super) kind: Kind,
    pub(super) answers: Answers,
    pub(super) queued: bool,
    /// The first to be answered after some that weren't to be: were they answered after all (with an
    /// error), then its reply is not its own.
    pub(super) doubtful: bool,
}

/// How a command was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Well,
    Nil,
    Queued,
    Failed,
}

impl Answered {
    pub(super) fn by(reply: &Reply<'_>) -> Self {
        match reply {
            Reply::Error { .. } => Self::Failed,
            Reply::Nil => Self::Nil,
            Reply::Queued => Self::Queued,
            _ => Self::Well,
        }
    }
}

/// The session, as far as it is known.
#[derive(Debug)]
pub(super) struct Session {
    in_transaction: bool,
    /// `SELECT`s that are not answered.
    selecting: u32,
    /// The database before a `SELECT` was queued, which is what counts if the transaction is discarded.
    before_queued: Option<Option<u32>>,
    /// A command whose reply's values are asked for does.
    asked_at_exec: bool,
    reply: Replies,
    /// Commands passed that have no reply, and none with one since.
    pub(super) doubt: bool,
    /// Subscriptions to channels, patterns and shard channels, where it is known how many there are.
    subscriptions: [Option<u32>; 3],
    /// How many the last confirmations told, of channels and patterns, and of shard channels, if they were arrays.
    in_arrays: [i64; 2],
    pub(super) database: Option<u32>,
    pub(super) protocol: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    On,
    Off,
    SkipNext,
}

impl Session {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            in_transaction: false,
            selecting: 0,
            before_queued: None,
            asked_at_exec: false,
            reply: Replies::On,
            doubt: false,
            subscriptions: [from_start.then_some(0); 3],
            in_arrays: [0; 2],
            database: from_start.then_some(0),
            protocol: from_start.then_some(2),
        }
    }

    /// Whether RESP2's arrays may be messages. (RESP3 has a type of its own for them.)
    pub(super) fn is_subscriber(&self) -> bool {
        self.in_arrays.iter().any(|count| *count > 0)
    }

    /// Takes a command, in the order of sending.
    pub(super) fn sent(&mut self, kind: Kind) -> Sent {
        let queued = self.in_transaction && !kind.is_never_queued();
        let nested = self.in_transaction && kind == Kind::Multi;
        let mut answers = Self::answers(kind, queued);
        match kind {
            Kind::Multi => self.in_transaction = true,
            Kind::Exec | Kind::Discard | Kind::Reset => self.in_transaction = false,
            _ => {}
        }
        if self.reply != Replies::On && kind != Kind::ReplyOn && kind != Kind::Reset {
            if !matches!(answers, Answers::One | Answers::None) {
                answers = Answers::Unknown;
            } else {
                answers = Answers::None;
            }
        } else if kind == Kind::Reset && self.reply == Replies::SkipNext {
            // Its effects come without a word.
            answers = Answers::Unknown;
        }
        match (kind, self.reply) {
            (Kind::ReplyOn | Kind::Reset, _) => self.reply = Replies::On,
            (Kind::ReplyOff, _) => self.reply = Replies::Off,
            (Kind::ReplySkip, Replies::On | Replies::SkipNext) => self.reply = Replies::SkipNext,
            (_, Replies::SkipNext) => self.reply = Replies::On,
            _ => {}
        }
        match (kind, answers) {
            (Kind::Select(_), Answers::One) => self.selecting = self.selecting.saturating_add(1),
            // Nobody hears whether it went well; or which it is that another is sent to, unheard as well.
            (Kind::Select(_), _) => self.database = None,
            (_, Answers::None) if self.selecting > 0 => self.database = None,
            _ => {}
        }
        let doubtful = match answers {
            Answers::None => {
                self.doubt = true;
                false
            }
            _ => std::mem::take(&mut self.doubt),
        };
        // Refused, which leaves the transaction what it is.
        let kind = if nested { Kind::Plain } else { kind };
        Sent { kind, answers, queued, doubtful }
    }

    /// Takes a command, in the order of sending, that is queued and of which the reply's values are asked for, or
    /// not: whether the reply at hand has such values.
    pub(super) fn asked_at_exec(&mut self, kind: Kind, asked: bool) -> bool {
        match kind {
            Kind::Exec => std::mem::take(&mut self.asked_at_exec),
            Kind::Multi | Kind::Discard | Kind::Reset => {
                self.asked_at_exec = false;
                false
            }
            _ => {
                self.asked_at_exec |= asked;
                false
            }
        }
    }

    fn answers(kind: Kind, queued: bool) -> Answers {
        match kind {
            Kind::Unclear | Kind::ReplyMode => Answers::Unknown,
            _ if queued && kind.is_dangerous_queued() => Answers::Unknown,
            Kind::Replicate => Answers::Replication,
            Kind::ReplyOff | Kind::ReplySkip => Answers::None,
            Kind::Subscribe { of, count } if count > 0 => {
                Answers::Confirmations { subscribe: true, of, left: count }
            }
            Kind::Unsubscribe { of, count } if count > 0 => {
                Answers::Confirmations { subscribe: false, of, left: count }
            }
            Kind::Unsubscribe { of, .. } => Answers::AllConfirmations { of },
            _ => Answers::One,
        }
    }

    /// How many confirmations come, where all subscriptions end, the first of them leaving `count`; `None`: nobody can
    /// tell.
    pub(super) fn confirmations(&self, of: Channels, count: i64) -> Option<u32> {
        let known = self.subscriptions.get(of as usize).copied().flatten();
        // Where none is left, there was one, or none.
        known.map(|known| known.max(1)).or((count == 0).then_some(1))
    }

    /// A confirmation says how many subscriptions there are now, to shard channels or to the others together; `resp2`:
    /// in an array.
    pub(super) fn confirmed(&mut self, subscribe: bool, of: Channels, count: i64, resp2: bool) {
        let told = if resp2 { count } else { 0 };
        let [plain, pattern, shard] = &mut self.subscriptions;
        let [others_told, shard_told] = &mut self.in_arrays;
        let (own, other) = match of {
            Channels::Plain => (plain, pattern),
            Channels::Pattern => (pattern, plain),
            Channels::Shard => {
                *shard_told = told;
                *shard = u32::try_from(count).ok();
                return;
            }
        };
        *others_told = told;
        let before = own.zip(*other).map(|(own, other)| i64::from(own) + i64::from(other));
        let change = before.and_then(|before| count.checked_sub(before));
        (*own, *other) = match (change, *own) {
            _ if count == 0 => (Some(0), Some(0)),
            // Of one that there was already, or that there wasn't.
            (Some(0), _) => return,
            (Some(1), Some(known)) if subscribe => (known.checked_add(1), *other),
            (Some(-1), Some(known)) if !subscribe && known > 0 => (Some(known - 1), *other),
            _ if subscribe && count == 1 => (Some(1), Some(0)),
            _ => (None, None),
        };
    }

    /// A command was answered.
    pub(super) fn answered(&mut self, kind: Kind, how: Answered) {
        if let Kind::Select(_) = kind {
            self.selecting = self.selecting.saturating_sub(1);
        }
        match (kind, how) {
            (Kind::Select(database), Answered::Well) => self.database = database,
            (Kind::Select(_), Answered::Queued) => {
                self.before_queued.get_or_insert(self.database);
                self.database = None;
            }
            (Kind::Hello { asked: true, protocol }, Answered::Well) => self.protocol = protocol,
            // Whether and when it takes effect is in the reply of `EXEC`.
            (Kind::Hello { asked: true, .. }, Answered::Queued) => self.protocol = None,
            // Which of what was queued went well is in its reply, element by element.
            (Kind::Exec, Answered::Well) => self.before_queued = None,
            (Kind::Exec, Answered::Nil | Answered::Failed) | (Kind::Discard, Answered::Well) => {
                if let Some(before) = self.before_queued.take() {
                    self.database = before;
                }
            }
            (Kind::Multi, Answered::Failed) => self.in_transaction = false,
            (Kind::Reset, Answered::Well) => {
                self.before_queued = None;
                (self.subscriptions, self.in_arrays) = ([Some(0); 3], [0; 2]);
                (self.database, self.protocol) = (Some(0), Some(2));
            }
            _ => {}
        }
    }

    /// No more is answered: what was asked may have been done all the same.
    pub(super) fn unanswered(&mut self) {
        if self.selecting > 0 {
            self.database = None;
        }
    }
}
