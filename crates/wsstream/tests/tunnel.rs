//! The tunnel as its peer sees it: messages, pings, Close, and what breaks the rules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use wsstream::tunnel::Tunnel;
use wsstream_testing::peer::opcode;
use wsstream_testing::{Message, Peer, Plan, Stall, awkward_pair};

/// Our server's end with a scripted client, and the other way round.
fn server() -> (Tunnel, Peer<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    (Tunnel::server(ours), Peer::client(theirs))
}

fn client() -> (Tunnel, Peer<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    (Tunnel::client(ours), Peer::server(theirs))
}

/// Reads until the end; the bytes and how it ended.
async fn all(tunnel: &mut Tunnel) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        match tunnel.read(&mut buffer).await {
            Ok(0) => return (bytes, Ok(())),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) => return (bytes, Err(error.kind())),
        }
    }
}

#[tokio::test]
async fn a_write_is_a_message_and_so_is_a_vectored_one() {
    // The peer insists that a client's frames are masked and a server's are not.
    for (mut tunnel, mut peer) in [server(), client()] {
        tunnel.write_all(b"one").await.unwrap();
        peer.expect_binary(b"one").await;
        let parts = [IoSlice::new(b"tw"), IoSlice::new(b""), IoSlice::new(b"o and thr"), IoSlice::new(b"ee")];
        assert_eq!(tunnel.write_vectored(&parts).await.unwrap(), 13);
        peer.expect_binary(b"two and three").await;
        assert_eq!(tunnel.write(b"").await.unwrap(), 0);
        tunnel.write_all(b"nothing came between").await.unwrap();
        peer.expect_binary(b"nothing came between").await;
        // Longer writes are several messages.
        let long = vec![7; 200_000];
        let write = tunnel.write_all(&long);
        let read = async {
            let mut sizes = Vec::new();
            while sizes.iter().sum::<usize>() < 200_000 {
                let Message::Binary(bytes) = peer.next_message().await else { panic!("not binary") };
                sizes.push(bytes.len());
            }
            assert_eq!(sizes, [65_536, 65_536, 65_536, 3392]);
        };
        let (written, ()) = tokio::join!(write, read);
        written.unwrap();
    }
}

#[tokio::test]
async fn borders_of_messages_mean_nothing() {
    for (mut tunnel, mut peer) in [server(), client()] {
        // As spdystream writes: 2, 2, 4 bytes, and empty ones; and fragments as Go's server makes them.
        for part in [&b"ab"[..], b"cd", b"efgh", b"", b"i", b""] {
            peer.send_binary(part).await;
        }
        peer.send_frame(false, opcode::BINARY, b"jk").await;
        peer.ping(b"between").await;
        peer.send_frame(false, opcode::CONTINUATION, b"").await;
        peer.send_frame(true, opcode::CONTINUATION, b"l").await;
        peer.close(1000).await;
        assert_eq!(all(&mut tunnel).await, (b"abcdefghijkl".to_vec(), Ok(())));
        peer.expect_pong(b"between").await;
    }
}

