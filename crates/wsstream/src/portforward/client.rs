//! Reaching ports through a server.
//!
//! ```no_run
//! use wsstream::portforward::client;
//!
//! # async fn example(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = "http://localhost/api/v1/namespaces/default/pods/web/portforward".parse()?;
//! let attempt = client::tunnel();
//! let (session, driver) = attempt.connect(stream, attempt.request(&endpoint)?).await?;
//! let conversation = async {
//!     let mut connection = session.connect(80).await?;
//!     connection.stream.send("GET / HTTP/1.0\r\n\r\n".into()).await?;
//!     while let Some(chunk) = connection.stream.chunk().await? {
//!         println!("{chunk:?}");
//!     }
//!     session.shutdown();
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! };
//! // Nothing moves unless the driver is polled.
//! let (end, done) = tokio::join!(driver, conversation);
//! done?;
//! # let _ = end;
//! # Ok(())
//! # }
//! ```
//!
//! # Falling back
//!
//! Clients of Kubernetes begin with the tunnel and try plain SPDY when the server does not upgrade as it should
//! ([`ConnectError::is_upgrade_failure`]), whatever the reason: an older server knows no tunnel, and what another one has
//! to say it says again. [`attempts`] yields both, in that order. An error before the answer or after the upgrade is no
//! reason to try again.

mod session;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, Request as HttpRequest, Response, Uri};
use wsstream_proto::portforward::{channel_modes, ports_query};
use wsstream_proto::remotecommand::Spelling;
use wsstream_proto::subprotocol::{Encoding, Subprotocol};

use super::SessionEnd;
pub use crate::client::ConnectError;
use crate::client::{Accepted, Offer, SpdyAccepted, SpdyOffer};
use crate::connection;
use crate::limits::{Limits, SpdyLimits, Timeouts};
use crate::spdy;
use crate::transport::{Io, UnsentProbe};
pub use session::{Connected, ErrorReport, Forward, OpenError};

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wire {
    /// SPDY in a WebSocket: Kubernetes since 1.31.
    Tunnel,
    /// Plain SPDY: every Kubernetes.
    Spdy,
    /// WebSocket channels: every Kubernetes, with one connection to each port and no end of data before the session's.
    Channels(Encoding),
}

impl Wire {
    /// What is offered to the server.
    #[must_use]
    pub fn protocol(self) -> Subprotocol {
        match self {
            Self::Tunnel => Subprotocol::PORTFORWARD_TUNNEL,
            Self::Spdy => Subprotocol::PORTFORWARD,
            Self::Channels(Encoding::Binary) => Subprotocol::V4,
            Self::Channels(Encoding::Base64) => Subprotocol::V4_BASE64_CHANNEL,
        }
    }

    /// The wire whose [`protocol`](Self::protocol) has this exact name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Tunnel, Self::Spdy, Self::Channels(Encoding::Binary), Self::Channels(Encoding::Base64)]
            .into_iter()
            .find(|wire| wire.protocol().name() == name)
    }
}

/// SPDY in a WebSocket.
#[must_use]
pub fn tunnel() -> Attempt {
    Attempt::new(Wire::Tunnel, Vec::new())
}

/// Plain SPDY.
#[must_use]
pub fn spdy() -> Attempt {
    Attempt::new(Wire::Spdy, Vec::new())
}

/// WebSocket channels, with one connection to each of `ports`; to have several to one port, name it several times.
///
/// The server connects to all of them at once, and takes so many at most as
/// [`MAX_PORTS`](wsstream_proto::portforward::MAX_PORTS) says.
#[must_use]
pub fn channels(ports: impl IntoIterator<Item = u16>, encoding: Encoding) -> Attempt {
    Attempt::new(Wire::Channels(encoding), ports.into_iter().collect())
}

/// What clients of Kubernetes try, in order: see [Falling back](self#falling-back).
pub fn attempts() -> impl Iterator<Item = Attempt> {
    [tunnel(), spdy()].into_iter()
}

#[derive(Debug, Clone)]
enum AnyOffer {
    WebSocket(Offer),
    Spdy(SpdyOffer),
}

/// A session that is not connected yet, over one wire.
#[derive(Debug, Clone)]
pub struct Attempt {
    wire: Wire,
    ports: Vec<u16>,
    spelling: Spelling,
    offer: AnyOffer,
    limits: Limits,
    spdy: SpdyLimits,
    timeouts: Timeouts,
    probe: Option<UnsentProbe>,
}

