//! Which service a process is: its OpenTelemetry resource.
//!
//! Names what the operator named, else what the process's own files and command line say. Arguments
//! are never in it: they hold secrets.

mod container;
pub(super) mod entry;
mod environment;
mod node;
mod place;
mod python;

use std::borrow::Cow;
use std::path::Path;

use opentelemetry_semantic_conventions::attribute as key;
use uuid::Uuid;

use super::{ProcFs, Process, Runtime, read};
use crate::settings::Settings;
use crate::span::{Attribute, Resource, Value};

/// The agent and the host it is on, as every resource says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentInfo {
    /// The agent's version.
    pub version: String,
    /// The host's name, as uname(2) gives it.
    pub host_name: Option<String>,
    /// The host's machine-id(5).
    pub host_id: Option<String>,
    /// The kernel's id of this boot: start times are counted from it.
    pub boot_id: Option<String>,
}

/// Parents that are asked for a name: a worker of a reloader of a master is the deepest seen.
const PARENTS_LIMIT: usize = 4;
const SMALL_BYTES: u64 = 4_096;
/// The semantic conventions' namespace for `service.instance.id`.
const INSTANCE_NAMESPACE: Uuid = Uuid::from_u128(0x4d63_009a_8d0f_11ee_aad7_4c79_6ed8_e320);
/// The conventions' UUID namespace, and attributes that only the agent may state.
const AGENT_KEYS: &str = "telemetry.";

impl AgentInfo {
    /// Reads the host's names under `host_root`: `/`, or the host's root mounted elsewhere. What
    /// cannot be read is absent.
    pub fn read(host_root: &Path, version: &str) -> Self {
        let line = |name: &str| -> Option<String> {
            let bytes = read::bounded(&host_root.join(name), SMALL_BYTES).ok()?;
            place::clean(&String::from_utf8_lossy(&bytes))
        };
        Self {
            version: version.to_owned(),
            host_name: line("proc/sys/kernel/hostname"),
            host_id: line("etc/machine-id")
                .or_else(|| line("var/lib/dbus/machine-id"))
                .filter(|id| id != "uninitialized"),
            boot_id: line("proc/sys/kernel/random/boot_id"),
        }
    }
}

/// The resource of a process. Reads its package.json and, for workers, its parents' command lines;
/// what cannot be read leaves the next best name.
pub fn resource(
    procfs: &ProcFs,
    process: &Process,
    agent: &AgentInfo,
    settings: &Settings,
) -> Resource {
    let given = given_attributes(process);
    let package = match process.runtime {
        Runtime::Node(_) => node::package(procfs, process),
        Runtime::Python(_) | Runtime::Other => None,
    };
    let (name, _source) = service_name(procfs, process, settings, package.as_ref(), &given);

    let mut attributes = Attributes::default();
    attributes.put(key::SERVICE_NAME, name);
    for (key, source) in &settings.attributes {
        if let Some(value) = source.of(process) {
            attributes.put(key.clone(), value);
        }
    }
    for (key, value) in given.into_iter().filter(|(key, _)| !key.starts_with(AGENT_KEYS)) {
        attributes.put(key, value);
    }
    let container = process.container.as_deref();
    for (key, value) in container::stated(container) {
        attributes.put(key.to_owned(), value.to_owned());
    }
    attributes.put_some(key::SERVICE_VERSION, package.and_then(|package| package.version));
    attributes.put(key::SERVICE_INSTANCE_ID, instance_id(process, agent));
    describe_process(&mut attributes, process);
    attributes.put_some(key::CONTAINER_ID, process.container_id.clone());
    attributes.put_some(key::K8S_POD_UID, process.pod_uid.clone());
    if let Some(container) = container {
        container::describe(&mut attributes, container);
    }
    attributes.put_some(key::HOST_NAME, agent.host_name.clone());
    attributes.put_some(key::HOST_ID, agent.host_id.clone());
    attributes.put(key::HOST_ARCH, host_arch());
    attributes.put(key::OS_TYPE, "linux");
    attributes.put(key::TELEMETRY_SDK_NAME, "wirespan");
    attributes.put_some(
        key::TELEMETRY_SDK_LANGUAGE,
        match process.runtime {
            Runtime::Node(_) => Some("nodejs"),
            Runtime::Python(_) => Some("python"),
            Runtime::Other => None,
        },
    );
    attributes.put(key::TELEMETRY_SDK_VERSION, agent.version.clone());
    attributes.put(key::TELEMETRY_DISTRO_NAME, "wirespan");
    attributes.put(key::TELEMETRY_DISTRO_VERSION, agent.version.clone());
    let mut attributes = attributes.0;
    settings.redaction.apply_to(&mut attributes);
    Resource { attributes }
}

