//! Commands on a terminal over a real connection.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod target_support;

use std::time::{Duration, Instant};

use target_support::*;
use wsstream::remotecommand::Request;
use wsstream_server::target::{CommandOptions, SessionOptions};

fn on_terminal(request: Request) -> Request {
    request.stdin(true).stdout(true).tty(true)
}

async fn started(host: &Served, script: &str) -> Client {
    Client::of(host.exec(on_terminal(sh(script))).await)
}

#[tokio::test]
async fn all_three_streams_are_one_terminal() {
    let host = Served::host().await;
    let client = started(&host, "test -t 0 && test -t 1 && test -t 2 && echo yes >&2; exit 3").await;
    assert_eq!(client.finish().await, ("yes\r\n".into(), exited(3)));
    // Also when the client asked for none of the input.
    let request = sh("test -t 0 && echo yes").stdout(true).tty(true);
    assert_eq!(host.exec(request).await.output().await.stdout, "yes\r\n");
}

#[tokio::test]
async fn the_command_leads_a_session_and_has_a_controlling_terminal() {
    let host = Served::host().await;
    let script = r#"test "$(ps -o sid= -p $$ | tr -d ' ')" = $$ && echo leader; echo tty > /dev/tty"#;
    assert_eq!(started(&host, script).await.finish().await.0, "leader\r\ntty\r\n");
}

#[tokio::test]
async fn without_a_size_it_is_80_by_24() {
    let host = Served::host().await;
    assert_eq!(started(&host, "stty size").await.finish().await.0, "24 80\r\n");
}

#[tokio::test]
async fn the_first_size_is_there_when_the_command_starts() {
    let host = Served::host().await;
    for (width, height) in [(111, 33), (1, 1), (65535, 65535)] {
        let mut client = started(&host, "stty size").await;
        client.resize(width, height).await;
        assert_eq!(client.finish().await.0, format!("{height} {width}\r\n"));
    }
}

#[tokio::test]
async fn a_resize_reaches_the_running_command() {
    let host = Served::host().await;
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut client = started(&host, script).await;
    client.out().wait_for("ready").await;
    client.resize(132, 50).await;
    assert_eq!(client.finish().await, ("ready\r\n50 132\r\n".into(), exited(0)));
}

#[tokio::test]
async fn ctrl_c_interrupts() {
    let host = Served::host().await;
    let mark = mark();
    let mut client = started(&host, &format!("echo ready; exec sleep {mark}")).await;
    client.out().wait_for("ready").await;
    // A shell that is about to start it loses the signal.
    until("it to run", || alive(&mark) == 1).await;
    client.write("\x03").await;
    let (text, outcome) = client.finish().await;
    assert_eq!((text.as_str(), outcome), ("ready\r\n^C", exited(130)));
}

/// `nohup wsstream serve`, or `wsstream serve &` in a script: the server ignores signals that commands need.
#[tokio::test]
async fn a_server_that_was_started_with_signals_ignored_passes_them_on() {
    let script = r#"trap '' HUP INT QUIT TERM CHLD; exec "$0" --exact ctrl_c_interrupts"#;
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", script]).arg(std::env::current_exe().unwrap());
    let output = soon("the test to end", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn ctrl_d_ends_cat() {
    let host = Served::host().await;
    let mut client = Client::of(host.exec(on_terminal(Request::command(["cat"]))).await);
    client.write("hello\n").await;
    client.out().wait_for("hello\r\nhello\r\n").await;
    client.write("\x04").await;
    assert_eq!(client.finish().await.1, exited(0));
}

/// Upstream has no end of input for terminals. Here it is typed, twice behind an unfinished line.
#[tokio::test]
async fn the_end_of_input_is_typed() {
    let host = Served::host().await;
    for (input, output) in [("", ""), ("line\n", "line\r\nline\r\n"), ("unfinished", "unfinishedunfinished")]
    {
        let mut client = Client::of(host.exec(on_terminal(Request::command(["cat"]))).await);
        client.write(input).await;
        client.close_stdin();
        let (text, outcome) = client.finish().await;
        assert_eq!((text.as_str(), outcome), (output, exited(0)), "{input:?}");
    }
}

#[tokio::test]
async fn the_end_of_input_is_the_character_that_the_terminal_has_for_it() {
    let host = Served::host().await;
    let mut client = started(&host, "stty eof ^A -echo; echo ready; cat; echo over").await;
    client.out().wait_for("ready").await;
    client.close_stdin();
    assert_eq!(client.finish().await.0, "ready\r\nover\r\n");
}

#[tokio::test]
async fn a_shell_can_be_talked_to() {
    let host = Served::host().await;
    let mut client = Client::of(host.exec(on_terminal(Request::command(["sh"]))).await);
    client.write("stty -echo; PS1=; echo st''arted\n").await;
    client.out().wait_for("started").await;
    client.write("echo $((6 * 7))\n").await;
    client.out().wait_for("42\r\n").await;
    client.write("exit 11\n").await;
    assert_eq!(client.finish().await.1, exited(11));
}

#[tokio::test]
async fn the_whole_output_of_a_command_that_exits_at_once_arrives() {
    let host = Served::host().await;
    let expected: String = (1..=20_000).map(|number| format!("{number}\r\n")).collect();
    for _ in 0..5 {
        let (text, outcome) = started(&host, "seq 20000").await.finish().await;
        assert_eq!((text.len(), outcome), (expected.len(), exited(0)));
        assert!(text == expected);
    }
}

#[tokio::test]
async fn a_background_job_on_the_terminal_does_not_hold_up_the_end() {
    let (host, mark) = (Served::host().await, mark());
    let started_at = Instant::now();
    let script = format!("trap '' HUP; sleep {mark} & echo done");
    let client = started(&host, &script).await;
    assert_eq!(client.finish().await, ("done\r\n".into(), exited(0)));
    assert!(started_at.elapsed() < Duration::from_secs(15));
    end(&mark);
}

/// ssh and sudo ask for passwords so, with all three streams redirected.
#[tokio::test]
async fn a_command_that_has_closed_the_terminal_may_open_it_again() {
    let host = Served::host().await;
    let script =
        "exec </dev/null >/dev/null 2>&1; sleep 0.3; echo password: > /dev/tty; read x < /dev/tty; exit $x";
    let mut client = started(&host, script).await;
    client.out().wait_for("password:").await;
    client.write("23\n").await;
    assert_eq!(client.finish().await.1, exited(23));
}

#[tokio::test]
async fn term_is_set_whatever_the_environment() {
    let mut options = SessionOptions::default();
    options.command.clear_env = true;
    let host = Served::host_with(options).await;
    assert_eq!(started(&host, "echo $TERM").await.finish().await.0, "xterm\r\n");
    let mut options = SessionOptions::default();
    let mut command = CommandOptions::default();
    command.env = vec![("TERM".into(), "vt100".into())];
    options.command = command;
    let host = Served::host_with(options).await;
    assert_eq!(started(&host, "echo $TERM").await.finish().await.0, "vt100\r\n");
}
