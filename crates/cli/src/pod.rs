//! The pod and the container a verb works on: how a person names them, and what the server says about them.

use crate::connection::{Connection, collect};
use crate::failure::Failure;
use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube_client::client::Body;

/// The annotation with which a pod names the container that people mean.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// A pod object is a few KiB; etcd does not hold larger ones.
const POD_BYTES: usize = 4 * 1024 * 1024;

/// `web`, `pod/web`, `pods/web` or `po/web`.
///
/// # Errors
/// Names the kind that is not understood; used as a clap value parser.
pub(crate) fn parse_name(typed: &str) -> Result<String, String> {
    let name = match typed.split_once('/') {
        None => typed,
        Some(("pod" | "pods" | "po", name)) => name,
        Some((kind, _)) => return Err(format!("{kind}/… is not understood here: name the pod itself")),
    };
    if name.is_empty() || name.contains('/') {
        return Err("a pod's name is expected".to_owned());
    }
    Ok(name.to_owned())
}

/// What the server says about the pod.
#[derive(Debug)]
pub(crate) struct Described {
    pod: Pod,
}

impl Described {
    /// Asks for the pod. `None` where the server keeps it from us (forbidden, or no such endpoint: a streaming
    /// server need not know pods): the request proper will then say what is wrong, if anything is.
    pub(crate) async fn fetch(connection: &Connection, pod: &str) -> Result<Option<Self>, Failure> {
        let request = Request::get(connection.pod_path(pod))
            .body(Body::empty())
            .map_err(|error| Failure::usage(format!("not a pod's name: {error}")))?;
        let response = connection.send(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            tracing::debug!(%status, pod, "the server does not describe the pod");
            return Ok(None);
        }
        let body = collect(response.into_body(), POD_BYTES).await;
        match serde_json::from_slice(&body) {
            Ok(pod) => Ok(Some(Self { pod })),
            Err(error) => {
                tracing::debug!(%error, pod, "the server's description of the pod is not one");
                Ok(None)
            }
        }
    }

    /// Refuses a pod that has ended: nothing can run in it any more.
    pub(crate) fn running(&self, verb: &str) -> Result<(), Failure> {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if phase == "Succeeded" || phase == "Failed" {
            return Err(Failure::refused(format!(
                "wsstream: cannot {verb} a container in a completed pod; current phase is {phase}"
            ))
            .next("`wsstream logs` shows what it printed"));
        }
        Ok(())
    }

    /// Refuses a pod that does not run, in kubectl's words: nothing listens in it.
    pub(crate) fn can_forward(&self) -> Result<(), Failure> {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if phase.is_empty() || phase == "Running" {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "wsstream: unable to forward port because pod is not running. Current status={phase}"
        )))
    }

    /// The container that is meant when none is named, and the line that says so if there was a choice.
    pub(crate) fn default_container(&self) -> Option<(String, Option<String>)> {
        let containers = &self.pod.spec.as_ref()?.containers;
        let annotated = self.pod.metadata.annotations.as_ref().and_then(|map| map.get(DEFAULT_CONTAINER));
        if let Some(name) = annotated
            && containers.iter().any(|container| container.name == *name)
        {
            return Some((name.clone(), None));
        }
        let first = containers.first()?.name.clone();
        let notice = (containers.len() > 1).then(|| {
            let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
            format!("Defaulted container \"{first}\" out of: {}", names.join(", "))
        });
        Some((first, notice))
    }

    /// Whether the container's main process has a terminal. `None`: the pod has no such container, as far as it
    /// says.
    pub(crate) fn has_tty(&self, container: &str) -> Option<bool> {
        self.container(container).map(|container| container.tty.unwrap_or(false))
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|container| container.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Described, parse_name};
    use crate::exit::Exit;

    fn described(json: &str) -> Described {
        Described { pod: serde_json::from_str(json).unwrap() }
    }

    #[test]
    fn names_may_carry_their_kind() {
        for typed in ["web", "pod/web", "pods/web", "po/web"] {
            assert_eq!(parse_name(typed).unwrap(), "web");
        }
        assert!(parse_name("deploy/web").unwrap_err().contains("deploy/"));
        assert!(parse_name("pod/").is_err());
        assert!(parse_name("").is_err());
        assert!(parse_name("pod/a/b").is_err());
    }

    #[test]
    fn the_default_container_is_annotated_or_the_first() {
        let two = r#""spec":{"containers":[{"name":"a","tty":true},{"name":"b"}]}"#;
        let plain = described(&format!(r#"{{"metadata":{{"name":"p"}},{two}}}"#));
        let (name, notice) = plain.default_container().unwrap();
        assert_eq!(
            (name.as_str(), notice.as_deref()),
            ("a", Some(r#"Defaulted container "a" out of: a, b"#))
        );
        let annotated = described(&format!(
            r#"{{"metadata":{{"annotations":{{"kubectl.kubernetes.io/default-container":"b"}}}},{two}}}"#
        ));
        assert_eq!(annotated.default_container().unwrap(), ("b".to_owned(), None));
        assert_eq!(annotated.has_tty("a"), Some(true));
        assert_eq!(annotated.has_tty("b"), Some(false));
        assert_eq!(annotated.has_tty("c"), None);
    }

    #[test]
    fn a_completed_pod_is_refused() {
        let pod = described(r#"{"metadata":{},"status":{"phase":"Succeeded"}}"#);
        let failure = pod.running("exec into").unwrap_err();
        assert_eq!(failure.exit(), Exit::Refused);
        assert!(failure.to_string().contains("current phase is Succeeded"), "{failure}");
        described(r#"{"metadata":{},"status":{"phase":"Running"}}"#).running("exec into").unwrap();
        assert!(pod.can_forward().unwrap_err().to_string().ends_with("Current status=Succeeded"));
        described(r#"{"metadata":{},"status":{"phase":"Running"}}"#).can_forward().unwrap();
        described(r#"{"metadata":{}}"#).can_forward().unwrap();
    }
}
