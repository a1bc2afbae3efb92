//! Keeps a command running: starts it, shares it with clients, decides whether it is started again.

use std::{
    convert::Infallible,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ContainerState, ProcessSpec, Terminated,
    descriptor::{Descriptor, sleep},
    group::{Exit, Processes},
    history::OutputStream,
    pty,
    pump::{aside, input, output},
    run::{Fanout, Run, SharedInput},
    spawn::{self, Piped, SpawnError, Terminal, Wanted},
};

/// When a process that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Never.
    #[default]
    Never,
    /// When its exit code was not 0.
    OnFailure,
    /// Whatever its exit code was.
    Always,
}

/// How long a process stays down before it is started again. It doubles each time, up to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartDelay {
    /// After the first run, and after one that lasted longer than `max`.
    pub first: Duration,
    /// The bound.
    pub max: Duration,
}

impl Default for RestartDelay {
    /// 1 s to 60 s. The kubelet's 10 s to 5 min protect a cluster; on one machine a person waits.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

/// What a target and its supervisor share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) spec: ProcessSpec,
    pub(crate) state: watch::Sender<ContainerState>,
    runs: Mutex<Runs>,
    /// Set once: stop, with this long between SIGTERM and SIGKILL.
    pub(crate) stop: watch::Sender<Option<Duration>>,
    /// Cancelled when the supervisor has ended.
    pub(crate) over: CancellationToken,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    /// The run that is in progress, or the last one.
    pub(crate) current: Option<Arc<Run>>,
    /// The run whose log `previous` asks for: as with the kubelet, the last one that ended and was not final.
    pub(crate) previous: Option<Arc<Run>>,
    pub(crate) last: Option<Terminated>,
    pub(crate) restarts: u32,
}

impl Shared {
    pub(crate) fn new(spec: ProcessSpec) -> Arc<Self> {
        let creating =
            ContainerState::Waiting { reason: "ContainerCreating".to_owned(), message: String::new() };
        Arc::new(Self {
            spec,
            state: watch::Sender::new(creating),
            runs: Mutex::default(),
            stop: watch::Sender::new(None),
            over: CancellationToken::new(),
        })
    }

    pub(crate) fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, run: &Arc<Run>, started_at: Timestamp) {
        self.runs().current = Some(Arc::clone(run));
        self.state.send_replace(ContainerState::Running { started_at });
    }

    fn wants_restart(&self, end: &Terminated) -> bool {
        let stopped = self.stop.borrow().is_some();
        !stopped
            && match self.spec.restart {
                Restart::Never => false,
                Restart::OnFailure => end.exit_code != 0,
                Restart::Always => true,
            }
    }
}

/// Runs the command until it is not to be started again. Dropping the future kills it.
pub(crate) async fn supervise(shared: Arc<Shared>) {
    let _over = shared.over.clone().drop_guard();
    let mut stop = shared.stop.subscribe();
    let RestartDelay { first, max } = shared.spec.delay;
    let mut delay = first;
    loop {
        let began = tokio::time::Instant::now();
        let end = run_once(&shared, &mut stop).await;
        let container = &shared.spec.container;
        tracing::info!(pod = shared.spec.pod, container, %end, "a supervised command has ended");
        if !shared.wants_restart(&end) {
            shared.state.send_replace(ContainerState::Terminated(end));
            return;
        }
        if began.elapsed() > max {
            delay = first;
        }
        let message = format!("starts again in {} s after {end}", delay.as_secs_f64());
        {
            let mut runs = shared.runs();
            runs.previous = runs.current.clone();
            runs.last = Some(end.clone());
        }
        shared.state.send_replace(ContainerState::Waiting { reason: "CrashLoopBackOff".to_owned(), message });
        tokio::select! {
            () = sleep(delay) => {}
            _ = requested(&mut stop) => {
                shared.state.send_replace(ContainerState::Terminated(end));
                return;
            }
        }
        delay = (delay * 2).min(max);
        let mut runs = shared.runs();
        runs.restarts = runs.restarts.saturating_add(1);
    }
}

