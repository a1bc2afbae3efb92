//! What is counted, from real sessions, and that the page about it and the code say the same.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use bytes::Bytes;
use http::Method;
use server_support::{Answer, Running, host_pod, send_over, soon};
use std::{collections::BTreeMap, time::Duration};
use tokio::net::TcpStream;
use wsstream::remotecommand::{ExitCode, Outcome, Request as Command};
use wsstream_server::{Pods, Server, ServerOptions, TlsSource};
use wsstream_testing::http::Upgrade;

const HOST: &str = "/api/v1/namespaces/default/pods/host/exec";

async fn limited() -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::with(pods, |options| {
        options.tls = TlsSource::Insecure;
        options.limits.sessions = Some(1);
    })
    .await
}

/// Waits for a line.
async fn counted(server: &Running, line: &str) {
    soon(line, async {
        while !server.api.metrics().lines().any(|other| other == line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn sessions_are_counted_by_how_they_ended_and_bytes_while_they_run() {
    let server = limited().await;
    let command = Command::command(["sh", "-c", "read line; echo out; read line; exit 3"]);
    let mut process = server.start(HOST, None, command.stdin(true).stdout(true)).await;
    let mut stdin = process.stdin.take().unwrap();
    let waiting = tokio::spawn(process.wait());
    stdin.send(Bytes::from_static(b"line\n")).await.unwrap();
    counted(&server, "wsstream_sessions_running{kind=\"exec\"} 1").await;
    counted(&server, "wsstream_session_bytes_total{kind=\"exec\",channel=\"in\"} 5").await;
    counted(&server, "wsstream_session_bytes_total{kind=\"exec\",channel=\"out\"} 4").await;
    // One too many.
    let request = server
        .request(Method::POST, &format!("{HOST}?command=true&stdout=true"))
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", "v4.channel.k8s.io");
    server.answer(request).await.failure(429, "TooManyRequests");
    counted(&server, "wsstream_sessions_refused_total{reason=\"too_many_requests\"} 1").await;
    counted(&server, "wsstream_sessions_over_limit_total{limit=\"max-sessions\"} 1").await;
    stdin.send(Bytes::from_static(b"line\n")).await.unwrap();
    assert_eq!(soon("the end", waiting).await.unwrap(), Outcome::Exited(ExitCode(3)));
    let ended = "wsstream_sessions_total{kind=\"exec\",protocol=\"websocket v5.channel.k8s.io\",outcome=\"exited\"} 1";
    counted(&server, ended).await;
    counted(&server, "wsstream_sessions_running{kind=\"exec\"} 0").await;
    counted(&server, "wsstream_session_bytes_total{kind=\"exec\",channel=\"in\"} 10").await;
    counted(&server, "wsstream_session_first_byte_seconds_count{kind=\"exec\"} 1").await;
    counted(&server, "wsstream_session_duration_seconds_count{kind=\"exec\"} 1").await;

    // And one whose client vanishes.
    let upgrade = Upgrade::get(&format!("{HOST}?command=sleep&command=1000&stdout=true"))
        .subprotocol("v4.channel.k8s.io")
        .header("Authorization", &format!("Bearer {}", server.token));
    let answer = upgrade.send(TcpStream::connect(server.address).await.unwrap()).await;
    counted(&server, "wsstream_sessions_running{kind=\"exec\"} 1").await;
    drop(answer);
    // By a FIN or a reset, whichever the kernel makes of it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    println!("{}", server.api.metrics());
    soon("a loss", async {
        let line = |text: &str, reason| {
            text.contains(&format!("\nwsstream_sessions_lost_total{{reason=\"{reason}\"}} 1\n"))
        };
        while !["eof", "io"].iter().any(|reason| line(&server.api.metrics(), reason)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_metrics_are_read_behind_authentication() {
    let server = limited().await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], wsstream_server::metrics::CONTENT_TYPE);
    assert!(answer.text().ends_with("# EOF\n") && answer.text().contains("wsstream_build_info{version="));
    let stranger = http::Request::builder().uri("/metrics").header("host", server.address.to_string());
    server.answer(stranger).await.failure(401, "Unauthorized");
}

#[tokio::test]
async fn a_listener_of_their_own_serves_the_metrics_and_nothing_else_on_loopback() {
    let options = |listen: &str| {
        let pods = Pods::new();
        pods.add(host_pod("host")).unwrap();
        let mut options = ServerOptions::new(pods);
        options.listen = vec!["127.0.0.1:0".parse().unwrap()];
        options.metrics_listen = Some(listen.parse().unwrap());
        options
    };
    let refused = Server::bind(options("0.0.0.0:0")).await.unwrap_err().to_string();
    assert!(refused.contains("refusing to serve metrics on 0.0.0.0:0"), "{refused}");
    let bound = Server::bind(options("127.0.0.1:0")).await.unwrap();
    let address = bound.metrics_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(bound.run(async { stopped.await.unwrap_or_default() }));
    for (path, code) in [("/metrics", 200), ("/api/v1/pods", 404)] {
        let request = http::Request::builder().uri(path).header("host", address.to_string());
        let io = TcpStream::connect(address).await.unwrap();
        let answer = Answer::of(send_over(io, request).await).await;
        assert_eq!(answer.status.as_u16(), code);
        assert_eq!(answer.text().contains("wsstream_sessions_running"), code == 200);
    }
    drop(stop);
    soon("the end", running).await.unwrap();
}

/// Name and type of every metric: those that the code knows, and those that the page lists.
#[tokio::test]
async fn the_page_and_the_code_have_the_same_metrics() {
    let server = limited().await;
    let text = server.api.metrics();
    let mut known = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        known.insert(format!("{name}{suffix}"), kind.to_owned());
    }
    assert!(known.len() > 12, "{known:?}");
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).unwrap();
    let mut listed = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `wsstream_")) {
        let cells: Vec<_> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        assert!(cells.len() == 4 && !cells[3].is_empty(), "{line}");
        listed.insert(cells[0].clone(), cells[1].clone());
    }
    assert_eq!(listed, known);
}
