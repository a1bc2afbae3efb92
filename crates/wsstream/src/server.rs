//! Accepting an upgrade on a hyper server, axum's included.

use std::fmt;

use http::{Request, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use wsstream_proto::status::Status;
use wsstream_proto::subprotocol::Subprotocol;

use crate::connection::{Builder, Connection, Driver};
use crate::spdy;
use crate::transport::UnsentProbe;
use crate::tunnel::Tunnel;
use crate::upgrade::{Handshake, Rejection, SpdyHandshake};
use crate::upgraded::plain;

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
        let (on_upgrade, probe) = take_upgrade(request)?;
        Ok(Self { handshake, on_upgrade, probe })
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
        // A plain TCP stream, as `axum::serve` has it, needs no probe of its own.
        let (io, read, probe) = plain(on_upgrade.await?, probe);
        // What `prepare` sets counts for more than what was found.
        let builder = Connection::builder(handshake.subprotocol().clone()).unsent_probe(probe);
        Ok(prepare(builder).already_read(read).server(io))
    }

    /// As [`open`](Self::open), for a SPDY connection through a [`Tunnel`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_tunnel(
        self,
        prepare: impl FnOnce(spdy::Builder) -> spdy::Builder,
    ) -> Result<(spdy::Connection, spdy::Driver), hyper::Error> {
        let Self { on_upgrade, probe, .. } = self;
        let (io, read, probe) = plain(on_upgrade.await?, probe);
        let tunnel = Tunnel::server(io).already_read(read);
        Ok(prepare(spdy::Builder::server().unsent_probe(probe)).start(tunnel))
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

/// Takes hyper's handle out of the request, and the probe that a server may have put into its extensions.
fn take_upgrade<B>(request: &mut Request<B>) -> Result<(OnUpgrade, Option<UnsentProbe>), Rejection> {
    if request.extensions().get::<OnUpgrade>().is_none() {
        return Err(Rejection::status(Status::internal("this HTTP server cannot upgrade connections")));
    }
    let probe = request.extensions_mut().remove::<UnsentProbe>();
    Ok((hyper::upgrade::on(request), probe))
}

/// An accepted SPDY upgrade: answer with [`response`](Self::response), then [`open`](Self::open) the connection.
pub struct SpdyUpgrade {
    handshake: SpdyHandshake,
    on_upgrade: OnUpgrade,
    probe: Option<UnsentProbe>,
}

impl SpdyUpgrade {
    /// As [`Upgrade::accept`], for a request that asks for SPDY.
    ///
    /// # Errors
    ///
    /// As [`SpdyHandshake::negotiate`]; also when the HTTP server cannot upgrade connections.
    pub fn accept<B>(request: &mut Request<B>, supported: &[Subprotocol]) -> Result<Self, Rejection> {
        let handshake = SpdyHandshake::negotiate(request, supported)?;
        let (on_upgrade, probe) = take_upgrade(request)?;
        Ok(Self { handshake, on_upgrade, probe })
    }

    /// What was chosen.
    #[must_use]
    pub fn protocol(&self) -> &Subprotocol {
        self.handshake.protocol()
    }

    /// The 101 to answer with.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        self.handshake.response()
    }

    /// Waits until the answer is on its way and opens the connection. `prepare` may set limits and clocks.
    ///
    /// Cancel-safe: dropped, the connection is closed.
    ///
    /// # Errors
    ///
    /// The client went away before, or the answer was never sent.
    pub async fn open(
        self,
        prepare: impl FnOnce(spdy::Builder) -> spdy::Builder,
    ) -> Result<(spdy::Connection, spdy::Driver), hyper::Error> {
        let Self { on_upgrade, probe, .. } = self;
        let (io, read, probe) = plain(on_upgrade.await?, probe);
        Ok(prepare(spdy::Builder::server().unsent_probe(probe)).already_read(read).start(io))
    }
}

impl fmt::Debug for SpdyUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpdyUpgrade").field("handshake", &self.handshake).finish_non_exhaustive()
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("handshake", &self.handshake).finish_non_exhaustive()
    }
}
