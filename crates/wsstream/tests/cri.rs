//! The streaming server of a container runtime: its URLs, their one use, the answers, and sessions over every wire.

#![cfg(all(feature = "client", feature = "cri"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod common;
#[path = "common/cri.rs"]
mod cri;
#[path = "common/shell.rs"]
mod shell;

use std::time::Duration;

use common::{soon, until};
use cri::{Containers, Running, exec_of, path_of, start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wsstream::cri::{AttachRequest, Config, Error, ExecRequest, PortForwardRequest, Server};
use wsstream::http::{Method, Request as HttpRequest};
use wsstream::portforward::client as forward;
use wsstream::proto::subprotocol::{Encoding, REMOTECOMMAND, SPDY_REMOTECOMMAND};
use wsstream::remotecommand::client::{attach, exec};
use wsstream::remotecommand::{ExitCode, Outcome, Request};
use wsstream_testing::Message;
use wsstream_testing::http::Upgrade;

/// The server test of upstream: stderr on 2, stdin on 0, stdout on 1; then the URL is worth nothing.
#[tokio::test]
async fn exec_over_v4_channels_and_the_url_is_good_once() {
    let running = Running::start(|_| {}).await;
    let asked = ExecRequest { stdin: true, stderr: true, ..exec_of(&["streams"]) };
    let url = running.server.get_exec(asked).unwrap();
    let upgrade = Upgrade::get(path_of(&url)).subprotocol("v4.channel.k8s.io");
    let mut peer = upgrade.send(running.connect().await).await.into_peer().await;
    peer.expect_binary(b"\x01").await;
    peer.expect_binary(b"\x02err").await;
    peer.send_binary(b"\0").await;
    peer.send_binary(b"\0in").await;
    peer.expect_binary(b"\x01in").await;
    peer.expect_binary(b"\x03{\"metadata\":{},\"status\":\"Success\"}").await;
    peer.expect_close(1000).await;

    let answer = upgrade.send(running.connect().await).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (404, Some("text/plain; charset=utf-8"))
    );
    assert_eq!(answer.body().await, b"404 page not found\n");
    assert_eq!(running.server.runtime().ids(), ["c1"]);
}

#[tokio::test]
async fn every_version_runs_commands_over_websocket_and_spdy() {
    let running = Running::start(|_| {}).await;
    let wires =
        REMOTECOMMAND.iter().map(|row| (row, false)).chain(SPDY_REMOTECOMMAND.iter().map(|row| (row, true)));
    let mut sessions = 0;
    for (protocol, spdy) in wires {
        for code in [0, 7] {
            let url = running.server.get_exec(exec_of(&["exit", &code.to_string()])).unwrap();
            let offer = exec(Request::command(["ignored"]).stdout(true));
            let process =
                start(&url, offer.protocols([protocol.clone()]).spdy_protocols([protocol.clone()]), spdy);
            let process = process.await.unwrap();
            assert_eq!((process.subprotocol(), process.is_spdy()), (protocol, spdy));
            let outcome = soon(process.wait()).await;
            match (protocol.json_status(), code) {
                (true, code) => assert_eq!(outcome, Outcome::Exited(ExitCode(code)), "{protocol:?}"),
                (false, 0) => assert_eq!(outcome, Outcome::Ended, "{protocol:?}"),
                (false, _) => assert!(matches!(outcome, Outcome::Failed(_)), "{protocol:?}: {outcome:?}"),
            }
            sessions += 1;
        }
    }
    assert_eq!(running.server.runtime().ids().len(), sessions);
    until(|| running.server.sessions() == 0).await;
}

/// Over v5 and SPDY the client says where its input ends.
#[tokio::test]
async fn attach_echoes_to_the_end_of_the_input() {
    let running = Running::start(|_| {}).await;
    for spdy in [false, true] {
        let asked = AttachRequest {
            container_id: "c2".into(),
            stdin: true,
            stdout: true,
            ..AttachRequest::default()
        };
        let url = running.server.get_attach(asked).unwrap();
        let process = start(&url, attach(Request::default().stdin(true).stdout(true)), spdy).await.unwrap();
        let done = soon(process.output_with("to and fro".into())).await;
        assert_eq!((&done.stdout[..], done.outcome), (&b"to and fro"[..], Outcome::Exited(ExitCode(0))));
    }
    assert_eq!(running.server.runtime().ids(), ["c2", "c2"]);
}

