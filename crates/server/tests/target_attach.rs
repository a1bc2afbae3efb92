//! Clients attached to a supervised command over real connections.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod target_support;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use target_support::*;
use wsstream::remotecommand::Request;
use wsstream_server::target::{ContainerState, LogOptions, ProcessSpec, ProcessTarget, Target};

fn spec(script: &str) -> ProcessSpec {
    ProcessSpec::new("web", "main", ["sh", "-c", script].map(str::to_owned).into())
}

fn with_stdin(script: &str) -> ProcessSpec {
    let mut spec = spec(script);
    spec.stdin = true;
    spec
}

fn with_terminal(script: &str) -> ProcessSpec {
    let mut spec = with_stdin(script);
    spec.tty = true;
    spec
}

struct Attached {
    served: Served,
    target: Arc<ProcessTarget>,
}

impl Attached {
    async fn to(spec: ProcessSpec) -> Self {
        let target = Arc::new(ProcessTarget::start(spec));
        let mut changes = target.subscribe();
        soon("the process to run", changes.wait_for(ContainerState::is_running)).await.unwrap();
        Self { served: Served::new(target.clone()).await, target }
    }

    async fn client(&self, request: Request) -> Client {
        Client::of(self.served.attach(request).await)
    }

    /// Waits until the process writes nothing any more.
    async fn stalled(&self) {
        let length = async || {
            let log = self.target.logs(LogOptions::default()).await.unwrap();
            log.fold(0, async |sum, chunk| sum + chunk.unwrap().len()).await
        };
        soon("the output to stall", async {
            let mut before = length().await;
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let now = length().await;
                if now == before {
                    return;
                }
                before = now;
            }
        })
        .await;
    }

    async fn logged(&self, text: &str) {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut log = self.target.logs(options).await.unwrap();
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = soon(text, log.next_chunk()).await.unwrap().expect("the log ended");
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

fn all() -> Request {
    Request::default().stdin(true).stdout(true).stderr(true)
}

fn terminal() -> Request {
    Request::default().stdin(true).stdout(true).tty(true)
}

#[tokio::test]
async fn every_client_gets_everything_and_any_may_type() {
    let script = "while read line; do echo out $line; echo err $line >&2; done";
    let attached = Attached::to(with_stdin(script)).await;
    let (mut a, mut b) = (attached.client(all()).await, attached.client(all()).await);
    // A client that has got an answer is attached.
    a.write("one\n").await;
    a.out().wait_for("out one\n").await;
    b.write("two\n").await;
    b.out().wait_for("out two\n").await;
    a.write("three\n").await;
    for client in [&mut a, &mut b] {
        client.out().wait_for("out two\nout three\n").await;
        client.stderr.as_mut().unwrap().wait_for("err two\nerr three\n").await;
        assert!(!client.out().seen.contains("err"));
    }
}

#[tokio::test]
async fn the_end_of_the_process_ends_the_attachment_with_success() {
    let attached = Attached::to(with_stdin("read line; echo got $line; exit 7")).await;
    let mut client = attached.client(all()).await;
    client.write("it\n").await;
    // kubernetes#63694: whatever the exit code was.
    assert_eq!(client.finish().await, ("got it\n".into(), exited(0)));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_the_process() {
    let attached = Attached::to(with_stdin("while read line; do echo got $line; done; echo over")).await;
    for _ in 0..3 {
        let mut client = attached.client(all()).await;
        client.write("x\n").await;
        client.out().wait_for("got x").await;
        drop(client);
        attached.served.report().await;
    }
    // Neither does the end of a client's input, and the answers to it still come.
    let mut client = attached.client(all()).await;
    client.write("y\n").await;
    client.close_stdin();
    client.out().wait_for("got y").await;
    assert!(attached.target.state().is_running());
}

#[tokio::test]
async fn with_stdin_once_the_end_of_a_clients_input_reaches_the_process() {
    let mut spec = with_stdin("cat; echo over");
    spec.stdin_once = true;
    let attached = Attached::to(spec).await;
    let mut client = attached.client(all()).await;
    client.write("text ").await;
    client.close_stdin();
    assert_eq!(client.finish().await, ("text over\n".into(), exited(0)));
}

#[tokio::test]
async fn input_for_a_process_without_stdin_is_taken_and_nothing_hangs() {
    let attached = Attached::to(spec("sleep 0.3; cat; echo over")).await;
    let mut client = attached.client(all()).await;
    soon("the input to be taken", async {
        for _ in 0..100 {
            client.write(&"x".repeat(32 * 1024)).await;
        }
    })
    .await;
    assert_eq!(client.finish().await, ("over\n".into(), exited(0)));
}

#[tokio::test]
async fn a_client_that_asks_for_no_output_is_attached_until_the_end() {
    let attached = Attached::to(with_stdin("read line; exit 1")).await;
    let mut client = attached.client(Request::default().stdin(true)).await;
    client.write("x\n").await;
    assert_eq!(client.outcome().await, exited(0));
}

/// Every byte reaches a client however slow it is: the process waits. The other client waits with it, the log never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_waits_for_its_slowest_client() {
    let lines = 200_000;
    let expected: String = (1..=lines).map(|number| format!("{number}\n")).collect();
    let mut spec =
        with_stdin(&format!("while read line && test $line != go; do echo $line; done; seq {lines}"));
    spec.history = 10_000;
    let attached = Attached::to(spec).await;
    let (mut slow, mut fast) = (attached.client(all()).await, attached.client(all()).await);
    // Who gets an answer is attached. Both have to be before it begins.
    slow.write("slow\n").await;
    slow.out().wait_for("slow\n").await;
    fast.write("fast\n").await;
    for client in [&mut slow, &mut fast] {
        client.out().wait_for("fast\n").await;
        client.out().seen.clear();
    }
    slow.write("go\n").await;
    let read = async {
        let mut text = String::new();
        while let Some(chunk) = soon("output", slow.out().chunk()).await {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        text
    };
    let (slow_text, fast_text) = tokio::join!(read, fast.out().rest());
    assert!(slow_text == expected, "{} of {}", slow_text.len(), expected.len());
    assert!(fast_text == expected, "{} of {}", fast_text.len(), expected.len());
    assert_eq!(slow.outcome().await, exited(0));
}

/// A client that reads nothing at all makes the process wait, but does not keep it from being stopped, nor from being
/// started again once it has exited.
#[tokio::test]
async fn a_client_that_reads_nothing_does_not_hold_up_the_end() {
    let attached = Attached::to(with_stdin("read go; exec yes")).await;
    let mut client = attached.client(all()).await;
    client.write("go\n").await;
    attached.logged("y").await;
    attached.stalled().await;
    soon("the stop", attached.target.stop(Duration::from_secs(5))).await;
    let ContainerState::Terminated(end) = attached.target.state() else { panic!() };
    assert_eq!(end.exit_code, 143);
    // What was written before is still there for it.
    let (text, outcome) = client.finish().await;
    assert!(text.len() > 1 << 18 && outcome == exited(0), "{} {outcome}", text.len());
}

#[tokio::test]
async fn a_terminal_is_shared_and_any_client_may_resize_it() {
    let script =
        "stty -echo; trap 'stty size' WINCH; echo ready; while :; do read line && echo got $line; done";
    let attached = Attached::to(with_terminal(script)).await;
    attached.logged("ready").await;
    let mut a = attached.client(terminal()).await;
    a.write("a\n").await;
    a.out().wait_for("got a\r\n").await;
    // As kubectl does: off by one, and then right, so that a full-screen program draws itself anew.
    a.resize(101, 51).await;
    a.out().wait_for("51 101\r\n").await;
    a.resize(100, 50).await;
    a.out().wait_for("50 100\r\n").await;
    let mut b = attached.client(terminal()).await;
    b.write("b\n").await;
    a.out().wait_for("got b\r\n").await;
    b.resize(101, 51).await;
    b.resize(100, 50).await;
    b.out().wait_for("50 100\r\n").await;
}

#[tokio::test]
async fn ctrl_c_reaches_the_main_process_and_leaving_hangs_up_nobody() {
    let script = "trap 'echo interrupted' INT; echo ready; while :; do sleep 0.05; done";
    let attached = Attached::to(with_terminal(script)).await;
    attached.logged("ready").await;
    let mut client = attached.client(terminal()).await;
    client.write("\x03").await;
    client.out().wait_for("interrupted").await;
    drop(client);
    attached.served.report().await;
    assert!(attached.target.state().is_running());
    let mut client = attached.client(terminal()).await;
    client.write("\x03").await;
    client.out().wait_for("interrupted").await;
}
