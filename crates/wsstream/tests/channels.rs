//! Channels: the rows C1 to C8 (the cases of upstream's conn_test in their order), and what happens to
//! messages that fit no channel.
//!
//! Each row runs against our client over TCP and a hyper server, and against a scripted client for the exact bytes.

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
#[path = "common/web.rs"]
mod web;

use common::{CH0, CH1, CH2, CH3, CH4, Log, normal, scripted_client, scripted_server, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wsstream::connection::{ChannelReader, End, Side};
use wsstream::proto::subprotocol::DEFAULT_CHANNELS;
use wsstream::{ChannelId, ChannelMode, Connection, Subprotocol};
use wsstream_testing::http::Upgrade;
use wsstream_testing::peer::opcode;

/// The modes of upstream's test, on the server.
const MODES: [ChannelMode; 5] = [
    ChannelMode::ReadWrite,
    ChannelMode::ReadWrite,
    ChannelMode::Ignore,
    ChannelMode::Read,
    ChannelMode::Write,
];

async fn read_all(reader: &mut ChannelReader) -> Vec<u8> {
    let mut all = Vec::new();
    soon(reader.read_to_end(&mut all)).await.unwrap();
    all
}

/// C1 to C6 with raw channels and C7, C8 with base64, over TCP, hyper and our own client.
#[tokio::test]
async fn the_rows_over_hyper_and_our_client() {
    let (address, mut opened) = web::connections(DEFAULT_CHANNELS, |builder| builder.channels(MODES)).await;
    for (offer, chosen) in [
        (Subprotocol::NONE, ""),
        (Subprotocol::CHANNEL, "channel.k8s.io"),
        (Subprotocol::BASE64_CHANNEL, "base64.channel.k8s.io"),
    ] {
        let accepted = web::connect(address, [offer]).await.unwrap();
        assert_eq!(accepted.subprotocol().name(), chosen);
        let (client, driver) = accepted.open(|builder| builder.channels([ChannelMode::ReadWrite; 5]));
        let (server, serving) = soon(opened.recv()).await.unwrap();
        assert_eq!(server.subprotocol().name(), chosen);
        let ends = tokio::spawn(async { tokio::join!(serving, driver) });

        // C2, C8: the server writes on channel 1.
        server.writer(CH1).unwrap().send("server".into()).await.unwrap();
        assert_eq!(client.reader(CH1).unwrap().chunk().await.unwrap().unwrap(), "server");
        // C3, C4: the typed API has no writer for Ignore and Read; the generic one discards, as upstream.
        for channel in [CH2, CH3] {
            assert!(server.writer(channel).is_none());
            let mut writer = server.writer_or_discard(channel);
            writer.write_all(b"test").await.unwrap();
            writer.send("test".into()).await.unwrap();
            writer.flush().await.unwrap();
            writer.shutdown().await.unwrap();
        }
        // C3, C5: what is not read is at its end at once.
        for channel in [CH2, CH4] {
            assert_eq!(server.reader(channel).unwrap().chunk().await, Ok(None));
        }
        // C6: the client may write there, and nothing blocks.
        client.writer(CH4).unwrap().send("ignored".into()).await.unwrap();
        client.writer(CH2).unwrap().send("ignored".into()).await.unwrap();
        // C1, C7: all of what the client wrote, and then the end.
        client.writer(CH0).unwrap().send("client".into()).await.unwrap();
        let mut received = server.reader(CH0).unwrap();
        assert_eq!(received.read_u8().await.unwrap(), b'c');
        client.shutdown(&normal());
        assert_eq!(read_all(&mut received).await, b"lient");
        server.shutdown(&normal());
        for channel in [CH2, CH3] {
            assert_eq!(read_all(&mut client.reader(channel).unwrap()).await, b"");
        }
        let (served, connected) = soon(ends).await.unwrap();
        assert_eq!(served, End::Closed { by: Side::Peer, reason: normal() });
        assert_eq!(connected, End::Closed { by: Side::Local, reason: normal() });
        assert_eq!(server.stats().received, [6, 0, 0, 0, 0]);
        assert_eq!(server.stats().sent, [0, 6, 0, 0, 0]);
        assert_eq!(server.stats().dropped.not_read, 2);
        assert_eq!(client.stats().received, [0, 6, 0, 0, 0]);
    }
}

/// The same rows as bytes.
#[tokio::test]
async fn the_rows_as_bytes() {
    let (address, mut opened) = web::connections(DEFAULT_CHANNELS, |builder| builder.channels(MODES)).await;
    for base64 in [false, true] {
        let upgrade = Upgrade::get("/");
        let upgrade = if base64 { upgrade.subprotocol("base64.channel.k8s.io") } else { upgrade };
        let answer = upgrade.send(tokio::net::TcpStream::connect(address).await.unwrap()).await;
        assert_eq!(answer.subprotocol(), base64.then_some("base64.channel.k8s.io"));
        let mut peer = answer.into_peer().await;
        let (server, driver) = soon(opened.recv()).await.unwrap();
        let driver = tokio::spawn(driver);
        let mut writer = server.writer(CH1).unwrap();
        writer.send("server".into()).await.unwrap();
        writer.send("".into()).await.unwrap();
        server.writer_or_discard(CH2).send("test".into()).await.unwrap();
        server.writer_or_discard(CH3).send("test".into()).await.unwrap();
        if base64 {
            peer.expect_text("1c2VydmVy").await;
            peer.expect_text("1").await;
            peer.send_text("4aWdub3JlZA==").await;
            peer.send_text("0Y2xpZW50").await;
        } else {
            peer.expect_binary(b"\x01server").await;
            peer.expect_binary(b"\x01").await;
            peer.send_binary(b"\x04ignored").await;
            peer.send_binary(b"\x00client").await;
        }
        assert_eq!(soon(server.reader(CH0).unwrap().chunk()).await.unwrap().unwrap(), "client");
        server.shutdown(&normal());
        peer.expect_close(1000).await;
        peer.close(1000).await;
        peer.expect_eof().await;
        driver.await.unwrap();
    }
}

/// The opcode says nothing: the Python client sends text on binary channels.
#[tokio::test]
async fn text_and_binary_are_both_taken_as_bytes() {
    for (protocol, message) in [
        (Subprotocol::V4, &b"\x00\xff\xfe not UTF-8"[..]),
        (Subprotocol::BASE64_CHANNEL, &b"0//4gbm90IFVURi04"[..]),
    ] {
        let (io, mut peer) = scripted_client();
        let (connection, driver) = Connection::builder(protocol).channels([ChannelMode::Read]).server(io);
        tokio::spawn(driver);
        peer.send_frame(true, opcode::TEXT, message).await;
        peer.send_frame(true, opcode::BINARY, message).await;
        let mut stdin = connection.reader(CH0).unwrap();
        let mut bytes = [0; 24];
        soon(stdin.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(bytes[..], *b"\xff\xfe not UTF-8\xff\xfe not UTF-8");
    }
}

/// Fragments are one message (RFC 6455 section 5.4), wherever they are cut, with control frames in between.
#[tokio::test]
async fn fragments_are_reassembled() {
    let rows: [(Subprotocol, &[&[u8]], &[u8]); 5] = [
        (Subprotocol::V5, &[b"\x00ab", b"cd", b"e"], b"abcde"),
        // The channel byte alone; and after an empty first fragment.
        (Subprotocol::V5, &[b"\x00", b"abcde"], b"abcde"),
        (Subprotocol::V5, &[b"", b"\x00abc", b"", b"de", b""], b"abcde"),
        (Subprotocol::V4_BASE64_CHANNEL, &[b"0", b"YW", b"JjZ", b"GU="], b"abcde"),
        // A channel byte is no channel byte inside a message.
        (Subprotocol::CHANNEL, &[b"\x00\x01", b"\x02", b"\x03"], b"\x01\x02\x03"),
    ];
    for (protocol, fragments, expect) in rows {
        let (io, mut peer) = scripted_client();
        let (connection, driver) = Connection::builder(protocol).channels([ChannelMode::Read]).server(io);
        tokio::spawn(driver);
        for (n, fragment) in fragments.iter().enumerate() {
            let kind = if n == 0 { opcode::BINARY } else { opcode::CONTINUATION };
            peer.send_frame(n + 1 == fragments.len(), kind, fragment).await;
            peer.ping(&[n as u8]).await;
            peer.expect_pong(&[n as u8]).await;
        }
        peer.close(1000).await;
        assert_eq!(read_all(&mut connection.reader(CH0).unwrap()).await, expect, "{fragments:?}");
    }
}

/// A fragmented CLOSE, one that is repeated, and one for a channel that the client does not write.
#[tokio::test]
async fn close_of_a_channel_ends_its_input_once() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = common::server(Subprotocol::V5).server(io);
    tokio::spawn(driver);
    let (mut stdin, mut sizes) = (connection.reader(CH0).unwrap(), connection.reader(CH4).unwrap());
    peer.send_binary(b"\x00last").await;
    peer.send_binary(&[255, 1]).await;
    peer.send_frame(false, opcode::BINARY, &[255]).await;
    peer.send_frame(true, opcode::CONTINUATION, &[0]).await;
    peer.send_binary(&[255, 0]).await;
    peer.send_binary(b"\x00too late").await;
    peer.send_binary(b"\x04size").await;
    assert_eq!(read_all(&mut stdin).await, b"last");
    assert_eq!(soon(sizes.chunk()).await.unwrap().unwrap(), "size");
    assert_eq!(connection.stats().dropped.after_close, 1);
    // The output goes on.
    connection.writer(CH1).unwrap().send("out".into()).await.unwrap();
    peer.expect_binary(b"\x01out").await;
}

/// Such a message is dropped and counted, and the connection goes on.
#[tokio::test]
async fn messages_that_fit_nothing_are_dropped_and_counted() {
    let (log, _guard) = Log::capture();
    let (io, mut peer) = scripted_client();
    let (connection, driver) = common::server(Subprotocol::V4_BASE64_CHANNEL).server(io);
    tokio::spawn(driver);
    let mut stdin = connection.reader(CH0).unwrap();
    peer.send_text("9Zm9v").await; // no such channel
    peer.send_text(" Zm9v").await; // below '0': wraps to 240
    peer.send_text("1Zm9v").await; // not read here
    peer.send_text("0Zm9v!").await; // not base64; the good part is not delivered either
    peer.send_text("0Zm9").await; // no padding
    peer.send_text("").await; // names no channel
    peer.send_text("0").await; // no payload
    peer.send_text("0Zm9v").await;
    assert_eq!(soon(stdin.chunk()).await.unwrap().unwrap(), "foo");
    let stats = connection.stats();
    assert_eq!((stats.dropped.out_of_range, stats.dropped.not_read), (2, 1));
    assert_eq!((stats.dropped.base64, stats.dropped.after_close), (2, 0));
    assert_eq!((stats.empty_messages, stats.waiting), (1, 0));
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings[0].contains("channel 9"), "{warnings:?}");
    assert!(!warnings.concat().contains("Zm9v"), "no payload is logged: {warnings:?}");
}

