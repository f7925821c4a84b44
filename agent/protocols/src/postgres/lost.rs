//! What goes on where the beginnings of messages were lost, and what is given up.
//!
//! - In an answer, with one `ReadyForQuery` due: that exchange goes on. It is over where the next
//!   request begins, at silence, or with the stream. If a piece had ended with `ReadyForQuery` that can
//!   only be its own; without that its end is inferred, and only of a client that takes turns does
//!   pairing go on behind it.
//! - In a request of a client that takes turns, with nothing due: what was lost ends with one `Sync` or
//!   `Flush`. Behind a `Bind`, its `Execute` is taken as sent; behind a `Parse`, when `BindComplete`
//!   comes. Of what else was in it nothing is told, and its answers are counted as not understood. Bytes that
//!   never came may have been several requests, though: nothing is told if any of the answer is lost as well, or
//!   more looks lost behind them. Where something was executed in that turn before and more than a `Sync` was lost,
//!   there may be much more (asyncpg's `executemany`): what was seen is answered first, then pairing begins anew.
//! - Elsewhere everything open is abandoned, and pairing begins anew as `resync` says.

use std::borrow::Cow;

use super::{
    connection::{Connection, Out},
    event::{CommandTag, End, Transaction},
    fields,
    message::{HEADER_BYTES, Header, backend, is_asynchronous},
    pending::{Op, Work},
    resync::{Certainty, Turns},
    stream::State,
};
use crate::exchange::{Abandon, Direction, Skip};
use crate::follow::Follow;
use crate::limits;
use crate::stream::Piece;

/// Bytes of `Execute` of the unnamed portal and `Sync`, alone and with `Describe` before or `Close`
/// between them: what drivers send behind a `Bind`.
const BEHIND_BIND_BYTES: [u64; 2] = [15, 22];

/// Bytes of `Sync`, alone and with `Close` of the unnamed portal before it: what drivers send behind an `Execute`
/// that is a turn's only one.
const BEHIND_EXECUTE_BYTES: [u64; 2] = [5, 12];

/// An answer in which framing was lost.
#[derive(Debug)]
pub(super) struct LostAnswer<M> {
    /// Mark of its last piece.
    last: M,
    /// That piece's end was captured.
    end_seen: bool,
    /// What was captured of it without a gap, up to its end: the last of it.
    end: Vec<u8>,
    /// What that is.
    tail: Option<Tail>,
}

/// What the server answered since a request was lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    bytes: u64,
    executed: bool,
}

impl Heard {
    /// A message that answers.
    pub(super) fn add(&mut self, kind: u8, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        // What answers `Parse` and `Describe`.
        let prepares = matches!(
            kind,
            backend::PARSE_COMPLETE
                | backend::PARAMETER_DESCRIPTION
                | backend::ROW_DESCRIPTION
                | backend::NO_DATA
        );
        self.executed |= !prepares;
    }

    /// Only what a statement is prepared with was answered, and less than the server sends by itself: it was asked
    /// for that by a `Flush`, behind which nothing else can have come.
    fn is_flushed_preparation(self) -> bool {
        self.bytes > 0 && self.bytes < SEND_BUFFER_BYTES && !self.executed
    }
}

/// What a server keeps before it sends by itself (`PQ_SEND_BUFFER_SIZE`, src/backend/libpq/pqcomm.c).
const SEND_BUFFER_BYTES: u64 = 8192;

/// Whether only what was executed is answered by such a message.
pub(super) fn is_results(kind: u8) -> bool {
    use backend::{COMMAND_COMPLETE, COPY_BOTH, COPY_IN, COPY_OUT};
    use backend::{DATA_ROW, EMPTY_QUERY, PORTAL_SUSPENDED};
    let copies = matches!(kind, COPY_IN | COPY_OUT | COPY_BOTH);
    copies || matches!(kind, DATA_ROW | COMMAND_COMPLETE | EMPTY_QUERY | PORTAL_SUSPENDED)
}

/// Bytes in which an answer's end is looked for: `ReadyForQuery` behind the longest `CommandComplete`.
const END_BYTES: usize = 6 + HEADER_BYTES + limits::POSTGRES_TAG_BYTES;

/// `ReadyForQuery` at the end of a piece, with the `CommandComplete` before it if that is there.
#[derive(Debug, PartialEq)]
struct Tail {
    tag: Option<CommandTag>,
    transaction: Transaction,
}

