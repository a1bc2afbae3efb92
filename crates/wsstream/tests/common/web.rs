//! A hyper server on this machine, and our client against it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use wsstream::bytes::Bytes;
use wsstream::client::{Accepted, ConnectError, Offer};
use wsstream::connection::Builder;
use wsstream::http::{Request, Response};
use wsstream::remotecommand::Executor;
use wsstream::remotecommand::server::{Exec, Options, Report};
use wsstream::server::Upgrade;
use wsstream::upgrade::Rejection;
use wsstream::{Connection, Driver, Subprotocol};
use wsstream_testing::Peer;
use wsstream_testing::http::Upgrade as Raw;

/// What the server answers.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves every request with `handle`, for as long as the test's runtime lives.
pub(crate) async fn serve(
    handle: impl Fn(Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let handle = handle.clone();
            let service = service_fn(move |request| {
                let answer = handle(request);
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades(),
            );
        }
    });
    address
}

/// The 101 of an accepted upgrade.
pub(crate) fn switching(response: Response<()>) -> Answer {
    response.map(|()| Full::default())
}

/// The answer of a refusal.
pub(crate) fn refused(rejection: Rejection) -> Answer {
    rejection.into_response().map(Full::from)
}

/// A server that opens a connection for every upgrade, and where they come out.
pub(crate) async fn connections(
    supported: &'static [Subprotocol],
    prepare: impl Fn(Builder) -> Builder + Clone + Send + Sync + 'static,
) -> (SocketAddr, mpsc::Receiver<(Connection, Driver)>) {
    let (sender, receiver) = mpsc::channel(16);
    let address = serve(move |mut request| {
        let upgrade = match Upgrade::accept(&mut request, supported) {
            Ok(upgrade) => upgrade,
            Err(rejection) => return refused(rejection),
        };
        let response = upgrade.response();
        let (prepare, sender) = (prepare.clone(), sender.clone());
        tokio::spawn(async move { sender.send(upgrade.open(prepare).await.unwrap()).await });
        switching(response)
    })
    .await;
    (address, receiver)
}

/// Our client's upgrade.
pub(crate) async fn connect(
    address: SocketAddr,
    protocols: impl IntoIterator<Item = Subprotocol>,
) -> Result<Accepted, ConnectError> {
    let io = TcpStream::connect(address).await.unwrap();
    let request = Request::get(format!("http://{address}/")).body(()).unwrap();
    Offer::new(protocols).connect(io, request).await
}

/// A server that runs `executor` for every exec, and where the reports come out.
pub(crate) async fn exec_server<E: Executor + Clone + 'static>(
    executor: E,
) -> (SocketAddr, mpsc::Receiver<Report>) {
    exec_server_with(Options::default(), executor).await
}

/// As [`exec_server`], with options.
pub(crate) async fn exec_server_with<E: Executor + Clone + 'static>(
    options: Options,
    executor: E,
) -> (SocketAddr, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(16);
    let address = serve(move |mut request| {
        let session = match Exec::accept(&mut request) {
            Ok(session) => session.options(options.clone()),
            Err(rejection) => return refused(rejection),
        };
        let response = session.response();
        let (executor, sender) = (executor.clone(), sender.clone());
        tokio::spawn(async move { sender.send(session.serve(executor).await).await });
        switching(response)
    })
    .await;
    (address, receiver)
}

/// A scripted client of such a server, upgraded. `protocol` may be empty.
pub(crate) async fn exec_peer(address: SocketAddr, query: &str, protocol: &str) -> Peer<TcpStream> {
    let upgrade = Raw::get(&format!("/api/v1/namespaces/default/pods/p/exec?{query}"));
    let upgrade = if protocol.is_empty() { upgrade } else { upgrade.subprotocol(protocol) };
    let answer = upgrade.send(TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(answer.subprotocol().unwrap_or_default(), protocol);
    answer.into_peer().await
}
