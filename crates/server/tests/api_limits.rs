//! What a server over one of its limits answers, and that what runs is not disturbed by it: over real sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use bytes::Bytes;
use http::Method;
use server_support::{Running, host_pod, soon};
use std::time::{Duration, Instant};
use wsstream::remotecommand::{ExitCode, Outcome, Request as Command};
use wsstream_server::{
    Limits, Pods, TlsSource,
    target::{ProcessSpec, ProcessTarget},
};

const POD: &str = "/api/v1/namespaces/default/pods/host";
const HOST: &str = "/api/v1/namespaces/default/pods/host/exec";

async fn limited(change: impl FnOnce(&mut Limits)) -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::with(pods, |options| {
        options.tls = TlsSource::Insecure;
        change(&mut options.limits);
    })
    .await
}

fn sh(script: &str) -> Command {
    Command::command(["sh", "-c", script]).stdout(true).stderr(true)
}

fn websocket(server: &Running, path: &str) -> http::request::Builder {
    server
        .request(Method::GET, path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v4.channel.k8s.io")
}

fn spdy(server: &Running, path: &str) -> http::request::Builder {
    let protocol = if path.contains("portforward") { "portforward.k8s.io" } else { "v4.channel.k8s.io" };
    server
        .request(Method::POST, path)
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", protocol)
}

#[tokio::test]
async fn over_the_limit_is_429_on_every_wire_and_nothing_runs() {
    let server = limited(|limits| limits.sessions = Some(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("ran");
    let first = server.start(HOST, None, sh("read line; exit 4").stdin(true)).await;
    let touch = format!("{HOST}?command=touch&command={}&stdout=true", trace.display());
    for path in [touch.as_str(), &format!("{POD}/attach?stdout=true"), &format!("{POD}/portforward?ports=80")]
    {
        for request in [websocket(&server, path), spdy(&server, path)] {
            let answer = server.answer(request).await;
            let message = answer.failure(429, "TooManyRequests");
            assert_eq!(message, "too many sessions: the server's limit max-sessions is 1", "{path}");
            assert_eq!(answer.headers["retry-after"], "5");
            assert_eq!(answer.json()["details"]["retryAfterSeconds"], 5);
        }
    }
    // Other requests are answered, and the session goes on.
    assert_eq!(server.get(POD).await.status, 200);
    let all = soon("the end", first.output_with(Bytes::from_static(b"x\n"))).await;
    assert_eq!(all.outcome, Outcome::Exited(ExitCode(4)));
    assert!(!trace.exists());
    // And its place is free again.
    soon("a free place", async {
        while server.api.sessions().running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let process = server.start(HOST, None, sh("exit 0")).await;
    assert_eq!(soon("the end", process.output()).await.outcome, Outcome::Exited(ExitCode(0)));
}

/// They were under no limit: a user with one token could hold every connection with watches.
#[tokio::test]
async fn watches_and_logs_are_under_a_limit_and_give_their_places_back() {
    let server = limited(|limits| limits.streams = Some(1)).await;
    let watch = server.send(server.request(Method::GET, "/api/v1/pods?watch=true")).await;
    assert_eq!(watch.status(), 200);
    let refused = server.get("/api/v1/pods?watch=true").await;
    let message = refused.failure(429, "TooManyRequests");
    assert_eq!(message, "too many watches and logs: the server's limit max-streams is 1");
    assert_eq!(refused.headers["retry-after"], "5");
    // All else is answered.
    assert_eq!(server.get("/api/v1/pods").await.status, 200);
    let process = server.start(HOST, None, sh("exit 3")).await;
    assert_eq!(soon("the end", process.output()).await.outcome, Outcome::Exited(ExitCode(3)));
    drop(watch);
    soon("a free place", async {
        while server.get("/api/v1/pods?watch=true&timeoutSeconds=1").await.status != 200 {}
    })
    .await;
}

/// A request that is wrong is told so, and takes no token of those that are right.
#[tokio::test]
async fn a_rate_counts_only_what_would_have_run() {
    let server = limited(|limits| limits.session_rate = Some("1/m".parse().unwrap())).await;
    for _ in 0..3 {
        server.answer(websocket(&server, HOST)).await.failure(400, "BadRequest");
    }
    let process = server.start(HOST, None, sh("exit 0")).await;
    assert_eq!(soon("the end", process.output()).await.outcome, Outcome::Exited(ExitCode(0)));
    let answer = server.answer(websocket(&server, &format!("{HOST}?command=true&stdout=true"))).await;
    let message = answer.failure(429, "TooManyRequests");
    assert_eq!(message, "too many new sessions: the server's limit session-rate is 1/m");
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((50..=60).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_session_has_its_bandwidth_both_ways_and_loses_nothing() {
    const RATE: usize = 1 << 20;
    const BYTES: usize = 3 << 19;
    let server = limited(|limits| limits.session_bandwidth = Some(RATE)).await;
    let at_least = Duration::from_millis(1000);
    let began = Instant::now();
    let process = server.start(HOST, None, sh(&format!("head -c {BYTES} /dev/zero"))).await;
    let all = soon("the output", process.output()).await;
    assert_eq!((all.stdout.len(), all.outcome), (BYTES, Outcome::Exited(ExitCode(0))));
    assert!(began.elapsed() > at_least, "{:?} for output", began.elapsed());

    let began = Instant::now();
    let process = server.start(HOST, None, sh("wc -c").stdin(true)).await;
    let all = soon("the input", process.output_with(Bytes::from(vec![0; BYTES]))).await;
    assert_eq!(String::from_utf8_lossy(&all.stdout).trim(), BYTES.to_string());
    assert!(began.elapsed() > at_least, "{:?} for input", began.elapsed());
}

/// The table in SECURITY.md has every limit with its default, and no other.
#[test]
fn the_table_of_limits_says_what_holds() {
    let limits = Limits::default();
    let time = |time: Duration| match time.as_secs() {
        _ if time.subsec_nanos() > 0 => format!("{} ms", time.as_millis()),
        hours if hours >= 3600 && hours % 3600 == 0 => format!("{} h", hours / 3600),
        seconds => format!("{seconds} s"),
    };
    let size = |bytes: u64| match bytes {
        bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    };
    let or_off = |value: Option<String>| value.unwrap_or_else(|| "off".to_owned());
    let count = |value: Option<usize>| or_off(value.map(|value| value.to_string()));
    // All of them, by name: a new one does not compile until it is here.
    let Limits {
        connections,
        connections_per_address,
        sessions,
        sessions_per_user,
        sessions_per_target,
        streams,
        streams_per_user,
        session_rate,
        session_rate_per_user,
        session_bandwidth,
        session_duration,
        max_message,
        receive_buffer,
        shared_buffer,
        tls_handshake,
        header_read,
        header_bytes,
        ping_interval,
        dead_peer,
        idle,
        drain,
        end_grace,
        farewell,
        ..
    } = limits.clone();
    assert_eq!((sessions, streams, connections_per_address), (None, None, None));
    let expected = [
        ("--max-connections", connections.to_string()),
        ("--max-connections-per-address", limits.connections_per_address().to_string()),
        ("--max-sessions", limits.sessions().to_string()),
        ("--max-sessions-per-user", count(sessions_per_user)),
        ("--max-sessions-per-target", count(sessions_per_target)),
        ("--max-streams", limits.streams().to_string()),
        ("--max-streams-per-user", count(streams_per_user)),
        ("--session-rate", or_off(session_rate.map(|rate| rate.to_string()))),
        ("--session-rate-per-user", or_off(session_rate_per_user.map(|rate| rate.to_string()))),
        ("--session-bandwidth", count(session_bandwidth)),
        ("--session-duration", or_off(session_duration.map(time))),
        ("--idle-timeout", or_off(idle.map(time))),
        ("--max-message", size(max_message)),
        ("--receive-buffer", size(receive_buffer as u64)),
        ("--shared-buffer", size(shared_buffer as u64)),
        ("--max-request-head", size(header_bytes as u64)),
        ("--request-head-timeout", time(header_read)),
        ("twice that", format!("{}, one answer", time(header_read * 2))),
        ("--tls-handshake-timeout", time(tls_handshake)),
        ("--ping-interval", or_off(ping_interval.map(time))),
        ("--dead-peer-timeout", or_off(dead_peer.map(time))),
        ("--shutdown-grace", time(drain)),
        ("end grace", time(end_grace)),
        ("farewell", time(farewell)),
    ];
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../SECURITY.md")).unwrap();
    let section = page.split("## Limits").nth(1).expect("a section Limits").split("\n## ").next().unwrap();
    let mut shown: Vec<(String, String)> = Vec::new();
    for line in section.lines().filter(|line| line.starts_with('|')).skip(2) {
        let cells: Vec<_> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        shown.push((cells[1].clone(), cells[2].clone()));
    }
    let expected: Vec<_> = expected.map(|(flag, value)| (flag.to_owned(), value)).into();
    assert_eq!(shown, expected);
}

/// HTTP has no clock for it: a log, or a watch, whose client reads nothing held its place among the few for ever.
#[tokio::test]
async fn an_answer_that_nobody_reads_held_its_place_for_ever() {
    use tokio::io::AsyncWriteExt as _;
    // More than the kernel takes for a client that does not read.
    const SIZE: usize = 16_000_000;
    let lines = format!("head -c {SIZE} /dev/zero | tr '\\0' x | fold -w 1000; sleep 100");
    let command: Vec<String> = ["sh", "-c", &lines].map(String::from).into();
    let mut spec = ProcessSpec::new("web", "web", command);
    spec.history = 2 * SIZE;
    let container = wsstream_server::Container::new("web", std::sync::Arc::new(ProcessTarget::start(spec)));
    let pods = Pods::new();
    pods.add(wsstream_server::Pod::new("web").container(container)).unwrap();
    let server = Running::with(pods, |options| {
        options.tls = TlsSource::Insecure;
        options.limits.streams = Some(1);
        options.limits.idle = Some(Duration::from_secs(1));
        options.limits.header_read = Duration::from_millis(200);
    })
    .await;
    let log = "/api/v1/namespaces/default/pods/web/log";
    soon("the whole log", async {
        while server.get(log).await.body.len() < SIZE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let small = tokio::net::TcpSocket::new_v4().unwrap();
    small.set_recv_buffer_size(4096).unwrap();
    let mut unread = small.connect(server.address).await.unwrap();
    let head = format!("Host: {}\r\nAuthorization: Bearer {}", server.address, server.token);
    unread.write_all(format!("GET {log} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
    soon("its place is taken", async {
        while server.get(log).await.status != 429 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    soon("its place is free", async {
        while server.get(log).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    drop(unread);
}
