//! Kubernetes' Container Runtime Interface, version 1
//! (<https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto>): what containerd, CRI-O and
//! cri-dockerd answer to. Of its messages only the fields that are read.

use std::collections::HashMap;
use std::path::Path;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::{ANNOTATION, AskError, Container, Pod, bounded, text};

#[derive(Clone, PartialEq, prost::Message)]
struct ListContainersRequest {
    #[prost(message, optional, tag = "1")]
    filter: Option<ContainerFilter>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerFilter {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Listed>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Listed {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<ContainerMetadata>,
    #[prost(map = "string, string", tag = "8")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerStatusRequest {
    #[prost(string, tag = "1")]
    container_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerStatus {
    #[prost(message, optional, tag = "8")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxStatusRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<PodSandboxStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxStatus {
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(map = "string, string", tag = "7")]
    labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "8")]
    annotations: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

/// What the engine at this socket says of a container.
pub(super) async fn container(path: &Path, id: &str) -> Result<Option<Container>, AskError> {
    let channel = connect(path).await?;
    let refused =
        |status: Status| AskError::Refused { path: path.to_owned(), why: status.to_string() };
    let filter = Some(ContainerFilter { id: id.to_owned() });
    let request = ListContainersRequest { filter };
    let found: ListContainersResponse =
        match call(&channel, "/runtime.v1.RuntimeService/ListContainers", request).await {
            Ok(found) => found,
            // Docker's own containerd answers there, with this interface turned off.
            Err(status) if status.code() == Code::Unimplemented => return Ok(None),
            Err(status) => return Err(refused(status)),
        };
    // A filter is of an id's beginning, too.
    let Some(listed) = found.containers.into_iter().find(|listed| listed.id == id) else {
        return Ok(None);
    };
    let request = ContainerStatusRequest { container_id: listed.id };
    let status: ContainerStatusResponse =
        call(&channel, "/runtime.v1.RuntimeService/ContainerStatus", request)
            .await
            .map_err(refused)?;
    let request = PodSandboxStatusRequest { pod_sandbox_id: listed.pod_sandbox_id };
    let sandbox: PodSandboxStatusResponse =
        call(&channel, "/runtime.v1.RuntimeService/PodSandboxStatus", request)
            .await
            .map_err(refused)?;
    let (name, restarts) =
        listed.metadata.map(|metadata| (metadata.name, metadata.attempt)).unzip();
    let image = status.status.and_then(|status| status.image);
    Ok(Some(Container {
        name: name.and_then(text),
        image: image.and_then(image_name),
        labels: bounded(listed.labels),
        restarts,
        pod: sandbox.status.and_then(pod),
    }))
}

/// The name by which it was asked for, and not what the kubelet resolved that to.
fn image_name(ImageSpec { image, user_specified_image }: ImageSpec) -> Option<String> {
    text(user_specified_image).or_else(|| text(image)).filter(|name| !name.starts_with("sha256:"))
}

fn pod(status: PodSandboxStatus) -> Option<Pod> {
    let PodSandboxMetadata { name, namespace } = status.metadata?;
    let stated = |(key, value): (String, String)| {
        Some((key.strip_prefix(ANNOTATION)?.to_owned(), value)).filter(|(key, _)| !key.is_empty())
    };
    Some(Pod {
        name: text(name)?,
        namespace: text(namespace)?,
        labels: bounded(status.labels),
        attributes: bounded(status.annotations.into_iter().filter_map(stated)),
    })
}

async fn connect(path: &Path) -> Result<Channel, AskError> {
    let failed = |error: tonic::transport::Error| AskError::Connect {
        path: path.to_owned(),
        source: Box::new(error),
    };
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).map_err(failed)?;
    endpoint.connect().await.map_err(failed)
}

async fn call<M, R>(channel: &Channel, method: &'static str, request: M) -> Result<R, Status>
where
    M: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    let mut client = Grpc::new(channel.clone());
    let not_ready = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    client.ready().await.map_err(not_ready)?;
    let codec: ProstCodec<M, R> = ProstCodec::default();
    let method = PathAndQuery::from_static(method);
    client.unary(Request::new(request), method, codec).await.map(tonic::Response::into_inner)
}
