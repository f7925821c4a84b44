//! Allow rules: which processes the operator lets the agent trace.
//!
//! A rule is a text, `port=3000,user=app,!cmd=*migrate*`, or a map of the configuration file: terms that must
//! all hold. Nothing is traced that no rule allows; the rules know nothing about traffic.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::{Process, ProcessId, Runtime, Wanted};
use crate::containers::{Container, Pod};
use crate::settings::Settings;

/// One allow rule. `Display` gives the text that it was parsed from, without blanks around terms; of a term that
/// a configuration file gave several values, these with ` or ` between them.
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
    #[error(
        "unknown key {key:?}: expected exe, cmd, runtime, port, user, cgroup, container, label, pod, namespace, env, parent or parent_cmd"
    )]
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Trace every Node.js and Python process.
    pub all: bool,
    /// Trace what one of these allows.
    pub allow: Vec<Allow>,
    /// For what [`Rules::all`] allows.
    pub settings: Arc<Settings>,
    /// The agent and its ancestors ([`super::ProcFs::ancestry`]): never traced.
    pub own: Vec<ProcessId>,
}

/// A rule with what is to be done with the processes that it allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Allow {
    /// Which processes.
    pub rule: Rule,
    /// What is done with their spans.
    pub settings: Arc<Settings>,
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
    /// It was seen to send spans.
    #[error("it sends spans of its own, by an SDK or another agent in it: it is left to that")]
    OwnSpans,
    /// No rule allows it.
    #[error("no rule holds for it")]
    NoRule,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    negated: bool,
    /// One of these must hold.
    tests: Vec<Test>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Pid(i32),
    Exe(Pattern),
    Command(Pattern),
    Runtime { node: bool },
    Port(RangeInclusive<u16>),
    UserName(String),
    Uid(u32),
    Cgroup(Pattern),
    Container(Pattern),
    Label(String, Option<Pattern>),
    Pod(Pattern),
    Namespace(Pattern),
    Variable(String, Option<Pattern>),
    Parent(Pattern),
    ParentCommand(Pattern),
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
        self.terms.iter().all(|term| term.holds(process))
    }

    /// The rule of which all these terms must hold. With none it holds for every process.
    pub fn of(terms: Vec<Term>) -> Self {
        Self { terms }
    }

    /// The terms that don't hold for a process, each with what was found instead.
    pub fn unmet(&self, process: &Process) -> Vec<String> {
        let unmet = self.terms.iter().filter(|term| !term.holds(process));
        unmet.map(|term| format!("{term}, but {}", term.found(process))).collect()
    }

    /// Its terms that are not negated, as keys and values of a configuration file.
    pub fn plain_terms(&self) -> Vec<(String, String)> {
        let tests = self.terms.iter().filter(|term| !term.negated).flat_map(|term| &term.tests);
        let split = |test: &Test| {
            let text = test.to_string();
            text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        tests.filter_map(split).collect()
    }

    /// The rule that holds for one process.
    pub fn of_pid(pid: i32) -> Self {
        Self { terms: vec![Term { negated: false, tests: vec![Test::Pid(pid)] }] }
    }

    /// The rule `user=UID`.
    pub(super) fn of_uid(uid: u32) -> Self {
        Self { terms: vec![Term { negated: false, tests: vec![Test::Uid(uid)] }] }
    }
}

