//! Our client against our server, over TCP and hyper: every version and both encodings, each way to end, attach, and the
//! answers to requests that are refused.

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
#[path = "common/shell.rs"]
mod shell;
#[path = "common/web.rs"]
mod web;

use std::io;
use std::net::SocketAddr;

use common::soon;
use shell::{message, run};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use web::exec_server;
use wsstream::Subprotocol;
use wsstream::bytes::Bytes;
use wsstream::client::ConnectError;
use wsstream::proto::subprotocol::REMOTECOMMAND;
use wsstream::remotecommand::client::{Process, Start, exec};
use wsstream::remotecommand::server::Attach;
use wsstream::remotecommand::{ExitCode, Failure, Outcome, Request, Streams, TerminalSize, client};
use wsstream_testing::http::Upgrade;

async fn start(address: SocketAddr, start: Start) -> Result<Process, ConnectError> {
    let endpoint = format!("http://{address}/api/v1/namespaces/default/pods/p/exec").parse().unwrap();
    soon(start.connect(TcpStream::connect(address).await.unwrap(), start.request(&endpoint).unwrap())).await
}

#[tokio::test]
async fn every_version_runs_commands() {
    let (address, mut reports) = exec_server(run).await;
    assert_eq!(REMOTECOMMAND.len(), 8);
    for protocol in REMOTECOMMAND {
        let name = protocol.name();
        let begin = async |words: &[&str]| {
            let request = Request::command(words.to_vec()).stdin(true).stdout(true).stderr(true);
            let process = start(address, exec(request).protocols([protocol.clone()])).await.unwrap();
            assert_eq!(process.subprotocol(), protocol);
            process
        };
        let known = |code, text: &str| {
            if protocol.json_status() {
                Ok(Outcome::Exited(ExitCode(code)))
            } else if code == 0 {
                Ok(Outcome::Ended)
            } else {
                Err(format!("error executing remote command: {text}"))
            }
        };
        let check = |outcome: &Outcome, expect: Result<Outcome, String>| match expect {
            Ok(expect) => assert_eq!(*outcome, expect, "{name:?}"),
            Err(text) => assert_eq!(message(outcome), text, "{name:?}"),
        };

        // Input there and back, in many messages. Only v5 can tell where it ends.
        let input = Bytes::from(common::pattern(200_000));
        let length = if protocol.half_close() { u64::MAX.to_string() } else { "200000".to_owned() };
        let done = soon(begin(&["cat", &length]).await.output_with(input.clone())).await;
        assert!(done.stdout == input, "{name:?}: {} bytes", done.stdout.len());
        assert!(done.stderr.is_empty());
        check(&done.outcome, known(0, ""));

        let done = soon(begin(&["both"]).await.output()).await;
        assert!(done.stdout == common::pattern(300_000) && done.stderr == common::pattern(300_000)[1..]);
        let text = "command terminated with non-zero exit code: command terminated with exit code";
        check(&done.outcome, known(7, &format!("{text} 7")));

        for code in [0u8, 1, 42, 255] {
            let outcome = soon(begin(&["exit", &code.to_string()]).await.wait()).await;
            assert_eq!(outcome.is_success(), protocol.json_status() && code == 0);
            check(&outcome, known(code, &format!("{text} {code}")));
        }
        let prefix = if protocol.json_status() { "" } else { "error executing remote command: " };
        let outcome = soon(begin(&["fail"]).await.wait()).await;
        assert_eq!(message(&outcome), format!("{prefix}Internal error occurred: no such file"));
        let outcome = soon(begin(&["panic"]).await.wait()).await;
        let text = "Internal error occurred: the server failed while running the command";
        assert_eq!(message(&outcome), format!("{prefix}{text}"));

        for _ in 0..8 {
            let report = soon(reports.recv()).await.unwrap();
            assert!(report.delivered(), "{name:?}: {report}");
        }
    }
}

#[tokio::test]
async fn the_client_offers_v5_and_then_v4() {
    let (address, mut reports) = exec_server(run).await;
    let request = Request::command(["exit", "3"]).stdout(true);
    let mut process = start(address, exec(request.clone())).await.unwrap();
    assert_eq!(process.subprotocol(), &Subprotocol::V5);
    let mut stdout = process.stdout.take().unwrap();
    let waiting = tokio::spawn(process.wait());
    assert_eq!(soon(stdout.chunk()).await.unwrap(), None);
    assert_eq!(soon(waiting).await.unwrap(), Outcome::Exited(ExitCode(3)));
    soon(reports.recv()).await.unwrap();
    // A name that this server does not know comes first and is passed over.
    let odd = exec(request).protocols([Subprotocol::BINARY, Subprotocol::V4, Subprotocol::V5]);
    assert_eq!(start(address, odd).await.unwrap().subprotocol(), &Subprotocol::V4);
}

