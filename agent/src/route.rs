//! Names of low cardinality for HTTP spans: `/orders/1841` is `/orders/{id}`.
//!
//! Belongs to the span stage. No framework is asked: a segment is told by its text first, so that the
//! first request's name is usually the last one's, and by how many values were seen at its position
//! where the text says nothing. Does not look at methods, hosts or queries.

mod segment;
mod services;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use services::Services;
pub use template::TemplateError;

use segment::Kind;
use template::Template;

/// Segments that are looked at; the rest of a path is `*`.
const DEPTH_LIMIT: usize = 16;
/// Bytes of a path that are looked at.
const PATH_LIMIT_BYTES: usize = 2_048;
/// Names of one service at a time, unless told otherwise.
const NAMES_LIMIT: usize = 100;
/// Words under one prefix from which on they may be values: more than most routers have in one place.
const WORDS_SUSPECT: usize = 40;
/// Words under one prefix that are values whatever else speaks for them.
const WORDS_LIMIT: usize = 64;
/// Positions that one service's tree may have. At about 200 bytes each, under half a megabyte.
const NODES_LIMIT: usize = 2_048;
/// A word seen as often as this beside values may be a route of its own (`/users/me`).
const ESTABLISHED_HITS: u64 = 8;
/// What share of a prefix's requests it must have for that: one in so many.
const ESTABLISHED_SHARE: u64 = 20;
/// Languages at one position that make it a locale's.
const LANGUAGES_SUSPECT: usize = 3;

/// The name of a path beyond the limits.
const OVERFLOW: &str = "/*";

/// The routes of one service, as far as its requests have shown them.
///
/// The names in use at a time are at most [`Routes::with_limit`]'s, plus [`Routes::OVERFLOW`]; a
/// service may be given twice as many over its life, because names go out of use when a position is
/// found to hold values. A position that was found to do so stays so. The same requests in the same
/// order give the same names.
#[derive(Debug)]
pub struct Routes {
    templates: Vec<Template>,
    root: Node,
    nodes: usize,
    names_limit: usize,
    /// In use.
    names: BTreeSet<Arc<str>>,
    /// Given so far.
    given: usize,
    overflow: Arc<str>,
}

/// A position in the tree of paths.
#[derive(Debug, Default)]
struct Node {
    hits: u64,
    name: Option<Arc<str>>,
    words: BTreeMap<Box<str>, Self>,
    kinds: BTreeMap<Kind, Self>,
    /// Words here are values of this kind, but for the ones that are left in `words`.
    learned: Option<Kind>,
}

impl Routes {
    /// The name of what is beyond the limits.
    pub const OVERFLOW: &str = OVERFLOW;

    /// The routes of a service, with the operator's templates for it, and 100 names.
    ///
    /// # Errors
    /// A template that is none.
    pub fn new(templates: &[String]) -> Result<Self, TemplateError> {
        Self::with_limit(templates, NAMES_LIMIT)
    }

    /// The same with another limit on the names in use. The operator's templates do not count.
    ///
    /// # Errors
    /// A template that is none.
    pub fn with_limit(templates: &[String], names_limit: usize) -> Result<Self, TemplateError> {
        let mut templates: Vec<Template> =
            templates.iter().map(|text| Template::parse(text)).collect::<Result<_, _>>()?;
        templates.sort_by(Template::most_specific_first);
        Ok(Self {
            templates,
            root: Node::default(),
            nodes: 1,
            names_limit,
            names: BTreeSet::new(),
            given: 0,
            overflow: OVERFLOW.into(),
        })
    }

    /// The route of a request's target, learning from it. Takes a path with or without a query, an
    /// absolute URL, or `*`. Linear in the path's length.
    pub fn route(&mut self, target: &str) -> Arc<str> {
        let segments = segments(target);
        if let Some(template) = self.templates.iter().find(|known| known.matches(&segments)) {
            return Arc::clone(&template.name);
        }
        let room = NODES_LIMIT.saturating_sub(self.nodes);
        let mut walk = Walk { room, folded: false, dropped: Vec::new(), path: String::new() };
        let Some(leaf) = self.root.descend(&segments, 0, &mut walk) else {
            self.settle(&walk);
            return Arc::clone(&self.overflow);
        };
        if walk.path.is_empty() {
            walk.path.push('/');
        }
        let named = leaf.name.clone();
        self.settle(&walk);
        if let Some(name) = named.filter(|name| self.names.contains(name)) {
            return name;
        }
        let name: Arc<str> = walk.path.as_str().into();
        let within =
            self.names.len() < self.names_limit && self.given < self.names_limit.saturating_mul(2);
        if let Some(known) = self.names.get(&name) {
            let known = Arc::clone(known);
            self.remember(&segments, &known);
            return known;
        }
        if !within {
            return Arc::clone(&self.overflow);
        }
        self.given += 1;
        self.names.insert(Arc::clone(&name));
        self.remember(&segments, &name);
        name
    }

