//! A server that is told to stop in the middle of sessions: each ends with an honest word, and nothing is left behind.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use server_support::{Running, host_pod, soon};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use wsstream::remotecommand::{ExitCode, Outcome, Request as Command, client::Process};
use wsstream_server::{
    Container, Pod, Pods, ServerOptions, TlsSource,
    target::{HostTarget, OnDisconnect, SessionOptions},
};

const HOST: &str = "/api/v1/namespaces/default/pods/host/exec";

fn sh(script: &str) -> Command {
    Command::command(["sh", "-c", script]).stdout(true).stderr(true)
}

fn quick(options: &mut ServerOptions) {
    options.tls = TlsSource::Insecure;
    options.limits.drain = Duration::from_millis(100);
    options.limits.end_grace = Duration::from_millis(500);
    options.limits.farewell = Duration::from_secs(2);
}

async fn host() -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::with(pods, quick).await
}

/// Collects the output from the side, so that the test can wait for parts of it.
struct Client {
    stdout: wsstream::remotecommand::client::OutputReader,
    seen: String,
    wait: tokio::task::JoinHandle<Outcome>,
}

impl Client {
    fn of(mut process: Process) -> Self {
        let stdout = process.stdout.take().unwrap();
        Self { stdout, seen: String::new(), wait: tokio::spawn(process.wait()) }
    }

    async fn wait_for(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let chunk = soon("output", self.stdout.chunk()).await.unwrap().expect("more output");
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    async fn finish(mut self) -> (String, Outcome) {
        while let Ok(Some(chunk)) = soon("output", self.stdout.chunk()).await {
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        (self.seen, soon("the outcome", self.wait).await.unwrap())
    }
}

#[track_caller]
fn told(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(status) => {
            assert_eq!((status.code, status.reason.as_str()), (503, "ServiceUnavailable"));
            assert!(status.message.starts_with("the server is shutting down"), "{}", status.message);
            &status.message
        }
        other => panic!("the client was not told: {other}"),
    }
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

async fn gone(pid: &str) {
    soon("the end of a process", async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap().trim()
}

/// It gets SIGTERM, and what it prints then still arrives, before a failure: never its own exit code 0.
#[tokio::test]
async fn a_command_that_is_ended_may_say_goodbye_and_its_client_is_told() {
    for (tty, trap) in [(false, "TERM"), (true, "HUP")] {
        let mut server = host().await;
        let script =
            format!("trap 'echo goodbye; exit 0' {trap}; echo $$; echo ready; while :; do sleep 0.02; done");
        let mut client = Client::of(server.start(HOST, None, sh(&script).tty(tty)).await);
        client.wait_for("ready").await;
        server.stop();
        let (seen, outcome) = client.finish().await;
        assert!(seen.contains("goodbye"), "{tty}: {seen:?}");
        assert!(told(&outcome).contains("exit code 0"), "{outcome}");
        let drained = server.ended().await;
        assert_eq!((drained.ended, drained.cut), (1, 0));
        gone(first_line(&seen)).await;
    }
}

#[tokio::test]
async fn a_command_that_heeds_nothing_is_killed_and_its_client_has_the_output_so_far() {
    for tty in [false, true] {
        let mut server = host().await;
        let script = "trap '' TERM HUP; echo $$; head -c 200000 /dev/zero | tr '\\0' x; echo ready; while :; do sleep 0.02; done";
        let mut client = Client::of(server.start(HOST, None, sh(script).tty(tty)).await);
        client.wait_for("ready").await;
        server.stop();
        let (seen, outcome) = client.finish().await;
        assert_eq!(seen.matches('x').count(), 200_000);
        assert!(told(&outcome).contains("exit code 137"), "{outcome}");
        assert_eq!(server.ended().await.cut, 0);
        gone(first_line(&seen)).await;
    }
}

/// A session whose client takes nothing cannot be told, and holds nobody up for longer than the bounds.
#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_not_called_a_success() {
    let mut server = host().await;
    let mut process = server.start(HOST, None, sh("echo $$; exec yes")).await;
    let mut stdout = process.stdout.take().unwrap();
    let waiting = tokio::spawn(process.wait());
    let first = soon("the pid", stdout.chunk()).await.unwrap().unwrap();
    let pid = first_line(std::str::from_utf8(&first).unwrap()).to_owned();
    // From here on nothing is read, and everything in between fills up.
    server.stop();
    let asked = Instant::now();
    let drained = server.ended().await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!((drained.ended, drained.cut), (1, 1));
    gone(&pid).await;
    while let Ok(Some(_)) = soon("what was sent", stdout.chunk()).await {}
    let outcome = soon("the outcome", waiting).await.unwrap();
    assert!(!matches!(outcome, Outcome::Exited(_) | Outcome::Ended), "{outcome}");
}

/// The command has ended; its client is slow. There is nothing to end, and the real exit code arrives.
#[tokio::test]
async fn a_command_that_has_ended_by_itself_keeps_its_exit_code() {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let mut server = Running::with(pods, |options| {
        quick(options);
        options.limits.farewell = Duration::from_secs(10);
    })
    .await;
    // More than a pipe holds, and the command is gone.
    let script = "echo $$; (head -c 9000000 /dev/zero) & exit 6";
    let mut process = server.start(HOST, None, sh(script)).await;
    let mut stdout = process.stdout.take().unwrap();
    let waiting = tokio::spawn(process.wait());
    let first = soon("the pid", stdout.chunk()).await.unwrap().unwrap();
    let pid = first_line(std::str::from_utf8(&first[..first.len().min(12)]).unwrap_or_default()).to_owned();
    gone(&pid).await;
    server.stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut bytes = first.len();
    while let Some(chunk) = soon("the rest", stdout.chunk()).await.unwrap() {
        bytes += chunk.len();
    }
    assert!(bytes > 9_000_000, "{bytes}");
    assert_eq!(soon("the outcome", waiting).await.unwrap(), Outcome::Exited(ExitCode(6)));
    assert_eq!(server.ended().await.cut, 0);
}

#[tokio::test]
async fn a_kept_command_is_waited_for_and_ended() {
    let mut options = SessionOptions::default();
    options.disconnect.action = OnDisconnect::Keep(None);
    let target = HostTarget::new("host", "host", options);
    let pods = Pods::new();
    pods.add(Pod::new("host").container(Container::new("host", Arc::new(target)))).unwrap();
    let mut server = Running::with(pods, quick).await;
    let mut client = Client::of(server.start(HOST, None, sh("echo $$; echo ready; exec sleep 1000")).await);
    client.wait_for("ready").await;
    let pid = first_line(&client.seen).to_owned();
    client.wait.abort();
    drop(client);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.api.sessions().running(), 1);
    assert!(alive(&pid));
    server.stop();
    let drained = server.ended().await;
    assert_eq!((drained.ended, drained.cut), (1, 0));
    gone(&pid).await;
}
