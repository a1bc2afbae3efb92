//! What a client asks before its first real question: which API versions and resources there are.
//!
//! Nothing here depends on the state of the server; kubectl keeps these answers for six hours.

use super::answer::json as answer_json;
use axum::response::Response;
use serde_json::{Value, json};

/// The Kubernetes version we claim to be. Clients choose behaviour by it (the `kubectl` dispatcher of the Google Cloud
/// SDK even runs another binary), so it is pinned to the version whose surface we offer, with our own name as build
/// metadata.
const GIT_VERSION: &str = "v1.33.0+wsstream";

pub(crate) async fn version() -> Response {
    answer_json(&json!({
        "major": "1",
        "minor": "33",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    }))
}

pub(crate) async fn api() -> Response {
    answer_json(&json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}))
}

pub(crate) async fn apis() -> Response {
    answer_json(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
}

pub(crate) async fn v1() -> Response {
    let subresource = |name: &str, kind: &str, verbs: &[&str]| -> Value {
        json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": verbs})
    };
    answer_json(&json!({
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {
                "name": "namespaces", "singularName": "namespace", "namespaced": false, "kind": "Namespace",
                "verbs": ["get", "list"], "shortNames": ["ns"],
            },
            {
                "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
                "verbs": ["get", "list", "watch"], "shortNames": ["po"], "categories": ["all"],
            },
            subresource("pods/attach", "PodAttachOptions", &["create", "get"]),
            subresource("pods/exec", "PodExecOptions", &["create", "get"]),
            subresource("pods/log", "Pod", &["get"]),
            subresource("pods/portforward", "PodPortForwardOptions", &["create", "get"]),
        ],
    }))
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
