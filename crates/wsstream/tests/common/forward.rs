//! A server of port-forward on this machine, targets behind it, and our client in front.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wsstream::http::Uri;
use wsstream::portforward::client::{self, Attempt, Forward};
use wsstream::portforward::server::{Options, PortForward, Report};
use wsstream::portforward::{PortForwarder, PortStream, SessionEnd};
use wsstream::proto::subprotocol::Encoding;

use crate::common::soon;
use crate::web::{refused, serve, switching};

/// A server that forwards with `forwarder`, and where the reports come out.
pub(crate) async fn forwarding<F: PortForwarder + Clone + 'static>(
    forwarder: F,
    options: Options,
) -> (SocketAddr, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(256);
    let address = serve(move |mut request| {
        let session = match PortForward::accept(&mut request) {
            Ok(session) => session.options(options.clone()),
            Err(rejection) => return refused(rejection),
        };
        let response = session.response();
        let (forwarder, sender) = (forwarder.clone(), sender.clone());
        tokio::spawn(async move { sender.send(session.serve(forwarder).await).await });
        switching(response)
    })
    .await;
    (address, receiver)
}

/// The wires on which a direction can end alone.
pub(crate) fn stream_wires() -> [Attempt; 2] {
    [client::tunnel(), client::spdy()]
}

/// Every wire, for one connection to `port`.
pub(crate) fn wires(port: u16) -> Vec<Attempt> {
    let channels = |encoding| client::channels([port], encoding);
    vec![client::tunnel(), client::spdy(), channels(Encoding::Binary), channels(Encoding::Base64)]
}

/// An open session whose driver runs.
pub(crate) struct Session {
    pub(crate) forward: Forward,
    pub(crate) driver: JoinHandle<SessionEnd>,
}

pub(crate) async fn open(address: SocketAddr, attempt: Attempt) -> Session {
    let endpoint: Uri =
        format!("http://{address}/api/v1/namespaces/default/pods/p/portforward").parse().unwrap();
    let io = TcpStream::connect(address).await.unwrap();
    io.set_nodelay(true).unwrap();
    let connecting = attempt.connect(io, attempt.request(&endpoint).unwrap());
    let (forward, driver) = soon(connecting).await.unwrap();
    assert_eq!(forward.wire(), attempt.wire());
    Session { forward, driver: tokio::spawn(driver) }
}

impl Session {
    pub(crate) async fn connect(&self, port: u16) -> PortStream {
        soon(self.forward.connect(port)).await.unwrap().stream
    }

    /// Ends the session in good order and returns how it ended.
    pub(crate) async fn close(self) -> SessionEnd {
        self.forward.shutdown();
        soon(self.driver).await.unwrap()
    }
}

/// A port that something listens on.
pub(crate) async fn target() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that nothing listens on.
pub(crate) async fn closed_port() -> u16 {
    // Freed at once: the kernel gives it to nobody else for a while.
    target().await.1
}

pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.unwrap().0
}

/// A port where every connection gets back what it sends, and its end.
pub(crate) async fn echo() -> u16 {
    let (listener, port) = target().await;
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                if tokio::io::copy(&mut from, &mut to).await.is_ok() {
                    let _ = to.shutdown().await;
                }
            });
        }
    });
    port
}

/// All that comes until the end.
pub(crate) async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.map(|_| all)
}

/// Exactly so many bytes.
pub(crate) async fn read_exact(stream: &mut (impl tokio::io::AsyncRead + Unpin), len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}
