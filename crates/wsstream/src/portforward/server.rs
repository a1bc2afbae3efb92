//! Serving port-forward over every wire that clients use.
//!
//! | wire | asked for by | connections |
//! |---|---|---|
//! | SPDY | `Upgrade: SPDY/3.1`: kubectl before 1.31, kubelets | any number, each a pair of streams |
//! | SPDY in a WebSocket | the subprotocol `SPDY/3.1+portforward.k8s.io`: kubectl since 1.31 | the same |
//! | channels | `v4.channel.k8s.io`, `v4.base64.channel.k8s.io`, none: Python, Java, JavaScript, kube-rs | one for each port of the URL |
//!
//! A connection that fails never ends another one. Over channels, where there is no other way to say it, its cause is
//! written on the port's error channel. Over SPDY the data stream is reset, and the cause is a `tracing` event; with
//! [`Errors::Report`] it is also written on the error stream, as upstream does, at which kubectl ends the session with all
//! its connections.
//!
//! # Events
//!
//! `tracing` events, target `wsstream::portforward`: at `info` a connection that failed, with its cause; at `debug` a
//! stream that was refused, a pair that stayed incomplete, and connections that the client broke off.

mod channels;
mod streams;

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::Response;
use wsstream_proto::portforward::{
    PORTFORWARD_SPDY, PORTFORWARD_WEBSOCKET, PortsError, check_ports, parse_ports,
};
use wsstream_proto::remotecommand::Spelling;
use wsstream_proto::subprotocol::Subprotocol;

use super::{ForwardError, PortForwarder, SessionEnd};
use crate::limits::{Limits, SpdyLimits, Timeouts};
use crate::server::{SpdyUpgrade, Upgrade};
use crate::transport::UnsentProbe;
pub use crate::upgrade::Rejection;
use crate::upgrade::is_spdy;

/// What a SPDY client is told of a connection that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Errors {
    /// Its data stream is reset, and nothing else: kubectl closes the local connection and goes on.
    #[default]
    Reset,
    /// The cause is written on its error stream as well, as upstream does. kubectl prints it and ends, with every other
    /// connection of the session.
    Report,
}

/// How sessions are served; share one among all of a server, for the sake of its memory budgets.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How much each session over channels may hold and take.
    pub limits: Limits,
    /// How much each session over SPDY may hold and take.
    pub spdy: SpdyLimits,
    /// The clocks of each session.
    pub timeouts: Timeouts,
    /// How to learn what the kernel has not delivered yet. Most servers need not set it: one in the request's
    /// extensions is found, and plain TCP is asked directly.
    pub unsent_probe: Option<UnsentProbe>,
    /// What a SPDY client is told of a connection that failed.
    pub errors: Errors,
    /// How long a client may take to open the second stream of a pair. Default 30 s, as upstream.
    pub pair_timeout: Duration,
    /// How many pairs of a session may be incomplete at once. Default 1024, half of the streams that a session takes:
    /// kubectl opens the error stream of each connection a round trip before the data stream, so that a browser's or a
    /// load test's hundreds of connections are as many incomplete pairs for a moment (64 broke them off). One costs a few
    /// hundred bytes.
    pub max_incomplete: usize,
    /// How many connections of a session may be open at once over SPDY, incomplete ones included; more are refused. Over
    /// channels the URL has at most as many ports as [`Limits`] has channels. Default 1024, half of the streams that a
    /// session takes.
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            spdy: SpdyLimits::default(),
            timeouts: Timeouts::default(),
            unsent_probe: None,
            errors: Errors::default(),
            pair_timeout: Duration::from_secs(30),
            max_incomplete: 1024,
            max_connections: 1024,
        }
    }
}

/// What the client speaks, and what is known from its URL.
#[derive(Debug)]
enum Asked {
    Channels { upgrade: Upgrade, ports: Vec<u16> },
    Tunnel(Upgrade),
    Spdy(SpdyUpgrade),
}

/// A client's wish to forward ports: answer with [`response`](Self::response), then run [`serve`](Self::serve).
#[derive(Debug)]
#[must_use = "the client waits for an answer"]
pub struct PortForward {
    asked: Asked,
    options: Options,
}

impl PortForward {
    /// Checks an HTTP request: the upgrade, the protocol, and over channels the ports as the API server spells them. Takes
    /// hyper's upgrade handle out of the request.
    ///
    /// # Errors
    ///
    /// The request cannot be served; the rejection knows the HTTP answer.
    pub fn accept<B>(request: &mut http::Request<B>) -> Result<Self, Rejection> {
        Self::accept_spelled(request, Spelling::ApiServer)
    }

