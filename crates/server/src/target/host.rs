//! This machine as a container: commands run here, as the user that the server runs as.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use tokio::sync::watch;
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};

use super::{
    ContainerState, Ending, LogError, LogOptions, LogStream, SessionOptions, Target, Terminated,
    session::{attach_failure, exec},
};

/// Runs each exec as a new command on this machine. There is no main process: attach and logs say so.
#[derive(Debug)]
pub struct HostTarget {
    pod: String,
    container: String,
    options: SessionOptions,
    /// Never changes; here so that whoever subscribes gets a channel like any other.
    state: watch::Sender<ContainerState>,
}

impl HostTarget {
    /// A container that has been running since now. The names are for error texts.
    #[must_use]
    pub fn new(pod: impl Into<String>, container: impl Into<String>, options: SessionOptions) -> Self {
        let state = ContainerState::Running { started_at: Timestamp::now() };
        Self { pod: pod.into(), container: container.into(), options, state: watch::Sender::new(state) }
    }
}

impl Target for HostTarget {
    fn exec(
        &self,
        request: Request,
        streams: Streams,
        ending: Ending,
    ) -> BoxFuture<'_, Result<ExitCode, Failure>> {
        async move { exec(request, streams, &self.options, &ending).await }.boxed()
    }

    fn attach(&self, _request: Request, _streams: Streams) -> BoxFuture<'_, Result<(), Failure>> {
        let failure = attach_failure(format_args!(
            "container {:?} is the host and has no main process to attach to; run a command in it instead \
             (kubectl exec -it {} -- sh)",
            self.container, self.pod,
        ));
        async { Err(failure) }.boxed()
    }

    fn logs(&self, _options: LogOptions) -> BoxFuture<'_, Result<LogStream, LogError>> {
        let error = LogError::NoLogs {
            pod: self.pod.clone(),
            container: self.container.clone(),
            cause: "it is the host and has no main process; run a command that prints its logs, such as journalctl"
                .to_owned(),
        };
        async { Err(error) }.boxed()
    }

    fn state(&self) -> ContainerState {
        self.state.borrow().clone()
    }

    fn restarts(&self) -> u32 {
        0
    }

    fn last_run(&self) -> Option<Terminated> {
        None
    }

    fn subscribe(&self) -> watch::Receiver<ContainerState> {
        self.state.subscribe()
    }

    fn stop(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
