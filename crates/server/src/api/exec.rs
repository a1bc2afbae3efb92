//! Exec and attach: from a request to a running session.
//!
//! GET and POST are the same here, and so are their errors: a client whose WebSocket upgrade is refused tries SPDY by
//! POST and shows only the second answer.

use super::{
    Api, SpeaksFirst,
    answer::Refusal,
    gate::{self, Caller, Named, Place},
    pods::{Names, names},
    query::Query,
    registry::{Entry, Protocol, SessionKind},
    session::{Facts, Session},
    sessions::Sessions,
};
use crate::{
    audit::Asked,
    pod::{Container, Pod, PodSnapshot},
    target::{Cause, Ending, Target},
};
use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, Uri, header};
use std::sync::Arc;
use wsstream::{
    proto::{
        status::Status,
        subprotocol::{REMOTECOMMAND, SPDY_UPGRADE, Subprotocol},
    },
    remotecommand::{self, Attacher, Executor, ExitCode, Failure, Spelling, Streams, server},
    upgrade::{is_spdy, is_websocket},
};

pub(crate) async fn exec(
    caller: Caller,
    path: Names<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let place = named(&caller, path, &request.uri().clone()).await?;
    exec_in(&place, request).await
}

pub(crate) async fn attach(
    caller: Caller,
    path: Names<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let place = named(&caller, path, &request.uri().clone()).await?;
    attach_in(&place, request).await
}

/// As the API server's paths name it: the container, if there are several, by a parameter.
pub(super) async fn named<A: gate::Action>(
    caller: &Caller,
    path: Names<(String, String)>,
    uri: &Uri,
) -> Result<Place<A>, Refusal> {
    let (namespace, name) = names(path)?;
    let query = Query::of(uri);
    let (namespace, pod, container) = (namespace.as_str(), name.as_str(), query.text("container"));
    caller.place(Named { namespace, pod, uid: None, container, spelling: Spelling::ApiServer }).await
}

/// Runs a command in a place.
pub(crate) async fn exec_in(place: &Place<gate::Exec>, mut request: Request) -> Result<Response, Refusal> {
    let api = place.api();
    check(SessionKind::Exec, place, &request)?;
    let exec = match server::Exec::accept_spelled(&mut request, place.spelling) {
        Ok(exec) => exec.options(api.session_options()),
        Err(rejection) => return Ok(rejection.into_response().map(Body::from)),
    };
    let spdy = exec.is_spdy();
    let mut session = begin(api, SessionKind::Exec, place, protocol(exec.subprotocol(), spdy), &request)?;
    session.record(asked(exec.request())).await?;
    let response = switch(exec.response(), spdy);
    let executor = InTarget::new(place, &session, api);
    session.spawn(Box::pin(exec.serve(executor)));
    Ok(response)
}

/// Attaches to what runs in a place.
pub(crate) async fn attach_in(
    place: &Place<gate::Attach>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let api = place.api();
    check(SessionKind::Attach, place, &request)?;
    let attach = match server::Attach::accept_spelled(&mut request, place.spelling) {
        Ok(attach) => attach.options(api.session_options()),
        Err(rejection) => return Ok(rejection.into_response().map(Body::from)),
    };
    let spdy = attach.is_spdy();
    let mut session = begin(api, SessionKind::Attach, place, protocol(attach.subprotocol(), spdy), &request)?;
    session.record(asked(attach.request())).await?;
    let response = switch(attach.response(), spdy);
    let attacher = InTarget::new(place, &session, api);
    session.spawn(Box::pin(attach.serve(attacher)));
    Ok(response)
}

pub(super) fn protocol(spoken: &Subprotocol, spdy: bool) -> Protocol {
    let carrier = if spdy { "spdy" } else { "websocket" };
    Protocol { carrier, name: spoken.name().to_owned() }
}

/// What the record says of it.
fn asked(request: &remotecommand::Request) -> Asked<'_> {
    Asked {
        tty: request.tty,
        streams: [request.stdin, request.stdout, request.stderr && !request.tty],
        argv: &request.command,
        ports: &[],
    }
}

/// The answer to an upgrade. A session over WebSocket begins with a message that says that it is ready.
fn switch(response: http::Response<()>, spdy: bool) -> Response {
    let mut response = response.map(|()| Body::empty());
    if !spdy {
        response.extensions_mut().insert(SpeaksFirst);
    }
    response
}