/// Who has the URL can run what was asked for, and nothing else.
#[tokio::test]
async fn what_counts_was_asked_for_and_not_what_the_url_says() {
    let running = Running::start(|_| {}).await;
    let url = running.server.get_exec(exec_of(&["exit", "3"])).unwrap();
    let target = format!("{}?command=exit&command=4&stdin=true&input=1&tty=1", path_of(&url));
    let upgrade = Upgrade::get(&target).subprotocol("v5.channel.k8s.io");
    let mut peer = upgrade.send(running.connect().await).await.into_peer().await;
    peer.expect_binary(b"\x01").await;
    let Message::Binary(status) = peer.next_message().await else { panic!("no status") };
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains(r#"{"reason":"ExitCode","message":"3"}"#), "{status}");
    peer.expect_close(1000).await;

    let ports = PortForwardRequest { pod_sandbox_id: "p".into(), port: vec![] };
    let url = running.server.get_port_forward(ports).unwrap();
    let upgrade = Upgrade::get(&format!("{}?port=80", path_of(&url))).subprotocol("v4.channel.k8s.io");
    let answer = upgrade.send(running.connect().await).await;
    assert_eq!(answer.status, 400);
    let body = String::from_utf8(answer.body().await).unwrap();
    assert!(body.contains("channels need at least one port"), "{body}");
}

/// The server test of upstream: the port on both channels, least significant byte first, then data.
#[tokio::test]
async fn ports_over_v4_channels_are_those_that_were_asked_for() {
    let running = Running::start(|_| {}).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = PortForwardRequest { pod_sandbox_id: "p1".into(), port: vec![i32::from(port)] };
    let url = running.server.get_port_forward(asked).unwrap();
    let upgrade = Upgrade::get(path_of(&url)).subprotocol("v4.channel.k8s.io");
    let mut peer = upgrade.send(running.connect().await).await.into_peer().await;
    let [low, high] = port.to_le_bytes();
    peer.expect_binary(&[0, low, high]).await;
    peer.expect_binary(&[1, low, high]).await;
    peer.send_binary(b"\0ping").await;
    let (mut socket, _) = soon(listener.accept()).await.unwrap();
    let mut ping = [0; 4];
    soon(socket.read_exact(&mut ping)).await.unwrap();
    assert_eq!(&ping, b"ping");
    socket.write_all(b"pong").await.unwrap();
    peer.expect_binary(b"\0pong").await;
    drop(socket);
    peer.expect_close(1000).await;
    assert_eq!(running.server.runtime().ids(), ["p1"]);
}

/// What nobody reads has one ceiling for all SPDY sessions, unless somebody gives them others.
#[tokio::test]
async fn commands_and_ports_share_a_finite_budget() {
    let mut budget = None;
    let running = Running::start(|config| budget = Some(config.forward.spdy.shared.clone())).await;
    let budget = budget.unwrap();
    assert_eq!(budget.available(), wsstream::limits::SHARED_BUFFER);
    let asked = ExecRequest { stdin: true, stderr: true, ..exec_of(&["streams"]) };
    let url = running.server.get_exec(asked).unwrap();
    let command = exec(Request::command(["x"]).stdin(true).stdout(true));
    let mut process = start(&url, command, true).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let flooding = async { while stdin.write_all(&[7; 32 << 10]).await.is_ok() {} };
    let taken = async {
        while budget.available() == wsstream::limits::SHARED_BUFFER {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(async {
        tokio::select! {
            () = taken => {}
            () = flooding => panic!("the session has ended"),
            outcome = process.wait() => panic!("the session has ended: {outcome:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn ports_over_every_wire() {
    let running = Running::start(|_| {}).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for attempt in [
        forward::tunnel(),
        forward::spdy(),
        forward::channels([port], Encoding::Binary),
        forward::channels([port], Encoding::Base64),
    ] {
        let asked = PortForwardRequest { pod_sandbox_id: "p2".into(), port: vec![i32::from(port)] };
        let url = running.server.get_port_forward(asked).unwrap();
        let request = attempt.request(&url.parse().unwrap()).unwrap();
        let (session, driver) = soon(attempt.connect(running.connect().await, request)).await.unwrap();
        let driver = tokio::spawn(driver);
        let mut stream = soon(session.connect(port)).await.unwrap().stream;
        let (mut socket, _) = soon(listener.accept()).await.unwrap();
        socket.write_all(b"hello").await.unwrap();
        drop(socket);
        let mut all = Vec::new();
        soon(stream.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all, b"hello", "{:?}", attempt.wire());
        drop(stream);
        session.shutdown();
        assert!(soon(driver).await.unwrap().is_orderly());
    }
}

#[tokio::test]
async fn answers_to_what_is_not_served() {
    let running = Running::start(|_| {}).await;
    let get = |target: &str| Upgrade::get(target).subprotocol("v4.channel.k8s.io");
    for path in
        ["/", "/exec", "/exec/", "/exec/AAAAAAAA", "/attach/AAAAAAAA", "/portforward/A/B", "/logs/AAAAAAAA"]
    {
        assert_eq!(get(path).send(running.connect().await).await.status, 404, "{path}");
    }
    let grant = || path_of(&running.server.get_exec(exec_of(&["exit", "0"])).unwrap()).to_owned();

    // On another route it is as good as unknown, and is used up.
    let path = grant();
    for path in [path.replace("exec", "attach"), path] {
        assert_eq!(get(&path).send(running.connect().await).await.status, 404, "{path}");
    }
    // Another method is no use of it.
    let path = grant();
    for method in ["PUT", "DELETE", "HEAD", "OPTIONS"] {
        let answer = get(&path).method(method).send(running.connect().await).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET, POST")), "{method}");
    }
    assert_eq!(get(&path).send(running.connect().await).await.status, 101);
    // A request that is no upgrade, or one to what is not served, uses it up.
    let plain = get("/").without("Upgrade").without("Connection");
    let foreign = Upgrade::get("/").subprotocol("v9.channel.k8s.io");
    let spdy = plain.clone().method("POST").header("Connection", "Upgrade").header("Upgrade", "SPDY/3.1");
    let foreign_spdy = spdy.clone().header("X-Stream-Protocol-Version", "v9.channel.k8s.io");
    for (upgrade, status) in [(plain, 400), (foreign, 403), (spdy, 400), (foreign_spdy, 403)] {
        let path = grant();
        let upgrade = upgrade.target(&path);
        let answer = upgrade.send(running.connect().await).await;
        assert_eq!(answer.status, status, "{}", answer.head);
        assert_eq!(get(&path).send(running.connect().await).await.status, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn a_url_expires() {
    let server = Server::new(Config::new("http://localhost/cri/").unwrap(), Containers::default());
    let ask = |url: &str, method: Method| {
        let mut request = HttpRequest::builder().method(method).uri(url).body(()).unwrap();
        server.respond(&mut request).status().as_u16()
    };
    let [in_time, late, other] = [(); 3].map(|()| server.get_exec(exec_of(&["exit", "0"])).unwrap());
    assert!(in_time.starts_with("http://localhost/cri/exec/"), "{in_time}");
    tokio::time::advance(Duration::from_secs(60)).await;
    // It is no upgrade; what counts is that the token was good.
    assert_eq!(ask(&in_time, Method::GET), 400);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!((ask(&late, Method::GET), ask(&other, Method::PUT)), (404, 405));
    assert_eq!(ask(&other.replace("/cri/", "/"), Method::GET), 404);
}

#[tokio::test]
async fn no_more_urls_than_allowed_are_under_way() {
    let running = Running::start(|config| {
        config.max_tokens = 2;
        config.token_ttl = Duration::from_secs(90);
    })
    .await;
    let grant = || running.server.get_exec(exec_of(&["exit", "0"]));
    let (first, _second) = (grant().unwrap(), grant().unwrap());
    let error = grant().unwrap_err();
    assert_eq!(error, Error::ResourceExhausted { retry_after: Duration::from_secs(90) });
    assert_eq!(error.into_response().headers()["retry-after"], "90");
    // What was given out is still good, and makes room when it is used.
    assert!(start(&first, exec(Request::command(["x"]).stdout(true)), false).await.is_ok());
    grant().unwrap();
    // Nonsense takes no room.
    assert_eq!(running.server.get_exec(ExecRequest::default()).unwrap_err().grpc_code(), 3);
    assert_eq!(Error::InvalidArgument("x").into_response().status(), 500);
}

#[tokio::test]
async fn a_panic_of_the_runtime_ends_one_session() {
    let running = Running::start(|_| {}).await;
    let command = exec(Request::command(["x"]).stdout(true));
    for (words, expected) in [(&["panic"][..], None), (&["exit", "5"], Some(ExitCode(5)))] {
        let url = running.server.get_exec(exec_of(words)).unwrap();
        let outcome = soon(start(&url, command.clone(), false).await.unwrap().wait()).await;
        match expected {
            Some(code) => assert_eq!(outcome, Outcome::Exited(code)),
            None => assert!(shell::message(&outcome).contains("the server failed"), "{outcome:?}"),
        }
    }
}

/// Upstream's server leaves its sessions running when it stops.
#[tokio::test]
async fn a_server_that_ends_waits_for_its_sessions_and_then_ends_them() {
    let running = Running::start(|_| {}).await;
    let begin = async || {
        let asked =
            AttachRequest { container_id: "c".into(), stdin: true, stdout: true, ..AttachRequest::default() };
        let url = running.server.get_attach(asked).unwrap();
        start(&url, attach(Request::default().stdin(true).stdout(true)), false).await.unwrap()
    };
    let (mut ends, stays) = (begin().await, begin().await);
    let unused = running.server.get_exec(exec_of(&["exit", "0"])).unwrap();
    let stdin = ends.stdin.take();
    let (ends, stays) = (tokio::spawn(ends.wait()), tokio::spawn(stays.wait()));
    let server = running.server.clone();
    let drain = tokio::spawn(async move { server.drain(Duration::from_secs(1)).await });
    until(|| running.server.get_exec(exec_of(&["x"])) == Err(Error::Unavailable)).await;
    assert_eq!(Error::Unavailable.grpc_code(), 14);
    let refused =
        Upgrade::get(path_of(&unused)).subprotocol("v5.channel.k8s.io").send(running.connect().await).await;
    assert_eq!(refused.status, 503);
    stdin.unwrap().close().unwrap();
    assert_eq!(soon(ends).await.unwrap(), Outcome::Exited(ExitCode(0)));
    let drained = soon(drain).await.unwrap();
    assert_eq!((drained.ended, drained.cut), (1, 0));
    // No loss: over SPDY before v4 a cut would look like a success.
    let outcome = soon(stays).await.unwrap();
    assert_eq!(shell::message(&outcome), "the streaming server is shutting down");
    assert_eq!((running.server.sessions(), running.server.drain(Duration::ZERO).await.ended), (0, 0));
}

#[tokio::test]
async fn sessions_end_with_the_last_handle_of_their_server() {
    let running = Running::start(|_| {}).await;
    let asked =
        AttachRequest { container_id: "c".into(), stdin: true, stdout: true, ..AttachRequest::default() };
    let url = running.server.get_attach(asked).unwrap();
    let process = start(&url, attach(Request::default().stdin(true).stdout(true)), true).await.unwrap();
    let runtime = running.server.runtime().clone();
    drop(running);
    assert!(matches!(soon(process.wait()).await, Outcome::Lost(_)));
    until(|| runtime.running() == 0).await;
}

/// The same server as a tower service.
#[tokio::test]
async fn axum_takes_it_as_a_fallback() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config::listening_on(listener.local_addr().unwrap()).unwrap();
    let server = Server::new(config, Containers::default());
    let router = axum::Router::new().fallback_service(server.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let url = server.get_exec(exec_of(&["exit", "6"])).unwrap();
    let process = start(&url, exec(Request::command(["x"]).stdout(true)), true).await.unwrap();
    assert_eq!(soon(process.wait()).await, Outcome::Exited(ExitCode(6)));
}

/// A command's words are not for a log, nor is the token that runs it.
#[tokio::test]
async fn the_log_names_the_container_and_no_secret() {
    let (log, _guard) = common::Log::capture();
    let running = Running::start(|_| {}).await;
    let url = running.server.get_exec(exec_of(&["exit", "0"])).unwrap();
    let process = start(&url, exec(Request::command(["x"]).stdout(true)), false).await.unwrap();
    assert!(soon(process.wait()).await.is_success());
    until(|| running.server.sessions() == 0).await;
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.contains("session started") && line.contains("id=c1")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("session ended") && line.contains("exit code 0")),
        "{lines:?}"
    );
    let token = url.rsplit('/').next().unwrap();
    assert!(lines.iter().all(|line| !line.contains(token) && !line.contains("\"exit\"")), "{lines:?}");
}

/// A stream that is not TCP asks no kernel for what is unsent; the sessions end all the same.
#[tokio::test]
async fn a_client_that_leaves_ends_its_session() {
    let running = Running::start(|_| {}).await;
    let asked =
        AttachRequest { container_id: "c".into(), stdin: true, stdout: true, ..AttachRequest::default() };
    let url = running.server.get_attach(asked).unwrap();
    let io: TcpStream = running.connect().await;
    let mut peer =
        Upgrade::get(path_of(&url)).subprotocol("v5.channel.k8s.io").send(io).await.into_peer().await;
    peer.expect_binary(b"\x01").await;
    assert_eq!(running.server.sessions(), 1);
    drop(peer);
    until(|| running.server.sessions() == 0).await;
    assert_eq!(running.server.runtime().running(), 0);
}
