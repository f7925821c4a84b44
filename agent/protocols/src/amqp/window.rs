//! What waits for its delivery tag: numbers that rise, settled one by one or up to one.
//!
//! Knows nothing of what waits. Amortised constant time a number, whatever the order of settling.

use std::collections::VecDeque;

/// Entries by number.
#[derive(Debug)]
pub(super) struct Window<T> {
    entries: VecDeque<(u64, Option<T>)>,
    live: usize,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), live: 0 }
    }
}

impl<T> Window<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Enters one; its number is above all before it, or it is not entered.
    pub(super) fn push(&mut self, tag: u64, value: T) -> Result<(), T> {
        if self.entries.back().is_some_and(|&(last, _)| last >= tag) {
            return Err(value);
        }
        if self.entries.len() >= 64 && self.entries.len() > 2 * self.live {
            // Settled ones behind one that never is: as many as were entered since the last time.
            self.entries.retain(|(_, value)| value.is_some());
        }
        self.entries.push_back((tag, Some(value)));
        self.live += 1;
        Ok(())
    }

    pub(super) fn get(&self, tag: u64) -> Option<&T> {
        let at = self.entries.binary_search_by_key(&tag, |&(tag, _)| tag).ok()?;
        self.entries.get(at)?.1.as_ref()
    }

    /// Takes this one out.
    pub(super) fn take(&mut self, tag: u64) -> Option<T> {
        let at = self.entries.binary_search_by_key(&tag, |&(tag, _)| tag).ok()?;
        let value = self.entries.get_mut(at)?.1.take();
        self.live -= usize::from(value.is_some());
        self.tidy();
        value
    }

    /// Takes the oldest one out, if its number is this at most.
    pub(super) fn take_first(&mut self, up_to: u64) -> Option<T> {
        self.tidy();
        self.entries.front().filter(|&&(tag, _)| tag <= up_to)?;
        let (_, value) = self.entries.pop_front()?;
        self.live -= usize::from(value.is_some());
        value
    }

    /// Those that wait, the oldest first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|(_, value)| value.as_mut())
    }

    fn tidy(&mut self) {
        while self.entries.front().is_some_and(|(_, value)| value.is_none()) {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_settled_in_any_order() {
        let mut window = Window::default();
        for tag in [1, 2, 3, 5, 8] {
            window.push(tag, tag).unwrap();
        }
        assert_eq!(window.push(8, 8), Err(8));
        assert_eq!(
            (window.take(3), window.take(3), window.take(4), window.len()),
            (Some(3), None, None, 4)
        );
        assert_eq!(window.take_first(5), Some(1));
        assert_eq!(window.take_first(5), Some(2));
        assert_eq!(window.take_first(5), Some(5));
        assert_eq!(window.take_first(5), None);
        assert_eq!((window.take(8), window.len(), window.entries.len()), (Some(8), 0, 0));
    }

    #[test]
    fn one_that_is_never_settled_keeps_nothing_else() {
        let mut window = Window::default();
        window.push(1, ()).unwrap();
        for tag in 2..100_000 {
            window.push(tag, ()).unwrap();
            window.take(tag);
        }
        assert_eq!(window.len(), 1);
        assert!(window.entries.len() <= 66, "{}", window.entries.len());
    }
}
