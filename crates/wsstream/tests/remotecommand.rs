//! Serving exec: what a scripted client sees of a session, frame by frame.

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

use std::time::Duration;

use common::{normal, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use web::{exec_peer, exec_server};
use wsstream::Subprotocol;
use wsstream::connection::{End, Loss, Side};
use wsstream::proto::status::Status;
use wsstream::remotecommand::{ExitCode, Failure, Request, SessionEnd, Streams};
use wsstream_testing::Message;

const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;
const EXIT_42: &str = concat!(
    r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: "#,
    r#"command terminated with exit code 42","reason":"NonZeroExitCode","#,
    r#""details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#
);

/// `cat`, or `tr -d fo`: what comes in goes out, less the bytes in `without`.
async fn filter(mut streams: Streams, without: &[u8]) -> Result<ExitCode, Failure> {
    let (Some(stdin), Some(stdout)) = (&mut streams.stdin, &mut streams.stdout) else {
        return Err(Failure::internal("not asked for"));
    };
    while let Some(chunk) = stdin.chunk().await.map_err(Failure::internal)? {
        let kept: Vec<u8> = chunk.iter().copied().filter(|byte| !without.contains(byte)).collect();
        stdout.send(kept.into()).await.map_err(Failure::internal)?;
    }
    Ok(ExitCode(0))
}

async fn cat(_: Request, streams: Streams) -> Result<ExitCode, Failure> {
    filter(streams, b"").await
}

async fn tr(_: Request, streams: Streams) -> Result<ExitCode, Failure> {
    filter(streams, b"fo").await
}

fn status(json: &[u8]) -> Vec<u8> {
    [b"\x03", json].concat()
}

/// Messages of every size, handed on to a pipe that takes a little at a time.
#[tokio::test]
async fn input_is_handed_on_whole_and_in_order() {
    async fn sink(_: Request, mut streams: Streams) -> Result<ExitCode, Failure> {
        let (Some(mut stdin), Some(mut stdout)) = (streams.stdin.take(), streams.stdout.take()) else {
            return Err(Failure::internal("not asked for"));
        };
        let (mut ours, mut theirs) = tokio::io::duplex(1000);
        let write = async move { stdin.hand_on(&mut ours).await };
        let mut got = Vec::new();
        let (handed, read) = tokio::join!(write, theirs.read_to_end(&mut got));
        read.map_err(Failure::internal)?;
        assert_eq!(handed.map_err(Failure::internal)?, got.len() as u64);
        let right = got.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8);
        stdout.send(format!("{} {right}", got.len()).into()).await.map_err(Failure::internal)?;
        Ok(ExitCode(0))
    }
    let (address, _reports) = exec_server(sink).await;
    let mut peer = exec_peer(address, "command=sink&stdin=true&stdout=true", "v5.channel.k8s.io").await;
    peer.expect_binary(&[1]).await;
    let mut sent = 0;
    for size in [1, 32 << 10, 3, 700, 32 << 10, 32 << 10, 20_000, 1, 1, 32 << 10] {
        let mut message = vec![0];
        message.extend((sent..sent + size).map(|at| (at % 251) as u8));
        peer.send_binary(&message).await;
        sent += size;
    }
    peer.send_binary(&[0xff, 0]).await;
    peer.expect_binary(format!("\x01{sent} true").as_bytes()).await;
    peer.expect_binary(&status(SUCCESS)).await;
}

/// Every frame of `cat` under kubectl: ready, input, output, the end of the input, status, Close.
#[tokio::test]
async fn a_session_of_v5_frame_by_frame() {
    let (address, mut reports) = exec_server(cat).await;
    let query = "command=cat&container=c&stderr=true&stdin=true&stdout=true";
    let mut peer = exec_peer(address, query, "v5.channel.k8s.io").await;
    peer.expect_binary(&[1]).await;
    peer.send_binary(b"\x00abc").await;
    peer.expect_binary(b"\x01abc").await;
    peer.send_binary(&[0xff, 0]).await;
    peer.expect_binary(&status(SUCCESS)).await;
    assert_eq!(peer.expect_close(1000).await, "");
    // A ping behind the Close is read and not answered.
    peer.ping(b"late").await;
    peer.close(1000).await;
    peer.expect_eof().await;
    let report = soon(reports.recv()).await.unwrap();
    assert_eq!(report.result, Some(Ok(ExitCode(0))));
    assert_eq!(report.end, Some(SessionEnd::WebSocket(End::Closed { by: Side::Local, reason: normal() })));
    assert_eq!((&report.stats.received[..1], &report.stats.sent[1..3]), (&[3][..], &[3, 0][..]));
    assert_eq!(report.subprotocol, Subprotocol::V5);
    assert!(report.delivered());
    assert_eq!(report.to_string(), "exit code 0; connection closed here: close 1000 (normal)");
}

