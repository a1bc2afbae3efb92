//! Runs one script through the library's own server and client over a wire with a plan.
//!
//! Client, server, readers and the feeder of stdin are tasks of their own, so that a lost wake-up shows as a hang. The
//! clock is meant to be paused: then a session with minutes of stalls takes microseconds.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};
use wsstream::Limits;
use wsstream::remotecommand::client::OutputReader;
use wsstream::remotecommand::client::{self, Stdin};
use wsstream::remotecommand::server::{Exec, Options};
use wsstream::remotecommand::{ExitCode, Failure, Outcome, Request, Streams};
use wsstream::transport::{Io, UnsentProbe};
use wsstream_proto::status::Status;

use super::content::Checker;
use super::link::{Record, Recorder, link};
use super::oracle::{Claim, Seen, Verdict, judge};
use super::plan::Plan;
use super::script::{Departure, FAILURE, Finish, Input, PANIC, Script, Taking};
use super::tls;

/// How long a client waits for the upgrade before it gives up, as any application does.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(120);

/// How long a server waits for the head of the request, which no server does without: when the wire loses the end of a
/// client that has left, nothing else would tell.
const HEAD: Duration = Duration::from_secs(120);

/// Within this, every client has come to an end: more than the longest sum of deadlines of the library and the wire.
pub(super) const CLIENT_ENDS: Duration = Duration::from_secs(2 * 60 * 60);

/// And the server, whose idle timeout is 4 hours.
pub(super) const SERVER_ENDS: Duration = Duration::from_secs(6 * 60 * 60);

/// How a session is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// TLS between client and server.
    pub tls: bool,
    /// Bytes that the wire holds each way.
    pub capacity: usize,
}

impl Default for Setting {
    fn default() -> Self {
        Self { tls: false, capacity: 64 << 10 }
    }
}

/// What one run gave.
#[derive(Debug)]
pub struct Run<C = Claim> {
    /// The judgement.
    pub verdict: Verdict,
    /// What the client was told.
    pub claim: C,
    /// What went over the wire.
    pub record: Record,
    /// Payload bytes that the client checked.
    pub bytes: u64,
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Keeps scripted panics quiet and counts the others, on the thread that they happen on.
pub(super) fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
                PANICS.with(|panics| panics.set(panics.get() + 1));
                before(info);
            }
        }));
    });
}

/// Panics on this thread that no script asked for.
pub(super) fn panics() -> u32 {
    PANICS.with(Cell::get)
}

/// What the server's side has seen.
#[derive(Debug)]
pub(super) struct Served {
    stdin: Checker,
    /// stdin came to an end in good order.
    clean_end: bool,
    wrongs: Vec<String>,
}

impl Served {
    pub(super) fn new(script: &Script) -> Self {
        Self { stdin: script.checker(0), clean_end: false, wrongs: Vec::new() }
    }

    pub(super) fn wrongs(&self) -> Vec<String> {
        let mut wrongs = self.wrongs.clone();
        if let Some(at) = self.stdin.wrong() {
            wrongs.push(format!("the command read other bytes than were sent, from {at} on"));
        }
        if self.clean_end && !self.stdin.is_complete() {
            wrongs.push(format!("the command saw a clean end of input after {}", self.stdin));
        }
        wrongs
    }
}

