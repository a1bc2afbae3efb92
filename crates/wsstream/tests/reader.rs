//! The one-way reader protocols (logs): the rows S1 to S8 (the cases of upstream's stream_test in their order), with
//! Close 1011 where a source fails, which upstream ends as if it were complete. S5, the choice of the
//! subprotocol, is in `handshake.rs`.

#![cfg(all(feature = "client", feature = "server"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
#![allow(clippy::type_complexity, reason = "rows of tables are tuples")]

mod common;
#[path = "common/web.rs"]
mod web;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use common::{CH0, normal, smooth, soon, timeouts};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use wsstream::connection::{End, Loss, ReadError, Side};
use wsstream::proto::subprotocol::READER;
use wsstream::proto::ws::{CloseCode, CloseReason};
use wsstream::reader::{ReaderError, ReaderOptions, receiver, send, sender};
use wsstream::{Connection, Driver, Subprotocol, Timeouts};
use wsstream_testing::http::Upgrade;
use wsstream_testing::{Message, Peer};

const TEXT: &[u8] = b"some random text";

fn ready() -> ReaderOptions {
    let mut options = ReaderOptions::default();
    options.ready_message = true;
    options
}

/// A source that yields `parts` one by one, and then does what `last` says.
struct Source {
    parts: Vec<&'static [u8]>,
    last: fn() -> io::Result<()>,
}

impl AsyncRead for Source {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.parts.is_empty() {
            return Poll::Ready((self.last)());
        }
        buf.put_slice(self.parts.remove(0));
        Poll::Ready(Ok(()))
    }
}

fn one_second_idle() -> Timeouts {
    timeouts(|t| t.idle = Some(Duration::from_secs(1)))
}

async fn opened() -> (SocketAddr, mpsc::Receiver<(Connection, Driver)>) {
    web::connections(READER, |builder| sender(builder).timeouts(one_second_idle())).await
}

