//! What the server still has to answer, in the order in which the client sent it.

use std::collections::VecDeque;

use super::{
    event::{CommandTag, Completion, Encryption},
    statements::Statement,
    texts::Text,
};
use crate::limits;

/// An exchange that is not over.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) ordinal: u64,
    pub(super) answered: bool,
    pub(super) done: Completion,
    /// Rows seen of the present statement.
    pub(super) data_rows: u64,
    /// Whether it returns rows, be it none: where that was told.
    pub(super) returns: Option<bool>,
    /// A tag was not captured: the number of rows is not known.
    pub(super) tag_lost: bool,
}

impl Exchange {
    pub(super) fn new(ordinal: u64) -> Self {
        Self {
            ordinal,
            answered: false,
            done: Completion::default(),
            data_rows: 0,
            returns: None,
            tag_lost: false,
        }
    }

    /// The present statement is over, all of its answer was seen.
    pub(super) fn count_rows(&mut self, tag: Option<&CommandTag>, suspended: bool) {
        let counted = std::mem::take(&mut self.data_rows);
        let returns = self.returns.take();
        let command = tag.map(|tag| (&*tag.command, tag.rows));
        let returned = match (returns, command) {
            _ if counted > 0 || suspended => true,
            (Some(returns), _) => returns,
            // Nobody asked what it returns: none, or what makes a table, which says how many are in it.
            (None, Some(("SELECT", Some(0)))) => return,
            (None, Some(("FETCH", rows))) => rows == Some(0),
            (None, _) => false,
        };
        let affected = match command {
            Some(("SELECT", rows)) if !returned => rows,
            Some((command, rows)) if CommandTag::counts_affected(command) => rows,
            _ => None,
        };
        let add = |sum: &mut Option<u64>, rows: u64| {
            *sum = Some(sum.unwrap_or(0).saturating_add(rows));
        };
        if returned {
            add(&mut self.done.returned, counted);
        }
        self.tag_lost |= tag.is_none() && !suspended;
        match affected {
            _ if self.tag_lost => self.done.affected = None,
            Some(rows) => add(&mut self.done.affected, rows),
            None => {}
        }
    }
}

/// Messages that prepare an `Execute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    /// Which of both was not captured.
    Describe,
    Close,
}

/// Something that the server answers. The exchange is `None` where none is reported: while pairing is
/// not certain, or when it was abandoned.
#[derive(Debug)]
pub(super) enum Op<M> {
    /// `SSLRequest` or `GSSENCRequest`: one byte.
    Negotiate(Encryption),
    /// `StartupMessage`: up to `ReadyForQuery`.
    Startup,
    Work(Task<M>),
    Execute {
        group: u64,
        /// It was not captured; `Describe` may have been before it.
        assumed: bool,
        exchange: Option<Exchange>,
    },
    /// Up to `ReadyForQuery`.
    Query(Option<Exchange>),
    /// Up to `ReadyForQuery`.
    FunctionCall(Option<Exchange>),
    Sync,
    /// `CopyDone` or `CopyFail`: no answer of its own.
    CopyEnd,
    /// Messages that were not captured, up to `ReadyForQuery`; before them, in the same request, this was
    /// parsed.
    Unknown(Option<Box<Task<M>>>),
}

/// A message that prepares an `Execute`, with what a failure is reported by.
#[derive(Clone, Debug)]
pub(super) struct Task<M> {
    pub(super) work: Work,
    /// The messages from a `Parse`, or the last `Execute`, `Sync` or `Flush`, up to the next of these
    /// are one group.
    pub(super) group: u64,
    pub(super) offset: u64,
    pub(super) first: M,
    pub(super) last: M,
    pub(super) statement: Statement,
    pub(super) portal: Option<Text>,
    /// What it adds to [`Pending`]'s.
    pub(super) text_bytes: usize,
}

impl<M> Op<M> {
    /// Whether its answer ends with `ReadyForQuery`.
    pub(super) fn is_sync_point(&self) -> bool {
        matches!(
            self,
            Self::Startup | Self::Query(_) | Self::FunctionCall(_) | Self::Sync | Self::Unknown(_)
        )
    }

    /// The group of messages that it is in.
    pub(super) fn group(&self) -> Option<u64> {
        match self {
            Self::Work(task) => Some(task.group),
            Self::Execute { group, .. } => Some(*group),
            _ => None,
        }
    }