/// The seed's two sessions on exec, after the ready message. The v5 client closes at once: the command still sees the
/// end of its input, and its output and status still arrive.
#[tokio::test]
async fn the_seeds_sessions_on_exec() {
    let (address, mut reports) = exec_server(tr).await;
    let query = "command=tr&command=-d&command=fo&stdin=1&stdout=1";
    let mut peer = exec_peer(address, query, "channel.k8s.io").await;
    peer.expect_binary(&[1]).await;
    peer.send_binary(&[0, 102, 111, 111, 10]).await;
    peer.expect_binary(&[1, 10]).await;
    peer.close(1000).await;
    // Before v4 success is said by saying nothing.
    peer.expect_close(1000).await;
    peer.expect_eof().await;

    for wait_for_ready in [true, false] {
        let mut peer = exec_peer(address, query, "v5.channel.k8s.io").await;
        if wait_for_ready {
            peer.expect_binary(&[1]).await;
        }
        peer.send_binary(&[0, 102, 111, 111, 10]).await;
        peer.send_binary(&[255, 0]).await;
        peer.close(1000).await;
        if !wait_for_ready {
            peer.expect_binary(&[1]).await;
        }
        peer.expect_binary(&[1, 10]).await;
        peer.expect_binary(&status(SUCCESS)).await;
        peer.expect_close(1000).await;
        peer.expect_eof().await;
    }
    for _ in 0..3 {
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!(report.result, Some(Ok(ExitCode(0))));
        assert_eq!(report.end, Some(SessionEnd::WebSocket(End::Closed { by: Side::Peer, reason: normal() })));
    }
}

/// The empty message on the lowest channel that the client reads, before anything else.
#[tokio::test]
async fn the_ready_message() {
    let (address, _reports) = exec_server(async |_: Request, _: Streams| Ok(ExitCode(0))).await;
    let rows = [
        ("stdout=true&stderr=true", 1u8),
        ("stdout=true", 1),
        ("stderr=true", 2),
        ("stdin=true", 3),
        ("stdin=true&stderr=true&tty=true", 3),
        ("stdout=true&tty=true", 1),
    ];
    for (query, channel) in rows {
        let query = format!("command=x&{query}");
        for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", ""] {
            let mut peer = exec_peer(address, &query, protocol).await;
            peer.expect_binary(&[channel]).await;
        }
        for protocol in ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"] {
            let mut peer = exec_peer(address, &query, protocol).await;
            peer.expect_text(&channel.to_string()).await;
        }
    }
}

