//! The paths of the admin socket. Errors are a `Status` here too.

use super::Drain;
use crate::{
    Api,
    api::{
        Drained, SessionInfo,
        answer::{Refusal, json as answer_json},
        query::Query,
    },
    auth::Identity,
    duration,
};
use axum::{
    Router,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use wsstream::proto::status::Status;

/// Characters of a reason that are kept: a line for a person.
const REASON: usize = 256;

pub(super) struct Shared {
    pub(super) api: Api,
    pub(super) url: String,
    pub(super) order: mpsc::Sender<Drain>,
    pub(super) end: watch::Receiver<Option<Drained>>,
}

/// Who asks, in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) pid: Option<i32>,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/sessions", get(list))
        .route("/v1/sessions/{number}/end", post(end))
        .route("/v1/drain", post(drain))
        .route("/v1/links", post(link))
        .fallback(any(|| async { Refusal::no_such_resource() }))
        .method_not_allowed_fallback(|| async {
            Refusal::from(Status::method_not_allowed("the server does not allow this method here"))
        })
        .with_state(shared)
}

pub(super) fn forbidden(message: &str) -> Response {
    Refusal::from(Status::failure(403, "Forbidden", message)).into_response()
}

async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let sessions = shared.api.sessions();
    let listed: Vec<Value> = sessions.list().iter().map(session).collect();
    answer_json(&json!({
        "server": {
            "url": shared.url,
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "draining": sessions.is_closing(),
            "notReady": shared.api.readiness().failing(),
        },
        "sessions": listed,
    }))
}

fn session(info: &SessionInfo) -> Value {
    json!({
        "number": info.number,
        "kind": info.kind.as_str(),
        "user": info.user,
        "groups": info.groups,
        "peer": info.peer,
        "namespace": info.namespace,
        "pod": info.pod,
        "container": info.container,
        "protocol": info.protocol,
        "since": info.since.to_string(),
        "seconds": info.duration.as_secs_f64(),
        "bytes": { "in": info.bytes.input, "out": info.bytes.output, "err": info.bytes.errors },
        "ending": info.ending,
    })
}

async fn end(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let known = |number: &u64| shared.api.sessions().list().iter().any(|info| info.number == *number);
    let missing =
        || Refusal::from(Status::failure(404, "NotFound", format!("there is no session {number:.20}")));
    let parsed: u64 = number.parse().ok().filter(known).ok_or_else(missing)?;
    let reason: String =
        Query::of(request.uri()).text("reason").unwrap_or_default().chars().take(REASON).collect();
    if let Some(caller) = request.extensions().get::<Caller>() {
        tracing::info!(session = parsed, uid = caller.uid, pid = caller.pid, reason = ?reason, "ended by an operator");
    }
    // It may have ended since.
    if !shared.api.sessions().end(parsed, reason) {
        return Err(missing());
    }
    Ok(answer_json(&json!({"number": parsed, "ending": true})))
}

/// A one-time link for a browser. The code in it is a credential: it goes to who asked, and into no log.
async fn link(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let query = Query::of(request.uri());
    let user = query.text("user").unwrap_or_default();
    if user.is_empty() || user.chars().any(char::is_control) {
        return Err(Refusal::bad_request("user must not be empty or hold control characters"));
    }
    let groups: Vec<String> = query.all("group").collect();
    let identity = match shared.api.listed(user) {
        None => Identity::new(user).groups(groups),
        Some(Ok(_)) if !groups.is_empty() => {
            return Err(Refusal::bad_request(format!("the users file says which groups {user:?} has")));
        }
        Some(Ok(listed)) => listed,
        Some(Err(_)) => {
            return Err(Refusal::bad_request(format!(
                "the users file says that the time of {user:?} is over"
            )));
        }
    };
    if let Some(caller) = request.extensions().get::<Caller>() {
        tracing::info!(uid = caller.uid, pid = caller.pid, ?user, "an operator makes a one-time link");
    }
    let too_many = || Status::too_many_requests("too many links are open: they are good for a minute", 60);
    let code = shared.api.links().mint(&identity).ok_or_else(too_many)?;
    Ok(answer_json(&json!({"url": format!("{}/#{}", shared.url, code.expose())})))
}

/// Answers when the server has ended.
async fn drain(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let limit = match Query::of(request.uri()).text("timeout") {
        None => None,
        Some(text) => Some(duration::parse(text).map_err(Refusal::bad_request)?),
    };
    if let Some(caller) = request.extensions().get::<Caller>() {
        tracing::info!(uid = caller.uid, pid = caller.pid, "an operator drains the server");
    }
    let mut ended = shared.end.clone();
    // Each order counts: it may be in more of a hurry than the one before. A server that ends takes none.
    tokio::select! {
        _ = shared.order.send(Drain { limit }) => {}
        _ = ended.wait_for(Option::is_some) => {}
    }
    let drained = ended.wait_for(Option::is_some).await.ok().and_then(|drained| *drained);
    let Drained { ended, cut, .. } = drained.unwrap_or_default();
    Ok(answer_json(&json!({"ended": ended, "cut": cut})))
}
