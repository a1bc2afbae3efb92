//! The HTTP side of the handshake (RFC 6455 section 4): which requests ask for an upgrade, what is answered, and what
//! a refusal looks like. Nothing here knows an HTTP library; `http` types come in and go out.

mod spdy;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use sha1::{Digest, Sha1};
use wsstream_proto::status::Status;
use wsstream_proto::subprotocol::{Subprotocol, contains_offer, negotiate, parse_offers};

pub use spdy::{SpdyHandshake, is_spdy, versions as spdy_versions};

/// RFC 6455 section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether some element of the comma-separated header equals `token`, in any case.
fn has_token(headers: &HeaderMap, name: http::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|element| element.trim().eq_ignore_ascii_case(token))
}

/// Whether the request asks to become a WebSocket.
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, "websocket") && has_token(headers, CONNECTION, "upgrade")
}

/// The subprotocols that a request offers, in its order. Several header lines are one list (RFC 6455 section 4.1);
/// upstream reads only the first.
#[must_use]
pub fn offers(headers: &HeaderMap) -> Vec<&str> {
    parse_offers(headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok()))
}

/// Whether the request asks to become a WebSocket and offers `subprotocol`, spelled exactly so.
#[must_use]
pub fn is_websocket_with(headers: &HeaderMap, subprotocol: &Subprotocol) -> bool {
    is_websocket(headers) && contains_offer(&offers(headers), subprotocol.name())
}

/// The value of `Sec-WebSocket-Accept` for a key.
pub(crate) fn accept_for(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize())
}

/// An upgrade request that was found acceptable, before it is answered.
#[derive(Debug, Clone)]
pub struct Handshake {
    subprotocol: Subprotocol,
    accept: HeaderValue,
}

impl Handshake {
    /// Checks a request and chooses one of `supported`, in the order of the client's offers. A client that offers
    /// nothing gets the row without a name, if it is there.
    ///
    /// # Errors
    ///
    /// The request is no upgrade, breaks RFC 6455, or offers nothing that is supported; the rejection knows the answer.
    pub fn negotiate<B>(request: &Request<B>, supported: &[Subprotocol]) -> Result<Self, Rejection> {
        let headers = request.headers();
        if request.version() == Version::HTTP_2 {
            return Err(Rejection::bad_request(
                "WebSockets over HTTP/2 (RFC 8441) are not served; use HTTP/1.1",
            ));
        }
        if !is_websocket(headers) {
            return Err(Rejection::bad_request(
                "Upgrade request required: `Connection: Upgrade` and `Upgrade: websocket`",
            ));
        }
        if request.method() != Method::GET {
            return Err(Rejection::status(Status::method_not_allowed("a WebSocket upgrade must be a GET")));
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            let mut rejection = Rejection::bad_request("missing or bad Sec-WebSocket-Version, must be 13");
            rejection.version_hint = true;
            return Err(rejection);
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
        if STANDARD.decode(key).map(|key| key.len()) != Ok(16) {
            return Err(Rejection::bad_request(
                "missing or bad Sec-WebSocket-Key, must be 16 bytes in base64",
            ));
        }
        let subprotocol = negotiate(supported, &offers(headers))
            .map_err(|error| Rejection::status(Status::failure(403, "Forbidden", error.to_string())))?;
        let accept = HeaderValue::from_str(&accept_for(key))
            .map_err(|_| Rejection::status(Status::internal("computing Sec-WebSocket-Accept")))?;
        Ok(Self { subprotocol: subprotocol.clone(), accept })
    }

    /// What was chosen.
    #[must_use]
    pub fn subprotocol(&self) -> &Subprotocol {
        &self.subprotocol
    }

    /// The 101 to answer with. Without a subprotocol there is no `Sec-WebSocket-Protocol` header; upstream sends an
    /// empty one, which strict clients refuse.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        // kube-rs compares the whole value.
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        if let Ok(name) = HeaderValue::from_str(self.subprotocol.name())
            && !name.is_empty()
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, name);
        }
        response
    }
}

/// A refused request. It knows its HTTP answer: a `Status` as JSON, which kubectl prints as the cause.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    status: Box<Status>,
    version_hint: bool,
    /// SPDY versions that would have been accepted.
    accepted: Vec<String>,
}

impl Rejection {
    /// A refusal that says `status`.
    #[must_use]
    pub fn status(status: Status) -> Self {
        Self { status: Box::new(status.into_api_object()), version_hint: false, accepted: Vec::new() }
    }

    /// 400, with a text that names the fault.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::status(Status::bad_request(message))
    }

    /// What the client is told.
    #[must_use]
    pub fn as_status(&self) -> &Status {
        &self.status
    }

    /// The HTTP answer.
    #[must_use]
    pub fn into_response(self) -> Response<String> {
        let mut response = Response::new(serde_json::to_string(&self.status).unwrap_or_default());
        let code = u16::try_from(self.status.code).ok();
        *response.status_mut() = code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        spdy::list_accepted(response.headers_mut(), &self.accepted);
        if self.version_hint {
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 section 15.5.6; nothing here refuses a GET for its method.
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

impl std::error::Error for Rejection {}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.status.message)
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for Rejection {
    fn into_response(self) -> axum::response::Response {
        Self::into_response(self).map(axum::body::Body::from)
    }
}
