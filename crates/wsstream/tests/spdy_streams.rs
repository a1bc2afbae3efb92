//! SPDY streams: opening, answering, both directions, their ends, and what dropping does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod spdy_common;

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use spdy_common::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wsstream::spdy::{Builder, GoAwayStatus, Loss, OpenError, ReadError, ResetStatus, WriteError};

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (server, client) = pair.stream().await;
        let (mut server_reader, mut server_writer) = server.split();
        let (mut client_reader, mut client_writer) = client.split();
        let (up, down) = (pattern(300_000), pattern(700_000));
        let (want_up, want_down) = (up.clone(), down.clone());
        let upload = async {
            for piece in up.chunks(10_007) {
                client_writer.send(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            client_writer.close().unwrap();
        };
        let download = async {
            // The client's end has come long before this is done: half close.
            for piece in down.chunks(65_000) {
                server_writer.send(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            server_writer.close().unwrap();
        };
        let ((got_up, up_end), (got_down, down_end), (), ()) =
            tokio::join!(all(&mut server_reader), all(&mut client_reader), upload, download);
        assert_eq!((up_end, down_end), (Ok(()), Ok(())), "{carrier:?}");
        assert!(got_up == want_up && got_down == want_down, "{carrier:?}");
        assert_eq!(pair.server.stats().open_streams, 0);
        assert_eq!(soon(server_reader.chunk()).await, Ok(None), "the end stays the end");
        assert_eq!(server_writer.send(Bytes::from_static(b"x")).await, Err(WriteError::Finished));
        pair.finish().await;
    }
}

#[tokio::test]
async fn headers_and_replies() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let mut stream = pair.client.open(&headers("stdout"), true).await.unwrap();
        let incoming = soon(pair.server.accept()).await.unwrap();
        assert_eq!(incoming.headers().text("StreamType"), Some("stdout"));
        assert!(incoming.fin());
        {
            let mut replied = pin!(stream.replied());
            assert!(replied.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let mut server = incoming.accept();
        assert_eq!(soon(stream.replied()).await, Ok(()));
        assert_eq!(soon(server.reader().chunk()).await, Ok(None), "opened with FIN");
        server.writer().send(Bytes::from_static(b"hello")).await.unwrap();
        server.writer().close().unwrap();
        assert_eq!(all(stream.reader()).await, (b"hello".to_vec(), Ok(())));
        assert_eq!(stream.writer().send(Bytes::from_static(b"x")).await, Err(WriteError::Finished));
        pair.finish().await;
    }
}

#[tokio::test]
async fn data_sent_before_the_reply_arrives_behind_it() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let mut client = pair.client.open(&headers("data"), false).await.unwrap();
        client.writer().send(pattern(50_000)).await.unwrap();
        client.writer().close().unwrap();
        let incoming = soon(pair.server.accept()).await.unwrap();
        settle().await;
        assert_eq!(pair.server.stats().received, 0, "nothing goes before the reply");
        let mut server = incoming.accept();
        let (bytes, end) = all(server.reader()).await;
        assert_eq!((bytes.len(), end), (50_000, Ok(())));
        pair.finish().await;
    }
}

#[tokio::test]
async fn a_stream_that_is_rejected_or_dropped_is_reset() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let mut refused = pair.client.open(&headers("a"), false).await.unwrap();
        refused.writer().send(pattern(1000)).await.unwrap();
        soon(pair.server.accept()).await.unwrap().reject(ResetStatus::REFUSED_STREAM);
        assert_eq!(soon(refused.replied()).await, Err(ReadError::Reset(ResetStatus::REFUSED_STREAM)));
        assert_eq!(refused.writer().close(), Err(WriteError::Reset(ResetStatus::REFUSED_STREAM)));

        let mut dropped = pair.client.open(&headers("b"), false).await.unwrap();
        drop(soon(pair.server.accept()).await.unwrap());
        assert_eq!(soon(dropped.reader().chunk()).await, Err(ReadError::Reset(ResetStatus::CANCEL)));
        pair.finish().await;
    }
}