/// Before v5 the end of input cannot be said, and that is an error which can be seen.
#[tokio::test]
async fn a_client_of_v4_cannot_end_the_input() {
    let (address, _reports) = exec_server(run).await;
    for protocol in REMOTECOMMAND {
        let request = Request::command(["cat", "5"]).stdin(true).stdout(true);
        let mut process = start(address, exec(request).protocols([protocol.clone()])).await.unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let unsupported = if protocol.half_close() { Ok(()) } else { Err(io::ErrorKind::Unsupported) };
        if protocol.half_close() {
            stdin.write_all(b"12345").await.unwrap();
        }
        assert_eq!(common::kind(stdin.close()), unsupported, "{}", protocol.name());
        assert_eq!(common::kind(stdin.shutdown().await), unsupported, "{}", protocol.name());
        if !protocol.half_close() {
            // And changes nothing.
            stdin.write_all(b"12345").await.unwrap();
        }
        let done = soon(process.output()).await;
        assert_eq!(done.stdout, "12345");
    }
}

#[tokio::test]
async fn a_terminal() {
    let (address, mut reports) = exec_server(async |request: Request, mut streams: Streams| {
        assert!(request.tty && streams.stderr.is_none());
        let mut resize = streams.resize.take().unwrap();
        let stdout = streams.stdout.as_mut().unwrap();
        for _ in 0..3 {
            let size = resize.next().await.unwrap();
            stdout.send(format!("{size} ").into()).await.map_err(Failure::internal)?;
        }
        Ok(ExitCode(0))
    })
    .await;
    for protocol in [Subprotocol::V5, Subprotocol::V4, Subprotocol::V3, Subprotocol::V4_BASE64_CHANNEL] {
        let request = Request::command(["sh"]).stdin(true).stdout(true).stderr(true).tty(true);
        let mut process = start(address, exec(request).protocols([protocol])).await.unwrap();
        assert!(process.stderr.is_none());
        let mut resize = process.resize.take().unwrap();
        for (width, height) in [(1, 65535), (65535, 1), (80, 24)] {
            resize.send(TerminalSize::new(width, height).unwrap()).await.unwrap();
        }
        assert_eq!(soon(process.output()).await.stdout, "1x65535 65535x1 80x24 ");
        assert_eq!(soon(reports.recv()).await.unwrap().dropped_sizes, 0);
    }
}

/// An attach reports success or failure, and no exit code.
#[tokio::test]
async fn attach() {
    let (sender, mut reports) = mpsc::channel(4);
    let address = web::serve(move |mut request| {
        let session = match Attach::accept(&mut request) {
            Ok(session) => session,
            Err(rejection) => return web::refused(rejection),
        };
        let (response, sender) = (session.response(), sender.clone());
        let attacher = |request: Request, mut streams: Streams| async move {
            assert!(request.command.is_empty());
            streams.stdout.as_mut().unwrap().send("attached".into()).await.map_err(Failure::internal)?;
            match request.container.as_deref() {
                Some("gone") => Err(Failure::internal("error attaching to container: gone")),
                _ => Ok(()),
            }
        };
        tokio::spawn(async move { sender.send(session.serve(attacher).await).await });
        web::switching(response)
    })
    .await;
    let request = Request::default().stdout(true);
    let process = start(address, client::attach(request.clone())).await.unwrap();
    let done = soon(process.output()).await;
    assert_eq!((&done.stdout[..], &done.outcome), (&b"attached"[..], &Outcome::Exited(ExitCode(0))));
    let process = start(address, client::attach(request.container("gone"))).await.unwrap();
    let outcome = soon(process.wait()).await;
    assert_eq!(message(&outcome), "Internal error occurred: error attaching to container: gone");
    for _ in 0..2 {
        assert!(soon(reports.recv()).await.unwrap().delivered());
    }
}

/// Requests that cannot be served, as our client sees them and as they look on the wire: a Status that names the cause.
#[tokio::test]
async fn refusals() {
    let (address, _reports) = exec_server(run).await;
    let rows = [
        (exec(Request::command(["x"])), 400, "you must specify at least 1 of stdin, stdout, stderr"),
        (
            exec(Request::default().stdout(true)),
            400,
            "you must specify at least one command for the container",
        ),
        (
            exec(Request::command(["a\0b"]).stdout(true)),
            400,
            "query parameter \"command\" contains a NUL byte",
        ),
        (
            exec(Request::command(["x"]).stdout(true)).protocols([Subprotocol::BINARY]),
            403,
            "unable to negotiate protocol",
        ),
    ];
    for (request, code, text) in rows {
        match start(address, request).await {
            Err(ConnectError::Refused(status)) => {
                assert_eq!(status.code, code);
                assert!(status.message.contains(text), "{}", status.message);
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let raw: [(Upgrade, u16); 3] = [
        (Upgrade::get("/exec?command=x&stdout=1").without("Upgrade"), 400),
        (Upgrade::get("/exec?command=x&stdout=1").method("POST"), 405),
        (Upgrade::get("/exec?command=%ff&stdout=1"), 400),
    ];
    for (request, code) in raw {
        let answer = request.send(TcpStream::connect(address).await.unwrap()).await;
        assert_eq!(answer.status.as_u16(), code);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        let status: serde_json::Value = serde_json::from_slice(&answer.body().await).unwrap();
        assert_eq!((&status["kind"], &status["code"]), (&"Status".into(), &code.into()));
    }
}
