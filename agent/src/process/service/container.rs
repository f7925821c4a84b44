//! What a container's engine says, as attributes
//! (<https://opentelemetry.io/docs/specs/semconv/resource/k8s/>,
//! <https://opentelemetry.io/docs/specs/semconv/resource/container/>).

use opentelemetry_semantic_conventions::attribute as key;

use super::{AGENT_KEYS, Attributes, place};
use crate::containers::Container;

/// A name that the operator gave what runs there, by the labels that Kubernetes and Compose have for it, its
/// controller's name, or the container's own.
pub(super) fn name(container: &Container) -> Option<String> {
    let labelled = ["app.kubernetes.io/name", "com.docker.compose.service"]
        .into_iter()
        .find_map(|key| container.label(key).and_then(place::clean));
    labelled
        .or_else(|| place::clean(container.pod.as_ref()?.owners().name()?))
        .or_else(|| container.name.as_deref().and_then(place::clean))
}

/// What its pod's annotations state, the agent's own keys aside.
pub(super) fn stated(container: Option<&Container>) -> impl Iterator<Item = (&str, &str)> {
    let pod = container.and_then(|container| container.pod.as_ref());
    let stated = pod.into_iter().flat_map(|pod| &pod.attributes);
    stated
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| !key.starts_with(AGENT_KEYS))
}

/// The attributes of a container and its pod.
pub(super) fn describe(attributes: &mut Attributes, container: &Container) {
    let Container { name, image, restarts, pod, .. } = container;
    let Some(pod) = pod else {
        attributes.put_some(key::CONTAINER_NAME, name.clone());
        return describe_image(attributes, image.as_deref());
    };
    attributes.put(key::K8S_NAMESPACE_NAME, pod.namespace.clone());
    attributes.put(key::K8S_POD_NAME, pod.name.clone());
    attributes.put_some(key::K8S_CONTAINER_NAME, name.clone());
    attributes.put_some(key::K8S_CONTAINER_RESTART_COUNT, restarts.map(i64::from));
    let owners = pod.owners();
    attributes.put_some(key::K8S_DEPLOYMENT_NAME, owners.deployment);
    attributes.put_some(key::K8S_REPLICASET_NAME, owners.replica_set);
    attributes.put_some(key::K8S_STATEFULSET_NAME, owners.stateful_set);
    attributes.put_some(key::K8S_DAEMONSET_NAME, owners.daemon_set);
    attributes.put_some(key::K8S_JOB_NAME, owners.job);
    attributes.put(key::SERVICE_NAMESPACE, pod.namespace.clone());
    let version = container.label("app.kubernetes.io/version").and_then(place::clean);
    attributes.put_some(key::SERVICE_VERSION, version);
    describe_image(attributes, image.as_deref());
}

fn describe_image(attributes: &mut Attributes, image: Option<&str>) {
    let Some((name, tag)) = image.map(parted) else { return };
    attributes.put(key::CONTAINER_IMAGE_NAME, name.to_owned());
    attributes.put_some(key::CONTAINER_IMAGE_TAGS, tag.map(|tag| vec![tag.to_owned()]));
}

/// `registry:5000/shop/orders` and `1.2` of `registry:5000/shop/orders:1.2@sha256:...`.
fn parted(image: &str) -> (&str, Option<&str>) {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    match image.rsplit_once(':') {
        // A registry's port.
        Some((_, rest)) if rest.contains('/') => (image, None),
        Some((name, tag)) => (name, Some(tag)),
        None => (image, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_name_and_perhaps_a_tag() {
        for (image, expected) in [
            ("orders", ("orders", None)),
            ("orders:1.2", ("orders", Some("1.2"))),
            ("registry:5000/shop/orders", ("registry:5000/shop/orders", None)),
            ("registry:5000/shop/orders:1", ("registry:5000/shop/orders", Some("1"))),
            ("shop/orders:1@sha256:4f", ("shop/orders", Some("1"))),
            ("shop/orders@sha256:4f", ("shop/orders", None)),
        ] {
            assert_eq!(parted(image), expected);
        }
    }
}
