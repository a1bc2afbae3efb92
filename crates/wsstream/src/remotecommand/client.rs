//! Running commands on a server.
//!
//! ```no_run
//! use wsstream::remotecommand::{Request, client};
//!
//! # async fn example(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//! let command = client::exec(Request::command(["uname", "-a"]).stdout(true).stderr(true));
//! let endpoint = "http://localhost/api/v1/namespaces/default/pods/web/exec".parse()?;
//! let process = command.connect(stream, command.request(&endpoint)?).await?;
//! let output = process.output().await;
//! println!("{:?}: {}", output.stdout, output.outcome);
//! # Ok(())
//! # }
//! ```

mod process;
mod spdy;
mod streams;
mod websocket;

use http::{Method, Request as HttpRequest, Response, Uri};
use wsstream_proto::remotecommand::{Request, Spelling};
use wsstream_proto::subprotocol::Subprotocol;

pub use crate::client::ConnectError;
use crate::client::{Offer, SpdyOffer};
use crate::limits::{Limits, SpdyLimits, Timeouts};
use crate::transport::{Io, UnsentProbe};
pub use process::{Collected, Process};
pub use streams::{OutputReader, ResizeSender, Stdin};

/// What is offered unless told otherwise: v5, which can end stdin, and v4, which at least has a status. Versions
/// without a status are not offered, because they cannot tell success from loss.
pub const DEFAULT_PROTOCOLS: [Subprotocol; 2] = [Subprotocol::V5, Subprotocol::V4];

/// What is offered over SPDY unless told otherwise: every server since Kubernetes 1.4 speaks v4, and older versions
/// cannot tell success from loss.
pub const DEFAULT_SPDY_PROTOCOLS: [Subprotocol; 1] = [Subprotocol::V4];

/// Begins an exec: runs `request.command`.
#[must_use]
pub fn exec(request: Request) -> Start {
    Start::new(request)
}

/// Begins an attach: `request` names streams and no command.
#[must_use]
pub fn attach(request: Request) -> Start {
    Start::new(request)
}

/// A remote command that is not connected yet.
#[derive(Debug, Clone)]
pub struct Start {
    request: Request,
    spelling: Spelling,
    offer: Offer,
    spdy_offer: SpdyOffer,
    limits: Limits,
    spdy_limits: SpdyLimits,
    timeouts: Timeouts,
    probe: Option<UnsentProbe>,
}

impl Start {
    fn new(request: Request) -> Self {
        Self {
            request,
            spelling: Spelling::ApiServer,
            offer: Offer::new(DEFAULT_PROTOCOLS),
            spdy_offer: SpdyOffer::new(DEFAULT_SPDY_PROTOCOLS),
            limits: Limits::default(),
            spdy_limits: SpdyLimits::one_session(),
            // How long a quiet session may last is the server's to say: a person's shell may rest overnight.
            timeouts: Timeouts { idle: None, ..Timeouts::default() },
            probe: None,
        }
    }

    /// Spells the parameters as the path of the endpoint has them. Default: as the API server's.
    #[must_use]
    pub fn spelling(mut self, spelling: Spelling) -> Self {
        self.spelling = spelling;
        self
    }

    /// Offers these versions, the best first. The row without a name stands for offering nothing.
    #[must_use]
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Subprotocol>) -> Self {
        self.offer = Offer::new(protocols);
        self
    }

    /// Offers these versions where SPDY is asked for, the best first: v4, v3, v2 or `channel.k8s.io`.
    #[must_use]
    pub fn spdy_protocols(mut self, protocols: impl IntoIterator<Item = Subprotocol>) -> Self {
        self.spdy_offer = SpdyOffer::new(protocols);
        self
    }

    /// How much may be held and taken over SPDY.
    #[must_use]
    pub fn spdy_limits(mut self, limits: SpdyLimits) -> Self {
        self.spdy_limits = limits;
        self.spdy_limits.session.max_streams = 0;
        self
    }

    /// How much may be held and taken over WebSocket.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The clocks. Unlike elsewhere, the idle timeout is off unless it is set here.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How to learn what the kernel has not delivered yet: over SPDY it is the sign of life of a server that answers no
    /// pings, and without it one that vanishes is given up by TCP alone, after a quarter of an hour. Plain TCP (tokio's
    /// `TcpStream`, or [`TcpSocket`](crate::tcp::TcpSocket)) is asked directly; below TLS, give the
    /// probe of a `TcpSocket`, here or in the extensions of the response ([`Offer::accept`](crate::client::Offer::accept)).
    #[must_use]
    pub fn unsent_probe(mut self, probe: Option<UnsentProbe>) -> Self {
        self.probe = probe;
        self
    }

    /// The HTTP request for `endpoint` (`…/pods/NAME/exec` or `…/attach`, without a query), complete with the upgrade
    /// headers. Add authentication, then send it with any HTTP client built on hyper and give the answer to
    /// [`accept`](Self::accept), or use [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// The command does not fit into a URL, which the `http` crate limits to 64 KiB, or the endpoint is no URL that a
    /// query can be added to.
    pub fn request(&self, endpoint: &Uri) -> Result<HttpRequest<()>, http::Error> {
        let mut request = self.http_request(endpoint)?;
        self.offer.apply(request.headers_mut());
        Ok(request)
    }

    fn http_request(&self, endpoint: &Uri) -> Result<HttpRequest<()>, http::Error> {
        let query = self.request.to_query(self.spelling);
        let mut parts = endpoint.clone().into_parts();
        parts.path_and_query = Some(format!("{}?{query}", endpoint.path()).parse()?);
        let mut request = HttpRequest::new(());
        *request.uri_mut() = Uri::from_parts(parts)?;
        Ok(request)
    }

    /// Checks the answer to [`request`](Self::request) and starts the session.
    ///
    /// # Errors
    ///
    /// The server refused, or its answer does not fit.
    pub async fn accept<B>(&self, response: Response<B>) -> Result<Process, ConnectError>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Ok(websocket::open(self, self.offer.accept(response).await?))
    }

    /// Sends `request` over `io` and starts the session. Cancel-safe: dropped, the stream is closed.
    ///
    /// # Errors
    ///
    /// The stream failed, the server refused, or its answer does not fit.
    pub async fn connect(
        &self,
        io: impl Io + 'static,
        request: HttpRequest<()>,
    ) -> Result<Process, ConnectError> {
        Ok(websocket::open(self, self.offer.connect(io, request).await?))
    }

    /// As [`request`](Self::request), for SPDY: a POST.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub fn spdy_request(&self, endpoint: &Uri) -> Result<HttpRequest<()>, http::Error> {
        let mut request = self.http_request(endpoint)?;
        *request.method_mut() = Method::POST;
        self.spdy_offer.apply(request.headers_mut());
        Ok(request)
    }

    /// Checks the answer to [`spdy_request`](Self::spdy_request), opens the streams and starts the session.
    ///
    /// # Errors
    ///
    /// The server refused, its answer does not fit, or it did not take the streams.
    pub async fn accept_spdy<B>(&self, response: Response<B>) -> Result<Process, ConnectError>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        spdy::open(self, self.spdy_offer.accept(response).await?).await
    }

    /// Sends `request` over `io`, opens the streams and starts the session. Cancel-safe: dropped, the stream is closed.
    ///
    /// # Errors
    ///
    /// As [`accept_spdy`](Self::accept_spdy), and when the stream fails.
    pub async fn connect_spdy(
        &self,
        io: impl Io + 'static,
        request: HttpRequest<()>,
    ) -> Result<Process, ConnectError> {
        spdy::open(self, self.spdy_offer.connect(io, request).await?).await
    }
}
