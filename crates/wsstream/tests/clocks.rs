//! The deadlines of a connection, in paused time: keep-alive, dead peers, idle sessions, writes.

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
use std::time::Duration;

use common::{CH0, CH1, client, limits, normal, scripted_client, scripted_server, server, smooth, timeouts};
use tokio::time::{Instant, advance, sleep};
use wsstream::connection::{End, Loss, ReadError, WriteError};
use wsstream::{Connection, Subprotocol};
use wsstream_testing::{Message, Peer, Plan, Stall, awkward_pair};

const HOUR: Duration = Duration::from_secs(3600);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Both roles ping after 30 s of silence; the peer's pong is a sign of life, so nothing else ever happens.
#[tokio::test(start_paused = true)]
async fn silence_is_pinged_every_30_seconds_and_pongs_keep_the_connection() {
    for is_server in [true, false] {
        let (io, theirs) = smooth();
        let off = timeouts(|t| t.idle = None);
        let (_connection, driver, mut peer) = if is_server {
            let (connection, driver) = server(Subprotocol::V5).timeouts(off).server(io);
            (connection, driver, Peer::client(theirs))
        } else {
            let (connection, driver) = client(Subprotocol::V5).timeouts(off).client(io);
            (connection, driver, Peer::server(theirs))
        };
        peer = peer.deadline(HOUR);
        let driver = tokio::spawn(driver);
        let start = Instant::now();
        for n in 1..=200 {
            peer.expect_ping(b"").await;
            assert_eq!(start.elapsed().as_secs(), n * 30, "server: {is_server}");
            peer.pong(b"").await;
        }
        assert!(!driver.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_and_is_spoken_to_is_not_pinged() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    let driver = tokio::spawn(driver);
    for _ in 0..20 {
        sleep(secs(29)).await;
        peer.ping(b"client-go").await;
        peer.expect_pong(b"client-go").await;
    }
    assert_eq!(connection.stats().pings, 20);
    // Half a frame counts as well: it is on its way.
    sleep(secs(29)).await;
    peer.send_raw(&[0x82]).await;
    connection.writer(CH1).unwrap().send("x".into()).await.unwrap();
    peer.expect_stream(1, b"x").await;
    sleep(secs(29)).await;
    peer.send_raw(&[0x81, 1, 1, 1, 1, 1]).await;
    peer.ping(b"2").await;
    peer.expect_pong(b"2").await;
    assert!(!driver.is_finished());
}

/// Found by chaos: a base64 message that takes minutes to arrive is echoed when it is whole. The peer's own ping stands
/// behind it, and without a sign of life the peer gives up a session that nothing has happened to.
#[tokio::test(start_paused = true)]
async fn a_peer_that_only_sends_is_shown_signs_of_life() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V4_BASE64_CHANNEL).server(io);
    let driver = tokio::spawn(driver);
    let start = Instant::now();
    // A text frame of 126 bytes, masked with zeros.
    peer.send_raw(&[0x81, 0x80 | 126, 0, 126, 0, 0, 0, 0, b'0']).await;
    let mut pings = Vec::new();
    for n in 1..=125 {
        sleep(secs(1)).await;
        peer.send_raw(b"A").await;
        if n % 30 == 0 {
            peer.expect_ping(b"").await;
            pings.push(start.elapsed().as_secs());
        }
    }
    assert_eq!(pings, [30, 60, 90, 120]);
    assert_eq!(connection.stats().pings_missed, 0);
    assert!(!driver.is_finished());
}

/// Two pings go unanswered, and then the peer is given up: every handle hears why.
#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_for_90_seconds_is_dead() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    let start = Instant::now();
    let mut stdin = connection.reader(CH0).unwrap();
    let (end, read) = tokio::join!(driver, stdin.chunk());
    assert_eq!(start.elapsed(), secs(90));
    let lost = Loss::DeadPeer(secs(90));
    assert_eq!(end, End::Lost(lost.clone()));
    assert_eq!(read, Err(ReadError::Lost(lost.clone())));
    assert_eq!(connection.writer(CH1).unwrap().send("x".into()).await, Err(WriteError::Lost(lost)));
    peer.expect_ping(b"").await;
    peer.expect_ping(b"").await;
    // No Close: there is nobody to read it.
    peer.expect_eof().await;
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_off_never_ring() {
    let (io, _peer) = scripted_client();
    let off = timeouts(|t| (t.idle, t.dead_peer, t.ping_interval) = (None, None, None));
    let (_connection, driver) = server(Subprotocol::V5).timeouts(off).server(io);
    let driver = tokio::spawn(driver);
    sleep(HOUR * 1000).await;
    assert!(!driver.is_finished());
}

