//! How SPDY connections end: in good order, by a slow reader, by the peer, by being dropped.

#![cfg(feature = "net")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod spdy_common;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use spdy_common::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wsstream::Timeouts;
use wsstream::proto::spdy::Event;
use wsstream::spdy::{Builder, End, GoAwayStatus, Loss, OpenError, ReadError, ResetStatus, Side, WriteError};
use wsstream::transport::UnsentProbe;
use wsstream_testing::{Plan, Stall, awkward_pair};

fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Timeouts {
    let mut timeouts = Timeouts::default();
    change(&mut timeouts);
    timeouts
}

#[tokio::test]
async fn shutdown_sends_what_was_queued_and_then_says_goodbye() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (mut finished, mut finished_peer) = pair.stream().await;
        let (mut unfinished, mut unfinished_peer) = pair.stream().await;
        finished.writer().send(pattern(120_000)).await.unwrap();
        finished.writer().close().unwrap();
        unfinished.writer().send(pattern(130_000)).await.unwrap();
        pair.server.shutdown(GoAwayStatus::OK);
        assert_eq!(
            unfinished.writer().send(Bytes::from_static(b"x")).await,
            Err(WriteError::Lost(Loss::ShutDown))
        );
        assert_eq!(soon(unfinished.reader().chunk()).await, Err(ReadError::Lost(Loss::ShutDown)));
        assert!(soon(pair.server.accept()).await.is_none());

        let (bytes, end) = all(finished_peer.reader()).await;
        assert_eq!((bytes.len(), end), (120_000, Ok(())), "{carrier:?}");
        let (bytes, end) = all(unfinished_peer.reader()).await;
        assert_eq!((bytes.len(), end), (130_000, Err(ReadError::Reset(ResetStatus::CANCEL))));
        let by_peer = End::Closed { by: Side::Peer, status: GoAwayStatus::OK };
        assert_eq!(soon(pair.client.disconnected()).await, by_peer);
        // The peer sees the end of the stream, and ends too.
        assert_eq!(soon(pair.client_end).await.unwrap(), by_peer);
        let by_us = End::Closed { by: Side::Local, status: GoAwayStatus::OK };
        assert_eq!(soon(pair.server_end).await.unwrap(), by_us);
        assert_eq!(soon(pair.server.ended()).await, by_us);
    }
}

/// A wire that takes all and never says that it was flushed, as a tunnel whose own wire stands still. Whoever waited for
/// that waited for ever when the peer ended the connection.
#[tokio::test(start_paused = true)]
async fn a_flush_ends_with_the_connection() {
    struct Unflushed(tokio::io::DuplexStream);

    impl tokio::io::AsyncRead for Unflushed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl tokio::io::AsyncWrite for Unflushed {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, data)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (client, client_end) = Builder::client().start(Unflushed(ours));
    let client_end = tokio::spawn(client_end);
    let (server, server_end) = Builder::server().start(theirs);
    tokio::spawn(server_end);
    let mut stream = client.open(&headers("data"), false).await.unwrap();
    let _far = server.accept().await.unwrap().accept();
    stream.replied().await.unwrap();
    stream.writer().send(Bytes::from_static(b"x")).await.unwrap();
    let shutting = tokio::spawn(async move { stream.shutdown().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!shutting.is_finished());
    server.shutdown(GoAwayStatus::OK);
    client_end.await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(60), shutting).await.unwrap().unwrap();
    error.expect_err("nobody knows whether it arrived");
}

#[tokio::test]
async fn a_slow_reader_gets_every_byte_of_a_connection_that_was_shut_down() {
    for (probe, pings) in [(true, true), (true, false), (false, true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (theirs, ours) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (theirs, ours) = (theirs.unwrap(), ours.unwrap().0);
        socket2::SockRef::from(&theirs).set_recv_buffer_size(64 << 10).unwrap();
        let socket = wsstream::tcp::TcpSocket::new(ours);
        let (server, driver) = Builder::server()
            .unsent_probe(probe.then(|| socket.unsent_probe()))
            .limits(limits(|limits| {
                limits.send_stream = 8 << 20;
                limits.send_total = 8 << 20;
            }))
            .timeouts(timeouts(|timeouts| timeouts.close = Duration::from_millis(300)))
            .start(socket);
        let driver = tokio::spawn(driver);
        let mut peer = Script::client(theirs);
        let id = peer.session.open(&headers("data"), false).unwrap();
        peer.flush().await;
        let mut stream = soon(server.accept()).await.unwrap().accept();
        stream.writer().send(pattern(3 << 20)).await.unwrap();
        stream.writer().close().unwrap();
        server.shutdown(GoAwayStatus::OK);
        drop((server, stream));

        let (mut got, mut finished, mut rounds) = (Vec::new(), false, 0);
        loop {
            match peer.event().await {
                Some(Event::Data { id: of, bytes }) if of == id => got.extend(bytes),
                Some(Event::Fin { id: of }) if of == id => finished = true,
                Some(Event::GoAway { .. }) => break,
                Some(_) => {}
                None => panic!("cut off after {} bytes", got.len()),
            }
            rounds += 1;
            if rounds % 4 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if pings {
                    // Once the server has closed its socket this would be answered by a reset of all that is unread.
                    peer.session.ping().unwrap();
                    peer.flush().await;
                }
            }
        }
        assert!(finished && got == pattern(3 << 20), "{} bytes", got.len());
        drop(peer);
        let end = soon(driver).await.unwrap();
        assert_eq!(end, End::Closed { by: Side::Local, status: GoAwayStatus::OK });
    }
}

