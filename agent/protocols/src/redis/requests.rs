//! The request direction of a Redis connection: commands open exchanges.

use super::{
    Detected,
    command::Read,
    connection::{Connection, Entry, Out, Parked, Tracking},
    detect,
    event::{End, Event},
    request::{Parser, Progress},
    responses::unanswered,
    session::{Answers, Kind},
    values::Values,
};
use crate::exchange::{Abandon, Direction, Skip};
use crate::follow::Follow;
use crate::limits;
use crate::stream::Piece;

impl<M: Clone + 'static> Connection<M> {
    pub(super) fn advance_requests(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        while !piece.is_empty() {
            let start = piece.start;
            match self.tracking {
                _ if self.requests.ended.is_some() => self.skip_requests(piece, Skip::Resync, out),
                Tracking::Trial { .. }
                    if self.request.is_none()
                        && self.open.is_empty()
                        && self.is_new_turn(piece) =>
                {
                    self.begin_turn(out);
                }
                Tracking::Certain | Tracking::Trial { .. } => self.request(piece, out),
                Tracking::Draining | Tracking::Lost if self.is_new_turn(piece) => {
                    self.begin_turn(out);
                }
                Tracking::Lost if self.begins_trial(piece) => {
                    self.tracking = Tracking::Trial { quiet: false, paired: false };
                }
                Tracking::Draining | Tracking::Lost => {
                    self.end_inferred(out);
                    self.park(piece);
                    self.skip_requests(piece, Skip::Resync, out);
                }
                Tracking::Opaque => self.skip_requests(piece, Skip::AfterUpgrade, out),
            }
            if start && !piece.start {
                self.answered = false;
            }
        }
    }

    fn skip_requests(&mut self, piece: &mut Piece<'_, M>, reason: Skip, out: &mut Out<'_, M>) {
        self.skip(Direction::Requests, piece.drain(), reason, out);
    }

    /// Whether a client that takes turns begins one here.
    fn is_new_turn(&self, piece: &Piece<'_, M>) -> bool {
        self.turns && self.answered && piece.start && detect(piece.bytes) == Detected::Requests
    }

    /// Whether commands may be counted from here on: one begins, behind a reply's end.
    fn begins_trial(&self, piece: &Piece<'_, M>) -> bool {
        self.answered
            && self.reply_ended
            && self.lost_reply.is_none()
            && piece.start
            && piece.bytes.first() == Some(&b'*')
            && detect(piece.bytes) == Detected::Requests
    }

    fn begin_turn(&mut self, out: &mut Out<'_, M>) {
        if self.open.is_empty() {
            self.end_inferred(out);
            self.tracking = Tracking::Certain;
        } else {
            // It has not read all that it waits for: it doesn't take turns.
            self.turns = false;
            self.desync(Abandon::Unpaired, out);
        }
    }

    /// Remembers what a quiet moment has to know of what was sent before it.
    fn park(&mut self, piece: &Piece<'_, M>) {
        let mut rest = Piece { ..*piece };
        let mut parser = Parser::new(piece, None);
        let first = matches!(self.parked, Parked::None) && piece.start;
        self.parked = match parser.feed(&mut rest) {
            Progress::Done if first && rest.is_empty() && parser.read().command.blocking => {
                let read = parser.read();
                Parked::Blocking(Entry {
                    ordinal: None,
                    kind: read.kind,
                    shape: read.shape,
                    answers: Answers::One,
                    blocking: true,
                    doubtful: false,
                    asked: false,
                })
            }
            _ => Parked::Unknown,
        };
    }

    fn request(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let mut parser = match self.request.take() {
            Some(parser) => parser,
            // Whole commands may have been in what was lost.
            None if piece.bytes.is_empty() => return self.lose_requests(out),
            None => match self.spare_request.take() {
                Some(mut parser) => {
                    parser.renew(piece);
                    parser
                }
                None => Box::new(Parser::new(piece, self.asked.clone())),
            },
        };
        match parser.feed(piece) {
            Progress::More => self.request = Some(parser),
            Progress::Nothing => {
                self.requests.count_message(parser.bytes);
                self.spare_request = Some(parser);
            }
            Progress::Done => {
                self.command(&parser, Some(piece.mark), out);
                self.spare_request = Some(parser);
            }
            Progress::Lost => {
                self.request = Some(parser);
                self.lose_requests(out);
            }
            Progress::Broken => {
                self.skip(Direction::Requests, parser.bytes, Skip::Broken, out);
                self.desync(Abandon::Broken, out);
            }
        }
    }

    /// A command is complete (`last`), or as much as will be known of it.
    fn command(&mut self, parser: &Parser<M>, last: Option<&M>, out: &mut Out<'_, M>) {
        let Read { mut command, kind, shape, values, asked } = parser.read();
        let told = self.tracking == Tracking::Certain;
        if self.open.len() >= limits::REDIS_OPEN_COMMANDS {
            self.skip(Direction::Requests, parser.bytes, Skip::Resync, out);
            return self.desync(Abandon::TooMany, out);
        }
        let sent = self.session.sent(kind);
        self.tell_facts(out);
        let of_others = self.session.asked_at_exec(kind, asked && sent.queued);
        let asked = asked || of_others;
        command.queued = sent.queued;
        let blocking = command.blocking;
        let exchange = self.next_exchange;
        if told {
            self.next_exchange += 1;
            self.requests.count_message(parser.bytes);
            let (offset, first) = (parser.offset, parser.first.clone());
            out(Event::Request { exchange, offset, first, request: command, values });
            if let Some(last) = last.cloned() {
                out(Event::RequestEnd { exchange, last, bytes: parser.bytes });
            }
        } else {
            self.skip(Direction::Requests, parser.bytes, Skip::Resync, out);
        }
        let last = last.unwrap_or(&parser.first).clone();
        if let Some(error) = self.responses.ended {
            if told {
                let end = unanswered(kind, self.open.is_empty(), error);
                out(Event::End { exchange, last, end, values: Values::default() });
            }
            return;
        }
        self.turns |= matches!(kind, Kind::Library { turns: true, .. });
        let room = self.open_told < limits::REDIS_OPEN_EXCHANGES;
        match sent.answers {
            Answers::One | Answers::Confirmations { .. } | Answers::AllConfirmations { .. } => {
                if told && !room {
                    // Its reply is still counted, so that those after it pair.
                    out(Event::Abandoned { exchange, reason: Abandon::TooMany });
                }
                self.push_open(Entry {
                    ordinal: (told && room).then_some(exchange),
                    kind: sent.kind,
                    shape,
                    answers: sent.answers,
                    blocking: blocking && !sent.queued,
                    doubtful: sent.doubtful,
                    asked: asked && !sent.queued,
                });
            }
            Answers::None if told => {
                let values = Values::default();
                out(Event::End { exchange, last, end: End::NoReply, values });
            }
            Answers::None => {}
            Answers::Replication => {
                let reason = Abandon::Upgraded;
                if told {
                    out(Event::Abandoned { exchange, reason });
                }
                self.give_up(Tracking::Opaque, reason, Skip::AfterUpgrade, out);
            }
            Answers::Unknown => {
                if told {
                    out(Event::Abandoned { exchange, reason: Abandon::Unpaired });
                }
                self.lose_requests(out);
            }
        }
    }

    /// Commands may have been lost, or what one does to the connection is unknown.
    pub(super) fn lose_requests(&mut self, out: &mut Out<'_, M>) {
        self.finish_cut(out);
        // What was lost is itself waiting for replies.
        self.answered = false;
        match self.tracking {
            // The commands before are answered first.
            Tracking::Certain if !self.open.is_empty() => self.tracking = Tracking::Draining,
            Tracking::Certain | Tracking::Trial { .. } => self.desync(Abandon::Gap, out),
            Tracking::Draining | Tracking::Lost => self.parked = Parked::Unknown,
            Tracking::Opaque => {}
        }
    }

    /// Tells of the command at hand, which will never be known in full, what is known.
    pub(super) fn finish_cut(&mut self, out: &mut Out<'_, M>) {
        let Some(mut parser) = self.request.take() else { return };
        if parser.cut() && self.tracking == Tracking::Certain {
            self.command(&parser, None, out);
        } else {
            self.skip(Direction::Requests, parser.bytes, Skip::Resync, out);
        }
        self.spare_request = Some(parser);
    }
}