    /// The route of a request that no route answered (404, 405): learns nothing, since scanners would
    /// teach it anything. A word that was not seen before makes it [`Routes::OVERFLOW`].
    pub fn known(&self, target: &str) -> Arc<str> {
        let segments = segments(target);
        if let Some(template) = self.templates.iter().find(|known| known.matches(&segments)) {
            return Arc::clone(&template.name);
        }
        let mut node = &self.root;
        for (depth, segment) in segments.iter().enumerate() {
            let next = match node.step(segment, depth) {
                Step::Word => node.words.get(*segment),
                Step::Kind(kind) => node.kinds.get(&kind),
            };
            let Some(next) = next else { return Arc::clone(&self.overflow) };
            node = next;
        }
        let name = node.name.as_ref().filter(|name| self.names.contains(*name));
        Arc::clone(name.unwrap_or(&self.overflow))
    }

    /// Names in use, for the agent's own telemetry.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    fn settle(&mut self, walk: &Walk) {
        for name in &walk.dropped {
            self.names.remove(name);
        }
        self.nodes = match walk.folded {
            true => self.root.count(),
            false => NODES_LIMIT.saturating_sub(walk.room),
        };
    }

    fn remember(&mut self, segments: &[&str], name: &Arc<str>) {
        let mut node = &mut self.root;
        for (depth, segment) in segments.iter().enumerate() {
            let next = match node.step(segment, depth) {
                Step::Word => node.words.get_mut(*segment),
                Step::Kind(kind) => node.kinds.get_mut(&kind),
            };
            let Some(next) = next else { return };
            node = next;
        }
        node.name = Some(Arc::clone(name));
    }
}

/// One walk down the tree: what it may still create, the names that it put out of use, and the name
/// that it spells.
struct Walk {
    room: usize,
    folded: bool,
    dropped: Vec<Arc<str>>,
    path: String,
}

enum Step {
    Word,
    Kind(Kind),
}

impl Node {
    /// Where a segment leads from here.
    fn step(&self, segment: &str, depth: usize) -> Step {
        if self.words.contains_key(segment) {
            return Step::Word;
        }
        if let Some(kind) = segment::classify(segment, depth) {
            return Step::Kind(kind);
        }
        if depth == 0 && segment::is_leading_language(segment) {
            return Step::Kind(Kind::Locale);
        }
        // Where titles were seen, other words joined by dashes are titles; likewise languages.
        if self.kinds.contains_key(&Kind::Slug) && segment::is_joined(segment) {
            return Step::Kind(Kind::Slug);
        }
        if self.kinds.contains_key(&Kind::Locale) && segment::is_language(segment) {
            return Step::Kind(Kind::Locale);
        }
        match self.learned {
            Some(kind) => Step::Kind(kind),
            None => Step::Word,
        }
    }

    /// The position that `segments` lead to, made where there is none; `None` when there is no room.
    fn descend(&mut self, segments: &[&str], depth: usize, walk: &mut Walk) -> Option<&mut Self> {
        self.hits += 1;
        let Some((segment, rest)) = segments.split_first() else { return Some(self) };
        let mut step = self.step(segment, depth);
        if matches!(step, Step::Word) && !self.words.contains_key(*segment) {
            self.learn(segment, walk);
            step = self.step(segment, depth);
        } else if matches!(step, Step::Kind(Kind::Locale))
            && !self.kinds.contains_key(&Kind::Locale)
        {
            let languages = self.languages();
            self.fold(&languages, Kind::Locale, walk);
        }
        let known = match &step {
            Step::Word => self.words.contains_key(*segment),
            Step::Kind(kind) => self.kinds.contains_key(kind),
        };
        if !known {
            walk.room = walk.room.checked_sub(1)?;
        }
        walk.path.push('/');
        let next = match step {
            Step::Word => {
                walk.path.push_str(segment);
                self.words.entry((*segment).into()).or_default()
            }
            Step::Kind(kind) => {
                walk.path.push_str(&kind.to_string());
                self.kinds.entry(kind).or_default()
            }
        };
        next.descend(rest, depth + 1, walk)
    }

