//! Port-forward from end to end: which ports lead where, on every wire, and what a shutdown does to connections.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use server_support::{Running, host_pod, process, soon};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use wsstream::{
    portforward::{
        PortStream, Routes, SessionEnd,
        client::{self, Attempt, Forward},
        server::Errors,
    },
    proto::subprotocol::Encoding,
    remotecommand::{self, ExitCode, Outcome, Request},
};
use wsstream_server::{Pod, Pods, TlsSource};

const HOST: &str = "/api/v1/namespaces/default/pods/host/portforward";

async fn host(routes: Routes) -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host").forward(routes)).unwrap();
    Running::new(pods).await
}

/// Opens a session with the server's token.
async fn open(server: &Running, attempt: &Attempt) -> (Forward, JoinHandle<SessionEnd>) {
    let endpoint = format!("http://{}{HOST}", server.address).parse().unwrap();
    let mut request = attempt.request(&endpoint).unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", server.token).parse().unwrap());
    let io = TcpStream::connect(server.address).await.unwrap();
    let (forward, driver) = soon("an upgrade", attempt.connect(io, request)).await.unwrap();
    (forward, tokio::spawn(driver))
}

async fn connect(forward: &Forward, port: u16) -> PortStream {
    soon("a connection", forward.connect(port)).await.unwrap().stream
}

async fn target() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn read_all(stream: &mut PortStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    soon("the end of a connection", stream.read_to_end(&mut all)).await.map(|_| all)
}

/// What clients send and nobody reads has one ceiling for all SPDY sessions of a server, commands included.
#[tokio::test]
async fn spdy_sessions_stay_inside_one_budget() {
    const SHARED: usize = 2 << 20;
    let pods = Pods::new();
    let routes = Routes::loopback();
    pods.add(host_pod("host").forward(routes)).unwrap();
    let server = Running::with(pods, |options| {
        options.tls = TlsSource::Insecure;
        options.limits.shared_buffer = SHARED;
    })
    .await;
    let memory = server.api.shared_buffer();
    assert_eq!(memory.available(), SHARED);
    let eventually = async |what: &str, done: &dyn Fn(usize) -> bool| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !done(memory.available()) {
            assert!(tokio::time::Instant::now() < deadline, "{what}: {} are left", memory.available());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };

    // A command that reads nothing, until it ends.
    let folder = tempfile::tempdir().unwrap();
    let over = folder.path().join("over");
    let script = format!("until [ -e {} ]; do sleep 0.05; done", over.display());
    let command = remotecommand::client::exec(Request::command(["sh", "-c", &script]).stdin(true));
    let endpoint = format!("http://{}/api/v1/namespaces/default/pods/host/exec", server.address);
    let mut request = command.spdy_request(&endpoint.parse().unwrap()).unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", server.token).parse().unwrap());
    let io = TcpStream::connect(server.address).await.unwrap();
    let mut process = soon("an upgrade", command.connect_spdy(io, request)).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let mut flooding = JoinSet::new();
    flooding.spawn(async move { while stdin.write_all(&[7; 32 << 10]).await.is_ok() {} });
    let ended = tokio::spawn(async move { process.wait().await });
    eventually("a command takes its share", &|left| left <= SHARED - (128 << 10)).await;

    // Each of these would take 4 MiB by itself.
    let (listener, port) = target().await;
    let mut unread = Vec::new();
    for _ in 0..6 {
        let (session, driver) = open(&server, &client::spdy()).await;
        let mut stream = connect(&session, port).await;
        unread.push((listener.accept().await.unwrap(), session, driver));
        flooding.spawn(async move { while stream.write_all(&[7; 32 << 10]).await.is_ok() {} });
    }
    eventually("the ceiling is reached", &|left| left < 64 << 10).await;

    // Whoever is read is served all the same.
    let (session, _driver) = open(&server, &client::tunnel()).await;
    let mut stream = connect(&session, port).await;
    let (mut socket, _) = listener.accept().await.unwrap();
    let sending = tokio::spawn(async move {
        stream.write_all(&vec![7; 4 << 20]).await.unwrap();
        stream.close().unwrap();
        stream
    });
    let mut all = Vec::new();
    soon("an upload", socket.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all.len(), 4 << 20);
    drop(sending.await.unwrap());

    std::fs::write(&over, "").unwrap();
    assert_eq!(soon("the end of the command", ended).await.unwrap(), Outcome::Exited(ExitCode(0)));
    flooding.shutdown().await;
    drop(unread);
    eventually("all is given back", &|left| left == SHARED).await;
}

