//! What an operator asks a running server: which sessions there are, to end one, to drain. HTTP and JSON over a unix socket
//! that only the server's own user and root get through: no token, no port, nothing that a network can reach.

mod routes;
mod socket;

pub use socket::{AdminSocket, AdminSocketError};

use crate::{Api, api::Drained, target::tree};
use axum::body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::geteuid;
use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{UnixListener, UnixStream, unix::UCred},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Connections at once. Beyond loopback of one user nobody has a use for more; further ones wait.
const CONNECTIONS: usize = 16;

/// How long a request head may take.
const HEAD: Duration = Duration::from_secs(5);

/// How long the last answers get to be taken, once the server has ended; and those to who may not ask.
const FAREWELL: Duration = Duration::from_secs(1);

/// The admin socket of a running server. Dropped, it ends at once; its file is removed.
#[derive(Debug)]
pub struct Admin {
    orders: mpsc::Receiver<Drain>,
    end: watch::Sender<Option<Drained>>,
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

/// The order to refuse new sessions, wait for the running ones, and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drain {
    /// How long to wait for the sessions before the server is stopped as by SIGTERM; `None`: as long as they take.
    pub limit: Option<Duration>,
}

impl Admin {
    /// Answers on `socket` from now on. `url` is what the server is reached by, for who looks. Needs a runtime.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn start(socket: AdminSocket, api: &Api, url: &str) -> io::Result<Self> {
        let listener = socket.listener()?;
        // Those that come at once wait for each other.
        let (order, orders) = mpsc::channel(1);
        let end = watch::Sender::new(None);
        let shared = routes::Shared { api: api.clone(), url: url.to_owned(), order, end: end.subscribe() };
        let router = routes::router(Arc::new(shared));
        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let closed = closing.clone();
        // The socket goes with the task: its name is gone when nobody answers any more.
        tasks.spawn(async move {
            accept(listener, router, closed).await;
            drop(socket);
        });
        Ok(Self { orders, end, closing, tasks })
    }

    /// The next order to drain: of several, whichever ends first is meant. Cancel-safe; never resolves when the socket has failed.
    pub async fn ordered(&mut self) -> Drain {
        match self.orders.recv().await {
            Some(drain) => drain,
            None => std::future::pending().await,
        }
    }

    /// Tells who waits for the end how it went, and ends.
    pub async fn finish(mut self, drained: Drained) {
        self.end.send_replace(Some(drained));
        self.closing.cancel();
        let _ = tokio::time::timeout(FAREWELL, self.tasks.join_next()).await;
        self.tasks.shutdown().await;
    }
}

/// Peers at once that are told that they may not ask; further ones are told nothing. They have no place among the connections:
/// else a command of a session could keep the operator out.
const REFUSALS: usize = 4;

async fn accept(listener: UnixListener, router: axum::Router, closing: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred()?;
            let refused = refusal(&peer);
            let place = match refused {
                // The semaphore is never closed.
                None => Some(places.clone().acquire_owned().await.map_err(io::Error::other)?),
                Some(reason) => {
                    tracing::warn!(uid = peer.uid(), pid = peer.pid(), reason, "refused on the admin socket");
                    refusals.clone().try_acquire_owned().ok()
                }
            };
            Ok::<_, io::Error>((place, stream, peer, refused))
        };
        let next = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            next = next => next,
        };
        match next {
            Ok((None, ..)) => {}
            Ok((Some(place), stream, peer, refused)) => {
                let (router, closing) = (router.clone(), closing.clone());
                connections.spawn(async move {
                    match refused {
                        None => connection(stream, peer, router, closing).await,
                        Some(reason) => refuse(stream, reason).await,
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the admin socket; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // The answers that are on their way.
    while connections.join_next().await.is_some() {}
}

/// Root may do all of this by other means; every other user is nobody here, whatever the mode of the file has become.
///
/// Nor are commands of sessions let in, although they have our user: who may run one in one pod may not therefore end
/// everybody's sessions, or be anybody by a link. It is no wall: what has our user and cannot be seen to come from us, because
/// a service started it or commands have no keeper, gets through.
fn refusal(peer: &UCred) -> Option<&'static str> {
    let own = geteuid().as_raw();
    if peer.uid() != own {
        return (peer.uid() != 0).then_some("the admin socket is for the server's own user and root");
    }
    tree::is_a_command(peer.pid()).then_some("the admin socket is not for commands of sessions")
}

/// One answer, and not much time for it.
async fn refuse(stream: UnixStream, reason: &'static str) {
    let service = service_fn(move |_: hyper::Request<Incoming>| {
        std::future::ready(Ok::<_, Infallible>(routes::forbidden(reason)))
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(FAREWELL, connection).await;
}

async fn connection(stream: UnixStream, peer: UCred, router: axum::Router, closing: CancellationToken) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(routes::Caller { uid: peer.uid(), pid: peer.pid() });
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}
