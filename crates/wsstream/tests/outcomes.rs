//! How a client judges a session, against a scripted server: exactly one outcome, and silence is never success.

#![cfg(feature = "client")]
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

use base64::Engine as _;
use common::soon;
use sha1::Digest as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep};
use wsstream::Subprotocol;
use wsstream::client::ConnectError;
use wsstream::connection::Loss;
use wsstream::proto::ws::{CloseCode, CloseReason};
use wsstream::remotecommand::client::{Process, exec};
use wsstream::remotecommand::{ExitCode, LostSession, LostWhy, Outcome, Request};
use wsstream_testing::Peer;

const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;
const EXIT_42: &[u8] = br#"{"status":"Failure","message":"x","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;

const EXIT_42_SPLIT: (&[u8], &[u8]) = EXIT_42.split_at(30);
const HEAD: &[u8] = EXIT_42_SPLIT.0;
const TAIL: &[u8] = EXIT_42_SPLIT.1;
/// As newer servers write it.
const SHORT_SUCCESS: &[u8] = br#"{"status":"Success"}"#;
const NO_DETAILS: &[u8] = br#"{"status":"Failure","reason":"NonZeroExitCode"}"#;
const NEITHER: &[u8] = b"{}";
const EMPTY: &[u8] = b"";

/// Reads a request head and returns it with the `Sec-WebSocket-Accept` that answers its key.
async fn read_request(io: &mut DuplexStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let hash = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(hash);
    (head, accept)
}

fn request() -> Request {
    Request::command(["x"]).stdin(true).stdout(true).stderr(true)
}

/// A client that offers `protocol`, and what became of it against a server that answers with `answer`, in which
/// `ACCEPT` stands for the right value.
async fn connect(
    protocol: Subprotocol,
    answer: &str,
) -> (Result<Process, ConnectError>, String, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let start = exec(request()).protocols([protocol]);
    let asked = start.request(&"http://kube.example/api/v1/namespaces/default/pods/p/exec".parse().unwrap());
    let serve = async {
        let (head, accept) = read_request(&mut theirs).await;
        theirs.write_all(answer.replace("ACCEPT", &accept).as_bytes()).await.unwrap();
        if !answer.starts_with("HTTP/1.1 101") {
            theirs.shutdown().await.unwrap();
        }
        (head, theirs)
    };
    let (process, (head, theirs)) =
        soon(async { tokio::join!(start.connect(ours, asked.unwrap()), serve) }).await;
    (process, head, theirs)
}

/// An upgraded client and the server's end of its wire.
async fn session(protocol: Subprotocol) -> (Process, Peer<DuplexStream>) {
    let chosen = match protocol.name() {
        "" => String::new(),
        name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n{chosen}\r\n"
    );
    let (process, _, theirs) = connect(protocol, &answer).await;
    (process.unwrap(), Peer::server(theirs))
}

fn code(code: u16) -> CloseReason {
    CloseReason::code(CloseCode::new(code).unwrap())
}

/// What the server does at the end.
#[derive(Clone, Copy)]
enum Ends {
    Close(u16),
    CloseWithoutCode,
    Eof,
}

