//! The client's direction of a PostgreSQL connection: messages make requests.

use std::borrow::Cow;

use super::{
    connection::{Connection, Out},
    detect::begins_request,
    event::{Encryption, End, Event, Fact, Query, QueryKind},
    fields,
    message::{CANCEL_CODE, GSS_CODE, SSL_CODE, frontend},
    pending::{Exchange, Op, Task, Work},
    resync::{Certainty, Turns},
    statements::{self, Statement},
    stream::{Message, State, Step},
    texts::Text,
};
use crate::exchange::{Abandon, Direction, Skip};
use crate::follow::Follow;
use crate::stream::{Flow, Piece};

impl<M: Clone + 'static> Connection<M> {
    pub(super) fn advance_requests(
        &mut self,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        self.look_for_turns(piece);
        while !piece.is_empty() {
            let at = self.requests.state.at;
            match at {
                State::Startup | State::Framed => {
                    if self.requests.state.at_boundary()
                        && matches!(self.pending.front(), Some(Op::Negotiate(_)))
                    {
                        // What it is depends on the server's answer.
                        return Flow::Hold;
                    }
                    match self.requests.state.take(Direction::Requests, piece) {
                        Step::More => {}
                        Step::Message(message) => {
                            self.request_message(&message, piece.mark, out);
                            self.requests.state.recycle(message);
                        }
                        Step::Lost => self.lose_request(piece, out),
                        Step::Broken => self.desync(Abandon::Broken, Skip::Resync, out),
                    }
                }
                State::Lost
                    if piece.start
                        && begins_request(piece.bytes, piece.missing)
                        && self.next_round(out) => {}
                // Behind its answer: of another request.
                State::Lost if self.responses.state.at == State::Lost => {
                    self.desync(Abandon::Gap, Skip::Resync, out);
                }
                State::Lost => {
                    let bytes = piece.drain();
                    if self.suspected {
                        self.skip(Direction::Requests, bytes, Skip::Resync, out);
                    } else {
                        self.took(Direction::Requests, bytes, out);
                    }
                }
                State::Expect if piece.start && begins_request(piece.bytes, piece.missing) => {
                    self.requests.state.at = State::Framed;
                }
                // A request that is not recognised: its answer would be the next one's.
                State::Expect => self.desync(Abandon::Gap, Skip::Resync, out),
                State::Desync => self.resync_requests(piece, out),
                State::Silent | State::Ended => {
                    let bytes = piece.drain();
                    self.skip(Direction::Requests, bytes, Skip::Resync, out);
                }
                State::Opaque => {
                    let bytes = piece.drain();
                    self.skip(Direction::Requests, bytes, Skip::AfterUpgrade, out);
                }
            }
        }
        Flow::Taken
    }

    fn request_message(&mut self, message: &Message<'_, M>, last: &M, out: &mut Out<'_, M>) {
        self.took(Direction::Requests, message.bytes, out);
        self.may_copy = message.kind == frontend::COPY_DATA;
        match message.kind {
            0 => return self.startup_message(message, last, out),
            frontend::COPY_DONE | frontend::COPY_FAIL if self.copy_in => {
                self.copy_in = false;
                return;
            }
            frontend::COPY_DONE | frontend::COPY_FAIL => return self.pending.push(Op::CopyEnd),
            // Ignored by a server that reads COPY data.
            frontend::SYNC | frontend::FLUSH if self.copy_in => return,
            frontend::FLUSH => return self.end_turn(),
            frontend::TERMINATE => return self.fact(Fact::Terminate, last, out),
            frontend::SYNC | frontend::QUERY | frontend::FUNCTION_CALL => {
                self.end_turn();
                self.statements.end_turn();
                if message.kind != frontend::SYNC {
                    self.statements.executes_another();
                }
            }
            frontend::PARSE | frontend::BIND | frontend::DESCRIBE | frontend::CLOSE => {}
            frontend::EXECUTE => {}
            // Passwords and COPY data are nobody's business.
            _ => return,
        }
        if self.copy_in {
            // A server that reads COPY data refuses anything else, and may have read several of these by then.
            return self.desync(Abandon::Broken, Skip::Resync, out);
        }
        if self.admit(message.kind, out) {
            self.answered_message(message, last, out);
        }
    }

    /// A message that the server answers.
    fn answered_message(&mut self, message: &Message<'_, M>, last: &M, out: &mut Out<'_, M>) {
        let (offset, first) = (message.offset, &message.first);
        match message.kind {
            frontend::SYNC => {
                self.skipping = false;
                self.pending.push(Op::Sync);
            }
            frontend::QUERY => {
                let (text, cut) = fields::text(&message.body);
                let verb = text.trim_start().as_bytes().get(..4);
                self.may_copy = verb.is_some_and(|verb| verb.eq_ignore_ascii_case(b"copy"));
                let statement = self.statements.unnamed(&text, cut);
                self.statements.simple_query(&statement);
                let query = Query { fresh: true, ..query(QueryKind::Simple, &statement, None) };
                self.request(query, offset, first, last, out, Op::Query);
            }
            frontend::FUNCTION_CALL => {
                let statement = Statement::default();
                let query = query(QueryKind::FunctionCall, &statement, None);
                self.request(query, offset, first, last, out, Op::FunctionCall);
            }
            frontend::EXECUTE => {
                let portal = fields::cstring(&message.body).map(|(portal, _)| portal);
                let portal = statements::name(portal).map(|name| self.statements.keep(name));
                self.execute(portal, (offset, first.clone()), false, last, out);
            }
            _ => self.work(message, last),
        }
    }

    fn startup_message(&mut self, message: &Message<'_, M>, last: &M, out: &mut Out<'_, M>) {
        let (code, rest) = message.body.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        match u32::from_be_bytes(*code) {
            SSL_CODE => self.pending.push(Op::Negotiate(Encryption::Tls)),
            GSS_CODE => self.pending.push(Op::Negotiate(Encryption::Gss)),
            CANCEL_CODE => self.fact(Fact::Cancel, last, out),
            code if fields::is_version_3(code) => {
                let fact = fields::startup(rest);
                if let Fact::Startup { application_name: Some(name), .. } = &fact
                    && **name == *"postgres.js"
                {
                    self.turns = Turns::Pipelines;
                }
                self.fact(fact, last, out);
                self.requests.state.at = State::Framed;
                self.pending.push(Op::Startup);
            }
            // Not captured, another version, or another protocol.
            _ => self.silence(out),
        }
    }

    /// Whether a message that is answered can be taken up.
    fn admit(&mut self, kind: u8, out: &mut Out<'_, M>) -> bool {
        if self.responses.state.at == State::Lost {
            if self.turns == Turns::Takes || self.answer_has_ended() {
                self.end_lost_answer(true, out);
            } else {
                self.desync(Abandon::Unpaired, Skip::Resync, out);
            }
            if self.requests.state.at != State::Framed {
                return false;
            }
        }
        let due = self.pending.sync_points() > 0;
        if due && self.responses.state.at == State::Desync && self.answer_cut {
            // The answer's end was not captured: it may well have come.
            self.pending.clear();
            self.lose_certainty();
        } else if due || self.pipelines_by(kind) {
            self.turns = Turns::Pipelines;
            self.turns_unproven = false;
            if self.tainted {
                self.desync(Abandon::Pipelined, Skip::Resync, out);
                return false;
            }
        }
        if !self.pending.has_room() {
            self.desync(Abandon::TooMany, Skip::Resync, out);
            return false;
        }
        true
    }

    /// Whether a message shows that the client sends on without the answers. Who takes turns may execute one
    /// statement many times in a turn (asyncpg's `executemany`), unless that is what its pipelines look like.
    fn pipelines_by(&self, kind: u8) -> bool {
        let goes_on = match kind {
            frontend::PARSE => true,
            frontend::BIND | frontend::EXECUTE => self.turns_likely,
            _ => false,
        };
        goes_on && self.executed
    }

    fn group_start(&mut self, offset: u64, first: &M) -> (u64, M) {
        self.group_start.get_or_insert_with(|| (offset, first.clone())).clone()
    }

    /// `Parse`, `Bind`, `Describe`, `Close`.
    fn work(&mut self, message: &Message<'_, M>, last: &M) {
        if message.kind == frontend::PARSE && self.group_start.is_some() {
            // What came before is not of this statement.
            self.end_group();
        }
        let (offset, first) = self.group_start(message.offset, &message.first);
        if self.skipping {
            return;
        }
        let body: &[u8] = &message.body;
        let (name, rest) = match fields::cstring(body) {
            Some((name, rest)) => (Some(name), rest),
            None => (None, &[][..]),
        };
        let (work, statement, portal) = match message.kind {
            frontend::PARSE => {
                let statement = match statements::name(name) {
                    Ok(name) => {
                        let (text, cut) = fields::text(rest);
                        self.statements.define(&text, cut, name)
                    }
                    Err(()) => {
                        // Any, the unnamed one too.
                        self.statements.forget_unnamed();
                        Statement::default()
                    }
                };
                (Work::Parse, statement, None)
            }
            frontend::BIND => {
                let portal = statements::name(name);
                let statement = fields::cstring(rest).map(|(statement, _)| statement);
                let statement = match statements::name(statement) {
                    Ok(name) => self.statements.get(name),
                    // Not captured: of what was parsed just before, if anything was.
                    Err(()) => self.parsed(),
                };
                if portal.is_err() {
                    self.statements.forget_portals();
                }
                let portal = self.statements.keep(portal.unwrap_or_default());
                self.statements.bind(portal.clone(), statement.clone());
                self.bound = Some(portal.clone());
                self.parameters = match fields::cstring(rest) {
                    Some((_, rest)) if self.keeps_parameters => Some(fields::parameters(rest)),
                    _ => None,
                };
                (Work::Bind, statement, portal)
            }
            kind => {
                // One byte says of what.
                let of = body.first();
                let name = statements::name(name.and_then(|name| name.get(1..)));
                let (statement, portal) = match (of, name) {
                    (Some(b'S'), Ok(name)) => (self.statements.get(name), None),
                    (Some(b'P'), Ok(name)) => {
                        (self.statements.portal(name), self.statements.keep(name))
                    }
                    _ => (self.parsed(), None),
                };
                let work = match (kind, of) {
                    (frontend::CLOSE, _) => Work::Close,
                    (_, Some(b'S')) => Work::DescribeStatement,
                    (_, Some(b'P')) => Work::DescribePortal,
                    _ => Work::Describe,
                };
                if work == Work::Close {
                    match (of, name) {
                        (Some(b'S'), Ok(name)) => self.statements.forget(name),
                        (Some(b'P'), Ok(name)) => self.statements.forget_portal(name),
                        _ => {}
                    }
                }
                (work, statement, portal)
            }
        };
        if self.responses.state.at == State::Ended {
            return;
        }
        let (group, last) = (self.group, last.clone());
        self.pending.push(Op::Work(Task {
            work,
            group,
            offset,
            first,
            last,
            statement,
            portal,
            text_bytes: 0,
        }));
    }

    /// What was parsed just before, in the same group.
    fn parsed(&self) -> Statement {
        let parsed = self.pending.parsed(self.group);
        parsed.map(|task| task.statement.clone()).unwrap_or_default()
    }

    pub(super) fn execute(
        &mut self,
        portal: Result<Option<Text>, ()>,
        own_start: (u64, M),
        assumed: bool,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let (offset, first) = self.group_start.take().unwrap_or(own_start);
        let statement = match &portal {
            // What is passed over defines nothing either.
            Ok(portal) if !self.skipping => self.statements.portal(portal.as_deref()),
            _ => Statement::default(),
        };
        let fresh = self.statements.first_execution(&statement);
        self.statements.run(&statement);
        let portal = portal.unwrap_or_default();
        let mut query = query(QueryKind::Execute, &statement, portal.as_ref());
        // Several portals may be bound: the parameters are the last one's.
        let is_bound = self.bound.as_ref() == Some(&portal);
        query.parameters = self.parameters.take().filter(|_| is_bound);
        query.fresh = fresh;
        let group = self.group;
        self.end_group();
        self.executed = true;
        let returns = statement.returns;
        let op = |exchange: Option<Exchange>| {
            let exchange = exchange.map(|exchange| Exchange { returns, ..exchange });
            Op::Execute { group, assumed, exchange }
        };
        self.request(query, offset, &first, last, out, op);
    }

    /// Opens an exchange and waits for its answer, if there will be one.
    fn request(
        &mut self,
        query: Query<'_>,
        offset: u64,
        first: &M,
        last: &M,
        out: &mut Out<'_, M>,
        op: impl FnOnce(Option<Exchange>) -> Op<M>,
    ) {
        let exchange = self.open(query, offset, first, last, out);
        if self.responses.state.at == State::Ended {
            if let Some(exchange) = exchange {
                self.close(exchange, self.responses.ended.flatten(), last, out);
            }
        } else if self.skipping {
            if let Some(exchange) = exchange {
                self.over(exchange.ordinal, last.clone(), End::NotExecuted, out);
            }
        } else {
            self.pending.push(op(exchange));
        }
    }

    /// Opens an exchange, unless none is reported for now.
    pub(super) fn open(
        &mut self,
        query: Query<'_>,
        offset: u64,
        first: &M,
        last: &M,
        out: &mut Out<'_, M>,
    ) -> Option<Exchange> {
        if self.certainty != Certainty::Certain {
            return None;
        }
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        self.open += 1;
        out(Event::Request { exchange, offset, first: first.clone(), query });
        out(Event::RequestEnd { exchange, last: last.clone() });
        Some(Exchange::new(exchange))
    }
}

pub(super) fn query<'a>(
    kind: QueryKind,
    statement: &'a Statement,
    portal: Option<&'a Text>,
) -> Query<'a> {
    let borrowed = |text: &'a Text| Cow::Borrowed(&**text);
    Query {
        text: statement.text.as_ref().map(borrowed),
        cut: statement.cut,
        kind,
        statement: statement.name.as_ref().map(borrowed),
        portal: portal.map(borrowed),
        parameters: None,
        fresh: false,
        poll: statement.poll,
    }
}
