//! A trace's spans as rows of a tree.
//!
//! Part of the console exporter. Parent ids come from the wire: cycles, duplicates and chains of any
//! length are ordinary input, each span gives exactly one row, and nothing recurses. Knows no columns
//! and no colours.

use std::collections::HashMap;

use crate::span::{Span, SpanId, SpanKind};

/// One span's place in the tree.
pub(in crate::export) struct Row<'a> {
    pub(in crate::export) span: &'a Span,
    /// Drawn before the span: branches such as `│  └─ `.
    pub(in crate::export) lead: String,
    /// Drawn before a line that says more about the span.
    pub(in crate::export) below: String,
    /// The other side of this call is shown beneath it.
    pub(in crate::export) answered: bool,
    /// The span has a parent on this node that is not shown above it.
    pub(in crate::export) parent_missing: bool,
}

/// What is drawn instead of branches below the deepest level drawn.
const DEEPER: &str = "⋯ ";

struct Pending {
    index: usize,
    depth: usize,
    /// The branches that pass by this span's siblings' descendants.
    stem: String,
    last: bool,
}

/// Every span once, parents before their children, siblings by start. Branches are drawn for
/// `depth_limit` levels, and what is deeper stays at that indentation.
pub(in crate::export) fn rows<'a>(spans: &[&'a Span], depth_limit: usize) -> Vec<Row<'a>> {
    let children = children(spans);
    let mut seen = vec![false; spans.len()];
    let mut rows = Vec::with_capacity(spans.len());
    for root in by_start(spans, roots(spans)) {
        descend(spans, &children, root, depth_limit, &mut seen, &mut rows);
    }
    // What no root leads to is a cycle: entered at its earliest span.
    for index in by_start(spans, (0..spans.len()).collect()) {
        descend(spans, &children, index, depth_limit, &mut seen, &mut rows);
    }
    rows
}

fn by_start(spans: &[&Span], mut indices: Vec<usize>) -> Vec<usize> {
    indices.sort_by_key(|index| spans.get(*index).map(|span| span.start_unix_ns));
    indices
}

/// The first span with each id.
fn positions(spans: &[&Span]) -> HashMap<SpanId, usize> {
    let mut positions = HashMap::new();
    for (index, span) in spans.iter().enumerate() {
        positions.entry(span.span_id).or_insert(index);
    }
    positions
}

fn roots(spans: &[&Span]) -> Vec<usize> {
    let positions = positions(spans);
    let is_root =
        |span: &Span| span.parent_span_id.is_none_or(|parent| !positions.contains_key(&parent));
    spans.iter().enumerate().filter(|(_, span)| is_root(span)).map(|(index, _)| index).collect()
}

/// Each span's children, by start.
fn children(spans: &[&Span]) -> Vec<Vec<usize>> {
    let positions = positions(spans);
    let mut children = vec![Vec::new(); spans.len()];
    for index in by_start(spans, (0..spans.len()).collect()) {
        let parent = spans.get(index).and_then(|span| span.parent_span_id);
        let parent = parent.and_then(|parent| positions.get(&parent));
        if let Some(siblings) = parent.and_then(|parent| children.get_mut(*parent)) {
            siblings.push(index);
        }
    }
    children
}

fn descend<'a>(
    spans: &[&'a Span],
    children: &[Vec<usize>],
    root: usize,
    depth_limit: usize,
    seen: &mut [bool],
    rows: &mut Vec<Row<'a>>,
) {
    let mut pending = vec![Pending { index: root, depth: 0, stem: String::new(), last: true }];
    while let Some(Pending { index, depth, stem, last }) = pending.pop() {
        let (Some(span), Some(seen_here)) = (spans.get(index), seen.get_mut(index)) else {
            continue;
        };
        if std::mem::replace(seen_here, true) {
            continue;
        }
        let (lead, inner) = match depth {
            0 => (String::new(), String::new()),
            depth if depth > depth_limit => (format!("{stem}{DEEPER}"), stem),
            _ if last => (format!("{stem}└─ "), format!("{stem}   ")),
            _ => (format!("{stem}├─ "), format!("{stem}│  ")),
        };
        let unseen = |child: &&usize| seen.get(**child).is_some_and(|seen| !seen);
        let here: Vec<usize> =
            children.get(index).into_iter().flatten().filter(unseen).copied().collect();
        let continued = !here.is_empty() && depth < depth_limit;
        rows.push(Row {
            span,
            lead,
            below: format!("{inner}{}", if continued { "│  " } else { "   " }),
            answered: here
                .iter()
                .any(|child| spans.get(*child).is_some_and(|child| answers(span.kind, child.kind))),
            parent_missing: depth == 0 && span.parent_span_id.is_some() && !span.parent_is_remote,
        });
        for (position, child) in here.iter().enumerate().rev() {
            pending.push(Pending {
                index: *child,
                depth: depth + 1,
                stem: inner.clone(),
                last: position + 1 == here.len(),
            });
        }
    }
}

fn answers(caller: SpanKind, callee: SpanKind) -> bool {
    matches!(
        (caller, callee),
        (SpanKind::Client, SpanKind::Server) | (SpanKind::Producer, SpanKind::Consumer)
    )
}
