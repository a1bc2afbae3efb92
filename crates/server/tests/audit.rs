//! The record of sessions, over real sockets and with a file that fails.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use server_support::{Running, host_pod, soon};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use wsstream::remotecommand::{ExitCode, Outcome, Request as Command};
use wsstream_server::{
    Pods, ServerOptions, TlsSource,
    audit::{ArgvPolicy, AuditTo, OnFailure},
};

const HOST: &str = "/api/v1/namespaces/default/pods/host/exec";

async fn recorded(path: &Path, change: impl FnOnce(&mut ServerOptions)) -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::with(pods, |options| {
        options.tls = TlsSource::Insecure;
        options.audit.to = Some(AuditTo::File(path.to_owned()));
        change(options);
    })
    .await
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    (folder, path)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// Waits for so many lines.
async fn some(path: &Path, count: usize) -> Vec<Value> {
    soon("lines", async {
        loop {
            let lines = lines(path);
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

fn sh(script: &str) -> Command {
    Command::command(["sh", "-c", script]).stdout(true).stderr(true)
}

#[tokio::test]
async fn a_session_leaves_two_lines_that_say_who_what_and_how_it_went() {
    let (_folder, path) = place();
    let mut server = recorded(&path, |_| {}).await;
    let process = server.start(HOST, None, sh("cat; echo err >&2; exit 7").stdin(true)).await;
    let all = soon("the end", process.output_with(Bytes::from_static(b"in\n"))).await;
    assert_eq!(all.outcome, Outcome::Exited(ExitCode(7)));
    some(&path, 3).await;
    server.stop();
    server.ended().await;
    let lines = lines(&path);
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["open", "start", "end", "close"]);
    let (start, end) = (&lines[1], &lines[2]);
    for line in [start, end] {
        assert_eq!(line["instance"], lines[0]["instance"]);
        assert_eq!(
            (&line["session"], &line["user"], &line["kind"]),
            (&1.into(), &"token-1".into(), &"exec".into())
        );
        assert_eq!(
            (&line["namespace"], &line["pod"], &line["container"]),
            (&"default".into(), &"host".into(), &"host".into())
        );
        assert_eq!(line["protocol"], "websocket v5.channel.k8s.io");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    assert_eq!(start["streams"], serde_json::json!(["stdin", "stdout", "stderr"]));
    assert_eq!((&start["program"], &start["arguments"]), (&"sh".into(), &2.into()));
    assert!(start["digest"].as_str().unwrap().len() == 32 && start.get("argv").is_none());
    assert_eq!((&end["outcome"], &end["exit_code"]), (&"exited".into(), &7.into()));
    assert_eq!(end["bytes"], serde_json::json!({ "in": 3, "out": 3, "err": 4 }));
    assert!(end["seconds"].as_f64().unwrap() > 0.0);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("exit 7"), "the arguments");
}

#[tokio::test]
async fn the_policy_says_how_much_of_a_command_is_kept() {
    for (policy, full) in [(ArgvPolicy::Full, true), (ArgvPolicy::Off, false)] {
        let (_folder, path) = place();
        let server = recorded(&path, |options| options.audit.argv = policy).await;
        let missing = Command::command(["/no/such/secret", "a\nb"]).stdout(true);
        let process = server.start(HOST, None, missing).await;
        let Outcome::Failed(_) = soon("the end", process.output()).await.outcome else { panic!("it ran") };
        let lines = some(&path, 3).await;
        assert_eq!(
            lines[1].get("argv"),
            full.then(|| serde_json::json!(["/no/such/secret", "a\nb"])).as_ref()
        );
        assert_eq!(lines[2]["outcome"], "failed");
        assert_eq!(std::fs::read_to_string(&path).unwrap().contains("secret"), full);
    }
}

#[tokio::test]
async fn refusals_are_recorded_with_what_is_known_of_the_caller() {
    let (_folder, path) = place();
    let server = recorded(&path, |options| options.limits.sessions = Some(1)).await;
    let path_of = format!("{HOST}?command=secret&stdout=true");
    let upgrade = |request: http::request::Builder| {
        request
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", "v4.channel.k8s.io")
    };
    let stranger = http::Request::builder()
        .method(Method::POST)
        .uri(&path_of)
        .header("host", server.address.to_string());
    server.answer(upgrade(stranger)).await.failure(401, "Unauthorized");
    let running = server.start(HOST, None, sh("read line").stdin(true)).await;
    server.answer(upgrade(server.request(Method::POST, &path_of))).await.failure(429, "TooManyRequests");
    server.get(HOST).await.failure(400, "BadRequest");
    // What runs nothing leaves no line.
    server.get("/api/v1/namespaces/default/pods/none").await.failure(404, "NotFound");
    let lines = some(&path, 5).await;
    let shown: Vec<_> = lines[1..]
        .iter()
        .map(|line| {
            (
                line["event"].as_str().unwrap(),
                line["code"].as_u64(),
                line["reason"].as_str(),
                line["user"].as_str(),
            )
        })
        .collect();
    let token = Some("token-1");
    assert_eq!(
        shown,
        [
            ("refused", Some(401), Some("Unauthorized"), None),
            ("start", None, None, token),
            ("refused", Some(429), Some("TooManyRequests"), token),
            ("refused", Some(400), Some("BadRequest"), token),
        ]
    );
    assert_eq!((&lines[1]["kind"], &lines[1]["path"]), (&"exec".into(), &HOST.into()));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("secret"));
    drop(running);
}

/// Strangers make no log as long as they like, and what was left out is told.
#[tokio::test]
async fn a_flood_of_refusals_is_cut_short_and_counted() {
    let (_folder, path) = place();
    let server = recorded(&path, |_| {}).await;
    let send = |_| async {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(HOST)
            .header("host", server.address.to_string());
        server.answer(request).await.failure(401, "Unauthorized");
    };
    for round in 0..40 {
        futures_util::future::join_all((0..10).map(|n| send((round, n)))).await;
    }
    let refused = some(&path, 201).await.len() - 1;
    assert!((200..400).contains(&refused), "{refused}");
    soon("a line again", async {
        while !lines(&path).iter().any(|line| line["left_out"].as_u64().is_some_and(|left_out| left_out > 10))
        {
            send((0, 0)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A record that cannot be written: there is a directory where the full file has to go.
#[tokio::test]
async fn without_a_record_nothing_starts_unless_told_otherwise() {
    for (fail, starts) in [(OnFailure::Closed, false), (OnFailure::Open, true)] {
        let (folder, path) = place();
        // Room for the first line and no other.
        std::fs::write(&path, [&[b' '; 1799][..], b"\n"].concat()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let in_the_way = folder.path().join("audit.log.1");
        std::fs::create_dir(&in_the_way).unwrap();
        let server = recorded(&path, |options| {
            let audit = &mut options.audit;
            (audit.fail, audit.max_size, audit.keep) = (Some(fail), 2000, 1);
        })
        .await;
        let trace = folder.path().join("ran");
        let command = Command::command(["touch", trace.to_str().unwrap()]).stdout(true);
        if starts {
            let process = server.start(HOST, None, command).await;
            assert_eq!(soon("the end", process.output()).await.outcome, Outcome::Exited(ExitCode(0)));
        } else {
            let path = format!("{HOST}?command=touch&command={}&stdout=true", trace.display());
            let request = server
                .request(Method::POST, &path)
                .header("connection", "Upgrade")
                .header("upgrade", "SPDY/3.1")
                .header("x-stream-protocol-version", "v4.channel.k8s.io");
            let message = server.answer(request).await.failure(503, "ServiceUnavailable");
            assert!(message.contains("cannot write its audit log"), "{message}");
            assert!(server.api.sessions().list().is_empty());
        }
        assert_eq!(trace.exists(), starts);
        if starts {
            soon("two lost lines", async {
                while !server.api.metrics().contains("\nwsstream_audit_lines_lost_total 2\n") {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
        // When it can be written again all goes on, and the record says what is missing.
        std::fs::remove_dir(&in_the_way).unwrap();
        let process = server.start(HOST, None, sh("exit 0")).await;
        assert_eq!(soon("the end", process.output()).await.outcome, Outcome::Exited(ExitCode(0)));
        let lines = soon("the end of a session", async {
            loop {
                let mut lines = lines(&path);
                // Of the refusal, which may have been lost.
                lines.retain(|line| starts || line["event"] != "refused" && line["event"] != "lost");
                if lines.last().is_some_and(|line| line["event"] == "end") {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(events, if starts { vec!["lost", "start", "end"] } else { vec!["start", "end"] });
        // One of the two may have been told of in what room there was.
        let all = std::fs::read_to_string(&in_the_way).unwrap() + &lines[0].to_string();
        let lost: u64 = all
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok()?["lines"].as_u64())
            .sum();
        assert!(if starts { lost == 2 } else { lost <= 1 }, "{all}");
    }
}

/// It sends its Close, and hangs up or not, while the command runs on: the record said that it was told the exit code.
#[tokio::test]
async fn a_client_that_closed_early_was_recorded_as_told() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (_folder, path) = place();
    let server = recorded(&path, |_| {}).await;
    for (number, stays, outcome) in [(1, false, "lost"), (2, true, "exited")] {
        let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let script = "trap%20%22%22%20TERM%20HUP;sleep%200.5;exit%203";
        let request = format!(
            "GET {HOST}?command=sh&command=-c&command={script}&stdout=true HTTP/1.1\r\nHost: {}\r\n\
             Authorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
            server.address, server.token
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        // The answer and the first message, which is empty.
        while !seen.ends_with(&[0x82, 1, 1]) {
            seen.push(soon("the start", socket.read_u8()).await.unwrap());
        }
        // Close 1000, with a mask of zeros.
        socket.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
        if stays {
            let mut rest = Vec::new();
            soon("the end", socket.read_to_end(&mut rest)).await.unwrap();
            assert!(String::from_utf8_lossy(&rest).contains("exit code 3"), "{rest:?}");
        }
        drop(socket);
        let lines = some(&path, 1 + 2 * number).await;
        let end = &lines[2 * number];
        assert_eq!((&end["outcome"], &end["exit_code"]), (&outcome.into(), &3.into()), "{end}");
        assert_eq!(end["reason"], "client_closed", "{end}");
    }
}
