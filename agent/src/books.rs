//! Honest accounting: what became of every operation, byte, call and span, for `wirespan status`.
//!
//! Every column is counted where the thing happens. None is computed from others, so that [`Status::check`]
//! can fail, and the tests hold it to that.

use serde::{Deserialize, Serialize};
use wirespan_ebpf::{ProcessSlot, uncaptured};

use crate::capture::HookCost;
use crate::connection::Bytes;
use crate::correlation;
use crate::export::ExporterBooks;
use crate::runtime::node;

/// What the kernel programs counted for a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelBooks {
    /// Operations that moved bytes.
    pub operations_seen: u64,
    /// Of those, lost because a ring buffer was full.
    pub operations_dropped: u64,
    /// Bytes the operations moved.
    pub bytes_seen: u64,
    /// Bytes copied.
    pub bytes_captured: u64,
    /// Bytes left in the process because the burst's budget was used up.
    pub bytes_over_budget: u64,
    /// Bytes not copied because the system call doesn't tell where they are.
    pub bytes_other_syscall: u64,
    /// Bytes not copied because the buffer could not be read, or was beyond the 128th of a vector.
    pub bytes_unreadable: u64,
    /// Bytes not copied because they were urgent or discarded by the kernel.
    pub bytes_special: u64,
    /// Bytes of dropped operations.
    pub bytes_dropped: u64,
    /// Receives that only peeked.
    pub peeks: u64,
    /// Socket and end records lost.
    pub records_dropped: u64,
}

impl From<&ProcessSlot> for KernelBooks {
    fn from(slot: &ProcessSlot) -> Self {
        let sum = |columns: &[u64; 2]| columns.iter().sum();
        let reason = |reason: u8| {
            slot.uncaptured_bytes.get(usize::from(reason)).copied().unwrap_or_default()
        };
        Self {
            operations_seen: sum(&slot.seen_operations),
            operations_dropped: sum(&slot.dropped_operations),
            bytes_seen: sum(&slot.seen_bytes),
            bytes_captured: sum(&slot.captured_bytes),
            bytes_over_budget: reason(uncaptured::BUDGET),
            bytes_other_syscall: reason(uncaptured::SYSCALL),
            bytes_unreadable: reason(uncaptured::FAULT),
            bytes_special: reason(uncaptured::SPECIAL),
            bytes_dropped: sum(&slot.dropped_bytes),
            peeks: slot.peeks,
            records_dropped: slot.dropped_records,
        }
    }
}

/// What the agent counted for a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentBooks {
    /// Operations read from the ring buffers.
    pub operations: u64,
    /// Bytes they moved; where those ended follows.
    pub bytes: u64,
    /// Bytes of them that came along.
    pub bytes_captured: u64,
    /// Handed to a parser.
    pub bytes_parsed: u64,
    /// On connections whose protocol isn't known.
    pub bytes_not_understood: u64,
    /// Waiting for an earlier record or a decision.
    pub bytes_waiting: u64,
    /// Bytes that TCP's sequence shows and no operation moved. Not part of `bytes`.
    pub bytes_unseen: u64,
    /// Of the parsed: in messages.
    pub bytes_in_messages: u64,
    /// Of the parsed: in no message.
    pub bytes_skipped: u64,
    /// Of the parsed: in a message that isn't complete.
    pub bytes_pending: u64,
    /// Calls begun.
    pub calls: u64,
    /// Calls that became a span.
    pub calls_spans: u64,
    /// Calls that make no span by their nature: an idle worker's polls, statements that the server passed
    /// over.
    pub calls_silent: u64,
    /// Calls that were placed and make no span because a rule says so: ignored, or of a protocol that is off, or
    /// beneath such a one.
    pub calls_ignored: u64,
    /// Calls that were placed in a trace that is not sampled.
    pub calls_unsampled: u64,
    /// Calls given up: lost bytes, a desynchronised stream, too many.
    pub calls_abandoned: u64,
    /// Calls under way, or over and waiting for what decides their parent: what the agent holds now.
    pub calls_open: u64,
    /// Exchanges that are somebody's telemetry, and are no calls.
    pub telemetry_exchanges: u64,
    /// Connections whose protocol isn't known.
    pub connections_not_understood: u64,
    /// Calls that were placed, with a span or without, under a certain parent.
    pub parents_certain: u64,
    /// Roots by nature.
    pub parents_none: u64,
    /// Calls that were placed and whose parent was withheld.
    pub parents_withheld: u64,
}