impl Term {
    /// The term that holds if one of the values does; with `negated`, if none does. Keys and values are those of
    /// a rule's text.
    ///
    /// # Errors
    /// [`RuleError`] of the first value that is none.
    pub fn any(
        negated: bool,
        key: &str,
        values: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Self, RuleError> {
        let tests = values.into_iter().map(|value| Test::parse(key, value.as_ref()));
        Ok(Self { negated, tests: tests.collect::<Result<_, _>>()? })
    }

    fn holds(&self, process: &Process) -> bool {
        // What could keep it out is not known either.
        let is_open = process.container_id.is_some() && process.container.is_none();
        if is_open && self.tests.iter().any(Test::asks_engines) {
            return false;
        }
        self.tests.iter().any(|test| test.holds(process)) != self.negated
    }

    /// What a process has instead, for a person. Values of variables stay in the process.
    fn found(&self, process: &Process) -> String {
        let Some(test) = self.tests.first() else { return "there is nothing to match".to_owned() };
        let or = |value: Option<&str>, none: &str| match value {
            Some(value) if !value.is_empty() => value.escape_debug().to_string(),
            _ => none.to_owned(),
        };
        let cut = |text: String| text.chars().take(FOUND_LIMIT_CHARS).collect::<String>();
        cut(match test {
            Test::Pid(_) => format!("its number is {}", process.pid),
            Test::Exe(_) => format!("its executable is {}", process.exe.display()),
            Test::Command(_) => {
                format!("its command line is {}", or(Some(&process.command_line()), "empty"))
            }
            Test::Runtime { .. } => format!("its runtime is {}", process.runtime.word()),
            Test::Port(_) if process.listening.is_empty() => "it listens on no TCP port".to_owned(),
            Test::Port(_) => {
                let ports: Vec<String> = process.listening.iter().map(u16::to_string).collect();
                format!("it listens on {}", ports.join(", "))
            }
            Test::UserName(_) | Test::Uid(_) => {
                format!(
                    "its user is {} ({})",
                    or(process.user.as_deref(), "without a name"),
                    process.uid
                )
            }
            Test::Cgroup(_) => format!("its cgroup is {}", or(Some(&process.cgroup), "unknown")),
            Test::Container(_) => match &process.container_id {
                Some(id) => format!("its container is {id}"),
                None => "it is in no container".to_owned(),
            },
            Test::Label(..) | Test::Pod(_) | Test::Namespace(_) => {
                match (&process.container, &process.container_id) {
                    (Some(container), _) => within(test, container),
                    (None, Some(_)) => {
                        "no container engine has said what its container is".to_owned()
                    }
                    (None, None) => "it is in no container".to_owned(),
                }
            }
            Test::Variable(name, _) => match process.environment.get(name) {
                Some(_) => format!("{name} has another value"),
                None => format!("{name} is not set"),
            },
            Test::Parent(_) | Test::ParentCommand(_) => match &process.parent {
                Some(parent) => format!(
                    "its parent {} is {} ({})",
                    process.ppid,
                    parent.exe.display(),
                    or(Some(&parent.command_line), "no command line")
                ),
                None => "its parent can't be read".to_owned(),
            },
        })
    }
}

/// What a container has instead of what a test of it asks for.
fn within(test: &Test, container: &Container) -> String {
    match (test, &container.pod) {
        (Test::Label(key, _), _) => match container.label(key) {
            Some(value) => format!("{key} is {}", value.escape_debug()),
            None => format!("there is no label {key}"),
        },
        (Test::Pod(_), Some(pod)) => format!("its pod is {}", pod.name.escape_debug()),
        (_, Some(pod)) => format!("its namespace is {}", pod.namespace.escape_debug()),
        (_, None) => "it is in no pod".to_owned(),
    }
}

/// A longer description tells no more.
const FOUND_LIMIT_CHARS: usize = 240;

impl Rules {
    /// What the rules need to know of processes beyond what is always read.
    pub fn wants(&self) -> Wanted {
        let mut wanted = Wanted::default();
        let settings = self.allow.iter().map(|allow| &allow.settings).chain([&self.settings]);
        for settings in settings {
            wanted.variables.extend(settings.variables().map(str::to_owned));
        }
        let terms = self.allow.iter().flat_map(|allow| &allow.rule.terms);
        for test in terms.flat_map(|term| &term.tests) {
            match test {
                Test::Variable(name, _) => {
                    wanted.variables.insert(name.clone());
                }
                Test::Parent(_) | Test::ParentCommand(_) => wanted.parent = true,
                test if test.asks_engines() => wanted.containers = true,
                _ => {}
            }
        }
        wanted
    }

    /// What is done with what was allowed by this.
    pub fn settings(&self, by: Allowed) -> &Arc<Settings> {
        match by {
            Allowed::All => &self.settings,
            Allowed::Rule(index) => {
                self.allow.get(index).map_or(&self.settings, |allow| &allow.settings)
            }
        }
    }

