//! One budget for all connections of a server, over both wires and in both directions: when many send at once and nobody
//! reads, they are slowed and the budget holds; who is read gets on all the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod common;

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use common::{CH0, CH1, limits, pattern, server, soon, until};
use tokio::io::{AsyncWriteExt as _, duplex};
use tokio::task::JoinSet;
use wsstream::connection::{ChannelReader, Connection};
use wsstream::limits::{OWN_SHARE, SpdyLimits};
use wsstream::proto::spdy::{Headers, Limits, Session};
use wsstream::spdy::{self, StreamReader};
use wsstream::{MemoryBudget, Subprotocol};
use wsstream_testing::peer::RawFrame;

/// One message, and one read of the wire.
const PIECE: usize = 32 << 10;

const SHARED: usize = 1 << 20;

/// What a wire holds by itself.
const WIRE: usize = 64 << 10;

/// What a connection may hold whatever others do, in each direction: one piece may go above.
const OWN: usize = OWN_SHARE + PIECE;

/// A server's channels, whose client sends `pieces` and reads nothing; and whose handler sends without end.
fn channels(shared: &MemoryBudget, pieces: usize, tasks: &mut JoinSet<()>) -> (Connection, ChannelReader) {
    let (ours, mut theirs) = duplex(WIRE);
    let limits = limits(|limits| limits.shared = shared.clone());
    let (connection, driver) = server(Subprotocol::V5).limits(limits).server(ours);
    tasks.spawn(async move { drop(driver.await) });
    let frame = RawFrame::new(true, 2, &[&[0], &pattern(PIECE)[..]].concat()).masked([7; 4]).encode();
    tasks.spawn(async move {
        for _ in 0..pieces {
            if theirs.write_all(&frame).await.is_err() {
                return;
            }
        }
        // Open, and not read.
        let _theirs = theirs;
        std::future::pending::<()>().await;
    });
    let mut stdout = connection.writer(CH1).unwrap();
    tasks.spawn(async move { while stdout.send(pattern(PIECE).into()).await.is_ok() {} });
    let stdin = connection.reader(CH0).unwrap();
    (connection, stdin)
}