    pub(super) fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match self {
            Self::Execute { exchange, .. }
            | Self::Query(exchange)
            | Self::FunctionCall(exchange) => exchange.as_mut(),
            _ => None,
        }
    }

    pub(super) fn has_exchange(&self) -> bool {
        match self {
            Self::Execute { exchange, .. }
            | Self::Query(exchange)
            | Self::FunctionCall(exchange) => exchange.is_some(),
            _ => false,
        }
    }

    pub(super) fn take_exchange(&mut self) -> Option<Exchange> {
        match self {
            Self::Execute { exchange, .. }
            | Self::Query(exchange)
            | Self::FunctionCall(exchange) => exchange.take(),
            _ => None,
        }
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Pending<M> {
    ops: VecDeque<Op<M>>,
    sync_points: usize,
    /// Bytes of the texts that `ops` keep, those of one text in a row once, and the last such text.
    text_bytes: usize,
    last_text: Option<Text>,
}

impl<M> Pending<M> {
    pub(super) fn new() -> Self {
        Self { ops: VecDeque::new(), sync_points: 0, text_bytes: 0, last_text: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.ops.len() < limits::POSTGRES_PENDING
            && self.text_bytes < limits::POSTGRES_PENDING_TEXT_BYTES
    }

    /// How many `ReadyForQuery` are due.
    pub(super) fn sync_points(&self) -> usize {
        self.sync_points
    }

    pub(super) fn ends_with_its_only_sync_point(&self) -> bool {
        let last = self.ops.iter().rev().find(|op| !matches!(op, Op::CopyEnd));
        self.sync_points == 1 && last.is_some_and(Op::is_sync_point)
    }

    pub(super) fn push(&mut self, mut op: Op<M>) {
        // With nothing before it, a copy's end waits for nothing; behind another one it says no more.
        if matches!(op, Op::CopyEnd) && matches!(self.ops.back(), None | Some(Op::CopyEnd)) {
            return;
        }
        if let Op::Work(task) = &mut op
            && let Some(text) = &task.statement.text
            && !self.last_text.as_ref().is_some_and(|last| last.is_same(text))
        {
            task.text_bytes = text.len();
            self.text_bytes += text.len();
            self.last_text = Some(text.clone());
        }
        self.sync_points += usize::from(op.is_sync_point());
        self.ops.push_back(op);
    }

    pub(super) fn front(&self) -> Option<&Op<M>> {
        self.ops.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Op<M>> {
        self.ops.front_mut()
    }

    /// The last message, if it parsed or described a statement and is of this group.
    pub(super) fn parsed(&self, group: u64) -> Option<&Task<M>> {
        match self.ops.back() {
            Some(Op::Work(task))
                if task.group == group
                    && matches!(
                        task.work,
                        Work::Parse | Work::Describe | Work::DescribeStatement
                    ) =>
            {
                Some(task)
            }
            _ => None,
        }
    }

    /// What was parsed before messages that were not captured, which are due first.
    pub(super) fn take_parsed(&mut self) -> Option<Box<Task<M>>> {
        match self.ops.front_mut() {
            Some(Op::Unknown(parsed)) => parsed.take(),
            _ => None,
        }
    }

    /// What comes behind messages that were not captured may be another request's.
    pub(super) fn forget_parsed(&mut self) {
        for op in &mut self.ops {
            if let Op::Unknown(parsed) = op {
                *parsed = None;
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Op<M>> {
        self.ops.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Op<M>> {
        self.ops.iter_mut()
    }

    /// Takes the exchanges, not what the server owes.
    pub(super) fn take_exchanges(&mut self) -> Vec<Exchange> {
        self.ops.iter_mut().filter_map(Op::take_exchange).collect()
    }

    /// Puts something before the first.
    pub(super) fn push_front(&mut self, op: Op<M>) {
        self.sync_points += usize::from(op.is_sync_point());
        self.ops.push_front(op);
    }

    /// Takes the first, and the ends of copies behind it.
    pub(super) fn pop(&mut self) -> Option<Op<M>> {
        let op = self.ops.pop_front()?;
        self.sync_points -= usize::from(op.is_sync_point());
        if let Op::Work(task) = &op {
            self.text_bytes -= task.text_bytes;
        }
        while matches!(self.ops.front(), Some(Op::CopyEnd)) {
            self.ops.pop_front();
        }
        Some(op)
    }

    pub(super) fn clear(&mut self) -> VecDeque<Op<M>> {
        let ops = std::mem::take(&mut self.ops);
        *self = Self::new();
        ops
    }

    /// The first begins to copy from the client, and the server passes over `Sync` until the copy's end:
    /// those that are queued up to there will have no answer. Whether that end is here already; `None`: what is
    /// here instead is none, and the server will refuse it.
    pub(super) fn begin_copy_in(&mut self) -> Option<bool> {
        loop {
            match self.ops.get(1) {
                None => return Some(false),
                Some(Op::CopyEnd) => return Some(true),
                Some(Op::Sync) => {
                    self.ops.remove(1);
                    self.sync_points -= 1;
                }
                Some(_) => return None,
            }
        }
    }
}
