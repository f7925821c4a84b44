//! Connections that were used under a slot whose process the agent did not know.
//!
//! When the process becomes known after all, its sockets are announced again, and an accepted one looks as
//! if it were new: an answer whose request nobody saw would then be given to the next request.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

/// How many are remembered: a cookie is never given twice, so the oldest may go.
const LIMIT: usize = 65_536;

/// Their cookies.
#[derive(Debug, Default)]
pub(super) struct Begun {
    order: VecDeque<u64>,
    cookies: FxHashSet<u64>,
}

impl Begun {
    /// Bytes passed on this connection.
    pub(super) fn insert(&mut self, cookie: u64) {
        if !self.cookies.insert(cookie) {
            return;
        }
        self.order.push_back(cookie);
        if self.order.len() > LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.cookies.remove(&oldest);
        }
    }

    /// Whether any did.
    pub(super) fn contains(&self, cookie: u64) -> bool {
        self.cookies.contains(&cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut begun = Begun::default();
        let limit = u64::try_from(LIMIT).unwrap();
        for cookie in (0..limit).chain(0..limit) {
            begun.insert(cookie);
        }
        assert!(begun.contains(0));
        begun.insert(limit);
        assert!(!begun.contains(0) && begun.contains(1) && begun.contains(limit));
        assert_eq!((begun.order.len(), begun.cookies.len()), (LIMIT, LIMIT));
    }
}