#[tokio::test]
async fn pings_that_nobody_read_do_not_reset_the_socket_under_the_last_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (theirs, ours) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let socket = wsstream::tcp::TcpSocket::new(ours.unwrap().0);
    let (server, driver) = Builder::server()
        .unsent_probe(Some(socket.unsent_probe()))
        // So small that the connection stops reading at once.
        .limits(limits(|limits| limits.receive_buffer = 1000))
        .start(socket);
    let driver = tokio::spawn(driver);
    let mut peer = Script::client(theirs.unwrap());
    let id = peer.session.open(&headers("data"), false).unwrap();
    peer.flush().await;
    let mut stream = soon(server.accept()).await.unwrap().accept();
    peer.until(|event| matches!(event, Event::Replied { .. }).then_some(())).await;
    peer.session.data(id, pattern(500_000), false).unwrap();
    peer.flush().await;
    for _ in 0..50 {
        peer.session.ping().unwrap();
    }
    peer.flush().await;
    while server.stats().waiting == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stream.writer().send(pattern(1 << 20)).await.unwrap();
    stream.writer().close().unwrap();
    server.shutdown(GoAwayStatus::OK);
    let mut got = 0;
    loop {
        match peer.event().await {
            Some(Event::Data { bytes, .. }) => got += bytes.len(),
            Some(Event::GoAway { .. }) => break,
            Some(_) => {}
            None => panic!("reset after {got} bytes"),
        }
    }
    assert_eq!(got, 1 << 20);
    drop(peer);
    assert!(matches!(soon(driver).await.unwrap(), End::Closed { by: Side::Local, .. }));
}

#[tokio::test]
async fn an_end_without_goodbye_is_a_loss_for_what_is_unfinished_only() {
    for carrier in CARRIERS {
        let (server_io, client_io) = carry(carrier);
        let (client, driver) = Builder::client().start(client_io);
        let driver = tokio::spawn(driver);
        let mut peer = Script::server(server_io);
        let mut done = client.open(&headers("data"), false).await.unwrap();
        let mut open = client.open(&headers("data"), false).await.unwrap();
        for _ in 0..2 {
            let id = peer.until(|event| match event {
                Event::StreamOpened { id, .. } => Some(id),
                _ => None,
            });
            let id = id.await;
            peer.session.reply(id, &headers("x"), false).unwrap();
            peer.session.data(id, Bytes::from_static(b"some"), id == done.id()).unwrap();
        }
        peer.flush().await;
        peer.io.shutdown().await.unwrap();
        assert_eq!(all(done.reader()).await, (b"some".to_vec(), Ok(())));
        assert_eq!(all(open.reader()).await, (b"some".to_vec(), Err(ReadError::Lost(Loss::Eof))));
        assert_eq!(open.writer().send(pattern(5)).await, Err(WriteError::Lost(Loss::Eof)));
        assert_eq!(soon(driver).await.unwrap(), End::Lost(Loss::Eof), "{carrier:?}");
        let refused = client.open(&headers("x"), false).await;
        assert!(matches!(refused, Err(OpenError::Lost(Loss::Eof))), "{refused:?}");
    }
}

