//! Every example, really run: the servers as processes, with the example client and log reader as their peers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use axum::{Router, extract::Request, response::Response, routing::any};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command as TokioCommand};
use wsstream::{Subprotocol, reader, server::Upgrade, upgrade::Rejection};

/// Starts a server example and waits for the URL that it prints.
async fn serve(program: &str) -> (Child, String) {
    start(program, &[]).await
}

/// Starts an example and waits for the first line that it prints.
async fn start(program: &str, arguments: &[&str]) -> (Child, String) {
    let mut command = TokioCommand::new(program);
    let mut child = command.args(arguments).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = lines.next_line().await.unwrap().expect("the server prints its URL");
    // What it prints later must not end it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, url)
}

async fn client(url: &str, command: &[&str], input: &'static [u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_client"));
    child.arg(url).args(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::task::spawn_blocking(move || {
        let mut child = child.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn axum_exec_runs_a_process_for_the_client() {
    let (_server, url) = serve(env!("CARGO_BIN_EXE_axum_exec")).await;
    let output = client(&url, &["sh", "-c", "cat; echo oops >&2; exit 7"], b"over and out\n").await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "over and out\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "oops\n");
    assert_eq!(output.status.code(), Some(7));
}

#[tokio::test]
async fn hyper_exec_calls_a_function_for_the_client() {
    let (_server, url) = serve(env!("CARGO_BIN_EXE_hyper_exec")).await;
    let output = client(&url, &["shout", "a", "b"], b"hello").await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "HELLO");
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn port_forward_leads_through_both_of_its_ends() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let target = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port().to_string();
    let program = env!("CARGO_BIN_EXE_port_forward");
    let (_server, url) = start(program, &["serve", "127.0.0.1:0"]).await;
    let (_client, line) = start(program, &[&url, &port]).await;
    let local = line.strip_prefix("Forwarding from ").unwrap().strip_suffix(&format!(" -> {port}")).unwrap();
    for _ in 0..3 {
        let mut client = tokio::net::TcpStream::connect(local).await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut socket, _) = target.accept().await.unwrap();
        let mut question = String::new();
        socket.read_to_string(&mut question).await.unwrap();
        socket.write_all(format!("{question}: answer").as_bytes()).await.unwrap();
        drop(socket);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "question: answer");
    }
}

/// What was not forwarded must not look like an empty answer, and somebody must hear why.
#[tokio::test]
async fn port_forward_resets_and_reports_what_it_cannot_connect() {
    use tokio::io::AsyncReadExt as _;
    let target = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port().to_string();
    drop(target);
    let program = env!("CARGO_BIN_EXE_port_forward");
    let (_server, url) = start(program, &["serve", "127.0.0.1:0"]).await;
    // Port 0 is refused before it is tried.
    for port in [port.as_str(), "0"] {
        let mut command = TokioCommand::new(program);
        command.args([&url, port]).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let local =
            line.strip_prefix("Forwarding from ").unwrap().strip_suffix(&format!(" -> {port}")).unwrap();
        let mut client = tokio::net::TcpStream::connect(local).await.unwrap();
        let error = client.read(&mut [0]).await.expect_err("an end in good order");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let said = errors.next_line().await.unwrap().unwrap();
        assert!(said.starts_with(&format!("a connection to {port} failed: ")), "{said}");
    }
}

/// A server whose log ends well or breaks off.
async fn log(mut request: Request, broken: bool) -> Result<Response, Rejection> {
    let upgrade = Upgrade::accept(&mut request, &[Subprotocol::BINARY])?;
    let response = upgrade.response().map(Into::into);
    tokio::spawn(async move {
        let (connection, driver) = upgrade.open(reader::sender).await.unwrap();
        let source = tokio_test_source(broken);
        let _ = reader::send(connection, driver, source, reader::ReaderOptions::default()).await;
    });
    Ok(response)
}

fn tokio_test_source(broken: bool) -> impl tokio::io::AsyncRead + Send {
    use tokio::io::AsyncReadExt as _;
    let text = &b"one\ntwo\n"[..];
    text.chain(Broken(broken))
}

/// At its end, or an error.
struct Broken(bool);

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(if self.0 { Err(std::io::Error::other("disk on fire")) } else { Ok(()) })
    }
}

#[tokio::test]
async fn log_reader_prints_a_log_and_tells_when_it_breaks_off() {
    let router = Router::new()
        .route("/whole", any(|request| log(request, false)))
        .route("/broken", any(|request| log(request, true)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    for (path, success) in [("whole", true), ("broken", false)] {
        let output = TokioCommand::new(env!("CARGO_BIN_EXE_log_reader"))
            .arg(format!("http://{address}/{path}"))
            .output()
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\n", "{path}");
        assert_eq!(output.status.success(), success, "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