/// The last message but Close, for each result and each form of status.
#[tokio::test]
async fn the_status_of_each_result() {
    async fn run(request: Request, _: Streams) -> Result<ExitCode, Failure> {
        match request.command[0].as_str() {
            "0" => Ok(ExitCode(0)),
            "42" => Ok(ExitCode(42)),
            "missing" => Err(Failure::internal("no such file: <missing>")),
            "gone" => Err(Failure::status(Status::not_found("pods", "p"))),
            _ => panic!("the handler panics, as it should"),
        }
    }
    let internal = |message: &str| {
        format!(
            r#"{{"metadata":{{}},"status":"Failure","message":"Internal error occurred: {message}","reason":"InternalError","details":{{"causes":[{{"message":"{message}"}}]}},"code":500}}"#
        )
    };
    let panicked = "the server failed while running the command";
    let rows: [(&str, String, Option<&str>); 5] = [
        ("0", String::from_utf8(SUCCESS.to_vec()).unwrap(), None),
        (
            "42",
            EXIT_42.to_owned(),
            Some("command terminated with non-zero exit code: command terminated with exit code 42"),
        ),
        (
            "missing",
            internal(r"no such file: \u003cmissing\u003e"),
            Some("Internal error occurred: no such file: <missing>"),
        ),
        (
            "gone",
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"p\" not found","reason":"NotFound","details":{"name":"p","kind":"pods"},"code":404}"#.to_owned(),
            Some("pods \"p\" not found"),
        ),
        (
            "panic",
            internal(panicked),
            Some("Internal error occurred: the server failed while running the command"),
        ),
    ];
    let (address, mut reports) = exec_server(run).await;
    for (command, json, text) in &rows {
        let query = format!("command={command}&stdout=true");
        for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io"] {
            let mut peer = exec_peer(address, &query, protocol).await;
            peer.expect_binary(&[1]).await;
            peer.expect_binary(&status(json.as_bytes())).await;
            peer.expect_close(1000).await;
        }
        for protocol in ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", ""] {
            let mut peer = exec_peer(address, &query, protocol).await;
            peer.expect_binary(&[1]).await;
            if let Some(text) = text {
                peer.expect_binary(&status(text.as_bytes())).await;
            }
            peer.expect_close(1000).await;
        }
        for protocol in ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"] {
            let mut peer = exec_peer(address, &query, protocol).await;
            peer.expect_text("1").await;
            let said = if protocol.starts_with("v4") { Some(json.as_str()) } else { *text };
            if let Some(said) = said {
                let base64 = wsstream::proto::channel::encode_base64(Some(common::CH3), said.as_bytes());
                peer.expect_text(&base64).await;
            }
            peer.expect_close(1000).await;
        }
        for _ in 0..8 {
            let report = soon(reports.recv()).await.unwrap();
            let result = report.result.unwrap();
            assert_eq!(result.is_err(), !["0", "42"].contains(command), "{result:?}");
        }
    }
}

