//! Port-forward, over every wire that clients use: channels, SPDY, and SPDY in a WebSocket.
//!
//! GET and POST are the same here, and so are their errors: kubectl tries SPDY by POST when its WebSocket is refused, and
//! shows only the second answer.

use super::{
    Api,
    answer::Refusal,
    exec::{SHUTTING_DOWN, find_pod, refuse_when_closing},
    pods::{Names, names},
    session::Session,
    sessions::Sessions,
};
use crate::pod::{Phase, Pod, PodSnapshot, Ports};
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::header;
use wsstream::{
    portforward::{ForwardError, PortForwarder, PortStream, server::PortForward},
    remotecommand::Spelling,
    upgrade::{is_spdy, is_websocket},
};

pub(crate) async fn portforward(
    State(api): State<Api>,
    path: Names<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (namespace, name) = names(path)?;
    let (pod, snapshot) = find_pod(&api, &namespace, &name)?;
    forward_to(&api, &pod, &snapshot, Spelling::ApiServer, request)
}

/// Forwards to the ports of a pod; `spelling` is that of their parameter, where the client needs one.
pub(crate) fn forward_to(
    api: &Api,
    pod: &Pod,
    snapshot: &PodSnapshot,
    spelling: Spelling,
    mut request: Request,
) -> Result<Response, Refusal> {
    if snapshot.phase != Phase::Running {
        let phase = snapshot.phase;
        return Err(Refusal::bad_request(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Refusal::bad_request("Upgrade request required"));
    }
    let _entered = refuse_when_closing(api)?;
    let wire = if is_spdy(request.headers()) || is_websocket(request.headers()) {
        PortForward::accept_spelled(&mut request, spelling)
    } else {
        return Err(Refusal::bad_request(format!(
            "cannot upgrade to {:?}: this server takes WebSocket and SPDY",
            request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or("?")
        )));
    };
    let forward = match wire {
        Ok(forward) => forward.options(api.forward_options(&pod.ports)),
        Err(rejection) => return Ok(rejection.into_response().map(Body::from)),
    };
    // Containers of a pod share its network: none is named.
    let session = Session::new(api, "portforward", snapshot, "-", &request);
    let response = forward.response().map(|()| Body::empty());
    let forwarder = InPod { ports: pod.ports.clone(), sessions: api.sessions().clone() };
    let closing = api.sessions().closing().cancelled_owned();
    api.sessions().spawn(session.run(Box::pin(forward.serve_until(forwarder, closing))));
    Ok(response)
}

/// The ports of a pod with the end of the server in view.
struct InPod {
    ports: Ports,
    sessions: Sessions,
}

impl PortForwarder for InPod {
    async fn forward(&self, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        tokio::select! {
            biased;
            result = self.ports.forward(port, stream) => result,
            () = self.sessions.overdue() => Err(ForwardError::Other(SHUTTING_DOWN.to_owned())),
        }
    }
}
