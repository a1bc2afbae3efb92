//! Exec, attach and logs from end to end over real sockets, and what a shutdown does to them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use server_support::{Answer, Running, ended, host_pod, process, soon};
use std::time::Duration;
use tokio::net::TcpStream;
use wsstream::remotecommand::{ExitCode, Outcome, Request as Command};
use wsstream_server::{
    Pod, Pods,
    target::{ContainerState, Target},
};
use wsstream_testing::{Peer, http::Upgrade};

const HOST: &str = "/api/v1/namespaces/default/pods/host/exec";
const WEB: &str = "/api/v1/namespaces/default/pods/web";

async fn host() -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::new(pods).await
}

fn sh(script: &str) -> Command {
    Command::command(["sh", "-c", script]).stdout(true).stderr(true)
}

fn exited(code: u8) -> Outcome {
    Outcome::Exited(ExitCode(code))
}

#[tokio::test]
async fn a_command_runs_with_its_streams_and_its_exit_code() {
    let server = host().await;
    let process = server.start(HOST, None, sh("cat; echo err >&2; exit 7").stdin(true)).await;
    let all = soon("the end", process.output_with(Bytes::from_static(b"in\n"))).await;
    assert_eq!((&all.stdout[..], &all.stderr[..], all.outcome), (&b"in\n"[..], &b"err\n"[..], exited(7)));

    let process = server.start(HOST, Some("host"), sh("exit 0")).await;
    assert_eq!(soon("the end", process.output()).await.outcome, exited(0));
    let missing = Command::command(["/no/such/program"]).stdout(true);
    let process = server.start(HOST, None, missing).await;
    let Outcome::Failed(status) = soon("the end", process.output()).await.outcome else {
        panic!("no failure")
    };
    assert!(status.message.contains("/no/such/program"), "{}", status.message);
}

#[tokio::test]
async fn two_containers_are_told_apart() {
    let pods = Pods::new();
    let (_, a) = process("web", "a", "exec cat");
    let (_, b) = process("web", "b", "exec cat");
    pods.add(Pod::new("web").container(a).container(b)).unwrap();
    let server = Running::new(pods).await;
    let process = server.start(&format!("{WEB}/exec"), Some("b"), sh("echo here")).await;
    let all = soon("the end", process.output()).await;
    assert_eq!((&all.stdout[..], all.outcome), (&b"here\n"[..], exited(0)));
}

#[tokio::test]
async fn an_attached_client_talks_to_the_main_process_and_sees_its_end() {
    let pods = Pods::new();
    let (target, container) = process("web", "main", "read line; echo got $line; exit 3");
    pods.add(Pod::new("web").container(container)).unwrap();
    let server = Running::new(pods).await;
    target.subscribe().wait_for(ContainerState::is_running).await.unwrap();
    let attach = Command::default().stdin(true).stdout(true);
    let process = server.start(&format!("{WEB}/attach"), None, attach).await;
    let all = soon("the end", process.output_with(Bytes::from_static(b"hello\n"))).await;
    assert_eq!(&all.stdout[..], b"got hello\n");
    // Attach tells nothing of the exit code (kubernetes#63694); the pod does.
    assert_eq!(all.outcome, exited(0));
    ended(&target).await;
    let refused = server.get(&format!("{WEB}/exec?command=ls")).await;
    assert!(refused.failure(400, "BadRequest").contains("current phase is Failed"));
}

/// A container that has printed five lines and waits for its input to end.
async fn five_lines() -> (Running, std::sync::Arc<wsstream_server::target::ProcessTarget>) {
    let pods = Pods::new();
    let (target, container) = process("web", "main", "seq 1 5; exec cat >/dev/null");
    pods.add(Pod::new("web").container(container)).unwrap();
    let server = Running::new(pods).await;
    soon("five lines", async {
        while server.get(&format!("{WEB}/log")).await.text() != "1\n2\n3\n4\n5\n" {}
    })
    .await;
    (server, target)
}

