//! The response direction of a Redis connection: each reply answers the first open command, unless it is
//! none.

use std::borrow::Cow;

use super::{
    connection::{Confirmed, Connection, Entry, LostReply, Out, Parked, Tracking},
    event::{End, Event, PushKind},
    push,
    reply::Reply,
    resp::{Asking, Elements, Parser, Progress},
    session::{Answered, Answers, Channels, Kind},
    table::Shape,
    values::{Asked, Values},
};
use crate::exchange::{Abandon, Direction, EndError, Skip};
use crate::follow::Follow;
use crate::stream::{Flow, Piece};

/// What an array or push is, by its first element.
enum Sort<'a> {
    Message {
        channel: Option<Cow<'a, str>>,
    },
    Confirmation {
        subscribe: bool,
        of: Channels,
    },
    Pong,
    Other,
    /// That was not captured.
    Unclear,
}

impl<M: Clone + 'static> Connection<M> {
    pub(super) fn advance_responses(
        &mut self,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        while !piece.is_empty() {
            match self.tracking {
                _ if self.responses.ended.is_some() => {
                    self.skip_responses(piece, Skip::Resync, out);
                }
                Tracking::Certain | Tracking::Trial { .. } | Tracking::Draining => {
                    if self.reply.is_none() && self.begin_reply(piece, out) == Flow::Hold {
                        return Flow::Hold;
                    }
                    self.continue_reply(piece, out);
                }
                Tracking::Lost => {
                    self.heard();
                    if piece.start && push::begins(piece.bytes) {
                        // Of what was published, or changed elsewhere: no more of the reply.
                        self.end_inferred(out);
                    }
                    match &mut self.lost_reply {
                        Some(lost) => {
                            lost.last = piece.mark.clone();
                            let bytes = piece.drain();
                            lost.bytes = lost.bytes.saturating_add(bytes);
                            self.responses.count_message(bytes);
                        }
                        None => self.skip_responses(piece, Skip::UnpairedResponse, out),
                    }
                }
                Tracking::Opaque => self.skip_responses(piece, Skip::AfterUpgrade, out),
            }
        }
        Flow::Taken
    }

    /// What was sent before the server was heard is of no more interest; held bytes were heard earlier.
    fn heard(&mut self) {
        if self.answered {
            self.parked = Parked::None;
        }
    }

    fn skip_responses(&mut self, piece: &mut Piece<'_, M>, reason: Skip, out: &mut Out<'_, M>) {
        self.skip(Direction::Responses, piece.drain(), reason, out);
    }

    /// Begins a reply, if something was asked or needn't be. Changes state when neither is so.
    fn begin_reply(&mut self, piece: &Piece<'_, M>, out: &mut Out<'_, M>) -> Flow {
        let first = piece.bytes.first().copied();
        let in_array = first == Some(b'*') && self.session.is_subscriber();
        let may_be_unasked = (first == Some(b'>') || in_array) && !push::confirms(piece.bytes);
        if self.open.is_empty() && !may_be_unasked {
            if self.session.doubt {
                // A command that asked not to be answered was, so nothing is as it seems.
                self.desync(Abandon::Unpaired, out);
            } else if self.tracking == Tracking::Certain && !self.requests.has_ended() {
                return Flow::Hold;
            } else {
                self.desync(Abandon::Unpaired, out);
            }
            return Flow::Taken;
        }
        if first.is_none() {
            // Whole replies may have been in what was lost.
            self.lose_responses(out);
            return Flow::Taken;
        }
        let of_front = self
            .open
            .front()
            .is_some_and(|entry| entry.answers.are_confirmations() || entry.kind == Kind::Ping);
        let watched = in_array || of_front;
        let messages = self.asked.as_deref().is_some_and(Asked::asks_for_messages);
        let reply = self.open.front().is_some_and(|entry| entry.asked) || (in_array && messages);
        let asking = Asking { reply, push: messages };
        let mut parser = match self.spare_reply.take() {
            Some(mut parser) => {
                parser.renew(piece.mark.clone(), watched, asking);
                parser
            }
            None => Box::new(Parser::new(piece.mark.clone(), watched, asking)),
        };
        if self.open.front().is_some_and(|entry| entry.kind == Kind::Exec) {
            parser.of_transaction();
        }
        self.reply = Some(parser);
        Flow::Taken
    }

    fn continue_reply(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let Some(mut parser) = self.reply.take() else { return };
        match parser.feed(piece) {
            Progress::More => self.reply = Some(parser),
            Progress::Done => {
                self.reply_over(&parser, piece.mark, out);
                self.spare_reply = Some(parser);
            }
            Progress::Lost => {
                self.reply = Some(parser);
                self.lose_responses(out);
            }
            Progress::Broken => {
                self.skip(Direction::Responses, parser.bytes, Skip::Broken, out);
                self.desync(Abandon::Broken, out);
            }
        }
    }

    fn reply_over(&mut self, parser: &Parser<M>, last: &M, out: &mut Out<'_, M>) {
        let Some(reply) = parser.reply() else { return self.misfit(parser, out) };
        if !parser.push && !parser.is_watched_array() {
            return self.pair(parser, reply, false, last, out);
        }
        let confirming = self.open.front().is_some_and(|entry| entry.answers.are_confirmations());
        let listening = confirming || self.session.is_subscriber();
        match sort(&parser.elements) {
            Sort::Message { channel } if parser.push || listening => {
                self.pushed(parser, PushKind::Message, channel, last, out);
            }
            Sort::Confirmation { subscribe, of } if parser.push || listening => {
                self.confirmation(parser, subscribe, of, last, out);
            }
            Sort::Unclear if listening => self.misfit(parser, out),
            _ if parser.push => self.pushed(parser, PushKind::Other, None, last, out),
            Sort::Pong => self.pair(parser, reply, true, last, out),
            // To a subscriber RESP2 answers nothing else in an array.
            _ if self.session.is_subscriber() => self.misfit(parser, out),
            _ => self.pair(parser, reply, false, last, out),
        }
    }

    /// This is not the reply that had to come.
    fn misfit(&mut self, parser: &Parser<M>, out: &mut Out<'_, M>) {
        self.skip(Direction::Responses, parser.bytes, Skip::UnpairedResponse, out);
        self.desync(Abandon::Unpaired, out);
    }

    fn pushed(
        &mut self,
        parser: &Parser<M>,
        kind: PushKind,
        channel: Option<Cow<'_, str>>,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        self.responses.count_message(parser.bytes);
        let (first, last, bytes) = (parser.first.clone(), last.clone(), parser.bytes);
        let messages = kind == PushKind::Message
            && self.asked.as_deref().is_some_and(Asked::asks_for_messages);
        let values = if messages { parser.values() } else { Values::default() };
        out(Event::Push { first, last, kind, channel, bytes, values });
    }

    fn confirmation(
        &mut self,
        parser: &Parser<M>,
        subscribe: bool,
        of: Channels,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let Some(count) = parser.elements.count else { return self.misfit(parser, out) };
        let all = Answers::AllConfirmations { of };
        if let Some(entry) = self.open.front_mut().filter(|it| it.answers == all && !subscribe) {
            let Some(left) = self.session.confirmations(of, count) else {
                return self.misfit(parser, out);
            };
            entry.answers = Answers::Confirmations { subscribe, of, left };
        }
        self.session.confirmed(subscribe, of, count, !parser.push);
        let Some(entry) = self.open.front_mut() else {
            return self.pushed(parser, PushKind::Confirmation, None, last, out);
        };
        let told = entry.ordinal.is_some();
        let left = match &mut entry.answers {
            Answers::Confirmations { subscribe: wanted, of: channels, left }
                if *wanted == subscribe && *channels == of =>
            {
                *left = left.saturating_sub(1);
                *left
            }
            _ => return self.pushed(parser, PushKind::Confirmation, None, last, out),
        };
        let fresh = || Confirmed { first: parser.first.clone(), bytes: 0, count: 0 };
        let confirmed = self.confirmed.get_or_insert_with(fresh);
        confirmed.bytes = confirmed.bytes.saturating_add(parser.bytes);
        confirmed.count += 1;
        let (first, bytes, items) = (confirmed.first.clone(), confirmed.bytes, confirmed.count);
        if told {
            self.responses.count_message(parser.bytes);
        } else {
            self.skip(Direction::Responses, parser.bytes, Skip::UnpairedResponse, out);
        }
        if left == 0
            && let Some(entry) = self.pop_open()
        {
            let told = (Reply::Array { items }, Values::default());
            self.finish(&entry, first, last, told, bytes, out);
        }
    }

    /// A reply to the first open command.
    fn pair(
        &mut self,
        parser: &Parser<M>,
        reply: Reply<'_>,
        pong: bool,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let Some(entry) = self.open.front() else { return self.misfit(parser, out) };
        let failed = matches!(reply, Reply::Error { .. });
        if entry.doubtful && failed {
            // It may be a command's that asked not to be answered.
            self.skip(Direction::Responses, parser.bytes, Skip::UnpairedResponse, out);
            return self.desync(Abandon::Unpaired, out);
        }
        if !fits(entry, &reply, pong) {
            return self.misfit(parser, out);
        }
        let Some(entry) = self.pop_open() else { return };
        if entry.ordinal.is_some() {
            self.responses.count_message(parser.bytes);
        } else {
            self.skip(Direction::Responses, parser.bytes, Skip::UnpairedResponse, out);
        }
        self.session.answered(entry.kind, Answered::by(&reply));
        let monitors = entry.kind == Kind::Monitor && reply == Reply::Ok;
        let values = if entry.asked { parser.values() } else { Values::default() };
        self.finish(&entry, parser.first.clone(), last, (reply, values), parser.bytes, out);
        if monitors {
            self.give_up(Tracking::Opaque, Abandon::Upgraded, Skip::AfterUpgrade, out);
        }
    }

    fn finish(
        &mut self,
        entry: &Entry,
        first: M,
        last: &M,
        (reply, values): (Reply<'_>, Values<'_>),
        bytes: u64,
        out: &mut Out<'_, M>,
    ) {
        if let Some(exchange) = entry.ordinal {
            out(Event::Response { exchange, first });
            let (last, end) = (last.clone(), End::Complete { reply, bytes });
            out(Event::End { exchange, last, end, values });
        }
        if let Tracking::Trial { paired, .. } = &mut self.tracking {
            *paired = true;
        }
        if self.tracking == Tracking::Draining && self.open.is_empty() {
            self.desync(Abandon::Gap, out);
            return self.heard();
        }
        self.tell_facts(out);
    }

    /// Replies may have been lost.
    pub(super) fn lose_responses(&mut self, out: &mut Out<'_, M>) {
        match self.tracking {
            Tracking::Certain | Tracking::Trial { .. } | Tracking::Draining => {}
            Tracking::Lost | Tracking::Opaque => return,
        }
        let mut lost_reply = None;
        if let Some(parser) = self.reply.take() {
            let ambiguous = parser.push || parser.is_watched_array();
            let reply = parser.reply().map(Reply::into_owned);
            let fits = self.open.front().is_some_and(|entry| {
                !entry.answers.are_confirmations()
                    && !entry.doubtful
                    && reply.as_ref().is_none_or(|reply| fits(entry, reply, false))
            });
            let exchange = self.open.front().and_then(|entry| entry.ordinal);
            if let Some(ordinal) = exchange.filter(|_| fits && !ambiguous) {
                self.pop_open();
                self.responses.count_message(parser.bytes);
                let Parser { first, last, bytes, .. } = *parser;
                lost_reply = Some(LostReply { ordinal, first, last, reply, bytes });
            } else {
                self.skip(Direction::Responses, parser.bytes, Skip::Resync, out);
            }
        }
        let alone = self.open.is_empty();
        self.desync(Abandon::Gap, out);
        self.lost_reply = lost_reply.map(Box::new);
        if !alone {
            self.end_inferred(out);
        }
    }

    /// The stream of replies is over.
    pub(super) fn end_responses(
        &mut self,
        error: Option<EndError>,
        mark: &M,
        out: &mut Out<'_, M>,
    ) {
        let cut = |bytes| match error {
            Some(error) => End::Reset { bytes, error },
            None => End::Truncated { bytes },
        };
        match self.lost_reply.take() {
            Some(lost) if error.is_some() => {
                let LostReply { ordinal: exchange, first, bytes, .. } = *lost;
                out(Event::Response { exchange, first });
                let values = Values::default();
                out(Event::End { exchange, last: mark.clone(), end: cut(bytes), values });
            }
            lost => {
                self.lost_reply = lost;
                self.end_inferred(out);
            }
        }
        self.session.unanswered();
        self.tell_facts(out);
        let mut first = true;
        if let Some(parser) = self.reply.take() {
            first = false;
            let told = self.open.front().and_then(|entry| entry.ordinal);
            if let Some(exchange) = told.filter(|_| !parser.push && !parser.is_watched_array()) {
                self.pop_open();
                self.responses.count_message(parser.bytes);
                out(Event::Response { exchange, first: parser.first.clone() });
                let (last, end) = (mark.clone(), cut(parser.bytes));
                out(Event::End { exchange, last, end, values: Values::default() });
            } else {
                self.skip(Direction::Responses, parser.bytes, Skip::UnpairedResponse, out);
            }
        }
        while let Some(entry) = self.pop_open() {
            let end = unanswered(entry.kind, std::mem::take(&mut first), error);
            if let Some(exchange) = entry.ordinal {
                let last = mark.clone();
                out(Event::End { exchange, last, end, values: Values::default() });
            }
        }
    }
}

