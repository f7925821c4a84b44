//! Docker's Engine API (<https://docs.docker.com/reference/api/engine/>), which Podman speaks as well: inspecting a
//! container. Of its answer only the fields that are read.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::{Client, StatusCode};
use serde::Deserialize;

use super::{AskError, Container, Pod, bounded, text};
use crate::tls;

/// The oldest version that Docker 20.10 to 29 and Podman 3 to 5 all serve.
const VERSION: &str = "v1.40";

/// An answer is a few kilobytes, of long labels some hundred.
const ANSWER_BYTES: usize = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    name: String,
    #[serde(default)]
    config: Configured,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configured {
    #[serde(default)]
    image: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// What the engine at this socket says of a container.
pub(super) async fn container(path: &Path, id: &str) -> Result<Option<Container>, AskError> {
    let failed = |error: reqwest::Error| AskError::Connect {
        path: path.to_owned(),
        source: Box::new(error),
    };
    let refused = |why: String| AskError::Refused { path: path.to_owned(), why };
    // The client does not begin without, though no engine on a socket speaks TLS; and no authorities may be there.
    tls::install_provider();
    let client = Client::builder().tls_certs_only([]).no_proxy().unix_socket(path);
    let client = client.build().map_err(failed)?;
    // An id is of letters and digits, by how it is found in a cgroup's path.
    let url = format!("http://engine/{VERSION}/containers/{id}/json");
    let mut answer = client.get(url).send().await.map_err(failed)?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        other => return Err(refused(other.to_string())),
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES {
            return Err(refused(format!("more than {ANSWER_BYTES} bytes")));
        }
    }
    described(&body).map(Some).map_err(|error| refused(error.to_string()))
}

fn described(json: &[u8]) -> Result<Container, serde_json::Error> {
    let Inspected { name, config } = serde_json::from_slice(json)?;
    let labels = config.labels.unwrap_or_default();
    let pod = pod(&labels);
    // dockershim and cri-dockerd name a container by its pod.
    let own_name = labels.get("io.kubernetes.container.name").cloned();
    Ok(Container {
        name: own_name.or_else(|| text(name.trim_start_matches('/').to_owned())),
        image: text(config.image).filter(|name| !name.starts_with("sha256:")),
        restarts: None,
        labels: bounded(labels),
        pod,
    })
}

/// The pod that a kubelet's container is of. Its own labels are with its sandbox, and unknown here.
fn pod(labels: &BTreeMap<String, String>) -> Option<Pod> {
    let label = |key: &str| labels.get(key).cloned().and_then(text);
    let (name, namespace) =
        (label("io.kubernetes.pod.name")?, label("io.kubernetes.pod.namespace")?);
    Some(Pod { name, namespace, ..Pod::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_far_as_it_says_something() {
        let json = br#"{"Id": "4f", "Name": "/shop-orders-1", "State": {"Pid": 7},
            "Config": {"Image": "shop/orders:1.2", "Labels": {"com.docker.compose.service": "orders"}}}"#;
        let found = described(json).unwrap();
        assert_eq!(found.name.as_deref(), Some("shop-orders-1"));
        assert_eq!(found.image.as_deref(), Some("shop/orders:1.2"));
        assert_eq!(found.label("com.docker.compose.service"), Some("orders"));
        assert_eq!(found.pod, None);
        let bare = described(br#"{"Config": {"Image": "sha256:12", "Labels": null}}"#).unwrap();
        assert_eq!(bare, Container::default());
        assert!(described(b"7").is_err() && described(b"").is_err());
    }

    #[test]
    fn a_kubelets_container_is_of_its_pod() {
        let json = br#"{"Name": "/k8s_web_orders-0_shop_uid_1", "Config": {"Labels": {
            "io.kubernetes.container.name": "web", "io.kubernetes.pod.name": "orders-0",
            "io.kubernetes.pod.namespace": "shop"}}}"#;
        let found = described(json).unwrap();
        let pod = found.pod.unwrap();
        assert_eq!(found.name.as_deref(), Some("web"));
        assert_eq!((pod.name.as_str(), pod.namespace.as_str()), ("orders-0", "shop"));
    }
}
