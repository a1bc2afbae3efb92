//! The handshake of a plain SPDY upgrade, as older clients and every kubelet speak it.
//!
//! It has no key to answer and no RFC: the request carries `Upgrade: SPDY/3.1` and one `X-Stream-Protocol-Version`
//! line for each version; the rules are those of apimachinery's `httpstream` package.

use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use wsstream_proto::status::Status;
use wsstream_proto::subprotocol::{
    ACCEPTED_STREAM_PROTOCOL_VERSIONS, SPDY_UPGRADE, STREAM_PROTOCOL_VERSION, Subprotocol, parse_offers,
};

use super::{Rejection, has_token};

/// Whether the request asks to become SPDY/3.1. WebSocket wins where a request asks for both.
#[must_use]
pub fn is_spdy(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, SPDY_UPGRADE)
        && has_token(headers, CONNECTION, "upgrade")
        && !super::is_websocket(headers)
}

/// The versions that a request offers, in its order: lines and comma lists alike.
#[must_use]
pub fn versions(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(STREAM_PROTOCOL_VERSION);
    parse_offers(lines.iter().filter_map(|value| value.to_str().ok()))
}

/// A SPDY upgrade that was found acceptable, before it is answered.
#[derive(Debug, Clone)]
pub struct SpdyHandshake {
    protocol: Subprotocol,
}

impl SpdyHandshake {
    /// Checks a request and chooses the first version the client offers that is `supported`.
    ///
    /// # Errors
    ///
    /// The request is no SPDY upgrade, names no version (400) or none that is supported (403, with the versions that
    /// are in a header); the rejection knows the answer.
    pub fn negotiate<B>(request: &Request<B>, supported: &[Subprotocol]) -> Result<Self, Rejection> {
        let headers = request.headers();
        if request.version() == Version::HTTP_2 {
            return Err(Rejection::bad_request("SPDY upgrades are not possible over HTTP/2; use HTTP/1.1"));
        }
        if !is_spdy(headers) {
            return Err(Rejection::bad_request(format!(
                "unable to upgrade: missing upgrade headers in request: `Connection: Upgrade` and `Upgrade: {SPDY_UPGRADE}`"
            )));
        }
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return Err(Rejection::status(Status::method_not_allowed(
                "a SPDY upgrade must be a POST or a GET",
            )));
        }
        let offers = versions(headers);
        if offers.is_empty() {
            return Err(Rejection::bad_request(format!(
                "unable to upgrade: header {STREAM_PROTOCOL_VERSION} does not exist in the request, or names nothing"
            )));
        }
        let known = |offer: &&str| supported.iter().find(|row| row.name() == *offer);
        if let Some(protocol) = offers.iter().find_map(known) {
            return Ok(Self { protocol: protocol.clone() });
        }
        let accepted: Vec<_> = supported.iter().map(Subprotocol::name).collect();
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offers:?}, server accepts {accepted:?}"
        );
        let mut rejection = Rejection::status(Status::failure(403, "Forbidden", message));
        rejection.accepted = accepted.into_iter().map(ToOwned::to_owned).collect();
        Err(rejection)
    }

    /// What was chosen.
    #[must_use]
    pub fn protocol(&self) -> &Subprotocol {
        &self.protocol
    }

    /// The 101 to answer with.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static(SPDY_UPGRADE));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(STREAM_PROTOCOL_VERSION), HeaderValue::from_str(self.protocol.name()))
        {
            headers.insert(name, value);
        }
        response
    }
}

/// One line for each version that would have been accepted.
pub(super) fn list_accepted(headers: &mut HeaderMap, accepted: &[String]) {
    let Ok(name) = HeaderName::try_from(ACCEPTED_STREAM_PROTOCOL_VERSIONS) else { return };
    for version in accepted {
        if let Ok(value) = HeaderValue::from_str(version) {
            headers.append(&name, value);
        }
    }
}