    /// Before a word is added: whether the words here, with it, are values after all.
    fn learn(&mut self, word: &str, walk: &mut Walk) {
        if segment::is_language(word) {
            let languages = self.languages();
            if languages.len() + 1 >= LANGUAGES_SUSPECT {
                self.fold(&languages, Kind::Locale, walk);
                // The position speaks from here on, even if it folded nothing.
                self.kinds.entry(Kind::Locale).or_default();
                return;
            }
        }
        let count = self.words.len() + 1;
        let once = self.words.values().filter(|node| node.hits <= 1).count() + 1;
        let mostly_once = once * 4 >= count * 3;
        if count < WORDS_SUSPECT || (count < WORDS_LIMIT && !mostly_once) {
            return;
        }
        let established = |node: &Self| {
            node.hits >= ESTABLISHED_HITS && node.hits * ESTABLISHED_SHARE >= self.hits
        };
        let values: Vec<Box<str>> = self
            .words
            .iter()
            .filter(|(_, node)| !established(node))
            .map(|(word, _)| word.clone())
            .collect();
        let joined = values.iter().filter(|word| segment::is_joined(word)).count();
        // The kind that was told here from the text, if one was: no second name for one route.
        let told = self.kinds.iter().max_by_key(|(_, node)| node.hits).map(|(kind, _)| *kind);
        let kind = match told {
            Some(kind) => kind,
            None if joined * 2 > values.len() => Kind::Slug,
            None => Kind::Value,
        };
        self.learned = Some(kind);
        self.fold(&values, kind, walk);
    }

    fn languages(&self) -> Vec<Box<str>> {
        self.words.keys().filter(|word| segment::is_language(word)).cloned().collect()
    }

    /// Makes one position of the given words', with all that is under them.
    fn fold(&mut self, words: &[Box<str>], kind: Kind, walk: &mut Walk) {
        walk.folded = true;
        for word in words {
            let Some(node) = self.words.remove(word) else { continue };
            self.kinds.entry(kind).or_default().absorb(node, walk);
        }
    }

    /// Takes over another position's requests. Its names go out of use; the ones that take their
    /// place are made by the next requests.
    fn absorb(&mut self, other: Self, walk: &mut Walk) {
        self.hits += other.hits;
        walk.dropped.extend(other.name);
        self.learned = self.learned.or(other.learned);
        for (word, node) in other.words {
            // A position that has folded its words keeps none but the established ones.
            match self.learned {
                Some(kind) if !self.words.contains_key(&word) => {
                    self.kinds.entry(kind).or_default().absorb(node, walk);
                }
                _ => self.words.entry(word).or_default().absorb(node, walk),
            }
        }
        for (kind, node) in other.kinds {
            self.kinds.entry(kind).or_default().absorb(node, walk);
        }
    }

    fn count(&self) -> usize {
        1 + self.words.values().chain(self.kinds.values()).map(Self::count).sum::<usize>()
    }
}

/// The segments of a target's path, without empty ones and without `;parameters`. Beyond the limits
/// the rest is one `*`.
fn segments(target: &str) -> Vec<&str> {
    let end = target.bytes().position(|byte| byte == b'?' || byte == b'#').unwrap_or(target.len());
    let cut = end.min(target.floor_char_boundary(PATH_LIMIT_BYTES));
    let path = target.get(..cut).unwrap_or_default();
    // The absolute form that a proxy is sent: "http://host/path".
    let path = match path.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default()
        }
        _ => path,
    };
    let mut segments: Vec<&str> = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or(segment))
        .filter(|segment| !segment.is_empty())
        .take(DEPTH_LIMIT + 1)
        .collect();
    if segments.len() > DEPTH_LIMIT || cut < end {
        // The last one may be half a segment.
        segments.truncate(DEPTH_LIMIT.min(segments.len().max(1)) - 1);
        segments.push("*");
    }
    segments
}

#[cfg(test)]
mod tests;