    /// As [`accept`](Self::accept), with the ports spelled as on the path named by `spelling`.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn accept_spelled<B>(request: &mut http::Request<B>, spelling: Spelling) -> Result<Self, Rejection> {
        Self::accept_with(request, |uri| parse_ports(uri.query().unwrap_or_default(), spelling))
    }

    /// As [`accept`](Self::accept), with the ports for channels known already, whatever the URL says: a streaming server
    /// of a container runtime was told them before, by another way. Over SPDY they mean nothing; each stream names its
    /// own.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn accept_ports<B>(request: &mut http::Request<B>, ports: &[u16]) -> Result<Self, Rejection> {
        Self::accept_with(request, |_| check_ports(ports))
    }

    fn accept_with<B>(
        request: &mut http::Request<B>,
        ports: impl FnOnce(&http::Uri) -> Result<Vec<u16>, PortsError>,
    ) -> Result<Self, Rejection> {
        let asked = if is_spdy(request.headers()) {
            Asked::Spdy(SpdyUpgrade::accept(request, PORTFORWARD_SPDY)?)
        } else {
            let upgrade = Upgrade::accept(request, PORTFORWARD_WEBSOCKET)?;
            if upgrade.subprotocol().is_tunnel() {
                Asked::Tunnel(upgrade)
            } else {
                let ports =
                    ports(request.uri()).map_err(|error| Rejection::bad_request(error.to_string()))?;
                Asked::Channels { upgrade, ports }
            }
        };
        Ok(Self { asked, options: Options::default() })
    }

    /// Sets limits, clocks and policies.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The ports of the URL, in order; over SPDY each connection names its own later, and there are none.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        match &self.asked {
            Asked::Channels { ports, .. } => ports,
            _ => &[],
        }
    }

    /// What the client speaks.
    #[must_use]
    pub fn subprotocol(&self) -> &Subprotocol {
        match &self.asked {
            Asked::Channels { upgrade, .. } | Asked::Tunnel(upgrade) => upgrade.subprotocol(),
            Asked::Spdy(upgrade) => upgrade.protocol(),
        }
    }

    /// The 101 to answer with.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        match &self.asked {
            Asked::Channels { upgrade, .. } | Asked::Tunnel(upgrade) => upgrade.response(),
            Asked::Spdy(upgrade) => upgrade.response(),
        }
    }

    /// Runs the session to its very end. Spawn it once the response is on its way; it polls all connections of the
    /// session itself.
    ///
    /// Dropped, it drops every connection's forwarder and cuts the session. A panic of the forwarder is the failure of
    /// one connection.
    pub async fn serve<F: PortForwarder>(self, forwarder: F) -> Report {
        self.serve_until(forwarder, std::future::pending()).await
    }

    /// As [`serve`](Self::serve); when `stop` resolves no new connections are taken, and the session ends when the last
    /// one has ended.
    pub async fn serve_until<F: PortForwarder>(self, forwarder: F, stop: impl Future<Output = ()>) -> Report {
        let mut report = Report::new(self.subprotocol().clone());
        let Self { asked, options } = self;
        let prepare = |builder: crate::spdy::Builder| {
            builder
                .limits(options.spdy.clone())
                .timeouts(options.timeouts.clone())
                .given_probe(options.unsent_probe.clone())
        };
        let opened = match asked {
            Asked::Channels { upgrade, ports } => {
                channels::serve(upgrade, &ports, &forwarder, &options, &mut report).await;
                return report;
            }
            Asked::Tunnel(upgrade) => upgrade.open_tunnel(prepare).await,
            Asked::Spdy(upgrade) => upgrade.open(prepare).await,
        };
        match opened {
            Ok((connection, driver)) => {
                streams::serve(connection, driver, &forwarder, &options, stop, &mut report).await;
            }
            Err(error) => tracing::debug!(%error, "the client left before the session began"),
        }
        report
    }
}

/// How a session went, for a log or an audit.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Connections that were handed to the forwarder.
    pub connections: u64,
    /// Those among them that failed, other than by the client's doing.
    pub failed: u64,
    /// Streams that were refused: bad headers, or too many incomplete pairs.
    pub refused_streams: u64,
    /// Pairs that stayed incomplete.
    pub incomplete: u64,
    /// How the session ended; `None` when the client left before it began.
    pub end: Option<SessionEnd>,
    /// What the client spoke.
    pub subprotocol: Subprotocol,
}

impl Report {
    fn new(subprotocol: Subprotocol) -> Self {
        Self { connections: 0, failed: 0, refused_streams: 0, incomplete: 0, end: None, subprotocol }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(end) = &self.end else {
            return f.write_str("the client left before the session began");
        };
        write!(f, "{} connections, {} failed; connection {end}", self.connections, self.failed)
    }
}

/// How one connection went.
type Forwarded = Result<(), ForwardError>;

/// Runs the forwarder for one connection; a panic is its failure.
async fn forwarded(port: u16, forwarding: impl Future<Output = Forwarded>) -> Forwarded {
    let result = AssertUnwindSafe(forwarding).catch_unwind().await.unwrap_or_else(|_| {
        tracing::warn!(port, "the forwarder of a connection panicked");
        Err(ForwardError::Other("the server failed while forwarding".to_owned()))
    });
    match &result {
        Ok(()) => {}
        Err(error) if error.is_clients() => tracing::debug!(port, %error, "a connection was broken off"),
        Err(error) => tracing::info!(port, %error, "a connection could not be forwarded"),
    }
    result
}

/// What a client is told of a failure.
fn text(port: u16, error: &ForwardError) -> String {
    format!("error forwarding port {port}: {error}")
}

impl Report {
    fn count(&mut self, forwarded: &Forwarded) {
        self.connections += 1;
        self.failed += u64::from(matches!(forwarded, Err(error) if !error.is_clients()));
    }
}

/// How long a connection may hand nothing on of what had arrived when the session ended.
const LEAVE: Duration = Duration::from_secs(30);

/// The session is over: waits until nothing was handed on for [`LEAVE`]. `unread` is what waits in all connections.
async fn left_alone(unread: impl Fn() -> usize) {
    let mut before = unread();
    loop {
        tokio::time::sleep(LEAVE).await;
        let now = unread();
        if now >= before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_to_leave_begins_anew_while_something_is_handed_on() {
        let unread = RefCell::new([100, 60, 20, 20].into_iter());
        let since = tokio::time::Instant::now();
        left_alone(|| unread.borrow_mut().next().unwrap_or_default()).await;
        assert_eq!(since.elapsed(), LEAVE * 3);
    }
}
