//! HTTP/1.1 on one connection. Not HTTP/2: a WebSocket upgrade needs HTTP/1.1 or RFC 8441, which no client of this
//! protocol speaks.
//!
//! Strangers get an answer and no more: a place among the connections is for those who have been let in.

use super::accept::Shared;
use crate::{
    api::{Known, SpeaksFirst},
    auth::ConnectionIdentity,
    net::{Cut, Socket},
};
use ::http::{Extensions, HeaderValue, header::CONNECTION};
use axum::body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, pin::pin, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tower::ServiceExt;
use wsstream::tcp::NextWrite;

/// What is known of the client of a connection.
pub(super) struct Client {
    /// For log lines.
    pub(super) name: String,
    /// What the extensions of each request hold.
    pub(super) known: Extensions,
    /// Whether anybody was let in on it.
    pub(super) let_in: Known,
    /// Where the next write can be held back.
    pub(super) next_write: Option<NextWrite>,
}

pub(super) async fn serve(socket: Socket, client: Client, shared: &Shared) {
    let Client { name: peer, known: mut extensions, let_in: known, next_write } = client;
    let cut = Cut::of(&shared.cut);
    let socket = socket.watched(known.clone());
    if extensions.get::<ConnectionIdentity>().is_some() {
        // By a certificate, or the kernel.
        known.set();
    }
    extensions.insert(known.clone());
    extensions.insert(cut.clone());
    let stranger = deadline(known.clone(), shared.limits.header_read.saturating_mul(2));
    let unread = unread(known.clone(), shared.limits.idle);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().extend(extensions.clone());
        let (response, next_write) = (shared.router.clone().oneshot(request), next_write.clone());
        let known = known.clone();
        async move {
            let mut response = response.await?;
            if !known.get() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if let (Some(next_write), Some(SpeaksFirst)) = (next_write, response.extensions().get()) {
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
        () = cut.cancelled() => return,
        done = &mut connection => done,
        () = stranger => return tracing::debug!(%peer, "closed: nobody was let in on this connection"),
        () = unread => return tracing::info!(%peer, "closed: the client does not read its answer"),
        () = shared.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = cut.cancelled() => return,
                done = connection => done,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Answers whatever is asked, without looking at it.
pub(super) async fn answer_all(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
) -> std::io::Result<()> {
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    // Closing with unread input would reset the connection and take the answer with it.
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Resolves if nobody has been let in by then. However slowly a stranger sends or reads: hyper's clock is only about heads.
async fn deadline(known: Known, time: Duration) {
    tokio::time::sleep(time).await;
    if known.get() {
        std::future::pending::<()>().await;
    }
}

/// Resolves when the client has taken nothing of an answer for so long.
async fn unread(known: Known, time: Option<Duration>) {
    match time {
        Some(time) => known.stall().lasts(time).await,
        None => std::future::pending().await,
    }
}
