//! Remote commands over SPDY: our client against our server, over TCP and hyper, and each of them against a scripted
//! peer: every version, each way to end, and what is no success.

#![cfg(all(feature = "client", feature = "server"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod common;
#[path = "common/shell.rs"]
mod shell;
#[path = "common/web.rs"]
mod web;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use common::soon;
use shell::{message, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use web::{exec_server, exec_server_with};
use wsstream::Subprotocol;
use wsstream::bytes::Bytes;
use wsstream::client::ConnectError;
use wsstream::http::{HeaderMap, Request as HttpRequest, StatusCode};
use wsstream::proto::subprotocol::{SPDY_REMOTECOMMAND, SPDY_UPGRADE, STREAM_PROTOCOL_VERSION};
use wsstream::remotecommand::client::{Process, Start, exec};
use wsstream::remotecommand::server::Options;
use wsstream::remotecommand::{
    ExitCode, Failure, LostWhy, Outcome, Request, SessionEnd, Streams, TerminalSize,
};
use wsstream::server::SpdyUpgrade;
use wsstream::spdy::{self, End, GoAwayStatus, Headers, ResetStatus};
use wsstream::upgrade::{Rejection, SpdyHandshake};

const EXIT_7: &str = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;

async fn start(address: SocketAddr, start: Start) -> Result<Process, ConnectError> {
    let endpoint = format!("http://{address}/api/v1/namespaces/default/pods/p/exec").parse().unwrap();
    let request = start.spdy_request(&endpoint).unwrap();
    soon(start.connect_spdy(TcpStream::connect(address).await.unwrap(), request)).await
}

fn cat() -> Request {
    Request::command(["cat", "18446744073709551615"]).stdin(true).stdout(true)
}

#[tokio::test]
async fn every_version_runs_commands() {
    let (address, mut reports) = exec_server(run).await;
    for protocol in SPDY_REMOTECOMMAND {
        let name = protocol.name();
        let begin = async |words: &[&str]| {
            let request = Request::command(words.to_vec()).stdin(true).stdout(true).stderr(true);
            let start_of = exec(request).spdy_protocols([protocol.clone()]);
            let process = start(address, start_of).await.unwrap();
            assert!(process.is_spdy());
            assert_eq!(process.subprotocol(), protocol);
            process
        };
        let text = "command terminated with non-zero exit code: command terminated with exit code";
        let check = |outcome: &Outcome, code: u8| match (protocol.json_status(), code) {
            (true, code) => assert_eq!(*outcome, Outcome::Exited(ExitCode(code)), "{name}"),
            (false, 0) => assert_eq!(*outcome, Outcome::Ended, "{name}"),
            (false, code) => {
                assert_eq!(message(outcome), format!("error executing remote command: {text} {code}"));
            }
        };

        // Each version can say where the input ends.
        let input = Bytes::from(common::pattern(1_000_000));
        let done = soon(begin(&["cat", "18446744073709551615"]).await.output_with(input.clone())).await;
        assert!(done.stdout == input, "{name}: {} bytes", done.stdout.len());
        check(&done.outcome, 0);

        let done = soon(begin(&["both"]).await.output()).await;
        assert!(done.stdout == common::pattern(300_000) && done.stderr == common::pattern(300_000)[1..]);
        check(&done.outcome, 7);

        for code in [0u8, 1, 42, 255] {
            let outcome = soon(begin(&["exit", &code.to_string()]).await.wait()).await;
            assert_eq!(outcome.is_success(), protocol.json_status() && code == 0);
            check(&outcome, code);
        }
        let prefix = if protocol.json_status() { "" } else { "error executing remote command: " };
        let outcome = soon(begin(&["fail"]).await.wait()).await;
        assert_eq!(message(&outcome), format!("{prefix}Internal error occurred: no such file"));
        let outcome = soon(begin(&["panic"]).await.wait()).await;
        let text = "Internal error occurred: the server failed while running the command";
        assert_eq!(message(&outcome), format!("{prefix}{text}"));

        for _ in 0..8 {
            let report = soon(reports.recv()).await.unwrap();
            assert!(report.delivered(), "{name}: {report}");
            assert!(matches!(report.end, Some(SessionEnd::Spdy(End::Closed { .. }))));
        }
    }
}

/// The status may overtake the output on its way: it is believed when all of it is there.
#[tokio::test]
async fn much_output_arrives_whole_at_a_slow_reader() {
    let data = common::pattern(3 << 20);
    let expected = data.clone();
    let (address, _reports) = exec_server(move |_: Request, mut streams: Streams| {
        let data = data.clone();
        async move {
            streams.stdout.as_mut().unwrap().write_all(&data).await.map_err(Failure::internal)?;
            Ok(ExitCode(7))
        }
    })
    .await;
    let mut process = start(address, exec(Request::command(["x"]).stdout(true))).await.unwrap();
    let mut stdout = process.stdout.take().unwrap();
    let reading = async {
        let mut got = Vec::new();
        while let Some(chunk) = stdout.chunk().await.unwrap() {
            got.extend_from_slice(&chunk);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        got
    };
    let (got, outcome) = soon(async { tokio::join!(reading, process.wait()) }).await;
    assert!(got == expected, "{} bytes", got.len());
    assert_eq!(outcome, Outcome::Exited(ExitCode(7)));
}

#[tokio::test]
async fn a_terminal_has_sizes_from_v3_on() {
    let (address, _reports) = exec_server(async |request: Request, mut streams: Streams| {
        assert!(request.tty && streams.stderr.is_none());
        let stdout = streams.stdout.as_mut().unwrap();
        match &mut streams.resize {
            None => stdout.send("none".into()).await.map_err(Failure::internal)?,
            Some(resize) => {
                for _ in 0..2 {
                    let size = resize.next().await.unwrap();
                    stdout.send(format!("{size} ").into()).await.map_err(Failure::internal)?;
                }
            }
        }
        Ok(ExitCode(0))
    })
    .await;
    for protocol in SPDY_REMOTECOMMAND {
        let request = Request::command(["sh"]).stdin(true).stdout(true).stderr(true).tty(true);
        let mut process = start(address, exec(request).spdy_protocols([protocol.clone()])).await.unwrap();
        assert!(process.stderr.is_none());
        let resize = process.resize.take();
        assert_eq!(resize.is_some(), protocol.resize());
        let expected = if let Some(mut resize) = resize {
            resize.send(TerminalSize::new(1, 65535).unwrap()).await.unwrap();
            resize.send(TerminalSize::new(80, 24).unwrap()).await.unwrap();
            "1x65535 80x24 "
        } else {
            "none"
        };
        assert_eq!(soon(process.output()).await.stdout, expected);
    }
}

/// Go's servers take a reset of stdin for its end, so a writer that is merely dropped sends none.
#[tokio::test]
async fn a_dropped_stdin_is_no_end_of_input() {
    let (address, _reports) = exec_server(async |_: Request, mut streams: Streams| {
        let mut stdin = streams.stdin.take().unwrap();
        assert_eq!(stdin.chunk().await.unwrap().unwrap(), "half");
        let more = tokio::time::timeout(Duration::from_millis(300), stdin.chunk()).await;
        Ok(ExitCode(u8::from(more.is_ok())))
    })
    .await;
    let mut process = start(address, exec(cat())).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.send("half".into()).await.unwrap();
    drop(stdin);
    assert_eq!(soon(process.wait()).await, Outcome::Exited(ExitCode(0)));
}

/// client-go stops sending stdin when the server ends its own side of that stream, and reports nothing: kubectl cp then
/// lost all but the first 64 KiB.
#[tokio::test]
async fn a_server_does_not_end_its_side_of_stdin_early() {
    let (address, _reports) = exec_server(run).await;
    let io = TcpStream::connect(address).await.unwrap();
    let request = HttpRequest::post(format!("http://{address}/exec?command=cat&command=6&stdin=1&stdout=1"));
    let offer = wsstream::client::SpdyOffer::new([Subprotocol::V4]);
    let accepted = soon(offer.connect(io, request.body(()).unwrap())).await.unwrap();
    let (connection, driver) = accepted.open(|builder| builder);
    let driver = tokio::spawn(driver);
    let open =
        async |kind| connection.open(&Headers::from_iter([("streamtype", kind)]), false).await.unwrap();
    let (mut error, mut stdin, mut stdout) = (open("error").await, open("stdin").await, open("stdout").await);
    stdin.write_all(b"abc").await.unwrap();
    let mut text = [0; 3];
    soon(stdout.read_exact(&mut text)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), stdin.reader().chunk()).await;
    assert!(early.is_err(), "the server ended its side of stdin: {early:?}");
    stdin.write_all(b"def").await.unwrap();
    soon(stdout.read_exact(&mut text)).await.unwrap();
    let mut status = String::new();
    soon(error.read_to_string(&mut status)).await.unwrap();
    assert!(status.contains("Success"), "{status}");
    // But in the end it does, or a client would wait for its user's next key.
    soon(stdin.reader().chunk()).await.expect_err("the session is over");
    connection.shutdown(GoAwayStatus::OK);
    soon(driver).await.unwrap();
}

/// A client that goes away in mid-session, and what the command sees of it: an error and never the end of its input.
#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let (address, mut reports) = exec_server(async |_: Request, mut streams: Streams| {
        let mut stdin = streams.stdin.take().unwrap();
        assert_eq!(stdin.chunk().await.unwrap().unwrap(), "half");
        stdin.chunk().await.expect_err("the input was cut");
        streams.disconnect.wait().await;
        Err(Failure::internal("the client has left"))
    })
    .await;
    let mut process = start(address, exec(cat())).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let waiting = tokio::spawn(process.wait());
    stdin.send("half".into()).await.unwrap();
    tokio::io::AsyncWriteExt::flush(&mut stdin).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    waiting.abort();
    let report = soon(reports.recv()).await.unwrap();
    assert!(!report.delivered(), "{report}");
    assert_eq!(report.stats.received[0], 4);
}

