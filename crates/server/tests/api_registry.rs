//! The list of running sessions, ending one of them, and the longest that one may last: over real sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use server_support::{Running, host_pod, process, soon};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use wsstream::remotecommand::{ExitCode, Outcome, Request as Command};
use wsstream_server::{
    Pod, Pods,
    api::{SessionInfo, SessionKind},
    target::{ContainerState, Target},
};

const HOST: &str = "/api/v1/namespaces/default/pods/host/exec";
const WEB: &str = "/api/v1/namespaces/default/pods/web";

async fn host() -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::new(pods).await
}

async fn web(script: &str) -> Running {
    let pods = Pods::new();
    let (target, container) = process("web", "main", script);
    pods.add(Pod::new("web").container(container)).unwrap();
    let server = Running::new(pods).await;
    target.subscribe().wait_for(ContainerState::is_running).await.unwrap();
    server
}

fn sh(script: &str) -> Command {
    Command::command(["sh", "-c", script]).stdout(true).stderr(true)
}

/// Waits until the list looks like this.
async fn listed(server: &Running, what: &str, like: impl Fn(&[SessionInfo]) -> bool) -> Vec<SessionInfo> {
    soon(what, async {
        loop {
            let list = server.api.sessions().list();
            if like(&list) {
                return list;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

fn failed(outcome: &Outcome) -> (i32, String, String) {
    let Outcome::Failed(status) = outcome else { panic!("{outcome:?}") };
    (status.code, status.reason.clone(), status.message.clone())
}

#[tokio::test]
async fn a_running_session_is_listed_with_what_went_over_it() {
    let server = host().await;
    let mut process = server.start(HOST, None, sh("echo err >&2; cat").stdin(true)).await;
    let mut stdin = process.stdin.take().unwrap();
    let mut stdout = process.stdout.take().unwrap();
    let waiting = tokio::spawn(process.wait());
    stdin.send(Bytes::from_static(b"twelve bytes")).await.unwrap();
    assert_eq!(soon("the echo", stdout.chunk()).await.unwrap().unwrap(), "twelve bytes");
    let list = listed(&server, "all bytes", |list| list[0].bytes.errors == 4).await;
    let info = &list[0];
    assert_eq!((info.number, info.kind, info.ending), (1, SessionKind::Exec, false));
    assert_eq!(
        (info.namespace.as_str(), info.pod.as_str(), info.container.as_str()),
        ("default", "host", "host")
    );
    assert_eq!((info.user.as_str(), info.protocol.as_str()), ("token-1", "websocket v5.channel.k8s.io"));
    assert!(info.peer.starts_with("127.0.0.1:"), "{}", info.peer);
    assert_eq!((info.bytes.input, info.bytes.output, info.bytes.errors), (12, 12, 4));
    stdin.shutdown().await.unwrap();
    assert_eq!(soon("the end", waiting).await.unwrap(), Outcome::Exited(ExitCode(0)));
    listed(&server, "no session", <[_]>::is_empty).await;
}

#[tokio::test]
async fn one_session_is_ended_and_its_client_told_by_whom() {
    let server = host().await;
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut one = server.start(HOST, None, sh(script)).await;
    let two = server.start(HOST, None, sh("echo ready; read line; exit 5").stdin(true)).await;
    let mut stdout = one.stdout.take().unwrap();
    let waiting = tokio::spawn(one.wait());
    assert_eq!(soon("the command", stdout.chunk()).await.unwrap().unwrap(), "ready\n");
    let list = listed(&server, "two sessions", |list| list.len() == 2).await;
    assert!(!server.api.sessions().end(7, "nobody"));
    assert!(server.api.sessions().end(list[0].number, "maintenance"));
    // The tail of the output comes first.
    assert_eq!(soon("the last words", stdout.chunk()).await.unwrap().unwrap(), "bye\n");
    let (code, reason, message) = failed(&soon("the end", waiting).await.unwrap());
    assert_eq!((code, reason.as_str()), (410, "Gone"));
    assert_eq!(
        message,
        "an operator of the server closed the session (maintenance); the command was ended (exit code 3)"
    );
    // The other has noticed nothing.
    let all = soon("the end", two.output_with(Bytes::from_static(b"x\n"))).await;
    assert_eq!(all.outcome, Outcome::Exited(ExitCode(5)));
}

#[tokio::test]
async fn an_attached_client_is_ended_and_the_process_goes_on() {
    let server = web("exec cat").await;
    let process =
        server.start(&format!("{WEB}/attach"), None, Command::default().stdin(true).stdout(true)).await;
    let list = listed(&server, "a session", |list| list.len() == 1).await;
    assert_eq!(list[0].kind, SessionKind::Attach);
    assert!(server.api.sessions().end(list[0].number, ""));
    let (code, _, message) = failed(&soon("the end", process.wait()).await);
    assert_eq!((code, message.as_str()), (410, "an operator of the server closed the session"));
    let pod = server.get(WEB).await.json();
    assert_eq!(pod["status"]["phase"], "Running", "{pod}");
}

#[tokio::test]
async fn a_followed_log_is_a_session_and_its_end_is_seen_as_a_cut() {
    let server = web("echo line; exec sleep 1000").await;
    let answer = server.send(server.request(Method::GET, &format!("{WEB}/log?follow=true"))).await;
    let mut body = answer.into_body();
    let first = soon("a line", body.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "line\n");
    let list = listed(&server, "a session", |list| list.len() == 1).await;
    assert_eq!(
        (list[0].kind, list[0].protocol.as_str(), list[0].bytes.output),
        (SessionKind::Log, "http", 5)
    );
    assert!(server.api.sessions().end(list[0].number, ""));
    // Not the end of the chunked body, which would be a complete log.
    soon("the end", body.frame()).await.unwrap().unwrap_err();
    listed(&server, "no session", <[_]>::is_empty).await;

    // And one whose client leaves is forgotten.
    let answer = server.send(server.request(Method::GET, &format!("{WEB}/log?follow=true"))).await;
    listed(&server, "a session", |list| list.len() == 1).await;
    drop(answer);
    listed(&server, "no session", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_session_that_lasts_too_long_is_ended_and_told_so() {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let server = Running::with(pods, |options| {
        options.tls = wsstream_server::TlsSource::Insecure;
        options.limits.session_duration = Some(Duration::from_millis(400));
    })
    .await;
    let began = Instant::now();
    // Busy all the time: it is not the idle clock that ends it.
    let process = server.start(HOST, None, sh("while :; do echo busy; sleep 0.01; done")).await;
    let all = soon("the end", process.output()).await;
    let (code, reason, message) = failed(&all.outcome);
    assert_eq!((code, reason.as_str()), (504, "Timeout"));
    assert!(
        message.starts_with("the session has lasted 400ms, the longest that the server allows;"),
        "{message}"
    );
    assert!(began.elapsed() >= Duration::from_millis(400) && all.stdout.starts_with(b"busy\n"));
}

/// It ignores SIGTERM, and its client takes nothing: neither keeps it.
#[tokio::test]
async fn a_session_that_will_not_end_is_cut() {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let server = Running::with(pods, |options| {
        options.tls = wsstream_server::TlsSource::Insecure;
        (options.limits.end_grace, options.limits.farewell) =
            (Duration::from_millis(100), Duration::from_millis(100));
    })
    .await;
    let process = server.start(HOST, None, sh("trap '' TERM; exec cat /dev/zero")).await;
    let list = listed(&server, "a full pipe", |list| list.first().is_some_and(|s| s.bytes.output > 0)).await;
    assert!(server.api.sessions().end(list[0].number, ""));
    listed(&server, "no session", <[_]>::is_empty).await;
    drop(process);
}