impl Attempt {
    fn new(wire: Wire, ports: Vec<u16>) -> Self {
        let offer = match wire {
            Wire::Spdy => AnyOffer::Spdy(SpdyOffer::new([wire.protocol()])),
            _ => AnyOffer::WebSocket(Offer::new([wire.protocol()])),
        };
        // How long a quiet session may last is the server's to say.
        let timeouts = Timeouts { idle: None, ..Timeouts::default() };
        let mut spdy = SpdyLimits::default();
        // Only clients open streams.
        spdy.session.max_streams = 0;
        Self {
            wire,
            ports,
            spelling: Spelling::ApiServer,
            offer,
            limits: Limits::default(),
            spdy,
            timeouts,
            probe: None,
        }
    }

    /// What it tries.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Spells the ports, where the URL names them, as the path of the endpoint has them. Default: as the API server's.
    #[must_use]
    pub fn spelling(mut self, spelling: Spelling) -> Self {
        self.spelling = spelling;
        self
    }

    /// How much may be held and taken, over channels.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How much may be held and taken, over SPDY.
    #[must_use]
    pub fn spdy_limits(mut self, limits: SpdyLimits) -> Self {
        self.spdy = limits;
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

    /// The HTTP request for `endpoint` (`…/pods/NAME/portforward`, without a query), complete with the upgrade headers. Add
    /// authentication, then send it with any HTTP client built on hyper and give the answer to [`accept`](Self::accept), or
    /// use [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// The endpoint is no URL that a query can be added to.
    pub fn request(&self, endpoint: &Uri) -> Result<HttpRequest<()>, http::Error> {
        let mut request = HttpRequest::new(());
        let mut parts = endpoint.clone().into_parts();
        if let Wire::Channels(_) = self.wire {
            let query = ports_query(&self.ports, self.spelling);
            parts.path_and_query = Some(format!("{}?{query}", endpoint.path()).parse()?);
        }
        *request.uri_mut() = Uri::from_parts(parts)?;
        match &self.offer {
            AnyOffer::WebSocket(offer) => offer.apply(request.headers_mut()),
            AnyOffer::Spdy(offer) => {
                *request.method_mut() = Method::POST;
                offer.apply(request.headers_mut());
            }
        }
        Ok(request)
    }

    /// Checks the answer to [`request`](Self::request) and starts the session.
    ///
    /// # Errors
    ///
    /// The server refused, or its answer does not fit.
    pub async fn accept<B>(&self, response: Response<B>) -> Result<(Forward, Driver), ConnectError>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Ok(match &self.offer {
            AnyOffer::WebSocket(offer) => self.open(offer.accept(response).await?),
            AnyOffer::Spdy(offer) => self.open_spdy(offer.accept(response).await?),
        })
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
    ) -> Result<(Forward, Driver), ConnectError> {
        Ok(match &self.offer {
            AnyOffer::WebSocket(offer) => self.open(offer.connect(io, request).await?),
            AnyOffer::Spdy(offer) => self.open_spdy(offer.connect(io, request).await?),
        })
    }

    fn open(&self, accepted: Accepted) -> (Forward, Driver) {
        if self.wire == Wire::Tunnel {
            let (connection, driver) = accepted.open_tunnel(|builder| self.prepare(builder));
            return (Forward::streams(self.wire, connection), Driver(Carrier::Spdy(driver)));
        }
        let modes = channel_modes(self.ports.len()).map(wsstream_proto::channel::ChannelMode::mirrored);
        let (connection, driver) = accepted.open(|builder| {
            builder
                .channels(modes)
                .limits(self.limits.clone())
                .timeouts(self.timeouts.clone())
                .given_probe(self.probe.clone())
        });
        let session = Forward::channels(self.wire, connection, &self.ports);
        (session, Driver(Carrier::WebSocket(driver)))
    }

    fn open_spdy(&self, accepted: SpdyAccepted) -> (Forward, Driver) {
        let (connection, driver) = accepted.open(|builder| self.prepare(builder));
        (Forward::streams(self.wire, connection), Driver(Carrier::Spdy(driver)))
    }

    fn prepare(&self, builder: spdy::Builder) -> spdy::Builder {
        builder.limits(self.spdy.clone()).timeouts(self.timeouts.clone()).given_probe(self.probe.clone())
    }
}

/// Moves a session: spawn it, or poll it beside your own work. Resolves when the session is over. Dropped before, it cuts
/// the session.
#[derive(Debug)]
#[must_use = "a session does nothing unless its driver is polled"]
pub struct Driver(Carrier);

#[derive(Debug)]
enum Carrier {
    WebSocket(connection::Driver),
    Spdy(spdy::Driver),
}

impl Future for Driver {
    type Output = SessionEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        match &mut self.0 {
            Carrier::WebSocket(driver) => Pin::new(driver).poll(cx).map(SessionEnd::WebSocket),
            Carrier::Spdy(driver) => Pin::new(driver).poll(cx).map(SessionEnd::Spdy),
        }
    }
}
