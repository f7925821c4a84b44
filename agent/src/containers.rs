//! What container engines say of containers: names, images, labels, pods.
//!
//! Asked over the engines' own sockets, for reading only. Knows no process and no span: a container's id in, a
//! description out. What an engine answers is foreign: it is bounded, and what is missing in it stays open. A further
//! engine is one more `Api`, with its file beside these.

mod cri;
mod docker;
mod lookup;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use lookup::Lookup;

/// The full id of a container, as the engine gave it.
pub type ContainerId = Arc<str>;

/// How long an engine may take for one answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Labels and annotations that are kept of one container or pod, and how long each may be.
const LABELS: usize = 256;
const LABEL_BYTES: usize = 1024;

/// Annotations that state resource attributes
/// (<https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/>).
pub const ANNOTATION: &str = "resource.opentelemetry.io/";

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name: in a pod the container's within that, else the engine's.
    pub name: Option<String>,
    /// Its image, as it was asked for.
    pub image: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How often the kubelet has started it again.
    pub restarts: Option<u32>,
    /// The pod that it is of.
    pub pod: Option<Pod>,
}

/// What is known of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What its annotations say that it is, by attribute: those that begin with [`ANNOTATION`].
    pub attributes: BTreeMap<String, String>,
}

/// Which workload a pod is of, as the controller that made it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// `k8s.deployment.name`.
    pub deployment: Option<String>,
    /// `k8s.replicaset.name`.
    pub replica_set: Option<String>,
    /// `k8s.statefulset.name`.
    pub stateful_set: Option<String>,
    /// `k8s.daemonset.name`.
    pub daemon_set: Option<String>,
    /// `k8s.job.name`.
    pub job: Option<String>,
}

impl Owners {
    /// What its pods are called after.
    pub fn name(&self) -> Option<&str> {
        let Self { deployment, replica_set, stateful_set, daemon_set, job } = self;
        let all = [deployment, replica_set, stateful_set, daemon_set, job];
        all.into_iter().find_map(|name| name.as_deref())
    }
}

impl Container {
    /// A label: the pod's, else the container's own.
    pub fn label(&self, key: &str) -> Option<&str> {
        let of_pod = self.pod.as_ref().and_then(|pod| pod.labels.get(key));
        of_pod.or_else(|| self.labels.get(key)).map(String::as_str)
    }
}

impl Pod {
    /// Who made it, by the labels that controllers put on their pods. A name is the pod's without what a controller
    /// has put behind its own.
    pub fn owners(&self) -> Owners {
        let label = |key: &str| self.labels.get(key).map(String::as_str);
        let mut owners = Owners::default();
        if let Some(hash) = label("pod-template-hash") {
            // NAME-HASH-RANDOM, of which a long NAME is cut.
            let set = self.name.rsplit_once('-').map(|(set, _)| set);
            owners.replica_set = set.map(str::to_owned);
            let deployment = set.and_then(|set| set.strip_suffix(hash)?.strip_suffix('-'));
            owners.deployment = deployment.map(str::to_owned);
        } else if label("statefulset.kubernetes.io/pod-name").is_some() {
            owners.stateful_set = self.name.rsplit_once('-').map(|(set, _)| set.to_owned());
        } else if label("pod-template-generation").is_some() {
            owners.daemon_set = self.name.rsplit_once('-').map(|(set, _)| set.to_owned());
        } else if let Some(job) = label("batch.kubernetes.io/job-name").or(label("job-name")) {
            owners.job = Some(job.to_owned());
        }
        owners
    }
}

/// How an engine is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Kubernetes' Container Runtime Interface: containerd, CRI-O, cri-dockerd.
    Cri,
    /// Docker's Engine API: Docker, Podman.
    Docker,
}

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// How it is spoken to.
    pub api: Api,
    /// The socket.
    pub path: PathBuf,
}

impl Socket {
    /// Where engines listen unless told otherwise: those that answer are asked. An agent in a container that sees the
    /// machine's processes sees its files by the first of them.
    pub fn usual() -> Vec<Self> {
        let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let roots: &[&str] =
            if namespace("1") == namespace("self") { &[""] } else { &["", "/proc/1/root"] };
        roots.iter().flat_map(|root| Self::beneath(root)).collect()
    }

    fn beneath(root: &str) -> Vec<Self> {
        let cri = [
            "/run/containerd/containerd.sock",
            "/run/k3s/containerd/containerd.sock",
            "/run/crio/crio.sock",
            "/run/cri-dockerd.sock",
        ];
        let docker = ["/run/docker.sock", "/run/podman/podman.sock"];
        let of = |api| move |path: &str| Self { api, path: PathBuf::from(format!("{root}{path}")) };
        cri.map(of(Api::Cri)).into_iter().chain(docker.map(of(Api::Docker))).collect()
    }

    /// Whether something is there that may be asked.
    pub fn is_there(&self) -> bool {
        self.path.exists()
    }
}

