//! What the operator asks for of a process's spans: the settings that a rule gives the processes it allows.
//!
//! Beside the data path: selection gives each process its settings, later stages ask them. Knows neither the
//! configuration file's spelling (`config`) nor any process's traffic.

mod json;
mod redaction;
mod traffic;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use wirespan_protocols::propagation::Propagators;
use wirespan_protocols::w3c::TraceId;

use crate::process::Process;
use crate::queue::Rule;
use crate::span::{Attribute, Span, Value};

pub use json::{JsonField, Pointer, fields, fields_of};
pub use redaction::{REDACTED, Redaction, pattern};
pub use traffic::{KeyPattern, Lifted, Place, Traffic, VALUE_LIMIT_BYTES};

/// What OpenTelemetry's SDKs keep of a span's attributes
/// (<https://opentelemetry.io/docs/specs/otel/common/#configurable-parameters>).
const ATTRIBUTE_COUNT: usize = 128;

/// What is done with the spans of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `service.name`, instead of what is found out.
    pub service: Option<Source>,
    /// Resource attributes, before any that are found out.
    pub attributes: Vec<(String, Source)>,
    /// Which protocols make spans.
    pub protocols: Protocols,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// Templates of routes.
    pub routes: Vec<String>,
    /// Requests whose path is like one of these make no span, nor does what is done for them.
    pub ignored_routes: Globs,
    /// Database calls whose text or name is like one of these make no span.
    pub ignored_statements: Globs,
    /// What is shown of calls beyond what always is.
    pub traffic: Arc<Traffic>,
    /// What is taken out of spans.
    pub redaction: Redaction,
    /// The most attributes that a span may have.
    pub attribute_count: usize,
    /// The longest that an attribute's text may be, in characters.
    pub attribute_length: Option<usize>,
    /// A Node.js process may be assisted.
    pub node_assist: bool,
    /// Parameters of statements become attributes.
    pub query_parameters: bool,
    /// Keys of messages become attributes.
    pub message_keys: bool,
    /// A process that sends spans of its own is left alone.
    pub yield_to_sdk: bool,
    /// A process is traced although `OTEL_SDK_DISABLED=true` is in its environment.
    pub trace_sdk_disabled: bool,
    /// Statements by which a pool looks whether a connection lives make no span.
    pub silent_pool_pings: bool,
    /// Queues on Redis that are none of a library's.
    pub queues: Arc<[Arc<Rule>]>,
    /// Formats of trace contexts that are read beside W3C's.
    pub propagators: Propagators,
    /// Who sent what it receives is linked to, and never the parent.
    pub message_links: bool,
    /// A process that serves nothing has a span, and its calls are beneath it.
    pub process_spans: bool,
    /// After so long it is a daemon.
    pub process_span_limit: Duration,
    /// A process's span shows its arguments.
    pub process_arguments: bool,
}

/// An hour: a daemon that works by the clock must not put months of calls into one trace.
const PROCESS_SPAN_LIMIT: Duration = Duration::from_secs(3_600);

impl Default for Settings {
    fn default() -> Self {
        Self {
            service: None,
            attributes: Vec::new(),
            protocols: Protocols::default(),
            sampling: Sampling::default(),
            routes: Vec::new(),
            ignored_routes: Globs::default(),
            ignored_statements: Globs::default(),
            traffic: Arc::default(),
            redaction: Redaction::default(),
            attribute_count: ATTRIBUTE_COUNT,
            attribute_length: None,
            node_assist: true,
            query_parameters: false,
            message_keys: false,
            yield_to_sdk: true,
            trace_sdk_disabled: false,
            silent_pool_pings: false,
            queues: Arc::default(),
            propagators: Propagators::default(),
            message_links: false,
            process_spans: true,
            process_span_limit: PROCESS_SPAN_LIMIT,
            process_arguments: false,
        }
    }
}

