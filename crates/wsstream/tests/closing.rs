//! How connections end: the close handshake from either side, violations, and handles that are dropped.

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

use common::{
    CH0, CH1, CH2, CH3, Log, client, limits, normal, scripted_client, scripted_server, server, soon,
};
use wsstream::connection::{End, Loss, ReadError, Side, WriteError};
use wsstream::proto::connection::{SendError, Violation};
use wsstream::proto::ws::{CloseCode, CloseReason, ProtocolError};
use wsstream::{Subprotocol, bytes::Bytes};
use wsstream_testing::peer::{RawFrame, opcode};

#[derive(Debug, Clone, Copy)]
enum Leaves {
    WithClose,
    WithEof,
}

#[tokio::test]
async fn a_server_closes_and_reads_on_until_the_client_leaves() {
    for leaves in [Leaves::WithClose, Leaves::WithEof] {
        let (io, mut peer) = scripted_client();
        let transcript = io.transcript();
        let (connection, driver) = server(Subprotocol::V5).server(io);
        let driver = tokio::spawn(driver);
        let mut stdin = connection.reader(CH0).unwrap();
        connection.writer(CH1).unwrap().send("tail".into()).await.unwrap();
        connection.shutdown(&CloseReason::new(CloseCode::NORMAL, "done"));
        connection.shutdown(&CloseReason::code(CloseCode::INTERNAL));
        let refused = connection.writer(CH1).unwrap().send("late".into()).await;
        assert_eq!(refused, Err(WriteError::Refused(SendError::Closing)));

        peer.expect_binary(b"\x01tail").await;
        assert_eq!(peer.expect_close(1000).await, "done");
        // What the client sends now is read, so that closing does not reset, and thrown away; pongs may not follow Close.
        peer.send_binary(&[&[0][..], &[b'x'; 100_000]].concat()).await;
        peer.ping(b"still there?").await;
        match leaves {
            Leaves::WithClose => peer.close(1000).await,
            Leaves::WithEof => peer.shutdown().await,
        }
        peer.expect_eof().await;
        assert!(transcript.was_shut_down());
        let reason = CloseReason::new(CloseCode::NORMAL, "done");
        assert_eq!(
            driver.await.unwrap(),
            End::Closed { by: Side::Local, reason: reason.clone() },
            "{leaves:?}"
        );
        assert_eq!(connection.ended().await, End::Closed { by: Side::Local, reason });
        assert_eq!(stdin.chunk().await, Ok(None));
        assert_eq!(connection.stats().received[0], 100_000);
        assert_eq!(connection.stats().waiting, 0);
    }
}

#[tokio::test]
async fn a_client_answers_a_close_at_once_with_its_code() {
    let text = |code: u16| CloseReason::new(CloseCode::new(code).unwrap(), "bye");
    let rows = [
        (Some(text(1000)), Ok(None)),
        (Some(text(1001)), Err(ReadError::Closed(text(1001)))),
        (Some(text(1011)), Err(ReadError::Closed(text(1011)))),
        (Some(text(4999)), Err(ReadError::Closed(text(4999)))),
        // client-go: close 1005 is an error.
        (None, Err(ReadError::Closed(CloseReason::default()))),
    ];
    for (close, expect) in rows {
        let (io, mut peer) = scripted_server();
        let (connection, driver) = client(Subprotocol::V5).client(io);
        let driver = tokio::spawn(driver);
        let mut stdout = connection.reader(CH1).unwrap();
        let mut stdin = connection.writer(CH0).unwrap();
        stdin.send("input".into()).await.unwrap();
        peer.expect_binary(b"\x00input").await;
        peer.send_binary(b"\x01output").await;
        let payload = close.clone().map(|reason| reason.encode()).unwrap_or_default();
        peer.send_frame(true, opcode::CLOSE, &payload).await;
        match &close {
            Some(reason) => {
                assert_eq!(peer.expect_close(reason.code.unwrap().get()).await, "");
            }
            None => peer.expect_close_without_code().await,
        }
        peer.expect_eof().await;
        assert_eq!(stdout.chunk().await.unwrap().unwrap(), "output");
        assert_eq!(stdout.chunk().await, expect);
        assert_eq!(stdin.send("late".into()).await, Err(WriteError::Refused(SendError::Closing)));
        let reason = close.unwrap_or_default();
        assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Peer, reason: reason.clone() });
        assert_eq!(connection.disconnected().await, End::Closed { by: Side::Peer, reason });
    }
}