impl<M: Clone + 'static> Connection<M> {
    /// Where requests begin was lost.
    pub(super) fn lose_request(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let partial = self.requests.state.drop_partial();
        // A part of it is there: nothing was lost between the answer before and this.
        if self.turns == Turns::Takes && self.responses.state.at == State::Lost && partial > 0 {
            self.end_lost_answer(true, out);
        }
        let lost = partial.saturating_add(piece.missing);
        let many = self.executed && !BEHIND_EXECUTE_BYTES.contains(&lost);
        let copying = (self.copy_in || self.may_copy) && self.pending.len() == 1;
        let goes_on = self.turns == Turns::Takes
            && self.requests.state.at == State::Framed
            && self.responses.state.at != State::Lost
            && !self.skipping
            && (copying || self.pending.sync_points() == 0);
        if !goes_on {
            self.skip(Direction::Requests, partial, Skip::Resync, out);
            return self.desync(Abandon::Gap, Skip::Resync, out);
        }
        self.took(Direction::Requests, partial, out);
        let exact = BEHIND_BIND_BYTES.contains(&lost);
        if copying {
            // Its end is among what was lost; `ReadyForQuery` will tell.
            self.copy_in = false;
            if matches!(self.pending.front(), Some(Op::Execute { .. })) {
                self.pending.push(Op::Unknown(None));
            }
        } else if let Some(portal) = self.bound.clone() {
            let mark = piece.mark;
            self.execute(Ok(portal), (piece.offset, mark.clone()), true, mark, out);
            self.pending.push(Op::Unknown(None));
            if exact {
                // `Sync` was among it.
                self.end_turn();
                self.statements.end_turn();
                let bytes = piece.drain();
                return self.took(Direction::Requests, bytes, out);
            }
        } else {
            let parsed = self.pending.parsed(self.group).map(|task| {
                let mut task = task.clone();
                task.last = piece.mark.clone();
                Box::new(task)
            });
            self.pending.push(Op::Unknown(parsed));
        }
        self.statements.forget_unnamed();
        self.end_turn();
        self.tainted = true;
        self.suspected = many && !copying;
        self.lost_in_hole = self.in_hole;
        self.heard = Heard::default();
        self.requests.state.at = State::Lost;
        let bytes = piece.drain();
        self.took(Direction::Requests, bytes, out);
    }

    /// What looks like a request comes behind a lost one. Whether it is the next one: it is if the lost
    /// one's answer has begun.
    pub(super) fn next_round(&mut self, out: &mut Out<'_, M>) -> bool {
        match self.responses.state.at {
            State::Lost if self.suspected => self.desync(Abandon::Gap, Skip::Resync, out),
            State::Lost => {
                self.requests.state.at = State::Framed;
                self.end_lost_answer(true, out);
            }
            // `admit` sees to it.
            State::Desync if self.answer_cut => self.requests.state.at = State::Framed,
            // What was lost ended with `Flush`.
            State::Framed
                if self.heard.is_flushed_preparation()
                    && !self.suspected
                    && self.responses.state.at_boundary()
                    && self.pending.len() == 1
                    && matches!(self.pending.front(), Some(Op::Unknown(_))) =>
            {
                self.finish(None, None, out);
                self.pending.clear();
                self.answered_group = None;
                self.requests.state.at = State::Framed;
            }
            // It may as well be a part of what was lost.
            _ => {
                self.suspect(out);
                return false;
            }
        }
        true
    }

    /// Behind a lost request there may be another one: which of them is answered can't be known.
    pub(super) fn suspect(&mut self, out: &mut Out<'_, M>) {
        if self.requests.state.at == State::Lost && !self.suspected {
            self.suspected = true;
            self.pending.forget_parsed();
            self.abandon_waiting(out);
        }
    }

    fn abandon_waiting(&mut self, out: &mut Out<'_, M>) {
        for exchange in self.pending.take_exchanges() {
            self.abandon(&exchange, Abandon::Gap, out);
        }
    }

    /// All that was due has been answered: the next request begins with a piece.
    pub(super) fn over_though_lost(&mut self, out: &mut Out<'_, M>) {
        if self.requests.state.at != State::Lost {
            return;
        }
        if self.suspected {
            self.desync(Abandon::Gap, Skip::Resync, out);
        } else {
            self.requests.state.at = State::Expect;
        }
    }

    /// Where answers begin was lost: the exchange goes on if it can only be one.
    pub(super) fn lose_response(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let startup = matches!(self.pending.front(), Some(Op::Startup));
        // Its answer may be the lost one, and what comes another's.
        let doubtful =
            self.requests.state.at == State::Lost && (self.lost_in_hole || self.suspected);
        if !self.pending.ends_with_its_only_sync_point() || startup || doubtful {
            return self.desync(Abandon::Gap, Skip::Resync, out);
        }
        let partial = self.responses.state.drop_partial();
        self.took(Direction::Responses, partial, out);
        self.finish(None, None, out);
        let exchanges = self.pending.iter().filter(|op| op.has_exchange()).count();
        if exchanges > 1 {
            // Which of them what comes belongs to can't be known.
            self.abandon_waiting(out);
        }
        self.responses.state.at = State::Lost;
        self.in_lost_answer(piece, partial, out);
    }

    fn in_lost_answer(&mut self, piece: &mut Piece<'_, M>, before: u64, out: &mut Out<'_, M>) {
        let mark = piece.mark;
        let end_seen = piece.missing == 0;
        let mut end = match self.lost_answer.take() {
            Some(lost) if lost.end_seen => lost.end,
            _ => Vec::new(),
        };
        if end_seen {
            let last = piece.bytes.len().saturating_sub(END_BYTES);
            end.extend_from_slice(piece.bytes.get(last..).unwrap_or_default());
            let first = end.len().saturating_sub(END_BYTES);
            end.drain(..first);
        }
        let tail = if piece.shows_end() { answer_tail(&end) } else { None };
        self.lost_answer = Some(LostAnswer { last: mark.clone(), end_seen, end, tail });
        let bytes = piece.drain();
        self.took(Direction::Responses, bytes, out);
        if let Some(exchange) = self.pending.iter_mut().find_map(Op::exchange_mut) {
            exchange.begin(mark.clone(), before.saturating_add(bytes), out);
        }
    }

    /// A piece of an answer in which framing was lost.
    pub(super) fn response_lost(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        if self.answer_has_ended() || !self.requests.state.at_boundary() {
            // More than was asked for: a request was lost too. Or the next one has begun.
            return self.desync(Abandon::Unpaired, Skip::UnpairedResponse, out);
        }
        self.in_lost_answer(piece, 0, out);
    }

    /// The connection is quiet: an answer whose end could have been seen goes on until it is.
    pub(super) fn idle_in_lost_answer(&mut self, out: &mut Out<'_, M>) {
        let end_seen = self.lost_answer.as_ref().is_some_and(|lost| lost.end_seen);
        if self.answer_has_ended() || !end_seen {
            self.end_lost_answer(false, out);
        }
    }

    /// The answer in which framing was lost ended as an answer does.
    pub(super) fn answer_has_ended(&self) -> bool {
        self.lost_answer.as_ref().is_some_and(|lost| lost.tail.is_some())
    }

    /// The answer in which framing was lost is over, if there is one. What its last piece ended with is
    /// certainly its own end only if the next request begins (`followed`) with nothing lost before it.
    pub(super) fn end_lost_answer(&mut self, followed: bool, out: &mut Out<'_, M>) {
        let Some(LostAnswer { last, tail, .. }) = self.lost_answer.take() else { return };
        let tail = tail.filter(|_| followed);
        self.answered_group = None;
        let certain = tail.is_some();
        let (tag, transaction) = match tail {
            Some(Tail { tag, transaction }) => (tag, Some(transaction)),
            None => (None, None),
        };
        let mut waiting = None;
        for mut op in self.pending.clear() {
            let is_execute = matches!(op, Op::Execute { .. });
            waiting = op.take_exchange().map(|exchange| (is_execute, exchange)).or(waiting);
        }
        if let Some((is_execute, mut exchange)) = waiting {
            let done = &mut exchange.done;
            done.transaction = transaction;
            // Of a simple query other statements may have been in what was lost.
            let complete = is_execute && tag.is_some();
            if let Some(tag) = tag {
                done.statements += 1;
                let rows = |sum: Option<u64>| {
                    tag.rows.map(|rows| sum.unwrap_or(0).saturating_add(rows)).or(sum)
                };
                if CommandTag::counts_affected(&tag.command) {
                    done.affected = rows(done.affected);
                } else if matches!(&*tag.command, "SELECT" | "FETCH")
                    && (exchange.data_rows > 0 || exchange.returns == Some(true))
                {
                    // What makes a table has this tag too.
                    done.returned = rows(done.returned);
                }
                if done.tags.len() < limits::POSTGRES_TAGS {
                    done.tags.push(tag);
                }
            }
            let done = Cow::Owned(exchange.done);
            let end = if complete { End::Complete(done) } else { End::Inferred(done) };
            self.over(exchange.ordinal, last, end, out);
        }
        if certain {
            self.responses.state.at = State::Framed;
            self.round_over();
            self.over_though_lost(out);
        } else if self.turns == Turns::Takes {
            self.tainted = true;
            self.responses.state.at = State::Expect;
            self.over_though_lost(out);
        } else {
            self.desync(Abandon::Unpaired, Skip::Resync, out);
        }
    }

    /// After an answer of which the end was not seen, or a quiet moment: the next begins with a piece.
    pub(super) fn expect_response(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let header = piece.bytes.first_chunk();
        let header = header.and_then(|&header| Header::read(Direction::Responses, header));
        match (header.filter(|_| piece.start), self.pending.front()) {
            (Some(header), _) if is_asynchronous(header.kind) => {
                self.responses.state.at = State::Framed;
            }
            (Some(header), Some(op)) if may_begin(header.kind, op) => {
                self.responses.state.at = State::Framed;
            }
            // More of the answer whose end was inferred.
            (_, None)
                if self.requests.state.at_boundary()
                    && !matches!(self.certainty, Certainty::Trial { .. }) =>
            {
                let bytes = piece.drain();
                self.skip(Direction::Responses, bytes, Skip::UnpairedResponse, out);
            }
            _ => self.desync(Abandon::Unpaired, Skip::Resync, out),
        }
    }
}