impl Settings {
    /// The variables of a process that its values are taken from.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let sources = self.attributes.iter().map(|(_, source)| source).chain(&self.service);
        let named = sources.filter_map(|source| match source {
            Source::Variable { name, .. } => Some(name.as_str()),
            Source::Fixed(_) | Source::Argument { .. } | Source::Label { .. } => None,
        });
        named.chain(self.traffic.variables())
    }

    /// Whether a span's statement or operation is one of those that are ignored.
    pub fn ignores_statement_of(&self, span: &Span) -> bool {
        use opentelemetry_semantic_conventions::attribute as key;
        const KEYS: [&str; 3] = [key::DB_QUERY_TEXT, key::DB_QUERY_SUMMARY, key::DB_OPERATION_NAME];
        let ignored =
            |key: &&str| span.text(key).is_some_and(|text| self.ignored_statements.is_match(text));
        !self.ignored_statements.is_empty() && KEYS.iter().any(ignored)
    }

    /// Leaves out attributes beyond those that there may be, and cuts texts that are longer than they may be.
    pub fn limit(&self, span: &mut Span) {
        let beyond = span.attributes.len().saturating_sub(self.attribute_count);
        span.attributes.truncate(self.attribute_count);
        span.dropped_attributes = u32::try_from(beyond).unwrap_or(u32::MAX);
        self.shorten(&mut span.attributes);
    }

    fn shorten(&self, attributes: &mut [Attribute]) {
        let Some(length) = self.attribute_length else { return };
        let cut = |text: &str| text.char_indices().nth(length).map(|(end, _)| end);
        for attribute in attributes {
            match &mut attribute.value {
                Value::Str(text) => {
                    if let Some(end) = cut(text) {
                        text.to_mut().truncate(end);
                    }
                }
                Value::StrArray(texts) => {
                    for text in texts {
                        if let Some(end) = cut(text) {
                            text.truncate(end);
                        }
                    }
                }
                Value::Bool(_) | Value::Int(_) | Value::Double(_) => {}
            }
        }
    }
}

/// Where a value comes from.
#[derive(Clone, PartialEq)]
pub enum Source {
    /// The operator wrote it.
    Fixed(Value),
    /// A variable of the process's environment.
    Variable {
        /// Its name.
        name: String,
        /// If it is not set, or empty.
        default: Option<String>,
    },
    /// An argument of the process's command line.
    Argument {
        /// The option whose value it is (`--queue` of `--queue=mail` and `--queue mail`), or a position, of
        /// which 0 is the program.
        argument: String,
        /// If there is no such argument.
        default: Option<String>,
    },
    /// A label of its pod, or else of its container.
    Label {
        /// Its key.
        label: String,
        /// If there is none, or none is known.
        default: Option<String>,
    },
}

/// Values may be secrets of the file: not shown.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed"),
            Self::Variable { name, .. } => write!(f, "Variable({name})"),
            Self::Argument { argument, .. } => write!(f, "Argument({argument})"),
            Self::Label { label, .. } => write!(f, "Label({label})"),
        }
    }
}

impl Source {
    /// The value for a process.
    pub fn of(&self, process: &Process) -> Option<Value> {
        let (found, default) = match self {
            Self::Fixed(value) => return Some(value.clone()),
            Self::Variable { name, default } => (process.environment.get(name), default),
            Self::Argument { argument, default } => {
                (argument_of(&process.command, argument), default)
            }
            Self::Label { label, default } => {
                (process.container.as_ref().and_then(|container| container.label(label)), default)
            }
        };
        found.or(default.as_deref()).map(|text| Value::from(text.to_owned()))
    }
}