/// Before v5, 255 is only a channel that does not exist; client-go sends it all the same.
#[tokio::test]
async fn close_of_a_channel_is_dropped_before_v5() {
    for protocol in [Subprotocol::NONE, Subprotocol::CHANNEL, Subprotocol::V4] {
        let (io, mut peer) = scripted_client();
        let (connection, driver) = common::server(protocol).server(io);
        tokio::spawn(driver);
        let mut stdin = connection.reader(CH0).unwrap();
        peer.send_binary(&[255, 0]).await;
        peer.send_binary(&[255, 0, 0]).await;
        peer.send_binary(b"\x00on").await;
        assert_eq!(soon(stdin.chunk()).await.unwrap().unwrap(), "on");
        assert_eq!(connection.stats().dropped.out_of_range, 2);
    }
}

/// An empty message is the ready signal and never the end of a channel.
#[tokio::test]
async fn a_message_without_payload_is_not_the_end() {
    let (io, mut peer) = scripted_server();
    let (connection, driver) = common::client(Subprotocol::V5).client(io);
    tokio::spawn(driver);
    let mut stdout = connection.reader(CH1).unwrap();
    peer.send_binary(&[1]).await;
    peer.send_binary(&[]).await;
    peer.send_binary(&[1, b'x']).await;
    assert_eq!(soon(stdout.chunk()).await.unwrap().unwrap(), "x");
    assert_eq!(connection.stats().empty_messages, 1);
}

