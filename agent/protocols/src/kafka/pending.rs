//! What waits for its response, and up to where a client has read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::ApiKey;
use super::event::Topic;
use crate::limits;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Pending<M> {
    pub(super) id: i32,
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) client_id: Option<Arc<str>>,
    /// Where it begins in its stream.
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) first: M,
    pub(super) last: M,
    pub(super) asked: Asked,
}

/// The exchanges that wait with it.
#[derive(Debug)]
pub(super) enum Asked {
    Produce {
        parts: Vec<(u64, Topic, i32)>,
        /// There are no others.
        whole: bool,
    },
    Fetch(u64),
    Commit(u64),
    Other(u64),
}

impl Asked {
    pub(super) fn exchanges(&self) -> impl Iterator<Item = u64> {
        let (parts, one) = match self {
            Self::Produce { parts, .. } => (parts.as_slice(), None),
            Self::Fetch(exchange) | Self::Commit(exchange) | Self::Other(exchange) => {
                (&[][..], Some(*exchange))
            }
        };
        parts.iter().map(|(exchange, ..)| *exchange).chain(one)
    }
}

/// Requests in their order, which is that of their responses.
pub(super) type Queue<M> = VecDeque<Pending<M>>;

/// Where a client goes on reading: in a fetch session it says so only when that changes.
#[derive(Debug, Default)]
pub(super) struct Positions(HashMap<(Topic, i32), i64>);

impl Positions {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn set(&mut self, topic: &Topic, partition: i32, offset: i64) {
        if offset < 0 {
            return;
        }
        let room = self.0.len() < limits::KAFKA_POSITIONS;
        match self.0.get_mut(&(topic.clone(), partition)) {
            Some(known) => *known = offset,
            None if room => {
                self.0.insert((topic.clone(), partition), offset);
            }
            None => {}
        }
    }

    pub(super) fn of(&self, topic: &Topic, partition: i32) -> Option<i64> {
        self.0.get(&(topic.clone(), partition)).copied()
    }
}
