//! Asking a server for SPDY/3.1, as clients did before WebSockets and still do when those fail.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use wsstream_proto::subprotocol::{SPDY_UPGRADE, STREAM_PROTOCOL_VERSION, Subprotocol};

use super::{ConnectError, exchange, refusal};
use crate::spdy::{Builder, Connection, Driver};
use crate::transport::{Io, UnsentProbe};
use crate::upgrade::{is_spdy, spdy_versions};
use crate::upgraded::plain;

/// The versions that are offered for SPDY.
#[derive(Debug, Clone)]
pub struct SpdyOffer {
    protocols: Vec<Subprotocol>,
}

impl SpdyOffer {
    /// Offers `protocols`, the best first; at least one, or no server accepts.
    #[must_use]
    pub fn new(protocols: impl IntoIterator<Item = Subprotocol>) -> Self {
        Self { protocols: protocols.into_iter().collect() }
    }

    /// Adds the headers of an upgrade request, which should be a POST without a body.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(SPDY_UPGRADE));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let Ok(name) = HeaderName::try_from(STREAM_PROTOCOL_VERSION) else { return };
        headers.remove(&name);
        for protocol in &self.protocols {
            if let Ok(value) = HeaderValue::from_str(protocol.name()) {
                headers.append(&name, value);
            }
        }
    }

    /// Checks the server's answer and takes the upgraded stream out of it, with a probe as [`Offer::accept`](super::Offer::accept)
    /// does.
    ///
    /// # Errors
    ///
    /// The server refused, or its answer is not the one to this offer.
    pub async fn accept<B>(&self, mut response: Response<B>) -> Result<SpdyAccepted, ConnectError>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let protocol = self.check(response.headers())?.clone();
        let probe = response.extensions_mut().remove();
        let upgraded = hyper::upgrade::on(&mut response).await?;
        Ok(SpdyAccepted { protocol, upgraded, probe })
    }

    fn check(&self, headers: &HeaderMap) -> Result<&Subprotocol, ConnectError> {
        if !is_spdy(headers) {
            return Err(ConnectError::BadAnswer(format!("it does not upgrade to {SPDY_UPGRADE}")));
        }
        // Servers of Kubernetes 1.0 answered without a version and spoke the first; whoever offers that takes it.
        let first = Subprotocol::CHANNEL;
        let chosen = spdy_versions(headers).first().copied().unwrap_or(first.name());
        self.protocols.iter().find(|protocol| protocol.name() == chosen).ok_or_else(|| {
            let names: Vec<_> = self.protocols.iter().map(Subprotocol::name).collect();
            ConnectError::BadAnswer(format!("invalid protocol, expected one of {names:?}, got {chosen:?}"))
        })
    }

    /// Sends `request`, with this offer's headers added, over `io` and waits for the upgrade. The request needs a `Host`
    /// header (or an absolute URI, from which it is taken).
    ///
    /// Cancel-safe: dropped, the stream is closed.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and when the stream fails.
    pub async fn connect(
        &self,
        io: impl Io + 'static,
        mut request: Request<()>,
    ) -> Result<SpdyAccepted, ConnectError> {
        self.apply(request.headers_mut());
        exchange(io, request, |response| self.accept(response)).await
    }
}

/// An upgraded stream and what it speaks.
#[derive(Debug)]
pub struct SpdyAccepted {
    protocol: Subprotocol,
    upgraded: Upgraded,
    probe: Option<UnsentProbe>,
}

impl SpdyAccepted {
    /// What the server chose.
    #[must_use]
    pub fn protocol(&self) -> &Subprotocol {
        &self.protocol
    }

    /// Opens the connection. `prepare` may set limits and clocks.
    pub fn open(self, prepare: impl FnOnce(Builder) -> Builder) -> (Connection, Driver) {
        let (io, read, probe) = plain(self.upgraded, self.probe);
        prepare(Builder::client().unsent_probe(probe)).already_read(read).start(io)
    }
}
