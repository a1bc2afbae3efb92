//! Port-forward over channels, byte by byte: what the clients of Python, Java, JavaScript and kube-rs send and expect.

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

use std::net::SocketAddr;
use std::time::Duration;

use common::soon;
use forward::{accept, closed_port, forwarding, open, read_all, read_exact, target};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wsstream::portforward::client::{self, OpenError};
use wsstream::portforward::server::Options;
use wsstream::portforward::{Routes, SessionEnd};
use wsstream::proto::portforward::PORTFORWARD_WEBSOCKET;
use wsstream::proto::subprotocol::Encoding;
use wsstream::server::Upgrade as Upgraded;
use wsstream_testing::http::Upgrade;
use wsstream_testing::{Message, Peer};

/// A scripted client, upgraded to `chosen` with these offers.
async fn peer(address: SocketAddr, query: &str, offers: &str, chosen: &str) -> Peer<TcpStream> {
    let upgrade = Upgrade::get(&format!("/api/v1/namespaces/default/pods/p/portforward?{query}"));
    let upgrade = if offers.is_empty() { upgrade } else { upgrade.subprotocol(offers) };
    let answer = upgrade.send(TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(answer.subprotocol().unwrap_or_default(), chosen);
    answer.into_peer().await
}

fn with_port(channel: u8, port: u16) -> Vec<u8> {
    [&[channel][..], &port.to_le_bytes()].concat()
}

/// Each channel says its port first, in exactly three bytes: the Python client insists on that.
#[tokio::test]
async fn a_session_frame_by_frame() {
    let (listener, port) = target().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for (offers, chosen) in [
        ("v4.channel.k8s.io", "v4.channel.k8s.io"),
        ("v5.channel.k8s.io,v4.channel.k8s.io", "v4.channel.k8s.io"),
        ("", ""),
    ] {
        let mut peer = peer(address, &format!("ports={port}"), offers, chosen).await;
        peer.expect_binary(&with_port(0, port)).await;
        peer.expect_binary(&with_port(1, port)).await;
        let mut socket = accept(&listener).await;
        // The Python client sends text where it is given text.
        peer.send_binary(b"\x00GET ").await;
        peer.send_text("\0/").await;
        assert_eq!(read_exact(&mut socket, 5).await, b"GET /");
        socket.write_all(b"200").await.unwrap();
        peer.expect_binary(b"\x00200").await;
        // What comes on the error channel, or nowhere, is dropped.
        peer.send_binary(b"\x01x").await;
        peer.send_binary(b"\x09x").await;
        peer.send_binary(b"\x00").await;
        drop(socket);
        // The only connection is over, and so is the session: behind all of the data, in good order.
        assert_eq!(peer.expect_close(1000).await, "");
        peer.close(1000).await;
        peer.expect_eof().await;
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!((report.connections, report.failed), (1, 0), "{report}");
    }
}

/// Channels cannot say that one direction has ended: a target that ends its own takes the upload down with it. That is no
/// end of the upload, and the target must not see one.
#[tokio::test]
async fn an_upload_that_the_targets_end_cuts_off_is_reset() {
    let (listener, port) = target().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    let v4 = "v4.channel.k8s.io";
    let mut peer = peer(address, &format!("ports={port}"), v4, v4).await;
    peer.next_message().await;
    peer.next_message().await;
    let mut socket = accept(&listener).await;
    peer.send_binary(b"\x00half of").await;
    assert_eq!(read_exact(&mut socket, 7).await, b"half of");
    socket.write_all(b"answer").await.unwrap();
    socket.shutdown().await.unwrap();
    peer.expect_binary(b"\x00answer").await;
    assert_eq!(peer.expect_close(1000).await, "");
    let error = read_all(&mut socket).await.expect_err("an end in good order");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    peer.close(1000).await;
    // The answer was whole: no failure.
    assert_eq!(soon(reports.recv()).await.unwrap().failed, 0);
}

#[tokio::test]
async fn a_session_in_base64() {
    let (listener, port) = target().await;
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    let protocol = "v4.base64.channel.k8s.io";
    let mut peer = peer(address, "ports=12345&ports=12345", protocol, protocol).await;
    // Nothing listens there: all that comes are ports and causes.
    for channel in ["0", "1"] {
        // 12345 is 39 30: "9" "0".
        peer.expect_text(&format!("{channel}OTA=")).await;
    }
    drop(peer);
    let mut peer = self::peer(address, &format!("ports={port}"), protocol, protocol).await;
    peer.next_message().await;
    peer.next_message().await;
    let mut socket = accept(&listener).await;
    peer.send_text("0aGVsbG8=").await;
    assert_eq!(read_exact(&mut socket, 5).await, b"hello");
    socket.write_all(b"world").await.unwrap();
    peer.expect_text("0d29ybGQ=").await;
}

/// A refused port says why on its error channel, and the others live on. The session ends with the last of them.
#[tokio::test]
async fn a_refused_port_says_why_and_ends_no_other() {
    let ((listener, port), refused) = (target().await, closed_port().await);
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    let query = format!("ports={port}%2C{refused}&ports={port}");
    let mut peer = peer(address, &query, "v4.channel.k8s.io", "v4.channel.k8s.io").await;
    let mut first = accept(&listener).await;
    let mut second = accept(&listener).await;
    let mut ports = Vec::new();
    let cause = loop {
        match peer.next_message().await {
            Message::Binary(message) if message.len() == 3 => ports.push(message),
            Message::Binary(message) => break message,
            other => panic!("{other:?}"),
        }
    };
    ports.sort();
    let named = [port, port, refused, refused, port, port];
    let expected: Vec<_> = (0..).zip(named).map(|(channel, port)| with_port(channel, port)).collect();
    assert_eq!(ports, expected);
    let text = String::from_utf8(cause).unwrap();
    assert!(
        text.starts_with(&format!("\u{3}error forwarding port {refused}: cannot connect to 127.0.0.1")),
        "{text}"
    );
    // Which of the two is which is not known here.
    first.write_all(b"a").await.unwrap();
    second.write_all(b"a").await.unwrap();
    let mut channels = Vec::new();
    for _ in 0..2 {
        match peer.next_message().await {
            Message::Binary(message) => channels.push(message),
            other => panic!("{other:?}"),
        }
    }
    channels.sort();
    assert_eq!(channels, [b"\x00a", b"\x04a"]);
    drop(first);
    drop(second);
    peer.expect_close(1000).await;
    peer.close(1000).await;
    let report = soon(reports.recv()).await.unwrap();
    assert_eq!((report.connections, report.failed), (3, 1), "{report}");
}

/// A client that closes has said all it had to say: its target gets all of it, and its end.
#[tokio::test]
async fn the_close_of_the_session_is_the_end_of_data() {
    let (listener, port) = target().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    let protocol = "v4.channel.k8s.io";
    let mut peer = peer(address, &format!("ports={port}"), protocol, protocol).await;
    let mut socket = accept(&listener).await;
    peer.send_binary(&[&[0][..], &[7; 100_000]].concat()).await;
    peer.close(1000).await;
    assert_eq!(read_all(&mut socket).await.unwrap(), [7; 100_000]);
    // A client may still listen, as far as RFC 6455 goes.
    socket.write_all(b"tail").await.unwrap();
    drop(socket);
    peer.expect_binary(&with_port(0, port)).await;
    peer.expect_binary(&with_port(1, port)).await;
    peer.expect_binary(b"\x00tail").await;
    peer.expect_close(1000).await;
    let report = soon(reports.recv()).await.unwrap();
    assert_eq!((report.connections, report.failed), (1, 0), "{report}");
}

/// A target that holds on after its client has left is let go of.
#[tokio::test]
async fn a_target_that_does_not_close_is_let_go_of() {
    let (listener, port) = target().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    let protocol = "v4.channel.k8s.io";
    let mut peer = peer(address, &format!("ports={port}"), protocol, protocol).await;
    let _socket = accept(&listener).await;
    let left = tokio::time::Instant::now();
    peer.close(1000).await;
    let report = soon(reports.recv()).await.unwrap();
    assert!(left.elapsed() < Duration::from_secs(15), "{:?}", left.elapsed());
    assert_eq!(report.failed, 0, "{report}");
}

#[tokio::test]
async fn our_client_has_one_connection_for_each_time_a_port_is_named() {
    let (listener, port) = target().await;
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    for encoding in [Encoding::Binary, Encoding::Base64] {
        let session = open(address, client::channels([port, port], encoding)).await;
        let (mut one, mut two) = (session.connect(port).await, session.connect(port).await);
        for other in [port, port.wrapping_add(1)] {
            let none = session.forward.connect(other).await;
            assert!(matches!(none, Err(OpenError::NoChannel(port)) if port == other), "{none:?}");
        }
        let (mut first, mut second) = (accept(&listener).await, accept(&listener).await);
        one.send("one".into()).await.unwrap();
        two.send("two".into()).await.unwrap();
        let mut got = [read_exact(&mut first, 3).await, read_exact(&mut second, 3).await];
        got.sort();
        assert_eq!(got, [b"one", b"two"]);
        // There is no way to say it before the session ends; that is an error that can be seen.
        assert_eq!(one.close().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
        assert!(!one.half_closes());
        one.send("!".into()).await.unwrap();
        drop((first, second));
        assert_eq!(read_all(&mut one).await.unwrap(), b"");
        assert_eq!(read_all(&mut two).await.unwrap(), b"");
        let end = soon(session.driver).await.unwrap();
        assert!(matches!(end, SessionEnd::WebSocket(_)) && end.is_orderly(), "{end}");
    }
}

/// The cause of a refusal reaches our client as the report of that connection alone.
#[tokio::test]
async fn our_client_is_told_which_port_failed() {
    let ((listener, port), refused) = (target().await, closed_port().await);
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    let session = open(address, client::channels([refused, port], Encoding::Binary)).await;
    let mut bad = session.forward.connect(refused).await.unwrap();
    let mut good = session.forward.connect(port).await.unwrap();
    let text = soon(bad.report.wait()).await.unwrap();
    assert!(text.starts_with(&format!("error forwarding port {refused}: ")), "{text}");
    accept(&listener).await.write_all(b"fine").await.unwrap();
    assert_eq!(read_all(&mut good.stream).await.unwrap(), b"fine");
    assert_eq!(soon(good.report.wait()).await, None);
}

/// An abort of the target must not become an end in good order on the way. Of the session's end most clients see only the
/// code.
#[tokio::test]
async fn an_abort_of_the_target_is_no_end_over_channels() {
    let (listener, port) = target().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    let v4 = "v4.channel.k8s.io";
    let mut peer = peer(address, &format!("ports={port}"), v4, v4).await;
    let mut socket = accept(&listener).await;
    socket.write_all(b"half of").await.unwrap();
    peer.expect_binary(&with_port(0, port)).await;
    peer.expect_binary(&with_port(1, port)).await;
    peer.expect_binary(b"\x00half of").await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    let Message::Binary(cause) = peer.next_message().await else { panic!("no cause") };
    assert!(cause.starts_with(b"\x01error forwarding port"), "{cause:?}");
    assert_eq!(peer.expect_close(1011).await, "the connection to the port failed");
    peer.close(1011).await;
    assert_eq!(soon(reports.recv()).await.unwrap().failed, 1);
    for encoding in [Encoding::Binary, Encoding::Base64] {
        let session = open(address, client::channels([port], encoding)).await;
        let mut connected = session.forward.connect(port).await.unwrap();
        let mut socket = accept(&listener).await;
        socket.write_all(b"half of").await.unwrap();
        assert_eq!(read_exact(&mut connected.stream, 7).await, b"half of");
        socket.set_zero_linger().unwrap();
        drop(socket);
        read_all(&mut connected.stream).await.expect_err("an end in good order");
        let text = soon(connected.report.wait()).await.unwrap();
        assert!(text.starts_with("error forwarding port"), "{text}");
    }
}

/// The session's end has one code. A connection that was whole before another one failed is not lost by that.
#[tokio::test]
async fn a_whole_connection_beside_one_that_fails_last_ends_in_good_order() {
    let ((whole, port), (fails, other)) = (target().await, target().await);
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for encoding in [Encoding::Binary, Encoding::Base64] {
        let session = open(address, client::channels([port, other], encoding)).await;
        let mut first = session.forward.connect(port).await.unwrap();
        let mut second = session.forward.connect(other).await.unwrap();
        let (mut socket, mut aborted) = (accept(&whole).await, accept(&fails).await);
        socket.write_all(b"all of it").await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(read_exact(&mut first.stream, 9).await, b"all of it");
        // Its end has been passed on, and what comes from there is cut off.
        assert!(soon(socket.read(&mut [0])).await.is_err());
        aborted.write_all(b"half of").await.unwrap();
        assert_eq!(read_exact(&mut second.stream, 7).await, b"half of");
        aborted.set_zero_linger().unwrap();
        drop(aborted);
        assert_eq!(read_all(&mut first.stream).await.unwrap(), b"");
        read_all(&mut second.stream).await.expect_err("an end in good order");
        assert_eq!(soon(reports.recv()).await.unwrap().failed, 1);
    }
}

/// Upstream's server ends with Close 1000 whatever became of the connections: what it says on the error channel counts,
/// whether or not somebody has read it there.
#[tokio::test]
async fn an_error_text_before_a_close_in_good_order_is_no_end() {
    for (said, read_first, expected) in [
        (&b"\x01cause"[..], false, Some("cause")),
        (b"\x01cause", true, Some("the server says on the error channel that it failed")),
        (b"\x01", false, None),
    ] {
        let address = web::serve(move |mut request| {
            let upgrade = Upgraded::accept(&mut request, PORTFORWARD_WEBSOCKET).unwrap();
            let response = upgrade.response();
            tokio::spawn(async move {
                let mut peer = Peer::server(TokioIo::new(upgrade.into_stream().await.unwrap()));
                peer.send_binary(&with_port(0, 80)).await;
                peer.send_binary(&with_port(1, 80)).await;
                peer.send_binary(b"\x00half of").await;
                peer.send_binary(said).await;
                peer.close(1000).await;
                peer.try_next_message().await
            });
            web::switching(response)
        })
        .await;
        let session = open(address, client::channels([80], Encoding::Binary)).await;
        let mut connected = session.forward.connect(80).await.unwrap();
        if read_first {
            assert_eq!(soon(connected.report.wait()).await.unwrap(), "cause");
        }
        assert_eq!(read_exact(&mut connected.stream, 7).await, b"half of");
        match expected {
            None => assert_eq!(read_all(&mut connected.stream).await.unwrap(), b""),
            Some(text) => {
                let error = read_all(&mut connected.stream).await.expect_err("an end in good order");
                assert_eq!(error.to_string(), text);
                let report = soon(connected.report.wait()).await;
                assert_eq!(report.as_deref(), (!read_first).then_some("cause"));
            }
        }
    }
}

/// A server that answers for another port is not believed.
#[tokio::test]
async fn our_client_checks_the_port_that_comes_first() {
    for (said, believed) in [([0, 81, 0], false), ([0, 80, 1], false), ([0, 80, 0], true)] {
        let address = web::serve(move |mut request| {
            let upgrade = Upgraded::accept(&mut request, PORTFORWARD_WEBSOCKET).unwrap();
            let response = upgrade.response();
            tokio::spawn(async move {
                let mut peer = Peer::server(TokioIo::new(upgrade.into_stream().await.unwrap()));
                // The port may come in two messages: their boundaries mean nothing to us.
                peer.send_binary(&said[..2]).await;
                peer.send_binary(&[0, said[2]]).await;
                peer.send_binary(b"\x00data").await;
                peer.try_next_message().await
            });
            web::switching(response)
        })
        .await;
        let session = open(address, client::channels([80], Encoding::Binary)).await;
        let mut stream = session.connect(80).await;
        if believed {
            assert_eq!(read_exact(&mut stream, 4).await, b"data");
        } else {
            let error = read_all(&mut stream).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        }
    }
}
