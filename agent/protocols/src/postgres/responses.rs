//! The server's direction of a PostgreSQL connection: messages answer what is due first.

use super::{
    connection::{Connection, Finishing, Out},
    event::{CommandTag, Encryption, End, Event, Fact, PgError, QueryKind, Transaction},
    fields,
    message::{Header, backend, is_asynchronous},
    pending::{Exchange, Op, Work},
    requests::query,
    stream::{Message, State, Step},
};
use crate::exchange::{Abandon, Direction, Skip};
use crate::limits;
use crate::stream::{Flow, Piece};

impl<M: Clone> Connection<M> {
    pub(super) fn advance_responses(
        &mut self,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        while !piece.is_empty() {
            match self.responses.state.at {
                State::Startup | State::Framed => {
                    if self.responses.state.at_boundary()
                        && let Some(flow) = self.answer_begins(piece, out)
                    {
                        if flow == Flow::Hold {
                            return flow;
                        }
                        continue;
                    }
                    match self.responses.state.take(Direction::Responses, piece) {
                        Step::More => {}
                        Step::Message(message) => self.response_message(&message, piece.mark, out),
                        Step::Lost => self.lose_response(piece, out),
                        Step::Broken => self.desync(Abandon::Broken, Skip::Resync, out),
                    }
                }
                State::Lost => self.response_lost(piece, out),
                State::Expect => self.expect_response(piece, out),
                State::Desync => self.resync_responses(piece, out),
                State::Silent | State::Ended => {
                    let bytes = piece.drain();
                    self.skip(Direction::Responses, bytes, Skip::Resync, out);
                }
                State::Opaque => {
                    let bytes = piece.drain();
                    self.skip(Direction::Responses, bytes, Skip::AfterUpgrade, out);
                }
            }
        }
        Flow::Taken
    }

    /// What is to be decided before a message is read; `None`: nothing.
    fn answer_begins(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) -> Option<Flow> {
        if let Some(Op::Negotiate(encryption)) = self.pending.front() {
            let encryption = *encryption;
            return self.negotiated(encryption, piece, out);
        }
        if !self.pending.is_empty() {
            return None;
        }
        // Before the session nothing comes unasked, and an `N` is no notice.
        if self.requests.state.at != State::Startup && comes_unasked(piece.bytes) {
            return None;
        }
        match self.requests.state.at {
            _ if self.tainted => self.desync(Abandon::Unpaired, Skip::UnpairedResponse, out),
            State::Startup | State::Framed => return Some(Flow::Hold),
            State::Ended => {
                let bytes = piece.drain();
                self.skip(Direction::Responses, bytes, Skip::UnpairedResponse, out);
            }
            _ => self.desync(Abandon::Unpaired, Skip::UnpairedResponse, out),
        }
        Some(Flow::Taken)
    }

