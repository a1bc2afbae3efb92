//! kubectl killed with -9 at random moments, also while it starts: whatever its command was, after the deadline of
//! the disconnect policy no process of any session is left, and no descriptor, terminal or control group in the server.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    process::ExitStatus,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use pty_process::Size;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use wsstream_testing::chaos::{Tally, Verdict};

use super::{
    Budget,
    server::{Place, Running, Target},
    sockets::join_all,
};

/// Clients under way at once: a kubectl costs 50 to 100 ms of processor time before it does anything.
const AT_ONCE: u64 = 12;

/// From the death of a client to that of the last process of its session. The server's own: 2 s in which a command
/// may end with its input, 10 s from SIGTERM or the hang-up to SIGKILL; the rest is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A client that does not end by itself within this, although its command does, hangs.
const ENDS: Duration = Duration::from_secs(60);

/// In the environment of every process of a session, with the session's number.
const MARK: &str = "WSSTREAM_CHAOS_SESSION";

/// What every command says first.
const READY: &[u8] = b"ready";

/// How kubectl is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Stdin,
    Terminal,
}

/// The commands: what a session may leave behind if it is ended without care.
const COMMANDS: &[(&str, &str)] = &[
    ("rests", "exec sleep 600"),
    ("reads", "exec cat"),
    ("floods", "exec yes"),
    ("refuses signals", "trap '' HUP INT TERM PIPE; while :; do sleep 1; done"),
    ("has a family", "sleep 600 & (sleep 600 &); sleep 600"),
    ("has daemons", "setsid sleep 600 & (setsid sh -c 'trap \"\" HUP TERM; sleep 600; :' &); sleep 600"),
    ("ends by itself", "sleep 0.2; exit 7"),
];

/// One kubectl that is to be killed.
#[derive(Debug)]
struct Victim {
    number: u64,
    way: Way,
    name: &'static str,
    script: &'static str,
    /// Killed so long after it began, as a part of the time that a session takes to begin; `Err`: so long after its
    /// command said that it runs.
    moment: Result<f64, Duration>,
}

impl Victim {
    fn new(seed: u64, number: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_add(number));
        let way = [Way::Plain, Way::Stdin, Way::Terminal]
            .get(rng.random_range(0..3))
            .copied()
            .unwrap_or(Way::Plain);
        let (name, script) = COMMANDS.get(rng.random_range(0..COMMANDS.len())).copied().unwrap_or_default();
        let moment = if rng.random_bool(0.5) {
            Ok(rng.random_range(0.0..1.1))
        } else {
            Err(Duration::from_millis(rng.random_range(0..400)))
        };
        Self { number, way, name, script, moment }
    }

    /// Whether kubectl tells the truth if it ends like this by itself.
    fn may_end(&self, status: ExitStatus) -> bool {
        match self.name {
            "ends by itself" => status.code() == Some(7),
            // Nobody types: a command that reads an input which is not there ends at once.
            "reads" => self.way == Way::Plain && status.success(),
            _ => false,
        }
    }
}

/// What all clients share.
#[derive(Debug)]
struct Watch {
    /// The mark's value begins with this; other runs have others.
    run: String,
    /// When which client died.
    killed: Mutex<HashMap<u64, Instant>>,
    /// How long a session takes to begin, in microseconds: a moving average.
    start: AtomicU64,
    /// Killed after their command had said something, or before.
    begun: AtomicU64,
    early: AtomicU64,
    over: AtomicBool,
}

/// What the look-out saw.
#[derive(Debug, Default)]
struct Seen {
    /// Sessions of which something lived beyond the deadline.
    late: HashSet<u64>,
    /// The longest that anything lived after its client.
    longest: Duration,
    /// Sessions of which a process was seen at all.
    sessions: HashSet<u64>,
}

