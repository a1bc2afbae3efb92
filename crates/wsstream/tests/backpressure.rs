//! What waits where, and who is held up by whom: a stdin that nobody reads, a client that does not read, floods.

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

use common::{CH0, CH1, CH2, CH4, client, limits, normal, scripted_client, server, smooth, soon};
use futures_util::FutureExt as _;
use wsstream::connection::{ChannelReader, ChannelWriter, End, Loss, ReadError, Side};
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

/// Until the budget is used up everything behind the stalled data still comes in.
#[tokio::test]
async fn a_stalled_stdin_holds_nothing_else_up_within_the_budget() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) =
        server(Subprotocol::V5).limits(limits(|l| l.receive_buffer = BUDGET)).server(io);
    let driver = tokio::spawn(driver);
    let (mut stdin, mut sizes) = (connection.reader(CH0).unwrap(), connection.reader(CH4).unwrap());
    let input = common::pattern(BUDGET - 1);
    for part in input.chunks(8 << 10) {
        peer.send_binary(&[&[0], part].concat()).await;
    }
    peer.send_binary(b"\x04{\"Width\":80,\"Height\":24}\n").await;
    assert_eq!(read(&mut sizes, 25).await, b"{\"Width\":80,\"Height\":24}\n");
    peer.ping(b"alive").await;
    peer.expect_pong(b"alive").await;
    connection.writer(CH1).unwrap().send("output".into()).await.unwrap();
    peer.expect_binary(b"\x01output").await;
    peer.send_binary(&[255, 0]).await;
    peer.send_binary(b"\x04{\"Width\":81,\"Height\":24}\n").await;
    read(&mut sizes, 25).await;
    peer.close(1000).await;
    assert_eq!(soon(connection.disconnected()).await, End::Closed { by: Side::Peer, reason: normal() });
    assert_eq!(connection.stats().waiting, BUDGET - 1);
    // And all of it is still there.
    assert!(read(&mut stdin, input.len()).await == input);
    assert_eq!(soon(stdin.chunk()).await, Ok(None));
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    soon(driver).await.unwrap();
}

/// Beyond the budget nothing more is taken in, and the output still flows.
#[tokio::test]
async fn beyond_the_budget_the_output_still_flows_and_memory_is_bounded() {
    let (io, theirs) = smooth();
    let (connection, driver) =
        server(Subprotocol::V5).limits(limits(|l| l.receive_buffer = BUDGET)).server(io);
    let driver = tokio::spawn(driver);
    let (mut stdin, mut stdout) = (connection.reader(CH0).unwrap(), connection.writer(CH1).unwrap());
    let input = common::pattern(4 << 20);
    let (mut reads, writes) = tokio::io::split(theirs);
    let mut writes = writes;
    let sending = {
        let input = input.clone();
        tokio::spawn(async move {
            for part in input.chunks(32 << 10) {
                let frame = RawFrame::new(true, 2, &[&[0], part].concat()).masked([3; 4]).encode();
                tokio::io::AsyncWriteExt::write_all(&mut writes, &frame).await.unwrap();
            }
        })
    };
    common::until(|| connection.stats().waiting >= BUDGET).await;
    let output = common::pattern(1 << 20);
    let writing = async {
        for part in output.chunks(32 << 10) {
            stdout.send(part.to_vec().into()).await.unwrap();
        }
    };
    let reading = async {
        let (mut bytes, mut got) = (Vec::new(), 0);
        while got < output.len() {
            assert!(tokio::io::AsyncReadExt::read_buf(&mut reads, &mut bytes).await.unwrap() > 0);
            while let Some(frame) = RawFrame::decode(&mut bytes) {
                assert_eq!(frame.payload[0], 1);
                assert!(output[got..].starts_with(&frame.payload[1..]));
                got += frame.payload.len() - 1;
            }
        }
    };
    soon(async { tokio::join!(writing, reading) }).await;
    assert!(!sending.is_finished());
    // One read of the wire may go over the budget, and no more.
    let waiting = connection.stats().waiting;
    assert!((BUDGET..=BUDGET + (32 << 10)).contains(&waiting), "{waiting} bytes wait");
    assert!(read(&mut stdin, input.len()).await == input);
    soon(sending).await.unwrap();
    assert!(!driver.is_finished());
}

#[tokio::test]
async fn a_dropped_reader_holds_nobody_up() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) =
        server(Subprotocol::V5).limits(limits(|l| l.receive_buffer = BUDGET)).server(io);
    let driver = tokio::spawn(driver);
    let (stdin, mut sizes) = (connection.reader(CH0).unwrap(), connection.reader(CH4).unwrap());
    for _ in 0..10 {
        peer.send_binary(&[0; 10_000]).await;
    }
    peer.send_binary(b"\x04size").await;
    common::until(|| connection.stats().waiting >= BUDGET).await;
    assert!(sizes.chunk().now_or_never().is_none());
    drop(stdin);
    assert_eq!(read(&mut sizes, 4).await, b"size");
    assert_eq!(connection.stats().waiting, 0);
    for _ in 0..1000 {
        peer.send_binary(&[0; 10_000]).await;
    }
    peer.send_binary(b"\x04more").await;
    assert_eq!(read(&mut sizes, 4).await, b"more");
    assert_eq!(connection.stats().received[0], 1010 * 9_999);
    assert!(!driver.is_finished());
}

