//! Around every answer: the checks of [`Browsers`](crate::browser::Browsers), and headers that keep a browser from making
//! more of an answer than it is. Also `POST /auth/exchange`, which trades the code of a one-time link for a token.

use super::{
    Api,
    answer::{Refusal, json as answer_json},
    peer_of,
};
use crate::{browser::From, limits::EXCHANGE_BODY};
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use wsstream::proto::status::Status;

/// Runs before anything else looks at a request.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (method, headers) = (request.method(), request.headers());
    let checked = api.shared.access.browsers.check(method, request.uri(), headers);
    let (mut response, origin) = match checked {
        Err(status) => {
            let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
            let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
            tracing::info!(
                peer = %peer_of(&request), host = %host.escape_ascii(), origin = %origin.escape_ascii(),
                reason = status.message, "request refused"
            );
            (Refusal::from(*status).into_response(), None)
        }
        Ok(From::Allowed(origin)) if is_preflight(&request) => (preflight(), Some(origin)),
        Ok(From::Allowed(origin)) => (next.run(request).await, Some(origin)),
        Ok(From::Here) => (next.run(request).await, None),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        harden(response.headers_mut());
    }
    if let Some(origin) = origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// What a page of this server may do, if it does not say so itself: nothing. Error texts quote requests, and a log is
/// whatever a command printed.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    // What is true of a pod now is not in a moment, and what one user may see another may not.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

fn harden(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
}

/// A browser asks before it sends a token to another origin (the Fetch standard, "CORS-preflight request").
fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    code: String,
}

/// A body of a few words takes no time; who sends it slowly holds a connection for nothing.
const BODY_TIME: Duration = Duration::from_secs(10);

/// `POST /auth/exchange` with `{"code": "…"}`: answers `{"token": "…", "expiresInSeconds": 3600}`. The code is the credential.
pub(super) async fn exchange(State(api): State<Api>, request: Request) -> Result<Response, Refusal> {
    let peer = peer_of(&request);
    // Not what a form can send.
    let json = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let json = json
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !json {
        return Err(Status::failure(415, "UnsupportedMediaType", "send application/json").into());
    }
    let body =
        tokio::time::timeout(BODY_TIME, axum::body::to_bytes(request.into_body(), EXCHANGE_BODY)).await;
    let Ok(Ok(body)) = body else {
        return Err(Refusal::bad_request("the body is too large, too slow or incomplete"));
    };
    // No text of the parser: it may quote the code.
    let asked: Exchange = serde_json::from_slice(&body)
        .map_err(|_| Refusal::bad_request("the body is not {\"code\": \"…\"}"))?;
    let Some((identity, token, good)) = api.links().exchange(&asked.code) else {
        tracing::info!(peer, reason = "code", "request refused");
        return Err(Status::unauthorized("Unauthorized: the code is unknown, was used, or is too old").into());
    };
    tracing::info!(peer, user = ?identity.user, "one-time link used");
    Ok(answer_json(&json!({"token": token.expose(), "expiresInSeconds": good.as_secs()})))
}
