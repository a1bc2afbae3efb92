//! The two example sessions of the Go documentation, byte for byte over TCP, on the connection API: it sends nothing
//! of its own, no ready message either.
//!
//! `channel.k8s.io`: the client writes `[0,102,111,111,10]`, reads `[1,10]`, and closes.
//! `v5.channel.k8s.io`: the client writes `[0,102,111,111,10]`, then `[255,0]`, and closes.

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

use common::{CH0, CH1, normal, soon, tcp_pair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wsstream::connection::{ChannelReader, End, ReadError, Side, WriteError};
use wsstream::proto::connection::SendError;
use wsstream::{ChannelMode, Connection, Subprotocol};
use wsstream_testing::peer::RawFrame;
use wsstream_testing::{Awkward, Peer, Plan};

const SERVER: [ChannelMode; 2] = [ChannelMode::Read, ChannelMode::Write];
const CLIENT: [ChannelMode; 2] = [ChannelMode::Write, ChannelMode::Read];

async fn read_all(reader: &mut ChannelReader) -> Result<Vec<u8>, ReadError> {
    let mut all = Vec::new();
    while let Some(chunk) = soon(reader.chunk()).await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// The payloads of the frames that a client has sent, and that they were masked with keys of their own.
fn unmasked(mut bytes: Vec<u8>) -> Vec<(u8, Vec<u8>)> {
    let (mut frames, mut keys) = (Vec::new(), Vec::new());
    while let Some(frame) = RawFrame::decode(&mut bytes) {
        assert!(frame.fin);
        keys.push(frame.mask.expect("a client masks every frame"));
        frames.push((frame.opcode, frame.payload));
    }
    assert!(bytes.is_empty());
    assert!(keys.windows(2).all(|two| two[0] != two[1]), "a fresh key for each frame: {keys:02x?}");
    frames
}

#[tokio::test]
async fn the_channel_session_as_a_server() {
    let (ours, theirs) = tcp_pair().await;
    let ours = Awkward::new(ours, Plan::smooth());
    let transcript = ours.transcript();
    let (connection, driver) = Connection::builder(Subprotocol::CHANNEL).channels(SERVER).server(ours);
    let driver = tokio::spawn(driver);
    let (mut input, mut output) = (connection.reader(CH0).unwrap(), connection.writer(CH1).unwrap());

    let mut peer = Peer::client(theirs);
    peer.send_binary(&[0, 102, 111, 111, 10]).await;
    assert_eq!(soon(input.chunk()).await.unwrap().unwrap(), "foo\n");
    output.send("\n".into()).await.unwrap();
    peer.expect_binary(&[1, 10]).await;
    peer.close(1000).await;
    assert_eq!(soon(input.chunk()).await, Ok(None));
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    peer.expect_eof().await;
    assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Peer, reason: normal() });
    assert_eq!(transcript.written(), [0x82, 2, 1, 10, 0x88, 2, 0x03, 0xe8]);
}

#[tokio::test]
async fn the_channel_session_as_a_client() {
    let (ours, theirs) = tcp_pair().await;
    let ours = Awkward::new(ours, Plan::smooth());
    let transcript = ours.transcript();
    let (connection, driver) = Connection::builder(Subprotocol::CHANNEL).channels(CLIENT).client(ours);
    let driver = tokio::spawn(driver);
    let (mut input, mut output) = (connection.writer(CH0).unwrap(), connection.reader(CH1).unwrap());

    let mut peer = Peer::server(theirs);
    input.send("foo\n".into()).await.unwrap();
    peer.expect_binary(&[0, 102, 111, 111, 10]).await;
    peer.send_binary(&[1, 10]).await;
    assert_eq!(soon(output.chunk()).await.unwrap().unwrap(), "\n");
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    peer.close(1000).await;
    peer.expect_eof().await;
    assert_eq!(driver.await.unwrap(), End::Closed { by: Side::Local, reason: normal() });
    let expect = [(2, vec![0, 102, 111, 111, 10]), (8, vec![0x03, 0xe8])];
    assert_eq!(unmasked(transcript.written()), expect);
}

