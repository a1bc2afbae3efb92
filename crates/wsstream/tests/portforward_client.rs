//! What our client of port-forward asks for, when it tries again, and how long half of a connection is kept.

#![cfg(all(feature = "client", feature = "server"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod common;
#[path = "common/forward.rs"]
mod forward;
#[path = "common/web.rs"]
mod web;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::soon;
use forward::{forwarding, open, stream_wires, target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wsstream::http::{Method, Uri};
use wsstream::portforward::Routes;
use wsstream::portforward::client::{self, ConnectError, OpenError, Wire};
use wsstream::portforward::server::{Options, PortForward};
use wsstream::proto::status::Status;
use wsstream::proto::subprotocol::Encoding;
use wsstream::upgrade::Rejection;

const PATH: &str = "/api/v1/namespaces/default/pods/p/portforward";

#[test]
fn requests_are_those_of_upstreams_client() {
    let endpoint: Uri = format!("https://server:6443{PATH}").parse().unwrap();
    let tunnel = client::tunnel().request(&endpoint).unwrap();
    assert_eq!((tunnel.method(), tunnel.uri()), (&Method::GET, &endpoint));
    assert_eq!(tunnel.headers()["upgrade"], "websocket");
    assert_eq!(tunnel.headers()["sec-websocket-protocol"], "SPDY/3.1+portforward.k8s.io");
    let spdy = client::spdy().request(&endpoint).unwrap();
    assert_eq!((spdy.method(), spdy.uri()), (&Method::POST, &endpoint));
    assert_eq!(spdy.headers()["upgrade"], "SPDY/3.1");
    assert_eq!(spdy.headers()["connection"], "Upgrade");
    assert_eq!(spdy.headers()["x-stream-protocol-version"], "portforward.k8s.io");
    let channels = client::channels([80, 81], Encoding::Base64).request(&endpoint).unwrap();
    assert_eq!(channels.uri().query(), Some("ports=80&ports=81"));
    assert_eq!(channels.headers()["sec-websocket-protocol"], "v4.base64.channel.k8s.io");
    let order: Vec<_> = client::attempts().map(|attempt| attempt.wire()).collect();
    assert_eq!(order, [Wire::Tunnel, Wire::Spdy]);
    for wire in [Wire::Tunnel, Wire::Spdy, Wire::Channels(Encoding::Binary), Wire::Channels(Encoding::Base64)]
    {
        assert_eq!(Wire::by_name(wire.protocol().name()), Some(wire));
    }
    assert_eq!(Wire::by_name("v5.channel.k8s.io"), None);
}

/// A server of before the tunnel, whatever it says to a WebSocket: SPDY is next, and works.
#[tokio::test]
async fn a_refused_tunnel_is_a_reason_to_try_spdy() {
    for code in [400, 403, 404, 500] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        let address = web::serve(move |mut request| {
            requests.lock().unwrap().push(request.method().clone());
            if request.method() == Method::GET {
                return web::refused(Rejection::status(Status::failure(code, "Old", "no WebSockets here")));
            }
            let session = PortForward::accept(&mut request).unwrap();
            let response = session.response();
            tokio::spawn(session.serve(Routes::none()));
            web::switching(response)
        })
        .await;
        let endpoint: Uri = format!("http://{address}{PATH}").parse().unwrap();
        let mut opened = None;
        for attempt in client::attempts() {
            let io = TcpStream::connect(address).await.unwrap();
            match soon(attempt.connect(io, attempt.request(&endpoint).unwrap())).await {
                Ok(session) => opened = Some(session),
                Err(error) => {
                    assert!(error.is_upgrade_failure(), "{error}");
                    assert_eq!(error.to_string(), "no WebSockets here");
                }
            }
        }
        assert_eq!(opened.unwrap().0.wire(), Wire::Spdy);
        assert_eq!(*seen.lock().unwrap(), [Method::GET, Method::POST]);
    }
}

/// A server that cannot be reached, or goes away, is none.
#[tokio::test]
async fn a_connection_that_fails_is_no_reason_to_try_again() {
    let endpoint: Uri = format!("http://localhost{PATH}").parse().unwrap();
    for attempt in stream_wires() {
        let (ours, theirs) = tokio::io::duplex(64);
        drop(theirs);
        let error = attempt.connect(ours, attempt.request(&endpoint).unwrap()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Http(_)) && !error.is_upgrade_failure(), "{error}");
    }
}

/// On a slow line an answer stands behind the bytes of other connections: only silence counts.
#[tokio::test(start_paused = true)]
async fn an_answer_behind_the_data_of_others_is_waited_for() {
    const SECOND: Duration = Duration::from_secs(1);
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(theirs.read_u8().await.unwrap());
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                      X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n";
        theirs.write_all(answer.as_bytes()).await.unwrap();
        let (connection, driver) = wsstream::spdy::Builder::server().start(theirs);
        tokio::spawn(driver);
        let accept = async || connection.accept().await.unwrap();
        let (_error, mut data) = (accept().await.accept(), accept().await.accept());
        let (error, waits) = (accept().await, accept().await);
        for _ in 0..10 {
            tokio::time::sleep(SECOND * 20).await;
            data.writer().send("x".into()).await.unwrap();
        }
        let _taken = (error.accept(), waits.accept());
        // The third is never answered.
        let _unanswered = (accept().await, accept().await);
        std::future::pending::<()>().await;
    });
    let attempt = client::spdy();
    let endpoint: Uri = format!("http://localhost{PATH}").parse().unwrap();
    let (session, driver) = attempt.connect(ours, attempt.request(&endpoint).unwrap()).await.unwrap();
    tokio::spawn(driver);
    let mut first = session.connect(1).await.unwrap();
    let reading =
        tokio::spawn(async move { while first.stream.chunk().await.is_ok_and(|some| some.is_some()) {} });
    let since = tokio::time::Instant::now();
    let second = session.connect(2).await.unwrap();
    assert_eq!(since.elapsed(), SECOND * 200);
    let since = tokio::time::Instant::now();
    let refused = session.connect(3).await;
    assert!(matches!(refused, Err(OpenError::Silent(_))), "{refused:?}");
    assert_eq!(since.elapsed(), SECOND * 30);
    drop(second);
    reading.abort();
}

/// Streams that a server refuses, or never answers, end the wish for that connection alone.
#[tokio::test]
async fn a_server_that_takes_no_more_connections_says_so() {
    let mut options = Options::default();
    options.spdy.session.max_streams = 4;
    let (address, _reports) = forwarding(Routes::loopback(), options).await;
    let (listener, port) = target().await;
    for attempt in stream_wires() {
        let session = open(address, attempt).await;
        let mut streams = vec![session.connect(port).await, session.connect(port).await];
        let refused = soon(session.forward.connect(port)).await;
        assert!(matches!(refused, Err(OpenError::Refused(_))), "{refused:?}");
        for stream in &mut streams {
            forward::accept(&listener).await.write_all(b"x").await.unwrap();
            let mut byte = [0];
            soon(stream.read_exact(&mut byte)).await.unwrap();
        }
    }
}
