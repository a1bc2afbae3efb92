//! The deadlines of SPDY connections, with time that stands still until somebody waits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod spdy_common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use spdy_common::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use wsstream::Timeouts;
use wsstream::proto::spdy::Event;
use wsstream::spdy::{Builder, Connection, End, Loss, Stream, StreamWriter, WriteError};
use wsstream::transport::UnsentProbe;
use wsstream::tunnel::Tunnel;

const SECOND: Duration = Duration::from_secs(1);

fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Timeouts {
    let mut timeouts = Timeouts::default();
    change(&mut timeouts);
    timeouts
}

/// Our server with a peer that has opened one stream, which is accepted.
async fn begun(builder: Builder) -> (Connection, JoinHandle<End>, Script<DuplexStream>, Stream) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (server, driver) = builder.start(ours);
    let driver = tokio::spawn(driver);
    let mut peer = Script::client(theirs);
    peer.session.open(&headers("data"), false).unwrap();
    peer.flush().await;
    let stream = soon(server.accept()).await.unwrap().accept();
    (server, driver, peer, stream)
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_and_an_answer_is_a_sign_of_life() {
    let (_server, driver, mut peer, _stream) = begun(Builder::server()).await;
    let start = Instant::now();
    // The peer's session answers as it reads; two hours of that.
    while start.elapsed() < Duration::from_secs(7200) {
        let quiet = timeout(SECOND * 31, peer.event()).await;
        assert!(!matches!(quiet, Ok(None)), "the connection goes on");
        peer.flush().await;
    }
    assert!(peer.session.counts().pings >= 230, "{:?}", peer.session.counts());
    assert!(!driver.is_finished());
}