/// What a server makes of a client's Close: 1000 and no code end the input, anything else is an error.
#[tokio::test]
async fn a_clients_close_ends_the_input() {
    let going = CloseReason::code(CloseCode::GOING_AWAY);
    for (code, expect) in
        [(Some(1000), Ok(None)), (None, Ok(None)), (Some(1001), Err(ReadError::Closed(going)))]
    {
        let (io, mut peer) = scripted_client();
        let (connection, driver) = server(Subprotocol::V4).server(io);
        let driver = tokio::spawn(driver);
        let mut stdin = connection.reader(CH0).unwrap();
        peer.send_binary(b"\x00last").await;
        match code {
            Some(code) => peer.close(code).await,
            None => peer.close_without_code().await,
        }
        assert_eq!(stdin.chunk().await.unwrap().unwrap(), "last");
        assert_eq!(stdin.chunk().await, expect, "{code:?}");
        connection.shutdown(&normal());
        peer.expect_close(1000).await;
        peer.expect_eof().await;
        assert!(matches!(driver.await.unwrap(), End::Closed { by: Side::Peer, .. }));
    }
}

/// RFC 6455 lets the other side finish; the seed's command ends so.
#[tokio::test]
async fn a_server_writes_on_after_the_clients_close() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    let driver = tokio::spawn(driver);
    peer.close(1000).await;
    let end = soon(connection.disconnected()).await;
    assert_eq!(end, End::Closed { by: Side::Peer, reason: normal() });
    let output = common::pattern(300_000);
    let sending = async {
        let mut stdout = connection.writer(CH1).unwrap();
        for part in output.chunks(32 << 10) {
            stdout.send(Bytes::copy_from_slice(part)).await.unwrap();
        }
        connection.writer(CH3).unwrap().send("{}".into()).await.unwrap();
        connection.shutdown(&normal());
    };
    let reading = async {
        peer.expect_stream(1, &output).await;
        peer.expect_binary(b"\x03{}").await;
        peer.expect_close(1000).await;
        peer.expect_eof().await;
    };
    soon(async { tokio::join!(sending, reading) }).await;
    assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Peer, reason: normal() });
}

#[tokio::test]
async fn our_own_client_reads_on_after_its_close() {
    let (a, b) = common::smooth();
    let (served, serving) = server(Subprotocol::V5).server(a);
    let (connection, driver) = client(Subprotocol::V5).client(b);
    let ends = tokio::spawn(async { tokio::join!(serving, driver) });
    let mut stdout = connection.reader(CH1).unwrap();
    connection.shutdown(&normal());
    served.disconnected().await;
    let output = common::pattern(200_000);
    let mut writer = served.writer(CH1).unwrap();
    let sending = async {
        for part in output.chunks(10_000) {
            writer.send(Bytes::copy_from_slice(part)).await.unwrap();
        }
        served.shutdown(&normal());
    };
    let reading = async {
        let mut all = Vec::new();
        while let Some(chunk) = stdout.chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        assert!(all == output);
    };
    soon(async { tokio::join!(sending, reading) }).await;
    let (served, connected) = ends.await.unwrap();
    assert_eq!(served, End::Closed { by: Side::Peer, reason: normal() });
    assert_eq!(connected, End::Closed { by: Side::Local, reason: normal() });
}

