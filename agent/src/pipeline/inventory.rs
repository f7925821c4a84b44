//! When the sockets of processes that were running before are listed.
//!
//! That takes longer the more files are open on the node, and the thread that does it reads the rings: whoever executes
//! ever new processes must not keep it busy. What is used until then counts as older than the agent.

/// Listing takes one part of time in so many, at most.
const PARTS: u64 = 20;

/// But what was asked for waits no longer than this: a request that was read before its process was marked is known
/// from the list alone, and calls are placed a second after they began.
const LONGEST_PAUSE_NS: u64 = 250_000_000;

/// Whether a list is wanted, and from when on there may be one.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    asked: bool,
    earliest_ns: u64,
}

impl Inventory {
    /// A process that was running before is traced.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether it is to be taken now.
    pub(super) fn is_due_at(&self, now_ns: u64) -> bool {
        self.asked && now_ns >= self.earliest_ns
    }

    /// It was taken.
    pub(super) fn took(&mut self, began_ns: u64, ended_ns: u64) {
        let pause_ns = ended_ns.saturating_sub(began_ns).saturating_mul(PARTS);
        self.asked = false;
        self.earliest_ns = ended_ns.saturating_add(pause_ns.min(LONGEST_PAUSE_NS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_at_once_and_then_for_a_part_of_the_time() {
        let mut inventory = Inventory::default();
        assert!(!inventory.is_due_at(5), "nobody asked");
        inventory.ask();
        assert!(inventory.is_due_at(5));
        inventory.took(1_000, 1_100);
        inventory.ask();
        assert!(!inventory.is_due_at(3_099) && inventory.is_due_at(3_100));
        inventory.took(1_000_000_000, 2_000_000_000);
        assert!(!inventory.is_due_at(u64::MAX), "all that asked are listed");
        inventory.ask();
        assert!(inventory.is_due_at(2_000_000_000 + LONGEST_PAUSE_NS));
    }
}