fn argument_of<'a>(command: &'a [String], argument: &str) -> Option<&'a str> {
    if let Ok(position) = argument.parse::<usize>() {
        return command.get(position).map(String::as_str);
    }
    let mut rest = command.iter();
    while let Some(word) = rest.next() {
        if word == argument {
            return rest.next().map(String::as_str);
        }
        if let Some(value) = word.strip_prefix(argument).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

/// Which protocols make spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols {
    /// HTTP/1.x.
    pub http: bool,
    /// Redis.
    pub redis: bool,
    /// PostgreSQL.
    pub postgresql: bool,
    /// AMQP 0-9-1.
    pub amqp: bool,
    /// Kafka.
    pub kafka: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self { http: true, redis: true, postgresql: true, amqp: true, kafka: true }
    }
}

/// Which traces are kept: decided by the trace's id, so that all agents and services with one ratio decide alike
/// (<https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// The share that is kept, from 0 to 1.
    pub ratio: f64,
    /// Of a trace that came with a `traceparent`, its flag "sampled" decides instead.
    pub parent_based: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { ratio: 1.0, parent_based: false }
    }
}

/// Bits of a trace id that are random (W3C Trace Context level 2, 2.2.5.1).
const RANDOM_BITS: u32 = 56;

impl Sampling {
    /// Whether spans of this trace are kept. `flags`: of a trace that came with a `traceparent`, that one's.
    pub fn keeps(&self, trace: &TraceId, flags: Option<u8>) -> bool {
        const SAMPLED: u8 = 0x01;
        if let Some(flags) = flags.filter(|_| self.parent_based) {
            return flags & SAMPLED != 0;
        }
        if self.ratio >= 1.0 {
            return true;
        }
        let random =
            trace.0.iter().rev().take(7).rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        // Both have less than 53 significant bits' difference that matters: a ratio is no exact number.
        let threshold = (1.0 - self.ratio) * (1_u64 << RANDOM_BITS) as f64;
        random as f64 >= threshold
    }
}