#[tokio::test]
async fn what_came_before_a_reset_is_read_first() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (mut server, mut client) = pair.stream().await;
        server.writer().send(pattern(200_000)).await.unwrap();
        server.writer().reset_after_data(ResetStatus::CANCEL);
        let (bytes, end) = all(client.reader()).await;
        assert_eq!((bytes.len(), end), (200_000, Err(ReadError::Reset(ResetStatus::CANCEL))), "{carrier:?}");
        assert_eq!(
            client.writer().send(Bytes::from_static(b"x")).await,
            Err(WriteError::Reset(ResetStatus::CANCEL))
        );
        assert_eq!(soon(server.reader().chunk()).await, Err(ReadError::Reset(ResetStatus::CANCEL)));
        pair.finish().await;
    }
}

#[tokio::test]
async fn a_reset_behind_the_end_leaves_the_end() {
    // An exec server finishes stdout and forgets it while the client has said nothing of its own side.
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (mut server, mut client) = pair.stream().await;
        server.writer().send(pattern(100_000)).await.unwrap();
        server.writer().close().unwrap();
        drop(server);
        let (bytes, end) = all(client.reader()).await;
        assert_eq!((bytes.len(), end), (100_000, Ok(())), "{carrier:?}");
        settle().await;
        let refused = client.writer().send(Bytes::from_static(b"x")).await;
        assert_eq!(refused, Err(WriteError::Reset(ResetStatus::CANCEL)), "nobody is left to read it");
        assert_eq!(soon(client.reader().chunk()).await, Ok(None));
        pair.finish().await;
    }
}

#[tokio::test]
async fn a_writer_that_is_dropped_unfinished_resets_behind_its_data() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (server, mut client) = pair.stream().await;
        let (mut reader, mut writer) = server.split();
        writer.send(pattern(90_000)).await.unwrap();
        drop(writer);
        let (bytes, end) = all(client.reader()).await;
        assert_eq!((bytes.len(), end), (90_000, Err(ReadError::Reset(ResetStatus::CANCEL))));
        assert_eq!(soon(reader.chunk()).await, Err(ReadError::Reset(ResetStatus::CANCEL)));
        pair.finish().await;
    }
}

#[tokio::test]
async fn what_comes_for_a_dropped_reader_is_thrown_away() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (server, mut client) = pair.stream().await;
        let (reader, mut writer) = server.split();
        drop(reader);
        // Ten times what the connection may hold.
        for _ in 0..640 {
            soon(client.writer().send(pattern(64 << 10))).await.unwrap();
        }
        client.writer().close().unwrap();
        soon(client.writer().flushed()).await.unwrap();
        writer.send(Bytes::from_static(b"still here")).await.unwrap();
        writer.close().unwrap();
        assert_eq!(all(client.reader()).await, (b"still here".to_vec(), Ok(())));
        let stats = pair.server.stats();
        assert_eq!((stats.waiting, stats.most_waiting <= 64), (0, true), "{stats:?}");
        pair.finish().await;
        if matches!(carrier, Carrier::Awkward(_)) {
            return;
        }
    }
}

#[tokio::test]
async fn both_sides_dropped_in_mid_flood_tell_the_peer() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (mut server, client) = pair.stream().await;
        let flood = tokio::spawn(async move {
            loop {
                if let Err(error) = server.writer().send(pattern(32 << 10)).await {
                    return error;
                }
            }
        });
        let (mut reader, writer) = client.split();
        soon(reader.chunk()).await.unwrap();
        drop((reader, writer));
        assert_eq!(soon(flood).await.unwrap(), WriteError::Reset(ResetStatus::CANCEL));
        assert_eq!(pair.client.stats().waiting, 0);
        pair.finish().await;
    }
}

