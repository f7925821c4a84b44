//! Allow rules: which processes the operator lets the agent trace.
//!
//! A rule is a text, `port=3000,user=app,!cmd=*migrate*`: terms that must all hold. Nothing is traced
//! that no rule allows; the rules know nothing about traffic.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::{Process, ProcessId, Runtime};

/// One allow rule. `Display` gives the text that it was parsed from, without blanks around terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    terms: Vec<Term>,
}

/// What is wrong with a rule, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No text at all, or nothing between two commas.
    #[error("empty term in a rule: expected KEY=VALUE[,KEY=VALUE...], as in port=3000,user=app")]
    Empty,
    /// A term without `=`.
    #[error(
        "term {term:?} has no '=': expected KEY=VALUE (a comma inside a pattern is written as \\,)"
    )]
    NoValue {
        /// The term.
        term: String,
    },
    /// A key that rules do not know.
    #[error("unknown key {key:?}: expected exe, cmd, runtime, port or user")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A key with nothing after `=`.
    #[error("{key}= has no value: expected {expected}")]
    EmptyValue {
        /// The key.
        key: &'static str,
        /// What a value looks like.
        expected: &'static str,
    },
    /// A pattern that is no glob.
    #[error("{key}={value} is no pattern: {reason}")]
    Pattern {
        /// The key.
        key: &'static str,
        /// The pattern.
        value: String,
        /// What the glob parser said.
        reason: String,
    },
    /// A runtime that cannot be traced.
    #[error("runtime={value} is unknown: expected node or python")]
    Runtime {
        /// The value.
        value: String,
    },
    /// Not a port or a range of ports.
    #[error("port={value} is no port: expected 1 to 65535, or a range as in 8000-8099")]
    Port {
        /// The value.
        value: String,
    },
}

/// What the operator allowed, and what is never traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Trace every Node.js and Python process.
    pub all: bool,
    /// Trace what one of these allows.
    pub allow: Vec<Rule>,
    /// The agent and its ancestors ([`super::ProcFs::ancestry`]): never traced.
    pub own: Vec<ProcessId>,
}

/// Whether a process is traced, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Traced {
        /// By what.
        by: Allowed,
    },
    /// It is not.
    NotTraced {
        /// Why.
        reason: Reason,
    },
}

/// What allowed a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// [`Rules::all`].
    All,
    /// The first rule that holds, as an index into [`Rules::allow`].
    Rule(usize),
}

/// Why a process is not traced. `Display` is for `wirespan explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Its runtime cannot be traced.
    #[error("it runs neither Node.js nor CPython 3")]
    Runtime,
    /// It is the agent or one of its ancestors.
    #[error("it is the agent itself or one of its parents")]
    Agent,
    /// Its environment says so.
    #[error("OTEL_SDK_DISABLED=true in its environment")]
    SdkDisabled,
    /// No rule allows it.
    #[error("no --allow rule holds for it")]
    NoRule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    negated: bool,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exe(Pattern),
    Command(Pattern),
    Runtime { node: bool },
    Port(RangeInclusive<u16>),
    UserName(String),
    Uid(u32),
}

/// A glob with the text it came from. `*` matches `/` as well: these are command lines, not trees.
#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

/// Longer patterns than this are a mistake, and compiling them takes time.
const PATTERN_LIMIT_BYTES: usize = 4_096;

impl Rule {
    /// Whether every term holds.
    pub fn allows(&self, process: &Process) -> bool {
        self.terms.iter().all(|term| term.test.holds(process) != term.negated)
    }

    /// The rule `user=UID`.
    pub(super) fn of_uid(uid: u32) -> Self {
        Self { terms: vec![Term { negated: false, test: Test::Uid(uid) }] }
    }
}

impl Rules {
    /// Whether a process is traced. Reads nothing but its arguments.
    pub fn decide(&self, process: &Process) -> Decision {
        let not = |reason| Decision::NotTraced { reason };
        if !process.runtime.is_traceable() {
            return not(Reason::Runtime);
        }
        if self.own.contains(&process.id()) {
            return not(Reason::Agent);
        }
        let disabled = process.environment.get("OTEL_SDK_DISABLED");
        if disabled.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return not(Reason::SdkDisabled);
        }
        match self.allow.iter().position(|rule| rule.allows(process)) {
            Some(index) => Decision::Traced { by: Allowed::Rule(index) },
            None if self.all => Decision::Traced { by: Allowed::All },
            None => not(Reason::NoRule),
        }
    }
}

