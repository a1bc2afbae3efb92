//! The paths and parameter names of a kubelet's own API: what an API server asks a node for, and what tools that talk to
//! nodes directly know.
//!
//! Everything behind them is what the API's paths have: the same authentication, the same checks, the same sessions. Only
//! the words differ: the container stands in the path, a flag is on only as `1`, and the streams are `input`, `output` and
//! `error`. Errors are a `Status` here too, where a kubelet sends plain text: client-go shows the message of either.

use crate::api::{
    answer::Refusal,
    exec::{attach_in, exec_in},
    gate::{Caller, Gate, Named},
    log,
    pods::{Names, names},
    portforward::forward_to,
    query::Query,
};
use axum::{Router, extract::Request, response::Response, routing::get};
use serde::Deserialize;
use wsstream::remotecommand::Spelling;

/// The routes, to be merged into those that are authenticated.
pub(crate) fn routes() -> Router<Gate> {
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
struct Path {
    namespace: String,
    pod: String,
    /// Asked for by who wants this pod and no later one of the same name.
    #[serde(default)]
    uid: Option<String>,
    /// Not for port-forward: containers of a pod share its network.
    #[serde(default)]
    container: String,
}

impl Path {
    fn named(&self) -> Named<'_> {
        Named {
            namespace: &self.namespace,
            pod: &self.pod,
            uid: self.uid.as_deref(),
            container: Some(&self.container),
            spelling: Spelling::Kubelet,
        }
    }
}

async fn exec(caller: Caller, path: Names<Path>, request: Request) -> Result<Response, Refusal> {
    exec_in(&caller.place(names(path)?.named()).await?, request).await
}

async fn attach(caller: Caller, path: Names<Path>, request: Request) -> Result<Response, Refusal> {
    attach_in(&caller.place(names(path)?.named()).await?, request).await
}

async fn port_forward(caller: Caller, path: Names<Path>, request: Request) -> Result<Response, Refusal> {
    forward_to(&caller.pod(names(path)?.named()).await?, request).await
}

async fn container_logs(caller: Caller, path: Names<Path>, request: Request) -> Result<Response, Refusal> {
    let place = caller.place(names(path)?.named()).await?;
    let query = Query::of(request.uri());
    let mut options = log::options(&query)?;
    // The name that kubelets had first, and still take before the other.
    if let Some(tail) = query.text("tail") {
        options.tail_lines = if tail == "all" { None } else { query.number("tail")? };
    }
    log::log_of(&place, options, request).await
}
