//! The kubelet's paths and spellings: the same sessions as on the API's paths, by raw requests and by our client.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use http::Method;
use server_support::{Running, ended, host_pod, process, soon};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use wsstream::{
    portforward::{Routes, client as forward},
    proto::subprotocol::{Encoding, Subprotocol},
    remotecommand::{
        ExitCode, Outcome, Request as Command, Spelling,
        client::{Process, Start, attach, exec},
    },
};
use wsstream_server::{Pod, Pods};
use wsstream_testing::{Message, http::Upgrade};

async fn server() -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host").forward(Routes::loopback())).unwrap();
    let (_, container) = process("cat", "main", "echo first; echo second; exec cat");
    pods.add(Pod::new("cat").container(container)).unwrap();
    let (done, container) = process("done", "main", "exit 0");
    ended(&done).await;
    pods.add(Pod::new("done").container(container)).unwrap();
    Running::new(pods).await
}

async fn uid(server: &Running, pod: &str) -> String {
    let pod = server.get(&format!("/api/v1/namespaces/default/pods/{pod}")).await.json();
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Our client on a path of a kubelet, by either upgrade.
async fn start(server: &Running, path: &str, start: Start, spdy: bool) -> Process {
    let start = start.spelling(Spelling::Kubelet);
    let endpoint = format!("http://{}{path}", server.address).parse().unwrap();
    let request = if spdy { start.spdy_request(&endpoint) } else { start.request(&endpoint) };
    let mut request = request.unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", server.token).parse().unwrap());
    let io = TcpStream::connect(server.address).await.unwrap();
    let connected =
        async { if spdy { start.connect_spdy(io, request).await } else { start.connect(io, request).await } };
    soon("an upgrade", connected).await.unwrap()
}

/// A raw upgrade with the server's token.
fn raw(server: &Running, path: &str) -> Upgrade {
    Upgrade::get(path)
        .header("Authorization", &format!("Bearer {}", server.token))
        .subprotocol("v4.channel.k8s.io")
}

#[tokio::test]
async fn exec_by_name_and_by_uid_over_both_upgrades() {
    let server = server().await;
    let uid = uid(&server, "host").await;
    for path in ["/exec/default/host/host".to_owned(), format!("/exec/default/host/{uid}/host")] {
        for spdy in [false, true] {
            let words = ["sh", "-c", "cat; echo \"$0 $1\" >&2; exit 7", "a b", "c"];
            let command = Command::command(words).stdin(true).stdout(true).stderr(true);
            let process = start(&server, &path, exec(command), spdy).await;
            let done = soon("the end", process.output_with("input".into())).await;
            assert_eq!(done.outcome, Outcome::Exited(ExitCode(7)), "{path}");
            assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"input"[..], &b"a b c\n"[..]));
        }
    }
}

/// Only `1` is true here, and the API server's names mean nothing.
#[tokio::test]
async fn flags_are_on_as_1_and_under_the_kubelets_names() {
    let server = server().await;
    let ask = async |query: &str| {
        let upgrade = raw(&server, &format!("/exec/default/host/host?command=echo&command=x&{query}"));
        upgrade.send(TcpStream::connect(server.address).await.unwrap()).await
    };
    for query in ["", "output=true", "output=", "output", "stdout=1&stdin=1&stderr=1", "tty=1"] {
        let answer = ask(query).await;
        assert_eq!(answer.status, 400, "{query}");
        let body = String::from_utf8(answer.body().await).unwrap();
        assert!(body.contains("you must specify at least 1 of stdin, stdout, stderr"), "{body}");
    }
    let mut peer = ask("output=1&error=true").await.into_peer().await;
    // The ready message is for stdout: that stderr was not asked for, its channel cannot show.
    peer.expect_binary(b"\x01").await;
    let Message::Binary(output) = peer.next_message().await else { panic!("no output") };
    assert_eq!(output, b"\x01x\n");
    let Message::Binary(status) = peer.next_message().await else { panic!("no status") };
    assert_eq!(status, b"\x03{\"metadata\":{},\"status\":\"Success\"}");
    peer.expect_close(1000).await;
}

