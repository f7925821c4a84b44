//! Route templates that the operator wrote: `/users/{id}/posts/*`.
//!
//! Matched before anything is guessed, the most specific first. They learn nothing.

use std::cmp::Ordering;
use std::sync::Arc;

/// A template that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not begin with a slash.
    #[error(
        "route {template:?} does not begin with '/': expected a path as in /users/{{id}}/posts/*"
    )]
    NotAPath {
        /// The template.
        template: String,
    },
    /// A brace that is not at a segment's edge, or without its partner.
    #[error("segment {segment:?} of route {template:?}: expected a word, {{name}}, :name or *")]
    Segment {
        /// The template.
        template: String,
        /// The segment.
        segment: String,
    },
    /// More segments than a path is looked at for.
    #[error("route {template:?} has more than {limit} segments")]
    TooLong {
        /// The template.
        template: String,
        /// The most that are allowed.
        limit: usize,
    },
}

/// One template: its name is its text.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) name: Arc<str>,
    parts: Vec<Part>,
}

/// In the order of how much they say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Word(Box<str>),
    /// Any one segment.
    Parameter,
    /// A last `*`: one segment or more.
    Rest,
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let template = || text.to_owned();
        let path = text
            .strip_prefix('/')
            .ok_or_else(|| TemplateError::NotAPath { template: template() })?;
        let mut parts = Vec::new();
        let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
        while let Some(segment) = segments.next() {
            let named = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let braces = |text: &str| text.contains(['{', '}', '*']);
            parts.push(match segment {
                "*" | "**" if segments.peek().is_none() => Part::Rest,
                "*" => Part::Parameter,
                _ if named.is_some_and(|name| !name.is_empty() && !braces(name)) => Part::Parameter,
                _ if segment.starts_with(':') && segment.len() > 1 => Part::Parameter,
                _ if braces(segment) => {
                    let segment = segment.to_owned();
                    return Err(TemplateError::Segment { template: template(), segment });
                }
                word => Part::Word(word.into()),
            });
        }
        if parts.len() > super::DEPTH_LIMIT {
            return Err(TemplateError::TooLong { template: template(), limit: super::DEPTH_LIMIT });
        }
        Ok(Self { name: text.into(), parts })
    }

    /// Words before parameters before `*`, from the left; then the longer one.
    pub(super) fn most_specific_first(&self, other: &Self) -> Ordering {
        for (own, others) in self.parts.iter().zip(&other.parts) {
            let rank = |part: &Part| match part {
                Part::Word(_) => 0,
                Part::Parameter => 1,
                Part::Rest => 2,
            };
            match rank(own).cmp(&rank(others)) {
                Ordering::Equal => {}
                different => return different,
            }
        }
        other.parts.len().cmp(&self.parts.len())
    }

    /// Whether a path's segments are of this route.
    pub(super) fn matches(&self, segments: &[&str]) -> bool {
        let mut rest = segments;
        for part in &self.parts {
            let Some((segment, after)) = rest.split_first() else { return false };
            match part {
                Part::Word(word) if **word != **segment => return false,
                Part::Word(_) | Part::Parameter => rest = after,
                Part::Rest => return true,
            }
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, path: &str) -> bool {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        Template::parse(template).unwrap().matches(&segments)
    }

    #[test]
    fn templates_match_whole_paths() {
        for (template, path, expected) in [
            ("/users/{id}", "/users/7", true),
            ("/users/{id}", "/users", false),
            ("/users/{id}", "/users/7/posts", false),
            ("/users/:id/posts", "/users/7/posts", true),
            ("/files/*", "/files/a/b/c", true),
            ("/files/*", "/files", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/b/c", false),
            ("/", "/", true),
            ("/", "/a", false),
            ("/*", "/a/b", true),
        ] {
            assert_eq!(matches(template, path), expected, "{template} {path}");
        }
    }

    #[test]
    fn what_is_no_template_is_said() {
        for (template, part) in [
            ("users", "does not begin with '/'"),
            ("/users/{id", "segment \"{id\""),
            ("/users/x{id}", "expected a word"),
            ("/a*b/c", "expected a word"),
            ("/{}/c", "expected a word"),
        ] {
            let message = Template::parse(template).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(matches!(Template::parse(&"/a".repeat(50)), Err(TemplateError::TooLong { .. })));
    }
}