/// Globs, one of which has to match. `*` matches `/` as well.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    texts: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// Compiles them.
    ///
    /// # Errors
    /// What is wrong with the first that is none.
    pub fn new(texts: Vec<String>) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        for text in &texts {
            let glob =
                GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build();
            set.add(glob.map_err(|error| error.kind().to_string())?);
        }
        Ok(Self { set: set.build().map_err(|error| error.to_string())?, texts })
    }

    /// As they were written.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether one of them matches. `*` matches `/` as well.
    pub fn is_match(&self, text: &str) -> bool {
        self.set.is_match(text)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(number: u64) -> TraceId {
        // Spread as random ones are (SplitMix64).
        let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mut id = [7; 16];
        id[8..].copy_from_slice(&(z ^ (z >> 31)).to_be_bytes());
        TraceId(id)
    }

    #[test]
    fn a_ratio_keeps_its_share_and_a_larger_one_what_a_smaller_one_keeps() {
        let kept = |ratio: f64| -> Vec<u64> {
            let sampling = Sampling { ratio, parent_based: false };
            (0..20_000).filter(|number| sampling.keeps(&trace(*number), None)).collect()
        };
        let (tenth, half) = (kept(0.1), kept(0.5));
        assert!((1_800..2_200).contains(&tenth.len()), "{}", tenth.len());
        assert!((9_700..10_300).contains(&half.len()), "{}", half.len());
        assert!(tenth.iter().all(|number| half.contains(number)));
        assert_eq!((kept(0.0).len(), kept(1.0).len()), (0, 20_000));
    }

    #[test]
    fn the_specifications_threshold_decides() {
        // A ratio of 1/4 is `th:c`: the first random digit must be c or more.
        let sampling = Sampling { ratio: 0.25, parent_based: false };
        let with = |first: u8| {
            let mut id = [0xff; 16];
            id[9] = first;
            id[10..].fill(0);
            TraceId(id)
        };
        assert!(sampling.keeps(&with(0xc0), None) && !sampling.keeps(&with(0xbf), None));
    }

    #[test]
    fn a_parents_flag_counts_where_it_is_asked_for() {
        let with = |ratio, parent_based| Sampling { ratio, parent_based };
        for (sampling, root, unsampled, sampled) in [
            (with(1.0, false), true, true, true),
            (with(0.0, false), false, false, false),
            (with(1.0, true), true, false, true),
            (with(0.0, true), false, false, true),
        ] {
            let kept = [None, Some(0), Some(1)].map(|flags| sampling.keeps(&trace(1), flags));
            assert_eq!(kept, [root, unsampled, sampled], "{sampling:?}");
        }
    }

    #[test]
    fn options_are_found_in_either_spelling() {
        let command: Vec<String> =
            ["celery", "--queue=mail", "-c", "4", "worker"].map(str::to_owned).into();
        assert_eq!(argument_of(&command, "--queue"), Some("mail"));
        assert_eq!(argument_of(&command, "-c"), Some("4"));
        assert_eq!(argument_of(&command, "4"), Some("worker"));
        assert_eq!(argument_of(&command, "--que"), None);
        assert_eq!(argument_of(&command, "worker"), None);
    }

    #[test]
    fn statements_are_ignored_by_text_summary_or_operation() {
        use opentelemetry_semantic_conventions::attribute as key;
        let with = |key: &'static str, value: &'static str| Span {
            trace_id: trace(1),
            span_id: crate::span::SpanId([1; 8]),
            parent_span_id: None,
            parent_is_remote: false,
            trace_flags: 1,
            trace_state: None,
            kind: crate::span::SpanKind::Client,
            name: "x".into(),
            start_unix_ns: 0,
            end_unix_ns: 1,
            attributes: vec![Attribute::new(key, value)],
            dropped_attributes: 0,
            links: Vec::new(),
            status: crate::span::Status::Unset,
            resource: Arc::new(crate::span::Resource { attributes: Vec::new() }),
        };
        let globs = ["SELECT ?", "PING", "*pg_catalog*"].map(str::to_owned);
        let ignored_statements = Globs::new(globs.to_vec()).unwrap();
        let settings = Settings { ignored_statements, ..Settings::default() };
        assert!(settings.ignores_statement_of(&with(key::DB_QUERY_TEXT, "SELECT ?")));
        assert!(settings.ignores_statement_of(&with(key::DB_OPERATION_NAME, "PING")));
        assert!(settings.ignores_statement_of(&with(key::DB_QUERY_SUMMARY, "SELECT pg_catalog.x")));
        assert!(!settings.ignores_statement_of(&with(key::DB_QUERY_TEXT, "SELECT ? FROM t")));
        assert!(!settings.ignores_statement_of(&with(key::URL_PATH, "PING")));
        assert!(!Settings::default().ignores_statement_of(&with(key::DB_OPERATION_NAME, "PING")));
    }

    #[test]
    fn attributes_beyond_the_limit_are_left_out_and_counted() {
        let settings = Settings { attribute_count: 2, ..Settings::default() };
        for (count, kept, dropped) in [(0, 0, 0), (2, 2, 0), (5, 2, 3)] {
            let mut span = crate::export::testing::span(1, 1, None);
            span.attributes = (0..count).map(|key| Attribute::new(key.to_string(), key)).collect();
            settings.limit(&mut span);
            assert_eq!((span.attributes.len(), span.dropped_attributes), (kept, dropped));
            assert!((0..).zip(&span.attributes).all(|(key, it)| it.value == Value::Int(key)));
        }
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let settings = Settings { attribute_length: Some(2), ..Settings::default() };
        let mut attributes = [
            Attribute::new("a", "äöü"),
            Attribute::new("b", 12345),
            Attribute::new("c", vec!["xyz".to_owned(), "x".to_owned()]),
        ];
        settings.shorten(&mut attributes);
        assert_eq!(attributes[0].value, Value::from("äö"));
        assert_eq!(attributes[1].value, Value::from(12345));
        assert_eq!(attributes[2].value, Value::from(vec!["xy".to_owned(), "x".to_owned()]));
    }
}