/// The table: what came on channel 3, how the connection ended, and the outcome. 5 bytes of stdout and 3 of stderr came
/// before, and 4 of stdin went.
#[tokio::test]
async fn each_outcome() {
    use Ends::{Close, CloseWithoutCode, Eof};
    let lost = Err::<Outcome, LostWhy>;
    let no_code = CloseReason::default();
    let bad = |text: &str| lost(LostWhy::BadStatus(format!("error stream protocol error: {text}")));
    let exited = |code| Ok(Outcome::Exited(ExitCode(code)));
    let (v5, v4) = (Subprotocol::V5, Subprotocol::V4);
    let (v1, none) = (Subprotocol::CHANNEL, Subprotocol::NONE);
    let rows: Vec<(&str, &Subprotocol, &[&[u8]], Ends, Result<Outcome, LostWhy>)> = vec![
        ("success", &v5, &[SUCCESS], Close(1000), exited(0)),
        ("success of cri-streaming", &v5, &[SHORT_SUCCESS], Close(1000), exited(0)),
        ("exit 42", &v5, &[EXIT_42], Close(1000), exited(42)),
        // Everything that was sent before a status has arrived before it: stock clients give such a session up.
        ("status and 1001", &v5, &[EXIT_42], Close(1001), exited(42)),
        ("status and no code", &v5, &[EXIT_42], CloseWithoutCode, exited(42)),
        ("status and no close", &v5, &[EXIT_42], Eof, exited(42)),
        ("split status", &v5, &[HEAD, TAIL], Close(1000), exited(42)),
        // The ready message on channel 3 is none.
        ("ready", &v5, &[EMPTY, SUCCESS], Close(1000), exited(0)),
        // Stock clients exit 0 here.
        ("silence", &v5, &[], Close(1000), lost(LostWhy::NoStatus(code(1000)))),
        ("silence on v4", &v4, &[], Close(1000), lost(LostWhy::NoStatus(code(1000)))),
        ("going away", &v5, &[], Close(1001), lost(LostWhy::Closed(code(1001)))),
        ("failed", &v5, &[], Close(1011), lost(LostWhy::Closed(code(1011)))),
        ("no code", &v5, &[], CloseWithoutCode, lost(LostWhy::Closed(no_code.clone()))),
        ("cut", &v5, &[], Eof, lost(LostWhy::Connection(Loss::Eof))),
        ("cut status", &v5, &[HEAD], Eof, lost(LostWhy::Connection(Loss::Eof))),
        ("cut status and 1011", &v5, &[HEAD], Close(1011), lost(LostWhy::Closed(code(1011)))),
        ("neither", &v5, &[NEITHER], Close(1000), bad("unknown error")),
        ("no code in it", &v5, &[NO_DETAILS], Close(1000), bad("details must be set")),
        ("old and silent", &v1, &[], Close(1000), Ok(Outcome::Ended)),
        ("old and none", &none, &[], Close(1000), Ok(Outcome::Ended)),
        ("old and cut", &v1, &[], Eof, lost(LostWhy::Connection(Loss::Eof))),
        ("old and failed", &v1, &[], Close(1011), lost(LostWhy::Closed(code(1011)))),
        ("old and no code", &v1, &[], CloseWithoutCode, lost(LostWhy::Closed(no_code))),
    ];
    for (name, protocol, messages, ends, expect) in rows {
        let (mut process, mut peer) = session(protocol.clone()).await;
        process.stdin.as_mut().unwrap().send("stdi".into()).await.unwrap();
        let script = async {
            peer.expect_binary(b"\x00stdi").await;
            peer.send_binary(&[1]).await;
            peer.send_binary(b"\x01outpu").await;
            peer.send_binary(b"\x02err").await;
            for message in messages {
                peer.send_binary(&[b"\x03", *message].concat()).await;
            }
            match ends {
                Close(code) => peer.close(code).await,
                CloseWithoutCode => peer.close_without_code().await,
                Eof => peer.shutdown().await,
            }
            match ends {
                Close(code) => drop(peer.expect_close(code).await),
                CloseWithoutCode => peer.expect_close_without_code().await,
                Eof => {}
            }
            peer.expect_eof().await;
        };
        let (outcome, ()) = soon(async { tokio::join!(process.wait(), script) }).await;
        let outcome = match outcome {
            Outcome::Lost(LostSession { why, stdout: 5, stderr: 3, stdin: 4, .. }) => Err(why),
            Outcome::Lost(lost) => panic!("{name}: {lost}"),
            known => Ok(known),
        };
        assert_eq!(outcome, expect, "{name}");
    }
}

#[tokio::test]
async fn failures_keep_what_the_server_said() {
    let rows: [(Subprotocol, &[u8], &str, &str); 3] = [
        (
            Subprotocol::V5,
            br#"{"status":"Failure","message":"pods \"p\" not found","reason":"NotFound","code":404}"#,
            "pods \"p\" not found",
            "NotFound",
        ),
        (Subprotocol::CHANNEL, b"exit status 3", "error executing remote command: exit status 3", ""),
        (Subprotocol::V3, b"boom", "error executing remote command: boom", ""),
    ];
    for (protocol, message, text, reason) in rows {
        let (process, mut peer) = session(protocol).await;
        peer.send_binary(&[b"\x03", message].concat()).await;
        peer.close(1000).await;
        match soon(process.wait()).await {
            Outcome::Failed(status) => assert_eq!((&status.message[..], &status.reason[..]), (text, reason)),
            other => panic!("{other:?}"),
        }
    }
}