impl AgentBooks {
    /// Adds another's books.
    pub fn add(&mut self, other: &Self) {
        grow(&mut self.operations, other.operations);
        grow(&mut self.bytes, other.bytes);
        grow(&mut self.bytes_captured, other.bytes_captured);
        grow(&mut self.bytes_parsed, other.bytes_parsed);
        grow(&mut self.bytes_not_understood, other.bytes_not_understood);
        grow(&mut self.bytes_waiting, other.bytes_waiting);
        grow(&mut self.bytes_unseen, other.bytes_unseen);
        grow(&mut self.bytes_in_messages, other.bytes_in_messages);
        grow(&mut self.bytes_skipped, other.bytes_skipped);
        grow(&mut self.bytes_pending, other.bytes_pending);
        grow(&mut self.calls, other.calls);
        grow(&mut self.calls_spans, other.calls_spans);
        grow(&mut self.calls_silent, other.calls_silent);
        grow(&mut self.calls_ignored, other.calls_ignored);
        grow(&mut self.calls_unsampled, other.calls_unsampled);
        grow(&mut self.calls_abandoned, other.calls_abandoned);
        grow(&mut self.calls_open, other.calls_open);
        grow(&mut self.telemetry_exchanges, other.telemetry_exchanges);
        grow(&mut self.connections_not_understood, other.connections_not_understood);
        grow(&mut self.parents_certain, other.parents_certain);
        grow(&mut self.parents_none, other.parents_none);
        grow(&mut self.parents_withheld, other.parents_withheld);
    }

    /// Adds what became of a connection's bytes.
    pub fn add_bytes(&mut self, bytes: &Bytes) {
        grow(&mut self.bytes_parsed, bytes.parsed);
        grow(&mut self.bytes_not_understood, bytes.not_understood);
        grow(&mut self.bytes_waiting, bytes.waiting);
        grow(&mut self.bytes_unseen, bytes.unseen);
        grow(&mut self.bytes_in_messages, bytes.messages);
        grow(&mut self.bytes_skipped, bytes.skipped);
        grow(&mut self.bytes_pending, bytes.pending);
    }
}

/// Adds to a column. One that a hostile stream drives to its end stays there: the check then shows it.
fn grow(column: &mut u64, amount: u64) {
    *column = column.saturating_add(amount);
}

/// One process's line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its number in the agent's pid namespace; 0 in a sum.
    pub pid: i32,
    /// `service.name`.
    pub service: String,
    /// Runtime and version.
    pub runtime: String,
    /// How its requests are told apart: `exact`, or `thread only` and why. None where its runtime has but one way.
    pub context: Option<String>,
    /// The libraries whose calls are bound to requests.
    pub bindings: Vec<String>,
    /// Connections open now.
    pub connections: u64,
    /// The kernel's side.
    pub kernel: KernelBooks,
    /// The agent's side.
    pub agent: AgentBooks,
}

/// The correlation engine's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallStatus {
    /// Calls begun.
    pub started: u64,
    /// Under way.
    pub open: u64,
    /// Over, their place not decided yet.
    pub waiting: u64,
    /// Over without a span, by their nature.
    pub silent: u64,
    /// Given up.
    pub abandoned: u64,
    /// Dropped because a cap was reached.
    pub evicted: u64,
    /// Placed under a certain parent.
    pub certain: u64,
    /// Placed as roots.
    pub root: u64,
    /// Parent withheld: several requests in flight.
    pub withheld_concurrent: u64,
    /// Parent withheld: the process makes calls of its own.
    pub withheld_ambient: u64,
    /// Parent withheld: maybe late work of an earlier request.
    pub withheld_late_work: u64,
    /// Parent withheld: unreadable inbound connections.
    pub withheld_opaque: u64,
    /// Parent withheld: what would tell was lost.
    pub withheld_lost: u64,
    /// The engine's own check of its columns.
    pub balanced: bool,
}