/// Runs the sweep.
pub(super) async fn sweep(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let kubectl = place.peers.kubectl()?;
    let server = Running::start(place, Target::Tls, None).await?;
    let kubeconfig = server.kubeconfig_for("kubeconfig-kills", server.address)?;
    let home = place.folder.path().join("kubectl-home");
    fs::create_dir_all(&home)?;
    let run = place.folder.path().file_name().and_then(|name| name.to_str()).unwrap_or("run").to_owned();
    let watch = Arc::new(Watch {
        run,
        killed: Mutex::default(),
        start: AtomicU64::new(500_000),
        begun: AtomicU64::new(0),
        early: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let client = Client { kubectl: &kubectl, kubeconfig: &kubeconfig, home: &home, watch: &watch };
    // Also fills kubectl's cache of what the server serves, which only its first call asks for.
    client.warm_up().await?;
    let before = server.reading()?;
    let lookout = tokio::spawn(look_out(Arc::clone(&watch)));

    let next = AtomicU64::new(0);
    let until = Instant::now() + budget.time;
    let worker = || async {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if Instant::now() >= until || budget.sessions.is_some_and(|most| number >= most) {
                return tally;
            }
            let victim = Victim::new(seed, number);
            let verdict = match client.run(&victim).await {
                Ok(verdict) => verdict,
                Err(error) => Verdict::Lie(format!("the session could not be run: {error:#}")),
            };
            tally.count(&verdict, || format!("{victim:?}, seed {seed}"));
        }
    };
    let mut tally = Tally::default();
    for part in join_all((0..AT_ONCE).map(|_| worker())).await {
        tally.add(part);
    }
    // It looks until nothing lives any more, or what does is late.
    watch.over.store(true, Ordering::Relaxed);
    let seen = lookout.await?;
    for number in &seen.late {
        tally.leaks += 1;
        let victim = Victim::new(seed, *number);
        tally.example(format!("left behind {DEADLINE:?} after its client: {victim:?}, seed {seed}"));
    }
    let (after, leaks) = server.settles(&before, DEADLINE).await?;
    tally.leaks += leaks;
    tally.panics += server.panics();
    *note = format!(
        "kubectl {}; {} killed before their command said anything, {} after; processes of {} sessions were seen, the \
         last {:.1} s after its client; the server holds {} descriptors (before {}), {} of terminals (before {}), {} \
         children, {} control groups, {} KiB (before {})",
        place.peers.kubectl_version()?,
        watch.early.load(Ordering::Relaxed),
        watch.begun.load(Ordering::Relaxed),
        seen.sessions.len(),
        seen.longest.as_secs_f64(),
        after.descriptors,
        before.descriptors,
        after.terminals,
        before.terminals,
        after.children,
        after.groups,
        after.resident,
        before.resident,
    );
    Ok(tally)
}

/// How kubectl is started.
#[derive(Debug, Clone, Copy)]
struct Client<'a> {
    kubectl: &'a Path,
    kubeconfig: &'a Path,
    home: &'a Path,
    watch: &'a Watch,
}

/// A running kubectl and those that read what it prints.
struct Started {
    child: Child,
    readers: Vec<JoinHandle<Vec<u8>>>,
    /// Held open, as by a person who types nothing.
    _stdin: Option<tokio::process::ChildStdin>,
}

