//! What becomes of a command whose client leaves is a policy: each of them, with pipes and on a terminal.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod target_support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use target_support::*;
use wsstream::remotecommand::{ExitCode, Request};
use wsstream_server::target::{Background, OnDisconnect, SessionOptions};

fn policy(action: OnDisconnect) -> SessionOptions {
    let mut options = SessionOptions::default();
    options.disconnect.action = action;
    options.disconnect.finish = Duration::from_millis(200);
    options.disconnect.kill = Duration::from_millis(1500);
    options
}

/// A script that notes each signal it gets and goes on for as long as a helper lives, which ignores signals too.
fn notes(file: &Path, mark: &str) -> String {
    let file = file.display();
    format!(
        "trap '' HUP TERM; sleep {mark} & trap 'echo HUP >> {file}' HUP; trap 'echo TERM >> {file}' TERM; \
         echo ready; while kill -0 $! 2>/dev/null; do wait; done; echo over >> {file}"
    )
}

async fn leave(host: &Served, request: Request, mark: &str) -> Instant {
    let mut client = Client::of(host.exec(request).await);
    client.out().wait_for("ready").await;
    until("it to run", || alive(mark) == 1).await;
    drop(client);
    Instant::now()
}

fn request(script: &str, tty: bool) -> Request {
    sh(script).stdin(true).stdout(true).tty(tty)
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

#[tokio::test]
async fn each_policy_sends_its_signal_and_then_kills() {
    for (action, tty, signal) in [
        (OnDisconnect::Auto, false, "TERM\n"),
        (OnDisconnect::Auto, true, "HUP\n"),
        (OnDisconnect::HangUp, false, "HUP\n"),
        (OnDisconnect::HangUp, true, "HUP\n"),
        (OnDisconnect::Terminate, false, "TERM\n"),
        (OnDisconnect::Terminate, true, "TERM\n"),
    ] {
        let (host, mark) = (Served::host_with(policy(action)).await, mark());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes");
        let left = leave(&host, request(&notes(&file, &mark), tty), &mark).await;
        let result = host.report().await.result;
        assert_eq!(result, Some(Ok(ExitCode(137))), "{action} {tty}");
        assert!(left.elapsed() >= Duration::from_millis(1400), "{action} {tty}: {:?}", left.elapsed());
        until("the helper to be gone", || alive(&mark) == 0).await;
        assert_eq!(read(&file), signal, "{action} {tty}");
    }
}

#[tokio::test]
async fn kill_asks_nobody() {
    for tty in [false, true] {
        let mut options = policy(OnDisconnect::Kill);
        options.disconnect.finish = DEADLINE;
        options.disconnect.kill = DEADLINE;
        let (host, mark) = (Served::host_with(options).await, mark());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes");
        let left = leave(&host, request(&notes(&file, &mark), tty), &mark).await;
        assert_eq!(host.report().await.result, Some(Ok(ExitCode(137))));
        until("the helper to be gone", || alive(&mark) == 0).await;
        assert!(left.elapsed() < Duration::from_secs(15), "{:?}", left.elapsed());
        assert_eq!(read(&file), "");
    }
}

/// It runs to its own end, however much it prints, and its exit code is in the report.
#[tokio::test]
async fn keep_lets_the_command_run_on() {
    for tty in [false, true] {
        let (host, mark) = (Served::host_with(policy(OnDisconnect::Keep(None))).await, mark());
        let dir = tempfile::tempdir().unwrap();
        let (go, done) = (dir.path().join("go"), dir.path().join("done"));
        let script = format!(
            "sleep {mark} & echo ready; until test -e {}; do sleep 0.02; done; head -c 3000000 /dev/zero; \
             kill $!; echo over > {}; exit 5",
            go.display(),
            done.display()
        );
        leave(&host, request(&script, tty), &mark).await;
        // Longer than the other policies would let it live.
        tokio::time::sleep(Duration::from_millis(2000)).await;
        assert_eq!(alive(&mark), 1, "it runs on");
        std::fs::write(&go, "").unwrap();
        assert_eq!(host.report().await.result, Some(Ok(ExitCode(5))));
        assert!(done.exists());
        until("no zombies", || zombies().is_empty()).await;
    }
}

#[tokio::test]
async fn keep_with_a_time_ends_the_command_when_it_is_over() {
    for (tty, signal) in [(false, "TERM\n"), (true, "HUP\n")] {
        let keep = OnDisconnect::Keep(Some(Duration::from_millis(1000)));
        let (host, mark) = (Served::host_with(policy(keep)).await, mark());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes");
        let left = leave(&host, request(&notes(&file, &mark), tty), &mark).await;
        host.report().await;
        assert!(left.elapsed() >= Duration::from_millis(1000), "{:?}", left.elapsed());
        until("the helper to be gone", || alive(&mark) == 0).await;
        assert!(read(&file).starts_with(signal), "{}", read(&file));
    }
}

/// A server that goes takes kept commands along: their futures are dropped.
#[tokio::test]
async fn a_kept_command_ends_with_the_server() {
    let (host, mark) = (Served::host_with(policy(OnDisconnect::Keep(None))).await, mark());
    let script = format!("echo ready; trap '' TERM; sleep {mark}; true");
    leave(&host, request(&script, false), &mark).await;
    host.sessions.lock().await.abort_all();
    until("the processes to be gone", || alive(&mark) == 0).await;
}

#[tokio::test]
async fn what_a_command_leaves_in_the_background_lives_on_or_not() {
    for (background, left) in [(Background::Keep, 1), (Background::Kill, 0)] {
        for tty in [false, true] {
            let mut options = SessionOptions::default();
            options.background = background;
            let (host, mark) = (Served::host_with(options).await, mark());
            // Its terminal is closed under it: only a process that ignores the hang-up lives on.
            let script =
                format!("trap '' HUP; sleep {mark} >/dev/null 2>&1 </dev/null & echo started; exit 3");
            let (out, outcome) =
                Client::of(host.exec(sh(&script).stdout(true).tty(tty)).await).finish().await;
            assert_eq!((out.trim_end(), outcome), ("started", exited(3)));
            host.report().await;
            if left == 0 {
                until("the process to be gone", || alive(&mark) == 0).await;
            } else {
                until("the process to be there", || alive(&mark) == left).await;
                end(&mark);
            }
        }
    }
}
