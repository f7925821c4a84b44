//! An exporter's books: what was offered to it, and where each of those spans ended.
//!
//! Part of the export stage. Every column is counted where its event happens and none is derived from
//! another, so that [`ExporterBooks::balanced`] can fail and a test can hold it to that.

use serde::Serialize;

/// Why a span that was offered will not be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The exporter's queue had no room.
    QueueFull,
    /// The receiver refused it: a partial success, or an error that may not be retried.
    Rejected,
    /// The receiver could not be reached, or asked for patience, for longer than the retry limit.
    RetriesExhausted,
    /// The agent stopped, or the exporter was taken out of the configuration, before the span was out.
    Shutdown,
    /// The file or the terminal could not be written.
    Io,
    /// It lay in the disk queue, and can't be read any more.
    Damaged,
}

/// Spans refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// See [`Refusal::QueueFull`].
    pub queue_full: u64,
    /// See [`Refusal::Rejected`].
    pub rejected: u64,
    /// See [`Refusal::RetriesExhausted`].
    pub retries_exhausted: u64,
    /// See [`Refusal::Shutdown`].
    pub shutdown: u64,
    /// See [`Refusal::Io`].
    pub io: u64,
    /// See [`Refusal::Damaged`].
    pub damaged: u64,
}

/// One exporter's books, in spans, as of one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExporterBooks {
    /// The target, as a person would write it after `--export`.
    pub name: String,
    /// It was taken out of the configuration.
    pub removed: bool,
    /// Spans made while it was not there: before it was put into the configuration, or since it was taken out.
    pub missed: u64,
    /// Spans handed to the exporter.
    pub offered: u64,
    /// Spans that an earlier agent left in the disk queue, those that can't be read any more included.
    pub restored: u64,
    /// Spans that left: acknowledged by the receiver, or written.
    pub exported: u64,
    /// Spans that will not leave.
    pub refused: Refused,
    /// Spans that are still here: waiting, in flight, or held until their trace is whole.
    pub queued: u64,
    /// Spans in the disk queue, those in flight from there included.
    pub on_disk: u64,
    /// The disk queue, where there is one.
    pub disk: Option<DiskBooks>,
    /// The latest failure, if there was one. Carries no credentials.
    pub last_error: Option<String>,
}

/// A disk queue, beside its spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskBooks {
    /// Bytes of its files.
    pub bytes: u64,
    /// The most that they may be.
    pub max_bytes: u64,
    /// Bytes in which no span was found when it was opened. How many spans they held is in `damaged` where what is
    /// around them tells.
    pub damaged_bytes: u64,
    /// How often it could not be used: opened, written, read or marked.
    pub failures: u64,
    /// Why, if it was so the last time: spans wait in memory only.
    pub error: Option<String>,
}

impl Refused {
    /// Every reason with its count, in a fixed order.
    pub fn by_reason(&self) -> [(Refusal, u64); 6] {
        [
            (Refusal::QueueFull, self.queue_full),
            (Refusal::Rejected, self.rejected),
            (Refusal::RetriesExhausted, self.retries_exhausted),
            (Refusal::Shutdown, self.shutdown),
            (Refusal::Io, self.io),
            (Refusal::Damaged, self.damaged),
        ]
    }

    /// Spans refused for any reason.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }

    fn sum(&mut self, other: &Self) {
        for (reason, spans) in other.by_reason() {
            self.add(reason, spans);
        }
    }

    pub(super) fn add(&mut self, reason: Refusal, spans: u64) {
        let column = match reason {
            Refusal::QueueFull => &mut self.queue_full,
            Refusal::Rejected => &mut self.rejected,
            Refusal::RetriesExhausted => &mut self.retries_exhausted,
            Refusal::Shutdown => &mut self.shutdown,
            Refusal::Io => &mut self.io,
            Refusal::Damaged => &mut self.damaged,
        };
        *column += spans;
    }
}

impl ExporterBooks {
    /// Adds the spans of another that ran behind the same outlet, later: what is no count is the later one's.
    pub(super) fn add(&mut self, later: &Self) {
        let Self { name: _, removed: _, missed, offered, restored, exported, refused, .. } = later;
        self.missed += missed;
        self.offered += offered;
        self.restored += restored;
        self.exported += exported;
        self.refused.sum(refused);
        self.queued += later.queued;
        self.on_disk += later.on_disk;
        if later.disk.is_some() {
            self.disk.clone_from(&later.disk);
        }
        self.last_error.clone_from(&later.last_error);
    }

    /// Whether every span that was offered or found on disk is accounted for.
    pub fn balanced(&self) -> bool {
        self.offered + self.restored
            == self.exported + self.refused.total() + self.queued + self.on_disk
    }
}

impl Refusal {
    /// The reason as metrics and `wirespan status` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Shutdown => "shutdown",
            Self::Io => "io",
            Self::Damaged => "damaged",
        }
    }
}