#[tokio::test]
async fn logs_are_plain_text_and_take_their_options() {
    let (server, target) = five_lines().await;
    let get = |query: &str| {
        let path = format!("{WEB}/log?{query}");
        let server = &server;
        async move { server.get(&path).await }
    };
    let all = get("container=main").await;
    assert_eq!(all.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(get("tailLines=2").await.text(), "4\n5\n");
    assert_eq!(get("tailLines=0").await.text(), "");
    assert_eq!(get("limitBytes=3").await.text(), "1\n2");
    assert_eq!(get("sinceTime=2100-01-01T00%3A00%3A00Z").await.text(), "");
    assert_eq!(get("sinceSeconds=3600&tailLines=1&follow=false").await.text(), "5\n");
    let stamped = get("timestamps=True&tailLines=1").await;
    let (time, line) = stamped.text().split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok() && line == "5\n", "{stamped:?}");

    // A followed log ends with the process, cleanly.
    let follow =
        server.send(server.request(Method::GET, &format!("{WEB}/log?follow=true&tailLines=1"))).await;
    target.stop(Duration::from_secs(5)).await;
    assert_eq!(Answer::of(follow).await.text(), "5\n");
}

async fn log_socket(server: &Running, query: &str, subprotocol: Option<&str>) -> Peer<TcpStream> {
    let mut upgrade = Upgrade::get(&format!("{WEB}/log?{query}"))
        .header("Authorization", &format!("Bearer {}", server.token));
    if let Some(name) = subprotocol {
        upgrade = upgrade.subprotocol(name);
    }
    let answer = upgrade.send(TcpStream::connect(server.address).await.unwrap()).await;
    assert_eq!(answer.subprotocol(), subprotocol);
    answer.into_peer().await
}

#[tokio::test]
async fn logs_come_over_a_websocket_in_each_reader_protocol() {
    let (server, _target) = five_lines().await;
    for name in [None, Some("binary.k8s.io")] {
        let mut peer = log_socket(&server, "tailLines=2", name).await;
        peer.expect_binary(b"").await;
        peer.expect_binary(b"4\n5\n").await;
        peer.expect_close(1000).await;
        peer.close(1000).await;
        peer.expect_eof().await;
    }
    let mut peer = log_socket(&server, "tailLines=1", Some("base64.binary.k8s.io")).await;
    peer.expect_text("").await;
    peer.expect_text("NQo=").await;
    peer.expect_close(1000).await;

    // What is wrong with the request is said before the upgrade.
    let refused = Upgrade::get(&format!("{WEB}/log?container=x"))
        .header("Authorization", &format!("Bearer {}", server.token))
        .send(TcpStream::connect(server.address).await.unwrap())
        .await;
    assert_eq!(refused.status, 400);
    assert!(
        String::from_utf8(refused.body().await).unwrap().contains("container x is not valid for pod web")
    );
}

#[tokio::test]
async fn a_session_may_finish_while_the_server_shuts_down() {
    let mut server = host().await;
    let mut process = server.start(HOST, None, sh("echo ready; cat; echo last; exit 4").stdin(true)).await;
    let (mut stdin, mut stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    let waiting = tokio::spawn(process.wait());
    let first = soon("the first line", stdout.chunk()).await.unwrap().unwrap();
    assert_eq!(&first[..], b"ready\n");
    server.stop();
    // Nobody gets in any more, and this one goes on.
    soon("the listener to close", async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    assert!(!server.has_ended());
    stdin.close().unwrap();
    assert_eq!(soon("the end of the session", waiting).await.unwrap(), exited(4));
    assert_eq!(&soon("the last line", stdout.chunk()).await.unwrap().unwrap()[..], b"last\n");
    assert_eq!(server.ended().await.cut, 0);
}

/// Whether a process of this number is there and not a zombie.
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

#[tokio::test]
async fn a_followed_log_is_cut_when_the_server_shuts_down_not_ended() {
    let (mut server, _target) = five_lines().await;
    let follow = server.send(server.request(Method::GET, &format!("{WEB}/log?follow=true"))).await;
    server.stop();
    let error = soon("the end of the log", follow.into_body().collect()).await;
    assert!(error.is_err(), "a clean end would say that the container has ended: {error:?}");
    server.ended().await;
}

#[tokio::test]
async fn dropping_the_server_leaves_nothing_behind() {
    let server = host().await;
    let mut process = server.start(HOST, None, sh("echo $$; exec sleep 1000")).await;
    let mut stdout = process.stdout.take().unwrap();
    let waiting = tokio::spawn(process.wait());
    let pid = soon("the pid", stdout.chunk()).await.unwrap().unwrap();
    let pid = std::str::from_utf8(&pid).unwrap().trim();
    drop(server);
    assert!(matches!(soon("the end of the session", waiting).await.unwrap(), Outcome::Lost(_)));
    gone(pid).await;
}
