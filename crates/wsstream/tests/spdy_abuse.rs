//! Peers that mean harm: whatever they send, memory stays bounded, the smallest thing ends, and the log names the fault.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod common;
mod spdy_common;

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use common::Log;
use spdy_common::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use wsstream::proto::spdy::{Event, Flood, Limits, Session, Violation};
use wsstream::spdy::{Builder, Connection, End, Headers, Loss, ReadError, ResetStatus};
use wsstream::tunnel::Tunnel;

/// GOAWAY that says that the peer broke the protocol.
fn go_away(last: u8) -> Vec<u8> {
    control(7, 0, 8, &[0, 0, 0, last, 0, 0, 0, 1])
}

fn serve(builder: Builder) -> (Connection, JoinHandle<End>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (server, driver) = builder.start(ours);
    (server, tokio::spawn(driver), theirs)
}

/// What one frame, or many, do to a server on which a stream is open.
async fn violation(bytes: &[u8]) -> (Violation, Vec<u8>) {
    let (server, driver, theirs) = serve(Builder::server());
    let mut peer = Script::client(theirs);
    peer.session.open(&headers("data"), false).unwrap();
    peer.flush().await;
    let mut stream = soon(server.accept()).await.unwrap().accept();
    peer.until(|event| matches!(event, Event::Replied { .. }).then_some(())).await;
    let (mut reader, mut writer) = tokio::io::split(peer.io);
    let write = async {
        // It is read to the end, or the peer would not see what is said to it.
        writer.write_all(bytes).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut said = Vec::new();
    let ((), read) = soon(async { tokio::join!(write, reader.read_to_end(&mut said)) }).await;
    read.unwrap();
    let End::Lost(Loss::Violation(violation)) = soon(driver).await.unwrap() else {
        panic!("no violation");
    };
    let error = soon(stream.reader().chunk()).await;
    assert_eq!(error, Err(ReadError::Lost(Loss::Violation(violation.clone()))));
    assert!(server.stats().most_waiting < 100 && server.stats().most_unsent < 10_000, "{:?}", server.stats());
    (violation, said)
}

/// A SYN_STREAM with a header block as another implementation may compress it.
fn syn_stream(id: u32, block: &[u8]) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend([0; 6]);
    payload.extend(block);
    control(1, 0, payload.len() as u32, &payload)
}

/// A deflate stream whose only content is `len` zero bytes, as cheap as it gets: fixed Huffman codes, one literal, and
/// matches of 258 bytes at distance 1.
fn zeros(len: usize) -> Vec<u8> {
    let mut bits = Vec::new();
    let mut push = |value: u32, n: u32, reversed: bool| {
        for i in 0..n {
            let at = if reversed { n - 1 - i } else { i };
            bits.push(value >> at & 1);
        }
    };
    push(0, 1, false);
    push(1, 2, false);
    push(0x30, 8, true);
    for _ in 0..len / 258 {
        push(0xc5, 8, true);
        push(0, 5, true);
    }
    push(0, 7, true);
    let mut out = vec![0x78, 0x01];
    out.extend(
        bits.chunks(8).map(|byte| byte.iter().enumerate().map(|(i, bit)| (*bit << i) as u8).sum::<u8>()),
    );
    out.extend([0, 0, 0, 0xff, 0xff]);
    out
}

#[tokio::test]
async fn frames_that_cannot_be_end_the_connection_with_goodbye_and_a_line_in_the_log() {
    let bomb = syn_stream(3, &zeros(8 << 20));
    assert!(bomb.len() < 64 << 10);
    let rows: &[(&str, Vec<u8>)] = &[
        ("a header bomb", bomb),
        ("a header block of noise", syn_stream(3, &[0xff; 100])),
        ("SETTINGS with 2^32 - 1 entries", control(4, 0, 12, &[0xff; 12])),
        ("SETTINGS whose count fits its length of 16 MiB", control(4, 0, 0xff_fffc, &[0, 0x1f, 0xff, 0xff])),
        ("SYN_STREAM of 16 MiB", control(1, 0, 0xff_ffff, &[0; 100])),
        ("RST_STREAM of 9 bytes", control(3, 0, 9, &[0; 9])),
        ("PING of 3 bytes", control(6, 0, 3, &[0; 3])),
        ("PING 0", control(6, 0, 4, &[0; 4])),
        ("DATA on stream 0", vec![0, 0, 0, 0, 0, 0, 0, 1, 0]),
        ("version 2", [&[0x80, 2][..], &control(6, 0, 4, &[0, 0, 0, 1])[2..]].concat()),
    ];
    for (name, bytes) in rows {
        let (log, _guard) = Log::capture();
        let (violation, said) = violation(bytes).await;
        assert!(said.ends_with(&go_away(1)), "{name}: {violation} {said:02x?}");
        let warnings = log.warnings();
        assert!(
            warnings
                .iter()
                .any(|line| line.contains("broke the protocol") && line.contains(&violation.to_string())),
            "{name}: {warnings:?}"
        );
    }
}

