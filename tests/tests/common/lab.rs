//! A place for one test: a directory of its own, the installed applications, an agent that traces some of
//! them, and its books.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use wirespan::books::Status;
use wirespan_tests::agent::Agent;
use wirespan_tests::load::{self, Outcome, Plan, Request};
use wirespan_tests::workloads::{Installed, Service, install};
use wirespan_tests::{sys, wait};

use super::forest::Forest;
use super::spans::{self, Span};

/// How long a test waits for what must happen: a bound on a hang, not on speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Lab {
    directory: TempDir,
    pub(crate) installed: Installed,
}

impl Lab {
    pub(crate) fn new() -> Self {
        assert!(sys::is_root(), "these tests load kernel programs: run them as root");
        Self { directory: tempfile::tempdir().unwrap(), installed: install().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// An agent that traces these services and exports to a file.
    pub(crate) fn trace(&self, services: &[&Service]) -> Tracing {
        let rules: Vec<String> = services.iter().map(|service| rule(service)).collect();
        self.agent("agent", &rules, &[])
    }

    /// The argument by which processes that serve nothing have no span: of programs whose calls alone matter.
    pub(crate) fn calls_alone(&self) -> String {
        let file = self.path().join("calls_alone.yaml");
        std::fs::write(&file, "settings: {process_spans: false}\n").unwrap();
        format!("--config={}", file.display())
    }

    /// An agent with these rules and further arguments, exporting to a file, in a directory of that name.
    pub(crate) fn agent(&self, name: &str, rules: &[String], more: &[&str]) -> Tracing {
        let directory = self.path().join(name);
        let file = directory.join("spans.jsonl");
        let mut arguments = vec![format!("--export=file:{}", file.display())];
        arguments.extend(rules.iter().map(|rule| format!("--allow={rule}")));
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        Tracing { agent: Agent::start(&directory, &arguments).unwrap(), file }
    }
}

/// The rule that allows a service's processes by the port on which they listen.
pub(crate) fn rule(service: &Service) -> String {
    format!("port={}", service.port())
}

/// A running agent and what it delivers.
#[derive(Debug)]
pub(crate) struct Tracing {
    pub(crate) agent: Agent,
    pub(crate) file: PathBuf,
}

/// After a loss time alone changes the books: half a second of silence ends a body, after a second all processes are
/// looked at again. What was the same for that long stays so.
const STILL: Duration = Duration::from_secs(3);

impl Tracing {
    /// What was delivered so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        spans::read(&self.file)
    }

    pub(crate) fn status(&self) -> Status {
        serde_json::from_value(self.agent.status().unwrap()).expect("a status in the known shape")
    }

    /// Waits until all calls are over, decided and delivered and the books balance.
    pub(crate) fn quiet(&self) -> Status {
        self.quiet_but(0)
    }

    /// The same with that many calls still under way.
    pub(crate) fn quiet_but(&self, open: u64) -> Status {
        let mut last = Status::default();
        let quiet = wait::until("the agent is quiet and its books balance", PATIENCE, || {
            last = self.status();
            let queued: u64 = last.exporters.iter().map(|exporter| exporter.queued).sum();
            let done = last.calls.open == open && last.calls.waiting == 0 && queued == 0;
            Ok((done && last.check().is_empty()).then(|| last.clone()))
        });
        quiet.unwrap_or_else(|error| panic!("{error}: {:#?}\n{last:#?}", last.check()))
    }

    /// As [`settled`].
    pub(crate) fn settled(&self) -> Status {
        settled(&self.agent)
    }

    /// Waits as [`Self::quiet`], then reads what was delivered: as many spans as the agent says it made,
    /// every one under a parent that can be its.
    pub(crate) fn forest(&self) -> Forest {
        let status = self.quiet();
        let forest = Forest::new(self.spans());
        assert_eq!(forest.spans.len() as u64, status.spans, "spans made and spans delivered");
        let broken = forest.broken();
        assert!(broken.is_empty(), "{} spans are wrong: {}", broken.len(), broken[0]);
        assert!(forest.orphans().is_empty(), "no such parent: {:?}", forest.orphans());
        let withheld = forest.spans.iter().filter(|span| span.withheld().is_some()).count();
        let counted = status.total.agent.parents_withheld;
        assert_eq!(withheld as u64, counted, "withheld parents marked and counted");
        forest
    }

    /// The same once that many spans were made. The agent goes on: a moment's quiet is not the end of
    /// what other threads still do.
    pub(crate) fn forest_of(&self, count: usize) -> Forest {
        let enough = wait::until("that many spans are made", PATIENCE, || {
            Ok((self.status().spans >= count as u64).then_some(()))
        });
        enough.unwrap_or_else(|error| {
            let (made, status) = (self.spans(), self.status());
            let last = &made[made.len().saturating_sub(40)..];
            // A hook that was not run, or records that were lost, would be why.
            let missed: Vec<_> = status.hooks.iter().filter(|hook| hook.missed > 0).collect();
            panic!(
                "{error}: {} of {count}, {:?}, {:?}, hooks that missed {missed:?}, {} recoveries, the last are \
                 {last:#?}",
                made.len(),
                status.calls,
                status.total.kernel,
                status.recoveries,
            );
        });
        let forest = self.forest();
        assert_eq!(forest.spans.len(), count, "services {:?}", forest.services());
        forest
    }
}

/// Waits until nothing is under way but what lost its end. Every column balances then.
pub(crate) fn settled(agent: &Agent) -> Status {
    let mut last = Status::default();
    let mut since = sys::monotonic();
    let settled = wait::until("nothing moves and the books balance", PATIENCE, || {
        let now: Status = serde_json::from_value(agent.status()?)?;
        let queued: u64 = now.exporters.iter().map(|exporter| exporter.queued).sum();
        let still = last.total == now.total && last.spans == now.spans;
        let quiet = now.calls.waiting == 0 && queued == 0 && now.check().is_empty();
        last = now;
        if !still || !quiet {
            since = sys::monotonic();
        }
        Ok((sys::monotonic() - since >= STILL).then(|| last.clone()))
    });
    settled.unwrap_or_else(|error| panic!("{error}: {:#?}\n{last:#?}", last.check()))
}

/// GETs of `path/FIRST`, `path/FIRST+1`, ...: the number tells requests apart in every span that they
/// cause, because the applications pass it on in the path.
pub(crate) fn gets(path: &str, first: usize, count: usize) -> Vec<Request> {
    let get = |id: usize| Request::get(id.to_string(), format!("{path}/{id}?rid={id}"));
    (first..first + count).map(get).collect()
}

/// Sends all requests; every one must be answered with a status below 400.
pub(crate) fn load(service: &Service, connections: usize, requests: &[Request]) -> Vec<Outcome> {
    let plan = Plan::new(service.address(), connections);
    load::run(&plan, requests, &AtomicBool::new(false)).all_ok().unwrap()
}

/// Ends what goes on beside a test, also where that fails: a scope waits for its threads.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The distinct values of something.
pub(crate) fn distinct<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    values.into_iter().collect()
}
