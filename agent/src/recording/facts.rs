//! What a recording holds of a process: as much as the stages behind selection ask for, and nothing of its
//! environment or its command line but what its spans' resource shows anyway.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wirespan_protocols::propagation::{Propagator, Propagators};

use crate::call::ProcessId;
use crate::capture::Slot;
use crate::process::{Allowed, Databases, Environment, Process, Program, Runtime};
use crate::queue::Rule;
use crate::selection::Traced;
use crate::settings::{Globs, Protocols, Redaction, Sampling, Settings, pattern};
use crate::span::{Attribute, Resource};

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    id: u64,
    slot: u32,
    pid: i32,
    start_time: u64,
    ppid: i32,
    runtime: Runtime,
    listening: Vec<u16>,
    databases: Databases,
    resource: Vec<Attribute>,
    /// None in recordings of before there were any.
    #[serde(default)]
    program: Program,
    settings: SettingsFacts,
}

/// What is done with its spans. What the resource was made of is not there, nor what is lifted from calls: a recording
/// seldom has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SettingsFacts {
    protocols: Protocols,
    sampling: Sampling,
    routes: Vec<String>,
    ignored_routes: Vec<String>,
    ignored_statements: Vec<String>,
    redacted_keys: Vec<String>,
    redacted_patterns: Vec<String>,
    attribute_count: usize,
    attribute_length: Option<usize>,
    query_parameters: bool,
    message_keys: bool,
    yield_to_sdk: bool,
    silent_pool_pings: bool,
    queues: Vec<Rule>,
    propagators: Vec<String>,
    #[serde(default)]
    message_links: bool,
    #[serde(default)]
    process_spans: bool,
    #[serde(default)]
    process_span_limit: Duration,
}

/// Why they can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// They are none.
    #[error("what is told of a process makes no sense: {0}")]
    Json(#[from] serde_json::Error),
    /// A glob is none.
    #[error("a process has a pattern that is none: {0}")]
    Pattern(String),
}

impl SettingsFacts {
    fn of(from: &Settings) -> Self {
        let propagators = Propagator::ALL.into_iter().filter(|it| from.propagators.contains(*it));
        Self {
            protocols: from.protocols,
            sampling: from.sampling,
            routes: from.routes.clone(),
            ignored_routes: from.ignored_routes.texts().to_vec(),
            ignored_statements: from.ignored_statements.texts().to_vec(),
            redacted_keys: from.redaction.keys.texts().to_vec(),
            redacted_patterns: from
                .redaction
                .patterns
                .iter()
                .map(|it| it.as_str().to_owned())
                .collect(),
            attribute_count: from.attribute_count,
            attribute_length: from.attribute_length,
            query_parameters: from.query_parameters,
            message_keys: from.message_keys,
            yield_to_sdk: from.yield_to_sdk,
            silent_pool_pings: from.silent_pool_pings,
            queues: from.queues.iter().map(|rule| Rule::clone(rule)).collect(),
            propagators: propagators.map(|it| it.name().to_owned()).collect(),
            message_links: from.message_links,
            process_spans: from.process_spans,
            process_span_limit: from.process_span_limit,
        }
    }

    fn settings(self) -> Result<Settings, FactsError> {
        let known = |it: &Propagator| self.propagators.iter().any(|name| name == it.name());
        let propagators: Propagators = Propagator::ALL.into_iter().filter(known).collect();
        Ok(Settings {
            protocols: self.protocols,
            sampling: self.sampling,
            routes: self.routes,
            ignored_routes: Globs::new(self.ignored_routes).map_err(FactsError::Pattern)?,
            ignored_statements: Globs::new(self.ignored_statements).map_err(FactsError::Pattern)?,
            attribute_count: self.attribute_count,
            redaction: Redaction {
                keys: Globs::new(self.redacted_keys).map_err(FactsError::Pattern)?,
                patterns: self
                    .redacted_patterns
                    .iter()
                    .map(|text| pattern(text))
                    .collect::<Result<_, _>>()
                    .map_err(FactsError::Pattern)?,
            },
            attribute_length: self.attribute_length,
            query_parameters: self.query_parameters,
            message_keys: self.message_keys,
            yield_to_sdk: self.yield_to_sdk,
            silent_pool_pings: self.silent_pool_pings,
            queues: self.queues.into_iter().map(Arc::new).collect(),
            propagators,
            message_links: self.message_links,
            process_spans: self.process_spans,
            process_span_limit: self.process_span_limit,
            ..Settings::default()
        })
    }
}

impl Facts {
    /// Of a process that is traced.
    pub fn of(traced: &Traced) -> Self {
        let process = &traced.process;
        Self {
            id: traced.id.0,
            slot: traced.slot.0,
            pid: process.pid,
            start_time: process.start_time,
            ppid: process.ppid,
            runtime: process.runtime,
            listening: process.listening.clone(),
            databases: process.environment.databases().clone(),
            resource: traced.resource.attributes.clone(),
            program: Program::clone(&traced.program),
            settings: SettingsFacts::of(&traced.settings),
        }
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn read(json: &[u8]) -> Result<Traced, FactsError> {
        let facts: Self = serde_json::from_slice(json)?;
        let process = Process {
            pid: facts.pid,
            start_time: facts.start_time,
            ppid: facts.ppid,
            namespace_pid: facts.pid,
            exe: PathBuf::new(),
            exe_deleted: false,
            command: Vec::new(),
            environment: Environment::naming(facts.databases),
            cwd: PathBuf::new(),
            uid: 0,
            user: None,
            cgroup: String::new(),
            container_id: None,
            container: None,
            pod_uid: None,
            systemd_unit: None,
            pid_namespace: None,
            net_namespace: None,
            user_namespace: None,
            runtime: facts.runtime,
            listening: facts.listening,
            parent: None,
        };
        Ok(Traced {
            id: ProcessId(facts.id),
            slot: Slot(facts.slot),
            origin: Arc::new(process.clone()),
            process,
            resource: Arc::new(Resource { attributes: facts.resource }),
            by: Allowed::All,
            settings: Arc::new(facts.settings.settings()?),
            program: Arc::new(facts.program),
            known_from_ns: 0,
            gone_ns: None,
        })
    }
}