/// Where a process's `service.name` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// The rule that allows it.
    Rule,
    /// `OTEL_SERVICE_NAME` in its environment.
    ServiceName,
    /// `OTEL_RESOURCE_ATTRIBUTES` in its environment.
    ResourceAttributes,
    /// An annotation of its pod.
    Annotation,
    /// What the process and what runs it say: a manifest, a command line, a unit, a container.
    Found,
    /// Nothing says it.
    Nothing,
}

impl NameSource {
    /// In words, after "from".
    pub fn words(self) -> &'static str {
        match self {
            Self::Rule => "the rule that allows it",
            Self::ServiceName => "OTEL_SERVICE_NAME in its environment",
            Self::ResourceAttributes => "OTEL_RESOURCE_ATTRIBUTES in its environment",
            Self::Annotation => "the annotation resource.opentelemetry.io/service.name of its pod",
            Self::Found => "its package, script, module, unit or container",
            Self::Nothing => {
                "nothing that says more than the runtime; name it by a rule's `service`"
            }
        }
    }
}

/// Where the `service.name` of a process comes from.
pub fn name_source(procfs: &ProcFs, process: &Process, settings: &Settings) -> NameSource {
    let package = match process.runtime {
        Runtime::Node(_) => node::package(procfs, process),
        Runtime::Python(_) | Runtime::Other => None,
    };
    let given = given_attributes(process);
    service_name(procfs, process, settings, package.as_ref(), &given).1
}

fn service_name(
    procfs: &ProcFs,
    process: &Process,
    settings: &Settings,
    package: Option<&node::Package>,
    given: &[(String, String)],
) -> (String, NameSource) {
    let by_rule = settings.service.as_ref().and_then(|source| match source.of(process)? {
        Value::Str(name) => place::clean(&name),
        _ => None,
    });
    if let Some(name) = by_rule {
        return (name, NameSource::Rule);
    }
    if let Some(name) = process.environment.get("OTEL_SERVICE_NAME").and_then(place::clean) {
        return (name, NameSource::ServiceName);
    }
    let stated = given.iter().find(|(key, _)| key == key::SERVICE_NAME).map(|(_, name)| name);
    if let Some(name) = stated.filter(|name| !name.is_empty()) {
        return (name.clone(), NameSource::ResourceAttributes);
    }
    let annotated = container::stated(process.container.as_deref())
        .find(|(key, _)| *key == key::SERVICE_NAME)
        .and_then(|(_, name)| place::clean(name));
    if let Some(name) = annotated {
        return (name, NameSource::Annotation);
    }
    match found_name(procfs, process, package) {
        Some(name) => (name, NameSource::Found),
        None => (format!("unknown_service:{}", process.runtime.word()), NameSource::Nothing),
    }
}

/// The resource of a child that is gone before its files could be read: its parent's, with its own number.
/// What the operator stated stays.
pub fn resource_of_child(
    resource: &Resource,
    parent: &Process,
    child: &Process,
    agent: &AgentInfo,
) -> Resource {
    let own: [(&str, Value, Value); 2] = [
        (key::PROCESS_PID, i64::from(parent.pid).into(), i64::from(child.pid).into()),
        (
            key::SERVICE_INSTANCE_ID,
            instance_id(parent, agent).into(),
            instance_id(child, agent).into(),
        ),
    ];
    let mut resource = resource.clone();
    for attribute in &mut resource.attributes {
        for (key, of_parent, of_child) in &own {
            if attribute.key == *key && attribute.value == *of_parent {
                attribute.value = of_child.clone();
            }
        }
    }
    resource
}

/// Attributes, of which the first with a key stays: what the operator states comes first.
#[derive(Default)]
struct Attributes(Vec<Attribute>);

impl Attributes {
    fn put(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let attribute = Attribute::new(key, value);
        if !self.0.iter().any(|earlier| earlier.key == attribute.key) {
            self.0.push(attribute);
        }
    }

