//! The server: gives out URLs, answers them, and owns the sessions that come of it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use wsstream_proto::text::printable;

use super::cache::Cache;
use super::config::{Base, Config};
use super::request::Granted;
use super::{AttachRequest, Error, ExecRequest, PortForwardRequest, Runtime};
use crate::portforward::server::Options as ForwardOptions;
use crate::remotecommand::server::Options;

/// A streaming server. Clones are handles to the same one; when the last is dropped, its sessions are cut without
/// a word: call [`drain`](Self::drain) first.
///
/// It answers requests ([`respond`](Self::respond)), and is a service for hyper, tower and axum
/// (`Router::fallback_service`). Sessions run as tasks that it owns: see [`drain`](Self::drain).
pub struct Server<R> {
    pub(super) shared: Arc<Shared<R>>,
}

pub(super) struct Shared<R> {
    pub(super) runtime: Arc<R>,
    pub(super) base: Base,
    pub(super) commands: Options,
    pub(super) forward: ForwardOptions,
    pub(super) farewell: Duration,
    pub(super) tokens: Cache<Granted>,
    pub(super) sessions: Sessions,
}

impl<R: Runtime> Server<R> {
    /// A server for the containers of `runtime`.
    pub fn new(config: Config, runtime: R) -> Self {
        let base = config.base().clone();
        let Config { commands, forward, token_ttl, max_tokens, farewell, .. } = config;
        Self {
            shared: Arc::new(Shared {
                runtime: Arc::new(runtime),
                base,
                commands,
                forward,
                farewell,
                tokens: Cache::new(token_ttl, max_tokens),
                sessions: Sessions::default(),
            }),
        }
    }

    /// The runtime.
    #[must_use]
    pub fn runtime(&self) -> &R {
        &self.shared.runtime
    }

    /// A URL that runs the command, once. Whether the container exists is for the caller to check before.
    ///
    /// # Errors
    ///
    /// The request makes no sense, or too many are under way.
    pub fn get_exec(&self, request: ExecRequest) -> Result<String, Error> {
        self.grant(request.try_into()?)
    }

    /// A URL that attaches, once.
    ///
    /// # Errors
    ///
    /// As [`get_exec`](Self::get_exec).
    pub fn get_attach(&self, request: AttachRequest) -> Result<String, Error> {
        self.grant(request.try_into()?)
    }

    /// A URL for one session of port-forward, with as many connections as the client likes.
    ///
    /// # Errors
    ///
    /// As [`get_exec`](Self::get_exec).
    pub fn get_port_forward(&self, request: PortForwardRequest) -> Result<String, Error> {
        self.grant(request.try_into()?)
    }

    fn grant(&self, granted: Granted) -> Result<String, Error> {
        let Shared { base, tokens, sessions, .. } = &*self.shared;
        let _entered = sessions.enter().ok_or(Error::Unavailable)?;
        let route = granted.route();
        Ok(base.url(route, &tokens.insert(granted)?))
    }
}

impl<R> Server<R> {
    /// How many sessions run now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.sessions.tasks.len()
    }

    /// Gives out and answers nothing any more, takes no new connections in sessions of port-forward, and waits at most
    /// `limit` for the sessions that run. Those that are left are ended: the runtime's future is dropped, and the client
    /// gets the output so far and a failure (503) that says that the server is shutting down; connections of port-forward
    /// are reset. Who does not take that within [`Config::farewell`] is cut. Upstream's `Stop` leaves sessions running.
    ///
    /// All sessions have ended when this returns. Dropped before, the wait is over and what was begun stays as it is; a
    /// second call is harmless.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.shared.sessions.drain(limit, self.shared.farewell).await
    }
}

/// How the end of a server went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Sessions that were still running when the time was up, and were ended.
    pub ended: usize,
    /// Those among them whose clients did not even take that. They see the connection end without a status, which
    /// stock clients take for a success over SPDY.
    pub cut: usize,
}

/// The tasks of the sessions. They hold the runtime and not the server, so that its end is theirs.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    tasks: TaskTracker,
    pub(super) closing: CancellationToken,
    /// What runs is dropped, and its clients are told.
    pub(super) ending: CancellationToken,
    cut: CancellationToken,
}

impl Sessions {
    /// Leave to begin a session; `None` when the server ends. [`drain`](Self::drain) waits for who has it: whoever was let
    /// in before is among those that it ends.
    pub(super) fn enter(&self) -> Option<TaskTrackerToken> {
        let entered = self.tasks.token();
        (!self.closing.is_cancelled()).then_some(entered)
    }

    async fn drain(&self, limit: Duration, farewell: Duration) -> Drained {
        self.closing.cancel();
        self.tasks.close();
        let all = |limit| tokio::time::timeout(limit, self.tasks.wait());
        if all(limit).await.is_ok() {
            return Drained::default();
        }
        let ended = self.tasks.len();
        self.ending.cancel();
        if all(farewell).await.is_ok() {
            return Drained { ended, cut: 0 };
        }
        let left = self.tasks.len();
        self.cut.cancel();
        self.tasks.wait().await;
        Drained { ended, cut: left }
    }

    /// Runs a session, with a line before and one after it. No command is in them: arguments may be secrets.
    pub(super) fn spawn<T: fmt::Display>(
        &self,
        kind: &'static str,
        id: String,
        session: impl Future<Output = T> + Send + 'static,
    ) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            tracing::info!(kind, %id, "session started");
            tokio::select! {
                biased;
                () = cut.cancelled() => tracing::warn!(kind, %id, "session cut"),
                report = session => {
                    // It quotes the peer.
                    let report = printable(&report.to_string());
                    tracing::info!(kind, %id, %report, "session ended");
                }
            }
        });
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl<R> Clone for Server<R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R> fmt::Debug for Server<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("base", &self.shared.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    const FAREWELL: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn a_session_that_begins_while_the_server_ends_is_ended_too() {
        let sessions = Sessions::default();
        let entered = sessions.enter().unwrap();
        let draining = sessions.drain(Duration::from_secs(1), FAREWELL);
        tokio::pin!(draining);
        tokio::select! {
            biased;
            drained = &mut draining => panic!("{drained:?}"),
            () = tokio::task::yield_now() => {}
        }
        assert!(sessions.enter().is_none());
        sessions.spawn("exec", "container".to_owned(), pending::<String>());
        drop(entered);
        assert_eq!(draining.await, Drained { ended: 1, cut: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_sessions_ends_at_once() {
        let sessions = Sessions::default();
        drop(sessions.enter().unwrap());
        assert_eq!(sessions.drain(Duration::from_secs(60), FAREWELL).await, Drained::default());
    }
}