#[tokio::test]
async fn each_channel_has_one_reader_and_any_number_of_writers() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = Connection::builder(Subprotocol::CHANNEL).channels(MODES).server(io);
    tokio::spawn(driver);
    let reader = connection.reader(CH0).unwrap();
    assert!(connection.reader(CH0).is_none());
    drop(reader);
    assert!(connection.reader(CH0).is_none());
    assert!(connection.reader(ChannelId(5)).is_none());
    assert!(connection.writer(ChannelId(5)).is_none());
    let (mut one, mut two) = (connection.writer(CH1).unwrap(), connection.writer(CH1).unwrap());
    assert_eq!(one.channel(), CH1);
    one.send("1".into()).await.unwrap();
    two.send("2".into()).await.unwrap();
    one.send("3".into()).await.unwrap();
    for message in [b"\x011", b"\x012", b"\x013"] {
        peer.expect_binary(message).await;
    }
}

/// `AsyncWrite` makes messages of at most 32 KiB, as client-go's buffers want them; `send` sends what it is given.
#[tokio::test]
async fn one_write_is_one_message() {
    let (io, mut peer) = scripted_client();
    let (connection, driver) = common::server(Subprotocol::V5).server(io);
    tokio::spawn(driver);
    let mut stdout = connection.writer(CH1).unwrap();
    let data = common::pattern(100_000);
    let writing = async {
        stdout.write_all(&data).await.unwrap();
        stdout.send(data.clone().into()).await.unwrap();
    };
    let reading = async {
        for part in data.chunks(32 << 10).chain([&data[..]]) {
            peer.expect_binary(&[&[1], part].concat()).await;
        }
    };
    soon(async { tokio::join!(writing, reading) }).await;
}
