//! Many streams from many tasks on several threads: each byte once and in order, or the stream is reset.

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

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use spdy_common::*;
use tokio::net::{TcpListener, TcpStream};
use wsstream::spdy::{Builder, Connection, GoAwayStatus, ReadError, ResetStatus, Stream, WriteError};
use wsstream::tunnel::Tunnel;

/// What both ends of a stream know of it: the number in its header seeds their plans.
struct Plan {
    size: usize,
    piece: usize,
    /// Both directions end early, at this byte of the first.
    reset_at: Option<usize>,
    /// The reader takes this much and leaves.
    reads: usize,
}

impl Plan {
    fn of(seed: u64) -> (Self, Self) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut one = || {
            let size =
                if rng.random_bool(0.3) { rng.random_range(0..2000) } else { rng.random_range(0..400_000) };
            Self {
                size,
                piece: rng.random_range(1..=60_000).max(size / 200),
                reset_at: rng.random_bool(0.15).then(|| rng.random_range(0..=size)),
                reads: if rng.random_bool(0.15) { rng.random_range(0..=size) } else { usize::MAX },
            }
        };
        (one(), one())
    }
}

/// One end: sends by its own plan and checks what comes by the other's.
async fn play(stream: Stream, own: Plan, other: Plan) {
    let (mut reader, mut writer) = stream.split();
    let send = async move {
        let bytes = pattern(own.size);
        let mut at = 0;
        while at < own.size {
            if own.reset_at.is_some_and(|reset| reset <= at) {
                // Dropped: the reset goes behind what was sent.
                return;
            }
            let end = (at + own.piece).min(own.size);
            match writer.send(bytes.slice(at..end)).await {
                Ok(()) => at = end,
                Err(WriteError::Reset(ResetStatus::CANCEL)) => return,
                Err(error) => panic!("{error}"),
            }
        }
        match writer.close() {
            Ok(()) | Err(WriteError::Reset(ResetStatus::CANCEL)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let receive = async move {
        let expected = pattern(other.size);
        let mut at = 0;
        while at < own.reads {
            match reader.chunk().await {
                Ok(Some(chunk)) => {
                    assert_eq!(expected.get(at..at + chunk.len()), Some(&chunk[..]), "at {at}");
                    at += chunk.len();
                }
                Ok(None) => {
                    assert_eq!(at, other.size, "an end that is none");
                    assert!(other.reset_at.is_none_or(|reset| reset + other.piece >= other.size));
                    return;
                }
                Err(ReadError::Reset(ResetStatus::CANCEL)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::join!(send, receive);
}

async fn serve(server: Connection) {
    let mut playing = tokio::task::JoinSet::new();
    while let Some(incoming) = server.accept().await {
        let seed: u64 = incoming.headers().text("seed").unwrap().parse().unwrap();
        if seed % 11 == 10 {
            incoming.reject(ResetStatus::REFUSED_STREAM);
            continue;
        }
        let (clients, own) = Plan::of(seed);
        playing.spawn(play(incoming.accept(), own, clients));
    }
    while let Some(done) = playing.join_next().await {
        done.unwrap();
    }
}

async fn run(server: Connection, client: Connection, streams: u64) {
    let serving = tokio::spawn(serve(server.clone()));
    let mut playing = tokio::task::JoinSet::new();
    for seed in 0..streams {
        let client = client.clone();
        playing.spawn(async move {
            let number = seed.to_string();
            let mut stream =
                client.open(&[("seed", number.as_str())].into_iter().collect(), false).await.unwrap();
            if seed % 11 == 10 {
                let refused = Err(ReadError::Reset(ResetStatus::REFUSED_STREAM));
                assert_eq!(stream.replied().await, refused);
                return;
            }
            let (own, servers) = Plan::of(seed);
            play(stream, own, servers).await;
        });
        if playing.len() > 60 {
            soon(playing.join_next()).await.unwrap().unwrap();
        }
    }
    while let Some(done) = soon(playing.join_next()).await {
        done.unwrap();
    }
    client.shutdown(GoAwayStatus::OK);
    soon(serving).await.unwrap();
    for stats in [server.stats(), client.stats()] {
        assert_eq!((stats.waiting, stats.evicted), (0, 0), "{stats:?}");
        assert!(stats.most_waiting <= (4 << 20) + (64 << 10), "{stats:?}");
    }
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (server.unwrap().0, client.unwrap())
}

fn builders() -> (Builder, Builder) {
    // The plans are no honest peer's: far more streams are reset than a limit on floods lets through.
    let many = || limits(|limits| limits.session.max_rate_resets = u32::MAX);
    (Builder::server().limits(many()), Builder::client().limits(many()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_streams_over_a_socket() {
    let (server_io, client_io) = tcp().await;
    let (server, client) = builders();
    let (server, server_driver) = server.start(server_io);
    let (client, client_driver) = client.start(client_io);
    let drivers = (tokio::spawn(server_driver), tokio::spawn(client_driver));
    run(server.clone(), client, 1000).await;
    drop(server);
    soon(drivers.0).await.unwrap();
    soon(drivers.1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_streams_through_a_tunnel() {
    let (server_io, client_io) = tcp().await;
    let (server, client) = builders();
    let (server, server_driver) = server.start(Tunnel::server(server_io));
    let (client, client_driver) = client.start(Tunnel::client(client_io));
    let drivers = (tokio::spawn(server_driver), tokio::spawn(client_driver));
    run(server.clone(), client, 1000).await;
    drop(server);
    soon(drivers.0).await.unwrap();
    soon(drivers.1).await.unwrap();
}

#[tokio::test]
async fn many_streams_over_every_awkward_carrier() {
    for carrier in CARRIERS {
        let (server, client) = builders();
        let pair = linked_with(carrier, server, client);
        run(pair.server.clone(), pair.client.clone(), 120).await;
    }
}

/// Frames that are queued in one turn leave in one write.
#[tokio::test]
async fn small_frames_of_many_streams_leave_together() {
    let (server_io, client_io) = wsstream_testing::awkward_pair(
        wsstream_testing::Plan::smooth(),
        wsstream_testing::Plan::smooth(),
        1 << 20,
    );
    let (counted, writes) = Counted::new(client_io);
    let (server, driver) = Builder::server().start(server_io);
    tokio::spawn(driver);
    let (client, driver) = Builder::client().start(counted);
    tokio::spawn(driver);
    let mut streams = Vec::new();
    for _ in 0..30 {
        let stream = client.open(&headers("data"), false).await.unwrap();
        streams.push((stream, soon(server.accept()).await.unwrap().accept()));
    }
    for (stream, _) in &mut streams {
        soon(stream.replied()).await.unwrap();
    }
    settle().await;
    let before = writes.load(std::sync::atomic::Ordering::Relaxed);
    for (stream, _) in &mut streams {
        stream.writer().send(Bytes::from_static(b"a line\n")).await.unwrap();
    }
    settle().await;
    let took = writes.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert_eq!(took, 1, "30 frames");
    for (_, stream) in &mut streams {
        assert_eq!(soon(stream.reader().chunk()).await.unwrap().unwrap(), "a line\n");
    }
}

/// Counts the writes to a stream.
struct Counted<T> {
    io: T,
    writes: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl<T> Counted<T> {
    fn new(io: T) -> (Self, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        let writes = std::sync::Arc::default();
        (Self { io, writes: std::sync::Arc::clone(&writes) }, writes)
    }
}

impl<T: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for Counted<T> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for Counted<T> {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.poll_write_vectored(cx, &[std::io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[std::io::IoSlice<'_>],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::pin::Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