impl CallStatus {
    /// Parents withheld, for whatever reason.
    pub fn withheld(&self) -> u64 {
        self.withheld_concurrent
            + self.withheld_ambient
            + self.withheld_late_work
            + self.withheld_opaque
            + self.withheld_lost
    }
}

impl From<correlation::Books> for CallStatus {
    fn from(books: correlation::Books) -> Self {
        Self {
            started: books.started,
            open: books.open,
            waiting: books.waiting,
            silent: books.silent,
            abandoned: books.abandoned,
            evicted: books.evicted,
            certain: books.certain,
            root: books.root,
            withheld_concurrent: books.withheld.concurrent,
            withheld_ambient: books.withheld.ambient,
            withheld_late_work: books.withheld.late_work,
            withheld_opaque: books.withheld.opaque,
            withheld_lost: books.withheld.lost,
            balanced: books.balanced(),
        }
    }
}

/// One exporter's line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExporterStatus {
    /// The target.
    pub name: String,
    /// It was taken out of the configuration.
    #[serde(default)]
    pub removed: bool,
    /// Spans made while it was not there.
    #[serde(default)]
    pub missed: u64,
    /// Spans handed to it.
    pub offered: u64,
    /// Spans that an earlier agent left on disk.
    #[serde(default)]
    pub restored: u64,
    /// Spans that left.
    pub exported: u64,
    /// Spans that will not leave, all reasons.
    pub refused: u64,
    /// Spans still there, in memory.
    pub queued: u64,
    /// Spans still there, on disk.
    #[serde(default)]
    pub on_disk: u64,
    /// The disk queue, where there is one.
    #[serde(default)]
    pub disk: Option<DiskStatus>,
    /// The latest failure.
    pub last_error: Option<String>,
}

/// An exporter's disk queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Bytes of its files.
    pub bytes: u64,
    /// The most that they may be.
    pub max_bytes: u64,
    /// Spans of it that can't be read any more; `refused` has them.
    pub damaged_spans: u64,
    /// Bytes in which no span was found at the start.
    pub damaged_bytes: u64,
    /// How often it could not be used.
    pub failures: u64,
    /// Why, if it was so the last time: spans wait in memory only.
    pub error: Option<String>,
}

impl From<ExporterBooks> for ExporterStatus {
    fn from(books: ExporterBooks) -> Self {
        Self {
            name: books.name,
            removed: books.removed,
            missed: books.missed,
            offered: books.offered,
            restored: books.restored,
            exported: books.exported,
            refused: books.refused.total(),
            queued: books.queued,
            on_disk: books.on_disk,
            disk: books.disk.map(|disk| DiskStatus {
                bytes: disk.bytes,
                max_bytes: disk.max_bytes,
                damaged_spans: books.refused.damaged,
                damaged_bytes: disk.damaged_bytes,
                failures: disk.failures,
                error: disk.error,
            }),
            last_error: books.last_error,
        }
    }
}

/// What Node's assist noted, in all processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Notes read.
    pub notes: u64,
    /// Notes overwritten before they were read: what they tell of has no parent.
    pub notes_lost: u64,
    /// Notes that made no sense.
    pub notes_malformed: u64,
    /// Calls whose request was noted.
    pub calls: u64,
    /// Handlers of consumed messages that were noted.
    pub handlers: u64,
    /// Connections on which notes and records contradicted each other: nothing is taken from them.
    pub contradictions: u64,
}

impl From<node::Counts> for NodeStatus {
    fn from(counts: node::Counts) -> Self {
        Self {
            notes: counts.notes,
            notes_lost: counts.notes_lost,
            notes_malformed: counts.notes_malformed,
            calls: counts.calls,
            handlers: counts.handlers,
            contradictions: counts.contradictions,
        }
    }
}

/// The configuration file in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file; none: only flags count.
    pub file: Option<String>,
    /// How often it was read again and put in force.
    pub reloads: u64,
    /// How often a new one was refused.
    pub refused: u64,
    /// Why, if the last one was: the one before it is in force.
    pub last_error: Option<String>,
    /// Keys that differ from what is in force, because they are read at the start only.
    pub needs_restart: Vec<String>,
}