/// Whether an answer to this can begin with such a message.
fn may_begin<M>(kind: u8, op: &Op<M>) -> bool {
    use backend::*;
    if kind == ERROR {
        return true;
    }
    match op {
        Op::Work(task) => match task.work {
            Work::Parse => kind == PARSE_COMPLETE,
            Work::Bind => kind == BIND_COMPLETE,
            Work::Close => kind == CLOSE_COMPLETE,
            Work::DescribePortal => matches!(kind, ROW_DESCRIPTION | NO_DATA),
            Work::Describe => matches!(kind, PARAMETER_DESCRIPTION | ROW_DESCRIPTION | NO_DATA),
            Work::DescribeStatement => kind == PARAMETER_DESCRIPTION,
        },
        Op::Query(_) => matches!(
            kind,
            ROW_DESCRIPTION | COMMAND_COMPLETE | EMPTY_QUERY | COPY_IN | COPY_OUT | COPY_BOTH
        ),
        Op::FunctionCall(_) => kind == FUNCTION_CALL,
        Op::Unknown(_) => matches!(kind, PARSE_COMPLETE | BIND_COMPLETE | ROW_DESCRIPTION),
        _ => false,
    }
}

/// `ReadyForQuery` at the end of a piece, behind what ends other messages.
fn answer_tail(bytes: &[u8]) -> Option<Tail> {
    let (rest, ready) = bytes.split_last_chunk::<6>()?;
    let transaction = fields::transaction(ready.strip_prefix(&[backend::READY, 0, 0, 0, 5])?)?;
    // A string's end, as in `CommandComplete` and `ErrorResponse`, or the length of a message that has
    // nothing else.
    matches!(rest.last(), Some(0 | 4)).then(|| Tail { tag: tag_at_end(rest), transaction })
}

