//! Requests that are over, by their contexts: what goes on with their work long after is linked to them.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::call::Origin;

/// How many of one process are remembered: a quarter of a megabyte.
const LIMIT: usize = 4096;

/// A request that has its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) origin: Origin,
    /// The strand that answered it; 0: not known.
    pub(super) strand: u32,
}

/// The latest of one process.
#[derive(Debug, Default)]
pub(super) struct Finished {
    order: VecDeque<u64>,
    requests: FxHashMap<u64, Request>,
}

impl Finished {
    /// The last request of this context is over.
    pub(super) fn insert(&mut self, context: u64, request: Request) {
        if self.requests.insert(context, request).is_some() {
            return;
        }
        self.order.push_back(context);
        if self.order.len() > LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.requests.remove(&oldest);
        }
    }

    /// The last that was over in this context, if it is remembered.
    pub(super) fn get(&self, context: u64) -> Option<Request> {
        self.requests.get(&context).copied()
    }
}

#[cfg(test)]
mod tests {
    use wirespan_protocols::w3c::{SpanId, TraceId};

    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let request = |number: u8| Request {
            origin: Origin { trace_id: TraceId([number; 16]), span_id: SpanId([number; 8]) },
            strand: 0,
        };
        let mut finished = Finished::default();
        let limit = u64::try_from(LIMIT).unwrap();
        (0..=limit).for_each(|context| finished.insert(context, request(1)));
        finished.insert(limit, request(2));
        assert_eq!(finished.get(0), None);
        assert_eq!(finished.get(1), Some(request(1)));
        assert_eq!(finished.get(limit), Some(request(2)));
        assert_eq!((finished.order.len(), finished.requests.len()), (LIMIT, LIMIT));
    }
}
