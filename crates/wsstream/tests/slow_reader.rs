//! A peer that reads slowly gets everything, and one that neither reads nor closes is not waited for for ever.

#![cfg(feature = "net")]
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

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{CH0, CH1, CH3, client, limits, normal, scripted_client, server, soon, timeouts};
use tokio::time::{Instant, sleep};
use wsstream::Subprotocol;
use wsstream::connection::{End, Side};
use wsstream::tcp::TcpSocket;
use wsstream::transport::UnsentProbe;
use wsstream_testing::{Message, Peer};

/// Reads one message every few milliseconds, which comes to 1.5 MiB/s, with pings in between. Returns the output and
/// how long it took.
async fn read_slowly(peer: &mut Peer<tokio::net::TcpStream>, pings: bool) -> (Vec<u8>, Duration) {
    let (mut output, mut status) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for round in 0u32.. {
        match soon(peer.try_next_message()).await.unwrap() {
            Some(Message::Binary(message)) => match message[0] {
                1 => output.extend_from_slice(&message[1..]),
                3 => status.extend_from_slice(&message[1..]),
                channel => panic!("channel {channel}"),
            },
            Some(Message::Pong(_)) => {}
            Some(Message::Close(Some(1000), _)) => break,
            other => panic!("after {} bytes: {other:?}", output.len()),
        }
        if pings && round % 4 == 0 {
            // Once the server has closed its socket this would be answered by a reset.
            peer.try_send_raw(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status, b"{\"status\":\"Success\"}");
    (output, start.elapsed())
}

#[tokio::test]
async fn a_slow_reader_gets_every_byte_after_close() {
    let output = common::pattern(3 << 20);
    for (probe, pings) in [(true, true), (true, false), (false, true)] {
        let (ours, theirs) = common::tcp_pair().await;
        socket2::SockRef::from(&theirs).set_recv_buffer_size(64 << 10).unwrap();
        let socket = TcpSocket::new(ours);
        let builder = server(Subprotocol::V5)
            .unsent_probe(probe.then(|| socket.unsent_probe()))
            // All of it is queued at once, so that the end begins with everything unsent.
            .limits(limits(|l| l.send_buffer = 8 << 20))
            .timeouts(timeouts(|t| t.close = Duration::from_millis(300)));
        let (connection, driver) = builder.server(socket);
        let driver = tokio::spawn(driver);
        let mut stdout = connection.writer(CH1).unwrap();
        for part in output.chunks(32 << 10) {
            stdout.send(part.to_vec().into()).await.unwrap();
        }
        connection.writer(CH3).unwrap().send("{\"status\":\"Success\"}".into()).await.unwrap();
        connection.shutdown(&normal());

        let mut peer = Peer::client(theirs);
        let (got, took) = read_slowly(&mut peer, pings).await;
        assert!(got == output, "{} of {} bytes", got.len(), output.len());
        assert!(took > Duration::from_millis(1200), "it was no slow reader: {took:?}");
        peer.close(1000).await;
        peer.expect_eof().await;
        assert_eq!(soon(driver).await.unwrap(), End::Closed { by: Side::Local, reason: normal() });
    }
}

/// Closing a socket with unread input resets the connection and loses what was sent (RFC 1122 section 4.2.2.13):
/// upstream cuts the output of slow readers short like that (kubernetes/kubernetes issue 124571).
#[tokio::test]
async fn unread_input_at_the_end_does_not_reset_the_connection() {
    let (ours, theirs) = common::tcp_pair().await;
    let socket = TcpSocket::new(ours);
    let builder = server(Subprotocol::V5)
        .unsent_probe(Some(socket.unsent_probe()))
        .limits(limits(|l| l.receive_buffer = 16 << 10));
    let (connection, driver) = builder.server(socket);
    let driver = tokio::spawn(driver);
    let mut peer = Peer::client(theirs);
    for _ in 0..32 {
        peer.send_binary(&[0; 32 << 10]).await;
    }
    let output = common::pattern(2 << 20);
    let sending = async {
        common::until(|| connection.stats().waiting >= 16 << 10).await;
        let mut stdout = connection.writer(CH1).unwrap();
        for part in output.chunks(32 << 10) {
            stdout.send(part.to_vec().into()).await.unwrap();
        }
        connection.writer(CH3).unwrap().send("{\"status\":\"Success\"}".into()).await.unwrap();
        connection.shutdown(&normal());
    };
    let reading = async {
        let (got, _) = read_slowly(&mut peer, false).await;
        assert!(got == output, "{} of {} bytes", got.len(), output.len());
        // More of it, behind the server's Close.
        peer.send_binary(&[0; 100_000]).await;
        peer.close(1000).await;
        peer.expect_eof().await;
    };
    tokio::join!(sending, reading);
    assert_eq!(soon(driver).await.unwrap(), End::Closed { by: Side::Local, reason: normal() });
    assert!(connection.stats().received[0] >= 32 * ((32 << 10) - 1));
}

/// The kernel says that it has not got rid of everything: no bound runs. Once it has, the bound runs.
#[tokio::test(start_paused = true)]
async fn the_close_bound_runs_only_while_nothing_is_unsent() {
    let unsent = Arc::new(AtomicUsize::new(5));
    let probe = {
        let unsent = Arc::clone(&unsent);
        UnsentProbe::new(move || Some(unsent.load(Ordering::Relaxed)))
    };
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).unsent_probe(Some(probe)).server(io);
    let driver = tokio::spawn(driver);
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    // Just before it is looked at again.
    sleep(Duration::from_secs(3599)).await;
    assert!(!driver.is_finished());
    unsent.store(0, Ordering::Relaxed);
    // The client has yet to read what its kernel took just now, so it gets a whole period.
    let start = Instant::now();
    assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Local, reason: normal() });
    let took = start.elapsed().as_secs();
    assert!((30..=60).contains(&took), "{took} s");
}

