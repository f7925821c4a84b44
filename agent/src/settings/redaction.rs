//! What is taken out of spans before anybody gets them.
//!
//! The last change to a span, before the cut of long texts: half of what a pattern is for would be no match. Patterns
//! are the regex crate's: a search takes time linear in the text, whatever they are, and there are so many at most.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::Globs;
use crate::span::{Attribute, Span, Status, Value};

/// What stands for what was taken out.
pub const REDACTED: &str = "REDACTED";

/// A pattern that needs more when compiled is refused.
const PATTERN_LIMIT_BYTES: usize = 1 << 20;

/// Matches of a pattern in one text. Of a text with more all is taken out: to look for all of them may take time
/// quadratic in its length (<https://docs.rs/regex/latest/regex/#iterating-over-matches>).
const MATCHES: usize = 256;

/// What is taken out.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    /// Attributes whose whole value is.
    pub keys: Globs,
    /// What is, wherever it stands in a text.
    pub patterns: Vec<Regex>,
}

impl PartialEq for Redaction {
    fn eq(&self, other: &Self) -> bool {
        let texts =
            |of: &Self| of.patterns.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>();
        self.keys == other.keys && texts(self) == texts(other)
    }
}

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn pattern(text: &str) -> Result<Regex, String> {
    let pattern = RegexBuilder::new(text).size_limit(PATTERN_LIMIT_BYTES).build();
    let pattern = pattern.map_err(|error| {
        // Its last line says what; those before it point at the place.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim();
        last.strip_prefix("error: ").unwrap_or(last).to_owned()
    })?;
    if pattern.is_match("") { Err("it matches nothing at all".to_owned()) } else { Ok(pattern) }
}

impl Redaction {
    /// Takes it out of a span: of its name, its status, its attributes and those of its links.
    pub fn apply(&self, span: &mut Span) {
        if self.keys.is_empty() && self.patterns.is_empty() {
            return;
        }
        self.apply_to(&mut span.attributes);
        span.links.iter_mut().for_each(|link| self.apply_to(&mut link.attributes));
        self.text(&mut span.name);
        if let Status::Error(description) = &mut span.status {
            self.text(description);
        }
    }

    /// Takes it out of attributes.
    pub fn apply_to(&self, attributes: &mut [Attribute]) {
        for Attribute { key, value } in attributes {
            if self.keys.is_match(key) {
                *value = Value::from(REDACTED);
                continue;
            }
            match value {
                Value::Str(text) => self.text(text),
                Value::StrArray(texts) => {
                    for text in texts {
                        let mut redacted = Cow::Borrowed(text.as_str());
                        self.patterns.iter().for_each(|pattern| replace(pattern, &mut redacted));
                        if let Cow::Owned(redacted) = redacted {
                            *text = redacted;
                        }
                    }
                }
                Value::Bool(_) | Value::Int(_) | Value::Double(_) => {}
            }
        }
    }

    fn text(&self, text: &mut Cow<'static, str>) {
        self.patterns.iter().for_each(|pattern| replace(pattern, text));
    }
}

fn replace(pattern: &Regex, text: &mut Cow<'_, str>) {
    let mut redacted = String::new();
    let mut end = 0;
    for (number, found) in pattern.find_iter(text).enumerate() {
        if number >= MATCHES {
            REDACTED.clone_into(&mut redacted);
            end = text.len();
            break;
        }
        // A pattern may match between two characters: there is nothing to take out.
        if !found.is_empty() {
            redacted.push_str(text.get(end..found.start()).unwrap_or_default());
            redacted.push_str(REDACTED);
            end = found.end();
        }
    }
    if end > 0 {
        redacted.push_str(text.get(end..).unwrap_or_default());
        *text = Cow::Owned(redacted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Link;

    fn redaction(keys: &[&str], patterns: &[&str]) -> Redaction {
        Redaction {
            keys: Globs::new(keys.iter().map(|key| (*key).to_owned()).collect()).unwrap(),
            patterns: patterns.iter().map(|text| pattern(text).unwrap()).collect(),
        }
    }

    #[test]
    fn what_a_key_names_is_gone_whatever_its_type() {
        let mut attributes = [
            Attribute::new("user.id", 7),
            Attribute::new("user.tags", vec!["a".to_owned()]),
            Attribute::new("users", "a"),
        ];
        redaction(&["user.*"], &[]).apply_to(&mut attributes);
        let values = attributes.map(|attribute| attribute.value);
        assert_eq!(values, [REDACTED.into(), REDACTED.into(), Value::from("a")]);
    }

    #[test]
    fn what_a_pattern_matches_is_gone_wherever_it_stands() {
        let mail = || "GET /users/a@b.example/x".into();
        let mut span = crate::export::testing::span(1, 1, None);
        span.name = mail();
        span.status = Status::Error(mail());
        span.attributes = vec![
            Attribute::new("url.path", "/users/a@b.example/a@c.example"),
            Attribute::new("list", vec!["x".to_owned(), "a@b.example".to_owned()]),
            Attribute::new("number", 4111),
        ];
        span.links = vec![Link {
            trace_id: span.trace_id,
            span_id: span.span_id,
            attributes: vec![Attribute::new("k", "a@b.example")],
        }];
        redaction(&[], &[r"[a-z]+@[a-z.]+", "4111"]).apply(&mut span);
        assert_eq!(span.name, "GET /users/REDACTED/x");
        assert_eq!(span.status, Status::Error("GET /users/REDACTED/x".into()));
        let values: Vec<_> = span.attributes.iter().map(|it| it.value.clone()).collect();
        let list = vec!["x".to_owned(), REDACTED.to_owned()];
        assert_eq!(
            values,
            [Value::from("/users/REDACTED/REDACTED"), list.into(), Value::from(4111)]
        );
        assert_eq!(span.links[0].attributes[0].value, REDACTED.into());
    }

    #[test]
    fn a_pattern_that_matches_between_characters_changes_nothing() {
        let mut attributes = [Attribute::new("a", "x y")];
        redaction(&[], &[r"\b"]).apply_to(&mut attributes);
        assert_eq!(attributes[0].value, "x y".into());
    }

    #[test]
    fn a_text_with_more_matches_than_are_looked_for_is_gone_as_a_whole() {
        for (count, expected) in [
            (MATCHES, format!("{}y", "REDACTED,".repeat(MATCHES))),
            (MATCHES + 1, REDACTED.to_owned()),
        ] {
            let mut attributes = [Attribute::new("a", "x,".repeat(count) + "y")];
            redaction(&[], &["x"]).apply_to(&mut attributes);
            assert_eq!(attributes[0].value, expected.into());
        }
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_one_line() {
        for (text, part) in
            [("(", "unclosed group"), ("a*", "matches nothing"), ("(a{999}){999}", "size")]
        {
            let error = pattern(text).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
