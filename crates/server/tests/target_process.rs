//! A supervised command: its life, its restarts, its end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod target_support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use target_support::*;
use wsstream::remotecommand::Request;
use wsstream_server::target::{
    ContainerState, HostTarget, LogError, LogOptions, ProcessSpec, ProcessTarget, Restart, SessionOptions,
    Target, Terminated,
};

fn spec(script: &str) -> ProcessSpec {
    let mut spec = ProcessSpec::new("web", "main", ["sh", "-c", script].map(str::to_owned).into());
    spec.delay.first = Duration::from_millis(50);
    spec.delay.max = Duration::from_millis(200);
    spec
}

fn quickly(restart: Restart, script: &str) -> ProcessSpec {
    let mut spec = spec(script);
    spec.restart = restart;
    spec
}

async fn ended(target: &ProcessTarget) -> Terminated {
    let mut changes = target.subscribe();
    let state = soon("the end of the process", async {
        let ended = |state: &ContainerState| matches!(state, ContainerState::Terminated(_));
        changes.wait_for(ended).await.unwrap().clone()
    });
    match state.await {
        ContainerState::Terminated(end) => end,
        other => panic!("{other:?}"),
    }
}

async fn running(target: &ProcessTarget) {
    let mut changes = target.subscribe();
    soon("the process to run", changes.wait_for(ContainerState::is_running)).await.unwrap();
}

async fn log(target: &ProcessTarget, options: LogOptions) -> String {
    let mut stream = target.logs(options).await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = soon("the log", stream.next_chunk()).await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).unwrap()
}

fn previous() -> LogOptions {
    LogOptions { previous: true, ..LogOptions::default() }
}

#[tokio::test]
async fn the_state_tells_how_it_ended() {
    let target = ProcessTarget::start(spec("echo hi; exit 3"));
    let end = ended(&target).await;
    assert_eq!((end.exit_code, end.signal, end.reason.as_str()), (3, None, "Error"));
    assert!(end.started_at <= end.finished_at);
    assert_eq!(log(&target, LogOptions::default()).await, "hi\n", "the log outlives the process");

    let end = ended(&ProcessTarget::start(spec("true"))).await;
    assert_eq!((end.exit_code, end.reason.as_str()), (0, "Completed"));
    let end = ended(&ProcessTarget::start(spec("kill -9 $$"))).await;
    assert_eq!((end.exit_code, end.signal), (137, Some(9)));
}

#[tokio::test]
async fn a_command_that_cannot_start_shows_as_a_state() {
    let mut spec = spec("");
    spec.command = vec!["nosuch".into()];
    let target = ProcessTarget::start(spec);
    let end = ended(&target).await;
    assert_eq!((end.exit_code, end.reason.as_str()), (128, "StartError"));
    assert_eq!(end.message, r#"exec: "nosuch": executable file not found in $PATH"#);
    let error = target.logs(LogOptions::default()).await.unwrap_err();
    assert!(matches!(error, LogError::NotStarted { .. }), "{error}");
}

#[tokio::test]
async fn it_is_started_again_as_often_as_the_policy_says() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    // Fails twice, then succeeds.
    let script = format!("echo x >> {0}; n=$(wc -l < {0}); echo run $n; test $n -ge 3", count.display());
    let target = ProcessTarget::start(quickly(Restart::OnFailure, &script));
    assert_eq!(ended(&target).await.exit_code, 0);
    assert_eq!(target.restarts(), 2);
    assert_eq!(target.last_run().unwrap().exit_code, 1);
    assert_eq!(log(&target, LogOptions::default()).await, "run 3\n");
    assert_eq!(log(&target, previous()).await, "run 2\n");
}

#[tokio::test]
async fn between_two_runs_it_waits_and_says_so() {
    let mut spec = quickly(Restart::Always, "echo run; exit 1");
    spec.delay.first = Duration::from_secs(1000);
    spec.delay.max = Duration::from_secs(1000);
    let target = Arc::new(ProcessTarget::start(spec));
    let mut changes = target.subscribe();
    let backing_off = |state: &ContainerState| matches!(state, ContainerState::Waiting { reason, .. } if reason == "CrashLoopBackOff");
    soon("the pause", changes.wait_for(backing_off)).await.unwrap();
    // As with the kubelet, both names lead to the run that has ended.
    assert_eq!(log(&target, LogOptions::default()).await, "run\n");
    assert_eq!(log(&target, previous()).await, "run\n");
    let served = Served::new(target.clone()).await;
    let got = served.attach(Request::default().stdout(true)).await.output().await;
    let text = failure(&got.outcome);
    let expected = r#"Internal error occurred: error attaching to container: container "main" in pod "web" is waiting (CrashLoopBackOff: starts again in 1000 s after exit code 1)"#;
    assert_eq!(text, expected);
    let got = served.sh("true").await;
    assert!(failure(&got.outcome).contains("error executing command in container: container \"main\""));
    soon("the stop", target.stop(Duration::from_secs(10))).await;
    assert!(matches!(target.state(), ContainerState::Terminated(_)));
}