/// Upstream leaves a client that does not open its streams lying about until the idle timeout.
#[tokio::test]
async fn a_client_that_opens_too_few_streams_is_sent_away() {
    let mut options = Options::default();
    options.stream_creation = Duration::from_millis(100);
    let (address, mut reports) = exec_server_with(options, run).await;
    let io = TcpStream::connect(address).await.unwrap();
    let request = HttpRequest::post(format!("http://{address}/exec?command=x&stdout=1&stderr=1")).body(());
    let offer = wsstream::client::SpdyOffer::new([Subprotocol::V4]);
    let accepted = soon(offer.connect(io, request.unwrap())).await.unwrap();
    let (connection, driver) = accepted.open(|builder| builder);
    let driver = tokio::spawn(driver);
    let mut error = connection.open(&Headers::from_iter([("streamtype", "error")]), false).await.unwrap();
    soon(error.replied()).await.unwrap();
    // One that nobody has asked for is refused, and the rest go on.
    let mut odd = connection.open(&Headers::from_iter([("streamtype", "tea")]), false).await.unwrap();
    soon(odd.replied()).await.expect_err("no such stream");
    assert!(matches!(soon(connection.disconnected()).await, End::Closed { by: spdy::Side::Peer, .. }));
    connection.shutdown(GoAwayStatus::OK);
    soon(driver).await.unwrap();
    let report = soon(reports.recv()).await.unwrap();
    assert_eq!(report.result, None);
}

