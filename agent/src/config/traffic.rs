//! What of a call is shown beyond what always is, and what is taken out: `settings.http`, `settings.span_attributes`
//! and `settings.redact`.

use regex::Regex;
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::scalar::{Leaf, Scalar};
use super::settings::GlobText;
use crate::settings::{Globs, KeyPattern, Lifted, Place, Pointer, Redaction, Traffic, pattern};
use crate::span::SpanKind;

/// What of HTTP is shown beyond what always is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Headers of requests that spans show (`http.request.header.NAME`), both of what is served and of calls. Those
    /// that carry credentials are refused, such as `authorization` and `cookie`. Default: none.
    pub request_headers: Option<Vec<Scalar<HeaderName>>>,
    /// Headers of responses that spans show (`http.response.header.NAME`). Default: none.
    pub response_headers: Option<Vec<Scalar<HeaderName>>>,
}

/// An attribute that is taken from a call: its name, one place, and perhaps a kind.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpanAttribute {
    /// Its name, such as `user.id`. What a span has by the conventions stays.
    pub name: Scalar<AttributeName>,
    /// Its value is this header of the request, where that is there once.
    #[serde(default)]
    pub header: Option<Scalar<HeaderName>>,
    /// Its value is this header of the response.
    #[serde(default)]
    pub response_header: Option<Scalar<HeaderName>>,
    /// Its value is this parameter of the URL's query, decoded, where that is there once.
    #[serde(default)]
    pub query: Option<Scalar<String>>,
    /// Its value is this variable of the process's environment, as it was when the process executed its program.
    #[serde(default)]
    pub env: Option<Scalar<String>>,
    /// Its value is the part in braces of a Redis command's first key that is like this: `episode:{id}:*`. The part
    /// has no colon; `*` stands for anything.
    #[serde(default)]
    pub redis_key: Option<Scalar<KeyText>>,
    /// Its value is this field of the JSON object that is the request's content, or that a job is given (Bull's and
    /// BullMQ's data, Celery's keyword arguments, a message, a list's element, the fields of an entry or a hash): a JSON
    /// Pointer, `/workflow/job_id`. A text, a number or a truth value.
    #[serde(default)]
    pub json: Option<Scalar<PointerText>>,
    /// Only spans of this kind have it: `server`, `client`, `producer`, `consumer`. Default: all.
    #[serde(default)]
    pub kind: Option<Scalar<Kind>>,
}

/// Of which exactly one place is given.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(transparent)]
pub struct CheckedAttribute(pub SpanAttribute);

impl<'de> Deserialize<'de> for CheckedAttribute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let attribute = SpanAttribute::deserialize(deserializer)?;
        if attribute.lifted().is_none() {
            return Err(de::Error::custom(
                "expected one of `header`, `response_header`, `query`, `env`, `redis_key` and `json`",
            ));
        }
        Ok(Self(attribute))
    }
}

impl SpanAttribute {
    fn lifted(&self) -> Option<Lifted> {
        let places = [
            self.header.as_ref().map(|it| Place::RequestHeader(it.0.0.clone())),
            self.response_header.as_ref().map(|it| Place::ResponseHeader(it.0.0.clone())),
            self.query.as_ref().map(|it| Place::Query(it.0.clone())),
            self.env.as_ref().map(|it| Place::Variable(it.0.clone())),
            self.redis_key.as_ref().map(|it| Place::RedisKey(it.0.0.clone())),
            self.json.as_ref().map(|it| Place::Json(it.0.0.clone())),
        ];
        let mut places = places.into_iter().flatten();
        let place = places.next().filter(|_| places.next().is_none())?;
        let kind = self.kind.as_ref().map(|kind| kind.0.0);
        Some(Lifted { name: self.name.0.0.clone(), place, kind })
    }
}

/// What is taken out of spans, last of all, for every exporter and every tap.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redact {
    /// Globs over names of attributes, of spans and of resources: their values are `REDACTED`. Default: none.
    pub attributes: Option<Vec<Scalar<GlobText>>>,
    /// Regular expressions (<https://docs.rs/regex/latest/regex/#syntax>): what they match in an attribute's text, a
    /// span's name or its status is `REDACTED`. Each costs time for each text. Default: none.
    pub patterns: Option<Vec<Scalar<Pattern>>>,
}