#[tokio::test]
async fn the_v5_session_as_a_server() {
    let (ours, theirs) = tcp_pair().await;
    let ours = Awkward::new(ours, Plan::smooth());
    let transcript = ours.transcript();
    let (connection, driver) = Connection::builder(Subprotocol::V5).channels(SERVER).server(ours);
    let driver = tokio::spawn(driver);
    let mut input = connection.reader(CH0).unwrap();

    let mut peer = Peer::client(theirs);
    peer.send_binary(&[0, 102, 111, 111, 10]).await;
    peer.send_binary(&[255, 0]).await;
    // CLOSE of the channel, not of the connection: the input is at its end and the output is not.
    assert_eq!(read_all(&mut input).await.unwrap(), b"foo\n");
    let mut output = connection.writer(CH1).unwrap();
    output.send("\n".into()).await.unwrap();
    peer.expect_binary(&[1, 10]).await;
    // A server's clients do not know CLOSE.
    assert_eq!(output.close(), Err(WriteError::Refused(SendError::NoHalfClose("a server"))));
    peer.close(1000).await;
    soon(connection.disconnected()).await;
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    peer.expect_eof().await;
    driver.await.unwrap();
    assert_eq!(transcript.written(), [0x82, 2, 1, 10, 0x88, 2, 0x03, 0xe8]);
}

#[tokio::test]
async fn the_v5_session_as_a_client() {
    let (ours, theirs) = tcp_pair().await;
    let ours = Awkward::new(ours, Plan::smooth());
    let transcript = ours.transcript();
    let (connection, driver) = Connection::builder(Subprotocol::V5).channels(CLIENT).client(ours);
    let driver = tokio::spawn(driver);
    let mut input = connection.writer(CH0).unwrap();
    let mut output = connection.reader(CH1).unwrap();

    let mut peer = Peer::server(theirs);
    input.write_all(b"foo\n").await.unwrap();
    // The end of AsyncWrite is CLOSE, once, however often it is said.
    input.shutdown().await.unwrap();
    input.shutdown().await.unwrap();
    input.close().unwrap();
    assert_eq!(input.send("late".into()).await, Err(WriteError::Refused(SendError::HalfClosed(CH0))));
    peer.expect_binary(&[0, 102, 111, 111, 10]).await;
    peer.expect_binary(&[255, 0]).await;
    connection.shutdown(&normal());
    peer.expect_close(1000).await;
    peer.send_binary(&[1, 10]).await;
    peer.close(1000).await;
    let mut all = Vec::new();
    output.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [10]);
    driver.await.unwrap();
    let expect = [(2, vec![0, 102, 111, 111, 10]), (2, vec![255, 0]), (8, vec![0x03, 0xe8])];
    assert_eq!(unmasked(transcript.written()), expect);
}

/// Both sides ours, with the client's Close behind everything at once: nothing is lost.
#[tokio::test]
async fn both_sessions_with_our_own_client_and_server() {
    for version in [Subprotocol::CHANNEL, Subprotocol::V5, Subprotocol::BASE64_CHANNEL] {
        let (a, b) = tcp_pair().await;
        let half_close = version.half_close();
        let (served, serving) = Connection::builder(version.clone()).channels(SERVER).server(a);
        let (connection, driver) = Connection::builder(version).channels(CLIENT).client(b);
        let ends = tokio::spawn(async { tokio::join!(serving, driver) });
        let mut input = connection.writer(CH0).unwrap();
        input.send("foo\n".into()).await.unwrap();
        assert_eq!(input.close().is_ok(), half_close);
        connection.shutdown(&normal());
        // `tr -d fo`, at the end of its input.
        assert_eq!(read_all(&mut served.reader(CH0).unwrap()).await.unwrap(), b"foo\n");
        served.writer(CH1).unwrap().send("\n".into()).await.unwrap();
        served.shutdown(&normal());
        assert_eq!(read_all(&mut connection.reader(CH1).unwrap()).await.unwrap(), b"\n");
        let (served, connected) = soon(ends).await.unwrap();
        assert_eq!(served, End::Closed { by: Side::Peer, reason: normal() });
        assert_eq!(connected, End::Closed { by: Side::Local, reason: normal() });
    }
}
