//! A server that is killed, or stopped, leaves no process of its sessions behind.

use crate::support::{LIMIT, Server, eventually, stderr};
use rustix::process::Signal;
use std::process::Stdio;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

/// An argument that no other process has.
fn mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    format!("1000.{}{nanos:09}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn alive(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let arguments = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    arguments.filter(|line| line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())).count()
}

/// Helpers that have left the process group, each in its own way, and one that has not.
fn script(mark: &str) -> String {
    format!(
        "trap '' HUP TERM; setsid sleep {mark} & (setsid sh -c 'sleep {mark} & exit' &); sleep {mark} & \
         echo up; read line; exit 7"
    )
}

const HELPERS: usize = 3;

async fn session(server: &Server, flags: &str, mark: &str) -> (Child, ChildStdout) {
    let script = script(mark);
    let mut session = server.client(&["exec", flags, "host", "--", "sh", "-c", &script]);
    let mut session =
        session.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = session.stdout.take().unwrap();
    let mut up = [0; 2];
    timeout(LIMIT, lines.read_exact(&mut up)).await.unwrap().unwrap();
    assert_eq!(&up, b"up");
    eventually("the helpers start", || alive(mark) == HELPERS).await;
    (session, lines)
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_nothing_behind() {
    let main = mark();
    let mut server = Server::start(&["--pod", "host", "--run", &format!("main=sleep {main}")]).await;
    let marks = [mark(), mark()];
    let piped = session(&server, "-i", &marks[0]).await;
    let on_terminal = session(&server, "-it", &marks[1]).await;
    eventually("the supervised command starts", || alive(&main) == 1).await;

    server.child.start_kill().unwrap();
    timeout(LIMIT, server.child.wait()).await.unwrap().unwrap();
    for mark in [&marks[0], &marks[1], &main] {
        eventually("nothing is left behind", || alive(mark) == 0).await;
    }
    for (mut session, _) in [piped, on_terminal] {
        let status = timeout(LIMIT, session.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(254), "the session is lost, and says so");
    }
}

#[tokio::test]
async fn a_server_that_is_stopped_tells_its_clients_and_leaves_nothing_behind() {
    let mut server = Server::start(&["--shutdown-grace", "200ms"]).await;
    let marks = [mark(), mark()];
    let piped = session(&server, "-i", &marks[0]).await;
    let on_terminal = session(&server, "-it", &marks[1]).await;
    server.signal(Signal::TERM);
    for ((mut session, _lines), mark) in [(piped, &marks[0]), (on_terminal, &marks[1])] {
        let _open = session.stdin.take();
        let output = timeout(LIMIT, session.wait_with_output()).await.unwrap().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("the server is shutting down"), "{text}");
        eventually("nothing is left behind", || alive(mark) == 0).await;
    }
    assert_eq!(timeout(LIMIT, server.child.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_client_that_is_killed_leaves_nothing_behind() {
    let server = Server::start(&["--finish-grace", "100ms", "--kill-grace", "500ms"]).await;
    for flags in ["-i", "-it"] {
        let mark = mark();
        let (mut session, _lines) = session(&server, flags, &mark).await;
        session.start_kill().unwrap();
        eventually("nothing is left behind", || alive(&mark) == 0).await;
    }
}

#[tokio::test]
async fn a_command_may_outlive_its_client_by_policy() {
    let server = Server::start(&["--on-disconnect", "keep"]).await;
    let done = server.directory.path().join("done");
    let go = server.directory.path().join("go");
    let script =
        format!("echo up; until test -e {}; do sleep 0.02; done; echo > {}", go.display(), done.display());
    let mut session = server.client(&["exec", "host", "--", "sh", "-c", &script]);
    let mut session = session.stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 2];
    timeout(LIMIT, session.stdout.take().unwrap().read_exact(&mut up)).await.unwrap().unwrap();
    session.start_kill().unwrap();
    timeout(LIMIT, session.wait()).await.unwrap().unwrap();
    // Longer than the default policy would take to send SIGTERM.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    std::fs::write(&go, "").unwrap();
    eventually("the command finishes", || done.exists()).await;
}