    /// The one byte that answers `SSLRequest` and `GSSENCRequest`.
    fn negotiated(
        &mut self,
        encryption: Encryption,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Option<Flow> {
        let agreed = match (piece.bytes.first(), encryption) {
            (Some(b'S'), Encryption::Tls) | (Some(b'G'), Encryption::Gss) => true,
            (Some(b'N'), _) => false,
            (Some(&backend::ERROR), _) => {
                // A server that doesn't know the request, or refuses the client.
                self.pending.pop();
                self.pending.push(Op::Startup);
                return None;
            }
            _ => {
                self.silence(Abandon::Broken, out);
                return Some(Flow::Taken);
            }
        };
        let mark = piece.mark;
        piece.advance(1);
        self.took(Direction::Responses, 1, out);
        self.pending.pop();
        if agreed {
            self.fact(Fact::Opaque(encryption), mark, out);
            self.reset(State::Opaque, Skip::AfterUpgrade, Skip::AfterUpgrade, out);
        } else {
            self.fact(Fact::Plain(encryption), mark, out);
        }
        Some(Flow::Taken)
    }

    fn response_message(&mut self, message: &Message<'_, M>, last: &M, out: &mut Out<'_, M>) {
        self.took(Direction::Responses, message.bytes, out);
        match message.kind {
            backend::NOTICE => self.tally.notices += 1,
            backend::NOTIFICATION => self.tally.notifications += 1,
            backend::PARAMETER_STATUS => {
                if let Some(version) = fields::server_version(&message.body) {
                    self.fact(Fact::ServerVersion(version), last, out);
                }
            }
            kind => {
                let fits = match self.pending.front() {
                    Some(op) => fits(kind, op),
                    None => kind == backend::ERROR,
                };
                if !fits || !self.answer(message, last, out) {
                    self.desync(Abandon::Broken, Skip::Resync, out);
                }
            }
        }
    }

    /// A message that answers what is due first, and fits it. `false`: it doesn't, all the same.
    fn answer(&mut self, message: &Message<'_, M>, last: &M, out: &mut Out<'_, M>) -> bool {
        let (kind, first) = (message.kind, &message.first);
        let at_sync = matches!(self.pending.front(), Some(Op::Sync));
        if kind != backend::READY && !(kind == backend::ERROR && at_sync) {
            self.finish(None, None, out);
        }
        self.answered(message, out);
        match kind {
            backend::ERROR => {
                self.failed(fields::error(&message.body), first, message.bytes, last, out);
                true
            }
            backend::READY => self.ready(&message.body, last, out),
            backend::BACKEND_KEY_DATA => {
                if let Some((id, _)) = message.body.split_first_chunk::<4>() {
                    let process_id = u32::from_be_bytes(*id);
                    self.fact(Fact::Backend { process_id }, last, out);
                }
                true
            }
            backend::PARSE_COMPLETE
            | backend::BIND_COMPLETE
            | backend::CLOSE_COMPLETE
            | backend::NO_DATA
            | backend::ROW_DESCRIPTION => {
                if let Some(Op::Work(task)) = self.pending.front() {
                    if task.work != Work::Bind {
                        self.tally.session_work += 1;
                    }
                    self.pending.pop();
                }
                true
            }
            backend::COPY_IN => {
                self.copy_in = !self.pending.begin_copy_in();
                true
            }
            backend::DATA_ROW => {
                if let Some(exchange) = self.pending.front_mut().and_then(Op::exchange_mut) {
                    exchange.data_rows += 1;
                }
                true
            }
            backend::COMMAND_COMPLETE => {
                let tag = fields::command_tag(&message.body);
                if let Some(exchange) = self.pending.front_mut().and_then(Op::exchange_mut) {
                    exchange.tag_lost |= tag.is_none();
                }
                self.statement_over(tag, false, last);
                true
            }
            backend::EMPTY_QUERY => {
                self.statement_over(None, false, last);
                true
            }
            backend::PORTAL_SUSPENDED => {
                self.statement_over(None, true, last);
                true
            }
            backend::FUNCTION_CALL => {
                if let Some(exchange) = self.pending.front_mut().and_then(Op::exchange_mut) {
                    exchange.done.statements += 1;
                }
                true
            }
            _ => true,
        }
    }

    /// Notes that an answer has begun, and how long it is.
    fn answered(&mut self, message: &Message<'_, M>, out: &mut Out<'_, M>) {
        let group = self.pending.front().and_then(Op::group);
        let first = match (group, &self.answered_group) {
            (Some(group), Some((before, first))) if group == *before => first.clone(),
            (group, _) => {
                self.answered_group = group.map(|group| (group, message.first.clone()));
                message.first.clone()
            }
        };
        // What its `Parse` failed with is an `Execute`'s too, but that is seen to in `failed`.
        if let Some(exchange) = self.pending.front_mut().and_then(Op::exchange_mut) {
            exchange.begin(first, message.bytes, out);
        }
    }

    /// One statement of the first exchange is over; the exchange as well if it is an `Execute`.
    fn statement_over(&mut self, tag: Option<CommandTag>, suspended: bool, last: &M) {
        self.copy_in = false;
        let whole = matches!(self.pending.front(), Some(Op::Execute { .. }));
        if let Some(exchange) = self.pending.front_mut().and_then(Op::exchange_mut) {
            let done = &mut exchange.done;
            done.statements += 1;
            done.suspended = suspended;
            let rows = if suspended {
                Some(exchange.data_rows)
            } else {
                tag.as_ref().and_then(|tag| tag.rows)
            };
            if exchange.tag_lost {
                done.rows = None;
            } else if let Some(rows) = rows {
                done.rows = Some(done.rows.unwrap_or(0).saturating_add(rows));
            }
            exchange.data_rows = 0;
            if let Some(tag) = tag
                && done.tags.len() < limits::POSTGRES_TAGS
            {
                done.tags.push(tag);
            }
        }
        if whole && let Some(exchange) = self.pending.pop().and_then(|mut op| op.take_exchange()) {
            self.finishing = Some(Finishing { exchange, last: last.clone() });
        }
    }

    /// `ReadyForQuery`.
    fn ready(&mut self, body: &[u8], last: &M, out: &mut Out<'_, M>) -> bool {
        let Some(transaction) = fields::transaction(body) else { return false };
        if let Some(Op::Query(Some(exchange)) | Op::FunctionCall(Some(exchange))) =
            self.pending.front()
            && exchange.done.statements == 0
            && exchange.done.error.is_none()
        {
            // Every statement has its own answer before: this is another request's.
            return false;
        }
        let Some(mut op) = self.pending.pop() else { return false };
        if let Some(exchange) = op.take_exchange() {
            self.finishing = Some(Finishing { exchange, last: last.clone() });
        }
        self.finish(Some(transaction), Some(last.clone()), out);
        self.answered_group = None;
        match op {
            Op::Startup => self.fact(Fact::Ready, last, out),
            Op::Unknown | Op::Query(_) if self.requests.state.at == State::Lost => {
                if self.suspected {
                    // A request was taken for a part of what was lost.
                    self.desync(Abandon::Gap, Skip::Resync, out);
                } else {
                    self.requests.state.at = State::Expect;
                }
            }
            _ => {}
        }
        if self.probes > 0 && self.pending.is_empty() {
            self.probes -= 1;
        }
        true
    }

    /// `ErrorResponse`.
    fn failed(&mut self, error: PgError, first: &M, bytes: u64, last: &M, out: &mut Out<'_, M>) {
        self.copy_in = false;
        let error = Box::new(error);
        match self.pending.front_mut() {
            None | Some(Op::Negotiate(_) | Op::Startup) => {
                self.fact(Fact::Failure(error), last, out);
            }
            Some(Op::CopyEnd | Op::Unknown) => {}
            Some(Op::Sync) => match &mut self.finishing {
                // The transaction's end failed: a deferred constraint.
                Some(finishing) if finishing.exchange.done.error.is_none() => {
                    finishing.exchange.done.response_bytes += bytes;
                    finishing.exchange.done.error = Some(error);
                    finishing.last = last.clone();
                }
                Some(_) => {}
                None => self.fact(Fact::Failure(error), last, out),
            },
            Some(Op::Query(exchange) | Op::FunctionCall(exchange)) => {
                if let Some(exchange) = exchange {
                    exchange.done.error.get_or_insert(error);
                }
            }
            Some(Op::Execute { .. } | Op::Work(_)) => {
                self.group_failed(error, first, bytes, last, out);
                self.pass_over(last, out);
            }
        }
    }

    /// The first message that is due failed: so did the `Execute` that it belongs to, or by itself.
    fn group_failed(
        &mut self,
        error: Box<PgError>,
        first: &M,
        bytes: u64,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let mut failed = None;
        while let Some(Op::Work(task)) = self.pending.front() {
            let group = task.group;
            if failed.as_ref().is_some_and(|(before, _)| *before != group) {
                break;
            }
            if let Some(Op::Work(task)) = self.pending.pop() {
                if task.work == Work::Parse {
                    self.statements.failed(&task.statement);
                }
                failed.get_or_insert((group, task));
            }
        }
        let first = match &self.answered_group {
            Some((_, first)) => first.clone(),
            None => first.clone(),
        };
        let same_group = |op: &Op<M>| match op {
            Op::Execute { group, .. } => failed.as_ref().is_none_or(|(failed, _)| failed == group),
            _ => false,
        };
        let exchange = if self.pending.front().is_some_and(same_group) {
            self.pending.pop().and_then(|mut op| op.take_exchange())
        } else if let Some((_, task)) = failed {
            let query = query(QueryKind::Prepare, &task.statement, task.portal);
            self.open(query, task.offset, &task.first, &task.last, out)
        } else {
            None
        };
        if let Some(mut exchange) = exchange {
            let bytes = if exchange.answered { 0 } else { bytes };
            exchange.begin(first, bytes, out);
            exchange.done.error = Some(error);
            self.finishing = Some(Finishing { exchange, last: last.clone() });
        }
    }

    /// After an error in the extended protocol the server passes over everything up to `Sync`.
    fn pass_over(&mut self, last: &M, out: &mut Out<'_, M>) {
        loop {
            match self.pending.front() {
                Some(Op::Sync | Op::Unknown) => return,
                Some(_) => {}
                None => {
                    self.skipping = true;
                    return;
                }
            }
            match self.pending.pop() {
                Some(Op::Work(task)) if task.work == Work::Parse => {
                    self.statements.failed(&task.statement);
                }
                Some(mut op) => {
                    if let Some(Exchange { ordinal, .. }) = op.take_exchange() {
                        self.end(ordinal, last.clone(), End::NotExecuted, out);
                    }
                }
                None => {}
            }
        }
    }

    /// Where messages begin was lost: the exchange goes on if it can only be one.
    fn lose_response(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let startup = matches!(self.pending.front(), Some(Op::Startup));
        // Both directions lost: nobody would see the next request begin.
        let both = self.requests.state.at == State::Lost;
        if !self.pending.ends_with_its_only_sync_point() || startup || both {
            return self.desync(Abandon::Gap, Skip::Resync, out);
        }
        let partial = self.responses.state.drop_partial();
        self.took(Direction::Responses, partial, out);
        self.finish(None, None, out);
        if self.exchanges() > 1 {
            self.abandon_waiting(Abandon::Gap, out);
        }
        self.responses.state.at = State::Lost;
        self.in_lost_response(piece, partial, out);
    }

    fn in_lost_response(&mut self, piece: &mut Piece<'_, M>, before: u64, out: &mut Out<'_, M>) {
        let mark = piece.mark;
        self.lost_last = Some(mark.clone());
        let bytes = piece.drain();
        self.took(Direction::Responses, bytes, out);
        if let Some(exchange) = self.pending.iter_mut().find_map(Op::exchange_mut) {
            exchange.begin(mark.clone(), before.saturating_add(bytes), out);
        }
    }

    /// A piece of an answer in which framing was lost.
    fn response_lost(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        if self.tail.is_some() || !self.requests.state.at_boundary() {
            // More than was asked for: a request was lost too. Or the next one has begun.
            return self.desync(Abandon::Unpaired, Skip::UnpairedResponse, out);
        }
        if piece.start && piece.missing == 0 {
            self.tail = answer_tail(piece.bytes);
        }
        self.in_lost_response(piece, 0, out);
    }

    /// Ends the exchange in whose answer framing was lost, by what its last piece ends with. `false`:
    /// that piece was not seen.
    pub(super) fn end_by_tail(&mut self, out: &mut Out<'_, M>) -> bool {
        let (Some((tag, transaction)), Some(last)) = (self.tail.take(), self.lost_last.take())
        else {
            return false;
        };
        self.answered_group = None;
        self.responses.state.at = State::Framed;
        let mut waiting = None;
        for mut op in self.pending.clear() {
            let is_execute = matches!(op, Op::Execute { .. });
            waiting = op.take_exchange().map(|exchange| (is_execute, exchange)).or(waiting);
        }
        if let Some((is_execute, mut exchange)) = waiting {
            let done = &mut exchange.done;
            done.statements += 1;
            done.rows =
                tag.rows.map(|rows| done.rows.unwrap_or(0).saturating_add(rows)).or(done.rows);
            done.transaction = Some(transaction);
            if done.tags.len() < limits::POSTGRES_TAGS {
                done.tags.push(tag);
            }
            // Of a simple query other statements may have been in what was lost.
            let end = if is_execute {
                End::Complete(exchange.done)
            } else {
                End::Inferred(exchange.done)
            };
            self.end(exchange.ordinal, last, end, out);
        }
        true
    }

    /// After an answer of which the end was not seen: the next begins with a piece.
    fn expect_response(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let header = piece
            .bytes
            .first_chunk()
            .and_then(|&header| Header::read(Direction::Responses, header));
        match (header.filter(|_| piece.start), self.pending.front()) {
            (Some(header), _) if is_asynchronous(header.kind) => {
                self.responses.state.at = State::Framed;
            }
            (Some(header), Some(op)) if fits(header.kind, op) => {
                self.responses.state.at = State::Framed;
            }
            (_, Some(_)) => self.desync(Abandon::Unpaired, Skip::Resync, out),
            (_, None) => {
                let bytes = piece.drain();
                self.skip(Direction::Responses, bytes, Skip::UnpairedResponse, out);
            }
        }
    }
}

impl Exchange {
    /// Its answer has begun, or goes on.
    pub(super) fn begin<M>(&mut self, first: M, bytes: u64, out: &mut Out<'_, M>) {
        self.done.response_bytes = self.done.response_bytes.saturating_add(bytes);
        if !self.answered {
            self.answered = true;
            out(Event::Response { exchange: self.ordinal, first });
        }
    }
}

/// Whether a message can be the server's own, with nothing due: asynchronous, or the error that ends the
/// session.
fn comes_unasked(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(&kind) if is_asynchronous(kind) => true,
        Some(&backend::ERROR) => {
            let fields = bytes.get(..64).unwrap_or(bytes);
            [&b"\0VFATAL\0"[..], b"\0VPANIC\0"]
                .iter()
                .any(|severity| memchr::memmem::find(fields, severity).is_some())
        }
        _ => false,
    }
}