/// Everything else that can be wrong before the upgrade is looked at.
fn check<A>(kind: SessionKind, place: &Place<A>, request: &Request) -> Result<(), Refusal> {
    let phase = place.snapshot.phase;
    if phase.is_over() {
        let verb = if kind == SessionKind::Exec { "exec into" } else { "attach to" };
        return Err(Refusal::bad_request(format!(
            "cannot {verb} a container in a completed pod; current phase is {phase}"
        )));
    }
    check_upgrade(request.headers())
}

/// Everything that stands between a request that is right and its session.
fn begin<A>(
    api: &Api,
    kind: SessionKind,
    place: &Place<A>,
    protocol: Protocol,
    request: &Request,
) -> Result<Session, Refusal> {
    let facts = Facts { kind, snapshot: &place.snapshot, container: &place.container.name, protocol };
    Session::begin(api, facts, request)
}

pub(crate) fn find_pod(
    api: &Api,
    namespace: &str,
    name: &str,
) -> Result<(Arc<Pod>, Arc<PodSnapshot>), Refusal> {
    api.pods().get(namespace, name).ok_or_else(|| Status::not_found("pods", name).into())
}

/// The container asked for, or the only one.
pub(crate) fn find_container<'a>(pod: &'a Pod, asked: Option<&str>) -> Result<&'a Container, Refusal> {
    match (asked, pod.containers.as_slice()) {
        (Some(asked), all) => all.iter().find(|container| container.name == asked).ok_or_else(|| {
            Refusal::bad_request(format!("container {asked} is not valid for pod {}", pod.name))
        }),
        (None, [only]) => Ok(only),
        (None, all) => {
            let choices: Vec<_> = all.iter().map(|container| container.name.as_str()).collect();
            Err(Refusal::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name,
                choices.join(" ")
            )))
        }
    }
}

/// A plain request and one for another protocol get an answer that says what to send instead.
fn check_upgrade(headers: &HeaderMap) -> Result<(), Refusal> {
    if is_websocket(headers) || is_spdy(headers) {
        return Ok(());
    }
    let Some(upgrade) = headers.get(header::UPGRADE) else {
        return Err(Refusal::bad_request("Upgrade request required"));
    };
    let names: Vec<_> = REMOTECOMMAND.iter().map(Subprotocol::name).filter(|name| !name.is_empty()).collect();
    Err(Refusal::bad_request(format!(
        "cannot upgrade to {:?}: this server takes `Connection: Upgrade` with `Upgrade: websocket` or `Upgrade: {}`, and \
         the protocols {}",
        upgrade.to_str().unwrap_or("?"),
        SPDY_UPGRADE,
        names.join(", ")
    )))
}

/// A target, with the end of the session in view, and what goes over it.
struct InTarget {
    target: Arc<dyn Target>,
    sessions: Sessions,
    entry: Arc<Entry>,
}

impl InTarget {
    fn new<A>(place: &Place<A>, session: &Session, api: &Api) -> Self {
        Self {
            target: place.container.target.clone(),
            sessions: api.sessions().clone(),
            entry: Arc::clone(&session.entry),
        }
    }

    /// Runs a session of the target; one that does not end in time although it was asked to is dropped, and its client told.
    async fn bounded<T>(
        &self,
        session: impl Future<Output = Result<T, Failure>>,
        overdue: impl Future<Output = &Cause>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            result = session => result,
            cause = overdue => Err(cause.failure(None)),
        }
    }
}

impl Executor for InTarget {
    async fn exec(&self, request: remotecommand::Request, mut streams: Streams) -> Result<ExitCode, Failure> {
        streams.measure(&self.entry.meter);
        let ending = Ending::of(Arc::clone(&self.entry.order));
        let session = self.target.exec(request, streams, ending);
        self.bounded(session, self.entry.overdue(self.sessions.farewell())).await
    }
}

impl Attacher for InTarget {
    async fn attach(&self, request: remotecommand::Request, mut streams: Streams) -> Result<(), Failure> {
        streams.measure(&self.entry.meter);
        let session = self.target.attach(request, streams);
        self.bounded(session, self.entry.detached(self.sessions.farewell())).await
    }
}