impl Test {
    fn holds(&self, process: &Process) -> bool {
        match self {
            Self::Exe(pattern) if pattern.text.contains('/') => {
                pattern.matcher.is_match(&process.exe)
            }
            // Without a slash it is the file's name that is meant.
            Self::Exe(pattern) => {
                process.exe.file_name().is_some_and(|name| pattern.matcher.is_match(name))
            }
            Self::Command(pattern) => pattern.matcher.is_match(process.command_line()),
            Self::Runtime { node: true } => matches!(process.runtime, Runtime::Node(_)),
            Self::Runtime { node: false } => matches!(process.runtime, Runtime::Python(_)),
            Self::Port(ports) => process.listening.iter().any(|port| ports.contains(port)),
            Self::UserName(name) => process.user.as_ref() == Some(name),
            Self::Uid(uid) => process.uid == *uid,
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        Ok(Self { terms: split(text).map(str::parse).collect::<Result<_, _>>()? })
    }
}

impl FromStr for Term {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RuleError::Empty);
        }
        let (negated, term) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let (key, value) =
            term.split_once('=').ok_or_else(|| RuleError::NoValue { term: text.to_owned() })?;
        let value = value.trim();
        let filled = |key, expected| match value {
            "" => Err(RuleError::EmptyValue { key, expected }),
            _ => Ok(value),
        };
        let test = match key.trim() {
            "exe" => Test::Exe(Pattern::new("exe", filled("exe", "a pattern, as in */node")?)?),
            "cmd" => {
                Test::Command(Pattern::new("cmd", filled("cmd", "a pattern, as in *app.js*")?)?)
            }
            "runtime" => match filled("runtime", "node or python")? {
                "node" => Test::Runtime { node: true },
                "python" => Test::Runtime { node: false },
                other => return Err(RuleError::Runtime { value: other.to_owned() }),
            },
            "port" => Test::Port(ports(filled("port", "a port, as in 3000, or a range")?)?),
            "user" => {
                let user = filled("user", "a name or a uid")?;
                match user.parse() {
                    Ok(uid) => Test::Uid(uid),
                    Err(_) => Test::UserName(user.to_owned()),
                }
            }
            other => return Err(RuleError::UnknownKey { key: other.to_owned() }),
        };
        Ok(Self { negated, test })
    }
}

/// Splits at the commas that are neither escaped nor inside `{a,b}` or `[a,b]`.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut escaped, mut in_class, mut depth) = (false, false, 0_u32);
    text.split(move |character| {
        let was_escaped = std::mem::take(&mut escaped);
        match character {
            _ if was_escaped => {}
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '{' if !in_class => depth += 1,
            '}' if !in_class => depth = depth.saturating_sub(1),
            ',' => return !in_class && depth == 0,
            _ => {}
        }
        false
    })
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, RuleError> {
    let wrong = || RuleError::Port { value: text.to_owned() };
    let port = |text: &str| text.trim().parse().ok().filter(|port| *port != 0).ok_or_else(wrong);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first <= last { Ok(first..=last) } else { Err(wrong()) }
}

impl Pattern {
    fn new(key: &'static str, text: &str) -> Result<Self, RuleError> {
        let wrong = |reason: String| RuleError::Pattern { key, value: text.to_owned(), reason };
        if text.len() > PATTERN_LIMIT_BYTES {
            return Err(wrong(format!("longer than {PATTERN_LIMIT_BYTES} bytes")));
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(false)
            .backslash_escape(true)
            .build()
            .map_err(|error| wrong(error.kind().to_string()))?;
        Ok(Self { text: text.to_owned(), matcher: glob.compile_matcher() })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated {
            f.write_str("!")?;
        }
        match &self.test {
            Test::Exe(pattern) => write!(f, "exe={}", pattern.text),
            Test::Command(pattern) => write!(f, "cmd={}", pattern.text),
            Test::Runtime { node: true } => f.write_str("runtime=node"),
            Test::Runtime { node: false } => f.write_str("runtime=python"),
            Test::Port(ports) if ports.start() == ports.end() => {
                write!(f, "port={}", ports.start())
            }
            Test::Port(ports) => write!(f, "port={}-{}", ports.start(), ports.end()),
            Test::UserName(name) => write!(f, "user={name}"),
            Test::Uid(uid) => write!(f, "user={uid}"),
        }
    }
}

#[cfg(test)]
mod tests;