/// Each broken rule: its code on the wire, a warning that names it, and an error for everybody.
#[tokio::test]
async fn violations_end_the_connection_with_the_code_that_names_them() {
    let masked = |fin, op, payload: &[u8]| RawFrame::new(fin, op, payload).masked([1, 2, 3, 4]).encode();
    let web = Violation::WebSocket;
    let rows: [(Vec<u8>, u16, Violation); 13] = [
        (RawFrame::new(true, 2, b"\x00x").encode(), 1002, web(ProtocolError::Unmasked)),
        (vec![0xc2, 0x80], 1002, web(ProtocolError::ReservedBits(4))),
        (masked(true, 0x3, b""), 1002, web(ProtocolError::ReservedOpcode(3))),
        (masked(true, 0x0, b"\x00x"), 1002, web(ProtocolError::StrayContinuation)),
        (
            [masked(false, 2, b"\x00x"), masked(true, 2, b"\x00y")].concat(),
            1002,
            web(ProtocolError::InterruptedMessage),
        ),
        (masked(false, 0x9, b""), 1002, web(ProtocolError::FragmentedControl)),
        (masked(true, 0x9, &[0; 126]), 1002, web(ProtocolError::LongControl)),
        (masked(true, 0x8, &[3]), 1002, web(ProtocolError::CloseLength)),
        (masked(true, 0x8, &1005u16.to_be_bytes()), 1002, web(ProtocolError::CloseCode(1005))),
        (masked(true, 0x8, b"\x03\xe8\xff"), 1007, web(ProtocolError::CloseUtf8)),
        (masked(true, 0x2, &[0; 4098]), 1009, web(ProtocolError::TooLarge { limit: 4097 })),
        (masked(true, 0x2, &[255]), 1008, Violation::MalformedClose),
        (masked(true, 0x2, &[255, 5]), 1008, Violation::CloseOutOfRange(wsstream::ChannelId(5))),
    ];
    for (bytes, code, violation) in rows {
        let (log, _guard) = Log::capture();
        let (io, mut peer) = scripted_client();
        let (connection, driver) =
            server(Subprotocol::V5).limits(limits(|l| l.max_message = 4096)).server(io);
        let driver = tokio::spawn(driver);
        let mut stdin = connection.reader(CH0).unwrap();
        peer.send_binary(b"\x00before").await;
        peer.send_raw(&bytes).await;
        assert_eq!(peer.expect_close(code).await, violation.to_string());
        // It tells at once that nothing follows, and what still comes changes nothing.
        peer.expect_eof().await;
        peer.send_raw(&[0xff; 5000]).await;
        let lost = Loss::Violation(violation.clone());
        // The piece before the fault counts, and only that (of an interrupted message also its first fragment).
        let mut input = Vec::new();
        let error = loop {
            match soon(stdin.chunk()).await {
                Ok(Some(chunk)) => input.extend_from_slice(&chunk),
                Ok(None) => panic!("{violation}: a clean end"),
                Err(error) => break error,
            }
        };
        assert!(input == b"before" || input == b"beforex", "{violation}: {input:?}");
        assert_eq!(error, ReadError::Lost(lost.clone()));
        let mut stdout = connection.writer(CH1).unwrap();
        assert_eq!(stdout.send("more".into()).await, Err(WriteError::Lost(lost.clone())));
        assert_eq!(connection.disconnected().await, End::Lost(lost.clone()));
        peer.shutdown().await;
        assert_eq!(soon(driver).await.unwrap(), End::Lost(lost));
        let warnings = log.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(&violation.to_string()), "{warnings:?}");
        assert!(warnings[0].contains(&code.to_string()), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_server_that_masks_is_told_so() {
    let (io, mut peer) = scripted_server();
    let (connection, driver) = client(Subprotocol::V5).client(io);
    let driver = tokio::spawn(driver);
    peer.send_raw(&RawFrame::new(true, 2, b"\x01x").masked([9; 4]).encode()).await;
    peer.expect_close(1002).await;
    peer.expect_eof().await;
    peer.shutdown().await;
    let lost = End::Lost(Loss::Violation(Violation::WebSocket(ProtocolError::Masked)));
    assert_eq!(driver.await.unwrap(), lost);
    assert_eq!(connection.ended().await, lost);
}

#[tokio::test]
async fn abandoned_handles_close_with_a_code_that_nobody_takes_for_success() {
    // The server says 1011, the client 1001; whoever still waits hears of it.
    let (io, mut peer) = scripted_client();
    let (connection, driver) = server(Subprotocol::V5).server(io);
    let driver = tokio::spawn(driver);
    let disconnect = connection.disconnect();
    let waiting = tokio::spawn(async move { disconnect.wait().await });
    let stdin = connection.reader(CH0).unwrap();
    let stdout = connection.writer(CH1).unwrap();
    drop(connection);
    drop(stdin);
    peer.ping(b"1").await;
    peer.expect_pong(b"1").await;
    drop(stdout);
    assert_eq!(peer.expect_close(1011).await, "session abandoned");
    assert_eq!(soon(waiting).await.unwrap(), End::Lost(Loss::Abandoned));
    peer.close(1000).await;
    peer.expect_eof().await;
    assert_eq!(driver.await.unwrap(), End::Lost(Loss::Abandoned));

    let (io, mut peer) = scripted_server();
    let (connection, driver) = client(Subprotocol::V5).client(io);
    let driver = tokio::spawn(driver);
    drop(connection);
    peer.expect_close(1001).await;
    peer.shutdown().await;
    peer.expect_eof().await;
    assert_eq!(driver.await.unwrap(), End::Lost(Loss::Abandoned));
}

#[tokio::test]
async fn handles_dropped_after_the_peers_close_answer_it() {
    for code in [1000u16, 1001, 4000] {
        let (io, mut peer) = scripted_client();
        let (connection, driver) = server(Subprotocol::V5).server(io);
        let driver = tokio::spawn(driver);
        peer.close(code).await;
        soon(connection.disconnected()).await;
        drop(connection);
        peer.expect_close(code).await;
        peer.expect_eof().await;
        let reason = CloseReason::code(CloseCode::new(code).unwrap());
        assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Peer, reason });
    }
}