/// What `wirespan status` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its configuration file.
    pub config: ConfigStatus,
    /// How long it has been ready.
    pub uptime_seconds: u64,
    /// Processes traced now.
    pub processes: Vec<ProcessStatus>,
    /// Processes that were traced and are gone, summed up.
    pub departed: ProcessStatus,
    /// All of them.
    pub total: ProcessStatus,
    /// The correlation engine.
    pub calls: CallStatus,
    /// Spans made.
    pub spans: u64,
    /// Of them those of processes, which are no calls.
    pub process_spans: u64,
    /// Records that made no sense.
    pub records_malformed: u64,
    /// Operations of processes that were gone, or something else, before they could be looked at.
    pub operations_unknown: u64,
    /// The kernel's books of those processes, of the ones whose slot has been given back.
    pub unattributed: KernelBooks,
    /// Records lost that belong to no traced process.
    pub records_dropped: u64,
    /// Calls that found the table full.
    pub calls_refused: u64,
    /// Processes that a rule allows and that could not be traced.
    pub processes_failed: u64,
    /// Processes that wait to be looked at.
    pub processes_waiting: u64,
    /// Processes that are allowed and left alone, because they send spans of their own.
    #[serde(default)]
    pub processes_yielded: Vec<i32>,
    /// Forks that found no slot in the kernel: traced, but not from their first instruction.
    pub forks_late: u64,
    /// How often all processes were looked at again because records were lost.
    pub recoveries: u64,
    /// Node's assist.
    pub node: NodeStatus,
    /// The exporters.
    pub exporters: Vec<ExporterStatus>,
    /// What the hooks cost; runs and time only while the kernel measures them (`--measure-hooks`).
    pub hooks: Vec<HookCost>,
    /// CPU time of the agent itself, user and system, in nanoseconds.
    pub agent_cpu_ns: u64,
    /// Resident memory of the agent, in bytes.
    pub agent_resident_bytes: u64,
}