    /// Whether a process is traced. Reads nothing but its arguments.
    pub fn decide(&self, process: &Process) -> Decision {
        let not = |reason| Decision::NotTraced { reason };
        if !process.runtime.is_traceable() {
            return not(Reason::Runtime);
        }
        if self.own.contains(&process.id()) {
            return not(Reason::Agent);
        }
        let by = match self.allow.iter().position(|allow| allow.rule.allows(process)) {
            Some(index) => Some(Allowed::Rule(index)),
            None if self.all => Some(Allowed::All),
            None => None,
        };
        let disabled = process.environment.get("OTEL_SDK_DISABLED");
        let disabled = disabled.is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        if disabled && !by.is_some_and(|by| self.settings(by).trace_sdk_disabled) {
            return not(Reason::SdkDisabled);
        }
        by.map_or(not(Reason::NoRule), |by| Decision::Traced { by })
    }
}

impl Test {
    /// Only a container's engine can tell.
    fn asks_engines(&self) -> bool {
        matches!(self, Self::Label(..) | Self::Pod(_) | Self::Namespace(_))
    }

    fn holds(&self, process: &Process) -> bool {
        match self {
            Self::Pid(pid) => process.pid == *pid,
            Self::Exe(pattern) => pattern.matches_executable(&process.exe),
            Self::Command(pattern) => pattern.matcher.is_match(process.command_line()),
            Self::Runtime { node: true } => matches!(process.runtime, Runtime::Node(_)),
            Self::Runtime { node: false } => matches!(process.runtime, Runtime::Python(_)),
            Self::Port(ports) => process.listening.iter().any(|port| ports.contains(port)),
            Self::UserName(name) => process.user.as_ref() == Some(name),
            Self::Uid(uid) => process.uid == *uid,
            Self::Cgroup(pattern) => pattern.matcher.is_match(&process.cgroup),
            Self::Container(pattern) => {
                process.container_id.as_ref().is_some_and(|id| pattern.matcher.is_match(id))
            }
            Self::Label(key, pattern) => {
                let label = process.container.as_ref().and_then(|it| it.label(key));
                label.is_some_and(|label| is_like(pattern.as_ref(), label))
            }
            Self::Pod(pattern) => {
                pod(process).is_some_and(|pod| pattern.matcher.is_match(&pod.name))
            }
            Self::Namespace(pattern) => {
                pod(process).is_some_and(|pod| pattern.matcher.is_match(&pod.namespace))
            }
            Self::Variable(name, pattern) => {
                process.environment.get(name).is_some_and(|value| is_like(pattern.as_ref(), value))
            }
            Self::Parent(pattern) => process
                .parent
                .as_ref()
                .is_some_and(|parent| pattern.matches_executable(&parent.exe)),
            Self::ParentCommand(pattern) => process
                .parent
                .as_ref()
                .is_some_and(|parent| pattern.matcher.is_match(&parent.command_line)),
        }
    }
}

fn is_like(pattern: Option<&Pattern>, value: &str) -> bool {
    pattern.is_none_or(|pattern| pattern.matcher.is_match(value))
}

fn pod(process: &Process) -> Option<&Pod> {
    process.container.as_ref()?.pod.as_ref()
}

/// `KEY`, or `KEY=PATTERN`.
fn keyed(term: &'static str, text: &str) -> Result<(String, Option<Pattern>), RuleError> {
    Ok(match text.split_once('=') {
        Some((key, pattern)) => (key.trim().to_owned(), Some(Pattern::new(term, pattern)?)),
        None => (text.to_owned(), None),
    })
}

impl Test {
    /// The test that `key=value` spells.
    fn parse(key: &str, value: &str) -> Result<Self, RuleError> {
        let value = value.trim();
        let filled = |key, expected| match value {
            "" => Err(RuleError::EmptyValue { key, expected }),
            _ => Ok(value),
        };
        Ok(match key {
            "exe" => Self::Exe(Pattern::new("exe", filled("exe", "a pattern, as in */node")?)?),
            "cmd" => {
                Self::Command(Pattern::new("cmd", filled("cmd", "a pattern, as in *app.js*")?)?)
            }
            "runtime" => match filled("runtime", "node or python")? {
                "node" => Self::Runtime { node: true },
                "python" => Self::Runtime { node: false },
                other => return Err(RuleError::Runtime { value: other.to_owned() }),
            },
            "port" => Self::Port(ports(filled("port", "a port, as in 3000, or a range")?)?),
            "user" => {
                let user = filled("user", "a name or a uid")?;
                match user.parse() {
                    Ok(uid) => Self::Uid(uid),
                    Err(_) => Self::UserName(user.to_owned()),
                }
            }
            "cgroup" => Self::Cgroup(Pattern::new(
                "cgroup",
                filled("cgroup", "a pattern, as in */orders.service")?,
            )?),
            "container" => Self::Container(Pattern::new(
                "container",
                filled("container", "a pattern of ids, as in 4f2a*")?,
            )?),
            "env" => {
                let variable = filled("env", "NAME or NAME=PATTERN, as in TEAM=payments")?;
                let (name, pattern) = keyed("env", variable)?;
                Self::Variable(name, pattern)
            }
            "label" => {
                let label = filled("label", "KEY or KEY=PATTERN, as in app=orders")?;
                let (key, pattern) = keyed("label", label)?;
                Self::Label(key, pattern)
            }
            "pod" => Self::Pod(Pattern::new("pod", filled("pod", "a pattern, as in orders-*")?)?),
            "namespace" => Self::Namespace(Pattern::new(
                "namespace",
                filled("namespace", "a pattern, as in shop")?,
            )?),
            "parent" => Self::Parent(Pattern::new(
                "parent",
                filled("parent", "a pattern, as in gunicorn")?,
            )?),
            "parent_cmd" => Self::ParentCommand(Pattern::new(
                "parent_cmd",
                filled("parent_cmd", "a pattern, as in *celery*")?,
            )?),
            other => return Err(RuleError::UnknownKey { key: other.to_owned() }),
        })
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
        Ok(Self { negated, tests: vec![Test::parse(key.trim(), value)?] })
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

impl Pattern {
    fn matches_executable(&self, exe: &Path) -> bool {
        if self.text.contains('/') {
            return self.matcher.is_match(exe);
        }
        // Without a slash it is the file's name that is meant.
        exe.file_name().is_some_and(|name| self.matcher.is_match(name))
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
        for (index, test) in self.tests.iter().enumerate() {
            f.write_str(if index > 0 { " or " } else { "" })?;
            f.write_str(if self.negated { "!" } else { "" })?;
            write!(f, "{test}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "pid={pid}"),
            Self::Exe(pattern) => write!(f, "exe={}", pattern.text),
            Self::Command(pattern) => write!(f, "cmd={}", pattern.text),
            Self::Runtime { node: true } => f.write_str("runtime=node"),
            Self::Runtime { node: false } => f.write_str("runtime=python"),
            Self::Port(ports) if ports.start() == ports.end() => {
                write!(f, "port={}", ports.start())
            }
            Self::Port(ports) => write!(f, "port={}-{}", ports.start(), ports.end()),
            Self::UserName(name) => write!(f, "user={name}"),
            Self::Uid(uid) => write!(f, "user={uid}"),
            Self::Cgroup(pattern) => write!(f, "cgroup={}", pattern.text),
            Self::Container(pattern) => write!(f, "container={}", pattern.text),
            Self::Label(key, None) => write!(f, "label={key}"),
            Self::Label(key, Some(pattern)) => write!(f, "label={key}={}", pattern.text),
            Self::Pod(pattern) => write!(f, "pod={}", pattern.text),
            Self::Namespace(pattern) => write!(f, "namespace={}", pattern.text),
            Self::Variable(name, None) => write!(f, "env={name}"),
            Self::Variable(name, Some(pattern)) => write!(f, "env={name}={}", pattern.text),
            Self::Parent(pattern) => write!(f, "parent={}", pattern.text),
            Self::ParentCommand(pattern) => write!(f, "parent_cmd={}", pattern.text),
        }
    }
}

#[cfg(test)]
mod tests;
