//! Everybody who wants more than there is: sessions at ten times what may run and what may begin, messages and heads of ten
//! times their size, and connections that send nothing.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    limits,
    server::{PODS, Server, head},
};

/// Parts of the time, each for one limit.
const PARTS: usize = 5;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) let_in: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    /// Neither of them.
    pub(super) odd: u64,
    pub(super) example: String,
    /// Messages and heads that were too large, and those of them that were refused.
    pub(super) oversized: u64,
    pub(super) closed: u64,
    /// Connections that asked for nothing.
    pub(super) idlers: u64,
    /// From the request to the answer, in milliseconds.
    answers: Vec<f64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.let_in += other.let_in;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.odd += other.odd;
        if self.example.is_empty() {
            self.example = other.example;
        }
        self.oversized += other.oversized;
        self.closed += other.closed;
        self.idlers += other.idlers;
        self.answers.extend(other.answers);
    }

    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.answers.clone();
        sorted.sort_by(f64::total_cmp);
        let at = sorted.len() * percent / 100;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn odd(answer: impl Into<String>) -> Self {
        Self { odd: 1, example: answer.into(), ..Self::default() }
    }
}

/// A server that does not answer for this long has not.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs all of it for so long: sessions, messages and heads for four fifths of the time, and then connections. Not at once:
/// while those that ask for nothing have all places, who asks waits for one, which is what that limit is.
pub(super) async fn run(server: &Server, time: Duration) -> Tally {
    let stop = Arc::new(AtomicBool::new(false));
    let server = Arc::new(Requests::of(server));
    let mut parts = JoinSet::new();
    // Ten times the sessions that may run at once, each asking again: what is let in stays for a while. Together they ask for
    // ten times as many in a second as may begin.
    let workers = limits::SESSIONS * limits::TIMES;
    let every = Duration::from_secs_f64(workers as f64 / (limits::RATE * limits::TIMES) as f64);
    let part = Arc::new(AtomicUsize::new(0));
    for worker in 0..workers {
        parts.spawn(sessions(Arc::clone(&server), worker, every, Arc::clone(&part), Arc::clone(&stop)));
    }
    parts.spawn(oversized(Arc::clone(&server), Arc::clone(&stop)));
    for number in 0..PARTS {
        part.store(number, Ordering::Relaxed);
        sleep(time.mul_f64(0.8 / PARTS as f64)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut tally = Tally::default();
    while let Some(part) = parts.join_next().await {
        tally.add(part.unwrap_or_else(|error| Tally::odd(error.to_string())));
    }
    tally.add(idlers(&server, time / 5).await);
    tally
}

/// The heads that are sent, made once.
struct Requests {
    address: std::net::SocketAddr,
    /// WebSocket and SPDY by turns, of whom and to where as one limit wants it in each part of the time.
    heads: [Vec<String>; PARTS],
    /// With an input.
    fed: String,
    huge: String,
}

impl Requests {
    fn of(server: &Server) -> Self {
        // What ends at once is bounded by the rates, of one user and of all; what stays by the counts: of one user, in one
        // place, in all.
        let long: &[&str] = &["sleep", "3"];
        let parts: [(&[usize], &[&str], &[&str]); PARTS] = [
            (&[1], &PODS, &["true"]),
            (&[0, 1], &PODS, &["true"]),
            (&[1], &PODS, long),
            (&[0, 1], &[PODS[1]], long),
            (&[0, 1], &PODS, long),
        ];
        let heads = parts.map(|(users, pods, command)| {
            let pairs = users.iter().flat_map(|who| pods.iter().map(move |pod| (*who, *pod)));
            let both = |(who, pod)| [false, true].map(|spdy| server.upgrade(who, pod, command, "", spdy));
            pairs.flat_map(both).collect()
        });
        let fed = server.upgrade(0, PODS[0], &["cat"], "&stdin=true", false);
        let word = "x".repeat(limits::HEAD * limits::TIMES);
        Self {
            address: server.address,
            heads,
            fed,
            huge: server.upgrade(1, PODS[1], &["true", &word], "", false),
        }
    }
}

/// Asks for a session again and again.
async fn sessions(
    server: Arc<Requests>,
    worker: usize,
    every: Duration,
    part: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Tally {
    let mut tally = Tally::default();
    // Not all at once at first.
    sleep(every.mul_f64((worker % 97) as f64 / 97.0)).await;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = worker;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        turn += 1;
        let heads = server.heads.get(part.load(Ordering::Relaxed)).map_or(&[][..], Vec::as_slice);
        let Some(request) = heads.get(turn % heads.len().max(1)) else { break };
        tally.add(session(&server, request, turn).await);
    }
    tally
}

async fn session(server: &Requests, request: &str, turn: usize) -> Tally {
    let began = Instant::now();
    let asked = async {
        let mut io = TcpStream::connect(server.address).await?;
        io.write_all(request.as_bytes()).await?;
        let head = head(&mut io).await?;
        io::Result::Ok((io, head))
    };
    let (mut io, head) = match timeout(PATIENCE, asked).await {
        Ok(Ok(answered)) => answered,
        _ => return Tally { unanswered: 1, ..Tally::default() },
    };
    let answers = vec![began.elapsed().as_secs_f64() * 1000.0];
    if head.starts_with("HTTP/1.1 429") {
        let said = head.to_ascii_lowercase().contains("\r\nretry-after: ");
        return if said { Tally { refused: 1, answers, ..Tally::default() } } else { Tally::odd(head) };
    }
    if !head.starts_with("HTTP/1.1 101") {
        return Tally::odd(head);
    }
    // Some wait for the end, and some vanish.
    if turn.is_multiple_of(2) {
        let mut rest = [0; 4096];
        let end =
            async { while io.read(&mut rest).await.is_ok_and(|n| n > 0 && !rest.starts_with(b"\x88")) {} };
        let _ = timeout(Duration::from_secs(4), end).await;
    }
    Tally { let_in: 1, answers, ..Tally::default() }
}

/// Sends messages and heads of ten times their limit, one after the other.
async fn oversized(server: Arc<Requests>, stop: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        for refused in [message(&server).await, huge_head(&server).await].into_iter().flatten() {
            tally.oversized += 1;
            tally.closed += u64::from(refused);
        }
        sleep(Duration::from_millis(200)).await;
    }
    tally
}

/// Whether the message ended its session; `None`: there was no session to send it in.
async fn message(server: &Requests) -> Option<bool> {
    let mut io = TcpStream::connect(server.address).await.ok()?;
    io.write_all(server.fed.as_bytes()).await.ok()?;
    if !timeout(PATIENCE, head(&mut io)).await.ok()?.ok()?.starts_with("HTTP/1.1 101") {
        return None;
    }
    let size = limits::MESSAGE * limits::TIMES;
    let mut frame = vec![0x82, 0xff];
    frame.extend_from_slice(&(size as u64).to_be_bytes());
    // A mask of zeros, and zeros for the channel and all else.
    frame.resize(frame.len() + 4 + size, 0);
    let (mut reader, mut writer) = io.split();
    let write = async {
        let _ = writer.write_all(&frame).await;
        std::future::pending::<()>().await;
    };
    let end = async {
        let mut rest = [0; 4096];
        while reader.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    };
    tokio::select! {
        () = write => Some(false),
        () = end => Some(true),
        () = sleep(PATIENCE) => Some(false),
    }
}

async fn huge_head(server: &Requests) -> Option<bool> {
    let mut io = TcpStream::connect(server.address).await.ok()?;
    // The server may close before it has read all of it.
    let _ = io.write_all(server.huge.as_bytes()).await;
    Some(match timeout(PATIENCE, head(&mut io)).await {
        Ok(Ok(answer)) => answer.starts_with("HTTP/1.1 4"),
        Ok(Err(_)) => true,
        Err(_) => false,
    })
}

/// Opens ten times the connections that there are places for, and again, as the server closes them.
async fn idlers(server: &Requests, time: Duration) -> Tally {
    let (began, mut tally) = (Instant::now(), Tally::default());
    let mut held = VecDeque::new();
    while began.elapsed() < time {
        // What the backlog does not take either is not waited for.
        let connect = timeout(Duration::from_millis(50), TcpStream::connect(server.address));
        if let Ok(Ok(mut io)) = connect.await {
            if tally.idlers.is_multiple_of(2) {
                let _ = io.write_all(b"GET / HTTP/1.1\r\nHost: ").await;
            }
            held.push_back(io);
            tally.idlers += 1;
        }
        if held.len() > limits::CONNECTIONS * limits::TIMES {
            held.pop_front();
        }
    }
    tally
}