/// kubectl hangs for ever on a server that says how the command ended and then does not close.
#[tokio::test(start_paused = true)]
async fn a_status_without_a_close_does_not_hang_the_client() {
    for answers in [true, false] {
        let (mut process, peer) = session(Subprotocol::V5).await;
        let mut peer = peer.deadline(Duration::from_secs(100));
        let mut stdout = process.stdout.take().unwrap();
        peer.send_binary(b"\x01all of it").await;
        peer.send_binary(&[b"\x03", SUCCESS].concat()).await;
        let start = Instant::now();
        let script = async {
            peer.expect_close(1000).await;
            if answers {
                peer.close(1000).await;
                peer.expect_eof().await;
            }
        };
        let (outcome, ()) = tokio::join!(process.wait(), script);
        assert_eq!(outcome, Outcome::Exited(ExitCode(0)));
        assert_eq!(start.elapsed().as_secs(), if answers { 10 } else { 20 });
        assert_eq!(stdout.chunk().await.unwrap().unwrap(), "all of it");
    }
}

/// Some servers send the status before the last of the output. A client that reads slowly must not be cut off then: the
/// outcome says that all of the output arrived.
#[tokio::test(start_paused = true)]
async fn output_behind_the_status_is_waited_for() {
    let (ours, mut peer) = {
        let (process, peer) = session(Subprotocol::V5).await;
        (process, peer.deadline(Duration::from_secs(3600)))
    };
    let mut process = ours;
    let mut stdout = process.stdout.take().unwrap();
    let output = common::pattern(3 << 20);
    let script = async {
        peer.send_binary(&[b"\x03", SUCCESS].concat()).await;
        for part in output.chunks(32 << 10) {
            peer.send_binary(&[b"\x01", part].concat()).await;
        }
        peer.close(1000).await;
        peer.expect_close(1000).await;
    };
    let reading = async {
        let mut all = Vec::new();
        while let Ok(Some(chunk)) = stdout.chunk().await {
            all.extend_from_slice(&chunk);
            sleep(Duration::from_millis(500)).await;
        }
        all
    };
    let (outcome, all, ()) = tokio::join!(process.wait(), reading, script);
    assert_eq!(outcome, Outcome::Exited(ExitCode(0)));
    assert!(all == output, "{} of {} bytes", all.len(), output.len());
}

/// A status that never ends: bounded, and no verdict.
#[tokio::test(start_paused = true)]
async fn an_endless_status_is_given_up() {
    let (process, mut peer) = session(Subprotocol::V5).await;
    let script = async {
        peer.send_binary(b"\x03{\"message\":\"").await;
        while peer.try_send_raw(&[&[0x82, 126, 0x40, 1, 3][..], &[b'x'; 0x4000]].concat()).await.is_ok() {}
    };
    let (outcome, ()) = tokio::join!(process.wait(), script);
    assert!(matches!(outcome, Outcome::Lost(_)), "{outcome:?}");
}

/// Streams that were taken hold what arrived after the outcome is known; `output` puts all together.
#[tokio::test]
async fn output_collects_both_streams_and_ends_the_input() {
    let (process, mut peer) = session(Subprotocol::V5).await;
    let script = async {
        peer.expect_binary(&[255, 0]).await;
        for _ in 0..3 {
            peer.send_binary(b"\x01out").await;
            peer.send_binary(b"\x02err").await;
        }
        peer.send_binary(&[b"\x03", EXIT_42].concat()).await;
        peer.close(1000).await;
    };
    let (done, ()) = soon(async { tokio::join!(process.output(), script) }).await;
    assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"outoutout"[..], &b"errerrerr"[..]));
    assert_eq!(done.outcome, Outcome::Exited(ExitCode(42)));
}

