//! What waits where: a stream that is not read, peers that flood each other, and the budget that holds it all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod spdy_common;

use std::time::Duration;

use bytes::Bytes;
use spdy_common::*;
use wsstream::MemoryBudget;
use wsstream::spdy::{Builder, ReadError, ResetStatus, Stream, StreamWriter, WriteError};

/// What one read may add to a full buffer.
const SLACK: usize = 64 << 10;

/// Sends without end.
async fn flood(mut writer: StreamWriter) -> WriteError {
    loop {
        if let Err(error) = writer.send(pattern(16 << 10)).await {
            return error;
        }
    }
}

#[tokio::test]
async fn one_stream_of_six_that_is_never_read_does_not_stop_the_other_five() {
    for carrier in CARRIERS {
        for role in ROLES {
            let pair = linked(carrier);
            let mut streams = Vec::new();
            // Stream ids of all classes that spdystream tells apart.
            for _ in 0..6 {
                streams.push(pair.reading(role).await);
            }
            let (_stalled, sender) = streams.remove(2);
            // As much as fits beside the others for ever.
            let (_reader, mut writer) = sender.split();
            let full = tokio::spawn(async move {
                for _ in 0..32 {
                    writer.send(pattern(64 << 10)).await.unwrap();
                }
                writer.flushed().await.unwrap();
                writer
            });
            let size = if matches!(carrier, Carrier::Smooth | Carrier::Tunnel) { 8 << 20 } else { 1 << 20 };
            let moves = streams.into_iter().map(|(reader, writer)| {
                tokio::spawn(async move {
                    let (mut reader, _writer) = reader.split();
                    let (_reader, mut writer) = writer.split();
                    let send = async {
                        for _ in 0..size / (32 << 10) {
                            writer.send(pattern(32 << 10)).await.unwrap();
                        }
                        writer.close().unwrap();
                    };
                    let ((bytes, end), ()) = tokio::join!(all(&mut reader), send);
                    assert_eq!((bytes.len(), end), (size, Ok(())));
                })
            });
            for moved in moves.collect::<Vec<_>>() {
                soon(moved).await.unwrap();
            }
            let _writer = soon(full).await.unwrap();
            let arrived = async {
                while pair.of(role).stats().waiting < 2 << 20 {
                    tokio::task::yield_now().await;
                }
            };
            soon(arrived).await;
            let stats = pair.of(role).stats();
            assert_eq!((stats.waiting, stats.evicted), (2 << 20, 0), "{carrier:?} {role:?}");
            assert!(stats.most_waiting <= (4 << 20) + SLACK, "{stats:?}");
        }
    }
}

#[tokio::test]
async fn two_peers_that_flood_each_other_never_deadlock() {
    for carrier in CARRIERS {
        let pair = linked(carrier);
        let mut tasks = Vec::new();
        let size = if matches!(carrier, Carrier::Smooth | Carrier::Tunnel) { 16 << 20 } else { 1 << 20 };
        for _ in 0..3 {
            let (server, client) = pair.stream().await;
            for stream in [server, client] {
                tasks.push(tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    let send = async {
                        for _ in 0..size / (64 << 10) {
                            writer.send(pattern(64 << 10)).await.unwrap();
                        }
                        writer.close().unwrap();
                    };
                    let ((bytes, end), ()) = tokio::join!(all(&mut reader), send);
                    assert_eq!((bytes.len(), end), (size, Ok(())));
                }));
            }
        }
        for task in tasks {
            soon(task).await.unwrap();
        }
        pair.finish().await;
    }
}