#[tokio::test]
async fn streams_go_on_behind_the_peers_goodbye() {
    let (server_io, client_io) = carry(Carrier::Smooth);
    let (server, driver) = Builder::server().start(server_io);
    let driver = tokio::spawn(driver);
    let mut peer = Script::client(client_io);
    let id = peer.session.open(&headers("data"), true).unwrap();
    peer.session.go_away(GoAwayStatus::OK);
    peer.flush().await;
    let mut stream = soon(server.accept()).await.expect("it was opened before").accept();
    assert!(soon(server.accept()).await.is_none());
    soon(server.disconnected()).await;
    stream.writer().send(pattern(100_000)).await.unwrap();
    stream.writer().close().unwrap();
    let mut got = 0;
    loop {
        match peer.event().await.unwrap() {
            Event::Data { id: of, bytes } if of == id => got += bytes.len(),
            Event::Fin { .. } => break,
            _ => {}
        }
    }
    assert_eq!(got, 100_000);
    drop(peer);
    assert_eq!(soon(driver).await.unwrap(), End::Closed { by: Side::Peer, status: GoAwayStatus::OK });
}

#[tokio::test]
async fn a_dropped_connection_tells_the_peer() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (mut server, client) = pair.stream().await;
        drop((pair.client, client));
        assert_eq!(soon(pair.client_end).await.unwrap(), End::Lost(Loss::Abandoned));
        assert_eq!(soon(server.reader().chunk()).await, Err(ReadError::Reset(ResetStatus::CANCEL)));
        let by_peer = End::Closed { by: Side::Peer, status: GoAwayStatus::INTERNAL_ERROR };
        assert_eq!(soon(pair.server_end).await.unwrap(), by_peer, "{carrier:?}");
    }
}

#[tokio::test]
async fn streams_keep_the_connection_and_the_last_one_ends_it() {
    let pair = linked(Carrier::Smooth);
    let (mut server, mut client) = pair.stream().await;
    drop(pair.client);
    client.writer().send(Bytes::from_static(b"still there")).await.unwrap();
    client.writer().close().unwrap();
    assert_eq!(all(server.reader()).await, (b"still there".to_vec(), Ok(())));
    drop(client);
    assert_eq!(soon(pair.client_end).await.unwrap(), End::Lost(Loss::Abandoned));
}