#[tokio::test]
async fn floods_end_the_connection() {
    let ping = |n: u32| control(6, 0, 4, &(2 * n + 1).to_be_bytes());
    let pings: Vec<u8> = (0..20_000).flat_map(ping).collect();
    assert_eq!(violation(&pings).await.0, Violation::Flood(Flood::Pings));
    let empty = [0, 0, 0, 1, 0, 0, 0, 0].repeat(20_000);
    assert_eq!(violation(&empty).await.0, Violation::Flood(Flood::Useless));
    let settings = control(4, 0, 4, &[0; 4]).repeat(20_000);
    assert_eq!(violation(&settings).await.0, Violation::Flood(Flood::Useless));
}

#[tokio::test]
async fn a_flood_of_streams_that_are_reset_at_once_ends_the_connection() {
    let (server, driver, theirs) = serve(Builder::server());
    let accepting = tokio::spawn({
        let server = server.clone();
        async move {
            let mut seen = 0;
            while let Some(incoming) = server.accept().await {
                seen += 1;
                drop(incoming.accept());
            }
            seen
        }
    });
    let (mut reader, mut writer) = tokio::io::split(theirs);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while reader.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    });
    let mut session = Session::client(Limits::default());
    for n in 0..1_000_000 {
        let id = session.open(&headers("data"), false).unwrap();
        session.reset(id, ResetStatus::CANCEL);
        let outbox = session.outbox();
        let bytes = outbox.copy_to_bytes(outbox.remaining());
        if writer.write_all(&bytes).await.is_err() || server.stats().counts.rapid_resets > 10_000 {
            assert!(n < 100_000, "{n}");
            break;
        }
        assert!(server.stats().most_waiting < 1 << 20);
    }
    writer.shutdown().await.unwrap();
    let end = soon(driver).await.unwrap();
    assert_eq!(end, End::Lost(Loss::Violation(Violation::Flood(Flood::Resets))));
    soon(accepting).await.unwrap();
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_nothing_else_ends() {
    let (log, _guard) = Log::capture();
    let builder = Builder::server().limits(limits(|limits| limits.session.max_streams = 5));
    let (server, _driver, theirs) = serve(builder);
    let mut peer = Script::client(theirs);
    for _ in 0..8 {
        peer.session.open(&headers("data"), false).unwrap();
    }
    peer.flush().await;
    let mut taken = Vec::new();
    for _ in 0..5 {
        taken.push(soon(server.accept()).await.unwrap().accept());
    }
    let mut refused = 0;
    while refused < 3 {
        if let Event::Reset { status, .. } = peer.event().await.unwrap() {
            assert_eq!(status, ResetStatus::REFUSED_STREAM);
            refused += 1;
        }
    }
    assert_eq!(log.warnings().len(), 3, "{:?}", log.warnings());
    assert_eq!(server.stats().open_streams, 5);
    // One that ends makes room for another.
    drop(taken.pop());
    peer.until(|event| matches!(event, Event::Reset { .. }).then_some(())).await;
    peer.session.open(&headers("data"), false).unwrap();
    peer.flush().await;
    assert_eq!(soon(server.accept()).await.unwrap().id().get(), 17);
}

#[tokio::test]
async fn headers_of_streams_that_nobody_accepts_count_as_memory() {
    let builder = Builder::server().limits(limits(|limits| limits.receive_buffer = 256 << 10));
    let (server, _driver, theirs) = serve(builder);
    let mut peer = Script::client(theirs);
    let long = "v".repeat(7000);
    let fat: Headers = [("streamtype", long.as_str()), ("other", long.as_str())].into_iter().collect();
    for _ in 0..1000 {
        peer.session.open(&fat, false).unwrap();
    }
    let flooding = tokio::spawn(async move {
        peer.flush().await;
        peer
    });
    while server.stats().waiting < 256 << 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    settle().await;
    assert!(server.stats().most_waiting < (256 << 10) + 20_000, "{:?}", server.stats());
    assert!(!flooding.is_finished(), "TCP pushes back");
    for _ in 0..1000 {
        let incoming = soon(server.accept()).await.unwrap();
        assert_eq!(incoming.headers().text("other").map(str::len), Some(7000));
    }
    let _peer = soon(flooding).await.unwrap();
    assert_eq!(server.stats().waiting, 0);
}

