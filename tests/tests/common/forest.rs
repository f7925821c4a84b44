//! Spans as the trees that they are, and what holds of every tree whatever was asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use super::spans::{Kind, Span};

/// How far two records of one moment may lie apart: a send is stamped when the call returns.
pub(crate) const STAMP_NS: u64 = 2_000_000;

/// All spans of a run.
#[derive(Debug)]
pub(crate) struct Forest {
    pub(crate) spans: Vec<Span>,
    by_id: HashMap<String, usize>,
    children: HashMap<String, Vec<usize>>,
}

impl Forest {
    pub(crate) fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_by_key(|span| (span.start_ns, span.end_ns));
        let mut by_id = HashMap::new();
        let mut children: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, span) in spans.iter().enumerate() {
            assert_eq!(by_id.insert(span.id.clone(), index), None, "a span twice: {span:?}");
            if let Some(parent) = &span.parent {
                children.entry(parent.clone()).or_default().push(index);
            }
        }
        Self { spans, by_id, children }
    }

    pub(crate) fn parent(&self, span: &Span) -> Option<&Span> {
        self.by_id.get(span.parent.as_ref()?).map(|index| &self.spans[*index])
    }

    /// In order of their starts.
    pub(crate) fn children(&self, span: &Span) -> Vec<&Span> {
        let children = self.children.get(&span.id).map(Vec::as_slice).unwrap_or_default();
        children.iter().map(|index| &self.spans[*index]).collect()
    }

    pub(crate) fn of<'a>(&'a self, service: &'a str, kind: Kind) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.service == service && span.kind == kind)
    }

    pub(crate) fn traces(&self) -> BTreeMap<&str, Vec<&Span>> {
        let mut traces: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in &self.spans {
            traces.entry(&span.trace).or_default().push(span);
        }
        traces
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(|span| span.parent.is_none())
    }

    pub(crate) fn services(&self) -> BTreeSet<&str> {
        self.spans.iter().map(|span| span.service.as_str()).collect()
    }

    /// A span with all below it: a line each, "service kind name status", two blanks a level.
    pub(crate) fn outline(&self, root: &Span) -> String {
        let mut text = String::new();
        self.draw(root, 0, &mut text);
        text
    }

    fn draw(&self, span: &Span, depth: usize, text: &mut String) {
        let kind = match span.kind {
            Kind::Server => "server",
            Kind::Client => "client",
            Kind::Producer => "producer",
            Kind::Consumer => "consumer",
            Kind::Internal => "internal",
            Kind::Other => "other",
        };
        let status = span.status().map_or_else(|| "-".to_owned(), |status| status.to_string());
        let (service, name) = (&span.service, &span.name);
        writeln!(text, "{:1$}{service} {kind} {name} {status}", "", 2 * depth).unwrap();
        for child in self.children(span) {
            self.draw(child, depth + 1, text);
        }
    }

    /// Spans whose parent this agent gave and did not deliver. None, where nothing is lost.
    pub(crate) fn orphans(&self) -> Vec<&Span> {
        let has_none = |span: &&Span| {
            span.parent.is_some() && !span.parent_is_remote && self.parent(span).is_none()
        };
        self.spans.iter().filter(has_none).collect()
    }

    /// What no trace may break: a parent that this agent gives is in the same trace, is of the
    /// other kind (a server's a client's and the reverse) and concerns the same request; a client's parent
    /// is its own process's; times nest. Returns the spans that do, with why.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.spans.iter().filter_map(|span| self.wrong(span)).collect()
    }

    fn wrong(&self, span: &Span) -> Option<String> {
        let parent = self.parent(span)?;
        let mut wrong = Vec::new();
        if parent.trace != span.trace {
            wrong.push("another trace");
        }
        // Of processes: one executes others, and what it forks is a part of it.
        let of_process = parent.kind == Kind::Internal;
        if parent.kind == span.kind && !of_process {
            wrong.push("the same kind");
        }
        if span.kind == Kind::Client && parent.resource != span.resource && !of_process {
            wrong.push("another process");
        }
        if span.kind == Kind::Server && parent.path() != span.path() {
            wrong.push("another path");
        }
        if parent.number().zip(span.number()).is_some_and(|(above, here)| above != here) {
            wrong.push("another request");
        }
        if span.start_ns + STAMP_NS < parent.start_ns {
            wrong.push("earlier than its parent");
        }
        (!wrong.is_empty()).then(|| format!("{}: {span:#?}\nunder {parent:#?}", wrong.join(", ")))
    }
}
