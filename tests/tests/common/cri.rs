//! What a kubelet asks a container engine for: a pod, and a container in it. Of the messages of
//! <https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto> only the fields that are used.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "7")]
    annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<LinuxSandboxSecurityContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxSandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
}

/// The machine's own namespace.
const NODE: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxId {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainerConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Mount {
    #[prost(string, tag = "1")]
    container_path: String,
    #[prost(string, tag = "2")]
    host_path: String,
    #[prost(bool, tag = "3")]
    readonly: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxContainerConfig {
    #[prost(message, optional, tag = "2")]
    security_context: Option<LinuxContainerSecurityContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxContainerSecurityContext {
    #[prost(message, optional, tag = "3")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerId {
    #[prost(string, tag = "1")]
    container_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// An engine, as a kubelet has it.
pub(crate) struct Kubelet {
    runtime: Runtime,
    channel: Channel,
}

/// A pod that is to be run, with one container.
pub(crate) struct PodSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) labels: &'a [(&'a str, &'a str)],
    pub(crate) annotations: &'a [(&'a str, &'a str)],
    pub(crate) container: &'a str,
    pub(crate) image: &'a str,
    pub(crate) restarts: u32,
    pub(crate) command: &'a [String],
    pub(crate) mounts: &'a [PathBuf],
    pub(crate) logs: &'a Path,
}

/// A pod that runs; it is removed when this is dropped.
pub(crate) struct RunningPod<'a> {
    kubelet: &'a Kubelet,
    sandbox: String,
    pub(crate) container: String,
}

fn owned(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Kubelet {
    pub(crate) fn new(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { runtime, channel }
    }

    fn call<M, R>(&self, method: &str, request: M) -> R
    where
        M: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}").parse().unwrap();
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.unwrap();
            let codec: ProstCodec<M, R> = ProstCodec::default();
            let answer = client.unary(tonic::Request::new(request), path, codec).await;
            answer.unwrap_or_else(|status| panic!("{method}: {status}")).into_inner()
        })
    }

    pub(crate) fn run(&self, pod: &PodSpec<'_>) -> RunningPod<'_> {
        let network = || Some(NamespaceOption { network: NODE });
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: pod.name.to_owned(),
                uid: pod.uid.to_owned(),
                namespace: pod.namespace.to_owned(),
            }),
            log_directory: pod.logs.display().to_string(),
            labels: owned(pod.labels),
            annotations: owned(pod.annotations),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/pod{}", pod.uid),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: network(),
                }),
            }),
        };
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        let PodSandboxId { pod_sandbox_id: sandbox } = self.call("RunPodSandbox", request);
        let mount = |path: &PathBuf| Mount {
            container_path: path.display().to_string(),
            host_path: path.display().to_string(),
            readonly: true,
        };
        // As a kubelet labels it.
        let labels = [
            ("io.kubernetes.container.name", pod.container),
            ("io.kubernetes.pod.name", pod.name),
            ("io.kubernetes.pod.namespace", pod.namespace),
            ("io.kubernetes.pod.uid", pod.uid),
        ];
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: pod.container.to_owned(),
                    attempt: pod.restarts,
                }),
                image: Some(ImageSpec { image: pod.image.to_owned() }),
                command: pod.command.to_vec(),
                mounts: pod.mounts.iter().map(mount).collect(),
                labels: owned(&labels),
                linux: Some(LinuxContainerConfig {
                    security_context: Some(LinuxContainerSecurityContext {
                        namespace_options: network(),
                    }),
                }),
            }),
            sandbox_config: Some(config),
        };
        let ContainerId { container_id: container } = self.call("CreateContainer", request);
        let _: Nothing =
            self.call("StartContainer", ContainerId { container_id: container.clone() });
        RunningPod { kubelet: self, sandbox, container }
    }
}

impl Drop for RunningPod<'_> {
    fn drop(&mut self) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let request = PodSandboxId { pod_sandbox_id: self.sandbox.clone() };
            let _: Nothing = self.kubelet.call(method, request);
        }
    }
}
