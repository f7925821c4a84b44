//! What of a call the operator wants on its span beyond the conventions' own: HTTP fields under the conventions'
//! names, and attributes that are lifted from a field, a query, a Redis key or the process's environment.
//!
//! Says what is asked for and where; `span/lifted.rs` takes it from a call.

use std::sync::Arc;

use regex::Regex;
use rustc_hash::FxHashSet;
use wirespan_protocols::http1::{Asked, Direction};

use super::json::Pointer;
use crate::process::Process;
use crate::span::SpanKind;

/// Longest value that is lifted.
pub const VALUE_LIMIT_BYTES: usize = 1024;

/// What is asked of calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    request_headers: Vec<String>,
    response_headers: Vec<String>,
    lifted: Vec<Lifted>,
    asked: Arc<Asked>,
    pointers: Arc<[Pointer]>,
}

/// An attribute that is lifted from a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifted {
    /// Its name.
    pub name: String,
    /// Where its value is.
    pub place: Place,
    /// Only spans of this kind have it.
    pub kind: Option<SpanKind>,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A field of an HTTP request's head, by its name in lower case.
    RequestHeader(String),
    /// A field of an HTTP response's head.
    ResponseHeader(String),
    /// A parameter of an HTTP request's query.
    Query(String),
    /// A variable of the process's environment.
    Variable(String),
    /// A part of a Redis command's first key.
    RedisKey(KeyPattern),
    /// A field of the JSON object that is an HTTP request's content, or that a job is given.
    Json(Pointer),
}

impl Lifted {
    fn pointer(&self) -> Option<&Pointer> {
        match &self.place {
            Place::Json(pointer) => Some(pointer),
            _ => None,
        }
    }
}

impl Traffic {
    /// Puts together what is asked for. Names of headers are in lower case.
    pub fn new(
        mut request_headers: Vec<String>,
        mut response_headers: Vec<String>,
        lifted: Vec<Lifted>,
    ) -> Self {
        for names in [&mut request_headers, &mut response_headers] {
            // One attribute each.
            let mut known = FxHashSet::default();
            names.retain(|name| known.insert(name.clone()));
        }
        let requests = request_headers.iter().map(|name| (Direction::Requests, name));
        let responses = response_headers.iter().map(|name| (Direction::Responses, name));
        let lifts = lifted.iter().filter_map(|lifted| match &lifted.place {
            Place::RequestHeader(name) => Some((Direction::Requests, name)),
            Place::ResponseHeader(name) => Some((Direction::Responses, name)),
            Place::Query(_) | Place::Variable(_) | Place::RedisKey(_) | Place::Json(_) => None,
        });
        let pointers: Arc<[Pointer]> = lifted.iter().filter_map(Lifted::pointer).cloned().collect();
        let none = if pointers.is_empty() { Asked::new() } else { Asked::new().objects() };
        let fields = requests.chain(responses).chain(lifts);
        let asked = fields.fold(none, |asked, (direction, name)| asked.field(direction, name));
        Self { asked: Arc::new(asked), request_headers, response_headers, lifted, pointers }
    }

    /// Fields of requests that are shown.
    pub fn request_headers(&self) -> &[String] {
        &self.request_headers
    }

    /// Fields of responses that are shown.
    pub fn response_headers(&self) -> &[String] {
        &self.response_headers
    }

    /// Attributes that are lifted: of several with one name the first that has a value counts.
    pub fn lifted(&self) -> &[Lifted] {
        &self.lifted
    }

    /// The fields that the parser of HTTP has to keep.
    pub fn asked(&self) -> &Arc<Asked> {
        &self.asked
    }

    /// The fields of JSON objects that are lifted.
    pub fn pointers(&self) -> &Arc<[Pointer]> {
        &self.pointers
    }

    /// Whether keys of Redis have to be kept.
    pub fn wants_redis_keys(&self) -> bool {
        self.lifted.iter().any(|lifted| matches!(lifted.place, Place::RedisKey(_)))
    }