/// Runs `script` over a wire with `plan`. Wants a runtime of one thread, and nothing else running on it.
pub async fn run(script: &Script, plan: &Plan, setting: Setting) -> Run {
    watch_panics();
    let panicked = panics();
    let (client_io, server_io) = link(plan, setting.capacity);
    let recorder = client_io.recorder();
    let served = Arc::new(Mutex::new(Served::new(script)));
    let server =
        tokio::spawn(serve(script.clone(), server_io, Arc::clone(&served), setting, recorder.unsent()));
    let client = tokio::spawn(consume(script.clone(), client_io, setting, recorder.unsent_by_client()));

    let mut wrongs = Vec::new();
    let (claim, stdout, stderr) = match finish(client, CLIENT_ENDS).await {
        Ok((claim, stdout, stderr, more)) => {
            wrongs.extend(more);
            (claim, stdout, stderr)
        }
        Err(None) => (Claim::Hung, script.checker(1), script.checker(2)),
        Err(Some(error)) => {
            wrongs.push(format!("the client panicked: {error}"));
            (Claim::Lost(String::new()), script.checker(1), script.checker(2))
        }
    };
    let delivered = match finish(server, SERVER_ENDS).await {
        Ok(delivered) => delivered,
        Err(None) => {
            wrongs.push("the server never ended".to_owned());
            false
        }
        Err(Some(error)) => {
            wrongs.push(format!("the server panicked: {error}"));
            false
        }
    };
    let record = recorder.record();
    wrongs.extend(settle(&recorder, panicked).await);
    wrongs.extend(served.lock().unwrap_or_else(PoisonError::into_inner).wrongs());
    if matches!(script.departure, Departure::Server(_)) && matches!(claim, Claim::Exited(_) | Claim::Ended) {
        wrongs.push(format!("the server left in the middle, yet {claim:?}"));
    }
    let harmless = is_harmless(plan) && script.departure == Departure::None;
    let told = matches!(claim, Claim::Exited(_) | Claim::Ended | Claim::Failed(_));
    if told && !delivered && record.fired == 0 && script.departure == Departure::None {
        wrongs.push("the client was told, yet the server says that it was not".to_owned());
    }
    let left = script.departure != Departure::None;
    let hung = claim == Claim::Hung;
    let seen = Seen {
        claim,
        fired: record.fired.max(u32::from(left)),
        harmless,
        // SPDY has no answer that a peer owes: a TLS record that never becomes whole holds a session until the idle
        // timeout, which is longer than the client is waited for here.
        blind: plan.flips() && (!setting.tls || (script.spdy && hung)),
        stdout,
        stderr,
        wrongs,
    };
    let bytes = seen.stdout.seen() + seen.stderr.seen();
    Run { verdict: judge(script, &seen), claim: seen.claim, record, bytes }
}

/// What a session has left behind, and panics since there were `panicked`.
pub(super) async fn settle(recorder: &Recorder, panicked: u32) -> Vec<String> {
    // Aborted tasks are dropped by the runtime when it next runs.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    let mut wrongs = Vec::new();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    if tasks > 0 || recorder.ends() > 0 {
        wrongs.push(format!("left behind: {tasks} tasks, {} ends of the wire", recorder.ends()));
    }
    let unmeant = panics() - panicked;
    if unmeant > 0 {
        wrongs.push(format!("{unmeant} panics"));
    }
    wrongs
}

/// A stall that is shorter than every deadline breaks nothing.
pub(super) fn is_harmless(plan: &Plan) -> bool {
    use super::plan::Fault;
    let short = |fault: &Fault| matches!(fault, Fault::Stall(Some(time)) if *time < Duration::from_secs(8));
    plan.faults.iter().all(|(_, _, fault)| short(fault))
}

/// `Err(None)`: it did not end and was aborted.
pub(super) async fn finish<T>(mut task: JoinHandle<T>, within: Duration) -> Result<T, Option<JoinError>> {
    match timeout(within, &mut task).await {
        Ok(result) => result.map_err(Some),
        Err(_) => {
            task.abort();
            Err(None)
        }
    }
}

// ---- the server ----

/// Serves one connection; tells whether the result was delivered.
async fn serve(
    script: Script,
    io: impl Io + 'static,
    served: Arc<Mutex<Served>>,
    setting: Setting,
    unsent: UnsentProbe,
) -> bool {
    if setting.tls {
        match timeout(HANDSHAKE, tls::pair().1.accept(io)).await {
            Ok(Ok(io)) => serve_http(script, io, served, unsent).await,
            _ => false,
        }
    } else {
        serve_http(script, io, served, unsent).await
    }
}

async fn serve_http(
    script: Script,
    io: impl Io + 'static,
    served: Arc<Mutex<Served>>,
    unsent: UnsentProbe,
) -> bool {
    let (hand_over, taken) = oneshot::channel();
    let mut hand_over = Some(hand_over);
    let http = http(io, move |request| match Exec::accept(request) {
        Ok(session) => {
            let response = session.response().map(|()| String::new());
            if let Some(hand_over) = hand_over.take() {
                let _ = hand_over.send(session);
            }
            response
        }
        Err(rejection) => rejection.into_response(),
    });
    let session = async {
        let Ok(session) = taken.await else { return false };
        let mut options = Options::default();
        options.unsent_probe = Some(unsent);
        let (leave, left) = oneshot::channel();
        let leave = Mutex::new(Some(leave));
        let handler = |_request: Request, streams: Streams| {
            let leave = leave.lock().unwrap_or_else(PoisonError::into_inner).take();
            command(script.clone(), streams, Arc::clone(&served), leave)
        };
        tokio::select! {
            report = session.options(options).serve(handler) => report.delivered(),
            Ok(()) = left => false,
        }
    };
    tokio::join!(http, session).1
}