/// A client that does not read does not pong either, so its silence proves nothing while we wait to write.
#[tokio::test(start_paused = true)]
async fn a_peer_is_not_dead_while_this_side_waits_to_write() {
    let (io, peer) = scripted_client();
    let mut peer = peer.deadline(HOUR);
    let (connection, driver) = server(Subprotocol::V5).limits(limits(|l| l.send_buffer = 1 << 20)).server(io);
    let driver = tokio::spawn(driver);
    let output = common::pattern(200_000);
    connection.writer(CH1).unwrap().send(output.clone().into()).await.unwrap();
    sleep(HOUR).await;
    assert!(!driver.is_finished());
    peer.expect_stream(1, &output).await;
    // From here on it gets a full deadline to be heard from.
    let start = Instant::now();
    assert_eq!(driver.await.unwrap(), End::Lost(Loss::DeadPeer(secs(90))));
    assert_eq!(start.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn data_either_way_keeps_a_connection_from_idling() {
    let (io, peer) = scripted_client();
    let mut peer = peer.deadline(HOUR * 2);
    let clocks = timeouts(|t| (t.idle, t.dead_peer, t.ping_interval) = (Some(HOUR), None, None));
    let (connection, driver) = server(Subprotocol::V5).timeouts(clocks).server(io);
    let driver = tokio::spawn(driver);
    let start = Instant::now();
    let mut stdin = connection.reader(CH0).unwrap();
    let mut stdout = connection.writer(CH1).unwrap();
    sleep(secs(50 * 60)).await;
    peer.send_binary(b"\x00in").await;
    assert_eq!(stdin.chunk().await.unwrap().unwrap(), "in");
    sleep(secs(50 * 60)).await;
    stdout.send("out".into()).await.unwrap();
    peer.expect_binary(b"\x01out").await;
    // The ready message and its like are no data.
    sleep(secs(30 * 60)).await;
    stdout.send("".into()).await.unwrap();
    peer.expect_binary(b"\x01").await;
    assert_eq!(peer.expect_close(1001).await, "idle timeout");
    assert_eq!(start.elapsed().as_secs() / 60, 160);
    assert_eq!(stdin.chunk().await, Err(ReadError::Lost(Loss::Idle(HOUR))));
    peer.close(1001).await;
    peer.expect_eof().await;
    assert_eq!(driver.await.unwrap(), End::Lost(Loss::Idle(HOUR)));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_although_its_peer_pings() {
    let (io, mut peer) = scripted_client();
    let (_connection, driver) = server(Subprotocol::V5).server(io);
    let driver = tokio::spawn(driver);
    let start = Instant::now();
    while !driver.is_finished() {
        sleep(secs(5)).await;
        peer.ping(b"").await;
        match peer.next_message().await {
            Message::Pong(_) => {}
            Message::Close(Some(1001), _) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(start.elapsed().as_secs() / 60, 4 * 60);
    peer.shutdown().await;
    assert_eq!(driver.await.unwrap(), End::Lost(Loss::Idle(HOUR * 4)));
}

/// Each byte that the wire takes starts the write timeout afresh: a slow reader is not cut off.
#[tokio::test(start_paused = true)]
async fn a_write_timeout_counts_from_the_last_progress() {
    use tokio::io::AsyncReadExt as _;
    let (ours, mut theirs) = tokio::io::duplex(1000);
    let (connection, driver) =
        server(Subprotocol::V5).timeouts(timeouts(|t| t.write = Some(secs(10)))).server(ours);
    let driver = tokio::spawn(driver);
    let mut stdout = connection.writer(CH1).unwrap();
    stdout.send(vec![b'x'; 20_000].into()).await.unwrap();
    let start = Instant::now();
    for _ in 0..15 {
        sleep(secs(9)).await;
        theirs.read_exact(&mut [0; 500]).await.unwrap();
    }
    let flushed = stdout.flushed().await;
    assert_eq!(start.elapsed(), secs(15 * 9 + 10));
    let lost = Loss::WriteTimeout(secs(10));
    assert_eq!(flushed, Err(WriteError::Lost(lost.clone())));
    assert_eq!(driver.await.unwrap(), End::Lost(lost));
}

/// Nothing waits, so nothing is late: the clock starts with the write and not before.
#[tokio::test(start_paused = true)]
async fn a_write_timeout_is_fresh_for_each_write() {
    let stall = Stall::open();
    let (ours, theirs) = awkward_pair(Plan::smooth().stall_writes(&stall), Plan::smooth(), 64 << 10);
    let mut peer = Peer::client(theirs).answer_pings();
    let clocks = timeouts(|t| (t.write, t.ping_interval, t.dead_peer) = (Some(secs(10)), None, None));
    let (connection, driver) = server(Subprotocol::V5).timeouts(clocks).server(ours);
    let driver = tokio::spawn(driver);
    let mut stdout = connection.writer(CH1).unwrap();
    for _ in 0..5 {
        sleep(secs(100)).await;
        stall.hold();
        stdout.send("x".into()).await.unwrap();
        sleep(secs(9)).await;
        stall.release();
        peer.expect_binary(b"\x01x").await;
    }
    assert!(!driver.is_finished());
    stall.hold();
    stdout.send("x".into()).await.unwrap();
    let start = Instant::now();
    assert_eq!(driver.await.unwrap(), End::Lost(Loss::WriteTimeout(secs(10))));
    assert_eq!(start.elapsed(), secs(10));
}

/// A stalled stdin has filled the receive buffer, so no ping is read: client-go gives up after 61 s without a pong.
#[tokio::test(start_paused = true)]
async fn client_go_survives_a_stdin_that_nobody_reads() {
    let (io, peer) = scripted_client();
    let mut peer = peer.deadline(HOUR);
    let (connection, driver) = server(Subprotocol::V5).limits(limits(|l| l.receive_buffer = 4096)).server(io);
    let driver = tokio::spawn(driver);
    let mut stdin = connection.reader(CH0).unwrap();
    peer.send_binary(&[0; 5000]).await;
    common::settle().await;
    assert_eq!(connection.stats().waiting, 4999);
    let start = Instant::now();
    let mut last_pong = Instant::now();
    while start.elapsed() < HOUR {
        // Its ping every 5 s stays in the buffer.
        peer.ping(b"").await;
        let next = last_pong + secs(61);
        let step = tokio::time::timeout(secs(5), peer.next_message()).await;
        if let Ok(Message::Pong(payload)) = step {
            assert_eq!(payload, b"", "unasked");
            assert!(last_pong.elapsed() >= secs(29), "at most every 30 s: {:?}", last_pong.elapsed());
            last_pong = Instant::now();
        }
        assert!(Instant::now() < next, "client-go has given up");
    }
    assert_eq!(connection.stats().pings, 0);
    assert!(!driver.is_finished());
    // Once it is read again the pings are answered, the latest of them.
    assert_eq!(stdin.chunk().await.unwrap().unwrap().len(), 4999);
    peer.expect_pong(b"").await;
    connection.shutdown(&normal());
    peer.close(1000).await;
    driver.await.unwrap();
}

/// Nothing is read, so only a write can tell that the client has gone; the pongs are such writes.
#[tokio::test]
async fn a_vanished_client_is_noticed_although_its_stdin_is_stalled() {
    let (ours, theirs) = common::tcp_pair().await;
    let clocks = timeouts(|t| t.unsolicited_pong = Duration::from_millis(50));
    let (connection, driver) = server(Subprotocol::V5)
        .limits(limits(|l| l.receive_buffer = 4096))
        .timeouts(clocks)
        .server(wsstream::tcp::TcpSocket::new(ours));
    let driver = tokio::spawn(driver);
    // A handler that does not look at stdin at all.
    let stdin = connection.reader(CH0).unwrap();
    let mut peer = Peer::client(theirs);
    peer.send_binary(&[0; 5000]).await;
    common::until(|| connection.stats().waiting == 4999).await;
    // kubectl after Ctrl-C: a bare FIN, no Close.
    drop(peer);
    assert!(matches!(common::soon(connection.disconnected()).await, End::Lost(Loss::Io(..))));
    drop(stdin);
    assert!(matches!(common::soon(driver).await.unwrap(), End::Lost(Loss::Io(..))));
}

/// A client whose machine vanished sends no FIN: the only sign is that its kernel acknowledges the pongs no more. One
/// that is alive and merely reads nothing does acknowledge them. Without the probe only TCP's own patience, about 15
/// minutes, ended such a session.
#[tokio::test(start_paused = true)]
async fn a_client_that_vanished_without_a_word_is_given_up_while_its_stdin_is_stalled() {
    for (unsent, dead) in [(0, false), (26, true)] {
        let (io, peer) = scripted_client();
        let mut peer = peer.deadline(HOUR);
        let (connection, driver) = server(Subprotocol::V5)
            .limits(limits(|l| l.receive_buffer = 4096))
            .unsent_probe(Some(wsstream::transport::UnsentProbe::new(move || Some(unsent))))
            .server(io);
        let driver = tokio::spawn(driver);
        let stdin = connection.reader(CH0).unwrap();
        peer.send_binary(&[0; 5000]).await;
        common::settle().await;
        let start = Instant::now();
        let disconnected = tokio::time::timeout(secs(600), connection.disconnected()).await;
        if dead {
            assert_eq!(disconnected, Ok(End::Lost(Loss::DeadPeer(secs(90)))));
            assert!(start.elapsed() <= secs(91), "{:?}", start.elapsed());
        } else {
            assert!(disconnected.is_err(), "{disconnected:?}");
        }
        drop((stdin, connection));
        driver.abort();
    }
}

/// While the wire takes nothing no ping is sent, and only the peer's kernel tells whether it is busy or gone. Without that
/// only TCP's own patience, about 15 minutes, ended such a session; also one that had sent its Close already.
#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_while_it_was_sent_to_is_given_up() {
    for closes in [false, true] {
        let silent_from = Arc::new(std::sync::Mutex::new(None::<Instant>));
        let probe = wsstream::transport::UnsentProbe::new(|| Some(4096)).with_silence({
            let from = Arc::clone(&silent_from);
            move || from.lock().unwrap().map(|from| from.elapsed())
        });
        let (io, _peer) = tokio::io::duplex(4096);
        let (connection, driver) = server(Subprotocol::V5).unsent_probe(Some(probe)).server(io);
        let driver = tokio::spawn(driver);
        let mut stdout = connection.writer(CH1).unwrap();
        stdout.send(vec![0; 20_000].into()).await.unwrap();
        if closes {
            connection.shutdown(&normal());
        }
        // It reads nothing for an hour, and its kernel says so every time.
        tokio::time::sleep(HOUR).await;
        assert!(!driver.is_finished());
        let start = Instant::now();
        *silent_from.lock().unwrap() = Some(start);
        assert_eq!(driver.await.unwrap(), End::Lost(Loss::DeadPeer(secs(90))), "closing: {closes}");
        assert!(start.elapsed() >= secs(90) && start.elapsed() <= secs(121), "{:?}", start.elapsed());
    }
}

/// Its pong waits behind minutes of output on a slow line, so only its kernel's acknowledgements show that the peer
/// lives; once they stop too, it is dead.
#[tokio::test(start_paused = true)]
async fn a_peer_behind_a_slow_line_is_not_given_up_while_output_arrives_there() {
    let started = Instant::now();
    let progress = secs(20 * 60);
    let probe = wsstream::transport::UnsentProbe::new(move || {
        // 100 bytes a second of 200,000, until the line breaks.
        let arrived = started.elapsed().min(progress).as_secs() * 100;
        let pings = started.elapsed().as_secs() / 30 * 2;
        Some((200_000 + pings - arrived) as usize)
    });
    let (io, _peer) = tokio::io::duplex(1 << 20);
    let (connection, driver) = server(Subprotocol::V5)
        .limits(limits(|l| l.send_buffer = 1 << 20))
        .unsent_probe(Some(probe))
        .server(io);
    let driver = tokio::spawn(driver);
    connection.writer(CH1).unwrap().send(vec![0; 200_000].into()).await.unwrap();
    assert_eq!(driver.await.unwrap(), End::Lost(Loss::DeadPeer(secs(90))));
    let after = started.elapsed() - progress;
    assert!(after >= secs(60) && after <= secs(200), "{after:?} after the last sign of life");
}

/// A timer that was set for a later deadline must not sleep through an earlier one that came up meanwhile.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_moves_forward_is_kept() {
    let (io, mut peer) = scripted_server();
    let clocks = timeouts(|t| (t.ping_interval, t.dead_peer, t.close) = (None, None, secs(1)));
    let (connection, driver) = client(Subprotocol::V5).timeouts(clocks).client(io);
    let driver = tokio::spawn(driver);
    common::settle().await;
    connection.shutdown(&normal());
    let start = Instant::now();
    peer.expect_close(1000).await;
    assert_eq!(driver.await.unwrap(), End::Lost(Loss::CloseTimeout(secs(1))));
    assert_eq!(start.elapsed(), secs(1));
}

/// Polling can stop and go on: a clock that ran out meanwhile rings at once.
#[tokio::test(start_paused = true)]
async fn a_driver_that_was_not_polled_for_a_while_catches_up() {
    let (io, mut peer) = scripted_client();
    let (connection, mut driver): (Connection, _) = server(Subprotocol::V5).server(io);
    assert!(futures_util::FutureExt::now_or_never(&mut driver).is_none());
    peer.send_binary(b"\x00still there").await;
    advance(secs(40)).await;
    assert!(futures_util::FutureExt::now_or_never(&mut driver).is_none());
    let mut stdin = connection.reader(CH0).unwrap();
    assert_eq!(stdin.chunk().await.unwrap().unwrap(), "still there");
    advance(secs(95)).await;
    assert_eq!(driver.await, End::Lost(Loss::DeadPeer(secs(90))));
}
