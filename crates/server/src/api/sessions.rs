//! The tasks of the running sessions. An upgraded session outlives its HTTP request; somebody has to own it, wait for it
//! at shutdown and end it when waiting has been long enough.

use super::{
    admission::Rules,
    answer::Refusal,
    registry::{Registry, SessionInfo},
    streams::Streams,
};
use crate::{
    Limits,
    audit::Audit,
    metrics::Metrics,
    target::{Cause, Given},
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use wsstream::proto::status::Status;

/// Owner of all sessions of an [`Api`](super::Api). Clones are handles to the same set.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tracker: TaskTracker,
    registry: Registry,
    streams: Streams,
    metrics: Metrics,
    /// Set once, before anything is served.
    audit: OnceLock<Audit>,
    /// No new sessions; watches and followed logs end.
    closing: CancellationToken,
    /// See [`Limits`].
    end_grace: Duration,
    farewell: Duration,
    duration: Option<Duration>,
    bandwidth: Option<usize>,
    /// Running sessions are dropped.
    cut: CancellationToken,
    count: AtomicU64,
    stream_count: AtomicU64,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Sessions that were still running when the time was up. Their commands were ended, and their clients told so.
    pub ended: usize,
    /// Those among them whose clients did not even take that. They see the connection end without a status.
    pub cut: usize,
}

pub(super) const SHUTTING_DOWN: &str = "the server is shutting down";

impl Sessions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Shared {
            tracker: TaskTracker::new(),
            metrics: Metrics::default(),
            streams: Streams::default(),
            audit: OnceLock::new(),
            registry: Registry::new(Rules::new(limits)),
            bandwidth: limits.session_bandwidth,
            closing: CancellationToken::new(),
            end_grace: limits.end_grace,
            farewell: limits.farewell,
            duration: limits.session_duration,
            cut: CancellationToken::new(),
            count: AtomicU64::new(0),
            stream_count: AtomicU64::new(0),
        }))
    }

    /// Records sessions from now on; a second call changes nothing.
    pub(super) fn set_audit(&self, audit: Audit) {
        let _ = self.0.audit.set(audit);
    }

    pub(crate) fn audit(&self) -> Option<&Audit> {
        self.0.audit.get()
    }

    /// How many sessions run now, those included that are just being let in.
    pub fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// The running sessions, in the order in which they began.
    pub fn list(&self) -> Vec<SessionInfo> {
        self.0.registry.list()
    }

    /// Asks one session to end; false: there is none of this number. As at shutdown, its command is asked to end and then
    /// killed ([`Limits::end_grace`]), and its client gets the output so far and a failure that says that an operator did
    /// it, with `reason`, which may be empty. A client that does not take that in twice [`Limits::farewell`] is cut.
    ///
    /// Returns at once; [`list`](Self::list) shows the session as ending until it has ended. One that was asked before keeps
    /// its first reason.
    pub fn end(&self, number: u64, reason: impl Into<String>) -> bool {
        let order = Given { grace: self.0.end_grace, cause: Cause::Operator(reason.into()) };
        self.0.registry.end(number, order)
    }

    /// Refuses new sessions, ends watches and followed logs, and waits at most `limit` for the running sessions. Those
    /// that are left are ended: their commands are asked to end and then killed
    /// ([`Limits::end_grace`]), and their clients get the output so far and a failure that says that the server is
    /// shutting down. Who does not take that ([`Limits::farewell`]) is cut.
    ///
    /// Returns when all have ended. A second call is harmless.
    pub async fn drain(&self, limit: Duration) -> Drained {
        let Shared { tracker, end_grace, farewell, .. } = &*self.0;
        self.0.closing.cancel();
        tracker.close();
        let all = |limit| tokio::time::timeout(limit, tracker.wait());
        if all(limit).await.is_ok() {
            return Drained::default();
        }
        let ended = tracker.len();
        tracing::info!(sessions = ended, "the time for sessions is over: they are ended");
        self.0.registry.end_all(&Given { grace: *end_grace, cause: Cause::Shutdown });
        // The last output, then the status.
        if all(end_grace.saturating_add(farewell.saturating_mul(2))).await.is_ok() {
            return Drained { ended, cut: 0 };
        }
        let cut = tracker.len();
        self.0.cut.cancel();
        tracker.wait().await;
        Drained { ended, cut }
    }

    /// Refuses new sessions, with 503, and says so under `/readyz`; ends watches and followed logs. Running sessions go on.
    pub fn close(&self) {
        self.0.closing.cancel();
    }

    /// Waits until no session runs; to be called after [`close`](Self::close). Cancel-safe.
    pub async fn idle(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    /// Ends everything without waiting.
    pub(crate) fn abort(&self) {
        self.0.closing.cancel();
        self.0.cut.cancel();
    }

    /// Whether new sessions are refused.
    pub fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    pub(crate) fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }

    pub(super) fn cut(&self) -> CancellationToken {
        self.0.cut.clone()
    }

    /// Leave to begin a session, unless the server ends. [`drain`](Self::drain) waits for who has it: whoever was let in
    /// before is among those that it ends.
    pub(super) fn enter(&self) -> Result<TaskTrackerToken, Refusal> {
        let entered = self.0.tracker.token();
        if self.0.closing.is_cancelled() {
            return Err(Status::service_unavailable(SHUTTING_DOWN).into());
        }
        Ok(entered)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub(super) fn bandwidth(&self) -> Option<usize> {
        self.0.bandwidth
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        self.0.duration
    }

    pub(super) fn end_grace(&self) -> Duration {
        self.0.end_grace
    }

    pub(super) fn farewell(&self) -> Duration {
        self.0.farewell
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    /// They are on no list, and have numbers of their own.
    pub(super) fn number_of_stream(&self) -> u64 {
        self.0.stream_count.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn number(&self) -> u64 {
        self.0.count.fetch_add(1, Ordering::Relaxed) + 1
    }
}