/// What is shown of calls, where these settings leave it open as in `defaults`.
pub(super) fn traffic(
    http: &HttpSettings,
    attributes: Option<&Vec<CheckedAttribute>>,
    defaults: &Traffic,
) -> Traffic {
    let names = |own: &Option<Vec<Scalar<HeaderName>>>, other: &[String]| match own {
        Some(names) => names.iter().map(|name| name.0.0.clone()).collect(),
        None => other.to_vec(),
    };
    Traffic::new(
        names(&http.request_headers, defaults.request_headers()),
        names(&http.response_headers, defaults.response_headers()),
        match attributes {
            Some(own) => own.iter().filter_map(|attribute| attribute.0.lifted()).collect(),
            None => defaults.lifted().to_vec(),
        },
    )
}

impl Redact {
    pub(super) fn over(&self, defaults: &Redaction) -> Redaction {
        Redaction {
            keys: match &self.attributes {
                // They were tried when they were read.
                Some(globs) => Globs::new(globs.iter().map(|glob| glob.0.0.clone()).collect())
                    // Too many together: rather too much is taken out than nothing.
                    .or_else(|_| Globs::new(vec!["*".to_owned()]))
                    .unwrap_or_default(),
                None => defaults.keys.clone(),
            },
            patterns: match &self.patterns {
                Some(patterns) => patterns.iter().map(|pattern| pattern.0.0.clone()).collect(),
                None => defaults.patterns.clone(),
            },
        }
    }
}

/// Where a field is in a JSON object.
#[derive(Clone, Debug, PartialEq)]
pub struct PointerText(pub Pointer);

impl Leaf for PointerText {
    const EXPECTED: &'static str = "a JSON Pointer, as in /workflow/job_id";

    fn read(text: &str) -> Result<Self, String> {
        Pointer::new(text).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^/([^~]|~[01])*$", "maxLength": 512 })
    }
}

/// The name of a header, in lower case.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderName(pub String);

/// Words in the names of headers whose values let in who has them.
const CREDENTIALS: [&str; 11] = [
    "accesstoken",
    "apikey",
    "assertion",
    "authorization",
    "cookie",
    "cookie2",
    "jwt",
    "password",
    "secret",
    "session",
    "token",
];

/// Whether a header's name says that it carries credentials.
fn is_credentials(name: &str) -> bool {
    let words: Vec<&str> = name.split(['-', '_', '.']).collect();
    words.iter().any(|word| CREDENTIALS.contains(word))
        || words.windows(2).any(|pair| pair == ["api", "key"])
}

impl Leaf for HeaderName {
    const EXPECTED: &'static str =
        "the name of a header that carries no credentials, as in x-request-id";

    fn read(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        // RFC 9110, 5.6.2.
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
            return Err(String::new());
        }
        if is_credentials(&name) {
            return Err("its values are credentials".to_owned());
        }
        Ok(Self(name))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 128 })
    }
}

/// The name of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeName(pub String);

impl Leaf for AttributeName {
    const EXPECTED: &'static str = "the name of an attribute, as in user.id";

    fn read(text: &str) -> Result<Self, String> {
        if ["wirespan.", "telemetry."].iter().any(|own| text.starts_with(own)) {
            return Err("only the agent may state it".to_owned());
        }
        if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
            return Err(String::new());
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 255 })
    }
}

/// A pattern of Redis keys.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyText(pub KeyPattern);

impl Leaf for KeyText {
    const EXPECTED: &'static str = "a key with one part in braces, as in episode:{id}:*";

    fn read(text: &str) -> Result<Self, String> {
        KeyPattern::new(text).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[^{}]*\{[^{}]*\}[^{}]*$" })
    }
}

/// A span's kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kind(pub SpanKind);

const KINDS: [(&str, SpanKind); 4] = [
    ("server", SpanKind::Server),
    ("client", SpanKind::Client),
    ("producer", SpanKind::Producer),
    ("consumer", SpanKind::Consumer),
];

impl Leaf for Kind {
    const EXPECTED: &'static str = "server, client, producer or consumer";

    fn read(text: &str) -> Result<Self, String> {
        let found = KINDS.into_iter().find(|(word, _)| *word == text);
        found.map(|(_, kind)| Self(kind)).ok_or_else(String::new)
    }

    fn schema() -> Schema {
        json_schema!({ "enum": KINDS.map(|(word, _)| word) })
    }
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Leaf for Pattern {
    const EXPECTED: &'static str = r"a regular expression, as in \d{16}";

    fn read(text: &str) -> Result<Self, String> {
        pattern(text).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}