/// A reader that is never taken is as good as dropped once the connection's handle is gone.
#[tokio::test]
async fn a_reader_that_nobody_can_take_any_more_holds_nobody_up() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) =
        server(Subprotocol::V5).limits(limits(|l| l.receive_buffer = BUDGET)).server(io);
    let _driver = tokio::spawn(driver);
    let mut sizes = connection.reader(CH4).unwrap();
    drop(connection);
    for _ in 0..100 {
        peer.send_binary(&[0; 10_000]).await;
    }
    peer.send_binary(b"\x04size").await;
    assert_eq!(read(&mut sizes, 4).await, b"size");
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

#[tokio::test]
async fn writers_wait_while_the_send_buffer_is_full_and_go_on() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).limits(limits(|l| l.send_buffer = 10_000)).server(io);
    tokio::spawn(driver);
    let mut stdout = connection.writer(CH1).unwrap();
    let mut sent = 0u32;
    let message = |n: u32| [&n.to_be_bytes()[..], &[b'x'; 4000]].concat();
    while stdout.send(message(sent).into()).now_or_never().is_some() {
        sent += 1;
        // The wire holds 64 KiB, and of the last message one may go over the limit.
        assert!(sent < 20);
    }
    assert!(sent >= 18, "{sent} messages fit");
    let mut waiting = Box::pin(stdout.send(message(sent).into()));
    assert!(waiting.as_mut().now_or_never().is_none());
    for n in 0..sent {
        peer.expect_binary(&[&[1], &message(n)[..]].concat()).await;
    }
    soon(waiting).await.unwrap();
    peer.expect_binary(&[&[1], &message(sent)[..]].concat()).await;
}

/// The first of two writers in one task is always polled first; without turns the second would never send anything.
#[tokio::test]
async fn two_writers_in_one_task_take_turns() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    tokio::spawn(driver);
    let pump = |channel, byte: u8| {
        let mut writer = connection.writer(channel).unwrap();
        async move {
            for n in 0..200u8 {
                let mut message = vec![byte; 32 << 10];
                message[0] = n;
                writer.send(message.into()).await.unwrap();
            }
        }
    };
    let mut counts = [0u8; 3];
    let mut worst = 0;
    let reading = async {
        for _ in 0..400 {
            let Message::Binary(message) = peer.next_message().await else { panic!("not binary") };
            let count = &mut counts[usize::from(message[0])];
            assert_eq!(message[1], *count, "in order on channel {}", message[0]);
            *count += 1;
            worst = worst.max(counts[1].abs_diff(counts[2]));
        }
    };
    let writing = async { tokio::join!(pump(CH1, b'o'), pump(CH2, b'e')) };
    soon(async { tokio::join!(reading, writing) }).await;
    assert_eq!(counts, [0, 200, 200]);
    assert!(worst <= 8, "one was {worst} messages ahead");
}

#[tokio::test]
async fn three_writers_in_three_tasks_take_turns() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    tokio::spawn(driver);
    for channel in [1u8, 2, 3] {
        let mut writer = connection.writer(wsstream::ChannelId(channel)).unwrap();
        tokio::spawn(async move { while writer.send(vec![channel; 20_000].into()).await.is_ok() {} });
    }
    let mut counts = [0u32; 4];
    for _ in 0..600 {
        let Message::Binary(message) = peer.next_message().await else { panic!("not binary") };
        counts[usize::from(message[0])] += 1;
    }
    assert!(counts[1..].iter().all(|count| (150..=250).contains(count)), "{counts:?}");
}

/// Those that have waited may have lost interest: they must not hold up the others.
#[tokio::test]
async fn writers_that_gave_up_waiting_hold_nobody_up() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    tokio::spawn(driver);
    let mut writers = [1, 2, 3, 1, 2].map(|channel| connection.writer(wsstream::ChannelId(channel)).unwrap());
    while writers[0].send(vec![b'x'; 30_000].into()).now_or_never().is_some() {}
    // Three have waited, were cancelled, and are still there. Two go on.
    let [one, two, three, four, five] = &mut writers;
    for writer in [three, four, five] {
        assert!(writer.send("never".into()).now_or_never().is_none());
    }
    let send = async |writer: &mut ChannelWriter| {
        for _ in 0..50 {
            writer.send(vec![b'y'; 30_000].into()).await.unwrap();
        }
    };
    let writing = async {
        tokio::join!(send(one), send(two));
        connection.shutdown(&normal());
    };
    let reading = async {
        loop {
            match peer.next_message().await {
                Message::Binary(message) => assert_ne!(message[1..], *b"never"),
                Message::Close(Some(1000), _) => break,
                other => panic!("{other:?}"),
            }
        }
    };
    soon(async { tokio::join!(writing, reading) }).await;
}

/// A buffer of nothing would never have room; it is taken for the smallest there is.
#[tokio::test]
async fn limits_of_zero_are_slow_and_not_stuck() {
    let none = limits(|l| (l.send_buffer, l.receive_buffer) = (0, 0));
    let (a, b) = smooth();
    let (served, serving) = server(Subprotocol::V5).limits(none.clone()).server(a);
    let (connection, driver) = client(Subprotocol::V5).limits(none).client(b);
    let ends = tokio::spawn(async { tokio::join!(serving, driver) });
    connection.writer(CH0).unwrap().send("in".into()).await.unwrap();
    assert_eq!(read(&mut served.reader(CH0).unwrap(), 2).await, b"in");
    served.shutdown(&normal());
    soon(ends).await.unwrap();
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