#[tokio::test]
async fn there_is_no_previous_log_before_the_first_restart() {
    let target = ProcessTarget::start(spec("sleep 1000.2"));
    running(&target).await;
    let error = target.logs(previous()).await.unwrap_err();
    assert_eq!(error.to_string(), r#"previous terminated container "main" in pod "web" not found"#);
}

#[tokio::test]
async fn stopping_asks_first() {
    let target = ProcessTarget::start(quickly(
        Restart::Always,
        "trap 'echo bye; exit 4' TERM; echo up; sleep 1000.3 & wait",
    ));
    let mut follow = target_log(&target).await;
    follow.until("up").await;
    soon("the stop", target.stop(Duration::from_secs(20))).await;
    assert_eq!(ended(&target).await.exit_code, 4, "and it is not started again");
    assert_eq!(log(&target, LogOptions::default()).await, "up\nbye\n");
}

#[tokio::test]
async fn stopping_kills_what_does_not_listen() {
    let mark = mark();
    let target = ProcessTarget::start(spec(&format!("trap '' TERM; sleep {mark} & echo up; sleep {mark}")));
    target_log(&target).await.until("up").await;
    until("both to run", || alive(&mark) == 2).await;
    let asked = Instant::now();
    soon("the stop", target.stop(Duration::from_millis(300))).await;
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(ended(&target).await.exit_code, 137);
    until("all to be gone", || alive(&mark) == 0).await;
}

/// As in a container, where the end of the first process is the end of all.
#[tokio::test]
async fn nothing_outlives_the_main_process() {
    for tty in [false, true] {
        let mark = mark();
        let mut spec = spec(&format!("trap '' HUP; sleep {mark} & sleep 0.2; echo over"));
        spec.tty = tty;
        let target = ProcessTarget::start(spec);
        let started = Instant::now();
        ended(&target).await;
        until("all to be gone", || alive(&mark) == 0).await;
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn dropping_the_target_kills_everything() {
    let mark = mark();
    let target = ProcessTarget::start(spec(&format!("trap '' TERM; sleep {mark} & sleep {mark}")));
    until("both to run", || alive(&mark) == 2).await;
    drop(target);
    until("all to be gone", || alive(&mark) == 0).await;
    until("no zombies", || zombies().is_empty()).await;
}

#[tokio::test]
async fn commands_run_beside_it_in_the_same_place() {
    let mut spec = spec("sleep 1000.4");
    spec.session.command.env = vec![("GREETING".into(), "hello".into())];
    spec.session.command.cwd = Some("/usr".into());
    let target = Arc::new(ProcessTarget::start(spec));
    running(&target).await;
    let got = Served::new(target).await.sh("pwd; echo $GREETING; exit 5").await;
    assert_eq!((got.stdout, got.outcome), ("/usr\nhello\n".into(), exited(5)));
}

#[tokio::test]
async fn the_host_says_that_it_has_nothing_to_attach_to_and_no_log() {
    let served = Served::host().await;
    let got = served.attach(Request::default().stdout(true)).await.output().await;
    assert!(failure(&got.outcome).contains("is the host and has no main process to attach to"));
    let host = HostTarget::new("this", "host", SessionOptions::default());
    let error = host.logs(LogOptions::default()).await.unwrap_err().to_string();
    assert!(error.starts_with(r#"container "host" in pod "this" has no logs: "#), "{error}");
    assert!(host.state().is_running());
}

struct Follow(wsstream_server::target::LogStream, String);

async fn target_log(target: &ProcessTarget) -> Follow {
    running(target).await;
    Follow(target.logs(LogOptions { follow: true, ..LogOptions::default() }).await.unwrap(), String::new())
}

impl Follow {
    async fn until(&mut self, text: &str) {
        while !self.1.contains(text) {
            let chunk = soon(text, self.0.next_chunk()).await.unwrap().expect("the log ended");
            self.1.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

#[tokio::test]
async fn a_log_can_be_followed_to_the_end_of_the_run() {
    let target = ProcessTarget::start(spec("for i in 1 2 3; do echo line $i; sleep 0.05; done; printf end"));
    let mut follow = target_log(&target).await;
    follow.until("end").await;
    assert_eq!(follow.1, "line 1\nline 2\nline 3\nend");
    assert_eq!(follow.0.next_chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_log_is_cut_and_stamped_as_asked() {
    let target = ProcessTarget::start(spec("for i in 1 2 3 4 5; do echo line $i; done; echo err >&2"));
    ended(&target).await;
    let tail = LogOptions { tail_lines: Some(2), limit_bytes: Some(9), ..LogOptions::default() };
    assert_eq!(log(&target, tail).await.len(), 9);
    let stamped = log(&target, LogOptions { timestamps: true, ..LogOptions::default() }).await;
    assert_eq!(stamped.lines().count(), 6);
    for line in stamped.lines() {
        let (time, text) = line.split_once(' ').unwrap();
        assert!(text.starts_with("line ") || text == "err");
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000000Z".len());
        let age = jiff::Timestamp::now().duration_since(time.parse().unwrap());
        assert!(age.as_secs() < 60, "{time}");
    }
    let since = |seconds| LogOptions { since_seconds: Some(seconds), ..LogOptions::default() };
    assert_eq!(log(&target, since(3600)).await.lines().count(), 6);
    let future = jiff::Timestamp::now() + Duration::from_secs(3600);
    let none = LogOptions { since_time: Some(future), ..LogOptions::default() };
    assert_eq!(log(&target, none).await, "");
}

/// A process that nobody is attached to never waits for its output to be taken.
#[tokio::test]
async fn a_flood_fills_the_history_and_no_more() {
    let mut spec = spec("head -c 8000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo last");
    spec.history = 100_000;
    let target = ProcessTarget::start(spec);
    ended(&target).await;
    let text = log(&target, LogOptions::default()).await;
    assert!(text.len() <= 100_000 && text.len() > 50_000, "{}", text.len());
    assert!(text.ends_with("xlast\n"));
}
