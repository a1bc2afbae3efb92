//! Connections that break near their end: what arrived is not lost, what was cut is not taken for whole, and nobody
//! waits for what cannot come. Each test is named after a bug.

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

use std::io;
use std::time::Duration;

use common::{
    CH0, CH1, CH3, client, limits, normal, scripted_client, scripted_server, server, soon, timeouts,
};
use futures_util::FutureExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};
use wsstream::connection::{ChannelReader, End, Loss, ReadError, Side, WriteError};
use wsstream::proto::connection::{SendError, Violation};
use wsstream::proto::ws::ProtocolError;
use wsstream::{Connection, Subprotocol};
use wsstream_testing::{Peer, Plan, awkward_pair};

/// Everything up to the end, and the end.
async fn read_all(reader: &mut ChannelReader) -> (Vec<u8>, Result<(), ReadError>) {
    let mut all = Vec::new();
    loop {
        match soon(reader.chunk()).await {
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Ok(None) => return (all, Ok(())),
            Err(error) => return (all, Err(error)),
        }
    }
}

/// A client that has closed still waits for the rest of the output; when that is cut it must not look like its end.
#[tokio::test]
async fn a_client_that_has_closed_does_not_take_a_cut_for_the_end() {
    for how in ["eof", "violation"] {
        let (io, mut peer) = scripted_server();
        let (connection, driver) = client(Subprotocol::V5).client(io);
        let driver = tokio::spawn(driver);
        let mut stdout = connection.reader(CH1).unwrap();
        connection.shutdown(&normal());
        peer.expect_close(1000).await;
        peer.send_binary(b"\x01the first half").await;
        let loss = if how == "eof" {
            peer.shutdown().await;
            Loss::Eof
        } else {
            peer.send_raw(&[0xf2, 0]).await;
            peer.expect_eof().await;
            peer.shutdown().await;
            Loss::Violation(Violation::WebSocket(ProtocolError::ReservedBits(7)))
        };
        let (all, end) = read_all(&mut stdout).await;
        assert_eq!(all, b"the first half");
        assert_eq!(end, Err(ReadError::Lost(loss.clone())), "{how}");
        assert_eq!(soon(driver).await.unwrap(), End::Lost(loss), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_close_is_never_answered_reports_that() {
    let (io, mut peer) = scripted_server();
    let (connection, driver) = client(Subprotocol::V5).client(io);
    let driver = tokio::spawn(driver);
    let mut stdout = connection.reader(CH1).unwrap();
    let start = Instant::now();
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    // Output is progress and starts the wait anew.
    sleep(Duration::from_secs(20)).await;
    peer.send_binary(b"\x01slow").await;
    assert_eq!(stdout.chunk().await.unwrap().unwrap(), "slow");
    let loss = Loss::CloseTimeout(Duration::from_secs(30));
    assert_eq!(driver.await.unwrap(), End::Lost(loss.clone()));
    assert_eq!(start.elapsed().as_secs(), 50);
    assert_eq!(stdout.chunk().await, Err(ReadError::Lost(loss.clone())));
    assert_eq!(io::Error::from(ReadError::Lost(loss)).kind(), io::ErrorKind::TimedOut);
}

/// While the client's own reader is slow the wire is not read: that is not the server's silence.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_closed_is_not_cut_because_its_reader_is_slow() {
    let (a, b) = common::smooth();
    let small = limits(|l| l.receive_buffer = 10_000);
    let (served, serving) = server(Subprotocol::V5).server(a);
    let (connection, driver) = client(Subprotocol::V5).limits(small).client(b);
    let ends = tokio::spawn(async { tokio::join!(serving, driver) });
    let mut stdout = connection.reader(CH1).unwrap();
    connection.shutdown(&normal());
    served.disconnected().await;
    let output = common::pattern(100_000);
    let mut writer = served.writer(CH1).unwrap();
    for part in output.chunks(5_000) {
        writer.send(part.to_vec().into()).await.unwrap();
    }
    served.shutdown(&normal());
    let mut all = Vec::new();
    loop {
        sleep(Duration::from_secs(100)).await;
        match stdout.chunk().await.unwrap() {
            Some(chunk) => all.extend_from_slice(&chunk),
            None => break,
        }
    }
    assert!(all == output, "{} of {} bytes", all.len(), output.len());
    let (_, connected) = ends.await.unwrap();
    assert_eq!(connected, End::Closed { by: Side::Local, reason: normal() });
}

/// Go's server closes its socket as soon as the command has ended, however much stdin is still on its way. The reset
/// may reach a client's next write before the client has read the status.
#[tokio::test]
async fn a_write_error_does_not_lose_what_has_arrived() {
    let plan = Plan::smooth().write_fails_at(1000, io::ErrorKind::ConnectionReset);
    let (ours, theirs) = awkward_pair(plan, Plan::smooth(), 64 << 10);
    let mut peer = Peer::server(theirs);
    let (connection, driver) = client(Subprotocol::V5).client(ours);
    peer.send_binary(b"\x01the output").await;
    peer.send_binary(b"\x03{\"status\":\"Success\"}").await;
    peer.close(1000).await;
    let mut stdin = connection.writer(CH0).unwrap();
    let mut failed = None;
    for _ in 0..100 {
        match stdin.send(vec![b'x'; 500].into()).await {
            Ok(()) => {}
            Err(error) => failed = Some(error),
        }
    }
    let loss = Loss::Io(io::ErrorKind::ConnectionReset, "connection reset".into());
    assert_eq!(failed, Some(WriteError::Lost(loss)));
    let (mut stdout, mut status) = (connection.reader(CH1).unwrap(), connection.reader(CH3).unwrap());
    // In the bug the wire was dropped before the driver had its first look at it.
    assert_eq!(soon(driver).await, End::Closed { by: Side::Peer, reason: normal() });
    assert_eq!(read_all(&mut stdout).await, (b"the output".to_vec(), Ok(())));
    assert_eq!(read_all(&mut status).await.0, b"{\"status\":\"Success\"}");
}

/// The same on a server: a client that sends its input and is gone at once.
#[tokio::test]
async fn a_write_error_does_not_lose_a_vanished_clients_input() {
    for close in [true, false] {
        let plan = Plan::smooth().write_ends_at(0);
        let (ours, theirs) = awkward_pair(plan, Plan::smooth(), 64 << 10);
        let mut peer = Peer::client(theirs);
        peer.send_binary(b"\x00all of it").await;
        if close {
            peer.send_binary(b"\xff\x00").await;
            peer.close(1000).await;
        }
        let (connection, driver) = server(Subprotocol::V5).server(ours);
        connection.writer(CH1).unwrap().send("ready".into()).await.unwrap();
        let loss = Loss::Io(io::ErrorKind::BrokenPipe, "broken pipe".into());
        assert_eq!(
            connection.writer(CH1).unwrap().send("x".into()).await,
            Err(WriteError::Lost(loss.clone()))
        );
        assert_eq!(soon(connection.disconnected()).await, End::Lost(loss.clone()));
        let mut stdin = connection.reader(CH0).unwrap();
        assert_eq!(soon(driver).await, End::Lost(loss.clone()));
        let end = if close { Ok(()) } else { Err(ReadError::Lost(loss)) };
        assert_eq!(read_all(&mut stdin).await, (b"all of it".to_vec(), end));
    }
}

/// The input that waits for its reader is not given up when writing fails meanwhile.
#[tokio::test]
async fn a_write_error_leaves_a_slow_reader_its_time() {
    let plan = Plan::smooth().write_ends_at(0);
    let (ours, theirs) = awkward_pair(plan, Plan::smooth(), 64 << 10);
    let mut peer = Peer::client(theirs);
    let input = common::pattern(50_000);
    for part in input.chunks(1000) {
        peer.send_binary(&[&[0], part].concat()).await;
    }
    let small = limits(|l| l.receive_buffer = 2000);
    let (connection, driver) = server(Subprotocol::V5).limits(small).server(ours);
    let driver = tokio::spawn(driver);
    let mut stdin = connection.reader(CH0).unwrap();
    connection.writer(CH1).unwrap().send("ready".into()).await.unwrap();
    soon(connection.disconnected()).await;
    common::settle().await;
    assert!(!driver.is_finished());
    let (all, end) = read_all(&mut stdin).await;
    assert!(all == input, "{} of {} bytes", all.len(), input.len());
    assert!(end.is_err());
    assert!(matches!(soon(driver).await.unwrap(), End::Lost(Loss::Io(..))));
}

/// The whole of it over TCP: the server's kernel resets because of the unread input.
#[tokio::test]
async fn a_reset_behind_the_close_is_no_loss() {
    let mut resets = 0;
    for round in 0..20 {
        let (mut theirs, ours) = common::tcp_pair().await;
        let (connection, driver) = client(Subprotocol::V5).client(wsstream::tcp::TcpSocket::new(ours));
        let mut stdin = connection.writer(CH0).unwrap();
        stdin.send(vec![b'x'; 10_000].into()).await.unwrap();
        // Unread input in the server's socket, then all that a server says, then the end.
        theirs.readable().await.unwrap();
        theirs.write_all(b"\x82\x05\x01last\x82\x03\x03{}\x88\x02\x03\xe8").await.unwrap();
        drop(theirs);
        sleep(Duration::from_millis(2)).await;
        for _ in 0..=round {
            resets += usize::from(stdin.send("more".into()).await.is_err());
        }
        let (mut stdout, mut status) = (connection.reader(CH1).unwrap(), connection.reader(CH3).unwrap());
        assert_eq!(soon(driver).await, End::Closed { by: Side::Peer, reason: normal() }, "round {round}");
        assert_eq!(read_all(&mut stdout).await, (b"last".to_vec(), Ok(())));
        assert_eq!(read_all(&mut status).await, (b"{}".to_vec(), Ok(())));
    }
    assert!(resets > 0, "the test met no reset");
}

#[tokio::test]
async fn a_client_that_cannot_answer_the_close_was_closed_and_not_lost() {
    let plan = Plan::smooth().write_ends_at(0);
    let (ours, theirs) = awkward_pair(plan, Plan::smooth(), 64 << 10);
    let mut peer = Peer::server(theirs);
    peer.close(1000).await;
    let (connection, driver) = client(Subprotocol::CHANNEL).client(ours);
    assert_eq!(soon(driver).await, End::Closed { by: Side::Peer, reason: normal() });
    assert_eq!(connection.reader(CH1).unwrap().chunk().await, Ok(None));
}

/// Fills what is between a writer and a peer that does not read.
fn fill(connection: &Connection, channel: wsstream::ChannelId) {
    let mut writer = connection.writer(channel).unwrap();
    while writer.send(vec![b'x'; 20_000].into()).now_or_never().is_some() {}
}

#[tokio::test]
async fn a_writer_that_waits_hears_of_a_shutdown() {
    let (io, peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    let driver = tokio::spawn(driver);
    fill(&connection, CH1);
    let mut stdout = connection.writer(CH1).unwrap();
    let waiting = tokio::spawn(async move { stdout.send("y".into()).await });
    common::settle().await;
    assert!(!waiting.is_finished());
    connection.shutdown(&normal());
    assert_eq!(soon(waiting).await.unwrap(), Err(WriteError::Refused(SendError::Closing)));
    drop(peer);
    soon(driver).await.unwrap();
}

#[tokio::test]
async fn a_writer_that_waits_hears_of_the_servers_close() {
    let (io, mut peer) = scripted_server();
    let (connection, driver) = client(Subprotocol::V5).client(io);
    let driver = tokio::spawn(driver);
    fill(&connection, CH0);
    let mut stdin = connection.writer(CH0).unwrap();
    let waiting = tokio::spawn(async move { stdin.send("y".into()).await });
    common::settle().await;
    assert!(!waiting.is_finished());
    peer.close(1000).await;
    assert_eq!(soon(waiting).await.unwrap(), Err(WriteError::Refused(SendError::Closing)));
    drop(peer);
    assert_eq!(soon(driver).await.unwrap(), End::Closed { by: Side::Peer, reason: normal() });
}

/// A server that has closed and then neither reads nor ends its stream.
#[tokio::test(start_paused = true)]
async fn a_blocked_client_does_not_wait_for_ever_after_the_servers_close() {
    let (io, mut peer) = scripted_server();
    let (connection, driver) = client(Subprotocol::V5).timeouts(timeouts(|t| t.idle = None)).client(io);
    let driver = tokio::spawn(driver);
    fill(&connection, CH0);
    peer.close(1000).await;
    let start = Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(3600), driver).await.expect("it ends").unwrap();
    assert_eq!(end, End::Closed { by: Side::Peer, reason: normal() });
    assert_eq!(start.elapsed().as_secs(), 30);
}

/// A peer that ended its stream after its Close, and a wire that fails afterwards.
#[tokio::test]
async fn a_write_error_after_the_clients_end_of_stream_ends_the_connection() {
    let plan = Plan::smooth().write_ends_at(10);
    let (ours, theirs) = awkward_pair(plan, Plan::smooth(), 64 << 10);
    let mut peer = Peer::client(theirs);
    let (connection, driver) = server(Subprotocol::V5).server(ours);
    let driver = tokio::spawn(driver);
    peer.close(1000).await;
    peer.shutdown().await;
    soon(connection.disconnected()).await;
    common::settle().await;
    let mut stdout = connection.writer(CH1).unwrap();
    while stdout.send("output".into()).await.is_ok() {}
    assert!(matches!(soon(driver).await.unwrap(), End::Lost(Loss::Io(io::ErrorKind::BrokenPipe, _))));
}

/// A client that leaves over TLS without TLS's own farewell is gone like any other; rustls reports it as an error, and
/// its long text ended up in every log line.
#[tokio::test]
async fn tls_without_a_farewell_is_an_end_of_stream() {
    let plan = Plan::smooth().read_fails_at(6, io::ErrorKind::UnexpectedEof);
    let (io, mut other) = awkward_pair(plan, Plan::smooth(), 1 << 16);
    let (connection, driver) = server(Subprotocol::V5).server(io);
    let mut stdin = connection.reader(CH0).unwrap();
    // The header of a frame whose payload never comes.
    other.write_all(&[0x82, 0x82, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(soon(driver).await, End::Lost(Loss::Eof));
    assert_eq!(read_all(&mut stdin).await.1, Err(ReadError::Lost(Loss::Eof)));
}

/// The second call may come after the server has closed: a `shutdown` that had to wait says CLOSE again.
#[tokio::test]
async fn saying_close_twice_is_no_error_because_the_server_closed_in_between() {
    let (io, mut peer) = scripted_server();
    let (connection, driver) = client(Subprotocol::V5).client(io);
    let driver = tokio::spawn(driver);
    let mut stdin = connection.writer(CH0).unwrap();
    stdin.close().unwrap();
    peer.expect_binary(&[255, 0]).await;
    peer.close(1000).await;
    soon(driver).await.unwrap();
    assert_eq!(stdin.close(), Ok(()));
    stdin.shutdown().await.unwrap();
}
