//! What the server still has to answer, in the order in which the client sent it.

use std::{collections::VecDeque, sync::Arc};

use super::{
    event::{Completion, Encryption},
    statements::Statement,
};

/// An exchange that is not over.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) ordinal: u64,
    pub(super) answered: bool,
    pub(super) done: Completion,
    /// Rows seen of the present statement.
    pub(super) data_rows: u64,
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
            tag_lost: false,
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
    /// Messages that were not captured, up to `ReadyForQuery`.
    Unknown,
}

/// A message that prepares an `Execute`, with what a failure is reported by.
#[derive(Debug)]
pub(super) struct Task<M> {
    pub(super) work: Work,
    /// The messages from a `Parse`, or the last `Execute`, `Sync` or `Flush`, up to the next of these
    /// are one group.
    pub(super) group: u64,
    pub(super) offset: u64,
    pub(super) first: M,
    pub(super) last: M,
    pub(super) statement: Statement,
    pub(super) portal: Option<Arc<str>>,
}

impl<M> Op<M> {
    /// Whether its answer ends with `ReadyForQuery`.
    pub(super) fn is_sync_point(&self) -> bool {
        matches!(
            self,
            Self::Startup | Self::Query(_) | Self::FunctionCall(_) | Self::Sync | Self::Unknown
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
}

impl<M> Pending<M> {
    pub(super) fn new() -> Self {
        Self { ops: VecDeque::new(), sync_points: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// How many `ReadyForQuery` are due.
    pub(super) fn sync_points(&self) -> usize {
        self.sync_points
    }

    pub(super) fn ends_with_its_only_sync_point(&self) -> bool {
        self.sync_points == 1 && self.ops.back().is_some_and(Op::is_sync_point)
    }

    pub(super) fn push(&mut self, op: Op<M>) {
        // With nothing before it, a copy's end waits for nothing.
        if self.ops.is_empty() && matches!(op, Op::CopyEnd) {
            return;
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

    pub(super) fn iter(&self) -> impl Iterator<Item = &Op<M>> {
        self.ops.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Op<M>> {
        self.ops.iter_mut()
    }

    /// Takes the first, and the ends of copies behind it.
    pub(super) fn pop(&mut self) -> Option<Op<M>> {
        let op = self.ops.pop_front()?;
        self.sync_points -= usize::from(op.is_sync_point());
        while matches!(self.ops.front(), Some(Op::CopyEnd)) {
            self.ops.pop_front();
        }
        Some(op)
    }

    pub(super) fn clear(&mut self) -> VecDeque<Op<M>> {
        self.sync_points = 0;
        std::mem::take(&mut self.ops)
    }

    /// The first begins to copy from the client, and the server passes over `Sync` until the copy's end:
    /// those that are queued up to there will have no answer. Whether that end is here already.
    pub(super) fn begin_copy_in(&mut self) -> bool {
        let is_end = |op: &Op<M>| matches!(op, Op::CopyEnd);
        let end = self.ops.iter().position(is_end);
        let mut at = 0;
        self.ops.retain(|op| {
            let passed_over = at > 0 && end.is_none_or(|end| at < end) && matches!(op, Op::Sync);
            at += 1;
            !passed_over
        });
        self.sync_points = self.ops.iter().filter(|op| op.is_sync_point()).count();
        end.is_some()
    }
}
