//! What an `ErrorResponse` ends: the request that is due, or one that was to be executed later, and, in the
//! extended protocol, everything behind it up to `Sync`.

use super::{
    connection::{Connection, Finishing, Out},
    event::{End, Fact, PgError, Query, QueryKind},
    pending::{Exchange, Op, Task, Work},
    requests::query,
};

impl<M: Clone + 'static> Connection<M> {
    /// `ErrorResponse`.
    pub(super) fn failed(
        &mut self,
        error: Box<PgError>,
        first: &M,
        bytes: u64,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        self.copy_in = false;
        match self.pending.front_mut() {
            None | Some(Op::Negotiate(_) | Op::Startup) => {
                self.fact(Fact::Failure(error), last, out);
            }
            Some(Op::CopyEnd) => {}
            Some(Op::Unknown(parsed)) => {
                if let Some(task) = parsed.take() {
                    self.prepare_failed(&task, error, first, bytes, last, out);
                }
            }
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
        if self.pending.front().is_some_and(same_group) {
            let exchange = self.pending.pop().and_then(|mut op| op.take_exchange());
            self.exchange_failed(exchange, error, first, bytes, last, out);
        } else if let Some((_, task)) = failed {
            self.prepare_failed(&task, error, &first, bytes, last, out);
        }
    }

    /// What was to be executed later failed.
    fn prepare_failed(
        &mut self,
        task: &Task<M>,
        error: Box<PgError>,
        first: &M,
        bytes: u64,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
        let query = Query {
            fresh: task.work == Work::Parse,
            ..query(QueryKind::Prepare, &task.statement, task.portal.as_ref())
        };
        let exchange = self.open(query, task.offset, &task.first, &task.last, out);
        self.exchange_failed(exchange, error, first.clone(), bytes, last, out);
    }

    fn exchange_failed(
        &mut self,
        exchange: Option<Exchange>,
        error: Box<PgError>,
        first: M,
        bytes: u64,
        last: &M,
        out: &mut Out<'_, M>,
    ) {
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
                Some(Op::Sync | Op::Unknown(_)) => return,
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
                        self.over(ordinal, last.clone(), End::NotExecuted, out);
                    }
                }
                None => {}
            }
        }
    }
}
