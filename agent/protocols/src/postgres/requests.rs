//! The client's direction of a PostgreSQL connection: messages make requests.

use std::sync::Arc;

use super::{
    connection::{Connection, Out},
    detect::begins_request,
    event::{Encryption, End, Event, Fact, Query, QueryKind},
    fields,
    message::{CANCEL_CODE, GSS_CODE, SSL_CODE, frontend},
    pending::{Exchange, Op, Task, Work},
    statements::{self, Statement},
    stream::{Message, State, Step},
};
use crate::exchange::{Abandon, Direction, Skip};
use crate::limits;
use crate::stream::{Flow, Piece};

/// Bytes of `Execute` of the unnamed portal and `Sync`, alone and with `Describe` before or `Close`
/// between them: what drivers send behind a `Bind`.
const BEHIND_BIND_BYTES: [u64; 2] = [15, 22];

impl<M: Clone> Connection<M> {
    pub(super) fn advance_requests(
        &mut self,
        piece: &mut Piece<'_, M>,
        out: &mut Out<'_, M>,
    ) -> Flow {
        while !piece.is_empty() {
            match self.requests.state.at {
                State::Startup | State::Framed => {
                    if self.requests.state.at_boundary()
                        && matches!(self.pending.front(), Some(Op::Negotiate(_)))
                    {
                        // What it is depends on the server's answer.
                        return Flow::Hold;
                    }
                    match self.requests.state.take(Direction::Requests, piece) {
                        Step::More => {}
                        Step::Message(message) => self.request_message(&message, piece.mark, out),
                        Step::Lost => self.lose_request(piece, out),
                        Step::Broken => self.desync(Abandon::Broken, Skip::Resync, out),
                    }
                }
                State::Lost => {
                    self.suspected |= piece.start && begins_request(piece.bytes, piece.missing);
                    let bytes = piece.drain();
                    self.took(Direction::Requests, bytes, out);
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
        match message.kind {
            0 => return self.startup_message(message, last, out),
            frontend::COPY_DONE | frontend::COPY_FAIL if self.copy_in => {
                self.copy_in = false;
                return;
            }
            frontend::COPY_DONE | frontend::COPY_FAIL => return self.pending.push(Op::CopyEnd),
            // Ignored by a server that reads COPY data.
            frontend::SYNC | frontend::FLUSH if self.copy_in => return,
            frontend::FLUSH => return self.end_group(),
            frontend::TERMINATE => return self.fact(Fact::Terminate, last, out),
            frontend::SYNC | frontend::QUERY | frontend::FUNCTION_CALL => self.end_group(),
            frontend::PARSE | frontend::BIND | frontend::DESCRIBE | frontend::CLOSE => {}
            frontend::EXECUTE => {}
            // Passwords and COPY data are nobody's business.
            _ => return,
        }
        if self.admit(out) {
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
                let statement = Statement::new(text, cut, None);
                self.statements.simple_query(&statement);
                let query = query(QueryKind::Simple, &statement, None);
                self.request(query, offset, first, last, out, Op::Query);
            }
            frontend::FUNCTION_CALL => {
                let query = query(QueryKind::FunctionCall, &Statement::default(), None);
                self.request(query, offset, first, last, out, Op::FunctionCall);
            }
            frontend::EXECUTE => {
                let portal = fields::cstring(&message.body).map(|(portal, _)| portal);
                let portal = statements::name(portal);
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
                self.fact(fields::startup(rest), last, out);
                self.requests.state.at = State::Framed;
                self.pending.push(Op::Startup);
            }
            // Not captured, another version, or another protocol.
            _ => self.silence(Abandon::Broken, out),
        }
    }

    /// Whether a message that is answered can be taken up.
    fn admit(&mut self, out: &mut Out<'_, M>) -> bool {
        if self.responses.state.at == State::Lost {
            // Nothing was lost between its request and this one.
            if !self.end_by_tail(out) {
                if self.pipelined {
                    self.silence(Abandon::Pipelined, out);
                    return false;
                }
                // A client that doesn't pipeline has had all of the answer.
                self.infer_end(out);
            }
        }
        if self.pending.sync_points() > 0 {
            if self.responses.state.at == State::Desync && self.answer_cut {
                // The answer's end was not captured: it may well have come.
                self.pending.clear();
                self.restart_probe();
            } else {
                self.pipelined = true;
                if self.tainted {
                    self.silence(Abandon::Pipelined, out);
                    return false;
                }
            }
        }
        if self.pending.len() >= limits::POSTGRES_PENDING {
            self.desync(Abandon::TooMany, Skip::Resync, out);
            return false;
        }
        true
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
                        self.statements.define(text, cut, name)
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
                    Err(()) => Statement::default(),
                };
                match &portal {
                    Ok(portal) => self.statements.bind(portal.clone(), statement.clone()),
                    Err(()) => self.statements.forget_portals(),
                }
                self.bound = portal.clone().ok();
                let portal = portal.unwrap_or_default();
                (Work::Bind, statement, portal)
            }
            kind => {
                // One byte says of what.
                let (of, name) = name.and_then(<[u8]>::split_first).unzip();
                let name = statements::name(name).unwrap_or_default();
                let is_statement = of == Some(&b'S');
                let statement = if is_statement {
                    self.statements.get(name.clone())
                } else {
                    self.statements.portal(&name)
                };
                let portal = if is_statement { None } else { name.clone() };
                let work = match (kind, is_statement) {
                    (frontend::CLOSE, true) => {
                        self.statements.forget(&name);
                        Work::Close
                    }
                    (frontend::CLOSE, false) => {
                        self.statements.forget_portal(&name);
                        Work::Close
                    }
                    (_, true) => Work::DescribeStatement,
                    (_, false) => Work::DescribePortal,
                };
                (work, statement, portal)
            }
        };
        if self.responses.state.at == State::Ended {
            return;
        }
        let (group, last) = (self.group, last.clone());
        self.pending.push(Op::Work(Task { work, group, offset, first, last, statement, portal }));
    }

    fn execute(
        &mut self,
        portal: Result<Option<Arc<str>>, ()>,
        own_start: (u64, M),
        assumed: bool,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let (offset, first) = self.group_start.take().unwrap_or(own_start);
        let statement = match &portal {
            // What is passed over defines nothing either.
            Ok(portal) if !self.skipping => self.statements.portal(portal),
            _ => Statement::default(),
        };
        self.statements.run(&statement);
        let query = query(QueryKind::Execute, &statement, portal.unwrap_or_default());
        let group = self.group;
        self.end_group();
        let op = |exchange| Op::Execute { group, assumed, exchange };
        self.request(query, offset, &first, last, out, op);
    }

    /// Opens an exchange and waits for its answer, if there will be one.
    fn request(
        &mut self,
        query: Query,
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
                self.end(exchange.ordinal, last.clone(), End::NotExecuted, out);
            }
        } else {
            self.pending.push(op(exchange));
        }
    }

    /// Opens an exchange, unless none is reported for now.
    pub(super) fn open(
        &mut self,
        query: Query,
        offset: u64,
        first: &M,
        last: &M,
        out: &mut Out<'_, M>,
    ) -> Option<Exchange> {
        if self.probes > 0 {
            return None;
        }
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        self.open += 1;
        out(Event::Request { exchange, offset, first: first.clone(), query });
        out(Event::RequestEnd { exchange, last: last.clone() });
        Some(Exchange::new(exchange))
    }

    /// Where messages begin was lost.
    fn lose_request(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        let partial = self.requests.state.drop_partial();
        let behind = partial.saturating_add(piece.missing);
        let exact = self.bound.is_some() && BEHIND_BIND_BYTES.contains(&behind);
        let copying = self.copy_in && self.pending.len() == 1;
        let idle = self.pending.sync_points() == 0 && self.responses.state.at != State::Lost;
        let framed = self.requests.state.at == State::Framed;
        if !framed || self.probes > 0 || self.skipping || !(exact || copying || idle) {
            self.skip(Direction::Requests, partial, Skip::Resync, out);
            return self.desync(Abandon::Gap, Skip::Resync, out);
        }
        self.took(Direction::Requests, partial, out);
        if copying {
            // Its end is among what was lost; `ReadyForQuery` will tell.
            self.copy_in = false;
            if matches!(self.pending.front(), Some(Op::Execute { .. })) {
                self.pending.push(Op::Unknown);
            }
            return self.lost_request(piece, out);
        }
        if let Some(portal) = self.bound.clone() {
            let mark = piece.mark;
            self.execute(Ok(portal), (piece.offset, mark.clone()), true, mark, out);
        }
        self.pending.push(Op::Unknown);
        if exact {
            let bytes = piece.drain();
            self.took(Direction::Requests, bytes, out);
        } else {
            self.statements.forget_unnamed();
            self.lost_request(piece, out);
        }
    }

    fn lost_request(&mut self, piece: &mut Piece<'_, M>, out: &mut Out<'_, M>) {
        if self.pipelined {
            // How many requests are among what was lost can't be known.
            return self.silence(Abandon::Pipelined, out);
        }
        self.end_group();
        self.tainted = true;
        self.suspected = false;
        self.requests.state.at = State::Lost;
        let bytes = piece.drain();
        self.took(Direction::Requests, bytes, out);
    }
}

pub(super) fn query(kind: QueryKind, statement: &Statement, portal: Option<Arc<str>>) -> Query {
    Query {
        text: statement.text.clone(),
        cut: statement.cut,
        kind,
        statement: statement.name.clone(),
        portal,
    }
}
