//! A supervised command as a container: it can be attached to, it has a log, it ends and may be started again.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::watch, task::JoinHandle};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};

use super::{
    ContainerState, Ending, LogError, LogOptions, LogStream, Restart, RestartDelay, SessionOptions, Target,
    Terminated,
    attach::{Rights, attach},
    follow::chunks,
    run::Run,
    session::{attach_failure, exec, exec_failure},
    supervise::{Shared, supervise},
};

/// How many bytes of log are kept for a run unless the specification says otherwise: 16 MiB, some 100,000 lines. The
/// log of the previous run is kept as well, so that a container may hold twice this.
pub const DEFAULT_HISTORY: usize = 16 * 1024 * 1024;

/// What to supervise, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessSpec {
    /// The pod's name, for texts.
    pub pod: String,
    /// The container's name, for texts.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Give it a terminal instead of pipes.
    pub tty: bool,
    /// Give it a stdin that attached clients write to, instead of the null device.
    pub stdin: bool,
    /// Close that stdin when the input of an attached client ends.
    pub stdin_once: bool,
    /// What happens when it ends.
    pub restart: Restart,
    /// How long it then stays down.
    pub delay: RestartDelay,
    /// How many bytes of log to keep for each run.
    pub history: usize,
    /// Environment and directory, for the process and for commands that are run beside it.
    pub session: SessionOptions,
}

impl ProcessSpec {
    /// A command with pipes, without stdin, that is not started again.
    #[must_use]
    pub fn new(pod: impl Into<String>, container: impl Into<String>, command: Vec<String>) -> Self {
        Self {
            pod: pod.into(),
            container: container.into(),
            command,
            tty: false,
            stdin: false,
            stdin_once: false,
            restart: Restart::Never,
            delay: RestartDelay::default(),
            history: DEFAULT_HISTORY,
            session: SessionOptions::default(),
        }
    }
}

/// A command that runs whether or not anybody is connected.
///
/// Every client that attaches gets the whole output from then on. A client that does not take it makes the process
/// wait once its queue (256 KiB) is full, as a person does who stops a terminal; the log never makes it wait. Dropping
/// the target kills the process and everything it started; [`stop`](Self::stop) is the gentle way.
#[derive(Debug)]
pub struct ProcessTarget {
    shared: Arc<Shared>,
    supervisor: JoinHandle<()>,
}

impl ProcessTarget {
    /// Starts the command. A command that cannot be started shows as a state, and in the log of the server.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO and time.
    #[must_use]
    pub fn start(spec: ProcessSpec) -> Self {
        let shared = Shared::new(spec);
        let supervisor = tokio::spawn(supervise(Arc::clone(&shared)));
        Self { shared, supervisor }
    }

    /// Ends the process for good: SIGTERM, and SIGKILL after `grace`. Returns when it has ended; attached clients may
    /// still be taking the last of its output. Cancel-safe: the end goes on without the waiting.
    pub async fn stop(&self, grace: Duration) {
        self.shared.stop.send_if_modified(|stop| stop.is_none() && stop.replace(grace).is_none());
        self.shared.over.cancelled().await;
    }

    fn running(&self) -> Result<Arc<Run>, String> {
        let state = self.state();
        let run = self.shared.runs().current.clone();
        run.filter(|run| state.is_running() && !run.exited.is_cancelled()).ok_or_else(|| {
            format!("container {:?} in pod {:?} {}", self.container(), self.pod(), not_running(&state))
        })
    }

    fn pod(&self) -> &str {
        &self.shared.spec.pod
    }

    fn container(&self) -> &str {
        &self.shared.spec.container
    }

    fn log(&self, options: &LogOptions) -> Result<LogStream, LogError> {
        let (pod, container) = (self.pod().to_owned(), self.container().to_owned());
        let runs = self.shared.runs().clone();
        let run = if options.previous {
            runs.previous.ok_or(LogError::NoPrevious { pod, container })?
        } else {
            let reason = self.state().clause();
            runs.current.ok_or(LogError::NotStarted { pod, container, reason })?
        };
        Ok(LogStream::new(chunks(run, options)))
    }
}

/// The state may change between the look at the run and the look at the state.
fn not_running(state: &ContainerState) -> String {
    if state.is_running() { "has just ended".to_owned() } else { state.clause() }
}

impl Drop for ProcessTarget {
    fn drop(&mut self) {
        // The supervisor is dropped by the runtime, and with it the process group.
        self.supervisor.abort();
    }
}

impl Target for ProcessTarget {
    fn exec(
        &self,
        request: Request,
        streams: Streams,
        ending: Ending,
    ) -> BoxFuture<'_, Result<ExitCode, Failure>> {
        async move {
            self.running().map_err(exec_failure)?;
            exec(request, streams, &self.shared.spec.session, &ending).await
        }
        .boxed()
    }

    fn attach(&self, _request: Request, streams: Streams) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            let run = self.running().map_err(attach_failure)?;
            let rights = Rights { container: self.container(), stdin_once: self.shared.spec.stdin_once };
            attach(&run, rights, streams).await;
            Ok(())
        }
        .boxed()
    }

    fn logs(&self, options: LogOptions) -> BoxFuture<'_, Result<LogStream, LogError>> {
        let log = self.log(&options);
        async { log }.boxed()
    }

    fn state(&self) -> ContainerState {
        self.shared.state.borrow().clone()
    }

    fn restarts(&self) -> u32 {
        self.shared.runs().restarts
    }

    fn last_run(&self) -> Option<Terminated> {
        self.shared.runs().last.clone()
    }

    fn subscribe(&self) -> watch::Receiver<ContainerState> {
        self.shared.state.subscribe()
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()> {
        self.stop(grace).boxed()
    }
}