/// A server of few words, as its script has it.
async fn scripted<F: Future<Output = ()> + Send + 'static>(
    script: impl FnOnce(spdy::Connection, Vec<(String, spdy::Stream)>) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr {
    web::serve(move |mut request| {
        let upgrade = SpdyUpgrade::accept(&mut request, SPDY_REMOTECOMMAND).unwrap();
        let response = upgrade.response();
        let script = script.clone();
        tokio::spawn(async move {
            let (connection, driver) = upgrade.open(|builder| builder).await.unwrap();
            let talk = async {
                let mut streams = Vec::new();
                for _ in 0..2 {
                    let incoming = connection.accept().await.unwrap();
                    let kind = incoming.headers().text("streamtype").unwrap().to_owned();
                    streams.push((kind, incoming.accept()));
                }
                script(connection.clone(), streams).await;
            };
            // The end of the script is the end of the connection, unless it waits.
            tokio::select! {
                _ = driver => {}
                () = talk => {}
            }
        });
        web::switching(response)
    })
    .await
}

fn take(streams: &mut Vec<(String, spdy::Stream)>, kind: &str) -> spdy::Stream {
    let place = streams.iter().position(|(name, _)| name == kind).unwrap();
    streams.swap_remove(place).1
}

/// What the client makes of each way to end: a status alone proves nothing while output is missing.
#[tokio::test]
async fn a_session_is_complete_only_with_a_status_and_the_end_of_each_output() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Ends {
        Fin,
        Reset,
        Not,
    }
    let rows = [
        (Some(EXIT_7), Ends::Fin, Ends::Fin, true),
        // As Go ends its error stream, and an output that its runtime did not end.
        (Some(EXIT_7), Ends::Reset, Ends::Fin, true),
        (Some(EXIT_7), Ends::Reset, Ends::Reset, true),
        (Some(EXIT_7), Ends::Not, Ends::Fin, true),
        (Some(EXIT_7), Ends::Fin, Ends::Not, false),
        (Some(&EXIT_7[..40]), Ends::Reset, Ends::Fin, false),
        (None, Ends::Fin, Ends::Fin, false),
        (None, Ends::Reset, Ends::Reset, false),
        (None, Ends::Not, Ends::Not, false),
    ];
    for (status, error_ends, output_ends, whole) in rows {
        let address = scripted(move |connection, mut streams| async move {
            let (mut error, mut stdout) = (take(&mut streams, "error"), take(&mut streams, "stdout"));
            stdout.write_all(b"output").await.unwrap();
            if let Some(status) = status {
                error.write_all(status.as_bytes()).await.unwrap();
            }
            for (stream, ends) in [(&mut error, error_ends), (&mut stdout, output_ends)] {
                match ends {
                    Ends::Fin => stream.writer().close().unwrap(),
                    Ends::Reset => stream.writer().reset_after_data(ResetStatus::CANCEL),
                    Ends::Not => {}
                }
            }
            error.flush().await.ok();
            stdout.flush().await.ok();
            if error_ends == Ends::Not || output_ends == Ends::Not {
                // Cut: no reset and no GOAWAY.
                return;
            }
            connection.shutdown(GoAwayStatus::OK);
            std::future::pending::<()>().await;
        })
        .await;
        let process = start(address, exec(Request::command(["x"]).stdout(true))).await.unwrap();
        let done = soon(process.output()).await;
        let row = (status, error_ends, output_ends);
        assert_eq!(done.stdout, "output", "{row:?}");
        match done.outcome {
            Outcome::Exited(ExitCode(7)) => assert!(whole, "{row:?}"),
            Outcome::Lost(lost) => {
                assert!(!whole, "{row:?}: {lost}");
                assert_eq!((lost.stdout, lost.stdin), (6, 0), "{row:?}");
                assert!(
                    matches!(
                        lost.why,
                        LostWhy::Spdy(_) | LostWhy::NoStatusBeforeGoAway(_) | LostWhy::BadStatus(_)
                    ),
                    "{row:?}: {lost}"
                );
            }
            other => panic!("{row:?}: {other}"),
        }
    }
}