impl Status {
    /// What doesn't balance: empty when all is accounted for. Between two readings of live counters a few
    /// operations may be under way; a quiet agent balances exactly.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut equal = |what: &str, left: u64, right: u64| {
            if left != right {
                wrong.push(format!("{what}: {left} != {right}"));
            }
        };
        for line in self.processes.iter().chain([&self.departed, &self.total]) {
            let (pid, kernel, agent) = (line.pid, &line.kernel, &line.agent);
            equal(
                &format!("pid {pid}: operations seen = read + dropped"),
                kernel.operations_seen,
                agent.operations + kernel.operations_dropped,
            );
            equal(
                &format!("pid {pid}: bytes seen = captured + not captured + dropped"),
                kernel.bytes_seen,
                kernel.bytes_captured
                    + kernel.bytes_over_budget
                    + kernel.bytes_other_syscall
                    + kernel.bytes_unreadable
                    + kernel.bytes_special
                    + kernel.bytes_dropped,
            );
            equal(
                &format!("pid {pid}: bytes captured = read"),
                kernel.bytes_captured,
                agent.bytes_captured,
            );
            equal(
                &format!("pid {pid}: bytes seen = read + dropped"),
                kernel.bytes_seen,
                agent.bytes.saturating_add(kernel.bytes_dropped),
            );
            equal(
                &format!("pid {pid}: bytes read = parsed + not understood + waiting"),
                agent.bytes,
                agent.bytes_parsed + agent.bytes_not_understood + agent.bytes_waiting,
            );
            equal(
                &format!(
                    "pid {pid}: calls = spans + ignored + unsampled + silent + abandoned + open"
                ),
                agent.calls,
                agent.calls_spans
                    + agent.calls_ignored
                    + agent.calls_unsampled
                    + agent.calls_silent
                    + agent.calls_abandoned
                    + agent.calls_open,
            );
        }
        let (agent, calls) = (&self.total.agent, &self.calls);
        let withheld = calls.withheld();
        equal("calls begun = handed to correlation", agent.calls, calls.started);
        equal("calls open = correlation's", agent.calls_open, calls.open + calls.waiting);
        equal(
            "calls given up = correlation's",
            agent.calls_abandoned,
            calls.abandoned + calls.evicted,
        );
        equal(
            "spans of calls + ignored + unsampled = placed by correlation",
            self.spans.saturating_sub(self.process_spans)
                + agent.calls_ignored
                + agent.calls_unsampled,
            calls.certain + calls.root + withheld,
        );
        equal("certain parents = correlation's", agent.parents_certain, calls.certain);
        equal("roots = correlation's", agent.parents_none, calls.root);
        equal("withheld parents = correlation's", agent.parents_withheld, withheld);
        equal("correlation's own check", u64::from(self.calls.balanced), 1);
        for exporter in &self.exporters {
            equal(
                &format!("exporter {}: spans = offered + missed", exporter.name),
                self.spans,
                exporter.offered + exporter.missed,
            );
            equal(
                &format!(
                    "exporter {}: offered + restored = exported + refused + queued + on disk",
                    exporter.name
                ),
                exporter.offered + exporter.restored,
                exporter.exported + exporter.refused + exporter.queued + exporter.on_disk,
            );
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten calls of one process: five certain, two roots, one withheld, one given up, one open.
    fn balanced() -> Status {
        let line = ProcessStatus {
            kernel: KernelBooks {
                operations_seen: 9,
                operations_dropped: 1,
                bytes_seen: 100,
                bytes_captured: 60,
                bytes_over_budget: 30,
                bytes_dropped: 10,
                ..KernelBooks::default()
            },
            agent: AgentBooks {
                operations: 8,
                bytes: 90,
                bytes_captured: 60,
                bytes_parsed: 80,
                bytes_not_understood: 7,
                bytes_waiting: 3,
                calls: 10,
                calls_spans: 8,
                calls_abandoned: 1,
                calls_open: 1,
                parents_certain: 5,
                parents_none: 2,
                parents_withheld: 1,
                ..AgentBooks::default()
            },
            ..ProcessStatus::default()
        };
        let calls = CallStatus {
            started: 10,
            open: 1,
            abandoned: 1,
            certain: 5,
            root: 2,
            withheld_lost: 1,
            balanced: true,
            ..CallStatus::default()
        };
        let exporter = ExporterStatus {
            offered: 9,
            restored: 3,
            exported: 10,
            on_disk: 2,
            ..ExporterStatus::default()
        };
        Status {
            processes: vec![line.clone()],
            total: line,
            calls,
            spans: 9,
            process_spans: 1,
            exporters: vec![exporter],
            ..Status::default()
        }
    }

    #[test]
    fn what_is_lost_between_two_stages_shows() {
        assert_eq!(balanced().check(), Vec::<String>::new());
        type Breaks = fn(&mut Status);
        let wrong: [(&str, Breaks); 14] = [
            ("an operation that was not read", |s| s.total.agent.operations -= 1),
            ("bytes that were not read", |s| s.processes[0].agent.bytes_captured -= 1),
            ("an operation's length", |s| {
                s.total.agent.bytes -= 1;
                s.total.agent.bytes_parsed -= 1;
            }),
            ("a call that nobody ends", |s| s.processes[0].agent.calls_open -= 1),
            ("a call that only one side holds", |s| {
                s.calls.open -= 1;
                s.calls.abandoned += 1;
            }),
            ("a call that only one side gave up", |s| s.calls.evicted += 1),
            ("a placement that made no span", |s| s.calls.root += 1),
            ("a span without a placement", |s| s.spans += 1),
            ("another parent than was decided", |s| {
                s.calls.certain -= 1;
                s.calls.withheld_late_work += 1;
            }),
            ("a call that was not handed on", |s| s.calls.started -= 1),
            ("a span that was not offered", |s| s.exporters[0].offered -= 1),
            ("a span that did not leave", |s| s.exporters[0].exported -= 1),
            ("a span that nobody left on disk", |s| s.exporters[0].on_disk += 1),
            ("a span that was on disk and is not", |s| s.exporters[0].restored += 1),
        ];
        for (what, break_it) in wrong {
            let mut status = balanced();
            break_it(&mut status);
            assert!(!status.check().is_empty(), "{what}");
        }
    }
}