/// Answers the requests of one connection until it is over or handed over.
pub(super) async fn http(
    io: impl Io + 'static,
    answer: impl FnMut(&mut hyper::Request<Incoming>) -> http::Response<String>,
) {
    let answer = Mutex::new(answer);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        let response = (*answer)(&mut request).map(Full::<Bytes>::from);
        async { Ok::<_, Infallible>(response) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
}

/// The command.
pub(super) async fn command(
    script: Script,
    mut streams: Streams,
    served: Arc<Mutex<Served>>,
    leave: Option<oneshot::Sender<()>>,
) -> Result<ExitCode, Failure> {
    let mut rng = SmallRng::seed_from_u64(script.seed);
    let result = match script.input {
        Input::Echo => echo(&script, &mut streams, &served, leave).await,
        Input::None | Input::Flood => print(&script, &mut streams, &mut rng, leave).await,
    };
    result.map_err(Failure::internal)?;
    match script.finish {
        Finish::Exit(code) => Ok(ExitCode(code)),
        Finish::Failure => Err(Failure::status(Status::internal(FAILURE))),
        Finish::Panic => std::panic::panic_any(PANIC),
    }
}

async fn echo(
    script: &Script,
    streams: &mut Streams,
    served: &Mutex<Served>,
    mut leave: Option<oneshot::Sender<()>>,
) -> std::io::Result<()> {
    let (Some(stdin), Some(stdout)) = (&mut streams.stdin, &mut streams.stdout) else {
        served.lock().unwrap_or_else(PoisonError::into_inner).wrongs.push("streams are missing".to_owned());
        return Ok(());
    };
    // Before v5 nothing says that the input is over: such a command must know how much it wants.
    let counts = !script.half_close();
    let mut left = script.stdin;
    loop {
        if matches!(script.departure, Departure::Server(at) if script.stdin - left >= at.min(script.stdin)) {
            leave.take().map(|leave| leave.send(()));
            return std::future::pending().await;
        }
        if left == 0 && counts {
            break;
        }
        match stdin.chunk().await? {
            Some(chunk) => {
                served.lock().unwrap_or_else(PoisonError::into_inner).stdin.feed(&chunk);
                left = left.saturating_sub(chunk.len() as u64);
                stdout.send(chunk).await?;
            }
            None => {
                served.lock().unwrap_or_else(PoisonError::into_inner).clean_end = true;
                break;
            }
        }
    }
    if let Some(stderr) = &mut streams.stderr {
        let content = script.content(2).bytes(0, script.stderr as usize);
        stderr.send(content.into()).await?;
    }
    Ok(())
}

async fn print(
    script: &Script,
    streams: &mut Streams,
    rng: &mut SmallRng,
    leave: Option<oneshot::Sender<()>>,
) -> std::io::Result<()> {
    let mut sent = [0, 0];
    let total = [script.stdout, script.stderr];
    let leaves = match script.departure {
        Departure::Server(at) => Some(at),
        _ => None,
    };
    loop {
        if leaves.is_some_and(|at| sent[0] >= at.min(script.stdout)) {
            if let Some(leave) = leave {
                let _ = leave.send(());
            }
            return std::future::pending().await;
        }
        let open: Vec<usize> = (0..2).filter(|i| sent[*i] < total[*i]).collect();
        let Some(&which) = open.get(rng.random_range(0..open.len().max(1))) else { return Ok(()) };
        let most = (total[which] - sent[which]).min(if rng.random_bool(0.3) { 32 << 10 } else { 2000 });
        let length = rng.random_range(1..=most);
        let content = script.content(which as u8 + 1).bytes(sent[which], length as usize);
        let output = if which == 0 { &mut streams.stdout } else { &mut streams.stderr };
        if let Some(output) = output {
            output.send(content.into()).await?;
        }
        sent[which] += length;
    }
}

// ---- the client ----

/// What a client was told, what came on stdout and stderr, and what else was wrong.
pub type Consumed = (Claim, Checker, Checker, Vec<String>);

async fn consume(script: Script, io: impl Io + 'static, setting: Setting, unsent: UnsentProbe) -> Consumed {
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
