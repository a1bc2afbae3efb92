//! The tasks of the running sessions. An upgraded session outlives its HTTP request; somebody has to own it, wait for it
//! at shutdown and end it when waiting has been long enough.

use crate::{Limits, target::Ending};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Owner of all sessions of an [`Api`](super::Api). Clones are handles to the same set.
#[derive(Debug, Clone)]
pub struct Sessions {
    tracker: TaskTracker,
    /// No new sessions; watches and followed logs end.
    closing: CancellationToken,
    /// Running sessions are asked to end, with this grace for their commands.
    ending: watch::Sender<Option<Duration>>,
    /// See [`Limits`].
    end_grace: Duration,
    farewell: Duration,
    /// Running sessions are dropped.
    cut: CancellationToken,
    count: Arc<AtomicU64>,
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

impl Sessions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            ending: watch::Sender::new(None),
            end_grace: limits.end_grace,
            farewell: limits.farewell,
            cut: CancellationToken::new(),
            count: Arc::default(),
        }
    }

    /// How many sessions run now.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Refuses new sessions, ends watches and followed logs, and waits at most `limit` for the running sessions. Those
    /// that are left are ended: their commands are asked to end and then killed
    /// ([`Limits::end_grace`]), and their clients get the output so far and a failure that says that the server is
    /// shutting down. Who does not take that ([`Limits::farewell`]) is cut.
    ///
    /// Returns when all have ended. A second call is harmless.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.closing.cancel();
        self.tracker.close();
        let all = |limit| tokio::time::timeout(limit, self.tracker.wait());
        if all(limit).await.is_ok() {
            return Drained::default();
        }
        let ended = self.tracker.len();
        tracing::info!(sessions = ended, "the time for sessions is over: they are ended");
        self.ending.send_replace(Some(self.end_grace));
        // The last output, then the status.
        if all(self.end_grace.saturating_add(self.farewell.saturating_mul(2))).await.is_ok() {
            return Drained { ended, cut: 0 };
        }
        let cut = self.tracker.len();
        self.cut.cancel();
        self.tracker.wait().await;
        Drained { ended, cut }
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

    /// Whether new sessions are refused.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Leave to begin a session; `None` when the server ends. [`drain`](Self::drain) waits for who has it: whoever was let
    /// in before is among those that it ends.
    pub(super) fn enter(&self) -> Option<TaskTrackerToken> {
        let entered = self.tracker.token();
        (!self.closing.is_cancelled()).then_some(entered)
    }

    pub(super) fn ending(&self) -> Ending {
        Ending::new(self.ending.subscribe())
    }

    /// For sessions that do not end although they were asked to: when that is so.
    pub(super) async fn overdue(&self) {
        let grace = self.ending().requested().await;
        tokio::time::sleep(grace.saturating_add(self.farewell)).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_that_begins_while_the_server_ends_is_ended_too() {
        let sessions = Sessions::new(&Limits::default());
        let entered = sessions.enter().unwrap();
        let draining = sessions.drain(Duration::from_secs(1));
        tokio::pin!(draining);
        tokio::select! {
            biased;
            drained = &mut draining => panic!("{drained:?}"),
            () = tokio::task::yield_now() => {}
        }
        assert!(sessions.enter().is_none());
        sessions.spawn(std::future::pending());
        drop(entered);
        assert_eq!(draining.await, Drained { ended: 1, cut: 1 });
    }
}
