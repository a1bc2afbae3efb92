//! HTTP/1.1 on one connection. Not HTTP/2: a WebSocket upgrade needs HTTP/1.1 or RFC 8441, which no client of this
//! protocol speaks.

use super::accept::Shared;
use crate::{
    api::{Peer, SpeaksFirst},
    net::{Pace, Socket},
};
use axum::body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, pin::pin};
use tower::ServiceExt;
use wsstream::{tcp::NextWrite, transport::UnsentProbe};

pub(super) async fn serve(
    socket: Socket,
    peer: SocketAddr,
    tcp: (UnsentProbe, NextWrite),
    pace: Option<Pace>,
    shared: &Shared,
) {
    let (probe, next_write) = tcp;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        // For the close handshake of a WebSocket session: is a slow reader still reading?
        request.extensions_mut().insert(probe.clone());
        if let Some(pace) = &pace {
            // For a session that begins on this connection.
            request.extensions_mut().insert(pace.clone());
        }
        let (response, next_write) = (shared.router.clone().oneshot(request), next_write.clone());
        async move {
            let response = response.await?;
            if response.extensions().get::<SpeaksFirst>().is_some() {
                next_write.hold();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_read)
        // hyper refuses less.
        .max_buf_size(shared.limits.header_bytes.max(8192));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service).with_upgrades());
    let result = tokio::select! {
        biased;
        () = shared.cut.cancelled() => return,
        done = &mut connection => done,
        () = shared.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = shared.cut.cancelled() => return,
                done = connection => done,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