#[tokio::test]
async fn two_echoes_that_read_only_when_they_have_written_get_on() {
    // Each side reads a piece and writes it back before it reads the next; what is in the air exceeds every pipe, and
    // fits into the budgets.
    for carrier in [Carrier::Smooth, Carrier::Tunnel] {
        let pair = linked(carrier);
        let (server, client) = pair.stream().await;
        let echo = |stream: Stream, rounds: usize| async move {
            let (mut reader, mut writer) = stream.split();
            let mut moved = 0;
            while moved < rounds {
                let chunk = reader.chunk().await.unwrap().unwrap();
                moved += chunk.len();
                writer.send(chunk).await.unwrap();
            }
            (reader, writer)
        };
        let (client_reader, mut client_writer) = client.split();
        for _ in 0..24 {
            soon(client_writer.send(pattern(64 << 10))).await.unwrap();
        }
        let server = tokio::spawn(echo(server, 30 << 20));
        let client = tokio::spawn(async move {
            let (mut reader, mut writer) = (client_reader, client_writer);
            let mut moved = 0;
            while moved < 30 << 20 {
                let chunk = reader.chunk().await.unwrap().unwrap();
                moved += chunk.len();
                writer.send(chunk).await.unwrap();
            }
            (reader, writer)
        });
        let _ends = (soon(server).await.unwrap(), soon(client).await.unwrap());
    }
}