/// Resolves when the process is to be stopped, with the grace.
async fn requested(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stop.wait_for(Option::is_some).await.map(|grace| *grace) {
        Ok(Some(grace)) => grace,
        // The sender lives as long as we do.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

async fn run_once(shared: &Shared, stop: &mut watch::Receiver<Option<Duration>>) -> Terminated {
    let spec = &shared.spec;
    let (run, input) = Run::new(spec.history, spec.stdin);
    let result = if spec.tty {
        terminal(shared, &run, input, stop).await
    } else {
        piped(shared, &run, input, stop).await
    };
    run.end();
    match result {
        Ok((Ok(exit), started_at)) => Terminated::ended(exit.code, exit.signal, started_at),
        Ok((Err(error), started_at)) => {
            tracing::error!(%error, "cannot wait for a supervised command");
            Terminated::ended(u8::MAX, None, started_at)
        }
        Err(error) => {
            tracing::warn!(pod = spec.pod, container = spec.container, %error, "a command could not be started");
            Terminated::never_started(error.to_string())
        }
    }
}

type RunResult = Result<(io::Result<Exit>, Timestamp), SpawnError>;

async fn piped(
    shared: &Shared,
    run: &Arc<Run>,
    shared_input: Option<SharedInput>,
    stop: &mut watch::Receiver<Option<Duration>>,
) -> RunResult {
    let spec = &shared.spec;
    let wanted = Wanted { stdin: shared_input.is_some(), stdout: true, stderr: true };
    let Piped { stdin, stdout, stderr, mut processes } =
        spawn::with_pipes(&spec.command, &spec.session.command, wanted).await?;
    let started_at = Timestamp::now();
    shared.begin(run, started_at);
    let drain = |from: Option<Descriptor>, stream| async move {
        if let Some(from) = from {
            let to = Fanout { run: Arc::clone(run), stream };
            output(&from, to, &run.exited, spec.session.drain).await;
        }
    };
    let pumps = async {
        tokio::join!(drain(stdout, OutputStream::Stdout), drain(stderr, OutputStream::Stderr));
    };
    let feed = aside(async {
        if let (Some(from), Some(to)) = (shared_input, stdin) {
            input(from, to).await;
        }
    });
    Ok((oversee(shared, run, &mut processes, pumps, feed, stop).await, started_at))
}

async fn terminal(
    shared: &Shared,
    run: &Arc<Run>,
    shared_input: Option<SharedInput>,
    stop: &mut watch::Receiver<Option<Duration>>,
) -> RunResult {
    let spec = &shared.spec;
    let Terminal { master, slave, mut processes } =
        spawn::with_terminal(&spec.command, &spec.session.command, None).await?;
    let started_at = Timestamp::now();
    let master = Arc::new(master);
    run.set_terminal(&master);
    shared.begin(run, started_at);
    let pumps = async {
        let close = async {
            run.exited.cancelled().await;
            drop(slave);
        };
        let to = Fanout { run: Arc::clone(run), stream: OutputStream::Stdout };
        tokio::join!(output(&master, to, &run.exited, spec.session.drain), close);
    };
    let feed = aside(async {
        if let Some(from) = shared_input {
            pty::input(from, &master).await;
        }
    });
    Ok((oversee(shared, run, &mut processes, pumps, feed, stop).await, started_at))
}

/// Waits for the end of a process that runs, or brings it about.
async fn oversee(
    shared: &Shared,
    run: &Run,
    processes: &mut Processes,
    pumps: impl Future<Output = ()>,
    feed: impl Future<Output = Infallible>,
    stop: &mut watch::Receiver<Option<Duration>>,
) -> io::Result<Exit> {
    let Processes { group, leader } = processes;
    let group = &*group;
    let exit = async {
        let exit = leader.exited().await;
        // As in a container, nothing outlives the main process.
        group.signal(Signal::KILL);
        run.exited.cancel();
        exit
    };
    let pumps = async {
        let too_long = async {
            run.exited.cancelled().await;
            sleep(shared.spec.session.drain.0).await;
        };
        tokio::select! {
            () = pumps => {}
            // Clients do not hold up the pumps any more. Only a process that left the group can still be writing.
            () = too_long => tracing::debug!("the output of a supervised command does not end; it is cut off"),
        }
    };
    let stopping = aside(async {
        let grace = requested(stop).await;
        group.signal(Signal::TERM);
        sleep(grace).await;
        group.signal(Signal::KILL);
    });
    tokio::select! {
        (exit, ()) = async { tokio::join!(exit, pumps) } => exit,
        (never, _) = async { tokio::join!(feed, stopping) } => match never {},
    }
}