#[tokio::test]
async fn attach_by_name_and_by_uid_over_both_upgrades() {
    let server = server().await;
    let uid = uid(&server, "cat").await;
    for path in ["/attach/default/cat/main".to_owned(), format!("/attach/default/cat/{uid}/main")] {
        for spdy in [false, true] {
            let mut process =
                start(&server, &path, attach(Command::default().stdin(true).stdout(true)), spdy).await;
            let mut stdout = process.stdout.take().unwrap();
            let mut stdin = process.stdin.take().unwrap();
            // It moves only while it is waited for; dropped, it is cut.
            let _session = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(process.wait()));
            stdin.send("hello\n".into()).await.unwrap();
            let mut read = String::new();
            while !read.ends_with("hello\n") {
                let chunk = soon("an echo", stdout.chunk()).await.unwrap().expect("it runs on");
                read.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn ports_are_reached_over_every_wire() {
    let server = server().await;
    let uid = uid(&server, "host").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for path in ["/portForward/default/host".to_owned(), format!("/portForward/default/host/{uid}")] {
        for attempt in [forward::tunnel(), forward::spdy(), forward::channels([port], Encoding::Binary)] {
            let attempt = attempt.spelling(Spelling::Kubelet);
            let endpoint = format!("http://{}{path}", server.address).parse().unwrap();
            let mut request = attempt.request(&endpoint).unwrap();
            let bearer = format!("Bearer {}", server.token).parse().unwrap();
            request.headers_mut().insert("authorization", bearer);
            let io = TcpStream::connect(server.address).await.unwrap();
            let (session, driver) = soon("an upgrade", attempt.connect(io, request)).await.unwrap();
            let driver = tokio::spawn(driver);
            let mut stream = soon("a connection", session.connect(port)).await.unwrap().stream;
            let (mut socket, _) = soon("a connection", listener.accept()).await.unwrap();
            stream.send("ping".into()).await.unwrap();
            let mut ping = [0; 4];
            soon("a ping", socket.read_exact(&mut ping)).await.unwrap();
            socket.write_all(b"pong").await.unwrap();
            drop(socket);
            let mut pong = Vec::new();
            soon("a pong", stream.read_to_end(&mut pong)).await.unwrap();
            assert_eq!((&ping, &pong[..]), (b"ping", &b"pong"[..]));
            drop(stream);
            session.shutdown();
            soon("the end", driver).await.unwrap();
        }
    }
    // Over channels, and only there, the URL has to name them, and by the kubelet's word.
    for (query, text) in [
        ("", r#"query parameter \"port\" is required"#),
        ("?ports=80", r#"query parameter \"port\" is required"#),
        ("?port=", r#"query parameter \"port\" cannot be empty"#),
        ("?port=abc", r#"unable to parse \"abc\" as a port"#),
    ] {
        let upgrade = raw(&server, &format!("/portForward/default/host{query}"));
        let answer = upgrade.send(TcpStream::connect(server.address).await.unwrap()).await;
        assert_eq!(answer.status, 400, "{query}");
        let body = String::from_utf8(answer.body().await).unwrap();
        assert!(body.contains(text), "{query}: {body}");
    }
}

#[tokio::test]
async fn logs_with_the_old_name_of_tail_lines() {
    let server = server().await;
    let path = "/containerLogs/default/cat/main";
    // They are there once the second line is.
    let whole = async {
        loop {
            let answer = server.get(path).await;
            if answer.text() == "first\nsecond\n" {
                break answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert_eq!(soon("the log", whole).await.headers["content-type"], "text/plain; charset=utf-8");
    for (query, expected) in [
        ("?tailLines=1", "second\n"),
        ("?tail=1", "second\n"),
        ("?tail=0&tailLines=2", ""),
        ("?tail=all&tailLines=1", "first\nsecond\n"),
        ("?limitBytes=3", "fir"),
    ] {
        assert_eq!(server.get(&format!("{path}{query}")).await.text(), expected, "{query}");
    }
    server.get(&format!("{path}?tail=x")).await.failure(400, "BadRequest");
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_said_as_a_status() {
    let server = server().await;
    for path in [
        "/exec/default/nobody/host?command=x&output=1",
        "/exec/other/host/host?command=x&output=1",
        "/exec/default/host/other-uid/host?command=x&output=1",
        "/attach/default/host/other-uid/host?output=1",
        "/portForward/default/nobody",
        "/portForward/default/host/other-uid",
        "/containerLogs/default/nobody/host",
    ] {
        assert_eq!(server.get(path).await.failure(404, "NotFound"), "pod does not exist", "{path}");
    }
    for path in ["/exec/default/host/main", "/attach/default/host/main", "/containerLogs/default/host/main"] {
        let message = server.get(path).await.failure(404, "NotFound");
        assert_eq!(message, "container not found (\"main\")", "{path}");
    }
    for path in ["/exec/default/host/host", "/attach/default/cat/main", "/portForward/default/host"] {
        for method in [Method::GET, Method::POST] {
            let answer = server.answer(server.request(method, path)).await;
            assert_eq!(answer.failure(400, "BadRequest"), "Upgrade request required", "{path}");
        }
        let answer = server.answer(server.request(Method::PUT, path)).await;
        answer.failure(405, "MethodNotAllowed");
    }
    let over = server.get("/exec/default/done/main?command=x&output=1").await.failure(400, "BadRequest");
    assert_eq!(over, "cannot exec into a container in a completed pod; current phase is Succeeded");
    // Neither of them is a path.
    for path in ["/run/default/host/host", "/exec/default/host", "/portForward/default"] {
        server.get(path).await.failure(404, "NotFound");
    }
}

/// Who is not authenticated runs nothing, by whatever method, and does not learn what exists.
#[tokio::test]
async fn without_a_token_there_is_nothing() {
    let server = server().await;
    for path in [
        "/exec/default/host/host?command=x&output=1",
        "/attach/default/nobody/main?output=1",
        "/portForward/default/host",
        "/containerLogs/default/cat/main",
    ] {
        for method in ["GET", "POST"] {
            let upgrade = Upgrade::get(path).method(method).subprotocol(Subprotocol::V5.name());
            let answer = upgrade.send(TcpStream::connect(server.address).await.unwrap()).await;
            assert_eq!(answer.status, 401, "{method} {path}");
        }
    }
}
