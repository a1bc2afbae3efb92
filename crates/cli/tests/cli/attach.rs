//! `wsstream attach`: to a process that was there before us.

use crate::support::{LIMIT, Server, Tty, run_with_input, stderr, stdout};
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

#[tokio::test]
async fn output_is_seen_from_now_on_and_input_arrives() {
    let server =
        Server::start(&["--run-stdin", "sink=sh -c 'while read line; do echo got $line; done; echo end'"])
            .await
            .started(&["sink"])
            .await;
    let mut session = server.client(&["attach", "-i", "sink"]);
    let mut session = session.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = session.stdin.take().unwrap();
    input.write_all(b"one\ntwo\n").await.unwrap();
    let mut seen = [0; 16];
    timeout(LIMIT, session.stdout.as_mut().unwrap().read_exact(&mut seen)).await.unwrap().unwrap();
    assert_eq!(&seen, b"got one\ngot two\n");
    drop(input);
    drop(session);
}

#[tokio::test]
async fn the_containers_terminal_decides() {
    let server = Server::start(&["--run-tty", "calc=sh", "--run-stdin", "sink=cat"])
        .await
        .started(&["calc", "sink"])
        .await;
    let mut tty = Tty::start(&server.client(&["attach", "-it", "calc"]), 100, 30);
    tty.expect("If you don't see a command prompt, try pressing enter.\r\n").await;
    // The size travels beside what is typed; ask until it is there.
    tty.type_in("until test \"$(stty size)\" = \"30 100\"; do sleep 0.02; done; tty\r").await;
    tty.expect("\n/dev/").await;
    drop(tty);

    let mut tty = Tty::start(&server.client(&["attach", "-it", "sink"]), 80, 24);
    tty.expect("warning: the container sink has no terminal; -t is ignored\r\n").await;
    tty.type_in("cooked\r").await;
    tty.expect("cooked\r\ncooked\r\n").await;
}

#[tokio::test]
async fn a_redraw_is_forced() {
    let script = "sh -c 'trap \"echo [\\$(stty size)]\" WINCH; echo ready; while :; do sleep 0.05; done'";
    let server = Server::start(&["--run-tty", &format!("app={script}")]).await.started(&["app"]).await;
    let mut first = Tty::start(&server.client(&["attach", "-it", "app"]), 80, 24);
    first.expect("[24 80]").await;
    // The second has the size that the terminal has already: without a detour nothing would be drawn for it.
    let mut second = Tty::start(&server.client(&["attach", "-it", "app"]), 80, 24);
    second.expect("[24 80]").await;
}

#[tokio::test]
async fn a_host_pod_has_nothing_to_attach_to() {
    let server = Server::start(&[]).await;
    let output = run_with_input(&mut server.client(&["attach", "host"]), b"").await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).starts_with("Error from server ("), "{}", stderr(&output));
}