/// Stock clients take a session without a status for a success: one that nobody uses ends with a failure, on every wire.
#[tokio::test]
async fn an_idle_session_is_a_failure_and_no_silent_end() {
    let mut options = Options::default();
    options.timeouts.idle = Some(Duration::from_millis(400));
    let told = |_: Request, mut streams: Streams| async move {
        streams.stdout.as_mut().unwrap().send("begin".into()).await.map_err(Failure::internal)?;
        let end = streams.disconnect.wait().await;
        assert!(end.to_string().contains("no data for") && !end.is_orderly(), "{end}");
        // Its last words still arrive.
        streams.stdout.as_mut().unwrap().send(" end".into()).await.map_err(Failure::internal)?;
        Ok(ExitCode(0))
    };
    let (address, mut reports) = exec_server_with(options, told).await;
    let request = || exec(Request::command(["x"]).stdin(true).stdout(true));
    let mut processes = Vec::new();
    for protocol in SPDY_REMOTECOMMAND {
        processes.push(start(address, request().spdy_protocols([protocol.clone()])).await.unwrap());
    }
    for protocol in wsstream::proto::subprotocol::REMOTECOMMAND {
        let start = request().protocols([protocol.clone()]);
        let endpoint = format!("http://{address}/exec").parse().unwrap();
        let connecting =
            start.connect(TcpStream::connect(address).await.unwrap(), start.request(&endpoint).unwrap());
        processes.push(soon(connecting).await.unwrap());
    }
    for mut process in processes {
        let name = process.subprotocol().name().to_owned();
        // Held open, so that nothing ends but by the clock.
        let _stdin = process.stdin.take();
        let done = soon(process.output()).await;
        assert_eq!(done.stdout, "begin end", "{name}");
        let text = message(&done.outcome);
        assert!(text.ends_with("the session was idle for 400ms"), "{name}: {text}");
        let report = soon(reports.recv()).await.unwrap();
        assert!(report.delivered() && report.result.as_ref().unwrap().is_err(), "{name}: {report}");
    }
}