/// Whether an answer to this can have such a message.
fn fits<M>(kind: u8, op: &Op<M>) -> bool {
    use backend::*;
    let rows = matches!(
        kind,
        DATA_ROW
            | COMMAND_COMPLETE
            | EMPTY_QUERY
            | COPY_IN
            | COPY_OUT
            | COPY_BOTH
            | COPY_DATA
            | COPY_DONE
    );
    match op {
        _ if kind == ERROR => true,
        Op::Negotiate(_) | Op::CopyEnd => false,
        Op::Startup => {
            matches!(kind, AUTHENTICATION | NEGOTIATE_VERSION | BACKEND_KEY_DATA | READY)
        }
        Op::Work(task) => match task.work {
            Work::Parse => kind == PARSE_COMPLETE,
            Work::Bind => kind == BIND_COMPLETE,
            Work::Close => kind == CLOSE_COMPLETE,
            Work::DescribePortal => matches!(kind, ROW_DESCRIPTION | NO_DATA),
            Work::DescribeStatement => {
                matches!(kind, PARAMETER_DESCRIPTION | ROW_DESCRIPTION | NO_DATA)
            }
        },
        Op::Execute { assumed, .. } => {
            rows || kind == PORTAL_SUSPENDED
                || (*assumed && matches!(kind, ROW_DESCRIPTION | NO_DATA))
        }
        Op::Query(_) => rows || matches!(kind, ROW_DESCRIPTION | READY),
        Op::FunctionCall(_) => matches!(kind, FUNCTION_CALL | READY),
        Op::Sync => kind == READY,
        Op::Unknown => !matches!(kind, AUTHENTICATION | BACKEND_KEY_DATA | NEGOTIATE_VERSION),
    }
}