/// How a command ends that the connection's end left without a reply; `first`: all before it were answered.
pub(super) fn unanswered(kind: Kind, first: bool, error: Option<EndError>) -> End<'static> {
    match error {
        None | Some(EndError::Reset) if first && kind == Kind::Shutdown => End::NoReply,
        error => End::NoResponse { error },
    }
}

/// Whether this can be the command's reply.
fn fits(entry: &Entry, reply: &Reply<'_>, pong: bool) -> bool {
    if matches!(reply, Reply::Error { .. }) {
        return true;
    }
    if entry.answers.are_confirmations() {
        return false;
    }
    // While a transaction gathers commands it says so; where it was refused, they run.
    if matches!(reply, Reply::Nil | Reply::Queued) {
        return true;
    }
    if entry.kind == Kind::Ping {
        return pong || matches!(reply, Reply::Simple | Reply::Bulk { .. });
    }
    match entry.shape {
        Shape::Any => true,
        Shape::Status => matches!(reply, Reply::Ok | Reply::Simple),
        Shape::Integer => matches!(reply, Reply::Integer),
        Shape::Bulk => matches!(reply, Reply::Bulk { .. } | Reply::Double),
        Shape::Array => {
            matches!(reply, Reply::Array { .. } | Reply::Map { .. } | Reply::Executed { .. })
        }
    }
}

fn sort<'a>(elements: &'a Elements) -> Sort<'a> {
    let [Some(first), second, third] = elements.strings() else { return Sort::Unclear };
    let confirmation = |subscribe, of| Sort::Confirmation { subscribe, of };
    let channel = |name: Option<&'a [u8]>| name.map(super::command::show_key);
    match first {
        b"message" | b"smessage" => Sort::Message { channel: channel(second) },
        b"pmessage" => Sort::Message { channel: channel(third) },
        b"subscribe" => confirmation(true, Channels::Plain),
        b"psubscribe" => confirmation(true, Channels::Pattern),
        b"ssubscribe" => confirmation(true, Channels::Shard),
        b"unsubscribe" => confirmation(false, Channels::Plain),
        b"punsubscribe" => confirmation(false, Channels::Pattern),
        b"sunsubscribe" => confirmation(false, Channels::Shard),
        b"pong" => Sort::Pong,
        _ => Sort::Other,
    }
}
