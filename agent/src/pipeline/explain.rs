//! The pipeline's answer to `wirespan explain`.

use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;

use super::Stages;
use crate::call::{ProgramEnd, Role};
use crate::capture::{Capture, Socket};
use crate::explain::{ConnectionFacts, Explanation, facts, words};
use crate::process::{Decision, Reason, name_source};
use crate::selection::Traced;
use crate::settings::Settings;

/// Connections that are told of one process.
const CONNECTIONS: usize = 50;

impl Stages {
    /// Why a process is traced or not, and what became of what it did.
    pub(super) fn explain(&self, pid: i32, capture: &Capture) -> Explanation {
        let (rules, procfs) = (self.selection.rules(), self.selection.procfs());
        let Some(traced) = self.selection.by_pid(pid) else {
            let mut answer = Explanation::untraced(pid, procfs, rules);
            if self.selection.yielded().contains(&pid) {
                answer.is_refused(Reason::OwnSpans);
            }
            return answer;
        };
        let mut answer = Explanation { pid, traced: true, ..Explanation::default() };
        let rule = words(rules, traced.by);
        let refused = match self.selection.decide(&traced.process) {
            Decision::NotTraced { reason: Reason::OwnSpans } => Some(Reason::OwnSpans),
            _ => None,
        };
        answer.because = if let Some(reason) = refused {
            format!("{reason}, when the assist is undone")
        } else if self.dismissed.contains_key(&traced.id) {
            "no rule holds for it any more: it is let go when the assist is undone".to_owned()
        } else if traced.origin.id() == traced.process.id() {
            format!("{rule} allows it")
        } else {
            format!("it is a part of {}, which {rule} allows", traced.origin.pid)
        };
        let books = self.status(capture).processes.into_iter().find(|line| line.pid == pid);
        answer.facts = facts(&traced.process);
        let service = traced.resource.text(SERVICE_NAME).unwrap_or_default();
        let source = name_source(procfs, &traced.process, &traced.settings).words();
        let mut fact = |name: &str, value: String| answer.facts.push((name.to_owned(), value));
        fact("service", format!("{service}, from {source}"));
        if let Some(books) = &books {
            if let Some(context) = &books.context {
                fact("context", context.clone());
            }
            if !books.bindings.is_empty() {
                fact("bindings", books.bindings.join(", "));
            }
        }
        fact("process span", self.process_span(traced).to_owned());
        for (name, value) in notable(&traced.settings) {
            fact(name, value);
        }
        let mut connections: Vec<ConnectionFacts> = self
            .connections
            .values()
            .filter(|connection| connection.process == traced.id)
            .map(|connection| ConnectionFacts {
                ends: connection.socket.as_ref().map_or("ends unknown".to_owned(), ends),
                role: match connection.role {
                    Some(Role::Server) => "server".to_owned(),
                    Some(Role::Client) => "client".to_owned(),
                    None => String::new(),
                },
                state: connection.state(),
                open_calls: connection.open_calls(),
                bytes: connection.bytes().received,
            })
            .collect();
        connections.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.ends.cmp(&b.ends)));
        answer.connections_more = connections.len().saturating_sub(CONNECTIONS);
        connections.truncate(CONNECTIONS);
        answer.connections = connections;
        answer.remedies = self.remedies(traced, &answer, books.as_ref());
        answer.books = books;
        answer
    }

    /// Whether it has a span of its own, and why not.
    fn process_span(&self, traced: &Traced) -> &'static str {
        match self.engine.program_of(traced.id) {
            Some((_, None)) => "open: it serves nothing so far, what it calls is beneath",
            Some((_, Some(ProgramEnd::Serves))) => "of its start only: it serves",
            Some((_, Some(ProgramEnd::Goes))) => "over: settings.process_span_limit",
            Some((_, Some(_))) => "over: it executes something else, or is let go",
            None if !traced.settings.process_spans => "none: settings.process_spans",
            None if traced.program.is_scheduler => "none: it works by the clock",
            None => "none: it serves",
        }
    }

    /// What stands out, and what can be done about it.
    fn remedies(
        &self,
        traced: &Traced,
        answer: &Explanation,
        books: Option<&crate::books::ProcessStatus>,
    ) -> Vec<String> {
        let mut remedies = Vec::new();
        let mut add = |condition: bool, text: &str| {
            if condition {
                remedies.push(text.to_owned());
            }
        };
        let unread = |what: &str| answer.connections.iter().any(|it| it.state.contains(what));
        add(
            unread("TLS"),
            "TLS is not read: its calls make no spans; let it speak plaintext behind its proxy",
        );
        add(unread("HTTP/2"), "HTTP/2 is not read: its calls make no spans (docs/protocols.md)");
        if let Some(books) = books {
            let (kernel, agent) = (&books.kernel, &books.agent);
            add(
                kernel.operations_seen == 0,
                "it has sent and received nothing on a stream socket since it is traced: make a request",
            );
            add(
                kernel.operations_dropped > 0,
                "records were dropped: give the rings more room (capture.ring_size, --ring-bytes)",
            );
            add(
                kernel.operations_seen > 0
                    && agent.calls == 0
                    && !unread("TLS")
                    && !unread("HTTP/2"),
                "nothing of what it sent and received is a call that is read: docs/protocols.md",
            );
            add(
                agent.calls_ignored > 0,
                "some of its calls make no span because a rule says so: settings.ignore, settings.protocols",
            );
            add(agent.calls_unsampled > 0, "some of its traces are not sampled: settings.sampling");
            let placed = agent.parents_certain + agent.parents_none + agent.parents_withheld;
            add(
                agent.parents_withheld * 10 > placed,
                "many parents are withheld: wirespan.parent.reason on the spans says why, \
                 docs/limitations.md#parents what helps",
            );
        }
        add(
            !traced.settings.node_assist
                && matches!(traced.process.runtime, crate::process::Runtime::Node(_)),
            "the assist is off for it: parents are known only where one request is in flight",
        );
        remedies
    }
}

/// Settings that differ from the defaults in what spans there are.
fn notable(settings: &Settings) -> Vec<(&'static str, String)> {
    let default = Settings::default();
    let mut notable = Vec::new();
    if settings.sampling != default.sampling {
        notable.push(("sampling", format!("{} of all traces", settings.sampling.ratio)));
    }
    let protocols = [
        ("HTTP", settings.protocols.http),
        ("Redis", settings.protocols.redis),
        ("PostgreSQL", settings.protocols.postgresql),
        ("AMQP", settings.protocols.amqp),
        ("Kafka", settings.protocols.kafka),
    ];
    let off: Vec<&str> = protocols.iter().filter(|(_, on)| !on).map(|(name, _)| *name).collect();
    if !off.is_empty() {
        notable.push(("off", off.join(", ")));
    }
    if settings.ignored_routes != default.ignored_routes
        || settings.ignored_statements != default.ignored_statements
    {
        notable.push(("ignored", "some routes or statements, by its rule".to_owned()));
    }
    notable
}

fn ends(socket: &Socket) -> String {
    match (socket.addresses, socket.unix_ends) {
        (Some((local, remote)), _) if socket.active => format!("{local} -> {remote}"),
        (Some((local, remote)), _) => format!("{local} <- {remote}"),
        (None, Some(_)) => "a unix socket".to_owned(),
        (None, None) => "ends unknown".to_owned(),
    }
}
