//! A target behind a real socket, and the small things that tests of targets share.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body_util::Empty;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
};
use wsstream::{
    bytes::Bytes,
    remotecommand::client::OutputReader,
    remotecommand::{
        ExitCode, Failure, Outcome, Request, Streams,
        client::{self, Process, Stdin},
        server,
    },
};
use wsstream_server::target::{Ending, HostTarget, Keeper, SessionOptions, Target};

/// Long enough for a busy machine; a test that needs it has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for an event that must come.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for: {what}"),
    }
}

/// Polls for a condition that has no event.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Serves one target: paths that end in `attach` attach, all others exec.
pub struct Served {
    pub address: SocketAddr,
    /// The sessions, so that a test can drop them.
    pub sessions: Arc<Mutex<JoinSet<server::Report>>>,
    _listening: tokio_util::task::AbortOnDropHandle<()>,
}

impl Served {
    pub async fn new(target: Arc<dyn Target>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sessions = Arc::new(Mutex::new(JoinSet::new()));
        let shared = Arc::clone(&sessions);
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (target, sessions) = (Arc::clone(&target), Arc::clone(&shared));
                connections.spawn(async move {
                    let service = service_fn(|request| answer(request, &target, &sessions));
                    let http = hyper::server::conn::http1::Builder::new();
                    http.serve_connection(TokioIo::new(stream), service).with_upgrades().await.ok();
                });
            }
        });
        Self { address, sessions, _listening: tokio_util::task::AbortOnDropHandle::new(listening) }
    }

    /// This machine with default options.
    pub async fn host() -> Self {
        Self::host_with(SessionOptions::default()).await
    }

    pub async fn host_with(options: SessionOptions) -> Self {
        Self::new(Arc::new(HostTarget::new("host", "host", options))).await
    }

    async fn start(&self, start: client::Start, verb: &str) -> Process {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let endpoint = format!("http://localhost/{verb}").parse().unwrap();
        start.connect(stream, start.request(&endpoint).unwrap()).await.unwrap()
    }

    pub async fn exec(&self, request: Request) -> Process {
        self.start(client::exec(request), "exec").await
    }

    pub async fn attach(&self, request: Request) -> Process {
        self.start(client::attach(request), "attach").await
    }

    /// Runs a script without input and collects its output.
    pub async fn sh(&self, script: &str) -> client::Collected {
        let request = sh(script).stdout(true).stderr(true);
        soon("the end of the script", async { self.exec(request).await.output().await }).await
    }

    /// The report of the next session that ends.
    pub async fn report(&self) -> server::Report {
        soon("a session's end", async {
            loop {
                let ended = self.sessions.lock().await.try_join_next();
                match ended {
                    Some(report) => return report.unwrap(),
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await
    }
}

async fn answer(
    mut request: hyper::Request<Incoming>,
    target: &Arc<dyn Target>,
    sessions: &Mutex<JoinSet<server::Report>>,
) -> Result<hyper::Response<Empty<Bytes>>, Infallible> {
    let target = Arc::clone(target);
    let response = if request.uri().path().ends_with("attach") {
        let attach = server::Attach::accept(&mut request).unwrap();
        let response = attach.response();
        let attacher = move |request, streams| attach_to(Arc::clone(&target), request, streams);
        sessions.lock().await.spawn(attach.serve(attacher));
        response
    } else {
        let exec = server::Exec::accept(&mut request).unwrap();
        let response = exec.response();
        let executor = move |request, streams| exec_in(Arc::clone(&target), request, streams);
        sessions.lock().await.spawn(exec.serve(executor));
        response
    };
    Ok(response.map(|()| Empty::new()))
}

async fn exec_in(target: Arc<dyn Target>, request: Request, streams: Streams) -> Result<ExitCode, Failure> {
    target.exec(request, streams, Ending::never()).await
}

async fn attach_to(target: Arc<dyn Target>, request: Request, streams: Streams) -> Result<(), Failure> {
    target.attach(request, streams).await
}

pub fn sh(script: &str) -> Request {
    Request::command(["sh", "-c", script])
}

/// A client's ends, with the session driven in a task; drop it to cut the connection.
pub struct Client {
    pub stdin: Option<Stdin>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub resize: Option<client::ResizeSender>,
    wait: tokio_util::task::AbortOnDropHandle<Outcome>,
}

impl Client {
    pub fn of(mut process: Process) -> Self {
        let (stdin, resize) = (process.stdin.take(), process.resize.take());
        let (stdout, stderr) =
            (process.stdout.take().map(Output::new), process.stderr.take().map(Output::new));
        let wait = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(process.wait()));
        Self { stdin, stdout, stderr, resize, wait }
    }

    pub async fn write(&mut self, text: &str) {
        let data = Bytes::copy_from_slice(text.as_bytes());
        self.stdin.as_mut().unwrap().send(data).await.unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin.as_mut().unwrap().close().unwrap();
    }

    pub fn out(&mut self) -> &mut Output {
        self.stdout.as_mut().unwrap()
    }

    pub async fn resize(&mut self, width: u16, height: u16) {
        let size = wsstream::remotecommand::TerminalSize::new(width, height).unwrap();
        self.resize.as_mut().unwrap().send(size).await.unwrap();
    }

    /// How the session ended.
    pub async fn outcome(self) -> Outcome {
        soon("the outcome", self.wait).await.unwrap()
    }

    /// The rest of stdout, and how the session ended.
    pub async fn finish(mut self) -> (String, Outcome) {
        let rest = soon("the rest of the output", self.out().rest()).await;
        (rest, self.outcome().await)
    }
}

/// One output, read as text.
pub struct Output {
    reader: OutputReader,
    pub seen: String,
}

impl Output {
    fn new(reader: OutputReader) -> Self {
        Self { reader, seen: String::new() }
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        self.reader.chunk().await.unwrap()
    }

    /// Reads until the text is there.
    pub async fn wait_for(&mut self, text: &str) {
        let read = async {
            while !self.seen.contains(text) {
                let Some(chunk) = self.reader.chunk().await.unwrap() else { return false };
                self.seen.push_str(&String::from_utf8_lossy(&chunk));
            }
            true
        };
        match tokio::time::timeout(DEADLINE, read).await {
            Ok(true) => {}
            _ => panic!("{text:?} did not come; there was {:?}", self.seen),
        }
    }

    /// All that was seen so far and all that is still to come.
    pub async fn rest(&mut self) -> String {
        while let Some(chunk) = self.reader.chunk().await.unwrap() {
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        std::mem::take(&mut self.seen)
    }
}

/// Commands of this test run below a keeper: this program, as [`keep_when_told_to`] makes it one.
pub fn keeper() -> Keeper {
    Keeper::this_program([AS_KEEPER])
}

/// The same from a program that has threads and cannot be forked.
pub fn keeper_with_threads() -> Keeper {
    Keeper::this_program([AS_KEEPER, WITH_THREADS])
}

const AS_KEEPER: &str = "as-keeper";
const WITH_THREADS: &str = "with-threads";

/// To be called first in `main`.
pub fn keep_when_told_to() -> Option<std::process::ExitCode> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == WITH_THREADS) {
        std::thread::spawn(std::thread::park);
    }
    words.iter().any(|word| word == AS_KEEPER).then(Keeper::run)
}

pub fn exited(code: u8) -> Outcome {
    Outcome::Exited(ExitCode(code))
}

pub fn failure(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(status) => &status.message,
        other => panic!("no failure: {other}"),
    }
}

/// A word that no other process of this machine has in its arguments: `sleep 1000.<mark>` can be found again.
pub fn mark() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    format!("1000.{}{nanos:09}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How many live processes have exactly this argument.
pub fn alive(mark: &str) -> usize {
    marked(mark).len()
}

/// Ends the processes that have exactly this argument.
pub fn end(mark: &str) {
    for pid in marked(mark) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

fn marked(mark: &str) -> Vec<rustix::process::Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let found = processes.filter_map(|entry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
        let marked = arguments.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes());
        marked.then(|| entry.file_name().to_str()?.parse().ok())?
    });
    found.filter_map(rustix::process::Pid::from_raw).collect()
}

/// Children of this process that have ended and were not waited for.
pub fn zombies() -> Vec<String> {
    let me = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
            fields.next() == Some("Z") && fields.next() == Some(me.as_str())
        })
        .collect()
}
