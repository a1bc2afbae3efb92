//! The tasks of the running sessions. An upgraded session outlives its HTTP request; somebody has to own it, wait for it
//! at shutdown and end it when waiting has been long enough.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Owner of all sessions of an [`Api`](super::Api). Clones are handles to the same set.
#[derive(Debug, Clone)]
pub struct Sessions {
    tracker: TaskTracker,
    /// No new sessions; watches and followed logs end.
    closing: CancellationToken,
    /// Running sessions end.
    cut: CancellationToken,
    count: Arc<AtomicU64>,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Sessions that were still running when the time was up. Their clients see the connection end without a status.
    pub cut: usize,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            count: Arc::default(),
        }
    }

    /// How many sessions run now.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Refuses new sessions, ends watches and followed logs, waits at most `limit` for the running sessions and then
    /// cuts those that are left. Returns when all have ended. A second call is harmless.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.closing.cancel();
        self.tracker.close();
        if tokio::time::timeout(limit, self.tracker.wait()).await.is_ok() {
            return Drained::default();
        }
        let cut = self.tracker.len();
        self.cut.cancel();
        self.tracker.wait().await;
        Drained { cut }
    }

    /// Refuses new sessions; ends watches and followed logs.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Ends everything without waiting.
    pub(crate) fn abort(&self) {
        self.closing.cancel();
        self.cut.cancel();
    }

    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    pub(super) fn number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Runs a session until it ends or is cut, which drops it.
    pub(super) fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = session => {}
            }
        });
    }
}
