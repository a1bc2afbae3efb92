//! How much a connection holds: floods of small messages and of pings, large messages, unfinished ones.

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

use std::time::Duration;

use common::{CH0, CH1, limits, scripted_client, server, smooth, soon};
use futures_util::FutureExt as _;
use wsstream::connection::{ChannelReader, End, Loss, ReadError};
use wsstream::proto::ws::CloseReason;
use wsstream::{ChannelMode, Connection, MemoryBudget, Subprotocol};
use wsstream_testing::Message;
use wsstream_testing::peer::{RawFrame, opcode};

const BUDGET: usize = 64 << 10;

/// Reads exactly `len` bytes.
async fn read(reader: &mut ChannelReader, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        all.extend_from_slice(&soon(reader.chunk()).await.unwrap().unwrap());
    }
    assert_eq!(all.len(), len);
    all
}

/// Messages of one byte cost more frame than payload; what waits is counted and bounded all the same.
#[tokio::test]
async fn a_flood_of_single_bytes_stays_within_the_budget() {
    let (io, theirs) = smooth();
    let (connection, driver) = server(Subprotocol::V5).limits(limits(|l| l.receive_buffer = 4096)).server(io);
    tokio::spawn(driver);
    let mut stdin = connection.reader(CH0).unwrap();
    let flood: Vec<u8> =
        (0..50_000u32).flat_map(|n| RawFrame::new(true, 2, &[0, n as u8]).masked([0; 4]).encode()).collect();
    let sending = tokio::spawn(async move {
        let mut theirs = theirs;
        tokio::io::AsyncWriteExt::write_all(&mut theirs, &flood).await.unwrap();
        theirs
    });
    common::until(|| connection.stats().waiting >= 4096).await;
    common::settle().await;
    assert_eq!(connection.stats().waiting, 4096);
    let mut all = Vec::new();
    while all.len() < 50_000 {
        assert!(connection.stats().waiting <= 4096);
        let chunk = soon(stdin.chunk()).await.unwrap().unwrap();
        all.extend_from_slice(&chunk);
    }
    assert!(all.iter().enumerate().all(|(n, byte)| *byte == n as u8));
    soon(sending).await.unwrap();
}

/// 16 MiB are taken (the Java client sends 15 in one frame) and never sit in memory.
#[tokio::test]
async fn a_large_message_streams_through_a_small_buffer() {
    let (io, theirs) = smooth();
    let (connection, driver) =
        server(Subprotocol::V5).limits(limits(|l| l.receive_buffer = BUDGET)).server(io);
    tokio::spawn(driver);
    let mut stdin = connection.reader(CH0).unwrap();
    let input = common::pattern(15 << 20);
    let frame = RawFrame::new(true, 2, &[&[0], &input[..]].concat()).masked([7, 6, 5, 4]).encode();
    let sending = tokio::spawn(async move {
        let mut theirs = theirs;
        tokio::io::AsyncWriteExt::write_all(&mut theirs, &frame).await.unwrap();
        theirs
    });
    let mut at = 0;
    while at < input.len() {
        let chunk = soon(stdin.chunk()).await.unwrap().unwrap();
        assert!(input[at..].starts_with(&chunk), "at byte {at}");
        at += chunk.len();
        assert!(connection.stats().waiting <= BUDGET + (32 << 10));
    }
    soon(sending).await.unwrap();
}

/// A base64 message must be whole before any of it is delivered, so it sits in memory, and for that there is a budget.
#[tokio::test]
async fn refused_memory_says_1013_at_once_and_collects_nothing_more() {
    let (log, _guard) = common::Log::capture();
    let budget = MemoryBudget::new(100_000);
    let (io, mut peer) = scripted_client();
    let builder = server(Subprotocol::BASE64_CHANNEL).limits(limits(|l| l.partial_messages = budget.clone()));
    let (connection, driver) = builder.server(io);
    let driver = tokio::spawn(driver);
    let mut stdin = connection.reader(CH0).unwrap();
    peer.send_frame(false, opcode::TEXT, &[&b"0"[..], &[b'A'; 60_000]].concat()).await;
    common::until(|| budget.available() < 50_000).await;
    // In the bug the Close lay in the queue until something else came, and the rest was collected without a grant.
    peer.send_frame(false, opcode::CONTINUATION, &[b'A'; 60_000]).await;
    assert_eq!(peer.expect_close(1013).await, "no memory");
    peer.expect_eof().await;
    assert_eq!(soon(stdin.chunk()).await, Err(ReadError::Lost(Loss::NoMemory)));
    assert_eq!(soon(connection.disconnected()).await, End::Lost(Loss::NoMemory));
    for _ in 0..20 {
        peer.send_frame(false, opcode::CONTINUATION, &[b'A'; 60_000]).await;
    }
    peer.shutdown().await;
    assert_eq!(soon(driver).await.unwrap(), End::Lost(Loss::NoMemory));
    assert_eq!(budget.available(), 100_000);
    assert_eq!(log.warnings().len(), 1, "{:?}", log.warnings());
}

