//! The paths and parameter names of a kubelet's own API: what an API server asks a node for, and what tools that talk to
//! nodes directly know.
//!
//! Everything behind them is what the API's paths have: the same authentication, the same checks, the same sessions. Only
//! the words differ: the container stands in the path, a flag is on only as `1`, and the streams are `input`, `output` and
//! `error`. Errors are a `Status` here too, where a kubelet sends plain text: client-go shows the message of either.

use crate::{
    api::{
        Api,
        answer::Refusal,
        exec::{Place, attach_in, exec_in},
        log,
        pods::{Names, names},
        portforward::forward_to,
        query::Query,
    },
    pod::{Container, Pod, PodSnapshot},
};
use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use serde::Deserialize;
use std::sync::Arc;
use wsstream::{proto::status::Status, remotecommand::Spelling};

/// The routes, to be merged into those that are authenticated.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/exec/{namespace}/{pod}/{container}", get(exec).post(exec))
        .route("/exec/{namespace}/{pod}/{uid}/{container}", get(exec).post(exec))
        .route("/attach/{namespace}/{pod}/{container}", get(attach).post(attach))
        .route("/attach/{namespace}/{pod}/{uid}/{container}", get(attach).post(attach))
        .route("/portForward/{namespace}/{pod}", get(port_forward).post(port_forward))
        .route("/portForward/{namespace}/{pod}/{uid}", get(port_forward).post(port_forward))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
}

/// What a path names.
#[derive(Debug, Deserialize)]
struct Named {
    namespace: String,
    pod: String,
    /// Asked for by who wants this pod and no later one of the same name.
    #[serde(default)]
    uid: Option<String>,
    /// Not for port-forward: containers of a pod share its network.
    #[serde(default)]
    container: String,
}

impl Named {
    fn pod(&self, api: &Api) -> Result<(Arc<Pod>, Arc<PodSnapshot>), Refusal> {
        let found = api.pods().get(&self.namespace, &self.pod);
        let found = found.filter(|(_, pod)| self.uid.as_ref().is_none_or(|uid| *uid == pod.uid));
        found.ok_or_else(|| Status::failure(404, "NotFound", "pod does not exist").into())
    }

    fn container(&self, pod: &Pod) -> Result<Container, Refusal> {
        let found = pod.containers.iter().find(|container| container.name == self.container);
        let message = || format!("container not found ({:?})", self.container);
        found.cloned().ok_or_else(|| Status::failure(404, "NotFound", message()).into())
    }

    fn place(&self, api: &Api) -> Result<Place, Refusal> {
        let (pod, snapshot) = self.pod(api)?;
        Ok(Place { container: self.container(&pod)?, snapshot, spelling: Spelling::Kubelet })
    }
}

async fn exec(State(api): State<Api>, path: Names<Named>, request: Request) -> Result<Response, Refusal> {
    exec_in(&api, &names(path)?.place(&api)?, request)
}

async fn attach(State(api): State<Api>, path: Names<Named>, request: Request) -> Result<Response, Refusal> {
    attach_in(&api, &names(path)?.place(&api)?, request)
}

async fn port_forward(
    State(api): State<Api>,
    path: Names<Named>,
    request: Request,
) -> Result<Response, Refusal> {
    let (pod, snapshot) = names(path)?.pod(&api)?;
    forward_to(&api, &pod, &snapshot, Spelling::Kubelet, request)
}

async fn container_logs(
    State(api): State<Api>,
    path: Names<Named>,
    request: Request,
) -> Result<Response, Refusal> {
    let named = names(path)?;
    let query = Query::of(request.uri());
    let mut options = log::options(&query)?;
    // The name that kubelets had first, and still take before the other.
    if let Some(tail) = query.text("tail") {
        options.tail_lines = if tail == "all" { None } else { query.number("tail")? };
    }
    let (pod, snapshot) = named.pod(&api)?;
    let container = named.container(&pod)?;
    log::log_of(&api, &snapshot, &container, options, request).await
}
