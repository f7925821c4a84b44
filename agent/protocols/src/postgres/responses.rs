//! The server's direction of a PostgreSQL connection: messages answer what is due first.

use super::{
    connection::{Connection, Finishing, Out},
    event::{CommandTag, Encryption, Event, Fact, Query, QueryKind},
    fields,
    lost::is_results,
    message::{backend, is_asynchronous},
    pending::{Exchange, Op, Work},
    requests::query,
    resync::Certainty,
    stream::{Message, State, Step},
};
use crate::exchange::{Abandon, Direction, Skip};
use crate::follow::Follow;
use crate::limits;
use crate::stream::{Flow, Piece};

impl<M: Clone + 'static> Connection<M> {
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
                        Step::Message(message) => {
                            self.response_message(&message, piece.mark, out);
                            self.responses.state.recycle(message);
                        }
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
            _ if self.tainted || self.certainty != Certainty::Certain => {
                self.desync(Abandon::Unpaired, Skip::UnpairedResponse, out);
            }
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
                self.silence(out);
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
        let lost = matches!(self.pending.front(), Some(Op::Unknown(_)));
        if lost && is_results(message.kind) {
            // Of what was executed in a request that was lost.
            self.skip(Direction::Responses, message.bytes, Skip::Resync, out);
        } else {
            self.took(Direction::Responses, message.bytes, out);
        }
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
        // Up to `ReadyForQuery` the transaction's end may fail, be its portal closed before.
        let closes = kind == backend::CLOSE_COMPLETE;
        if kind != backend::READY && !closes && !(kind == backend::ERROR && at_sync) {
            self.finish(None, None, out);
        }
        self.heard.add(kind, message.bytes);
        if matches!(self.pending.front(), Some(Op::Unknown(_))) {
            match kind {
                backend::BIND_COMPLETE => self.bound_unseen(first, out),
                // Of another statement.
                backend::PARSE_COMPLETE => self.pending.forget_parsed(),
                _ => {}
            }
        }
        self.answered(message, out);
        match kind {
            backend::ERROR => {
                let mut error = self.spare_error.take().unwrap_or_default();
                fields::error(&message.body, &mut error);
                self.failed(error, first, message.bytes, last, out);
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
                let returns = match kind {
                    backend::ROW_DESCRIPTION => Some(true),
                    backend::NO_DATA => Some(false),
                    _ => None,
                };
                match self.pending.front_mut() {
                    Some(Op::Work(task)) => {
                        if let Some(returns) = returns {
                            self.described = Some((task.group, returns));
                            if task.work == Work::DescribeStatement {
                                self.statements.described(&task.statement, returns);
                            }
                        }
                        if task.work != Work::Bind {
                            self.tally.session_work += 1;
                        }
                        self.pending.pop();
                    }
                    Some(op) => {
                        if let Some(exchange) = op.exchange_mut() {
                            exchange.returns = returns.or(exchange.returns);
                        }
                    }
                    None => {}
                }
                true
            }
            backend::COPY_IN => match self.pending.begin_copy_in() {
                Some(ended) if !self.copy_in => {
                    self.copy_in = !ended;
                    true
                }
                _ => false,
            },
            backend::DATA_ROW => {
                if let Some(exchange) = self.pending.front_mut().and_then(Op::exchange_mut) {
                    exchange.data_rows += 1;
                }
                true
            }
            backend::COMMAND_COMPLETE => {
                let tag = fields::command_tag(&message.body);
                if let Some(exchange) = self.pending.front_mut().and_then(Op::exchange_mut) {
                    exchange.count_rows(tag.as_ref(), false);
                }
                self.statement_over(tag, false, last);
                true
            }
            backend::EMPTY_QUERY => {
                self.statement_over(None, false, last);
                true
            }
            backend::PORTAL_SUSPENDED => {
                if let Some(exchange) = self.pending.front_mut().and_then(Op::exchange_mut) {
                    exchange.count_rows(None, true);
                }
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
        let returns = self.described.filter(|(described, _)| group == Some(*described));
        // What its `Parse` failed with is an `Execute`'s too, but that is seen to in `failed`.
        if let Some(op) = self.pending.front_mut() {
            let simple = matches!(op, Op::Query(_));
            let Some(exchange) = op.exchange_mut() else { return };
            // A simple query's rows never come without their description.
            let returns = returns.map(|(_, returns)| returns).or(simple.then_some(false));
            exchange.returns = exchange.returns.or(returns);
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
            if let Some(tag) = tag
                && done.tags.len() < limits::POSTGRES_TAGS
            {
                if done.tags.is_empty() {
                    done.tags = std::mem::take(&mut self.spare_tags);
                }
                done.tags.push(tag);
            }
        }
        if whole && let Some(exchange) = self.pending.pop().and_then(|mut op| op.take_exchange()) {
            self.finishing = Some(Finishing { exchange, last: last.clone() });
        }
    }

    /// `ReadyForQuery`.
    fn ready(&mut self, body: &[u8], last: &M, out: &mut Out<'_, M>) -> bool {
        let transaction = fields::transaction(body);
        if transaction.is_none() && !body.is_empty() {
            return false;
        }
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
        self.finish(transaction, Some(last.clone()), out);
        self.answered_group = None;
        if matches!(op, Op::Startup) {
            self.fact(Fact::Ready, last, out);
        }
        if self.pending.is_empty() {
            self.round_over();
            self.over_though_lost(out);
        }
        true
    }

    /// `BindComplete` of a request of which only `Parse` was seen: it is executed.
    fn bound_unseen(&mut self, first: &M, out: &mut Out<'_, M>) {
        let Some(task) = self.pending.take_parsed() else { return };
        // It was parsed just before, and nothing executed it since.
        let fresh = task.work == Work::Parse;
        let query = Query { fresh, ..query(QueryKind::Execute, &task.statement, None) };
        let exchange = self.open(query, task.offset, &task.first, &task.last, out);
        self.answered_group.get_or_insert_with(|| (task.group, first.clone()));
        self.pending.push_front(Op::Execute { group: task.group, assumed: true, exchange });
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
            Work::Describe => matches!(kind, PARAMETER_DESCRIPTION | ROW_DESCRIPTION | NO_DATA),
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
        Op::Unknown(_) => !matches!(kind, AUTHENTICATION | BACKEND_KEY_DATA | NEGOTIATE_VERSION),
    }
}