/// Without a probe a sign of life is all there is to go by.
#[tokio::test(start_paused = true)]
async fn without_a_probe_the_close_bound_starts_anew_with_each_byte_of_the_peer() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    let driver = tokio::spawn(driver);
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    for _ in 0..10 {
        sleep(Duration::from_secs(20)).await;
        peer.ping(b"").await;
    }
    assert!(!driver.is_finished());
    let start = Instant::now();
    assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Local, reason: normal() });
    assert!((20..=90).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    // Everything was handed over, and then the stream ends.
    peer.expect_eof().await;
}

/// The kernel has handed everything over, yet the peer's program rests with the end of it unread: closing the socket
/// would let its next pong be answered by a reset, which can cost it what it had not read.
#[tokio::test(start_paused = true)]
async fn a_paused_peer_that_shows_life_is_waited_for_after_close() {
    let (io, mut peer) = scripted_client();
    let probe = UnsentProbe::new(|| Some(0));
    let (connection, driver) = server(Subprotocol::V5).unsent_probe(Some(probe)).server(io);
    let driver = tokio::spawn(driver);
    connection.writer(CH1).unwrap().send("tail".into()).await.unwrap();
    connection.shutdown(&normal());
    for _ in 0..19 {
        sleep(Duration::from_secs(31)).await;
        assert!(!driver.is_finished());
        peer.pong(b"").await;
    }
    // Signs of life alone do not hold a connection for ever.
    let start = Instant::now();
    for _ in 0..4 {
        sleep(Duration::from_secs(31)).await;
        if driver.is_finished() {
            break;
        }
        peer.pong(b"").await;
    }
    assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Local, reason: normal() });
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    peer.expect_binary(b"\x01tail").await;
    peer.expect_close(1000).await;
    peer.expect_eof().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_after_two_close_timeouts() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    let driver = tokio::spawn(driver);
    connection.writer(CH1).unwrap().send("tail".into()).await.unwrap();
    let start = Instant::now();
    connection.shutdown(&normal());
    assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Local, reason: normal() });
    assert_eq!(start.elapsed().as_secs(), 60);
    peer.expect_binary(b"\x01tail").await;
    peer.expect_close(1000).await;
    peer.expect_eof().await;
}

/// The wire itself refuses: the peer's window is shut, and only TCP can tell whether it lives.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_waited_for_while_the_wire_is_full() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).limits(limits(|l| l.send_buffer = 1 << 20)).server(io);
    let driver = tokio::spawn(driver);
    let output = common::pattern(200_000);
    connection.writer(CH1).unwrap().send(output.clone().into()).await.unwrap();
    connection.shutdown(&normal());
    sleep(Duration::from_secs(3600)).await;
    assert!(!driver.is_finished());
    peer.expect_stream(1, &output).await;
    peer.expect_close(1000).await;
    peer.close(1000).await;
    peer.expect_eof().await;
    assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Local, reason: normal() });
}

/// Our client as the slow reader of our server, over TCP, with all of its input unread: nothing is lost either way.
#[tokio::test]
async fn our_client_reads_slowly_and_gets_everything() {
    let (a, b) = common::tcp_pair().await;
    let socket = TcpSocket::new(a);
    let (served, serving) = server(Subprotocol::V5)
        .unsent_probe(Some(socket.unsent_probe()))
        .timeouts(timeouts(|t| t.close = Duration::from_millis(200)))
        .server(socket);
    let small = limits(|l| l.receive_buffer = 32 << 10);
    let (connection, driver) = client(Subprotocol::V5).limits(small).client(b);
    let ends = tokio::spawn(async { tokio::join!(serving, driver) });
    connection.writer(CH0).unwrap().send(vec![7; 10_000].into()).await.unwrap();
    let output = common::pattern(1 << 20);
    let mut writer = served.writer(CH1).unwrap();
    let mut stdout = connection.reader(CH1).unwrap();
    let sending = async {
        for part in output.chunks(32 << 10) {
            writer.send(part.to_vec().into()).await.unwrap();
        }
        served.shutdown(&normal());
    };
    let reading = async {
        let mut all = Vec::new();
        while let Some(chunk) = soon(stdout.chunk()).await.unwrap() {
            all.extend_from_slice(&chunk);
            sleep(Duration::from_millis(20)).await;
        }
        assert!(all == output, "{} of {} bytes", all.len(), output.len());
    };
    tokio::join!(sending, reading);
    let (served, connected) = soon(ends).await.unwrap();
    assert_eq!(served, End::Closed { by: Side::Local, reason: normal() });
    assert_eq!(connected, End::Closed { by: Side::Peer, reason: normal() });
}
