//! Futures that are dropped half-way, on wires that behave badly: no byte is lost, none comes twice, no frame is cut,
//! and nobody sleeps for ever because the one who was to be woken has gone.

#![cfg(all(feature = "client", feature = "server"))]
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

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::{CH0, CH1, CH2, client, limits, normal, server, soon};
use futures_util::FutureExt as _;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wsstream::bytes::Bytes;
use wsstream::connection::{ChannelReader, ChannelWriter, Driver, End, Side};
use wsstream::{Connection, Subprotocol};
use wsstream_testing::peer::RawFrame;
use wsstream_testing::{Peer, Plan, Stall, awkward_pair};

/// Polls the future at most `n` times and drops it then.
async fn at_most<F: Future>(n: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = n;
    poll_fn(move |cx| {
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Sends `data` in messages of any size, and drops the future of many a send; what was not sent is sent again.
async fn send_impatiently(mut writer: ChannelWriter, data: &[u8], seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut at = 0;
    while at < data.len() {
        let n = rng.random_range(1..=3000).min(data.len() - at);
        let polls = rng.random_range(1..4);
        if rng.random_bool(0.5) {
            let message = Bytes::copy_from_slice(&data[at..at + n]);
            match at_most(polls, writer.send(message)).await {
                Some(sent) => {
                    sent.unwrap();
                    at += n;
                }
                None => tokio::task::yield_now().await,
            }
        } else if let Some(written) = at_most(polls, writer.write(&data[at..at + n])).await {
            at += written.unwrap();
        } else {
            tokio::task::yield_now().await;
        }
        if rng.random_bool(0.1) {
            at_most(polls, writer.flushed()).await.unwrap_or(Ok(())).unwrap();
        }
    }
    writer.flush().await.unwrap();
}

/// Reads to the end, dropping the future of many a read.
async fn read_impatiently(mut reader: ChannelReader, seed: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut all = Vec::new();
    loop {
        let polls = rng.random_range(1..4);
        if rng.random_bool(0.5) {
            match at_most(polls, reader.chunk()).await {
                Some(Ok(Some(chunk))) => all.extend_from_slice(&chunk),
                Some(Ok(None)) => return all,
                Some(Err(error)) => panic!("{error}"),
                None => tokio::task::yield_now().await,
            }
        } else {
            let mut part = vec![0; rng.random_range(1..2000)];
            match at_most(polls, reader.read(&mut part)).await {
                Some(Ok(0)) => return all,
                Some(n) => all.extend_from_slice(&part[..n.unwrap()]),
                None => tokio::task::yield_now().await,
            }
        }
    }
}

/// What was written is a row of whole frames.
fn assert_whole_frames(mut bytes: Vec<u8>) {
    while RawFrame::decode(&mut bytes).is_some() {}
    assert!(bytes.is_empty(), "{} bytes of half a frame", bytes.len());
}

#[tokio::test]
async fn dropped_futures_lose_nothing_and_send_nothing_twice() {
    for seed in 0..24u64 {
        let split = [1, 3, 7, 100, 4096][seed as usize % 5];
        let capacity = if seed == 7 { 1 } else { [5, 64, 1000, 200][seed as usize % 4] };
        let vectored = seed % 2 == 0;
        let plan = Plan::awkward(seed, split).vectored(vectored);
        let (a, b) = awkward_pair(plan.clone(), plan.seed(!seed), capacity);
        let (ours, theirs) = (a.transcript(), b.transcript());
        let small = limits(|l| (l.send_buffer, l.receive_buffer) = (500, 700));
        let (served, serving) = server(Subprotocol::V5).limits(small.clone()).server(a);
        let (connection, driver) = client(Subprotocol::V5).limits(small).client(b);
        let ends = tokio::spawn(async { tokio::join!(serving, driver) });

        let (input, output, errors) =
            (common::pattern(20_000), common::pattern(30_000), common::pattern(9_000));
        let serve = async {
            let reading = read_impatiently(served.reader(CH0).unwrap(), seed + 1);
            let printing = send_impatiently(served.writer(CH1).unwrap(), &output, seed + 2);
            let complaining = send_impatiently(served.writer(CH2).unwrap(), &errors, seed + 3);
            let (got, (), ()) = tokio::join!(reading, printing, complaining);
            served.shutdown(&normal());
            got
        };
        let talk = async {
            let feed = async {
                send_impatiently(connection.writer(CH0).unwrap(), &input, seed + 4).await;
                connection.writer(CH0).unwrap().close().unwrap();
            };
            let stdout = read_impatiently(connection.reader(CH1).unwrap(), seed + 5);
            let stderr = read_impatiently(connection.reader(CH2).unwrap(), seed + 6);
            tokio::join!(feed, stdout, stderr)
        };
        let (got, ((), stdout, stderr)) = soon(async { tokio::join!(serve, talk) }).await;
        assert!(got == input, "seed {seed}: stdin");
        assert!(stdout == output, "seed {seed}: stdout");
        assert!(stderr == errors, "seed {seed}: stderr");
        let (served, connected) = soon(ends).await.unwrap();
        assert_eq!(served, End::Closed { by: Side::Local, reason: normal() }, "seed {seed}");
        assert_eq!(connected, End::Closed { by: Side::Peer, reason: normal() }, "seed {seed}");
        assert_whole_frames(ours.written());
        assert_whole_frames(theirs.written());
    }
}

/// A wire remembers one waker. The writer that polled it last is dropped; the driver must hear that it is free again.
#[tokio::test]
async fn a_dropped_writer_does_not_take_the_wires_wakeup_with_it() {
    let stall = Stall::held();
    let (ours, theirs) = awkward_pair(Plan::smooth().stall_writes(&stall), Plan::smooth(), 64 << 10);
    let (connection, driver) = server(Subprotocol::V5).limits(limits(|l| l.send_buffer = 100)).server(ours);
    let driver = tokio::spawn(driver);
    common::settle().await;
    let mut stdout = connection.writer(CH1).unwrap();
    stdout.send(vec![b'x'; 200].into()).now_or_never().unwrap().unwrap();
    let mut waiting = Box::pin(stdout.send("never".into()));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(waiting);
    let mut other = connection.writer(CH2).unwrap();
    let mut flush = Box::pin(other.flushed());
    assert!(flush.as_mut().now_or_never().is_none());
    drop(flush);
    drop((stdout, other));
    common::settle().await;
    stall.release();
    let mut peer = Peer::client(theirs);
    peer.expect_binary(&[&[1][..], &[b'x'; 200]].concat()).await;
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    peer.close(1000).await;
    soon(driver).await.unwrap();
}

/// The other way round: the driver polled the wire last, and the one that waits is a writer in another task.
#[tokio::test]
async fn a_waiting_writer_is_woken_although_the_driver_polled_last() {
    for what in ["send", "flush"] {
        let stall = Stall::held();
        let (ours, theirs) = awkward_pair(Plan::smooth().stall_writes(&stall), Plan::smooth(), 64 << 10);
        let (connection, driver) =
            server(Subprotocol::V5).limits(limits(|l| l.send_buffer = 100)).server(ours);
        let mut stdout = connection.writer(CH1).unwrap();
        stdout.send(vec![b'x'; 200].into()).now_or_never().unwrap().unwrap();
        let waiting = tokio::spawn(async move {
            if what == "send" { stdout.send("next".into()).await } else { stdout.flushed().await }
        });
        common::settle().await;
        let driver = tokio::spawn(driver);
        let mut peer = Peer::client(theirs);
        // The driver is polled because of this.
        peer.ping(b"x").await;
        common::settle().await;
        assert!(!waiting.is_finished(), "{what}");
        stall.release();
        soon(waiting).await.unwrap().unwrap();
        peer.expect_pong(b"x").await;
        peer.expect_binary(&[&[1][..], &[b'x'; 200]].concat()).await;
        driver.abort();
    }
}

/// The driver stops for a while and goes on in another task; nobody misses anything.
#[tokio::test]
async fn a_driver_can_be_polled_in_pieces_and_by_different_tasks() {
    let (a, b) = awkward_pair(Plan::awkward(5, 100), Plan::awkward(6, 100), 300);
    let (served, serving) = server(Subprotocol::V5).server(a);
    let (connection, driver) = client(Subprotocol::V5).client(b);
    async fn in_pieces(mut driver: Driver) -> End {
        for n in 1.. {
            let task = tokio::spawn(async move { (at_most(n % 5 + 1, &mut driver).await, driver) });
            let (end, back) = task.await.unwrap();
            match end {
                Some(end) => return end,
                None => driver = back,
            }
        }
        unreachable!()
    }
    let ends = tokio::spawn(async { tokio::join!(in_pieces(serving), in_pieces(driver)) });
    let output = common::pattern(100_000);
    let sending = async {
        served.writer(CH1).unwrap().write_all(&output).await.unwrap();
        served.shutdown(&normal());
    };
    let mut all = Vec::new();
    let mut stdout = connection.reader(CH1).unwrap();
    let (read, ()) = soon(async { tokio::join!(stdout.read_to_end(&mut all), sending) }).await;
    read.unwrap();
    assert!(all == output);
    let (served, connected) = soon(ends).await.unwrap();
    assert!(matches!(served, End::Closed { .. }) && matches!(connected, End::Closed { .. }));
}

/// A hunt for lost wake-ups with real threads: everything moves at once, in small pieces, through small buffers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_of_impatient_tasks_on_several_threads() {
    let done = Arc::new(AtomicUsize::new(0));
    let mut sessions = Vec::new();
    for seed in 0..24u64 {
        let (a, b) = awkward_pair(
            Plan::smooth().seed(seed).split_writes(700).split_reads(900).unrecorded(),
            Plan::awkward(seed, 1500).unrecorded(),
            [50, 500, 5000][seed as usize % 3],
        );
        let done = Arc::clone(&done);
        sessions.push(tokio::spawn(async move {
            let small = limits(|l| (l.send_buffer, l.receive_buffer) = (1000, 2000));
            let (served, serving) = server(Subprotocol::V5).limits(small.clone()).server(a);
            let (connection, driver) = client(Subprotocol::V5).limits(small).client(b);
            let (serving, driver) = (tokio::spawn(serving), tokio::spawn(driver));
            let data = Arc::new(common::pattern(40_000));
            let send = |connection: &Connection, channel, seed| {
                let (writer, data) = (connection.writer(channel).unwrap(), Arc::clone(&data));
                tokio::spawn(async move { send_impatiently(writer, &data, seed).await })
            };
            let read = |connection: &Connection, channel, seed| {
                tokio::spawn(read_impatiently(connection.reader(channel).unwrap(), seed))
            };
            let sends = [(&served, CH1, 1), (&served, CH2, 2), (&connection, CH0, 3)]
                .map(|(c, ch, n)| send(c, ch, seed + n));
            let reads = [(&connection, CH1, 4), (&connection, CH2, 5), (&served, CH0, 6)]
                .map(|(c, ch, n)| read(c, ch, seed + n));
            for send in sends {
                send.await.unwrap();
            }
            connection.writer(CH0).unwrap().close().unwrap();
            let [stdout, stderr, stdin] = reads;
            assert!(stdin.await.unwrap() == *data, "seed {seed}");
            served.shutdown(&normal());
            assert!(stdout.await.unwrap() == *data, "seed {seed}");
            assert!(stderr.await.unwrap() == *data, "seed {seed}");
            serving.await.unwrap();
            driver.await.unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        }));
    }
    let all = async {
        for session in sessions {
            session.await.unwrap();
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), all).await.is_err() {
        panic!("{} of 24 sessions came to their end", done.load(Ordering::Relaxed));
    }
}

/// Dropped before the server has answered, the stream is closed.
#[tokio::test]
async fn a_dropped_upgrade_closes_the_stream() {
    let (ours, mut theirs) = common::tcp_pair().await;
    let request = wsstream::http::Request::get("http://localhost/").body(()).unwrap();
    let offer = wsstream::client::Offer::new([Subprotocol::V5]);
    let connecting = offer.connect(ours, request);
    let mut head = [0; 16];
    let asked = async { theirs.read_exact(&mut head).await };
    tokio::select! {
        _ = connecting => panic!("nobody answered"),
        asked = asked => assert_eq!(asked.unwrap(), 16),
    }
    assert_eq!(&head, b"GET / HTTP/1.1\r\n");
    let mut rest = Vec::new();
    soon(theirs.read_to_end(&mut rest)).await.unwrap();
}

/// A wire that takes everything and passes it on only when it is flushed, as TLS may; and whose flush has to wait.
#[tokio::test]
async fn a_wire_that_buffers_is_flushed() {
    for (capacity, spurious) in [(64 << 10, 0), (10, 0), (10, 50)] {
        let plan = Plan::smooth().spurious_pending(spurious);
        let (a, b) = awkward_pair(plan.clone(), plan.seed(1), capacity);
        let (a, b) = (tokio::io::BufStream::new(a), tokio::io::BufStream::new(b));
        let (served, serving) = server(Subprotocol::V5).server(a);
        let (connection, driver) = client(Subprotocol::V5).client(b);
        let ends = tokio::spawn(async { tokio::join!(serving, driver) });
        let mut stdin = connection.writer(CH0).unwrap();
        let (mut input, mut output) = (served.reader(CH0).unwrap(), served.writer(CH1).unwrap());
        let mut stdout = connection.reader(CH1).unwrap();
        for n in 0..20u8 {
            // A question and an answer: each waits for the other, so nothing may lie in a buffer.
            stdin.send(vec![n; 100].into()).await.unwrap();
            let mut part = [0; 100];
            soon(input.read_exact(&mut part)).await.unwrap();
            output.send(part.to_vec().into()).await.unwrap();
            soon(stdout.read_exact(&mut part)).await.unwrap();
            assert_eq!(part, [n; 100]);
            soon(output.flushed()).await.unwrap();
        }
        served.shutdown(&normal());
        let (served, connected) = soon(ends).await.unwrap();
        assert_eq!(served, End::Closed { by: Side::Local, reason: normal() });
        assert_eq!(connected, End::Closed { by: Side::Peer, reason: normal() });
    }
}
