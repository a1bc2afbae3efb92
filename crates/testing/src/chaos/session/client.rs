//! The client of a session: ours, with readers and a feeder of their own.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use wsstream::Limits;
use wsstream::remotecommand::client::{self, OutputReader, Stdin};
use wsstream::remotecommand::{Outcome, Request};
use wsstream::transport::{Io, UnsentProbe};

use super::{CLIENT_ENDS, HANDSHAKE, Setting, finish};
use crate::chaos::content::Checker;
use crate::chaos::oracle::Claim;
use crate::chaos::script::{Departure, Script, Taking};
use crate::chaos::tls;

/// What a client was told, what came on stdout and stderr, and what else was wrong.
pub type Consumed = (Claim, Checker, Checker, Vec<String>);

pub(super) async fn consume(
    script: Script,
    io: impl Io + 'static,
    setting: Setting,
    unsent: UnsentProbe,
) -> Consumed {
    if setting.tls {
        match timeout(HANDSHAKE, tls::pair().0.connect(tls::name(), io)).await {
            Ok(Ok(io)) => consume_http(script, io, unsent).await,
            Ok(Err(error)) => lost(&script, error.to_string()),
            Err(_) => lost(&script, "no TLS".to_owned()),
        }
    } else {
        consume_http(script, io, unsent).await
    }
}

fn lost(script: &Script, why: String) -> Consumed {
    (Claim::Lost(why), script.checker(1), script.checker(2), Vec::new())
}

async fn consume_http(script: Script, io: impl Io + 'static, unsent: UnsentProbe) -> Consumed {
    let mut rng = SmallRng::seed_from_u64(script.seed ^ 1);
    let request = Request::command(["run"]).stdin(script.has_stdin()).stdout(true).stderr(true);
    let mut limits = Limits::default();
    if rng.random_bool(0.3) {
        limits.receive_buffer = 1 << rng.random_range(8..17);
    }
    let start = client::exec(request).protocols([script.protocol.clone()]).limits(limits);
    let endpoint = http::Uri::from_static("http://localhost/exec");
    let connected = if script.spdy {
        let start = start.spdy_protocols([script.protocol.clone()]).unsent_probe(Some(unsent));
        let request = start.spdy_request(&endpoint).expect("a short command");
        timeout(HANDSHAKE, start.connect_spdy(io, request)).await
    } else {
        timeout(HANDSHAKE, start.connect(io, start.request(&endpoint).expect("a short command"))).await
    };
    let process = match connected {
        Ok(Ok(process)) => process,
        Ok(Err(error)) => return lost(&script, error.to_string()),
        Err(_) => return lost(&script, "no upgrade".to_owned()),
    };
    converse(&script, process, rng.random()).await
}

/// Moves the streams of `process` as the script says and reports what came.
pub async fn converse(script: &Script, mut process: client::Process, seed: u64) -> Consumed {
    let leaves = match script.departure {
        Departure::Client(at) => Some(at.min(script.stdout_length())),
        _ => None,
    };
    let (leave, left) = oneshot::channel();
    let stdout = process.stdout.take().map(|reader| {
        tokio::spawn(read(reader, script.checker(1), script.taking, leaves.map(|at| (at, leave))))
    });
    let stderr = process
        .stderr
        .take()
        .map(|reader| tokio::spawn(read(reader, script.checker(2), Taking::Eager, None)));
    let stdin = process.stdin.take().map(|stdin| tokio::spawn(feed(script.clone(), stdin, seed)));
    let outcome = tokio::select! {
        outcome = process.wait() => Some(outcome),
        Ok(()) = left => None,
    };
    let mut wrongs = Vec::new();
    let mut checkers = Vec::new();
    for (task, channel) in [(stdout, 1), (stderr, 2)] {
        let Some(task) = task else { continue };
        match finish(task, CLIENT_ENDS / 4).await {
            Ok(checker) => checkers.push(checker),
            Err(why) => {
                wrongs.push(format!("the reader of channel {channel} never ended, or panicked: {why:?}"));
                checkers.push(script.checker(channel));
            }
        }
    }
    if let Some(task) = stdin
        && let Err(why) = finish(task, CLIENT_ENDS / 4).await
    {
        wrongs.push(format!("the feeder never ended, or panicked: {why:?}"));
    }
    let (Some(stderr), Some(stdout)) = (checkers.pop(), checkers.pop()) else {
        return (Claim::Hung, script.checker(1), script.checker(2), vec!["streams are missing".to_owned()]);
    };
    let claim = match outcome {
        None => Claim::Left,
        Some(Outcome::Exited(code)) => Claim::Exited(code.get()),
        Some(Outcome::Failed(status)) => Claim::Failed(status.message),
        Some(Outcome::Ended) => Claim::Ended,
        Some(Outcome::Lost(lost)) => {
            if (lost.stdout, lost.stderr) != (stdout.seen(), stderr.seen()) {
                wrongs.push(format!(
                    "a loss says that {} + {} bytes came, but {} + {} did",
                    lost.stdout,
                    lost.stderr,
                    stdout.seen(),
                    stderr.seen()
                ));
            }
            Claim::Lost(lost.to_string())
        }
        Some(other) => {
            wrongs.push(format!("an outcome that the judge does not know: {other}"));
            Claim::Lost(other.to_string())
        }
    };
    (claim, stdout, stderr, wrongs)
}

async fn read(
    mut reader: OutputReader,
    mut checker: Checker,
    taking: Taking,
    mut leaves: Option<(u64, oneshot::Sender<()>)>,
) -> Checker {
    let mut rested = false;
    loop {
        if leaves.as_ref().is_some_and(|(at, _)| checker.seen() >= *at)
            && let Some((_, leave)) = leaves.take()
        {
            let _ = leave.send(());
        }
        match reader.chunk().await {
            Ok(Some(chunk)) => checker.feed(&chunk),
            Ok(None) | Err(_) => return checker,
        }
        match taking {
            Taking::Eager => {}
            Taking::Slow(pause) => sleep(pause).await,
            Taking::Paused(pause) if !rested => {
                rested = true;
                sleep(pause).await;
            }
            Taking::Paused(_) => {}
        }
    }
}

async fn feed(script: Script, mut stdin: Stdin, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let content = script.content(0);
    let mut sent = 0;
    let mut stalled = script.stalled;
    while sent < script.stdin {
        if sent >= script.stdin / 2
            && let Some(rest) = stalled.take()
        {
            sleep(rest).await;
        }
        let most = (script.stdin - sent).min(if rng.random_bool(0.3) { 32 << 10 } else { 3000 });
        let length = rng.random_range(1..=most);
        if stdin.send(content.bytes(sent, length as usize).into()).await.is_err() {
            return;
        }
        sent += length;
    }
    // Before v5 it cannot be said.
    let _ = stdin.close();
}
