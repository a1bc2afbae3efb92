//! Asking a server for an upgrade, over any stream or through any HTTP client that is built on hyper.

mod spdy;

use std::future::Future;
use std::pin::pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use wsstream_proto::status::Status;
use wsstream_proto::subprotocol::Subprotocol;

use crate::connection::{Builder, Connection, Driver};
use crate::transport::{Io, UnsentProbe};
use crate::tunnel::Tunnel;
use crate::upgrade::{accept_for, is_websocket};
use crate::upgraded::plain;

pub use spdy::{SpdyAccepted, SpdyOffer};

/// How much of a refusal's body is read, in bytes: a `Status` with room to spare.
const MAX_REFUSAL: usize = 64 << 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The stream failed, or the server did not speak HTTP.
    #[error("the upgrade request failed: {0}")]
    Http(#[from] hyper::Error),
    /// The server refused and said why in a `Status`.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    /// The server answered something else than 101.
    #[error("the server answered {status} instead of upgrading: {body}")]
    NotUpgraded {
        /// The status code.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
    /// The server upgraded, but to something else, or its answer breaks RFC 6455 section 4.1.
    #[error("the server's answer to the upgrade is wrong: {0}")]
    BadAnswer(String),
    /// The connection was upgraded and ended before the session had begun.
    #[error("the connection ended before the session began: {0}")]
    Lost(String),
}

impl ConnectError {
    /// Whether the server answered, but not with the upgrade that was asked for. kubectl then tries SPDY after a
    /// WebSocket, and so should others who speak both: servers and proxies that are old enough know no other.
    #[must_use]
    pub fn is_upgrade_failure(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NotUpgraded { .. } | Self::BadAnswer(_))
    }
}

/// The subprotocols that are offered, and the key that the server must answer.
#[derive(Debug, Clone)]
pub struct Offer {
    protocols: Vec<Subprotocol>,
    key: String,
}

impl Offer {
    /// Offers `protocols`, the best first. The one without a name, if it is there, stands for offering nothing, and is
    /// what an answer without a subprotocol means.
    #[must_use]
    pub fn new(protocols: impl IntoIterator<Item = Subprotocol>) -> Self {
        Self { protocols: protocols.into_iter().collect(), key: STANDARD.encode(rand::random::<[u8; 16]>()) }
    }

    /// Adds the headers of an upgrade request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if let Ok(key) = HeaderValue::from_str(&self.key) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
        let names: Vec<_> =
            self.protocols.iter().map(Subprotocol::name).filter(|name| !name.is_empty()).collect();
        if let Ok(list) = HeaderValue::from_str(&names.join(","))
            && !names.is_empty()
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, list);
        }
    }

    /// Checks the server's answer and takes the upgraded stream out of it, and an [`UnsentProbe`] when the connector has put
    /// one into the extensions (with hyper-util: by `Connected::extra`).
    ///
    /// # Errors
    ///
    /// The server refused, or its answer is not the one to this offer.
    pub async fn accept<B>(&self, mut response: Response<B>) -> Result<Accepted, ConnectError>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let subprotocol = self.check(response.headers())?.clone();
        let probe = response.extensions_mut().remove();
        let upgraded = hyper::upgrade::on(&mut response).await?;
        Ok(Accepted { subprotocol, upgraded, probe })
    }

    fn check(&self, headers: &HeaderMap) -> Result<&Subprotocol, ConnectError> {
        if !is_websocket(headers) {
            return Err(ConnectError::BadAnswer("it does not upgrade to a WebSocket".to_owned()));
        }
        if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| accept != &accept_for(self.key.as_bytes())) {
            return Err(ConnectError::BadAnswer("Sec-WebSocket-Accept does not fit the key".to_owned()));
        }
        // Upstream's server answers an empty header when nothing was requested.
        let chosen = headers.get(SEC_WEBSOCKET_PROTOCOL).map(HeaderValue::as_bytes).unwrap_or_default();
        self.protocols.iter().find(|protocol| protocol.name().as_bytes() == chosen).ok_or_else(|| {
            let names: Vec<_> = self.protocols.iter().map(Subprotocol::name).collect();
            let chosen = String::from_utf8_lossy(chosen).into_owned();
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
    ) -> Result<Accepted, ConnectError> {
        self.apply(request.headers_mut());
        exchange(io, request, |response| self.accept(response)).await
    }
}

/// Sends `request` over `io` and hands the answer to `accept`.
async fn exchange<T, F>(
    io: impl Io + 'static,
    mut request: Request<()>,
    accept: impl FnOnce(Response<hyper::body::Incoming>) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    if let Some(authority) = request.uri().authority().cloned() {
        if !request.headers().contains_key(http::header::HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(http::header::HOST, host);
        }
        // HTTP/1.1 to an origin names only the path.
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| http::Uri::from_static("/"), http::Uri::from);
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let mut connection = pin!(connection.with_upgrades());
    let exchange = async {
        let response = sender.send_request(request.map(|()| Empty::<Bytes>::new())).await?;
        accept(response).await
    };
    let mut exchange = pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        // The connection is done first when it has handed the stream over, or failed.
        result = &mut connection => match result {
            Ok(()) => exchange.await,
            Err(error) => Err(ConnectError::Http(error)),
        },
    }
}

async fn refusal<B>(response: Response<B>) -> ConnectError
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_REFUSAL).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) if status.kind == "Status" => ConnectError::Refused(Box::new(status)),
        _ => {
            let body = String::from_utf8_lossy(&body).trim().chars().take(1024).collect();
            ConnectError::NotUpgraded { status, body }
        }
    }
}

/// An upgraded stream and what it speaks.
#[derive(Debug)]
pub struct Accepted {
    subprotocol: Subprotocol,
    upgraded: Upgraded,
    probe: Option<UnsentProbe>,
}

impl Accepted {
    /// What the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> &Subprotocol {
        &self.subprotocol
    }

    /// Opens the connection. `prepare` may set channels, limits and clocks; and a probe, where none came with the answer and
    /// the stream is not plain TCP.
    pub fn open(self, prepare: impl FnOnce(Builder) -> Builder) -> (Connection, Driver) {
        let (io, read, probe) = plain(self.upgraded, self.probe);
        // What `prepare` sets counts for more than what was found.
        prepare(Connection::builder(self.subprotocol).unsent_probe(probe)).already_read(read).client(io)
    }

    /// As [`open`](Self::open), for a SPDY connection through a [`Tunnel`].
    pub fn open_tunnel(
        self,
        prepare: impl FnOnce(crate::spdy::Builder) -> crate::spdy::Builder,
    ) -> (crate::spdy::Connection, crate::spdy::Driver) {
        let (io, read, probe) = plain(self.upgraded, self.probe);
        prepare(crate::spdy::Builder::client().unsent_probe(probe))
            .start(Tunnel::client(io).already_read(read))
    }
}
