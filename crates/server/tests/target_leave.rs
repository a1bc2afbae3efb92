//! Clients that leave before their command has ended, and what becomes of its processes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod target_support;

use std::time::{Duration, Instant};

use target_support::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wsstream::remotecommand::{Request, client};
use wsstream_server::target::SessionOptions;

/// Short enough for a test, long enough to tell the steps apart.
fn quick() -> SessionOptions {
    let mut options = SessionOptions::default();
    options.disconnect.finish = Duration::from_millis(300);
    options.disconnect.kill = Duration::from_millis(1500);
    options
}

/// Cuts the connection without a Close.
fn vanish(client: Client) -> Instant {
    drop(client);
    Instant::now()
}

async fn gone(mark: &str) {
    until("the processes to be gone", || alive(mark) == 0).await;
}

#[tokio::test]
async fn without_a_terminal_a_client_that_vanishes_leaves_nothing_behind() {
    let (host, mark) = (Served::host_with(quick()).await, mark());
    let script = format!("sleep {mark} & echo ready; sleep {mark}; echo never");
    let mut client = Client::of(host.exec(sh(&script).stdout(true)).await);
    client.out().wait_for("ready").await;
    until("both to run", || alive(&mark) == 2).await;
    let left = vanish(client);
    gone(&mark).await;
    assert!(left.elapsed() >= Duration::from_millis(300), "SIGTERM came before the time to finish was over");
    assert_eq!(host.report().await.result, Some(Ok(wsstream::remotecommand::ExitCode(143))));
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_the_grace() {
    let (host, mark) = (Served::host_with(quick()).await, mark());
    let script = format!("trap '' TERM; echo ready; sleep {mark}");
    let mut client = Client::of(host.exec(sh(&script).stdout(true)).await);
    client.out().wait_for("ready").await;
    until("it to run", || alive(&mark) == 1).await;
    let left = vanish(client);
    gone(&mark).await;
    assert!(left.elapsed() >= Duration::from_millis(1800), "{:?}", left.elapsed());
    assert_eq!(host.report().await.result, Some(Ok(wsstream::remotecommand::ExitCode(137))));
}

/// The leader goes at SIGTERM, its child does not: the group is what must be gone.
#[tokio::test]
async fn a_grandchild_that_ignores_sigterm_is_killed_too() {
    let (host, mark) = (Served::host_with(quick()).await, mark());
    let script = format!("(trap '' TERM; exec sleep {mark}) >/dev/null & echo ready; sleep {mark}");
    let mut client = Client::of(host.exec(sh(&script).stdout(true)).await);
    client.out().wait_for("ready").await;
    until("both to run", || alive(&mark) == 2).await;
    vanish(client);
    gone(&mark).await;
}

#[tokio::test]
async fn a_command_may_clean_up_at_sigterm() {
    let host = Served::host_with(quick()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cleaned");
    // It prints while it cleans up: output that nobody takes must not kill it.
    let script = format!(
        "trap 'echo bye; sleep 0.2; echo > {}; exit 3' TERM; echo ready; sleep 1000.1 & wait",
        file.display()
    );
    let mut client = Client::of(host.exec(sh(&script).stdout(true)).await);
    client.out().wait_for("ready").await;
    vanish(client);
    assert_eq!(host.report().await.result, Some(Ok(wsstream::remotecommand::ExitCode(3))));
    assert!(file.exists());
}

#[tokio::test]
async fn a_flood_that_nobody_takes_ends_with_its_client() {
    let (host, mark) = (Served::host_with(quick()).await, mark());
    let script = format!("sleep {mark} & echo ready; exec yes");
    let mut client = Client::of(host.exec(sh(&script).stdout(true)).await);
    client.out().wait_for("ready").await;
    until("it to run", || alive(&mark) == 1).await;
    vanish(client);
    gone(&mark).await;
    host.report().await;
}

#[tokio::test]
async fn dropping_the_session_kills_the_whole_group_at_once() {
    for tty in [false, true] {
        let (host, mark) = (Served::host().await, mark());
        // With job control each background job of a terminal is a group of its own.
        let script =
            format!("set -m; trap '' HUP TERM; sleep {mark} & sleep {mark} & echo ready; sleep {mark}");
        let script = if tty { script } else { script.replace("set -m; ", "") };
        let mut client = Client::of(host.exec(sh(&script).stdout(true).tty(tty)).await);
        client.out().wait_for("ready").await;
        until("all three to run", || alive(&mark) == 3).await;
        host.sessions.lock().await.abort_all();
        let dropped = Instant::now();
        gone(&mark).await;
        assert!(dropped.elapsed() < Duration::from_secs(5));
        until("no zombies", || zombies().is_empty()).await;
        drop(client);
    }
}

#[tokio::test]
async fn a_terminal_whose_client_vanishes_is_hung_up_at_once() {
    let (host, mark) = (Served::host().await, mark());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hup");
    let script = format!("trap 'echo > {}; exit 9' HUP; sleep {mark} & echo ready; wait", file.display());
    let mut client = Client::of(host.exec(sh(&script).stdin(true).stdout(true).tty(true)).await);
    client.out().wait_for("ready").await;
    until("it to run", || alive(&mark) == 1).await;
    let left = vanish(client);
    assert_eq!(host.report().await.result, Some(Ok(wsstream::remotecommand::ExitCode(9))));
    assert!(file.exists());
    gone(&mark).await;
    assert!(left.elapsed() < Duration::from_secs(9), "there was nothing to wait for");
}

#[tokio::test]
async fn what_ignores_a_hang_up_is_killed_after_the_grace() {
    let (host, mark) = (Served::host_with(quick()).await, mark());
    let script = format!("trap '' HUP; set -m; sleep {mark} & echo ready; sleep {mark}");
    let mut client = Client::of(host.exec(sh(&script).stdin(true).stdout(true).tty(true)).await);
    client.out().wait_for("ready").await;
    until("both to run", || alive(&mark) == 2).await;
    let left = vanish(client);
    gone(&mark).await;
    assert!(left.elapsed() >= Duration::from_millis(1400), "{:?}", left.elapsed());
}

/// A Ctrl-D typed into whatever has the terminal could do harm; a lost connection types nothing.
#[tokio::test]
async fn a_lost_connection_types_no_end_of_file() {
    let host = Served::host().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("typed");
    let script =
        format!("trap '' HUP; stty raw -echo; echo ready; cat > {0}.part; mv {0}.part {0}", file.display());
    let mut client = Client::of(host.exec(sh(&script).stdin(true).stdout(true).tty(true)).await);
    client.out().wait_for("ready").await;
    client.write("abc").await;
    until("the text to arrive", || {
        std::fs::read(file.with_extension("part")).is_ok_and(|text| text == b"abc")
    })
    .await;
    vanish(client);
    until("the end of input", || file.exists()).await;
    assert_eq!(std::fs::read(&file).unwrap(), b"abc");
}

/// The example session of the Go documentation, on exec: `foo\n`, CLOSE of stdin, and a Close right behind it, in one
/// write. The command's remaining output and its status still arrive.
#[tokio::test]
async fn close_of_stdin_followed_at_once_by_close_lets_the_command_finish() {
    let host = Served::host().await;
    let request = Request::command(["tr", "-d", "fo"]).stdin(true).stdout(true);
    let start = client::exec(request);
    let request = start.request(&"http://localhost/exec".parse().unwrap()).unwrap();
    let mut head = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n", request.uri().path_and_query().unwrap());
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    if !request.headers().contains_key("sec-websocket-key") {
        head.push_str("sec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n");
    }
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream.write_all((head + "\r\n").as_bytes()).await.unwrap();
    // Masked with zeros: [0] "foo\n", [255, 0], Close 1000.
    let session = b"\x82\x85\0\0\0\0\0foo\n\x82\x82\0\0\0\0\xff\0\x88\x82\0\0\0\0\x03\xe8";
    stream.write_all(session).await.unwrap();
    let mut answer = Vec::new();
    soon("the server's end", stream.read_to_end(&mut answer)).await.unwrap();
    let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let status = br#"{"metadata":{},"status":"Success"}"#;
    let mut expected = b"\x82\x01\x01\x82\x02\x01\n".to_vec();
    expected.extend([0x82, u8::try_from(status.len()).unwrap() + 1, 3]);
    expected.extend_from_slice(status);
    expected.extend(b"\x88\x02\x03\xe8");
    assert_eq!(String::from_utf8_lossy(&answer[body..]), String::from_utf8_lossy(&expected));
}
