//! Answers: JSON objects, and errors as `Status` on every path, because a client that finds anything else in an error
//! prints it as a riddle.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use wsstream::proto::status::Status;

/// An error answer. `?` in a handler ends with one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal(pub(crate) Box<Status>);

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self(Box::new(status.into_api_object()))
    }
}

impl Refusal {
    /// Code 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Status::bad_request(message).into()
    }

    /// Code 404 for a path that names nothing, in upstream's words.
    pub(crate) fn no_such_resource() -> Self {
        Status::failure(404, "NotFound", "the server could not find the requested resource").into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = u16::try_from(self.0.code).ok().and_then(|code| StatusCode::from_u16(code).ok());
        let code = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = with_type(code, "application/json", self.0.to_channel_json());
        if code == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"wsstream\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.0.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Refused(self.0.reason));
        response
    }
}

/// In the extensions of an error answer: its reason, for who records or counts it.
#[derive(Debug, Clone)]
pub(crate) struct Refused(pub(crate) String);

/// A JSON object with code 200.
pub(crate) fn json(value: &Value) -> Response {
    with_type(StatusCode::OK, "application/json", value.to_string())
}

/// Text with code 200.
pub(crate) fn text(text: &'static str) -> Response {
    with_type(StatusCode::OK, "text/plain; charset=utf-8", text)
}

/// A body of any kind.
pub(crate) fn with_type(code: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