/// `CommandComplete` and `ReadyForQuery` at the end of a piece.
fn answer_tail(bytes: &[u8]) -> Option<(CommandTag, Transaction)> {
    let (rest, ready) = bytes.split_last_chunk::<6>()?;
    let transaction = fields::transaction(ready.strip_prefix(&[backend::READY, 0, 0, 0, 5])?)?;
    // Backwards: a tag has no NUL but its last byte, and the length's are before it.
    let tag = rest.strip_suffix(&[0])?;
    let tag_bytes = tag
        .iter()
        .rev()
        .take(limits::POSTGRES_TAG_BYTES)
        .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ')
        .count();
    // A length below 32 is no such character; one above may be taken for the tag's first.
    for tag_bytes in [tag_bytes, tag_bytes.saturating_sub(1)] {
        let (before, tag) = rest.split_at_checked(tag.len() - tag_bytes)?;
        let length = u32::try_from(tag.len() + 4).ok()?.to_be_bytes();
        if let Some(before) = before.strip_suffix(&length)
            && before.last() == Some(&backend::COMMAND_COMPLETE)
        {
            return Some((fields::command_tag(tag)?, transaction));
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
                match answer_tail(&bytes) {
                    Some((tag, transaction)) => {
                        assert_eq!((&*tag.command, tag.rows), (&*command, Some(rows)));
                        assert_eq!(transaction, Transaction::InTransaction);
                    }
                    None => assert!(body.len() > limits::POSTGRES_TAG_BYTES, "{body}"),
                }
            }
        }
        assert_eq!(answer_tail(b"Z\0\0\0\x05T"), None);
        assert_eq!(answer_tail(b"\0Z\0\0\0\x05T"), None);
    }
}
