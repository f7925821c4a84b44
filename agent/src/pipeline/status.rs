//! The pipeline's answer to `wirespan status`.

use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;
use rustc_hash::FxHashMap;

use crate::books::{AgentBooks, KernelBooks, ProcessStatus, Status};
use crate::call::ProcessId;
use crate::capture::Capture;
use crate::clock;
use crate::pipeline::Stages;
use crate::selection;

impl Stages {
    /// The books of this moment.
    pub(super) fn status(&self, capture: &Capture) -> Status {
        let mut connections: FxHashMap<ProcessId, u64> = FxHashMap::default();
        let mut agent: FxHashMap<ProcessId, AgentBooks> = self.books.clone();
        for connection in self.connections.values() {
            *connections.entry(connection.process).or_default() += 1;
            agent.entry(connection.process).or_default().add_bytes(&connection.bytes());
        }
        for process in self.exchanges.processes() {
            agent.entry(process).or_default().calls_open += 1;
        }
        let mut sum = *self.selection.departed();
        let mut total = self.departed.clone();
        let mut processes: Vec<ProcessStatus> = self
            .selection
            .iter()
            .map(|traced| {
                let kernel = capture.books(traced.slot);
                selection::add(&mut sum, &kernel);
                let agent = agent.remove(&traced.id).unwrap_or_default();
                total.add(&agent);
                let runtime = traced.process.runtime;
                let (context, bindings) = self.runtimes.method(traced.id).unzip();
                let bindings = bindings.unwrap_or_default().into_iter().map(str::to_owned);
                ProcessStatus {
                    pid: traced.process.pid,
                    service: traced.resource.text(SERVICE_NAME).unwrap_or_default().to_owned(),
                    runtime: match runtime.version() {
                        Some(version) => format!("{} {version}", runtime.word()),
                        None => runtime.word().to_owned(),
                    },
                    context: context.map(|method| method.to_string()),
                    bindings: bindings.collect(),
                    connections: connections.remove(&traced.id).unwrap_or_default(),
                    kernel: KernelBooks::from(&kernel),
                    agent,
                }
            })
            .collect();
        // What is still told of a process after its books were closed.
        let mut departed = self.departed.clone();
        for late in agent.values() {
            departed.add(late);
            total.add(late);
        }
        processes.sort_by_key(|process| process.pid);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: self.config.clone(),
            uptime_seconds: clock::monotonic_ns().saturating_sub(self.ready_ns) / 1_000_000_000,
            departed: ProcessStatus {
                kernel: KernelBooks::from(self.selection.departed()),
                agent: departed,
                ..ProcessStatus::default()
            },
            total: ProcessStatus {
                connections: processes.iter().map(|process| process.connections).sum(),
                kernel: KernelBooks::from(&sum),
                agent: total,
                ..ProcessStatus::default()
            },
            processes,
            calls: self.engine.books().into(),
            spans: self.spans,
            process_spans: self.process_spans,
            records_malformed: capture.malformed(),
            operations_unknown: self.operations_unknown,
            unattributed: KernelBooks::from(self.selection.unattributed()),
            records_dropped: capture.dropped_records(),
            calls_refused: self.exchanges.refused,
            processes_failed: self.selection.failed,
            processes_waiting: self.selection.waiting() as u64,
            processes_yielded: self.selection.yielded(),
            forks_late: self.selection.forks_late,
            recoveries: self.selection.recoveries,
            hooks: capture.cost(),
            agent_cpu_ns: clock::process_cpu_ns(),
            agent_resident_bytes: resident_bytes(),
            node: self.runtimes.node.counts().into(),
            exporters: self.export.books().into_iter().map(Into::into).collect(),
        }
    }
}

/// Resident memory; 0 where it can't be read.
fn resident_bytes() -> u64 {
    let statm = procfs::process::Process::myself().and_then(|process| process.statm());
    statm.map_or(0, |statm| statm.resident.saturating_mul(procfs::page_size()))
}