#[tokio::test]
async fn a_peer_that_pings_and_reads_no_answers_costs_little_and_loses_nothing() {
    let builder = Builder::server().limits(limits(|limits| {
        limits.session.max_rate_pings = u32::MAX;
        limits.session.echoed_pings = u32::MAX;
    }));
    let (server, _driver, theirs) = serve(builder);
    let (mut reader, mut writer) = tokio::io::split(theirs);
    let flooding = tokio::spawn(async move {
        let pings: Vec<u8> =
            (0..50_000u32).flat_map(|n| control(6, 0, 4, &(2 * n + 1).to_be_bytes())).collect();
        writer.write_all(&pings).await.unwrap();
        writer
    });
    let mut before = u64::MAX;
    while server.stats().counts.pings != before {
        before = server.stats().counts.pings;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stats = server.stats();
    assert!(stats.counts.pings > 1000 && stats.counts.pings < 50_000, "reading stopped: {stats:?}");
    assert!(stats.unsent < 20_000, "{stats:?}");
    assert!(!flooding.is_finished());
    let mut answers = vec![0; 50_000 * 12];
    soon(reader.read_exact(&mut answers)).await.unwrap();
    assert!(answers.ends_with(&99_999u32.to_be_bytes()), "each got its echo");
    let _writer = soon(flooding).await.unwrap();
}

#[tokio::test]
async fn a_data_frame_of_16_mib_is_handed_on_piece_by_piece() {
    let builder = Builder::server().limits(limits(|limits| limits.receive_buffer = 100_000));
    let (server, _driver, theirs) = serve(builder);
    let mut peer = Script::client(theirs);
    peer.session.open(&headers("data"), false).unwrap();
    peer.flush().await;
    let mut stream = soon(server.accept()).await.unwrap().accept();
    peer.raw(&[0, 0, 0, 1, 1, 0xff, 0xff, 0xff]).await;
    let send = async {
        let piece = pattern(1 << 20);
        for _ in 0..15 {
            peer.raw(&piece).await;
        }
        peer.raw(&piece[1..]).await;
    };
    let ((bytes, end), ()) = tokio::join!(all(stream.reader()), send);
    assert_eq!((bytes.len(), end), ((1 << 24) - 1, Ok(())));
    assert!(server.stats().most_waiting < 140_000, "{:?}", server.stats());
}

#[tokio::test]
async fn pieces_of_one_byte_cost_no_more_than_their_bytes() {
    let (server, _driver, theirs) = serve(Builder::server());
    let mut peer = Script::client(theirs);
    peer.session.open(&headers("data"), false).unwrap();
    peer.flush().await;
    let mut stream = soon(server.accept()).await.unwrap().accept();
    let flood = [0, 0, 0, 1, 0, 0, 0, 1, b'x'].repeat(100_000);
    peer.raw(&flood).await;
    while server.stats().waiting < 100_000 {
        tokio::task::yield_now().await;
    }
    let mut chunks = 0;
    let mut got = 0;
    while got < 100_000 {
        got += soon(stream.reader().chunk()).await.unwrap().unwrap().len();
        chunks += 1;
    }
    assert!(chunks < 10, "gathered into {chunks}");
}

#[tokio::test]
async fn a_flood_of_empty_messages_ends_a_tunnel() {
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    let (server, driver) = Builder::server().start(Tunnel::server(ours));
    let driver = tokio::spawn(driver);
    let flood = [0x82, 0x80, 1, 2, 3, 4].repeat(60_000);
    _ = soon(theirs.write_all(&flood)).await;
    let end = soon(driver).await.unwrap();
    assert!(matches!(end, End::Lost(Loss::Io(std::io::ErrorKind::InvalidData, _))), "{end}");
    let mut said = Vec::new();
    soon(theirs.read_to_end(&mut said)).await.unwrap();
    assert_eq!(said.get(..4).map(|frame| (frame[0], frame[2..4].to_vec())), Some((0x88, vec![0x03, 0xf0])));
    drop(server);
}

#[tokio::test]
async fn noise_in_a_tunnel_reaches_the_session() {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (_server, driver) = Builder::server().start(Tunnel::server(ours));
    let driver = tokio::spawn(driver);
    let mut tunnel = Tunnel::client(theirs);
    tunnel.write_all(&Bytes::from_static(&[0xff; 64])).await.unwrap();
    let mut said = Vec::new();
    soon(tunnel.read_to_end(&mut said)).await.unwrap();
    assert!(said.ends_with(&go_away(0)), "{said:02x?}");
    tunnel.shutdown().await.unwrap();
    drop(tunnel);
    assert!(matches!(soon(driver).await.unwrap(), End::Lost(Loss::Violation(_))));
}