#[tokio::test]
async fn memory_stays_inside_the_budget_on_both_sides() {
    for carrier in CARRIERS {
        for role in ROLES {
            let small = || {
                limits(|limits| {
                    limits.receive_buffer = 512 << 10;
                    limits.soft_stream = 64 << 10;
                    limits.send_stream = 32 << 10;
                    limits.send_total = 256 << 10;
                })
            };
            let (server, client) = (Builder::server().limits(small()), Builder::client().limits(small()));
            let pair = linked_with(carrier, server, client);
            let (mut readers, mut writers) = (Vec::new(), Vec::new());
            for _ in 0..40 {
                let (reader, writer) = pair.reading(role).await;
                readers.push(reader);
                writers.push(writer);
            }
            for writer in writers {
                let (_unread, writer) = writer.split();
                tokio::spawn(async move {
                    let _unread = _unread;
                    flood(writer).await
                });
            }
            let of_reader = pair.of(role);
            let of_writer = pair.of(if role == Role::Server { Role::Client } else { Role::Server });
            let both_full = async {
                while of_reader.stats().waiting < 512 << 10 || of_writer.stats().unsent < 128 << 10 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            soon(both_full).await;
            settle().await;
            let (read, written) = (of_reader.stats(), of_writer.stats());
            assert!(read.most_waiting <= (512 << 10) + SLACK, "{carrier:?} {read:?}");
            // One message above, and the heads of frames.
            assert!(written.most_unsent <= (256 << 10) + (16 << 10) + 2000, "{carrier:?} {written:?}");
            // Nobody is served by an eviction; whoever reads at last gets on.
            assert_eq!(read.evicted, 0);
            let reading: Vec<_> = readers
                .into_iter()
                .map(|reader| {
                    tokio::spawn(async move {
                        let (mut reader, _writer) = reader.split();
                        let mut left = 256 << 10;
                        while left > 0 {
                            left -= reader.chunk().await.unwrap().unwrap().len().min(left);
                        }
                    })
                })
                .collect();
            for read in reading {
                soon(read).await.unwrap();
            }
            let read = of_reader.stats();
            assert!(read.most_waiting <= (512 << 10) + SLACK, "{carrier:?} {read:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_costs_no_more_than_the_send_buffers() {
    let (server_io, client_io) = carry(Carrier::Smooth);
    let (server, driver) = Builder::server().start(server_io);
    tokio::spawn(driver);
    let mut peer = Script::client(client_io);
    for _ in 0..20 {
        peer.session.open(&headers("data"), false).unwrap();
    }
    peer.flush().await;
    let mut blocked = Vec::new();
    for _ in 0..20 {
        let (reader, writer) = soon(server.accept()).await.unwrap().accept().split();
        blocked.push((reader, tokio::spawn(flood(writer))));
    }
    let full = async {
        while server.stats().unsent < 1 << 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(full).await;
    settle().await;
    assert!(server.stats().most_unsent <= (1 << 20) + (16 << 10) + 2000, "{:?}", server.stats());
    // It still speaks, and is heard: reading does not wait for writing.
    let first = peer.session.open(&headers("late"), false).unwrap();
    peer.flush().await;
    assert_eq!(soon(server.accept()).await.unwrap().id(), first);
    // Each reset frees its share, and who waited for it hears of the reset.
    for (reader, task) in blocked {
        peer.session.reset(reader.id(), ResetStatus::CANCEL);
        peer.flush().await;
        assert_eq!(soon(task).await.unwrap(), WriteError::Reset(ResetStatus::CANCEL));
    }
    assert!(server.stats().unsent < 128 << 10, "what is begun, and control frames: {:?}", server.stats());
}

#[tokio::test]
async fn everybody_gets_room_in_turn() {
    // Sixteen streams that send without end and one that sends now and then, all through one mebibyte.
    for carrier in [Carrier::Smooth, Carrier::Tunnel] {
        let pair = linked(carrier);
        for _ in 0..16 {
            let (reader, writer) = pair.stream().await;
            let (mut reader, _unused) = reader.split();
            tokio::spawn(async move {
                let _unused = _unused;
                while let Ok(Some(_)) = reader.chunk().await {}
            });
            let (unread, writer) = writer.split();
            tokio::spawn(async move {
                let _unread = unread;
                flood(writer).await
            });
        }
        let (mut reader, mut writer) = pair.stream().await;
        for n in 0..200u8 {
            soon(writer.writer().send(Bytes::from(vec![n; 100]))).await.unwrap();
            assert_eq!(soon(reader.reader().chunk()).await.unwrap().unwrap(), vec![n; 100]);
        }
    }
}

/// A pair whose server holds little and gives up after 15 s, with a stream that fills all of it.
async fn starved() -> (Pair, Stream, tokio::task::JoinHandle<WriteError>) {
    let server = Builder::server().limits(limits(|limits| {
        limits.receive_buffer = 256 << 10;
        limits.soft_stream = 64 << 10;
    }));
    let pair = linked_with(Carrier::Smooth, server, Builder::client());
    let (stalled, sender) = pair.stream().await;
    let (unread, writer) = sender.split();
    let full = tokio::spawn(async move {
        let _unread = unread;
        flood(writer).await
    });
    while pair.server.stats().waiting < 256 << 10 {
        tokio::task::yield_now().await;
    }
    (pair, stalled, full)
}

#[tokio::test(start_paused = true)]
async fn a_lone_stream_that_is_not_read_waits_for_ever() {
    let (pair, mut stalled, _full) = starved().await;
    // Its own error stream is no reason either.
    let (mut error, _sender) = {
        let client = pair.client.open(&headers("error"), false).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(pair.server.stats().waiting, pair.server.stats().most_waiting);
        (client, ())
    };
    error.reader().set_background(true);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(pair.server.stats().evicted, 0);
    soon(stalled.reader().chunk()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_waiting_background_stream_is_no_reason_to_evict() {
    let server = Builder::server().limits(limits(|limits| limits.receive_buffer = 256 << 10));
    let pair = linked_with(Carrier::Smooth, server, Builder::client());
    let (mut error, _error_sender) = pair.stream().await;
    error.reader().set_background(true);
    tokio::spawn(async move { error.reader().chunk().await });
    let (mut stalled, sender) = pair.stream().await;
    let (_unread, writer) = sender.split();
    tokio::spawn(flood(writer));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(pair.server.stats().evicted, 0);
    assert!(pair.server.stats().waiting >= 256 << 10);
    soon(stalled.reader().chunk()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_stream_that_starves_another_is_given_up_after_the_grace() {
    let server = Builder::server().limits(limits(|limits| {
        limits.receive_buffer = 256 << 10;
        limits.soft_stream = 64 << 10;
    }));
    let pair = linked_with(Carrier::Smooth, server, Builder::client());
    let (mut starved, mut starved_sender) = pair.stream().await;
    let (_slow, mut slow_sender) = pair.stream().await;
    slow_sender.writer().send(pattern(1000)).await.unwrap();
    let (mut stalled, sender) = pair.stream().await;
    let (_unread, writer) = sender.split();
    let full = tokio::spawn(flood(writer));
    let got = tokio::spawn(async move { starved.reader().chunk().await });
    tokio::time::sleep(Duration::from_secs(14)).await;
    starved_sender.writer().send(Bytes::from_static(b"at last")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!got.is_finished(), "nothing is read while the budget is used up");
    assert_eq!(pair.server.stats().evicted, 0, "not before the grace is over");
    assert_eq!(soon(got).await.unwrap(), Ok(Some(Bytes::from_static(b"at last"))));
    assert_eq!(pair.server.stats().evicted, 1, "and only the one that hoards");
    assert_eq!(soon(full).await.unwrap(), WriteError::Reset(ResetStatus::FLOW_CONTROL_ERROR));
    assert_eq!(soon(stalled.reader().chunk()).await, Err(ReadError::Evicted));
    assert_eq!(stalled.writer().send(Bytes::from_static(b"x")).await, Err(WriteError::Evicted));
    assert!(pair.server.stats().waiting <= 1000);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_expected_is_reason_enough() {
    let (pair, mut stalled, full) = starved().await;
    let expecting = pair.server.expect_stream();
    let opened = tokio::spawn({
        let client = pair.client.clone();
        async move { client.open(&headers("data"), false).await }
    });
    let incoming = soon(pair.server.accept()).await.unwrap();
    drop(expecting);
    assert_eq!(pair.server.stats().evicted, 1);
    assert_eq!(soon(full).await.unwrap(), WriteError::Reset(ResetStatus::FLOW_CONTROL_ERROR));
    assert_eq!(soon(stalled.reader().chunk()).await, Err(ReadError::Evicted));
    let _both = (incoming.accept(), soon(opened).await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_nothing_is_ever_given_up() {
    let server = Builder::server().limits(limits(|limits| {
        limits.receive_buffer = 256 << 10;
        limits.stall_grace = None;
    }));
    let pair = linked_with(Carrier::Smooth, server, Builder::client());
    let (mut waiting, _waiting_sender) = pair.stream().await;
    let waits = tokio::spawn(async move { waiting.reader().chunk().await });
    let (_stalled, sender) = pair.stream().await;
    let (_unread, writer) = sender.split();
    tokio::spawn(flood(writer));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(pair.server.stats().evicted, 0);
    assert!(!waits.is_finished());
}

#[tokio::test(start_paused = true)]
async fn connections_share_a_ceiling_and_get_on_when_it_is_given_back() {
    let shared = MemoryBudget::new(512 << 10);
    let builder = || {
        Builder::server().limits(limits(|limits| {
            limits.soft_stream = 64 << 10;
            limits.shared = shared.clone();
        }))
    };
    let (one, two) = (
        linked_with(Carrier::Smooth, builder(), Builder::client()),
        linked_with(Carrier::Smooth, builder(), Builder::client()),
    );
    let mut stalled = Vec::new();
    for pair in [&one, &two] {
        let (reader, sender) = pair.stream().await;
        let (unread, writer) = sender.split();
        tokio::spawn(async move {
            let _unread = unread;
            flood(writer).await
        });
        stalled.push(reader);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (first, second) = (one.server.stats().waiting, two.server.stats().waiting);
    assert!(first + second <= (512 << 10) + 2 * (64 << 10) + 2 * SLACK, "{first} {second}");
    assert!(first > 400 << 10 && second < 200 << 10, "the first has it: {first} {second}");
    drop(stalled.remove(0));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(two.server.stats().waiting > 400 << 10, "{:?}", two.server.stats());
    drop((one, two, stalled));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shared.available(), 512 << 10, "all is given back");
}
