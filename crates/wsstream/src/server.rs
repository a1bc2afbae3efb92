//! Accepting an upgrade on a hyper server, axum's included.

use std::fmt;

use http::{Request, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use wsstream_proto::status::Status;
use wsstream_proto::subprotocol::Subprotocol;

use crate::connection::{Builder, Connection, Driver};
use crate::tcp::TcpSocket;
use crate::transport::UnsentProbe;
use crate::upgrade::{Handshake, Rejection};

/// An accepted upgrade: answer with [`response`](Self::response), then [`open`](Self::open) the connection.
pub struct Upgrade {
    handshake: Handshake,
    on_upgrade: OnUpgrade,
    probe: Option<UnsentProbe>,
}

impl Upgrade {
    /// Checks the request and chooses one of `supported`. Takes hyper's upgrade handle out of the request, and an
    /// [`UnsentProbe`] when the server has put one into the extensions.
    ///
    /// # Errors
    ///
    /// As [`Handshake::negotiate`]; also when the HTTP server cannot upgrade connections.
    pub fn accept<B>(request: &mut Request<B>, supported: &[Subprotocol]) -> Result<Self, Rejection> {
        let handshake = Handshake::negotiate(request, supported)?;
        if request.extensions().get::<OnUpgrade>().is_none() {
            return Err(Rejection::status(Status::internal("this HTTP server cannot upgrade connections")));
        }
        let probe = request.extensions_mut().remove::<UnsentProbe>();
        Ok(Self { handshake, on_upgrade: hyper::upgrade::on(request), probe })
    }

    /// What was chosen.
    #[must_use]
    pub fn subprotocol(&self) -> &Subprotocol {
        self.handshake.subprotocol()
    }

    /// The 101 to answer with.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        self.handshake.response()
    }

    /// Waits until the answer is on its way and opens the connection. `prepare` may set channels, limits and clocks.
    ///
    /// Cancel-safe: dropped, the connection is closed.
    ///
    /// # Errors
    ///
    /// The client went away before, or the answer was never sent.
    pub async fn open(
        self,
        prepare: impl FnOnce(Builder) -> Builder,
    ) -> Result<(Connection, Driver), hyper::Error> {
        let Self { handshake, on_upgrade, probe } = self;
        let upgraded = on_upgrade.await?;
        // What `prepare` sets counts for more than what was found.
        let build = |probe| prepare(Connection::builder(handshake.subprotocol().clone()).unsent_probe(probe));
        // A plain TCP stream, as `axum::serve` has it, can be asked what is unsent even when nobody gave a probe.
        Ok(match upgraded.downcast::<TokioIo<tokio::net::TcpStream>>() {
            Ok(parts) => {
                let socket = TcpSocket::new(parts.io.into_inner());
                let probe = probe.unwrap_or_else(|| socket.unsent_probe());
                build(Some(probe)).already_read(parts.read_buf).server(socket)
            }
            Err(upgraded) => build(probe).server(TokioIo::new(upgraded)),
        })
    }

    /// The upgraded stream itself, for a handler that speaks something else than channels on it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn into_stream(self) -> Result<Upgraded, hyper::Error> {
        self.on_upgrade.await
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("handshake", &self.handshake).finish_non_exhaustive()
    }
}
