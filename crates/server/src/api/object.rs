//! Pods and namespaces as the JSON that clients decode. Fields that no client misses are left out.

use crate::{
    pod::{ContainerSnapshot, PodSnapshot},
    target::{ContainerState, Terminated},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// RFC 3339 in whole seconds, as Kubernetes writes times.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn metadata(pod: &PodSnapshot) -> Value {
    let mut metadata = json!({
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": pod.uid,
        "resourceVersion": pod.resource_version.to_string(),
        "creationTimestamp": time(pod.created),
    });
    if let (Some(map), false) = (metadata.as_object_mut(), pod.labels.is_empty()) {
        map.insert("labels".to_owned(), json!(pod.labels));
    }
    metadata
}

pub(crate) fn pod(pod: &PodSnapshot) -> Value {
    let all_ready = pod.ready() == pod.containers.len();
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": null})
    };
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata(pod),
        "spec": {
            "containers": pod.containers.iter().map(container_spec).collect::<Vec<_>>(),
            "nodeName": pod.node,
        },
        "status": {
            "phase": pod.phase.as_str(),
            "conditions": [
                condition("Initialized", true),
                condition("Ready", all_ready),
                condition("ContainersReady", all_ready),
                condition("PodScheduled", true),
            ],
            "startTime": time(pod.created),
            "containerStatuses": pod.containers.iter().map(container_status).collect::<Vec<_>>(),
        },
    })
}

fn container_spec(container: &ContainerSnapshot) -> Value {
    let mut spec = Map::from_iter([
        ("name".to_owned(), json!(container.name)),
        ("image".to_owned(), json!(container.image)),
        ("resources".to_owned(), json!({})),
    ]);
    if !container.command.is_empty() {
        spec.insert("command".to_owned(), json!(container.command));
    }
    // Absent means false, as Go writes it.
    for (key, value) in [("stdin", container.stdin), ("tty", container.tty)] {
        if value {
            spec.insert(key.to_owned(), Value::Bool(true));
        }
    }
    Value::Object(spec)
}

fn container_status(container: &ContainerSnapshot) -> Value {
    let running = container.state.is_running();
    json!({
        "name": container.name,
        "state": state(&container.state),
        "lastState": container.last_run.as_ref().map_or_else(|| json!({}), terminated),
        "ready": running,
        "started": running,
        "restartCount": container.restarts,
        "image": container.image,
        "imageID": "",
    })
}

fn state(state: &ContainerState) -> Value {
    match state {
        ContainerState::Waiting { reason, message } => {
            let mut waiting = json!({"reason": reason});
            if let (Some(map), false) = (waiting.as_object_mut(), message.is_empty()) {
                map.insert("message".to_owned(), json!(message));
            }
            json!({"waiting": waiting})
        }
        ContainerState::Running { started_at } => json!({"running": {"startedAt": time(*started_at)}}),
        ContainerState::Terminated(end) => terminated(end),
    }
}

fn terminated(end: &Terminated) -> Value {
    let mut inner = Map::from_iter([
        ("exitCode".to_owned(), json!(end.exit_code)),
        ("reason".to_owned(), json!(end.reason)),
        ("startedAt".to_owned(), json!(time(end.started_at))),
        ("finishedAt".to_owned(), json!(time(end.finished_at))),
    ]);
    if let Some(signal) = end.signal {
        inner.insert("signal".to_owned(), json!(signal));
    }
    if !end.message.is_empty() {
        inner.insert("message".to_owned(), json!(end.message));
    }
    json!({"terminated": inner})
}

/// A namespace. It has no life of its own: it is there because pods are.
pub(crate) fn namespace(name: &str, created: Option<Timestamp>) -> Value {
    json!({
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "creationTimestamp": created.map(time),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {},
        "status": {"phase": "Active"},
    })
}