#[tokio::test]
async fn a_dropped_call_loses_nothing_and_repeats_nothing() {
    let pair = linked_with(
        Carrier::Smooth,
        Builder::server().limits(limits(|limits| limits.receive_buffer = 1)),
        Builder::client().limits(limits(|limits| limits.send_stream = 1000)),
    );
    {
        let mut accept = pin!(pair.server.accept());
        assert!(accept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let (mut server, mut client) = pair.stream().await;
    let mut sent = Vec::new();
    for n in 0..2000u32 {
        let piece = Bytes::from(vec![n as u8; 500]);
        let mut send = pin!(client.writer().send(piece.clone()));
        match send.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => {
                done.unwrap();
                sent.extend(piece);
            }
            // Dropped: not one byte of it may arrive.
            Poll::Pending => {
                let mut chunk = pin!(server.reader().chunk());
                let _ = chunk.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                tokio::task::yield_now().await;
                break;
            }
        }
    }
    client.writer().close().unwrap();
    let (rest, end) = all(server.reader()).await;
    assert_eq!(end, Ok(()));
    assert!(sent.ends_with(&rest), "{} of {}", rest.len(), sent.len());
    pair.finish().await;
}

#[tokio::test]
async fn streams_are_ordinary_readers_and_writers() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (server, mut client) = pair.stream().await;
        let echo = tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(server);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        client.write_all(b"over and back").await.unwrap();
        client.flush().await.unwrap();
        let mut back = [0; 13];
        soon(client.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"over and back");
        client.shutdown().await.unwrap();
        assert_eq!(soon(client.read(&mut back)).await.unwrap(), 0);
        soon(echo).await.unwrap();
        pair.finish().await;
    }
}

#[tokio::test]
async fn two_hundred_streams_at_once() {
    for carrier in [Carrier::Smooth, Carrier::Tunnel] {
        let pair = linked(carrier);
        let server = pair.server.clone();
        tokio::spawn(async move {
            while let Some(incoming) = server.accept().await {
                let (mut reader, mut writer) = tokio::io::split(incoming.accept());
                tokio::spawn(async move {
                    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                    writer.shutdown().await.unwrap();
                });
            }
        });
        let mut echoes = Vec::new();
        for n in 0..200usize {
            let client = pair.client.clone();
            echoes.push(tokio::spawn(async move {
                let (mut reader, mut writer) = client.open(&headers("data"), false).await.unwrap().split();
                let bytes = pattern(50_000 + n);
                let send = async {
                    for piece in bytes.chunks(8192) {
                        writer.send(Bytes::copy_from_slice(piece)).await.unwrap();
                    }
                    writer.close().unwrap();
                };
                let ((got, end), ()) = tokio::join!(all(&mut reader), send);
                assert_eq!(end, Ok(()));
                assert!(got == bytes, "stream {n}");
            }));
        }
        for echo in echoes {
            soon(echo).await.unwrap();
        }
        let stats = pair.server.stats();
        assert_eq!((stats.streams_of_peer, stats.open_streams, stats.waiting), (200, 0, 0));
        pair.finish().await;
    }
}

#[tokio::test]
async fn nobody_opens_streams_to_a_client_and_a_server_refuses_when_nobody_accepts() {
    let pair = linked(Carrier::Smooth);
    // The server hears of the client first; before that it says nothing.
    let (_server, client) = pair.stream().await;
    let mut refused = pair.server.open(&headers("x"), false).await.unwrap();
    assert_eq!(soon(refused.replied()).await, Err(ReadError::Reset(ResetStatus::REFUSED_STREAM)));

    drop(pair.server);
    let mut late = pair.client.open(&headers("y"), false).await.unwrap();
    assert_eq!(soon(late.replied()).await, Err(ReadError::Reset(ResetStatus::REFUSED_STREAM)));
    drop(client);
}

#[tokio::test]
async fn nothing_is_opened_behind_a_goodbye() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let (_server, _client) = pair.stream().await;
        pair.client.shutdown(GoAwayStatus::OK);
        let refused = pair.client.open(&headers("x"), false).await;
        assert!(matches!(refused, Err(OpenError::Lost(Loss::ShutDown))), "{refused:?}");
        assert!(soon(pair.server.accept()).await.is_none(), "no more will come");
        soon(pair.server.disconnected()).await;
        let refused = pair.server.open(&headers("x"), false).await;
        assert!(matches!(refused, Err(OpenError::GoingAway | OpenError::Lost(Loss::Eof))), "{refused:?}");
        let too_long = "v".repeat(9000);
        let pair = linked(carrier);
        let refused = pair.client.open(&[("name", too_long.as_str())].into_iter().collect(), false).await;
        assert!(matches!(refused, Err(OpenError::Headers(_))), "{refused:?}");
    }
}