    /// The variables that are asked for.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.lifted.iter().filter_map(|lifted| match &lifted.place {
            Place::Variable(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Those of a process, with their values.
    pub fn environment(&self, process: &Process) -> Vec<(String, String)> {
        let value = |name: &str| {
            let value = process.environment.get(name).filter(|it| it.len() <= VALUE_LIMIT_BYTES)?;
            Some((name.to_owned(), value.to_owned()))
        };
        self.variables().filter_map(value).collect()
    }
}

/// A pattern of Redis keys with the part that is wanted in braces: `episode:{id}:*`. The part has no colon, `*`
/// stands for anything.
#[derive(Clone, Debug)]
pub struct KeyPattern {
    text: String,
    pattern: Regex,
}

impl PartialEq for KeyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl KeyPattern {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it: it has no part in braces, or several.
    pub fn new(text: &str) -> Result<Self, String> {
        let parts = text.split_once('{').and_then(|(before, rest)| {
            let (_name, after) = rest.split_once('}')?;
            Some((before, after))
        });
        let Some((before, after)) = parts else {
            return Err("no part of it is in braces".to_owned());
        };
        if after.contains(['{', '}']) || before.contains('}') {
            return Err("only one part of it may be in braces".to_owned());
        }
        // The regex crate takes time linear in the text, whatever the pattern.
        let literal = |part: &str| regex::escape(part).replace(r"\*", ".*?");
        let pattern = format!("(?s)^{}([^:]+){}$", literal(before), literal(after));
        let pattern = Regex::new(&pattern).map_err(|_error| "it is too long".to_owned())?;
        Ok(Self { text: text.to_owned(), pattern })
    }

    /// The part of a key that fits.
    pub fn part<'k>(&self, key: &'k str) -> Option<&'k str> {
        self.pattern.captures(key)?.get(1).map(|part| part.as_str())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::end("episode:{id}", "episode:7", Some("7"))]
    #[case::longer_key("episode:{id}", "episode:7:state", None)]
    #[case::middle("episode:{id}:*", "episode:7:state:x", Some("7"))]
    #[case::star_before("*:job:{id}", "a:b:job:9", Some("9"))]
    #[case::empty("episode:{id}", "episode:", None)]
    #[case::other("episode:{id}", "user:7", None)]
    #[case::signs_are_themselves("a.b[{x}]", "a.b[é]", Some("é"))]
    #[case::signs_are_no_pattern("a.b{x}", "acb7", None)]
    #[case::no_name("s:{}", "s:1", Some("1"))]
    #[case::line_end("*{id}:*", "a\n:b\nc", Some("a\n"))]
    fn a_part_of_a_key(#[case] pattern: &str, #[case] key: &str, #[case] part: Option<&str>) {
        assert_eq!(KeyPattern::new(pattern).unwrap().part(key), part);
    }

    #[rstest]
    #[case("episode:*", "no part")]
    #[case("episode:{id", "no part")]
    #[case("{a}:{b}", "only one")]
    #[case("}{b}", "only one")]
    fn a_pattern_has_one_part(#[case] pattern: &str, #[case] problem: &str) {
        let error = KeyPattern::new(pattern).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }

    #[test]
    fn the_parser_is_asked_for_what_is_shown_or_lifted() {
        let lift = |place| Lifted { name: "a".to_owned(), place, kind: None };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let traffic = Traffic::new(
            names(&["x-a"]),
            names(&["x-b"]),
            vec![
                lift(Place::RequestHeader("x-c".to_owned())),
                lift(Place::ResponseHeader("x-b".to_owned())),
                lift(Place::Query("q".to_owned())),
                lift(Place::Variable("V".to_owned())),
            ],
        );
        let expected = Asked::new().field(Direction::Requests, "x-a");
        let expected = expected.field(Direction::Requests, "x-c");
        assert_eq!(**traffic.asked(), expected.field(Direction::Responses, "x-b"));
        assert_eq!(traffic.variables().collect::<Vec<_>>(), ["V"]);
        assert!(!traffic.wants_redis_keys());
        let key = Place::RedisKey(KeyPattern::new("a:{b}").unwrap());
        assert!(Traffic::new(Vec::new(), Vec::new(), vec![lift(key)]).wants_redis_keys());
    }
}
