//! Commands on this machine over a real connection, without a terminal.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod target_support;

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use target_support::*;
use wsstream::{bytes::Bytes, remotecommand::Request};
use wsstream_server::target::{CommandOptions, SessionOptions};

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn stdout_and_stderr_stay_apart() {
    let got = Served::host().await.sh("echo out; echo err >&2; echo out2; exit 7").await;
    assert_eq!((&got.stdout[..], &got.stderr[..]), (&b"out\nout2\n"[..], &b"err\n"[..]));
    assert_eq!(got.outcome, exited(7));
}

#[tokio::test]
async fn exit_codes_arrive_and_a_signal_counts_from_128() {
    let host = Served::host().await;
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)]
    {
        assert_eq!(host.sh(script).await.outcome, exited(code), "{script}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_start_names_the_cause() {
    let host = Served::host().await;
    for (argv, cause) in [
        ("nosuch", r#"exec: "nosuch": executable file not found in $PATH"#),
        ("/no/such", r#"exec: "/no/such": stat /no/such: no such file or directory"#),
        ("/etc", r#"exec: "/etc": permission denied"#),
    ] {
        for tty in [false, true] {
            let request = Request::command([argv]).stdout(true).tty(tty);
            let got = host.exec(request).await.output().await;
            let expected = format!("Internal error occurred: error executing command in container: {cause}");
            assert_eq!(failure(&got.outcome), expected);
        }
    }
}

/// The client chooses the program's name: it must not be able to write lines into the server's log.
#[tokio::test]
async fn a_name_with_a_newline_forges_no_log_line() {
    let log = Log::default();
    let _capture = tracing::subscriber::set_default(log.clone());
    let host = Served::host().await;
    for name in ["/no\nWARN forged", "no\r\nWARN forged", "/etc/\u{1b}[2J"] {
        let got = host.exec(Request::command([name]).stdout(true)).await.output().await;
        assert!(!failure(&got.outcome).contains(char::is_control), "{got:?}");
    }
    let events = log.0.lock().unwrap();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(!events.iter().any(|event| event.contains(char::is_control)), "{events:?}");
}

/// The events of failed commands, with their fields as a plain text log prints them.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "wsstream_server::target::session"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line<'a>(&'a mut String);
        impl tracing::field::Visit for Line<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {}={value:?}", field.name()).unwrap();
            }
        }
        let mut line = event.metadata().level().to_string();
        event.record(&mut Line(&mut line));
        self.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn the_options_decide_where_and_with_what_a_command_runs() {
    let mut command = CommandOptions::default();
    command.env = vec![("GREETING".into(), "hello".into())];
    command.cwd = Some("/usr".into());
    let mut options = SessionOptions::default();
    options.command = command;
    let got = Served::host_with(options).await.sh("pwd; echo $GREETING; test -n \"$PATH\"").await;
    assert_eq!(got.stdout, "/usr\nhello\n");
    assert_eq!(got.outcome, exited(0));
}

#[tokio::test]
async fn stdin_that_was_not_asked_for_is_the_null_device() {
    let host = Served::host().await;
    let got = host.sh("readlink /proc/self/fd/0; cat").await;
    assert_eq!((got.stdout, got.outcome), ("/dev/null\n".into(), exited(0)));
    let request = sh("x=$(readlink /proc/$$/fd/1); echo $x >&2").stderr(true);
    assert_eq!(host.exec(request).await.output().await.stderr, "/dev/null\n");
}

/// A terminal whose controlling side is open in some other command can never be hung up.
#[tokio::test]
async fn a_command_gets_no_descriptors_of_other_sessions() {
    let host = Served::host().await;
    // Whatever this process was itself started with is inherited by all.
    let plain = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout;
    let mut other = Client::of(host.exec(Request::command(["cat"]).stdin(true).stdout(true).tty(true)).await);
    other.write("x\n").await;
    other.out().wait_for("x").await;
    let request = Request::command(["ls", "/proc/self/fd"]).stdin(true).stdout(true).stderr(true);
    assert_eq!(host.exec(request).await.output().await.stdout, plain);
}

#[tokio::test]
async fn input_arrives_whole_whatever_its_size() {
    let host = Served::host().await;
    for size in [0, 1, 32 * 1024 + 1, 24 << 20] {
        let input: Bytes = (0..size).map(|i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let expected = format!("{}  -\n", hex(Sha256::digest(&input)));
        let request = Request::command(["sha256sum"]).stdin(true).stdout(true);
        let got = soon("the hash", async { host.exec(request).await.output_with(input).await }).await;
        assert_eq!((got.stdout, got.outcome), (expected.into(), exited(0)), "{size} bytes");
    }
}

/// kubernetes#124571, kubernetes#60140: the tail was lost when the reader was slower than the writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_all_64_mib_and_the_exit_code() {
    const SIZE: usize = 64 << 20;
    let host = Served::host().await;
    let script = "mkfifo $D/p; sha256sum < $D/p >&2 & head -c 67108864 /dev/urandom | tee $D/p; wait; exit 3";
    let dir = tempfile::tempdir().unwrap();
    let script = format!("D={}; {script}", dir.path().display());
    let mut client = Client::of(host.exec(sh(&script).stdout(true).stderr(true)).await);
    let (mut hash, mut size, mut paused) = (Sha256::new(), 0, 0);
    while let Some(chunk) = soon("output", client.out().chunk()).await {
        hash.update(&chunk);
        size += chunk.len();
        // Ten rests, each long enough for every buffer on the way to fill up.
        if size / (SIZE / 10) > paused {
            paused += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(size, SIZE);
    let stderr = client.stderr.as_mut().unwrap().rest().await;
    assert_eq!(stderr, format!("{}  -\n", hex(hash.finalize())));
    assert_eq!(client.outcome().await, exited(3));
}

#[tokio::test]
async fn a_command_that_exits_while_input_floods_in_returns_its_code() {
    let host = Served::host().await;
    let request = sh("head -c 10 >/dev/null; echo enough; exit 5").stdin(true).stdout(true);
    let input = Bytes::from(vec![b'x'; 16 << 20]);
    let got = soon("the end", async { host.exec(request).await.output_with(input).await }).await;
    assert_eq!((got.stdout, got.outcome), ("enough\n".into(), exited(5)));
}

/// containerd#13934 and its mirror image: one stream that closes must not touch the others.
#[tokio::test]
async fn a_command_that_closes_its_stdin_goes_on() {
    let host = Served::host().await;
    let mut client = Client::of(
        host.exec(sh("exec <&-; echo closed; sleep 0.3; echo more").stdin(true).stdout(true)).await,
    );
    client.out().wait_for("closed").await;
    // Far more than any buffer on the way holds: it must be taken all the same.
    soon("the input to be taken", async {
        for _ in 0..64 {
            client.write(&"x".repeat(32 * 1024)).await;
        }
    })
    .await;
    client.close_stdin();
    assert_eq!(client.finish().await, ("closed\nmore\n".into(), exited(0)));
}

#[tokio::test]
async fn a_command_that_closes_its_stdout_still_gets_its_input() {
    let host = Served::host().await;
    let script = "exec >&-; echo ready >&2; cat >&2; exit 4";
    let mut client = Client::of(host.exec(sh(script).stdin(true).stdout(true).stderr(true)).await);
    client.stderr.as_mut().unwrap().wait_for("ready").await;
    client.write("late").await;
    client.close_stdin();
    client.stderr.as_mut().unwrap().wait_for("late").await;
    assert_eq!(client.outcome().await, exited(4));
}

#[tokio::test]
async fn a_background_process_that_keeps_the_pipes_delays_the_end_by_the_grace_only() {
    let mark = mark();
    let started = Instant::now();
    let got = Served::host().await.sh(&format!("sleep {mark} & echo done; exit 6")).await;
    assert_eq!((got.stdout, got.outcome), ("done\n".into(), exited(6)));
    let took = started.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(15)).contains(&took), "{took:?}");
    assert_eq!(alive(&mark), 1, "it was not the command's end that should end it");
    end(&mark);
}

#[tokio::test]
async fn the_last_words_of_a_helper_that_outlives_the_command_arrive() {
    let got = Served::host().await.sh("(sleep 0.5; echo late) & echo early").await;
    assert_eq!((got.stdout, got.outcome), ("early\nlate\n".into(), exited(0)));
}