/// `CommandComplete` at the end.
fn tag_at_end(bytes: &[u8]) -> Option<CommandTag> {
    // Backwards: a tag has no NUL but its last byte, and the length's are before it.
    let tag = bytes.strip_suffix(&[0])?;
    let tag_bytes = tag
        .iter()
        .rev()
        .take(limits::POSTGRES_TAG_BYTES)
        .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ')
        .count();
    // A length below 32 is no such character; one above may be taken for the tag's first.
    for tag_bytes in [tag_bytes, tag_bytes.saturating_sub(1)] {
        let (before, tag) = bytes.split_at_checked(tag.len() - tag_bytes)?;
        let length = u32::try_from(tag.len() + 4).ok()?.to_be_bytes();
        if let Some(before) = before.strip_suffix(&length)
            && before.last() == Some(&backend::COMMAND_COMPLETE)
        {
            return fields::command_tag(tag);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_recognised_whatever_the_tags_length() {
        for words in 1..14 {
            let command = vec!["WORD"; words].join(" ");
            for rows in [7, 12_345_678] {
                let body = format!("{command} {rows}\0");
                let mut bytes = b"whatever".to_vec();
                bytes.push(b'C');
                bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
                bytes.extend_from_slice(body.as_bytes());
                assert_eq!(answer_tail(&bytes), None);
                bytes.extend_from_slice(b"Z\0\0\0\x05T");
                let tail = answer_tail(&bytes).expect("an end");
                assert_eq!(tail.transaction, Transaction::InTransaction);
                match tail.tag {
                    Some(tag) => assert_eq!((&*tag.command, tag.rows), (&*command, Some(rows))),
                    None => assert!(body.len() > limits::POSTGRES_TAG_BYTES, "{body}"),
                }
            }
        }
    }

    #[test]
    fn eight_bytes_are_enough_to_see_an_answers_end() {
        for before in [b"5\0", b"\0\0", b"\0\x04"] {
            let bytes = [&before[..], b"Z\0\0\0\x05I"].concat();
            let tail = Tail { tag: None, transaction: Transaction::Idle };
            assert_eq!(answer_tail(&bytes), Some(tail));
        }
        for bytes in [&b"Z\0\0\0\x05T"[..], b"xZ\0\0\0\x05T", b"\0Z\0\0\0\x05x", b"\0Z\0\0\0\x06I"]
        {
            assert_eq!(answer_tail(bytes), None);
        }
    }
}
