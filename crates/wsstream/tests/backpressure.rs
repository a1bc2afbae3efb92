//! What waits where, and who is held up by whom: a stdin that nobody reads, a client that does not read, writers side by side.

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

use common::{CH0, CH1, CH2, CH4, client, limits, normal, scripted_client, server, smooth, soon};
use futures_util::FutureExt as _;
use wsstream::Subprotocol;
use wsstream::connection::{ChannelReader, ChannelWriter, End, Side};
use wsstream_testing::Message;
use wsstream_testing::peer::RawFrame;

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

/// A flush waits for what was queued before it, and not for what others go on to queue.
#[tokio::test]
async fn a_flush_is_not_held_up_by_another_writer() {
    let (io, mut peer) = scripted_client();
    // More is queued than the wire can ever take at once, so from here on it is never free.
    let (connection, driver) = server(Subprotocol::V5).limits(limits(|l| l.send_buffer = 400_000)).server(io);
    tokio::spawn(driver);
    let (mut stdout, mut stderr) = (connection.writer(CH1).unwrap(), connection.writer(CH2).unwrap());
    while stdout.send(vec![b'x'; 30_000].into()).now_or_never().is_some() {}
    tokio::spawn(async move { while stdout.send(vec![b'x'; 30_000].into()).await.is_ok() {} });
    let flushing = tokio::spawn(async move {
        stderr.send("e".into()).await.unwrap();
        stderr.flushed().await.unwrap();
        stderr.send("f".into()).await.unwrap();
        tokio::io::AsyncWriteExt::flush(&mut stderr).await.unwrap();
    });
    for _ in 0..200 {
        if flushing.is_finished() {
            break;
        }
        assert!(matches!(peer.next_message().await, Message::Binary(_)));
    }
    assert!(flushing.is_finished());
    flushing.await.unwrap();
}