/// Whatever was sent before the handler returned comes before the status, also to a reader that is slow.
#[tokio::test]
async fn output_then_status_then_close() {
    async fn print(_: Request, mut streams: Streams) -> Result<ExitCode, Failure> {
        let (mut stdout, mut stderr) = (streams.stdout.take().unwrap(), streams.stderr.take().unwrap());
        let data = common::pattern(1 << 20);
        stdout.write_all(&data).await.map_err(Failure::internal)?;
        stdout.send("".into()).await.map_err(Failure::internal)?;
        stderr.send("done\n".into()).await.map_err(Failure::internal)?;
        stdout.shutdown().await.map_err(Failure::internal)?;
        Ok(ExitCode(42))
    }
    let (address, _reports) = exec_server(print).await;
    let mut peer = exec_peer(address, "command=x&stdout=1&stderr=1", "v5.channel.k8s.io").await;
    peer.expect_binary(&[1]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for part in common::pattern(1 << 20).chunks(32 << 10) {
        // No message is longer than 32 KiB and a channel byte: client-go's buffers are made for that.
        peer.expect_binary(&[&[1], part].concat()).await;
    }
    peer.expect_binary(b"\x02done\n").await;
    peer.expect_binary(&status(EXIT_42.as_bytes())).await;
    peer.expect_close(1000).await;
    peer.close(1000).await;
    peer.expect_eof().await;
}

/// *Not requested* is no stream; *at its end* is one that says so.
#[tokio::test]
async fn a_stream_that_was_not_asked_for_is_not_there() {
    async fn look(request: Request, mut streams: Streams) -> Result<ExitCode, Failure> {
        let there = [
            streams.stdin.is_some(),
            streams.stdout.is_some(),
            streams.stderr.is_some(),
            streams.resize.is_some(),
        ];
        let ended = match &mut streams.stdin {
            Some(stdin) => stdin.chunk().await.unwrap().is_none(),
            None => true,
        };
        Err(Failure::internal(format_args!("{there:?} {ended} {}", request.tty)))
    }
    let (address, _reports) = exec_server(look).await;
    let rows = [
        ("stdin=1&stdout=1&stderr=1", "[true, true, true, false] true false"),
        ("stdout=1", "[false, true, false, false] true false"),
        ("stderr=1", "[false, false, true, false] true false"),
        ("stdin=1", "[true, false, false, false] true false"),
        // A terminal has one output, and a size.
        ("stdin=1&stdout=1&stderr=1&tty=1", "[true, true, false, true] true true"),
    ];
    for (query, expect) in rows {
        let mut peer = exec_peer(address, &format!("command=x&{query}"), "v5.channel.k8s.io").await;
        peer.next_message().await;
        // Input for a stream that was not asked for is dropped.
        if !query.contains("stdin") {
            peer.send_binary(b"\x00unasked").await;
        }
        peer.send_binary(&[255, 0]).await;
        let Message::Binary(message) = peer.next_message().await else { panic!("no status") };
        let message = String::from_utf8(message[1..].to_vec()).unwrap();
        assert!(
            message.contains(&format!("\"message\":\"Internal error occurred: {expect}\"")),
            "{query}: {message}"
        );
        peer.expect_close(1000).await;
    }
}

/// The command ends while the client still sends. The rest is read and thrown away: closing a socket with unread input
/// resets the connection, and the client would not see the status.
#[tokio::test]
async fn a_command_that_does_not_read_its_input_still_has_a_status() {
    let (address, mut reports) = exec_server(async |_: Request, _: Streams| Ok(ExitCode(42))).await;
    let mut peer = exec_peer(address, "command=true&stdin=1&stdout=1", "v5.channel.k8s.io").await;
    for _ in 0..200 {
        peer.send_binary(&[0; 32 << 10]).await;
    }
    peer.send_binary(&[255, 0]).await;
    peer.expect_binary(&[1]).await;
    peer.expect_binary(&status(EXIT_42.as_bytes())).await;
    peer.expect_close(1000).await;
    for _ in 0..100 {
        peer.send_binary(&[0; 32 << 10]).await;
    }
    peer.close(1000).await;
    peer.expect_eof().await;
    let report = soon(reports.recv()).await.unwrap();
    assert_eq!(report.end, Some(SessionEnd::WebSocket(End::Closed { by: Side::Local, reason: normal() })));
}

/// A client that vanishes: the handler hears of it, its input is at an error, and the report says so.
#[tokio::test]
async fn a_client_that_vanishes() {
    let (address, mut reports) = exec_server(async |_: Request, mut streams: Streams| {
        let mut stdin = streams.stdin.take().unwrap();
        assert_eq!(stdin.chunk().await.unwrap().unwrap(), "in");
        assert_eq!(stdin.chunk().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(streams.disconnect.wait().await, SessionEnd::WebSocket(End::Lost(Loss::Eof)));
        let sent = streams.stdout.as_mut().unwrap().send("nobody".into()).await;
        assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        Ok(ExitCode(0))
    })
    .await;
    let mut peer = exec_peer(address, "command=x&stdin=1&stdout=1", "v5.channel.k8s.io").await;
    peer.expect_binary(&[1]).await;
    peer.send_binary(b"\x00in").await;
    drop(peer);
    let report = soon(reports.recv()).await.unwrap();
    assert_eq!(report.result, Some(Ok(ExitCode(0))));
    assert_eq!(report.end, Some(SessionEnd::WebSocket(End::Lost(Loss::Eof))));
    assert!(!report.delivered());
}

/// The server's own death is no success: a session that is dropped ends without Close 1000.
#[tokio::test]
async fn a_session_that_is_dropped_is_cut() {
    let (started, mut starts) = mpsc::channel(1);
    let (tasks, mut running) = mpsc::channel(1);
    let address = web::serve(move |mut request| {
        let session = wsstream::remotecommand::server::Exec::accept(&mut request).unwrap();
        let (response, started) = (session.response(), started.clone());
        let serving = tokio::spawn(session.serve(move |_: Request, _: Streams| {
            let started = started.clone();
            async move {
                started.send(()).await.unwrap();
                std::future::pending().await
            }
        }));
        tasks.try_send(serving).unwrap();
        web::switching(response)
    })
    .await;
    let mut peer = exec_peer(address, "command=x&stdout=1", "v5.channel.k8s.io").await;
    peer.expect_binary(&[1]).await;
    soon(starts.recv()).await.unwrap();
    running.recv().await.unwrap().abort();
    peer.expect_eof().await;
}