#[tokio::test(start_paused = true)]
async fn an_echo_does_not_wait_for_anything_else() {
    let (_server, _driver, mut peer, _stream) = begun(Builder::server()).await;
    peer.until(|event| matches!(event, Event::Replied { .. }).then_some(())).await;
    let start = Instant::now();
    for _ in 0..5 {
        peer.session.ping().unwrap();
        peer.flush().await;
        peer.until(|event| matches!(event, Event::PingReply { .. }).then_some(())).await;
    }
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_pings_is_not_taken_for_dead() {
    // Without a probe nobody can tell, and Go answers none while a stream of its is not read.
    for probe in [None, Some(UnsentProbe::new(|| Some(0))), Some(UnsentProbe::new(|| None))] {
        let builder = Builder::server().unsent_probe(probe);
        let (_server, driver, mut peer, mut stream) = begun(builder).await;
        sleep(Duration::from_secs(3600)).await;
        assert!(!driver.is_finished());
        stream.writer().send(Bytes::from_static(b"hello")).await.unwrap();
        let got = peer.until(|event| match event {
            Event::Data { bytes, .. } => Some(bytes),
            _ => None,
        });
        assert_eq!(got.await, "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_window_is_closed_is_not_taken_for_dead() {
    // Its program reads nothing: its kernel acknowledges nothing either, and the wire takes a little yet.
    let unsent = Arc::new(AtomicUsize::new(0));
    let probe = UnsentProbe::new({
        let unsent = Arc::clone(&unsent);
        move || Some(unsent.load(Ordering::Relaxed))
    });
    let (_server, driver, _peer, mut stream) = begun(Builder::server().unsent_probe(Some(probe))).await;
    sleep(SECOND * 31).await;
    stream.writer().send(pattern(30_000)).await.unwrap();
    unsent.store(20_000, Ordering::Relaxed);
    sleep(Duration::from_secs(3600)).await;
    assert!(!driver.is_finished());
}

/// As over channels: a closed window may last, a kernel that does not answer may not.
#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_while_it_was_sent_to_is_given_up() {
    for block in [30_000, 300_000] {
        let silent_from = Arc::new(std::sync::Mutex::new(None::<Instant>));
        let probe = UnsentProbe::new(|| Some(30_000)).with_silence({
            let from = Arc::clone(&silent_from);
            move || from.lock().unwrap().map(|from| from.elapsed())
        });
        let (_server, driver, _peer, mut stream) = begun(Builder::server().unsent_probe(Some(probe))).await;
        // The one fits into the wire, the other blocks it.
        stream.writer().send(pattern(block)).await.unwrap();
        sleep(SECOND * 3600).await;
        assert!(!driver.is_finished());
        let start = Instant::now();
        *silent_from.lock().unwrap() = Some(start);
        let end = timeout(SECOND * 400, driver).await.unwrap().unwrap();
        assert_eq!(end, End::Lost(Loss::DeadPeer(SECOND * 90)), "{block}");
        assert!(start.elapsed() <= SECOND * 181, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_vanished_is_given_up() {
    for vanishes in [0, 10, 29, 31, 59, 100] {
        let unsent = Arc::new(AtomicUsize::new(0));
        let probe = UnsentProbe::new({
            let unsent = Arc::clone(&unsent);
            // It is asked once for each ping, and each makes more of it.
            move || match unsent.load(Ordering::Relaxed) {
                0 => Some(0),
                _ => Some(unsent.fetch_add(12, Ordering::Relaxed)),
            }
        });
        let builder = Builder::server().unsent_probe(Some(probe));
        let (server, driver, _peer, _stream) = begun(builder).await;
        sleep(SECOND * vanishes).await;
        // The next ping is never acknowledged.
        unsent.store(12, Ordering::Relaxed);
        let start = Instant::now();
        let end = timeout(Duration::from_secs(400), driver).await.unwrap().unwrap();
        assert_eq!(end, End::Lost(Loss::DeadPeer(SECOND * 90)), "after {vanishes} s");
        assert!(start.elapsed() <= SECOND * 240, "{:?}", start.elapsed());
        assert_eq!(server.ended().await, end);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_ended_and_pings_do_not_count() {
    let idle = timeouts(|timeouts| timeouts.idle = Some(SECOND * 600));
    let (_server, driver, mut peer, mut stream) = begun(Builder::server().timeouts(idle)).await;
    sleep(SECOND * 590).await;
    stream.writer().send(Bytes::from_static(b"busy")).await.unwrap();
    let start = Instant::now();
    let pings = async {
        loop {
            sleep(SECOND * 5).await;
            if peer.session.ping().is_err() {
                return;
            }
            let outbox = peer.session.outbox();
            let bytes = bytes::Buf::copy_to_bytes(outbox, bytes::Buf::remaining(outbox));
            if peer.io.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = pings => panic!("the connection is dropped at once"),
        end = driver => assert_eq!(end.unwrap(), End::Lost(Loss::Idle(SECOND * 600))),
    }
    // The close itself is bounded.
    assert!(start.elapsed() >= SECOND * 600 && start.elapsed() <= SECOND * 635, "{:?}", start.elapsed());
    let mut last_words = Vec::new();
    peer.io.read_to_end(&mut last_words).await.unwrap();
    assert!(
        last_words.ends_with(&control(7, 0, 8, &[0, 0, 0, 1, 0, 0, 0, 2])),
        "no good end: {last_words:02x?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_go_on_ends_the_connection() {
    // 2^24 - 1 bytes are announced and some come: nothing was allocated for the rest, and it is not waited for.
    let mut head = vec![0, 0, 0, 1, 0, 0xff, 0xff, 0xff];
    head.extend([7; 100]);
    for beginning in [&head[..], &head[..3], &control(1, 0, 60_000, &[0, 0, 0, 3, 0, 0, 0, 0, 0, 0])] {
        let (server, driver, mut peer, _stream) = begun(Builder::server()).await;
        peer.until(|event| matches!(event, Event::Replied { .. }).then_some(())).await;
        peer.raw(beginning).await;
        let start = Instant::now();
        assert_eq!(
            timeout(SECOND * 200, server.disconnected()).await.unwrap(),
            End::Lost(Loss::StuckFrame(SECOND * 60))
        );
        assert!(start.elapsed() >= SECOND * 60 && start.elapsed() < SECOND * 62);
        assert!(server.stats().most_waiting < 1000);
        drop(peer);
        assert_eq!(soon(driver).await.unwrap(), End::Lost(Loss::StuckFrame(SECOND * 60)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_goes_on_slowly_is_borne_with() {
    let (server, driver, mut peer, mut stream) = begun(Builder::server()).await;
    peer.raw(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]).await;
    for _ in 0..100 {
        sleep(SECOND * 50).await;
        peer.raw(b"x").await;
    }
    let mut got = 0;
    while got < 100 {
        got += soon(stream.reader().chunk()).await.unwrap().unwrap().len();
    }
    assert!(!driver.is_finished());
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_this_side_does_not_read_on_is_not_the_peers_fault() {
    let builder = Builder::server().limits(limits(|limits| limits.receive_buffer = 8000));
    let (_server, driver, mut peer, mut stream) = begun(builder).await;
    peer.raw(&[0, 0, 0, 1, 0, 0, 0x40, 0]).await;
    peer.raw(&[7; 10_000]).await;
    sleep(SECOND * 300).await;
    assert!(!driver.is_finished());
    let mut got = soon(stream.reader().chunk()).await.unwrap().unwrap().len();
    peer.raw(&[7; 6384]).await;
    while got < 16384 {
        got += soon(stream.reader().chunk()).await.unwrap().unwrap().len();
    }
}

async fn fill(mut writer: StreamWriter) -> WriteError {
    loop {
        if let Err(error) = writer.send(pattern(32 << 10)).await {
            return error;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_borne_with_unless_others_wait() {
    let (_server, driver, mut peer, stream) = begun(Builder::server()).await;
    let (_reader, writer) = stream.split();
    tokio::spawn(fill(writer));
    sleep(SECOND * 3600).await;
    assert!(!driver.is_finished(), "one stream alone: plain back-pressure");
    peer.session.open(&headers("data"), false).unwrap();
    peer.flush().await;
    let (_reader, writer) = soon(_server.accept()).await.unwrap().accept().split();
    let other = tokio::spawn(fill(writer));
    let end = timeout(SECOND * 200, driver).await.unwrap().unwrap();
    assert_eq!(end, End::Lost(Loss::WriteTimeout(SECOND * 60)));
    assert_eq!(soon(other).await.unwrap(), WriteError::Lost(Loss::WriteTimeout(SECOND * 60)));
}

/// It takes up to 64 KiB at once, which this line carries in four minutes: no sign that nothing is taken.
#[tokio::test(start_paused = true)]
async fn a_tunnel_on_a_slow_line_is_not_taken_for_one_that_stands_still() {
    let (ours, line) = tokio::io::duplex(256);
    let (theirs, other) = tokio::io::duplex(256);
    let (server, driver) = Builder::server().start(Tunnel::server(ours));
    let driver = tokio::spawn(driver);
    let (client, client_driver) = Builder::client().start(Tunnel::client(theirs));
    tokio::spawn(client_driver);
    let (mut down, mut up) = tokio::io::split(line);
    let (mut from_client, mut to_client) = tokio::io::split(other);
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut up).await });
    tokio::spawn(async move {
        let mut piece = [0; 256];
        while let Ok(n @ 1..) = down.read(&mut piece).await {
            sleep(SECOND).await;
            to_client.write_all(&piece[..n]).await.unwrap();
        }
    });
    let mut reading = Vec::new();
    for _ in 0..3 {
        let (mut near, far) =
            (client.open(&headers("data"), false).await.unwrap(), soon(server.accept()).await);
        let (reader, mut writer) = far.unwrap().accept().split();
        tokio::spawn(async move {
            let _reader = reader;
            for _ in 0..48 {
                writer.send(pattern(2 << 10)).await.unwrap();
            }
            writer.close().unwrap();
            writer.flushed().await.unwrap();
        });
        reading.push(tokio::spawn(async move {
            let mut got = 0;
            while let Some(chunk) = near.reader().chunk().await.unwrap() {
                got += chunk.len();
            }
            got
        }));
    }
    for reading in reading {
        assert_eq!(reading.await.unwrap(), 96 << 10);
    }
    assert!(!driver.is_finished());
}

#[tokio::test(start_paused = true)]
async fn one_session_bears_with_everything() {
    let builder = Builder::server().limits(wsstream::limits::SpdyLimits::one_session());
    let (server, driver, mut peer, stream) = begun(builder).await;
    let mut streams = vec![stream];
    for _ in 0..2 {
        peer.session.open(&headers("data"), false).unwrap();
        peer.flush().await;
        streams.push(soon(server.accept()).await.unwrap().accept());
    }
    let mut readers = Vec::new();
    for stream in streams {
        let (reader, writer) = stream.split();
        readers.push(reader);
        tokio::spawn(fill(writer));
    }
    let mut waiting = readers.pop().unwrap();
    tokio::spawn(async move { waiting.chunk().await });
    sleep(SECOND * 3600).await;
    assert!(!driver.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_write_timeout_is_the_callers_choice() {
    let builder = Builder::server().timeouts(timeouts(|timeouts| timeouts.write = Some(SECOND * 7)));
    let (_server, driver, _peer, stream) = begun(builder).await;
    let (_reader, writer) = stream.split();
    let filling = tokio::spawn(fill(writer));
    let end = timeout(SECOND * 20, driver).await.unwrap().unwrap();
    assert_eq!(end, End::Lost(Loss::WriteTimeout(SECOND * 7)));
    assert_eq!(soon(filling).await.unwrap(), WriteError::Lost(Loss::WriteTimeout(SECOND * 7)));
}

#[tokio::test(start_paused = true)]
async fn rates_are_counted_anew_after_a_while() {
    let builder = || Builder::server().limits(limits(|limits| limits.session.max_rate_useless = 100));
    let noop = control(5, 0, 0, &[]);
    let (_server, driver, mut peer, _stream) = begun(builder()).await;
    for _ in 0..20 {
        for _ in 0..90 {
            peer.raw(&noop).await;
        }
        sleep(SECOND * 11).await;
        peer.session.ping().unwrap();
        peer.flush().await;
        sleep(SECOND).await;
    }
    assert!(!driver.is_finished());
    let (_server, driver, mut peer, _stream) = begun(builder()).await;
    peer.raw(&noop.repeat(101)).await;
    drop(peer);
    assert!(matches!(soon(driver).await.unwrap(), End::Lost(Loss::Violation(_))));
}