/// All that our client gets from `source`, how its stream ended, and what `send` returned.
async fn through_our_client(
    protocol: Subprotocol,
    source: impl AsyncRead + Send + 'static,
    options: ReaderOptions,
) -> (Vec<u8>, Result<(), ReadError>, Result<u64, ReaderError>) {
    let (address, mut opened) = opened().await;
    let (client, driver) = web::connect(address, [protocol]).await.unwrap().open(receiver);
    let (server, serving) = soon(opened.recv()).await.unwrap();
    let sending = tokio::spawn(send(server, serving, source, options));
    let driver = tokio::spawn(driver);
    let mut reader = client.reader(CH0).unwrap();
    let mut all = Vec::new();
    let end = loop {
        match soon(reader.chunk()).await {
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    soon(driver).await.unwrap();
    assert_eq!(client.stats().empty_messages, u64::from(options.ready_message));
    (all, end, soon(sending).await.unwrap())
}

/// S1 and S3: the bytes arrive, in either encoding; and nothing at all is a stream as well.
#[tokio::test]
async fn everything_arrives_and_the_end_is_clean() {
    let long: &'static [u8] = common::pattern(1 << 20).leak();
    for protocol in READER {
        for (text, options) in [
            (TEXT, ready()),
            (TEXT, ReaderOptions::default()),
            (b"", ready()),
            (b"", ReaderOptions::default()),
            (long, ready()),
        ] {
            let (all, end, sent) = through_our_client(protocol.clone(), text, options).await;
            assert!(all == text, "{}: {} of {} bytes", protocol.name(), all.len(), text.len());
            assert_eq!(end, Ok(()));
            assert_eq!(sent.unwrap(), text.len() as u64);
        }
    }
}

/// S2 and S3 frame by frame: the ready message, the text, the end. Base64 goes as text.
#[tokio::test]
async fn the_frames_are_upstreams() {
    let rows: [(&str, &[Message]); 3] = [
        ("", &[Message::Binary(vec![]), Message::Binary(TEXT.to_vec())]),
        ("binary.k8s.io", &[Message::Binary(vec![]), Message::Binary(TEXT.to_vec())]),
        (
            "base64.binary.k8s.io",
            &[Message::Text(vec![]), Message::Text(b"c29tZSByYW5kb20gdGV4dA==".to_vec())],
        ),
    ];
    let (address, mut opened) = opened().await;
    for (name, frames) in rows {
        let upgrade = Upgrade::get("/log");
        let upgrade = if name.is_empty() { upgrade } else { upgrade.subprotocol(name) };
        let answer = upgrade.send(TcpStream::connect(address).await.unwrap()).await;
        assert_eq!(answer.subprotocol().unwrap_or_default(), name);
        let mut peer = answer.into_peer().await;
        let (server, serving) = soon(opened.recv()).await.unwrap();
        let sending = tokio::spawn(send(server, serving, TEXT, ready()));
        for frame in frames {
            assert_eq!(peer.next_message().await, *frame, "{name:?}");
        }
        peer.expect_close(1000).await;
        peer.close(1000).await;
        peer.expect_eof().await;
        assert_eq!(soon(sending).await.unwrap().unwrap(), 16);
    }
}

/// S4: a set of a server's own.
#[tokio::test]
async fn names_of_ones_own() {
    use wsstream::proto::subprotocol::{Encoding, Framing};
    static OWN: [Subprotocol; 3] = [
        Subprotocol::READER_NONE,
        Subprotocol::custom("v1.binary.k8s.io", Encoding::Binary, Framing::Single),
        Subprotocol::custom("v2.base64.binary.k8s.io", Encoding::Base64, Framing::Single),
    ];
    let (address, mut opened) = web::connections(&OWN, sender).await;
    let upgrade = Upgrade::get("/log").subprotocol("v2.base64.binary.k8s.io");
    let mut peer = upgrade.send(TcpStream::connect(address).await.unwrap()).await.into_peer().await;
    let (server, serving) = soon(opened.recv()).await.unwrap();
    let sending = tokio::spawn(send(server, serving, TEXT, ReaderOptions::default()));
    peer.expect_text("c29tZSByYW5kb20gdGV4dA==").await;
    peer.expect_close(1000).await;
    peer.shutdown().await;
    peer.expect_eof().await;
    soon(sending).await.unwrap().unwrap();
}

/// S6: the text arrives, then the client is told, and so is the caller.
#[tokio::test]
async fn a_source_that_fails_ends_with_1011() {
    for protocol in READER {
        let last = || Err(io::Error::other("bad read"));
        let source = Source { parts: vec![b"some random", b" text"], last };
        let (all, end, sent) = through_our_client(protocol.clone(), source, ReaderOptions::default()).await;
        assert_eq!(all, TEXT);
        let reason = CloseReason::new(CloseCode::INTERNAL, "the source failed: bad read");
        assert_eq!(end, Err(ReadError::Closed(reason)));
        match sent {
            Err(ReaderError::Source(error)) => assert_eq!(error.to_string(), "bad read"),
            other => panic!("{other:?}"),
        }
    }
}

/// S7: a panic is contained; what was read before arrives.
#[tokio::test]
async fn a_source_that_panics_ends_with_1011() {
    let source = Source { parts: vec![TEXT], last: || panic!("the source panics, as it should") };
    let (all, end, sent) = through_our_client(Subprotocol::BINARY, source, ready()).await;
    assert_eq!(all, TEXT);
    let reason = CloseReason::new(CloseCode::INTERNAL, "the source panicked");
    assert_eq!(end, Err(ReadError::Closed(reason)));
    assert!(matches!(sent, Err(ReaderError::SourcePanicked)), "{sent:?}");
}

/// S8, 25 times as upstream: the source never ends, the client does.
#[tokio::test]
async fn a_client_that_leaves_early_ends_the_source() {
    for round in 0..25 {
        let (address, mut opened) = opened().await;
        let (client, driver) = web::connect(address, [Subprotocol::BINARY]).await.unwrap().open(receiver);
        let (server, serving) = soon(opened.recv()).await.unwrap();
        let (mut feed, source) = tokio::io::duplex(1000);
        let sending = tokio::spawn(send(server, serving, source, ready()));
        let driver = tokio::spawn(driver);
        let input = common::pattern(1 << 20);
        let feeding = tokio::spawn({
            let input = input.clone();
            // Ends when the source is dropped.
            async move { feed.write_all(&input).await.is_err() }
        });
        let mut reader = client.reader(CH0).unwrap();
        let mut all = vec![0; 500 * (round + 1)];
        soon(reader.read_exact(&mut all)).await.unwrap();
        match round % 3 {
            0 => client.shutdown(&normal()),
            1 => drop(client),
            _ => driver.abort(),
        }
        if round % 3 == 0 {
            // What was on its way still arrives.
            let mut rest = Vec::new();
            soon(reader.read_to_end(&mut rest)).await.unwrap();
            all.extend(rest);
        } else {
            drop(reader);
        }
        assert!(input.starts_with(&all), "a prefix");
        let error = soon(sending).await.unwrap().unwrap_err();
        assert!(matches!(error, ReaderError::Closed(_)), "round {round}: {error:?}");
        assert!(soon(feeding).await.unwrap(), "the source was dropped");
    }
}

/// A quiet source and a client that says what it likes: nothing of it matters but its Close.
#[tokio::test]
async fn what_the_client_sends_is_thrown_away() {
    let (io, theirs) = smooth();
    let (server, driver) = sender(Connection::builder(Subprotocol::BINARY)).server(io);
    let (feed, source) = tokio::io::duplex(100);
    let sending = tokio::spawn(send(server, driver, source, ready()));
    let mut peer = Peer::client(theirs);
    peer.expect_binary(b"").await;
    for _ in 0..200 {
        peer.send_binary(&[7; 10_000]).await;
    }
    peer.ping(b"x").await;
    peer.expect_pong(b"x").await;
    peer.close(1000).await;
    peer.expect_close(1000).await;
    peer.expect_eof().await;
    let end = End::Closed { by: Side::Peer, reason: normal() };
    assert!(matches!(soon(sending).await.unwrap(), Err(ReaderError::Closed(got)) if got == end));
    drop(feed);
}

/// A lost client is an error although the source has nothing to say.
#[tokio::test]
async fn a_client_that_vanishes_ends_a_quiet_source() {
    let (io, mut theirs) = smooth();
    let (server, driver) = sender(Connection::builder(Subprotocol::BINARY)).server(io);
    let (_feed, source) = tokio::io::duplex(100);
    let sending = tokio::spawn(send(server, driver, source, ReaderOptions::default()));
    theirs.shutdown().await.unwrap();
    let error = soon(sending).await.unwrap().unwrap_err();
    assert!(matches!(error, ReaderError::Closed(End::Lost(Loss::Eof))), "{error:?}");
}

/// S1's idle timeout: a source that says nothing for so long is closed, with 1001.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_idles_out_when_it_is_told_to() {
    let (io, theirs) = smooth();
    let builder = sender(Connection::builder(Subprotocol::BINARY)).timeouts(one_second_idle());
    let (server, driver) = builder.server(io);
    let (_feed, source) = tokio::io::duplex(100);
    let sending = tokio::spawn(send(server, driver, source, ReaderOptions::default()));
    let mut peer = Peer::client(theirs);
    assert_eq!(peer.expect_close(1001).await, "idle timeout");
    peer.close(1001).await;
    let error = soon(sending).await.unwrap().unwrap_err();
    let ReaderError::Closed(End::Lost(Loss::Idle(after))) = error else { panic!("{error:?}") };
    assert_eq!(after, Duration::from_secs(1));
}

/// Dropped, it cuts the connection: the client sees no clean end.
#[tokio::test]
async fn a_dropped_send_is_no_clean_end() {
    let (a, b) = smooth();
    let (server, serving) = sender(Connection::builder(Subprotocol::BINARY)).server(a);
    let (client, driver) = receiver(Connection::builder(Subprotocol::BINARY)).client(b);
    let (_feed, source) = tokio::io::duplex(100);
    let sending = tokio::spawn(send(server, serving, source, ReaderOptions::default()));
    let driver = tokio::spawn(driver);
    common::settle().await;
    sending.abort();
    assert_eq!(soon(client.reader(CH0).unwrap().chunk()).await, Err(ReadError::Lost(Loss::Eof)));
    assert_eq!(soon(driver).await.unwrap(), End::Lost(Loss::Eof));
}