/// A status, and an output that its server has forgotten to end: two minutes of nothing are enough, and it is no success.
#[tokio::test(start_paused = true)]
async fn an_output_that_never_ends_is_not_waited_for_without_bound() {
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    let server = tokio::spawn(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(theirs.read_u8().await.unwrap());
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {SPDY_UPGRADE}\r\n\
             {STREAM_PROTOCOL_VERSION}: v4.channel.k8s.io\r\n\r\n"
        );
        theirs.write_all(answer.as_bytes()).await.unwrap();
        let (connection, driver) = spdy::Builder::server().start(theirs);
        let talk = async {
            let mut error = connection.accept().await.unwrap().accept();
            let mut stdout = connection.accept().await.unwrap().accept();
            error.write_all(EXIT_7.as_bytes()).await.unwrap();
            error.writer().close().unwrap();
            // Each byte begins the wait anew.
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(100)).await;
                stdout.write_all(b"x").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = driver => end,
            () = talk => unreachable!(),
        }
    });
    let start = exec(Request::command(["x"]).stdout(true));
    let request = start.spdy_request(&"http://host/exec".parse().unwrap()).unwrap();
    let process = start.connect_spdy(ours, request).await.unwrap();
    let since = tokio::time::Instant::now();
    let done = process.output().await;
    assert_eq!(done.stdout, "xxx");
    assert!(matches!(done.outcome, Outcome::Lost(_)), "{:?}", done.outcome);
    let took = since.elapsed().as_secs();
    assert!((400..800).contains(&took), "{took} s");
    server.await.unwrap();
}