impl FromStr for Socket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (api, path) = match text.split_once(':') {
            Some(("cri", path)) => (Api::Cri, path),
            Some(("docker", path)) => (Api::Docker, path),
            _ => return Err(String::new()),
        };
        if !Path::new(path).is_absolute() {
            return Err(String::new());
        }
        Ok(Self { api, path: PathBuf::from(path) })
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = match self.api {
            Api::Cri => "cri",
            Api::Docker => "docker",
        };
        write!(f, "{api}:{}", self.path.display())
    }
}

/// Why an engine did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket can't be used.
    #[error("can't connect to {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the transport says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is no such engine, or refuses.
    #[error("{path} answers: {why}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// Its words.
        why: String,
    },
    /// It takes too long.
    #[error("{path} gives no answer within {} s", PATIENCE.as_secs())]
    Late {
        /// The socket.
        path: PathBuf,
    },
}

/// What the first of these engines that knows the container says of it.
pub async fn describe(sockets: &[Socket], id: &str) -> Option<Container> {
    for socket in sockets.iter().filter(|socket| socket.is_there()) {
        match ask(socket, id).await {
            Ok(Some(container)) => return Some(container),
            Ok(None) => {}
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(%socket, error, "the container engine doesn't answer");
            }
        }
    }
    None
}

/// What an engine says of a container; `None`: it has none of this id.
///
/// # Errors
/// [`AskError`].
pub async fn ask(socket: &Socket, id: &str) -> Result<Option<Container>, AskError> {
    let answer = async {
        match socket.api {
            Api::Cri => cri::container(&socket.path, id).await,
            Api::Docker => docker::container(&socket.path, id).await,
        }
    };
    let late = |_| AskError::Late { path: socket.path.clone() };
    tokio::time::timeout(PATIENCE, answer).await.map_err(late)?
}

/// What fits of these labels. One that is too long is left out: a part of a value is another value.
fn bounded(labels: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let fits = |(key, value): &(String, String)| key.len().max(value.len()) <= LABEL_BYTES;
    labels.into_iter().filter(fits).take(LABELS).collect()
}

/// A text that says something and is not too long.
fn text(text: String) -> Option<String> {
    (!text.is_empty() && text.len() <= LABEL_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, labels: &[(&str, &str)]) -> Pod {
        let owned = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Pod { name: name.to_owned(), labels: owned.collect(), ..Pod::default() }
    }

    #[test]
    fn who_made_a_pod_is_said_by_its_labels_alone() {
        let of = |name: &str, labels: &[(&str, &str)]| pod(name, labels).owners();
        let deployed = of("orders-7d9f8b6c5-x2x4k", &[("pod-template-hash", "7d9f8b6c5")]);
        assert_eq!(deployed.deployment.as_deref(), Some("orders"));
        assert_eq!(deployed.replica_set.as_deref(), Some("orders-7d9f8b6c5"));
        assert_eq!(deployed.name(), Some("orders"));
        // One whose replica set has no deployment's name, and one that somebody labelled.
        let strange = of("orders-x2x4k", &[("pod-template-hash", "7d9f8b6c5")]);
        assert_eq!((strange.deployment, strange.replica_set.as_deref()), (None, Some("orders")));
        let state = of("db-0", &[("statefulset.kubernetes.io/pod-name", "db-0")]);
        assert_eq!(state.stateful_set.as_deref(), Some("db"));
        let everywhere = of("agent-x2x4k", &[("pod-template-generation", "3")]);
        assert_eq!(everywhere.daemon_set.as_deref(), Some("agent"));
        let job = of("report-28-x2x4k", &[("batch.kubernetes.io/job-name", "report-28")]);
        assert_eq!(job.job.as_deref(), Some("report-28"));
        assert_eq!(of("orders-7d9f8b6c5-x2x4k", &[("app", "orders")]), Owners::default());
    }

    #[test]
    fn a_pods_label_comes_before_its_containers() {
        let container = Container {
            labels: [("app", "own"), ("tier", "web")].map(|(k, v)| (k.into(), v.into())).into(),
            pod: Some(pod("p", &[("app", "orders")])),
            ..Container::default()
        };
        assert_eq!(container.label("app"), Some("orders"));
        assert_eq!(container.label("tier"), Some("web"));
        assert_eq!(container.label("none"), None);
    }

    #[test]
    fn sockets_are_spelled_as_they_are_shown() {
        for text in ["cri:/run/containerd/containerd.sock", "docker:/run/docker.sock"] {
            assert_eq!(text.parse::<Socket>().unwrap().to_string(), text);
        }
        for wrong in ["", "/run/docker.sock", "docker:", "docker:run/docker.sock", "k8s:/x"] {
            assert!(wrong.parse::<Socket>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let labels = [("a".to_owned(), "x".repeat(LABEL_BYTES + 1)), ("b".to_owned(), "y".into())];
        assert_eq!(bounded(labels).into_keys().collect::<Vec<_>>(), ["b"]);
        let many = (0..1_000).map(|number| (format!("l{number}"), String::new()));
        assert_eq!(bounded(many).len(), LABELS);
    }
}