    fn put_some<V: Into<Value>>(&mut self, key: &'static str, value: Option<V>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }
}

fn given_attributes(process: &Process) -> Vec<(String, String)> {
    let Some(text) = process.environment.get("OTEL_RESOURCE_ATTRIBUTES") else {
        return Vec::new();
    };
    environment::resource_attributes(text).unwrap_or_else(|error| {
        tracing::warn!(pid = process.pid, %error, "OTEL_RESOURCE_ATTRIBUTES ignored");
        Vec::new()
    })
}

fn describe_process(attributes: &mut Attributes, process: &Process) {
    attributes.put(key::PROCESS_PID, i64::from(process.pid));
    let exe_name = process.exe.file_name().map(|name| name.to_string_lossy().into_owned());
    attributes.put_some(key::PROCESS_EXECUTABLE_NAME, exe_name);
    attributes.put(key::PROCESS_EXECUTABLE_PATH, process.exe.to_string_lossy().into_owned());
    // A title may quote the whole command line, arguments and all.
    let command = process.command.first().filter(|command| !command.contains(char::is_whitespace));
    attributes.put_some(key::PROCESS_COMMAND, command.cloned());
    let runtime = match process.runtime {
        Runtime::Node(_) => Some("nodejs"),
        Runtime::Python(_) => Some("cpython"),
        Runtime::Other => None,
    };
    attributes.put_some(key::PROCESS_RUNTIME_NAME, runtime);
    let version = process.runtime.version().map(|version| version.to_string());
    attributes.put_some(key::PROCESS_RUNTIME_VERSION, version);
    attributes.put_some(key::PROCESS_OWNER, process.user.clone());
}

/// What the process itself, and what runs it, say that it is called.
fn found_name(
    procfs: &ProcFs,
    process: &Process,
    package: Option<&node::Package>,
) -> Option<String> {
    let own = match process.runtime {
        Runtime::Node(_) => node::pm2_name(process)
            .or_else(|| package.map(|package| package.name.clone()))
            .or_else(|| node::npm_package(process).map(|package| package.name))
            .or_else(|| node::name(process)),
        Runtime::Python(_) => python_name(procfs, process),
        Runtime::Other => None,
    };
    own.or_else(|| process.container.as_deref().and_then(container::name))
        .or_else(|| workload(process))
        .or_else(|| unit(process))
        .or_else(|| process.container_id.as_deref()?.get(..12).map(str::to_owned))
}

/// A worker that says nothing is called what its parent is called.
fn python_name(procfs: &ProcFs, process: &Process) -> Option<String> {
    let mut told = python::name(process);
    let mut ppid = process.ppid;
    for _ in 0..PARENTS_LIMIT {
        if told != python::Told::AskParent {
            break;
        }
        let Ok(parent) = procfs.inspect(ppid) else { break };
        let related = matches!(parent.runtime, Runtime::Python(_)) && parent.exe == process.exe;
        if !related || !python::hands_down(&parent) {
            break;
        }
        told = python::name(&parent);
        ppid = parent.ppid;
    }
    match told {
        python::Told::Name(name) => Some(name),
        python::Told::AskParent | python::Told::Nothing => python::plain_title(process),
    }
}

/// The workload that a pod's name begins with, or a name that a container was given: both are its
/// host name, and a container that was given none has its own id there.
fn workload(process: &Process) -> Option<String> {
    let container = process.container_id.as_deref()?;
    let host_name = process.environment.get("HOSTNAME")?;
    if container.starts_with(host_name) {
        return None;
    }
    match process.pod_uid {
        Some(_) => place::clean(pod_owner(host_name)),
        None => place::clean(host_name),
    }
}

/// `orders` of `orders-7d9f8b6c5-x2x4k` (a Deployment), `orders-x2x4k` (a DaemonSet), `orders-0` (a
/// StatefulSet). Generated suffixes are of letters and digits that spell no word:
/// k8s.io/apimachinery/pkg/util/rand.
fn pod_owner(pod: &str) -> &str {
    let generated = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte))
    };
    let Some((owner, suffix)) = pod.rsplit_once('-') else { return pod };
    if !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()) && suffix.len() < 4 {
        return owner;
    }
    if suffix.len() != 5 || !generated(suffix) {
        return pod;
    }
    match owner.rsplit_once('-') {
        Some((deployment, hash)) if (8..=10).contains(&hash.len()) && generated(hash) => deployment,
        _ => owner,
    }
}

/// A systemd service that was made for this program, and not one that starts everybody's.
fn unit(process: &Process) -> Option<String> {
    const STARTERS: &[&str] = &[
        "atd",
        "containerd",
        "cron",
        "crond",
        "docker",
        "getty",
        "kubelet",
        "podman",
        "ssh",
        "sshd",
        "supervisor",
        "supervisord",
    ];
    let unit = process.systemd_unit.as_deref()?;
    // "orders@1" is an instance of one service.
    let name = unit.split('@').next().unwrap_or(unit);
    let starter = STARTERS.contains(&name) || name.starts_with("pm2-");
    if starter { None } else { place::clean(name) }
}

/// The same for the same process however often the agent restarts, and never for another one.
fn instance_id(process: &Process, agent: &AgentInfo) -> String {
    let unknown = String::new();
    let text = format!(
        "{}/{}/{}/{}/{}/{}",
        agent.host_id.as_ref().or(agent.host_name.as_ref()).unwrap_or(&unknown),
        agent.boot_id.as_ref().unwrap_or(&unknown),
        process.container_id.as_ref().unwrap_or(&unknown),
        process.pid_namespace.unwrap_or_default(),
        process.namespace_pid,
        process.start_time,
    );
    Uuid::new_v5(&INSTANCE_NAMESPACE, text.as_bytes()).to_string()
}

/// The conventions' name of the architecture that this agent was built for.
fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests;