/// A request that asks for SPDY, with these lines of versions.
fn asking(versions: &[&str]) -> HttpRequest<()> {
    let mut request = HttpRequest::post("/exec").body(()).unwrap();
    let headers: &mut HeaderMap = request.headers_mut();
    headers.insert("connection", "Upgrade".parse().unwrap());
    headers.insert("upgrade", SPDY_UPGRADE.parse().unwrap());
    for version in versions {
        headers.append(STREAM_PROTOCOL_VERSION, version.parse().unwrap());
    }
    request
}

/// The rows of apimachinery's handshake test, and the headers of the answers.
#[test]
fn the_first_version_that_both_know_is_chosen() {
    let known = [Subprotocol::V4, Subprotocol::V3];
    let negotiate = |versions: &[&str]| SpdyHandshake::negotiate(&asking(versions), &known);
    let rows: [(&[&str], Result<&str, u16>); 8] = [
        (&[], Err(400)),
        (&[",, "], Err(400)),
        (&["c"], Err(403)),
        (&["c, d"], Err(403)),
        (&["v3.channel.k8s.io"], Ok("v3.channel.k8s.io")),
        (&["c", "v3.channel.k8s.io"], Ok("v3.channel.k8s.io")),
        (&["v5.channel.k8s.io, v4.channel.k8s.io,v3.channel.k8s.io"], Ok("v4.channel.k8s.io")),
        (&["v3.channel.k8s.io", "v4.channel.k8s.io"], Ok("v3.channel.k8s.io")),
    ];
    for (versions, expected) in rows {
        let chosen = negotiate(versions);
        match expected {
            Ok(name) => {
                let handshake = chosen.unwrap();
                let response = handshake.response();
                assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
                assert_eq!(response.headers()[STREAM_PROTOCOL_VERSION], name, "{versions:?}");
                assert_eq!(response.headers()["upgrade"], SPDY_UPGRADE);
            }
            Err(code) => {
                let response = chosen.map_err(Rejection::into_response).unwrap_err();
                assert_eq!(response.status().as_u16(), code, "{versions:?}");
                let listed = response.headers().get_all("x-accepted-stream-protocol-versions").iter().count();
                assert_eq!(listed, if code == 403 { 2 } else { 0 });
            }
        }
    }
    for (name, value) in [("connection", "close"), ("upgrade", "websocket"), ("upgrade", "spdy/2")] {
        let mut request = asking(&["v4.channel.k8s.io"]);
        request.headers_mut().insert(name, value.parse().unwrap());
        let rejection = SpdyHandshake::negotiate(&request, &known).unwrap_err();
        assert_eq!(rejection.into_response().status(), StatusCode::BAD_REQUEST, "{name}: {value}");
    }
    let mut request = asking(&["v4.channel.k8s.io"]);
    *request.method_mut() = wsstream::http::Method::DELETE;
    let rejection = SpdyHandshake::negotiate(&request, &known).unwrap_err();
    assert_eq!(rejection.into_response().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_refusal_says_why() {
    let (address, _reports) = exec_server(run).await;
    let refused = start(address, exec(Request::command(["x"]))).await.unwrap_err();
    assert!(refused.is_upgrade_failure());
    assert!(refused.to_string().contains("at least 1 of stdin, stdout, stderr"), "{refused}");
    let v5 = exec(Request::command(["x"]).stdout(true)).spdy_protocols([Subprotocol::V5]);
    let refused = start(address, v5).await.unwrap_err();
    assert!(refused.to_string().contains("unable to negotiate protocol"), "{refused}");
    let closed = TcpStream::connect("127.0.0.1:1").await;
    assert!(closed.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused));
    let mut process = start(address, exec(Request::command(["exit", "0"]).stdout(true))).await.unwrap();
    let mut text = String::new();
    let mut stdout = process.stdout.take().unwrap();
    let (read, outcome) =
        soon(async { tokio::join!(stdout.read_to_string(&mut text), process.wait()) }).await;
    assert_eq!((read.unwrap(), outcome), (0, Outcome::Exited(ExitCode(0))));
}
