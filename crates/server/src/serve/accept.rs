//! The accept loop. It does nothing but accept: whatever a client can make slow (TLS, a request head) happens in the
//! task of its connection.

use super::{
    http::{self, Client},
    unix,
};
use crate::{
    Limits,
    api::{Api, Known, Limit, Peer},
    auth::ConnectionIdentity,
    net::{Pace, Socket, set_options},
    strangers::{Stranger, Strangers},
    tls::{Live, identity_of},
};
use ::http::Extensions;
use axum::Router;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wsstream::tcp::TcpSocket;

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) tls: Option<Live>,
    pub(super) api: Api,
    pub(super) places: Arc<Semaphore>,
    /// Those of each address who have not been let in.
    pub(super) strangers: Strangers,
    /// Those of peers of unix sockets who are told no.
    pub(super) refusals: Arc<Semaphore>,
    pub(super) connections: TaskTracker,
    /// Finish what is under way.
    pub(super) closing: CancellationToken,
    /// End now.
    pub(super) cut: CancellationToken,
    pub(super) limits: Limits,
    /// Who may connect to unix sockets beside root and us.
    pub(super) allow_uids: Vec<u32>,
}

/// What is listened on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How often is told that the limit on connections is reached.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Accepts until aborted. Nothing that `accept` can fail with ends the server: the errors are about one connection, or
/// about a shortage (descriptors, memory) that passes when others close.
pub(super) async fn run(listener: Listener, shared: Arc<Shared>) {
    let mut failing = false;
    let (mut told_full, mut told_address) = (None, None);
    loop {
        // The place first: without one, clients wait in the kernel and cost nothing.
        let place = match shared.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                // Under a flood a place becomes free, and is taken, many times a second.
                if told_full.is_none_or(|told: Instant| told.elapsed() >= TELL_AGAIN) {
                    told_full = Some(Instant::now());
                    tracing::warn!(
                        limit = shared.limits.connections,
                        "connection limit reached: new ones wait"
                    );
                }
                // The semaphore is never closed.
                let Ok(place) = shared.places.clone().acquire_owned().await else { return };
                place
            }
        };
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                match shared.strangers.enter(peer.ip()) {
                    Some(stranger) => {
                        shared.connections.spawn(connection(stream, peer, (place, stranger), shared.clone()));
                    }
                    // Closed, and not answered: that would cost a handshake, and hold the place that it is about.
                    None => {
                        shared.api.sessions().metrics().over(Limit::PerAddress.flag());
                        tell_address(&mut told_address, peer, &shared);
                    }
                }
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                shared.connections.spawn(unix::connection(stream, place, shared.clone()));
            }),
        };
        match accepted {
            Ok(()) => {
                failing = false;
                shared.api.sessions().metrics().connected();
            }
            Err(error) if is_about_one_connection(&error) => {
                tracing::debug!(%error, "connection lost before it was accepted");
            }
            Err(error) => {
                // One line for each shortage, not ten per second.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections; trying again until it works");
                }
                tokio::time::sleep(shared.limits.accept_pause).await;
            }
        }
    }
}

/// One line in ten seconds, whoever it is about.
fn tell_address(told: &mut Option<Instant>, peer: SocketAddr, shared: &Shared) {
    if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
        *told = Some(Instant::now());
        tracing::warn!(
            address = %peer.ip(), limit = shared.limits.connections_per_address(),
            "too many connections of one address wait to be let in: further ones are closed"
        );
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    (place, stranger): (OwnedSemaphorePermit, Stranger),
    shared: Arc<Shared>,
) {
    if let Err(error) = set_options(&stream, &shared.limits) {
        tracing::debug!(%peer, %error, "cannot set socket options");
    }
    let tcp = TcpSocket::new(stream);
    let (probe, next_write) = (tcp.unsent_probe(), tcp.next_write());
    let (socket, identity) = match &shared.tls {
        None => (Socket::plain(tcp, place), None),
        Some(tls) => {
            let tls = TlsAcceptor::from(tls.config());
            let handshake = tokio::select! {
                biased;
                () = shared.cut.cancelled() => return,
                done = tokio::time::timeout(shared.limits.tls_handshake, handshake(tcp, &tls)) => done,
            };
            match handshake {
                Ok(Ok(stream)) => {
                    let identity = certified(&stream, peer);
                    (Socket::tls(stream, place), identity)
                }
                // Scanners and probes of load balancers: not worth a line at the default level.
                Ok(Err(error)) => {
                    shared.api.sessions().metrics().handshake_failed("failed");
                    return tracing::debug!(%peer, %error, "TLS handshake failed");
                }
                Err(_) => {
                    shared.api.sessions().metrics().handshake_failed("timeout");
                    return tracing::debug!(%peer, "TLS handshake timed out");
                }
            }
        }
    };
    let mut known = Extensions::new();
    known.insert(Peer(peer));
    // For the close handshake of a WebSocket session: is a slow reader still reading?
    known.insert(probe);
    if let Some(identity) = identity {
        known.insert(identity);
    }
    let socket = paced(socket, &mut known, &shared);
    let let_in = Known::stranger(Some(stranger));
    let client = Client { name: peer.to_string(), known, let_in, next_write: Some(next_write) };
    http::serve(socket, client, &shared).await;
}

/// Whom the client's certificate names, if it has one.
fn certified(stream: &TlsStream<TcpSocket>, peer: SocketAddr) -> Option<ConnectionIdentity> {
    let (_, connection) = stream.get_ref();
    let leaf = connection.peer_certificates()?.first()?;
    let named = identity_of(leaf);
    if let Err(reason) = &named {
        tracing::info!(%peer, reason, "a client certificate names nobody");
    }
    named.ok()
}

/// Bounds what goes over the socket, from when a session begins on it.
pub(super) fn paced(socket: Socket, known: &mut Extensions, shared: &Shared) -> Socket {
    if shared.limits.session_bandwidth.is_none() {
        return socket;
    }
    let pace = Pace::default();
    let socket = socket.paced(&pace);
    known.insert(pace);
    socket
}

/// What somebody who forgot the `s` in `https` gets to read. Go's server words it the same way.
const PLAIN_HTTP: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n\
    {\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\
    \"client sent an HTTP request to an HTTPS server: use https://\",\"reason\":\"BadRequest\",\"code\":400}\n";

async fn handshake(tcp: TcpSocket, tls: &TlsAcceptor) -> io::Result<TlsStream<TcpSocket>> {
    // A TLS record begins with its type, 22 for a handshake; an HTTP method with a letter.
    let mut first = [0];
    if tcp.stream().peek(&mut first).await? == 1 && first.iter().all(u8::is_ascii_uppercase) {
        http::answer_all(tcp, PLAIN_HTTP).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on a TLS port"));
    }
    tls.accept(tcp).await
}