/// The server ends the session while the input is still waiting for room.
#[tokio::test]
async fn input_that_nobody_takes_does_not_hold_up_the_outcome() {
    let (process, mut peer) = session(Subprotocol::V5).await;
    let script = async {
        peer.expect_binary(&[&[0][..], &[7; 32 << 10]].concat()).await;
        peer.send_binary(&[b"\x03", EXIT_42].concat()).await;
        peer.close(1000).await;
        // And now it takes nothing more; its socket closes.
        drop(peer);
    };
    let (done, ()) = soon(async { tokio::join!(process.output_with(vec![7; 8 << 20].into()), script) }).await;
    assert_eq!(done.outcome, Outcome::Exited(ExitCode(42)));
}

#[tokio::test]
async fn the_request_on_the_wire() {
    let (_, head, _) = connect(Subprotocol::V4, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let mut lines = head.lines();
    let first = lines.next().unwrap();
    let target = "/api/v1/namespaces/default/pods/p/exec?command=x&stderr=true&stdin=true&stdout=true";
    assert_eq!(first, format!("GET {target} HTTP/1.1"));
    for line in [
        "host: kube.example",
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: v4.channel.k8s.io",
    ] {
        assert!(head.lines().any(|got| got == line), "{line} is not in {head}");
    }
    // Offering nothing is saying nothing.
    let (_, head, _) =
        connect(Subprotocol::NONE, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
}

/// Every answer that is no upgrade, and what is wrong with it.
#[tokio::test]
async fn answers_that_are_no_upgrade() {
    const STATUS: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"p\" is forbidden: no","reason":"Forbidden","code":403}"#;
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    let full = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let rows = [
        (full("403 Forbidden", STATUS), "pods \"p\" is forbidden: no"),
        // Until the end of the stream, as Go's x/net answers.
        (format!("HTTP/1.1 403 Forbidden\r\n\r\n{STATUS}"), "pods \"p\" is forbidden: no"),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n".to_owned(),
            "the server answered 403 Forbidden instead of upgrading: ",
        ),
        (
            full("404 Not Found", "404 page not found\n"),
            "the server answered 404 Not Found instead of upgrading: 404 page not found",
        ),
        (full("200 OK", "hello"), "the server answered 200 OK instead of upgrading: hello"),
        (
            format!("{upgrade}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
            "the server's answer to the upgrade is wrong: Sec-WebSocket-Accept does not fit the key",
        ),
        (
            format!("{upgrade}\r\n"),
            "the server's answer to the upgrade is wrong: Sec-WebSocket-Accept does not fit the key",
        ),
        (
            format!(
                "{upgrade}Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
            ),
            "the server's answer to the upgrade is wrong: invalid protocol, expected one of [\"v5.channel.k8s.io\"], got \"v4.channel.k8s.io\"",
        ),
        (
            format!("{upgrade}Sec-WebSocket-Accept: ACCEPT\r\n\r\n"),
            "the server's answer to the upgrade is wrong: invalid protocol, expected one of [\"v5.channel.k8s.io\"], got \"\"",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n".to_owned(),
            "the server's answer to the upgrade is wrong: it does not upgrade to a WebSocket",
        ),
    ];
    for (answer, text) in rows {
        let (process, _, _theirs) = connect(Subprotocol::V5, &answer).await;
        let Err(error) = process else { panic!("accepted: {answer}") };
        assert_eq!(error.to_string(), text);
        let matches = match &error {
            ConnectError::Refused(status) => status.code == 403 && status.reason == "Forbidden",
            ConnectError::NotUpgraded { .. } => text.contains("instead of"),
            ConnectError::BadAnswer(_) => text.contains("is wrong"),
            _ => false,
        };
        assert!(matches, "{error:?}");
    }
    let (process, _, _) = connect(Subprotocol::V5, "SSH-2.0-OpenSSH_9.6\r\n").await;
    assert!(matches!(process, Err(ConnectError::Http(_))), "{process:?}");
}

/// Upstream's server answers an empty header when nothing was requested.
#[tokio::test]
async fn an_empty_subprotocol_header_means_none() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol:\r\n\r\n";
    let (process, _, _) = connect(Subprotocol::NONE, answer).await;
    assert_eq!(process.unwrap().subprotocol(), &Subprotocol::NONE);
}