#[tokio::test]
async fn a_dropped_driver_tells_every_handle() {
    let (io, peer) = scripted_server();
    let (connection, driver) = client(Subprotocol::V5).client(io);
    let driver = tokio::spawn(driver);
    let mut stdin = connection.writer(CH0).unwrap();
    // Fill the wire, so that the writer and the flush wait.
    while futures_util::FutureExt::now_or_never(stdin.send(vec![0; 30_000].into())).is_some() {}
    let mut other = connection.writer(CH0).unwrap();
    let (mut stdout, mut stderr) = (connection.reader(CH1).unwrap(), connection.reader(CH2).unwrap());
    let waiting = async {
        tokio::join!(
            stdin.send("x".into()),
            other.flushed(),
            stdout.chunk(),
            tokio::io::AsyncReadExt::read_u8(&mut stderr),
            connection.ended(),
            connection.disconnected(),
        )
    };
    let aborting = async {
        common::settle().await;
        driver.abort();
    };
    let ((sent, flushed, chunk, byte, ended, gone), ()) =
        soon(async { tokio::join!(waiting, aborting) }).await;
    let lost = Loss::DriverDropped;
    assert_eq!(sent, Err(WriteError::Lost(lost.clone())));
    assert_eq!(flushed, Err(WriteError::Lost(lost.clone())));
    assert_eq!(chunk, Err(ReadError::Lost(lost.clone())));
    assert_eq!(common::kind(byte), Err(std::io::ErrorKind::ConnectionAborted));
    assert_eq!((ended, gone), (End::Lost(lost.clone()), End::Lost(lost.clone())));
    assert_eq!(connection.writer(CH0).unwrap().close(), Err(WriteError::Lost(lost)));
    drop(peer);
}