impl Client<'_> {
    async fn warm_up(&self) -> Result<()> {
        let victim = Victim { number: 0, way: Way::Plain, name: "", script: "exit 0", moment: Ok(0.0) };
        let ready = Arc::new(Notify::new());
        let mut started = self.start(&victim, &ready)?;
        let status = timeout(ENDS, started.child.wait()).await.context("kubectl hangs")??;
        anyhow::ensure!(status.success(), "kubectl cannot run a command: {status}: {}", started.said().await);
        Ok(())
    }

    fn start(&self, victim: &Victim, ready: &Arc<Notify>) -> Result<Started> {
        let mark = format!("{MARK}={}:{}", self.watch.run, victim.number);
        let script = format!("echo ready; {}", victim.script);
        let words = ["-c", "host", "host", "--", "env", &mark, "sh", "-c", &script];
        let flags: &[&str] = match victim.way {
            Way::Plain => &["exec"],
            Way::Stdin => &["exec", "-i"],
            Way::Terminal => &["exec", "-i", "-t"],
        };
        let env = [("HOME", self.home), ("KUBECONFIG", self.kubeconfig)];
        if victim.way == Way::Terminal {
            let (pty, pts) = pty_process::open().context("cannot open a pseudo-terminal")?;
            pty.resize(Size::new(24, 80))?;
            let command = pty_process::Command::new(self.kubectl).args(flags).args(words).envs(env);
            let child = command.env("TERM", "xterm").kill_on_drop(true).spawn(pts)?;
            let screen = tokio::spawn(read(pty, Arc::clone(ready)));
            return Ok(Started { child, readers: vec![screen], _stdin: None });
        }
        let mut command = Command::new(self.kubectl);
        command.args(flags).args(words).envs(env).kill_on_drop(true);
        let piped = || std::process::Stdio::piped();
        command.stdin(if victim.way == Way::Stdin { piped() } else { std::process::Stdio::null() });
        let mut child = command.stdout(piped()).stderr(piped()).spawn()?;
        let stdin = child.stdin.take();
        let (stdout, stderr) =
            (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
        let readers = vec![
            tokio::spawn(read(stdout, Arc::clone(ready))),
            // Its own words announce nothing.
            tokio::spawn(read(stderr, Arc::default())),
        ];
        Ok(Started { child, readers, _stdin: stdin })
    }

    async fn run(&self, victim: &Victim) -> Result<Verdict> {
        let ready = Arc::new(Notify::new());
        let began = Instant::now();
        let mut started = self.start(victim, &ready)?;
        let begun = AtomicBool::new(false);
        let signs = async || {
            ready.notified().await;
            begun.store(true, Ordering::Relaxed);
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let _ = self.watch.start.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |average| {
                Some((average.saturating_mul(7).saturating_add(took)) / 8)
            });
        };
        let moment = async {
            match victim.moment {
                Ok(part) => {
                    let wait = Duration::from_micros(self.watch.start.load(Ordering::Relaxed)).mul_f64(part);
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = async { signs().await; std::future::pending().await } => {}
                    }
                }
                Err(wait) => {
                    let _ = timeout(ENDS, signs()).await;
                    sleep(wait).await;
                }
            }
        };
        let ended = tokio::select! {
            biased;
            status = started.child.wait() => Some(status?),
            () = moment => None,
        };
        // Before the kill: a process that is seen now lives no longer than allowed.
        let dead =
            |at| self.watch.killed.lock().unwrap_or_else(PoisonError::into_inner).insert(victim.number, at);
        if let Some(status) = ended {
            dead(Instant::now());
            let said = started.said().await;
            return Ok(if victim.may_end(status) {
                Verdict::Complete
            } else {
                Verdict::Lie(format!("kubectl ended by itself with {status}: {said}"))
            });
        }
        let status = {
            started.child.start_kill()?;
            let status = started.child.wait().await?;
            dead(Instant::now());
            status
        };
        let counter = if begun.load(Ordering::Relaxed) { &self.watch.begun } else { &self.watch.early };
        counter.fetch_add(1, Ordering::Relaxed);
        let said = started.said().await;
        // It may have ended by itself in the same moment; then its word counts as well.
        Ok(if status.code().is_none() || victim.may_end(status) {
            Verdict::Reported
        } else {
            Verdict::Lie(format!("kubectl ended by itself with {status}: {said}"))
        })
    }
}

impl Started {
    /// The beginning of all that it printed.
    async fn said(&mut self) -> String {
        let mut all = Vec::new();
        for reader in self.readers.drain(..) {
            all.extend(reader.await.unwrap_or_default());
        }
        String::from_utf8_lossy(&all).trim().to_owned()
    }
}

/// Reads to the end, keeps the beginning, and tells when the command has said its word.
async fn read(mut from: impl AsyncRead + Unpin, ready: Arc<Notify>) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    let mut told = false;
    // The end of a terminal is an error.
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let room = 400_usize.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
        if !told && kept.windows(READY.len()).any(|window| window == READY) {
            told = true;
            ready.notify_one();
        }
    }
    kept
}

/// Looks at every process of the machine again and again, until no session has one any more or those that have are
/// late.
async fn look_out(watch: Arc<Watch>) -> Seen {
    let mut seen = Seen::default();
    let mark = format!("{MARK}={}:", watch.run);
    loop {
        let over = watch.over.load(Ordering::Relaxed);
        let mark = mark.clone();
        let living = tokio::task::spawn_blocking(move || living(&mark)).await.unwrap_or_default();
        let mut pending = false;
        {
            let killed = watch.killed.lock().unwrap_or_else(PoisonError::into_inner);
            for number in living {
                seen.sessions.insert(number);
                let Some(dead) = killed.get(&number) else {
                    pending = true;
                    continue;
                };
                let lived = dead.elapsed();
                seen.longest = seen.longest.max(lived);
                if lived > DEADLINE {
                    seen.late.insert(number);
                } else {
                    pending = true;
                }
            }
        }
        if over && !pending {
            return seen;
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// The sessions of which a process lives. A process that has just been made has its parent's environment until it
/// runs its program, so the test cannot miss one for longer than that.
fn living(mark: &str) -> HashSet<u64> {
    let mut sessions = HashSet::new();
    let Ok(processes) = fs::read_dir("/proc") else { return sessions };
    for process in processes.flatten() {
        let numeric = process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        let Some(environment) = numeric.then(|| fs::read(process.path().join("environ")).ok()).flatten()
        else {
            continue;
        };
        let session = environment
            .split(|byte| *byte == 0)
            .find_map(|variable| variable.strip_prefix(mark.as_bytes()))
            .and_then(|number| std::str::from_utf8(number).ok()?.parse::<u64>().ok());
        sessions.extend(session);
    }
    sessions
}
