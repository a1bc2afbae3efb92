//! Many sessions in a row leave nothing behind: alone in its process, so that it can count.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod target_support;

use target_support::*;
use wsstream::remotecommand::Request;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn one_of_each(host: &Served, number: u8) {
    let got = host.sh(&format!("echo out; echo err >&2; exit {number}")).await;
    assert_eq!((got.stdout, got.stderr), ("out\n".into(), "err\n".into()));
    assert_eq!(got.outcome, exited(number));
    let request = Request::command(["sh", "-c", "cat; exit 3"]).stdin(true).stdout(true).tty(true);
    assert_eq!(
        soon("a terminal", async { host.exec(request).await.output().await }).await.outcome,
        exited(3)
    );
    let request = Request::command(["nosuch"]).stdin(true).stdout(true);
    assert!(!host.exec(request).await.output().await.outcome.is_success());
    let mut client = Client::of(host.exec(Request::command(["cat"]).stdin(true).stdout(true)).await);
    client.write("x").await;
    client.out().wait_for("x").await;
    drop(client);
}

#[tokio::test]
async fn descriptors_tasks_and_zombies_are_flat_after_hundreds_of_sessions() {
    let host = Served::host().await;
    one_of_each(&host, 0).await;
    let settled = async |expected: Option<usize>| {
        // Those whose client vanished end a moment later.
        while host.sessions.lock().await.join_next().await.is_some() {}
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        until("connection tasks to end", || tasks() <= 2).await;
        until("zombies to be reaped", || zombies().is_empty()).await;
        if let Some(expected) = expected {
            until("descriptors to be closed", || descriptors() <= expected).await;
        }
        descriptors()
    };
    let before = settled(None).await;
    for number in 0..50 {
        one_of_each(&host, number).await;
    }
    settled(Some(before)).await;
    // Given up half-way: by dropping the sessions, not by their clients.
    for _ in 0..20 {
        let mut client =
            Client::of(host.exec(sh("echo up; exec cat").stdin(true).stdout(true).tty(true)).await);
        client.out().wait_for("up").await;
        host.sessions.lock().await.abort_all();
    }
    settled(Some(before)).await;
}
