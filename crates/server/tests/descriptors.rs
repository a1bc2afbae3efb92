//! Descriptors run out and come back. A program of its own, because the limit is the process's.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server_support::{Running, host_pod, soon};
use tokio::net::TcpStream;
use wsstream::remotecommand::{ExitCode, Outcome, Request as Command};
use wsstream_server::Pods;

const EXEC: &str = "/api/v1/namespaces/default/pods/host/exec";

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn run_true(server: &Running) {
    let process = server.start(EXEC, None, Command::command(["true"]).stdout(true).stdin(true)).await;
    assert_eq!(soon("the end", process.output()).await.outcome, Outcome::Exited(ExitCode(0)));
}

/// One test, so that nothing else opens descriptors meanwhile.
#[tokio::test]
async fn descriptors_are_given_back_and_a_shortage_of_them_passes() {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let server = Running::new(pods).await;

    for _ in 0..20 {
        run_true(&server).await;
    }
    // Sessions that the client has seen the end of may take the server a moment longer.
    soon("the sessions to end", async {
        while server.api.sessions().running() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = open_descriptors();
    for _ in 0..1000 {
        run_true(&server).await;
    }
    soon("descriptors and tasks to be as before", async {
        while open_descriptors() > before
            || tokio::runtime::Handle::current().metrics().num_alive_tasks() > tasks
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;

    let limit = getrlimit(Resource::Nofile);
    let few = u64::try_from(open_descriptors()).unwrap() + 40;
    setrlimit(Resource::Nofile, Rlimit { current: Some(few), ..limit }).unwrap();
    let mut held = Vec::new();
    let error = loop {
        match TcpStream::connect(server.address).await {
            Ok(stream) => held.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
    assert!(held.len() >= 10, "{}", held.len());
    drop(held);
    // The server is in the same shortage; it goes on when there are descriptors again.
    run_true(&server).await;
    setrlimit(Resource::Nofile, limit).unwrap();
}
