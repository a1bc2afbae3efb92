//! Why no URL is given out, for a gRPC answer or an HTTP one.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use thiserror::Error;

/// A request over gRPC that is not granted. [`grpc_code`](Self::grpc_code) and the text are what the caller is told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The request asks for nothing that could be done; the texts are upstream's where it has the case.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// So many URLs are given out and not used yet that no more are ([`Config::max_tokens`](super::Config::max_tokens)).
    #[error("maximum number of in-flight requests exceeded")]
    ResourceExhausted {
        /// When trying again is worth it at the latest: until then the oldest of them has expired.
        retry_after: Duration,
    },
    /// The server is shutting down.
    #[error("the streaming server is shutting down")]
    Unavailable,
}

impl Error {
    /// The number of the gRPC status: 3, 8 or 14.
    #[must_use]
    pub const fn grpc_code(&self) -> i32 {
        match self {
            Self::InvalidArgument(_) => 3,
            Self::ResourceExhausted { .. } => 8,
            Self::Unavailable => 14,
        }
    }

    /// The HTTP answer that a kubelet makes of it: 429 with `Retry-After` when too much is under way, else 500. For a
    /// program that is kubelet and runtime in one.
    #[must_use]
    pub fn into_response(self) -> Response<String> {
        let Self::ResourceExhausted { retry_after } = self else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, self.to_string());
        };
        let mut response = text(StatusCode::TOO_MANY_REQUESTS, self.to_string());
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
        response
    }
}

/// An answer that is no upgrade, as Go's `http.Error` writes it.
pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Response<String> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
