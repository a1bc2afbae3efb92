//! Port-forward, over every wire that clients use: channels, SPDY, and SPDY in a WebSocket.
//!
//! GET and POST are the same here, and so are their errors: kubectl tries SPDY by POST when its WebSocket is refused, and
//! shows only the second answer.

use super::{
    answer::Refusal,
    exec::protocol,
    gate::{self, Caller, Named, PodPlace},
    pods::{Names, names},
    registry::{Entry, SessionKind},
    session::{Facts, Session},
    sessions::Sessions,
};
use crate::audit::Asked;
use crate::pod::{Phase, Ports};
use axum::{body::Body, extract::Request, response::Response};
use http::header;
use std::sync::Arc;
use wsstream::{
    portforward::{ForwardError, PortForwarder, PortStream, server::PortForward},
    remotecommand::Spelling,
    upgrade::{is_spdy, is_websocket},
};

pub(crate) async fn portforward(
    caller: Caller,
    path: Names<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (namespace, pod) = names(path)?;
    let (namespace, pod) = (namespace.as_str(), pod.as_str());
    let place = Named { namespace, pod, uid: None, container: None, spelling: Spelling::ApiServer };
    forward_to(&caller.pod(place).await?, request).await
}

/// Forwards to the ports of a pod; the spelling is that of their parameter, where the client needs one.
pub(crate) async fn forward_to(
    place: &PodPlace<gate::PortForward>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let PodPlace { pod, snapshot, spelling, allowed } = place;
    let (api, spelling) = (allowed.api(), *spelling);
    if snapshot.phase != Phase::Running {
        let phase = snapshot.phase;
        return Err(Refusal::bad_request(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Refusal::bad_request("Upgrade request required"));
    }
    let spdy = is_spdy(request.headers());
    let wire = if spdy || is_websocket(request.headers()) {
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
    let protocol = protocol(forward.subprotocol(), spdy);
    let facts = Facts { kind: SessionKind::PortForward, snapshot, container: "-", protocol };
    let mut session = Session::begin(api, facts, &request)?;
    session.record(Asked { ports: forward.ports(), ..Asked::default() }).await?;
    let response = forward.response().map(|()| Body::empty());
    let entry = Arc::clone(&session.entry);
    let forwarder =
        InPod { ports: pod.ports.clone(), sessions: api.sessions().clone(), entry: Arc::clone(&entry) };
    let closing = api.sessions().closing();
    let stop = async move {
        tokio::select! {
            () = closing.cancelled() => {}
            _ = entry.order.wait() => {}
        }
    };
    session.spawn(Box::pin(forward.serve_until(forwarder, stop)));
    Ok(response)
}

/// The ports of a pod, with the end of the session in view, and what goes over it.
struct InPod {
    ports: Ports,
    sessions: Sessions,
    entry: Arc<Entry>,
}

impl PortForwarder for InPod {
    async fn forward(&self, port: u16, mut stream: PortStream) -> Result<(), ForwardError> {
        stream.measure(&self.entry.meter);
        tokio::select! {
            biased;
            result = self.ports.forward(port, stream) => result,
            cause = self.entry.detached(self.sessions.farewell()) => {
                Err(ForwardError::Other(cause.to_string()))
            }
        }
    }
}