/// The budget is shared, and given back when a message is whole.
#[tokio::test]
async fn memory_for_unfinished_messages_is_shared_and_given_back() {
    let budget = MemoryBudget::new(100_000);
    let open = || {
        let (io, peer) = scripted_client();
        let shared = limits(|l| l.partial_messages = budget.clone());
        let (connection, driver) = server(Subprotocol::V4_BASE64_CHANNEL).limits(shared).server(io);
        (connection, tokio::spawn(driver), peer)
    };
    let (one, _driver, mut first) = open();
    let (two, driver, mut second) = open();
    first.send_frame(false, opcode::TEXT, &[&b"0"[..], &[b'A'; 80_000]].concat()).await;
    common::until(|| budget.available() <= 20_000).await;
    second.send_frame(false, opcode::TEXT, &[&b"0"[..], &[b'A'; 40_000]].concat()).await;
    second.expect_close(1013).await;
    second.shutdown().await;
    assert_eq!(soon(driver).await.unwrap(), End::Lost(Loss::NoMemory));
    first.send_frame(true, opcode::CONTINUATION, b"").await;
    assert_eq!(read(&mut one.reader(CH0).unwrap(), 60_000).await, [0; 60_000]);
    common::until(|| budget.available() == 100_000).await;
    drop(two);
}

/// A whole message may be longer than the receive buffer; what it takes beyond that was charged to nobody.
#[tokio::test]
async fn a_whole_base64_message_is_charged_until_it_is_read() {
    let budget = MemoryBudget::new(1_000_000);
    let (io, mut peer) = scripted_client();
    let limits = limits(|l| {
        l.partial_messages = budget.clone();
        l.receive_buffer = 10_000;
    });
    let (connection, driver) = server(Subprotocol::V4_BASE64_CHANNEL).limits(limits).server(io);
    let _driver = tokio::spawn(driver);
    let mut stdin = connection.reader(CH0).unwrap();
    let text = format!("0{}", "A".repeat(400_000));
    let send = peer.send_text(&text);
    tokio::join!(send, common::until(|| connection.stats().waiting == 300_000));
    assert_eq!(budget.available(), 1_000_000 - 290_000);
    assert_eq!(read(&mut stdin, 300_000).await, [0; 300_000]);
    assert_eq!(budget.available(), 1_000_000);
}

/// A client that floods a channel nobody reads is read for ever and kept nowhere.
#[tokio::test]
async fn channels_that_are_ignored_cost_nothing() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = Connection::builder(Subprotocol::V5)
        .channels([ChannelMode::Ignore, ChannelMode::Write])
        .limits(limits(|l| l.receive_buffer = 1000))
        .server(io);
    tokio::spawn(driver);
    for _ in 0..500 {
        peer.send_binary(&[0; 20_000]).await;
    }
    peer.ping(b"x").await;
    peer.expect_pong(b"x").await;
    assert_eq!(connection.stats().waiting, 0);
    assert_eq!(connection.stats().dropped.not_read, 500);
}

/// A client that pings and does not read costs one pong, not a queue of them.
#[tokio::test]
async fn a_flood_of_pings_queues_one_pong() {
    let (io, peer) = scripted_client();
    let mut peer = peer.deadline(Duration::from_secs(10));
    let (connection, driver) = server(Subprotocol::V5).server(io);
    tokio::spawn(driver);
    let mut stdout = connection.writer(CH1).unwrap();
    while stdout.send(vec![b'x'; 30_000].into()).now_or_never().is_some() {}
    for n in 0..5000u32 {
        peer.ping(&n.to_be_bytes()).await;
    }
    common::until(|| connection.stats().pings == 5000).await;
    connection.shutdown(&CloseReason::default());
    let mut pongs = Vec::new();
    loop {
        match peer.next_message().await {
            Message::Pong(payload) => pongs.push(payload),
            Message::Close(..) => break,
            _ => {}
        }
    }
    assert_eq!(pongs, [4999u32.to_be_bytes()]);
}