#[tokio::test]
async fn a_dropped_driver_ends_everything_at_once() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (_server, client) = pair.stream().await;
        let (mut reader, mut writer) = client.split();
        let waits = tokio::spawn(async move { reader.chunk().await });
        let accepts = tokio::spawn({
            let client = pair.client.clone();
            async move { client.accept().await.is_none() }
        });
        settle().await;
        pair.client_end.abort();
        assert_eq!(soon(waits).await.unwrap(), Err(ReadError::Lost(Loss::DriverDropped)));
        assert!(soon(accepts).await.unwrap());
        assert_eq!(writer.send(Bytes::from_static(b"x")).await, Err(WriteError::Lost(Loss::DriverDropped)));
        assert_eq!(writer.flushed().await, Err(WriteError::Lost(Loss::DriverDropped)));
        assert_eq!(soon(pair.client.ended()).await, End::Lost(Loss::DriverDropped));
        assert_eq!(soon(pair.server_end).await.unwrap(), End::Lost(Loss::Eof));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_says_nothing_before_the_clients_first_frame() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let (server, driver) = Builder::server().start(ours);
    let driver = tokio::spawn(driver);
    let mut early = server.open(&headers("x"), false).await.unwrap();
    // Two pings would be due, and a goodbye.
    tokio::time::sleep(Duration::from_secs(100)).await;
    server.shutdown(GoAwayStatus::OK);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut one = [0];
    let early_byte = tokio::time::timeout(Duration::from_secs(5), theirs.read(&mut one)).await;
    assert!(early_byte.is_err(), "{early_byte:?}");
    // The head of a PING, and it all comes.
    theirs.write_all(&control(6, 0, 4, &[0, 0, 0, 1])).await.unwrap();
    let mut all = Vec::new();
    soon(theirs.read_to_end(&mut all)).await.unwrap();
    assert!(all.ends_with(&control(7, 0, 8, &[0; 8])), "{all:02x?}");
    drop(theirs);
    assert!(matches!(soon(driver).await.unwrap(), End::Closed { by: Side::Local, .. }));
    assert!(early.reader().chunk().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_speaks_is_not_waited_for_for_ever() {
    let (ours, _theirs) = tokio::io::duplex(1 << 16);
    let (server, driver) = Builder::server().start(ours);
    let driver = tokio::spawn(driver);
    server.shutdown(GoAwayStatus::OK);
    let end = tokio::time::timeout(Duration::from_secs(100), driver).await.unwrap().unwrap();
    assert_eq!(end, End::Closed { by: Side::Local, status: GoAwayStatus::OK });
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_end_is_waited_for_as_long_as_it_reads() {
    let stall = Stall::open();
    let (ours, theirs) =
        awkward_pair(Plan::smooth().stall_writes(&stall).unrecorded(), Plan::smooth().unrecorded(), 16 << 10);
    let (server, driver) = Builder::server().start(ours);
    let driver = tokio::spawn(driver);
    let mut peer = Script::client(theirs);
    peer.session.open(&headers("data"), true).unwrap();
    peer.flush().await;
    let mut stream = soon(server.accept()).await.unwrap().accept();
    stream.writer().send(pattern(100_000)).await.unwrap();
    stream.writer().close().unwrap();
    server.shutdown(GoAwayStatus::OK);
    // An hour without reading anything, and then one event a minute.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let mut got = 0;
    loop {
        match peer.event().await.expect("not cut off") {
            Event::Data { bytes, .. } => got += bytes.len(),
            Event::GoAway { .. } => break,
            _ => {}
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(got, 100_000);
    // It has everything and says nothing more: two rounds of patience.
    let end = tokio::time::timeout(Duration::from_secs(100), driver).await.unwrap().unwrap();
    assert_eq!(end, End::Closed { by: Side::Local, status: GoAwayStatus::OK });
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_keep_a_closed_connection_for_a_while() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let probe = UnsentProbe::new(|| Some(0));
    let (server, driver) = Builder::server().unsent_probe(Some(probe)).start(ours);
    let driver = tokio::spawn(driver);
    let mut peer = Script::client(theirs);
    peer.session.open(&headers("data"), true).unwrap();
    peer.flush().await;
    let stream = soon(server.accept()).await.unwrap().accept();
    server.shutdown(GoAwayStatus::OK);
    let start = tokio::time::Instant::now();
    let pings = async {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            _ = peer.session.ping();
            let outbox = peer.session.outbox();
            let bytes = bytes::Buf::copy_to_bytes(outbox, bytes::Buf::remaining(outbox));
            if peer.io.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let (end, ()) = tokio::join!(driver, pings);
    assert_eq!(end.unwrap(), End::Closed { by: Side::Local, status: GoAwayStatus::OK });
    let took = start.elapsed();
    assert!(took > Duration::from_secs(600) && took < Duration::from_secs(720), "{took:?}");
    drop(stream);
}

#[tokio::test]
async fn what_had_arrived_is_read_although_writing_fails() {
    // A server that is done may close its socket under a client that still sends; its last words are the status.
    let (server_io, client_io) =
        awkward_pair(Plan::smooth().unrecorded(), Plan::smooth().write_ends_at(2000).unrecorded(), 64 << 10);
    let (client, driver) = Builder::client().start(client_io);
    let mut peer = Script::server(server_io);
    let driver = tokio::spawn(driver);
    let mut stream = client.open(&headers("data"), false).await.unwrap();
    let id = peer.until(|event| match event {
        Event::StreamOpened { id, .. } => Some(id),
        _ => None,
    });
    let id = id.await;
    peer.session.reply(id, &headers("x"), false).unwrap();
    peer.session.data(id, Bytes::from_static(b"the status"), true).unwrap();
    peer.session.go_away(GoAwayStatus::OK);
    peer.flush().await;
    while client.stats().received == 0 {
        tokio::task::yield_now().await;
    }
    let lost = async {
        loop {
            if let Err(error) = stream.writer().send(pattern(10_000)).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(matches!(soon(lost).await, WriteError::Lost(Loss::Io(std::io::ErrorKind::BrokenPipe, _))));
    assert_eq!(all(stream.reader()).await, (b"the status".to_vec(), Ok(())));
    assert!(matches!(soon(driver).await.unwrap(), End::Lost(Loss::Io(..))));
}

#[tokio::test]
async fn bytes_that_came_with_the_upgrade_are_not_lost() {
    for cut in [0, 1, 7, 8, 30, 60] {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let mut peer = wsstream::proto::spdy::Session::client(wsstream::proto::spdy::Limits::default());
        peer.open(&headers("stdin"), false).unwrap();
        let outbox = peer.outbox();
        let bytes = bytes::Buf::copy_to_bytes(outbox, bytes::Buf::remaining(outbox));
        let (early, late) = bytes.split_at(cut.min(bytes.len()));
        let (server, driver) = Builder::server().already_read(Bytes::copy_from_slice(early)).start(ours);
        tokio::spawn(driver);
        theirs.write_all(late).await.unwrap();
        let incoming = soon(server.accept()).await.unwrap();
        assert_eq!(incoming.headers().text("streamtype"), Some("stdin"), "cut at {cut}");
    }
}