#[tokio::test]
async fn loopback_is_reached_over_every_wire() {
    let server = host(Routes::loopback()).await;
    let (listener, port) = target().await;
    for attempt in [client::tunnel(), client::spdy(), client::channels([port], Encoding::Binary)] {
        let (forward, driver) = open(&server, &attempt).await;
        let mut stream = connect(&forward, port).await;
        let (mut socket, _) = soon("a connection", listener.accept()).await.unwrap();
        stream.send("question".into()).await.unwrap();
        let mut question = [0; 8];
        soon("the question", socket.read_exact(&mut question)).await.unwrap();
        socket.write_all(b"answer").await.unwrap();
        drop(socket);
        assert_eq!((&question, &read_all(&mut stream).await.unwrap()[..]), (b"question", &b"answer"[..]));
        drop(stream);
        forward.shutdown();
        assert!(soon("the end", driver).await.unwrap().is_orderly(), "{:?}", attempt.wire());
    }
}

/// An embedder that says nothing about ports forwards none.
#[tokio::test]
async fn ports_that_are_not_allowed_are_refused_and_the_session_goes_on() {
    let (listener, port) = target().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = tokio::net::UnixListener::bind(&path).unwrap();
    for routes in [Routes::none().unix(1, &path), Routes::loopback().only([2]).unix(1, &path)] {
        let pods = Pods::new();
        pods.add(host_pod("host").forward(routes).forward_errors(Errors::Report)).unwrap();
        let server = Running::new(pods).await;
        let (forward, _driver) = open(&server, &client::tunnel()).await;
        let mut refused = soon("a connection", forward.connect(port)).await.unwrap();
        let text = soon("its report", refused.report.wait()).await.unwrap();
        assert!(text.contains(&format!("port {port} is not forwarded by this server")), "{text}");
        read_all(&mut refused.stream).await.unwrap_err();
        let mut stream = connect(&forward, 1).await;
        unix.accept().await.unwrap().0.write_all(b"unix").await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap(), b"unix");
    }
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let server = Running::new(pods).await;
    let (forward, _driver) = open(&server, &client::spdy()).await;
    read_all(&mut connect(&forward, port).await).await.unwrap_err();
    // None of them was even tried.
    let tried = tokio::time::timeout(Duration::from_millis(10), listener.accept()).await;
    assert!(tried.is_err());
}

#[tokio::test]
async fn a_pod_that_has_ended_forwards_nothing() {
    let pods = Pods::new();
    let (process, container) = process("host", "main", "exit 0");
    pods.add(Pod::new("host").container(container).forward(Routes::loopback())).unwrap();
    let server = Running::new(pods).await;
    server_support::ended(&process).await;
    let request = server
        .request(http::Method::POST, HOST)
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", "portforward.k8s.io");
    let message = server.answer(request).await.failure(400, "BadRequest");
    assert_eq!(message, "unable to forward port because pod is not running. Current status=Succeeded");
}

/// A session without connections does not hold a server up that stops; a connection may finish.
#[tokio::test]
async fn a_shutdown_lets_connections_finish_and_ends_idle_sessions() {
    let mut server = host(Routes::loopback()).await;
    let (listener, port) = target().await;
    let (before, idle) = open(&server, &client::tunnel()).await;
    // A SPDY server says nothing, not even that it goes, before its client has said something.
    let mut stream = connect(&before, port).await;
    drop(soon("a connection", listener.accept()).await.unwrap());
    assert_eq!(read_all(&mut stream).await.unwrap(), b"");
    drop(stream);
    let (busy, driver) = open(&server, &client::spdy()).await;
    let mut stream = connect(&busy, port).await;
    let (mut socket, _) = soon("a connection", listener.accept()).await.unwrap();
    server.stop();
    assert!(soon("the end of the idle session", idle).await.unwrap().is_orderly());
    socket.write_all(b"still").await.unwrap();
    drop(socket);
    assert_eq!(read_all(&mut stream).await.unwrap(), b"still");
    stream.close().unwrap();
    assert!(soon("the end", driver).await.unwrap().is_orderly());
    assert_eq!(server.ended().await, wsstream_server::api::Drained::default());
}

/// A connection that does not finish is ended, and that is an error for its client.
#[tokio::test]
async fn a_connection_that_does_not_finish_is_reset_at_shutdown() {
    let pods = Pods::new();
    pods.add(host_pod("host").forward(Routes::loopback())).unwrap();
    let mut server = Running::with(pods, |options| {
        options.tls = wsstream_server::TlsSource::Insecure;
        options.limits.drain = Duration::from_millis(50);
        options.limits.end_grace = Duration::from_millis(50);
        options.limits.farewell = Duration::from_millis(50);
    })
    .await;
    let (listener, port) = target().await;
    let (forward, _driver) = open(&server, &client::tunnel()).await;
    let mut stream = connect(&forward, port).await;
    let (_socket, _) = soon("a connection", listener.accept()).await.unwrap();
    server.stop();
    read_all(&mut stream).await.unwrap_err();
    assert_eq!(server.ended().await.ended, 1);
}