/// The same over SPDY, with one stream.
async fn streams(
    shared: &MemoryBudget,
    pieces: usize,
    tasks: &mut JoinSet<()>,
) -> (spdy::Connection, StreamReader) {
    let (ours, mut theirs) = duplex(WIRE);
    let mut limits = SpdyLimits::default();
    limits.shared = shared.clone();
    let (connection, driver) = spdy::Builder::server().limits(limits).start(ours);
    tasks.spawn(async move { drop(driver.await) });
    let mut client = Session::client(Limits::default());
    let id = client.open(&Headers::default(), false).unwrap();
    theirs.write_all(&bytes_of(&mut client)).await.unwrap();
    let stream = soon(connection.accept()).await.unwrap().accept();
    // The reply comes, unread, and allows it to send.
    let mut reply = BytesMut::from(&[0x80, 3, 0, 2, 0, 0, 0, 21, 0, 0, 0, 1][..]);
    reply.extend_from_slice(&[0x78, 1, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    reply[7] = u8::try_from(reply.len() - 8).unwrap();
    client.handle_input(&mut reply).unwrap().unwrap();
    client.data(id, pattern(PIECE).into(), false).unwrap();
    let frames = bytes_of(&mut client);
    tasks.spawn(async move {
        for _ in 0..pieces {
            if theirs.write_all(&frames).await.is_err() {
                return;
            }
        }
        // Open, and not read.
        let _theirs = theirs;
        std::future::pending::<()>().await;
    });
    let (reader, mut writer) = stream.split();
    tasks.spawn(async move { while writer.send(pattern(PIECE).into()).await.is_ok() {} });
    (connection, reader)
}

fn bytes_of(session: &mut Session) -> Bytes {
    let len = session.outbox().remaining();
    session.outbox().copy_to_bytes(len)
}

#[tokio::test]
async fn many_that_send_and_are_not_read_stay_inside_one_budget() {
    const EACH: usize = 30;
    let shared = MemoryBudget::new(SHARED);
    let mut tasks = JoinSet::new();
    let (mut over_channels, mut over_streams) = (Vec::new(), Vec::new());
    for _ in 0..EACH {
        over_channels.push(channels(&shared, usize::MAX, &mut tasks));
        over_streams.push(streams(&shared, usize::MAX, &mut tasks).await);
    }
    let held = || {
        let channels: usize = over_channels.iter().map(|(connection, _)| connection.stats().waiting).sum();
        let streams = over_streams.iter().map(|(connection, _)| connection.stats());
        channels + streams.map(|stats| stats.waiting + stats.unsent).sum::<usize>()
    };
    let ceiling = SHARED + 3 * EACH * OWN;
    // Each has more than its own share of what came, and the budget is used up.
    let full = |waiting: usize| waiting >= OWN_SHARE;
    until(|| {
        assert!(held() <= ceiling, "{} of {ceiling}", held());
        shared.available() == 0
            && over_channels.iter().all(|(connection, _)| full(connection.stats().waiting))
            && over_streams.iter().all(|(connection, _)| full(connection.stats().waiting))
    })
    .await;
    let most = |waiting: usize, unsent: usize| waiting <= SHARED + OWN && unsent <= SHARED + OWN;
    assert!(over_streams.iter().all(|(c, _)| most(c.stats().waiting, c.stats().unsent)));

    // Who comes now and is read gets all of it, over each wire.
    // Twice 64 pieces, and what the last chunk of each may have more.
    let (_connection, mut stdin) = channels(&shared, 130, &mut tasks);
    let (_session, mut stream) = streams(&shared, 130, &mut tasks).await;
    for _ in 0..2 {
        let (mut one, mut other) = (0, 0);
        while one < 64 * PIECE || other < 64 * PIECE {
            if one < 64 * PIECE {
                one += soon(stdin.chunk()).await.unwrap().unwrap().len();
            }
            if other < 64 * PIECE {
                other += soon(stream.chunk()).await.unwrap().unwrap().len();
            }
            assert!(held() <= ceiling, "{} of {ceiling}", held());
        }
    }

    // And each of those that waited can be read to whatever end.
    for (_, stdin) in &mut over_channels {
        let mut read = 0;
        while read < 4 << 20 {
            read += soon(stdin.chunk()).await.unwrap().unwrap().len();
        }
    }
    for (_, stream) in &mut over_streams {
        let mut read = 0;
        while read < 4 << 20 {
            read += soon(stream.chunk()).await.unwrap().unwrap().len();
        }
    }
    tasks.shutdown().await;
    drop((over_channels, over_streams, stdin, stream, _connection, _session));
    assert_eq!(shared.available(), SHARED, "all is given back");
}

/// A base64 message is given out whole: what the shared budget has no room for stays in that of unfinished messages.
#[tokio::test(start_paused = true)]
async fn whole_messages_that_nobody_reads_stay_inside_both_budgets() {
    const EACH: usize = 20;
    /// Bytes in one message.
    const WHOLE: usize = 900_000;
    const PARTIAL: usize = 4 << 20;
    let (shared, partial) = (MemoryBudget::new(SHARED), MemoryBudget::new(PARTIAL));
    let text = format!("0{}", "A".repeat(WHOLE / 3 * 4));
    let frame = RawFrame::new(true, 1, text.as_bytes()).masked([7; 4]).encode();
    let mut tasks = JoinSet::new();
    let mut all = Vec::new();
    for _ in 0..EACH {
        let (ours, mut theirs) = duplex(WIRE);
        let limits = limits(|limits| {
            (limits.shared, limits.partial_messages) = (shared.clone(), partial.clone());
        });
        let (connection, driver) = server(Subprotocol::V4_BASE64_CHANNEL).limits(limits).server(ours);
        let stdin = connection.reader(CH0).unwrap();
        let frame = frame.clone();
        tasks.spawn(async move {
            let _ = theirs.write_all(&frame).await;
            std::future::pending::<()>().await;
        });
        let driving = tokio::spawn(driver);
        all.push((connection, stdin, driving));
    }
    let waiting = || all.iter().map(|(connection, ..)| connection.stats().waiting).sum::<usize>();
    for _ in 0..1000 {
        assert!(waiting() <= SHARED + PARTIAL + EACH * OWN, "{}", waiting());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Some have all of it; whoever found no room is told so, and holds nothing.
    let whole = all.iter().filter(|(connection, ..)| connection.stats().waiting == WHOLE).count();
    assert!((1..EACH).contains(&whole) && waiting() == whole * WHOLE, "{whole}, {}", waiting());
    let held = SHARED + PARTIAL - shared.available() - partial.available();
    assert!(held >= whole * (WHOLE - OWN_SHARE), "{held}: all that waits is counted somewhere");
    tasks.shutdown().await;
    for (connection, stdin, driving) in all {
        drop((connection, stdin));
        driving.abort();
        let _ = driving.await;
    }
    assert_eq!((shared.available(), partial.available()), (SHARED, PARTIAL), "all is given back");
}

#[tokio::test(start_paused = true)]
async fn channels_read_on_when_others_have_given_back_what_they_held() {
    let shared = MemoryBudget::new(128 << 10);
    let mut tasks = JoinSet::new();
    let (one, stdin) = channels(&shared, 64, &mut tasks);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (other, _unread) = channels(&shared, usize::MAX, &mut tasks);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (first, second) = (one.stats().waiting, other.stats().waiting);
    assert!(first > 100 << 10 && second <= OWN, "the first has it: {first} {second}");
    drop(stdin);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(other.stats().waiting > 100 << 10, "{:?}", other.stats());
    tasks.shutdown().await;
}
