//! The engine's accounts: every call it was told of is in exactly one column.

use crate::call::{ParentStatus, Withheld};

/// What became of the calls. See [`Books::balanced`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Calls whose start was told.
    pub started: u64,
    /// Calls whose end was told.
    pub ended: u64,
    /// Calls that were given up before they were placed.
    pub abandoned: u64,
    /// Calls that ended without a span to place.
    pub silent: u64,
    /// Calls dropped before they were placed, because a cap was reached.
    pub evicted: u64,
    /// Of the abandoned and evicted, those whose end had been told.
    pub dropped_after_end: u64,
    /// Placed with a certain parent.
    pub certain: u64,
    /// Placed as roots.
    pub root: u64,
    /// Placed without a parent, by reason.
    pub withheld: WithheldBooks,
    /// Calls whose end was not told yet. Counted from the calls held.
    pub open: u64,
    /// Ended calls that are not placed yet. Counted from the calls held.
    pub waiting: u64,
    /// Placements that name a parent which was abandoned afterwards.
    pub dangling: u64,
    /// Server calls whose client was told only after the server's trace id had been given out.
    pub late_joins: u64,
    /// Messages that were sent and forgotten before they were received, because a cap was reached. Not part of
    /// the balance.
    pub messages_forgotten: u64,
    /// Events that fit no call held: unknown, twice, or after eviction. Not part of the balance.
    pub unmatched: u64,
}

/// Withheld parents, one column a reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WithheldBooks {
    /// [`Withheld::Concurrent`].
    pub concurrent: u64,
    /// [`Withheld::Ambient`].
    pub ambient: u64,
    /// [`Withheld::LateWork`].
    pub late_work: u64,
    /// [`Withheld::Opaque`].
    pub opaque: u64,
    /// [`Withheld::Lost`].
    pub lost: u64,
}

impl WithheldBooks {
    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { concurrent, ambient, late_work, opaque, lost } = self;
        concurrent + ambient + late_work + opaque + lost
    }
}

impl Books {
    /// Calls placed.
    #[must_use]
    pub fn placed(&self) -> u64 {
        self.certain + self.root + self.withheld.total()
    }

    /// Whether every call is accounted for: what was started is open, waiting, given up or placed, and
    /// what ended is waiting, placed or given up after its end.
    #[must_use]
    pub fn balanced(&self) -> bool {
        let gone = self.abandoned + self.silent + self.evicted;
        self.started == self.open + self.waiting + gone + self.placed()
            && self.ended == self.waiting + self.placed() + self.dropped_after_end
    }

    pub(super) fn place(&mut self, status: ParentStatus) {
        let column = match status {
            ParentStatus::Certain => &mut self.certain,
            ParentStatus::Root => &mut self.root,
            ParentStatus::Withheld(reason) => match reason {
                Withheld::Concurrent => &mut self.withheld.concurrent,
                Withheld::Ambient => &mut self.withheld.ambient,
                Withheld::LateWork => &mut self.withheld.late_work,
                Withheld::Opaque => &mut self.withheld.opaque,
                Withheld::Lost => &mut self.withheld.lost,
            },
        };
        *column += 1;
    }
}