#[tokio::test]
async fn a_close_is_the_end_or_an_error_by_its_code() {
    for (mut tunnel, mut peer) in [server(), client()] {
        peer.send_binary(b"last").await;
        peer.close_without_code().await;
        assert_eq!(all(&mut tunnel).await, (b"last".to_vec(), Ok(())));
        // This side may still speak, and then answers the Close.
        tunnel.write_all(b"more").await.unwrap();
        tunnel.shutdown().await.unwrap();
        peer.expect_binary(b"more").await;
        peer.expect_close_without_code().await;
        peer.expect_eof().await;
        assert_eq!(tunnel.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
    for (code, end) in [
        (1000, Ok(())),
        (1001, Ok(())),
        (1011, Err(io::ErrorKind::ConnectionAborted)),
        (1002, Err(io::ErrorKind::ConnectionAborted)),
        (4000, Err(io::ErrorKind::ConnectionAborted)),
    ] {
        for (mut tunnel, mut peer) in [server(), client()] {
            peer.send_binary(b"last").await;
            peer.close(code).await;
            assert_eq!(all(&mut tunnel).await, (b"last".to_vec(), end), "{code}");
            assert_eq!(all(&mut tunnel).await, (Vec::new(), end), "and so it stays");
            tunnel.shutdown().await.unwrap();
            peer.expect_close(code).await;
        }
    }
}

#[tokio::test]
async fn shutdown_says_close_and_reading_goes_on() {
    for (mut tunnel, mut peer) in [server(), client()] {
        tunnel.write_all(b"all").await.unwrap();
        tunnel.shutdown().await.unwrap();
        tunnel.shutdown().await.unwrap();
        peer.expect_binary(b"all").await;
        peer.expect_close(1000).await;
        peer.send_binary(b"still coming").await;
        peer.ping(b"no answer behind Close").await;
        peer.close(1000).await;
        assert_eq!(all(&mut tunnel).await, (b"still coming".to_vec(), Ok(())));
        drop(tunnel);
        peer.expect_eof().await;
    }
}

#[tokio::test]
async fn an_end_without_close_is_no_end() {
    for (mut tunnel, mut peer) in [server(), client()] {
        peer.send_binary(b"some").await;
        peer.shutdown().await;
        assert_eq!(all(&mut tunnel).await, (b"some".to_vec(), Err(io::ErrorKind::UnexpectedEof)));
    }
}

#[tokio::test]
async fn what_breaks_the_rules_is_answered_with_the_code_that_names_it() {
    // Text, a reserved bit, a stray continuation.
    let text = (true, opcode::TEXT, 1003);
    let stray = (true, opcode::CONTINUATION, 1002);
    let reserved = (true, 3, 1002);
    for (fin, kind, code) in [text, stray, reserved] {
        for (mut tunnel, mut peer) in [server(), client()] {
            peer.send_binary(b"good").await;
            peer.send_frame(fin, kind, b"bad").await;
            assert_eq!(all(&mut tunnel).await, (b"good".to_vec(), Err(io::ErrorKind::InvalidData)));
            peer.expect_close(code).await;
            assert_eq!(tunnel.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }
    // A server's peer that does not mask.
    let (ours, theirs) = tokio::io::duplex(1000);
    let (mut tunnel, mut peer) = (Tunnel::server(ours), Peer::client(theirs));
    peer.send_raw(&[0x82, 1, b'x']).await;
    assert_eq!(all(&mut tunnel).await, (Vec::new(), Err(io::ErrorKind::InvalidData)));
    peer.expect_close(1002).await;
}

#[tokio::test]
async fn bytes_that_came_with_the_upgrade_are_not_lost() {
    let (ours, theirs) = tokio::io::duplex(1000);
    let mut tunnel = Tunnel::client(ours).already_read(Bytes::from_static(&[0x82, 5, b'e', b'a', b'r']));
    let mut peer = Peer::server(theirs);
    peer.send_raw(b"ly").await;
    peer.close(1000).await;
    assert_eq!(all(&mut tunnel).await, (b"early".to_vec(), Ok(())));
}

/// What a message in flight holds: one message, whatever the writer has to say.
#[tokio::test]
async fn a_writer_waits_until_the_wire_has_taken_the_message_before() {
    let (ours, theirs) = tokio::io::duplex(1000);
    let mut tunnel = Tunnel::server(ours);
    let mut peer = Peer::client(theirs);
    let message = [7; 50_000];
    let poll = |tunnel: &mut Tunnel| {
        std::pin::Pin::new(tunnel).poll_write(&mut Context::from_waker(Waker::noop()), &message)
    };
    assert!(matches!(poll(&mut tunnel), Poll::Ready(Ok(50_000))), "it is queued whole");
    assert!(poll(&mut tunnel).is_pending());
    assert!(poll(&mut tunnel).is_pending(), "and nothing more");
    let flush = async {
        tunnel.flush().await.unwrap();
        tunnel.write_all(b"next").await.unwrap();
        tunnel.flush().await.unwrap();
    };
    let read = async {
        peer.expect_binary(&message).await;
        peer.expect_binary(b"next").await;
    };
    tokio::join!(flush, read);
}

/// A reader writes as well, because it answers pings; the two halves must not steal each other's wakers.
#[tokio::test]
async fn a_reader_that_answers_pings_does_not_leave_a_writer_asleep() {
    for seed in 0..20 {
        let stall = Stall::open();
        let (ours, theirs) = awkward_pair(
            Plan::awkward(seed, 700).stall_writes(&stall).unrecorded(),
            Plan::awkward(seed + 100, 700).unrecorded(),
            4000,
        );
        let (mut reader, mut writer) = tokio::io::split(Tunnel::server(ours));
        let writing = tokio::spawn(async move {
            for _ in 0..20 {
                writer.write_all(&[1; 5000]).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        });
        let reading = tokio::spawn(async move {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).await.unwrap();
            bytes
        });
        let mut peer = Peer::client(theirs);
        stall.hold();
        for _ in 0..5 {
            peer.ping(b"x").await;
            peer.send_binary(b"data").await;
        }
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
        stall.release();
        let (mut got, mut pongs) = (0, 0);
        loop {
            match peer.next_message().await {
                Message::Binary(bytes) => got += bytes.len(),
                Message::Pong(_) => pongs += 1,
                Message::Close(Some(1000), _) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((got, pongs > 0), (100_000, true), "seed {seed}");
        peer.close(1000).await;
        writing.await.unwrap();
        assert_eq!(reading.await.unwrap(), b"data".repeat(5));
    }
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let (mut tunnel, mut peer) = server();
    let mut got = Vec::new();
    for n in 0..200u8 {
        {
            let mut buffer = [0; 3];
            let mut read = pin!(tunnel.read(&mut buffer));
            // Polled once, and dropped when nothing is there.
            let polled = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(read) = polled {
                let n = read.unwrap();
                got.extend_from_slice(&buffer[..n]);
            }
        }
        peer.send_binary(&[n, n]).await;
    }
    peer.close(1000).await;
    let (rest, end) = all(&mut tunnel).await;
    got.extend(rest);
    assert_eq!(end, Ok(()));
    assert_eq!(got, (0..200u8).flat_map(|n| [n, n]).collect::<Vec<_>>());
}

/// Go's client leaves after its Close without waiting.
#[tokio::test]
async fn a_wire_that_is_gone_behind_close_does_not_hide_the_end() {
    let (mut tunnel, mut peer) = server();
    peer.send_binary(b"done").await;
    peer.close(1000).await;
    drop(peer);
    assert_eq!(all(&mut tunnel).await, (b"done".to_vec(), Ok(())));
    assert!(tunnel.shutdown().await.is_err(), "nobody is left to answer");
}
